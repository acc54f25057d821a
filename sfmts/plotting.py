"""Displays: pictures of what a network saw, remembers and predicts, in scikit-learn's convention.

A Display holds computed arrays, which are its attributes; ``plot`` draws them and sets attributes that end in an
underscore.  The class methods compute and draw in one call.  All need matplotlib: ``pip install '.[plot]'``.

Colours are those of Okabe and Ito or perceptually uniform maps, and lines differ by marker and dashes, too, so that
pictures can be read without colour.  A figure made here lays itself out; the layout of one's own is left alone.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples, check_is_fitted

from sfmts._choices import check_choice
from sfmts.batch import as_batch, as_labels, frames_of
from sfmts.datasets.piano_rolls import one_roll
from sfmts.features.importance import LEVEL, FrequencyImportance
from sfmts.heads import ClassificationHead, DensityHead, RegressionHead
from sfmts.networks.sfm import SFM

if TYPE_CHECKING:  # `import sfmts.plotting` works without matplotlib; drawing says what to install
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection, QuadMesh
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Colormap
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

__all__ = [
    "AmplitudeDisplay",
    "ForecastDisplay",
    "FrequencyImportanceDisplay",
    "PianoRollDisplay",
    "TrainingCurveDisplay",
    "WaveDisplay",
]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito, but for yellow
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_PERIODS = {"index": "step", "normalized": "series", "timestamps": "time unit"}  # in which t grows by 1
_TIME_UNITS = {"seconds": "seconds", "quarters": "quarter notes"}
_HIGHEST_MIDI_KEY = 127
_LOG_RANGE = 1000.0  # greatest over smallest amplitude of a logarithmic scale
_SHARP = 500  # so many frames have at least a pixel each
_LEAST_PAST = 12  # steps shown before a short forecast
_IMPORTANCE_KINDS = ("heatmap", "period", "channel")
_MOST_CHANNELS = 20  # that are all named


class AmplitudeDisplay:
    """Amplitudes abs(S) of the states of a State-Frequency Memory while it reads a series (the paper's Figure 5).

    One panel a step, states from bottom to top, frequencies from left to right, and one colour scale for all.  It is
    recommended to use :meth:`from_estimator`.  All parameters are stored as attributes.

    Parameters
    ----------
    amplitudes : ndarray of shape (n_panels, n_states, n_frequencies)
        The amplitudes after each of ``steps``.
    steps : ndarray of shape (n_panels,)
        Numbers of the steps, the first of a series being 1.
    n_steps : int, default=None
        Length T of the series.  If given, the quarters of it are marked as such in the titles.
    frequencies : ndarray of shape (n_frequencies,), default=None
        omega / 2 pi of each column.  Columns are labelled with numbers 0, 1, ... if None, as for frequencies that
        change from step to step.
    time : {"index", "normalized", "timestamps"}, default="index"
        What t is in omega t; it says what frequencies are per.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_panels,)
        The panels.
    images_ : list of matplotlib AxesImage
        The image in each panel.
    colorbar_ : matplotlib Colorbar or None
        The scale of all images.
    bounding_ax_ : matplotlib Axes or None
        The Axes whose place the panels took, if one was passed for several panels.
    figure_ : matplotlib Figure
        The figure that holds the panels.

    See Also
    --------
    AmplitudeDisplay.from_estimator : Amplitudes of a fitted estimator.

    References
    ----------
    H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017, Figure 5.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts.plotting import AmplitudeDisplay
    >>> amplitudes = np.random.default_rng(0).uniform(size=(2, 8, 4))
    >>> display = AmplitudeDisplay(amplitudes, np.array([50, 100]), frequencies=np.arange(4) / 4)
    >>> [ax.get_title() for ax in display.plot().axes_]
    ['t = 50', 't = 100']
    """

    axes_: NDArray[Any]
    images_: "list[AxesImage]"
    colorbar_: "Colorbar | None"
    bounding_ax_: "Axes | None"
    figure_: "Figure | SubFigure"

    def __init__(
        self,
        amplitudes: NDArray[Any],
        steps: NDArray[np.int64],
        *,
        n_steps: int | None = None,
        frequencies: NDArray[np.float64] | None = None,
        time: str = "index",
    ) -> None:
        self.amplitudes = amplitudes
        self.steps = steps
        self.n_steps = n_steps
        self.frequencies = frequencies
        self.time = time

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        series: int = 0,
        steps: ArrayLike | None = None,
        ax: Any = None,
        cmap: "str | Colormap" = "viridis",
        log_scale: bool = False,
        colorbar: bool = True,
        imshow_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the amplitudes with which a fitted estimator reads one series.

        Parameters
        ----------
        estimator : estimator instance
            Fitted, with a method ``state_amplitudes`` as of :class:`sfmts.SFMClassifier` with ``network="sfm"``; or a
            pipeline that ends in one, or a search that found one.
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            Series, as the estimator takes them.
        series : int, default=0
            Number of the series to show.  Only this one is computed.
        steps : array-like of int, default=None
            Numbers of the steps to show, the first being 1 as t is in the paper.  If None, T/4, T/2, 3T/4 and T, where
            T is the length of this series, each rounded up; a series of less than four steps has fewer.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes, whose place the panels take, or one for each.  If None, a new figure is made.
        cmap : str or matplotlib Colormap, default="viridis"
            Dark is small.  The default rises evenly in lightness, so it serves the colour-blind and in grey.
        log_scale : bool, default=False
            Whether colours follow the logarithm, down to a thousandth of the greatest amplitude.  They do not by
            default, as in the paper; but amplitudes often differ so much that few states can be seen then.
        colorbar : bool, default=True
            Whether to draw the colour scale.
        imshow_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.imshow`.  A ``norm`` among them replaces ``log_scale``.

        Returns
        -------
        display : AmplitudeDisplay
            The states of a bidirectional network are those that read forwards and, above them, those that read
            backwards.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If its network has no amplitudes, as ``network="lstm"``, or there is no such series or step.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> from sfmts import SFMClassifier
        >>> from sfmts.datasets import make_waves
        >>> from sfmts.plotting import AmplitudeDisplay
        >>> X, y = make_waves(20, n_steps=30, random_state=0)
        >>> model = SFMClassifier(n_states=6, max_iter=2, random_state=0).fit(X, y)
        >>> display = AmplitudeDisplay.from_estimator(model, X, series=3)
        >>> display.amplitudes.shape, display.steps
        ((4, 6, 4), array([ 8, 15, 23, 30]))
        """
        _check_matplotlib(f"{cls.__name__}.from_estimator")
        _check_fitted(estimator)
        n = _num_samples(X)
        if not -n <= series < n:
            raise ValueError(f"series={series} is not in X, which holds {n} series, numbered from 0 to {n - 1}.")
        fitted, one = _last_step(estimator, _safe_indexing(X, [series]))
        try:
            state_amplitudes = fitted.state_amplitudes
        except AttributeError as error:
            raise ValueError(
                f"{cls.__name__} shows the states of a State-Frequency Memory: {error.__cause__ or error}"
                f"{_hint_at_face(fitted)}"
            ) from error
        amplitudes = np.asarray(state_amplitudes(one)[0])
        shown = _check_steps(steps, len(amplitudes))
        frequencies, time = _frequencies(fitted)
        display = cls(amplitudes[shown - 1], shown, n_steps=len(amplitudes), frequencies=frequencies, time=time)
        return display.plot(ax, cmap=cmap, log_scale=log_scale, colorbar=colorbar, imshow_kw=imshow_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: "str | Colormap" = "viridis",
        log_scale: bool = False,
        colorbar: bool = True,
        imshow_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the amplitudes.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            One Axes, whose place the panels take, or one for each.  If None, a new figure is made.
        cmap : str or matplotlib Colormap, default="viridis"
            Dark is small.
        log_scale : bool, default=False
            Whether colours follow the logarithm, down to a thousandth of the greatest amplitude.
        colorbar : bool, default=True
            Whether to draw the colour scale.
        imshow_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : AmplitudeDisplay
            This object.

        Raises
        ------
        ValueError
            If ``ax`` holds more or fewer Axes than there are panels.
        ImportError
            If matplotlib is missing.
        """
        _check_matplotlib(f"{type(self).__name__}.plot")
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LogNorm, Normalize
        from matplotlib.ticker import MaxNLocator

        n_panels = len(self.amplitudes)
        axes, self.bounding_ax_ = _panels(ax, (1, n_panels), (1.6 + 2.0 * n_panels, 3.8), sharex=True, sharey=True)
        options = {"aspect": "auto", "origin": "lower", "interpolation": "nearest", **(imshow_kw or {})}
        options.setdefault("cmap", cmap)
        greatest = float(self.amplitudes.max())
        norm = LogNorm(greatest / _LOG_RANGE, greatest) if log_scale and greatest > 0 else Normalize(vmin=0.0)
        scale = ScalarMappable(norm=options.pop("norm", None) or norm)  # the user's may be a string
        scale.set_clim(options.pop("vmin", None), options.pop("vmax", None))
        scale.norm.autoscale_None(self.amplitudes.ravel())  # to all steps: the panels share one scale
        label = "frequency number k" if self.bounding_ax_ is None else "k"
        if self.frequencies is not None:
            period = _PERIODS[self.time]
            # panels in the place of one Axes are narrow
            label = f"frequency ω/2π\n(cycles / {period})" if self.bounding_ax_ is None else f"ω/2π\n(1/{period})"
        self.axes_, self.images_ = axes.ravel(), []
        for panel, amplitudes, step in zip(self.axes_, self.amplitudes, self.steps.tolist(), strict=True):
            self.images_.append(panel.imshow(amplitudes, norm=scale.norm, **options))
            panel.set(title=self._title(step), xlabel=label, ylabel="state")
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
            panel.xaxis.set_major_formatter(self._column_name)
        self.figure_ = self.axes_[0].figure
        if ax is None or self.bounding_ax_ is not None:
            _label_outer(axes)
        self.colorbar_ = None
        if colorbar:
            self.colorbar_ = self.figure_.colorbar(
                self.images_[-1],
                ax=self.axes_.tolist(),
                label="amplitude |S|",
                extend="min" if scale.norm is norm and isinstance(norm, LogNorm) else "neither",
            )
        return self

    def _column_name(self, position: float, _: Any = None) -> str:
        """What the column at a position is called; matplotlib asks for ticks beyond the edges, too."""
        column = round(position)
        if not 0 <= column < self.amplitudes.shape[2]:
            return ""
        return str(column) if self.frequencies is None else f"{self.frequencies[column]:.3g}"

    def _title(self, step: int) -> str:
        """What a panel shows; t is the number of the step only if nothing else drives the phase."""
        title = f"t = {step}" if self.time == "index" else f"step {step}"
        quarters = [] if self.n_steps is None else _quarters(self.n_steps)
        if len(quarters) == 4 and step in quarters:
            title += f"\n({('T/4', 'T/2', '3T/4', 'T')[quarters.index(step)]})"
        return title


class WaveDisplay:
    """A few series of each class.

    One row a class, one panel a series.  Time spans differ between panels, the scale of values does not.  It is
    recommended to use :meth:`from_arrays`.  All parameters are stored as attributes.

    Parameters
    ----------
    values : list of n ndarrays of shape (T_i,)
        The series.
    times : list of n ndarrays of shape (T_i,)
        When each value was seen.
    labels : ndarray of shape (n,)
        The class of each series.
    display_labels : dict, default=None
        A name for each class.  Labels themselves are shown if None.
    time_label : str, default="time t"
        Label of the horizontal axes.
    value_label : str, default="value y"
        Label of the vertical axes.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_classes, n_columns)
        The panels.  Those of a class with fewer series than others are invisible.
    lines_ : ndarray of matplotlib Line2D or None, of shape (n_classes, n_columns)
        The line in each panel.
    bounding_ax_ : matplotlib Axes or None
        The Axes whose place the panels took, if one was passed for several panels.
    figure_ : matplotlib Figure
        The figure that holds the panels.

    See Also
    --------
    WaveDisplay.from_arrays : The first series of each class in a data set.
    sfmts.datasets.make_waves : Square and sawtooth waves.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts.plotting import WaveDisplay
    >>> t = np.linspace(0, 1, 50)
    >>> display = WaveDisplay([np.sin(6 * t), np.cos(6 * t)], [t, t], np.array(["sine", "cosine"]))
    >>> display.plot().axes_.shape
    (2, 1)
    """

    axes_: NDArray[Any]
    lines_: NDArray[Any]
    bounding_ax_: "Axes | None"
    figure_: "Figure | SubFigure"

    def __init__(
        self,
        values: list[NDArray[Any]],
        times: list[NDArray[Any]],
        labels: NDArray[Any],
        *,
        display_labels: Mapping[Any, str] | None = None,
        time_label: str = "time t",
        value_label: str = "value y",
    ) -> None:
        self.values = values
        self.times = times
        self.labels = labels
        self.display_labels = display_labels
        self.time_label = time_label
        self.value_label = value_label

    @classmethod
    def from_arrays(
        cls,
        X: Any,
        y: ArrayLike,
        *,
        n_per_class: int = 3,
        value_channel: int = 0,
        time_channel: int | None = 1,
        display_labels: Mapping[Any, str] | Sequence[str] | None = None,
        layout: str = "ntc",
        ax: Any = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the first series of each class in a data set.

        Parameters
        ----------
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            Series, as estimators take them.
        y : array-like of shape (n,)
            The class of each.
        n_per_class : int, default=3
            Greatest number of series of a class.
        value_channel : int, default=0
            The channel to show.  The default is that of :func:`sfmts.datasets.make_waves`.
        time_channel : int or None, default=1
            The channel that holds the times, likewise; None if there is none, which counts steps from 1.
        display_labels : dict or sequence of str, default=None
            A name for each class, by label or in the order of the sorted labels.  Labels themselves are shown if None.
        layout : {"ntc", "nct"}, default="ntc"
            Order of the axes of X, as in the estimators.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes, whose place the panels take, or one for each.  If None, a new figure is made.
        line_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : WaveDisplay
            Holds the series that are shown, class by class.

        Raises
        ------
        ValueError, TypeError
            If X is not of the form above, y does not fit it, or there is no such channel.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> from sfmts.datasets import make_waves
        >>> from sfmts.plotting import WaveDisplay
        >>> X, y = make_waves(20, n_steps=100, variant="released", random_state=0)
        >>> display = WaveDisplay.from_arrays(X, y, display_labels=["square", "sawtooth"])
        >>> display.axes_.shape, display.labels
        ((2, 3), array([0, 0, 0, 1, 1, 1]))
        """
        _check_matplotlib(f"{cls.__name__}.from_arrays")
        if n_per_class < 1:
            raise ValueError(f"n_per_class must be at least 1, not {n_per_class}.")
        batch = as_batch(X, BaseEstimator(), reset=True, layout=layout)
        classes, codes = as_labels(y, len(batch))
        for name, channel in (("value_channel", value_channel), ("time_channel", time_channel)):
            if channel is not None and not -batch.n_channels <= channel < batch.n_channels:
                hint = "; None counts steps instead" if name == "time_channel" else ""
                raise ValueError(f"{name}={channel} is not a channel of X, which has {batch.n_channels}{hint}.")
        if display_labels is not None and not isinstance(display_labels, Mapping):
            if len(display_labels) != len(classes):
                raise ValueError(
                    f"display_labels names {len(display_labels)} classes, but y has {len(classes)}: {classes.tolist()}."
                )
            display_labels = dict(zip(classes.tolist(), display_labels, strict=True))
        nameless = (
            [] if display_labels is None else [label for label in classes.tolist() if label not in display_labels]
        )
        if nameless:
            raise ValueError(
                f"display_labels has no name for class {nameless[0]!r}; it has {list(display_labels or ())}."
            )
        series = np.split(batch.values.numpy(), batch.lengths.cumsum(0)[:-1].numpy())
        shown = np.concatenate([np.flatnonzero(codes == code)[:n_per_class] for code in range(len(classes))])
        if time_channel is None:
            times = [np.arange(1, len(series[i]) + 1) for i in shown]
        else:
            times = [series[i][:, time_channel] for i in shown]
        display = cls(
            [series[i][:, value_channel] for i in shown],
            times,
            classes[codes[shown]],
            display_labels=display_labels,
            time_label="step" if time_channel is None else "time t",
        )
        return display.plot(ax, line_kw=line_kw)

    def plot(self, ax: Any = None, *, line_kw: Mapping[str, Any] | None = None) -> Self:
        """Draw the series.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            One Axes, whose place the panels take, or one for each.  If None, a new figure is made.
        line_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : WaveDisplay
            This object.

        Raises
        ------
        ValueError
            If ``ax`` holds more or fewer Axes than there are panels.
        ImportError
            If matplotlib is missing.
        """
        _check_matplotlib(f"{type(self).__name__}.plot")
        classes, codes = np.unique(self.labels, return_inverse=True)
        counts = np.bincount(codes)
        shape = (len(classes), int(counts.max()))
        size = (1.0 + 2.8 * shape[1], 0.8 + 1.7 * shape[0])
        axes, self.bounding_ax_ = _panels(ax, shape, size, sharey=True)
        self.axes_, self.lines_ = axes, np.full(shape, None, dtype=object)
        self.figure_ = axes[0, 0].figure
        for row, label in enumerate(classes.tolist()):
            name = f"class {label}" if self.display_labels is None else self.display_labels[label]
            axes[row, 0].set_ylabel(f"{name}\n{self.value_label}")
            style = {"color": _COLOURS[row % len(_COLOURS)], "marker": ".", "markersize": 3.0, "linewidth": 0.8}
            for panel in axes[row, counts[row] :]:
                panel.set_visible(False)
            for column, member in enumerate(np.flatnonzero(codes == row)):
                panel = axes[row, column]
                values, times = self.values[member], self.times[member]
                (self.lines_[row, column],) = panel.plot(times, values, **_line_style(style, line_kw))
                panel.grid(True, alpha=0.3)
                if (counts[row + 1 :] <= column).all():  # nothing stands below it
                    panel.set_xlabel(self.time_label)
        return self


