"""What SFMLabeler promises by itself; what it shares with others is in test_contract*.py."""

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils.class_weight import compute_class_weight

from sfmts import PanelScaler, SFMDensity, SFMLabeler, SFMRegressor
from sfmts.metrics import frame_accuracy_score
from sfmts.model_selection import cross_val_predict
from sfmts.training import Trainer
from tests.helpers import NETWORKS
from tests.test_contract import FORMS, take

pytestmark = pytest.mark.filterwarnings("error:::sfmts")


def tiny(**options):
    return SFMLabeler(**{"n_states": 4, "n_frequencies": 2, "max_iter": 3, "random_state": 0, **options})


def able(**options):
    """A labeler that learns the signs below."""
    options = {"n_states": 6, "n_frequencies": 3, "batch_size": 8, "learning_rate_init": 0.05, **options}
    return tiny(**{"max_iter": 12, **options})


def signs(form="ragged", n=24, n_classes=2, seed=0):
    """Noise, and the sign of its first channel at each step; or, of three classes, whether it is small or large."""
    rng = np.random.RandomState(seed)
    lengths = rng.randint(6, 13, size=n) if form == "ragged" else np.full(n, 10)
    X = [rng.normal(size=(length, 2)) for length in lengths]
    y = [np.digitize(series[:, 0], [0.0] if n_classes == 2 else [-0.5, 0.5]) for series in X]
    if form == "ragged":
        return X, y
    X, y = np.stack(X), np.stack(y)
    return (X[:, :, 0] if form == "2-D" else X), y


