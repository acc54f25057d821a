"""The estimators with sktime's interface: any of its panel formats in, its checks and its conventions kept.

The classes here do what :class:`sfmts.SFMClassifier` and :class:`sfmts.SFMRegressor` do, on data in sktime's order: a
three-dimensional array is (instances, channels, time).  They work in scikit-learn's searches and pipelines as well, for
which a two-dimensional array is (instances, time).  All need sktime: ``pip install ".[forecasting]"``.
"""

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.metrics import r2_score
from sklearn.utils import Tags
from sklearn.utils.validation import column_or_1d

from sfmts import estimators
from sfmts.batch import as_batch, as_labels, as_numbers, unbatch
from sfmts.estimators._base import SequenceEstimator, fitting

try:
    import pandas as pd
    from sktime.classification.base import BaseClassifier
    from sktime.exceptions import NotFittedError as SktimeNotFittedError
    from sktime.regression.base import BaseRegressor
except ModuleNotFoundError as error:
    how = 'pip install ".[forecasting]" in a checkout of sfmts'
    raise ModuleNotFoundError(f"sfmts.sktime needs sktime: {how}", name=error.name) from error

__all__ = ["SFMClassifier", "SFMRegressor"]

# scikit-learn's marks on an estimator, which are neither parameters nor results of a fit.
_CALLBACK_MARKS = ("_skl_callbacks", "_parent_callback_ctx")
_OUTLIVE_RESET = (*_CALLBACK_MARKS, "_metadata_request", "_fit_arguments")


class NotFittedError(SktimeNotFittedError, SklearnNotFittedError):
    """Raised before ``fit``; whoever catches sktime's error or scikit-learn's gets it."""


class _Face(CallbackSupportMixin, ABC):
    """What lies between sktime's boilerplate, which comes behind this class, and a native estimator."""

    _tags: ClassVar[dict[str, Any]] = {
        "authors": "sfmts developers",
        "maintainers": "sfmts developers",
        "python_dependencies": ["torch"],
        "X_inner_mtype": ["df-list", "numpy3D"],  # arrays stay arrays, all else may be of unequal length
        "capability:multivariate": True,
        "capability:unequal_length": True,
        "capability:missing_values": False,
        "capability:categorical_in_X": False,
        "capability:sample_weight": True,
        "capability:random_state": True,
        "property:randomness": "derandomized",
    }

    METADATA_REQ_IN_CHECKS: ClassVar[list[str]] = [*BaseClassifier.METADATA_REQ_IN_CHECKS, "n_features"]

    _native: ClassVar[type[SequenceEstimator]]
    estimator_: Any
    n_channels_in_: int
    n_iter_: int
    warm_start: bool

    @abstractmethod
    def _as_targets(self, y: NDArray[Any]) -> NDArray[Any]:
        """Targets that the native estimator takes, in a format of sktime's."""

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Train on series with known targets.

        Parameters
        ----------
        X : panel of n series in any format of sktime, or array of shape (n, T)
            Such as an array of shape (n, C, T), a list of n data frames of shape (T_i, C), one data frame with a row
            MultiIndex, or a nested data frame.  A time index is not read; steps are taken to follow one another.
        y : array-like of shape (n,) or (n, n_targets), or table of sktime
        sample_weight : array-like of shape (n,), optional
            How much each series counts; 0 is as if it were not there.

        Returns
        -------
        self
            An interrupt (Ctrl-C) ends training and keeps what has been learned so far.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter will not do.  An earlier fit stays usable.
        """
        with fitting(self):
            if y is None:
                raise ValueError("This estimator requires y to be passed, but the target y is None.")
            if not _is_sktime_table(y):
                y = self._as_targets(np.asarray(y))
            previous = getattr(self, "estimator_", None) if self.warm_start else None
            self._fit_arguments = (previous, sample_weight)
            super().fit(X, y)  # sktime's, which resets, checks and calls _fit
            del self._fit_arguments
        return self

    def _fit(self, X: Any, y: NDArray[Any]) -> Self:
        previous, sample_weight = self._fit_arguments
        estimator = self._native(layout="nct") if previous is None else copy.copy(previous)
        estimator.set_params(**self.get_params(deep=False))
        marks = {name: self.__dict__[name] for name in _CALLBACK_MARKS if name in self.__dict__}
        estimator.__dict__.update(marks)
        try:
            estimator.fit(_as_series(X), y, sample_weight=sample_weight)
        finally:
            for name in marks:
                del estimator.__dict__[name]
        self.estimator_ = estimator
        self.n_iter_ = estimator.n_iter_
        return self

    def _predict(self, X: Any) -> NDArray[Any]:
        y: NDArray[Any] = self.estimator_.predict(_as_series(X))
        return y

    # -- input: sktime's formats are sktime's to check

    def _internal_convert(self, X: Any, y: Any = None) -> Any:
        if not _is_sktime_panel(X):
            batch = as_batch(X, self, reset=y is not None, layout="ntc")
            series = unbatch(batch, batch.values)
            X = [pd.DataFrame(steps) for steps in series] if batch.form == "list" else series.transpose(0, 2, 1)
        return X if y is None else (X, y)

    def _check_input(self, X: Any, y: Any = None, *arguments: Any, **options: Any) -> dict[str, Any]:
        metadata: dict[str, Any] = super()._check_input(X, y, *arguments, **options)
        channels = metadata["n_features"]
        if y is not None:
            self.n_channels_in_ = channels
        elif channels != self.n_channels_in_:
            message = f"X has {channels} channels, but {type(self).__name__} was fitted with {self.n_channels_in_}."
            if isinstance(X, np.ndarray) and X.shape[2] == self.n_channels_in_:
                message += " The other axis of X would match: sktime's order is (instances, channels, time)."
            raise ValueError(message)
        return metadata

    # -- state, in the eyes of both libraries

    def reset(self) -> Self:
        """Forget what was fitted; parameters, configuration and callbacks stay.

        Returns
        -------
        self
        """
        kept = {name: self.__dict__[name] for name in _OUTLIVE_RESET if name in self.__dict__}
        super().reset()
        self.__dict__.update(kept)
        return self

    def _forget_placeholders(self) -> None:
        """Remove what sktime's constructors set and scikit-learn would take for results of a fit."""
        for name in ("classes_", "n_classes_", "fit_time_"):
            self.__dict__.pop(name, None)

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
        return tags


