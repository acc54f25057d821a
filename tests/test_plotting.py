import importlib
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import LogNorm, to_hex
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sktime.datatypes import convert_to
from sktime.exceptions import NotFittedError as SktimeNotFittedError
from sktime.forecasting.compose import make_reduction
from sktime.forecasting.naive import NaiveForecaster
from sktime.forecasting.trend import TrendForecaster

import sfmts.sktime
from sfmts import PanelScaler, SFMClassifier, SFMForecaster, plotting
from sfmts.datasets import make_waves
from sfmts.estimators import SFMDensity, SFMLabeler, SFMRegressor
from sfmts.plotting import AmplitudeDisplay, ForecastDisplay, PianoRollDisplay, TrainingCurveDisplay, WaveDisplay

matplotlib.use("Agg")

D, K, T = 6, 3, 30


@pytest.fixture(autouse=True)
def no_figures_left():
    """Each test starts and ends without figures."""
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def waves():
    return make_waves(40, n_steps=T, variant="released", random_state=0)


def fitted(waves, **options):
    options = {"n_states": D, "n_frequencies": K, "max_iter": 2, "random_state": 0, "device": "cpu", **options}
    return SFMClassifier(**{"network": "sfm", "base": None, **options}).fit(*waves)


@pytest.fixture(scope="module")
def model(waves):
    return fitted(waves)


@pytest.fixture(scope="module")
def watched(waves):
    return fitted(waves, max_iter=4, early_stopping=True, validation_fraction=0.25)


@pytest.fixture(scope="module")
def lstm(waves):
    return fitted(waves, network="lstm", max_iter=3)


def texts(labels):
    return [label.get_text() for label in labels]


def titles(display):
    return [ax.get_title() for ax in display.axes_.flat]


