"""Pickle, joblib, copies, and the files of save() and load()."""

import collections
import contextlib
import copy
import json
import os
import pickle
import signal
import stat
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import clone

from sfmts import (
    SFMClassifier,
    SFMDensity,
    SFMFeatures,
    SFMLabeler,
    SFMRegressor,
    SFMRidgeClassifier,
    SFMRidgeRegressor,
)
from sfmts import _persistence as persistence
from sfmts.networks import LSTM, register_network
from sfmts.networks import base as networks_base
from sfmts.networks.base import network_options
from tests.helpers import ALL_NETWORKS, MODES, NETWORKS, alone, make_panel, mode_id, mode_parameters, pairwise
from tests.test_contract import WAYS, copies_of

pytestmark = pytest.mark.filterwarnings("error:::sfmts")

CLASSES = {
    "str": np.array(["no", "yes", "perhaps"]),
    "object": np.array(["no", "yes", "perhaps"], dtype=object),
    "int": np.array([3, -1, 7]),
    "uint8": np.array([3, 1, 200], dtype=np.uint8),
    "float": np.array([1.0, 2.0, -5.0]),
    "bool": np.array([False, True]),
}


def tiny(**options):
    small = {"n_states": 3, "n_frequencies": 2, "max_iter": 2, "random_state": 0}
    return SFMClassifier(**{"network": "sfm", "base": None, "pooling": "last", **small, **options})


