"""Sentences that parameters share: one of a few names, True or False, numbers."""

import textwrap
from collections.abc import Iterable
from numbers import Integral, Number, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 1e150  # sums of squares of smaller numbers are finite


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise a ValueError that lists the choices if ``value`` is not one of them, whatever type it has."""
    choices = list(choices)
    if not any(_comparable(value, choice) and value == choice for choice in choices):
        raise ValueError(f"Unknown {name} {_short(value)}; choose one of {', '.join(map(repr, choices))}.")


def check_flag(name: str, value: object) -> bool:
    """Return ``value``; raise a TypeError unless it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {_short(value)}.")
    return bool(value)


def check_number(name: str, value: Any) -> Any:
    """Return ``value``; raise a TypeError unless it is a real number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {_short(value)}.")
    return value


def check_size(name: str, value: Any, least: int | None = 1) -> int:
    """Return a size as a Python integer, or raise an error that says what it must be.

    Parameters
    ----------
    name : str
        Name of the option, for the error message.
    value : object
        The size.
    least : int, optional
        Least valid value; any integer is valid if it is None.

    Returns
    -------
    size : int
        The value.

    Raises
    ------
    TypeError
        If ``value`` is not an integer. Booleans are not integers here.
    ValueError
        If ``value`` is less than ``least``.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, not {_short(value)}.")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}.")
    return int(value)


def check_squares(name: str, values: NDArray[np.float64]) -> None:
    """Raise a ValueError if sums of squares of the values may overflow."""
    if values.size and np.abs(values).max() > LARGEST:
        largest = values.flat[np.abs(values).argmax()]
        raise ValueError(f"{name} holds {largest:.3g}, whose square overflows. Divide it by a constant.")


def _short(value: object) -> str:
    return textwrap.shorten(repr(value), 200, placeholder=" ...")


def _comparable(value: object, choice: object) -> bool:
    """Return whether ``==`` compares the two as wholes: an array compares entry by entry, and True equals 1."""
    if isinstance(value, bool) or isinstance(choice, bool):
        return isinstance(value, bool) and isinstance(choice, bool)
    return isinstance(value, type(choice)) or (isinstance(value, Number) and isinstance(choice, Number))
