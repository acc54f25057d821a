"""The waves and the sines are those of their data cards."""

from itertools import pairwise

import numpy as np
import pytest

from sfmts.datasets import count_distinct_values, make_periods, make_waves

VARIANTS = ["paper", "released", "hard"]
SQUARE, SAWTOOTH = 0, 1


def rises(values, time):
    """Slope of a sawtooth, and the heights of its falls: y = slope t - (sum of the falls so far) + constant."""
    slope = np.median(np.diff(values) / np.diff(time))
    steps = np.diff(values - slope * time)
    falls = -steps[steps < -1e-6 * np.ptp(values)]
    np.testing.assert_allclose(steps[steps >= -1e-6 * np.ptp(values)], 0.0, atol=1e-9)
    return slope, falls


def stays(values, time):
    """Lengths, and levels, of the whole stays of a square wave between two jumps, and how exactly they are known."""
    jumps = np.flatnonzero(np.diff(values))
    middles = (time[jumps] + time[jumps + 1]) / 2
    return np.diff(middles), values[jumps[1:]] if len(jumps) > 1 else np.empty(0), np.diff(time).max()


def make(kind, *args, **options):
    """Waves of a variant, or sines at steps or at irregular times."""
    if kind in VARIANTS:
        return make_waves(*args, **options, variant=kind)
    return make_periods(*args, **options, irregular=kind == "irregular periods")