def same_parameters(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        if isinstance(value, np.random.RandomState):
            (kind, keys, *rest), (other_kind, other_keys, *others) = value.get_state(), b[name].get_state()
            assert (kind, rest) == (other_kind, others)
            np.testing.assert_array_equal(keys, other_keys)
        else:
            assert value == b[name], name


def assert_equal(copied, model, X):
    """Parameters, fitted attributes and predictions are the same, to the bit."""
    assert type(copied) is type(model)
    same_parameters(copied.get_params(), model.get_params())
    np.testing.assert_array_equal(copied.classes_, model.classes_)
    assert copied.classes_.dtype == model.classes_.dtype
    for name in ("n_channels_in_", "n_iter_", "loss_curve_", "validation_scores_", "history_", "n_parameters_"):
        assert getattr(copied, name) == getattr(model, name), name
    for name in ("device_", "backend_"):
        assert getattr(copied, name) == getattr(model, name), name
    for name in ("n_features_in_", "feature_names_in_"):
        assert hasattr(copied, name) == hasattr(model, name)
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(copied.predict(X), model.predict(X))


def round_trip(model, X, path):
    """Return the model copied in every way, each a perfect copy."""
    copies = copies_of(model, path)
    for copied in copies:
        assert_equal(copied, model, X)
    return copies


class TestRoundTrip:
    """In every way; what all estimators promise of their copies is in test_contract.py."""

    @pytest.mark.parametrize(
        ("network", "bidirectional", "ragged"), pairwise(NETWORKS, [False, True], [False, True]), ids=str
    )
    def test_network(self, network, bidirectional, ragged, tmp_path):
        X, y = make_panel(ragged=ragged)
        model = tiny(network=network, n_layers=2, bidirectional=bidirectional, pooling="mean", dropout=0.2).fit(X, y)
        round_trip(model, X, tmp_path / "model")

    @pytest.mark.parametrize("mode", MODES, ids=mode_id)
    def test_mode(self, mode, tmp_path):
        X, y = make_panel(ragged=True)
        X = [np.column_stack([series, np.arange(len(series)) ** 1.1]) for series in X]
        round_trip(tiny(**mode_parameters(mode, 2)).fit(X, y), X, tmp_path / "model")

    @pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
    def test_classes(self, classes, tmp_path):
        X, y = make_panel(n_classes=len(classes))
        round_trip(tiny().fit(X, classes[y]), X, tmp_path / "model")

    def test_single_precision(self, tmp_path):
        X, y = make_panel()
        X = X.astype(np.float32)
        for copied in round_trip(tiny(device="cpu").fit(X, y), X, tmp_path / "model"):
            assert copied.predict_proba(X).dtype == np.float32

    def test_two_dimensional_with_names(self, tmp_path):
        X, y = make_panel()
        frame = pd.DataFrame(X[:, :, 0], columns=[f"t{step}" for step in range(12)])
        model = tiny().fit(frame, y)
        for copied in round_trip(model, frame, tmp_path / "model"):
            with pytest.raises(ValueError, match="feature names should match"):
                copied.predict(frame[frame.columns[::-1]])
            assert copied.n_features_in_ == 12
            assert copied.feature_names_in_.dtype == model.feature_names_in_.dtype

    @pytest.mark.parametrize(
        "options",
        [
            {"early_stopping": True, "validation_fraction": 0.2},
            {"class_weight": {0: 2.0, 1: 0.5}},
            {"class_weight": {np.int64(0): np.float64(2.0), np.int64(1): 0.5}},
            {"class_weight": "balanced"},
            {"n_states": np.int64(5), "learning_rate_init": np.float64(0.02), "bidirectional": np.bool_(True)},
            {"dropout": np.float32(0.25), "network": np.str_("sfm")},
            {"optimizer_params": {"clip_norm": None}, "network_params": {"n_outputs": 2}, "random_state": None},
            {"head": "none"},
            {"layout": "nct"},
        ],
        ids=str,
    )
    def test_parameters(self, options, tmp_path):
        X, y = make_panel()
        round_trip(tiny(**options).fit(X, y), X, tmp_path / "model")

    def test_generator_as_random_state(self, tmp_path):
        X, y = make_panel()
        model = tiny(random_state=np.random.RandomState(5)).fit(X, y)
        copies = round_trip(model, X, tmp_path / "model")
        expected = model.fit(X, y).predict_proba(X)
        for copied in copies:  # goes on from the same state of the generator
            np.testing.assert_array_equal(copied.fit(X, y).predict_proba(X), expected)

    def test_parameter_changed_after_fit(self, tmp_path):
        X, y = make_panel(ragged=True)
        model = tiny().fit(X, y)
        p = model.predict_proba(X)
        model.set_params(n_states=7, n_frequencies=5, network="lstm", bidirectional=True, pooling="mean", n_layers=2)
        for copied in round_trip(model, X, tmp_path / "model"):
            np.testing.assert_array_equal(copied.predict_proba(X), p)

    def test_training_goes_on_in_a_copy_of_a_copy(self, tmp_path):
        X, y = make_panel()
        model = tiny().fit(X, y)
        p = model.predict_proba(X)
        for way in WAYS.values():
            copied = way(way(model, tmp_path / "first"), tmp_path / "second")
            assert_equal(copied, model, X)
            copied.partial_fit(X, y)
            assert copied.n_iter_ == 3
            assert np.abs(copied.predict_proba(X) - p).max() > 1e-6
            assert model.n_iter_ == 2
            copied.set_params(warm_start=True).fit(X, y)
            copied.set_params(warm_start=False).fit(X[:, :, :1], y)
            np.testing.assert_array_equal(model.predict_proba(X), p)


def test_unfitted(tmp_path):
    model = tiny(class_weight={0: 1.0, 1: 2.0}, n_states=np.int64(4))
    for way in ("pickle", "joblib", "deepcopy"):
        assert WAYS[way](model, tmp_path / "model").get_params() == model.get_params()
    assert clone(model).get_params() == model.get_params()


def test_series_in_a_read_only_memory_map(tmp_path):
    X, y = make_panel()
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = tiny().fit(mapped, y)
        p = model.predict_proba(mapped)
    np.testing.assert_array_equal(p, tiny().fit(X, y).predict_proba(X))


@pytest.mark.parametrize("backend", ["auto", "cuda"])
def test_a_model_of_a_gpu_predicts_without_one(backend, tmp_path, monkeypatch):
    X, y = make_panel()
    model = tiny(device="cpu").fit(X, y)
    p = model.predict_proba(X)
    model.device_ = "cuda:0"  # as if it had been trained there
    model.set_params(network_params={"backend": backend})
    model._module_options["network_params"]["backend"] = model.module_.network._backend = backend
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    x = torch.from_numpy(X)
    for copied in copies_of(model, tmp_path / "model"):
        np.testing.assert_array_equal(copied.predict_proba(X), p)
        assert copied.state_amplitudes(X).shape == (len(X), 12, 3, 2)
        np.testing.assert_array_equal(copied.to_torch()(x).detach(), model.module_(x).detach())
        if backend == "auto":
            copied.partial_fit(X, y)
        else:
            with pytest.raises(RuntimeError, match="backend='cuda' is unavailable here"):
                copied.partial_fit(X, y)


DAMAGED = "is damaged or from an incompatible"


def changed(part, **entries):
    """What sets entries of a part of the document of a file."""
    return lambda document: {**document, part: {**document[part], **entries}}


class TestFile:
    @pytest.fixture
    def saved(self, tmp_path):
        X, y = make_panel()
        model = tiny(n_states=2).fit(X, y)
        path = tmp_path / "model.sfm"
        model.save(path)
        return model, path

    def test_names(self, saved, monkeypatch):
        model, path = saved
        monkeypatch.chdir(path.parent)
        for name in (str(path), "other.sfm", path.with_name("m" * 255)):
            model.save(name)
            assert_equal(SFMClassifier.load(name), model, make_panel()[0])

    def test_nothing_but_tensors_and_json(self, saved):
        model, path = saved
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        metadata = header.pop("__metadata__")
        assert max(entry["data_offsets"][1] for entry in header.values()) == len(data) - 8 - size
        assert all(isinstance(value, str) for value in metadata.values())
        json.loads(metadata["sfmts"])
        with safe_open(path, framework="pt") as file:
            assert set(file.keys()) == set(model.module_.state_dict())
        for text in (data[8:], metadata["sfmts"].encode()):
            with pytest.raises(Exception):  # noqa: B017, PT011 (any error shows that it is no pickle)
                pickle.loads(text)

    def test_loading_never_unpickles(self, saved, monkeypatch):
        def forbidden(*args, **options):
            raise AssertionError("unpickled")

        for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
            monkeypatch.setattr(module, name, forbidden)
        SFMClassifier.load(saved[1])

    def test_permissions_are_those_of_any_new_file(self, saved):
        _, path = saved
        other = path.with_name("other")
        other.write_bytes(b"")
        assert stat.S_IMODE(os.stat(path).st_mode) == stat.S_IMODE(os.stat(other).st_mode)

    def test_saving_again_replaces(self, saved):
        model, path = saved
        X, y = make_panel()
        model.partial_fit(X, y).save(path)
        assert_equal(SFMClassifier.load(path), model, X)
        assert list(path.parent.iterdir()) == [path]

    def test_saving_through_a_link(self, saved):
        model, path = saved
        path.chmod(0o640)
        link = path.with_name("link")
        link.symlink_to(path.name)
        X, y = make_panel()
        model.partial_fit(X, y).save(link)
        assert link.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert_equal(SFMClassifier.load(path), model, X)

    def test_parameter_that_cannot_be_saved(self, saved):
        model, path = saved
        before = path.read_bytes()
        model.set_params(class_weight=object())
        with pytest.raises(TypeError, match=r"class_weight=.* cannot be saved.*Use pickle or joblib"):
            model.save(path)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize(
        ("where", "error", "exists"),
        pairwise(
            ["serialize", "write_bytes", "os.replace"],
            [OSError("No space left on device"), KeyboardInterrupt()],
            [True, False],
        ),
        ids=repr,
    )
    def test_failed_save_leaves_all_as_it_was(self, saved, where, error, exists, monkeypatch):
        model, path = saved
        X, y = make_panel()
        before = path.read_bytes()
        model.partial_fit(X, y)

        def fail(*args, **options):
            raise error

        with monkeypatch.context() as patch:
            owner = {"serialize": persistence, "write_bytes": Path, "os.replace": os}[where]
            patch.setattr(owner, where.removeprefix("os."), fail)
            with pytest.raises(type(error)):
                model.save(path if exists else path.with_name("new"))
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_folder_that_is_not_there(self, saved):
        model, path = saved
        with pytest.raises(FileNotFoundError, match=r"The folder '.*nowhere' does not exist"):
            model.save(path.parent / "nowhere" / "model.sfm")

    def test_damaged(self, saved):
        _, path = saved
        data = path.read_bytes()
        for spoilt in (
            b"",
            *(data[:end] for end in (4, 200, -10)),  # cut in the size, the header or the weights
            data + b"x" * 16,
            b"\xff" * 8 + data[8:],  # a huge header
            b"\0" * len(data),
            np.random.RandomState(0).bytes(len(data)),
            b"It was a dark and stormy night.\n" * 100,
            b"{}",
            pickle.dumps(tiny()),
        ):
            path.write_bytes(spoilt)
            with pytest.raises(ValueError, match=r"model\.sfm is damaged or was not written by save\(\)"):
                SFMClassifier.load(path)

    def test_flipped_bits(self, saved):
        """Wherever a bit is wrong, load() either says so or its result is the same."""
        model, path = saved
        data = path.read_bytes()
        X, _ = make_panel()
        p = model.predict_proba(X)
        silent, unclear = [], []
        for position in np.random.RandomState(0).permutation(len(data))[:150]:
            spoilt = bytearray(data)
            spoilt[position] ^= 1 << int(position) % 7
            path.write_bytes(spoilt)
            try:
                loaded = SFMClassifier.load(path)
            except ValueError as error:
                unclear += [] if str(path) in str(error) else [str(error)]
                continue
            same = np.array_equal(loaded.predict_proba(X), p) and loaded.get_params() == model.get_params()
            if not (same and loaded.history_ == model.history_):
                silent.append(int(position))
        assert silent == [], f"load() did not notice a wrong bit at {silent}, of {len(data)} bytes"
        assert unclear == [], "messages that do not name the file"

    @pytest.mark.parametrize("metadata", [None, {"format": "pt"}], ids=["none", "other"])
    def test_weights_of_another_program(self, tmp_path, metadata):
        path = tmp_path / "model.sfm"
        save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
        with pytest.raises(ValueError, match=r"model\.sfm is a safetensors file, but not one that an estimator's save"):
            SFMClassifier.load(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": 99}, "has format 99, but this version of sfmts reads up to"),
            ({"estimator": "Other"}, r"holds a Other; load it with Other\.load"),
            ({"parameters": {"no_such": 1}}, DAMAGED),
            (lambda document: {"format": 1}, DAMAGED),
            (lambda document: [1, 2], DAMAGED),
            (lambda document: None, DAMAGED),
            ({"dtype": "nope"}, DAMAGED),
            ({"attributes": {"classes_": {"odd": 1, "pair": 2}}}, DAMAGED),
            (changed("module", network="nope"), ".*Unknown network 'nope'"),
            (changed("module", n_states=9), f"{DAMAGED}.*size mismatch"),
            (changed("module", n_states=0), DAMAGED),
            (changed("attributes", classes_={"array": [0, 300], "dtype": "|u1"}), DAMAGED),
            (changed("attributes", predict=1), ".*'predict' is no fitted attribute"),
            (changed("attributes", _module_=1), ".*'_module_' is no fitted attribute"),
            (changed("attributes", device_="abacus"), DAMAGED),
        ],
    )
    def test_other_document(self, saved, change, message):
        _, path = saved
        with safe_open(path, framework="pt") as file:
            document = json.loads(file.metadata()["sfmts"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        text = json.dumps({**document, **change} if isinstance(change, dict) else change(document))
        save_file(tensors, path, metadata={"sfmts": text, "sha256": persistence._digest(text, tensors)})
        with pytest.raises(ValueError, match=rf"(?s)model\.sfm ?{message}"):
            SFMClassifier.load(path)

    def test_two_saves_are_equal_to_the_byte(self, saved):
        model, path = saved
        model.set_params(class_weight={1: 2.0, 0: 1.0})
        others = [model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        for _ in range(8):
            model.save(path)
            others.append(SFMClassifier.load(path))
        data = path.read_bytes()
        for other in others:
            other.save(path)
            assert path.read_bytes() == data

    @pytest.mark.parametrize("age", [0.5, 1.5], ids=["of today", "of the day before"])
    def test_what_killed_saves_left_is_removed_after_a_day(self, saved, age):
        model, path = saved
        names = [f".{'0123456789abcdef' * 2}.part", ".mine.part", "0" * 32 + ".part", "old.sfm", f".{'0' * 32}.part"]
        for name in names[:-1]:
            path.with_name(name).write_bytes(b"half")
            os.utime(path.with_name(name), times=(time.time() - age * 86400,) * 2)
        path.with_name(names[-1]).mkdir()
        os.utime(path.with_name(names[-1]), times=(0, 0))
        model.save(path)
        left = {item.name for item in path.parent.iterdir()} - {path.name}
        assert left == set(names[1:] if age > 1 else names)

    def test_saving_reaches_the_disk_before_the_name(self, saved, monkeypatch):
        model, path = saved
        events, replace, sync = [], os.replace, os.fsync

        def recorded(handle):
            kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else os.fstat(handle).st_size
            events.append(("sync", kind))
            sync(handle)

        monkeypatch.setattr(os, "fsync", recorded)
        monkeypatch.setattr(os, "replace", lambda *names: (events.append("replace"), replace(*names)))
        model.save(path)
        assert events == [("sync", path.stat().st_size), "replace", ("sync", "folder")]

    def test_a_folder_that_cannot_be_synced(self, saved, monkeypatch):
        model, path = saved
        sync = os.fsync

        def refuse_folders(handle):
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError("Invalid argument")
            sync(handle)

        monkeypatch.setattr(os, "fsync", refuse_folders)
        model.save(path)
        assert_equal(SFMClassifier.load(path), model, make_panel()[0])

    @pytest.mark.parametrize("kind", ["list", "dict", "array", "twice", "deep"])
    def test_a_parameter_that_contains_itself(self, saved, kind):
        model, path = saved
        before = path.read_bytes()
        value = {"list": [], "dict": {}, "array": np.empty(1, dtype=object), "twice": [], "deep": []}[kind]
        if kind == "deep":
            for _ in range(10_000):
                value = [value]
        elif kind == "list":
            value.append((value,))
        elif kind == "twice":
            value.extend([value, value])
        else:
            value[0] = value
        model.set_params(class_weight={0: value})
        reason = "is nested more than 50 levels deep" if kind == "deep" else "contains itself"
        with pytest.raises(TypeError, match=rf"class_weight cannot be saved: it {reason}\. Use pickle or joblib"):
            model.save(path)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_a_parameter_that_is_held_twice_or_of_a_class_of_its_own(self, saved):
        model, path = saved
        shared, Pair = [1.0, 2.0], collections.namedtuple("Pair", "a b")
        for value, expected in [
            ({0: shared, 1: (shared, shared)}, {0: shared, 1: (shared, shared)}),
            (collections.OrderedDict({0: Pair(1.0, 2.0)}), {0: (1.0, 2.0)}),
        ]:
            model.set_params(class_weight=value)
            assert WAYS["file"](model, path).class_weight == expected

    def test_missing_or_a_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.sfm"):
            SFMClassifier.load(tmp_path / "nowhere.sfm")
        name = tmp_path.name
        with pytest.raises((ValueError, IsADirectoryError), match=f"{name}.*directory|directory.*{name}"):
            SFMClassifier.load(tmp_path)

    def test_saving_over_a_folder(self, saved):
        model, path = saved
        folder = path.with_name("folder")
        folder.mkdir()
        with pytest.raises(OSError, match="folder"):
            model.save(folder)
        assert sorted(item.name for item in path.parent.iterdir()) == ["folder", "model.sfm"]


def forge(path, change, tensors=None):
    """Change the document of a file, or its tensors, under a checksum that is right."""
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["sfmts"])
        old = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    tensors = old if tensors is None else tensors(old)
    change(document)
    text = json.dumps(document)
    save_file(tensors, path, metadata={"sfmts": text, "sha256": persistence._digest(text, tensors)})


def peak():
    """Return the most memory that this process has had, in bytes."""
    resource = pytest.importorskip("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def processor_seconds(most):
    """Fail what takes more time of the processor, however long it waits for it on a busy machine."""

    def fail(*_):
        pytest.fail(f"It took more than {most} seconds of the processor.")  # no Exception, which load would catch

    before = signal.signal(signal.SIGPROF, fail)
    signal.setitimer(signal.ITIMER_PROF, most)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def refused(cls, path, match=""):
    """Check that a file is refused soon and without much memory."""
    before = peak()
    with (
        processor_seconds(5),
        pytest.raises(ValueError, match=rf"(?s)model\.sfm is damaged or from an incompatible version: .*{match}"),
    ):
        cls.load(path)
    assert peak() - before < 2**28


def fitted(cls, path, **options):
    X, y = make_panel()
    y = {SFMLabeler: (X[:, :, 0] > 0).astype(int), SFMRegressor: X.sum(axis=(1, 2)), SFMDensity: None}.get(cls, y)
    X = (X > 0).astype(float) if cls is SFMDensity else X
    small = {"n_states": 4, "n_frequencies": 2, "max_iter": 1, "random_state": 0}
    model = cls(**{**small, **alone(cls), **options}).fit(X, y)
    model.save(path)
    return model, X


OWN = {
    "associative_lstm": {"n_copies": 4},
    "recurrent_highway": {"depth": 2},
    "resonator": {"n_lags": 2},
    "fnet": {"n_feedforward": 3},
    "clockwork_rnn": {"periods": (1, 2)},
}
KINDS = {SFMClassifier: {}, SFMLabeler: {}, SFMRegressor: {}, SFMDensity: {"head": "nade"}}
every_kind = pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.__name__)


class TestForgedFile:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @every_kind
    def test_weights_that_are_not_finite(self, tmp_path, cls, value):
        path = tmp_path / "model.sfm"
        name = next(iter(fitted(cls, path)[0].module_.state_dict()))
        forge(path, lambda document: None, lambda tensors: {**tensors, name: torch.full_like(tensors[name], value)})
        refused(cls, path, f"its {name} has values that are not finite")

    @every_kind
    def test_reading_leaves_the_random_numbers_of_pytorch(self, tmp_path, cls):
        path = tmp_path / "model.sfm"
        fitted(cls, path)
        before = torch.get_rng_state()
        cls.load(path)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("network", ALL_NETWORKS)
    def test_sizes_of_a_network(self, tmp_path, network):
        path = tmp_path / "model.sfm"
        fitted(SFMClassifier, path, network=network, network_params=OWN.get(network))
        content = path.read_bytes()
        names = {"n_states", "n_frequencies", "n_layers"} & {*network_options(network)}
        own = {"n_outputs"} & {*network_options(network)} | OWN.get(network, {}).keys() - {"periods"}
        for size in (9_999, 10**5, 10**9, 10**30):
            changes = [{name: size} for name in names]
            for change in [*changes, *({"network_params": {"dict": [[name, size]]}} for name in own)]:
                forge(path, lambda document, change=change: document["module"].update(change))
                refused(SFMClassifier, path)
                path.write_bytes(content)

    @every_kind
    def test_sizes_of_a_head(self, tmp_path, cls):
        path = tmp_path / "model.sfm"
        for head in ("nade", "rbm") if cls is SFMDensity else ("linear",):
            fitted(cls, path, head=head)
            content = path.read_bytes()
            changes = [("attributes", name) for name in {"n_channels_in_", "n_targets_"} & vars(cls.load(path)).keys()]
            for part, name in [*changes, *([("module", "n_hidden")] if cls is SFMDensity else [])]:
                for size in (9_999, 10**9, 10**30):
                    forge(path, lambda document, part=part, own={name: size}: document[part].update(own))
                    refused(cls, path)
                    path.write_bytes(content)

    def test_indices_far_larger_than_a_large_file(self, tmp_path):
        """Options that are each smaller than the file, but whose product is not."""
        path = tmp_path / "model.sfm"
        fitted(SFMClassifier, path, network="associative_lstm", n_states=500)
        own = {"dict": [["n_copies", 10**6]]}
        forge(path, lambda document: document["module"].update(network_params=own, n_states=10**6))
        refused(SFMClassifier, path)

    @pytest.mark.parametrize("kind", ["U", "S"])
    def test_strings_far_wider_than_their_content(self, tmp_path, kind):
        path = tmp_path / "model.sfm"
        fitted(SFMClassifier, path)
        array = {"array": ["no", "yes"], "dtype": f"|S{2**30}" if kind == "S" else f"<U{2**28}"}
        for value in (array, {"array": [{"list": ["no"] * 4000}] * 2, "dtype": "<U20000"}):
            forge(path, lambda document, value=value: document["attributes"].update(classes_=value))
            refused(SFMClassifier, path, "strings with .* characters cannot have the type")

    def test_wide_strings_are_kept(self, tmp_path):
        path = tmp_path / "model.sfm"
        X, y = make_panel()
        classes = np.array(["no", "yes"], dtype="<U5000")
        model = tiny().fit(X, classes[y])
        assert WAYS["file"](model, path).classes_.dtype == classes.dtype

    @pytest.mark.parametrize("change", [dict.pop, lambda module, name: module.update({name: True})], ids=["-", "True"])
    @every_kind
    def test_every_option_counts(self, tmp_path, cls, change):
        path = tmp_path / "model.sfm"
        fitted(cls, path, **KINDS[cls])
        content = path.read_bytes()
        options = cls.load(path)._module_options
        flags = {"bidirectional"} if change is not dict.pop else set()
        for name in options.keys() - flags:
            forge(path, lambda document, name=name: change(document["module"], name))
            refused(cls, path, f"(lacks )?'?{name}")
            path.write_bytes(content)
        forge(path, lambda document: document["module"].update(nonsense=1))
        refused(cls, path, "its description of the model holds nonsense, which is unknown")
        path.write_bytes(content)
        forge(path, lambda document: document["module"].update(network_params={"dict": [["nonsense", 1]]}))
        refused(cls, path, "network_params hold nonsense")

    @every_kind
    def test_every_attribute_counts(self, tmp_path, cls):
        path = tmp_path / "model.sfm"
        model, X = fitted(cls, path, **KINDS[cls])
        content = path.read_bytes()
        names = [name for name in vars(model) if name.endswith("_") and not name.startswith("_")]
        names = [name for name in names if name not in ("module_", "base_")]
        assert {"history_", "device_", "n_channels_in_"} < {*names}
        for name in names:
            forge(path, lambda document, name=name: document["attributes"].pop(name))
            refused(cls, path, f"lacks .*'{name}'|no attribute '{name}'")
            path.write_bytes(content)
        forge(path, lambda document: document["attributes"].update(n_iter_="three"))
        refused(cls, path, "'n_iter_' is 'three', not of type int")
        path.write_bytes(content)
        forge(path, lambda document: document["attributes"]["history_"].update(dict=[]))
        refused(cls, path, "its history is not that of a training")
        path.write_bytes(content)
        for part in ("module", "dtype", "attributes", "parameters"):
            forge(path, lambda document, part=part: document.pop(part))
            refused(cls, path, f"it lacks '{part}'")
            path.write_bytes(content)
        cls.load(path).predict_proba(X) if hasattr(cls, "predict_proba") else cls.load(path).predict(X)

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda tensors: {**tensors, "more": torch.zeros(3)}, "its tensors are not those of its model: more"),
            (lambda tensors: {"network.x": torch.zeros(3)}, "its tensors are not those of its model"),
            (lambda tensors: {name: value.int() for name, value in tensors.items()}, "int32 of shape"),
            (lambda tensors: {name: value[None] for name, value in tensors.items()}, r"shape \(1, "),
        ],
        ids=["more", "other", "type", "shape"],
    )
    def test_other_tensors(self, tmp_path, change, sentence):
        path = tmp_path / "model.sfm"
        fitted(SFMClassifier, path)
        forge(path, lambda document: None, change)
        refused(SFMClassifier, path, sentence)

    def test_other_types(self, tmp_path):
        path = tmp_path / "model.sfm"
        fitted(SFMClassifier, path)
        for dtype in ("int64", "nn", "no_such", 3, None, "complex64"):
            forge(path, lambda document, dtype=dtype: document.update(dtype=dtype))
            refused(SFMClassifier, path, "weights cannot have the type")


