"""Display of forecasts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sfmts._choices import check_size
from sfmts.plotting._common import (
    COLOURS,
    MARKERS,
    check_matplotlib,
    line_style,
    panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

_LEAST_PAST = 12  # minimum number of steps shown before a forecast


class ForecastDisplay:
    """The end of a series, its forecast and, if known, the true values.

    Each panel shows one series: the past, the known true values, the forecast as a line and its intervals as bands. To
    compare forecasters, pass the same Axes to several calls. It is recommended to use :meth:`from_estimator` or
    :meth:`from_predictions`. All parameters are stored as attributes.

    Parameters
    ----------
    times : list of n ndarrays of shape (T_i,)
        Dates or numbers of the observed steps.
    values : list of n ndarrays of shape (T_i,)
        Observed values. Those before the first forecast are the past, the others are the truth.
    forecast_times : list of n ndarrays of shape (H_i,)
        Dates or numbers of the forecast steps.
    forecasts : list of n ndarrays of shape (H_i,)
        Point forecasts.
    intervals : list of n ndarrays of shape (n_coverages, 2, H_i), default=None
        Lower and upper ends of the intervals.
    coverage : tuple of n_coverages floats, default=()
        Nominal coverage of each interval.
    titles : list of n str, default=None
        A title for each panel.
    value_labels : list of n str, default=None
        A label for each vertical axis.
    time_label : str, default=""
        Label of the horizontal axes.
    name : str, default="forecast"
        Name in the legend.

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
        The truth in each panel, from the last step of the past onwards; None where it is unknown.
    bounding_ax_ : matplotlib Axes or None
        The Axes that the panels replaced, if one was passed for several panels.
    figure_ : matplotlib Figure
        The figure that holds the panels.

    See Also
    --------
    ForecastDisplay.from_estimator : Draw the forecasts of a fitted forecaster.
    ForecastDisplay.from_predictions : Draw given forecasts.

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
        """Draw the forecasts of a fitted forecaster.

        Parameters
        ----------
        forecaster : forecaster instance
            A fitted forecaster, :class:`sfmts.SFMForecaster` or any other of sktime. Only the line is drawn if it does
            not predict intervals.
        y : pandas Series or DataFrame
            Series to show, in sktime's format: one series, one per column, or a panel or hierarchy, whose index has
            several levels. It holds the past and, if known, the truth. It may be a part of the series that the
            forecaster was fitted to; only these are drawn.
        fh : int, array-like or ForecastingHorizon, default=None
            Steps to forecast, as in the forecaster's ``predict``. If None, those passed to its ``fit``.
        X : pandas DataFrame, default=None
            Exogenous variables of these steps, as in the forecaster's ``predict``.
        coverage : float or sequence of float, default=(0.5, 0.9)
            Nominal coverage of each interval; () for no intervals.
        n_past : int, default=None
            Number of steps to show before the first forecast. If None, three times the length of the forecast, and at
            least 12.
        n_panels : int, default=6
            Maximum number of panels. Only the first series of y are shown if there are more.
        name : str, default=None
            Name in the legend. If None, the name of the forecaster's class.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one that the panels replace. If None, a new figure is made.
        line_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.plot` for the forecast.
        fill_between_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.fill_between` for the intervals.

        Returns
        -------
        display : ForecastDisplay
            Display of the forecasts and of the observed values.

        Raises
        ------
        NotFittedError
            If the forecaster is not fitted (sktime's exception of this name).
        ValueError
            If ``forecaster`` is not a forecaster, a coverage is not between 0 and 1, or an argument is invalid as in
            :meth:`from_predictions`.
        TypeError
            If y is not a pandas object.
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
        check_matplotlib(f"{cls.__name__}.from_estimator")
        _check_pandas("y", y)
        kind = type(forecaster).__name__
        if not hasattr(forecaster, "predict_interval"):
            raise ValueError(
                f"{cls.__name__} needs a forecaster with sktime's interface, but {kind} has no predict_interval."
            )
        try:
            wanted = np.atleast_1d(np.asarray(coverage, dtype=np.float64))
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"coverage must be a number or a list of numbers, not {coverage!r}.") from error
        if not ((wanted > 0) & (wanted < 1)).all():
            raise ValueError(f"coverage must lie between 0 and 1, as in (0.5, 0.9), but is {coverage}.")
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
        """Draw given forecasts.

        Parameters
        ----------
        y : pandas Series or DataFrame
            Series to show, in sktime's format: one series, one per column, or a panel or hierarchy, whose index has
            several levels. Values before the first forecast are the past, the others are the truth.
        y_pred : pandas Series or DataFrame
            Point forecasts, as returned by a forecaster's ``predict``. They may include series that are not in y.
        y_interval : pandas DataFrame, default=None
            Intervals, as returned by a forecaster's ``predict_interval``: columns are (variable, coverage, "lower" or
            "upper").
        n_past : int, default=None
            Number of steps to show before the first forecast. If None, three times the length of the forecast, and at
            least 12.
        n_panels : int, default=6
            Maximum number of panels. Only the first series of y are shown if there are more.
        name : str, default="forecast"
            Name in the legend.
        ax : matplotlib Axes or array of Axes, default=None
            One Axes for each panel, or a single one that the panels replace. If None, a new figure is made.
        line_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.plot` for the forecast.
        fill_between_kw : dict, default=None
            Further arguments of :meth:`matplotlib.axes.Axes.fill_between` for the intervals.

        Returns
        -------
        display : ForecastDisplay
            Display of the forecasts and of the observed values.

        Raises
        ------
        ValueError
            If a series of y has no forecast or an index of another type than its forecast, ``y_interval`` does not
            have the columns of intervals, or ``n_past`` or ``n_panels`` is too small.
        TypeError
            If y, ``y_pred`` or ``y_interval`` is not a pandas object.
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
        from sfmts.forecasting.panel import frames_of  # needs pandas

        check_matplotlib(f"{cls.__name__}.from_predictions")
        for what, least, number in (("n_past", 0, n_past), ("n_panels", 1, n_panels)):
            if number is not None or what == "n_panels":
                check_size(what, number, least)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string, not a {type(name).__name__}.")
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
            One Axes for each panel, or a single one that the panels replace. If None, a new figure is made.
        name : str, default=None
            Name in the legend. If None, that of the display.
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
            If the number of Axes in ``ax`` differs from the number of panels.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        from matplotlib.axes import Axes

        n = len(self.forecasts)
        n_columns = 1 if n <= 3 or not (ax is None or isinstance(ax, Axes)) else 2 if n <= 6 else 3
        n_rows = -(-n // n_columns)
        size = (4.0 + 3.5 * n_columns, 1.4 + 2.2 * n_rows)
        grid, self.bounding_ax_ = panels(ax, (n_rows, n_columns), size)
        for spare in grid.ravel()[n:]:
            spare.set_visible(False)
        self.axes_, self.figure_ = grid.ravel()[:n], grid[0, 0].figure
        self.past_lines_, self.truth_lines_, self.lines_, self.bands_ = [], [], [], []
        own_grid = ax is None or self.bounding_ax_ is not None
        for number, panel in enumerate(self.axes_):
            if not panel.lines:  # otherwise an earlier forecast has set the labels
                self._prepare(panel, number, lowest=not own_grid or number >= n - n_columns)
            self._draw_observed(panel, number)
            style = line_style({"label": self.name if name is None else name}, line_kw)
            self._draw_forecast(panel, number, style, fill_between_kw or {})
        self._draw_legend(below=ax is None and n > 1)
        return self

    def _prepare(self, panel: "Axes", number: int, lowest: bool) -> None:
        # each further forecast on the same Axes takes the next colour and marker
        panel.set_prop_cycle(color=list(COLOURS), marker=list(MARKERS))
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
        joined = slice(max(0, n_past - 1), None)  # begin at the last step of the past, so that the lines meet
        self.truth_lines_ += panel.plot(times[joined], values[joined], label="truth", linestyle="--", **style)

    def _draw_forecast(
        self, panel: "Axes", number: int, style: dict[str, Any], fill_between_kw: Mapping[str, Any]
    ) -> None:
        times, n_coverages = self.forecast_times[number], len(self.coverage)
        spaced = {"markersize": 3.0, "markevery": max(1, len(times) // 24)}
        (line,) = panel.plot(times, self.forecasts[number], **{**spaced, **style})
        fill = {"color": line.get_color(), "linewidth": 0.0 if len(times) > 1 else 5.0}  # one step has no width
        bands: dict[int, PolyCollection] = {}
        for i in reversed(np.argsort(self.coverage).tolist()):  # narrower intervals on top and darker
            shade = {"alpha": 0.2 + 0.4 * len(bands) / n_coverages, "label": f"{100 * self.coverage[i]:g} % interval"}
            low, high = (self.intervals or [])[number][i]
            bands[i] = panel.fill_between(times, low, high, **{**fill, **shade, **fill_between_kw})
        self.lines_.append(line)
        self.bands_.append([bands[i] for i in range(n_coverages)])

    def _draw_legend(self, below: bool) -> None:
        """Draw the legend in the first panel or below all, with one entry per name; replace one with fewer entries."""
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


def _check_pandas(what: str, data: Any) -> None:
    if not hasattr(data, "index") or not hasattr(data, "to_numpy"):
        raise TypeError(
            f"{what} must be a pandas Series or DataFrame whose index holds the times, but is a {type(data).__name__}."
        )


def _as_frame(what: str, data: Any, like: Any = None) -> Any:
    """Return a data frame; rename a single variable to that of the frame ``like``."""
    _check_pandas(what, data)
    if data.ndim == 1:
        data = data.to_frame("" if data.name is None else data.name)
    names = data.columns.get_level_values(0).unique()
    if like is not None and len(names) == len(like.columns) == 1:
        data = data.rename(columns={names[0]: like.columns[0]}, level=0)
    return data


def _columns(what: str, frame: Any, panels: list[tuple[tuple[Any, ...], Any]]) -> list[Any]:
    """Return the series of each panel; raise ValueError if one is missing."""
    from sfmts.forecasting.panel import frames_of  # needs pandas

    members = frames_of(frame)
    for member, variable in panels:
        if member not in members:
            raise ValueError(f"{what} has no series {member}, which y has; it has {list(members)}.")
        if variable not in members[member].columns:
            names = list(frame.columns.get_level_values(0).unique())
            raise ValueError(f"{what} has no variable {variable!r}, which y has; it has {names}.")
    return [members[member][variable] for member, variable in panels]


def _times(index: Any, observed: Any) -> NDArray[Any]:
    """Return the entries of an index as dates or numbers to plot; a period becomes its first date.

    Dates with a time zone are shown at the first UTC offset of the observed series, so that daylight saving time makes
    no jumps.
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
    """Return the rows from ``n_past`` steps before the first forecast to the last one."""
    if not len(forecast_times):
        raise ValueError("y_pred holds no steps; at least one is required.")
    if (times[1:] < times[:-1]).any():
        raise ValueError("The steps of y are not in the order of time. Sort them, as y.sort_index() does.")
    if times.dtype.kind != forecast_times.dtype.kind:
        raise ValueError(f"y is indexed by {times.dtype}, but y_pred by {forecast_times.dtype}. Use one type for both.")
    begin, end = np.searchsorted(times, forecast_times[0]), np.searchsorted(times, forecast_times[-1], side="right")
    if n_past is None and begin > 0:
        last = times[begin - 1]
        long_ago = np.searchsorted(times, last - 3 * (forecast_times[-1] - last), side="right")
        n_past = max(_LEAST_PAST, int(begin - long_ago))
    return slice(max(0, int(begin) - (n_past or 0)), int(end))


def _check_intervals(intervals: Any, predicted: Any) -> tuple[float, ...]:
    """Return the coverages of intervals in sktime's format; raise ValueError if they have another one."""
    columns = intervals.columns
    if columns.nlevels != 3 or set(columns.get_level_values(2)) != {"lower", "upper"}:
        raise ValueError(
            "y_interval must have columns (variable, coverage, 'lower' or 'upper'), as from predict_interval, but has "
            f"{list(columns[:4])}."
        )
    if not intervals.index.equals(predicted.index):
        raise ValueError("y_interval and y_pred must have the same index.")
    return tuple(sorted(columns.get_level_values(1).unique()))


def _ends(interval: Any, coverage: tuple[float, ...]) -> NDArray[Any]:
    """Return lower and upper ends, (coverages, 2, steps)."""
    return np.stack([[interval[level, "lower"], interval[level, "upper"]] for level in coverage])


def _time_ticks(ax: "Axes", times: NDArray[Any]) -> None:
    """Label the time axis with short dates or integers."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import MaxNLocator

    if times.dtype.kind == "M":
        locator = AutoDateLocator(minticks=3, maxticks=8)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
