"""Scores of labels and of densities.

Three scores of piano-rolls are in use. Their values are not comparable, so each score has its own name here.
"""

from collections.abc import Callable, Iterator
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse

from sfmts._choices import check_number
from sfmts._compat import make_scorer
from sfmts._validation import as_weights

__all__ = [
    "bernoulli_log_likelihood",
    "frame_accuracy_score",
    "make_frame_scorer",
    "softmax_pressed_ceiling",
    "softmax_pressed_log_likelihood",
]

_TINY = 1e-12  # probabilities are clipped this far from 0 and 1, so that scores stay finite


def __dir__() -> list[str]:
    return [*__all__]


def frame_accuracy_score(y_true: Any, y_pred: Any, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the fraction of correctly labelled steps over all series.

    Parameters
    ----------
    y_true : list of n arrays of shape (T_i,), or array of shape (n, T)
        True labels.
    y_pred : list of n arrays of shape (T_i,), or array of shape (n, T)
        Predicted labels.
    sample_weight : array-like of shape (n,), optional
        Weight of each step of a series.

    Returns
    -------
    accuracy : float
        Between 0 and 1; greater is better.

    Raises
    ------
    ValueError
        If the numbers or lengths of the series differ, or there is no step; if labels are missing (NaN, None or
        masked), or some are strings and some numbers; or if weights are invalid.

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


def make_frame_scorer(
    score_func: Callable[..., float],
    *,
    response_method: str = "predict",
    greater_is_better: bool = True,
    **kwargs: Any,
) -> Any:
    """Make a scorer of labels per step out of a metric of scikit-learn.

    The metric reads the steps of all series one after another. The scorer serves ``scoring`` of ``GridSearchCV`` and
    ``cross_validate`` with :class:`sfmts.SFMLabeler`. Without ``scoring``, these use the accuracy.

    Parameters
    ----------
    score_func : callable
        Metric ``score_func(y_true, y_pred, **kwargs)``, such as :func:`sklearn.metrics.balanced_accuracy_score`.
    response_method : {"predict", "predict_proba", "predict_log_proba"}, default="predict"
        Method of the labeler whose result the metric reads.
    greater_is_better : bool, default=True
        Whether the metric is a score. A loss is negated.
    **kwargs : dict
        Further arguments of the metric, such as ``average="macro"``.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)`` returns a float.

    See Also
    --------
    sklearn.metrics.make_scorer : The same for one label a series.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.metrics import f1_score
    >>> from sklearn.model_selection import cross_val_score
    >>> from sfmts import SFMLabeler
    >>> from sfmts.metrics import make_frame_scorer
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(length, 1)) for length in (5, 9, 7, 8)]
    >>> y = [(series[:, 0] > 0).astype(int) for series in X]
    >>> scorer = make_frame_scorer(f1_score, average="macro")
    >>> cross_val_score(SFMLabeler(max_iter=20, random_state=0), X, y, scoring=scorer, cv=2).shape
    (2,)
    """
    metric = partial(_score_of_frames, score_func)
    return make_scorer(metric, response_method=response_method, greater_is_better=greater_is_better, **kwargs)


def _score_of_frames(score_func: Callable[..., float], y_true: Any, y_pred: Any, **kwargs: Any) -> float:
    pairs = [[np.asarray(part) for part in pair] for pair in zip(y_true, y_pred, strict=True)]
    true, found = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return score_func(true, found, **kwargs)


def bernoulli_log_likelihood(rolls: Any, probabilities: Any, *, sample_weight: ArrayLike | None = None) -> float:
    """Return the mean log-likelihood of binary frames whose channels are independent given the past.

    The log-likelihood of a frame is the sum over its channels. The mean is taken over all frames of all series.

    Parameters
    ----------
    rolls : list of n arrays of shape (T_i, C)
        Binary frames.
    probabilities : list of n arrays of shape (T_i, C)
        Probability that each channel is on.
    sample_weight : array-like of shape (n,), optional
        Weight of each frame of a series.

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
            raise ValueError(f"probabilities must lie between 0 and 1, but those of series {number} do not.")
        p = np.clip(p, _TINY, 1.0 - _TINY)
        frames.append(np.where(roll, np.log(p), np.log1p(-p)).sum(axis=1))
    return _mean_over_frames(frames, sample_weight)


def softmax_pressed_log_likelihood(rolls: Any, logits: Any) -> float:
    """Return the mean sum of log softmax(logits) over pressed keys, the score of the SFM authors' program.

    The mean is taken over the frames of each series and then over series, as in that program. The score is not a
    log-likelihood of the frame: with k keys pressed it cannot exceed -k log k; see :func:`softmax_pressed_ceiling`.

    Parameters
    ----------
    rolls : list of n arrays of shape (T_i, C)
        Binary frames.
    logits : list of n arrays of shape (T_i, C)
        Predicted logits of the keys.

    Returns
    -------
    score : float
        In nats per frame; greater is better.

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
            raise ValueError(f"logits must be finite, but those of series {number} are not.")
        if len(z):
            z = z - z.max(axis=1, keepdims=True)
            log_softmax = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
            means.append(np.where(_binary(roll, number), log_softmax, 0.0).sum(axis=1).mean())
    return float(np.mean(means))


def softmax_pressed_ceiling(rolls: Any) -> float:
    """Return the greatest possible :func:`softmax_pressed_log_likelihood` of these frames, the mean of -k log k.

    Parameters
    ----------
    rolls : list of n arrays of shape (T_i, C)
        Binary frames.

    Returns
    -------
    ceiling : float
        In nats per frame.
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
    """Yield the arrays of each series; raise ValueError if shapes differ or are invalid, or there is no step."""
    first, second = (np.asarray(given) if hasattr(given, "iloc") else given for given in (first, second))
    for name, given in ((first_name, first), (second_name, second)):
        has_items = hasattr(given, "__len__") and getattr(given, "ndim", 1) > 0
        if not has_items or isinstance(given, str | bytes) or issparse(given):
            raise TypeError(f"{name} must be an array or a list of arrays, not {type(given).__name__}.")
    if len(first) == 0:
        raise ValueError(f"{first_name} holds 0 series; at least one is required.")
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
            raise ValueError(f"Series {number} of {first_name} has shape {a.shape}, but must have shape {wanted}.")
    if not any(len(a) for a, _ in pairs):
        raise ValueError(f"All series of {first_name} have length 0; at least one step is required.")
    yield from pairs


def _as_array(values: Any, name: str, number: int) -> NDArray[Any]:
    """Return a series as an array; raise ValueError if an entry is masked."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"Series {number} of {name} has {np.ma.count_masked(values)} masked entries. Leave these steps out of both "
            "lists."
        )
    array = np.asarray(values)
    if array.dtype.kind in "US" and not hasattr(values, "dtype"):
        # NumPy would convert numbers and NaN among strings to strings, such as "nan"
        return np.asarray(values, dtype=object)
    return array


