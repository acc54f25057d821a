"""Complex activations, gates and unitary matrices, and what the complex gated and the unitary RNN promise."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sfmts.networks import ComplexGatedRNN, UnitaryRNN
from sfmts.networks.complex import (
    ACTIVATIONS,
    GATES,
    Cardioid,
    Cayley,
    CReLU,
    ImaginarySigmoid,
    ModReLU,
    ModSigmoid,
    ModSigmoidBeta,
    ModSigmoidGamma,
    ModSigmoidProduct,
    ModSigmoidSum,
    PhaseAmplitude,
    PhaseHirose,
    PhaseReLU,
    ProductPhaseReLU,
    RealSigmoid,
    UnitaryMatrix,
    ZReLU,
    stiefel_step,
)
from tests.helpers import EXACT, normal, seeded


def phase_grid(offset=math.pi / 16, moduli=(0.25, 1.0, 3.0)):
    """Eight phases, off the axes by default, at each modulus: (moduli, 8)."""
    theta = torch.arange(8, dtype=torch.float64) * math.pi / 4 + offset
    return torch.polar(*torch.broadcast_tensors(torch.tensor(moduli, dtype=torch.float64)[:, None], theta))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def with_parameters(module, **values):
    """A module in double precision with its parameters set."""
    module = module.double()
    with torch.no_grad():
        for name, value in values.items():
            getattr(module, name).copy_(torch.as_tensor(value, dtype=torch.float64))
    return module


def jacobian(activation, z):
    """The real 2 x 2 Jacobian at each number of z."""

    def parts(v):
        return torch.view_as_real(activation(torch.view_as_complex(v)))

    return torch.stack(
        [torch.autograd.functional.jacobian(parts, v[None])[0, :, 0] for v in torch.view_as_real(z.flatten())]
    )


# -- activations

CLOSED_FORMS = [
    (ZReLU(), lambda z: np.where((z.real >= 0) & (z.imag >= 0), z, 0)),
    (
        with_parameters(ModReLU(8), bias=np.linspace(-1, 1, 8)),
        lambda z: np.maximum(np.abs(z) + np.linspace(-1, 1, 8), 0) * np.exp(1j * np.angle(z)),
    ),
    (CReLU(), lambda z: np.maximum(z.real, 0) + 1j * np.maximum(z.imag, 0)),
    (Cardioid(), lambda z: (1 + np.cos(np.angle(z))) / 2 * z),
    (
        with_parameters(PhaseAmplitude(), m=1.3),
        lambda z: np.tanh(np.abs(z) / 1.3**2) * np.exp(1j * np.angle(z)),
    ),
    (PhaseReLU(), lambda z: np.where(z.imag > 0, z, 0)),
    (PhaseReLU(a=1.5, b=0.5), lambda z: np.where(np.sin(1.5 * (np.angle(z) % (2 * np.pi)) + 0.5 * np.pi) > 0, z, 0)),
    (ProductPhaseReLU(b=0.5, d=0.5), lambda z: np.where((z.real > 0) & (z.imag < 0), z, 0)),
    (
        Cayley(),
        lambda z: np.where(z.imag >= 0, z - 2j * np.log(z + 1j), z + 2j * np.log(z - 1j)),
    ),
]


@pytest.mark.parametrize(("activation", "formula"), CLOSED_FORMS, ids=lambda case: type(case).__name__)
def test_activations_are_their_formulas(activation, formula):
    z = phase_grid()
    torch.testing.assert_close(activation(z), torch.from_numpy(formula(z.numpy())), **EXACT)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_zero_under_a_turn_and_in_single_precision(name):
    activation = ACTIVATIONS[name](8)
    if name == "modrelu":
        with_parameters(activation, bias=[-1.0, -0.5, -0.1, 0.0, 0.1, 0.4, 0.5, 1.0])
    z = torch.zeros(2, 8, dtype=torch.complex128, requires_grad=True)
    out = activation.double()(z)
    torch.view_as_real(out).sum().backward()
    assert torch.isfinite(torch.view_as_real(z.grad)).all()
    assert all(torch.isfinite(p.grad).all() for p in activation.parameters())
    if name != "cayley":  # C(0) = pi
        assert not out.any()
    z, turn = phase_grid(), complex(math.cos(1.0), math.sin(1.0))
    of_the_modulus = torch.allclose(activation(turn * z), turn * activation(z), **EXACT)
    assert of_the_modulus == (name in ("modrelu", "hirose"))
    assert activation.float()(z.to(torch.complex64)).dtype == torch.complex64


def test_activations_where_they_are_simple():
    z, x = phase_grid(), torch.linspace(-3, 3, 13, dtype=torch.float64)
    torch.testing.assert_close(Cardioid()(torch.complex(x, 0 * x)), torch.complex(x.relu(), 0 * x), **EXACT)
    assert torch.equal(ProductPhaseReLU()(z), ZReLU()(z))  # off the axes
    axes = torch.tensor([1.0, 1j, -1.0, -1j, 0.0], dtype=torch.complex128)
    assert torch.equal(ZReLU()(axes), torch.tensor([1.0, 1j, 0.0, 0.0, 0.0], dtype=torch.complex128))
    assert torch.equal(PhaseReLU(a=0.499)(z), z)  # slow: it filters nothing
    z = phase_grid(moduli=(1e-9, 1e-3, 1.0, 1e3))
    torch.testing.assert_close(ModReLU(8).double()(z), z, atol=0, rtol=1e-15)


def test_modrelu_slope_is_bounded_by_one_only_without_a_positive_bias():
    z = phase_grid(moduli=(1e-3, 0.3, 2.0))
    for bias in (-0.2, 0.0):
        slopes = torch.linalg.matrix_norm(jacobian(with_parameters(ModReLU(1), bias=[bias]), z), ord=2)
        assert slopes.max() <= 1 + 1e-12
    slopes = torch.linalg.matrix_norm(jacobian(with_parameters(ModReLU(1), bias=[0.2]), z), ord=2)
    assert slopes.max() == pytest.approx(1 + 0.2 / 1e-3)  # tangential: (r + b) / r


def test_hirose_is_bounded_by_one_and_its_slope_by_its_scale():
    z = phase_grid(moduli=(1e-4, 0.5, 2.0, 30.0))
    activation = with_parameters(PhaseAmplitude(), m=0.8)
    assert activation(z).abs().max() <= 1
    slopes = torch.linalg.matrix_norm(jacobian(activation, z), ord=2)
    assert slopes.max() == pytest.approx(1 / 0.8**2, rel=1e-6)


def test_cardioid_slope_exceeds_one_at_thirty_degrees():
    degrees = torch.arange(-180, 180, dtype=torch.float64)
    z = torch.polar(torch.full_like(degrees, 0.7), torch.deg2rad(degrees))
    slopes = torch.linalg.matrix_norm(jacobian(Cardioid(), z), ord=2)
    assert slopes.max() == pytest.approx(1.066, abs=5e-4)
    assert abs(degrees[slopes.argmax()]) == 30


def test_cayley_derivative():
    """Analytic: the Jacobian is a complex number's, that of the Cayley transform, which is nowhere above 1."""
    z = phase_grid(moduli=(0.1, 0.9, 1.0, 5.0)).flatten()
    step = 1e-6
    along = (Cayley()(z + step) - Cayley()(z - step)) / (2 * step)
    across = (Cayley()(z + 1j * step) - Cayley()(z - 1j * step)) / (2j * step)
    expected = torch.where(z.imag > 0, (z - 1j) / (z + 1j), (z + 1j) / (z - 1j))
    torch.testing.assert_close(along, expected, atol=1e-8, rtol=0)
    torch.testing.assert_close(across, expected, atol=1e-8, rtol=0)
    J = jacobian(Cayley(), z)
    torch.testing.assert_close(torch.complex(J[:, 0, 0], J[:, 1, 0]), expected, **EXACT)
    assert expected.abs().max() <= 1


