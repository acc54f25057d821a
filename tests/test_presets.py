"""Sizes for comparisons, and options that only one network has, from an estimator to its file."""

from itertools import cycle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sfmts import SFMClassifier, SFMDensity, SFMLabeler, SFMRegressor
from sfmts.datasets import make_waves
from sfmts.networks import LSTM, base, make_network, match_budget, network_names, paper_preset, register_network
from sfmts.networks.base import network_options
from tests.helpers import ALL_NETWORKS, alone, make_panel

# Budget, channels and outputs of the paper's tasks; waves have two classes and thus one logit.
TASKS = {"waves": (1036, 2, 1), "music": (139_000, 88, 88), "timit": (80_000, 26, 61)}


def count(network, n_states, n_channels, n_outputs, head="linear", **options):
    if head == "none":
        options["n_outputs"] = n_outputs
    module = make_network(network, n_channels, n_states=n_states, **options)
    return module.n_parameters + ((module.output_size + 1) * n_outputs if head == "linear" else 0)


class TestMatchBudget:
    @pytest.mark.parametrize(("network", "task"), list(zip(ALL_NETWORKS, cycle(TASKS), strict=False)))
    def test_no_neighbour_is_nearer(self, network, task):
        budget, *widths = TASKS[task]
        best = match_budget(network, budget, *widths)
        errors = {}
        for n_states in range(max(1, best - 12), best + 13):
            try:
                errors[n_states] = abs(count(network, n_states, *widths) - budget)
            except ValueError:
                assert n_states != best
        assert errors[best] == min(errors.values())
        assert min(errors) < best < max(errors) or best == 1

    @pytest.mark.parametrize(
        ("network", "options", "sizes"),
        [
            ("lstm", {}, {"waves": 15, "music": 139, "timit": 122}),
            ("gru", {}, {"music": 164, "timit": 141}),
            ("act", {"cell": "gru"}, {"music": 164, "timit": 141}),
            ("phased_lstm", {}, {"music": 139, "timit": 122}),
            ("recurrent_highway", {"coupled": False}, {"waves": 9, "timit": 76}),
            ("clockwork_rnn", {"full": True}, {"waves": 30, "music": 295}),
            # what is of another size than in the paper if it is to have as many parameters
            ("associative_lstm", {}, {"waves": 14, "music": 130, "timit": 114}),
            ("clockwork_rnn", {"multiple_of": 5}, {"waves": 40, "music": 355, "timit": 300}),
            ("recurrent_highway", {"coupled": True}, {"waves": 11, "music": 116, "timit": 93}),
            ("sfm", {"head": "none", "n_frequencies": 4}, {"waves": 50, "music": 61}),
            ("sfm", {"head": "none", "n_frequencies": 8}, {"timit": 29}),
        ],
        ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
    )
    def test_known_sizes(self, network, options, sizes):
        assert {task: match_budget(network, *TASKS[task], **options) for task in sizes} == sizes

    def test_sizes_that_are_refused_or_not_multiples_are_passed_over(self):
        assert all(match_budget("associative_lstm", budget, 2, 1) % 2 == 0 for budget in range(300, 3000, 50))
        plain, eights = (match_budget("gru", 5000, 3, 2, multiple_of=m) for m in (1, 8))
        assert plain % 8
        assert eights % 8 == 0
        assert abs(eights - plain) < 8

    @pytest.mark.parametrize("options", [{"bidirectional": True}, {"n_layers": 3}], ids=str)
    def test_options_count(self, options):
        smaller = match_budget("lstm", 10_000, 3, 2, **options)
        assert smaller < match_budget("lstm", 10_000, 3, 2)
        assert abs(count("lstm", smaller, 3, 2, **options) / 10_000 - 1) < 0.1

    def test_of_two_sizes_equally_near_the_smaller_and_never_none(self):
        between, odd = divmod(count("lstm", 4, 3, 2) + count("lstm", 5, 3, 2), 2)
        assert not odd
        assert match_budget("lstm", between, 3, 2) == 4
        assert match_budget("lstm", between + 1, 3, 2) == 5
        assert match_budget("lstm", 1, 3, 2) == 1
        assert match_budget("associative_lstm", 1, 3, 2) == 2

    def test_an_estimator_has_as_many(self):
        X, y = make_panel()
        n_states = match_budget("gru", 2000, 2, 1)
        model = SFMClassifier("gru", base=None, n_states=n_states, pooling="last", max_iter=1).fit(X, y)
        assert model.n_parameters_ == count("gru", n_states, 2, 1)
        assert abs(model.n_parameters_ / 2000 - 1) < 0.05

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"network": "lstn"}, "Unknown network 'lstn'; choose one of"),
            ({"head": "nade"}, "Unknown head 'nade'; choose one of 'linear', 'none'"),
            ({"n_parameters": 0}, "n_parameters must be at least 1, not 0"),
            ({"n_channels": 0}, "n_channels must be at least 1, not 0"),
            ({"n_outputs": -1}, "n_outputs must be at least 1, not -1"),
            ({"multiple_of": 0}, "multiple_of must be at least 1, not 0"),
            ({"n_layers": 0}, "n_layers must be at least 1, not 0"),
            ({"head": "none"}, "head='none' needs a network whose output has n_outputs=2 numbers, but that of 'lstm'"),
            ({"network": "associative_lstm", "n_copies": 0}, "n_copies"),
        ],
    )
    def test_errors(self, arguments, sentence):
        arguments = {"network": "lstm", "n_parameters": 1000, "n_channels": 3, "n_outputs": 2, **arguments}
        with pytest.raises(ValueError, match=sentence):
            match_budget(**arguments)

    @pytest.mark.parametrize("name", ["n_parameters", "n_channels", "n_outputs", "multiple_of"])
    def test_sizes_are_integers(self, name):
        for value in (True, 2.0, "2"):
            with pytest.raises(TypeError, match=f"{name} must be an integer, not {value!r}"):
                match_budget(**{"network": "lstm", "n_parameters": 1000, "n_channels": 3, "n_outputs": 2, name: value})

    @pytest.mark.parametrize("network", ALL_NETWORKS)
    def test_nothing_is_allocated(self, network):
        """A network of 10**12 parameters has no room in memory; its count has."""
        options = {"n_frequencies": 4} if network == "sfm" else {}
        n_states = 10**5 if network == "unitary_rnn" else 2 * 10**5
        budget = count_without_storage(network, n_states, **options)
        assert match_budget(network, budget, 2, 2, **options) == n_states

    def test_a_network_that_needs_its_numbers(self, monkeypatch):
        monkeypatch.setattr("sfmts.networks.base._REGISTRY", dict(base._REGISTRY))

        @register_network("needy")
        class Needy(LSTM):
            def __init__(self, n_channels, *, n_states=32, generator=None):
                super().__init__(n_channels, n_states=n_states, generator=generator)
                self.least = min(torch.empty(3).tolist())

        assert match_budget("needy", 1000, 2, 1) == match_budget("lstm", 1000, 2, 1)


