"""The training loop: epochs, early stopping, history, progress.

It knows torch modules and, of scikit-learn, only the warning about convergence.

Several processes, on one machine or on many, can train one model together: see ``process_group`` of :class:`Trainer`.
"""

import copy
import math
import signal
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
import torch.distributed as dist
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from sfmts._batch import SequenceBatch, bounded_batches, bucketed_batches
from sfmts._choices import check_choice
from sfmts._precision import own_precision
from sfmts.model import Model

SCHEDULES = ("constant", "cosine")
_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.AdamW,  # decoupled decay; the same as Adam without
    "sgd": lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **options),
    "rmsprop": torch.optim.RMSprop,
    "adadelta": lambda parameters, **options: torch.optim.Adadelta(parameters, rho=0.95, **options),
}
OPTIMIZERS = tuple(_OPTIMIZERS)
_MOST_LEFT_OUT = 10
_RISE = 10.0  # times its start that a loss may end at without a warning


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    The names are those of the estimators' parameters and of the entries of their ``optimizer_params``, which
    :class:`sfmts.SFMClassifier` documents.
    """

    max_iter: int = 100
    batch_size: int = 32
    optimizer: str = "adam"
    schedule: str = "cosine"
    learning_rate_init: float = 0.01
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    tol: float = 1e-4
    n_iter_no_change: int = 10
    verbose: int = 0

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)


@dataclass
class History:
    """What happened, one entry an epoch."""

    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    validation_score: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    n_updates: int = 0
    stopped: str = ""  # why training ended

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return copy.deepcopy(vars(self))


class TrainingData(Protocol):
    """Items with targets that are handed out in mini-batches, as by :class:`sfmts.forecasting.windows.WindowSet`."""

    @property
    def values(self) -> Tensor:
        """All numbers that items are made of."""

    @property
    def lengths(self) -> Tensor:
        """Steps of each item, on the CPU."""

    @property
    def target(self) -> Tensor | None:
        """Of all items."""

    @property
    def weight(self) -> Tensor | None:
        """Of all items; each weighs 1 if it is None."""

    @property
    def total_weight(self) -> float:
        """Sum of the weights."""

    def __len__(self) -> int: ...

    def take(self, index: Tensor) -> "TrainingBatch":
        """Return the items numbered ``index``, in that order."""


class TrainingBatch(TrainingData, Protocol):
    """Items in the form that a model reads, see :meth:`sfmts.heads.Model.features_of`; a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def to(self, device: torch.device, dtype: torch.dtype) -> "TrainingBatch":
        """Return the items on ``device``, as ``dtype``."""


class Watcher(Protocol):
    """Is told of each epoch."""

    def epoch_begins(self) -> None:
        """An epoch begins."""

    def epoch_ended(self) -> bool:
        """An epoch has ended; return whether training should, too."""


def best_epoch(scores: Sequence[float]) -> int:
    """Return the number, from 1, of the first epoch with the greatest score; a score that is NaN is never the greatest.

    It is 1 if there is no score, as after a part of an epoch.
    """
    comparable = [-math.inf if math.isnan(score) else score for score in scores]
    return 1 + comparable.index(max(comparable)) if comparable else 1


