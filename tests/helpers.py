"""The lists that tests are parametrised over, and small data."""

import itertools

import numpy as np

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
SUITE_ESTIMATORS = [
    SFMClassifier(),
    SFMRegressor(),
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


def pairwise(*factors):
    """Return combinations in which any two values of two factors occur together: few, and always the same."""
    numbers = list(itertools.product(*(range(len(factor)) for factor in factors)))
    pairs = {row: set(itertools.combinations(enumerate(row), 2)) for row in numbers}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        chosen.append(max(numbers, key=lambda row: len(pairs[row] & missing)))
        missing -= pairs[chosen[-1]]
    return [tuple(factor[number] for factor, number in zip(factors, row, strict=True)) for row in chosen]
