"""Define the summaries of a bank of damped oscillators, in plain PyTorch and double precision.

Every faster kernel is tested against this file.

An oscillator with pole s = -1 / tau + j omega is driven by a series x. The series is zero before its first observation
and linear between two observations. This is the state equation of the State-Frequency Memory (Hu & Qi,
"State-Frequency Memory Recurrent Neural Networks", ICML 2017, Eq. 1) in continuous time with constant gates: the forget
gates keep exp(-1 / tau) per unit of time, and omega is the frequency::

    S'(t) = s S(t) + x(t),    S_0 = 0 at the first observation

The deviation of S from its steady state, V = S + x / s, obeys V' = s V + x' / s. With a constant slope (first-order
hold), its exact solution over a step of duration dt needs E = exp(s dt) - 1 only::

    V_t = V_{t-1} + E_t (V_{t-1} + slope_t / s^2),    V_0 = x_0 / s

Kernels scale V to Y = V s^2 / (exp(s unit) - 1), so that a step of one ``unit`` of time is driven by the slope itself::

    Y_t = exp(s dt_t) Y_{t-1} + g_t slope_t,    g_t = (exp(s dt_t) - 1) / (exp(s unit) - 1),    Y_0 = start x_0
    c_t = Re(m Y_t) + direct x_t,    c_0 = 0

With start = s / (exp(s unit) - 1) and direct = Re(-m' / s), where m' = m s^2 / (exp(s unit) - 1), c reads S driven by
x. With start = direct = 0, it reads S driven by the slope of x.

Summaries of c over the time of a series. Each step has its duration as weight, and T is the sum of durations:

==================  =====================================================================================
``share``           time at which c is above its threshold, over T
``longest``         longest stretch of such time, over T
``moment``          integral over such time of the time elapsed, over T^2
``greatest``        square root of the share of time at which c is the greatest of its group of 8
``least``           the same for the least
``greatest_mean``   integral of c over the time at which it is the greatest of its group, over T
``least_mean``      the same for the least
==================  =====================================================================================

Slots of a bank are blocks x 8 members x 16 groups; the 8 members of a group compete.
"""

from typing import NamedTuple

import torch
from torch import Tensor

MEMBERS, LANES = 8, 16
SUMMARIES = ("share", "longest", "moment", "greatest", "least", "greatest_mean", "least_mean")


class Bank(NamedTuple):
    """Oscillators, read-outs and thresholds, in slots of shape (blocks, 8 members, 16 groups).

    Parameters
    ----------
    s : Tensor of shape (blocks, 8, 16), complex128
        Poles -1 / tau + j omega, per unit of time.
    start : Tensor of shape (blocks, 8, 16), complex64
        Y of the first step, divided by x of that step.
    m : Tensor of shape (blocks, 8, 16), complex64
        Read-out of Y.
    direct : Tensor of shape (blocks, 8, 16), float32
        Read-out of x.
    threshold : Tensor of shape (blocks, 8, 16), float32
        Outputs c above it count for ``share``, ``longest`` and ``moment``.
    mix : Tensor of shape (blocks, 8, channels), float32
        Weights of the channels in the drive of each row of oscillators.
    direction : Tensor of shape (blocks,), int64
        1 to read a series forwards, -1 to read it backwards in time.
    groups : Tensor of shape (blocks,), int64
        Number of groups in use, 1 to 16. The other slots give no features.
    unit : float
        Duration of the first step, and of every step of a series without time stamps.
    """

    s: Tensor
    start: Tensor
    m: Tensor
    direct: Tensor
    threshold: Tensor
    mix: Tensor
    direction: Tensor
    groups: Tensor
    unit: float

    @property
    def n_features(self) -> int:
        """Return the number of features of each series."""
        return int(self.groups.sum()) * MEMBERS * len(SUMMARIES)


