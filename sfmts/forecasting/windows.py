"""Series cut into windows: a stretch of the past and the steps that follow it, brought to a common scale."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_FLOOR = 0.1  # least scale of a window, as a share of its series' standard deviation
_PART = 4096  # windows cut at once where all are needed


@dataclass(frozen=True)
class WindowBatch:
    """B windows with L steps of the past and H steps of the future, V variables and F covariates.

    Attributes
    ----------
    past : Tensor of shape (B, L, V)
        Scaled values; 0, the mean of the window, before the series begins.
    mask : Tensor of shape (B, L), bool
        Whether a step of the past lies within the series.
    past_covariates, future_covariates : Tensor of shape (B, L, F) and (B, H, F)
        What is known of each step in advance; 0 outside the series.
    variable : Tensor of shape (B,), int64
        Number of the variable that a window holds; 0 if a window holds all of them.
    target : Tensor of shape (B, H, V)
        Scaled values of the future; NaN where they are unknown.
    weight : Tensor of shape (B,)
        Share of a window's targets that is known.
    center, scale : Tensor of shape (B, V), float64
        A value y is scaled to (y - center) / scale.
    """

    past: Tensor
    mask: Tensor
    past_covariates: Tensor
    future_covariates: Tensor
    variable: Tensor
    target: Tensor
    weight: Tensor
    center: Tensor
    scale: Tensor

    def __len__(self) -> int:
        return len(self.past)

    @property
    def values(self) -> Tensor:
        """Return what the trainer calls the values of the items.

        Returns
        -------
        values : Tensor of shape (B, L, V)
            The scaled past.
        """
        return self.past

    @property
    def lengths(self) -> Tensor:
        """Return the lengths of the windows, which are all equal.

        Returns
        -------
        lengths : Tensor of shape (n,), int64
            L + H for each window, on the CPU.
        """
        return torch.full((len(self),), self.past.shape[1] + self.target.shape[1])

    @property
    def total_weight(self) -> float:
        """Return the sum of the weights.

        Returns
        -------
        total : float
            Number of windows, each counted by the known share of its targets.
        """
        return float(self.weight.sum())

    def take(self, index: Tensor, there: Tensor | None = None) -> "WindowBatch":
        """Return some of the windows.

        Parameters
        ----------
        index : Tensor of shape (m,), int64
            Their numbers.
        there : Tensor of shape (m,), int64, optional
            The same numbers on the device of the windows. By default ``index`` is sent there.

        Returns
        -------
        batch : WindowBatch
            The windows in the order of ``index``.
        """
        index = index.to(self.past.device) if there is None else there
        return WindowBatch(*(getattr(self, field.name).index_select(0, index) for field in fields(self)))

    def to(self, device: torch.device, dtype: torch.dtype) -> "WindowBatch":
        """Return the windows on another device or with another precision.

        Parameters
        ----------
        device : torch.device
            Where the tensors are stored.
        dtype : torch.dtype
            Type of what the model reads. ``center`` and ``scale`` stay in float64.

        Returns
        -------
        batch : WindowBatch
            The converted windows.
        """
        exact = ("mask", "variable", "center", "scale")
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        return WindowBatch(**{name: part if name in exact else part.to(dtype) for name, part in moved.items()})

    def centred_covariates(self) -> tuple[Tensor, Tensor]:
        """Return the covariates less their mean over the past.

        Returns
        -------
        past : Tensor of shape (B, L, F)
            Centred covariates of the past; 0 before the series begins.
        future : Tensor of shape (B, H, F)
            Centred covariates of the future.
        """
        inside = self.mask[..., None]
        mean = self.past_covariates.sum(1, keepdim=True) / inside.sum(1, keepdim=True)
        return (self.past_covariates - mean) * inside, self.future_covariates - mean


@dataclass(frozen=True)
class WindowSet:
    """Windows of n series that are cut on demand.

    A window has ``context_length`` steps before a cut and ``horizon`` steps from the cut on. Before a series begins its
    values are 0, the mean of the window; after a series ends its targets are NaN.

    Attributes
    ----------
    values : Tensor of shape (steps, V), float64
        All series, concatenated; NaN where a value is unknown.
    covariates : Tensor of shape (steps, F), float64
        What is known of each step in advance.
    starts, ends : Tensor of shape (n,), int64
        Rows of each series: ``starts[i] <= row < ends[i]``.
    scales : Tensor of shape (n, V), float64
        Standard deviation of each series.
    cuts : Tensor of shape (m,), int64
        The row of the first step of each window's horizon.
    owners : Tensor of shape (m,), int64
        The series of each window.
    variables : Tensor of shape (m,), int64, optional
        The variable of each window, if a window holds only one.
    context_length, horizon : int
        Steps of the past and of the future in a window.
    past_only : tuple of int
        Columns of the covariates that are unknown from the cut on. There they have their mean over the past.
    dtype : torch.dtype
        Type of the batches. Centres and scales are computed in float64.
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
    past_only: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32

    def __len__(self) -> int:
        return len(self.cuts)

    @property
    def lengths(self) -> Tensor:
        """Return the lengths of the windows, which are all equal.

        Returns
        -------
        lengths : Tensor of shape (n,), int64
            L + H for each window, on the CPU.
        """
        return torch.full((len(self),), self.context_length + self.horizon)

    @property
    def n_variables(self) -> int:
        """Return the number of variables in a window.

        Returns
        -------
        n_variables : int
            V, or 1 if each variable has its own windows.
        """
        return self.values.shape[1] if self.variables is None else 1

    @property
    def total_weight(self) -> float:
        """Return the sum of the weights.

        Returns
        -------
        total : float
            Number of windows, each counted by the known share of its targets.
        """
        return float(self.weight.sum())

    def weight_of(self, index: Tensor) -> float:
        """Return the sum of the weights of some of the windows.

        Parameters
        ----------
        index : Tensor of shape (m,), int64
            Their numbers.

        Returns
        -------
        total : float
            Number of these windows, each counted by the known share of its targets.
        """
        return float(self._weight_here[index].sum())

    @cached_property
    def _weight_here(self) -> Tensor:
        """Return the weights on the CPU; a copy for each mini-batch would make the program wait for a GPU."""
        return self.weight.cpu()

    @cached_property
    def weight(self) -> Tensor:
        """Return the share of each window's targets that is known.

        Returns
        -------
        weight : Tensor of shape (m,)
            Numbers between 0 and 1.
        """
        return self._known(torch.arange(len(self), device=self.cuts.device))

    @cached_property
    def target(self) -> Tensor:
        """Return the scaled targets of all windows.

        Returns
        -------
        target : Tensor of shape (m, H, V)
            NaN where they are unknown.
        """
        return torch.cat([self.take(index).target for index in torch.arange(len(self)).split(_PART)])

    def to(self, device: torch.device, dtype: torch.dtype) -> "WindowSet":
        """Return the windows on another device or with another precision.

        Parameters
        ----------
        device : torch.device
            Where the series are stored.
        dtype : torch.dtype
            Type of the batches. The series themselves stay in float64.

        Returns
        -------
        windows : WindowSet
            The converted windows.
        """
        names = ("values", "covariates", "starts", "ends", "scales", "cuts", "owners", "variables")
        moved = {name: getattr(self, name).to(device) for name in names if getattr(self, name) is not None}
        return replace(self, **moved, dtype=dtype)

    def every(self, stride: int) -> "WindowSet":
        """Return every ``stride``-th cut of a single series.

        Parameters
        ----------
        stride : int
            Steps between two cuts.

        Returns
        -------
        windows : WindowSet
            The first cut and every ``stride``-th after it, with all variables.
        """
        together = 1 if self.variables is None else self.values.shape[1]
        index = torch.arange(len(self)).view(-1, together)[::stride].reshape(-1)
        variables = None if self.variables is None else self.variables[index]
        return replace(self, cuts=self.cuts[index], owners=self.owners[index], variables=variables)

    def take(self, index: Tensor, there: Tensor | None = None) -> WindowBatch:
        """Cut some of the windows.

        Parameters
        ----------
        index : Tensor of shape (B,), int64
            Their numbers.
        there : Tensor of shape (B,), int64, optional
            The same numbers on the device of the series. By default ``index`` is sent there.

        Returns
        -------
        batch : WindowBatch
            The windows in the order of ``index``.
        """
        index = index.to(self.cuts.device) if there is None else there
        rows, inside = self._rows(index)
        L, owners = self.context_length, self.owners[index]
        values, scales = self.values[rows], self.scales[owners]
        if self.variables is None:
            variable = torch.zeros_like(index)
        else:
            variable = self.variables[index]
            values = values.gather(2, variable[:, None, None].expand(*rows.shape, 1))
            scales = scales.gather(1, variable[:, None])
        past, center, scale = _standardised(values[:, :L], inside[:, :L], scales)
        target = torch.where(inside[:, L:, None], values[:, L:], torch.nan)
        target = (target - center[:, None]) / scale[:, None]
        covariates = torch.where(inside[..., None], self.covariates[rows], 0.0)
        for column in self.past_only:
            known = covariates[:, :L, column]
            covariates[:, L:, column] = known.sum(1, keepdim=True) / inside[:, :L].sum(1, keepdim=True)
        covariates = covariates.to(self.dtype)
        return WindowBatch(
            past=past.to(self.dtype),
            mask=inside[:, :L],
            past_covariates=covariates[:, :L],
            future_covariates=covariates[:, L:],
            variable=variable,
            target=target.to(self.dtype),
            weight=self._known(index),
            center=center,
            scale=scale,
        )

    def _rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the row of each step of the windows, (B, L + H), and whether it lies within the series."""
        steps = torch.arange(-self.context_length, self.horizon, device=self.cuts.device)
        rows = self.cuts[index, None] + steps
        start, end = self.starts[self.owners[index], None], self.ends[self.owners[index], None]
        inside = (rows >= start) & (rows < end)
        return torch.where(inside, rows, start), inside

    def _known(self, index: Tensor) -> Tensor:
        """Return the share of the windows' targets that lies within the series, (B,)."""
        left = self.ends[self.owners[index]] - self.cuts[index]
        # Shares have the type of the losses that they multiply. PyTorch would divide integers in single precision.
        return (left.clamp(0, self.horizon).double() / self.horizon).to(self.dtype)