@pytest.mark.parametrize("kind", [*VARIANTS, "periods", "irregular periods"])
class TestAll:
    def test_shapes_and_half_of_each_class(self, kind):
        n_channels = {"periods": 1, "irregular periods": 3}.get(kind, 2)
        for n_samples, n_steps in [(2, 1), (7, 3), (10, 50), (100, 2)]:
            X, y = make(kind, n_samples, n_steps=n_steps, random_state=0)
            assert X.shape == (n_samples, n_steps, n_channels)
            assert X.dtype == np.float64
            assert np.isfinite(X).all()
            assert y.shape == (n_samples,)
            assert y.dtype.kind == "i"
            assert np.bincount(y, minlength=2).tolist() == [n_samples - n_samples // 2, n_samples // 2]

    def test_seed(self, kind):
        X, y = make(kind, 20, n_steps=30, random_state=3)
        for seed in (3, np.random.RandomState(3)):
            again = make(kind, 20, n_steps=30, random_state=seed)
            np.testing.assert_array_equal(again[0], X)
            np.testing.assert_array_equal(again[1], y)
        before = np.random.get_state()
        others = [make(kind, 20, n_steps=30, random_state=seed)[0] for seed in (4, None, None)]
        for number, other in enumerate(others):
            assert all(not np.array_equal(other, earlier) for earlier in [X, *others[:number]])
        after = np.random.get_state()
        np.testing.assert_array_equal(before[1], after[1])
        assert before[2:] == after[2:]

    def test_random_order(self, kind):
        orders = {tuple(make(kind, 40, n_steps=2, random_state=seed)[1]) for seed in range(5)}
        assert len(orders) == 5
        assert not any(order in orders for order in [(0, 1) * 20, (0,) * 20 + (1,) * 20])


@pytest.mark.parametrize("variant", VARIANTS)
class TestAllVariants:
    def test_time(self, variant):
        X, _ = make_waves(1000, n_steps=300, variant=variant, random_state=0)
        time = X[:, :, 1]
        assert (np.diff(time, axis=1) >= 0).all()
        assert time.min() >= 0
        assert time.max() <= 125
        length = time.max(axis=1) * 301 / 300  # the last of 300 uniform times lies so far below the end, on average
        assert length.min() > 14
        assert length.mean() == pytest.approx(70, abs=4 * 110 / 12**0.5 / 1000**0.5)
        assert length.std() == pytest.approx(110 / 12**0.5, rel=0.06)
        share = (time / time.max(axis=1, keepdims=True))[:, :-1]
        assert np.quantile(share, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.01)

    def test_gaps_are_irregular(self, variant):
        X, _ = make_waves(50, n_steps=200, variant=variant, random_state=0)
        gaps = np.diff(X[:, :, 1], axis=1)
        assert (gaps.std(axis=1) > 0.8 * gaps.mean(axis=1)).all()  # a regular grid has 0, a Poisson process 1

    def test_time_says_nothing_about_the_class(self, variant):
        X, y = make_waves(2000, n_steps=20, variant=variant, random_state=0)
        for statistic in (X[:, :, 1].max(axis=1), X[:, :, 1].mean(axis=1)):
            a, b = statistic[y == SQUARE], statistic[y == SAWTOOTH]
            assert abs(a.mean() - b.mean()) < 4 * statistic.std() * (2 / 1000) ** 0.5


class TestPaper:
    @pytest.fixture
    def waves(self):
        X, y = make_waves(600, n_steps=1000, variant="paper", random_state=1)
        return X[y == SQUARE], X[y == SAWTOOTH]

    def test_squares(self, waves):
        amplitudes, biases, half_periods = [], [], []
        for values, time in np.swapaxes(waves[0], 1, 2):
            levels = np.unique(values)
            assert len(levels) <= 2
            if len(levels) == 1:
                continue
            amplitudes.append((levels[1] - levels[0]) / 2)
            biases.append(levels.mean())
            assert values[0] == levels[1]  # phases are less than half a period, so each wave starts high
            durations, _, error = stays(values, time)
            assert ((durations > 25 - error) & (durations < 37.5 + error)).all()
            half_periods += durations.tolist()
        assert_uniform(amplitudes, 0.5, 2)
        assert_uniform(biases, 0.25, 0.75)
        assert len(half_periods) > 100

    def test_sawtooths(self, waves):
        amplitudes, periods = [], []
        lows, highs = [], []
        for values, time in np.swapaxes(waves[1], 1, 2):
            slope, falls = rises(values, time)
            assert slope > 0
            assert len(falls) <= 3  # 125 + 15 time units, periods of at least 50
            if not len(falls):
                continue
            np.testing.assert_allclose(falls, falls[0], rtol=1e-9)
            amplitudes.append(falls[0])
            periods.append(falls[0] / slope)
            lows.append(values.min())
            highs.append(values.max() - falls[0])
        assert_uniform(amplitudes, 0.5, 2)
        assert 50 <= min(periods) < 52
        assert 72 < max(periods) <= 75
        # from V to V + A: the bias lies between the highest value less A and the lowest value
        lows, highs = np.array(lows), np.array(highs)
        assert (highs <= lows).all()
        assert highs.min() > 0.25 - 0.05
        assert lows.max() < 0.75 + 0.05
        assert np.mean((lows + highs) / 2) == pytest.approx(0.5, abs=0.04)

    def test_ranges(self, waves):
        squares, sawtooths = waves[0][:, :, 0], waves[1][:, :, 0]
        assert -1.75 <= squares.min() < -1.4
        assert 2.4 < squares.max() <= 2.75
        assert 0.25 <= sawtooths.min() < 0.3
        assert 2.4 < sawtooths.max() <= 2.75


class TestReleased:
    @pytest.fixture
    def waves(self):
        X, y = make_waves(600, n_steps=1000, variant="released", random_state=1)
        return X[y == SQUARE], X[y == SAWTOOTH]

    def test_squares(self, waves):
        amplitudes, duties = [], []
        for values, time in np.swapaxes(waves[0], 1, 2):
            levels = np.unique(values)
            assert len(levels) <= 2
            amplitudes.append(abs(levels[0]))
            np.testing.assert_array_equal(np.abs(levels), abs(levels[0]))  # no bias
            durations, levels, error = stays(values, time)
            assert ((durations > 0.25 * 15 - error) & (durations < 0.75 * 125 + error)).all()
            for stay, (first, second) in zip(levels, pairwise(durations), strict=False):
                assert 15 - 2 * error < first + second < 125 + 2 * error
                duties.append((first if stay > 0 else second) / (first + second))
        assert_uniform(amplitudes, 0.75, 2)
        assert 0.2 < min(duties) < 0.3
        assert 0.7 < max(duties) < 0.8

    def test_sawtooths(self, waves):
        amplitudes, periods = [], []
        for values, time in np.swapaxes(waves[1], 1, 2):
            slope, falls = rises(values, time)
            assert slope > 0
            if not len(falls):
                continue
            np.testing.assert_allclose(falls, falls[0], rtol=1e-9)
            amplitude = falls[0] / 2
            assert -amplitude <= values.min()
            assert values.max() <= amplitude
            amplitudes.append(amplitude)
            periods.append(falls[0] / slope)
        assert_uniform(amplitudes, 0.75, 2)
        assert 15 <= min(periods) < 17
        assert 100 < max(periods) <= 125


class TestHard:
    @pytest.fixture
    def waves(self):
        return make_waves(200, n_steps=500, variant="hard", random_state=1)

    def test_all_series_hold_the_same_values(self, waves):
        values = np.sort(waves[0][:, :, 0], axis=1)
        np.testing.assert_array_equal(values, np.broadcast_to(values[0], values.shape))
        np.testing.assert_allclose(np.diff(values[0]), 2 * 3**0.5 / 500, rtol=1e-9)
        assert values.min() > -(3**0.5)
        assert values.max() < 3**0.5
        assert values[0].mean() == pytest.approx(0, abs=1e-12)
        assert values[0].var() == pytest.approx(1, abs=1e-5)

    def test_order_tells_the_classes_apart(self, waves):
        X, y = waves
        smooth = np.apply_along_axis(np.convolve, 1, X[:, :, 0], np.ones(9) / 9, "valid")
        rises = np.diff(smooth, axis=1)
        skewness = (rises**3).mean(axis=1) / (rises**2).mean(axis=1) ** 1.5
        assert ((skewness < np.median(skewness)) == (y == SAWTOOTH)).mean() > 0.9  # sawtooths fall at once

    def test_two_to_ten_periods(self, waves):
        X = waves[0][:, ::2]
        values, time = X[:, :, 0], X[:, :, 1] / X[:, :, 1].max(axis=1, keepdims=True)
        candidates = np.arange(0.5, 20, 0.1)
        waveform = np.exp(-2j * np.pi * candidates[:, None, None] * time)
        strongest = candidates[np.abs((values * waveform).sum(axis=2)).argmax(axis=0)]
        assert 1.7 < strongest.min() < 2.5
        assert 9.5 < strongest.max() < 10.3


def assert_uniform(sample, low, high):
    """All of a sample within an interval, and its mean and variance as of a uniform one, by 4 standard errors."""
    sample = np.array(sample)
    assert len(sample) > 60
    assert low - 1e-9 <= sample.min()
    assert sample.max() <= high + 1e-9
    assert sample.mean() == pytest.approx((low + high) / 2, abs=4 * (high - low) / (12 * len(sample)) ** 0.5)
    assert sample.std() == pytest.approx((high - low) / 12**0.5, rel=4 * 0.45 / len(sample) ** 0.5)


@pytest.mark.parametrize(("variant", "score"), [("paper", 1.0), ("released", 1.0), ("hard", 0.5)])
def test_count_distinct_values(variant, score):
    for seed in range(3):
        X, y = make_waves(100, n_steps=60, variant=variant, random_state=seed)
        predicted = count_distinct_values(X)
        assert predicted.shape == y.shape
        assert (predicted == y).mean() == score


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (make_waves, {"variant": "nope"}, "Unknown variant 'nope'; choose one of 'paper', 'released', 'hard'"),
        (make_waves, {"n_samples": 1}, "n_samples must be at least 2 and n_steps at least 1, but are 1 and 500"),
        (make_waves, {"n_samples": 0}, "n_samples must be at least 2.*but are 0"),
        (make_waves, {"n_steps": 0}, "n_samples must be at least 2 and n_steps at least 1, but are 2000 and 0"),
        (make_waves, {"n_steps": -3}, "n_steps at least 1.*-3"),
        (make_waves, {"random_state": "dice"}, "'dice' cannot be used to seed"),
        (make_periods, {"n_samples": 1}, "n_samples must be at least 2 and n_steps at least 1, but are 1 and 100"),
        (make_periods, {"n_steps": 0}, "n_samples must be at least 2 and n_steps at least 1, but are 2000 and 0"),
        (make_periods, {"periods": (0, 5)}, r"periods must be two positive numbers, but is \(0, 5\)"),
        (make_periods, {"periods": (5,)}, r"periods must be two positive numbers, but is \(5,\)"),
        (make_periods, {"periods": (5, np.inf)}, "periods must be two positive numbers"),
        (make_periods, {"noise": -1.0}, "noise must be finite and at least 0, but is -1.0"),
        (make_periods, {"random_state": "dice"}, "'dice' cannot be used to seed"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_errors(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


# -- make_periods


def power(values, time, period):
    """How much of a wave of this period there is in each series, in units of its mean power."""
    return np.abs((values * np.exp(2j * np.pi * time / period)).mean(axis=1)) ** 2 / (values**2).mean(axis=1)


@pytest.mark.parametrize("irregular", [False, True])
class TestPeriods:
    def test_without_noise_each_series_is_a_sine_of_its_period(self, irregular):
        X, y = make_periods(50, n_steps=40, periods=(7.3, 11.0), noise=0.0, irregular=irregular, random_state=0)
        for series, label in zip(X, y, strict=True):
            time = series[:, 1] if irregular else np.arange(1, 41)
            angle = 2 * np.pi * time / (7.3, 11.0)[label]
            waves = np.column_stack([np.sin(angle), np.cos(angle)])
            weights = np.linalg.lstsq(waves, series[:, 0])[0]
            np.testing.assert_allclose(waves @ weights, series[:, 0], atol=1e-12)
            assert 0.5 <= np.hypot(*weights) <= 1.5

    def test_noise_is_as_strong_as_said(self, irregular):
        options = {"n_steps": 200, "irregular": irregular, "random_state": 0}
        (noisy, _), (pure, _) = (make_periods(400, noise=noise, **options) for noise in (2.0, 0.0))
        noise, wave = (noisy - pure)[:, :, 0], pure[:, :, 0]
        assert noise.std() / wave.std() == pytest.approx(2.0, rel=0.03)
        each = noise.std(axis=1) / wave.std(axis=1)  # in every series, whatever its amplitude
        assert each.min() > 1.5
        assert each.max() < 2.6
        neighbours = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
        assert abs(neighbours) < 4 / noise.size**0.5

    def test_only_the_period_tells_the_classes_apart(self, irregular):
        X, y = make_periods(3000, irregular=irregular, random_state=1)
        values = X[:, :, 0]
        statistics = [values.mean(axis=1), values.std(axis=1), np.abs(values).max(axis=1), values[:, 0]]
        if irregular:
            statistics += [X[:, -1, 1], X[:, :, 2].std(axis=1)]
        for statistic in statistics:
            a, b = statistic[y == 0], statistic[y == 1]
            assert abs(a.mean() - b.mean()) < 4 * statistic.std() * (2 / 1500) ** 0.5
        time = X[:, :, 1] if irregular else np.arange(1, 101)
        guess = power(values, time, 10.0) > power(values, time, 8.0)
        assert (guess == y).mean() > 0.98


def test_irregular_periods_show_time_and_gaps():
    X, _ = make_periods(300, n_steps=100, irregular=True, random_state=0)
    time, gaps = X[:, :, 1], X[:, :, 2]
    assert (gaps > 0).all()
    np.testing.assert_allclose(time, gaps.cumsum(axis=1))
    assert gaps.mean() == pytest.approx(1.0, abs=4 / 30000**0.5)
    assert gaps.std() == pytest.approx(1.0, abs=0.04)


class TestNumpyNumbers:
    """Numbers of NumPy's types count as Python's."""

    def test_sizes(self):
        for make in (make_waves, make_periods):
            expected = make(120, n_steps=100, random_state=0)
            for kind in (np.int8, np.uint8, np.int16, np.int64):
                for a, b in zip(make(kind(120), n_steps=kind(100), random_state=0), expected, strict=True):
                    assert a.dtype == b.dtype
                    np.testing.assert_array_equal(a, b)
            for size in (10.0, np.float64(10), np.nan):
                for options in ({"n_samples": size}, {"n_steps": size}):
                    with pytest.raises(TypeError, match="must be an integer"):
                        make(**options)

    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8])
    def test_periods_and_noise(self, kind):
        periods, noise = (kind(5), kind(9.7)), kind(1.3)
        found, _ = make_periods(10, periods=periods, noise=noise, random_state=0)
        plain = tuple(period.item() for period in periods)
        np.testing.assert_array_equal(found, make_periods(10, periods=plain, noise=noise.item(), random_state=0)[0])
