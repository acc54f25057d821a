"""The recurrence: oracles from its mathematics, and every fast kernel against the reference."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from sfmts.kernels import SFMState, SFMWeights, sfm, sfm_state
from sfmts.kernels._sfm import reference
from sfmts.kernels._workspace import Workspace
from tests.helpers import (
    DTYPES,
    FAST_KERNELS,
    KERNELS,
    assert_same,
    case_id,
    every_dtype,
    every_fast_kernel,
    every_kernel,
    every_pair,
    spread,
    with_gradients,
)

TWO_PI = 2 * np.pi
FREQUENCIES = [
    {"frequencies": "fixed"},
    {"frequencies": "learned"},
    {"frequencies": "adaptive"},
    {"frequencies": "adaptive", "accumulated": True},
]
every_mode = pytest.mark.parametrize("mode", FREQUENCIES, ids=case_id)


@dataclass
class Case:
    """Everything one call of a kernel takes; the tensors that have gradients are listed by `leaves`."""

    x: torch.Tensor
    batch_sizes: list[int]
    t: torch.Tensor
    weights: SFMWeights
    state: SFMState
    accumulated: bool = False
    feedback_mask: torch.Tensor | None = None

    def run(self, backend, **options):
        options = {"accumulated": self.accumulated, "feedback_mask": self.feedback_mask} | options
        return sfm(self.x, self.batch_sizes, self.t, self.weights, self.state, backend=backend, **options)

    def amplitudes(self, backend, **options):
        """Return the amplitudes of each step, without gradients."""
        found = []
        with torch.no_grad():
            self.run(backend, amplitudes=found, **options)
        return found

    def leaves(self):
        named = {"x": self.x, **self.weights._asdict(), "re": self.state.re, "im": self.state.im, "z": self.state.z}
        if self.accumulated:
            named["theta"] = self.state.theta
        return {name: value for name, value in named.items() if value is not None and value.requires_grad}


def make_case(
    D=5,
    K=3,
    M=4,
    N=2,
    lengths=(7, 7, 5, 2, 1),
    dtype=torch.float64,
    frequencies="fixed",
    accumulated=False,
    mask=False,
    timestamps=False,
    seed=0,
):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        values = scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
        return values.to(dtype).requires_grad_()

    adaptive = frequencies == "adaptive"
    R = 3 * D + K + (K if adaptive else 0) + K * M
    omega = TWO_PI * torch.arange(K, dtype=torch.float64) / K
    if frequencies == "learned":
        omega = (omega + 0.1).requires_grad_()
    weights = SFMWeights(
        normal(R, N, scale=N**-0.5),
        normal(R, M, scale=M**-0.5),
        normal(R),
        normal(K, M, D, scale=D**-0.5),
        normal(K, M, D, scale=D**-0.5),
        normal(K, M),
        None if adaptive else omega,
    )
    if adaptive:
        # A phase omega_t t turns an error in z into t times as much of phase, so with strong feedback the cell is
        # chaotic: over 40 steps the reference itself moves by 1e-4 if its input moves by 1e-15.
        with torch.no_grad():
            weights.W[3 * D + K : 3 * D + 2 * K] *= 0.02
    lengths = sorted(lengths, reverse=True)
    batch_sizes = [sum(length > t for length in lengths) for t in range(lengths[0])]
    steps = [torch.full((n,), t + 1.0, dtype=torch.float64) for t, n in enumerate(batch_sizes)]
    t = torch.cat(steps)
    if timestamps:  # each sequence's own, increasing
        pace = 0.2 + torch.rand(len(lengths), generator=generator, dtype=torch.float64)
        t = torch.cat([pace[:n] * step.sqrt() for n, step in zip(batch_sizes, steps, strict=True)])
    B = len(lengths)
    theta = torch.randn(B, K, generator=generator, dtype=torch.float64).requires_grad_()
    state = SFMState(normal(B, D, K), normal(B, D, K), normal(B, M), torch.zeros(B, dtype=torch.float64), theta)
    dropped = 2.0 * (torch.rand(B, M, generator=generator) > 0.5).to(dtype) if mask else None
    return Case(normal(sum(batch_sizes), N), batch_sizes, t, weights, state, accumulated, dropped)


def fresh(case):
    """The same case from the state of a new sequence."""
    return replace(case, state=SFMState.zeros(case.batch_sizes[0], case.weights))


def without_input(case):
    """The case, changed so that nothing flows into the states."""
    D, K, _ = case.weights.sizes
    with torch.no_grad():
        for weight in case.weights[:3]:
            weight[2 * D + K : 3 * D + K] = 0
    return case


def outputs_and_gradients(case, backend, **options):
    """Outputs, final state and the gradient of every input, by name."""
    z, state = case.run(backend, **options)
    return with_gradients({"z": z} | {f"final {name}": value for name, value in state._asdict().items()}, case.leaves())


# -- oracles


def numpy_sfm(case, frequencies):
    """Eqs. 1-13 and 16 for one sequence from a zero state, with loops over k and nothing clever."""
    values = [None if v is None else v.detach().numpy() for v in case.weights]
    V, W, b, U_o, W_z, b_z, omega = values
    D, K, M = case.weights.sizes

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    re, im, z, theta, t_previous = np.zeros((D, K)), np.zeros((D, K)), np.zeros(M), np.zeros(K), 0.0
    outputs = []
    for x, t in zip(case.x.detach().numpy(), case.t.numpy(), strict=True):
        a = V @ x + W @ z + b
        f_ste, f_fre = sigmoid(a[:D]), sigmoid(a[D : D + K])
        g, i = sigmoid(a[D + K : 2 * D + K]), np.tanh(a[2 * D + K : 3 * D + K])
        first_o = len(a) - K * M
        omega_t = omega if frequencies != "adaptive" else TWO_PI * sigmoid(a[3 * D + K : first_o])
        theta = theta + omega_t * (t - t_previous) if case.accumulated else omega_t * t
        z_new = np.zeros(M)
        for k in range(K):
            re[:, k] = f_ste * f_fre[k] * re[:, k] + g * i * np.cos(theta[k])
            im[:, k] = f_ste * f_fre[k] * im[:, k] + g * i * np.sin(theta[k])
            A = np.sqrt(re[:, k] ** 2 + im[:, k] ** 2)
            o = sigmoid(U_o[k] @ A + a[first_o + k * M : first_o + (k + 1) * M])
            z_new += o * np.tanh(W_z[k] @ A + b_z[k])
        z, t_previous = z_new, t
        outputs.append(z)
    return np.array(outputs)


@every_pair(backend=KERNELS, mode=FREQUENCIES, timestamps=[False, True])
def test_loop_over_frequencies_in_numpy(backend, mode, timestamps):
    case = fresh(make_case(lengths=(9,), timestamps=timestamps, **mode))
    z, _ = case.run(backend)
    np.testing.assert_allclose(z.detach().numpy(), numpy_sfm(case, mode["frequencies"]), rtol=0, atol=1e-10)


def test_states_without_forgetting_are_a_fourier_transform():
    K, periods, D = 8, 3, 2
    u = torch.randn(K * periods, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    omega = TWO_PI * torch.arange(K, dtype=torch.float64) / K
    f = torch.ones(len(u), D, K, dtype=torch.float64)
    re, im = sfm_state(u, f, omega, torch.arange(1, len(u) + 1, dtype=torch.float64))
    spectrum = np.abs(np.fft.fft(u.view(periods, K, D).sum(0).numpy(), axis=0)).T
    np.testing.assert_allclose(torch.hypot(re[-1], im[-1]).numpy(), spectrum, atol=1e-12)


def test_states_with_constant_forgetting_in_closed_form():
    T, f = 12, 0.7
    u = torch.randn(T, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    omega, t = torch.tensor([0.3, 1.1], dtype=torch.float64), torch.arange(1, T + 1, dtype=torch.float64)
    re, im = sfm_state(u, torch.full((T, 1, 2), f, dtype=torch.float64), omega, t)
    decay = f ** (T - t)[:, None]
    expected = (decay * u * torch.exp(1j * omega * t[:, None])).sum(0)
    torch.testing.assert_close(re[-1, 0], expected.real, atol=1e-13, rtol=0)
    torch.testing.assert_close(im[-1, 0], expected.imag, atol=1e-13, rtol=0)


@every_kernel
def test_output_does_not_depend_on_the_origin_of_time(backend):
    """An accumulated phase counts from the time of the state."""
    for mode, shift in ((FREQUENCIES[1], 1000.37), (FREQUENCIES[3], 1000.0)):
        case = fresh(make_case(**mode))
        start = case.state.t + shift if case.accumulated else case.state.t
        shifted = replace(case, t=case.t + shift, state=case.state._replace(t=start))
        torch.testing.assert_close(case.run(backend)[0], shifted.run(backend)[0], atol=1e-11, rtol=0)


@every_kernel
def test_the_state_has_the_phase_of_its_time(backend):
    case = make_case(timestamps=True)
    _, state = case.run(backend)
    phase = torch.remainder(case.weights.omega * state.t[:, None], TWO_PI)
    torch.testing.assert_close(state.theta, phase, atol=1e-12, rtol=0)


@every_kernel
def test_conjugate_frequencies_have_equal_amplitudes(backend):
    D, K = 5, 6
    case = fresh(make_case(D=D, K=K, lengths=(8, 8)))
    with torch.no_grad():
        for weight in case.weights[:3]:
            weight[D : D + K] = weight[D : D + 1].clone()
    A = torch.stack(case.amplitudes(backend))
    for k in range(1, K):
        torch.testing.assert_close(A[..., k], A[..., K - k], atol=1e-12, rtol=0)
    assert (A[..., 0] - A[..., 1]).abs().max() > 0.1


@every_kernel
def test_output_is_bounded_by_the_number_of_frequencies(backend):
    case = make_case(K=3, lengths=(20, 20, 20))
    with torch.no_grad():
        for weight in case.weights[3:6]:
            weight *= 100
    z, _ = case.run(backend)
    assert z.abs().max() <= 3
    assert z.abs().max() > 2.5


@every_kernel
def test_one_frequency_of_zero_is_a_real_memory(backend):
    case = fresh(make_case(K=1))
    assert float(case.weights.omega) == 0.0
    _, state = case.run(backend)
    assert torch.equal(state.im, torch.zeros_like(state.im))
    torch.testing.assert_close(case.amplitudes(backend)[-1][0], state.re[0].abs(), atol=1e-11, rtol=0)


@every_kernel
@pytest.mark.parametrize("accumulated", [False, True])
def test_adaptive_with_constant_frequencies_is_the_fixed_network(backend, accumulated):
    D, K = 5, 4
    adaptive = fresh(make_case(D=D, K=K, frequencies="adaptive", accumulated=accumulated))
    rows = slice(3 * D + K, 3 * D + 2 * K)
    share = torch.arange(1, K + 1, dtype=torch.float64) / (K + 1)
    with torch.no_grad():
        adaptive.weights.V[rows] = 0
        adaptive.weights.W[rows] = 0
        adaptive.weights.b[rows] = torch.logit(share)
    keep = [row for row in range(len(adaptive.weights.b)) if not rows.start <= row < rows.stop]
    V, W, b = (weight.detach()[keep] for weight in adaptive.weights[:3])
    fixed = replace(adaptive, weights=SFMWeights(V, W, b, *adaptive.weights[3:6], TWO_PI * share), accumulated=False)
    torch.testing.assert_close(adaptive.run(backend)[0], fixed.run(backend)[0], atol=1e-11, rtol=0)


@every_kernel
@every_dtype
def test_gradients_are_finite_where_the_state_is_zero(backend, dtype):
    case = without_input(fresh(make_case(dtype=dtype, frequencies="learned")))
    with torch.no_grad():
        case.x.zero_()
    results = outputs_and_gradients(case, backend)
    assert torch.equal(results["final re"], torch.zeros_like(results["final re"]))
    assert all(torch.isfinite(value).all() for value in results.values())


def test_gradients_are_finite_over_twenty_thousand_steps():
    case = fresh(make_case(D=2, K=2, M=1, N=1, lengths=(20_000,), dtype=torch.float32))
    with torch.no_grad():
        case.weights.b[:4] = 8.0  # forget almost nothing
    z, _ = case.run("fused")
    z[-1].sum().backward()
    assert torch.isfinite(case.x.grad).all()
    assert case.x.grad[0].abs().max() < case.x.grad[-1].abs().max()
    assert all(torch.isfinite(weight.grad).all() for weight in case.weights[:6])


@every_kernel
@every_mode
def test_gradcheck(backend, mode):
    case = make_case(D=2, K=2, M=2, N=1, lengths=(3, 2), mask=True, **mode)
    leaves = case.leaves()

    def run(*values):
        named = dict(zip(leaves, values, strict=True))
        weights = case.weights._replace(**{k: v for k, v in named.items() if k in SFMWeights._fields})
        state = case.state._replace(**{k: v for k, v in named.items() if k in ("re", "im", "z", "theta")})
        z, after = replace(case, x=named["x"], weights=weights, state=state).run(backend)
        return (z, after.re, after.im, after.theta) if case.accumulated else (z, after.re, after.im)

    assert torch.autograd.gradcheck(run, tuple(leaves.values()), atol=1e-7)


@every_kernel
def test_time_that_stands_still_leaves_no_imaginary_part(backend):
    """What the authors' released program computed: t is 0 until the last step, where it is 1."""
    case = fresh(make_case(lengths=(6,), K=4))
    still = replace(case, t=torch.zeros(6, dtype=torch.float64))
    assert torch.equal(still.run(backend)[1].im, torch.zeros(1, 5, 4, dtype=torch.float64))
    t = torch.tensor([0, 0, 0, 0, 0, 1], dtype=torch.float64)
    released = replace(case, t=t).run(backend)
    assert released[1].im.abs().max() > 0.01
    torch.testing.assert_close(released[0][:5], still.run(backend)[0][:5])


