"""Scores against values that were worked out by hand."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss
from sklearn.model_selection import GridSearchCV

from sfmts import SFMLabeler
from sfmts.metrics import (
    bernoulli_log_likelihood,
    frame_accuracy_score,
    make_frame_scorer,
    softmax_pressed_ceiling,
    softmax_pressed_log_likelihood,
)

pytestmark = pytest.mark.filterwarnings("error")

ROLLS = [np.array([[1, 0], [0, 0]]), np.array([[1, 1]])]
HALF = [np.full(roll.shape, 0.5) for roll in ROLLS]
TWO = math.log(2.0)


class TestFrameScorer:
    X = tuple(np.random.default_rng(length).normal(size=(length, 1)) for length in (9, 5, 7, 4, 8, 6))
    y = tuple(np.where(series[:, 0] > 0.3, "high", "low") for series in X)

    @pytest.mark.parametrize(
        ("metric", "options"),
        [
            (balanced_accuracy_score, {}),
            (f1_score, {"average": "macro"}),
            (log_loss, {"response_method": "predict_proba", "greater_is_better": False}),
        ],
    )
    def test_is_the_metric_of_all_steps(self, metric, options):
        model = SFMLabeler(n_states=4, max_iter=3, random_state=0).fit(self.X, self.y)
        predicted = getattr(model, options.get("response_method", "predict"))(self.X)
        arguments = {name: value for name, value in options.items() if name == "average"}
        expected = metric(np.concatenate(self.y), np.concatenate(predicted), **arguments)
        found = make_frame_scorer(metric, **options)(model, self.X, self.y)
        assert found == pytest.approx(expected if options.get("greater_is_better", True) else -expected)

    def test_in_a_search(self):
        scorer = make_frame_scorer(balanced_accuracy_score)
        search = GridSearchCV(
            SFMLabeler(max_iter=2, random_state=0), {"n_states": [2, 4]}, scoring=scorer, cv=2, error_score="raise"
        )
        assert 0 <= search.fit(self.X, self.y).best_score_ <= 1


class TestFrameAccuracy:
    @pytest.mark.parametrize(
        ("y_true", "y_pred", "expected"),
        [
            ([[0, 1], [1, 1, 1]], [[0, 1], [1, 1, 1]], 1.0),
            ([[0, 1], [1, 1, 1]], [[1, 0], [0, 0, 0]], 0.0),
            ([[0, 1], [1, 1, 1, 1]], [[1, 0], [1, 1, 1, 0]], 3 / 6),  # the mean over series would be 3/8
            ([["a", "b"], ["c"]], [["a", "c"], ["c"]], 2 / 3),
            ([[True, False]], [[1, 1]], 0.5),
            ([[1.5, 2.5]], [[1.5, 2.0]], 0.5),
            ([[7]], [[7]], 1.0),
        ],
        ids=str,
    )
    def test_by_hand(self, y_true, y_pred, expected):
        for form in (list, tuple, lambda y: [np.array(labels) for labels in y]):
            score = frame_accuracy_score(form(y_true), form(y_pred))
            assert type(score) is float
            assert score == pytest.approx(expected, rel=1e-15)

    def test_arrays_and_symmetry(self):
        y_true, y_pred = np.array([[0, 1, 2], [2, 1, 0]]), np.array([[0, 1, 1], [2, 0, 1]])
        assert frame_accuracy_score(y_true, y_pred) == 0.5
        assert frame_accuracy_score(list(y_true), y_pred) == 0.5
        assert frame_accuracy_score(torch.from_numpy(y_true), torch.from_numpy(y_pred)) == 0.5
        rng = np.random.RandomState(0)
        a, b = ([rng.randint(0, 3, size=length) for length in (4, 9, 1)] for _ in range(2))
        assert frame_accuracy_score(a, b) == frame_accuracy_score(b, a)

    def test_weights(self):
        y_true, y_pred = [[0, 0], [1, 1, 1, 1]], [[0, 0], [1, 0, 0, 0]]
        assert frame_accuracy_score(y_true, y_pred) == pytest.approx(3 / 6)
        # each step counts as much as its series says
        assert frame_accuracy_score(y_true, y_pred, sample_weight=[2.0, 0.5]) == pytest.approx((4 + 0.5) / (4 + 2))
        assert frame_accuracy_score(y_true, y_pred, sample_weight=[0, 3]) == pytest.approx(0.25)
        assert frame_accuracy_score(y_true, y_pred, sample_weight=[1, 0]) == 1.0
        repeated = frame_accuracy_score([y_true[0]] * 3 + [y_true[1]], [y_pred[0]] * 3 + [y_pred[1]])
        assert frame_accuracy_score(y_true, y_pred, sample_weight=[3, 1]) == pytest.approx(repeated)


class TestBernoulli:
    def test_by_hand(self):
        p = [np.array([[0.9, 0.2], [0.25, 0.5]]), np.array([[0.5, 0.125]])]
        frames = [math.log(0.9) + math.log(0.8), math.log(0.75) + math.log(0.5), math.log(0.5) + math.log(0.125)]
        score = bernoulli_log_likelihood(ROLLS, p)
        assert type(score) is float
        assert score == pytest.approx(sum(frames) / 3, rel=1e-14)  # over frames, not over series
        weighted = bernoulli_log_likelihood(ROLLS, p, sample_weight=[1.0, 4.0])
        assert weighted == pytest.approx((frames[0] + frames[1] + 4 * frames[2]) / 6, rel=1e-14)
        assert bernoulli_log_likelihood(ROLLS, p, sample_weight=[0.0, 4.0]) == pytest.approx(frames[2], rel=1e-14)

    def test_fair_coins_and_what_is_certain_and_right(self):
        assert bernoulli_log_likelihood(ROLLS, HALF) == pytest.approx(-2 * TWO)
        rolls = np.random.RandomState(0).randint(0, 2, size=(3, 5, 88))
        assert bernoulli_log_likelihood(rolls, np.full(rolls.shape, 0.5)) == pytest.approx(-88 * TWO)
        assert bernoulli_log_likelihood(ROLLS, ROLLS) == pytest.approx(0.0, abs=1e-11)

    def test_certain_and_wrong(self):
        """One certain error costs much, but not all: twelve places."""
        wrong = [1 - roll for roll in ROLLS]
        assert bernoulli_log_likelihood(ROLLS, wrong) == pytest.approx(2 * math.log(1e-12), rel=1e-4)
        one = [roll.astype(float) for roll in ROLLS]
        one[1][0, 0] = 0.0
        assert bernoulli_log_likelihood(ROLLS, one) == pytest.approx(math.log(1e-12) / 3, rel=1e-4)

    def test_small_probabilities_are_not_touched(self):
        for p in (1e-11, 1e-6, 0.5, 1 - 1e-6):
            assert bernoulli_log_likelihood([[[1]]], [[[p]]]) == pytest.approx(math.log(p), rel=1e-12)
            assert bernoulli_log_likelihood([[[0]]], [[[p]]]) == pytest.approx(math.log1p(-p), rel=1e-12, abs=1e-17)

    def test_types(self):
        p = [np.full(roll.shape, 0.25, dtype=np.float32) for roll in ROLLS]
        expected = (3 * math.log(0.25) + 3 * math.log(0.75)) / 3
        for dtype in (bool, np.uint8, np.int64, np.float32):
            rolls = [roll.astype(dtype) for roll in ROLLS]
            assert bernoulli_log_likelihood(rolls, p) == pytest.approx(expected, rel=1e-14)

    def test_marginal_rates(self):
        """Of rates that are the same in each frame there is a formula."""
        rng = np.random.RandomState(0)
        rolls = [(rng.uniform(size=(length, 4)) < 0.3).astype(float) for length in (5, 20, 9)]
        rates = np.array([0.1, 0.2, 0.3, 0.4])
        flat = np.concatenate(rolls)
        by_hand = flat.mean(axis=0) @ np.log(rates) + (1 - flat.mean(axis=0)) @ np.log(1 - rates)
        found = bernoulli_log_likelihood(rolls, [np.broadcast_to(rates, roll.shape) for roll in rolls])
        assert found == pytest.approx(by_hand, rel=1e-13)

    def test_true_rates_score_best(self):
        flat = np.random.RandomState(0).randint(0, 2, size=(50, 3))
        rates = flat.mean(axis=0)
        best = bernoulli_log_likelihood([flat], [np.broadcast_to(rates, flat.shape)])
        for change in (-0.05, 0.05):
            assert bernoulli_log_likelihood([flat], [np.broadcast_to(rates + change, flat.shape)]) < best


class TestSoftmaxPressed:
    def test_by_hand(self):
        logits = [np.array([[1.0, -1.0], [3.0, 2.0]]), np.array([[0.5, 0.5]])]
        first = -math.log1p(math.exp(-2.0))  # log softmax of the pressed key
        # the second frame is silent; the third presses two keys of one half each
        expected = ((first + 0.0) / 2 + 2 * -TWO) / 2  # over the frames of each series, then over series
        score = softmax_pressed_log_likelihood(ROLLS, logits)
        assert type(score) is float
        assert score == pytest.approx(expected, rel=1e-14)

    def test_shift_of_the_logits_does_not_matter_and_extreme_ones_are_exact(self):
        rng = np.random.RandomState(0)
        logits = [rng.normal(size=roll.shape) for roll in ROLLS]
        expected = softmax_pressed_log_likelihood(ROLLS, logits)
        for shift in (-1000.0, 1000.0):
            moved = [z + shift for z in logits]
            assert softmax_pressed_log_likelihood(ROLLS, moved) == pytest.approx(expected, rel=1e-10)
        assert softmax_pressed_log_likelihood([[[1, 0]]], [[[-1000.0, 1000.0]]]) == pytest.approx(-2000.0)
        assert softmax_pressed_log_likelihood([[[1, 0]]], [[[1000.0, -1000.0]]]) == 0.0

    def test_ceiling_by_hand(self):
        assert softmax_pressed_ceiling(ROLLS) == pytest.approx((0.0 - 2 * TWO) / 2)
        rolls = [np.eye(5)[:3], np.ones((2, 5)), np.zeros((4, 5))]
        assert softmax_pressed_ceiling(rolls) == pytest.approx(-5 * math.log(5) / 3)
        for dtype in (bool, np.uint8, np.int8, np.float32):  # none overflows
            assert softmax_pressed_ceiling([np.ones((3, 88), dtype=dtype)]) == pytest.approx(-88 * math.log(88))

    @pytest.mark.parametrize(
        ("rolls", "message"),
        [
            ([], "rolls holds 0 series"),
            (np.ones((3, 2)), r"Series 0 of rolls has shape \(2,\)"),
            ([np.array([[1.0, np.nan]])], "rolls must be binary"),
            ([np.full((2, 2), 5)], "rolls must be binary"),
            ([np.zeros((0, 2))], "All series of rolls have length 0"),
        ],
    )
    def test_ceiling_of_what_is_no_roll(self, rolls, message):
        with pytest.raises(ValueError, match=message):
            softmax_pressed_ceiling(rolls)

    @pytest.mark.parametrize("odd", [np.nan, np.inf])
    def test_logits_that_are_not_finite(self, odd):
        with pytest.raises(ValueError, match="logits must be finite, but those of series 1 are not"):
            softmax_pressed_log_likelihood(ROLLS, [np.zeros((2, 2)), np.array([[0.0, odd]])])

    def test_ceiling_is_reached_by_what_knows_the_keys(self):
        rng = np.random.RandomState(0)
        rolls = [(rng.uniform(size=(length, 12)) < 0.3).astype(np.uint8) for length in (5, 17, 1)]
        ceiling = softmax_pressed_ceiling(rolls)
        known = [100.0 * roll.astype(float) for roll in rolls]
        assert softmax_pressed_log_likelihood(rolls, known) == pytest.approx(ceiling, rel=1e-12)
        for _ in range(20):
            logits = [z + rng.normal(size=z.shape) for z in known]
            assert softmax_pressed_log_likelihood(rolls, logits) < ceiling


SCORES = [
    (frame_accuracy_score, "y_true", "y_pred"),
    (bernoulli_log_likelihood, "rolls", "probabilities"),
    (softmax_pressed_log_likelihood, "rolls", "logits"),
]


@pytest.mark.parametrize(("score", "first", "second"), SCORES, ids=lambda item: getattr(item, "__name__", ""))
def test_shapes(score, first, second):
    frames = score is frame_accuracy_score
    wrong, empty, full = (
        (np.zeros((3, 2)), np.zeros(0), np.ones(3)) if frames else (np.zeros(3), np.zeros((0, 2)), np.ones((3, 2)))
    )
    for a, b, message in [
        (ROLLS, HALF[:1], f"{first} holds 2 series, but {second} holds 1"),
        (ROLLS, [HALF[0], HALF[0]], rf"Series 1 has shape \(1, 2\) in {first}, but \(2, 2\) in {second}"),
        (ROLLS, np.full((2, 2, 2), 0.5), rf"Series 1 has shape \(1, 2\) in {first}, but \(2, 2\) in {second}"),
        ([np.zeros((3, 2))], [np.full((2, 3), 0.5)], rf"Series 0 has shape \(3, 2\) in {first}, but \(2, 3\) in"),
        ([wrong], [wrong], rf"Series 0 of {first} has shape \(3.*but must have shape \(T_i, ?C?\)"),
        ([0, 1, 1], [0, 1, 1], rf"Series 0 of {first} has shape \(\)"),
        ([empty], [empty], f"All series of {first} have length 0"),
        ([], [], f"{first}.*(no|0) series"),
    ]:
        with pytest.raises(ValueError, match=message):
            score(a, b)
    assert score([full, empty], [full, empty]) == score([full], [full])


class TestWeights:
    CALLS = [  # noqa: RUF012
        lambda weight: frame_accuracy_score([[0, 1], [1]], [[0, 1], [0]], sample_weight=weight),
        lambda weight: bernoulli_log_likelihood(ROLLS, HALF, sample_weight=weight),
    ]

    def test_equal_weights_are_none(self):
        for call in self.CALLS:
            assert call([0.3, 0.3]) == pytest.approx(call(None), rel=1e-15)

    @pytest.mark.parametrize(
        ("weight", "message"),
        [
            ([1.0], r"sample_weight.shape == \(1,\), expected \(2,\)"),
            ([1.0, 1.0, 1.0], r"sample_weight.shape == \(3,\), expected \(2,\)"),  # as many as steps: not asked for
            ([0.0, 0.0], "(?i)sample.weight.*zero"),
            ([np.nan, 1.0], "sample_weight contains NaN"),
            ([-1.0, 2.0], "(?i)negative.*sample_weight"),
            (np.ma.array([1.0, 2.0], mask=[True, False]), "sample_weight has masked entries. Fill them"),
            (np.nan, "A single sample_weight must be finite and positive, but is nan"),
            (np.float32("nan"), "sample_weight must be finite and positive"),
            (np.inf, "sample_weight must be finite and positive"),
            (-1, "sample_weight must be finite and positive"),
            (0.0, "sample_weight must be finite and positive"),
        ],
        ids=["short", "long", "zero", "NaN", "negative", "masked", "one NaN", "float32", "inf", "one negative", "0"],
    )
    def test_bad(self, weight, message):
        for call in self.CALLS:
            with pytest.raises(ValueError, match=message):
                call(weight)


def objects(labels):
    return np.array(labels, dtype=object)


class TestLabels:
    """Labels that can never be right get no score."""

    @pytest.mark.parametrize(
        ("y_true", "y_pred", "message"),
        [
            ([["1"]], [[1]], "y_true holds '1' and y_pred holds 1"),
            ([[1], [2, 3]], [["1"], ["2", "3"]], "y_true holds 1 and y_pred holds '1'"),
            ([["a"], ["b"]], [["a"], [0]], "y_true holds 'a' and y_pred holds 0"),
            ([["a", 1]], [["a", "b"]], "y_true holds 'a' and y_true holds 1"),
            ([["a"]], [[b"a"]], "y_true holds 'a' and y_pred holds b'a'"),
        ],
    )
    def test_strings_and_numbers(self, y_true, y_pred, message):
        message = f"Labels must be all strings or all numbers, but {message}.*Convert one"
        for form in (list, lambda y: [np.array(labels, dtype=object) for labels in y]):
            with pytest.raises(ValueError, match=message):
                frame_accuracy_score(form(y_true), form(y_pred))

    @pytest.mark.parametrize(
        ("label", "others", "form"),
        [
            (np.nan, [0, 1], list),
            (np.nan, [0.5, 1.5], objects),
            (np.nan, ["a", "b"], list),
            (None, [0, 1], objects),
            (None, [0.5, 1.5], list),
            (None, ["a", "b"], objects),
            (np.float32("nan"), [0, 1], list),
            (np.float32("nan"), [0.5, 1.5], objects),
            (np.float32("nan"), ["a", "b"], list),
        ],
    )
    def test_missing(self, label, others, form):
        good, bad = [form(others), form([others[0]])], [form(others), form([label])]
        bad_within = [form([*others, label]), form([others[0]])]
        with pytest.raises(ValueError, match=r"Series 1 of y_true holds the missing label (nan|None|.*nan.*)\."):
            frame_accuracy_score(bad, good)
        with pytest.raises(ValueError, match=r"Series 1 of y_pred holds the missing label .*\."):
            frame_accuracy_score(good, bad)
        with pytest.raises(ValueError, match=r"Series 0 of y_true holds the missing label .*\."):
            frame_accuracy_score(bad_within, bad_within)

    def test_missing_in_pandas(self):
        pd = pytest.importorskip("pandas")
        for labels in (pd.Series([1, None], dtype="Int64"), pd.Series(["a", None]), pd.Series([pd.NaT] * 2)):
            with pytest.raises(ValueError, match=r"Series 0 of y_true holds the missing label .*\."):
                frame_accuracy_score([labels], [labels])
        assert frame_accuracy_score([["a"], []], [["a"], np.zeros(0)]) == 1.0  # without steps there is no type


@pytest.mark.parametrize(
    ("score", "names"),
    [
        (lambda a, b: frame_accuracy_score([x[:, 0] for x in a], [x[:, 0] for x in b]), ("y_true", "y_pred")),
        (bernoulli_log_likelihood, ("rolls", "probabilities")),
        (softmax_pressed_log_likelihood, ("rolls", "logits")),
        (lambda a, b: softmax_pressed_ceiling(b if np.ma.is_masked(b[1]) else a), ("rolls", "rolls")),
    ],
    ids=["frame_accuracy", "bernoulli", "softmax", "ceiling"],
)
def test_masked_entries(score, names):
    good = np.eye(3)[[0, 1]].reshape(2, 1, 3).repeat(4, axis=1)
    bad = np.ma.array(good, mask=np.zeros(good.shape, bool))
    score(bad, bad)  # a mask that hides nothing
    bad[1, 2, 0] = np.ma.masked
    for form, second in product((np.asanyarray, list), (False, True)):
        values = form(good), form(bad)
        with pytest.raises(ValueError, match=f"Series 1 of {names[second]} has 1 masked entries. Leave these"):
            score(*(values if second else values[::-1]))


class TestValues:
    """What is no probability, or no roll, gets no score."""

    @pytest.mark.parametrize("score", [bernoulli_log_likelihood, softmax_pressed_log_likelihood])
    def test_no_number_and_no_binary_roll(self, score):
        for value, dtype in product(("0.5", b"0.5", 0.5 + 0j, None), (None, object)):
            with pytest.raises(ValueError, match=r"(probabilities|logits) must be real numbers, but series 0 holds"):
                score([[[1]]], [np.array([[value]], dtype=dtype)])
        for value in (0.5, 64, -1):
            with pytest.raises(ValueError, match=r"rolls.*(binary|0 (and|or) 1)"):
                score([np.array([[1, value]])], [np.array([[0.5, 0.5]])])

    @pytest.mark.parametrize("p", [1.5, -0.1, np.nan, np.inf])
    def test_no_probability(self, p):
        bad = [HALF[0], np.array([[0.5, p]])]
        with pytest.raises(ValueError, match=r"probabilities.*series 1"):
            bernoulli_log_likelihood(ROLLS, bad)
