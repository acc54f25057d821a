"""Run the recurrence of the State-Frequency Memory (SFM) with one of several backends."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from sfmts._choices import check_choice, check_flag
from sfmts.kernels import _compiled
from sfmts.kernels._checks import check_batch_sizes, check_detached, check_sizes, check_tensor
from sfmts.kernels._registry import AUTO, register
from sfmts.kernels._sfm import cuda, fused, native, recompute, reference, verdict
from sfmts.kernels._sfm.gpu.layout import is_slower_than_fused
from sfmts.kernels._sfm.reference import SFMState, SFMWeights


def _native_unavailable(weights: SFMWeights | None, _: int, __: bool) -> str | None:
    return _compiled.missing() if weights is None else native.unavailable(weights.V, weights)


def _cuda_unavailable(weights: SFMWeights | None, sequences: int, accumulated: bool) -> str | None:
    if weights is None:
        return None
    return cuda.unavailable(weights.V, weights) or verdict.verdict(weights, sequences, accumulated)


def _cuda_slow(weights: SFMWeights | None, sequences: int, accumulated: bool) -> str | None:
    if weights is None:
        return None
    if is_slower_than_fused(cuda.sizes_of(weights, accumulated), sequences, cuda.device_of(weights.V)):
        return "D, K and M are so large that the CUDA kernel would be slower"
    return None


_OPERATION = register(
    "sfm",
    kernels={"reference": reference.sfm, "fused": fused.sfm, "native": native.sfm, "cuda": cuda.sfm},
    unavailable={"native": _native_unavailable, "cuda": _cuda_unavailable},
    slow={"cuda": _cuda_slow},
)
BACKENDS = (AUTO, *_OPERATION.kernels)
MEMORIES = ("fast", "recompute")


def resolve_backend(
    backend: str, weights: SFMWeights | None = None, sequences: int = 1, accumulated: bool = False
) -> str:
    """Return the name of the kernel that ``backend`` stands for in :func:`sfm`.

    Parameters
    ----------
    backend : {"auto", "reference", "fused", "native", "cuda"}
        "auto" is "native", the compiled kernel, on the CPU, "cuda" on an NVIDIA GPU unless the layer is so large that
        "fused" is faster, and "fused" on any other device. It falls back to "fused" if that kernel is unavailable, and
        logs the reason once. "cuda" is compiled for the
        sizes of the layer and compared with "fused" on made-up series before its first use. The environment variable
        ``SFMTS_CUDA_KERNEL=off`` makes it unavailable.
    weights : SFMWeights, optional
        Their device, type and sizes decide which kernels are available. Defaults to float32 on the CPU.
    sequences : int, default=1
        Number of sequences of the batch. "cuda" is compiled for 1, 2, 4 or 8 sequences per multiprocessor.
    accumulated : bool, default=False
        As in :func:`sfm`.

    Returns
    -------
    name : {"reference", "fused", "native", "cuda"}
        The kernel to use.

    Raises
    ------
    ValueError
        If the backend is unknown.
    RuntimeError
        If a named backend is unavailable.

    Examples
    --------
    >>> from sfmts.kernels import resolve_backend
    >>> resolve_backend("fused")
    'fused'
    """
    device = torch.device("cpu") if weights is None else weights.V.device
    return _OPERATION.choose(backend, device, weights, sequences, accumulated)


def sfm(
    x: Tensor,
    batch_sizes: Sequence[int],
    t: Tensor,
    weights: SFMWeights,
    state: SFMState,
    *,
    backend: str = "auto",
    memory: str = "fast",
    accumulated: bool = False,
    feedback_mask: Tensor | None = None,
    amplitudes: list[Tensor] | None = None,
) -> tuple[Tensor, SFMState]:
    """Run one SFM or A-SFM layer over a packed batch.

    The kernel computes in the type of the weights, also under autocast. Shapes: B sequences, P = sum(batch_sizes)
    rows, N inputs, D states, K frequencies, M outputs.

    Parameters
    ----------
    x : Tensor of shape (P, N)
        Packed input.
    batch_sizes : sequence of T non-increasing int
        Number of running sequences at each step.
    t : Tensor of shape (P,), float64
        Time of each row.
    weights : SFMWeights
        Weights of the layer.
    state : SFMState
        State before the first step, in sorted order.
    backend : {"auto", "reference", "fused", "native", "cuda"}, default="auto"
        The kernel; see :func:`resolve_backend`.
    memory : {"fast", "recompute"}, default="fast"
        "recompute" keeps less for the backward pass, about as much as sqrt(T) steps need, and takes one more forward
        pass.
    accumulated : bool, default=False
        Whether the phase of an adaptive layer is the running sum of omega_t * (t - t_previous) instead of omega_t * t.
    feedback_mask : Tensor of shape (B, M), optional
        Multiplies z_{t-1} wherever a gate reads it (recurrent dropout, one mask per sequence).
    amplitudes : list, optional
        Receives A_t, of shape (batch_sizes[t], D, K), at every step.

    Returns
    -------
    z : Tensor of shape (P, M)
        Packed output (Eq. 13).
    state : SFMState
        Each sequence's state after its own last step.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid.
    RuntimeError
        If a named backend is unavailable.

    Notes
    -----
    One step computes, with f_ste, f_fre and g = sigmoid(...), i = tanh(...) of V x_t + W z_{t-1} + b::

        S_t = (f_ste f_fre^T) S_{t-1} + (g i) e^{j omega t}                 Eqs. 1-3 and 6-10
        A_t = |S_t|                                                         Eq. 4
        o_k = sigmoid(U_o[k] A_k + V_o[k] x_t + W_o[k] z_{t-1} + b_o[k])    Eq. 12
        z_t = sum_k o_k tanh(W_z[k] A_k + b_z[k])                           Eqs. 11 and 13

    Backends other than "reference" have first derivatives only. Time stamps get no gradient.
    """
    check_choice("memory", memory, MEMORIES)
    sizes = _check(x, batch_sizes, t, weights, state, feedback_mask)
    if amplitudes is not None and not isinstance(amplitudes, list):
        raise TypeError(f"amplitudes is of type {type(amplitudes).__name__}, but must be a list or None.")
    kernel = partial(_run, backend)
    accumulated = check_flag("accumulated", accumulated)
    if memory == "recompute" and torch.is_grad_enabled():
        kernel = partial(recompute.sfm, kernel)
    with torch.autocast(x.device.type, enabled=False):
        return kernel(
            x.to(weights.V.dtype),
            sizes,
            t,
            weights,
            state,
            accumulated=accumulated and weights.omega is None,
            feedback_mask=None if feedback_mask is None else feedback_mask.to(weights.V.dtype, copy=True),
            amplitudes=amplitudes,
        )


def _run(
    backend: str,
    x: Tensor,
    batch_sizes: Sequence[int],
    t: Tensor,
    weights: SFMWeights,
    state: SFMState,
    *,
    accumulated: bool,
    feedback_mask: Tensor | None,
    amplitudes: list[Tensor] | None,
) -> tuple[Tensor, SFMState]:
    """Run the kernel that ``backend`` stands for with this batch."""
    kernel = _OPERATION.kernels[resolve_backend(backend, weights, batch_sizes[0], accumulated)]
    options = {"accumulated": accumulated, "feedback_mask": feedback_mask, "amplitudes": amplitudes}
    return kernel(x, batch_sizes, t, weights, state, **options)


def _check(
    x: Tensor, batch_sizes: Sequence[int], t: Tensor, weights: SFMWeights, state: SFMState, mask: Tensor | None
) -> list[int]:
    """Return batch_sizes as a list; raise TypeError or ValueError if the arguments are inconsistent."""
    if not isinstance(weights, SFMWeights):
        raise TypeError(f"weights is of type {type(weights).__name__}, but must be an SFMWeights.")
    if not isinstance(state, SFMState):
        raise TypeError(f"state is of type {type(state).__name__}, but must be an SFMState.")
    sizes = check_batch_sizes(batch_sizes)
    V = check_tensor("weights.V", weights.V)
    check_sizes("weights.V", V.shape, "(R, N)", 2)
    check_sizes("weights.W_z", check_tensor("weights.W_z", weights.W_z, V, "the weights are").shape, "(K, M, D)", 3)
    D, K, M = weights.sizes
    B, P, R, N = sizes[0], sum(sizes), sum(weights.gate_sizes), V.shape[1]
    dtype = V.dtype
    if not dtype.is_floating_point:
        raise TypeError(f"weights.V is {dtype}, but must be of a floating-point type.")
    real = torch.promote_types(dtype, torch.float32)  # of the state if weights have half precision
    double = (torch.float64,)
    needed: dict[str, tuple[Tensor, tuple[int, ...], tuple[torch.dtype, ...]]] = {
        "x": (x, (P, N), ()),
        "t": (t, (P,), double),
        "weights.V": (V, (R, N), (dtype,)),
        "weights.W": (weights.W, (R, M), (dtype,)),
        "weights.b": (weights.b, (R,), (dtype,)),
        "weights.U_o": (weights.U_o, (K, M, D), (dtype,)),
        "weights.W_z": (weights.W_z, (K, M, D), (dtype,)),
        "weights.b_z": (weights.b_z, (K, M), (dtype,)),
        "state.re": (state.re, (B, D, K), (dtype, real)),
        "state.im": (state.im, (B, D, K), (dtype, real)),
        "state.z": (state.z, (B, M), (dtype, real)),
        "state.t": (state.t, (B,), double),
        "state.theta": (state.theta, (B, K), double),
    }
    if weights.omega is not None:
        needed["weights.omega"] = (weights.omega, (K,), double)
    if mask is not None:
        needed["feedback_mask"] = (mask, (B, M), ())
    for name, (value, shape, dtypes) in needed.items():
        if isinstance(value, Tensor) and not value.is_nested and value.shape != shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, but {shape} is needed with the other arguments.")
        check_tensor(name, value, V, "the weights are")
        if dtypes and value.dtype not in dtypes:
            raise TypeError(f"{name} is {value.dtype}, but must be {dtypes[0]} with weights of {dtype}.")
        if value.is_complex():
            raise TypeError(f"{name} is {value.dtype}, but must be real.")
    check_detached("t", t)
    check_detached("state.t", state.t)
    check_detached("feedback_mask", mask)
    return sizes
