"""Working memory that outlives one call, for the kernels with a hand-written backward pass."""

import math
import threading
from typing import ClassVar

import torch
from torch import Tensor


class Workspace:
    """The working memory of one graph.

    On the CPU it is taken from, and on the graph's end given back to, a small store: touching fresh pages for the
    first time costs more than the arithmetic done on them.  Two graphs never share memory.
    """

    limit = 1 << 29  # bytes kept in the store at most
    _store: ClassVar[list[Tensor]] = []
    # The garbage collector may end a graph, and so come to __del__, while this very thread holds the lock.
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
        with torch.inference_mode(False):  # whoever uses it next may need gradients
            return like.new_empty(elements + elements // 8)  # some slack, so that the next ragged batch fits too

    def empty(self, *shape: int) -> Tensor:
        """A part of the memory that nobody else has, with whatever it holds."""
        size = math.prod(shape)
        self._used += size
        return self._block[self._used - size : self._used].view(shape)

    def clear(self) -> None:
        """Give out all of the memory anew."""
        self._used = 0

    def __del__(self) -> None:
        if self._block.device.type != "cpu":
            return
        with self._lock:
            self._store.append(self._block)
            while sum(block.nbytes for block in self._store) > self.limit:
                del self._store[0]


_FEW_BYTES = 1 << 16  # which the allocator has at hand


class _Loan:
    """Memory of the store that :class:`Workspace` keeps, on loan to whoever views it."""

    def __init__(self, like: Tensor, shape: tuple[int, ...]) -> None:
        self._workspace = Workspace(like, math.prod(shape))
        self.__array_interface__ = self._workspace.empty(*shape).numpy().__array_interface__


def reused_empty(like: Tensor, *shape: int) -> Tensor:
    """`like.new_empty` in memory that goes back to the store with its last view: fresh pages cost more than a pass."""
    if math.prod(shape) * like.element_size() < _FEW_BYTES:
        return like.new_empty(shape)
    import numpy as np  # the other kernels, and benchmarks of them, do without

    return torch.from_numpy(np.asarray(_Loan(like, shape)))
