"""Estimators inside a caller's autocast."""

import numpy as np
import pandas as pd
import pytest
import torch

from sfmts import (
    PanelScaler,
    SFMClassifier,
    SFMDensity,
    SFMFeatures,
    SFMForecaster,
    SFMLabeler,
    SFMRegressor,
    SFMRidgeClassifier,
    SFMRidgeRegressor,
)
from sfmts.heads import ClassificationHead
from sfmts.networks import make_network
from sfmts.training import SequenceBatch, SequenceModel, evaluate
from tests.helpers import make_panel

pytestmark = pytest.mark.filterwarnings("ignore:The default of config:FutureWarning")
METHODS = (
    "predict",
    "predict_proba",
    "decision_function",
    "transform",
    "score_samples",
    "state_amplitudes",
)
TINY = {"n_states": 4, "max_iter": 2, "random_state": 0}
BANK = {"n_features": 112, "random_state": 0}
ESTIMATORS = {
    "classifier": SFMClassifier(base=None, **TINY),
    "lstm": SFMClassifier("lstm", base=None, **TINY, early_stopping=True),
    "resonator": SFMClassifier("resonator", base=None, **TINY),
    "regressor": SFMRegressor(base=None, **TINY),
    "labeler": SFMLabeler(**TINY),
    "density": SFMDensity(**TINY),
    "nade": SFMDensity(**TINY, head="nade"),
    "rbm": SFMDensity(**TINY, head="rbm"),
    "features": SFMFeatures(**BANK),
    "fused features": SFMFeatures(**BANK, backend="fused"),
    "ridge classifier": SFMRidgeClassifier(**BANK, backend="fused"),
    "ridge regressor": SFMRidgeRegressor(**BANK, backend="fused"),
    "scaler": PanelScaler(),
}


def data(estimator):
    X, y = make_panel(ragged=True)
    X = [series.astype(np.float32) for series in X]
    if isinstance(estimator, SFMDensity):
        X = [(series > 0).astype(np.float32) for series in X]
    return X, [(series[:, 0] > 0).astype(int) for series in X] if isinstance(estimator, SFMLabeler) else y


def results(estimator, X):
    found = {name: getattr(estimator, name)(X) for name in METHODS if hasattr(estimator, name)}
    if hasattr(estimator, "sample"):
        found["sample"] = [estimator.sample(5, random_state=0)]
    return {name: np.concatenate([np.ravel(part) for part in value]) for name, value in found.items()}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_autocast_of_the_caller_changes_nothing(name):
    estimator = ESTIMATORS[name]
    X, y = data(estimator)
    expected = results(estimator.fit(X, y), X)
    assert expected
    with torch.autocast("cpu"):
        inside = results(estimator, X)
        again = results(estimator.fit(X, y), X)
    for found in (inside, again):
        assert found.keys() == expected.keys()
        for method, value in found.items():
            np.testing.assert_array_equal(value, expected[method], err_msg=method)


def test_autocast_of_the_caller_does_not_change_an_evaluation():
    generator = torch.Generator().manual_seed(0)
    network = make_network("fnet", 2, n_states=4, generator=generator)
    model = SequenceModel(network, ClassificationHead(4, 2, generator=generator))
    data = SequenceBatch(torch.randn(30, 2, generator=generator), torch.full((3,), 10), target=torch.tensor([0, 1, 1]))
    expected = evaluate(model, data, 2)
    with torch.autocast("cpu"):
        assert evaluate(model, data, 2) == expected


def test_autocast_of_the_caller_does_not_change_a_forecast():
    y = pd.Series(np.sin(np.arange(60.0)))
    options = {"n_states": 4, "max_iter": 2, "context_length": 8, "random_state": 0}
    expected = SFMForecaster(**options).fit(y, fh=[1, 2]).predict()
    with torch.autocast("cpu"):
        found = SFMForecaster(**options).fit(y, fh=[1, 2]).predict()
    pd.testing.assert_series_equal(found, expected, check_exact=True)
