"""Damped oscillators, bare and as a layer: oracles from the mathematics, and fast kernels against the reference."""

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest
import torch

from sfmts.kernels import _compiled, _linear_scan, _registry, resolve_resonator, resonate, resonator_layer
from sfmts.kernels._workspace import Workspace

KERNELS = ["reference", "fused", "native"]
FAST_KERNELS = KERNELS[1:]
INSTRUCTION_SETS = _compiled.library.instruction_sets()
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]

every_kernel = pytest.mark.parametrize("backend", KERNELS)
every_fast_kernel = pytest.mark.parametrize("backend", FAST_KERNELS)
every_precision = pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["f64", "f32"])
every_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])


@pytest.fixture
def threads():
    """`torch.set_num_threads`, undone afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Case:
    """What one call takes."""

    f_ste: torch.Tensor
    f_fre: torch.Tensor | None
    u: torch.Tensor
    omega: torch.Tensor
    dt: torch.Tensor | None
    state: torch.Tensor | None

    def run(self, backend):
        return resonate(*vars(self).values(), backend=backend)

    def leaves(self):
        return {name: value for name, value in vars(self).items() if value is not None and value.requires_grad}

    def change(self, function):
        """The case of ``function`` of every tensor that has a batch axis, which comes second in all but the state."""
        state = None if self.state is None else function(self.state[None])[0]
        parts = {name: value for name, value in vars(self).items() if name not in ("omega", "state")}
        return Case(**{k: None if v is None else function(v) for k, v in parts.items()}, omega=self.omega, state=state)


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
class LayerCase:
    """What one call of the layer takes."""

    a: torch.Tensor
    omega: torch.Tensor
    alpha: torch.Tensor
    beta: torch.Tensor | None
    b_c: torch.Tensor
    dt: torch.Tensor | None
    state: torch.Tensor | None
    mask: torch.Tensor | None

    leaves = Case.leaves

    def run(self, backend):
        return resonator_layer(*vars(self).values(), backend=backend)

    def select(self, rows, sequences=slice(None), state=None):
        """The case of some steps and some sequences, going on from ``state``."""
        parts = {name: getattr(self, name) for name in ("a", "dt")}
        parts = {name: None if v is None else v[rows, sequences] for name, v in parts.items()}
        state = self.state[sequences] if state is None else state
        return replace(self, **parts, state=state, mask=None if self.mask is None else self.mask[sequences])


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


def layer_results(case, backend, through=("h",)):
    outputs = dict(zip(("h", "S"), case.run(backend), strict=True))
    generator = torch.Generator().manual_seed(99)
    above = {name: torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v) for name, v in outputs.items()}
    leaves = case.leaves()
    gradients = torch.autograd.grad(
        [outputs[name] for name in through], list(leaves.values()), [above[name] for name in through], allow_unused=True
    )
    gradients = [torch.zeros_like(v) if g is None else g for v, g in zip(leaves.values(), gradients, strict=True)]
    values = {name: value.detach() for name, value in outputs.items()}
    return values | {f"d{name}": value for name, value in zip(leaves, gradients, strict=True)}


def outputs_and_gradients(case, backend):
    S = case.run(backend)
    above = torch.randn(S.shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64).to(S.dtype)
    leaves = case.leaves()
    gradients = torch.autograd.grad(S, list(leaves.values()), above)
    return {"S": S.detach()} | {f"d{name}": value for name, value in zip(leaves, gradients, strict=True)}


def spread(value):
    """Values over twice the memory, the axes in the wrong order."""
    wide = torch.full([2 * size for size in reversed(value.shape)], float("nan"), dtype=value.dtype)
    view = wide[(slice(None, None, 2),) * value.ndim].permute(*reversed(range(value.ndim)))
    return view.copy_(value.detach()).requires_grad_(value.requires_grad)


def assert_same(expected, got, tolerance):
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        assert got[name].dtype == value.dtype, name
        assert torch.isfinite(got[name]).all(), name
        error = float((got[name] - value).abs().max() / value.abs().max().clamp_min(1e-30))
        assert error < tolerance, f"{name}: relative error {error:.2g}"


def assert_equal(expected, got):
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(got[name], value), name


def assert_close(got, expected, backend, inexact=("fused",), **options):
    """Bit for bit, but for the inexact: PyTorch rounds the odd numbers at an array's end in another way."""
    exact = {} if backend in inexact else {"atol": 0, "rtol": 0}
    torch.testing.assert_close(got, expected, equal_nan=True, **exact, **options)


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
@pytest.mark.parametrize("absent", [(), ("f_fre",), ("dt",), ("f_fre", "dt", "state")], ids=str)
def test_gradients_are_those_of_finite_differences(backend, absent):
    case = make_case(T=4, B=2, K=2, D=3, **dict.fromkeys(absent, False))
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


