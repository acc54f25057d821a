"""Forecast one series by a pool of simple forecasts, weighted by the errors that they made in the past.

Every member forecasts from every step of the series, with what was known then; only the season is that of the whole
series. The errors of these forecasts choose the parameters of a member, the weights of the members and the width of the
intervals, so no part of the series has to be held out.

Where a demand is intermittent, most members forecast a mean that never occurs. The quantiles of past values, which need
no model, then stand beside those of the pool.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import beta
from scipy.stats import t as student

Array = NDArray[np.float64]
_Grid = tuple[list[float], ...]
_Member = Callable[["_Series"], Array]

# Prior weights, chosen with the constants below by cross-validation on training parts of M3, hospital and car parts.
PRIORS = {"last": 0.3, "mean": 0.5, "half drift": 0.5, "drift": 0.5, "smoothing": 0.5, "theta": 2.0}
PRIORS |= {"damped trend": 1.0, "trend": 0.5, "seasonal smoothing": 2.0, "season": 1.0}
_POWER = 4.0  # a weight is prior / error ** power
_HALVINGS = 6.0  # how often the weight of an error halves over the length of the series
_FIRST = 4  # steps that are read before the first forecast; the first changes give the first slope
_LONGEST = 2000  # last steps that are read
_ORIGINS = 400  # last steps from which forecasts are judged
_JUDGED = 48  # steps of a longer horizon at which they are judged
_GROWTH, _GROWTH_WEIGHT = 0.6, 5.0  # prior exponent of the growth of errors with the horizon, and its weight
_FREEDOM = 5.0  # degrees of freedom of Student's t, the prior shape of the residuals
_SHAPE_WEIGHT = 100.0  # origins that it counts as
_SMALL_SAMPLE = 4.0  # intervals are wider by this share divided by the number of origins
_SPIKE = 20.0  # distance of a spike from its neighbours, in units of the usual one
_FEWEST = 8  # steps of a series in which spikes are looked for
_ZEROS = 0.25  # share of zeros from which on a demand is intermittent
_PAST_PRIOR, _PHASE_PRIOR, _PAST_POWER = 30.0, 10.0, 12.0  # how past values weigh then; the pool has a prior of 1
_DISTINCT = 256  # distinct values whose weights are kept apart
_FEWEST_SEASONS = 3  # in which values of the same phase are looked at
_SMOOTHING = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
_THETAS = (1.5, 2.0, 3.0, 5.0)
_DAMPED: _Grid = [0.1, 0.3, 0.5, 0.7, 0.9], [0.05, 0.15, 0.3, 0.6], [0.8, 0.9, 0.98]
_TREND: _Grid = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9], [0.02, 0.05, 0.15, 0.3, 0.6], [1.0]
_SEASONAL: _Grid = [0.1, 0.3, 0.6, 0.9], [0.0, 0.05, 0.2], [0.9, 1.0], [0.05, 0.2, 0.5]


def pool(y: Array, n_steps: int, periods: tuple[int, ...], levels: Array) -> Array:
    """Forecast the steps that follow a series.

    Parameters
    ----------
    y : ndarray of shape (T,)
        The series, at least one step.
    n_steps : int
        Number of steps to forecast.
    periods : tuple of int
        Steps in each season, increasing; empty if there is none.
    levels : ndarray of shape (levels,)
        Levels of the quantiles, increasing, with 0.5 in the middle.

    Returns
    -------
    quantiles : ndarray of shape (n_steps, levels)
        Multiplying y by a power of two multiplies them by it.
    """
    recent = y[-max(_LONGEST, 4 * max(periods, default=0)) :]
    return _quantiles(recent, n_steps, periods, levels, _ORIGINS)[-1]


def fitted(y: Array, periods: tuple[int, ...], levels: Array) -> Array:
    """Forecast each step of a series from the steps before it.

    The season, the quantiles of the errors and the weight of past values beside an intermittent demand are those of the
    whole series. The first step, before which nothing is known, has quantiles around its value.

    Parameters
    ----------
    y : ndarray of shape (T,)
        The series, at least one step.
    periods : tuple of int
        Steps in each season, increasing; empty if there is none.
    levels : ndarray of shape (levels,)
        Levels of the quantiles, increasing, with 0.5 in the middle.

    Returns
    -------
    quantiles : ndarray of shape (T, levels)
        In the units of y.
    """
    later = _quantiles(y, 1, periods, levels, len(y))[:, 0]
    first = later[:1] + (y[0] - later[0, len(levels) // 2])
    return np.concatenate([first, later[:-1]])


def _quantiles(y: Array, n_steps: int, periods: tuple[int, ...], levels: Array, n_origins: int) -> Array:
    """Return quantiles (R, H, levels) that the pool forecasts from the last origins.

    If the horizon is longer than what is judged, they are those from the last origin alone, (1, H, levels).
    """
    if (y == y[0]).all():
        return np.full((min(n_origins, len(y)), n_steps, len(levels)), y[0])
    unit = 2.0 ** math.frexp(float(np.abs(y).max()))[1]  # so that squares neither overflow nor vanish
    x, ahead = _without_spikes(y / unit), np.arange(1, n_steps + 1)
    judged = np.linspace(1, n_steps, min(n_steps, _JUDGED)).round().astype(np.int64)
    series = _Series.of(x, judged, periods, n_origins)
    members = _members(series)
    forecasts, errors, best = _judged(members, series)
    weights = _weights(errors, list(forecasts))
    points = np.einsum("rm,mrh->rh", weights, np.stack(list(forecasts.values())))
    band = _band(points, series, ahead, levels)
    beside = _beside_past_values(points[..., None] + band[judged - 1], series, levels)
    shares = _shares(beside, series, levels)
    if len(judged) < n_steps:
        series = _Series.of(x, ahead, periods, 1)
        last = np.stack([member(series)[:, b] for member, b in zip(members.values(), best, strict=True)])
        points = np.einsum("m,mrh->rh", weights[-1], last)
        beside = _beside_past_values(points[..., None] + band, series, levels)
    quantiles: Array = unit * np.tensordot(shares, beside, axes=1)
    return quantiles


def _without_spikes(y: Array) -> Array:
    """Return the series with rare isolated values that are far from their neighbours replaced by the median of these.

    The distance from the running median of five values counts in units of the median of such distances. A jump to
    another level is no spike, and what recurs more often than every fiftieth step is kept.
    """
    padded = np.pad(y, 2, mode="edge")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    distance = np.abs(y - middle)
    if len(y) < _FEWEST or not distance.any():
        return y
    spikes = distance > _SPIKE * np.median(distance[distance > 0])
    spikes[-2:] = False  # these may begin a new level
    return np.where(spikes, middle, y) if spikes.sum() <= max(1, len(y) // 50) else y


@dataclass(frozen=True)
class _Series:
    """A series without its season, and what is forecast from its last steps, the origins.

    Attributes
    ----------
    y, x : ndarray of shape (T,)
        The series, and the same without its season.
    season : ndarray of shape (R, H)
        Seasonal index of the steps after each origin: a factor if ``multiplicative``, otherwise a term.
    multiplicative : bool
        Whether the season is multiplicative.
    origins : ndarray of shape (R,)
        Numbers of the steps from which is forecast; the last one is T - 1.
    ahead : ndarray of shape (H,)
        How many steps after an origin the forecasts are for, increasing from 1.
    target : ndarray of shape (R, H)
        What follows each origin. NaN beyond the end, and after the first origins, whose errors do not count.
    periods : tuple of int
        Steps in each season that is shorter than the series, increasing.
    seasons : tuple of int
        Those that the series holds more than twice, which are removed from x.
    """

    y: Array
    x: Array
    season: Array
    multiplicative: bool
    origins: NDArray[np.int64]
    ahead: NDArray[np.int64]
    target: Array
    periods: tuple[int, ...]
    seasons: tuple[int, ...]

    @classmethod
    def of(cls, y: Array, ahead: NDArray[np.int64], periods: tuple[int, ...], n_origins: int) -> "_Series":
        T = len(y)
        origins = np.arange(max(0, T - n_origins), T)
        later = origins[:, None] + ahead
        target = np.where(later < T, y[np.minimum(later, T - 1)], np.nan)
        seasons: tuple[int, ...] = ()
        if T > _FIRST:
            target[origins < _FIRST - 1] = np.nan
            seasons = tuple(period for period in periods if period < T / 2)
        multiplicative = bool(seasons) and bool((y > 0).all())
        x, season = _without_season(y, seasons, later, multiplicative)
        return cls(y, x, season, multiplicative, origins, ahead, target, tuple(p for p in periods if p < T), seasons)

    def with_season(self, forecasts: Array) -> Array:
        """Put the season back into forecasts of shape (R, G, H)."""
        season = self.season[:, None]
        return forecasts * season if self.multiplicative else forecasts + season


def _without_season(
    y: Array, seasons: tuple[int, ...], later: NDArray[np.int64], multiplicative: bool
) -> tuple[Array, Array]:
    """Return the series without its seasons, and their index at the steps ``later``, in the shape of these."""
    x, season = y, np.full(later.shape, float(multiplicative))
    for period in seasons:  # the shortest first; a longer one explains what is left
        indices = _seasonal_indices(x, period, multiplicative)
        now, then = indices[np.arange(len(y)) % period], indices[later % period]
        x, season = (x / now, season * then) if multiplicative else (x - now, season + then)
    return x, season


def _seasonal_indices(y: Array, period: int, multiplicative: bool) -> Array:
    """Return the seasonal index of each phase by classical decomposition, shrunk by its own uncertainty.

    Ratios to (or differences from) the centred moving average over a season are averaged over the seasons. With their
    variance within a phase v, the number of seasons m and the variance of the indices s, the indices are multiplied by
    (or the factors moved from 1 by) max(0, 1 - v / (m s))^2.
    """
    kernel = np.full(period, 1.0 / period)
    if period % 2 == 0:  # a season and a step, whose ends count half
        kernel = np.r_[0.5 / period, kernel[1:], 0.5 / period]
    trend = np.convolve(y, kernel, "valid")
    before = (len(y) - len(trend)) // 2
    inside = y[before : before + len(trend)]
    ratios = inside / trend if multiplicative else inside - trend
    phase = (np.arange(len(ratios)) + before) % period
    number = np.bincount(phase, minlength=period)
    neutral = 1.0 if multiplicative else 0.0
    indices = np.where(number, np.bincount(phase, ratios, minlength=period) / np.maximum(number, 1), neutral)
    indices = indices / indices.mean() if multiplicative else indices - indices.mean()
    within = np.square(ratios - indices[phase]).sum() / max(1, len(ratios) - period)
    spread = indices.var() * len(ratios) / period
    share = max(0.0, 1.0 - within / spread) ** 2 if spread > 0 else 0.0
    return neutral + share * (indices - neutral)


def _judged(members: dict[str, _Member], series: _Series) -> tuple[dict[str, Array], Array, list[int]]:
    """Return of each member the forecasts (R, H), and the sums of its errors known at each origin, (R, members).

    The third value tells which of its parameters it has at the last origin.
    """
    forecasts, sums, last = {}, [], []
    decay = _decay(series)
    rows = np.arange(len(series.origins))
    for name, member in members.items():
        candidates = member(series)
        errors = np.abs(series.target[:, None] - candidates)
        known = _known_errors(errors, series.ahead, decay)
        best = known.argmin(axis=1)  # of the member's parameters, by what was known at each origin
        forecasts[name] = candidates[rows, best]
        several = candidates.shape[1] > 1
        sums.append(_known_errors(errors[rows, best], series.ahead, decay) if several else known[:, 0])
        last.append(int(best[-1]))
    return forecasts, np.stack(sums, axis=1), last


def _decay(series: _Series) -> float:
    """Return the factor by which an error weighs less than one that is a step later."""
    factor: float = 0.5 ** (_HALVINGS / len(series.y))
    return factor


def _known_errors(errors: Array, ahead: NDArray[np.int64], decay: float) -> Array:
    """Return the sums of errors (R, ..., H) known at each origin, (R, ...), older ones weighing less.

    An error of the forecast k steps after origin r is known at origin r + k. It counts in units of k^g, since errors
    grow with the horizon. B_t sums those that become known at t, and the result is A_t = decay A_{t-1} + B_t.
    """
    filled = np.nan_to_num(errors, nan=0.0)
    new = np.zeros(errors.shape[:-1])
    for column, k in enumerate(ahead[ahead < len(errors)].tolist()):
        new[k:] += filled[:-k, ..., column] / k**_GROWTH
    sums: Array = lfilter([1.0], [1.0, -decay], new, axis=0)
    return sums


def _weights(errors: Array, names: list[str]) -> Array:
    """Return the weight of each member at each origin, (R, members): prior / error ** power, relative to the best."""
    priors = np.array([PRIORS[name] for name in names])
    tiny = 1e-12 + 1e-9 * errors.max(axis=1, keepdims=True)
    weights = priors * ((errors + tiny) / (errors.min(axis=1, keepdims=True) + tiny)) ** -_POWER
    total: Array = weights / weights.sum(axis=1, keepdims=True)
    return total


def _members(series: _Series) -> dict[str, _Member]:
    """Return the members: each forecasts from origins of the series, for all values of its parameters, (R, G, H)."""
    x, t = series.x, np.arange(len(series.x), dtype=np.float64)

    def constant(level: Array) -> _Member:  # (T, G)
        return lambda at: at.with_season(np.repeat(level[at.origins][..., None], len(at.ahead), axis=2))

    def drift(share: float) -> _Member:
        slope = share * (x - x[0]) / np.maximum(t, 1.0)
        return lambda at: at.with_season((x[at.origins, None] + slope[at.origins, None] * at.ahead)[:, None])

    members = {"last": constant(x[:, None])}
    if len(x) <= _FIRST:  # no forecast by another member could be judged
        return members
    levels = _smoothed(x)
    members |= {"mean": constant((np.cumsum(x) / (t + 1))[:, None]), "half drift": drift(0.5), "drift": drift(1.0)}
    members |= {"smoothing": constant(levels), "theta": _theta(x, levels)}
    members |= {"damped trend": _trend(x, _DAMPED), "trend": _trend(x, _TREND)}
    if series.seasons:
        members["seasonal smoothing"] = _seasonal_smoothing(series)
    if series.periods:
        period = series.periods[-1]

        def season(at: _Series) -> Array:
            before = at.origins[:, None] + 1 - period + (at.ahead - 1) % period
            return np.where(before < 0, at.y[0], at.y[np.maximum(before, 0)])[:, None]

        members["season"] = season
    return members


def _smoothed(x: Array) -> Array:
    """Return exponential smoothing l_t = alpha x_t + (1 - alpha) l_{t-1} for each alpha, (T, alphas)."""
    return np.stack([lfilter([a], [1.0, a - 1.0], x, zi=[(1.0 - a) * x[0]])[0] for a in _SMOOTHING], axis=1)


def _theta(x: Array, levels: Array) -> _Member:
    """Return the Theta method, whose parameters are theta and alpha, given exponential smoothing of x.

    With the regression line L = a + b t of the steps so far, the forecast is (1 - 1/theta) L + 1/theta times
    exponential smoothing of theta x + (1 - theta) L. It is linear, so the smoothing of x and of t suffice.
    """
    t = np.arange(len(x), dtype=np.float64)
    a, b = _lines(x)
    smoothed_line = a[:, None] + b[:, None] * _smoothed(t)

    def member(at: _Series) -> Array:
        rows = at.origins
        line = (a[rows, None] + b[rows, None] * (t[rows, None] + at.ahead))[:, None]
        forecasts = [
            (1.0 - 1.0 / theta) * line + (levels[rows] + (1.0 / theta - 1.0) * smoothed_line[rows])[..., None]
            for theta in _THETAS
        ]
        return at.with_season(np.concatenate(forecasts, axis=1))

    return member


def _lines(x: Array) -> tuple[Array, Array]:
    """Return intercept and slope of the regression of the first steps on their numbers, up to each step."""
    t = np.arange(len(x), dtype=np.float64)
    n, sum_x, sum_t, sum_xt = t + 1, np.cumsum(x), np.cumsum(t), np.cumsum(x * t)
    variance = np.cumsum(t * t) - sum_t**2 / n
    slope = np.where(t > 0, (sum_xt - sum_t * sum_x / n) / np.where(t > 0, variance, 1.0), 0.0)
    return (sum_x - slope * sum_t) / n, slope


def _damped_steps(phi: Array, ahead: NDArray[np.int64]) -> Array:
    """Return phi + ... + phi^k for each k of ``ahead``, (G, H)."""
    steps: Array = np.cumsum(phi[:, None] ** np.arange(1, ahead[-1] + 1), axis=1)[:, ahead - 1]
    return steps


def _trend(x: Array, parameters: _Grid) -> _Member:
    """Return exponential smoothing with a damped trend; its first slope is the median of the first changes."""
    alpha, beta, phi = _product(parameters)
    start = float(np.median(np.diff(x[:_FIRST])))
    level, slope, _ = _recursion(x, start, np.full(len(alpha), start), alpha, beta, phi)

    def member(at: _Series) -> Array:
        steps = _damped_steps(phi, at.ahead)
        return at.with_season(level[at.origins][..., None] + slope[at.origins][..., None] * steps)

    return member


def _seasonal_smoothing(series: _Series) -> _Member:
    """Return smoothing with a damped trend and terms of the longest season that change; all terms are additive.

    It reads the series without constant terms, and its own terms, 0 at first, are added to these.
    """

    def without_season(at: _Series) -> tuple[Array, Array]:
        return _without_season(at.y, at.seasons, at.origins[:, None] + at.ahead, multiplicative=False)

    x, period = without_season(series)[0], series.seasons[-1]
    alpha, beta, phi, gamma = _product(_SEASONAL)
    start = float(np.median(np.diff(x[: period + 1])))
    level, slope, terms = _recursion(x, start, np.where(beta > 0, start, 0.0), alpha, beta, phi, gamma, period)

    def member(at: _Series) -> Array:
        latest = at.origins[:, None] + at.ahead - period * -(-at.ahead // period)  # step before with the same phase
        term = np.where((latest >= 0)[:, None], terms[np.maximum(latest, 0)].transpose(0, 2, 1), 0.0)
        trend = level[at.origins][..., None] + slope[at.origins][..., None] * _damped_steps(phi, at.ahead)
        return trend + term + without_season(at)[1][:, None]

    return member


def _product(parameters: _Grid) -> list[Array]:
    """Return each parameter's value in all combinations of their values."""
    return [values.ravel() for values in np.meshgrid(*parameters, indexing="ij")]


