"""The contract that every network keeps, and the registry that estimators look them up in."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import wraps
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sfmts._choices import check_choice

INITIALISATIONS = ("modern", "chrono", "paper", "authors")


class NetworkOutput(NamedTuple):
    """What a network returns for a batch of B sequences of at most T steps.

    Parameters
    ----------
    states : Tensor of shape (B, T, output_size)
        The output at each step; zero behind the end of a sequence.
    final : Tensor of shape (B, output_size)
        The summary of each whole sequence: the output after its last step and, of a layer that reads backwards, after
        its first.
    state : object
        Hand it to the next call to continue; None if the network cannot be continued.
    extra_loss : Tensor, optional
        A scalar that training adds to the loss.
    """

    states: Tensor
    final: Tensor
    state: Any
    extra_loss: Tensor | None = None


class SequenceNetwork(nn.Module, ABC):
    """A network that reads sequences: (B, T, C) and their lengths to one state a step.

    A subclass takes ``n_channels`` first and after it keyword arguments with defaults, among them ``n_states`` and
    ``generator``; sets the attributes below; draws its parameters from ``generator`` alone; and returns results that
    depend neither on padding nor on the other sequences of the batch.  Options that have the names of estimators'
    parameters mean the same: ``n_layers``, ``bidirectional`` (the output's second half reads backwards),
    ``recurrent_dropout``, ``time`` (which knows "timestamps") and ``init``.

    :func:`register_network` shows a network and makes it known to the estimators,
    :func:`sfmts.networks.check_network` tests all that, and :class:`sfmts.networks.RecurrentNetwork` does most of it
    for networks that go step by step.

    Attributes
    ----------
    n_channels : int
        Width of the input.
    output_size : int
        Width of the output.
    causal : bool
        Whether the state at a step depends on no later step.  A causal network returns a ``state`` from which a later
        call goes on, or None; another refuses one with a ValueError.
    has_amplitudes : bool
        Whether :meth:`state_amplitudes` is there.
    """

    n_channels: int
    output_size: int
    causal: bool
    has_amplitudes: ClassVar[bool] = False

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """Raise an error if a size is not a positive integer, before any network of the class is built."""
        try:
            given = inspect.signature(cls).bind_partial(*arguments, **options).arguments
        except TypeError:  # __init__ says better what does not fit
            given = {}
        _checked_sizes(cls, given)
        return super().__new__(cls)

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        time: Tensor | None = None,
        state: Any = None,
        generator: torch.Generator | None = None,
    ) -> NetworkOutput:
        """Read a batch.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
        lengths : Tensor of shape (B,), optional
            True lengths; all are T by default.  What stands behind a sequence's end is never read.
        time : Tensor of shape (B, T), float64, optional
            Time stamps, for a network that uses them.
        state : optional
            ``state`` of an earlier call, to continue where that one ended.
        generator : torch.Generator, optional
            Source of dropout masks in training; PyTorch's global one by default.
        """

    def state_amplitudes(self, x: Tensor, lengths: Tensor | None = None, *, time: Tensor | None = None) -> Tensor:
        """Amplitudes of the frequency components of the state at each step.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
        lengths : Tensor of shape (B,), optional
        time : Tensor of shape (B, T), float64, optional

        Returns
        -------
        amplitudes : Tensor of shape (B, T, n_states, n_frequencies)
            Of both directions twice as many states, those that read forwards first.  Zero behind the end of a sequence.

        Raises
        ------
        NotImplementedError
            If the network has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no state amplitudes; network='sfm' has.")

    @property
    def backend(self) -> str:
        """Name of the kernel at work."""
        return "torch"

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def reverse_sequences(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse each sequence of a padded batch (B, T, ...) within its own length, with zeros behind its end."""
    if lengths is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device)
    index = lengths.to(x.device)[:, None] - 1 - steps
    shape = (*index.shape, *[1] * (x.ndim - 2))
    backwards = x.gather(1, index.clamp_min(0).view(shape).expand_as(x))
    return torch.where((index >= 0).view(shape), backwards, 0)


def step_times(x: Tensor, time: str, stamps: Tensor | None, last: Tensor | None) -> Tensor:
    """Time of each step of x (B, T, C), (B, T) in float64.

    ``time`` is "timestamps", which ``stamps`` are, or "index", which counts on from ``last`` (B,), the time of the step
    before the first one, or from 0.
    """
    if time == "timestamps":
        if stamps is None:
            raise ValueError("time='timestamps' needs the time stamps: give `time`, a tensor of shape (B, T).")
        if stamps.shape != x.shape[:2]:
            shape = tuple(x.shape[:2])
            raise ValueError(f"`time` has shape {tuple(stamps.shape)}, but {shape} is needed, a stamp for each step.")
        return stamps.double()
    steps = torch.arange(1, x.shape[1] + 1, dtype=torch.float64, device=x.device).expand(x.shape[:2])
    return steps if last is None else steps + last[:, None]


def check_period_range(period_range: Sequence[float]) -> tuple[float, float]:
    """Shortest and longest period, or a ValueError."""
    periods = tuple(period_range)
    if len(periods) != 2 or not 0.0 < periods[0] <= periods[1] < math.inf:
        raise ValueError(f"period_range must be two positive numbers, the smaller one first, not {period_range}.")
    return periods


def initialise_input(matrix: Tensor, init: str, generator: torch.Generator | None) -> None:
    """Fill a matrix that acts on the input: U(-0.1, 0.1) for "paper", rows of unit norm for "authors", else Glorot."""
    if init == "paper":
        matrix.uniform_(-0.1, 0.1, generator=generator)
    elif init == "authors":
        matrix.normal_(generator=generator)
        matrix.div_(matrix.norm(dim=1, keepdim=True))
    else:
        nn.init.xavier_uniform_(matrix, generator=generator)


def dropout_mask(like: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """A mask of ``like``'s shape: 0 with probability p, else 1 / (1 - p)."""
    kept = torch.empty_like(like).bernoulli_(1.0 - p, generator=generator)
    return kept.div_(1.0 - p)


def check_recurrent_dropout(p: float) -> float:
    """A probability below 1, or a ValueError."""
    if not 0.0 <= p < 1.0:
        raise ValueError(f"recurrent_dropout={p} must be at least 0 and less than 1.")
    return p


Method = TypeVar("Method", bound=Callable[..., Any])


def in_own_precision(forward: Method) -> Method:
    """Let a method that reads x compute in the type of the parameters under autocast, too.

    A recurrence of many small steps gains nothing from half precision and loses its memory to it; and its state, its
    inputs and its gates would have different types.
    """

    @wraps(forward)
    def wrapper(self: nn.Module, x: Tensor, *arguments: Any, **options: Any) -> Any:
        if not torch.is_autocast_enabled(x.device.type):
            return forward(self, x, *arguments, **options)
        with torch.autocast(x.device.type, enabled=False):
            return forward(self, x.to(next(self.parameters(), x).dtype), *arguments, **options)

    return cast(Method, wrapper)


def chrono_bias(size: int, max_length: int, generator: torch.Generator | None) -> Tensor:
    """Forget biases log U(1, T_max) (Tallec & Ollivier, 2018): memories from one step to the longest sequence."""
    return torch.empty(size).uniform_(1.0, max(2.0, float(max_length)), generator=generator).log_()


NetworkClass = TypeVar("NetworkClass", bound=type[SequenceNetwork])
_REGISTRY: dict[str, type[SequenceNetwork]] = {}
CONTRACT_ATTRIBUTES = ("n_channels", "output_size", "causal")
# Options that say what is computed, with the value that asks for nothing: a network that does not take one cannot do
# what it says.  Others mean nothing to it, like frequencies, or end with training, like dropout.
_CAPABILITIES = {"bidirectional": False, "n_layers": 1}


def register_network(name: str) -> Callable[[NetworkClass], NetworkClass]:
    """Class decorator: make a network available to all estimators as ``network=name``.

    A class of the same module and name, such as that of a notebook's cell that runs again, takes the place of the
    earlier one.

    Parameters
    ----------
    name : str

    Raises
    ------
    TypeError
        If the name is not a string that holds something, if the class is no final subclass of
        :class:`SequenceNetwork`, or if its arguments are not ``n_channels`` and, by keyword only, options that have
        defaults.
    ValueError
        If another network has the name.

    See Also
    --------
    sfmts.networks.RecurrentNetwork : Layers, directions and chunks for networks that go step by step.
    sfmts.networks.check_network : Whether a network keeps the contract.

    Examples
    --------
    A network that averages what it has read so far, and goes on from where it stood:

    >>> import torch
    >>> from sfmts.networks import NetworkOutput, SequenceNetwork, check_network, make_network, register_network
    >>> @register_network("running_mean")
    ... class RunningMean(SequenceNetwork):
    ...     "A projection of the mean over all steps so far."
    ...
    ...     def __init__(self, n_channels, *, n_states=32, generator=None):
    ...         super().__init__()
    ...         self.n_channels, self.output_size, self.causal = n_channels, n_states, True
    ...         weight = torch.empty(n_states, n_channels).normal_(generator=generator)
    ...         self.weight = torch.nn.Parameter(weight)
    ...
    ...     def forward(self, x, lengths=None, *, time=None, state=None, generator=None):
    ...         total, count = (0.0, 0) if state is None else state
    ...         steps = torch.arange(1, x.shape[1] + 1)[:, None]
    ...         last = torch.full((len(x),), x.shape[1]) if lengths is None else lengths
    ...         inside = steps <= last[:, None, None]
    ...         total = torch.where(inside, x, 0.0).cumsum(1) + total
    ...         states = torch.where(inside, (total / (steps + count)) @ self.weight.T, 0.0)
    ...         end = torch.arange(len(x)), last - 1
    ...         after = total[end][:, None], count + last[:, None, None]
    ...         return NetworkOutput(states, states[end], after)
    >>> check_network("running_mean")
    >>> make_network("running_mean", 2, n_states=3).n_parameters
    6

    From now on ``SFMClassifier("running_mean")`` trains it.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f'A network is registered under a name, such as @register_network("mine"), not {name!r}.')

    def register(cls: NetworkClass) -> NetworkClass:
        _check_class(cls)
        known = _REGISTRY.get(name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"There is a network named {name!r} already: {known.__qualname__}.")
        _REGISTRY[name] = cls
        return cls

    return register


def _check_class(cls: Any) -> None:
    """Raise a TypeError unless a network can be looked up, built and read about like all others."""
    if not (inspect.isclass(cls) and issubclass(cls, SequenceNetwork)):
        raise TypeError(f"A network must be a subclass of sfmts.networks.SequenceNetwork, and {cls!r} is none.")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise TypeError(f"{cls.__qualname__} is abstract and cannot be built: it lacks {missing}.")
    parameters = list(inspect.signature(cls).parameters.values())
    if [parameter.name for parameter in parameters[:1]] != ["n_channels"]:
        raise TypeError(f"The first argument of {cls.__qualname__} must be n_channels, the width of its input.")
    for parameter in parameters[1:]:
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
            raise TypeError(
                f"The argument {str(parameter)!r} of {cls.__qualname__} must be taken by keyword only and have a "
                "default: def __init__(self, n_channels, *, n_states=32, ...)."
            )


_SIZES = (
    "n_channels",
    "n_states",
    "n_frequencies",
    "n_outputs",
    "n_layers",
    "n_hidden",
    "n_feedforward",
    "depth",
    "max_length",
)


def check_size(name: str, value: Any, least: int | None = 1) -> int:
    """Return a size as Python's integer, or raise an error that says what it must be.

    With ``least=None`` any integer is taken.

    Raises
    ------
    TypeError
        If ``value`` is not an integer; booleans are not.
    ValueError
        If ``value`` is less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, not {value!r}.")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}.")
    return int(value)


def _checked_sizes(cls: type[SequenceNetwork], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a network with all its integers checked and converted to Python's.

    An option whose default is an integer takes integers only. The network itself knows the least value of its own
    options; those that all networks share are at least 1.
    """
    checked = dict(options)
    for name, parameter in inspect.signature(cls).parameters.items():
        default, value = parameter.default, options.get(name)
        if name not in options or (value is None and default is None):
            continue
        whole = isinstance(default, int) and not isinstance(default, bool)
        if name in _SIZES:
            checked[name] = check_size(name, value)
        elif whole:
            checked[name] = check_size(name, value, least=None)
    return checked


class WithoutStorage(TorchFunctionMode):
    """Build modules of any size without memory for their numbers: shapes and types are all they have.

    Floating-point tensors are made on PyTorch's ``meta`` device, whatever device is asked for. Integers, such as an
    index or a seed, stay on the CPU, because shapes may depend on their values. A number read from a tensor without
    storage is 1.

    Parameters
    ----------
    most_calls, most_integers : int, optional
        Raise a RuntimeError after so many calls of PyTorch's functions, or when so many integers have been made:
        options that come from a file may ask for loops and indices without end.
    """

    _FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye)
    _NUMBERS: ClassVar[dict[Any, Any]] = {
        Tensor.__bool__: True,
        Tensor.__int__: 1,
        Tensor.__float__: 1.0,
        Tensor.item: 1.0,
    }

    def __init__(self, most_calls: int | None = None, most_integers: int | None = None) -> None:
        super().__init__()
        self._calls = math.inf if most_calls is None else most_calls
        self._integers = math.inf if most_integers is None else most_integers

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``func`` with the ``meta`` device where it makes a tensor."""
        if func in self._NUMBERS and args[0].is_meta:
            return self._NUMBERS[func]
        if func is Tensor.__iter__ and args[0].is_meta:  # row by row: a million views are not small
            return (args[0][row] for row in range(len(args[0])))
        kwargs = dict(kwargs or {})
        if func in self._FACTORIES or (func is torch.empty_like and "device" in kwargs):
            kwargs["device"] = "meta"
        elif func is Tensor.repeat:
            args = (args[0].to("meta"), *args[1:])
        result = func(*args, **kwargs)
        self._calls -= 1
        if isinstance(result, Tensor) and (func is Tensor.repeat or not result.is_meta):
            self._integers -= result.numel()
        if min(self._calls, self._integers) < 0:
            raise RuntimeError("The options of the network ask for far more work than it has parameters.")
        return result


def network_names() -> list[str]:
    """Names of all registered networks.

    Examples
    --------
    >>> from sfmts.networks import network_names
    >>> {"gru", "lstm", "sfm"} <= set(network_names())
    True
    """
    return sorted(_REGISTRY)


def network_class(name: str) -> type[SequenceNetwork]:
    """Class of a registered network.

    Raises
    ------
    ValueError
        If no network has that name.
    """
    check_choice("network", name, network_names())
    return _REGISTRY[name]


def network_options(name: str) -> list[str]:
    """Names of all options that a registered network takes."""
    return [option for option in inspect.signature(network_class(name)).parameters if option != "n_channels"]


def make_network(name: str, n_channels: int, **options: Any) -> SequenceNetwork:
    """Build a registered network from a common set of options.

    Parameters
    ----------
    name : str
        A name from :func:`network_names`.
    n_channels : int
        Width of the input.
    **options
        Options of any network; those that this one does not take are left out, so that one set serves a comparison.

    Raises
    ------
    ValueError
        If no network has that name, if this one lacks what is asked for (``bidirectional=True`` or several layers), or
        if a size is less than 1.
    TypeError
        If a size is not an integer, or if the network has not set an attribute of the contract.

    Examples
    --------
    >>> from sfmts.networks import make_network
    >>> make_network("lstm", 2, n_states=15, n_frequencies=4).n_parameters
    1080
    """
    accepted = network_options(name)
    n_channels, options = check_size("n_channels", n_channels), _checked_sizes(network_class(name), options)
    for option, neutral in _CAPABILITIES.items():
        if option not in accepted and options.get(option, neutral) != neutral:
            able = ", ".join(repr(other) for other in network_names() if option in network_options(other))
            value, hint = options[option], ""
            if option == "n_layers" and "depth" in accepted:
                hint = f" Its layers are depth={value}, of an estimator network_params={{'depth': {value}}}."
            raise ValueError(f"network={name!r} takes no {option}={value!r}; these do: {able}.{hint}")
    network = network_class(name)(n_channels, **{key: value for key, value in options.items() if key in accepted})
    for attribute in CONTRACT_ATTRIBUTES:
        if not hasattr(network, attribute):
            raise TypeError(
                f"{type(network).__qualname__} has not set `{attribute}`; every network sets "
                f"{', '.join(CONTRACT_ATTRIBUTES)} in __init__, see sfmts.networks.SequenceNetwork."
            )
    return network
