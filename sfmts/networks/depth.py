"""Networks that are deep within a step: adaptive computation time and the recurrent highway network."""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sfmts._validation import check_choice
from sfmts.kernels import SharedMatrix, State, Step, pack, unpack
from sfmts.networks.base import chrono_bias, register_network, reverse_sequences
from sfmts.networks.recurrent import RecurrentLayer, RecurrentNetwork, initialise_blocks


def _rnn_step(a: Tensor, W: SharedMatrix, fed: Tensor, state: State) -> State:
    return (W(fed, a).tanh(),)


def _gru_step(a: Tensor, W: SharedMatrix, fed: Tensor, state: State) -> State:
    """The reset gate acts behind the matrix, as in `torch.nn.GRU`."""
    (h,), H = state, fed.shape[1]
    (a_gates, a_n), (w_gates, w_n) = a.split([2 * H, H], dim=1), W(fed).split([2 * H, H], dim=1)
    r, z = (a_gates + w_gates).sigmoid().chunk(2, dim=1)
    return (torch.lerp(torch.addcmul(a_n, r, w_n).tanh(), h, z),)


def _lstm_step(a: Tensor, W: SharedMatrix, fed: Tensor, state: State) -> State:
    _, c = state
    i, f, g, o = W(fed, a).chunk(4, dim=1)
    c = torch.addcmul(f.sigmoid() * c, i.sigmoid(), g.tanh())
    return o.sigmoid() * c.tanh(), c


_CellStep = Callable[[Tensor, SharedMatrix, Tensor, State], State]
# Gates, parts of the state and the step of each cell; gates stand in PyTorch's order.
_CELLS: dict[str, tuple[int, int, _CellStep]] = {
    "gru": (3, 1, _gru_step),
    "lstm": (4, 2, _lstm_step),
    "rnn": (1, 1, _rnn_step),
}


class _PonderingLayer(RecurrentLayer):
    """A cell that is applied to itself until its halting unit has had enough."""

    def __init__(self, n_inputs: int, n_states: int, cell: str, epsilon: float, max_ponder: int) -> None:
        super().__init__(n_states)
        self.cell, self.epsilon, self.max_ponder = cell, epsilon, max_ponder
        self.n_gates, self.n_parts, self.cell_step = _CELLS[cell]
        rows = self.n_gates * n_states
        self.V = nn.Parameter(torch.empty(rows, n_inputs + 1))  # the last column reads the flag of the first pass
        self.W = nn.Parameter(torch.empty(rows, n_states))
        self.b = nn.Parameter(torch.empty(rows))
        self.w_halt = nn.Parameter(torch.empty(1, n_states))
        self.b_halt = nn.Parameter(torch.empty(1))

    def start(self, like: Tensor) -> State:
        return (like.new_zeros(len(like), self.output_size),) * self.n_parts

    def prepare(self, x: Tensor, t: Tensor) -> State:
        a = torch.addmm(self.b, x, self.V[:, :-1].T)
        return a + self.V[:, -1], a

    def make_step(self) -> Step:
        W, w_halt = SharedMatrix(self.W), SharedMatrix(self.w_halt)

        def step(inputs: State, state: State, mask: Tensor | None) -> tuple[State, State]:
            flagged, a = inputs
            remainder = a.new_ones(len(a), 1)  # 1 minus the weights so far; exactly 0 once a sequence has halted
            mean = tuple(torch.zeros_like(part) for part in state)
            ponder, passes = torch.zeros_like(remainder), torch.zeros_like(remainder)
            for n in range(1, self.max_ponder + 1):
                fed = state[0] if mask is None else state[0] * mask
                state = self.cell_step(flagged if n == 1 else a, W, fed, state)
                halt = (w_halt(state[0]) + self.b_halt).sigmoid()
                # The last pass ends a step whatever the halting unit says: no weight is left that exceeds 1.
                ends = halt >= remainder - (self.epsilon if n < self.max_ponder else 1.0)
                # A sequence that has halted goes on with its mates at weight 0, which changes no bit of its mean.
                weight = torch.where(ends, remainder, halt)
                mean = tuple(torch.addcmul(m, weight, part) for m, part in zip(mean, state, strict=True))
                passes = passes + (remainder > 0.0)
                ponder = torch.where(ends, ponder + remainder, ponder)
                remainder = torch.where(ends, 0.0, remainder - halt)
                if not remainder.any():
                    break
            return (mean[0], ponder + passes, passes), mean

        return step

    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        H = self.output_size
        initialise_blocks(self.V, self.W, self.b, init, generator, blocks=self.n_gates)
        if init == "chrono" and self.cell != "rnn":
            chrono = chrono_bias(H, max_length, generator)
            self.b[H : 2 * H] = chrono  # the second gate is the one that keeps, in the GRU as in the LSTM
            if self.cell == "lstm":
                self.b[:H] = -chrono
        elif init == "modern" and self.cell == "lstm":
            self.b[H : 2 * H] = 1.0
        self.b_halt.fill_(1.0)
        if init == "paper":
            self.w_halt.uniform_(-0.1, 0.1, generator=generator)
        elif init == "authors":
            self.w_halt.normal_(generator=generator)
            self.w_halt.div_(self.w_halt.norm())
        else:
            nn.init.xavier_uniform_(self.w_halt, generator=generator)


