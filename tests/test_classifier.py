"""What SFMClassifier promises by itself; what it shares with others is in test_contract*.py."""

import math
import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_predict, learning_curve
from sklearn.utils import compute_sample_weight

from sfmts import SFMClassifier, training
from sfmts._batch import SequenceBatch
from sfmts.networks._common import INITIALISATIONS
from sfmts.training import OPTIMIZERS
from tests.helpers import ALL_NETWORKS, MODES, NETWORKS, make_panel, mode_id, mode_parameters, pairwise
from tests.test_contract import FORMS, weights_of
from tests.test_contract_training import interrupt, watch_fits

pytestmark = pytest.mark.filterwarnings("error:::sfmts")


def panel(form, n=24, **options):
    X, y = make_panel(n=n, ragged=form == "ragged", **options)
    return (X[:, :, 0] if form == "2-D" else X), y


def tiny(**options):
    """A classifier that trains in a few milliseconds."""
    small = {"n_states": 4, "n_frequencies": 2, "max_iter": 3, "random_state": 0}
    return SFMClassifier(**{"network": "sfm", "base": None, "pooling": "last", **small, **options})


def able(**options):
    """A classifier that learns the panels of the helpers."""
    return tiny(
        **{"n_states": 6, "n_frequencies": 3, "max_iter": 12, "batch_size": 8, "learning_rate_init": 0.05, **options}
    )


def with_time(X, seed=0):
    """X with one more channel behind: irregular, increasing time stamps."""
    rng = np.random.RandomState(seed)
    return [np.column_stack([series, rng.uniform(0.5, 1.5, size=len(series)).cumsum()]) for series in X]


def assert_same_model(first, second, X):
    """Bit-equal weights and predictions."""
    a, b = weights_of(first), weights_of(second)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


class TestPrediction:
    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("n_classes", [1, 2, 3])
    def test_probabilities(self, network, n_classes):
        X, y = panel("ragged", n_classes=n_classes)
        model = tiny(network=network).fit(X, y)
        p, log_p, z = model.predict_proba(X), model.predict_log_proba(X), model.decision_function(X)
        assert p.shape == log_p.shape == (len(X), n_classes)
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
        np.testing.assert_allclose(log_p, np.log(p), rtol=1e-10, atol=1e-15)
        assert z.shape == ((len(X),) if n_classes == 2 else (len(X), n_classes))
        if n_classes == 2:
            np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-12)
            np.testing.assert_array_equal(model.predict(X), model.classes_[(z > 0).astype(int)])
        else:
            np.testing.assert_allclose(p, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), rtol=1e-12)
            np.testing.assert_array_equal(model.predict(X), model.classes_[z.argmax(axis=1)])

    def test_log_probability_of_the_hardly_possible(self):
        X, y = panel("3-D")
        model = tiny().fit(X, y)
        with torch.no_grad():
            model.module_.head.projection.bias.fill_(2000.0)
        log_p = model.predict_log_proba(X)
        np.testing.assert_allclose(log_p[:, 0], -model.decision_function(X), rtol=1e-12)
        assert (model.predict(X) == model.classes_[1]).all()

    @pytest.mark.parametrize(
        "names",
        [["up", "down", "round"], [3, -7, 11], [1.0, 2.0, -1.0], [True, False]],
        ids=["str", "int", "float", "bool"],
    )
    def test_labels(self, names):
        X, codes = panel("3-D", n_classes=len(names))
        names = np.array(names)
        model = able().fit(X, names[codes])
        assert model.classes_.dtype.kind == names.dtype.kind
        np.testing.assert_array_equal(model.classes_, np.unique(names))
        predicted = model.predict(X)
        assert predicted.dtype == model.classes_.dtype
        assert (predicted == names[codes]).mean() > 0.8

    def test_labels_of_python_objects(self):
        X, codes = panel("3-D")
        labels = np.array(["no", "yes"], dtype=object)[codes]
        model = tiny().fit(X, labels)
        assert set(model.predict(X)) <= {"no", "yes"}
        assert_same_model(model, tiny().fit(X, labels.tolist()), X)

    def test_a_single_class(self):
        X, _ = panel("3-D")
        for network in NETWORKS:
            model = tiny(network=network).fit(X, ["only"] * len(X))
            assert set(model.predict(X)) == {"only"}
            np.testing.assert_array_equal(model.predict_proba(X), np.ones((len(X), 1)))
            assert model.score(X, ["only"] * len(X)) == 1.0

    def test_order_of_steps_matters(self):
        X, y = panel("3-D")
        model = tiny().fit(X, y)
        assert np.abs(model.predict_proba(X) - model.predict_proba(X[:, ::-1])).max() > 1e-6


