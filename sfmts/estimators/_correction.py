"""The base class of the estimators whose network stands beside a fixed memory."""

import copy
from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sfmts import _persistence as persistence
from sfmts._batch import SequenceBatch
from sfmts.estimators._base import SequenceEstimator
from sfmts.estimators._callbacks import CallbackWatcher
from sfmts.estimators._parameters import plain
from sfmts.estimators.ridge import RidgeEstimator
from sfmts.features._signal import check_increasing
from sfmts.heads import Head, ItemwiseHead
from sfmts.model import Model, SequenceModel
from sfmts.training import History, Trainer, is_better, outputs, placed

_ERRORS = 1.0  # standard errors by which the network must lower the loss of the series set aside
_WEIGHTS = [i / 10 for i in range(11)]  # of the network's output beside that of the base
_PREFIX = "base."  # of the base's tensors in a file


class CorrectingEstimator(SequenceEstimator):
    """Base of the estimators with the parameter ``base``.

    With ``base="ridge"`` the output is (1 - w) b(x) + w f(x). b is the ridge regression on the fixed memory, f is a
    network that is trained alone. Series set aside decide for how many epochs f is trained, and on w; b is there the
    leave-one-out prediction. The factor w becomes part of f's last layer. In ``partial_fit``, which sets no series
    aside, the output is b(x) + f(x): the last layer starts at zero, and f learns what b leaves.
    """

    _base_class: ClassVar[type[RidgeEstimator]]
    # With fewer series the network is left out. With 300 to 500 series it lowers the log loss a little, the accuracy
    # stays the same, and a fit takes 3 to 29 times as long (benchmarks/archive.py, "corrected").
    _fewest_series = 1000

    base_: RidgeEstimator | None
    base_weight_: float
    network_used_: bool

    # -- the base

    @abstractmethod
    def _fit_base(
        self, base: Any, batch: SequenceBatch, targets: NDArray[Any], sample_weight: Any
    ) -> NDArray[np.float64]:
        """Fit the base, and return the prediction of each training series by the base of all others."""

    @abstractmethod
    def _offset(self, head: Any, predictions: Tensor) -> Tensor:
        """Return predictions of the base on the scale of the head's output."""

    def _with_base(self, batch: SequenceBatch, sample_weight: Any, *, fitted: bool) -> SequenceBatch:
        """Return training series with the predictions of the base as offset.

        If the base is ``fitted``, these series are new to it. Otherwise it is fitted to them.
        """
        if not fitted:
            self.base_ = None if self.base is None else self._new_base()
        if self.base_ is None:
            return batch
        check_increasing(batch.time, batch.lengths)
        if fitted:
            predictions = self.base_._predictions_of(batch)
        else:
            assert batch.target is not None
            self.base_._take_columns(self)
            predictions = self._fit_base(self.base_, batch, batch.target.numpy(), sample_weight)
        return replace(batch, offset=torch.from_numpy(predictions))

    def _new_base(self) -> RidgeEstimator:
        """Return an unfitted base that reads X as this estimator does."""
        if self.head == "none":
            raise ValueError(
                "head='none' has no weights that can start at zero, so the network cannot stand beside a base. Use "
                "head='linear', or base=None for the network alone."
            )
        seed = copy.deepcopy(self._random_state)  # a generator is left to the network
        shared = {"time_channel", "class_weight", "layout"} & {*self._base_class._get_param_names()}
        return self._base_class(random_state=seed, **{name: plain(getattr(self, name)) for name in shared})

    # -- training

    def _needs_validation(self, n_series: int) -> bool:
        return super()._needs_validation(n_series) if self.base_ is None else n_series >= self._fewest_series

    def _split(
        self, used: NDArray[np.int64], stratify: NDArray[np.int64] | None, random_state: np.random.RandomState
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self.base_ is not None and stratify is not None:
            # Nobody asked for a validation part, so a class of one series is no error.
            _, counts = np.unique(stratify[used], return_counts=True)
            if counts.min() < 2 or round(plain(self.validation_fraction) * len(used)) < len(counts):
                stratify = None
        return super()._split(used, stratify, random_state)

    def _run(
        self,
        trainer: Trainer,
        train: SequenceBatch,
        valid: SequenceBatch | None,
        watcher: CallbackWatcher,
        *,
        continued: bool,
        epochs: int | None,
    ) -> History:
        """Train the network, and decide on its weight beside the base."""
        self.network_used_ = True
        if self.base_ is None:
            self.base_weight_ = 0.0
            return super()._run(trainer, train, valid, watcher, continued=continued, epochs=epochs)
        assert isinstance(trainer.model, SequenceModel)
        head = trainer.model.head
        if not (continued and epochs is not None):
            self.base_weight_ = 1.0
        train, *rest = (self._placed(part, trainer) for part in (train, valid) if part is not None)
        first = History(loss=[_loss_and_score(head, train)[0]], learning_rate=[0.0])
        if epochs is not None:  # partial_fit, which sets nothing aside
            if not continued:
                _silence(trainer.model)
            history = trainer.fit(train, None, epochs, watcher)
            return history if continued else first.followed_by(history)
        if not rest:
            self.network_used_ = False
            _silence(trainer.model)
            self._say(f"{len(train)} series, fewer than {self._fewest_series}: the network is left out.")
            return replace(first, stopped="few series")
        (valid,) = rest
        loss, score = _loss_and_score(head, valid)
        first = replace(first, validation_loss=[loss], validation_score=[score])
        alone, valid_alone = (replace(part, offset=None) for part in (train, valid))
        history = trainer.fit(alone, valid_alone, None, watcher, by_loss=True, checkpoint=self._stage)
        self._decide(trainer, valid, loss, score)
        return first.followed_by(history)

    def _placed(self, batch: SequenceBatch, trainer: Trainer) -> SequenceBatch:
        """Return series where training reads them, with offsets on the scale of the model's output."""
        assert batch.offset is not None
        offset = self.base_weight_ * self._offset(trainer.model.head, batch.offset)
        return placed(replace(batch, offset=offset), trainer.device, trainer.dtype)

    def _decide(self, trainer: Trainer, valid: SequenceBatch, base_loss: float, base_score: float) -> None:
        """Choose the weight of the network by the series set aside; leave it out if it is not clearly better there.

        The best of many epochs and weights is better by chance alone, so the loss has to fall by a standard error of
        the difference, and the score may not fall.
        """
        assert valid.offset is not None
        model = trainer.model
        own = outputs(model, replace(valid, offset=None), trainer.settings.batch_size).to(valid.offset)
        mixed = [replace(valid, offset=torch.lerp(valid.offset, own, w)) for w in _WEIGHTS]
        found = [_loss_and_score(model.head, batch) for batch in mixed]
        best = min(range(len(_WEIGHTS)), key=lambda i: found[i][0])
        w, (loss, score) = _WEIGHTS[best], found[best]
        losses, base_losses = (_losses(model.head, batch).double() for batch in (mixed[best], valid))
        weight = None if valid.weight is None else valid.weight.double()
        self.network_used_ = score >= base_score and is_better(losses, base_losses, len(valid), weight, _ERRORS)
        self._say(
            f"{len(valid)} series set aside: loss {base_loss:.4g} and score {base_score:.4g} of the base, {loss:.4g} "
            f"and {score:.4g} with the network at weight {w:.1f}; it is {'kept' if self.network_used_ else 'left out'}."
        )
        if self.network_used_:
            self.base_weight_ = 1.0 - w
            _scale(model, w)
        else:
            _silence(model)
        trainer.optimizer.state.clear()  # moments of other weights

    def _say(self, what: str) -> None:
        """Print a decision if the estimator is verbose."""
        if self.verbose:
            print(what)

    # -- after training

    def _batch_to_predict(self, X: Any) -> SequenceBatch:
        """Return series with the output of the base."""
        batch = self._batch(X, reset=False)
        if self.base_ is None or not self.base_weight_:
            return batch
        check_increasing(batch.time, batch.lengths)
        predictions = torch.from_numpy(self.base_._predictions_of(batch))
        return replace(batch, offset=self.base_weight_ * self._offset(self.module_.head, predictions))

    def _outputs(self, batch: SequenceBatch) -> Tensor:
        if batch.offset is not None and not self.network_used_:
            return batch.offset.to(next(self.module_.parameters()).dtype)
        return super()._outputs(batch)

    def _require_network(self, what: str, alone: bool) -> None:
        if self.base_ is not None and (alone or not self.network_used_):
            state = "stands beside the base" if self.network_used_ else "was left out"
            raise ValueError(
                f"{what} describes a network, but here it {state} (see base_ and network_used_). Fit with base=None."
            )

    # -- files

    def _to_file(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        document, tensors = super()._to_file()
        if self.base_ is not None:
            document["base"], own = self.base_._contents()
            tensors = {**tensors, **{_PREFIX + name: value for name, value in own.items()}}
        return document, tensors

    @classmethod
    def _restored(cls, document: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        if "base" not in document["parameters"]:  # the file is older than the parameter
            added = {"parameters": ("base", None), "attributes": ("network_used_", True), "module": ("base", None)}
            document = {**document, **{part: {**document[part], name: value} for part, (name, value) in added.items()}}
            document["attributes"]["base_weight_"] = 0.0
        return super()._restored(document, tensors)

    def _from_file(self, document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        own = {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
        super()._from_file(document, {name: value for name, value in tensors.items() if not name.startswith(_PREFIX)})
        self.base_ = None
        if (self._module_options["base"] is None) != ("base" not in document):
            raise ValueError("its base is not the one that its parameters name")
        if "base" in document:
            base = {key: persistence.decode(value) for key, value in document["base"].items()}
            if base["estimator"] != self._base_class.__name__:
                raise ValueError(f"its base is a {base['estimator']}, not a {self._base_class.__name__}")
            self.base_ = self._base_class._restored(base, own)
            self._check_base(self.base_)
        elif own or not self.network_used_:
            raise ValueError("it has no base, but needs one")

    def _check_base(self, base: Any) -> None:
        """Raise a ValueError unless a base read from a file fits this estimator."""
        if base.n_channels_in_ != self.n_channels_in_ or base._n_outputs() != self._n_logits():
            raise ValueError("its base has other channels or outputs than its network")


def _silence(model: Model) -> None:
    """Make the output of a network zero, whatever it reads, even if weights are not finite."""
    for parameter in model.head.projection.parameters():
        nn.init.zeros_(parameter)


@torch.no_grad()
def _scale(model: Model, factor: float) -> None:
    """Multiply the output of a network, whatever it reads."""
    for parameter in model.head.projection.parameters():
        parameter.mul_(factor)


def _loss_and_score(head: Head, batch: SequenceBatch) -> tuple[float, float]:
    """Return the mean loss and the mean score of the offset as output."""
    assert batch.offset is not None
    assert batch.target is not None
    sums = (function(batch.offset, batch.target, batch.weight) for function in (head.loss, head.score))
    loss, score = (float(value) / batch.total_weight for value in sums)
    return loss, score


def _losses(head: Head, batch: SequenceBatch) -> Tensor:
    """Return the loss of each series with the offset as output."""
    assert isinstance(head, ItemwiseHead)
    assert batch.offset is not None
    assert batch.target is not None
    return head.losses(batch.offset, batch.target)
