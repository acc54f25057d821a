"""The clockwork RNN and the phased LSTM against their equations and limits."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sfmts.networks import ClockworkRNN, PhasedLSTM
from sfmts.networks.recurrent import RecurrentState
from tests.helpers import EXACT, normal, seeded


def series(B=3, T=40, C=3, seed=0):
    return normal(B, T, C, seed=seed)


# -- clockwork RNN


def clockwork(n_states=10, **options):
    return ClockworkRNN(3, n_states=n_states, **options, generator=seeded()).double()


def modules(network):
    """The units of each module."""
    sizes = [len(rows) for rows in network.layers[0].W]
    return torch.arange(sum(sizes)).split(sizes)


def clockwork_by_its_equation(network, x):
    """One sequence (T, C), module by module."""
    (layer,) = network.layers
    h = torch.zeros(network.n_states, dtype=x.dtype)
    states = []
    for t, x_t in enumerate(x):
        before = h.clone()
        for units, W, period in zip(modules(network), layer.W, network.periods, strict=True):
            if t % period == 0:
                read = before if network.full else before[units[0] :]
                h[units] = torch.tanh(W @ read + layer.V[units] @ x_t + layer.b[units])
        states.append(h.clone())
    return torch.stack(states)


@pytest.mark.parametrize(
    ("periods", "full"),
    [((1, 2, 4, 8, 16), False), ((1, 2, 4, 8, 16), True), ((1,), False), ((3,), True), ((2, 3, 5), False)],
    ids=str,
)
def test_clockwork_is_its_equation(periods, full):
    x = series()
    network = clockwork(periods=periods, full=full)
    for b, states in enumerate(network(x).states):
        torch.testing.assert_close(states, clockwork_by_its_equation(network, x[b]), **EXACT)


def test_clockwork_with_one_period_of_one_is_a_tanh_rnn():
    x = series()
    network = clockwork(periods=(1,))
    (layer,) = network.layers
    twin = nn.RNN(3, 10, batch_first=True).double()
    weights = {"weight_ih_l0": layer.V, "weight_hh_l0": layer.W[0], "bias_ih_l0": layer.b}
    twin.load_state_dict({**weights, "bias_hh_l0": torch.zeros(10)})
    torch.testing.assert_close(network(x).states, twin(x)[0], **EXACT)


@pytest.mark.parametrize("full", [False, True])
def test_clockwork_module_changes_only_when_it_is_due_and_reads_no_faster_one(full):
    network = clockwork(full=full)
    states = network(series()).states
    before = torch.cat([torch.zeros(3, 1, 10, dtype=torch.float64), states[:, :-1]], dim=1)
    for units, period in zip(modules(network), network.periods, strict=True):
        for t in range(40):
            assert torch.equal(states[:, t, units], before[:, t, units]) == (t % period != 0)
    h = torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)
    state = RecurrentState([(h,)], torch.zeros(1, dtype=torch.float64))
    final = network(series(B=1, T=17), state=state).final[0]
    jacobian = torch.stack([torch.autograd.grad(value, h, retain_graph=True)[0][0] for value in final])
    for i, row in enumerate(modules(network)):
        for j, column in enumerate(modules(network)):
            assert bool(jacobian[row][:, column].any()) == (full or j >= i)


def test_clockwork_continues_sequences_that_stand_at_different_steps():
    x = series(B=4, T=30)
    first, second = torch.tensor([7, 1, 16, 4]), torch.tensor([5, 14, 9, 14])
    network = clockwork()
    rest = torch.stack([x[b, n : n + 14] for b, n in enumerate(first)])
    after = network(rest, second, state=network(x, first).state)
    for b, (m, n) in enumerate(zip(first, second, strict=True)):
        whole = network(x[b : b + 1, : m + n])
        torch.testing.assert_close(after.states[b, :n], whole.states[0, m:], **EXACT)
        torch.testing.assert_close(after.final[b], whole.final[0], **EXACT)
        assert after.state.t[b] == m + n


def test_clockwork_shares_out_units_that_do_not_divide():
    network = ClockworkRNN(3, n_states=32)
    sizes = [len(units) for units in modules(network)]
    assert sizes == [7, 7, 6, 6, 6]
    read = sum(size * sum(sizes[i:]) for i, size in enumerate(sizes))
    assert network.n_parameters == read + 32 * 3 + 32


def test_clockwork_modern_start_is_orthogonal_module_by_module():
    for W in ClockworkRNN(3, n_states=20, generator=seeded()).layers[0].W:
        torch.testing.assert_close(W @ W.T, torch.eye(len(W)), atol=1e-5, rtol=0)


# -- phased LSTM


def phased(n_states=5, **options):
    return PhasedLSTM(3, n_states=n_states, **options, generator=seeded()).double()


@torch.no_grad()
def set_clocks(network, period, shift):
    layer = network.layers[0]
    layer.log_tau.fill_(math.log(period))
    layer.s.fill_(shift)


def openness(network, t):
    with torch.no_grad():
        return network.layers[0].openness(torch.as_tensor(t, dtype=torch.float64))


def phased_by_its_equation(network, x, time, leak, ratio_on):
    """One sequence (T, C) in numpy."""
    layer = network.layers[0]
    V, W, b, log_tau, s = (p.detach().numpy() for p in (layer.V, layer.W, layer.b, layer.log_tau, layer.s))
    p = np.zeros((3, len(s))) if layer.p is None else layer.p.detach().numpy()
    tau = np.exp(log_tau)

    def sigmoid(a):
        return 1.0 / (1.0 + np.exp(-a))

    h = c = np.zeros(len(s))
    states = []
    for x_t, t in zip(x.numpy(), time.numpy(), strict=True):
        phi = np.mod(t - s, tau) / tau
        k = np.select([phi < ratio_on / 2, phi < ratio_on], [2 * phi / ratio_on, 2 - 2 * phi / ratio_on], leak * phi)
        i, f, o, g = np.split(V @ x_t + W @ h + b, 4)
        proposed = sigmoid(f + p[1] * c) * c + sigmoid(i + p[0] * c) * np.tanh(g)
        h_proposed = sigmoid(o + p[2] * proposed) * np.tanh(proposed)
        c, h = k * proposed + (1 - k) * c, k * h_proposed + (1 - k) * h
        states.append(h)
    return torch.from_numpy(np.stack(states))


@pytest.mark.parametrize(("peepholes", "ratio_on"), [(False, 0.05), (True, 0.05), (True, 0.6)])
def test_phased_lstm_is_its_equation(peepholes, ratio_on):
    x = series()
    time = torch.rand(3, 40, dtype=torch.float64, generator=seeded(1)).cumsum(1) - 5.0  # before s as well
    network = phased(time="timestamps", peepholes=peepholes, ratio_on=ratio_on)
    with torch.no_grad():
        for parameter in network.parameters():
            if len(parameter.shape) < 2:
                parameter += 0.1  # no bias is 0
        if peepholes:
            network.layers[0].p.normal_(generator=seeded(2))
    for leak, training in [(1e-3, True), (0.0, False)]:
        for b, states in enumerate(network.train(training)(x, time=time).states):
            expected = phased_by_its_equation(network, x[b], time[b], leak, ratio_on)
            torch.testing.assert_close(states, expected, **EXACT)
            assert states.any()


def test_phased_lstm_that_is_always_open_is_an_lstm():
    network = phased()
    set_clocks(network, 1e9, -0.05 * 1e9 / 2)  # in the middle of the open phase, for a long time
    layer = network.layers[0]
    twin = nn.LSTM(3, 5, batch_first=True).double()
    order = torch.arange(20).view(4, 5)[[0, 1, 3, 2]].flatten()  # i, f, o, g to i, f, g, o
    weights = {"weight_ih_l0": layer.V[order], "weight_hh_l0": layer.W[order], "bias_ih_l0": layer.b[order]}
    twin.load_state_dict({**weights, "bias_hh_l0": torch.zeros(20)})
    x = series()
    torch.testing.assert_close(network(x).states, twin(x)[0], atol=1e-4, rtol=0)


def test_phased_lstm_keeps_closed_units_bit_for_bit():
    x = series()
    network = phased().eval()
    set_clocks(network, 20.0, 0.5)  # phase 0.025 = r / 2 at steps 1, 21, ...
    states = network(x).states
    moves = [t for t in range(1, 40) if not torch.equal(states[:, t], states[:, t - 1])]
    assert moves == [20]
    assert states[:, 0].all()


def test_openness_over_a_period():
    network = phased()
    set_clocks(network, 8.0, 3.0)
    phase = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    t = 3.0 + 8.0 * (phase - 7.0)  # seven periods before s: the modulus must not be negative
    k = openness(network, t)[:, 0]
    assert k.mean().item() == pytest.approx(0.05 / 2 + 1e-3 * (1 - 0.05**2) / 2, rel=1e-6)
    assert k.min() >= 0.0
    assert k.max() <= 1.0
    assert (openness(network.eval(), t)[phase > 0.05] == 0.0).all()


def test_openness_at_a_phase():
    network = phased()
    set_clocks(network, 8.0, 3.0)
    phase = np.array([1e-6, 0.0125, 0.025, 0.0375, 0.049999, 0.050001, 0.5, 0.999999])  # the leak sets in behind 0.05
    k = [4e-5, 0.5, 1.0, 0.5, 4e-5, 5.0001e-5, 5e-4, 9.99999e-4]
    assert openness(network, 3.0 + 8.0 * phase)[:, 0].tolist() == pytest.approx(k, abs=1e-12)


def test_openness_of_a_float32_network_at_late_times():
    network = PhasedLSTM(3, n_states=5, generator=seeded()).eval()
    layer = network.layers[0]
    t = 1e6 + np.arange(200.0)
    tau, s = layer.log_tau.detach().double().exp().numpy(), layer.s.detach().double().numpy()
    phase = np.mod(t[:, None] - s, tau) / tau
    expected = np.where(phase < 0.05, 1 - np.abs(phase / 0.025 - 1), 0.0)
    torch.testing.assert_close(openness(network, t), torch.from_numpy(expected), atol=1e-6, rtol=0)
    assert network(torch.ones(1, 2, 3)).states.dtype == torch.float32


def test_phased_lstm_learns_its_clocks():
    x = series()
    network = phased()
    network(x).states.square().sum().backward()
    for clock in (network.layers[0].log_tau, network.layers[0].s):
        assert clock.grad.isfinite().all()
        assert clock.grad.all()


@pytest.mark.parametrize(
    ("options", "shortest", "longest", "latest"),
    [
        ({}, 1.0, math.exp(3.0), math.exp(3.0)),
        ({"init": "paper"}, 1.0, math.exp(3.0), math.exp(3.0)),
        ({"init": "chrono", "max_length": 500}, 1.0, 500.0, 500.0),
        ({"init": "authors"}, 10.0, 100.0, 1000.0),
        ({"init": "authors", "period_range": (0.01, 0.1)}, 0.01, 0.1, 0.1),
    ],
    ids=str,
)
def test_phased_lstm_starts_with_periods_between(options, shortest, longest, latest):
    layer = PhasedLSTM(1, n_states=500, **options, generator=seeded()).layers[0]
    tau = layer.log_tau.detach().exp()
    assert shortest <= tau.min() < 1.1 * shortest
    assert 0.9 * longest < tau.max() <= longest * 1.00001
    assert layer.s.min() >= 0.0
    assert 0.8 * latest < layer.s.max() <= latest


def test_phased_lstm_starts_with_open_forget_gates():
    for init, forget in [("modern", 1.0), ("paper", 0.0), ("authors", 2.0)]:
        i, f, o, g = PhasedLSTM(3, init=init, generator=seeded()).layers[0].b.chunk(4)
        assert (f == forget).all()
        assert not torch.cat([i, o, g]).any()
    i, f, *others = PhasedLSTM(3, init="chrono", max_length=1000, generator=seeded()).layers[0].b.chunk(4)
    assert torch.equal(i, -f)
    assert f.min() >= 0.0
    assert 800.0 < f.exp().max() <= 1000.0
    assert not torch.cat(others).any()


IN_STEPS = "increasing positive whole numbers of steps, not"


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        *((ClockworkRNN, {"periods": p}, IN_STEPS) for p in [(), (0, 1), (2, 1), (1, 1), (1, 2.5), (1, math.inf)]),
        (ClockworkRNN, {"n_states": 4}, r"at least 5, a unit for each of the periods \(1, 2, 4, 8, 16\), not 4"),
        (PhasedLSTM, {"ratio_on": 0.0}, "ratio_on must be greater than 0 and at most 1, a share of the period, not 0"),
        (PhasedLSTM, {"leak": -1.0}, "leak must be from 0 to 1, a share of the state, not -1"),
        (PhasedLSTM, {"period_range": (20, 1)}, r"two positive numbers, the smaller one first, not \(20, 1\)"),
        (PhasedLSTM, {"time": "wrong"}, "Unknown time 'wrong'; choose one of 'index', 'timestamps'"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_options_are_checked(network, options, message):
    with pytest.raises(ValueError, match=message):
        network(1, **options)
