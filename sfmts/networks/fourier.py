"""Fourier transforms as layers: unitary circulant matrices, the DFT, FNet, and GRUs with a rotated state."""

import math
from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from sfmts._choices import check_choice, check_flag, check_size
from sfmts.kernels import SharedMatrix, State, Step
from sfmts.kernels._checks import check_tensor
from sfmts.networks._common import check_init, check_type, chrono_bias, initialise_blocks, initialise_input
from sfmts.networks.base import NetworkOutput, SequenceNetwork, register_network
from sfmts.networks.recurrent import RecurrentLayer, RecurrentNetwork

METHODS = ("auto", "fft", "matrix")
POSITIONS = ("sinusoidal", "none")
ANGLES = ("uniform", "identity")

_SIXTEEN_BITS = (torch.float16, torch.bfloat16)  # types that torch.fft does not support on CPUs
_LARGEST_DENSE_ROTATION = 200  # units; see `method` of RotationGRU


def _check_vectors(x: Any, shape: tuple[int | None, ...], half: bool = False, real: bool = False) -> None:
    """Raise TypeError or ValueError unless x is a tensor (..., *shape) of a type that can be transformed.

    A size of None stands for any. ``half`` allows types of 16 bits, and ``real`` refuses complex ones.
    """
    check_tensor("x", x)
    ends = tuple(x.shape[x.ndim - len(shape) :]) if x.ndim >= len(shape) else ()
    fits = bool(ends) and all(size in (end, None) for size, end in zip(shape, ends, strict=True))
    if not fits or 0 in x.shape:
        wanted = ", ".join("n" if size is None else str(size) for size in shape)
        raise ValueError(f"x has shape {tuple(x.shape)}, but (..., {wanted}) is needed, without empty axes.")
    is_valid = (x.is_complex() and not real) or (x.is_floating_point() and (half or x.dtype not in _SIXTEEN_BITS))
    if not is_valid or x.dtype == torch.complex32:
        raise TypeError(f"x is {x.dtype}, but this transform needs {'real' if real else 'real or complex'} numbers.")


# -- circulant matrices


