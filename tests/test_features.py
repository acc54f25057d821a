import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from sfmts import SFMFeatures
from sfmts.kernels import SUMMARIES
from tests.helpers import make_panel
from tests.test_contract import copies_of

SMALL = {"n_features": 448, "random_state": 0}


def panel(n=12, n_steps=40, n_channels=2, ragged=True, seed=0):
    return make_panel(n=n, n_steps=n_steps, n_channels=n_channels, ragged=ragged, seed=seed)[0]


def with_time(X, seed=0):
    """Irregular time stamps before the channels of each series."""
    rng = np.random.default_rng(seed)
    return [np.column_stack([np.cumsum(rng.uniform(0.5, 1.5, len(x))), x]) for x in X]


TIMED = {**SMALL, "time_channel": 0}


@pytest.mark.parametrize(("asked", "given"), [(1, 56), (56 * 5, 56 * 5), (56 * 5 + 1, 56 * 6), (10_000, 10_024)])
def test_number_of_features(asked, given):
    model = SFMFeatures(n_features=asked, random_state=0)
    features = model.fit_transform(panel())
    assert features.shape == (12, given)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert model.n_features_out_ == given == len(model.feature_info_) == len(set(model.get_feature_names_out()))


def test_number_of_jobs_does_not_matter():
    X = panel(n=40)
    expected = SFMFeatures(**SMALL).fit_transform(X)
    np.testing.assert_array_equal(SFMFeatures(**SMALL, n_jobs=3).fit_transform(X), expected)


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_backends_agree(backend):
    X = panel(n=6)
    expected = SFMFeatures(**SMALL).fit(X)
    model = SFMFeatures(**SMALL, backend=backend).fit(X)
    assert (expected.backend_, model.backend_) == ("native", backend)
    odd = np.abs(model.transform(X) - expected.transform(X)) > 1e-3  # outputs within rounding of a threshold
    assert odd.mean() < 0.01


# -- missing steps, lengths and time


def test_a_gap_is_interpolated():
    X = panel()
    model = SFMFeatures(**SMALL).fit(X)
    gap, line = X[3].copy(), X[3].copy()
    gap[5:12, 1] = np.nan
    line[5:12, 1] = np.interp(np.arange(5, 12), [4, 12], X[3][[4, 12], 1])
    np.testing.assert_allclose(model.transform([gap]), model.transform([line]), atol=1e-6)


def test_a_gap_is_interpolated_in_time():
    X = with_time(panel())
    model = SFMFeatures(**TIMED).fit(X)
    gap, line = X[3].copy(), X[3].copy()
    gap[5:12, 1:] = np.nan
    for channel in (1, 2):
        line[5:12, channel] = np.interp(line[5:12, 0], X[3][[4, 12], 0], X[3][[4, 12], channel])
    np.testing.assert_allclose(model.transform([gap]), model.transform([line]), atol=1e-6)


def test_padding_with_nan_is_no_series():
    X = panel()
    longest = max(map(len, X))
    padded = np.full((len(X), longest + 3, 2), np.nan)
    for row, x in zip(padded, X, strict=True):
        row[2 : 2 + len(x)] = x
    model = SFMFeatures(**SMALL).fit(X)
    np.testing.assert_array_equal(model.transform(padded), model.transform(X))
    np.testing.assert_array_equal(SFMFeatures(**SMALL).fit_transform(padded), model.transform(X))


def test_ends_of_a_channel_are_held_and_a_channel_never_observed_has_the_mean():
    X = panel()
    model = SFMFeatures(**SMALL).fit(X)
    x, held = X[0].copy(), X[0].copy()
    x[:4, 0], held[:4, 0] = np.nan, x[4, 0]
    x[-3:, 1], held[-3:, 1] = np.nan, x[-4, 1]
    np.testing.assert_array_equal(model.transform([x]), model.transform([held]))
    dead, mean = X[0].copy(), X[0].copy()
    dead[:, 1], mean[:, 1] = np.nan, np.concatenate(X)[:, 1].mean()
    odd = np.abs(model.transform([dead]) - model.transform([mean])) > 1e-5  # where a drive is 0 or nearly so
    assert odd.mean() < 0.01
    np.testing.assert_array_equal(model.transform([X[1], dead])[1:], model.transform([dead]))


def test_unit_time_stamps_are_the_index():
    X = panel()
    timed = [np.column_stack([np.arange(len(x)) + 17.0, x]) for x in X]
    np.testing.assert_array_equal(SFMFeatures(**TIMED).fit_transform(timed), SFMFeatures(**SMALL).fit_transform(X))


def test_time_has_no_origin_and_any_unit():
    X = with_time(panel())
    model = SFMFeatures(**TIMED).fit(X)
    shifted = [np.column_stack([x[:, 0] + 64, x[:, 1:]]) for x in X]
    np.testing.assert_allclose(model.transform(shifted), model.transform(X), atol=1e-3)
    hours = [np.column_stack([x[:, 0] * 3600, x[:, 1:]]) for x in X]
    other = SFMFeatures(**TIMED).fit(hours)
    odd = np.abs(other.transform(hours) - model.transform(X)) > 1e-4
    assert odd.mean() < 0.01


