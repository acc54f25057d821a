"""One sentence for every parameter that takes one of a few names."""

import textwrap
from collections.abc import Iterable
from numbers import Number


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise a ValueError that lists the choices if ``value`` is not one of them, whatever type it has."""
    choices = list(choices)
    if not any(_comparable(value, choice) and value == choice for choice in choices):
        given = textwrap.shorten(repr(value), 200, placeholder=" ...")
        raise ValueError(f"Unknown {name} {given}; choose one of {', '.join(map(repr, choices))}.")


def _comparable(value: object, choice: object) -> bool:
    """Return whether ``==`` compares the two as wholes: an array compares entry by entry, and True equals 1."""
    if isinstance(value, bool) or isinstance(choice, bool):
        return isinstance(value, bool) and isinstance(choice, bool)
    return isinstance(value, type(choice)) or (isinstance(value, Number) and isinstance(choice, Number))