@register_network("act")
class AdaptiveComputationTime(RecurrentNetwork):
    r"""Adaptive computation time [1]_: a recurrent cell that decides how often it is applied within a step.

    .. math::

        s^0 &= s_{t-1}, \quad s^n = S(s^{n-1}, [x_t, \delta_{n1}]), \quad p^n = \sigma(w \cdot s^n + b) \\
        N &= \min \{n : p^1 + \dots + p^n \ge 1 - \epsilon\}, \quad R = 1 - (p^1 + \dots + p^{N-1}) \\
        s_t &= p^1 s^1 + \dots + p^{N-1} s^{N-1} + R s^N

    The output is the h of s_t.  Training adds ``ponder_cost`` times the mean of N + R over all steps, whose gradient
    goes through R alone; with several layers and directions their means are added.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Hidden width H.
    cell : {"gru", "lstm", "rnn"}
        S: as in `torch.nn.GRU`, `torch.nn.LSTM` and `torch.nn.RNN`, with one set of biases.  Of an LSTM h and c are
        averaged.
    ponder_cost : float
        Price of a pass; [1]_ found the results to depend on it and searched 1e-4 to 1e-1.
    epsilon : float
        A weight of so much may stay undistributed, so that one pass can be enough.
    max_ponder : int
        Most passes in a step; the last one takes what weight is left.
    n_layers, bidirectional
        As in `torch.nn.GRU`.
    recurrent_dropout : float
        Probability with which, in training, an entry of the h that the gates read is dropped, one mask for a whole
        sequence.
    init : {"modern", "chrono", "paper", "authors"}
        Glorot and orthogonal matrices, and forget bias 1 in an LSTM; the same with update or forget biases spread
        over ``max_length`` steps; U(-0.1, 0.1); rows of unit norm.  The halting bias is 1, as in [1]_.
    max_length : int
        For ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global one by default.

    Raises
    ------
    ValueError
        If the cell is unknown or ``ponder_cost``, ``epsilon`` or ``max_ponder`` is out of range.

    References
    ----------
    .. [1] Graves, "Adaptive computation time for recurrent neural networks", arXiv:1603.08983, 2016.

    Examples
    --------
    >>> from sfmts.networks import AdaptiveComputationTime
    >>> AdaptiveComputationTime(88, n_states=164).n_parameters  # 3H(H + N + 2) + H + 1
    125133
    >>> AdaptiveComputationTime(88, n_states=164, cell="rnn").n_parameters  # H(H + N + 2) + H + 1
    41821
    """

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        cell: str = "gru",
        ponder_cost: float = 1e-3,
        epsilon: float = 0.01,
        max_ponder: int = 10,
        n_layers: int = 1,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        init: str = "modern",
        max_length: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        check_choice("cell", cell, _CELLS)
        if not 0.0 <= ponder_cost < math.inf:
            raise ValueError(f"ponder_cost must be 0 or greater, but is {ponder_cost}.")
        if not 0.0 < epsilon < 1.0:
            raise ValueError(f"epsilon must lie between 0 and 1, so that halting is possible, but is {epsilon}.")
        if max_ponder < 1:
            raise ValueError(f"max_ponder must be at least 1 pass, but is {max_ponder}.")
        super().__init__(
            n_channels,
            lambda width: _PonderingLayer(width, n_states, cell, epsilon, max_ponder),
            n_layers=n_layers,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            init=init,
            max_length=max_length,
            generator=generator,
        )
        self.n_states, self.cell, self.ponder_cost = n_states, cell, ponder_cost
        self._passes: list[Tensor] | None = None

    def extra_loss(self, outputs: Sequence[State]) -> Tensor:
        """The ponder cost, times the mean of N + R over all steps; see :meth:`RecurrentNetwork.extra_loss`."""
        if self._passes is not None:
            self._passes.extend(passes for _, passes in outputs)
        return self.ponder_cost * torch.stack([ponder.mean() for ponder, _ in outputs]).sum()

    @torch.no_grad()
    def ponder_times(self, x: Tensor, lengths: Tensor | None = None, *, state: object = None) -> Tensor:
        """Number of passes N at each step, without recurrent dropout.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
        lengths : Tensor of shape (B,), optional
        state : optional
            ``state`` of an earlier call of the network, to continue where that one ended.

        Returns
        -------
        passes : Tensor of shape (B, T, n), int64
            Of each layer and, in a bidirectional network, direction; zero behind the end of a sequence.
        """
        lengths = torch.full((len(x),), x.shape[1]) if lengths is None else lengths
        listening = copy.copy(self)  # shares all parameters; this network itself may be at work in another thread
        listening._passes, listening.training = [], False
        listening(x, lengths, state=state)
        packed = pack(x, lengths)
        passes = [unpack(packed, counted, x.shape[1]) for counted in listening._passes]
        if self.bidirectional:
            passes[1::2] = [reverse_sequences(counted, lengths) for counted in passes[1::2]]
        return torch.cat(passes, dim=2).long()


