"""Train models: epochs, early stopping, history, progress.

This module works on torch modules; of scikit-learn it uses only the warning about convergence. Several processes, on
one machine or more, can train one model together: see ``process_group`` of :class:`Trainer`.
"""

import copy
import logging
import math
import os
import signal
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
import torch.distributed as dist
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from sfmts import _persistence as persistence
from sfmts._batch import SequenceBatch, bounded_batches, bucketed_batches, sent
from sfmts._checkpoint import Checkpoint, Stage, State, digest
from sfmts._choices import check_choice
from sfmts._precision import own_precision
from sfmts.model import Model, SequenceModel

__all__ = ["History", "SequenceBatch", "SequenceModel", "Trainer", "TrainingSettings", "evaluate"]

_logger = logging.getLogger("sfmts")

SCHEDULES = ("constant", "cosine")
NOT_OF_THE_RESULT = ("verbose", "checkpoint_seconds")  # settings on which the model does not depend
CUT_OFF = ("interrupted", "terminated")  # reasons to stop before the training's own end
_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.AdamW,  # decoupled weight decay; equal to Adam without decay
    "sgd": lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **options),
    "rmsprop": torch.optim.RMSprop,
    "adadelta": lambda parameters, **options: torch.optim.Adadelta(parameters, rho=0.95, **options),
}
OPTIMIZERS = tuple(_OPTIMIZERS)
_MOST_LEFT_OUT = 10  # updates in a row whose gradient is not finite, before an error
_SHARE_OF_MEMORY = 0.25  # of what is free on a GPU, for the training data; the rest is for gradients
_TRAINING_ADVICE = (
    'Shorten the series, choose a smaller network, or let an SFM keep less: network_params={"memory": "recompute"}.'
)
_PREDICTION_ADVICE = "Shorten the series, or compute on the CPU."
_RISE = 10.0  # warn if the final loss is more than this multiple of the first one


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the training.

    The names are those of the parameters of :class:`sfmts.SFMClassifier` and of the entries of its
    ``optimizer_params``, where they are documented.
    """

    max_iter: int = 100
    batch_size: int = 32
    optimizer: str = "adam"
    schedule: str = "cosine"
    learning_rate_init: float = 0.01
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    checkpoint_seconds: float = 60.0
    tol: float = 1e-4
    n_iter_no_change: int = 10
    verbose: int = 0

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)


@dataclass
class History:
    """Record of a training, with one entry per epoch."""

    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    validation_score: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    n_updates: int = 0
    stopped: str = ""  # why training ended

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of the record as lists and numbers.

        Returns
        -------
        history : dict of str to list, int or str
            The record.
        """
        return copy.deepcopy(vars(self))

    def followed_by(self, later: "History") -> "History":
        """Return the record of this training and a later one of the same model.

        Parameters
        ----------
        later : History
            Record of the later training, whose end is the end of both.

        Returns
        -------
        history : History
            The entries of both, and the sum of their updates.
        """
        joined = {name: value + vars(later)[name] for name, value in vars(self).items() if name != "stopped"}
        return History(**joined, stopped=later.stopped)


class TrainingData(Protocol):
    """Interface of items with targets that training reads in mini-batches.

    :class:`SequenceBatch` is an example.
    """

    @property
    def values(self) -> Tensor:
        """All numbers of the items."""

    @property
    def lengths(self) -> Tensor:
        """Number of steps of each item, on the CPU."""

    @property
    def target(self) -> Tensor | None:
        """Target of each item."""

    @property
    def weight(self) -> Tensor | None:
        """Weight of each item; None stands for 1."""

    @property
    def total_weight(self) -> float:
        """Sum of the weights."""

    def __len__(self) -> int: ...

    def take(self, index: Tensor, there: Tensor | None = None) -> "TrainingBatch":
        """Return the items numbered ``index``, in that order.

        Parameters
        ----------
        index : Tensor of int64
            Numbers of the items, on the CPU.
        there : Tensor of int64, optional
            The same numbers on the device of ``values``. By default ``index`` is sent there.

        Returns
        -------
        batch : TrainingBatch
            The items.
        """


