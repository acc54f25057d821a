"""Helpers that networks share: layers and directions, times, checks of options, initial weights and dropout masks."""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from numbers import Real
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from sfmts._choices import check_choice
from sfmts.kernels._checks import check_tensor
from sfmts.kernels._packing import check_lengths

INITIALISATIONS = ("modern", "chrono", "paper", "authors")
LayerStateT = TypeVar("LayerStateT")
Method = TypeVar("Method", bound=Callable[..., Any])


# -- layers, directions and times


def run_layers(
    x: Tensor, n_layers: int, directions: int, run: Callable[[int, Tensor, bool], tuple[Tensor, LayerStateT]]
) -> tuple[Tensor, list[LayerStateT]]:
    """Run stacked layers in one or both directions; each level reads the concatenated outputs of the level below.

    ``run(number, x, backward)`` returns a layer's output, in the order of x, and its state. Layers are numbered level
    by level, the forward direction first; the returned states have the same order.
    """
    states: list[LayerStateT] = []
    for _ in range(n_layers):
        outputs: list[Tensor] = []
        for direction in range(directions):
            output, state = run(len(states), x, direction == 1)
            outputs.append(output)
            states.append(state)
        x = outputs[0] if directions == 1 else torch.cat(outputs, dim=-1)
    return x, states


