"""What SFMRegressor, SFMLabeler and SFMDensity promise alike, and then what SFMRegressor promises by itself."""

import copy
import inspect
import math
import pickle
import re
import warnings
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_regressor
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline

from sfmts import PanelScaler, SFMDensity, SFMLabeler, SFMRegressor
from sfmts.estimators import _base
from sfmts.model_selection import cross_val_predict as steps_cross_val_predict
from sfmts.training import Trainer, evaluate
from tests.helpers import FAST_KERNELS, NETWORKS, make_panel

pytestmark = pytest.mark.filterwarnings("error:::sfmts")

FORMS = ["2-D", "3-D", "ragged"]


class Case(NamedTuple):
    """One of the estimators, with data it can learn and its results as one list of arrays (steps, ...)."""

    cls: type
    options: dict  # beside those of every test
    step_targets: bool
    method: str

    def tiny(self, **options):
        """An estimator that trains in a few milliseconds."""
        options = {"n_states": 4, "n_frequencies": 2, "max_iter": 3, "random_state": 0, **self.options, **options}
        own = {**self.options.get("network_params", {}), **(options.get("network_params") or {})}
        return self.cls(**{**options, "network_params": own or None})

    def data(self, form, n=24, seed=0, dtype=np.float64):
        X, _ = make_panel(n=n, ragged=form == "ragged", seed=seed)
        if self.cls is SFMDensity:
            X, y = [series > 0 for series in X], None
        elif self.step_targets:
            y = [(series[:, 0] > 0).astype(int) for series in X]
        else:
            y = np.array([series[:, 0].mean() for series in X])
        X = [series.astype(dtype) for series in X]
        if form == "ragged":
            return X, y
        X = np.stack(X)
        return (X[:, :, 0] if form == "2-D" else X), (np.stack(y) if self.step_targets and y is not None else y)

    def results(self, model, X):
        result = getattr(model, self.method)(X)
        return list(result) if self.step_targets else [np.atleast_1d(row)[None] for row in result]

    def __str__(self):
        return self.cls.__name__


# Without dropout, of which SFMDensity has much by default: it is turned on where it matters.
DENSITY = {"dropout": 0.0, "network_params": {"recurrent_dropout": 0.0}, "batch_size": 32}
CASES = [
    Case(SFMRegressor, {}, False, "predict"),
    Case(SFMLabeler, {}, True, "predict_log_proba"),
    Case(SFMDensity, DENSITY, True, "predict_proba"),
]
SUPERVISED = CASES[:2]
every = pytest.mark.parametrize("case", CASES, ids=str)
supervised = pytest.mark.parametrize("case", SUPERVISED, ids=str)


def take(X, index):
    return None if X is None else [X[i] for i in index] if isinstance(X, list) else X[index]


def weights_of(model):
    return {name: value.clone() for name, value in model.module_.state_dict().items()}


def assert_close(found, expected, **tolerance):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, **{"rtol": 0, "atol": 1e-10, **tolerance})


def distance(found, expected):
    return max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True))


def assert_same_model(case, first, second, X):
    """Bit-equal weights and results."""
    a, b = weights_of(first), weights_of(second)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    for one, other in zip(case.results(first, X), case.results(second, X), strict=True):
        np.testing.assert_array_equal(one, other)


def interrupt(monkeypatch, after, error=KeyboardInterrupt):
    """Let training fail behind so many updates."""
    step, done = Trainer._train_step, []

    def train_step(self, *arguments):
        if len(done) == after:
            raise error
        done.append(None)
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_step", train_step)


def watch_fits(monkeypatch):
    """A list that gets the training set and the validation set of each fit."""
    seen, fit = [], Trainer.fit

    def watched(self, train, valid=None, *arguments, **options):
        seen.append((train, valid))
        return fit(self, train, valid, *arguments, **options)

    monkeypatch.setattr(Trainer, "fit", watched)
    return seen


