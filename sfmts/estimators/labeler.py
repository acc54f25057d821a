"""SFMLabeler."""

import os
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sfmts._batch import SequenceBatch, unbatch
from sfmts._compat import with_callbacks
from sfmts._precision import own_precision
from sfmts._validation import as_step_labels, as_weights, class_weights, codes_among, known_classes
from sfmts.estimators._base import SequenceEstimator, fitting
from sfmts.estimators._callbacks import CallbackWatcher
from sfmts.estimators._parameters import documented, store_parameters
from sfmts.heads import ClassificationHead
from sfmts.metrics import frame_accuracy_score


@documented()
class SFMLabeler(SequenceEstimator):  # numpydoc ignore=PR01,PR02,PR04,PR07
    """Label every time step of series with a State-Frequency Memory network, as in the paper's TIMIT experiment.

    The label of a step depends on the series up to this step or, with ``bidirectional=True``, on the whole series.
    Series may have unequal lengths; padding is neither read nor counted.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    module_, n_channels_in_, n_iter_, loss_curve_, validation_scores_, history_, n_parameters_, device_, backend_
        As in :class:`SFMClassifier`. Validation scores are frame accuracies.

    See Also
    --------
    sfmts.metrics.frame_accuracy_score : The score.
    sfmts.model_selection.cross_val_predict : Labels of series that were held out.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts import SFMLabeler
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(rng.integers(8, 20), 2)) for _ in range(40)]
    >>> y = [(x[:, 0] > 0).astype(int) for x in X]
    >>> model = SFMLabeler(n_states=8, max_iter=20, random_state=0).fit(X[:30], y[:30])
    >>> model.score(X[30:], y[30:]) > 0.8
    True
    >>> model.predict(X[30:31])[0].shape == y[30].shape
    True
    """

    classes_: NDArray[Any]

    def __init__(
        self,
        network: str = "sfm",
        *,
        n_states: int = 32,
        n_frequencies: int = 4,
        n_layers: int | None = None,
        bidirectional: bool = False,
        dropout: float = 0.0,
        network_params: dict[str, Any] | None = None,
        head: str = "linear",
        time_channel: int | None = None,
        optimizer: str = "adam",
        optimizer_params: dict[str, Any] | None = None,
        learning_rate_init: float = 0.01,
        max_iter: int = 100,
        batch_size: int | str = 32,
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
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, *, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Train on series whose steps are labelled.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.
        y : array of shape (n, T), or list of n arrays of shape (T_i,)
            Labels: numbers or strings.
        sample_weight : array-like of shape (n,), optional
            Weight of each step of a series; 0 leaves the series out.
        X_val : array or list of arrays, optional
            Series to validate on instead of a part of X. Training then stops early, as with ``early_stopping=True``,
            and keeps the weights of the best epoch.
        y_val : array or list of arrays, optional
            Labels of the steps of ``X_val``.

        Returns
        -------
        self : SFMLabeler
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
            classes, codes = as_step_labels(y, batch)
            if continued and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"warm_start=True needs the classes of the last fit, {self.classes_}; y has {classes}."
                )
            self.classes_ = classes
            valid = self._validation_batch(X_val, y_val)
            if valid is not None:
                valid = self._with_codes(valid, codes_among(*as_step_labels(y_val, valid), classes), None)
            self._fit_codes(batch, codes, sample_weight, watcher, continued=continued, valid=valid)
        watcher.ended()
        return self

    @with_callbacks
    def partial_fit(
        self, X: Any, y: Any, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on a part of the data.

        The channels' means and scales are those of the first part.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.
        y : array of shape (n, T), or list of n arrays of shape (T_i,)
            Labels: numbers or strings.
        classes : array-like, optional
            All classes; needed at the first call.
        sample_weight : array-like of shape (n,), optional
            Weight of each step of a series; 0 leaves the series out.

        Returns
        -------
        self : SFMLabeler
            The fitted estimator.
        """
        self._validate_params()
        self._warn_of_ignored()
        watcher = CallbackWatcher(self, X, y, sample_weight, 1)
        with fitting(self):
            continued = hasattr(self, "module_")
            known = known_classes(classes, self.classes_ if continued else None)
            batch = self._batch(X, reset=not continued)
            codes = codes_among(*as_step_labels(y, batch), known)
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
        """Weight the steps by their classes, and train."""
        data = self._with_codes(batch, codes, sample_weight)
        with self._resumable(data, continued=continued, epochs=epochs, valid=valid):
            self._fit_batch(data, watcher, continued=continued, epochs=epochs, valid=valid)

    def _with_codes(
        self, batch: SequenceBatch, codes: NDArray[np.int64], sample_weight: ArrayLike | None
    ) -> SequenceBatch:
        """Return series with the numbers of their labels, and the weights of their steps if they are not equal."""
        weights = self._step_weights(sample_weight, batch, codes)
        weight = None if weights is None else torch.from_numpy(weights)
        return replace(batch, target=torch.from_numpy(codes), weight=weight, target_per_step=True)

    def _step_weights(
        self, sample_weight: ArrayLike | None, batch: SequenceBatch, codes: NDArray[np.int64]
    ) -> NDArray[np.float64] | None:
        """Return the weight of each step, by its series and its label."""
        weights = as_weights(sample_weight, len(batch))
        if weights is not None:
            weights = np.repeat(weights, batch.lengths.numpy())
        if self.class_weight is not None:
            weights = np.ones(len(codes)) if weights is None else weights
            used = np.flatnonzero(weights)
            weights[used] *= class_weights(self.class_weight, self.classes_, codes[used], weights[used])
        return weights

    def _n_logits(self) -> int:
        return ClassificationHead.logits_for(len(self.classes_))

    def _make_head(
        self, kind: str, in_features: int, generator: torch.Generator | None, train: SequenceBatch | None
    ) -> ClassificationHead:
        return ClassificationHead(in_features, len(self.classes_), kind, generator, per_step=True)

    def predict(self, X: Any) -> Any:
        """Return the most probable label of each step.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        y : ndarray of shape (n, T), or list of n arrays of shape (T_i,)
            The most probable label of each step.
        """
        batch, log_p = self._log_probabilities(X)
        return unbatch(batch, self.classes_[log_p.argmax(dim=1).numpy()])

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each label at each step, in the order of ``classes_``.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        p : ndarray of shape (n, T, n_classes), or list of n arrays of shape (T_i, n_classes)
            Probabilities.
        """
        batch, log_p = self._log_probabilities(X)
        return unbatch(batch, log_p.exp())

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of :meth:`predict_proba`, which is exact even for tiny probabilities.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.

        Returns
        -------
        log_p : ndarray of shape (n, T, n_classes), or list of n arrays of shape (T_i, n_classes)
            Logarithms of the probabilities.
        """
        batch, log_p = self._log_probabilities(X)
        return unbatch(batch, log_p)

    @own_precision()
    def _log_probabilities(self, X: Any) -> tuple[SequenceBatch, torch.Tensor]:
        check_is_fitted(self)
        head = self.module_.head
        assert isinstance(head, ClassificationHead)
        batch = self._batch(X, reset=False)
        return batch, head.log_probabilities(self._outputs(batch))

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the share of correctly labelled steps, over all steps of all series.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            The series.
        y : array of shape (n, T), or list of n arrays of shape (T_i,)
            Labels of the steps.
        sample_weight : array-like of shape (n,), optional
            Weight of each step of a series.

        Returns
        -------
        accuracy : float
            Share of correct labels.
        """
        return frame_accuracy_score(y, self.predict(X), sample_weight=sample_weight)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
