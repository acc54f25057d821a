"""Convert series to the signals that drive a bank: scaled channels in single precision, and time stamps."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfmts._batch import SequenceBatch, channel_scale, moments

SCALES = ("train", "series", "both")
LONGEST = 1e9  # maximum duration of a step, in typical steps
LARGEST = 1e12  # maximum scaled value; products of greater values would overflow in single precision


@dataclass(frozen=True)
class SignalScale:
    """Fitted scaling of the channels.

    Attributes
    ----------
    kind : {"train", "series", "both"}
        Whether to scale by the training series, by each series itself, or in both ways.
    mean, scale : Tensor of shape (channels,), float64
        Mean and standard deviation over the training series.
    time_channel : int or None
        The channel of time stamps, which is left out.
    unit : float
        Duration of a typical step; 1 without time stamps.
    """

    kind: str
    mean: Tensor
    scale: Tensor
    time_channel: int | None
    unit: float

    @property
    def n_copies(self) -> int:
        """Number of copies of each channel: 2 if it is scaled in both ways, otherwise 1."""
        return 2 if self.kind == "both" else 1

    def apply(self, batch: SequenceBatch) -> Tensor:
        """Return scaled channels of shape (steps, drives), float32; channels without observation are 0.

        Raises
        ------
        ValueError
            If a value is too large for single precision.
        """
        values = _channels(batch, self.time_channel)
        parts = []
        if self.kind != "series":
            parts.append((values - self.mean) / self.scale)
        if self.kind != "train":
            mean, scale = _series_statistics(values, batch.lengths)
            parts.append((values - mean) / scale)
        x = torch.nan_to_num(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1), nan=0.0)
        check_range(x.abs().amax(dim=0).numpy())
        return x.float()

    def times(self, batch: SequenceBatch) -> Tensor | None:
        """Return time stamps in typical steps, or None if the series have none.

        Raises
        ------
        ValueError
            If a step is too long.
        """
        if batch.time is None:
            return None
        times = batch.time / self.unit
        if len(times) > 1:
            durations = times.diff()
            durations[batch.lengths.cumsum(0)[:-1] - 1] = 0.0
            check_duration(float(durations.max()))
        return times


def check_duration(longest: float) -> None:
    """Raise ValueError if a step, in units of the typical one, is too long."""
    if not longest <= LONGEST:
        raise ValueError(
            f"A step of X lasts {longest:.3g} times as long as a typical step of the training series; at most "
            f"{LONGEST:g} times is supported. Check the unit of the time stamps."
        )


def check_range(largest: NDArray[np.float64]) -> None:
    """Raise ValueError if the greatest scaled value of a channel is too large for single precision."""
    if bool((largest > LARGEST).any()):
        channel = int(largest.argmax())
        raise ValueError(
            f"A value of X is {float(largest[channel]):.3g} standard deviations from the mean of the training series; "
            f"at most {LARGEST:g} are supported. Check X for fill values, and mark missing steps by NaN."
        )


def fit_scale(
    batch: SequenceBatch, kind: str, time_channel: int | None, weight: NDArray[np.float64] | None
) -> SignalScale:
    """Compute mean and deviation of each channel over all steps of the training series.

    Raises
    ------
    ValueError
        If X has only time stamps, a channel has no observation, or a variance is not finite.
    """
    values = _channels(batch, time_channel)
    if values.shape[1] == 0:
        raise ValueError("X holds only time stamps; at least one more channel is required.")
    of_step = None if weight is None else torch.from_numpy(np.repeat(weight, batch.lengths.numpy()))
    mean, scale = [], []
    for channel, column in enumerate(values.T):
        seen = ~column.isnan()
        if not bool(seen.any()):
            raise ValueError(f"Channel {channel} of X is NaN in every series. Leave it out.")
        centre, variance = moments(column[seen, None], None if of_step is None else of_step[seen])
        mean.append(centre)
        scale.append(channel_scale(centre, variance))
    return SignalScale(kind, torch.cat(mean), torch.cat(scale), time_channel, _time_unit(batch.time, batch.lengths))


def _channels(batch: SequenceBatch, time_channel: int | None) -> Tensor:
    values = batch.values.double()
    if time_channel is None:
        return values
    kept = [channel for channel in range(values.shape[1]) if channel != time_channel % values.shape[1]]
    return values[:, kept]


def _series_statistics(values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel of each series, repeated for each of its steps."""
    number = torch.arange(len(lengths)).repeat_interleave(lengths)
    filled = torch.nan_to_num(values, nan=0.0)
    zeros = values.new_zeros(len(lengths), values.shape[1])
    mean = zeros.index_add(0, number, filled) / lengths[:, None]
    variance = zeros.index_add(0, number, (filled - mean[number]).square()) / lengths[:, None]
    return mean[number], channel_scale(mean, variance)[number]


def _time_unit(time: Tensor | None, lengths: Tensor) -> float:
    """Return the median duration of the steps of all series; 1 without time stamps."""
    if time is None or int(lengths.max()) < 2:
        return 1.0
    durations = time.diff()
    ends = lengths.cumsum(0)[:-1] - 1
    inside = torch.ones(len(durations), dtype=torch.bool)
    inside[ends] = False
    return float(durations[inside].median())


def check_increasing(time: Tensor | None, lengths: Tensor) -> None:
    """Raise ValueError if two steps of a series have the same time stamp."""
    if time is None:
        return
    durations = time.diff()
    durations[lengths.cumsum(0)[:-1] - 1] = 1.0
    if bool((durations <= 0).any()):
        row = int(durations.argmin())
        series = int(torch.searchsorted(lengths.cumsum(0), row, right=True))
        raise ValueError(
            f"Series {series} of X has two steps at time {float(time[row]):g}. Give each time once, for example with "
            "the mean of the values."
        )