@every
class TestFormsOfX:
    @pytest.mark.parametrize(
        ("form", "convert"),
        [
            pytest.param("2-D", lambda X: X[:, :, None], id="2-D as 3-D of one channel"),
            pytest.param("2-D", np.ndarray.tolist, id="2-D as nested lists"),
            pytest.param("2-D", pd.DataFrame, id="DataFrame"),
            pytest.param("3-D", list, id="3-D as list"),
            pytest.param("3-D", torch.from_numpy, id="tensor"),
            pytest.param("3-D", np.asfortranarray, id="column-major"),
            pytest.param("ragged", tuple, id="tuple"),
            pytest.param("ragged", lambda X: [pd.DataFrame(series) for series in X], id="list of DataFrames"),
            pytest.param("ragged", lambda X: [series.tolist() for series in X], id="ragged nested lists"),
        ],
    )
    def test_the_same_series_give_the_same_model(self, case, form, convert):
        X, y = case.data(form)
        model, expected = case.tiny().fit(convert(X), y), case.tiny().fit(X, y)
        for name, value in weights_of(expected).items():
            assert torch.equal(weights_of(model)[name], value), name
        assert_close(case.results(model, convert(X)), case.results(expected, X), atol=0)

    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_layout(self, case, form):
        X, y = case.data(form)
        swapped = [series.T for series in X] if form == "ragged" else X.transpose(0, 2, 1)
        model, expected = case.tiny(layout="nct").fit(swapped, y), case.tiny().fit(X, y)
        assert_close(case.results(model, swapped), case.results(expected, X), atol=0)
        assert model.score(swapped, y) == expected.score(X, y)

    @pytest.mark.parametrize("form", FORMS)
    def test_input_is_left_alone(self, case, form):
        X, y = case.data(form)
        before = copy.deepcopy((X, y))
        for array in [*X, *(y if y is not None and case.step_targets else [])]:
            array.flags.writeable = False
        model = case.tiny().fit(X, y)
        model.score(X, y)
        case.results(model, X)
        for series, old in zip(X, before[0], strict=True):
            np.testing.assert_array_equal(series, old)

    def test_attributes(self, case):
        for form, channels in [("2-D", 1), ("3-D", 2), ("ragged", 2)]:
            X, y = case.data(form)
            model = case.tiny().fit(X, y)
            assert model.n_channels_in_ == channels
            assert hasattr(model, "n_features_in_") == (form == "2-D")
            assert model.n_iter_ == len(model.loss_curve_) == 3

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_results_have_the_type_of_x(self, case, form, dtype):
        X, y = case.data(form, dtype=dtype)
        model = case.tiny(device="cpu").fit(X, y)
        of_targets = ("head.mean", "head.scale")  # whose units are kept in double precision
        weights = [value for name, value in weights_of(model).items() if name not in of_targets]
        assert {value.dtype for value in weights} == {getattr(torch, np.dtype(dtype).name)}
        expected = np.dtype(np.float64 if case.cls is SFMRegressor else dtype)
        assert {result.dtype for result in case.results(model, X)} == {expected}
        assert type(model.score(X, y)) is float


@every
class TestPrediction:
    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("options", [{}, {"n_layers": 2}, {"bidirectional": True}], ids=str)
    def test_batch_mates_order_and_padding_do_not_matter(self, case, network, options, monkeypatch):
        if case.cls is SFMDensity and "bidirectional" in options:
            pytest.skip("SFMDensity has no such choice")
        X, y = case.data("ragged")
        model = case.tiny(network=network, **options).fit(X, y)
        together = case.results(model, X)
        assert_close([case.results(model, [series])[0] for series in X], together)
        long = [np.tile(series, (5, 1)) for series in X]
        assert_close(case.results(model, [*X, *long])[: len(X)], together)
        assert_close(case.results(model, X[::-1])[::-1], together)
        score = model.score(X, y)
        monkeypatch.setattr(_base, "_PREDICTION_BATCH", 5)
        assert_close(case.results(model, X), together)
        assert model.score(X, y) == pytest.approx(score, abs=1e-10)

    def test_more_series_than_one_batch_of_prediction(self, case):
        X, y = case.data("ragged")
        model = case.tiny().fit(X, y)
        assert_close(case.results(model, X * 12), case.results(model, X) * 12)

    def test_predicting_changes_nothing(self, case):
        X, y = case.data("ragged")
        model = case.tiny(dropout=0.5, network_params={"recurrent_dropout": 0.5}).fit(X, y)
        before = set(vars(model))
        first = case.results(model, X)
        assert_close(case.results(model, X), first, atol=0)
        assert set(vars(model)) == before


@every
class TestOptions:
    @pytest.mark.parametrize("network", NETWORKS)
    def test_network(self, case, network):
        X, y = case.data("ragged")
        model = case.tiny(network=network, max_iter=10, learning_rate_init=0.03).fit(X, y)
        assert type(model.module_.network).__name__.lower() == network
        assert model.loss_curve_[-1] < model.loss_curve_[0]

    @pytest.mark.parametrize("backend", FAST_KERNELS)
    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_backend(self, case, backend, dropout):
        X, y = case.data("ragged")
        if case.cls is SFMDensity:  # at S = 0, where silence leaves it, |S| has a kink, and rounding sways its slope
            X = [np.vstack([np.ones((1, 2)), series]) for series in X]
        model = case.tiny(network_params={"backend": backend, "recurrent_dropout": dropout}).fit(X, y)
        assert model.backend_ == backend
        expected = case.tiny(network_params={"backend": "reference", "recurrent_dropout": dropout}).fit(X, y)
        assert expected.backend_ == "reference"
        assert_close(case.results(model, X), case.results(expected, X), atol=1e-8)

    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_memory(self, case, form):
        X, y = case.data(form)
        options = {"recurrent_dropout": 0.3}
        model = case.tiny(network_params={"memory": "recompute", **options}).fit(X, y)
        expected = case.tiny(network_params=options).fit(X, y)
        assert_close(case.results(model, X), case.results(expected, X), atol=1e-8)

    def test_dropout_acts_in_training_only(self, case):
        X, y = case.data("3-D")
        plain = case.results(case.tiny().fit(X, y), X)
        for dropout in ({"dropout": 0.5}, {"network_params": {"recurrent_dropout": 0.5}}):
            assert distance(case.results(case.tiny(**dropout).fit(X, y), X), plain) > 1e-6

    def test_amplitudes_and_torch_module(self, case):
        X, y = case.data("ragged")
        model = case.tiny().fit(X, y)
        assert [a.shape for a in model.state_amplitudes(X)] == [(len(series), 4, 2) for series in X]
        module = model.to_torch()
        lengths = torch.tensor([len(series) for series in X])
        x = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(series) for series in X], batch_first=True)
        with torch.no_grad():
            output = module(x, lengths)
        assert output.shape[:-1] == ((len(X), x.shape[1]) if case.step_targets else (len(X),))
        if case.cls is SFMDensity:
            found = [p[: len(series)].sigmoid().numpy() for p, series in zip(output, X, strict=True)]
            assert_close(found, case.results(model, X))
        assert not hasattr(case.tiny(network="lstm").fit(X, y), "state_amplitudes")


