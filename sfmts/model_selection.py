"""Cross-validation for estimators whose predictions are lists, one array for each series."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing

from sfmts._choices import check_choice

__all__ = ["cross_val_predict"]

METHODS = ("predict", "predict_proba", "predict_log_proba")


def __dir__() -> list[str]:
    return [*__all__]


def cross_val_predict(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    cv: Any = None,
    n_jobs: int | None = None,
    method: str = "predict",
    params: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Return predictions for each series by an estimator that was fitted without it.

    :func:`sklearn.model_selection.cross_val_predict` concatenates predictions to one array, which fails for series of
    unequal length. This function returns a list. (`GridSearchCV` and `cross_val_score` work with series as they are.)

    Parameters
    ----------
    estimator : estimator
        Estimator to clone and fit, such as :class:`sfmts.SFMLabeler` or :class:`sfmts.SFMDensity`.
    X : list of n arrays of shape (T_i, C), or array of shape (n, T, C)
        Series in any format of the estimator. For the estimators of :mod:`sfmts.sktime` this may be a data frame with
        a row MultiIndex whose last level is time.
    y : list of n arrays of shape (T_i,), or array of shape (n, T) or (n,), optional
        Labels per step or per series.
    groups : array-like of shape (n,), optional
        Group of each series, such as its speaker. Group splitters do not divide a group between training and test.
    cv : int, splitter or iterable of (train, test), optional
        Folds; 5 by default. Each series must be in exactly one test part. If the estimator is a classifier and y
        holds one label per series, an integer gives stratified folds, as in scikit-learn.
    n_jobs : int, optional
        Number of fits in parallel.
    method : {"predict", "predict_proba", "predict_log_proba"}, default="predict"
        Method of the estimator to call. :class:`sfmts.SFMDensity` has only "predict_proba".
    params : dict, optional
        Arguments of the estimator's ``fit``, such as ``sample_weight``. Those with one entry per series are split like
        X. With ``enable_metadata_routing=True``, they are routed to ``fit`` and to the splitter, as in
        :func:`sklearn.model_selection.cross_val_predict`.

    Returns
    -------
    predictions : list of n arrays
        Predictions for each series. Probabilities have a column for each class of any training part, in sorted order.

    Raises
    ------
    ValueError
        If the test parts are not a partition of the series, y or groups does not have one entry per series, or groups
        is given while metadata routing is enabled.

    Warns
    -----
    RuntimeWarning
        If a training part lacks one of these classes, whose predicted probability is then 0.

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
    n = _n_series(X)
    for name, value in (("y", y), ("groups", groups)):
        if value is not None and _n_series(value) != n:
            raise ValueError(f"X holds {n} series, but {name} holds {_n_series(value)} entries. Give one per series.")
    fit_params, split_params = _route(estimator, cv, groups, params or {})
    folds = check_cv(cv, y if _has_one_label_each(y) else None, classifier=is_classifier(estimator))
    # Splitters need one row per series, which a data frame with a MultiIndex does not have.
    rows, targets = (np.zeros((n, 1)) if _instances(value) is not None else value for value in (X, y))
    splits = list(folds.split(rows, targets, **split_params))
    tested = np.concatenate([test for _, test in splits])
    if not np.array_equal(np.sort(tested), np.arange(n)):
        raise ValueError(f"cv must put each of the {n} series into exactly one test part, but tests {tested}.")
    parts = Parallel(n_jobs=n_jobs)(
        delayed(_fit_and_predict)(clone(estimator), X, y, train, test, method, fit_params) for train, test in splits
    )
    classes = None
    if method != "predict" and all(known is not None for _, known in parts):
        classes = np.unique(np.concatenate([known for _, known in parts]))
    predictions: list[Any] = [None] * n
    for (_, test), (part, known) in zip(splits, parts, strict=True):
        if classes is not None and len(known) < len(classes):
            part = _for_all_classes(part, known, classes, -np.inf if method == "predict_log_proba" else 0.0)
        for number, prediction in zip(test, part, strict=True):
            predictions[number] = prediction
    return predictions


def _route(estimator: Any, cv: Any, groups: Any, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of the estimator's ``fit`` and of the splitter's ``split``."""
    if not get_config()["enable_metadata_routing"]:
        return dict(params), {"groups": groups}
    if groups is not None:
        raise ValueError(
            "groups cannot be passed if metadata routing is enabled. Pass params={'groups': groups} instead."
        )
    router = MetadataRouter(owner="cross_val_predict")
    router.add(splitter=cv, method_mapping=MethodMapping().add(caller="fit", callee="split"))
    router.add(estimator=estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
    routed = process_routing(router, "fit", **params)
    return routed.estimator.fit, routed.splitter.split


def _has_one_label_each(y: Any) -> bool:
    """Return whether y holds one label per series, instead of one per step or several."""
    if y is None or _instances(y) is not None:
        return False
    shape: tuple[int, ...] = getattr(y, "shape", (len(y),))
    if len(shape) == 1:
        return not any(np.ndim(label) for label in y)
    return len(shape) == 2 and shape[1] == 1


def _instances(values: Any) -> NDArray[np.intp] | None:
    """Return the number of each row's series in a data frame with a row MultiIndex; None for other containers."""
    index = getattr(values, "index", None)
    if getattr(index, "nlevels", 1) < 2:
        return None
    numbers: NDArray[np.intp] = index.droplevel(-1).factorize()[0]  # type: ignore[union-attr]
    return numbers


def _n_series(values: Any) -> int:
    """Return the number of series of a container."""
    numbers = _instances(values)
    return len(values) if numbers is None else int(numbers.max(initial=-1)) + 1


def _take(values: Any, index: Any) -> Any:
    """Return the series numbered ``index``, in that order."""
    numbers = _instances(values)
    if numbers is None:
        return _safe_indexing(values, index)
    order = np.argsort(numbers, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    index = np.arange(len(rows_of))[index]
    return values.iloc[np.concatenate([rows_of[number] for number in index])]


def _take_params(params: Mapping[str, Any], n: int, index: Any) -> dict[str, Any]:
    """Return the arguments of ``fit``, and select the series numbered ``index`` in those with one entry per series."""

    def is_divided(value: Any) -> bool:
        sized = isinstance(value, list | tuple) or len(getattr(value, "shape", ())) > 0
        return sized and _n_series(value) == n

    return {name: _take(value, index) if is_divided(value) else value for name, value in params.items()}


def _fit_and_predict(
    estimator: Any, X: Any, y: Any, train: Any, test: Any, method: str, params: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Return predictions and the estimator's classes, which are None if it has none."""
    estimator.fit(_take(X, train), None if y is None else _take(y, train), **_take_params(params, _n_series(X), train))
    return getattr(estimator, method)(_take(X, test)), getattr(estimator, "classes_", None)


def _for_all_classes(part: Any, known: Any, classes: Any, absent: float) -> list[Any]:
    """Return predictions with a column for each class; missing columns are filled with ``absent``."""
    missing = np.setdiff1d(classes, known).tolist()
    warnings.warn(
        f"A training part has no series of the classes {', '.join(map(repr, missing))}, so their predicted probability "
        "is 0. Use stratified folds, or fewer.",
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
