"""Call the package with malformed arguments and damaged model files, and count what becomes of each call.

    python benchmarks/robustness.py                             all calls and files, in some minutes
    python benchmarks/robustness.py --quick                     a sample, in about a minute
    python benchmarks/robustness.py --results calls.jsonl       resumable: calls that the file holds are not repeated
    python benchmarks/robustness.py --areas kernels --show poor an area, with all messages of a verdict

Needs Linux or macOS. Each call takes valid arguments and spoils one of them. Calls run in batches, each in a process of
its own with limits of time and memory, so that a crash or an endless loop is counted, too. Verdicts:

right     the call is accepted, and its result is finite
clear     ValueError, TypeError or the like, with a message that names the argument, or that users of scikit-learn know
poor      an error of such a type whose message names nothing, or was written by a library underneath
internal  any other error, such as IndexError, or RuntimeError of PyTorch
crash     the process died
hang      the call took longer than the limit
silent    a result that is not finite, a fitted estimator that changed although the call failed, a file that is damaged
          but loads as another model, or one that uses up random numbers of the caller
"""

import argparse
import collections
import copy
import inspect
import json
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot
from scipy import sparse
from torch.nn.utils.rnn import PackedSequence

import sfmts
from sfmts import _persistence, datasets, kernels, metrics, networks, plotting

PROCESSES = multiprocessing.get_context("fork")  # a new interpreter would spend its time importing
VERDICTS = ("right", "clear", "poor", "internal", "crash", "hang", "silent")
CALLS = {
    "estimators": 2000,
    "kernels": 3000,
    "networks": 3000,
    "metrics": 800,
    "datasets": 900,
    "plots": 700,
    "threads": 60,
    "forks": 60,
    "files": 10000,
}
QUICK = 60  # times as few calls
BATCH = 200
SECONDS = 30.0  # for one call
MEMORY = 16 * 2**30  # bytes of address space for one process
LARGE = 1e18  # float32 holds squares of smaller numbers; beyond, tensors may overflow, as those of PyTorch do
REFUSALS = (ValueError, TypeError, NotImplementedError, ImportError, OSError)
# Phrases of libraries underneath, which say nothing about the arguments of the call.
INTERNAL_PHRASES = re.compile(
    r"not subscriptable|has no attribute|unsupported operand|not supported between|cannot be interpreted|has no len\(\)"
    r"|not iterable|scalar type|mat1|size of tensor|out of bounds|only length-1|only 0-dimensional|only integer scalar"
    r"|could not be broadcast|ufunc|ambiguous|unexpected type|bad operand|invalid combination|not enough values|unpack"
    r"|\(\): argument|cannot be safely|Boolean value|inhomogeneous|object is not callable|Cannot interpret|unhashable"
)
KNOWN = re.compile(
    r"Expected 2D array, got|Found (array with|input variables with inconsistent)|Complex data not supported"
    r"|Input contains (NaN|infinity)|Seed must be between|.* cannot be used to seed"
)

# -- bad values: the one list of those that fit nowhere, and ways to spoil a valid value

# fmt: off
VALUES: list[Any] = [
    None, True, 0, -1, 7, 10**30, 2.5, 1e-300, float("nan"), float("inf"), 1j, "", "nope", "1", b"bytes", object(),
    int, len, [], {}, set(), [None], ["a", 1], [[1.0], [2.0, 3.0]], (1, 2, 3), {"nope": 1}, range(3), np.float32(3),
    np.array(3), np.array([]), np.array(["a", "b"]), np.array([None, 1.0], dtype=object), np.full((3, 4), np.nan),
    np.zeros((2, 0, 3)), np.array(["2020-01-01"], dtype="M8[D]"), np.ones((2, 2, 2, 2)), torch.tensor(1.0),
    torch.zeros(0), torch.ones(3, 4), torch.ones(3, dtype=torch.complex64), torch.ones(2, 3, device="meta"),
    pd.DataFrame({"a": [1.0, None], "b": ["x", "y"]}), pd.Series([1, 2, 3]), sparse.csr_array(np.eye(3)),
    Path("/nowhere/at/all"),
]
# fmt: on

# fmt: off
SPOILS_OF_ARRAYS: list[Callable[[np.ndarray], Any]] = [
    lambda a: a[:0], lambda a: a[:1], lambda a: a[:-1], lambda a: a[..., :0], lambda a: a[..., :-1],
    lambda a: a[None], lambda a: a[..., None], lambda a: a.T, lambda a: a.ravel(), lambda a: np.concatenate([a, a]),
    lambda a: a[::-1], lambda a: -a if a.dtype.kind in "if" else a, lambda a: a * 0, lambda a: a.astype(complex),
    lambda a: a.astype(str), lambda a: a.astype(object), lambda a: a.astype(np.int8), lambda a: a.astype(np.float16),
    lambda a: a > 0, lambda a: a * 1e300, lambda a: a * 1e30, lambda a: a * 1e-300, lambda a: with_one(a, np.nan),
    lambda a: with_one(a, np.inf), lambda a: with_one(a, -np.inf), lambda a: with_one(a, 1e38),
    lambda a: with_one(a, 10**9), lambda a: np.ma.masked_less(a, 0.5), lambda a: a.tolist(), lambda a: [*a],
    lambda a: torch.from_numpy(np.ascontiguousarray(a)),
    lambda a: sparse.csr_array(np.atleast_2d(a.reshape(len(a), -1))), lambda a: pd.DataFrame(a.reshape(len(a), -1)),
    lambda a: np.broadcast_to(a, (2, *a.shape)),
]
# fmt: on

