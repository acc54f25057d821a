"""Scores of labels and of densities, each under its own name.

Three ways to score piano-rolls are in use, and their numbers must never stand in one table without labels.
"""

from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfmts._validation import as_weights

_TINY = 1e-12  # probabilities are kept this far from 0 and 1, so that one certain error does not make a score infinite


def frame_accuracy_score(y_true: Any, y_pred: Any, *, sample_weight: ArrayLike | None = None) -> float:
    """Share of steps that are labelled correctly, over all steps of all series.

    Parameters
    ----------
    y_true, y_pred : list of n arrays of shape (T_i,), or array of shape (n, T)
    sample_weight : array-like of shape (n,), optional
        How much each step of a series counts.

    Returns
    -------
    accuracy : float

    Raises
    ------
    ValueError
        If the series are not as many or not as long, or hold no step at all; if labels are missing (NaN, None or
        masked), or some are strings and some numbers; or if the weights are invalid.

    Examples
    --------
    >>> from sfmts.metrics import frame_accuracy_score
    >>> frame_accuracy_score([["a", "b"], ["a"]], [["a", "a"], ["a"]])
    0.6666666666666666
    """
    pairs = list(_pairs(y_true, y_pred, "y_true", "y_pred", n_axes=1))
    _check_labels(pairs)
    weights = _series_weights(sample_weight, len(pairs))
    right = sum(weight * np.sum(true == found) for weight, (true, found) in zip(weights, pairs, strict=True))
    total = sum(weight * len(true) for weight, (true, _) in zip(weights, pairs, strict=True))
    return float(right / total)


def bernoulli_log_likelihood(rolls: Any, probabilities: Any, *, sample_weight: ArrayLike | None = None) -> float:
    """Mean log-likelihood of binary frames whose channels are independent given the past.

    The log-likelihood of a frame is the sum over its channels; the mean is taken over the flat list of all frames.

    Parameters
    ----------
    rolls : list of n arrays of shape (T_i, C)
        Binary frames.
    probabilities : list of n arrays of shape (T_i, C)
        That each channel is on.
    sample_weight : array-like of shape (n,), optional

    Returns
    -------
    score : float
        In nats per frame; greater is better.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts.metrics import bernoulli_log_likelihood
    >>> bernoulli_log_likelihood([np.array([[1, 0]])], [np.array([[0.5, 0.5]])])
    -1.3862943611198906
    """
    frames = []
    for number, (roll, p) in enumerate(_pairs(rolls, probabilities, "rolls", "probabilities")):
        roll, p = _binary(roll, number), _numbers(p, "probabilities", number)
        if not ((p >= 0) & (p <= 1)).all():
            raise ValueError(f"probabilities must lie between 0 and 1, which those of series {number} do not.")
        p = np.clip(p, _TINY, 1.0 - _TINY)
        frames.append(np.where(roll, np.log(p), np.log1p(-p)).sum(axis=1))
    return _mean_over_frames(frames, sample_weight)


def softmax_pressed_log_likelihood(rolls: Any, logits: Any) -> float:
    """What the SFM authors' program scores: the sum of log softmax(logits) over the pressed keys of a frame.

    The mean is taken over the frames of each series, then over series, as in that program.  This is not a
    log-likelihood of the frame: with k keys pressed no prediction can exceed -k log k, see
    :func:`softmax_pressed_ceiling`.

    Parameters
    ----------
    rolls : list of n arrays of shape (T_i, C)
        Binary frames.
    logits : list of n arrays of shape (T_i, C)

    Returns
    -------
    score : float

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts.metrics import softmax_pressed_ceiling, softmax_pressed_log_likelihood
    >>> rolls = [np.array([[1, 1, 0, 0]])]
    >>> softmax_pressed_log_likelihood(rolls, [np.array([[50.0, 50.0, 0.0, 0.0]])])
    -1.3862943611198906
    >>> softmax_pressed_ceiling(rolls)
    -1.3862943611198906
    """
    means = []
    for number, (roll, z) in enumerate(_pairs(rolls, logits, "rolls", "logits")):
        z = _numbers(z, "logits", number)
        if not np.isfinite(z).all():
            raise ValueError(f"logits must be finite, which those of series {number} are not.")
        if len(z):
            z = z - z.max(axis=1, keepdims=True)
            log_softmax = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
            means.append(np.where(_binary(roll, number), log_softmax, 0.0).sum(axis=1).mean())
    return float(np.mean(means))


def softmax_pressed_ceiling(rolls: Any) -> float:
    """The greatest value that :func:`softmax_pressed_log_likelihood` can take on these frames: the mean of -k log k.

    Parameters
    ----------
    rolls : list of n arrays of shape (T_i, C)

    Returns
    -------
    ceiling : float
    """
    means = []
    for number, (roll, _) in enumerate(_pairs(rolls, rolls, "rolls", "rolls")):
        if len(roll):
            k = _binary(roll, number).sum(axis=1).astype(np.float64)
            means.append(-(k * np.log(np.maximum(k, 1.0))).mean())
    return float(np.mean(means))


