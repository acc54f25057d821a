"""Fourier transforms as layers: unitary circulant matrices, the DFT, FNet, and GRUs whose state is rotated."""

import math
from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from sfmts._validation import check_choice
from sfmts.kernels import SharedMatrix, State, Step
from sfmts.networks.base import INITIALISATIONS, NetworkOutput, SequenceNetwork, chrono_bias, register_network
from sfmts.networks.recurrent import RecurrentLayer, RecurrentNetwork, initialise_blocks

METHODS = ("auto", "fft", "matrix")
POSITIONS = ("sinusoidal", "none")
ANGLES = ("uniform", "identity")

_SIXTEEN_BITS = (torch.float16, torch.bfloat16)  # which torch.fft does not take on CPUs
_LARGEST_DENSE_ROTATION = 200  # units; see `method` of RotationGRU


# -- circulant matrices


class _Circulant(nn.Module, ABC):
    """A unitary circulant matrix, or doubly block circulant one, by its eigenvalues e^{i omega}.

    Of a real matrix the eigenvalues at opposite frequencies are conjugate: one angle serves both, and a frequency that
    is its own opposite has the eigenvalue 1 or -1.  Then half of the spectrum, as `torch.fft.rfftn` lays it out, does.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        real: bool,
        signs: Sequence[int] | None,
        n_channels: int | None,
        angles: str,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        check_choice("angles", angles, ANGLES)
        if min(shape) < 1:
            raise ValueError(f"A circulant matrix needs at least one entry a side, not {min(shape)}.")
        self.shape, self.real = shape, real
        self._axes = tuple(range(-len(shape), 0))
        channels = () if n_channels is None else (n_channels,)
        free: tuple[int, ...] = shape
        if real:
            free = (self._pair_frequencies(signs),)
        elif signs is not None:
            raise ValueError("signs are those of a real matrix; here, with real=False, all angles are free.")
        self.angles = nn.Parameter(torch.zeros(*channels, *free))
        if angles == "uniform":
            with torch.no_grad():
                self.angles.uniform_(-math.pi, math.pi, generator=generator)

    def _pair_frequencies(self, signs: Sequence[int] | None) -> int:
        """Note where each eigenvalue of the half spectrum comes from; returns the number of free angles."""
        frequency = torch.arange(math.prod(self.shape)).view(self.shape)
        opposite = frequency.flip(self._axes).roll([1] * len(self.shape), self._axes)
        own = frequency == opposite
        free = frequency[frequency < opposite]
        index = torch.searchsorted(free, torch.minimum(frequency, opposite))
        index[own] = len(free)  # a zero behind the angles
        sign = torch.ones(self.shape)
        sign[own] = _signs(signs, int(own.sum()))
        half = self.shape[-1] // 2 + 1
        self.register_buffer("_index", index[..., :half], persistent=False)
        self.register_buffer("_direction", (opposite - frequency).sign()[..., :half].float(), persistent=False)
        self.register_buffer("sign", sign[..., :half].contiguous())
        return len(free)

    def spectrum(self) -> Tensor:
        """Eigenvalues, of unit modulus: ``(*shape)``, or ``(..., n // 2 + 1)`` if real, behind channels if any."""
        if not self.real:
            return torch.polar(torch.ones_like(self.angles), self.angles)
        assert isinstance(self._index, Tensor)
        assert isinstance(self._direction, Tensor)
        assert isinstance(self.sign, Tensor)
        padded = nn.functional.pad(self.angles, (0, 1))
        angles = padded[..., self._index] * self._direction
        return torch.polar(self.sign.expand_as(angles), angles)

    def multiply(self, x: Tensor, spectrum: Tensor) -> Tensor:
        """The product with vectors or images, for a spectrum that has been formed once."""
        if self.real:
            return torch.fft.irfftn(spectrum.conj() * torch.fft.rfftn(x, dim=self._axes), s=self.shape, dim=self._axes)
        return torch.fft.fftn(spectrum * torch.fft.ifftn(x, dim=self._axes), dim=self._axes)

    def forward(self, x: Tensor) -> Tensor:
        """The product with each vector or image of ``x``, ``(..., *shape)`` with channels, if any, before the shape."""
        return self.multiply(x, self.spectrum())

    def matrix(self) -> Tensor:
        """The dense matrix, (size, size), behind an axis of channels if there are any; size is that of ``shape``."""
        size = math.prod(self.shape)
        one = torch.eye(size, dtype=self.angles.dtype, device=self.angles.device)
        channels = self.angles.ndim - (1 if self.real else len(self.shape))
        columns = self(one.view(size, *[1] * channels, *self.shape))
        return columns.flatten(columns.ndim - len(self.shape)).movedim(0, -1)


def _signs(signs: Sequence[int] | None, count: int) -> Tensor:
    """The eigenvalues at frequencies that are their own opposites."""
    if signs is None:
        return torch.ones(count)
    if len(signs) != count or any(sign not in (-1, 1) for sign in signs):
        raise ValueError(
            f"signs={tuple(signs)!r} must be {count} numbers, each 1 or -1: one for each frequency that is its own "
            "opposite, which are 0 and, along an axis of even length, half that length."
        )
    return torch.tensor(signs, dtype=torch.float32)


class CirculantUnitary(_Circulant):
    """A unitary circulant n x n matrix that any optimiser may train: y = fft(e^{i omega} ifft(x)).

    (C x)_j is the sum over k of c_{(k - j) mod n} x_k.  The columns of the Fourier matrix are the eigenvectors of
    every such C, and the eigenvalues are fft(c); C is unitary where all have the modulus 1, so the angles omega are
    free.  (Wolter & Yao, "Complex gated memory cells", 2018.)  All circulant matrices commute, so that a
    stack of them without something else between is one matrix, whose angles are the sums.

    Parameters
    ----------
    n : int
        Length of the vectors.
    real : bool
        Whether C is real and hence orthogonal.  It has (n - 1) // 2 free angles instead of n.
    signs : sequence of int, optional
        For ``real=True``: the eigenvalue, 1 or -1, at frequency 0 and, for even n, at n / 2.  They are not trained,
        for no path of orthogonal matrices leads from one to the other.  All are 1 by default, so that angles of zero
        are the identity; a shift by an odd number of steps, for example, has -1 at n / 2.
    n_channels : int, optional
        As many matrices, one for each channel of an input (..., n_channels, n).
    angles : {"uniform", "identity"}
        Start: omega ~ U(-pi, pi), or 0.
    generator : torch.Generator, optional
        Source of the initial angles; PyTorch's global one by default.

    Attributes
    ----------
    angles : Parameter of shape (n,), or ((n - 1) // 2,) if real; channels stand first

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks.fourier import CirculantUnitary
    >>> rotation = CirculantUnitary(6, real=True, generator=torch.Generator().manual_seed(0))
    >>> rotation.angles.shape  # (n - 1) // 2
    torch.Size([2])
    >>> x = torch.arange(6.0)
    >>> torch.allclose(rotation(x).norm(), x.norm())
    True
    >>> torch.allclose(rotation.matrix() @ x, rotation(x), atol=1e-5)
    True
    """

    def __init__(
        self,
        n: int,
        *,
        real: bool = False,
        signs: Sequence[int] | None = None,
        n_channels: int | None = None,
        angles: str = "uniform",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__((n,), real, signs, n_channels, angles, generator)


class CirculantUnitary2d(_Circulant):
    """A unitary doubly block circulant matrix over m x n images: Y = fft2(e^{i omega} ifft2(X)).

    The circular convolution with a kernel as large as the image whose spectrum has the modulus 1 everywhere
    (Wolter & Yao, 2018, Eq. 105); see :class:`CirculantUnitary`.  What leaves the image at one edge comes in at
    the opposite one.

    Parameters
    ----------
    m, n : int
        Rows and columns of the images.
    real : bool
        Whether the matrix is real and hence orthogonal.  It has (m n - s) / 2 free angles instead of m n, where s
        counts the frequencies that are their own opposites: 1, doubled for each even side.
    signs : sequence of int, optional
        For ``real=True``: the s eigenvalues, 1 or -1, at those frequencies, in the order (0, 0), (0, n / 2),
        (m / 2, 0), (m / 2, n / 2); not trained; all 1 by default.
    n_channels : int, optional
        As many matrices, one for each channel of an input (..., n_channels, m, n).
    angles : {"uniform", "identity"}
        Start: omega ~ U(-pi, pi), or 0.
    generator : torch.Generator, optional
        Source of the initial angles; PyTorch's global one by default.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks.fourier import CirculantUnitary2d
    >>> rotation = CirculantUnitary2d(4, 6, real=True, n_channels=3, angles="identity")
    >>> rotation.angles.shape  # (24 - 4) / 2
    torch.Size([3, 10])
    >>> images = torch.rand(2, 3, 4, 6)
    >>> torch.allclose(rotation(images), images, atol=1e-6)
    True
    """

    def __init__(
        self,
        m: int,
        n: int,
        *,
        real: bool = False,
        signs: Sequence[int] | None = None,
        n_channels: int | None = None,
        angles: str = "uniform",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__((m, n), real, signs, n_channels, angles, generator)


# -- the discrete Fourier transform


def _dft_matrices(n: int, dtype: torch.dtype, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of F_{jk} = e^{-2 pi i j k / n}, exact to the last digit of ``dtype``."""
    k = torch.arange(n, device=device)
    table = k.double() * (2.0 * math.pi / n)
    turn = k[:, None] * k % n
    return table.cos().to(dtype)[turn], -table.sin().to(dtype)[turn]


class DFTLayer(nn.Module):
    """The discrete Fourier transform over the last axis as a linear layer: y_j = sum over k of e^{-2 pi i jk/n} x_k.

    Parameters
    ----------
    n : int
        Length of the transform.
    trainable : bool
        Whether the matrix is a parameter of 2 n^2 numbers, which the transform only starts; needs a matrix.
    method : {"auto", "fft", "matrix"}
        ``"auto"`` takes a matrix if it is trainable or of a type of 16 bits, and else the FFT; see Notes.
    as_real : bool
        Whether to put out the real parts and behind them the imaginary ones, (..., 2 n), instead of complex numbers.
    dtype : torch.dtype
        Type of the matrix, which is made in float64 and rounded once.

    Notes
    -----
    The method was chosen by measurement: on one CPU thread, in float32, forward and backward, the matrix takes 1.5
    times as long as the FFT for n = 8 and 32, 1.3 times for the prime 127, 2.6 times for 128 and 10 times for 512
    (``python benchmarks/fourier.py``).  Other devices were not measured; the authors of FNet report that on TPUs
    the matrix is the faster up to some thousands of steps.  PyTorch's FFT does not take 16 bits on CPUs.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks.fourier import DFTLayer
    >>> x = torch.tensor([1.0, 0.0, -1.0, 0.0])
    >>> DFTLayer(4)(x).real
    tensor([0., 2., 0., 2.])
    >>> DFTLayer(4, trainable=True).weight.shape  # (2n, n): real parts above imaginary ones
    torch.Size([8, 4])
    """

    def __init__(
        self,
        n: int,
        *,
        trainable: bool = False,
        method: str = "auto",
        as_real: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        check_choice("method", method, METHODS)
        if n < 1:
            raise ValueError(f"n={n} must be at least 1, the length of the transform.")
        if trainable and method == "fft":
            raise ValueError("method='fft' has no matrix that could be trained; use method='matrix'.")
        self.n, self.as_real = n, as_real
        if method == "auto":
            method = "matrix" if trainable or dtype in _SIXTEEN_BITS else "fft"
        self.method = method
        if method == "matrix":
            weight = torch.cat(_dft_matrices(n, dtype))
            if trainable:
                self.weight = nn.Parameter(weight)
            else:
                self.register_buffer("weight", weight, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform real or complex vectors (..., n) to complex ones (..., n), or to real ones (..., 2 n)."""
        if x.shape[-1] != self.n:
            raise ValueError(f"This transform is of length n={self.n}, but vectors have {x.shape[-1]} entries.")
        if self.method == "fft":
            y = torch.fft.fft(x)
            return torch.cat([y.real, y.imag], dim=-1) if self.as_real else y
        if x.is_complex():
            (re_re, im_re), (re_im, im_im) = (
                nn.functional.linear(part, self.weight).chunk(2, -1) for part in (x.real, x.imag)
            )
            re, im = re_re - im_im, im_re + re_im
        else:
            re, im = nn.functional.linear(x, self.weight).chunk(2, -1)
        return torch.cat([re, im], dim=-1) if self.as_real else torch.complex(re, im)


class FourierMixing(nn.Module):
    """The mixing of FNet (Lee-Thorp et al., 2021): the real part of the DFT over steps and hidden units.

    y = Re F_T X F_H = C_T X C_H - S_T X S_H with the cosine and sine matrices of both lengths; no parameters.  Of X it
    sees only the part that is even, mix(X) = mix(X') for X'[t, h] = X[-t mod T, -h mod H], so that about half of what
    X holds gets lost: put it beside a residual path.

    Parameters
    ----------
    method : {"auto", "fft", "matrix"}
        ``"auto"`` takes matrices for float16 and bfloat16 and else the FFT.  Measured as for :class:`DFTLayer`, in
        batches of 32, matrices take 1.6 to 2.3 times as long for up to 127 steps of 32 units, 4 times for 100 steps of
        128 units, and 11 times for 512 steps of 32.
    norm : {"backward", "ortho"}
        The sums as they are, which for noise grow like the root of T H, or divided by it.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks.fourier import FourierMixing
    >>> x = torch.zeros(1, 3, 2)
    >>> x[0, 0, 0] = 1.0
    >>> FourierMixing()(x)
    tensor([[[1., 1.],
             [1., 1.],
             [1., 1.]]])
    """

    def __init__(self, method: str = "auto", norm: str = "backward") -> None:
        super().__init__()
        check_choice("method", method, METHODS)
        check_choice("norm", norm, ("backward", "ortho"))
        self.method, self.norm = method, norm

    def forward(self, x: Tensor) -> Tensor:
        """Mix real sequences (..., T, H)."""
        if self.method == "fft" or (self.method == "auto" and x.dtype not in _SIXTEEN_BITS):
            return torch.fft.fft2(x, norm=self.norm).real
        T, H = x.shape[-2:]
        (re_T, im_T), (re_H, im_H) = (_dft_matrices(n, x.dtype, x.device) for n in (T, H))
        if self.norm == "ortho":
            re_H, im_H = re_H * (T * H) ** -0.5, im_H * (T * H) ** -0.5
        return re_T @ (x @ re_H) - im_T @ (x @ im_H)


class _EncoderBlock(nn.Module):
    """LN(x + mix(x)), then LN(x + FFN(x))."""

    def __init__(self, n_states: int, n_feedforward: int, method: str) -> None:
        super().__init__()
        self.mixing = FourierMixing(method, norm="ortho")
        self.mixed_norm = nn.LayerNorm(n_states)
        self.widen = skip_init(nn.Linear, n_states, n_feedforward)
        self.narrow = skip_init(nn.Linear, n_feedforward, n_states)
        self.norm = nn.LayerNorm(n_states)

    def forward(self, rows: Tensor, groups: list[tuple[int, int]]) -> Tensor:
        """Steps of sequences, (rows, H), in ``groups`` of so many sequences of such a length."""
        parts = rows.split([count * length for count, length in groups])
        mixed = [self.mixing(part.view(*group, -1)).flatten(0, 1) for part, group in zip(parts, groups, strict=True)]
        rows = self.mixed_norm(rows + torch.cat(mixed))
        return self.norm(rows + self.narrow(nn.functional.gelu(self.widen(rows))))


@register_network("fnet")
class FNet(SequenceNetwork):
    """Encoder that mixes steps by Fourier transforms instead of attention (Lee-Thorp et al., 2021).

    A projection of the input, then blocks of LN(x + mix(x)) and LN(x + FFN(x)) with :class:`FourierMixing` over steps
    and hidden units.  A state depends on all steps, so that neither a forecaster nor a density can use it, and the
    summary of a sequence is the mean of its states.  Each sequence is mixed at its own length, never with padding:
    sequences of equal length together, and a batch of many lengths takes longer.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        H, also the width of the output.
    n_layers : int
        Number of blocks.
    n_feedforward : int, optional
        Inner width F of FFN, two linear layers with GELU between; 4 H by default.
    positions : {"sinusoidal", "none"}
        What is added to the projected input for a network to know where a step stands.  Without, a sequence and the
        same with all steps but the first in reverse order have the same states in that order, and the same mean.
    method : {"auto", "fft", "matrix"}
        As in :class:`FourierMixing`.
    init : {"modern", "chrono", "paper", "authors"}
        Glorot matrices, the same (nothing is to be forgotten here), U(-0.1, 0.1), or rows of unit norm, as in the other
        networks; biases are 0.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global one by default.

    Notes
    -----
    Deviations from the source: a projection of real-valued input stands in the place of embedded words, positions are
    sinusoids and not learned, transforms are orthonormal, and there is no dropout.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks import FNet
    >>> network = FNet(2, n_states=16, n_layers=2)
    >>> network.n_parameters  # H(N + 1) + n_layers (2HF + F + 5H)
    4432
    >>> network(torch.zeros(3, 10, 2), torch.tensor([10, 7, 1])).final.shape
    torch.Size([3, 16])
    """

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        n_layers: int = 1,
        n_feedforward: int | None = None,
        positions: str = "sinusoidal",
        method: str = "auto",
        init: str = "modern",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("positions", positions, POSITIONS)
        check_choice("init", init, INITIALISATIONS)
        self.n_channels, self.output_size, self.causal = n_channels, n_states, False
        self.positions = positions
        self.projection = skip_init(nn.Linear, n_channels, n_states)
        n_feedforward = 4 * n_states if n_feedforward is None else n_feedforward
        self.blocks = nn.ModuleList(_EncoderBlock(n_states, n_feedforward, method) for _ in range(n_layers))
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    _initialise_linear(module, init, generator)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        time: Tensor | None = None,
        state: Any = None,
        generator: torch.Generator | None = None,
    ) -> NetworkOutput:
        """Read a batch; see :meth:`SequenceNetwork.forward`.  ``time`` and ``generator`` are not used."""
        if state is not None:
            raise ValueError(
                "FNet mixes all steps of a sequence: it needs the whole sequence, and goes on from no state."
            )
        batch, length = x.shape[:2]
        lengths = torch.full((batch,), length, device=x.device) if lengths is None else lengths.to(x.device)
        ordered, order = lengths.sort(stable=True)
        steps = torch.arange(length, device=x.device)
        inside = steps < ordered[:, None]
        rows = self.projection(x[order][inside])
        if self.positions == "sinusoidal":
            rows = rows + _sinusoids(length, rows)[steps.expand(batch, -1)[inside]]
        values, counts = ordered.unique_consecutive(return_counts=True)
        groups = list(zip(counts.tolist(), values.tolist(), strict=True))
        for block in self.blocks:
            rows = block(rows, groups)
        padded = rows.new_zeros(batch, length, self.output_size)
        padded[inside] = rows
        states = padded[order.argsort()]
        return NetworkOutput(states, states.sum(dim=1) / lengths[:, None], None)


def _initialise_linear(linear: nn.Linear, init: str, generator: torch.Generator | None) -> None:
    """As :func:`initialise_blocks` does it for V."""
    linear.bias.zero_()
    if init == "paper":
        linear.weight.uniform_(-0.1, 0.1, generator=generator)
    elif init == "authors":
        linear.weight.normal_(generator=generator)
        linear.weight.div_(linear.weight.norm(dim=1, keepdim=True))
    else:
        nn.init.xavier_uniform_(linear.weight, generator=generator)


def _sinusoids(length: int, like: Tensor) -> Tensor:
    """Codes of the positions 0, 1, ..., (length, H): sines and cosines of wavelengths from 2 pi to 20000 pi."""
    H = like.shape[1]
    steps = torch.arange(length, dtype=torch.float64, device=like.device)
    unit = torch.arange(H, dtype=torch.float64, device=like.device)
    pair, is_cosine = unit // 2, unit % 2
    angles = steps[:, None] * 10000.0 ** (-2.0 * pair / H) + (math.pi / 2) * is_cosine
    return angles.sin().to(like)


# -- rotated states


class _RotationGRULayer(RecurrentLayer):
    """One direction of one layer.  The rows of V, W and b are those of r, z and the candidate.

    The literal candidate reads the input by V's rows of r and has no bias, so that V and b lack the last third.
    """

    def __init__(self, n_channels: int, n_states: int, literal: bool, method: str) -> None:
        super().__init__(n_states)
        self.literal = literal
        self.dense = method == "matrix" or (method == "auto" and n_states <= _LARGEST_DENSE_ROTATION)
        rows = (2 if literal else 3) * n_states
        self.V = nn.Parameter(torch.empty(rows, n_channels))
        self.W = nn.Parameter(torch.empty(3 * n_states, n_states))
        self.b = nn.Parameter(torch.empty(rows))
        self.rotation = CirculantUnitary(n_states, real=True, angles="identity")

    def start(self, like: Tensor) -> State:
        return (like.new_zeros(len(like), self.output_size),)

    def prepare(self, x: Tensor, t: Tensor) -> State:
        H = self.output_size
        if self.literal:
            a = x @ self.V.T
            return a + self.b, torch.tanh(a[:, :H])
        return tuple(torch.addmm(self.b, x, self.V.T).split([2 * H, H], dim=1))

    def make_step(self) -> Step:
        H, literal = self.output_size, self.literal
        shared, rotate = SharedMatrix(self.W), self._make_rotation()

        def step(inputs: State, state: State, mask: Tensor | None) -> tuple[State, State]:
            (a, a_n), (h,) = inputs, state
            w, w_n = shared(h if mask is None else h * mask).split([2 * H, H], dim=1)
            r, z = torch.sigmoid(a + w).chunk(2, dim=1)
            n = torch.addcmul(a_n, r, w_n)
            h = rotate(torch.lerp(n if literal else torch.tanh(n), h, z))
            return (h,), (h,)

        return step

    def _make_rotation(self) -> Callable[[Tensor], Tensor]:
        """The product with W_h, whose spectrum or matrix is formed once for a whole pass."""
        if self.dense:
            return SharedMatrix(self.rotation.matrix())
        spectrum = self.rotation.spectrum()
        return lambda h: self.rotation.multiply(h, spectrum)

    def initialise(self, init: str, max_length: int, generator: torch.Generator | None) -> None:
        H, N = self.output_size, self.V.shape[1]
        V, b = self.V.new_empty(3 * H, N), self.b.new_empty(3 * H)
        initialise_blocks(V, self.W, b, init, generator, blocks=3)
        self.V.copy_(V[: len(self.V)])
        self.b.copy_(b[: len(self.b)])
        if init == "chrono":
            self.b[H : 2 * H] = chrono_bias(H, max_length, generator)
        if init in ("paper", "authors"):
            self.rotation.angles.uniform_(-math.pi, math.pi, generator=generator)


@register_network("rotation_gru")
class RotationGRU(RecurrentNetwork):
    """A GRU whose whole state turns at each step (Wolter & Yao, "Complex gated memory cells", 2018, Eqs. 107-111).

    .. code-block:: text

        r, z = sigmoid(V x_t + W h_{t-1} + b)
        n    = tanh(V_n x_t + b_n + r (W_n h_{t-1}))
        h_t  = W_h ((1 - z) n + z h_{t-1})

    with W_h orthogonal and circulant over the units, see :class:`CirculantUnitary`: what the gates keep keeps its norm.
    The source states it for images; :class:`ConvRotationGRU` is that form, and this one has matrices in place of
    convolutions.  With angles of 0 it is the GRU of :class:`sfmts.networks.GRU`.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Hidden width H.
    literal : bool
        The candidate as the source prints it, n = tanh(V_r x_t) + r (W_n h_{t-1}), which reads the input by the reset
        gate's matrix and is not bounded; most likely a misprint of the above.
    method : {"auto", "fft", "matrix"}
        W_h by a dense matrix, formed once a pass, or by FFTs in each step.  ``"auto"`` takes the matrix up to 200
        units.  Measured in training on one CPU thread, batches of 32 (``python benchmarks/fourier.py``), the network
        with the matrix takes 0.78 of the time of that with FFTs for 64 units, 0.82 for 139, 0.89 for 164, 1.01 for 200,
        1.08 for 256 and 1.16 for 512.
    n_layers : int
        Each layer reads the h of the one below.
    bidirectional : bool
        A second set of layers reads each sequence backwards; outputs are concatenated.
    recurrent_dropout : float
        Probability with which, in training, an entry of the h that the gates read is dropped, one mask for a whole
        sequence.
    init : {"modern", "chrono", "paper", "authors"}
        As :class:`sfmts.networks.GRU`, which the first two are at the start, with angles of 0; the other two draw the
        angles from U(-pi, pi).
    max_length : int
        For ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global one by default.

    Examples
    --------
    >>> from sfmts.networks import RotationGRU
    >>> RotationGRU(88, n_states=164).n_parameters  # 3H(H + N + 1) + (H - 1) // 2
    124557
    >>> RotationGRU(88, n_states=164, literal=True).n_parameters  # H(N + 1) fewer
    109961
    """

    def __init__(
        self,
        n_channels: int,
        *,
        n_states: int = 32,
        literal: bool = False,
        method: str = "auto",
        n_layers: int = 1,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        init: str = "modern",
        max_length: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        check_choice("method", method, METHODS)
        super().__init__(
            n_channels,
            lambda width: _RotationGRULayer(width, n_states, literal, method),
            n_layers=n_layers,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            init=init,
            max_length=max_length,
            generator=generator,
        )
        self.n_states = n_states


class ConvRotationGRU(nn.Module):
    """The convolutional GRU over images whose state turns at each step (Wolter & Yao, 2018, Eqs. 107-111).

    .. code-block:: text

        R, Z = sigmoid(W_x * X_t + W_h * H_{t-1} + b)
        N    = tanh(W_xn * X_t + b_n + R (W_hn * H_{t-1}))
        H_t  = rotate((1 - Z) N + Z H_{t-1})

    ``*`` is a convolution with zeros behind the image's edges.  ``rotate`` is one :class:`CirculantUnitary2d` for each
    channel of the state: it keeps norms, and what it moves over one edge comes in at the opposite one.

    Parameters
    ----------
    n_channels : int
        Channels C of the images.
    size : tuple of int
        Rows m and columns n of the images.
    n_states : int
        Channels S of the state.
    kernel_size : int
        Odd side k of the convolutions' kernels.
    literal : bool
        The candidate as the source prints it, tanh(W_xr * X_t) + R (W_hn * H_{t-1}), see :class:`RotationGRU`.
    angles : {"identity", "uniform"}
        Start of the rotations; with the first this is the plain convolutional GRU.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global one by default.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks.fourier import ConvRotationGRU
    >>> network = ConvRotationGRU(1, (6, 5), n_states=4)
    >>> sum(p.numel() for p in network.parameters())  # 3S((C + S) k^2 + 1) + S (mn - s) / 2, here with s = 2
    608
    >>> states, last = network(torch.zeros(2, 7, 1, 6, 5))
    >>> states.shape, last.shape
    (torch.Size([2, 7, 4, 6, 5]), torch.Size([2, 4, 6, 5]))
    """

    def __init__(
        self,
        n_channels: int,
        size: tuple[int, int],
        *,
        n_states: int = 32,
        kernel_size: int = 3,
        literal: bool = False,
        angles: str = "identity",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd, so that a kernel has a middle.")
        self.n_channels, self.n_states, self.literal = n_channels, n_states, literal
        side = (kernel_size, kernel_size)
        rows = (2 if literal else 3) * n_states
        self.W_x = nn.Parameter(torch.empty(rows, n_channels, *side))
        self.W_h = nn.Parameter(torch.empty(3 * n_states, n_states, *side))
        self.b = nn.Parameter(torch.zeros(rows))
        for weight in (self.W_x, self.W_h):
            for block in weight.detach().split(n_states):
                nn.init.xavier_uniform_(block, generator=generator)
        self.rotation = CirculantUnitary2d(*size, real=True, n_channels=n_states, angles=angles, generator=generator)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read image sequences.

        Parameters
        ----------
        x : Tensor of shape (B, T, C, m, n)
        state : Tensor of shape (B, S, m, n), optional
            Where an earlier call ended, to continue there.

        Returns
        -------
        states : Tensor of shape (B, T, S, m, n)
        state : Tensor of shape (B, S, m, n)
            The last of them.

        Raises
        ------
        ValueError
            If the images are of another size than the rotation.
        """
        if x.shape[2:] != (self.n_channels, *self.rotation.shape):
            expected = ", ".join(map(str, ("B", "T", self.n_channels, *self.rotation.shape)))
            raise ValueError(f"x of shape {tuple(x.shape)} must be of shape ({expected}).")
        S = self.n_states
        H = x.new_zeros(len(x), S, *self.rotation.shape) if state is None else state
        a, a_n = self._read(x.flatten(0, 1))
        spectrum = self.rotation.spectrum()
        states: list[Tensor] = []
        for now, now_n in zip(
            a.unflatten(0, x.shape[:2]).unbind(1), a_n.unflatten(0, x.shape[:2]).unbind(1), strict=True
        ):
            w, w_n = nn.functional.conv2d(H, self.W_h, padding="same").split([2 * S, S], dim=1)
            R, Z = torch.sigmoid(now + w).chunk(2, dim=1)
            N = torch.addcmul(now_n, R, w_n)
            H = self.rotation.multiply(torch.lerp(N if self.literal else torch.tanh(N), H, Z), spectrum)
            states.append(H)
        return torch.stack(states, dim=1), H

    def _read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What gates and candidate get of all images at once."""
        S = self.n_states
        if self.literal:
            a = nn.functional.conv2d(images, self.W_x, padding="same")
            return a + self.b[:, None, None], torch.tanh(a[:, :S])
        a = nn.functional.conv2d(images, self.W_x, self.b, padding="same")
        return a[:, : 2 * S], a[:, 2 * S :]
