"""What networks share whose steps are written in PyTorch: layers, directions, chunks and dropout are all here."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sfmts._validation import check_choice
from sfmts.kernels import State, Step, eager, scan_padded
from sfmts.networks.base import (
    INITIALISATIONS,
    NetworkOutput,
    SequenceNetwork,
    check_recurrent_dropout,
    dropout_mask,
    in_own_precision,
    initialise_input,
    reverse_sequences,
    step_times,
)

RECURRENT_TIMES = ("index", "timestamps")


class RecurrentState(NamedTuple):
    """Where a network stands after a chunk.

    Parameters
    ----------
    layers : list of tuples of Tensors with B rows
        State of each layer.
    t : Tensor of shape (B,), float64
        Time of the last step.
    """

    layers: list[State]
    t: Tensor


class RecurrentLayer(nn.Module, ABC):
    """One direction of one layer.  A subclass says what one step is.

    Rows are the steps of packed sequences, as in :func:`sfmts.kernels.scan`; a state is a tuple of tensors.

    Attributes
    ----------
    output_size : int
        Width of the output of a step.
    n_fed : int
        Width of what the gates read of the past, of which recurrent dropout drops entries; ``output_size`` unless the
        subclass sets it.
    """

    output_size: int
    n_fed: int

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = self.n_fed = output_size

    @abstractmethod
    def start(self, like: Tensor) -> State:
        """The state before the first step.

        Parameters
        ----------
        like : Tensor of shape (B, ...)
            As many sequences, and of the type and in the place that the state shall have.
        """

    @abstractmethod
    def prepare(self, x: Tensor, t: Tensor) -> State:
        """All that needs no state, for all steps at once: mostly x V^T + b.

        Parameters
        ----------
        x : Tensor of shape (rows, N)
        t : Tensor of shape (rows,), float64
            Time of each row.
        """

    @abstractmethod
    def make_step(self) -> Step:
        """The function of one step, ``step(inputs, state, mask) -> (outputs, state)``, for one forward pass.

        ``inputs`` are the rows of what :meth:`prepare` made; ``mask``, if not None, multiplies what the gates read of
        the past; the first output is the layer's, and the first part of the state is the output once more; other
        outputs go to :meth:`RecurrentNetwork.extra_loss`.  Matrices that act on the state belong into a
        :class:`sfmts.kernels.SharedMatrix`, made here.
        """

    @abstractmethod
    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        """Fill the parameters.

        Parameters
        ----------
        init : {"modern", "chrono", "paper", "authors"}
        max_length : int
            For ``init="chrono"``.
        generator : torch.Generator, optional
        """


class RecurrentNetwork(SequenceNetwork, ABC):
    """Stacked layers in one or both directions; see :class:`SequenceNetwork`.

    Parameters
    ----------
    n_channels : int
    make_layer : callable
        From the width of a layer's input to a :class:`RecurrentLayer`.
    n_layers : int
        Each layer reads the output of the one below.
    bidirectional : bool
        A second set of layers reads each sequence backwards; outputs are concatenated.
    recurrent_dropout : float
        Probability with which, in training, an entry of what the gates read of the past is dropped, one mask for a
        whole sequence.
    time : {"index", "timestamps"}
        What the layers take as the time of a step: 1, 2, 3, ..., or the time stamps given to :meth:`forward`.
    init : {"modern", "chrono", "paper", "authors"}
    max_length : int
        For ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters.
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
        init: str = "modern",
        max_length: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("init", init, INITIALISATIONS)
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

    def extra_loss(self, outputs: Sequence[State]) -> Tensor | None:
        """What training adds to the loss; nothing by default.

        Parameters
        ----------
        outputs : sequence of tuples of Tensors with a row for each step
            Of each layer, what its steps put out behind the layer's own output.
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
        """Read a batch; see :meth:`SequenceNetwork.forward`."""
        if state is not None and self.bidirectional:
            raise ValueError("A bidirectional network needs the whole sequence and cannot continue from a state.")
        t = step_times(x, self.time, time, None if state is None else state.t)
        further: list[State] = []
        states: list[State] = []
        directions = 2 if self.bidirectional else 1
        for level in range(self.n_layers):
            outputs: list[Tensor] = []
            for layer in self.layers[level * directions : (level + 1) * directions]:
                assert isinstance(layer, RecurrentLayer)
                given = None if state is None else state.layers[len(states)]
                mask = None
                if self.training and self.recurrent_dropout > 0.0:
                    mask = dropout_mask(x.new_empty(len(x), layer.n_fed), self.recurrent_dropout, generator)
                run = _run_backwards if len(outputs) == 1 else _run
                output, rest, after = run(layer, x, lengths, t, given, mask)
                outputs.append(output)
                further.append(rest)
                states.append(after)
            x = torch.cat(outputs, dim=2) if self.bidirectional else outputs[0]
        final = torch.cat([after[0] for after in states[-directions:]], dim=1)
        last = t[:, -1] if lengths is None else t.gather(1, lengths.to(t.device)[:, None] - 1)[:, 0]
        after_all = None if self.bidirectional else RecurrentState(states, last)
        return NetworkOutput(x, final, after_all, self.extra_loss(further))


def _run(
    layer: RecurrentLayer, x: Tensor, lengths: Tensor | None, t: Tensor, state: State | None, mask: Tensor | None
) -> tuple[Tensor, State, State]:
    """One layer forwards over a padded batch: its output (B, T, H), further outputs (rows, ...), and its state."""
    state = layer.start(x) if state is None else state
    return scan_padded(layer.prepare, layer.make_step(), (x, t), lengths, state, mask)


def _run_backwards(
    layer: RecurrentLayer, x: Tensor, lengths: Tensor | None, t: Tensor, state: State | None, mask: Tensor | None
) -> tuple[Tensor, State, State]:
    """The same from each sequence's end to its beginning; time goes on forwards, by the same intervals."""
    first = t[:, :1]
    last = t[:, -1:] if lengths is None else t.gather(1, lengths.to(t.device)[:, None] - 1)
    backwards = first + last - reverse_sequences(t, lengths)
    output, rest, state = _run(layer, reverse_sequences(x, lengths), lengths, backwards, state, mask)
    return reverse_sequences(output, lengths), rest, state


def initialise_blocks(
    V: Tensor, W: Tensor, b: Tensor, init: str, generator: torch.Generator | None, blocks: int = 1
) -> None:
    """Fill the matrices of ``blocks`` gates, one below the other in V (rows, N), W (rows, H) and b (rows,).

    ``"paper"``: U(-0.1, 0.1); ``"authors"``: rows of unit norm; else Glorot for V and orthogonal for W, gate by gate.
    Biases are 0; a cell opens its gates afterwards.
    """
    b.zero_()
    for part_V, part_W in zip(V.chunk(blocks), W.chunk(blocks), strict=True):
        initialise_input(part_V, init, generator)
        if init in ("paper", "authors"):
            initialise_input(part_W, init, generator)
        else:
            nn.init.orthogonal_(part_W, generator=generator)
