"""The SFM of the KDD 2017 paper against a port of its equations, and what they imply."""

import math

import numpy as np
import pytest
import torch

from sfmts.networks import KDDSFM
from sfmts.networks.recurrent import RecurrentState
from tests.helpers import normal, seeded

GATES = {
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
}
D, K, N = 5, 4, 3


def build(seed=0, **options):
    return KDDSFM(N, **{"n_states": D, "n_frequencies": K, **options}, generator=seeded(seed)).double()


def port(layer, x, t, gate):
    """The equations, one sequence and one step at a time: all h and all |S|^2."""
    parameters = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    rows = np.cumsum([D, D, K, D])
    (V_o, V_ste, V_fre, V_i, V_c), (W_o, W_ste, W_fre, W_i, W_c), (b_o, b_ste, b_fre, b_i, b_c) = (
        np.split(parameters[name], rows) for name in ("V", "W", "b")
    )
    omega = 2.0 * np.pi * np.arange(K) / K
    h, S = np.zeros(D), np.zeros((D, K), dtype=complex)
    states, squares = [], []
    for x_t, time in zip(x, t, strict=True):
        o = gate(V_o @ x_t + W_o @ h + b_o)
        f_ste = gate(V_ste @ x_t + W_ste @ h + b_ste)
        f_fre = gate(V_fre @ x_t + W_fre @ h + b_fre)
        c = gate(V_i @ x_t + W_i @ h + b_i) * np.tanh(V_c @ x_t + W_c @ h + b_c)
        S = np.outer(f_ste, f_fre) * S + np.outer(c, np.exp(1j * omega * time))
        A = S.real**2 + S.imag**2
        h = o * np.tanh(A @ parameters["U_a"] + parameters["b_a"])
        states.append(h)
        squares.append(A)
    return np.array(states), np.array(squares)


@pytest.mark.parametrize("time", ["index", "timestamps"])
@pytest.mark.parametrize("gate", GATES)
def test_equations(gate, time):
    network = build(gate_activation=gate, time=time)
    with torch.no_grad():
        for parameter in network.parameters():  # gates beyond the bends of the hard sigmoid, and biases that are not 0
            parameter.copy_(1.5 * normal(*parameter.shape, seed=parameter.numel()))
    x, stamps = normal(2, 20, N), normal(2, 20, seed=1).abs().cumsum(1)
    output = network(x, time=stamps)
    amplitudes = network.state_amplitudes(x, time=stamps)
    for b in range(2):
        t = np.arange(1, 21) if time == "index" else stamps[b].numpy()
        states, squares = port(network.layers[0], x[b].numpy(), t, GATES[gate])
        np.testing.assert_allclose(output.states[b].detach(), states, atol=1e-10, rtol=0)
        np.testing.assert_allclose(amplitudes[b].square(), squares, atol=1e-10, rtol=1e-10)


def test_amplitudes_are_those_of_a_discrete_fourier_transform():
    """Nothing is forgotten and all is let in: S collects the Fourier sums of tanh(V_c x)."""
    network, periods = build(), 3
    layer = network.layers[0]
    with torch.no_grad():
        layer.W.zero_()
        layer.V[: 3 * D + K] = 0.0
        layer.b[: 3 * D + K] = 40.0
    x = normal(2, periods * K, N)
    u = torch.tanh(x @ layer.V[3 * D + K :].T).view(2, periods, K, D).sum(1)
    expected = torch.fft.fft(u, dim=1).abs().transpose(1, 2)
    torch.testing.assert_close(network.state_amplitudes(x)[:, -1], expected, atol=1e-12, rtol=0)


def test_columns_of_opposite_frequencies_are_equal_when_they_forget_alike():
    network = build(n_frequencies=5)
    layer = network.layers[0]
    with torch.no_grad():
        for part in (layer.V, layer.W, layer.b):
            part[2 * D : 2 * D + 5] = part[2 * D]
    A = network.state_amplitudes(normal(2, 12, N))
    torch.testing.assert_close(A[..., 1:], A[..., 1:].flip(-1), atol=1e-12, rtol=0)


def test_output_does_not_depend_on_where_time_begins_and_has_size_one_at_most():
    network, x = build(), normal(2, 12, N)
    parts = tuple(network.layers[0].start(x))
    late = RecurrentState([parts], torch.full((2,), 1e6, dtype=torch.float64))
    torch.testing.assert_close(network(x, state=late).states, network(x).states, atol=1e-12, rtol=0)
    assert network(10.0 * normal(3, 30, N)).states.abs().max() <= 1.0


def test_amplitudes_of_ragged_sequences_in_both_directions():
    network, lengths = build(n_layers=2, bidirectional=True, recurrent_dropout=0.5), torch.tensor([9, 3, 7, 1])
    x = normal(4, 9, N)
    A = network.state_amplitudes(x, lengths)
    assert A.shape == (4, 9, 2 * D, K)
    for b, length in enumerate(lengths):
        alone = network.state_amplitudes(x[b : b + 1, :length])
        torch.testing.assert_close(A[b, :length], alone[0], atol=1e-12, rtol=0)
        assert not A[b, length:].any()


def test_amplitudes_of_the_second_direction_are_those_of_the_reversed_series():
    both, one, x = build(bidirectional=True), build(seed=1), normal(2, 9, N)
    one.layers[0].load_state_dict(both.layers[1].state_dict())
    expected = one.state_amplitudes(x.flip(1)).flip(1)
    torch.testing.assert_close(both.state_amplitudes(x)[:, :, D:], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("gate", GATES)
def test_starts(gate):
    def shares(init):
        network = KDDSFM(N, n_states=64, gate_activation=gate, init=init, max_length=1000, generator=seeded())
        sizes = network.layers[0].gate_sizes
        o, f_ste, f_fre, i, c = np.split(network.layers[0].b.detach().double().numpy(), np.cumsum(sizes)[:-1])
        assert not o.any()
        assert not c.any()
        return f_ste, f_fre, GATES[gate](f_ste), GATES[gate](f_fre), GATES[gate](i)

    f_ste, f_fre, *_ = shares("authors")
    assert (f_ste == 1).all()
    assert (f_fre == 1).all()
    assert math.isclose(build().layers[0].U_a.norm().item(), 1.0, rel_tol=1e-6)
    _, _, ste, fre, _ = shares("modern")
    assert 0.7 < ste.max() * fre.max() < 0.85
    _, _, ste, fre, i = shares("chrono")
    np.testing.assert_allclose(i, 1.0 - ste, atol=1e-6)
    assert 1 - 1 / 500 < ste.max() <= 1000 / 1001 + 1e-6
    np.testing.assert_allclose(fre, 0.9975, atol=1e-6)
    *_, i = shares("paper")
    np.testing.assert_allclose(i, 0.5)


def test_gate_activation_is_checked():
    with pytest.raises(ValueError, match="Unknown gate_activation 'relu'; choose one of 'hard_sigmoid', 'sigmoid'"):
        KDDSFM(1, gate_activation="relu")
