"""Display of series by class."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from sfmts._choices import check_size
from sfmts._validation import as_batch, as_labels
from sfmts.plotting._common import (
    COLOURS,
    check_matplotlib,
    line_style,
    panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


class WaveDisplay:
    """A few series of each class.

    Each row shows one class and each panel one series. Panels share the scale of the values, but not that of time. It
    is recommended to use :meth:`from_arrays`. All parameters are stored as attributes.

    Parameters
    ----------
    values : list of n ndarrays of shape (T_i,)
        The series.
    times : list of n ndarrays of shape (T_i,)
        The time of each value.
    labels : ndarray of shape (n,)
        The class of each series.
    display_labels : dict, default=None
        A name for each class. If None, labels are shown.
    time_label : str, default="time t"
        Label of the horizontal axes.
    value_label : str, default="value y"
        Label of the vertical axes.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_classes, n_columns)
        The panels. Where a class has fewer series than others, the spare panels are invisible.
    lines_ : ndarray of matplotlib Line2D or None, of shape (n_classes, n_columns)
        The line in each panel.
    bounding_ax_ : matplotlib Axes or None
        The Axes that the panels replaced, if one was passed for several panels.
    figure_ : matplotlib Figure
        The figure that holds the panels.

    See Also
    --------
    WaveDisplay.from_arrays : Draw the first series of each class in a data set.
    sfmts.datasets.make_waves : Generate square and sawtooth waves.

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
            Series in the input format of the estimators.
        y : array-like of shape (n,)
            The class of each series.
        n_per_class : int, default=3
            Maximum number of series per class.
        value_channel : int, default=0
            The channel to show. The default fits :func:`sfmts.datasets.make_waves`.
        time_channel : int or None, default=1
            The channel that holds the times. The default fits :func:`sfmts.datasets.make_waves`. If None, steps are
            counted from 1.
        display_labels : dict or sequence of str, default=None
            A name for each class, by label or in the order of the sorted labels. If None, labels are shown.
        layout : {"ntc", "nct"}, default="ntc"
            Order of the axes of X, as in the estimators.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one that the panels replace. If None, a new figure is made.
        line_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : WaveDisplay
            Display of these series, sorted by class.

        Raises
        ------
        ValueError, TypeError
            If X or y is invalid, or X has no such channel.
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
        check_matplotlib(f"{cls.__name__}.from_arrays")
        n_per_class, value_channel = (
            check_size("n_per_class", n_per_class),
            check_size("value_channel", value_channel, None),
        )
        if time_channel is not None:
            time_channel = check_size("time_channel", time_channel, least=None)
        batch = as_batch(X, BaseEstimator(), reset=True, layout=layout)
        classes, codes = as_labels(y, len(batch))
        for name, channel in (("value_channel", value_channel), ("time_channel", time_channel)):
            if channel is not None and not -batch.n_channels <= channel < batch.n_channels:
                hint = " Pass None to count steps instead." if name == "time_channel" else ""
                raise ValueError(f"{name}={channel} is out of range: X has n_channels={batch.n_channels}.{hint}")
        if display_labels is not None and not isinstance(display_labels, Mapping):
            if len(display_labels) != len(classes):
                raise ValueError(
                    f"display_labels has {len(display_labels)} names, but y has {len(classes)} classes: "
                    f"{classes.tolist()}."
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
            One Axes for each panel, or a single one that the panels replace. If None, a new figure is made.
        line_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : WaveDisplay
            This object.

        Raises
        ------
        ValueError
            If the number of Axes in ``ax`` differs from the number of panels.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        classes, codes = np.unique(self.labels, return_inverse=True)
        counts = np.bincount(codes)
        shape = (len(classes), int(counts.max()))
        size = (1.0 + 2.8 * shape[1], 0.8 + 1.7 * shape[0])
        axes, self.bounding_ax_ = panels(ax, shape, size, sharey=True)
        self.axes_, self.lines_ = axes, np.full(shape, None, dtype=object)
        self.figure_ = axes[0, 0].figure
        for row, label in enumerate(classes.tolist()):
            name = f"class {label}" if self.display_labels is None else self.display_labels[label]
            axes[row, 0].set_ylabel(f"{name}\n{self.value_label}")
            style = {"color": COLOURS[row % len(COLOURS)], "marker": ".", "markersize": 3.0, "linewidth": 0.8}
            for panel in axes[row, counts[row] :]:
                panel.set_visible(False)
            for column, member in enumerate(np.flatnonzero(codes == row)):
                panel = axes[row, column]
                values, times = self.values[member], self.times[member]
                (self.lines_[row, column],) = panel.plot(times, values, **line_style(style, line_kw))
                panel.grid(True, alpha=0.3)
                if (counts[row + 1 :] <= column).all():  # no panel below
                    panel.set_xlabel(self.time_label)
        return self
