"""What every kernel accepts.

A compiled kernel reads addresses, so that an argument that does not fit would make it read or write memory of others.
All backends share these checks, and so accept and refuse the same arguments.
"""

import operator
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

_CPU = torch.device("cpu")


def check_tensor(name: str, value: object, like: Tensor | None = None, as_what: str = "") -> Tensor:
    """Return a value that is a dense tensor with memory behind it, and raise a TypeError or ValueError otherwise.

    Parameters
    ----------
    name : str
        Its name in messages.
    value : object
    like : Tensor, optional
        The tensor on whose device it must be.
    as_what : str, optional
        What ``like`` is, with its verb, as in "the weights are".
    """
    if not isinstance(value, Tensor):
        seen = "None" if value is None else f"of type {type(value).__name__}"
        raise TypeError(f"{name} is {seen}, but must be a tensor.")
    if value.is_nested:
        raise ValueError(f"{name} is a nested tensor; pass a dense one.")
    if value.layout is not torch.strided:
        raise ValueError(f"{name} has layout {value.layout}; pass {name}.to_dense().")
    if like is not None and value.device != like.device:
        raise ValueError(f"{name} is on {value.device}, but must be on {like.device} as {as_what}.")
    if value.is_meta:
        raise ValueError(f"{name} is on meta, where tensors have no values; pass a tensor with values.")
    # A compiler traces with tensors that have no memory, and so do the transforms of torch.func.
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(value):
        return value
    if not _has_memory(value):
        raise ValueError(f"{name} has shape {tuple(value.shape)} but no memory for its values; pass {name}.clone().")
    return value


def _has_memory(value: Tensor) -> bool:
    """Return whether the storage of a tensor holds all its values."""
    if value.numel() == 0:
        return True
    if torch._is_zerotensor(value):  # has a shape and no address
        return False
    try:
        if value.data_ptr() == 0:
            return False
        there = value.untyped_storage().nbytes()
    except (RuntimeError, NotImplementedError):  # subclasses that wrap other tensors
        return False
    last = value.storage_offset() + sum((n - 1) * step for n, step in zip(value.shape, value.stride(), strict=True))
    return (last + 1) * value.element_size() <= there


def check_fits(name: str, value: object, shape: tuple[int, ...], **beside: Tensor) -> None:
    """Raise an error unless a value is a tensor of a shape, on the device of the first of those beside it."""
    main, x = next(iter(beside.items()))
    if isinstance(value, Tensor) and not value.is_nested and value.shape != shape:
        others = " and ".join(f"{other} of shape {tuple(given.shape)}" for other, given in beside.items())
        raise ValueError(f"{name} has shape {tuple(value.shape)}, but {shape} is needed beside {others}.")
    check_tensor(name, value, x, f"{main} is")


def check_batch_sizes(batch_sizes: Any) -> list[int]:
    """Return the number of sequences at each step as a list, and raise an error unless they never increase.

    Parameters
    ----------
    batch_sizes : sequence, array or Tensor of T int
        Positive and non-increasing.

    Raises
    ------
    TypeError
        If it is no sequence of integers.
    ValueError
        If it is empty, not positive or increasing.
    """
    if isinstance(batch_sizes, str | bytes) or not isinstance(batch_sizes, Iterable):
        raise TypeError(f"batch_sizes is {batch_sizes!r}, but must be a sequence of integers.")
    given = batch_sizes.tolist() if hasattr(batch_sizes, "tolist") else list(batch_sizes)
    sizes = given if isinstance(given, list) else [given]
    if set(map(type, sizes)) != {int}:
        sizes = [_integer(step, size) for step, size in enumerate(sizes)]
    if not sizes:
        raise ValueError("batch_sizes is empty, but needs the number of sequences of at least one step.")
    if min(sizes) < 1:
        step = next(step for step, size in enumerate(sizes) if size < 1)
        raise ValueError(f"batch_sizes[{step}] is {sizes[step]}, but must be positive.")
    if any(map(operator.lt, sizes, sizes[1:])):
        step = next(step for step, (before, size) in enumerate(pairwise(sizes), start=1) if size > before)
        raise ValueError(
            f"batch_sizes[{step}] is {sizes[step]} after {sizes[step - 1]}, but batch_sizes must never increase: sort "
            "sequences by decreasing length."
        )
    return sizes


def _integer(step: int, size: Any) -> int:
    if isinstance(size, Tensor) and size.ndim == 0:
        size = size.item()
    if isinstance(size, bool) or not hasattr(type(size), "__index__") or isinstance(size, Tensor):
        raise TypeError(
            f"batch_sizes[{step}] is {size!r} of type {type(size).__name__}, but batch_sizes must be integers."
        )
    try:
        return operator.index(size)
    except TypeError:
        raise TypeError(f"batch_sizes[{step}] is {size!r}, but batch_sizes must be integers.") from None


def check_detached(name: str, value: Tensor | None) -> None:
    """Raise a ValueError if a tensor that gets no gradient requires one."""
    if value is not None and value.requires_grad:
        raise ValueError(f"There is no gradient for {name}; give it detached.")


# -- the border


def plain(value: Tensor) -> Tensor:
    """Return a tensor whose values lie in memory as they are, one after another: itself if possible, else a copy.

    Negated and conjugated views keep their sign in a flag that a compiled kernel does not see.
    """
    if value.layout is not torch.strided:
        value = value.to_dense()
    if torch._is_zerotensor(value):  # autograd makes them for gradients
        return value.clone(memory_format=torch.contiguous_format)
    return value.contiguous().resolve_conj().resolve_neg()


def address(name: str, value: Tensor | None, device: torch.device = _CPU) -> int | None:
    """Return the address of a tensor for a compiled kernel; None for None.

    Raises
    ------
    RuntimeError
        If its values do not lie in memory of ``device`` as :func:`plain` returns them.
    """
    if value is None:
        return None
    found = value.data_ptr()
    elsewhere = value.device.type != device.type or (device.type != "cpu" and value.device != device)
    if elsewhere or not value.is_contiguous() or value.is_neg() or value.is_conj():
        where = "the CPU" if device.type == "cpu" else device
        raise RuntimeError(f"{name} does not lie one value after another in memory of {where}.")
    if found == 0 and value.numel() > 0:
        raise RuntimeError(f"{name} has shape {tuple(value.shape)} but no memory for its values.")
    return found


def addresses(tensors: Iterable[tuple[str, Tensor | None]], device: torch.device = _CPU) -> dict[str, int | None]:
    """Return the address of each tensor by name."""
    return {name: address(name, value, device) for name, value in tensors}


def check_sizes(name: str, shape: Sequence[int], wanted: str, ndim: int) -> None:
    """Raise a ValueError unless a shape has so many axes, none of them empty."""
    if len(shape) != ndim or 0 in shape:
        raise ValueError(f"{name} has shape {tuple(shape)}, but {wanted} is needed, none 0.")
