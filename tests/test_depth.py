"""Adaptive computation time and the recurrent highway network against their equations and limits."""

import pytest
import torch
from torch import nn

from sfmts.networks import AdaptiveComputationTime, RecurrentHighway
from sfmts.networks.recurrent import RecurrentState
from tests.helpers import EXACT, normal, seeded

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
every_cell = pytest.mark.parametrize("cell", CELLS)


def series(B=3, T=12, C=3, seed=0):
    return normal(B, T, C, seed=seed)


# -- adaptive computation time


def pondering(n_states=5, halting_bias=None, **options):
    """A network whose halting units say different things at different steps."""
    network = AdaptiveComputationTime(3, n_states=n_states, **options, generator=seeded()).double()
    with torch.no_grad():
        for layer in network.layers:
            layer.w_halt.mul_(4.0)
            layer.b_halt.fill_(-1.0 if halting_bias is None else halting_bias)
    return network


def torch_cell(network, kind):
    """PyTorch's module of one of CELLS with the weights of the network's only layer."""
    (layer,) = network.layers
    twin = CELLS[kind](4, network.n_states, batch_first=True).double()
    weights = {"weight_ih_l0": layer.V, "weight_hh_l0": layer.W, "bias_ih_l0": layer.b}
    twin.load_state_dict({**weights, "bias_hh_l0": torch.zeros_like(layer.b)})
    return twin


@torch.no_grad()
def ponder_by_the_equation(network, cell, x, epsilon=0.01, max_ponder=10):
    """States, passes N and remainders R of one sequence (T, C), with PyTorch's cell."""
    (layer,) = network.layers
    twin = torch_cell(network, cell)
    state = torch.zeros(1, 1, network.n_states, dtype=x.dtype)
    state = (state, state) if cell == "lstm" else state
    states, passes, remainders = [], [], []
    for x_t in x:
        passed, p = [], []
        for n in range(1, max_ponder + 1):
            flagged = torch.cat([x_t, x_t.new_tensor([1.0 if n == 1 else 0.0])])
            _, state = twin(flagged[None, None], state)
            passed.append(torch.stack(state) if cell == "lstm" else state[None])
            p.append(torch.sigmoid(layer.w_halt @ passed[-1][0, 0, 0] + layer.b_halt).item())
            if sum(p) >= 1 - epsilon:
                break
        p[-1] = 1 - sum(p[:-1])
        mean = sum(weight * part for weight, part in zip(p, passed, strict=True))
        state = tuple(mean) if cell == "lstm" else mean[0]
        states.append(mean[0, 0, 0])
        passes.append(len(p))
        remainders.append(p[-1])
    return torch.stack(states), passes, remainders


@pytest.mark.parametrize(("cell", "max_ponder"), [("gru", 10), ("gru", 2), ("lstm", 10), ("rnn", 10)])
def test_pondering_is_its_equation(cell, max_ponder):
    x = series()
    network = pondering(cell=cell, max_ponder=max_ponder, ponder_cost=1.0)
    output, N = network(x), network.ponder_times(x)
    ponder = []
    for b in range(3):
        states, passes, remainders = ponder_by_the_equation(network, cell, x[b], max_ponder=max_ponder)
        torch.testing.assert_close(output.states[b], states, **EXACT)
        assert N[b, :, 0].tolist() == passes
        ponder += [n + R for n, R in zip(passes, remainders, strict=True)]
    assert output.extra_loss.item() == pytest.approx(sum(ponder) / len(ponder), abs=1e-12)
    assert len(N.unique()) > 1 or max_ponder == 2


@every_cell
def test_pondering_once_is_the_plain_cell(cell):
    x = series()
    network = pondering(cell=cell, halting_bias=40.0)
    flagged = torch.cat([x, torch.ones(3, 12, 1, dtype=torch.float64)], dim=2)
    torch.testing.assert_close(network(x).states, torch_cell(network, cell)(flagged)[0], **EXACT)
    assert (network.ponder_times(x) == 1).all()


def test_ponder_loss_lies_between_its_bounds():
    """N + epsilon < N + R <= N + 1 if there is more than one pass, and 2 if there is one."""
    x = series(B=1, T=1)
    seen = set()
    for bias in (40.0, 3.0, 1.0, 0.0, -1.0, -2.0, -3.0):
        network = pondering(halting_bias=bias, ponder_cost=1.0, max_ponder=1000)
        N, ponder = network.ponder_times(x).item(), network(x).extra_loss.item()
        seen.add(N)
        assert ponder == 2.0 if N == 1 else N + 0.01 < ponder <= N + 1
    assert len(seen) > 4
    never = pondering(halting_bias=-40.0, ponder_cost=1.0, max_ponder=7)
    assert never.ponder_times(x).item() == 7
    assert never(x).extra_loss.item() == pytest.approx(8.0)


