"""Compute what gates read: a projection of the input at this step and, weighted, at some previous steps.

A network whose gates do not read its state knows the pre-activations of all steps at once: a matrix product, and a
filter across the steps. ::

    p_t = V x_t
    a_t = p_t + b + w_1 p_{t-1} + ... + w_L p_{t-L}

The compiled kernel (cpu/projection.h) filters the rows of a few steps while they are still in the caches.

Shapes: T steps, B sequences, N inputs, R rows of V, L lags.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from sfmts._choices import check_choice
from sfmts.kernels import _compiled
from sfmts.kernels._checks import addresses, check_fits, check_tensor, plain, refuse_second_derivatives
from sfmts.kernels._eager import eager
from sfmts.kernels._export import is_exporting
from sfmts.kernels._registry import register
from sfmts.kernels._workspace import reused_empty


def _composed(x: Tensor, V: Tensor, b: Tensor | None, w: Tensor, recent: Tensor) -> tuple[Tensor, Tensor]:
    """Return a and p by operations of PyTorch."""
    T, L = x.shape[0], len(w)
    projected = x @ V.T
    a = projected if b is None else projected + b
    if L == 0:
        return a, recent
    p = torch.cat([recent.to(projected.dtype), projected])
    for lag, weight in enumerate(w, start=1):
        a = torch.addcmul(a, p[L - lag : L - lag + T], weight)
    return a, p


# -- launcher


class _Projection(ctypes.Structure):
    """Mirror of the struct in cpu/projection.h, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("is_double", "is_backward", "threads", "T", "B", "N", "R", "n_lags")),
        *((name, ctypes.c_void_p) for name in ("x", "V", "b", "w", "p", "a", "da", "dp", "dx", "dV", "db", "dw")),
    ]


def _run(x: Tensor, V: Tensor, w: Tensor, **others: Tensor | None) -> None:
    """Run one pass: the forward pass, which writes a and p, or given dV the backward pass, which writes gradients."""
    tensors = {"x": x, "V": V, "w": w, **others}
    T, B, N = x.shape
    call = _Projection(
        is_double=x.dtype == torch.float64,
        is_backward="dV" in tensors,
        threads=torch.get_num_threads(),
        n_lags=len(w),
        **dict(zip("TBNR", (T, B, N, len(V)), strict=True)),
        **addresses(tensors.items()),
    )
    _compiled.library.project(_compiled.instruction_set(), ctypes.addressof(call))


# -- autograd


class _Native(torch.autograd.Function):
    """Keep the inputs and p; sums over all steps are formed in float64."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        contiguous: list[Any] = [None if v is None else plain(v) for v in arguments]
        x, V, b, w, recent = contiguous
        (T, B, _), L, R = x.shape, len(w), len(V)
        p = reused_empty(x, L + T if L else 0, B, R)
        p[:L] = recent
        a = reused_empty(x, T, B, R)
        _run(x, V, w, b=b, p=p, a=a)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, V, b, w, p)
        return a, p

    @staticmethod
    def backward(ctx: Any, da: Tensor | None, dp: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("backend='native'")
        x, V, b, w, p = ctx.saved_tensors
        L = len(w)
        da = x.new_zeros(*x.shape[:2], len(V)) if da is None else plain(da)
        dp = None if dp is None else plain(dp)
        dx = reused_empty(x, *x.shape) if ctx.needs_input_grad[0] else None
        dV, db, dw = (torch.zeros(shape, dtype=torch.float64) for shape in (V.shape, len(V), w.shape))
        _run(x, V, w, b=b, p=p, da=da, dp=dp, dx=dx, dV=dV, db=db, dw=dw)
        drecent = None
        if ctx.needs_input_grad[4]:
            drecent = torch.zeros_like(p[:L]) if dp is None else dp[:L].clone()
            for lag in range(1, L + 1):
                reached = min(lag, len(da))  # steps whose p_{t-lag} lies before the first step
                drecent[L - lag : L - lag + reached] += w[lag - 1] * da[:reached]
        return dx, dV.to(x.dtype), None if b is None else db.to(x.dtype), dw.to(x.dtype), drecent


@eager
def _native(x: Tensor, V: Tensor, b: Tensor | None, w: Tensor, recent: Tensor) -> tuple[Tensor, Tensor]:
    """Return a and p by the compiled kernel."""
    a, p = _Native.apply(x, V, b, w, recent)
    return a, p


# -- public functions

_OPERATION = register(
    "projection",
    kernels={"reference": _composed, "fused": _composed, "native": _native},
    unavailable={"native": lambda device: _compiled.unavailable(device, "project")},
)


def projection(
    x: Tensor, V: Tensor, b: Tensor | None, w: Tensor, recent: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    """Return the pre-activations of all steps.

    Parameters
    ----------
    x : Tensor of shape (T, B, N)
        Input.
    V : Tensor of shape (R, N)
        Input weights.
    b : Tensor of shape (R,), optional
        Biases.
    w : Tensor of shape (L, R)
        Weights of the lags, the shortest first.
    recent : Tensor of shape (L, B, R)
        V x of the L steps before the first one, the latest last.
    backend : {"reference", "fused", "native"}
        "native" falls back to PyTorch for mixed types, half precision and `torch.export`.

    Returns
    -------
    a : Tensor of shape (T, B, R)
        Pre-activations.
    p : Tensor of shape (L + T, B, R)
        ``recent`` and V x; empty without lags.

    Raises
    ------
    ValueError
        If shapes or devices are inconsistent.
    TypeError
        If types are inconsistent.
    """
    check_choice("backend", backend, _OPERATION.kernels)
    _check(x, V, b, w, recent)
    types = {value.dtype for value in (x, V, b, w, recent) if value is not None}
    if len(types) != 1 or x.dtype not in _compiled.DTYPES or is_exporting():
        backend = "fused"
    a, p = _OPERATION.kernels[backend](x, V, b, w, recent)
    return a, p


def _check(x: Tensor, V: Tensor, b: Tensor | None, w: Tensor, recent: Tensor) -> None:
    """Raise a ValueError or TypeError if the arguments are inconsistent."""
    check_tensor("x", x)
    check_tensor("V", V, x, "x is")
    check_tensor("w", w, x, "x is")
    if x.ndim != 3 or V.ndim != 2 or x.shape[2] != V.shape[1] or 0 in (*x.shape, len(V)):
        raise ValueError(
            f"x has shape {tuple(x.shape)} and V {tuple(V.shape)}, but (T, B, N) and (R, N) are needed, without empty "
            "axes."
        )
    R, L = len(V), w.shape[0] if w.ndim else 0
    parts = {"w": (w, (L, R)), "recent": (recent, (L, x.shape[1], R))}
    if b is not None:
        parts["b"] = (b, (R,))
    for name, (value, shape) in parts.items():
        check_fits(name, value, shape, x=x, V=V)
    for name, value in {"x": x, "V": V, **{name: value for name, (value, _) in parts.items()}}.items():
        if not value.dtype.is_floating_point:
            raise TypeError(f"{name} is {value.dtype}, but must be of a floating-point type.")
        if value.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"{name} is {value.dtype}, but must be {x.dtype} as x is.")


def linear(x: Tensor, W: Tensor, backend: str) -> Tensor:
    """Return W x of all steps, (T, B, R) from (T, B, N) and (R, N), with the kernels of :func:`projection`."""
    none = W.new_empty(0, len(W)), W.new_empty(0, x.shape[1], len(W))
    return projection(x, W, None, *none, backend)[0]
