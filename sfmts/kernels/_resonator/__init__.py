"""Run damped oscillators whose gates read the input alone, and a layer of them, with one of several backends.

``reference.py`` has the equations.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from sfmts.kernels import _compiled
from sfmts.kernels._checks import check_detached, check_fits, check_tensor
from sfmts.kernels._eager import eager
from sfmts.kernels._export import Tensors, check_loops, is_exporting, recorded_loop
from sfmts.kernels._registry import register
from sfmts.kernels._resonator import fused, native, reference
from sfmts.kernels._resonator.reference import Inputs, LayerInputs


def _native_unavailable(device: torch.device) -> str | None:
    # The network around the oscillators needs both functions, so one name of a backend stands for both.
    return _compiled.unavailable(device, "resonate", "project")


_OPERATION = register(
    "resonate",
    kernels={"reference": reference.resonate, "fused": fused.resonate, "native": native.resonate},
    unavailable={"native": _native_unavailable},
)
_LAYER = register(
    "resonator_layer",
    kernels={"reference": reference.layer, "fused": fused.layer, "native": native.layer},
    unavailable={"native": _native_unavailable},
)


def resolve_resonator(backend: str, u: Tensor | None = None) -> str:
    """Return the name of the kernel that ``backend`` stands for in :func:`resonate` and ``resonator_layer``.

    Parameters
    ----------
    backend : {"auto", "reference", "fused", "native"}
        "auto" is "native", the compiled kernel, on the CPU and "fused" on any other device. It falls back to "fused"
        if the compiled kernel is unavailable, and logs the reason once.
    u : Tensor, optional
        A tensor on the device to use. Defaults to the CPU.

    Returns
    -------
    name : {"reference", "fused", "native"}
        The kernel to use.

    Raises
    ------
    ValueError
        If the backend is unknown.
    RuntimeError
        If a named backend is unavailable.

    Examples
    --------
    >>> from sfmts.kernels import resolve_resonator
    >>> resolve_resonator("fused")
    'fused'
    """
    device = torch.device("cpu") if u is None else u.device
    return _OPERATION.choose(backend, device, device)


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

    This is the state equation of the SFM (Eq. 1) for gates that read the input alone, in a frame that turns with each
    oscillator. The result of a sequence does not depend on the rest of the batch. Steps with decays of 1, a drive of 0
    and a dt of 0 leave the state unchanged, so they can pad a batch.

    Parameters
    ----------
    f_ste : Tensor of shape (T, B, D)
        Decay of each state, in (0, 1].
    f_fre : Tensor of shape (T, B, K), optional
        Decay of each frequency, in (0, 1]; all ones by default.
    u : Tensor of shape (T, B, D)
        Drive of each state, the same at all frequencies.
    omega : Tensor of shape (K, D), float64 or of u's type
        Frequencies in radians per unit of time.
    dt : Tensor of shape (T, B), float64, optional
        Time since the previous step; all ones by default. It gets no gradient.
    state : Tensor of shape (B, 2, K, D), optional
        S before the first step, zero by default. Pass ``S[-1]`` of one call to the next to continue a series.
    backend : {"auto", "reference", "fused", "native"}, default="auto"
        The kernel. "auto" is "native" on the CPU if it is available, otherwise "fused".

    Returns
    -------
    S : Tensor of shape (T, B, 2, K, D)
        Real and imaginary part after each step, of u's type.

    Raises
    ------
    ValueError
        If shapes or devices are inconsistent, or ``dt`` requires a gradient.
    TypeError
        If types are inconsistent.
    RuntimeError
        If a named backend is unavailable. Backends other than "reference" also raise it in a second derivative.

    Notes
    -----
    Phases are computed in float64 for all types, and half precision is computed in float32. In float32, cosine and
    sine are rounded. Without decay, a phase is then off by up to 6e-8 radians a step, and an amplitude by a factor of
    up to 1 + 6e-8.

    `torch.compile` breaks its graph here and runs the operation uncompiled. `torch.export` records one call of the
    operator ``sfmts::resonate``, which has no gradient.

    Examples
    --------
    A quarter of a turn per step, driven at the first step only:

    >>> import torch
    >>> from sfmts.kernels import resonate
    >>> decay, u = torch.full((3, 1, 1), 0.5), torch.tensor([8.0, 0.0, 0.0]).view(3, 1, 1)
    >>> S = resonate(decay, None, u, torch.tensor([[torch.pi / 2]]))
    >>> S.view(3, 2).round().add(0.0).tolist()
    [[8.0, 0.0], [0.0, -4.0], [-2.0, 0.0]]
    """
    run = _operator if is_exporting() else _resonate
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
    """Run a layer of damped oscillators: gates, :func:`resonate` and a read-out.

    .. code-block:: text

        f, g, i, o = sigmoid(a_f), sigmoid(a_g), tanh(a_i), sigmoid(a_o);  f_fre = sigmoid(a_fre), or 1 without
        S_t[k] = f f_fre[k] exp(-j omega[k] dt) S_{t-1}[k] + g i
        c_t    = sum_k alpha[k] Re S_t[k] + beta[k] Im S_t[k] + b_c
        h_t    = o tanh(c_t)

    The result of a sequence does not depend on the rest of the batch.

    Parameters
    ----------
    a : Tensor of shape (T, B, 4 D) or (T, B, 4 D + K)
        Pre-activations of f, g, i and o, D each, and with a frequency gate those of f_fre.
    omega : Tensor of shape (K, D), float64 or of a's type
        Frequencies in radians per unit of time.
    alpha, beta : Tensor of shape (K, D)
        Weights of real and imaginary parts in c. With ``beta=None`` the read-out takes amplitudes instead,
        c = sum_k alpha[k] abs(S[k]) + b_c.
    b_c : Tensor of shape (D,)
        Bias of c.
    dt : Tensor of shape (T, B), float64, optional
        Time since the previous step; all ones by default. It gets no gradient.
    state : Tensor of shape (B, 2, K, D), optional
        S before the first step, zero by default. Pass ``S[-1]`` of one call to the next to continue a series.
    mask : Tensor of shape (B, D), optional
        Factors of all h of a sequence, such as those of dropout. They get no gradient.
    backend : {"auto", "reference", "fused", "native"}, default="auto"
        The kernel. "auto" is "native" on the CPU if it is available, otherwise "fused". "native" is one pass over all
        steps. With ``beta=None``, it computes the recurrence, and PyTorch the gates and the read-out.

    Returns
    -------
    h : Tensor of shape (T, B, D)
        Output of each step, of a's type.
    S : Tensor of shape (T, B, 2, K, D)
        Real and imaginary part after each step, of a's type.

    Raises
    ------
    ValueError
        If shapes or devices are inconsistent, or ``dt`` or ``mask`` requires a gradient.
    TypeError
        If types are inconsistent.
    RuntimeError
        If a named backend is unavailable. Backends other than "reference" also raise it in a second derivative.

    Notes
    -----
    Phases and half precision are computed as in :func:`resonate`. `torch.export` records one call of the operator
    ``sfmts::resonator_layer``, which has no gradient. With ``backend="reference"`` it records PyTorch's own operations
    and a loop over the steps, which can be converted to ONNX.

    Examples
    --------
    With open gates and half a turn per step, the real part alternates:

    >>> import torch
    >>> from sfmts.kernels import resonator_layer
    >>> a = torch.full((3, 1, 4), 30.0)
    >>> one = torch.ones(1, 1)
    >>> h, S = resonator_layer(a, torch.pi * one, one, 0 * one, torch.zeros(1))
    >>> S[:, 0, 0].flatten().round().tolist()
    [1.0, 0.0, 1.0]
    """
    if is_exporting() and backend == "reference":
        h, S = reference.layer(_layer_inputs(a, omega, alpha, beta, b_c, dt, state, mask), _scanned)
        return h.to(a.dtype), S.to(a.dtype)
    run = _layer_operator if is_exporting() else _resonator_layer
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
    kernel = _OPERATION.kernels[resolve_resonator(backend, u)]
    dtype = torch.promote_types(u.dtype, torch.float32)
    if state is None:
        state = u.new_zeros(u.shape[1], 2, *omega.shape)
    inputs = Inputs(
        f_ste.to(dtype),
        None if f_fre is None else f_fre.to(dtype),
        u.to(dtype),
        omega.to(torch.float64),
        dt,
        state.to(dtype),
    )
    S: Tensor = kernel(inputs).to(u.dtype)
    return S


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
    inputs = _layer_inputs(a, omega, alpha, beta, b_c, dt, state, mask)
    h, S = _LAYER.kernels[resolve_resonator(backend, a)](inputs)
    return h.to(a.dtype), S.to(a.dtype)


