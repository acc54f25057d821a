"""The networks' contract, kept by every one of them, and what each promises of its own."""

import pytest
import torch
from torch import nn

from sfmts.networks import GRU, LSTM, SFM, make_network, network_names, register_network
from sfmts.networks.base import SequenceNetwork, network_class
from tests.helpers import KERNELS, MODES, NETWORKS, mode_id

VARIANTS = [
    {},
    {"n_layers": 2},
    {"bidirectional": True},
    {"n_layers": 2, "bidirectional": True},
    {"recurrent_dropout": 0.4},
    {"init": "chrono"},
]


def variant_id(variant):
    return "-".join(f"{key}={value}" for key, value in variant.items()) or "plain"


def build(name, n_channels=3, seed=0, **options):
    options = {"n_states": 5, "n_frequencies": 3, "n_outputs": 4, **options}
    return make_network(name, n_channels, **options, generator=torch.Generator().manual_seed(seed)).double()


def batch(B=4, T=9, C=3, seed=0):
    x = torch.randn(B, T, C, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    time = torch.rand(B, T, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1)).cumsum(1)
    return x, torch.tensor([9, 3, 7, 1][:B]), time


every_network = pytest.mark.parametrize("name", NETWORKS)
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=variant_id)


@every_network
@every_variant
def test_shapes(name, variant):
    x, lengths, time = batch()
    network = build(name, **variant)
    output = network(x, lengths, time=time)
    assert output.states.shape == (4, 9, network.output_size)
    assert output.final.shape == (4, network.output_size)
    assert isinstance(network, SequenceNetwork)
    assert network.n_channels == 3


@every_network
@every_variant
def test_padding_and_batch_mates_do_not_matter(name, variant):
    x, lengths, time = batch()
    network = build(name, **variant).eval()
    output = network(x, lengths, time=time)
    changed = x.clone()
    for b, length in enumerate(lengths):
        changed[b, length:] = 99.0
    again = network(changed, lengths, time=time)
    assert torch.equal(output.states, again.states)
    for b, length in enumerate(lengths):
        alone = network(x[b : b + 1, :length], time=time[b : b + 1, :length])
        torch.testing.assert_close(alone.states[0], output.states[b, :length], atol=1e-12, rtol=0)
        torch.testing.assert_close(alone.final[0], output.final[b], atol=1e-12, rtol=0)
        assert not output.states[b, length:].any()


@pytest.mark.parametrize("mode", MODES, ids=mode_id)
@pytest.mark.parametrize("backend", KERNELS)
def test_sfm_padding_does_not_matter_in_any_mode(mode, backend):
    x, lengths, time = batch()
    network = build("sfm", bidirectional=True, backend=backend, **mode)
    output = network(x, lengths, time=time)
    for b, length in enumerate(lengths):
        alone = network(x[b : b + 1, :length], time=time[b : b + 1, :length])
        torch.testing.assert_close(alone.final[0], output.final[b], atol=1e-12, rtol=0)


@every_network
@every_variant
def test_causal_says_whether_the_future_matters(name, variant):
    x, _, time = batch()
    network = build(name, **variant).eval()
    changed = x.clone()
    changed[:, 6:] += 1.0
    same = torch.equal(network(x, time=time).states[:, :6], network(changed, time=time).states[:, :6])
    assert same == network.causal


@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_sfm_causal_in_every_mode(mode):
    """What follows must not change a state; with time='normalized' the mere length of the rest does."""
    x, _, time = batch()
    network = build("sfm", **mode)
    whole, start = network(x, time=time).states[:, :5], network(x[:, :5], time=time[:, :5]).states
    assert torch.allclose(whole, start, atol=1e-12) == network.causal


@every_network
@pytest.mark.parametrize("variant", [{}, {"n_layers": 2}], ids=variant_id)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "dropout"])
def test_chunked_is_whole(name, variant, training):
    x, lengths, time = batch()
    network = build(name, **variant, recurrent_dropout=1e-12 if training else 0.0).train(training)
    whole = network(x, lengths, time=time)
    first = network(x[:, :1], time=time[:, :1])
    rest_of = lengths > 1
    rest = network(x[:, 1:2], time=time[:, 1:2], state=first.state)
    torch.testing.assert_close(first.states[:, 0], whole.states[:, 0], atol=1e-12, rtol=0)
    torch.testing.assert_close(rest.states[rest_of, 0], whole.states[rest_of, 1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode["time"] != "normalized"], ids=mode_id)
