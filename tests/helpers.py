"""The lists that tests are parametrised over, and small data."""

import importlib.util
import inspect
import itertools
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch
from packaging.version import Version

from sfmts import (
    PanelScaler,
    SFMClassifier,
    SFMFeatures,
    SFMRegressor,
    SFMRidgeClassifier,
    SFMRidgeRegressor,
)
from sfmts.kernels import BACKENDS
from sfmts.networks import network_names

KERNELS = [name for name in BACKENDS if name not in ("auto", "cuda")]  # test_cuda.py has its own way
FAST_KERNELS = [name for name in KERNELS if name != "reference"]
NETWORKS = ["gru", "lstm", "sfm"]  # whatever an estimator does is tested with these, which take all its parameters
ALL_NETWORKS = network_names()  # that it works at all with every other, too
CLASSIFIERS = [SFMClassifier]
needs_callbacks = pytest.mark.skipif(
    importlib.util.find_spec("sklearn.callback") is None, reason="scikit-learn < 1.9 has no callbacks"
)


def older(package, release):
    """Return whether an installed package is older than a release."""
    try:
        return Version(version(package)) < Version(release)
    except PackageNotFoundError:
        return False


needs_loops = pytest.mark.skipif(older("torch", "2.11"), reason="PyTorch < 2.11 cannot record all loops")
needs_pretrain = pytest.mark.skipif(older("sktime", "1.0"), reason="sktime < 1.0 cannot pretrain forecasters")


def alone(cls):
    """Return the parameters by which the network of an estimator predicts alone."""
    return {"base": None} if "base" in inspect.signature(cls).parameters else {}


# A weight of two is the same as a repetition only if all series are in one mini-batch.
SMALL_NETWORK = {"base": None, "max_iter": 40, "n_states": 8, "batch_size": 32}
SUITE_ESTIMATORS = [
    SFMClassifier(),
    SFMClassifier(**SMALL_NETWORK),
    SFMRegressor(),
    SFMRegressor(**SMALL_NETWORK),
    PanelScaler(),
    SFMFeatures(),
    SFMRidgeClassifier(),
    SFMRidgeRegressor(),
]

# Frequency, time and phase modes of the SFM.
MODES = [
    {"frequencies": frequencies, "time": time, "phase": phase}
    for frequencies, phase in [
        ("fixed", "product"),
        ("learned", "product"),
        ("adaptive", "product"),
        ("adaptive", "accumulated"),
    ]
    for time in ("index", "normalized", "timestamps")
]


def mode_id(mode):
    return "-".join(mode.values())


def mode_parameters(mode, time_channel):
    """Return a mode as parameters of an estimator."""
    if mode["time"] != "timestamps":
        return {"network_params": mode}
    return {"network_params": {name: mode[name] for name in ("frequencies", "phase")}, "time_channel": time_channel}


EXACT = {"atol": 1e-12, "rtol": 0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=seeded(seed))


def make_panel(n=24, n_steps=12, n_channels=2, n_classes=2, ragged=False, seed=0):
    """Noisy sines whose frequency is the class: X as an array or, if ragged, as a list, and integer labels."""
    rng = np.random.RandomState(seed)
    y = np.arange(n) % n_classes
    lengths = rng.randint(max(1, n_steps // 2), n_steps + 1, size=n) if ragged else np.full(n, n_steps)
    X = []
    for label, length in zip(y, lengths, strict=True):
        t = np.arange(length)[:, None]
        phases = rng.uniform(0, 2 * np.pi, size=n_channels)
        X.append(np.sin(0.5 * (label + 1) * t + phases) + 0.05 * rng.normal(size=(length, n_channels)))
    return (X if ragged else np.stack(X)), y


# -- pairs of values instead of full products


def pairwise(*factors):
    """Return cases, one value of each factor, so that every pair of values of two factors is in one of them."""
    choices = list(itertools.product(*(range(len(factor)) for factor in factors)))
    pairs = {choice: set(itertools.combinations(enumerate(choice), 2)) for choice in choices}
    missing, cases = set().union(*pairs.values()), []
    while missing:
        best = max(choices, key=lambda choice: len(pairs[choice] & missing))
        missing -= pairs[best]
        cases.append(tuple(factor[index] for factor, index in zip(factors, best, strict=True)))
    return cases


def case_id(value):
    """Return a short name of a parameter of a test."""
    if isinstance(value, dict):
        return "-".join(f"{name}={case_id(part)}" for name, part in value.items()) or "plain"
    if isinstance(value, tuple | list):
        return "-".join(map(case_id, value)) if len(value) < 8 else f"{len(value)} of {case_id(value[0])}"
    return getattr(value, "__name__", str(value).removeprefix("torch."))


def every_pair(**factors):
    """Parametrise a test over pairwise cases of named factors."""
    return pytest.mark.parametrize(tuple(factors), pairwise(*map(list, factors.values())), ids=case_id)


# -- kernels

every_kernel = pytest.mark.parametrize("backend", KERNELS)
every_fast_kernel = pytest.mark.parametrize("backend", FAST_KERNELS)
DTYPES = [torch.float64, torch.float32]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=case_id)


@contextmanager
def threads(number):
    """Let PyTorch and the compiled kernels use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_gradients(outputs, leaves, through=None):
    """Return outputs, and gradients through them (all, or some, which need not reach every leaf), by name."""
    generator = torch.Generator().manual_seed(99)
    above = {name: torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v) for name, v in outputs.items()}
    names = [name for name, value in outputs.items() if value.requires_grad and (through is None or name in through)]
    gradients = torch.autograd.grad(
        [outputs[name] for name in names],
        list(leaves.values()),
        [above[name] for name in names],
        allow_unused=through is not None,
    )
    gradients = [torch.zeros_like(v) if g is None else g for v, g in zip(leaves.values(), gradients, strict=True)]
    values = {name: value.detach() for name, value in outputs.items()}
    return values | {f"d{name}": value for name, value in zip(leaves, gradients, strict=True)}


def assert_same(expected, got, tolerance=0.0):
    """Compare named tensors; the error is a share of the largest value."""
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert (got[name].shape, got[name].dtype) == (value.shape, value.dtype), name
        assert torch.isfinite(got[name]).all(), name
        if value.numel():
            error = float(((got[name] - value).abs().max() / value.abs().max().clamp_min(1e-30)).detach())
            assert error <= tolerance, f"{name}: relative error {error:.2g}"


def spread(value):
    """Return the same values over twice the memory, the axes in the wrong order."""
    if value is None:
        return None
    wide = torch.full([2 * size for size in reversed(value.shape)], float("nan"), dtype=value.dtype)
    view = wide[(slice(None, None, 2),) * value.ndim].permute(*reversed(range(value.ndim)))
    return view.copy_(value.detach()).requires_grad_(value.requires_grad)
