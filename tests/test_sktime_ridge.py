"""The fixed memory in sfmts.sktime: sktime's suite, scikit-learn's suite, and what neither verifies."""

import inspect
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.callback import ProgressBar
from sklearn.exceptions import DataConversionWarning
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.linear_model import Ridge, RidgeClassifierCV
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks as parametrize_with_sklearn_checks
from sklearn.utils.validation import check_is_fitted
from sktime.base import load
from sktime.classification.compose import SklearnClassifierPipeline
from sktime.classification.model_selection import TSCGridSearchCV
from sktime.datatypes import convert_to
from sktime.exceptions import NotFittedError as SktimeNotFittedError
from sktime.registry import scitype
from sktime.transformations.difference import Differencer
from sktime.utils.estimator_checks import check_estimator, parametrize_with_checks

import sfmts
from sfmts import PanelScaler
from sfmts.sktime import SFMFeatures, SFMRidgeClassifier, SFMRidgeRegressor
from tests.helpers import make_panel
from tests.test_sktime_faces import FORMATS, RAGGED_FORMATS, in_sktime

FACES = [SFMRidgeClassifier, SFMRidgeRegressor]
ADAPTERS = [*FACES, SFMFeatures]
every = pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
every_adapter = pytest.mark.parametrize("face", ADAPTERS, ids=lambda face: face.__name__)
missing = pytest.mark.parametrize("nan", [False, True], ids=["complete", "missing"])


@parametrize_with_checks(ADAPTERS, obj_varname="face", check_varname="name")
@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
def test_sktime_suite(face, name):
    found = check_estimator(face, tests_to_run=name, raise_exceptions=True, verbose=False)
    assert found
    assert set(found.values()) == {"PASSED"}


@parametrize_with_sklearn_checks([face(n_features=560) for face in FACES])
@pytest.mark.filterwarnings("ignore:only single label seen")
@pytest.mark.filterwarnings("error::sklearn.exceptions.SkipTestWarning")
def test_sklearn_suite(estimator, check):
    check(estimator)


def tiny(face, **options):
    return face(**{"n_features": 112, "random_state": 0, **options})


def native(face):
    return getattr(sfmts, face.__name__)


def panel(face, ragged=False, nan=False):
    """Series as the native estimators take them, (n, T, C) or a list of (T_i, C), and targets."""
    X, y = make_panel(ragged=ragged)
    y = np.array([series[:, 0].mean() for series in X]) if face is SFMRidgeRegressor else y
    if nan:
        for series in (X[0], X[-1]):
            series[2:4] = np.nan
            series[0, 0] = np.nan
        X[1][-1] = X[2][0] = np.nan
        X[3][:, 1] = np.nan
    return X, y


def fitted(model, X, y, **options):
    return model.fit(X) if hasattr(model, "transform") else model.fit(X, y, **options)


def results(model, X):
    if hasattr(model, "transform"):
        return np.asarray(model.transform(X))
    return model.predict_proba(X) if is_classifier(model) else model.predict(X)


def assert_equals_native(face, X, y, mtypes, **options):
    expected = results(fitted(tiny(native(face), **options), X, y), X)
    assert np.isfinite(expected).all()
    for mtype in mtypes:
        model = fitted(tiny(face, **options), in_sktime(X, mtype), y)
        assert model.n_channels_in_ == 2
        for other in mtypes:
            np.testing.assert_array_equal(results(model, in_sktime(X, other)), expected)