class Trainer:
    """Trains one model, in one call or in several.

    Parameters
    ----------
    model : Model
        Trained in place, where it is.
    settings : TrainingSettings
    generator : torch.Generator
        Source of the order of mini-batches (and, on the CPU, of dropout).
    process_group : torch.distributed.ProcessGroup, optional
        The processes ("ranks") that train the model together, ``torch.distributed.group.WORLD`` for all.  None, the
        default, trains in this process alone, whatever ``torch.distributed`` has been told.

    Notes
    -----
    A mini-batch of more than 2^18 padded steps (series times the longest of them) is read in parts within that bound,
    each with series of similar length; a longer series is a part of its own. The gradients of the parts add up to that
    of the whole mini-batch, and one update follows. Losses and gradients differ by rounding only, since a network's
    states do not depend on the other series of a batch. Three things do depend on the parts: dropout masks and the
    Gibbs chains of ``head="rbm"`` are drawn part by part, with the same distribution but other numbers; a network of
    one's own that takes statistics over a batch takes them over a part; and a network's extra loss is averaged over the
    parts by their numbers of steps.

    With a ``process_group`` every rank makes the same calls with the same data; model and generator start as those of
    rank 0.  Each mini-batch of ``batch_size`` series is shared out among the ranks, and
    :class:`torch.nn.parallel.DistributedDataParallel` adds up their gradients, so that all take the same update.
    Losses are divided by one number for the whole mini-batch: history and weights are those of one process but for
    rounding, however few series the last mini-batch has.  The validation data are shared out, too.

    What is drawn within the model is each rank's own: dropout masks, and the Gibbs chains of ``head="rbm"``.  Their
    distribution is that of one process, the numbers are not.  A network's extra loss is averaged over the ranks by
    their numbers of steps, which is exact for a penalty on weights and for a mean over steps.

    An interrupt, or a watcher's wish to stop, on one rank ends training on all of them after the same update.  An
    error on one rank leaves the others waiting until the launcher ends them, as ``torchrun`` does.
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
        device = self.parameters[0].device
        self._ranks = _Ranks(process_group, device)
        self._ranks.agree_on(generator)
        self._loss = self._ranks.parallel(_Loss(model))
        self.dropout_generator = self._ranks.dropout_generator(generator)
        options = {"fused": True} if settings.optimizer == "adam" and device.type in ("cpu", "cuda") else {}
        self.optimizer = _OPTIMIZERS[settings.optimizer](
            self.parameters, lr=settings.learning_rate_init, weight_decay=settings.weight_decay, **options
        )
        self.history = History()
        self._left_out = 0  # updates in a row whose gradient was not finite
        self._first_loss: float | None = None  # mean of the first mini-batch

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Go on with the moments of earlier training, but with the settings of now."""
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(copy.deepcopy(state))
        for group, setting in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(setting)

    @own_precision()
    def fit(
        self,
        train: TrainingData,
        valid: TrainingData | None = None,
        epochs: int | None = None,
        watcher: Watcher | None = None,
    ) -> History:
        """Train until nothing improves, ``epochs`` (``max_iter`` by default) are over, or the user interrupts.

        With ``valid``, the weights of the epoch with the best validation score are kept.  An interrupt (Ctrl-C)
        before the first update goes on to the caller; a later one keeps what has been learned so far.

        If the loss becomes infinite or NaN after an epoch with a validation score, training ends with a warning and
        the weights of the best epoch are kept.

        Raises
        ------
        FloatingPointError
            If the loss becomes infinite or NaN and there are no weights to go back to.
        ValueError
            If the ranks of a ``process_group`` were given different data, or the loss does not depend on a parameter.
        """
        self._ranks.check_same(train)
        self._first_loss = None
        epochs = self.settings.max_iter if epochs is None else epochs
        best = _Best(self.settings.tol, self.settings.n_iter_no_change)
        batches_per_epoch = math.ceil(len(train) / self.settings.batch_size)
        schedule = self._schedule(epochs * batches_per_epoch)
        progress_bar = tqdm(
            total=epochs * batches_per_epoch,
            disable=not self.settings.verbose or self._ranks.rank > 0,
            unit="batch",
            desc="fit",
            mininterval=0.5,
        )
        with self._ranks.interrupted_together(), progress_bar as progress:
            try:
                for _ in range(epochs):
                    if watcher is not None:
                        watcher.epoch_begins()
                    self._epoch(train, schedule, progress)
                    stop = self._should_stop(valid, best, progress)
                    if any(self._ranks.sums(watcher is not None and watcher.epoch_ended())):
                        self.history.stopped, stop = "callback", True
                    if stop:
                        break
                else:
                    self.history.stopped = "max_iter"
            except KeyboardInterrupt:
                if not self.history.n_updates:
                    raise
                self.history.stopped = "interrupted"
                warnings.warn("Training was interrupted; the model keeps what it has learned so far.", stacklevel=2)
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
            progress.total = progress.n  # what is left will not be done
        if best.weights is not None:
            self.model.load_state_dict(best.weights)
        if not all(bool(p.isfinite().all()) for p in self.parameters):
            raise self._diverged("The last update made a weight infinite or NaN.")
        self._warn_if_risen(best)
        return self.history

    def _warn_if_risen(self, best: "_Best") -> None:
        """Warn if the weights that are kept have a far greater training loss than the first mini-batch had.

        Losses are of scaled targets, of labels or of frames: 1 is what differs between mini-batches, not divergence.
        """
        losses, start = self.history.loss, self._first_loss
        if not losses or start is None:
            return
        end = losses[-1] if best.weights is None else losses[best.epoch - 1]
        if end > _RISE * start + 1.0:
            what = f"Training diverged: the loss rose from {start:.3g} in the first mini-batch to {end:.3g}."
            warnings.warn(str(self._diverged(what)), ConvergenceWarning, stacklevel=3)

    def _schedule(self, updates: int) -> Iterator[float]:
        """Learning rate of each update."""
        rate = self.settings.learning_rate_init
        for update in range(updates):
            if self.settings.schedule == "cosine":
                yield rate * 0.5 * (1.0 + math.cos(math.pi * update / updates))
            else:
                yield rate

    def _epoch(self, train: TrainingData, schedule: Iterator[float], progress: tqdm) -> None:
        self.model.train()
        total, whole = 0.0, train.total_weight  # which sums over all items
        rate = self.settings.learning_rate_init
        for index in bucketed_batches(train.lengths, self.settings.batch_size, self.generator):
            rate = next(schedule)
            batch = train.take(index)
            weighs = batch.total_weight if self.model.head.batches_alike else len(index) * (whole / len(train))
            total += self._train_step(batch, weighs, rate)
            progress.update()
        self.history.loss.append(total / whole)
        self.history.learning_rate.append(rate)
        progress.set_postfix(loss=f"{self.history.loss[-1]:.4g}", refresh=False)

    def _train_step(self, batch: TrainingBatch, weighs: float, rate: float) -> float:
        """One update, by the loss of a mini-batch over what it ``weighs``; returns the summed loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        share, part = self._ranks.share(batch)
        *first, last = _micro_batches(share)
        self.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for micro_batch, micro_part in first:
            with self._ranks.without_exchange(self._loss):
                loss, mean_loss = self._losses(micro_batch, weighs, part * micro_part)
                mean_loss.backward()
            value += float(loss)
        loss, mean_loss = self._losses(last[0], weighs, part * last[1])
        (value,) = self._ranks.sums(value + float(loss))
        if self._first_loss is None and weighs > 0.0:
            self._first_loss = value / weighs
        if not math.isfinite(value):
            raise self._diverged(f"The training loss became {value} in epoch {len(self.history.loss) + 1}.")
        mean_loss.backward()
        self._ranks.check_exchanged(self.model)
        if self.settings.clip_norm is not None:
            norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm))
            if not math.isfinite(norm):
                self._leave_out_update(norm)
                return value
        self._left_out = 0
        self.optimizer.step()
        self.history.n_updates += 1
        return value

    def _losses(self, batch: TrainingData, weighs: float, part: float) -> tuple[Tensor, Tensor]:
        """Return the summed loss of a part of a mini-batch, without gradients, and what the part adds to its mean.

        ``part`` is the part's share of the steps of the mini-batch, which weighs the network's extra loss.
        """
        loss, extra_loss = self._loss(batch, self.dropout_generator)
        mean_loss = loss / (weighs / self._ranks.size)  # gradients are averaged over the ranks
        if extra_loss is not None:
            mean_loss = mean_loss + extra_loss * (part * self._ranks.size)
        return loss.detach(), mean_loss

    def _leave_out_update(self, norm: float) -> None:
        """Skip an update whose gradient is not finite; raise after ten in a row."""
        self._left_out += 1
        if self._left_out == _MOST_LEFT_OUT:
            raise self._diverged(f"The gradient's norm has been {norm} in {_MOST_LEFT_OUT} updates in a row.")

    def _diverged(self, what: str) -> FloatingPointError:
        clip_norm, rate = self.settings.clip_norm, self.settings.learning_rate_init
        clip = "set clip_norm" if clip_norm is None else f"clip_norm (now {clip_norm})"
        return FloatingPointError(f"{what} Lower learning_rate_init (now {rate}) or {clip}.")

    def _should_stop(self, valid: TrainingData | None, best: "_Best", progress: tqdm) -> bool:
        history = self.history
        if valid is None:
            # A falling rate leads out of a plateau: there an epoch counts only where no more than tol is left to gain.
            hopeful = self.settings.schedule == "cosine" and history.loss[-1] > self.settings.tol
            stop = best.update((-history.loss[-1],), None, hopeful)
        else:
            sums = self._ranks.sums(*_summed(self.model, self._ranks.share(valid)[0], self.settings.batch_size))
            score, loss = (value / valid.total_weight for value in sums)
            history.validation_score.append(score)
            history.validation_loss.append(loss)
            progress.set_postfix(loss=f"{history.loss[-1]:.4g}", validation=f"{score:.4g}", refresh=False)
            stop = best.update((score, -loss), self.model)
        if stop:
            history.stopped = "validation_score" if valid is not None else "loss"
        return stop


def _micro_batches(batch: TrainingData) -> list[tuple[TrainingData, float]]:
    """Cut a mini-batch into parts of bounded padded size, with the share of all steps that each part has.

    A mini-batch within the bound is returned as it is.
    """
    parts = bounded_batches(batch.lengths, torch.arange(len(batch)), len(batch))
    if len(parts) == 1:
        return [(batch, 1.0)]
    return [(batch.take(index), _share_of_steps(batch.lengths, index)) for index in parts]


def _share_of_steps(lengths: Tensor, index: Tensor) -> float:
    """Return what part of all steps the series numbered ``index`` have; PyTorch would divide in single precision."""
    return int(lengths[index].sum()) / int(lengths.sum())


class _Loss(nn.Module):
    """From a mini-batch to its summed loss and the extra loss, if any: what DistributedDataParallel can wrap."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TrainingBatch, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        features, extra_loss = self.model.features_of(batch, generator)
        assert batch.target is not None
        return self.model.head.loss(self.model.head(features), batch.target, batch.weight), extra_loss


