"""The resonator, a network of our own based on the SFM: damped oscillators whose gates read only the input."""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from sfmts._choices import check_choice
from sfmts.kernels import resolve_resonator, resonator_layer
from sfmts.kernels._export import is_exporting
from sfmts.kernels._resonator.projection import linear, projection
from sfmts.networks._common import (
    check_init,
    check_period_range,
    check_recurrent_dropout,
    check_state,
    chrono_bias,
    dropout_mask,
    initialise_input,
    run_layers,
    step_times,
)
from sfmts.networks.base import NetworkOutput, SequenceNetwork, register_network

READOUTS = ("phase", "amplitude")
SPACINGS = ("log", "zero")
TIMES = ("index", "timestamps")
_NUMBERS_AT_ONCE = 1 << 22  # entries of S in one layer, without gradients
_SHORT_MEMORY = 5  # steps over which init="modern" spreads the forget gates


class ResonatorState(NamedTuple):
    """State of a network after a chunk, from which the next call continues.

    Attributes
    ----------
    layers : list of Tensors of shape (B, 2, K, D)
        Real and imaginary part of each layer's S.
    recent : list of Tensors of shape (n_lags, B, rows)
        V x of the last steps in each layer.
    t : Tensor of shape (B,), float64
        Time of the last step.
    """

    layers: list[Tensor]
    recent: list[Tensor]
    t: Tensor


def _choose(first: Tensor, a: ResonatorState, b: ResonatorState) -> ResonatorState:
    """Return each sequence's state from ``a`` where ``first`` (B,) is true, otherwise from ``b``."""
    return ResonatorState(
        [torch.where(first[:, None, None, None], *pair) for pair in zip(a.layers, b.layers, strict=True)],
        [torch.where(first[:, None], *pair) for pair in zip(a.recent, b.recent, strict=True)],
        torch.where(first, a.t, b.t),
    )


