"""Check that both ridge solvers equal refitting, and that the choice of penalty and the calibration are right."""

import pickle

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import Ridge

from sfmts.features._ridge import ALPHAS, GramRidge, NormalEquations, choose_alpha, fit_temperature, squared_error

# rows, features, targets, weighted
SHAPES = [(12, 5, 1, False), (12, 5, 3, True), (9, 40, 2, False), (9, 40, 1, True), (2, 3, 2, True), (7, 7, 2, False)]
shapes = pytest.mark.parametrize(("n", "p", "q", "weighted"), SHAPES, ids=lambda value: str(value))


def problem(n, p, q, weighted=False, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    # A large mean reveals sums that are not centred.
    Z = (rng.normal(size=(n, p)) + 5 * rng.normal(size=p)).astype(dtype)
    Y = Z[:, :1] + rng.normal(size=(n, q)) + 3
    return Z, Y, rng.uniform(0.2, 3, n) if weighted else None


def normal_equations(Z, Y, weight=None, **options):
    system = NormalEquations(Z.shape[1], Y.shape[1], **options)
    system.add(Z, Y, weight)
    return system


SYSTEMS = [GramRidge, normal_equations]
systems = pytest.mark.parametrize("build", SYSTEMS, ids=lambda build: build.__name__)
ALPHAS_OF_TESTS = [1e-6, 1e-2, 10.0]


def refit(Z, Y, weight, alpha):
    return Ridge(alpha * Z.shape[1], solver="svd").fit(Z, Y, weight)


@shapes
@systems
def test_equals_refitting(build, n, p, q, weighted):
    Z, Y, weight = problem(n, p, q, weighted)
    system = build(Z, Y, weight)
    for alpha in ALPHAS_OF_TESTS:
        coef, intercept = system.solve(alpha)
        whole = refit(Z, Y, weight, alpha)
        np.testing.assert_allclose(coef, np.reshape(whole.coef_, (q, p)), rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(intercept, np.reshape(whole.intercept_, q), rtol=1e-6, atol=1e-7)

        expected = np.empty((n, q))
        for row in range(n):
            others = np.arange(n) != row
            model = refit(Z[others], Y[others], None if weight is None else weight[others], alpha)
            expected[row] = np.ravel(model.predict(Z[row : row + 1]))
        np.testing.assert_allclose(system.leave_one_out(alpha), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(system.kept_targets, Y)
    np.testing.assert_array_equal(system.kept_weights, np.ones(n) if weight is None else weight)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 1e-3)])
def test_systems_agree_on_more_than_one_block(dtype, rtol):
    Z, Y, weight = problem(1500, 30, 2, True, dtype=dtype)
    gram, normal = GramRidge(Z, Y, weight), normal_equations(Z, Y, weight)
    for alpha in (1e-3, 1.0):
        np.testing.assert_allclose(normal.leave_one_out(alpha), gram.leave_one_out(alpha), rtol=rtol, atol=rtol)
        for got, expected in zip(normal.solve(alpha), gram.solve(alpha), strict=True):
            np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("dtype", "offset", "rtol"), [(np.float64, 1e7, 1e-6), (np.float32, 1e4, 1e-3)])
def test_large_means_do_not_cancel(dtype, offset, rtol):
    Z, Y, weight = problem(60, 6, 2, True)
    Z = (Z + offset).astype(dtype)
    expected = refit(Z.astype(np.float64) - Z[0].astype(np.float64), Y, weight, 1e-2).coef_
    for build in SYSTEMS:
        np.testing.assert_allclose(build(Z, Y + offset, weight).solve(1e-2)[0], expected, rtol=rtol, atol=rtol)


def test_gram_matrix_of_several_column_chunks(monkeypatch):
    Z, Y, weight = problem(8, 50, 2, True, dtype=np.float32)
    whole = GramRidge(Z, Y, weight)
    monkeypatch.setattr(GramRidge, "COLUMNS", 7)
    chunked = GramRidge(Z, Y, weight)
    np.testing.assert_allclose(chunked.solve(0.1)[0], whole.solve(0.1)[0], rtol=1e-9)
    np.testing.assert_allclose(chunked.leave_one_out(0.1), whole.leave_one_out(0.1), rtol=1e-9)


@systems
@pytest.mark.parametrize(("n", "p"), [(6, 20), (12, 4)])
def test_integer_weights_equal_repetition(build, n, p):
    Z, Y, _ = problem(n, p, 2)
    repeats = np.arange(n) % 3 + 1
    weighted = build(Z, Y, repeats)
    repeated = build(np.repeat(Z, repeats, axis=0), np.repeat(Y, repeats, axis=0))
    for alpha in ALPHAS_OF_TESTS:
        # The normal equations square the condition number.
        rtol = 1e-9 if build is GramRidge or alpha > 1e-6 else 1e-6
        for got, expected in zip(weighted.solve(alpha), repeated.solve(alpha), strict=True):
            np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


