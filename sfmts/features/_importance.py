"""Importance of periods, decay times and channels for the decisions of a ridge model of features."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sfmts.features._reader import Array, Features
from sfmts.features._ridge import slices

LEVEL = "level"  # name of the period bin of frequency zero
_ROWS = 256  # maximum number of series whose weighted features are in memory at once
_MARGIN = 2.0**0.5  # widens the range of a single value


@dataclass(frozen=True, eq=False)
class FrequencyImportance:
    """Contributions of the oscillators of each period, decay time and channel to decisions.

    Decisions are ``contributions.sum(axis=(2, 3, 4)) + baseline``.

    Attributes
    ----------
    periods : ndarray of shape (n_period_bins + 1,)
        Edges of the bins of periods, in ``unit``. The last bin ends with infinity and holds only the oscillators of
        frequency zero, which follow the level and the trend of a series.
    decays : ndarray of shape (n_decay_bins + 1,)
        Edges of the bins of decay times, in ``unit``. The memory of an oscillator falls to 1/e in its decay time.
    channels : ndarray of shape (n_channels,)
        Names or numbers of the channels.
    outputs : ndarray of shape (n_outputs,)
        Labels of the classes, or numbers of the targets. For two classes there is one output, the second class.
    contributions : ndarray of shape (n_series, n_outputs, n_period_bins, n_decay_bins, n_channels)
        Contribution of the features in each bin to the decision on each series.
    baseline : ndarray of shape (n_outputs,)
        Decision at the mean of the training series' features, to which contributions are added. The mean is that of a
        sample for more than 6000 series, and that of the first call after ``partial_fit``.
    unit : str
        Unit of ``periods`` and ``decays``: "steps" or "time units".

    See Also
    --------
    sfmts.SFMRidgeClassifier.frequency_importance : Compute it for a fitted classifier.
    sfmts.plotting.FrequencyImportanceDisplay : Draw it.

    Notes
    -----
    Each feature contributes its coefficient times its difference from the mean of the training series. A feature counts
    for its own oscillator, although four of the seven summaries also depend on the other oscillators of its group. If
    several channels drive an oscillator, each gets a share of the contribution in proportion to its weight. Ridge
    regression spreads coefficients over similar features, and an oscillator responds to a range of periods around its
    own, so importance is smooth along both axes.
    """

    periods: Array
    decays: Array
    channels: NDArray[Any]
    outputs: NDArray[Any]
    contributions: Array
    baseline: Array
    unit: str = "steps"

    @property
    def importance(self) -> Array:
        """Root mean square of the contributions over series, (n_outputs, n_period_bins, n_decay_bins, n_channels).

        For a single series, this is the absolute value of its contributions.
        """
        return _root_mean_square(self.contributions)

    def by_period(self) -> Array:
        """Return the importance of each bin of periods, summed over decay times and channels.

        Contributions are summed before their root mean square is taken, so opposite signs cancel.

        Returns
        -------
        importance : ndarray of shape (n_outputs, n_period_bins)
            Importance; the last column is for frequency zero.
        """
        return _root_mean_square(self.contributions.sum(axis=(3, 4)))

    def by_decay(self) -> Array:
        """Return the importance of each bin of decay times, summed over periods and channels.

        Returns
        -------
        importance : ndarray of shape (n_outputs, n_decay_bins)
            Importance.
        """
        return _root_mean_square(self.contributions.sum(axis=(2, 4)))

    def by_channel(self) -> Array:
        """Return the importance of each channel, summed over periods and decay times.

        Returns
        -------
        importance : ndarray of shape (n_outputs, n_channels)
            Importance.
        """
        return _root_mean_square(self.contributions.sum(axis=(2, 3)))

    @property
    def period_labels(self) -> list[str]:
        """Name of each bin of periods, such as "2.5 to 3.4"; the last is "level"."""
        edges = self.periods[:-1]
        return [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)] + [LEVEL]


def _root_mean_square(contributions: Array) -> Array:
    """Return the root mean square over series, the first axis."""
    result: Array = np.sqrt(np.square(contributions).mean(axis=0))
    return result


def frequency_importance(
    features: Iterable[Features],
    coef: Array,
    intercept: Array,
    centre: NDArray[Any],
    info: NDArray[Any],
    channel_weights: Array,
    *,
    n_bins: int = 12,
    channels: Sequence[Any] | None = None,
    outputs: Sequence[Any] | NDArray[Any] | None = None,
    unit: str = "steps",
) -> FrequencyImportance:
    """Split the decisions of a linear model of features over periods, decay times and channels.

    If ``features`` is a generator, the result is the only array whose size grows with the number of series.

    Parameters
    ----------
    features : iterable of ndarray of shape (n_part, n_features)
        Scaled features z of the series, part by part.
    coef : ndarray of shape (n_outputs, n_features)
        Coefficients.
    intercept : ndarray of shape (n_outputs,)
        Intercepts; decisions are ``intercept + coef @ z``.
    centre : ndarray of shape (n_features,)
        Mean of z over the training series.
    info : structured ndarray of shape (n_features,)
        Fields ``period``, infinite for frequency zero, and ``decay_time``.
    channel_weights : ndarray of shape (n_features, n_channels)
        Share of each channel in each feature; rows add up to 1.
    n_bins : int, default=12
        Number of bins of finite periods, evenly spaced on a logarithmic scale. Decay times have half as many bins.
    channels : sequence of n_channels names, optional
        Names of the channels; numbers if None.
    outputs : sequence of n_outputs labels, optional
        Labels of the outputs; numbers if None.
    unit : str, default="steps"
        Unit of periods and decay times.

    Returns
    -------
    importance : FrequencyImportance
        Contributions to the decisions.

    Raises
    ------
    ValueError
        If ``n_bins`` is not a positive integer.
    """
    if not isinstance(n_bins, Integral) or isinstance(n_bins, bool) or n_bins < 1:
        raise ValueError(f"n_bins must be a positive integer, but is {n_bins!r}.")
    n_features, n_channels = channel_weights.shape
    is_level = np.isinf(info["period"])
    periods = _edges(info["period"][~is_level], int(n_bins))
    decays = _edges(info["decay_time"], max(int(n_bins) // 2, 1))
    n_decays = len(decays) - 1

    # bins[b, i]: share of feature i in bin b; b counts periods, decay times and channels, the last fastest
    period = np.where(is_level, n_bins, _bin(np.where(is_level, periods[0], info["period"]), periods))
    feature, channel = np.nonzero(channel_weights)
    cell = ((period * n_decays + _bin(info["decay_time"], decays))[feature]) * n_channels + channel
    shape = (n_bins + 1, n_decays, n_channels)
    bins = sparse.csr_array(
        (channel_weights[feature, channel], (cell, feature)), shape=(int(np.prod(shape)), n_features)
    )

    # contribution of bin b = sum_i bins[b, i] coef_i (z_i - centre_i)
    middle = centre.astype(np.float64)
    blocks = [np.empty((0, len(coef), *shape))]
    for part in features:
        block = np.empty((len(part), len(coef), *shape))
        for rows in slices(len(part), _ROWS):
            z = part[rows].astype(np.float64) - middle
            for output, weights in enumerate(coef):
                block[rows, output] = (bins @ (z * weights).T).T.reshape(-1, *shape)
        blocks.append(block)
    return FrequencyImportance(
        periods=np.append(periods, np.inf),
        decays=decays,
        channels=np.arange(n_channels) if channels is None else np.asarray(channels),
        outputs=np.arange(len(coef)) if outputs is None else np.asarray(outputs),
        contributions=np.concatenate(blocks),
        baseline=intercept + coef @ middle,
        unit=unit,
    )


def _edges(values: Array, n_bins: int) -> Array:
    """Return edges of bins between the minimum and the maximum of positive numbers, evenly spaced in logarithm."""
    low, high = (values.min(), values.max()) if len(values) else (1.0, 1.0)
    if high <= low * (1 + 1e-9):
        low, high = low / _MARGIN, high * _MARGIN
    edges: Array = np.geomspace(low, high, n_bins + 1)
    return edges


def _bin(values: Array, edges: Array) -> NDArray[np.int64]:
    """Return the number of the bin of each value."""
    number: NDArray[np.int64] = np.searchsorted(edges[1:-1], values, side="right")
    return number
