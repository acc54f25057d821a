"""Check the arguments of kernels.

A compiled kernel reads memory by address, so an invalid argument would make it read or write outside of a tensor. All
backends share these checks and therefore accept the same arguments and raise the same errors.
"""

import operator
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

_CPU = torch.device("cpu")


def check_tensor(name: str, value: object, like: Tensor | None = None, as_what: str = "") -> Tensor:
    """Return ``value`` if it is a dense tensor with memory for its values; raise TypeError or ValueError otherwise.

    Parameters
    ----------
    name : str
        Name of the value in error messages.
    value : object
        The value to check.
    like : Tensor, optional
        A tensor that must be on the same device.
    as_what : str, optional
        Name of ``like`` in error messages, with its verb, as in "the weights are".
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
    # torch.compile and the transforms of torch.func trace with tensors that have no memory.
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(value):
        return value
    if not _has_memory(value):
        raise ValueError(f"{name} has shape {tuple(value.shape)} but no memory for its values; pass {name}.clone().")
    return value


def _has_memory(value: Tensor) -> bool:
    """Return whether the storage of a tensor holds all its values."""
    if value.numel() == 0:
        return True
    if torch._is_zerotensor(value):  # has a shape but no address
        return False
    try:
        if value.data_ptr() == 0:
            return False
        available = value.untyped_storage().nbytes()
    except (RuntimeError, NotImplementedError):  # subclasses that wrap other tensors
        return False
    last = value.storage_offset() + sum((n - 1) * step for n, step in zip(value.shape, value.stride(), strict=True))
    return (last + 1) * value.element_size() <= available


def check_fits(name: str, value: object, shape: tuple[int, ...], **others: Tensor) -> None:
    """Raise an error unless ``value`` is a tensor of this shape on the device of the first of ``others``."""
    main, x = next(iter(others.items()))
    if isinstance(value, Tensor) and not value.is_nested and value.shape != shape:
        given = " and ".join(f"{other} of shape {tuple(tensor.shape)}" for other, tensor in others.items())
        raise ValueError(f"{name} has shape {tuple(value.shape)}, but {shape} is needed with {given}.")
    check_tensor(name, value, x, f"{main} is")


def check_rows(name: str, value: Tensor, rows: int, why: str) -> None:
    """Raise a ValueError unless a tensor has so many rows; another number would be hidden by packing or broadcasting.

    Parameters
    ----------
    name : str
        Name of the tensor in the error message.
    value : Tensor
        The tensor.
    rows : int
        How many rows it must have.
    why : str
        What needs them, for the error message, as in "as x has".
    """
    if check_tensor(name, value).shape[:1] != (rows,):
        raise ValueError(f"{name} has shape {tuple(value.shape)}, but must have {rows} rows {why}.")


def check_batch_sizes(batch_sizes: Any) -> list[int]:
    """Return the number of running sequences at each step as a list.

    Parameters
    ----------
    batch_sizes : sequence, array or Tensor of T int
        Positive and non-increasing.

    Raises
    ------
    TypeError
        If ``batch_sizes`` is not a sequence of integers.
    ValueError
        If it is empty, or a number is not positive or greater than the one before.
    """
    if isinstance(batch_sizes, str | bytes) or not isinstance(batch_sizes, Iterable):
        raise TypeError(f"batch_sizes is {batch_sizes!r}, but must be a sequence of integers.")
    given = batch_sizes.tolist() if hasattr(batch_sizes, "tolist") else list(batch_sizes)
    sizes = given if isinstance(given, list) else [given]
    if set(map(type, sizes)) != {int}:
        sizes = [_integer(step, size) for step, size in enumerate(sizes)]
    if not sizes:
        raise ValueError("batch_sizes is empty, but must hold the number of sequences of at least one step.")
    if min(sizes) < 1:
        step = next(step for step, size in enumerate(sizes) if size < 1)
        raise ValueError(f"batch_sizes[{step}] is {sizes[step]}, but must be positive.")
    if any(map(operator.lt, sizes, sizes[1:])):
        step = next(step for step, (before, size) in enumerate(pairwise(sizes), start=1) if size > before)
        raise ValueError(
            f"batch_sizes[{step}] is {sizes[step]} after {sizes[step - 1]}, but batch_sizes must never increase; sort "
            "the sequences by decreasing length."
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
    """Raise a ValueError if a tensor requires a gradient that kernels do not compute."""
    if value is not None and value.requires_grad:
        raise ValueError(f"{name} requires a gradient, but kernels compute none for it; pass {name}.detach().")


def refuse_second_derivatives(setting: str, instead: str = "backend='reference'") -> None:
    """Raise an error in a hand-written backward pass that is to be differentiated (``create_graph=True``)."""
    if torch.is_grad_enabled():
        raise RuntimeError(f"{setting} has first derivatives only; use {instead} for higher ones.")


# -- arguments of compiled code


def plain(value: Tensor) -> Tensor:
    """Return a contiguous tensor with explicit signs: ``value`` itself if possible, otherwise a copy.

    Negated and conjugated views keep their sign in a flag, which compiled code does not read.
    """
    if value.layout is not torch.strided:
        value = value.to_dense()
    if torch._is_zerotensor(value):  # autograd uses them as gradients
        return value.clone(memory_format=torch.contiguous_format)
    return value.contiguous().resolve_conj().resolve_neg()


def address(name: str, value: Tensor | None, device: torch.device = _CPU) -> int | None:
    """Return the address of a tensor for a compiled kernel; None for None.

    Raises
    ------
    RuntimeError
        If the tensor is not on ``device``, or not contiguous with explicit signs, as :func:`plain` returns it.
    """
    if value is None:
        return None
    found = value.data_ptr()
    elsewhere = value.device.type != device.type or (device.type != "cpu" and value.device != device)
    if elsewhere or not value.is_contiguous() or value.is_neg() or value.is_conj():
        where = "the CPU" if device.type == "cpu" else device
        raise RuntimeError(f"{name} is not a contiguous tensor in memory of {where}.")
    if found == 0 and value.numel() > 0:
        raise RuntimeError(f"{name} has shape {tuple(value.shape)} but no memory for its values.")
    return found


def addresses(tensors: Iterable[tuple[str, Tensor | None]], device: torch.device = _CPU) -> dict[str, int | None]:
    """Return the address of each tensor by name."""
    return {name: address(name, value, device) for name, value in tensors}


def check_sizes(name: str, shape: Sequence[int], wanted: str, ndim: int) -> None:
    """Raise a ValueError unless a shape has ``ndim`` axes, none of them empty."""
    if len(shape) != ndim or 0 in shape:
        raise ValueError(f"{name} has shape {tuple(shape)}, but {wanted} is needed, without empty axes.")
