"""Read TIMIT from your own licensed copy: the SFM paper's task of classifying the phone of each frame of speech.

Notes
-----
**Data card**

TIMIT (LDC93S1, Linguistic Data Consortium) is read American English: 630 speakers of eight dialect regions, ten
sentences each, 16 kHz, with hand-corrected phones. It is licensed, so it is neither included nor downloaded.

========  ======================================================================================================
train     462 speakers; without the two SA sentences, which all speakers read, 3696 utterances. Of these, 184
          drawn at random are the validation set (Graves and Schmidhuber, 2005).
test      168 other speakers, 1344 utterances ("full"), or the 24 speakers and 192 utterances of the core test.
features  26 per frame: 12 mel-frequency cepstral coefficients, the log-energy, and their first derivatives, every
          10 ms over 25 ms; see :func:`mfcc`.
target    the phone at the middle of each frame's window; see :func:`frame_labels`.
========  ======================================================================================================

The 61 phones fold to 48 and to 39 as in Lee and Hon (1989). They drop the glottal stop q. A frame cannot be dropped
from a series, so frames of q become silence or are masked. Accuracies are comparable only for the same number of phones
and the same test set.

J. S. Garofolo et al., "TIMIT Acoustic-Phonetic Continuous Speech Corpus", LDC93S1, 1993.
K.-F. Lee and H.-W. Hon, "Speaker-independent phone recognition using hidden Markov models", IEEE Transactions on
Acoustics, Speech, and Signal Processing 37 (11), 1989.
A. Graves and J. Schmidhuber, "Framewise phoneme classification with bidirectional LSTM and other neural network
architectures", Neural Networks 18 (5-6), 2005.
"""

import hashlib
import math
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
from sklearn.utils import Bunch
from tqdm.auto import tqdm

