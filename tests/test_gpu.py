"""What runs in PyTorch, networks and estimators, on a GPU: the same numbers as on the CPU, rounding apart.

The kernel in CUDA has tests of its own, in test_cuda.py.
"""

import itertools
import pickle

import numpy as np
import pytest
import torch

from sfmts import SFMClassifier, SFMDensity, SFMLabeler, SFMRegressor
from sfmts.networks import make_network
from tests.helpers import ALL_NETWORKS, case_id, make_panel

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

SMALL = {"n_states": 6, "max_iter": 3, "random_state": 0, "batch_size": 8}
VARIANTS = [
    *((name, {}) for name in ALL_NETWORKS),
    ("sfm", {"frequencies": "learned", "n_layers": 2}),
    ("sfm", {"frequencies": "adaptive", "bidirectional": True}),
    ("sfm", {"frequencies": "adaptive", "phase": "product", "memory": "recompute"}),
    ("sfm", {"time": "timestamps"}),
    ("resonator", {"time": "timestamps"}),
]


def on(device, name, options):
    """Outputs of a network on a device, and the gradients of all that has one."""
    network = make_network(name, 2, n_states=6, generator=torch.Generator().manual_seed(0), **options)
    network = network.double().to(device)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 9, 2, generator=generator, dtype=torch.float64).to(device).requires_grad_()
    lengths = torch.tensor([9, 4, 9, 1])
    time = torch.rand(4, 9, generator=generator, dtype=torch.float64).cumsum(1).to(device)
    output = network(x, lengths, time=time if options.get("time") == "timestamps" else None)
    above = torch.randn(output.states.shape, generator=generator, dtype=torch.float64).to(device)
    parameters = {key: value for key, value in network.named_parameters() if value.requires_grad}
    loss = (output.states * above).sum() + output.final.sum()
    gradients = torch.autograd.grad(loss, [x, *parameters.values()], allow_unused=True)
    return {"states": output.states, "final": output.final} | {
        key: value for key, value in zip(["x", *parameters], gradients, strict=True) if value is not None
    }


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=case_id)
def test_networks(name, options):
    expected, found = on("cpu", name, options), on(DEVICE, name, options)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].device.type == DEVICE
        torch.testing.assert_close(
            found[key].cpu(), value, rtol=1e-7, atol=1e-9, msg=lambda told, key=key: f"{key}: {told}"
        )


def check(estimator, data, results, tolerance=2e-3):
    """Trained on the GPU as on the CPU, and a copy without the GPU gives the same."""
    there = estimator(DEVICE).fit(*data)
    here = estimator("cpu").fit(*data)
    assert next(there.module_.parameters()).device.type == DEVICE
    np.testing.assert_allclose(there.loss_curve_, here.loss_curve_, rtol=tolerance)
    found = results(there)
    np.testing.assert_allclose(found, results(here), rtol=0, atol=10 * tolerance)
    copied = pickle.loads(pickle.dumps(there))
    copied.device_ = "cpu"
    np.testing.assert_allclose(results(copied), found, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("network", "ragged"), list(zip(ALL_NETWORKS, itertools.cycle([True, False]))))
def test_classifier(network, ragged):
    X, y = make_panel(ragged=ragged)
    X = [series.astype(np.float32) for series in X]
    check(
        lambda device: SFMClassifier(network, base=None, device=device, **SMALL),
        (X, y),
        lambda model: model.predict_proba(X),
    )


def test_classifier_from_a_file(tmp_path):
    X, y = make_panel()
    model = SFMClassifier(base=None, device=DEVICE, warm_start=True, **SMALL).fit(X, y)
    model.save(tmp_path / "model")
    loaded = SFMClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(X), model.predict_proba(X), rtol=0, atol=1e-5)
    before = model.loss_curve_[-1]
    assert model.fit(X, y).loss_curve_[-1] < before  # goes on there
    assert model.to_torch()(torch.from_numpy(X)).device.type == "cpu"
    assert model.state_amplitudes(X).shape == (*X.shape[:2], 6, 4)


def test_regressor():
    X, _ = make_panel()
    X = X.astype(np.float32)
    y = X[:, :, 0].mean(axis=1)
    check(lambda device: SFMRegressor(base=None, device=device, **SMALL), (X, y), lambda model: model.predict(X))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_labeler(bidirectional):
    X, _ = make_panel(ragged=True)
    X = [series.astype(np.float32) for series in X]
    y = [(series[:, 0] > 0).astype(int) for series in X]
    check(
        lambda device: SFMLabeler(device=device, bidirectional=bidirectional, **SMALL),
        (X, y),
        lambda model: np.concatenate(model.predict_proba(X)),
    )


@pytest.mark.parametrize("head", ["linear", "none", "nade", "rbm"])
def test_density(head):
    rng = np.random.default_rng(0)
    X = [(rng.random((12 + number % 4, 5)) < 0.3).astype(np.float32) for number in range(20)]

    def estimator(device):
        return SFMDensity(
            head=head, n_hidden=4, dropout=0.0, network_params={"recurrent_dropout": 0.0}, device=device, **SMALL
        )

    if head == "rbm":  # trained by draws, which are other ones there
        model = estimator(DEVICE).fit(X)
        copied = pickle.loads(pickle.dumps(model))
        copied.device_ = "cpu"
        np.testing.assert_allclose(copied.score_samples(X), model.score_samples(X), rtol=1e-4)
    else:
        check(estimator, (X,), lambda model: model.score_samples(X) / 12)
    assert estimator(DEVICE).fit(X).sample(7, random_state=0).shape == (7, 5)


@pytest.mark.parametrize("network", ["sfm", "gru"])
def test_forecaster(network):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("sktime")
    from sfmts import SFMForecaster

    t = np.arange(150)
    y = pd.Series(np.sin(2 * np.pi * t / 12) + 0.1 * np.random.default_rng(0).normal(size=150))
    options = {**SMALL, "early_stopping": False, "dropout": 0.0, "context_length": 24}
    check(
        lambda device: SFMForecaster(network, sp=12, device=device, **options),
        (y, None, [1, 2, 3]),
        lambda model: model.predict_quantiles(alpha=[0.1, 0.5, 0.9]).to_numpy(),
    )
