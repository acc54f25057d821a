"""TIMIT, read from the user's own licensed copy: the SFM paper's task of naming the phone of each frame of speech.

Data card
---------
TIMIT (LDC93S1, Linguistic Data Consortium) is read American English: 630 speakers of eight dialect regions, ten
sentences each, 16 kHz, with hand-corrected phones.  It is licensed; nothing here downloads or holds any of it.

========  ======================================================================================================
train     462 speakers; without the two SA sentences, which all speakers read, 3696 utterances.  Of these, 184
          drawn at random are the validation set (Graves and Schmidhuber, 2005).
test      168 other speakers, 1344 utterances ("full"), or the 24 speakers and 192 utterances of the core test.
features  26 per frame: 12 mel-frequency cepstral coefficients, the log-energy, and their first derivatives, every
          10 ms over 25 ms; see :func:`mfcc`.
target    the phone at the middle of each frame's window; see :func:`frame_labels`.
========  ======================================================================================================

The 61 phones fold to 48 and to 39 as Lee and Hon (1989) did.  They drop the glottal stop q; a frame cannot be
dropped from a series, so frames of q become silence, or are masked.  Accuracies are comparable only for the same
number of phones and the same test set.

J. S. Garofolo et al., "TIMIT Acoustic-Phonetic Continuous Speech Corpus", LDC93S1, 1993.
K.-F. Lee and H.-W. Hon, "Speaker-independent phone recognition using hidden Markov models", IEEE Transactions on
Acoustics, Speech, and Signal Processing 37 (11), 1989.
A. Graves and J. Schmidhuber, "Framewise phoneme classification with bidirectional LSTM and other neural network
architectures", Neural Networks 18 (5-6), 2005.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from inspect import cleandoc
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from scipy.fft import dct, rfft
from scipy.signal import savgol_filter
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch, check_random_state
from tqdm.auto import tqdm

from sfmts._choices import check_choice
from sfmts.datasets._cache import as_python_number, data_folder, load_arrays, refuse_masked, require, save_arrays

SUBSETS = ("train", "valid", "test")
PROTOCOL = {"train": 3696, "test": 1344}  # utterances without SA sentences
N_PHONES: tuple[Any, ...] = (61, 48, 39)
N_DERIVATIVES: tuple[Any, ...] = (0, 1, 2)
SAMPLE_RATE = 16_000
MASKED = -1

_PHONES = """
    aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv ih ix iy jh k kcl l m
    n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh
"""
PHONES = {phone: code for code, phone in enumerate(_PHONES.split())}
_TO_48 = {
    **{"ax-h": "ax", "axr": "er", "em": "m", "eng": "ng", "hv": "hh", "nx": "n", "ux": "uw", "q": "sil"},
    **dict.fromkeys(("bcl", "dcl", "gcl"), "vcl"),
    **dict.fromkeys(("pcl", "tcl", "kcl"), "cl"),
    **dict.fromkeys(("h#", "pau"), "sil"),
}
_TO_39 = {"ao": "aa", "ax": "ah", "ix": "ih", "el": "l", "en": "n", "zh": "sh"} | dict.fromkeys(
    ("cl", "vcl", "epi"), "sil"
)
_CORE_SPEAKERS = """
    mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0
    mnjm0 fdhc0 mjln0 mpam0 fmld0