from sfmts._choices import check_choice, check_number, check_squares
from sfmts._files import as_path
from sfmts._random import new_random_state
from sfmts.datasets._cache import (
    as_python_number,
    data_folder,
    load_arrays,
    refuse_masked,
    require,
    save_arrays,
)

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
_SOUND_ENDINGS = (".wav.wav", ".wav", ".sph")  # in copies with both x.WAV and x.WAV.wav, the latter is readable
_CACHE_VERSION = 2  # increase it when features or labels change


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
    """Load features and phones of each frame of a TIMIT corpus on disk.

    The data card is in the module's documentation and in the attribute `DESCR` of the result.

    Parameters
    ----------
    data_home : str or path-like
        Folder of the corpus (LDC93S1), at any depth above `TRAIN` and `TEST`. Names may be in upper or lower case,
        sound in NIST SPHERE or RIFF, and named `SA1.WAV` or `SA1.WAV.wav`.
    subset : {"train", "valid", "test"}, default="train"
        The part to return as `data` and `target`, or as tuple with ``return_X_y``.
    n_phones : {61, 48, 39}, default=61
        Number of classes: TIMIT's 61 phones, or these folded to 48 or 39.
    test_set : {"full", "core"}, default="full"
        "full" has 1344 utterances, as in the SFM paper and other framewise results. "core" has 192, as for most speech
        recognisers.
    n_valid : int, default=184
        Number of the 3696 training utterances that form the validation set, drawn with ``random_state``.
    glottal_stop : {"sil", "mask"}, default="sil"
        Target of the frames of q if ``n_phones`` is 48 or 39, which do not include q: silence, or -1. Use -1 only for
        scoring, and leave these frames out; an estimator would learn -1 as a class.
    n_derivatives : {0, 1, 2}, default=1
        Order of derivatives, which gives 13, 26 or 39 features. The default is the paper's.
    standardize : bool, default=True
        If True, shift and scale the features of all parts so that they have mean 0 and variance 1 over the training
        set without the validation set.
    strict : bool, default=True
        If True, raise an error if the corpus does not have the protocol's 3696 and 1344 utterances. Otherwise load the
        available utterances.
    cache_home : str, path-like or None, default=None
        Folder for the computed features, about 160 MB, which the next call with the same corpus and ``n_derivatives``
        reads in a second. If None, scikit-learn's data folder (`~/scikit_learn_data`).
    return_X_y : bool, default=False
        If True, return ``(data, target)`` of ``subset``.
    n_jobs : int or None, default=None
        Number of processes, as in joblib; None means 1.
    random_state : int, RandomState instance or None, default=0
        Seed that draws the validation set. The default gives everyone the same set.
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
            "c1" to "c12", "energy", and the same names with the prefixes ``d_`` and ``dd_``.
        mean, scale : ndarray of shape (n_features,)
            Shift and scale of the features.
        DESCR : str
            The data card.
    (data, target) : tuple of two lists
        If ``return_X_y`` is True.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist or holds no TIMIT corpus, or a sentence has no sound.
    ValueError
        If a choice is unknown, the corpus is incomplete, or a file is invalid: sound that is compressed with shorten
        (convert it first) or incomplete, samples that are not numbers from -1 to 1, an unknown phone, or another sample
        rate.
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
    utterances = _find_utterances(as_path(data_home, "data_home"))
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
    """Return mel-frequency cepstral coefficients and log-energy of a signal, by HTK's formulas.

    Frames are whole windows of 25 ms every 10 ms. The log-energy of a window x is ln sum x^2. The cepstrum takes these
    steps:

    1. pre-emphasis x_n - 0.97 x_{n-1}, where the first sample is its own predecessor;
    2. Hamming window;
    3. magnitude of the Fourier transform, padded to a power of two;
    4. 26 triangles, equally wide and equally spaced on the mel scale 1127 ln(1 + f/700) from 0 to half the sample rate;
    5. logarithm;
    6. orthonormal cosine transform, of which c_1 to c_12 are kept and multiplied by 1 + 11 sin(pi k / 22).

    The derivative at frame t is sum_k k (c_{t+k} - c_{t-k}) / 10 for k of 1 and 2. The first and the last frame are
    repeated beyond the ends.

    Parameters
    ----------
    signal : array-like of shape (n_samples,)
        Samples of any scale, such as 16-bit integers or floats.
    sample_rate : int, default=16000
        Samples per second.
    n_derivatives : {0, 1, 2}, default=1
        Order up to which derivatives are appended.

    Returns
    -------
    features : ndarray of shape (n_frames, 13 * (1 + n_derivatives))
        Coefficients c_1 to c_12 and log-energy, then their derivatives. At 16 kHz, n_frames is
        (n_samples - 400) // 160 + 1.

    Raises
    ------
    ValueError
        If the signal is not one channel of finite real numbers, has masked entries, or is shorter than a window.

    Notes
    -----
    Sums are at least 1.2e-7, so that digital silence has finite features. Features are computed in double precision;
    in single precision, results would differ in the fourth decimal.

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
        raise ValueError(f"A signal must hold real numbers, but holds {np.asarray(signal).dtype} values.")
    signal = np.asarray(signal, dtype=np.float64)
    if signal.ndim != 1 or not np.isfinite(signal).all():
        raise ValueError(
            f"A signal must be one channel of finite numbers, shape (n_samples,), but has shape {signal.shape}"
            + ("." if np.isfinite(signal).all() else " and holds NaN or infinity.")
        )
    check_squares("signal", signal)
    sample_rate = as_python_number(sample_rate)  # float16 and small integers would lose digits below
    window, hop = _window(sample_rate)
    _n_frames(len(signal), window, hop)
    frames = np.lib.stride_tricks.sliding_window_view(signal, window)[::hop]
    floor = float(np.finfo(np.float32).eps)
    # ln sum_n x_n^2
    energy = np.log(np.maximum(np.square(frames).sum(axis=1), floor))
    # x_n - 0.97 x_{n-1}
    emphasized = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    n_fft = 1 << (window - 1).bit_length()
    magnitudes = np.abs(rfft(emphasized * np.hamming(window), n_fft, axis=1))
    log_mel = np.log(np.maximum(magnitudes @ _mel_filters(sample_rate, n_fft), floor))
    order = np.arange(1, 13)
    cepstrum = dct(log_mel, type=2, norm="ortho", axis=1)[:, order] * (1 + 11 * np.sin(np.pi * order / 22))
    features = [np.column_stack([cepstrum, energy])]
    for _ in range(n_derivatives):
        # sum_k k (c_{t+k} - c_{t-k}) / 10 is the slope of a line fitted to five frames
        features.append(savgol_filter(features[-1], 5, polyorder=1, deriv=1, axis=0, mode="nearest"))
    return np.concatenate(features, axis=1)


