"""Panels of pandas series: their checks, their steps, and what is known of these in advance.

sktime is imported where it is needed only, so that :mod:`sfmts.plotting` can read panels without it.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sfmts._choices import LARGEST

if TYPE_CHECKING:
    from sktime.forecasting.base import ForecastingHorizon


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

        return get_cutoff(self.y, return_index=True, convert_input=False)  # y is in a form that needs no conversion

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

        Raises
        ------
        ValueError
            If the horizon holds durations that are no whole numbers of steps.
        """
        ahead = fh.to_relative(self.cutoff).to_pandas()
        if isinstance(ahead, pd.TimedeltaIndex):
            return steps_of(ahead, getattr(self.cutoff, "freq", None))
        return np.asarray(ahead, dtype=np.int64)

    def index_at(self, steps: NDArray[np.int64]) -> pd.Index:
        """Return the index of steps.

        Parameters
        ----------
        steps : ndarray of shape (n,)
            Counted from the last step of the series, as :meth:`steps` returns them.

        Returns
        -------
        index : Index of shape (n,)
            In the form of the series' own index.
        """
        from sktime.forecasting.base import ForecastingHorizon

        return ForecastingHorizon(steps).to_absolute_index(self.cutoff)

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
        self,
        dates: bool,
        future: pd.DataFrame | None,
        steps: NDArray[np.int64],
        horizon: int,
        past_only: Sequence[int] = (),
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
        past_only : sequence of int
            Columns of the exogenous variables that are not known in advance.

        Returns
        -------
        covariates : ndarray of shape (last of ``steps`` but at least 1, F)
            Exogenous variables, then the calendar. Exogenous variables are 0 at steps that no forecast depends on.
            Those that are not known in advance keep their last value.
        """
        last = max(1, int(steps.max()))
        parts = [np.empty((last, 0))]
        if self.X is None and not dates:
            return parts[0]
        ahead = self.index_at(np.arange(1, last + 1))
        if self.X is not None:
            # A forecast beyond the horizon continues from the ones before it, which need all rows of whole horizons.
            needed = np.union1d(np.arange(1, (last - 1) // horizon * horizon + 1), steps[steps > 0]) - 1
            known = np.setdiff1d(np.arange(self.X.shape[1]), past_only)
            parts.append(np.zeros((last, self.X.shape[1])))
            parts[1][:, past_only] = self.X.to_numpy(dtype=np.float64)[-1, past_only]
            if len(needed) and len(known):
                future = columns_of("X in predict", future, self.X.columns[known])
                rows = rows_at("X in predict", future, ahead[needed]).to_numpy(dtype=np.float64)
                parts[1][needed[:, None], known] = rows
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
        If y or X has missing, infinite or too large values, or X lacks a series or a step.
    """
    known = None if X is None else frames_of(X)
    panel = {}
    for key, frame in frames_of(y).items():
        rows = None
        check_finite_frame("y", frame)
        if known is not None:
            if key not in known:
                raise ValueError(f"X has no rows for the series {key} of y. Add a row for each step of the series.")
            rows = rows_at("X", known[key], frame.index)
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
    # pandas < 3 gives the key of a single level without a tuple.
    return {key if isinstance(key, tuple) else (key,): frame.droplevel(list(range(levels))) for key, frame in groups}


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
    odd = np.argwhere(~(np.abs(values) <= LARGEST))
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
            where = _first_gap(index)
            raise ValueError(
                f"The dates of y, from {index[0]} to {index[-1]}, have no frequency{where}. Give each step once and "
                "fill missing steps: y.asfreq('D').ffill() does so for days, y.asfreq('B').ffill() for business days. "
                "Or use a PeriodIndex."
            )
        return
    # Periods count in units; those of "15min" are 15 minutes apart.
    distances = np.diff(index.astype(np.int64)) // getattr(getattr(index, "freq", None), "n", 1)
    if len(distances) and distances[0] > 1 and (distances == distances[0]).all():
        raise ValueError(
            f"The steps of y are {distances[0]} apart, but a forecasting horizon counts by 1. Number the steps anew, "
            "for instance by y.reset_index(drop=True), or use dates."
        )
    odd = np.flatnonzero(distances != 1)
    if len(odd):
        raise ValueError(
            f"The steps of y are not equally far apart: {index[odd[0]]} is followed by {index[odd[0] + 1]}. Give each "
            "step once and fill missing steps."
        )


def _first_gap(index: pd.DatetimeIndex) -> str:
    """Return where dates break the distance that most of them have, for a message; working days are one apart."""
    distances = index[1:] - index[:-1]
    if not len(distances):
        return ""
    step = distances.value_counts().index[0]
    if step == pd.Timedelta("1D") and (index.dayofweek < 5).all():
        days = index.to_numpy().astype("datetime64[D]")
        odd = np.flatnonzero(np.busday_count(days[:-1], days[1:]) != 1)
    else:
        odd = np.flatnonzero(distances != step)
    return f": {index[odd[0]]} is followed by {index[odd[0] + 1]}" if len(odd) else ""


