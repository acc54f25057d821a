"""Which device "auto" takes, and that a fit on the CPU leaves CUDA alone."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch

from sfmts import SFMClassifier, SFMForecaster, SFMRidgeClassifier
from sfmts.estimators import _device
from sfmts.estimators._device import Work, resolve_device, training_work
from sfmts.networks import make_network
from tests.helpers import make_panel

LONG = 2e12
GPU = torch.device("cuda")


def fast(_):
    return None


@pytest.fixture
def one_gpu(monkeypatch):
    """A machine with a GPU that nobody starts."""
    monkeypatch.setattr(_device, "nvidia_gpu", lambda: GPU)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    _device._log_once.cache_clear()
    yield
    _device._log_once.cache_clear()


def auto(work, caplog):
    """The device that "auto" stands for, and what is logged."""
    with caplog.at_level(logging.INFO, "sfmts"):
        devices = {resolve_device("auto", work) for _ in range(2)}
    return devices.pop(), [record.getMessage() for record in caplog.records]


@pytest.mark.usefixtures("one_gpu")
def test_auto_takes_a_gpu_for_long_fits_that_are_fast_there(caplog):
    assert auto(Work(LONG, fast), caplog) == (GPU, [])


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (Work(1e11, fast), "the fit is too short to pay for the start of a GPU"),
        (Work(LONG, lambda device: f"it is slow on {device}"), "it is slow on cuda"),
    ],
)
def test_otherwise_the_cpu_with_the_reason(caplog, work, reason):
    message = f"device='auto' uses the CPU: {reason}. Name a device to choose yourself."
    assert auto(work, caplog) == (torch.device("cpu"), [message])


def test_without_a_gpu_nothing_is_said(caplog, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)  # PyTorch for CPUs
    monkeypatch.setattr(_device, "nvidia_gpu", lambda: None)
    assert auto(Work(LONG, fast), caplog) == (torch.device("cpu"), [])
    assert auto(Work(1.0, fast), caplog) == (torch.device("cpu"), [])


def of_amd(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def of_apple(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.mark.parametrize(("gpu", "name"), [(of_amd, "AMD"), (of_apple, "Apple")])
def test_other_gpus_are_named(caplog, monkeypatch, gpu, name):
    gpu(monkeypatch)
    _device._log_once.cache_clear()
    device, (message,) = auto(Work(LONG, fast), caplog)
    assert device.type == "cpu"
    assert f"no fast path on {name} GPUs" in message


def test_the_default_classifier_takes_a_gpu_from_2000_series_of_500_steps_on():
    network = make_network("sfm", 1, n_states=32, n_frequencies=4)
    few, many = (training_work(network.n_parameters, n * 500 * 100, fast).multiplications for n in (100, 2000))
    assert few < _device._LEAST_MULTIPLICATIONS < many


@pytest.mark.parametrize(
    ("network", "options", "obstacle"),
    [
        ("lstm", {}, None),
        ("resonator", {}, None),
        ("phased_lstm", {}, "goes step by step"),
        ("sfm", {"backend": "fused"}, "backend='fused' is slow there"),
    ],
)
def test_networks_with_a_fast_path(network, options, obstacle):
    reason = make_network(network, 2, n_states=4, **options).gpu_obstacle(GPU)
    assert reason is None if obstacle is None else obstacle in reason


TASKS = {  # of the paper, and the default sizes
    "default": {"n_states": 32, "n_frequencies": 4},
    "1": {"n_states": 50, "n_frequencies": 4, "network_params": {"n_outputs": 1}},
    "2": {"n_states": 50, "n_frequencies": 4, "network_params": {"n_outputs": 88}},
    "3": {"n_states": 30, "n_frequencies": 8, "network_params": {"n_outputs": 61}},
}


@pytest.mark.parametrize("task", TASKS)
def test_everything_on_auto_is_served_by_the_cuda_kernel(gpu, monkeypatch, caplog, task):
    monkeypatch.setattr(_device, "_LEAST_MULTIPLICATIONS", 0.0)
    X, y = make_panel(n=4, n_steps=12, n_classes=2)
    options = {"network": "sfm", "base": None, "pooling": "last", "batch_size": 4, "max_iter": 2, "random_state": 0}
    options |= TASKS[task]
    X = X.astype(np.float32)
    with caplog.at_level(logging.INFO, "sfmts"):
        model = SFMClassifier(device="auto", **options).fit(X, y)
    assert model.backend_ == "cuda"
    assert not caplog.records
    assert gpu.launches == 6 + 2 * 2  # a trial; two epochs of one batch
    monkeypatch.undo()
    expected = SFMClassifier(device="cpu", **options).fit(X, y)
    np.testing.assert_allclose(model.loss_curve_, expected.loss_curve_, rtol=1e-4)


@pytest.fixture
def no_question_to_cuda(monkeypatch):
    """A build of PyTorch with CUDA in which every question to the driver fails."""

    def asked(*_, **__):
        raise AssertionError("CUDA was asked")

    for name in ("is_available", "device_count", "current_device", "_lazy_init", "get_device_properties"):
        monkeypatch.setattr(torch.cuda, name, asked)
    for name in ("is_available", "current_accelerator", "device_count"):
        monkeypatch.setattr(torch.accelerator, name, asked)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


@pytest.mark.usefixtures("no_question_to_cuda")
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_fit_on_the_cpu_leaves_cuda_alone(tmp_path, device):
    """Short fits with "auto", too."""
    X, y = make_panel()
    for optimizer in ("adam", "sgd", "rmsprop", "adadelta"):
        model = SFMClassifier(device=device, n_states=4, max_iter=1, optimizer=optimizer).fit(X, y)
    model.partial_fit(X, y)
    model.save(tmp_path / "model")
    SFMClassifier.load(tmp_path / "model").predict(X)
    SFMRidgeClassifier(56, device=device).fit(X, y).predict(X)
    series = pd.Series(np.sin(np.arange(60.0)))
    SFMForecaster(n_states=4, max_iter=1, device=device).fit(series, fh=[1, 2]).predict()
