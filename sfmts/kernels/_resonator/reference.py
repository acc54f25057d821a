"""Define damped oscillators whose decay and drive are known beforehand, and the layer around them.

In the SFM, gates read the last output, so a step cannot be computed before the previous one. Where gates read the input
alone, decay and drive of all steps are known, and the recurrence is linear in its state. For state d at frequency k::

    S_t[k, d] = f_ste_t[d] f_fre_t[k] exp(-j omega[k, d] dt_t) S_{t-1}[k, d] + u_t[d]

This is the SFM's state equation (Hu & Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017, Eq. 1) in a
frame that turns with each oscillator: H_t = exp(-j omega t) S_t has the same amplitude as S_t. The phase is therefore
omega times a step's duration, not omega times the absolute time.

Every faster kernel is tested against this file.

Shapes: T steps, B sequences, K frequencies, D states.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """Arguments of the recurrence."""

    f_ste: Tensor  # (T, B, D)
    f_fre: Tensor | None  # (T, B, K); None is all ones
    u: Tensor  # (T, B, D)
    omega: Tensor  # (K, D), float64
    dt: Tensor | None  # (T, B), float64; None is all ones
    state: Tensor  # (B, 2, K, D)


class LayerInputs(NamedTuple):
    """Arguments of the layer."""

    a: Tensor  # (T, B, 4 D + K or 4 D)
    omega: Tensor  # (K, D), float64
    alpha: Tensor  # (K, D)
    beta: Tensor | None  # (K, D); None: the read-out takes amplitudes
    b_c: Tensor  # (D,)
    dt: Tensor | None  # (T, B), float64; None is all ones
    state: Tensor  # (B, 2, K, D)
    mask: Tensor | None  # (B, D)


def resonate(inputs: Inputs) -> Tensor:
    """Return S after each step, (T, B, 2, K, D)."""
    f_ste, f_fre, u, omega, dt, state = inputs
    history = []
    for t in range(len(u)):
        gates = f_ste[t], None if f_fre is None else f_fre[t]
        state = step(state, *gates, u[t], omega, None if dt is None else dt[t])
        history.append(state)
    return torch.stack(history)


def step(state: Tensor, f_ste: Tensor, f_fre: Tensor | None, u: Tensor, omega: Tensor, dt: Tensor | None) -> Tensor:
    """Return S after one step, (B, 2, K, D); the arguments lack the axis of time."""
    re, im = state.unbind(1)
    phase = omega if dt is None else omega * dt[:, None, None]
    cos, sin = torch.cos(phase).to(u.dtype), torch.sin(phase).to(u.dtype)
    f = f_ste[:, None, :] if f_fre is None else f_ste[:, None, :] * f_fre[:, :, None]
    # exp(-j phase) (re + j im) = (cos re + sin im) + j (cos im - sin re)
    re, im = f * (cos * re + sin * im) + u[:, None, :], f * (cos * im - sin * re)
    return torch.stack((re, im), dim=1)


def read(S: Tensor, alpha: Tensor, beta: Tensor | None) -> Tensor:
    """Return c = sum_k alpha[k] Re S[k] + beta[k] Im S[k], or sum_k alpha[k] |S[k]| without beta; (T, B, D)."""
    if beta is None:
        tiny = torch.finfo(S.dtype).tiny ** 0.5  # the slope of the square root at 0 is infinite
        return torch.einsum("tbkd,kd->tbd", (S.square().sum(dim=2) + tiny).sqrt(), alpha)
    return torch.einsum("tbpkd,pkd->tbd", S, torch.stack([alpha, beta]))


def layer(
    inputs: LayerInputs,
    resonate: Callable[[Inputs], Tensor] = resonate,
    read: Callable[[Tensor, Tensor, Tensor | None], Tensor] = read,
) -> tuple[Tensor, Tensor]:
    """Return h = o tanh(c + b_c) and S; a faster kernel passes its own recurrence and read-out."""
    a, omega, alpha, beta, b_c, dt, state, mask = inputs
    D = omega.shape[1]
    f, g, i, o, f_fre = a.split((D, D, D, D, a.shape[2] - 4 * D), dim=2)
    gates = torch.sigmoid(f), torch.sigmoid(f_fre) if f_fre.shape[2] else None, torch.sigmoid(g) * torch.tanh(i)
    S = resonate(Inputs(*gates, omega, dt, state))
    h = torch.sigmoid(o) * torch.tanh(read(S, alpha, beta) + b_c)
    return h if mask is None else h * mask, S
