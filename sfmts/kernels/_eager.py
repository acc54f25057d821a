"""Exclude functions from `torch.compile`."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def eager(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make `torch.compile` run a function uncompiled.

    This is `torch.compiler.disable`, applied only once a compiler has been imported: the import takes a second.

    Parameters
    ----------
    function : callable
        Any function, such as the step of a recurrence.

    Returns
    -------
    function : callable
        The same function, in which `torch.compile` breaks its graph.
    """
    disabled: list[Callable[Arguments, Result]] = []

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(torch.compiler.disable(function))
        return disabled[0](*args, **kwargs)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]  # the compiler looks for this attribute
    return call
