"""sfmts.sktime: sktime's suite, scikit-learn's suite, and what neither verifies."""

import importlib
import pickle
import re
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import DataConversionWarning
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.linear_model import Ridge, RidgeClassifierCV
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks as parametrize_with_sklearn_checks
from sklearn.utils.validation import check_is_fitted
from sktime.base import load
from sktime.classification.compose import SklearnClassifierPipeline
from sktime.classification.model_selection import TSCGridSearchCV
from sktime.datatypes import convert_to
from sktime.exceptions import NotFittedError as SktimeNotFittedError
from sktime.registry import ESTIMATOR_TAG_LIST, scitype
from sktime.transformations.series.exponent import ExponentTransformer
from sktime.utils.estimator_checks import check_estimator, parametrize_with_checks

import sfmts
from sfmts import PanelScaler
from sfmts.sktime import SFMClassifier, SFMFeatures, SFMRegressor, SFMRidgeClassifier, SFMRidgeRegressor
from tests.helpers import make_panel, needs_callbacks, older

TRAINED = [SFMClassifier, SFMRegressor]
CLASSIFIERS = [SFMClassifier, SFMRidgeClassifier]
REGRESSORS = [SFMRegressor, SFMRidgeRegressor]
SUPERVISED = [*CLASSIFIERS, *REGRESSORS]
FACES = [*SUPERVISED, SFMFeatures]
FORMATS = ["numpy3D", "df-list", "pd-multiindex", "nested_univ"]
RAGGED_FORMATS = FORMATS[1:]


def name_of(value):
    return getattr(value, "__name__", str(value))


every = pytest.mark.parametrize("face", FACES, ids=name_of)
trained = pytest.mark.parametrize("face", TRAINED, ids=name_of)
supervised = pytest.mark.parametrize("face", SUPERVISED, ids=name_of)
classifiers = pytest.mark.parametrize("face", CLASSIFIERS, ids=name_of)
regressors = pytest.mark.parametrize("face", REGRESSORS, ids=name_of)
# Whether values are missing, which only the fixed memory takes.
GAPS = [(face, False) for face in FACES] + [(face, True) for face in FACES if face not in TRAINED]
with_gaps = pytest.mark.parametrize(("face", "nan"), GAPS, ids=name_of)


@parametrize_with_checks(FACES, obj_varname="face", check_varname="name")
@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
def test_sktime_suite(face, name):
    if name == "test_multioutput" and older("sktime", "1.2"):
        pytest.skip("before sktime 1.2, this check asked for one fit of each column where none is needed")
    found = check_estimator(face, tests_to_run=name, raise_exceptions=True, verbose=False)
    assert found
    assert set(found.values()) == {"PASSED"}


@parametrize_with_sklearn_checks(
    [
        *(face(n_states=8, max_iter=40) for face in TRAINED),
        *(face(n_features=560) for face in SUPERVISED if face not in TRAINED),
    ]
)
@pytest.mark.filterwarnings("ignore:only single label seen")
@pytest.mark.filterwarnings("error::sklearn.exceptions.SkipTestWarning")
def test_sklearn_suite(estimator, check):
    check(estimator)


def tiny(face, **options):
    """A face, or a native estimator, that fits in a few milliseconds."""
    trained = {"base": None, "n_states": 4, "n_frequencies": 2, "max_iter": 3, "random_state": 0}
    fixed = {"n_features": 112, "random_state": 0}
    return face(**{**(trained if face.__name__ in ("SFMClassifier", "SFMRegressor") else fixed), **options})


def native(face):
    return getattr(sfmts, face.__name__)


def panel(face, ragged=False, nan=False, n=24):
    """Series as the native estimators take them, (n, T, C) or a list of (T_i, C), and targets."""
    X, y = make_panel(n=n, ragged=ragged)
    y = np.array([series[:, 0].mean() for series in X]) if face in REGRESSORS else y
    if nan:
        for series in (X[0], X[-1]):
            series[2:4] = np.nan
            series[0, 0] = np.nan
        X[1][-1] = X[2][0] = np.nan
        X[3][:, 1] = np.nan
    return X, y