@pytest.mark.parametrize("backend", KERNELS)
def test_sfm_chunked_is_whole_with_its_gradients(mode, backend):
    x, _, time = batch()
    network = build("sfm", n_layers=2, backend=backend, **mode)
    whole = network(x, time=time)
    expected = torch.autograd.grad(whole.final.square().sum(), list(network.parameters()))
    state, parts = None, []
    for begin, end in [(0, 2), (2, 3), (3, 9)]:  # chunks of unequal length
        output = network(x[:, begin:end], time=time[:, begin:end], state=state)
        state = output.state
        parts.append(output.states)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole.states, atol=1e-12, rtol=0)
    got = torch.autograd.grad(output.final.square().sum(), list(network.parameters()))
    for gradient, wanted in zip(got, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-11, rtol=1e-9)


def test_sfm_chunks_of_a_ragged_batch():
    x, lengths, _ = batch()
    network = build("sfm", frequencies="adaptive", phase="accumulated")
    whole = network(x, lengths)
    first = network(x[:, :4], lengths.clamp_max(4))
    longer = lengths > 4
    state = [type(s)(*(value[longer] for value in s)) for s in first.state]
    rest = network(x[longer, 4:], lengths[longer] - 4, state=state)
    torch.testing.assert_close(rest.final, whole.final[longer], atol=1e-12, rtol=0)


@every_network
def test_networks_that_need_the_whole_sequence_refuse_a_state(name):
    x, _, _ = batch()
    network = build(name, bidirectional=True)
    state = build(name)(x).state
    with pytest.raises(ValueError, match="whole sequence"):
        network(x, state=state)


@every_network
@pytest.mark.parametrize("variant", VARIANTS[:4], ids=variant_id)
def test_gradcheck(name, variant):
    x, lengths, time = batch(T=9)
    network = build(name, n_channels=3, **variant)

    def run(x, *parameters):
        names = [name for name, p in network.named_parameters() if p.requires_grad]
        named = dict(zip(names, parameters, strict=True))
        output = torch.func.functional_call(network, named, (x, lengths), {"time": time})
        return output.states, output.final

    inputs = (x.requires_grad_(), *(p for p in network.parameters() if p.requires_grad))
    assert torch.autograd.gradcheck(run, inputs, atol=1e-6, fast_mode=True)


@every_network
@every_variant
def test_state_dict_round_trip(name, variant):
    x, lengths, time = batch()
    network, other = build(name, **variant).eval(), build(name, seed=1, **variant).eval()
    assert not torch.equal(network(x, lengths, time=time).final, other(x, lengths, time=time).final)
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(x, lengths, time=time).final, other(x, lengths, time=time).final)


@every_network
@pytest.mark.parametrize("init", ["modern", "chrono", "paper", "authors"])
def test_initial_weights_come_from_the_generator(name, init):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = torch.cat([p.flatten() for p in build(name, seed=3, init=init).parameters()])
    second = torch.cat([p.flatten() for p in build(name, seed=3, init=init).parameters()])
    third = torch.cat([p.flatten() for p in build(name, seed=4, init=init).parameters()])
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"


@every_network
def test_recurrent_dropout_only_in_training_and_one_mask_a_sequence(name):
    x, lengths, time = batch()
    network = build(name, recurrent_dropout=0.5)
    dropped = [
        network(x, lengths, time=time, generator=torch.Generator().manual_seed(seed)).final for seed in (0, 0, 1)
    ]
    assert torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[0], dropped[2])
    network.eval()
    plain = build(name).eval()
    assert torch.equal(network(x, lengths, time=time).final, plain(x, lengths, time=time).final)
    # All but nothing dropped: the loop with masks is the same recurrence as the kernel without.
    network.recurrent_dropout = 1e-12
    network.train()
    torch.testing.assert_close(
        network(x, lengths, time=time).states, plain(x, lengths, time=time).states, atol=1e-9, rtol=0
    )


@pytest.mark.parametrize("variant", VARIANTS[:4], ids=variant_id)
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_gated_dropout_loop_is_the_kernel(name, variant):
    x, lengths, _ = batch()
    loop, kernel = build(name, **variant, recurrent_dropout=1e-12), build(name, **variant)
    torch.testing.assert_close(loop(x, lengths).states, kernel(x, lengths).states, atol=1e-9, rtol=0)
    torch.testing.assert_close(loop(x, lengths).final, kernel(x, lengths).final, atol=1e-9, rtol=0)


