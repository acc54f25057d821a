"""What SFMClassifier promises beyond scikit-learn's own suite."""

import math
import re
import threading
import warnings

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.utils import compute_sample_weight

from sfmts import PanelScaler, SFMClassifier, training
from sfmts._batch import SequenceBatch
from sfmts.estimators import _base
from sfmts.networks.base import INITIALISATIONS
from sfmts.training import OPTIMIZERS, Trainer
from tests.helpers import ALL_NETWORKS, KERNELS, MODES, NETWORKS, make_panel, mode_id, mode_parameters

pytestmark = pytest.mark.filterwarnings("error:::sfmts")

FORMS = ["2-D", "3-D", "ragged"]


def panel(form, n=24, **options):
    X, y = make_panel(n=n, ragged=form == "ragged", **options)
    return (X[:, :, 0] if form == "2-D" else X), y


def tiny(**options):
    """A classifier that trains in a few milliseconds."""
    return SFMClassifier(**{"n_states": 4, "n_frequencies": 2, "max_iter": 3, "random_state": 0, **options})


def able(**options):
    """A classifier that learns the panels of the helpers."""
    return tiny(
        **{"n_states": 6, "n_frequencies": 3, "max_iter": 12, "batch_size": 8, "learning_rate_init": 0.05, **options}
    )


def with_time(X, seed=0):
    """X with one more channel behind: irregular, increasing time stamps."""
    rng = np.random.RandomState(seed)
    return [np.column_stack([series, rng.uniform(0.5, 1.5, size=len(series)).cumsum()]) for series in X]


def take(X, index):
    return [X[i] for i in index] if isinstance(X, list) else X[index]


def weights_of(model):
    return {name: value.clone() for name, value in model.module_.state_dict().items()}


def assert_same_model(first, second, X):
    """Bit-equal weights and predictions."""
    a, b = weights_of(first), weights_of(second)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