# -- parity

SIZES = [
    {"D": 5, "K": 3, "M": 4, "N": 2, "lengths": (7, 7, 5, 2, 1)},
    {"D": 50, "K": 4, "M": 1, "N": 2, "lengths": (63,)},
    {"D": 50, "K": 4, "M": 88, "N": 88, "lengths": (5,) * 7},
    {"D": 30, "K": 8, "M": 61, "N": 26, "lengths": (6, 3, 3)},
    {"D": 3, "K": 5, "M": 2, "N": 1, "lengths": (1,)},
    {"D": 1, "K": 1, "M": 1, "N": 1, "lengths": (4, 2, 2, 2, 1, 1)},
    {"D": 7, "K": 2, "M": 3, "N": 3, "lengths": (40,) * 9 + (39,) * 9},
]


@every_pair(
    size=SIZES,
    mode=FREQUENCIES,
    backend=FAST_KERNELS,
    precision=[(torch.float64, 1e-9), (torch.float32, 1e-4)],
    mask=[False, True],
)
def test_parity(backend, mode, mask, size, precision):
    dtype, tolerance = precision
    case = make_case(**size, **mode, dtype=dtype, mask=mask, timestamps=mask)
    assert_same(outputs_and_gradients(case, "reference"), outputs_and_gradients(case, backend), tolerance)


