"""Register the backends of all operations, and choose one of them by name.

An operation is a function on tensors, such as the SFM recurrence. Each has a ``reference`` kernel, which states the
equations, and faster kernels with the same signature and, within rounding, the same results.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from sfmts._choices import check_choice
from sfmts.kernels import _gpu

AUTO, FALLBACK = "auto", "fused"

_logger = logging.getLogger("sfmts")


@dataclass(frozen=True)
class Operation:
    """Kernels of one operation, and by name of the backend the reasons why some may be unavailable, or too slow."""

    kernels: dict[str, Callable[..., Any]]
    unavailable: Mapping[str, Callable[..., str | None]]
    slow: Mapping[str, Callable[..., str | None]]

    def choose(self, backend: str, device: torch.device, *context: Any) -> str:
        """Return the name of the kernel that ``backend`` stands for.

        Parameters
        ----------
        backend : str
            "auto" or the name of a kernel.
        device : torch.device
            The device of the tensors.
        *context
            Passed to the functions in ``unavailable`` and ``slow``, which return a reason or None.

        Raises
        ------
        ValueError
            If the backend is unknown.
        RuntimeError
            If a named backend is unavailable. "auto" falls back to "fused" instead, and the reason is logged once.
        """
        check_choice("backend", backend, (AUTO, *self.kernels))
        name = self._fastest(device, *context) if backend == AUTO else backend
        reason = self.unavailable[name](*context) if name in self.unavailable else None
        if reason is None:
            return name
        if backend != AUTO:
            raise RuntimeError(
                f"backend={backend!r} is unavailable here: {reason}. Use backend={AUTO!r} or {FALLBACK!r}."
            )
        _log_once(logging.WARNING, f"{reason}; falling back to backend={FALLBACK!r}, which is several times slower")
        return FALLBACK

    def _fastest(self, device: torch.device, *context: Any) -> str:
        """Return the kernel that "auto" prefers on a device, whether it is available or not."""
        if "cuda" not in self.kernels or not _gpu.is_nvidia(device):
            return "native" if device.type == "cpu" else FALLBACK
        if (reason := self.slow["cuda"](*context)) is None:
            return "cuda"
        _log_once(logging.INFO, f"{reason}; using backend={FALLBACK!r}")
        return FALLBACK


OPERATIONS: dict[str, Operation] = {}


def register(
    name: str,
    kernels: dict[str, Callable[..., Any]],
    unavailable: Mapping[str, Callable[..., str | None]],
    slow: Mapping[str, Callable[..., str | None]] | None = None,
) -> Operation:
    """Add an operation to the registry and return it."""
    OPERATIONS[name] = Operation(kernels, unavailable, slow or {})
    return OPERATIONS[name]


def backend_here(backend: str, device: torch.device, training: bool) -> str:
    """Return the backend to use on ``device`` for a network that was created with ``backend``.

    A network in evaluation mode that was created for a GPU and moved to another device uses "auto" there.
    """
    if backend != "cuda" or _gpu.is_nvidia(device) or training:
        return backend
    _log_once(logging.WARNING, f"backend='cuda' is unavailable on {device.type}; falling back to backend={AUTO!r}")
    return AUTO


@cache
def _log_once(level: int, message: str) -> None:
    _logger.log(level, message)
