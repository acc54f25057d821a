"""Anchors, ridge regression, and the start of a HorizonModel."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sktime.forecasting.naive import NaiveForecaster

from sfmts.forecasting.linear import LinearForecast, anchors, start_from_linear
from sfmts.forecasting.model import HorizonModel, HorizonShape
from sfmts.forecasting.windows import window_set
from sfmts.heads import QuantileHead
from sfmts.networks import make_network
from tests.helpers import every_pair

pytestmark = pytest.mark.filterwarnings("ignore:The default of config:FutureWarning")


def series(n=90, n_variables=1, seed=0, period=6):
    rng, t = np.random.default_rng(seed), np.arange(n)[:, None]
    return np.sin(2 * np.pi * (t / period + rng.random(n_variables))) + 0.3 * rng.normal(size=(n, n_variables)) + 4.0


def windows_of(y, L=12, H=8, X=None, joint=False, first=None, last=None):
    X = np.zeros((len(y), 0)) if X is None else X
    first, last = L if first is None else first, len(y) - 1 if last is None else last
    windows = window_set([y], [X], L, H, joint=joint, first=[first], last=[last])
    return windows.to(torch.device("cpu"), torch.float64)


class TestAnchors:
    @pytest.mark.parametrize(
        ("name", "forecaster"),
        [
            ("mean", NaiveForecaster("mean")),
            ("last", NaiveForecaster("last")),
            ("drift", NaiveForecaster("drift")),
            ("season", NaiveForecaster("last", sp=5)),
            ("season mean", NaiveForecaster("mean", sp=5)),
        ],
    )
    @pytest.mark.parametrize("L", [10, 13])
    def test_are_naive_forecasts(self, name, forecaster, L):
        y = np.random.default_rng(0).normal(size=L)
        matrices = {**anchors(L, 12, ()), **anchors(L, 12, (5,))}
        whole = y[-(L // 5) * 5 :] if name == "season mean" else y
        expected = forecaster.fit(pd.Series(whole), fh=range(1, 13)).predict()
        found = matrices[name].numpy() @ (y - y.mean()) + y.mean()
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_season_moved_on(self):
        """Of a trend and a season nothing is left."""
        t = np.arange(30)
        y = 0.7 * t + np.array([3.0, -1.0, 4.0, 0.0, 2.0])[t % 5]
        past = y[:15]
        found = anchors(15, 15, (5,))["season drift"].numpy() @ (past - past.mean()) + past.mean()
        np.testing.assert_allclose(found, y[15:], rtol=1e-12)

    def test_means_of_two(self):
        matrices = anchors(10, 4, ())
        torch.testing.assert_close(matrices["mean + drift"], matrices["drift"] / 2)

    def test_of_a_single_step(self):
        assert {name for name in anchors(1, 3, (12,)) if "+" not in name} == {"mean", "last"}

    def test_have_to_do_with_the_season(self):
        assert all("season" in name for name in anchors(12, 3, (6,)))
        assert "drift" in anchors(5, 3, (6,))  # the past is shorter than a season

    def test_of_several_seasons(self):
        matrices = anchors(20, 5, (4, 8))
        for name, period in (("season", 8), ("season mean", 8), ("season 4", 4), ("season mean 4", 4)):
            alone = anchors(20, 5, (period,))[name.removesuffix(" 4")]
            torch.testing.assert_close(matrices[name], alone)
        assert "season 4" in anchors(6, 5, (4, 8))


class TestLinearForecast:
    @every_pair(penalty=[1e-3, 0.1, 10.0], anchor=["mean", "drift"], joint=[False, True])
    def test_is_ridge_regression_around_the_anchor(self, anchor, penalty, joint):
        windows = windows_of(series(n_variables=2), joint=joint)
        batch = windows.take(torch.nonzero(windows.weight == 1)[:, 0])
        A = batch.past.transpose(1, 2).reshape(-1, 12).numpy()
        B = batch.target.transpose(1, 2).reshape(-1, 8).numpy()
        assert np.isfinite(B).all()
        start = anchors(12, 8, ())[anchor].numpy()
        ridge = np.vstack([A, math.sqrt(penalty * len(A)) * np.eye(12)])
        change = np.linalg.lstsq(ridge, np.vstack([B - A @ start.T, np.zeros((12, 8))]))[0].T
        found = LinearForecast(windows, ()).weights(anchor, penalty)
        np.testing.assert_allclose(found, start + change, rtol=1e-8, atol=1e-10)

    def test_without_a_whole_window_or_with_an_infinite_penalty_is_the_anchor(self):
        short = LinearForecast(windows_of(series(15)), (6,))
        assert short.n == 0
        for linear, penalty in ((short, 0.1), (LinearForecast(windows_of(series()), (6,)), math.inf)):
            torch.testing.assert_close(
                linear.weights("season", penalty), anchors(12, 8, (6,))["season"], rtol=0, atol=0
            )

    def test_is_chosen_where_it_helps(self):
        rng = np.random.default_rng(0)
        y = np.zeros((400, 1))
        for t in range(2, 400):
            y[t] = 1.6 * y[t - 1] - 0.9 * y[t - 2] + rng.normal()
        train, valid = windows_of(y, H=4, last=300), windows_of(y, H=4, first=305)
        linear = LinearForecast(train, ())
        anchor, penalty = linear.choose(valid)
        assert math.isfinite(penalty)
        assert linear.choose(valid, penalized=False) == (anchor, math.inf)

    def test_is_not_chosen_where_there_is_nothing_to_learn(self):
        y = np.random.default_rng(0).normal(size=(200, 1)).cumsum(axis=0)
        anchor, penalty = LinearForecast(windows_of(y, last=150), ()).choose(windows_of(y, first=158))
        assert "last" in anchor
        assert penalty == math.inf or penalty >= 1.0

    def test_is_chosen_on_what_covariates_leave(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(200, 1))
        y = 0.3 * rng.normal(size=(200, 1)).cumsum(axis=0) + 3.0 * X
        train, valid = windows_of(y, X=X, last=150), windows_of(y, X=X, first=158)
        scale = train.take(torch.arange(len(train))).scale
        slope = torch.full((1, 1, 1), float(3.0 / scale.mean()), dtype=torch.float64)
        assert LinearForecast(train, ()).choose(valid)[0] == "mean"  # the noise of X hides the rest
        assert "last" in LinearForecast(train, (), slope).choose(valid)[0]


def model_of(windows, n_covariates=0, segment=1, seed=0, n_series=1):
    shape = HorizonShape(windows.context_length, windows.horizon, segment, windows.n_variables, n_covariates, n_series)
    network = make_network("gru", 4, n_states=4, generator=torch.Generator().manual_seed(seed))
    return HorizonModel(network, QuantileHead(), shape, generator=torch.Generator().manual_seed(seed)).double()


def output_of(model, windows):
    batch = windows.take(torch.arange(len(windows)))
    with torch.no_grad():
        return batch.past, model.head.quantiles(model.eval().features_of(batch)[0])


class TestStart:
    @pytest.mark.parametrize("joint", [False, True])
    @pytest.mark.parametrize("segment", [1, 5, 12])
    def test_is_the_linear_forecast_with_the_quantiles_of_its_residuals(self, segment, joint):
        windows = windows_of(series(150, n_variables=2), joint=joint)
        weights = LinearForecast(windows, (6,)).weights("season", 0.1)
        model = model_of(windows, segment=segment, n_series=1 if joint else 2)
        start_from_linear(model, windows, weights, torch.Generator())
        past, quantiles = output_of(model, windows)
        expected = torch.einsum("blv,hl->bhv", past, weights)
        torch.testing.assert_close(quantiles[..., model.head.middle], expected, rtol=1e-6, atol=1e-6)
        rest = windows.target - expected
        wanted = rest.nanquantile(model.head.levels, dim=0).permute(1, 2, 0)
        away = (quantiles - quantiles[..., model.head.middle, None])[0]
        torch.testing.assert_close(away, wanted - wanted[..., model.head.middle, None], rtol=1e-4, atol=1e-4)

    def test_other_networks_start_the_same(self):
        windows = windows_of(series())
        weights = anchors(12, 8, (6,))["season"]
        models = [model_of(windows, seed=seed) for seed in (0, 1)]
        for model in models:
            start_from_linear(model, windows, weights, torch.Generator())
        torch.testing.assert_close(*(output_of(model, windows)[1] for model in models), rtol=0, atol=0)

    @pytest.mark.parametrize("anchor", ["mean", "last", "drift"])
    def test_covariates_explain_all_whatever_the_anchor(self, anchor):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(300, 2))
        windows = windows_of(X @ [[2.0], [-1.0]] + 7.0, L=60, X=X)  # long windows vary by the same, all but
        model = model_of(windows, n_covariates=2)
        start_from_linear(model, windows, anchors(60, 8, ())[anchor], torch.Generator())
        _, quantiles = output_of(model, windows)
        errors = (quantiles[..., model.head.middle] - windows.target).abs()
        assert float(errors.nanmean()) < 0.2 * float(windows.target.abs().nanmean())

    def test_quantiles_where_few_targets_are_known(self):
        """A step that no window reaches is no more certain than one before it."""
        y = np.random.default_rng(0).normal(size=(9, 1)).cumsum(axis=0)
        windows = windows_of(y, L=4, H=8, first=4)
        model = model_of(windows)
        start_from_linear(model, windows, anchors(4, 8, ())["last"], torch.Generator())
        quantiles = output_of(model, windows)[1][0, :, 0]
        width = quantiles[:, -1] - quantiles[:, 0]
        assert (width > 0.5).all()
        assert (width[5:] >= width[:5].max()).all()  # no window reaches the last three

    def test_of_a_constant(self):
        windows = windows_of(np.full((60, 1), 3.0))
        model = model_of(windows)
        start_from_linear(model, windows, anchors(12, 8, ())["last"], torch.Generator())
        quantiles = output_of(model, windows)[1]
        assert float(quantiles.abs().max()) < 0.1


def test_a_regression_that_overflows_is_never_the_best(monkeypatch):
    y = series()
    linear, valid = LinearForecast(windows_of(y, last=60), ()), windows_of(y, first=66)
    expected, weights = linear.choose(valid), LinearForecast.weights
    assert expected[1] < 1e5

    def overflowed(self, anchor, penalty):
        return weights(self, anchor, penalty) * (math.nan if penalty == 1e5 else 1.0)

    monkeypatch.setattr(LinearForecast, "weights", overflowed)
    assert linear.choose(valid) == expected