@functools.cache  # one run of the reference serves all others
def reference_results(name, dtype):
    return outputs_and_gradients(make_case(**PARITY[name], dtype=dtype), "reference")


@every_fast_kernel
@every_precision
@pytest.mark.parametrize("name", PARITY)
def test_parity(backend, dtype, tolerance, name):
    got = outputs_and_gradients(make_case(**PARITY[name], dtype=dtype), backend)
    assert_same(reference_results(name, dtype), got, tolerance)


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@every_precision
@pytest.mark.parametrize("name", PARITY)
def test_parity_of_every_native_instruction_set(instruction_set, dtype, tolerance, name, monkeypatch):
    monkeypatch.setenv("SFMTS_INSTRUCTION_SET", instruction_set)
    got = outputs_and_gradients(make_case(**PARITY[name], dtype=dtype), "native")
    assert_same(reference_results(name, dtype), got, tolerance)


@every_precision
@pytest.mark.parametrize("name", PARITY)
def test_parity_of_the_fused_kernel_as_on_a_gpu(dtype, tolerance, name, monkeypatch):
    monkeypatch.setattr(_linear_scan, "in_parallel", lambda x: True)
    got = outputs_and_gradients(make_case(**PARITY[name], dtype=dtype), "fused")
    assert_same(reference_results(name, dtype), got, tolerance)


@every_fast_kernel
def test_strides_of_all_that_is_given(backend):
    case = make_case()
    strided = Case(**{name: spread(value) for name, value in vars(case).items()})
    above = torch.linspace(-1, 1, 9 * 4 * 2 * 3 * 7, dtype=torch.float64).view(9, 4, 2, 3, 7)
    expected = torch.autograd.grad(case.run(backend), list(case.leaves().values()), above)
    got = torch.autograd.grad(strided.run(backend), list(strided.leaves().values()), spread(above))
    assert not strided.u.is_contiguous()
    for name, *pair in zip(case.leaves(), expected, got, strict=True):
        assert_same({name: pair[0]}, {name: pair[1]}, 1e-13)


@every_fast_kernel
@pytest.mark.parametrize("wanted", [("f_ste",), ("f_fre", "u"), ("omega",), ("state",)])
def test_gradients_of_some_inputs_only(backend, wanted):
    case = make_case()
    full = outputs_and_gradients(case, backend)
    some = Case(**{name: value.detach().requires_grad_(name in wanted) for name, value in vars(case).items()})
    got = outputs_and_gradients(some, backend)
    assert set(got) == {"S", *(f"d{name}" for name in wanted)}
    assert_equal({name: full[name] for name in got}, got)


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(backend, dtype):
    case = make_case(T=30, dtype=dtype)
    exact = Case(**{name: value.float() if value.dtype == dtype else value for name, value in vars(case).items()})
    S = case.run(backend)
    assert S.dtype == dtype
    assert torch.equal(S, exact.run(backend).to(dtype))


