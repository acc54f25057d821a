"""The base of classifiers and regressors: what the network corrects, when it is used, and what is saved of it."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV

from sfmts import SFMClassifier, SFMRegressor, SFMRidgeClassifier, SFMRidgeRegressor
from sfmts.datasets import make_waves
from sfmts.estimators import ridge as ridge_module
from sfmts.estimators._correction import CorrectingEstimator

SMALL = {"network": "gru", "n_states": 16, "max_iter": 30, "random_state": 0}


@pytest.fixture
def few(monkeypatch):
    """Let networks be trained on 100 series."""
    monkeypatch.setattr(CorrectingEstimator, "_fewest_series", 100)


@pytest.fixture(scope="module")
def products():
    """Return series whose target is the product of two steps, which ridge regression finds hard."""
    X = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    return X, X[:, 0] * X[:, 5]


@pytest.fixture(scope="module")
def corrected(products):
    """Return a classifier and a regressor whose networks are used."""
    X, product = products
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CorrectingEstimator, "_fewest_series", 100)
        return [
            SFMClassifier(**SMALL).fit(X, np.where(product > 0, "same", "other")),
            SFMRegressor(**SMALL).fit(X, product),
        ]


@pytest.mark.parametrize(
    ("estimator", "base", "targets"),
    [
        (SFMClassifier, SFMRidgeClassifier, lambda X: np.where(X.std(axis=1) > np.median(X.std(axis=1)), "b", "a")),
        (
            SFMClassifier,
            SFMRidgeClassifier,
            lambda X: np.digitize(X.std(axis=1), np.quantile(X.std(axis=1), [0.3, 0.7])),
        ),
        (SFMRegressor, SFMRidgeRegressor, lambda X: X.std(axis=1) + 1e6),
        (SFMRegressor, SFMRidgeRegressor, lambda X: np.column_stack([X.std(axis=1), X.mean(axis=1)])),
    ],
    ids=["two classes", "three classes", "one target far from zero", "two targets"],
)
def test_few_series_get_the_fixed_memory_alone(estimator, base, targets):
    X = np.random.default_rng(0).normal(size=(60, 20)) * np.linspace(0.5, 2, 60)[:, None]
    y = targets(X)
    model, alone = estimator(random_state=0).fit(X, y), base(random_state=0).fit(X, y)
    assert not model.network_used_
    assert model.n_iter_ == len(model.loss_curve_) == 1
    if estimator is SFMRegressor:
        np.testing.assert_allclose(model.predict(X), alone.predict(X), rtol=1e-12)
    else:
        assert (model.predict(X) == alone.predict(X)).all()
        np.testing.assert_allclose(model.predict_proba(X), alone.predict_proba(X), rtol=1e-9)
        solution = alone._solution()
        p = alone.temperature_ * ridge_module._logits(solution.predictions)
        p = np.exp(p - p.max(axis=1, keepdims=True))
        assert model.loss_curve_[0] == pytest.approx(log_loss(y, p / p.sum(axis=1, keepdims=True)))


@pytest.mark.usefixtures("few")
def test_noise_leaves_the_network_out(products, capsys):
    X = products[0].astype(np.float64)
    y = np.random.default_rng(1).permutation(np.arange(200) % 2)
    model = SFMClassifier(**SMALL, verbose=1).fit(X[:200], y)
    assert not model.network_used_
    assert "left out" in capsys.readouterr().out
    np.testing.assert_allclose(model.predict_proba(X), model.base_.predict_proba(X), rtol=1e-9)
    assert all(not parameter.any() for parameter in model.module_.head.projection.parameters())
    assert len(model.validation_scores_) == len(model.loss_curve_) == model.n_iter_ > 1


def test_the_network_corrects_what_the_base_leaves(corrected):
    rng = np.random.default_rng(2)
    X_test = rng.normal(size=(500, 6)).astype(np.float32)
    truth = X_test[:, 0] * X_test[:, 5]
    classifier, regressor = corrected
    assert classifier.network_used_
    assert regressor.network_used_
    assert classifier.score(X_test, np.where(truth > 0, "same", "other")) > classifier.base_.score(
        X_test, np.where(truth > 0, "same", "other")
    )
    assert regressor.score(X_test, truth) > regressor.base_.score(X_test, truth) + 0.1
    # Outputs are weighted means of those of the base and those of the network, whose last layer holds its weight.
    module, lengths = regressor.module_, None
    output = module(regressor._batch(X_test, reset=False).x, lengths).detach().numpy()[:, 0]
    mean, scale, share = float(module.head.mean), float(module.head.scale), regressor.base_weight_
    assert 0 <= share < 1
    expected = mean + share * (regressor.base_.predict(X_test) - mean) + output * scale
    np.testing.assert_allclose(regressor.predict(X_test), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", [0, 1], ids=["classifier", "regressor"])
def test_saved_and_pickled_models_predict_the_same(corrected, products, place, tmp_path):
    model, X = corrected[place], products[0]
    model.save(tmp_path / "model.sfm")
    for again in (type(model).load(tmp_path / "model.sfm"), pickle.loads(pickle.dumps(model))):
        assert again.network_used_
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        np.testing.assert_array_equal(again.base_.predict(X), model.base_.predict(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.pop("base"), "its base is not the one"),
        (lambda document: document["base"].update(estimator="SFMRidgeRegressor"), "its base is a SFMRidgeRegressor"),
        (
            lambda document: document["attributes"].update(n_channels_in_=2),
            "not those of its model|other channels|size",
        ),
    ],
)
def test_a_forged_base_is_refused(corrected, change, message, tmp_path, monkeypatch):
    contents = corrected[0]._contents()
    change(contents[0])
    forged = clone(corrected[0])
    vars(forged).update(vars(corrected[0]))
    monkeypatch.setattr(type(forged), "_contents", lambda self: contents)
    forged.save(tmp_path / "model.sfm")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=message):
        SFMClassifier.load(tmp_path / "model.sfm")


@pytest.mark.parametrize("many", [False, True], ids=["Gram matrix", "normal equations"])
def test_leave_one_out_predictions_are_those_of_each_series(many, monkeypatch):
    """They come in the order of the series, whatever is left out, repeated or solved in another way."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 12)), rng.normal(size=40)
    weight = np.where(np.arange(40) % 7, 1.0 + np.arange(40) % 3, 0.0)
    X[11], y[11] = X[10], y[10]  # the same series twice
    if many:
        monkeypatch.setattr(ridge_module, "_MANY", 10)
        monkeypatch.setattr(ridge_module, "_PART", 13)

    def left_out(X, y, weight):
        model = SFMRidgeRegressor(n_features=56, random_state=0)
        batch = model._batch(X, reset=True)
        return model._fit_numbers(batch, y[:, None], 1, weight, left_out=True)[:, 0], model

    found, model = left_out(X, y, weight)
    assert (found[weight == 0] == 0).all()
    assert found[10] == found[11]
    # By hand: the same features and penalty without one series, by weighted least squares with a penalty.
    Z = model._squash.apply(model._features(model._batch(X, reset=False))).astype(float)
    total = weight.copy()
    total[10] += total[11]
    total[11] = 0.0
    total /= total[total > 0].mean()
    for number in (1, 10, 23):
        rest = (np.arange(40) != number) & (total > 0)
        w = total[rest]
        z, t = Z[rest] - np.average(Z[rest], axis=0, weights=w), y[rest] - np.average(y[rest], weights=w)
        coef = np.linalg.solve((z * w[:, None]).T @ z + model.alpha_ * Z.shape[1] * np.eye(Z.shape[1]), z.T @ (w * t))
        mean = np.average(Z[rest], axis=0, weights=w)
        by_hand = np.average(y[rest], weights=w) + (Z[number] - mean) @ coef
        assert found[number] == pytest.approx(by_hand, rel=1e-4, abs=1e-5)


