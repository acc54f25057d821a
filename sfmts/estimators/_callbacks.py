"""Connect the training loop to scikit-learn's callbacks."""

from typing import Any

from sfmts.model import SequenceModel


class CallbackWatcher:
    """Notify scikit-learn's callbacks of a fit and of its epochs."""

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any, epochs: int) -> None:
        self._estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"X": X, "y": y, "metadata": metadata}
        self._root = estimator._init_callback_context(max_subtasks=int(epochs))
        self._root.call_on_fit_task_begin(estimator=estimator, **self._data)
        self._epoch = self._root
        self.model: SequenceModel | None = None

    def epoch_begins(self) -> None:
        """Notify of the beginning of an epoch."""
        self._epoch = self._root.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def epoch_ended(self) -> bool:
        """Notify of the end of an epoch, and return whether a callback asks to stop.

        A callback may predict with the model as it is after this epoch.
        """
        fitted = {"module_": self.model, "device_": str(next(self.model.parameters()).device)} if self.model else {}
        return bool(
            self._epoch.call_on_fit_task_end(estimator=self._estimator, **self._data, reconstruction_attributes=fitted)
        )

    def ended(self) -> None:
        """Notify of the end of the fit."""
        self._root.call_on_fit_task_end(estimator=self._estimator, **self._data, reconstruction_attributes={})