class TestFormsOfX:
    """The same series give the same model, in whatever form they come."""

    @staticmethod
    def object_array(X):
        array = np.empty(len(X), dtype=object)
        array[:] = X
        return array

    @pytest.mark.parametrize(
        "convert",
        [
            pytest.param(tuple, id="tuple"),
            pytest.param(lambda X: TestFormsOfX.object_array(X), id="object array"),
            pytest.param(lambda X: [series.tolist() for series in X], id="nested lists"),
            pytest.param(lambda X: [pd.DataFrame(series) for series in X], id="list of DataFrames"),
            pytest.param(lambda X: [np.asfortranarray(series) for series in X], id="column-major"),
        ],
    )
    def test_ragged(self, convert):
        X, y = panel("ragged")
        expected = tiny().fit(X, y)
        assert_same_model(tiny().fit(convert(X), y), expected, X)
        np.testing.assert_array_equal(expected.predict_proba(convert(X)), expected.predict_proba(X))

    @pytest.mark.parametrize(
        "convert",
        [
            pytest.param(list, id="list of arrays"),
            pytest.param(tuple, id="tuple of arrays"),
            pytest.param(np.ndarray.tolist, id="nested lists"),
            pytest.param(np.asfortranarray, id="column-major"),
            pytest.param(lambda X: X.astype(object), id="object array"),
            pytest.param(torch.from_numpy, id="tensor"),
        ],
    )
    def test_three_dimensional(self, convert):
        X, y = panel("3-D")
        expected = tiny().fit(X, y)
        assert_same_model(tiny().fit(convert(X), y), expected, X)
        np.testing.assert_array_equal(expected.predict_proba(convert(X)), expected.predict_proba(X))

    @pytest.mark.parametrize(
        "convert",
        [
            pytest.param(np.ndarray.tolist, id="nested lists"),
            pytest.param(list, id="list of arrays"),
            pytest.param(lambda X: X[:, :, None], id="one channel"),
            pytest.param(pd.DataFrame, id="DataFrame"),
        ],
    )
    def test_two_dimensional(self, convert):
        X, y = panel("2-D")
        expected = tiny().fit(X, y)
        assert_same_model(tiny().fit(convert(X), y), expected, X)

    def test_list_of_one_dimensional_series(self):
        X, y = panel("ragged", n_channels=1)
        assert_same_model(tiny().fit([series[:, 0] for series in X], y), tiny().fit(X, y), X)

    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_layout(self, form):
        X, y = panel(form)
        swapped = [series.T for series in X] if form == "ragged" else X.transpose(0, 2, 1)
        model, expected = tiny(layout="nct").fit(swapped, y), tiny().fit(X, y)
        for name, value in weights_of(expected).items():
            assert torch.equal(weights_of(model)[name], value)
        np.testing.assert_array_equal(model.predict_proba(swapped), expected.predict_proba(X))

    def test_input_is_left_alone(self):
        for form in FORMS:
            X, y = panel(form)
            before = [np.array(series) for series in X]
            tiny().fit(X, y).predict(X)
            for series, old in zip(X, before, strict=True):
                np.testing.assert_array_equal(series, old)

    def test_attributes(self):
        for form, channels in [("2-D", 1), ("3-D", 2), ("ragged", 2)]:
            X, y = panel(form)
            model = tiny().fit(X, y)
            assert model.n_channels_in_ == channels
            assert hasattr(model, "n_features_in_") == (form == "2-D")

    def test_column_names(self):
        X, y = panel("2-D")
        frame = pd.DataFrame(X, columns=[f"t{step}" for step in range(X.shape[1])])
        model = tiny().fit(frame, y)
        assert list(model.feature_names_in_) == list(frame.columns)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.predict(frame)
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(frame[frame.columns[::-1]])
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(frame.rename(columns={"t0": "other"}))
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            model.predict(X)
        assert not hasattr(model.fit(X, y), "feature_names_in_")

    def test_column_names_of_other_frames(self):
        X, y = panel("2-D")
        names = [f"t{step}" for step in range(X.shape[1])]
        table = pyarrow.table(dict(zip(names, X.T, strict=True)))
        model = tiny().fit(table, y)
        assert list(model.feature_names_in_) == names
        np.testing.assert_array_equal(model.predict_proba(table), tiny().fit(X, y).predict_proba(X))
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(table.select(names[::-1]))

    def test_tensors(self):
        X, y = panel("3-D")
        X = torch.from_numpy(X).bfloat16()
        expected = tiny().fit(X.float().numpy(), y).predict_proba(X.float().numpy())
        for tensors in (X, X.float().requires_grad_(), list(X), [series.float().requires_grad_() for series in X]):
            np.testing.assert_array_equal(tiny().fit(tensors, y).predict_proba(tensors), expected)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_dtype_of_x_is_that_of_the_model(self, form, dtype):
        X, y = panel(form)
        X = [series.astype(dtype) for series in X] if form == "ragged" else X.astype(dtype)
        model = tiny(device="cpu").fit(X, y)
        assert {value.dtype for value in weights_of(model).values()} == {getattr(torch, np.dtype(dtype).name)}
        assert model.predict_proba(X).dtype == dtype

    def test_integers_and_booleans_are_numbers(self):
        X, y = panel("3-D")
        whole = np.round(10 * X).astype(int)
        assert_same_model(tiny().fit(whole, y), tiny().fit(whole.astype(float), y), X)
        assert_same_model(tiny().fit(X > 0, y), tiny().fit((X > 0).astype(float), y), X)


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

    @pytest.mark.parametrize("network", NETWORKS)
    def test_a_single_class(self, network):
        X, _ = panel("3-D")
        model = tiny(network=network).fit(X, ["only"] * len(X))
        assert set(model.predict(X)) == {"only"}
        np.testing.assert_array_equal(model.predict_proba(X), np.ones((len(X), 1)))
        assert model.score(X, ["only"] * len(X)) == 1.0

    @pytest.mark.parametrize(
        ("network", "options"),
        [
            *((network, {}) for network in NETWORKS),
            *((network, {"bidirectional": True}) for network in NETWORKS),
            *((network, {"n_layers": 2, "bidirectional": True}) for network in NETWORKS),
            *((network, {"pooling": "mean"}) for network in NETWORKS),
            ("sfm", {"network_params": {"time": "normalized"}}),
        ],
        ids=lambda value: value if isinstance(value, str) else ",".join(value) or "default",
    )
    def test_batch_mates_and_padding_do_not_matter(self, network, options, monkeypatch):
        X, y = panel("ragged")
        model = tiny(network=network, **options).fit(X, y)
        together = model.predict_log_proba(X)
        alone = np.concatenate([model.predict_log_proba([series]) for series in X])
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-10)
        longer = model.predict_log_proba([*X, *(np.tile(series, (5, 1)) for series in X)])[: len(X)]
        np.testing.assert_allclose(together, longer, rtol=0, atol=1e-10)
        backwards = model.predict_log_proba(X[::-1])[::-1]
        np.testing.assert_allclose(together, backwards, rtol=0, atol=1e-10)
        monkeypatch.setattr(_base, "_PREDICTION_BATCH", 5)
        np.testing.assert_allclose(together, model.predict_log_proba(X), rtol=0, atol=1e-10)

    def test_more_series_than_one_batch_of_prediction(self):
        X, y = panel("ragged")
        model = tiny().fit(X, y)
        many = model.predict_proba(X * 15)
        np.testing.assert_allclose(many, np.tile(model.predict_proba(X), (15, 1)), rtol=0, atol=1e-10)

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
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("network", NETWORKS)
    def test_weight_is_repetition(self, form, network):
        X, y = panel(form)
        weights = np.random.RandomState(1).randint(0, 4, size=len(X))
        weights[[0, 1]] = [0, 3]
        repeated = np.repeat(np.arange(len(X)), weights)
        options = {"network": network, "batch_size": 100, "max_iter": 10}
        weighted = tiny(**options).fit(X, y, sample_weight=weights)
        explicit = tiny(**options).fit(take(X, repeated), y[repeated])
        np.testing.assert_allclose(weighted.predict_proba(X), explicit.predict_proba(X), rtol=1e-7)
        plain = tiny(**options).fit(X, y)
        assert np.abs(weighted.predict_proba(X) - plain.predict_proba(X)).max() > 1e-4

    @pytest.mark.parametrize("batch_size", [5, 100])
    def test_weight_zero_is_absence(self, batch_size):
        X, y = panel("ragged")
        kept = np.arange(len(X)) % 3 > 0
        model = tiny(batch_size=batch_size).fit(X, y, sample_weight=kept.astype(float))
        index = np.flatnonzero(kept)
        expected = tiny(batch_size=batch_size).fit(take(X, index), y[index])
        np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), rtol=1e-7)
        np.testing.assert_allclose(model.loss_curve_, expected.loss_curve_, rtol=1e-7)

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

    @pytest.mark.parametrize("scale", [1e-3, 1e3])
    def test_scale_of_the_weights_does_not_matter(self, scale):
        X, y = panel("3-D")
        weights = np.random.RandomState(0).uniform(0.5, 2, size=len(X))
        np.testing.assert_allclose(
            tiny().fit(X, y, sample_weight=weights).predict_proba(X),
            tiny().fit(X, y, sample_weight=scale * weights).predict_proba(X),
            rtol=1e-7,
        )

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

    @pytest.mark.parametrize("factor", [1e-300, 1e-46, 0.25, 1e39, 1e300])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_ratios_of_weights_are_what_counts(self, factor, dtype):
        X, y = panel("3-D")
        X, weights = X.astype(dtype), np.random.RandomState(0).uniform(0.5, 2, size=len(X))
        scaled = tiny().fit(X, y, sample_weight=factor * weights)
        np.testing.assert_allclose(
            scaled.predict_proba(X), tiny().fit(X, y, sample_weight=weights).predict_proba(X), rtol=1e-4
        )

    def test_class_weight_times_sample_weight(self):
        X, y = panel("3-D")
        weights = np.random.RandomState(0).uniform(0.5, 2, size=len(X))
        model = tiny(class_weight={0: 4.0, 1: 1.0}).fit(X, y, sample_weight=weights)
        explicit = tiny().fit(X, y, sample_weight=weights * np.where(y == 0, 4.0, 1.0))
        np.testing.assert_allclose(model.predict_proba(X), explicit.predict_proba(X), rtol=1e-7)

    def test_class_weight_with_string_labels(self):
        X, y = panel("3-D")
        names = np.array(["no", "yes"])[y]
        np.testing.assert_array_equal(
            tiny(class_weight={"no": 3.0, "yes": 1.0}).fit(X, names).predict_proba(X),
            tiny(class_weight={0: 3.0, 1: 1.0}).fit(X, y).predict_proba(X),
        )

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


