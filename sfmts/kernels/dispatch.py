"""The one door to the kernels."""

import logging
from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from sfmts._choices import check_choice
from sfmts.kernels import cuda, fused, native, recompute, reference
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
_FASTEST = {"cpu": "native", "cuda": "cuda"}  # by type of device

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
        "auto" is the fastest kernel that serves: "native" on the CPU, "cuda" on an NVIDIA GPU, or "fused" where that
        one cannot serve, which is logged once with the reason.
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
    check_choice("backend", backend, BACKENDS)
    if weights is None:
        reason = native.missing() if backend in ("auto", "native") else None
        name = "native" if backend == "auto" else backend
    else:
        name = _FASTEST.get(weights.V.device.type, "fused") if backend == "auto" else backend
        reason = _UNAVAILABLE[name](weights.V, weights) if name in _UNAVAILABLE else None
    if reason is None:
        return name
    if backend != "auto":
        raise RuntimeError(f"backend={backend!r} cannot serve here: {reason}; take backend='auto' or 'fused'.")
    _tell(reason)
    return "fused"


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
    if t.requires_grad:
        raise ValueError("There is no gradient for time stamps; give them detached.")
    kernel = _KERNELS[resolve_backend(backend, weights)]
    if memory == "recompute" and torch.is_grad_enabled():
        kernel = partial(recompute.sfm, kernel)
    with torch.autocast(x.device.type, enabled=False):
        return kernel(
            x.to(weights.V.dtype),
            batch_sizes,
            t,
            weights,
            state,
            accumulated=accumulated,
            feedback_mask=feedback_mask,
            amplitudes=amplitudes,
        )
