"""Bad input gets a sentence that names the mistake, what was seen, and what would be right."""

import re
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import NotFittedError

from sfmts import PanelScaler, SFMClassifier, SFMRidgeClassifier, SFMRidgeRegressor
from sfmts.kernels import BACKENDS
from tests.helpers import NETWORKS, make_panel

pytestmark = pytest.mark.filterwarnings("error:::sfmts")

FORMS = ["2-D", "3-D", "ragged"]
N = 12


def panel(form):
    X, y = make_panel(n=N, ragged=form == "ragged")
    return (X[:, :, 0] if form == "2-D" else X), y


def tiny(**options):
    return SFMClassifier(**{"n_states": 3, "n_frequencies": 2, "max_iter": 1, "random_state": 0, **options})


def spoilt(X, series, step, value):
    """A copy of X with ``value`` in the last channel."""
    if isinstance(X, list):
        return [item if number != series else spoilt(item[None], 0, step, value)[0] for number, item in enumerate(X)]
    kind = object if isinstance(value, str) else np.result_type(X, np.asarray(value))
    X = X.astype(kind)
    X[(series, step, *[-1] * (X.ndim - 2))] = value
    return X


def used_by(method, form):
    """What takes X first: the fit of a new classifier, or a method of a fitted one."""
    X, y = panel(form)
    if method == "fit":
        return lambda bad: tiny().fit(bad, y)
    if method == "scaler":
        return PanelScaler().fit
    return getattr(tiny().fit(X, y), method)


FIT_AND_PREDICT = ["fit", "predict", "state_amplitudes", "scaler"]