"""
CORE_SPEAKERS = frozenset(_CORE_SPEAKERS.split())

_PHONE_FILE = re.compile(r"(?:^|/)(train|test)/(dr[1-8])/([fm][a-z]{3}\d)/((?:sa|si|sx)\d+)\.phn$")
_SOUND_ENDINGS = (".wav.wav", ".wav", ".sph")  # a copy with both of the first has its readable sound in x.WAV.wav
_CACHE_VERSION = 2  # to be raised when features or labels change


def load_timit(
    data_home: str | os.PathLike[str],
    *,
    subset: str = "train",
    n_phones: int = 61,
    test_set: str = "full",
    n_valid: int = 184,
    glottal_stop: str = "sil",
    n_derivatives: int = 1,
    standardize: bool = True,
    strict: bool = True,
    cache_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
    verbose: int = 0,
) -> Any:  # a Bunch, which has no types, or a tuple
    """Load features and phones, frame by frame, of a TIMIT corpus on the user's disk.

    The data card is the module's documentation, and `DESCR` of what is returned.

    Parameters
    ----------
    data_home : str or path-like
        Folder of the corpus (LDC93S1), at any depth above `TRAIN` and `TEST`.  Names in upper or lower case, sound in
        NIST SPHERE or RIFF, `SA1.WAV` or `SA1.WAV.wav` are all read.
    subset : {"train", "valid", "test"}, default="train"
        The part that `data` and `target`, or with ``return_X_y`` the tuple, hold.
    n_phones : {61, 48, 39}, default=61
        Number of classes: TIMIT's phones, or these folded.
    test_set : {"full", "core"}, default="full"
        1344 utterances, as the SFM paper and framewise results have them, or 192, as most recognisers.
    n_valid : int, default=184
        Utterances of the 3696 that become the validation set, drawn with ``random_state``.
    glottal_stop : {"sil", "mask"}, default="sil"
        Of 48 or 39 phones, which have no q: whether its frames are silence, or have the target -1, not to be scored:
        leave these frames out of both lists before a score.  An estimator would learn -1 as a class of its own; train
        with the default.
    n_derivatives : {0, 1, 2}, default=1
        13, 26 or 39 features.  The default is the paper's.
    standardize : bool, default=True
        If True, give each feature mean 0 and variance 1 over the frames of train, validation set excepted; all parts
        are shifted and scaled alike.
    strict : bool, default=True
        If True, a corpus that has not the protocol's 3696 and 1344 utterances is an error; otherwise what is there is
        taken.
    cache_home : str, path-like or None, default=None
        Folder for the computed features, some 160 MB, which the next call with the same corpus and
        ``n_derivatives`` reads in a second; scikit-learn's data folder (`~/scikit_learn_data`) if None.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` of ``subset``.
    n_jobs : int or None, default=None
        Processes that read and compute, as in joblib; None means 1.
    random_state : int, RandomState instance or None, default=0
        Draws the validation set.  The default makes it the same for everyone.
    verbose : int, default=0
        If positive, show a progress bar while features are computed.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Unless ``return_X_y`` is True, with the attributes

        data, target, names, speakers
            Those of ``subset``.
        train, valid, test : Bunch
            Each with `data`, a list of float32 arrays (T_i, n_features); `target`, a list of int64 arrays (T_i,) of
            indices into `target_names`; `names`, such as "dr1/fcjf0/si1027"; and `speakers`, such as "fcjf0", the
            groups for cross-validation.
        target_names : ndarray of shape (n_phones,)
            The phones.
        feature_names : list of str
            "c1" to "c12", "energy", and these with ``d_`` and ``dd_`` before them.
        mean, scale : ndarray of shape (n_features,)
            What was subtracted, and divided by.
        DESCR : str
            The data card.
    (data, target) : tuple of two lists
        If ``return_X_y`` is True.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, no TIMIT corpus in it, or a sentence without sound.
    ValueError
        If a choice is unknown, the corpus incomplete, or a file cannot be read: sound compressed with shorten, which
        is to be converted first, sound that is cut short, samples that are not numbers from -1 to 1, an unknown phone,
        another sample rate.
    ImportError
        If soundfile is missing.

    Examples
    --------
    >>> from sfmts.datasets import load_timit
    >>> timit = load_timit("~/corpora/timit", n_jobs=2)  # doctest: +SKIP
    >>> len(timit.train.data), len(timit.valid.data), len(timit.test.data)  # doctest: +SKIP
    (3512, 184, 1344)
    >>> X, y = load_timit("~/corpora/timit", n_phones=39, return_X_y=True)  # doctest: +SKIP
    """
    check_choice("subset", subset, SUBSETS)
    check_choice("n_phones", n_phones, N_PHONES)
    check_choice("test_set", test_set, ("full", "core"))
    check_choice("glottal_stop", glottal_stop, ("sil", "mask"))
    check_choice("n_derivatives", n_derivatives, N_DERIVATIVES)
    utterances = _find_utterances(Path(data_home).expanduser())
    if strict:
        _check_protocol(utterances, Path(data_home))
    rows = _draw_parts(utterances, test_set, n_valid, random_state)
    features, phones, bounds = _features(utterances, n_derivatives, cache_home, n_jobs, verbose)
    spans = {part: [slice(bounds[row], bounds[row + 1]) for row in chosen] for part, chosen in rows.items()}
    mean, scale = np.zeros(features.shape[1]), np.ones(features.shape[1])
    if standardize:
        scaler = StandardScaler().fit(np.concatenate([features[span] for span in spans["train"]]))
        mean, scale = scaler.mean_, scaler.scale_
        features = scaler.transform(features, copy=False)
    target_names, codes = _folding(n_phones, glottal_stop)
    parts = {
        part: Bunch(
            data=[features[span] for span in spans[part]],
            target=[codes[phones[span]] for span in spans[part]],
            names=[utterances[row].name for row in chosen],
            speakers=np.array([utterances[row].speaker for row in chosen], dtype=str),
        )
        for part, chosen in rows.items()
    }
    if return_X_y:
        return parts[subset].data, parts[subset].target
    return Bunch(
        **parts[subset],
        **parts,
        target_names=target_names,
        feature_names=_feature_names(n_derivatives),
        mean=mean,
        scale=scale,
        DESCR=cleandoc(__doc__ or ""),
    )


def mfcc(signal: ArrayLike, *, sample_rate: int = SAMPLE_RATE, n_derivatives: int = 1) -> NDArray[np.float64]:
    """Mel-frequency cepstral coefficients and log-energy of a signal, by HTK's formulas.

    Windows of 25 ms every 10 ms, whole ones only.  Of each window x: the log-energy is ln sum x^2; then pre-emphasis
    x_n - 0.97 x_{n-1} (the first sample with itself), Hamming window, magnitude of the Fourier transform (padded to a
    power of two), 26 triangles equally wide and equally spaced on the mel scale 1127 ln(1 + f/700) from 0 to half the
    sample rate, logarithm, orthonormal cosine transform, of which c_1 to c_12 are kept and multiplied by
    1 + 11 sin(pi k / 22).  The derivative at frame t is sum_k k (c_{t+k} - c_{t-k}) / 10 for k of 1 and 2, where
    frames before the first and after the last repeat these.

    Parameters
    ----------
    signal : array-like of shape (n_samples,)
        Samples, of any scale: 16-bit integers as they are, or floats.
    sample_rate : int, default=16000
        Samples a second.
    n_derivatives : {0, 1, 2}, default=1
        Order up to which derivatives are appended.

    Returns
    -------
    features : ndarray of shape (n_frames, 13 * (1 + n_derivatives))
        c_1 to c_12, log-energy; their derivatives.  At 16 kHz there are (n_samples - 400) // 160 + 1 frames.

    Raises
    ------
    ValueError
        If the signal is not one channel of finite real numbers, has masked entries, or is shorter than a window.

    Notes
    -----
    Sums below 1.2e-7 count as that much, so that digital silence has finite features.  All is computed in double
    precision; in single, results differ in the fourth decimal.

    References
    ----------
    S. Young et al., "The HTK Book", version 3.4, 2006, Sections 5.2 to 5.9.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts.datasets import mfcc
    >>> tone = 1000 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    >>> mfcc(tone).shape
    (98, 26)
    """
    check_choice("n_derivatives", n_derivatives, N_DERIVATIVES)
    refuse_masked("signal", signal)
    if np.asarray(signal).dtype.kind not in "biufO":
        raise ValueError(f"A signal holds real numbers; this one holds {np.asarray(signal).dtype} values.")
    signal = np.asarray(signal, dtype=np.float64)
    if signal.ndim != 1 or not np.isfinite(signal).all():
        raise ValueError(
            f"A signal is one channel of finite numbers, shape (n_samples,); this one has the shape {signal.shape}"
            + ("." if np.isfinite(signal).all() else " and holds NaN or infinity.")
        )
    sample_rate = as_python_number(sample_rate)  # of which numpy's arithmetic keeps few digits
    window, hop = _window(sample_rate)
    _n_frames(len(signal), window, hop)
    frames = np.lib.stride_tricks.sliding_window_view(signal, window)[::hop]
    floor = float(np.finfo(np.float32).eps)
    energy = np.log(np.maximum(np.square(frames).sum(axis=1), floor))
    emphasized = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    n_fft = 1 << (window - 1).bit_length()
    magnitudes = np.abs(rfft(emphasized * np.hamming(window), n_fft, axis=1))
    log_mel = np.log(np.maximum(magnitudes @ _mel_filters(sample_rate, n_fft), floor))
    order = np.arange(1, 13)
    cepstrum = dct(log_mel, type=2, norm="ortho", axis=1)[:, order] * (1 + 11 * np.sin(np.pi * order / 22))
    features = [np.column_stack([cepstrum, energy])]
    for _ in range(n_derivatives):
        # the slope of a line fitted to five frames is the regression formula
        features.append(savgol_filter(features[-1], 5, polyorder=1, deriv=1, axis=0, mode="nearest"))
    return np.concatenate(features, axis=1)


def frame_labels(
    segments: Sequence[tuple[int, int, str]], n_samples: int, *, sample_rate: int = SAMPLE_RATE
) -> NDArray[np.str_]:
    """Label of each frame of :func:`mfcc`: that of the segment in which the middle of the frame's window lies.

    Parameters
    ----------
    segments : sequence of (start, end, label), or data frame with these three columns
        In samples, the end excluded, in the order of time, as lines of TIMIT's PHN files. Columns of a data frame that
        are named start, end and label may have any order; otherwise their order counts.
    n_samples : int
        Length of the signal.
    sample_rate : int, default=16000
        Samples a second.

    Returns
    -------
    labels : ndarray of str of shape (n_frames,)
        At 16 kHz, frame i has the label at sample 160 i + 200.  A frame in a gap, or after the last segment, has the
        label before it, one before the first segment the first label, one in two segments the later.

    Raises
    ------
    ValueError
        If there are no segments, they are not in order or end more than 10 ms after the signal, or the signal is
        shorter than a window.
    TypeError, ValueError
        If a segment does not consist of two numbers of samples and a label.

    Examples
    --------
    >>> from sfmts.datasets import frame_labels
    >>> frame_labels([(0, 360, "h#"), (360, 900, "sh")], n_samples=900).tolist()
    ['h#', 'sh', 'sh', 'sh']
    """
    segments = _as_segments(segments)
    if len(segments) == 0:
        raise ValueError("There are no segments to label frames with.")
    # in floating point, as differences of unsigned integers are never negative
    starts = np.array([start for start, _, _ in segments], dtype=np.float64)
    ends = np.array([end for _, end, _ in segments], dtype=np.float64)
    if not (np.isfinite(starts).all() and np.isfinite(ends).all()):
        raise ValueError("Starts and ends of segments must be numbers of samples, but some are NaN or infinite.")
    wrong = np.flatnonzero((ends < starts) | (np.diff(starts, prepend=0) < 0))
    if wrong.size:
        number = int(wrong[0])
        raise ValueError(
            f"Segments must be in the order of time, and end after they start; segment {number} is {segments[number]}."
        )
    window, hop = _window(as_python_number(sample_rate))
    n_samples = as_python_number(n_samples)
    n_frames = _n_frames(n_samples, window, hop)
    if ends.max() > n_samples + hop:  # hand-made bounds may miss the end by a little
        raise ValueError(
            f"Segments end at sample {ends.max():.0f}, but the signal has only {n_samples} samples; it is cut short, "
            "or they belong to another signal."
        )
    middles = hop * np.arange(n_frames) + window // 2
    rows = np.maximum(np.searchsorted(starts, middles, side="right") - 1, 0)
    return np.array([label for _, _, label in segments], dtype=str)[rows]


def _as_segments(segments: Any) -> list[tuple[Any, Any, Any]]:
    """Return segments as tuples, and raise an error unless each is a start, an end and a label."""
    if hasattr(segments, "columns"):
        columns = list(segments.columns)
        if len(columns) != 3:
            raise ValueError(f"segments has the columns {columns}, but three are needed: start, end and label.")
        if {*columns} == {"start", "end", "label"}:
            segments = segments[["start", "end", "label"]]
        segments = segments.to_numpy().tolist()
    if isinstance(segments, str | bytes | Mapping | Set) or not isinstance(segments, Iterable):
        raise TypeError(
            f"segments is of type {type(segments).__name__}, but must be a sequence of (start, end, label) or a data "
            "frame with these columns."
        )
    rows = []
    for number, segment in enumerate(segments):
        is_row = hasattr(type(segment), "__len__") and not isinstance(segment, str | bytes | Mapping | Set)
        row = tuple(segment) if is_row else ()
        if len(row) != 3 or any(not _is_sample(bound) for bound in row[:2]) or np.ndim(row[2]) or _is_missing(row[2]):
            raise ValueError(
                f"Segment {number} is {segment!r}, but must be (start, end, label): two numbers of samples and a label."
            )
        rows.append(row)
    return rows


def _is_sample(bound: Any) -> bool:
    """Return whether a bound of a segment is a number, or the digits of one as in a file."""
    if isinstance(bound, bool | np.bool_ | complex | np.complexfloating | np.datetime64 | np.timedelta64):
        return False
    try:
        float(bound)
    except (TypeError, ValueError):
        return False
    return True


def _is_missing(label: Any) -> bool:
    """Return whether a label is None, NaN or pd.NA, which would become a word."""
    return label is None or type(label).__name__ == "NAType" or label != label


class _Utterance(NamedTuple):
    split: str
    dialect: str
    speaker: str
    sentence: str
    phones: Path
    sound: Path

    @property
    def name(self) -> str:
        return f"{self.dialect}/{self.speaker}/{self.sentence}"


def _find_utterances(home: Path) -> list[_Utterance]:
    """All sentences but SA, in an order that no file system has a say in."""
    if not home.is_dir():
        raise FileNotFoundError(
            f"There is no folder {str(home)!r}. TIMIT is licensed and never downloaded: data_home is your own copy of "
            "LDC93S1."
        )
    found: dict[tuple[str, str], _Utterance] = {}
    seen: set[str] = set()
    for folder, folders, files in os.walk(home, followlinks=True):
        folders.sort()
        if (real := os.path.realpath(folder)) in seen:  # a link to where the walk has been
            folders.clear()
            continue
        seen.add(real)
        by_lower = {name.lower(): name for name in files}
        place = Path(folder).relative_to(home).as_posix().lower()
        for lower in sorted(by_lower):
            match = _PHONE_FILE.search(f"{place}/{lower}")
            if match is None or match[4].startswith("sa"):
                continue
            phones = Path(folder, by_lower[lower])
            key = (match[1], f"{match[2]}/{match[3]}/{match[4]}")
            if key in found:
                raise ValueError(f"{home} holds two corpora, {found[key].phones} and {phones}; name one of them.")
            sounds = [by_lower[match[4] + ending] for ending in _SOUND_ENDINGS if match[4] + ending in by_lower]
            if not sounds:
                raise FileNotFoundError(f"{phones} has no sound beside it, such as {phones.with_suffix('.WAV').name}.")
            found[key] = _Utterance(match[1], match[2], match[3], match[4], phones, Path(folder, sounds[0]))
    if not found:
        raise FileNotFoundError(
            f"{str(home)!r} holds no TIMIT corpus: no file such as TRAIN/DR1/FCJF0/SI1027.PHN, in upper or lower case, "
            "at any depth. data_home is the folder that holds TRAIN and TEST, or one above; this one holds "
            f"{', '.join(sorted(os.listdir(home))[:8]) or 'nothing'}."
        )
    return [found[key] for key in sorted(found)]


def _check_protocol(utterances: list[_Utterance], home: Path) -> None:
    counts = {split: sum(u.split == split for u in utterances) for split in PROTOCOL}
    if counts != PROTOCOL:
        raise ValueError(
            f"{home} holds {counts['train']} train and {counts['test']} test utterances besides the SA sentences; the "
            f"protocol has {PROTOCOL['train']} and {PROTOCOL['test']}. Figures from a part of the corpus compare with "
            "no others; to load it all the same, pass strict=False."
        )


def _draw_parts(
    utterances: list[_Utterance], test_set: str, n_valid: int, random_state: int | np.random.RandomState | None
) -> dict[str, NDArray[np.intp]]:
    """Rows of train, valid and test."""
    train = np.array([row for row, u in enumerate(utterances) if u.split == "train"], dtype=np.intp)
    core = test_set == "core"
    test = [row for row, u in enumerate(utterances) if u.split == "test" and (not core or u.speaker in CORE_SPEAKERS)]
    if not 0 <= n_valid < len(train):
        raise ValueError(
            f"n_valid must be at least 0 and less than the {len(train)} train utterances there are, not {n_valid}."
        )
    rng = np.random.RandomState() if random_state is None else check_random_state(random_state)
    valid = np.isin(np.arange(len(train)), rng.permutation(len(train))[:n_valid])
    return {"train": train[~valid], "valid": train[valid], "test": np.array(test, dtype=np.intp)}


def _features(
    utterances: list[_Utterance],
    n_derivatives: int,
    cache_home: str | os.PathLike[str] | None,
    n_jobs: int | None,
    verbose: int,
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
    """Features and phones of all frames, and the bounds of the utterances; from the cache where it has them."""
    path = data_folder(cache_home) / "timit" / f"features-{_fingerprint(utterances, n_derivatives)}.npz"
    arrays = load_arrays(path)
    if arrays is None or not _fit_together(arrays, len(utterances)):
        read = Parallel(n_jobs=n_jobs, return_as="generator")(
            delayed(_read_utterance)(utterance, n_derivatives) for utterance in utterances
        )
        bar = tqdm(read, total=len(utterances), desc="TIMIT", unit="utterance", disable=not verbose)
        features, phones = zip(*bar, strict=True)
        arrays = {
            "features": np.concatenate(features),
            "phones": np.concatenate(phones),
            "bounds": np.cumsum([0, *map(len, phones)]),
        }
        try:
            save_arrays(path, arrays)
        except OSError as error:
            warnings.warn(f"The features are computed but cannot be kept in {path.parent}: {error}", stacklevel=3)
    return arrays["features"], arrays["phones"], arrays["bounds"]


def _fit_together(arrays: dict[str, NDArray[Any]], n_utterances: int) -> bool:
    """Whether these may be the features, phones and bounds of so many utterances."""
    if set(arrays) != {"features", "phones", "bounds"}:
        return False
    n_frames = len(arrays["features"])
    bounds = arrays["bounds"]
    return bool(bounds.shape == (n_utterances + 1,) and bounds[-1] == n_frames == len(arrays["phones"]))


def _fingerprint(utterances: list[_Utterance], n_derivatives: int) -> str:
    """Changes with every setting that features depend on, and with each file of the corpus."""
    digest = hashlib.sha256(f"{_CACHE_VERSION} {n_derivatives}".encode())
    for utterance in utterances:
        for path in (utterance.phones, utterance.sound):
            state = path.stat()
            digest.update(f"\n{utterance.split}/{utterance.name} {path} {state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()[:20]


def _read_utterance(utterance: _Utterance, n_derivatives: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    signal = _read_sound(utterance.sound)
    try:
        features = mfcc(signal, n_derivatives=n_derivatives)
        labels = frame_labels(_read_phones(utterance.phones), len(signal))
    except ValueError as error:
        raise ValueError(f"{utterance.phones.with_suffix('')}: {error}") from error
    return features.astype(np.float32), np.array([PHONES[label] for label in labels.tolist()], dtype=np.uint8)


def _read_sound(path: Path) -> NDArray[np.int16]:
    with path.open("rb") as file:
        head = file.read(1024)
    if head.startswith(b"NIST_1A") and (coding := re.search(rb"sample_coding\s+-s\d+\s+(\S*embedded\S*)", head)):
        raise ValueError(
            f"{path} is compressed ({coding[1].decode('ascii', 'replace')}), which soundfile cannot read: convert with "
            f"sph2pipe first, as in `sph2pipe -f wav {path.name} {path.name}.wav`, which may lie beside it."
        )
    soundfile = require("soundfile")
    try:
        signal, rate = soundfile.read(path, dtype="float64")  # as whole numbers, floating point would become silence
    except soundfile.SoundFileError as error:
        raise ValueError(
            f"{path} is neither NIST SPHERE nor RIFF sound that can be read; it begins with {head[:12]!r} ({error})."
        ) from error
    promised = _promised_samples(path)
    if promised is not None and len(signal) < promised:
        raise ValueError(
            f"{path} is cut short: its header says {promised} samples, but it holds {len(signal)}; copy it anew."
        )
    if rate != SAMPLE_RATE or signal.ndim != 1:
        channels = 1 if signal.ndim == 1 else signal.shape[1]
        raise ValueError(
            f"{path} has {rate} Hz and {channels} channel{'s' * (channels > 1)}; TIMIT has {SAMPLE_RATE} Hz and 1."
        )
    if not np.isfinite(signal).all():
        raise ValueError(f"{path} holds samples that are NaN or infinite; convert it anew, to 16-bit integers.")
    if (peak := np.abs(signal).max(initial=0.0)) > 1.0:
        raise ValueError(
            f"{path} holds floating-point samples of up to {peak:g}, but these must lie between -1 and 1; divide them "
            "by 32768 if they are 16-bit numbers, or store integers."
        )
    return np.rint(signal * 2.0**15).clip(-(2**15), 2**15 - 1).astype(np.int16)


def _promised_samples(path: Path) -> int | None:
    """Return the samples per channel that the header of a SPHERE or RIFF file says; None if it does not say."""
    with path.open("rb") as file:
        head = file.read(1024)
        if head.startswith(b"NIST_1A"):
            count = re.search(rb"sample_count\s+-i\s+(\d+)", head)
            return None if count is None else int(count[1])
        if head[:4] != b"RIFF":
            return None
        file.seek(12)
        frame = 0
        while len(header := file.read(8)) == 8:
            size = int.from_bytes(header[4:], "little")
            if header[:4] == b"data":  # writers of streams put a size of 0 or the greatest
                return None if frame == 0 or size in (0, 2**32 - 1) else size // frame
            chunk = file.read(min(size, 64))
            if header[:4] == b"fmt ":
                frame = int.from_bytes(chunk[12:14], "little")
            file.seek(size - len(chunk) + size % 2, os.SEEK_CUR)
    return None


def _read_phones(path: Path) -> list[tuple[int, int, str]]:
    segments = []
    for number, line in enumerate(path.read_text("ascii", "replace").splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(\d+)\s+(\d+)\s+(\S+)\s*", line)
        if match is None or match[3].lower() not in PHONES:
            raise ValueError(
                f"Line {number} of {path} is {line!r}; it should be a start and an end in samples and one of TIMIT's "
                "61 phones, as in '0 2260 h#'."
            )
        segments.append((int(match[1]), int(match[2]), match[3].lower()))
    return segments


def _folding(n_phones: int, glottal_stop: str) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Names of the classes, and the class of each of the 61 phones."""
    names = list(PHONES)
    if n_phones <= 48:
        names = [_TO_48.get(name, name) for name in names]
    if n_phones == 39:
        names = [_TO_39.get(name, name) for name in names]
    target_names, codes = np.unique(names, return_inverse=True)
    if n_phones < 61 and glottal_stop == "mask":
        codes[PHONES["q"]] = MASKED
    return target_names, codes.astype(np.int64)


