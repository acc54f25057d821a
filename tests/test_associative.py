"""What the associative LSTM promises: keys, copies, bounds and counts."""

import math

import pytest
import torch

from sfmts.networks import AssociativeLSTM
from tests.helpers import EXACT, normal, seeded


def unit_modulus(*shape, seed=0):
    return torch.polar(torch.ones(shape, dtype=torch.float64), 10 * normal(*shape, seed=seed))


def build(n_states=10, n_channels=3, seed=0, **options):
    return AssociativeLSTM(n_channels, n_states=n_states, generator=seeded(seed), **options).double()


def as_complex(states):
    return torch.complex(*states.chunk(2, dim=-1))


def column(z):
    """A complex vector as the column [Re; Im] of a real matrix."""
    return torch.cat([z.real, z.imag], dim=-1)


def item_network(write_keys, values, read_key, forget, n_copies, **options):
    """A network whose k-th channel writes the k-th of (items, units) keys and values, and always reads one key."""
    n_items, n_units = values.shape
    network = build(2 * n_units, n_items, n_copies=n_copies, **options)
    layer = network.layers[0]
    with torch.no_grad():
        layer.W.zero_()
        gates = torch.tensor([forget, 1e4, 1e4], dtype=torch.float64).repeat_interleave(n_units)
        layer.b.copy_(torch.cat([gates, torch.zeros(2 * n_units), column(read_key), torch.zeros(2 * n_units)]))
        layer.V.zero_()
        layer.V[3 * n_units : 5 * n_units] = column(write_keys).T
        layer.V[7 * n_units :] = column(values).T
    return network


@pytest.mark.parametrize("n_copies", [1, 4])
@pytest.mark.parametrize("update_reads_state", [False, True])
def test_steps_are_the_equations(n_copies, update_reads_state):
    network, x = build(n_copies=n_copies, update_reads_state=update_reads_state), normal(2, 9, 3)
    layer, m = network.layers[0], 5
    W = torch.cat([layer.W, layer.W.new_zeros(9 * m - len(layer.W), 2 * m)])
    h, expected = torch.zeros(2, 2 * m, dtype=torch.float64), []
    memories = [torch.zeros(2, m, dtype=torch.complex128) for _ in range(n_copies)]

    def bounded(z):
        return z / z.abs().clamp_min(1.0)

    for x_t in x.unbind(1):
        a = x_t @ layer.V.T + h @ W.T + layer.b
        f, i, o = torch.sigmoid(a[:, : 3 * m]).chunk(3, dim=1)
        r_i, r_o, u = (bounded(as_complex(part)) for part in a[:, 3 * m :].chunk(3, dim=1))
        memories = [f * c + r_i[:, P] * (i * u) for c, P in zip(memories, layer.permutations, strict=True)]
        read = sum(r_o[:, P] * c for c, P in zip(memories, layer.permutations, strict=True)) / n_copies
        h = column(o * bounded(read))
        expected.append(h)
    torch.testing.assert_close(network(x).states, torch.stack(expected, dim=1), **EXACT)


@pytest.mark.parametrize("n_copies", [1, 3])
def test_the_conjugate_key_reads_a_single_item_exactly(n_copies):
    key, value = unit_modulus(1, 8), 0.3 * unit_modulus(1, 8, seed=1)
    network = item_network(key, value, key[0].conj(), 1e4, n_copies)
    x = torch.tensor([[[1.0], [0.0], [0.0]]], dtype=torch.float64)  # written once, kept, and read at every step
    torch.testing.assert_close(as_complex(network(x).states), value.expand(3, -1)[None], **EXACT)


def test_more_copies_leave_less_noise():
    n_items, n_units = 6, 512
    keys, values = unit_modulus(n_items, n_units), 0.02 * unit_modulus(n_items, n_units, seed=1)
    x = torch.eye(n_items, dtype=torch.float64)[None]
    variance = {}
    for n_copies in (1, 4, 16):
        network = item_network(keys, values, keys[0].conj(), 1e4, n_copies, seed=2)
        noise = as_complex(network(x).final) - values[0]
        variance[n_copies] = noise.abs().square().mean().item()
    assert variance[1] == pytest.approx((n_items - 1) * 0.02**2, rel=0.2)
    assert variance[1] / variance[4] == pytest.approx(4, rel=0.2)
    assert variance[1] / variance[16] == pytest.approx(16, rel=0.2)