@every_fast_kernel
def test_parity_without_gradients(backend):
    """Long enough for the working memory to be used several times over."""
    case = make_case(lengths=(200, 200, 130, 70, 3), frequencies="adaptive")
    with torch.no_grad():
        (z, state), (expected, expected_state) = case.run(backend), case.run("reference")
    torch.testing.assert_close(z, expected)
    for value, wanted in zip(state, expected_state, strict=True):
        torch.testing.assert_close(value, wanted)


def test_working_memory_without_gradients_does_not_grow_with_time(monkeypatch):
    taken = []
    take = Workspace._take

    def watched_take(like, elements):
        taken.append(elements)
        return take(like, elements)

    monkeypatch.setattr(Workspace, "_take", staticmethod(watched_take))
    for steps in (300, 3000):
        with torch.no_grad():
            make_case(lengths=(steps,)).run("fused")
    assert taken[0] == taken[1]
    make_case(lengths=(300,)).run("fused")
    assert taken[2] > taken[0]


@every_kernel
def test_training_after_inference_mode(backend, monkeypatch):
    monkeypatch.setattr(Workspace, "limit", 1 << 29)
    case = make_case()
    with torch.inference_mode():
        z, _ = case.run(backend)
    assert torch.equal(z, case.run(backend)[0])
    outputs_and_gradients(case, backend)


