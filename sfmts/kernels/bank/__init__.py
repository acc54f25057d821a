"""One operation for the fixed memory: series, time stamps and a bank of oscillators in, summaries out.

Three backends have the same signature: ``reference`` holds the equations, ``fused`` works in operations of PyTorch on
any device, ``native`` is compiled for the processor.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sfmts.kernels.bank import fused, native, reference
from sfmts.kernels.bank.reference import LANES, MEMBERS, SUMMARIES, Bank
from sfmts.kernels.dispatch import choose_kernel

__all__ = ["LANES", "MEMBERS", "SUMMARIES", "Bank", "resolve_bank", "summarize_bank", "trace_bank"]

_SUMMARIZE: dict[str, Callable[..., Tensor]] = {
    "reference": reference.summarize,
    "fused": fused.summarize,
    "native": native.summarize,
}
_TRACE: dict[str, Callable[..., Tensor]] = {
    "reference": reference.trace,
    "fused": fused.trace,
    "native": native.trace,
}


def resolve_bank(backend: str, device: torch.device) -> str:
    """Return the name of the kernel that ``backend`` stands for in :func:`summarize_bank`.

    Parameters
    ----------
    backend : {"auto", "reference", "fused", "native"}
        "auto" is "native" on the CPU, or "fused" if the compiled kernel is missing, which is logged once with the
        reason; and "fused" on any other device.
    device : torch.device

    Raises
    ------
    ValueError
        If there is no such kernel.
    RuntimeError
        If the named kernel is not available.

    Examples
    --------
    >>> import torch
    >>> from sfmts.kernels import resolve_bank
    >>> resolve_bank("fused", torch.device("cpu"))
    'fused'
    """

    def unavailable(name: str) -> str | None:
        if name != "native":
            return None
        if device.type != "cpu":
            return f"the compiled kernel runs on the CPU, and the tensors are on {device}"
        return native.missing()

    return choose_kernel(backend, _SUMMARIZE, device.type, unavailable)


def summarize_bank(
    x: Tensor, lengths: Tensor, times: Tensor | None, bank: Bank, *, backend: str = "auto", threads: int | None = None
) -> Tensor:
    """Drive a bank of damped oscillators by series and summarise how each swings; no gradients.

    :mod:`sfmts.kernels.bank.reference` has the equations.

    Parameters
    ----------
    x : Tensor of shape (sum of lengths, channels), float32
        All series, one after another.
    lengths : Tensor of shape (n,), int64, on the CPU
        Positive.
    times : Tensor of shape (sum of lengths,), float64, optional
        Time stamps, increasing within each series; without them every step lasts ``bank.unit``.
    bank : Bank
    backend : {"auto", "reference", "fused", "native"}, default="auto"
        See :func:`resolve_bank`.
    threads : int, optional
        Threads of the compiled kernel, which do not change the result; as many as PyTorch uses by default.

    Returns
    -------
    features : Tensor of shape (n, bank.n_features), float32
        Block by block: summaries in the order of ``SUMMARIES``, then members, then groups.

    Raises
    ------
    ValueError, TypeError
        If the arguments do not fit together.
    RuntimeError
        If the named backend is not available.
    """
    _check(x, lengths, times, bank)
    kernel = _SUMMARIZE[resolve_bank(backend, x.device)]
    with torch.no_grad():
        return kernel(x, lengths, times, bank, threads or torch.get_num_threads())


def trace_bank(
    x: Tensor,
    lengths: Tensor,
    times: Tensor | None,
    bank: Bank,
    strides: Tensor,
    *,
    backend: str = "auto",
    threads: int | None = None,
) -> Tensor:
    """Return the outputs c of all oscillators at every so many steps of each series.

    Parameters
    ----------
    x, lengths, times, bank, backend, threads
        As in :func:`summarize_bank`.
    strides : Tensor of shape (n,), int64
        Of series i, steps 0, strides[i], 2 strides[i], ... are kept, counted in the direction in which a block reads.

    Returns
    -------
    c : Tensor of shape (blocks, kept steps of all series, 8, 16), float32
    """
    _check(x, lengths, times, bank)
    if (
        strides.device.type != "cpu"
        or strides.shape != lengths.shape
        or strides.dtype != torch.int64
        or bool((strides < 1).any())
    ):
        raise ValueError("strides must be one positive whole number for each series, on the CPU.")
    kernel = _TRACE[resolve_bank(backend, x.device)]
    with torch.no_grad():
        return kernel(x, lengths, times, bank, strides, threads or torch.get_num_threads())


def _check(x: Tensor, lengths: Tensor, times: Tensor | None, bank: Bank) -> None:
    """Raise ValueError or TypeError if arguments do not fit: a kernel would read memory that is not its own."""
    blocks = len(bank.s)
    slots = (blocks, MEMBERS, LANES)
    expected = {
        "x": (x, (x.shape[0], bank.mix.shape[-1]), torch.float32),
        "lengths": (lengths, (len(lengths),), torch.int64),
        "bank.s": (bank.s, slots, torch.complex128),
        "bank.start": (bank.start, slots, torch.complex64),
        "bank.m": (bank.m, slots, torch.complex64),
        "bank.direct": (bank.direct, slots, torch.float32),
        "bank.threshold": (bank.threshold, slots, torch.float32),
        "bank.mix": (bank.mix, (blocks, MEMBERS, bank.mix.shape[-1]), torch.float32),
        "bank.direction": (bank.direction, (blocks,), torch.int64),
        "bank.groups": (bank.groups, (blocks,), torch.int64),
    }
    if times is not None:
        expected["times"] = (times, (x.shape[0],), torch.float64)
    for name, (tensor, shape, dtype) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, but {shape} is needed with the other arguments.")
        if tensor.dtype != dtype:
            raise TypeError(f"{name} is {tensor.dtype}, but must be {dtype}.")
        if tensor.device.type != ("cpu" if name == "lengths" or name.startswith("bank") else x.device.type):
            raise ValueError(f"{name} is on {tensor.device}: lengths and the bank belong on the CPU, times with x.")
    if len(lengths) == 0 or bool((lengths < 1).any()) or int(lengths.sum()) != x.shape[0]:
        raise ValueError(f"lengths must be positive and sum to the {x.shape[0]} rows of x.")
    if blocks == 0 or bool(((bank.groups < 1) | (bank.groups > LANES)).any()):
        raise ValueError(f"bank.groups must lie between 1 and {LANES}.")
    if not 0 < bank.unit < math.inf:
        raise ValueError(f"bank.unit must be positive and finite, but is {bank.unit}.")