class PianoRollDisplay:
    """A piano-roll and, under it, what a model expected at each step.

    Keys from bottom to top, time from left to right; both panels have the same time axis, so that a frame stands above
    its prediction, and the same colour scale from 0 to 1.  It is recommended to use :meth:`from_estimator` or
    :meth:`from_predictions`.  All parameters are stored as attributes.

    Parameters
    ----------
    roll_true : ndarray of shape (T, n_keys)
        1 where a key is down, else 0.
    roll_proba : ndarray of shape (T - 1, n_keys), default=None
        Probabilities that keys are down in the frames 2 to T.
    step : float, default=None
        Time between two frames.  If None, the time axis counts frames from 1.
    unit : {"seconds", "quarters"}, default="seconds"
        What ``step`` counts.
    key_low : int, default=21
        MIDI number of the first column; 21 is A0, the lowest of a piano, and 60 is C4.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_panels,)
        The roll and, if there are probabilities, these.
    images_ : list of matplotlib AxesImage
        The image in each panel.
    colorbar_ : matplotlib Colorbar or None
        The scale of the probabilities.
    bounding_ax_ : matplotlib Axes or None
        The Axes whose place the panels took, if one was passed for two panels.
    figure_ : matplotlib Figure
        The figure that holds the panels.

    See Also
    --------
    PianoRollDisplay.from_estimator : Draw with the probabilities of a fitted estimator.
    PianoRollDisplay.from_predictions : Draw with probabilities that are known.
    sfmts.datasets.fetch_piano_rolls : Piano-rolls.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts.plotting import PianoRollDisplay
    >>> scale = np.eye(88)[39:52]  # from C4 up
    >>> display = PianoRollDisplay(scale, step=0.3).plot()
    >>> display.axes_[0].get_xlabel()
    'time (seconds)'
    """

    axes_: NDArray[Any]
    images_: "list[AxesImage]"
    colorbar_: "Colorbar | None"
    bounding_ax_: "Axes | None"
    figure_: "Figure | SubFigure"

    def __init__(
        self,
        roll_true: NDArray[Any],
        roll_proba: NDArray[Any] | None = None,
        *,
        step: float | None = None,
        unit: str = "seconds",
        key_low: int = 21,
    ) -> None:
        self.roll_true = roll_true
        self.roll_proba = roll_proba
        self.step = step
        self.unit = unit
        self.key_low = key_low

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        roll: ArrayLike,
        *,
        step: float | None = None,
        unit: str = "seconds",
        key_low: int = 21,
        ax: Any = None,
        cmap: "str | Colormap" = "Blues",
        colorbar: bool = True,
        imshow_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw a roll, and what a fitted estimator expects of each frame after hearing those before it.

        Parameters
        ----------
        estimator : estimator instance
            Fitted; ``predict_proba([roll])`` must return a list with one array (T, n_keys), whose row t holds the
            probabilities of frame t + 1 given the frames up to t.
        roll : array-like of shape (T, n_keys)
            1 where a key is down, else 0.
        step : float, default=None
            Time between two frames.  If None, the time axis counts frames from 1.
        unit : {"seconds", "quarters"}, default="seconds"
            What ``step`` counts, as in :func:`sfmts.datasets.midi_to_roll`.
        key_low : int, default=21
            MIDI number of the first column, A0 by default.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes, whose place the panels take, or one for each.  If None, a new figure is made.
        cmap : str or matplotlib Colormap, default="Blues"
            White is 0.  The default darkens evenly, so it serves the colour-blind and in grey.
        colorbar : bool, default=True
            Whether to draw the colour scale.
        imshow_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : PianoRollDisplay
            Holds the roll and the probabilities.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If it predicts no frames, or as :meth:`from_predictions`.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.base import BaseEstimator
        >>> from sfmts.plotting import PianoRollDisplay
        >>> class Held(BaseEstimator):
        ...     '''Expects each key that is down to stay so.'''
        ...
        ...     def fit(self, X, y=None):
        ...         return self
        ...
        ...     def __sklearn_is_fitted__(self):
        ...         return True
        ...
        ...     def predict_proba(self, X):
        ...         return [np.where(roll, 0.9, 0.01) for roll in X]
        >>> scale = np.eye(88)[39:52]
        >>> display = PianoRollDisplay.from_estimator(Held(), scale, step=0.3)
        >>> display.roll_proba.shape
        (12, 88)
        """
        _check_matplotlib(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        name = type(estimator).__name__
        if not hasattr(estimator, "predict_proba"):
            raise ValueError(f"{cls.__name__} needs predict_proba, for the next frame of a roll; {name} has none.")
        binary = _check_roll(roll)
        predicted = estimator.predict_proba([roll])
        shape = np.shape(predicted[0])
        if len(predicted) != 1 or shape != binary.shape:
            raise ValueError(
                f"predict_proba([roll]) must return one array for the roll, with a row for each frame: of shape "
                f"{binary.shape}.  That of {name} has shape {shape}: does it predict frames?"
            )
        return cls.from_predictions(
            binary,
            predicted[0],
            step=step,
            unit=unit,
            key_low=key_low,
            ax=ax,
            cmap=cmap,
            colorbar=colorbar,
            imshow_kw=imshow_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        roll_true: ArrayLike,
        roll_proba: ArrayLike | None = None,
        *,
        step: float | None = None,
        unit: str = "seconds",
        key_low: int = 21,
        ax: Any = None,
        cmap: "str | Colormap" = "Blues",
        colorbar: bool = True,
        imshow_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw a roll and, if there are any, probabilities of its frames.

        Parameters
        ----------
        roll_true : array-like of shape (T, n_keys)
            1 where a key is down, else 0.
        roll_proba : array-like of shape (T, n_keys) or (T - 1, n_keys), default=None
            Probabilities of the next frame: row t is about frame t + 1, so that rows 1 to T - 1 stand under the frames
            2 to T.  The row after the last frame, about one that is not there, is left out.
        step : float, default=None
            Time between two frames.  If None, the time axis counts frames from 1.
        unit : {"seconds", "quarters"}, default="seconds"
            What ``step`` counts, as in :func:`sfmts.datasets.midi_to_roll`.
        key_low : int, default=21
            MIDI number of the first column, A0 by default.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes, whose place the panels take, or one for each.  If None, a new figure is made.
        cmap : str or matplotlib Colormap, default="Blues"
            White is 0.  The default darkens evenly, so it serves the colour-blind and in grey.
        colorbar : bool, default=True
            Whether to draw the colour scale, if there are probabilities.
        imshow_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : PianoRollDisplay
            Holds the roll and the probabilities of the frames 2 to T.

        Raises
        ------
        ValueError
            If ``roll_true`` is not binary, ``roll_proba`` does not fit it or holds what is no probability, ``step`` is
            not positive, there is no such unit, or keys would lie beyond MIDI's 0 to 127.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> import numpy as np
        >>> from sfmts.plotting import PianoRollDisplay
        >>> scale = np.eye(88)[39:52]
        >>> display = PianoRollDisplay.from_predictions(scale, np.where(scale, 0.9, 0.01))
        >>> display.roll_true.shape, display.roll_proba.shape
        ((13, 88), (12, 88))
        """
        _check_matplotlib(f"{cls.__name__}.from_predictions")
        binary = _check_roll(roll_true)
        check_choice("unit", unit, _TIME_UNITS)
        if step is not None and not 0.0 < step < np.inf:
            raise ValueError(f"step must be a positive time in {unit}, or None to count frames, not {step}.")
        highest = key_low + binary.shape[1] - 1
        if not 0 <= key_low <= highest <= _HIGHEST_MIDI_KEY:
            raise ValueError(
                f"key_low={key_low} gives {binary.shape[1]} columns the MIDI numbers {key_low} to {highest}; there are "
                f"only 0 to {_HIGHEST_MIDI_KEY}."
            )
        probabilities = None if roll_proba is None else _check_roll_proba(roll_proba, binary.shape)
        display = cls(binary, probabilities, step=step, unit=unit, key_low=key_low)
        return display.plot(ax, cmap=cmap, colorbar=colorbar, imshow_kw=imshow_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: "str | Colormap" = "Blues",
        colorbar: bool = True,
        imshow_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the roll and the probabilities.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            One Axes, whose place the panels take, or one for each.  If None, a new figure is made.
        cmap : str or matplotlib Colormap, default="Blues"
            White is 0.
        colorbar : bool, default=True
            Whether to draw the colour scale, if there are probabilities.
        imshow_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : PianoRollDisplay
            This object.

        Raises
        ------
        ValueError
            If ``ax`` holds more or fewer Axes than there are panels.
        ImportError
            If matplotlib is missing.
        """
        _check_matplotlib(f"{type(self).__name__}.plot")
        from matplotlib.ticker import MaxNLocator

        rolls = [self.roll_true] if self.roll_proba is None else [self.roll_true, self.roll_proba]
        axes, self.bounding_ax_ = _panels(ax, (len(rolls), 1), (9.0, 0.8 + 2.9 * len(rolls)), sharex=True, sharey=True)
        options = {"aspect": "auto", "origin": "lower", "vmin": 0.0, "vmax": 1.0, **(imshow_kw or {})}
        options.setdefault("cmap", cmap)
        n_frames, n_keys = self.roll_true.shape
        if n_frames <= _SHARP:  # beyond, matplotlib's own choice loses no note between two pixels
            options.setdefault("interpolation", "nearest")
        start, width = (0.5, 1.0) if self.step is None else (0.0, self.step)  # frames are centred on their numbers
        ends = start, start + n_frames * width
        titles = ["Roll"] if self.roll_proba is None else ["Truth", "Predicted from the frames before"]
        keys = _key_ticks(self.key_low, n_keys)
        self.axes_, self.images_ = axes.ravel(), []
        for panel, roll, title in zip(self.axes_, rolls, titles, strict=True):
            left = ends[1] - len(roll) * width
            extent = (left, ends[1], self.key_low - 0.5, self.key_low + n_keys - 0.5)
            self.images_.append(panel.imshow(roll.T, extent=extent, **options))
            panel.set(title=title, xlim=ends, ylabel="key")
            panel.set_xlabel("frame" if self.step is None else f"time ({_TIME_UNITS[self.unit]})")
            panel.set_yticks(keys, [_note_name(key) for key in keys])
            panel.grid(axis="y", color="0.5", alpha=0.35, linewidth=0.6)
            if self.step is None:
                panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if left > ends[0]:
                panel.axvspan(ends[0], left, facecolor="0.85", hatch="////", edgecolor="0.6", linewidth=0.0)
        self.figure_ = self.axes_[0].figure
        if ax is None or self.bounding_ax_ is not None:
            _label_outer(axes)
        self.colorbar_ = None
        if colorbar and self.roll_proba is not None:
            self.colorbar_ = self.figure_.colorbar(
                self.images_[-1], ax=self.axes_.tolist(), label="probability that the key is down"
            )
        return self


class TrainingCurveDisplay:
    """Loss and, where a validation set was kept, its loss and score, epoch by epoch.

    Losses share a panel, since they are of one unit; scores have a panel of their own.  To compare estimators, pass the
    same Axes to several calls.  It is recommended to use :meth:`from_estimator`.  All parameters are stored as
    attributes.

    Parameters
    ----------
    loss : array-like of shape (n_epochs,)
        Training loss after each epoch.
    validation_loss : array-like of shape (n_epochs,), default=None
        Loss on the validation set.
    validation_scores : array-like of shape (n_epochs,), default=None
        Score on the validation set.
    name : str, default=None
        Name for the legend.  If None, there is none.
    loss_name : str, default="loss"
        What the loss is, with its unit.
    score_name : str, default="validation score"
        What the score is.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The panel of the losses.
    axes_ : ndarray of matplotlib Axes of shape (1,) or (2,)
        This and, if there is one, the panel of the scores.
    line_ : matplotlib Line2D
        The training loss.
    validation_loss_line_, validation_scores_line_ : matplotlib Line2D or None
        The others.
    figure_ : matplotlib Figure
        The figure that holds the panels.

    See Also
    --------
    TrainingCurveDisplay.from_estimator : The curves of a fitted estimator.

    Examples
    --------
    >>> from sfmts.plotting import TrainingCurveDisplay
    >>> display = TrainingCurveDisplay([0.7, 0.4, 0.3], name="mine").plot()
    >>> display.line_.get_xdata()
    array([1, 2, 3])
    """

    ax_: "Axes"
    axes_: NDArray[Any]
    line_: "Line2D"
    validation_loss_line_: "Line2D | None"
    validation_scores_line_: "Line2D | None"
    figure_: "Figure | SubFigure"

    def __init__(
        self,
        loss: ArrayLike,
        *,
        validation_loss: ArrayLike | None = None,
        validation_scores: ArrayLike | None = None,
        name: str | None = None,
        loss_name: str = "loss",
        score_name: str = "validation score",
    ) -> None:
        self.loss = loss
        self.validation_loss = validation_loss
        self.validation_scores = validation_scores
        self.name = name
        self.loss_name = loss_name
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        name: str | None = None,
        log_scale: bool = False,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        estimator : estimator instance
            Fitted, with an attribute ``loss_curve_`` and perhaps ``validation_scores_``; or a pipeline that ends in
            one, or a search that found one.  The validation loss is ``history_["validation_loss"]``.
        name : str, default=None
            Name for the legend.  If None, the name of the estimator's class.
        log_scale : bool, default=False
            Whether the axis of the loss is logarithmic.  It is not by default, since a density's loss may be negative.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes takes the losses alone; two take losses and scores.  If None, a new figure is made, with a panel
            for the scores if there are any.
        **kwargs : dict
            Further arguments of :meth:`matplotlib.axes.Axes.plot` for all lines.

        Returns
        -------
        display : TrainingCurveDisplay
            Holds the curves.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If it keeps no ``loss_curve_``, or ``log_scale`` meets a loss that is not positive.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sfmts import SFMClassifier
        >>> from sfmts.datasets import make_waves
        >>> from sfmts.plotting import TrainingCurveDisplay
        >>> X, y = make_waves(20, n_steps=30, random_state=0)
        >>> figure, ax = plt.subplots(layout="constrained")
        >>> for network in ("sfm", "lstm"):
        ...     model = SFMClassifier(network, n_states=4, max_iter=3, random_state=0).fit(X, y)
        ...     display = TrainingCurveDisplay.from_estimator(model, name=network, ax=ax)
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['sfm', 'lstm']
        """
        _check_matplotlib(f"{cls.__name__}.from_estimator")
        _check_fitted(estimator)
        fitted, _ = _last_step(estimator)
        if not hasattr(fitted, "loss_curve_"):
            raise ValueError(
                f"{cls.__name__} needs an estimator that keeps its losses in loss_curve_; {type(fitted).__name__} "
                "does not."
            )
        loss_name, score_name = _measures(fitted)
        display = cls(
            fitted.loss_curve_,
            validation_loss=getattr(fitted, "history_", {}).get("validation_loss") or None,
            validation_scores=getattr(fitted, "validation_scores_", None) or None,
            name=type(fitted).__name__ if name is None else name,
            loss_name=loss_name,
            score_name=score_name,
        )
        return display.plot(ax, log_scale=log_scale, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, log_scale: bool = False, **kwargs: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            One Axes takes the losses alone; two take losses and scores.  If None, a new figure is made, with a panel
            for the scores if there are any.
        name : str, default=None
            Name for the legend.  If None, that of the display.
        log_scale : bool, default=False
            Whether the axis of the loss is logarithmic.
        **kwargs : dict
            Further arguments of :meth:`matplotlib.axes.Axes.plot` for all lines.

        Returns
        -------
        display : TrainingCurveDisplay
            This object.

        Raises
        ------
        ValueError
            If ``log_scale`` meets a loss that is not positive, or ``ax`` holds more than two Axes.
        ImportError
            If matplotlib is missing.
        """
        _check_matplotlib(f"{type(self).__name__}.plot")
        if log_scale:
            self._refuse_negative()
        n_panels = 1 if self.validation_scores is None else 2
        if ax is not None:
            n_panels = np.size(ax)
            if n_panels not in (1, 2):
                raise ValueError(f"ax holds {n_panels} Axes; one takes the losses, two take losses and scores.")
        axes, _ = _panels(ax, (n_panels, 1), (6.5, 1.2 + 2.6 * n_panels), sharex=True)
        self.axes_ = axes.ravel()
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self._draw_losses(self.name if name is None else name, kwargs)
        if log_scale:
            self.ax_.set_yscale("log")
        if self.ax_.get_yscale() == "log":  # perhaps since an earlier call
            _plain_log_ticks(self.ax_)
        self.validation_scores_line_ = None
        if self.validation_scores is not None and n_panels == 2:
            self.validation_scores_line_ = self._draw(self.axes_[1], self.validation_scores, self._validation(kwargs))
            self.axes_[1].set_ylabel(self.score_name)
        return self

    def _refuse_negative(self) -> None:
        for what, losses in (("loss", self.loss), ("validation_loss", self.validation_loss)):
            values = np.asarray([] if losses is None else losses)
            if (values <= 0).any():
                first = int(np.argmax(values <= 0))
                raise ValueError(
                    f"log_scale=True needs positive losses, but {what} is {values[first]:g} after epoch {first + 1}; "
                    "use log_scale=False."
                )

    def _draw_losses(self, name: str | None, kwargs: dict[str, Any]) -> None:
        """The first panel; its first line sets the style of the others."""
        if not self.ax_.lines:  # each further call on the same Axes takes the next
            self.ax_.set_prop_cycle(color=list(_COLOURS), marker=list(_MARKERS))
        labels = [name, None]
        if self.validation_loss is not None:
            labels = [part if name is None else f"{name}, {part}" for part in ("training", "validation")]
        self.line_ = self._draw(self.ax_, self.loss, _line_style({"label": labels[0]}, kwargs))
        self.validation_loss_line_ = None
        if self.validation_loss is not None:
            style = {**self._validation(kwargs), "label": labels[1]}
            self.validation_loss_line_ = self._draw(self.ax_, self.validation_loss, style)
        self.ax_.set_ylabel(self.loss_name)
        if self.ax_.get_legend_handles_labels()[1]:
            self.ax_.legend()

    def _validation(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Style of a line about the validation set: as the training loss, but dashed and hollow."""
        colour = self.line_.get_color()
        style = {"color": colour, "marker": self.line_.get_marker(), "linestyle": "--", "markerfacecolor": "white"}
        return _line_style(style, kwargs)

    @staticmethod
    def _draw(ax: "Axes", curve: ArrayLike, style: dict[str, Any]) -> "Line2D":
        from matplotlib.ticker import MaxNLocator

        values = np.asarray(curve)
        spaced = {"markersize": 4.0, "markevery": max(1, len(values) // 12)}
        (line,) = ax.plot(np.arange(1, len(values) + 1), values, **{**spaced, **style})
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set_xlim(left=0.5, auto=True)  # there is no epoch 0; a longer curve may still come
        if ax.xaxis.get_tick_params().get("labelbottom", True):  # else the panel below has the numbers
            ax.set_xlabel("epoch")
        ax.grid(True, alpha=0.3)
        return line


class ForecastDisplay:
    """The last part of a series, what a forecaster expects of its future, and what came of it.

    One panel a series: the past, the truth as far as it is known, the forecast as a line and its intervals as bands,
    the narrower within the wider.  To compare forecasters, pass the same Axes to several calls.  It is recommended to
    use :meth:`from_estimator` or :meth:`from_predictions`.  All parameters are stored as attributes.

    Parameters
    ----------
    times : list of n ndarrays of shape (T_i,)
        Dates or numbers of the steps that were observed.
    values : list of n ndarrays of shape (T_i,)
        What was observed; the past of a series ends where its forecast begins, and then comes the truth.
    forecast_times : list of n ndarrays of shape (H_i,)
        Dates or numbers of the steps that were forecast.
    forecasts : list of n ndarrays of shape (H_i,)
        Point forecasts.
    intervals : list of n ndarrays of shape (n_coverages, 2, H_i), default=None
        Lower and upper ends of the intervals.
    coverage : tuple of n_coverages floats, default=()
        Probability with which the truth is expected in each.
    titles : list of n str, default=None
        A title for each panel.
    value_labels : list of n str, default=None
        A label for each vertical axis.
    time_label : str, default=""
        Label of the horizontal axes.
    name : str, default="forecast"
        Name of the forecast in the legend.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n,)
        The panels.
    lines_ : list of matplotlib Line2D
        The forecast in each panel.
    bands_ : list of lists of matplotlib PolyCollection
        The intervals in each panel, in the order of ``coverage``.
    past_lines_ : list of matplotlib Line2D
        The past in each panel.
    truth_lines_ : list of matplotlib Line2D or None
        The truth in each panel, from the last step of the past on; None where it is unknown.
    bounding_ax_ : matplotlib Axes or None
        The Axes whose place the panels took, if one was passed for several panels.
    figure_ : matplotlib Figure
        The figure that holds the panels.

    See Also
    --------
    ForecastDisplay.from_estimator : Draw what a fitted forecaster predicts.
    ForecastDisplay.from_predictions : Draw predictions that are known.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts.plotting import ForecastDisplay
    >>> past, future = np.arange(20), np.arange(20, 24)
    >>> bands = np.array([[future - 1.0, future + 1.0], [future - 3.0, future + 3.0]])
    >>> display = ForecastDisplay([past], [past], [future], [future], intervals=[bands], coverage=(0.5, 0.9)).plot()
    >>> [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
    ['past', 'forecast', '90 % interval', '50 % interval']
    """

    axes_: NDArray[Any]
    lines_: "list[Line2D]"
    bands_: "list[list[PolyCollection]]"
    past_lines_: "list[Line2D]"
    truth_lines_: "list[Line2D | None]"
    bounding_ax_: "Axes | None"
    figure_: "Figure | SubFigure"

    def __init__(
        self,
        times: list[NDArray[Any]],
        values: list[NDArray[Any]],
        forecast_times: list[NDArray[Any]],
        forecasts: list[NDArray[Any]],
        *,
        intervals: list[NDArray[Any]] | None = None,
        coverage: tuple[float, ...] = (),
        titles: list[str] | None = None,
        value_labels: list[str] | None = None,
        time_label: str = "",
        name: str = "forecast",
    ) -> None:
        self.times = times
        self.values = values
        self.forecast_times = forecast_times
        self.forecasts = forecasts
        self.intervals = intervals
        self.coverage = coverage
        self.titles = titles
        self.value_labels = value_labels
        self.time_label = time_label
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        forecaster: Any,
        y: Any,
        *,
        fh: Any = None,
        X: Any = None,
        coverage: float | Sequence[float] = (0.5, 0.9),
        n_past: int | None = None,
        n_panels: int = 6,
        name: str | None = None,
        ax: Any = None,
        line_kw: Mapping[str, Any] | None = None,
        fill_between_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw what a fitted forecaster predicts.

        Parameters
        ----------
        forecaster : forecaster instance
            Fitted; :class:`sfmts.SFMForecaster` or any other of sktime.  Of one without intervals the line is drawn.
        y : pandas Series or DataFrame
            Series to show, in sktime's form: one, one a column, or a panel or hierarchy of them, which has several
            levels in its index.  Their past and, if it is known, the truth after it.  Part of what ``forecaster`` was
            fitted to will do: no others are drawn.
        fh : int, array-like or ForecastingHorizon, default=None
            Steps to forecast, as in the forecaster's ``predict``.  If None, those given to its ``fit``.
        X : pandas DataFrame, default=None
            Exogenous variables of these steps, as in the forecaster's ``predict``.
        coverage : float or sequence of float, default=(0.5, 0.9)
            Probabilities of the intervals; () for none.
        n_past : int, default=None
            Steps before the first forecast that are shown.  If None, the past is three times as long as the forecast
            reaches ahead, and has at least 12 steps.
        n_panels : int, default=6
            Greatest number of panels; the first series of y have one.
        name : str, default=None
            Name for the legend.  If None, the name of the forecaster's class.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes, whose place the panels take, or one for each.  If None, a new figure is made.
        line_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.plot` for the forecast.
        fill_between_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.fill_between` for the intervals.

        Returns
        -------
        display : ForecastDisplay
            Holds the forecasts and what was observed.

        Raises
        ------
        NotFittedError
            If the forecaster is not fitted (sktime's exception of this name).
        ValueError
            If it is no forecaster, a coverage is not between 0 and 1, or as :meth:`from_predictions`.
        TypeError
            If y is not of pandas.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> from sktime.datasets import load_airline
        >>> from sfmts import SFMForecaster
        >>> from sfmts.plotting import ForecastDisplay
        >>> y = load_airline()
        >>> model = SFMForecaster(sp=12, max_iter=3, random_state=0).fit(y[:-12], fh=range(1, 13))
        >>> display = ForecastDisplay.from_estimator(model, y)
        >>> [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
        ['past', 'truth', 'SFMForecaster', '90 % interval', '50 % interval']
        """
        _check_matplotlib(f"{cls.__name__}.from_estimator")
        _check_pandas("y", y)
        kind = type(forecaster).__name__
        if not hasattr(forecaster, "predict_interval"):
            raise ValueError(
                f"{cls.__name__} needs a forecaster with sktime's interface; {kind} has no predict_interval."
            )
        wanted = np.atleast_1d(np.asarray(coverage, dtype=np.float64))
        if not ((wanted > 0) & (wanted < 1)).all():
            raise ValueError(f"coverage={coverage} must lie between 0 and 1, as (0.5, 0.9).")
        y_pred, y_interval = forecaster.predict(fh, X), None
        if len(wanted) and forecaster.get_tag("capability:pred_int", False, raise_error=False):
            y_interval = forecaster.predict_interval(fh, X, coverage=wanted.tolist())
        return cls.from_predictions(
            y,
            y_pred,
            y_interval,
            n_past=n_past,
            n_panels=n_panels,
            name=kind if name is None else name,
            ax=ax,
            line_kw=line_kw,
            fill_between_kw=fill_between_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        y: Any,
        y_pred: Any,
        y_interval: Any = None,
        *,
        n_past: int | None = None,
        n_panels: int = 6,
        name: str = "forecast",
        ax: Any = None,
        line_kw: Mapping[str, Any] | None = None,
        fill_between_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw forecasts that are known.

        Parameters
        ----------
        y : pandas Series or DataFrame
            Series to show, in sktime's form: one, one a column, or a panel or hierarchy of them, which has several
            levels in its index.  What was observed before the first step that was forecast is the past; later values
            are the truth.
        y_pred : pandas Series or DataFrame
            Point forecasts of these series and perhaps of others, as from a forecaster's ``predict``.
        y_interval : pandas DataFrame, default=None
            Intervals, as from a forecaster's ``predict_interval``: columns are (variable, coverage, "lower" or
            "upper").
        n_past : int, default=None
            Steps before the first forecast that are shown.  If None, the past is three times as long as the forecast
            reaches ahead, and has at least 12 steps.
        n_panels : int, default=6
            Greatest number of panels; the first series of y have one.
        name : str, default="forecast"
            Name for the legend.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes, whose place the panels take, or one for each.  If None, a new figure is made.
        line_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.plot` for the forecast.
        fill_between_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.fill_between` for the intervals.

        Returns
        -------
        display : ForecastDisplay
            Holds the forecasts and what was observed.

        Raises
        ------
        ValueError
            If a series of y was not forecast, its index is of another kind than that of its forecast, columns of
            ``y_interval`` are not those of intervals, or ``n_past`` or ``n_panels`` is too small.
        TypeError
            If y, ``y_pred`` or ``y_interval`` is not of pandas.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> from sktime.datasets import load_airline
        >>> from sfmts.plotting import ForecastDisplay
        >>> y = load_airline()
        >>> season_before = y.shift(12)[-12:]
        >>> display = ForecastDisplay.from_predictions(y, season_before, n_past=24, name="season before")
        >>> display.times[0][[0, -1]].astype("datetime64[M]")
        array(['1958-01', '1960-12'], dtype='datetime64[M]')
        """
        _check_matplotlib(f"{cls.__name__}.from_predictions")
        for what, least, number in (("n_past", 0, n_past), ("n_panels", 1, n_panels)):
            if number is not None and number < least:
                raise ValueError(f"{what} must be at least {least}, not {number}.")
        observed = _as_frame("y", y)
        predicted = _as_frame("y_pred", y_pred, observed)
        panels = [(member, variable) for member in frames_of(observed) for variable in observed.columns][:n_panels]
        past, future = _columns("y", observed, panels), _columns("y_pred", predicted, panels)
        past_times = [_times(series.index, series.index) for series in past]
        future_times = [_times(series.index, known.index) for series, known in zip(future, past, strict=True)]
        shown = [_shown(*times, n_past) for times in zip(past_times, future_times, strict=True)]
        intervals: list[NDArray[Any]] | None = None
        coverage: tuple[float, ...] = ()
        if y_interval is not None:
            ends = _as_frame("y_interval", y_interval, observed)
            coverage = _check_intervals(ends, predicted)
            intervals = [_ends(frame, coverage) for frame in _columns("y_interval", ends, panels)]
        display = cls(
            [times[rows] for times, rows in zip(past_times, shown, strict=True)],
            [series.to_numpy()[rows] for series, rows in zip(past, shown, strict=True)],
            future_times,
            [series.to_numpy() for series in future],
            intervals=intervals,
            coverage=coverage,
            titles=[", ".join(map(str, member)) for member, _ in panels],
            value_labels=[str(variable) for _, variable in panels],
            time_label=str(observed.index.names[-1] or ""),
            name=name,
        )
        return display.plot(ax, line_kw=line_kw, fill_between_kw=fill_between_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        line_kw: Mapping[str, Any] | None = None,
        fill_between_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the series and their forecasts.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            One Axes, whose place the panels take, or one for each.  If None, a new figure is made.
        name : str, default=None
            Name for the legend.  If None, that of the display.
        line_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.plot` for the forecast.
        fill_between_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.fill_between` for the intervals.

        Returns
        -------
        display : ForecastDisplay
            This object.

        Raises
        ------
        ValueError
            If ``ax`` holds more or fewer Axes than there are panels.
        ImportError
            If matplotlib is missing.
        """
        _check_matplotlib(f"{type(self).__name__}.plot")
        from matplotlib.axes import Axes

        n = len(self.forecasts)
        n_columns = 1 if n <= 3 or not (ax is None or isinstance(ax, Axes)) else 2 if n <= 6 else 3
        n_rows = -(-n // n_columns)
        size = (4.0 + 3.5 * n_columns, 1.4 + 2.2 * n_rows)
        grid, self.bounding_ax_ = _panels(ax, (n_rows, n_columns), size)
        for spare in grid.ravel()[n:]:
            spare.set_visible(False)
        self.axes_, self.figure_ = grid.ravel()[:n], grid[0, 0].figure
        self.past_lines_, self.truth_lines_, self.lines_, self.bands_ = [], [], [], []
        own_grid = ax is None or self.bounding_ax_ is not None
        for number, panel in enumerate(self.axes_):
            if not panel.lines:  # else there is another forecast already, whose labels are right
                self._prepare(panel, number, lowest=not own_grid or number >= n - n_columns)
            self._draw_observed(panel, number)
            style = _line_style({"label": self.name if name is None else name}, line_kw)
            self._draw_forecast(panel, number, style, fill_between_kw or {})
        self._draw_legend(below=ax is None and n > 1)
        return self

    def _prepare(self, panel: "Axes", number: int, lowest: bool) -> None:
        # each further forecast on the same Axes takes the next
        panel.set_prop_cycle(color=list(_COLOURS), marker=list(_MARKERS))
        panel.set_title("" if self.titles is None else self.titles[number])
        panel.set_ylabel("" if self.value_labels is None else self.value_labels[number])
        panel.set_xlabel(self.time_label if lowest else "")
        panel.grid(True, alpha=0.3)
        _time_ticks(panel, self.times[number])

    def _draw_observed(self, panel: "Axes", number: int) -> None:
        times, values = self.times[number], self.values[number]
        n_past = int(np.searchsorted(times, self.forecast_times[number][0]))
        style: dict[str, Any] = {"color": "0.15", "marker": "None", "linewidth": 1.2}
        self.past_lines_ += panel.plot(times[:n_past], values[:n_past], label="past", **style)
        if len(times) == n_past:
            self.truth_lines_.append(None)
            return
        joined = slice(max(0, n_past - 1), None)  # to the past
        self.truth_lines_ += panel.plot(times[joined], values[joined], label="truth", linestyle="--", **style)

    def _draw_forecast(
        self, panel: "Axes", number: int, style: dict[str, Any], fill_between_kw: Mapping[str, Any]
    ) -> None:
        times, n_coverages = self.forecast_times[number], len(self.coverage)
        spaced = {"markersize": 3.0, "markevery": max(1, len(times) // 24)}
        (line,) = panel.plot(times, self.forecasts[number], **{**spaced, **style})
        fill = {"color": line.get_color(), "linewidth": 0.0 if len(times) > 1 else 5.0}  # one step has no width
        bands: dict[int, PolyCollection] = {}
        for i in reversed(np.argsort(self.coverage).tolist()):  # the narrower on top, and darker
            shade = {"alpha": 0.2 + 0.4 * len(bands) / n_coverages, "label": f"{100 * self.coverage[i]:g} % interval"}
            low, high = (self.intervals or [])[number][i]
            bands[i] = panel.fill_between(times, low, high, **{**fill, **shade, **fill_between_kw})
        self.lines_.append(line)
        self.bands_.append([bands[i] for i in range(n_coverages)])

    def _draw_legend(self, below: bool) -> None:
        """In the first panel or below all, with one entry for each name; it replaces one with fewer entries."""
        handles, labels = self.axes_[0].get_legend_handles_labels()
        entries: dict[str, Any] = {}
        for handle, label in zip(handles, labels, strict=True):
            entries.setdefault(label, handle)
        for legend in list(self.figure_.legends):
            if {text.get_text() for text in legend.get_texts()} <= set(entries):
                legend.remove()
                below = True
        if below:
            n_columns = len(entries) if len(entries) <= 5 else -(-len(entries) // 2)  # in one row or in two
            self.figure_.legend(entries.values(), entries, loc="outside lower center", ncols=n_columns)
        elif entries:
            self.axes_[0].legend(entries.values(), entries)


class FrequencyImportanceDisplay:
    """Periods, decay times and channels that decide what a ridge model of oscillators predicts.

    It is recommended to use :meth:`from_estimator`.  All parameters are stored as attributes.

    Parameters
    ----------
    importance : FrequencyImportance
        What :meth:`sfmts.SFMRidgeClassifier.frequency_importance` returns.  For several series, pictures show the root
        mean square of the contributions; for a single one, the contributions with their signs.
    output_name : str, default="output"
        What an output is, such as "class" or "target".

    Attributes
    ----------
    ax_ : matplotlib Axes
        The panel.
    figure_ : matplotlib Figure
        The figure that holds the panel.
    mesh_ : matplotlib QuadMesh or None
        Periods and decay times.  The last column is that of frequency zero; the column before it is blank.
    colorbar_ : matplotlib Colorbar or None
        The scale of ``mesh_``.
    lines_, level_lines_ : list of matplotlib Line2D
        For each output, the line over periods and the point of frequency zero.
    bars_ : matplotlib BarContainer or None
        A bar for each channel.

    See Also
    --------
    FrequencyImportanceDisplay.from_estimator : The importance in a fitted estimator.

    Examples
    --------
    >>> import numpy as np
    >>> from sfmts import SFMRidgeClassifier
    >>> from sfmts.plotting import FrequencyImportanceDisplay
    >>> X = np.random.default_rng(0).normal(size=(20, 30))
    >>> y = np.arange(20) % 2
    >>> X[y == 1] += 3 * np.sin(np.arange(30))
    >>> model = SFMRidgeClassifier(n_features=560, random_state=0).fit(X, y)
    >>> display = FrequencyImportanceDisplay(model.frequency_importance(X), output_name="class").plot(kind="period")
    >>> display.lines_[0].get_label()
    'class 1'
    """

    ax_: "Axes"
    figure_: "Figure | SubFigure"
    mesh_: "QuadMesh | None"
    colorbar_: "Colorbar | None"
    lines_: "list[Line2D]"
    level_lines_: "list[Line2D]"
    bars_: "BarContainer | None"

    def __init__(self, importance: FrequencyImportance, *, output_name: str = "output") -> None:
        self.importance = importance
        self.output_name = output_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        output: Any = None,
        kind: str = "heatmap",
        n_bins: int = 12,
        ax: Any = None,
        cmap: "str | Colormap | None" = None,
    ) -> Self:
        """Draw what decides the predictions of a fitted estimator.

        Parameters
        ----------
        estimator : SFMRidgeClassifier or SFMRidgeRegressor
            Fitted; or a pipeline that ends in one, or a search that found one.
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            Many series show what the model relies on; a single one, as in ``X[:1]``, shows what decided its prediction.
        output : label or int, default=None
            Class or number of the target to show.  With two classes, only the second can be shown: what speaks for one
            speaks against the other.  If None, all outputs: "period" has a line for each; "heatmap" and "channel" show
            their root mean square.
        kind : {"heatmap", "period", "channel"}, default="heatmap"
            "heatmap" has periods and decay times as axes; "period" and "channel" show importance over one of the two.
        n_bins : int, default=12
            Number of bins of periods; there are half as many of decay times.
        ax : matplotlib Axes, default=None
            If None, a new figure is made.
        cmap : str or matplotlib Colormap, default=None
            Colours of the heatmap.  If None, "viridis", or "RdBu_r" where contributions have signs.

        Returns
        -------
        display : FrequencyImportanceDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the estimator has no frequency importance, or X, ``output``, ``kind`` or ``n_bins`` is invalid.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> import numpy as np
        >>> from sfmts import SFMRidgeRegressor
        >>> from sfmts.plotting import FrequencyImportanceDisplay
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(30, 40, 2))
        >>> y = X[:, :, 1].std(axis=1)
        >>> model = SFMRidgeRegressor(n_features=560, random_state=0).fit(X, y)
        >>> display = FrequencyImportanceDisplay.from_estimator(model, X, kind="channel")
        >>> len(display.bars_)
        2
        """
        _check_matplotlib(f"{cls.__name__}.from_estimator")
        check_choice("kind", kind, _IMPORTANCE_KINDS)
        _check_fitted(estimator)
        fitted, X = _last_step(estimator, X)
        if not hasattr(fitted, "frequency_importance"):
            raise ValueError(
                f"{cls.__name__} needs an SFMRidgeClassifier or an SFMRidgeRegressor, but the estimator is a "
                f"{type(fitted).__name__}{_hint_at_face(fitted)}."
            )
        name = "class" if is_classifier(fitted) else "target"
        display = cls(fitted.frequency_importance(X, n_bins=n_bins), output_name=name)
        return display.plot(ax, output=output, kind=kind, cmap=cmap)

    def plot(
        self,
        ax: Any = None,
        *,
        output: Any = None,
        kind: str = "heatmap",
        cmap: "str | Colormap | None" = None,
    ) -> Self:
        """Draw the importance.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            If None, a new figure is made.
        output : label or int, default=None
            One of ``importance.outputs``, or None for all.
        kind : {"heatmap", "period", "channel"}, default="heatmap"
            What to draw.
        cmap : str or matplotlib Colormap, default=None
            Colours of the heatmap.  If None, "viridis", or "RdBu_r" where contributions have signs.

        Returns
        -------
        display : FrequencyImportanceDisplay
            This object.

        Raises
        ------
        ValueError
            If ``output`` or ``kind`` is invalid.
        ImportError
            If matplotlib is missing.
        """
        _check_matplotlib(f"{type(self).__name__}.plot")
        check_choice("kind", kind, _IMPORTANCE_KINDS)
        rows = self._rows(output)
        axes, _ = _panels(ax, (1, 1), (6.4, 4.8))
        self.ax_, self.figure_ = axes[0, 0], axes[0, 0].figure
        self.mesh_, self.colorbar_, self.lines_, self.level_lines_, self.bars_ = None, None, [], [], None
        if kind == "heatmap":
            self._draw_heatmap(rows, cmap)
        elif kind == "period":
            self._draw_periods(rows)
        else:
            self._draw_channels(rows)
        return self

    def _rows(self, output: Any) -> list[int]:
        """Return the numbers of the outputs to show."""
        labels = np.asarray(self.importance.outputs).tolist()
        if output is None:
            return list(range(len(labels)))
        if output not in labels:
            raise ValueError(
                f"output must be one of {', '.join(map(repr, labels))}, or None for all, but is {output!r}."
            )
        return [labels.index(output)]

    def _values(self, rows: list[int], summed: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the contributions to some outputs, summed over axes; for many series, their root mean square."""
        values: NDArray[np.float64] = self.importance.contributions[:, rows].sum(axis=summed)
        return values[0] if len(values) == 1 else np.sqrt(np.square(values).mean(axis=0))

    def _together(self, rows: list[int], summed: tuple[int, ...]) -> tuple[NDArray[np.float64], bool]:
        """Return one array for all these outputs, and whether it has signs."""
        values = self._values(rows, summed)
        if len(values) == 1:
            return values[0], len(self.importance.contributions) == 1
        return np.sqrt(np.square(values).mean(axis=0)), False

    def _measure(self, rows: list[int], has_sign: bool) -> str:
        """Return what the values are."""
        measure = "contribution" if has_sign else "root mean square contribution"
        return f"{measure} to {self._output_label(rows[0])}" if len(rows) == 1 else measure

    def _output_label(self, row: int) -> str:
        return f"{self.output_name} {self.importance.outputs[row]}"

    def _draw_heatmap(self, rows: list[int], cmap: "str | Colormap | None") -> None:
        from matplotlib.colors import CenteredNorm, Normalize

        values, has_sign = self._together(rows, (4,))
        is_empty = (self.importance.contributions == 0).all(axis=(0, 1, 4))  # no oscillators
        values = np.where(is_empty, np.nan, values)
        blank = np.full_like(values[:1], np.nan)
        cells = np.concatenate([values[:-1], blank, values[-1:]])
        greatest = max(float(np.nanmax(np.abs(values), initial=0.0)), np.finfo(float).tiny)
        norm = CenteredNorm(0.0, greatest) if has_sign else Normalize(0.0, greatest)
        edges = np.append(self.importance.periods[:-1], self._level_ends())
        self.mesh_ = self.ax_.pcolormesh(
            edges, self.importance.decays, cells.T, norm=norm, cmap=cmap or ("RdBu_r" if has_sign else "viridis")
        )
        self.colorbar_ = self.figure_.colorbar(self.mesh_, ax=self.ax_, label=self._measure(rows, has_sign))
        self._period_axis(edges[-1])
        self.ax_.set_facecolor("0.88")  # zero is white where contributions have signs
        self.ax_.set(yscale="log", ylabel=f"decay time ({self.importance.unit})")
        _plain_log_ticks(self.ax_)

    def _draw_periods(self, rows: list[int]) -> None:
        values = self._values(rows, (3, 4))
        has_sign = len(self.importance.contributions) == 1
        if not self.ax_.lines:  # each further call on the same Axes takes the next
            self._cycle_lines()
        edges = self.importance.periods[:-1]
        centres = np.sqrt(edges[1:] * edges[:-1])
        low, high = self._level_ends()
        places = np.geomspace(low, high, len(rows) + 2)[1:-1]  # side by side
        for row, place, series in zip(rows, places, values, strict=True):
            (line,) = self.ax_.plot(centres, series[:-1], label=self._output_label(row), markersize=5.0)
            self.lines_.append(line)
            style: dict[str, Any] = {"color": line.get_color(), "marker": line.get_marker(), "linestyle": "none"}
            self.level_lines_ += self.ax_.plot(place, series[-1], markersize=5.0, **style)
        self.ax_.axvline(np.sqrt(edges[-1] * low), color="0.6", linestyle=":", linewidth=1.0)
        if has_sign:
            self.ax_.axhline(0.0, color="0.4", linewidth=0.8)
        else:
            self.ax_.set_ylim(bottom=0.0)
        self._period_axis(high**1.5 / low**0.5)
        self.ax_.set_ylabel("contribution" if has_sign else "root mean square contribution")
        self.ax_.grid(True, alpha=0.3)
        if len(self.ax_.get_legend_handles_labels()[1]) > 1 and self.figure_.get_layout_engine() is not None:
            self.ax_.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))  # the layout makes room beside the lines
        else:
            self.ax_.legend()

    def _draw_channels(self, rows: list[int]) -> None:
        from matplotlib.ticker import MaxNLocator

        values, has_sign = self._together(rows, (2, 3))
        names = [str(name) for name in np.asarray(self.importance.channels).tolist()]
        self.bars_ = self.ax_.barh(np.arange(len(values)), values, color=_COLOURS[0])
        middle, half = (len(values) - 1) / 2, max(len(values), 3) / 2 + 0.1  # one bar does not fill the panel
        self.ax_.set(ylabel="channel", xlabel=self._measure(rows, has_sign), ylim=(middle + half, middle - half))
        if len(names) <= _MOST_CHANNELS:
            self.ax_.set_yticks(range(len(names)), names)
        else:
            self.ax_.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
            self.ax_.yaxis.set_major_formatter(
                lambda place, _: names[round(place)] if 0 <= round(place) < len(names) else ""
            )
        if has_sign:
            self.ax_.axvline(0.0, color="0.4", linewidth=0.8)
        self.ax_.grid(True, axis="x", alpha=0.3)
        self.ax_.set_axisbelow(True)

    def _cycle_lines(self) -> None:
        from cycler import cycler

        looks = cycler(color=list(_COLOURS)) + cycler(marker=list(_MARKERS))
        self.ax_.set_prop_cycle(cycler(linestyle=["-", "--", "-.", ":"]) * looks)

    def _level_ends(self) -> NDArray[np.float64]:
        """Return where frequency zero is drawn on the axis of periods: one bin, half a bin from the others."""
        edges = self.importance.periods[:-1]
        width = edges[-1] / edges[-2]
        ends: NDArray[np.float64] = edges[-1] * width ** np.array([0.5, 1.5])
        return ends

    def _period_axis(self, end: float) -> None:
        """Label the axis of periods, in plain numbers, and the place of frequency zero."""
        from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

        edges = self.importance.periods[:-1]
        places = _log_places(edges[0], edges[-1])
        axis = self.ax_.xaxis
        self.ax_.set(xscale="log", xlabel=f"period ({self.importance.unit})", xlim=(edges[0], end))
        axis.set_major_locator(FixedLocator([*places, float(np.sqrt(self._level_ends().prod()))]))
        axis.set_major_formatter(FixedFormatter([*(f"{place:g}" for place in places), LEVEL]))
        axis.set_minor_locator(NullLocator())


# -- what Displays share


def _check_matplotlib(caller: str) -> None:
    """Say what to install, before anything is computed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        how = "pip install '.[plot]' in a checkout of sfmts"
        raise ImportError(f"{caller} needs matplotlib, which is missing: {how}") from error


def _check_fitted(estimator: Any) -> None:
    """Raise a NotFittedError of the library whose estimator it is."""
    own = getattr(estimator, "check_is_fitted", None)  # sktime's are not scikit-learn's
    if own is None:
        check_is_fitted(estimator)
    else:
        own()


def _last_step(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """The estimator inside pipelines, searches and sktime's formats, and X as it reaches that estimator."""
    while True:
        if type(estimator).__module__ == "sfmts.sktime" and X is None:
            estimator = _native_estimator(estimator)
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            if X is not None and len(estimator) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator[-1]
        else:
            return estimator, X


def _native_estimator(face: Any) -> Any:
    """Return the estimator inside sktime's formats; where sktime has trained none or several, raise a ValueError."""
    if hasattr(face, "estimator_"):
        return face.estimator_
    name = f"sfmts.sktime.{type(face).__name__}"
    if hasattr(face, "classifiers_"):
        raise ValueError(
            f"{name} was fitted to several columns of labels, with a classifier for each; pass an entry of its "
            "classifiers_."
        )
    raise ValueError(
        f"{name} was fitted to a single class, for which sktime trains no estimator; fit it to two or more classes."
    )


def _hint_at_face(estimator: Any) -> str:
    """Return the end of an error message if a native estimator is needed instead of one with sktime's formats."""
    if type(estimator).__module__ != "sfmts.sktime":
        return ""
    return " of sfmts.sktime; pass its estimator_, with X as an array (n, channels, time)"


def _panels(
    ax: Any, shape: tuple[int, int], size: tuple[float, float], *, sharex: bool = False, sharey: bool = False
) -> "tuple[NDArray[Any], Axes | None]":
    """Axes of the given shape, and the Axes whose place they took if there was but one for several panels."""
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    n_panels = shape[0] * shape[1]
    if ax is None:
        _, axes = plt.subplots(*shape, sharex=sharex, sharey=sharey, squeeze=False, figsize=size, layout="constrained")
        return axes, None
    given = np.empty(1, dtype=object) if isinstance(ax, Axes) else np.asarray(ax, dtype=object)
    if isinstance(ax, Axes):
        given[0] = ax
    strange = [item for item in given.flat if not isinstance(item, Axes)]
    if strange:
        raise TypeError(f"ax must be matplotlib Axes or an array of them, not {type(strange[0]).__name__}.")
    if given.size == n_panels:
        return given.reshape(shape), None
    if not isinstance(ax, Axes):
        raise ValueError(f"ax holds {given.size} Axes, but there are {n_panels} panels to draw.")
    spec = ax.get_subplotspec()
    if spec is None or not ax.axison:
        why = "has no place in a grid" if spec is None else "has given its place to the panels of an earlier plot"
        raise ValueError(f"ax {why}; pass an array of {n_panels} Axes, such as axes_ of an earlier display.")
    ax.set_axis_off()
    grid = spec.subgridspec(*shape)
    return grid.subplots(sharex=sharex, sharey=sharey, squeeze=False), ax


def _label_outer(axes: NDArray[Any]) -> None:
    """Labels at the left and at the bottom only, as Axes.label_outer, which sees no part of a grid."""
    for panel in axes[:-1].flat:
        panel.set_xlabel("")
    for panel in axes[:, 1:].flat:
        panel.set_ylabel("")


def _plain_log_ticks(ax: "Axes") -> None:
    """Write 0.2 instead of 2 x 10^-1, and enough of it."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1000.0 * low else (1.0,)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _log_places(low: float, high: float) -> list[float]:
    """Return round numbers between two positive ones for a logarithmic axis, or the two themselves if there are few."""
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps = (1.0, 2.0, 5.0) if high < 1000.0 * low else (1.0,)
    places = [float(f"{step * 10.0**decade:.1g}") for decade in decades for step in steps]
    inside = [place for place in places if low <= place <= high]
    return inside if len(inside) >= 2 else [float(f"{low:.3g}"), float(f"{high:.3g}")]


def _line_style(defaults: dict[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Defaults under what the user gave, whichever of matplotlib's short names was used."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return {**defaults, **normalize_kwargs(dict(given or {}), Line2D)}


def _quarters(n_steps: int) -> list[int]:
    """T/4, T/2, 3T/4 and T, rounded up; fewer if steps would come twice."""
    return sorted({-(-n_steps * part // 4) for part in range(1, 5)})


def _check_steps(steps: ArrayLike | None, n_steps: int) -> NDArray[np.int64]:
    """Numbers of steps, from 1 to ``n_steps``."""
    if steps is None:
        return np.array(_quarters(n_steps))
    numbers = np.atleast_1d(np.asarray(steps))
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
        raise ValueError(f"steps must be numbers of steps, as in [1, {n_steps}], not {steps!r}.")
    outside = numbers[(numbers < 1) | (numbers > n_steps)]
    if outside.size:
        raise ValueError(f"There is no step {outside[0]}: this series has {n_steps}, the first being 1.")
    return numbers.astype(np.int64)


def _measures(estimator: Any) -> tuple[str, str]:
    """What a fitted estimator's losses and validation scores are, with units."""
    head = getattr(getattr(estimator, "module_", None), "head", None)
    if isinstance(head, ClassificationHead):
        return "cross-entropy (nats)", "validation accuracy"
    if isinstance(head, RegressionHead):
        return "squared error / variance", "validation R²"
    if isinstance(head, DensityHead):
        return "loss (nats / frame)", "validation score (nats / frame)"
    return "loss", "validation score"


def _frequencies(estimator: Any) -> tuple[NDArray[np.float64] | None, str]:
    """The last layer's omega / 2 pi, if all its states have the same at all steps, and what t is."""
    network = estimator.module_.network
    if not isinstance(network, SFM):
        return None, "index"
    layers: list[Any] = list(network.layers)[-2 if network.bidirectional else -1 :]
    omegas = [layer.weights().omega for layer in layers]
    if any(omega is None or not omega.equal(omegas[0]) for omega in omegas):
        return None, network.time
    return omegas[0].detach().cpu().numpy() / (2.0 * np.pi), network.time


def _check_roll(roll: ArrayLike) -> NDArray[Any]:
    """A roll as it is, if it is binary."""
    array = one_roll(roll)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"A roll has the shape (frames, keys), such as (T, 88), not {array.shape}.")
    strange = array[(array != 0) & (array != 1)]
    if strange.size:
        raise ValueError(f"A roll holds nothing but 0 and 1; this one holds {strange[0]}, too.")
    return array


def _check_roll_proba(roll_proba: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Probabilities of the frames 2 to T of a roll of this shape."""
    array = np.asarray(roll_proba)
    n_frames, n_keys = shape
    if array.shape not in [(n_frames, n_keys), (n_frames - 1, n_keys)]:
        raise ValueError(
            f"roll_proba has shape {array.shape}, but a roll of shape {shape} needs {(n_frames, n_keys)}, a prediction "
            f"after each frame, or {(n_frames - 1, n_keys)}, one for each frame but the first."
        )
    strange = array[~((array >= 0) & (array <= 1))]  # NaN, too
    if strange.size:
        raise ValueError(f"roll_proba must hold probabilities from 0 to 1; it holds {strange[0]}.")
    if n_frames == 1:
        raise ValueError("A roll of one frame has no next frame, so there is nothing to compare roll_proba with.")
    return array[: n_frames - 1]


def _key_ticks(key_low: int, n_keys: int) -> list[int]:
    """MIDI numbers of each C or, where there are not two, of the lowest and the highest key."""
    keys = range(key_low, key_low + n_keys)
    octaves = [key for key in keys if key % 12 == 0]
    return octaves if len(octaves) > 1 else sorted({keys[0], keys[-1]})


def _note_name(key: int) -> str:
    """C4 for 60."""
    return f"{_NOTES[key % 12]}{key // 12 - 1}"


def _check_pandas(what: str, data: Any) -> None:
    if not hasattr(data, "index") or not hasattr(data, "to_numpy"):
        raise TypeError(
            f"{what} must be a pandas Series or DataFrame, whose index says when values were seen, not "
            f"{type(data).__name__}."
        )


def _as_frame(what: str, data: Any, like: Any = None) -> Any:
    """A data frame; its one variable has the name that it has in the frame ``like``."""
    _check_pandas(what, data)
    if data.ndim == 1:
        data = data.to_frame("" if data.name is None else data.name)
    names = data.columns.get_level_values(0).unique()
    if like is not None and len(names) == len(like.columns) == 1:
        data = data.rename(columns={names[0]: like.columns[0]}, level=0)
    return data


def _columns(what: str, frame: Any, panels: list[tuple[tuple[Any, ...], Any]]) -> list[Any]:
    """The variables of members that have a panel."""
    members = frames_of(frame)
    for member, variable in panels:
        if member not in members:
            raise ValueError(f"{what} has no series {member} as y has; it has {list(members)}.")
        if variable not in members[member].columns:
            names = list(frame.columns.get_level_values(0).unique())
            raise ValueError(f"{what} has no variable {variable!r} as y has; it has {names}.")
    return [members[member][variable] for member, variable in panels]


def _times(index: Any, observed: Any) -> NDArray[Any]:
    """Where the entries of an index stand on the axis of an Axes: dates (of periods, the first), or numbers.

    Dates with a time zone stand at the hours of the observed series' zone, without the jumps of its clocks.
    """
    if hasattr(index, "to_timestamp"):
        index = index.to_timestamp()
    if getattr(index, "tz", None) is not None:
        zone = getattr(observed, "tz", None)
        offset = observed[0].utcoffset() if zone is not None and len(observed) else None
        index = index.tz_convert("UTC").tz_localize(None)
        index = index if offset is None else index + offset
    times: NDArray[Any] = index.to_numpy()
    return times


def _shown(times: NDArray[Any], forecast_times: NDArray[Any], n_past: int | None) -> slice:
    """Rows from ``n_past`` steps before the first forecast to the last one."""
    if not len(forecast_times):
        raise ValueError("y_pred holds no steps; it needs at least one.")
    if (times[1:] < times[:-1]).any():
        raise ValueError("The steps of y do not follow one another in time: sort them, as y.sort_index() does.")
    if times.dtype.kind != forecast_times.dtype.kind:
        raise ValueError(f"y is indexed by {times.dtype}, but y_pred by {forecast_times.dtype}: they must be alike.")
    begin, end = np.searchsorted(times, forecast_times[0]), np.searchsorted(times, forecast_times[-1], side="right")
    if n_past is None and begin > 0:
        last = times[begin - 1]
        long_ago = np.searchsorted(times, last - 3 * (forecast_times[-1] - last), side="right")
        n_past = max(_LEAST_PAST, int(begin - long_ago))
    return slice(max(0, int(begin) - (n_past or 0)), int(end))


def _check_intervals(intervals: Any, predicted: Any) -> tuple[float, ...]:
    """The coverages of intervals in sktime's form."""
    columns = intervals.columns
    if columns.nlevels != 3 or set(columns.get_level_values(2)) != {"lower", "upper"}:
        raise ValueError(
            "y_interval must have columns (variable, coverage, 'lower' or 'upper'), as from predict_interval, not "
            f"{list(columns[:4])}."
        )
    if not intervals.index.equals(predicted.index):
        raise ValueError("y_interval and y_pred must have the same index.")
    return tuple(sorted(columns.get_level_values(1).unique()))


def _ends(interval: Any, coverage: tuple[float, ...]) -> NDArray[Any]:
    """Lower and upper ends, (coverages, 2, steps)."""
    return np.stack([[interval[level, "lower"], interval[level, "upper"]] for level in coverage])


def _time_ticks(ax: "Axes", times: NDArray[Any]) -> None:
    """Short dates, or whole numbers of steps."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import MaxNLocator

    if times.dtype.kind == "M":
        locator = AutoDateLocator(minticks=3, maxticks=8)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