def tick_names(axis):
    axis.figure.canvas.draw()
    low, high = sorted(axis.get_view_interval())
    return [tick.label1.get_text() for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


class TestAmplitudes:
    def test_images(self, model, waves):
        display = AmplitudeDisplay.from_estimator(model, waves[0], series=3)
        expected = model.state_amplitudes(waves[0])[3]
        assert display.steps.tolist() == [8, 15, 23, 30]
        for image, step in zip(display.images_, display.steps, strict=True):
            np.testing.assert_allclose(image.get_array(), expected[step - 1], rtol=1e-6)
        assert titles(display) == ["t = 8\n(T/4)", "t = 15\n(T/2)", "t = 23\n(3T/4)", "t = 30\n(T)"]
        assert [ax.get_ylabel() for ax in display.axes_] == ["state", "", "", ""]
        assert {image.get_clim() for image in display.images_} == {(0.0, display.amplitudes.max())}
        assert display.colorbar_.mappable in display.images_
        assert display.colorbar_.ax.get_ylabel() == "amplitude |S|"
        last = AmplitudeDisplay.from_estimator(model, waves[0], series=-1, steps=(1, 29, T))
        np.testing.assert_allclose(last.amplitudes[-1], model.state_amplitudes(waves[0])[-1, -1], rtol=1e-6)
        assert last.amplitudes.shape == (3, D, K)
        assert titles(last) == ["t = 1", "t = 29", "t = 30\n(T)"]

    def test_ragged(self, model, waves):
        X = [waves[0][0], waves[0][1][:10]]
        display = AmplitudeDisplay.from_estimator(model, X, series=1)
        assert display.steps.tolist() == [3, 5, 8, 10]
        np.testing.assert_allclose(display.amplitudes[-1], model.state_amplitudes(X)[1][-1], rtol=1e-6)

    def test_short_series(self, model, waves):
        for length in (1, 2, 3, 4):
            display = AmplitudeDisplay.from_estimator(model, waves[0][:, :length])
            assert display.steps.tolist() == list(range(1, length + 1))
            assert ("(T/4)" in titles(display)[0]) == (length == 4)

    def test_two_dimensional_input(self, waves):
        X = waves[0][..., 0]
        display = AmplitudeDisplay.from_estimator(fitted((X, waves[1])), X)
        assert display.amplitudes.shape == (4, D, K)

    @pytest.mark.parametrize(
        ("options", "period", "title"),
        [
            ({}, "step", "t = 5"),
            ({"network_params": {"time": "normalized"}}, "series", "step 5"),
            ({"time_channel": 1}, "time unit", "step 5"),
        ],
        ids=["index", "normalized", "timestamps"],
    )
    def test_frequencies_have_units(self, waves, options, period, title):
        display = AmplitudeDisplay.from_estimator(fitted(waves, **options), waves[0], steps=[5])
        np.testing.assert_allclose(display.frequencies, [0, 1 / 3, 2 / 3])
        assert display.axes_[0].get_xlabel() == f"frequency ω/2π\n(cycles / {period})"
        assert tick_names(display.axes_[0].xaxis) == ["0", "0.333", "0.667"]
        assert titles(display) == [title]

    @pytest.mark.parametrize(
        "options",
        [
            {"network_params": {"frequencies": "adaptive"}},
            {"network_params": {"frequencies": "learned"}, "bidirectional": True},
        ],
    )
    def test_numbers_where_there_is_no_one_frequency(self, waves, options):
        display = AmplitudeDisplay.from_estimator(fitted(waves, **options), waves[0])
        assert display.frequencies is None
        assert display.axes_[0].get_xlabel() == "frequency number k"
        assert tick_names(display.axes_[0].xaxis) == ["0", "1", "2"]

    def test_frequencies_of_two_directions_and_learned_ones(self, waves):
        display = AmplitudeDisplay.from_estimator(fitted(waves, bidirectional=True, n_layers=2), waves[0])
        assert display.amplitudes.shape == (4, 2 * D, K)
        np.testing.assert_allclose(display.frequencies, [0, 1 / 3, 2 / 3])
        model = fitted(waves, network_params={"frequencies": "learned"})
        display = AmplitudeDisplay.from_estimator(model, waves[0])
        omega = model.module_.network.layers[-1].omega.detach().numpy()
        np.testing.assert_allclose(display.frequencies, omega / (2 * np.pi), rtol=1e-6)

    def test_log_scale(self, model, waves):
        display = AmplitudeDisplay.from_estimator(model, waves[0], log_scale=True)
        (norm,) = {image.norm for image in display.images_}
        assert isinstance(norm, LogNorm)
        assert norm.vmax / norm.vmin == pytest.approx(1000)
        assert display.colorbar_.extend == "min"
        display = AmplitudeDisplay(np.zeros((2, D, K)), np.array([1, 2])).plot(log_scale=True)
        display.figure_.canvas.draw()

    def test_norm_of_ones_own(self):
        amplitudes = np.stack([np.full((D, K), 2.0), np.full((D, K), 5.0)])
        for norm in ("log", LogNorm()):
            display = AmplitudeDisplay(amplitudes, np.array([1, 2])).plot(imshow_kw={"norm": norm})
            assert [image.get_clim() for image in display.images_] == [(2.0, 5.0)] * 2

    def test_pipeline_and_search(self, model, waves):
        X, y = waves
        pipeline = make_pipeline(
            PanelScaler(), SFMClassifier(base=None, n_states=D, max_iter=1, random_state=0, device="cpu")
        )
        search = GridSearchCV(pipeline, {"sfmclassifier__n_frequencies": [K]}, cv=2).fit(X, y)
        best = search.best_estimator_
        expected = best[-1].state_amplitudes(best[0].transform(X))[2]
        for estimator in (best, search):
            display = AmplitudeDisplay.from_estimator(estimator, X, series=2)
            np.testing.assert_allclose(display.amplitudes, expected[display.steps - 1], rtol=1e-6)
        alone = AmplitudeDisplay.from_estimator(make_pipeline(model), X, steps=[4])
        np.testing.assert_allclose(alone.amplitudes[0], model.state_amplitudes(X)[0, 3], rtol=1e-6)

    def test_on_one_ax(self, model, waves):
        figure, (left, right) = plt.subplots(1, 2)
        display = AmplitudeDisplay.from_estimator(model, waves[0], ax=left)
        assert display.figure_ is figure
        assert display.bounding_ax_ is left
        assert not left.axison
        assert len(display.axes_) == 4
        assert all(ax.get_position().x1 < right.get_position().x0 for ax in display.axes_)
        assert display.axes_[0].get_xlabel() == "ω/2π\n(1/step)"
        display.plot(display.axes_, colorbar=False)
        with pytest.raises(ValueError, match=r"was replaced by the panels .* axes_ of an earlier display"):
            display.plot(left)

    def test_on_an_ax_for_one_panel(self, model, waves):
        _, ax = plt.subplots()
        display = AmplitudeDisplay.from_estimator(model, waves[0], steps=2, ax=ax)
        assert display.axes_.tolist() == [ax]
        assert display.bounding_ax_ is None
        assert ax.axison

    def test_on_several_axes(self, model, waves):
        figure, axes = plt.subplots(2, 2)
        display = AmplitudeDisplay.from_estimator(model, waves[0], ax=axes)
        assert display.axes_.tolist() == axes.ravel().tolist()
        assert [len(ax.images) for ax in axes.flat] == [1] * 4
        assert {ax.get_ylabel() for ax in axes.flat} == {"state"}
        assert plt.get_fignums() == [figure.number]

    def test_wrong_ax(self, model, waves):
        display = AmplitudeDisplay.from_estimator(model, waves[0])
        with pytest.raises(ValueError, match="ax holds 3 Axes, but this plot has 4 panels"):
            display.plot(plt.subplots(3)[1])
        with pytest.raises(TypeError, match="ax must be matplotlib Axes or an array of them, but holds a Figure"):
            display.plot(display.figure_)
        with pytest.raises(ValueError, match="ax is not part of a grid"):
            display.plot(plt.figure().add_axes((0, 0, 1, 1)))

    def test_errors(self, model, lstm, waves):
        X, y = waves
        draw = AmplitudeDisplay.from_estimator
        with pytest.raises(ValueError, match="network='lstm' has no state amplitudes; network='sfm' has"):
            draw(lstm, X)
        with pytest.raises(ValueError, match="'LogisticRegression' object has no attribute 'state_amplitudes'"):
            draw(LogisticRegression().fit(X[..., 0], y), X[..., 0])
        for estimator in (
            SFMClassifier(base=None),
            SFMClassifier("lstm", base=None),
            make_pipeline(SFMClassifier(base=None)),
        ):
            with pytest.raises(NotFittedError):
                draw(estimator, X)
        for series in (40, -41):
            with pytest.raises(ValueError, match=rf"series={series} .* 40 series are numbered from 0 to 39"):
                draw(model, X, series=series)
        for steps in ([0], [1, 31], [-1]):
            with pytest.raises(ValueError, match=rf"steps has {steps[-1]}, but this series has the steps 1 to 30"):
                draw(model, X, steps=steps)
        for steps in ([], [1.5], [[1, 2]], "all"):
            with pytest.raises(ValueError, match=r"steps must be a list of step numbers such as \[1, 30\]"):
                draw(model, X, steps=steps)
        assert not plt.get_fignums()


class TestWaves:
    def test_lines(self, waves):
        X, y = waves
        display = WaveDisplay.from_arrays(X, y, n_per_class=2)
        assert display.axes_.shape == display.lines_.shape == (2, 2)
        for label in (0, 1):
            for line, series in zip(display.lines_[label], X[y == label], strict=False):
                np.testing.assert_array_equal(line.get_ydata(), series[:, 0])
                np.testing.assert_array_equal(line.get_xdata(), series[:, 1])
        assert [ax.get_ylabel() for ax in display.axes_.flat] == ["class 0\nvalue y", "", "class 1\nvalue y", ""]
        assert [ax.get_xlabel() for ax in display.axes_.flat] == ["", "", "time t", "time t"]
        assert to_hex(display.lines_[0, 0].get_color()) != to_hex(display.lines_[1, 0].get_color())
        assert len({ax.get_ylim() for ax in display.axes_.flat}) == 1

    def test_names(self, waves):
        for names in (["square", "sawtooth"], {0: "square", 1: "sawtooth"}):
            display = WaveDisplay.from_arrays(*waves, display_labels=names)
            assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == ["square\nvalue y", "sawtooth\nvalue y"]

    def test_steps_instead_of_times_and_another_layout(self, waves):
        display = WaveDisplay.from_arrays(waves[0][..., 0], waves[1], time_channel=None)
        assert display.lines_[0, 0].get_xdata().tolist() == list(range(1, T + 1))
        assert display.axes_[1, 0].get_xlabel() == "step"
        display = WaveDisplay.from_arrays(waves[0].transpose(0, 2, 1), waves[1], layout="nct", n_per_class=1)
        assert len(display.lines_[0, 0].get_xdata()) == T

    def test_ragged_and_unequal_classes(self):
        X = [np.arange(2.0 * n).reshape(n, 2) for n in (3, 4, 5, 6)]
        display = WaveDisplay.from_arrays(X, ["b", "a", "b", "b"])
        assert display.axes_.shape == (2, 3)
        assert [ax.get_visible() for ax in display.axes_[0]] == [True, False, False]
        assert [len(line.get_xdata()) for line in display.lines_[1]] == [3, 5, 6]
        assert display.lines_[0, 1] is None
        display = WaveDisplay.from_arrays(X[:3], ["a", "a", "b"])
        assert [ax.get_xlabel() for ax in display.axes_.flat] == ["", "time t", "time t", ""]  # in the lowest panels

    def test_on_ones_own_axes(self, waves):
        _, axes = plt.subplots(1, 2)
        display = WaveDisplay.from_arrays(*waves, n_per_class=1, ax=axes)
        assert [len(ax.lines) for ax in axes] == [1, 1]
        assert display.axes_.ravel().tolist() == axes.tolist()

    def test_errors(self, waves):
        X, y = waves
        with pytest.raises(ValueError, match=r"time_channel=1 is out of range: X has n_channels=1\. Pass None"):
            WaveDisplay.from_arrays(X[..., 0], y)
        with pytest.raises(ValueError, match="value_channel=2 is out of range: X has n_channels=2"):
            WaveDisplay.from_arrays(X, y, value_channel=2)
        with pytest.raises(ValueError, match="X has 40 series, y 39 labels"):
            WaveDisplay.from_arrays(X, y[1:])
        with pytest.raises(ValueError, match=r"display_labels has 3 names, but y has 2 classes: \[0, 1\]"):
            WaveDisplay.from_arrays(X, y, display_labels="abc")
        with pytest.raises(ValueError, match=r"display_labels has no name for class 1; it has \[0\]"):
            WaveDisplay.from_arrays(X, y, display_labels={0: "square"})
        with pytest.raises(ValueError, match="n_per_class must be at least 1, not 0"):
            WaveDisplay.from_arrays(X, y, n_per_class=0)
        assert not plt.get_fignums()


class NextFrame(BaseEstimator):
    """Expects the frame it has just heard, and what it heard first a bit."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def predict_proba(self, X):
        return [0.75 * roll + 0.125 * roll[:1] for roll in X]


@pytest.fixture(scope="module")
def roll():
    return (np.random.default_rng(0).uniform(size=(12, 88)) < 0.05).astype(np.float32)


class TestPianoRolls:
    def test_from_estimator(self, roll):
        display = PianoRollDisplay.from_estimator(NextFrame().fit(None), roll)
        truth, predicted = display.images_
        np.testing.assert_array_equal(truth.get_array(), roll.T)
        np.testing.assert_allclose(predicted.get_array(), (0.75 * roll[:-1] + 0.125 * roll[:1]).T)
        assert truth.get_extent() == [0.5, 12.5, 20.5, 108.5]
        assert predicted.get_extent() == [1.5, 12.5, 20.5, 108.5]
        assert {image.get_clim() for image in display.images_} == {(0, 1)}
        assert titles(display) == ["Truth", "Predicted from the frames before"]
        assert [ax.get_xlabel() for ax in display.axes_] == ["", "frame"]
        assert display.axes_[0].get_xlim() == display.axes_[1].get_xlim() == (0.5, 12.5)
        assert display.colorbar_.ax.get_ylabel() == "probability that the key is down"

    def test_both_lengths_of_predictions(self, roll):
        p = np.random.default_rng(1).uniform(size=roll.shape)
        long, short = (PianoRollDisplay.from_predictions(roll, each) for each in (p, p[:-1]))
        np.testing.assert_array_equal(long.roll_proba, p[:-1])
        np.testing.assert_array_equal(short.roll_proba, p[:-1])

    def test_roll_alone(self, roll):
        display = PianoRollDisplay.from_predictions(roll.astype(bool))
        assert len(display.axes_) == len(display.images_) == 1
        assert display.colorbar_ is None
        assert titles(display) == ["Roll"]
        long = PianoRollDisplay.from_predictions(np.ones((600, 2)))
        assert long.images_[0].get_interpolation() == "auto"  # smoothed

    def test_times(self, roll):
        for unit, label in [("seconds", "time (seconds)"), ("quarters", "time (quarter notes)")]:
            display = PianoRollDisplay.from_predictions(roll, step=0.5, unit=unit)
            assert display.images_[0].get_extent()[:2] == [0.0, 6.0]
            assert display.axes_[0].get_xlabel() == label
        display = PianoRollDisplay.from_predictions(roll, roll, step=0.5)
        (patch,) = display.axes_[1].patches  # the first frame is hatched
        assert patch.get_hatch()
        assert (patch.get_x(), patch.get_width()) == (0, 0.5)
        assert not display.axes_[0].patches

    def test_names_of_keys(self, roll):
        ax = PianoRollDisplay.from_predictions(roll).axes_[0]
        assert tick_names(ax.yaxis) == [f"C{octave}" for octave in range(1, 9)]
        assert ax.get_yticks()[3] == 60
        for key_low, n_keys, names in [(21, 5, ["A0", "C#1"]), (60, 1, ["C4"]), (0, 13, ["C-1", "C0"])]:
            ax = PianoRollDisplay.from_predictions(np.ones((3, n_keys)), key_low=key_low).axes_[0]
            assert tick_names(ax.yaxis) == names

    def test_ax(self, roll):
        _, axes = plt.subplots(1, 2)
        display = PianoRollDisplay.from_predictions(roll, roll, ax=axes)
        assert display.axes_.tolist() == axes.tolist()
        assert {ax.get_ylabel() for ax in axes} == {"key"}
        _, ax = plt.subplots()
        assert PianoRollDisplay.from_predictions(roll, ax=ax).axes_.tolist() == [ax]
        assert PianoRollDisplay.from_predictions(roll, roll, ax=ax).bounding_ax_ is ax

    def test_errors(self, roll):
        draw, from_estimator = PianoRollDisplay.from_predictions, PianoRollDisplay.from_estimator
        for shape in [(11, 87), (13, 88), (10, 88), (12,), (1, 12, 88)]:
            with pytest.raises(ValueError, match=r"roll_proba has shape .* needs \(12, 88\), .* or \(11, 88\)"):
                draw(roll, np.zeros(shape))
        for value in (-0.1, 1.1, np.nan):
            with pytest.raises(ValueError, match=rf"probabilities from 0 to 1, but holds {value}"):
                draw(roll, np.full(roll.shape, value))
        for step in (0.0, -1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match=rf"step must be a positive time in seconds, .* but is {step}"):
                draw(roll, step=step)
        with pytest.raises(ValueError, match=r"shape \(frames, keys\), such as \(T, 88\), but has \(88,\)"):
            draw(roll[0])
        with pytest.raises(ValueError, match=r"must be binary, 0 or 1, but holds 0\.5"):
            draw(0.5 * np.ones((3, 88)))
        with pytest.raises(ValueError, match="one frame has no next frame"):
            draw(roll[:1], roll[:1])
        with pytest.raises(ValueError, match="Unknown unit 'beats'; choose one of 'seconds', 'quarters'"):
            draw(roll, unit="beats")
        with pytest.raises(ValueError, match="key_low=60 gives 88 columns the MIDI numbers 60 to 147"):
            draw(roll, key_low=60)
        with pytest.raises(NotFittedError):
            from_estimator(NextFrame(), roll)
        with pytest.raises(ValueError, match="needs an estimator with predict_proba, but PanelScaler has none"):
            from_estimator(PanelScaler().fit([roll]), roll)
        with pytest.raises(ValueError, match=r"shape \(12, 88\), .* DummyClassifier returned 1 of shape \(2,\)"):
            from_estimator(DummyClassifier().fit([[0], [1]], [0, 1]), roll)


@pytest.fixture(scope="module")
def density(roll):
    return SFMDensity(n_states=D, max_iter=2, early_stopping=True, random_state=0, device="cpu").fit([roll] * 20)


def test_density(density, roll):
    display = PianoRollDisplay.from_estimator(density, roll)
    np.testing.assert_allclose(display.roll_proba, density.predict_proba([roll])[0][:-1], rtol=1e-6)
    transposed = SFMDensity(n_states=D, max_iter=1, layout="nct", random_state=0).fit([roll.T] * 4)
    display = PianoRollDisplay.from_estimator(transposed, roll)
    np.testing.assert_allclose(display.roll_proba, transposed.predict_proba([roll.T])[0][:-1], rtol=1e-6)
    shown = AmplitudeDisplay.from_estimator(density, [roll])
    assert shown.steps.tolist() == [3, 6, 9, 12]


class TestTrainingCurves:
    def test_loss(self, model):
        display = TrainingCurveDisplay.from_estimator(model)
        assert display.line_.get_xdata().tolist() == [1, 2]
        assert display.line_.get_ydata().tolist() == model.loss_curve_
        assert display.axes_.tolist() == [display.ax_]
        assert display.validation_loss_line_ is None
        assert display.validation_scores_line_ is None
        assert display.ax_.get_xlabel() == "epoch"
        assert display.ax_.get_ylabel() == "cross-entropy (nats)"
        assert texts(display.ax_.get_legend().get_texts()) == ["SFMClassifier"]

    def test_validation(self, watched):
        display = TrainingCurveDisplay.from_estimator(watched, name="SFM")
        losses, scores = display.axes_
        assert losses is display.ax_
        assert display.validation_scores_line_.get_ydata().tolist() == watched.validation_scores_
        assert display.validation_loss_line_.get_ydata().tolist() == watched.history_["validation_loss"]
        assert scores.get_ylabel() == "validation accuracy"
        assert [losses.get_xlabel(), scores.get_xlabel()] == ["", "epoch"]
        assert texts(losses.get_legend().get_texts()) == ["SFM, training", "SFM, validation"]
        assert display.line_.get_linestyle() == "-"
        for line in (display.validation_loss_line_, display.validation_scores_line_):
            assert line.get_linestyle() == "--"
            assert line.get_color() == display.line_.get_color()

    def test_units(self, waves, density):
        display = TrainingCurveDisplay.from_estimator(density)
        assert [ax.get_ylabel() for ax in display.axes_] == ["loss (nats / frame)", "validation score (nats / frame)"]
        options = {"n_states": 2, "max_iter": 1, "random_state": 0, "device": "cpu", "early_stopping": True}
        X, y = waves
        display = TrainingCurveDisplay.from_estimator(SFMRegressor(base=None, **options).fit(X, y))
        assert [ax.get_ylabel() for ax in display.axes_] == ["squared error / variance", "validation R²"]
        labels = [np.full(T, label) for label in y]
        display = TrainingCurveDisplay.from_estimator(SFMLabeler(**options).fit(list(X), labels))
        assert [ax.get_ylabel() for ax in display.axes_] == ["cross-entropy (nats)", "validation accuracy"]

    def test_other_estimators(self, waves):
        other = MLPClassifier([2], max_iter=3, solver="adam", tol=9.0, n_iter_no_change=1).fit(
            waves[0][..., 0], waves[1]
        )
        display = TrainingCurveDisplay.from_estimator(other)
        assert display.line_.get_ydata().tolist() == other.loss_curve_
        assert display.ax_.get_ylabel() == "loss"

    def test_several_on_one_ax(self, model, watched, lstm):
        _, ax = plt.subplots()
        displays = [
            TrainingCurveDisplay.from_estimator(estimator, name=name, ax=ax)
            for name, estimator in [("sfm", model), ("watched", watched), ("lstm", lstm)]
        ]
        assert displays[1].axes_.tolist() == [ax]
        assert displays[1].validation_scores_line_ is None
        assert len(ax.lines) == 4
        assert len({display.line_.get_color() for display in displays}) == 3
        assert len({display.line_.get_marker() for display in displays}) == 3
        assert texts(ax.get_legend().get_texts()) == ["sfm", "watched, training", "watched, validation", "lstm"]
        assert ax.get_xlim()[0] == 0.5
        assert ax.get_xlim()[1] >= 4

    def test_several_on_two_axes(self, model, watched):
        first = TrainingCurveDisplay.from_estimator(watched)
        second = TrainingCurveDisplay.from_estimator(model, ax=first.axes_)
        assert second.validation_scores_line_ is None
        assert [len(ax.lines) for ax in first.axes_] == [3, 1]
        assert len(plt.get_fignums()) == 1

    def test_log_scale(self, model):
        display = TrainingCurveDisplay([0.6, 0.06]).plot(log_scale=True)
        assert display.ax_.get_yscale() == "log"
        assert tick_names(display.ax_.yaxis) == ["0.1", "0.2", "0.5"]
        TrainingCurveDisplay([0.6, 1e-7]).plot(display.ax_)
        assert "5e-07" not in tick_names(display.ax_.yaxis)
        assert TrainingCurveDisplay.from_estimator(model).ax_.get_yscale() == "linear"
        assert tick_names(TrainingCurveDisplay([0.5]).plot().ax_.xaxis) == ["1"]  # epochs are whole

    def test_without_a_name(self):
        assert TrainingCurveDisplay([1.0, 3.0]).plot().ax_.get_legend() is None
        display = TrainingCurveDisplay([1.0, 3.0], validation_loss=[1.0, 2.0]).plot()
        assert texts(display.ax_.get_legend().get_texts()) == ["training", "validation"]
        assert display.ax_.get_ylabel() == "loss"
        named = TrainingCurveDisplay([1.0, 3.0], name="old").plot(name="new")
        assert texts(named.ax_.get_legend().get_texts()) == ["new"]

    def test_pipeline_and_search(self, waves, model):
        search = GridSearchCV(
            make_pipeline(PanelScaler(), SFMClassifier(base=None, max_iter=1, device="cpu")), {}, cv=2
        ).fit(*waves)
        display = TrainingCurveDisplay.from_estimator(search)
        assert display.loss == search.best_estimator_[-1].loss_curve_
        assert display.name == "SFMClassifier"

    def test_errors(self, model):
        with pytest.raises(NotFittedError):
            TrainingCurveDisplay.from_estimator(SFMClassifier(base=None))
        with pytest.raises(ValueError, match="log_scale=True needs positive losses, but loss is -3 after epoch 2"):
            TrainingCurveDisplay([1.0, -3.0]).plot(log_scale=True)
        with pytest.raises(ValueError, match="but validation_loss is 0 after epoch 1"):
            TrainingCurveDisplay([1.0, 3.0], validation_loss=[0.0, 1.0]).plot(log_scale=True)
        assert not plt.get_fignums()
        with pytest.raises(ValueError, match="an estimator with the attribute loss_curve_, but PanelScaler has none"):
            TrainingCurveDisplay.from_estimator(PanelScaler().fit(np.zeros((2, 3))))
        with pytest.raises(ValueError, match="ax holds 3 Axes; pass one for the losses, or two for losses and scores"):
            TrainingCurveDisplay.from_estimator(model, ax=plt.subplots(3)[1])


STEPS = 6


def rising(T, start=0.0):
    return start + np.arange(float(T))


@pytest.fixture(scope="module")
def monthly():
    index = pd.period_range("2000-01", periods=60, freq="M", name="month")
    noise = np.random.default_rng(0).normal(size=60)
    return pd.Series(rising(60) + noise, index=index, name="value")


def naive(y, fh=None):
    return NaiveForecaster(sp=12).fit(y, fh=fh)


def test_training_curves_of_sktime_estimators(monthly):
    forecaster = SFMForecaster(n_states=4, max_iter=2, random_state=0, device="cpu")
    with pytest.raises(SktimeNotFittedError):
        TrainingCurveDisplay.from_estimator(forecaster)
    display = TrainingCurveDisplay.from_estimator(forecaster.fit(monthly, fh=[1, 2]))
    np.testing.assert_array_equal(display.loss, forecaster.loss_curve_)
    X, y = make_waves(8, n_steps=10, random_state=0)
    face = sfmts.sktime.SFMClassifier(base=None, n_states=4, max_iter=2, random_state=0).fit(X.transpose(0, 2, 1), y)
    display = TrainingCurveDisplay.from_estimator(face)
    np.testing.assert_array_equal(display.loss, face.estimator_.loss_curve_)


@pytest.mark.parametrize("name", ["SFMClassifier", "SFMRidgeClassifier"])
def test_faces_without_one_native_estimator_are_named(name):
    X, y = make_waves(8, n_steps=10, random_state=0)
    X = X.transpose(0, 2, 1)
    trained = {"base": None, "n_states": 4, "max_iter": 1}
    options = {"random_state": 0, **(trained if name == "SFMClassifier" else {"n_features": 56})}
    one_class = getattr(sfmts.sktime, name)(**options).fit(X, np.zeros(8))
    with pytest.raises(ValueError, match=rf"sfmts\.sktime\.{name} was fitted to a single class.*two or more classes"):
        TrainingCurveDisplay.from_estimator(one_class)
    columns = getattr(sfmts.sktime, name)(**options).fit(X, pd.DataFrame({"a": y, "b": 1 - y}))
    with pytest.raises(
        ValueError, match=rf"sfmts\.sktime\.{name} was fitted to several columns.*an entry of its classifiers_"
    ):
        TrainingCurveDisplay.from_estimator(columns)
    if name == "SFMClassifier":
        assert len(TrainingCurveDisplay.from_estimator(columns.classifiers_.iloc[0, 0]).loss) == 1


@pytest.mark.parametrize("form", ["numpy3D", "pd-multiindex", "nested_univ"])
def test_estimators_of_sktime_are_drawn_like_their_native_ones(form):
    X, y = make_waves(8, n_steps=10, random_state=0)
    X = X.transpose(0, 2, 1)
    panel = convert_to(X, form)
    ridge = sfmts.sktime.SFMRidgeClassifier(n_features=56, random_state=0).fit(X, y)
    trained = sfmts.sktime.SFMClassifier(base=None, n_states=4, max_iter=1, random_state=0).fit(X, y)
    found, expected = (
        AmplitudeDisplay.from_estimator(*pair, series=3) for pair in [(trained, panel), (trained.estimator_, X)]
    )
    np.testing.assert_array_equal(found.amplitudes, expected.amplitudes)
    found, expected = (
        plotting.FrequencyImportanceDisplay.from_estimator(*pair) for pair in [(ridge, panel), (ridge.estimator_, X)]
    )
    np.testing.assert_array_equal(found.importance.contributions, expected.importance.contributions)


class TestForecasts:
    def test_sfm_forecaster(self, monthly):
        options = {"sp": 12, "n_states": 4, "max_iter": 1, "random_state": 0, "device": "cpu"}
        model = SFMForecaster(**options).fit(monthly[:-STEPS], fh=range(1, STEPS + 1))
        display = ForecastDisplay.from_estimator(model, monthly)
        expected = model.predict_interval(coverage=[0.5, 0.9]).to_numpy()
        np.testing.assert_allclose(display.forecasts[0], model.predict())
        np.testing.assert_allclose(display.intervals[0], expected.T.reshape(2, 2, STEPS))
        assert display.coverage == (0.5, 0.9)
        assert display.name == "SFMForecaster"

    def test_past_truth_and_forecast(self, monthly):
        display = ForecastDisplay.from_estimator(naive(monthly[:-STEPS]), monthly, fh=range(1, 5), n_past=10)
        (past,), (truth,), (line,) = display.past_lines_, display.truth_lines_, display.lines_
        np.testing.assert_array_equal(past.get_ydata(), monthly[-STEPS - 10 : -STEPS])
        np.testing.assert_array_equal(truth.get_ydata(), monthly[-STEPS - 1 : -STEPS + 4])  # joined, to the last step
        np.testing.assert_array_equal(line.get_ydata(), monthly[-STEPS - 12 : -STEPS - 8])
        assert line.get_xdata()[0] == np.datetime64("2004-07-01")
        assert past.get_xdata()[-1] == truth.get_xdata()[0] == np.datetime64("2004-06-01")
        assert display.axes_[0].get_xlabel() == "month"
        assert display.axes_[0].get_ylabel() == "value"
        assert texts(display.axes_[0].get_legend().get_texts()) == [
            "past",
            "truth",
            "NaiveForecaster",
            "90 % interval",
            "50 % interval",
        ]

    def test_bands(self, monthly):
        model = naive(monthly)
        display = ForecastDisplay.from_estimator(model, monthly, fh=[1, 2, 3], coverage=[0.9, 0.5])
        assert display.coverage == (0.5, 0.9)
        for coverage, band in zip(display.coverage, display.bands_[0], strict=True):
            expected = model.predict_interval([1, 2, 3], coverage=coverage).to_numpy()
            extent = band.get_datalim(display.axes_[0].transData)
            assert (extent.y0, extent.y1) == pytest.approx((expected.min(), expected.max()))
        narrow, wide = display.bands_[0]
        children = display.axes_[0].get_children()
        assert children.index(wide) < children.index(narrow)  # else it would be covered
        assert narrow.get_alpha() > wide.get_alpha()
        display = ForecastDisplay.from_estimator(naive(monthly), monthly, fh=1, coverage=0.9)
        assert display.bands_[0][0].get_linewidth()[0] > 0  # one step
        assert len(display.times[0]) == 12

    @pytest.mark.parametrize(
        "index",
        [
            pd.period_range("2001Q1", periods=40, freq="Q"),
            pd.date_range("2001-01-01", periods=40, freq="h"),
            pd.date_range("2001-01-01", periods=40, freq="D", tz="Asia/Tokyo"),
            pd.RangeIndex(5, 45),
            pd.Index(np.arange(-3, 37)),
        ],
        ids=["periods", "hours", "days with time zone", "range", "integers"],
    )
    def test_indices(self, index):
        y = pd.Series(rising(40), index=index)
        y_pred = y[-STEPS:] + 1
        display = ForecastDisplay.from_predictions(y, y_pred)
        display.figure_.canvas.draw()
        assert 3 * STEPS - 1 <= len(display.past_lines_[0].get_xdata()) <= 3 * STEPS + 1  # quarters differ by a day
        assert len(display.truth_lines_[0].get_xdata()) == STEPS + 1
        expected = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
        if isinstance(expected, pd.DatetimeIndex):
            expected = expected.tz_localize(None)
        np.testing.assert_array_equal(display.lines_[0].get_xdata(), expected[-STEPS:].to_numpy())
        assert display.axes_[0].get_ylabel() == ""

    def test_past_future_and_whole_steps(self, monthly):
        display = ForecastDisplay.from_estimator(naive(monthly), monthly, fh=[1, 2])
        assert display.truth_lines_ == [None]
        assert "truth" not in texts(display.axes_[0].get_legend().get_texts())
        display = ForecastDisplay.from_predictions(monthly, monthly.shift(1)[1:])
        assert display.past_lines_[0].get_xdata().tolist() == display.times[0][:1].tolist()
        assert len(display.truth_lines_[0].get_xdata()) == 60
        display = ForecastDisplay.from_predictions(pd.Series(rising(3)), pd.Series([3.0, 4.0], index=[3, 4]))
        assert tick_names(display.axes_[0].xaxis) == ["0", "1", "2", "3", "4"]

    def test_gaps_in_the_horizon(self):
        y = pd.Series(rising(100))
        display = ForecastDisplay.from_estimator(NaiveForecaster().fit(y), y, fh=[10, 20])
        assert display.lines_[0].get_xdata().tolist() == [109, 119]
        assert display.past_lines_[0].get_xdata().tolist() == list(range(40, 100))  # three times 20

    def test_without_intervals(self, monthly):
        for model, coverage in ((naive(monthly), ()), (TrendForecaster().fit(monthly), 0.9)):
            display = ForecastDisplay.from_estimator(model, monthly, fh=[1, 2], coverage=coverage)
            np.testing.assert_allclose(display.lines_[0].get_ydata(), model.predict([1, 2]))
            assert display.intervals is None
            assert display.bands_ == [[]]

    def test_exogenous(self, monthly):
        X = pd.DataFrame({"x": rising(60) ** 2}, index=monthly.index)
        regression = make_reduction(LinearRegression(), window_length=3, strategy="direct")
        model = regression.fit(2 * X["x"][:-2], X=X[:-2], fh=[1, 2])
        display = ForecastDisplay.from_estimator(model, 2 * X["x"], X=X[-2:])
        np.testing.assert_allclose(display.forecasts[0], model.predict(X=X[-2:]))

    def test_variables(self, monthly):
        y = pd.DataFrame({"a": monthly, "b": -monthly})
        model = naive(y[:-STEPS], fh=range(1, STEPS + 1))
        display = ForecastDisplay.from_estimator(model, y)
        assert [ax.get_ylabel() for ax in display.axes_] == ["a", "b"]
        assert [ax.get_xlabel() for ax in display.axes_] == ["", "month"]
        np.testing.assert_allclose(display.forecasts[1], model.predict()["b"])
        np.testing.assert_allclose(display.intervals[1][0], model.predict_interval(coverage=0.5)["b"].to_numpy().T)
        one = ForecastDisplay.from_estimator(model, y[["b"]])
        np.testing.assert_array_equal(one.forecasts[0], display.forecasts[1])

    def test_panel(self, monthly):
        y = pd.concat({("x", 1): monthly, ("x", 2): -monthly, ("y", 1): 2 * monthly}, names=["group", "member"])
        y = y.to_frame("value")
        past = y[y.index.get_level_values("month") < "2004-07"]
        model = naive(past, fh=range(1, STEPS + 1))
        display = ForecastDisplay.from_estimator(model, y)
        assert titles(display) == ["x, 1", "x, 2", "y, 1"]
        for number, member in enumerate([("x", 1), ("x", 2), ("y", 1)]):
            np.testing.assert_allclose(display.forecasts[number], model.predict().loc[member, "value"])
            expected = model.predict_interval(coverage=0.9).loc[member].to_numpy().T
            np.testing.assert_allclose(display.intervals[number][1], expected)
            np.testing.assert_array_equal(display.truth_lines_[number].get_ydata()[1:], y.loc[member, "value"][-STEPS:])
        (legend,) = display.figure_.legends
        assert "truth" in texts(legend.get_texts())
        part = ForecastDisplay.from_estimator(model, y.loc[["y"]])
        np.testing.assert_array_equal(part.forecasts, display.forecasts[2:])

    def test_many_series(self):
        y = pd.DataFrame({name: rising(20) for name in "abcdefghij"})
        y_pred = y + 1
        display = ForecastDisplay.from_predictions(y[:-2], y_pred[-2:])
        assert [ax.get_ylabel() for ax in display.axes_] == list("abcdef")
        display = ForecastDisplay.from_predictions(y[:-2], y_pred[-2:], n_panels=5)
        *panels, spare = display.figure_.axes
        assert panels == display.axes_.tolist()
        assert not spare.get_visible()
        assert [ax.get_xlabel() for ax in display.axes_] == [""] * 5
        assert len(ForecastDisplay.from_predictions(y[:-2], y_pred[-2:], n_panels=99).axes_) == 10

    def test_several_forecasts_on_the_same_axes(self, monthly):
        y = pd.DataFrame({"a": monthly, "b": -monthly})
        first = ForecastDisplay.from_estimator(naive(y[:-STEPS]), y, fh=[1, 2, 3], name="season")
        last = NaiveForecaster().fit(y[:-STEPS])
        second = ForecastDisplay.from_estimator(last, y, fh=[1, 2, 3], name="last", ax=first.axes_, coverage=0.8)
        assert first.lines_[0].get_color() != second.lines_[0].get_color()
        assert first.lines_[0].get_marker() != second.lines_[0].get_marker()
        assert [ax.get_xlabel() for ax in first.axes_] == ["", "month"]
        (legend,) = first.figure_.legends
        names = ["past", "truth", "season", "90 % interval", "50 % interval", "last", "80 % interval"]
        assert texts(legend.get_texts()) == names
        assert len(plt.get_fignums()) == 1

    def test_ax(self, monthly):
        y = pd.DataFrame({"a": monthly, "b": -monthly})
        y_pred = y[-STEPS:]
        figure, axes = plt.subplots(1, 2)
        display = ForecastDisplay.from_predictions(y, y_pred, ax=axes)
        assert display.axes_.tolist() == axes.tolist()
        assert {ax.get_xlabel() for ax in axes} == {"month"}
        assert axes[0].get_legend()
        assert not figure.legends
        figure, ax = plt.subplots()
        display = ForecastDisplay.from_predictions(y, y_pred, ax=ax)
        assert display.bounding_ax_ is ax
        assert display.figure_ is figure
        with pytest.raises(ValueError, match="ax holds 3 Axes, but this plot has 2 panels"):
            display.plot(plt.subplots(3)[1])

    def test_time_zones(self):
        """The same moments in another zone stand at the same place, and clocks that are set back set nothing back."""
        index = pd.date_range("2024-10-26", periods=72, freq="h", tz="Europe/Berlin")
        y = pd.Series(np.arange(72.0), index)
        for forecast in (y[48:], y[48:].tz_convert("UTC")):
            display = ForecastDisplay.from_predictions(y, forecast)
            assert display.lines_[0].get_xdata()[0] == np.datetime64("2024-10-28T00:00")
            assert display.past_lines_[0].get_ydata()[-1] == 47.0
            assert (np.diff(display.times[0]) == np.timedelta64(1, "h")).all()

    def test_wrong_forecasters(self, monthly):
        with pytest.raises(ValueError, match="sktime's interface, but LinearRegression has no predict_interval"):
            ForecastDisplay.from_estimator(LinearRegression(), monthly)
        with pytest.raises(ValueError, match=r"has not been fitted"):
            ForecastDisplay.from_estimator(NaiveForecaster(), monthly)
        for coverage in (0, 1.0, (0.5, 90)):
            with pytest.raises(ValueError, match=r"coverage must lie between 0 and 1, as in \(0\.5, 0\.9\), but is"):
                ForecastDisplay.from_estimator(naive(monthly), monthly, fh=1, coverage=coverage)
        assert not plt.get_fignums()

    def test_wrong_predictions(self, monthly):
        draw, last = ForecastDisplay.from_predictions, monthly[-2:]
        two = pd.DataFrame({"a": monthly, "b": monthly})
        with pytest.raises(TypeError, match=r"y must be a pandas Series or DataFrame whose index .* but is a ndarray"):
            draw(monthly.to_numpy(), last)
        with pytest.raises(
            TypeError, match=r"y_pred must be a pandas Series or DataFrame whose index .* but is a list"
        ):
            draw(monthly, [1.0])
        with pytest.raises(ValueError, match=r"y_pred has no variable 'b', which y has; it has \['a'\]"):
            draw(two, two[["a"]])
        with pytest.raises(ValueError, match=r"y_pred has no series \('q',\), which y has; it has \[\('p',\)\]"):
            draw(pd.concat({"p": two, "q": two}), pd.concat({"p": two}))
        with pytest.raises(ValueError, match=r"y is indexed by datetime64.*, but y_pred by int64"):
            draw(monthly, last.reset_index(drop=True))
        with pytest.raises(ValueError, match=r"y_interval must have columns \(variable, .* but has \['a', 'b'\]"):
            draw(monthly, last, two[-2:])
        with pytest.raises(ValueError, match="y_interval and y_pred must have the same index"):
            draw(monthly, last, naive(monthly).predict_interval([1, 2], coverage=0.5))
        with pytest.raises(ValueError, match=r"steps of y are not in the order of time\. Sort them"):
            draw(monthly[::-1], last)
        with pytest.raises(ValueError, match="y_pred holds no steps; at least one is required"):
            draw(monthly, last[:0])
        with pytest.raises(ValueError, match="n_past must be at least 0, not -1"):
            draw(monthly, last, n_past=-1)
        with pytest.raises(ValueError, match="n_panels must be at least 1, not 0"):
            draw(monthly, last, n_panels=0)
        assert not plt.get_fignums()


CALLS = {
    "AmplitudeDisplay.from_estimator": lambda: AmplitudeDisplay.from_estimator(None, None),
    "AmplitudeDisplay.plot": lambda: AmplitudeDisplay(np.ones((1, 2, 2)), np.array([1])).plot(),
    "ForecastDisplay.from_estimator": lambda: ForecastDisplay.from_estimator(None, None),
    "ForecastDisplay.from_predictions": lambda: ForecastDisplay.from_predictions(None, None),
    "ForecastDisplay.plot": lambda: ForecastDisplay([], [], [], []).plot(),
    "WaveDisplay.from_arrays": lambda: WaveDisplay.from_arrays(None, None),
    "WaveDisplay.plot": lambda: WaveDisplay([], [], np.array([])).plot(),
    "PianoRollDisplay.from_estimator": lambda: PianoRollDisplay.from_estimator(None, None),
    "PianoRollDisplay.from_predictions": lambda: PianoRollDisplay.from_predictions(None),
    "PianoRollDisplay.plot": lambda: PianoRollDisplay(np.ones((2, 2))).plot(),
    "TrainingCurveDisplay.from_estimator": lambda: TrainingCurveDisplay.from_estimator(None),
    "TrainingCurveDisplay.plot": lambda: TrainingCurveDisplay([1.0]).plot(),
}


@pytest.mark.parametrize("name", CALLS)
def test_without_matplotlib(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=rf"{name} needs matplotlib, which is missing: pip install '\.\[plot\]'"):
        CALLS[name]()


def test_import_needs_no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("sfmts.plotting")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sfmts, "plotting", plotting)  # the import below replaces it
    fresh = importlib.import_module("sfmts.plotting")
    assert fresh is not plotting
    assert set(plotting.__all__) <= set(vars(fresh))


def test_a_figure_is_made_only_without_ax():
    display = TrainingCurveDisplay([1.0, 0.5]).plot()
    assert plt.get_fignums() == [display.figure_.number]
    display.plot(display.ax_)
    assert len(plt.get_fignums()) == 1


def test_arguments_reach_the_lines(waves, watched, monthly):
    display = WaveDisplay.from_arrays(*waves, line_kw={"c": "red", "lw": 3})
    curves = TrainingCurveDisplay.from_estimator(watched, lw=3, c="red", marker="x")
    forecasts = ForecastDisplay.from_estimator(
        naive(monthly), monthly, fh=[1, 2], line_kw={"c": "red", "lw": 3}, fill_between_kw={"alpha": 0.1}
    )
    lines = [curves.line_, curves.validation_loss_line_, curves.validation_scores_line_]
    assert {line.get_marker() for line in lines} == {"x"}
    for line in (*display.lines_.flat, *lines, forecasts.lines_[0]):
        assert line.get_color() == "red"
        assert line.get_linewidth() == 3
    for band in forecasts.bands_[0]:
        assert band.get_alpha() == 0.1
        assert to_hex(band.get_facecolor()[0]) == to_hex("red")
    assert "other" in texts(forecasts.plot(name="other").axes_[0].get_legend().get_texts())


@pytest.mark.parametrize("cls", [AmplitudeDisplay, PianoRollDisplay])
def test_arguments_reach_the_images(model, waves, roll, cls):
    options = {"cmap": "cividis", "colorbar": False, "imshow_kw": {"vmax": 0.5, "interpolation": "bilinear"}}
    if cls is AmplitudeDisplay:
        display = cls.from_estimator(model, waves[0], **options)
    else:
        display = cls.from_predictions(roll, roll, **options)
    assert display.colorbar_ is None
    for image in display.images_:
        assert image.get_cmap().name == "cividis"
        assert image.get_clim() == (0, 0.5)
        assert image.get_interpolation() == "bilinear"


def test_figures_lay_themselves_out(model, waves, roll, monthly):
    pair = pd.DataFrame({"a": monthly, "b": -monthly})
    for display in (
        AmplitudeDisplay.from_estimator(model, waves[0]),
        WaveDisplay.from_arrays(*waves),
        PianoRollDisplay.from_predictions(roll, roll),
        ForecastDisplay.from_estimator(naive(monthly), monthly, fh=[1, 2, 3]),
        ForecastDisplay.from_estimator(naive(pair), pair, fh=[1, 2, 3]),
        TrainingCurveDisplay.from_estimator(model),
    ):
        display.figure_.canvas.draw()
        width, height = display.figure_.canvas.get_width_height()
        for ax in display.figure_.axes:
            box = ax.get_tightbbox()
            assert box.x0 >= -1
            assert box.y0 >= -1
            assert box.x1 <= width + 1
            assert box.y1 <= height + 1


def test_faces():
    assert plotting.__all__ == sorted(plotting.__all__)
    for name in plotting.__all__:
        assert getattr(plotting, name).__module__.startswith("sfmts.plotting.")
