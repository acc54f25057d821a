"""Solve linear recurrences S_t = f_t S_{t-1} + x_t along the first axis.

On the CPU a loop over the steps is fastest. On other devices starting an operation costs more than the operation, so
that a few passes over all steps at once win.
"""

import torch
from torch import Tensor


def in_parallel(x: Tensor) -> bool:
    """Return whether a parallel scan is faster than a loop on the device of ``x``."""
    return x.device.type != "cpu"


def accumulate(factors: Tensor, x: Tensor) -> Tensor:
    """Return S_t = factors_t S_{t-1} + x_t for all t, with S_0 = x_0; this may overwrite x."""
    if in_parallel(x):
        return _scan(factors, x)
    for t in range(1, len(x)):
        x[t].addcmul_(factors[t], x[t - 1])
    return x


def accumulate_back(factors: Tensor, x: Tensor) -> Tensor:
    """Return G_t = x_t + factors_{t+1} G_{t+1} for all t, with G_T = x_T; this may overwrite x."""
    if in_parallel(x):
        return _scan(torch.cat((factors[:1], factors[1:].flip(0))), x.flip(0)).flip(0)
    for t in range(len(x) - 2, -1, -1):
        x[t].addcmul_(factors[t + 1], x[t + 1])
    return x


def _scan(factors: Tensor, x: Tensor) -> Tensor:
    """Return S_t = factors_t S_{t-1} + x_t in log2(T) passes.

    Two steps make one, S_{t+1} = f_{t+1} f_t S_{t-1} + (f_{t+1} x_t + x_{t+1}), until one is left. Products of factors
    may underflow, which is harmless because nothing is divided by them.
    """
    if len(x) == 1:
        return x
    even, odd = slice(0, len(x) - 1, 2), slice(1, None, 2)
    S = torch.empty_like(factors)
    S[odd] = _scan(factors[odd] * factors[even], torch.addcmul(x[odd], factors[odd], x[even]))
    S[0] = x[0]
    S[2::2] = torch.addcmul(x[2::2], factors[2::2], S[1:-1:2])
    return S
