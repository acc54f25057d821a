"""One operation for the fixed memory: series, time stamps and a bank of oscillators in, summaries out.

Three backends have the same signature: ``reference`` holds the equations, ``fused`` works in operations of PyTorch on
any device, ``native`` is compiled for the processor.
"""

import math
from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import Tensor

from sfmts.kernels._checks import check_tensor
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
        All series, one after another; finite.
    lengths : Tensor of shape (n,), int64, on the CPU
        Positive.
    times : Tensor of shape (sum of lengths,), float64, optional
        Time stamps, finite and increasing within each series; without them every step lasts ``bank.unit``.
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
    _check(x, lengths, times, bank, threads)
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
    _check(x, lengths, times, bank, threads)
    check_tensor("strides", strides)
    if (
        strides.device.type != "cpu"
        or strides.shape != lengths.shape
        or strides.dtype != torch.int64
        or bool((strides < 1).any())
    ):
        raise ValueError("strides must be one positive whole number for each series, on the CPU.")
    strides = torch.minimum(strides, lengths)  # keeps the same steps, and no sum overflows
    kernel = _TRACE[resolve_bank(backend, x.device)]
    with torch.no_grad():
        return kernel(x, lengths, times, bank, strides, threads or torch.get_num_threads())


def _check(x: Tensor, lengths: Tensor, times: Tensor | None, bank: Bank, threads: int | None) -> None:
    """Raise ValueError or TypeError if arguments do not fit together."""
    check_tensor("x", x)
    _check_bank(bank)
    channels = bank.mix.shape[-1]
    if x.shape != (len(x) if x.ndim else 0, channels):
        raise ValueError(f"x has shape {tuple(x.shape)}, but (rows, {channels}) is needed with bank.mix.")
    _check_type("x", x, torch.float32)
    check_tensor("lengths", lengths)
    if lengths.ndim != 1:
        raise ValueError(f"lengths has shape {tuple(lengths.shape)}, but (series,) is needed.")
    _check_type("lengths", lengths, torch.int64)
    _check_on_cpu("lengths", lengths)
    rows = x.shape[0]
    if times is not None:
        check_tensor("times", times)
        if times.shape != (rows,):
            raise ValueError(f"times has shape {tuple(times.shape)}, but {(rows,)} is needed, one for each row of x.")
        _check_type("times", times, torch.float64)
        check_tensor("times", times, x, "x is")
    # No length is greater than all rows, so that the sum does not overflow.
    too_many = len(lengths) > rows or bool((lengths > rows).any())
    if len(lengths) == 0 or bool((lengths < 1).any()) or too_many or int(lengths.sum()) != rows:
        raise ValueError(f"lengths must be positive and sum to the {rows} rows of x.")
    if times is not None:
        _check_finite("times", times)
        is_later = times.diff() > 0
        is_later[lengths.cumsum(0)[:-1].to(times.device) - 1] = True  # a series may begin at any time
        if not bool(is_later.all()):
            raise ValueError("times must increase within each series.")
    # Comparisons with NaN would depend on their order, which differs between kernels.
    _check_finite("x", x)
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, Integral)):
        raise TypeError(f"threads is {threads!r}, but must be a whole number or None.")
    if threads is not None and threads < 0:
        raise ValueError(f"threads is {threads}, but must not be negative.")


def _check_bank(bank: Bank) -> None:
    if not isinstance(bank, Bank):
        raise TypeError(f"bank is of type {type(bank).__name__}, but must be a Bank.")
    for name, value in zip(bank._fields[:-1], bank[:-1], strict=True):
        _check_on_cpu(f"bank.{name}", check_tensor(f"bank.{name}", value))
    blocks = bank.s.shape[0] if bank.s.ndim else 0
    channels = bank.mix.shape[-1] if bank.mix.ndim else 0
    slots = (blocks, MEMBERS, LANES)
    expected = {
        "s": (slots, torch.complex128),
        "start": (slots, torch.complex64),
        "m": (slots, torch.complex64),
        "direct": (slots, torch.float32),
        "threshold": (slots, torch.float32),
        "mix": ((blocks, MEMBERS, channels), torch.float32),
        "direction": ((blocks,), torch.int64),
        "groups": ((blocks,), torch.int64),
    }
    for name, (shape, dtype) in expected.items():
        tensor: Tensor = getattr(bank, name)
        if tensor.shape != shape:
            raise ValueError(
                f"bank.{name} has shape {tuple(tensor.shape)}, but {shape} is needed with the other arguments."
            )
        _check_type(f"bank.{name}", tensor, dtype)
        if name != "threshold":  # which may be infinite
            _check_finite(f"bank.{name}", tensor)
    if channels == 0:
        raise ValueError(f"bank.mix has shape {tuple(bank.mix.shape)}, but must have at least one channel.")
    if bool((bank.s.real >= 0).any()):
        raise ValueError("bank.s must have negative real parts, so that all oscillations decay.")
    if blocks == 0 or bool(((bank.groups < 1) | (bank.groups > LANES)).any()):
        raise ValueError(f"bank.groups must lie between 1 and {LANES}.")
    if bool((bank.direction.abs() != 1).any()):
        raise ValueError(f"bank.direction must be 1 or -1, but is {bank.direction.tolist()}.")
    if isinstance(bank.unit, bool) or not isinstance(bank.unit, Real):
        raise TypeError(f"bank.unit is of type {type(bank.unit).__name__}, but must be a number.")
    if not 0 < bank.unit < math.inf:
        raise ValueError(f"bank.unit must be positive and finite, but is {bank.unit}.")


def _check_finite(name: str, value: Tensor) -> None:
    if not bool(torch.isfinite(value.sum())) and not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} has values that are not finite; replace or remove them.")


def _check_type(name: str, value: Tensor, dtype: torch.dtype) -> None:
    if value.dtype != dtype:
        raise TypeError(f"{name} is {value.dtype}, but must be {dtype}.")


def _check_on_cpu(name: str, value: Tensor) -> None:
    if value.device.type != "cpu":
        raise ValueError(f"{name} is on {value.device}: lengths and the bank belong on the CPU, times with x.")
