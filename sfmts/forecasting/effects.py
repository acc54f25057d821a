"""Effects of covariates on one series, by regression with errors that resemble the error before or a season before."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LONGEST = 2000  # last steps that are read
_FEWEST = 8  # steps to judge effects by
_CORRELATIONS = (0.0, 0.5, 0.8, 0.95, 1.0)  # of an error with the one before
_SEASONAL = (0.7, 1.0)  # of an error with the one a season before
_PENALTIES = 10.0 ** np.arange(-3.0, 2.5, 0.5)
_CAUTION = 1.5  # how often a degree of freedom counts; chosen by cross-validation on M3 with covariates made up for it


def around_effects(
    forecast: Callable[[Array], Array],
    values: Array,
    covariates: Array,
    periods: tuple[int, ...],
    past_only: Sequence[int] = (),
) -> Array:
    """Forecast the variables of a series without the effects of its covariates, and add these to the forecasts.

    Parameters
    ----------
    forecast : callable
        Map from a variable, (T,), to quantiles of n steps, (n, levels).
    values : ndarray of shape (T, V)
        The series.
    covariates : ndarray of shape (S, F)
        Covariates of its steps and of those that follow; the last n rows belong to the quantiles.
    periods : tuple of int
        Steps in each season, increasing; empty if there is none.
    past_only : sequence of int
        Columns of the covariates that are unknown after step T. They are left out.

    Returns
    -------
    quantiles : ndarray of shape (n, V, levels)
        Those of all variables.
    """
    known = np.delete(covariates, list(past_only), axis=1)
    known = known - known[: len(values)].mean(axis=0)
    found = []
    for y in values.T:
        effect = known @ covariate_effects(y, known[: len(y)], periods)
        quantiles = forecast(y - effect[: len(y)])
        found.append(quantiles + effect[-len(quantiles) :, None])
    return np.stack(found, axis=1)


def covariate_effects(y: Array, covariates: Array, periods: tuple[int, ...]) -> Array:
    """Estimate the effects of covariates on a series.

    Parameters
    ----------
    y : ndarray of shape (T,)
        The series.
    covariates : ndarray of shape (T, F)
        Its covariates.
    periods : tuple of int
        Steps in each season, increasing; empty if there is none.

    Returns
    -------
    effects : ndarray of shape (F,)
        What y gains with a unit of each covariate; 0 if covariates do not help to forecast the next step.

    Notes
    -----
    Ridge regression of y on the covariates, after both went through a filter (1 - r B)(1 - s B^m) that leaves
    independent errors; B moves a series back by one step and m is the length of a season. Without this, covariates that
    drift would explain any series that drifts, too. Generalised cross-validation chooses r, s, m and the penalty at
    once: filters start with 1, so their errors are errors of one-step forecasts, and can be compared.
    """
    y, covariates = y[-_LONGEST:], covariates[-_LONGEST:]
    best, effects = np.inf, np.zeros(covariates.shape[1])
    if len(y) < _FEWEST or not np.ptp(y) or not covariates.size:
        return effects
    both = np.column_stack([y / np.abs(y).max(), covariates])
    for filtered in _filtered(both, [period for period in periods if 3 * period < len(y)]):
        filtered = filtered - filtered.mean(axis=0)
        spread = filtered.std(axis=0)[1:]
        spread[spread <= 1e-9 * np.abs(covariates).max(axis=0)] = np.inf  # without effect
        error, found = _ridge(filtered[:, 1:] / spread, filtered[:, 0])
        if error < best:
            best, effects = error, found / spread
    result: Array = effects * np.abs(y).max()
    return result


def _filtered(values: Array, periods: list[int]) -> Iterator[Array]:
    """Yield the columns of values (T, columns) after each filter, all for the same steps."""
    first = 1 + max(periods, default=0)

    def less_before(part: Array, lag: int, share: float) -> Array:
        return part[lag:] - share * part[:-lag]

    for r in _CORRELATIONS:
        before = less_before(values, 1, r)
        yield before[first - 1 :]
        for period in periods:
            for s in _SEASONAL:
                yield less_before(before, period, s)[first - 1 - period :]


def _ridge(x: Array, y: Array) -> tuple[float, Array]:
    """Return the least error of generalised cross-validation, and the coefficients that have it; 0 is a candidate.

    With the singular values d of x, a penalty p n shrinks the parts of y along its left singular vectors by
    w = d^2 / (d^2 + p n). The error is the mean square of what is left over (1 - (1 + c sum w) / n)^2. With c = 1 the
    criterion too often takes chance for an effect (Kim and Gu, "Smoothing spline Gaussian regression", 2004).
    """
    n = len(y)
    left, d, right = np.linalg.svd(x, full_matrices=False)
    part, rest = left.T @ y, float(y @ y)
    w = d**2 / (d**2 + _PENALTIES[:, None] * n)
    squares = rest - (part**2 * (1.0 - (1.0 - w) ** 2)).sum(axis=1)
    freedom = 1.0 - (1.0 + _CAUTION * w.sum(axis=1)) / n
    errors = np.where(freedom > 0.0, squares / n / np.maximum(freedom, 1e-9) ** 2, np.inf)
    best = int(errors.argmin())
    nothing = rest / n / (1.0 - 1.0 / n) ** 2
    if errors[best] >= nothing:
        return nothing, np.zeros(x.shape[1])
    return float(errors[best]), right.T @ (w[best] / np.where(d > 0.0, d, 1.0) * part)
