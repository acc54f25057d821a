"""Networks whose units update at different rates: the clockwork RNN and the phased LSTM."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfmts._choices import check_number
from sfmts.kernels import SharedMatrix, State, Step
from sfmts.networks._common import check_period_range, chrono_bias, initialise_blocks
from sfmts.networks.base import register_network
from sfmts.networks.recurrent import RecurrentLayer, RecurrentNetwork


class _ClockworkLayer(RecurrentLayer):
    """One direction of one layer: modules of units, each with the rows of W and the columns that it reads."""

    periods: Tensor
    module_of_unit: Tensor

    def __init__(self, n_inputs: int, n_states: int, periods: Sequence[int], full: bool) -> None:
        super().__init__(n_states)
        least, more = divmod(n_states, len(periods))
        self.sizes = [least + (module < more) for module in range(len(periods))]
        self.ends = [sum(self.sizes[: module + 1]) for module in range(len(periods))]
        self.V = nn.Parameter(torch.empty(n_states, n_inputs))
        self.W = nn.ParameterList(
            torch.empty(size, n_states if full else n_states - end + size)
            for size, end in zip(self.sizes, self.ends, strict=True)
        )
        self.b = nn.Parameter(torch.empty(n_states))
        module_of_unit = torch.arange(len(periods)).repeat_interleave(torch.tensor(self.sizes))
        self.register_buffer("periods", torch.tensor(periods), persistent=False)
        self.register_buffer("module_of_unit", module_of_unit, persistent=False)

    def start(self, like: Tensor) -> State:
        return (like.new_zeros(len(like), self.output_size),)

    def prepare(self, x: Tensor, t: Tensor) -> State:
        due = torch.remainder(t[:, None] - 1.0, self.periods) == 0.0  # t counts from 1, the clocks from 0
        # The shapes of a step depend on what is due. On the CPU, the program waits for a GPU once, not at each step.
        return torch.addmm(self.b, x, self.V.T), due.cpu()

    def make_step(self) -> Step:
        W = torch.cat([functional.pad(rows, (self.output_size - rows.shape[1], 0)) for rows in self.W])
        products = [SharedMatrix(W[:end]) for end in self.ends]  # for the first module, the first two, ...

        def step(inputs: State, state: State, mask: Tensor | None) -> tuple[State, State]:
            (a, due), (h,) = inputs, state
            due_somewhere, due_everywhere = due.any(dim=0).tolist(), due.all(dim=0).tolist()
            if not any(due_somewhere):
                return (h,), (h,)
            last = max(module for module, is_due in enumerate(due_somewhere) if is_due)
            end = self.ends[last]
            fresh = products[last](h if mask is None else h * mask, a[:, :end]).tanh()
            if not all(due_everywhere[: last + 1]):  # sequences are at different steps, or periods do not nest
                fresh = torch.where(due.to(h.device)[:, self.module_of_unit[:end]], fresh, h[:, :end])
            h = fresh if end == h.shape[1] else torch.cat([fresh, h[:, end:]], dim=1)
            return (h,), (h,)

        return step

    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        for V, W, b in zip(self.V.split(self.sizes), self.W, self.b.split(self.sizes), strict=True):
            initialise_blocks(V, W, b, init, generator)


@register_network("clockwork_rnn")
class ClockworkRNN(RecurrentNetwork):
    r"""Clockwork RNN [1]_: a tanh network of modules, each of which updates only every T_i steps.

    .. math::

        h_t^{(i)} = \begin{cases}
            \tanh\big(\sum_{j \ge i} W_{ij} h_{t-1}^{(j)} + V_i x_t + b_i\big) & t \bmod T_i = 0 \\
            h_{t-1}^{(i)} & \text{else}
        \end{cases}, \quad t = 0, 1, 2, \dots

    A module reads itself and the slower modules. Blocks that are always zero are not stored, and a module that does not
    update costs nothing.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Hidden width H. Modules have equal sizes. If H is not a multiple of their number g, the first H mod g modules
        have one more unit.
    periods : sequence of int
        Periods T_i of the modules in steps, increasing.
    full : bool
        Whether every module reads every module. The sizes in Table 1 of Hu and Qi (ICML 2017) require it.
    n_layers : int
        Number of layers. Each layer reads the h of the layer below.
    bidirectional : bool
        Whether a second set of layers reads each sequence backwards. Outputs are concatenated.
    recurrent_dropout : float
        Probability of dropping an entry of the h that the modules read in training, with one mask per sequence.
    init : {"modern", "chrono", "paper", "authors"}, optional
        "modern", the default: Glorot and, module by module, orthogonal matrices. "chrono": the same, because the
        periods are the time scales. "paper": U(-0.1, 0.1). "authors": rows of unit norm. Biases are 0.
    max_length : int
        Not used; accepted because all networks accept it.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global generator by default.

    Raises
    ------
    ValueError
        If the periods are not increasing positive integers, or there are fewer units than modules.

    References
    ----------
    .. [1] Koutník, Greff, Gomez & Schmidhuber, "A clockwork RNN", ICML 2014.

    Examples
    --------
    >>> from sfmts.networks import ClockworkRNN
    >>> ClockworkRNN(88, n_states=355).n_parameters  # with k = H / g: k²g(g + 1)/2 + H(N + 1)
    107210
    >>> ClockworkRNN(88, n_states=295, full=True).n_parameters  # H(H + N + 1)
    113280
    """

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        periods: Sequence[int] = (1, 2, 4, 8, 16),
        full: bool = False,
        n_layers: int = 1,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        init: str | None = None,
        max_length: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        if not hasattr(periods, "__len__") or isinstance(periods, str | bytes) or getattr(periods, "ndim", 1) != 1:
            raise TypeError(f"periods must be a sequence of whole numbers of steps, not {periods!r}.")
        periods = tuple(periods)
        _check_periods(periods)
        if n_states < len(periods):
            raise ValueError(
                f"n_states must be at least {len(periods)}, a unit for each of the periods {periods}, not {n_states}."
            )
        super().__init__(
            n_channels,
            lambda width: _ClockworkLayer(width, n_states, periods, full),
            n_layers=n_layers,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            init=init,
            max_length=max_length,
            generator=generator,
        )
        self.n_states, self.periods, self.full = n_states, periods, full


def _check_periods(periods: tuple[int, ...]) -> None:
    for period in periods:
        check_number("periods", period)
    increasing = all(shorter < longer for shorter, longer in pairwise(periods))
    if not periods or not increasing or any(period < 1 or period % 1 != 0 for period in periods):
        raise ValueError(f"periods must be increasing positive whole numbers of steps, not {periods}.")


class _PhasedLSTMLayer(RecurrentLayer):
    """One direction of one layer; rows belong to the gates i, f, o and the candidate g."""

    def __init__(
        self,
        n_inputs: int,
        n_states: int,
        ratio_on: float,
        leak: float,
        peepholes: bool,
        period_range: tuple[float, float] | None,
    ) -> None:
        super().__init__(n_states)
        self.ratio_on, self.leak, self.period_range = ratio_on, leak, period_range
        self.V = nn.Parameter(torch.empty(4 * n_states, n_inputs))
        self.W = nn.Parameter(torch.empty(4 * n_states, n_states))
        self.b = nn.Parameter(torch.empty(4 * n_states))
        self.log_tau = nn.Parameter(torch.empty(n_states))
        self.s = nn.Parameter(torch.empty(n_states))
        self.p = nn.Parameter(torch.empty(3, n_states)) if peepholes else None

    def start(self, like: Tensor) -> State:
        zeros = like.new_zeros(len(like), self.output_size)
        return zeros, zeros

    def prepare(self, x: Tensor, t: Tensor) -> State:
        return torch.addmm(self.b, x, self.V.T), self.openness(t).to(x.dtype)

    def openness(self, t: Tensor) -> Tensor:
        """Return the time gate k (rows, H) at times t (rows,).

        The phase is computed in float64, because it is the small remainder of a large t.
        """
        phase = torch.remainder((t[:, None] - self.s.double()) / self.log_tau.double().exp(), 1.0)
        triangle = 1.0 - (2.0 / self.ratio_on * phase - 1.0).abs()
        return torch.where(phase < self.ratio_on, triangle, (self.leak if self.training else 0.0) * phase)

    def make_step(self) -> Step:
        H, W, p = self.output_size, SharedMatrix(self.W), self.p

        def step(inputs: State, state: State, mask: Tensor | None) -> tuple[State, State]:
            (a, k), (h, c) = inputs, state
            gates, g = W(h if mask is None else h * mask, a).split([3 * H, H], dim=1)
            if p is None:
                i, f, o = gates.sigmoid().chunk(3, dim=1)
                proposed = torch.addcmul(f * c, i, g.tanh())
            else:
                i, f, o = gates.chunk(3, dim=1)
                i, f = torch.addcmul(i, p[0], c).sigmoid(), torch.addcmul(f, p[1], c).sigmoid()
                proposed = torch.addcmul(f * c, i, g.tanh())
                o = torch.addcmul(o, p[2], proposed).sigmoid()
            # h_t = k h~ + (1 - k) h_{t-1}; where k = 0, lerp returns its first argument bit for bit.
            h, c = torch.lerp(h, o * proposed.tanh(), k), torch.lerp(c, proposed, k)
            return (h,), (h, c)

        return step

    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        H = self.output_size
        initialise_blocks(self.V, self.W, self.b, init, generator, blocks=4)
        if init == "chrono":
            chrono = chrono_bias(H, max_length, generator)
            self.b[:H], self.b[H : 2 * H] = -chrono, chrono
        elif init != "paper":
            self.b[H : 2 * H] = 2.0 if init == "authors" else 1.0
        if self.p is not None:
            self.p.zero_() if init in ("modern", "chrono") else self.p.uniform_(-0.1, 0.1, generator=generator)
        self._initialise_clocks(init, max_length, generator)

    def _initialise_clocks(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        if init == "authors" and self.period_range is None:
            self.log_tau.uniform_(10.0, 100.0, generator=generator).log_()
            self.s.uniform_(0.0, 1000.0, generator=generator)
            return
        shortest, longest = 1.0, max(2.0, float(max_length)) if init == "chrono" else math.exp(3.0)
        if self.period_range is not None:
            shortest, longest = self.period_range
        self.log_tau.uniform_(math.log(shortest), math.log(longest), generator=generator)
        self.s.uniform_(generator=generator).mul_(self.log_tau.exp())


@register_network("phased_lstm")
class PhasedLSTM(RecurrentNetwork):
    r"""Phased LSTM [1]_: an LSTM whose units are open only during a part of their own period.

    .. math::

        \varphi_t &= \frac{(t - s) \bmod \tau}{\tau}, \quad
        k_t = \begin{cases}
            2 \varphi_t / r & \varphi_t < r/2 \\
            2 - 2 \varphi_t / r & r/2 \le \varphi_t < r \\
            \text{leak} \cdot \varphi_t & \text{else}
        \end{cases} \\
        \tilde c_t &= f_t \circ c_{t-1} + i_t \circ g_t, \quad c_t = k_t \circ \tilde c_t + (1 - k_t) \circ c_{t-1} \\
        \tilde h_t &= o_t \circ \tanh \tilde c_t, \quad h_t = k_t \circ \tilde h_t + (1 - k_t) \circ h_{t-1}

    The period :math:`\tau` and the shift s are learned, the period through its logarithm, so that it stays positive.
    The share r of a period in which a unit is open is not learned. The slope of k is up to :math:`2 / (r \tau)`, 40 for
    a period of 1, so clip gradients. With few steps per period a unit may be open at none of them.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Hidden width H.
    time : {"index", "timestamps"}
        The time t of a step: 1, 2, 3, ..., or the time stamps of the series, for irregular sampling.
    ratio_on : float
        The share r, greater than 0 and at most 1.
    leak : float
        Factor of the phase in training, which lets gradients pass closed units. In evaluation it is 0.
    peepholes : bool
        Whether the gates also read c: i and f the last one, o the proposed one.
    period_range : tuple of two floats, optional
        Shortest and longest initial period, in the unit of time. Logarithms of periods are uniform between them, and
        shifts are uniform within the period. Set it if the unit of time stamps is not about a step. By default ``init``
        decides.
    n_layers : int
        Number of layers. Each layer reads the h of the layer below.
    bidirectional : bool
        Whether a second set of layers reads each sequence backwards. Outputs are concatenated.
    recurrent_dropout : float
        Probability of dropping an entry of the h that the gates read in training, with one mask per sequence.
    init : {"modern", "chrono", "paper", "authors"}, optional
        - "modern", the default: Glorot and orthogonal matrices, forget bias 1, periods exp(U(0, 3)), about 1 to 20, as
          in [1]_ for events;
        - "chrono": the same with forget biases and periods spread over ``max_length`` steps;
        - "paper": U(-0.1, 0.1), biases 0, periods exp(U(0, 3));
        - "authors": rows of unit norm and, as in the code of the authors of [1]_, forget bias 2, periods U(10, 100)
          and shifts U(0, 1000), for time stamps in milliseconds.
    max_length : int
        Number of steps over which memories reach initially, for ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global generator by default.

    Raises
    ------
    ValueError
        If ``ratio_on``, ``leak`` or ``period_range`` is out of range.

    References
    ----------
    .. [1] Neil, Pfeiffer & Liu, "Phased LSTM: accelerating recurrent network training for long or event-based
       sequences", NeurIPS 2016.

    Examples
    --------
    >>> from sfmts.networks import PhasedLSTM
    >>> PhasedLSTM(88, n_states=139).n_parameters  # 4H(H + N + 1) + 2H
    127046
    >>> PhasedLSTM(88, n_states=139, peepholes=True).n_parameters  # 3H more
    127463
    """

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        time: str = "index",
        ratio_on: float = 0.05,
        leak: float = 1e-3,
        peepholes: bool = False,
        period_range: tuple[float, float] | None = None,
        n_layers: int = 1,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        init: str | None = None,
        max_length: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        if not 0.0 < ratio_on <= 1.0:
            raise ValueError(f"ratio_on must be greater than 0 and at most 1, a share of the period, not {ratio_on}.")
        if not 0.0 <= leak <= 1.0:
            raise ValueError(f"leak must be from 0 to 1, a share of the state, not {leak}.")
        if period_range is not None:
            check_period_range(period_range)
        super().__init__(
            n_channels,
            lambda width: _PhasedLSTMLayer(width, n_states, ratio_on, leak, peepholes, period_range),
            n_layers=n_layers,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            time=time,
            init=init,
            max_length=max_length,
            generator=generator,
        )
        self.n_states = n_states
