"""Use the estimators of sfmts as classifiers, regressors and transformers of sktime.

The classes here do what the classes of the same names in :mod:`sfmts` do. They take every panel format of sktime; a
three-dimensional array is (instances, channels, time). They also work in scikit-learn's searches and pipelines.
Classifiers and regressors read a two-dimensional array as (instances, time). All classes need sktime:
``pip install ".[forecasting]"``.
"""

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.metrics import r2_score
from sklearn.utils import Tags
from sklearn.utils.validation import column_or_1d

from sfmts import estimators
from sfmts._batch import unbatch
from sfmts._compat import CallbackSupportMixin, known_tags
from sfmts._validation import as_batch, as_labels, as_numbers, check_channel_names
from sfmts.estimators._base import fitting
from sfmts.estimators._parameters import documented, store_parameters

try:
    import pandas as pd
    from sktime.base import BaseEstimator as SktimeBaseEstimator
    from sktime.classification.base import BaseClassifier
    from sktime.datatypes import convert_to
    from sktime.exceptions import NotFittedError as SktimeNotFittedError
    from sktime.regression.base import BaseRegressor
    from sktime.transformations.base import BaseTransformer
except ModuleNotFoundError as error:
    how = 'pip install ".[forecasting]" in a checkout of sfmts'
    raise ModuleNotFoundError(f"sfmts.sktime needs sktime: {how}", name=error.name) from error

__all__ = ["SFMClassifier", "SFMFeatures", "SFMRegressor", "SFMRidgeClassifier", "SFMRidgeRegressor"]

# scikit-learn's marks on an estimator, which are neither parameters nor results of a fit.
_CALLBACK_MARKS = ("_skl_callbacks", "_parent_callback_ctx")
_OUTLIVE_RESET = (*_CALLBACK_MARKS, "_metadata_request", "_fit_arguments")


Class = TypeVar("Class", bound=type)


def _face_of(native: type[BaseEstimator]) -> Callable[[Class], Class]:
    """Return a class decorator that gives an sktime estimator the parameters of a native one, except ``layout``."""
    signature = inspect.signature(native.__init__)
    signature = signature.replace(parameters=[p for p in signature.parameters.values() if p.name != "layout"])

    def decorate(cls: Class) -> Class:
        def __init__(self: Any, *arguments: Any, **options: Any) -> None:  # noqa: N807
            try:
                bound = signature.bind(self, *arguments, **options)
            except TypeError as error:
                raise TypeError(f"{cls.__name__}.__init__() {error}") from None
            bound.apply_defaults()
            store_parameters(self, bound.arguments)
            super(cls, self).__init__()  # type: ignore[arg-type]
            self._forget_placeholders()

        __init__.__signature__ = signature  # type: ignore[attr-defined]
        __init__.__module__, __init__.__qualname__ = cls.__module__, f"{cls.__qualname__}.__init__"
        __init__.__annotations__ = dict(native.__init__.__annotations__)
        __init__.__annotations__.pop("layout")
        cls.__init__, cls._native = __init__, native  # type: ignore[misc, attr-defined]
        return documented(native._parameter_variant)(cls)

    return decorate


class NotFittedError(SktimeNotFittedError, SklearnNotFittedError):
    """Raised before ``fit``; whoever catches sktime's error or scikit-learn's gets it."""


