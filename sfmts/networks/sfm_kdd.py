"""The State-Frequency Memory of the KDD 2017 paper on stock prices, which reads squared amplitudes."""

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sfmts._validation import check_choice
from sfmts.kernels import SharedMatrix, State, Step, pack, unpack
from sfmts.kernels.reference import refuse_second_derivatives
from sfmts.networks.base import chrono_bias, register_network, reverse_sequences
from sfmts.networks.recurrent import RecurrentLayer, RecurrentNetwork, initialise_blocks


def hard_sigmoid(x: Tensor) -> Tensor:
    """min(max(x / 5 + 1 / 2, 0), 1), as in Keras; `torch.nn.Hardsigmoid` has the slope 1 / 6.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks.sfm_kdd import hard_sigmoid
    >>> hard_sigmoid(torch.tensor([-3.0, 0.0, 1.0, 3.0]))
    tensor([0.0000, 0.5000, 0.7000, 1.0000])
    """
    return nn.functional.hardsigmoid(1.2 * x)


# Each gate activation with its inverse, by which biases are set to where a gate shall start.
_GATES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "hard_sigmoid": (hard_sigmoid, lambda share: 5.0 * (share - 0.5)),
    "sigmoid": (torch.sigmoid, torch.logit),
}


class _Memory(torch.autograd.Function):
    """S_t = (f_ste f_fre) S_{t-1} + c e^{j omega t}, and |S_t|^2 U_a.

    By itself autograd would keep five tensors of S's size for each step, and a step takes longer to touch new memory
    than to compute; this keeps S.
    """

    @staticmethod
    def forward(
        ctx: Any, f_ste: Tensor, f_fre: Tensor, c: Tensor, S_before: Tensor, waves: Tensor, U_a: Tensor
    ) -> tuple[Tensor, Tensor]:
        S = c[:, None] * waves
        _pairs(S).addcmul_(_joint(f_ste, f_fre), _pairs(S_before))
        ctx.save_for_backward(f_ste, f_fre, S_before, waves, U_a, S)
        return S, S.square().mul_(U_a).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, dS: Tensor, dA: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("network='sfm_kdd'", "another network")
        f_ste, f_fre, S_before, waves, U_a, S = ctx.saved_tensors
        product = S * dA[:, None]
        dU_a = (product * S).sum(dim=(0, 2))[:, None]
        dS = product.mul_(2.0 * U_a).add_(dS)
        dc = (dS * waves).sum(dim=1)
        df = _pairs(dS * S_before).sum(dim=1)
        df_fre = (df * f_ste[:, None]).sum(dim=2)
        df_ste = df.mul_(f_fre[:, :, None]).sum(dim=1)
        _pairs(dS).mul_(_joint(f_ste, f_fre))
        return df_ste, df_fre, dc, dS, None, dU_a


def _pairs(S: Tensor) -> Tensor:
    """(n, 2K, D) as (n, 2, K, D): the real and the imaginary parts."""
    return S.view(len(S), 2, -1, S.shape[2])


def _joint(f_ste: Tensor, f_fre: Tensor) -> Tensor:
    """f_ste (n, D) times f_fre (n, K), for both parts: (n, 1, K, D)."""
    return (f_ste[:, None] * f_fre[:, :, None])[:, None]


class _KDDSFMLayer(RecurrentLayer):
    """One direction of one layer.

    The rows of V, W and b are those of o, f_ste, f_fre, i and c.  The state is h and S, whose real parts for the K
    frequencies stand above its imaginary parts: (n, 2K, D), so that what a step does to each entry runs along D.
    """

    def __init__(self, n_channels: int, n_states: int, n_frequencies: int, gate_activation: str) -> None:
        super().__init__(n_states)
        N, D, K = n_channels, n_states, n_frequencies
        self.gate_activation = gate_activation
        self.gate_sizes = (D, D, K, D, D)
        self.V = nn.Parameter(torch.empty(4 * D + K, N))
        self.W = nn.Parameter(torch.empty(4 * D + K, D))
        self.b = nn.Parameter(torch.empty(4 * D + K))
        self.U_a = nn.Parameter(torch.empty(K))
        self.b_a = nn.Parameter(torch.empty(D))
        self.watched: list[Tensor] | None = None  # collects each step's S

    def start(self, like: Tensor) -> State:
        D, K = len(self.b_a), len(self.U_a)
        return like.new_zeros(len(like), D), like.new_zeros(len(like), 2 * K, D)

    def prepare(self, x: Tensor, t: Tensor) -> State:
        K = len(self.U_a)
        k = torch.arange(K, dtype=torch.float64, device=t.device)
        theta = torch.remainder(t[:, None] * k, K) * (2.0 * math.pi / K)  # exact however late an integer t is
        waves = torch.cat([theta.cos(), theta.sin()], dim=1).to(x)
        return torch.addmm(self.b, x, self.V.T), waves[:, :, None]

    def make_step(self) -> Step:
        shared, (gate, _) = SharedMatrix(self.W), _GATES[self.gate_activation]
        D = len(self.b_a)
        *sizes, _ = self.gate_sizes
        U_a = self.U_a.repeat(2)[:, None]

        def step(inputs: State, state: State, mask: Tensor | None) -> tuple[State, State]:
            (a, waves), (h, S) = inputs, state
            gates, c = shared(h if mask is None else h * mask, a).split([sum(sizes), D], dim=1)
            o, f_ste, f_fre, i = gate(gates).split(sizes, dim=1)
            S, A = _Memory.apply(f_ste, f_fre, i * torch.tanh(c), S, waves, U_a)
            if self.watched is not None:
                self.watched.append(S)
            h = o * torch.tanh(A + self.b_a)
            return (h,), (h, S)

        return step

    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        for V, W, b in zip(*(part.split(self.gate_sizes) for part in (self.V, self.W, self.b)), strict=True):
            initialise_blocks(V, W, b, "modern" if init == "authors" else init, generator)
        self.b_a.zero_()
        if init == "paper":
            self.U_a.uniform_(-0.1, 0.1, generator=generator)
            return
        self.U_a.normal_(generator=generator)
        self.U_a.div_(self.U_a.norm())
        _, bias_of = _GATES[self.gate_activation]
        _, f_ste, f_fre, i, _ = self.b.split(self.gate_sizes)
        if init == "chrono":
            keep = torch.sigmoid(chrono_bias(len(f_ste), max_length, generator))
            f_ste.copy_(bias_of(keep))
            i.copy_(bias_of(1.0 - keep))
            f_fre.copy_(bias_of(torch.full_like(f_fre, 0.9975)))  # as in the SFM; 1 has no gradient
        else:
            f_ste.fill_(1.0 if init == "authors" else 2.0)
            f_fre.fill_(1.0 if init == "authors" else 2.0)