class TestParameters:
    @every_adapter
    def test_are_those_of_the_native_estimator(self, face):
        def parameters(cls):
            return {p.name: (p.kind, p.default) for p in inspect.signature(cls).parameters.values()}

        expected = parameters(native(face))
        del expected["layout"]
        assert parameters(face) == expected
        assert list(parameters(face)) == list(expected)

    @every_adapter
    def test_are_documented(self, face):
        section = face.__doc__.partition("Parameters\n")[2].partition("Attributes\n")[0]
        names = [
            line.split(" :")[0].strip() for line in section.splitlines() if line.startswith("    ") and " : " in line
        ]
        assert names == list(inspect.signature(face).parameters)

    @every_adapter
    def test_reach_the_native_estimator(self, face):
        X, y = panel(face)
        model = fitted(tiny(face, periods=(3, 9), scale="series"), in_sktime(X), y)
        assert type(model.estimator_) is native(face)
        assert model.estimator_.get_params() == {**model.get_params(), "layout": "nct"}
        period = model.estimator_.feature_info_["period"]
        assert period[np.isfinite(period)].max() <= 9

    @every_adapter
    def test_clone_and_set(self, face):
        X, y = panel(face)
        model = fitted(tiny(face, scale="both"), in_sktime(X), y)
        for copied in (clone(model), model.clone()):
            assert copied.get_params() == model.get_params()
            assert not copied.is_fitted
        assert model.set_params(n_features=56) is model
        assert (model.n_features, model.scale) == (56, "both")
        with pytest.raises(ValueError, match="n_feat"):
            model.set_params(n_feat=5)

    @every_adapter
    def test_bad(self, face):
        X, y = panel(face)
        model = fitted(tiny(face), in_sktime(X), y)
        before = results(model, in_sktime(X))
        model.n_features = 0
        with pytest.raises(ValueError, match=r"'n_features' parameter of SFM.* must be an int.* Got 0"):
            fitted(model, in_sktime(X), y)
        np.testing.assert_array_equal(results(model, in_sktime(X)), before)

    @every_adapter
    def test_time_stamps(self, face):
        X, y = panel(face)
        X[:, :, 1] = np.arange(X.shape[1]) ** 1.5
        assert_equals_native(face, X, y, ["numpy3D", "df-list"], time_channel=1)


class TestKind:
    def test_of_estimator(self):
        for library in (scitype, lambda face: "classifier" if is_classifier(face) else None):
            assert library(SFMRidgeClassifier()) == "classifier"
        assert scitype(SFMRidgeRegressor()) == "regressor"
        assert is_regressor(SFMRidgeRegressor())
        assert scitype(SFMFeatures()) == "transformer"

    @every_adapter
    def test_tags(self, face):
        model = face()
        for name in ("multivariate", "unequal_length", "missing_values", "random_state"):
            assert model.get_tag(f"capability:{name}") is True, name
        assert model.get_tag("capability:categorical_in_X") is False
        tags = model.__sklearn_tags__()
        assert tags.input_tags.three_d_array
        assert tags.input_tags.allow_nan
        if face in FACES:
            for name in ("sample_weight", "multithreading"):
                assert model.get_tag(f"capability:{name}") is True, name
            assert tags.target_tags.multi_output == (face is SFMRidgeRegressor)
        else:
            assert tags.transformer_tags is not None


class TestFormats:
    @every_adapter
    @missing
    def test_of_equal_length(self, face, nan):
        X, y = panel(face, nan=nan)
        assert_equals_native(face, X, y, FORMATS)

    @every_adapter
    @missing
    def test_of_unequal_length(self, face, nan):
        X, y = panel(face, ragged=True, nan=nan)
        assert_equals_native(face, X, y, RAGGED_FORMATS)

    @every
    @missing
    @pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist, pd.DataFrame], ids=["array", "list", "frame"])
    def test_tables(self, face, nan, convert):
        """What scikit-learn takes for (samples, features) is n series of one channel."""
        X, y = panel(face, nan=nan)
        table = X[:, :, 0]
        model = tiny(face).fit(convert(table), y)
        assert model.n_features_in_ == table.shape[1]
        expected = tiny(native(face)).fit(table, y)
        np.testing.assert_array_equal(results(model, convert(table)), results(expected, table))
        np.testing.assert_array_equal(results(model, table[:, None, :]), results(expected, table))

    @every
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

    @every_adapter
    @pytest.mark.parametrize("dtype", ["Float32", "Float64"])
    def test_nullable_columns(self, face, dtype):
        X, y = panel(face, nan=True)
        frames = [pd.DataFrame(series).astype(dtype) for series in X]
        assert frames[0].iloc[0, 0] is pd.NA
        expected = results(fitted(tiny(native(face)), X, y), X)
        np.testing.assert_allclose(results(fitted(tiny(face), frames, y), frames), expected, rtol=1e-4, atol=1e-5)

    @every_adapter
    def test_input_is_left_alone(self, face):
        X, y = panel(face, nan=True)
        X = in_sktime(X).copy()
        before = X.copy()
        X.flags.writeable = y.flags.writeable = False
        results(fitted(tiny(face), X, y), X)
        np.testing.assert_array_equal(X, before)

    @every_adapter
    def test_estimator_takes_the_same_arrays(self, face):
        X, y = panel(face)
        model = fitted(tiny(face), in_sktime(X), y)
        np.testing.assert_array_equal(results(model.estimator_, in_sktime(X)), results(model, in_sktime(X)))


