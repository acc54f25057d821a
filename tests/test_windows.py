"""WindowSet: what a plain loop over a panel cuts."""

import numpy as np
import pytest
import torch

from sfmts.forecasting.windows import window_set

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
    """Parts of the windows, one window at a time."""
    windows = []
    for series, known, first, last, end in zip(values, covariates, FIRST, LAST, ends, strict=True):
        for cut in range(first, last + 1):
            for chosen in [slice(None)] if joint else [slice(v, v + 1) for v in range(series.shape[1])]:
                y, deviation = series[:end, chosen], series[:end, chosen].std(axis=0)
                past = y[max(0, cut - L) : cut]
                center = past.mean(axis=0)
                scale = np.maximum(past.std(axis=0), 0.1 * deviation)
                scaled, mask = np.zeros((L, y.shape[1])), np.zeros(L, dtype=bool)
                target = np.full((H, y.shape[1]), np.nan)
                all_known = np.zeros((L + H, known.shape[1]))
                for step in range(L + H):
                    at = cut - L + step
                    if 0 <= at < end:
                        if step < L:
                            scaled[step] = (y[at] - center) / scale
                            mask[step] = True
                        else:
                            target[step - L] = (y[at] - center) / scale
                        all_known[step] = known[at]
                windows.append(
                    {
                        "past": scaled,
                        "mask": mask,
                        "past_covariates": all_known[:L],
                        "future_covariates": all_known[L:],
                        "variable": 0 if joint else chosen.start,
                        "target": target,
                        "weight": np.isfinite(target).mean(),
                        "center": center,
                        "scale": scale,
                    }
                )
    return {name: np.stack([window[name] for window in windows]) for name in windows[0]}


