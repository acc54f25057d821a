"""Run damped oscillators compiled for the processor (cpu/resonator.h)."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from sfmts.kernels import _compiled
from sfmts.kernels._checks import addresses, plain, refuse_second_derivatives
from sfmts.kernels._resonator import fused, reference
from sfmts.kernels._resonator.reference import Inputs, LayerInputs
from sfmts.kernels._workspace import reused_empty

# -- launcher


class _Resonance(ctypes.Structure):
    """Mirror of the struct in cpu/resonator.h, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("is_double", "is_backward", "is_layer", "has_frequency_gate", "threads")),
        *((name, ctypes.c_int64) for name in ("T", "B", "K", "D")),
        *((name, ctypes.c_void_p) for name in ("omega", "dt", "state", "S", "dS", "dstate", "dparameters")),
        *((name, ctypes.c_void_p) for name in ("f_ste", "f_fre", "u", "df_ste", "df_fre", "du")),
        *((name, ctypes.c_void_p) for name in ("a", "alpha", "beta", "b_c", "mask", "h", "dh", "da")),
    ]


def _run(S: Tensor, has_frequency_gate: bool, **others: Tensor | None) -> None:
    """Run one pass: the forward pass, which writes S, or given dstate the backward pass, which writes gradients."""
    tensors = {"S": S, **others}
    T, B, _, K, D = S.shape
    resonance = _Resonance(
        is_double=S.dtype == torch.float64,
        is_backward="dstate" in others,
        is_layer="a" in others,
        has_frequency_gate=has_frequency_gate,
        threads=torch.get_num_threads(),
        **dict(zip("TBKD", (T, B, K, D), strict=True)),
        **addresses(tensors.items()),
    )
    _compiled.library.resonate(_compiled.instruction_set(), ctypes.addressof(resonance))


# -- autograd


class _Native(torch.autograd.Function):
    """Keep the inputs and S; the gradients are those of the fused kernel."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        inputs = Inputs._make(None if v is None else plain(v) for v in arguments)
        S = reused_empty(inputs.u, len(inputs.u), *inputs.state.shape)
        _run(S, inputs.f_fre is not None, **inputs._asdict())
        ctx.save_for_backward(*inputs._replace(u=S))
        return S

    @staticmethod
    def backward(ctx: Any, dS: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("backend='native'")
        f_ste, f_fre, S, omega, dt, state = ctx.saved_tensors
        given = {"f_ste": f_ste, "f_fre": f_fre, "omega": omega, "dt": dt, "state": state, "dS": plain(dS)}
        df_fre = None if f_fre is None else torch.empty_like(f_fre)
        df_ste, du, domega, dstate = (torch.empty_like(v) for v in (f_ste, f_ste, omega, state))
        gradients = {"df_ste": df_ste, "df_fre": df_fre, "du": du, "dparameters": domega, "dstate": dstate}
        _run(S, f_fre is not None, **given, **gradients)
        return df_ste, df_fre, du, domega, None, dstate


class _NativeLayer(torch.autograd.Function):
    """Keep the inputs and S. The backward pass recomputes the gates, which is as fast as reading them from memory."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        inputs = LayerInputs._make(None if v is None else plain(v) for v in arguments)
        T, B, width = inputs.a.shape
        K, D = inputs.omega.shape
        h, S = inputs.a.new_empty(T, B, D), reused_empty(inputs.a, T, B, 2, K, D)
        _run(S, width > 4 * D, **inputs._asdict(), h=h)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, S)
        return h, S

    @staticmethod
    def backward(ctx: Any, dh: Tensor | None, dS: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("backend='native'")
        *values, S = ctx.saved_tensors
        inputs = LayerInputs._make(values)
        K, D = inputs.omega.shape
        da, dstate = reused_empty(inputs.a, *inputs.a.shape), torch.empty_like(inputs.state)
        dparameters = torch.empty(3 * K + 1, D, dtype=torch.float64)
        above = {"dh": None if dh is None else plain(dh), "dS": None if dS is None else plain(dS)}
        gradients = {"da": da, "dstate": dstate, "dparameters": dparameters}
        _run(S, inputs.a.shape[2] > 4 * D, **inputs._asdict(), **above, **gradients)
        domega, dalpha, dbeta, db_c = dparameters.split((K, K, K, 1))
        of_read_out = (gradient.to(S.dtype) for gradient in (dalpha, dbeta, db_c[0]))
        return da, domega, *of_read_out, None, dstate, None


# -- public functions


def resonate(inputs: Inputs) -> Tensor:
    """Return S after each step, (T, B, 2, K, D)."""
    S: Tensor = _Native.apply(*inputs)
    return S


def layer(inputs: LayerInputs) -> tuple[Tensor, Tensor]:
    """Return h and S; see ``sfmts.kernels.resonator_layer``."""
    if inputs.beta is None:  # the compiled layer reads real and imaginary parts only
        return reference.layer(inputs, resonate, fused.read)
    h, S = _NativeLayer.apply(*inputs)
    return h, S