class _Ranks:
    """The processes that train together, seen from one of them; without a group this one is alone."""

    def __init__(self, group: "dist.ProcessGroup | None", device: torch.device) -> None:
        self.group, self.device = group, device
        self.rank = 0 if group is None else dist.get_rank(group)
        self.size = 1 if group is None else dist.get_world_size(group)
        self._interrupted = False

    def agree_on(self, generator: torch.Generator) -> None:
        """Let all draw the same mini-batches."""
        if self.group is not None:
            state = generator.get_state().to(self.device)
            dist.broadcast(state, group=self.group, group_src=0)
            generator.set_state(state.cpu())

    def parallel(self, loss: _Loss) -> nn.Module:
        """The module whose gradients are the mean over the ranks."""
        return loss if self.group is None else DistributedDataParallel(loss, process_group=self.group)

    def without_exchange(self, loss: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which gradients add up on this rank and are not exchanged."""
        if isinstance(loss, DistributedDataParallel):
            context: AbstractContextManager[None] = loss.no_sync()
            return context
        return nullcontext()

    def dropout_generator(self, generator: torch.Generator) -> torch.Generator:
        """Source of the masks of this rank; ``generator`` is left as one process on the CPU leaves it."""
        if self.device.type == "cpu" and self.group is None:
            return generator
        seed = int(torch.randint(2**31 - 1, (), generator=generator.clone_state()))
        return torch.Generator(self.device).manual_seed(seed + self.rank)

    def check_same(self, data: TrainingData) -> None:
        """Refuse data that are not the same on all ranks."""
        if self.group is None:
            return
        digest = zlib.crc32(data.values.cpu().contiguous().numpy().data, zlib.crc32(data.lengths.numpy().data))
        mine = torch.tensor([len(data), digest], device=self.device)
        all_ranks = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(all_ranks, mine, group=self.group)
        if any(not torch.equal(other, mine) for other in all_ranks):
            counts = ", ".join(str(int(other[0])) for other in all_ranks)
            raise ValueError(
                f"The ranks were given different data ({counts} series); give each of them all series in the same "
                "order: it is the trainer that shares out each mini-batch."
            )

    def check_exchanged(self, model: Model) -> None:
        """Refuse parameters without a gradient: DistributedDataParallel exchanges all gradients or, silently, none."""
        if self.group is None:
            return
        unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        if unused:
            raise ValueError(
                f"The loss does not depend on {', '.join(unused)}: training in several processes needs a gradient of "
                "each parameter.  Freeze what is not used, with requires_grad_(False)."
            )

    def share(self, batch: TrainingData) -> tuple[TrainingData, float]:
        """The series of a mini-batch that are this rank's, every ``size``-th, and what part of all steps they have.

        Where none is left, it is the first one without any weight: gradients are exchanged by all ranks or by none.
        """
        if self.size == 1:
            return batch, 1.0
        index = torch.arange(self.rank, len(batch), self.size)
        if len(index):
            return batch.take(index), _share_of_steps(batch.lengths, index)
        idle = batch.take(torch.tensor([0]))
        assert idle.target is not None
        return replace(idle, weight=idle.values.new_zeros(len(idle.target))), 0.0

    def sums(self, *numbers: float) -> list[float]:
        """Sums over the ranks, the same on all of them; here an interrupt of one becomes an interrupt of all."""
        if self.group is None:
            return list(numbers)
        totals = torch.tensor([*numbers, self._interrupted], dtype=torch.float64, device=self.device)
        dist.all_reduce(totals, group=self.group)
        *sums, interrupts = totals.tolist()
        if interrupts:
            self._interrupted = False
            raise KeyboardInterrupt
        return sums

    @contextmanager
    def interrupted_together(self) -> Iterator[None]:
        """Let Ctrl-C wait until the ranks meet, lest the others wait for one that has stopped."""
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


class _Best:
    """The best epoch so far, and for how long none has been better."""

    def __init__(self, tol: float, patience: int) -> None:
        self.tol, self.patience = tol, patience
        self.key: tuple[float, ...] | None = None
        self.milestone = -math.inf  # what an epoch must beat by tol to count as progress
        self.waited = 0
        self.epochs = self.epoch = 0  # how many there were, and which was the best, counted from 1
        self.weights: dict[str, Tensor] | None = None

    def update(self, key: tuple[float, ...], model: Model | None, hopeful: bool = False) -> bool:
        """Take in an epoch, whose goodness is ``key`` (ties are broken by later entries); return whether to stop.

        A ``hopeful`` epoch ends the waiting even if it is no better.  An epoch with NaN in its key is never the best.
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


@own_precision()
@torch.no_grad()
def outputs(model: Model, data: TrainingData, batch_size: int) -> Tensor:
    """Return the head's raw outputs for all items, on the CPU, computed in batches of similar length."""
    model.eval()
    per_step = model.head.per_step
    items = int(data.lengths.sum()) if per_step else len(data)
    parameter = next(model.parameters())
    order = torch.argsort(data.lengths, stable=True)
    results: Tensor | None = None
    for index in bounded_batches(data.lengths, order, batch_size):
        batch = data.take(index).to(parameter.device, parameter.dtype)
        features, _ = model.features_of(batch)
        part = model.head(features).cpu()
        results = part.new_empty(items, *part.shape[1:]) if results is None else results
        results[data.rows(index) if isinstance(data, SequenceBatch) and per_step else index] = part
    assert results is not None
    return results


def evaluate(model: Model, data: TrainingData, batch_size: int) -> tuple[float, float]:
    """Mean score and mean loss over a batch of any size."""
    score, loss = _summed(model, data, batch_size)
    return score / data.total_weight, loss / data.total_weight


@own_precision()
@torch.no_grad()
def _summed(model: Model, data: TrainingData, batch_size: int) -> tuple[float, float]:
    """Score and loss summed over the items, each times its weight."""
    output = outputs(model, data, batch_size)
    target = None if data.target is None else data.target.cpu()
    weight = None if data.weight is None else data.weight.cpu()
    assert target is not None
    return float(model.head.score(output, target, weight)), float(model.head.loss(output, target, weight))