class _Circulant(nn.Module, ABC):
    """A unitary circulant matrix, or doubly block circulant matrix, given by its eigenvalues e^{i omega}.

    The eigenvalues of a real matrix at opposite frequencies are conjugate, so they share one angle. A frequency that is
    its own opposite has the eigenvalue 1 or -1. Half of the spectrum is then enough, in the layout of
    `torch.fft.rfftn`.
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
        shape = tuple(check_size(name, size) for name, size in zip(("m", "n")[-len(shape) :], shape, strict=True))
        real = check_flag("real", real)
        self.shape, self.real = shape, real
        self._axes = tuple(range(-len(shape), 0))
        channels = () if n_channels is None else (n_channels,)
        free: tuple[int, ...] = shape
        if real:
            free = (self._pair_frequencies(signs),)
        elif signs is not None:
            raise ValueError(
                "signs belong to a real matrix, but with real=False all angles are free. Omit signs, or use real=True."
            )
        self.angles = nn.Parameter(torch.zeros(*channels, *free))
        if angles == "uniform":
            with torch.no_grad():
                self.angles.uniform_(-math.pi, math.pi, generator=generator)

    def _pair_frequencies(self, signs: Sequence[int] | None) -> int:
        """Record the source of each eigenvalue of the half spectrum, and return the number of free angles."""
        frequency = torch.arange(math.prod(self.shape)).view(self.shape)
        opposite = frequency.flip(self._axes).roll([1] * len(self.shape), self._axes)
        own = frequency == opposite
        free = frequency[frequency < opposite]
        index = torch.searchsorted(free, torch.minimum(frequency, opposite))
        index[own] = len(free)  # the zero that is appended to the angles
        sign = torch.ones(self.shape)
        sign[own] = _signs(signs, int(own.sum()))
        half = self.shape[-1] // 2 + 1
        self.register_buffer("_index", index[..., :half], persistent=False)
        self.register_buffer("_direction", (opposite - frequency).sign()[..., :half].float(), persistent=False)
        self.register_buffer("sign", sign[..., :half].contiguous())
        return len(free)

    def spectrum(self) -> Tensor:
        """Return the eigenvalues e^{i omega}.

        Returns
        -------
        spectrum : Tensor, complex
            Of shape ``shape`` or, if real, (..., n // 2 + 1), after an axis of channels if any.
        """
        if not self.real:
            return torch.polar(torch.ones_like(self.angles), self.angles)
        assert isinstance(self._index, Tensor)
        assert isinstance(self._direction, Tensor)
        assert isinstance(self.sign, Tensor)
        padded = nn.functional.pad(self.angles, (0, 1))
        angles = padded[..., self._index] * self._direction
        return torch.polar(self.sign.expand_as(angles), angles)

    def multiply(self, x: Tensor, spectrum: Tensor) -> Tensor:
        """Return the product with vectors or images for a given spectrum: C x = F (spectrum F^-1 x).

        Parameters
        ----------
        x : Tensor of shape ``(..., *shape)``
            Vectors or images; channels, if any, come before the shape.
        spectrum : Tensor, complex
            What :meth:`spectrum` returns, so that several products can share it.

        Returns
        -------
        y : Tensor of shape ``(..., *shape)``
            The products.
        """
        if self.real:
            return torch.fft.irfftn(spectrum.conj() * torch.fft.rfftn(x, dim=self._axes), s=self.shape, dim=self._axes)
        return torch.fft.fftn(spectrum * torch.fft.ifftn(x, dim=self._axes), dim=self._axes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product with each vector or image.

        Parameters
        ----------
        x : Tensor of shape ``(..., *shape)``
            Vectors or images; channels, if any, come before the shape.

        Returns
        -------
        y : Tensor of shape ``(..., *shape)``
            The products.
        """
        if not torch.compiler.is_compiling():
            _check_vectors(x, self.shape, real=self.real)
        return self.multiply(x, self.spectrum())

    def matrix(self) -> Tensor:
        """Return the dense matrix.

        Returns
        -------
        matrix : Tensor of shape (size, size)
            With the number of entries of ``shape`` as size, after an axis of channels if any.
        """
        size = math.prod(self.shape)
        one = torch.eye(size, dtype=self.angles.dtype, device=self.angles.device)
        channels = self.angles.ndim - (1 if self.real else len(self.shape))
        columns = self(one.view(size, *[1] * channels, *self.shape))
        return columns.flatten(columns.ndim - len(self.shape)).movedim(0, -1)


def _signs(signs: Sequence[int] | None, count: int) -> Tensor:
    """Return the eigenvalues at frequencies that are their own opposites."""
    if signs is None:
        return torch.ones(count)
    if len(signs) != count or any(sign not in (-1, 1) for sign in signs):
        raise ValueError(
            f"signs={tuple(signs)!r} must be {count} numbers, each 1 or -1: one for each frequency that is its own "
            "opposite. These are 0 and, along an axis of even length, half that length."
        )
    return torch.tensor(signs, dtype=torch.float32)


class CirculantUnitary(_Circulant):
    """Unitary circulant n x n matrix that any optimiser can train: y = fft(e^{i omega} ifft(x)).

    (C x)_j is the sum over k of c_{(k - j) mod n} x_k. The columns of the Fourier matrix are the eigenvectors of every
    such C, and fft(c) are its eigenvalues. C is unitary if all of them have modulus 1, so the angles omega are free
    (Wolter & Yao, "Complex gated memory cells", 2018). All circulant matrices commute. A stack of them with nothing in
    between is therefore one matrix, whose angles are the sums.

    Parameters
    ----------
    n : int
        Length of the vectors.
    real : bool
        Whether C is real and therefore orthogonal. It has (n - 1) // 2 free angles instead of n.
    signs : sequence of int, optional
        For ``real=True``: the eigenvalue, 1 or -1, at frequency 0 and, for even n, at n / 2. They are not trained,
        because no path of orthogonal matrices connects them. All are 1 by default, so that zero angles are the
        identity. A shift by an odd number of steps, for example, has -1 at n / 2.
    n_channels : int, optional
        Number of matrices, one for each channel of an input (..., n_channels, n).
    angles : {"uniform", "identity"}
        Initial angles: U(-pi, pi), or 0.
    generator : torch.Generator, optional
        Source of the initial angles; PyTorch's global generator by default.

    Attributes
    ----------
    angles : Parameter of shape (n,) or, if real, ((n - 1) // 2,)
        The trained angles, after an axis of channels if any.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks import CirculantUnitary
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
    """Unitary doubly block circulant matrix over m x n images: Y = fft2(e^{i omega} ifft2(X)).

    It is the circular convolution with a kernel as large as the image, whose spectrum has modulus 1 everywhere
    (Wolter & Yao, 2018, Eq. 105); see :class:`CirculantUnitary`. What leaves the image at one edge enters at the
    opposite edge.

    Parameters
    ----------
    m, n : int
        Rows and columns of the images.
    real : bool
        Whether the matrix is real and therefore orthogonal. It has (m n - s) / 2 free angles instead of m n, where s
        is the number of frequencies that are their own opposites: 1, doubled for each even side.
    signs : sequence of int, optional
        For ``real=True``: the s eigenvalues, 1 or -1, at those frequencies, in the order (0, 0), (0, n / 2),
        (m / 2, 0), (m / 2, n / 2). They are not trained, and all are 1 by default.
    n_channels : int, optional
        Number of matrices, one for each channel of an input (..., n_channels, m, n).
    angles : {"uniform", "identity"}
        Initial angles: U(-pi, pi), or 0.
    generator : torch.Generator, optional
        Source of the initial angles; PyTorch's global generator by default.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks import CirculantUnitary2d
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
    """Return real and imaginary part of F_{jk} = e^{-2 pi i j k / n}, exact to the last digit of ``dtype``."""
    # j k is reduced modulo n in integers, so that angles stay below 2 pi.
    k = torch.arange(n, device=device)
    table = k.double() * (2.0 * math.pi / n)
    turn = k[:, None] * k % n
    return table.cos().to(dtype)[turn], -table.sin().to(dtype)[turn]


class DFTLayer(nn.Module):
    """Discrete Fourier transform over the last axis as a linear layer: y_j = sum_k e^{-2 pi i j k / n} x_k.

    Parameters
    ----------
    n : int
        Length of the transform.
    trainable : bool
        Whether the matrix is a parameter of 2 n^2 numbers, which starts as the transform. Requires a matrix.
    method : {"auto", "fft", "matrix"}
        ``"auto"`` uses a matrix if it is trainable or has a 16-bit type, otherwise the FFT; see Notes.
    as_real : bool
        Whether to return real parts followed by imaginary parts, (..., 2 n), instead of complex numbers.
    dtype : torch.dtype
        Type of the matrix, which is computed in float64 and rounded once.

    Notes
    -----
    The default method was chosen by measurement. On one CPU thread, in float32, forward and backward, the matrix takes
    1.5 times as long as the FFT for n = 8 and 32, 1.3 times for the prime 127, 2.6 times for 128 and 10 times for 512
    (``python benchmarks/fourier.py``). Other devices were not measured. The authors of FNet report that on TPUs the
    matrix is faster up to several thousand steps. PyTorch's FFT does not support 16-bit types on CPUs.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks import DFTLayer
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
        n = check_size("n", n)
        trainable, as_real = check_flag("trainable", trainable), check_flag("as_real", as_real)
        if trainable and method == "fft":
            raise ValueError("method='fft' has no matrix that could be trained. Use method='matrix'.")
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
        """Transform vectors.

        Parameters
        ----------
        x : Tensor of shape (..., n), real or complex
            The vectors.

        Returns
        -------
        y : Tensor of shape (..., n), complex, or (..., 2 n), real
            The transforms.
        """
        if not torch.compiler.is_compiling():
            _check_vectors(x, (self.n,), half=self.method == "matrix")
        if self.method == "fft":
            y = torch.fft.fft(x)
            return torch.cat([y.real, y.imag], dim=-1) if self.as_real else y
        if x.is_complex():  # F (a + j b) = F a + j F b, with real and imaginary part of each product
            (re_re, im_re), (re_im, im_im) = (
                nn.functional.linear(part, self.weight).chunk(2, -1) for part in (x.real, x.imag)
            )
            re, im = re_re - im_im, im_re + re_im
        else:
            re, im = nn.functional.linear(x, self.weight).chunk(2, -1)
        return torch.cat([re, im], dim=-1) if self.as_real else torch.complex(re, im)


class FourierMixing(nn.Module):
    """Mixing of FNet (Lee-Thorp et al., 2021): the real part of the DFT over steps and hidden units.

    y = Re F_T X F_H = C_T X C_H - S_T X S_H with the cosine and sine matrices of both lengths. There are no parameters.
    The layer sees only the even part of X: mix(X) = mix(X') for X'[t, h] = X[-t mod T, -h mod H]. It loses about half
    of the information in X, so use it together with a residual path.

    Parameters
    ----------
    method : {"auto", "fft", "matrix"}
        ``"auto"`` uses matrices for float16 and bfloat16, otherwise the FFT. Measured as for :class:`DFTLayer`, in
        batches of 32, matrices take 1.6 to 2.3 times as long for up to 127 steps of 32 units, 4 times for 100 steps of
        128 units, and 11 times for 512 steps of 32 units.
    norm : {"backward", "ortho"}
        "backward" leaves the sums as they are; for noise they grow as the root of T H. "ortho" divides by that root.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks import FourierMixing
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
        """Mix real sequences.

        Parameters
        ----------
        x : Tensor of shape (..., T, H)
            The sequences.

        Returns
        -------
        y : Tensor of shape (..., T, H)
            The real part of their two-dimensional transform.
        """
        if not torch.compiler.is_compiling():
            _check_vectors(x, (None, None), half=self.method != "fft", real=True)
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
        """Transform steps of sequences, (rows, H); ``groups`` are pairs of a number of sequences and their length."""
        parts = rows.split([count * length for count, length in groups])
        mixed = [self.mixing(part.view(*group, -1)).flatten(0, 1) for part, group in zip(parts, groups, strict=True)]
        rows = self.mixed_norm(rows + torch.cat(mixed))
        return self.norm(rows + self.narrow(nn.functional.gelu(self.widen(rows))))


@register_network("fnet")
class FNet(SequenceNetwork):
    """Encoder that mixes steps by Fourier transforms instead of attention (Lee-Thorp et al., 2021).

    The network is a projection of the input, followed by blocks of LN(x + mix(x)) and LN(x + FFN(x)) with
    :class:`FourierMixing` over steps and hidden units. A state depends on all steps, so neither the forecaster nor the
    density can use this network. The summary of a sequence is the mean of its states. Each sequence is mixed at its own
    length, without padding. Sequences of equal length are mixed together, so a batch with many lengths takes longer.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Hidden width H, also the width of the output.
    n_layers : int
        Number of blocks.
    n_feedforward : int, optional
        Inner width F of FFN, two linear layers with GELU in between; 4 H by default.
    positions : {"sinusoidal", "none"}
        Code of the position that is added to the projected input. With "none", reversing the order of all steps except
        the first reverses the order of their states, and does not change the mean.
    method : {"auto", "fft", "matrix"}
        See :class:`FourierMixing`.
    init : {"modern", "chrono", "paper", "authors"}, optional
        "modern", the default, and "chrono": Glorot matrices, because the network has no forget gates. "paper":
        U(-0.1, 0.1). "authors": rows of unit norm. Biases are 0.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global generator by default.

    Notes
    -----
    Differences from the source: the input is real and projected instead of embedded words, positions are sinusoids
    instead of learned, transforms are orthonormal, and there is no dropout.

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
        init: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("positions", positions, POSITIONS)
        init = check_init(init)
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
        """Read a batch; see :meth:`SequenceNetwork.forward`.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
            Sequences, padded to T steps.
        lengths : Tensor of shape (B,), optional
            True lengths; all are T by default.
        time : Tensor of shape (B, T), float64, optional
            Not used.
        state : None
            Must be None, because the network needs whole sequences.
        generator : torch.Generator, optional
            Not used.

        Returns
        -------
        output : NetworkOutput
            The summary is the mean of the states.
        """
        if state is not None:
            raise ValueError(
                "FNet mixes all steps of a sequence, so it needs the whole sequence and cannot continue from a state."
            )
        check_type(x, self.projection.weight)
        batch, length = x.shape[:2]
        # Which steps exist is found on the CPU, so that the program does not wait for a GPU.
        lengths = torch.full((batch,), length) if lengths is None else lengths.cpu()
        ordered, order = lengths.sort(stable=True)
        sequence, step = (torch.arange(length) < ordered[:, None]).nonzero(as_tuple=True)
        chosen = (order[sequence] * length + step).to(x.device, non_blocking=True)
        step = step.to(x.device, non_blocking=True)
        rows = self.projection(x.flatten(0, 1)[chosen])
        if self.positions == "sinusoidal":
            rows = rows + _sinusoids(length, rows)[step]
        values, counts = ordered.unique_consecutive(return_counts=True)
        groups = list(zip(counts.tolist(), values.tolist(), strict=True))
        for block in self.blocks:
            rows = block(rows, groups)
        padded = rows.new_zeros(batch * length, self.output_size).index_copy(0, chosen, rows)
        states = padded.view(batch, length, -1)
        return NetworkOutput(states, states.sum(dim=1) / lengths[:, None].to(x.device, non_blocking=True), None)


def _initialise_linear(linear: nn.Linear, init: str, generator: torch.Generator | None) -> None:
    """Fill the weight as :func:`initialise_input` does, and set the bias to 0."""
    linear.bias.zero_()
    initialise_input(linear.weight, init, generator)


def _sinusoids(length: int, like: Tensor) -> Tensor:
    """Return codes of the positions 0, 1, ..., (length, H): sines and cosines, wavelengths from 2 pi to 20000 pi."""
    H = like.shape[1]
    steps = torch.arange(length, dtype=torch.float64, device=like.device)
    unit = torch.arange(H, dtype=torch.float64, device=like.device)
    pair, is_cosine = unit // 2, unit % 2
    angles = steps[:, None] * 10000.0 ** (-2.0 * pair / H) + (math.pi / 2) * is_cosine
    return angles.sin().to(like)


# -- rotated states


class _RotationGRULayer(RecurrentLayer):
    """One direction of one layer; rows of V, W and b belong to r, z and the candidate.

    The literal candidate reads the input through V's rows of r and has no bias. V and b then have no last third.
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
        """Return the product with W_h; its spectrum or matrix is computed once per pass."""
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
    """GRU whose state is rotated at each step (Wolter & Yao, "Complex gated memory cells", 2018, Eqs. 107-111).

    .. code-block:: text

        r, z = sigmoid(V x_t + W h_{t-1} + b)
        n    = tanh(V_n x_t + b_n + r (W_n h_{t-1}))
        h_t  = W_h ((1 - z) n + z h_{t-1})

    W_h is orthogonal and circulant over the units (:class:`CirculantUnitary`), so what the gates keep keeps its norm.
    The source defines the network for images, see :class:`ConvRotationGRU`. This one has matrices instead of
    convolutions. With angles of 0 it is :class:`sfmts.networks.GRU`.

    Parameters
    ----------
    n_channels : int
        Input width N.
    n_states : int
        Hidden width H.
    literal : bool
        Whether to use the candidate as the source prints it, n = tanh(V_r x_t) + r (W_n h_{t-1}). It reads the input
        through the matrix of the reset gate and is not bounded, so it is most likely a misprint of the candidate above.
    method : {"auto", "fft", "matrix"}
        W_h as a dense matrix, computed once per pass, or by FFTs at each step. ``"auto"`` uses the matrix up to 200
        units. Measured in training on one CPU thread in batches of 32 (``python benchmarks/fourier.py``), the time with
        the matrix is 0.78 of that with FFTs for 64 units, 0.82 for 139, 0.89 for 164, 1.01 for 200, 1.08 for 256 and
        1.16 for 512.
    n_layers : int
        Number of layers. Each layer reads the h of the layer below.
    bidirectional : bool
        Whether a second set of layers reads each sequence backwards. Outputs are concatenated.
    recurrent_dropout : float
        Probability of dropping an entry of the h that the gates read in training, with one mask per sequence.
    init : {"modern", "chrono", "paper", "authors"}, optional
        As for :class:`sfmts.networks.GRU`; "modern" by default. "modern" and "chrono" start with angles of 0, as that
        GRU. "paper" and "authors" draw the angles from U(-pi, pi).
    max_length : int
        Number of steps over which memories reach initially, for ``init="chrono"``.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global generator by default.

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
        init: str | None = None,
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
    """Convolutional GRU over images whose state is rotated at each step (Wolter & Yao, 2018, Eqs. 107-111).

    .. code-block:: text

        R, Z = sigmoid(W_x * X_t + W_h * H_{t-1} + b)
        N    = tanh(W_xn * X_t + b_n + R (W_hn * H_{t-1}))
        H_t  = rotate((1 - Z) N + Z H_{t-1})

    ``*`` is a convolution with zeros outside of the image. ``rotate`` is one :class:`CirculantUnitary2d` for each
    channel of the state. It keeps norms, and what it moves over one edge enters at the opposite edge.

    Parameters
    ----------
    n_channels : int
        Number C of channels of the images.
    size : tuple of int
        Rows m and columns n of the images.
    n_states : int
        Number S of channels of the state.
    kernel_size : int
        Odd side k of the convolutions' kernels.
    literal : bool
        Whether to use the candidate as the source prints it, tanh(W_xr * X_t) + R (W_hn * H_{t-1}); see
        :class:`RotationGRU`.
    angles : {"identity", "uniform"}
        Initial angles of the rotations. With "identity" the network starts as the plain convolutional GRU.
    generator : torch.Generator, optional
        Source of the initial parameters; PyTorch's global generator by default.

    Examples
    --------
    >>> import torch
    >>> from sfmts.networks import ConvRotationGRU
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
            raise ValueError(f"kernel_size must be odd, so that a kernel has a centre, not {kernel_size}.")
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
            Sequences of images.
        state : Tensor of shape (B, S, m, n), optional
            State after an earlier call, to continue there.

        Returns
        -------
        states : Tensor of shape (B, T, S, m, n)
            State after each image.
        state : Tensor of shape (B, S, m, n)
            State after the last image.

        Raises
        ------
        ValueError
            If the images do not have the size of the rotation.
        """
        if x.shape[2:] != (self.n_channels, *self.rotation.shape):
            expected = ", ".join(map(str, ("B", "T", self.n_channels, *self.rotation.shape)))
            raise ValueError(f"x has shape {tuple(x.shape)}, but shape ({expected}) is needed.")
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
        """Return what gates and candidate read of all images at once."""
        S = self.n_states
        if self.literal:
            a = nn.functional.conv2d(images, self.W_x, padding="same")
            return a + self.b[:, None, None], torch.tanh(a[:, :S])
        a = nn.functional.conv2d(images, self.W_x, self.b, padding="same")
        return a[:, : 2 * S], a[:, 2 * S :]
