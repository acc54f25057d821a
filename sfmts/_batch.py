"""Container of validated series, its statistics and its division into batches."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PADDED_STEPS = 1 << 18  # maximum number of padded steps of a batch in prediction


@dataclass(frozen=True)
class SequenceBatch:
    """n series of C channels, concatenated along time, with their time stamps, targets and weights.

    Attributes
    ----------
    values : Tensor of shape (sum of lengths, C)
        Values of all series.
    lengths : Tensor of shape (n,), int64, on the CPU
        Length of each series.
    time : Tensor of shape (sum of lengths,), float64, optional
        Time stamps.
    target : Tensor of shape (n, ...) or, with ``target_per_step``, (sum of lengths, ...), optional
        Targets.
    weight : Tensor of shape (n,) or, with ``target_per_step``, (sum of lengths,), optional
        Weights of the targets.
    form : {"nt", "ntc", "list"}
        Format of the input: an array (n, T), an array (n, T, C), or a list of arrays.
    target_per_step : bool
        Whether each step has a target and a weight, instead of each series.
    offset : Tensor of shape (n, n_logits), optional
        What is added to the output of the head for each series.
    lengths_there : Tensor of shape (n,), int64, optional
        The lengths on the device of ``values``, if that is not the CPU: to send those of each batch would make the
        program wait.
    """

    values: Tensor
    lengths: Tensor
    time: Tensor | None = None
    target: Tensor | None = None
    weight: Tensor | None = None
    form: str = "ntc"
    target_per_step: bool = False
    offset: Tensor | None = None
    lengths_there: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def n_channels(self) -> int:
        """Number of channels C."""
        return self.values.shape[1]

    @cached_property
    def is_ragged(self) -> bool:
        """Whether series differ in length."""
        return bool((self.lengths != self.lengths[0]).any())

    @property
    def total_weight(self) -> float:
        """Sum of the weights of all series, or of all steps with ``target_per_step``; weights are 1 by default."""
        if self.weight is not None:
            return float(self.weight.sum())
        return float(self.lengths.sum()) if self.target_per_step else float(len(self))

    @cached_property
    def _weight_here(self) -> Tensor | None:
        """Return the weights on the CPU."""
        return None if self.weight is None else self.weight.cpu()

    def weight_of(self, index: Tensor) -> float:
        """Return the sum of the weights of the series numbered ``index``, or of their steps with ``target_per_step``.

        Weights on a GPU are copied to the CPU by the first call only.
        """
        weight = self._weight_here
        if weight is None:
            return float(self.lengths[index].sum()) if self.target_per_step else float(len(index))
        return float(weight[self.rows(index) if self.target_per_step else index].sum())

    def _lengths_on(self, device: torch.device) -> Tensor:
        """Return the lengths on a device."""
        if self.lengths_there is not None and self.lengths_there.device == device:
            return self.lengths_there
        return self.lengths.to(device)

    def rows(self, index: Tensor, count: int | None = None) -> Tensor:
        """Return the rows of ``values`` that hold the series numbered ``index``, series by series.

        They are on the device of ``index``. If that is a GPU, the program waits for it unless ``count``, the number of
        rows, is given.
        """
        if not self.is_ragged:
            length = int(self.lengths[0])
            return (index[:, None] * length + torch.arange(length, device=index.device)).view(-1)
        all_lengths = self._lengths_on(index.device)
        lengths = all_lengths[index]
        starts = (all_lengths.cumsum(0) - all_lengths)[index]
        count = int(lengths.sum()) if count is None else count
        shift = (starts - (lengths.cumsum(0) - lengths)).repeat_interleave(lengths, output_size=count)
        return torch.arange(count, device=index.device) + shift

    def take(self, index: Tensor, there: Tensor | None = None) -> "SequenceBatch":
        """Return the series numbered ``index``, in that order; all of them in order are this batch, not a copy.

        ``there`` are the same numbers on the device of ``values``; without them ``index``, on the CPU, is sent.
        """
        if len(index) == len(self) and torch.equal(index, torch.arange(len(self))):
            return self
        there = index.to(self.values.device) if there is None else there
        lengths = self.lengths[index]
        rows = self.rows(there, int(lengths.sum())) if self.is_ragged else None

        def items(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.index_select(0, there.to(value.device))

        def steps(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            if rows is not None:
                return value.index_select(0, rows.to(value.device))
            # Series of one length: each is one block of memory, so one number selects all of its steps.
            return value.view(len(self), -1, *value.shape[1:]).index_select(0, there.to(value.device)).flatten(0, 1)

        per_target = steps if self.target_per_step else items
        values = steps(self.values)
        assert values is not None
        return SequenceBatch(
            values,
            lengths,
            steps(self.time),
            per_target(self.target),
            per_target(self.weight),
            target_per_step=self.target_per_step,
            offset=items(self.offset),
            lengths_there=items(self.lengths_there),
        )

    def padded(self, flat: Tensor) -> Tensor:
        """Pad rows, (sum of lengths, ...), with zeros to (n, longest, ...)."""
        if not self.is_ragged:
            return flat.view(len(self), -1, *flat.shape[1:])
        longest = int(self.lengths.max())
        out = flat.new_zeros(len(self) * longest, *flat.shape[1:])
        return out.index_copy_(0, self._places(flat.device), flat).view(len(self), longest, *flat.shape[1:])

    def flat(self, padded: Tensor) -> Tensor:
        """Undo :meth:`padded`: return the rows (sum of lengths, ...) of an array (n, longest, ...)."""
        rows = padded.flatten(0, 1)
        return rows.index_select(0, self._places(padded.device)) if self.is_ragged else rows

    def _places(self, device: torch.device) -> Tensor:
        """Return the numbers of the steps of all series among those of the padded batch."""
        return places_in_padded(self._lengths_on(device), int(self.lengths.max()), int(self.lengths.sum()))

    @property
    def x(self) -> Tensor:
        """Padded values, (n, longest, C)."""
        return self.padded(self.values)

    @property
    def t(self) -> Tensor | None:
        """Padded time stamps, (n, longest)."""
        return None if self.time is None else self.padded(self.time)

    def to(self, device: torch.device, dtype: torch.dtype) -> "SequenceBatch":
        """Move to ``device``, and convert values, weights and offsets to ``dtype``; time stays float64."""
        return replace(
            self,
            values=self.values.to(device, dtype),
            time=None if self.time is None else self.time.to(device),
            target=None if self.target is None else self.target.to(device),
            weight=None if self.weight is None else self.weight.to(device, dtype),
            offset=None if self.offset is None else self.offset.to(device, dtype),
            lengths_there=None if device.type == "cpu" else self._lengths_on(device),
        )


def places_in_padded(lengths: Tensor, longest: int, count: int) -> Tensor:
    """Return the numbers of the ``count`` steps of all series among the steps of a padded batch, (n, longest).

    The count is an argument because a mask, or the sum of lengths on a GPU, would make the program wait for the GPU.
    """
    shift = torch.arange(len(lengths), device=lengths.device) * longest - (lengths.cumsum(0) - lengths)
    return torch.arange(count, device=lengths.device) + shift.repeat_interleave(lengths, output_size=count)


def sent(batch: Any, device: torch.device) -> Any:
    """Return a mini-batch, a dataclass, with its tensors on a GPU, except for ``lengths``.

    They leave from page-locked memory, so the program need not wait until they have arrived. PyTorch keeps this memory
    until then.
    """
    moved = {
        f.name: value.pin_memory().to(device, non_blocking=True)
        for f in fields(batch)
        if f.name != "lengths" and isinstance(value := getattr(batch, f.name), Tensor)
    }
    return replace(batch, **moved)


def unbatch(batch: SequenceBatch, flat: Tensor | NDArray[Any]) -> Any:
    """Return results per step, (sum of lengths, ...), in the input's format: a list of arrays or one (n, T, ...)."""
    array = flat.cpu().numpy() if isinstance(flat, Tensor) else flat
    if batch.form == "list":
        return np.split(array, batch.lengths.cumsum(0)[:-1].numpy())
    return array.reshape(len(batch), -1, *array.shape[1:])


