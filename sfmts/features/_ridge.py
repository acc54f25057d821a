"""Ridge regression with an unpenalised intercept, row weights and exact leave-one-out predictions.

Both solvers minimise, over coefficients W and intercepts b,

    sum_i w_i |y_i - b - W z_i|^2 + alpha * p * |W|^2,        p the number of features,

so that a good `alpha` does not depend on the number of features. `GramRidge` works on an n x n matrix and suits few
rows. `NormalEquations` works on a p x p matrix and reads the rows in chunks.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize

__all__ = [
    "ALPHAS",
    "GramRidge",
    "NormalEquations",
    "RidgeSystem",
    "choose_alpha",
    "fit_temperature",
    "slices",
    "squared_error",
]

Array = npt.NDArray[np.float64]
Score = Callable[[Array], float]

ALPHAS: Array = np.logspace(-6, 2, 17)
"""Default grid of penalties, in units of the number of features."""

_TIE = 1e-5
"""Relative difference of losses below which penalties tie."""

TEMPERATURES = (1e-3, 1e3)
# Cross-validated on the training parts of 53 collections, half a count gives the least log loss of 1/32 to 1.
PSEUDO_COUNT = 0.5
EPS = float(np.finfo(np.float64).eps)
# Below this, 1 - leverage is rounding noise: the system without that row is singular.
LEAST_SLACK = 1e-10


class RidgeSystem(Protocol):
    """Interface of a solver for `choose_alpha`."""

    def leave_one_out(self, alpha: float) -> Array:
        """Return each row's prediction by the model fitted without that row."""

    def solve(self, alpha: float) -> tuple[Array, Array]:
        """Return the coefficients and the intercepts."""


