"""cross_val_predict agrees with scikit-learn's where both apply, and takes panels that scikit-learn cannot divide."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.model_selection import cross_val_predict as sklearn_cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sfmts import SFMLabeler, SFMRidgeClassifier, SFMRidgeRegressor
from sfmts.model_selection import cross_val_predict
from tests.helpers import make_panel


def blobs(n=30, n_classes=2, seed=0):
    """Clear classes, sorted by label."""
    rng = np.random.RandomState(seed)
    y = np.sort(np.arange(n) % n_classes)
    return rng.normal(size=(n, 3)) + 5 * y[:, None], y


class TestStratified:
    @pytest.mark.parametrize("cv", [None, 2, 3, StratifiedKFold(3, shuffle=True, random_state=0)])
    @pytest.mark.parametrize("method", ["predict", "predict_proba"])
    @pytest.mark.parametrize("names", [None, np.array(["a", "b", "c"]), np.array(["a", "b", "c"], dtype=object)])
    def test_as_scikit_learn(self, cv, method, names):
        X, y = blobs(n_classes=3)
        y = y if names is None else names[y]
        for labels in (y, y.tolist()):
            found = cross_val_predict(LogisticRegression(), X, labels, cv=cv, method=method)
            expected = sklearn_cross_val_predict(LogisticRegression(), X, labels, cv=cv, method=method)
            np.testing.assert_array_equal(np.array(found), expected)
        if method == "predict":
            assert accuracy_score(y, found) == 1.0

    def test_series(self):
        X, y = make_panel(n=24, ragged=True)
        order = np.argsort(y, kind="stable")  # without stratification each half is of one class
        X, y = [X[i] for i in order], y[order]
        found = cross_val_predict(SFMRidgeClassifier(random_state=0), X, y, cv=2)
        assert accuracy_score(y, found) == 1.0

    @pytest.mark.filterwarnings("ignore:A column-vector y")
    def test_forms_of_labels(self):
        pd = pytest.importorskip("pandas")
        X, y = blobs()
        expected = cross_val_predict(LogisticRegression(), X, y, cv=2)
        for labels in (pd.Series(y, index=np.arange(30)[::-1]), y[:, None], pd.DataFrame({"label": y})):
            np.testing.assert_array_equal(cross_val_predict(LogisticRegression(), X, labels, cv=2), expected)

    def test_labels_of_steps_are_not_stratified(self):
        X, _ = make_panel(n=6, ragged=True)
        y = [(series[:, 0] > 0).astype(int) for series in X]
        found = cross_val_predict(SFMLabeler(n_states=4, max_iter=2, random_state=0), X, y, cv=2)
        assert [len(labels) for labels in found] == [len(series) for series in X]


class TestParams:
    def test_sample_weight(self):
        X, y = blobs()
        rng = np.random.RandomState(1)
        X[:, 1:] += rng.normal(scale=9, size=(30, 2))
        weight = rng.uniform(size=30) ** 8
        options = {"cv": 3, "method": "predict_proba"}
        plain = np.array(cross_val_predict(LogisticRegression(), X, y, **options))
        for form in (weight, weight.tolist()):
            params = {"sample_weight": form}
            found = np.array(cross_val_predict(LogisticRegression(), X, y, params=params, **options))
            expected = sklearn_cross_val_predict(LogisticRegression(), X, y, params=params, **options)
            np.testing.assert_array_equal(found, expected)
            assert not np.allclose(found, plain)

    def test_pipeline(self):
        X, y = blobs()
        model = make_pipeline(StandardScaler(), LogisticRegression())
        params = {"logisticregression__sample_weight": np.linspace(0.1, 1, 30)}
        found = cross_val_predict(model, X, y, params=params, method="predict_proba")
        expected = sklearn_cross_val_predict(model, X, y, params=params, method="predict_proba")
        np.testing.assert_array_equal(np.array(found), expected)

    def test_weights_of_series(self):
        X, _ = make_panel(n=12, ragged=True)
        targets = np.array([series[:, 0].mean() for series in X])
        weight = np.arange(12) + 0.5
        model = SFMRidgeRegressor(random_state=0)
        found = cross_val_predict(model, X, targets, cv=2, params={"sample_weight": weight})
        expected = model.fit(X[6:], targets[6:], sample_weight=weight[6:]).predict(X[:6])
        np.testing.assert_allclose(found[:6], expected)

    def test_routing(self):
        X, y = blobs()
        weight, groups = np.linspace(0.1, 1, 30), np.arange(30) % 5
        with config_context(enable_metadata_routing=True):
            model = LogisticRegression().set_fit_request(sample_weight=True)
            options = {"params": {"sample_weight": weight, "groups": groups}, "cv": GroupKFold(5)}
            found = cross_val_predict(model, X, y, method="predict_proba", **options)
            expected = sklearn_cross_val_predict(model, X, y, method="predict_proba", **options)
            np.testing.assert_array_equal(np.array(found), expected)
            with pytest.raises(ValueError, match=r"groups cannot be passed.*params=\{'groups': groups\} instead"):
                cross_val_predict(model, X, y, groups=groups)


class TestPanels:
    @pytest.fixture
    def frames(self):
        """Series of unequal length, a data frame of them whose labels are in no order, and classes."""
        pd = pytest.importorskip("pandas")
        X, y = make_panel(n=24, ragged=True)
        names = np.random.RandomState(0).permutation(24)
        keys = [f"series {name}" for name in names]
        return X, pd.concat([pd.DataFrame(series) for series in X], keys=keys, names=["instance", "time"]), y

    @pytest.mark.parametrize("method", ["predict", "predict_proba"])
    def test_multiindex(self, frames, method):
        pytest.importorskip("sktime")
        from sfmts import sktime

        X, frame, y = frames
        model, native = sktime.SFMRidgeClassifier(random_state=0), SFMRidgeClassifier(random_state=0)
        order = np.random.RandomState(1).permutation(24)
        folds = [(np.setdiff1d(order, test), test) for test in np.array_split(order, 3)]
        for cv in (3, folds):
            found = cross_val_predict(model, frame, y, cv=cv, method=method)
            assert len(found) == 24
            np.testing.assert_allclose(found, cross_val_predict(native, X, y, cv=cv, method=method), atol=1e-6)

    def test_params_and_groups_have_an_entry_per_series(self, frames):
        pytest.importorskip("sktime")
        from sfmts import sktime

        X, frame, y = frames
        weight, groups = np.linspace(0.1, 1, 24), np.repeat(np.arange(4), 6)
        model = sktime.SFMRidgeClassifier(random_state=0)
        options = {"groups": groups, "cv": GroupKFold(4), "params": {"sample_weight": weight}}
        found = cross_val_predict(model, frame, y, method="predict_proba", **options)
        inside = groups != 2
        rows = np.repeat(inside, [len(series) for series in X])
        model.fit(frame[rows], y[inside], sample_weight=weight[inside])
        np.testing.assert_allclose(np.array(found)[~inside], model.predict_proba(frame[~rows]), atol=1e-6)


@pytest.mark.parametrize(("name", "length"), [("y", 29), ("groups", 31)])
def test_other_lengths(name, length):
    X, y = blobs()
    options = {"y": y, name: np.zeros(length)}
    with pytest.raises(ValueError, match=f"X holds 30 series, but {name} holds {length} entries. Give one per series"):
        cross_val_predict(LogisticRegression(), X, **options)