def in_sktime(X, mtype="numpy3D"):
    """The same series in a format of sktime."""
    X = X.transpose(0, 2, 1) if isinstance(X, np.ndarray) else [pd.DataFrame(series) for series in X]
    return convert_to(X, mtype, as_scitype="Panel")


def results(model, X):
    if hasattr(model, "transform"):
        return np.asarray(model.transform(X))
    return model.predict_proba(X) if is_classifier(model) else model.predict(X)


def fitted(face, ragged=False, nan=False, **options):
    """A fitted face, the series in a format of sktime, and the targets."""
    X, y = panel(face, ragged, nan)
    X = in_sktime(X, "df-list" if ragged else "numpy3D")
    return tiny(face, **options).fit(X, y), X, y


def cubes(X):
    return convert_to(ExponentTransformer(power=3).fit_transform(X), "numpy3D", as_scitype="Panel")


def assert_equals_native(face, X, y, mtypes, **options):
    """In every format, whatever the format of the fit."""
    expected = tiny(native(face), **options).fit(X, y)
    assert np.isfinite(results(expected, X)).all()
    for mtype in mtypes:
        model = tiny(face, **options).fit(in_sktime(X, mtype), y)
        assert model.n_channels_in_ == 2
        for other in mtypes:
            np.testing.assert_array_equal(results(model, in_sktime(X, other)), results(expected, X))
            if face in SUPERVISED:
                np.testing.assert_array_equal(model.predict(in_sktime(X, other)), expected.predict(X))
                assert model.score(in_sktime(X, other), y) == expected.score(X, y)


@every
class TestParameters:
    def test_reach_the_native_estimator(self, face):
        changed = {"network": "gru", "pooling": "mean", "batch_size": 7}
        changed = changed if face in TRAINED else {"periods": (3, 9), "scale": "series"}
        model, _, _ = fitted(face, **changed)
        assert type(model.estimator_) is native(face)
        assert model.estimator_.get_params() == {**model.get_params(), "layout": "nct"}
        if face not in TRAINED:
            period = model.estimator_.feature_info_["period"]
            assert period[np.isfinite(period)].max() <= 9

    def test_clone_and_set(self, face):
        (name, value), other = (("dropout", 0.25), "n_states") if face in TRAINED else (("scale", "both"), "n_features")
        model, _, _ = fitted(face, **{name: value})
        for copied in (clone(model), model.clone()):
            assert copied.get_params() == model.get_params()
            assert not copied.is_fitted
        assert model.set_params(**{other: 56}) is model
        assert model.get_params()[other] == 56
        assert model.get_params()[name] == value
        with pytest.raises(ValueError, match="n_stat"):
            model.set_params(n_stat=5)

    def test_bad(self, face):
        model, X, y = fitted(face)
        before = results(model, X)
        name = "n_states" if face in TRAINED else "n_features"
        setattr(model, name, 0)  # set_params would forget the fit
        with pytest.raises(ValueError, match=rf"'{name}' parameter of SFM.* must be an int.* Got 0"):
            model.fit(X, y)
        np.testing.assert_array_equal(results(model, X), before)

    def test_time_stamps(self, face):
        X, y = panel(face)
        X[:, :, 1] = np.arange(X.shape[1]) ** 1.5
        assert_equals_native(face, X, y, ["numpy3D", "df-list"], time_channel=1)


@every
def test_kind(face):
    kinds = {SFMFeatures: "transformer", **dict.fromkeys(CLASSIFIERS, "classifier")}
    model = face()
    assert scitype(model) == kinds.get(face, "regressor")
    assert (is_classifier(model), is_regressor(model)) == (face in CLASSIFIERS, face in REGRESSORS)
    named = ["multivariate", "unequal_length", "random_state"]
    if face is not SFMFeatures:
        named += ["sample_weight"] if face in TRAINED else ["sample_weight", "multithreading"]
    for name in named:
        # sktime < 0.39 does not know all of them
        if f"capability:{name}" in ESTIMATOR_TAG_LIST:
            assert model.get_tag(f"capability:{name}") is True, name
    assert model.get_tag("capability:missing_values") is (face not in TRAINED)
    assert model.get_tag("capability:categorical_in_X") is False
    tags = model.__sklearn_tags__()
    assert tags.input_tags.three_d_array
    assert tags.input_tags.allow_nan is (face not in TRAINED)
    if face is SFMFeatures:
        assert tags.transformer_tags is not None
        return
    assert tags.input_tags.two_d_array
    assert tags.target_tags.multi_output == (face in REGRESSORS)