def test_weights_of_the_passes_add_up_to_one():
    """A cell that always says the same is averaged to just that, however often it is asked."""
    for bias in (2.0, 0.0, -1.5, -40.0):
        network = pondering(cell="rnn", halting_bias=bias)
        (layer,) = network.layers
        with torch.no_grad():
            layer.V.zero_()
            layer.W.zero_()
            layer.b.fill_(0.3)
        states = network(series()).states
        torch.testing.assert_close(states, torch.full_like(states, 0.3).tanh(), atol=1e-15, rtol=0)


def test_ponder_loss_has_the_gradient_of_the_remainder():
    """d(N + R)/dp is -1 for every pass but the last."""
    network = pondering(halting_bias=-1.5, ponder_cost=2.0)
    (layer,) = network.layers
    with torch.no_grad():
        layer.w_halt.zero_()
    x = series()
    network(x).extra_loss.backward()
    p = torch.sigmoid(layer.b_halt.detach())
    N = network.ponder_times(x).unique().item()
    assert N == 6
    torch.testing.assert_close(layer.b_halt.grad, -2.0 * (N - 1) * p * (1 - p))


@every_cell
def test_no_bit_depends_on_how_long_batch_mates_ponder(cell):
    network = pondering(cell=cell)
    x, results, N = series(B=1), [], []
    for mates in (series(seed=1), 3.0 * series(seed=2)):
        batch = torch.cat([x, mates]).requires_grad_()
        states = network(batch).states
        results.append((states[0], torch.autograd.grad(states[0].square().sum(), batch)[0][0]))
        N.append(network.ponder_times(batch))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert torch.equal(N[0][0], N[1][0])
    assert not torch.equal(N[0].max(dim=0).values, N[1].max(dim=0).values)


def test_ponder_loss_counts_steps_and_not_padding():
    x, lengths = series(B=3, T=9), torch.tensor([9, 2, 5])
    network = pondering(ponder_cost=1.0)
    alone = [network(x[b : b + 1, :n]).extra_loss * n for b, n in enumerate(lengths)]
    torch.testing.assert_close(network(x, lengths).extra_loss, sum(alone) / lengths.sum())
    cheap = pondering(ponder_cost=0.25)
    torch.testing.assert_close(cheap(x, lengths).extra_loss, network(x, lengths).extra_loss / 4)


def test_ponder_times_of_layers_and_directions():
    x, lengths = series(B=3, T=9), torch.tensor([9, 2, 5])
    network = pondering(n_layers=2, bidirectional=True, ponder_cost=1.0, recurrent_dropout=0.5)
    N = network.ponder_times(x, lengths)
    assert N.shape == (3, 9, 4)
    assert N.dtype == torch.int64
    assert torch.equal(N, network.ponder_times(x, lengths)), "dropout was at work"
    one = pondering()
    one.layers[0].load_state_dict(network.layers[1].state_dict())
    for b, n in enumerate(lengths):
        assert N[b, :n].all()
        assert not N[b, n:].any()
        assert torch.equal(N[b, :n, 1], one.ponder_times(x[b : b + 1, :n].flip(1))[0, :, 0].flip(0))
    passes = (N.double().sum(dim=(0, 1)) / lengths.sum()).sum()
    assert passes < network.eval()(x, lengths).extra_loss <= passes + 4


def test_ponder_times_of_a_chunk():
    x = series()
    network = pondering()
    later = network.ponder_times(x[:, 5:], state=network(x[:, :5]).state)
    assert torch.equal(later, network.ponder_times(x)[:, 5:])


@pytest.mark.parametrize("init", ["modern", "chrono", "paper", "authors"])
def test_pondering_starts_with_a_halting_bias_of_one(init):
    layer = AdaptiveComputationTime(3, cell="lstm", init=init, max_length=50, generator=seeded()).layers[0]
    assert layer.b_halt.item() == 1.0
    assert layer.w_halt.any()
    i, f, g, o = layer.b.chunk(4)
    assert not g.any()
    assert not o.any()
    if init == "chrono":
        assert torch.equal(i, -f)
        assert 0.0 <= f.min() < f.max() <= torch.tensor(50.0).log()
    else:
        assert (f == (1.0 if init == "modern" else 0.0)).all()


