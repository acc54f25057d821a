"""Models that training fits: a network, the head that knows the loss, and what lies between them."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from sfmts._batch import places_in_padded
from sfmts._choices import check_choice
from sfmts.heads import Head
from sfmts.networks._common import dropout_mask
from sfmts.networks.base import NetworkOutput, SequenceNetwork

POOLINGS = ("last", "mean", "max", "all")


def pooled_size(pooling: str, width: int) -> int:
    """Return the width of what the head reads.

    Parameters
    ----------
    pooling : str
        One of ``POOLINGS``.
    width : int
        Width of the network's output.

    Returns
    -------
    size : int
        ``width``, or three times as much for "all".
    """
    return 3 * width if pooling == "all" else width


class Model(nn.Module, ABC):
    """Base class of what :class:`sfmts.training.Trainer` trains: a network and a head.

    Attributes
    ----------
    network : SequenceNetwork
        Reads the series.
    head : Head
        Turns features into the output, and knows the loss.
    """

    network: SequenceNetwork
    head: Head

    @abstractmethod
    def features_of(self, batch: Any, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Return what the head reads of each item of a mini-batch, and the network's extra loss.

        Parameters
        ----------
        batch : object
            Mini-batch, as ``take`` of the data returns it.
        generator : torch.Generator, optional
            Source of dropout masks in training; PyTorch's global generator by default.

        Returns
        -------
        features : Tensor of shape (items, ...)
            Input of the head.
        extra_loss : Tensor or None
            Scalar that training adds to the loss.
        """

    def outputs_of(self, batch: Any, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the output of the head for each item of a mini-batch, and the network's extra loss.

        Parameters
        ----------
        batch : object
            Mini-batch. If it has an ``offset``, the output is the sum of the head's output and the offset.
        generator : torch.Generator, optional
            Source of dropout masks in training; PyTorch's global generator by default.

        Returns
        -------
        output : Tensor of shape (items, ...)
            Raw output.
        extra_loss : Tensor or None
            Scalar that training adds to the loss.
        """
        features, extra_loss = self.features_of(batch, generator)
        output: Tensor = self.head(features)
        offset = getattr(batch, "offset", None)
        return output if offset is None else output + offset, extra_loss


class SequenceModel(Model):
    """Scale, read, pool and project: a whole series, or each of its steps, to one output.

    Parameters
    ----------
    network : SequenceNetwork
        Reads the scaled series.
    head : Head
        Projects the pooled state. A head that is ``per_step`` gets the state of each step instead.
    mean, scale : Tensor of shape (C,), optional
        Each channel is shifted by ``mean`` and divided by ``scale``; 0 and 1 by default.
    pooling : {"last", "mean", "max", "all"}
        The network's summary of the whole sequence, the mean or the greatest of its states over time, or all three side
        by side.
    dropout : float
        Probability of dropping an entry of the pooled state in training.
    time_channel : int, optional
        Channel of x that holds the time stamps if none are given.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        network: SequenceNetwork,
        head: Head,
        *,
        mean: Tensor | None = None,
        scale: Tensor | None = None,
        pooling: str = "last",
        dropout: float = 0.0,
        time_channel: int | None = None,
    ) -> None:
        super().__init__()
        check_choice("pooling", pooling, POOLINGS)
        self.network, self.head = network, head
        self.pooling, self.dropout, self.time_channel = pooling, dropout, time_channel
        self.register_buffer("mean", torch.zeros(network.n_channels) if mean is None else mean)
        self.register_buffer("scale", torch.ones(network.n_channels) if scale is None else scale)

    def features_of(self, batch: Any, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the :meth:`features` of the series of a mini-batch, and the network's extra loss.

        Parameters
        ----------
        batch : SequenceBatch
            Series.
        generator : torch.Generator, optional
            Source of dropout masks in training; PyTorch's global generator by default.

        Returns
        -------
        features : Tensor of shape (items, H)
            Input of the head.
        extra_loss : Tensor or None
            Scalar that training adds to the loss.
        """
        return self.features(batch.x, batch.lengths if batch.is_ragged else None, batch.t, generator)

    def features(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        time: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what the head reads of each item, and the network's extra loss.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
            Raw series, padded to T steps.
        lengths : Tensor of shape (B,), optional
            True lengths; all are T by default.
        time : Tensor of shape (B, T), float64, optional
            Time stamps; the time channel by default, if the model has one.
        generator : torch.Generator, optional
            Source of dropout masks in training; PyTorch's global generator by default.

        Returns
        -------
        features : Tensor of shape (items, H)
            A row for each series or, if the head is per step, for each step within a series, series after series.
        extra_loss : Tensor or None
            Scalar that training adds to the loss.
        """
        output = self.network((x - self.mean) / self.scale, lengths, time=self._time(x, time), generator=generator)
        if self.head.per_step:
            features = output.states.flatten(0, 1)
            if lengths is not None:
                features = features.index_select(0, _places(x, lengths))
        else:
            features = self._pooled(output, lengths)
        if self.training and self.dropout > 0.0:
            features = features * dropout_mask(features, self.dropout, generator)
        return features, output.extra_loss

    def _pooled(self, output: NetworkOutput, lengths: Tensor | None) -> Tensor:
        parts = {
            "last": lambda: output.final,
            "mean": lambda: _mean_of(output.states, lengths),
            "max": lambda: _greatest_of(output.states, lengths),
        }
        if self.pooling == "all":
            return torch.cat([part() for part in parts.values()], dim=1)
        return parts[self.pooling]()

    def forward(self, x: Tensor, lengths: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """Return the head's raw output for raw series.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
            Raw series, padded to T steps.
        lengths : Tensor of shape (B,), optional
            True lengths; all are T by default.
        time : Tensor of shape (B, T), float64, optional
            Time stamps; the time channel by default, if the model has one.

        Returns
        -------
        output : Tensor of shape (B, n_logits) or (B, T, n_logits)
            A row for each series or, if the head is per step, for each step. Zero after the end of a series.
        """
        output: Tensor = self.head(self.features(x, lengths, time)[0])
        if not self.head.per_step:
            return output
        if lengths is None:
            return output.view(*x.shape[:2], -1)
        padded = output.new_zeros(len(x) * x.shape[1], output.shape[1])
        return padded.index_copy(0, _places(x, lengths), output).view(*x.shape[:2], -1)

    def state_amplitudes(self, x: Tensor, lengths: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """Return the network's amplitudes at each step.

        Parameters
        ----------
        x : Tensor of shape (B, T, C)
            Raw series, padded to T steps.
        lengths : Tensor of shape (B,), optional
            True lengths; all are T by default.
        time : Tensor of shape (B, T), float64, optional
            Time stamps; the time channel by default, if the model has one.

        Returns
        -------
        amplitudes : Tensor of shape (B, T, n_states, n_frequencies)
            See :meth:`sfmts.networks.SequenceNetwork.state_amplitudes`.
        """
        return self.network.state_amplitudes((x - self.mean) / self.scale, lengths, time=self._time(x, time))

    def _time(self, x: Tensor, time: Tensor | None) -> Tensor | None:
        if time is None and self.time_channel is not None:
            return x[..., self.time_channel].double()
        return time


def _mean_of(states: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the mean of states (B, T, H) over the steps of each series; they are zero after its end."""
    if lengths is None:
        return states.mean(dim=1)
    return states.sum(dim=1) / lengths.to(states.device, non_blocking=True).to(states.dtype)[:, None]


def _greatest_of(states: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the greatest of states (B, T, H) over the steps of each series."""
    if lengths is not None:
        steps = torch.arange(states.shape[1], device=states.device)
        after = steps >= lengths.to(states.device, non_blocking=True)[:, None]
        states = states.masked_fill(after[..., None], -torch.inf)
    return states.amax(dim=1)


def _places(x: Tensor, lengths: Tensor) -> Tensor:
    """Return the numbers of the steps within series among all steps of a padded batch (B, T, C)."""
    if torch.compiler.is_compiling():  # where sizes that depend on lengths are unknown
        return (torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]).view(-1).nonzero()[:, 0]
    return places_in_padded(lengths.to(x.device, non_blocking=True), x.shape[1], int(lengths.sum()))
