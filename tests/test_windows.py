"""WindowSet: what a plain loop over a panel cuts."""

import numpy as np
import pytest
import torch

from sfmts.windows import window_set

L, H = 5, 3
LENGTHS = (12, 4, 7)
FIRST, LAST = (2, 1, 7), (12, 3, 6)  # none in the last series
ENDS = (12, 4, 5)


def made(n_variables=2, n_covariates=3, seed=0):
    rng = np.random.default_rng(seed)
    values = [10.0 * rng.normal(size=(n, n_variables)) + 50.0 for n in LENGTHS]
    return values, [rng.normal(size=(n, n_covariates)) for n in LENGTHS]


def make(values, covariates, joint, ends=None, **options):
    return window_set(values, covariates, L, H, joint=joint, first=FIRST, last=LAST, ends=ends, **options)


def cut_by_hand(values, covariates, joint, ends):
    """Windows, scaled targets, centres and scales, one at a time."""
    parts = []
    for series, known, first, last, end in zip(values, covariates, FIRST, LAST, ends, strict=True):
        for cut in range(first, last + 1):
            for chosen in [slice(None)] if joint else [slice(v, v + 1) for v in range(series.shape[1])]:
                y, deviation = series[:end, chosen], series[:end, chosen].std(axis=0)
                past = y[max(0, cut - L) : cut]
                center = past.mean(axis=0)
                scale = np.maximum(past.std(axis=0), 0.1 * deviation)
                n_variables = y.shape[1]
                x = np.zeros((L + H, n_variables + 1 + known.shape[1] + 1))
                target = np.full((H, n_variables), np.nan)
                for step in range(L + H):
                    at = cut - L + step
                    if 0 <= at < end:
                        if step < L:
                            x[step, :n_variables] = (y[at] - center) / scale
                        else:
                            target[step - L] = (y[at] - center) / scale
                        x[step, n_variables] = 1.0
                        x[step, n_variables + 1 : -1] = known[at]
                x[:, -1] = 0 if joint else chosen.start
                parts.append((x, target, center, scale))
    return [np.stack(arrays) for arrays in zip(*parts, strict=True)]


@pytest.mark.parametrize("joint", [True, False], ids=["joint", "independent"])
@pytest.mark.parametrize("n_covariates", [0, 3])
@pytest.mark.parametrize("ends", [None, ENDS], ids=["whole", "ends"])
def test_cuts(joint, n_covariates, ends):
    values, covariates = made(n_covariates=n_covariates)
    windows = make(values, covariates, joint, ends).to(torch.device("cpu"), torch.float64)
    expected = cut_by_hand(values, covariates, joint, ends or LENGTHS)
    assert len(windows) == len(expected[0])
    for found, wanted in zip(windows.cut(torch.arange(len(windows))), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(windows.target, expected[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("joint", [True, False], ids=["joint", "independent"])
def test_batches(joint):
    values, covariates = made()
    windows = make(values, covariates, joint)
    x, target, _, _ = cut_by_hand(values, covariates, joint, LENGTHS)
    index = torch.tensor([4, 0, len(windows) - 1])
    batch = windows.take(index)
    assert batch.x.dtype == torch.float32
    np.testing.assert_allclose(batch.x, x[index], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(batch.target, target[index], rtol=1e-5, atol=1e-6)
    assert batch.lengths.tolist() == [L + H] * 3
    np.testing.assert_allclose(batch.weight, np.isfinite(target[index]).mean(axis=(1, 2)), rtol=1e-6)


def test_weights():
    windows = make(*made(), joint=True)
    known = [min(H, n - cut) / H for n, a, b in zip(LENGTHS, FIRST, LAST, strict=True) for cut in range(a, b + 1)]
    np.testing.assert_allclose(windows.weight, known, rtol=1e-6)
    assert windows.total_weight == pytest.approx(sum(known))
    assert (windows.weight == 0).sum() == 1  # the cut at the end of the first series


@pytest.mark.parametrize("joint", [True, False], ids=["joint", "independent"])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_every(joint, stride):
    values, covariates = made()
    windows = window_set(values[:1], covariates[:1], L, H, joint=joint, first=[2], last=[9])
    together = 1 if joint else 2
    wanted = [cut * together + v for cut in range(0, 8, stride) for v in range(together)]
    some = windows.every(stride)
    for found, expected in zip(some.cut(torch.arange(len(some))), windows.cut(torch.tensor(wanted)), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


class TestScales:
    def test_do_not_know_the_future(self):
        values, covariates = made()
        windows = make(values, covariates, True, ENDS)
        later = [np.concatenate([y[:end], 1e6 + y[end:]]) for y, end in zip(values, ENDS, strict=True)]
        changed = make(later, covariates, True, ENDS)
        index = torch.arange(len(windows))
        for found, expected in zip(changed.cut(index), windows.cut(index), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)

    def test_of_an_affine_map(self):
        values, covariates = made()
        index = torch.arange(len(make(values, covariates, True)))
        x, target, center, scale = make(values, covariates, True).cut(index)
        others = make([1e3 * y - 7.0 for y in values], covariates, True).cut(index)
        torch.testing.assert_close(others[0], x, rtol=0, atol=1e-6)
        torch.testing.assert_close(others[1], target, rtol=0, atol=1e-5, equal_nan=True)
        torch.testing.assert_close(others[2], 1e3 * center - 7.0)
        torch.testing.assert_close(others[3], 1e3 * scale)

    def test_of_a_flat_stretch(self):
        """Not the noise of a few equal steps but a tenth of the series' deviation."""
        y = np.concatenate([np.full(6, 3.0), [1.0, 9.0, 2.0, 8.0]])[:, None]
        windows = window_set([y], [np.zeros((10, 0))], 4, 2, joint=True, first=[6], last=[6])
        x, target, center, scale = windows.cut(torch.tensor([0]))
        assert not x[0, :4, 0].any()
        assert float(center) == 3.0
        assert float(scale) == pytest.approx(0.1 * y.std())
        np.testing.assert_allclose(target[0, :, 0], (y[6:8, 0] - 3.0) / float(scale), rtol=1e-6)

    @pytest.mark.parametrize("value", [0.0, 5.0, 0.1, -1e9])
    def test_of_a_constant(self, value):
        windows = window_set([np.full((9, 1), value)], [np.zeros((9, 0))], 4, 2, joint=True, first=[1], last=[7])
        x, target, center, scale = windows.cut(torch.arange(7))
        assert float(x[..., 0].abs().max()) < 1e-3
        assert float(target.nan_to_num().abs().max()) < 1e-3
        np.testing.assert_allclose(center, value)
        assert (scale > 0).all()  # no more than rounding, so that forecasts are that constant
        assert (scale <= max(1.001e-12 * abs(value), 1e-300)).all()

    def test_given(self):
        values, covariates = made()
        windows = make(values, covariates, True, scales=np.full((3, 2), 1e4))
        np.testing.assert_allclose(windows.cut(torch.arange(len(windows)))[3], 1e3)