def watch_split(monkeypatch):
    """A list that gets the training set and the validation set of each fit."""
    seen = []
    fit = Trainer.fit

    def watched(self, train, valid=None, *args, **options):
        seen.append((train, valid))
        return fit(self, train, valid, *args, **options)

    monkeypatch.setattr(Trainer, "fit", watched)
    return seen


class TestTraining:
    def test_early_stopping_keeps_the_best_epoch(self, monkeypatch):
        X, y = panel("ragged", n=30)
        seen = watch_split(monkeypatch)
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
        seen = watch_split(monkeypatch)
        tiny(early_stopping=True, validation_fraction=0.2).fit(X, y)
        train, valid = (data.x[:, 0, 0].tolist() for data in seen[0])
        assert sorted(train + valid) == list(range(30))
        assert np.bincount(y[np.array(valid, dtype=int)]).tolist() == [2, 2, 2]

    def test_early_stopping_stops(self):
        X, y = panel("3-D")
        model = tiny(early_stopping=True, validation_fraction=0.3, tol=1e3, n_iter_no_change=2, max_iter=20).fit(X, y)
        assert model.n_iter_ == len(model.loss_curve_) == len(model.validation_scores_) == 3
        assert model.history_["stopped"] == "validation_score"

    @pytest.mark.parametrize("n_iter_no_change", [1, 4])
    def test_n_iter_no_change(self, n_iter_no_change):
        X, y = panel("3-D")
        model = tiny(tol=1e3, n_iter_no_change=n_iter_no_change, max_iter=20).fit(X, y)
        assert model.n_iter_ == 1 + n_iter_no_change
        assert model.history_["stopped"] == "loss"
        assert model.validation_scores_ is None

    def test_progress_is_not_taken_for_none(self):
        X, y = panel("3-D")
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

    def test_first_loss_is_that_of_the_untrained_model(self):
        X, y = panel("ragged")
        model = tiny(max_iter=1, batch_size=100, learning_rate_init=1e-300).fit(X, y)
        p = model.predict_proba(X)[np.arange(len(y)), y]
        assert model.loss_curve_[0] == pytest.approx(-np.log(p).mean(), rel=1e-10)

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

    def test_warm_start_goes_on(self):
        X, y = panel("3-D")
        model = able(warm_start=True).fit(X, y)
        first = model.loss_curve_
        weights = weights_of(model)
        assert first[-1] < 0.3 * first[0]
        model.set_params(max_iter=1, learning_rate_init=1e-6).fit(X, y)
        assert model.loss_curve_[0] == pytest.approx(first[-1], abs=0.1 * (first[0] - first[-1]))
        for name, value in weights_of(model).items():
            torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-4)
        cold = clone(model).set_params(warm_start=False).fit(X, y)
        assert cold.loss_curve_[0] > 2 * first[-1]

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

    def test_warm_start_refuses_another_pooling(self):
        X, y = panel("3-D")
        model = tiny(warm_start=True).fit(X, y).set_params(pooling="mean")
        with pytest.raises(ValueError, match="pooling='last' is now 'mean'"):
            model.fit(X, y)

    def test_without_warm_start_fit_forgets(self):
        X, y = panel("3-D")
        model = tiny().fit(X[:, :, :1], np.arange(len(X)) % 3)
        assert_same_model(model.fit(X, y), tiny().fit(X, y), X)

    @pytest.mark.parametrize(
        "dropout", [{"dropout": 0.5}, {"network_params": {"recurrent_dropout": 0.5}}], ids=lambda d: next(iter(d))
    )
    @pytest.mark.parametrize("network", NETWORKS)
    def test_dropout_acts_in_training_only(self, network, dropout):
        X, y = panel("3-D")
        model = tiny(network=network, **dropout).fit(X, y)
        assert np.abs(model.predict_proba(X) - tiny(network=network).fit(X, y).predict_proba(X)).max() > 1e-6
        np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(X))

    def test_interrupt_keeps_the_model(self, monkeypatch):
        X, y = panel("3-D")
        interrupt(monkeypatch, after=4)
        model = tiny(batch_size=8)
        with pytest.warns(UserWarning, match="interrupted.*keeps what it has learned"):
            model.fit(X, y)
        assert model.history_["stopped"] == "interrupted"
        assert model.history_["n_updates"] == 4
        assert model.n_iter_ == len(model.loss_curve_) == 1
        assert model.predict(X).shape == (len(X),)

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

    def test_interrupt_before_the_first_update_goes_on_to_the_caller(self, monkeypatch):
        X, y = panel("3-D")
        model, new = tiny().fit(X, y), tiny()
        before = model.predict_proba(X)
        interrupt(monkeypatch, after=0)
        for estimator in (model, new):
            with pytest.raises(KeyboardInterrupt):
                estimator.fit(X[:, :, :1], np.arange(len(X)) % 3)
        np.testing.assert_array_equal(model.predict_proba(X), before)
        assert not hasattr(new, "module_")

    @pytest.mark.parametrize("verbose", [1, True, 2])
    def test_progress_bar(self, verbose, capsys):
        X, y = panel("3-D")
        tiny(verbose=verbose, batch_size=8).fit(X, y)
        out, err = capsys.readouterr()
        assert out == ""
        assert "9/9" in err
        assert "loss=" in err
        time_gone_and_left = r"\[\d\d:\d\d<\d\d:\d\d"
        assert re.search(time_gone_and_left, err)

    def test_progress_bar_shows_the_validation_score(self, capsys):
        X, y = panel("3-D")
        tiny(verbose=1, early_stopping=True, validation_fraction=0.2).fit(X, y)
        assert "validation=" in capsys.readouterr().err

    def test_silence(self, capsys):
        X, y = panel("3-D")
        tiny(early_stopping=True, validation_fraction=0.2).fit(X, y).predict(X)
        tiny().partial_fit(X, y, classes=[0, 1])
        assert capsys.readouterr() == ("", "")