@pytest.mark.parametrize("method", FIT_AND_PREDICT)
class TestX:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")], ids=str)
    def test_not_finite(self, method, form, value, name):
        channel = 0 if form == "2-D" else 1
        with pytest.raises(ValueError, match=rf"X contains {name}: series 3, step 2, channel {channel}\. Fill or drop"):
            used_by(method, form)(spoilt(panel(form)[0], 3, 2, value))

    @pytest.mark.parametrize("form", FORMS)
    def test_complex(self, method, form):
        with pytest.raises(ValueError, match=r"Complex data not supported.*two channels"):
            used_by(method, form)(spoilt(panel(form)[0], 3, 2, 1j))

    @pytest.mark.parametrize("form", FORMS)
    def test_words(self, method, form):
        with pytest.raises(ValueError, match=r"X must hold numbers.*'word'"):
            used_by(method, form)(spoilt(panel(form)[0], 3, 2, "word"))

    @pytest.mark.parametrize(
        ("form", "X", "message"),
        [
            pytest.param(
                "3-D", np.empty((0, 5, 2)), r"shape \(0, 5, 2\) with 0 series; at least one is required", id="3-D"
            ),
            pytest.param("2-D", np.empty((0, 12)), r"0 sample\(s\) \(shape=\(0, 12\)\)", id="2-D"),
            pytest.param("ragged", [], "X.*(0|no) series.*at least one", id="list"),
            pytest.param("ragged", (), "X.*(0|no) series.*at least one", id="tuple"),
        ],
    )
    def test_no_series(self, method, form, X, message):
        with pytest.raises(ValueError, match=message):
            used_by(method, form)(X)

    @pytest.mark.parametrize(
        ("form", "X", "message"),
        [
            pytest.param(
                "3-D", np.empty((N, 0, 2)), rf"shape \({N}, 0, 2\) with 0 time steps; at least one", id="3-D steps"
            ),
            pytest.param(
                "3-D", np.empty((N, 5, 0)), rf"shape \({N}, 5, 0\) with 0 channels; at least one", id="3-D channels"
            ),
            pytest.param("2-D", np.empty((N, 0)), rf"0 feature\(s\) \(shape=\({N}, 0\)\)", id="2-D steps"),
            pytest.param(
                "ragged",
                [*[np.ones((4, 2))] * 3, np.empty((0, 2)), *[np.ones((5, 2))] * (N - 4)],
                "Series 3 of X has length 0; at least one time step is required",
                id="list steps",
            ),
            pytest.param(
                "ragged",
                [np.ones(4), np.ones(5), np.empty(0), *[np.ones(3)] * (N - 3)],
                "Series 2 of X has length 0; at least one time step is required",
                id="list steps 1-D",
            ),
            pytest.param(
                "ragged",
                [np.ones((4 + number, 0)) for number in range(N)],
                r"Series 0 of X has 0 channels; at least one is required",
                id="list channels",
            ),
        ],
    )
    def test_nothing_in_it(self, method, form, X, message):
        with pytest.raises(ValueError, match=message):
            used_by(method, form)(X)

    @pytest.mark.parametrize("form", FORMS)
    def test_one_dimension(self, method, form):
        with pytest.raises(ValueError, match=r"(?s)1D array.*Reshape your data.*reshape\(1, -1\).*single sample"):
            used_by(method, form)(np.arange(12.0))

    @pytest.mark.parametrize(
        "X", [np.zeros((N, 4, 2, 1)), [np.zeros((4, 2, 1))] * N], ids=["array", "list of three-dimensional"]
    )
    def test_four_dimensions(self, method, X):
        with pytest.raises(ValueError, match=r"X has (4 dimensions|shape \(12, 4, 2, 1\)).*\(n, T\).*\(n, T, C\)"):
            used_by(method, "3-D")(X)

    def test_list_of_unequal_dimensions(self, method):
        X, _ = panel("ragged")
        with pytest.raises(
            ValueError, match=r"list of series with \[1, 2\] dimensions, but all must be two-dimensional"
        ):
            used_by(method, "ragged")([*X[:-1], np.zeros(4)])

    @pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array])
    def test_sparse(self, method, kind):
        with pytest.raises(TypeError, match=r"Sparse data was passed for X, but dense data is required.*toarray"):
            used_by(method, "2-D")(kind(np.eye(12)))

    @pytest.mark.parametrize("X", [None, "series.csv", 3.0, {"a": [1.0]}], ids=["None", "str", "number", "dict"])
    def test_no_series_at_all(self, method, X):
        with pytest.raises((TypeError, ValueError), match=rf"\bX\b.*({type(X).__name__}|scalar)"):
            used_by(method, "3-D")(X)

    @pytest.mark.parametrize(
        "X",
        [
            [[[1.0, 2.0], [3.0]]] * N,
            pd.DataFrame({"a": [pd.Series([1.0, 2.0])] * N}),
        ],
        ids=["unequal steps", "nested data frame"],
    )
    def test_sequences_for_numbers(self, method, X):
        with pytest.raises(ValueError, match=r"X holds sequences instead of numbers.*sfmts\.sktime"):
            used_by(method, "2-D")(X)

    @pytest.mark.parametrize(
        "X", [(x for x in range(N)), set(range(N)), OrderedDict(a=1)], ids=lambda X: type(X).__name__
    )
    def test_other_collections(self, method, X):
        with pytest.raises(TypeError, match=rf"X must hold numbers.*{type(X).__name__}"):
            used_by(method, "2-D")(X)

    def test_panel_of_pandas(self, method):
        index = pd.MultiIndex.from_product([range(N), range(12)])
        with pytest.raises(TypeError, match=r"index has several levels.*list of arrays.*sfmts\.sktime"):
            used_by(method, "2-D")(pd.DataFrame({"a": np.ones(N * 12)}, index=index))

    def test_channels_differ_within_a_list(self, method):
        X, _ = panel("ragged")
        with pytest.raises(ValueError, match=r"Series 3 of X has 3 channels, but series 0 has 2\.$"):
            used_by(method, "ragged")([*X[:3], np.zeros((7, 3)), *X[4:]])

    def test_one_series_of_a_list_is_swapped(self, method):
        X, _ = panel("ragged")
        with pytest.raises(ValueError, match=r"Series 3 of X has \d+ channels.*other axis would match.*layout='nct'"):
            used_by(method, "ragged")([*X[:3], X[3].T, *X[4:]])

    def test_all_series_of_a_list_are_swapped(self, method):
        X, _ = panel("ragged")
        with pytest.raises(ValueError, match=r"other axis.*layout='nct'"):
            used_by(method, "ragged")([series.T for series in X])

    def test_all_series_of_a_list_are_swapped_the_other_way(self, method):
        X, y = panel("ragged")
        swapped = [series.T for series in X]
        options = {"layout": "nct"}
        uses = {"fit": lambda bad: tiny(**options).fit(bad, y), "scaler": PanelScaler(**options).fit}
        use = uses.get(method) or getattr(tiny(**options).fit(swapped, y), method)
        with pytest.raises(ValueError, match=r"other axis.*layout='ntc'"):
            use(X)


