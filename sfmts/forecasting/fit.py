"""Fit the model of a forecaster: what is held out, what is decided on it, and the last training."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfmts._checkpoint import Checkpoint, Stage
from sfmts.forecasting.linear import LinearForecast, start_from_linear
from sfmts.forecasting.model import HorizonModel, HorizonShape, resized
from sfmts.forecasting.windows import WindowSet, window_set
from sfmts.heads import QuantileHead
from sfmts.training import CUT_OFF, Trainer, TrainingSettings, best_epoch, is_better, outputs, placed

_FEWEST_WINDOWS = 8  # for a decision
_FEWEST_BESIDE_BASE, _FEWEST_HORIZONS = 32, 10  # windows held out, and horizons side by side, to weigh a model
_JUDGED = 64  # windows on which a model is weighed against the base
_SHARE = 0.01  # by which a mixture has to be better than the model alone, where there are as many horizons
_WEIGHTS = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
_PRIOR_WEIGHT, _PRIOR_WINDOWS = 0.2, 20.0  # the weight of a model before anything is known, and how much that counts
_COVERAGE = 0.9  # nominal coverage of the interval that is calibrated
_STRETCHES = (0.25, 4.0)  # least and greatest factor of a calibration


Base = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How to fit; :class:`sfmts.SFMForecaster` documents what the settings mean to a user.

    Attributes
    ----------
    training : TrainingSettings
        Of each training. Its batch size is ignored.
    batch_size : int, optional
        Windows in a mini-batch. By default a 64th of the windows, at least 16 and at most 256.
    device : torch.device
        Where models are trained.
    joint : bool
        Whether a window holds all variables.
    periods : tuple of int
        Steps in each season, increasing; empty if there is none.
    validation_fraction : float
        Share of each series that is held out; 0 holds nothing out.
    refit : bool
        Whether to train once more on everything.
    seed : int
        Seed of each training. Equal seeds give equal initial networks.
    cautious : bool
        Whether a network that cannot be validated is left out. Otherwise it is trained for all epochs.
    """

    training: TrainingSettings
    batch_size: int | None
    device: torch.device
    joint: bool
    periods: tuple[int, ...]
    validation_fraction: float
    refit: bool
    seed: int
    cautious: bool


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """A fitted model and how it was found.

    Attributes
    ----------
    model : HorizonModel
        The model, on the device that it was trained on.
    anchor : str
        Name of the simple forecast; empty if an earlier model was trained on.
    penalty : float
        Penalty of the regression around the anchor; infinite without a regression.
    n_epochs : int
        Epochs for which the network of ``model`` was trained.
    loss_curve : list of float
        Training loss of each epoch of the first training.
    interrupted : bool
        Whether Ctrl-C or SIGTERM ended a training, and with it the fit.
    linear_score : float, optional
        Score of the linear forecast on the windows held out, if there were any.
    validation_scores : list of float
        Score on the windows held out, after each epoch.
    losses : Tensor
        Loss on each window held out.
    weight : float
        Weight of the model beside the base. If it is 0, the model is untrained.
    """

    model: HorizonModel
    anchor: str
    penalty: float
    n_epochs: int
    loss_curve: list[float]
    interrupted: bool
    linear_score: float | None = None
    validation_scores: list[float] = field(default_factory=list)
    losses: Tensor = field(default_factory=lambda: torch.empty(0))
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class HorizonFit:
    """The fit of a model to a panel.

    Attributes
    ----------
    values, covariates : sequences of n arrays of shape (T_i, V) and (T_i, F)
        The series, and what is known of their steps in advance.
    shape : HorizonShape
        Sizes of the forecast.
    make_model : callable
        Returns a new model on the CPU, given a generator; equal models for generators in the same state.
    settings : FitSettings
        How to fit.
    start : HorizonModel, optional
        Train a copy of this model instead of a new one.
    base : callable, optional
        Forecasts beside which the model is weighed: takes the past of some variables, (T, V), and the covariates,
        (T + H, F), and returns the quantiles of the steps that follow, (H, V, levels).
    checkpoint : Checkpoint, optional
        Keeps each training, so that an equal fit continues.
    """

    values: Sequence[NDArray[np.float64]]
    covariates: Sequence[NDArray[np.float64]]
    shape: HorizonShape
    make_model: Callable[[torch.Generator], HorizonModel]
    settings: FitSettings
    start: HorizonModel | None = None
    base: Base | None = None
    checkpoint: Checkpoint | None = None

    def run(self) -> FitResult:
        """Fit the model.

        Returns
        -------
        result : FitResult
            The fitted model and the decisions.
        """
        lengths = [len(series) for series in self.values]
        fraction = self.settings.validation_fraction
        if fraction > 0.0:
            # Whole horizons fit into the part held out, unless that takes more than a quarter of a series.
            least = [min(self.shape.horizon, n // 4) for n in lengths]
            splits = [max(1, n - max(round(fraction * n), few)) for n, few in zip(lengths, least, strict=True)]
            train, valid = self._windows(splits), self._windows(lengths, first=splits)
            if self._can_decide(train, valid):
                result = self._weighed(self._decided(train, valid), valid)
                if self.settings.refit and not result.interrupted:
                    again = self._refitted(result, self._windows(lengths))
                    # A model that was trained to its end is better than one on everything that was not.
                    result = replace(result, interrupted=True) if again.interrupted else again
                return result
            if self.settings.cautious:  # nothing could tell whether the network helps
                weight = 1.0 if self.base is None else 0.0
                return replace(self._trained(self._windows(lengths), 0, None), weight=weight)
        return self._trained(self._windows(lengths), self.settings.training.max_iter, None)

    def _can_decide(self, train: WindowSet, valid: WindowSet) -> bool:
        """Return whether enough is held out; windows that overlap tell little about a model beside the base."""
        few = _FEWEST_WINDOWS if self.base is None else max(_FEWEST_BESIDE_BASE, _FEWEST_HORIZONS * valid.horizon)
        return len(train) >= _FEWEST_WINDOWS and len(valid) >= few

    def _windows(self, ends: Sequence[int], first: Sequence[int] | None = None) -> WindowSet:
        """Return windows of the steps before ``ends``, cut from ``first`` on."""
        shape = self.shape
        if first is None:  # each window has a whole context or, in a short series, half of its steps
            first = [min(shape.context_length, max(1, end // 2)) for end in ends]
        return window_set(
            self.values,
            self.covariates,
            shape.context_length,
            shape.horizon,
            joint=self.settings.joint,
            first=first,
            last=[end - 1 for end in ends],
            past_only=shape.past_only,
            ends=ends,
        )

    def _decided(self, train: WindowSet, valid: WindowSet) -> FitResult:
        """Train a model on ``train``. Decide on ``valid`` what it starts from and how long it is trained.

        A regression that is better than the anchor alone may leave less to the network, so that the pair is worse than
        the anchor with its network. Both are trained, and the regression is kept only if it is better then, too.
        """
        result = self._validated(train, valid, True)
        if math.isinf(result.penalty) or result.interrupted:
            return result
        bare = self._validated(train, valid, False)
        if is_better(result.losses, bare.losses, len(valid) / valid.horizon):
            return replace(result, interrupted=bare.interrupted)
        return bare

    def _validated(self, train: WindowSet, valid: WindowSet, regression: bool) -> FitResult:
        """Train a model on ``train``, keep its best state on ``valid``, and calibrate it there."""
        settings = self.settings
        model, anchor, penalty, generator = self._started(
            train, lambda linear: linear.choose(valid, penalized=regression)
        )
        dtype, training = next(model.parameters()).dtype, self._training(len(train))
        model.to(settings.device)
        train, valid = (placed(part, settings.device, dtype) for part in (train, valid))
        target, weight = valid.target.cpu(), valid.weight.cpu()
        # The untrained network corrects nothing, so this is the linear forecast.
        before, output = copy.deepcopy(model.state_dict()), outputs(model, valid, training.batch_size)
        losses = model.head.losses(output, target)
        linear_score = -float(losses @ weight / weight.sum())
        stage = self._stage("around the regression" if regression else "around the simple forecast")
        trainer = Trainer(model, training, generator)
        history = trainer.fit(train, valid, epochs=training.max_iter, checkpoint=stage)
        trained_output = outputs(model, valid, training.batch_size)
        trained_losses = model.head.losses(trained_output, target)
        # The best of many epochs is better by chance alone, so the network has to be clearly better to stay.
        if is_better(trained_losses, losses, len(valid) / valid.horizon):
            n_epochs = best_epoch(history.validation_score)
            losses, output = trained_losses, trained_output
        else:
            n_epochs = 0
            model.load_state_dict(before)
        # Overlapping windows are neither independent nor equal. They count as more than n / H windows and less than n.
        _calibrate(model.head, output, target, len(valid) / valid.horizon**0.25)
        return FitResult(
            model=model,
            anchor=anchor,
            penalty=penalty,
            n_epochs=n_epochs,
            loss_curve=history.loss,
            interrupted=history.stopped in CUT_OFF,
            linear_score=linear_score,
            validation_scores=history.validation_score,
            losses=losses,
        )

    @torch.no_grad()
    def _weighed(self, result: FitResult, valid: WindowSet) -> FitResult:
        """Add the weight w of the model: quantiles of the forecast are w of its own and 1 - w of the base's.

        The best w on some windows held out is moved towards a small one, the more so the fewer windows there are.
        """
        if self.base is None:
            return result
        generator = torch.Generator().manual_seed(self.settings.seed)
        index = torch.randperm(len(valid), generator=generator)[:_JUDGED]
        model, batch = result.model.eval(), valid.take(index)
        parameter = next(model.parameters())
        raw, _ = model.features_of(batch.to(parameter.device, parameter.dtype))
        own = model.head.quantiles(raw).double().cpu()
        base = torch.stack([self._base_of(self.base, valid, int(i)) for i in index])
        base = (base - batch.center[:, None, :, None]) / batch.scale[:, None, :, None]
        target, weight = batch.target.double(), batch.weight.double()
        losses = torch.stack(
            [model.head.pinball(mixture(base, own, float(w)), target) @ weight / weight.sum() for w in _WEIGHTS]
        )
        # Windows overlap, but errors far ahead differ from those near: more than n / H of them are independent.
        n = min(len(index), len(valid) / math.sqrt(valid.horizon))
        best = float(_WEIGHTS[losses.argmin()])
        if n >= _JUDGED and losses.min() > (1.0 - _SHARE) * losses[-1]:
            return result  # the base is not worth its time
        return replace(result, weight=(n * best + _PRIOR_WINDOWS * _PRIOR_WEIGHT) / (n + _PRIOR_WINDOWS))

    def _base_of(self, base: Base, windows: WindowSet, i: int) -> Tensor:
        """Return the base's quantiles (H, V, levels) for a window."""
        owner = int(windows.owners[i])
        past = self.values[owner][: int(windows.cuts[i] - windows.starts[owner])]
        variables = range(past.shape[1]) if windows.variables is None else [int(windows.variables[i])]
        covariates = resized(self.covariates[owner], len(past) + windows.horizon)
        return torch.from_numpy(base(past[:, variables], covariates))

    def _trained(self, train: WindowSet, epochs: int, chosen: tuple[str, float] | None) -> FitResult:
        """Train a model without validation, around the ``chosen`` anchor and penalty or the default anchor."""
        model, anchor, penalty, generator = self._started(
            train, lambda linear: (linear.default_anchor, math.inf) if chosen is None else chosen
        )
        dtype = next(model.parameters()).dtype
        model.to(self.settings.device)
        if not (epochs and len(train)):
            return FitResult(model=model, anchor=anchor, penalty=penalty, n_epochs=0, loss_curve=[], interrupted=False)
        trainer = Trainer(model, self._training(len(train)), generator)
        train = placed(train, self.settings.device, dtype)
        history = trainer.fit(train, epochs=epochs, checkpoint=self._stage("on everything"))
        return FitResult(
            model=model,
            anchor=anchor,
            penalty=penalty,
            n_epochs=len(history.loss),
            loss_curve=history.loss,
            interrupted=history.stopped in CUT_OFF,
        )

    def _refitted(self, result: FitResult, windows: WindowSet) -> FitResult:
        """Train once more on all windows, as decided. Keep the calibration, which needs windows held out."""
        again = self._trained(windows, result.n_epochs, (result.anchor, result.penalty))
        again.model.head.stretch.copy_(result.model.head.stretch)
        return replace(result, model=again.model, n_epochs=again.n_epochs, interrupted=again.interrupted)

    def _started(
        self, train: WindowSet, choose: Callable[[LinearForecast], tuple[str, float]]
    ) -> tuple[HorizonModel, str, float, torch.Generator]:
        """Return a model to train, its anchor and penalty, and the generator for its training.

        A new model starts from its linear forecast; a copy of an earlier model is left as it is.
        """
        generator = torch.Generator().manual_seed(self.settings.seed)
        if self.start is not None:
            return copy.deepcopy(self.start), "", math.inf, generator
        model = self.make_model(generator)
        if not len(train):
            return model, "", math.inf, generator
        slope = None
        if self.shape.n_covariates:
            # The effects of the covariates come first, estimated around the mean of the past. Otherwise the regression
            # on the past would explain some of them.
            start_from_linear(model, train, torch.zeros_like(model.linear).double(), generator)
            slope = model.slope.detach().clone()
        linear = LinearForecast(train, self.settings.periods, slope)
        anchor, penalty = choose(linear)
        start_from_linear(model, train, linear.weights(anchor, penalty), generator)
        return model, anchor, penalty, generator

    def _stage(self, name: str) -> Stage | None:
        """Return the part of the checkpoint that belongs to one of the trainings."""
        return None if self.checkpoint is None else self.checkpoint.stage(name)

    def _training(self, n_windows: int) -> TrainingSettings:
        """Return the settings of a training on so many windows; a power of two near a 64th of them is a batch."""
        automatic = min(256, max(16, 2 ** round(math.log2(max(1, n_windows / 64)))))
        return replace(self.settings.training, batch_size=self.settings.batch_size or automatic)


def mixture(base: Tensor, model: Tensor, weight: float) -> Tensor:
    """Return the quantiles of base and model, averaged level by level.

    The weight of the model is less where its median lies beyond the outer quantiles of the base, so that the average
    moves at most by as much as if it lay there: what was learned before a jump does not outweigh what is seen since.

    Parameters
    ----------
    base, model : Tensor of shape (..., levels)
        Quantiles, the median in the middle.
    weight : float
        Weight of the model, from 0 to 1.

    Returns
    -------
    quantiles : Tensor of shape (..., levels)
        Increasing if those of base and model are.
    """
    middle = base.shape[-1] // 2
    median, away = base[..., middle], model[..., middle] - base[..., middle]
    room = torch.where(away > 0, base[..., -1] - median, median - base[..., 0])
    share = weight * (room / away.abs().clamp_min(1e-300)).clamp_max(1.0)
    return torch.lerp(base, model, share[..., None])


def _calibrate(head: QuantileHead, output: Tensor, target: Tensor, n: float) -> None:
    """Stretch the quantiles, in place, so that the central 90 % interval covers 90 % of targets not trained on.

    The ratio of a target is its distance from the median over that of the interval's end on its side. The stretch is
    the 90 % quantile of the ratios, corrected for ``n`` independent windows by a factor 1 + 1 / n of the level, as in
    conformal prediction.
    """
    target, values = target[..., None], head.quantiles(output, calibrated=False)
    median = values[..., head.middle : head.middle + 1]
    low, high = head.interpolated(values, torch.tensor([0.5 - _COVERAGE / 2, 0.5 + _COVERAGE / 2])).split(1, dim=-1)
    ratios = torch.where(target > median, (target - median) / (high - median), (median - target) / (median - low))
    level = min(1.0, _COVERAGE * (1.0 + 1.0 / n))
    stretch = ratios[ratios.isfinite()].double().quantile(level)
    head.stretch.copy_(stretch.clamp(*_STRETCHES))