@every
class TestRandomness:
    WILD = {"dropout": 0.2, "network_params": {"recurrent_dropout": 0.2}, "batch_size": 6, "early_stopping": True}  # noqa: RUF012

    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("form", FORMS)
    def test_same_seed_same_model(self, case, network, form):
        X, y = case.data(form)
        torch.manual_seed(0)
        np.random.seed(0)
        first = case.tiny(network=network, **self.WILD).fit(X, y)
        torch.manual_seed(1)
        np.random.seed(1)
        second = case.tiny(network=network, **self.WILD).fit(X, y)
        assert_same_model(case, first, second, X)
        assert first.history_ == second.history_

    def test_other_seed_other_model(self, case):
        X, y = case.data("3-D")
        for seeds in [(0, 1), (None, None)]:
            a, b = (case.results(case.tiny(random_state=seed).fit(X, y), X) for seed in seeds)
            assert distance(a, b) > 1e-6

    @pytest.mark.parametrize("random_state", [None, 0], ids=str)
    def test_global_generators_are_left_alone(self, case, random_state):
        X, y = case.data("ragged")
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), np.random.get_state()[2]
        case.results(case.tiny(**{**self.WILD, "random_state": random_state}).fit(X, y), X)
        assert torch.equal(before[0], torch.get_rng_state())
        np.testing.assert_array_equal(before[1], np.random.get_state()[1])
        assert before[2] == np.random.get_state()[2]

    @pytest.mark.parametrize("network", NETWORKS)
    def test_same_seed_in_threads(self, case, network, monkeypatch):
        monkeypatch.undo()  # working memory is shared between fits, as it is for a user
        X, y = case.data("ragged")
        models = [case.tiny(network=network, **self.WILD) for _ in range(4)]
        fits = (joblib.delayed(model.fit)(X, y) for model in models)
        fitted = joblib.Parallel(n_jobs=4, backend="threading")(fits)
        alone = case.tiny(network=network, **self.WILD).fit(X, y)
        for model in fitted:
            assert_same_model(case, model, alone, X)


def test_same_seed_in_processes():
    data = [case.data("ragged") for case in CASES]  # all in one test, so that the workers are started once
    fits = (joblib.delayed(case.tiny(batch_size=6).fit)(X, y) for case, (X, y) in zip(CASES, data, strict=True))
    fitted = joblib.Parallel(n_jobs=2, backend="loky")(fits)
    for case, model, (X, y) in zip(CASES, fitted, data, strict=True):
        assert_same_model(case, model, case.tiny(batch_size=6).fit(X, y), X)
        if case.step_targets:
            options = {"cv": 2, "method": "predict_proba"}
            together, alone = (steps_cross_val_predict(case.tiny(), X, y, n_jobs=n, **options) for n in (2, None))
            assert_close(together, alone, atol=0)


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


@every
class TestCopies:
    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_round_trip(self, case, way, network, form, tmp_path):
        X, y = case.data(form, dtype=np.float32 if form == "3-D" else np.float64)
        model = case.tiny(network=network, n_layers=2, dropout=0.2, early_stopping=True).fit(X, y)
        copied = way(model, tmp_path / "model")
        assert type(copied) is case.cls
        assert copied.get_params() == model.get_params()
        assert_same_model(case, copied, model, X)
        assert copied.score(X, y) == model.score(X, y)
        assert copied.history_ == model.history_
        assert {name for name in vars(copied) if not name.startswith("_")} == {
            name for name in vars(model) if not name.startswith("_")
        }

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_parameters_changed_after_fit(self, case, way, tmp_path):
        X, y = case.data("ragged")
        model = case.tiny().fit(X, y)
        before = case.results(model, X)
        model.set_params(n_states=7, n_frequencies=5, network="lstm", n_layers=2, network_params={"n_outputs": 3})
        assert_close(case.results(way(model, tmp_path / "model"), X), before, atol=0)

    def test_copy_is_independent(self, case):
        X, y = case.data("ragged")
        model = case.tiny(warm_start=True).fit(X, y)
        before = case.results(model, X)
        copied = copy.deepcopy(model)
        assert distance(case.results(copied.fit(X, y), X), before) > 1e-6
        assert_close(case.results(model, X), before, atol=0)

    def test_clone(self, case):
        X, y = case.data("ragged")
        model = case.tiny().fit(X, y)
        copied = clone(model)
        assert copied.get_params() == model.get_params()
        assert not hasattr(copied, "module_")
        assert_same_model(case, copied.fit(X, y), model, X)

    def test_file_of_another_estimator(self, case, tmp_path):
        X, y = case.data("3-D")
        case.tiny().fit(X, y).save(tmp_path / "model")
        other = next(other.cls for other in CASES if other.cls is not case.cls)
        with pytest.raises(ValueError, match=f"holds a {case}; load it with {case}.load"):
            other.load(tmp_path / "model")