@pytest.mark.parametrize("method", ["fit", "scaler"])
@pytest.mark.parametrize("form", FORMS)
def test_too_large_for_a_variance(method, form):
    X, _ = panel(form)
    X = [1e200 * series for series in X] if form == "ragged" else 1e200 * X
    with pytest.raises(
        ValueError, match=r"Channel 0 holds values up to 1\.\d*e\+200.*Divide the channel by a constant"
    ):
        used_by(method, form)(X)


class TestChannelsAtPredict:
    @pytest.mark.parametrize(
        "method", ["predict", "predict_proba", "decision_function", "state_amplitudes", "transform"]
    )
    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_other_number(self, method, form):
        X, y = panel(form)
        estimator = PanelScaler() if method == "transform" else tiny()
        bad = [np.column_stack([series, series[:, 0]]) for series in X]
        name = type(estimator).__name__
        with pytest.raises(ValueError, match=rf"X has 3 channels, but {name} was fitted with 2\.$"):
            getattr(estimator.fit(X, y), method)(np.stack(bad) if form == "3-D" else bad)

    @pytest.mark.parametrize("X", [np.zeros((4, 2, 9)), [np.zeros((2, 9))] * 4], ids=["array", "list"])
    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_the_other_axis_would_match(self, form, X):
        model = tiny().fit(*panel(form))
        message = r"X has 9 channels, but SFMClassifier was fitted with 2\. The other axis of X would match.*layout"
        with pytest.raises(ValueError, match=message):
            model.predict(X)

    def test_width_of_a_table(self):
        model = tiny().fit(*panel("2-D"))
        with pytest.raises(ValueError, match="X has 5 features, but SFMClassifier is expecting 12 features"):
            model.predict(np.zeros((4, 5)))

    @pytest.mark.parametrize("X", [np.zeros((4, 12)), np.zeros((12, 2))], ids=["table", "single series"])
    def test_two_dimensions_where_there_were_two_channels(self, X):
        model = tiny().fit(*panel("3-D"))
        message = r"X has 1 channels, but SFMClassifier was fitted with 2\. .*Pass a single series as X\[np.newaxis\]"
        with pytest.raises(ValueError, match=message):
            model.predict(X)


@pytest.mark.parametrize("form", FORMS)
class TestY:
    @pytest.mark.parametrize("length", [0, 5, N + 1])
    def test_length(self, form, length):
        X, _ = panel(form)
        with pytest.raises(ValueError, match=rf"inconsistent numbers of samples: X has {N} series, y {length} labels"):
            tiny().fit(X, np.zeros(length, dtype=int))

    def test_none(self, form):
        X, _ = panel(form)
        with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
            tiny().fit(X, None)

    @pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # scikit-learn's own
    @pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity")])
    def test_not_finite(self, form, value, name):
        X, y = panel(form)
        with pytest.raises(ValueError, match=rf"Input y contains .*{name}"):
            tiny().fit(X, np.where(y == 1, value, 0.0))

    @pytest.mark.parametrize("missing", [None, np.nan], ids=str)
    def test_missing_among_words(self, form, missing):
        X, y = panel(form)
        with pytest.raises((TypeError, ValueError), match=r"\by\b.*(missing|NaN|None)"):
            tiny().fit(X, np.array(["up", missing], dtype=object)[y])

    def test_words_and_numbers(self, form):
        X, y = panel(form)
        with pytest.raises(
            (TypeError, ValueError), match=r"\by\b.*(int.*str|str.*int|strings.*numbers|numbers.*strings)"
        ):
            tiny().fit(X, np.array(["up", 1], dtype=object)[y])

    def test_continuous(self, form):
        X, _ = panel(form)
        with pytest.raises(ValueError, match=r"Unknown label type: continuous.*discrete classes"):
            tiny().fit(X, np.linspace(0, 1, N))

    def test_two_columns(self, form):
        X, y = panel(form)
        with pytest.raises(ValueError, match=rf"y should be a 1d array, got an array of shape \({N}, 2\)"):
            tiny().fit(X, np.column_stack([y, y]))


