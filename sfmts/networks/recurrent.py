"""Base classes of networks whose steps are written in PyTorch: layers, directions, chunks and recurrent dropout."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sfmts._choices import check_choice
from sfmts.kernels import State, Step, eager, scan_padded
from sfmts.networks._common import (
    check_init,
    check_recurrent_dropout,
    check_state,
    check_type,
    dropout_mask,
    in_own_precision,
    reverse_sequences,
    run_layers,
    step_times,
)
from sfmts.networks.base import NetworkOutput, SequenceNetwork

RECURRENT_TIMES = ("index", "timestamps")


class RecurrentState(NamedTuple):
    """State of a network after a chunk, from which the next call continues.

    Attributes
    ----------
    layers : list of tuples of Tensors with B rows
        State of each layer.
    t : Tensor of shape (B,), float64
        Time of the last step.
    """

    layers: list[State]
    t: Tensor


class RecurrentLayer(nn.Module, ABC):
    """Base class of one direction of one layer; a subclass defines one step.

    Rows are the steps of packed sequences, as in :func:`sfmts.kernels.scan`. A state is a tuple of tensors.

    Parameters
    ----------
    output_size : int
        Width of the output of a step.

    Attributes
    ----------
    output_size : int
        Width of the output of a step.
    n_fed : int
        Width of what the gates read of the past, whose entries recurrent dropout drops. It is ``output_size`` unless
        the subclass sets it.
    """

    output_size: int
    n_fed: int

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = self.n_fed = output_size

    @abstractmethod
    def start(self, like: Tensor) -> State:
        """Return the state before the first step.

        Parameters
        ----------
        like : Tensor of shape (B, ...)
            Has the number of sequences, the type and the device of the state.

        Returns
        -------
        state : tuple of Tensors with B rows
            The output so far comes first.
        """

    @abstractmethod
    def prepare(self, x: Tensor, t: Tensor) -> State:
        """Compute what needs no state, for all steps at once: usually x V^T + b.

        Parameters
        ----------
        x : Tensor of shape (rows, N)
            Input of all steps.
        t : Tensor of shape (rows,), float64
            Time of each row.

        Returns
        -------
        inputs : tuple of Tensors with as many rows
            What :meth:`make_step`'s function reads, row by row.
        """

    @abstractmethod
    def make_step(self) -> Step:
        """Return the function of one step, ``step(inputs, state, mask) -> (outputs, state)``, for one forward pass.

        ``inputs`` are rows of what :meth:`prepare` returned. ``mask``, if not None, multiplies what the gates read of
        the past. The first output is that of the layer, and so is the first part of the state. Other outputs go to
        :meth:`RecurrentNetwork.extra_loss`. Matrices that act on the state should be wrapped here in a
        :class:`sfmts.kernels.SharedMatrix`.

        Returns
        -------
        step : callable
            The function of one step.
        """

    @abstractmethod
    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        """Fill the parameters.

        Parameters
        ----------
        init : {"modern", "chrono", "paper", "authors"}
            Which initialisation.
        max_length : int
            Number of steps over which memories reach initially, for ``init="chrono"``.
        generator : torch.Generator, optional
            Source of the initial parameters; PyTorch's global generator by default.
        """


class RecurrentNetwork(SequenceNetwork, ABC):
    """Base class of networks of stacked layers in one or both directions; see :class:`SequenceNetwork`.

    Parameters
    ----------
    n_channels : int
        Width of the input.
    make_layer : callable
        Builds a :class:`RecurrentLayer` from the width of its input.
    n_layers : int
        Number of layers. Each layer reads the output of the layer below.
    bidirectional : bool
        Whether a second set of layers reads each sequence backwards. Outputs are concatenated.
    recurrent_dropout : float
        Probability of dropping an entry of what the gates read of the past in training, with one mask per sequence.
    time : {"index", "timestamps"}
        The time of a step: 1, 2, 3, ..., or the time stamps given to :meth:`forward`.
    init : {"modern", "chrono", "paper", "authors"}, optional
        Initialisation of the layers; "modern" by default.
    max_length : int
        Number of steps over which memories reach initially, for ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global generator by default.
    """

    def __init__(
        self,
        n_channels: int,
        make_layer: Callable[[int], RecurrentLayer],
        *,
        n_layers: int = 1,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        time: str = "index",
        init: str | None = None,
        max_length: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        init = check_init(init)
        check_choice("time", time, RECURRENT_TIMES)
        self.n_channels, self.n_layers, self.bidirectional = n_channels, n_layers, bidirectional
        self.recurrent_dropout, self.time = check_recurrent_dropout(recurrent_dropout), time
        self.causal = not bidirectional
        directions = 2 if bidirectional else 1
        self.layers = nn.ModuleList()
        width = n_channels
        for _ in range(n_layers):
            level = [make_layer(width) for _ in range(directions)]
            self.layers.extend(level)
            width = sum(layer.output_size for layer in level)
        self.output_size = width
        for layer in self.layers:
            assert isinstance(layer, RecurrentLayer)
            with torch.no_grad():
                layer.initialise(init, max_length, generator)

    def gpu_obstacle(self, device: torch.device) -> str | None:
        """Return why the network is slow on a GPU; see :meth:`SequenceNetwork.gpu_obstacle`.

        Parameters
        ----------
        device : torch.device
            An NVIDIA GPU.

        Returns
        -------
        reason : str
            That it goes step by step.
        """
        return "the network goes step by step through small operations of PyTorch"

    def extra_loss(self, outputs: Sequence[State]) -> Tensor | None:
        """Return what training adds to the loss; None by default.

        Parameters
        ----------
        outputs : sequence of tuples of Tensors with a row for each step
            What the steps of each layer return after the layer's own output.

        Returns
        -------
        extra_loss : Tensor or None
            A scalar.
        """
        return None

    @eager
    @in_own_precision
    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        time: Tensor | None = None,
        state: Any = None,
        generator: torch.Generator | None = None,
    ) -> NetworkOutput:
        """Read a batch; see :meth:`SequenceNetwork.forward`.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
            Sequences, padded to T steps.
        lengths : Tensor of shape (B,), optional
            True lengths; all are T by default.
        time : Tensor of shape (B, T), float64, optional
            Time stamps, for ``time="timestamps"``.
        state : RecurrentState, optional
            ``state`` of an earlier call, to continue where that call ended.
        generator : torch.Generator, optional
            Source of dropout masks in training; PyTorch's global generator by default.

        Returns
        -------
        output : NetworkOutput
            A bidirectional network has no state for continuation.
        """
        if state is not None and self.bidirectional:
            raise ValueError("A bidirectional network needs the whole sequence and cannot continue from a state.")
        check_type(x, next(self.parameters()))
        if state is not None:
            started = [layer.start(x) for layer in self.layers]  # type: ignore[operator]
            check_state(state, RecurrentState(started, x.new_empty(len(x), dtype=torch.float64)))
        t = step_times(x, self.time, time, None if state is None else state.t)
        further: list[State] = []

        def run(number: int, x: Tensor, backward: bool) -> tuple[Tensor, State]:
            layer = self.layers[number]
            assert isinstance(layer, RecurrentLayer)
            given = None if state is None else state.layers[number]
            mask = None
            if self.training and self.recurrent_dropout > 0.0:
                mask = dropout_mask(x.new_empty(len(x), layer.n_fed), self.recurrent_dropout, generator)
            output, rest, after = (_run_backwards if backward else _run)(layer, x, lengths, t, given, mask)
            further.append(rest)
            return output, after

        directions = 2 if self.bidirectional else 1
        x, states = run_layers(x, self.n_layers, directions, run)
        final = torch.cat([after[0] for after in states[-directions:]], dim=1)
        last = t[:, -1] if lengths is None else t.gather(1, lengths.to(t.device, non_blocking=True)[:, None] - 1)[:, 0]
        after_all = None if self.bidirectional else RecurrentState(states, last)
        return NetworkOutput(x, final, after_all, self.extra_loss(further))


def _run(
    layer: RecurrentLayer, x: Tensor, lengths: Tensor | None, t: Tensor, state: State | None, mask: Tensor | None
) -> tuple[Tensor, State, State]:
    """Run one layer forwards over a padded batch; return output (B, T, H), further outputs (rows, ...), and state."""
    state = layer.start(x) if state is None else state
    return scan_padded(layer.prepare, layer.make_step(), (x, t), lengths, state, mask)


def _run_backwards(
    layer: RecurrentLayer, x: Tensor, lengths: Tensor | None, t: Tensor, state: State | None, mask: Tensor | None
) -> tuple[Tensor, State, State]:
    """Run one layer from the end of each sequence to its beginning.

    Time still increases, by the same intervals in reverse order: t'_s = t_1 + t_T - t_{T+1-s}.
    """
    first = t[:, :1]
    last = t[:, -1:] if lengths is None else t.gather(1, lengths.to(t.device, non_blocking=True)[:, None] - 1)
    backwards = first + last - reverse_sequences(t, lengths)
    output, rest, state = _run(layer, reverse_sequences(x, lengths), lengths, backwards, state, mask)
    return reverse_sequences(output, lengths), rest, state