def _recursion(
    x: Array,
    change: float,
    slope: Array,
    alpha: Array,
    beta: Array,
    phi: Array,
    gamma: Array | None = None,
    period: int = 0,
) -> tuple[Array, Array, Array]:
    """Return level, slope and seasonal term after each step, (T, G), for each of G combinations of parameters.

    With the forecast f = l + phi b, the term s of the season before, 0 at first, and the error e = x_t - f - s, the
    level becomes f + alpha e, the slope phi b + alpha beta e, and the term s + gamma (1 - alpha) e. Without ``gamma``
    there are no terms. Before the first step the level is x_0 - ``change``.
    """
    levels, slopes = np.empty((2, len(x), len(alpha)))
    terms = np.zeros((0 if gamma is None else len(x), len(alpha)))
    level, none = np.full(len(alpha), x[0] - change), np.zeros(len(alpha))
    to_slope, to_term = alpha * beta, none if gamma is None else gamma * (1.0 - alpha)
    for step, value in enumerate(x):
        damped = phi * slope
        forecast = level + damped
        term = terms[step - period] if 0 < period <= step else none
        error = value - forecast - term
        level, slope = forecast + alpha * error, damped + to_slope * error
        levels[step], slopes[step] = level, slope
        if period:
            terms[step] = term + to_term * error
    return levels, slopes, terms