# -- SFM


def sfm_count(D, K, M, N):
    return (3 * D + K) * (M + N + 1) + K * M * (2 * D + M + N + 2)


@pytest.mark.parametrize(("D", "K", "M", "N"), [(50, 4, 1, 2), (50, 4, 88, 88), (30, 8, 61, 26), (50, 4, 2, 2)])
def test_parameter_counts(D, K, M, N):
    sizes = {"n_states": D, "n_frequencies": K, "n_outputs": M}
    assert SFM(N, **sizes).n_parameters == sfm_count(D, K, M, N)
    assert SFM(N, **sizes, frequencies="learned").n_parameters == sfm_count(D, K, M, N) + K
    adaptive = sfm_count(D, K, M, N) + K * (M + N + 1)
    assert SFM(N, **sizes, frequencies="adaptive").n_parameters == adaptive


def test_parameter_counts_of_the_paper():
    """Table 1 of the paper, counted: the SFM alone, rivals with their output layer H O + O."""
    tasks = {1: (2, 1, (50, 4, 1), 15, 18), 2: (88, 88, (50, 4, 88), 139, 164), 3: (26, 61, (30, 8, 61), 122, 141)}
    counts = {}
    for task, (N, O, (D, K, M), lstm, gru) in tasks.items():  # noqa: E741
        sizes = {"n_states": D, "n_frequencies": K, "n_outputs": M}
        counts[task] = [
            SFM(N, **sizes).n_parameters,
            SFM(N, **sizes, frequencies="adaptive").n_parameters,
            LSTM(N, n_states=lstm).n_parameters + lstm * O + O,
            GRU(N, n_states=gru).n_parameters + gru * O + O,
        ]
    assert counts == {
        1: [1036, 1052, 1096, 1153],
        2: [125114, 125822, 139088, 138996],
        3: [81336, 82040, 80215, 79726],
    }


@pytest.mark.parametrize(("cls", "gates"), [(LSTM, 4), (GRU, 3)])
@pytest.mark.parametrize(("H", "N"), [(15, 2), (139, 88)])
def test_gated_parameter_counts(cls, gates, H, N):
    assert cls(N, n_states=H).n_parameters == gates * H * (H + N + 1)
    assert cls(N, n_states=H, bidirectional=True).n_parameters == 2 * gates * H * (H + N + 1)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_gated_networks_are_those_of_torch(name):
    x, _, _ = batch()
    network = build(name)
    twin = getattr(nn, name.upper())(3, 5, batch_first=True).double()
    twin.load_state_dict(network.cell.state_dict())
    torch.testing.assert_close(network(x).states, twin(x)[0])


@every_network
def test_second_direction_reads_backwards(name):
    """The second half of a bidirectional network's output is a network on the reversed series, reversed."""
    x, lengths, time = batch()
    both, one = build(name, bidirectional=True), build(name)
    state = both.state_dict()
    if name == "sfm":
        backwards = {key.replace("layers.1.", "layers.0."): value for key, value in state.items() if "layers.1." in key}
    else:
        backwards = {key.removesuffix("_reverse"): value for key, value in state.items() if key.endswith("_reverse")}
    one.load_state_dict(backwards)
    width = one.output_size
    for b, length in enumerate(lengths):
        series = x[b : b + 1, :length]
        expected = one(series.flip(1)).states.flip(1)
        states = both(x, lengths, time=time).states[b : b + 1, :length, width:]
        torch.testing.assert_close(states, expected, atol=1e-12, rtol=0)


def test_sfm_time_stamps_that_count_steps_are_the_index():
    x, lengths, _ = batch()
    index, stamps = build("sfm"), build("sfm", time="timestamps")
    time = torch.arange(1, 10, dtype=torch.float64).expand(4, 9)
    assert torch.equal(index(x, lengths).states, stamps(x, lengths, time=time).states)
    irregular = stamps(x, lengths, time=time.sqrt()).states
    assert not torch.allclose(index(x, lengths).states, irregular, atol=1e-3)


def test_sfm_time_stamps_are_needed():
    with pytest.raises(ValueError, match=r"give `time`, a tensor of shape \(B, T\)"):
        build("sfm", time="timestamps")(batch()[0])


def test_sfm_released_time_is_zero_until_the_last_step():
    x, lengths, _ = batch()
    network = build("sfm", time="zero_until_last")
    stamps = build("sfm", time="timestamps")
    time = torch.zeros(4, 9, dtype=torch.float64)
    time[torch.arange(4), lengths - 1] = 1.0
    assert torch.equal(network(x, lengths).states, stamps(x, lengths, time=time).states)
    assert not network.causal


