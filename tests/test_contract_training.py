"""What all estimators that train a network promise alike, and what all promise in scikit-learn's searches."""

import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline

from sfmts import PanelScaler, SFMClassifier, SFMDensity, SFMLabeler, SFMRegressor
from sfmts.training import Trainer, evaluate
from tests.helpers import FAST_KERNELS, NETWORKS, needs_callbacks, pairwise
from tests.test_contract import (
    CORRECTED,
    FIXED,
    FORMS,
    SUPERVISED,
    TRAINED,
    WAYS,
    assert_close,
    assert_same_model,
    distance,
    each,
    every,
    ids,
    take,
    weights_of,
    wild,
)

pytestmark = pytest.mark.filterwarnings("error:::sfmts")
every_trained = pytest.mark.parametrize("case", TRAINED, ids=str)


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


class TestParameters:
    @every
    def test_html_and_unknown_names(self, case):
        for model in (case.tiny(), case.tiny().fit(*case.data("3-D"))):
            html = model._repr_html_()
            assert str(case) in html
            assert "layout" in html
        others = {SFMRegressor: "class_weight", SFMLabeler: "pooling", SFMDensity: "bidirectional"}
        for name in ("n_neurons", others.get(case.cls, "n_hidden")):
            with pytest.raises(ValueError, match=f"Invalid parameter '{name}' for estimator {case}"):
                case.tiny().set_params(**{name: 3})

    @every_trained
    def test_value(self, case):
        """It is named with what is right, and an earlier fit stays usable."""
        X, y = case.data("3-D")
        for warm_start in (False, True):
            model = case.tiny(warm_start=warm_start).fit(X, y)
            state, before = vars(model).copy(), case.results(model, X)
            for name, value, right in [
                ("optimizer", "nope", ["adam", "sgd", "rmsprop", "adadelta"]),
                ("head", "nope", ["linear", "none"]),
                ("layout", "tnc", ["ntc", "nct"]),
                ("n_states", 0, ["int", "[1, inf)"]),
                ("n_states", 2.5, ["int", "[1, inf)"]),
                ("n_frequencies", 0, ["int", "[1, inf)"]),
                ("n_layers", 0, ["int", "[1, inf)", "None"]),
                ("max_iter", 2.5, ["int", "[1, inf)"]),
                ("batch_size", 0, ["int", "[1, inf)"]),
                ("learning_rate_init", 0.0, ["float", "(0.0, inf)"]),
                ("dropout", 1.0, ["float", "[0.0, 1.0)"]),
                ("validation_fraction", 1.0, ["float", "(0.0, 1.0)"]),
                ("n_iter_no_change", 0, ["int", "[1, inf)"]),
                ("tol", -1.0, ["float", "[0.0, inf)"]),
                ("network", None, ["str"]),
                ("device", None, ["str"]),
                ("verbose", "loud", ["int", "bool"]),
                ("random_state", "dice", ["int", "RandomState", "None"]),
                ("network_params", "nope", ["dict", "None"]),
                ("optimizer_params", "nope", ["dict", "None"]),
            ]:
                old = getattr(model, name)
                with pytest.raises(ValueError, match=f"'{name}' parameter of {case} must be") as caught:
                    model.set_params(**{name: value}).fit(X, y)
                for choice in [*right, f"Got {value!r} instead"]:
                    assert choice in str(caught.value)
                model.set_params(**{name: old})
            for parameters, message in [
                ({"network": "nope"}, "Unknown network 'nope'; choose one of 'act', "),
                ({"device": "nonsense"}, "Unknown device 'nonsense'; choose 'auto', 'cpu', 'cuda'"),
            ]:
                with pytest.raises(ValueError, match=message):
                    model.set_params(**parameters).fit(X[:, :5], y if y is None or y.ndim == 1 else y[:, :5])
                model.set_params(**{name: getattr(case.tiny(), name) for name in parameters})
            assert all(vars(model)[name] is value for name, value in state.items() if name.endswith("_"))
            assert vars(model).keys() == state.keys()
            assert_close(case.results(model, X), before, atol=0)

    @every_trained
    def test_what_does_not_fit(self, case, monkeypatch):
        X, y = case.data("3-D")
        pooling = {"pooling": "last"} if hasattr(case.tiny(), "pooling") else {}
        for network in ("lstm", "gru"):
            text = r"head='none'.*n_outputs=\d is needed here, but the output has width 7"
            with pytest.raises(ValueError, match=text):
                case.tiny(network=network, n_states=7, head="none", **pooling).fit(X, y)
        n = 3 if case.task == "classes" else 1
        text = rf"early_stopping=True cannot set validation_fraction=0.1 of {n} series aside"
        for form in ("3-D", "ragged"):
            few, targets = case.data(form, n=n)
            with pytest.raises(ValueError, match=text):
                case.tiny(early_stopping=True).fit(few, targets)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(ValueError, match="device='cuda' was requested, but PyTorch sees 0 CUDA devices"):
            case.tiny(device="cuda").fit(X, y)