def _check_labels(pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> None:
    """Raise ValueError if labels are missing, or have types that never compare equal."""
    examples: dict[str, tuple[str, Any]] = {}
    for number, pair in enumerate(pairs):
        for name, labels in zip(("y_true", "y_pred"), pair, strict=True):
            # unless they are objects, one entry shows the type of all
            entries = labels if labels.dtype.kind == "O" else labels[:1]
            if labels.dtype.kind in "fcMm":
                entries = np.concatenate([labels[np.isnan(labels)][:1], entries])
            for label in entries.tolist():
                # NaN and NaT differ from themselves; pandas' NA cannot be compared
                if label is None or type(label).__name__ == "NAType" or bool(label != label):
                    raise ValueError(
                        f"Series {number} of {name} holds the missing label {label!r}. Leave steps without a label out "
                        "of both lists."
                    )
                kind = next((kind.__name__ for kind in (str, bytes) if isinstance(label, kind)), "number")
                examples.setdefault(kind, (name, label))
    if len(examples) > 1:
        (first, a), (second, b) = list(examples.values())[:2]
        raise ValueError(
            f"Labels must be all strings or all numbers, but {first} holds {a!r} and {second} holds {b!r}, which are "
            "never equal. Convert one of them, as in y.astype(str)."
        )


def _numbers(values: NDArray[Any], name: str, number: int) -> NDArray[np.float64]:
    """Return a series of real numbers as float64; raise ValueError for other values, such as strings."""
    if values.dtype.kind not in "biuf" and not all(isinstance(value, Real) for value in values.ravel().tolist()):
        raise ValueError(f"{name} must be real numbers, but series {number} holds {values.dtype} values.")
    return values.astype(np.float64)


def _binary(roll: Any, number: int) -> NDArray[np.bool_]:
    """Return where keys are pressed; raise ValueError if a roll is not binary."""
    roll = np.asarray(roll)
    if not np.isin(roll, (0, 1)).all():
        raise ValueError(f"rolls must be binary, 0 or 1, but series {number} is not. Pass roll > 0.")
    return roll > 0


def _series_weights(sample_weight: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return the weight of each series, 1 by default; raise ValueError if weights are invalid."""
    if sample_weight is None:
        return np.ones(n)
    if np.ma.is_masked(sample_weight):
        raise ValueError("sample_weight has masked entries. Fill them, as in weights.filled(0).")
    if np.ndim(sample_weight) == 0:  # one weight for all series
        value = check_number("sample_weight", np.asarray(sample_weight).item())
        if not 0.0 < value < np.inf:
            raise ValueError(f"A single sample_weight must be finite and positive, but is {sample_weight!r}.")
        return np.ones(n)
    weights = as_weights(sample_weight, n)
    assert weights is not None
    return weights


def _mean_over_frames(frames: list[NDArray[np.float64]], sample_weight: ArrayLike | None) -> float:
    """Return the weighted mean over the frames of all series."""
    weights = np.repeat(_series_weights(sample_weight, len(frames)), [len(frame) for frame in frames])
    return float(np.average(np.concatenate(frames), weights=weights))