def _scanned(inputs: Inputs) -> Tensor:
    """Return S after each step, (T, B, 2, K, D), by one loop that `torch.export` records."""
    check_loops()
    each_step = {"f_ste": inputs.f_ste, "f_fre": inputs.f_fre, "u": inputs.u, "dt": inputs.dt}
    given = {name: value.detach() for name, value in each_step.items() if value is not None}
    omega = inputs.omega.detach()

    def step(before: Tensors, now: Tensors) -> tuple[Tensors, Tensor]:
        values = dict(zip(given, now, strict=True))
        after = reference.step(before[0], values["f_ste"], values.get("f_fre"), values["u"], omega, values.get("dt"))
        return (after,), after.clone()  # a recorded loop may not return the same tensor twice

    _, S = recorded_loop(step, (inputs.state.detach(),), tuple(given.values()))
    return S


def _layer_inputs(
    a: Tensor,
    omega: Tensor,
    alpha: Tensor,
    beta: Tensor | None,
    b_c: Tensor,
    dt: Tensor | None,
    state: Tensor | None,
    mask: Tensor | None,
) -> LayerInputs:
    """Return the arguments in the types in which kernels compute."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    if state is None:
        state = a.new_zeros(a.shape[1], 2, *omega.shape)
    return LayerInputs(
        a.to(dtype),
        omega.to(torch.float64),
        alpha.to(dtype),
        None if beta is None else beta.to(dtype),
        b_c.to(dtype),
        dt,
        state.to(dtype),
        None if mask is None else mask.to(dtype),
    )


class _Part(NamedTuple):
    """An argument, and the shape and types that it must have."""

    name: str
    value: Tensor | None
    shape: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]
    is_optional: bool = False


def _check(
    f_ste: Tensor, f_fre: Tensor | None, u: Tensor, omega: Tensor, dt: Tensor | None, state: Tensor | None
) -> None:
    """Raise a ValueError or TypeError if the arguments of :func:`resonate` are inconsistent."""
    check_tensor("u", u)
    check_tensor("omega", omega, u, "u is")
    if u.ndim != 3 or omega.ndim != 2 or 0 in (*u.shape, *omega.shape):
        raise ValueError(
            f"u has shape {tuple(u.shape)} and omega {tuple(omega.shape)}, but (T, B, D) and (K, D) are needed, "
            "without empty axes."
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
    """Raise a ValueError or TypeError if the arguments of ``resonator_layer`` are inconsistent."""
    check_tensor("a", a)
    check_tensor("omega", omega, a, "a is")
    if a.ndim != 3 or omega.ndim != 2 or 0 in (*a.shape, *omega.shape):
        raise ValueError(
            f"a has shape {tuple(a.shape)} and omega {tuple(omega.shape)}, but (T, B, 4 D) or (T, B, 4 D + K), and "
            "(K, D) are needed, without empty axes."
        )
    B, (K, D) = a.shape[1], omega.shape
    if a.shape[2] not in (4 * D, 4 * D + K):
        raise ValueError(
            f"a is {a.shape[2]} wide, but with omega of shape {(K, D)} it must be {4 * D}, {D} each for f, g, i "
            f"and o, or {4 * D + K} with a frequency gate."
        )
    dtypes = a.dtype, torch.promote_types(a.dtype, torch.float32)
    read_out = [_Part("alpha", alpha, (K, D), dtypes), _Part("beta", beta, (K, D), dtypes, True)]
    read_out += [_Part("b_c", b_c, (D,), dtypes), _Part("mask", mask, (B, D), dtypes, True)]
    _check_parts("a", a, omega, [*read_out, *_recurrence_parts(a, omega, dt, state, D)])
    check_detached("dt", dt)
    check_detached("mask", mask)


def _recurrence_parts(x: Tensor, omega: Tensor, dt: Tensor | None, state: Tensor | None, D: int) -> list[_Part]:
    """Return the arguments that both operations share; x is u or a."""
    T, B, K = *x.shape[:2], len(omega)
    return [
        _Part("omega", omega, (K, D), (torch.float64, x.dtype)),
        _Part("dt", dt, (T, B), (torch.float64,), True),
        _Part("state", state, (B, 2, K, D), (x.dtype, torch.promote_types(x.dtype, torch.float32)), True),
    ]


def _check_parts(main: str, x: Tensor, omega: Tensor, parts: Iterable[_Part]) -> None:
    """Raise an error unless all parts have their shape, device and type; ``main`` is the name of x."""
    if not x.dtype.is_floating_point:
        raise TypeError(f"{main} is {x.dtype}, but must be of a floating-point type.")
    for name, value, shape, dtypes, is_optional in parts:
        if value is None and is_optional:
            continue
        check_fits(name, value, shape, **{main: x, "omega": omega})
        if value is not None and value.dtype not in dtypes:
            raise TypeError(f"{name} is {value.dtype}, but must be {dtypes[0]} with {main} of {x.dtype}.")


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