@every_trained
class TestOptions:
    def test_network(self, case):
        X, y = case.data("ragged")
        for network in NETWORKS:
            model = case.tiny(network=network, max_iter=10, learning_rate_init=0.03).fit(X, y)
            assert type(model.module_.network).__name__.lower() == network
            assert model.loss_curve_[-1] < model.loss_curve_[0]
            assert hasattr(model, "state_amplitudes") == (network == "sfm")

    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_backend(self, case, dropout):
        X, y = case.data("ragged")
        if case.cls is SFMDensity:  # at S = 0, where silence leaves it, |S| has a kink, and rounding sways its slope
            X = [np.vstack([np.ones((1, 2)), series]) for series in X]
        expected = case.tiny(network_params={"backend": "reference", "recurrent_dropout": dropout}).fit(X, y)
        assert expected.backend_ == "reference"
        for backend in FAST_KERNELS:
            model = case.tiny(network_params={"backend": backend, "recurrent_dropout": dropout}).fit(X, y)
            assert model.backend_ == backend
            assert_close(case.results(model, X), case.results(expected, X), atol=1e-8)
        model = case.tiny().fit(X, y)
        assert model.backend_ == model.module_.network.backend

    def test_memory(self, case):
        for form in ("3-D", "ragged"):
            X, y = case.data(form)
            options = {"recurrent_dropout": 0.3}
            model = case.tiny(network="sfm", network_params={"memory": "recompute", **options}).fit(X, y)
            expected = case.tiny(network="sfm", network_params=options).fit(X, y)
            assert_close(case.results(model, X), case.results(expected, X), atol=1e-8)

    def test_dropout_acts_in_training_only(self, case):
        X, y = case.data("3-D")
        for network in NETWORKS:
            plain = case.results(case.tiny(network=network).fit(X, y), X)
            for dropout in ({"dropout": 0.5}, {"network_params": {"recurrent_dropout": 0.5}}):
                assert distance(case.results(case.tiny(network=network, **dropout).fit(X, y), X), plain) > 1e-6

    def test_amplitudes_and_torch_module(self, case):
        X, y = case.data("ragged")
        model = case.tiny().fit(X, y)
        assert [a.shape for a in model.state_amplitudes(X)] == [(len(series), 4, 2) for series in X]
        module = model.to_torch()
        lengths = torch.tensor([len(series) for series in X])
        x = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(series) for series in X], batch_first=True)
        with torch.no_grad():
            output = module(x, lengths)
        steps = case.cls in (SFMLabeler, SFMDensity)
        assert output.shape[:-1] == ((len(X), x.shape[1]) if steps else (len(X),))
        if case.cls is SFMDensity:
            found = [p[: len(series)].sigmoid().numpy() for p, series in zip(output, X, strict=True)]
            assert_close(found, case.results(model, X))


