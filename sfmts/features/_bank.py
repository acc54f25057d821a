"""Draw a random bank of oscillators, and fit its scale and thresholds to training series."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfmts.kernels._bank import LANES, MEMBERS, SUMMARIES, Bank, trace_bank

KINDS = ("value", "slope")
_SLOTS = (MEMBERS, LANES)
_LEVELS = (0.1, 0.9)  # range of the quantiles that are thresholds
_FIT_SERIES, _FIT_STEPS = 32, 16  # maximum number of series, and of steps of each, for scales and thresholds


@dataclass(frozen=True)
class BankOptions:
    """Options from which a bank is drawn.

    Attributes
    ----------
    n_features : int
        Minimum number of features, rounded up to whole groups of 8 oscillators with 7 summaries each.
    shortest, longest : float
        Range of the periods, in units of time.
    decays : (float, float)
        Range of the decay times, in periods.
    forward_only : bool
        Whether to leave out the half of the bank that reads series backwards.
    zero_share : float
        Share of oscillators of frequency zero.
    """

    n_features: int
    shortest: float
    longest: float
    decays: tuple[float, float]
    forward_only: bool
    zero_share: float


@dataclass(frozen=True)
class BankInfo:
    """Properties of the oscillators of a bank, for feature names and importance.

    Attributes
    ----------
    period, decay : ndarray of shape (blocks, 8, 16)
        Period and decay time in units of time. An oscillator of frequency zero has an infinite period.
    kind : ndarray of shape (blocks,)
        0: driven by the value of the signal, 1: by its slope.
    """

    period: NDArray[np.float64]
    decay: NDArray[np.float64]
    kind: NDArray[np.int64]


def draw_bank(
    options: BankOptions, n_channels: int, n_copies: int, unit: float, random_state: np.random.RandomState
) -> tuple[Bank, BankInfo]:
    """Draw poles, read-outs and channel mixes; :func:`fit_bank` sets scales and thresholds.

    With ``n_copies=2``, each channel has two copies that are scaled in two ways, and every other row of oscillators
    reads the second copy.
    """
    kinds, directions, groups = _blocks(options)
    shape = (len(groups), *_SLOTS)
    size = len(groups) * MEMBERS * LANES
    period = _log_uniform(random_state, options.shortest, options.longest, size).reshape(shape)
    decay = period * _log_uniform(random_state, *options.decays, size).reshape(shape)
    is_zero = (_stratified(random_state, size) < options.zero_share).reshape(shape)
    omega = np.where(is_zero, 0.0, 2 * np.pi / period)
    # pole s = (-1 / decay + i omega) per typical step, the unit of the kernels
    s = torch.from_numpy((-1 / decay + 1j * omega) * unit)
    phase = torch.from_numpy(2 * np.pi * _stratified(random_state, size).reshape(shape))
    m = torch.polar(torch.ones_like(phase), phase)
    is_slope = torch.from_numpy(kinds == 1)[:, None, None]
    direct = torch.where(is_slope, 0.0, -(m / s).real)
    start = torch.where(is_slope, 0.0, s / torch.expm1(s))  # so that S_0 = 0
    bank = Bank(
        s,
        start.to(torch.complex64),
        m * torch.expm1(s) / s**2,
        direct,
        torch.zeros(shape),
        _mixes(n_channels, n_copies, len(groups), random_state),
        torch.from_numpy(directions),
        torch.from_numpy(groups),
        1.0,
    )
    return bank, BankInfo(np.where(is_zero, np.inf, period), decay, kinds)


def _blocks(options: BankOptions) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return kind, direction and number of groups of each block, spread evenly over kinds and directions."""
    n_groups = -(-options.n_features // (MEMBERS * len(SUMMARIES)))
    banks = [(kind, direction) for direction in ((1,) if options.forward_only else (1, -1)) for kind in (0, 1)]
    rows = []
    for number, (kind, direction) in enumerate(banks):
        share = n_groups // len(banks) + (number < n_groups % len(banks))
        rows += [(kind, direction, min(LANES, share - first)) for first in range(0, share, LANES)]
    kinds, directions, groups = np.array(rows, dtype=np.int64).T
    return np.ascontiguousarray(kinds), np.ascontiguousarray(directions), np.ascontiguousarray(groups)


def _stratified(random_state: np.random.RandomState, size: int) -> NDArray[np.float64]:
    """Return one random number in each of ``size`` equal parts of [0, 1), in random order, to reduce variance."""
    return (random_state.permutation(size) + random_state.uniform(size=size)) / size


def _log_uniform(random_state: np.random.RandomState, low: float, high: float, size: int) -> NDArray[np.float64]:
    return low * (high / low) ** _stratified(random_state, size)


def _mixes(n_channels: int, n_copies: int, n_blocks: int, random_state: np.random.RandomState) -> Tensor:
    """Draw normal weights of a random subset of the channels for each row of oscillators."""
    mix = np.zeros((n_blocks * MEMBERS, n_copies, n_channels), dtype=np.float32)
    counts = (2 ** random_state.uniform(0, np.log2(n_channels + 1), size=len(mix))).astype(int)
    for number, count in enumerate(counts):
        row = mix[number, number % n_copies]
        if n_channels == 1:
            row[:] = 1
        else:
            row[random_state.choice(n_channels, count, replace=False)] = random_state.normal(size=count)
    return torch.from_numpy(mix.reshape(n_blocks, MEMBERS, n_copies * n_channels))


def fit_bank(
    bank: Bank,
    series: tuple[Tensor, Tensor, Tensor | None],
    weight: NDArray[np.float64] | None,
    random_state: np.random.RandomState,
    *,
    backend: str,
    threads: int | None,
) -> Bank:
    """Scale every output to standard deviation 1 over some training series, and draw thresholds among its quantiles.

    Thresholds lie midway between two outputs, so that rounding errors do not change on which side an output is.

    Parameters
    ----------
    bank : Bank
        Result of :func:`draw_bank`, with ``m`` and ``direct`` in double precision.
    series : (Tensor, Tensor, Tensor or None)
        Values, lengths and time stamps, as in :func:`sfmts.kernels.summarize_bank`.
    weight : ndarray of shape (n,), optional
        Weight of each series.
    random_state : RandomState
        Draws the levels of the thresholds.
    backend : str
        As in :func:`sfmts.kernels.summarize_bank`.
    threads : int or None
        As in :func:`sfmts.kernels.summarize_bank`.

    Returns
    -------
    bank : Bank
        Scaled bank with thresholds, in single precision.
    """
    level = _LEVELS[0] + (_LEVELS[1] - _LEVELS[0]) * _stratified(random_state, bank.s.numel())
    x, lengths, times = series
    strides = (lengths + _FIT_STEPS - 1) // _FIT_STEPS
    rough = bank._replace(m=bank.m.to(torch.complex64), direct=bank.direct.float())
    c = trace_bank(x, lengths, times, rough, strides, backend=backend, threads=threads).numpy()
    outputs = np.ascontiguousarray(c.reshape(len(c), -1, MEMBERS * LANES).transpose(0, 2, 1))
    outputs = outputs.reshape(bank.s.numel(), -1)
    of_step = None
    if weight is not None:
        of_step = np.repeat(weight, ((lengths + strides - 1) // strides).numpy())
    deviation = _deviations(outputs.astype(np.float64), of_step)
    threshold = _thresholds(outputs, level, of_step, deviation)
    scale = torch.from_numpy(1 / deviation).view(bank.s.shape)
    return bank._replace(
        m=(bank.m * scale).to(torch.complex64),
        direct=(bank.direct * scale).float(),
        threshold=(torch.from_numpy(threshold).view(bank.s.shape) * scale).float(),
    )


def choose_series(n: int, weight: NDArray[np.float64] | None, random_state: np.random.RandomState) -> NDArray[np.int64]:
    """Draw the numbers of the series, at most 32, for :func:`fit_bank`."""
    if n <= _FIT_SERIES:
        return np.arange(n)
    p = None if weight is None else weight / weight.sum()
    size = _FIT_SERIES if p is None else min(_FIT_SERIES, int(np.count_nonzero(p)))
    return np.sort(random_state.choice(n, size, replace=False, p=p))


def _deviations(outputs: NDArray[np.float64], weight: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return the standard deviation of each row; 1 for a row that is constant except for rounding."""
    mean = np.average(outputs, axis=1, weights=weight)
    variance = np.average(np.square(outputs - mean[:, None]), axis=1, weights=weight)
    return np.sqrt(np.where(variance > 1e-12 * (mean**2 + 1e-20), variance, 1.0))


def _thresholds(
    outputs: NDArray[np.float32],
    level: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    deviation: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return a quantile of each row at its own level, midway between this output and the next greater one."""
    if weight is None:
        ordered = np.sort(outputs, axis=1)
        place = (level * outputs.shape[1]).astype(int)
    else:
        order = np.argsort(outputs, axis=1, kind="stable")
        ordered = np.take_along_axis(outputs, order, axis=1)
        reached = np.cumsum(weight[order], axis=1)
        place = (reached <= level[:, None] * reached[:, -1:]).sum(axis=1)
    value = np.take_along_axis(ordered, place[:, None], axis=1)
    beyond = np.where(ordered > value, ordered, np.inf).min(axis=1).astype(np.float64)
    value = value[:, 0].astype(np.float64)
    return np.where(np.isfinite(beyond), (value + beyond) / 2, value + deviation / 2)
