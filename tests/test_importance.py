"""Check that contributions add up to decisions, find the truth in synthetic tasks, and are drawn as described."""

import re
import sys
from dataclasses import FrozenInstanceError

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import CenteredNorm, Normalize
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sfmts import SFMRidgeClassifier, SFMRidgeRegressor
from sfmts.features._importance import FrequencyImportance, frequency_importance
from sfmts.plotting import FrequencyImportanceDisplay

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def no_figures_left():
    plt.close("all")
    yield
    plt.close("all")


def series(n=30, n_steps=25, channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_steps, channels)).cumsum(axis=1)


def stamped(X, seed=0):
    """Put irregular time stamps into channel 1."""
    times = np.random.default_rng(seed).uniform(0.1, 0.9, size=X.shape[:2]).cumsum(axis=1)
    return np.insert(X, 1, times, axis=2)


def classifier(X, n_classes=2, **options):
    labels = np.array(["a", "b", "c", "d"])[np.arange(len(X)) % n_classes]
    return SFMRidgeClassifier(n_features=560, random_state=0, **options).fit(X, labels)


# -- contributions

CLASSIFIERS = {
    "binary": (2, series(), {}),
    "multiclass": (4, series(), {}),
    "single class": (1, series(), {}),
    "one channel": (3, series(channels=1), {}),
    "five channels": (3, series(channels=5), {}),
    "both scales": (3, series(channels=3), {"scale": "both"}),
    "time stamps": (3, stamped(series()), {"time_channel": 1}),
    "unequal lengths": (2, [one[: 10 + i] for i, one in enumerate(series(n=15))], {}),
}


