"""Drive the fixed memory, a bank of damped oscillators, by series, and summarise how each oscillator swings.

``reference.py`` has the equations.
"""

from numbers import Integral

import torch
from torch import Tensor

from sfmts._precision import own_precision
from sfmts.kernels import _compiled
from sfmts.kernels._bank import fused, native, reference
from sfmts.kernels._bank.checks import check_bank, check_finite, check_on_cpu, check_type
from sfmts.kernels._bank.reference import LANES, MEMBERS, SUMMARIES, Bank
from sfmts.kernels._checks import check_tensor
from sfmts.kernels._registry import register

__all__ = ["LANES", "MEMBERS", "SUMMARIES", "Bank", "resolve_bank", "summarize_bank", "trace_bank"]


def _native_unavailable(device: torch.device) -> str | None:
    return _compiled.unavailable(device, "summarize_bank")


_SUMMARIZE = register(
    "summarize_bank",
    kernels={"reference": reference.summarize, "fused": fused.summarize, "native": native.summarize},
    unavailable={"native": _native_unavailable},
)
_TRACE = register(
    "trace_bank",
    kernels={"reference": reference.trace, "fused": fused.trace, "native": native.trace},
    unavailable={"native": _native_unavailable},
)


def resolve_bank(backend: str, device: torch.device) -> str:
    """Return the name of the kernel that ``backend`` stands for in :func:`summarize_bank` and :func:`trace_bank`.

    Parameters
    ----------
    backend : {"auto", "reference", "fused", "native"}
        "auto" is "native", the compiled kernel, on the CPU and "fused" on any other device. It falls back to "fused"
        if the compiled kernel is unavailable, and logs the reason once.
    device : torch.device
        The device of the series.

    Returns
    -------
    name : {"reference", "fused", "native"}
        The kernel to use.

    Raises
    ------
    ValueError
        If the backend is unknown.
    RuntimeError
        If a named backend is unavailable.

    Examples
    --------
    >>> import torch
    >>> from sfmts.kernels import resolve_bank
    >>> resolve_bank("fused", torch.device("cpu"))
    'fused'
    """
    return _SUMMARIZE.choose(backend, device, device)


@own_precision()
def summarize_bank(
    x: Tensor, lengths: Tensor, times: Tensor | None, bank: Bank, *, backend: str = "auto", threads: int | None = None
) -> Tensor:
    """Drive a bank of damped oscillators by series, and summarise how each oscillator swings.

    The result has no gradient.

    Parameters
    ----------
    x : Tensor of shape (sum of lengths, channels), float32
        All series, one after another. All values must be finite.
    lengths : Tensor of shape (n,), int64, on the CPU
        Length of each series, at least 1.
    times : Tensor of shape (sum of lengths,), float64, or None
        Time stamps, finite and increasing within each series. None means that every step lasts ``bank.unit``.
    bank : Bank
        Oscillators, read-outs and thresholds.
    backend : {"auto", "reference", "fused", "native"}, default="auto"
        The kernel. "auto" is "native" on the CPU if it is available, otherwise "fused".
    threads : int, optional
        Threads of the compiled kernel; by default as many as PyTorch uses. They do not change the result.

    Returns
    -------
    features : Tensor of shape (n, bank.n_features), float32
        Block by block: summaries in the order of ``SUMMARIES``, then members, then groups.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid.
    RuntimeError
        If a named backend is unavailable.

    Notes
    -----
    An oscillator with pole s = -1 / tau + j omega follows S'(t) = s S(t) + x(t), the state equation of the SFM (Hu &
    Qi, ICML 2017, Eq. 1) in continuous time with constant gates. :doc:`/features_design` derives the update of a step
    and defines the summaries.
    """
    _check(x, lengths, times, bank, threads)
    kernel = _SUMMARIZE.kernels[resolve_bank(backend, x.device)]
    with torch.no_grad():
        features: Tensor = kernel(x, lengths, times, bank, threads or torch.get_num_threads())
    return features


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
    """Return the outputs c of all oscillators at regular steps of each series.

    Parameters
    ----------
    x : Tensor of shape (sum of lengths, channels), float32
        All series, one after another. All values must be finite.
    lengths : Tensor of shape (n,), int64, on the CPU
        Length of each series, at least 1.
    times : Tensor of shape (sum of lengths,), float64, or None
        Time stamps, finite and increasing within each series. None means that every step lasts ``bank.unit``.
    bank : Bank
        Oscillators and read-outs.
    strides : Tensor of shape (n,), int64, on the CPU
        Steps 0, strides[i], 2 strides[i], ... of series i are kept, counted in the direction in which a block reads.
    backend : {"auto", "reference", "fused", "native"}, default="auto"
        The kernel. "auto" is "native" on the CPU if it is available, otherwise "fused".
    threads : int, optional
        Threads of the compiled kernel; by default as many as PyTorch uses.

    Returns
    -------
    c : Tensor of shape (blocks, kept steps of all series, 8, 16), float32
        Outputs of the oscillators.
    """
    _check(x, lengths, times, bank, threads)
    check_tensor("strides", strides)
    if (
        strides.device.type != "cpu"
        or strides.shape != lengths.shape
        or strides.dtype != torch.int64
        or bool((strides < 1).any())
    ):
        raise ValueError("strides must be one positive int64 number for each series, on the CPU.")
    strides = torch.minimum(strides, lengths)  # this keeps the same steps, and no sum can overflow
    kernel = _TRACE.kernels[resolve_bank(backend, x.device)]
    with torch.no_grad():
        c: Tensor = kernel(x, lengths, times, bank, strides, threads or torch.get_num_threads())
    return c


def _check(x: Tensor, lengths: Tensor, times: Tensor | None, bank: Bank, threads: int | None) -> None:
    """Raise a ValueError or TypeError if an argument is invalid."""
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
    # With every length at most the number of rows, the sum cannot overflow.
    too_many = len(lengths) > rows or bool((lengths > rows).any())
    if len(lengths) == 0 or bool((lengths < 1).any()) or too_many or int(lengths.sum()) != rows:
        raise ValueError(f"lengths must be positive and sum to the {rows} rows of x.")
    if times is not None:
        check_finite("times", times)
        is_later = times.diff() > 0
        is_later[lengths.cumsum(0)[:-1].to(times.device) - 1] = True  # a series may begin at any time
        if not bool(is_later.all()):
            raise ValueError("times must increase within each series.")
    # Comparisons with NaN depend on their order, which differs between kernels.
    check_finite("x", x)
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, Integral)):
        raise TypeError(f"threads is {threads!r}, but must be an integer or None.")
    if threads is not None and threads < 0:
        raise ValueError(f"threads is {threads}, but must not be negative.")