def test_partial_fit_trains_on_what_the_base_of_the_first_part_leaves():
    X, y = make_waves(60, n_steps=20, variant="released", random_state=0)
    model = SFMClassifier(random_state=0, n_states=4).partial_fit(X[:40], y[:40], classes=np.unique(y))
    base = model.base_
    model.partial_fit(X[40:], y[40:])
    assert model.base_ is base
    assert model.network_used_
    assert len(model.loss_curve_) == 3  # the base, and two epochs
    alone = SFMRidgeClassifier(random_state=0).fit(X[:40], y[:40])
    np.testing.assert_array_equal(base.decision_function(X), alone.decision_function(X))


@pytest.mark.usefixtures("few")
def test_a_class_of_one_series_does_not_prevent_validation(products):
    X, _ = products
    y = np.where(X[:, 0] > 0, "many", "some")
    y[0] = "one"
    assert SFMClassifier(**{**SMALL, "max_iter": 1}).fit(X[:150], y[:150]).validation_scores_ is not None


@pytest.mark.usefixtures("few")
def test_warm_start_continues_the_network_and_fits_the_base_anew(products):
    X, product = products
    model = SFMRegressor(**{**SMALL, "max_iter": 2}, warm_start=True).fit(X[:200], product[:200])
    first = model.base_
    model.fit(X[200:], product[200:])
    assert model.base_ is not first
    with pytest.raises(ValueError, match="base='ridge' is now None"):
        model.set_params(base=None).fit(X, product)


