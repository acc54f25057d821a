"""Effects of covariates on a series, against matrices by hand and simulated series, and their use in the forecaster."""

import numpy as np
import pandas as pd
import pytest

from sfmts import SFMForecaster
from sfmts.forecasting import effects as module
from sfmts.forecasting.effects import around_effects, covariate_effects

QUICK = {"random_state": 0, "device": "cpu", "max_iter": 2, "n_states": 4}


def walk(rng, n, columns=1):
    return rng.normal(size=(n, columns)).cumsum(axis=0)


def last_value(n_steps):
    """Return a forecast with a single quantile."""
    return lambda y: np.full((n_steps, 1), y[-1])


@pytest.mark.parametrize("n", [12, 60])  # fewer and more steps than twice the covariates
def test_ridge_regression_has_the_least_error_of_generalised_cross_validation(n):
    rng = np.random.default_rng(0)
    x, errors = rng.normal(size=(n, 7)), []
    y = x[:, 0] + rng.normal(size=n)
    x, y = x - x.mean(axis=0), y - y.mean()
    for penalty in module._PENALTIES:
        hat = x @ np.linalg.solve(x.T @ x + penalty * n * np.eye(7), x.T)
        used = (1 + module._CAUTION * np.trace(hat)) / n
        errors.append(np.square(y - hat @ y).mean() / (1 - used) ** 2 if used < 1 else np.inf)
    error, found = module._ridge(x, y)
    best = module._PENALTIES[int(np.argmin(errors))]
    np.testing.assert_allclose(error, min(errors))
    np.testing.assert_allclose(found, np.linalg.solve(x.T @ x + best * n * np.eye(7), x.T @ y))


@pytest.mark.parametrize("periods", [(), (12,), (7, 28)], ids=str)
@pytest.mark.parametrize("errors", ["independent", "walk", "seasonal"])
def test_effects_are_found_whatever_the_errors_are(errors, periods):
    rng, n = np.random.default_rng(1), 240
    covariates = np.column_stack([walk(rng, n), rng.random(n) < 0.1])
    season = 5 * np.sin(2 * np.pi * np.arange(n) / 12)
    rest = {"independent": rng.normal(size=n), "walk": walk(rng, n)[:, 0], "seasonal": season + rng.normal(size=n)}
    found = covariate_effects(covariates @ [2.0, -6.0] + rest[errors], covariates, periods)
    np.testing.assert_allclose(found, [2.0, -6.0], atol=1.0)


def test_walks_do_not_explain_walks():
    """Check the share of the variance of a walk that three others explain; least squares finds half of it."""
    explained, by_least_squares = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y, covariates = walk(rng, 80)[:, 0], walk(rng, 80, 3)
        y, covariates = y - y.mean(), covariates - covariates.mean(axis=0)
        for shares, found in (
            (explained, covariate_effects(y, covariates, ())),
            (by_least_squares, np.linalg.lstsq(covariates, y, rcond=None)[0]),
        ):
            shares.append((covariates @ found).var() / y.var())
    assert np.mean(by_least_squares) > 0.5
    assert np.mean(explained) < 0.05


def test_units_do_not_matter():
    rng = np.random.default_rng(2)
    covariates = walk(rng, 60, 2)
    y = covariates @ [1.0, 3.0] + rng.normal(size=60)
    found = covariate_effects(y, covariates, (12,))
    for unit in (1e-150, 1e150):
        np.testing.assert_allclose(covariate_effects(unit * y + unit, covariates, (12,)), unit * found)
        np.testing.assert_allclose(covariate_effects(y, covariates * [unit, 1], (12,)), found / [unit, 1])


@pytest.mark.parametrize(
    ("y", "covariates"),
    [(np.ones(30), np.eye(30)), (np.arange(7.0), np.eye(7)), (np.arange(30.0), np.ones((30, 2))), (np.eye(9)[0], [[]])],
    ids=["constant series", "short series", "constant covariates", "no covariates"],
)
def test_without_effects(y, covariates):
    covariates = np.resize(covariates, (len(y), np.shape(covariates)[1]))
    np.testing.assert_array_equal(covariate_effects(y, covariates, ()), np.zeros(covariates.shape[1]))


def test_are_taken_off_and_added():
    rng = np.random.default_rng(3)
    covariates = rng.normal(size=(64, 2))
    values = covariates[:60] @ [[3.0, 0.0], [0.0, -2.0]] + 10.0
    found = around_effects(last_value(4), values, covariates, ())
    np.testing.assert_allclose(found[:, :, 0], covariates[60:] @ [[3.0, 0.0], [0.0, -2.0]] + 10.0, atol=0.1)
    known = around_effects(last_value(4), values, covariates, (), past_only=[0])
    np.testing.assert_array_equal(known, around_effects(last_value(4), values, covariates[:, 1:], ()))


class TestForecaster:
    def data(self):
        """Two years and a half of months with campaigns."""
        rng = np.random.default_rng(4)
        months = pd.period_range("2020-01", periods=30, freq="M")
        X = pd.DataFrame({"campaign": (rng.random(30) < 0.3).astype(float), "noise": rng.normal(size=30)}, index=months)
        y = 100.0 + walk(rng, 30)[:, 0] + 20.0 * X["campaign"]
        X.loc[months[-6:], "campaign"] = [0, 1, 0, 0, 1, 1]
        return y[:-6], X

    def test_the_pool_takes_exogenous_variables_into_account(self):
        y, X = self.data()
        model = SFMForecaster(**QUICK).fit(y, X=X[:-6], fh=range(1, 7))
        assert model.model_weight_ == 0
        forecast = model.predict(X=X[-6:])
        level = forecast[X["campaign"][-6:] == 0]
        campaign = forecast[X["campaign"][-6:] == 1]
        np.testing.assert_allclose(campaign.mean() - level.mean(), 20.0, atol=4.0)
        positions, history = model.historical_forecasts(y, X=X[:-6], start=12)
        assert history.shape == (len(positions), 6, 1)
        one_step = model.predict(fh=range(-10, 1), X=X[-6:])
        assert np.abs(one_step - y[-11:]).mean() < 3.0

    def test_past_covariates_change_no_forecast_of_the_pool(self):
        y, X = self.data()
        models = [
            SFMForecaster(**QUICK, past_covariates=["noise"]).fit(y, X=X[:-6].assign(noise=X["noise"] * sign), fh=[1])
            for sign in (1.0, -1.0)
        ]
        known = X[["campaign"]][-6:]
        assert models[0].model_weight_ == 0
        pd.testing.assert_series_equal(*(model.predict(X=known) for model in models))