def reverse_sequences(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse each sequence of a padded batch (B, T, ...) within its own length; the padding becomes 0."""
    if lengths is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device)
    index = lengths.to(x.device, non_blocking=True)[:, None] - 1 - steps
    shape = (*index.shape, *[1] * (x.ndim - 2))
    backwards = x.gather(1, index.clamp_min(0).view(shape).expand_as(x))
    return torch.where((index >= 0).view(shape), backwards, 0)


def step_times(x: Tensor, time: str, stamps: Tensor | None, last: Tensor | None) -> Tensor:
    """Return the time of each step of x (B, T, C), shape (B, T) in float64.

    With ``time="timestamps"`` these are the ``stamps``. With ``time="index"`` they count on from ``last`` (B,), the
    time of the step before the first one, or from 0.
    """
    if time == "timestamps":
        if stamps is None:
            raise ValueError("time='timestamps' needs the time stamps: give `time`, a tensor of shape (B, T).")
        if not torch.compiler.is_compiling():
            check_tensor("time", stamps, x, "x is")
        if stamps.shape != x.shape[:2]:
            shape = tuple(x.shape[:2])
            raise ValueError(f"`time` has shape {tuple(stamps.shape)}, but {shape} is needed, a stamp for each step.")
        return stamps.double()
    steps = torch.arange(1, x.shape[1] + 1, dtype=torch.float64, device=x.device).expand(x.shape[:2])
    return steps if last is None else steps + last[:, None]


def in_own_precision(forward: Method) -> Method:
    """Make a method that reads x compute in the type of the parameters, even under autocast.

    A recurrence of many small steps gains nothing from half precision and loses its memory to it. Its state, inputs
    and gates would also have different types.
    """

    @wraps(forward)
    def wrapper(self: nn.Module, x: Tensor, *arguments: Any, **options: Any) -> Any:
        if not torch.is_autocast_enabled(x.device.type):
            return forward(self, x, *arguments, **options)
        with torch.autocast(x.device.type, enabled=False):
            return forward(self, x.to(next(self.parameters(), x).dtype), *arguments, **options)

    return cast(Method, wrapper)


# -- checks of options


def check_batch(x: Any, lengths: Any, n_channels: int) -> None:
    """Raise TypeError or ValueError unless x is a batch (B, T, C) of numbers, and lengths fit it."""
    check_tensor("x", x)
    if x.ndim != 3 or 0 in x.shape or x.shape[2] != n_channels:
        raise ValueError(f"x has shape {tuple(x.shape)}, but (B, T, {n_channels}) is needed, without empty axes.")
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}, but must be of a floating-point type.")
    if lengths is None:
        return
    if check_tensor("lengths", lengths).dtype not in (torch.int64, torch.int32):
        raise TypeError(f"lengths is {lengths.dtype}, but must be torch.int64 or torch.int32.")
    check_lengths(lengths, x)


def check_type(x: Tensor, parameter: Tensor) -> None:
    """Raise a TypeError unless x has the type of the parameters."""
    wanted = parameter.real.dtype if parameter.is_complex() else parameter.dtype
    if x.dtype != wanted and not torch.compiler.is_compiling() and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"x is {x.dtype}, but the network computes in {wanted}; pass x.to({wanted}).")


def check_state(given: Any, like: Any, name: str = "state", exact: bool = True) -> None:
    """Raise TypeError or ValueError unless a state has the structure, the shapes and the types of another one.

    Tensors may have another floating-point type unless ``exact``.
    """
    if torch.compiler.is_compiling():
        return
    if isinstance(like, Tensor):
        check_tensor(name, given, like, "x is")
        if given.shape != like.shape:
            raise ValueError(f"{name} has shape {tuple(given.shape)}, but {tuple(like.shape)} is needed with this x.")
        exact = exact and not torch.is_autocast_enabled(given.device.type)
        if given.dtype != like.dtype and (exact or not given.is_floating_point()):
            raise TypeError(f"{name} is {given.dtype}, but must be {like.dtype} as the network's own.")
        return
    if not isinstance(given, type(like)):
        raise TypeError(
            f"{name} is of type {type(given).__name__}, but must be a {type(like).__name__} as a call returned."
        )
    if len(given) != len(like):
        raise ValueError(f"{name} has {len(given)} parts, but {len(like)} are needed, as an earlier call returned.")
    keys = getattr(like, "_fields", None) or range(len(like))
    for key, part, wanted in zip(keys, given, like, strict=True):
        check_state(part, wanted, f"{name}.{key}" if isinstance(key, str) else f"{name}[{key}]", exact)


def check_init(init: str | None) -> str:
    """Return the initialisation to use, "modern" for None; raise ValueError if it is unknown."""
    if init is None:
        return "modern"
    check_choice("init", init, INITIALISATIONS)
    return init


def check_period_range(period_range: Sequence[float]) -> tuple[float, float]:
    """Return the shortest and the longest period; raise ValueError if they are invalid."""
    periods = tuple(period_range) if isinstance(period_range, Sequence) else ()
    if any(isinstance(period, bool) or not isinstance(period, Real) for period in periods):
        periods = ()
    if len(periods) != 2 or not 0.0 < periods[0] <= periods[1] < math.inf:
        raise ValueError(f"period_range must be two positive numbers, the smaller one first, not {period_range}.")
    return periods


def check_recurrent_dropout(p: float) -> float:
    """Return the probability; raise TypeError unless p is a number, ValueError unless 0 <= p < 1."""
    if isinstance(p, bool) or not isinstance(p, Real):
        raise TypeError(f"recurrent_dropout must be a number, not {p!r}.")
    if not 0.0 <= p < 1.0:
        raise ValueError(f"recurrent_dropout={p} must be at least 0 and less than 1.")
    return p


# -- random numbers


def dropout_mask(like: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """Return a mask of the shape of ``like``: 0 with probability p, otherwise 1 / (1 - p)."""
    kept = torch.empty_like(like).bernoulli_(1.0 - p, generator=generator)
    return kept.div_(1.0 - p)


def chrono_bias(size: int, max_length: int, generator: torch.Generator | None) -> Tensor:
    """Draw forget biases log U(1, T_max) (Tallec & Ollivier, 2018): memories from one step to the longest sequence."""
    return torch.empty(size).uniform_(1.0, max(2.0, float(max_length)), generator=generator).log_()


def initialise_input(matrix: Tensor, init: str, generator: torch.Generator | None) -> None:
    """Fill a matrix that acts on the input: U(-0.1, 0.1) for "paper", unit rows for "authors", otherwise Glorot."""
    if init == "paper":
        matrix.uniform_(-0.1, 0.1, generator=generator)
    elif init == "authors":
        matrix.normal_(generator=generator)
        matrix.div_(matrix.norm(dim=1, keepdim=True))
    else:
        nn.init.xavier_uniform_(matrix, generator=generator)


def initialise_blocks(
    V: Tensor, W: Tensor, b: Tensor, init: str, generator: torch.Generator | None, blocks: int = 1
) -> None:
    """Fill the matrices of ``blocks`` gates, stacked in V (rows, N), W (rows, H) and b (rows,).

    V is filled gate by gate by :func:`initialise_input`, and so is W for "paper" and "authors". Otherwise each gate's W
    is orthogonal. Biases are 0; a cell opens its gates afterwards.
    """
    b.zero_()
    for part_V, part_W in zip(V.chunk(blocks), W.chunk(blocks), strict=True):
        initialise_input(part_V, init, generator)
        if init in ("paper", "authors"):
            initialise_input(part_W, init, generator)
        else:
            nn.init.orthogonal_(part_W, generator=generator)