class TestStandardize:
    def test_units_of_a_channel_do_not_matter(self):
        X, y = panel("ragged")
        changed = [series * [1000.0, 0.001] + [5.0, -3.0] for series in X]
        np.testing.assert_allclose(
            tiny().fit(changed, y).predict_proba(changed), tiny().fit(X, y).predict_proba(X), rtol=0, atol=1e-8
        )
        unscaled = tiny().fit(changed, y)
        unscaled.module_.mean.zero_()
        unscaled.module_.scale.fill_(1.0)
        assert np.abs(unscaled.predict_proba(changed) - tiny().fit(X, y).predict_proba(X)).max() > 1e-3

    def test_a_constant_channel_is_harmless(self):
        X, y = panel("3-D")
        X[:, :, 1] = 7.0
        assert np.isfinite(able().fit(X, y).predict_proba(X)).all()


class TestWeights:
    def test_warm_start_with_an_array_among_the_parameters_of_the_network(self):
        X, y = panel("3-D")
        own = {"periods": np.array([1, 2])}
        model = tiny(network="clockwork_rnn", n_states=4, network_params=own, warm_start=True).fit(X, y)
        model.fit(X, y)
        model.set_params(network_params={"periods": np.array([1, 3])})
        with pytest.raises(ValueError, match=r"network_params=.* is now"):
            model.fit(X, y)

    def test_a_fitted_model_goes_by_the_time_it_was_fitted_with(self):
        X, y = panel("3-D")
        X = np.abs(X).cumsum(axis=1)
        model = tiny(time_channel=0).fit(X, y)
        expected = model.predict_proba(X)
        model.set_params(time_channel=1)
        np.testing.assert_array_equal(model.predict_proba(X), expected)
        model.set_params(time_channel=None)
        np.testing.assert_array_equal(model.predict_proba(X), expected)

    @pytest.mark.parametrize("batch_size", [1, 4, 20])
    def test_weights_say_the_same_in_every_size_of_mini_batch(self, batch_size):
        """Nine to one, even where a mini-batch holds a single series, whose relative weight says nothing."""
        X, y = np.zeros((20, 3, 1)), np.arange(20) % 2
        model = tiny(batch_size=batch_size, max_iter=60, optimizer_params={"schedule": "cosine"}).fit(
            X, y, sample_weight=1.0 + 8.0 * y
        )
        assert model.predict_proba(X)[0, 1] == pytest.approx(0.9, abs=0.03)

    def test_one_class_without_weight(self):
        X, y = panel("3-D")
        model = able().fit(X, y, sample_weight=(y == 1).astype(float))
        assert list(model.classes_) == [0, 1]
        assert (model.predict(X) == 1).all()

    @pytest.mark.parametrize("class_weight", [{0: 5.0, 1: 0.5}, {1: 3.0, 0: 1.0}, "balanced"], ids=str)
    def test_class_weight(self, class_weight):
        X, y = panel("ragged")
        y = (np.arange(len(y)) % 4 == 0).astype(int)
        model = tiny(class_weight=class_weight).fit(X, y)
        explicit = tiny().fit(X, y, sample_weight=compute_sample_weight(class_weight, y))
        np.testing.assert_allclose(model.predict_proba(X), explicit.predict_proba(X), rtol=1e-7)
        assert np.abs(model.predict_proba(X) - tiny().fit(X, y).predict_proba(X)).max() > 1e-4

    def test_class_weight_of_some_classes(self):
        X, y = panel("3-D")
        y = np.arange(len(X)) % 3
        rest, weights = y != 0, (y != 0).astype(float)
        some = {0: 1.0, 1: 2.0}
        np.testing.assert_array_equal(
            tiny(class_weight=some).fit(X, y).predict_proba(X),
            tiny(class_weight={**some, 2: 1.0}).fit(X, y).predict_proba(X),
        )
        model = tiny(class_weight=some).partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X[rest], y[rest])
        assert list(model.classes_) == [0, 1, 2]
        np.testing.assert_array_equal(
            tiny(class_weight=some).fit(X, y, sample_weight=weights).predict_proba(X),
            tiny().fit(X, y, sample_weight=weights * np.where(y == 1, 2.0, 1.0)).predict_proba(X),
        )
        with pytest.raises(ValueError, match=r"classes, \[1, 2\], are not in class_weight"):
            tiny(class_weight={0: 1.0, 5: 2.0}).fit(X, y)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_ratios_of_weights_are_what_counts(self, dtype):
        X, y = panel("3-D")
        X, weights = X.astype(dtype), np.random.RandomState(0).uniform(0.5, 2, size=len(X))
        expected = tiny().fit(X, y, sample_weight=weights).predict_proba(X)
        for factor in (1e-300, 1e-46, 0.25, 1e39, 1e300):
            scaled = tiny().fit(X, y, sample_weight=factor * weights)
            np.testing.assert_allclose(scaled.predict_proba(X), expected, rtol=1e-4)

    def test_class_weight_times_sample_weight(self):
        X, y = panel("3-D")
        weights = np.random.RandomState(0).uniform(0.5, 2, size=len(X))
        model = tiny(class_weight={0: 4.0, 1: 1.0}).fit(X, y, sample_weight=weights)
        explicit = tiny().fit(X, y, sample_weight=weights * np.where(y == 0, 4.0, 1.0))
        np.testing.assert_allclose(model.predict_proba(X), explicit.predict_proba(X), rtol=1e-7)
        words = tiny(class_weight={"no": 4.0, "yes": 1.0}).fit(X, np.array(["no", "yes"])[y], sample_weight=weights)
        np.testing.assert_array_equal(words.predict_proba(X), model.predict_proba(X))

    def test_balanced_counts_repetitions(self):
        X, y = panel("3-D")
        weights = np.where(y == 0, 3, 1)
        weights[:4] = 0
        repeated = np.repeat(np.arange(len(X)), weights)
        options = {"class_weight": "balanced", "batch_size": 100}
        np.testing.assert_allclose(
            tiny(**options).fit(X, y, sample_weight=weights).predict_proba(X),
            tiny(**options).fit(X[repeated], y[repeated]).predict_proba(X),
            rtol=1e-7,
        )