@pytest.mark.parametrize("backend", KERNELS)
def test_sfm_amplitudes(backend):
    x, lengths, _ = batch()
    network = build("sfm", n_layers=2, bidirectional=True, backend=backend)
    A = network.state_amplitudes(x, lengths)
    assert A.shape == (4, 9, 10, 3)
    states = network(x, lengths).state
    for b, length in enumerate(lengths):
        ahead = torch.hypot(states[2].re, states[2].im)[b]
        behind = torch.hypot(states[3].re, states[3].im)[b]
        torch.testing.assert_close(A[b, length - 1, :5], ahead, atol=1e-10, rtol=0)
        torch.testing.assert_close(A[b, 0, 5:], behind, atol=1e-10, rtol=0)
        assert not A[b, length:].any()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_sfm_amplitudes_of_each_layer(bidirectional):
    x, lengths, _ = batch()
    network = build("sfm", n_layers=3, bidirectional=bidirectional)
    states = network(x, lengths).state
    directions = 2 if bidirectional else 1
    for layer in (0, 1, 2, -1):
        A = network.state_amplitudes(x, lengths, layer=layer)
        ahead = states[(layer % 3) * directions]
        for b, length in enumerate(lengths):
            expected = torch.hypot(ahead.re, ahead.im)[b]
            torch.testing.assert_close(A[b, length - 1, :5], expected, atol=1e-10, rtol=0)


def test_sfm_paper_start():
    network = SFM(3, init="paper", generator=torch.Generator().manual_seed(0))
    layer = network.layers[0]
    for weight in (layer.V, layer.W, layer.U_o, layer.W_z):
        assert 0.09 < weight.abs().max() <= 0.1
    assert not layer.b.any()
    assert not layer.b_z.any()


def test_sfm_authors_start():
    layer = SFM(3, n_outputs=5, init="authors", generator=torch.Generator().manual_seed(0)).layers[0]
    for weight in (layer.V, layer.W, layer.U_o, layer.W_z, layer.b_z, layer.b[-20:].view(4, 5)):
        torch.testing.assert_close(weight.norm(dim=-1), torch.ones_like(weight[..., 0]))


@pytest.mark.parametrize("frequencies", ["fixed", "adaptive"])
def test_sfm_modern_start(frequencies):
    D, K = 16, 4
    layer = SFM(3, n_states=D, frequencies=frequencies, generator=torch.Generator().manual_seed(0)).layers[0]
    forget = torch.sigmoid(layer.b[:D]).max() * torch.sigmoid(layer.b[D : D + K]).max()
    assert 0.7 < forget < 0.85
    for block in layer.W[: 3 * D + K].split([D, K, D, D]):
        gram = block @ block.T if len(block) <= block.shape[1] else block.T @ block
        torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-5, rtol=0)
    if frequencies == "adaptive":
        share = torch.sigmoid(layer.b[3 * D + K : 3 * D + 2 * K])
        torch.testing.assert_close(share[1:], torch.arange(1, K) / K)
        assert 0 < share[0] < 0.05


def test_sfm_chrono_start_reaches_over_the_longest_series():
    D, T = 64, 1000
    layer = SFM(1, n_states=D, init="chrono", max_length=T, generator=torch.Generator().manual_seed(0)).layers[0]
    ste, g = layer.b[:D], layer.b[D + 4 : 2 * D + 4]
    assert ste.min() > 0
    assert 0.9 * T < ste.exp().max() <= T
    assert torch.equal(g, -ste)
    assert torch.equal(layer.b[D : D + 4], torch.full((4,), 6.0))


def test_sfm_options_are_checked():
    for option in ("frequencies", "time", "phase", "init", "backend"):
        with pytest.raises(ValueError, match=f"Unknown {option} 'wrong'; choose one of"):
            SFM(1, **{option: "wrong"})


# -- registry


def test_unknown_network():
    with pytest.raises(ValueError, match="Unknown network 'lstn'; choose one of 'gru', 'lstm', 'sfm'"):
        network_class("lstn")


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="There is a network named 'sfm' already: SFM"):
        register_network("sfm")(SFM)
    assert network_names() == sorted(network_names())


@every_network
def test_options_of_other_networks_are_left_aside(name):
    assert make_network(name, 1, n_frequencies=2, nonsense=1).n_channels == 1