def bounded_batches(lengths: Tensor, order: Tensor, batch_size: int, padded_steps: int | None = None) -> list[Tensor]:
    """Split ``order``, numbers of series, into batches of at most ``batch_size`` series and 2^18 padded steps.

    A series of more steps is a batch of its own, so that short series are not padded to its length. ``padded_steps``
    replaces 2^18.
    """
    most = _PADDED_STEPS if padded_steps is None else padded_steps
    sizes = lengths[order].tolist()
    starts, longest = [0], 0
    for place, length in enumerate(sizes):
        count = place - starts[-1]
        if count and (count == batch_size or (count + 1) * max(longest, length) > most):
            starts.append(place)
            longest = 0
        longest = max(longest, length)
    return list(order.tensor_split(starts[1:]))


def bucketed_batches(
    lengths: Tensor, batch_size: int, generator: torch.Generator | None, buckets: int = 16
) -> Sequence[Tensor]:
    """Return the numbers of the series of each mini-batch, in random order; batch mates have similar lengths.

    Within each run of ``buckets`` batches of a random permutation, series are sorted by length, so that batches need
    little padding.
    """
    n = len(lengths)
    order = torch.randperm(n, generator=generator)
    if bool((lengths != lengths[0]).any()):
        runs = order.split(batch_size * buckets)
        order = torch.cat([run[lengths[run].argsort(stable=True)] for run in runs])
    batches = order.split(batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def channel_statistics(batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Return the weighted mean and variance of each channel over all steps of all series."""
    weight = batch.weight
    if weight is not None and not batch.target_per_step:
        weight = weight.repeat_interleave(batch.lengths.to(weight.device))
    return moments(batch.values, weight)


def moments(values: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the weighted mean and variance of each column, in float64.

    Raises
    ------
    ValueError
        If a variance is not finite.
    """
    values = values.double()
    rows = values.new_ones(len(values)) if weight is None else weight.double()
    rows = rows / rows.sum()
    mean = rows @ values
    variance = rows @ (values - mean).square()
    if not bool(variance.isfinite().all()):
        column = int(variance.isfinite().logical_not().nonzero()[0])
        raise ValueError(
            f"Channel {column} holds values up to {float(values[:, column].abs().max()):g}, whose variance is not "
            "finite. Divide the channel by a constant."
        )
    return mean, variance


def channel_scale(mean: Tensor, variance: Tensor) -> Tensor:
    """Return the standard deviation of each channel; 1 for a channel that is constant except for rounding."""
    constant = variance <= 1e-24 * mean.square() + torch.finfo(torch.float64).tiny
    return torch.where(constant, 1.0, variance.sqrt())