class TestTraining:
    def test_early_stopping_keeps_the_best_epoch(self, monkeypatch):
        X, y = panel("ragged", n=30)
        seen = watch_fits(monkeypatch)
        model = able(
            early_stopping=True,
            validation_fraction=0.4,
            optimizer_params={"schedule": "constant"},
            learning_rate_init=0.3,
            n_iter_no_change=20,
            max_iter=20,
            random_state=2,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, y)
        ((train, valid),) = seen
        assert len(train) + len(valid) == len(X)
        assert len(valid) == 12
        scores, losses = model.validation_scores_, model.history_["validation_loss"]
        assert len(scores) == len(losses) == model.n_iter_
        assert scores[-1] < max(scores), "the last epoch is the best: this seed cannot tell whether it was restored"

        module, target = model.to_torch(), valid.target
        logits = module(valid.x, valid.lengths)[:, 0].detach()
        assert float(((logits > 0).long() == target).double().mean()) == pytest.approx(max(scores))
        best = max(range(len(scores)), key=lambda epoch: (scores[epoch], -losses[epoch]))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target.double())
        assert float(loss) == pytest.approx(losses[best], rel=1e-9)

    def test_validation_set_holds_each_class_and_no_training_series(self, monkeypatch):
        X, y = panel("3-D", n=30, n_classes=3)
        X[:, 0, 0] = np.arange(30)  # a mark on each series
        seen = watch_fits(monkeypatch)
        tiny(early_stopping=True, validation_fraction=0.2).fit(X, y)
        train, valid = (data.x[:, 0, 0].tolist() for data in seen[0])
        assert sorted(train + valid) == list(range(30))
        assert np.bincount(y[np.array(valid, dtype=int)]).tolist() == [2, 2, 2]

    def test_n_iter_no_change(self):
        X, y = panel("3-D")
        for n_iter_no_change in (1, 4):
            model = tiny(tol=1e3, n_iter_no_change=n_iter_no_change, max_iter=20).fit(X, y)
            assert model.n_iter_ == 1 + n_iter_no_change
            assert model.history_["stopped"] == "loss"
            assert model.validation_scores_ is None
        model = able(n_iter_no_change=1, tol=0.0, batch_size=100, learning_rate_init=0.003).fit(X, y)
        assert np.all(np.diff(model.loss_curve_) < 0)
        assert model.n_iter_ == 12
        assert model.history_["stopped"] == "max_iter"

    def test_history(self):
        X, y = panel("3-D")
        model = tiny(batch_size=5, max_iter=4).fit(X, y)
        assert model.n_iter_ == 4
        assert model.history_["n_updates"] == 4 * math.ceil(len(X) / 5)
        assert model.history_["loss"] == model.loss_curve_
        assert len(model.history_["learning_rate"]) == 4

    def test_cosine_falls_to_zero(self):
        X, y = panel("3-D")
        rates = tiny(max_iter=20, batch_size=100).fit(X, y).history_["learning_rate"]
        expected = [0.01 * (1 + math.cos(math.pi * epoch / 20)) / 2 for epoch in range(20)]
        np.testing.assert_allclose(rates, expected, rtol=1e-12)

    def test_constant_warns_when_not_converged(self):
        X, y = panel("3-D")
        with pytest.warns(ConvergenceWarning, match="max_iter=3"):
            model = tiny(optimizer_params={"schedule": "constant"}).fit(X, y)
        assert set(model.history_["learning_rate"]) == {0.01}

    def test_warm_start_follows_new_training_parameters(self):
        X, y = panel("3-D")
        models = [tiny(warm_start=True, optimizer="sgd").fit(X, y) for _ in range(2)]
        models[1].set_params(optimizer_params={"weight_decay": 10.0})
        for model in models:
            model.fit(X, y)
        norms = [sum(float(p.detach().square().sum()) for p in model.module_.parameters()) for model in models]
        assert norms[1] < 0.95 * norms[0]

    def test_warm_start_refuses_other_data(self):
        X, y = panel("3-D")
        model = tiny(warm_start=True).fit(X, y)
        with pytest.raises(
            ValueError, match=r"warm_start=True needs the classes of the last fit, \[0 1\]; y has \[0 1 2\]"
        ):
            model.fit(X, np.arange(len(X)) % 3)
        with pytest.raises(ValueError, match="X has 1 channels, but SFMClassifier was fitted with 2"):
            model.fit(X[:, :, :1], y)

    def test_interrupt_in_the_first_epoch_keeps_the_model(self, monkeypatch):
        X, y = panel("3-D")
        untrained = tiny(batch_size=8, max_iter=1, learning_rate_init=1e-300).fit(X, y)
        interrupt(monkeypatch, after=1)
        model = tiny(batch_size=8, early_stopping=True)
        with pytest.warns(UserWarning, match="interrupted"):
            model.fit(X, y)
        assert model.loss_curve_ == []
        assert np.abs(model.predict_proba(X) - untrained.predict_proba(X)).max() > 1e-6

    def test_interrupt_with_early_stopping_keeps_the_best_epoch(self, monkeypatch):
        X, y = panel("3-D", n=30)
        options = {"early_stopping": True, "validation_fraction": 0.2, "batch_size": 8}
        best = {}
        update = training._Best.update

        def watched(self, key, model):
            stop = update(self, key, model)
            best.update(self.weights or {})
            return stop

        monkeypatch.setattr(training._Best, "update", watched)
        interrupt(monkeypatch, after=7)  # two epochs of three updates, and one more
        model = tiny(**options)
        with pytest.warns(UserWarning, match="interrupted"):
            model.fit(X, y)
        assert len(model.validation_scores_) == 2
        for name, value in weights_of(model).items():
            assert torch.equal(value, best[name]), name


