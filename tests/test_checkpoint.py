"""Fits that are cut off and go on from their checkpoint."""

import multiprocessing
import os
import signal
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sfmts import SFMClassifier, SFMDensity, SFMForecaster, SFMLabeler, SFMRegressor
from sfmts import _persistence as persistence
from sfmts._checkpoint import Checkpoint
from sfmts.training import OPTIMIZERS, Trainer
from tests.helpers import make_panel

pytestmark = pytest.mark.filterwarnings("error:::sfmts")
QUICK = {"n_states": 4, "max_iter": 4, "batch_size": 8, "random_state": 0}
STOPPING = {"early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 2}
X, Y = make_panel(n=24, ragged=True)


class Killed(BaseException):
    """What a test raises in place of a crash."""


def steps(series):
    return [(x[:, 0] > 0).astype(int) for x in series]


def frames(series):
    return [(x > 0).astype(float) for x in series]


CASES = {
    "classifier": (SFMClassifier(base=None, dropout=0.3, **QUICK), (X, Y)),
    "early stopping": (SFMClassifier(base=None, **QUICK, **STOPPING), (X, Y)),
    "base": (SFMClassifier(**QUICK), (X, Y)),
    "regressor": (SFMRegressor(base=None, **QUICK), (X, [x.mean() for x in X])),
    "regressor with base": (SFMRegressor(**QUICK), (X, [x.mean() for x in X])),
    "labeler": (SFMLabeler(dropout=0.3, **QUICK), (X, steps(X))),
    "density": (SFMDensity(**QUICK), (frames(X), None)),
    "rbm": (SFMDensity(head="rbm", n_hidden=3, **QUICK, **STOPPING), (frames(X), None)),
    "float32": (SFMClassifier(base=None, **QUICK), ([x.astype(np.float32) for x in X], Y)),
    **{name: (SFMClassifier(base=None, optimizer=name, **QUICK), (X, Y)) for name in OPTIMIZERS},
    "constant": (SFMLabeler(optimizer_params={"schedule": "constant"}, **QUICK, tol=0.1), (X, steps(X))),
}
FORECASTER = SFMForecaster(
    base=None,
    context_length=8,
    horizon=1,
    n_states=4,
    max_iter=3,
    batch_size=16,
    learning_rate_init=0.03,
    random_state=0,
)
FORECASTED = pd.Series(np.sin(np.arange(100) ** 1.5 / 20) ** 2 + np.random.default_rng(0).normal(size=100) / 20)
every_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(autouse=True)
def few_series(monkeypatch):
    """So that a network corrects its base."""
    monkeypatch.setattr(SFMClassifier, "_fewest_series", 8)
    monkeypatch.setattr(SFMRegressor, "_fewest_series", 8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.checkpoint"


@pytest.fixture
def updates(monkeypatch):
    """Counts updates; what is in ``at`` happens before the update of this number, and a checkpoint is due there."""

    class Updates:
        n, at = 0, {}

    found, step = Updates(), Trainer._train_step

    def train_step(self, *arguments):
        found.n += 1
        found.at.get(found.n, lambda: None)()
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_step", train_step)
    monkeypatch.setattr(Checkpoint, "is_due", lambda *_: found.n + 1 in found.at)
    return found


def killed():
    raise Killed


def with_checkpoint(model, path, seconds=0.0):
    params = {**(model.optimizer_params or {}), "checkpoint_seconds": seconds}
    return clone(model).set_params(checkpoint=path, optimizer_params=params)


def fitted(model, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant rates
        return clone(model).fit(*data)


def assert_equal(model, expected):
    """Compare all weights and the whole record, to the bit."""
    assert model.history_ == expected.history_
    weights, others = (m.module_.state_dict() for m in (model, expected))
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(value.numpy(), others[name].numpy(), err_msg=name)
    assert getattr(model, "network_used_", None) == getattr(expected, "network_used_", None)


class TestResumed:
    @every_case
    @pytest.mark.parametrize("at", [4, 8])  # at the end of an epoch, and within another
    def test_a_fit_ends_as_if_it_had_never_been_cut_off(self, name, at, path, updates):
        model, data = CASES[name]
        expected = fitted(model, data)
        total, updates.n = updates.n, 0
        updates.at = {at: killed}
        with pytest.raises(Killed):
            fitted(with_checkpoint(model, path), data)
        assert path.exists()
        updates.at, updates.n = {}, 0
        resumed = fitted(with_checkpoint(model, path), data)
        assert_equal(resumed, expected)
        assert updates.n == total - (at - 1)  # none twice
        assert not path.exists()

    def test_a_fit_that_is_cut_off_again_and_again(self, path, updates):
        model, data = CASES["early stopping"]
        expected, model = fitted(model, data), with_checkpoint(model, path)
        n_fits = 0
        updates.at = {number: killed for number in range(1, 1000) if number % 2 == 0}
        while True:
            n_fits, updates.n = n_fits + 1, 0
            try:
                assert_equal(fitted(model, data), expected)
                break
            except Killed:
                assert n_fits < 20
        assert n_fits >= 6

    def test_the_training_was_done_but_not_the_fit(self, path, updates, monkeypatch):
        model, data = CASES["base"]
        expected, model = fitted(model, data), with_checkpoint(model, path, 60.0)
        with monkeypatch.context() as patch:
            patch.setattr(SFMClassifier, "_decide", lambda *_: killed())
            with pytest.raises(Killed):
                fitted(model, data)
        updates.n = 0
        assert_equal(fitted(model, data), expected)
        assert updates.n == 0

    @pytest.mark.parametrize("name", ["base", "classifier"])
    def test_without_a_seed_the_fit_keeps_the_one_it_drew(self, name, path, updates):
        model, data = CASES[name]
        model = with_checkpoint(clone(model).set_params(random_state=None), path)
        updates.at = {5: killed}
        with pytest.raises(Killed):
            fitted(model, data)
        seed = persistence.read(path)[0]["seed"]
        updates.at = {}
        assert_equal(fitted(model, data), fitted(clone(CASES[name][0]).set_params(random_state=seed), data))
        first, second = (fitted(model, data).loss_curve_ for _ in range(2))
        assert first != second

    def test_a_warm_start(self, path, updates):
        model, data = CASES["classifier"]
        first = fitted(clone(model).set_params(warm_start=True), data)
        first_weights = {name: value.clone() for name, value in first.module_.state_dict().items()}
        expected = clone(model).set_params(warm_start=True).fit(*data).fit(*data)
        second = clone(model).set_params(warm_start=True).fit(*data)
        second.set_params(checkpoint=path, optimizer_params={"checkpoint_seconds": 0})
        updates.at, updates.n = {5: killed}, 0
        with pytest.raises(Killed):
            second.fit(*data)
        assert second.module_.state_dict().keys() == first_weights.keys()
        updates.at = {}
        assert_equal(second.fit(*data), expected)
        assert updates.n == 13

    def test_forecaster(self, path, updates):
        model, y = FORECASTER, FORECASTED
        expected = clone(model).fit(y)
        total = updates.n
        for at in (4, total - 1):
            updates.at, updates.n = {at: killed}, 0
            with pytest.raises(Killed):
                with_checkpoint(model, path).fit(y)
            updates.at, updates.n = {}, 0
            resumed = with_checkpoint(model, path).fit(y)
            assert updates.n == total - (at - 1)
            np.testing.assert_array_equal(resumed.predict([1, 2]), expected.predict([1, 2]))
            assert resumed.validation_scores_ == expected.validation_scores_
            assert (resumed.loss_curve_, resumed.n_iter_) == (expected.loss_curve_, expected.n_iter_)
            assert not path.exists()

    def test_a_search_in_a_folder(self, tmp_path, updates):
        model, data = CASES["classifier"]
        grid = {"learning_rate_init": [0.01, 0.02]}
        expected = GridSearchCV(model, grid, cv=2).fit(*data)
        updates.at, updates.n = {13: killed}, 0
        search = GridSearchCV(with_checkpoint(model, tmp_path), grid, cv=2)
        with pytest.raises(Killed):
            search.fit(*data)
        (file,) = tmp_path.iterdir()
        assert file.suffix == ".checkpoint"
        updates.at = {}
        search.fit(*data)
        np.testing.assert_array_equal(search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
        assert_equal(search.best_estimator_, expected.best_estimator_)
        assert not list(tmp_path.iterdir())


class TestKilled:
    def test_kill_9_at_random_moments(self, path):
        """A process is killed and started again until it comes to its end."""
        model, data = CASES["classifier"]
        model = clone(model).set_params(max_iter=60)
        expected, model = fitted(model, data), with_checkpoint(model, path)
        rng, context, killed_at = np.random.default_rng(0), multiprocessing.get_context("fork"), []
        while len(killed_at) < 3:
            process = context.Process(target=fitted, args=(model, data))
            before = path.stat().st_ino if path.exists() else None
            process.start()
            while not path.exists() or path.stat().st_ino == before:
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, 0.05))
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            document, _ = persistence.read(path)  # whole at any moment
            killed_at.append(persistence.decode(document["stages"]["network"]["history"])["n_updates"])
        assert killed_at == sorted(set(killed_at))  # each process went on
        assert 0 < killed_at[0] < killed_at[-1] < 180
        assert_equal(fitted(model, data), expected)


class TestSIGTERM:
    @pytest.mark.parametrize("name", ["classifier", "early stopping", "regressor with base", "rbm"])
    def test_fit_saves_and_ends_with_what_it_has_learned(self, name, path, updates):
        model, data = CASES[name]
        expected, before = fitted(model, data), signal.getsignal(signal.SIGTERM)
        updates.at, updates.n = {updates.n // 2: lambda: signal.raise_signal(signal.SIGTERM)}, 0
        at = next(iter(updates.at))
        with pytest.warns(UserWarning, match=r"ended by SIGTERM; the model keeps.*continues from .*fit\.checkpoint"):
            ended = with_checkpoint(model, path, 60.0).fit(*data)
        assert updates.n == at
        assert ended.history_["stopped"] == "terminated"
        assert ended.history_["n_updates"] == at
        assert np.isfinite(np.concatenate([p.numpy().ravel() for p in ended.module_.state_dict().values()])).all()
        assert signal.getsignal(signal.SIGTERM) is before
        updates.at = {}
        assert_equal(fitted(with_checkpoint(model, path), data), expected)

    def test_a_second_one_gets_the_handler_from_before(self, path, updates):
        model, data = CASES["classifier"]
        received = []

        def handler(*_):
            received.append("second")
            raise SystemExit(1)

        def twice():
            signal.raise_signal(signal.SIGTERM)
            assert not received
            signal.raise_signal(signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, handler)
        try:
            updates.at = {3: twice}
            with pytest.raises(SystemExit):
                with_checkpoint(model, path).fit(*data)
            assert signal.getsignal(signal.SIGTERM) is handler
        finally:
            signal.signal(signal.SIGTERM, before)
        assert received == ["second"]
        updates.at = {}
        assert_equal(fitted(with_checkpoint(model, path), data), fitted(model, data))

    def test_without_a_checkpoint_the_signal_keeps_its_meaning(self, updates):
        model, data = CASES["classifier"]
        before = signal.getsignal(signal.SIGTERM)
        updates.at = {2: lambda: seen.append(signal.getsignal(signal.SIGTERM))}
        seen = []
        clone(model).fit(*data)
        assert seen == [before]

    def test_one_that_comes_as_the_fit_ends(self, path, monkeypatch):
        model, data = CASES["base"]
        decide = SFMClassifier._decide

        def late(self, *arguments):
            signal.raise_signal(signal.SIGTERM)
            decide(self, *arguments)

        monkeypatch.setattr(SFMClassifier, "_decide", late)
        with pytest.warns(UserWarning, match="SIGTERM was received when training had ended; the fit is complete"):
            with_checkpoint(model, path).fit(*data)
        assert not path.exists()

    def test_a_thread_leaves_signals_alone(self, path):
        model, data = CASES["classifier"]
        before, found = signal.getsignal(signal.SIGTERM), []
        thread = threading.Thread(target=lambda: found.append(fitted(with_checkpoint(model, path), data)))
        thread.start()
        thread.join()
        assert_equal(found[0], fitted(model, data))
        assert signal.getsignal(signal.SIGTERM) is before

    def test_forecaster(self, path, updates):
        model, y = FORECASTER, FORECASTED
        expected = clone(model).fit(y)
        at = updates.n // 2
        updates.at, updates.n = {at: lambda: signal.raise_signal(signal.SIGTERM)}, 0
        with pytest.warns(UserWarning, match="ended by SIGTERM"):
            ended = with_checkpoint(model, path).fit(y)
        assert updates.n == at
        assert np.isfinite(ended.predict([1, 2])).all()
        updates.at = {}
        resumed = with_checkpoint(model, path).fit(y)
        np.testing.assert_array_equal(resumed.predict([1, 2]), expected.predict([1, 2]))

    def test_ctrl_c_leaves_the_last_state(self, path, updates):
        model, data = CASES["classifier"]

        def interrupt():
            raise KeyboardInterrupt

        updates.at = {5: interrupt}
        with pytest.warns(UserWarning, match=r"was interrupted; the model keeps.*continues from"):
            with_checkpoint(model, path).fit(*data)
        updates.at, updates.n = {}, 0
        assert_equal(fitted(with_checkpoint(model, path), data), fitted(model, data))
        assert updates.n == 8 + 12


class TestFile:
    @pytest.fixture
    def unfinished(self, path, updates):
        """A model whose fit was cut off, and its data."""
        model, data = CASES["classifier"]
        model, updates.at = with_checkpoint(model, path), {5: killed}
        with pytest.raises(Killed):
            fitted(model, data)
        updates.at = {}
        return model, data

    def test_it_is_refused_by_another_fit(self, unfinished, path):
        model, (series, y) = unfinished
        content = path.read_bytes()
        others = {
            "learning_rate_init": (clone(model).set_params(learning_rate_init=0.02), series, y),
            "n_states, random_state": (clone(model).set_params(n_states=5, random_state=1), series, y),
            "weight_decay": (
                clone(model).set_params(optimizer_params={"checkpoint_seconds": 0, "weight_decay": 0.1}),
                series,
                y,
            ),
            "X": (model, [series[0] + 1e-9, *series[1:]], y),
            "y": (model, series, 1 - y),
        }
        for named, (other, *data) in others.items():
            with pytest.raises(
                ValueError, match=rf"checkpoint of another unfinished fit: {named} differed there\. Fit"
            ):
                other.fit(*data)
        with pytest.raises(ValueError, match=r"another unfinished fit: sample_weight differed"):
            model.fit(series, y, sample_weight=np.ones(len(y)))
        with pytest.raises(ValueError, match=r"another unfinished fit: .*base, .*estimator"):
            with_checkpoint(SFMLabeler(**QUICK), path).fit(series, steps(series))
        assert path.read_bytes() == content

    def test_what_does_not_change_the_model_may_change(self, unfinished):
        model, data = unfinished
        model.set_params(verbose=0, device="cpu", optimizer_params={"checkpoint_seconds": 5, "schedule": "cosine"})
        assert_equal(fitted(model, data), fitted(CASES["classifier"][0], data))

    def test_a_damaged_one_is_refused(self, unfinished, path):
        model, data = unfinished
        content = bytearray(path.read_bytes())
        for damaged in (content[:-5], content[:100], b"", content[:-9] + b"\1" + content[-8:]):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"The checkpoint cannot be used: .*damaged.*delete it"):
                model.fit(*data)
            assert path.read_bytes() == damaged
        fitted(CASES["classifier"][0], data).save(path)
        with pytest.raises(ValueError, match=r"The checkpoint cannot be used: .*not a checkpoint"):
            model.fit(*data)

    def test_a_forged_one_is_refused(self, unfinished, path):
        model, data = unfinished
        document, tensors = persistence.read(path)
        stage = document["stages"]["network"]
        run = dict(map(tuple, stage["run"]["dict"]))
        forged = [
            ({**stage, "run": {"dict": [[k, "3" if k == "epoch" else v] for k, v in run.items()]}}, tensors),
            ({key: value for key, value in stage.items() if key != "best"}, tensors),
            (stage, {name: value for name, value in tensors.items() if "generator" not in name}),
            (stage, {name: value[:1] if "exp_avg" in name else value for name, value in tensors.items()}),
            (stage, {name: value[:1] if "model.network" in name else value for name, value in tensors.items()}),
        ]
        for entries, changed in forged:
            persistence.write(path, {**document, "stages": {"network": entries}}, changed)
            with pytest.raises(ValueError, match=r"fit\.checkpoint is damaged"):
                model.fit(*data)

    def test_another_precision(self, path, updates):
        """The same series on another device, here by way of the file."""
        model, data = CASES["classifier"]
        updates.at = {5: killed}
        with pytest.raises(Killed):
            fitted(with_checkpoint(model, path), data)
        document, tensors = persistence.read(path)
        document["stages"]["network"]["place"] = "cuda in float32"
        persistence.write(path, document, tensors)
        updates.at = {}
        with pytest.raises(
            ValueError, match=r"training on cuda in float32, but this one is on cpu in float64\. Set device"
        ):
            fitted(with_checkpoint(model, path), data)

    def test_its_folder_has_to_exist(self, tmp_path):
        model, data = CASES["classifier"]
        with pytest.raises(
            FileNotFoundError, match=r"checkpoint='.*nowhere/fit': the folder .*nowhere' does not exist"
        ):
            with_checkpoint(model, str(tmp_path / "nowhere" / "fit")).fit(*data)

    def test_a_full_disk_does_not_end_the_fit(self, path, monkeypatch):
        model, data = CASES["classifier"]
        expected = fitted(model, data)

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(persistence, "write", full)
        with pytest.warns(
            UserWarning, match=r"fit\.checkpoint could not be written: .*No space left.*Training goes on"
        ):
            assert_equal(with_checkpoint(model, path).fit(*data), expected)

    def test_two_fits_with_one_path(self, path, updates):
        """The second leaves the file to the first, as its own would not tell more."""
        model, data = CASES["classifier"]
        first, second = (with_checkpoint(clone(model).set_params(random_state=seed), path) for seed in (0, 1))

        def write():
            updates.at = {}
            path.write_bytes(b"of another process")

        updates.at = {3: write}
        with pytest.warns(UserWarning, match=r"Another fit writes to the checkpoint .*own, or a folder") as caught:
            assert_equal(second.fit(*data), fitted(clone(model).set_params(random_state=1), data))
        assert len(caught) == 1
        assert path.read_bytes() == b"of another process"
        path.unlink()
        assert_equal(first.fit(*data), fitted(model, data))

    def test_it_is_written_as_often_as_asked(self, path, monkeypatch):
        model, data = CASES["classifier"]
        written, write = [], persistence.write
        monkeypatch.setattr(persistence, "write", lambda *arguments: (written.append(1), write(*arguments)))
        for seconds, expected in ((0.0, 13), (1000.0, 1)):  # after each update, and at the end
            written.clear()
            with_checkpoint(model, path, seconds).fit(*data)
            assert len(written) == expected

    def test_home(self, tmp_path, monkeypatch, updates):
        model, data = CASES["classifier"]
        monkeypatch.setenv("HOME", str(tmp_path))
        updates.at = {5: killed}
        with pytest.raises(Killed):
            fitted(with_checkpoint(model, "~/fit.checkpoint"), data)
        assert os.listdir(tmp_path) == ["fit.checkpoint"]

    def test_partial_fit_and_saved_models_have_none(self, path, tmp_path):
        model, (series, y) = CASES["classifier"]
        model = with_checkpoint(model, path)
        path.write_bytes(b"of another")
        with pytest.warns(UserWarning, match="partial_fit ignores checkpoint="):
            model.partial_fit(series, y, classes=[0, 1])
        assert path.read_bytes() == b"of another"
        model.save(tmp_path / "model.sfm")
        assert SFMClassifier.load(tmp_path / "model.sfm").checkpoint is None