@pytest.mark.parametrize("options", [{}, {"n_frequencies": 3000, "n_states": 1}, {"n_layers": 60}], ids=str)
@pytest.mark.parametrize("network", ["sfm", "lstm"])
def test_large_models_are_not_taken_for_forged(tmp_path, network, options):
    path = tmp_path / "model.sfm"
    model, X = fitted(SFMClassifier, path, network=network, **options)
    np.testing.assert_array_equal(SFMClassifier.load(path).predict_proba(X), model.predict_proba(X))


def test_a_network_of_ones_own_that_needs_its_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("sfmts.networks.base._REGISTRY", dict(networks_base._REGISTRY))

    @register_network("needy")
    class Needy(LSTM):
        def __init__(self, n_channels, *, n_states=32, generator=None):
            super().__init__(n_channels, n_states=n_states, generator=generator)
            self.least = torch.empty(3).numpy().min()

    model, X = fitted(SFMClassifier, tmp_path / "model.sfm", network="needy")
    copied = SFMClassifier.load(tmp_path / "model.sfm")
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))


BANKS = {SFMFeatures: {}, SFMRidgeClassifier: {}, SFMRidgeRegressor: {"scale": "both"}}
every_bank = pytest.mark.parametrize("cls", BANKS, ids=lambda cls: cls.__name__)