def test_with_keys_of_one_and_one_copy_the_memory_is_that_of_an_lstm():
    network, x, m = build(n_copies=1), normal(2, 9, 3), 5
    layer = network.layers[0]
    with torch.no_grad():
        layer.permutations.copy_(torch.arange(m))
        for matrix in (layer.V, layer.W):
            matrix[3 * m : 7 * m] = 0.0
        one = torch.cat([torch.ones(m), torch.zeros(m)])
        layer.b[3 * m : 7 * m] = torch.cat([one, one])
    output = network(x)
    states = torch.cat([x.new_zeros(2, 1, 2 * m), output.states[:, :-1]], dim=1)
    c = torch.zeros(2, 2 * m, dtype=torch.float64)
    for x_t, h in zip(x.unbind(1), states.unbind(1), strict=True):
        a = x_t @ layer.V.T + h @ layer.W.T + layer.b
        f, i, _ = (gate.repeat(1, 2) for gate in torch.sigmoid(a[:, : 3 * m]).chunk(3, dim=1))
        u = as_complex(a[:, 7 * m :])
        c = f * c + i * column(u / u.abs().clamp_min(1.0))
    memory = output.state.layers[0][1]
    torch.testing.assert_close(memory[:, :, 0].flatten(1), c, **EXACT)


@pytest.mark.parametrize("n_copies", [1, 4])
def test_outputs_never_leave_the_unit_disk(n_copies):
    network = build(n_copies=n_copies)
    with torch.no_grad():
        for p in network.parameters():
            p *= 20.0
    moduli = as_complex(network(normal(4, 50, 3)).states).abs()
    assert moduli.max() <= 1 + 1e-12
    assert moduli.max() > 0.9


@pytest.mark.parametrize(("scale", "n_copies"), [(0.1, 1), (0.1, 3), (1.0, 3), (10.0, 1), (10.0, 3)])
def test_gradients_within_and_beyond_the_unit_disk(scale, n_copies):
    """With large parameters all keys, values and readings are bounded, with small ones none is."""
    network, x = build(4, n_copies=n_copies), normal(2, 3, 3)
    names = [name for name, _ in network.named_parameters()]
    parameters = [scale * p.detach() for p in network.parameters()]

    def run(x, *parameters):
        output = torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), (x,))
        return output.states, output.state.layers[0][1]

    assert torch.autograd.gradcheck(run, [p.requires_grad_() for p in (x, *parameters)])
    network, silence = build(init="paper"), torch.zeros(2, 4, 3, dtype=torch.float64, requires_grad=True)
    network(silence).states.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in (silence, *network.parameters()))


def test_permutations_come_from_the_seed():
    permutations = build().layers[0].permutations
    assert permutations.shape == (4, 5)
    assert torch.equal(permutations.sort(dim=1).values, torch.arange(5).expand(4, -1))
    assert not torch.equal(build(seed=1).layers[0].permutations, permutations)


def test_start_of_the_gates():
    f, i, o = build(200).layers[0].b[:300].view(3, 100)
    assert (f == 1.0).all()
    assert not i.any()
    assert not o.any()
    f, i, o = build(200, init="chrono", max_length=1000).layers[0].b[:300].view(3, 100)
    assert f.min() > 0
    assert f.max() <= math.log(1000)
    assert torch.equal(i, -f)
    assert not o.any()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_states": 15}, r"n_states=15 .* Give an even number: 14 or 16\."),
        ({"n_states": 1}, r"n_states=1 .* Give an even number: 2\."),
        ({"n_copies": 0}, "n_copies must be at least 1, not 0"),
    ],
    ids=str,
)
def test_options_are_checked(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        AssociativeLSTM(2, **options)
