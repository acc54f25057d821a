"""sfmts.sktime: sktime's suite, scikit-learn's suite, and what neither verifies."""

import importlib
import inspect
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
from sklearn.callback import ProgressBar
from sklearn.exceptions import DataConversionWarning
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks as parametrize_with_sklearn_checks
from sklearn.utils.validation import check_is_fitted
from sktime.classification.model_selection import TSCGridSearchCV
from sktime.datatypes import convert_to
from sktime.exceptions import NotFittedError as SktimeNotFittedError
from sktime.registry import scitype
from sktime.transformations.series.difference import Differencer
from sktime.utils.estimator_checks import check_estimator, parametrize_with_checks

import sfmts
from sfmts import PanelScaler
from sfmts.sktime import SFMClassifier, SFMRegressor
from tests.helpers import make_panel

FACES = [SFMClassifier, SFMRegressor]
FORMATS = ["numpy3D", "df-list", "pd-multiindex", "nested_univ"]
RAGGED_FORMATS = FORMATS[1:]
every = pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)


@parametrize_with_checks(FACES, obj_varname="face", check_varname="name")
@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
def test_sktime_suite(face, name):
    results = check_estimator(face, tests_to_run=name, raise_exceptions=True, verbose=False)
    assert results
    assert set(results.values()) == {"PASSED"}


@parametrize_with_sklearn_checks([face(n_states=8, max_iter=40) for face in FACES])
@pytest.mark.filterwarnings("ignore:only single label seen")
@pytest.mark.filterwarnings("error::sklearn.exceptions.SkipTestWarning")
def test_sklearn_suite(estimator, check):
    check(estimator)


def tiny(face, **options):
    """A face, or a native estimator, that trains in a few milliseconds."""
    return face(**{"n_states": 4, "n_frequencies": 2, "max_iter": 3, "random_state": 0, **options})


def native(face):
    return getattr(sfmts, face.__name__)


def panel(face, ragged=False, n=24):
    """Series as the native estimators take them, (n, T, C) or a list of (T_i, C), and targets."""
    X, y = make_panel(n=n, ragged=ragged)
    return X, (y if face is SFMClassifier else np.array([series[:, 0].mean() for series in X]))


def in_sktime(X, mtype="numpy3D"):
    """The same series in a format of sktime."""
    X = X.transpose(0, 2, 1) if isinstance(X, np.ndarray) else [pd.DataFrame(series) for series in X]
    return convert_to(X, mtype, as_scitype="Panel")


def results(model, X):
    return model.predict_proba(X) if is_classifier(model) else model.predict(X)


def differences(X):
    return convert_to(Differencer().fit_transform(X), "numpy3D", as_scitype="Panel")


class TestParameters:
    @every
    def test_are_those_of_the_native_estimator(self, face):
        def parameters(cls):
            return {p.name: (p.kind, p.default) for p in inspect.signature(cls).parameters.values()}

        expected = parameters(native(face))
        del expected["layout"]
        assert parameters(face) == expected
        assert list(parameters(face)) == list(expected)

    @every
    def test_reach_the_native_estimator(self, face):
        X, y = panel(face)
        model = tiny(face, network="gru", pooling="mean", batch_size=7).fit(in_sktime(X), y)
        assert type(model.estimator_) is native(face)
        assert model.estimator_.get_params() == {**model.get_params(), "layout": "nct"}

    @every
    def test_clone_and_set(self, face):
        X, y = panel(face)
        model = tiny(face, dropout=0.25).fit(in_sktime(X), y)
        for copied in (clone(model), model.clone()):
            assert copied.get_params() == model.get_params()
            assert not copied.is_fitted
        assert model.set_params(n_states=5) is model
        assert model.n_states == 5
        assert model.dropout == 0.25
        with pytest.raises(ValueError, match="n_stat"):
            model.set_params(n_stat=5)

    @every
    def test_bad(self, face):
        X, y = panel(face)
        with pytest.raises(ValueError, match=r"'n_states' parameter of SFM.* must be an int.* Got 0"):
            tiny(face, n_states=0).fit(in_sktime(X), y)