DEGENERATE = {
    "zeros": lambda Z: np.zeros_like(Z),
    "constant": lambda Z: np.full_like(Z, 0.1),
    "one constant column": lambda Z: np.concatenate([Z, np.ones_like(Z[:, :1])], axis=1),
    "duplicated columns": lambda Z: np.concatenate([Z, Z], axis=1),
    "duplicated rows": lambda Z: np.concatenate([Z[:4], Z[:4]]),
}


@systems
@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_degenerate_features_give_finite_results(build, name, dtype):
    Z, Y, weight = problem(8, 20, 2, True, dtype=dtype)
    system = build(DEGENERATE[name](Z), Y, weight)
    alpha, predictions = choose_alpha(system, squared_error(Y, weight))
    assert all(np.isfinite(part).all() for part in system.solve(alpha))
    assert np.isfinite(predictions).all()
    if build is GramRidge:
        assert all(np.isfinite(system.leave_one_out(alpha)).all() for alpha in (1e-30, *ALPHAS))
    if name in ("zeros", "constant"):
        # Without information, the prediction is the mean of the other rows, whatever the penalty.
        total, sums = weight.sum(), weight @ Y
        expected = (sums - weight[:, None] * Y) / (total - weight[:, None])
        np.testing.assert_allclose(predictions, expected, rtol=1e-6)


@systems
def test_single_row_predicts_zero(build):
    Z, Y, _ = problem(1, 4, 2)
    system = build(Z, Y)
    coef, intercept = system.solve(1.0)
    np.testing.assert_array_equal(system.leave_one_out(1.0), np.zeros((1, 2)))
    np.testing.assert_array_equal(coef, np.zeros((2, 4)))
    np.testing.assert_allclose(intercept, Y[0])


@systems
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda Z, Y, w: (Z[:-1], Y, w), "Z has shape"),
        (lambda Z, Y, w: (Z, Y[:, 0], w), r"and Y \(6,\)"),
        (lambda Z, Y, w: (Z * np.inf, Y, w), "Z has values"),
        (lambda Z, Y, w: (Z, Y * np.nan, w), "Y has values"),
        (lambda Z, Y, w: (Z, Y, w[:-1]), "there are 6 rows"),
        (lambda Z, Y, w: (Z, Y, 0 * w), "weight zero"),
        (lambda Z, Y, w: (Z, Y, np.nan * w), "positive and finite"),
    ],
)
def test_invalid_input(build, change, message):
    Z, Y, _ = problem(6, 3, 2)
    build(Z, Y, np.ones(6))
    arguments = change(Z, Y, np.ones(6))
    with pytest.raises(ValueError, match=message):
        GramRidge(*arguments) if build is GramRidge else NormalEquations(3, 2).add(*arguments)


def test_gram_ridge_needs_a_row():
    with pytest.raises(ValueError, match="no rows"):
        GramRidge(np.empty((0, 3)), np.empty((0, 2)))


@systems
def test_invalid_alpha(build):
    system = build(*problem(6, 3, 2))
    for method in (system.solve, system.leave_one_out):
        for alpha in (0, -1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match="alpha="):
                method(alpha)


def test_normal_equations_reject_other_widths_and_types():
    Z, Y, _ = problem(6, 3, 2)
    system = normal_equations(Z, Y)
    for arguments, message in (
        ((Z[:, :2], Y), "2 features.* 3"),
        ((Z, Y[:, :1]), "1 targets.* 2"),
        ((Z.astype(np.float32), Y), "float32.*float64"),
    ):
        with pytest.raises(ValueError, match=message):
            system.add(*arguments)
    with pytest.raises(ValueError, match="no rows"):
        NormalEquations(3, 2).solve(1.0)


@pytest.mark.parametrize("n_kept", [15, 100])
def test_chunked_add_equals_one_add(n_kept):
    Z, Y, weight = problem(60, 8, 2, True)
    whole = normal_equations(Z, Y, weight, n_kept=n_kept, random_state=np.random.RandomState(3))
    chunked = NormalEquations(8, 2, n_kept, np.random.RandomState(3))
    for rows in (slice(0, 0), slice(0, 1), slice(1, 20), slice(20, 60)):
        chunked.add(Z[rows], Y[rows], weight[rows])
        if chunked.n_rows:
            # A cached factor must not survive further rows.
            chunked.solve(0.1)
    assert chunked.n_rows == whole.n_rows == 60
    np.testing.assert_array_equal(chunked.kept_targets, whole.kept_targets)
    np.testing.assert_array_equal(chunked.kept_weights, whole.kept_weights)
    np.testing.assert_allclose(chunked.leave_one_out(0.1), whole.leave_one_out(0.1), rtol=1e-9)
    np.testing.assert_allclose(chunked.solve(0.1)[0], whole.solve(0.1)[0], rtol=1e-9)