def frame_labels(
    segments: Sequence[tuple[int, int, str]], n_samples: int, *, sample_rate: int = SAMPLE_RATE
) -> NDArray[np.str_]:
    """Return the label of each frame of :func:`mfcc`, that of the segment at the middle of the frame's window.

    Parameters
    ----------
    segments : sequence of (start, end, label), or data frame with these three columns
        Segments in the order of time, as in TIMIT's PHN files, in samples and with the end excluded. Columns of a data
        frame that are named start, end and label may have any order; otherwise their order counts.
    n_samples : int
        Length of the signal.
    sample_rate : int, default=16000
        Samples a second.

    Returns
    -------
    labels : ndarray of str of shape (n_frames,)
        Label of each frame; at 16 kHz, that at sample 160 i + 200 for frame i. A frame in a gap or after the last
        segment has the label before it, a frame before the first segment the first label, and a frame in two segments
        the label of the later one.

    Raises
    ------
    ValueError
        If no segments are given, they are not in order or end more than 10 ms after the signal, or the signal is
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
        raise ValueError("segments is empty; at least one segment is required.")
    # as floats, because differences of unsigned integers are never negative
    starts = np.array([start for start, _, _ in segments], dtype=np.float64)
    ends = np.array([end for _, end, _ in segments], dtype=np.float64)
    if not (np.isfinite(starts).all() and np.isfinite(ends).all()):
        raise ValueError("Starts and ends of segments must be numbers of samples, but some are NaN or infinite.")
    wrong = np.flatnonzero((ends < starts) | (np.diff(starts, prepend=0) < 0))
    if wrong.size:
        number = int(wrong[0])
        raise ValueError(
            f"Segments must be in the order of time and end after they start, but segment {number} is "
            f"{segments[number]}."
        )
    window, hop = _window(as_python_number(sample_rate))
    n_samples = check_number("n_samples", as_python_number(n_samples))
    if not math.isfinite(n_samples):
        raise ValueError(f"n_samples must be finite, not {n_samples}.")
    n_frames = _n_frames(n_samples, window, hop)
    if ends.max() > n_samples + hop:  # bounds set by hand may be slightly too late
        raise ValueError(
            f"Segments end at sample {ends.max():.0f}, but the signal has only {n_samples} samples. It is incomplete, "
            "or the segments belong to another signal."
        )
    middles = hop * np.arange(n_frames) + window // 2
    rows = np.maximum(np.searchsorted(starts, middles, side="right") - 1, 0)
    return np.array([label for _, _, label in segments], dtype=str)[rows]


def _as_segments(segments: Any) -> list[tuple[Any, Any, Any]]:
    """Return segments as tuples, and raise an error unless each is a start, an end and a label."""
    if hasattr(segments, "columns"):
        columns = list(segments.columns)
        if len(columns) != 3:
            raise ValueError(f"segments has the columns {columns}, but three are required: start, end and label.")
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
    """Return whether a bound of a segment is a number, or a string of one as read from a file."""
    if isinstance(bound, bool | np.bool_ | complex | np.complexfloating | np.datetime64 | np.timedelta64):
        return False
    try:
        float(bound)
    except (TypeError, ValueError):
        return False
    return True


def _is_missing(label: Any) -> bool:
    """Return whether a label is None, NaN or pd.NA, which would be converted to a string."""
    return label is None or type(label).__name__ == "NAType" or label != label


class _Utterance(NamedTuple):
    """Sentence of a speaker and its files."""

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
    """Return all sentences except SA, sorted independently of the file system."""
    if not home.is_dir():
        raise FileNotFoundError(
            f"The folder {str(home)!r} does not exist. TIMIT is licensed and not downloaded. Set data_home to your own "
            "copy of LDC93S1."
        )
    found: dict[tuple[str, str], _Utterance] = {}
    seen: set[str] = set()
    for folder, folders, files in os.walk(home, followlinks=True):
        folders.sort()
        if (real := os.path.realpath(folder)) in seen:  # a link to a folder that was already visited
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
                raise ValueError(f"{home} holds two corpora, with {found[key].phones} and {phones}. Name one of them.")
            sounds = [by_lower[match[4] + ending] for ending in _SOUND_ENDINGS if match[4] + ending in by_lower]
            if not sounds:
                raise FileNotFoundError(
                    f"{phones} has no sound in its folder. Add it, for example as {phones.with_suffix('.WAV').name}."
                )
            found[key] = _Utterance(match[1], match[2], match[3], match[4], phones, Path(folder, sounds[0]))
    if not found:
        raise FileNotFoundError(
            f"{str(home)!r} holds no TIMIT corpus, that is, no file such as TRAIN/DR1/FCJF0/SI1027.PHN in upper or "
            "lower case at any depth. data_home must be the folder that holds TRAIN and TEST, or one above. This one "
            f"holds {', '.join(sorted(os.listdir(home))[:8]) or 'nothing'}."
        )
    return [found[key] for key in sorted(found)]


def _check_protocol(utterances: list[_Utterance], home: Path) -> None:
    """Raise ValueError if the numbers of utterances are not those of the protocol."""
    counts = {split: sum(u.split == split for u in utterances) for split in PROTOCOL}
    if counts != PROTOCOL:
        raise ValueError(
            f"{home} holds {counts['train']} train and {counts['test']} test utterances without the SA sentences, but "
            f"the protocol has {PROTOCOL['train']} and {PROTOCOL['test']}. Results on a part of the corpus are not "
            "comparable with others. Pass strict=False to load it anyway."
        )


def _draw_parts(
    utterances: list[_Utterance], test_set: str, n_valid: int, random_state: int | np.random.RandomState | None
) -> dict[str, NDArray[np.intp]]:
    """Return the rows of train, valid and test."""
    train = np.array([row for row, u in enumerate(utterances) if u.split == "train"], dtype=np.intp)
    core = test_set == "core"
    test = [row for row, u in enumerate(utterances) if u.split == "test" and (not core or u.speaker in CORE_SPEAKERS)]
    if not 0 <= n_valid < len(train):
        raise ValueError(
            f"n_valid must be at least 0 and less than the number of train utterances, {len(train)}, but is {n_valid}."
        )
    rng = new_random_state(random_state)
    valid = np.isin(np.arange(len(train)), rng.permutation(len(train))[:n_valid])
    return {"train": train[~valid], "valid": train[valid], "test": np.array(test, dtype=np.intp)}


def _features(
    utterances: list[_Utterance],
    n_derivatives: int,
    cache_home: str | os.PathLike[str] | None,
    n_jobs: int | None,
    verbose: int,
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
    """Return features and phones of all frames and the bounds of the utterances, from the cache if possible."""
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
            warnings.warn(f"The features cannot be cached in {path.parent}: {error}", stacklevel=3)
    return arrays["features"], arrays["phones"], arrays["bounds"]


def _fit_together(arrays: dict[str, NDArray[Any]], n_utterances: int) -> bool:
    """Return whether cached arrays have the names and shapes for this number of utterances."""
    if set(arrays) != {"features", "phones", "bounds"}:
        return False
    n_frames = len(arrays["features"])
    bounds = arrays["bounds"]
    return bool(bounds.shape == (n_utterances + 1,) and bounds[-1] == n_frames == len(arrays["phones"]))


def _fingerprint(utterances: list[_Utterance], n_derivatives: int) -> str:
    """Return a hash of everything that the features depend on: settings and files of the corpus."""
    digest = hashlib.sha256(f"{_CACHE_VERSION} {n_derivatives}".encode())
    for utterance in utterances:
        for path in (utterance.phones, utterance.sound):
            state = path.stat()
            digest.update(f"\n{utterance.split}/{utterance.name} {path} {state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()[:20]


def _read_utterance(utterance: _Utterance, n_derivatives: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the features and the phone codes of each frame of an utterance."""
    signal = _read_sound(utterance.sound)
    try:
        features = mfcc(signal, n_derivatives=n_derivatives)
        labels = frame_labels(_read_phones(utterance.phones), len(signal))
    except ValueError as error:
        raise ValueError(f"{utterance.phones.with_suffix('')}: {error}") from error
    return features.astype(np.float32), np.array([PHONES[label] for label in labels.tolist()], dtype=np.uint8)