class TestTargets:
    @every
    @pytest.mark.parametrize("convert", [np.ndarray.tolist, pd.Series, lambda y: pd.DataFrame({"y": y})])
    def test_forms(self, face, convert):
        X, y = panel(face)
        found = tiny(face).fit(in_sktime(X), convert(y)).predict(in_sktime(X))
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, tiny(native(face)).fit(X, y).predict(X))

    @every
    def test_column(self, face):
        X, y = panel(face)
        with pytest.warns(DataConversionWarning, match="column-vector y was passed when a 1d array was expected"):
            model = tiny(face).fit(in_sktime(X), y[:, None])
        assert model.predict(in_sktime(X)).shape == y.shape

    def test_words(self):
        X, y = panel(SFMRidgeClassifier)
        words = np.array(["low", "high"])[y]
        model = tiny(SFMRidgeClassifier).fit(in_sktime(X), words)
        assert model.classes_.tolist() == ["high", "low"]
        assert model.score(in_sktime(X), words) == accuracy_score(words, model.predict(in_sktime(X)))

    def test_several_numbers(self):
        X, y = panel(SFMRidgeRegressor, nan=True)
        y = np.column_stack([y, 100.0 - y])
        expected = tiny(sfmts.SFMRidgeRegressor).fit(X, y).predict(X)
        np.testing.assert_array_equal(tiny(SFMRidgeRegressor).fit(in_sktime(X), y).predict(in_sktime(X)), expected)
        table = pd.DataFrame(y, columns=["a", "b"])
        model = tiny(SFMRidgeRegressor).fit(in_sktime(X), table)
        pd.testing.assert_frame_equal(model.predict(in_sktime(X)), pd.DataFrame(expected, columns=["a", "b"]))
        assert model.score(in_sktime(X), table) == pytest.approx(r2_score(y, expected))

    def test_several_labels(self):
        X, y = panel(SFMRidgeClassifier, nan=True)
        table = pd.DataFrame({"a": y, "b": np.roll(y, 1) + 5})
        predicted = tiny(SFMRidgeClassifier).fit(in_sktime(X), table).predict(in_sktime(X))
        for name in table:
            alone = tiny(SFMRidgeClassifier).fit(in_sktime(X), table[name])
            np.testing.assert_array_equal(predicted[name], alone.predict(in_sktime(X)))

    def test_one_class(self):
        X, _ = panel(SFMRidgeClassifier)
        with pytest.warns(UserWarning, match="only single label seen"):
            model = tiny(SFMRidgeClassifier).fit(in_sktime(X), ["only"] * len(X))
        assert model.predict(in_sktime(X)).tolist() == ["only"] * len(X)


class TestErrors:
    """Each is an error with a sentence, and a previous fit stays usable."""

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            pytest.param(lambda X: X * np.nan, ValueError, "Series 0 of X has no observation", id="NaN"),
            pytest.param(lambda X: X * np.inf, ValueError, "infinity: series 0, step 0, channel 0", id="infinity"),
            pytest.param(lambda X: X[:, :, :, None], TypeError, "must be in an sktime compatible format", id="4-D"),
            pytest.param(lambda X: None, (TypeError, ValueError), "is a NoneType|requires `X`", id="None"),
            pytest.param(lambda X: "word", TypeError, "is a str|must be in an sktime compatible format", id="word"),
        ],
    )
    @every_adapter
    def test_x(self, face, change, error, message):
        X, y = panel(face)
        X = in_sktime(X)
        model = fitted(tiny(face), X, y)
        before = results(model, X)
        with pytest.raises(error, match=message):
            fitted(model, change(X), y)
        np.testing.assert_array_equal(results(model, X), before)

    @every_adapter
    def test_swapped_axes(self, face):
        X, y = panel(face)
        model = fitted(tiny(face), in_sktime(X), y)
        with pytest.raises(ValueError, match=r"12 channels.* with 2.*order is \(instances, channels, time\)"):
            results(model, X)

    @every_adapter
    @pytest.mark.parametrize("mtype", FORMATS)
    def test_other_channels(self, face, mtype):
        X, y = panel(face)
        model = fitted(tiny(face), in_sktime(X), y)
        with pytest.raises(ValueError, match=r"X has 1 channels, but SFM.* was fitted with 2"):
            results(model, in_sktime(X[:, :, :1], mtype))

    @every_adapter
    @pytest.mark.parametrize("error", [SktimeNotFittedError, SklearnNotFittedError])
    def test_not_fitted(self, face, error):
        X, _ = panel(face)
        model = tiny(face)
        with pytest.raises(error, match="has not been fitted"):
            results(model, in_sktime(X))
        with pytest.raises(error, match="has not been fitted"):
            model.get_fitted_params()
        if face is SFMFeatures:
            with pytest.raises(error, match="has not been fitted"):
                model.get_feature_names_out()

    @every_adapter
    def test_both_libraries_see_the_fit(self, face):
        X, y = panel(face)
        model = tiny(face)
        with pytest.raises(SklearnNotFittedError):
            check_is_fitted(model)
        fitted(model, in_sktime(X), y)
        check_is_fitted(model)
        model.check_is_fitted()
        model.reset()
        assert not model.is_fitted
        with pytest.raises(SklearnNotFittedError):
            check_is_fitted(model)