class _ResonatorLayer(nn.Module):
    """One layer; tensors are time first, (T, B, ...), so that a step is contiguous in memory.

    Rows of V and b, and columns of w, belong to f, g, i and o (D each) and, with a frequency gate, to f_fre (K).
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
        """Draw periods log-uniformly, with omega_0 = 0; the read-out starts as the real part of S[0], plus noise."""
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
        """Return outputs (T, B, D), S at each step (T, B, 2, K, D), and V x of n_lags earlier and of all steps."""
        if recent is None:
            recent = self.V.new_zeros(len(self.w), x.shape[1], len(self.V))
        kernel = resolve_resonator(backend, x)
        a, extended = projection(x, self.V, self.b, self.w, recent, kernel)
        h, history = resonator_layer(a, self.omega, self.alpha, self.beta, self.b_c, dt, S, mask, backend=kernel)
        return h + (x if self.W_skip is None else linear(x, self.W_skip, kernel)), history, extended


@register_network("resonator")
class Resonator(SequenceNetwork):
    """Layers of damped oscillators that are read by phase; a network of our own, not from the SFM's paper.

    Like the SFM (:class:`sfmts.networks.SFM`) it has a state of D x K complex numbers that rotate with omega and are
    damped by forget gates. Unlike the SFM it has no feedback: gates read the layer's input, of this step and of
    ``n_lags`` steps before, but not the state. The state is therefore a linear recurrence given the gates, and all
    matrices are applied to all steps at once. Several layers compensate for the missing feedback. The read-out sees
    real and imaginary parts, in the rotating frame, not only amplitudes. Each state learns frequencies of its own.

    .. code-block:: text

        a_t     = V x_t + w_1 V x_{t-1} + w_2 V x_{t-2} + b                      w: one number per row and lag
        f, g, o = sigmoid(a_t);  i = tanh(a_t)                                   D rows each
        S_t[k] = f f_fre[k] exp(-j omega[k] (t - t_previous)) S_{t-1}[k] + g i   for k = 0, ..., K - 1
        c_t    = sum_k alpha[k] Re S_t[k] + beta[k] Im S_t[k] + b_c
        y_t    = o tanh(c_t) + x_t                                               in the first layer W_skip x_t

    The output is the y of the last layer, divided by its root mean square and multiplied by learned gains.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Number of states D, also the width of all layers' outputs.
    n_frequencies : int
        Number of frequencies K.
    n_layers : int
        Number of layers. With one layer, gates see nothing that is older than ``n_lags`` steps.
    spacing : {"log", "zero"}
        Initial frequencies. "log" is omega_0 = 0 and periods 2 pi / omega drawn log-uniformly from ``period_range``.
        "zero" is 0 for all, without training: a network without waves.
    period_range : tuple of two floats
        Shortest and longest initial period, in steps or in the unit of the time stamps.
    readout : {"phase", "amplitude"}
        What c reads of S: real and imaginary parts, or c = sum_k alpha[k] abs(S[k]) + b_c as in the SFM.
    n_lags : int
        Number of earlier steps that the gates read. Each row has its own weights, which start at 0. Without lags the
        first layer cannot distinguish a jump from a level.
    frequency_gate : bool
        Whether to use K gates f_fre[k] = sigmoid(V_fre x_t + b_fre), as in the SFM. Otherwise f_fre is 1.
    time : {"index", "timestamps"}
        The time t of a step: 1, 2, 3, ..., or the time stamps given to :meth:`forward`.
    recurrent_dropout : float
        Probability of dropping an entry of o tanh(c) in training, with one mask per layer and sequence.
    init : {"modern", "chrono", "paper", "authors"}, optional
        "modern", the default: Glorot matrices and forget gates spread over about 5 steps. "chrono": the same over
        ``max_length`` steps, with input gates to match. "paper": U(-0.1, 0.1). "authors": rows of unit norm. The last
        two have zero biases.
    max_length : int
        Number of steps over which memories reach initially, for ``init="chrono"``.
    backend : {"auto", "reference", "fused", "native"}
        Kernel of the recurrence. "auto" is "native" on the CPU if it is available, otherwise "fused".
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global generator by default.

    Raises
    ------
    ValueError
        If an option is unknown, ``n_layers`` is less than 1, ``n_lags`` is negative, or ``period_range`` is not two
        positive numbers, the smaller one first.

    Notes
    -----
    Differences between time stamps drive the phase. The first step of a sequence has none and starts at phase 0, so
    adding a constant to all time stamps changes nothing.

    Training keeps S at all steps, 2 D K numbers per step and layer. Without gradients long series are read in pieces,
    so the memory needed is little more than that of the output.

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
        n_layers: int = 2,
        spacing: str = "log",
        period_range: tuple[float, float] = (3.0, 64.0),
        readout: str = "phase",
        n_lags: int = 2,
        frequency_gate: bool = False,
        time: str = "index",
        recurrent_dropout: float = 0.0,
        init: str | None = None,
        max_length: int = 100,
        backend: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("spacing", spacing, SPACINGS)
        check_choice("readout", readout, READOUTS)
        check_choice("time", time, TIMES)
        init = check_init(init)
        resolve_resonator(backend)
        if n_lags < 0:
            raise ValueError(f"n_lags must be at least 0, not {n_lags}.")
        period_range = check_period_range(period_range)
        self.n_channels, self.output_size, self.causal = n_channels, n_states, True
        self.n_states, self.n_frequencies, self.n_lags = n_states, n_frequencies, n_lags
        self.time, self._backend = time, backend
        self.recurrent_dropout = check_recurrent_dropout(recurrent_dropout)
        self.layers = nn.ModuleList()
        for level in range(n_layers):
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

    def use_backend(self, backend: str) -> None:
        """Compute with another kernel; see :meth:`SequenceNetwork.use_backend`.

        Parameters
        ----------
        backend : str
            Name of a kernel, or "auto".
        """
        resolve_resonator(backend)
        self._backend = backend

    @property
    def backend(self) -> str:
        """Return the name of the kernel that runs.

        Returns
        -------
        backend : str
            "reference", "fused" or "native".
        """
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
        """Read a batch; see :meth:`SequenceNetwork.forward`.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
            Sequences, padded to T steps.
        lengths : Tensor of shape (B,), optional
            True lengths; all are T by default.
        time : Tensor of shape (B, T), float64, optional
            Time stamps, for ``time="timestamps"``.
        state : ResonatorState, optional
            ``state`` of an earlier call, to continue where that call ended.
        generator : torch.Generator, optional
            Source of dropout masks in training; PyTorch's global generator by default.

        Returns
        -------
        output : NetworkOutput
            States, summary and the state for continuation.
        """
        dropout = self.training and self.recurrent_dropout > 0.0  # one mask per sequence, so not in pieces
        if torch.is_grad_enabled() or dropout or is_exporting():
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
        ends, sequences = ends.to(x.device, non_blocking=True), torch.arange(x.shape[0], device=x.device)
        last = ends - 1, sequences
        lags = torch.arange(self.n_lags, device=x.device)[:, None]
        after = ResonatorState([S[last] for S in histories], [a[ends + lags, sequences] for a in inputs], t[last])
        return NetworkOutput(y.transpose(0, 1), y[last], after)

    def _read_in_pieces(
        self, x: Tensor, lengths: Tensor | None, time: Tensor | None, state: ResonatorState | None, steps: int
    ) -> NetworkOutput:
        """Read ``steps`` steps at a time, because S at all steps would be much larger than the output."""
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
        """Return the amplitudes abs(S) of one layer at each step, without dropout.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
            Sequences, padded to T steps.
        lengths : Tensor of shape (B,), optional
            True lengths; all are T by default.
        time : Tensor of shape (B, T), float64, optional
            Time stamps, for ``time="timestamps"``.
        layer : int
            Number of the layer; the last by default.

        Returns
        -------
        amplitudes : Tensor of shape (B, T, D, K)
            Zero after the end of a sequence.
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
        """Return the last layer's y, each layer's S and V x, the padding (T, B, 1), and the times; all time first."""
        if state is not None:
            recent = x.new_empty(self.n_lags, len(x), sum(self.layers[0].gate_sizes))  # type: ignore[arg-type]
            S = x.new_empty(len(x), 2, self.n_frequencies, self.n_states)
            stamps, n_layers = x.new_empty(len(x), dtype=torch.float64), len(self.layers)
            check_state(state, ResonatorState([S] * n_layers, [recent] * n_layers, stamps), exact=False)
        t = step_times(x, self.time, time, None if state is None else state.t).T
        dt = None
        if self.time == "timestamps":
            dt = torch.diff(t, dim=0, prepend=t[:1] if state is None else state.t[None])
        y, outside = x.transpose(0, 1), None
        if lengths is not None:
            steps = torch.arange(x.shape[1], device=x.device)
            outside = (steps[:, None] >= lengths.to(x.device, non_blocking=True))[..., None]
            y = y.masked_fill(outside, 0.0)
            dt = None if dt is None else dt.masked_fill(outside[..., 0], 0.0)

        def run(level: int, y: Tensor, backward: bool) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            mask = None
            if dropout and self.training and self.recurrent_dropout > 0.0:
                mask = dropout_mask(x.new_empty(len(x), self.n_states), self.recurrent_dropout, generator)
            S, recent = (None, None) if state is None else (state.layers[level], state.recent[level])
            y, history, projected = self.layers[level](y, dt, S, recent, mask, self._backend)
            return y, (history, projected)

        y, kept = run_layers(y, len(self.layers), 1, run)
        return y, [history for history, _ in kept], [projected for _, projected in kept], outside, t