class _Adapter(SktimeBaseEstimator):
    """Make the state of an sktime estimator visible to scikit-learn; sktime's base comes behind this class."""

    _tags: ClassVar[dict[str, Any]] = known_tags(
        {
            "authors": "sfmts developers",
            "maintainers": "sfmts developers",
            "python_dependencies": ["torch"],
            "X_inner_mtype": ["df-list", "numpy3D"],  # arrays stay arrays, other formats may have unequal lengths
            "capability:multivariate": True,
            "capability:unequal_length": True,
            "capability:categorical_in_X": False,
            "capability:random_state": True,
            "property:randomness": "derandomized",
        }
    )

    _native: ClassVar[type[BaseEstimator]]
    estimator_: Any
    n_channels_in_: int

    def _forget_placeholders(self) -> None:
        """Remove what sktime's constructors set and scikit-learn would take for results of a fit."""
        for name in ("classes_", "n_classes_", "fit_time_"):
            self.__dict__.pop(name, None)

    def _new_native(self) -> Any:
        """Return the native estimator with the parameters of this one."""
        return self._native(layout="nct", **self.get_params(deep=False))

    def _series(self, X: Any, reset: bool = False) -> Any:
        """Convert a panel of an inner format to what native estimators with ``layout="nct"`` take."""
        if isinstance(X, np.ndarray):
            return X
        check_channel_names(self, X, reset)
        return [np.ascontiguousarray(_frame_values(series).T) for series in X]

    def _check_channels(self, X: Any, channels: int) -> None:
        if channels == self.n_channels_in_:
            return
        message = f"X has {channels} channels, but {type(self).__name__} was fitted with {self.n_channels_in_}."
        if isinstance(X, np.ndarray) and X.shape[2] == self.n_channels_in_:
            message += " The other axis of X would match: sktime's order is (instances, channels, time)."
        raise ValueError(message)

    def reset(self) -> Self:
        """Remove what was fitted, and keep parameters, configuration and callbacks.

        Returns
        -------
        self
            The fitted estimator.
        """
        kept = {name: self.__dict__[name] for name in _OUTLIVE_RESET if name in self.__dict__}
        super().reset()
        self.__dict__.update(kept)
        return self

    def check_is_fitted(self, method_name: str | None = None) -> None:
        """Raise an error that both libraries know if ``fit`` has not been called.

        Parameters
        ----------
        method_name : str, optional
            What needs it.

        Raises
        ------
        NotFittedError
        """
        try:
            super().check_is_fitted(method_name)
        except SktimeNotFittedError as error:
            raise NotFittedError(str(error)) from None

    def __sklearn_is_fitted__(self) -> bool:
        return bool(self.is_fitted)

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.get_tag("capability:missing_values")
        return tags


class _Face(_Adapter, ABC):
    """Connect sktime's base of classifiers or regressors, which comes behind this class, to a native estimator."""

    _tags: ClassVar[dict[str, Any]] = known_tags({"capability:sample_weight": True})

    METADATA_REQ_IN_CHECKS: ClassVar[list[str]] = [*BaseClassifier.METADATA_REQ_IN_CHECKS, "n_features"]

    @abstractmethod
    def _as_targets(self, y: NDArray[Any]) -> NDArray[Any]:
        """Return y in a format of sktime that the native estimator takes."""

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to series with known targets.

        Parameters
        ----------
        X : panel of n series in any format of sktime, or array of shape (n, T)
            For example an array of shape (n, C, T), a list of n data frames of shape (T_i, C), one data frame with a
            row MultiIndex, or a nested data frame. The time index is ignored: steps are one unit of time apart.
        y : array-like of shape (n,) or (n, n_targets), or table of sktime
            The targets.
        sample_weight : array-like of shape (n,), optional
            How much each series counts; 0 leaves it out.

        Returns
        -------
        self
            An interrupt (Ctrl-C) ends the training of a network and keeps what it has learned so far.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid. A previous fit is kept.
        """
        with fitting(self):
            if y is None:
                raise ValueError("This estimator requires y to be passed, but the target y is None.")
            if not _is_sktime_table(y):
                y = self._as_targets(np.asarray(y))
            # sktime's fit resets, checks and calls _fit, but it does not pass on any further arguments.
            self._fit_arguments = (self._new_native(), sample_weight)
            super().fit(X, y)
            del self._fit_arguments
        return self

    def _fit(self, X: Any, y: NDArray[Any]) -> Self:
        estimator, sample_weight = self._fit_arguments
        self.estimator_ = estimator.fit(self._series(X, reset=True), y, sample_weight=sample_weight)
        return self

    def _predict(self, X: Any) -> NDArray[Any]:
        y: NDArray[Any] = self.estimator_.predict(self._series(X))
        return y

    def _internal_convert(self, X: Any, y: Any = None) -> Any:
        if not _is_sktime_panel(X):
            missing = self.get_tag("capability:missing_values")
            batch = as_batch(X, self, reset=y is not None, layout="ntc", allow_missing=missing)
            if batch.form != "list" and not batch.is_ragged:
                X = unbatch(batch, batch.values).transpose(0, 2, 1)
            else:  # rows of a table are of unequal length once missing values at their ends are cut off
                X = [pd.DataFrame(steps) for steps in unbatch(replace(batch, form="list"), batch.values)]
        return X if y is None else (X, y)

    def _as_native(self, X: Any) -> Any:
        """Convert series in any format to what ``estimator_`` takes."""
        X = convert_to(self._internal_convert(X), self.get_tag("X_inner_mtype"))
        return self._series(X)

    def _check_input(self, X: Any, y: Any = None, *arguments: Any, **options: Any) -> dict[str, Any]:
        metadata: dict[str, Any] = super()._check_input(X, y, *arguments, **options)
        channels = metadata["n_features"]
        if y is not None:
            self.n_channels_in_ = channels
        self._check_channels(X, channels)
        return metadata


class _ClassifierFace(_Face):
    """Add what all classifiers share."""

    _tags: ClassVar[dict[str, Any]] = known_tags({"capability:predict_proba": True, "capability:class_weight": True})
    classes_: NDArray[Any]

    def _as_targets(self, y: NDArray[Any]) -> NDArray[Any]:
        if y.ndim == 2 and y.shape[1] > 1:
            return y  # the classifier of each column checks its labels
        labels: NDArray[Any] = column_or_1d(y, warn=True)
        as_labels(labels, len(labels))  # raises an error if they are invalid
        return labels

    def _vectorize(self, methodname: str, **arguments: Any) -> Any:
        if methodname == "fit" and self._fit_arguments[1] is not None:
            raise ValueError(
                "sample_weight was passed with several columns of labels; fit one classifier for each column instead."
            )
        return super()._vectorize(methodname, **arguments)

    def _predict_proba(self, X: Any) -> NDArray[Any]:
        p: NDArray[Any] = self.estimator_.predict_proba(self._series(X))
        return p

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy of :meth:`predict`.

        Parameters
        ----------
        X : panel of n series in any format of sktime, or array of shape (n, T)
            The series.
        y : array-like of shape (n,)
            The targets.
        sample_weight : array-like of shape (n,), optional
            Weight of each series; 0 leaves it out.

        Returns
        -------
        score : float
            The score; greater is better.
        """
        return float(ClassifierMixin.score(self, X, y, sample_weight=sample_weight))