class GramRidge:
    """Solve ridge regression by the eigendecomposition of the n x n Gram matrix.

    The decomposition is computed once, in float64; each further `alpha` costs two products with an n x n matrix.

    Parameters
    ----------
    Z : array of shape (n, p)
        Features, float32 or float64. They are not copied: do not change them before calling `solve`.
    Y : array of shape (n, q)
        Targets.
    weight : array of shape (n,), optional
        Positive row weights; 1 by default. An integer weight equals repeating the row.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    kept_targets : array of shape (n, q)
        Targets of the rows that `leave_one_out` predicts.
    kept_weights : array of shape (n,)
        Weights of these rows.

    Raises
    ------
    ValueError
        If shapes disagree, a weight is not positive, or a value is not finite.
    """

    COLUMNS = 2048

    def __init__(self, Z: npt.ArrayLike, Y: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> None:
        self._Z, self.kept_targets, self.kept_weights = _checked_rows(Z, Y, weight)
        self.n_rows, self.n_features = self._Z.shape
        if not self.n_rows:
            raise ValueError("Z has no rows; at least one is required.")
        self._total = self.kept_weights.sum()
        self._scale = np.sqrt(self.kept_weights)
        self._z_mean = np.empty(self.n_features)
        self._y_mean = self.kept_weights @ self.kept_targets / self._total

        gram = np.zeros((self.n_rows, self.n_rows))
        for columns in slices(self.n_features, self.COLUMNS):
            # A chunk at a time, because a float64 copy of all features could be larger than memory.
            block = self._Z[:, columns].astype(np.float64)
            self._z_mean[columns] = self.kept_weights @ block / self._total
            block -= self._z_mean[columns]
            block *= self._scale[:, None]
            gram += block @ block.T
        # The intercept's direction sqrt(w) is an eigenvector of value 0. Moving it to the top separates it exactly from
        # the other null directions; it is then dropped, and sums over the rest have no cancellation.
        direction = self._scale / np.sqrt(self._total)
        gram += (2 * linalg.norm(gram) or 1.0) * np.outer(direction, direction)
        values, vectors = linalg.eigh(gram, overwrite_a=True, driver="evd")
        self._values: Array = values[:-1].clip(min=0)
        self._vectors: Array = vectors[:, :-1]
        self._squares = self._vectors**2
        self._rotated = self._vectors.T @ ((self.kept_targets - self._y_mean) * self._scale[:, None])

    def leave_one_out(self, alpha: float) -> Array:
        """Return each row's prediction by the model fitted without that row.

        Parameters
        ----------
        alpha : float
            Penalty in units of the number of features, above 0.

        Returns
        -------
        array of shape (n, q)
            Always finite. It is 0 for a row that holds all the weight, such as a single row.
        """
        # With c_k = alpha p / (lambda_k + alpha p) and t = V' sqrt(w) (y - mean), the scaled residual is
        # sum_k V_ik c_k t_k, and 1 - h_i = sum_k V_ik^2 c_k. Their ratio stays accurate as alpha -> 0.
        penalty = _checked_alpha(alpha) * self.n_features
        shrinkage = penalty / (self._values + penalty)
        residual = self._vectors @ (shrinkage[:, None] * self._rotated) / self._scale[:, None]
        return _without_row(self.kept_targets, residual, self._squares @ shrinkage, self.kept_weights, self._total)

    def solve(self, alpha: float) -> tuple[Array, Array]:
        """Return the coefficients and the intercepts.

        Parameters
        ----------
        alpha : float
            Penalty in units of the number of features, above 0.

        Returns
        -------
        coef : array of shape (q, p)
            Coefficients.
        intercept : array of shape (q,)
            Intercepts.
        """
        penalty = _checked_alpha(alpha) * self.n_features
        # At most p eigenvalues are not 0. The other directions give no coefficients, only rounding errors / penalty.
        rank = slice(max(0, self.n_rows - 1 - self.n_features), None)
        rotated = self._rotated[rank] / (self._values[rank] + penalty)[:, None]
        dual = self._vectors[:, rank] @ rotated * self._scale[:, None]
        coef = np.empty((self.kept_targets.shape[1], self.n_features))
        for columns in slices(self.n_features, self.COLUMNS):
            coef[:, columns] = dual.T @ (self._Z[:, columns] - self._z_mean[columns])
        return coef, self._y_mean - coef @ self._z_mean


class NormalEquations:
    """Solve ridge regression by p x p normal equations that are accumulated chunk by chunk.

    Features of type float32 are multiplied in float32 and summed in float64. At most two p x p float64 matrices exist
    at a time. Leave-one-out predictions are exact, for a uniform sample of the rows.

    Parameters
    ----------
    n_features : int
        Number of features p.
    n_targets : int
        Number of targets q.
    n_kept : int, default=4096
        Number of rows kept for leave-one-out predictions. All rows are kept if there are no more.
    random_state : numpy.random.RandomState, optional
        Source of the sample; freshly seeded by default.

    Attributes
    ----------
    n_rows : int
        Number of rows added.
    kept_targets : array of shape (m, q)
        Targets of the kept rows.
    kept_weights : array of shape (m,)
        Weights of the kept rows.
    """

    ROWS = 1024

    def __init__(
        self,
        n_features: int,
        n_targets: int,
        n_kept: int = 4096,
        random_state: np.random.RandomState | None = None,
    ) -> None:
        self.n_features, self.n_targets, self.n_kept = n_features, n_targets, n_kept
        self.n_rows = 0
        self._random = np.random.RandomState() if random_state is None else random_state
        self._gram = np.zeros((n_features, n_features))
        self._cross = np.zeros((n_features, n_targets))
        # Sums are taken of z - z_shift and y - y_shift, so that a large mean does not cancel when centring.
        self._z_shift, self._z_sum = np.zeros(n_features), np.zeros(n_features)
        self._y_shift, self._y_sum = np.zeros(n_targets), np.zeros(n_targets)
        self._total = 0.0
        self._features: npt.NDArray[Any] = np.empty((0, n_features), np.float32)
        self._targets = np.empty((n_kept, n_targets))
        self._weights = np.empty(n_kept)
        self._factor: tuple[float, Array] | None = None

    @property
    def kept_targets(self) -> Array:
        """Return the targets of the kept rows."""
        return self._targets[: self.n_rows]

    @property
    def kept_weights(self) -> Array:
        """Return the weights of the kept rows."""
        return self._weights[: self.n_rows]

    def add(self, Z: npt.ArrayLike, Y: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> None:
        """Add rows.

        Each call updates a p x p matrix, so pass about a thousand rows or more at once.

        Parameters
        ----------
        Z : array of shape (n, p)
            Features, float32 or float64, of the same type in every call.
        Y : array of shape (n, q)
            Targets.
        weight : array of shape (n,), optional
            Positive row weights; 1 by default.

        Raises
        ------
        ValueError
            If shapes or types disagree, a weight is not positive, or a value is not finite.
        """
        Z, Y, weight = _checked_rows(Z, Y, weight)
        for name, given, expected in (("features", Z, self.n_features), ("targets", Y, self.n_targets)):
            if given.shape[1] != expected:
                raise ValueError(f"A row has {given.shape[1]} {name}, but this system was created for {expected}.")
        if self.n_rows and Z.dtype != self._features.dtype:
            raise ValueError(f"Z is {Z.dtype}, but the first rows were {self._features.dtype}. Use one type.")
        for rows in slices(len(Z), self.ROWS):
            self._accumulate(Z[rows], Y[rows], weight[rows])
            self._sample(Z[rows], Y[rows], weight[rows])
            self.n_rows += len(Z[rows])
            self._factor = None

    def leave_one_out(self, alpha: float) -> Array:
        """Return each kept row's prediction by the model fitted on all other rows.

        Parameters
        ----------
        alpha : float
            Penalty in units of the number of features, above 0.

        Returns
        -------
        array of shape (m, q)
            All NaN if the system, or the system without one of these rows, is not numerically positive definite.
            It is 0 for a row that holds all the weight, such as a single row.
        """
        return self._without_each(self._features[: self.n_rows], self.kept_targets, self.kept_weights, alpha)

    def leave_out(self, Z: npt.ArrayLike, Y: npt.ArrayLike, weight: npt.ArrayLike | None, alpha: float) -> Array:
        """Return what `leave_one_out` does for other rows that were added, with targets and weights."""
        return self._without_each(*_checked_rows(Z, Y, weight), alpha)

    def _without_each(self, features: npt.NDArray[Any], targets: Array, weights: Array, alpha: float) -> Array:
        try:
            coef, intercept = self.solve(alpha)
        except linalg.LinAlgError:
            return np.full_like(targets, np.nan)
        factor, z_mean = self._factorised(alpha), self._z_shift + self._z_sum / self._total
        residual, slack = np.empty_like(targets), np.empty_like(weights)
        for rows in slices(len(targets), self.ROWS):
            part = features[rows].astype(np.float64)
            residual[rows] = targets[rows] - intercept - part @ coef.T
            # 1 - h_i = 1 - w_i / sum w - w_i |L^-1 (z_i - mean)|^2
            part -= z_mean
            half = linalg.solve_triangular(factor, part.T, lower=True, overwrite_b=True)
            slack[rows] = 1 - weights[rows] * (1 / self._total + np.einsum("pi,pi->i", half, half))
        others = 1 - weights / self._total
        if np.any((others > 4 * EPS) & ~(slack > LEAST_SLACK * others)):
            return np.full_like(targets, np.nan)
        return _without_row(targets, residual, slack, weights, self._total)

    def solve(self, alpha: float) -> tuple[Array, Array]:
        """Return the coefficients and the intercepts.

        Parameters
        ----------
        alpha : float
            Penalty in units of the number of features, above 0.

        Returns
        -------
        coef : array of shape (q, p)
            Coefficients.
        intercept : array of shape (q,)
            Intercepts.

        Raises
        ------
        ValueError
            If no rows were added.
        numpy.linalg.LinAlgError
            If the system is not numerically positive definite.
        """
        factor = self._factorised(alpha)
        cross = self._cross - np.outer(self._z_sum, self._y_sum / self._total)
        coef: Array = np.ascontiguousarray(linalg.cho_solve((factor, True), cross, overwrite_b=True).T)
        z_mean, y_mean = self._z_shift + self._z_sum / self._total, self._y_shift + self._y_sum / self._total
        return coef, y_mean - coef @ z_mean

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return all accumulated values as arrays, for `from_state`.

        The arrays are views where possible. Copy or save them before adding more rows.

        Returns
        -------
        dict of str to array
            Arrays, none of which holds Python objects.
        """
        _, keys, position, *_ = self._random.get_state(legacy=True)
        return {
            "n_kept": np.array(self.n_kept),
            "n_rows": np.array(self.n_rows),
            "total": np.array(self._total),
            "gram": self._gram,
            "cross": self._cross,
            "z_shift": self._z_shift,
            "z_sum": self._z_sum,
            "y_shift": self._y_shift,
            "y_sum": self._y_sum,
            "features": self._features[: self.n_rows],
            "targets": self.kept_targets,
            "weights": self.kept_weights,
            "random_keys": np.asarray(keys),
            "random_position": np.array(position),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> "NormalEquations":
        """Return the system that `state` describes, to which more rows can be added.

        Parameters
        ----------
        state : mapping of str to array
            What `state` returned. The arrays are copied.

        Returns
        -------
        NormalEquations
            An equal system with a random state of its own.
        """
        n_features, n_targets = state["cross"].shape
        system = cls(n_features, n_targets, int(state["n_kept"]))
        system._random.set_state(("MT19937", state["random_keys"], int(state["random_position"]), 0, 0.0))
        system.n_rows, system._total = int(state["n_rows"]), float(state["total"])
        for name in ("gram", "cross", "z_shift", "z_sum", "y_shift", "y_sum"):
            getattr(system, f"_{name}")[...] = state[name]
        if system.n_rows:
            system._features = np.empty((system.n_kept, n_features), state["features"].dtype)
        for name in ("features", "targets", "weights"):
            getattr(system, f"_{name}")[: len(state[name])] = state[name]
        return system

    def _accumulate(self, Z: npt.NDArray[Any], Y: Array, weight: Array) -> None:
        if not self.n_rows:
            self._z_shift, self._y_shift = weight @ Z / weight.sum(), weight @ Y / weight.sum()
        scale = np.sqrt(weight)[:, None]
        z, y = (Z - self._z_shift) * scale, (Y - self._y_shift) * scale
        self._z_sum += scale[:, 0] @ z
        self._y_sum += scale[:, 0] @ y
        self._cross += z.T @ y
        self._total += weight.sum()
        z = z.astype(Z.dtype, copy=False)
        self._gram += z.T @ z

    def _sample(self, Z: npt.NDArray[Any], Y: Array, weight: Array) -> None:
        # Reservoir sampling: row t takes slot t while there is room; later it takes a uniform slot in 0..t, if that one
        # exists. One draw a row, so that the sample does not depend on the chunks.
        if not self.n_rows:
            # The rows are written as they come, so the unused part costs no memory.
            self._features = np.empty((self.n_kept, self.n_features), Z.dtype)
        t = np.arange(self.n_rows, self.n_rows + len(Z))
        uniform = (self._random.random_sample(len(Z)) * (t + 1)).astype(np.int64)
        slots = np.where(t < self.n_kept, t, uniform)
        # A slot that is drawn twice must get the later row in all three arrays.
        last = {slot: row for row, slot in enumerate(slots.tolist()) if slot < self.n_kept}
        taken, rows = list(last.keys()), list(last.values())
        self._features[taken], self._targets[taken], self._weights[taken] = Z[rows], Y[rows], weight[rows]

    def _factorised(self, alpha: float) -> Array:
        alpha = _checked_alpha(alpha)
        if not self.n_rows:
            raise ValueError("The system has no rows. Call add first.")
        if self._factor is None or self._factor[0] != alpha:
            # Free the old factor first, so that no more than two p x p matrices exist.
            self._factor = None
            matrix = self._gram.copy()
            for rows in slices(self.n_features, self.ROWS):
                matrix[rows] -= np.outer(self._z_sum[rows], self._z_sum / self._total)
            matrix.flat[:: self.n_features + 1] += alpha * self.n_features
            try:
                # The transpose is in Fortran order, which LAPACK factorises in place.
                factor, _ = linalg.cho_factor(matrix.T, lower=True, overwrite_a=True)
            except linalg.LinAlgError:
                raise linalg.LinAlgError(
                    f"The normal equations are not positive definite with alpha={alpha:g}. Use a larger alpha."
                ) from None
            self._factor = alpha, factor
        return self._factor[1]


def choose_alpha(system: RidgeSystem, score: Score, alphas: npt.ArrayLike = ALPHAS) -> tuple[float, Array]:
    """Return the penalty whose leave-one-out predictions score best.

    Parameters
    ----------
    system : GramRidge or NormalEquations
        Solver.
    score : callable
        Map from predictions, shape (m, q), to a loss.
    alphas : array of shape (n_alphas,), default=ALPHAS
        Candidates.

    Returns
    -------
    alpha : float
        The candidate with the least loss. Losses that differ by a relative 1e-5 or less tie, and the greatest
        penalty of those that tie is taken: rounding, which differs between machines, shall not decide.
    predictions : array of shape (m, q)
        Its leave-one-out predictions.

    Raises
    ------
    ValueError
        If no candidate gives finite predictions and a finite loss.
    """
    tied: list[tuple[float, float, Array]] = []
    least = np.inf
    for alpha in np.sort(np.asarray(alphas, np.float64))[::-1].tolist():
        predictions = system.leave_one_out(alpha)
        # A loss such as an error rate can be finite although predictions are not.
        loss = score(predictions) if np.isfinite(predictions).all() else np.nan
        if np.isfinite(loss):
            least = min(loss, least)
            tied = [
                candidate
                for candidate in [*tied, (loss, alpha, predictions)]
                if candidate[0] <= least + _TIE * abs(least)
            ]
    if not tied:
        raise ValueError("No alpha gives finite leave-one-out predictions with a finite score. Use larger alphas.")
    _, alpha, predictions = tied[0]
    return alpha, predictions


def squared_error(targets: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> Score:
    """Return a function from predictions to their weighted mean squared error.

    Parameters
    ----------
    targets : array of shape (m, q)
        True values.
    weight : array of shape (m,), optional
        Row weights; 1 by default.

    Returns
    -------
    callable
        Score for `choose_alpha`.
    """
    truth = np.asarray(targets, np.float64)
    row_weight = None if weight is None else np.asarray(weight, np.float64)

    def score(predictions: Array) -> float:
        return float(np.average(np.square(truth - predictions).mean(axis=1), weights=row_weight))

    return score


def fit_temperature(
    decisions: npt.ArrayLike, codes: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> tuple[float, float]:
    """Return the temperature that calibrates softmax(temperature * decisions), and its log loss.

    Targets are smoothed as in Platt scaling: half an observation, of N + 1 with N the total weight, is spread evenly
    over all classes. The temperature therefore stays finite for perfectly separated classes.

    Parameters
    ----------
    decisions : array of shape (n, k)
        Decision values of k >= 2 classes; (-d, d) for two classes.
    codes : array of shape (n,)
        Column of each row's true class.
    weight : array of shape (n,), optional
        Positive row weights; 1 by default. An integer weight equals repeating the row.

    Returns
    -------
    temperature : float
        Between 1e-3 and 1e3.
    log_loss : float
        Weighted mean cross-entropy with the smoothed targets, at this temperature.

    Raises
    ------
    ValueError
        If shapes disagree, a code is out of range, a weight is not positive, or a decision is not finite.

    References
    ----------
    Platt, "Probabilistic outputs for support vector machines", 1999; Guo et al., "On calibration of modern neural
    networks", ICML 2017.
    """
    decisions, codes = np.asarray(decisions, np.float64), np.asarray(codes)
    if decisions.ndim != 2 or not len(decisions) or decisions.shape[1] < 2:
        raise ValueError(f"decisions has shape {decisions.shape}, but (n, k) with n >= 1 and k >= 2 is required.")
    if not np.isfinite(decisions).all():
        raise ValueError("decisions has values that are not finite.")
    n, k = decisions.shape
    if codes.shape != (n,) or codes.min() < 0 or codes.max() >= k:
        raise ValueError(f"codes must have shape ({n},) and values from 0 to {k - 1}.")
    weight = _checked_weight(weight, n)
    total = weight.sum()

    # With d shifted to a maximum of 0 in each row, the loss is mean_i log sum_c exp(T d_ic) - T mean_i <target_i, d_i>.
    # It is convex in T, hence unimodal in log T.
    shifted = decisions - decisions.max(axis=1, keepdims=True)
    spread = PSEUDO_COUNT / (total + 1)
    aligned = (1 - spread) * shifted[np.arange(n), codes] + spread * shifted.mean(axis=1)
    slope = weight @ aligned / total
    columns, buffer = np.ascontiguousarray(shifted.T), np.empty((k, n))

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        np.multiply(columns, temperature, out=buffer)
        np.exp(buffer, out=buffer)
        return float(weight @ np.log(buffer.sum(axis=0)) / total - temperature * slope)

    found = optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    temperature = float(np.exp(found.x))
    # Newton's steps T - L' / L'' to the last digits, so that equal data in other forms get equal temperatures. With the
    # probabilities p, L' is the mean of E_p d less the slope, and L'' the mean of the variance of d under p.
    for _ in range(2):
        p = np.exp(columns * temperature)
        p /= p.sum(axis=0)
        mean = (p * columns).sum(axis=0)
        curvature = weight @ (p * np.square(columns - mean)).sum(axis=0) / total
        if curvature > 0:
            step = (weight @ mean / total - slope) / curvature
            if abs(step) < 1e-3 * temperature:  # otherwise the bounds hold T, or L is flat
                temperature = float(np.clip(temperature - step, *TEMPERATURES))
    return temperature, float(found.fun)


def slices(n: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` that cover n rows."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _checked_alpha(alpha: float) -> float:
    if not 0 < alpha < np.inf:
        raise ValueError(f"alpha={alpha} is invalid; it must be positive and finite.")
    return float(alpha)


def _checked_weight(weight: npt.ArrayLike | None, n: int) -> Array:
    checked = np.ones(n) if weight is None else np.asarray(weight, np.float64)
    if checked.shape != (n,):
        raise ValueError(f"weight has shape {checked.shape}, but there are {n} rows.")
    if not np.all((checked > 0) & (checked < np.inf)):
        raise ValueError("weight must be positive and finite. Remove rows of weight zero.")
    return checked


def _checked_rows(
    Z: npt.ArrayLike, Y: npt.ArrayLike, weight: npt.ArrayLike | None
) -> tuple[npt.NDArray[Any], Array, Array]:
    features, targets = np.asarray(Z), np.asarray(Y, np.float64)
    if features.dtype != np.float32:
        features = features.astype(np.float64, copy=False)
    if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets) or not features.shape[1]:
        raise ValueError(
            f"Z has shape {features.shape} and Y {targets.shape}, but (n, p) with p >= 1 and (n, q) are required."
        )
    for name, values in (("Z", features), ("Y", targets)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has values that are not finite.")
    return features, targets, _checked_weight(weight, len(features))


def _without_row(targets: Array, residual: Array, slack: Array, weight: Array, total: float) -> Array:
    # y_i - (y_i - yhat_i) / (1 - h_i). A row that holds all the weight leaves nothing to fit: predict 0.
    alone = 1 - weight / total <= 4 * EPS
    predictions: Array = targets - residual / np.where(alone, 1.0, slack)[:, None]
    predictions[alone] = 0
    return predictions
