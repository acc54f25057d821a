"""The contract that every network keeps, and the registry in which estimators look networks up."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sfmts._choices import check_choice, check_flag, check_number, check_size
from sfmts.kernels import BACKENDS
from sfmts.networks._common import check_batch, check_init


class NetworkOutput(NamedTuple):
    """Output of a network for a batch of B sequences of at most T steps.

    Attributes
    ----------
    states : Tensor of shape (B, T, output_size)
        Output at each step; zero after the end of a sequence.
    final : Tensor of shape (B, output_size)
        Summary of each whole sequence: the output after its last step and, of a layer that reads backwards, after its
        first step.
    state : object
        Pass it to the next call to continue. None if the network cannot continue.
    extra_loss : Tensor or None
        Scalar that training adds to the loss.
    """

    states: Tensor
    final: Tensor
    state: Any
    extra_loss: Tensor | None = None


class SequenceNetwork(nn.Module, ABC):
    """Base class of networks that read sequences: from (B, T, C) and lengths to one state per step.

    A subclass takes ``n_channels`` first and then keyword arguments with defaults, among them ``n_states`` and
    ``generator``. It sets the attributes below and draws its parameters from ``generator`` only. Its results depend
    neither on padding nor on the other sequences of the batch.

    Options with the names of estimators' parameters have the same meaning: ``n_layers``, ``bidirectional`` (the second
    half of the output reads backwards), ``recurrent_dropout``, ``time`` (with the choice "timestamps") and ``init``
    (None stands for the network's own default).

    :func:`register_network` makes a network known to the estimators, :func:`sfmts.networks.check_network` tests the
    contract, and :class:`sfmts.networks.RecurrentNetwork` implements most of it for networks that go step by step.

    Attributes
    ----------
    n_channels : int
        Width of the input.
    output_size : int
        Width of the output.
    causal : bool
        Whether the state at a step is independent of later steps. A causal network returns a ``state`` from which a
        later call continues, or None. Any other network raises ValueError if it is given a state.
    has_amplitudes : bool
        Whether :meth:`state_amplitudes` is implemented.
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

    def __call__(self, x: Tensor, lengths: Tensor | None = None, **options: Any) -> Any:
        """Check the batch and call :meth:`forward`."""
        if not torch.compiler.is_compiling():
            check_batch(x, lengths, self.n_channels)
        return super().__call__(x, lengths, **options)

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
            Sequences, padded to T steps.
        lengths : Tensor of shape (B,), optional
            True lengths; all are T by default. Padding is never read.
        time : Tensor of shape (B, T), float64, optional
            Time stamps, for a network that uses them.
        state : object, optional
            ``state`` of an earlier call, to continue where that call ended.
        generator : torch.Generator, optional
            Source of dropout masks in training; PyTorch's global generator by default.

        Returns
        -------
        output : NetworkOutput
            States, summary, state for continuation and extra loss.
        """

    def state_amplitudes(self, x: Tensor, lengths: Tensor | None = None, *, time: Tensor | None = None) -> Tensor:
        """Return the amplitudes of the frequency components of the state at each step.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
            Sequences, padded to T steps.
        lengths : Tensor of shape (B,), optional
            True lengths; all are T by default.
        time : Tensor of shape (B, T), float64, optional
            Time stamps, for a network that uses them.

        Returns
        -------
        amplitudes : Tensor of shape (B, T, n_states, n_frequencies)
            Zero after the end of a sequence. A bidirectional network has twice as many states, the forward ones first.

        Raises
        ------
        NotImplementedError
            If the network has no amplitudes.
        """
        raise NotImplementedError(f"{type(self).__name__} has no state amplitudes; network='sfm' has.")

    def gpu_obstacle(self, device: torch.device) -> str | None:
        """Return why the network is slow on a GPU, so that ``device="auto"`` leaves it on the CPU.

        Networks that read all steps at once, or by cuDNN, are not.

        Parameters
        ----------
        device : torch.device
            An NVIDIA GPU.

        Returns
        -------
        reason : str or None
            None if the network has a fast path there.
        """
        return None

    @property
    def backend(self) -> str:
        """Return the name of the kernel that runs.

        Returns
        -------
        backend : str
            "torch" unless the network has kernels of its own.
        """
        return "torch"

    def use_backend(self, backend: str) -> None:
        """Compute with another kernel from now on; a network without kernels of its own stays as it is.

        Parameters
        ----------
        backend : str
            Name of a kernel, such as "reference", or "auto".

        Raises
        ------
        ValueError
            If no network has a kernel of that name.
        RuntimeError
            If the kernel is unavailable here.
        """
        check_choice("backend", backend, BACKENDS)

    @property
    def n_parameters(self) -> int:
        """Count the trainable parameters.

        Returns
        -------
        n_parameters : int
            Number of entries of all parameters that require gradients.
        """
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


NetworkClass = TypeVar("NetworkClass", bound=type[SequenceNetwork])
_REGISTRY: dict[str, type[SequenceNetwork]] = {}
CONTRACT_ATTRIBUTES = ("n_channels", "output_size", "causal")
# Options that change what is computed, with the value that changes nothing. A network that does not take such an
# option cannot do what it asks for, so make_network raises. Other options can be ignored: frequencies mean nothing to
# such a network, and dropout affects training only.
_CAPABILITIES = {"bidirectional": False, "n_layers": 1}


def register_network(name: str) -> Callable[[NetworkClass], NetworkClass]:
    """Register a class decorated with it, so that all estimators know it as ``network=name``.

    A class of the same module and name replaces the earlier one, so that a notebook's cell can run again.

    Parameters
    ----------
    name : str
        Name of the network.

    Returns
    -------
    decorator : callable
        Takes a class, registers it and returns it unchanged.

    Raises
    ------
    TypeError
        If the name is not a non-empty string, if the class is not a concrete subclass of :class:`SequenceNetwork`, or
        if its arguments are not ``n_channels`` followed by keyword-only options with defaults.
    ValueError
        If another network has the name.

    See Also
    --------
    sfmts.networks.RecurrentNetwork : Layers, directions and chunks for networks that go step by step.
    sfmts.networks.check_network : Check that a network keeps the contract.

    Examples
    --------
    A network that averages what it has read so far, and can continue from a state:

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

    Now ``SFMClassifier("running_mean", base=None)`` trains it.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f'A network is registered under a name, such as @register_network("mine"), not {name!r}.')

    def register(cls: NetworkClass) -> NetworkClass:
        _check_class(cls)
        known = _REGISTRY.get(name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f"The name {name!r} belongs to another network, {known.__qualname__}. Register {cls.__qualname__} "
                "under another name."
            )
        _REGISTRY[name] = cls
        return cls

    return register