class TestFormats:
    @with_gaps
    def test_of_equal_length(self, face, nan):
        assert_equals_native(face, *panel(face, nan=nan), FORMATS)

    @with_gaps
    def test_of_unequal_length(self, face, nan):
        assert_equals_native(face, *panel(face, ragged=True, nan=nan), RAGGED_FORMATS)

    @pytest.mark.parametrize(("face", "nan"), [gap for gap in GAPS if gap[0] is not SFMFeatures], ids=name_of)
    def test_tables(self, face, nan):
        """What scikit-learn takes for (samples, features) is n series of one channel."""
        X, y = panel(face, nan=nan)
        table = X[:, :, 0]
        expected = tiny(native(face)).fit(table, y)
        for convert in (np.asarray, np.ndarray.tolist, pd.DataFrame):
            model = tiny(face).fit(convert(table), y)
            assert model.n_features_in_ == table.shape[1]
            np.testing.assert_array_equal(results(model, convert(table)), results(expected, table))
            np.testing.assert_array_equal(results(model, table[:, None, :]), results(expected, table))
        model = tiny(face).fit(table[:, None, :], y)
        assert not hasattr(model, "n_features_in_")
        np.testing.assert_array_equal(results(model, table[:, None, :]), results(expected, table))

    @trained
    def test_list_of_one_channel(self, face):
        X, y = panel(face, ragged=True)
        series = [one[:, 0] for one in X]
        expected = tiny(native(face)).fit(series, y)
        np.testing.assert_array_equal(results(tiny(face).fit(series, y), series), results(expected, series))

    @pytest.mark.parametrize("face", [SFMRidgeClassifier, SFMRidgeRegressor], ids=name_of)
    def test_table_with_a_row_of_nan(self, face):
        X, y = panel(face)
        X[5] = np.nan
        for series in (X[:, :, 0], in_sktime(X)):
            with pytest.raises(ValueError, match="Series 5 of X has no observation"):
                tiny(face).fit(series, y)

    def test_a_single_series_is_one_row(self):
        X, _ = panel(SFMFeatures)
        model = tiny(SFMFeatures).fit(in_sktime(X))
        frame = pd.DataFrame(X[0], index=pd.period_range("2020-01", periods=len(X[0]), freq="M"))
        for single in (frame, X[0]):
            np.testing.assert_array_equal(results(model, single), results(model, in_sktime(X[:1])))

    def test_features_are_a_frame(self):
        X, _ = panel(SFMFeatures)
        model = tiny(SFMFeatures)
        for features in (model.fit_transform(in_sktime(X)), model.transform(in_sktime(X))):
            assert type(features) is pd.DataFrame
            assert features.shape == (len(X), 112)
            assert (features.dtypes == np.float32).all()
            assert features.columns.tolist() == model.get_feature_names_out().tolist()
        assert features.columns.tolist() == model.estimator_.get_feature_names_out().tolist()

    @pytest.mark.parametrize("face", [face for face in FACES if face not in TRAINED], ids=name_of)
    @pytest.mark.parametrize("dtype", ["Float32", "Float64"])
    def test_nullable_columns(self, face, dtype):
        X, y = panel(face, nan=True)
        frames = [pd.DataFrame(series).astype(dtype) for series in X]
        assert frames[0].iloc[0, 0] is pd.NA
        expected = results(tiny(native(face)).fit(X, y), X)
        np.testing.assert_allclose(results(tiny(face).fit(frames, y), frames), expected, rtol=1e-4, atol=1e-5)

    @trained
    @pytest.mark.parametrize("mtype", ["numpy3D", "df-list"])
    def test_precision_is_that_of_x(self, face, mtype):
        for dtype in (np.float32, np.float64):
            X, y = panel(face)
            X = in_sktime(X.astype(dtype), mtype)
            model = tiny(face, device="cpu").fit(X, y)
            weight = next(model.estimator_.module_.parameters())
            assert weight.dtype == getattr(torch, np.dtype(dtype).name)
            assert results(model, X).dtype == (np.float64 if face is SFMRegressor else dtype)  # numbers have units

    @with_gaps
    def test_estimator_takes_the_same_arrays_and_leaves_them_alone(self, face, nan):
        X, y = panel(face, nan=nan)
        X = in_sktime(X).copy()
        before = X.copy()
        X.flags.writeable = y.flags.writeable = False
        model = tiny(face).fit(X, y)
        np.testing.assert_array_equal(results(model.estimator_, X), results(model, X))
        if face in SUPERVISED:
            model.score(X, y)
        if face in TRAINED:
            assert model.estimator_.state_amplitudes(X).shape == (24, 12, 4, 2)
        np.testing.assert_array_equal(X, before)