def _read_sound(path: Path) -> NDArray[np.int16]:
    """Return the samples of a sound file; raise ValueError if it is not valid sound of TIMIT."""
    with path.open("rb") as file:
        head = file.read(1024)
    if head.startswith(b"NIST_1A") and (coding := re.search(rb"sample_coding\s+-s\d+\s+(\S*embedded\S*)", head)):
        raise ValueError(
            f"{path} is compressed ({coding[1].decode('ascii', 'replace')}), which soundfile cannot read. Convert it "
            f"into the same folder with `sph2pipe -f wav {path.name} {path.name}.wav`."
        )
    soundfile = require("soundfile")
    try:
        signal, rate = soundfile.read(path, dtype="float64")  # floating-point sound read as integers would be silence
    except soundfile.SoundFileError as error:
        raise ValueError(
            f"{path} is not readable NIST SPHERE or RIFF sound; it begins with {head[:12]!r} ({error})."
        ) from error
    promised = _promised_samples(path)
    if promised is not None and len(signal) < promised:
        raise ValueError(
            f"{path} is incomplete: its header says {promised} samples, but it holds {len(signal)}. Copy it again."
        )
    if rate != SAMPLE_RATE or signal.ndim != 1:
        channels = 1 if signal.ndim == 1 else signal.shape[1]
        raise ValueError(
            f"{path} has {rate} Hz and {channels} channel{'s' * (channels > 1)}, but TIMIT has {SAMPLE_RATE} Hz and 1."
        )
    if not np.isfinite(signal).all():
        raise ValueError(f"{path} holds samples that are NaN or infinite. Convert it again, to 16-bit integers.")
    if (peak := np.abs(signal).max(initial=0.0)) > 1.0:
        raise ValueError(
            f"{path} holds floating-point samples of up to {peak:g}, but these must lie between -1 and 1. Divide them "
            "by 32768 if they are 16-bit numbers, or store integers."
        )
    return np.rint(signal * 2.0**15).clip(-(2**15), 2**15 - 1).astype(np.int16)


