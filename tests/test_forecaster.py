"""SFMForecaster: sktime's suite, and what it does not verify."""

import copy
import math
import pickle
import re

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import lfilter
from sklearn.linear_model import LinearRegression
from sktime.forecasting.base import ForecastingHorizon
from sktime.forecasting.compose import (
    ForecastingPipeline,
    MultiplexForecaster,
    TransformedTargetForecaster,
    make_reduction,
)
from sktime.forecasting.model_evaluation import evaluate
from sktime.forecasting.model_selection import ForecastingGridSearchCV
from sktime.forecasting.naive import NaiveForecaster
from sktime.forecasting.reconcile import ReconcilerForecaster
from sktime.performance_metrics.forecasting import MeanAbsoluteError
from sktime.performance_metrics.forecasting.probabilistic import PinballLoss
from sktime.split import ExpandingWindowSplitter, SlidingWindowSplitter
from sktime.transformations.hierarchical.aggregate import Aggregator
from sktime.transformations.series.detrend import Deseasonalizer, Detrender
from sktime.transformations.series.exponent import ExponentTransformer
from sktime.utils.estimator_checks import check_estimator, parametrize_with_checks

from sfmts import SFMForecaster
from sfmts.forecasting import fit as horizon_fit
from sfmts.forecasting import forecaster
from sfmts.forecasting import pool as pool_module
from sfmts.networks import make_network
from sfmts.training import Trainer
from tests.helpers import ALL_NETWORKS, needs_pretrain, older

pytestmark = pytest.mark.filterwarnings("ignore:The default of config:FutureWarning")

CAUSAL = [name for name in ALL_NETWORKS if make_network(name, 1, n_states=10).causal]
MONTHS = pd.period_range("2000-01", periods=400, freq="M")
YEAR = range(1, 13)
LEVELS = [0.9, 1e-6, 0.5, 0.025, 1 - 1e-6, 0.1, 0.3]


@parametrize_with_checks(SFMForecaster, obj_varname="forecaster", check_varname="name")
@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
def test_sktime_suite(forecaster, name):
    results = check_estimator(forecaster, tests_to_run=name, raise_exceptions=True, verbose=False)
    assert results
    assert set(results.values()) == {"PASSED"}


def tiny(**options):
    """Return a forecaster that trains its network, alone, in a fraction of a second."""
    small = {"n_states": 4, "n_frequencies": 2, "max_iter": 2, "random_state": 0, "device": "cpu", "base": None}
    return SFMForecaster(**{**small, **options})


def seasonal(n=96, seed=0, noise=0.2, start=0):
    """Months with a trend, a season and noise."""
    rng, t = np.random.default_rng(seed), np.arange(n)
    values = 10.0 + 0.02 * t + np.sin(2 * np.pi * (t / 12 + rng.random())) + noise * rng.normal(size=n)
    return pd.Series(values, index=MONTHS[start : start + n], name="y")


