"""Fitted networks leave the package: as programs of PyTorch's own operators, and as ONNX."""

import io

import numpy as np
import pytest
import torch

from sfmts import SFMClassifier
from sfmts.kernels import _export
from tests.helpers import needs_loops

NETWORKS = ["sfm", "resonator"]
ANY = torch.export.Dim.DYNAMIC


def fitted(network, **options):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 9, 2)).astype(np.float32)
    X[..., 1] = np.abs(X[..., 1]).cumsum(axis=1)
    model = SFMClassifier(network, base=None, n_states=5, max_iter=1, random_state=0, **options)
    return model.fit(X, np.arange(12) % 3), X


def exported(model, X):
    """Return a program for any number of series and steps."""
    module = model.to_torch(backend="reference")
    return torch.export.export(module, (torch.from_numpy(X[:2]),), dynamic_shapes=({0: ANY, 1: ANY},), strict=False)


def operators(graph_module):
    """Return the names of all operators of a program, those within its loops included."""
    graphs = [module.graph for module in graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    return {str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function"}


@needs_loops
@pytest.mark.parametrize("network", NETWORKS)
def test_export_needs_no_operator_of_this_package(network):
    """The program is the classifier for other numbers of series and steps, also after loading."""
    model, X = fitted(network)
    program = exported(model, X)
    assert not {name for name in operators(program.graph_module) if "sfmts" in name}
    assert "scan" in operators(program.graph_module)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for part in (X[:1], X[:7, :4], np.tile(X, (1, 3, 1))):
        logits = loaded(torch.from_numpy(part)).detach().numpy()
        np.testing.assert_allclose(logits, model.decision_function(part), atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_loops_need_a_newer_pytorch(network, monkeypatch):
    monkeypatch.setattr(_export, "_VERSION", (2, 10))
    with pytest.raises(RuntimeError, match=r"needs PyTorch 2\.11 or newer, but .* is installed"):
        exported(*fitted(network))


@needs_loops
@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"time_channel": 1}, {"pooling": "mean"}], ids=["last", "times", "mean"])
@pytest.mark.parametrize("network", NETWORKS)
def test_onnx(network, options, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, X = fitted(network, **options)
    torch.onnx.export(exported(model, X), dynamo=True, verbose=False).save(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    for part in (X[:1], X[:7, :4], X):
        (logits,) = session.run(None, {"x": part})
        np.testing.assert_allclose(logits, model.decision_function(part), atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_kernel_of_the_copy(network):
    model, X = fitted(network)
    copied = model.to_torch(backend="reference")
    assert copied.network.backend == "reference"
    assert model.module_.network.backend == model.to_torch().network.backend == model.backend_ != "reference"
    logits = copied(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(logits, model.decision_function(X), atol=1e-5)


def test_a_network_without_kernels_stays_as_it_is():
    model, X = fitted("lstm")
    logits = model.to_torch(backend="reference")(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(logits, model.decision_function(X), atol=1e-5)


@pytest.mark.parametrize("network", [*NETWORKS, "lstm"])
def test_an_unknown_kernel_is_an_error(network):
    with pytest.raises(ValueError, match=r"backend.*'onnx'"):
        fitted(network)[0].to_torch(backend="onnx")