@every
class TestParameters:
    def test_get_and_set(self, case):
        model = case.cls()
        names = set(inspect.signature(case.cls).parameters)
        assert set(model.get_params()) == names
        changed = model.set_params(n_states=7, network="gru", tol=0.5).get_params()
        assert (changed["n_states"], changed["network"], changed["tol"]) == (7, "gru", 0.5)
        assert clone(model).get_params() == changed

    def test_every_parameter_is_documented(self, case):
        text = inspect.getdoc(case.cls)
        section = text[text.index("Parameters\n---") : text.index("Attributes\n---")]
        words = set(re.findall(r"\w+", " ".join(re.findall(r"(?m)^\w.*$", section))))
        assert set(inspect.signature(case.cls).parameters) - words == set()

    @pytest.mark.parametrize("fitted", [False, True])
    def test_html(self, case, fitted):
        model = case.tiny()
        if fitted:
            model.fit(*case.data("3-D"))
        html = model._repr_html_()
        assert str(case) in html
        assert "n_states" in html

    def test_unknown(self, case):
        with pytest.raises(TypeError, match="unexpected keyword argument 'n_neurons'"):
            case.cls(n_neurons=3)
        unfit = {SFMRegressor: "class_weight", SFMLabeler: "pooling", SFMDensity: "bidirectional"}
        for name in ("n_neurons", unfit[case.cls]):
            with pytest.raises(ValueError, match=f"Invalid parameter '{name}' for estimator {case}"):
                case.tiny().set_params(**{name: 3})

    @pytest.mark.parametrize(
        ("name", "value", "right"),
        [
            ("head", "nope", ["linear", "none"]),
            ("optimizer", "nope", ["adam", "sgd"]),
            ("n_states", 0, ["int", "[1, inf)"]),
            ("max_iter", 2.5, ["int", "[1, inf)"]),
            ("dropout", 1.0, ["float", "[0.0, 1.0)"]),
            ("layout", "tnc", ["ntc", "nct"]),
            ("random_state", "dice", ["int", "None"]),
        ],
    )
    def test_value(self, case, name, value, right):
        with pytest.raises(ValueError, match=f"'{name}' parameter of {case} must be") as caught:
            case.tiny(**{name: value}).fit(*case.data("3-D"))
        for choice in [*right, f"Got {value!r} instead"]:
            assert choice in str(caught.value)

    def test_network_that_is_none(self, case):
        with pytest.raises(ValueError, match="Unknown network 'nope'; choose one of 'act', "):
            case.tiny(network="nope").fit(*case.data("3-D"))

    def test_device_that_is_not_there(self, case, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(ValueError, match="device='cuda' was requested, but PyTorch sees 0 CUDA devices"):
            case.tiny(device="cuda").fit(*case.data("3-D"))

    @pytest.mark.parametrize("network", ["lstm", "gru"])
    def test_no_head_on_a_network_of_another_width(self, case, network):
        with pytest.raises(ValueError, match=r"head='none'.*n_outputs=\d is needed here, but the output has width 7"):
            case.tiny(network=network, n_states=7, head="none").fit(*case.data("3-D"))


@every
class TestBadInput:
    @pytest.mark.parametrize("method", ["fit", "results", "score"])
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            pytest.param(np.nan, r"X contains NaN: series 3, step 2, channel \d\. Fill or drop", id="NaN"),
            pytest.param(np.inf, r"X contains infinity: series 3, step 2, channel \d\. Fill or drop", id="inf"),
            pytest.param("word", r"X must hold numbers.*'word'", id="word"),
            pytest.param(None, r"(0|no) (series|sample).*", id="empty"),
        ],
    )
    def test_x(self, case, method, form, spoil, message):
        X, y = case.data(form)
        model = case.tiny().fit(X, y)
        if spoil is None:
            bad = X[:0]
        else:
            bad = [series.astype(object if spoil == "word" else float) for series in X]
            bad[3][2, ...] = spoil
            bad = bad if form == "ragged" else np.stack(bad)
        use = {"fit": lambda: model.fit(bad, y), "score": lambda: model.score(bad, y)}
        with pytest.raises(ValueError, match=message):
            use.get(method, lambda: case.results(model, bad))()

    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_other_number_of_channels(self, case, form):
        X, y = case.data(form)
        model = case.tiny().fit(X, y)
        bad = [np.column_stack([series, series[:, 0]]) for series in X]
        with pytest.raises(ValueError, match=rf"X has 3 channels, but {case} was fitted with 2\."):
            case.results(model, np.stack(bad) if form == "3-D" else bad)

    def test_swapped_axes(self, case):
        X, y = case.data("3-D")
        model = case.tiny().fit(X, y)
        with pytest.raises(ValueError, match=r"X has 12 channels, but .* fitted with 2\. The other axis of X would"):
            case.results(model, X.transpose(0, 2, 1))

    def test_no_series_at_all(self, case):
        for X in (None, "series.csv", 3.0):
            with pytest.raises(TypeError, match="X must be an array"):
                case.tiny().fit(X, case.data("3-D")[1])

    def test_too_few_series_for_early_stopping(self, case):
        X, y = case.data("ragged", n=1)
        with pytest.raises(
            ValueError, match=r"early_stopping=True cannot set validation_fraction=0.1 of 1 series aside"
        ):
            case.tiny(early_stopping=True).fit(X, y)

    def test_not_fitted(self, case, tmp_path):
        X, y = case.data("3-D")
        methods = {"score": (X, y), "state_amplitudes": (X,), "to_torch": (), "save": (tmp_path / "model",)}
        methods |= {"predict_proba": (X,), "predict": (X,), "score_samples": (X,), "sample": (3,)}
        called = [name for name in methods if hasattr(case.cls, name)]
        assert len(called) >= 5
        for name in called:
            with pytest.raises(NotFittedError, match=f"{case} instance is not fitted yet"):
                getattr(case.tiny(), name)(*methods[name])


