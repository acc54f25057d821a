"""Cross-validation for estimators whose predictions are lists, one array for each series."""

import warnings
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing

from sfmts._choices import check_choice

METHODS = ("predict", "predict_proba", "predict_log_proba")


def cross_val_predict(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    cv: Any = None,
    n_jobs: int | None = None,
    method: str = "predict",
) -> list[Any]:
    """Predictions for each series by an estimator that was fitted without it.

    :func:`sklearn.model_selection.cross_val_predict` joins predictions to one array, which series of unequal length
    do not fit; this joins them to a list.  (`GridSearchCV` and `cross_val_score` need no such help.)

    Parameters
    ----------
    estimator : estimator
        Such as :class:`sfmts.SFMLabeler` or :class:`sfmts.SFMDensity`; it is cloned.
    X : list of n arrays of shape (T_i, C), or array of shape (n, T, C)
    y : list of n arrays of shape (T_i,), or array of shape (n, T), optional
    groups : array-like of shape (n,), optional
        What must not be divided between training and test, such as speakers; for a splitter that uses it.
    cv : int, splitter or iterable of (train, test), optional
        Folds; 5 by default.  Each series must be in exactly one test part.
    n_jobs : int, optional
        Fits at a time.
    method : {"predict", "predict_proba", "predict_log_proba"}, default="predict"
        What is asked of the estimator; :class:`sfmts.SFMDensity` has "predict_proba" alone.

    Returns
    -------
    predictions : list of n arrays
        Probabilities have a column for each class that is in any training part, in sorted order.

    Warns
    -----
    RuntimeWarning
        If a training part lacks one of them: by it, its probability is 0.

    Raises
    ------
    ValueError
        If the test parts are no partition of the series.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts import SFMLabeler
    >>> from sfmts.model_selection import cross_val_predict
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(length, 1)) for length in (5, 6, 7, 8)]
    >>> y = [(x[:, 0] > 0).astype(int) for x in X]
    >>> found = cross_val_predict(SFMLabeler(n_states=4, max_iter=2, random_state=0), X, y, cv=2)
    >>> [len(labels) for labels in found]
    [5, 6, 7, 8]
    """
    check_choice("method", method, METHODS)
    splits = list(check_cv(cv).split(np.zeros(len(X)), None, groups))
    tested = np.concatenate([test for _, test in splits])
    if not np.array_equal(np.sort(tested), np.arange(len(X))):
        raise ValueError(f"cv must put each of the {len(X)} series into exactly one test part; it tests {tested}.")
    parts = Parallel(n_jobs=n_jobs)(
        delayed(_fit_and_predict)(clone(estimator), X, y, train, test, method) for train, test in splits
    )
    classes = None
    if method != "predict" and all(known is not None for _, known in parts):
        classes = np.unique(np.concatenate([known for _, known in parts]))
    predictions: list[Any] = [None] * len(X)
    for (_, test), (part, known) in zip(splits, parts, strict=True):
        if classes is not None and len(known) < len(classes):
            part = _for_all_classes(part, known, classes, -np.inf if method == "predict_log_proba" else 0.0)
        for number, prediction in zip(test, part, strict=True):
            predictions[number] = prediction
    return predictions


def _fit_and_predict(estimator: Any, X: Any, y: Any, train: Any, test: Any, method: str) -> tuple[Any, Any]:
    """Predictions, and the classes whose order they have, if there are any."""
    estimator.fit(_safe_indexing(X, train), None if y is None else _safe_indexing(y, train))
    return getattr(estimator, method)(_safe_indexing(X, test)), getattr(estimator, "classes_", None)


def _for_all_classes(part: Any, known: Any, classes: Any, absent: float) -> list[Any]:
    """A column for each class in predictions that have some of them."""
    missing = np.setdiff1d(classes, known).tolist()
    warnings.warn(
        f"A training part has no {', '.join(map(repr, missing))}: predictions by it say that they never come. Use "
        "stratified folds, or fewer.",
        RuntimeWarning,
        stacklevel=3,
    )
    columns = np.searchsorted(classes, known)
    result = []
    for prediction in part:
        whole = np.full((*prediction.shape[:-1], len(classes)), absent, dtype=prediction.dtype)
        whole[..., columns] = prediction
        result.append(whole)
    return result