class TestTargets:
    @supervised
    def test_forms(self, face):
        X, y = panel(face)
        expected = tiny(native(face)).fit(X, y).predict(X)
        for convert in (np.ndarray.tolist, pd.Series, lambda y: pd.DataFrame({"y": y})):
            found = tiny(face).fit(in_sktime(X), convert(y)).predict(in_sktime(X))
            assert type(found) is np.ndarray
            np.testing.assert_array_equal(found, expected)
        with pytest.warns(DataConversionWarning, match="column-vector y was passed when a 1d array was expected"):
            model = tiny(face).fit(in_sktime(X), y[:, None])
        assert model.predict(in_sktime(X)).shape == y.shape

    @classifiers
    def test_words(self, face):
        X, y = panel(face)
        words = np.array(["low", "high"])[y]
        model = tiny(face).fit(in_sktime(X), words)
        assert model.classes_.tolist() == ["high", "low"]
        assert set(model.predict(in_sktime(X))) <= {"high", "low"}
        assert model.score(in_sktime(X), words) == accuracy_score(words, model.predict(in_sktime(X)))

    @regressors
    def test_several_numbers(self, face):
        X, y = panel(face, nan=face not in TRAINED)
        y = np.column_stack([y, 100.0 - y])
        expected = tiny(native(face)).fit(X, y).predict(X)
        np.testing.assert_array_equal(tiny(face).fit(in_sktime(X), y).predict(in_sktime(X)), expected)
        table = pd.DataFrame(y, columns=["a", "b"])
        model = tiny(face).fit(in_sktime(X), table)
        pd.testing.assert_frame_equal(model.predict(in_sktime(X)), pd.DataFrame(expected, columns=["a", "b"]))
        assert model.score(in_sktime(X), table) == pytest.approx(r2_score(y, expected))
        raw = model.score(in_sktime(X), table, multioutput="raw_values")
        np.testing.assert_allclose(raw, r2_score(y, expected, multioutput="raw_values"))

    @classifiers
    def test_several_labels(self, face):
        X, y = panel(face, nan=face not in TRAINED)
        table = pd.DataFrame({"a": y, "b": np.roll(y, 1) + 5})
        predicted = tiny(face).fit(in_sktime(X), table).predict(in_sktime(X))
        for name in table:
            alone = tiny(face).fit(in_sktime(X), table[name])
            np.testing.assert_array_equal(predicted[name], alone.predict(in_sktime(X)))
        with pytest.raises(ValueError, match="sample_weight was passed with several columns of labels; fit one"):
            tiny(face).fit(in_sktime(X), np.column_stack([y, y]), sample_weight=np.ones(len(X)))

    @classifiers
    def test_one_class(self, face):
        X, _ = panel(face)
        with pytest.warns(UserWarning, match="only single label seen"):
            model = tiny(face).fit(in_sktime(X), ["only"] * len(X))
        assert model.predict(in_sktime(X)).tolist() == ["only"] * len(X)
        with pytest.raises(ValueError, match=rf"X has 1 channels, but {face.__name__} was fitted with 2"):
            model.predict(in_sktime(X)[:, :1])


