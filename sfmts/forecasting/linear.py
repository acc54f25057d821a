"""Linear forecasts: simple ones ("anchors"), ridge regression around them, and a model's start from one of them."""

import itertools
import math
from functools import cached_property

import torch
from torch import Tensor

from sfmts.forecasting.model import HorizonModel, covariate_change
from sfmts.forecasting.windows import WindowBatch, WindowSet
from sfmts.heads import QuantileHead
from sfmts.training import is_better

_PENALTIES = tuple(10.0**power for power in range(-3, 6))  # times the number of windows
_PART = 4096  # windows cut at once where all are needed


class LinearForecast:
    """Ridge regression of the horizon on the past, penalised towards a simple forecast.

    The simple forecast is called the anchor: the mean of the past, its last value, or the value one season before, for
    instance. A greater penalty keeps the regression closer to it.

    Parameters
    ----------
    windows : WindowSet
        Training windows, on the CPU. Those with unknown targets are left out of the regression.
    periods : tuple of int
        Steps in each season, increasing; empty if there is none.
    slope : Tensor of shape (series, V, F), optional
        Effects of the covariates, which are subtracted from the windows first.

    Notes
    -----
    X holds the n scaled pasts as rows, Y their targets, and A (H, L) is the anchor. The weights W minimise
    ||Y - X W'||^2 + penalty n ||W - A||^2, so that::

        W' = A' + (X'X + penalty n I)^-1 (X'Y - X'X A')

    One eigendecomposition X'X = Q diag(e) Q' solves this for all anchors and penalties.
    """

    def __init__(self, windows: WindowSet, periods: tuple[int, ...], slope: Tensor | None = None) -> None:
        self.anchors = anchors(windows.context_length, windows.horizon, periods)
        self.default_anchor = next((name for name in self.anchors if name.startswith("season")), "last")
        self._windows, self._slope = windows, slope
        self._whole = torch.nonzero(windows.weight == 1)[:, 0]
        self.n = len(self._whole) * windows.n_variables

    @cached_property
    def _products(self) -> tuple[Tensor, Tensor]:
        """Products X'X (L, L) and X'Y (L, H), summed over parts of the windows."""
        L, H = self._windows.context_length, self._windows.horizon
        gram = torch.zeros(L, L, dtype=torch.float64)
        cross = torch.zeros(L, H, dtype=torch.float64)
        for index in self._whole.split(_PART):
            parts = _without_covariates(self._windows.take(index), self._slope)
            past, target = (part.transpose(1, 2).reshape(-1, part.shape[1]) for part in parts)
            gram += past.T @ past
            cross += past.T @ target
        return gram, cross

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues e (L,) and eigenvectors Q (L, L) of X'X."""
        return torch.linalg.eigh(self._products[0])

    def weights(self, anchor: str, penalty: float) -> Tensor:
        """Return the coefficients W of a linear forecast.

        Parameters
        ----------
        anchor : str
            Name of the anchor, a key of ``anchors``.
        penalty : float
            Infinity returns the anchor itself.

        Returns
        -------
        weights : Tensor of shape (H, L), float64
            The forecast of a scaled past z is W z.
        """
        start = self.anchors[anchor]
        if not self.n or not math.isfinite(penalty):
            return start
        (gram, cross), (eigenvalues, vectors) = self._products, self._eigen
        # W' - A' = Q (e + penalty n)^-1 Q' (X'Y - X'X A'); rounding may make an eigenvalue negative.
        rest = vectors.T @ (cross - gram @ start.T)
        change = vectors @ (rest / (eigenvalues.clamp_min(0.0) + penalty * self.n)[:, None])
        return start + change.T

    def choose(self, held_out: WindowSet, penalized: bool = True) -> tuple[str, float]:
        """Choose the anchor and the penalty.

        Anchors have no fitted parameters, so every window can score them. A regression has fitted the training windows,
        so only the windows held out can: its best penalty must be better there than the anchor, see :func:`is_better`.

        Parameters
        ----------
        held_out : WindowSet
            Windows that the regression was not fitted to.
        penalized : bool
            Whether to try a regression.

        Returns
        -------
        anchor : str
            Name of the anchor.
        penalty : float
            Infinity if no regression is tried, or none is better than the anchor.
        """
        anchor = self._choose_anchor(held_out)
        if not (penalized and self.n):
            return anchor, math.inf
        weights = torch.stack([self.weights(anchor, penalty) for penalty in (math.inf, *_PENALTIES)])
        errors = self._errors(held_out, torch.arange(len(held_out)), weights)
        best = _least(errors.mean(0))
        if not is_better(errors[:, best], errors[:, 0], len(held_out) / held_out.horizon):
            return anchor, math.inf
        return anchor, _PENALTIES[best - 1]

    def _errors(self, windows: WindowSet, index: Tensor, weights: Tensor) -> Tensor:
        """Return the mean absolute error of candidates (candidates, H, L) on some windows, (windows, candidates)."""
        parts = []
        for part in index.split(_PART // 16):  # small parts: memory grows with the number of candidates
            past, target = _without_covariates(windows.take(part), self._slope)
            errors = torch.einsum("blv,chl->bchv", past, weights) - target[:, None]
            parts.append(errors.abs().flatten(2).nanmean(2))
        return torch.cat(parts)

    def _choose_anchor(self, held_out: WindowSet) -> str:
        """Return the anchor with the least error on all windows, weighted towards the end of each series.

        The default, the season before or otherwise the last value, is replaced only by one that :func:`is_better`.
        """
        names = list(self.anchors)
        matrices = torch.stack([self.anchors[name] for name in names])
        parts = []
        for windows in (self._windows, held_out):
            # About _PART evenly spaced windows are enough. Their weights stand for the windows that are skipped.
            index = torch.arange(0, len(windows), 1 + len(windows) // _PART)
            parts.append((self._errors(windows, index, matrices), _recency(windows)[index] * len(windows) / len(index)))
        errors, weight = (torch.cat(part) for part in zip(*parts, strict=True))
        best = names[_least(weight @ errors)]
        default = self.default_anchor
        n = (len(self._windows) + len(held_out)) / held_out.horizon
        better = is_better(errors[:, names.index(best)], errors[:, names.index(default)], n, weight)
        return best if better else default


def _least(errors: Tensor) -> int:
    """Return the place of the least error. NaN, which argmin would return, counts as infinite."""
    return int(errors.nan_to_num(nan=torch.inf, posinf=torch.inf).argmin())


def _recency(windows: WindowSet) -> Tensor:
    """Return weights (m,) that double with each quarter of a series: 2^(-4 (end - cut) / (end - start))."""
    starts, ends = windows.starts[windows.owners], windows.ends[windows.owners]
    return 0.5 ** (4.0 * (ends - windows.cuts) / (ends - starts)).double()


def _without_covariates(batch: WindowBatch, slope: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return pasts (B, L, V) and targets (B, H, V) in float64, less the effects of their covariates, x beta'."""
    batch = _double(batch)
    if slope is None:
        return batch.past, batch.target
    effects = slope.double()[batch.variable]
    past, future = (torch.einsum("btf,bvf->btv", part, effects) for part in batch.centred_covariates())
    return batch.past - past, batch.target - future


def _double(batch: WindowBatch) -> WindowBatch:
    return batch.to(batch.past.device, torch.float64)


def anchors(context_length: int, horizon: int, periods: tuple[int, ...]) -> dict[str, Tensor]:
    """Return simple forecasts as matrices that act on a centred past.

    ========================  ==================================================================
    ``"mean"``                mean of the past
    ``"last"``                last value
    ``"drift"``               last value, continued by the mean change of a step
    ``"season"``              value one season before
    ``"season mean"``         mean over the whole seasons of the past
    ``"season drift"``        season before, continued by the change between the last two seasons
    ``"<one> + <other>"``     mean of two of them
    ========================  ==================================================================

    With several seasons these are the longest; names of those of a shorter one end with its steps, as in "season 24".
    If the past is at least one season long, only anchors with a season are returned.

    Parameters
    ----------
    context_length, horizon : int
        L and H.
    periods : tuple of int
        Steps in each season, increasing; empty if there is none.

    Returns
    -------
    anchors : dict of str to Tensor of shape (H, L), float64
        Matrices by name.
    """
    L, H = context_length, horizon
    ahead = torch.arange(1, H + 1, dtype=torch.float64)
    matrices = {"mean": torch.zeros(H, L, dtype=torch.float64)}  # a centred past has mean 0
    # y_{L-1+h} = y_{L-1}
    matrices["last"] = matrices["mean"].clone()
    matrices["last"][:, -1] = 1.0
    if L > 1:
        # y_{L-1+h} = y_{L-1} + h (y_{L-1} - y_0) / (L - 1)
        matrices["drift"] = matrices["last"].clone()
        matrices["drift"][:, -1] += ahead / (L - 1)
        matrices["drift"][:, 0] -= ahead / (L - 1)
    for period in reversed(periods):
        if period <= L:
            suffix = "" if period == periods[-1] else f" {period}"
            matrices |= {name + suffix: matrix for name, matrix in _seasonal_anchors(L, H, period).items()}
    for one, other in itertools.combinations(list(matrices), 2):
        matrices[f"{one} + {other}"] = (matrices[one] + matrices[other]) / 2.0
    if periods:
        matrices = {name: matrix for name, matrix in matrices.items() if "season" in name} or matrices
    return matrices


def _seasonal_anchors(L: int, H: int, period: int) -> dict[str, Tensor]:
    """Return the anchors that look back by whole seasons; step i of the horizon has the phase i mod period."""
    steps = torch.arange(H)
    season = torch.zeros(H, L, dtype=torch.float64)
    season[steps, L - period + steps % period] = 1.0
    if 2 * period > L:
        return {"season": season}
    mean = torch.zeros(H, L, dtype=torch.float64)
    for back in range(period, L + 1 - (L % period), period):
        mean[steps, L - back + steps % period] = 1.0 / (L // period)
    # The season before, plus (seasons ahead) times (mean of the last season - mean of the one before).
    seasons_ahead = (steps // period + 1).double()[:, None] / period
    drift = season.clone()
    drift[:, -period:] += seasons_ahead
    drift[:, -2 * period : -period] -= seasons_ahead
    return {"season": season, "season mean": mean, "season drift": drift}


@torch.no_grad()
def start_from_linear(model: HorizonModel, windows: WindowSet, weights: Tensor, generator: torch.Generator) -> None:
    """Set a new model's linear forecast, its covariates' effects, and its spreads, in place.

    Effects and spreads are fitted to the residuals of the linear forecast.

    Parameters
    ----------
    model : HorizonModel
        A new model, on the CPU.
    windows : WindowSet
        Training windows, on the CPU.
    weights : Tensor of shape (H, L)
        The linear forecast.
    generator : torch.Generator
        Draws a sample if the windows are more than are needed.
    """
    shape = model.shape
    model.linear.copy_(weights)
    index = torch.randperm(len(windows), generator=generator)[:_PART]
    batch = _double(windows.take(index))
    # residual = target - A z - c beta'
    rest = batch.target - torch.einsum("blv,hl->bhv", batch.past, weights)
    if shape.n_covariates:
        change = covariate_change(batch, weights)
        for series in range(shape.n_series):
            mine = batch.variable == series
            model.slope[series] = _slopes(change[mine].flatten(0, 1), rest[mine].flatten(0, 1))
        rest = rest - torch.einsum("bhf,bvf->bhv", change, model.slope.double()[batch.variable])
    model.spread.copy_(_spread(rest, batch.target, model.head.levels))


def _slopes(change: Tensor, rest: Tensor) -> Tensor:
    """Return the ridge regression (V, F) of each column of ``rest`` (n, V) on ``change`` (n, F).

    beta = (C'C + (0.01 n + 1e-6) I)^-1 C'r, over the n rows whose residual r is known.
    """
    known = rest.isfinite()
    slopes = []
    for column, rows in zip(rest.T, known.T, strict=True):
        C = change[rows]
        penalty = (0.01 * len(C) + 1e-6) * torch.eye(C.shape[1], dtype=C.dtype)
        slopes.append(torch.linalg.solve(C.T @ C + penalty, C.T @ column[rows]))
    return torch.stack(slopes)


def _spread(rest: Tensor, target: Tensor, levels: Tensor) -> Tensor:
    """Return the raw gaps (H, V, levels - 1) between the quantiles of residuals (n, H, V).

    The outermost quantile needs 1 / level residuals. With fewer, the gaps go over to those of a normal distribution,
    whose variance counts one more residual: that of a forecast by the mean.
    """
    n = rest.isfinite().sum(0)
    gaps = rest.nanquantile(levels, dim=0).diff(dim=0).nan_to_num(0.0)
    # deviation^2 = (sum of residuals^2 + mean of targets^2) / (n + 1); no step is more certain than an earlier one.
    of_mean = target.square().nansum((0, 1)) / n.sum(0)
    deviation = ((rest.square().nansum(0) + of_mean) / (n + 1)).cummax(0).values.sqrt()
    normal = torch.special.ndtri(levels).diff()[:, None, None] * deviation
    gaps = torch.lerp(normal, gaps, (n * levels[0]).clamp_max(1.0))
    # Equal residuals have gaps of 0, whose raw value is infinite.
    return QuantileHead.raw_gaps(gaps.clamp_min(0.01 * levels.diff()[:, None, None])).permute(1, 2, 0)
