"""Damped oscillators, bare and as a layer: oracles from the mathematics, and fast kernels against the reference."""

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest
import torch

from sfmts.kernels import _compiled, _linear_scan, _registry, resolve_resonator, resonate, resonator_layer
from sfmts.kernels._workspace import Workspace
from tests.helpers import (
    DTYPES,
    FAST_KERNELS,
    KERNELS,
    assert_same,
    every_dtype,
    every_fast_kernel,
    every_kernel,
    every_pair,
    spread,
    threads,
    with_gradients,
)

PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]
VARIANTS = ["fused", "fused as on a GPU", *(f"native {name}" for name in _compiled.library.instruction_sets())]


class Call:
    """What one call takes, as fields of a subclass; absent tensors are None."""

    steps = ()  # the names of what has axes of steps and of sequences
    drive = ""  # the one of them that adds to the states
    inexact = ()  # kernels that round by batch size: PyTorch rounds the odd numbers at an array's end in another way

    def leaves(self):
        return {name: value for name, value in vars(self).items() if value is not None and value.requires_grad}

    def outputs(self, backend):
        """Return outputs by name, the main one first."""
        outputs = self.run(backend)
        return {"S": outputs} if isinstance(outputs, torch.Tensor) else dict(zip(("h", "S"), outputs, strict=True))

    def results(self, backend, through=None):
        return with_gradients(self.outputs(backend), self.leaves(), through)

    def select(self, rows=slice(None), sequences=slice(None), **changes):
        """Return the case of some steps and some sequences."""
        parts = dict.fromkeys(self.steps, (rows, sequences)) | {"state": sequences, "mask": sequences}
        parts = {name: getattr(self, name)[at] for name, at in parts.items() if getattr(self, name, None) is not None}
        return replace(self, **parts | changes)


@dataclass(frozen=True)
class Case(Call):
    f_ste: torch.Tensor
    f_fre: torch.Tensor | None
    u: torch.Tensor
    omega: torch.Tensor
    dt: torch.Tensor | None
    state: torch.Tensor | None
    steps = ("f_ste", "f_fre", "u", "dt")
    drive = "u"
    inexact = ("fused",)

    def run(self, backend):
        return resonate(*vars(self).values(), backend=backend)


def make_case(T=9, B=4, K=3, D=7, dtype=torch.float64, f_fre=True, dt=True, state=True, least=0.5, seed=0):
    """Decays from ``least`` to 1, and uneven, often repeated time steps."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape, low, high):
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

    steps = torch.tensor([0.0, 1.0, 1.0, 0.3, 1234.5], dtype=torch.float64)
    return Case(
        uniform(T, B, D, low=least, high=1).to(dtype).requires_grad_(),
        uniform(T, B, K, low=least, high=1).to(dtype).requires_grad_() if f_fre else None,
        uniform(T, B, D, low=-1, high=1).to(dtype).requires_grad_(),
        uniform(K, D, low=-3, high=3).requires_grad_(),
        steps[torch.randint(len(steps), (T, B), generator=generator)] if dt else None,
        uniform(B, 2, K, D, low=-1, high=1).to(dtype).requires_grad_() if state else None,
    )


@dataclass(frozen=True)
class LayerCase(Call):
    a: torch.Tensor
    omega: torch.Tensor
    alpha: torch.Tensor
    beta: torch.Tensor | None
    b_c: torch.Tensor
    dt: torch.Tensor | None
    state: torch.Tensor | None
    mask: torch.Tensor | None
    steps = ("a", "dt")
    drive = "a"
    inexact = ("reference", "fused")

    def run(self, backend):
        return resonator_layer(*vars(self).values(), backend=backend)


def make_layer(
    T=9, B=4, K=3, D=7, dtype=torch.float64, f_fre=True, dt=True, state=True, beta=True, mask=True, least=0.5, seed=0
):
    """Forget gates mostly above ``least``, and about half of the outputs masked."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    case = make_case(T, B, K, D, dtype, dt=dt, state=state, seed=seed)
    a = 2 * normal(T, B, 4 * D + (K if f_fre else 0))
    a[..., :D] += 6 * least - 1
    return LayerCase(
        a.to(dtype).requires_grad_(),
        case.omega,
        normal(K, D).to(dtype).requires_grad_(),
        normal(K, D).to(dtype).requires_grad_() if beta else None,
        normal(D).to(dtype).requires_grad_(),
        case.dt,
        case.state,
        (2.0 * (normal(B, D) > 0)).to(dtype) if mask else None,
    )