def test_dates_as_targets():
    X, _ = make_panel()
    y = np.array(["2020-01-01"] * len(X), dtype="datetime64[D]")
    with pytest.raises(ValueError, match=r"y must hold numbers, but holds datetime64\[D\]. Convert times"):
        SFMRegressor(n_states=3, max_iter=1).fit(X, y)


@supervised
@pytest.mark.parametrize("form", FORMS)
class TestBadTargets:
    def test_none(self, case, form):
        with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
            case.tiny().fit(case.data(form)[0], None)

    @pytest.mark.parametrize("length", [0, 5, 25])
    def test_length(self, case, form, length):
        X, y = case.data(form)
        y = take(y, np.arange(length) % 24)
        message = "0 sample" if length == 0 and not case.step_targets else f"X has 24 series, y {length}"
        with pytest.raises(ValueError, match=message):
            case.tiny().fit(X, y)

    @pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # scikit-learn's own
    @pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity")])
    def test_not_finite(self, case, form, value, name):
        X, y = case.data(form)
        y = [np.where(item > 0, value, 0.0) for item in y] if case.step_targets else np.where(y > 0, value, y)
        with pytest.raises(ValueError, match=f"Input y contains {name}"):
            case.tiny().fit(X, y)

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (np.where(np.arange(24) == 3, -1.0, 1.0), "Negative values.*sample_weight"),
            (np.zeros(24), "(?i)sample.weight.*zero"),
            (np.ones(5), r"sample_weight.shape == \(5,\), expected \(24,\)"),
            (np.full(24, np.nan), "sample_weight contains NaN"),
        ],
        ids=["negative", "all zero", "too short", "NaN"],
    )
    def test_weights(self, case, form, weights, message):
        X, y = case.data(form)
        with pytest.raises(ValueError, match=message):
            case.tiny().fit(X, y, sample_weight=weights)


@supervised
class TestWeights:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("network", NETWORKS)
    def test_weight_is_repetition(self, case, form, network):
        X, y = case.data(form)
        weights = np.random.RandomState(1).randint(0, 4, size=len(X))
        weights[[0, 1]] = [0, 3]
        repeated = np.repeat(np.arange(len(X)), weights)
        options = {"network": network, "batch_size": 100, "max_iter": 10}
        weighted = case.tiny(**options).fit(X, y, sample_weight=weights)
        explicit = case.tiny(**options).fit(take(X, repeated), take(y, repeated))
        assert_close(case.results(weighted, X), case.results(explicit, X), rtol=1e-7)
        np.testing.assert_allclose(weighted.loss_curve_, explicit.loss_curve_, rtol=1e-7)
        assert distance(case.results(weighted, X), case.results(case.tiny(**options).fit(X, y), X)) > 1e-4
        repeated_score = explicit.score(take(X, repeated), take(y, repeated))
        assert weighted.score(X, y, sample_weight=weights) == pytest.approx(repeated_score, rel=1e-6)

    @pytest.mark.parametrize("batch_size", [5, 100])
    @pytest.mark.parametrize("early_stopping", [False, True])
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

    @pytest.mark.parametrize("scale", [1e-3, 1e3])
    def test_scale_of_the_weights_does_not_matter(self, case, scale):
        X, y = case.data("3-D")
        weights = np.random.RandomState(0).uniform(0.5, 2, size=len(X))
        models = [case.tiny().fit(X, y, sample_weight=factor * weights) for factor in (1.0, scale)]
        assert_close(case.results(models[0], X), case.results(models[1], X), rtol=1e-7)

    def test_weights_pass_through_cross_validation(self, case):
        X, y = case.data("ragged")
        weights = np.arange(len(X)) % 5 / 2.0
        result = cross_validate(
            case.tiny(), X, y, cv=3, params={"sample_weight": weights}, return_estimator=True, return_indices=True
        )
        for model, train in zip(result["estimator"], result["indices"]["train"], strict=True):
            expected = case.tiny().fit(take(X, train), take(y, train), sample_weight=weights[train])
            assert_same_model(case, model, expected, X)


class TestUnits:
    @pytest.mark.parametrize(("origin", "unit"), [(1e5, 0.01), (1.7e9, 10.0)])
    def test_of_targets_do_not_matter_in_single_precision(self, origin, unit):
        X = np.random.default_rng(0).normal(size=(60, 10)).astype(np.float32)
        y = X.mean(axis=1).astype(np.float64)
        model = SFMRegressor(n_states=4, max_iter=5, random_state=0, device="cpu")
        expected = clone(model).fit(X, y).predict(X)
        found = clone(model).fit(X, origin + unit * y).predict(X)
        np.testing.assert_allclose((found - origin) / unit, expected, rtol=1e-3, atol=1e-5)