# fmt: off
SPOILS_OF_TENSORS: list[Callable[[torch.Tensor], Any]] = [
    lambda x: x[:0], lambda x: x[:-1], lambda x: x[..., :0], lambda x: x[..., :-1], lambda x: x[None],
    lambda x: x[..., None], lambda x: x.mT if x.ndim > 1 else x, lambda x: x.flatten(), lambda x: torch.cat([x, x]),
    lambda x: x.flip(0), lambda x: -x, lambda x: x * 0, lambda x: x.double(), lambda x: x.half(),
    lambda x: x.bfloat16(), lambda x: x.long(), lambda x: x.int(), lambda x: x.to(torch.uint8), lambda x: x.bool(),
    lambda x: x.to(torch.complex64), lambda x: x.to("meta"), lambda x: x.to_sparse(),
    lambda x: torch.nested.nested_tensor([x]), lambda x: x.clone().requires_grad_() if x.is_floating_point() else x,
    lambda x: x.expand(2, *x.shape), lambda x: x * 1e30, lambda x: x + 1000,
    lambda x: torch.full_like(x, float("nan")) if x.is_floating_point() else x - 100,
    lambda x: torch.full_like(x, float("inf")) if x.is_floating_point() else x + 2**62, lambda x: x.numpy(),
    lambda x: x.tolist(),
]
# fmt: on


