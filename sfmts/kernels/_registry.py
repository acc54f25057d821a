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
    """Kernels of one operation, and the reasons why some of them may be unavailable, by name of the backend."""

    kernels: dict[str, Callable[..., Any]]
    unavailable: Mapping[str, Callable[..., str | None]]

    def choose(self, backend: str, device: torch.device, *context: Any) -> str:
        """Return the name of the kernel that ``backend`` stands for.

        Parameters
        ----------
        backend : str
            "auto" or the name of a kernel.
        device : torch.device
            The device of the tensors.
        *context
            Passed to the functions in ``unavailable``, which return a reason or None.

        Raises
        ------
        ValueError
            If the backend is unknown.
        RuntimeError
            If a named backend is unavailable. "auto" falls back to "fused" instead, and the reason is logged once.
        """
        check_choice("backend", backend, (AUTO, *self.kernels))
        name = self._fastest(device) if backend == AUTO else backend
        reason = self.unavailable[name](*context) if name in self.unavailable else None
        if reason is None:
            return name
        if backend != AUTO:
            raise RuntimeError(
                f"backend={backend!r} is unavailable here: {reason}. Use backend={AUTO!r} or {FALLBACK!r}."
            )
        _warn_once(f"{reason}; falling back to backend={FALLBACK!r}, which is several times slower")
        return FALLBACK

    def _fastest(self, device: torch.device) -> str:
        """Return the kernel that "auto" prefers on a device."""
        if "cuda" in self.kernels and _gpu.is_nvidia(device):
            return "cuda"
        return "native" if device.type == "cpu" else FALLBACK


OPERATIONS: dict[str, Operation] = {}


def register(
    name: str, kernels: dict[str, Callable[..., Any]], unavailable: Mapping[str, Callable[..., str | None]]
) -> Operation:
    """Add an operation to the registry and return it."""
    OPERATIONS[name] = Operation(kernels, unavailable)
    return OPERATIONS[name]


def backend_here(backend: str, device: torch.device, training: bool) -> str:
    """Return the backend to use on ``device`` for a network that was created with ``backend``.

    A network in evaluation mode that was created for a GPU and moved to another device uses "auto" there.
    """
    if backend != "cuda" or _gpu.is_nvidia(device) or training:
        return backend
    _warn_once(f"backend='cuda' is unavailable on {device.type}; falling back to backend={AUTO!r}")
    return AUTO


@cache
def _warn_once(message: str) -> None:
    _logger.warning(message)
