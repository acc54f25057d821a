"""Saved models of every estimator load in later versions, and predict what they predicted then.

The files and numbers in ``tests/data`` were made with ``python -m tests.test_golden``. A change that breaks this test
needs a new format in ``sfmts/_persistence.py``, not new files.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import sfmts

DATA = Path(__file__).parent / "data"
SMALL = {"n_states": 2, "n_frequencies": 2, "max_iter": 2, "random_state": 0}
STAMPED = {"network_params": {"frequencies": "adaptive"}, "time_channel": 1, "optimizer_params": {"clip_norm": None}}
MODELS = {
    "SFMClassifier": {**SMALL, **STAMPED, "base": None},
    "SFMRegressor": {**SMALL, "base": None, "network": "lstm", "bidirectional": True, "pooling": "mean"},
    "SFMLabeler": {**SMALL, "network": "resonator", "n_layers": 1},
    "SFMDensity": {**SMALL, "head": "nade", "n_hidden": 2},
    "SFMFeatures": {"n_features": 56, "random_state": 0},
    "SFMRidgeClassifier": {"n_features": 56, "random_state": 0, "time_channel": 1},
    "SFMRidgeRegressor": {"n_features": 56, "random_state": 0, "directions": "forward"},
}


def series(n=6):
    """Return series of unequal length whose second channel increases, like time stamps."""
    lengths = [5 + i % 4 for i in range(n)]
    return [
        np.column_stack([np.sin((0.4 + 0.3 * (i % 2)) * np.arange(T) + i), np.arange(T) * 1.5])
        for i, T in enumerate(lengths)
    ]


def data(name):
    """Return the series and targets of an estimator."""
    X = series()
    if name == "SFMDensity":
        return [(x > 0.5).astype(float) for x in X], None
    if name == "SFMLabeler":
        return X, [np.where(x[:, 0] > 0, "up", "down") for x in X]
    return X, (np.array([0.5, 1.0, 2.0, 4.0, 3.0, 1.0]) if "Regressor" in name else np.array(["a", "b"] * 3))


def results(model, X):
    """Return what a model says of series, as one list of numbers."""
    for method in ("score_samples", "predict_proba", "predict", "transform"):
        if hasattr(model, method):
            return np.concatenate([np.ravel(part) for part in getattr(model, method)(X)]).astype(float).tolist()
    raise AssertionError(model)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_predicts_what_it_predicted(name):
    expected = json.loads((DATA / "golden.json").read_text(encoding="utf-8"))[name]
    model = getattr(sfmts, name).load(DATA / f"golden_{name}.safetensors")
    parameters = {key: value for key, value in model.get_params().items() if key in MODELS[name]}
    assert parameters == MODELS[name]
    np.testing.assert_allclose(results(model, data(name)[0]), expected, rtol=1e-4, atol=1e-5)


def make():
    """Fit and save all models, and write down their predictions."""
    DATA.mkdir(exist_ok=True)
    numbers = {}
    for name, options in MODELS.items():
        X, y = data(name)
        model = getattr(sfmts, name)(**options).fit(X, y)
        model.save(DATA / f"golden_{name}.safetensors")
        numbers[name] = [float(f"{value:.9g}") for value in results(model, X)]
    (DATA / "golden.json").write_text(json.dumps(numbers) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make()