class TestKind:
    def test_of_estimator(self):
        for library in (scitype, lambda face: "classifier" if is_classifier(face) else None):
            assert library(SFMClassifier()) == "classifier"
        assert scitype(SFMRegressor()) == "regressor"
        assert is_regressor(SFMRegressor())

    @every
    def test_tags(self, face):
        model = face()
        for name in ("multivariate", "unequal_length", "sample_weight", "random_state"):
            assert model.get_tag(f"capability:{name}") is True, name
        for name in ("missing_values", "categorical_in_X"):
            assert model.get_tag(f"capability:{name}") is False, name
        tags = model.__sklearn_tags__()
        assert tags.input_tags.three_d_array
        assert tags.input_tags.two_d_array
        assert tags.target_tags.multi_output == (face is SFMRegressor)


class TestFormats:
    @every
    @pytest.mark.parametrize("mtype", FORMATS)
    def test_of_equal_length(self, face, mtype):
        X, y = panel(face)
        expected = tiny(native(face)).fit(X, y)
        model = tiny(face).fit(in_sktime(X, mtype), y)
        assert model.n_channels_in_ == 2
        for other in FORMATS:
            np.testing.assert_array_equal(model.predict(in_sktime(X, other)), expected.predict(X))
            np.testing.assert_array_equal(results(model, in_sktime(X, other)), results(expected, X))
            assert model.score(in_sktime(X, other), y) == expected.score(X, y)

    @every
    @pytest.mark.parametrize("mtype", RAGGED_FORMATS)
    def test_of_unequal_length(self, face, mtype):
        X, y = panel(face, ragged=True)
        expected = tiny(native(face)).fit(X, y)
        model = tiny(face).fit(in_sktime(X, mtype), y)
        for other in RAGGED_FORMATS:
            np.testing.assert_array_equal(results(model, in_sktime(X, other)), results(expected, X))

    @every
    @pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist, pd.DataFrame], ids=["array", "list", "frame"])
    def test_tables(self, face, convert):
        """What scikit-learn takes for (samples, features) is n series of one channel."""
        X, y = panel(face)
        table = X[:, :, 0]
        model = tiny(face).fit(convert(table), y)
        assert model.n_features_in_ == table.shape[1]
        expected = tiny(face).fit(table[:, None, :], y)
        assert not hasattr(expected, "n_features_in_")
        np.testing.assert_array_equal(results(model, convert(table)), results(expected, table[:, None, :]))

    @every
    def test_list_of_one_channel(self, face):
        X, y = panel(face, ragged=True)
        series = [one[:, 0] for one in X]
        expected = tiny(native(face)).fit(series, y)
        np.testing.assert_array_equal(results(tiny(face).fit(series, y), series), results(expected, series))

    @every
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("mtype", ["numpy3D", "df-list"])
    def test_precision_is_that_of_x(self, face, dtype, mtype):
        X, y = panel(face)
        X = in_sktime(X.astype(dtype), mtype)
        model = tiny(face, device="cpu").fit(X, y)
        weight = next(model.estimator_.module_.parameters())
        assert weight.dtype == getattr(torch, np.dtype(dtype).name)
        assert results(model, X).dtype == (np.float64 if face is SFMRegressor else dtype)  # numbers have units

    @every
    def test_input_is_left_alone(self, face):
        X, y = panel(face)
        X = in_sktime(X).copy()
        X.flags.writeable = y.flags.writeable = False
        model = tiny(face).fit(X, y)
        model.score(X, y)

    @every
    def test_estimator_takes_the_same_arrays(self, face):
        X, y = panel(face)
        model = tiny(face).fit(in_sktime(X), y)
        np.testing.assert_array_equal(model.estimator_.predict(in_sktime(X)), model.predict(in_sktime(X)))
        assert model.estimator_.state_amplitudes(in_sktime(X)).shape == (24, 12, 4, 2)


class TestTargets:
    @every
    @pytest.mark.parametrize("convert", [np.ndarray.tolist, pd.Series, lambda y: pd.DataFrame({"y": y})])
    def test_forms(self, face, convert):
        X, y = panel(face)
        model = tiny(face).fit(in_sktime(X), convert(y))
        assert type(model.predict(in_sktime(X))) is np.ndarray
        np.testing.assert_array_equal(
            model.predict(in_sktime(X)), tiny(face).fit(in_sktime(X), y).predict(in_sktime(X))
        )

    @every
    def test_column(self, face):
        X, y = panel(face)
        with pytest.warns(DataConversionWarning, match="column-vector y was passed when a 1d array was expected"):
            model = tiny(face).fit(in_sktime(X), y[:, None])
        assert model.predict(in_sktime(X)).shape == y.shape

    def test_words(self):
        X, y = panel(SFMClassifier)
        words = np.array(["low", "high"])[y]
        model = tiny(SFMClassifier).fit(in_sktime(X), words)
        assert model.classes_.tolist() == ["high", "low"]
        assert set(model.predict(in_sktime(X))) <= {"high", "low"}
        assert model.score(in_sktime(X), words) == accuracy_score(words, model.predict(in_sktime(X)))

    def test_several_numbers(self):
        X, y = panel(SFMRegressor)
        y = np.column_stack([y, 100.0 - y])
        expected = tiny(sfmts.SFMRegressor).fit(X, y).predict(X)
        found = tiny(SFMRegressor).fit(in_sktime(X), y).predict(in_sktime(X))
        np.testing.assert_array_equal(found, expected)
        table = pd.DataFrame(y, columns=["a", "b"])
        model = tiny(SFMRegressor).fit(in_sktime(X), table)
        pd.testing.assert_frame_equal(model.predict(in_sktime(X)), pd.DataFrame(expected, columns=["a", "b"]))
        assert model.score(in_sktime(X), table) == pytest.approx(r2_score(y, expected))
        raw = model.score(in_sktime(X), table, multioutput="raw_values")
        np.testing.assert_allclose(raw, r2_score(y, expected, multioutput="raw_values"))

    def test_several_labels(self):
        X, y = panel(SFMClassifier)
        table = pd.DataFrame({"a": y, "b": np.roll(y, 1) + 5})
        model = tiny(SFMClassifier).fit(in_sktime(X), table)
        predicted = model.predict(in_sktime(X))
        for name in table:
            alone = tiny(SFMClassifier).fit(in_sktime(X), table[name])
            np.testing.assert_array_equal(predicted[name], alone.predict(in_sktime(X)))

    def test_one_class(self):
        X, _ = panel(SFMClassifier)
        with pytest.warns(UserWarning, match="only single label seen"):
            model = tiny(SFMClassifier).fit(in_sktime(X), ["only"] * len(X))
        assert model.predict(in_sktime(X)).tolist() == ["only"] * len(X)
        with pytest.raises(ValueError, match="X has 1 channels, but SFMClassifier was fitted with 2"):
            model.predict(in_sktime(X)[:, :1])


class TestErrors:
    """Each is refused in a sentence, and an earlier fit stays usable."""

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            pytest.param(lambda X: X * np.nan, ValueError, "missing values", id="NaN"),
            pytest.param(lambda X: X * np.inf, ValueError, "infinity: series 0, step 0, channel 0", id="infinity"),
            pytest.param(lambda X: X[:, 0] * np.nan, ValueError, "NaN: series 0, step 0", id="NaN in a table"),
            pytest.param(lambda X: X[:, :, :, None], TypeError, "sktime compatible format", id="4-D"),
            pytest.param(lambda X: X[0, 0], ValueError, "Expected 2D array, got 1D array", id="1-D"),
            pytest.param(torch.from_numpy, TypeError, "sktime compatible format", id="tensor"),
            pytest.param(list, TypeError, "sktime compatible format", id="list of arrays"),
            pytest.param(
                lambda X: tuple(in_sktime(X, "df-list")), TypeError, "sktime compatible", id="tuple of frames"
            ),
            pytest.param(lambda X: [], ValueError, "0 series", id="empty"),
            pytest.param(lambda X: None, TypeError, "is a NoneType", id="None"),
            pytest.param(lambda X: "word", TypeError, "is a str", id="word"),
            pytest.param(lambda X: X[:3], ValueError, "in X = 3 nos in y = 24", id="too few"),
        ],
    )
    @every
    def test_x(self, face, change, error, message):
        X, y = panel(face)
        X = in_sktime(X)
        model = tiny(face).fit(X, y)
        before = results(model, X)
        with pytest.raises(error, match=message):
            model.fit(change(X), y)
        np.testing.assert_array_equal(results(model, X), before)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(lambda y: None, "requires y to be passed, but the target y is None", id="None"),
            pytest.param(lambda y: y[:3], "in X = 24 nos in y = 3", id="too few"),
            pytest.param(lambda y: y * np.nan, "Input y contains NaN", id="NaN"),
            pytest.param(lambda y: y.reshape(6, 2, 2), "dim 3", id="3-D"),
        ],
    )
    @every
    def test_y(self, face, change, message):
        X, y = panel(face)
        X = in_sktime(X)
        model = tiny(face).fit(X, y)
        before = results(model, X)
        with pytest.raises(ValueError, match=message):
            model.fit(X, change(y))
        np.testing.assert_array_equal(results(model, X), before)

    def test_numbers_for_labels(self):
        X, y = panel(SFMRegressor)
        with pytest.raises(ValueError, match="Unknown label type: continuous"):
            tiny(SFMClassifier).fit(in_sktime(X), y)

    def test_a_missing_label(self):
        X, _ = panel(SFMClassifier)
        with pytest.raises(TypeError, match=r"Labels y must be all strings or all numbers.*NoneType, str"):
            tiny(SFMClassifier).fit(in_sktime(X), ["a", None] * 12)

    @every
    def test_swapped_axes(self, face):
        X, y = panel(face)
        model = tiny(face).fit(in_sktime(X), y)
        with pytest.raises(ValueError, match=r"12 channels.* with 2.*order is \(instances, channels, time\)"):
            model.predict(X)

    @every
    @pytest.mark.parametrize("mtype", FORMATS)
    def test_other_channels(self, face, mtype):
        X, y = panel(face)
        model = tiny(face).fit(in_sktime(X), y)
        with pytest.raises(ValueError, match=r"X has 1 channels, but SFM.* was fitted with 2"):
            model.predict(in_sktime(X[:, :, :1], mtype))

    @every
    @pytest.mark.parametrize("method", ["predict", "score", "get_fitted_params", "predict_proba"])
    @pytest.mark.parametrize("error", [SktimeNotFittedError, SklearnNotFittedError])
    def test_not_fitted(self, face, method, error):
        if (face, method) == (SFMRegressor, "predict_proba"):
            assert not hasattr(face, method)
            return
        X, y = panel(face)
        arguments = {"score": (in_sktime(X), y), "get_fitted_params": ()}.get(method, (in_sktime(X),))
        with pytest.raises(error, match="has not been fitted"):
            getattr(tiny(face), method)(*arguments)

    @every
    def test_both_libraries_see_the_fit(self, face):
        X, y = panel(face)
        model = tiny(face)
        with pytest.raises(SklearnNotFittedError):
            check_is_fitted(model)
        model.fit(in_sktime(X), y)
        check_is_fitted(model)
        model.check_is_fitted()
        model.reset()
        assert not model.is_fitted
        with pytest.raises(SklearnNotFittedError):
            check_is_fitted(model)


