r"""Damped oscillators of given decay and drive: a recurrence that is linear in its state.

The gates of the SFM read its last output, so that a step cannot be known before the one before.  Where gates read the
input alone, decay and drive of all steps are known beforehand, and what is left of the recurrence is, for state d at
frequency k::

    S_t[k, d] = f_ste_t[d] f_fre_t[k] exp(-j omega[k, d] dt_t) S_{t-1}[k, d] + u_t[d]

That is the SFM's state equation (Hu & Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017, Eq. 1) seen
from a frame that turns with each oscillator: both have the same amplitude \|S\|.

:func:`resonate` is that; :func:`resonator_layer` has the gates before it and the read-out behind it as well.

Three kernels: ``reference`` is the equation in a loop; ``fused`` has a hand-written backward pass in operations of
PyTorch; ``native`` is compiled for the processor (cpu/resonator.h).

Shapes: T steps, B sequences, K frequencies, D states.
"""

import ctypes
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sfmts.kernels import native
from sfmts.kernels._checks import addresses, check_detached, check_fits, check_tensor, plain
from sfmts.kernels.dispatch import choose_kernel
from sfmts.kernels.eager import eager
from sfmts.kernels.reference import refuse_second_derivatives
from sfmts.kernels.workspace import reused_empty

if native.missing() is None:
    from sfmts.kernels import _native


class _Inputs(NamedTuple):
    f_ste: Tensor  # (T, B, D)
    f_fre: Tensor | None  # (T, B, K); None is all ones
    u: Tensor  # (T, B, D)
    omega: Tensor  # (K, D), float64
    dt: Tensor | None  # (T, B), float64; None is all ones
    state: Tensor  # (B, 2, K, D)


# -- reference: the equation


def _reference(inputs: _Inputs) -> Tensor:
    f_ste, f_fre, u, omega, dt, state = inputs
    re, im = state.unbind(1)
    history = []
    for t in range(len(u)):
        phase = omega if dt is None else omega * dt[t, :, None, None]
        cos, sin = torch.cos(phase).to(u.dtype), torch.sin(phase).to(u.dtype)
        f = f_ste[t, :, None, :] if f_fre is None else f_ste[t, :, None, :] * f_fre[t, :, :, None]
        re, im = f * (cos * re + sin * im) + u[t, :, None, :], f * (cos * im - sin * re)
        history.append(torch.stack((re, im), dim=1))
    return torch.stack(history)


# -- fused: operations on all steps at once, in complex numbers


def _scan(factors: Tensor, x: Tensor) -> Tensor:
    """S_t = factors_t S_{t-1} + x_t from S_0 = x_0, all steps in parallel: two steps are made one until one is left.

    Products of decays may well underflow, as nothing is ever divided by them.
    """
    if len(x) == 1:
        return x
    even, odd = slice(0, len(x) - 1, 2), slice(1, None, 2)
    S = torch.empty_like(factors)
    S[odd] = _scan(factors[odd] * factors[even], torch.addcmul(x[odd], factors[odd], x[even]))
    S[0] = x[0]
    S[2::2] = torch.addcmul(x[2::2], factors[2::2], S[1:-1:2])
    return S


def _in_parallel(x: Tensor) -> bool:
    """Whether starting an operation costs more than it does, so that a few passes over all steps beat a loop."""
    return x.device.type != "cpu"


def _accumulate(factors: Tensor, x: Tensor) -> Tensor:
    """S_t = factors_t S_{t-1} + x_t, which may take the place of x."""
    if _in_parallel(x):
        return _scan(factors, x)
    for t in range(1, len(x)):
        x[t].addcmul_(factors[t], x[t - 1])
    return x


def _accumulate_back(factors: Tensor, x: Tensor) -> Tensor:
    """G_t = x_t + factors_{t+1} G_{t+1}, which may take the place of x."""
    if _in_parallel(x):
        return _scan(torch.cat((factors[:1], factors[1:].flip(0))), x.flip(0)).flip(0)
    for t in range(len(x) - 2, -1, -1):
        x[t].addcmul_(factors[t + 1], x[t + 1])
    return x