def _check_class(cls: Any) -> None:
    """Raise TypeError unless a class can be built like all registered networks."""
    if not (inspect.isclass(cls) and issubclass(cls, SequenceNetwork)):
        raise TypeError(f"A network must be a subclass of sfmts.networks.SequenceNetwork, but {cls!r} is not.")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise TypeError(f"{cls.__qualname__} is abstract and cannot be built. Implement {missing}.")
    parameters = list(inspect.signature(cls).parameters.values())
    if [parameter.name for parameter in parameters[:1]] != ["n_channels"]:
        raise TypeError(f"The first argument of {cls.__qualname__} must be n_channels, the width of its input.")
    for parameter in parameters[1:]:
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
            raise TypeError(
                f"The argument {str(parameter)!r} of {cls.__qualname__} must be keyword-only and have a default: "
                "def __init__(self, n_channels, *, n_states=32, ...)."
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


def _checked_sizes(cls: type[SequenceNetwork], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a network with all its integers checked and converted to Python's.

    An option whose default is an integer, a Boolean or a number takes only such. Options that all networks share are at
    least 1; the network itself checks the least values of its own options.
    """
    checked = dict(options)
    for name, parameter in inspect.signature(cls).parameters.items():
        default, value = parameter.default, options.get(name)
        if name not in options or (value is None and default is None):
            continue
        if name in _SIZES:
            checked[name] = check_size(name, value)
        elif isinstance(default, bool):
            checked[name] = check_flag(name, value)
        elif isinstance(default, int):
            checked[name] = check_size(name, value, least=None)
        elif isinstance(default, float):
            check_number(name, value)
    return checked


class WithoutStorage(TorchFunctionMode):
    """Context in which modules of any size are built without memory for their numbers.

    Floating-point tensors are created on PyTorch's ``meta`` device, whatever device is asked for. Integers, such as
    indices and seeds, stay on the CPU, because shapes may depend on their values. A number read from a tensor without
    storage is 1.

    Parameters
    ----------
    most_calls, most_integers : int, optional
        Raise RuntimeError after so many calls of PyTorch's functions, or when so many integers have been created.
        Options that come from a file could otherwise ask for endless loops and indices.
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

    def __enter__(self) -> Self:
        self._grad_enabled = torch.is_grad_enabled()
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        # An error raised while torch.no_grad() is entered would leave gradients off for the rest of the program.
        torch.set_grad_enabled(self._grad_enabled)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of PyTorch, on the ``meta`` device if it creates a floating-point tensor.

        Parameters
        ----------
        func : callable
            The function.
        types : object
            Not used.
        args, kwargs : tuple, dict
            Arguments of the function.

        Returns
        -------
        result : object
            What the function returns.
        """
        if func in self._NUMBERS and args[0].is_meta:
            return self._NUMBERS[func]
        if func is Tensor.__iter__ and args[0].is_meta:  # row by row, because a million views need memory too
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
            raise RuntimeError("The network's options ask for far more work than it has parameters; make them smaller.")
        return result


def network_names() -> list[str]:
    """Return the names of all registered networks.

    Returns
    -------
    names : list of str
        In alphabetical order.

    Examples
    --------
    >>> from sfmts.networks import network_names
    >>> {"gru", "lstm", "sfm"} <= set(network_names())
    True
    """
    return sorted(_REGISTRY)


def network_class(name: str) -> type[SequenceNetwork]:
    """Return the class of a registered network.

    Parameters
    ----------
    name : str
        A name from :func:`network_names`.

    Returns
    -------
    cls : type
        A subclass of :class:`SequenceNetwork`.

    Raises
    ------
    ValueError
        If no network has that name.
    """
    check_choice("network", name, network_names())
    return _REGISTRY[name]


def network_options(name: str) -> list[str]:
    """Return the names of all options of a registered network.

    Parameters
    ----------
    name : str
        A name from :func:`network_names`.

    Returns
    -------
    options : list of str
        The arguments of its class without ``n_channels``.
    """
    return [option for option in inspect.signature(network_class(name)).parameters if option != "n_channels"]


def resolved_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with which :func:`make_network` builds a network.

    Parameters
    ----------
    name : str
        A name from :func:`network_names`.
    options : dict
        Options of any network.

    Returns
    -------
    options : dict
        Those that matter to this network, with its defaults in place of None and of what is left out. A default that
        depends on other options, such as ``n_outputs`` of :class:`sfmts.networks.SFM`, stays None.
    """
    parameters = inspect.signature(network_class(name)).parameters
    defaults = {option: parameters[option].default for option in network_options(name)}
    given = {option: value for option, value in options.items() if value is not None}
    resolved = _CAPABILITIES | defaults
    resolved |= {option: value for option, value in given.items() if option in resolved}
    return resolved | {"init": check_init(resolved.get("init"))}


def make_network(name: str, n_channels: int, **options: Any) -> SequenceNetwork:
    """Build a registered network from a common set of options.

    Parameters
    ----------
    name : str
        A name from :func:`network_names`.
    n_channels : int
        Width of the input.
    **options
        Options of any network. Options that this network does not take are ignored, so that networks can be compared
        with one set of options. None stands for the network's own default.

    Returns
    -------
    network : SequenceNetwork
        The network.

    Raises
    ------
    ValueError
        If no network has that name, if this one supports no ``bidirectional=True`` or no ``n_layers`` that is asked
        for, or if a size is less than 1.
    TypeError
        If a size is not an integer, or if the network does not set an attribute of the contract.

    Examples
    --------
    >>> from sfmts.networks import make_network
    >>> make_network("lstm", 2, n_states=15, n_frequencies=4).n_parameters
    1080
    """
    accepted = network_options(name)
    n_channels = check_size("n_channels", n_channels)
    options = {option: value for option, value in options.items() if value is not None}
    options = _checked_sizes(network_class(name), options)
    for option, neutral in _CAPABILITIES.items():
        if option not in accepted and options.get(option, neutral) != neutral:
            able = ", ".join(repr(other) for other in network_names() if option in network_options(other))
            raise ValueError(
                f"network={name!r} does not support {option}={options[option]!r}. These networks do: {able}."
            )
    network = network_class(name)(n_channels, **{key: value for key, value in options.items() if key in accepted})
    for attribute in CONTRACT_ATTRIBUTES:
        if not hasattr(network, attribute):
            raise TypeError(
                f"{type(network).__qualname__} does not set `{attribute}`. Every network sets "
                f"{', '.join(CONTRACT_ATTRIBUTES)} in __init__; see sfmts.networks.SequenceNetwork."
            )
    return network