class TestParameters:
    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    @pytest.mark.parametrize(
        ("name", "value", "right"),
        [
            ("optimizer", "nope", ["adam", "sgd", "rmsprop", "adadelta"]),
            ("head", "nope", ["linear", "none"]),
            ("pooling", "nope", ["last", "mean"]),
            ("layout", "tnc", ["ntc", "nct"]),
            ("class_weight", "nope", ["balanced", "dict"]),
            ("n_states", 0, ["int", "[1, inf)"]),
            ("n_states", 2.5, ["int", "[1, inf)"]),
            ("n_frequencies", 0, ["int", "[1, inf)"]),
            ("n_layers", 0, ["int", "[1, inf)", "None"]),
            ("max_iter", 0, ["int", "[1, inf)"]),
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
            ("time_channel", "last", ["int", "None"]),
            ("network_params", "nope", ["dict", "None"]),
            ("optimizer_params", "nope", ["dict", "None"]),
        ],
    )
    def test_value(self, method, name, value, right):
        X, y = panel("3-D")
        model = tiny(**{name: value})
        with pytest.raises(ValueError, match=f"'{name}' parameter of SFMClassifier must be") as caught:
            model.fit(X, y) if method == "fit" else model.partial_fit(X, y, classes=[0, 1])
        message = str(caught.value)
        assert f"Got {value!r} instead" in message
        for choice in right:
            assert choice in message

    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    @pytest.mark.parametrize(
        ("name", "value", "right"),
        [
            ("schedule", "nope", ["constant", "cosine"]),
            ("weight_decay", -1.0, ["float", "[0.0, inf)"]),
            ("weight_decay", None, ["float", "[0.0, inf)"]),
            ("clip_norm", 0.0, ["float", "(0.0, inf)", "None"]),
        ],
    )
    def test_value_in_optimizer_params(self, method, name, value, right):
        X, y = panel("3-D")
        model = tiny(optimizer_params={name: value})
        with pytest.raises(ValueError, match=f"'{name}' parameter of optimizer_params must be") as caught:
            model.fit(X, y) if method == "fit" else model.partial_fit(X, y, classes=[0, 1])
        message = str(caught.value)
        assert f"Got {value!r} instead" in message
        for choice in right:
            assert choice in message

    @pytest.mark.parametrize("name", ["learning_rate", "momentum", 3])
    def test_unknown_name_in_optimizer_params(self, name):
        known = "it takes 'weight_decay', 'clip_norm', 'schedule'"
        with pytest.raises(ValueError, match=f"optimizer_params has {name!r}, which is unknown; {known}"):
            tiny(optimizer_params={name: 1}).fit(*panel("3-D"))

    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    @pytest.mark.parametrize(
        ("name", "value", "right"),
        [
            ("backend", "nope", BACKENDS),
            ("memory", "nope", ["fast", "recompute"]),
            ("init", "nope", ["modern", "chrono", "paper", "authors"]),
            ("frequencies", "nope", ["fixed", "learned", "adaptive"]),
            ("time", "nope", ["index", "normalized", "timestamps"]),
            ("phase", "nope", ["product", "accumulated"]),
            ("n_outputs", 0, ["at least 1, not 0"]),
            ("n_outputs", 2.5, ["an integer, not 2.5"]),
            ("recurrent_dropout", -0.1, ["at least 0 and less than 1"]),
        ],
    )
    def test_value_in_network_params(self, method, name, value, right):
        X, y = panel("3-D")
        model = tiny(network_params={name: value})
        with pytest.raises((ValueError, TypeError), match=name) as caught:
            model.fit(X, y) if method == "fit" else model.partial_fit(X, y, classes=[0, 1])
        message = str(caught.value)
        assert str(value) in message
        for choice in right:
            assert choice in message

    def test_network(self):
        with pytest.raises(ValueError, match="Unknown network 'nope'; choose one of") as caught:
            tiny(network="nope").fit(*panel("3-D"))
        for name in NETWORKS:
            assert repr(name) in str(caught.value)

    @pytest.mark.parametrize("device", ["nonsense", "", "cuda:x", "cpu:cpu"])
    def test_device_that_is_no_device(self, device):
        with pytest.raises(ValueError, match=f"Unknown device {device!r}; choose 'auto', 'cpu', 'cuda'"):
            tiny(device=device).fit(*panel("3-D"))

    @pytest.mark.parametrize("device", ["meta", "mps"])
    def test_device_that_does_not_serve(self, device):
        with pytest.raises(ValueError, match=f"device={device!r} is not supported; choose 'auto', 'cpu', 'cuda'"):
            tiny(device=device).fit(*panel("3-D"))

    @pytest.mark.parametrize("device", ["cuda", "cuda:0"])
    def test_device_that_is_not_there(self, device, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        message = (
            f"device={device!r} was requested, but PyTorch sees 0 CUDA devices. Use device='cpu', or device='auto'"
        )
        with pytest.raises(ValueError, match=message):
            tiny(device=device).fit(*panel("3-D"))

    def test_device_beyond_the_last(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        with pytest.raises(ValueError, match="device='cuda:2' was requested, but PyTorch sees 2 CUDA devices"):
            tiny(device="cuda:2").fit(*panel("3-D"))

    @pytest.mark.parametrize("network", NETWORKS)
    def test_no_head_on_two_directions(self, network):
        with pytest.raises(ValueError, match=r"head='none'.*bidirectional.*Use head='linear'"):
            tiny(network=network, head="none", bidirectional=True).fit(*panel("3-D"))

    def test_no_head_on_a_network_of_another_width(self):
        with pytest.raises(ValueError, match=r"head='none'.*n_outputs=1 is needed here, but the output has width 3"):
            tiny(network="lstm", head="none").fit(*panel("3-D"))

    @pytest.mark.parametrize("form", ["3-D", "ragged"])
    def test_too_few_series_for_early_stopping(self, form):
        X, y = panel(form)
        with pytest.raises(
            ValueError, match=r"early_stopping=True cannot set validation_fraction=0.1 of 3 series aside.*more series"
        ):
            tiny(early_stopping=True).fit(X[:3], y[:3])

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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", [tiny(), PanelScaler()], ids=lambda estimator: type(estimator).__name__)
class TestWeights:
    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            pytest.param(np.where(np.arange(N) == 3, -1.0, 1.0), "Negative values.*sample_weight", id="negative"),
            pytest.param(np.zeros(N), "(?i)sample.weight.*zero", id="all zero"),
            pytest.param(np.ones(5), r"sample_weight.shape == \(5,\), expected \(12,\)", id="too short"),
            pytest.param(np.full(N, np.nan), "sample_weight contains NaN", id="NaN"),
            pytest.param(np.full(N, np.inf), "sample_weight contains infinity", id="infinity"),
            pytest.param(np.ones((N, 2)), "Sample weights must be 1D array.*got 2D array", id="2-D"),
        ],
    )
    def test_weights(self, form, estimator, weights, message):
        X, y = panel(form)
        with pytest.raises(ValueError, match=message):
            estimator.fit(X, y, sample_weight=weights)


