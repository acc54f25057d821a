"""The pool of simple forecasts, against recursions by hand and simulated series, and its use in the forecaster."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import poisson

from sfmts import SFMForecaster
from sfmts.forecasting import pool as module
from sfmts.forecasting.fit import mixture
from sfmts.forecasting.pool import pool
from tests.helpers import needs_pretrain

LEVELS = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
QUICK = {"random_state": 0, "device": "cpu", "max_iter": 2, "n_states": 4}


def walk(seed=0, n=40):
    """Return a random walk."""
    return np.random.default_rng(seed).normal(size=n).cumsum()


def candidates(y, n_steps=3, periods=()):
    """Return the forecasts of all members, (origins, parameters, steps)."""
    series = module._Series.of(y, np.arange(1, n_steps + 1), periods, len(y))
    return {name: member(series) for name, member in module._members(series).items()}, series


def smoothed(y, alpha):
    """Return the last level of exponential smoothing."""
    level = y[0]
    for value in y[1:]:
        level = alpha * value + (1 - alpha) * level
    return level


def test_members_are_the_recursions():
    y = walk()
    found, _ = candidates(y)
    last = {name: values[-1] for name, values in found.items()}
    ahead, n = np.arange(1, 4), len(y)
    np.testing.assert_allclose(last["last"], [[y[-1]] * 3])
    np.testing.assert_allclose(last["mean"], [[y.mean()] * 3])
    np.testing.assert_allclose(last["half drift"], [y[-1] + 0.5 * ahead * (y[-1] - y[0]) / (n - 1)])
    np.testing.assert_allclose(last["drift"], [y[-1] + ahead * (y[-1] - y[0]) / (n - 1)])
    slope, intercept = np.polyfit(np.arange(n), y, 1)
    line, later = intercept + slope * np.arange(n), intercept + slope * (n - 1 + ahead)
    for place, alpha in enumerate(module._SMOOTHING):
        np.testing.assert_allclose(last["smoothing"][place], [smoothed(y, alpha)] * 3)
        for number, theta in enumerate(module._THETAS):
            level = smoothed(theta * y + (1 - theta) * line, alpha)
            found_theta = last["theta"][number * len(module._SMOOTHING) + place]
            np.testing.assert_allclose(found_theta, (1 - 1 / theta) * later + level / theta)
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


def test_seasonal_smoothing_is_the_recursion():
    """On the series itself, as the level plus constant terms plus the deviations that the member adds up."""
    period, y = 4, walk(n=30) + np.tile([3.0, -1.0, 0.0, -2.0], 8)[:30]
    found, _ = candidates(y, n_steps=6, periods=(period,))
    constant = module._seasonal_indices(y, period, multiplicative=False)
    start = np.median(np.diff((y - np.resize(constant, 30))[: period + 1]))
    grid = [values.ravel() for values in np.meshgrid(*module._SEASONAL, indexing="ij")]
    for place, (alpha, beta, phi, gamma) in enumerate(zip(*grid, strict=True)):
        level, slope, terms = y[0] - constant[0] - start, start if beta else 0.0, constant.copy()
        for t, value in enumerate(y):
            error = value - level - phi * slope - terms[t % period]
            level, slope = level + phi * slope + alpha * error, phi * slope + alpha * beta * error
            terms[t % period] += gamma * (1 - alpha) * error
        expected = [
            level + slope * sum(phi**j for j in range(1, k + 1)) + terms[(29 + k) % period] for k in range(1, 7)
        ]
        np.testing.assert_allclose(found["seasonal smoothing"][-1, place], expected, rtol=1e-9)


def test_the_season_before():
    found, _ = candidates(np.arange(20.0), n_steps=6, periods=(4,))
    np.testing.assert_array_equal(found["season"][-1, 0], [16, 17, 18, 19, 16, 17])


@pytest.mark.parametrize("multiplicative", [True, False])
def test_seasonal_indices_of_a_pure_season_are_exact(multiplicative):
    season = np.array([0.8, 1.0, 1.3, 0.9])
    y = 10 * np.tile(season, 6) if multiplicative else 10 + np.tile(season, 6)
    expected = season / season.mean() if multiplicative else season - season.mean()
    np.testing.assert_allclose(module._seasonal_indices(y, 4, multiplicative), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(pool(y, 8, (4,), LEVELS)[:, 3], np.tile(y[:4], 2), rtol=1e-6)


@pytest.mark.parametrize("multiplicative", [True, False])
def test_several_seasons(multiplicative):
    rng = np.random.default_rng(0)
    short, long = rng.uniform(0.5, 1.5, 4), rng.uniform(0.5, 1.5, 28)
    t = np.arange(28 * 9)
    y = 20 * short[t % 4] * long[t % 28] if multiplicative else short[t % 4] + long[t % 28] - 2
    y += 0.01 * rng.normal(size=len(y))
    errors = {
        periods: np.abs(pool(y[:-28], 28, periods, LEVELS)[:, 3] - y[-28:]).mean() / y.std()
        for periods in ((4, 28), (4,), ())
    }
    assert errors[4, 28] < 0.05
    assert errors[4,] > 0.1
    assert errors[()] > 0.1


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
    ahead = np.array([1, 2, 4])
    found = module._known_errors(errors, ahead, 0.5)
    for t in range(8):
        pairs = [(r, j, k) for r in range(8) for j, k in enumerate(ahead) if r + k <= t]
        assert found[t] == pytest.approx(
            sum(0.5 ** (t - r - k) * np.nan_to_num(errors[r, j]) / k**module._GROWTH for r, j, k in pairs), abs=1e-12
        )


def test_no_forecast_looks_ahead(monkeypatch):
    """Without a season, what is forecast from a step does not depend on what follows."""
    monkeypatch.setattr(module, "_decay", lambda series: 0.9)
    y = walk(n=30)
    for n in (6, 15, 29):
        whole, part = candidates(y)[1], candidates(y[:n])[1]
        forecasts, errors, _ = module._judged(module._members(whole), whole)
        earlier, earlier_errors, _ = module._judged(module._members(part), part)
        for name, values in earlier.items():
            np.testing.assert_allclose(forecasts[name][:n], values, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(errors[:n], earlier_errors, rtol=1e-9)


@pytest.mark.parametrize("periods", [(), (4,), (2, 4)], ids=str)
def test_units_do_not_matter(periods):
    y = walk() - 20  # not all positive, so that the season is additive
    base = pool(y, 5, periods, LEVELS)
    np.testing.assert_allclose(pool(1000.0 * y, 5, periods, LEVELS), 1000.0 * base, rtol=1e-6)
    np.testing.assert_allclose(pool(y + 10.0, 5, periods, LEVELS), base + 10.0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("periods", [(), (4,), (2, 4)], ids=str)
@pytest.mark.parametrize(
    "y", [[3.0], [1.0, 2.0], [0.0, 0.0, 0.0], [5.0] * 20, [1e200, 3e200, 2e200], [1e-200, 3e-200, 2e-200], range(9)]
)
def test_short_constant_and_extreme_series(y, periods):
    y = np.array(y, dtype=float)
    quantiles = pool(y, 3, periods, LEVELS)
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
        low, *_, high = pool(y[:60], 4, (4,) if kind == "season" else (), LEVELS).T
        inside.append((low <= y[60:]) & (y[60:] <= high))
    assert 0.85 < np.mean(inside) < 0.96


@pytest.mark.parametrize("periods", [(), (12,)], ids=str)
def test_a_long_horizon_is_judged_at_some_steps(periods, monkeypatch):
    y = walk(n=300) + 4 * np.sin(np.arange(300) * 2 * np.pi / 12)
    found = pool(y, 100, periods, LEVELS)
    monkeypatch.setattr(module, "_JUDGED", 100)
    exact = pool(y, 100, periods, LEVELS)
    assert 0 < np.abs(found - exact).max() < 0.1 * np.ptp(exact, axis=1).mean()


def test_jumps_are_followed_and_do_not_explode():
    rng = np.random.default_rng(0)
    for after in (3, 6, 10):
        y = np.r_[rng.normal(10, 1, 60), rng.normal(50, 1, after)]
        quantiles = pool(y, 4, (), LEVELS)
        assert (np.abs(quantiles[:, 3] - 50) < 6).all()
        assert quantiles.max() < 150
    rate = pool(np.r_[np.full(115, 2.0), np.full(5, 2.5)], 12, (), LEVELS)
    np.testing.assert_allclose(rate[:, 3], 2.5, atol=0.1)
    assert rate.max() < 5
    assert rate.min() > 1.5


def test_a_spike_is_no_level():
    rng = np.random.default_rng(0)
    for n in (40, 200):
        y = rng.normal(200, 20, n)
        clean = pool(y, 6, (), LEVELS)
        y[-10] = 17000
        np.testing.assert_allclose(pool(y, 6, (), LEVELS), clean, atol=30)


def test_what_recurs_is_no_spike():
    y = np.tile([1.0] * 11 + [40.0], 6) + np.random.default_rng(0).normal(0, 0.1, 72)
    np.testing.assert_array_equal(module._without_spikes(y), y)
    np.testing.assert_allclose(pool(y, 12, (12,), LEVELS)[:, 3], y[:12], atol=2)


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_an_intermittent_demand_has_the_quantiles_of_what_was_sold(rate):
    levels, losses = np.arange(1, 10) / 10, []
    true = poisson.ppf(levels, rate)
    for seed in range(30):
        y = np.random.default_rng(seed).poisson(rate, 72).astype(float)
        excess = y[60:, None, None] - np.stack([pool(y[:60], 12, (12,), levels), np.tile(true, (12, 1))], axis=1)
        losses.append(np.maximum(levels * excess, (levels - 1) * excess).mean(axis=(0, 2)))
    ours, best = np.mean(losses, axis=0)
    assert ours < 1.15 * best  # without past values: 1.1 to 1.45


def test_an_intermittent_demand_may_have_a_season():
    rate = np.tile([0.0, 0.0, 0.0, 6.0], 20)
    y = np.random.default_rng(0).poisson(rate).astype(float)
    median = pool(y, 8, (4,), LEVELS)[:, 3]
    np.testing.assert_allclose(median[[0, 1, 2, 4, 5, 6]], 0.0, atol=0.5)
    assert (np.abs(median[[3, 7]] - 6.0) < 1.5).all()


@pytest.mark.parametrize("n", [3, 30])
def test_zeros_before_the_first_sale_are_no_gaps(n):
    y = np.r_[np.zeros(60), np.random.default_rng(0).normal(100.0, 5.0, size=n)]
    assert (np.abs(pool(y, 3, (), LEVELS)[:, 3] - 100.0) < 10.0).all()


@pytest.mark.parametrize("periods", [(), (12,)])
def test_past_quantiles_are_weighted_ones_of_what_was_known(periods):
    y = np.random.default_rng(0).poisson(0.6, 50) * np.random.default_rng(1).choice([1.0, 2.5], 50)
    series = module._Series.of(y, np.arange(1, 4), periods, 50)
    found, decay = module._past_quantiles(series, *(periods or (1,)), LEVELS), module._decay(series)
    for origin in (13, 30, 49):
        for step in (1, 3):
            known = np.arange(origin + 1)
            known = known[(known - origin - step) % (periods or (1,))[0] == 0]
            order = known[np.argsort(y[known], kind="stable")]
            mass = np.cumsum(decay ** -order.astype(float))
            expected = [y[order][np.argmax(mass >= level * mass[-1] * (1 - 1e-12))] for level in LEVELS]
            np.testing.assert_array_equal(found[origin, step - 1], expected)


def test_half_of_skewed_noise_is_below_the_median():
    below = []
    for seed in range(60):
        y = np.random.default_rng(seed).exponential(size=156) ** 1.5
        below.append(y[150:] < pool(y[:150], 6, (), LEVELS)[:, 3])
    assert np.mean(below) < 0.6  # 0.68 are below the mean


def test_a_short_trend_is_continued():
    y = 10 + 2.0 * np.arange(42) + np.random.default_rng(0).normal(0, 0.3, 42)
    assert np.abs(pool(y[:30], 12, (12,), LEVELS)[:, 3] - y[30:]).mean() < 0.6


@pytest.mark.parametrize("kind", ["noise", "walk", "season"])
def test_intervals_are_as_good_as_those_of_the_true_model(kind):
    """Interval scores are at most 5 % above those of pooled residuals of the right naive forecast."""
    rng, scores, H, n = np.random.default_rng(0), [], 12, 100
    for _ in range(150):
        noise = rng.normal(size=n + H)
        season = 3 * np.sin(np.pi * np.arange(n + H) / 6)
        y = {"noise": noise, "walk": noise.cumsum(), "season": season + noise}[kind]
        train, truth = y[:n], y[n:]
        levels = [0.05, 0.95]
        if kind == "walk":
            naive = np.stack([train[-1] + np.quantile(train[k:] - train[:-k], levels) for k in range(1, H + 1)])
        elif kind == "season":
            naive = train[-12:, None] + np.quantile(train[12:] - train[:-12], levels)
        else:
            naive = np.tile(np.quantile(train, levels), (H, 1))
        found = pool(train, H, (12,) if kind == "season" else (), LEVELS)[:, [0, -1]]
        scores.append(
            [
                (high - low + 20 * np.maximum(low - truth, 0) + 20 * np.maximum(truth - high, 0)).mean()
                for low, high in (found.T, naive.T)
            ]
        )
    found, naive = np.mean(scores, axis=0)
    assert found <= 1.05 * naive


class TestMixture:
    base = torch.tensor([[-2.0, 0.0, 3.0]], dtype=torch.float64)

    def test_is_the_mean_of_the_quantiles(self):
        model = torch.tensor([[-1.0, 1.0, 2.0]], dtype=torch.float64)
        torch.testing.assert_close(mixture(self.base, model, 0.25), 0.75 * self.base + 0.25 * model)
        assert torch.equal(mixture(self.base, model, 0.0), self.base)
        assert torch.equal(mixture(self.base, model, 1.0), model)

    @pytest.mark.parametrize(("away", "limit"), [(30.0, 3.0), (-30.0, -2.0), (3.0, 3.0)])
    def test_a_model_far_away_moves_it_no_further_than_one_at_the_outer_quantile(self, away, limit):
        model = self.base + away
        assert mixture(self.base, model, 0.5)[0, 1].item() == pytest.approx(0.5 * limit)

    def test_where_the_base_is_certain(self):
        base = torch.ones(1, 3, dtype=torch.float64)
        assert torch.equal(mixture(base, base + 1.0, 0.5), base)
        assert torch.equal(mixture(base, base, 0.5), base)


class TestForecaster:
    """Check that the forecaster is the pool where nothing can be decided, and that elsewhere the model has a weight."""

    def test_short_series(self):
        y = pd.Series(walk(n=20), index=pd.period_range("2000", periods=20, freq="Y"))
        model = SFMForecaster(**QUICK).fit(y, fh=[1, 2, 3])
        assert model.model_weight_ == 0
        assert model.n_iter_ == 0
        levels = model.module_.head.levels.numpy()
        expected = pool(y.to_numpy(), 3, (), levels)
        np.testing.assert_allclose(model.predict(), expected[:, len(levels) // 2])
        low, high = model.predict_interval(coverage=0.95).to_numpy().T
        np.testing.assert_allclose(low, expected[:, 0])
        np.testing.assert_allclose(high, expected[:, -1])
        later = model.predict(fh=[7])  # beyond the horizon of the fit
        np.testing.assert_allclose(later, pool(y.to_numpy(), 7, (), levels)[-1:, len(levels) // 2])

    def test_long_series(self):
        """Check that the forecast is the mixture of those of the pool and of the model alone."""
        y = pd.Series(np.sin(np.arange(300.0) / 3) + 0.3 * walk(n=300))
        model = SFMForecaster(**QUICK).fit(y, fh=[1, 2])
        alone = SFMForecaster(**QUICK, base=None).fit(y, fh=[1, 2])
        assert 0 < model.model_weight_ < 1
        assert alone.model_weight_ == 1
        base = torch.from_numpy(pool(y.to_numpy(), 2, (), model.module_.head.levels.numpy()))
        own = torch.from_numpy(alone.predict_quantiles(alpha=model.module_.head.levels.tolist()).to_numpy())
        found = model.predict_quantiles(alpha=model.module_.head.levels.tolist())
        np.testing.assert_allclose(found, mixture(base, own, model.model_weight_))

    def test_weight_follows_the_errors(self):
        """Check that a model gains nothing where the past tells nothing, and does where only a regression can know."""
        rng = np.random.default_rng(0)
        coefficients = np.zeros(17)
        coefficients[[6, 16]] = 0.6, -0.6
        y = list(rng.normal(size=17))
        for noise in 0.2 * rng.normal(size=330):
            y.append(coefficients @ y[-17:][::-1] + noise)
        weights = [
            SFMForecaster(**QUICK, context_length=20).fit(pd.Series(series), fh=[1, 2]).model_weight_
            for series in (rng.normal(size=347).cumsum(), np.array(y))
        ]
        assert weights[0] < 0.5 < weights[1]

    def test_updates_and_history(self):
        for n in (20, 300):
            y = pd.Series(walk(n=n + 6))
            model = SFMForecaster(**QUICK).fit(y[:n], fh=[1, 2])
            positions, history = model.historical_forecasts(y, start=n - 2)
            model.update(y[n : n + 3], update_params=False)
            np.testing.assert_allclose(model.predict(), history[list(positions).index(n + 3), :, 0], rtol=1e-5)

    @pytest.mark.parametrize(
        ("parameters", "n"),
        [({"base": None}, 200), ({"early_stopping": False}, 20)],
        ids=["alone", "without early stopping"],
    )
    def test_otherwise_the_network_forecasts(self, parameters, n):
        assert SFMForecaster(**QUICK, **parameters).fit(pd.Series(walk(n=n)), fh=[1, 2]).model_weight_ == 1

    @needs_pretrain
    def test_a_pretrained_network_is_not_replaced(self):
        index = pd.MultiIndex.from_product([range(3), range(20)], names=["series", "time"])
        panel = pd.DataFrame({"y": walk(n=60)}, index=index)
        model = SFMForecaster(**QUICK, horizon=2).pretrain(panel)
        assert model.fit(pd.Series(walk(2, 15)), fh=[1, 2]).model_weight_ == 1

    def test_variables_are_forecast_one_by_one(self):
        y = pd.DataFrame({"a": walk(n=12), "b": walk(1, 12)})
        both = SFMForecaster(**QUICK).fit(y, fh=[1, 2])
        assert both.model_weight_ == 0
        np.testing.assert_allclose(both.predict()["b"], SFMForecaster(**QUICK).fit(y["b"], fh=[1, 2]).predict())