def _band(forecasts: Array, series: _Series, ahead: NDArray[np.int64], levels: Array) -> Array:
    """Return quantiles (H, levels) of the errors, at the steps ``ahead``, by those of forecasts from earlier origins.

    The mean absolute error k steps ahead follows a power law c k^g, fitted to recent errors, with a prior of g. The
    quantiles of the errors in units of it, of all k together, give the shape; Student's t distribution stands for it
    where there are few origins. The median of the shape is that of the errors, m, times max(0, 1 - v / m^2)^2, where v
    is the variance of a mean of as many normal errors as horizons fit into the origins.
    """
    errors = series.target - forecasts
    age = np.arange(len(errors) - 1, -1, -1)
    weight = np.where(np.isnan(errors), 0.0, (_decay(series) ** age)[:, None])
    known, spread = _error_growth(np.nan_to_num(np.abs(errors), nan=0.0), weight, series.ahead, ahead)
    n = int((weight[:, 0] > 0).sum())
    prior = student.ppf(levels, _FREEDOM) * ((_FREEDOM - 1) * beta(_FREEDOM / 2, 0.5) / (2 * math.sqrt(_FREEDOM)))
    seen = weight > 0
    shape = prior  # its mean absolute value is 1
    if seen.any() and (known > 0).all():
        scaled, mass = (errors / known)[seen], weight[seen]
        order = np.argsort(scaled)
        position = (np.cumsum(mass[order]) - 0.5 * mass[order]) / mass.sum()
        empirical = np.interp(levels, position, scaled[order])
        share = n / (n + _SHAPE_WEIGHT)
        shape = share * empirical + (1.0 - share) * prior
        middle = len(levels) // 2
        bias = float(empirical[middle])
        significance = n / len(spread) * bias**2 / (math.pi / 2)  # m^2 / v
        kept = max(0.0, 1.0 - 1.0 / significance) ** 2 if significance > 0 else 0.0
        shape = shape - shape[middle] + kept * bias
    band: Array = (1.0 + _SMALL_SAMPLE / max(n, 2)) * spread[:, None] * shape
    return band


