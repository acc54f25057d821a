"""How the model of a forecaster is fitted: what is held out, what is settled on it, and the last training."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfmts.heads import QuantileHead
from sfmts.horizon import HorizonModel, HorizonShape, LinearForecast, is_better, start_from_linear
from sfmts.training import Trainer, TrainingSettings, best_epoch, outputs
from sfmts.windows import WindowSet, window_set

_FEWEST_WINDOWS = 8  # for a validation part
_COVERAGE = 0.9  # of the interval that is brought to its nominal coverage
_STRETCHES = (0.25, 4.0)  # least and greatest


@dataclass
class HorizonFit:
    """Fits a model to a panel; see :class:`sfmts.SFMForecaster` for the meaning of the settings.

    Attributes
    ----------
    values, covariates : sequences of n arrays of shape (T_i, V) and (T_i, F)
    shape : HorizonShape
    make_model : callable
        From a generator to a new model, on the CPU; the same from generators in the same state.
    device : torch.device
        Where models are trained.
    start : HorizonModel, optional
        Train a copy of this one instead.
    settings : TrainingSettings
        Its batch size is not used.
    batch_size : int, optional
        By default a 64th of the windows, at least 16 and at most 256.
    joint, linear : bool
    period : int
    validation_fraction : float
        0 sets nothing aside.
    refit : bool
    seed : int

    anchor, penalty
        The linear forecast that was chosen.
    linear_score : float, optional
        Of the linear forecast on the part held out, if there was one.
    validation_scores, loss : list of float
        Of each epoch while a part was held out, or of the only training.
    epochs : int
        For which the network of the result was trained.
    losses : Tensor
        Of the result on each window held out.
    interrupted : bool
        Whether the user ended a training, and with it the fit.
    """

    values: Sequence[NDArray[np.float64]]
    covariates: Sequence[NDArray[np.float64]]
    shape: HorizonShape
    make_model: Callable[[torch.Generator], HorizonModel]
    device: torch.device
    start: HorizonModel | None
    settings: TrainingSettings
    batch_size: int | None
    joint: bool
    linear: bool
    period: int
    validation_fraction: float
    refit: bool
    seed: int

    anchor: str = ""
    penalty: float = math.inf
    linear_score: float | None = None
    validation_scores: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    epochs: int = 0
    losses: Tensor = field(default_factory=lambda: torch.empty(0))
    interrupted: bool = False

    def run(self) -> HorizonModel:
        """The fitted model."""
        lengths = [len(series) for series in self.values]
        splits = [n - max(round(self.validation_fraction * n), min(self.shape.horizon, n // 4)) for n in lengths]
        held_out = self.validation_fraction > 0.0
        if held_out:
            train = self._windows([max(1, split) for split in splits])
            valid = self._windows(lengths, first=[max(1, split) for split in splits])
            held_out = min(len(train), len(valid)) >= _FEWEST_WINDOWS
        if not held_out:
            return self._train(self._windows(lengths), self.settings.max_iter)
        model = self._validated(train, valid)
        if self.refit and not self.interrupted:
            stretch = model.head.stretch
            model = self._train(self._windows(lengths), self.epochs)
            model.head.stretch.copy_(stretch)
        return model

    def _validated(self, train: WindowSet, valid: WindowSet) -> HorizonModel:
        """The model that starts from the anchor itself or, if that proves better, from a regression."""
        model = self._train(train, self.settings.max_iter, valid)
        if math.isinf(self.penalty) or self.interrupted:
            return model
        bare = replace(self, linear=False)
        other = bare._train(train, self.settings.max_iter, valid)
        if is_better(self.losses, bare.losses, len(valid) / valid.horizon):
            self.interrupted = bare.interrupted
            return model
        vars(self).update(vars(bare))
        return other

    def _windows(self, ends: Sequence[int], first: Sequence[int] | None = None) -> WindowSet:
        """Windows of the steps before ``ends``, cut from ``first`` on."""
        shape = self.shape
        first = [min(shape.context_length, max(1, end // 2)) for end in ends] if first is None else first
        return window_set(
            self.values,
            self.covariates,
            shape.context_length,
            shape.horizon,
            joint=self.joint,
            first=first,
            last=[end - 1 for end in ends],
            ends=ends,
        )

    def _train(self, train: WindowSet, epochs: int, valid: WindowSet | None = None) -> HorizonModel:
        """Train a model on windows; with others, keep the best of its states and calibrate it on them."""
        generator = torch.Generator().manual_seed(self.seed)
        model = self.make_model(generator) if self.start is None else copy.deepcopy(self.start)
        device, dtype = self.device, next(model.parameters()).dtype
        if self.start is None and len(train):
            self._start(model, train, valid, generator)
        model.to(device)
        train = train.to(device, dtype)
        size = self.batch_size or min(256, max(16, 2 ** round(math.log2(max(1, len(train) / 64)))))
        settings = TrainingSettings(**{**vars(self.settings), "batch_size": size})
        if valid is None:
            self.epochs = epochs if len(train) else 0
            if self.epochs:
                history = Trainer(model, settings, generator).fit(train, epochs=epochs)
                self.loss, self.epochs = self.loss or history.loss, len(history.loss)
                self.interrupted = history.stopped == "interrupted"
            return model
        valid = valid.to(device, dtype)
        target, weight = valid.target.cpu(), valid.weight.cpu()
        before, output = copy.deepcopy(model.state_dict()), outputs(model, valid, size)
        self.losses = model.head.losses(output, target)
        self.linear_score = -float(self.losses @ weight / weight.sum())
        history = Trainer(model, settings, generator).fit(train, valid, epochs=epochs)
        self.validation_scores, self.loss = history.validation_score, history.loss
        self.interrupted = history.stopped == "interrupted"
        trained = outputs(model, valid, size)
        losses = model.head.losses(trained, target)
        if is_better(losses, self.losses, len(valid) / valid.horizon):
            self.epochs = best_epoch(history.validation_score)
            self.losses, output = losses, trained
        else:
            self.epochs = 0
            model.load_state_dict(before)
        n = len(valid) / valid.horizon**0.25  # windows that overlap are neither independent nor the same
        _calibrate(model.head, output, target, n)
        return model

    def _start(
        self, model: HorizonModel, train: WindowSet, valid: WindowSet | None, generator: torch.Generator
    ) -> None:
        """Give a model its linear forecast; which one is settled on the windows held out, if there are any."""
        slope = None
        if self.shape.n_covariates:  # first about the mean: what they explain is no matter of the past
            start_from_linear(model, train, torch.zeros_like(model.linear).double(), generator)
            slope = model.slope.detach().clone()
        linear = LinearForecast(train, self.period, slope)
        if valid is not None:
            self.anchor, self.penalty = linear.choose(valid, penalized=self.linear)
        elif not self.anchor:
            self.anchor = "season" if "season" in linear.anchors else "last"
        start_from_linear(model, train, linear.weights(self.anchor, self.penalty), generator)


def _calibrate(head: QuantileHead, output: Tensor, target: Tensor, n: float) -> None:
    """Stretch the quantiles so that the central interval covers what it should of targets not trained on.

    They count as ``n`` independent windows.
    """
    target, values = target[..., None], head.quantiles(output, calibrated=False)
    median = values[..., head.middle : head.middle + 1]
    low, high = head.interpolated(values, torch.tensor([0.5 - _COVERAGE / 2, 0.5 + _COVERAGE / 2])).split(1, dim=-1)
    ratios = torch.where(target > median, (target - median) / (high - median), (median - target) / (median - low))
    level = min(1.0, _COVERAGE * (1.0 + 1.0 / n))  # as in conformal prediction
    stretch = ratios[ratios.isfinite()].double().quantile(level)
    head.stretch.copy_(stretch.clamp(*_STRETCHES))