def test_kept_rows_are_a_function_of_the_random_state():
    Z, Y, weight = problem(200, 4, 1, True)
    first, again, other = (
        normal_equations(Z, Y, weight, n_kept=20, random_state=np.random.RandomState(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.kept_targets, again.kept_targets)
    assert not np.array_equal(first.kept_targets, other.kept_targets)
    # Kept rows are distinct rows, and their predictions are those of the full sample.
    rows = [int(np.flatnonzero(Y[:, 0] == target)[0]) for target in first.kept_targets[:, 0]]
    assert len(set(rows)) == 20
    np.testing.assert_array_equal(first.kept_weights, weight[rows])
    expected = GramRidge(Z, Y, weight).leave_one_out(0.1)[rows]
    np.testing.assert_allclose(first.leave_one_out(0.1), expected, rtol=1e-9)


def test_reservoir_is_uniform():
    n, n_kept, repeats = 12, 4, 3000
    random_state, counts = np.random.RandomState(0), np.zeros(n)
    for _ in range(repeats):
        system = NormalEquations(1, 1, n_kept, random_state)
        system.add(np.zeros((n, 1)), np.arange(n)[:, None])
        counts[system.kept_targets[:, 0].astype(int)] += 1
    # Five standard deviations of a binomial count.
    np.testing.assert_allclose(counts, repeats / 3, atol=5 * np.sqrt(repeats * 2 / 9))


def test_state_round_trip():
    Z, Y, weight = problem(60, 5, 2, True, dtype=np.float32)
    system = NormalEquations(5, 2, 10, np.random.RandomState(0))
    system.add(Z[:30], Y[:30], weight[:30])
    restored = NormalEquations.from_state(pickle.loads(pickle.dumps(system.state())))
    for each in (system, restored):
        each.add(Z[30:], Y[30:], weight[30:])
    assert restored.n_rows == 60
    assert restored.state().keys() == system.state().keys()
    for name, value in system.state().items():
        np.testing.assert_array_equal(restored.state()[name], value, err_msg=name)
        assert restored.state()[name].dtype == value.dtype != object
    np.testing.assert_array_equal(restored.leave_one_out(0.1), system.leave_one_out(0.1))


def test_state_of_an_empty_system():
    restored = NormalEquations.from_state(NormalEquations(5, 2).state())
    Z, Y, _ = problem(6, 5, 2)
    restored.add(Z, Y)
    np.testing.assert_array_equal(restored.solve(1.0)[0], normal_equations(Z, Y).solve(1.0)[0])


def test_indefinite_system_is_never_chosen():
    Z, Y, _ = problem(20, 5, 2)
    state = normal_equations(Z, Y).state()
    system = NormalEquations.from_state(state | {"gram": state["gram"] - 10 * np.linalg.norm(Z) ** 2 * np.eye(5)})
    assert np.isnan(system.leave_one_out(1e-6)).all()
    with pytest.raises(np.linalg.LinAlgError, match=r"alpha=1e-06\. Use a larger alpha"):
        system.solve(1e-6)
    large = 1e6
    assert choose_alpha(system, squared_error(system.kept_targets), [1e-6, large])[0] == large
    with pytest.raises(ValueError, match="No alpha"):
        choose_alpha(system, squared_error(system.kept_targets), [1e-6])


def test_system_that_is_indefinite_without_a_row_is_never_chosen():
    # Rows 0 and 1 fix the first feature's sum of squares at 2. Rounding errors are imitated by lowering it.
    Z, Y = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), np.arange(4.0)[:, None]
    state = normal_equations(Z, Y).state()
    system = NormalEquations.from_state(state | {"gram": state["gram"] - np.diag([1.5, 0])})
    assert np.isfinite(system.solve(0.01)[0]).all()
    assert np.isnan(system.leave_one_out(0.01)).all()


class Fixed:
    """Predicts alpha itself."""

    def leave_one_out(self, alpha):
        return np.array([[alpha]])


def argmax_is_lost(predictions):
    return 0.0 if np.isnan(predictions).any() else float(abs(predictions[0, 0] - 4))


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (lambda predictions: 1.0, 8),
        (lambda predictions: abs(predictions[0, 0] - 2), 2),
        (lambda predictions: abs(predictions[0, 0] - 3), 4),
        (lambda predictions: np.nan if predictions[0, 0] > 2 else 1.0, 2),
        (lambda predictions: -np.inf if predictions[0, 0] > 7 else 1.0, 4),
        (lambda predictions: np.inf if predictions[0, 0] > 1 else 1.0, 1),
    ],
    ids=["all tie", "least", "two tie", "nan", "-inf", "inf"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_choose_alpha(score, expected, order):
    alpha, predictions = choose_alpha(Fixed(), score, [1, 2, 4, 8][::order])
    assert alpha == expected
    np.testing.assert_array_equal(predictions, [[expected]])


def test_choose_alpha_ignores_predictions_that_are_not_finite():
    class Failing(Fixed):
        def leave_one_out(self, alpha):
            return np.array([[alpha if alpha > 1 else np.nan]])

    assert choose_alpha(Failing(), argmax_is_lost, [1, 2, 8])[0] == 2


def test_choose_alpha_minimises_the_leave_one_out_error():
    Z, Y, weight = problem(15, 40, 2, True)
    system = GramRidge(Z, Y, weight)
    errors = [np.average((system.leave_one_out(a) - Y) ** 2, axis=0, weights=weight).mean() for a in ALPHAS]
    alpha, predictions = choose_alpha(system, squared_error(Y, weight))
    assert alpha == ALPHAS[np.argmin(errors)]
    np.testing.assert_allclose(squared_error(Y, weight)(predictions), min(errors))


def classification(n, k, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(k, size=n)
    decisions = rng.normal(size=(n, k))
    decisions[np.arange(n), codes] += 1
    return decisions, codes, rng.uniform(0.2, 3, n)


def smoothed_loss(decisions, codes, weight, temperature):
    (n, k), total = decisions.shape, weight.sum()
    spread = 0.5 / (total + 1)  # half an observation over all classes
    target = np.full((n, k), spread / k)
    target[np.arange(n), codes] += 1 - spread
    return np.average(-(target * log_softmax(temperature * decisions, axis=1)).sum(axis=1), weights=weight)


@pytest.mark.parametrize(("n", "k"), [(1, 2), (40, 2), (60, 5)])
def test_temperature_has_the_least_log_loss(n, k):
    decisions, codes, weight = classification(n, k)
    temperature, loss = fit_temperature(decisions, codes, weight)
    grid = np.logspace(-3, 3, 6001)
    losses = [smoothed_loss(decisions, codes, weight, each) for each in grid]
    np.testing.assert_allclose(temperature, grid[np.argmin(losses)], rtol=2e-3)
    np.testing.assert_allclose(loss, smoothed_loss(decisions, codes, weight, temperature), rtol=1e-12)
    assert loss <= min(losses) + 1e-9


@pytest.mark.parametrize("scale", [0.05, 20.0])
def test_temperature_is_inverse_to_the_scale(scale):
    decisions, codes, weight = classification(50, 3)
    temperature, loss = fit_temperature(decisions, codes, weight)
    scaled, scaled_loss = fit_temperature(scale * decisions + np.arange(50)[:, None], codes, weight)
    np.testing.assert_allclose(scaled * scale, temperature, rtol=1e-5)
    np.testing.assert_allclose(scaled_loss, loss, rtol=1e-9)


def test_temperature_of_integer_weights_equals_repetition():
    decisions, codes, _ = classification(30, 3)
    repeats = np.arange(30) % 3 + 1
    weighted = fit_temperature(decisions, codes, repeats)
    np.testing.assert_allclose(
        weighted, fit_temperature(np.repeat(decisions, repeats, axis=0), np.repeat(codes, repeats)), rtol=1e-6
    )
    assert abs(weighted[0] - fit_temperature(decisions, codes)[0]) > 1e-3


@pytest.mark.parametrize("n", [4, 400])
def test_separated_decisions_are_as_confident_as_their_number_allows(n):
    codes = np.arange(n) % 2
    d = 2.0 * codes - 1
    temperature, loss = fit_temperature(np.stack([-d, d], axis=1), codes)
    # All margins are 2, so the probability of the true class equals its target.
    np.testing.assert_allclose(1 / (1 + np.exp(-2 * temperature)), 1 - 0.25 / (n + 1), rtol=1e-6)
    assert np.isfinite(loss)


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e12])
def test_temperature_is_bounded(size):
    decisions, codes, _ = classification(20, 3)
    temperature, loss = fit_temperature(size * decisions, codes)
    assert 1e-3 <= temperature <= 1e3
    assert np.isfinite(loss)


@pytest.mark.parametrize(
    ("decisions", "codes", "message"),
    [
        (np.zeros((3, 1)), np.zeros(3, int), "k >= 2"),
        (np.zeros((0, 2)), np.zeros(0, int), "n >= 1"),
        (np.full((3, 2), np.nan), np.zeros(3, int), "not finite"),
        (np.zeros((3, 2)), np.full(3, 2), "from 0 to 1"),
        (np.zeros((3, 2)), np.full(3, -1), "from 0 to 1"),
        (np.zeros((3, 2)), np.zeros(2, int), "codes must have shape"),
    ],
)
def test_invalid_decisions(decisions, codes, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(decisions, codes)