def interrupt(monkeypatch, after, error=KeyboardInterrupt):
    """Let training fail behind so many updates."""
    step = Trainer._train_step
    done = []

    def train_step(self, *args):
        if len(done) == after:
            raise error
        done.append(None)
        return step(self, *args)

    monkeypatch.setattr(Trainer, "_train_step", train_step)


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

    def test_epochs_accumulate(self):
        X, y = panel("ragged")
        model = able()
        for epoch in range(1, 16):
            model.partial_fit(X, y, classes=[0, 1])
            assert model.n_iter_ == len(model.loss_curve_) == epoch
        assert model.history_["n_updates"] == 15 * math.ceil(len(X) / 8)
        assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]
        assert model.score(X, y) > 0.8

    def test_after_fit(self):
        X, y = panel("3-D")
        model = able().fit(X, y)
        loss = model.loss_curve_[-1]
        model.set_params(learning_rate_init=1e-6).partial_fit(X, y)
        assert model.n_iter_ == 13
        assert model.loss_curve_[-1] == pytest.approx(loss, abs=0.1)

    def test_unknown_label(self):
        X, y = panel("3-D")
        with pytest.raises(ValueError, match=r"y has the labels \[1\], which are not among the classes \[0 2\]"):
            tiny().partial_fit(X, y, classes=[0, 2])

    def test_channels(self):
        X, y = panel("3-D")
        model = tiny().partial_fit(X, y, classes=[0, 1])
        with pytest.raises(ValueError, match="X has 1 channels, but SFMClassifier was fitted with 2"):
            model.partial_fit(X[:, :, :1], y)

    def test_scales_are_those_of_the_first_part(self):
        X, y = panel("3-D")
        model = tiny().partial_fit(X, y, classes=[0, 1])
        mean = model.module_.mean.clone()
        model.partial_fit(X + 100.0, y)
        assert torch.equal(model.module_.mean, mean)

    def test_sample_weight(self):
        X, y = panel("3-D")
        weights = np.arange(len(X)) % 2 + 1
        repeated = np.repeat(np.arange(len(X)), weights)
        weighted = tiny(batch_size=100).partial_fit(X, y, classes=[0, 1], sample_weight=weights)
        explicit = tiny(batch_size=100).partial_fit(X[repeated], y[repeated], classes=[0, 1])
        np.testing.assert_allclose(weighted.predict_proba(X), explicit.predict_proba(X), rtol=1e-7)

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

    def test_same_seed_same_model(self):
        X, y = panel("ragged")
        models = [tiny(dropout=0.3), tiny(dropout=0.3)]
        for model in models:
            for _ in range(3):
                model.partial_fit(X, y, classes=[0, 1])
        assert_same_model(*models, X)


