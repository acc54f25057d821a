"""Summarise a bank of oscillators in PyTorch operations, on any device.

A batch holds series of similar length and runs through each block of the bank in chunks of steps. The state of the
oscillators and the sums behind the summaries pass from chunk to chunk, so memory does not grow with the length of a
series. Tensors have shape (steps, 8 members, 16 groups, series). An axis has size 1 if all values along it are equal.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sfmts.kernels._bank.reference import LANES, MEMBERS, Bank
from sfmts.kernels._linear_scan import accumulate, in_parallel

# Steps of a chunk, and series of a batch. On the CPU they fit the caches; otherwise they fill a GPU.
_CPU_CHUNK, _CPU_BATCH = 32, 128
_GPU_CHUNK, _GPU_BATCH = 128, 512


class _Batch(NamedTuple):
    """Some series, the longest first, as rows of ``x``."""

    x: Tensor  # (sum of lengths, channels)
    times: Tensor | None
    unit: float
    starts: Tensor  # (series,): first row of each
    lengths: Tensor  # (series,)

    def narrow(self, count: int) -> "_Batch":
        """Return the first series of this batch."""
        return self._replace(starts=self.starts[:count], lengths=self.lengths[:count])


class _Chunk(NamedTuple):
    """Steps of all series of a batch from step ``first`` on, in the direction in which a block reads."""

    first: int
    x: Tensor  # (1 + steps, series, channels): begins with the step before
    durations: Tensor  # (steps, series), float64; the unit after the end of a series
    weights: Tensor  # (steps, 1, 1, series): durations; 0 after the end of a series
    elapsed: Tensor  # (steps, 1, 1, series): duration so far
    total: Tensor  # (series,), float64: duration of the last step and all before it
    is_regular: bool  # whether all durations are the unit


class _Block(NamedTuple):
    """One block of a bank; oscillators have shape (8, 16, 1)."""

    s: Tensor
    start: Tensor
    m: Tensor
    direct: Tensor
    threshold: Tensor
    mix: Tensor  # (8, channels), or (1, channels) if all rows are equal; float64
    forwards: bool
    groups: int
    unit: float


class _Sums(NamedTuple):
    """The sums behind the summaries, each of shape (8, 16, series)."""

    share: Tensor
    longest: Tensor
    moment: Tensor
    greatest: Tensor
    least: Tensor
    greatest_sum: Tensor
    least_sum: Tensor
    run: Tensor  # the stretch that lasts to the last step


def summarize(x: Tensor, lengths: Tensor, times: Tensor | None, bank: Bank, threads: int) -> Tensor:
    """Summarise each series; see :func:`sfmts.kernels.summarize_bank`."""
    blocks = _blocks(bank, x.device)
    features = x.new_empty(len(lengths), bank.n_features)
    for chosen, batch in _batches(x, lengths, times, bank.unit):
        per_block = torch.cat([_summarize_block(batch, lengths[chosen].tolist(), block) for block in blocks], 1)
        features[chosen.to(x.device)] = per_block
    return features


def trace(x: Tensor, lengths: Tensor, times: Tensor | None, bank: Bank, strides: Tensor, threads: int) -> Tensor:
    """Return c at regular steps of each series; see :func:`sfmts.kernels.trace_bank`."""
    counts = (lengths + strides.cpu() - 1) // strides.cpu()
    begins = counts.cumsum(0) - counts
    blocks = _blocks(bank, x.device)
    kept = x.new_empty(len(blocks), int(counts.sum()), MEMBERS, LANES)
    for chosen, batch in _batches(x, lengths, times, bank.unit):
        stride, begin = strides.cpu()[chosen].to(x.device), begins[chosen].to(x.device)
        for block, rows in zip(blocks, kept, strict=True):
            for count, chunk, c in _outputs(batch, lengths[chosen].tolist(), block):
                step = chunk.first + torch.arange(len(c), device=x.device)[:, None]
                is_kept = (step % stride[:count] == 0) & (chunk.weights[:, 0, 0] > 0)
                rows[(begin[:count] + step // stride[:count])[is_kept]] = c.permute(0, 3, 1, 2)[is_kept]
    return kept


def _blocks(bank: Bank, device: torch.device) -> list[_Block]:
    """Return the blocks of a bank on a device."""
    same = (bank.mix == bank.mix[:, :1]).flatten(1).all(1).tolist()
    return [
        _Block(
            s=bank.s[i, ..., None].to(device),
            start=bank.start[i, ..., None].to(device),
            m=bank.m[i, ..., None].to(device),
            direct=bank.direct[i, ..., None].to(device),
            threshold=bank.threshold[i, ..., None].to(device),
            mix=bank.mix[i, : 1 if same[i] else MEMBERS].double().to(device),
            forwards=int(bank.direction[i]) > 0,
            groups=int(bank.groups[i]),
            unit=bank.unit,
        )
        for i in range(len(bank.s))
    ]


def _batches(x: Tensor, lengths: Tensor, times: Tensor | None, unit: float) -> Iterator[tuple[Tensor, _Batch]]:
    """Yield batches of series of similar length, and the number of each series."""
    starts = lengths.cumsum(0) - lengths
    order = lengths.argsort(descending=True, stable=True)
    for chosen in order.split(_GPU_BATCH if in_parallel(x) else _CPU_BATCH):
        yield chosen, _Batch(x, times, unit, starts[chosen].to(x.device), lengths[chosen].to(x.device))


def _read(batch: _Batch, forwards: bool, first: int, count: int) -> _Chunk:
    """Read ``count`` steps of each series. After its end, a series repeats its last value."""
    steps = torch.arange(first - 1, first + count, device=batch.x.device)[:, None]
    places = torch.minimum(steps.clamp(min=0), batch.lengths - 1)
    opening = batch.starts if forwards else batch.starts + batch.lengths - 1
    rows = opening + places if forwards else opening - places
    has_step = steps[1:] < batch.lengths
    if batch.times is None:
        elapsed = batch.unit * (places[1:] + 1).double()
        durations = torch.full_like(elapsed, batch.unit)
    else:
        t = batch.times[rows]
        elapsed = (t[1:] - batch.times[opening]).abs() + batch.unit
        durations = torch.where(has_step & (steps[1:] > 0), (t[1:] - t[:-1]).abs(), batch.unit)
    weights = torch.where(has_step, durations, 0.0)
    return _Chunk(
        first,
        batch.x[rows],
        durations,
        weights.float()[:, None, None],
        elapsed.float()[:, None, None],
        elapsed[-1],
        is_regular=batch.times is None or bool((durations == batch.unit).all()),
    )


def _outputs(batch: _Batch, lengths: list[int], block: _Block) -> Iterator[tuple[int, _Chunk, Tensor]]:
    """Yield chunks of c, of shape (steps, 8, 16, series), with the number of series that reach them."""
    size = _GPU_CHUNK if in_parallel(batch.x) else _CPU_CHUNK
    state = block.m.new_zeros(MEMBERS, LANES, len(lengths))
    for first in range(0, lengths[0], size):
        count = sum(length > first for length in lengths)
        batch, state = batch.narrow(count), state[..., :count]
        chunk = _read(batch, block.forwards, first, min(size, lengths[0] - first))
        c, state = _oscillate(chunk, block, state)
        yield count, chunk, c


def _oscillate(chunk: _Chunk, block: _Block, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return c and the state m Y after the last step, given the state before the first."""
    u = (chunk.x.double() @ block.mix.T).movedim(2, 1)[:, :, None]
    # Z_t = lambda_t Z_{t-1} + m g_t slope_t, where Z = m Y
    slope = (u.diff(dim=0) / chunk.durations[:, None, None]).to(state.dtype)
    factors, gains = _factors(None if chunk.is_regular else chunk.durations, block)
    drive = gains * slope
    if chunk.first == 0:
        drive[0] = block.m * block.start * u[1].to(state.dtype)
    else:
        drive[0] += factors[0] * state
    Z = accumulate(factors.expand_as(drive), drive)
    # c_t = Re(Z_t) + direct x_t,    c_0 = 0
    c = torch.addcmul(Z.real, block.direct, u[1:].float())
    if chunk.first == 0:
        c[0] = 0
    return c, Z[-1].clone()


