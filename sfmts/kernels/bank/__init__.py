"""One operation for the fixed memory: series, time stamps and a bank of oscillators in, summaries out.

Three backends have the same signature: ``reference`` holds the equations, ``fused`` works in operations of PyTorch on
any device, ``native`` is compiled for the processor.
"""

from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor

from sfmts._precision import own_precision
from sfmts.kernels._checks import check_tensor
from sfmts.kernels.bank import fused, native, reference
from sfmts.kernels.bank.checks import check_bank, check_finite, check_on_cpu, check_type
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


@own_precision()
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


@own_precision()
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
    check_bank(bank)
    channels = bank.mix.shape[-1]
    if x.shape != (len(x) if x.ndim else 0, channels):
        raise ValueError(f"x has shape {tuple(x.shape)}, but (rows, {channels}) is needed with bank.mix.")
    check_type("x", x, torch.float32)
    check_tensor("lengths", lengths)
    if lengths.ndim != 1:
        raise ValueError(f"lengths has shape {tuple(lengths.shape)}, but (series,) is needed.")
    check_type("lengths", lengths, torch.int64)
    check_on_cpu("lengths", lengths)
    rows = x.shape[0]
    if times is not None:
        check_tensor("times", times)
        if times.shape != (rows,):
            raise ValueError(f"times has shape {tuple(times.shape)}, but {(rows,)} is needed, one for each row of x.")
        check_type("times", times, torch.float64)
        check_tensor("times", times, x, "x is")
    # No length is greater than all rows, so that the sum does not overflow.
    too_many = len(lengths) > rows or bool((lengths > rows).any())
    if len(lengths) == 0 or bool((lengths < 1).any()) or too_many or int(lengths.sum()) != rows:
        raise ValueError(f"lengths must be positive and sum to the {rows} rows of x.")
    if times is not None:
        check_finite("times", times)
        is_later = times.diff() > 0
        is_later[lengths.cumsum(0)[:-1].to(times.device) - 1] = True  # a series may begin at any time
        if not bool(is_later.all()):
            raise ValueError("times must increase within each series.")
    # Comparisons with NaN would depend on their order, which differs between kernels.
    check_finite("x", x)
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, Integral)):
        raise TypeError(f"threads is {threads!r}, but must be a whole number or None.")
    if threads is not None and threads < 0:
        raise ValueError(f"threads is {threads}, but must not be negative.")