class TestFailedFit:
    """An earlier fit stays usable, to the bit."""

    @pytest.mark.parametrize("method", ["fit", "partial_fit", "warm fit"])
    @pytest.mark.parametrize(
        ("parameters", "change_X", "change_y"),
        [
            pytest.param({}, lambda X: X * np.nan, None, id="bad X"),
            pytest.param({}, lambda X: X[..., None], None, id="X of four dimensions"),
            pytest.param({}, None, lambda y: y[:-1], id="y too short"),
            pytest.param({}, None, lambda y: np.linspace(0, 1, len(y)), id="continuous y"),
            pytest.param({}, lambda X: X[:, :, :1], lambda y: None, id="other channels, no y"),
            pytest.param({"n_states": 0}, None, None, id="bad parameter"),
            pytest.param({"device": "nonsense"}, lambda X: X[:, :5], None, id="bad device"),
            pytest.param({"time_channel": 7}, None, None, id="bad channel"),
        ],
    )
    def test_bad_input(self, method, parameters, change_X, change_y):
        X, y = panel("3-D")
        model = tiny(warm_start=method == "warm fit").fit(X, y)
        before, p, weights = set(vars(model)), model.predict_proba(X), weights_of(model)
        model.set_params(**parameters)
        fit = model.partial_fit if method == "partial_fit" else model.fit
        with pytest.raises(ValueError):  # noqa: PT011 (messages are tested elsewhere)
            fit(X if change_X is None else change_X(X), y if change_y is None else change_y(y))
        model.set_params(**{name: getattr(tiny(), name) for name in parameters})
        assert set(vars(model)) == before
        np.testing.assert_array_equal(model.predict_proba(X), p)
        for name, value in weights_of(model).items():
            assert torch.equal(value, weights[name])

    @pytest.mark.parametrize("method", ["fit", "partial_fit", "warm fit"])
    @pytest.mark.parametrize("after", [0, 2])
    def test_error_in_training(self, method, after, monkeypatch):
        X, y = panel("3-D")
        model = tiny(warm_start=method == "warm fit", batch_size=8).fit(X, y)
        p, curve = model.predict_proba(X), list(model.loss_curve_)
        interrupt(monkeypatch, after, FloatingPointError("The training loss became nan"))
        with pytest.raises(FloatingPointError):
            (model.partial_fit if method == "partial_fit" else model.fit)(X, y)
        np.testing.assert_array_equal(model.predict_proba(X), p)
        assert model.loss_curve_ == curve

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

    def test_first_fit_leaves_nothing_behind(self):
        X, y = panel("3-D")
        model = tiny()
        with pytest.raises(ValueError, match="4 labels"):
            model.fit(X, y[:4])
        assert vars(model) == vars(tiny())