def test_cayley_mirrors_conjugates_and_jumps_across_the_real_line():
    z, x = phase_grid(), torch.tensor([-2.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(Cayley()(z.conj().resolve_conj()), Cayley()(z).conj().resolve_conj(), **EXACT)
    above, below = Cayley()(torch.complex(x, 0 * x)), Cayley()(torch.complex(x, 0 * x - 1e-15))
    torch.testing.assert_close(above.real, below.real, **EXACT)
    torch.testing.assert_close(above.imag, -(1 + x.square()).log(), **EXACT)
    torch.testing.assert_close(below.imag, (1 + x.square()).log(), **EXACT)


# -- gates

GATE_FORMULAS = [
    (ModSigmoid, {"a": 0.7}, lambda x, y: sigmoid(sigmoid(0.7) * x + (1 - sigmoid(0.7)) * y)),
    (ModSigmoidBeta, {"a": 0.7, "b": -0.3}, lambda x, y: sigmoid(sigmoid(0.7) * x + sigmoid(-0.3) * y)),
    (ModSigmoidGamma, {"a": 0.7, "b": -0.3}, lambda x, y: sigmoid(0.7 * x - 0.3 * y)),
    (ModSigmoidProduct, {}, lambda x, y: sigmoid(x) * sigmoid(y)),
    (ModSigmoidSum, {"a": 0.7}, lambda x, y: sigmoid(0.7) * sigmoid(x) + (1 - sigmoid(0.7)) * sigmoid(y)),
    (RealSigmoid, {}, lambda x, y: sigmoid(x)),
    (ImaginarySigmoid, {}, lambda x, y: sigmoid(y)),
    (
        PhaseHirose,
        {"m": 1.1, "a": 1.5, "b": 0.5},
        lambda x, y: np.tanh(np.hypot(x, y) / 1.1**2) * sigmoid(1.5 * np.arctan2(y, x) + 0.5),
    ),
]


@pytest.mark.parametrize(
    ("gate", "parameters", "formula"), GATE_FORMULAS, ids=lambda case: getattr(case, "__name__", "")
)
def test_gates_are_their_formulas(gate, parameters, formula):
    assert list(gate.initial) == list(parameters)
    module, z = with_parameters(gate(), **parameters), phase_grid()
    x, y = z.real.numpy(), z.imag.numpy()
    torch.testing.assert_close(module(z), torch.from_numpy(formula(x, y)), **EXACT)


@pytest.mark.parametrize("name", GATES)
def test_gates_lie_between_zero_and_one_with_finite_gradients(name):
    gate = GATES[name]((2, 1)).double()
    z = torch.cat([torch.zeros(1, 8), phase_grid()]).requires_grad_()
    values = gate(z[:, None].expand(-1, 2, -1))
    assert values.shape == (4, 2, 8)
    assert ((values > 0) & (values < 1)).all()
    values.sum().backward()
    assert torch.isfinite(torch.view_as_real(z.grad)).all()
    assert all(torch.isfinite(p.grad).all() for p in gate.parameters())


# -- unitary matrices


def distance_from_unitary(W):
    return (W.mH @ W - torch.eye(len(W), dtype=W.dtype)).abs().max()


def random_unitary(n, seed=0):
    return torch.linalg.qr(normal(n, n, seed=seed, dtype=torch.complex128))[0]


def unitary_matrix(n, scale=1.0, dtype=torch.float64):
    module = UnitaryMatrix(n).to(dtype)
    with torch.no_grad():
        module.initialise(seeded())
        module.P *= scale
    return module


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e3])
def test_unitary_matrix_is_unitary_whatever_its_parameters(scale):
    assert distance_from_unitary(torch.complex(*unitary_matrix(7, scale)())) < 1e-12
    assert distance_from_unitary(torch.complex(*unitary_matrix(7, scale, torch.float32)())) < 1e-5


