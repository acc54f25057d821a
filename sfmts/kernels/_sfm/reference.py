"""Define the SFM recurrence in the letters of the paper, with gradients by autograd.

Every faster kernel is tested against this file. Equation numbers are those of Hu & Qi, "State-Frequency Memory
Recurrent Neural Networks", ICML 2017.

All kernels share the signature of :func:`sfm`. A batch of sequences of unequal length is *packed* as in
`torch.nn.utils.rnn.PackedSequence`: sequences are sorted by decreasing length, rows are in time-major order, and
``batch_sizes[t]`` is the number of sequences that are still running at step t. Kernels never see padding, so it cannot
influence a result.

Shapes: B sequences, P = sum(batch_sizes) rows, N inputs, D states, K frequencies, M outputs.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sfmts.kernels._checks import check_fits, check_sizes, check_tensor

TWO_PI = 2.0 * math.pi


class SFMWeights(NamedTuple):
    """Weights of one SFM layer.

    The R rows of ``V``, ``W`` and ``b`` are blocks in this order: ste (D), fre (K), g (D), i (D), for an adaptive
    layer (A-SFM) omega (K), and o (K blocks of M). They belong to Eqs. 6, 7, 9, 10, 16 and 12.

    Parameters
    ----------
    V : Tensor of shape (R, N)
        Input weights.
    W : Tensor of shape (R, M)
        Recurrent weights.
    b : Tensor of shape (R,)
        Biases.
    U_o : Tensor of shape (K, M, D)
        Weights of the amplitudes in the output gates, Eq. 12.
    W_z : Tensor of shape (K, M, D)
        Weights of the amplitudes in the outputs, Eq. 11.
    b_z : Tensor of shape (K, M)
        Biases of the outputs, Eq. 11.
    omega : Tensor of shape (K,), float64, or None
        Frequencies in radians per unit of time; None for an adaptive layer.
    """

    V: Tensor
    W: Tensor
    b: Tensor
    U_o: Tensor
    W_z: Tensor
    b_z: Tensor
    omega: Tensor | None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Return D, K and M."""
        K, M, D = self.W_z.shape
        return D, K, M

    @property
    def gate_sizes(self) -> list[int]:
        """Return the number of rows of the blocks ste, fre, g, i, omega (0 unless adaptive) and o."""
        D, K, M = self.sizes
        return [D, K, D, D, K if self.omega is None else 0, K * M]


class SFMState(NamedTuple):
    """State of a layer between two calls, in the order of the batch.

    Parameters
    ----------
    re, im : Tensor of shape (B, D, K)
        Real and imaginary part of S.
    z : Tensor of shape (B, M)
        The last output.
    t : Tensor of shape (B,), float64
        Time of the last step.
    theta : Tensor of shape (B, K), float64
        Phase in radians. An accumulated phase continues from it; otherwise it is informative only.
    """

    re: Tensor
    im: Tensor
    z: Tensor
    t: Tensor
    theta: Tensor

    @classmethod
    def zeros(cls, batch: int, weights: SFMWeights) -> "SFMState":
        """Return the initial state: S_0 = 0 and z_0 = 0 at time 0.

        Parameters
        ----------
        batch : int
            Number of sequences.
        weights : SFMWeights
            Weights of the layer, for sizes and type.

        Returns
        -------
        state : SFMState
            Zeros.
        """
        D, K, M = weights.sizes
        new = weights.V.new_zeros
        return cls(
            new(batch, D, K),
            new(batch, D, K),
            new(batch, M),
            new(batch, dtype=torch.float64),
            new(batch, K, dtype=torch.float64),
        )


def amplitude_epsilon(dtype: torch.dtype) -> float:
    """Return the epsilon in A = sqrt(Re^2 + Im^2 + epsilon), which keeps the gradient finite where S = 0."""
    return {torch.float64: 1e-24, torch.float16: 1e-7}.get(dtype, 1e-12)  # 1e-12 would be 0 in float16


def wrap_phase(theta: Tensor) -> Tensor:
    """Reduce a phase to one revolution, so that a cast to a shorter type keeps its digits."""
    return torch.remainder(theta, TWO_PI)


def last_rows(batch_sizes: Sequence[int], device: torch.device) -> slice | Tensor:
    """Return the packed row of each sequence's last step; a slice if all sequences have the same length."""
    if batch_sizes[0] == batch_sizes[-1]:
        return slice(len(batch_sizes) * batch_sizes[0] - batch_sizes[0], None)
    sizes = torch.as_tensor(batch_sizes)
    starts = sizes.cumsum(0) - sizes
    lengths = (sizes[:, None] > torch.arange(batch_sizes[0])).sum(0)
    return (starts[lengths - 1] + torch.arange(batch_sizes[0])).to(device, non_blocking=True)