def _feature_names(n_derivatives: int) -> list[str]:
    static = [*(f"c{number}" for number in range(1, 13)), "energy"]
    return [prefix + name for prefix in ("", "d_", "dd_")[: n_derivatives + 1] for name in static]


def _window(sample_rate: int) -> tuple[int, int]:
    """Length and hop of the windows, in samples: 25 and 10 ms."""
    if sample_rate < 1000:
        raise ValueError(f"sample_rate must be at least 1000 samples a second, not {sample_rate}.")
    return round(0.025 * sample_rate), round(0.010 * sample_rate)


def _n_frames(n_samples: int, window: int, hop: int) -> int:
    if n_samples < window:
        raise ValueError(f"A signal of {n_samples} samples is shorter than one window of {window}.")
    return (n_samples - window) // hop + 1


def _mel_filters(sample_rate: int, n_fft: int) -> NDArray[np.float64]:
    """Weights of 26 triangles, of shape (n_fft // 2 + 1, 26)."""

    def mel(frequency: Any) -> Any:
        return 1127 * np.log1p(frequency / 700)

    width = mel(sample_rate / 2) / 27
    place = mel(np.arange(n_fft // 2 + 1) * sample_rate / n_fft)[:, None]
    return np.maximum(0.0, 1 - np.abs(place / width - np.arange(1, 27)))