BAD_X = [
    (FACES, lambda X: X * np.inf, ValueError, "infinity: series 0, step 0, channel 0"),
    (FACES, lambda X: X[:, :, :, None], TypeError, "must be in an sktime compatible format"),
    (FACES, lambda X: None, (TypeError, ValueError), "is a NoneType|requires `X`"),
    (FACES, lambda X: "word", TypeError, "is a str|must be in an sktime compatible format"),
    (TRAINED, lambda X: X * np.nan, ValueError, "missing values"),
    ([face for face in FACES if face not in TRAINED], lambda X: X * np.nan, ValueError, "Series 0 of X has no observ"),
    (TRAINED, lambda X: X[:, 0] * np.nan, ValueError, "NaN: series 0, step 0"),
    (SUPERVISED, lambda X: X[0, 0], ValueError, "Expected 2D array, got 1D array"),
    (FACES, torch.from_numpy, TypeError, "sktime compatible format"),
    (SUPERVISED, list, TypeError, "sktime compatible format"),
    (SUPERVISED, lambda X: tuple(in_sktime(X, "df-list")), TypeError, "sktime compatible"),
    (SUPERVISED, lambda X: [], ValueError, "0 series"),
    (SUPERVISED, lambda X: X[:3], ValueError, "in X = 3 nos in y = 24"),
]
BAD_Y = [
    (SUPERVISED, lambda y: None, ValueError, "requires y to be passed, but the target y is None"),
    (SUPERVISED, lambda y: y[:3], ValueError, "in X = 24 nos in y = 3"),
    (SUPERVISED, lambda y: y * np.nan, ValueError, "Input y contains NaN"),
    (SUPERVISED, lambda y: y.reshape(6, 2, 2), ValueError, "dim 3"),
    (CLASSIFIERS, lambda y: y + np.linspace(0.1, 0.9, len(y)), ValueError, "Unknown label type: continuous"),
    (CLASSIFIERS, lambda y: ["a", None] * 12, TypeError, "Labels y must be all strings or all numbers.*NoneType, str"),
]


class TestErrors:
    """Each is an error with a sentence, and an earlier fit stays usable."""

    @every
    def test_fit(self, face):
        model, X, y = fitted(face)
        before = results(model, X)
        bad_x = [(change(X), y, error, message) for faces, change, error, message in BAD_X if face in faces]
        bad_y = [(X, change(y), error, message) for faces, change, error, message in BAD_Y if face in faces]
        for *data, error, message in [*bad_x, *bad_y]:
            with pytest.raises(error, match=message):
                model.fit(*data)
            np.testing.assert_array_equal(results(model, X), before)

    @every
    def test_other_channels(self, face):
        model, X, _ = fitted(face)
        series = X.transpose(0, 2, 1)
        with pytest.raises(ValueError, match=r"12 channels.* with 2.*order is \(instances, channels, time\)"):
            results(model, series)
        for mtype in FORMATS:
            with pytest.raises(ValueError, match=r"X has 1 channels, but SFM.* was fitted with 2"):
                results(model, in_sktime(series[:, :, :1], mtype))

    @every
    def test_not_fitted(self, face):
        """For both libraries."""
        X, y = panel(face)
        X = in_sktime(X)
        calls = {"predict": (X,), "predict_proba": (X,), "transform": (X,), "score": (X, y), "get_fitted_params": ()}
        calls |= {"get_feature_names_out": ()}
        assert hasattr(face, "predict_proba") == (face in CLASSIFIERS)
        for name in calls.keys() & {*dir(face)}:
            for error in (SktimeNotFittedError, SklearnNotFittedError):
                with pytest.raises(error, match="has not been fitted"):
                    getattr(tiny(face), name)(*calls[name])
        model = tiny(face)
        for fit in (model.reset, lambda: model.fit(X, y), model.reset):
            if fit() is model and model.is_fitted:
                check_is_fitted(model)
                model.check_is_fitted()
            else:
                assert not model.is_fitted
                with pytest.raises(SklearnNotFittedError):
                    check_is_fitted(model)