class TestWeights:
    @every
    def test_are_those_of_the_native_estimator(self, face):
        X, y = panel(face, nan=True)
        weights = np.arange(len(X)) % 3 + 0.5
        expected = tiny(native(face)).fit(X, y, sample_weight=weights)
        model = tiny(face).fit(in_sktime(X), y, sample_weight=weights)
        np.testing.assert_array_equal(results(model, in_sktime(X)), results(expected, X))
        assert model.score(in_sktime(X), y, sample_weight=weights) == expected.score(X, y, sample_weight=weights)
        plain = tiny(native(face)).fit(X, y)
        assert not np.array_equal(results(plain, X), results(expected, X))
        np.testing.assert_array_equal(results(model.fit(in_sktime(X), y), in_sktime(X)), results(plain, X))

    def test_with_several_labels(self):
        X, y = panel(SFMRidgeClassifier)
        with pytest.raises(ValueError, match="sample_weight was passed with several columns of labels; fit one"):
            tiny(SFMRidgeClassifier).fit(in_sktime(X), np.column_stack([y, y]), sample_weight=np.ones(len(X)))

    def test_of_classes(self):
        X, y = panel(SFMRidgeClassifier)
        options = {"class_weight": {0: 1.0, 1: 20.0}}
        expected = tiny(sfmts.SFMRidgeClassifier, **options).fit(X, y).predict_proba(X)
        found = tiny(SFMRidgeClassifier, **options).fit(in_sktime(X), y).predict_proba(in_sktime(X))
        np.testing.assert_array_equal(found, expected)


class TestCopies:
    @every_adapter
    @pytest.mark.parametrize(
        "way",
        [
            lambda model, path: pickle.loads(pickle.dumps(model)),
            lambda model, path: (joblib.dump(model, path), joblib.load(path, mmap_mode="r"))[1],
            lambda model, path: type(model).load_from_serial(model.save()[1]),
            lambda model, path: (model.save(path), load(path.with_suffix(".zip")))[1],
        ],
        ids=["pickle", "joblib", "sktime", "file of sktime"],
    )
    def test_give_the_same(self, face, way, tmp_path):
        X, y = panel(face)
        model = fitted(tiny(face), in_sktime(X), y)
        copied = way(model, tmp_path / "model")
        np.testing.assert_array_equal(results(copied, in_sktime(X)), results(model, in_sktime(X)))

    @every_adapter
    def test_native_file(self, face, tmp_path):
        X, y = panel(face)
        model = fitted(tiny(face), in_sktime(X), y)
        model.estimator_.save(tmp_path / "model")
        loaded = native(face).load(tmp_path / "model")
        np.testing.assert_array_equal(results(loaded, in_sktime(X)), results(model, in_sktime(X)))