def outputs(x: Tensor, times: Tensor | None, bank: Bank, block: int) -> tuple[Tensor, Tensor]:
    """Return c and the durations of the steps of one series, in the order in which a block reads them.

    Parameters
    ----------
    x : Tensor of shape (T, channels), float64
        One series.
    times : Tensor of shape (T,), float64, optional
        Its time stamps.
    bank : Bank
        Oscillators and read-outs.
    block : int
        Number of the block in the bank.

    Returns
    -------
    c : Tensor of shape (T, 8, 16), float64
        Outputs.
    durations : Tensor of shape (T,), float64
        Duration of each step.
    """
    u = x @ bank.mix[block].double().T
    if bank.direction[block] < 0:
        u, times = u.flip(0), None if times is None else -times.flip(0)
    durations = torch.full((len(u),), bank.unit, dtype=torch.float64)
    if times is not None:
        durations[1:] = times.diff()
    s, m, direct = bank.s[block], bank.m[block].to(torch.complex128), bank.direct[block].double()
    scale = torch.expm1(s * bank.unit)
    Y, c = bank.start[block].to(torch.complex128) * u[0][:, None], []
    c.append(torch.zeros_like(direct))
    for t in range(1, len(u)):
        slope, E = (u[t] - u[t - 1]) / durations[t], torch.expm1(s * durations[t])
        Y = Y + E * Y + E / scale * slope[:, None]  # exp(s dt) Y + g slope
        c.append((m * Y).real + direct * u[t][:, None])
    return torch.stack(c), durations


def summarize_outputs(c: Tensor, durations: Tensor, threshold: Tensor) -> Tensor:
    """Return the seven summaries of c, of shape (7, 8, 16)."""
    elapsed, weights = durations.cumsum(0), durations[:, None, None]
    total = elapsed[-1]
    above = c > threshold
    run, longest = torch.zeros_like(c[0]), torch.zeros_like(c[0])
    for t in range(len(c)):
        run = torch.where(above[t], run + durations[t], 0.0)
        longest = torch.maximum(longest, run)
    greatest, least = c == c.amax(1, keepdim=True), c == c.amin(1, keepdim=True)
    return torch.stack(
        [
            (weights * above).sum(0) / total,
            longest / total,
            (weights * elapsed[:, None, None] * above).sum(0) / total**2,
            ((weights * greatest).sum(0) / total).sqrt(),
            ((weights * least).sum(0) / total).sqrt(),
            (weights * greatest * c).sum(0) / total,
            (weights * least * c).sum(0) / total,
        ]
    )


def summarize(x: Tensor, lengths: Tensor, times: Tensor | None, bank: Bank, threads: int = 1) -> Tensor:
    """Summarise each series; see :func:`sfmts.kernels.summarize_bank`."""
    features = []
    parts = [None] * len(lengths) if times is None else times.cpu().split(lengths.tolist())
    for series, stamps in zip(x.double().cpu().split(lengths.tolist()), parts, strict=True):
        for block, groups in enumerate(bank.groups.tolist()):
            values = summarize_outputs(*outputs(series, stamps, bank, block), bank.threshold[block].double())
            features.append(values[:, :, :groups].flatten())
    return torch.cat(features).view(len(lengths), -1).float().to(x.device)


def trace(x: Tensor, lengths: Tensor, times: Tensor | None, bank: Bank, strides: Tensor, threads: int = 1) -> Tensor:
    """Return c at regular steps of each series; see :func:`sfmts.kernels.trace_bank`."""
    parts = [None] * len(lengths) if times is None else times.cpu().split(lengths.tolist())
    blocks = []
    for block in range(len(bank.s)):
        kept = [
            outputs(series, stamps, bank, block)[0][::stride]
            for series, stamps, stride in zip(
                x.double().cpu().split(lengths.tolist()), parts, strides.tolist(), strict=True
            )
        ]
        blocks.append(torch.cat(kept))
    return torch.stack(blocks).float().to(x.device)
