"""Series cut into windows: a stretch of the past, each brought to mean 0 and variance 1, and the steps that follow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfmts._batch import SequenceBatch

_FLOOR = 0.1  # of a series' standard deviation: no window is scaled by less
_PART = 4096  # windows taken at once where all are needed


@dataclass(frozen=True)
class WindowSet:
    """Windows of n series, cut when they are asked for.

    A window is ``context_length`` steps before a cut and ``horizon`` steps from it on.  Where it reaches over its
    series' first step it holds zeros, that is the mean; where it reaches over the last, targets are NaN.

    Attributes
    ----------
    values : Tensor of shape (steps, V), float64
        All series, one behind the other; NaN where a value is not known yet.
    covariates : Tensor of shape (steps, F), float64
        What is known of each step beforehand.
    starts, ends : Tensor of shape (n,), int64
        Rows of each series: ``starts[i] <= row < ends[i]``.
    scales : Tensor of shape (n, V), float64
        Standard deviation of each series.
    cuts : Tensor of shape (m,), int64
        The row of the first step of each window's horizon.
    owners : Tensor of shape (m,), int64
        The window's series.
    variables : Tensor of shape (m,), int64, optional
        The window's variable, if each holds only one.
    context_length, horizon : int
    dtype : torch.dtype
        Of what is handed out; centres and scales are computed in float64.
    """

    values: Tensor
    covariates: Tensor
    starts: Tensor
    ends: Tensor
    scales: Tensor
    cuts: Tensor
    owners: Tensor
    variables: Tensor | None
    context_length: int
    horizon: int
    dtype: torch.dtype = torch.float32

    def __len__(self) -> int:
        return len(self.cuts)

    @property
    def lengths(self) -> Tensor:
        """Steps of each window, all the same."""
        return torch.full((len(self),), self.context_length + self.horizon)

    @property
    def n_variables(self) -> int:
        """Variables in a window."""
        return self.values.shape[1] if self.variables is None else 1

    @property
    def total_weight(self) -> float:
        """Sum of the weights."""
        return float(self.weight.sum())

    @cached_property
    def weight(self) -> Tensor:
        """Share of each window's targets that is known, (m,)."""
        return self._known(torch.arange(len(self)))

    @cached_property
    def target(self) -> Tensor:
        """Scaled targets of all windows, (m, H, V)."""
        return torch.cat([self.cut(index)[1] for index in torch.arange(len(self)).split(_PART)])

    def to(self, device: torch.device, dtype: torch.dtype) -> "WindowSet":
        """The same on ``device``; windows are handed out as ``dtype``."""
        names = ("values", "covariates", "starts", "ends", "scales", "cuts", "owners", "variables")
        moved = {name: getattr(self, name).to(device) for name in names if getattr(self, name) is not None}
        return replace(self, **moved, dtype=dtype)

    def every(self, stride: int) -> "WindowSet":
        """Only every ``stride``-th cut of a single series."""
        together = 1 if self.variables is None else self.values.shape[1]
        index = torch.arange(len(self)).view(-1, together)[::stride].reshape(-1)
        variables = None if self.variables is None else self.variables[index]
        return replace(self, cuts=self.cuts[index], owners=self.owners[index], variables=variables)

    def take(self, index: Tensor) -> SequenceBatch:
        """Windows as series of ``context_length + horizon`` steps.

        Channels are the scaled variables (0 in the horizon), whether the step lies within the series, the covariates,
        and the number of the variable (0 if a window holds all).
        """
        x, target, _, _ = self.cut(index)
        lengths = torch.full((len(index),), x.shape[1])
        return SequenceBatch(x.flatten(0, 1), lengths, target=target, weight=self._known(index))

    def cut(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Windows (B, L + H, V + 1 + F + 1), scaled targets (B, H, V), and centres and scales (B, V) in float64."""
        index = index.to(self.cuts.device)
        rows, inside = self._rows(index)
        L, owners = self.context_length, self.owners[index]
        values, scales = self.values[rows], self.scales[owners]
        if self.variables is not None:
            variables = self.variables[index]
            values = values.gather(2, variables[:, None, None].expand(*rows.shape, 1))
            scales = scales.gather(1, variables[:, None])
        known = inside[:, :L, None]
        past = torch.where(known, values[:, :L], 0.0)
        count = known.sum(1)
        center = past.sum(1) / count
        past = torch.where(known, past - center[:, None], 0.0)
        deviation = (past.square().sum(1) / count).sqrt()
        scale = torch.maximum(deviation, _FLOOR * scales)
        scale = torch.maximum(scale, 1e-12 * center.abs()).clamp_min(1e-300)  # where nothing has ever varied
        target = torch.where(inside[:, L:, None], values[:, L:], torch.nan)
        target = (target - center[:, None]) / scale[:, None]
        V = past.shape[2]
        x = past.new_zeros(*rows.shape, V + 1 + self.covariates.shape[1] + 1)
        x[:, :L, :V] = past / scale[:, None]
        x[..., V] = inside
        x[..., V + 1 : -1] = torch.where(inside[..., None], self.covariates[rows], 0.0)
        if self.variables is not None:
            x[..., -1] = self.variables[index, None]
        return x.to(self.dtype), target.to(self.dtype), center, scale

    def _rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of each step of the windows, (B, L + H), and whether they lie within the series."""
        steps = torch.arange(-self.context_length, self.horizon, device=self.cuts.device)
        rows = self.cuts[index, None] + steps
        start, end = self.starts[self.owners[index], None], self.ends[self.owners[index], None]
        inside = (rows >= start) & (rows < end)
        return torch.where(inside, rows, start), inside

    def _known(self, index: Tensor) -> Tensor:
        index = index.to(self.cuts.device)
        left = self.ends[self.owners[index]] - self.cuts[index]
        return (left.clamp(0, self.horizon) / self.horizon).to(self.dtype)


def window_set(
    values: Sequence[NDArray[np.float64]],
    covariates: Sequence[NDArray[np.float64]],
    context_length: int,
    horizon: int,
    *,
    joint: bool,
    first: Sequence[int],
    last: Sequence[int],
    ends: Sequence[int] | None = None,
    scales: NDArray[np.float64] | None = None,
) -> WindowSet:
    """Windows of a panel.

    Parameters
    ----------
    values : sequence of n arrays of shape (T_i, V)
    covariates : sequence of n arrays of shape (T_i, F)
    context_length, horizon : int
    joint : bool
        Whether a window holds all variables; else each variable has windows of its own.
    first, last : sequence of n ints
        Cuts of series i are ``first[i], ..., last[i]``, steps counted from its beginning.
    ends : sequence of n ints, optional
        Steps of each series that may be seen; all by default.
    scales : array of shape (n, V), optional
        Standard deviations; of the steps that may be seen by default.
    """
    lengths = np.array([len(series) for series in values])
    starts = lengths.cumsum() - lengths
    seen = lengths if ends is None else np.asarray(ends)
    if scales is None:
        scales = np.stack([np.nanstd(series[:end], axis=0) for series, end in zip(values, seen, strict=True)])
    counts = np.maximum(np.asarray(last) - np.asarray(first) + 1, 0)
    owners = np.repeat(np.arange(len(values)), counts)
    cuts = np.concatenate([np.arange(a, a + n) for a, n in zip(starts + np.asarray(first), counts, strict=True)])
    n_variables = values[0].shape[1]
    variables = None
    if not joint:
        variables = torch.from_numpy(np.tile(np.arange(n_variables), len(cuts)))
        cuts, owners = np.repeat(cuts, n_variables), np.repeat(owners, n_variables)
    return WindowSet(
        torch.from_numpy(np.concatenate(values)),
        torch.from_numpy(np.concatenate(covariates)),
        torch.from_numpy(starts),
        torch.from_numpy(starts + seen),
        torch.from_numpy(scales),
        torch.from_numpy(cuts),
        torch.from_numpy(owners),
        variables,
        context_length,
        horizon,
    )