class _RegressorFace(_Face):
    """Add what all regressors share."""

    _tags: ClassVar[dict[str, Any]] = known_tags({"capability:multioutput": True, "y_inner_mtype": "numpy2D"})

    def _as_targets(self, y: NDArray[Any]) -> NDArray[Any]:
        return as_numbers(y, np.size(y, axis=0) if y.ndim else 1)[0]

    def _fit(self, X: Any, y: NDArray[Any]) -> Self:
        return super()._fit(X, y[:, 0] if y.shape[1] == 1 else y)

    def score(
        self, X: Any, y: Any, multioutput: ArrayLike | str = "uniform_average", sample_weight: ArrayLike | None = None
    ) -> Any:
        """Return R^2 of :meth:`predict`.

        Parameters
        ----------
        X : panel of n series in any format of sktime, or array of shape (n, T)
            The series.
        y : array-like of shape (n,) or (n, n_targets)
            The targets.
        multioutput : {"uniform_average", "raw_values", "variance_weighted"} or array-like, default="uniform_average"
            How to combine the scores of several targets, as in :func:`sklearn.metrics.r2_score`.
        sample_weight : array-like of shape (n,), optional
            Weight of each series; 0 leaves it out.

        Returns
        -------
        score : float or, with "raw_values", ndarray of shape (n_targets,)
            The score; greater is better.
        """
        y_pred = self.predict(X)
        return r2_score(y, y_pred, sample_weight=sample_weight, multioutput=multioutput)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.target_tags.multi_output = True
        return tags


class _TrainedFace(CallbackSupportMixin, _Face):
    """Add what all trained networks share: warm starts, callbacks and a number of iterations."""

    _tags: ClassVar[dict[str, Any]] = known_tags({"capability:missing_values": False})
    n_iter_: int
    warm_start: bool

    def _new_native(self) -> Any:
        if not self.warm_start or not hasattr(self, "estimator_"):
            return super()._new_native()
        return copy.copy(self.estimator_).set_params(**self.get_params(deep=False))

    def _fit(self, X: Any, y: NDArray[Any]) -> Self:
        estimator = self._fit_arguments[0]
        marks = {name: self.__dict__[name] for name in _CALLBACK_MARKS if name in self.__dict__}
        estimator.__dict__.update(marks)
        try:
            super()._fit(X, y)
        finally:
            for name in marks:
                del estimator.__dict__[name]
        self.n_iter_ = estimator.n_iter_
        return self


