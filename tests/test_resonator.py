"""The resonator: its equations, what moving time does to it, and what its options mean."""

import copy

import numpy as np
import pytest
import torch

from sfmts import SFMClassifier
from sfmts.datasets import make_periods
from sfmts.networks import Resonator, check_network, make_network, resonator
from tests.helpers import make_panel, normal, seeded

F64 = torch.float64
OPTIONS = [
    {},
    {"frequency_gate": True},
    {"readout": "amplitude"},
    {"spacing": "zero"},
    {"n_layers": 1},
    {"n_lags": 0},
    {"n_lags": 4},
    {"n_layers": 3, "frequency_gate": True, "readout": "amplitude"},
]


def build(n_channels=3, seed=0, **options):
    options = {"n_states": 5, "n_frequencies": 3, **options}
    network = Resonator(n_channels, generator=seeded(seed), **options).double()
    with torch.no_grad():  # all gates half open would hide mistakes
        for parameter in network.parameters():
            parameter.add_(0.3 * normal(*parameter.shape, seed=1))
    return network


def sigmoid(a):
    return 1.0 / (1.0 + np.exp(-a))


def by_the_equations(network, x, t):
    """The docstring's equations for one sequence x (T, N) at times t (T,), with a loop over k."""
    y = x
    for layer in network.layers:
        weights = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
        omega = layer.omega.detach().numpy()
        K, D = omega.shape
        S, outputs = np.zeros((K, D), complex), []
        for step in range(len(y)):
            a = weights["V"] @ y[step] + weights["b"]
            for lag in range(1, min(len(weights["w"]), step) + 1):
                a += weights["w"][lag - 1] * (weights["V"] @ y[step - lag])
            f, g, o = sigmoid(a[:D]), sigmoid(a[D : 2 * D]), sigmoid(a[3 * D : 4 * D])
            i, f_fre = np.tanh(a[2 * D : 3 * D]), sigmoid(a[4 * D :]) if len(a) > 4 * D else np.ones(K)
            dt = t[step] - t[step - 1] if step else 0.0
            c = weights["b_c"].copy()
            for k in range(K):
                S[k] = f * f_fre[k] * np.exp(-1j * omega[k] * dt) * S[k] + g * i
                if "beta" in weights:
                    c += weights["alpha"][k] * S[k].real + weights["beta"][k] * S[k].imag
                else:
                    c += weights["alpha"][k] * np.abs(S[k])
            skip = weights["W_skip"] @ y[step] if "W_skip" in weights else y[step]
            outputs.append(o * np.tanh(c) + skip)
        y = np.array(outputs)
    gain = network.norm.weight.detach().numpy()
    return gain * y / np.sqrt((y**2).mean(axis=1, keepdims=True) + np.finfo(float).eps)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("time", ["index", "timestamps"])
def test_equations(options, time):
    network = build(time=time, **options)
    x = torch.randn(2, 9, 3, dtype=F64)
    t = torch.rand(2, 9, dtype=F64).cumsum(1) if time == "timestamps" else torch.arange(9.0, dtype=F64).expand(2, 9)
    states = network(x, time=t if time == "timestamps" else None).states.detach()
    for b in range(2):
        np.testing.assert_allclose(states[b], by_the_equations(network, x[b].numpy(), t[b].numpy()), atol=1e-7)


@pytest.mark.parametrize("options", OPTIONS[1:3], ids=str)
def test_keeps_the_contract(options):
    check_network("resonator", **options)


# Every pair of values of two of these is in some line, and each options have one line and its opposite.
LINES = [
    (False, False, False, False),
    (False, False, True, True),
    (False, True, False, True),
    (False, True, True, False),
]
PIECES = [
    (options, *(bool(value) != opposite for value in LINES[i % 4]))
    for i, options in enumerate(OPTIONS)
    for opposite in (False, True)
]


@pytest.mark.parametrize(("options", "by_four", "goes_on", "ragged", "stamped"), PIECES, ids=str)
def test_reading_piece_by_piece_is_reading_at_once(by_four, goes_on, ragged, stamped, options, monkeypatch):
    """What comes out without gradients, and where the network stands then."""
    steps, network = 4 if by_four else 1, build(time="timestamps" if stamped else "index", **options)
    x = normal(3, 11, 3, seed=2)
    t = torch.arange(11.0, dtype=F64).expand(3, 11) ** 1.5 if stamped else None
    state = network(x, time=None if t is None else t - 40.0).state if goes_on else None
    lengths = torch.tensor([11, 1, 6]) if ragged else None
    whole = network(x, lengths, time=t, state=state)

    pieces, run = [], Resonator._run
    monkeypatch.setattr(resonator, "_NUMBERS_AT_ONCE", steps * 3 * 2 * 3 * 5)
    monkeypatch.setattr(Resonator, "_run", lambda self, x, *rest: pieces.append(x.shape[1]) or run(self, x, *rest))
    with torch.no_grad():
        torch.testing.assert_close(network(x, lengths, time=t, state=state), whole)
    assert max(pieces) == steps
    assert sum(pieces) == 11