class TrainingBatch(TrainingData, Protocol):
    """Interface of a mini-batch, a dataclass that ``Model.features_of`` reads."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def to(self, device: torch.device, dtype: torch.dtype) -> "TrainingBatch":
        """Return the mini-batch on a device, with numbers of a type.

        Parameters
        ----------
        device : torch.device
            Where to put the tensors.
        dtype : torch.dtype
            Type of the values and weights.

        Returns
        -------
        batch : TrainingBatch
            The mini-batch.
        """


class TrainingSet(TrainingData, Protocol):
    """Interface of all items that :meth:`Trainer.fit` trains on, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the items on a device, with numbers of a type.

        Parameters
        ----------
        device : torch.device
            Where to put the tensors.
        dtype : torch.dtype
            Type of the values and weights of mini-batches.

        Returns
        -------
        data : TrainingSet
            The items.
        """

    def weight_of(self, index: Tensor) -> float:
        """Return the sum of the weights of the items numbered ``index``.

        Parameters
        ----------
        index : Tensor of int64
            Numbers of the items, on the CPU.

        Returns
        -------
        total : float
            Their summed weight, found without waiting for a GPU.
        """


_Set = TypeVar("_Set", bound=TrainingSet)


def placed(data: _Set, device: torch.device, dtype: torch.dtype) -> _Set:
    """Return data where training on a device should read them, with numbers of a type.

    Parameters
    ----------
    data : TrainingSet
        Items to train on or to validate on.
    device : torch.device
        Device of the model.
    dtype : torch.dtype
        Type of the model's parameters.

    Returns
    -------
    data : TrainingSet
        The items on the device. If they would take more than a quarter of a GPU's free memory, they are on the CPU, and
        training sends each mini-batch.
    """
    if device.type != "cuda" or data.values.device.type != "cpu":
        return data.to(device, dtype)
    data = data.to(data.values.device, dtype)
    parts = (getattr(data, f.name) for f in fields(data))
    size = sum(part.nbytes for part in parts if isinstance(part, Tensor))
    return data if size > _SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0] else data.to(device, dtype)


class Watcher(Protocol):
    """Interface of an object that training notifies of each epoch."""

    def epoch_begins(self) -> None:
        """Note that an epoch begins."""

    def epoch_ended(self) -> bool:
        """Note that an epoch has ended.

        Returns
        -------
        stop : bool
            Whether to stop training.
        """


def best_epoch(scores: Sequence[float]) -> int:
    """Return the number of the first epoch with the greatest score. NaN is never the greatest.

    Parameters
    ----------
    scores : sequence of float
        Score of each epoch.

    Returns
    -------
    number : int
        Number of the epoch, counted from 1; 1 if there are no scores because the first epoch was interrupted.
    """
    comparable = [-math.inf if math.isnan(score) else score for score in scores]
    return 1 + comparable.index(max(comparable)) if comparable else 1


def is_better(
    losses: Tensor, others: Tensor, independent: float, weight: Tensor | None = None, errors: float = 0.5
) -> bool:
    """Return whether losses are lower than others by more than ``errors`` standard errors of the mean difference.

    Parameters
    ----------
    losses, others : Tensor of shape (m,)
        Losses of two models on the same items.
    independent : float
        Number of independent items that the m items count as; fewer than m if they overlap. One item proves nothing.
    weight : Tensor of shape (m,), optional
        Weights of the items; equal by default.
    errors : float, default=0.5
        Number of standard errors.

    Returns
    -------
    better : bool
        True if the difference is beyond chance.

    Notes
    -----
    With differences d_i = others_i - losses_i and weights w_i that sum to 1, the mean is sum w_i d_i, the variance is
    sum w_i (d_i - mean)^2, and the effective number of items is independent / (m sum w_i^2).
    """
    weight = torch.ones_like(losses) if weight is None else weight
    weight = weight / weight.sum()
    gain = others - losses
    mean = weight @ gain
    error = (weight @ (gain - mean).square()).sqrt()
    effective = independent / (len(weight) * float(weight.square().sum()))
    return effective > 1.0 and bool(mean > errors * error / math.sqrt(effective - 1.0))


class Trainer:
    """Train one model, in one or several calls.

    Parameters
    ----------
    model : Model
        Trained in place, on its own device.
    settings : TrainingSettings
        How to train.
    generator : torch.Generator
        Source of the order of mini-batches and, on the CPU, of dropout.
    process_group : torch.distributed.ProcessGroup, optional
        Processes ("ranks") that train the model together, ``torch.distributed.group.WORLD`` for all. By default this
        process trains alone, even if ``torch.distributed`` is initialised.

    Notes
    -----
    A mini-batch of more than 2^18 padded steps (number of series times the longest length) is read in parts within that
    bound. Series of similar length share a part, and a longer series is a part by itself. The gradients of the parts
    are summed before one update. They differ from the gradient of the whole mini-batch by rounding only, because the
    states of a network do not depend on the other series of a batch. Three things depend on the parts. Dropout masks
    and the Gibbs chains of ``head="rbm"`` are drawn for each part, from the same distribution. A user's network that
    computes statistics over a batch computes them over a part. The extra loss of a network is averaged over the parts,
    weighted by their numbers of steps.

    If the memory of the device runs out (``torch.OutOfMemoryError``), the mini-batch is read anew in parts of half the
    size, and so are later ones. This is logged. It is an error in a ``process_group``, with batch normalisation, and
    for a single series.

    With a ``process_group``, every rank makes the same calls with the same data, and starts with the model and the
    generator of rank 0. Each mini-batch of ``batch_size`` series is divided among the ranks.
    :class:`torch.nn.parallel.DistributedDataParallel` sums their gradients, so all ranks make the same update. Losses
    are divided by one number for the whole mini-batch. History and weights therefore equal those of one process except
    for rounding, even if the last mini-batch is small. Validation data are divided in the same way.

    Each rank draws its own dropout masks and Gibbs chains, from the same distribution as one process. The extra loss of
    a network is averaged over the ranks, weighted by their numbers of steps; this is exact for a penalty on weights and
    for a mean over steps.

    An interrupt, a SIGTERM or a stop requested by a watcher on one rank ends training on all ranks after the same
    update. After an error on one rank, the others wait until the launcher, such as ``torchrun``, ends them.

    A ``checkpoint`` holds weights, best weights, optimizer, schedule, generators and history. In a group, rank 0 writes
    it, and all ranks read it, so it must be on a file system that they share. The number of ranks must stay the same.
    """

    def __init__(
        self,
        model: Model,
        settings: TrainingSettings,
        generator: torch.Generator,
        process_group: "dist.ProcessGroup | None" = None,
    ) -> None:
        self.model, self.settings, self.generator = model, settings, generator
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.device, self.dtype = self.parameters[0].device, self.parameters[0].dtype
        self._ranks = _Ranks(process_group, self.device)
        self._ranks.agree_on(generator)
        self._loss = self._ranks.parallel(_Loss(model))
        self._room, self._validation_room = Room(_TRAINING_ADVICE, self._whole_batches()), Room(_PREDICTION_ADVICE)
        self.dropout_generator = self._ranks.dropout_generator(generator)
        options = {"fused": True} if settings.optimizer == "adam" and self.device.type in ("cpu", "cuda") else {}
        self.optimizer = _OPTIMIZERS[settings.optimizer](
            self.parameters, lr=settings.learning_rate_init, weight_decay=settings.weight_decay, **options
        )
        if self.device.type == "cpu":
            _ask_no_gpu(self.optimizer)
        self.history = History()
        self._left_out = 0  # updates in a row whose gradient was not finite
        self._first_loss: float | None = None  # mean of the first mini-batch

    def _whole_batches(self) -> str:
        """Return why mini-batches cannot be cut when memory runs out; empty if they can."""
        if self._ranks.group is not None:
            return "Other processes wait for this one, so the mini-batch cannot be cut into parts."
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.model.modules()):
            return "The network computes statistics of a mini-batch, so it cannot be cut into parts."
        return ""

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Continue with the moments of an earlier training, but with the current settings.

        Parameters
        ----------
        state : dict
            ``state_dict`` of the earlier optimizer.
        """
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(copy.deepcopy(state))
        for group, setting in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(setting)

    @own_precision()
    def fit(
        self,
        train: TrainingSet,
        valid: TrainingSet | None = None,
        epochs: int | None = None,
        watcher: Watcher | None = None,
        by_loss: bool = False,
        checkpoint: str | os.PathLike[str] | Stage | None = None,
    ) -> History:
        """Train until nothing improves, the last epoch has ended, or the user interrupts.

        An interrupt (Ctrl-C) before the first update is raised again. After a later one the model keeps its current
        weights. With a ``checkpoint``, SIGTERM ends training after the current update.

        Parameters
        ----------
        train : TrainingSet
            Items to train on, on the model's device or on the CPU, from where each mini-batch is sent.
        valid : TrainingSet, optional
            Items to validate on after each epoch, likewise. The model keeps the weights of the epoch with the best
            score. If the loss becomes infinite or NaN after a validated epoch, training ends with a warning and these
            weights.
        epochs : int, optional
            Maximum number of epochs; ``max_iter`` of the settings by default.
        watcher : Watcher, optional
            Notified of each epoch.
        by_loss : bool
            Whether the validation loss decides which epoch is the best one, instead of the validation score.
        checkpoint : str or path, optional
            File from which an equal call continues if this one is cut off; see the parameter of
            :class:`sfmts.SFMClassifier`. It is written every ``checkpoint_seconds`` of the settings.

        Returns
        -------
        history : History
            Record of all calls so far.

        Raises
        ------
        FloatingPointError
            If the loss becomes infinite or NaN and no epoch was validated before.
        ValueError
            If the ranks of a ``process_group`` got different data, the loss does not depend on a parameter, or the
            ``checkpoint`` is that of another training.
        """
        self._ranks.check_same(train)
        if isinstance(checkpoint, str | os.PathLike):
            with Checkpoint(checkpoint, self._identity(train, valid, epochs, by_loss)) as file:
                return self.fit(train, valid, epochs, watcher, by_loss, file.stage("training"))
        self._first_loss = None
        best = _Best(self.settings.tol, self.settings.n_iter_no_change, by_loss)
        run = _Run(
            self.settings.max_iter if epochs is None else epochs,
            math.ceil(len(train) / self.settings.batch_size),
            best,
            checkpoint,
        )
        self._resume(run)
        with self._ranks.interrupted_together(), self._progress(run) as progress:
            try:
                self._epochs(train, valid, watcher, run, progress)
            except (KeyboardInterrupt, _Terminated) as reason:
                self._cut_off(reason, checkpoint)
            except FloatingPointError as error:
                if best.weights is None:
                    raise
                self.history.stopped = "diverged"
                self.optimizer.state.clear()  # moments that may be infinite or NaN
                warnings.warn(
                    f"{error} Training has ended, and the model keeps the weights of epoch {best.epoch}, the best one.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
            progress.total = progress.n  # no further batches follow
        if self.history.stopped not in CUT_OFF:
            run.is_done = True
            self._save(run)
        if best.weights is not None:
            self.model.load_state_dict(best.weights)
        if not all(bool(p.isfinite().all()) for p in self.parameters):
            raise self._diverged("The last update made a weight infinite or NaN.")
        self._warn_if_risen(best)
        return self.history

    def _warn_if_risen(self, best: "_Best") -> None:
        """Warn if the training loss of the final weights is far greater than the loss of the first mini-batch.

        Losses of scaled targets, labels and frames differ by up to 1 between mini-batches, which is no divergence.
        """
        losses, start = self.history.loss, self._first_loss
        if not losses or start is None:
            return
        end = losses[-1] if best.weights is None else losses[best.epoch - 1]
        if end > _RISE * start + 1.0:
            what = f"Training diverged: the loss rose from {start:.3g} in the first mini-batch to {end:.3g}."
            warnings.warn(str(self._diverged(what)), ConvergenceWarning, stacklevel=3)

    def _progress(self, run: "_Run") -> tqdm:
        """Return the progress bar."""
        return tqdm(
            total=run.epochs * run.batches,
            initial=run.n_batches,
            disable=not self.settings.verbose or self._ranks.rank > 0,
            unit="batch",
            desc="fit",
            mininterval=0.5,
        )

    def _cut_off(self, reason: BaseException, stage: Stage | None) -> None:
        """End training early, with a warning; raise the reason again if nothing was learned."""
        if not self.history.n_updates:
            raise reason
        by_signal = isinstance(reason, _Terminated)
        self.history.stopped = "terminated" if by_signal else "interrupted"
        advice = ""
        if stage is not None:
            stage.checkpoint.cut_off = True
            advice = f" The next fit with the same data and parameters continues from {stage.checkpoint.path}."
        how = "ended by SIGTERM" if by_signal else "interrupted"
        warnings.warn(f"Training was {how}; the model keeps what it has learned so far.{advice}", stacklevel=3)

    def _rate(self, update: int, updates: int) -> float:
        """Return the learning rate of update u of U: for "cosine" r (1 + cos(pi u / U)) / 2."""
        rate = self.settings.learning_rate_init
        return rate * 0.5 * (1.0 + math.cos(math.pi * update / updates)) if self._is_cosine else rate

    @property
    def _is_cosine(self) -> bool:
        return self.settings.schedule == "cosine"

    def _epochs(
        self,
        train: TrainingSet,
        valid: TrainingSet | None,
        watcher: Watcher | None,
        run: "_Run",
        progress: tqdm,
    ) -> None:
        """Train until a reason to stop."""
        while not run.is_done:
            if run.epoch == run.epochs:
                self.history.stopped = "max_iter"
                return
            if watcher is not None:
                watcher.epoch_begins()
            self._epoch(train, run, progress)
            stop = self._should_stop(valid, run.best, progress)
            if any(self._ranks.sums(watcher is not None and watcher.epoch_ended())):
                self.history.stopped, stop = "callback", True
            if stop:
                return

    def _epoch(self, train: TrainingSet, run: "_Run", progress: tqdm) -> None:
        """Train on each mini-batch once, or on those that are left of an epoch that was cut off."""
        self.model.train()
        whole, updates = train.total_weight, run.epochs * run.batches  # the sum over all items is computed once
        if run.batch == 0:
            run.order, run.total = self.generator.get_state(), 0.0
            order = self.generator
        else:
            order = torch.Generator()
            order.set_state(run.order)
        batches = bucketed_batches(train.lengths, self.settings.batch_size, order)[run.batch :]
        for index, there in zip(batches, _all_on(train.values.device, batches), strict=True):
            batch = train.take(index, there)
            if batch.values.device != self.device:
                batch = sent(batch, self.device)
            weighs = train.weight_of(index) if self.model.head.batches_alike else len(index) * (whole / len(train))
            run.total += self._train_step(batch, weighs, self._rate(run.n_batches, updates))
            run.batch += 1
            progress.update()
            self._keep(run)
        self.history.loss.append(run.total / whole)
        self.history.learning_rate.append(self._rate(run.n_batches - 1, updates))
        run.epoch, run.batch = run.epoch + 1, 0
        progress.set_postfix(loss=f"{self.history.loss[-1]:.4g}", refresh=False)

    def _train_step(self, batch: TrainingBatch, weighs: float, rate: float) -> float:
        """Make one update by the loss of a mini-batch divided by ``weighs``, and return the summed loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        share, part = self._ranks.share(batch)
        losses = self._add_gradients(share, weighs, part)
        self._ranks.check_exchanged(self.model)
        clip_norm = self.settings.clip_norm
        norms = [] if clip_norm is None else [torch.nn.utils.clip_grad_norm_(self.parameters, clip_norm)]
        # The program waits for a GPU here and nowhere else in an update.
        values = torch.stack([*losses, *norms]).tolist()
        (value,) = self._ranks.sums(sum(values[: len(losses)]))
        if self._first_loss is None and weighs > 0.0:
            self._first_loss = value / weighs
        if not math.isfinite(value):
            raise self._diverged(f"The training loss became {value} in epoch {len(self.history.loss) + 1}.")
        if norms and not math.isfinite(values[-1]):
            self._leave_out_update(values[-1])
            return value
        self._left_out = 0
        self.optimizer.step()
        self.history.n_updates += 1
        return value

    def _add_gradients(self, batch: TrainingData, weighs: float, part: float) -> list[Tensor]:
        """Set the gradients to those of a mini-batch, and return the summed losses of its parts.

        If memory runs out, start anew with smaller parts, from the same random numbers.
        """
        steps, random = self._room.steps, self.dropout_generator.get_state()
        seed = getattr(self.model.head, "seed", None)
        while (losses := self._try_to_add(batch, weighs, part)) is None:
            self.dropout_generator.set_state(random)
            if seed is not None:
                self.model.head.seed = seed
        if self._room.steps != steps:
            _logger.warning(
                "Memory ran out on %s, so mini-batches are now read in parts of at most %d padded steps. Their "
                "gradients are summed, so updates are the same except for rounding. Random masks, such as those of "
                "dropout, are drawn for each part.",
                self.device,
                self._room.steps,
            )
        return losses

    def _try_to_add(self, batch: TrainingData, weighs: float, part: float) -> list[Tensor] | None:
        """Set the gradients; return the losses of the parts, or None if memory ran out and parts are to be smaller."""
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        parts = bounded_batches(batch.lengths, torch.arange(len(batch)), len(batch), self._room.steps)
        for index in parts:
            exchange = nullcontext() if index is parts[-1] else self._ranks.without_exchange(self._loss)
            try:
                # A mini-batch within the bound is one part, unchanged.
                some = batch if len(parts) == 1 else _run_of(batch, int(index[0]), int(index[-1]) + 1)
                with exchange:
                    losses.append(self._backward(some, weighs, part * _share_of_steps(batch.lengths, index)))
            except torch.OutOfMemoryError as error:
                self._room.halve(batch.lengths[index], error)
                # Memory is free after the return only, as the error keeps what was computed.
                return None
        return losses

    def _backward(self, batch: TrainingData, weighs: float, part: float) -> Tensor:
        """Add the gradients of a part of a mini-batch, and return its summed loss.

        ``part`` is the part's share of the steps of the mini-batch, the weight of the network's extra loss.
        """
        loss, extra_loss = self._loss(batch, self.dropout_generator)
        mean_loss = loss / (weighs / self._ranks.size)  # gradients are averaged over the ranks
        if extra_loss is not None:
            mean_loss = mean_loss + extra_loss * (part * self._ranks.size)
        mean_loss.backward()
        return loss.detach()

    def _leave_out_update(self, norm: float) -> None:
        """Skip an update whose gradient is not finite; raise after ten in a row."""
        self._left_out += 1
        if self._left_out == _MOST_LEFT_OUT:
            raise self._diverged(f"The gradient's norm has been {norm} in {_MOST_LEFT_OUT} updates in a row.")

    # -- checkpoints

    def _identity(
        self, train: TrainingSet, valid: TrainingSet | None, epochs: int | None, by_loss: bool
    ) -> dict[str, Any]:
        """Return what a call of :meth:`fit` depends on."""
        data = {
            name: None if part is None else digest(part.values, part.lengths, part.target, part.weight)
            for name, part in (("train", train), ("valid", valid))
        }
        settings = {name: value for name, value in asdict(self.settings).items() if name not in NOT_OF_THE_RESULT}
        generator = digest(self.generator.get_state())
        return {**settings, **data, "epochs": epochs, "by_loss": by_loss, "generator": generator}

    def _keep(self, run: "_Run") -> None:
        """Write the checkpoint if it is time, and end training after SIGTERM."""
        if run.stage is None:
            return
        file = run.stage.checkpoint
        # The clock of rank 0 decides for all.
        is_due = self._ranks.rank == 0 and file.is_due(self.settings.checkpoint_seconds)
        is_due, terminated = map(bool, self._ranks.sums(is_due, file.terminated and self.history.n_updates > 0))
        if is_due or terminated:
            self._save(run)
        if terminated:
            raise _Terminated

    def _save(self, run: "_Run") -> None:
        """Write the state of this training to its checkpoint."""
        if run.stage is None:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in (run.best.weights or {}).items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items() if value is not None}
        tensors |= {"generator": self.generator.get_state(), "order": run.order}
        if self.dropout_generator is not self.generator:
            states = self._ranks.gathered(self.dropout_generator.get_state())
            tensors |= {f"dropout.{rank}": state for rank, state in enumerate(states)}
        if self._ranks.rank == 0:
            document = {
                "place": self._place,
                "run": {name: getattr(run, name) for name in ("epoch", "batch", "total", "is_done")},
                "best": {name: getattr(run.best, name) for name in run.best.kept},
                "history": self.history.as_dict(),
                "left_out": self._left_out,
                "first_loss": self._first_loss,
                "seed": getattr(self.model.head, "seed", None),
            }
            run.stage.save((document, tensors))

    @property
    def _place(self) -> str:
        """Where and in which precision training runs."""
        ranks = "" if self._ranks.group is None else f" in {self._ranks.size} processes"
        return f"{self.device.type} in {str(self.dtype).removeprefix('torch.')}{ranks}"

    def _resume(self, run: "_Run") -> None:
        """Continue from the checkpoint, if it holds a state of this training."""
        state = None if run.stage is None else run.stage.load()
        seen = self._ranks.sums(state is not None)[0]
        if seen not in (0, self._ranks.size):
            raise ValueError("Only some ranks found the checkpoint. Put it on a file system that all ranks share.")
        if state is None:
            return
        assert run.stage is not None
        path, place = run.stage.checkpoint.path, state[0].get("place")
        if place != self._place:
            raise ValueError(
                f"The checkpoint {path} is of a training on {place}, but this one is on {self._place}. Set device to "
                "the same kind of device, or delete the file to start anew."
            )
        with persistence.described(path):
            self._restore(state, run)

    def _restore(self, state: State, run: "_Run") -> None:
        """Set what :meth:`_save` saved."""
        document, tensors = state

        def named(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        weights = named("best.")
        run.best.weights = {name: value.to(self.device) for name, value in weights.items()} or None
        self.model.load_state_dict(named("model."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in named("optimizer.").items():
            number, _, own = name.partition(".")
            if value.ndim and value.shape != self.parameters[int(number)].shape:
                raise ValueError(f"{name} of its optimizer has the shape {tuple(value.shape)}")
            moments.setdefault(int(number), {})[own] = value
        self.load_optimizer_state({**self.optimizer.state_dict(), "state": moments})
        self.generator.set_state(tensors["generator"])
        if self.dropout_generator is not self.generator:
            self.dropout_generator.set_state(tensors[f"dropout.{self._ranks.rank}"])
        run.order = tensors["order"]
        for owner, name in ((run, "run"), (run.best, "best")):
            for key, value in document[name].items():
                if type(value) is not type(getattr(owner, key)) and key != "key":
                    raise ValueError(f"{key}={value!r} has another type")
                setattr(owner, key, value)
        self.history = History(**document["history"])
        self._left_out, self._first_loss = document["left_out"], document["first_loss"]
        if document["seed"] is not None:
            self.model.head.seed = document["seed"]

    def _diverged(self, what: str) -> FloatingPointError:
        """Return an error with advice."""
        clip_norm, rate = self.settings.clip_norm, self.settings.learning_rate_init
        clip = "set clip_norm in optimizer_params" if clip_norm is None else f"clip_norm (now {clip_norm})"
        return FloatingPointError(f"{what} Lower learning_rate_init (now {rate}) or {clip}.")

    def _should_stop(self, valid: TrainingSet | None, best: "_Best", progress: tqdm) -> bool:
        """Evaluate the epoch and return whether training should stop."""
        history = self.history
        if valid is None:
            # A falling learning rate leads out of a plateau. Epochs count as unimproved once the loss is below tol.
            hopeful = self._is_cosine and history.loss[-1] > self.settings.tol
            stop = best.update((-history.loss[-1],), None, hopeful)
        else:
            share = self._ranks.share(valid)[0]
            sums = self._ranks.sums(*_summed(self.model, share, self.settings.batch_size, self._validation_room))
            score, loss = (value / valid.total_weight for value in sums)
            history.validation_score.append(score)
            history.validation_loss.append(loss)
            progress.set_postfix(loss=f"{history.loss[-1]:.4g}", validation=f"{score:.4g}", refresh=False)
            stop = best.update((-loss,) if best.by_loss else (score, -loss), self.model)
        if stop:
            history.stopped = "validation_score" if valid is not None else "loss"
        return stop


def _all_on(device: torch.device, batches: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the numbers of the items of each mini-batch on a device, sent at once."""
    if device.type == "cpu":
        return batches
    return torch.cat(list(batches)).to(device).split([len(index) for index in batches])


def _run_of(batch: TrainingData, start: int, stop: int, step: int = 1) -> TrainingBatch:
    """Return every ``step``-th item of a batch, without sending their numbers to a GPU."""
    index = torch.arange(start, stop, step)
    return batch.take(index, torch.arange(start, stop, step, device=batch.values.device))


def _share_of_steps(lengths: Tensor, index: Tensor) -> float:
    """Return the share of all steps that belong to the series numbered ``index``."""
    # PyTorch would divide integer tensors in single precision.
    return int(lengths[index].sum()) / int(lengths.sum())


def _ask_no_gpu(optimizer: torch.optim.Optimizer) -> None:
    """Skip the question of each update whether a GPU records it. It would start CUDA, and forks of the process fail."""
    # The second name is that of older versions of PyTorch.
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        if hasattr(optimizer, name):
            setattr(optimizer, name, lambda: None)


class _Loss(nn.Module):
    """Module for DistributedDataParallel to wrap: the summed loss and the extra loss of a mini-batch."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TrainingBatch, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        output, extra_loss = self.model.outputs_of(batch, generator)
        assert batch.target is not None
        return self.model.head.loss(output, batch.target, batch.weight), extra_loss


class _Ranks:
    """The processes that train together, seen from one of them; without a group, this process alone."""

    def __init__(self, group: "dist.ProcessGroup | None", device: torch.device) -> None:
        self.group, self.device = group, device
        self.rank = 0 if group is None else dist.get_rank(group)
        self.size = 1 if group is None else dist.get_world_size(group)
        self._interrupted = False

    def agree_on(self, generator: torch.Generator) -> None:
        """Copy the state of rank 0's generator, so all ranks draw the same mini-batches."""
        if self.group is not None:
            state = generator.get_state().to(self.device)
            dist.broadcast(state, group=self.group, group_src=0)
            generator.set_state(state.cpu())

    def parallel(self, loss: _Loss) -> nn.Module:
        """Return the module wrapped so that its gradients are averaged over the ranks."""
        return loss if self.group is None else DistributedDataParallel(loss, process_group=self.group)

    def without_exchange(self, loss: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which gradients are summed on this rank and not exchanged."""
        if isinstance(loss, DistributedDataParallel):
            context: AbstractContextManager[None] = loss.no_sync()
            return context
        return nullcontext()

    def dropout_generator(self, generator: torch.Generator) -> torch.Generator:
        """Return the source of this rank's dropout masks."""
        if self.device.type == "cpu" and self.group is None:
            return generator
        # A clone: the order of mini-batches must be that of one process on the CPU.
        seed = int(torch.randint(2**31 - 1, (), generator=generator.clone_state()))
        return torch.Generator(self.device).manual_seed(seed + self.rank)

    def check_same(self, data: TrainingData) -> None:
        """Raise ValueError unless all ranks have the same data."""
        if self.group is None:
            return
        digest = zlib.crc32(data.values.cpu().contiguous().numpy().data, zlib.crc32(data.lengths.numpy().data))
        mine = torch.tensor([len(data), digest], device=self.device)
        all_ranks = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(all_ranks, mine, group=self.group)
        if any(not torch.equal(other, mine) for other in all_ranks):
            counts = ", ".join(str(int(other[0])) for other in all_ranks)
            raise ValueError(
                f"The ranks got different data ({counts} series). Pass all series in the same order on each rank; the "
                "trainer divides each mini-batch among them."
            )

    def check_exchanged(self, model: Model) -> None:
        """Raise ValueError if a parameter has no gradient: DistributedDataParallel would silently exchange none."""
        if self.group is None:
            return
        unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        if unused:
            raise ValueError(
                f"The loss does not depend on {', '.join(unused)}, but training in several processes needs a gradient "
                "for each parameter. Freeze unused parameters with requires_grad_(False)."
            )

    def share(self, batch: TrainingData) -> tuple[TrainingData, float]:
        """Return this rank's series of a mini-batch, every ``size``-th, and their share of all steps.

        A rank without series gets the first one with weight 0, because all ranks must exchange gradients.
        """
        if self.size == 1:
            return batch, 1.0
        index = torch.arange(len(batch))[self.rank :: self.size]
        if len(index):
            run = _run_of(batch, self.rank, len(batch), self.size)
            return run, _share_of_steps(batch.lengths, index)
        idle = _run_of(batch, 0, 1)
        assert idle.target is not None
        return replace(idle, weight=idle.values.new_zeros(len(idle.target))), 0.0

    def sums(self, *numbers: float) -> list[float]:
        """Return sums over the ranks; raise KeyboardInterrupt on all ranks if one was interrupted."""
        if self.group is None:
            return list(numbers)
        totals = torch.tensor([*numbers, self._interrupted], dtype=torch.float64, device=self.device)
        dist.all_reduce(totals, group=self.group)
        *sums, interrupts = totals.tolist()
        if interrupts:
            self._interrupted = False
            raise KeyboardInterrupt
        return sums

    def gathered(self, state: Tensor) -> list[Tensor]:
        """Return the states of all ranks' generators."""
        if self.group is None:
            return [state]
        states = [torch.empty_like(state, device=self.device) for _ in range(self.size)]
        dist.all_gather(states, state.to(self.device), group=self.group)
        return [other.cpu() for other in states]

    @contextmanager
    def interrupted_together(self) -> Iterator[None]:
        """Delay Ctrl-C until all ranks exchange numbers; otherwise the others would wait for a stopped rank."""
        if self.group is None or threading.current_thread() is not threading.main_thread():
            yield
            return

        def remember(*_: object) -> None:
            self._interrupted = True

        before = signal.signal(signal.SIGINT, remember)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class _Terminated(Exception):  # noqa: N818 (no error)
    """SIGTERM has been received."""


@dataclass
class _Run:
    """How far a call of :meth:`Trainer.fit` has come."""

    epochs: int  # at most
    batches: int  # in an epoch
    best: "_Best"
    stage: Stage | None
    epoch: int = 0  # those that have ended
    batch: int = 0  # those of the current epoch that have ended
    total: float = 0.0  # their summed loss
    order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))  # generator as the epoch began
    is_done: bool = False

    @property
    def n_batches(self) -> int:
        """Number of mini-batches that have ended."""
        return self.epoch * self.batches + self.batch