@every
class TestTraining:
    def test_early_stopping_keeps_the_best_epoch(self, case, monkeypatch):
        X, y = case.data("ragged", n=30)
        seen = watch_fits(monkeypatch)
        model = case.tiny(
            early_stopping=True,
            validation_fraction=0.4,
            optimizer_params={"schedule": "constant"},
            learning_rate_init=0.3,
            batch_size=8,
            n_iter_no_change=20,
            max_iter=20,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, y)
        ((train, valid),) = seen
        assert (len(train), len(valid)) == (18, 12)
        scores = model.validation_scores_
        assert len(scores) == model.n_iter_
        assert scores[-1] < max(scores), "the last epoch is the best: this seed cannot tell whether it was restored"
        assert evaluate(model.module_, valid, 256)[0] == pytest.approx(max(scores))

    def test_early_stopping_stops(self, case):
        X, y = case.data("3-D")
        model = case.tiny(early_stopping=True, validation_fraction=0.3, tol=1e3, n_iter_no_change=2, max_iter=20)
        model.fit(X, y)
        assert model.n_iter_ == len(model.validation_scores_) == 3
        assert model.history_["stopped"] == "validation_score"

    def test_series_are_either_trained_on_or_validated_on(self, case, monkeypatch):
        X, y = case.data("ragged", n=30)
        seen = watch_fits(monkeypatch)
        case.tiny(early_stopping=True, validation_fraction=0.2).fit(X, y)
        train, valid = seen[0]
        lost = 1 if case.cls is SFMDensity else 0  # the last frame is target only
        lengths = sorted([*train.lengths.tolist(), *valid.lengths.tolist()])
        assert lengths == sorted(len(series) - lost for series in X)
        assert len(valid) == 6

    def test_first_loss_is_that_of_the_untrained_model(self, case):
        X, y = case.data("ragged")
        model = case.tiny(max_iter=1, batch_size=100, learning_rate_init=1e-300).fit(X, y)
        results = case.results(model, X)
        if case.cls is SFMRegressor:
            expected = np.mean((np.concatenate(results)[:, 0] - y) ** 2) / np.var(y)
        elif case.cls is SFMLabeler:
            expected = -np.mean(np.concatenate([p[np.arange(len(k)), k] for p, k in zip(results, y, strict=True)]))
        else:
            expected = -model.score(X)
        assert model.loss_curve_[0] == pytest.approx(expected, rel=1e-10)

    def test_warm_start_goes_on(self, case):
        X, y = case.data("3-D")
        model = case.tiny(warm_start=True, max_iter=12, batch_size=8, learning_rate_init=0.05).fit(X, y)
        first, weights = model.loss_curve_, weights_of(model)
        fall = first[0] - first[-1]
        assert fall > 0.05
        model.set_params(max_iter=1, learning_rate_init=1e-6).fit(X, y)
        assert model.loss_curve_[0] == pytest.approx(first[-1], abs=0.1 * fall)
        for name, value in weights_of(model).items():
            torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-4)
        cold = clone(model).set_params(warm_start=False).fit(X, y)
        assert cold.loss_curve_[0] > first[-1] + 0.3 * fall

    def test_without_warm_start_fit_forgets(self, case):
        X, y = case.data("3-D")
        model = case.tiny().fit(X[:, :, :1], y)
        assert_same_model(case, model.fit(X, y), case.tiny().fit(X, y), X)

    @pytest.mark.parametrize("change", [{"n_states": 5}, {"network": "lstm"}, {"dropout": 0.4}], ids=str)
    def test_training_does_not_go_on_with_another_network(self, case, change):
        X, y = case.data("3-D")
        model = case.tiny(warm_start=True).fit(X, y)
        before = case.results(model, X)
        ((name, value),) = change.items()
        model.set_params(**change)
        with pytest.raises(ValueError, match=rf"{name}=.* is now {value!r}.*fit a new network"):
            model.fit(X, y)
        assert_close(case.results(model, X), before, atol=0)

    def test_interrupt_keeps_what_was_learned(self, case, monkeypatch):
        X, y = case.data("ragged")
        untrained = case.tiny(batch_size=8, max_iter=1, learning_rate_init=1e-300).fit(X, y)
        interrupt(monkeypatch, after=4)
        model = case.tiny(batch_size=8)
        with pytest.warns(UserWarning, match="interrupted.*keeps what it has learned"):
            model.fit(X, y)
        assert model.history_["stopped"] == "interrupted"
        assert model.history_["n_updates"] == 4
        assert model.n_iter_ == 1
        assert distance(case.results(model, X), case.results(untrained, X)) > 1e-6

    @pytest.mark.parametrize(("after", "error"), [(0, KeyboardInterrupt), (2, FloatingPointError("loss became nan"))])
    @pytest.mark.parametrize("warm_start", [False, True])
    def test_failure_leaves_the_earlier_model(self, case, after, error, warm_start, monkeypatch):
        X, y = case.data("ragged")
        model, new = case.tiny(batch_size=8, warm_start=warm_start).fit(X, y), case.tiny(batch_size=8)
        before, curve = case.results(model, X), list(model.loss_curve_)
        for estimator in (model, new):
            with monkeypatch.context() as patch:
                interrupt(patch, after, error)
                with pytest.raises((KeyboardInterrupt, FloatingPointError)):
                    estimator.fit(X, y)
        assert_close(case.results(model, X), before, atol=0)
        assert model.loss_curve_ == curve
        assert vars(new) == vars(case.tiny(batch_size=8))

    @pytest.mark.parametrize("warm_start", [False, True])
    @pytest.mark.parametrize(
        ("parameters", "change"),
        [
            pytest.param({}, lambda X: X * np.nan, id="bad X"),
            pytest.param({}, lambda X: X[..., None], id="X of four dimensions"),
            pytest.param({"n_states": 0}, None, id="bad parameter"),
            pytest.param({"device": "nonsense"}, lambda X: X[:, :5], id="bad device"),
            pytest.param({"network": "nope"}, None, id="bad network"),
        ],
    )
    def test_bad_input_leaves_the_earlier_model(self, case, warm_start, parameters, change):
        X, y = case.data("3-D")
        model = case.tiny(warm_start=warm_start).fit(X, y)
        before, names = case.results(model, X), set(vars(model))
        model.set_params(**parameters)
        with pytest.raises(ValueError):  # noqa: PT011 (messages are tested elsewhere)
            model.fit(X if change is None else change(X), y)
        assert set(vars(model)) == names
        model.set_params(**{name: getattr(case.tiny(), name) for name in parameters})
        assert_close(case.results(model, X), before, atol=0)
        assert np.isfinite(model.score(X, y))

    def test_progress_and_silence(self, case, capsys):
        X, y = case.data("3-D")
        case.tiny(verbose=1, batch_size=8, early_stopping=True, validation_fraction=0.2).fit(X, y)
        out, err = capsys.readouterr()
        assert out == ""
        assert "loss=" in err
        assert "validation=" in err
        case.results(case.tiny().fit(X, y), X)
        assert capsys.readouterr() == ("", "")


