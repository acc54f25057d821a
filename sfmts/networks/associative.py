"""The associative LSTM: an LSTM whose memory is a sum of key-value pairs over complex numbers."""

from typing import Any

import torch
from torch import Tensor, nn

from sfmts.kernels import SharedMatrix, State, Step
from sfmts.kernels._checks import refuse_second_derivatives
from sfmts.networks._common import chrono_bias, initialise_blocks
from sfmts.networks.base import register_network
from sfmts.networks.recurrent import RecurrentLayer, RecurrentNetwork


class _Memory(torch.autograd.Function):
    """One step after its matrix product, differentiated by hand with far fewer operations than by autograd.

    .. code-block:: text

        c_s <- f c_s + P_s r_i * (i u);   h = o bound(1/S sum_s P_s r_o * c_s)          * is complex

    Axes are sequence, part (re, im), copy and unit. A complex product a b is computed as Re a b + Im a (j b). The
    gradient of a factor is the gradient of the product times the conjugate of the other factor.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, c: Tensor, slots: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (B, 2 units) and the next memory from q (B, 9 units) and the memory c.

        ``slots`` (copies * units,) holds all permutations, and ``back`` their inverses.
        """
        copies, units = c.shape[2:]
        gates = q[:, : 3 * units].sigmoid().view(-1, 3, 1, units)
        f, i, o = gates.unbind(1)
        v, scale = _bound(q[:, 3 * units :].view(-1, 3, 2, units))  # r_i, r_o and u
        # P_s r_i (re, im) and P_s r_o (re, im) of every copy
        keys = v[:, :2].reshape(-1, 4, units).index_select(2, slots).view(-1, 4, copies, units)
        w = _with_times_j(i * v[:, 2])[:, :, :, None]
        # c_s <- f c_s + Re(P_s r_i) (i u) + Im(P_s r_i) (j i u)
        after = f[:, None] * c
        after.addcmul_(keys[:, :1], w[:, 0]).addcmul_(keys[:, 1:2], w[:, 1])
        # sum_s P_s r_o c_s = sum_s Re(P_s r_o) c_s + j sum_s Im(P_s r_o) c_s
        by_re, by_im = (keys[:, 2:, None] * after[:, None]).sum(3).unbind(1)
        y, y_scale = _bound((by_re + _times_j(by_im)).div_(copies))
        ctx.save_for_backward(c, gates, v, scale, keys, w, after, y, y_scale, back)
        return (o * y).view(-1, 2 * units), after

    @staticmethod
    def backward(ctx: Any, g_h: Tensor, g_after: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Return the gradients of q and c."""
        refuse_second_derivatives("network='associative_lstm'", "another network")
        c, gates, v, scale, keys, w, after, y, y_scale, back = ctx.saved_tensors
        f, i, o = gates.unbind(1)
        copies, units = c.shape[2:]
        g_h = g_h.view(-1, 2, units)
        g_y = _with_times_j(_bound_backward(o * g_h, y, y_scale).div_(copies))[:, :, :, None]
        # dL/dc_s = dL/dc_s(next step) + conj(P_s r_o) dL/dy
        g_c = torch.addcmul(g_after, keys[:, 2:3], g_y[:, 0]).addcmul_(keys[:, 3:], g_y[:, 1], value=-1.0)
        # dL/d(P_s r_i) = conj(i u) dL/dc_s;  dL/d(P_s r_o) = conj(c_s) dL/dy;  then back through the permutations
        g_keys = torch.cat([(g_c[:, None] * w).sum(2), (after[:, None] * g_y).sum(2)], dim=1)
        g_keys[:, 3].neg_()
        g_keys = g_keys.flatten(2).index_select(2, back).view(-1, 4, copies, units).sum(2)
        by_re, by_im = (keys[:, :2, None] * g_c[:, None]).sum(3).unbind(1)
        g_w = by_re - _times_j(by_im)
        g_v = _bound_backward(torch.cat([g_keys, i * g_w], dim=1).view(-1, 3, 2, units), v, scale)
        g_f, g_i, g_o = (g_c * c).sum((1, 2))[:, None], (g_w * v[:, 2]).sum(1, True), (g_h * y).sum(1, True)
        g_gates = torch.stack([g_f, g_i, g_o], dim=1).mul_(gates * (1.0 - gates))
        return torch.cat([g_gates.flatten(1), g_v.flatten(1)], dim=1), f[:, None] * g_c, None, None


def _bound(v: Tensor) -> tuple[Tensor, Tensor]:
    """Return complex v / max(1, abs(v)) and that factor; the parts of v lie along the last axis but one."""
    scale = v.square().sum(-2, keepdim=True).clamp_min_(1.0).rsqrt_()
    return v * scale, scale


def _bound_backward(gradient: Tensor, bounded: Tensor, scale: Tensor) -> Tensor:
    """Return the gradient of v: where abs(v) > 1, its part across v times the factor, and nothing along v."""
    radial = (gradient * bounded).sum(-2, keepdim=True).masked_fill_(scale == 1.0, 0.0)
    return torch.addcmul(gradient, radial, bounded, value=-1.0).mul_(scale)


def _times_j(v: Tensor) -> Tensor:
    """Return complex j v; the parts of v lie along axis 1."""
    re, im = v.unbind(1)
    return torch.stack([-im, re], dim=1)


def _with_times_j(v: Tensor) -> Tensor:
    """Return both v and j v, (B, 2, 2, units), of complex numbers v (B, 2, units)."""
    re, im = v.unbind(1)
    return torch.stack([re, im, -im, re], dim=1).view(-1, 2, *v.shape[1:])


class _AssociativeLayer(RecurrentLayer):
    """One direction of one layer.

    Rows of V, W and b, in blocks of H/2: the gates f, i, o, then the keys r_i and r_o, then u, each [Re; Im]. W has no
    rows of u if the update does not read the state.
    """

    permutations: Tensor

    def __init__(self, width: int, n_states: int, n_copies: int, update_reads_state: bool) -> None:
        super().__init__(n_states)
        self.n_units, self.n_copies = n_states // 2, n_copies
        self.n_rows = (9 if update_reads_state else 7) * self.n_units  # rows that read the state
        self.V = nn.Parameter(torch.empty(9 * self.n_units, width))
        self.W = nn.Parameter(torch.empty(self.n_rows, n_states))
        self.b = nn.Parameter(torch.empty(9 * self.n_units))
        self.register_buffer("permutations", torch.arange(self.n_units).repeat(n_copies, 1))

    def start(self, like: Tensor) -> State:
        memory = like.new_zeros(len(like), 2, self.n_copies, self.n_units)
        return like.new_zeros(len(like), self.output_size), memory

    def prepare(self, x: Tensor, t: Tensor) -> State:
        a = torch.addmm(self.b, x, self.V.T)
        return (a,) if self.n_rows == len(self.V) else a.split([self.n_rows, len(self.V) - self.n_rows], dim=1)

    def make_step(self) -> Step:
        W, permutations = SharedMatrix(self.W), self.permutations
        copies = torch.arange(len(permutations), device=permutations.device)[:, None]
        slots, back = permutations.flatten(), (permutations.argsort(dim=1) + copies * self.n_units).flatten()

        def step(inputs: State, state: State, mask: Tensor | None) -> tuple[State, State]:
            (a, *a_unread), (h, c) = inputs, state
            q = W(h if mask is None else h * mask, a)
            q = torch.cat([q, *a_unread], dim=1) if a_unread else q
            h, c = _Memory.apply(q, c, slots, back)
            return (h,), (h, c)

        return step

    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        W = self.W.new_empty(len(self.V), self.output_size)
        initialise_blocks(self.V, W, self.b, init, generator, blocks=9)
        self.W.copy_(W[: self.n_rows])
        for permutation in self.permutations:
            permutation.copy_(torch.randperm(self.n_units, generator=generator))
        forget, write, _ = self.b[: 3 * self.n_units].view(3, -1)
        if init == "chrono":
            forget.copy_(chrono_bias(self.n_units, max_length, generator))
            write.copy_(-forget)
        elif init == "modern":
            forget.fill_(1.0)


@register_network("associative_lstm")
class AssociativeLSTM(RecurrentNetwork):
    r"""Associative long short-term memory [1]_: an LSTM whose memory is a sum of key-value pairs of complex numbers.

    The H numbers of a state are H/2 complex ones, [Re; Im]. With the complex product :math:`\circledast` unit by unit,
    :math:`\mathrm{bound}(v) = v / \max(1, |v|)` and a fixed random permutation :math:`P_s` of the units for each of
    S copies of the memory:

    .. math::

        u, r_i, r_o &= \mathrm{bound}(V x_t + W h_{t-1} + b), \quad f, i, o = \sigma(V x_t + W h_{t-1} + b) \\
        c_{s,t} &= f \, c_{s,t-1} + P_s r_i \circledast (i \, u) \\
        h_t &= o \, \mathrm{bound} \Big( \frac{1}{S} \sum_s P_s r_o \circledast c_{s,t} \Big)

    The key r_i binds the value u into the memory, and r_o reads it. Other values in the memory add noise. The
    permutations make this noise independent from copy to copy, so more copies have less of it. Reading uses no
    conjugate, because the network learns r_o.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Hidden width H, even.
    n_copies : int
        Number of copies S of the memory. They share their parameters.
    update_reads_state : bool
        Whether the value u depends on the last output too. Otherwise it depends on the input only, with H^2 fewer
        parameters.
    n_layers : int
        Number of layers. Each layer reads the h of the layer below.
    bidirectional : bool
        Whether a second set of layers reads each sequence backwards. Outputs are concatenated.
    recurrent_dropout : float
        Probability of dropping an entry of the h that gates, keys and values read in training, with one mask per
        sequence.
    init : {"modern", "chrono", "paper", "authors"}, optional
        "modern", the default: Glorot and orthogonal matrices with forget bias 1. "chrono": the same with forget biases
        spread over ``max_length`` steps. "paper": U(-0.1, 0.1). "authors": rows of unit norm.
    max_length : int
        Number of steps over which memories reach initially, for ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters and of the permutations; PyTorch's global generator by default.

    Raises
    ------
    ValueError
        If ``n_states`` is odd or ``n_copies`` is less than 1.

    References
    ----------
    .. [1] Danihelka, Wayne, Uria, Kalchbrenner and Graves, "Associative long short-term memory", ICML 2016.

    Examples
    --------
    >>> from sfmts.networks import AssociativeLSTM
    >>> AssociativeLSTM(88, n_states=130).n_parameters  # 4.5H(H + N + 1)
    128115
    >>> AssociativeLSTM(88, n_states=130, update_reads_state=False).n_parameters  # H² less
    111215
    """

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        n_copies: int = 4,
        update_reads_state: bool = True,
        n_layers: int = 1,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        init: str | None = None,
        max_length: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        if n_states % 2 or n_states < 2:
            below, above = max(2, n_states - 1), max(2, n_states + 1)
            near = str(above) if below == above else f"{below} or {above}"
            raise ValueError(
                f"n_states={n_states} cannot be split into real and imaginary parts. Give an even number: {near}."
            )
        if n_copies < 1:
            raise ValueError(f"n_copies must be at least 1, not {n_copies}.")
        super().__init__(
            n_channels,
            lambda width: _AssociativeLayer(width, n_states, n_copies, update_reads_state),
            n_layers=n_layers,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            init=init,
            max_length=max_length,
            generator=generator,
        )
        self.n_states, self.n_copies = n_states, n_copies