@every_kernel
def test_frequencies_may_have_the_type_of_the_input(backend):
    case = make_case(dtype=torch.float32)
    single = replace(case, omega=case.omega.detach().float().requires_grad_())
    double = replace(case, omega=single.omega.detach().double().requires_grad_())
    expected, got = outputs_and_gradients(double, backend), outputs_and_gradients(single, backend)
    assert got["domega"].dtype == torch.float32
    assert_equal(expected | {"domega": expected["domega"].float()}, got)


# -- what a sequence may depend on


@every_kernel
@every_dtype
@pytest.mark.parametrize("cut", [1, 20, 39])
def test_chunks_that_hand_on_their_state_are_the_whole(backend, dtype, cut):
    case = make_case(T=40, dtype=dtype)

    def run(part, state):
        rows = {name: value[part] for name, value in vars(case).items() if name not in ("omega", "state")}
        return Case(**rows, omega=case.omega, state=state).run(backend)

    whole = case.run(backend)
    first = run(slice(0, cut), case.state)
    parts = torch.cat([first, run(slice(cut, None), first[-1])])
    gradients = [torch.autograd.grad(S.square().sum(), list(case.leaves().values())) for S in (whole, parts)]
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert_same({"S": whole.detach()}, {"S": parts.detach()}, tolerance)
    for name, *pair in zip(case.leaves(), *gradients, strict=True):
        assert_same({name: pair[0]}, {name: pair[1]}, tolerance)


@every_kernel
@every_dtype
@pytest.mark.parametrize("D", [7, 20])
def test_batch_mates_do_not_matter(backend, dtype, D):
    """Also where one of them is sick."""
    case = make_case(T=12, B=9, D=D, dtype=dtype)
    with torch.no_grad():
        case.u[3, 4, 0] = float("nan")
        case.state[7] = float("inf")
    together = outputs_and_gradients(replace(case, omega=case.omega.detach()), backend)
    S = case.run(backend)
    assert S[3:, 4].isnan().any()
    for b in (0, 3, 8):
        alone = case.change(lambda value, b=b: value[:, b : b + 1])
        assert_close(alone.run(backend)[:, 0], S[:, b], backend)
        above = torch.randn(S.shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64).to(dtype)
        gradients = torch.autograd.grad(alone.run(backend), (case.f_ste, case.f_fre, case.u), above[:, b : b + 1])
        for name, gradient in zip(("df_ste", "df_fre", "du"), gradients, strict=True):
            assert_close(gradient[:, b], together[name][:, b], backend, msg=name)


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
        assert_close(got, expected, backend)


@every_dtype
@pytest.mark.parametrize(("B", "K", "D"), [(5, 3, 33), (40, 3, 12), (3, 8, 108)])
def test_native_threads_do_not_matter(dtype, B, K, D, threads):
    """Bit for bit, also the gradient that is a sum over the batch."""
    case = make_case(B=B, K=K, D=D, dtype=dtype)
    results = []
    for n in (1, 2, 3, 7):
        threads(n)
        results.append(outputs_and_gradients(case, "native"))
    for other in results[1:]:
        assert_equal(results[0], other)


def test_native_calls_from_several_python_threads():
    cases = [make_case(T=T, B=B, D=D, seed=T) for T, B, D in [(200, 2, 7), (60, 9, 33), (30, 33, 1), (17, 40, 12)]]
    alone = [outputs_and_gradients(case, "native") for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: outputs_and_gradients(case, "native"), cases * 5))
    for expected, got in zip(alone * 5, together, strict=True):
        assert_equal(expected, got)


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


# -- the layer


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
@pytest.mark.parametrize("absent", [(), ("f_fre",), ("dt", "mask"), ("beta",), ("f_fre", "dt", "state")], ids=str)
def test_layer_gradients_are_those_of_finite_differences(backend, absent):
    case = make_layer(T=4, B=2, K=2, D=3, **dict.fromkeys(absent, False))
    if case.dt is not None:
        case = replace(case, dt=case.dt.clamp(max=1.5))
    leaves = case.leaves()

    def run(*values):
        return replace(case, **dict(zip(leaves, values, strict=True))).run(backend)

    assert torch.autograd.gradcheck(run, tuple(leaves.values()))


