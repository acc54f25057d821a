"""The networks' contract, kept by every one of them, and what each promises of its own."""

import inspect
import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from sfmts import SFMClassifier
from sfmts.networks import (
    SFM,
    RecurrentNetwork,
    SequenceNetwork,
    base,
    make_network,
    network_checks,
    network_names,
    register_network,
)
from sfmts.networks import sfm as sfm_module
from sfmts.networks.base import network_class, network_options
from tests.helpers import FAST_KERNELS, KERNELS, MODES, make_panel, mode_id, normal, seeded

NETWORKS = network_names()
# Every mode of the SFM, each part of it with every kernel.
MODES_ON_KERNELS = [(mode, KERNELS[(i + i // 3) % len(KERNELS)]) for i, mode in enumerate(MODES)]
mode_name = lambda value: mode_id(value) if isinstance(value, dict) else value  # noqa: E731


def build(name, n_channels=3, seed=0, **options):
    options = {"n_states": 5, "n_frequencies": 3, "n_outputs": 4, **options}
    return make_network(name, n_channels, **options, generator=seeded(seed)).double()


def batch(B=4, T=9, C=3, seed=0):
    x = normal(B, T, C, seed=seed)
    time = torch.rand(B, T, dtype=torch.float64, generator=seeded(seed + 1)).cumsum(1)
    return x, torch.tensor([9, 3, 7, 1][:B]), time


every_network = pytest.mark.parametrize("name", NETWORKS)

# The conformance suite builds each network twice, plain and full, and runs its checks on both. A few checks need a
# network in between: only in one direction do states go on, and only in one layer can two directions be told apart.
PLAIN = {"n_layers": 1, "bidirectional": False, "recurrent_dropout": 0.0, "time": "index", "init": None}
FULL = {"n_layers": 2, "bidirectional": True, "recurrent_dropout": 0.4, "time": "timestamps"}
FURTHER = {  # a full network's own options, or several choices of them
    "sfm": [{"frequencies": "adaptive", "backend": "reference"}, {"spacing": "log", "period_range": (3, 9)}],
    "act": [{"cell": "lstm"}],
    "clockwork_rnn": [{"full": True, "periods": (1, 3)}],
    "phased_lstm": [{"peepholes": True}],
    "recurrent_highway": [{"coupled": False, "depth": 2}],
    "associative_lstm": [{"n_copies": 1, "update_reads_state": False}],
    "complex_gated": [{"gate": "phase_hirose", "activation": "hirose", "unitary": False}],
    "fnet": [{"positions": "none", "method": "fft", "n_feedforward": 7}],
    "resonator": [{"frequency_gate": True, "readout": "amplitude"}],
    "rotation_gru": [{"literal": True, "method": "fft"}],
    "sfm_kdd": [{"gate_activation": "sigmoid"}],
}
GOING_ON = ("causality", "chunks", "chunks_of_unequal_length")


def conformance(name):
    """Yield the checks of a network's builds; a build is a name, options, and which checks to run, or all."""
    parameters = inspect.signature(network_class(name)).parameters
    sizes = {"n_frequencies": 3, "n_outputs": 4} if name == "sfm" else {}
    builds = [("plain", PLAIN, None)]
    builds += [("full", {**FULL, **own}, None) for own in FURTHER.get(name, [{}])]
    if "bidirectional" in parameters:
        builds += [("deep", {**PLAIN, "n_layers": 2}, GOING_ON)]
        builds += [("ahead", {**FULL, **own, "bidirectional": False}, GOING_ON) for own in FURTHER.get(name, [{}])]
        builds += [("both ways", {**FULL, "n_layers": 1}, ("directions",))]
        builds += [("deep both ways", {**PLAIN, "n_layers": 2, "bidirectional": True}, ("gradients",))]
    for build, options, wanted in builds:
        options = {key: value for key, value in {**sizes, **options}.items() if key in parameters}
        for check_name, check in network_checks(name, **options):
            if wanted is None or check_name in wanted:
                yield pytest.param(check, id=f"{name}-{build}-{check_name}")


CHECKS = [case for name in NETWORKS for case in conformance(name)]


@pytest.mark.parametrize("check", CHECKS)
def test_conformance(check):
    check()


@pytest.mark.parametrize(("mode", "backend"), MODES_ON_KERNELS, ids=mode_name)
def test_sfm_padding_does_not_matter_in_any_mode(mode, backend):
    x, lengths, time = batch()
    network = build("sfm", bidirectional=True, backend=backend, **mode)
    output = network(x, lengths, time=time)
    for b, length in enumerate(lengths):
        alone = network(x[b : b + 1, :length], time=time[b : b + 1, :length])
        torch.testing.assert_close(alone.final[0], output.final[b], atol=1e-12, rtol=0)


@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_sfm_causal_in_every_mode(mode):
    """What follows must not change a state; with time='normalized' the mere length of the rest does."""
    x, _, time = batch()
    network = build("sfm", **mode)
    whole, start = network(x, time=time).states[:, :5], network(x[:, :5], time=time[:, :5]).states
    assert torch.allclose(whole, start, atol=1e-12) == network.causal


@pytest.mark.parametrize(
    ("mode", "backend"), [case for case in MODES_ON_KERNELS if case[0]["time"] != "normalized"], ids=mode_name
)
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


@pytest.mark.parametrize(
    ("name", "n_layers", "bidirectional"), [("lstm", 1, False), ("lstm", 2, True), ("gru", 1, True), ("gru", 2, False)]
)
def test_gated_dropout_loop_is_the_kernel(name, n_layers, bidirectional):
    x, lengths, _ = batch()
    options = {"n_layers": n_layers, "bidirectional": bidirectional}
    loop, kernel = build(name, **options, recurrent_dropout=1e-12), build(name, **options)
    torch.testing.assert_close(loop(x, lengths).states, kernel(x, lengths).states, atol=1e-9, rtol=0)
    torch.testing.assert_close(loop(x, lengths).final, kernel(x, lengths).final, atol=1e-9, rtol=0)


# Without dropout some run a kernel instead of a loop in Python.
WITH_KERNELS = ["lstm", "gru", "sfm", "resonator"]
every_path = pytest.mark.parametrize(
    ("name", "dropout"), [(name, 0.4) for name in NETWORKS] + [(name, 0.0) for name in WITH_KERNELS]
)


@every_path
def test_second_derivatives_are_right_or_refused(name, dropout):
    network = build(name, n_states=6, recurrent_dropout=dropout, backend="reference")
    names, parameters = zip(*((n, p) for n, p in network.named_parameters() if p.requires_grad), strict=True)
    x, lengths, _ = batch()

    def states(x, *values):
        options = {"generator": seeded(5)}
        return torch.func.functional_call(
            network, dict(zip(names, values, strict=True)), (x, lengths.clamp_max(5)), options
        ).states

    inputs = (x[:, :5].requires_grad_(), *parameters)
    if name in ("associative_lstm", "sfm_kdd"):
        with pytest.raises(RuntimeError, match=f"network='{name}' has first derivatives only; use another network"):
            torch.autograd.gradgradcheck(states, inputs, fast_mode=True)
    else:
        assert torch.autograd.gradgradcheck(states, inputs, fast_mode=True, atol=1e-4)


@every_path
def test_autocast_trains_every_network(name, dropout):
    network = build(name, n_states=6, recurrent_dropout=dropout).float()
    x, lengths, _ = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = network(x.float(), lengths, generator=seeded(1)).final
    cast.float().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    plain = network(x.float(), lengths, generator=seeded(1)).final
    torch.testing.assert_close(cast.float(), plain, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", ["lstm", "sfm", "phased_lstm"])
def test_a_length_for_each_sequence_is_needed(name):
    x, lengths, _ = batch()
    with pytest.raises(ValueError, match=r"lengths has shape \(2,\), but \(4,\) is needed, one for each sequence"):
        build(name)(x, lengths[:2])
    state = build("sfm")(x).state
    with pytest.raises(ValueError, match=r"state\.re has shape \(4, 5, 3\), but must have 3 rows as x has"):
        build("sfm")(x[:3], lengths[:3], state=state)


@pytest.mark.parametrize("name", ["sfm", "sfm_kdd", "resonator", "phased_lstm"])
def test_a_time_stamp_for_each_step_is_needed(name):
    x, _, time = batch()
    with pytest.raises(ValueError, match=r"`time` has shape \(9, 4\), but \(4, 9\) is needed"):
        build(name, time="timestamps")(x, time=time.T)
    with pytest.raises(ValueError, match=r"give `time`, a tensor of shape \(B, T\)"):
        build("sfm", time="timestamps")(x)


@pytest.mark.parametrize("name", [name for name in NETWORKS if "recurrent_dropout" in network_options(name)])
def test_recurrent_dropout_is_a_probability_below_one(name):
    for p in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=rf"recurrent_dropout={p} must be at least 0 and less than 1"):
            build(name, n_states=6, recurrent_dropout=p)


@every_network
def test_recurrent_dropout_lets_nothing_grow(name):
    """However long a series: a matrix that keeps norms must not be undone by a mask that raises them."""
    network = build(name, n_states=40, recurrent_dropout=0.5)
    pulse = torch.zeros(4, 1000, 3, dtype=torch.float64)
    pulse[:, 0] = 3.0
    with torch.no_grad():
        norms = network(pulse, generator=seeded(1)).states.norm(dim=2)
    assert (norms[:, -1] < 10.0 * (1.0 + norms[:, 0])).all()


# -- SFM


def sfm_count(D, K, M, N):
    return (3 * D + K) * (M + N + 1) + K * M * (2 * D + M + N + 2)


def test_parameter_counts():
    for D, K, M, N in [(50, 4, 1, 2), (50, 4, 88, 88), (30, 8, 61, 26), (50, 4, 2, 2)]:
        sizes = {"n_states": D, "n_frequencies": K, "n_outputs": M}
        assert SFM(N, **sizes).n_parameters == sfm_count(D, K, M, N)
        assert SFM(N, **sizes, frequencies="learned").n_parameters == sfm_count(D, K, M, N) + K
        adaptive = sfm_count(D, K, M, N) + K * (M + N + 1)
        assert SFM(N, **sizes, frequencies="adaptive").n_parameters == adaptive


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_gated_networks_are_those_of_torch(name):
    x, _, _ = batch()
    network = build(name)
    twin = getattr(nn, name.upper())(3, 5, batch_first=True).double()
    twin.load_state_dict(network.cell.state_dict())
    torch.testing.assert_close(network(x).states, twin(x)[0])


@pytest.mark.parametrize("name", [name for name in NETWORKS if "bidirectional" in network_options(name)])
def test_second_direction_reads_backwards(name):
    """The second half of a bidirectional network's output is a network on the reversed series, reversed."""
    x, lengths, time = batch()
    both, one = build(name, n_states=10, bidirectional=True), build(name, n_states=10)
    state = both.state_dict()
    if name in ("lstm", "gru"):
        backwards = {key.removesuffix("_reverse"): value for key, value in state.items() if key.endswith("_reverse")}
    else:
        backwards = {key.replace("layers.1.", "layers.0."): value for key, value in state.items() if "layers.1." in key}
    one.load_state_dict(backwards)
    width = one.output_size
    for b, length in enumerate(lengths):
        series = x[b : b + 1, :length]
        expected = one(series.flip(1)).states.flip(1)
        states = both(x, lengths, time=time).states[b : b + 1, :length, width:]
        torch.testing.assert_close(states, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("backend", "frequencies", "bidirectional"),
    [
        (backend, frequencies, (i + j) % 2 == 1)
        for i, backend in enumerate(KERNELS)
        for j, frequencies in enumerate(["learned", "adaptive"])
    ],
)
def test_sfm_gradients_do_not_depend_on_the_origin_of_time(frequencies, bidirectional, backend):
    """Nor on rounding far from it: time stamps may be seconds since 1970, and weights in single precision."""
    x, lengths, time = batch()
    options = {"frequencies": frequencies, "bidirectional": bidirectional, "time": "timestamps", "backend": backend}
    network = build("sfm", spacing="log", period_range=(3.0, 64.0), **options).float()
    time = (1024 * time).round() / 1024  # sums with the origin are exact
    gradients = []
    for origin in (0.0, 1.7e9):
        output = network(x.float(), lengths, time=time + origin)
        gradients.append(torch.autograd.grad(output.states.square().sum(), list(network.parameters())))
    for here, there in zip(*gradients, strict=True):
        assert torch.equal(here, there)


def test_sfm_chunks_far_from_the_origin_of_time():
    x, _, time = batch()
    network = build("sfm", frequencies="learned", time="timestamps")
    whole = network(x, time=time + 1e9)
    first = network(x[:, :4], time=time[:, :4] + 1e9)
    rest = network(x[:, 4:], time=time[:, 4:] + 1e9, state=first.state)
    torch.testing.assert_close(rest.final, whole.final, atol=1e-12, rtol=0)


@pytest.mark.parametrize("time", ["normalized", "zero_until_last"])
def test_sfm_clock_of_half_precision_is_exact(time):
    """Behind step 256 a length in bfloat16 would be another one."""
    network, x = build("sfm", time=time), torch.zeros(1, 301, 3)
    expected = network._clock(x, torch.tensor([301]), None, None)
    assert torch.equal(network._clock(x.bfloat16(), None, None, None), expected)


def test_sfm_released_time_is_zero_until_the_last_step():
    x, lengths, _ = batch()
    network = build("sfm", time="zero_until_last")
    stamps = build("sfm", time="timestamps")
    time = torch.zeros(4, 9, dtype=torch.float64)
    time[torch.arange(4), lengths - 1] = 1.0
    assert torch.equal(network(x, lengths).states, stamps(x, lengths, time=time).states)
    assert not network.causal


@pytest.mark.parametrize(("backend", "bidirectional"), [("auto", False), *((backend, True) for backend in KERNELS)])
def test_sfm_amplitudes(backend, bidirectional):
    x, lengths, _ = batch()
    network = build("sfm", n_layers=3, bidirectional=bidirectional, backend=backend, recurrent_dropout=0.5)
    training, directions = network.state_amplitudes(x, lengths), 1 + bidirectional
    states = network.eval()(x, lengths).state
    for layer in (0, 1, 2, -1):
        A = network.state_amplitudes(x, lengths, layer=layer)
        assert A.shape == (4, 9, 5 * directions, 3)
        ends = [torch.hypot(s.re, s.im) for s in states[(layer % 3) * directions :][:directions]]
        for b, length in enumerate(lengths):
            torch.testing.assert_close(A[b, length - 1, :5], ends[0][b], atol=1e-10, rtol=0)
            if bidirectional:
                torch.testing.assert_close(A[b, 0, 5:], ends[1][b], atol=1e-10, rtol=0)
            assert not A[b, length:].any()
    assert torch.equal(training, A)  # without dropout


def test_sfm_paper_and_authors_start():
    layer = SFM(3, init="paper", generator=seeded()).layers[0]
    for weight in (layer.V, layer.W, layer.U_o, layer.W_z):
        assert 0.09 < weight.abs().max() <= 0.1
    assert not layer.b.any()
    assert not layer.b_z.any()
    layer = SFM(3, n_outputs=5, init="authors", generator=seeded()).layers[0]
    for weight in (layer.V, layer.W, layer.U_o, layer.W_z, layer.b_z, layer.b[-20:].view(4, 5)):
        torch.testing.assert_close(weight.norm(dim=-1), torch.ones_like(weight[..., 0]))


@pytest.mark.parametrize("frequencies", ["fixed", "adaptive"])
def test_sfm_modern_start(frequencies):
    D, K = 16, 4
    layer = SFM(3, n_states=D, frequencies=frequencies, generator=seeded()).layers[0]
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
    layer = SFM(1, n_states=D, init="chrono", max_length=T, generator=seeded()).layers[0]
    ste, g = layer.b[:D], layer.b[D + 4 : 2 * D + 4]
    assert ste.min() > 0
    assert 0.9 * T < ste.exp().max() <= T
    assert torch.equal(g, -ste)
    assert torch.equal(layer.b[D : D + 4], torch.full((4,), 6.0))


# -- frequencies of the SFM

TWO_PI = 2.0 * math.pi
SPACINGS = [
    {"spacing": "uniform", "period_range": (5.0, 20.0)},
    {"spacing": "log"},
    {"spacing": "log", "period_range": (2.5, 40.0)},
    {"spacing": "zero"},
]
# Learned numbers that start at 0 are refused.
STARTS = [
    {**spacing, "frequencies": frequencies}
    for spacing in SPACINGS
    for frequencies in ("fixed", "learned", "adaptive")
    if (spacing["spacing"], frequencies) != ("zero", "learned")
]


def start_id(start):
    return "-".join(map(str, start.values()))


def frequencies_of(**options):
    return SFM(1, **options).layers[0].weights().omega


@pytest.mark.parametrize("K", [1, 2, 4, 7])
def test_sfm_frequencies_of_the_paper(K):
    expected = TWO_PI * torch.arange(K, dtype=torch.float64) / K
    assert torch.equal(frequencies_of(n_frequencies=K), expected)
    if K > 1:  # what the default period_range is said to be
        given = frequencies_of(n_frequencies=K, period_range=(K / (K - 1), K))
        torch.testing.assert_close(given, expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("frequencies", ["fixed", "learned"])
@pytest.mark.parametrize("K", [1, 2, 4, 7])
def test_sfm_frequencies_lie_between_those_of_the_period_range(K, frequencies):
    options = {"n_frequencies": K, "frequencies": frequencies}
    tolerance = {"atol": 0, "rtol": 1e-15 if frequencies == "fixed" else 1e-7}  # learned ones are float32 numbers
    even = frequencies_of(**options, spacing="uniform", period_range=(5, 20))
    torch.testing.assert_close(even[1:], torch.linspace(TWO_PI / 20, TWO_PI / 5, K - 1).double(), atol=0, rtol=1e-6)
    for period_range in (None, (5, 20)):
        shortest, longest = period_range or (3, 64)
        log = frequencies_of(**options, spacing="log", period_range=period_range)
        periods = torch.from_numpy(np.geomspace(longest, shortest, K - 1))
        torch.testing.assert_close(TWO_PI / log[1:], periods, atol=0, rtol=tolerance["rtol"] * 10)
        assert even[0] == log[0] == 0.0
    if frequencies == "fixed":
        assert not frequencies_of(**options, spacing="zero").any()


@pytest.mark.parametrize(("start", "lowest"), [(SPACINGS[1], 1 / 64), (SPACINGS[2], 1 / 40), (SPACINGS[3], 1 / 4)])
def test_sfm_adaptive_frequencies_start_at_the_fixed_ones(start, lowest):
    layer = SFM(3, n_states=5, frequencies="adaptive", **start).layers[0]
    omega = TWO_PI * torch.sigmoid(layer.b[5 * 3 + 4 : 5 * 3 + 8].detach().double())
    fixed = frequencies_of(**start)
    torch.testing.assert_close(omega[fixed > 0], fixed[fixed > 0], atol=0, rtol=1e-5)
    torch.testing.assert_close(omega[0].item(), TWO_PI * lowest / 16, atol=0, rtol=1e-5)  # 0 is out of reach


@pytest.mark.parametrize("start", STARTS, ids=start_id)
def test_sfm_kernels_agree_and_go_on_at_all_frequencies(start):
    x, lengths, _ = batch()
    results = {}
    for backend in KERNELS:
        network = build("sfm", backend=backend, **start)
        states = network(x, lengths).states
        results[backend] = [states, *torch.autograd.grad(states.square().sum(), list(network.parameters()))]
        first = network(x[:, :4])
        parts = torch.cat([first.states, network(x[:, 4:], state=first.state).states], dim=1)
        torch.testing.assert_close(parts, network(x).states, atol=1e-12, rtol=0)
    for backend in FAST_KERNELS:
        for got, expected in zip(results[backend], results["reference"], strict=True):
            torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("spacing", ["uniform", "log"])
def test_sfm_unit_of_time_stamps_does_not_matter(spacing):
    """Hours and their periods in hours are as good as seconds and their periods in seconds."""
    x, lengths, hours = batch()
    per_hour, per_second = (
        build("sfm", time="timestamps", spacing=spacing, period_range=(2.0 * unit, 24.0 * unit)) for unit in (1, 3600)
    )
    expected = per_hour(x, lengths, time=hours).states
    torch.testing.assert_close(per_second(x, lengths, time=3600 * hours).states, expected, atol=1e-12, rtol=0)
    paper = build("sfm", time="timestamps")
    assert not torch.allclose(paper(x, lengths, time=hours).states, expected, atol=1e-3)


def test_sfm_without_waves_does_not_know_the_time():
    x, lengths, time = batch()
    network = build("sfm", time="timestamps", spacing="zero")
    output = network(x, lengths, time=time)
    assert torch.equal(output.states, network(x, lengths, time=time.exp()).states)
    assert not output.state[0].im.any()
    assert output.state[0].re.all()


def test_sfm_learned_frequencies_move_but_for_0_and_pi():
    x, _, _ = batch()
    network = build("sfm", n_frequencies=4, frequencies="learned")
    (gradient,) = torch.autograd.grad(network(x).final.square().sum(), [network.layers[0].omega])
    assert gradient[0] == 0.0
    assert gradient[2].abs() < 1e-5  # pi, but for its rounding to float32
    assert (gradient[[1, 3]].abs() > 1e-3).all()


@pytest.mark.parametrize("start", [STARTS[0], *STARTS[3:5], STARTS[-1]], ids=start_id)
def test_sfm_frequencies_of_an_estimator_are_saved(start, tmp_path):
    X, y = make_panel()
    options = {key: value for key, value in start.items() if key != "frequencies"}
    model = SFMClassifier(
        "sfm",
        base=None,
        n_states=4,
        max_iter=2,
        network_params={"frequencies": start["frequencies"], **options},
        random_state=0,
    ).fit(X, y)
    model.save(tmp_path / "model")
    loaded = SFMClassifier.load(tmp_path / "model")
    assert np.array_equal(loaded.decision_function(X), model.decision_function(X))
    layers = [fitted.module_.network.layers[0] for fitted in (loaded, model)]
    assert all(layer.spacing == start["spacing"] for layer in layers)


def test_sfm_with_given_frequencies_is_exported():
    x, _, _ = batch()
    network = build("sfm", spacing="log").eval()
    program = torch.export.export(network, (x,), strict=False)
    assert torch.equal(program.module()(x).states, network(x).states)


CHOICES = ("frequencies", "time", "phase", "init", "backend")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        *(({option: "wrong"}, f"Unknown {option} 'wrong'; choose one of") for option in CHOICES),
        ({"spacing": "linear"}, "Unknown spacing 'linear'; choose one of 'uniform', 'log', 'zero'"),
        ({"spacing": "zero", "frequencies": "learned"}, "spacing='zero' with frequencies='learned' would never train"),
        ({"spacing": "zero", "period_range": (3, 64)}, r"no periods, so period_range must be None, not \(3, 64\)"),
        ({"spacing": "log", "time": "timestamps"}, "spacing='log' with time='timestamps' needs period_range="),
        ({"spacing": "log", "time": "normalized"}, "spacing='log' with time='normalized' needs period_range="),
        ({"period_range": (0, 5)}, r"two positive numbers, the smaller one first, not \(0, 5\)"),
        ({"period_range": (5, 3)}, r"two positive numbers, the smaller one first, not \(5, 3\)"),
        ({"period_range": (5, math.inf)}, "two positive numbers"),
        ({"period_range": (2, 3, 4)}, r"two positive numbers, .*not \(2, 3, 4\)"),
        ({"period_range": (0.5, 8), "frequencies": "adaptive"}, "shortest period of period_range must be above 1"),
    ],
    ids=str,
)
def test_sfm_options_are_checked(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        SFM(1, **options)


# -- parameters of the rivals


def dense(gates):
    return lambda H, N: gates * H * (H + N + 1)


def clockwork(H, N, g=5):
    return (H // g) ** 2 * g * (g + 1) // 2 + H * (N + 1)


# Options, and the count as a function of the n_states H and the channels N.
COUNTS = {
    "lstm": [({}, dense(4))],
    "gru": [({}, dense(3))],
    "sfm_kdd": [
        ({"n_frequencies": K}, lambda D, N, K=K: 4 * D * (N + D + 1) + K * (N + D + 1) + K + D) for K in (1, 4, 10)
    ],
    "clockwork_rnn": [({}, clockwork), ({"full": True}, dense(1))],
    "act": [
        ({"cell": "gru"}, lambda H, N: 3 * H * (H + N + 2) + H + 1),
        ({"cell": "lstm"}, lambda H, N: 4 * H * (H + N + 2) + H + 1),
        ({"cell": "rnn"}, lambda H, N: H * (H + N + 2) + H + 1),
    ],
    "recurrent_highway": [
        ({"depth": 4}, lambda H, N: 2 * H * N + 8 * (H * H + H)),
        ({"depth": 4, "coupled": False}, lambda H, N: 3 * H * N + 12 * (H * H + H)),
    ],
    "associative_lstm": [
        ({}, lambda H, N: 9 * H * (H + N + 1) // 2),
        ({"n_copies": 7}, lambda H, N: 9 * H * (H + N + 1) // 2),
        ({"update_reads_state": False}, lambda H, N: 9 * H * (H + N + 1) // 2 - H * H),
    ],
    "phased_lstm": [
        ({}, lambda H, N: 4 * H * (H + N + 1) + 2 * H),
        ({"peepholes": True}, lambda H, N: 4 * H * (H + N + 1) + 5 * H),
    ],
    "complex_gated": [
        ({}, lambda n, N: 5 * n * n + 6 * n * N + 7 * n + 2),
        ({"unitary": False}, lambda n, N: 6 * n * n + 6 * n * N + 7 * n + 2),
        ({"activation": "cardioid"}, lambda n, N: 5 * n * n + 6 * n * N + 6 * n + 2),
        *(
            ({"gate": gate}, lambda n, N, scalars=scalars: 5 * n * n + 6 * n * N + 7 * n + scalars)
            for gate, scalars in [("beta", 4), ("gamma", 4), ("prod", 0), ("sum", 2), ("real", 0), ("phase_hirose", 6)]
        ),
        # two scalars in the gates and one in the activation; 44 643 with an output layer at N = O = 9, n = 80
        ({"unitary": False, "activation": "hirose"}, lambda n, N: 6 * n * (n + N + 1) + 3),
    ],
    "fnet": [
        ({}, lambda H, N, F=4: H * (N + 1) + 2 * H * (F * H) + F * H + 5 * H),
        ({"n_layers": 3, "n_feedforward": 7}, lambda H, N: H * (N + 1) + 3 * (2 * H * 7 + 7 + 5 * H)),
    ],
    "resonator": [
        ({"n_layers": 1, "n_lags": 0}, lambda D, N, K=4: 4 * D * (N + 1) + 3 * K * D + D + D * N + D),
        ({}, lambda D, N, K=4: 4 * D * (N + D + 6) + 6 * K * D + 3 * D + D * N),
    ],
    "rotation_gru": [
        ({}, lambda H, N: 3 * H * (H + N + 1) + (H - 1) // 2),
        ({"literal": True}, lambda H, N: 3 * H * (H + N + 1) + (H - 1) // 2 - H * (N + 1)),
    ],
    "unitary_rnn": [({}, lambda n, N: 7 * n + 2 * n * N + n + 2 * n)],
}


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        pytest.param(name, options, count, id="-".join([name, *map(str, options.values())]))
        for name, forms in COUNTS.items()
        for options, count in forms
    ],
)
def test_parameter_counts_of_rivals(name, options, count):
    for H, N in [(10, 1), (30, 2), (140, 88)]:
        assert make_network(name, N, n_states=H, **options).n_parameters == count(H, N)
        if "bidirectional" in network_options(name):
            assert make_network(name, N, n_states=H, bidirectional=True, **options).n_parameters == 2 * count(H, N)


# -- registry


class Projecting(SequenceNetwork):
    """Nothing but a matrix."""

    def __init__(self, n_channels, *, n_states=32, generator=None):
        super().__init__()
        self.n_channels, self.output_size, self.causal = n_channels, n_states, True
        self.weight = nn.Parameter(torch.randn(n_channels, n_states, generator=generator))

    def forward(self, x, lengths=None, *, time=None, state=None, generator=None):
        raise NotImplementedError


@pytest.fixture
def register(monkeypatch):
    """Register networks for one test."""
    monkeypatch.setattr("sfmts.networks.base._REGISTRY", dict(base._REGISTRY))
    return lambda name, cls: register_network(name)(cls)


def changed(**attributes):
    """A class like Projecting but for these attributes."""
    return type("Changed", (SequenceNetwork,), {**vars(Projecting), **attributes})


def test_every_network_is_counted():
    assert sorted([*COUNTS, "sfm"]) == NETWORKS


def test_unknown_network():
    with pytest.raises(ValueError, match="Unknown network 'lstn'; choose one of ") as caught:
        network_class("lstn")
    assert all(repr(name) in str(caught.value) for name in NETWORKS)


def test_a_registered_network_is_there_under_a_name_of_its_own(register):
    assert register("projecting", Projecting) is Projecting
    assert "projecting" in network_names()
    assert isinstance(make_network("projecting", 3, n_states=7), Projecting)
    with pytest.raises(ValueError, match="The name 'sfm' belongs to another network, SFM"):
        register("sfm", Projecting)
    assert network_class("sfm") is SFM
    register("changed", changed())
    again = register("changed", changed())  # a class that is defined again takes the place of the first
    assert network_class("changed") is again


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        (nn.LSTM, "must be a subclass of sfmts.networks.SequenceNetwork"),
        (lambda n_channels: None, "must be a subclass of sfmts.networks.SequenceNetwork"),
        (RecurrentNetwork, "make_layer.* of RecurrentNetwork must be keyword-only"),
        (changed(forward=SequenceNetwork.forward), "Changed is abstract and cannot be built. Implement forward"),
        (changed(__init__=lambda self: None), "The first argument of Changed must be n_channels"),
        (changed(__init__=lambda self, width, *, n_states=3: None), "The first argument of Changed must be n_channels"),
        (changed(__init__=lambda self, n_channels, n_states=3: None), "'n_states=3' of Changed must be keyword-only"),
        (changed(__init__=lambda self, n_channels, *, n_states: None), "'n_states' of Changed .* have a default"),
        (changed(__init__=lambda self, n_channels, **options: None), r"'\*\*options' of Changed must be keyword-only"),
    ],
)
def test_what_is_registered_must_be_usable(register, cls, sentence):
    with pytest.raises(TypeError, match=sentence):
        register("new", cls)
    assert "new" not in network_names()


@pytest.mark.parametrize("attribute", ["n_channels", "output_size", "causal"])
def test_attributes_of_the_contract_must_be_set(register, attribute):
    def __init__(self, n_channels, *, n_states=32, generator=None):  # noqa: N807
        SequenceNetwork.__init__(self)
        for name in {"n_channels", "output_size", "causal"} - {attribute}:
            setattr(self, name, n_channels)

    register("forgetful", changed(__init__=__init__))
    with pytest.raises(TypeError, match=f"Changed does not set `{attribute}`. Every network sets n_channels, output_s"):
        make_network("forgetful", 3)


@pytest.mark.parametrize("option", [{"bidirectional": True}, {"n_layers": 2}], ids=str)
def test_what_a_network_cannot_do_is_refused(register, option):
    register("projecting", Projecting)
    ((name, value),) = option.items()
    with pytest.raises(
        ValueError, match=f"network='projecting' does not support {name}={value!r}. These networks do: .*'sfm'"
    ) as caught:
        make_network("projecting", 3, **option)
    able = [other for other in NETWORKS if name in network_options(other)]
    assert [word for word in NETWORKS if repr(word) in str(caught.value)] == able
    make_network("projecting", 3, bidirectional=False, n_layers=1, time="timestamps", recurrent_dropout=0.3)


@pytest.mark.parametrize(("name", "n_layers"), [("resonator", 2), ("sfm", 1), ("lstm", 1), ("gru", 1)])
def test_make_network_leaves_the_number_of_layers_to_the_network(name, n_layers):
    default, unset = make_network(name, 2), make_network(name, 2, n_layers=None)
    assert default.n_parameters == unset.n_parameters == make_network(name, 2, n_layers=n_layers).n_parameters
    assert make_network(name, 2, n_layers=3).n_parameters > default.n_parameters


@every_network
def test_init_is_modern_by_default(name):
    starts = [
        make_network(name, 2, n_states=10, generator=seeded(), **options).state_dict()
        for options in ({}, {"init": None}, {"init": "modern"})
    ]
    for other in starts[1:]:
        assert all(torch.equal(value, other[key]) for key, value in starts[0].items())


SIZES = {"n_channels", "n_states", "n_frequencies", "n_outputs", "n_layers", "n_feedforward", "depth"}
WHOLE = SIZES | {"n_copies", "n_lags", "max_ponder"}


@every_network
def test_sizes_are_integers_of_at_least_one(name):
    """Whether a network is built by its name or directly."""
    cls = network_class(name)
    sizes = WHOLE & {*inspect.signature(cls).parameters}
    for build in (partial(make_network, name), cls):
        for option in sizes:
            for size in (True, np.bool_(True), 2.0, 2.5, "2"):
                with pytest.raises(TypeError, match=f"^{option} must be an integer, not"):
                    build(**{"n_channels": 2, option: size})
        for option, size in product(sizes & SIZES, (0, -1)):
            with pytest.raises(ValueError, match=f"^{option} must be at least 1, not {size}"):
                build(**{"n_channels": 2, option: size})
    with pytest.raises(TypeError, match="nonsense"):
        cls(2, nonsense=1)


@every_network
def test_make_network_takes_integers_of_numpy_and_leaves_options_of_others_aside(name):
    options = WHOLE & {*network_options(name)}
    numbers = {option: np.int64(10 if option == "n_states" else 2) for option in options}
    network = make_network(name, np.int64(2), **{"n_frequencies": 2, **numbers}, nonsense=1)
    assert type(network.n_channels) is type(network.output_size) is int


@pytest.mark.parametrize("name", [3, None, "", b"mine", Projecting], ids=repr)
def test_register_network_takes_a_name(register, name):
    with pytest.raises(TypeError, match=r"A network is registered under a name, such as @register_network"):
        register(name, Projecting)
    with pytest.raises(TypeError, match="A network is registered under a name"):
        register_network(name)
    assert network_names() == NETWORKS


@pytest.mark.parametrize(("time", "packs"), [("index", 2), ("timestamps", 3)])
def test_sfm_packs_a_batch_once(monkeypatch, time, packs):
    """The input and the times of each direction that has its own, whatever the number of layers."""
    calls = {"pack": 0, "unpack": 0}

    def counted(name, call, *arguments):
        calls[name] += 1
        return call(*arguments)

    for name in calls:
        monkeypatch.setattr(sfm_module, name, partial(counted, name, getattr(sfm_module, name)))
    network = make_network("sfm", 2, n_states=3, n_layers=3, bidirectional=True, time=time)
    network(torch.zeros(3, 5, 2), torch.tensor([5, 1, 3]), time=torch.arange(5.0).expand(3, 5))
    assert calls == {"pack": packs, "unpack": 1}
