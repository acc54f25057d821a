"""Scale features and fit a ridge regression whose penalty is chosen by leave-one-out predictions."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sfmts.features._ridge import ALPHAS, GramRidge, NormalEquations, choose_alpha, slices

Array = NDArray[np.float64]
Features = NDArray[np.float32]
Score = Callable[[Array, Array, Array | None], float]  # of predictions, targets and weights; lower is better


@dataclass(frozen=True)
class Squash:
    """Scale each feature to deviation 1 over the training series, and bound it: z / (1 + |z|).

    Bounds prevent that a single extreme feature, as in unusual series, determines a prediction.

    Attributes
    ----------
    mean, factor : ndarray of shape (n_features,), float32
        Mean, and inverse standard deviation or 0 for a constant feature.
    centre : ndarray of shape (n_features,), float32
        Mean of the features after scaling.
    """

    mean: NDArray[np.float32]
    factor: NDArray[np.float32]
    centre: NDArray[np.float32]

    @classmethod
    def fit_apply(cls, features: Features, weight: Array | None) -> tuple["Squash", Features]:
        """Compute mean and deviation of each feature, and scale in place; constant features become 0."""
        share = np.full(len(features), 1 / len(features)) if weight is None else weight / weight.sum()
        mean, square = np.empty(features.shape[1]), np.empty(features.shape[1])
        for cut in slices(features.shape[1], 2048):
            part = features[:, cut].astype(np.float64)
            mean[cut] = share @ part
            part -= mean[cut]
            square[cut] = share @ np.square(part, out=part)
        deviation = np.sqrt(square)
        varies = deviation > 1e-7 * (np.abs(mean) + 1e-6)
        factor = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
        squash = cls(mean.astype(np.float32), factor.astype(np.float32), np.zeros_like(mean, dtype=np.float32))
        features = squash.apply(features)
        centre = np.concatenate(
            [share @ features[:, cut].astype(np.float64) for cut in slices(features.shape[1], 2048)]
        )
        return replace(squash, centre=centre.astype(np.float32)), features

    def apply(self, features: Features) -> Features:
        """Scale and bound the features of one or of many series in place; return the same array."""
        parts = [features] if features.ndim == 1 else (features[cut] for cut in slices(len(features), 32))
        for part in parts:  # so few series that they stay in the cache
            part -= self.mean
            part *= self.factor
            size = np.abs(part)
            size += 1
            part /= size
        return features


@dataclass(frozen=True)
class Solution:
    """A linear model of squashed features.

    Attributes
    ----------
    coef : ndarray of shape (n_targets, n_features)
        Coefficients.
    intercept : ndarray of shape (n_targets,)
        Intercepts.
    alpha : float
        Penalty, in units of the number of features.
    predictions, targets : ndarray of shape (n_kept, n_targets)
        Leave-one-out predictions and targets of some training series.
    weights : ndarray of shape (n_kept,)
        Weights of these series.
    """

    coef: Array
    intercept: Array
    alpha: float
    predictions: Array
    targets: Array
    weights: Array

    def predict(self, features: Features) -> Array:
        """Return the predictions for squashed features, (n, n_targets)."""
        out = np.empty((len(features), len(self.intercept)))
        for cut in slices(len(features), 32):  # in parts, because each is converted to double precision
            out[cut] = features[cut].astype(np.float64) @ self.coef.T
        return out + self.intercept


def solve_few(features: Features, targets: Array, weight: Array | None, score: Score) -> Solution:
    """Solve by the Gram matrix of the series, which suits few of them."""
    return _solve(GramRidge(features, targets, weight), ALPHAS, score)


class ManySeries:
    """Accumulate series part by part, and solve by normal equations on demand.

    Parameters
    ----------
    n_features : int
        Number of features.
    n_targets : int
        Number of targets.
    random_state : RandomState
        Draws the series whose leave-one-out predictions decide on the penalty.
    score : callable
        Loss of predictions, targets and weights.
    """

    def __init__(self, n_features: int, n_targets: int, random_state: np.random.RandomState, score: Score) -> None:
        self._system = NormalEquations(n_features, n_targets, random_state=random_state)
        self._score = score
        self._solution: Solution | None = None

    def add(self, features: Features, targets: Array, weight: Array | None) -> None:
        """Accumulate some series."""
        self._system.add(features, targets, weight)
        self._solution = None

    def leave_out(self, features: Features, targets: Array, weight: Array | None) -> Array:
        """Return the predictions of some of the series by models of all others, NaN if they are not stable."""
        return self._system.leave_out(features, targets, weight, self.solution().alpha)

    def solution(self) -> Solution:
        """Return the solution for all series so far, computed only once."""
        if self._solution is None:
            self._solution = _solve(self._system, ALPHAS[::2], self._score)
        return self._solution


def _solve(system: GramRidge | NormalEquations, alphas: Array, score: Score) -> Solution:
    targets, weights = system.kept_targets, system.kept_weights
    alpha, predictions = choose_alpha(system, lambda values: score(values, targets, weights), alphas)
    return Solution(*system.solve(alpha), alpha, predictions, targets, weights)