MAKERS = {"resonate": make_case, "layer": make_layer}
every_operation = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def assert_close(got, expected, is_exact, **options):
    torch.testing.assert_close(got, expected, equal_nan=True, **({"atol": 0, "rtol": 0} if is_exact else {}), **options)


# -- oracles


@every_kernel
def test_undamped_oscillators_that_stand_still_add_up_their_input(backend):
    case = make_case(f_fre=False, dt=False)
    still = replace(case, f_ste=torch.ones_like(case.f_ste), omega=torch.zeros_like(case.omega))
    S = still.run(backend)
    torch.testing.assert_close(S[:, :, 0], case.state[:, 0] + case.u.cumsum(0)[:, :, None], atol=1e-14, rtol=0)
    torch.testing.assert_close(S[:, :, 1], case.state[:, 1].expand_as(S[:, :, 1]), atol=0, rtol=0)


@every_kernel
def test_constant_damping_in_closed_form(backend):
    """A state left to itself is a damped wave, and a constant drive a geometric series."""
    T, f_ste, f_fre, dt = 40, 0.9, 0.95, 1.7
    omega = torch.tensor([[0.3, 1.1], [-2.0, 0.0]], dtype=torch.float64)
    decays = torch.full((T, 1, 2), f_ste, dtype=torch.float64), torch.full((T, 1, 2), f_fre, dtype=torch.float64)
    u, start = torch.ones(T, 1, 2, dtype=torch.float64), torch.tensor([2.0, -3.0], dtype=torch.float64)
    state = start[:, None, None].expand(2, 2, 2)[None]
    steps = torch.full((T, 1), dt, dtype=torch.float64)
    S = resonate(*decays, u, omega, steps, state, backend=backend)
    q, t = f_ste * f_fre * torch.exp(-1j * omega * dt), torch.arange(1, T + 1, dtype=torch.float64)[:, None, None]
    expected = q**t * torch.complex(*start) + (1 - q**t) / (1 - q)
    torch.testing.assert_close(S[:, 0, 0], expected.real, atol=1e-13, rtol=0)
    torch.testing.assert_close(S[:, 0, 1], expected.imag, atol=1e-13, rtol=0)


