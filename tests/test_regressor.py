"""What SFMRegressor promises by itself; what it shares with others is in test_contract*.py."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_regressor
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict, cross_validate

from sfmts import SFMRegressor
from tests.helpers import NETWORKS
from tests.test_contract import FORMS, TRAINED, WAYS, assert_same_model
from tests.test_contract_training import watch_fits

pytestmark = pytest.mark.filterwarnings("error:::sfmts")

CASE = TRAINED[1]


def tiny(**options):
    return CASE.tiny(**{"network": "sfm", "pooling": "last", **options})


def able(**options):
    """A regressor that learns the problems below."""
    options = {"n_states": 6, "n_frequencies": 3, "batch_size": 8, "learning_rate_init": 0.03, **options}
    return tiny(**{"max_iter": 20, **options})


def means(ragged=True, n=40):
    """Noise, and the mean of its first channel."""
    rng = np.random.RandomState(0)
    lengths = rng.randint(6, 13, size=n) if ragged else np.full(n, 10)
    X = [rng.normal(size=(length, 2)) for length in lengths]
    y = np.array([2.0 * series[:, 0].mean() for series in X])
    return (X if ragged else np.stack(X)), y


def two_targets(X, y):
    return np.column_stack([y, [100.0 + 10.0 * series[-1, 1] for series in X]])


class TestLearning:
    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("pooling", ["last", "mean"])
    def test_mean_of_a_channel(self, network, pooling):
        X, y = means()
        assert able(network=network, pooling=pooling).fit(X, y).score(X, y) > 0.8

    @pytest.mark.parametrize("network", NETWORKS)
    def test_frequency(self, network):
        rng = np.random.RandomState(0)
        f = rng.uniform(0.3, 1.2, size=60)
        X = np.sin(f[:, None] * np.arange(16) + rng.uniform(0, 2 * np.pi, size=(60, 1)))
        model = able(network=network, max_iter=30).fit(X[:45], f[:45])
        assert model.score(X[45:], f[45:]) > 0.8

    @pytest.mark.parametrize("options", [{"bidirectional": True}, {"n_layers": 2}, {"head": "none"}], ids=str)
    def test_options(self, options):
        X, y = means()
        model = able(max_iter=30, **options).fit(X, y)
        assert model.score(X, y) > 0.8

    @pytest.mark.parametrize("options", [{}, {"head": "none", "max_iter": 40}], ids=str)
    def test_several_targets(self, options):
        X, y = means()
        y = two_targets(X, y)
        model = able(**options).fit(X, y)
        for column in (0, 1):
            assert r2_score(y[:, column], model.predict(X)[:, column]) > 0.8

    def test_no_head(self):
        X, y = means()
        for targets in (y, two_targets(X, y)):
            model = tiny(head="none").fit(X, targets)
            assert model.module_.network.output_size == (1 if targets.ndim == 1 else 2)
            assert not list(model.module_.head.parameters())
        with pytest.raises(ValueError, match=r"head='none'.*bidirectional.*Use head='linear'"):
            tiny(head="none", bidirectional=True).fit(X, y)

    def test_bidirectional_reads_from_both_ends(self):
        X, y = means()
        model = tiny(bidirectional=True).fit(X, y)
        assert model.module_.network.output_size == 8
        assert model.module_.network.causal is False


class TestUnits:
    @pytest.mark.parametrize(("origin", "unit"), [(1e5, 0.01), (1.7e9, 10.0)])
    def test_of_targets_do_not_matter_in_single_precision(self, origin, unit):
        X = np.random.default_rng(0).normal(size=(60, 10)).astype(np.float32)
        y = X.mean(axis=1).astype(np.float64)
        model = SFMRegressor(base=None, n_states=4, max_iter=5, random_state=0, device="cpu")
        expected = clone(model).fit(X, y).predict(X)
        found = clone(model).fit(X, origin + unit * y).predict(X)
        np.testing.assert_allclose((found - origin) / unit, expected, rtol=1e-3, atol=1e-5)


class TestTargets:
    @pytest.mark.parametrize("form", FORMS)
    def test_shape_is_that_of_y(self, form):
        X, y = CASE.data(form)
        for targets, shape in [
            (y, ()),
            (y.tolist(), ()),
            (pd.Series(y), ()),
            (np.stack([y, -y], axis=1), (2,)),
            (pd.DataFrame({"a": y, "b": -y}), (2,)),
            (np.stack([y] * 5, axis=1).tolist(), (5,)),
        ]:
            model = tiny().fit(X, targets)
            assert model.n_targets_ == (shape[0] if shape else 1)
            assert model.predict(X).shape == (len(X), *shape)
            assert model.score(X, targets) == pytest.approx(r2_score(targets, model.predict(X)))

    def test_one_column(self):
        """As scikit-learn's own neural network: a column is one target, with a warning."""
        X, y = means()
        with pytest.warns(DataConversionWarning, match="column-vector y was passed when a 1d array was expected"):
            model = tiny().fit(X, y[:, None])
        assert_same_model(CASE, model, tiny().fit(X, y), X)
        assert model.predict(X).shape == (len(X),)

    def test_integers_and_booleans_are_numbers(self):
        X, y = means()
        for targets in (np.round(10 * y).astype(int), y > 0):
            assert_same_model(CASE, tiny().fit(X, targets), tiny().fit(X, targets.astype(float)), X)

    @pytest.mark.parametrize(("scale", "shift"), [(1000.0, 0.0), (1e-3, 5.0), (1000.0, 7e5), (1.0, 1e4), (1e-9, 0.0)])
    def test_units_of_y_do_not_matter(self, scale, shift):
        X, y = means()
        expected = scale * able(max_iter=5).fit(X, y).predict(X) + shift
        found = able(max_iter=5).fit(X, scale * y + shift).predict(X)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * scale)

    def test_seconds_since_1970(self):
        """Targets whose mean is a million times their spread are not constant, and neither are channels."""
        X, y = means()
        plain = able().fit(X, y).predict(X)
        found = able().fit(X, 1.7e9 + 1000.0 * y).predict(X)
        np.testing.assert_allclose((found - 1.7e9) / 1000.0, plain, rtol=0, atol=1e-5)
        late = [1.7e9 + 1000.0 * series for series in X]
        np.testing.assert_allclose(able().fit(late, y).predict(late), plain, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("shift", [0.0, 1e4])
    def test_single_precision_keeps_a_shift(self, shift):
        X, y = means()
        X = [series.astype(np.float32) for series in X]
        assert able().fit(X, y + shift).score(X, y + shift) > 0.8

    @pytest.mark.parametrize("value", [0.0, 7.0, -1e6])
    def test_constant(self, value):
        X, y = means()
        model = able().fit(X, np.full(len(X), value))
        np.testing.assert_allclose(model.predict(X), value, rtol=0, atol=0.1)
        both = able().fit(X, np.column_stack([y, np.full(len(X), value)])).predict(X)
        np.testing.assert_allclose(both[:, 1], value, rtol=0, atol=0.5)
        assert r2_score(y, both[:, 0]) > 0.8

    def test_a_single_series(self):
        X, y = means()
        assert np.isfinite(tiny().fit(X[:1], y[:1]).predict(X)).all()

    def test_bad(self):
        X, _ = means()
        for y, message in [
            (np.zeros((40, 2, 2)), "dim 3"),
            (np.zeros((40, 0)), "0 feature"),
            (np.zeros(40, dtype=complex), "Complex data not supported"),
            (["word"] * 40, "could not convert string to float: 'word'"),
            (3.0, "(?i)scalar|singleton"),
        ]:
            with pytest.raises((ValueError, TypeError), match=message):
                tiny().fit(X, y)


class TestScore:
    def test_is_r2(self):
        X, y = means()
        y = two_targets(X, y)
        weights = np.arange(len(X)) % 3 + 0.5
        model = tiny().fit(X, y)
        assert model.score(X, y) == r2_score(y, model.predict(X))
        assert model.score(X, y, sample_weight=weights) == r2_score(y, model.predict(X), sample_weight=weights)

    def test_is_a_regressor(self):
        X, y = means()
        assert is_regressor(SFMRegressor(base=None))
        found = cross_val_predict(able(), X, y, cv=3)
        assert found.shape == y.shape
        assert r2_score(y, found) > 0.2
        result = cross_validate(tiny(), X, y, cv=2, scoring=["r2", "neg_mean_absolute_error"])
        assert (result["test_neg_mean_absolute_error"] < 0).all()

    def test_validation_score_counts_in_variances_of_training(self, monkeypatch):
        X, y = means()
        y = two_targets(X, y)
        seen = watch_fits(monkeypatch)
        model = tiny(early_stopping=True, validation_fraction=0.25, max_iter=1).fit(X, y)
        train, valid = seen[0]
        output = model.to_torch()(valid.x, valid.lengths).detach()
        found = model.module_.head.predictions(output)
        errors = (found - valid.target).square() / train.target.var(dim=0, correction=0)
        assert model.validation_scores_[0] == pytest.approx(1.0 - float(errors.mean()), rel=1e-10)


class TestWeightsOfTargets:
    def test_moments_are_weighted(self):
        X, y = means()
        weights = np.arange(len(X)) % 4.0
        head = tiny().fit(X, y, sample_weight=weights).module_.head
        mean = np.average(y, weights=weights)
        assert float(head.mean) == pytest.approx(mean)
        assert float(head.scale) ** 2 == pytest.approx(np.average((y - mean) ** 2, weights=weights))

    def test_what_counts_more_is_fitted_better(self):
        X, y = means()
        y = np.where(np.arange(len(X)) % 2, y, -y)  # two relations that exclude one another
        odd = np.arange(len(X)) % 2 == 1
        for favoured in (odd, ~odd):
            model = able().fit(X, y, sample_weight=np.where(favoured, 1.0, 0.01))
            errors = (model.predict(X) - y) ** 2
            assert errors[favoured].mean() < 0.5 * errors[~favoured].mean()


@pytest.mark.parametrize("method", ["partial_fit", "warm fit"])
def test_training_goes_on_with_as_many_targets(method):
    X, y = means()
    model = tiny(warm_start=True).fit(X, y)
    before = model.predict(X)
    with pytest.raises(ValueError, match="y has 2 targets, but 1 in the training so far"):
        (model.fit if method == "warm fit" else model.partial_fit)(X, two_targets(X, y))
    np.testing.assert_array_equal(model.predict(X), before)


def test_partial_fit_goes_on_behind_a_file(tmp_path):
    X, y = means()
    model = tiny().fit(X, two_targets(X, y))
    copied = WAYS["file"](model, tmp_path / "model").partial_fit(X, two_targets(X, y))
    assert copied.n_iter_ == 4
    assert np.abs(copied.predict(X) - model.predict(X)).max() > 1e-6
