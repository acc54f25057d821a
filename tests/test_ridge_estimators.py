import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import log_loss

from sfmts import SFMRidgeClassifier, SFMRidgeRegressor
from sfmts.estimators import ridge
from tests.helpers import make_panel

SMALL = {"n_features": 448, "random_state": 0}
ESTIMATORS = [SFMRidgeClassifier, SFMRidgeRegressor]


def sines(n=60, seed=0):
    """Series of unequal length whose target is their period."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(5, 15, size=n)
    X = [np.sin(2 * np.pi * np.arange(rng.integers(30, 60)) / p + rng.uniform(0, 6))[:, None] for p in y]
    return X, y


def task(cls, n=40, n_classes=3, seed=0):
    if cls is SFMRidgeRegressor:
        return sines(n, seed)
    X, y = make_panel(n=n, n_steps=30, n_classes=n_classes, ragged=True, seed=seed)
    return X, np.array(["one", "two", "three", "four", "five"])[y]


def decisions(model, X):
    return model.decision_function(X) if hasattr(model, "decision_function") else model.predict(X)


# -- classification


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_classes_decisions_and_probabilities(n_classes):
    X, y = task(SFMRidgeClassifier, 60, n_classes)
    model = SFMRidgeClassifier(**SMALL).fit(X[:40], y[:40])
    assert list(model.classes_) == sorted(set(y))
    values, p = model.decision_function(X[40:]), model.predict_proba(X[40:])
    assert values.shape == ((20,) if n_classes == 2 else (20, n_classes))
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_allclose(np.log(p), model.predict_log_proba(X[40:]))
    best = (values > 0).astype(int) if n_classes == 2 else values.argmax(axis=1)
    np.testing.assert_array_equal(model.predict(X[40:]), model.classes_[best])
    np.testing.assert_array_equal(p.argmax(axis=1), best)
    assert model.score(X[40:], y[40:]) > 0.8
    assert 0.8 < model.leave_one_out_score_ <= 1.0
    assert model.coef_.shape == (1 if n_classes == 2 else n_classes, 448)


def test_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=700)
    X = rng.normal(size=(700, 60)) + np.sin(2 * np.pi * np.arange(60) / np.where(y == 1, 8, 9)[:, None]) * 0.8
    model = SFMRidgeClassifier(**SMALL).fit(X[:200], y[:200])
    p = model.predict_proba(X[200:])[:, 1]
    accuracy = model.score(X[200:], y[200:])
    assert 0.6 < accuracy < 0.97
    assert abs(np.maximum(p, 1 - p).mean() - accuracy) < 0.05
    plain = 1 / (1 + np.exp(-2 * model.decision_function(X[200:])))
    assert log_loss(y[200:], p) < log_loss(y[200:], plain) + 0.005


def test_one_class():
    X, _ = task(SFMRidgeClassifier)
    model = SFMRidgeClassifier(**SMALL).fit(X, np.full(40, "a"))
    assert set(model.predict(X)) == {"a"}
    np.testing.assert_array_equal(model.predict_proba(X), np.ones((40, 1)))


def test_class_weight_is_sample_weight():
    X, y = task(SFMRidgeClassifier, n_classes=2)
    weight = np.where(y == "one", 3.0, 1.0)
    by_class = SFMRidgeClassifier(**SMALL, class_weight={"one": 3.0, "two": 1.0}).fit(X, y)
    by_sample = SFMRidgeClassifier(**SMALL).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(by_class.decision_function(X), by_sample.decision_function(X), rtol=1e-9)
    few = np.r_[np.flatnonzero(y == "one")[:4], np.flatnonzero(y == "two")]
    X, y = [X[i] for i in few], y[few]
    balanced = SFMRidgeClassifier(**SMALL, class_weight="balanced").fit(X, y)
    plain = SFMRidgeClassifier(**SMALL).fit(X, y)
    assert balanced.decision_function(X).mean() < plain.decision_function(X).mean()  # more for "one", the rare class


# -- regression


def test_several_targets():
    X, y = sines()
    Y = np.column_stack([y, -2 * y + 1, np.full(len(y), 7.0)])
    model = SFMRidgeRegressor(**SMALL).fit(X[:50], Y[:50])
    assert model.predict(X[50:]).shape == (10, 3)
    assert model.score(X[50:], Y[50:, 0] if False else Y[50:]) > 0.9
    np.testing.assert_allclose(model.predict(X[50:])[:, 2], 7.0)
    np.testing.assert_allclose(model.predict(X[50:])[:, 1], 1 - 2 * model.predict(X[50:])[:, 0], rtol=1e-6)
    one = SFMRidgeRegressor(**SMALL).fit(X[:50], y[:50])
    np.testing.assert_allclose(one.predict(X[50:]), model.predict(X[50:])[:, 0], rtol=1e-6)
    assert one.leave_one_out_score_ > 0.9


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_units_of_the_target_do_not_matter(factor):
    X, y = sines()
    expected = SFMRidgeRegressor(**SMALL).fit(X, y).predict(X)
    np.testing.assert_allclose(SFMRidgeRegressor(**SMALL).fit(X, factor * y).predict(X), factor * expected, rtol=1e-6)


# -- both


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_weights_count_by_their_ratios_and_like_repetition(cls):
    X, y = task(cls)
    weight = np.arange(40) * 7 % 5 % 3
    weighted = cls(**SMALL).fit(X, y, sample_weight=weight)
    expected = decisions(weighted, X)
    scaled = cls(**SMALL).fit(X, y, sample_weight=weight * 1e-200)
    np.testing.assert_allclose(decisions(scaled, X), expected, rtol=1e-7, atol=1e-9)
    rows = np.repeat(np.arange(40), weight)
    repeated = cls(**SMALL).fit([X[i] for i in rows], y[rows])
    np.testing.assert_allclose(decisions(repeated, X), expected, rtol=1e-7, atol=1e-9)
    # A copy does not predict the series that was left out.
    np.testing.assert_allclose(repeated.leave_one_out_score_, weighted.leave_one_out_score_, rtol=1e-6)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_many_series_are_solved_like_few(cls, monkeypatch):
    X, y = task(cls)
    few = cls(**SMALL).fit(X, y)
    monkeypatch.setattr(ridge, "_MANY", 10)
    many = cls(**SMALL).fit(X, y)
    score = few.score(X, y)
    assert abs(many.score(X, y) - score) < 0.03
    monkeypatch.setattr("sfmts.features._reader.ALPHAS", np.repeat(few.alpha_, 2))  # not of the coarser grid
    exact = cls(**SMALL).fit(X, y)
    np.testing.assert_allclose(decisions(exact, X), decisions(few, X), rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(ridge, "_PART", 7)  # the scaling of the features is then that of seven series
    assert abs(cls(**SMALL).fit(X, y).score(X, y) - score) < 0.1


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_partial_fit_of_parts_is_that_of_all(cls, monkeypatch):
    X, y = task(cls)
    classes = {"classes": np.unique(y)} if cls is SFMRidgeClassifier else {}
    model = cls(**SMALL).partial_fit(X[:30], y[:30], **classes)
    before = decisions(model, X)
    model.partial_fit(X[30:35], y[30:35]).partial_fit(X[35:], y[35:])
    other = cls(**SMALL).partial_fit(X[:30], y[:30], **classes).partial_fit(X[30:], y[30:])
    np.testing.assert_allclose(decisions(model, X), decisions(other, X), rtol=1e-5, atol=1e-6)
    assert np.abs(decisions(model, X) - before).max() > 1e-3
    state = vars(model).copy()
    model.predict(X)
    assert vars(model) == state


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_partial_fit_after_fit_or_load_says_that_it_forgets(cls, tmp_path):
    X, y = task(cls)
    model = cls(**SMALL).fit(X, y)
    model.save(tmp_path / "model")
    for fitted in (model, cls.load(tmp_path / "model")):
        with pytest.warns(UserWarning, match="forgets the series so far"):
            fitted.partial_fit(X, y)
        assert fitted.score(X, y) > 0.8


def test_partial_fit_needs_classes_that_stay():
    X, y = task(SFMRidgeClassifier)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        SFMRidgeClassifier(**SMALL).partial_fit(X, y)
    model = SFMRidgeClassifier(**SMALL).partial_fit(X, y, classes=np.unique(y))
    with pytest.raises(ValueError, match="not the same as on the last call"):
        model.partial_fit(X, y, classes=["one", "two"])
    with pytest.raises(ValueError, match=r"labels \['six'\], which are not among the classes"):
        model.partial_fit(X[:1], ["six"])
    with pytest.raises(ValueError, match="class_weight='balanced' needs all labels at once"):
        SFMRidgeClassifier(**SMALL, class_weight="balanced").partial_fit(X, y, classes=np.unique(y))
    assert model.score(X, y) > 0.8


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_gaps_are_taken_as_they_come(cls):
    X, y = task(cls, n=60)
    rng = np.random.default_rng(0)
    gappy = [np.where(rng.uniform(size=(len(x), 1)) < 0.3, np.nan, x) for x in X]
    model = cls(**SMALL).fit(gappy[:40], y[:40])
    assert model.score(gappy[40:], y[40:]) > 0.7


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_a_stream_predicts_like_the_prefix(cls):
    X, y = task(cls)
    model = cls(**SMALL, directions="forward").fit(X, y)
    stream = model.stream()
    for step, x in enumerate(X[0], start=1):
        stream.update(x)
        if step % 7 == 0:
            prefix = [X[0][:step]]
            np.testing.assert_allclose(
                stream.predict() if cls is SFMRidgeRegressor else stream.decision_function(),
                decisions(model, prefix)[0],
                rtol=1e-4,
                atol=1e-5,
            )
            if cls is SFMRidgeClassifier:
                np.testing.assert_allclose(stream.predict_proba(), model.predict_proba(prefix)[0], atol=1e-4)
                assert stream.predict() == model.predict(prefix)[0]


def test_no_accepted_series_gives_nan():
    X, y = task(SFMRidgeClassifier)
    model = SFMRidgeClassifier(**SMALL).fit(X, y)
    odd = [np.full((1, 2), 3.0), np.zeros((2, 2)), np.full((500, 2), 1e8), np.full((3, 2), -1e-300), X[0] * 1e6]
    assert np.isfinite(model.decision_function(odd)).all()
    flat = SFMRidgeClassifier(**SMALL).fit([np.ones((4, 1))] * 6, [0, 1] * 3)
    assert np.isfinite(flat.predict_proba([np.ones((4, 1)), np.arange(5.0)[:, None]])).all()


# -- real data


@pytest.mark.parametrize(
    ("name", "least"),
    [("gunpoint", 0.97), ("italy_power_demand", 0.93), ("basic_motions", 0.97), ("japanese_vowels", 0.97)],
)
def test_real_collections(name, least):
    datasets = pytest.importorskip("sktime.datasets")
    kind = "df-list" if name == "japanese_vowels" else "numpy3D"
    (X, y), (X_test, y_test) = (
        getattr(datasets, f"load_{name}")(split=split, return_type=kind) for split in ("train", "test")
    )
    if kind == "df-list":
        X, X_test = ([series.to_numpy() for series in part] for part in (X, X_test))
    model = SFMRidgeClassifier(random_state=0, layout="ntc" if kind == "df-list" else "nct")
    assert clone(model).fit(X, y).score(X_test, y_test) >= least
