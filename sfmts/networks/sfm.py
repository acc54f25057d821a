"""The State-Frequency Memory network and its adaptive form (Hu & Qi, ICML 2017)."""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from sfmts._validation import check_choice
from sfmts.kernels import MEMORIES, SFMState, SFMWeights, resolve_backend, sfm_layer
from sfmts.kernels.dispatch import backend_here
from sfmts.networks.base import (
    INITIALISATIONS,
    NetworkOutput,
    SequenceNetwork,
    check_period_range,
    check_recurrent_dropout,
    chrono_bias,
    dropout_mask,
    register_network,
    reverse_sequences,
    step_times,
)

FREQUENCIES = ("fixed", "learned", "adaptive")
SPACINGS = ("uniform", "log", "zero")
TIMES = ("index", "normalized", "timestamps", "zero_until_last")
PHASES = ("product", "accumulated")
LOG_PERIODS = (3.0, 64.0)  # steps: from where a wave is still seen as one to the length of many a short series
TWO_PI = 2.0 * math.pi


def initial_frequencies(
    n_frequencies: int,
    spacing: str = "uniform",
    period_range: tuple[float, float] | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """omega_0 = 0, ..., omega_{K-1}, in float64; see ``spacing`` and ``period_range`` of :class:`SFM`."""
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
    """``period_range`` as a tuple, or a ValueError if it, or ``spacing``, does not go with the other options."""
    check_choice("spacing", spacing, SPACINGS)
    if spacing == "zero" and frequencies == "learned":
        raise ValueError(
            "spacing='zero' with frequencies='learned' would never move: abs(S) is an even function of omega, whose "
            "gradient at 0 is 0. Take frequencies='fixed' for a network without waves, or another spacing."
        )
    if period_range is None:
        if spacing == "log" and time != "index":
            raise ValueError(
                f"spacing='log' with time={time!r} needs period_range=(shortest, longest), in units of that time; "
                f"without it periods of {LOG_PERIODS[0]:g} to {LOG_PERIODS[1]:g} are meant, which are steps."
            )
        return None
    if spacing == "zero":
        raise ValueError(f"spacing='zero' has no periods, so that period_range must be None, not {period_range}.")
    periods = check_period_range(period_range)
    if frequencies == "adaptive" and periods[0] <= 1.0:
        raise ValueError(
            "frequencies='adaptive' lie between 0 and 2 pi (Eq. 16), so that the shortest of period_range must be "
            f"above 1, not {periods[0]}; give time stamps in a smaller unit."
        )
    return periods


class LayerState(NamedTuple):
    """Where one layer stands after a chunk: :class:`sfmts.kernels.SFMState`, and from when its times are counted.

    Parameters
    ----------
    re, im, z, theta : Tensor
        As in :class:`sfmts.kernels.SFMState`.
    t : Tensor of shape (B,), float64
        Time of the last step since ``origin``.
    origin : Tensor of shape (B,), float64
        The first time stamp where the origin of time does not matter, else 0.
    """

    re: Tensor
    im: Tensor
    z: Tensor
    t: Tensor
    theta: Tensor
    origin: Tensor


class SFMLayer(nn.Module):
    """One direction of one layer: parameters, and the call into the kernels.

    Parameters are blocks whose rows are ordered as in :class:`sfmts.kernels.SFMWeights`; their number is
    (3D + K)(M + N + 1) + K M (2D + M + N + 2), plus K if frequencies are learned or K (M + N + 1) if adaptive.
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
        rows = 3 * D + K + K * M + (K if frequencies == "adaptive" else 0)
        self.V = nn.Parameter(torch.empty(rows, N))
        self.W = nn.Parameter(torch.empty(rows, M))
        self.b = nn.Parameter(torch.empty(rows))
        self.U_o = nn.Parameter(torch.empty(K, M, D))
        self.W_z = nn.Parameter(torch.empty(K, M, D))
        self.b_z = nn.Parameter(torch.empty(K, M))
        self.omega = nn.Parameter(self._initial_omega().to(self.V)) if frequencies == "learned" else None

    def _initial_omega(self) -> Tensor:
        return initial_frequencies(len(self.b_z), self.spacing, self.period_range, self.V.device)

    def weights(self) -> SFMWeights:
        """The parameters as the kernels want them; frequencies are float64 whatever the rest is."""
        omega = None if self.omega is None else self.omega.double()
        if self.frequencies == "fixed":
            omega = self._initial_omega()
        return SFMWeights(self.V, self.W, self.b, self.U_o, self.W_z, self.b_z, omega)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None,
        t: Tensor,
        state: SFMState | None,
        backend: str,
        memory: str,
        feedback_mask: Tensor | None = None,
        amplitudes: list[Tensor] | None = None,
    ) -> tuple[Tensor, SFMState]:
        """Run over a padded batch; see :func:`sfmts.kernels.sfm_layer`."""
        return sfm_layer(
            x,
            lengths,
            t,
            self.weights(),
            state,
            backend=backend,
            memory=memory,
            accumulated=self.phase == "accumulated" and self.frequencies == "adaptive",
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
        ste.fill_(2.0)  # together with the next the joint forget gate starts at 0.78
        fre.fill_(2.0)
        if len(omega):  # start at the fixed set; 0 lies at minus infinity, so take a 16th of the next frequency
            share = self._initial_omega() / TWO_PI
            lowest = share[1] if K > 1 and share[1] > 0.0 else 1.0 / K
            omega.copy_(torch.logit(share.clamp_min(lowest / 16)))


@register_network("sfm")
class SFM(SequenceNetwork):
    """State-Frequency Memory network, stacked and in one or both directions.

    A state of D x K complex numbers is driven by the input at K frequencies; forget gates over states and over
    frequencies decide what is kept, and the read-out sees the amplitudes (Hu & Qi, ICML 2017, Eqs. 1-13 and 16).

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        D.
    n_frequencies : int
        K.
    n_outputs : int, optional
        M, the width of the output z, which is also what the gates read of the past.  As many as states by default.
    frequencies : {"fixed", "learned", "adaptive"}
        omega_k as ``spacing`` says; the same as the start of K learned numbers; or omega_t = 2 pi sigmoid(...) of the
        input and of z at each step (A-SFM, Eq. 16), which starts there, too, if ``init`` is "modern" or "chrono".
    spacing : {"uniform", "log", "zero"}
        omega_k = 2 pi k / K, as in the paper; omega_0 = 0 and periods 2 pi / omega_k that grow by equal factors; or
        omega_k = 0 for all k, so that S holds no waves and its columns differ by their gates alone.
    period_range : tuple of two floats, optional
        Shortest and longest period, those of omega_{K-1} and omega_1, in the unit of time; omega_0 = 0 stays outside.
        By default (K / (K - 1), K) for "uniform", which is the paper's 2 pi k / K, and 3 to 64 steps for "log".  Set it
        if time stamps do not count something like steps; "log" then has no default, nor for normalized time, where
        the unit is the length of the series.
    time : {"index", "normalized", "timestamps", "zero_until_last"}
        What t is in omega t: 1, 2, 3, ...; the step divided by the sequence's length, which looks ahead; the time
        stamps given to :meth:`forward`; or 0 until the last step's 1, as in the authors' released program.
    phase : {"accumulated", "product"}
        For adaptive frequencies: the sum of omega_t (t - t_previous), or omega_t t as the paper prints it.  A change
        of omega moves the product by t times as much, so that late in a series it is noise; sums train far better.
    n_layers : int
        Each layer reads the z of the one below.
    bidirectional : bool
        A second set of layers reads each sequence backwards; outputs are concatenated.
    recurrent_dropout : float
        Probability with which, in training, an entry of the fed-back z is dropped, one mask for a whole sequence.
    init : {"modern", "chrono", "paper", "authors"}
        Glorot and orthogonal matrices with open forget gates; the same with forget biases spread over
        ``max_length`` steps; U(-0.1, 0.1) as in the paper; rows of unit norm as in the authors' program.
    max_length : int
        Number of steps over which memories reach at the start, for ``init="chrono"``.
    backend : {"auto", "reference", "fused", "native", "cuda"}
        Kernel; see :func:`sfmts.kernels.resolve_backend`.  A network in evaluation mode that has left its GPU runs
        without "cuda".
    memory : {"fast", "recompute"}
        What training keeps for the backward pass: all it needs of every step, or the states of about sqrt(T) steps,
        between which the network runs once more.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global one by default.

    Raises
    ------
    ValueError
        If there is no such option, or ``period_range`` does not go with the others.

    Notes
    -----
    What is read of S is abs(S), an even function of each omega_k, and at t = 1, 2, 3, ... also a periodic one: omega_k
    and 2 pi - omega_k say the same.  Of K = 4 uniform frequencies three are therefore different, the columns 1 and 3
    differing by their gates alone; and learned ones stay where they start if that is 0 or, at whole t, pi.

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
        init: str = "modern",
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
        check_choice("init", init, INITIALISATIONS)
        check_choice("memory", memory, MEMORIES)
        resolve_backend(backend)
        n_outputs = n_states if n_outputs is None else n_outputs
        directions = 2 if bidirectional else 1
        self.n_channels, self.output_size = n_channels, n_outputs * directions
        self.n_states, self.n_frequencies, self.n_outputs = n_states, n_frequencies, n_outputs
        self.time, self.bidirectional = time, bidirectional
        self.recurrent_dropout = check_recurrent_dropout(recurrent_dropout)
        self.n_layers = n_layers
        self.causal = not bidirectional and time in ("index", "timestamps")
        self._backend, self.memory = backend, memory
        self.layers = nn.ModuleList(
            SFMLayer(
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
            assert isinstance(layer, SFMLayer)
            layer.initialise(init, max_length, generator)

    @property
    def backend(self) -> str:
        """Name of the kernel at work."""
        layer = self.layers[0]
        assert isinstance(layer, SFMLayer)
        return resolve_backend(self._backend_here(), layer.weights())

    def _backend_here(self) -> str:
        return backend_here(self._backend, next(self.parameters()).device, self.training)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        time: Tensor | None = None,
        state: list[LayerState] | None = None,
        generator: torch.Generator | None = None,
    ) -> NetworkOutput:
        """Read a batch; see :meth:`SequenceNetwork.forward`."""
        return self._run(x, lengths, time, state, generator)

    def state_amplitudes(
        self, x: Tensor, lengths: Tensor | None = None, *, time: Tensor | None = None, layer: int = -1
    ) -> Tensor:
        """Amplitudes ``|S|`` of one layer at each step (Eq. 4).

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
        lengths : Tensor of shape (B,), optional
        time : Tensor of shape (B, T), float64, optional
        layer : int
            Which of the layers; the last by default.

        Returns
        -------
        amplitudes : Tensor of shape (B, T, D, K), or (B, T, 2 D, K) if bidirectional
            Zero behind the end of a sequence.
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
        state: list[LayerState] | None,
        generator: torch.Generator | None,
        amplitudes: list[Tensor] | None = None,
        watched: int = -1,
        dropout: bool = True,
    ) -> NetworkOutput:
        if state is not None and (self.bidirectional or self.time not in ("index", "timestamps")):
            raise ValueError(
                "A network that needs the whole sequence (bidirectional, or time='normalized') cannot continue from a "
                "state; use time='index' or time='timestamps' in one direction."
            )
        directions = 2 if self.bidirectional else 1
        mask = None
        states: list[LayerState] = []
        for level in range(self.n_layers):
            outputs: list[Tensor] = []
            for layer in self.layers[level * directions : (level + 1) * directions]:
                given = None if state is None else state[len(states)]
                watch = amplitudes if level == watched else None
                if dropout and self.training and self.recurrent_dropout > 0.0:
                    mask = dropout_mask(x.new_empty(len(x), self.n_outputs), self.recurrent_dropout, generator)
                z, after = self._run_layer(layer, x, lengths, time, given, mask, len(outputs) == 1, watch)
                outputs.append(z)
                states.append(after)
            x = outputs[0] if directions == 1 else torch.cat(outputs, dim=2)
        finals = [after.z for after in states[-directions:]]
        return NetworkOutput(x, torch.cat(finals, dim=1), states)

    def _run_layer(
        self,
        layer: nn.Module,
        x: Tensor,
        lengths: Tensor | None,
        time: Tensor | None,
        state: LayerState | None,
        mask: Tensor | None,
        backward: bool,
        amplitudes: list[Tensor] | None,
    ) -> tuple[Tensor, LayerState]:
        """One layer in one direction, padded to padded."""
        t = self._clock(x, lengths, time, None if state is None else state.t)
        if backward:
            x = reverse_sequences(x, lengths)
            t = -reverse_sequences(t, lengths) if self.time == "timestamps" else t
        origin = self._origin(layer, t) if state is None else state.origin
        before = None if state is None else SFMState._make(state[:5])
        watched: list[Tensor] | None = None if amplitudes is None else []
        z, after = layer(x, lengths, t - origin[:, None], before, self._backend_here(), self.memory, mask, watched)
        if amplitudes is not None and watched is not None:
            amplitudes.extend(reverse_sequences(A, lengths) if backward else A for A in watched)
        return (reverse_sequences(z, lengths) if backward else z), LayerState(
            after.re, after.im, after.z, after.t, after.theta, origin
        )

    def _origin(self, layer: nn.Module, t: Tensor) -> Tensor:
        """From when a layer counts time, (B,): time stamps from the first one, where that changes nothing else.

        The gradient of a frequency is a sum of t times numbers that add up to 0, of which rounding, in single
        precision, leaves a remainder: with the seconds since 1970 for t it would be all there is.
        """
        if self.time == "timestamps" and not (layer.frequencies == "adaptive" and layer.phase == "product"):
            return t[:, 0]
        return torch.zeros_like(t[:, 0])

    def _clock(self, x: Tensor, lengths: Tensor | None, time: Tensor | None, start: Tensor | None) -> Tensor:
        """The t of each step, (B, T) in float64; ``start`` is the time of the step before the first."""
        if self.time in ("index", "timestamps"):
            return step_times(x, self.time, time, start)
        steps = step_times(x, "index", None, None)
        last = steps[:, -1] if lengths is None else lengths.to(x.device)
        if self.time == "normalized":
            return steps / last[:, None].double()
        return (steps == last[:, None]).double()