@every_trained
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
        lost = 1 if case.cls is SFMDensity else 0  # the last frame is target only
        lengths = sorted([*train.lengths.tolist(), *valid.lengths.tolist()])
        assert lengths == sorted(len(series) - lost for series in X)
        scores = model.validation_scores_
        assert len(scores) == model.n_iter_
        assert scores[-1] < max(scores), "the last epoch is the best: this seed cannot tell whether it was restored"
        assert evaluate(model.module_, valid, 256)[0] == pytest.approx(max(scores))

    def test_early_stopping_stops(self, case):
        X, y = case.data("3-D")
        model = case.tiny(early_stopping=True, validation_fraction=0.3, tol=1e3, n_iter_no_change=2, max_iter=20)
        model.fit(X, y)
        assert model.n_iter_ == len(model.loss_curve_) == len(model.validation_scores_) == 3
        assert model.history_["stopped"] == "validation_score"

    def test_first_loss_is_that_of_the_untrained_model(self, case):
        X, y = case.data("ragged")
        model = case.tiny(max_iter=1, batch_size=100, learning_rate_init=1e-300).fit(X, y)
        results = case.results(model, X)
        if case.cls is SFMClassifier:
            expected = -np.mean([p[label] for p, label in zip(results, y, strict=True)])
        elif case.cls is SFMRegressor:
            expected = np.mean((np.concatenate(results) - y) ** 2) / np.var(y)
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

    def test_training_does_not_go_on_with_another_network(self, case):
        X, y = case.data("3-D")
        model = case.tiny(warm_start=True).fit(X, y)
        before = case.results(model, X)
        changes = [{"n_states": 5}, {"network": "lstm"}, {"dropout": 0.4}]
        for change in [*changes, *([{"pooling": "mean"}] if hasattr(model, "pooling") else [])]:
            ((name, value),) = change.items()
            old = getattr(model, name)
            model.set_params(**change)
            with pytest.raises(ValueError, match=rf"{name}={old!r} is now {value!r}.*fit a new network"):
                model.fit(X, y)
            if hasattr(model, "partial_fit"):
                with pytest.raises(ValueError, match=rf"{name}={old!r} is now {value!r}.*fit a new network"):
                    model.partial_fit(X, y)
            assert_close(case.results(model, X), before, atol=0)
            model.set_params(**{name: old})
        model.fit(X, y)

    def test_interrupt_keeps_what_was_learned(self, case, monkeypatch):
        X, y = case.data("ragged")
        untrained = case.tiny(batch_size=8, max_iter=1, learning_rate_init=1e-300).fit(X, y)
        interrupt(monkeypatch, after=4)
        model = case.tiny(batch_size=8)
        with pytest.warns(UserWarning, match="interrupted.*keeps what it has learned"):
            model.fit(X, y)
        assert model.history_["stopped"] == "interrupted"
        assert model.history_["n_updates"] == 4
        assert model.n_iter_ == len(model.loss_curve_) == 1
        assert distance(case.results(model, X), case.results(untrained, X)) > 1e-6

    @pytest.mark.parametrize(("after", "error"), [(0, KeyboardInterrupt), (2, FloatingPointError("loss became nan"))])
    def test_failure_leaves_the_earlier_model(self, case, after, error, monkeypatch):
        X, y = case.data("ragged")
        methods = ["fit", "warm fit", *(["partial_fit"] if hasattr(case.cls, "partial_fit") else [])]
        for method in methods:
            model, new = case.tiny(batch_size=8, warm_start=method == "warm fit").fit(X, y), case.tiny(batch_size=8)
            before, curve = case.results(model, X), list(model.loss_curve_)
            classes = {"classes": [0, 1]} if method == "partial_fit" and case.task in ("classes", "steps") else {}
            for estimator in (model, new):
                fit = estimator.partial_fit if method == "partial_fit" else estimator.fit
                with monkeypatch.context() as patch:
                    interrupt(patch, after, error)
                    with pytest.raises((KeyboardInterrupt, FloatingPointError)):
                        fit(X, y, **classes)
            assert_close(case.results(model, X), before, atol=0)
            assert model.loss_curve_ == curve
            assert vars(new) == vars(case.tiny(batch_size=8))

    def test_progress_and_silence(self, case, capsys):
        X, y = case.data("3-D")
        for verbose in (1, True, 2):
            case.tiny(verbose=verbose, batch_size=8, early_stopping=True, validation_fraction=0.2).fit(X, y)
            out, err = capsys.readouterr()
            assert out == ""
            for text in ("9/9", "loss=", "validation="):
                assert text in err
            assert re.search(r"\[\d\d:\d\d<\d\d:\d\d", err)  # time gone and left
        model = case.tiny(early_stopping=True).fit(X, y)
        case.results(model, X)
        if hasattr(model, "partial_fit"):
            model.set_params(early_stopping=False).partial_fit(X, y)
        assert capsys.readouterr() == ("", "")


class Recorder:
    """A scikit-learn callback that writes down what happens, and may ask to stop after so many epochs."""

    def __init__(self, stop_after=None):
        self.events, self.scores, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"{context.task_name} begins")

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.events.append(f"{context.task_name} ends")
        self.scores.append(fitted_estimator.score(X, y))
        return context.task_name == "epoch" and self.events.count("epoch ends") == self.stop_after


@needs_callbacks
@every_trained
def test_callbacks(case):
    X, y = case.data("ragged")
    recorder = Recorder(stop_after=2)
    model = case.tiny(max_iter=5).set_callbacks(recorder).fit(X, y)
    epoch = ["epoch begins", "epoch ends"]
    assert recorder.events == ["setup", "fit begins", *epoch, *epoch, "fit ends", "teardown"]
    assert model.n_iter_ == 2
    assert model.history_["stopped"] == "callback"
    assert recorder.scores[0] != recorder.scores[1] or case.task in ("steps", "classes")  # an accuracy may stand still
    assert recorder.scores[1] == recorder.scores[2] == model.score(X, y)
    watched = wild(case).set_callbacks(Recorder()).fit(X, y)  # watching changes nothing
    assert_same_model(case, watched, wild(case).fit(X, y), X)
    recorder = Recorder()
    with pytest.raises(ValueError, match="NaN"):
        model.set_callbacks(recorder).fit(each(X, lambda series: series * np.nan), y)
    assert recorder.events[-1] == "teardown"