class TestRandomness:
    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("random_state", [None, 0, np.random.RandomState(0)], ids=["None", "int", "RandomState"])
    def test_global_generators_are_left_alone(self, network, random_state):
        X, y = panel("ragged")
        model = tiny(
            network=network,
            random_state=random_state,
            dropout=0.2,
            network_params={"recurrent_dropout": 0.2},
            early_stopping=True,
            validation_fraction=0.2,
            batch_size=8,
        )
        before = torch.get_rng_state(), np.random.get_state()
        model.fit(X, y).predict(X)
        model.partial_fit(X, y)
        after = torch.get_rng_state(), np.random.get_state()
        assert torch.equal(before[0], after[0])
        assert before[1][0] == after[1][0]
        np.testing.assert_array_equal(before[1][1], after[1][1])
        assert before[1][2:] == after[1][2:]

    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("form", FORMS)
    def test_same_seed_same_model(self, network, form):
        X, y = panel(form)
        options = {
            "network": network,
            "dropout": 0.2,
            "network_params": {"recurrent_dropout": 0.2},
            "batch_size": 8,
            "early_stopping": True,
            "validation_fraction": 0.2,
        }
        torch.manual_seed(0)
        np.random.seed(0)
        first = tiny(**options).fit(X, y)
        torch.manual_seed(1)
        np.random.seed(1)
        second = tiny(**options).fit(X, y)
        assert_same_model(first, second, X)
        assert first.history_ == second.history_
        assert_same_model(first, tiny(**{**options, "random_state": np.random.RandomState(0)}).fit(X, y), X)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_trains_whatever_the_mode(self, mode):
        X, y = panel("ragged")
        with mode():
            model = tiny().fit(X, y)
        assert_same_model(model, tiny().fit(X, y), X)
        model.partial_fit(X, y)

    def test_other_seed_other_model(self):
        X, y = panel("3-D")
        for seeds in [(0, 1), (None, None)]:
            a, b = (tiny(random_state=seed).fit(X, y).predict_proba(X) for seed in seeds)
            assert np.abs(a - b).max() > 1e-6

    @pytest.mark.parametrize("network", NETWORKS)
    def test_same_seed_in_threads(self, network, monkeypatch):
        monkeypatch.undo()  # working memory is shared between fits, as it is for a user
        X, y = panel("ragged")
        options = {
            "network": network,
            "dropout": 0.2,
            "network_params": {"recurrent_dropout": 0.2},
            "batch_size": 6,
            "max_iter": 6,
        }
        models = [tiny(**options) for _ in range(4)]
        start = threading.Barrier(4)

        def fit(model):
            start.wait()
            model.fit(X, y)

        threads = [threading.Thread(target=fit, args=(model,)) for model in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        alone = tiny(**options).fit(X, y)
        for model in models:
            assert_same_model(model, alone, X)


@pytest.mark.parametrize("form", FORMS)
class TestModelSelection:
    def test_cross_val_predict(self, form):
        X, y = panel(form)
        p = cross_val_predict(able(), X, y, cv=3, method="predict_proba")
        assert p.shape == (len(X), 2)
        assert (p.argmax(axis=1) == y).mean() > 0.7

    def test_cross_validate_passes_weights_on(self, form, monkeypatch):
        X, y = panel(form)
        weights = np.arange(len(X)) % 5 / 2.0
        result = cross_validate(
            tiny(), X, y, cv=3, params={"sample_weight": weights}, return_estimator=True, return_indices=True
        )
        for model, train in zip(result["estimator"], result["indices"]["train"], strict=True):
            assert_same_model(model, tiny().fit(take(X, train), y[train], sample_weight=weights[train]), X)

    def test_pipeline(self, form):
        X, y = panel(form)
        X = [1000.0 * series + 50.0 for series in X] if form == "ragged" else 1000.0 * X + 50.0
        pipeline = make_pipeline(PanelScaler(), able()).fit(X, y)
        assert pipeline.score(X, y) > 0.8
        np.testing.assert_allclose(pipeline.predict_proba(X), able().fit(X, y).predict_proba(X), rtol=0, atol=1e-6)

    def test_calibration(self, form):
        X, y = panel(form)
        model = CalibratedClassifierCV(able(), cv=2).fit(X, y)
        np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)
        assert model.score(X, y) > 0.7

    def test_learning_curve(self, form):
        X, y = panel(form)
        sizes, train, test = learning_curve(tiny(), X, y, cv=2, train_sizes=[6, 12], shuffle=True, random_state=0)
        assert sizes.tolist() == [6, 12]
        assert np.isfinite(train).all()
        assert np.isfinite(test).all()

    def test_search_over_networks(self, form):
        X, y = panel(form)
        search = GridSearchCV(able(max_iter=10), {"network": NETWORKS, "n_states": [4]}, cv=2, error_score="raise").fit(
            X, y
        )
        assert search.cv_results_["param_network"].tolist() == NETWORKS
        best = search.best_estimator_
        assert best.network == search.best_params_["network"]
        assert type(best.module_.network).__name__.lower() == best.network
        assert best.score(X, y) > 0.7