def sfm_state(u: Tensor, f: Tensor, omega: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Run the state equation without gates: S_t = f_t S_{t-1} + u_t e^{j omega t} (Eqs. 1-3).

    Parameters
    ----------
    u : Tensor of shape (T, D)
        The modulated input g * i.
    f : Tensor of shape (T, D, K)
        The joint forget gate.
    omega : Tensor of shape (K,)
        Frequencies in radians per unit of time.
    t : Tensor of shape (T,)
        Time of each step.

    Returns
    -------
    re, im : Tensor of shape (T, D, K)
        Real and imaginary part of S after each step.

    Examples
    --------
    >>> import torch
    >>> from sfmts.kernels import sfm_state
    >>> u, f = torch.tensor([[1.0], [1.0]]), torch.ones(2, 1, 1)
    >>> re, im = sfm_state(u, f, torch.tensor([torch.pi]), torch.tensor([1.0, 2.0]))
    >>> re.flatten().round().tolist()
    [-1.0, 0.0]
    """
    check_tensor("u", u)
    check_sizes("u", u.shape, "(T, D)", 2)
    (T, D), K = u.shape, check_tensor("omega", omega, u, "u is").numel()
    check_fits("f", f, (T, D, K), u=u, omega=omega)
    check_fits("omega", omega, (K,), u=u)
    check_fits("t", t, (T,), u=u)
    for name, value in {"u": u, "f": f, "omega": omega, "t": t}.items():
        if not value.is_floating_point():
            raise TypeError(f"{name} is {value.dtype}, but must be of a floating-point type.")
    re = im = u.new_zeros(f.shape[1:])
    history = []
    for u_t, f_t, t_t in zip(u, f, t, strict=True):
        re, im = _state_step(re, im, f_t, u_t, wrap_phase(omega.double() * t_t.double()))
        history.append((re, im))
    return torch.stack([re for re, _ in history]), torch.stack([im for _, im in history])


def _state_step(re: Tensor, im: Tensor, f: Tensor, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Apply Eqs. 2 and 3 for one step; the phase (..., K) may be more precise than the state."""
    cos, sin = torch.cos(theta).to(re.dtype), torch.sin(theta).to(re.dtype)
    re = f * re + u[..., :, None] * cos[..., None, :]
    im = f * im + u[..., :, None] * sin[..., None, :]
    return re, im


def sfm(
    x: Tensor,
    batch_sizes: Sequence[int],
    t: Tensor,
    weights: SFMWeights,
    state: SFMState,
    *,
    accumulated: bool = False,
    feedback_mask: Tensor | None = None,
    amplitudes: list[Tensor] | None = None,
) -> tuple[Tensor, SFMState]:
    """Run one SFM or A-SFM layer over a packed batch; see :func:`sfmts.kernels.sfm`."""
    outputs, ended = [], []
    start = 0
    for step, n in enumerate(batch_sizes):
        rows = slice(start, start + n)
        state = SFMState(*(v[:n] for v in state))
        state, A = sfm_step(
            x[rows], t[rows], weights, state, accumulated, None if feedback_mask is None else feedback_mask[:n]
        )
        outputs.append(state.z)
        if amplitudes is not None:
            amplitudes.append(A)
        start += n
        n_next = batch_sizes[step + 1] if step + 1 < len(batch_sizes) else 0
        if n_next < n:
            ended.append(SFMState(*(v[n_next:] for v in state)))
    final = SFMState(*(torch.cat(pieces) for pieces in zip(*reversed(ended), strict=True)))
    return torch.cat(outputs), final if accumulated else final._replace(theta=final.theta.detach())


def sfm_step(
    x: Tensor, t: Tensor, weights: SFMWeights, state: SFMState, accumulated: bool, feedback_mask: Tensor | None = None
) -> tuple[SFMState, Tensor]:
    """Return the state and the amplitudes after one step of all sequences."""
    re, im, z, t_previous, theta = state
    z_fed = z if feedback_mask is None else z * feedback_mask
    a = x @ weights.V.T + z_fed @ weights.W.T + weights.b
    a_ste, a_fre, a_g, a_i, a_omega, a_o = a.split(weights.gate_sizes, dim=1)

    f = torch.sigmoid(a_ste)[:, :, None] * torch.sigmoid(a_fre)[:, None, :]  # Eqs. 6-8
    u = torch.sigmoid(a_g) * torch.tanh(a_i)  # Eqs. 9-10
    theta = _phase(a_omega, t, t_previous, theta, weights.omega, accumulated)
    re, im = _state_step(re, im, f, u, theta)  # Eqs. 1-3
    A = torch.sqrt(re * re + im * im + amplitude_epsilon(x.dtype))  # Eq. 4
    o = torch.sigmoid(torch.einsum("kmd,bdk->bkm", weights.U_o, A) + a_o.view(len(x), *weights.b_z.shape))  # Eq. 12
    z = (o * torch.tanh(torch.einsum("kmd,bdk->bkm", weights.W_z, A) + weights.b_z)).sum(dim=1)  # Eqs. 11, 13
    return SFMState(re, im, z, t, theta), A


def _phase(
    a_omega: Tensor, t: Tensor, t_previous: Tensor, theta: Tensor, omega: Tensor | None, accumulated: bool
) -> Tensor:
    """Return the phase of this step in float64.

    With given frequencies it is omega t. In an adaptive layer, omega_t = 2 pi sigmoid(a_omega): Eq. 16 with the sigmoid
    that the paper describes in words. The phase is then omega_t t, or the sum of omega_t (t - t_previous).
    """
    if omega is not None:
        return wrap_phase(omega * t[:, None])
    omega_t = TWO_PI * torch.sigmoid(a_omega.double())
    if accumulated:
        return wrap_phase(theta + omega_t * (t - t_previous)[:, None])
    return wrap_phase(omega_t * t[:, None])