def check_names(names: Iterable[Any], expected: Sequence[Any]) -> None:
    """Raise ValueError if y has another number of columns than in training, or the same ones in another order.

    Parameters
    ----------
    names : iterable
        The columns of y.
    expected : sequence
        The columns in training.
    """
    names, expected = list(names), list(expected)
    if len(names) != len(expected) or (names != expected and set(names) == set(expected)):
        raise ValueError(
            f"y has the columns {names}, but the forecaster was trained with columns {expected} in this order. Pass "
            "the same columns."
        )


def columns_of(what: str, X: pd.DataFrame | None, names: Sequence[Any] | pd.Index) -> pd.DataFrame | None:
    """Return the columns of X that training had, in their order. Others are ignored.

    Parameters
    ----------
    what : str
        Name of the frame, for messages.
    X : DataFrame, optional
        Exogenous variables.
    names : sequence or Index
        The columns in training.

    Returns
    -------
    X : DataFrame or None
        None if training had no X.

    Raises
    ------
    ValueError
        If X or a column is missing, or training had no X.
    """
    if not len(names):
        if X is not None:
            raise ValueError(f"{what} has the columns {list(X.columns)}, but fit had no X. Leave {what} out.")
        return None
    if X is None:
        raise ValueError(f"{what} is missing, but fit had X. Pass {what} with a row for each step.")
    missing = [name for name in names if name not in X.columns]
    if missing:
        raise ValueError(f"{what} lacks the columns {missing} of fit. Add them.")
    return X[list(names)]


def check_same_index(new: Panel, old: Panel) -> None:
    """Raise ValueError if later steps are indexed in another way than the earlier ones.

    Parameters
    ----------
    new, old : dict of tuple to Series
        Panels by key.
    """
    found, expected = (next(iter(panel.values())).y.index for panel in (new, old))
    if type(found) is not type(expected) and not {type(found), type(expected)} <= {pd.Index, pd.RangeIndex}:
        raise ValueError(
            f"The index of y is a {type(found).__name__}, but was a {type(expected).__name__} in fit. Pass an index of "
            "that kind."
        )


def steps_of(durations: pd.TimedeltaIndex, frequency: Any) -> NDArray[np.int64]:
    """Return durations as numbers of steps.

    Parameters
    ----------
    durations : TimedeltaIndex of shape (n,)
        Durations.
    frequency : object
        Frequency of the series; None if it has none.

    Returns
    -------
    steps : ndarray of shape (n,)
        Whole numbers.

    Raises
    ------
    ValueError
        If the frequency has no fixed duration, or does not divide the durations.
    """
    try:
        step = pd.Timedelta(frequency)
    except (ValueError, TypeError):
        raise ValueError(
            f"The forecasting horizon has durations, but steps of frequency {frequency} have none that is fixed. Pass "
            "numbers of steps, or dates."
        ) from None
    odd = durations[durations % step != pd.Timedelta(0)]
    if len(odd):
        raise ValueError(f"The forecasting horizon has {odd[0]}, which is no whole number of steps of {step}.")
    return np.asarray(durations // step, dtype=np.int64)


def check_steps_exist(panel: Panel, horizons: Mapping[tuple[Any, ...], NDArray[np.int64]]) -> None:
    """Raise ValueError if a forecasting horizon has steps before the first one of a series.

    Parameters
    ----------
    panel : dict of tuple to Series
        The series by key.
    horizons : dict of tuple to ndarray of shape (n,)
        Steps of each series, counted from its last one.
    """
    for key, series in panel.items():
        first = int(horizons[key].min())
        if first <= -len(series.y):
            where = f" of the series {key}" if key else ""
            raise ValueError(
                f"The forecasting horizon has step {first} relative to the last observation{where}, but there are only "
                f"{len(series.y)} observations. Ask for steps from {1 - len(series.y)} on."
            )


def rows_at(what: str, X: pd.DataFrame, index: pd.Index) -> pd.DataFrame:
    """Return the rows of X at the steps of an index.

    Parameters
    ----------
    what : str
        Name of the frame, for messages.
    X : DataFrame
        Exogenous variables.
    index : Index of shape (n,)
        The steps.

    Returns
    -------
    rows : DataFrame of shape (n, columns)
        One row for each step.

    Raises
    ------
    ValueError
        If a row is missing or stands there twice, or a value is not finite.
    """
    gone, twice = index[~index.isin(X.index)], X.index[X.index.duplicated()]
    if len(gone):
        raise ValueError(
            f"{what} has no row for {gone[0]}. Pass a row for each step; steps beyond the horizon of the model need "
            "the rows of all steps before them."
        )
    if len(twice):
        raise ValueError(f"{what} has several rows for {twice[0]}. Pass one row for each step.")
    rows = X.loc[index]
    check_finite_frame(what, rows)
    return rows


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