class TestWeights:
    @supervised
    def test_are_those_of_the_native_estimator(self, face):
        X, y = panel(face, nan=face not in TRAINED)
        weights = np.arange(len(X)) % 3 + 0.5
        expected = tiny(native(face)).fit(X, y, sample_weight=weights)
        model = tiny(face).fit(in_sktime(X), y, sample_weight=weights)
        np.testing.assert_array_equal(results(model, in_sktime(X)), results(expected, X))
        score = model.score(in_sktime(X), y, sample_weight=weights)
        assert type(score) is float
        assert score == expected.score(X, y, sample_weight=weights)
        plain = tiny(native(face)).fit(X, y)
        assert not np.array_equal(results(plain, X), results(expected, X))
        np.testing.assert_array_equal(results(model.fit(in_sktime(X), y), in_sktime(X)), results(plain, X))

    @classifiers
    def test_of_classes(self, face):
        X, y = panel(face)
        options = {"class_weight": {0: 1.0, 1: 20.0}}
        expected = tiny(native(face), **options).fit(X, y).predict_proba(X)
        found = tiny(face, **options).fit(in_sktime(X), y).predict_proba(in_sktime(X))
        np.testing.assert_array_equal(found, expected)


@trained
def test_warm_start(face):
    X, y = panel(face)
    model, expected = tiny(face, warm_start=True), tiny(native(face), warm_start=True)
    for _ in range(2):
        model.fit(in_sktime(X), y)
        expected.fit(X, y)
        np.testing.assert_array_equal(results(model, in_sktime(X)), results(expected, X))
    before = results(model, in_sktime(X))
    model.n_states = 7
    with pytest.raises(ValueError, match="n_states=4 is now 7"):
        model.fit(in_sktime(X), y)
    np.testing.assert_array_equal(results(model, in_sktime(X)), before)
    assert model.estimator_.n_states == 4
    model.set_params(n_states=4, warm_start=False).fit(in_sktime(X), y)
    np.testing.assert_array_equal(results(model, in_sktime(X)), results(tiny(native(face)).fit(X, y), X))


@every
def test_copies_predict_the_same(face, tmp_path):
    model, X, _ = fitted(face)
    path = tmp_path / "model"
    joblib.dump(model, path)
    model.save(tmp_path / "sktime")
    model.estimator_.save(tmp_path / "native")
    for copied in (
        pickle.loads(pickle.dumps(model)),
        joblib.load(path, mmap_mode="r"),
        face.load_from_serial(model.save()[1]),
        load(tmp_path / "sktime.zip"),
        native(face).load(tmp_path / "native"),
    ):
        np.testing.assert_array_equal(results(copied, X), results(model, X))