def check_additive(importance, model, decisions):
    shift = decisions - model.intercept_ - model.coef_ @ model._squash.centre.astype(np.float64)
    total = importance.contributions.sum(axis=(2, 3, 4))
    scale = max(np.abs(decisions).max(), 1e-300)
    np.testing.assert_allclose(total, shift, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(importance.baseline + total, decisions, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_contributions_add_up_to_decisions(name):
    n_classes, X, options = CLASSIFIERS[name]
    model = classifier(X, n_classes, **options)
    importance = model.frequency_importance(X)
    decisions = model.decision_function(X)
    check_additive(importance, model, decisions[:, None] if decisions.ndim == 1 else decisions)
    n_outputs = n_classes if n_classes > 2 else 1
    assert importance.contributions.shape == (len(X), n_outputs, 13, 6, model.n_channels_in_)
    assert importance.outputs.tolist() == model.classes_[-n_outputs:].tolist()
    assert importance.channels.tolist() == list(range(model.n_channels_in_))


@pytest.mark.parametrize("n_targets", [1, 2])
def test_contributions_add_up_to_predicted_numbers(n_targets):
    X = series()
    y = np.stack([X.std(axis=(1, 2)), 100 + X[:, -1, 0]], axis=1)
    y = y[:, 0] if n_targets == 1 else y
    model = SFMRidgeRegressor(n_features=560, random_state=0).fit(X, y)
    importance = model.frequency_importance(X)
    check_additive(importance, model, model.predict(X).reshape(len(X), n_targets))
    assert importance.outputs.tolist() == list(range(n_targets))


def test_more_series_than_are_computed_at_once():
    X = series(n=300, n_steps=8)
    model = classifier(X[:30], 3)
    importance = model.frequency_importance(X)
    check_additive(importance, model, model.decision_function(X))
    np.testing.assert_allclose(
        importance.contributions[290:], model.frequency_importance(X[290:]).contributions, atol=1e-6
    )


def test_time_stamps_contribute_nothing():
    X = stamped(series())
    importance = classifier(X, time_channel=1).frequency_importance(X)
    assert importance.unit == "time units"
    assert not importance.contributions[..., 1].any()
    assert importance.contributions[..., [0, 2]].any(axis=(0, 1, 2, 3)).all()


def test_bins():
    X = series()
    model = classifier(X, periods=(4, 20))
    importance = model.frequency_importance(X, n_bins=5)
    finite = model.feature_info_["period"][np.isfinite(model.feature_info_["period"])]
    decays = model.feature_info_["decay_time"]
    assert importance.unit == "steps"
    assert len(importance.periods) == 7
    np.testing.assert_allclose(importance.periods[[0, 5]], [finite.min(), finite.max()])
    assert importance.periods[-1] == np.inf
    np.testing.assert_allclose(np.diff(np.log(importance.periods[:-1]), 2), 0, atol=1e-12)
    np.testing.assert_allclose(importance.decays, np.geomspace(decays.min(), decays.max(), 3))
    assert len(importance.period_labels) == 6
    assert importance.period_labels[-1] == "level"
    assert re.fullmatch(r"4(\.\d+)? to [\d.]+", importance.period_labels[0])
    assert model.frequency_importance(X, n_bins=1).contributions.shape[2:4] == (2, 1)


def test_each_feature_is_counted_in_its_bin():
    info = np.array(
        [(1.0, 1.0), (2.9, 9.0), (3.1, 9.0), (9.0, 1.0), (np.inf, 9.0)], dtype=[("period", "f8"), ("decay_time", "f8")]
    )
    z = 1.0 + np.eye(5, dtype=np.float32)  # series i differs from the mean in feature i
    coef = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 0.0, 0.0, 0.0, -1.0]])
    weights = np.array([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    importance = frequency_importance(
        iter([z[:2], z[2:]]),
        coef,
        np.array([0.5, 0.0]),
        np.ones(5),
        info,
        weights,
        n_bins=2,
        channels=["x", "y"],
        outputs=["p", "q"],
    )
    np.testing.assert_allclose(importance.periods, [1, 3, 9, np.inf])
    np.testing.assert_allclose(importance.decays, [1, 9])
    expected = np.zeros((5, 2, 3, 1, 2))
    expected[0, 0, 0, 0] = [1, 0]
    expected[1, 0, 0, 0] = [0.5, 1.5]
    expected[2, 0, 1, 0] = [0, 3]
    expected[3, 0, 1, 0] = [2, 2]
    expected[4, :, 2, 0, 0] = [5, -1]
    np.testing.assert_allclose(importance.contributions, expected, atol=1e-6)
    np.testing.assert_allclose(importance.baseline, [15.5, -1])
    assert importance.channels.tolist() == ["x", "y"]
    assert importance.outputs.tolist() == ["p", "q"]


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["none", "all"])
def test_share_of_oscillators_of_frequency_zero(share):
    class Model(SFMRidgeClassifier):
        _zero_share = share

    X = series()
    model = Model(n_features=560, random_state=0).fit(X, np.arange(30) % 3)
    importance = model.frequency_importance(X)
    assert (np.diff(importance.periods) > 0).all()
    assert importance.contributions[:, :, :-1].any() == (share == 0)
    assert importance.contributions[:, :, -1].any() == (share == 1)
    check_additive(importance, model, model.decision_function(X))


def test_contributions_are_summed_before_the_mean():
    contributions = np.random.default_rng(0).normal(size=(7, 2, 4, 3, 5))
    importance = FrequencyImportance(
        np.append(np.geomspace(1, 8, 4), np.inf),
        np.geomspace(1, 9, 4),
        np.arange(5),
        np.arange(2),
        contributions,
        np.zeros(2),
    )

    def root_mean_square(values):
        return np.sqrt((values**2).mean(axis=0))

    np.testing.assert_allclose(importance.importance, root_mean_square(contributions))
    np.testing.assert_allclose(importance.by_period(), root_mean_square(contributions.sum(axis=(3, 4))))
    np.testing.assert_allclose(importance.by_decay(), root_mean_square(contributions.sum(axis=(2, 4))))
    np.testing.assert_allclose(importance.by_channel(), root_mean_square(contributions.sum(axis=(2, 3))))
    with pytest.raises(FrozenInstanceError):
        importance.unit = "hours"


def test_single_prediction():
    X = series()
    model = classifier(X, 3)
    importance = model.frequency_importance(X[:1])
    assert len(importance.contributions) == 1
    np.testing.assert_array_equal(importance.importance, np.abs(importance.contributions[0]))
    assert (importance.contributions < 0).any()
    check_additive(importance, model, model.decision_function(X[:1]))


# -- what is found is true


def sines(periods, n, seed, channels=1):
    """Sines of random phase in noise, and an irrelevant one of period 40 and random amplitude, in every channel."""
    rng = np.random.default_rng(seed)
    t = np.arange(100)
    shape = (n, 1, channels)
    X = np.sin(2 * np.pi * t[:, None] / periods + rng.uniform(0, 2 * np.pi, size=shape))
    X += rng.uniform(0, 2, size=shape) * np.sin(2 * np.pi * t[:, None] / 40 + rng.uniform(0, 2 * np.pi, size=shape))
    return X + rng.normal(size=X.shape)


@pytest.mark.parametrize("seed", range(3))
def test_finds_the_period_that_tells_classes_apart(seed):
    y = np.repeat([8, 12], 80)
    X = sines(y[:, None, None], len(y), seed)
    model = SFMRidgeClassifier(n_features=2000, random_state=seed).fit(X[::2], y[::2])
    assert model.score(X[1::2], y[1::2]) > 0.95
    importance = model.frequency_importance(X[1::2])
    by_period = importance.by_period()[0]
    most = by_period.argmax()
    low, high = importance.periods[most : most + 2]
    assert low > 6
    assert high < 16
    irrelevant = np.searchsorted(importance.periods, 40) - 1
    assert by_period[most] > 3 * by_period[irrelevant]
    assert by_period[most] > 3 * by_period[-1]


def test_finds_the_channel_that_tells_classes_apart():
    y = np.repeat([8, 12], 80)
    periods = np.full((len(y), 1, 3), 10.0)
    periods[:, 0, 2] = y
    X = sines(periods, len(y), 0, channels=3)
    model = SFMRidgeClassifier(n_features=2000, random_state=0).fit(X[::2], y[::2])
    by_channel = model.frequency_importance(X[1::2]).by_channel()[0]
    assert by_channel.argmax() == 2
    assert by_channel[2] > 1.5 * by_channel[:2].max()


# -- errors


@pytest.mark.parametrize("model", [SFMRidgeClassifier(), SFMRidgeRegressor()], ids=lambda model: type(model).__name__)
def test_not_fitted(model):
    with pytest.raises(NotFittedError):
        model.frequency_importance(series())
    with pytest.raises(NotFittedError):
        FrequencyImportanceDisplay.from_estimator(model, series())


def test_wrong_channels():
    with pytest.raises(ValueError, match="3 channels"):
        classifier(series()).frequency_importance(series(channels=3))


@pytest.mark.parametrize("n_bins", [0, -1, 2.5, "many", True])
def test_wrong_n_bins(n_bins):
    with pytest.raises(ValueError, match=re.escape(f"n_bins must be a positive integer, but is {n_bins!r}.")):
        classifier(series()).frequency_importance(series(), n_bins=n_bins)


# -- pictures


@pytest.fixture(scope="module")
def model():
    return classifier(series(), 3)


def texts(labels):
    return [label.get_text() for label in labels]


def ticks(axis):
    axis.figure.canvas.draw()
    return [text for text in texts(axis.get_ticklabels()) if text]


def square(values):
    """Return the root mean square over outputs."""
    return np.sqrt((values**2).mean(axis=0))


def test_heatmap(model):
    X = series()
    display = FrequencyImportanceDisplay.from_estimator(model, X)
    importance = model.frequency_importance(X)
    summed = importance.contributions.sum(axis=4)
    expected = square(square(summed)).T
    shown = display.mesh_.get_array()
    assert shown.shape == (6, 14)
    assert shown.mask[:, -2].all()  # a gap before frequency zero
    cells = np.delete(np.ma.filled(shown, 0), -2, axis=1)
    np.testing.assert_allclose(cells, expected, rtol=1e-9, atol=1e-300)
    assert isinstance(display.mesh_.norm, Normalize)
    assert display.mesh_.get_clim() == (0, expected.max())
    assert display.mesh_.get_cmap().name == "viridis"
    assert display.ax_.get_xlabel() == "period (steps)"
    assert display.ax_.get_ylabel() == "decay time (steps)"
    assert (display.ax_.get_xscale(), display.ax_.get_yscale()) == ("log", "log")
    assert ticks(display.ax_.xaxis) == ["5", "10", "20", "level"]
    assert display.colorbar_.ax.get_ylabel() == "root mean square contribution"
    assert display.figure_ is display.ax_.figure
    assert (display.lines_, display.level_lines_, display.bars_) == ([], [], None)


def test_heatmap_of_one_output(model):
    display = FrequencyImportanceDisplay.from_estimator(model, series(), output="b", cmap="magma", n_bins=4)
    expected = square(display.importance.contributions.sum(axis=4))[1].T
    cells = np.delete(np.ma.filled(display.mesh_.get_array(), 0), -2, axis=1)
    np.testing.assert_allclose(cells, expected, rtol=1e-9, atol=1e-300)
    assert display.mesh_.get_cmap().name == "magma"
    assert display.colorbar_.ax.get_ylabel() == "root mean square contribution to class b"


def test_heatmap_of_a_single_prediction_has_signs(model):
    display = FrequencyImportanceDisplay.from_estimator(model, series()[:1], output="b")
    expected = display.importance.contributions[0, 1].sum(axis=2).T
    cells = np.delete(np.ma.filled(display.mesh_.get_array(), 0), -2, axis=1)
    np.testing.assert_allclose(cells, expected, rtol=1e-9, atol=1e-300)
    assert isinstance(display.mesh_.norm, CenteredNorm)
    assert display.mesh_.norm.vcenter == 0
    assert display.mesh_.norm.halfrange == np.abs(expected).max()
    assert display.mesh_.get_cmap().name == "RdBu_r"
    assert display.colorbar_.ax.get_ylabel() == "contribution to class b"


def test_heatmap_of_a_single_class():
    X = series()
    display = FrequencyImportanceDisplay.from_estimator(classifier(X, 1), X)
    display.figure_.canvas.draw()
    assert not np.ma.filled(display.mesh_.get_array(), 0).any()


def test_periods(model):
    X = series()
    display = FrequencyImportanceDisplay.from_estimator(model, X, kind="period")
    expected = model.frequency_importance(X).by_period()
    for line, point, values in zip(display.lines_, display.level_lines_, expected, strict=True):
        np.testing.assert_allclose(line.get_ydata(), values[:-1])
        np.testing.assert_allclose(point.get_ydata(), values[-1:])
        assert point.get_color() == line.get_color()
        assert point.get_xdata()[0] > display.importance.periods[-2]
    assert len({float(point.get_xdata()[0]) for point in display.level_lines_}) == 3  # side by side
    assert texts(display.ax_.get_legend().get_texts()) == ["class a", "class b", "class c"]
    assert display.ax_.get_xlabel() == "period (steps)"
    assert display.ax_.get_ylabel() == "root mean square contribution"
    assert ticks(display.ax_.xaxis) == ["5", "10", "20", "level"]
    assert display.ax_.get_ylim()[0] == 0
    assert (display.mesh_, display.colorbar_, display.bars_) == (None, None, None)


def test_periods_of_a_single_prediction_have_signs(model):
    display = FrequencyImportanceDisplay.from_estimator(model, series()[:1], kind="period", output="c")
    expected = display.importance.contributions[0, 2].sum(axis=(1, 2))
    assert len(display.lines_) == 1
    np.testing.assert_allclose(display.lines_[0].get_ydata(), expected[:-1])
    np.testing.assert_allclose(display.level_lines_[0].get_ydata(), expected[-1:])
    assert texts(display.ax_.get_legend().get_texts()) == ["class c"]
    assert display.ax_.get_ylabel() == "contribution"


def test_many_classes_differ_by_more_than_colour():
    X = series(n=30)
    y = np.arange(30) % 10
    model = SFMRidgeClassifier(n_features=560, random_state=0).fit(X, y)
    display = FrequencyImportanceDisplay.from_estimator(model, X, kind="period")
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in display.lines_}
    assert len(looks) == 10