class _RidgeFace(_Face):
    """Add what both ridge estimators share."""

    _tags: ClassVar[dict[str, Any]] = known_tags({"capability:missing_values": True, "capability:multithreading": True})

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for sktime's suite.

        Parameters
        ----------
        parameter_set : str, default="default"
            There is only this one.

        Returns
        -------
        params : list of dict
            Parameters of instances.
        """
        return _bank_test_params()


def _is_sktime_panel(X: Any) -> bool:
    """Return whether sktime reads X, or refuses it; otherwise X is a table of n series of one channel."""
    if isinstance(X, pd.DataFrame):
        return isinstance(X.index, pd.MultiIndex) or any(dtype.kind == "O" for dtype in X.dtypes)
    if isinstance(X, list | tuple):
        return len(X) > 0 and np.ndim(X[0]) > 1
    if type(X).__module__.partition(".")[0] in ("dask", "gluonts", "polars"):
        return True
    return getattr(X, "ndim", 2) > 2 or (getattr(X, "ndim", 2) == 1 and X.dtype == object)


def _is_sktime_table(y: Any) -> bool:
    """Return whether y is one of sktime's tables of targets, other than an array or a Series."""
    return hasattr(y, "columns") or (isinstance(y, list) and len(y) > 0 and isinstance(y[0], dict))


def _frame_values(frame: pd.DataFrame) -> NDArray[Any]:
    values: NDArray[Any] = frame.to_numpy()
    if values.dtype == object:  # nullable columns, whose missing values are pd.NA
        values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return values


@_face_of(estimators.SFMClassifier)
class SFMClassifier(
    _TrainedFace, _ClassifierFace, BaseClassifier, ClassifierMixin, BaseEstimator
):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Classify whole series with a fixed memory and a trained network beside it, as an sktime classifier.

    Several columns of labels are learned by one classifier each.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    estimator_ : sfmts.SFMClassifier
        The trained classifier, with all that it offers, such as ``state_amplitudes``, ``predict_log_proba``, ``save``
        and ``loss_curve_``. It has ``layout="nct"``: it takes arrays as this one does. There is none if y held one
        class only, nor with several columns of labels, of which each has an entry in ``classifiers_``.
    classes_ : ndarray of shape (n_classes,)
    n_classes_ : int
    n_channels_in_, n_iter_ : int
        As in :class:`sfmts.SFMClassifier`.
    n_features_in_ : int
        Length of the series; only if X was two-dimensional.
    fit_time_ : int
        In milliseconds.

    See Also
    --------
    sfmts.SFMClassifier : The same for scikit-learn alone, with axes in the order series, time, channels.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017.

    Examples
    --------
    >>> from sktime.datasets import load_unit_test
    >>> from sfmts.sktime import SFMClassifier
    >>> X, y = load_unit_test(split="train", return_type="numpy3D")
    >>> X.shape
    (20, 1, 24)
    >>> model = SFMClassifier(random_state=0).fit(X, y)
    >>> X_test, y_test = load_unit_test(split="test", return_type="df-list")
    >>> model.predict(X_test).shape
    (22,)
    >>> model.estimator_.network_used_  # 20 series are too few to train a network
    False
    """

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for sktime's suite.

        Parameters
        ----------
        parameter_set : str, default="default"
            There is only this one.

        Returns
        -------
        params : list of dict
            Parameters of instances.
        """
        return _test_params()


@_face_of(estimators.SFMRegressor)
class SFMRegressor(
    _TrainedFace, _RegressorFace, BaseRegressor, RegressorMixin, BaseEstimator
):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Predict numbers of whole series with a fixed memory and a trained network beside it, as an sktime regressor.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    estimator_ : sfmts.SFMRegressor
        The trained regressor, with all that it offers, such as ``state_amplitudes``, ``save`` and ``loss_curve_``. It
        has ``layout="nct"``: it takes arrays as this one does.
    n_channels_in_, n_iter_ : int
        As in :class:`sfmts.SFMClassifier`.
    n_features_in_ : int
        Length of the series; only if X was two-dimensional.
    fit_time_ : int
        In milliseconds.

    See Also
    --------
    sfmts.SFMRegressor : The same for scikit-learn alone, with axes in the order series, time, channels.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts.sktime import SFMRegressor
    >>> rng = np.random.default_rng(0)
    >>> period = rng.uniform(5, 15, size=60)
    >>> X = np.sin(2 * np.pi * np.arange(40) / period[:, None])[:, None, :]
    >>> X.shape
    (60, 1, 40)
    >>> model = SFMRegressor(random_state=0).fit(X[:50], period[:50])
    >>> model.score(X[50:], period[50:]) > 0.9
    True
    """

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for sktime's suite.

        Parameters
        ----------
        parameter_set : str, default="default"
            There is only this one.

        Returns
        -------
        params : list of dict
            Parameters of instances.
        """
        return _test_params()