class Recorder:
    """A scikit-learn callback that scores at each epoch and asks to stop behind two."""

    def __init__(self):
        self.scores = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.scores.append(fitted_estimator.score(X, y))
        return context.task_name == "epoch" and len(self.scores) == 2


@every
def test_callbacks(case):
    X, y = case.data("ragged")
    recorder = Recorder()
    model = case.tiny(max_iter=5).set_callbacks(recorder).fit(X, y)
    assert model.n_iter_ == 2
    assert model.history_["stopped"] == "callback"
    assert recorder.scores[0] != recorder.scores[1] or case.cls is SFMLabeler  # an accuracy may stand still
    assert recorder.scores[1] == recorder.scores[2] == model.score(X, y)


@every
@pytest.mark.parametrize("form", FORMS)
class TestModelSelection:
    def test_cross_val_score_is_that_of_each_fold(self, case, form):
        X, y = case.data(form)
        cv = KFold(3, shuffle=True, random_state=0)
        scores = cross_val_score(case.tiny(), X, y, cv=cv)
        for score, (train, test) in zip(scores, cv.split(np.zeros(len(X))), strict=True):
            model = case.tiny().fit(take(X, train), take(y, train))
            assert score == model.score(take(X, test), take(y, test))

    def test_search_over_networks(self, case, form):
        X, y = case.data(form)
        search = GridSearchCV(case.tiny(), {"network": NETWORKS}, cv=2, error_score="raise").fit(X, y)
        assert search.cv_results_["param_network"].tolist() == NETWORKS
        scores = search.cv_results_["mean_test_score"]
        assert np.isfinite(scores).all()
        assert search.best_params_["network"] == NETWORKS[int(np.argmax(scores))]
        assert type(search.best_estimator_.module_.network).__name__.lower() == search.best_params_["network"]
        assert search.score(X, y) == search.best_estimator_.score(X, y)