def test_channels(model):
    X = series()
    display = FrequencyImportanceDisplay.from_estimator(model, X, kind="channel")
    expected = model.frequency_importance(X).by_channel()
    np.testing.assert_allclose([bar.get_width() for bar in display.bars_], square(expected))
    assert ticks(display.ax_.yaxis) == ["0", "1"]
    assert display.ax_.get_xlabel() == "root mean square contribution"
    display.plot(kind="channel", output="c")
    np.testing.assert_allclose([bar.get_width() for bar in display.bars_], expected[2])


def test_channels_of_a_single_prediction_have_signs(model):
    display = FrequencyImportanceDisplay.from_estimator(model, series()[:1], kind="channel", output="a")
    expected = display.importance.contributions[0, 0].sum(axis=(0, 1))
    np.testing.assert_allclose([bar.get_width() for bar in display.bars_], expected)
    assert display.ax_.get_xlabel() == "contribution to class a"


def test_many_channels():
    X = series(n=12, n_steps=10, channels=40)
    display = FrequencyImportanceDisplay.from_estimator(classifier(X), X, kind="channel")
    names = ticks(display.ax_.yaxis)
    assert len(names) < 20
    assert "20" in names


def test_regression_and_time_units():
    X = stamped(series())
    model = SFMRidgeRegressor(n_features=560, time_channel=1, random_state=0)
    model.fit(X, X[:, :, 0].std(axis=1))
    display = FrequencyImportanceDisplay.from_estimator(model, X)
    assert display.ax_.get_xlabel() == "period (time units)"
    assert display.colorbar_.ax.get_ylabel() == "root mean square contribution to target 0"


