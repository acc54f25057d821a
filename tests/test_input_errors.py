"""Bad input gets a sentence that names the mistake; what all estimators say is in test_contract.py."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from sfmts import SFMClassifier, SFMRegressor, SFMRidgeClassifier, SFMRidgeRegressor
from sfmts.kernels import BACKENDS
from tests.helpers import NETWORKS, make_panel

pytestmark = pytest.mark.filterwarnings("error:::sfmts")

FORMS = ["2-D", "3-D", "ragged"]
N = 12


def panel(form):
    X, y = make_panel(n=N, ragged=form == "ragged")
    return (X[:, :, 0] if form == "2-D" else X), y


def tiny(**options):
    small = {"n_states": 3, "n_frequencies": 2, "max_iter": 1, "random_state": 0}
    return SFMClassifier(**{"network": "sfm", "base": None, "pooling": "last", **small, **options})


@pytest.mark.parametrize("form", FORMS)
def test_labels(form):
    X, y = panel(form)
    mixed = r"\by\b.*(int.*str|str.*int|strings.*numbers|numbers.*strings)"
    for labels, message in [
        (np.array(["up", None], dtype=object)[y], r"\by\b.*(missing|NaN|None)"),
        (np.array(["up", np.nan], dtype=object)[y], r"\by\b.*(missing|NaN|None)"),
        (np.array(["up", 1], dtype=object)[y], mixed),
        (np.linspace(0, 1, N), r"Unknown label type: continuous.*discrete classes"),
        (np.column_stack([y, y]), rf"y should be a 1d array, got an array of shape \({N}, 2\)"),
        *((np.zeros(n, dtype=int), rf"inconsistent.*X has {N} series, y {n} labels") for n in (0, 5, N + 1)),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            tiny().fit(X, labels)


# Name, value, and what the message calls right; what all estimators take is in test_contract.py.
OWN = [
    ("pooling", "nope", ["last", "mean", "max", "all"]),
    ("class_weight", "nope", ["balanced", "dict"]),
    ("time_channel", "last", ["int", "None"]),
    ("max_iter", 0, ["int", "[1, inf)"]),
]
OF_TRAINING = [
    ("schedule", "nope", ["constant", "cosine"]),
    ("weight_decay", -1.0, ["float", "[0.0, inf)"]),
    ("weight_decay", None, ["float", "[0.0, inf)"]),
    ("clip_norm", 0.0, ["float", "(0.0, inf)", "None"]),
]
OF_NETWORK = [
    ("backend", "nope", BACKENDS),
    ("memory", "nope", ["fast", "recompute"]),
    ("init", "nope", ["modern", "chrono", "paper", "authors"]),
    ("frequencies", "nope", ["fixed", "learned", "adaptive"]),
    ("time", "nope", ["index", "normalized", "timestamps"]),
    ("phase", "nope", ["product", "accumulated"]),
    ("n_outputs", 0, ["at least 1, not 0"]),
    ("n_outputs", 2.5, ["an integer, not 2.5"]),
    ("recurrent_dropout", -0.1, ["at least 0 and less than 1"]),
]
VALUES = [
    *(
        ({name: value}, f"'{name}' parameter of SFMClassifier must be", name, value, right)
        for name, value, right in OWN
    ),
    *(
        ({"optimizer_params": {name: value}}, f"'{name}' parameter of optimizer_params must be", name, value, right)
        for name, value, right in OF_TRAINING
    ),
    *(({"network_params": {name: value}}, name, name, value, right) for name, value, right in OF_NETWORK),
]


class TestParameters:
    @pytest.mark.parametrize(("parameters", "match", "name", "value", "right"), VALUES)
    def test_value(self, parameters, match, name, value, right):
        X, y = panel("3-D")
        model = tiny(**parameters)
        for fit in (lambda: model.fit(X, y), lambda: model.partial_fit(X, y, classes=[0, 1])):
            with pytest.raises((ValueError, TypeError), match=match) as caught:
                fit()
            message = str(caught.value)
            assert f"Got {value!r} instead" in message if match != name else str(value) in message
            for choice in right:
                assert choice in message

    @pytest.mark.parametrize("name", ["learning_rate", "momentum", 3])
    def test_unknown_name_in_optimizer_params(self, name):
        known = "it takes 'weight_decay', 'clip_norm', 'schedule'"
        with pytest.raises(ValueError, match=f"optimizer_params has {name!r}, which is unknown; {known}"):
            tiny(optimizer_params={name: 1}).fit(*panel("3-D"))

    def test_device(self, monkeypatch):
        X, y = panel("3-D")
        for device, message in [
            *((device, f"Unknown device {device!r}; choose") for device in ("nonsense", "", "cuda:x", "cpu:cpu")),
            *((device, f"device={device!r} is not supported; choose") for device in ("meta", "mps")),
        ]:
            with pytest.raises(ValueError, match=f"{message} 'auto', 'cpu', 'cuda'"):
                tiny(device=device).fit(X, y)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        for device in ("cuda", "cuda:0"):
            message = f"device={device!r} was requested, but PyTorch sees 0 CUDA devices. Use device='cpu', or device="
            with pytest.raises(ValueError, match=message):
                tiny(device=device).fit(X, y)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        with pytest.raises(ValueError, match="device='cuda:2' was requested, but PyTorch sees 2 CUDA devices"):
            tiny(device="cuda:2").fit(X, y)

    @pytest.mark.parametrize("network", NETWORKS)
    def test_no_head_on_two_directions(self, network):
        with pytest.raises(ValueError, match=r"head='none'.*bidirectional.*Use head='linear'"):
            tiny(network=network, head="none", bidirectional=True).fit(*panel("3-D"))

    @pytest.mark.parametrize(
        ("class_weight", "message"),
        [
            ({0: -1.0, 1: 1.0}, "class_weight.*negative"),
            ({0: 0.0, 1: 0.0}, "class_weight.*zero"),
            ({0: np.nan, 1: 1.0}, "class_weight.*(NaN|nan)"),
            ({7: 1.0}, r"classes, \[0, 1\], are not in class_weight"),
        ],
        ids=["negative", "zero", "NaN", "other classes"],
    )
    def test_class_weight(self, class_weight, message):
        with pytest.raises(ValueError, match=f"(?i){message}"):
            tiny(class_weight=class_weight).fit(*panel("3-D"))


class TestTimeStamps:
    @pytest.mark.parametrize("form", FORMS)
    def test_channel_is_not_named(self, form):
        with pytest.raises(ValueError, match="time='timestamps', but no channel with time stamps; set time_channel"):
            tiny(network_params={"time": "timestamps"}).fit(*panel(form))

    @pytest.mark.parametrize("time", ["index", "normalized", "zero_until_last"])
    def test_another_time_with_a_channel(self, time):
        with pytest.raises(ValueError, match=f"time='{time}', but time_channel=0 makes time stamps the time"):
            tiny(network_params={"time": time}, time_channel=0).fit(np.zeros((N, 5, 2)), panel("3-D")[1])

    @pytest.mark.parametrize("time", ["normalized", "zero_until_last"])
    def test_times_without_a_channel(self, time):
        X, y = panel("3-D")
        assert tiny(network_params={"time": time}).fit(X, y).module_.network.time == time
        with pytest.raises(ValueError, match=r"time='timestamps'|Unknown time"):
            tiny(network="phased_lstm", network_params={"time": time}).fit(X, y)

    @pytest.mark.parametrize("channel", [2, -3, 100])
    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_channel_is_not_there(self, form, channel):
        with pytest.raises(ValueError, match=f"time_channel={channel} is out of range: X has n_channels=2"):
            tiny(time_channel=channel).fit(*panel(form))

    @pytest.mark.parametrize("method", ["fit", "predict"])
    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_decreasing(self, method, form):
        X, y = panel(form)
        X = [np.column_stack([series, np.arange(len(series))]) for series in X]
        model = tiny(time_channel=2)
        if method == "predict":
            model.fit(X, y)
        X[3][4, 2] = 0.0
        bad = np.stack(X) if form == "3-D" else X
        with pytest.raises(ValueError, match=r"(?s)Time stamps must not decrease.*channel 2 of series 3.*Sort"):
            model.fit(bad, y) if method == "fit" else model.predict(bad)

    def test_equal_and_restarting_stamps_are_fine(self):
        X, y = panel("ragged")
        X = [np.column_stack([series, np.arange(len(series)) // 2 - number]) for number, series in enumerate(X)]
        tiny(time_channel=2).fit(X, y).predict(X)


def test_messages_do_not_print_the_data():
    """A message must stay readable, whatever the size of X."""
    X, y = panel("3-D")
    for bad in (X.astype(complex), np.zeros((N, 400, 2, 1)), np.full((N, 400), np.nan)):
        with pytest.raises(ValueError, match=re.compile(r"^.{1,600}$", re.DOTALL)):
            tiny().fit(bad, y)


# -- what a form means does not depend on the data


@pytest.mark.parametrize("cls", [SFMClassifier, SFMRidgeClassifier])
def test_a_list_of_one_dimensional_series_is_a_list_whatever_their_lengths(cls):
    X, y = make_panel(n=N, n_channels=1, ragged=True)
    options = {"random_state": 0, **({"max_iter": 1, "n_states": 3} if cls is SFMClassifier else {"n_features": 56})}
    flat = [x[:, 0] for x in X]
    model = cls(**options).fit(flat, y)
    expected = model.predict_proba(X)
    np.testing.assert_allclose(model.predict_proba(flat), expected)
    np.testing.assert_allclose(model.predict_proba(flat[:1]), expected[:1])  # lengths coincide, as there is only one
    np.testing.assert_allclose(model.predict_proba([flat[0], flat[0]]), expected[[0, 0]])
    np.testing.assert_allclose(model.predict_proba(pd.Series(flat[:1])), expected[:1])
    equal = [x[:4] for x in flat]
    assert not hasattr(cls(**options).fit(equal, y), "n_features_in_")  # it takes series of other lengths, too
    assert cls(**options).fit([list(x) for x in equal], y).n_features_in_ == 4  # a table, as in scikit-learn
    with pytest.raises(ValueError, match=r"nested list whose rows have unequal lengths.*list of arrays"):
        cls(**options).fit([list(x) for x in flat], y)


def test_masked_entries_are_missing():
    X, y = make_panel(n=N)
    mask = np.zeros(X.shape, dtype=bool)
    mask[3, 2, 1] = True
    with pytest.raises(ValueError, match="contains NaN: series 3, step 2, channel 1"):
        tiny().fit(np.ma.array(X, mask=mask), y)
    with pytest.raises(ValueError, match="contains NaN: series 3, step 2, channel 1"):
        tiny().fit([np.ma.array(x, mask=m) for x, m in zip(X, mask, strict=True)], y)
    gaps = np.where(mask, np.nan, X)
    model = SFMRidgeClassifier(56, random_state=0).fit(gaps, y)
    np.testing.assert_array_equal(model.predict_proba(np.ma.array(X, mask=mask)), model.predict_proba(gaps))
    tiny().fit(np.ma.array(X), y)  # nothing is masked


def test_targets_that_are_dates():
    X, _ = make_panel(n=N)
    dates = np.arange("2020-01-01", "2020-01-13", dtype="datetime64[D]")
    for estimator, y in [
        (SFMRidgeRegressor(56), list(dates)),
        (SFMRegressor(base=None, n_states=3, max_iter=1), dates),
    ]:
        with pytest.raises(ValueError, match=r"y must hold numbers, but holds datetime64\[D\]. Convert times"):
            estimator.fit(X, y)


def test_time_stamps_that_single_precision_cannot_tell_apart():
    X, y = make_panel(n=N)
    start = 1.7e9 + np.arange(X.shape[1])
    timed = np.concatenate([np.broadcast_to(start[:, None], (*X.shape[:2], 1)), X], axis=2)
    options = {"time_channel": 0}
    SFMRidgeClassifier(56, **options).fit(timed, y)
    for estimator in (SFMRidgeClassifier(56, **options), tiny(**options)):
        with pytest.raises(ValueError, match=r"are float32, whose resolution around 1.7e\+09 is only 128"):
            estimator.fit(timed.astype(np.float32), y)
    timed[:, :, 0] -= 1.7e9
    tiny(**options).fit(timed.astype(np.float32), y)


def test_nullable_columns_without_missing_values_are_numbers():
    X, y = make_panel(n=N, ragged=True)
    frames = [pd.DataFrame(x).convert_dtypes() for x in X]
    np.testing.assert_allclose(tiny().fit(frames, y).predict_proba(frames), tiny().fit(X, y).predict_proba(X))
    gaps = [pd.DataFrame({"a": pd.array([1.5, None, 2.0, 1.0], dtype="Float64")})] * 4
    assert np.isfinite(SFMRidgeClassifier(56, random_state=0).fit(gaps, [0, 1, 0, 1]).predict_proba(gaps)).all()