def test_refusing_work_keeps_gradients_on():
    @torch.no_grad()
    def work():
        torch.empty(3).add_(1.0).mul_(2.0)

    for most_calls in range(3):  # one of the refused calls is that of torch.no_grad
        with pytest.raises(RuntimeError, match="far more work"), base.WithoutStorage(most_calls):
            work()
        assert torch.is_grad_enabled()


def count_without_storage(network, n_states, **options):
    with base.WithoutStorage():
        module = make_network(network, 2, n_states=n_states, **options)
    return module.n_parameters + (module.output_size + 1) * 2


# Parameters of Table 1's networks with their output layer, counted; the SFM's output is its own.
COUNTS = {
    "sfm": (1036, 125_114, 81_336),
    "a_sfm": (1052, 125_822, 82_040),
    "lstm": (1096, 139_088, 80_215),
    "bi_lstm": (None, None, 100_687),
    "gru": (1153, 138_996, 79_726),
    "clockwork_rnn": (1021, 139_328, 81_646),
    "act": (1226, 139_653, 80_291),
    "recurrent_highway": (1144, 140_336, 80_849),
    "associative_lstm": (1086, 139_643, 79_348),
    "phased_lstm": (1126, 139_366, 80_459),
}


class TestPaperPreset:
    @pytest.mark.parametrize("row", COUNTS)
    def test_an_estimator_has_as_many_parameters(self, row):
        assert paper_preset("timit", row)["network"] in network_names()
        X, y = np.random.default_rng(0).normal(size=(2, 100, 26)), np.arange(200).reshape(2, 100) % 61
        models = [SFMLabeler(**paper_preset("timit", row), max_iter=1).fit(X, y)]
        if row != "bi_lstm":
            X, y = make_waves(8, n_steps=5, random_state=0)
            models.append(SFMDensity(**paper_preset("music", row), max_iter=1).fit([np.eye(88)[:4]] * 2))
            models.append(SFMClassifier(**paper_preset("waves", row), max_iter=1).fit(X, y))
        assert [model.n_parameters_ for model in models[::-1]] == [n for n in COUNTS[row] if n is not None]

    def test_a_preset_is_one_s_own(self):
        paper_preset("waves", "clockwork_rnn")["network_params"]["full"] = False
        assert paper_preset("waves", "clockwork_rnn")["network_params"] == {"full": True}

    def test_errors(self):
        for value in (["lstm"], np.array(["lstm", "gru"]), 3, None):
            with pytest.raises(ValueError, match="The paper's Table 1 has no network="):
                paper_preset("waves", value)
            with pytest.raises(ValueError, match=r"Unknown task .*; choose one of 'waves', 'music', 'timit'"):
                paper_preset(value, "lstm")
        with pytest.raises(ValueError, match="Unknown task 'wave'; choose one of 'waves', 'music', 'timit'"):
            paper_preset("wave", "lstm")
        with pytest.raises(ValueError, match=r"no network='bi_lstm' for task='music'; choose one of .*'lstm', 'phased"):
            paper_preset("music", "bi_lstm")
        with pytest.raises(ValueError, match="no network='elman'") as caught:
            paper_preset("timit", "elman")
        assert all(repr(row) in str(caught.value) for row in COUNTS)