def driven(n=120, seed=0, name="y"):
    """Months that only X explains."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 2)), index=MONTHS[:n], columns=["a", "b"])
    return (3.0 * X["a"] - 2.0 * X["b"] + 0.1 * rng.normal(size=n)).rename(name), X


def panel(series):
    return pd.concat(series, names=["series", "month"]).to_frame("y")


def at(frame, step, value):
    """The frame with that value at one step."""
    frame = frame.copy()
    frame.loc[step] = value
    return frame


def without_freq(y):
    """Forget the frequency of dates."""
    return y.set_axis(pd.DatetimeIndex(y.index.to_numpy()))


def error(forecast, truth):
    """Mean absolute error, by the index of the truth."""
    return float((forecast.reindex(truth.index) - truth).abs().to_numpy().mean())


def results(model, X=None, fh=None):
    """All numbers that a forecaster gives out."""
    parts = [model.predict(fh, X=X), model.predict_quantiles(fh, X=X, alpha=LEVELS), model.predict_var(fh, X=X)]
    return np.concatenate([part.to_numpy().reshape(len(part), -1) for part in parts], axis=1)


class TestCovariates:
    def test_explain_the_series(self):
        y, X = driven()
        past, truth = y[:-12], y[-12:]
        with_x = tiny().fit(past, X=X[:-12], fh=YEAR).predict(X=X[-12:])
        without = tiny().fit(past, fh=YEAR).predict()
        assert error(with_x, truth) < error(without, truth) / 3

    def test_go_by_name(self):
        y, X = driven()
        model = tiny().fit(y[:-12], X=X[:-12], fh=YEAR)
        expected = model.predict(X=X[-12:])
        pd.testing.assert_series_equal(model.predict(X=X[-12:].assign(c=1.0)[["c", "b", "a"]]), expected)
        assert not np.allclose(model.predict(X=X[-12:] + 1.0), expected)

    def test_may_stand_beside_others_in_any_order(self):
        y, X = driven()
        other = X[["b", "a"]].assign(c=1.0)
        model, twin = (tiny().fit(y[:90], X=X[:90], fh=[1, 2]) for _ in range(2))
        np.testing.assert_array_equal(model.predict(X=other[90:92]), twin.predict(X=X[90:92]))
        histories = model.historical_forecasts(y, X=other)[1], twin.historical_forecasts(y, X=X)[1]
        np.testing.assert_array_equal(*histories)
        model.update(y[90:95], X=other[90:95])
        twin.update(y[90:95], X=X[90:95])
        np.testing.assert_array_equal(model.predict(X=other[95:97]), twin.predict(X=X[95:97]))

    def test_with_several_rows_for_a_step(self):
        y, X = driven()
        with pytest.raises(ValueError, match="X has several rows for 2000-04"):
            tiny().fit(y, X=pd.concat([X, X[3:4]]).sort_index(), fh=[1])
        model = tiny().fit(y[:90], X=X[:90], fh=[1])
        with pytest.raises(ValueError, match="X in predict has several rows for 2007-07"):
            model.predict(X=pd.concat([X[90:91], X[90:92]]))

    def test_that_lead_the_series(self):
        """Check that a variable whose future is unknown improves the forecast of the steps that follow it."""
        rng = np.random.default_rng(0)
        noise, leader = rng.normal(size=(2, 303))
        leader = lfilter([1.0], [1.0, -0.8], leader)
        y = pd.Series(leader[:300] + 0.1 * noise[:300], index=MONTHS[:300])  # follows by three steps
        X = pd.DataFrame({"leader": leader[3:]}, index=y.index)
        errors = []
        for options, given in (({"past_covariates": ["leader"]}, X), ({}, None)):
            model = tiny(max_iter=20, context_length=12, learning_rate_init=0.01, **options)
            model.fit(y[:240], X=None if given is None else given[:240], fh=[1, 2, 3])
            positions, history = model.historical_forecasts(y, X=given, start=240)
            truth = np.stack([y[i : i + 3] for i in positions])
            errors.append(np.abs(truth - history[:, :, 0]).mean())
        assert errors[0] < 0.8 * errors[1]

    def test_of_the_past_have_no_future(self):
        y, X = driven()
        model = tiny(past_covariates=["a"]).fit(y[:90], X=X[:90], fh=[1, 2])
        expected = model.predict(X=X[90:92])
        assert not np.allclose(expected, tiny().fit(y[:90], X=X[:90], fh=[1, 2]).predict(X=X[90:92]))
        np.testing.assert_array_equal(model.predict(X=X[["b"]][90:92]), expected)
        np.testing.assert_array_equal(model.predict(X=X[90:92].assign(a=1e9)), expected)
        later = model.predict(fh=range(1, 6), X=X[["b"]][90:95])  # beyond the horizon
        np.testing.assert_array_equal(later[:2], expected)
        assert np.isfinite(later).all()
        _, history = model.historical_forecasts(y[:92], X=X[:92].assign(a=X["a"].where(X.index < y.index[90], 7.0)))
        np.testing.assert_array_equal(history[-1, :, 0], expected)
        model.update(y[90:95], X=X[90:95], update_params=False)
        assert np.isfinite(model.predict(fh=[1, 2], X=X[["b"]][95:97])).all()

    def test_of_the_past_alone_need_no_x_in_predict(self):
        y, X = driven()
        model = tiny(past_covariates=["a", "b"]).fit(y[:90], X=X[:90], fh=[1, 2])
        np.testing.assert_array_equal(model.predict(), model.predict(X=X[90:92]))
        assert np.isfinite(model.predict(fh=[-2, 0, 1, 5])).all()

    @pytest.mark.parametrize("names", [["c"], ["a", "c"], [["a"]]], ids=str)
    def test_of_the_past_must_be_columns(self, names):
        y, X = driven()
        with pytest.raises(ValueError, match=r"past_covariates names .* but X has the columns \['a', 'b'\]"):
            tiny(past_covariates=names).fit(y, X=X, fh=[1])
        with pytest.raises(ValueError, match=r"past_covariates names .* but X has the columns \[\]"):
            tiny(past_covariates=names).fit(y, fh=[1])

    def test_of_each_series_in_a_panel(self):
        pairs = {key: driven(seed=seed) for seed, key in enumerate("dbca")}
        y = panel({key: y[:-12] for key, (y, _) in pairs.items()})
        X = pd.concat({key: X for key, (_, X) in pairs.items()}, names=["series", "month"])
        future = X.drop(y.index)
        forecast = tiny().fit(y, X=X.loc[y.index], fh=YEAR).predict(X=future)
        for key, (truth, _) in pairs.items():
            assert error(forecast.loc[key, "y"], truth[-12:]) < truth.std() / 3

    def test_that_begin_to_vary_later(self):
        y, X = driven()
        X["b"] = 0.1
        model = tiny(max_iter=10).fit(y[:-12], X=X[:-12], fh=YEAR)
        changed = X[-12:].assign(b=0.2)
        assert error(model.predict(X=changed), model.predict(X=X[-12:])) < y.std()

    def test_leave_their_effects_in_the_past(self):
        """What X did to the last value is taken off before that is carried on."""
        rng = np.random.default_rng(1)
        x, walk = np.zeros(180), 0.2 * rng.normal(size=180).cumsum()
        for t in range(1, 180):
            x[t] = 0.8 * x[t - 1] + rng.normal()
        X, y = pd.DataFrame({"x": x}, index=MONTHS[:180]), pd.Series(3.0 * x + walk, index=MONTHS[:180])
        cv = SlidingWindowSplitter(window_length=100, step_length=12, fh=YEAR)
        with_x, without = (
            evaluate(tiny(), cv, y, known, scoring=MeanAbsoluteError(), error_score="raise") for known in (X, None)
        )
        assert with_x["test_MeanAbsoluteError"].mean() < without["test_MeanAbsoluteError"].mean() / 3

    def test_calendar(self):
        days = pd.date_range("2021-01-01", periods=364, freq="D")
        rng = np.random.default_rng(0)
        y = pd.Series(rng.permutation(7)[days.dayofweek] + 0.1 * rng.normal(size=364), index=days)
        errors = {}
        for known in (False, True):
            model = tiny(context_length=3, calendar_features=known, max_iter=10, learning_rate_init=0.02)
            errors[known] = error(model.fit(y[:-28], fh=range(1, 29)).predict(), y[-28:])
        assert errors[True] < errors[False] / 2


class TestQuantiles:
    @pytest.mark.parametrize("horizon", [12, 5])
    def test_are_monotone(self, horizon):
        y = pd.DataFrame({"u": seasonal(), "v": seasonal(seed=1)})
        quantiles = tiny(horizon=horizon).fit(y, fh=YEAR).predict_quantiles(alpha=LEVELS)
        for name in y:
            ordered = quantiles[name][sorted(LEVELS)].to_numpy()
            assert np.isfinite(ordered).all()
            assert (np.diff(ordered, axis=1) > 0).all()

    def test_agree_with_one_another(self):
        model = tiny(sp=12).fit(seasonal(), fh=YEAR)
        quantiles = model.predict_quantiles(alpha=[0.05, 0.5, 0.95])["y"]
        np.testing.assert_array_equal(quantiles[0.5], model.predict())
        interval = model.predict_interval(coverage=0.9)["y"][0.9]
        np.testing.assert_allclose(interval["lower"], quantiles[0.05], rtol=1e-12)
        np.testing.assert_allclose(interval["upper"], quantiles[0.95], rtol=1e-12)

    def test_agree_with_the_distribution_and_the_variance(self):
        model = tiny(sp=12).fit(seasonal(), fh=YEAR)
        distribution = model.predict_proba()
        variance = model.predict_var()["y"]
        for level in (0.05, 0.3, 0.5, 0.8, 0.95):
            quantiles = model.predict_quantiles(alpha=level)["y"].set_axis(["y"], axis=1)
            np.testing.assert_allclose(distribution.cdf(quantiles), level, rtol=0, atol=0.005)
        np.testing.assert_allclose(distribution.var()["y"], variance, rtol=0.02)
        fine = np.linspace(0.0005, 0.9995, 1000)
        drawn = model.predict_quantiles(alpha=fine.tolist()).to_numpy()
        np.testing.assert_allclose(drawn.var(axis=1), variance, rtol=0.02)

    def test_of_constants_are_points(self):
        y = pd.DataFrame({"flat": np.zeros(40), "other": seasonal(40).to_numpy(), "high": np.full(40, 1e6)})
        model = SFMForecaster().fit(y, fh=[1, 2])
        drawn = model.predict_proba().sample(50)
        np.testing.assert_allclose(drawn["flat"], 0.0, atol=1e-200)
        np.testing.assert_allclose(drawn["high"], 1e6, rtol=1e-9)
        assert np.isfinite(drawn).all(axis=None)
        assert drawn["other"].std() > 0.01
        assert (model.module_.head.fine_levels().diff() > 1e-9).all()

    @needs_pretrain
    def test_cover_what_they_should(self):
        def made(seed, n=132):
            rng = np.random.default_rng(seed)
            noise = np.zeros(n)
            for t in range(1, n):
                noise[t] = 0.7 * noise[t - 1] + rng.normal()
            wave = 2.0 * np.sin(2 * np.pi * (np.arange(n) / 12 + rng.random()))
            return pd.Series(wave + noise, index=MONTHS[:n])

        model = tiny(sp=12).pretrain(panel({key: made(key) for key in range(20)}), fh=YEAR)
        others = panel({key: made(key) for key in range(100, 180)})
        past = others[others.index.get_level_values(1) < MONTHS[120]]
        interval = model.fit(past).predict_interval(fh=YEAR, coverage=0.9)["y"][0.9]
        truth = others["y"].reindex(interval.index)
        covered = ((interval["lower"] < truth) & (truth < interval["upper"])).groupby(level=1).mean()
        assert covered.between(0.8, 0.98).all(), covered

    @pytest.mark.parametrize("n", [6, 10, 16])
    def test_cover_where_few_steps_are_known(self, n):
        walks = np.random.default_rng(0).normal(size=(40, n + 4)).cumsum(axis=1)
        covered = []
        for walk in walks:
            bounds = tiny().fit(pd.Series(walk[:n]), fh=range(1, 5)).predict_interval(coverage=0.9).to_numpy()
            covered.append((bounds[:, 0] < walk[n:]) & (walk[n:] < bounds[:, 1]))
        assert np.mean(covered) > 0.65
        assert (np.mean(covered, axis=0) > 0.5).all(), np.mean(covered, axis=0)


class TestWithinTheSeries:
    """Forecasts of known steps, one ahead from all that lies before."""

    @pytest.mark.parametrize("base", ["pool", None])
    def test_are_those_of_history(self, base, monkeypatch):
        """Forecasts from each step differ by what the whole series tells of its season, scale and errors alone.

        How fast the pool forgets errors depends on the length of the series, so it is set to that of the whole one.
        """
        monkeypatch.setattr(pool_module, "_decay", lambda _: 0.5 ** (pool_module._HALVINGS / 80))
        y = pd.Series(seasonal(80).to_numpy())
        model = tiny(base=base).fit(y, fh=[1, 2])
        positions, history = model.historical_forecasts(y, start=40)
        found = model.predict(fh=positions - 79).to_numpy()
        np.testing.assert_allclose(found, history[:, 0, 0], atol=0.1 if base else 1e-5)

    def test_stand_beside_later_ones(self):
        y, X = driven()
        model = tiny().fit(y[:90], X=X[:90], fh=[1, 2])
        both = model.predict(fh=[-3, 0, 1, 2], X=X[90:92])
        assert list(both.index) == list(MONTHS[[86, 89, 90, 91]])
        np.testing.assert_array_equal(both[2:], model.predict(fh=[1, 2], X=X[90:92]))
        np.testing.assert_array_equal(both[:2], model.predict(fh=[-3, 0]))  # X of known steps is known

    def test_cover_and_err_as_later_ones_do(self):
        y = pd.Series(np.random.default_rng(0).normal(size=200).cumsum(), index=MONTHS[:200])
        model = SFMForecaster(random_state=0).fit(y[:100], fh=range(1, 13))
        low, high = model.predict_interval(fh=range(-89, 1), coverage=0.9).to_numpy().T
        assert 0.8 < np.mean((low <= y[10:100]) & (y[10:100] <= high)) < 0.98
        residuals = model.predict_residuals(y[:100])
        assert 0.7 < residuals[10:].std() < 1.3
        assert model.predict_var(fh=[-5, 1]).gt(0).all(axis=None)

    @pytest.mark.parametrize("base", ["pool", None])
    @pytest.mark.parametrize("n", [1, 2, 5, 40])
    def test_of_short_and_constant_series(self, n, base):
        for y in (pd.Series(np.arange(float(n))), pd.Series(np.full(n, 7.0))):
            found = tiny(base=base).fit(y, fh=[1]).predict(fh=range(1 - n, 2))
            assert np.isfinite(found).all()
        np.testing.assert_allclose(found, 7.0)

    def test_reconcile_hierarchies(self):
        rng = np.random.default_rng(0)
        parts = {key: pd.DataFrame({"y": rng.normal(size=40).cumsum() + 50}, index=MONTHS[:40]) for key in "abc"}
        y = Aggregator().fit_transform(pd.concat(parts, names=["part", "month"]))
        model = ReconcilerForecaster(SFMForecaster(random_state=0), method="mint_shrink").fit(y, fh=[1, 2])
        found = model.predict()["y"].unstack("part")
        np.testing.assert_allclose(found["__total"], found[list("abc")].sum(axis=1))

    def test_of_series_that_end_earlier(self):
        y = panel({"a": seasonal(60), "b": seasonal(66, seed=1)})
        model = tiny(horizon=3).fit(y)
        steps = ForecastingHorizon(MONTHS[62:68], is_relative=False)
        found = model.predict(fh=steps)
        for key, n in (("a", 60), ("b", 66)):
            assert list(found.loc[key].index) == list(MONTHS[62:68])
            np.testing.assert_allclose(found.loc[key], model.predict(fh=np.arange(63, 69) - n).loc[key], rtol=1e-6)


class TestSeasons:
    def test_of_a_day_and_of_a_week(self):
        t, rng = np.arange(24 * 7 * 6), np.random.default_rng(0)
        hours, days = rng.uniform(0.5, 1.5, 24), rng.uniform(0.5, 1.5, 7)
        y = pd.Series(100 * hours[t % 24] * days[t // 24 % 7] + rng.normal(size=len(t)))
        errors = {}
        for sp in ([24, 168], 24):
            model = SFMForecaster(sp=sp, max_iter=1, random_state=0, device="cpu").fit(y[:-168], fh=range(1, 169))
            errors[str(sp)] = (model.predict() - y[-168:]).abs().mean()
        assert errors["[24, 168]"] < 3
        assert errors["24"] > 10

    def test_order_and_repetition_do_not_matter(self):
        y = seasonal(60)
        expected = tiny(sp=[4, 12]).fit(y, fh=YEAR)
        for sp in ([12, 4], (4, 12, 12, 1), np.array([4, 12]).tolist()):
            np.testing.assert_array_equal(results(tiny(sp=sp).fit(y, fh=YEAR)), results(expected))
        one = tiny(sp=[12]).fit(y, fh=YEAR)
        np.testing.assert_array_equal(results(one), results(tiny(sp=12).fit(y, fh=YEAR)))


class TestBounds:
    def test_are_kept_by_all_that_is_forecast(self):
        y = np.abs(seasonal(60)).clip(upper=1.0)
        model = SFMForecaster(random_state=0, lower=0.2, upper=0.9).fit(y.clip(0.2, 0.9), fh=YEAR)
        found = [model.predict(), model.predict_interval(coverage=0.99), model.predict_quantiles(alpha=LEVELS)]
        assert all(((part >= 0.2) & (part <= 0.9)).all(axis=None) for part in found)
        assert (model.predict_var() <= 0.35**2).all(axis=None)  # no more than half at either end
        _, history = model.historical_forecasts(y.clip(0.2, 0.9), start=40, alpha=[0.001, 0.5, 0.999])
        assert history.min() >= 0.2
        assert history.max() <= 0.9

    def test_automatic_ones(self):
        y = pd.DataFrame({"a": np.arange(30.0) % 7, "b": np.arange(30.0) - 5})
        model = SFMForecaster().fit(y, fh=[1, 2])
        np.testing.assert_array_equal(model.lower_, [0.0, -np.inf])
        model.update(pd.DataFrame({"a": [-1.0], "b": [3.0]}, index=[30]), update_params=False)
        np.testing.assert_array_equal(model.lower_, [-np.inf, -np.inf])
        assert SFMForecaster(lower=None).fit(y, fh=[1]).lower_[0] == -np.inf
        assert SFMForecaster().fit(y[["a"]][:9], fh=[1]).lower_ == -np.inf  # too few values to tell

    @pytest.mark.parametrize("bounds", [{"lower": 0.5}, {"upper": 5.0}, {"lower": 8.0, "upper": 7.0}], ids=str)
    def test_that_y_violates(self, bounds):
        with pytest.raises(ValueError, match="Pass bounds between which all values lie"):
            SFMForecaster(**bounds).fit(pd.Series(np.arange(30.0) % 7), fh=[1])


class TestHorizons:
    def test_durations(self):
        y = pd.Series(np.arange(50.0), index=pd.date_range("2024-01-01", periods=50, freq="h"))
        model = SFMForecaster().fit(y, fh=pd.to_timedelta(["1h", "3h"]))
        assert model.horizon_ == 3
        assert list(model.predict().index) == list(pd.to_datetime(["2024-01-03 02:00", "2024-01-03 04:00"]))
        np.testing.assert_array_equal(model.predict(), model.predict(fh=[1, 3]))
        with pytest.raises(ValueError, match="no whole number of steps of 0 days 01:00:00"):
            model.predict(fh=pd.to_timedelta(["90min"]))
        monthly = SFMForecaster().fit(seasonal(30), fh=[1])
        with pytest.raises(ValueError, match=r"have none that is fixed. Pass numbers of steps"):
            monthly.predict(fh=pd.to_timedelta(["30D"]))

    @pytest.mark.parametrize("frequency", ["15min", "2D", "3M"])
    def test_periods_of_several_units(self, frequency):
        index = pd.period_range("2024-01", periods=43, freq=frequency)
        y = pd.Series(np.arange(40.0), index=index[:40])
        model = SFMForecaster().fit(y[:30], fh=[1, 2, 3]).update(y[30:])
        assert list(model.predict().index) == list(index[40:])
        with pytest.raises(ValueError, match="not equally far apart"):
            SFMForecaster().fit(y.drop(index[7]), fh=[1])

    def test_gaps(self):
        model = tiny(horizon=8).fit(seasonal())
        whole = model.predict_quantiles(YEAR, alpha=LEVELS).to_numpy()
        for steps in ([2, 7, 12], [3]):
            found = model.predict_quantiles(steps, alpha=LEVELS)
            np.testing.assert_array_equal(found, whole[np.array(steps) - 1])
            assert list(found.index) == [MONTHS[95 + step] for step in steps]

    def test_gaps_in_x(self):
        y, X = driven()
        model = tiny(horizon=8).fit(y[:-12], X=X[:-12])
        whole, future = model.predict(YEAR, X=X[-12:]), X[-12:]
        np.testing.assert_array_equal(model.predict([2, 7], X=future.iloc[[1, 6]]), whole.iloc[[1, 6]])
        without_gap = future.drop(future.index[[8, 9]])  # a forecast of step 11 goes on from that of steps 1 to 8
        np.testing.assert_array_equal(model.predict([2, 11], X=without_gap), whole.iloc[[1, 10]])
        with pytest.raises(ValueError, match=r"no row for 2009-04.*steps beyond the horizon"):
            model.predict([2, 11], X=future.drop(future.index[3]))

    @pytest.mark.parametrize("index", [MONTHS, MONTHS.to_timestamp(), pd.RangeIndex(400)], ids=lambda i: i.dtype.name)
    def test_absolute(self, index):
        y = seasonal().set_axis(index[:96])
        model = tiny().fit(y, fh=YEAR)
        absolute = ForecastingHorizon(index[[97, 101]], is_relative=False)
        forecast = model.predict(fh=absolute)
        np.testing.assert_array_equal(forecast, model.predict(fh=[2, 6]))
        assert list(forecast.index) == list(index[[97, 101]])
        again = tiny().fit(y, fh=ForecastingHorizon(index[96:108], is_relative=False))
        np.testing.assert_array_equal(results(again), results(tiny().fit(y, fh=YEAR)))

    def test_absolute_where_series_end_at_different_steps(self):
        pairs = {"a": driven(seed=0), "b": driven(seed=1)}
        y = panel({"a": pairs["a"][0][:-12], "b": pairs["b"][0][:-15]})
        X = pd.concat({key: X for key, (_, X) in pairs.items()}, names=["series", "month"])
        model = tiny(horizon=6).fit(y, X=X.loc[y.index])
        forecast = model.predict(fh=ForecastingHorizon(MONTHS[108:111], is_relative=False), X=X.drop(y.index))
        np.testing.assert_array_equal(forecast.loc["a"], model.predict([1, 2, 3], X=X.drop(y.index)).loc["a"])
        np.testing.assert_array_equal(forecast.loc["b"], model.predict([4, 5, 6], X=X.drop(y.index)).loc["b"])

    @pytest.mark.parametrize("multivariate", ["independent", "joint"])
    def test_beyond_the_trained_one(self, multivariate):
        y = pd.DataFrame({"u": seasonal(), "v": seasonal(seed=1)})
        model = tiny(sp=12, horizon=5, multivariate=multivariate).fit(y)
        assert model.horizon_ == 5
        far = model.predict(fh=range(1, 19))
        assert list(far.index) == list(MONTHS[96:114])
        np.testing.assert_array_equal(far[:5], model.predict(fh=range(1, 6)))
        interval = model.predict_interval(fh=range(1, 19), coverage=0.8)
        for name in y:
            width = (interval[name, 0.8, "upper"] - interval[name, 0.8, "lower"]).to_numpy()
            assert np.isfinite(width).all()
            assert (width[5:10] >= width[4]).all()
            assert (width[10:15] >= width[9]).all()
        assert error(far[5:], y.shift(12).reindex(far.index[5:]).fillna(y[-12:].mean())) < y.std().max()

    def test_with_x_beyond_the_trained_one(self):
        y, X = driven()
        forecast = tiny(horizon=5).fit(y[:-12], X=X[:-12]).predict(fh=YEAR, X=X[-12:])
        assert error(forecast, y[-12:]) < y.std() / 3


def waves(n_series, seed, n=60):
    """Sines with the same period and random phases and scales."""
    rng = np.random.default_rng(seed)
    phases, scales, t = rng.random(n_series), 10.0 ** rng.uniform(-2, 3, n_series), np.arange(n)
    return panel(
        {
            f"wave {seed}-{i}": pd.Series(scale * (np.sin(2 * np.pi * (t / 9 + phase)) + 5.0), index=MONTHS[:n])
            for i, (phase, scale) in enumerate(zip(phases, scales, strict=True))
        }
    )


def split(y, at):
    later = y.index.get_level_values(-1) >= MONTHS[at]
    return y[~later], y[later]


@pytest.fixture(scope="module")
def pretrained():
    return tiny(max_iter=5, context_length=18).pretrain(waves(12, seed=0), fh=range(1, 7))


@needs_pretrain
class TestPretraining:
    def test_forecasts_unseen_series(self, pretrained):
        past, truth = split(waves(5, seed=1), 54)
        forecast = copy.deepcopy(pretrained).fit(past, fh=range(1, 7)).predict()
        mean = NaiveForecaster("mean").fit(past, fh=range(1, 7)).predict()
        for key in past.index.unique(level=0):
            assert error(forecast.loc[key], truth.loc[key]) < 0.2 * error(mean.loc[key], truth.loc[key]), key

    def test_single_series_and_panel_mates(self, pretrained):
        past, _ = split(waves(4, seed=2), 50)
        together = copy.deepcopy(pretrained).fit(past, fh=range(1, 7)).predict()
        assert list(together.index.unique(level=0)) == list(past.index.unique(level=0))
        keys = list(past.index.unique(level=0))[::-1]
        shuffled = pd.concat([past.loc[[key]] for key in keys])
        backwards = copy.deepcopy(pretrained).fit(shuffled, fh=range(1, 7)).predict()
        assert list(backwards.index.unique(level=0)) == keys
        for key in keys:
            alone = copy.deepcopy(pretrained).fit(past.loc[key], fh=range(1, 7)).predict()
            np.testing.assert_allclose(together.loc[key], alone, rtol=1e-5)
            np.testing.assert_allclose(backwards.loc[key], alone, rtol=1e-5)

    def test_fit_takes_context_only(self, pretrained):
        model = copy.deepcopy(pretrained)
        model.fit(split(waves(2, seed=1), 54)[0], fh=range(1, 7))
        model.update(split(waves(2, seed=1), 54)[1])
        for before, after in zip(
            pretrained.module_.state_dict().values(), model.module_.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(before, after, rtol=0, atol=0)

    def test_fine_tuning_trains(self, pretrained):
        model = copy.deepcopy(pretrained).clone()
        model.fine_tune, model.early_stopping = True, False
        model.fit(seasonal(), fh=range(1, 7))
        assert not torch.equal(model.module_.position, pretrained.module_.position)
        torch.testing.assert_close(model.pretrained_module_.position, pretrained.module_.position, rtol=0, atol=0)

    def test_clone_keeps_the_network(self, pretrained):
        past, _ = split(waves(2, seed=3), 50)
        expected = copy.deepcopy(pretrained).fit(past, fh=range(1, 7))
        for copied in (pretrained.clone(), expected.clone()):
            np.testing.assert_array_equal(results(copied.fit(past, fh=range(1, 7))), results(expected))

    def test_stays_through_many_fits(self, pretrained):
        model, first, second = copy.deepcopy(pretrained), seasonal(seed=1), 100.0 * seasonal(50, seed=2)
        for y in (first, second, first):
            expected = copy.deepcopy(pretrained).fit(y, fh=YEAR)
            np.testing.assert_array_equal(results(model.fit(y, fh=YEAR)), results(expected))
        assert model.pretrain(waves(3, seed=4)).fit(second, fh=YEAR).predict().notna().all()

    def test_after_a_fit(self):
        y = seasonal()
        expected = tiny().pretrain(waves(3, seed=0), fh=YEAR).fit(y, fh=YEAR)
        model = tiny().fit(y[:40], fh=[1]).pretrain(waves(3, seed=0), fh=YEAR).fit(y, fh=YEAR)
        np.testing.assert_array_equal(results(model), results(expected))

    def test_unseen_with_other_columns(self, pretrained):
        y, X = driven()
        with pytest.raises(ValueError, match=r"X has the columns \['a', 'b'\], but fit had no X"):
            copy.deepcopy(pretrained).fit(y, X=X, fh=[1])
        with pytest.raises(
            ValueError, match=r"y has the columns \['u', 'v'\], but .* was trained with columns \['y'\]"
        ):
            copy.deepcopy(pretrained).fit(pd.DataFrame({"u": y, "v": y + 1}), fh=[1])
        model = tiny().pretrain(waves(2, seed=0).assign(z=1.0), fh=[1])
        with pytest.raises(
            ValueError, match=r"y has the columns \['z', 'y'\], but .* was trained with columns \['y', 'z'\]"
        ):
            model.fit(pd.DataFrame({"z": y, "y": y}), fh=[1])


class TestUpdate:
    def test_moves_the_cutoff_and_helps(self):
        level = np.concatenate([np.full(80, 10.0), np.full(20, 14.0)])
        y = pd.Series(level + 0.1 * np.random.default_rng(0).normal(size=100), index=MONTHS[:100], name="y")
        for update_params in (False, True):
            model = tiny(context_length=12).fit(y[:78], fh=range(1, 5))
            stale = model.predict(fh=range(19, 23))
            model.update(y[78:96], update_params=update_params)
            assert model.cutoff == MONTHS[[95]]
            fresh = model.predict(fh=range(1, 5))
            assert list(fresh.index) == list(MONTHS[96:100])
            assert error(fresh, y[96:]) < error(stale, y[96:]) / 3

    def test_with_parameters_is_a_fit_on_all(self):
        y, X = driven()
        expected = results(tiny().fit(y[:-12], X=X[:-12], fh=YEAR), X[-12:])
        model = tiny().fit(y[:-30], X=X[:-30], fh=YEAR)
        model.update(y[-30:-12], X=X[-30:-12], update_params=True)
        np.testing.assert_array_equal(results(model, X[-12:]), expected)

    def test_without_parameters_is_context(self):
        y = seasonal()
        model = tiny(context_length=12).fit(y[:70], fh=YEAR)
        weights = copy.deepcopy(model.module_.state_dict())
        model.update(y[70:75], update_params=False).update(y[72:84], update_params=False)  # they may overlap
        expected = tiny(context_length=12).fit(y[:70], fh=YEAR).update(y[70:84], update_params=False)
        np.testing.assert_array_equal(results(model), results(expected))
        for before, after in zip(weights.values(), model.module_.state_dict().values(), strict=True):
            torch.testing.assert_close(before, after, rtol=0, atol=0)

    @pytest.mark.parametrize("update_params", [False, True])
    @pytest.mark.parametrize("name", ["other", None])
    def test_with_another_name(self, name, update_params):
        y = seasonal()
        expected, model = tiny().fit(y[:70], fh=YEAR), tiny().fit(y[:70], fh=YEAR)
        expected.update(y[70:], update_params=update_params)
        model.update(y[70:].rename(name), update_params=update_params)
        np.testing.assert_array_equal(results(model), results(expected))
        assert model.predict().name == name

    def test_with_columns_in_another_order(self):
        y = seasonal()
        y = pd.DataFrame({"a": y, "b": 100.0 * y})
        model = tiny().fit(y[:70], fh=YEAR)
        before = results(model)
        with pytest.raises(
            ValueError, match=r"y has the columns \['b', 'a'\], but .* was trained with columns \['a', 'b'\]"
        ):
            model.update(y.loc[y.index[70:], ["b", "a"]], update_params=False)
        with pytest.raises(ValueError, match=r"y has the columns \['b', 'a'\]"):
            model.historical_forecasts(y[["b", "a"]])
        np.testing.assert_array_equal(results(model), before)

    def test_with_another_kind_of_index(self):
        model = SFMForecaster().fit(seasonal(30), fh=[1])
        dates = pd.Series([1.0], index=pd.date_range("2002-07-31", periods=1, freq="ME"))
        with pytest.raises(ValueError, match="index of y is a DatetimeIndex, but was a PeriodIndex in fit"):
            model.update(dates)

    def test_of_the_callers_frame_is_none(self):
        y = seasonal().to_frame()
        model = tiny().fit(y, fh=YEAR)
        before = model.predict()
        y.iloc[-20:] = 1e6
        y.loc[y.index[-1] + 1] = 0.0
        pd.testing.assert_frame_equal(model.predict(), before)

    def test_with_a_new_series(self):
        model = tiny().fit(panel({"a": seasonal()}), fh=YEAR)
        model.update(panel({"b": seasonal(seed=1)}), update_params=False)
        expected = tiny().fit(panel({"a": seasonal()}), fh=YEAR).predict()
        forecast = model.predict()
        assert list(forecast.index.unique(level=0)) == ["a", "b"]
        np.testing.assert_allclose(forecast.loc["a"], expected.loc["a"], rtol=1e-6)

    def test_many_at_once(self):
        y = seasonal(120)
        model = tiny(context_length=24).fit(y[:72], fh=range(1, 7))
        positions, forecasts = model.historical_forecasts(y, start=72, stride=5)
        levels_positions, quantiles = model.historical_forecasts(y, start=72, stride=5, alpha=[0.1, 0.5])
        np.testing.assert_array_equal(positions, np.arange(72, 115, 5))
        np.testing.assert_array_equal(levels_positions, positions)
        np.testing.assert_array_equal(quantiles[..., 1], forecasts)
        before = results(model)
        for position, forecast in zip(positions, forecasts, strict=True):
            one = tiny(context_length=24).fit(y[:72], fh=range(1, 7))
            if position > 72:
                one.update(y[72:position], update_params=False)
            np.testing.assert_allclose(forecast[:, 0], one.predict(), rtol=1e-5)
        np.testing.assert_array_equal(results(model), before)
        with pytest.raises(ValueError, match=r"y has 20 steps.*does not fit after the first start=.*from 1 to 14"):
            model.historical_forecasts(y[:20])


class TestFailures:
    """Whatever goes wrong, or is stopped, leaves a forecaster that can be used."""

    @pytest.mark.parametrize("updates", [60, 200])
    def test_ctrl_c_ends_the_fit(self, updates, monkeypatch):
        values = [0.3]
        for _ in range(1499):
            values.append(3.9 * values[-1] * (1.0 - values[-1]))
        step, done = Trainer._train_step, []

        def train_step(self, *arguments):
            done.append(None)
            if len(done) == updates + 1:
                raise KeyboardInterrupt
            return step(self, *arguments)

        monkeypatch.setattr(Trainer, "_train_step", train_step)
        model = tiny(context_length=8, horizon=2, learning_rate_init=0.02, batch_size=16, max_iter=20)
        with pytest.warns(UserWarning, match="Training was interrupted; the model keeps what it has learned so far"):
            model.fit(pd.Series(values), fh=[1, 2])
        assert len(done) == updates + 1
        assert np.isfinite(model.predict()).all()

    def test_an_earlier_fit_is_as_it_was(self):
        y = seasonal()
        model = tiny().fit(y[:72], fh=YEAR)
        before, cutoff = results(model), model.cutoff
        with pytest.raises(ValueError, match="fill it"):
            model.fit(at(y, MONTHS[3], np.inf))
        with pytest.raises(ValueError, match="fill it"):
            model.update(at(y[72:80], MONTHS[75], np.inf), update_params=False)
        with pytest.raises(ValueError, match=r"steps of y are not equally far apart|not contained"):
            model.update(y[75:80], update_params=False)
        np.testing.assert_array_equal(results(model), before)
        assert model.cutoff == cutoff

    @pytest.mark.parametrize("calendar_features", [False, True])
    def test_what_starts_a_model_is_computed_before_it_is_moved(self, calendar_features, monkeypatch):
        """A device that holds no numbers: whatever reads from it fails."""
        seen = []

        class Moved(Exception):  # noqa: N818
            pass

        def fit(self, train, *arguments, **options):
            seen.extend([self.parameters[0].device.type, train.values.device.type])
            raise Moved

        monkeypatch.setattr(forecaster, "resolve_device", lambda *_: torch.device("meta"))
        monkeypatch.setattr(
            Trainer, "__init__", lambda self, model, *_: vars(self).update(parameters=[*model.parameters()])
        )
        monkeypatch.setattr(Trainer, "fit", fit)
        y, X = driven()
        with pytest.raises(Moved):
            tiny(calendar_features=calendar_features, early_stopping=False).fit(y, X=X, fh=YEAR)
        assert seen == ["meta", "meta"]

    def test_whole_numbers_that_do_not_count_by_one(self):
        y = pd.Series(np.sin(np.arange(60.0)), index=np.arange(0, 120, 2))
        with pytest.raises(ValueError, match=r"The steps of y are 2 apart, but a forecasting horizon counts by 1"):
            tiny().fit(y, fh=[1])

    @pytest.mark.parametrize(
        ("change", "kind", "message"),
        [
            ({"alpha": [0.0, 0.5]}, ValueError, "must lie strictly between 0 and 1"),
            ({"alpha": [1.5]}, ValueError, "must lie strictly between 0 and 1"),
            ({"stride": 0}, ValueError, "stride must be an integer of at least 1, but is 0"),
            ({"stride": 1.5}, ValueError, "stride must be an integer of at least 1, but is 1.5"),
            ({"start": 20.0}, ValueError, "does not fit after the first start=20.0 steps"),
            ({"y": np.zeros(60)}, TypeError, "y must be a pandas Series or DataFrame, but is of type ndarray"),
            (
                {"y": panel({"a": seasonal(), "b": seasonal()})},
                ValueError,
                "y must be one series, but is a panel of 2. Pass one of them",
            ),
            ({"y": seasonal().drop(MONTHS[5])}, ValueError, "not equally far apart"),
            ({"y": at(seasonal(), MONTHS[5], np.inf)}, ValueError, "fill it"),
        ],
        ids=str,
    )
    def test_historical_forecasts_check_what_they_get(self, change, kind, message):
        model = tiny(context_length=12).fit(seasonal(), fh=[1, 2])
        with pytest.raises(kind, match=re.escape(message)):
            model.historical_forecasts(**{"y": seasonal(), **change})


class TestSeveralVariables:
    def test_explain_each_other_jointly(self):
        rng = np.random.default_rng(0)
        first = rng.normal(size=380)
        y = pd.DataFrame({"first": first, "second": np.roll(first, 4)}, index=MONTHS[:380])[4:]
        errors = {}
        for multivariate in ("independent", "joint"):
            options = {"n_states": 16, "max_iter": 40, "learning_rate_init": 0.02, "dropout": 0.0, "refit": False}
            model = tiny(multivariate=multivariate, context_length=12, segment_length=4, batch_size=32, **options)
            model.fit(y[:300], fh=range(1, 5))
            positions, forecasts = model.historical_forecasts(y[300:])
            truth = np.stack([y["second"].to_numpy()[300 + at : 304 + at] for at in positions])
            errors[multivariate] = np.abs(forecasts[..., 1] - truth).mean()
        assert errors["joint"] < 0.5 * errors["independent"]

    @pytest.mark.parametrize("multivariate", ["independent", "joint"])
    def test_names_and_scales(self, multivariate):
        y = pd.DataFrame({"u": seasonal(), "v": 1e6 * seasonal(seed=1) - 1e7})
        forecast = tiny(multivariate=multivariate, sp=12).fit(y, fh=YEAR).predict()
        assert list(forecast.columns) == ["u", "v"]
        assert (forecast.sub(y[-12:].mean()).abs().max() < 3 * y.std()).all()


class TestPanels:
    def test_of_unequal_lengths(self):
        series = {"c": seasonal(96), "a": seasonal(40, seed=1), "b": seasonal(3, seed=2, start=50)}
        forecast = tiny().fit(panel(series), fh=[1, 3]).predict()
        expected = [(key, one.index[-1] + step) for key, one in series.items() for step in (1, 3)]
        assert list(forecast.index) == expected
        for key, one in series.items():
            assert (forecast.loc[key, "y"] - one.mean()).abs().max() < 4.0

    @pytest.mark.parametrize(
        ("frequency", "n"), [("D", 1), ("D", 2), ("B", 5), ("MS", 2), ("h", 2)], ids=lambda value: str(value)
    )
    def test_of_dates_some_of_them_few(self, frequency, n):
        long = seasonal(60).set_axis(pd.date_range("2024-01-01", periods=60, freq=frequency))
        short = seasonal(n, seed=1).set_axis(pd.date_range("2024-01-01", periods=n, freq=frequency))
        y = panel({"long": long, "short": short})
        model = tiny().fit(y, fh=[1, 3])
        for forecast in (model.predict(), model.update(y, update_params=False).predict()):
            for key, one in (("long", long), ("short", short)):
                ahead = pd.date_range(one.index[-1], periods=4, freq=frequency)
                assert list(forecast.loc[key].index) == [ahead[1], ahead[3]]
        with pytest.raises(ValueError, match="have no frequency"):
            tiny().fit(panel({"long": long, "short": seasonal(3).set_axis(long.index[[0, 1, 3]])}), fh=[1])

    def test_hierarchical(self):
        y = pd.concat(
            {
                (region, shop): seasonal(seed=seed).to_frame("y")
                for seed, (region, shop) in enumerate([("north", 1), ("north", 2), ("south", 1)])
            },
            names=["region", "shop", "month"],
        )
        model = tiny().fit(y, fh=[1, 2])
        forecast = model.predict()
        assert forecast.index.names == ["region", "shop", "month"]
        assert list(forecast.index.droplevel(2).unique()) == [("north", 1), ("north", 2), ("south", 1)]
        assert model.predict_interval(coverage=[0.5, 0.9]).shape == (6, 4)


class TestNetworks:
    @pytest.mark.parametrize("network", CAUSAL)
    def test_all_that_are_causal(self, network):
        y = seasonal()
        forecast = tiny(network=network, n_states=10, sp=12, early_stopping=False).fit(y, fh=YEAR).predict()
        assert error(forecast, seasonal(108)[-12:]) < y.std()

    @pytest.mark.parametrize("network", sorted({*ALL_NETWORKS} - {*CAUSAL}))
    def test_others_are_refused(self, network):
        with pytest.raises(ValueError, match=f"network='{network}' is not causal.*Use a causal network"):
            tiny(network=network).fit(seasonal(), fh=[1])

    def test_options_of_their_own(self):
        y = seasonal()
        counts = [
            tiny(network="clockwork_rnn", n_states=10, network_params=options).fit(y, fh=[1]).module_.network.periods
            for options in (None, {"periods": (1, 3)})
        ]
        assert counts[0] != counts[1]
        with pytest.raises(ValueError, match="network_params has 'sp', which is a parameter of SFMForecaster itself"):
            tiny(network_params={"sp": 3}).fit(y, fh=[1])


class TestEquivariance:
    @pytest.mark.parametrize(("a", "b"), [(1e4, 0.0), (3.0, 700.0), (1e-3, -2.0)])
    def test_to_scale_and_offset(self, a, b):
        y = seasonal()
        model, other = tiny(sp=12).fit(y, fh=YEAR), tiny(sp=12).fit(a * y + b, fh=YEAR)
        atol = 1e-4 * abs(a) * y.std()
        np.testing.assert_allclose(other.predict(), a * model.predict() + b, rtol=0, atol=atol)
        found, expected = (m.predict_quantiles(alpha=LEVELS) for m in (other, model))
        np.testing.assert_allclose(found, a * expected + b, rtol=0, atol=10 * atol)
        np.testing.assert_allclose(other.predict_var(), a**2 * model.predict_var(), rtol=1e-3)


class TestRandomness:
    def test_same_seed(self):
        y = seasonal()
        assert (results(tiny().fit(y, fh=YEAR)) == results(tiny().fit(y, fh=YEAR))).all()
        one, other = (tiny(early_stopping=False, random_state=seed).fit(y, fh=YEAR) for seed in (0, 1))
        assert (one.predict() != other.predict()).any()

    def test_global_generators_are_left_alone(self):
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
        results(tiny(random_state=None, network_params={"recurrent_dropout": 0.1}).fit(seasonal(), fh=YEAR))
        assert torch.equal(torch.get_rng_state(), torch_state)
        np.testing.assert_array_equal(np.random.get_state()[1], numpy_state[1])
        assert np.random.get_state()[2] == numpy_state[2]


class TestCopies:
    def test_go_on_the_same(self, tmp_path):
        y, X = driven()
        model = tiny().fit(y[:-30], X=X[:-30], fh=YEAR)
        joblib.dump(model, tmp_path / "joblib")
        model.save(tmp_path / "model")
        models = [
            model,
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(model)),
            joblib.load(tmp_path / "joblib"),
            SFMForecaster.load_from_serial(model.save()[1]),
            SFMForecaster.load_from_path(tmp_path / "model.zip"),
        ]
        for one in models:
            one.update(y[-30:-20], X=X[-30:-20], update_params=False).update(y[-20:-12], X=X[-20:-12])
            np.testing.assert_array_equal(results(one, X[-12:]), results(model, X[-12:]))

    @needs_pretrain
    def test_of_a_pretrained_one(self):
        model = tiny().pretrain(waves(3, seed=0), fh=YEAR)
        copied = pickle.loads(pickle.dumps(model))
        y = seasonal()
        np.testing.assert_array_equal(results(copied.fit(y, fh=YEAR)), results(model.fit(y, fh=YEAR)))


class TestInSktime:
    def test_search_in_processes(self):
        y = seasonal(60)
        cv = ExpandingWindowSplitter(initial_window=40, step_length=8, fh=[1, 2, 3])
        grid = {"context_length": [12, 24], "network": ["gru"]}
        searches = [
            ForecastingGridSearchCV(
                tiny(),
                cv,
                grid,
                scoring=MeanAbsoluteError(),
                backend=backend,
                backend_params=options,
                error_score="raise",
            ).fit(y, fh=[1, 2, 3])
            for backend, options in (("loky", {"n_jobs": 2}), (None, {}))
        ]
        scores = [search.cv_results_["mean_test_MeanAbsoluteError"] for search in searches]
        np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
        best = tiny(**searches[0].best_params_).fit(y, fh=[1, 2, 3])
        np.testing.assert_array_equal(searches[0].predict(), best.predict())

    @pytest.mark.parametrize("strategy", ["refit", "update", "no-update_params"])
    @pytest.mark.parametrize(
        "cv",
        [
            ExpandingWindowSplitter(initial_window=60, step_length=12, fh=[1, 2, 6]),
            SlidingWindowSplitter(window_length=60, step_length=12, fh=[1, 2, 6]),
        ],
        ids=["expanding", "sliding"],
    )
    def test_evaluate(self, cv, strategy):
        y, X = driven(96)
        scores = evaluate(
            tiny(), cv, y, X, strategy, [MeanAbsoluteError(), PinballLoss()], return_data=True, error_score="raise"
        )
        assert len(scores) == cv.get_n_splits(y)
        assert (scores["test_MeanAbsoluteError"] < y.std() / 2).all()
        assert (scores["test_PinballLoss"] < y.std() / 4).all()
        for pred, truth in zip(scores["y_pred"], scores["y_test"], strict=True):
            assert list(pred.index) == list(truth.index)

    def test_beside_a_reduction(self):
        y = seasonal()
        models = MultiplexForecaster(
            [("sfm", tiny(sp=12)), ("reduction", make_reduction(LinearRegression(), window_length=12))]
        )
        cv = ExpandingWindowSplitter(initial_window=72, step_length=12, fh=[1, 2, 3])
        grid = {"selected_forecaster": ["sfm", "reduction"]}
        search = ForecastingGridSearchCV(
            models, cv, grid, scoring=MeanAbsoluteError(), backend=None, error_score="raise"
        ).fit(y)
        assert (search.cv_results_["mean_test_MeanAbsoluteError"] < y.std() / 2).all()

    def test_transformed_target(self):
        y = seasonal(108)
        pipeline = TransformedTargetForecaster(
            [("trend", Detrender()), ("season", Deseasonalizer(sp=12)), ("sfm", tiny())]
        )
        pipeline.fit(y[:-12], fh=YEAR)
        assert error(pipeline.predict(), y[-12:]) < y.std() / 2
        assert (np.diff(pipeline.predict_quantiles(alpha=[0.1, 0.5, 0.9]), axis=1) > 0).all()

    def test_transformed_covariates(self):
        y, X = driven()
        pipeline = ForecastingPipeline([("cube", ExponentTransformer(3)), ("sfm", tiny())])
        found = pipeline.fit(y[:-12], X=X[:-12].abs(), fh=YEAR).predict(X=X[-12:].abs())
        model = tiny().fit(y[:-12], X=X[:-12].abs() ** 3, fh=YEAR)
        np.testing.assert_allclose(found, model.predict(X=X[-12:].abs() ** 3), rtol=1e-6)

    def test_update_predict(self):
        y = seasonal()
        model = tiny(context_length=12).fit(y[:72], fh=[1, 2])
        cv = SlidingWindowSplitter(window_length=2, step_length=2, fh=[1, 2])
        forecast = model.update_predict(y[72:], cv, update_params=False, reset_forecaster=False)
        assert (forecast.notna().sum(axis=1) == 1).all()  # a column for each cutoff
        assert list(forecast.index) == list(y.index[74:])
        assert error(forecast.mean(axis=1), y[74:]) < y.std()


class TestRegression:
    """The ridge regression that may come before the network."""

    @pytest.fixture
    def swinging(self):
        rng, y = np.random.default_rng(0), np.zeros(400)
        for t in range(2, 400):
            y[t] = 1.6 * y[t - 1] - 0.9 * y[t - 2] + rng.normal()
        return pd.Series(y)

    def test_stays_where_it_helps(self, swinging):
        assert np.isfinite(tiny(max_iter=2).fit(swinging, fh=range(1, 5)).penalty_)

    def test_is_left_out_where_there_is_nothing_to_learn(self):
        noise = pd.Series(np.random.default_rng(0).normal(size=400))
        assert np.isinf(tiny(max_iter=2).fit(noise, fh=range(1, 5)).penalty_)

    def test_is_not_tried_without_a_validation_part(self, swinging):
        assert np.isinf(tiny(max_iter=2, early_stopping=False).fit(swinging, fh=range(1, 5)).penalty_)


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "kind", "message"),
        [
            (lambda y, X: (at(y, MONTHS[3], np.nan), X), ValueError, "y passed contained missing"),
            (lambda y, X: (at(y, MONTHS[3], np.inf), X), ValueError, "y is inf in column 'y' at 2000-04: fill it"),
            (lambda y, X: (y * 1e155, X), ValueError, r"y is \S*e\+15\d in column 'y'.*divide the column"),
            (lambda y, X: (y, at(X, MONTHS[3], np.nan)), ValueError, "X passed contained missing"),
            (lambda y, X: (y, at(X, MONTHS[3], -np.inf)), ValueError, "X is -inf in column 'a' at 2000-04: fill it"),
            (lambda y, X: (y, X.drop(MONTHS[5])), ValueError, "X has no row for 2000-06"),
            (lambda y, X: (y[:0], None), ValueError, "y has no steps; it needs at least one"),
            (
                lambda y, X: (pd.concat([y[:5], y[4:]]), None),
                ValueError,
                "not equally far apart: 2000-05 is followed by 2000-05.*Give each step once",
            ),
            (
                lambda y, X: (y.drop(MONTHS[[3, 17]]), None),
                ValueError,
                "not equally far apart: 2000-03 is followed by 2000-05.*fill missing steps",
            ),
            (lambda y, X: (y.reset_index(drop=True).drop([4, 5]), None), ValueError, "3 is followed by 6"),
            (
                lambda y, X: (y.set_axis(MONTHS[:60].to_timestamp()).drop("2000-04-01"), None),
                ValueError,
                r"dates of y, from 2000-01-01.* have no frequency.*y\.asfreq\('D'\)",
            ),
            (
                lambda y, X: (
                    y.set_axis(pd.bdate_range("2024", periods=60)).drop("2024-01-25").pipe(without_freq),
                    None,
                ),
                ValueError,
                r"have no frequency: 2024-01-24.* is followed by 2024-01-26.*y\.asfreq\('B'\)",
            ),
            (lambda y, X: (y.iloc[::-1], None), TypeError, "monotonic"),
            (lambda y, X: (y.astype(str), None), TypeError, "categorical"),
            (lambda y, X: (y, X.assign(a="x")), TypeError, "categorical"),
        ],
    )
    def test_fit(self, change, kind, message):
        y, X = change(*driven(60))
        with pytest.raises(kind, match=message):
            tiny(horizon=2).fit(y, X=X)

    def test_x_lacks_a_series(self):
        (y, X), key = driven(30), ["series", "month"]
        both, one = pd.concat({"a": y.to_frame(), "b": y.to_frame()}, names=key), pd.concat({"a": X}, names=key)
        with pytest.raises(ValueError, match=r"X has no rows for the series \('b',\) of y"):
            tiny().fit(both, X=one, fh=[1])
        X = pd.concat(dict.fromkeys("ab", X[:110]), names=["series", "month"])
        model = tiny().fit(both, X=X.loc[both.index], fh=[1])
        with pytest.raises(ValueError, match=r"X in predict has no rows for the series \('b',\) of y"):
            model.predict(X=pd.concat({"a": X.loc["a"].iloc[-10:]}, names=["series", "month"]))

    def test_predict(self):
        y, X = driven()
        model = tiny().fit(y[:-12], X=X[:-12], fh=YEAR)
        X = X[-12:]
        before = results(model, X)
        for bad, message in [
            (None, "X in predict is missing, but fit had X"),
            (X.drop(MONTHS[109]), "no row for 2009-02.*each step"),
            (X[:4], "no row for 2009-05"),
            (X.rename(columns={"a": "c"}), r"X in predict lacks the columns \['a'\]"),
            (at(X, MONTHS[110], np.nan), "X passed contained missing"),
            (at(X, MONTHS[110], np.inf), "X in predict is inf in column 'a' at 2009-03: fill it"),
        ]:
            with pytest.raises(ValueError, match=message):
                model.predict(X=bad)
            np.testing.assert_array_equal(results(model, X), before)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda y, X: (y, None), "X is missing, but fit had X"),
            (lambda y, X: (y, X.rename(columns={"a": "c"})), r"X lacks the columns \['a'\] of fit"),
            (lambda y, X: (y * np.nan, X), "y passed contained missing"),
            (lambda y, X: (y, X * np.inf), "X is -?inf"),
            (lambda y, X: (y[2:], X[2:]), "2007-06 is followed by 2007-09"),
        ],
    )
    def test_update(self, change, message):
        y, X = driven()
        model = tiny().fit(y[:90], X=X[:90], fh=YEAR)
        before = results(model, X[90:])
        bad_y, bad_X = change(y[90:100], X[90:100])
        with pytest.raises(ValueError, match=message):
            model.update(bad_y, X=bad_X)
        np.testing.assert_array_equal(results(model, X[90:]), before)
        model.update(y[90:108], X=X[90:108])
        fitted = tiny().fit(y[:108], X=X[:108], fh=YEAR)
        np.testing.assert_array_equal(results(model, X[108:]), results(fitted, X[108:]))

    def test_training_that_fails_in_an_update(self, monkeypatch):
        y, X = driven()
        model = tiny().fit(y[:90], X=X[:90], fh=YEAR)
        before = results(model, X[90:])

        def fail(*args, **kwargs):
            raise FloatingPointError("The training loss became nan.")

        with monkeypatch.context() as patch:
            patch.setattr(horizon_fit.Trainer, "fit", fail)
            with pytest.raises(FloatingPointError):
                model.update(y[90:108], X=5.0 * X[90:108])
        np.testing.assert_array_equal(results(model, X[90:]), before)

    def test_horizon_before_the_series(self):
        y = panel({"a": seasonal(60), "b": seasonal(50, seed=1)})
        model = tiny(horizon=3).fit(y)
        assert len(model.predict(fh=[-49])) == 2
        with pytest.raises(
            ValueError, match=r"step -50 relative to the last .* of the series \('b',\), but .* only 50"
        ):
            model.predict(fh=[-50])

    def test_dates_without_a_frequency(self):
        y = seasonal()
        bare = y.set_axis(pd.DatetimeIndex(MONTHS[:96].to_timestamp().to_numpy()))
        assert bare.index.freq is None
        model = tiny(calendar_features=True).fit(bare[:80], fh=YEAR).update(bare[80:81]).update(bare[81:])
        expected = tiny(calendar_features=True).fit(y.set_axis(MONTHS[:96].to_timestamp()), fh=YEAR)
        np.testing.assert_array_equal(results(model), results(expected))
        assert list(model.predict().index) == list(MONTHS[96:108].to_timestamp())

    def test_calendar_without_dates(self):
        with pytest.raises(ValueError, match=r"calendar_features=True needs a DatetimeIndex or a PeriodIndex.*int64"):
            tiny(calendar_features=True).fit(seasonal().reset_index(drop=True), fh=[1])

    def test_levels(self):
        model = tiny().fit(seasonal(), fh=[1])
        for alpha in (0.0, 1.0, 1.5, [0.5, -0.1]):
            with pytest.raises(ValueError, match="alpha"):
                model.predict_quantiles(alpha=alpha)

    def test_parameters(self):
        for name, value, message in [
            ("sp", 0, "'sp' parameter of SFMForecaster must be an int.* Got 0"),
            ("sp", [], "sp must hold whole numbers of at least 1"),
            ("sp", [12, 0], "sp must hold whole numbers of at least 1, but is"),
            ("sp", [2.5, 12], "sp must hold whole numbers of at least 1"),
            ("horizon", 0, "'horizon' parameter"),
            ("context_length", 2.5, "'context_length' parameter"),
            ("segment_length", -1, "'segment_length' parameter"),
            ("multivariate", "both", "'multivariate' parameter.*'both'"),
            ("validation_fraction", 1.0, "'validation_fraction' parameter"),
            ("dropout", 1.0, "'dropout' parameter"),
            ("batch_size", "all", "'batch_size' parameter"),
            ("max_iter", 0, "'max_iter' parameter"),
            ("optimizer", "newton", "'optimizer' parameter"),
            ("learning_rate_init", 0, "'learning_rate_init' parameter"),
            ("n_states", "many", "'n_states' parameter"),
            ("network", "lst", "Unknown network 'lst'; choose one of"),
            ("device", "gpu", "Unknown device 'gpu'"),
        ]:
            model = tiny(**{name: value})
            calls = [(model.fit, seasonal())]
            if not older("sktime", "1.0"):
                calls.append((model.pretrain, waves(2, seed=0)))
            for fit, y in calls:
                with pytest.raises(ValueError, match=message):
                    fit(y, fh=[1])


class TestSmallSeries:
    @pytest.mark.parametrize("value", [0.0, 5.0, -1e6])
    @pytest.mark.parametrize("n", [1, 5, 60])
    def test_constant(self, value, n):
        y = pd.Series(np.full(n, value), index=MONTHS[:n], name="y")
        model = tiny(sp=4).fit(y, fh=range(1, 4))
        np.testing.assert_allclose(results(model)[:, :-1], value, rtol=1e-9, atol=1e-200)
        assert np.isfinite(results(model)).all()

    def test_context_longer_than_the_series(self):
        y = seasonal(60)
        model, longest = (tiny(context_length=length).fit(y, fh=[1, 2]) for length in (4000, 59))
        assert model.context_length_ == 59
        np.testing.assert_array_equal(results(model), results(longest))

    def test_constant_among_others(self):
        flat = pd.Series(np.full(60, 0.007), index=MONTHS[:60])
        y = panel({"flat": flat, "wave": seasonal(60)})
        model = tiny(early_stopping=False, max_iter=10).fit(y, fh=[1, 2])
        np.testing.assert_allclose(model.predict().loc["flat"], 0.007, rtol=1e-9)
        np.testing.assert_allclose(model.predict_interval().loc["flat"], 0.007, rtol=1e-9)

    @pytest.mark.parametrize("sp", [1, 12])
    @pytest.mark.parametrize("with_x", [False, True])
    @pytest.mark.parametrize("n", [1, 2, 3, 4])
    def test_short(self, n, with_x, sp):
        y, X = driven(40)
        options = {"X": X[:n]} if with_x else {}
        model = tiny(sp=sp).fit(y[:n], fh=range(1, 6), **options)
        found = results(model, X[n : n + 5] if with_x else None)
        assert np.isfinite(found).all()
        if not with_x:
            assert np.abs(found[:, 0] - y[:n].mean()).max() <= 5.0 * max(1.0, np.ptp(y[:n]))
        if n > 1:
            interval = model.predict_interval(X=X[n : n + 5] if with_x else None, coverage=0.9).to_numpy()
            assert (interval[:, 1] - interval[:, 0] > 0.1 * y[:n].std()).all()
        assert math.isfinite(model.n_parameters_)

    def test_season_longer_than_the_series(self):
        y = seasonal(9)
        forecast = tiny(sp=12).fit(y, fh=YEAR).predict()
        assert (forecast - y.mean()).abs().max() < 3 * np.ptp(y)
