"""The one door to the kernels."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from sfmts._validation import check_choice
from sfmts.kernels import cuda, fused, native, recompute, reference
from sfmts.kernels._checks import check_batch_sizes, check_detached, check_sizes, check_tensor
from sfmts.kernels.reference import SFMState, SFMWeights

_KERNELS: dict[str, Callable[..., tuple[Tensor, SFMState]]] = {
    "reference": reference.sfm,
    "fused": fused.sfm,
    "native": native.sfm,
    "cuda": cuda.sfm,
}
_UNAVAILABLE: dict[str, Callable[[Tensor, SFMWeights], str | None]] = {
    "native": native.unavailable,
    "cuda": cuda.unavailable,
}
# By type of device.  "cuda" must be asked for by name until it has been seen at work on a GPU (benchmarks/gpu.sh).
_FASTEST = {"cpu": "native"}

BACKENDS = ("auto", *_KERNELS)
MEMORIES = ("fast", "recompute")


@cache  # each reason is told once
def _tell(reason: str) -> None:
    logging.getLogger("sfmts").warning("%s; backend='fused' serves instead, several times slower", reason)


def resolve_backend(backend: str, weights: SFMWeights | None = None) -> str:
    """Name the kernel that ``backend`` stands for.

    Parameters
    ----------
    backend : {"auto", "reference", "fused", "native", "cuda"}
        "auto" is "native", the compiled kernel, on the CPU, or "fused" where that one cannot serve, which is logged
        once with the reason; and "fused" on any other device.  "cuda" has been tested as a C++ program only, not on a
        GPU, and must be asked for.
    weights : SFMWeights, optional
        Their device, type and sizes decide what can serve; by default, the CPU and float32.

    Raises
    ------
    ValueError
        If there is no such kernel.
    RuntimeError
        If it is named and cannot serve.

    Examples
    --------
    >>> from sfmts.kernels.dispatch import resolve_backend
    >>> resolve_backend("fused")
    'fused'
    """
    device = "cpu" if weights is None else weights.V.device.type

    def unavailable(name: str) -> str | None:
        if weights is None:
            return native.missing() if name == "native" else None
        return _UNAVAILABLE[name](weights.V, weights) if name in _UNAVAILABLE else None

    return choose_kernel(backend, _KERNELS, device, unavailable)


def choose_kernel(backend: str, kernels: Iterable[str], device: str, unavailable: Callable[[str], str | None]) -> str:
    """Name the one of ``kernels`` that ``backend`` stands for on a type of device.

    ``unavailable`` says why a kernel cannot serve, or None.  "fused" always can.
    """
    check_choice("backend", backend, ("auto", *kernels))
    name = _FASTEST.get(device, "fused") if backend == "auto" else backend
    reason = unavailable(name)
    if reason is None:
        return name
    if backend != "auto":
        raise RuntimeError(f"backend={backend!r} cannot serve here: {reason}; take backend='auto' or 'fused'.")
    _tell(reason)
    return "fused"


def backend_here(backend: str, device: torch.device, training: bool) -> str:
    """The backend that was asked for; a trained network that has left its GPU takes "auto", which is logged once."""
    if backend != "cuda" or device.type == "cuda" or training:
        return backend
    _tell_of_leaving(device.type)
    return "auto"


@cache
def _tell_of_leaving(device: str) -> None:
    logging.getLogger("sfmts").warning("backend='cuda' cannot serve on %s; backend='auto' serves instead", device)


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
    """Run one SFM or A-SFM layer over a packed batch with the kernel named ``backend``.

    The kernel computes in the type of the weights, also under autocast.  ``memory="recompute"`` keeps little for the
    backward, see :mod:`sfmts.kernels.recompute`.  For everything else see :func:`sfmts.kernels.reference.sfm`.
    """
    check_choice("memory", memory, MEMORIES)
    sizes = _check(x, batch_sizes, t, weights, state, feedback_mask)
    if amplitudes is not None and not isinstance(amplitudes, list):
        raise TypeError(f"amplitudes is of type {type(amplitudes).__name__}, but must be a list or None.")
    kernel = _KERNELS[resolve_backend(backend, weights)]
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


def _check(
    x: Tensor, batch_sizes: Sequence[int], t: Tensor, weights: SFMWeights, state: SFMState, mask: Tensor | None
) -> list[int]:
    """Return batch_sizes as a list, and raise an error if arguments do not fit together."""
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
    real = torch.promote_types(dtype, torch.float32)  # of the state beside weights of half precision
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
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, but {shape} is needed beside the other arguments."
            )
        check_tensor(name, value, V, "the weights are")
        if dtypes and value.dtype not in dtypes:
            raise TypeError(f"{name} is {value.dtype}, but must be {dtypes[0]} beside weights of {dtype}.")
        if value.is_complex():
            raise TypeError(f"{name} is {value.dtype}, but must be real.")
    if t.requires_grad:
        raise ValueError("There is no gradient for time stamps; give them detached.")
    check_detached("state.t", state.t)
    check_detached("feedback_mask", mask)
    return sizes
