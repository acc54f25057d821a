"""From a window of the past to quantiles at all steps of a horizon at once."""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfmts.heads import Model, QuantileHead
from sfmts.networks.base import SequenceNetwork, dropout_mask
from sfmts.windows import WindowSet

_PENALTIES = tuple(10.0**power for power in range(-3, 6))  # times the number of windows
_PART = 4096  # windows taken at once where all are needed


@dataclass(frozen=True)
class HorizonShape:
    """Sizes of a forecast.

    Attributes
    ----------
    context_length, horizon : int
        L and H, the steps of the past that are read and those that are forecast.
    segment_length : int
        Steps that one recurrent step reads, or that one position puts out.
    n_variables, n_covariates : int
        V and F, in a window.
    n_series : int
        How many variables have windows of their own; 1 if a window holds all.
    """

    context_length: int
    horizon: int
    segment_length: int
    n_variables: int
    n_covariates: int
    n_series: int

    @property
    def segment_width(self) -> int:
        """Numbers in a segment."""
        return self.segment_length * (self.n_variables + 1 + self.n_covariates)


class HorizonModel(Model):
    """A linear forecast, and a network that reads the past in segments and corrects it at all horizons in parallel.

    Segments of several steps cut the number of recurrent steps, and horizons are told apart by embeddings of their
    position (Lin et al., "SegRNN", 2023).  At the start the network's correction is zero.

    Parameters
    ----------
    network : SequenceNetwork
        Reads the embedded segments.
    head : QuantileHead
    shape : HorizonShape
    dropout : float
        Probability with which, in training, an entry of the summary or of a decoded position is dropped.
    generator : torch.Generator, optional
        Source of the initial parameters.
    """

    linear: Tensor
    head: QuantileHead

    def __init__(
        self,
        network: SequenceNetwork,
        head: QuantileHead,
        shape: HorizonShape,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.network, self.head, self.shape, self.dropout = network, head, shape, dropout
        width, positions = network.output_size, math.ceil(shape.horizon / shape.segment_length)
        self.embed = _linear(shape.segment_width, network.n_channels, generator)
        self.summary = _linear(width, width, generator)
        self.position = nn.Parameter(torch.empty(positions, width).normal_(0.0, 0.02, generator=generator))
        self.gain = nn.Parameter(torch.ones(positions, width))
        self.variable = nn.Parameter(torch.zeros(shape.n_series, width))
        self.decode = _silent(width, shape.segment_length * shape.n_variables * head.n_logits)
        if shape.n_covariates:
            self.covariate = _linear(shape.n_covariates, width, generator)
            self.respond = _silent(width, shape.n_variables * head.n_logits)
        self.slope = nn.Parameter(torch.zeros(shape.n_series, shape.n_variables, shape.n_covariates))
        self.spread = nn.Parameter(torch.zeros(shape.horizon, shape.n_variables, head.n_logits - 1))
        self.register_buffer("linear", torch.zeros(shape.horizon, shape.context_length))

    def features(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        time: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Raw output (B, H, V, levels) for windows x as of :meth:`WindowSet.take`, and the network's extra loss."""
        shape = self.shape
        L, V, segment = shape.context_length, shape.n_variables, shape.segment_length
        past, future, number = x[:, :L, :-1], x[:, L:, V + 1 : -1], x[:, 0, -1].long()
        segments = functional.pad(past, (0, 0, -L % segment, 0)).reshape(len(x), -1, shape.segment_width)
        output = self.network(self.embed(segments).relu(), generator=generator)
        summary = self.summary(self._dropped(output.final, generator)) + self.variable[number]
        decoded = functional.gelu(summary[:, None] * self.gain + self.position)
        raw = self.decode(self._dropped(decoded, generator)).view(len(x), -1, V, self.head.n_logits)
        raw = raw[:, : shape.horizon]
        median = torch.einsum("blv,hl->bhv", past[..., :V], self.linear)
        if shape.n_covariates:
            known = functional.gelu(self.covariate(future) + summary[:, None])
            raw = raw + self.respond(self._dropped(known, generator)).view_as(raw)
            median = median + self.driven(x)
        spread = self.spread.expand(len(x), -1, -1, -1)
        return raw + torch.cat([median[..., None], spread], dim=3), output.extra_loss

    def driven(self, x: Tensor) -> Tensor:
        """What the covariates of the horizon add to the linear forecast, (B, H, V)."""
        change = covariate_change(x, self.shape, self.linear)
        return torch.einsum("bhf,bvf->bhv", change, self.slope[x[:, 0, -1].long()])

    def _dropped(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        if not (self.training and self.dropout > 0.0):
            return features
        return features * dropout_mask(features, self.dropout, generator)


def covariate_change(x: Tensor, shape: HorizonShape, linear: Tensor) -> Tensor:
    """Covariates of the horizon less what ``linear`` (H, L) forecasts from their own past, (B, H, F).

    The past of the series holds the effects of the past covariates, and so does its linear forecast.
    """
    past, future = _centred_covariates(x, shape.context_length, shape.n_variables)
    return future - torch.einsum("blf,hl->bhf", past, linear)


def _centred_covariates(x: Tensor, L: int, V: int) -> tuple[Tensor, Tensor]:
    """Covariates of the past (B, L, F), and of the horizon (B, H, F), less their mean in the past."""
    inside, covariates = x[:, :L, V, None], x[..., V + 1 : -1]
    mean = covariates[:, :L].sum(1, keepdim=True) / inside.sum(1, keepdim=True)
    return (covariates[:, :L] - mean) * inside, covariates[:, L:] - mean


def _silent(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that puts out zeros at the start."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


class LinearForecast:
    """Ridge regression of the horizon on the past, both scaled as in a :class:`WindowSet`, around a simple forecast.

    The more it is penalised the nearer it is to an anchor: the mean of the past, its last value, or the value one
    season before.

    Parameters
    ----------
    windows : WindowSet
        Those whose horizon reaches over the end are left out.
    period : int
        Steps of a season; 1 if there is none.
    slope : Tensor of shape (series, V, F), optional
        Effects of the covariates, which are taken off the windows first.
    """

    def __init__(self, windows: WindowSet, period: int, slope: Tensor | None = None) -> None:
        self.anchors = anchors(windows.context_length, windows.horizon, period)
        self._windows, self._slope = windows, slope
        self._whole = torch.nonzero(windows.weight == 1)[:, 0]
        self.n = len(self._whole) * windows.n_variables

    @cached_property
    def _products(self) -> tuple[Tensor, Tensor]:
        """Sums over the windows of past times past, (L, L), and of past times target, (L, H)."""
        L, H = self._windows.context_length, self._windows.horizon
        gram = torch.zeros(L, L, dtype=torch.float64)
        cross = torch.zeros(L, H, dtype=torch.float64)
        for index in self._whole.split(_PART):
            parts = _undriven(self._windows, index, self._slope)
            past, target = (part.transpose(1, 2).reshape(-1, part.shape[1]) for part in parts)
            gram += past.T @ past
            cross += past.T @ target
        return gram, cross

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        return torch.linalg.eigh(self._products[0])

    def weights(self, anchor: str, penalty: float) -> Tensor:
        """Coefficients (H, L)."""
        start = self.anchors[anchor]
        if not self.n or not math.isfinite(penalty):
            return start
        (gram, cross), (eigenvalues, vectors) = self._products, self._eigen
        rest = vectors.T @ (cross - gram @ start.T)
        change = vectors @ (rest / (eigenvalues.clamp_min(0.0) + penalty * self.n)[:, None])
        return start + change.T

    def choose(self, held_out: WindowSet, penalized: bool = True) -> tuple[str, float]:
        """Anchor and penalty.

        Anchors have learned nothing, so that all windows tell of them.  A regression has to prove itself on the windows
        held out: its best penalty must beat the anchor there, see :func:`is_better`.

        Parameters
        ----------
        held_out : WindowSet
        penalized : bool
            Whether there is to be a regression at all; the penalty is infinite if not.
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
        """Mean absolute error of each linear forecast (candidates, H, L) on some windows, (windows, candidates)."""
        parts = []
        for part in index.split(_PART // 16):
            past, target = _undriven(windows, part, self._slope)
            errors = torch.einsum("blv,chl->bchv", past, weights) - target[:, None]
            parts.append(errors.abs().flatten(2).nanmean(2))
        return torch.cat(parts)

    def _choose_anchor(self, held_out: WindowSet) -> str:
        """The anchor with the least error on all windows, the latest counting most.

        The season before, or the last value, has to be beaten, see :func:`is_better`.
        """
        names = list(self.anchors)
        matrices = torch.stack([self.anchors[name] for name in names])
        parts = []
        for windows in (self._windows, held_out):
            index = torch.arange(0, len(windows), 1 + len(windows) // _PART)
            parts.append((self._errors(windows, index, matrices), _recency(windows)[index] * len(windows) / len(index)))
        errors, weight = (torch.cat(part) for part in zip(*parts, strict=True))
        best = names[_least(weight @ errors)]
        simple = "season" if "season" in names else "last"
        n = (len(self._windows) + len(held_out)) / held_out.horizon
        better = is_better(errors[:, names.index(best)], errors[:, names.index(simple)], n, weight)
        return best if better else simple


def _least(errors: Tensor) -> int:
    """Return the place of the least error; one that is NaN, which argmin would return, is never the least."""
    return int(errors.nan_to_num(nan=torch.inf, posinf=torch.inf).argmin())


def is_better(losses: Tensor, others: Tensor, independent: float, weight: Tensor | None = None) -> bool:
    """Whether losses on windows lie below others by more than half the standard error of their mean difference.

    Parameters
    ----------
    losses, others : Tensor of shape (m,)
    independent : float
        As how many windows the m count, which overlap; one alone proves nothing.
    weight : Tensor of shape (m,), optional
    """
    weight = torch.ones_like(losses) if weight is None else weight
    weight = weight / weight.sum()
    gain = others - losses
    mean = weight @ gain
    error = (weight @ (gain - mean).square()).sqrt()
    effective = independent / (len(weight) * float(weight.square().sum()))
    return effective > 1.0 and bool(mean > 0.5 * error / math.sqrt(effective - 1.0))


def _recency(windows: WindowSet) -> Tensor:
    """Weights that halve with each quarter of a series, (m,)."""
    starts, ends = windows.starts[windows.owners], windows.ends[windows.owners]
    return 0.5 ** (4.0 * (ends - windows.cuts) / (ends - starts)).double()


def _undriven(windows: WindowSet, index: Tensor, slope: Tensor | None) -> tuple[Tensor, Tensor]:
    """Pasts (B, L, V) and targets (B, H, V) of some windows in float64, less the effects of their covariates."""
    x, target, _, _ = windows.cut(index)
    x, target, L, V = x.double(), target.double(), windows.context_length, windows.n_variables
    if slope is None:
        return x[:, :L, :V], target
    effects = slope.double()[x[:, 0, -1].long()]
    past, future = (torch.einsum("btf,bvf->btv", part, effects) for part in _centred_covariates(x, L, V))
    return x[:, :L, :V] - past, target - future


def anchors(context_length: int, horizon: int, period: int) -> dict[str, Tensor]:
    """Simple forecasts as matrices (H, L) that act on a centred past.

    ``"mean"`` of the past; its ``"last"`` value; the value one ``"season"`` before; the ``"season mean"`` over the
    whole seasons of the past; with ``"drift"``, the last value or season moved on by the mean change of a step or
    season; and the means of any two.  Where there is a period, all have to do with the season.
    """
    L, H = context_length, horizon
    ahead = torch.arange(1, H + 1, dtype=torch.float64)
    matrices = {"mean": torch.zeros(H, L, dtype=torch.float64)}
    matrices["last"] = matrices["mean"].clone()
    matrices["last"][:, -1] = 1.0
    if L > 1:
        matrices["drift"] = matrices["last"].clone()
        matrices["drift"][:, -1] += ahead / (L - 1)
        matrices["drift"][:, 0] -= ahead / (L - 1)
    if 1 < period <= L:
        steps = torch.arange(H)
        matrices["season"] = matrices["mean"].clone()
        matrices["season"][steps, L - period + steps % period] = 1.0
        if 2 * period <= L:
            seasons = (steps // period + 1).double()[:, None] / period
            matrices["season mean"] = matrices["mean"].clone()
            for back in range(period, L + 1 - (L % period), period):
                matrices["season mean"][steps, L - back + steps % period] = 1.0 / (L // period)
            matrices["season drift"] = matrices["season"].clone()
            matrices["season drift"][:, -period:] += seasons
            matrices["season drift"][:, -2 * period : -period] -= seasons
    for one, other in itertools.combinations(list(matrices), 2):
        matrices[f"{one} + {other}"] = (matrices[one] + matrices[other]) / 2.0
    if period > 1:
        matrices = {name: matrix for name, matrix in matrices.items() if "season" in name} or matrices
    return matrices


@torch.no_grad()
def start_from_linear(model: HorizonModel, windows: WindowSet, weights: Tensor, generator: torch.Generator) -> None:
    """Give a new model its linear forecast, and the slopes of covariates and the spreads that fit what that leaves.

    Parameters
    ----------
    model : HorizonModel
    windows : WindowSet
    weights : Tensor of shape (H, L)
    generator : torch.Generator
        Chooses windows where there are more than are needed.
    """
    shape = model.shape
    model.linear.copy_(weights)
    index = torch.randperm(len(windows), generator=generator)[:_PART]
    x, target, _, _ = windows.cut(index)
    x, target = x.double(), target.double()
    rest = target - torch.einsum("blv,hl->bhv", x[:, : shape.context_length, : shape.n_variables], weights)
    if shape.n_covariates:
        change, number = covariate_change(x, shape, weights), x[:, 0, -1].long()
        for series in range(shape.n_series):
            mine = number == series
            model.slope[series] = _slopes(change[mine].flatten(0, 1), rest[mine].flatten(0, 1))
        rest = rest - torch.einsum("bhf,bvf->bhv", change, model.slope.double()[number])
    model.spread.copy_(_spread(rest, target, model.head.levels))


def _slopes(change: Tensor, rest: Tensor) -> Tensor:
    """Ridge regression of each column of ``rest`` (n, V) on ``change`` (n, F), (V, F)."""
    known = rest.isfinite()
    slopes = []
    for column, rows in zip(rest.T, known.T, strict=True):
        A = change[rows]
        penalty = (0.01 * len(A) + 1e-6) * torch.eye(A.shape[1], dtype=A.dtype)
        slopes.append(torch.linalg.solve(A.T @ A + penalty, A.T @ column[rows]))
    return torch.stack(slopes)


def _spread(rest: Tensor, target: Tensor, levels: Tensor) -> Tensor:
    """Raw distances between the quantiles of residuals (n, H, V), (H, V, levels - 1).

    The outermost quantiles take 1 / level residuals at least.  Where there are fewer, the distances go over to those of
    a normal distribution: as if the mean had been forecast once more, and no wider at a step than at any later one.
    """
    n = rest.isfinite().sum(0)
    gaps = rest.nanquantile(levels, dim=0).diff(dim=0).nan_to_num(0.0)
    of_mean = target.square().nansum((0, 1)) / n.sum(0)
    deviation = ((rest.square().nansum(0) + of_mean) / (n + 1)).cummax(0).values.sqrt()
    normal = torch.special.ndtri(levels).diff()[:, None, None] * deviation
    gaps = torch.lerp(normal, gaps, (n * levels[0]).clamp_max(1.0))
    return QuantileHead.raw_gaps(gaps.clamp_min(0.01 * levels.diff()[:, None, None])).permute(1, 2, 0)
