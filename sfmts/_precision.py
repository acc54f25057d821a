"""The precision in which estimators compute, whatever the caller has asked of PyTorch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_precision() -> Iterator[None]:
    """Turn autocast off: results keep the precision of the parameters in a caller's ``torch.autocast``, too."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield
