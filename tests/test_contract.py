"""What all estimators of series promise alike; what one promises by itself is in its own file."""

import copy
import itertools
import pickle
import warnings
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate

from sfmts import (
    PanelScaler,
    SFMClassifier,
    SFMDensity,
    SFMFeatures,
    SFMLabeler,
    SFMRegressor,
    SFMRidgeClassifier,
    SFMRidgeRegressor,
)
from sfmts.estimators import _base
from sfmts.estimators import features as banks
from sfmts.model_selection import cross_val_predict as steps_cross_val_predict
from tests.helpers import NETWORKS, make_panel, pairwise

pytestmark = pytest.mark.filterwarnings("error:::sfmts")

FORMS = ["2-D", "3-D", "ragged"]


class Case(NamedTuple):
    """An estimator with quick parameters, the method whose results are compared, and data that it can learn."""

    cls: type
    options: dict
    method: str
    task: str  # what y is: classes, numbers, steps or nothing
    exact: float = 1e-10  # results of the same model in other batches

    def tiny(self, **options):
        """An estimator that fits in a few milliseconds."""
        own = {**self.options.get("network_params", {}), **(options.get("network_params") or {})}
        options = {**self.options, **options}
        return self.cls(**{**options, "network_params": own} if own else options)

    def data(self, form, n=24, seed=0, dtype=np.float64):
        X, y = make_panel(n=n, ragged=form == "ragged", seed=seed)
        y = list(y)
        if self.task == "nothing":
            y = None
        elif self.task == "steps":
            y = [(series[:, 0] > 0).astype(int) for series in X]
        elif self.task == "numbers":
            y = [series[:, 0].mean() for series in X]
        X = [(series > 0 if self.cls is SFMDensity else series).astype(dtype) for series in X]
        y = y if y is None or (form == "ragged" and self.task == "steps") else np.array(y)
        X = X if form == "ragged" else np.stack(X)
        return (X[:, :, 0] if form == "2-D" else X), y

    def results(self, model, X):
        """Return one array for each series."""
        return [np.atleast_1d(row) for row in getattr(model, self.method)(X)]

    def __str__(self):
        return self.cls.__name__


QUICK = {"n_states": 4, "n_frequencies": 2, "max_iter": 3, "random_state": 0}
# Without dropout, of which SFMDensity has much by default: it is turned on where it matters.
DENSITY = {**QUICK, "dropout": 0.0, "network_params": {"recurrent_dropout": 0.0}, "batch_size": 32}
BANK = {"n_features": 112, "random_state": 0}
TRAINED = [
    Case(SFMClassifier, {**QUICK, "base": None}, "predict_log_proba", "classes"),
    Case(SFMRegressor, {**QUICK, "base": None}, "predict", "numbers"),
    Case(SFMLabeler, QUICK, "predict_log_proba", "steps"),
    Case(SFMDensity, DENSITY, "predict_proba", "nothing"),
]
FIXED = [
    Case(SFMFeatures, BANK, "transform", "nothing", 0.0),
    Case(SFMRidgeClassifier, BANK, "predict_proba", "classes"),
    Case(SFMRidgeRegressor, BANK, "predict", "numbers"),
]
# With so few series their networks are left out.
CORRECTED = [
    Case(SFMClassifier, {"random_state": 0}, "predict_log_proba", "classes"),
    Case(SFMRegressor, {"random_state": 0}, "predict", "numbers"),
]
SCALER = Case(PanelScaler, {}, "transform", "nothing", 0.0)
ALL = [*TRAINED, *FIXED, *CORRECTED, SCALER]
SUPERVISED = [case for case in ALL if case.task != "nothing"]
every = pytest.mark.parametrize("case", ALL, ids=str)
every_trained = pytest.mark.parametrize("case", TRAINED, ids=str)
seeded = pytest.mark.parametrize("case", [*TRAINED, *FIXED], ids=str)
WILD = {"dropout": 0.2, "network_params": {"recurrent_dropout": 0.2}, "batch_size": 6, "early_stopping": True}


def ids(value):
    return str(value) if isinstance(value, Case) else None


def wild(case, **options):
    """An estimator that draws random numbers wherever it can."""
    return case.tiny(**WILD, **options) if case in TRAINED else case.tiny()


def take(X, index):
    return None if X is None else [X[i] for i in index] if isinstance(X, list) else X[index]


def each(X, change):
    """Change each series of X, and keep the form of X."""
    changed = [change(series) for series in X]
    return changed if isinstance(X, list) else np.stack(changed)


def weights_of(model):
    return {name: value.clone() for name, value in model.module_.state_dict().items()}


def assert_close(found, expected, **tolerance):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, **{"rtol": 0, "atol": 1e-10, **tolerance})


def distance(found, expected):
    return max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True))


def assert_same_model(case, first, second, X, other=None):
    """Bit-equal weights and results; the first may read X in another form."""
    if hasattr(first, "module_"):
        a, b = weights_of(first), weights_of(second)
        assert a.keys() == b.keys()
        for name in a:
            assert torch.equal(a[name], b[name]), name
    assert_close(case.results(first, X if other is None else other), case.results(second, X), atol=0)


def object_array(X):
    array = np.empty(len(X), dtype=object)
    array[:] = X
    return array


CONTAINERS = {
    "2-D": [
        np.ndarray.tolist,
        list,
        pd.DataFrame,
        lambda X: X[:, :, None],
    ],
    "3-D": [
        list,
        tuple,
        np.ndarray.tolist,
        np.asfortranarray,
        lambda X: X.astype(object),
        torch.from_numpy,
        lambda X: torch.tensor(X, requires_grad=True),
        lambda X: [torch.tensor(series, requires_grad=True) for series in X],
    ],
    "ragged": [
        tuple,
        object_array,
        pd.Series,
        lambda X: [series.tolist() for series in X],
        lambda X: [pd.DataFrame(series) for series in X],
        lambda X: [np.asfortranarray(series) for series in X],
    ],
}


@every
class TestFormsOfX:
    @pytest.mark.parametrize("form", FORMS)
    def test_containers(self, case, form):
        X, y = case.data(form)
        expected = case.tiny().fit(X, y)
        for convert in CONTAINERS[form]:
            model = case.tiny().fit(convert(X), y)
            found, other = case.results(model, convert(X)), case.results(expected, X)
            assert_close([np.reshape(a, b.shape) for a, b in zip(found, other, strict=True)], other, atol=0)
            if case in TRAINED:
                assert_same_model(case, model, expected, X)

    def test_series_without_an_axis_of_channels(self, case):
        X, y = case.data("ragged")
        X = [series[:, :1] for series in X]
        flat = [series[:, 0] for series in X]
        found, expected = case.tiny().fit(flat, y), case.tiny().fit(X, y)
        for a, b in zip(case.results(found, flat), case.results(expected, X), strict=True):
            np.testing.assert_array_equal(a.ravel(), b.ravel())

    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_layout(self, case, form):
        X, y = case.data(form)
        swapped = each(X, np.transpose)
        model, expected = case.tiny(layout="nct").fit(swapped, y), case.tiny().fit(X, y)
        if case is SCALER:
            assert type(model.transform(swapped)) is type(swapped)
            assert_close([found.T for found in case.results(model, swapped)], case.results(expected, X), atol=0)
            return
        assert_same_model(case, model, expected, X, swapped)
        if hasattr(model, "score"):
            assert model.score(swapped, y) == expected.score(X, y)

    @pytest.mark.parametrize("form", FORMS)
    def test_fit_returns_itself_and_changes_neither_data_nor_parameters(self, case, form):
        X, y = case.data(form)
        before = copy.deepcopy((X, y))
        for array in [*X, *(y if case.task == "steps" else [])]:
            array.flags.writeable = False
        for array in (X, y):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
        model = case.tiny()
        parameters = model.get_params()
        assert model.fit(X, y) is model
        assert model.get_params() == parameters
        case.results(model, X)
        if hasattr(model, "score"):
            assert type(model.score(X, y)) is float
        assert model.n_channels_in_ == (1 if form == "2-D" else 2)
        assert hasattr(model, "n_features_in_") == (form == "2-D")
        assert not hasattr(model.fit(*case.data("3-D")), "n_features_in_")
        if case in TRAINED:
            assert model.n_iter_ == len(model.loss_curve_) == 3
        for after, old in zip((X, y), before, strict=True):
            assert_close([] if after is None else list(after), [] if old is None else list(old), atol=0)

    def test_column_names(self, case):
        X, y = case.data("2-D")
        names = [f"t{step}" for step in range(X.shape[1])]
        expected = case.tiny().fit(X, y)
        for frame, backwards in (
            (pd.DataFrame(X, columns=names), lambda frame: frame[names[::-1]]),
            (pyarrow.table(dict(zip(names, X.T, strict=True))), lambda table: table.select(names[::-1])),
        ):
            model = case.tiny().fit(frame, y)
            assert list(model.feature_names_in_) == names
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert_same_model(case, model, expected, X, frame)
            with pytest.raises(ValueError, match="feature names should match"):
                case.results(model, backwards(frame))
            with pytest.warns(UserWarning, match="does not have valid feature names"):
                case.results(model, X)
        with pytest.raises(ValueError, match="feature names should match"):
            case.results(model, pd.DataFrame(X, columns=["other", *names[1:]]))
        assert not hasattr(model.fit(X, y), "feature_names_in_")

    def test_column_names_of_a_list_of_frames(self, case):
        X, y = case.data("ragged")
        frames = [pd.DataFrame(series, columns=["left", "right"]) for series in X]
        model = case.tiny().fit(frames, y)
        case.results(model, frames)
        case.results(model, X)  # arrays have no names
        swapped = [frame[["right", "left"]] for frame in frames]
        with pytest.raises(ValueError, match=r"Series 0 of X has the columns \['right', 'left'\], but \['left', 'rig"):
            case.results(model, swapped)
        with pytest.raises(ValueError, match="Series 3 of X has the columns"):
            case.tiny().fit([*frames[:3], swapped[3], *frames[4:]], y)

    def test_results_have_the_type_of_x(self, case):
        for form, dtype in itertools.product(FORMS, [np.float32, np.float64]):
            X, y = case.data(form, dtype=dtype)
            model = case.tiny(**({"device": "cpu"} if case is not SCALER else {})).fit(X, y)
            expected = dtype
            if case in TRAINED:
                of_targets = ("head.mean", "head.scale")  # whose units are kept in double precision
                weights = [value for name, value in weights_of(model).items() if name not in of_targets]
                assert {value.dtype for value in weights} == {getattr(torch, np.dtype(dtype).name)}
            elif case in FIXED:
                expected = np.float32 if case.cls is SFMFeatures else np.float64
            expected = np.float64 if case.task == "numbers" else expected  # which have units
            assert {result.dtype for result in case.results(model, X)} == {np.dtype(expected)}

    def test_integers_booleans_and_half_precision_are_numbers(self, case):
        X, y = case.data("3-D")
        whole = (X > 0) if case.cls is SFMDensity else np.round(10 * X)
        expected = case.tiny().fit(whole.astype(float), y)
        assert_same_model(case, case.tiny().fit(whole.astype(int), y), expected, whole.astype(float))
        assert_same_model(case, case.tiny().fit(X > 0, y), case.tiny().fit((X > 0).astype(float), y), X)
        half = torch.from_numpy(X).bfloat16()
        single = half.float().numpy()
        assert_same_model(case, case.tiny().fit(half, y), case.tiny().fit(single, y), single)


OPTIONS = [{}, {"n_layers": 2}, {"bidirectional": True}]
MATES = [
    *((case, {"network": network, **option}) for case, network, option in pairwise(TRAINED, NETWORKS, OPTIONS)),
    *((TRAINED[0], {"network": network, "pooling": "mean"}) for network in NETWORKS),
    *((case, {"network": "gru", "n_layers": 2, "bidirectional": True}) for case in TRAINED[:2]),
    (TRAINED[0], {"network": "sfm", "network_params": {"time": "normalized"}}),
    *((TRAINED[0], {"pooling": pooling}) for pooling in ("last", "max")),
    *((case, {}) for case in [*FIXED, SCALER]),
]
MATES = [(case, options) for case, options in MATES if case.cls is not SFMDensity or "bidirectional" not in options]


class TestPrediction:
    @pytest.mark.parametrize(("case", "options"), MATES, ids=str)
    def test_batch_mates_order_and_padding_do_not_matter(self, case, options, monkeypatch):
        X, y = case.data("ragged")
        model = case.tiny(**options).fit(X, y)
        together = case.results(model, X)
        assert_close([case.results(model, [series])[0] for series in X], together, atol=case.exact)
        long = [np.tile(series, (5, 1)) for series in X]
        assert_close(case.results(model, [*X, *long])[: len(X)], together, atol=case.exact)
        assert_close(case.results(model, X[::-1])[::-1], together, atol=case.exact)
        assert_close(case.results(model, X * 15), together * 15, atol=case.exact)  # more than one batch of prediction
        score = model.score(X, y) if hasattr(model, "score") else 0.0
        monkeypatch.setattr(_base, "_PREDICTION_BATCH", 5)
        monkeypatch.setattr(banks, "_VALUES_AT_ONCE", 100)
        assert_close(case.results(model, X), together, atol=case.exact)
        assert (model.score(X, y) if hasattr(model, "score") else 0.0) == pytest.approx(score, abs=1e-10)

    @every
    def test_predicting_changes_nothing(self, case):
        X, y = case.data("ragged")
        model = wild(case).fit(X, y)
        before = vars(model).copy()
        first = case.results(model, X)
        assert_close(case.results(model, X), first, atol=0)
        assert vars(model).keys() == before.keys()
        assert all(vars(model)[name] is value for name, value in before.items())


class TestRandomness:
    @pytest.mark.parametrize(
        ("case", "network", "form"),
        [*pairwise(TRAINED, NETWORKS, FORMS), *((case, None, "ragged") for case in [*FIXED, *CORRECTED])],
        ids=ids,
    )
    def test_same_seed_same_model(self, case, network, form):
        """Whatever the global generators say, which are left alone."""
        X, y = case.data(form)
        options = {"network": network} if network else {}
        models = []
        for number in (0, 1):
            torch.manual_seed(number)
            np.random.seed(number)
            before = torch.get_rng_state(), np.random.get_state()
            models.append(wild(case, **options).fit(X, y))
            case.results(models[-1], X)
            after = np.random.get_state()
            assert torch.equal(before[0], torch.get_rng_state())
            np.testing.assert_array_equal(before[1][1], after[1])
            assert before[1][2:] == after[2:]
        assert_same_model(case, *models, X)
        if network:
            assert models[0].history_ == models[1].history_
        again = wild(case, **options).set_params(random_state=np.random.RandomState(0)).fit(X, y)
        assert_same_model(case, again, models[0], X)

    @seeded
    def test_other_seed_other_model(self, case):
        X, y = case.data("3-D")
        if case.task == "numbers":  # means would be learned alike with any seed, as every bank holds them
            y = X[:, :, 0].var(axis=1)
        for seeds in [(0, 1), (None, None)]:
            before = torch.get_rng_state(), np.random.get_state()[1].copy()
            a, b = (case.results(wild(case).set_params(random_state=seed).fit(X, y), X) for seed in seeds)
            assert distance(a, b) > 100 * case.exact  # of one model, other batches differ by less
            assert torch.equal(before[0], torch.get_rng_state())
            np.testing.assert_array_equal(before[1], np.random.get_state()[1])

    @every
    def test_a_second_fit_forgets_the_first(self, case):
        X, y = case.data("3-D")
        other = np.arange(len(X)) % 3 if case.task == "classes" else y
        model = case.tiny().fit(X[:, :, :1], other)
        assert_same_model(case, model.fit(X, y), case.tiny().fit(X, y), X)

    @pytest.mark.parametrize(
        ("case", "network"), [*pairwise(TRAINED, NETWORKS), *((case, None) for case in FIXED)], ids=ids
    )
    def test_threads_do_not_matter(self, case, network, monkeypatch):
        monkeypatch.undo()  # working memory is shared between fits, as it is for a user
        X, y = case.data("ragged")
        options = {"network": network} if network else {}
        models = [wild(case, **options) for _ in range(4)]
        fits = (joblib.delayed(model.fit)(X, y) for model in models)
        fitted = joblib.Parallel(n_jobs=4, backend="threading")(fits)
        alone = wild(case, **options).fit(X, y)
        for model in fitted:
            assert_same_model(case, model, alone, X)
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                results.append(case.results(case.tiny(**options).fit(X, y), X))
        finally:
            torch.set_num_threads(before)
        assert_close(*results, rtol=1e-9)

    @every_trained
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_trains_whatever_the_mode(self, case, mode):
        X, y = case.data("ragged")
        with mode():
            model = case.tiny().fit(X, y)
        assert_same_model(case, model, case.tiny().fit(X, y), X)
        model.set_params(warm_start=True).fit(X, y)


def test_processes_do_not_matter():
    data = [case.data("ragged") for case in ALL]  # all in one test, so that the workers are started once
    fits = (joblib.delayed(case.tiny().fit)(X, y) for case, (X, y) in zip(ALL, data, strict=True))
    fitted = joblib.Parallel(n_jobs=2, backend="loky")(fits)
    for case, model, (X, y) in zip(ALL, fitted, data, strict=True):
        assert_same_model(case, model, case.tiny().fit(X, y), X)
        if case.cls in (SFMLabeler, SFMDensity):
            options = {"cv": 2, "method": "predict_proba"}
            together, alone = (steps_cross_val_predict(case.tiny(), X, y, n_jobs=n, **options) for n in (2, None))
            assert_close(together, alone, atol=0)
    for form in FORMS:
        X, y = TRAINED[0].data(form)
        search = GridSearchCV(TRAINED[0].tiny(), {"n_states": [2, 5], "batch_size": [6]}, cv=2, error_score="raise")
        alone, together = (clone(search).set_params(n_jobs=n_jobs).fit(X, y) for n_jobs in (1, 2))
        assert together.best_params_ == alone.best_params_
        for key in ("split0_test_score", "split1_test_score"):
            np.testing.assert_array_equal(together.cv_results_[key], alone.cv_results_[key])
        assert_same_model(TRAINED[0], together.best_estimator_, alone.best_estimator_, X)


def through_joblib(model, path):
    joblib.dump(model, path)
    return joblib.load(path, mmap_mode="r")


def through_file(model, path):
    model.save(path)
    return type(model).load(path)


WAYS = {
    "pickle": lambda model, path: pickle.loads(pickle.dumps(model)),
    "joblib": through_joblib,
    "deepcopy": lambda model, path: copy.deepcopy(model),
    "file": through_file,
}


def copies_of(model, path):
    """The model, copied in every way there is for it."""
    return [way(model, path) for name, way in WAYS.items() if name != "file" or hasattr(model, "save")]


class TestCopies:
    @pytest.mark.parametrize(
        ("case", "network", "form"),
        [
            *pairwise(TRAINED, NETWORKS, ["3-D", "ragged"]),
            *((case, None, "ragged") for case in [*FIXED, *CORRECTED, SCALER]),
        ],
        ids=ids,
    )
    def test_round_trip(self, case, network, form, tmp_path):
        X, y = case.data(form, dtype=np.float32 if form == "3-D" else np.float64)
        options = {"network": network, "n_layers": 2, "dropout": 0.2, "early_stopping": True} if network else {}
        model = case.tiny(**options).fit(X, y)
        copies = copies_of(model, tmp_path / "model")
        assert len(copies) == 4
        for copied in copies:
            assert type(copied) is case.cls
            assert copied.get_params() == model.get_params()
            assert_same_model(case, copied, model, X)
            if hasattr(model, "score"):
                assert copied.score(X, y) == model.score(X, y)
            names = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
            assert {name for name in vars(copied) if not name.startswith("_")} == {*names, *model.get_params()}
            for name in names - {"module_", "base_"}:
                a, b = getattr(copied, name), getattr(model, name)
                assert np.array_equal(a, b) if isinstance(b, np.ndarray) else a == b

    @seeded
    def test_parameters_changed_after_fit(self, case, tmp_path):
        X, y = case.data("ragged")
        model = case.tiny().fit(X, y)
        before = case.results(model, X)
        if case in TRAINED:
            model.set_params(n_states=7, n_frequencies=5, network="lstm", n_layers=2, network_params={"n_outputs": 3})
        else:
            model.set_params(n_features=56, scale="series", directions="forward")
        for copied in copies_of(model, tmp_path / "model"):
            assert_close(case.results(copied, X), before, atol=0)

    @every
    def test_copies_and_clones_are_independent(self, case):
        X, y = case.data("ragged")
        model = case.tiny(**({"warm_start": True} if case in TRAINED else {})).fit(X, y)
        cloned = clone(model)
        assert cloned.get_params() == model.get_params()
        assert vars(cloned).keys() == vars(case.tiny()).keys()
        assert_same_model(case, cloned.fit(X, y), model, X)
        before = case.results(model, X)
        copied = copy.deepcopy(model).fit(X if case in TRAINED else [2 * series**2 for series in X], y)
        assert distance(case.results(copied, X), before) > 1e-6
        assert_close(case.results(model, X), before, atol=0)

    @seeded
    def test_file_of_another_estimator(self, case, tmp_path):
        X, y = case.data("3-D")
        case.tiny().fit(X, y).save(tmp_path / "model")
        for other in [*TRAINED, *FIXED]:
            if other is not case:
                with pytest.raises(ValueError, match=f"holds a {case}; load it with {case}.load"):
                    other.cls.load(tmp_path / "model")


def spoilt(X, series, step, value):
    """A copy of X with ``value`` in the last channel of one step."""
    if isinstance(X, list):
        return [item if number != series else spoilt(item[None], 0, step, value)[0] for number, item in enumerate(X)]
    X = X.astype(object if isinstance(value, str) else np.result_type(X, np.asarray(value)))
    X[(series, step, *[-1] * (X.ndim - 2))] = value
    return X


INDEX = pd.MultiIndex.from_product([range(24), range(12)])
NOT_FINITE = r"X contains {}: series 3, step 2, channel \d\. (Fill or drop|Replace)"
EMPTY_STEPS = [*[np.ones((4, 2))] * 3, np.empty((0, 2)), *[np.ones((5, 2))] * 20]
# Of each row: forms of the X of the fit, how a bad X comes from it, and what the message says.
BAD_X = [
    (FORMS, lambda X: spoilt(X, 3, 2, np.inf), NOT_FINITE.format("infinity")),
    (FORMS, lambda X: spoilt(X, 3, 2, -np.inf), NOT_FINITE.format("infinity")),
    (FORMS, lambda X: spoilt(X, 3, 2, 1j), r"Complex data not supported.*two channels"),
    (FORMS, lambda X: spoilt(X, 3, 2, "word"), r"X must hold numbers.*'word'"),
    (FORMS, lambda X: np.arange(12.0), r"(?s)1D array.*Reshape your data.*reshape\(1, -1\).*single sample"),
    (["3-D"], lambda X: X[:0], r"shape \(0, 12, 2\) with 0 series; at least one is required"),
    (["2-D"], lambda X: X[:0], r"0 sample\(s\) \(shape=\(0, 12\)\)"),
    (["ragged"], lambda X: [], "X.*(0|no) series.*at least one"),
    (["ragged"], lambda X: (), "X.*(0|no) series.*at least one"),
    (["3-D"], lambda X: X[:, :0], r"shape \(24, 0, 2\) with 0 time steps; at least one"),
    (["3-D"], lambda X: X[:, :, :0], r"shape \(24, 12, 0\) with 0 channels; at least one"),
    (["2-D"], lambda X: X[:, :0], r"0 feature\(s\) \(shape=\(24, 0\)\)"),
    (["ragged"], lambda X: EMPTY_STEPS, "Series 3 of X has length 0; at least one time step is required"),
    (["ragged"], lambda X: [x[:, 0] for x in EMPTY_STEPS], "Series 3 of X has length 0; at least one time step is"),
    (["ragged"], lambda X: [x[:, :0] for x in X], r"Series 0 of X has 0 channels; at least one is required"),
    (["3-D"], lambda X: X[..., None], r"X has (4 dimensions|shape \(24, 12, 2, 1\)).*\(n, T\).*\(n, T, C\)"),
    (["3-D"], lambda X: list(X[..., None]), r"X has (4 dimensions|shape \(24, 12, 2, 1\)).*\(n, T\).*\(n, T, C\)"),
    (["ragged"], lambda X: [*X[:-1], X[-1][:, 0]], r"list of series with \[1, 2\] dimensions, but all must be two-"),
    (["2-D"], sparse.csr_matrix, r"Sparse data was passed for X, but dense data is required.*toarray"),
    (["2-D"], sparse.coo_array, r"Sparse data was passed for X, but dense data is required.*toarray"),
    (["ragged"], lambda X: [sparse.csr_matrix(x) for x in X], "Sparse data was passed for X, but dense"),
    (["3-D"], lambda X: None, r"\bX\b.*NoneType"),
    (["3-D"], lambda X: "series.csv", r"\bX\b.*(str|scalar)"),
    (["3-D"], lambda X: 3.0, r"\bX\b.*(float|scalar)"),
    (["3-D"], lambda X: {"a": [1.0]}, r"\bX\b.*dict"),
    (["2-D"], lambda X: [[[1.0, 2.0], [3.0]]] * 24, r"X holds sequences instead of numbers.*sfmts\.sktime"),
    (["2-D"], lambda X: pd.DataFrame({"a": [pd.Series([1.0, 2.0])] * 24}), r"X holds sequences instead of numbers"),
    (["2-D"], lambda X: (x for x in X), "X must hold numbers.*generator"),
    (["2-D"], lambda X: set(range(24)), "X must hold numbers.*set"),
    (["2-D"], lambda X: pd.DataFrame({"a": np.ones(288)}, index=INDEX), r"index has several levels.*list of arrays"),
    (["ragged"], lambda X: [*X[:3], np.zeros((7, 3)), *X[4:]], r"Series 3 of X has 3 channels, but series 0 has 2\.$"),
    (["ragged"], lambda X: [*X[:3], X[3].T, *X[4:]], r"Series 3 of X has \d+ channels.*other axis would.*layout='nct'"),
    (["ragged"], lambda X: each(X, np.transpose), r"other axis.*layout='nct'"),
    (["ragged"], lambda X: [pd.DataFrame({"a": [1, pd.NA, 3]}, dtype=object)] * 24, "holds pd.NA; convert"),
    (["2-D"], lambda X: [[10**400, 1], [1, 2]] * 12, "integer that is too large"),
    (["3-D"], lambda X: torch.zeros(24, 6, 2).to_sparse(), "tensor that is torch.sparse_coo"),
    (["3-D"], lambda X: torch.zeros(24, 6, 2, device="meta"), "that is torch.strided meta"),
    (["3-D"], lambda X: [torch.zeros(6, 2, device="meta")] * 24, "that is torch.strided meta"),
    (["2-D"], lambda X: np.zeros(X.shape, dtype=[("a", float), ("b", float)]), "holds records of"),
    (["3-D"], lambda X: np.full((24, 4, 1), np.datetime64("2020-01-01")), r"X must hold numbers, but holds datetime64"),
]
NAN = (FORMS, lambda X: spoilt(X, 3, 2, np.nan), NOT_FINITE.format("NaN"))
MASKED = (["3-D"], lambda X: np.ma.array(X, mask=spoilt(0 * X, 3, 2, 1.0)), NOT_FINITE.format("NaN"))
TOO_LARGE = (FORMS, lambda X: each(X, lambda x: 1e200 * x), r"Channel 0 holds values up to 1\.\d*e\+200.*Divide the ch")
# What only a fitted estimator can tell, and the form of X in its message.
OTHER_X = [
    (["3-D", "ragged"], lambda X: each(X, lambda x: np.column_stack([x, x[:, 0]])), r"X has 3 channels, but {}\.$"),
    (["3-D", "ragged"], lambda X: np.zeros((4, 2, 9)), r"X has 9 channels, but {}\. The other axis of X would.*layout"),
    (["3-D", "ragged"], lambda X: [np.zeros((2, 9))] * 4, r"X has 9 channels, but {}\. The other axis of X .*layout"),
    (["3-D"], lambda X: np.zeros((4, 12)), r"X has 1 channels, but {}\. .*Pass a single series as X\[np.newaxis\]"),
    (["3-D"], lambda X: np.zeros((12, 2)), r"X has 1 channels, but {}\. .*Pass a single series as X\[np.newaxis\]"),
    (["2-D"], lambda X: X[:, :5], "X has 5 features, but {cls} is expecting 12 features"),
]


@every
class TestBadX:
    @pytest.mark.parametrize("form", FORMS)
    def test_in_fit_and_prediction(self, case, form):
        """It is named, and the fitted estimator is left as it was."""
        X, y = case.data(form)
        model = case.tiny().fit(X, y)
        state, before = vars(model).copy(), case.results(model, X)
        rows = [*BAD_X, *([NAN, MASKED] if case not in FIXED else [])]
        fits = [*rows, *([TOO_LARGE] if case not in FIXED and case.cls is not SFMDensity else [])]
        others = [(forms, change, text) for forms, change, text in OTHER_X if form in forms]
        uses = [(lambda bad: case.results(model, bad), [*rows, *others]), (lambda bad: model.fit(bad, y), fits)]
        if hasattr(model, "score"):
            uses.append((lambda bad: model.score(bad, y), rows[:4]))
        if hasattr(model, "state_amplitudes") and case not in CORRECTED:
            uses.append((model.state_amplitudes, [*rows[:4], *others]))
        for use, table in uses:
            for forms, change, text in table:
                if form not in forms:
                    continue
                bad = change(X)
                text = text.format(f"{case} was fitted with 2", cls=case) if (forms, change, text) in others else text
                with pytest.raises((ValueError, TypeError), match=text) as caught:
                    use(bad)
                assert len(str(caught.value)) < 600  # a message must stay readable, whatever the size of X
                assert vars(model).keys() == state.keys()
                assert all(vars(model)[name] is value for name, value in state.items())
        assert_close(case.results(model, X), before, atol=0)

    def test_a_first_fit_that_fails_leaves_nothing_behind(self, case):
        X, y = case.data("3-D")
        model = case.tiny()
        with pytest.raises(ValueError, match="infinity"):
            model.fit(spoilt(X, 3, 2, np.inf), y)
        assert vars(model) == vars(case.tiny())

    def test_swapped_the_other_way(self, case):
        X, y = case.data("ragged")
        model = case.tiny(layout="nct").fit(each(X, np.transpose), y)
        for use in (lambda: model.fit(X, y), lambda: case.results(model, X)):
            with pytest.raises(ValueError, match=r"other axis.*layout='ntc'"):
                use()

    def test_not_fitted(self, case, tmp_path):
        X, y = case.data("3-D")
        methods = {"score": (X, y), "state_amplitudes": (X,), "to_torch": (), "save": (tmp_path / "model",)}
        names = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform")
        methods |= {"sample": (3,), "inverse_transform": (X,), **dict.fromkeys(names, (X,))}
        called = [name for name in methods if hasattr(case.tiny(), name)]
        assert len(called) >= (5 if case in TRAINED else 2)
        for name in called:
            with pytest.raises(NotFittedError, match=f"{case} instance is not fitted yet"):
                getattr(case.tiny(), name)(*methods[name])
        assert not list(tmp_path.iterdir())


BAD_WEIGHTS = [
    (np.where(np.arange(24) == 3, -1.0, 1.0), "Negative values.*sample_weight"),
    (np.zeros(24), "(?i)sample.weight.*zero"),
    (np.ones(5), r"sample_weight.shape == \(5,\), expected \(24,\)"),
    (np.full(24, np.nan), "sample_weight contains NaN"),
    (np.full(24, np.inf), "sample_weight contains infinity"),
    (np.ones((24, 2)), "Sample weights must be 1D array"),
    (np.nan, "sample_weight must be finite, but is nan"),
]
WEIGHTED = [case for case in ALL if case.cls is not SFMDensity]
TOLERANCE = {SFMFeatures: {"rtol": 0, "atol": 0}, PanelScaler: {"rtol": 1e-12, "atol": 1e-12}}