@every_kernel
def test_undamped_oscillators_are_a_fourier_transform(backend):
    K, D = 8, 3
    u = torch.randn(K, 2, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    omega = (2 * torch.pi * torch.arange(K, dtype=torch.float64) / K)[:, None].expand(K, D)
    S = resonate(torch.ones_like(u), None, u, omega, backend=backend)[-1]
    torch.testing.assert_close(torch.hypot(S[:, 0], S[:, 1]), torch.fft.fft(u, dim=0).abs().transpose(0, 1))


@every_kernel
@every_dtype
def test_phase_of_a_long_pause(backend, dtype):
    """omega dt of a million radians is reduced before it is rounded."""
    one = torch.ones(1, 1, 1, dtype=dtype)
    omega, dt = torch.tensor([[1.2345]], dtype=torch.float64), torch.tensor([[1e6]], dtype=torch.float64)
    state = torch.tensor([1.0, 0.0], dtype=dtype).view(1, 2, 1, 1)
    S = resonate(one, None, 0 * one, omega, dt, state, backend=backend).flatten()
    expected = torch.tensor([math.cos(1.2345e6), -math.sin(1.2345e6)], dtype=dtype)
    torch.testing.assert_close(S, expected, atol=1e-9 if dtype == torch.float64 else 1e-7, rtol=0)


@every_kernel
@pytest.mark.parametrize("f_fre", [True, False])
def test_layer_is_its_equations_in_complex_numbers(backend, f_fre):
    case = make_layer(f_fre=f_fre)
    D, S = 7, torch.complex(*case.state.unbind(1))
    for t, a in enumerate(case.a):
        f, g, o = (torch.sigmoid(a[:, first : first + D]) for first in (0, D, 3 * D))
        i, damping = torch.tanh(a[:, 2 * D : 3 * D]), torch.sigmoid(a[:, 4 * D :, None]) if f_fre else 1.0
        S = f[:, None] * damping * torch.exp(-1j * case.omega * case.dt[t, :, None, None]) * S + (g * i)[:, None]
        c = (case.alpha * S.real + case.beta * S.imag).sum(1) + case.b_c
        h, history = (output[t] for output in case.run(backend))
        torch.testing.assert_close(h, o * torch.tanh(c) * case.mask, atol=1e-12, rtol=0)
        torch.testing.assert_close(history, torch.stack((S.real, S.imag), dim=1), atol=1e-12, rtol=0)


@every_kernel
def test_layer_that_reads_amplitudes(backend):
    """Which a turn of the first state does not change."""
    case = make_layer(beta=False, dt=False, mask=False)
    h, S = case.run(backend)
    c = (torch.hypot(S[:, :, 0], S[:, :, 1]) * case.alpha).sum(2) + case.b_c
    torch.testing.assert_close(h, torch.sigmoid(case.a[..., 21:28]) * torch.tanh(c))


@every_kernel
@pytest.mark.parametrize(
    ("make", "absent"),
    [
        *((make_case, absent) for absent in [(), ("f_fre",), ("dt",), ("f_fre", "dt", "state")]),
        *((make_layer, absent) for absent in [(), ("f_fre",), ("dt", "mask"), ("beta",), ("f_fre", "dt", "state")]),
    ],
)
def test_gradients_are_those_of_finite_differences(backend, make, absent):
    case = make(T=4, B=2, K=2, D=3, **dict.fromkeys(absent, False))
    if case.dt is not None:
        case = replace(case, dt=case.dt.clamp(max=1.5))  # differences in omega are told apart over few turns only
    leaves = case.leaves()

    def run(*values):
        return replace(case, **dict(zip(leaves, values, strict=True))).run(backend)

    assert torch.autograd.gradcheck(run, tuple(leaves.values()))


# -- parity

# Widths about those of the vectors: narrower, equal, overlapping by all but one number.
PARITY = {
    "T1-B1-K1-D1": {"T": 1, "B": 1, "K": 1, "D": 1},
    "T2-B5-K3-D7": {"T": 2, "B": 5, "K": 3, "D": 7},
    "T63-B5-K8-D33": {"T": 63, "B": 5, "K": 8, "D": 33},
    "T63-B1-K1-D12": {"T": 63, "B": 1, "K": 1, "D": 12},
    "T63-B70-K3-D12": {"T": 63, "B": 70, "K": 3, "D": 12},
    "T5-B3-K8-D16": {"T": 5, "B": 3, "K": 8, "D": 16},
    "T9-B2-K1-D2": {"T": 9, "B": 2, "K": 1, "D": 2},
    "T64-B2-K4-D108": {"T": 64, "B": 2, "K": 4, "D": 108},
    "T63-B5-K3-D33, f_ste alone": {"T": 63, "B": 5, "K": 3, "D": 33, "f_fre": False},
    "T63-B5-K3-D1, regular": {"T": 63, "B": 5, "K": 3, "D": 1, "dt": False},
    "T63-B5-K8-D7, from 0": {"T": 63, "B": 5, "K": 8, "D": 7, "state": False},
    "T63-B5-K3-D12, least": {"T": 63, "B": 5, "K": 3, "D": 12, "f_fre": False, "dt": False, "state": False},
    "T300-B3-K2-D5, forgetful": {"T": 300, "B": 3, "K": 2, "D": 5, "least": 0.0},
}


LAYER_PARITY = PARITY | {
    "T9-B3-K3-D7, all present": {"T": 9, "B": 3, "K": 3, "D": 7},
    "T9-B3-K20-D5, no mask": {"T": 9, "B": 3, "K": 20, "D": 5, "mask": False},
    "T9-B3-K3-D17, amplitudes": {"T": 9, "B": 3, "K": 3, "D": 17, "beta": False},
}


@functools.cache  # one run of the reference serves all others
def reference_results(make, name, dtype, through):
    return make(**LAYER_PARITY[name], dtype=dtype).results("reference", through)


def check_parity(monkeypatch, make, variant, name, precision, through=None):
    dtype, tolerance = precision
    backend, _, way = variant.partition(" ")
    if backend == "native":
        monkeypatch.setenv("SFMTS_INSTRUCTION_SET", way)
    elif way:
        monkeypatch.setattr(_linear_scan, "in_parallel", lambda x: True)
    got = make(**LAYER_PARITY[name], dtype=dtype).results(backend, through)
    assert_same(reference_results(make, name, dtype, through), got, tolerance)


@every_pair(name=PARITY, variant=VARIANTS, precision=PRECISIONS)
def test_parity(variant, precision, name, monkeypatch):
    check_parity(monkeypatch, make_case, variant, name, precision)


@every_pair(name=LAYER_PARITY, variant=VARIANTS, precision=PRECISIONS, through=[None, ("h",), ("S",)])
def test_layer_parity(variant, precision, name, through, monkeypatch):
    check_parity(monkeypatch, make_layer, variant, name, precision, through)


@every_fast_kernel
@every_operation
def test_strides_of_all_that_is_given(backend, make):
    case = make()
    strided = replace(case, **{name: spread(value) for name, value in vars(case).items()})
    assert not getattr(strided, case.drive).is_contiguous()
    found = []
    for one, given in ((case, lambda v: v), (strided, spread)):
        outputs = one.outputs(backend)
        above = [given(torch.linspace(-1, 1, v.numel(), dtype=v.dtype).view(v.shape)) for v in outputs.values()]
        gradients = torch.autograd.grad(list(outputs.values()), list(one.leaves().values()), above)
        found.append(outputs | {f"d{name}": value for name, value in zip(one.leaves(), gradients, strict=True)})
    assert_same(*found, 1e-13)


@every_fast_kernel
@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        *((make_case, wanted) for wanted in [("f_ste",), ("f_fre", "u"), ("omega",), ("state",)]),
        *((make_layer, wanted) for wanted in [("a",), ("omega", "beta"), ("alpha", "state"), ("b_c",)]),
    ],
)
def test_gradients_of_some_inputs_only(backend, make, wanted):
    case = make()
    through = tuple(case.outputs(backend))[:1]
    full = case.results(backend, through)
    some = {name: value.detach().requires_grad_(name in wanted) for name, value in vars(case).items()}
    got = replace(case, **some).results(backend, through)
    assert set(got) == {*case.outputs(backend), *(f"d{name}" for name in wanted)}
    assert_same({name: full[name] for name in got}, got)