def test_unitary_matrix_has_as_many_parameters_as_dimensions():
    """U(n) has n^2 dimensions, and no direction of P is wasted."""
    module = unitary_matrix(4)
    J = torch.autograd.functional.jacobian(
        lambda P: torch.func.functional_call(module, {"P": P}, ()), module.P.detach()
    )
    assert torch.linalg.matrix_rank(J.reshape(32, 16)) == 16


def test_unitary_matrix_reaches_any():
    wanted, module = random_unitary(6), unitary_matrix(6)
    Q = wanted * torch.polar(torch.ones_like(module.phases), -module.phases)
    eye = torch.eye(6, dtype=Q.dtype)
    A = torch.linalg.solve(eye + Q, eye - Q)
    with_parameters(module, P=A.real + A.imag)
    torch.testing.assert_close(torch.complex(*module()), wanted, atol=1e-10, rtol=0)


def test_unitary_matrix_learns_and_weight_decay_leaves_it_unitary():
    wanted, module = random_unitary(5), unitary_matrix(5)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.05, weight_decay=0.5)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = (torch.complex(*module()) - wanted).abs().square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert distance_from_unitary(torch.complex(*module())) < 1e-12


def test_stiefel_steps_stay_unitary():
    W, wanted = random_unitary(8), random_unitary(8, seed=1)
    for _ in range(100):
        W = stiefel_step(W, 2 * (W - wanted) + 0.1 * normal(8, 8, seed=2, dtype=torch.complex128), 0.1)
    assert distance_from_unitary(W) < 1e-12
    assert torch.equal(stiefel_step(W, torch.zeros_like(W), 0.3), W)
    real = torch.linalg.qr(normal(6, 6))[0]
    after = stiefel_step(real, normal(6, 6, seed=1), 0.3)
    assert not after.is_complex()
    assert distance_from_unitary(after) < 1e-12
    assert (after - real).abs().max() > 0.01