def saved_bank(cls, path):
    X, y = make_panel(n_classes=3)
    model = cls(n_features=60, time_channel=-1, random_state=0, **BANKS[cls])
    X = np.concatenate([X, np.broadcast_to(np.arange(12.0)[:, None], (24, 12, 1))], axis=2)
    model.fit(X, y).save(path)
    return model, X


class TestForgedBank:
    @every_bank
    def test_sizes(self, tmp_path, cls):
        path = tmp_path / "model.sfm"
        model, _ = saved_bank(cls, path)
        content = path.read_bytes()
        names = {"n_channels_in_", "n_features_out_", "n_targets_", "target_ndim_"} & vars(model).keys()
        for value in (0, -1, 9_999, 10**9, 10**30, True, "3", None, 2.0):
            changes = [("attributes", name) for name in names]
            changes += [] if value in (9_999, 10**9, 10**30) else [("parameters", "n_features")]
            for part, name in changes:
                forge(path, lambda document, part=part, own={name: value}: document[part].update(own))
                refused(cls, path, "n_features" if part == "parameters" else "")
                path.write_bytes(content)
            if value not in (0, -1):  # which are channels
                forge(path, lambda document, value=value: document.update(time_channel=value))
                refused(cls, path)
                path.write_bytes(content)

    @every_bank
    def test_every_entry_counts(self, tmp_path, cls):
        path = tmp_path / "model.sfm"
        model, X = saved_bank(cls, path)
        content = path.read_bytes()
        document = {"attributes": set(), "parameters": model.get_params()}
        document["attributes"] = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
        for part, names in document.items():
            for name in names:
                forge(path, lambda document, part=part, name=name: document[part].pop(name))
                refused(cls, path, name)
                path.write_bytes(content)
        for name in ("unit", "scale", "time_channel", *(["alpha"] if cls is not SFMFeatures else [])):
            forge(path, lambda document, name=name: document.pop(name))
            refused(cls, path, f"it lacks '{name}'")
            path.write_bytes(content)
            if name != "time_channel":
                for value in (True, "nan", None, -1.0, float("inf"), float("nan")):
                    forge(path, lambda document, name=name, value=value: document.update({name: value}))
                    refused(cls, path)
                    path.write_bytes(content)
        for name in ("predict", "transform"):
            if hasattr(model, name):
                np.testing.assert_array_equal(getattr(cls.load(path), name)(X), getattr(model, name)(X))

    @pytest.mark.parametrize(
        "change",
        [
            lambda value: value[None],
            lambda value: value[:-1],
            lambda value: value.int(),
            lambda value: value.to(torch.float16),
            lambda value: torch.full_like(value, torch.nan if value.is_floating_point() else 10**15),
            lambda value: torch.full_like(value, -torch.inf if value.is_floating_point() else -7),
            None,
        ],
        ids=["dimension", "shorter", "int32", "float16", "nan", "inf", "missing"],
    )
    @every_bank
    def test_tensors(self, tmp_path, cls, change):
        path = tmp_path / "model.sfm"
        model, _ = saved_bank(cls, path)
        content = path.read_bytes()
        for name in model._to_file()[1]:

            def changed(tensors, name=name):
                if change is None:
                    return {key: value for key, value in tensors.items() if key != name}
                return {**tensors, name: change(tensors[name]).contiguous()}

            if name == "bank.threshold" and change is not None and bool((change(torch.zeros(2)) < 0).all()):
                continue  # a threshold may be infinite
            forge(path, lambda document: None, changed)
            refused(cls, path)
            path.write_bytes(content)
        forge(path, lambda document: None, lambda tensors: {**tensors, "more": torch.zeros(3)})
        refused(cls, path, "its tensors are not those of its model: more")


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    X, y = make_panel()
    model = tiny().fit(X, y)
    for path in ("~/model.sfm", Path("~", "model.sfm")):
        model.save(path)
        assert_equal(SFMClassifier.load(path), model, X)
    assert os.listdir(tmp_path) == ["model.sfm"]