def _is_sktime_panel(X: Any) -> bool:
    """Whether sktime is to read X, or to refuse it; else it is a table of n series of one channel."""
    if isinstance(X, pd.DataFrame):
        return isinstance(X.index, pd.MultiIndex) or any(dtype.kind == "O" for dtype in X.dtypes)
    if isinstance(X, list | tuple):
        return len(X) > 0 and np.ndim(X[0]) > 1
    if type(X).__module__.partition(".")[0] in ("dask", "gluonts", "polars"):
        return True
    return getattr(X, "ndim", 2) > 2 or (getattr(X, "ndim", 2) == 1 and X.dtype == object)


def _is_sktime_table(y: Any) -> bool:
    """Whether y is one of sktime's tables of targets, other than an array or a Series."""
    return hasattr(y, "columns") or (isinstance(y, list) and len(y) > 0 and isinstance(y[0], dict))


def _as_series(X: Any) -> Any:
    """A panel of an inner format as native estimators with ``layout="nct"`` take it."""
    return X if isinstance(X, np.ndarray) else [np.ascontiguousarray(series.to_numpy().T) for series in X]


class SFMClassifier(_Face, BaseClassifier, ClassifierMixin, BaseEstimator):
    """Classify whole series with a State-Frequency Memory network, as an sktime classifier.

    Several columns of labels are learned by one classifier each.

    Parameters
    ----------
    network, n_states, n_frequencies, n_outputs, frequencies, time, time_channel, phase, n_layers, bidirectional
        The network, as in :class:`sfmts.SFMClassifier`.
    init, network_params
        Its start and its further options, as in :class:`sfmts.SFMClassifier`.
    dropout, recurrent_dropout, head, pooling, standardize
        What lies around it, as in :class:`sfmts.SFMClassifier`.
    optimizer, learning_rate, learning_rate_init, max_iter, batch_size, weight_decay, clip_norm, class_weight
        Training, as in :class:`sfmts.SFMClassifier`.
    early_stopping, validation_fraction, n_iter_no_change, tol, warm_start, random_state, verbose
        Its end, its start and its seed, as in :class:`sfmts.SFMClassifier`.
    device, backend, memory
        Where and how, as in :class:`sfmts.SFMClassifier`.

    Attributes
    ----------
    estimator_ : sfmts.SFMClassifier
        The trained classifier, with all that it offers, such as ``state_amplitudes``, ``predict_log_proba``, ``save``
        and ``loss_curve_``.  It has ``layout="nct"``: it takes arrays as this one does.  There is none if y held one
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
    >>> model = SFMClassifier(n_states=8, max_iter=20, random_state=0).fit(X, y)
    >>> X_test, y_test = load_unit_test(split="test", return_type="df-list")
    >>> model.predict(X_test).shape
    (22,)
    >>> model.estimator_.state_amplitudes(X).shape
    (20, 24, 8, 4)
    """

    _tags: ClassVar[dict[str, Any]] = {"capability:predict_proba": True, "capability:class_weight": True}
    _native = estimators.SFMClassifier
    classes_: NDArray[Any]

    def __init__(
        self,
        network: str = "sfm",
        *,
        n_states: int = 32,
        n_frequencies: int = 4,
        n_outputs: int | None = None,
        frequencies: str = "fixed",
        time: str = "index",
        time_channel: int | None = None,
        phase: str = "accumulated",
        n_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        init: str = "chrono",
        network_params: dict[str, Any] | None = None,
        head: str = "linear",
        pooling: str = "last",
        standardize: bool = True,
        optimizer: str = "adam",
        learning_rate: str = "cosine",
        learning_rate_init: float = 0.01,
        max_iter: int = 100,
        batch_size: int = 32,
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        class_weight: dict[Any, float] | str | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
        backend: str = "auto",
        memory: str = "fast",
    ) -> None:
        self.network = network
        self.n_states = n_states
        self.n_frequencies = n_frequencies
        self.n_outputs = n_outputs
        self.frequencies = frequencies
        self.time = time
        self.time_channel = time_channel
        self.phase = phase
        self.n_layers = n_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.init = init
        self.network_params = network_params
        self.head = head
        self.pooling = pooling
        self.standardize = standardize
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.backend = backend
        self.memory = memory
        super().__init__()
        self._forget_placeholders()

    def _as_targets(self, y: NDArray[Any]) -> NDArray[Any]:
        if y.ndim == 2 and y.shape[1] > 1:
            return y  # one classifier for each column will have a look at it
        labels: NDArray[Any] = column_or_1d(y, warn=True)
        as_labels(labels, len(labels))  # complains
        return labels

    def _vectorize(self, methodname: str, **arguments: Any) -> Any:
        if methodname == "fit" and self._fit_arguments[1] is not None:
            raise ValueError(
                "sample_weight was passed with several columns of labels; fit one classifier for each column instead."
            )
        return super()._vectorize(methodname, **arguments)

    def _predict_proba(self, X: Any) -> NDArray[Any]:
        p: NDArray[Any] = self.estimator_.predict_proba(_as_series(X))
        return p

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy of :meth:`predict`.

        Parameters
        ----------
        X : panel of n series in any format of sktime, or array of shape (n, T)
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        score : float
        """
        return float(ClassifierMixin.score(self, X, y, sample_weight=sample_weight))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters for sktime's suite.

        Parameters
        ----------
        parameter_set : str, default="default"
            There is only this one.

        Returns
        -------
        params : list of dict
        """
        return _test_params()