def test_stiefel_steps_descend_at_half_the_square_of_the_skew_gradient():
    W, target = random_unitary(8).requires_grad_(), normal(8, 8, seed=1, dtype=torch.complex128)

    def loss(W):
        return (W - target).abs().square().sum() + (W @ W @ target).imag.sum()

    loss(W).backward()
    A = W.grad @ W.detach().mH - W.detach() @ W.grad.mH
    step = 1e-6
    slope = (loss(stiefel_step(W, W.grad, step)) - loss(stiefel_step(W, W.grad, -step))) / (2 * step)
    assert slope.item() == pytest.approx(-0.5 * A.abs().square().sum().item(), rel=1e-7)
    assert slope < 0


# -- the complex gated RNN


def gated(n=5, n_channels=3, seed=0, **options):
    return ComplexGatedRNN(n_channels, n_states=n, generator=seeded(seed), **options).double()


def complex_states(network, x, state=None):
    """States as complex numbers, (B, T, n)."""
    return torch.complex(*network(x, state=state).states.chunk(2, dim=2))


def state_from(network, x, h):
    """What continues from the complex state h (B, n)."""
    return network(x).state._replace(layers=[(torch.cat([h.real, h.imag], dim=1),)])


@pytest.mark.parametrize(("gate", "activation"), list(zip(GATES, ACTIVATIONS, strict=True)))
def test_complex_gated_steps_are_the_equations_with_finite_gradients_at_silence(gate, activation):
    network, x, n = gated(gate=gate, activation=activation), normal(2, 6, 3), 5
    assert network.output_size == 2 * n
    layer = network.layers[0]
    V, b = (torch.complex(p[0], p[1]) for p in (layer.V[: 4 * n].view(2, 2 * n, 3), layer.b[: 4 * n].view(2, 2 * n)))
    V_h, b_h = (torch.complex(*p[4 * n :].chunk(2)) for p in (layer.V, layer.b))
    W, U = torch.complex(*layer.W), torch.complex(*layer.state_matrix())
    h, expected = torch.zeros(2, n, dtype=torch.complex128), []
    for x_t in x.to(torch.complex128).unbind(1):
        r, z = layer.gate((h @ W.T + x_t @ V.T + b).view(2, 2, n)).unbind(1)
        h = (1 - z) * h + z * layer.activation((r * h) @ U.T + x_t @ V_h.T + b_h)
        expected.append(h)
    torch.testing.assert_close(complex_states(network, x), torch.stack(expected, dim=1), **EXACT)
    # no input, no bias, no state: all numbers are exactly 0
    network = gated(gate=gate, activation=activation, init="paper")
    x = torch.zeros(2, 4, 3, dtype=torch.float64, requires_grad=True)
    network(x).states.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in (x, *network.parameters()))


