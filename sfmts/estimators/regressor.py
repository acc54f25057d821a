"""SFMRegressor."""

import os
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sfmts._batch import SequenceBatch, channel_scale, moments
from sfmts._compat import with_callbacks
from sfmts._precision import own_precision
from sfmts._validation import as_numbers, as_weights
from sfmts.estimators._base import RegressionScoreMixin, fitting
from sfmts.estimators._callbacks import CallbackWatcher
from sfmts.estimators._correction import CorrectingEstimator
from sfmts.estimators._parameters import documented, store_parameters
from sfmts.estimators.ridge import SFMRidgeRegressor
from sfmts.heads import RegressionHead


@documented()
class SFMRegressor(RegressionScoreMixin, CorrectingEstimator):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Predict one or several numbers of time series with a fixed State-Frequency Memory and a network beside it.

    The fixed memory is read by ridge regression (see :class:`SFMRidgeRegressor`). A network is trained, and predictions
    are a weighted mean of both. Series set aside choose the weight, and leave the network out unless it helps.
    ``base=None`` trains the network alone.

    This is extrinsic regression by least squares. Targets and channels are standardised for training.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    n_targets_ : int
        Numbers predicted for each series.
    base_ : SFMRidgeRegressor or None
        The fitted base.
    base_weight_, network_used_, module_, n_channels_in_, n_iter_, loss_curve_, validation_scores_
        As in :class:`SFMClassifier`. The loss is the squared error of standardised targets. Validation scores are R^2
        with respect to the variance in training.
    history_, n_parameters_, device_, backend_
        As in :class:`SFMClassifier`.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts import SFMRegressor
    >>> rng = np.random.default_rng(0)
    >>> period = rng.uniform(5, 15, size=60)
    >>> X = np.sin(2 * np.pi * np.arange(40) / period[:, None])
    >>> model = SFMRegressor(random_state=0).fit(X[:50], period[:50])
    >>> model.score(X[50:], period[50:]) > 0.9
    True
    """

    _base_class = SFMRidgeRegressor

    n_targets_: int
    target_ndim_: int

    def __init__(
        self,
        network: str = "resonator",
        *,
        base: str | None = "ridge",
        n_states: int = 32,
        n_frequencies: int = 4,
        n_layers: int | None = None,
        bidirectional: bool = False,
        dropout: float = 0.0,
        network_params: dict[str, Any] | None = None,
        head: str = "linear",
        pooling: str = "all",
        time_channel: int | None = None,
        optimizer: str = "adam",
        optimizer_params: dict[str, Any] | None = None,
        learning_rate_init: float = 0.01,
        max_iter: int = 100,
        batch_size: int | str = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
        layout: str = "ntc",
    ) -> None:
        store_parameters(self, locals())

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Train on series with known targets.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.
        y : array-like of shape (n,) or (n, n_targets)
            Targets: one number, or several, for each series.
        sample_weight : array-like of shape (n,), optional
            Weight of each series; 0 leaves it out.
        X_val : array or list of arrays, optional
            Series to validate on instead of a part of X. Training then stops early, as with ``early_stopping=True``,
            and keeps the weights of the best epoch.
        y_val : array or list of arrays, optional
            Targets of ``X_val``.

        Returns
        -------
        self : SFMRegressor
            The fitted estimator. An interrupt (Ctrl-C) ends training and keeps what has been learned so far.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid. A previous fit is kept.
        """
        self._validate_params()
        watcher = CallbackWatcher(self, X, y, sample_weight, self.max_iter)
        with fitting(self):
            continued = self.warm_start and hasattr(self, "module_")
            self._fit_targets(X, y, sample_weight, watcher, continued=continued, X_val=X_val, y_val=y_val)
        watcher.ended()
        return self

    @with_callbacks
    def partial_fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train for one epoch on a part of the data.

        Means and scales of channels and targets are those of the first part.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.
        y : array-like of shape (n,) or (n, n_targets)
            Targets: one number, or several, for each series.
        sample_weight : array-like of shape (n,), optional
            Weight of each series; 0 leaves it out.

        Returns
        -------
        self : SFMRegressor
            The fitted estimator.
        """
        self._validate_params()
        self._warn_of_ignored()
        watcher = CallbackWatcher(self, X, y, sample_weight, 1)
        with fitting(self):
            self._fit_targets(X, y, sample_weight, watcher, continued=hasattr(self, "module_"), epochs=1)
        watcher.ended()
        return self

    def _fit_targets(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        watcher: CallbackWatcher,
        *,
        continued: bool,
        epochs: int | None = None,
        X_val: Any = None,
        y_val: Any = None,
    ) -> None:
        batch = self._batch(X, reset=not continued)
        targets, ndim = as_numbers(y, len(batch))
        if continued and targets.shape[1] != self.n_targets_:
            raise ValueError(f"y has {targets.shape[1]} targets, but {self.n_targets_} in the training so far.")
        self.n_targets_, self.target_ndim_ = targets.shape[1], ndim
        weights = as_weights(sample_weight, len(batch))
        weight = None if weights is None else torch.from_numpy(weights)
        data = replace(batch, target=torch.from_numpy(targets), weight=weight)
        valid = self._with_targets(self._validation_batch(X_val, y_val), y_val)
        with self._resumable(data, continued=continued, epochs=epochs, valid=valid):
            data = self._with_base(data, sample_weight, fitted=continued and epochs is not None)
            if valid is not None:
                valid = self._with_base(valid, None, fitted=True)
            self._fit_batch(data, watcher, continued=continued, epochs=epochs, valid=valid)

    def _with_targets(self, valid: SequenceBatch | None, y_val: Any) -> SequenceBatch | None:
        """Return validation series, if there are any, with their targets."""
        if valid is None:
            return None
        targets, _ = as_numbers(y_val, len(valid))
        if targets.shape[1] != self.n_targets_:
            raise ValueError(f"y_val has {targets.shape[1]} targets, but y has {self.n_targets_}.")
        return replace(valid, target=torch.from_numpy(targets))

    def _fit_base(
        self, base: Any, batch: SequenceBatch, targets: NDArray[Any], sample_weight: Any
    ) -> NDArray[np.float64]:
        predictions: NDArray[np.float64] = base._fit_numbers(
            batch, targets, self.target_ndim_, sample_weight, left_out=True
        )
        return predictions

    def _offset(self, head: Any, predictions: Tensor) -> Tensor:
        standardised: Tensor = head.standardised(predictions)
        return standardised

    def _n_logits(self) -> int:
        return self.n_targets_

    def _make_head(
        self, kind: str, in_features: int, generator: torch.Generator | None, train: SequenceBatch | None
    ) -> RegressionHead:
        mean = scale = None
        if train is not None:
            assert train.target is not None
            mean, variance = moments(train.target, train.weight)
            scale = channel_scale(mean, variance)
        return RegressionHead(in_features, self.n_targets_, kind, generator, mean, scale)

    @own_precision()
    def predict(self, X: Any) -> NDArray[Any]:
        """Return the predicted numbers of each series.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        y : ndarray of shape (n,) or (n, n_targets)
            Predictions in float64, with as many dimensions as y had in ``fit``.
        """
        check_is_fitted(self)
        head = self.module_.head
        assert isinstance(head, RegressionHead)
        y: NDArray[Any] = head.predictions(self._outputs(self._batch_to_predict(X))).numpy()
        if not np.isfinite(y).all():
            raise ValueError(
                f"Predictions overflow on the scale of the targets, {head.scale.tolist()}. Fit to targets that are "
                "divided by a constant."
            )
        return y[:, 0] if self.target_ndim_ == 1 else y

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.target_tags.multi_output = True
        return tags