@every_pair(make=MAKERS.values(), backend=KERNELS, dtype=[torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(make, backend, dtype):
    """The layer also beside parameters in single precision, as under autocast."""
    case = make(T=30, dtype=dtype)
    exact = replace(case, **{k: v.float() for k, v in vars(case).items() if v.dtype == dtype})
    expected = exact.outputs(backend)
    for given in (case, replace(exact, a=case.a)) if make is make_layer else (case,):
        for name, value in given.outputs(backend).items():
            assert value.dtype == dtype
            assert torch.equal(value, expected[name].to(dtype))


@every_kernel
def test_frequencies_may_have_the_type_of_the_input(backend):
    case = make_case(dtype=torch.float32)
    single = replace(case, omega=case.omega.detach().float().requires_grad_())
    double = replace(case, omega=single.omega.detach().double().requires_grad_())
    expected, got = double.results(backend), single.results(backend)
    assert got["domega"].dtype == torch.float32
    assert_same(expected | {"domega": expected["domega"].float()}, got)


# -- what a sequence may depend on


@every_pair(make=MAKERS.values(), backend=KERNELS, dtype=DTYPES, cut=[1, 20, 39])
def test_chunks_that_hand_on_their_state_are_the_whole(make, backend, dtype, cut):
    """Gradients go back through the chunk's end."""
    case = make(T=40, dtype=dtype)
    whole = case.outputs(backend)
    first = case.select(slice(0, cut)).outputs(backend)
    second = case.select(slice(cut, None), state=first["S"][-1]).outputs(backend)
    found = []
    for outputs in (whole, {name: torch.cat([first[name], second[name]]) for name in whole}):
        main = next(iter(outputs.values()))
        gradients = torch.autograd.grad(main.square().sum(), list(case.leaves().values()), retain_graph=True)
        found.append(outputs | {f"d{name}": value for name, value in zip(case.leaves(), gradients, strict=True)})
    assert_same(*found, 1e-12 if dtype == torch.float64 else 1e-5)


@every_pair(make=MAKERS.values(), backend=KERNELS, dtype=DTYPES, D=[7, 20])
def test_batch_mates_do_not_matter(make, backend, dtype, D):
    """Also where one of them is sick."""
    case = make(T=12, B=9, D=D, dtype=dtype)
    is_exact = backend not in case.inexact
    with torch.no_grad():
        getattr(case, case.drive)[3, 4, 0] = float("nan")
        case.state[7] = float("inf")
    wanted = [case.leaves()[name] for name in case.steps if name in case.leaves()]

    def run(some, above):
        outputs = list(some.outputs(backend).values())
        return outputs, torch.autograd.grad(outputs[0], wanted, above)

    shape = next(iter(case.outputs("reference").values())).shape
    above = torch.randn(shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64).to(dtype)
    outputs, gradients = run(case, above)
    assert outputs[-1][3:, 4].isnan().any()
    for b in (0, 3, 8):
        alone, alone_gradients = run(case.select(slice(None), slice(b, b + 1)), above[:, b : b + 1])
        for got, expected in zip(alone, outputs, strict=True):
            assert_close(got[:, 0], expected[:, b], is_exact)
        for got, expected in zip(alone_gradients, gradients, strict=True):
            assert_close(got[:, b], expected[:, b], is_exact)


@every_kernel
@every_dtype
def test_padding_leaves_the_state_as_it_is(backend, dtype):
    case = make_case(T=10, dtype=dtype)
    neutral = {"f_ste": 1.0, "f_fre": 1.0, "u": 0.0, "dt": 0.0}
    padding = {name: torch.full_like(getattr(case, name)[:5], value) for name, value in neutral.items()}
    longer = replace(case, **{name: torch.cat([getattr(case, name), rows]) for name, rows in padding.items()})
    S, padded = case.run(backend), longer.run(backend)
    assert torch.equal(padded[:10], S)
    assert torch.equal(padded[10:], S[-1:].expand_as(padded[10:]))
    leaves = list(case.leaves().values())
    gradients = [torch.autograd.grad(value[-1].square().sum(), leaves) for value in (S, padded)]
    for expected, got in zip(*gradients, strict=True):
        assert_close(got, expected, backend not in case.inexact)


@every_pair(make=MAKERS.values(), dtype=DTYPES, size=[(5, 3, 33), (40, 3, 12), (3, 8, 108)])
def test_native_threads_do_not_matter(make, dtype, size):
    """Bit for bit, also the gradient that is a sum over the batch."""
    B, K, D = size
    case = make(B=B, K=K, D=D, dtype=dtype)
    results = []
    for n in (1, 2, 3, 7):
        with threads(n):
            results.append(case.results("native"))
    for other in results[1:]:
        assert_same(results[0], other)


@every_operation
def test_native_calls_from_several_python_threads(make):
    cases = [make(T=T, B=B, D=D, seed=T) for T, B, D in [(200, 2, 7), (60, 9, 33), (30, 33, 1), (17, 40, 12)]]
    alone = [case.results("native") for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: case.results("native"), cases * 5))
    for expected, got in zip(alone * 5, together, strict=True):
        assert_same(expected, got)


# -- numbers at their limits


@every_fast_kernel
@every_dtype
def test_a_long_series_that_forgets_quickly(backend, dtype):
    """Products of decays vanish; states and gradients stay those of the last few steps."""
    T = 20_000
    generator = torch.Generator().manual_seed(0)
    f = torch.tensor([1e-3, 1e-20, 0.5], dtype=dtype).expand(T, 1, 3).clone().requires_grad_()
    u = torch.randn(T, 1, 3, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
    omega = torch.linspace(0.1, 3, 3, dtype=torch.float64)[None].requires_grad_()
    S = resonate(f, None, u, omega, backend=backend)
    gradients = torch.autograd.grad(S[-1].sum(), (f, u, omega))
    assert all(torch.isfinite(value).all() for value in (S, *gradients))
    assert S.abs().max() < 20
    q = 0.5 * torch.exp(-1j * omega[0, 2]).detach()
    last = (q ** torch.arange(60).flip(0) * u[-60:, 0, 2].detach().double()).sum()
    torch.testing.assert_close(S[-1, 0, :, 0, 2], torch.stack((last.real, last.imag)).to(dtype))


@pytest.mark.parametrize(("dtype", "steps"), [(torch.float32, 65), (torch.float64, 515)])
def test_native_state_that_decays_into_denormals(dtype, steps):
    """Powers of 1/4 down to nothing: the kernel may take the smallest as 0, and leaves the processor's mode alone."""
    decay, u = torch.full((steps, 2, 5), 0.25, dtype=dtype), torch.zeros(steps, 2, 5, dtype=dtype)
    omega, state = torch.ones(3, 5, dtype=torch.float64), torch.ones(2, 2, 3, 5, dtype=dtype)
    expected, got = (resonate(decay, None, u, omega, None, state, backend=name) for name in ("reference", "native"))
    smallest = torch.finfo(dtype).tiny
    assert 0 < expected[-1].abs().min() < smallest
    assert (got[-1] - expected[-1]).abs().max() <= smallest
    torch.testing.assert_close(got[:-20], expected[:-20])
    assert (torch.tensor(smallest, dtype=dtype) / 2).item() > 0


@every_fast_kernel
@every_dtype
@pytest.mark.parametrize("value", [200.0, -200.0, 1e30, -1e30])
def test_layer_whose_gates_are_fully_open_or_shut(backend, dtype, value):
    case = make_layer(dtype=dtype, least=0.0)
    extreme = replace(case, a=torch.full_like(case.a, value).requires_grad_())
    assert_same(extreme.results("reference", ("h",)), extreme.results(backend, ("h",)), dict(PRECISIONS)[dtype])


@pytest.mark.parametrize("kept", [0, 1 << 29])
def test_native_results_have_memory_of_their_own(kept, monkeypatch):
    """As long as they or a view of them are in use; what is not goes into the next results."""
    monkeypatch.setattr(Workspace, "limit", kept)
    monkeypatch.setattr(Workspace, "_store", [])
    case = make_layer()
    with torch.no_grad():
        view = case.run("native")[1][-1]
        values = view.clone()
        others = [replace(case, a=a).run("native")[1] for a in (case.a + 1, case.a + 2)]
        copies = [S.clone() for S in others]
        for a in (case.a + 3, case.a + 4):
            replace(case, a=a).run("native")
    assert torch.equal(view, values)
    assert_same(dict(enumerate(copies)), dict(enumerate(others)))


# -- graphs


@every_fast_kernel
@every_operation
def test_backward_twice(backend, make):
    case = make()
    loss, leaves = sum(value.square().sum() for value in case.outputs(backend).values()), list(case.leaves().values())
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    second = torch.autograd.grad(loss, leaves)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("make", "backend", "name"),
    [
        *((make_case, backend, name) for backend in FAST_KERNELS for name in ("f_ste", "omega", "state", "S")),
        *((make_layer, "native", name) for name in ("a", "alpha", "state", "S")),
    ],
)
def test_changing_what_the_backward_needs_is_noticed(make, backend, name):
    case = make()
    outputs = case.outputs(backend)
    with torch.no_grad():
        (case.leaves() | outputs)[name].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        next(iter(outputs.values())).sum().backward()


@every_fast_kernel
@every_operation
def test_second_derivatives_are_refused_not_wrong(backend, make):
    case = make()
    loss = next(iter(case.outputs(backend).values())).sum()
    with pytest.raises(RuntimeError, match=f"backend='{backend}' has first derivatives only; use backend='reference'"):
        torch.autograd.grad(loss, getattr(case, case.drive), create_graph=True)


@every_kernel
@every_operation
def test_without_gradients_there_is_no_graph(backend, make):
    case = make()
    with torch.no_grad():
        assert not any(value.requires_grad for value in case.outputs(backend).values())
    with torch.inference_mode():
        torch.testing.assert_close(case.run(backend), case.run("reference"))


class Module(torch.nn.Module):
    """The call of a case, with its parameters; ``drive`` is doubled, so that something comes before the call."""

    def __init__(self, case):
        super().__init__()
        self.case = replace(case, state=None, **({"mask": None} if isinstance(case, LayerCase) else {}))
        constants = {name: value for name, value in case.leaves().items() if name not in (*case.steps, "state")}
        self.constants = torch.nn.ParameterDict({name: value.detach() for name, value in constants.items()})

    def forward(self, *steps):
        given = dict(zip(self.case.steps, steps, strict=True)) | dict(self.constants)
        case = replace(self.case, **given | {self.case.drive: 2 * given[self.case.drive]})
        return next(iter(case.outputs("auto").values()))


@every_operation
def test_export(make):
    case = make()
    module, inputs = Module(case), tuple(getattr(case, name).detach() for name in case.steps)
    program = torch.export.export(module, inputs, strict=False)
    assert f"sfmts.{'resonate' if make is make_case else 'resonator_layer'}" in program.graph_module.code
    assert torch.equal(program.module()(*inputs), module(*inputs))


@every_operation
def test_compilation_goes_around_the_kernel(make):
    """And trains all the same."""
    case = make()
    module, inputs = Module(case), tuple(getattr(case, name) for name in case.steps)
    wanted = [getattr(case, case.drive), *module.parameters()]
    expected = torch.autograd.grad(module(*inputs).sum(), wanted)
    got = torch.autograd.grad(torch.compile(module, backend="eager")(*inputs).sum(), wanted)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


# -- mistakes

MISFITS = {
    make_case: [
        ("f_ste", lambda v: v[:-1], ValueError, r"f_ste has shape \(8, 4, 7\), but \(9, 4, 7\) is needed with u"),
        ("f_fre", lambda v: v[..., :2], ValueError, r"f_fre has shape \(9, 4, 2\), but \(9, 4, 3\) is needed"),
        ("omega", lambda v: v[:, :6], ValueError, r"omega has shape \(3, 6\), but \(3, 7\) is needed"),
        ("omega", lambda v: v[0], ValueError, r"omega \(7,\), but \(T, B, D\) and \(K, D\) are needed"),
        ("u", lambda v: v[:0], ValueError, r"u has shape \(0, 4, 7\).* are needed, without empty axes"),
        ("dt", lambda v: v.T, ValueError, r"dt has shape \(4, 9\), but \(9, 4\) is needed"),
        ("state", lambda v: v[:, :1], ValueError, r"state has shape \(4, 1, 3, 7\), but \(4, 2, 3, 7\) is needed"),
        ("f_ste", torch.Tensor.float, TypeError, "f_ste is torch.float32, but must be torch.float64 with u"),
        ("omega", torch.Tensor.half, TypeError, "omega is torch.float16, but must be torch.float64 with u"),
        ("dt", torch.Tensor.float, TypeError, "dt is torch.float32, but must be torch.float64"),
        ("u", torch.Tensor.long, TypeError, "u is torch.int64, but must be of a floating-point type"),
        ("f_ste", lambda v: v.to("meta"), ValueError, "f_ste is on meta, but must be on cpu as u is"),
        ("dt", lambda v: v.requires_grad_(), ValueError, "dt requires a gradient"),
    ],
    make_layer: [
        ("a", lambda v: v[..., :-1], ValueError, r"a is 30 wide, but .* must be 28, 7 each .*, or 31 with a frequency"),
        ("a", lambda v: v[:0], ValueError, r"a has shape \(0, 4, 31\).* are needed, without empty axes"),
        ("a", lambda v: v[0], ValueError, r"a has shape \(4, 31\).* are needed"),
        ("a", torch.Tensor.long, TypeError, "a is torch.int64, but must be of a floating-point type"),
        ("omega", lambda v: v[:2], ValueError, r"a is 31 wide, but with omega of shape \(2, 7\) it must be 28"),
        ("alpha", lambda v: v[:2], ValueError, r"alpha has shape \(2, 7\), but \(3, 7\) is needed with a of shape"),
        ("beta", lambda v: v[:, :1], ValueError, r"beta has shape \(3, 1\), but \(3, 7\) is needed"),
        ("b_c", lambda v: v[:1], ValueError, r"b_c has shape \(1,\), but \(7,\) is needed"),
        ("dt", lambda v: v.T, ValueError, r"dt has shape \(4, 9\), but \(9, 4\) is needed"),
        ("state", lambda v: v[:1], ValueError, r"state has shape \(1, 2, 3, 7\), but \(4, 2, 3, 7\) is needed"),
        ("mask", lambda v: v[0], ValueError, r"mask has shape \(7,\), but \(4, 7\) is needed"),
        ("alpha", torch.Tensor.half, TypeError, "alpha is torch.float16, but must be torch.float64 with a"),
        ("mask", lambda v: v > 0, TypeError, "mask is torch.bool, but must be torch.float64"),
        ("b_c", lambda v: v.to("meta"), ValueError, "b_c is on meta, but must be on cpu as a is"),
        ("dt", lambda v: v.requires_grad_(), ValueError, "dt requires a gradient"),
        ("mask", lambda v: v.requires_grad_(), ValueError, "mask requires a gradient"),
    ],
}


@pytest.mark.parametrize(
    ("make", "name", "change", "error", "message"), [(make, *row) for make, rows in MISFITS.items() for row in rows]
)
def test_what_does_not_fit_is_refused(make, name, change, error, message):
    case = make()
    for backend in KERNELS:
        with pytest.raises(error, match=message):
            replace(case, **{name: change(getattr(case, name).detach())}).run(backend)


def test_unknown_kernels_are_refused():
    with pytest.raises(
        ValueError, match="Unknown backend 'cuda'; choose one of 'auto', 'reference', 'fused', 'native'"
    ):
        make_case().run("cuda")


def test_the_compiled_kernel_is_for_the_processor():
    elsewhere = torch.empty(1, device="meta")
    assert resolve_resonator("auto") == "native"
    assert resolve_resonator("auto", elsewhere) == "fused"
    with pytest.raises(RuntimeError, match=r"backend='native' is unavailable here: .* runs on the CPU.* are on meta"):
        resolve_resonator("native", elsewhere)


@pytest.mark.parametrize("age", ["missing", "resonate", "project"])
def test_without_the_compiled_kernel_the_fused_one_serves(age, monkeypatch, caplog):
    """Told once; an extension of an earlier version lacks one function or both."""
    _registry._log_once.cache_clear()
    if age == "missing":
        monkeypatch.setattr(_compiled, "_reason", "the compiled kernel is damaged: reinstall sfmts")
    else:
        monkeypatch.delattr(_compiled.library, age)
    case = make_case()
    with caplog.at_level("WARNING", logger="sfmts"):
        results = [case.run("auto") for _ in range(2)]
    assert all(torch.equal(S, case.run("fused")) for S in results)
    assert len(caplog.records) == 1
    assert "reinstall sfmts" in caplog.text
    with pytest.raises(RuntimeError, match=r"backend='native' is unavailable here: the compiled kernel is .*reinstall"):
        case.run("native")
    _registry._log_once.cache_clear()