class TestWeights:
    @every
    def test_are_those_of_the_native_estimator(self, face):
        X, y = panel(face)
        weights = np.arange(len(X)) % 3 + 0.5
        expected = tiny(native(face)).fit(X, y, sample_weight=weights)
        model = tiny(face).fit(in_sktime(X), y, sample_weight=weights)
        np.testing.assert_array_equal(results(model, in_sktime(X)), results(expected, X))
        score = model.score(in_sktime(X), y, sample_weight=weights)
        assert type(score) is float
        assert score == expected.score(X, y, sample_weight=weights)

    @every
    def test_do_not_outlive_the_fit(self, face):
        X, y = panel(face)
        model = tiny(face).fit(in_sktime(X), y, sample_weight=np.arange(len(X)))
        plain = results(tiny(face).fit(in_sktime(X), y), in_sktime(X))
        np.testing.assert_array_equal(results(model.fit(in_sktime(X), y), in_sktime(X)), plain)

    def test_with_several_labels(self):
        X, y = panel(SFMClassifier)
        with pytest.raises(ValueError, match="sample_weight was passed with several columns of labels; fit one"):
            tiny(SFMClassifier).fit(in_sktime(X), np.column_stack([y, y]), sample_weight=np.ones(len(X)))

    def test_of_classes(self):
        X, y = panel(SFMClassifier)
        options = {"class_weight": {0: 1.0, 1: 20.0}}
        expected = tiny(sfmts.SFMClassifier, **options).fit(X, y).predict_proba(X)
        found = tiny(SFMClassifier, **options).fit(in_sktime(X), y).predict_proba(in_sktime(X))
        np.testing.assert_array_equal(found, expected)


class TestWarmStart:
    @every
    def test_goes_on(self, face):
        X, y = panel(face)
        model, expected = tiny(face, warm_start=True), tiny(native(face), warm_start=True)
        for _ in range(2):
            model.fit(in_sktime(X), y)
            expected.fit(X, y)
            np.testing.assert_array_equal(results(model, in_sktime(X)), results(expected, X))

    @every
    def test_without_it_a_fit_starts_anew(self, face):
        X, y = panel(face)
        model = tiny(face).fit(in_sktime(X), y)
        first = results(model, in_sktime(X))
        np.testing.assert_array_equal(results(model.fit(in_sktime(X), y), in_sktime(X)), first)

    @every
    def test_failure_leaves_the_earlier_model(self, face):
        X, y = panel(face)
        model = tiny(face, warm_start=True).fit(in_sktime(X), y)
        before = results(model, in_sktime(X))
        model.n_states = 7
        with pytest.raises(ValueError, match="n_states=4 is now 7"):
            model.fit(in_sktime(X), y)
        np.testing.assert_array_equal(results(model, in_sktime(X)), before)
        assert model.estimator_.n_states == 4


class TestCopies:
    @every
    @pytest.mark.parametrize(
        "way",
        [
            lambda model, path: pickle.loads(pickle.dumps(model)),
            lambda model, path: (joblib.dump(model, path), joblib.load(path, mmap_mode="r"))[1],
            lambda model, path: type(model).load_from_serial(model.save()[1]),
        ],
        ids=["pickle", "joblib", "sktime"],
    )
    def test_predict_the_same(self, face, way, tmp_path):
        X, y = panel(face)
        model = tiny(face).fit(in_sktime(X), y)
        copied = way(model, tmp_path / "model")
        np.testing.assert_array_equal(results(copied, in_sktime(X)), results(model, in_sktime(X)))

    @every
    def test_native_file(self, face, tmp_path):
        X, y = panel(face)
        model = tiny(face).fit(in_sktime(X), y)
        model.estimator_.save(tmp_path / "model")
        loaded = native(face).load(tmp_path / "model")
        np.testing.assert_array_equal(results(loaded, in_sktime(X)), results(model, in_sktime(X)))