@pytest.mark.parametrize(
    "method",
    [
        "predict",
        "predict_proba",
        "predict_log_proba",
        "decision_function",
        "state_amplitudes",
        "to_torch",
        "save",
        "score",
    ],
)
def test_not_fitted(method, tmp_path):
    X, y = panel("3-D")
    arguments = {"to_torch": (), "save": (tmp_path / "model",), "score": (X, y)}.get(method, (X,))
    with pytest.raises(NotFittedError, match="SFMClassifier instance is not fitted yet"):
        getattr(tiny(), method)(*arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_scaler_not_fitted(method):
    with pytest.raises(NotFittedError, match="PanelScaler instance is not fitted yet"):
        getattr(PanelScaler(), method)(panel("3-D")[0])


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


@pytest.mark.parametrize("cls", [SFMClassifier, SFMRidgeClassifier, PanelScaler])
def test_column_names_of_frames_are_compared(cls):
    X, y = make_panel(n=N, ragged=True)
    frames = [pd.DataFrame(x, columns=["left", "right"]) for x in X]
    model = cls(**({"max_iter": 1} if cls is SFMClassifier else {})).fit(frames, y)
    use = model.transform if cls is PanelScaler else model.predict
    use(frames)
    use(X)  # arrays have no names
    swapped = [frame[["right", "left"]] for frame in frames]
    with pytest.raises(ValueError, match=r"Series 0 of X has the columns \['right', 'left'\], but \['left', 'right'\]"):
        use(swapped)
    with pytest.raises(ValueError, match="Series 3 of X has the columns"):
        cls().fit([*frames[:3], swapped[3], *frames[4:]], y)


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


def test_records_dates_and_weights_that_are_no_numbers():
    X, y = make_panel(n=N)
    records = np.zeros((N, 5), dtype=[("a", float), ("b", float)])
    with pytest.raises(ValueError, match="holds records of"):
        tiny().fit(records, y)
    dates = list(np.arange("2020-01-01", "2020-01-13", dtype="datetime64[D]"))
    with pytest.raises(ValueError, match="y must hold numbers, but holds datetime64"):
        SFMRidgeRegressor(56).fit(X, dates)
    with pytest.raises(ValueError, match="sample_weight must be finite, but is nan"):
        tiny().fit(X, y, sample_weight=np.nan)


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


@pytest.mark.parametrize(
    ("X", "message"),
    [
        pytest.param(
            [sparse.csr_matrix(np.ones((4, 2)))] * 4,
            "Sparse data was passed for X, but dense",
            id="list of sparse matrices",
        ),
        pytest.param([pd.DataFrame({"a": [1, pd.NA, 3]})] * 4, "holds pd.NA; convert", id="pd.NA"),
        pytest.param([[10**400, 1], [1, 2], [2, 3], [3, 4]], "integer that is too large", id="10**400"),
        pytest.param(torch.zeros(4, 6, 2).to_sparse(), "tensor that is torch.sparse_coo", id="sparse tensor"),
        pytest.param(torch.zeros(4, 6, 2, device="meta"), "that is torch.strided meta", id="meta tensor"),
        pytest.param([torch.zeros(6, 2, device="meta")] * 4, "that is torch.strided meta", id="meta tensors"),
    ],
)
def test_containers_that_hold_no_plain_numbers(X, message):
    for estimator in (tiny(), SFMRidgeClassifier(56), PanelScaler()):
        with pytest.raises((ValueError, TypeError), match=message):
            estimator.fit(X, [0, 1, 0, 1])


def test_nullable_columns_without_missing_values_are_numbers():
    X, y = make_panel(n=N, ragged=True)
    frames = [pd.DataFrame(x).convert_dtypes() for x in X]
    np.testing.assert_allclose(tiny().fit(frames, y).predict_proba(frames), tiny().fit(X, y).predict_proba(X))
    gaps = [pd.DataFrame({"a": pd.array([1.5, None, 2.0, 1.0], dtype="Float64")})] * 4
    assert np.isfinite(SFMRidgeClassifier(56, random_state=0).fit(gaps, [0, 1, 0, 1]).predict_proba(gaps)).all()
