"""Where estimators compute: names of devices, whether they are available, and when a GPU is worth its start."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from sfmts.kernels import nvidia_gpu

# Starting CUDA, compiling a kernel and trying it takes some ten seconds. One thread of a CPU takes some thirty seconds
# for so many, but the estimate counts all epochs of max_iter, and most fits stop earlier.
_LEAST_MULTIPLICATIONS = 1e12

_logger = logging.getLogger("sfmts")


@dataclass(frozen=True)
class Work:
    """What a fit has to compute, for ``device="auto"``.

    Attributes
    ----------
    multiplications : float
        Estimated number of multiplications of the whole fit.
    obstacle : callable
        Given a GPU, returns why the fit is slow there, or None.
    """

    multiplications: float
    obstacle: Callable[[torch.device], str | None]


def training_work(n_parameters: int, steps: int, obstacle: Callable[[torch.device], str | None]) -> Work:
    """Return the work of training a network on so many steps of series, those of all epochs.

    Each weight is multiplied once in the forward pass and twice in the backward pass.
    """
    return Work(3.0 * n_parameters * steps, obstacle)


def resolve_device(device: str, work: Work) -> torch.device:
    """Return the device with this name; "auto" depends on the work.

    "auto" is an NVIDIA GPU if the work takes long enough to pay for its start and is fast there, otherwise the CPU. The
    reason is logged once. For other arguments and errors see :func:`named_device`.
    """
    return _automatic(work) if device == "auto" else named_device(device)


def named_device(device: str) -> torch.device:
    """Return the device with this name. "cpu" asks nothing about GPUs, so the process can still be forked.

    Raises
    ------
    ValueError
        If PyTorch does not know the name, or the device is not available.
    """
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"Unknown device {device!r}; choose 'auto', 'cpu', 'cuda' or 'cuda:0'.") from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"device={device!r} is not supported; choose 'auto', 'cpu', 'cuda' or 'cuda:0'.")
    if resolved.type == "cuda" and not is_available(resolved):
        raise ValueError(
            f"device={device!r} was requested, but PyTorch sees "
            f"{torch.cuda.device_count() if torch.cuda.is_available() else 0} CUDA devices. Use device='cpu', or "
            "device='auto' to use a GPU only if one is available."
        )
    return resolved


def is_available(device: torch.device) -> bool:
    """Return whether a device is a CUDA device that PyTorch sees."""
    return device.type == "cuda" and torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()


def _automatic(work: Work) -> torch.device:
    """Return the device that "auto" stands for. A short fit asks CUDA nothing."""
    gpu, reason = None, None
    if work.multiplications < _LEAST_MULTIPLICATIONS:
        if torch.version.cuda is not None:
            reason = "the fit is too short to pay for the start of a GPU"
    elif (gpu := nvidia_gpu()) is not None:
        reason = work.obstacle(gpu)
    elif torch.version.hip is not None and torch.cuda.is_available():
        reason = "it has no fast path on AMD GPUs"
    elif torch.backends.mps.is_available():
        reason = "it has no fast path on Apple GPUs"
    if reason is not None:
        _log_once(f"device='auto' uses the CPU: {reason}. Name a device to choose yourself.")
    return torch.device("cpu") if gpu is None or reason is not None else gpu


@cache
def _log_once(message: str) -> None:
    _logger.info(message)