# -- recurrent highway network


def highway(n_states=5, **options):
    return RecurrentHighway(3, n_states=n_states, **options, generator=seeded()).double()


@torch.no_grad()
def set_transform_biases(network, value):
    H = network.n_states
    network.layers[0].b[:, H : 2 * H] = value


@torch.no_grad()
def highway_by_its_equation(network, x):
    """One sequence (T, C)."""
    (layer,) = network.layers
    V, W, b = (p.unflatten(-2 if p.ndim > 2 else -1, (-1, 5)) for p in (layer.V.T, layer.W, layer.b))
    V = V.permute(1, 2, 0)  # (blocks, H, N)
    s = torch.zeros(5, dtype=x.dtype)
    states = []
    for x_t in x:
        for depth in range(network.depth):
            h, *gates = (
                W[depth, block] @ s + b[depth, block] + (V[block] @ x_t if depth == 0 else 0.0)
                for block in range(len(V))
            )
            transform, *carry = (torch.sigmoid(gate) for gate in gates)
            s = torch.tanh(h) * transform + s * (1 - transform if network.coupled else carry[0])
        states.append(s)
    return torch.stack(states)


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("depth", [1, 4])
def test_highway_is_its_equation(depth, coupled):
    x = series()
    network = highway(depth=depth, coupled=coupled)
    with torch.no_grad():
        network.layers[0].b.add_(torch.randn(network.layers[0].b.shape, generator=seeded(1)))
    states = network(x).states
    for b in range(3):
        torch.testing.assert_close(states[b], highway_by_its_equation(network, x[b]), **EXACT)


def test_highway_with_closed_gates_keeps_its_state():
    network = highway()
    set_transform_biases(network, -40.0)
    s = normal(3, 5, seed=1)
    after = network(series(), state=RecurrentState([(s,)], torch.zeros(3, dtype=torch.float64)))
    torch.testing.assert_close(after.states, s[:, None].expand(-1, 12, -1), atol=1e-9, rtol=0)


def test_highway_of_depth_one_with_open_gates_is_a_tanh_rnn():
    network = highway(depth=1)
    set_transform_biases(network, 40.0)
    (layer,) = network.layers
    twin = nn.RNN(3, 5, batch_first=True).double()
    weights = {"weight_ih_l0": layer.V[:5], "weight_hh_l0": layer.W[0, :5], "bias_ih_l0": layer.b[0, :5]}
    twin.load_state_dict({**weights, "bias_hh_l0": torch.zeros(5)})
    x = series()
    torch.testing.assert_close(network(x).states, twin(x)[0], atol=1e-9, rtol=0)


def test_highway_states_are_bounded_if_coupled():
    x = 10.0 * series(T=50)
    networks = highway(), highway(coupled=False)
    with torch.no_grad():
        for network in networks:
            network.layers[0].W.mul_(10.0)
    coupled, free = (network(x).states.abs().max() for network in networks)
    assert coupled <= 1.0
    assert free > 1.5


@pytest.mark.parametrize("init", ["modern", "paper", "authors"])
def test_highway_starts_by_carrying(init):
    for coupled in (True, False):
        h, transform, *carry = RecurrentHighway(3, init=init, coupled=coupled).layers[0].b.split(32, dim=1)
        assert not h.any()
        assert (transform == -2.0).all()
        assert len(carry) == (0 if coupled else 1)
        assert all((gate == 2.0).all() for gate in carry)


@pytest.mark.parametrize("depth", [1, 6])
def test_highway_chrono_start_reaches_over_the_longest_series(depth):
    network = RecurrentHighway(3, n_states=500, depth=depth, init="chrono", max_length=1000, generator=seeded())
    _, transform = network.layers[0].b.detach().double().split(500, dim=1)
    overwritten = 1.0 - (1.0 - torch.sigmoid(transform)).prod(dim=0)  # share of the state in one step
    lasting = 1.0 / overwritten
    assert 1.0 < lasting.min() < 20.0
    assert 900.0 < lasting.max() < 1002.0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"cell": "wrong"}, "Unknown cell 'wrong'; choose one of 'gru', 'lstm', 'rnn'"),
        ({"ponder_cost": -1.0}, "ponder_cost must be a finite number of at least 0, not -1.0"),
        ({"epsilon": 0.0}, "epsilon must be greater than 0 and less than 1, not 0.0"),
        ({"max_ponder": 0}, "max_ponder must be at least 1, not 0"),
    ],
    ids=str,
)
def test_pondering_options_are_checked(option, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveComputationTime(1, **option)
