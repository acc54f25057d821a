"""The container of series: selecting, padding and dividing into batches."""

import pytest
import torch

from sfmts._batch import SequenceBatch, bounded_batches, bucketed_batches

LENGTHS = {"equal": torch.tensor([3, 3, 3, 3]), "ragged": torch.tensor([3, 1, 4, 2])}
every_length = pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)


def make_batch(lengths, target_per_step=False):
    steps = int(lengths.sum())
    n = steps if target_per_step else len(lengths)
    return SequenceBatch(
        torch.arange(2.0 * steps).view(steps, 2),
        lengths,
        torch.arange(steps, dtype=torch.float64),
        torch.arange(n),
        torch.arange(float(n)),
        form="list",
        target_per_step=target_per_step,
    )


@every_length
@pytest.mark.parametrize("target_per_step", [False, True], ids=["series", "steps"])
@pytest.mark.parametrize("index", [[2, 0], [3], [3, 2, 1, 0], [1, 1]], ids=str)
def test_take(lengths, target_per_step, index):
    batch = make_batch(lengths, target_per_step)
    taken = batch.take(torch.tensor(index))
    starts = (lengths.cumsum(0) - lengths).tolist()
    rows = torch.cat([torch.arange(starts[i], starts[i] + int(lengths[i])) for i in index])
    items = rows if target_per_step else torch.tensor(index)
    assert torch.equal(taken.lengths, lengths[index])
    assert torch.equal(taken.values, batch.values[rows])
    assert torch.equal(taken.time, batch.time[rows])
    assert torch.equal(taken.target, batch.target[items])
    assert torch.equal(taken.weight, batch.weight[items])


def test_ragged_is_what_differs_in_length():
    assert [make_batch(lengths).is_ragged for lengths in LENGTHS.values()] == [False, True]


@every_length
def test_taking_all_copies_nothing(lengths):
    batch = make_batch(lengths)
    assert batch.take(torch.arange(4)) is batch


@every_length
def test_padding_and_back(lengths):
    batch = make_batch(lengths)
    assert batch.x.shape == (4, int(lengths.max()), 2)
    for series, length in zip(batch.x, lengths.tolist(), strict=True):
        assert not series[length:].any()
    assert torch.equal(batch.flat(batch.x), batch.values)
    assert torch.equal(batch.flat(batch.t), batch.time)


def test_bounded_batches_hold_every_series_once(monkeypatch):
    monkeypatch.setattr("sfmts._batch._PADDED_STEPS", 12)
    lengths = torch.tensor([3, 20, 1, 4, 2, 6, 6, 1])
    batches = bounded_batches(lengths, torch.arange(8), 3)
    assert sorted(torch.cat(batches).tolist()) == list(range(8))
    for index in batches:
        assert len(index) <= 3
        assert len(index) == 1 or len(index) * int(lengths[index].max()) <= 12


def test_bucketed_batches_are_of_similar_length_and_differ_by_epoch():
    lengths = torch.arange(64).repeat_interleave(4) + 1
    generator = torch.Generator().manual_seed(0)
    first, second = (list(bucketed_batches(lengths, 8, generator)) for _ in range(2))
    for epoch in (first, second):
        assert sorted(torch.cat(epoch).tolist()) == list(range(256))
    spread = torch.tensor([float(lengths[index].float().std()) for index in first]).mean()
    assert spread < float(lengths.float().std()) / 2
    assert [index.tolist() for index in first] != [index.tolist() for index in second]