@pytest.mark.parametrize("joint", [True, False], ids=["joint", "independent"])
@pytest.mark.parametrize("n_covariates", [0, 3])
@pytest.mark.parametrize("ends", [None, ENDS], ids=["whole", "ends"])
def test_cuts(joint, n_covariates, ends):
    values, covariates = made(n_covariates=n_covariates)
    windows = make(values, covariates, joint, ends).to(torch.device("cpu"), torch.float64)
    expected = cut_by_hand(values, covariates, joint, ends or LENGTHS)
    batch = windows.take(torch.arange(len(windows)))
    assert len(windows) == len(batch) == len(expected["past"])
    assert vars(batch).keys() == expected.keys()
    np.testing.assert_allclose(batch.weight, expected.pop("weight"), rtol=1e-15)
    for name, wanted in expected.items():
        np.testing.assert_allclose(getattr(batch, name), wanted, rtol=1e-12, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(windows.target, expected["target"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("joint", [True, False], ids=["joint", "independent"])
def test_batches(joint):
    values, covariates = made()
    windows = make(values, covariates, joint)
    expected = cut_by_hand(values, covariates, joint, LENGTHS)
    index = torch.tensor([4, 0, len(windows) - 1])
    batch = windows.take(index)
    assert batch.past.dtype == batch.past_covariates.dtype == batch.target.dtype == batch.weight.dtype == torch.float32
    assert batch.center.dtype == batch.scale.dtype == torch.float64
    for name, wanted in expected.items():
        np.testing.assert_allclose(getattr(batch, name), wanted[index], rtol=1e-5, atol=1e-6, err_msg=name)
    assert batch.lengths.tolist() == [L + H] * 3
    assert batch.total_weight == pytest.approx(expected["weight"][index].sum())


def test_parts_of_a_batch():
    """The trainer shares out mini-batches and moves them."""
    windows = make(*made(), joint=False)
    part = windows.take(torch.arange(len(windows))).take(torch.tensor([7, 2]))
    exact = part.to(torch.device("cpu"), torch.float64)
    assert exact.past.dtype == exact.target.dtype == torch.float64
    assert exact.variable.dtype == torch.int64
    for name, wanted in vars(windows.take(torch.tensor([7, 2]))).items():
        torch.testing.assert_close(getattr(part, name), wanted, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(getattr(exact, name), wanted, rtol=0, atol=0, equal_nan=True, check_dtype=False)


@pytest.mark.parametrize("joint", [True, False])
def test_what_is_unknown_from_the_cut_on_is_the_mean_of_the_past(joint):
    values, covariates = made()
    known = make(values, covariates, joint)
    windows = make(values, covariates, joint, past_only=(1,))
    everything = torch.arange(len(windows))
    batch, expected = windows.take(everything), known.take(everything)
    torch.testing.assert_close(batch.past_covariates, expected.past_covariates)
    torch.testing.assert_close(batch.future_covariates[..., [0, 2]], expected.future_covariates[..., [0, 2]])
    mean = batch.past_covariates[..., 1].sum(1) / batch.mask.sum(1)
    torch.testing.assert_close(batch.future_covariates[..., 1], mean[:, None].expand(-1, H))
    assert batch.centred_covariates()[1][..., 1].abs().max() < 1e-6


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
    found = some.take(torch.arange(len(some)))
    for name, expected in vars(windows.take(torch.tensor(wanted))).items():
        torch.testing.assert_close(getattr(found, name), expected, rtol=0, atol=0, equal_nan=True)


class TestScales:
    def test_do_not_know_the_future(self):
        values, covariates = made()
        windows = make(values, covariates, True, ENDS)
        later = [np.concatenate([y[:end], 1e6 + y[end:]]) for y, end in zip(values, ENDS, strict=True)]
        changed = make(later, covariates, True, ENDS)
        index = torch.arange(len(windows))
        found = changed.take(index)
        for name, expected in vars(windows.take(index)).items():
            torch.testing.assert_close(getattr(found, name), expected, rtol=0, atol=0, equal_nan=True)

    def test_of_an_affine_map(self):
        values, covariates = made()
        index = torch.arange(len(make(values, covariates, True)))
        batch = make(values, covariates, True).take(index)
        other = make([1e3 * y - 7.0 for y in values], covariates, True).take(index)
        torch.testing.assert_close(other.mask, batch.mask, rtol=0, atol=0)
        for name in ("past", "past_covariates", "future_covariates"):
            torch.testing.assert_close(getattr(other, name), getattr(batch, name), rtol=0, atol=1e-6)
        torch.testing.assert_close(other.target, batch.target, rtol=0, atol=1e-5, equal_nan=True)
        torch.testing.assert_close(other.center, 1e3 * batch.center - 7.0)
        torch.testing.assert_close(other.scale, 1e3 * batch.scale)

    def test_of_a_flat_stretch(self):
        """Not the noise of a few equal steps but a tenth of the series' deviation."""
        y = np.concatenate([np.full(6, 3.0), [1.0, 9.0, 2.0, 8.0]])[:, None]
        windows = window_set([y], [np.zeros((10, 0))], 4, 2, joint=True, first=[6], last=[6])
        batch = windows.take(torch.tensor([0]))
        assert not batch.past.any()
        assert float(batch.center) == 3.0
        assert float(batch.scale) == pytest.approx(0.1 * y.std())
        np.testing.assert_allclose(batch.target[0, :, 0], (y[6:8, 0] - 3.0) / float(batch.scale), rtol=1e-6)

    @pytest.mark.parametrize("value", [0.0, 5.0, 0.1, -1e9])
    def test_of_a_constant(self, value):
        windows = window_set([np.full((9, 1), value)], [np.zeros((9, 0))], 4, 2, joint=True, first=[1], last=[7])
        batch = windows.take(torch.arange(7))
        assert float(batch.past.abs().max()) < 1e-3
        assert float(batch.target.nan_to_num().abs().max()) < 1e-3
        np.testing.assert_allclose(batch.center, value)
        assert (batch.scale > 0).all()  # no more than rounding, so that forecasts are that constant
        assert (batch.scale <= max(1.001e-12 * abs(value), 1e-300)).all()

    def test_given(self):
        values, covariates = made()
        windows = make(values, covariates, True, scales=np.full((3, 2), 1e4))
        np.testing.assert_allclose(windows.take(torch.arange(len(windows))).scale, 1e3)