def _standardised(values: Tensor, inside: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return scaled pasts (B, L, V), and their centres and scales (B, V), given the series' deviations (B, V).

    With m_t = 1 inside the series and 0 before it, and s_series the deviation of the whole series::

        center  = sum_t m_t y_t / sum_t m_t
        scale^2 = sum_t m_t (y_t - center)^2 / sum_t m_t,  but scale >= 0.1 s_series and scale >= 1e-12 |center|
        past_t  = m_t (y_t - center) / scale
    """
    known = inside[..., None]
    past = torch.where(known, values, 0.0)
    count = known.sum(1)
    center = past.sum(1) / count
    past = torch.where(known, past - center[:, None], 0.0)
    deviation = (past.square().sum(1) / count).sqrt()
    # A flat stretch must not be divided by its noise, and a constant series not by its rounding errors or by zero.
    scale = torch.maximum(deviation, _FLOOR * scales)
    scale = torch.maximum(scale, 1e-12 * center.abs()).clamp_min(1e-300)
    return past / scale[:, None], center, scale


def window_set(
    values: Sequence[NDArray[np.float64]],
    covariates: Sequence[NDArray[np.float64]],
    context_length: int,
    horizon: int,
    *,
    joint: bool,
    first: Sequence[int],
    last: Sequence[int],
    past_only: tuple[int, ...] = (),
    ends: Sequence[int] | None = None,
    scales: NDArray[np.float64] | None = None,
) -> WindowSet:
    """Return the windows of a panel.

    Parameters
    ----------
    values : sequence of n arrays of shape (T_i, V)
        The series.
    covariates : sequence of n arrays of shape (T_i, F)
        What is known of their steps in advance.
    context_length, horizon : int
        Steps of the past and of the future in a window.
    joint : bool
        Whether a window holds all variables. Otherwise each variable has its own windows.
    first, last : sequence of n ints
        Cuts of series i are ``first[i], ..., last[i]``, steps counted from its beginning.
    past_only : tuple of int
        Columns of the covariates that a window may read before its cut only.
    ends : sequence of n ints, optional
        Number of steps of each series that may be used; all by default.
    scales : array of shape (n, V), optional
        Standard deviations; by default those of the steps that may be used.

    Returns
    -------
    windows : WindowSet
        Windows of float32 on the CPU, ordered by series, cut and variable.
    """
    lengths = np.array([len(series) for series in values])
    starts = lengths.cumsum() - lengths
    seen = lengths if ends is None else np.asarray(ends)
    if scales is None:
        scales = np.stack([np.nanstd(series[:end], axis=0) for series, end in zip(values, seen, strict=True)])
    counts = np.maximum(np.asarray(last) - np.asarray(first) + 1, 0)
    owners = np.repeat(np.arange(len(values)), counts)
    cuts = np.concatenate([np.arange(a, a + n) for a, n in zip(starts + np.asarray(first), counts, strict=True)])
    variables = None
    if not joint:
        n_variables = values[0].shape[1]
        variables = torch.from_numpy(np.tile(np.arange(n_variables), len(cuts)))
        cuts, owners = np.repeat(cuts, n_variables), np.repeat(owners, n_variables)
    return WindowSet(
        values=torch.from_numpy(np.concatenate(values)),
        covariates=torch.from_numpy(np.concatenate(covariates)),
        starts=torch.from_numpy(starts),
        ends=torch.from_numpy(starts + seen),
        scales=torch.from_numpy(scales),
        cuts=torch.from_numpy(cuts),
        owners=torch.from_numpy(owners),
        variables=variables,
        context_length=context_length,
        horizon=horizon,
        past_only=past_only,
    )
