"""SFMRidgeClassifier and SFMRidgeRegressor."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import ThreadpoolController

from sfmts._batch import SequenceBatch
from sfmts._random import new_random_state
from sfmts._validation import as_codes, as_labels, as_numbers, as_weights, class_weights, known_classes
from sfmts.estimators._base import RegressionScoreMixin, fitting
from sfmts.estimators._parameters import documented, store_parameters
from sfmts.estimators.features import BankEstimator, is_positive, series_parts
from sfmts.features._importance import FrequencyImportance, frequency_importance
from sfmts.features._reader import ManySeries, Solution, Squash, solve_few
from sfmts.features._ridge import fit_temperature, slices
from sfmts.features._signal import SignalScale
from sfmts.features._stream import FeatureStream

_MANY = 6000  # series, above which normal equations replace the Gram matrix
_PART = 4096  # series whose features are in memory at once
_SMALL_PRODUCT = 4e9  # multiplications


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks at all loaded libraries, which takes milliseconds


class RidgeEstimator(BankEstimator):
    """Base of the two estimators: features, scaling and ridge regression."""

    _squash: Squash
    _given: Solution | None
    _many: ManySeries | None

    @staticmethod
    def _score(predictions: NDArray[np.float64], targets: NDArray[np.float64], weight: Any) -> float:
        """Return what leave-one-out predictions are judged by; lower is better."""
        raise NotImplementedError

    def _fit_targets(
        self,
        batch: SequenceBatch,
        Y: NDArray[np.float64],
        weight: NDArray[np.float64] | None,
        left_out: bool = False,
    ) -> NDArray[np.float64] | None:
        """Fit to all series; if ``left_out``, return the prediction of each by the model of all other series.

        It is 0 for series of weight 0, which are in no model.
        """
        batch, Y, weight, places = _distinct(batch, Y, weight)
        predictions = self._fit_distinct(batch, Y, weight, left_out)
        return np.where(places[:, None] < 0, 0.0, predictions[places]) if left_out else None

    def _fit_distinct(
        self, batch: SequenceBatch, Y: NDArray[np.float64], weight: NDArray[np.float64] | None, left_out: bool
    ) -> NDArray[np.float64]:
        """Fit to series that differ; return the prediction of each by the model of all others, if ``left_out``."""
        random_state = new_random_state(self.random_state)
        self._fit_bank(batch, weight, random_state)
        if len(batch) <= _MANY:
            features = self._features(batch)
            self._squash, features = Squash.fit_apply(features, weight)
            with self._blas_threads(len(batch) ** 2 * features.shape[1]):
                self._given, self._many = solve_few(features, Y, weight, self._score), None
            return self._given.predictions
        self._start(batch, Y, weight, random_state)
        assert self._many is not None
        self._given = self._many.solution()
        predictions = self._leave_many_out(batch, Y, weight) if left_out else self._given.predictions
        self._many = None
        return predictions

    def _leave_many_out(
        self, batch: SequenceBatch, Y: NDArray[np.float64], weight: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """Return the prediction of each series by the model of all others. Their features are computed once more."""
        assert self._many is not None
        predictions = np.empty_like(Y)
        for part in slices(len(batch), _PART):
            features = self._squash.apply(self._features(batch.take(torch.arange(part.start, part.stop))))
            predictions[part] = self._many.leave_out(features, Y[part], None if weight is None else weight[part])
        # A series that the others do not predict in a numerically stable way gets the mean of the targets.
        return np.where(np.isfinite(predictions), predictions, np.average(Y, axis=0, weights=weight))

    def _start(
        self,
        batch: SequenceBatch,
        Y: NDArray[np.float64],
        weight: NDArray[np.float64] | None,
        random_state: np.random.RandomState,
    ) -> None:
        """Begin to accumulate; the scaling of the features is that of the first part."""
        first = np.arange(len(batch)) < _PART
        if len(batch) > _PART:  # the first series may be all of one class
            first = np.zeros(len(batch), dtype=bool)
            first[random_state.choice(len(batch), _PART, replace=False)] = True
        rows = np.flatnonzero(first)
        features = self._features(batch.take(torch.from_numpy(rows)))
        part_weight = None if weight is None else weight[rows]
        self._squash, features = Squash.fit_apply(features, part_weight)
        self._given = None
        self._many = ManySeries(features.shape[1], Y.shape[1], random_state, self._score)
        self._many.add(features, Y[rows], part_weight)
        rest = np.flatnonzero(~first)
        if len(rest):
            self._add(batch.take(torch.from_numpy(rest)), Y[rest], None if weight is None else weight[rest])

    def _add(self, batch: SequenceBatch, Y: NDArray[np.float64], weight: NDArray[np.float64] | None) -> None:
        assert self._many is not None
        for part in slices(len(batch), _PART):
            series = batch.take(torch.arange(part.start, part.stop))
            features = self._squash.apply(self._features(series))
            self._many.add(features, Y[part], None if weight is None else weight[part])

    def _fit_part(self, batch: SequenceBatch, Y: NDArray[np.float64], weight: NDArray[np.float64] | None) -> None:
        """Fit to the series of earlier parts and to these."""
        if weight is not None:
            used = np.flatnonzero(weight)
            batch, Y, weight = batch.take(torch.from_numpy(used)), Y[used], weight[used]
        if not hasattr(self, "_fitted"):
            random_state = new_random_state(self.random_state)
            self._fit_bank(batch, weight, random_state)
            self._start(batch, Y, weight, random_state)
            return
        self._check_signal(batch)  # before anything is added
        if self._many is None:
            warnings.warn(
                "partial_fit after fit or load keeps the bank but forgets the series so far: their sums were not kept. "
                "Call partial_fit from the start to accumulate.",
                UserWarning,
                stacklevel=3,
            )
            random_state = new_random_state(self.random_state)
            self._many = ManySeries(self.n_features_out_, Y.shape[1], random_state, self._score)
            self._given = None
        self._add(batch, Y, weight)

    def _solution(self) -> Solution:
        check_is_fitted(self)
        if self._given is not None:
            return self._given
        assert self._many is not None
        with self._blas_threads(self.n_features_out_**3):
            return self._many.solution()

    def _blas_threads(self, products: int) -> AbstractContextManager[Any]:
        """Limit matrix products to ``n_jobs`` threads, and small ones to one: to wake more would take longer."""
        return _controller().limit(limits=1 if products < _SMALL_PRODUCT else self._threads(), user_api="blas")

    def _raw_predictions(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        return self._predictions_of(self._batch(X, reset=False))

    def _predictions_of(self, batch: SequenceBatch) -> NDArray[np.float64]:
        """Return the numbers that the ridge predicts for validated series."""
        solution = self._solution()
        out = np.empty((len(batch), len(solution.intercept)))
        for part in series_parts(batch, 128):  # so few that their features stay in the caches
            features = self._features_of(batch.take(torch.arange(part.start, part.stop)))
            out[part] = solution.predict(self._squash.apply(features))
        return out

    def _reader(self) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
        """Return a function of the features of one series, which it overwrites, to its predictions."""
        solution, squash = self._solution(), self._squash
        coef, intercept = solution.coef.astype(np.float32), solution.intercept

        def read(features: NDArray[np.float32]) -> NDArray[np.float64]:
            predictions: NDArray[np.float64] = coef @ squash.apply(features) + intercept
            return predictions

        return read

    @property
    def coef_(self) -> NDArray[np.float64]:
        """Return the coefficients of the scaled features.

        Returns
        -------
        coef : ndarray of shape (n_targets, n_features_out_)
            One row for each target; for two classes, one row.
        """
        return self._solution().coef

    @property
    def intercept_(self) -> NDArray[np.float64]:
        """Return the intercepts.

        Returns
        -------
        intercept : ndarray of shape (n_targets,)
            One number for each target.
        """
        return self._solution().intercept

    @property
    def alpha_(self) -> float:
        """Return the penalty that leave-one-out predictions chose.

        Returns
        -------
        alpha : float
            In units of the number of features.
        """
        return self._solution().alpha

    def frequency_importance(self, X: Any, *, n_bins: int = 12) -> FrequencyImportance:
        """Split the decisions on series over the periods, decay times and channels of the oscillators.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            Many series show what the model relies on; a single one shows what decided its prediction.
        n_bins : int, default=12
            Number of bins of periods, evenly on a logarithmic scale between the shortest and the longest period of the
            bank; oscillators of frequency zero have a bin of their own. There are half as many bins of decay times.

        Returns
        -------
        importance : sfmts.features.FrequencyImportance
            Its ``contributions`` take 8 bytes for each series, class or target, and bin.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError, TypeError
            If X or ``n_bins`` is invalid.

        See Also
        --------
        sfmts.plotting.FrequencyImportanceDisplay : Draw the result.

        Examples
        --------
        Two classes of sines in noise, with periods of 8 and of 12 steps:

        >>> import numpy as np
        >>> from sfmts import SFMRidgeClassifier
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat([8, 12], 50)
        >>> X = np.sin(2 * np.pi * np.arange(100) / y[:, None] + rng.uniform(0, 6, size=(100, 1)))
        >>> X += rng.normal(size=X.shape)
        >>> model = SFMRidgeClassifier(n_features=2000, random_state=0).fit(X, y)
        >>> importance = model.frequency_importance(X)
        >>> importance.outputs
        array([12])
        >>> importance.by_period().shape, importance.period_labels[-1]
        ((1, 13), 'level')
        >>> most = importance.by_period()[0].argmax()
        >>> bool(6 < importance.periods[most] < 16)
        True
        >>> decisions = importance.baseline + importance.contributions.sum(axis=(2, 3, 4))
        >>> np.allclose(decisions[:, 0], model.decision_function(X))
        True
        """
        check_is_fitted(self)
        batch, solution = self._batch(X, reset=False), self._solution()
        features = (
            self._squash.apply(self._features_of(batch.take(torch.arange(part.start, part.stop))))
            for part in series_parts(batch, 128)
        )
        classes = getattr(self, "classes_", None)
        return frequency_importance(
            features,
            solution.coef,
            solution.intercept,
            self._squash.centre,
            self.feature_info_,
            self.channel_weights_,
            n_bins=n_bins,
            outputs=None if classes is None else classes[-len(solution.intercept) :],  # of two classes, the second
            unit="steps" if self._fitted.scale.time_channel is None else "time units",
        )

    def _to_file(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        document, tensors = super()._to_file()
        solution = self._solution()
        arrays = {
            **{f"squash.{name}": value for name, value in vars(self._squash).items()},
            **{f"ridge.{name}": value for name, value in vars(solution).items() if name != "alpha"},
        }
        document["alpha"] = solution.alpha
        return document, tensors | {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}

    def _from_file(self, document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        super()._from_file(document, tensors)
        arrays = {name: value.numpy() for name, value in tensors.items()}
        self._squash = Squash(*(arrays[f"squash.{name}"] for name in ("mean", "factor", "centre")))
        ridge = {name.removeprefix("ridge."): value for name, value in arrays.items() if name.startswith("ridge.")}
        alpha = document["alpha"]
        if not is_positive(alpha) or bool((ridge["weights"] <= 0).any()):
            raise ValueError(f"its penalty is {alpha!r} or its weights are not all positive numbers")
        self._given, self._many = Solution(**ridge, alpha=float(alpha)), None

    def _n_outputs(self) -> int:
        """Return how many numbers the ridge predicts, by the fitted attributes of a file."""
        raise NotImplementedError

    def _file_tensors(
        self, scale: SignalScale, tensors: dict[str, torch.Tensor]
    ) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        n_features, n_outputs, kept = self.n_features_out_, self._n_outputs(), tensors["ridge.weights"].numel()
        return {
            **super()._file_tensors(scale, tensors),
            **{f"squash.{name}": ((n_features,), torch.float32) for name in ("mean", "factor", "centre")},
            "ridge.coef": ((n_outputs, n_features), torch.float64),
            "ridge.intercept": ((n_outputs,), torch.float64),
            "ridge.predictions": ((kept, n_outputs), torch.float64),
            "ridge.targets": ((kept, n_outputs), torch.float64),
            "ridge.weights": ((kept,), torch.float64),
        }


def _distinct(
    batch: SequenceBatch, Y: NDArray[np.float64], weight: NDArray[np.float64] | None
) -> tuple[SequenceBatch, NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.int64]]:
    """Leave out series of weight zero, and make one of series that are the same, with the sum of their weights.

    Otherwise a series that is left out would still be there as its own copy, as in bootstrap samples. Weights come
    back with mean 1, as only their ratios count; None if all are the same. The last item is the place of each series
    among those that are left, -1 for those that are not.
    """
    weight = np.ones(len(batch)) if weight is None else weight
    rows: dict[bytes, int] = {}
    first_of: list[int] = []
    values = batch.values.numpy() if batch.time is None else np.column_stack([batch.values, batch.time])
    ends = batch.lengths.cumsum(0).tolist()
    total, places = np.zeros(len(batch)), np.full(len(batch), -1)
    for number, (first, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if weight[number]:
            key = values[first:end].tobytes() + Y[number].tobytes()
            place = rows.setdefault(key, len(rows))
            if place == len(first_of):
                first_of.append(number)
            total[place] += weight[number]
            places[number] = place
    used = np.array(first_of)
    if len(used) < len(batch):
        batch, Y = batch.take(torch.from_numpy(used)), Y[used]
    total = total[: len(used)]
    total = total / total.mean()
    return batch, Y, None if (total == total[0]).all() else total, places


@documented("bank")
class SFMRidgeClassifier(ClassifierMixin, RidgeEstimator):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Classify time series with a fixed State-Frequency Memory read by ridge regression.

    The series drive a bank of damped oscillators with random periods and decay times (see :class:`SFMFeatures`). Ridge
    regression on summaries of the oscillators decides. Only the ridge regression is fitted, which takes seconds. This
    is the classifier to try first. Series may have unequal lengths, gaps (NaN) and time stamps.

    The penalty is chosen by the log loss of exact leave-one-out predictions, which also calibrate
    :meth:`predict_proba`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (1 or n_classes, n_features_out_)
        Coefficients of the scaled features; one row for two classes.
    intercept_ : ndarray of shape (1 or n_classes,)
    alpha_ : float
        Penalty, in units of the number of features.
    temperature_ : float
        Factor of the decisions in :meth:`predict_proba`.
    leave_one_out_score_ : float
        Accuracy of the leave-one-out predictions of the training series (above 6000, of 4096 of them).
    n_features_out_, feature_info_, channel_weights_, device_, backend_, n_channels_in_, n_features_in_
        As in :class:`SFMFeatures`.

    See Also
    --------
    SFMFeatures : The features alone.
    SFMClassifier : A trained network.

    Notes
    -----
    Up to 6000 series, the ridge is solved by the Gram matrix of the series; above, by normal equations that are
    accumulated part by part, so that memory does not grow with the number of series.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts import SFMRidgeClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["slow", "fast"], 20)
    >>> X = [
    ...     np.sin(np.arange(rng.integers(40, 80))[:, None] * (0.3 if label == "slow" else 0.5) + rng.uniform(0, 6))
    ...     for label in y
    ... ]
    >>> model = SFMRidgeClassifier(n_features=1000, random_state=0).fit(X[::2], y[::2])
    >>> model.score(X[1::2], y[1::2])
    1.0
    """

    classes_: NDArray[Any]
    _temperature: float

    def _n_outputs(self) -> int:
        return 1 if len(self.classes_) <= 2 else len(self.classes_)

    def __init__(
        self,
        n_features: int = 10_000,
        *,
        periods: tuple[float | None, float | None] | None = None,
        decays: tuple[float, float] = (0.15, 2.0),
        directions: str = "both",
        scale: str = "train",
        time_channel: int | None = None,
        class_weight: dict[Any, float] | str | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        device: str = "cpu",
        backend: str = "auto",
        layout: str = "ntc",
    ) -> None:
        store_parameters(self, locals())

    @staticmethod
    def _score(predictions: NDArray[np.float64], targets: NDArray[np.float64], weight: Any) -> float:
        if not targets.any():  # a single class
            return 0.0
        return fit_temperature(_logits(predictions), _logits(targets).argmax(axis=1), weight)[1]

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to labelled series.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            NaN is missing.
        y : array-like of shape (n,)
            Labels: numbers or strings.
        sample_weight : array-like of shape (n,), optional
            How much each series counts; 2 is the same as giving it twice.

        Returns
        -------
        self : SFMRidgeClassifier
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid. A previous fit is kept.
        """
        self._validate_params()
        with fitting(self):
            batch = self._batch(X, reset=True)
            classes, codes = as_labels(y, len(batch))
            self._fit_codes(batch, codes, classes, sample_weight)
        return self

    def _fit_codes(
        self,
        batch: SequenceBatch,
        codes: NDArray[np.int64],
        classes: NDArray[Any],
        sample_weight: ArrayLike | None,
        left_out: bool = False,
    ) -> NDArray[np.float64] | None:
        """Fit to series whose class is that with the number in ``codes``; returns what `_fit_targets` does."""
        weight = self._weights(codes, classes, sample_weight)
        self.classes_ = classes
        predictions = self._fit_targets(batch, self._targets(codes), weight, left_out)
        self._temperature = self._calibrated()
        return predictions

    def partial_fit(
        self, X: Any, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit to the series of all calls so far, for data that do not fit into memory.

        The bank and the scaling of the features are those of the first call, which should hold some hundred series of
        all classes. Memory is that of two square matrices of ``n_features``.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.
        y : array-like of shape (n,)
            The targets.
        classes : array-like, optional
            All classes; needed at the first call.
        sample_weight : array-like of shape (n,), optional
            Weight of each series; 0 leaves it out.

        Returns
        -------
        self : SFMRidgeClassifier
            The fitted estimator.
        """
        self._validate_params()
        with fitting(self):
            is_first = not hasattr(self, "_fitted")
            known = known_classes(classes, None if is_first else self.classes_)
            if self.class_weight == "balanced":
                raise ValueError("class_weight='balanced' needs all labels at once; give a dict of weights.")
            batch = self._batch(X, reset=is_first)
            codes = as_codes(y, len(batch), known)
            weight = self._weights(codes, known, sample_weight)
            self.classes_ = known
            self._fit_part(batch, self._targets(codes), weight)
        return self

    def _weights(
        self, codes: NDArray[np.int64], classes: NDArray[Any], sample_weight: ArrayLike | None
    ) -> NDArray[np.float64] | None:
        weight = as_weights(sample_weight, len(codes))
        if self.class_weight is not None:
            used = np.arange(len(codes)) if weight is None else np.flatnonzero(weight)
            weight = np.ones(len(codes)) if weight is None else weight
            weight[used] *= class_weights(self.class_weight, classes, codes[used], weight[used])
        return weight

    def _targets(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return 1 for the class of a series and -1 for others; for two classes, one column for the second."""
        if len(self.classes_) == 1:
            return np.zeros((len(codes), 1))
        columns = np.where(np.arange(len(self.classes_)) == codes[:, None], 1.0, -1.0)
        return columns[:, 1:] if len(self.classes_) == 2 else columns

    @property
    def temperature_(self) -> float:
        """Return the factor of the decisions in :meth:`predict_proba`.

        Returns
        -------
        temperature : float
            The decisions are multiplied by it.
        """
        check_is_fitted(self)
        # After partial_fit there is a solution only when it is asked for.
        return self._calibrated() if self._given is None else self._temperature

    def _calibrated(self) -> float:
        """Return the temperature that fits the leave-one-out predictions best."""
        solution = self._solution()
        if len(self.classes_) == 1:
            return 1.0
        codes = _logits(solution.targets).argmax(axis=1)
        return fit_temperature(_logits(solution.predictions), codes, solution.weights)[0]

    def _from_file(self, document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        super()._from_file(document, tensors)
        self._temperature = self._calibrated()

    @property
    def leave_one_out_score_(self) -> float:
        """Return the accuracy of the leave-one-out predictions.

        Returns
        -------
        score : float
            Between 0 and 1.
        """
        solution = self._solution()
        hits = _logits(solution.predictions).argmax(axis=1) == _logits(solution.targets).argmax(axis=1)
        return float(np.average(hits, weights=solution.weights))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the ridge's predictions of -1 and 1.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        decisions : ndarray of shape (n,) for two classes, positive for the second; otherwise (n, n_classes)
            Decisions.
        """
        decisions = self._raw_predictions(X)
        return decisions[:, 0] if len(self.classes_) <= 2 else decisions

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class with the greatest decision.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        y : ndarray of shape (n,)
            Predictions.
        """
        best = _logits(self._raw_predictions(X)).argmax(axis=1)
        classes: NDArray[Any] = self.classes_[np.minimum(best, len(self.classes_) - 1)]
        return classes

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, in the order of ``classes_``.

        Leave-one-out predictions calibrate it, which takes series to be independent: several prefixes of one series in
        the training set make it too sure.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        p : ndarray of shape (n, n_classes)
            Probabilities.
        """
        p: NDArray[np.float64] = np.exp(self.predict_log_proba(X))
        return p

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        log_p : ndarray of shape (n, n_classes)
            Logarithms of the probabilities.
        """
        decisions = self._raw_predictions(X)
        if len(self.classes_) == 1:
            return np.zeros((len(decisions), 1))
        log_p: NDArray[np.float64] = log_softmax(self.temperature_ * _logits(decisions), axis=1)
        return log_p

    def stream(self) -> "ClassifierStream":
        """Return an object that takes one step of a series at a time, and predicts after any of them.

        Time and memory of a step do not depend on how many came before. Predictions are those of :meth:`predict` for
        the steps so far: to predict early in a series, fit to series that are cut there.

        Returns
        -------
        stream : ClassifierStream
            Call ``update`` with each step, and ``predict``, ``predict_proba`` or ``decision_function`` at any time.

        Raises
        ------
        ValueError
            Unless ``directions="forward"`` and ``scale="train"``: the others need the end of a series.
        """
        check_is_fitted(self)
        return ClassifierStream(self)


class ClassifierStream(FeatureStream):
    """Read a series step by step, and classify the steps so far.

    :meth:`SFMRidgeClassifier.stream` makes streams.

    Parameters
    ----------
    estimator : SFMRidgeClassifier
        The fitted classifier.
    """

    def __init__(self, estimator: SFMRidgeClassifier) -> None:
        super().__init__(estimator._fitted.bank, estimator._fitted.scale)
        self._read = estimator._reader()
        self._classes, self._temperature = estimator.classes_, estimator.temperature_

    def decision_function(self) -> Any:
        """Return the decision as :meth:`SFMRidgeClassifier.decision_function` does for one series.

        Returns
        -------
        decision : float or ndarray of shape (n_classes,)
            A number for two classes.
        """
        decisions = self._read(self._current())
        return decisions[0] if len(self._classes) <= 2 else decisions

    def predict_proba(self) -> NDArray[np.float64]:
        """Return the probability of each class, of shape (n_classes,).

        Returns
        -------
        p : ndarray of shape (n_classes,)
            In the order of ``classes_``.
        """
        if len(self._classes) == 1:
            return np.ones(1)
        p: NDArray[np.float64] = softmax(self._temperature * _logits(self._read(self._current())[None])[0])
        return p

    def predict(self) -> Any:
        """Return the class with the greatest decision.

        Returns
        -------
        label : object
            One of ``classes_``.
        """
        best = int(_logits(self._read(self._current())[None])[0].argmax())
        return self._classes[min(best, len(self._classes) - 1)]


class RegressorStream(FeatureStream):
    """Read a series step by step, and predict from the steps so far.

    :meth:`SFMRidgeRegressor.stream` makes streams.

    Parameters
    ----------
    estimator : SFMRidgeRegressor
        The fitted regressor.
    """

    def __init__(self, estimator: "SFMRidgeRegressor") -> None:
        super().__init__(estimator._fitted.bank, estimator._fitted.scale)
        self._read = estimator._reader()
        self._is_flat = estimator.target_ndim_ == 1

    def predict(self) -> Any:
        """Return the predicted number, or numbers of shape (n_targets,).

        Returns
        -------
        y : float or ndarray of shape (n_targets,)
            As y was in ``fit``.
        """
        predictions = self._read(self._current())
        return predictions[0] if self._is_flat else predictions


def _logits(decisions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one column for each class."""
    return np.hstack([-decisions, decisions]) if decisions.shape[1] == 1 else decisions


@documented("bank")
class SFMRidgeRegressor(RegressionScoreMixin, RidgeEstimator):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Predict one or several numbers of time series with a fixed State-Frequency Memory read by ridge regression.

    What :class:`SFMRidgeClassifier` is for labels. The penalty is chosen by the squared error of exact leave-one-out
    predictions.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    n_targets_ : int
        Numbers predicted for each series.
    coef_ : ndarray of shape (n_targets, n_features_out_)
        Coefficients of the scaled features.
    intercept_ : ndarray of shape (n_targets,)
    alpha_ : float
        Penalty, in units of the number of features.
    leave_one_out_score_ : float
        R^2 of the leave-one-out predictions of the training series (above 6000, of 4096 of them), mean of the targets.
    n_features_out_, feature_info_, channel_weights_, device_, backend_, n_channels_in_, n_features_in_
        As in :class:`SFMFeatures`.

    See Also
    --------
    SFMFeatures : The features alone.
    SFMRegressor : A trained network.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts import SFMRidgeRegressor
    >>> rng = np.random.default_rng(0)
    >>> period = rng.uniform(5, 15, size=60)
    >>> X = np.sin(2 * np.pi * np.arange(40) / period[:, None] + rng.uniform(0, 6, size=(60, 1)))
    >>> model = SFMRidgeRegressor(n_features=1000, random_state=0).fit(X[:50], period[:50])
    >>> model.score(X[50:], period[50:]) > 0.9
    True
    """

    n_targets_: int
    target_ndim_: int

    def _n_outputs(self) -> int:
        if self.target_ndim_ not in (1, 2) or (self.target_ndim_ == 1 and self.n_targets_ != 1):
            raise ValueError(f"its targets have {self.target_ndim_} dimensions and {self.n_targets_} columns")
        return self.n_targets_

    def __init__(
        self,
        n_features: int = 10_000,
        *,
        periods: tuple[float | None, float | None] | None = None,
        decays: tuple[float, float] = (0.15, 2.0),
        directions: str = "both",
        scale: str = "train",
        time_channel: int | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        device: str = "cpu",
        backend: str = "auto",
        layout: str = "ntc",
    ) -> None:
        store_parameters(self, locals())

    @staticmethod
    def _score(predictions: NDArray[np.float64], targets: NDArray[np.float64], weight: Any) -> float:
        """Return the mean over targets of the squared error in units of the variance."""
        mean = np.average(targets, axis=0, weights=weight)
        variance = np.average(np.square(targets - mean), axis=0, weights=weight)
        errors = np.average(np.square(predictions - targets), axis=0, weights=weight)
        varies = variance > 0
        return float(np.mean(errors[varies] / variance[varies])) if varies.any() else float(errors.mean())

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to series with known targets.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            NaN is missing.
        y : array-like of shape (n,) or (n, n_targets)
            The targets.
        sample_weight : array-like of shape (n,), optional
            How much each series counts; 2 is the same as giving it twice.

        Returns
        -------
        self : SFMRidgeRegressor
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid. A previous fit is kept.
        """
        self._validate_params()
        with fitting(self):
            batch = self._batch(X, reset=True)
            Y, ndim = as_numbers(y, len(batch))
            self._fit_numbers(batch, Y, ndim, sample_weight)
        return self

    def _fit_numbers(
        self,
        batch: SequenceBatch,
        Y: NDArray[np.float64],
        ndim: int,
        sample_weight: ArrayLike | None,
        left_out: bool = False,
    ) -> NDArray[np.float64] | None:
        """Fit to series with these targets, which had ``ndim`` dimensions; returns what `_fit_targets` does."""
        self.n_targets_, self.target_ndim_ = Y.shape[1], ndim
        return self._fit_targets(batch, Y, as_weights(sample_weight, len(batch)), left_out)

    def partial_fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to the series of all calls so far, for data that do not fit into memory.

        The bank and the scaling of the features are those of the first call, which should hold some hundred series.
        Memory is that of two square matrices of ``n_features``.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.
        y : array-like of shape (n,) or (n, n_targets)
            The targets.
        sample_weight : array-like of shape (n,), optional
            Weight of each series; 0 leaves it out.

        Returns
        -------
        self : SFMRidgeRegressor
            The fitted estimator.
        """
        self._validate_params()
        with fitting(self):
            is_first = not hasattr(self, "_fitted")
            batch = self._batch(X, reset=is_first)
            Y, dimensions = as_numbers(y, len(batch))
            if not is_first and Y.shape[1] != self.n_targets_:
                raise ValueError(f"y has {Y.shape[1]} targets, but had {self.n_targets_} on the first call.")
            self.n_targets_, self.target_ndim_ = Y.shape[1], dimensions
            self._fit_part(batch, Y, as_weights(sample_weight, len(batch)))
        return self

    @property
    def leave_one_out_score_(self) -> float:
        """Return R^2 of the leave-one-out predictions.

        Returns
        -------
        score : float
            At most 1.
        """
        solution = self._solution()
        return 1.0 - self._score(solution.predictions, solution.targets, solution.weights)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return the predicted numbers.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        y : ndarray of shape (n,) or (n, n_targets)
            As y was in ``fit``.
        """
        predictions = self._raw_predictions(X)
        return predictions[:, 0] if self.target_ndim_ == 1 else predictions

    def stream(self) -> RegressorStream:
        """Return an object that takes one step of a series at a time, and predicts after any of them.

        Time and memory of a step do not depend on how many came before. Predictions are those of :meth:`predict` for
        the steps so far: to predict early in a series, fit to series that are cut there.

        Returns
        -------
        stream : RegressorStream
            Call ``update`` with each step, and ``predict`` at any time.

        Raises
        ------
        ValueError
            Unless ``directions="forward"`` and ``scale="train"``: the others need the end of a series.
        """
        check_is_fitted(self)
        return RegressorStream(self)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.target_tags.multi_output = True
        return tags
