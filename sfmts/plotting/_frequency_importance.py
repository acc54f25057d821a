"""Display of the importance of periods, decay times and channels."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier

from sfmts._choices import check_choice
from sfmts.features._importance import LEVEL, FrequencyImportance
from sfmts.plotting._common import (
    COLOURS,
    MARKERS,
    check_colormap,
    check_fitted,
    check_matplotlib,
    last_step,
    panels,
    plain_log_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Colormap
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

_IMPORTANCE_KINDS = ("heatmap", "period", "channel")
_MOST_CHANNELS = 20  # up to this many channels, each has a label


class FrequencyImportanceDisplay:
    """Periods, decay times and channels that decide what a ridge model of oscillators predicts.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    importance : FrequencyImportance
        Result of :meth:`sfmts.SFMRidgeClassifier.frequency_importance`. For several series, the root mean square of
        the contributions is shown; for a single one, the contributions with their signs.
    output_name : str, default="output"
        Name of an output, such as "class" or "target".

    Attributes
    ----------
    ax_ : matplotlib Axes
        The panel.
    figure_ : matplotlib Figure
        The figure that holds the panel.
    mesh_ : matplotlib QuadMesh or None
        Periods and decay times. The last column is for frequency zero; the column before it is blank.
    colorbar_ : matplotlib Colorbar or None
        The scale of ``mesh_``.
    lines_, level_lines_ : list of matplotlib Line2D
        For each output, the line over periods and the point at frequency zero.
    bars_ : matplotlib BarContainer or None
        A bar for each channel.

    See Also
    --------
    FrequencyImportanceDisplay.from_estimator : Draw the importance in a fitted estimator.

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
        """Draw the importance of periods, decay times and channels for the predictions of a fitted estimator.

        Parameters
        ----------
        estimator : SFMRidgeClassifier or SFMRidgeRegressor
            A fitted estimator. It may be the last step of a pipeline or the best estimator of a search.
        X : array of shape (n, T) or (n, T, C), or list of n arrays of shape (T_i, C)
            Series to explain. Many series show what the model relies on; a single one, as in ``X[:1]``, shows what
            decided its prediction.
        output : label or int, default=None
            Class or number of the target to show. With two classes, only the second can be shown, because the
            contributions to the first are its negative. If None, all outputs: "period" has a line for each; "heatmap"
            and "channel" show their root mean square.
        kind : {"heatmap", "period", "channel"}, default="heatmap"
            "heatmap" has periods and decay times as axes. "period" shows the importance of periods, "channel" that of
            channels.
        n_bins : int, default=12
            Number of bins for periods. Decay times have half as many.
        ax : matplotlib Axes, default=None
            Axes to draw in. If None, a new figure is made.
        cmap : str or matplotlib Colormap, default=None
            Colours of the heatmap. If None, "viridis", or "RdBu_r" where contributions have signs.

        Returns
        -------
        display : FrequencyImportanceDisplay
            Display of the importance.

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
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_choice("kind", kind, _IMPORTANCE_KINDS)
        check_fitted(estimator)
        fitted, X = last_step(estimator, X)
        if not hasattr(fitted, "frequency_importance"):
            raise ValueError(
                f"{cls.__name__} needs an SFMRidgeClassifier or an SFMRidgeRegressor, but the estimator is a "
                f"{type(fitted).__name__}."
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
            Axes to draw in. If None, a new figure is made.
        output : label or int, default=None
            One of ``importance.outputs``, or None for all.
        kind : {"heatmap", "period", "channel"}, default="heatmap"
            What to draw.
        cmap : str or matplotlib Colormap, default=None
            Colours of the heatmap. If None, "viridis", or "RdBu_r" where contributions have signs.

        Returns
        -------
        display : FrequencyImportanceDisplay
            Display of the importance.
            This object.

        Raises
        ------
        ValueError
            If ``output`` or ``kind`` is invalid.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        check_choice("kind", kind, _IMPORTANCE_KINDS)
        rows = self._rows(output)
        axes, _ = panels(ax, (1, 1), (6.4, 4.8))
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
        if not np.isscalar(output) or output not in labels:
            raise ValueError(
                f"output must be one of {', '.join(map(repr, labels))}, or None for all outputs, but is {output!r}."
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
        """Return the label of the values."""
        measure = "contribution" if has_sign else "root mean square contribution"
        return f"{measure} to {self._output_label(rows[0])}" if len(rows) == 1 else measure

    def _output_label(self, row: int) -> str:
        return f"{self.output_name} {self.importance.outputs[row]}"

    def _draw_heatmap(self, rows: list[int], cmap: "str | Colormap | None") -> None:
        from matplotlib.colors import CenteredNorm, Normalize

        if cmap is not None:
            check_colormap(cmap)
        values, has_sign = self._together(rows, (4,))
        is_empty = (self.importance.contributions == 0).all(axis=(0, 1, 4))  # bins without oscillators
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
        plain_log_ticks(self.ax_)

    def _draw_periods(self, rows: list[int]) -> None:
        values = self._values(rows, (3, 4))
        has_sign = len(self.importance.contributions) == 1
        if not self.ax_.lines:  # each further call on the same Axes takes the next style
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
            self.ax_.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))  # constrained layout makes room for it
        else:
            self.ax_.legend()

    def _draw_channels(self, rows: list[int]) -> None:
        from matplotlib.ticker import MaxNLocator

        values, has_sign = self._together(rows, (2, 3))
        names = [str(name) for name in np.asarray(self.importance.channels).tolist()]
        self.bars_ = self.ax_.barh(np.arange(len(values)), values, color=COLOURS[0])
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

        looks = cycler(color=list(COLOURS)) + cycler(marker=list(MARKERS))
        self.ax_.set_prop_cycle(cycler(linestyle=["-", "--", "-.", ":"]) * looks)

    def _level_ends(self) -> NDArray[np.float64]:
        """Return the ends of the column of frequency zero on the axis of periods: a bin wide, half a bin away."""
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


def _log_places(low: float, high: float) -> list[float]:
    """Return round numbers between two positive ones for a logarithmic axis, or the two themselves if there are few."""
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps = (1.0, 2.0, 5.0) if high < 1000.0 * low else (1.0,)
    places = [float(f"{step * 10.0**decade:.1g}") for decade in decades for step in steps]
    inside = [place for place in places if low <= place <= high]
    return inside if len(inside) >= 2 else [float(f"{low:.3g}"), float(f"{high:.3g}")]