@supervised
@pytest.mark.parametrize("form", FORMS)
def test_pipeline(case, form):
    X, y = case.data(form)
    X = [1000.0 * series + 50.0 for series in X] if form == "ragged" else 1000.0 * X + 50.0
    pipeline = make_pipeline(PanelScaler(), case.tiny()).fit(X, y)
    assert_close(case.results(pipeline, X), case.results(case.tiny().fit(X, y), X), atol=1e-6)
    search = GridSearchCV(pipeline, {f"{str(case).lower()}__n_states": [2, 3]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_[f"{str(case).lower()}__n_states"] in (2, 3)


# -- SFMRegressor by itself


def tiny(**options):
    return CASES[0].tiny(**options)


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


class TestTargets:
    @pytest.mark.parametrize(
        ("convert", "shape"),
        [
            pytest.param(lambda y: y, (), id="array"),
            pytest.param(np.ndarray.tolist, (), id="list"),
            pytest.param(pd.Series, (), id="Series"),
            pytest.param(lambda y: np.stack([y, -y], axis=1), (2,), id="two"),
            pytest.param(lambda y: pd.DataFrame({"a": y, "b": -y}), (2,), id="DataFrame"),
            pytest.param(lambda y: np.stack([y] * 5, axis=1).tolist(), (5,), id="five"),
        ],
    )
    @pytest.mark.parametrize("form", FORMS)
    def test_shape_is_that_of_y(self, convert, shape, form):
        X, y = CASES[0].data(form)
        model = tiny().fit(X, convert(y))
        assert model.n_targets_ == (shape[0] if shape else 1)
        assert model.predict(X).shape == (len(X), *shape)
        assert model.score(X, convert(y)) == pytest.approx(r2_score(convert(y), model.predict(X)))

    def test_one_column(self):
        """As scikit-learn's own neural network: a column is one target, with a warning."""
        X, y = means()
        with pytest.warns(DataConversionWarning, match="column-vector y was passed when a 1d array was expected"):
            model = tiny().fit(X, y[:, None])
        assert_same_model(CASES[0], model, tiny().fit(X, y), X)
        assert model.predict(X).shape == (len(X),)

    def test_integers_and_booleans_are_numbers(self):
        X, y = means()
        for targets in (np.round(10 * y).astype(int), y > 0):
            assert_same_model(CASES[0], tiny().fit(X, targets), tiny().fit(X, targets.astype(float)), X)

    def test_read_only(self):
        X, y = means()
        y.flags.writeable = False
        tiny().fit(X, y)

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

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            pytest.param(np.zeros((40, 2, 2)), "dim 3", id="3-D"),
            pytest.param(np.zeros((40, 0)), "0 feature", id="no targets"),
            pytest.param(np.zeros(40, dtype=complex), "Complex data not supported", id="complex"),
            pytest.param(["word"] * 40, "could not convert string to float: 'word'", id="words"),
            pytest.param(3.0, "(?i)scalar|singleton", id="scalar"),
        ],
    )
    def test_bad(self, y, message):
        X, _ = means()
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
        assert is_regressor(SFMRegressor())
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


class TestPartialFit:
    def test_epochs_accumulate(self):
        X, y = means()
        model = able()
        for epoch in range(1, 21):
            assert model.partial_fit(X, y) is model
            assert model.n_iter_ == len(model.loss_curve_) == epoch
        assert model.history_["n_updates"] == 20 * math.ceil(len(X) / 8)
        assert model.score(X, y) > 0.8

    def test_after_fit(self):
        X, y = means()
        model = able().fit(X, y)
        loss = model.loss_curve_[-1]
        model.set_params(learning_rate_init=1e-6).partial_fit(X, y)
        assert model.n_iter_ == 21
        assert model.loss_curve_[-1] == pytest.approx(loss, abs=0.02)

    def test_scales_are_those_of_the_first_part(self):
        X, y = means()
        model = tiny().partial_fit(X, y)
        before = weights_of(model)
        model.partial_fit([series + 100.0 for series in X], 5.0 * y + 100.0)
        for name in ("mean", "scale", "head.mean", "head.scale"):
            assert torch.equal(weights_of(model)[name], before[name])
        assert not torch.equal(weights_of(model)["head.projection.weight"], before["head.projection.weight"])

    @pytest.mark.parametrize("method", ["partial_fit", "warm fit"])
    def test_other_number_of_targets(self, method):
        X, y = means()
        model = tiny(warm_start=True).fit(X, y)
        before = model.predict(X)
        with pytest.raises(ValueError, match="y has 2 targets, but 1 in the training so far"):
            (model.fit if method == "warm fit" else model.partial_fit)(X, two_targets(X, y))
        np.testing.assert_array_equal(model.predict(X), before)

    def test_other_number_of_channels(self):
        X, y = means()
        model = tiny().partial_fit(X, y)
        with pytest.raises(ValueError, match="X has 1 channels, but SFMRegressor was fitted with 2"):
            model.partial_fit([series[:, :1] for series in X], y)

    def test_sample_weight(self):
        X, y = means()
        weights = np.arange(len(X)) % 2 + 1
        repeated = np.repeat(np.arange(len(X)), weights)
        weighted = tiny(batch_size=100).partial_fit(X, y, sample_weight=weights)
        explicit = tiny(batch_size=100).partial_fit(take(X, repeated), y[repeated])
        np.testing.assert_allclose(weighted.predict(X), explicit.predict(X), rtol=1e-7)

    @pytest.mark.parametrize("way", ["pickle", "deepcopy"])
    def test_goes_on_in_a_copy(self, way):
        X, y = means()
        model = tiny().partial_fit(X, y)
        copied = WAYS[way](model, None).partial_fit(X, y)
        np.testing.assert_array_equal(copied.predict(X), model.partial_fit(X, y).predict(X))

    def test_goes_on_behind_a_file(self, tmp_path):
        X, y = means()
        model = tiny().fit(X, two_targets(X, y))
        copied = through_file(model, tmp_path / "model").partial_fit(X, two_targets(X, y))
        assert copied.n_iter_ == 4
        assert np.abs(copied.predict(X) - model.predict(X)).max() > 1e-6

    def test_failure_leaves_the_earlier_model(self, monkeypatch):
        X, y = means()
        model = tiny().fit(X, y)
        before = model.predict(X)
        interrupt(monkeypatch, 0)
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(X, y)
        np.testing.assert_array_equal(model.predict(X), before)
        assert model.n_iter_ == 3
