"""A descendant of the SFM, ours and not the paper's: damped oscillators whose gates read the input alone."""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from sfmts._validation import check_choice
from sfmts.kernels import resolve_resonator, resonator_layer
from sfmts.kernels.projection import linear, projection
from sfmts.networks.base import (
    INITIALISATIONS,
    NetworkOutput,
    SequenceNetwork,
    check_period_range,
    check_recurrent_dropout,
    chrono_bias,
    dropout_mask,
    initialise_input,
    register_network,
    step_times,
)

READOUTS = ("phase", "amplitude")
SPACINGS = ("log", "zero")
TIMES = ("index", "timestamps")
_NUMBERS_AT_ONCE = 1 << 22  # of S in one layer, where no gradients are wanted
_SHORT_MEMORY = 5  # steps over which forget gates are spread unless told otherwise


class ResonatorState(NamedTuple):
    """Where a network stands after a chunk.

    Parameters
    ----------
    layers : list of Tensors of shape (B, 2, K, D)
        Real and imaginary parts of each layer's S.
    recent : list of Tensors of shape (n_lags, B, rows)
        V x of the last steps in each layer.
    t : Tensor of shape (B,), float64
        Time of the last step.
    """

    layers: list[Tensor]
    recent: list[Tensor]
    t: Tensor


def _choose(first: Tensor, a: ResonatorState, b: ResonatorState) -> ResonatorState:
    """The sequences' states in ``a`` where ``first`` (B,) says so, else in ``b``."""
    return ResonatorState(
        [torch.where(first[:, None, None, None], *pair) for pair in zip(a.layers, b.layers, strict=True)],
        [torch.where(first[:, None], *pair) for pair in zip(a.recent, b.recent, strict=True)],
        torch.where(first, a.t, b.t),
    )


