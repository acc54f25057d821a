"""The one door to the kernels."""

from collections.abc import Callable, Sequence

from torch import Tensor

from sfmts._choices import check_choice
from sfmts.kernels import fused, native, reference
from sfmts.kernels.reference import SFMState, SFMWeights

_KERNELS: dict[str, Callable[..., tuple[Tensor, SFMState]]] = {
    "reference": reference.sfm,
    "fused": fused.sfm,
    "native": native.sfm,
}

BACKENDS = ("auto", *_KERNELS)


def resolve_backend(backend: str) -> str:
    """Name the kernel that ``backend`` stands for.

    Parameters
    ----------
    backend : {"auto", "reference", "fused"}
        "auto" is the fastest kernel that serves here.

    Raises
    ------
    ValueError
        If there is no such kernel.

    Examples
    --------
    >>> from sfmts.kernels.dispatch import resolve_backend
    >>> resolve_backend("auto")
    'fused'
    """
    check_choice("backend", backend, BACKENDS)
    return "fused" if backend == "auto" else backend


def sfm(
    x: Tensor,
    batch_sizes: Sequence[int],
    t: Tensor,
    weights: SFMWeights,
    state: SFMState,
    *,
    backend: str = "auto",
    accumulated: bool = False,
    feedback_mask: Tensor | None = None,
    amplitudes: list[Tensor] | None = None,
) -> tuple[Tensor, SFMState]:
    """Run one SFM or A-SFM layer over a packed batch with the kernel named ``backend``.

    For everything else see :func:`sfmts.kernels.reference.sfm`.
    """
    kernel = _KERNELS[resolve_backend(backend)]
    return kernel(
        x,
        batch_sizes,
        t,
        weights,
        state,
        accumulated=accumulated,
        feedback_mask=feedback_mask,
        amplitudes=amplitudes,
    )