class TestPartialFit:
    def test_classes_come_with_the_first_call(self):
        X, y = panel("3-D")
        model = tiny()
        with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
            model.partial_fit(X, y)
        model.partial_fit(X[y == 0], y[y == 0], classes=[2, 0, 1])
        assert model.classes_.tolist() == [0, 1, 2]
        assert model.predict_proba(X).shape == (len(X), 3)
        model.partial_fit(X, y).partial_fit(X, y, classes=[0, 1, 2])
        with pytest.raises(ValueError, match=r"classes=\[0, 1\] is not the same as on the last call"):
            model.partial_fit(X, y, classes=[0, 1])

        with pytest.raises(ValueError, match=r"y has the labels \[1\], which are not among the classes \[0 2\]"):
            tiny().partial_fit(X, y, classes=[0, 2])

    def test_each_epoch_has_its_own_order(self, monkeypatch):
        X, y = panel("3-D")
        orders = []
        batches = training.bucketed_batches

        def watched(*args):
            result = batches(*args)
            orders.append(torch.cat(list(result)).tolist())
            return result

        monkeypatch.setattr(training, "bucketed_batches", watched)
        model = tiny(batch_size=8)
        for _ in range(4):
            model.partial_fit(X, y, classes=[0, 1])
        assert len({tuple(order) for order in orders}) == 4