def _promised_samples(path: Path) -> int | None:
    """Return the number of samples per channel in the header of a SPHERE or RIFF file, or None if it has none."""
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
            if header[:4] == b"data":  # streaming writers set the size to 0 or to the maximum
                return None if frame == 0 or size in (0, 2**32 - 1) else size // frame
            chunk = file.read(min(size, 64))
            if header[:4] == b"fmt ":
                frame = int.from_bytes(chunk[12:14], "little")
            file.seek(size - len(chunk) + size % 2, os.SEEK_CUR)
    return None


def _read_phones(path: Path) -> list[tuple[int, int, str]]:
    """Return the segments of a PHN file."""
    segments = []
    for number, line in enumerate(path.read_text("ascii", "replace").splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(\d+)\s+(\d+)\s+(\S+)\s*", line)
        if match is None or match[3].lower() not in PHONES:
            raise ValueError(
                f"Line {number} of {path} is {line!r}, but must be a start and an end in samples and one of TIMIT's "
                "61 phones, as in '0 2260 h#'."
            )
        segments.append((int(match[1]), int(match[2]), match[3].lower()))
    return segments


def _folding(n_phones: int, glottal_stop: str) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Return the names of the classes, and the class of each of the 61 phones."""
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
    """Return the length and the hop of the windows in samples, 25 and 10 ms."""
    check_number("sample_rate", sample_rate)
    if not 1000 <= sample_rate < math.inf:
        raise ValueError(f"sample_rate must be at least 1000 samples per second, but is {sample_rate}.")
    return round(0.025 * sample_rate), round(0.010 * sample_rate)


def _n_frames(n_samples: int, window: int, hop: int) -> int:
    if n_samples < window:
        raise ValueError(
            f"A signal of {n_samples} samples is shorter than one window of {window} samples at this sample_rate."
        )
    return (n_samples - window) // hop + 1


def _mel_filters(sample_rate: int, n_fft: int) -> NDArray[np.float64]:
    """Return the weights of 26 triangles on the mel scale, (n_fft // 2 + 1, 26)."""

    def mel(frequency: Any) -> Any:
        return 1127 * np.log1p(frequency / 700)

    width = mel(sample_rate / 2) / 27
    place = mel(np.arange(n_fft // 2 + 1) * sample_rate / n_fft)[:, None]
    return np.maximum(0.0, 1 - np.abs(place / width - np.arange(1, 27)))