@pytest.mark.parametrize("case", [*TRAINED, *CORRECTED], ids=str)
class TestValidationData:
    """Data of one's own to validate on: the same fit as one that sets the same series aside."""

    @staticmethod
    def parts(case, form="ragged"):
        X, y = case.data(form, n=36)
        rest = {"X_val": take(X, np.arange(24, 36))}
        if y is not None:
            rest["y_val"] = take(y, np.arange(24, 36))
        return (X, y), (take(X, np.arange(24)), None if y is None else take(y, np.arange(24))), rest

    def test_the_fit_is_that_with_these_series_set_aside(self, case, monkeypatch):
        whole, train, valid = self.parts(case)
        model = case.tiny(max_iter=6, n_iter_no_change=2, learning_rate_init=0.1).fit(*train, **valid)
        assert len(model.validation_scores_) == model.n_iter_ == len(model.loss_curve_)
        if case in CORRECTED:
            assert model.history_["stopped"] != "few series"
            return
        monkeypatch.setattr(case.cls, "_split", lambda *_: (np.arange(24), np.arange(24, 36)))
        aside = case.tiny(max_iter=6, n_iter_no_change=2, learning_rate_init=0.1, early_stopping=True).fit(*whole)
        assert model.history_ == aside.history_
        assert_same_model(case, model, aside, whole[0])

    def test_what_is_wrong_with_them(self, case):
        _, train, valid = self.parts(case)
        wrong = [({**valid, "X_val": each(valid["X_val"], lambda series: series[:, :1])}, "has 1 channels, but")]
        if train[1] is not None:
            wrong += [({name: valid[name]}, "X_val and y_val belong together") for name in valid]
            wrong += [({**valid, "y_val": valid["y_val"][1:]}, "inconsistent numbers of samples|11")]
        if case.task == "classes":
            wrong += [({**valid, "y_val": valid["y_val"] + 5}, "not among the classes")]
        for given, message in wrong:
            with pytest.raises(ValueError, match=message):
                case.tiny().fit(*train, **given)