def _factors(durations: Tensor | None, block: _Block) -> tuple[Tensor, Tensor]:
    """Return lambda_t = exp(s dt_t) and m g_t, computed in double precision. Without durations, all are the unit."""
    if durations is None:
        return torch.exp(block.s * block.unit).to(block.m.dtype)[None], block.m[None]
    gain = block.m / torch.expm1(block.s * block.unit)
    values, where = torch.unique(durations, return_inverse=True)
    if 2 * len(values) > durations.numel():
        decay = torch.exp(block.s * durations[:, None, None])
        return decay.to(block.m.dtype), (gain * (decay - 1)).to(block.m.dtype)
    decay = torch.exp(block.s * values)  # steps that share few durations share exponentials
    pair = decay, gain * (decay - 1)
    factors, gains = (v.to(block.m.dtype)[..., where].permute(2, 0, 1, 3) for v in pair)
    return factors, gains


def _summarize_block(batch: _Batch, lengths: list[int], block: _Block) -> Tensor:
    """Return the features of one block, of shape (series, features)."""
    sums = _Sums(*(block.direct.new_zeros(MEMBERS, LANES, len(lengths)) for _ in _Sums._fields))
    total = sums.run.new_ones(len(lengths), dtype=torch.float64)
    for count, chunk, c in _outputs(batch, lengths, block):
        _add(_Sums(*(v[..., :count] for v in sums)), chunk, c, block.threshold)
        total[:count] = chunk.total
    share, longest, moment, greatest, least, greatest_sum, least_sum, _ = sums
    per = 1 / total
    values = torch.stack(
        [
            share * per,
            longest * per,
            moment * per**2,
            (greatest * per).sqrt(),
            (least * per).sqrt(),
            greatest_sum * per,
            least_sum * per,
        ]
    )
    return values[:, :, : block.groups].flatten(0, 2).T.float()


def _add(sums: _Sums, chunk: _Chunk, c: Tensor, threshold: Tensor) -> None:
    """Add the steps of a chunk to the sums, in place."""
    weights = chunk.weights
    above = torch.gt(c, threshold, out=torch.empty_like(c))  # 1 or 0
    held = above * weights
    sums.share.add_(held.sum(0))
    sums.moment.add_((held * chunk.elapsed).sum(0))
    # run_t = above_t (run_{t-1} + weight_t)
    held[0].addcmul_(above[0], sums.run)
    run = accumulate(above, held)
    sums.run.copy_(run[-1])
    torch.maximum(sums.longest, run.amax(0), out=sums.longest)
    for best, won, gain in (
        (c.amax(1, keepdim=True), sums.greatest, sums.greatest_sum),
        (c.amin(1, keepdim=True), sums.least, sums.least_sum),
    ):
        wins = torch.eq(c, best, out=torch.empty_like(c)).mul_(weights)
        won.add_(wins.sum(0))
        gain.add_(wins.mul_(best).sum(0))