class States(torch.nn.Module):
    """What torch.export takes: a module with tensors for results."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).states


def test_exported_network_takes_other_sizes():
    network = build().eval()
    dims = torch.export.Dim("sequences", min=2, max=64), torch.export.Dim("steps", min=2, max=4096)
    with torch.no_grad():
        program = torch.export.export(
            States(network),
            (torch.randn(4, 9, 3, dtype=F64),),
            dynamic_shapes={"x": dict(enumerate(dims))},
            strict=False,
        )
        x = torch.randn(7, 30, 3, dtype=F64)
        torch.testing.assert_close(program.module()(x), network(x).states)


@pytest.mark.parametrize("readout", ["phase", "amplitude"])
def test_neither_origin_nor_unit_of_time_stamps_matters(readout):
    network = build(time="timestamps", readout=readout)
    x, t = torch.randn(2, 9, 3, dtype=F64), torch.rand(2, 9, dtype=F64).cumsum(1)
    torch.testing.assert_close(network(x, time=t + 1000.0).states, network(x, time=t).states)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for layer in other.layers:
            layer.omega.div_(60.0)
    torch.testing.assert_close(other(x, time=60.0 * t).states, network(x, time=t).states)
    network = build(time="timestamps", readout=readout, spacing="zero")  # without waves they do not matter at all
    assert torch.equal(network(x, time=t).states, network(x, time=2.0 * t).states)
    assert not any("omega" in name for name in dict(network.named_parameters()))
    with pytest.raises(ValueError, match="needs the time stamps"):
        network(x)


def test_gates_read_nothing_of_the_state():
    """With one layer, S is linear in what is let in: the effect of two pushes is the sum of their effects."""
    network = build(n_layers=1, n_lags=0)
    x = torch.zeros(3, 9, 3, dtype=F64)
    with torch.no_grad():
        layer = network.layers[0]
        layer.V[:10] = layer.V[15:] = 0.0  # only i depends on x
        layer.b[10:15] = 0.0
    x[0, 2], x[1, 5], x[2, 2], x[2, 5] = 0.7, -0.4, 0.7, -0.4
    S = torch.stack([network(x[b : b + 1]).state.layers[0][0] for b in range(3)])
    torch.testing.assert_close(S[0] + S[1], S[2])


def test_state_amplitudes():
    network = build()
    x = torch.randn(2, 9, 3, dtype=F64)
    amplitudes = network.state_amplitudes(x, torch.tensor([9, 4]))
    assert amplitudes.shape == (2, 9, 5, 3)
    assert not amplitudes[1, 4:].any()
    for layer in range(2):
        last = network.state_amplitudes(x, layer=layer)[:, -1]
        expected = torch.linalg.vector_norm(network(x).state.layers[layer], dim=1).transpose(1, 2)
        torch.testing.assert_close(last, expected.detach())


def test_periods_start_within_their_range():
    network = Resonator(2, n_states=200, n_frequencies=8, period_range=(10.0, 40.0))
    for layer in network.layers:
        assert not layer.omega[0].any()
        periods = 2.0 * np.pi / layer.omega[1:].detach()
        assert 10.0 * 0.999 < periods.min() < 10.5
        assert 38.0 < periods.max() < 40.0 * 1.001
        assert (periods.log().mean() - np.log(20.0)).abs() < 0.05  # spread by equal factors


def test_number_of_parameters():
    N, D, K = 3, 7, 4
    first, further = 4 * D * (N + 3) + 3 * K * D + D + D * N, 4 * D * (D + 3) + 3 * K * D + D
    assert Resonator(N, n_states=D, n_frequencies=K, n_layers=3).n_parameters == first + 2 * further + D
    gated = Resonator(N, n_states=D, n_frequencies=K, n_layers=1, frequency_gate=True)
    assert gated.n_parameters == first + K * (N + 3) + D
    assert Resonator(N, n_states=D, n_frequencies=K, n_layers=1, spacing="zero").n_parameters == first - K * D + D
    assert Resonator(N, n_states=D, n_frequencies=K, n_layers=1, readout="amplitude").n_parameters == first - K * D + D


def test_tells_periods_apart_that_it_could_not_without_waves():
    X, y = make_periods(600, n_steps=40, periods=(8, 12), noise=0.5, random_state=0)
    scores = {}
    for spacing in ("log", "zero"):
        options = {"n_layers": 1, "n_states": 10, "learning_rate_init": 0.02, "max_iter": 15, "random_state": 0}
        own = {"n_lags": 0, "readout": "amplitude", "spacing": spacing}
        model = SFMClassifier("resonator", base=None, network_params=own, **options)
        scores[spacing] = model.fit(X[:400], y[:400]).score(X[400:], y[400:])
    assert scores["log"] > 0.95
    assert scores["zero"] < 0.8


def test_saved_model_is_the_model(tmp_path):
    X, y = make_panel(ragged=True)
    model = SFMClassifier("resonator", base=None, n_states=6, max_iter=2, random_state=0, n_layers=3).fit(X, y)
    model.save(tmp_path / "model.safetensors")
    loaded = SFMClassifier.load(tmp_path / "model.safetensors")
    assert np.array_equal(loaded.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_layers": 0}, "n_layers must be at least 1, not 0"),
        ({"n_lags": -1}, "n_lags must be at least 0, not -1"),
        ({"period_range": (64.0, 3.0)}, "64.0"),
        ({"period_range": (0.0, 3.0)}, "positive"),
        ({"period_range": (3.0,)}, "two positive numbers"),
        ({"spacing": "uniform"}, "uniform"),
        ({"readout": "both"}, "both"),
        ({"time": "normalized"}, "normalized"),
        ({"backend": "cuda"}, "cuda"),
    ],
    ids=str,
)
def test_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        make_network("resonator", 2, **options)