def test_a_denser_sampling_of_the_same_signal_has_nearly_the_same_features():
    X = [np.column_stack([np.arange(len(x)), x]) for x in panel(n=8, n_steps=200)]
    model = SFMFeatures(**TIMED).fit(X)
    dense = []
    for x in X:
        t = np.arange(0, len(x) - 0.5, 0.5)
        dense.append(np.column_stack([t, *(np.interp(t, x[:, 0], column) for column in x[:, 1:].T)]))
    once, twice = model.transform(X), model.transform(dense)
    spread = once.std(axis=0) + 1e-3
    assert np.median(np.abs(once - twice) / spread) < 0.1
    skipped = model.transform([x[::2] for x in X])  # as a yardstick: half of the signal
    assert np.abs(once - twice).mean() < 0.3 * np.abs(once - skipped).mean()


# -- scaling and weights


def test_scale_by_each_series_takes_level_and_size_away():
    X = panel()
    model = SFMFeatures(**SMALL, scale="series").fit(X)
    changed = [x * [3.0, 0.5] + [100.0, -7.0] for x in X]
    odd = np.abs(model.transform(changed) - model.transform(X)) > 1e-3
    assert odd.mean() < 0.01
    assert (np.abs(SFMFeatures(**SMALL).fit(X).transform(changed) - model.transform(X)) > 1e-3).mean() > 0.5


def test_scale_both_drives_with_both():
    X = panel(n_channels=3)
    model = SFMFeatures(**SMALL, scale="both").fit(X)
    assert model.channel_weights_.shape == (448, 3)
    constant = [x * 0 + x[0] for x in X]
    assert np.isfinite(model.transform(constant)).all()


# -- what features are


def test_info_names_periods_channels_and_summaries():
    X = panel(n=20, n_steps=64, ragged=False, n_channels=3)
    model = SFMFeatures(n_features=4000, random_state=0).fit(X)
    info, weights = model.feature_info_, model.channel_weights_
    finite = np.isfinite(info["period"])
    assert 0.9 < finite.mean() < 0.98
    assert info["period"][finite].min() >= 2.5
    assert info["period"][finite].max() <= 64
    ratio = info["decay_time"][finite] / info["period"][finite]
    assert (ratio.min() >= 0.15) & (ratio.max() <= 2.0)
    assert set(info["summary"]) == set(SUMMARIES)
    assert set(info["drive"]) == {"value", "slope"}
    assert set(info["direction"]) == {"forward", "backward"}
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_array_equal(weights.argmax(axis=1), info["channel"])
    assert len(np.unique(info["channel"])) == 3


def test_a_channel_without_weight_changes_nothing():
    X = panel(n_channels=3)
    model = SFMFeatures(n_features=4000, random_state=0).fit(X)
    changed = [np.column_stack([x[:, :2], x[::-1, 2] + 0.3]) for x in X]
    same = (model.transform(X) == model.transform(changed)).all(axis=0)
    alone = np.isin(model.feature_info_["summary"], ["share", "longest", "moment"])  # others depend on the group
    unweighted = model.channel_weights_[:, 2] == 0
    assert same[alone & unweighted].all()
    assert same[alone & ~unweighted].mean() < 0.3


def test_periods_and_directions_are_as_asked():
    X = panel()
    model = SFMFeatures(**SMALL, periods=(5, 9), decays=(1, 1), directions="forward").fit(X)
    info = model.feature_info_
    finite = np.isfinite(info["period"])
    assert info["period"][finite].min() >= 5
    assert info["period"][finite].max() <= 9
    np.testing.assert_allclose(info["decay_time"][finite], info["period"][finite])
    assert set(info["direction"]) == {"forward"}


def test_output_of_pandas_and_unions():
    X = panel(ragged=False)
    frame = SFMFeatures(**SMALL).set_output(transform="pandas").fit_transform(X)
    assert list(frame.columns) == list(SFMFeatures(**SMALL).fit(X).get_feature_names_out())
    union = FeatureUnion([("a", SFMFeatures(**SMALL)), ("b", SFMFeatures(n_features=56, random_state=1))])
    assert make_pipeline(union, StandardScaler()).fit_transform(X).shape == (12, 448 + 56)


def test_copies_keep_what_features_are(tmp_path):
    X = with_time(panel())
    model = SFMFeatures(**TIMED).fit(X)
    for copied in copies_of(model, tmp_path / "model"):
        np.testing.assert_array_equal(copied.transform(X), model.transform(X))
        np.testing.assert_array_equal(copied.feature_info_, model.feature_info_)


# -- errors

X_OK = panel()
NAN = [np.full((5, 2), np.nan), *X_OK]
DEAD = [np.column_stack([x[:, 0], np.full(len(x), np.nan)]) for x in X_OK]