def _rotation(omega: Tensor, dt: Tensor | None, dtype: torch.dtype) -> Tensor:
    """exp(-j omega dt), of shape (1, 1, K, D) or (T, B, K, D)."""
    if dt is None:
        return torch.complex(torch.cos(omega).to(dtype), -torch.sin(omega).to(dtype))[None, None]
    values, where = torch.unique(dt, return_inverse=True)  # most series are regular: few values, few cosines
    phase = omega * values[:, None, None]
    return torch.complex(torch.cos(phase).to(dtype), -torch.sin(phase).to(dtype))[where]


def _decay(f_ste: Tensor, f_fre: Tensor | None) -> Tensor:
    """f_ste f_fre, of shape (T, B, 1 or K, D)."""
    return f_ste[:, :, None] if f_fre is None else f_ste[:, :, None] * f_fre[..., None]


def _as_complex(pairs: Tensor) -> Tensor:
    """(..., 2, K, D) to (..., K, D)."""
    return torch.complex(*pairs.unbind(-3))


def _as_pairs(z: Tensor) -> Tensor:
    return torch.stack((z.real, z.imag), dim=-3)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        inputs = _Inputs(*arguments)
        f_ste, f_fre, u, omega, dt, state = inputs
        factors = _decay(f_ste, f_fre) * _rotation(omega, dt, u.dtype)
        drive = factors.new_empty(*u.shape[:2], *omega.shape).copy_(u[:, :, None])
        drive[0] += factors[0] * _as_complex(state)
        S = _as_pairs(_accumulate(factors, drive))
        ctx.save_for_backward(*inputs._replace(u=S))
        return S

    @staticmethod
    def backward(ctx: Any, dS: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("backend='fused'")
        f_ste, f_fre, S, omega, dt, state = ctx.saved_tensors
        decay, rotation = _decay(f_ste, f_fre), _rotation(omega, dt, S.dtype)
        factors = decay * rotation
        total = _accumulate_back(factors, torch.complex(dS[:, :, 0], -dS[:, :, 1]))  # conjugate gradients of all S_t
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


# -- native


class _Resonance(ctypes.Structure):
    """Mirrors the struct of cpu/resonator.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("is_double", "is_backward", "is_layer", "has_frequency_gate", "threads")),
        *((name, ctypes.c_int64) for name in ("T", "B", "K", "D")),
        *((name, ctypes.c_void_p) for name in ("omega", "dt", "state", "S", "dS", "dstate", "dparameters")),
        *((name, ctypes.c_void_p) for name in ("f_ste", "f_fre", "u", "df_ste", "df_fre", "du")),
        *((name, ctypes.c_void_p) for name in ("a", "alpha", "beta", "b_c", "mask", "h", "dh", "da")),
    ]


def _run_native(S: Tensor, has_frequency_gate: bool, **others: Tensor | None) -> None:
    """One pass: the forward, which writes S, or with dstate the backward, which writes the gradients."""
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
    _native.resonate(native.instruction_set(), ctypes.addressof(resonance))


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        inputs = _Inputs._make(None if v is None else plain(v) for v in arguments)
        S = reused_empty(inputs.u, len(inputs.u), *inputs.state.shape)
        _run_native(S, inputs.f_fre is not None, **inputs._asdict())
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
        _run_native(S, f_fre is not None, **given, **gradients)
        return df_ste, df_fre, du, domega, None, dstate


def _native_missing() -> str | None:
    if (reason := native.missing()) is not None:
        return reason
    if not (hasattr(_native, "resonate") and hasattr(_native, "project")):
        return "the compiled kernel is of an older version of sfmts: reinstall sfmts"
    return None


# -- the layer


class _LayerInputs(NamedTuple):
    a: Tensor  # (T, B, 4 D + K or 4 D)
    omega: Tensor  # (K, D), float64
    alpha: Tensor  # (K, D)
    beta: Tensor | None  # (K, D); with None, amplitudes are read
    b_c: Tensor  # (D,)
    dt: Tensor | None  # (T, B), float64; None is all ones
    state: Tensor  # (B, 2, K, D)
    mask: Tensor | None  # (B, D)


class _ReadOut(torch.autograd.Function):
    """Sum over parts and k of S weights, from (T, B, 2, K, D) and (2, K, D), without a product as large as S."""

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


def _read(S: Tensor, alpha: Tensor, beta: Tensor | None, backend: str) -> Tensor:
    """What S says to c, (T, B, D)."""
    if beta is None:
        tiny = torch.finfo(S.dtype).tiny ** 0.5  # the root's slope at 0 is infinite
        return torch.einsum("tbkd,kd->tbd", (S.square().sum(dim=2) + tiny).sqrt(), alpha)
    weights = torch.stack([alpha, beta])
    if backend == "reference":
        return torch.einsum("tbpkd,pkd->tbd", S, weights)
    c: Tensor = _ReadOut.apply(S, weights)
    return c


def _composed_layer(inputs: _LayerInputs, backend: str) -> tuple[Tensor, Tensor]:
    a, omega, alpha, beta, b_c, dt, state, mask = inputs
    D = omega.shape[1]
    f, g, i, o, f_fre = a.split((D, D, D, D, a.shape[2] - 4 * D), dim=2)
    gates = torch.sigmoid(f), torch.sigmoid(f_fre) if f_fre.shape[2] else None, torch.sigmoid(g) * torch.tanh(i)
    S = _KERNELS[backend](_Inputs(*gates, omega, dt, state))
    h = torch.sigmoid(o) * torch.tanh(_read(S, alpha, beta, backend) + b_c)
    return h if mask is None else h * mask, S


class _NativeLayer(torch.autograd.Function):
    """Keeps what it was given and S; the backward computes gates again, which takes no longer than to fetch them."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        inputs = _LayerInputs._make(None if v is None else plain(v) for v in arguments)
        T, B, width = inputs.a.shape
        K, D = inputs.omega.shape
        h, S = inputs.a.new_empty(T, B, D), reused_empty(inputs.a, T, B, 2, K, D)
        _run_native(S, width > 4 * D, **inputs._asdict(), h=h)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, S)
        return h, S

    @staticmethod
    def backward(ctx: Any, dh: Tensor | None, dS: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("backend='native'")
        *values, S = ctx.saved_tensors
        inputs = _LayerInputs._make(values)
        K, D = inputs.omega.shape
        da, dstate = reused_empty(inputs.a, *inputs.a.shape), torch.empty_like(inputs.state)
        dparameters = torch.empty(3 * K + 1, D, dtype=torch.float64)
        above = {"dh": None if dh is None else plain(dh), "dS": None if dS is None else plain(dS)}
        gradients = {"da": da, "dstate": dstate, "dparameters": dparameters}
        _run_native(S, inputs.a.shape[2] > 4 * D, **inputs._asdict(), **above, **gradients)
        domega, dalpha, dbeta, db_c = dparameters.split((K, K, K, 1))
        of_read_out = (gradient.to(S.dtype) for gradient in (dalpha, dbeta, db_c[0]))
        return da, domega, *of_read_out, None, dstate, None


def _layer(inputs: _LayerInputs, backend: str) -> tuple[Tensor, Tensor]:
    if backend == "native" and inputs.beta is not None:
        h, S = _NativeLayer.apply(*inputs)
        return h, S
    return _composed_layer(inputs, backend)


# -- the door

_KERNELS: dict[str, Callable[[_Inputs], Tensor]] = {
    "reference": _reference,
    "fused": lambda inputs: _Fused.apply(*inputs),
    "native": lambda inputs: _Native.apply(*inputs),
}


def resolve_resonator(backend: str, u: Tensor | None = None) -> str:
    """Name the kernel that ``backend`` stands for in :func:`resonate`.

    Parameters
    ----------
    backend : {"auto", "reference", "fused", "native"}
        "auto" is "native", the compiled kernel, on the CPU, or "fused" where that one is missing, which is logged once
        with the reason; and "fused" on any other device.
    u : Tensor, optional
        Its device decides what can serve; by default, the CPU.

    Raises
    ------
    ValueError
        If there is no such kernel.
    RuntimeError
        If it is named and cannot serve.

    Examples
    --------
    >>> from sfmts.kernels import resolve_resonator
    >>> resolve_resonator("fused")
    'fused'
    """
    device = torch.device("cpu") if u is None else u.device

    def unavailable(name: str) -> str | None:
        if name != "native":
            return None
        if device.type != "cpu":
            return f"the compiled kernel runs on the CPU, and the tensors are on {device}"
        return _native_missing()

    return choose_kernel(backend, _KERNELS, device.type, unavailable)


def resonate(
    f_ste: Tensor,
    f_fre: Tensor | None,
    u: Tensor,
    omega: Tensor,
    dt: Tensor | None = None,
    state: Tensor | None = None,
    *,
    backend: str = "auto",
) -> Tensor:
    """Drive a bank of damped oscillators: S_t = f_ste f_fre e^{-j omega dt} S_{t-1} + u_t.

    A sequence's result does not depend on its batch mates.  Padding is up to the caller: steps with decays of 1, a
    drive of 0 and a dt of 0 leave the state as it is.

    Parameters
    ----------
    f_ste : Tensor of shape (T, B, D)
        Decay of each state, in (0, 1].
    f_fre : Tensor of shape (T, B, K), optional
        Decay of each frequency, in (0, 1]; all ones by default.
    u : Tensor of shape (T, B, D)
        What drives a state at all its frequencies.
    omega : Tensor of shape (K, D), float64 or of u's type
        Frequencies in radians per unit of time.
    dt : Tensor of shape (T, B), float64, optional
        Time since the step before; all ones by default.  It gets no gradient.
    state : Tensor of shape (B, 2, K, D), optional
        S before the first step, zero by default; ``S[-1]`` of one call goes on in the next.
    backend : {"auto", "reference", "fused", "native"}
        See :func:`resolve_resonator`.

    Returns
    -------
    S : Tensor of shape (T, B, 2, K, D)
        Real and imaginary part after each step, of u's type.

    Raises
    ------
    ValueError
        If shapes or devices do not fit together, or if ``dt`` wants a gradient.
    TypeError
        If types do not fit together.
    RuntimeError
        If the named kernel cannot serve; or, by all kernels but "reference", if a second derivative is asked for.

    Notes
    -----
    Phases are computed in float64, whatever the type of the rest; half precision is computed in float32.  In float32
    cosine and sine are rounded, so that without decay a phase is off by up to 6e-8 radians a step, and an amplitude by
    a factor of up to 1 + 6e-8.

    `torch.compile` leaves its graph here and comes back; `torch.export` records one call of the operator
    ``sfmts::resonate``, which has no gradient.

    Examples
    --------
    A quarter of a turn a step, and a push at the first one only:

    >>> import torch
    >>> from sfmts.kernels import resonate
    >>> decay, u = torch.full((3, 1, 1), 0.5), torch.tensor([8.0, 0.0, 0.0]).view(3, 1, 1)
    >>> S = resonate(decay, None, u, torch.tensor([[torch.pi / 2]]))
    >>> S.view(3, 2).round().add(0.0).tolist()
    [[8.0, 0.0], [0.0, -4.0], [-2.0, 0.0]]
    """
    run = _operator if torch.compiler.is_exporting() else _resonate
    S: Tensor = run(f_ste, f_fre, u, omega, dt, state, backend)
    return S


def resonator_layer(
    a: Tensor,
    omega: Tensor,
    alpha: Tensor,
    beta: Tensor | None,
    b_c: Tensor,
    dt: Tensor | None = None,
    state: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Run a layer of damped oscillators: gates from their pre-activations, :func:`resonate`, and a read-out.

    .. code-block:: text

        f, g, i, o = sigmoid(a_f), sigmoid(a_g), tanh(a_i), sigmoid(a_o);  f_fre = sigmoid(a_fre), or 1 without
        S_t[k] = f f_fre[k] exp(-j omega[k] dt) S_{t-1}[k] + g i
        c_t    = sum_k alpha[k] Re S_t[k] + beta[k] Im S_t[k] + b_c
        h_t    = o tanh(c_t)

    A sequence's result does not depend on its batch mates.

    Parameters
    ----------
    a : Tensor of shape (T, B, 4 D) or (T, B, 4 D + K)
        Pre-activations of f, g, i and o, D each, and with a frequency gate those of f_fre.
    omega : Tensor of shape (K, D), float64 or of a's type
        Frequencies in radians per unit of time.
    alpha, beta : Tensor of shape (K, D)
        What c takes of real and imaginary parts.  With ``beta=None`` amplitudes are read instead,
        c = sum_k alpha[k] abs(S[k]) + b_c.
    b_c : Tensor of shape (D,)
    dt : Tensor of shape (T, B), float64, optional
        Time since the step before; all ones by default.  It gets no gradient.
    state : Tensor of shape (B, 2, K, D), optional
        S before the first step, zero by default; ``S[-1]`` of one call goes on in the next.
    mask : Tensor of shape (B, D), optional
        Factors of all h of a sequence, such as those of dropout.  They get no gradient.
    backend : {"auto", "reference", "fused", "native"}
        See :func:`resolve_resonator`.  "native" is one pass over all steps, but for amplitudes, whose gates and
        read-out are operations of PyTorch.

    Returns
    -------
    h : Tensor of shape (T, B, D)
        Of a's type.
    S : Tensor of shape (T, B, 2, K, D)
        Real and imaginary part after each step, of a's type.

    Raises
    ------
    ValueError
        If shapes or devices do not fit together, or if ``dt`` or ``mask`` wants a gradient.
    TypeError
        If types do not fit together.
    RuntimeError
        If the named kernel cannot serve; or, by all kernels but "reference", if a second derivative is asked for.

    Notes
    -----
    Phases and half precision are computed as by :func:`resonate`; `torch.export` records one call of the operator
    ``sfmts::resonator_layer``, which has no gradient.

    Examples
    --------
    Open gates that turn by half a turn a step, and are read by the real part:

    >>> import torch
    >>> from sfmts.kernels import resonator_layer
    >>> a = torch.full((3, 1, 4), 30.0)
    >>> one = torch.ones(1, 1)
    >>> h, S = resonator_layer(a, torch.pi * one, one, 0 * one, torch.zeros(1))
    >>> S[:, 0, 0].flatten().round().tolist()
    [1.0, 0.0, 1.0]
    """
    run = _layer_operator if torch.compiler.is_exporting() else _resonator_layer
    h, S = run(a, omega, alpha, beta, b_c, dt, state, mask, backend)
    return h, S


@eager
def _resonate(
    f_ste: Tensor,
    f_fre: Tensor | None,
    u: Tensor,
    omega: Tensor,
    dt: Tensor | None,
    state: Tensor | None,
    backend: str,
) -> Tensor:
    _check(f_ste, f_fre, u, omega, dt, state)
    kernel = _KERNELS[resolve_resonator(backend, u)]
    dtype = torch.promote_types(u.dtype, torch.float32)
    if state is None:
        state = u.new_zeros(u.shape[1], 2, *omega.shape)
    inputs = _Inputs(
        f_ste.to(dtype),
        None if f_fre is None else f_fre.to(dtype),
        u.to(dtype),
        omega.to(torch.float64),
        dt,
        state.to(dtype),
    )
    return kernel(inputs).to(u.dtype)


@eager
def _resonator_layer(
    a: Tensor,
    omega: Tensor,
    alpha: Tensor,
    beta: Tensor | None,
    b_c: Tensor,
    dt: Tensor | None,
    state: Tensor | None,
    mask: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor]:
    _check_layer(a, omega, alpha, beta, b_c, dt, state, mask)
    dtype = torch.promote_types(a.dtype, torch.float32)
    if state is None:
        state = a.new_zeros(a.shape[1], 2, *omega.shape)
    inputs = _LayerInputs(
        a.to(dtype),
        omega.to(torch.float64),
        alpha.to(dtype),
        None if beta is None else beta.to(dtype),
        b_c.to(dtype),
        dt,
        state.to(dtype),
        None if mask is None else mask.to(dtype),
    )
    h, S = _layer(inputs, resolve_resonator(backend, a))
    return h.to(a.dtype), S.to(a.dtype)


class _Part(NamedTuple):
    """One of the arguments, and what it has to be."""

    name: str
    value: Tensor | None
    shape: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]
    is_optional: bool = False


def _check(
    f_ste: Tensor, f_fre: Tensor | None, u: Tensor, omega: Tensor, dt: Tensor | None, state: Tensor | None
) -> None:
    """Raise an error if arguments do not fit together."""
    check_tensor("u", u)
    check_tensor("omega", omega, u, "u is")
    if u.ndim != 3 or omega.ndim != 2 or 0 in (*u.shape, *omega.shape):
        raise ValueError(
            f"u has shape {tuple(u.shape)} and omega {tuple(omega.shape)}, but (T, B, D) and (K, D) are needed, none 0."
        )
    (T, B, D), K = u.shape, len(omega)
    gates = [_Part("f_ste", f_ste, (T, B, D), (u.dtype,)), _Part("f_fre", f_fre, (T, B, K), (u.dtype,), True)]
    _check_parts("u", u, omega, [*gates, *_recurrence_parts(u, omega, dt, state, D)])
    check_detached("dt", dt)


def _check_layer(
    a: Tensor,
    omega: Tensor,
    alpha: Tensor,
    beta: Tensor | None,
    b_c: Tensor,
    dt: Tensor | None,
    state: Tensor | None,
    mask: Tensor | None,
) -> None:
    """Raise an error if arguments do not fit together."""
    check_tensor("a", a)
    check_tensor("omega", omega, a, "a is")
    if a.ndim != 3 or omega.ndim != 2 or 0 in (*a.shape, *omega.shape):
        raise ValueError(
            f"a has shape {tuple(a.shape)} and omega {tuple(omega.shape)}, but (T, B, 4 D) or (T, B, 4 D + K), and "
            "(K, D) are needed, none 0."
        )
    B, (K, D) = a.shape[1], omega.shape
    if a.shape[2] not in (4 * D, 4 * D + K):
        raise ValueError(
            f"a is {a.shape[2]} wide, but beside omega of shape {(K, D)} it must be {4 * D}, {D} each for f, g, i and "
            f"o, or {4 * D + K} with a frequency gate."
        )
    dtypes = a.dtype, torch.promote_types(a.dtype, torch.float32)
    read_out = [_Part("alpha", alpha, (K, D), dtypes), _Part("beta", beta, (K, D), dtypes, True)]
    read_out += [_Part("b_c", b_c, (D,), dtypes), _Part("mask", mask, (B, D), dtypes, True)]
    _check_parts("a", a, omega, [*read_out, *_recurrence_parts(a, omega, dt, state, D)])
    check_detached("dt", dt)
    check_detached("mask", mask)


def _recurrence_parts(x: Tensor, omega: Tensor, dt: Tensor | None, state: Tensor | None, D: int) -> list[_Part]:
    """Return what both take beside x, which is u or a."""
    T, B, K = *x.shape[:2], len(omega)
    return [
        _Part("omega", omega, (K, D), (torch.float64, x.dtype)),
        _Part("dt", dt, (T, B), (torch.float64,), True),
        _Part("state", state, (B, 2, K, D), (x.dtype, torch.promote_types(x.dtype, torch.float32)), True),
    ]


def _check_parts(main: str, x: Tensor, omega: Tensor, parts: Iterable[_Part]) -> None:
    if not x.dtype.is_floating_point:
        raise TypeError(f"{main} is {x.dtype}, but must be of a floating-point type.")
    for name, value, shape, dtypes, is_optional in parts:
        if value is None and is_optional:
            continue
        check_fits(name, value, shape, **{main: x, "omega": omega})
        if value is not None and value.dtype not in dtypes:
            raise TypeError(f"{name} is {value.dtype}, but must be {dtypes[0]} beside {main} of {x.dtype}.")


@torch.library.custom_op("sfmts::resonate", mutates_args=())
def _operator(
    f_ste: Tensor,
    f_fre: Tensor | None,
    u: Tensor,
    omega: Tensor,
    dt: Tensor | None,
    state: Tensor | None,
    backend: str,
) -> Tensor:
    return _resonate(f_ste, f_fre, u, omega, dt, state, backend)


@_operator.register_fake
def _(
    f_ste: Tensor,
    f_fre: Tensor | None,
    u: Tensor,
    omega: Tensor,
    dt: Tensor | None,
    state: Tensor | None,
    backend: str,
) -> Tensor:
    T, B, _ = u.shape
    return u.new_empty(T, B, 2, *omega.shape)


@torch.library.custom_op("sfmts::resonator_layer", mutates_args=())
def _layer_operator(
    a: Tensor,
    omega: Tensor,
    alpha: Tensor,
    beta: Tensor | None,
    b_c: Tensor,
    dt: Tensor | None,
    state: Tensor | None,
    mask: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor]:
    return _resonator_layer(a, omega, alpha, beta, b_c, dt, state, mask, backend)


@_layer_operator.register_fake
def _(
    a: Tensor,
    omega: Tensor,
    alpha: Tensor,
    beta: Tensor | None,
    b_c: Tensor,
    dt: Tensor | None,
    state: Tensor | None,
    mask: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor]:
    T, B, _ = a.shape
    return a.new_empty(T, B, omega.shape[1]), a.new_empty(T, B, 2, *omega.shape)