class SFMRegressor(_Face, BaseRegressor, RegressorMixin, BaseEstimator):
    """Predict one or several numbers of whole series with a State-Frequency Memory network, as an sktime regressor.

    Parameters
    ----------
    network, n_states, n_frequencies, n_outputs, frequencies, time, time_channel, phase, n_layers, bidirectional
        The network, as in :class:`sfmts.SFMClassifier`.
    init, network_params
        Its start and its further options, as in :class:`sfmts.SFMClassifier`.
    dropout, recurrent_dropout, head, pooling, standardize
        What lies around it, as in :class:`sfmts.SFMRegressor`.
    optimizer, learning_rate, learning_rate_init, max_iter, batch_size, weight_decay, clip_norm
        Training, as in :class:`sfmts.SFMClassifier`.
    early_stopping, validation_fraction, n_iter_no_change, tol, warm_start, random_state, verbose
        Its end, its start and its seed, as in :class:`sfmts.SFMClassifier`.
    device, backend, memory
        Where and how, as in :class:`sfmts.SFMClassifier`.

    Attributes
    ----------
    estimator_ : sfmts.SFMRegressor
        The trained regressor, with all that it offers, such as ``state_amplitudes``, ``save`` and ``loss_curve_``.  It
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
    >>> model = SFMRegressor(n_states=8, max_iter=40, random_state=0).fit(X[:50], period[:50])
    >>> model.score(X[50:], period[50:]) > 0.5
    True
    """

    _tags: ClassVar[dict[str, Any]] = {"capability:multioutput": True, "y_inner_mtype": "numpy2D"}
    _native = estimators.SFMRegressor

    def __init__(
        self,
        network: str = "sfm",
        *,
        n_states: int = 32,
        n_frequencies: int = 4,
        n_outputs: int | None = None,
        frequencies: str = "fixed",
        time: str = "index",
        time_channel: int | None = None,
        phase: str = "accumulated",
        n_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        init: str = "chrono",
        network_params: dict[str, Any] | None = None,
        head: str = "linear",
        pooling: str = "last",
        standardize: bool = True,
        optimizer: str = "adam",
        learning_rate: str = "cosine",
        learning_rate_init: float = 0.01,
        max_iter: int = 100,
        batch_size: int = 32,
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
        backend: str = "auto",
        memory: str = "fast",
    ) -> None:
        self.network = network
        self.n_states = n_states
        self.n_frequencies = n_frequencies
        self.n_outputs = n_outputs
        self.frequencies = frequencies
        self.time = time
        self.time_channel = time_channel
        self.phase = phase
        self.n_layers = n_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.init = init
        self.network_params = network_params
        self.head = head
        self.pooling = pooling
        self.standardize = standardize
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.backend = backend
        self.memory = memory
        super().__init__()
        self._forget_placeholders()

    def _as_targets(self, y: NDArray[Any]) -> NDArray[Any]:
        return as_numbers(y, np.size(y, axis=0) if y.ndim else 1)[0]

    def _fit(self, X: Any, y: NDArray[Any]) -> Self:
        return super()._fit(X, y[:, 0] if y.shape[1] == 1 else y)

    def score(
        self, X: Any, y: Any, multioutput: ArrayLike | str = "uniform_average", sample_weight: ArrayLike | None = None
    ) -> Any:
        """R^2 of :meth:`predict`.

        Parameters
        ----------
        X : panel of n series in any format of sktime, or array of shape (n, T)
        y : array-like of shape (n,) or (n, n_targets)
        multioutput : {"uniform_average", "raw_values", "variance_weighted"} or array-like, default="uniform_average"
            How the scores of several targets are put together, as in :func:`sklearn.metrics.r2_score`.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        score : float or, with "raw_values", ndarray of shape (n_targets,)
        """
        return r2_score(y, self.predict(X), sample_weight=sample_weight, multioutput=multioutput)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters for sktime's suite.

        Parameters
        ----------
        parameter_set : str, default="default"
            There is only this one.

        Returns
        -------
        params : list of dict
        """
        return _test_params()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.target_tags.multi_output = True
        return tags


def _test_params() -> list[dict[str, Any]]:
    """Small networks, one for each way through a fit."""
    small = {"n_states": 4, "n_frequencies": 2, "max_iter": 3, "device": "cpu"}
    return [small, {**small, "network": "gru", "bidirectional": True, "pooling": "mean", "optimizer": "sgd"}]
