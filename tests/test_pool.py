"""The pool of simple forecasts, against recursions by hand and simulated series, and its use in the forecaster."""

import numpy as np
import pandas as pd
import pytest

from sfmts import SFMForecaster
from sfmts.forecasting import pool as module
from sfmts.forecasting.pool import pool

LEVELS = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
QUICK = {"random_state": 0, "device": "cpu", "max_iter": 2, "n_states": 4}


def walk(seed=0, n=40):
    """Return a random walk."""
    return np.random.default_rng(seed).normal(size=n).cumsum()


def candidates(y, n_steps=3, period=1):
    """Return the forecasts of all members, (origins, parameters, steps)."""
    series = module._Series.of(y, n_steps, period)
    return dict(module._candidates(series)), series


def test_members_are_the_recursions():
    y = walk()
    found, _ = candidates(y)
    last = {name: values[-1] for name, values in found.items()}
    ahead, n = np.arange(1, 4), len(y)
    np.testing.assert_allclose(last["last"], [[y[-1]] * 3])
    np.testing.assert_allclose(last["mean"], [[y.mean()] * 3])
    np.testing.assert_allclose(last["half drift"], [y[-1] + 0.5 * ahead * (y[-1] - y[0]) / (n - 1)])
    slope, intercept = np.polyfit(np.arange(n), y, 1)
    for place, alpha in enumerate(module._SMOOTHING):
        level, theta = y[0], 2 * y[0] - intercept
        for t in range(1, n):
            level = alpha * y[t] + (1 - alpha) * level
            theta = alpha * (2 * y[t] - intercept - slope * t) + (1 - alpha) * theta
        np.testing.assert_allclose(last["smoothing"][place], [level] * 3)
        line = intercept + slope * (n - 1 + ahead)
        np.testing.assert_allclose(last["theta"][place], 0.5 * line + 0.5 * theta)
    for name, parameters in (("damped trend", module._DAMPED), ("trend", module._TREND)):
        grid = [values.ravel() for values in np.meshgrid(*parameters, indexing="ij")]
        for place, (alpha, beta, phi) in enumerate(zip(*grid, strict=True)):
            start = np.median(np.diff(y[:4]))
            level, trend = y[0] - start, start
            for value in y:
                error = value - level - phi * trend
                level, trend = level + phi * trend + alpha * error, phi * trend + alpha * beta * error
            expected = level + trend * np.cumsum(phi**ahead)
            np.testing.assert_allclose(last[name][place], expected, rtol=1e-9)


def test_the_season_before():
    found, _ = candidates(np.arange(20.0), n_steps=6, period=4)
    np.testing.assert_array_equal(found["season"][-1, 0], [16, 17, 18, 19, 16, 17])