@pytest.mark.slow
class TestInScikitLearn:
    @pytest.mark.parametrize("mtype", ["numpy3D", "df-list", "nested_univ"])
    @pytest.mark.parametrize(("face", "nan"), [gap for gap in GAPS if gap[0] is not SFMFeatures], ids=name_of)
    def test_cross_validation(self, face, nan, mtype):
        X, y = panel(face, nan=nan)
        cv = KFold(2, shuffle=True, random_state=0)
        expected = cross_val_score(tiny(native(face)), X, y, cv=cv, error_score="raise")
        found = cross_val_score(tiny(face), in_sktime(X, mtype), y, cv=cv, error_score="raise")
        np.testing.assert_array_equal(found, expected)
        predicted = cross_val_predict(tiny(face), in_sktime(X, mtype), y, cv=cv)
        np.testing.assert_array_equal(predicted, cross_val_predict(tiny(native(face)), X, y, cv=cv))

    @supervised
    @pytest.mark.parametrize("ragged", [False, True])
    def test_search(self, face, ragged):
        X, y = panel(face, ragged=ragged)
        X = in_sktime(X, "df-list" if ragged else "numpy3D")
        name, values = ("network", ["sfm", "gru"]) if face in TRAINED else ("scale", ["train", "series"])
        size = {"n_states": 3} if face in TRAINED else {"n_features": 56}
        search = GridSearchCV(tiny(face, **size), {name: values}, cv=2, error_score="raise").fit(X, y)
        assert search.cv_results_[f"param_{name}"].tolist() == values
        best = tiny(face, **size, **search.best_params_).fit(X, y)
        np.testing.assert_array_equal(results(search.best_estimator_, X), results(best, X))

    @trained
    def test_search_in_processes(self, face):
        X, y = panel(face)
        search = GridSearchCV(tiny(face), {"n_states": [2, 3]}, cv=2, error_score="raise")
        alone = search.fit(in_sktime(X), y).cv_results_["mean_test_score"]
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            together = search.set_params(n_jobs=2).fit(in_sktime(X), y).cv_results_["mean_test_score"]
        np.testing.assert_allclose(together, alone, rtol=1e-10)

    @supervised
    def test_pipeline(self, face):
        X, y = panel(face)
        X = in_sktime(1000.0 * X + 50.0)
        pipeline = make_pipeline(PanelScaler(layout="nct"), tiny(face))
        grid = {f"{face.__name__.lower()}__random_state": [0]}
        search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
        tolerance = {"rtol": 0, "atol": 1e-6} if face in TRAINED else {"rtol": 1e-3, "atol": 1e-3}
        expected = results(tiny(face).fit(X, y), X)
        np.testing.assert_allclose(results(search.best_estimator_, X), expected, **tolerance)
        # As a function: within scikit-learn's pipelines sktime's own transformers lose the marks that these set.
        pipeline = make_pipeline(FunctionTransformer(cubes), tiny(face))
        search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
        expected = results(tiny(face).fit(cubes(X), y), cubes(X))
        np.testing.assert_array_equal(results(search.best_estimator_, X), expected)

    @supervised
    def test_weights_and_metadata_requests(self, face):
        X, y = panel(face)
        options = {"cv": 2, "params": {"sample_weight": np.arange(len(X)) + 1.0}, "error_score": "raise"}
        expected = cross_validate(tiny(native(face)), X, y, **options)["test_score"]
        found = cross_validate(tiny(face), in_sktime(X), y, **options)["test_score"]
        np.testing.assert_array_equal(found, expected)
        with config_context(enable_metadata_routing=True):
            model = tiny(face).set_fit_request(sample_weight=True)
            expected = model.get_metadata_routing().fit.requests
            assert expected["sample_weight"] is True
            for again in (clone(model), clone(model).set_params(random_state=3), model.fit(in_sktime(X), y)):
                assert again.get_metadata_routing().fit.requests == expected

    @supervised
    @needs_callbacks
    @pytest.mark.filterwarnings("ignore:The estimator SFMRidge.* does not support callbacks")
    def test_in_a_search_with_callbacks(self, face):
        from sklearn.callback import ProgressBar

        X, y = panel(face)
        search = GridSearchCV(tiny(face), {"random_state": [3]}, cv=2, error_score="raise").set_callbacks(ProgressBar())
        best = search.fit(in_sktime(X), y).best_estimator_
        for model in (best, best.estimator_):
            assert not {"_skl_callbacks", "_parent_callback_ctx", "_callback_fit_ctx"} & set(vars(model))

    @needs_callbacks
    @trained
    def test_own_callbacks(self, face):
        X, y = panel(face)
        seen = []

        class Recorder:
            def setup(self, estimator, context):
                seen.append("setup")

            def teardown(self, estimator, context):
                seen.append("teardown")

            def on_fit_task_begin(self, estimator, context, **data):
                seen.append(context.task_name)

            def on_fit_task_end(self, estimator, context, **data):
                return False

        model = tiny(face).set_callbacks(Recorder())
        for again in (model, model, clone(model).set_params(n_states=3)):  # a fit does not take them off
            again.fit(in_sktime(X), y)
            assert seen == ["setup", "fit", "epoch", "epoch", "epoch", "teardown"]
            seen.clear()

    @pytest.mark.parametrize("nan", [False, True])
    def test_features_before_a_classifier(self, nan):
        X, y = panel(SFMFeatures, nan=nan)
        expected = make_pipeline(tiny(sfmts.SFMFeatures), StandardScaler(), RidgeClassifierCV()).fit(X, y)
        X_ = in_sktime(X)
        pipeline = make_pipeline(tiny(SFMFeatures), StandardScaler(), RidgeClassifierCV())
        pipeline.fit(X_, y)
        np.testing.assert_array_equal(pipeline[0].transform(X_), expected[0].transform(X))
        # Columns of a frame lie apart in memory, so that sums in single precision are rounded differently.
        np.testing.assert_allclose(pipeline.decision_function(X_), expected.decision_function(X), rtol=1e-5)
        np.testing.assert_array_equal(
            cross_val_score(pipeline, X_, y, cv=2, error_score="raise"), cross_val_score(expected, X, y, cv=2)
        )
        names = pipeline[0].get_feature_names_out().tolist()
        assert pipeline[:-1].get_feature_names_out().tolist() == names
        if not nan:
            frames = make_pipeline(tiny(SFMFeatures), StandardScaler()).set_output(transform="pandas")
            assert frames.fit_transform(X_).columns.tolist() == names

    def test_features_in_a_search(self):
        X, y = panel(SFMRidgeRegressor, ragged=True)
        grid = {"sfmfeatures__scale": ["train", "series"]}
        search = GridSearchCV(make_pipeline(tiny(SFMFeatures), Ridge()), grid, cv=2, error_score="raise")
        search.fit(in_sktime(X, "df-list"), y)
        expected = make_pipeline(tiny(sfmts.SFMFeatures), Ridge())
        expected = GridSearchCV(expected, grid, cv=2, error_score="raise").fit(X, y)
        found = search.cv_results_["mean_test_score"]
        np.testing.assert_allclose(found, expected.cv_results_["mean_test_score"], rtol=1e-4)


