"""Model selection on a cluster: dask workers in processes of their own, here all on one machine."""

import importlib
import os
import signal
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import torch
from dask.distributed import Client, LocalCluster
from joblib import parallel_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sktime.forecasting.model_selection import ForecastingGridSearchCV
from sktime.split import ExpandingWindowSplitter

from sfmts import SFMClassifier
from tests.helpers import make_panel

N_WORKERS = 2
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
GRID = {"network": ["sfm", "lstm"], "n_states": [2, 4]}

# Where a forecaster is, its parameters, and a grid over two of its kind.
FORECASTERS = [
    ("sktime.forecasting.trend.PolynomialTrendForecaster", {"with_intercept": True}, {"degree": [1, 3]}),
    ("sfmts.SFMForecaster", {"max_iter": 2, "random_state": 0}, {"n_states": [2, 4]}),
]


@pytest.fixture(scope="module")
def client():
    """Two workers with one thread each, and dask's defaults in all else."""
    with pytest.MonkeyPatch.context() as patch:
        for name in THREADS:
            patch.delenv(name, raising=False)  # it is dask that must limit them
        patch.setattr(torch.cuda, "set_by_the_parent", True, raising=False)
        with (
            LocalCluster(n_workers=N_WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            yield client


def scores(search):
    """What a search found, without the times that it took."""
    return {name: value for name, value in search.cv_results_.items() if "_test_" in name}


def accuracy_and_place(model, X, y):
    return {"accuracy": model.score(X, y), "process": os.getpid(), "threads": torch.get_num_threads()}


@pytest.mark.slow
@pytest.mark.parametrize("ragged", [False, True], ids=["3-D", "ragged"])
def test_a_search_on_workers_of_one_thread_finds_the_same(client, ragged):
    X, y = make_panel(ragged=ragged)
    search = GridSearchCV(
        SFMClassifier(base=None, max_iter=3, random_state=0), GRID, cv=3, scoring=accuracy_and_place, refit="accuracy"
    )
    expected = search.fit(X, y)
    best, places = expected.best_params_, {}
    here = scores(expected)
    with parallel_config(backend="dask"):
        search.set_params(n_jobs=-1).fit(X, y)
    there = scores(search)
    for name, value in here.items():
        if "accuracy" in name:
            np.testing.assert_array_equal(there[name], value, err_msg=name)
        elif name.startswith("split"):
            places.setdefault(name.rsplit("_", 1)[1], set()).update(there[name].tolist())
    assert search.best_params_ == best
    assert places["threads"] == {1}
    assert places["process"] <= set(client.run(os.getpid).values())


def test_workers_inherit_nothing_of_the_parents_cuda(client):
    assert dask.config.get("distributed.worker.multiprocessing-method") == "spawn"
    assert torch.cuda.set_by_the_parent
    inherited = client.run(lambda: hasattr(torch.cuda, "set_by_the_parent") or torch.cuda.is_initialized())
    assert list(inherited.values()) == [False] * N_WORKERS


class KillsItsWorker(TransformerMixin, BaseEstimator):
    """Hands series on, but ends the first process other than ``parent`` in which it is fitted."""

    def __init__(self, marker, parent):
        self.marker, self.parent = marker, parent

    def fit(self, X, y=None):
        self.fitted_ = True
        if os.getpid() != self.parent:
            try:
                Path(self.marker).touch(exist_ok=False)
            except FileExistsError:
                return self
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def transform(self, X):
        return X


@pytest.mark.slow
@pytest.mark.parametrize("ragged", [False, True], ids=["3-D", "ragged"])
def test_fits_of_a_killed_worker_are_repeated(client, tmp_path, ragged):
    """All workers must have the data, and keep them: by default joblib gives a large array to one of them."""
    X, y = make_panel(n=60, n_steps=40, ragged=ragged)
    marker = tmp_path / "killed"
    model = SFMClassifier(base=None, max_iter=2, random_state=0)
    pipeline = Pipeline([("kill", KillsItsWorker(str(marker), os.getpid())), ("model", model)])
    grid = {f"model__{name}": values for name, values in GRID.items()}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise")
    expected = scores(search.fit(X, y))
    assert not marker.exists()
    client.amm.stop()  # dask's memory manager, which drops copies
    client.wait_for_workers(N_WORKERS)
    before = set(client.run(os.getpid).values())
    with parallel_config(backend="dask", scatter=[X, y]):
        search.set_params(n_jobs=-1).fit(X, y)
    assert marker.exists()
    for name, value in expected.items():
        np.testing.assert_array_equal(scores(search)[name], value, err_msg=name)
    assert search.predict(X).shape == y.shape
    client.wait_for_workers(N_WORKERS)
    assert len(before & set(client.run(os.getpid).values())) == N_WORKERS - 1


@pytest.mark.parametrize("backend", ["dask", "loky"])
@pytest.mark.parametrize(("path", "parameters", "grid"), FORECASTERS, ids=[path for path, *_ in FORECASTERS])
def test_a_search_among_forecasters_finds_the_same(client, path, parameters, grid, backend):
    module, name = path.rsplit(".", 1)
    forecaster = getattr(importlib.import_module(module), name)(**parameters)
    t = np.arange(48)
    y = pd.Series(np.sin(t / 3) + 0.1 * t, index=pd.period_range("2020-01", periods=len(t), freq="M"))
    cv = ExpandingWindowSplitter(fh=[1, 2, 3], initial_window=30, step_length=6)

    def search(backend):
        found = ForecastingGridSearchCV(forecaster, cv=cv, param_grid=grid, backend=backend, error_score="raise")
        return found.fit(y)

    expected, found = search(None), search(backend)
    columns = [column for column in expected.cv_results_ if "time" not in column]
    assert any(column.startswith("mean_test_") for column in columns)
    pd.testing.assert_frame_equal(found.cv_results_[columns], expected.cv_results_[columns], check_exact=True)
    pd.testing.assert_series_equal(found.predict(fh=[1, 2]), expected.predict(fh=[1, 2]), check_exact=True)