@every_fast_kernel
def test_amplitudes_are_those_of_the_reference(backend):
    case = make_case()
    for A, expected in zip(case.amplitudes(backend), case.amplitudes("reference"), strict=True):
        torch.testing.assert_close(A, expected)


def test_strides_do_not_matter():
    """For the fused kernel; test_native.py asks more of the compiled one."""
    case = make_case()
    V = spread(case.weights.V)
    strided = replace(case, x=spread(case.x), weights=case.weights._replace(V=V))
    assert not strided.x.is_contiguous()
    assert_same(outputs_and_gradients(case, "fused"), outputs_and_gradients(strided, "fused"), 1e-12)


@every_fast_kernel
def test_graphs_do_not_share_memory(backend, monkeypatch):
    monkeypatch.setattr(Workspace, "limit", 1 << 29)
    case = make_case()
    alone = outputs_and_gradients(case, backend)
    for _ in range(3):  # the store of working memory is filled now
        z, _ = case.run(backend)
        other, _ = make_case(seed=1).run(backend)
        (first,) = torch.autograd.grad(z.sum(), case.x, retain_graph=True)
        del other
        make_case(seed=2).run(backend)[0].sum().backward()
        (again,) = torch.autograd.grad(z.sum(), case.x)
        assert torch.equal(first, again)
    assert_same(alone, outputs_and_gradients(case, backend), 1e-15)