def assert_all_equal(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def seen_weights(monkeypatch):
    """A list that gets labels and weights of the steps of each fit, shuffled by nothing."""
    seen, fit = [], Trainer.fit

    def watched(self, train, *arguments, **options):
        seen.append((train.target.numpy(), None if train.weight is None else train.weight.numpy()))
        return fit(self, train, *arguments, **options)

    monkeypatch.setattr(Trainer, "fit", watched)
    return seen


class TestLearning:
    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_signs(self, network, n_classes):
        X, y = signs(n_classes=n_classes)
        test_X, test_y = signs(n_classes=n_classes, seed=1)
        assert able(network=network, max_iter=20).fit(X, y).score(test_X, test_y) > 0.8

    @pytest.mark.parametrize("options", [{"bidirectional": True}, {"n_layers": 2}, {"head": "none"}], ids=str)
    def test_options(self, options):
        X, y = signs()
        assert able(max_iter=20, **options).fit(X, y).score(X, y) > 0.8

    def test_memory_of_the_past(self):
        """The label is the sign of the first step, which only a network that remembers can tell."""
        X, _ = signs("3-D", n=40)
        X[:, 0, 0] = np.where(np.arange(40) % 2, 2.0, -2.0)
        y = np.repeat((X[:, :1, 0] > 0).astype(int), 10, axis=1)
        assert able(max_iter=30).fit(X, y).score(X, y) > 0.95

    def test_only_two_directions_see_the_future(self):
        """The label is the sign of the next step."""
        X, _ = signs("3-D", n=40)
        y = (np.roll(X[:, :, 0], -1, axis=1) > 0).astype(int)
        y[:, -1] = 0
        options = {"max_iter": 40, "n_states": 8}
        score = {both: able(bidirectional=both, **options).fit(X, y).score(X, y) for both in (False, True)}
        assert score[True] > 0.9
        assert score[False] < score[True] - 0.1

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_no_head(self, n_classes):
        X, y = signs(n_classes=n_classes)
        model = tiny(head="none").fit(X, y)
        assert model.module_.network.output_size == (1 if n_classes == 2 else 3)
        assert not list(model.module_.head.parameters())
        with pytest.raises(ValueError, match=r"head='none'.*bidirectional.*Use head='linear'"):
            tiny(head="none", bidirectional=True).fit(X, y)


class TestPrediction:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("n_classes", [1, 2, 3])
    def test_forms(self, form, n_classes):
        X, y = signs(form, n_classes=max(n_classes, 2))
        if n_classes == 1:
            y = [0 * labels for labels in y] if form == "ragged" else 0 * y
        model = tiny().fit(X, y)
        assert model.classes_.tolist() == list(range(n_classes))
        labels, p, log_p = model.predict(X), model.predict_proba(X), model.predict_log_proba(X)
        if form == "ragged":
            for result in (labels, p, log_p):
                assert isinstance(result, list)
                assert len(result) == len(X)
            assert [a.shape for a in labels] == [(len(series),) for series in X]
            assert [a.shape for a in p] == [a.shape for a in log_p] == [(len(series), n_classes) for series in X]
        else:
            assert labels.shape == (24, 10)
            assert p.shape == log_p.shape == (24, 10, n_classes)
        for a, b, c in zip(labels, p, log_p, strict=True):
            np.testing.assert_allclose(b.sum(axis=1), 1.0, rtol=1e-12)
            np.testing.assert_allclose(np.exp(c), b, rtol=1e-12)
            np.testing.assert_array_equal(a, b.argmax(axis=1))

    def test_log_probability_of_the_hardly_possible(self):
        X, y = signs()
        model = tiny().fit(X, y)
        with torch.no_grad():
            model.module_.head.projection.bias.fill_(2000.0)
        for log_p in model.predict_log_proba(X):
            assert np.isfinite(log_p).all()
            assert (log_p[:, 0] < -1000.0).all()
        assert all((labels == 1).all() for labels in model.predict(X))

    @pytest.mark.parametrize(
        ("names", "form"),
        [
            *((["up", "down", "round"], form) for form in FORMS),
            ([3, -7, 11], "2-D"),
            ([1.0, 2.0, -1.0], "3-D"),
            *(([True, False], form) for form in FORMS),
        ],
    )
    def test_labels(self, names, form):
        X, codes = signs(form, n_classes=len(names))
        names = np.array(names)
        y = [names[k] for k in codes] if form == "ragged" else names[codes]
        model = able(max_iter=20).fit(X, y)
        np.testing.assert_array_equal(model.classes_, np.unique(names))
        predicted = model.predict(X)
        assert {labels.dtype for labels in predicted} == {model.classes_.dtype}
        score = np.mean(np.concatenate([a == b for a, b in zip(predicted, y, strict=True)]))
        assert model.score(X, y) == pytest.approx(score)
        assert score > 0.7

    def test_words_in_class_weight_and_in_a_file(self, tmp_path):
        X, codes = signs()
        words = [np.array(["no", "yes"])[k] for k in codes]
        model = tiny(class_weight={"no": 5.0, "yes": 0.5}).fit(X, words)
        assert_all_equal(model.predict_proba(X), tiny(class_weight={0: 5.0, 1: 0.5}).fit(X, codes).predict_proba(X))
        model.save(tmp_path / "model")
        assert_all_equal(SFMLabeler.load(tmp_path / "model").predict(X), model.predict(X))

    def test_forms_of_y(self):
        X, y = signs()
        expected = tiny().fit(X, y)
        for convert in (
            tuple,
            pd.Series,
            lambda y: [labels.tolist() for labels in y],
            lambda y: [pd.Series(labels, index=labels + 5) for labels in y],
            lambda y: [torch.from_numpy(labels) for labels in y],
        ):
            model = tiny().fit(X, convert(y))
            assert_all_equal(model.predict_proba(X), expected.predict_proba(X))
            assert model.score(X, convert(y)) == expected.score(X, y)
        X, y = signs("2-D")
        model = tiny().fit(pd.DataFrame(X), pd.DataFrame(y))
        assert_all_equal(model.predict_proba(X), tiny().fit(X, y).predict_proba(X))
        assert model.score(pd.DataFrame(X), pd.DataFrame(y)) == model.score(X, y)


class TestTime:
    @pytest.mark.parametrize("network", NETWORKS)
    @pytest.mark.parametrize("n_layers", [1, 2])
    def test_later_steps_do_not_matter(self, network, n_layers):
        X, y = signs()
        model = tiny(network=network, n_layers=n_layers).fit(X, y)
        before = model.predict_log_proba(X)
        changed = [np.vstack([series[:4], series[4:] + 3.0]) for series in X]
        cut = model.predict_log_proba([series[:4] for series in X])
        for a, b, c in zip(before, model.predict_log_proba(changed), cut, strict=True):
            np.testing.assert_allclose(a[:4], b[:4], rtol=0, atol=1e-12)
            np.testing.assert_allclose(a[:4], c, rtol=0, atol=1e-12)
            assert np.abs(a[4:] - b[4:]).max() > 1e-6

    @pytest.mark.parametrize("network", NETWORKS)
    def test_they_do_in_two_directions(self, network):
        X, y = signs()
        model = tiny(network=network, bidirectional=True).fit(X, y)
        changed = [np.vstack([series[:4], series[4:] + 3.0]) for series in X]
        for a, b in zip(model.predict_log_proba(X), model.predict_log_proba(changed), strict=True):
            assert (np.abs(a[:4] - b[:4]).max(axis=1) > 1e-9).all()

    def test_earlier_steps_do_matter(self):
        X, y = signs()
        model = tiny().fit(X, y)
        changed = [np.vstack([series[:1] + 3.0, series[1:]]) for series in X]
        for a, b in zip(model.predict_log_proba(X), model.predict_log_proba(changed), strict=True):
            assert (np.abs(a - b).max(axis=1) > 1e-12).all()


class TestEnds:
    """Nothing behind a series' end is read or counted."""

    def test_the_loss_is_a_mean_over_steps(self):
        X, y = signs()
        weights = np.random.RandomState(0).uniform(0.5, 2.0, size=len(X))
        for sample_weight in (None, weights):
            model = tiny(max_iter=1, batch_size=100, learning_rate_init=1e-300)
            model.fit(X, y, sample_weight=sample_weight)
            log_p = [p[np.arange(len(k)), k] for p, k in zip(model.predict_log_proba(X), y, strict=True)]
            steps = None if sample_weight is None else np.repeat(weights, [len(series) for series in X])
            expected = -np.average(np.concatenate(log_p), weights=steps)
            assert model.loss_curve_[0] == pytest.approx(expected, rel=1e-10)

    def test_a_long_series_counts_by_its_steps(self):
        X, y = signs()
        model = able().fit(X, y)
        long_X, long_y = signs(n=1, seed=5)
        long_X, long_y = [np.tile(long_X[0], (50, 1))], [1 - np.tile(long_y[0], 50)]  # all wrong but for mistakes
        assert model.score(X, y) > 0.9
        assert model.score(X + long_X, y + long_y) < 0.4

    @pytest.mark.parametrize(("power", "share"), [(0, 1 / 2), (-1, 1 / 20)])
    @pytest.mark.parametrize(("batch_size", "max_iter"), [(8, 30), (40, 300)])
    def test_steps_count_alike_in_every_size_of_mini_batch(self, power, share, batch_size, max_iter):
        """As many short series of one label as long ones of the other, so that at a step of both each counts its steps.

        With a weight of 1 / length it counts a series, whose steps then are worth 1/5 and 1/95.
        """
        lengths = np.repeat([5, 95], 40)
        X = [np.zeros((length, 1)) for length in lengths]
        y = [np.full(length, int(length > 5)) for length in lengths]
        weights = lengths.astype(float) ** power
        options = {"batch_size": batch_size, "max_iter": max_iter, "learning_rate_init": 0.02}
        model = tiny(**options).fit(X, y, sample_weight=weights)
        assert model.predict_proba(X[:1])[0][0, 1] == pytest.approx(share, abs=0.1)

    def test_an_array_is_as_many_lists(self):
        X, y = signs("3-D")
        array, ragged = tiny().fit(X, y), tiny().fit(list(X), list(y))
        assert_all_equal(array.predict_proba(X), ragged.predict_proba(list(X)))
        assert array.score(X, y) == ragged.score(list(X), list(y))

    def test_series_of_one_step(self):
        X, y = signs()
        X[3], y[3] = X[3][:1], y[3][:1]
        assert [len(labels) for labels in tiny().fit(X, y).predict(X)] == [len(series) for series in X]


class TestLabels:
    @pytest.mark.parametrize("form", FORMS)
    def test_bad(self, form):
        X, y = signs(form)
        model = tiny().fit(X, y)
        state, steps, names = vars(model).copy(), [len(series) for series in X], np.array(["up", "down"])
        shape = rf"Series {{}} has {steps[0]} steps, but its labels have shape \({{}}\). Give y as one array"
        kinds = r"Labels y must be all strings or all numbers, without None or NaN.*str"
        mixed = [labels.copy() for labels in y]
        table = [
            (
                [labels[:-1] if number == 3 else labels for number, labels in enumerate(y)],
                "Series 3 has .* labels have",
            ),
            *((np.full((len(X), 20), fill), shape.format(0, "20,")) for fill in (0, -1, 7)),
            ([labels[0] for labels in y], r"Series 0 has \d+ steps, but its labels have shape \(\)"),
            (
                [series.reshape(len(series), -1)[:, 0] for series in X],
                "Unknown label type: continuous.*discrete classes",
            ),
            (3, r"\by\b"),
        ]
        for first in (0, 1):
            mixed[0][:2] = [first, 1 - first]
            for other in (None, 1, np.nan):
                both = np.array(["up", other], dtype=object)
                table.append(([both[labels] for labels in mixed], kinds))
        for other in (1, 1.5, True):  # joined by numpy, these numbers would silently become words
            table.append(([*(names[labels] for labels in y[:-1]), np.full(steps[-1], other)], kinds))
        for bad, message in table:
            with pytest.raises((ValueError, TypeError), match=message):
                model.fit(X, bad)
            assert vars(model) == state
        with pytest.raises(ValueError, match="Unknown network"):
            model.set_params(network="nope").fit(X, [2 * labels for labels in y])
        assert model.classes_.tolist() == [0, 1]
        with pytest.raises(ValueError, match=r"Series 0 has shape \(\d+,\) in y_true, but \(\d+,\) in y_pred"):
            model.score(X, [labels[1:] for labels in y])
        for class_weight, message in [
            ({0: -1.0, 1: 1.0}, "class_weight.*negative"),
            ({0: 0.0, 1: 0.0}, "class_weight.*zero"),
            ({7: 1.0}, r"classes, \[0, 1\], are not in class_weight"),
            ("nope", "'class_weight' parameter of SFMLabeler must be"),
        ]:
            with pytest.raises(ValueError, match=f"(?i){message}"):
                tiny(class_weight=class_weight).fit(X, y)

    def test_warm_start_refuses_other_classes(self):
        X, y = signs()
        model = tiny(warm_start=True).fit(X, y)
        before = model.predict_proba(X)
        message = r"warm_start=True needs the classes of the last fit, \[0 1\]; y has \[0 2\]"
        with pytest.raises(ValueError, match=message):
            model.fit(X, [2 * labels for labels in y])
        assert_all_equal(model.predict_proba(X), before)
        assert model.classes_.tolist() == [0, 1]


class TestClassWeight:
    WEIGHTS = {0: 5.0, 1: 0.5}  # noqa: RUF012

    @staticmethod
    def rare(form="ragged"):
        X, _ = signs(form)
        y = [(series[:, 0] > 1.0).astype(int) for series in X]
        return X, y if form == "ragged" else np.stack(y)

    @pytest.mark.parametrize("class_weight", [WEIGHTS, "balanced"], ids=str)
    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_of_each_step(self, class_weight, form, monkeypatch):
        X, y = self.rare(form)
        flat = np.concatenate(list(y))
        seen = seen_weights(monkeypatch)
        tiny(class_weight=class_weight).fit(X, y)
        labels, weights = seen[0]
        np.testing.assert_array_equal(labels, flat)
        per_class = compute_class_weight(class_weight, classes=np.array([0, 1]), y=flat)
        np.testing.assert_allclose(weights, per_class[flat], rtol=1e-12)

    def test_balanced_is_so_many(self):
        X, y = self.rare()
        counts = np.bincount(np.concatenate(y))
        by_hand = {label: counts.sum() / (2 * count) for label, count in enumerate(counts)}
        models = [tiny(class_weight=weight).fit(X, y) for weight in ("balanced", by_hand, None)]
        p = [np.concatenate(model.predict_proba(X)) for model in models]
        np.testing.assert_allclose(p[0], p[1], rtol=1e-7)
        assert np.abs(p[0] - p[2]).max() > 1e-4

    def test_balanced_counts_weighted_steps(self, monkeypatch):
        X, y = self.rare()
        weights = np.arange(len(X)) % 3.0
        seen = seen_weights(monkeypatch)
        tiny(class_weight="balanced", batch_size=100).fit(X, y, sample_weight=weights)
        labels, found = seen[0]
        sums = [found[labels == label].sum() for label in (0, 1)]
        assert sums[0] == pytest.approx(sums[1])
        index = np.repeat(np.arange(len(X)), weights.astype(int))
        explicit = tiny(class_weight="balanced", batch_size=100).fit(take(X, index), take(y, index))
        model = tiny(class_weight="balanced", batch_size=100).fit(X, y, sample_weight=weights)
        for a, b in zip(model.predict_proba(X), explicit.predict_proba(X), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7)

    def test_times_sample_weight(self, monkeypatch):
        X, y = self.rare()
        weights = np.random.RandomState(0).uniform(0.5, 2, size=len(X))
        seen = seen_weights(monkeypatch)
        tiny(class_weight=self.WEIGHTS).fit(X, y, sample_weight=weights)
        labels, found = seen[0]
        expected = np.repeat(weights, [len(series) for series in X]) * np.where(labels == 0, 5.0, 0.5)
        np.testing.assert_allclose(found / found.mean(), expected / expected.mean(), rtol=1e-12)  # ratios count alone

    def test_finds_what_is_rare(self):
        X, y = self.rare()
        flat = np.concatenate(y)
        found = [
            np.concatenate(tiny(max_iter=6, class_weight=weight).fit(X, y).predict(X)) for weight in (None, "balanced")
        ]
        recall = [(labels[flat == 1] == 1).mean() for labels in found]
        assert recall[1] > recall[0]

    def test_step_weight_zero_is_absence(self):
        """A step whose label has no weight is read, but sways neither loss nor scales."""
        X, y = signs(n_classes=3)
        model = tiny(class_weight={0: 1.0, 1: 1.0, 2: 0.0}).fit(X, y)
        flat, weight = np.concatenate(X), (np.concatenate(y) < 2).astype(float)
        np.testing.assert_allclose(model.module_.mean, np.average(flat, axis=0, weights=weight), rtol=1e-12)
        assert not any((labels == 2).any() for labels in able(class_weight={0: 1, 1: 1, 2: 0}).fit(X, y).predict(X))


class TestScore:
    @pytest.mark.parametrize("form", FORMS)
    def test_is_the_metric(self, form):
        X, y = signs(form)
        weights = np.arange(len(X)) % 3 + 0.5
        model = tiny().fit(X, y)
        predicted = model.predict(X)
        right = [np.mean(a == b) for a, b in zip(predicted, y, strict=True)]
        steps = [len(labels) for labels in predicted]
        assert model.score(X, y) == frame_accuracy_score(y, predicted)
        assert model.score(X, y) == pytest.approx(np.average(right, weights=steps))
        weighted = model.score(X, y, sample_weight=weights)
        assert weighted == frame_accuracy_score(y, predicted, sample_weight=weights)
        assert weighted == pytest.approx(np.average(right, weights=weights * steps))
        assert weighted != model.score(X, y)

    def test_validation_score_is_frame_accuracy(self):
        X, y = signs(n=40)
        model = tiny(early_stopping=True, validation_fraction=0.5, max_iter=1).fit(X, y)
        _, valid = train_test_split(np.arange(40), test_size=0.5, random_state=np.random.RandomState(0))  # as fit does
        assert model.validation_scores_[0] == pytest.approx(model.score(take(X, valid), take(y, valid)))

    @pytest.mark.parametrize("form", FORMS)
    def test_in_a_search(self, form):
        X, y = signs(form)
        grid = {"n_states": [2, 4], "network": ["sfm", "gru"]}
        own, made = (
            GridSearchCV(tiny(), grid, cv=3, scoring=scoring, error_score="raise").fit(X, y)
            for scoring in (None, make_scorer(frame_accuracy_score))
        )
        np.testing.assert_array_equal(own.cv_results_["mean_test_score"], made.cv_results_["mean_test_score"])
        assert own.best_params_ == made.best_params_
        assert len(set(own.cv_results_["mean_test_score"])) > 1


class TestCrossValPredict:
    @pytest.mark.parametrize("form", FORMS)
    def test_is_that_of_each_fold(self, form):
        X, y = signs(form)
        cv = KFold(4, shuffle=True, random_state=0)
        methods = ["predict", "predict_proba", "predict_log_proba"]
        found = {method: cross_val_predict(tiny(), X, y, cv=cv, method=method) for method in methods}
        assert all(isinstance(parts, list) for parts in found.values())
        for train, test in cv.split(np.zeros(len(X))):
            model = tiny().fit(take(X, train), take(y, train))
            for method, parts in found.items():
                assert_all_equal([parts[i] for i in test], getattr(model, method)(take(X, test)))

    @pytest.mark.parametrize(("method", "never"), [("predict_proba", 0.0), ("predict_log_proba", -np.inf)])
    def test_columns_are_those_of_all_classes(self, method, never):
        X, _ = signs(n=6)
        y = [np.array(["b", "c"])[np.arange(len(series)) % 2] for series in X]
        y[0][:] = "a"  # which no training part without the first series has
        with pytest.warns(
            RuntimeWarning,
            match="A training part has no series of the classes 'a', so their predicted probability is 0",
        ):
            found = cross_val_predict(tiny(), X, y, cv=3, method=method)
        assert [part.shape for part in found] == [(len(series), 3) for series in X]
        assert all((part[:, 0] == never).all() for part in found[:2])
        assert all((part[:, 0] > never).all() for part in found[2:])

    def test_predicts_what_was_held_out(self):
        X, y = signs(n=40)
        found = cross_val_predict(able(), X, y, cv=2)
        assert [len(labels) for labels in found] == [len(series) for series in X]
        assert frame_accuracy_score(y, found) > 0.8

    def test_five_folds_by_default(self, monkeypatch):
        X, y = signs()
        fits = seen_weights(monkeypatch)
        found = cross_val_predict(tiny(), X, y)
        assert len(fits) == 5
        assert_all_equal(found, cross_val_predict(tiny(), X, y, cv=KFold(5)))

    def test_groups(self, monkeypatch):
        X, y = signs()
        groups = np.arange(len(X)) % 4
        found = cross_val_predict(tiny(), X, y, groups=groups, cv=GroupKFold(4))
        for group in range(4):
            train, test = np.flatnonzero(groups != group), np.flatnonzero(groups == group)
            model = tiny().fit(take(X, train), take(y, train))
            assert_all_equal([found[i] for i in test], model.predict(take(X, test)))
        with pytest.raises(ValueError, match="'groups' parameter should not be None"):
            cross_val_predict(tiny(), X, y, cv=GroupKFold(4))

    @pytest.mark.parametrize("kind", [list, iter], ids=["list", "generator"])
    def test_folds_of_ones_own(self, kind):
        X, y = signs()
        order = np.random.RandomState(0).permutation(len(X))
        folds = [(np.setdiff1d(order, test), test) for test in np.array_split(order, 3)]
        found = cross_val_predict(tiny(), X, y, cv=kind(folds))
        for train, test in folds:
            model = tiny().fit(take(X, train), take(y, train))
            assert_all_equal([found[i] for i in test], model.predict(take(X, test)))

    @pytest.mark.parametrize(
        "tests",
        [[range(23)], [range(24), range(3)], [range(12), range(11, 24)], [[]]],
        ids=["one missing", "some twice", "one twice", "none"],
    )
    def test_no_partition(self, tests, monkeypatch):
        X, y = signs()
        fits = seen_weights(monkeypatch)
        folds = [(np.arange(24), np.array(test, dtype=int)) for test in tests]
        with pytest.raises(ValueError, match="cv must put each of the 24 series into exactly one test part"):
            cross_val_predict(tiny(), X, y, cv=folds)
        assert fits == []

    def test_errors(self):
        with pytest.raises(ValueError, match="Unknown method 'decision_function'; choose one of 'predict', 'predict"):
            cross_val_predict(tiny(), *signs(), method="decision_function")
        with pytest.raises(ValueError, match="Unknown network 'nope'"):
            cross_val_predict(tiny(network="nope"), *signs(), cv=2)

    def test_estimator_is_left_alone(self):
        X, y = signs()
        model = tiny().fit(X, y)
        before, names = model.predict_proba(X), set(vars(model))
        cross_val_predict(model, X, y, cv=2)
        assert set(vars(model)) == names
        assert_all_equal(model.predict_proba(X), before)
        new = tiny()
        cross_val_predict(new, X, y, cv=2)
        assert not hasattr(new, "module_")

    def test_pipeline(self):
        X, y = signs()
        found = cross_val_predict(make_pipeline(PanelScaler(), tiny()), X, y, cv=2)
        train, test = np.arange(12, 24), np.arange(12)
        scaler = PanelScaler().fit(take(X, train))
        model = tiny().fit(scaler.transform(take(X, train)), take(y, train))
        assert_all_equal([found[i] for i in test], model.predict(scaler.transform(take(X, test))))

    def test_other_estimators(self):
        X, _ = signs("3-D")
        rolls = [(series > 0).astype(float) for series in signs()[0]]
        options = {"n_states": 4, "max_iter": 2, "random_state": 0}
        p = cross_val_predict(SFMDensity(**options), rolls, cv=2, method="predict_proba")
        model = SFMDensity(**options).fit(rolls[12:])
        assert_all_equal(p[:12], model.predict_proba(rolls[:12]))
        targets = X[:, :, 0].mean(axis=1)
        found = cross_val_predict(SFMRegressor(base=None, **options), X, targets, cv=2)
        assert_all_equal(found[:12], SFMRegressor(base=None, **options).fit(X[12:], targets[12:]).predict(X[:12]))

    def test_two_at_a_time(self):
        X, y = signs()
        alone = cross_val_predict(tiny(), X, y, cv=3, method="predict_proba")
        with joblib.parallel_config(backend="threading"):  # test_contract.py has processes
            assert_all_equal(cross_val_predict(tiny(), X, y, cv=3, n_jobs=2, method="predict_proba"), alone)
