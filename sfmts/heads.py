"""From a network's states to logits, loss and decoded predictions: predict can never disagree with fit."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfmts._choices import check_choice
from sfmts.networks.base import SequenceNetwork, dropout_mask

HEADS = ("linear", "none")
POOLINGS = ("last", "mean")


class Head(nn.Module, ABC):
    """Projection, loss, score and decoding of one kind of target."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Project features (B, H) to the head's raw output."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Loss summed over the batch, each item times its weight."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Score summed over the batch, each item times its weight; greater is better."""


class ClassificationHead(Head):
    """Class logits, cross-entropy and probabilities.

    Two classes share one logit, that of the second, as in the paper's first task.

    Parameters
    ----------
    in_features : int
        H.
    n_classes : int
    kind : {"linear", "none"}
        "none" takes the features themselves as logits, as the paper does with z; H must then fit.
    generator : torch.Generator, optional
        Source of the initial weights.
    """

    def __init__(
        self, in_features: int, n_classes: int, kind: str = "linear", generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.n_classes, self.n_logits = n_classes, self.logits_for(n_classes)
        check_choice("head", kind, HEADS)
        if kind == "none":
            if in_features != self.n_logits:
                raise ValueError(
                    f"head='none' takes the network's output as logits: {n_classes} classes need n_outputs="
                    f"{self.n_logits}, but the network puts out {in_features}."
                )
            self.projection: nn.Module = nn.Identity()
        else:
            linear = nn.utils.skip_init(nn.Linear, in_features, self.n_logits)
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
            self.projection = linear

    @staticmethod
    def logits_for(n_classes: int) -> int:
        """How many logits so many classes need."""
        return 1 if n_classes == 2 else n_classes

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, n_logits)."""
        logits: Tensor = self.projection(features)
        return logits

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Weighted sum of the cross-entropies."""
        if self.n_classes == 2:
            logits, binary = output[:, 0], target.to(output.dtype)
            return functional.binary_cross_entropy_with_logits(logits, binary, weight, reduction="sum")
        losses = functional.cross_entropy(output, target, reduction="none")
        return (losses if weight is None else losses * weight).sum()

    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Weighted number of correct predictions."""
        right = (self.log_probabilities(output).argmax(dim=1) == target).to(output.dtype)
        return (right if weight is None else right * weight).sum()

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Logarithms of the class probabilities, (B, n_classes)."""
        if self.n_classes == 2:
            return functional.logsigmoid(torch.cat([-output, output], dim=1))
        return functional.log_softmax(output, dim=1)


class SequenceModel(nn.Module):
    """Standardise, read, pool, project: a whole series to one output.

    Parameters
    ----------
    network : SequenceNetwork
    head : Head
    mean, scale : Tensor of shape (C,), optional
        Channels are shifted by ``mean`` and divided by ``scale`` first.
    pooling : {"last", "mean"}
        The network's summary of the whole sequence, or the mean of its states.
    dropout : float
        Probability with which, in training, an entry of the pooled state is dropped.
    time_channel : int, optional
        The channel of x from which time stamps are read if none are given.
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

    def features(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        time: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Pooled states (B, H), and the network's extra loss if it has one."""
        output = self.network((x - self.mean) / self.scale, lengths, time=self._time(x, time), generator=generator)
        if self.pooling == "last":
            pooled = output.final
        elif lengths is None:
            pooled = output.states.mean(dim=1)
        else:  # states are zero behind a sequence's end
            pooled = output.states.sum(dim=1) / lengths.to(x.device, x.dtype)[:, None]
        if self.training and self.dropout > 0.0:
            pooled = pooled * dropout_mask(pooled, self.dropout, generator)
        return pooled, output.extra_loss

    def forward(self, x: Tensor, lengths: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """Raw output of the head for raw series x (B, T, C)."""
        output: Tensor = self.head(self.features(x, lengths, time)[0])
        return output

    def state_amplitudes(self, x: Tensor, lengths: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """The network's amplitudes at each step; see :meth:`SequenceNetwork.state_amplitudes`."""
        return self.network.state_amplitudes((x - self.mean) / self.scale, lengths, time=self._time(x, time))

    def _time(self, x: Tensor, time: Tensor | None) -> Tensor | None:
        if time is None and self.time_channel is not None:
            return x[..., self.time_channel].double()
        return time