@pytest.mark.parametrize(
    ("parameters", "X", "message"),
    [
        ({"periods": (9, 5)}, X_OK, r"periods must be given as \(least, greatest\)"),
        ({"periods": (0, 5)}, X_OK, r"periods must be a pair \(least, greatest\) of positive numbers"),
        ({"decays": (1,)}, X_OK, "decays must be a pair"),
        ({"decays": (None, 1)}, X_OK, "decays must be two numbers"),
        ({"n_features": 0}, X_OK, "'n_features' parameter"),
        ({"scale": "none"}, X_OK, "'scale' parameter"),
        ({"device": "tpu"}, X_OK, "Unknown device"),
        ({}, NAN, "Series 0 of X has no observation"),
        ({}, DEAD, "Channel 1 of X is NaN in every series"),
        ({}, [np.array([[np.inf], [1.0]])], "contains infinity: series 0, step 0, channel 0. Replace it"),
        ({"time_channel": 0.5}, X_OK, "'time_channel' parameter"),
        ({"time_channel": 5}, X_OK, "time_channel=5 is out of range"),
        ({"time_channel": 0}, [np.array([[0.0, 1], [0, 2], [1, 3]])], "two steps at time 0"),
        ({"time_channel": 0}, [np.array([[0.0], [1], [2]])], "only time stamps"),
        ({"time_channel": 0}, [np.array([[0.0, 1], [np.nan, 2]])], "must not be missing"),
    ],
)
def test_invalid_input_is_named_and_an_earlier_fit_stays(parameters, X, message):
    model = SFMFeatures(**SMALL).fit(X_OK)
    expected = model.transform(X_OK)
    other = clone(model).set_params(**parameters)
    other.__dict__.update({name: value for name, value in vars(model).items() if name.endswith("_") or name[0] == "_"})
    before = vars(other).copy()
    with pytest.raises(ValueError, match=message):
        other.fit(X)
    assert vars(other) == before
    np.testing.assert_array_equal(model.transform(X_OK), expected)


def test_steps_of_any_duration_give_numbers_or_a_sentence():
    X = [np.column_stack([np.arange(len(x)) * 0.1, x]) for x in X_OK]
    model = SFMFeatures(**TIMED).fit(X)
    regular = SFMFeatures(**SMALL).fit(X_OK)
    np.testing.assert_array_equal(model.transform(X), regular.transform(X_OK))  # 0.1 is no number in binary
    tiny, long = X[0].copy(), X[0].copy()
    tiny[1:, 0] = tiny[0, 0] + np.arange(1, len(tiny)) * 1e-300
    long[3:, 0] += 1e7
    assert np.isfinite(model.transform([tiny, long])).all()
    long[-1, 0] = 1e300
    with pytest.raises(ValueError, match=r"lasts 1e\+301 times as long as a typical step"):
        model.transform([long])


def test_fill_values_are_refused():
    model = SFMFeatures(**SMALL).fit(X_OK)
    x = X_OK[0].copy()
    x[3, 1] = 9.96921e36
    with pytest.raises(ValueError, match=r"standard deviations from the mean of the training series.*mark missing"):
        model.transform([x])


# -- streams

FORWARD = {"directions": "forward"}


@pytest.mark.parametrize("timed", [False, True])
def test_a_stream_equals_transform_of_the_prefix(timed):
    X = with_time(panel()) if timed else panel()
    model = SFMFeatures(**(TIMED if timed else SMALL), **FORWARD).fit(X)
    x = X[2].copy()
    x[6:9, int(timed) :] = np.nan
    stream = model.stream()
    for step in range(len(x)):
        stream.update(x[step])
        expected = model.transform([x[: step + 1]])[0]
        np.testing.assert_allclose(stream.features(), expected, rtol=1e-5, atol=1e-5)
    assert stream.n_steps == len(x)


def test_streams_do_not_share_their_state():
    X = panel()
    model = SFMFeatures(**SMALL, **FORWARD).fit(X)
    a, b = model.stream(), model.stream()
    for first, second in zip(X[0], X[1], strict=False):
        a.update(first)
        b.update(second)
    np.testing.assert_allclose(a.features(), model.transform([X[0][: len(X[1])]])[0], atol=1e-5)


def test_a_stream_refuses_what_it_cannot_read_and_stays_as_it_was():
    X = with_time(panel())
    model = SFMFeatures(**TIMED, **FORWARD).fit(X)
    stream = model.stream()
    with pytest.raises(ValueError, match="no observation yet"):
        stream.features()
    stream.update(X[0][0])
    expected = stream.features()
    for step, message in [
        (X[0][0], "must be finite and increase"),
        ([np.nan, 1.0, 1.0], "must be finite and increase"),
        ([99.0, 1.0], "has 2 channels, but the features were fitted with 3"),
        ([99.0, np.nan, 1.0], "Channel 0 of the step is NaN, but others are not"),
        ([99.0, 1e300, 1.0], "standard deviations"),
        ([99.0, np.inf, 1.0], "standard deviations"),
    ]:
        with pytest.raises(ValueError, match=message):
            stream.update(step)
    np.testing.assert_array_equal(stream.features(), expected)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({}, "needs directions='forward'"), ({**FORWARD, "scale": "series"}, "needs scale='train'")],
)
def test_a_stream_needs_a_causal_bank(parameters, message):
    with pytest.raises(ValueError, match=message):
        SFMFeatures(**SMALL, **parameters).fit(X_OK).stream()