def test_grid_search_in_processes():
    for form in FORMS:  # in one test, so that the worker processes are started once
        X, y = panel(form)
        alone, together = (
            GridSearchCV(tiny(), {"n_states": [2, 5], "batch_size": [6]}, cv=2, n_jobs=n_jobs, error_score="raise").fit(
                X, y
            )
            for n_jobs in (1, 2)
        )
        assert together.best_params_ == alone.best_params_
        for key in ("split0_test_score", "split1_test_score"):
            np.testing.assert_array_equal(together.cv_results_[key], alone.cv_results_[key])
        assert_same_model(together.best_estimator_, alone.best_estimator_, X)


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

    @pytest.mark.parametrize("mode", MODES, ids=mode_id)
    @pytest.mark.parametrize("ragged", [False, True], ids=["3-D", "ragged"])
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

    @pytest.mark.parametrize("backend", ["auto", *KERNELS])
    def test_backend(self, backend):
        X, y = panel("ragged")
        model = tiny(network_params={"backend": backend}).fit(X, y)
        assert model.backend_ == (backend if backend != "auto" else model.module_.network.backend)
        expected = tiny(network_params={"backend": "reference"}).fit(X, y)
        np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), rtol=0, atol=1e-8)

    def test_memory(self):
        X, y = panel("ragged")
        model = tiny(network_params={"memory": "recompute"}).fit(X, y)
        np.testing.assert_allclose(model.predict_proba(X), tiny().fit(X, y).predict_proba(X), rtol=0, atol=1e-8)

    @pytest.mark.parametrize("frequencies", ["fixed", "learned", "adaptive"])
    @pytest.mark.parametrize("n_outputs", [None, 3])
    @pytest.mark.parametrize("n_classes", [2, 3])
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
    def test_array(self):
        for form in ("2-D", "3-D"):
            X, y = panel(form)
            A = tiny().fit(X, y).state_amplitudes(X)
            assert A.shape == (len(X), 12, 4, 2)
            assert (A >= 0).all()
            assert A.max() > 0

    def test_list(self):
        X, y = panel("ragged")
        model = tiny().fit(X, y)
        A = model.state_amplitudes(X)
        assert isinstance(A, list)
        assert [a.shape for a in A] == [(len(series), 4, 2) for series in X]
        assert all((a >= 0).all() for a in A)
        for a, series in zip(A, X, strict=True):
            np.testing.assert_allclose(a, model.state_amplitudes([series])[0], rtol=0, atol=1e-10)

    def test_steps_to_come_do_not_matter(self):
        X, y = panel("3-D")
        model = tiny().fit(X, y)
        np.testing.assert_allclose(
            model.state_amplitudes(X)[:, :5], model.state_amplitudes(X[:, :5]), rtol=0, atol=1e-10
        )

    @pytest.mark.parametrize("network", [name for name in NETWORKS if name != "sfm"])
    def test_other_networks_have_none(self, network):
        X, y = panel("3-D")
        for model in (tiny(network=network), tiny(network=network).fit(X, y)):
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
    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("form", ["3-D", "ragged"])
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

    def test_reads_time_stamps_from_their_channel(self):
        X, y = make_panel()
        X = np.stack(with_time(X))
        model = tiny(time_channel=2).fit(X, y)
        with torch.no_grad():
            output = model.to_torch()(torch.from_numpy(X))[:, 0].numpy()
        np.testing.assert_allclose(output, model.decision_function(X), rtol=0, atol=1e-10)

    def test_is_a_copy(self):
        X, y = panel("3-D")
        model = tiny().fit(X, y)
        p = model.predict_proba(X)
        with torch.no_grad():
            for parameter in model.to_torch().parameters():
                parameter.zero_()
        np.testing.assert_array_equal(model.predict_proba(X), p)