class _RecurrentHighwayLayer(RecurrentLayer):
    """Blocks H, T and, if uncoupled, C, one below the other, for each of the highway layers of a step."""

    def __init__(self, n_inputs: int, n_states: int, depth: int, coupled: bool) -> None:
        super().__init__(n_states)
        self.n_blocks = 2 if coupled else 3
        rows = self.n_blocks * n_states
        self.V = nn.Parameter(torch.empty(rows, n_inputs))
        self.W = nn.Parameter(torch.empty(depth, rows, n_states))
        self.b = nn.Parameter(torch.empty(depth, rows))

    def start(self, like: Tensor) -> State:
        return (like.new_zeros(len(like), self.output_size),)

    def prepare(self, x: Tensor, t: Tensor) -> State:
        first, *others = self.b
        # Rows of biases are views, and one sum over all steps makes their gradient.
        return torch.addmm(first, x, self.V.T), *(b.expand(len(x), -1) for b in others)

    def make_step(self) -> Step:
        H, products = self.output_size, [SharedMatrix(W) for W in self.W]

        def step(inputs: State, state: State, mask: Tensor | None) -> tuple[State, State]:
            (s,) = state
            for W, a in zip(products, inputs, strict=True):
                h, gates = W(s if mask is None else s * mask, a).split([H, a.shape[1] - H], dim=1)
                gates = gates.sigmoid()
                if gates.shape[1] == H:
                    s = torch.lerp(s, h.tanh(), gates)
                else:
                    transform, carry = gates.chunk(2, dim=1)
                    s = torch.addcmul(s * carry, h.tanh(), transform)
            return (s,), (s,)

        return step

    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        H = self.output_size
        for W, b in zip(self.W, self.b, strict=True):
            initialise_blocks(self.V, W, b, init, generator, blocks=self.n_blocks)  # V anew each time
        closed = torch.full((H,), 2.0)
        if init == "chrono":  # a unit is to be overwritten once in u steps, that is, in u * depth layers
            closed = chrono_bias(H, max_length, generator) + math.log(len(self.W))
        self.b[:, H : 2 * H] = -closed
        self.b[:, 2 * H :] = closed.repeat(self.n_blocks - 2)


@register_network("recurrent_highway")
class RecurrentHighway(RecurrentNetwork):
    r"""Recurrent highway network [1]_: several layers of transform and carry gates within each step.

    .. math::

        h^l &= \tanh(\delta_{l1} V_H x_t + W_H^l s^{l-1} + b_H^l), \quad
        \tau^l = \sigma(\delta_{l1} V_T x_t + W_T^l s^{l-1} + b_T^l) \\
        s^l &= h^l \circ \tau^l + s^{l-1} \circ (1 - \tau^l), \quad l = 1, \dots, d, \quad
        s^0 = s_{t-1}, \quad s_t = s^d

    Without coupling a third gate takes the place of :math:`1 - \tau`, and states are no longer bounded by 1.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Hidden width H.
    depth : int
        d, highway layers in a step.
    coupled : bool
        Whether the carry gate is 1 minus the transform gate, as in the models of [1]_.  The sizes that Hu and Qi (ICML
        2017, Table 1) compare with require ``coupled=False``.
    n_layers, bidirectional
        As in `torch.nn.RNN`; every one of the ``n_layers`` has its ``depth``.
    recurrent_dropout : float
        Probability with which, in training, an entry of the s that the gates read is dropped, one mask for a whole
        sequence and all layers within its steps.
    init : {"modern", "chrono", "paper", "authors"}
        Glorot and orthogonal matrices; the same with transform biases spread such that a state lasts from one step to
        ``max_length`` steps; U(-0.1, 0.1); rows of unit norm.  But for "chrono" transform biases are -2, as [1]_
        recommends, and those of a separate carry gate 2.
    max_length : int
        For ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global one by default.

    Raises
    ------
    ValueError
        If ``depth`` is less than 1.

    References
    ----------
    .. [1] Zilly, Srivastava, Koutník & Schmidhuber, "Recurrent highway networks", ICML 2017.

    Examples
    --------
    >>> from sfmts.networks import RecurrentHighway
    >>> RecurrentHighway(88, n_states=116).n_parameters  # 2HN + 2dH(H + 1)
    128992
    >>> RecurrentHighway(88, n_states=94, coupled=False).n_parameters  # 3HN + 3dH(H + 1)
    131976
    """

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        depth: int = 4,
        coupled: bool = True,
        n_layers: int = 1,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        init: str = "modern",
        max_length: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1 layer, but is {depth}.")
        super().__init__(
            n_channels,
            lambda width: _RecurrentHighwayLayer(width, n_states, depth, coupled),
            n_layers=n_layers,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            init=init,
            max_length=max_length,
            generator=generator,
        )
        self.n_states, self.depth, self.coupled = n_states, depth, coupled