class _Best:
    """The best epoch so far, and the number of epochs since the last improvement."""

    kept = ("key", "milestone", "waited", "epochs", "epoch")  # in a checkpoint, besides the weights

    def __init__(self, tol: float, patience: int, by_loss: bool = False) -> None:
        self.tol, self.patience, self.by_loss = tol, patience, by_loss
        self.key: tuple[float, ...] | None = None
        self.milestone = -math.inf  # an epoch must exceed this by tol to count as progress
        self.waited = 0
        self.epochs = self.epoch = 0  # number of epochs, and of the best one, counted from 1
        self.weights: dict[str, Tensor] | None = None

    def update(self, key: tuple[float, ...], model: Model | None, hopeful: bool = False) -> bool:
        """Add an epoch and return whether to stop.

        Greater keys are better; later entries break ties. A ``hopeful`` epoch restarts the count even without an
        improvement. An epoch with NaN in its key is never the best.
        """
        self.epochs += 1
        progress = key[-1] > self.milestone + self.tol or (self.key is not None and key[0] > self.key[0] + self.tol)
        if progress:
            self.milestone = max(self.milestone, key[-1])
        self.waited = 0 if progress or hopeful else self.waited + 1
        if not any(map(math.isnan, key)) and (self.key is None or key > self.key):
            self.key, self.epoch = key, self.epochs
            if model is not None:
                self.weights = copy.deepcopy(model.state_dict())
        return self.waited >= self.patience