@every
class TestInScikitLearn:
    @pytest.mark.parametrize("mtype", ["numpy3D", "df-list", "nested_univ"])
    def test_cross_validation(self, face, mtype):
        X, y = panel(face)
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
        search = GridSearchCV(tiny(face), {"network": ["sfm", "gru"], "n_states": [3]}, cv=2, error_score="raise")
        search.fit(X, y)
        assert search.cv_results_["param_network"].tolist() == ["sfm", "gru"]
        best = tiny(face, n_states=3, network=search.best_params_["network"]).fit(X, y)
        np.testing.assert_array_equal(results(search.best_estimator_, X), results(best, X))

    def test_search_in_processes(self, face):
        X, y = panel(face)
        search = GridSearchCV(tiny(face), {"n_states": [2, 3]}, cv=2, error_score="raise")
        alone = search.fit(in_sktime(X), y).cv_results_["mean_test_score"]
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            together = search.set_params(n_jobs=2).fit(in_sktime(X), y).cv_results_["mean_test_score"]
        np.testing.assert_allclose(together, alone, rtol=1e-10)

    def test_pipeline(self, face):
        X, y = panel(face)
        X = in_sktime(1000.0 * X + 50.0)
        pipeline = make_pipeline(PanelScaler(layout="nct"), tiny(face))
        search = GridSearchCV(pipeline, {f"{face.__name__.lower()}__n_states": [4]}, cv=2, error_score="raise").fit(
            X, y
        )
        expected = results(tiny(face).fit(X, y), X)
        np.testing.assert_allclose(results(search.best_estimator_, X), expected, rtol=0, atol=1e-6)

    def test_pipeline_with_a_transformer_of_sktime(self, face):
        """As a function: within scikit-learn's pipelines sktime's own transformers lose the marks that these set."""
        X, y = panel(face)
        X = in_sktime(X)
        pipeline = make_pipeline(FunctionTransformer(differences), tiny(face))
        search = GridSearchCV(pipeline, {f"{face.__name__.lower()}__n_states": [4]}, cv=2, error_score="raise").fit(
            X, y
        )
        expected = results(tiny(face).fit(differences(X), y), differences(X))
        np.testing.assert_array_equal(results(search.best_estimator_, X), expected)

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
            for again in (clone(model), clone(model).set_params(n_states=3), model.fit(in_sktime(X), y)):
                assert again.get_metadata_routing().fit.requests == expected

    def test_callbacks(self, face):
        X, y = panel(face)
        bar = ProgressBar()
        search = GridSearchCV(tiny(face), {"n_states": [3]}, cv=2, error_score="raise").set_callbacks(bar)
        search.fit(in_sktime(X), y)
        for model in (search.best_estimator_, search.best_estimator_.estimator_):
            assert not {"_skl_callbacks", "_parent_callback_ctx", "_callback_fit_ctx"} & set(vars(model))

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


@every
class TestInSktime:
    def test_pipeline(self, face):
        X, y = panel(face)
        X = in_sktime(X)
        pipeline = (Differencer() * tiny(face)).fit(X, y)
        expected = tiny(face).fit(differences(X), y).predict(differences(X))
        np.testing.assert_array_equal(pipeline.predict(X), expected)

    def test_fitted_parameters(self, face):
        X, y = panel(face)
        model = tiny(face).fit(in_sktime(X), y)
        fitted = model.get_fitted_params()
        assert fitted["estimator"] is model.estimator_
        assert fitted["n_iter"] == model.n_iter_ == 3

    def test_configuration_outlives_a_fit(self, face):
        X, y = panel(face)
        model = tiny(face).set_config(warnings="off").fit(in_sktime(X), y)
        assert model.get_config()["warnings"] == "off"


def test_search_of_sktime():
    X, y = panel(SFMClassifier)
    search = TSCGridSearchCV(tiny(SFMClassifier), {"n_states": [2, 3]}, cv=2, error_score="raise")
    search.fit(in_sktime(X), y)
    assert search.best_params_["n_states"] in (2, 3)
    assert search.predict(in_sktime(X)).shape == y.shape


def test_without_sktime(monkeypatch):
    monkeypatch.setitem(sys.modules, "sktime.classification.base", None)  # importing it fails
    monkeypatch.delitem(sys.modules, "sfmts.sktime")
    with pytest.raises(ModuleNotFoundError, match=re.escape('needs sktime: pip install ".[forecasting]"')):
        importlib.import_module("sfmts.sktime")
