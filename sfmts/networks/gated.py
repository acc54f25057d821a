"""LSTM and GRU in one or both directions, on PyTorch's own kernels."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sfmts.kernels import SharedMatrix, State, Step, pack, scan_padded, unpack
from sfmts.networks._common import (
    check_init,
    check_recurrent_dropout,
    check_state,
    check_type,
    chrono_bias,
    dropout_mask,
    in_own_precision,
    reverse_sequences,
    run_layers,
)
from sfmts.networks.base import NetworkOutput, SequenceNetwork, register_network


class _Gated(SequenceNetwork):
    """Base class of LSTM and GRU.

    PyTorch's modules have two biases that act only as a sum, except in the GRU's candidate. The second bias is fixed at
    zero, so that parameter counts are those of the literature.
    """

    _module: ClassVar[type[nn.LSTM | nn.GRU]]
    _gates: ClassVar[int]

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        n_layers: int = 1,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        init: str | None = None,
        max_length: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        init = check_init(init)
        self.n_channels, self.n_states = n_channels, n_states
        self.output_size = n_states * (2 if bidirectional else 1)
        self.causal = not bidirectional
        self.bidirectional, self.recurrent_dropout = bidirectional, check_recurrent_dropout(recurrent_dropout)
        # Create it on "meta", so that PyTorch's own initialisation draws nothing from the global generator.
        self.cell = self._module(
            n_channels, n_states, n_layers, batch_first=True, bidirectional=bidirectional, device="meta"
        ).to_empty(device="cpu")
        for name, parameter in self.cell.named_parameters():
            if name.startswith("bias_hh"):
                nn.init.zeros_(parameter)
                parameter.requires_grad_(False)
            else:
                self._initialise(name, parameter, init, max_length, generator)

    @torch.no_grad()
    def _initialise(
        self, name: str, parameter: Tensor, init: str, max_length: int, generator: torch.Generator | None
    ) -> None:
        is_bias = name.startswith("bias")
        if init == "paper":
            parameter.zero_() if is_bias else parameter.uniform_(-0.1, 0.1, generator=generator)
        elif init == "authors":
            parameter.normal_(generator=generator)
            if not is_bias:
                parameter.div_(parameter.norm(dim=1, keepdim=True))
        elif is_bias:
            parameter.zero_()
            blocks = parameter.view(self._gates, -1)
            self._open_gates(blocks, chrono_bias(self.n_states, max_length, generator) if init == "chrono" else None)
        else:
            fill = nn.init.xavier_uniform_ if name.startswith("weight_ih") else nn.init.orthogonal_
            for block in parameter.split(self.n_states):
                fill(block, generator=generator)

    @staticmethod
    @abstractmethod
    def _open_gates(biases: Tensor, chrono: Tensor | None) -> None:
        """Set the biases (gates, H) of the gates that keep the state."""

    @staticmethod
    @abstractmethod
    def _make_step(W: SharedMatrix) -> Step:
        """Return the function of one step from V x + b and the state, with recurrent dropout; see `kernels.scan`."""

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        time: Tensor | None = None,
        state: Any = None,
        generator: torch.Generator | None = None,
    ) -> NetworkOutput:
        """Read a batch; see :meth:`SequenceNetwork.forward`. ``time`` is not used."""
        if state is not None and self.bidirectional:
            raise ValueError("A bidirectional network needs the whole sequence and cannot continue from a state.")
        check_type(x, next(self.parameters()))
        if state is not None:
            h = x.new_empty(self.cell.num_layers, len(x), self.n_states)
            check_state(state, (h, h) if isinstance(self.cell, nn.LSTM) else h)
        if self.training and self.recurrent_dropout > 0.0:
            return self._forward_with_dropout(x, lengths, state, generator)
        length = x.shape[1]
        if lengths is None or bool((lengths == length).all()):
            states, state = self.cell(x, state)
        else:
            packed = pack(x, lengths)
            output, state = self.cell(packed, state)
            states = unpack(packed, output.data, length)
        h = state[0] if isinstance(state, tuple) else state
        final = torch.cat([h[-2], h[-1]], dim=1) if self.bidirectional else h[-1]
        return NetworkOutput(states, final, None if self.bidirectional else state)

    @in_own_precision
    def _forward_with_dropout(
        self, x: Tensor, lengths: Tensor | None, state: Any, generator: torch.Generator | None
    ) -> NetworkOutput:
        """Read a batch with one mask per sequence on the h that the gates read, which PyTorch's kernels cannot do."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        if state is None:
            zeros = x.new_zeros(self.cell.num_layers * len(directions), len(x), self.n_states)
            state = (zeros, zeros) if isinstance(self.cell, nn.LSTM) else zeros
        starts = list(zip(*(state if isinstance(state, tuple) else (state,)), strict=True))

        def run(number: int, x: Tensor, backward: bool) -> tuple[Tensor, State]:
            suffix = f"l{number // len(directions)}{directions[-1] if backward else ''}"
            read = reverse_sequences(x, lengths) if backward else x
            output, last = self._masked_layer(read, lengths, suffix, starts[number], generator)
            return (reverse_sequences(output, lengths) if backward else output), last

        x, lasts = run_layers(x, self.cell.num_layers, len(directions), run)
        final = torch.cat([last[0] for last in lasts[-len(directions) :]], dim=1)
        if self.bidirectional:
            return NetworkOutput(x, final, None)
        after = tuple(torch.stack(parts) for parts in zip(*lasts, strict=True))
        return NetworkOutput(x, final, after if isinstance(self.cell, nn.LSTM) else after[0])

    def _masked_layer(
        self, x: Tensor, lengths: Tensor | None, suffix: str, start: State, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        """Run one layer in one direction over a padded batch; return its output and its last state."""
        V, W, b = (getattr(self.cell, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih"))
        mask = dropout_mask(start[0], self.recurrent_dropout, generator)
        step = self._make_step(SharedMatrix(W))
        output, _, last = scan_padded(lambda rows: (torch.addmm(b, rows, V.T),), step, (x,), lengths, start, mask)
        return output, last


@register_network("lstm")
class LSTM(_Gated):  # numpydoc ignore=PR02
    """Long short-term memory (Hochreiter & Schmidhuber, 1997, with forget gates), `torch.nn.LSTM`.

    .. code-block:: text

        i, f, o = sigmoid(V x_t + W h_{t-1} + b);  g = tanh(V_g x_t + W_g h_{t-1} + b_g)
        c_t = f c_{t-1} + i g;  h_t = o tanh(c_t)

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Hidden width H.
    n_layers : int
        Number of layers. Each layer reads the h of the layer below.
    bidirectional : bool
        Whether a second set of layers reads each sequence backwards. Outputs are concatenated.
    recurrent_dropout : float
        Probability of dropping an entry of the h that the gates read in training, with one mask per sequence. Training
        is then a loop in Python and slower.
    init : {"modern", "chrono", "paper", "authors"}, optional
        "modern", the default: Glorot and orthogonal matrices with forget bias 1. "chrono": the same with forget biases
        spread over ``max_length`` steps. "paper": U(-0.1, 0.1). "authors": rows of unit norm.
    max_length : int
        Number of steps over which memories reach initially, for ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global generator by default.

    Examples
    --------
    >>> from sfmts.networks import LSTM
    >>> LSTM(88, n_states=139).n_parameters  # 4H(H + N + 1)
    126768
    """

    _module = nn.LSTM
    _gates = 4

    @staticmethod
    def _open_gates(biases: Tensor, chrono: Tensor | None) -> None:
        if chrono is None:
            biases[1] = 1.0
        else:
            biases[1], biases[0] = chrono, -chrono

    @staticmethod
    def _make_step(W: SharedMatrix) -> Step:
        def step(inputs: State, state: State, mask: Tensor | None) -> tuple[State, State]:
            (a,), (h, c) = inputs, state
            i, f, g, o = W(h if mask is None else h * mask, a).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            return (h,), (h, c)

        return step


@register_network("gru")
class GRU(_Gated):  # numpydoc ignore=PR02
    """Gated recurrent unit (Cho et al., 2014) as in `torch.nn.GRU`: the reset gate acts after the matrix.

    .. code-block:: text

        r, z = sigmoid(V x_t + W h_{t-1} + b);  n = tanh(V_n x_t + b_n + r (W_n h_{t-1}))
        h_t  = (1 - z) n + z h_{t-1}

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Hidden width H.
    n_layers : int
        Number of layers. Each layer reads the h of the layer below.
    bidirectional : bool
        Whether a second set of layers reads each sequence backwards. Outputs are concatenated.
    recurrent_dropout : float
        Probability of dropping an entry of the h that the gates read in training, with one mask per sequence. Training
        is then a loop in Python and slower.
    init : {"modern", "chrono", "paper", "authors"}, optional
        "modern", the default: Glorot and orthogonal matrices. "chrono": the same with update biases spread over
        ``max_length`` steps. "paper": U(-0.1, 0.1). "authors": rows of unit norm.
    max_length : int
        Number of steps over which memories reach initially, for ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global generator by default.

    Examples
    --------
    >>> from sfmts.networks import GRU
    >>> GRU(88, n_states=164).n_parameters  # 3H(H + N + 1)
    124476
    """

    _module = nn.GRU
    _gates = 3

    @staticmethod
    def _open_gates(biases: Tensor, chrono: Tensor | None) -> None:
        if chrono is not None:
            biases[1] = chrono  # nn.GRU keeps z h_{t-1}

    @staticmethod
    def _make_step(W: SharedMatrix) -> Step:
        def step(inputs: State, state: State, mask: Tensor | None) -> tuple[State, State]:
            (a,), (h,) = inputs, state
            H = h.shape[1]
            (a_rz, a_n), (w_rz, w_n) = (
                part.split([2 * H, H], dim=1) for part in (a, W(h if mask is None else h * mask))
            )
            r, z = torch.sigmoid(a_rz + w_rz).chunk(2, dim=1)
            h = torch.lerp(torch.tanh(a_n + r * w_n), h, z)
            return (h,), (h,)

        return step
