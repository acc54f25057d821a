"""The SFM recurrence in the paper's letters, in plain autograd.

This file is the definition against which every faster kernel is tested.  Equation numbers are those of Hu & Qi,
"State-Frequency Memory Recurrent Neural Networks", ICML 2017.

All kernels share the signature of :func:`sfm`.  A batch of sequences of unequal length is *packed* as in
`torch.nn.utils.rnn.PackedSequence`: sequences sorted by decreasing length, rows in time-major order, and
``batch_sizes[t]`` the number of sequences that are still running at step t.  Padding therefore never exists inside a
kernel and cannot influence a result.

Shapes: B sequences, P = sum(batch_sizes) rows, N inputs, D states, K frequencies, M outputs.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

TWO_PI = 2.0 * math.pi


class SFMWeights(NamedTuple):
    """Weights of one SFM layer.

    The rows of ``V``, ``W`` and ``b`` are, in this order, ste (D), fre (K), g (D), i (D), for an adaptive layer also
    omega (K), then o (K blocks of M): Eqs. 6, 7, 9, 10, 16 and 12.  ``omega`` is None for an adaptive layer (A-SFM).
    """

    V: Tensor  # (R, N) input weights
    W: Tensor  # (R, M) recurrent weights
    b: Tensor  # (R,)
    U_o: Tensor  # (K, M, D), Eq. 12
    W_z: Tensor  # (K, M, D), Eq. 11
    b_z: Tensor  # (K, M), Eq. 11
    omega: Tensor | None  # (K,) radians per unit of time, float64

    @property
    def sizes(self) -> tuple[int, int, int]:
        """D, K and M."""
        K, M, D = self.W_z.shape
        return D, K, M

    @property
    def gate_sizes(self) -> list[int]:
        """Row counts of the blocks ste, fre, g, i, omega (0 unless adaptive), o."""
        D, K, M = self.sizes
        return [D, K, D, D, K if self.omega is None else 0, K * M]


class SFMState(NamedTuple):
    """What a layer remembers between two calls, in the order of the batch."""

    re: Tensor  # (B, D, K) real part of S
    im: Tensor  # (B, D, K) imaginary part of S
    z: Tensor  # (B, M)
    t: Tensor  # (B,) float64, time of the last step
    theta: Tensor  # (B, K) float64, phase in radians; phase="accumulated" goes on from it, all others only report it

    @classmethod
    def zeros(cls, batch: int, weights: SFMWeights) -> "SFMState":
        """S_0 = 0 and z_0 = 0 at time 0."""
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
    """The epsilon in A = sqrt(Re^2 + Im^2 + epsilon), which keeps the gradient finite where S = 0."""
    return {torch.float64: 1e-24, torch.float16: 1e-7}.get(dtype, 1e-12)  # 1e-12 is 0 in float16


def wrap_phase(theta: Tensor) -> Tensor:
    """Reduce a phase to one revolution, so that casting it to a short float loses nothing."""
    return torch.remainder(theta, TWO_PI)


def last_rows(batch_sizes: Sequence[int], device: torch.device) -> slice | Tensor:
    """Packed row of each sequence's last step; a slice if they are neighbours, as they are in a batch of one length."""
    if batch_sizes[0] == batch_sizes[-1]:
        return slice(len(batch_sizes) * batch_sizes[0] - batch_sizes[0], None)
    sizes = torch.as_tensor(batch_sizes)
    starts = sizes.cumsum(0) - sizes
    lengths = (sizes[:, None] > torch.arange(batch_sizes[0])).sum(0)
    return (starts[lengths - 1] + torch.arange(batch_sizes[0])).to(device)