@pytest.mark.parametrize("multiplicative", [True, False])
def test_seasonal_indices_of_a_pure_season_are_exact(multiplicative):
    season = np.array([0.8, 1.0, 1.3, 0.9])
    y = 10 * np.tile(season, 6) if multiplicative else 10 + np.tile(season, 6)
    expected = season / season.mean() if multiplicative else season - season.mean()
    np.testing.assert_allclose(module._seasonal_indices(y, 4, multiplicative), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(pool(y, 8, 4, LEVELS)[:, 3], np.tile(y[:4], 2), rtol=1e-6)


def test_noise_without_a_season_has_small_indices():
    rng = np.random.default_rng(0)
    raw, shrunk = [], []
    for _ in range(50):
        y = rng.normal(size=48)
        shrunk.append(np.abs(module._seasonal_indices(y, 12, False)).mean())
        by_phase = y.reshape(4, 12).mean(axis=0)
        raw.append(np.abs(by_phase - by_phase.mean()).mean())
    assert np.mean(shrunk) < 0.5 * np.mean(raw)


def test_errors_count_from_when_they_are_known():
    errors = np.abs(np.random.default_rng(0).normal(size=(8, 3)))
    errors[6:, 1:] = np.nan
    found = module._known_errors(errors, 0.5)
    for t in range(8):
        pairs = [(r, k) for r in range(8) for k in range(1, 4) if r + k <= t]
        assert found[t] == pytest.approx(
            sum(0.5 ** (t - r - k) * np.nan_to_num(errors[r, k - 1]) for r, k in pairs), abs=1e-12
        )


def test_no_forecast_looks_ahead(monkeypatch):
    """Without a season, what is forecast from a step does not depend on what follows."""
    monkeypatch.setattr(module, "_decay", lambda series: 0.9)
    y = walk(n=30)
    for n in (6, 15, 29):
        whole, part = candidates(y)[1], candidates(y[:n])[1]
        forecasts, errors = module._members(whole)
        earlier, earlier_errors = module._members(part)
        for name, values in earlier.items():
            np.testing.assert_allclose(forecasts[name][:n], values, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(errors[:, :n], earlier_errors, rtol=1e-9)


@pytest.mark.parametrize("period", [1, 4])
def test_units_do_not_matter(period):
    y = walk() - 20  # not all positive, so that the season is additive
    base = pool(y, 5, period, LEVELS)
    np.testing.assert_allclose(pool(1000.0 * y, 5, period, LEVELS), 1000.0 * base, rtol=1e-6)
    np.testing.assert_allclose(pool(y + 10.0, 5, period, LEVELS), base + 10.0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("period", [1, 4])
@pytest.mark.parametrize(
    "y", [[3.0], [1.0, 2.0], [0.0, 0.0, 0.0], [5.0] * 20, [1e200, 3e200, 2e200], [1e-200, 3e-200, 2e-200], range(9)]
)
def test_short_constant_and_extreme_series(y, period):
    y = np.array(y, dtype=float)
    quantiles = pool(y, 3, period, LEVELS)
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    if np.ptp(y) == 0:
        np.testing.assert_array_equal(quantiles, y[0])


@pytest.mark.parametrize("kind", ["noise", "walk", "season"])
def test_intervals_cover(kind):
    """90 % intervals of 200 simulated series of 60 steps cover about 90 %."""
    rng, inside = np.random.default_rng(0), []
    for _ in range(200):
        y = rng.normal(size=64)
        y = y.cumsum() if kind == "walk" else y + 5 * np.sin(np.pi * np.arange(64) / 2) if kind == "season" else y
        low, *_, high = pool(y[:60], 4, 4 if kind == "season" else 1, LEVELS).T
        inside.append((low <= y[60:]) & (y[60:] <= high))
    assert 0.85 < np.mean(inside) < 0.96


def test_a_jump_is_followed_and_does_not_explode():
    y = np.r_[np.full(40, 10.0), np.full(6, 50.0)] + np.random.default_rng(0).normal(size=46)
    quantiles = pool(y, 4, 1, LEVELS)
    assert (np.abs(quantiles[:, 3] - 50) < 10).all()
    assert quantiles.max() < 150


class TestForecaster:
    """Where the network cannot be validated, the forecaster is the pool."""

    def test_short_series(self):
        y = pd.Series(walk(n=20), index=pd.period_range("2000", periods=20, freq="Y"))
        model = SFMForecaster(**QUICK).fit(y, fh=[1, 2, 3])
        assert model.is_pooled_
        assert model.n_iter_ == 0
        levels = model.module_.head.levels.numpy().astype(float)
        expected = pool(y.to_numpy(), 3, 1, levels)
        np.testing.assert_allclose(model.predict(), expected[:, len(levels) // 2])
        low, high = model.predict_interval(coverage=0.95).to_numpy().T
        np.testing.assert_allclose(low, expected[:, 0])
        np.testing.assert_allclose(high, expected[:, -1])
        later = model.predict(fh=[7])  # beyond the horizon of the fit
        np.testing.assert_allclose(later, pool(y.to_numpy(), 7, 1, levels)[-1:, len(levels) // 2])

    def test_updates_and_history(self):
        y = pd.Series(walk(n=26))
        model = SFMForecaster(**QUICK).fit(y[:20], fh=[1, 2])
        positions, history = model.historical_forecasts(y, start=18)
        model.update(y[20:23], update_params=False)
        np.testing.assert_allclose(model.predict(), history[list(positions).index(23), :, 0])

    @pytest.mark.parametrize(
        ("parameters", "n", "n_covariates"),
        [({}, 200, 0), ({"early_stopping": False}, 20, 0), ({}, 20, 1)],
        ids=["long", "without early stopping", "covariates"],
    )
    def test_otherwise_the_network_forecasts(self, parameters, n, n_covariates):
        y, X = pd.Series(walk(n=n)), pd.DataFrame({"x": walk(1, n)}) if n_covariates else None
        assert not SFMForecaster(**QUICK, **parameters).fit(y, X=X, fh=[1, 2]).is_pooled_

    def test_a_pretrained_network_is_not_replaced(self):
        index = pd.MultiIndex.from_product([range(3), range(20)], names=["series", "time"])
        panel = pd.DataFrame({"y": walk(n=60)}, index=index)
        model = SFMForecaster(**QUICK, horizon=2).pretrain(panel)
        assert not model.fit(pd.Series(walk(2, 15)), fh=[1, 2]).is_pooled_

    def test_variables_are_forecast_one_by_one(self):
        y = pd.DataFrame({"a": walk(n=12), "b": walk(1, 12)})
        both = SFMForecaster(**QUICK).fit(y, fh=[1, 2])
        assert both.is_pooled_
        np.testing.assert_allclose(both.predict()["b"], SFMForecaster(**QUICK).fit(y["b"], fh=[1, 2]).predict())