def _pairs(
    first: Any, second: Any, first_name: str, second_name: str, n_axes: int = 2
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Series by series, as arrays; refuses what does not fit together, has other axes, or holds no step."""
    first, second = (np.asarray(given) if hasattr(given, "iloc") else given for given in (first, second))
    if len(first) == 0:
        raise ValueError(f"{first_name} holds 0 series; there must be at least one.")
    if len(first) != len(second):
        raise ValueError(f"{first_name} holds {len(first)} series, but {second_name} holds {len(second)}.")
    pairs = [
        (_as_array(a, first_name, number), _as_array(b, second_name, number))
        for number, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    for number, (a, b) in enumerate(pairs):
        if a.shape != b.shape:
            raise ValueError(f"Series {number} has shape {a.shape} in {first_name}, but {b.shape} in {second_name}.")
    for number, (a, _) in enumerate(pairs):
        if a.ndim != n_axes:
            wanted = "(T_i,)" if n_axes == 1 else "(T_i, C)"
            raise ValueError(f"Series {number} of {first_name} has shape {a.shape}; each must have shape {wanted}.")
    if not any(len(a) for a, _ in pairs):
        raise ValueError(f"All series of {first_name} have length 0; there must be at least one step.")
    yield from pairs


def _as_array(values: Any, name: str, number: int) -> NDArray[Any]:
    """Return a series as an array; raise ValueError if an entry of it is masked."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"Series {number} of {name} has {np.ma.count_masked(values)} masked entries, which have no value; leave "
            "these steps out of both lists."
        )
    array = np.asarray(values)
    if array.dtype.kind in "US" and not hasattr(values, "dtype"):
        # numpy turns numbers and NaN beside strings into strings, such as "nan"
        return np.asarray(values, dtype=object)
    return array


def _check_labels(pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> None:
    """Raise ValueError if labels are missing, or of types that are never equal to each other."""
    examples: dict[str, tuple[str, Any]] = {}
    for number, pair in enumerate(pairs):
        for name, labels in zip(("y_true", "y_pred"), pair, strict=True):
            # one entry tells the type of all, unless these are objects
            entries = labels if labels.dtype.kind == "O" else labels[:1]
            if labels.dtype.kind in "fcMm":
                entries = np.concatenate([labels[np.isnan(labels)][:1], entries])
            for label in entries.tolist():
                # NaN and NaT differ from themselves; of pandas' NA that cannot be said
                if label is None or type(label).__name__ == "NAType" or bool(label != label):
                    raise ValueError(
                        f"Series {number} of {name} holds the label {label!r}, which is missing; leave steps without a "
                        "label out of both lists."
                    )
                kind = next((kind.__name__ for kind in (str, bytes) if isinstance(label, kind)), "number")
                examples.setdefault(kind, (name, label))
    if len(examples) > 1:
        (first, a), (second, b) = list(examples.values())[:2]
        raise ValueError(
            f"Labels must be all strings or all numbers, but {first} holds {a!r} and {second} holds {b!r}, which never "
            "count as equal; convert one of them, as in y.astype(str)."
        )


def _numbers(values: NDArray[Any], name: str, number: int) -> NDArray[np.float64]:
    """Return a series of real numbers in double precision; raise ValueError for strings and other values."""
    if values.dtype.kind not in "biuf" and not all(isinstance(value, Real) for value in values.ravel().tolist()):
        raise ValueError(f"{name} must be real numbers, but series {number} holds {values.dtype} values.")
    return values.astype(np.float64)


def _binary(roll: Any, number: int) -> NDArray[np.bool_]:
    roll = np.asarray(roll)
    if not np.isin(roll, (0, 1)).all():
        raise ValueError(f"rolls must be binary, 0 or 1, which series {number} is not; take roll > 0.")
    return roll > 0


def _series_weights(sample_weight: ArrayLike | None, n: int) -> NDArray[np.float64]:
    if sample_weight is None:
        return np.ones(n)
    if np.ma.is_masked(sample_weight):
        raise ValueError("sample_weight has masked entries, which have no value; fill them, as in weights.filled(0).")
    if np.ndim(sample_weight) == 0:  # one weight for all series
        value = float(sample_weight)  # type: ignore[arg-type]
        if not 0.0 < value < np.inf:
            raise ValueError(f"sample_weight must be finite and positive if it is one number, not {sample_weight!r}.")
        return np.ones(n)
    weights = as_weights(sample_weight, n)
    assert weights is not None
    return weights


def _mean_over_frames(frames: list[NDArray[np.float64]], sample_weight: ArrayLike | None) -> float:
    weights = np.repeat(_series_weights(sample_weight, len(frames)), [len(frame) for frame in frames])
    return float(np.average(np.concatenate(frames), weights=weights))