class TestFailedFit:
    """An earlier fit stays usable, to the bit."""

    @pytest.mark.parametrize("method", ["fit", "partial_fit", "warm fit"])
    def test_bad_input(self, method):
        X, y = panel("3-D")
        model = tiny(warm_start=method == "warm fit").fit(X, y)
        before, p, weights = set(vars(model)), model.predict_proba(X), weights_of(model)
        fit = model.partial_fit if method == "partial_fit" else model.fit
        for parameters, bad_X, bad_y in [
            ({}, X * np.nan, y),
            ({}, X[..., None], y),
            ({}, X, y[:-1]),
            ({}, X, np.linspace(0, 1, len(y))),
            ({}, X[:, :, :1], None),
            ({"n_states": 0}, X, y),
            ({"device": "nonsense"}, X[:, :5], y),
            ({"time_channel": 7}, X, y),
        ]:
            model.set_params(**parameters)
            with pytest.raises(ValueError):  # noqa: PT011 (messages are tested elsewhere)
                fit(bad_X, bad_y)
            model.set_params(**{name: getattr(tiny(), name) for name in parameters})
            assert set(vars(model)) == before
            np.testing.assert_array_equal(model.predict_proba(X), p)
            for name, value in weights_of(model).items():
                assert torch.equal(value, weights[name])

    def test_loss_that_explodes(self):
        X, y = panel("3-D")
        model = tiny().fit(X, y)
        p = model.predict_proba(X)
        model.set_params(learning_rate_init=1e308, optimizer="sgd", optimizer_params={"clip_norm": None}, max_iter=20)
        with pytest.raises(
            FloatingPointError, match=r"loss became (inf|nan) in epoch \d.*learning_rate_init \(now 1e\+308\)"
        ):
            model.fit(X, y)
        np.testing.assert_array_equal(model.predict_proba(X), p)


@pytest.mark.parametrize("form", FORMS)
def test_model_selection(form):
    X, y = panel(form)
    p = cross_val_predict(able(), X, y, cv=3, method="predict_proba")
    assert p.shape == (len(X), 2)
    assert (p.argmax(axis=1) == y).mean() > 0.7
    model = CalibratedClassifierCV(able(), cv=2).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)
    assert model.score(X, y) > 0.7
    sizes, *scores = learning_curve(tiny(), X, y, cv=2, train_sizes=[6, 12], shuffle=True, random_state=0)
    assert sizes.tolist() == [6, 12]
    assert np.isfinite(scores).all()