LAYER_PARITY = PARITY | {
    "T9-B3-K3-D7, all present": {"T": 9, "B": 3, "K": 3, "D": 7},
    "T9-B3-K20-D5, no mask": {"T": 9, "B": 3, "K": 20, "D": 5, "mask": False},
    "T9-B3-K3-D17, amplitudes": {"T": 9, "B": 3, "K": 3, "D": 17, "beta": False},
}
every_way = pytest.mark.parametrize("through", [("h",), ("S",), ("h", "S")], ids="-".join)


@functools.cache
def layer_reference(name, dtype, through):
    return layer_results(make_layer(**LAYER_PARITY[name], dtype=dtype), "reference", through)


@every_fast_kernel
@every_precision
@every_way
@pytest.mark.parametrize("name", LAYER_PARITY)
def test_layer_parity(backend, dtype, tolerance, through, name):
    got = layer_results(make_layer(**LAYER_PARITY[name], dtype=dtype), backend, through)
    assert_same(layer_reference(name, dtype, through), got, tolerance)


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@every_precision
@pytest.mark.parametrize("name", LAYER_PARITY)
def test_layer_parity_of_every_native_instruction_set(instruction_set, dtype, tolerance, name, monkeypatch):
    monkeypatch.setenv("SFMTS_INSTRUCTION_SET", instruction_set)
    got = layer_results(make_layer(**LAYER_PARITY[name], dtype=dtype), "native", ("h", "S"))
    assert_same(layer_reference(name, dtype, ("h", "S")), got, tolerance)


@every_fast_kernel
def test_layer_strides_of_all_that_is_given(backend):
    case = make_layer()
    strided = LayerCase(**{name: spread(value) for name, value in vars(case).items()})
    assert not strided.a.is_contiguous()
    assert_same(layer_results(case, backend, ("h", "S")), layer_results(strided, backend, ("h", "S")), 1e-13)


@every_fast_kernel
@pytest.mark.parametrize("wanted", [("a",), ("omega", "beta"), ("alpha", "state"), ("b_c",)])
def test_layer_gradients_of_some_inputs_only(backend, wanted):
    case = make_layer()
    full = layer_results(case, backend)
    some = LayerCase(**{name: value.detach().requires_grad_(name in wanted) for name, value in vars(case).items()})
    got = layer_results(some, backend)
    assert set(got) == {"h", "S", *(f"d{name}" for name in wanted)}
    assert_equal({name: full[name] for name in got}, got)


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layer_in_half_precision_is_computed_in_single(backend, dtype):
    """Also beside parameters in single precision, as under autocast."""
    case = make_layer(T=30, dtype=dtype)
    exact = LayerCase(**{name: value.float() if value.dtype == dtype else value for name, value in vars(case).items()})
    expected = exact.run(backend)
    for given in (case, replace(exact, a=case.a)):
        outputs = given.run(backend)
        assert [output.dtype for output in outputs] == [dtype, dtype]
        assert all(torch.equal(a, b.to(dtype)) for a, b in zip(outputs, expected, strict=True))


@every_kernel
@every_dtype
@pytest.mark.parametrize("cut", [1, 20, 39])
def test_layer_in_chunks_is_the_whole(backend, dtype, cut):
    """Gradients go back through the chunk's end."""
    case = make_layer(T=40, dtype=dtype)
    whole, _ = case.run(backend)
    first, history = case.select(slice(0, cut)).run(backend)
    second, _ = case.select(slice(cut, None), state=history[-1]).run(backend)
    parts, leaves = torch.cat([first, second]), case.leaves()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert_same({"h": whole.detach()}, {"h": parts.detach()}, tolerance)
    gradients = [torch.autograd.grad(h.square().sum(), list(leaves.values())) for h in (whole, parts)]
    for name, *pair in zip(leaves, *gradients, strict=True):
        assert_same({name: pair[0]}, {name: pair[1]}, tolerance)