def test_complex_gated_closed_update_gate_freezes_the_state():
    network, x, h = gated(), normal(2, 50, 3), normal(2, 5, dtype=torch.complex128)
    network.layers[0].b.data.view(6, 5)[[1, 3]] = -1e4
    states = complex_states(network, x, state_from(network, x, h))
    assert torch.equal(states, h[:, None].expand_as(states))


def test_complex_gated_with_open_gates_keeps_the_norm():
    network, x, h = gated(), normal(2, 1000, 3), normal(2, 5, dtype=torch.complex128)
    with torch.no_grad():
        network.layers[0].V.zero_()
        network.layers[0].b.zero_().view(6, 5)[:4] = 1e4
    states = complex_states(network, x, state_from(network, x, h))
    norms = torch.linalg.vector_norm(states, dim=2)
    torch.testing.assert_close(norms, torch.linalg.vector_norm(h, dim=1)[:, None].expand_as(norms), atol=1e-11, rtol=0)
    assert (states[:, -1] - h).abs().max() > 0.1


def test_complex_gated_with_real_weights_is_a_real_gru():
    network, x, n = gated(gate="real", activation="crelu", unitary=False), normal(2, 9, 3), 5
    layer = network.layers[0]
    with torch.no_grad():
        for imaginary in (layer.W[1], layer.U[1], *(p.view(6, n, -1)[[2, 3, 5]] for p in (layer.V, layer.b))):
            imaginary.zero_()
        for p in (layer.V, layer.b):
            p.view(6, n, -1)[[2, 3, 5]] = 0.0
    V, b = layer.V.view(6, n, 3)[[0, 1, 4]].reshape(3 * n, 3), layer.b.view(6, n)[[0, 1, 4]].flatten()
    h, expected = torch.zeros(2, n, dtype=torch.float64), []
    for x_t in x.unbind(1):
        a_r, a_z, a_h = (x_t @ V.T + b).chunk(3, dim=1)
        w_r, w_z = (h @ layer.W[0].T).chunk(2, dim=1)
        candidate = torch.relu(a_h + (torch.sigmoid(a_r + w_r) * h) @ layer.U[0].T)
        h = torch.lerp(h, candidate, torch.sigmoid(a_z + w_z))
        expected.append(h)
    re, im = network(x).states.chunk(2, dim=2)
    torch.testing.assert_close(re, torch.stack(expected, dim=1), **EXACT)
    assert not im.any()


def test_complex_gated_has_the_published_number_of_parameters():
    """n = 80 and N = O = 9, with an output matrix and no bias: 44 643, where one scalar was the activation's."""
    network = ComplexGatedRNN(9, n_states=80, activation="hirose", unitary=False)
    assert network.n_parameters + nn.Linear(network.output_size, 9, bias=False).weight.numel() == 44643


def test_complex_gated_stays_unitary_in_training():
    network, x = gated(n=8), normal(4, 12, 3)
    before = torch.complex(*network.layers[0].state_matrix()).detach()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.3)
    for _ in range(30):
        optimizer.zero_grad()
        network(x).states.square().mean().backward()
        optimizer.step()
    after = torch.complex(*network.layers[0].state_matrix()).detach()
    assert (after - before).abs().max() > 0.05
    assert distance_from_unitary(after) < 1e-12


def test_complex_gated_starts_with_open_gates_where_its_memory_is_unitary():
    biases = gated().layers[0].b.view(6, 5)
    assert (biases[:4] == 4.0).all()
    assert not biases[4:].any()
    assert not gated(unitary=False).layers[0].b.any()
    assert not gated(init="paper").layers[0].b.any()


def test_complex_gated_chrono_start_reaches_over_the_longest_series():
    r, z = gated(n=200, init="chrono", max_length=1000).layers[0].b[:800].view(2, 2, 200).unbind(1)
    assert (r == 4.0).all()
    assert torch.equal(z[0], z[1])
    assert z.max() < 0
    assert 900 < (-z).exp().max() <= 1000


def test_complex_gated_matrices_start_with_the_gain_of_one_orthogonal_matrix():
    for layer in (gated(n=40, unitary=unitary).layers[0] for unitary in (False, True)):
        for W in (*torch.complex(*layer.W).chunk(2), torch.complex(*layer.state_matrix())):
            assert W.abs().square().sum().item() == pytest.approx(40, rel=1e-4)


