"""Run damped oscillators in PyTorch operations on complex numbers, with a hand-written backward pass."""

from typing import Any

import torch
from torch import Tensor

from sfmts.kernels._checks import refuse_second_derivatives
from sfmts.kernels._linear_scan import accumulate, accumulate_back
from sfmts.kernels._resonator import reference
from sfmts.kernels._resonator.reference import Inputs, LayerInputs

# -- kernel: factors of S_t = factors_t S_{t-1} + u_t, which the linear scan solves


def _rotation(omega: Tensor, dt: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return exp(-j omega dt), of shape (1, 1, K, D) or (T, B, K, D)."""
    if dt is None:
        return torch.complex(torch.cos(omega).to(dtype), -torch.sin(omega).to(dtype))[None, None]
    values, where = torch.unique(dt, return_inverse=True)  # most series are regular: few values, few cosines
    phase = omega * values[:, None, None]
    return torch.complex(torch.cos(phase).to(dtype), -torch.sin(phase).to(dtype))[where]


def _decay(f_ste: Tensor, f_fre: Tensor | None) -> Tensor:
    """Return f_ste f_fre, of shape (T, B, 1 or K, D)."""
    return f_ste[:, :, None] if f_fre is None else f_ste[:, :, None] * f_fre[..., None]


def _as_complex(pairs: Tensor) -> Tensor:
    """Return (..., 2, K, D) real as (..., K, D) complex."""
    return torch.complex(*pairs.unbind(-3))


def _as_pairs(z: Tensor) -> Tensor:
    """Return (..., K, D) complex as (..., 2, K, D) real."""
    return torch.stack((z.real, z.imag), dim=-3)


# -- autograd


class _Fused(torch.autograd.Function):
    """Solve the recurrence forwards for S, and backwards for its gradients.

    With lambda_t = decay_t rotation_t and the conjugate gradients G_t of S_t, both passes are linear scans::

        S_t = lambda_t S_{t-1} + u_t            G_t = conj(dL/dS_t) + lambda_{t+1} G_{t+1}
        d decay = Re(G_t rotation_t S_{t-1})    d phase = decay Im(G_t rotation_t S_{t-1})    du = sum_k Re G_t
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        inputs = Inputs(*arguments)
        f_ste, f_fre, u, omega, dt, state = inputs
        factors = _decay(f_ste, f_fre) * _rotation(omega, dt, u.dtype)
        drive = factors.new_empty(*u.shape[:2], *omega.shape).copy_(u[:, :, None])
        drive[0] += factors[0] * _as_complex(state)
        S = _as_pairs(accumulate(factors, drive))
        ctx.save_for_backward(*inputs._replace(u=S))
        return S

    @staticmethod
    def backward(ctx: Any, dS: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("backend='fused'")
        f_ste, f_fre, S, omega, dt, state = ctx.saved_tensors
        decay, rotation = _decay(f_ste, f_fre), _rotation(omega, dt, S.dtype)
        factors = decay * rotation
        total = accumulate_back(factors, torch.complex(dS[:, :, 0], -dS[:, :, 1]))  # G_t of all steps
        product = total * rotation
        product[0] *= _as_complex(state)
        product[1:] *= _as_complex(S[:-1])
        ddecay, dphase = product.real, decay * product.imag
        return (
            (ddecay if f_fre is None else ddecay * f_fre[..., None]).sum(2),
            None if f_fre is None else (ddecay * f_ste[:, :, None]).sum(3),
            total.real.sum(2),
            (dphase.double() if dt is None else dphase * dt[..., None, None]).sum((0, 1)),
            None,
            _as_pairs((factors[0] * total[0]).conj()),
        )


class _ReadOut(torch.autograd.Function):
    """Sum S * weights over parts and k, (T, B, 2, K, D) and (2, K, D), without a product of the size of S."""

    @staticmethod
    def forward(ctx: Any, S: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(S, weights)
        slices, rows = S.flatten(2, 3).unbind(2), weights.flatten(0, 1)
        c = slices[0] * rows[0]
        for part, row in zip(slices[1:], rows[1:], strict=True):
            c.addcmul_(part, row)
        return c

    @staticmethod
    def backward(ctx: Any, dc: Tensor) -> tuple[Tensor, Tensor]:
        refuse_second_derivatives("backend='fused'")
        S, weights = ctx.saved_tensors
        product = torch.empty_like(dc)
        rows = [torch.mul(part, dc, out=product).sum(dim=(0, 1)) for part in S.flatten(2, 3).unbind(2)]
        return dc[:, :, None, None] * weights, torch.stack(rows).view_as(weights)


# -- public functions


def resonate(inputs: Inputs) -> Tensor:
    """Return S after each step, (T, B, 2, K, D)."""
    S: Tensor = _Fused.apply(*inputs)
    return S


def read(S: Tensor, alpha: Tensor, beta: Tensor | None) -> Tensor:
    """Return what the read-out takes of S; see :func:`sfmts.kernels._resonator.reference.read`."""
    if beta is None:
        return reference.read(S, alpha, beta)
    c: Tensor = _ReadOut.apply(S, torch.stack([alpha, beta]))
    return c


def layer(inputs: LayerInputs) -> tuple[Tensor, Tensor]:
    """Return h and S; see ``sfmts.kernels.resonator_layer``."""
    return reference.layer(inputs, resonate, read)