@every_kernel
@every_dtype
@pytest.mark.parametrize("D", [7, 20])
def test_layer_batch_mates_do_not_matter(backend, dtype, D):
    """Also where one of them is sick."""
    inexact = "reference", "fused"
    case = make_layer(T=12, B=9, D=D, dtype=dtype)
    with torch.no_grad():
        case.a[3, 4, 0] = float("nan")
        case.state[7] = float("inf")
    together = layer_results(replace(case, omega=case.omega.detach()), backend)
    assert together["S"][3:, 4].isnan().any()
    above = torch.randn(together["h"].shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64).to(dtype)
    for b in (0, 3, 8):
        h, S = case.select(slice(None), slice(b, b + 1)).run(backend)
        assert_close(h[:, 0], together["h"][:, b], backend, inexact)
        assert_close(S[:, 0], together["S"][:, b], backend, inexact)
        (da,) = torch.autograd.grad(h, case.a, above[:, b : b + 1])
        assert_close(da[:, b], together["da"][:, b], backend, inexact)


@every_dtype
@pytest.mark.parametrize(("B", "K", "D"), [(5, 3, 33), (40, 3, 12), (3, 8, 108)])
def test_native_layer_threads_do_not_matter(dtype, B, K, D, threads):
    case = make_layer(B=B, K=K, D=D, dtype=dtype)
    results = []
    for n in (1, 2, 3, 7):
        threads(n)
        results.append(layer_results(case, "native", ("h", "S")))
    for other in results[1:]:
        assert_equal(results[0], other)


def test_native_layer_from_several_python_threads():
    cases = [make_layer(T=T, B=B, D=D, seed=T) for T, B, D in [(200, 2, 7), (60, 9, 33), (30, 33, 1), (17, 40, 12)]]
    alone = [layer_results(case, "native") for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: layer_results(case, "native"), cases * 5))
    for expected, got in zip(alone * 5, together, strict=True):
        assert_equal(expected, got)


@every_fast_kernel
@every_dtype
@pytest.mark.parametrize("value", [200.0, -200.0, 1e30, -1e30])
def test_layer_whose_gates_are_fully_open_or_shut(backend, dtype, value):
    case = make_layer(dtype=dtype, least=0.0)
    extreme = replace(case, a=torch.full_like(case.a, value).requires_grad_())
    assert_same(
        layer_results(extreme, "reference"), layer_results(extreme, backend), 1e-12 if dtype.itemsize == 8 else 1e-5
    )


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
    assert_equal(dict(enumerate(copies)), dict(enumerate(others)))


@every_fast_kernel
def test_layer_backward_twice(backend):
    case = make_layer()
    h, S = case.run(backend)
    loss, leaves = h.square().sum() + S.sum(), list(case.leaves().values())
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    second = torch.autograd.grad(loss, leaves)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["a", "alpha", "state", "S"])
def test_changing_what_the_native_layer_needs_is_noticed(name):
    case = make_layer()
    h, S = case.run("native")
    with torch.no_grad():
        (S if name == "S" else case.leaves()[name]).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        h.sum().backward()


@every_fast_kernel
def test_second_derivatives_of_the_layer_are_refused_not_wrong(backend):
    case = make_layer()
    with pytest.raises(RuntimeError, match=f"backend='{backend}' has first derivatives only; use backend='reference'"):
        torch.autograd.grad(case.run(backend)[0].sum(), case.a, create_graph=True)


@every_kernel
def test_layer_without_gradients_has_no_graph(backend):
    case = make_layer()
    with torch.no_grad():
        assert not any(output.requires_grad for output in case.run(backend))
    with torch.inference_mode():
        torch.testing.assert_close(case.run(backend), case.run("reference"))