def with_one(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.astype(float)
    changed.flat[: min(1, changed.size)] = value
    return changed


def spoiled(value: Any, rng: np.random.Generator) -> tuple[Any, str]:
    """Return another value, and the name of the part of it that was changed, such as ".V" or "[0]"."""
    if isinstance(value, dict) and value and rng.random() < 0.7:
        key = list(value)[rng.integers(len(value))]
        part, path = spoiled(value[key], rng)
        return {**value, key: part}, f".{key}{path}"
    if isinstance(value, list | tuple) and not isinstance(value, PackedSequence) and value and rng.random() < 0.7:
        number = int(rng.integers(len(value)))
        part, path = spoiled(value[number], rng)
        items = [*value[:number], part, *value[number + 1 :]]
        if hasattr(value, "_fields"):
            return value._make(items), f".{value._fields[number]}{path}"
        return type(value)(items), path
    choices: list[Any] = []
    if isinstance(value, np.ndarray) and value.ndim:
        choices = SPOILS_OF_ARRAYS
    elif isinstance(value, torch.Tensor) and value.ndim:
        choices = SPOILS_OF_TENSORS
    if choices and rng.random() < 0.75:
        spoil = choices[rng.integers(len(choices))]
        try:
            return spoil(value), ""
        except (TypeError, ValueError, RuntimeError, OverflowError, IndexError):  # this value cannot be spoiled so
            pass
    return VALUES[rng.integers(len(VALUES))], ""


class Target(NamedTuple):
    """A valid call. ``model`` is a fitted estimator that must stay as it is if the call fails."""

    name: str
    call: Callable[..., Any]
    arguments: dict[str, Any]
    model: Any = None


# -- areas: valid calls

SMALL = {"n_states": 4, "n_frequencies": 2, "max_iter": 1, "random_state": 0, "device": "cpu"}
ALONE = {**SMALL, "base": None}
SMALL_BANK = {"n_features": 200, "random_state": 0}
METHODS = ("predict", "predict_proba", "decision_function", "transform", "score_samples", "state_amplitudes")


def series() -> dict[str, np.ndarray]:
    """Return small data of all kinds: series, classes, targets, labels of steps, weights, and piano rolls."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(16, 10, 2))
    return {
        "X": X,
        "classes": np.arange(16) % 2,
        "targets": X[:, -1, 0],
        "labels": (X[:, :, 0] > 0).astype(int),
        "weights": np.linspace(0.5, 1.5, 16),
        "rolls": (rng.random((6, 8, 5)) < 0.3).astype(float),
    }


def fitted() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return fitted estimators by name, with what they were fitted to."""
    data = series()
    X, classes, targets = data["X"], data["classes"], data["targets"]
    stamped = np.concatenate([X, np.broadcast_to(np.arange(10.0)[:, None], (16, 10, 1))], axis=2)
    stamps = {"time_channel": 2}
    y = pd.Series(np.sin(np.arange(40)) + 2, index=pd.period_range("2020-01", periods=40, freq="M"))
    models = {
        "SFMClassifier": (sfmts.SFMClassifier(**SMALL), {"X": X, "y": classes}),
        "SFMClassifier, network": (sfmts.SFMClassifier(**ALONE), {"X": X, "y": classes}),
        "SFMClassifier, timestamps": (sfmts.SFMClassifier(**ALONE, **stamps), {"X": stamped, "y": classes}),
        "SFMRegressor": (sfmts.SFMRegressor(**SMALL), {"X": X, "y": targets}),
        "SFMRegressor, network": (sfmts.SFMRegressor(network="gru", **ALONE), {"X": X, "y": targets}),
        "SFMRidgeClassifier": (sfmts.SFMRidgeClassifier(**SMALL_BANK), {"X": X, "y": classes}),
        "SFMRidgeRegressor": (sfmts.SFMRidgeRegressor(**SMALL_BANK), {"X": X, "y": targets}),
        "SFMFeatures": (sfmts.SFMFeatures(**SMALL_BANK), {"X": X}),
        "PanelScaler": (sfmts.PanelScaler(), {"X": X}),
        "SFMDensity": (sfmts.SFMDensity(**SMALL), {"X": data["rolls"]}),
        "SFMDensity, RBM": (sfmts.SFMDensity(head="rbm", n_hidden=3, **SMALL), {"X": data["rolls"]}),
        "SFMLabeler": (sfmts.SFMLabeler(**SMALL), {"X": X, "y": data["labels"]}),
        "SFMForecaster": (sfmts.SFMForecaster(**SMALL), {"y": y, "fh": [1, 2]}),
        "SFMForecaster, network": (sfmts.SFMForecaster(context_length=6, **ALONE), {"y": y, "fh": [1, 2]}),
    }
    for model, arguments in models.values():
        model.fit(**arguments)
    return models


def answers(model: Any, arguments: dict[str, Any]) -> Any:
    """Return what a fitted estimator says of the series that it was fitted to."""
    if "fh" in arguments:
        return model.predict([1, 2]).to_numpy()
    name = next(name for name in METHODS if hasattr(model, name))
    return getattr(model, name)(arguments["X"])


def estimators() -> Iterator[Target]:
    data = series()
    for name, (model, arguments) in fitted().items():
        parameters = {key: value for key, value in model.get_params(deep=False).items() if key != "checkpoint"}
        weights = {"sample_weight": data["weights"]} if "classifier" in name.lower() or "Regressor" in name else {}

        def fit(model=model, arguments=arguments, **parameters):
            own = {key: parameters.pop(key) for key in (*arguments, "sample_weight") if key in parameters}
            new = type(model)(**parameters).fit(**own)
            return answers(new, {**arguments, **own})

        yield Target(f"{name}.fit, parameters", fit, {**parameters, **arguments})
        yield Target(f"{name}.fit, options", fit, {**parameters, **arguments, **options_of(model)})

        def refit(copied, **arguments):
            return copied.fit(**arguments)

        yield Target(f"{name}.fit", refit, {**arguments, **weights}, model)
        if hasattr(model, "partial_fit"):
            yield Target(f"{name}.partial_fit", lambda copied, **a: copied.partial_fit(**a), {**arguments}, model)
        if "fh" in arguments:
            yield Target(f"{name}.predict", lambda copied, fh: copied.predict(fh), {"fh": [1, 2]}, model)
            quantiles = {"fh": [1, 2], "alpha": [0.1, 0.9]}
            yield Target(
                f"{name}.predict_quantiles", lambda copied, **a: copied.predict_quantiles(**a), quantiles, model
            )
            yield Target(f"{name}.update", lambda copied, y: copied.update(y), {"y": arguments["y"]}, model)
            continue
        for method in METHODS:
            if hasattr(model, method) and not (method == "state_amplitudes" and getattr(model, "base", None)):
                call = lambda copied, X, method=method: getattr(copied, method)(X)  # noqa: E731
                yield Target(f"{name}.{method}", call, {"X": arguments["X"]}, model)
        if hasattr(model, "score") and "y" in arguments:
            yield Target(f"{name}.score", lambda copied, **a: copied.score(**a), {**arguments}, model)
        if hasattr(model, "sample"):
            drawn = {"n_frames": 3, "prompt": data["rolls"][0], "temperature": 1.0, "random_state": 0}
            yield Target(f"{name}.sample", lambda copied, **a: copied.sample(**a), drawn, model)
        yield Target(f"{name}.load", lambda path, model=model: type(model).load(path), {"path": "/nowhere/model"})
        yield Target(f"{name}.save", lambda copied, path: copied.save(path), {"path": "/nowhere/model"}, model)


def options_of(model: Any) -> dict[str, Any]:
    """Return options of training and of the network, for an estimator that takes them."""
    options: dict[str, Any] = {}
    if "optimizer_params" in model.get_params():
        options["optimizer_params"] = {"weight_decay": 0.01, "clip_norm": 1.0, "schedule": "constant"}
        options["network_params"] = {"init": "modern", "recurrent_dropout": 0.1, **(model.network_params or {})}
    return options


def _step(now: Any, before: Any, mask: Any) -> Any:
    """Return what a step of the caller gives, which knows its own sizes."""
    if now[0].shape != before[0].shape:
        raise ValueError(f"inputs and state of my step must have equal shapes, not {now[0].shape}, {before[0].shape}.")
    return (now[0] + before[0],), (before[0] + 1,)


def kernel_arguments() -> dict[str, dict[str, Any]]:
    """Return valid arguments of the kernels, by name."""
    torch.manual_seed(0)
    B, T, N, D, K, M = 3, 4, 2, 3, 2, 3
    R = 3 * D + K + K * M
    weights = kernels.SFMWeights(
        torch.randn(R, N),
        torch.randn(R, M),
        torch.randn(R),
        torch.randn(K, M, D),
        torch.randn(K, M, D),
        torch.randn(K, M),
        torch.tensor([0.0, 1.0], dtype=torch.float64),
    )
    state = kernels.SFMState.zeros(B, weights)
    t = torch.arange(1, T + 1, dtype=torch.float64)
    options = {"memory": "fast", "accumulated": False, "feedback_mask": torch.ones(B, M)}
    bank = sfmts.SFMFeatures(**SMALL_BANK, scale="train").fit(torch.randn(8, 10, 2))._fitted.bank
    banked = {"x": torch.randn(9, 2), "lengths": torch.tensor([4, 5]), "times": torch.arange(9.0).double()}
    turned = torch.ones(K, D), torch.zeros(K, D), torch.zeros(D)
    recurrence = {"dt": torch.ones(T, B, dtype=torch.float64), "state": torch.zeros(B, 2, K, D)}
    omega = torch.rand(K, D).double()
    padded = {"x": torch.randn(B, T, N), "lengths": torch.tensor([4, 2, 1])}
    return {
        "sfm": {
            "x": torch.randn(8, N),
            "batch_sizes": [3, 2, 2, 1],
            "t": t.repeat_interleave(torch.tensor([3, 2, 2, 1])),
            "weights": weights,
            "state": state,
            **options,
        },
        "sfm_layer": {**padded, "t": t.repeat(B, 1), "weights": weights, "state": state, **options},
        "summarize_bank": {**banked, "bank": bank, "threads": 1},
        "trace_bank": {**banked, "bank": bank, "strides": torch.tensor([1, 2]), "threads": 1},
        "resonate": {
            "f_ste": torch.rand(T, B, D),
            "f_fre": torch.rand(T, B, K),
            "u": torch.randn(T, B, D),
            "omega": omega,
            **recurrence,
        },
        "resonator_layer": {
            "a": torch.randn(T, B, 4 * D + K),
            "omega": omega,
            **dict(zip(("alpha", "beta", "b_c"), turned, strict=True)),
            **recurrence,
            "mask": torch.ones(B, D),
        },
        "pack": padded,
        "unpack": {"packed": kernels.pack(**padded), "data": torch.randn(7, 2), "length": T},
        "scan": {
            "step": _step,
            "inputs": (torch.randn(6, N),),
            "batch_sizes": [3, 2, 1],
            "state": (torch.zeros(B, N),),
            "mask": torch.ones(B, N),
        },
        "sfm_state": {
            "u": torch.randn(T, D),
            "f": torch.rand(T, D, K),
            "omega": torch.rand(K).double(),
            "t": t,
        },
    }


def kernel_calls() -> Iterator[Target]:
    for name, arguments in kernel_arguments().items():
        function = getattr(kernels, name)
        if name in ("pack", "unpack", "scan", "sfm_state"):
            yield Target(name, function, arguments)
            continue
        for backend in ("reference", "fused", "native"):
            yield Target(f"{name}, {backend}", function, {**arguments, "backend": backend})
    for name in ("resolve_backend", "resolve_bank", "resolve_resonator"):
        arguments = {"backend": "fused"} | ({"device": torch.device("cpu")} if name == "resolve_bank" else {})
        yield Target(name, getattr(kernels, name), arguments)


def network_calls() -> Iterator[Target]:
    torch.manual_seed(0)
    batch = {
        "x": torch.randn(3, 5, 2),
        "lengths": torch.tensor([5, 3, 1]),
        "time": torch.arange(15.0).double().view(3, 5),
    }
    sizes = {"n_states": 6, "n_layers": 1}
    for name in networks.network_names():
        cls = type(networks.make_network(name, 2))
        network = networks.make_network(name, 2, n_states=6, generator=torch.Generator().manual_seed(0))
        network.requires_grad_(False)
        state = {} if network(batch["x"]).state is None else {"state": network(batch["x"]).state}
        own = {
            key: p.default
            for key, p in inspect.signature(cls).parameters.items()
            if p.default is not p.empty and key != "generator"
        }
        built = {"n_channels": 2, **own, "n_states": 6}
        yield Target(cls.__name__, lambda cls=cls, **a: cls(**a)(batch["x"]), built)
        make = lambda name=name, **a: networks.make_network(name, **a)(batch["x"])  # noqa: E731
        yield Target(
            f"make_network({name!r})", make, {"n_channels": 2, **sizes, "recurrent_dropout": 0.0, "init": "modern"}
        )
        yield Target(f"{name}.forward", lambda network=network, **a: network(**a), batch)
        yield Target(f"{name}.forward, state", lambda network=network, **a: network(**a), {**batch, **state})
    budget = {
        "network": "lstm",
        "n_parameters": 100,
        "n_channels": 2,
        "n_outputs": 2,
        "head": "linear",
        "multiple_of": 1,
    }
    yield Target("match_budget", networks.match_budget, budget)
    yield Target("paper_preset", networks.paper_preset, {"task": "waves", "network": "sfm"})
    matrix = torch.linalg.qr(torch.randn(3, 3, dtype=torch.complex64))[0]
    yield Target("stiefel_step", networks.stiefel_step, {"W": matrix, "gradient": matrix, "learning_rate": 0.1})
    layers = {
        networks.DFTLayer: ({"n": 4, "trainable": False, "method": "auto", "as_real": False}, (2, 4)),
        networks.FourierMixing: ({"method": "auto", "norm": "backward"}, (2, 3, 4)),
        networks.CirculantUnitary: ({"n": 4, "real": False, "angles": "uniform"}, (2, 4)),
        networks.CirculantUnitary2d: ({"m": 2, "n": 4, "real": False, "angles": "uniform"}, (2, 2, 4)),
        networks.UnitaryMatrix: ({"size": 3}, None),
    }
    for cls, (options, shape) in layers.items():
        if shape is None:
            yield Target(cls.__name__, lambda cls=cls, **a: cls(**a), options)
            continue
        x = torch.randn(shape)
        yield Target(cls.__name__, lambda cls=cls, x=x, **a: cls(**a)(x), options)
        yield Target(f"{cls.__name__}.forward", cls(**options), {"x": x})


def metric_calls() -> Iterator[Target]:
    rolls = series()["rolls"]
    logits = np.random.default_rng(0).normal(size=rolls.shape)
    weight = {"sample_weight": np.ones(len(rolls))}
    probable = {"rolls": rolls, "probabilities": 1 / (1 + np.exp(-logits)), **weight}
    yield Target("bernoulli_log_likelihood", metrics.bernoulli_log_likelihood, probable)
    frames = {"y_true": rolls[:, :, 0], "y_pred": logits[:, :, 0] > 0}
    yield Target("frame_accuracy_score", metrics.frame_accuracy_score, {**frames, **weight})
    yield Target("softmax_pressed_ceiling", metrics.softmax_pressed_ceiling, {"rolls": rolls})
    pressed = {"rolls": rolls, "logits": logits}
    yield Target("softmax_pressed_log_likelihood", metrics.softmax_pressed_log_likelihood, pressed)
    scorer = {"score_func": metrics.frame_accuracy_score, "response_method": "predict", "greater_is_better": True}
    yield Target("make_frame_scorer", metrics.make_frame_scorer, scorer)


def dataset_calls() -> Iterator[Target]:
    waves = {"n_samples": 4, "n_steps": 20, "variant": "paper", "random_state": 0}
    yield Target("make_waves", datasets.make_waves, waves)
    periods = {
        "n_samples": 4,
        "n_steps": 20,
        "periods": (8.0, 10.0),
        "noise": 2.0,
        "irregular": False,
        "random_state": 0,
    }
    yield Target("make_periods", datasets.make_periods, periods)
    yield Target(
        "count_distinct_values", datasets.count_distinct_values, {"X": np.random.default_rng(0).normal(size=(3, 9))}
    )
    yield Target("mfcc", datasets.mfcc, {"signal": np.sin(np.arange(4000.0)), "sample_rate": 16000, "n_derivatives": 1})
    labels = {"segments": [(0, 2000, "sil"), (2000, 4000, "aa")], "n_samples": 4000, "sample_rate": 16000}
    yield Target("frame_labels", datasets.frame_labels, labels)
    roll = {"roll": series_of_keys(), "path": "roll.mid", "step": 0.3, "unit": "seconds"}
    datasets.roll_to_midi(**{**roll, "path": "valid.mid"})
    yield Target("roll_to_midi", datasets.roll_to_midi, roll)
    read = {"path": "valid.mid", "step": 0.3, "unit": "seconds", "dtype": np.float32}
    yield Target("midi_to_roll", datasets.midi_to_roll, read)
    empty = {"data_home": "empty", "subset": "train"}
    fetched = {"name": "jsb_chorales", "dtype": np.float32, **empty}
    fetch = lambda **a: datasets.fetch_piano_rolls(**{**a, "download_if_missing": False})  # noqa: E731
    yield Target("fetch_piano_rolls", fetch, fetched)
    timit = {"n_phones": 61, "test_set": "full", "n_derivatives": 1, **empty}
    yield Target("load_timit", datasets.load_timit, timit)


def series_of_keys() -> np.ndarray:
    return (np.random.default_rng(0).random((6, 88)) < 0.1).astype(float)


def plot_calls() -> Iterator[Target]:
    models, data = fitted(), series()
    ridge, density = models["SFMRidgeClassifier"][0], models["SFMDensity"][0]
    network, forecaster = models["SFMClassifier, network"][0], models["SFMForecaster, network"]
    y = forecaster[1]["y"]
    amplitudes = {
        "estimator": network,
        "X": data["X"],
        "series": 0,
        "steps": [1, 5],
        "cmap": "viridis",
        "log_scale": False,
    }
    yield Target("AmplitudeDisplay", plotting.AmplitudeDisplay.from_estimator, amplitudes)
    past = {"n_past": 10, "n_panels": 2, "name": "ours"}
    made = {"forecaster": forecaster[0], "y": y, "fh": [1, 2], "coverage": (0.5, 0.9), **past}
    yield Target("ForecastDisplay.from_estimator", plotting.ForecastDisplay.from_estimator, made)
    given = {
        "y": y,
        "y_pred": forecaster[0].predict([1, 2]),
        "y_interval": forecaster[0].predict_interval([1, 2]),
        **past,
    }
    yield Target("ForecastDisplay.from_predictions", plotting.ForecastDisplay.from_predictions, given)
    importance = {"estimator": ridge, "X": data["X"], "output": 1, "kind": "heatmap", "n_bins": 4, "cmap": None}
    yield Target("FrequencyImportanceDisplay", plotting.FrequencyImportanceDisplay.from_estimator, importance)
    time = {"step": 0.5, "unit": "seconds", "key_low": 21, "cmap": "Blues", "colorbar": True}
    roll = {"estimator": density, "roll": data["rolls"][0], **time}
    yield Target("PianoRollDisplay.from_estimator", plotting.PianoRollDisplay.from_estimator, roll)
    rolls = {"roll_true": data["rolls"][0], "roll_proba": data["rolls"][1] / 2, **time}
    yield Target("PianoRollDisplay.from_predictions", plotting.PianoRollDisplay.from_predictions, rolls)
    curve = {"estimator": network, "name": "ours", "log_scale": False}
    yield Target("TrainingCurveDisplay", plotting.TrainingCurveDisplay.from_estimator, curve)
    waves = {
        "X": data["X"],
        "y": data["classes"],
        "n_per_class": 2,
        "value_channel": 0,
        "time_channel": None,
        "layout": "ntc",
    }
    yield Target("WaveDisplay", plotting.WaveDisplay.from_arrays, waves)
    losses = {"loss": [2.0, 1.0], "validation_loss": [2.0, 1.5], "validation_scores": [0.1, 0.2], "name": "ours"}
    yield Target("TrainingCurveDisplay.plot", lambda **a: plotting.TrainingCurveDisplay(**a).plot(), losses)


AREAS: dict[str, Callable[[], Iterator[Target]]] = {
    "estimators": estimators,
    "kernels": kernel_calls,
    "networks": network_calls,
    "metrics": metric_calls,
    "datasets": dataset_calls,
    "plots": plot_calls,
}


# -- one call and its verdict


class Record(NamedTuple):
    """What became of a call."""

    area: str
    number: int
    name: str
    verdict: str
    message: str


# A valid request for more than any machine has is no mistake, so these are not given the largest value.
COUNTS = re.compile(r"^(n_(?!jobs|valid)|max_|depth|size$|batch_size|horizon|kernel|length$|threads|[nm]$)|_length$")
# What messages may call an argument.
ALIASES = {
    "X": "series|input",
    "y": "labels?|targets?|classes|series|index",
    "path": "folder|file",
    "fh": "horizon",
    "segments": "segment",
    "roll_true": "roll",
    "roll": "X",
    "sample_weight": "sample weights?",
}


def call(area: str, target: Target, number: int, rng: np.random.Generator) -> Record:
    """Spoil an argument of a valid call and judge what happens."""
    argument = list(target.arguments)[rng.integers(len(target.arguments))]
    arguments = copy.deepcopy(target.arguments)
    value, path = spoiled(arguments[argument], rng)
    if type(value) is int and value == 10**30 and COUNTS.search(argument):
        value = -7
    names = [argument, *re.findall(r"\w+", path)]
    shown = re.sub(r"\s+", " ", f"{target.name}({argument}{path}={value!r:.80})")
    arguments[argument] = value
    model = copy.deepcopy(target.model)
    begun = [model] if target.model is not None else []
    try:
        result = target.call(*begun, **arguments)
    except Exception as error:
        verdict, message = judged(error, names, value)
        if model is not None and changed(target.model, model):
            verdict, message = "silent", f"the call failed but changed the estimator: {message}"
        return Record(area, number, shown, verdict, message)
    finally:
        pyplot.close("all")
    if (area in ("estimators", "metrics", "datasets") or is_finite(value, LARGE)) and not is_finite(result):
        return Record(area, number, shown, "silent", f"the result is not finite: {result!r:.200}")
    return Record(area, number, shown, "right", "")


def judged(error: Exception, names: list[str], value: Any = None) -> tuple[str, str]:
    """Return the verdict on an error and its message with the place where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    message = f"{type(error).__name__}: {error} [{Path(last.filename).name}:{last.lineno}]"
    meant = (last.line or "").startswith("raise") and Path(sfmts.__file__).parent in Path(last.filename).parents
    if not isinstance(error, REFUSALS) and not (meant and type(error) in (RuntimeError, AttributeError)):
        return "internal", message
    spoken = "|".join([*map(re.escape, names), *(ALIASES[name] for name in names if name in ALIASES)])
    named = re.search(rf"(?<![a-zA-Z0-9])({spoken})(?![a-zA-Z0-9])", str(error), re.IGNORECASE) is not None
    received = isinstance(value, str | int | float | Path) and value not in ("", 0, 1) and str(value) in str(error)
    is_poor = INTERNAL_PHRASES.search(str(error)) or not (named or received or KNOWN.match(str(error)))
    return ("poor" if is_poor else "clear"), message


def is_finite(value: Any, most: float = np.inf) -> bool:
    """Return whether nested numbers are all finite and less than ``most``; anything else counts as finite."""
    if isinstance(value, torch.Tensor):
        if value.is_meta or value.is_nested or not (value.is_floating_point() or value.is_complex()):
            return True
        value = value.detach().to_dense() if value.layout is not torch.strided else value.detach()
        return bool((value.abs() < most).all())
    if isinstance(value, pd.DataFrame | pd.Series):
        value = value.to_numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
        return bool((np.abs(value) < most).all())
    if isinstance(value, float | complex):
        return abs(value) < most
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return all(is_finite(part, most) for part in value)
    return True


def fixed_parts(model: Any) -> dict[str, Any]:
    """Return what makes up the state of an estimator, as text."""
    state = {key: value for key, value in vars(model).items() if not hasattr(value, "__dict__")}
    if getattr(model, "module_", None) is not None:
        state |= model.module_.state_dict()
    return {key: repr(value) for key, value in state.items()}


def changed(before: Any, after: Any) -> bool:
    """Return whether two fitted estimators differ."""
    return fixed_parts(before) != fixed_parts(after) or vars(before).keys() != vars(after).keys()


# -- model files


def file_calls() -> list[tuple[str, Any, dict[str, Any], Path, Any]]:
    """Save fitted estimators; return their names, classes, data, files and answers."""
    saved = []
    for name, (model, arguments) in fitted().items():
        if hasattr(type(model), "_restored"):
            path = Path(f"{len(saved)}.model").absolute()
            model.save(path)
            saved.append((name, type(model), arguments, path, answers(model, arguments)))
    return saved


def damaged(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Return a file with damaged bytes, more of them in its header, and what was done."""
    array = np.frombuffer(data, np.uint8).copy()
    end = len(array) if rng.random() < 0.5 else 8 + int.from_bytes(data[:8], "little")
    place = int(rng.integers(end))
    how = ("bit", "byte", "cut", "zeros", "more", "swap", "length")[rng.integers(7)]
    if how == "bit":
        array[place] ^= 1 << rng.integers(8)
    elif how == "byte":
        array[place] = rng.integers(256)
    elif how == "cut":
        return data[:place], f"cut at {place}"
    elif how == "zeros":
        array[place : place + 64] = 0
    elif how == "more":
        return data[:place] + rng.bytes(9) + data[place:], f"9 bytes more at {place}"
    elif how == "swap":
        half = min(64, (len(array) - place) // 2)
        array[place : place + 2 * half] = np.roll(array[place : place + 2 * half], half)
    else:
        return int(rng.integers(2**63)).to_bytes(8, "little") + data[8:], "another length"
    return array.tobytes(), f"{how} at {place}"


def forged(path: Path, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, torch.Tensor], str]:
    """Return the document and the tensors of a file with one of them replaced, and what was done."""
    document, tensors = _persistence.read(path)
    if tensors and rng.random() < 0.5:
        key = list(tensors)[rng.integers(len(tensors))]
        how = ("nan", "inf", "other", "missing", "additional", "spoiled", "huge")[rng.integers(7)]
        tensor = tensors[key]
        if how == "missing":
            del tensors[key]
        elif how == "additional":
            tensors["nope"] = tensor.clone()
        elif how == "other":
            tensors[key] = tensors[list(tensors)[rng.integers(len(tensors))]].clone()
        elif how == "spoiled":
            other = SPOILS_OF_TENSORS[rng.integers(16)](tensor) if tensor.ndim else tensor.new_zeros(3)
            other = other.double() if other.dtype == torch.bfloat16 else other  # files have no such type
            tensors[key] = other.detach().contiguous().clone()
        elif tensor.is_floating_point() and tensor.numel():
            tensor.view(-1)[rng.integers(tensor.numel())] = {"nan": np.nan, "inf": np.inf, "huge": 1e3}[how]
        return document, tensors, f"{how}: {key}"
    place: Any = document
    trail = []
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[rng.integers(len(keys))]
        trail.append(key)
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.1:
            break
        place = place[key]
    bad = [None, True, -1, 0, 1, 3, 10**30, 0.5, 1e300, float("nan"), float("inf"), "nope", "", [], {}, {"list": [1]}]
    if rng.random() < 0.2:
        del place[key]
        return document, tensors, f"without {trail}"
    place[key] = copy.deepcopy(bad[rng.integers(len(bad))])
    return document, tensors, f"{trail}={place[key]!r}"


def caller_random() -> list[bytes]:
    return [torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()]  # noqa: NPY002


def load_file(saved: Any, number: int, rng: np.random.Generator) -> Record:
    """Damage or forge a file, load it, and judge what happens."""
    name, cls, arguments, path, expected = saved
    other = Path("damaged.model").absolute()
    is_forged = rng.random() < 0.5
    if is_forged:
        document, tensors, how = forged(path, rng)
        with warnings.catch_warnings():
            _persistence.write(other, {k: v for k, v in document.items() if k not in ("format", "versions")}, tensors)
    else:
        data, how = damaged(path.read_bytes(), rng)
        other.write_bytes(data)
    shown = f"{name}, {how}"
    state = caller_random()
    try:
        model = cls.load(other)
        found = answers(model, arguments)
    except Exception as error:
        verdict, message = judged(error, [str(other), "X"])
        if isinstance(error, ValueError) and str(error).startswith(str(other)):
            verdict = "clear"  # a reason of a library, behind the name of the file, is all there is to say
        return Record("files", number, shown, verdict, message)
    if caller_random() != state:
        return Record("files", number, shown, "silent", "random numbers of the caller were used up")
    if not is_finite(found):
        return Record("files", number, shown, "silent", "the result is not finite")
    if not is_forged and not np.array_equal(np.asarray(found), np.asarray(expected)):
        return Record("files", number, shown, "silent", "the file is damaged but loads as another model")
    return Record("files", number, shown, "right", "")


# -- threads and forks


def in_parallel(area: str, saved: Any, number: int, rng: np.random.Generator) -> Record:
    """Ask one estimator in several threads, or in a fork after threads have run, and compare with one after another."""
    name, cls, arguments, path, expected = saved
    model = cls.load(path)
    torch.set_num_threads(2)
    torch.ones(300, 300) @ torch.ones(300, 300)  # starts the threads of PyTorch
    if area == "threads":
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: answers(model, arguments), range(8)))
    else:
        receiver, sender = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=lambda: sender.send(answers(model, arguments)))
        process.start()
        found = [receiver.recv()]
        process.join()
    same = all(np.array_equal(np.asarray(each), np.asarray(expected)) for each in found)
    return Record(area, number, name, "right" if same else "silent", "" if same else "other answers")


