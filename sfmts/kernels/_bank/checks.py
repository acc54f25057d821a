"""Check the arguments of all kernels of the bank."""

from numbers import Real

import torch
from torch import Tensor

from sfmts.kernels._bank.reference import LANES, MEMBERS, Bank
from sfmts.kernels._checks import check_tensor


def check_bank(bank: Bank) -> None:
    """Raise a ValueError or TypeError unless the fields of a bank are valid and consistent."""
    if not isinstance(bank, Bank):
        raise TypeError(f"bank is of type {type(bank).__name__}, but must be a Bank.")
    for name, value in zip(bank._fields[:-1], bank[:-1], strict=True):
        check_on_cpu(f"bank.{name}", check_tensor(f"bank.{name}", value))
    blocks = bank.s.shape[0] if bank.s.ndim else 0
    channels = bank.mix.shape[-1] if bank.mix.ndim else 0
    slots = (blocks, MEMBERS, LANES)
    expected = {
        "s": (slots, torch.complex128),
        "start": (slots, torch.complex64),
        "m": (slots, torch.complex64),
        "direct": (slots, torch.float32),
        "threshold": (slots, torch.float32),
        "mix": ((blocks, MEMBERS, channels), torch.float32),
        "direction": ((blocks,), torch.int64),
        "groups": ((blocks,), torch.int64),
    }
    for name, (shape, dtype) in expected.items():
        tensor: Tensor = getattr(bank, name)
        if tensor.shape != shape:
            raise ValueError(
                f"bank.{name} has shape {tuple(tensor.shape)}, but {shape} is needed with the other arguments."
            )
        check_type(f"bank.{name}", tensor, dtype)
        if name != "threshold":  # thresholds may be infinite
            check_finite(f"bank.{name}", tensor)
    if channels == 0:
        raise ValueError(f"bank.mix has shape {tuple(bank.mix.shape)}, but must have at least one channel.")
    if bool((bank.s.real >= 0).any()):
        raise ValueError("bank.s must have negative real parts, so that all oscillations decay.")
    if blocks == 0 or bool(((bank.groups < 1) | (bank.groups > LANES)).any()):
        raise ValueError(f"bank.groups must lie between 1 and {LANES}.")
    if bool((bank.direction.abs() != 1).any()):
        raise ValueError(f"bank.direction must be 1 or -1, but is {bank.direction.tolist()}.")
    if isinstance(bank.unit, bool) or not isinstance(bank.unit, Real):
        raise TypeError(f"bank.unit is of type {type(bank.unit).__name__}, but must be a number.")
    if not 1e-15 <= bank.unit <= 1e15:  # beyond, gains overflow
        raise ValueError(f"bank.unit must be positive, from 1e-15 to 1e15, but is {bank.unit}.")


def check_finite(name: str, value: Tensor) -> None:
    """Raise a ValueError if a value is infinite or NaN."""
    # The sum is finite for nearly all finite tensors, and takes less time than a test of each value.
    if not bool(torch.isfinite(value.sum())) and not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} has values that are not finite; replace or remove them.")


def check_type(name: str, value: Tensor, dtype: torch.dtype) -> None:
    """Raise a TypeError unless a tensor has this type."""
    if value.dtype != dtype:
        raise TypeError(f"{name} is {value.dtype}, but must be {dtype}.")


def check_on_cpu(name: str, value: Tensor) -> None:
    """Raise a ValueError unless a tensor is on the CPU."""
    if value.device.type != "cpu":
        raise ValueError(f"{name} is on {value.device}; move lengths and the bank to the CPU, times to x.")
