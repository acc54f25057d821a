"""Networks with a complex state: activations, gates, unitary matrices, the complex gated RNN and the unitary RNN.

Parameters and states are real tensors that hold real and imaginary parts, so they can be cast, saved and optimised like
all others. A complex product is one real product, [[Re W, -Im W], [Im W, Re W]] [Re h; Im h].
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from sfmts._choices import check_choice, check_number, check_size
from sfmts.kernels import SharedMatrix, State, Step
from sfmts.kernels._checks import check_tensor
from sfmts.networks._common import chrono_bias, initialise_blocks
from sfmts.networks.base import register_network
from sfmts.networks.recurrent import RecurrentLayer, RecurrentNetwork

__all__ = [
    "CReLU",
    "Cardioid",
    "Cayley",
    "ComplexActivation",
    "ComplexGate",
    "ImaginarySigmoid",
    "ModReLU",
    "ModSigmoid",
    "ModSigmoidBeta",
    "ModSigmoidGamma",
    "ModSigmoidProduct",
    "ModSigmoidSum",
    "PhaseAmplitude",
    "PhaseHirose",
    "PhaseReLU",
    "ProductPhaseReLU",
    "RealSigmoid",
    "ZReLU",
]

SMALLEST_MODULUS = 1e-6  # lower bound of |z| in divisions, so that z / |z| has a gradient at 0


# -- activations, C -> C


class ComplexActivation(nn.Module, ABC):
    """Base class of functions of each complex number z = x + jy = r e^(j theta) of a tensor."""

    def forward(self, z: Tensor) -> Tensor:
        """Apply the function to each number.

        Parameters
        ----------
        z : Tensor, complex
            Of any shape; with parameters for each unit, the last axis holds the units.

        Returns
        -------
        result : Tensor, complex
            Same shape and type.
        """
        return torch.complex(*self._of_parts(torch.stack([z.real, z.imag])))

    @abstractmethod
    def _of_parts(self, v: Tensor) -> Tensor:
        """Apply the function to real and imaginary parts that are stacked in front, (2, ...)."""


class ComplexGain(ComplexActivation, ABC):
    """Base class of activations that multiply z by a real number; apart from its sign, they keep the phase."""

    def _of_parts(self, v: Tensor) -> Tensor:
        return v * self._gain(v)

    @abstractmethod
    def _gain(self, v: Tensor) -> Tensor:
        """Return the factor, of shape (...), from parts of shape (2, ...)."""


class ZReLU(ComplexGain):
    """Complex ReLU (Guberman, 2016): z in the closed first quadrant, otherwise 0."""

    def _gain(self, v: Tensor) -> Tensor:
        return (v >= 0).all(0).to(v.dtype)


class ModReLU(ComplexGain):
    """Modulus ReLU (Arjovsky, Shah & Bengio, 2016, ICML): ReLU(r + b) e^(j theta), with a bias b for each unit.

    The function is equivariant to phase: rotating z rotates the result. Its slope is at most 1 for b <= 0. It is
    unbounded near 0 for b > 0, where numbers with r < 1e-6 are multiplied by 1 + 1e6 b.

    Parameters
    ----------
    n_units : int
        Size of the last axis. The biases start at 0, where the function is the identity.
    """

    def __init__(self, n_units: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_units))

    def _gain(self, v: Tensor) -> Tensor:
        r = _modulus(v)
        return (r + self.bias).relu() / r


class CReLU(ComplexActivation):
    """ReLU of the real part and of the imaginary part (Trabelsi et al., 2018, ICLR)."""

    def _of_parts(self, v: Tensor) -> Tensor:
        return v.relu()


class Cardioid(ComplexGain):
    """Cardioid (Virtue, Yu & Lustig, 2017, ICIP): (1 + cos theta) z / 2, ReLU on the real line; slope at most 1.066."""

    def _gain(self, v: Tensor) -> Tensor:
        return 0.5 + 0.5 * v[0] / _modulus(v)


class PhaseAmplitude(ComplexGain):
    """Phase-amplitude function (Hirose, 1992): tanh(r / m^2) e^(j theta), bounded by 1 and equivariant to phase.

    The scale m is learned, and its square is always positive.

    Parameters
    ----------
    m : float
        Initial value of m.
    """

    def __init__(self, m: float = 1.0) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.tensor(m))

    def _gain(self, v: Tensor) -> Tensor:
        r = _modulus(v)
        return (r / self.m.square()).tanh() / r


class PhaseReLU(ComplexGain):
    """Phase ReLU (Wolter & Yao, 2018, draft): z where sin(a theta + b pi) >= 0, otherwise 0.

    The phase theta is in [0, 2 pi). The draft learns a and b, but they have no gradient, so here they are fixed.

    Parameters
    ----------
    a, b : float
        With a = 1 and b = 0 the upper half plane passes.
    """

    def __init__(self, a: float = 1.0, b: float = 0.0) -> None:
        super().__init__()
        self.a, self.b = a, b

    def _gain(self, v: Tensor) -> Tensor:
        return (torch.sin(self.a * _phase(v) + self.b * math.pi) >= 0).to(v.dtype)


class ProductPhaseReLU(ComplexGain):
    """Product of two phase ReLUs (Wolter & Yao, 2018, draft).

    The function is z where sin(a theta + b pi) >= 0 and cos(c theta + d pi) >= 0, otherwise 0.

    Parameters
    ----------
    a, b, c, d : float
        With 1, 0, 1, 0 it is :class:`ZReLU`, except for rounding on the axes.
    """

    def __init__(self, a: float = 1.0, b: float = 0.0, c: float = 1.0, d: float = 0.0) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = a, b, c, d

    def _gain(self, v: Tensor) -> Tensor:
        theta = _phase(v)
        sine, cosine = torch.sin(self.a * theta + self.b * math.pi), torch.cos(self.c * theta + self.d * math.pi)
        return ((sine >= 0) & (cosine >= 0)).to(v.dtype)


class Cayley(ComplexActivation):
    """Integral of the Cayley transform, analytic in each half plane, with slopes of at most 1 [1]_.

    C(z) = z - 2j ln(z + j) for Im z >= 0, with C' = (z - j) / (z + j). For Im z < 0 it is conj(C(conj(z))). The draft
    divides the plane by the sign of Re z, which does not avoid the poles; it must be the sign of Im z. Across the real
    line the imaginary part jumps from ln(1 + x^2) below to -ln(1 + x^2) above.

    References
    ----------
    .. [1] Wolter and Yao, "Complex gated memory cells", draft, April 2018.
    """

    def _of_parts(self, v: Tensor) -> Tensor:
        x, y = v
        # z + j = x + j (1 + y), mirrored for Im z < 0; ln w = ln|w| + j arg w
        side = torch.where(y >= 0, 1.0, -1.0).to(v.dtype)
        above = 1.0 + side * y
        return torch.stack([x + 2.0 * torch.atan2(above, x), y - side * (x.square() + above.square()).log()])


def _dropped(h: Tensor, mask: Tensor) -> Tensor:
    """Drop the units of h (B, 2, n) where the mask (B, n) is 0, and scale the others to the norm of all units.

    With the usual division by the keep probability, or by its square root, states would grow from step to step, because
    neither a unitary matrix nor an unbounded activation shrinks them.
    """
    kept = h * mask.sign()[:, None]
    before, after = (v.square().sum((1, 2), keepdim=True) + SMALLEST_MODULUS**2 for v in (h, kept))
    return kept * (before / after).sqrt()


def _modulus(v: Tensor) -> Tensor:
    """Return r, but at least SMALLEST_MODULUS."""
    return v.square().sum(0).clamp_min(SMALLEST_MODULUS**2).sqrt()


def _angle(v: Tensor) -> Tensor:
    """Return theta in (-pi, pi], with gradient 0 where r < SMALLEST_MODULUS."""
    # The gradient grows as 1 / r, and is NaN at 0 in PyTorch 2.7.
    x, y = torch.where(v.square().sum(0) < SMALLEST_MODULUS**2, v.detach(), v)
    return torch.atan2(y, x)


def _phase(v: Tensor) -> Tensor:
    """Return theta in [0, 2 pi)."""
    return torch.remainder(torch.atan2(v[1], v[0]), 2.0 * math.pi)


ACTIVATIONS: dict[str, Callable[[int], ComplexActivation]] = {
    "modrelu": ModReLU,
    "hirose": lambda n_units: PhaseAmplitude(),
    "zrelu": lambda n_units: ZReLU(),
    "crelu": lambda n_units: CReLU(),
    "cardioid": lambda n_units: Cardioid(),
    "phase_relu": lambda n_units: PhaseReLU(),
    "product_phase_relu": lambda n_units: ProductPhaseReLU(),
    "cayley": lambda n_units: Cayley(),
}


# -- gates, C -> (0, 1), all from Wolter & Yao, 2018


class ComplexGate(nn.Module, ABC):
    """Base class of gates: a number between 0 and 1 for each complex number z = x + jy of a tensor.

    Parameters
    ----------
    shape : tuple of int
        Shape of each parameter of the gate, which broadcasts against z. By default there is one number for all.

    Attributes
    ----------
    initial : dict
        Initial values of the gate's parameters by name.
    """

    initial: ClassVar[Mapping[str, float]]

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        for name, value in self.initial.items():
            self.register_parameter(name, nn.Parameter(torch.full(shape, value)))

    def forward(self, z: Tensor) -> Tensor:
        """Return the gate of each number.

        Parameters
        ----------
        z : Tensor, complex
            Of any shape.

        Returns
        -------
        gate : Tensor, real
            Same shape; between 0 and 1.
        """
        return self._of_parts(torch.stack([z.real, z.imag]))

    @abstractmethod
    def _of_parts(self, v: Tensor) -> Tensor:
        """Return the gates from real and imaginary parts that are stacked in front, (2, ...)."""


class ModSigmoid(ComplexGate):
    """The published gate: sigmoid(alpha x + (1 - alpha) y) with alpha = sigmoid(a)."""

    initial: ClassVar = {"a": 0.0}
    a: Tensor

    def _of_parts(self, v: Tensor) -> Tensor:
        return torch.lerp(v[1], v[0], self.a.sigmoid()).sigmoid()


class ModSigmoidBeta(ComplexGate):
    """Gate with independent weights: sigmoid(alpha x + beta y) with alpha = sigmoid(a) and beta = sigmoid(b)."""

    initial: ClassVar = {"a": 0.0, "b": 1.0}
    a: Tensor
    b: Tensor

    def _of_parts(self, v: Tensor) -> Tensor:
        return (self.a.sigmoid() * v[0] + self.b.sigmoid() * v[1]).sigmoid()


class ModSigmoidGamma(ComplexGate):
    """Gate with unconstrained weights: sigmoid(a x + b y)."""

    initial: ClassVar = {"a": 0.0, "b": 1.0}
    a: Tensor
    b: Tensor

    def _of_parts(self, v: Tensor) -> Tensor:
        return (self.a * v[0] + self.b * v[1]).sigmoid()


class ModSigmoidProduct(ComplexGate):
    """Product of gates of both parts: sigmoid(x) sigmoid(y)."""

    initial: ClassVar = {}

    def _of_parts(self, v: Tensor) -> Tensor:
        x, y = v.sigmoid()
        return x * y


class ModSigmoidSum(ComplexGate):
    """Weighted mean of gates of both parts: alpha sigmoid(x) + (1 - alpha) sigmoid(y) with alpha = sigmoid(a)."""

    initial: ClassVar = {"a": 0.0}
    a: Tensor

    def _of_parts(self, v: Tensor) -> Tensor:
        x, y = v.sigmoid()
        return torch.lerp(y, x, self.a.sigmoid())


class RealSigmoid(ComplexGate):
    """Gate of the real part: sigmoid(x)."""

    initial: ClassVar = {}

    def _of_parts(self, v: Tensor) -> Tensor:
        return v[0].sigmoid()


class ImaginarySigmoid(ComplexGate):
    """Gate of the imaginary part: sigmoid(y)."""

    initial: ClassVar = {}

    def _of_parts(self, v: Tensor) -> Tensor:
        return v[1].sigmoid()


class PhaseHirose(ComplexGate):
    """Gate of modulus and phase: tanh(r / m^2) sigmoid(a theta + b) with theta in (-pi, pi]."""

    initial: ClassVar = {"m": 1.0, "a": 2.0, "b": 4.0}
    m: Tensor
    a: Tensor
    b: Tensor

    def _of_parts(self, v: Tensor) -> Tensor:
        return (_modulus(v) / self.m.square()).tanh() * (self.a * _angle(v) + self.b).sigmoid()


GATES: dict[str, type[ComplexGate]] = {
    "mod_sigmoid": ModSigmoid,
    "beta": ModSigmoidBeta,
    "gamma": ModSigmoidGamma,
    "prod": ModSigmoidProduct,
    "sum": ModSigmoidSum,
    "real": RealSigmoid,
    "imag": ImaginarySigmoid,
    "phase_hirose": PhaseHirose,
}


# -- unitary matrices


class UnitaryMatrix(nn.Module):
    """Unitary matrix with n^2 real parameters that any optimiser can train, by the scaled Cayley transform.

    U = (I + A)^-1 (I - A) D. A = (P - P^T) / 2 + j (P + P^T) / 2 is skew-Hermitian for any real matrix P, and D is a
    fixed diagonal of phases. Maduranga, Helfrich & Ye (AAAI 2019) also learn D, although P alone reaches all unitary
    matrices except a set of measure 0. U is unitary up to rounding for any P. Weight decay therefore keeps it unitary
    and draws it towards D.

    Parameters
    ----------
    size : int
        Number of rows n.
    """

    phases: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        size = check_size("size", size)
        self.P = nn.Parameter(torch.empty(size, size))
        self.register_buffer("phases", torch.empty(size))

    def forward(self) -> Tensor:
        """Compute the matrix.

        Returns
        -------
        U : Tensor of shape (2, n, n)
            Real and imaginary part.
        """
        skew = 0.5 * torch.complex(self.P - self.P.T, self.P + self.P.T)
        eye = torch.eye(len(skew), dtype=skew.dtype, device=skew.device)
        D = torch.polar(torch.ones_like(self.phases), self.phases)
        U = torch.linalg.solve(eye + skew, eye - skew) * D
        return torch.stack([U.real, U.imag])

    def initialise(self, generator: torch.Generator | None) -> None:
        """Draw random phases for D and a small P.

        The eigenvalues of A are within about -j to j, so that no eigenvalue of U starts near the pole at -1.

        Parameters
        ----------
        generator : torch.Generator or None
            Source of the parameters; PyTorch's global generator if None.
        """
        self.P.normal_(std=0.5 / math.sqrt(len(self.P)), generator=generator)
        self.phases.uniform_(-math.pi, math.pi, generator=generator)


@torch.no_grad()
def stiefel_step(W: Tensor, gradient: Tensor, learning_rate: float) -> Tensor:
    r"""Take one step of gradient descent that keeps a unitary matrix unitary [1]_.

    .. math::

        A = G W^* - W G^*, \quad W \leftarrow \Big( I + \frac{\lambda}{2} A \Big)^{-1}
        \Big( I - \frac{\lambda}{2} A \Big) W

    For a small rate :math:`\lambda` the loss falls by :math:`\lambda` times half the squared Frobenius norm of A. The
    function is for custom training loops. :class:`UnitaryMatrix` works with any optimiser instead.

    Parameters
    ----------
    W : Tensor of shape (n, n)
        Unitary, or orthogonal if real.
    gradient : Tensor of shape (n, n)
        G = dL/d Re W + j dL/d Im W, which is PyTorch's ``W.grad``.
    learning_rate : float
        The rate, at least 0.

    Returns
    -------
    W : Tensor of shape (n, n)
        Unitary up to rounding, which accumulates over many steps.

    References
    ----------
    .. [1] Wisdom, Powers, Hershey, Le Roux and Atlas, "Full-capacity unitary recurrent neural networks", NeurIPS 2016.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks import stiefel_step
    >>> W = torch.eye(2, dtype=torch.complex128, requires_grad=True)
    >>> (W[0, 1] + W[1, 0]).imag.backward()
    >>> stiefel_step(W, W.grad, learning_rate=0.5).imag
    tensor([[ 0.0000, -0.8000],
            [-0.8000,  0.0000]], dtype=torch.float64)
    """
    for name, value in (("W", W), ("gradient", gradient)):
        check_tensor(name, value, W, "W is")
        if value.ndim != 2 or value.shape != W.mT.shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, but W and gradient must be square and alike.")
        if value.dtype != W.dtype or not (value.is_floating_point() or value.is_complex()):
            raise TypeError(f"{name} is {value.dtype}, but W and gradient must both be complex or both be real.")
    check_number("learning_rate", learning_rate)
    A = gradient @ W.mH - W @ gradient.mH
    eye = torch.eye(len(W), dtype=W.dtype, device=W.device)
    return torch.linalg.solve(eye + 0.5 * learning_rate * A, (eye - 0.5 * learning_rate * A) @ W)


def _real_form(W: Tensor) -> Tensor:
    """Return the real matrix (2m, 2n) that acts on [Re h; Im h] as W = W[0] + j W[1] (m, n) acts on h."""
    re, im = W
    return torch.cat([torch.cat([re, -im], dim=1), torch.cat([im, re], dim=1)])


# -- the complex gated RNN


class _ComplexGatedLayer(RecurrentLayer):
    """One direction of one layer.

    Rows of V and b, in blocks of n: r and z (real parts), r and z (imaginary parts), candidate (real, imaginary). W has
    rows of r and then of z, real part first.
    """

    def __init__(self, width: int, n_units: int, gate: str, activation: str, unitary: bool) -> None:
        super().__init__(2 * n_units)
        self.n_fed = n_units
        self.V = nn.Parameter(torch.empty(6 * n_units, width))
        self.W = nn.Parameter(torch.empty(2, 2 * n_units, n_units))
        self.b = nn.Parameter(torch.empty(6 * n_units))
        self.gate = GATES[gate]((2, 1))
        self.activation = ACTIVATIONS[activation](n_units)
        self.unitary = UnitaryMatrix(n_units) if unitary else None
        self.U = None if unitary else nn.Parameter(torch.empty(2, n_units, n_units))

    def state_matrix(self) -> Tensor:
        """Return U: real and imaginary part, (2, n, n)."""
        if self.unitary is not None:
            unitary: Tensor = self.unitary()
            return unitary
        assert self.U is not None
        return self.U

    def start(self, like: Tensor) -> State:
        return (like.new_zeros(len(like), self.output_size),)

    def prepare(self, x: Tensor, t: Tensor) -> State:
        n = self.n_fed
        return torch.addmm(self.b, x, self.V.T).split([4 * n, 2 * n], dim=1)

    def make_step(self) -> Step:
        n, gate, activation = self.n_fed, self.gate, self.activation
        W, U = SharedMatrix(_real_form(self.W)), SharedMatrix(_real_form(self.state_matrix()))

        def step(inputs: State, state: State, mask: Tensor | None) -> tuple[State, State]:
            (a_gates, a), (h,) = inputs, state
            h = h.view(-1, 2, n)
            fed = h if mask is None else _dropped(h, mask)
            q = W(fed.reshape(-1, 2 * n), a_gates).view(-1, 2, 2, n)  # sequence, part, gate, unit
            r, z = gate._of_parts(q.transpose(0, 1)).split(1, dim=1)
            q = U((r * fed).view(-1, 2 * n), a).view(-1, 2, n)
            candidate = activation._of_parts(q.transpose(0, 1)).transpose(0, 1)
            # h_t = (1 - z) h_{t-1} + z f(U (r h_{t-1}) + V' x_t + b')
            h = torch.lerp(h, candidate, z).reshape(-1, 2 * n)
            return (h,), (h,)

        return step

    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        n = self.n_fed
        W = self.W.new_empty(6 * n, n)
        initialise_blocks(self.V, W, self.b, init, generator, blocks=6)
        if init in ("modern", "chrono"):
            W /= math.sqrt(2.0)  # so that both parts together have the gain of one orthogonal matrix
        self.W.copy_(W[: 4 * n].view_as(self.W))
        if self.unitary is not None:
            self.unitary.initialise(generator)
        else:
            assert self.U is not None
            self.U.copy_(W[4 * n :].view_as(self.U))
        biases = self.b[: 4 * n].view(2, 2, n)  # part, gate, unit
        if init in ("modern", "chrono") and self.unitary is not None:
            biases.fill_(4.0)
        if init == "chrono":
            biases[:, 1] = -chrono_bias(n, max_length, generator)


@register_network("complex_gated")
class ComplexGatedRNN(RecurrentNetwork):
    r"""Complex gated recurrent network [1]_: a GRU with a complex state, real gates and a unitary state matrix.

    .. math::

        r, z &= g(W h_{t-1} + V x_t + b) \\
        h_t &= (1 - z) \, h_{t-1} + z \, f(U (r \, h_{t-1}) + V' x_t + b')

    All matrices and biases are complex, and U is unitary. The gate g maps complex numbers to (0, 1), and f maps them to
    complex numbers. A z near 1 writes; in `torch.nn.GRU` it keeps. The output is [Re h; Im h], of width 2n.

    There are three differences from the authors' code. U stays unitary by its parametrisation (:class:`UnitaryMatrix`),
    which works with every optimiser, instead of a special step (:func:`stiefel_step`). The modReLU has a bias for each
    unit, as in its source. Neither modReLU nor Hirose's activation divides by 0 at 0.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Number n of complex units.
    gate : {"mod_sigmoid", "beta", "gamma", "prod", "sum", "real", "imag", "phase_hirose"}
        The gate g: :class:`ModSigmoid`, as in [1]_, :class:`ModSigmoidBeta`, :class:`ModSigmoidGamma`,
        :class:`ModSigmoidProduct`, :class:`ModSigmoidSum`, :class:`RealSigmoid`, :class:`ImaginarySigmoid` or
        :class:`PhaseHirose`. Each of its parameters is one number for r and one for z.
    activation : {"modrelu", "hirose", "zrelu", "crelu", "cardioid", "phase_relu", "product_phase_relu", "cayley"}
        The activation f: :class:`ModReLU`, as in [1]_, :class:`PhaseAmplitude`, :class:`ZReLU`, :class:`CReLU`,
        :class:`Cardioid`, :class:`PhaseReLU`, :class:`ProductPhaseReLU` or :class:`Cayley`.
    unitary : bool
        Whether U is unitary. Otherwise it is any matrix, with n^2 more parameters.
    n_layers : int
        Number of layers. Each layer reads the output of the layer below.
    bidirectional : bool
        Whether a second set of layers reads each sequence backwards. Outputs are concatenated.
    recurrent_dropout : float
        Probability of dropping a unit of the h that W and U read in training, with one mask per sequence. The other
        units are scaled to the norm of the whole h, so that states do not grow from step to step.
    init : {"modern", "chrono", "paper", "authors"}, optional
        "modern", the default: Glorot and orthogonal matrices and, if U is unitary, biases of 4 that open both gates, as
        in [1]_. "chrono": the same with the biases of z spread over ``max_length`` steps. "paper": U(-0.1, 0.1).
        "authors": rows of unit norm. A unitary U always starts at random.
    max_length : int
        Number of steps over which memories reach initially, for ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global generator by default.

    Raises
    ------
    ValueError
        If the gate or the activation is unknown.

    Notes
    -----
    ``n_parameters`` counts real numbers: 4n² for W, n² for a unitary U or 2n² for any other, 6nN for V and V', 6n for
    the biases, two for each parameter of the gate, and n for modReLU or 1 for Hirose's activation.

    References
    ----------
    .. [1] Wolter and Yao, "Complex gated recurrent neural networks", NeurIPS 2018.

    Examples
    --------
    >>> from sfmts.networks import ComplexGatedRNN
    >>> ComplexGatedRNN(88, n_states=110).n_parameters  # 5n² + 6nN + 7n + 2
    119352
    >>> ComplexGatedRNN(9, n_states=80, activation="hirose", unitary=False).n_parameters  # 6(n² + nN + n) + 3
    43203
    """

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        gate: str = "mod_sigmoid",
        activation: str = "modrelu",
        unitary: bool = True,
        n_layers: int = 1,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        init: str | None = None,
        max_length: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        check_choice("gate", gate, GATES)
        check_choice("activation", activation, ACTIVATIONS)
        super().__init__(
            n_channels,
            lambda width: _ComplexGatedLayer(width, n_states, gate, activation, unitary),
            n_layers=n_layers,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            init=init,
            max_length=max_length,
            generator=generator,
        )
        self.n_states, self.gate, self.activation, self.unitary = n_states, gate, activation, unitary


# -- the unitary RNN


def _reflect(h: Tensor, v: Tensor) -> Tensor:
    """Return rows h - 2 v (v^H h) for a v of unit norm."""
    return torch.addr(h, h @ v.conj(), v, alpha=-2)


class _UnitaryLayer(RecurrentLayer):
    """One direction of one layer; complex parameters hold real and imaginary parts, those of V stacked."""

    WRITTEN_OUT = 128  # up to this many units W is formed as a matrix; measured on a CPU with batches of 8, 32 and 128
    permutation: Tensor

    def __init__(self, width: int, n_units: int) -> None:
        super().__init__(2 * n_units)
        self.n_fed = n_units
        self.phases = nn.Parameter(torch.empty(3, n_units))
        self.reflections = nn.Parameter(torch.empty(2, 2, n_units))  # reflection, part, unit
        self.V = nn.Parameter(torch.empty(2 * n_units, width))
        self.h_0 = nn.Parameter(torch.empty(2 * n_units))
        self.activation = ModReLU(n_units)
        self.register_buffer("permutation", torch.arange(n_units))

    def make_product(self) -> Callable[[Tensor], Tensor]:
        """Return the function from complex rows h to rows W h, factor by factor, for one forward pass."""
        D_1, D_2, D_3 = torch.polar(torch.ones_like(self.phases), self.phases)
        v_1, v_2 = torch.complex(self.reflections[:, 0], self.reflections[:, 1])
        v_1, v_2 = v_1 / torch.linalg.vector_norm(v_1), v_2 / torch.linalg.vector_norm(v_2)
        permutation = self.permutation

        def product(h: Tensor) -> Tensor:
            # W = D_3 R_2 F^-1 D_2 Pi R_1 F D_1, from right to left
            h = _reflect(torch.fft.fft(h * D_1, norm="ortho"), v_1)
            h = torch.fft.ifft(h.index_select(1, permutation) * D_2, norm="ortho")
            return _reflect(h, v_2) * D_3

        return product

    def matrix(self) -> Tensor:
        """Return W, complex, (n, n)."""
        eye = torch.eye(self.n_fed, dtype=self.phases.dtype, device=self.phases.device)
        return self.make_product()(torch.complex(eye, torch.zeros_like(eye))).T

    def start(self, like: Tensor) -> State:
        return (self.h_0.expand(len(like), -1),)

    def prepare(self, x: Tensor, t: Tensor) -> State:
        return (x @ self.V.T,)

    def make_step(self) -> Step:
        n, activation = self.n_fed, self.activation
        add_product = self._by_matrix() if n <= self.WRITTEN_OUT else self._by_factors()

        def step(inputs: State, state: State, mask: Tensor | None) -> tuple[State, State]:
            (a,), (h,) = inputs, state
            fed = h if mask is None else _dropped(h.view(-1, 2, n), mask).view(-1, 2 * n)
            q = add_product(fed, a).view(-1, 2, n)
            h = activation._of_parts(q.transpose(0, 1)).transpose(0, 1).reshape(-1, 2 * n)
            return (h,), (h,)

        return step

    def _by_matrix(self) -> Callable[[Tensor, Tensor], Tensor]:
        W = self.matrix()
        return SharedMatrix(_real_form(torch.stack([W.real, W.imag])))

    def _by_factors(self) -> Callable[[Tensor, Tensor], Tensor]:
        n, product = self.n_fed, self.make_product()

        def add_product(h: Tensor, a: Tensor) -> Tensor:
            # Copy, because autograd would fill each half of a complex gradient separately and add them up.
            h = torch.view_as_complex(h.view(-1, 2, n).transpose(1, 2).contiguous())
            return a + torch.view_as_real(product(h)).transpose(1, 2).reshape(-1, 2 * n)

        return add_product

    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        n = self.n_fed
        # Only the direction of a reflection matters, so any initialisation is good for it.
        initialise_blocks(self.V, self.reflections.view(4, n), self.activation.bias, init, generator, blocks=2)
        self.phases.uniform_(-math.pi, math.pi, generator=generator)
        self.activation.bias.uniform_(-0.01, 0.01, generator=generator)
        limit = math.sqrt(1.5 / n)
        self.h_0.uniform_(-limit, limit, generator=generator)
        self.permutation.copy_(torch.randperm(n, generator=generator))


@register_network("unitary_rnn")
class UnitaryRNN(RecurrentNetwork):
    r"""Unitary evolution recurrent network [1]_: a complex state and a unitary matrix with 7n parameters.

    .. math::

        h_t = \mathrm{modReLU}(W h_{t-1} + V x_t), \quad W = D_3 R_2 \mathcal{F}^{-1} D_2 \Pi R_1 \mathcal{F} D_1

    with diagonals D of phases, reflections :math:`R = I - 2 v v^* / |v|^2`, a fixed random permutation :math:`\Pi` and
    the unitary Fourier transform. V is complex, the first state is learned, and the output is [Re h; Im h], of width
    2n. For n > 7 not every unitary matrix has this form.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Number n of complex units.
    n_layers : int
        Number of layers. Each layer reads the output of the layer below.
    bidirectional : bool
        Whether a second set of layers reads each sequence backwards. Outputs are concatenated.
    recurrent_dropout : float
        Probability of dropping a unit of the h that W reads in training, with one mask per sequence. The other units
        are scaled to the norm of the whole h, so that states do not grow from step to step.
    init : {"modern", "chrono", "paper", "authors"}, optional
        Initialisation of V. "modern", the default, and "chrono": Glorot, because no gate has to be opened. "paper":
        U(-0.1, 0.1). "authors": rows of unit norm. The rest starts as in [1]_: phases in U(-pi, pi), reflections in
        random directions, biases in U(-0.01, 0.01) and a first state whose squared norm is 1 on average.
    max_length : int
        Not used; accepted because all networks accept it.
    generator : torch.Generator, optional
        Source of the initial parameters and of the permutation; PyTorch's global generator by default.

    Notes
    -----
    Factor by factor, W takes O(n log n) operations per step. As a matrix it takes O(n²) operations, but in one matrix
    product. That is faster up to n = 128, so it is used there.

    References
    ----------
    .. [1] Arjovsky, Shah and Bengio, "Unitary evolution recurrent neural networks", ICML 2016.

    Examples
    --------
    >>> from sfmts.networks import UnitaryRNN
    >>> UnitaryRNN(88, n_states=384).n_parameters  # 7n of W, 2nN of V, n of modReLU and 2n of the first state
    71424
    """

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
        super().__init__(
            n_channels,
            lambda width: _UnitaryLayer(width, n_states),
            n_layers=n_layers,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            init=init,
            max_length=max_length,
            generator=generator,
        )
        self.n_states = n_states