def test_complex_gated_options_are_checked():
    for option, first in (("gate", "mod_sigmoid"), ("activation", "modrelu")):
        with pytest.raises(ValueError, match=f"Unknown {option} 'wrong'; choose one of '{first}', '"):
            ComplexGatedRNN(1, **{option: "wrong"})


# -- the unitary RNN


def unitary_network(n=6, n_channels=3, seed=0, **options):
    return UnitaryRNN(n_channels, n_states=n, generator=seeded(seed), **options).double()


@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_unitary_rnn_matrix_is_the_product_of_its_factors(n):
    layer = unitary_network(n).layers[0]
    D_1, D_2, D_3 = (torch.diag(torch.polar(torch.ones_like(phase), phase)) for phase in layer.phases)
    v_1, v_2 = (torch.complex(*v) for v in layer.reflections)
    R_1, R_2 = (torch.eye(n, dtype=v.dtype) - 2 * torch.outer(v, v.conj()) / v.abs().square().sum() for v in (v_1, v_2))
    steps = torch.arange(n, dtype=torch.float64)
    F = torch.polar(torch.full((n, n), n**-0.5, dtype=torch.float64), -2 * math.pi * torch.outer(steps, steps) / n)
    P = torch.eye(n, dtype=F.dtype)[layer.permutation]
    torch.testing.assert_close(layer.matrix(), D_3 @ R_2 @ F.mH @ D_2 @ P @ R_1 @ F @ D_1, **EXACT)
    assert distance_from_unitary(layer.matrix().detach()) < 1e-12


@pytest.mark.parametrize("written_out", [0, 10**6])
def test_unitary_rnn_steps_are_the_equations(monkeypatch, written_out):
    network, x = unitary_network(), normal(2, 9, 3)
    layer = network.layers[0]
    monkeypatch.setattr(type(layer), "WRITTEN_OUT", written_out)
    W, V = layer.matrix(), torch.complex(*layer.V.chunk(2))
    h, expected = torch.complex(*layer.h_0.chunk(2)).expand(2, -1), []
    for x_t in x.to(torch.complex128).unbind(1):
        h = layer.activation(h @ W.T + x_t @ V.T)
        expected.append(h)
    torch.testing.assert_close(complex_states(network, x), torch.stack(expected, dim=1), **EXACT)


def test_unitary_rnn_matrix_and_factors_have_the_same_gradients(monkeypatch):
    network, x = unitary_network(9), normal(2, 7, 3)
    gradients = []
    for written_out in (0, 9):
        monkeypatch.setattr(type(network.layers[0]), "WRITTEN_OUT", written_out)
        gradients.append(torch.autograd.grad(network(x).states.square().sum(), list(network.parameters())))
    for by_factors, by_matrix in zip(*gradients, strict=True):
        torch.testing.assert_close(by_factors, by_matrix, atol=1e-11, rtol=0)
        assert by_matrix.any()


@pytest.mark.parametrize("written_out", [0, 10**6])
def test_unitary_rnn_without_input_and_bias_keeps_the_norm(monkeypatch, written_out):
    network = unitary_network()
    monkeypatch.setattr(type(network.layers[0]), "WRITTEN_OUT", written_out)
    with torch.no_grad():
        network.layers[0].V.zero_()
        network.layers[0].activation.bias.zero_()
        states = complex_states(network, normal(1, 1000, 3))
    norms = torch.linalg.vector_norm(states, dim=2)
    torch.testing.assert_close(norms, network.layers[0].h_0.detach().norm().expand_as(norms), atol=1e-11, rtol=0)
    assert (states[:, -1] - states[:, 0]).abs().max() > 0.01


def test_unitary_rnn_starts_as_published():
    network = unitary_network(2000)
    layer = network.layers[0]
    assert network.output_size == 4000
    assert layer.phases.abs().max() <= math.pi
    assert layer.phases.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.05)
    assert 0.009 < layer.activation.bias.abs().max() <= 0.01
    assert layer.h_0.square().sum().item() == pytest.approx(1.0, rel=0.1)
    assert torch.equal(layer.permutation.sort().values, torch.arange(2000))
    assert not torch.equal(layer.permutation, torch.arange(2000))