class Layer(torch.nn.Module):
    def __init__(self, case):
        super().__init__()
        self.omega, self.alpha, self.beta, self.b_c = (
            torch.nn.Parameter(value.detach()) for value in (case.omega, case.alpha, case.beta, case.b_c)
        )

    def forward(self, a, dt):
        return resonator_layer(2 * a, self.omega, self.alpha, self.beta, self.b_c, dt)[0]


def test_layer_export():
    case = make_layer()
    layer, inputs = Layer(case), (case.a.detach(), case.dt)
    program = torch.export.export(layer, inputs, strict=False)
    assert "sfmts.resonator_layer" in program.graph_module.code
    assert torch.equal(program.module()(*inputs), layer(*inputs))


def test_compilation_goes_around_the_layer():
    case = make_layer()
    layer, wanted = Layer(case), [case.a]
    expected = torch.autograd.grad(layer(case.a, case.dt).sum(), wanted)
    got = torch.autograd.grad(torch.compile(layer, backend="eager")(case.a, case.dt).sum(), wanted)
    assert torch.equal(expected[0], got[0])


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
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
)
@every_kernel
def test_what_does_not_fit_the_layer_is_refused(backend, name, change, error, message):
    case = make_layer()
    with pytest.raises(error, match=message):
        replace(case, **{name: change(getattr(case, name).detach())}).run(backend)


# -- graphs


@every_fast_kernel
def test_backward_twice(backend):
    case = make_case()
    leaves = list(case.leaves().values())
    loss = case.run(backend).square().sum()
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    second = torch.autograd.grad(loss, leaves)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@every_fast_kernel
@pytest.mark.parametrize("name", ["f_ste", "omega", "state", "output"])
def test_changing_what_the_backward_needs_is_noticed(backend, name):
    case = make_case()
    S = case.run(backend)
    with torch.no_grad():
        (S if name == "output" else case.leaves()[name]).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        S.sum().backward()


@every_fast_kernel
def test_second_derivatives_are_refused_not_wrong(backend):
    case = make_case()
    with pytest.raises(RuntimeError, match=f"backend='{backend}' has first derivatives only; use backend='reference'"):
        torch.autograd.grad(case.run(backend).sum(), case.u, create_graph=True)


@every_kernel
def test_without_gradients_there_is_no_graph(backend):
    case = make_case()
    with torch.no_grad():
        assert not case.run(backend).requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(case.run(backend), case.run("reference"))


class Bank(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.omega = torch.nn.Parameter(torch.linspace(0.1, 3, 21, dtype=torch.float64).view(3, 7))

    def forward(self, f_ste, f_fre, u, dt):
        return resonate(f_ste, f_fre, 2 * u, self.omega, dt)[-1]


def test_export():
    case, bank = make_case(), Bank()
    inputs = tuple(value.detach() for value in (case.f_ste, case.f_fre, case.u, case.dt))
    program = torch.export.export(bank, inputs, strict=False)
    assert "sfmts.resonate" in program.graph_module.code
    assert torch.equal(program.module()(*inputs), bank(*inputs))


def test_compilation_goes_around_the_kernel():
    """And trains all the same."""
    case, bank = make_case(), Bank()
    inputs = (case.f_ste, case.f_fre, case.u, case.dt)
    expected = torch.autograd.grad(bank(*inputs).sum(), (case.u, bank.omega))
    got = torch.autograd.grad(torch.compile(bank, backend="eager")(*inputs).sum(), (case.u, bank.omega))
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


# -- mistakes


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
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
)
@every_kernel
def test_what_does_not_fit_is_refused(backend, name, change, error, message):
    case = make_case()
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
    _registry._warn_once.cache_clear()
    if age == "missing":
        monkeypatch.setattr(_compiled, "_import_error", "no module")
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
    _registry._warn_once.cache_clear()
