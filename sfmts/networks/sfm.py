"""The State-Frequency Memory network and its adaptive form (Hu & Qi, ICML 2017)."""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from sfmts._choices import check_choice
from sfmts.kernels import (
    MEMORIES,
    SFMState,
    SFMWeights,
    eager,
    pack,
    resolve_backend,
    sfm,
    sfm_layer,
    unpack,
)
from sfmts.kernels._checks import check_rows
from sfmts.kernels._export import is_exporting
from sfmts.kernels._registry import backend_here
from sfmts.kernels._sfm.layer import check_exportable
from sfmts.networks._common import (
    check_init,
    check_period_range,
    check_recurrent_dropout,
    check_state,
    chrono_bias,
    dropout_mask,
    reverse_sequences,
    run_layers,
    step_times,
)
from sfmts.networks.base import NetworkOutput, SequenceNetwork, register_network

FREQUENCIES = ("fixed", "learned", "adaptive")
SPACINGS = ("uniform", "log", "zero")
TIMES = ("index", "normalized", "timestamps", "zero_until_last")
PHASES = ("product", "accumulated")
LOG_PERIODS = (3.0, 64.0)  # in steps: from the shortest period that sampling still shows to a short series' length
TWO_PI = 2.0 * math.pi


def _initial_frequencies(
    n_frequencies: int,
    spacing: str = "uniform",
    period_range: tuple[float, float] | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Return omega_0 = 0, ..., omega_{K-1} in float64; see ``spacing`` and ``period_range`` of :class:`SFM`."""
    K = n_frequencies
    if spacing == "zero":
        return torch.zeros(K, dtype=torch.float64, device=device)
    if spacing == "uniform" and period_range is None:
        return TWO_PI * torch.arange(K, dtype=torch.float64, device=device) / K
    shortest, longest = period_range or LOG_PERIODS
    low, high = TWO_PI / longest, TWO_PI / shortest
    if spacing == "uniform":
        omega = torch.linspace(low, high, K - 1, dtype=torch.float64, device=device)
    else:
        omega = torch.linspace(math.log(low), math.log(high), K - 1, dtype=torch.float64, device=device).exp()
    return nn.functional.pad(omega, (1, 0))


def _check_spacing(
    spacing: str, period_range: tuple[float, float] | None, frequencies: str, time: str
) -> tuple[float, float] | None:
    """Return ``period_range`` as a tuple; raise ValueError if it or ``spacing`` contradicts the other options."""
    check_choice("spacing", spacing, SPACINGS)
    if spacing == "zero" and frequencies == "learned":
        raise ValueError(
            "spacing='zero' with frequencies='learned' would never train: abs(S) is an even function of omega, whose "
            "gradient at 0 is 0. Use frequencies='fixed' for a network without waves, or another spacing."
        )
    if period_range is None:
        if spacing == "log" and time != "index":
            raise ValueError(
                f"spacing='log' with time={time!r} needs period_range=(shortest, longest) in units of that time. "
                f"The default, {LOG_PERIODS[0]:g} to {LOG_PERIODS[1]:g}, is in steps."
            )
        return None
    if spacing == "zero":
        raise ValueError(f"spacing='zero' has no periods, so period_range must be None, not {period_range}.")
    periods = check_period_range(period_range)
    if frequencies == "adaptive" and periods[0] <= 1.0:
        raise ValueError(
            "frequencies='adaptive' lie between 0 and 2 pi (Eq. 16), so the shortest period of period_range must be "
            f"above 1, not {periods[0]}. Give time stamps in a smaller unit."
        )
    return periods


class _LayerState(NamedTuple):
    """State of one layer after a chunk: :class:`sfmts.kernels.SFMState`, and the origin of its times.

    Attributes
    ----------
    re, im, z, theta : Tensor
        As in :class:`sfmts.kernels.SFMState`.
    t : Tensor of shape (B,), float64
        Time of the last step since ``origin``.
    origin : Tensor of shape (B,), float64
        The first time stamp if the origin of time does not matter, otherwise 0.
    """

    re: Tensor
    im: Tensor
    z: Tensor
    t: Tensor
    theta: Tensor
    origin: Tensor


class _PackedBatch:
    """A padded batch as packed rows: step by step, without padding, the longest sequence first.

    Parameters
    ----------
    x : Tensor of shape (B, T, C)
        The padded batch.
    lengths : Tensor of shape (B,), optional
        True lengths; all are T by default, and the sequences keep their order.
    """

    def __init__(self, x: Tensor, lengths: Tensor | None) -> None:
        self._lengths, self._length = lengths, x.shape[1]
        self._backwards: Tensor | None = None
        self._packed = None if lengths is None else pack(x, lengths)
        if self._packed is None:
            self.rows, self.batch_sizes = self.pack(x), [len(x)] * x.shape[1]
        else:
            self.rows, self.batch_sizes = self._packed.data, self._packed.batch_sizes.tolist()

    def pack(self, padded: Tensor) -> Tensor:
        """Return the rows of a padded batch (B, T, ...)."""
        return padded.transpose(0, 1).flatten(0, 1) if self._lengths is None else pack(padded, self._lengths).data

    def unpack(self, rows: Tensor) -> Tensor:
        """Return the padded batch (B, T, ...) of rows."""
        if self._packed is None:
            return rows.view(self._length, -1, *rows.shape[1:]).transpose(0, 1)
        return unpack(self._packed, rows, self._length)

    def sort(self, values: Tensor) -> Tensor:
        """Return values of sequences (B, ...) in the order of the rows."""
        return values if self._packed is None else values[self._packed.sorted_indices]

    def unsort(self, values: Tensor) -> Tensor:
        """Return values of sequences (B, ...) in the order of the padded batch."""
        return values if self._packed is None else values[self._packed.unsorted_indices]

    def reverse(self, rows: Tensor) -> Tensor:
        """Reverse each sequence within its own length."""
        if self._backwards is None:
            # Row offset_s + q holds step s of sequence q. Its counterpart is offset_{L_q - 1 - s} + q.
            sizes = torch.tensor(self.batch_sizes)
            offsets = sizes.cumsum(0) - sizes
            steps = torch.arange(len(sizes)).repeat_interleave(sizes)
            sequence = torch.arange(len(steps)) - offsets[steps]
            lengths = (sizes[:, None] > torch.arange(self.batch_sizes[0])).sum(0)
            self._backwards = (offsets[lengths[sequence] - 1 - steps] + sequence).to(rows.device)
        return rows.index_select(0, self._backwards)


class _SFMLayer(nn.Module):
    """One direction of one layer: parameters, and the call into the kernels.

    Rows of the parameters are ordered as in :class:`sfmts.kernels.SFMWeights`. There are
    (3D + K)(M + N + 1) + K M (2D + M + N + 2) parameters, plus K for learned frequencies or K (M + N + 1) for adaptive
    ones.
    """

    def __init__(
        self,
        n_channels: int,
        n_states: int,
        n_frequencies: int,
        n_outputs: int,
        frequencies: str,
        phase: str,
        spacing: str = "uniform",
        period_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        N, D, K, M = n_channels, n_states, n_frequencies, n_outputs
        self.frequencies, self.phase = frequencies, phase
        self.spacing, self.period_range = spacing, period_range
        self.accumulated = phase == "accumulated" and frequencies == "adaptive"
        rows = 3 * D + K + K * M + (K if frequencies == "adaptive" else 0)
        self.V = nn.Parameter(torch.empty(rows, N))
        self.W = nn.Parameter(torch.empty(rows, M))
        self.b = nn.Parameter(torch.empty(rows))
        self.U_o = nn.Parameter(torch.empty(K, M, D))
        self.W_z = nn.Parameter(torch.empty(K, M, D))
        self.b_z = nn.Parameter(torch.empty(K, M))
        self.omega = nn.Parameter(self._initial_omega().to(self.V)) if frequencies == "learned" else None

    def _initial_omega(self) -> Tensor:
        return _initial_frequencies(len(self.b_z), self.spacing, self.period_range, self.V.device)

    def weights(self) -> SFMWeights:
        """Return the parameters as the kernels read them; frequencies are always float64."""
        omega = None if self.omega is None else self.omega.double()
        if self.frequencies == "fixed":
            omega = self._initial_omega()
        return SFMWeights(self.V, self.W, self.b, self.U_o, self.W_z, self.b_z, omega)

    def forward(
        self, x: Tensor, lengths: Tensor | None, t: Tensor, state: SFMState | None, backend: str
    ) -> tuple[Tensor, SFMState]:
        """Run over a padded batch; see :func:`sfmts.kernels.sfm_layer`."""
        return sfm_layer(x, lengths, t, self.weights(), state, backend=backend, accumulated=self.accumulated)

    def run(
        self,
        rows: Tensor,
        batch_sizes: list[int],
        t: Tensor,
        state: SFMState | None,
        backend: str,
        memory: str,
        feedback_mask: Tensor | None,
        amplitudes: list[Tensor] | None,
    ) -> tuple[Tensor, SFMState]:
        """Run over packed rows; see :func:`sfmts.kernels.sfm`."""
        weights = self.weights()
        return sfm(
            rows,
            batch_sizes,
            t,
            weights,
            SFMState.zeros(batch_sizes[0], weights) if state is None else state,
            backend=backend,
            memory=memory,
            accumulated=self.accumulated,
            feedback_mask=feedback_mask,
            amplitudes=amplitudes,
        )

    @torch.no_grad()
    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        """Fill the parameters; see ``init`` of :class:`SFM`."""
        weights = self.weights()
        D, K, M = weights.sizes
        if init == "paper":
            for weight in (self.V, self.W, self.U_o, self.W_z):
                weight.uniform_(-0.1, 0.1, generator=generator)
            self.b.zero_()
            self.b_z.zero_()
        elif init == "authors":
            for weight in (self.V, self.W, self.U_o, self.W_z, self.b_z):
                weight.normal_(generator=generator)
                weight.div_(weight.norm(dim=-1, keepdim=True))
            self.b.normal_(generator=generator)
            self.b[-K * M :] = nn.functional.normalize(self.b[-K * M :].view(K, M), dim=1).flatten()
        else:
            self._initialise_modern(weights, generator)
            ste, fre, g, *_ = self.b.split(weights.gate_sizes)
            if init == "chrono":
                ste.copy_(chrono_bias(D, max_length, generator))
                g.copy_(-ste)
                fre.fill_(6.0)

    def _initialise_modern(self, weights: SFMWeights, generator: torch.Generator | None) -> None:
        D, K, M = weights.sizes
        blocks = [size for size in weights.gate_sizes[:-1] if size] + [M] * K
        for V, W in zip(self.V.split(blocks), self.W.split(blocks), strict=True):
            nn.init.xavier_uniform_(V, generator=generator)
            nn.init.orthogonal_(W, generator=generator)
        self.U_o.normal_(0.0, D**-0.5, generator=generator)
        self.W_z.normal_(0.0, D**-0.5, generator=generator)
        self.b.zero_()
        self.b_z.zero_()
        ste, fre, _, _, omega, _ = self.b.split(weights.gate_sizes)
        ste.fill_(2.0)  # sigmoid(2)^2: the joint forget gate starts at 0.78
        fre.fill_(2.0)
        if len(omega):  # start at the fixed set; logit(0) is minus infinity, so take a 16th of the next frequency
            share = self._initial_omega() / TWO_PI
            lowest = share[1] if K > 1 and share[1] > 0.0 else 1.0 / K
            omega.copy_(torch.logit(share.clamp_min(lowest / 16)))


@register_network("sfm")
class SFM(SequenceNetwork):
    """State-Frequency Memory network (Hu & Qi, ICML 2017), stacked and in one or both directions.

    The input drives a state of D x K complex numbers at K frequencies. Forget gates over states and over frequencies
    decide what is kept, and the read-out sees the amplitudes (Eqs. 1 to 13 and 16 of the paper):

    .. code-block:: text

        f_ste, f_fre, g = sigmoid(W z_{t-1} + V x_t + b)             D, K and D wide      (6, 7, 9)
        i    = tanh(W_i z_{t-1} + V_i x_t + b_i)                     D wide               (10)
        S_t  = (f_ste f_fre) S_{t-1} + (g i) e^{j omega t}           D x K, complex       (1-3, 8)
        A_t  = |S_t|                                                                      (4)
        o^k  = sigmoid(U_o^k A_t^k + W_o^k z_{t-1} + V_o^k x_t + b_o^k)      M wide       (12)
        z_t  = sum_k o^k tanh(W_z^k A_t^k + b_z^k)                           M wide       (11, 13)

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Number of states D.
    n_frequencies : int
        Number of frequencies K.
    n_outputs : int, optional
        Width M of the output z, which is also what the gates read of the past. By default M = D.
    frequencies : {"fixed", "learned", "adaptive"}
        "fixed" keeps the omega_k of ``spacing``. "learned" trains K numbers that start there. "adaptive" computes
        omega_t = 2 pi sigmoid(W z_{t-1} + V x_t + b) at each step (A-SFM, Eq. 16); with ``init`` "modern" or "chrono"
        it also starts at the omega_k of ``spacing``.
    spacing : {"uniform", "log", "zero"}
        "uniform" is omega_k = 2 pi k / K, as in the paper. "log" is omega_0 = 0 and periods 2 pi / omega_k that grow by
        equal factors. "zero" is omega_k = 0 for all k, a network without waves whose columns differ by their gates
        only.
    period_range : tuple of two floats, optional
        Shortest and longest period, of omega_{K-1} and omega_1, in the unit of time; omega_0 = 0 is not affected. The
        default is (K / (K - 1), K) for "uniform", which gives 2 pi k / K, and 3 to 64 steps for "log". "log" has no
        default for time stamps or normalized time, whose unit is not a step.
    time : {"index", "normalized", "timestamps", "zero_until_last"}
        The t in omega t. "index" is 1, 2, 3, .... "normalized" is the step divided by the length of the sequence, which
        looks ahead. "timestamps" are those given to :meth:`forward`. "zero_until_last" is 0 until the last step, where
        it is 1, as in the authors' released program.
    phase : {"accumulated", "product"}
        For adaptive frequencies. "accumulated" is the sum of omega_t (t - t_previous). "product" is omega_t t, as the
        paper prints it: a change of omega moves it by t times as much, which is noise late in a series, so it trains
        much worse.
    n_layers : int
        Number of layers. Each layer reads the z of the layer below.
    bidirectional : bool
        Whether a second set of layers reads each sequence backwards. Outputs are concatenated.
    recurrent_dropout : float
        Probability of dropping an entry of the fed-back z in training, with one mask per sequence.
    init : {"modern", "chrono", "paper", "authors"}, optional
        "modern", the default: Glorot and orthogonal matrices with open forget gates. "chrono": the same with forget
        biases spread over ``max_length`` steps. "paper": U(-0.1, 0.1). "authors": rows of unit norm, as in the authors'
        program.
    max_length : int
        Number of steps over which memories reach initially, for ``init="chrono"``.
    backend : {"auto", "reference", "fused", "native", "cuda"}
        Kernel; see :func:`sfmts.kernels.resolve_backend`. In evaluation mode on another device than its GPU, the
        network does not use "cuda".
    memory : {"fast", "recompute"}
        What training keeps for the backward pass. "fast" keeps all that it needs of every step. "recompute" keeps the
        states of about sqrt(T) steps and runs the network again between them.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global generator by default.

    Raises
    ------
    ValueError
        If an option is invalid, or ``period_range`` contradicts the other options.

    Notes
    -----
    The read-out sees abs(S), which is an even function of each omega_k. At t = 1, 2, 3, ... it is also
    periodic, so omega_k and 2 pi - omega_k are equivalent. For K = 4 uniform frequencies only three are therefore
    different, and columns 1 and 3 differ by their gates only. A learned frequency that starts at 0, or at pi with whole
    t, stays there.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks import SFM
    >>> network = SFM(2, n_states=50, n_frequencies=4, n_outputs=1)
    >>> network.n_parameters
    1036
    >>> output = network(torch.zeros(3, 10, 2), torch.tensor([10, 7, 1]))
    >>> output.states.shape, output.final.shape
    (torch.Size([3, 10, 1]), torch.Size([3, 1]))
    """

    has_amplitudes: ClassVar[bool] = True

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        n_frequencies: int = 4,
        n_outputs: int | None = None,
        frequencies: str = "fixed",
        spacing: str = "uniform",
        period_range: tuple[float, float] | None = None,
        time: str = "index",
        phase: str = "accumulated",
        n_layers: int = 1,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        init: str | None = None,
        max_length: int = 100,
        backend: str = "auto",
        memory: str = "fast",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("frequencies", frequencies, FREQUENCIES)
        check_choice("time", time, TIMES)
        check_choice("phase", phase, PHASES)
        period_range = _check_spacing(spacing, period_range, frequencies, time)
        init = check_init(init)
        check_choice("memory", memory, MEMORIES)
        resolve_backend(backend)
        n_outputs = n_states if n_outputs is None else n_outputs
        directions = 2 if bidirectional else 1
        self.n_channels, self.output_size = n_channels, n_outputs * directions
        self.n_states, self.n_frequencies, self.n_outputs = n_states, n_frequencies, n_outputs
        self.frequencies, self.phase = frequencies, phase
        self.time, self.bidirectional = time, bidirectional
        self.recurrent_dropout = check_recurrent_dropout(recurrent_dropout)
        self.n_layers = n_layers
        self.causal = not bidirectional and time in ("index", "timestamps")
        self._backend, self.memory = backend, memory
        self.layers = nn.ModuleList(
            _SFMLayer(
                n_channels if level == 0 else self.output_size,
                n_states,
                n_frequencies,
                n_outputs,
                frequencies,
                phase,
                spacing,
                period_range,
            )
            for level in range(n_layers)
            for _ in range(directions)
        )
        for layer in self.layers:
            assert isinstance(layer, _SFMLayer)
            layer.initialise(init, max_length, generator)

    def use_backend(self, backend: str) -> None:
        """Compute with another kernel; see :meth:`SequenceNetwork.use_backend`.

        Parameters
        ----------
        backend : str
            Name of a kernel, or "auto".
        """
        resolve_backend(backend)
        self._backend = backend

    @property
    def backend(self) -> str:
        """Return the name of the kernel that runs.

        Returns
        -------
        backend : str
            "reference", "fused", "native" or "cuda".
        """
        layer = self.layers[0]
        assert isinstance(layer, _SFMLayer)
        return resolve_backend(self._backend_here(), layer.weights(), accumulated=layer.accumulated)

    def gpu_obstacle(self, device: torch.device) -> str | None:
        """Return why the network is slow on a GPU; see :meth:`SequenceNetwork.gpu_obstacle`.

        Parameters
        ----------
        device : torch.device
            An NVIDIA GPU, on which the CUDA kernel is tried.

        Returns
        -------
        reason : str or None
            None if the CUDA kernel runs there.
        """
        if self._backend not in ("auto", "cuda"):
            return f"backend={self._backend!r} is slow there"
        layer = self.layers[0]
        assert isinstance(layer, _SFMLayer)
        weights = SFMWeights._make(
            # The type of networks on GPUs.
            None if value is None else value.detach().to(device, value.dtype if name == "omega" else torch.float32)
            for name, value in layer.weights()._asdict().items()
        )
        backend = resolve_backend(self._backend, weights, accumulated=layer.accumulated)
        return None if backend == "cuda" else f"the CUDA kernel does not run there, and backend={backend!r} is slow"

    def _backend_here(self) -> str:
        return backend_here(self._backend, next(self.parameters()).device, self.training)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        time: Tensor | None = None,
        state: list[_LayerState] | None = None,
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
        state : object, optional
            ``state`` of an earlier call, to continue where that call ended.
        generator : torch.Generator, optional
            Source of dropout masks in training; PyTorch's global generator by default.

        Returns
        -------
        output : NetworkOutput
            The states are z.
        """
        return self._run(x, lengths, time, state, generator)

    def state_amplitudes(
        self, x: Tensor, lengths: Tensor | None = None, *, time: Tensor | None = None, layer: int = -1
    ) -> Tensor:
        """Return the amplitudes ``|S|`` of one layer at each step (Eq. 4), without dropout.

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
        amplitudes : Tensor of shape (B, T, D, K), or (B, T, 2 D, K) if bidirectional
            Zero after the end of a sequence.
        """
        amplitudes: list[Tensor] = []
        with torch.no_grad():
            self._run(x, lengths, time, None, None, amplitudes, range(self.n_layers)[layer], dropout=False)
        return torch.cat(amplitudes, dim=2)

    def _run(
        self,
        x: Tensor,
        lengths: Tensor | None,
        time: Tensor | None,
        state: list[_LayerState] | None,
        generator: torch.Generator | None,
        amplitudes: list[Tensor] | None = None,
        watched: int = -1,
        dropout: bool = True,
    ) -> NetworkOutput:
        if state is not None and (self.bidirectional or self.time not in ("index", "timestamps")):
            raise ValueError(
                "A network that needs the whole sequence (bidirectional, or time='normalized') cannot continue from a "
                "state. Use time='index' or time='timestamps' in one direction."
            )
        directions = 2 if self.bidirectional else 1
        if is_exporting():
            x, states = self._run_exported(x, lengths, time, state, amplitudes)
        else:
            x, states = self._run_packed(x, lengths, time, state, generator, amplitudes, watched, dropout)
        finals = [after.z for after in states[-directions:]]
        return NetworkOutput(x, torch.cat(finals, dim=1), states)

    @eager
    def _run_packed(
        self,
        x: Tensor,
        lengths: Tensor | None,
        time: Tensor | None,
        state: list[_LayerState] | None,
        generator: torch.Generator | None,
        amplitudes: list[Tensor] | None,
        watched: int,
        dropout: bool,
    ) -> tuple[Tensor, list[_LayerState]]:
        """Run all layers on packed rows; return the padded output and the layers' states."""
        directions = 2 if self.bidirectional else 1
        batch = _PackedBatch(x, lengths)
        if state is not None and (not isinstance(state, list) or len(state) != len(self.layers)):
            raise TypeError(f"state must be a list with the states of {len(self.layers)} layers that a call returned.")
        for before in state or ():
            if not isinstance(before, _LayerState):
                raise TypeError(f"state holds a {type(before).__name__}, but must hold what an earlier call returned.")
            for name, value in before._asdict().items():
                check_rows(f"state.{name}", value, len(x), "as x has")
            check_state(before.t, x.new_empty(len(x), dtype=torch.float64), "state.t")
        times = [self._times(x, lengths, time, state, False)]
        times += (
            [self._times(x, lengths, time, state, True)] if self.bidirectional and self.time == "timestamps" else []
        )
        packed_times = [batch.pack(t) for t, _ in times]

        def run(number: int, rows: Tensor, backward: bool) -> tuple[Tensor, _LayerState]:
            layer = self.layers[number]
            assert isinstance(layer, _SFMLayer)
            mask = None
            if dropout and self.training and self.recurrent_dropout > 0.0:
                mask = batch.sort(
                    dropout_mask(rows.new_empty(len(x), self.n_outputs), self.recurrent_dropout, generator)
                )
            before = None if state is None else SFMState._make(batch.sort(value) for value in state[number][:5])
            watch: list[Tensor] | None = [] if amplitudes is not None and number // directions == watched else None
            which = -1 if backward else 0  # without time stamps both directions have the same times
            z, after = layer.run(
                batch.reverse(rows) if backward else rows,
                batch.batch_sizes,
                packed_times[which],
                before,
                self._backend_here(),
                self.memory,
                mask,
                watch,
            )
            if amplitudes is not None and watch is not None:
                A = torch.cat(watch)
                amplitudes.append(batch.unpack(batch.reverse(A) if backward else A))
            unsorted = _LayerState._make([*(batch.unsort(value) for value in after), times[which][1]])
            return (batch.reverse(z) if backward else z), unsorted

        rows, states = run_layers(batch.rows, self.n_layers, directions, run)
        return batch.unpack(rows), states

    def _run_exported(
        self,
        x: Tensor,
        lengths: Tensor | None,
        time: Tensor | None,
        state: list[_LayerState] | None,
        amplitudes: list[Tensor] | None,
    ) -> tuple[Tensor, list[_LayerState]]:
        """Run all layers on padded batches, because `torch.export` records a padded layer as one operator."""
        dropout = self.training and self.recurrent_dropout > 0.0
        check_exportable(dropout=dropout, amplitudes=amplitudes is not None)

        def run(number: int, x: Tensor, backward: bool) -> tuple[Tensor, _LayerState]:
            t, origin = self._times(x, lengths, time, state, backward)
            before = None
            if state is not None:
                *parts, _ = state[number]
                before = SFMState(*parts)
            read = reverse_sequences(x, lengths) if backward else x
            z, after = self.layers[number](read, lengths, t, before, self._backend_here())
            return (reverse_sequences(z, lengths) if backward else z), _LayerState(*[*after, origin])

        return run_layers(x, self.n_layers, 2 if self.bidirectional else 1, run)

    def _times(
        self, x: Tensor, lengths: Tensor | None, time: Tensor | None, state: list[_LayerState] | None, backward: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the t of each step (B, T) since its origin, and the origin (B,); all layers share them.

        Reading backwards, time stamps increase by the same intervals in reverse order: t'_s = -t_{T+1-s}.
        """
        t = self._clock(x, lengths, time, None if state is None else state[0].t)
        if backward and self.time == "timestamps":
            t = -reverse_sequences(t, lengths)
        origin = self._origin(t) if state is None else state[0].origin
        return t - origin[:, None], origin

    def _origin(self, t: Tensor) -> Tensor:
        """Return the origin of time, (B,): the first time stamp, where that changes nothing else.

        The gradient of a frequency is a sum of t times numbers that add up to 0. In single precision rounding leaves a
        remainder of t times their error, which would dominate for large t such as seconds since 1970.
        """
        if self.time == "timestamps" and not (self.frequencies == "adaptive" and self.phase == "product"):
            return t[:, 0]
        return torch.zeros_like(t[:, 0])

    def _clock(self, x: Tensor, lengths: Tensor | None, time: Tensor | None, start: Tensor | None) -> Tensor:
        """Return the t of each step, (B, T) in float64; ``start`` is the time of the step before the first one."""
        if self.time in ("index", "timestamps"):
            return step_times(x, self.time, time, start)
        steps = step_times(x, "index", None, None)
        last = steps[:, -1] if lengths is None else lengths.to(x.device)
        if self.time == "normalized":
            return steps / last[:, None].double()
        return (steps == last[:, None]).double()