class Room:
    """Bound of the padded steps that are computed at once, halved whenever memory runs out.

    Parameters
    ----------
    advice : str
        What to do if memory is too small for a single series.
    obstacle : str
        Why batches cannot be cut, if they cannot.
    """

    def __init__(self, advice: str, obstacle: str = "") -> None:
        self.steps: int | None = None  # None is the bound without any lack of memory
        self._advice, self._obstacle = advice, obstacle

    def halve(self, lengths: Tensor, error: torch.OutOfMemoryError) -> None:
        """Halve the bound, from the padded steps of a batch for which memory ran out.

        Parameters
        ----------
        lengths : Tensor of int64
            Lengths of the series in the batch.
        error : torch.OutOfMemoryError
            What was raised.

        Raises
        ------
        torch.OutOfMemoryError
            If the batch cannot be cut: with advice.
        """
        longest = int(lengths.max())
        if self._obstacle or len(lengths) == 1:
            what = f"{len(lengths)} series of up to" if len(lengths) > 1 else "a single series of"
            why = f" {self._obstacle} Use a smaller batch_size." if len(lengths) > 1 else ""
            raise torch.OutOfMemoryError(
                f"Memory ran out for {what} {longest} steps.{why} {self._advice} ({error})"
            ) from error
        self.steps = len(lengths) * longest // 2


