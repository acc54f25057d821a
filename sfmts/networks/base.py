"""The contract that every network keeps, and the registry that estimators look them up in."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

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

    A subclass takes ``n_channels`` first and keyword arguments after it, sets ``output_size``, and returns results
    that depend neither on padding nor on the other sequences of the batch.
    """

    n_channels: int
    output_size: int
    causal: bool
    """Whether the state at a step depends on no later step."""
    has_amplitudes: ClassVar[bool] = False
    """Whether :meth:`state_amplitudes` is there."""

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
            Zero behind the end of a sequence.

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


def dropout_mask(like: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """A mask of ``like``'s shape: 0 with probability p, else 1 / (1 - p)."""
    kept = torch.empty_like(like).bernoulli_(1.0 - p, generator=generator)
    return kept.div_(1.0 - p)


def chrono_bias(size: int, max_length: int, generator: torch.Generator | None) -> Tensor:
    """Forget biases log U(1, T_max) (Tallec & Ollivier, 2018): memories from one step to the longest sequence."""
    return torch.empty(size).uniform_(1.0, max(2.0, float(max_length)), generator=generator).log_()


NetworkClass = TypeVar("NetworkClass", bound=type[SequenceNetwork])
_REGISTRY: dict[str, type[SequenceNetwork]] = {}


def register_network(name: str) -> Callable[[NetworkClass], NetworkClass]:
    """Class decorator: make a network available to all estimators as ``network=name``.

    Parameters
    ----------
    name : str

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def register(cls: NetworkClass) -> NetworkClass:
        if name in _REGISTRY:
            raise ValueError(f"There is a network named {name!r} already: {_REGISTRY[name].__qualname__}.")
        _REGISTRY[name] = cls
        return cls

    return register


def network_names() -> list[str]:
    """Names of all registered networks.

    Examples
    --------
    >>> from sfmts.networks import network_names
    >>> network_names()
    ['gru', 'lstm', 'sfm']
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

    Examples
    --------
    >>> from sfmts.networks import make_network
    >>> make_network("lstm", 2, n_states=15, n_frequencies=4).n_parameters
    1080
    """
    cls = network_class(name)
    accepted = inspect.signature(cls).parameters
    return cls(n_channels, **{key: value for key, value in options.items() if key in accepted})