class TestInSktime:
    @every
    def test_pipeline(self, face):
        X, y = panel(face)
        X = in_sktime(X)
        method = "predict" if face in SUPERVISED else "transform"
        found = getattr((ExponentTransformer(power=3) * tiny(face)).fit(X, y), method)(X)
        expected = getattr(tiny(face).fit(cubes(X), y), method)(cubes(X))
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(("nan", "mtype"), [(False, "df-list"), (True, "pd-multiindex"), (True, "nested_univ")])
    def test_features_and_a_classifier(self, mtype, nan):
        X, y = panel(SFMFeatures, ragged=True, nan=nan)
        expected = make_pipeline(tiny(sfmts.SFMFeatures), RidgeClassifierCV()).fit(X, y).predict(X)
        for pipeline in (
            tiny(SFMFeatures) * RidgeClassifierCV(),
            SklearnClassifierPipeline(RidgeClassifierCV(), [tiny(SFMFeatures)]),
        ):
            assert pipeline.get_tag("capability:missing_values")
            assert pipeline.get_tag("capability:unequal_length")
            pipeline.fit(in_sktime(X, mtype), y)
            np.testing.assert_array_equal(pipeline.predict(in_sktime(X, mtype)), expected)

    def test_features_of_a_hierarchy(self):
        X, _ = panel(SFMFeatures)
        upper = in_sktime(X, "pd-multiindex")
        hierarchy = pd.concat({"a": upper, "b": 2 * upper}, names=["group", *upper.index.names])
        found = tiny(SFMFeatures).fit_transform(hierarchy)
        expected = tiny(SFMFeatures).fit_transform(upper)
        np.testing.assert_array_equal(found.iloc[: len(X)], expected)

    @every
    def test_fitted_parameters_and_configuration(self, face):
        X, y = panel(face)
        model = tiny(face).set_config(warnings="off").fit(in_sktime(X), y)
        assert model.get_config()["warnings"] == "off"
        found = model.get_fitted_params()
        assert found["estimator"] is model.estimator_
        if face in TRAINED:
            assert found["n_iter"] == model.n_iter_ == 3
        else:
            assert found["n_channels_in"] == 2
            assert found["estimator__n_features_out"] == 112

    @classifiers
    def test_search(self, face):
        X, y = panel(face)
        grid = {"n_states": [2, 3]} if face in TRAINED else {"n_features": [56, 112]}
        search = TSCGridSearchCV(tiny(face), grid, cv=2, error_score="raise").fit(in_sktime(X), y)
        ((name, values),) = grid.items()
        assert search.best_params_[name] in values
        assert search.predict(in_sktime(X)).shape == y.shape


def test_without_sktime(monkeypatch):
    monkeypatch.setitem(sys.modules, "sktime.classification.base", None)  # importing it fails
    monkeypatch.delitem(sys.modules, "sfmts.sktime")
    with pytest.raises(ModuleNotFoundError, match=re.escape('needs sktime: pip install ".[forecasting]"')):
        importlib.import_module("sfmts.sktime")