def _error_growth(
    errors: Array, weight: Array, ahead: NDArray[np.int64], later: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Return the mean absolute errors c k^g for k of ``ahead`` and of ``later``, from errors (R, H) at ``ahead``.

    log c and g are the weighted regression of the logarithms of the mean errors, with a prior of g.
    """
    logs, later_logs = np.log(ahead), np.log(later)
    total = weight.sum(axis=0)
    mean = (errors * weight).sum(axis=0) / np.maximum(total, 1e-300)
    known = (total > 0) & (mean > 0)
    if not known.any():
        return np.zeros(len(ahead)), np.zeros(len(later))
    w, k, m = total[known], logs[known], np.log(mean[known])
    k_mean, m_mean = np.average(k, weights=w), np.average(m, weights=w)
    covariance = (w * (k - k_mean) * (m - m_mean)).sum() + _GROWTH_WEIGHT * _GROWTH
    g = np.clip(covariance / ((w * np.square(k - k_mean)).sum() + _GROWTH_WEIGHT), 0.0, 1.0)
    return np.exp(m_mean + g * (logs - k_mean)), np.exp(m_mean + g * (later_logs - k_mean))


def _beside_past_values(quantiles: Array, series: _Series, levels: Array) -> Array:
    """Return quantiles (R, H, levels) and, for an intermittent demand, those of past values, (2 or more, R, H, levels).

    First come the quantiles of all values up to each origin, then, for each season, of those at the same phase.
    """
    y = series.y
    sold = np.trim_zeros(y, "f")  # zeros before the first sale are no gaps of the demand
    if len(sold) < _FEWEST or (y < 0).any() or (sold == 0).mean() < _ZEROS:
        return quantiles[None]
    everything = _past_quantiles(series, 1, levels)
    others = [_past_quantiles(series, p, levels) for p in series.periods if _FEWEST_SEASONS * p <= len(y)]
    others = [np.where(np.isnan(other), everything, other) for other in others]
    return np.stack([np.maximum(quantiles, 0.0), everything, *others])


def _past_quantiles(series: _Series, period: int, levels: Array) -> Array:
    """Return quantiles (R, H, levels) of the values up to each origin that have the phase of the step to forecast.

    Older values weigh less. NaN where there is no such value.
    """
    y, origins = series.y, series.origins
    table = np.empty((len(origins), period, len(levels)))
    decay = _decay(series) ** period
    for phase in range(period):
        number = (origins - phase) // period + 1  # of values of this phase that each origin knows
        table[:, phase] = _weighted_quantiles(y[phase::period], number, decay, levels)
    phases = (origins[:, None] + series.ahead) % period
    return np.take_along_axis(table, phases[..., None], axis=1)


def _weighted_quantiles(values: Array, number: NDArray[np.int64], decay: float, levels: Array) -> Array:
    """Return quantiles of the first values, (len(number), levels), where a value weighs decay times its successor.

    A quantile is the least value up to which the weights reach its level; if there are many, every so many-th stands
    for those below it. NaN where no value is asked for.
    """
    steps = np.unique(values)
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, _DISTINCT).round().astype(np.int64))]
    occurs = np.searchsorted(steps, values)[:, None] == np.arange(len(steps))
    mass = np.cumsum(lfilter([1.0], [1.0, -decay], occurs.astype(np.float64), axis=0), axis=1)[number - 1]
    least = levels * mass[:, -1:] * (1.0 - 1e-12)
    reached = np.stack([(mass < limit[:, None]).sum(axis=1) for limit in least.T], axis=1)
    return np.where(number[:, None] > 0, steps[reached], np.nan)


def _shares(candidates: Array, series: _Series, levels: Array) -> Array:
    """Return the weights of candidate quantiles (M, R, H, levels) by their pinball losses, of which recent ones count.

    They are prior / loss ** power, relative to the best.
    """
    if len(candidates) == 1:
        return np.ones(1)
    excess = series.target[..., None] - candidates
    losses = np.maximum(levels * excess, (levels - 1.0) * excess).mean(axis=-1)
    age = np.arange(candidates.shape[1] - 1, -1, -1)
    total = np.nansum(losses * (_decay(series) ** age)[:, None], axis=(1, 2))
    tiny = 1e-12 * total.max() + np.finfo(np.float64).tiny
    priors = np.array([1.0, _PAST_PRIOR, *[_PHASE_PRIOR] * (len(candidates) - 2)])
    weights = priors * ((total + tiny) / (total.min() + tiny)) ** -_PAST_POWER
    shares: Array = weights / weights.sum()
    return shares