@register_network("sfm_kdd")
class KDDSFM(RecurrentNetwork):
    """The State-Frequency Memory that forecasts stock prices (Zhang, Aggarwal & Qi, KDD 2017), known from qlib.

    Beside the SFM of ICML 2017 (:class:`sfmts.networks.SFM`) it reads squared amplitudes, has one output gate instead
    of one for each frequency, and feeds back its D-wide output:

    .. code-block:: text

        o, f_ste, f_fre, i = gate(V x_t + W h_{t-1} + b)              D, D, K and D wide
        c   = i tanh(V_c x_t + W_c h_{t-1} + b_c)
        S_t = (f_ste f_fre) S_{t-1} + c e^{j omega_k t},              omega_k = 2 pi k / K
        h_t = o tanh(|S_t|^2 U_a + b_a)                               one U_a for all D rows of |S_t|^2

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        D, also the width of the output h.
    n_frequencies : int
        K.
    gate_activation : {"hard_sigmoid", "sigmoid"}
        Of all four gates; the first is min(max(x / 5 + 1 / 2, 0), 1) as in the program published with the paper.
    time : {"index", "timestamps"}
        What t is: 1, 2, 3, ..., or the time stamps given to :meth:`forward`.
    n_layers : int
        Each layer reads the h of the one below.
    bidirectional : bool
        A second set of layers reads each sequence backwards; outputs are concatenated.
    recurrent_dropout : float
        Probability with which, in training, an entry of the h that the gates read is dropped, one mask for a whole
        sequence.
    init : {"modern", "chrono", "paper", "authors"}
        Glorot and orthogonal matrices with forget gates of 0.8 together; the same with forget biases spread over
        ``max_length`` steps; U(-0.1, 0.1); as in that program, the first with forget biases of 1, which lets half of
        the state go in each step.
    max_length : int
        For ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global one by default.

    Notes
    -----
    The paper's last equation, p_t = W_p h_t + b_p, is left to the estimators' linear head, since nothing reads p
    within the recurrence; with it the count is D P + P larger.  qlib's port has another gate, `torch.nn.Hardsigmoid`,
    and one more linear layer behind p.

    With index time ``|S_t|^2`` does not depend on where counting began, so a series may be cut in front.  With a real
    input the columns k and K - k differ only by their forget gates.

    Only first derivatives.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks import KDDSFM
    >>> network = KDDSFM(2, n_states=50, n_frequencies=4)
    >>> network.n_parameters  # 4D(N + D + 1) + K(N + D + 1) + K + D
    10866
    >>> network(torch.zeros(3, 10, 2), torch.tensor([10, 7, 1])).states.shape
    torch.Size([3, 10, 50])
    """

    has_amplitudes: ClassVar[bool] = True

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        n_frequencies: int = 4,
        gate_activation: str = "hard_sigmoid",
        n_layers: int = 1,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        time: str = "index",
        init: str = "modern",
        max_length: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        check_choice("gate_activation", gate_activation, _GATES)
        super().__init__(
            n_channels,
            lambda width: _KDDSFMLayer(width, n_states, n_frequencies, gate_activation),
            n_layers=n_layers,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            time=time,
            init=init,
            max_length=max_length,
            generator=generator,
        )
        self.n_states, self.n_frequencies = n_states, n_frequencies

    @torch.no_grad()
    def state_amplitudes(self, x: Tensor, lengths: Tensor | None = None, *, time: Tensor | None = None) -> Tensor:
        """Amplitudes ``|S|``, of which the network reads the squares, in the last layer at each step; without dropout.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
        lengths : Tensor of shape (B,), optional
        time : Tensor of shape (B, T), float64, optional

        Returns
        -------
        amplitudes : Tensor of shape (B, T, D, K), or (B, T, 2 D, K) if bidirectional
            Zero behind the end of a sequence.
        """
        lengths = torch.full((len(x),), x.shape[1]) if lengths is None else lengths
        twin = copy.deepcopy(self).eval()  # this network may be at work in other threads
        watched: list[list[Tensor]] = []
        for layer in twin.layers[-2 if self.bidirectional else -1 :]:
            assert isinstance(layer, _KDDSFMLayer)
            layer.watched = []
            watched.append(layer.watched)
        twin(x, lengths, time=time)
        packed = pack(x, lengths)
        amplitudes: list[Tensor] = []
        for steps in watched:
            A = torch.linalg.vector_norm(_pairs(torch.cat(steps)), dim=1).transpose(1, 2)
            A = unpack(packed, A, x.shape[1])
            amplitudes.append(reverse_sequences(A, lengths) if amplitudes else A)
        return torch.cat(amplitudes, dim=2)