def sfm_state(u: Tensor, f: Tensor, omega: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Run the state equation alone, without gates: S_t = f_t S_{t-1} + u_t e^{j omega t} (Eqs. 1-3).

    Parameters
    ----------
    u : Tensor of shape (T, D)
        The modulated input g * i.
    f : Tensor of shape (T, D, K)
        The joint forget gate.
    omega : Tensor of shape (K,)
        Frequencies, in radians per unit of time.
    t : Tensor of shape (T,)
        Time of each step.

    Returns
    -------
    re, im : Tensors of shape (T, D, K)

    Examples
    --------
    >>> import torch
    >>> from sfmts.kernels.reference import sfm_state
    >>> u, f = torch.tensor([[1.0], [1.0]]), torch.ones(2, 1, 1)
    >>> re, im = sfm_state(u, f, torch.tensor([torch.pi]), torch.tensor([1.0, 2.0]))
    >>> re.flatten().round().tolist()
    [-1.0, 0.0]
    """
    re = im = u.new_zeros(f.shape[1:])
    history = []
    for u_t, f_t, t_t in zip(u, f, t, strict=True):
        re, im = _state_step(re, im, f_t, u_t, wrap_phase(omega.double() * t_t.double()))
        history.append((re, im))
    return torch.stack([re for re, _ in history]), torch.stack([im for _, im in history])


def _state_step(re: Tensor, im: Tensor, f: Tensor, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Eqs. 2 and 3; the phase (..., K) may be more precise than the state."""
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
    """Run one SFM or A-SFM layer over a packed batch.

    Parameters
    ----------
    x : Tensor of shape (P, N)
        Packed input.
    batch_sizes : sequence of T non-increasing int
        How many sequences are running at each step.
    t : Tensor of shape (P,), float64
        The time of each row.
    weights : SFMWeights
    state : SFMState
        What came before, in sorted order.
    accumulated : bool
        For an adaptive layer: the phase is the running sum of omega_t * (t - t_previous) instead of omega_t * t.
    feedback_mask : Tensor of shape (B, M), optional
        Multiplies z_{t-1} wherever a gate reads it (recurrent dropout, one mask a sequence).
    amplitudes : list, optional
        Receives A_t, of shape (batch_sizes[t], D, K), at every step.

    Returns
    -------
    z : Tensor of shape (P, M)
        Packed output (Eq. 13).
    state : SFMState
        Each sequence's state after its own last step.
    """
    epsilon = amplitude_epsilon(x.dtype)
    re, im, z, t_previous, theta = state
    outputs, ended = [], []
    start = 0
    for step, n in enumerate(batch_sizes):
        rows = slice(start, start + n)
        re, im, z, t_previous, theta = (v[:n] for v in (re, im, z, t_previous, theta))
        z_fed = z if feedback_mask is None else z * feedback_mask[:n]
        a = x[rows] @ weights.V.T + z_fed @ weights.W.T + weights.b
        a_ste, a_fre, a_g, a_i, a_omega, a_o = a.split(weights.gate_sizes, dim=1)

        f = torch.sigmoid(a_ste)[:, :, None] * torch.sigmoid(a_fre)[:, None, :]  # Eqs. 6-8
        u = torch.sigmoid(a_g) * torch.tanh(a_i)  # Eqs. 9-10
        theta = _phase(a_omega, t[rows], t_previous, theta, weights.omega, accumulated)
        re, im = _state_step(re, im, f, u, theta)  # Eqs. 1-3
        A = torch.sqrt(re * re + im * im + epsilon)  # Eq. 4
        o = torch.sigmoid(torch.einsum("kmd,bdk->bkm", weights.U_o, A) + a_o.view(n, *weights.b_z.shape))  # Eq. 12
        z = (o * torch.tanh(torch.einsum("kmd,bdk->bkm", weights.W_z, A) + weights.b_z)).sum(dim=1)  # Eqs. 11, 13

        outputs.append(z)
        if amplitudes is not None:
            amplitudes.append(A)
        t_previous = t[rows]
        start += n
        n_next = batch_sizes[step + 1] if step + 1 < len(batch_sizes) else 0
        if n_next < n:
            ended.append(SFMState(*(v[n_next:] for v in (re, im, z, t_previous, theta))))
    final = SFMState(*(torch.cat(pieces) for pieces in zip(*reversed(ended), strict=True)))
    return torch.cat(outputs), final if accumulated else final._replace(theta=final.theta.detach())


def _phase(
    a_omega: Tensor, t: Tensor, t_previous: Tensor, theta: Tensor, omega: Tensor | None, accumulated: bool
) -> Tensor:
    """The phase of this step in float64: omega t, or Eq. 16 with the sigmoid that the paper describes in words."""
    if omega is not None:
        return wrap_phase(omega * t[:, None])
    omega_t = TWO_PI * torch.sigmoid(a_omega.double())
    if accumulated:
        return wrap_phase(theta + omega_t * (t - t_previous)[:, None])
    return wrap_phase(omega_t * t[:, None])


def refuse_second_derivatives(setting: str, instead: str = "backend='reference'") -> None:
    """Raise if gradients shall be differentiated again, which a hand-written backward pass cannot serve."""
    if torch.is_grad_enabled():  # that is, create_graph=True: better no result than one without its gradient
        raise RuntimeError(f"{setting} has first derivatives only; take {instead} for higher ones.")