class _ResonatorLayer(nn.Module):
    """One layer; tensors are time first, (T, B, ...), so that a step is one piece of memory.

    The rows of V and b, and the columns of w, are those of f, g, i and o (D each) and, with a frequency gate, f_fre
    (K).
    """

    def __init__(
        self,
        n_channels: int,
        n_states: int,
        n_frequencies: int,
        *,
        first: bool,
        readout: str,
        spacing: str,
        frequency_gate: bool,
        n_lags: int,
    ) -> None:
        super().__init__()
        N, D, K = n_channels, n_states, n_frequencies
        self.spacing = spacing
        self.gate_sizes = (D, D, D, D, K if frequency_gate else 0)
        self.V = nn.Parameter(torch.empty(sum(self.gate_sizes), N))
        self.b = nn.Parameter(torch.empty(sum(self.gate_sizes)))
        self.w = nn.Parameter(torch.empty(n_lags, sum(self.gate_sizes)))
        if spacing == "zero":
            self.register_buffer("omega", torch.zeros(K, D), persistent=False)
        else:
            self.omega = nn.Parameter(torch.empty(K, D))
        self.alpha = nn.Parameter(torch.empty(K, D))
        self.beta = nn.Parameter(torch.empty(K, D)) if readout == "phase" else None
        self.b_c = nn.Parameter(torch.empty(D))
        self.W_skip = nn.Parameter(torch.empty(D, N)) if first else None

    @torch.no_grad()
    def initialise(
        self, init: str, max_length: int, period_range: tuple[float, float], generator: torch.Generator | None
    ) -> None:
        D = self.alpha.shape[1]
        matrices = [*self.V.split([size for size in self.gate_sizes if size])]
        matrices += [] if self.W_skip is None else [self.W_skip]
        for matrix in matrices:
            initialise_input(matrix, init, generator)
        self.b.zero_()
        self.b_c.zero_()
        self.w.zero_()
        f, g, _, _, f_fre = self.b.split(self.gate_sizes)
        if init in ("modern", "chrono"):
            f.copy_(chrono_bias(D, max_length if init == "chrono" else _SHORT_MEMORY, generator))
            f_fre.fill_(6.0)
        if init == "chrono":
            g.copy_(-f)
        self._initialise_waves(period_range, generator)

    def _initialise_waves(self, period_range: tuple[float, float], generator: torch.Generator | None) -> None:
        """Periods spread by equal factors, omega_0 = 0; the read-out begins with the real part of that one."""
        K, D = self.alpha.shape
        if self.spacing == "log":
            shortest, longest = period_range
            share = torch.rand(K, D, generator=generator)
            self.omega.copy_(2.0 * math.pi / longest * (longest / shortest) ** share)
            self.omega[0] = 0.0
        for weight in (self.alpha, self.beta):
            if weight is not None:
                weight.normal_(0.0, 0.5 * K**-0.5, generator=generator)
                weight[0] = 1.0 if weight is self.alpha else 0.0

    def forward(
        self,
        x: Tensor,
        dt: Tensor | None,
        S: Tensor | None,
        recent: Tensor | None,
        mask: Tensor | None,
        backend: str,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs (T, B, D); S at each step, (T, B, 2, K, D); V x of these steps and, first, n_lags before them."""
        if recent is None:
            recent = self.V.new_zeros(len(self.w), x.shape[1], len(self.V))
        kernel = resolve_resonator(backend, x)
        a, extended = projection(x, self.V, self.b, self.w, recent, kernel)
        h, history = resonator_layer(a, self.omega, self.alpha, self.beta, self.b_c, dt, S, mask, backend=kernel)
        return h + (x if self.W_skip is None else linear(x, self.W_skip, kernel)), history, extended


@register_network("resonator")
class Resonator(SequenceNetwork):
    """Layers of damped oscillators that read their input by its phase; a network of ours, not one of the SFM's paper.

    What it keeps of the SFM (:class:`sfmts.networks.SFM`) is the state, D x K complex numbers that turn with omega and
    are damped by forget gates.  What it leaves is the way back: gates read the layer's input, of this step and the
    ``n_lags`` before, and nothing of the state.  So the state is a linear recurrence in what the gates let in, and all
    matrices are applied to all steps at once.  Several layers make up for it.  Real and imaginary parts are read, in
    the frame that turns with them, and not amplitudes alone; frequencies are learned for each state, from periods
    spread by equal factors.

    .. code-block:: text

        a_t     = V x_t + w_1 V x_{t-1} + w_2 V x_{t-2} + b                      w: a number for each row and lag
        f, g, o = sigmoid(a_t);  i = tanh(a_t)                                   D rows each
        S_t[k] = f f_fre[k] exp(-j omega[k] (t - t_previous)) S_{t-1}[k] + g i   for k = 0, ..., K - 1
        c_t    = sum_k alpha[k] Re S_t[k] + beta[k] Im S_t[k] + b_c
        y_t    = o tanh(c_t) + x_t                                               in the first layer W_skip x_t

    The output is the last layer's y, divided by its root mean square and multiplied by learned gains.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        D, also the width of all layers' outputs.
    n_frequencies : int
        K.
    depth : int
        Layers.  With one, gates know nothing of what came before the last ``n_lags`` steps.
    spacing : {"log", "zero"}
        Where frequencies start: omega_0 = 0 and periods 2 pi / omega drawn log-uniformly from ``period_range``; or all
        are 0 and stay there, a network without waves.
    period_range : tuple of two floats
        Shortest and longest period at the start, in the unit of time: steps, or that of the time stamps.
    readout : {"phase", "amplitude"}
        What c sees of S: real and imaginary parts, or c = sum_k alpha[k] abs(S[k]) + b_c as in the SFM.
    n_lags : int
        Steps before the present one that gates read, each row with weights of its own that start at 0.  Without them a
        first layer cannot tell a jump from a level.
    frequency_gate : bool
        Whether there are K gates f_fre[k] = sigmoid(V_fre x_t + b_fre), as in the SFM; else they are 1.
    time : {"index", "timestamps"}
        What t is: 1, 2, 3, ..., or the time stamps given to :meth:`forward`.
    recurrent_dropout : float
        Probability with which, in training, an entry of o tanh(c) is dropped, one mask a layer for a whole sequence.
    init : {"modern", "chrono", "paper", "authors"}
        Glorot matrices and forget gates spread over some 5 steps; the same over ``max_length`` steps, with input gates
        to match; U(-0.1, 0.1) and rows of unit norm, both with zero biases.
    max_length : int
        For ``init="chrono"``.
    backend : {"auto", "reference", "fused", "native"}
        Kernel of the recurrence, see :func:`sfmts.kernels.resonator_layer`.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global one by default.

    Raises
    ------
    ValueError
        If an option is none of its choices, ``depth`` is less than 1, ``n_lags`` is negative, or ``period_range`` is
        not two positive numbers, the smaller first.

    Notes
    -----
    The first differences between time stamps drive the phase; the first step of a sequence has none and begins at
    phase 0.  Moving all time stamps by a constant changes nothing.

    Training keeps S at all steps, 2 D K numbers each in every layer.  Without gradients, long series are read piece by
    piece, so that hardly more is needed than what comes out.

    A recurrence that is linear given the gates has many relatives, such as the Linear Recurrent Unit (Orvieto et al.,
    ICML 2023), whose decay is fixed, and selective state spaces (Gu and Dao, 2023), whose decay is real.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017.
    A. Orvieto et al., "Resurrecting Recurrent Neural Networks for Long Sequences", ICML 2023.
    A. Gu and T. Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks import Resonator
    >>> network = Resonator(2, n_states=12, n_frequencies=4)
    >>> network.n_parameters
    1308
    >>> output = network(torch.zeros(3, 10, 2), torch.tensor([10, 7, 1]))
    >>> output.states.shape, output.final.shape
    (torch.Size([3, 10, 12]), torch.Size([3, 12]))
    """

    has_amplitudes: ClassVar[bool] = True

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        n_frequencies: int = 4,
        depth: int = 2,
        spacing: str = "log",
        period_range: tuple[float, float] = (3.0, 64.0),
        readout: str = "phase",
        n_lags: int = 2,
        frequency_gate: bool = False,
        time: str = "index",
        recurrent_dropout: float = 0.0,
        init: str = "modern",
        max_length: int = 100,
        backend: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("spacing", spacing, SPACINGS)
        check_choice("readout", readout, READOUTS)
        check_choice("time", time, TIMES)
        check_choice("init", init, INITIALISATIONS)
        resolve_resonator(backend)
        if depth < 1:
            raise ValueError(f"depth={depth} must be at least 1.")
        if n_lags < 0:
            raise ValueError(f"n_lags={n_lags} must not be negative.")
        period_range = check_period_range(period_range)
        self.n_channels, self.output_size, self.causal = n_channels, n_states, True
        self.n_states, self.n_frequencies, self.n_lags = n_states, n_frequencies, n_lags
        self.time, self._backend = time, backend
        self.recurrent_dropout = check_recurrent_dropout(recurrent_dropout)
        self.layers = nn.ModuleList()
        for level in range(depth):
            layer = _ResonatorLayer(
                n_states if level else n_channels,
                n_states,
                n_frequencies,
                first=level == 0,
                readout=readout,
                spacing=spacing,
                frequency_gate=frequency_gate,
                n_lags=n_lags,
            )
            layer.initialise(init, max_length, period_range, generator)
            self.layers.append(layer)
        self.norm = nn.RMSNorm(n_states)

    @property
    def backend(self) -> str:
        """Name of the kernel at work."""
        return resolve_resonator(self._backend, self.norm.weight)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        time: Tensor | None = None,
        state: ResonatorState | None = None,
        generator: torch.Generator | None = None,
    ) -> NetworkOutput:
        """Read a batch; see :meth:`SequenceNetwork.forward`."""
        dropout = self.training and self.recurrent_dropout > 0.0  # a mask holds for the whole of a sequence
        if torch.is_grad_enabled() or dropout or torch.compiler.is_exporting():
            return self._read(x, lengths, time, state, generator)
        steps = max(_NUMBERS_AT_ONCE // (2 * x.shape[0] * self.n_frequencies * self.n_states), 1)
        if steps >= x.shape[1]:
            return self._read(x, lengths, time, state, generator)
        return self._read_in_pieces(x, lengths, time, state, steps)

    def _read(
        self,
        x: Tensor,
        lengths: Tensor | None,
        time: Tensor | None,
        state: ResonatorState | None,
        generator: torch.Generator | None,
    ) -> NetworkOutput:
        y, histories, inputs, outside, t = self._run(x, lengths, time, state, generator)
        y = self.norm(y)
        if outside is not None:
            y = y.masked_fill(outside, 0.0)
        ends = torch.full((x.shape[0],), x.shape[1]) if lengths is None else lengths
        ends, sequences = ends.to(x.device), torch.arange(x.shape[0], device=x.device)
        last = ends - 1, sequences
        lags = torch.arange(self.n_lags, device=x.device)[:, None]
        after = ResonatorState([S[last] for S in histories], [a[ends + lags, sequences] for a in inputs], t[last])
        return NetworkOutput(y.transpose(0, 1), y[last], after)

    def _read_in_pieces(
        self, x: Tensor, lengths: Tensor | None, time: Tensor | None, state: ResonatorState | None, steps: int
    ) -> NetworkOutput:
        """So many steps at a time, as S at all steps would be much larger than what comes out."""
        ends = x.new_full((x.shape[0],), x.shape[1], dtype=torch.long) if lengths is None else lengths.to(x.device)
        pieces: list[Tensor] = []
        for first in range(0, x.shape[1], steps):
            piece = slice(first, first + steps)
            part = x[:, piece]
            rest = (ends - first).clamp(0, part.shape[1])
            output = self._read(part, rest, None if time is None else time[:, piece], state, None)
            pieces.append(output.states)
            state = output.state if state is None else _choose(rest > 0, output.state, state)
        states = torch.cat(pieces, dim=1)
        return NetworkOutput(states, states[torch.arange(len(x), device=x.device), ends - 1], state)

    def state_amplitudes(
        self, x: Tensor, lengths: Tensor | None = None, *, time: Tensor | None = None, layer: int = -1
    ) -> Tensor:
        """Amplitudes abs(S) of one layer at each step, without dropout.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
        lengths : Tensor of shape (B,), optional
        time : Tensor of shape (B, T), float64, optional
        layer : int
            Which of the layers; the last by default.

        Returns
        -------
        amplitudes : Tensor of shape (B, T, D, K)
            Zero behind the end of a sequence.
        """
        with torch.no_grad():
            _, histories, _, outside, _ = self._run(x, lengths, time, None, None, dropout=False)
            amplitudes = torch.linalg.vector_norm(histories[layer], dim=2)
        if outside is not None:
            amplitudes = amplitudes.masked_fill(outside[..., None], 0.0)
        return amplitudes.permute(1, 0, 3, 2)

    def _run(
        self,
        x: Tensor,
        lengths: Tensor | None,
        time: Tensor | None,
        state: ResonatorState | None,
        generator: torch.Generator | None,
        dropout: bool = True,
    ) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor | None, Tensor]:
        """The last layer's y, each layer's S and V x, what is padding, (T, B, 1), and the times; all time first."""
        t = step_times(x, self.time, time, None if state is None else state.t).T
        dt = None
        if self.time == "timestamps":
            dt = torch.diff(t, dim=0, prepend=t[:1] if state is None else state.t[None])
        y, outside = x.transpose(0, 1), None
        if lengths is not None:
            steps = torch.arange(x.shape[1], device=x.device)
            outside = (steps[:, None] >= lengths.to(x.device))[..., None]
            y = y.masked_fill(outside, 0.0)
            dt = None if dt is None else dt.masked_fill(outside[..., 0], 0.0)
        histories: list[Tensor] = []
        inputs: list[Tensor] = []
        for level, layer in enumerate(self.layers):
            mask = None
            if dropout and self.training and self.recurrent_dropout > 0.0:
                mask = dropout_mask(x.new_empty(len(x), self.n_states), self.recurrent_dropout, generator)
            S, recent = (None, None) if state is None else (state.layers[level], state.recent[level])
            y, history, projected = layer(y, dt, S, recent, mask, self._backend)
            histories.append(history)
            inputs.append(projected)
        return y, histories, inputs, outside, t
