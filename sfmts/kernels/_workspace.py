"""Reuse working memory between calls of kernels with a hand-written backward pass."""

import math
import threading
from typing import ClassVar

import torch
from torch import Tensor


class Workspace:
    """The working memory of one autograd graph.

    On the CPU, memory comes from a small store and returns to it when the graph is freed: the first access to fresh
    pages costs more than the arithmetic on them. Two graphs never share memory.
    """

    limit = 1 << 29  # most bytes kept in the store
    _store: ClassVar[list[Tensor]] = []
    # Reentrant: the garbage collector may free a graph, and so call __del__, in the thread that holds the lock.
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, like: Tensor, elements: int) -> None:
        self._used = 0
        self._block = self._take(like, elements)

    @classmethod
    def _take(cls, like: Tensor, elements: int) -> Tensor:
        with cls._lock:
            for block in reversed(list(cls._store) if like.device.type == "cpu" else []):
                if block.dtype == like.dtype and elements <= block.numel() <= 2 * elements:
                    cls._store[:] = [other for other in cls._store if other is not block]
                    return block
        with torch.inference_mode(False):  # the next user of the block may need gradients
            return like.new_empty(elements + elements // 8)  # room to spare, so that the next ragged batch fits too

    def empty(self, *shape: int) -> Tensor:
        """Return an uninitialised, unused part of the memory."""
        size = math.prod(shape)
        self._used += size
        return self._block[self._used - size : self._used].view(shape)

    def clear(self) -> None:
        """Mark all of the memory as unused."""
        self._used = 0

    def __del__(self) -> None:
        if self._block.device.type != "cpu":
            return
        with self._lock:
            self._store.append(self._block)
            while sum(block.nbytes for block in self._store) > self.limit:
                del self._store[0]


def allocate(x: Tensor, size: int) -> tuple[Workspace, Tensor]:
    """Allocate a buffer of ``size`` bytes and return the workspace that owns it, then the buffer."""
    elements = -(-size // x.element_size())
    workspace = Workspace(x, elements)
    return workspace, workspace.empty(elements)


_FEW_BYTES = 1 << 16  # smaller blocks come from the allocator's own cache


class _Loan:
    """An array in the memory of a :class:`Workspace`, which returns to the store when the last view is freed."""

    def __init__(self, like: Tensor, shape: tuple[int, ...]) -> None:
        self._workspace = Workspace(like, math.prod(shape))
        self.__array_interface__ = self._workspace.empty(*shape).numpy().__array_interface__


def reused_empty(like: Tensor, *shape: int) -> Tensor:
    """Return `like.new_empty(shape)` in memory that goes back to the store with its last view."""
    if math.prod(shape) * like.element_size() < _FEW_BYTES:
        return like.new_empty(shape)
    import numpy as np  # not at the top: the other kernels and their benchmarks run without NumPy

    return torch.from_numpy(np.asarray(_Loan(like, shape)))