# -- the campaign


def work(area: str, seed: int, numbers: list[int], prepared: list[Any], sender: Any) -> None:
    """Do calls in this process; send the number of each before it begins, and its record."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stderr = os.fdopen(os.dup(2), "w")  # for errors of this script, without those of libraries
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        Path(folder, "valid.mid").write_bytes(Path("valid.mid").read_bytes() if Path("valid.mid").exists() else b"")
        os.chdir(folder)
        for number in numbers:
            rng = np.random.default_rng([seed, zlib.crc32(area.encode()), number])
            subject = prepared[number % len(prepared)]
            sender.send(number)
            if area == "files":
                record = load_file(subject, number, rng)
            elif area in ("threads", "forks"):
                record = in_parallel(area, subject, number, rng)
            else:
                record = call(area, subject, number, rng)
            sender.send(record)
        os.chdir("..")
    sender.send(None)


def run(area: str, seed: int, numbers: list[int], prepared: list[Any]) -> Iterator[Record]:
    """Yield the records of calls; replace a process that dies or takes too long."""
    while numbers:
        receiver, sender = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=work, args=(area, seed, numbers[:BATCH], prepared, sender))
        process.start()
        sender.close()
        current, verdict = numbers[0], "hang"
        try:
            while receiver.poll(SECONDS):
                message = receiver.recv()
                if message is None:
                    verdict = ""
                    break
                if isinstance(message, int):
                    current = message
                else:
                    numbers = [number for number in numbers if number != message.number]
                    yield message
        except EOFError:
            verdict = "crash"
        if verdict:
            process.kill()
        process.join()
        if verdict and current in numbers:
            numbers = [number for number in numbers if number != current]
            subject = prepared[current % len(prepared)]
            yield Record(area, current, f"{subject[0]}, call {current}", verdict, f"exit code {process.exitcode}")


def table(records: list[Record], areas: list[str]) -> str:
    """Return how many calls of each area had each verdict."""
    lines = ["| area | tried | " + " | ".join(VERDICTS) + " |", "|---|" + "---:|" * (len(VERDICTS) + 1)]
    for area in [*areas, "all"]:
        counts = collections.Counter(record.verdict for record in records if area in (record.area, "all"))
        cells = [sum(counts.values()), *(counts[verdict] for verdict in VERDICTS)]
        lines.append(f"| {area} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"a {QUICK}th of the calls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--areas", default=",".join(CALLS), help="comma-separated")
    parser.add_argument("--results", type=Path, help="file that keeps the records; calls in it are not repeated")
    parser.add_argument("--show", default="internal,crash,hang,silent", help="verdicts whose calls are printed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    matplotlib.use("Agg")
    warnings.simplefilter("ignore")
    areas = arguments.areas.split(",")
    path = arguments.results.absolute() if arguments.results else None
    records = []
    if path and path.exists():
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("]")]
        records = [Record(*line[1:]) for line in lines if line[0] == arguments.seed and line[1] in areas]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        saved = file_calls()
        for area in areas:
            prepared = list(AREAS[area]()) if area in AREAS else saved
            done = {record.number for record in records if record.area == area}
            wanted = range(-(-CALLS[area] // QUICK) if arguments.quick else CALLS[area])
            for record in run(area, arguments.seed, [n for n in wanted if n not in done], prepared):
                records.append(record)
                if record.verdict in arguments.show.split(","):
                    print(f"{record.verdict}: {record.name}: {record.message}"[:500], flush=True)
                if path:
                    with path.open("a") as file:
                        file.write(json.dumps([arguments.seed, *record]) + "\n")
        os.chdir("/")
    print(table(records, areas))
    counts = collections.Counter(record.verdict for record in records)
    failed = sum(counts[verdict] for verdict in VERDICTS[3:])
    sys.exit(f"{failed} calls failed, {counts['poor']} have poor messages." if failed else 0)


if __name__ == "__main__":
    main()
