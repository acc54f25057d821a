"""SFMClassifier."""

import os
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sfmts._batch import SequenceBatch
from sfmts._compat import with_callbacks
from sfmts._precision import own_precision
from sfmts._validation import as_codes, as_labels, as_weights, class_weights, known_classes
from sfmts.estimators._base import fitting
from sfmts.estimators._callbacks import CallbackWatcher
from sfmts.estimators._correction import CorrectingEstimator
from sfmts.estimators._parameters import documented, store_parameters
from sfmts.estimators.ridge import SFMRidgeClassifier
from sfmts.heads import ClassificationHead


@documented()
class SFMClassifier(ClassifierMixin, CorrectingEstimator):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Classify time series with a fixed State-Frequency Memory and a trained network beside it.

    The fixed memory is read by ridge regression (see :class:`SFMRidgeClassifier`). A network is trained, and logits are
    a weighted mean of both. Series set aside choose the weight, and leave the network out unless it helps.
    ``base=None`` trains the network alone, as in the paper.

    On the CPU the network has the precision of X, so float32 series train faster than float64 ones. On a GPU it always
    has float32. Each channel is standardised with its mean and deviation over the training set.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    base_ : SFMRidgeClassifier or None
        The fitted base.
    base_weight_ : float
        Weight of the base's logits, from 0 to 1; the network has the rest. After ``partial_fit`` on a new estimator it
        is 1, and the network's logits are added. 0 without a base.
    network_used_ : bool
        Whether predictions include the network: it lowered the log loss of the series set aside by more than a
        standard error, and the accuracy did not fall. Always True without a base.
    module_ : torch.nn.Module
        The trained network with scaling and head.
    n_channels_in_ : int
        Number of channels.
    n_features_in_ : int
        Length of the series; only if X was two-dimensional.
    n_iter_ : int
        Passes over the training series: epochs, and one more for the base.
    loss_curve_ : list of float
        Training loss after each epoch. With a base, the first entry is the loss of its leave-one-out predictions; the
        others are those of the network alone.
    validation_scores_ : list of float or None
        Accuracy on the validation set after each epoch. With a base, the first entry is that of the base alone.
    history_ : dict
        Losses, scores and learning rates of each epoch, number of updates, and the reason why training stopped.
    n_parameters_ : int
        Trainable parameters of network and head.
    device_ : str
        The device that was used.
    backend_ : str
        The kernel that was used.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017.

    Examples
    --------
    >>> from sfmts import SFMClassifier
    >>> from sfmts.datasets import make_waves
    >>> X, y = make_waves(60, n_steps=30, variant="released", random_state=0)
    >>> model = SFMClassifier(random_state=0).fit(X, y)
    >>> model.predict(X[:2]).shape
    (2,)
    >>> model.network_used_, model.base_.leave_one_out_score_ > 0.9
    (False, True)

    The network alone, as in the paper:

    >>> network = SFMClassifier(base=None, n_states=8, max_iter=15, random_state=0).fit(X, y)
    >>> network.state_amplitudes(X[:2]).shape
    (2, 30, 8, 4)
    """

    _base_class = SFMRidgeClassifier

    classes_: NDArray[Any]

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
        class_weight: dict[Any, float] | str | None = None,
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
        """Train on labelled series.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.
        y : array-like of shape (n,)
            Labels: numbers or strings.
        sample_weight : array-like of shape (n,), optional
            Weight of each series; 0 leaves it out.
        X_val : array or list of arrays, optional
            Series to validate on instead of a part of X. Training then stops early, as with ``early_stopping=True``,
            and keeps the weights of the best epoch.
        y_val : array or list of arrays, optional
            Labels of ``X_val``.

        Returns
        -------
        self : SFMClassifier
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
            batch = self._batch(X, reset=not continued)
            classes, codes = as_labels(y, len(batch))
            if continued and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"warm_start=True needs the classes of the last fit, {self.classes_}; y has {classes}."
                )
            self.classes_ = classes
            valid = self._validation_batch(X_val, y_val)
            if valid is not None:
                valid = self._with_codes(valid, as_codes(y_val, len(valid), classes), None)
            self._fit_codes(batch, codes, sample_weight, watcher, continued=continued, valid=valid)
        watcher.ended()
        return self

    @with_callbacks
    def partial_fit(
        self, X: Any, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on a part of the data.

        The channels' means and scales are those of the first part.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.
        y : array-like of shape (n,)
            Labels: numbers or strings.
        classes : array-like, optional
            All classes; needed at the first call.
        sample_weight : array-like of shape (n,), optional
            Weight of each series; 0 leaves it out.

        Returns
        -------
        self : SFMClassifier
            The fitted estimator.
        """
        self._validate_params()
        self._warn_of_ignored()
        watcher = CallbackWatcher(self, X, y, sample_weight, 1)
        with fitting(self):
            continued = hasattr(self, "module_")
            known = known_classes(classes, self.classes_ if continued else None)
            batch = self._batch(X, reset=not continued)
            codes = as_codes(y, len(batch), known)
            self.classes_ = known
            self._fit_codes(batch, codes, sample_weight, watcher, continued=continued, epochs=1)
        watcher.ended()
        return self

    def _fit_codes(
        self,
        batch: SequenceBatch,
        codes: NDArray[np.int64],
        sample_weight: ArrayLike | None,
        watcher: CallbackWatcher,
        *,
        continued: bool,
        epochs: int | None = None,
        valid: SequenceBatch | None = None,
    ) -> None:
        """Weight the series by their classes, and train."""
        data = self._with_codes(batch, codes, sample_weight)
        with self._resumable(data, continued=continued, epochs=epochs, valid=valid):
            data = self._with_base(data, sample_weight, fitted=continued and epochs is not None)
            if valid is not None:
                valid = self._with_base(valid, None, fitted=True)
            self._fit_batch(data, watcher, continued=continued, epochs=epochs, stratify=codes, valid=valid)

    def _with_codes(
        self, batch: SequenceBatch, codes: NDArray[np.int64], sample_weight: ArrayLike | None
    ) -> SequenceBatch:
        """Return series with the numbers of their classes, and their weights if they are not equal."""
        weights = as_weights(sample_weight, len(batch))
        if self.class_weight is not None:
            used = np.arange(len(batch)) if weights is None else np.flatnonzero(weights)
            weights = np.ones(len(batch)) if weights is None else weights
            weights[used] *= class_weights(self.class_weight, self.classes_, codes[used], weights[used])
        weight = None if weights is None else torch.from_numpy(weights)
        return replace(batch, target=torch.from_numpy(codes), weight=weight)

    def _fit_base(
        self, base: Any, batch: SequenceBatch, targets: NDArray[Any], sample_weight: Any
    ) -> NDArray[np.float64]:
        predictions: NDArray[np.float64] = base._fit_codes(batch, targets, self.classes_, sample_weight, left_out=True)
        return predictions

    def _offset(self, head: Any, predictions: Tensor) -> Tensor:
        # The decisions of two classes are (-d, d); their single logit is the difference of the calibrated decisions.
        assert isinstance(self.base_, SFMRidgeClassifier)
        return predictions * (self.base_.temperature_ * (2.0 if len(self.classes_) == 2 else 1.0))

    def _n_logits(self) -> int:
        return ClassificationHead.logits_for(len(self.classes_))

    def _make_head(
        self, kind: str, in_features: int, generator: torch.Generator | None, train: SequenceBatch | None
    ) -> ClassificationHead:
        return ClassificationHead(in_features, len(self.classes_), kind, generator)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each series.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        y : ndarray of shape (n,)
            The most probable class of each series.
        """
        best = self.predict_log_proba(X).argmax(axis=1)
        classes: NDArray[Any] = self.classes_[best]
        return classes

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        p : ndarray of shape (n, n_classes)
            Probabilities.
        """
        return np.exp(self.predict_log_proba(X))

    @own_precision()
    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Return the logarithm of :meth:`predict_proba`, which is exact even for tiny probabilities.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        log_p : ndarray of shape (n, n_classes)
            Logarithms of the probabilities.
        """
        check_is_fitted(self)
        head = self.module_.head
        assert isinstance(head, ClassificationHead)
        log_p: NDArray[Any] = head.log_probabilities(self._outputs(self._batch_to_predict(X))).numpy()
        return log_p

    @own_precision()
    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return the logits.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        logits : ndarray of shape (n,) for two classes, otherwise (n, n_classes)
            For two classes, a positive logit means the second class.
        """
        check_is_fitted(self)
        logits = self._outputs(self._batch_to_predict(X)).numpy()
        return logits[:, 0] if len(self.classes_) == 2 else logits