ESTIMATORS = [SFMClassifier, SFMRegressor, SFMLabeler, SFMDensity]
every_estimator = pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
PERIODS = {"periods": (1, 3), "full": True}
TAKEN = "'periods', 'full', 'recurrent_dropout', 'init' in it"


def data(cls):
    X, y = make_panel()
    if cls is SFMDensity:
        return X > 0, None
    return X, ((X[:, :, 0] > 0).astype(int) if cls is SFMLabeler else y)


def tiny(cls, **options):
    given = {"network": "clockwork_rnn", "n_states": 6, "max_iter": 2, "random_state": 0, "network_params": PERIODS}
    return cls(**{**given, **alone(cls), **options})


def probe(model, X):
    return model.predict_proba(X) if isinstance(model, SFMDensity) else model.predict(X)


class TestNetworkParams:
    @every_estimator
    def test_they_win_over_nothing(self, cls):
        for name, value in {"n_states": 3, "learning_rate_init": 0.1, "network": "lstm"}.items():
            sentence = f"network_params has '{name}', which is a parameter of {cls.__name__} itself; network='clockw"
            with pytest.raises(ValueError, match=f"{sentence}.*takes {TAKEN}"):
                tiny(cls, network_params={name: value}).fit(*data(cls))

    @pytest.mark.parametrize(
        ("cls", "network", "params", "sentence"),
        [
            *(
                (SFMClassifier, "clockwork_rnn", {name: 1}, f"has {name!r}; network='clockwork_rnn' takes {TAKEN}")
                for name in ["max_length", "generator", "n_channels", "peepholes", 3]
            ),
            (
                SFMClassifier,
                "lstm",
                {"full": True},
                "has 'full'; network='lstm' takes 'recurrent_dropout', 'init' in it",
            ),
            (
                SFMDensity,
                "clockwork_rnn",
                {"bidirectional": True},
                "has 'bidirectional'; network='clockwork_rnn' takes",
            ),
            (SFMClassifier, "lstm", [("full", True)], "parameter of SFMClassifier must be an instance of 'dict'"),
        ],
        ids=str,
    )
    def test_what_cannot_be_given_is_refused(self, cls, network, params, sentence):
        with pytest.raises(ValueError, match=f"network_params.* {sentence}"):
            tiny(cls, network=network, network_params=params).fit(*data(cls))

    def test_the_network_refuses_a_wrong_value(self):
        model = tiny(SFMClassifier).fit(*data(SFMClassifier))
        before = model.module_
        with pytest.raises(ValueError, match="period"):
            model.set_params(network_params={"periods": (0,)}).fit(*data(SFMClassifier))
        assert model.module_ is before

    @pytest.mark.parametrize("nothing", [None, {}], ids=str)
    def test_none(self, nothing):
        X, y = data(SFMClassifier)
        model = tiny(SFMClassifier, network_params=nothing, warm_start=True).fit(X, y)
        assert model.module_.network.full is False
        model.set_params(network_params={} if nothing is None else None).fit(X, y)  # all the same

    @pytest.mark.parametrize(
        ("network", "own", "change"),
        [
            ("sfm", None, {"n_layers": 1}),
            ("resonator", None, {"n_layers": 2}),
            ("lstm", None, {"n_frequencies": 7}),  # has none
            ("gru", {"init": None}, {"network_params": {"init": "modern"}}),
            ("sfm", None, {"network_params": {"init": "chrono", "backend": "auto", "spacing": None}}),
        ],
    )
    def test_training_goes_on_with_a_default_that_is_named(self, network, own, change):
        X, y = data(SFMClassifier)
        model, same = (
            tiny(SFMClassifier, network=network, network_params=own, warm_start=True).fit(X, y) for _ in range(2)
        )
        model.set_params(**change)
        np.testing.assert_array_equal(probe(model.fit(X, y), X), probe(same.fit(X, y), X))

    @pytest.mark.parametrize(
        ("network", "change"),
        [("sfm", {"n_layers": 2}), ("resonator", {"n_layers": 1}), ("lstm", {"bidirectional": True})],
    )
    def test_training_does_not_go_on_with_another_value_than_the_default(self, network, change):
        X, y = data(SFMClassifier)
        model = tiny(SFMClassifier, network=network, network_params=None, warm_start=True).fit(X, y)
        ((name, value),) = change.items()
        with pytest.raises(ValueError, match=rf"but {name}=\w+ is now {value}\. Restore"):
            model.set_params(**change).fit(X, y)

    @every_estimator
    def test_they_reach_the_network_and_are_saved(self, cls, tmp_path):
        X, y = data(cls)
        model = tiny(cls).fit(X, y)
        model.save(tmp_path / "model")
        copied = cls.load(tmp_path / "model")
        assert copied.network_params == PERIODS
        for network in (model.module_.network, copied.module_.network):
            assert (network.periods, network.full) == ((1, 3), True)
        np.testing.assert_array_equal(probe(copied, X), probe(model, X))
        np.testing.assert_array_equal(probe(copied.fit(X, y), X), probe(model, X))

    def test_a_change_after_fit_is_not_that_of_the_model(self, tmp_path):
        X, y = data(SFMClassifier)
        model = tiny(SFMClassifier, network_params={**PERIODS}).fit(X, y)
        p = model.predict_proba(X)
        model.network_params["periods"] = (1, 2, 4)
        model.save(tmp_path / "model")
        copied = SFMClassifier.load(tmp_path / "model")
        assert copied.network_params["periods"] == (1, 2, 4)
        np.testing.assert_array_equal(copied.predict_proba(X), p)

    @pytest.mark.parametrize("how", ["set", "in place"])
    def test_training_does_not_go_on_with_others(self, how):
        X, y = data(SFMClassifier)
        model = tiny(SFMClassifier, warm_start=True, network_params={**PERIODS}).fit(X, y).fit(X, y)
        if how == "set":
            model.set_params(network_params={**PERIODS, "full": False})
        else:
            model.network_params["full"] = False
        with pytest.raises(ValueError, match=r"network_params=\{.*'full': True\} is now \{.*'full': False\}"):
            model.fit(X, y)

    def test_clone_and_search(self):
        X, y = data(SFMClassifier)
        model = tiny(SFMClassifier)
        assert clone(model).network_params == PERIODS
        assert clone(model).network_params is not model.network_params
        grid = [
            {"network_params": [None, {"full": True}, {"periods": (1, 2)}]},
            {"network": ["lstm"], "network_params": [None]},
        ]
        search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
        counts = [clone(model).set_params(**p).fit(X, y).n_parameters_ for p in search.cv_results_["params"]]
        assert len(set(counts)) == len(counts) == 4

    @pytest.mark.parametrize("network", ALL_NETWORKS)
    def test_every_option_of_a_network_is_a_parameter_or_one_of_these(self, network):
        """No option is out of an estimator's reach but what fit sets."""
        X, y = data(SFMClassifier)
        known = {*SFMClassifier(base=None).get_params(), "max_length", "generator"}
        own = set(network_options(network)) - known
        with pytest.raises(ValueError, match=f"network={network!r} takes") as caught:
            tiny(SFMClassifier, network=network, network_params={"nonsense": 1}).fit(X, y)
        assert all(repr(option) in str(caught.value) for option in own)