@every
class TestInScikitLearn:
    @missing
    @pytest.mark.parametrize("mtype", ["numpy3D", "df-list", "nested_univ"])
    def test_cross_validation(self, face, mtype, nan):
        X, y = panel(face, nan=nan)
        cv = KFold(2, shuffle=True, random_state=0)
        expected = cross_val_score(tiny(native(face)), X, y, cv=cv, error_score="raise")
        found = cross_val_score(tiny(face), in_sktime(X, mtype), y, cv=cv, error_score="raise")
        np.testing.assert_array_equal(found, expected)
        predicted = cross_val_predict(tiny(face), in_sktime(X, mtype), y, cv=cv)
        np.testing.assert_array_equal(predicted, cross_val_predict(tiny(native(face)), X, y, cv=cv))

    @pytest.mark.parametrize("mtype", ["numpy3D", "df-list"])
    def test_search(self, face, mtype):
        X, y = panel(face, ragged=mtype == "df-list")
        X = in_sktime(X, mtype)
        grid = {"scale": ["train", "series"], "n_features": [56]}
        search = GridSearchCV(tiny(face), grid, cv=2, error_score="raise").fit(X, y)
        assert search.cv_results_["param_scale"].tolist() == ["train", "series"]
        best = tiny(face, n_features=56, scale=search.best_params_["scale"]).fit(X, y)
        np.testing.assert_array_equal(results(search.best_estimator_, X), results(best, X))

    def test_pipeline(self, face):
        X, y = panel(face)
        X = in_sktime(1000.0 * X + 50.0)
        pipeline = make_pipeline(PanelScaler(layout="nct"), tiny(face))
        grid = {f"{face.__name__.lower()}__n_features": [56]}
        search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
        expected = results(tiny(face, n_features=56).fit(X, y), X)
        np.testing.assert_allclose(results(search.best_estimator_, X), expected, rtol=1e-3, atol=1e-3)

    def test_weights(self, face):
        X, y = panel(face)
        options = {"cv": 2, "params": {"sample_weight": np.arange(len(X)) + 1.0}, "error_score": "raise"}
        expected = cross_validate(tiny(native(face)), X, y, **options)["test_score"]
        found = cross_validate(tiny(face), in_sktime(X), y, **options)["test_score"]
        np.testing.assert_array_equal(found, expected)

    def test_metadata_requests_outlive_a_fit(self, face):
        X, y = panel(face)
        with config_context(enable_metadata_routing=True):
            model = tiny(face).set_fit_request(sample_weight=True)
            expected = model.get_metadata_routing().fit.requests
            assert expected["sample_weight"] is True
            for again in (clone(model), clone(model).set_params(n_features=56), model.fit(in_sktime(X), y)):
                assert again.get_metadata_routing().fit.requests == expected

    @pytest.mark.filterwarnings("ignore:The estimator SFMRidge.* does not support callbacks")
    def test_in_a_search_with_callbacks(self, face):
        X, y = panel(face)
        search = GridSearchCV(tiny(face), {"n_features": [56]}, cv=2, error_score="raise").set_callbacks(ProgressBar())
        best = search.fit(in_sktime(X), y).best_estimator_
        assert not {"_skl_callbacks", "_parent_callback_ctx", "_callback_fit_ctx"} & set(vars(best))


class TestFeaturesInScikitLearn:
    @missing
    def test_pipeline(self, nan):
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

    def test_search(self):
        X, y = panel(SFMRidgeRegressor, ragged=True)
        grid = {"sfmfeatures__scale": ["train", "series"]}
        search = GridSearchCV(make_pipeline(tiny(SFMFeatures), Ridge()), grid, cv=2, error_score="raise")
        search.fit(in_sktime(X, "df-list"), y)
        expected = make_pipeline(tiny(sfmts.SFMFeatures), Ridge())
        expected = GridSearchCV(expected, grid, cv=2, error_score="raise").fit(X, y)
        found = search.cv_results_["mean_test_score"]
        np.testing.assert_allclose(found, expected.cv_results_["mean_test_score"], rtol=1e-4)

    def test_output_of_pipelines(self):
        X, _ = panel(SFMFeatures)
        pipeline = make_pipeline(tiny(SFMFeatures), StandardScaler()).set_output(transform="pandas")
        features = pipeline.fit_transform(in_sktime(X))
        assert features.columns.tolist() == pipeline[0].get_feature_names_out().tolist()


class TestInSktime:
    @every_adapter
    def test_pipeline(self, face):
        X, y = panel(face)
        X = in_sktime(X)
        differences = convert_to(Differencer().fit_transform(X), "numpy3D", as_scitype="Panel")
        method = "predict" if face in FACES else "transform"
        found = getattr(fitted(Differencer() * tiny(face), X, y), method)(X)
        expected = getattr(fitted(tiny(face), differences, y), method)(differences)
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("mtype", RAGGED_FORMATS)
    @missing
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

    @every_adapter
    def test_fitted_parameters(self, face):
        X, y = panel(face)
        model = fitted(tiny(face), in_sktime(X), y)
        found = model.get_fitted_params()
        assert found["estimator"] is model.estimator_
        assert found["n_channels_in"] == 2
        assert found["estimator__n_features_out"] == 112

    @every_adapter
    def test_configuration_outlives_a_fit(self, face):
        X, y = panel(face)
        model = fitted(tiny(face).set_config(warnings="off"), in_sktime(X), y)
        assert model.get_config()["warnings"] == "off"

    def test_search(self):
        X, y = panel(SFMRidgeClassifier)
        search = TSCGridSearchCV(tiny(SFMRidgeClassifier), {"n_features": [56, 112]}, cv=2, error_score="raise")
        search.fit(in_sktime(X), y)
        assert search.best_params_["n_features"] in (56, 112)
        assert search.predict(in_sktime(X)).shape == y.shape
