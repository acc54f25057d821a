"""PanelScaler does to series what StandardScaler does to tables."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sfmts import PanelScaler, SFMClassifier
from sfmts import _persistence as persistence
from tests.helpers import make_panel

pytestmark = pytest.mark.filterwarnings("error:::sfmts")

FORMS = ["2-D", "3-D", "ragged"]
forms = pytest.mark.parametrize("form", FORMS)


def panel(form):
    X, _ = make_panel(n=10, ragged=form == "ragged")
    X = [series * [1.0, 50.0] + [3.0, -200.0] for series in X]
    return X if form == "ragged" else np.stack(X) if form == "3-D" else np.stack(X)[:, :, 1]


def steps(X):
    """All steps of all series, one below the other."""
    return np.concatenate([np.reshape(series, (len(series), -1)) for series in X])


@forms
class TestStatistics:
    def test_against_numpy(self, form):
        X = panel(form)
        scaler = PanelScaler().fit(X)
        np.testing.assert_allclose(scaler.mean_, steps(X).mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(scaler.var_, steps(X).var(axis=0), rtol=1e-12)
        np.testing.assert_allclose(scaler.scale_, steps(X).std(axis=0), rtol=1e-12)
        assert scaler.n_channels_in_ == len(scaler.mean_) == (1 if form == "2-D" else 2)

    def test_against_standard_scaler(self, form):
        X = panel(form)
        expected = StandardScaler().fit_transform(steps(X))
        np.testing.assert_allclose(steps(PanelScaler().fit_transform(X)), expected, rtol=1e-10, atol=1e-12)

    def test_large_offset(self, form):
        X = [series + 1e9 for series in panel(form)]
        X = X if form == "ragged" else np.stack(X)
        np.testing.assert_allclose(PanelScaler().fit(X).var_, steps(X).var(axis=0), rtol=1e-6)


@forms
class TestTransform:
    def test_mean_0_variance_1(self, form):
        Z = steps(PanelScaler().fit_transform(panel(form)))
        np.testing.assert_allclose(Z.mean(axis=0), 0.0, atol=1e-12)
        np.testing.assert_allclose(Z.var(axis=0), 1.0, rtol=1e-12)

    def test_options_and_inverse(self, form):
        X = panel(form)
        for with_mean, with_std in itertools.product([True, False], repeat=2):
            scaler = PanelScaler(with_mean=with_mean, with_std=with_std).fit(X)
            Z = scaler.transform(X)
            mean = steps(X).mean(axis=0) if with_mean else 0.0
            std = steps(X).std(axis=0) if with_std else 1.0
            np.testing.assert_allclose(steps(Z), (steps(X) - mean) / std, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(steps(scaler.inverse_transform(Z)), steps(X), rtol=1e-12)
            assert type(scaler.inverse_transform(Z)) is type(Z)

    def test_new_series_are_scaled_by_the_old_statistics(self, form):
        X = panel(form)
        scaler = PanelScaler().fit(X)
        one = scaler.transform(X[:1])
        np.testing.assert_array_equal(one[0], scaler.transform(X)[0])

    def test_form_is_kept(self, form):
        X = panel(form)
        Z = PanelScaler().fit_transform(X)
        if form == "ragged":
            assert isinstance(Z, list)
            assert [series.shape for series in Z] == [series.shape for series in X]
        else:
            assert isinstance(Z, np.ndarray)
            assert Z.shape == X.shape

    def test_input_is_left_alone(self, form):
        X = panel(form)
        scaler = PanelScaler().fit(X)
        Z = scaler.transform(X)
        scaler.inverse_transform(Z)
        np.testing.assert_array_equal(steps(X), steps(panel(form)))
        for series in Z:
            series += 1.0  # writable, and no view of X
        np.testing.assert_array_equal(steps(X), steps(panel(form)))

    def test_single_precision_is_kept(self, form):
        X = panel(form)
        single = [series.astype(np.float32) for series in X]
        single = single if form == "ragged" else np.stack(single)
        scaler = PanelScaler().fit(single)
        Z = scaler.transform(single)
        assert {series.dtype for series in Z} == {np.dtype(np.float32)}
        assert {series.dtype for series in scaler.inverse_transform(Z)} == {np.dtype(np.float32)}
        assert scaler.mean_.dtype == np.float64
        np.testing.assert_allclose(steps(Z), steps(PanelScaler().fit_transform(X)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["3-D", "ragged"])
def test_layout_of_the_inverse(form):
    X = panel(form)
    swapped = [series.T for series in X]
    swapped = swapped if form == "ragged" else np.stack(swapped)
    result = PanelScaler(layout="nct").fit(swapped).inverse_transform(swapped)
    assert type(result) is type(swapped)
    for series, plain in zip(result, PanelScaler().fit(X).inverse_transform(X), strict=True):
        np.testing.assert_array_equal(series, plain.T)


def test_series_without_an_axis_of_channels():
    X = [np.arange(4.0), np.arange(6.0)]
    scaler = PanelScaler().fit(X)
    Z = scaler.transform(X)
    assert [series.shape for series in Z] == [(4,), (6,)]
    assert [series.shape for series in scaler.inverse_transform(Z)] == [(4,), (6,)]
    np.testing.assert_allclose(np.concatenate(Z), (np.concatenate(X) - scaler.mean_) / scaler.scale_)


def test_tables_in_tables_out():
    X, y = make_panel()
    frame = pd.DataFrame(X[:, :, 0], columns=[f"t{step}" for step in range(X.shape[1])], index=y.astype(str))
    pipeline = make_pipeline(PanelScaler(), LogisticRegression()).set_output(transform="pandas").fit(frame, y)
    Z = pipeline[:-1].transform(frame)
    pd.testing.assert_frame_equal(Z, pd.DataFrame(PanelScaler().fit_transform(frame), frame.index, frame.columns))
    assert list(pipeline[:-1].get_feature_names_out()) == list(frame.columns)
    scaler = PanelScaler().set_output(transform="pandas").fit(X)
    assert isinstance(scaler.transform(X), np.ndarray)
    assert not hasattr(scaler, "get_feature_names_out")


def test_result_of_equal_series_in_a_list_goes_into_a_classifier():
    X, y = make_panel()
    Z = PanelScaler().fit_transform(list(X))
    SFMClassifier(base=None, n_states=2, max_iter=1, random_state=0).fit(Z, y).predict(Z)


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 1e20, -3e-20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_channel(value, dtype):
    X = panel("3-D").astype(dtype)
    X[:, :, 0] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaler = PanelScaler().fit(X)
        Z = scaler.transform(X)
    assert scaler.scale_[0] == 1.0
    np.testing.assert_allclose(Z[:, :, 0], 0.0, atol=1e-6 * abs(float(value)))
    np.testing.assert_allclose(Z[:, :, 1].std(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(scaler.inverse_transform(Z), X, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_small_and_large_units_are_not_constant(scale):
    X = panel("3-D") - panel("3-D").mean(axis=(0, 1))
    np.testing.assert_allclose(PanelScaler().fit_transform(scale * X).std(axis=(0, 1)), 1.0, rtol=1e-10)


def test_refitting_forgets():
    scaler = PanelScaler().fit(panel("2-D"))
    assert scaler.n_features_in_ == 12
    scaler.fit(panel("ragged"))
    assert not hasattr(scaler, "n_features_in_")
    assert scaler.n_channels_in_ == 2


@pytest.mark.parametrize(("name", "value"), [("with_mean", "yes"), ("with_std", 2), ("layout", "tnc")])
def test_parameters(name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter of PanelScaler must be.*Got {value!r} instead"):
        PanelScaler(**{name: value}).fit(panel("3-D"))


@forms
def test_in_a_pipeline(form):
    X, y = make_panel(ragged=form == "ragged")
    X = X[:, :, 0] if form == "2-D" else X
    classifier = SFMClassifier(base=None, n_states=3, n_frequencies=2, max_iter=2, random_state=0)
    pipeline = make_pipeline(PanelScaler(), classifier).fit(X, y)
    scaler = PanelScaler().fit(X)
    expected = clone(classifier).fit(scaler.transform(X), y).predict_proba(scaler.transform(X))
    np.testing.assert_array_equal(pipeline.predict_proba(X), expected)
    search = GridSearchCV(pipeline, {"panelscaler__with_mean": [True, False]}, cv=2, error_score="raise").fit(X, y)
    assert search.predict(X).shape == y.shape


def test_in_a_pipeline_of_tables():
    X, y = make_panel()
    pipeline = make_pipeline(PanelScaler(), LogisticRegression()).fit(X[:, :, 0], y)
    assert pipeline.predict(X[:, :, 0]).shape == y.shape


@forms
def test_a_fit_that_fails_changes_nothing(form):
    scaler = PanelScaler().fit(panel(form))
    before, expected = dict(vars(scaler)), scaler.transform(panel(form))
    for X, options, sentence in [
        (np.full((3, 4, 3), 1e200), {}, "whose variance is not finite"),
        (pd.DataFrame(np.full((3, 4), 1e200), columns=[*"abcd"]), {}, "whose variance is not finite"),
        ([np.full((3, 3), 1e200), np.ones((2, 3))], {"sample_weight": [1.0, 2.0]}, "whose variance is not finite"),
        (np.full((3, 4, 3), np.nan), {}, "NaN"),
        (np.ones((3, 4, 3)), {"sample_weight": [1.0]}, "sample_weight"),
        (np.ones((3, 4, 3)), {"sample_weight": [0.0] * 3}, "weight"),
        (np.ones((3, 4, 3)), {"sample_weight": [-1.0] * 3}, "weight"),
        ("text", {}, "X"),
    ]:
        unfitted = PanelScaler()
        for model in (scaler, unfitted):
            with pytest.raises((ValueError, TypeError), match=sentence):
                model.fit(X, **options)
        assert vars(unfitted) == vars(PanelScaler())
        assert vars(scaler).keys() == before.keys()
        assert all(vars(scaler)[name] is value for name, value in before.items())
        np.testing.assert_array_equal(steps(scaler.transform(panel(form))), steps(expected))


def test_what_overflows_is_refused():
    scaler = PanelScaler().fit(np.linspace(-1e-30, 1e-30, 20, dtype=np.float32).reshape(4, 5, 1))
    with pytest.raises(ValueError, match=r"absolute values up to 1e\+30, which overflow torch.float32"):
        scaler.transform(np.full((1, 5, 1), 1e30, dtype=np.float32))
    assert np.isfinite(scaler.transform(np.full((1, 5, 1), 1e30))).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mean_", np.zeros(3), "its mean_ is"),
        ("var_", np.array([1.0, -1.0]), "its var_ is"),
        ("scale_", np.array([1.0, 0.0]), "its scale_ has zeros"),
        ("scale_", np.array(["a", "b"]), "its scale_ is"),
        ("mean_", np.array([np.nan, 0.0]), "its mean_ is"),
        ("n_channels_in_", 3, "for each of 3 channels"),
    ],
)
def test_forged_file(name, value, message, tmp_path):
    path = tmp_path / "scaler"
    PanelScaler().fit(panel("3-D")).save(path)
    document, tensors = persistence.read(path)
    document["attributes"][name] = persistence.encode(value, name)
    persistence.write(path, document, tensors)
    with pytest.raises(ValueError, match=rf"scaler is damaged.*{message}"):
        PanelScaler.load(path)