def test_pipeline(model):
    X = series()
    pipeline = make_pipeline(FunctionTransformer(), SFMRidgeClassifier(n_features=560, random_state=0))
    pipeline.fit(X, np.array(["a", "b", "c"])[np.arange(30) % 3])
    display = FrequencyImportanceDisplay.from_estimator(pipeline, X, kind="period")
    np.testing.assert_allclose(display.importance.by_period(), model.frequency_importance(X).by_period())


@pytest.mark.parametrize("kind", ["heatmap", "period", "channel"])
def test_drawn_on_given_axes(model, kind):
    _, (left, right) = plt.subplots(1, 2, layout="constrained")
    display = FrequencyImportanceDisplay.from_estimator(model, series(), kind=kind, ax=right)
    assert display.ax_ is right
    assert not left.has_data()
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("kind", ["heatmap", "period", "channel"])
@pytest.mark.parametrize("n_series", [1, 30])
def test_nothing_is_cut_off(model, kind, n_series):
    figure = FrequencyImportanceDisplay.from_estimator(model, series()[:n_series], kind=kind).figure_
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    for ax in figure.axes:
        box = ax.get_tightbbox()
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1


def test_wrong_arguments_of_the_display(model):
    X = series()
    with pytest.raises(ValueError, match="Unknown kind 'pie'; choose one of 'heatmap', 'period', 'channel'"):
        FrequencyImportanceDisplay.from_estimator(model, X, kind="pie")
    with pytest.raises(ValueError, match="output must be one of 'a', 'b', 'c', or None for all outputs, but is 'd'"):
        FrequencyImportanceDisplay.from_estimator(model, X, output="d")
    with pytest.raises(ValueError, match=r"needs an SFMRidgeClassifier .* but the estimator is a DummyClassifier\."):
        FrequencyImportanceDisplay.from_estimator(DummyClassifier().fit(X, np.arange(30) % 2), X)
    with pytest.raises(TypeError, match="ax must be matplotlib Axes"):
        FrequencyImportanceDisplay.from_estimator(model, X, ax="here")


def test_without_matplotlib(monkeypatch, model):
    display = FrequencyImportanceDisplay(model.frequency_importance(series()))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r"needs matplotlib, which is missing: pip install '\.\[plot\]'"
    with pytest.raises(ImportError, match=rf"FrequencyImportanceDisplay\.from_estimator {message}"):
        FrequencyImportanceDisplay.from_estimator(None, None)
    with pytest.raises(ImportError, match=rf"FrequencyImportanceDisplay\.plot {message}"):
        display.plot()