@pytest.mark.parametrize("case", TRAINED[:3], ids=str)
class TestPartialFit:
    @staticmethod
    def first(case, **options):
        """What the first call needs beside X and y."""
        return {**options, **({"classes": [0, 1]} if case.task in ("classes", "steps") else {})}

    def test_epochs_accumulate(self, case):
        X, y = case.data("ragged")
        model = case.tiny(n_states=6, n_frequencies=3, batch_size=8, learning_rate_init=0.05)
        for epoch in range(1, 21):
            assert model.partial_fit(X, y, **self.first(case)) is model
            assert model.n_iter_ == len(model.loss_curve_) == epoch
        assert model.history_["n_updates"] == 20 * 3
        assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]
        assert model.score(X, y) > 0.8

    @needs_callbacks
    def test_each_call_notifies_callbacks_of_a_fit_with_one_epoch(self, case):
        X, y = case.data("ragged")
        recorder = Recorder()
        model = case.tiny().set_callbacks(recorder)
        for _ in range(2):
            recorder.events.clear()
            model.partial_fit(X, y, **self.first(case))
            assert recorder.events == ["setup", "fit begins", "epoch begins", "epoch ends", "fit ends", "teardown"]

    def test_after_fit(self, case):
        X, y = case.data("3-D")
        model = case.tiny(max_iter=12, batch_size=8, learning_rate_init=0.05).fit(X, y)
        loss = model.loss_curve_[-1]
        model.set_params(learning_rate_init=1e-6).partial_fit(X, y)
        assert model.n_iter_ == 13
        assert model.loss_curve_[-1] == pytest.approx(loss, abs=0.1 * (model.loss_curve_[0] - loss))

    def test_channels(self, case):
        X, y = case.data("3-D")
        model = case.tiny().partial_fit(X, y, **self.first(case))
        with pytest.raises(ValueError, match=f"X has 1 channels, but {case} was fitted with 2"):
            model.partial_fit(X[:, :, :1], y)

    def test_scales_are_those_of_the_first_part(self, case):
        X, y = case.data("3-D")
        model = case.tiny().partial_fit(X, y, **self.first(case))
        before = weights_of(model)
        model.partial_fit(X + 100.0, 5.0 * y + 100.0 if case.task == "numbers" else y)
        after = weights_of(model)
        for name in before.keys() & {"mean", "scale", "head.mean", "head.scale"}:
            assert torch.equal(after[name], before[name])
        assert not torch.equal(after["head.projection.weight"], before["head.projection.weight"])

    def test_sample_weight(self, case):
        X, y = case.data("3-D")
        weights = np.arange(len(X)) % 2 + 1
        repeated = np.repeat(np.arange(len(X)), weights)
        model = case.tiny(batch_size=100).partial_fit(X, y, **self.first(case, sample_weight=weights))
        explicit = case.tiny(batch_size=100).partial_fit(X[repeated], y[repeated], **self.first(case))
        assert_close(case.results(model, X), case.results(explicit, X), rtol=1e-7)

    def test_what_it_ignores(self, case, tmp_path):
        X, y = case.data("3-D")
        model = case.tiny().partial_fit(X, y, **self.first(case))
        model.set_params(early_stopping=True, optimizer_params={"schedule": "cosine"}, checkpoint=tmp_path)
        with pytest.warns(UserWarning, match=r"ignores early_stopping=True and checkpoint='.*' and the schedule 'cos"):
            model.partial_fit(X, y)
        assert model.n_iter_ == 2

    def test_same_seed_same_model_in_a_copy_too(self, case):
        X, y = case.data("ragged")
        models = [wild(case).set_params(early_stopping=False) for _ in range(2)]
        for number in range(3):
            before = torch.get_rng_state(), np.random.get_state()[1].copy()
            for model in models:
                model.partial_fit(X, y, **self.first(case))
            assert torch.equal(before[0], torch.get_rng_state())
            np.testing.assert_array_equal(before[1], np.random.get_state()[1])
            models[1] = [WAYS["pickle"], WAYS["deepcopy"], lambda model, path: model][number](models[1], None)
        assert_same_model(case, *models, X)


class TestModelSelection:
    @pytest.mark.parametrize(
        ("case", "form"),
        [*((case, form) for case in TRAINED for form in FORMS), *((case, "ragged") for case in FIXED[1:])],
        ids=ids,
    )
    def test_cross_val_score_is_that_of_each_fold(self, case, form):
        X, y = case.data(form)
        cv = KFold(3, shuffle=True, random_state=0)
        scores = cross_val_score(case.tiny(), X, y, cv=cv)
        for score, (train, test) in zip(scores, cv.split(np.zeros(len(X))), strict=True):
            model = case.tiny().fit(take(X, train), take(y, train))
            assert score == model.score(take(X, test), take(y, test))

    @every_trained
    def test_search_over_networks(self, case):
        X, y = case.data("ragged")
        search = GridSearchCV(case.tiny(), {"network": NETWORKS}, cv=2, error_score="raise").fit(X, y)
        assert search.cv_results_["param_network"].tolist() == NETWORKS
        scores = search.cv_results_["mean_test_score"]
        assert np.isfinite(scores).all()
        assert search.best_params_["network"] == NETWORKS[int(np.argmax(scores))]
        assert type(search.best_estimator_.module_.network).__name__.lower() == search.best_params_["network"]
        assert search.score(X, y) == search.best_estimator_.score(X, y)

    @pytest.mark.parametrize(("case", "form"), pairwise(SUPERVISED, FORMS), ids=ids)
    def test_pipeline(self, case, form, tmp_path):
        X, y = case.data(form)
        far = each(X, lambda series: 1000.0 * series + 50.0)
        pipeline = make_pipeline(PanelScaler(), case.tiny()).fit(far, y)
        tolerance = {"atol": 1e-6} if case in TRAINED else {"rtol": 1e-3, "atol": 1e-3}
        assert_close(case.results(pipeline, far), case.results(case.tiny().fit(X, y), X), **tolerance)
        name, values = ("scale", ["train", "both"]) if case in FIXED else ("n_states", [2, 3])
        name = f"{str(case).lower()}__{name}"
        search = GridSearchCV(pipeline, {name: values}, cv=2, error_score="raise").fit(far, y)
        assert search.best_params_[name] in values
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # joblib maps the arrays read-only
            copies = [WAYS[way](pipeline, tmp_path / "model") for way in ("pickle", "joblib", "deepcopy")]
            for copied in copies:
                assert_close(case.results(copied, far), case.results(pipeline, far), atol=0)