@_face_of(estimators.SFMRidgeClassifier)
class SFMRidgeClassifier(
    _RidgeFace, _ClassifierFace, BaseClassifier, ClassifierMixin, BaseEstimator
):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Classify time series with a fixed State-Frequency Memory and ridge regression, as an sktime classifier.

    The series drive a bank of damped oscillators with random periods and decay times. Ridge regression on summaries of
    the oscillators decides. Only the ridge regression is fitted, which takes seconds. Series may have unequal lengths
    and missing values (NaN). Several columns of labels are learned by one classifier each.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    estimator_ : sfmts.SFMRidgeClassifier
        The fitted classifier with all its methods and results, such as ``decision_function``, ``predict_log_proba``,
        ``feature_info_``, ``leave_one_out_score_`` and ``save``. It takes arrays of shape (n, C, T). It is missing if
        y held a single class, and with several columns of labels, whose classifiers are in ``classifiers_``.
    classes_ : ndarray of shape (n_classes,)
    n_classes_ : int
    n_channels_in_ : int
    n_features_in_ : int
        Length of the series; only if X was two-dimensional.
    fit_time_ : int
        In milliseconds.

    See Also
    --------
    SFMFeatures : The features alone.
    SFMClassifier : A trained network.
    sfmts.SFMRidgeClassifier : The same classifier for scikit-learn, with axes in the order series, time, channels.

    Examples
    --------
    >>> from sktime.datasets import load_unit_test
    >>> from sfmts.sktime import SFMRidgeClassifier
    >>> X, y = load_unit_test(split="train", return_type="numpy3D")
    >>> X[3, 0, 10:14] = float("nan")  # a gap
    >>> model = SFMRidgeClassifier(n_features=1000, random_state=0).fit(X, y)
    >>> X_test, y_test = load_unit_test(split="test", return_type="df-list")
    >>> model.predict_proba(X_test).shape
    (22, 2)
    """


@_face_of(estimators.SFMRidgeRegressor)
class SFMRidgeRegressor(
    _RidgeFace, _RegressorFace, BaseRegressor, RegressorMixin, BaseEstimator
):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Predict numbers of time series with a fixed State-Frequency Memory and ridge regression, as an sktime regressor.

    The series drive a bank of damped oscillators with random periods and decay times. Ridge regression on summaries of
    the oscillators predicts one or several numbers. Only the ridge regression is fitted, which takes seconds. Series
    may have unequal lengths and missing values (NaN).

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    estimator_ : sfmts.SFMRidgeRegressor
        The fitted regressor with all its methods and results, such as ``coef_``, ``feature_info_``,
        ``leave_one_out_score_`` and ``save``. It takes arrays of shape (n, C, T).
    n_channels_in_ : int
    n_features_in_ : int
        Length of the series; only if X was two-dimensional.
    fit_time_ : int
        In milliseconds.

    See Also
    --------
    SFMFeatures : The features alone.
    SFMRegressor : A trained network.
    sfmts.SFMRidgeRegressor : The same regressor for scikit-learn, with axes in the order series, time, channels.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts.sktime import SFMRidgeRegressor
    >>> rng = np.random.default_rng(0)
    >>> period = rng.uniform(5, 15, size=60)
    >>> X = np.sin(2 * np.pi * np.arange(40) / period[:, None] + rng.uniform(0, 6, size=(60, 1)))[:, None, :]
    >>> X.shape
    (60, 1, 40)
    >>> model = SFMRidgeRegressor(n_features=1000, random_state=0).fit(X[:50], period[:50])
    >>> model.score(X[50:], period[50:]) > 0.9
    True
    """