def test_time_means_nothing_to_a_network_without_phases():
    X, y = data(SFMClassifier)
    X[:, :, 0] = np.arange(X.shape[1])
    index = tiny(SFMClassifier, network="lstm", network_params=None).fit(X, y)
    stamps = tiny(SFMClassifier, network="lstm", network_params=None, time_channel=0).fit(X, y)
    np.testing.assert_array_equal(index.predict_proba(X), stamps.predict_proba(X))


@pytest.mark.parametrize("network", ALL_NETWORKS)
class TestEveryNetwork:
    """What the estimators' own tests show with a few networks, once with all."""

    @pytest.mark.slow
    def test_trains_and_is_saved(self, network, tmp_path):
        X, y = make_panel(ragged=True)
        model = SFMClassifier(network, base=None, n_states=10, max_iter=15, random_state=0).fit(X, y)
        assert model.loss_curve_[-1] < model.loss_curve_[0]
        model.save(tmp_path / "model")
        loaded = SFMClassifier.load(tmp_path / "model")
        for series in (X, make_panel()[0]):
            np.testing.assert_array_equal(loaded.predict_proba(series), model.predict_proba(series))

    def test_predicts_frames_if_it_is_causal(self, network):
        X = [(series > 0)[:length] for series, length in zip(make_panel()[0], range(3, 13), strict=False)]
        model = SFMDensity(network, n_states=10, max_iter=2, random_state=0)
        if not make_network(network, 2).causal:
            with pytest.raises(ValueError, match=f"network={network!r} reads what comes after a frame"):
                model.fit(X)
            return
        model.fit(X)
        changed = [np.vstack([series[:2], ~series[2:]]) for series in X]
        for p, q in zip(model.predict_proba(X), model.predict_proba(changed), strict=True):
            np.testing.assert_allclose(p[:2], q[:2], atol=1e-12)
        assert model.sample(3, random_state=0).shape == (3, 2)