@pytest.mark.parametrize(
    ("parameters", "call", "message"),
    [
        ({"head": "none"}, lambda model, X, y: model.fit(X, y), "head='none' has no weights that can start at zero"),
        ({"base": "lasso"}, lambda model, X, y: model.fit(X, y), "'base' parameter of SFMClassifier"),
        ({}, lambda model, X, y: model.fit(X, y).to_torch(), "Fit with base=None"),
        ({}, lambda model, X, y: model.fit(X, y).state_amplitudes(X), "was left out"),
    ],
)
def test_what_needs_the_network_alone_says_so(parameters, call, message):
    X, y = make_waves(20, n_steps=12, variant="released", random_state=0)
    with pytest.raises(ValueError, match=message):
        call(SFMClassifier(**parameters, random_state=0), X, y)


def test_a_generator_is_used_by_the_base_and_by_the_network():
    X, y = make_waves(20, n_steps=12, variant="released", random_state=0)
    seeded = SFMClassifier(random_state=1).fit(X, y)
    drawn = SFMClassifier(random_state=np.random.RandomState(1)).fit(X, y)
    np.testing.assert_array_equal(drawn.base_.coef_, seeded.base_.coef_)
    np.testing.assert_array_equal(drawn.base_.coef_, SFMRidgeClassifier(random_state=1).fit(X, y).coef_)
    again = drawn.fit(X, y)  # the generator has moved on
    assert (again.base_.coef_ != seeded.base_.coef_).any()


def test_a_search_compares_the_base_with_the_network_alone():
    X, y = make_waves(30, n_steps=12, variant="released", random_state=0)
    search = GridSearchCV(SFMClassifier(n_states=4, max_iter=1, random_state=0), {"base": ["ridge", None]}, cv=2)
    assert search.fit(X, y).best_params_ == {"base": "ridge"}


def test_the_base_knows_the_columns_of_the_frame():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 8)), columns=[f"hour {hour}" for hour in range(8)])
    model = SFMClassifier(random_state=0).fit(frame, frame["hour 3"] > 0)
    np.testing.assert_array_equal(model.base_.predict(frame), model.predict(frame))
    with pytest.raises(ValueError, match="feature names"):
        model.base_.predict(frame.rename(columns={"hour 0": "hour 8"}))


def test_a_base_refuses_equal_time_stamps():
    X = np.dstack([np.random.default_rng(0).normal(size=(20, 8)), np.broadcast_to(np.arange(8.0), (20, 8))])
    twice = X.copy()
    twice[2, 3, 1] = 2.0
    y = np.arange(20) % 2
    with pytest.raises(ValueError, match="Series 2 of X has two steps at time 2"):
        SFMClassifier(time_channel=1).fit(twice, y)
    model = SFMClassifier(time_channel=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="Series 2 of X has two steps at time 2"):
        model.predict(twice)