@every_fast_kernel
@pytest.mark.parametrize("B", [1, 9])
def test_second_derivatives_are_refused_not_wrong(backend, B):
    case = make_case(lengths=(5,) * B)
    with pytest.raises(RuntimeError, match="first derivatives only; use backend='reference'"):
        torch.autograd.grad(case.run(backend)[0].sum(), case.x, create_graph=True)


@every_kernel
def test_start_phase_has_a_gradient_only_where_phases_are_summed(backend):
    for accumulated in (False, True):
        case = make_case(frequencies="adaptive", accumulated=accumulated)
        theta = case.state.theta.detach().requires_grad_()
        z, _ = replace(case, state=case.state._replace(theta=theta)).run(backend)
        (gradient,) = torch.autograd.grad(z.square().sum(), theta, allow_unused=True)
        assert (gradient is not None and bool(gradient.any())) == accumulated


def test_phases_keep_their_precision_on_long_float32_series():
    """At t = 1e6 a phase computed in float32 would be off by more than 0.1."""
    case = fresh(make_case(dtype=torch.float32, frequencies="learned"))
    late = replace(case, t=case.t + 1e6)
    for backend in KERNELS:
        torch.testing.assert_close(case.run(backend)[0], late.run(backend)[0], atol=1e-5, rtol=0)


def test_amplitude_epsilon_is_there_in_every_type_and_far_below_rounding():
    for dtype in (torch.float16, torch.bfloat16, *DTYPES):
        assert torch.tensor(reference.amplitude_epsilon(dtype), dtype=dtype) > 0
    for dtype in DTYPES:
        assert reference.amplitude_epsilon(dtype) <= torch.finfo(dtype).eps ** 1.5


def test_memory_is_poisoned():
    """What the fixture in conftest promises, on which the tests above rely."""
    x = torch.ones(3)
    for fresh_memory in (torch.empty(3), x.new_empty(3), torch.empty_like(x), Workspace(x, 3).empty(3)):
        assert fresh_memory.isnan().all()
