"""Panels of pandas series: their checks, their steps, and what is known of these in advance.

sktime is imported where it is needed only, so that :mod:`sfmts.plotting` can read panels without it.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sktime.forecasting.base import ForecastingHorizon

_LARGEST = 1e150  # sums of squares of such values are finite


class Series(NamedTuple):
    """One series of a panel and its exogenous variables.

    Attributes
    ----------
    y : DataFrame of shape (T, V)
        The series.
    X : DataFrame of shape (T, columns), optional
        The exogenous variables.
    """

    y: pd.DataFrame
    X: pd.DataFrame | None

    @property
    def cutoff(self) -> pd.Index:
        """Return the last step of the series.

        Returns
        -------
        cutoff : Index of shape (1,)
            With the frequency of the series.
        """
        from sktime.datatypes._utilities import get_cutoff

        return get_cutoff(self.y, return_index=True)

    def values(self) -> NDArray[np.float64]:
        """Return the values of the series.

        Returns
        -------
        values : ndarray of shape (T, V)
            In float64.
        """
        return self.y.to_numpy(dtype=np.float64)

    def steps(self, fh: "ForecastingHorizon") -> NDArray[np.int64]:
        """Return the steps of a forecasting horizon, counted from the last step of the series.

        Parameters
        ----------
        fh : ForecastingHorizon
            Relative or absolute.

        Returns
        -------
        steps : ndarray of shape (n,)
            1 is the step after the last one.
        """
        return np.asarray(fh.to_relative(self.cutoff).to_numpy(), dtype=np.int64)

    def index_at(self, fh: "ForecastingHorizon") -> pd.Index:
        """Return the index of the steps of a forecasting horizon.

        Parameters
        ----------
        fh : ForecastingHorizon
            Relative or absolute.

        Returns
        -------
        index : Index of shape (n,)
            In the form of the series' own index.
        """
        return fh.to_absolute_index(self.cutoff)

    def covariates(self, dates: bool) -> NDArray[np.float64]:
        """Return what is known of each step in advance.

        Parameters
        ----------
        dates : bool
            Whether to add the calendar to the exogenous variables.

        Returns
        -------
        covariates : ndarray of shape (T, F)
            Exogenous variables, then the calendar.
        """
        parts = [np.empty((len(self.y), 0))]
        if self.X is not None:
            parts.append(self.X.to_numpy(dtype=np.float64))
        if dates:
            parts.append(calendar(self.y.index))
        return np.concatenate(parts, axis=1)

    def later_covariates(
        self, dates: bool, future: pd.DataFrame | None, steps: NDArray[np.int64], horizon: int
    ) -> NDArray[np.float64]:
        """Return what is known in advance of the steps after the series.

        Parameters
        ----------
        dates : bool
            Whether to add the calendar to the exogenous variables.
        future : DataFrame, optional
            The exogenous variables.
        steps : ndarray of shape (n,)
            The steps that are to be forecast.
        horizon : int
            Steps that the model forecasts at once.

        Returns
        -------
        covariates : ndarray of shape (last of ``steps``, F)
            Exogenous variables, then the calendar. Exogenous variables are 0 at steps that no forecast depends on.
        """
        from sktime.forecasting.base import ForecastingHorizon

        last = int(steps.max())
        ahead = self.index_at(ForecastingHorizon(np.arange(1, last + 1)))
        parts = [np.empty((last, 0))]
        if self.X is not None:
            # A forecast beyond the horizon continues from the ones before it, which need all rows of whole horizons.
            needed = np.union1d(np.arange(1, (last - 1) // horizon * horizon + 1), steps) - 1
            parts.append(np.zeros((last, self.X.shape[1])))
            parts[1][needed] = rows_at(future, ahead[needed], self.X.columns)
        if dates:
            parts.append(calendar(ahead))
        return np.concatenate(parts, axis=1)

    def after(self, before: "Series | None") -> "Series":
        """Append the series to an earlier part.

        Parameters
        ----------
        before : Series, optional
            The earlier part.

        Returns
        -------
        series : Series
            Both parts. Newer values replace older ones; older column names are kept.
        """
        if before is None:
            return self
        new = self.y.set_axis(before.y.columns, axis=1)
        y = pd.concat([before.y[~before.y.index.isin(new.index)], new]).sort_index()
        if before.X is None or self.X is None:
            return Series(y, None)
        return Series(y, pd.concat([before.X[~before.X.index.isin(self.X.index)], self.X]).sort_index())


Panel = dict[tuple[Any, ...], Series]


def panel_of(y: pd.DataFrame, X: pd.DataFrame | None) -> Panel:
    """Return copies of the series of y with their part of X.

    Parameters
    ----------
    y : DataFrame
        One series, or a panel or hierarchy with several levels in its index.
    X : DataFrame, optional
        Exogenous variables, with at least the rows of y.

    Returns
    -------
    panel : dict of tuple to Series
        The series by key. A single series has the key ``()``.

    Raises
    ------
    ValueError
        If y or X has missing, infinite or too large values, or X lacks a series.
    """
    known = None if X is None else frames_of(X)
    panel = {}
    for key, frame in frames_of(y).items():
        rows = None
        check_finite_frame("y", frame)
        if known is not None:
            if key not in known:
                raise ValueError(f"X has no rows for the series {key} of y. Add a row for each step of the series.")
            rows = known[key].reindex(frame.index)
            check_finite_frame("X", rows)
        panel[key] = Series(frame.copy(), rows)
    return with_one_frequency(panel)


def frames_of(data: pd.DataFrame) -> dict[tuple[Any, ...], pd.DataFrame]:
    """Split a panel into the data frames of its series.

    Parameters
    ----------
    data : DataFrame
        One series, or a panel or hierarchy with several levels in its index.

    Returns
    -------
    frames : dict of tuple to DataFrame
        The frames by key. A single series has the key ``()``.
    """
    levels = data.index.nlevels - 1
    if not levels:
        return {(): data}
    groups = data.groupby(level=list(range(levels)), sort=False)
    return {key: frame.droplevel(list(range(levels))) for key, frame in groups}


def with_one_frequency(panel: Panel) -> Panel:
    """Return a panel of dates in which all series have the frequency of the longest one.

    A few dates do not determine a frequency, or suggest another one.

    Parameters
    ----------
    panel : dict of tuple to Series
        The series by key.

    Returns
    -------
    panel : dict of tuple to Series
        The same series. Dates that do not fit the frequency keep their own; :func:`check_panel` may reject them.
    """
    longest = max(panel.values(), key=lambda series: len(series.y))
    if len(panel) == 1 or not isinstance(longest.y.index, pd.DatetimeIndex):
        return panel
    frequency = getattr(longest.cutoff, "freq", None)
    found = {}
    for key, series in panel.items():
        index = series.y.index
        with suppress(ValueError):
            index = pd.DatetimeIndex(index, freq=frequency)
        found[key] = series._replace(y=series.y.set_axis(index))
    return found


def check_panel(panel: Panel) -> None:
    """Raise ValueError if a series has no steps, or steps that are not equally far apart.

    Parameters
    ----------
    panel : dict of tuple to Series
        The series by key.
    """
    for series in panel.values():
        if not len(series.y):
            raise ValueError("y has no steps; it needs at least one.")
        check_steps(series.y.index, getattr(series.cutoff, "freq", None))


def check_finite_frame(what: str, frame: pd.DataFrame) -> None:
    """Raise ValueError if a frame has missing or infinite values, or values whose variance would overflow.

    Parameters
    ----------
    what : str
        Name of the frame, for the message.
    frame : DataFrame
        The frame.
    """
    values = frame.to_numpy(dtype=np.float64)
    odd = np.argwhere(~(np.abs(values) <= _LARGEST))
    if len(odd):
        row, column = odd[0]
        advice = "divide the column by a constant" if np.isfinite(values[row, column]) else "fill it"
        raise ValueError(
            f"{what} is {frame.iat[row, column]} in column {frame.columns[column]!r} at {frame.index[row]}: {advice}."
        )


def check_steps(index: pd.Index, frequency: Any) -> None:
    """Raise ValueError if steps are not equally far apart.

    Parameters
    ----------
    index : Index
        Dates, periods or numbers.
    frequency : object
        Frequency of dates; None if they have none.
    """
    if hasattr(index, "tz"):
        if frequency is None:
            raise ValueError(
                f"The dates of y, from {index[0]} to {index[-1]}, have no frequency. Give each step once and fill "
                "missing steps, for instance after y.asfreq('D'), or use a PeriodIndex."
            )
        return
    distances = np.diff(index.astype(np.int64))
    if len(distances) and distances[0] > 1 and (distances == distances[0]).all():
        raise ValueError(
            f"The steps of y are {distances[0]} apart, but a forecasting horizon counts by 1 if the index holds whole "
            "numbers. Number the steps anew, for instance by y.reset_index(drop=True), or use dates."
        )
    odd = np.flatnonzero(distances != 1)
    if len(odd):
        raise ValueError(
            f"The steps of y are not equally far apart: {index[odd[0]]} is followed by {index[odd[0] + 1]}. Give each "
            "step once and fill missing steps."
        )


def check_names(what: str, names: Iterable[Any], expected: Sequence[Any], by_name: bool = True) -> None:
    """Raise ValueError if a frame's columns are not those of training.

    Parameters
    ----------
    what : str
        Name of the frame, for the message.
    names : iterable
        Its columns.
    expected : sequence
        The columns in training.
    by_name : bool, default=True
        Whether names must be equal. Otherwise other names are valid too, but not the same names in another order.
    """
    names, expected = list(names), list(expected)
    if names != expected and (by_name or len(names) != len(expected) or set(names) == set(expected)):
        found = f"has the columns {names}" if names else "is missing"
        wanted = f"columns {expected} in this order" if expected else "no columns"
        raise ValueError(f"{what} {found}, but the forecaster was trained with {wanted}. Pass the same columns.")


def check_future_steps(horizons: Iterable[NDArray[np.int64]]) -> int:
    """Return the last step that is asked for.

    Parameters
    ----------
    horizons : iterable of ndarray of shape (n,)
        Steps of each series, counted from its last one.

    Returns
    -------
    last : int
        The greatest of the steps.

    Raises
    ------
    NotImplementedError
        If a step lies within a series.
    """
    steps = np.concatenate(list(horizons))
    if steps.min() < 1:
        raise NotImplementedError(
            f"The forecasting horizon has step {steps.min()} relative to the last observation, but forecasts within "
            "the series are not supported. Ask for steps from 1 on, or fit on a shorter series."
        )
    return int(steps.max())


def rows_at(X: pd.DataFrame | None, index: pd.Index, columns: Iterable[Any]) -> NDArray[np.float64]:
    """Return the rows of X at the steps of an index.

    Parameters
    ----------
    X : DataFrame, optional
        Exogenous variables passed to ``predict``.
    index : Index of shape (n,)
        The steps.
    columns : iterable
        The columns in ``fit``.

    Returns
    -------
    rows : ndarray of shape (n, columns)
        In float64.

    Raises
    ------
    ValueError
        If X, a column or a row is missing, or a value is not finite.
    """
    if X is None:
        raise ValueError("X was passed to fit but not to predict. Pass X with a row for each step of the forecast.")
    missing = [name for name in columns if name not in X.columns]
    if missing:
        raise ValueError(f"X in predict lacks the columns {missing} of fit. Add them.")
    gone = index[~index.isin(X.index)]
    if len(gone):
        raise ValueError(
            f"X in predict has no row for {gone[0]}. Pass a row for each step of the forecast and, if these lie beyond "
            "the horizon of the model, for all steps before them."
        )
    rows = X.loc[index, list(columns)]
    check_finite_frame("X in predict", rows)
    return rows.to_numpy(dtype=np.float64)


def calendar(index: pd.Index) -> NDArray[np.float64]:
    """Return the time of day, of the week and of the year as sines and cosines.

    The week has three harmonics, so that seven days can have any seven effects.

    Parameters
    ----------
    index : DatetimeIndex or PeriodIndex of shape (T,)
        The steps.

    Returns
    -------
    features : ndarray of shape (T, 10)
        The sines of 2 pi u, then the cosines, for u = day, week, 2 week, 3 week and year. Day, week and year count from
        0 to 1.

    Raises
    ------
    ValueError
        If the index has no dates.
    """
    dates = index.to_timestamp() if hasattr(index, "to_timestamp") else index
    if not hasattr(dates, "dayofyear"):
        raise ValueError(
            f"calendar_features=True needs a DatetimeIndex or a PeriodIndex, but the index of y holds {index.dtype}."
        )
    day = (dates.hour * 3600 + dates.minute * 60 + dates.second) / 86400
    week, year = (dates.dayofweek + day) / 7, (dates.dayofyear - 1 + day) / 365.25
    turns = np.stack([day, week, 2 * week, 3 * week, year], axis=1)
    angles = 2.0 * np.pi * turns
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