class Recorder:
    """A scikit-learn callback that writes down what happens and may ask to stop after so many epochs."""

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


class TestCallbacks:
    """scikit-learn's callbacks."""

    def test_order(self):
        X, y = panel("ragged")
        recorder = Recorder()
        model = tiny(max_iter=2).set_callbacks(recorder).fit(X, y)
        epoch = ["epoch begins", "epoch ends"]
        assert recorder.events == ["setup", "fit begins", *epoch, *epoch, "fit ends", "teardown"]
        assert recorder.scores[-1] == recorder.scores[-2] == model.score(X, y)

    def test_watching_changes_nothing(self):
        X, y = panel("3-D")
        options = {"dropout": 0.3, "network_params": {"recurrent_dropout": 0.3}}
        assert_same_model(tiny(**options).set_callbacks(Recorder()).fit(X, y), tiny(**options).fit(X, y), X)

    def test_stop(self):
        X, y = panel("3-D")
        model = tiny(max_iter=5).set_callbacks(Recorder(stop_after=2)).fit(X, y)
        assert model.n_iter_ == 2
        assert model.history_["stopped"] == "callback"

    def test_torn_down_after_a_failed_fit(self):
        X, y = panel("3-D")
        recorder = Recorder()
        model = tiny().set_callbacks(recorder).fit(X, y)
        before = model.predict_proba(X)
        with pytest.raises(ValueError, match="NaN"):
            model.fit(X * np.nan, y)
        assert recorder.events[-1] == "teardown"
        np.testing.assert_array_equal(model.predict_proba(X), before)

    def test_partial_fit(self):
        X, y = panel("3-D")
        recorder = Recorder()
        tiny().set_callbacks(recorder).partial_fit(X, y, classes=[0, 1])
        assert recorder.events == ["setup", "fit begins", "epoch begins", "epoch ends", "fit ends", "teardown"]


@pytest.mark.parametrize("method", ["warm fit", "partial_fit"])
@pytest.mark.parametrize("change", [{"n_states": 5}, {"network": "lstm"}, {"pooling": "mean"}], ids=str)
def test_training_does_not_go_on_with_another_network(method, change):
    X, y = panel("3-D")
    model = tiny(warm_start=True).fit(X, y)
    before = model.predict_proba(X)
    ((name, value),) = change.items()
    old = getattr(model, name)
    model.set_params(**change)
    with pytest.raises(ValueError, match=rf"{name}={old!r} is now {value!r}.*fit a new network"):
        model.fit(X, y) if method == "warm fit" else model.partial_fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    model.set_params(**{name: old}).fit(X, y)


def test_series_of_series_and_tensors():
    X, y = panel("ragged")
    expected = tiny().fit(X, y).predict_proba(X)
    frame = pd.Series(X)
    np.testing.assert_array_equal(tiny().fit(frame, y).predict_proba(frame), expected)
    X, y = panel("3-D")
    expected = tiny().fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(tiny().fit(torch.tensor(X), y).predict_proba(torch.tensor(X)), expected)


def test_dates_are_no_numbers():
    X = np.full((6, 4, 1), np.datetime64("2020-01-01"))
    with pytest.raises(ValueError, match=r"X must hold numbers, but holds datetime64.*seconds since the first"):
        tiny().fit(X, [0, 1] * 3)


@pytest.mark.parametrize("network", NETWORKS)
def test_threads_of_torch_do_not_matter(network):
    X, y = panel("ragged")
    before = torch.get_num_threads()
    probabilities = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            probabilities.append(tiny(network=network).fit(X, y).predict_proba(X))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(*probabilities, rtol=1e-9)


@pytest.mark.parametrize("network_name", ALL_NETWORKS)
def test_a_fill_value_gives_numbers_or_a_sentence(network_name):
    X, y = make_panel(n=24)
    X = X.astype(np.float32)
    model = SFMClassifier(network_name, n_states=8, max_iter=1, random_state=0).fit(X, y)
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
    model = SFMClassifier(n_states=3, max_iter=1, random_state=0).fit(X, np.arange(41) % 2)
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