class TestOptions:
    """Each learns the easy panel, where chance is one half."""

    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("init", INITIALISATIONS)
    def test_init(self, network, init):
        X, y = panel("3-D")
        assert able(network=network, network_params={"init": init}).fit(X, y).score(X, y) > 0.8

    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize(
        "options",
        [
            {"pooling": "mean"},
            {"bidirectional": True},
            {"n_layers": 2},
            {"n_layers": 2, "bidirectional": True, "pooling": "mean"},
            {"dropout": 0.1, "network_params": {"recurrent_dropout": 0.1}},
        ],
        ids=lambda options: ",".join(options),
    )
    def test_architecture(self, network, options):
        X, y = panel("ragged")
        model = able(network=network, **options).fit(X, y)
        assert model.score(X, y) > 0.7
        assert model.loss_curve_[-1] < 0.8 * model.loss_curve_[0]

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    @pytest.mark.parametrize("learning_rate", ["constant", "cosine"])
    def test_optimizer(self, optimizer, learning_rate):
        X, y = panel("3-D")
        rate = {"adam": 0.05, "sgd": 0.1, "rmsprop": 0.02, "adadelta": 3.0}[optimizer]
        model = able(
            optimizer=optimizer, optimizer_params={"schedule": learning_rate}, learning_rate_init=rate, max_iter=20
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, y)
        assert model.score(X, y) > 0.7

    @pytest.mark.parametrize(
        ("mode", "ragged"),
        [(mode, (number // 3 + number % 3) % 2 > 0) for number, mode in enumerate(MODES)],
        ids=lambda value: mode_id(value) if isinstance(value, dict) else "ragged" if value else "3-D",
    )
    def test_clock(self, mode, ragged):
        X, y = make_panel(ragged=ragged)
        if mode["time"] == "timestamps":
            X = with_time(X)
        assert able(**mode_parameters(mode, 2)).fit(X, y).score(X, y) > 0.8

    def test_time_channel_counts_from_the_end_too(self):
        X, y = make_panel(ragged=True)
        X = with_time(X)
        models = [tiny(time_channel=channel).fit(X, y) for channel in (2, -1)]
        assert_same_model(*models, X)

    def test_time_stamps_drive_the_phase(self):
        X, y = make_panel()
        stamped = with_time(X)
        model = tiny(time_channel=2).fit(stamped, y)
        with torch.no_grad():
            for layer in model.module_.network.layers:
                layer.V[:, 2] = 0.0  # time no longer counts as an input
        stretched = [series * [1.0, 1.0, 1.7] for series in stamped]
        assert np.abs(model.predict_proba(stamped) - model.predict_proba(stretched)).max() > 1e-6

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_no_head(self, n_classes):
        X, y = panel("3-D", n_classes=n_classes)
        model = able(head="none").fit(X, y)
        assert model.score(X, y) > 0.6
        assert model.module_.network.output_size == (1 if n_classes == 2 else 3)
        assert not list(model.module_.head.parameters())

    @pytest.mark.parametrize(
        ("frequencies", "n_outputs", "n_classes"), pairwise(["fixed", "learned", "adaptive"], [None, 3], [2, 3])
    )
    def test_n_parameters_of_sfm(self, frequencies, n_outputs, n_classes):
        X, y = panel("3-D", n_classes=n_classes)
        model = tiny(network_params={"frequencies": frequencies, "n_outputs": n_outputs}, max_iter=1).fit(X, y)
        N, D, K, M = 2, 4, 2, n_outputs or 4
        extra = {"fixed": 0, "learned": K, "adaptive": K * (M + N + 1)}[frequencies]
        network = (3 * D + K) * (M + N + 1) + K * M * (2 * D + M + N + 2) + extra
        assert model.n_parameters_ == network + (M + 1) * (1 if n_classes == 2 else 3)

    @pytest.mark.parametrize(("network", "gates"), [("lstm", 4), ("gru", 3)])
    def test_n_parameters_of_gated_networks(self, network, gates):
        X, y = panel("3-D")
        H, N = 4, 2
        assert tiny(network=network, max_iter=1).fit(X, y).n_parameters_ == gates * H * (H + N + 1) + H + 1


class TestStateAmplitudes:
    @pytest.mark.parametrize("form", FORMS)
    def test_each_form(self, form):
        X, y = panel(form)
        model = tiny().fit(X, y)
        A = model.state_amplitudes(X)
        assert type(A) is type(X)
        assert [a.shape for a in A] == [(len(series), 4, 2) for series in X]
        for a, series in zip(A, X, strict=True):
            assert (a >= 0).all()
            assert a.max() > 0
            np.testing.assert_allclose(a, model.state_amplitudes(series[None])[0], rtol=0, atol=1e-10)
            if form != "2-D":  # steps to come do not matter
                np.testing.assert_allclose(a[:5], model.state_amplitudes(series[None, :5])[0], rtol=0, atol=1e-10)

    def test_other_networks_have_none(self):
        X, y = panel("3-D")
        for model in (tiny(network="lstm"), tiny(network="gru"), tiny(network="gru").fit(X, y)):
            assert not hasattr(model, "state_amplitudes")
            with pytest.raises(AttributeError, match="state_amplitudes"):
                model.state_amplitudes(X)

    def test_a_fitted_model_goes_by_its_own_network(self):
        X, y = panel("3-D")
        gated = tiny(network="lstm").fit(X, y).set_params(network="sfm")
        assert not hasattr(gated, "state_amplitudes")
        model = tiny().fit(X, y)
        expected = model.state_amplitudes(X)
        np.testing.assert_array_equal(model.set_params(network="lstm").state_amplitudes(X), expected)


class TestToTorch:
    @pytest.mark.parametrize(("network", "n_classes", "form"), pairwise(NETWORKS, [2, 3], ["3-D", "ragged"]))
    def test_reproduces_decision_function(self, network, n_classes, form):
        X, y = panel(form, n_classes=n_classes)
        X = [100.0 * series - 7.0 for series in X]
        model = tiny(network=network, dropout=0.3, network_params={"recurrent_dropout": 0.3}).fit(X, y)
        module = model.to_torch()
        lengths = torch.tensor([len(series) for series in X])
        x = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(series) for series in X], batch_first=True)
        with torch.no_grad():
            output = module(x, lengths).numpy()
        expected = model.decision_function(X)
        np.testing.assert_allclose(output[:, 0] if n_classes == 2 else output, expected, rtol=0, atol=1e-10)
        with torch.no_grad():
            for parameter in module.parameters():  # which are copies
                parameter.zero_()
        np.testing.assert_array_equal(model.decision_function(X), expected)

    def test_reads_time_stamps_from_their_channel(self):
        X, y = make_panel()
        X = np.stack(with_time(X))
        model = tiny(time_channel=2).fit(X, y)
        with torch.no_grad():
            output = model.to_torch()(torch.from_numpy(X))[:, 0].numpy()
        np.testing.assert_allclose(output, model.decision_function(X), rtol=0, atol=1e-10)


@pytest.mark.parametrize("network_name", ALL_NETWORKS)
def test_a_fill_value_gives_numbers_or_a_sentence(network_name):
    X, y = make_panel(n=24)
    X = X.astype(np.float32)
    model = SFMClassifier(network_name, base=None, n_states=8, max_iter=1, random_state=0).fit(X, y)
    for value in (9.96921e36, 1e20):
        filled = X[:4].copy()
        filled[1, 3, 0] = value
        try:
            p = model.predict_proba(filled)
        except ValueError as error:
            message = str(error)
            p = np.zeros(1)
        else:
            message = "output is not finite: fill values"
        assert np.isfinite(p).all()
        assert re.search("output is not finite.*fill values", message)


def test_one_long_series_does_not_pad_the_short_ones(monkeypatch):
    X = [np.full((10, 1), 0.1 * number) for number in range(40)] + [np.zeros((9000, 1))]
    model = SFMClassifier(base=None, n_states=3, max_iter=1, random_state=0).fit(X, np.arange(41) % 2)
    expected = model.predict_proba(X)
    sizes = []
    padded = SequenceBatch.padded

    def watched(batch, flat):
        sizes.append((len(batch), int(batch.lengths.max())))
        return padded(batch, flat)

    monkeypatch.setattr(SequenceBatch, "padded", watched)
    np.testing.assert_allclose(model.predict_proba(X), expected)
    model.state_amplitudes(X)
    assert max(n * longest for n, longest in sizes) <= 1 << 18
    monkeypatch.setattr("sfmts._batch._PADDED_STEPS", 10_000)
    sizes.clear()
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-6)
    assert len(model.state_amplitudes(X)) == 41
    assert max(n * longest for n, longest in sizes) <= 10_000


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "all"])
def test_what_the_head_reads(pooling):
    X, y = make_panel(n=6, ragged=True)
    model = tiny(pooling=pooling, max_iter=1).fit(X, y).to_torch()
    x = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(series) for series in X], batch_first=True)
    lengths = torch.tensor([len(series) for series in X])
    states = model.network((x - model.mean) / model.scale, lengths).states.detach()
    for number, n in enumerate(lengths):
        own = states[number, :n]
        parts = {"last": own[-1], "mean": own.mean(dim=0), "max": own.amax(dim=0)}
        expected = torch.cat([*parts.values()]) if pooling == "all" else parts[pooling]
        torch.testing.assert_close(model.features(x, lengths)[0][number].detach(), expected)


@pytest.mark.parametrize(("n", "updates"), [(4, 2), (20, 10), (105, 11), (640, 20)])
def test_few_series_make_small_batches(n, updates):
    X, y = np.random.default_rng(0).normal(size=(n, 3, 1)), np.arange(n) % 2
    model = SFMClassifier(base=None, n_states=2, max_iter=2, random_state=0).fit(X, y)
    assert model.history_["n_updates"] == 2 * updates