@_face_of(estimators.SFMFeatures)
class SFMFeatures(_Adapter, BaseTransformer, TransformerMixin, BaseEstimator):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Turn time series into features with a fixed State-Frequency Memory, as an sktime transformer.

    The series drive a bank of damped oscillators with random periods and decay times; nothing in it is trained. Each
    oscillator gives seven features. A linear model that reads them is a strong classifier, see
    :class:`SFMRidgeClassifier`. Series may have unequal lengths and missing values (NaN).

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    estimator_ : sfmts.SFMFeatures
        The fitted transformer with all its methods and results, such as ``feature_info_``, ``stream`` and ``save``. It
        takes arrays of shape (n, C, T).
    n_channels_in_ : int

    See Also
    --------
    SFMRidgeClassifier, SFMRidgeRegressor : These features read by ridge regression.
    sfmts.SFMFeatures : The same transformer for scikit-learn, with axes in the order series, time, channels.

    Examples
    --------
    >>> from sklearn.linear_model import RidgeClassifierCV
    >>> from sktime.datasets import load_unit_test
    >>> from sfmts.sktime import SFMFeatures
    >>> X, y = load_unit_test(split="train", return_type="numpy3D")
    >>> features = SFMFeatures(n_features=560, random_state=0).fit_transform(X)
    >>> features.shape
    (20, 560)

    A pipeline of sktime:

    >>> model = SFMFeatures(n_features=560, random_state=0) * RidgeClassifierCV()
    >>> X_test, y_test = load_unit_test(split="test", return_type="numpy3D")
    >>> model.fit(X, y).predict(X_test).shape
    (22,)
    """

    _tags: ClassVar[dict[str, Any]] = known_tags(
        {
            "scitype:transform-input": "Series",
            "scitype:transform-output": "Primitives",
            "scitype:instancewise": False,  # scales and thresholds are those of all training series
            "y_inner_mtype": "None",
            "fit_is_empty": False,
            "capability:unequal_length:removes": True,
            "capability:missing_values": True,
            "capability:missing_values:removes": True,
        }
    )

    def fit(self, X: Any, y: Any = None) -> Self:
        """Draw the bank, and fit its scales and thresholds to series.

        Parameters
        ----------
        X : panel of n series in any format of sktime
            For example an array of shape (n, C, T), a list of n data frames of shape (T_i, C), one data frame with a
            row MultiIndex, or a nested data frame. A two-dimensional array or a data frame with a plain index is one
            series of shape (T, C). The time index is ignored: steps are one unit of time apart. NaN is missing.
        y : ignored
            Not used.

        Returns
        -------
        self : SFMFeatures
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If X or a parameter is invalid. A previous fit is kept.
        """
        with fitting(self):
            super().fit(X, y)
        return self

    def _fit(self, X: Any, y: None = None) -> Self:
        self.estimator_ = self._new_native().fit(self._series(X, reset=True))
        self.n_channels_in_ = self.estimator_.n_channels_in_
        return self

    # Defined here, so that scikit-learn's set_output applies.
    def transform(self, X: Any, y: Any = None) -> pd.DataFrame:
        """Return the features of each series.

        Parameters
        ----------
        X : panel of n series in any format of sktime
            As in :meth:`fit`.
        y : ignored
            Not used.

        Returns
        -------
        features : pd.DataFrame of shape (n, n_features), float32
            One row for each series, in the order of X; the names of the features are its columns.
        """
        return super().transform(X, y)

    def _transform(self, X: Any, y: None = None) -> pd.DataFrame:
        self._check_channels(X, X[0].shape[0 if isinstance(X, np.ndarray) else 1])
        return pd.DataFrame(self.estimator_.transform(self._series(X)), columns=self.get_feature_names_out())

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the features, which are the columns of what :meth:`transform` returns.

        Parameters
        ----------
        input_features : ignored
            Not used.

        Returns
        -------
        names : ndarray of str
            Names.
        """
        self.check_is_fitted()
        names: NDArray[np.object_] = self.estimator_.get_feature_names_out()
        return names

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for sktime's suite.

        Parameters
        ----------
        parameter_set : str, default="default"
            There is only this one.

        Returns
        -------
        params : list of dict
            Parameters of instances.
        """
        return _bank_test_params()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


def _test_params() -> list[dict[str, Any]]:
    """Return the parameters of small networks that train in different ways."""
    small = {"n_states": 4, "n_frequencies": 2, "max_iter": 3, "device": "cpu"}
    other = {"base": None, "network": "gru", "bidirectional": True, "pooling": "mean", "optimizer": "sgd"}
    return [small, {**small, **other}]


def _bank_test_params() -> list[dict[str, Any]]:
    """Return the parameters of small banks that read series in different ways."""
    return [{"n_features": 56}, {"n_features": 112, "directions": "forward", "scale": "both", "n_jobs": 1}]