class TestWeights:
    @pytest.mark.parametrize(
        ("case", "form", "network"),
        [
            *pairwise(TRAINED[:3], FORMS, NETWORKS),
            *((case, form, None) for case in [*FIXED, SCALER] for form in FORMS),
        ],
        ids=ids,
    )
    def test_weight_is_repetition(self, case, form, network):
        X, y = case.data(form)
        weights = np.random.RandomState(1).randint(0, 4, size=len(X))
        weights[[0, 1]] = [0, 3]
        repeated = np.repeat(np.arange(len(X)), weights)
        options = {"network": network, "batch_size": 100, "max_iter": 10} if network else {}
        weighted = case.tiny(**options).fit(X, y, sample_weight=weights)
        explicit = case.tiny(**options).fit(take(X, repeated), take(y, repeated))
        tolerance = TOLERANCE.get(case.cls, {"rtol": 1e-7})
        assert_close(case.results(weighted, X), case.results(explicit, X), **tolerance)
        if network:
            np.testing.assert_allclose(weighted.loss_curve_, explicit.loss_curve_, rtol=1e-7)
        assert distance(case.results(weighted, X), case.results(case.tiny(**options).fit(X, y), X)) > 1e-4
        if hasattr(explicit, "score"):
            repeated_score = explicit.score(take(X, repeated), take(y, repeated))
            assert weighted.score(X, y, sample_weight=weights) == pytest.approx(repeated_score, rel=1e-6)

    @pytest.mark.parametrize(("batch_size", "early_stopping"), [(5, False), (100, True), (5, True)])
    @pytest.mark.parametrize("case", TRAINED[:3], ids=str)
    def test_weight_zero_is_absence(self, case, batch_size, early_stopping):
        X, y = case.data("ragged")
        kept = np.arange(len(X)) % 3 > 0
        index = np.flatnonzero(kept)
        for number in np.flatnonzero(~kept):  # what does not count may be anything
            X[number] = 100.0 * X[number]
        options = {"batch_size": batch_size, "early_stopping": early_stopping, "validation_fraction": 0.2}
        model = case.tiny(**options).fit(X, y, sample_weight=kept.astype(float))
        expected = case.tiny(**options).fit(take(X, index), take(y, index))
        assert_close(case.results(model, X), case.results(expected, X), rtol=1e-7)
        np.testing.assert_allclose(model.loss_curve_, expected.loss_curve_, rtol=1e-7)

    @pytest.mark.parametrize("case", WEIGHTED, ids=str)
    def test_scale_of_the_weights_does_not_matter(self, case):
        X, y = case.data("3-D")
        weights = np.random.RandomState(0).uniform(0.5, 2, size=len(X))
        models = [case.tiny().fit(X, y, sample_weight=factor * weights) for factor in (1.0, 1e-3, 1e3)]
        for model in models[1:]:
            assert_close(case.results(model, X), case.results(models[0], X), rtol=1e-7)

    @pytest.mark.parametrize("case", SUPERVISED, ids=str)
    def test_weights_pass_through_cross_validation(self, case):
        X, y = case.data("ragged")
        weights = np.arange(len(X)) % 5 / 2.0
        result = cross_validate(
            case.tiny(), X, y, cv=3, params={"sample_weight": weights}, return_estimator=True, return_indices=True
        )
        for model, train in zip(result["estimator"], result["indices"]["train"], strict=True):
            expected = case.tiny().fit(take(X, train), take(y, train), sample_weight=weights[train])
            assert_same_model(case, model, expected, X)


@pytest.mark.parametrize("case", WEIGHTED, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # scikit-learn's own
def test_bad_targets_and_weights(case, form):
    """They are named, and the fitted estimator is left as it was."""
    X, y = case.data(form)
    model = case.tiny().fit(X, y)
    state = vars(model).copy()
    table = [(y, weights, message) for weights, message in BAD_WEIGHTS]
    if case in SUPERVISED:
        table.append((None, None, "requires y to be passed, but the target y is None"))
        for length in (0, 5, 25):
            message = "0 sample" if (length, case.task) == (0, "numbers") else f"X has 24 series, y {length}"
            table.append((take(y, np.arange(length) % 24), None, message))
        for value, name in ((np.nan, "NaN"), (np.inf, "infinity")):
            bad = [np.where(item > 0, value, 0.0) for item in y]
            table.append((bad if case.task == "steps" else np.array(bad), None, f"Input y contains .*{name}"))
    for bad, weights, message in table:
        with pytest.raises(ValueError, match=message):
            model.fit(X, bad, sample_weight=weights)
        assert vars(model).keys() == state.keys()
        assert all(vars(model)[name] is value for name, value in state.items())