def in_batches(
    compute: Callable[[Any], Tensor], data: TrainingData, order: Tensor, batch_size: int, room: Room | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Compute something for all items, batch by batch, in smaller batches once memory runs out.

    Parameters
    ----------
    compute : callable
        Takes a batch and returns a tensor.
    data : TrainingData
        Items.
    order : Tensor of int64
        Numbers of all items in the order of computation.
    batch_size : int
        Maximum number of items in a batch.
    room : Room, optional
        Bound of the padded steps of a batch, which is lowered if memory runs out; a new one by default.

    Yields
    ------
    index : Tensor of int64
        Numbers of the items of a batch.
    result : Tensor
        What ``compute`` returned.

    Raises
    ------
    torch.OutOfMemoryError
        If memory is too small for a single series.
    """
    room = Room(_PREDICTION_ADVICE) if room is None else room
    done = 0
    while done < len(order):
        for index in bounded_batches(data.lengths, order[done:], batch_size, room.steps):
            try:
                result = compute(data.take(index))
            except torch.OutOfMemoryError as error:
                room.halve(data.lengths[index], error)
                _logger.warning(
                    "Memory ran out, so series are now read in batches of at most %d padded steps.", room.steps
                )
                break
            yield index, result
            done += len(index)


@torch.no_grad()
def outputs(model: Model, data: TrainingData, batch_size: int, room: Room | None = None) -> Tensor:
    """Return the head's raw outputs for all items, computed in batches of similar length.

    Callers turn autocast off.

    Parameters
    ----------
    model : Model
        Set to evaluation mode.
    data : TrainingData
        Items.
    batch_size : int
        Maximum number of items in a batch.
    room : Room, optional
        See :func:`in_batches`.

    Returns
    -------
    outputs : Tensor of shape (items, ...)
        Raw outputs on the CPU, one per series or, if the head is ``per_step``, one per step.
    """
    model.eval()
    per_step = model.head.per_step
    items = int(data.lengths.sum()) if per_step else len(data)
    parameter = next(model.parameters())
    order = torch.argsort(data.lengths, stable=True)
    results: Tensor | None = None

    def compute(batch: TrainingBatch) -> Tensor:
        return model.outputs_of(batch.to(parameter.device, parameter.dtype))[0].cpu()

    for index, part in in_batches(compute, data, order, batch_size, room):
        results = part.new_empty(items, *part.shape[1:]) if results is None else results
        results[data.rows(index) if isinstance(data, SequenceBatch) and per_step else index] = part
    assert results is not None
    return results


@own_precision()
def evaluate(model: Model, data: TrainingData, batch_size: int) -> tuple[float, float]:
    """Return the mean score and the mean loss over all items.

    Parameters
    ----------
    model : Model
        Set to evaluation mode.
    data : TrainingData
        Items with targets.
    batch_size : int
        Maximum number of items in a batch.

    Returns
    -------
    score, loss : float
        Means weighted by the weights of the items.
    """
    score, loss = _summed(model, data, batch_size)
    return score / data.total_weight, loss / data.total_weight


@torch.no_grad()
def _summed(model: Model, data: TrainingData, batch_size: int, room: Room | None = None) -> tuple[float, float]:
    """Return the weighted sums of the scores and of the losses of all items."""
    output = outputs(model, data, batch_size, room)
    target = None if data.target is None else data.target.cpu()
    weight = None if data.weight is None else data.weight.cpu()
    assert target is not None
    return float(model.head.score(output, target, weight)), float(model.head.loss(output, target, weight))
