"""From a network's states to logits, loss and decoded predictions: predict can never disagree with fit."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfmts._choices import check_choice
from sfmts.networks.base import NetworkOutput, SequenceNetwork, dropout_mask
from sfmts.networks.energy import NADE, RBM

HEADS = ("linear", "none")
DENSITY_HEADS = (*HEADS, "nade", "rbm")
POOLINGS = ("last", "mean")
_SOFTNESS = 0.01  # the square of a small distance between quantiles of scaled values
QUANTILE_LEVELS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)


class Head(nn.Module, ABC):
    """Projection, loss, score and decoding of one kind of target.

    An item is a series or, if ``per_step``, a step of a series.

    Parameters
    ----------
    in_features : int
        H, the width of the network's output.
    n_logits : int
        Width of the head's raw output.
    kind : {"linear", "none"}
        "none" takes the features themselves as output, as the paper does with z; H must then fit.
    generator : torch.Generator, optional
        Source of the initial weights.
    """

    per_step: bool = False
    batches_alike: ClassVar[bool] = False
    """Whether each mini-batch counts the same in training, whatever its items weigh; else each item by its weight."""

    def __init__(self, in_features: int, n_logits: int, kind: str, generator: torch.Generator | None) -> None:
        super().__init__()
        self.n_logits = n_logits
        check_choice("head", kind, HEADS)
        if kind == "none":
            if in_features != n_logits:
                raise ValueError(
                    f"head='none' takes the network's output as it is: n_outputs={n_logits} is needed here, but the "
                    f"network puts out {in_features}."
                )
            self.projection: nn.Module = nn.Identity()
        else:
            linear = nn.utils.skip_init(nn.Linear, in_features, n_logits)
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
            self.projection = linear

    def forward(self, features: Tensor) -> Tensor:
        """Project features (..., H) to the head's raw output (..., n_logits)."""
        output: Tensor = self.projection(features)
        return output

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Loss summed over the items, each times its weight."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Score summed over the items, each times its weight; greater is better."""


def _weighted_sum(values: Tensor, weight: Tensor | None) -> Tensor:
    return (values if weight is None else values * weight).sum()


class ClassificationHead(Head):
    """Class logits, cross-entropy and probabilities.

    Two classes share one logit, that of the second, as in the paper's first task.

    Parameters
    ----------
    in_features : int
    n_classes : int
    kind : {"linear", "none"}
    generator : torch.Generator, optional
    per_step : bool
        Whether each step has a class of its own.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        kind: str = "linear",
        generator: torch.Generator | None = None,
        per_step: bool = False,
    ) -> None:
        super().__init__(in_features, self.logits_for(n_classes), kind, generator)
        self.n_classes, self.per_step = n_classes, per_step

    @staticmethod
    def logits_for(n_classes: int) -> int:
        """How many logits so many classes need."""
        return 1 if n_classes == 2 else n_classes

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Weighted sum of the cross-entropies."""
        if self.n_classes == 2:
            logits, binary = output[:, 0], target.to(output.dtype)
            return functional.binary_cross_entropy_with_logits(logits, binary, weight, reduction="sum")
        return _weighted_sum(functional.cross_entropy(output, target, reduction="none"), weight)

    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Weighted number of correct predictions."""
        right = (self.log_probabilities(output).argmax(dim=1) == target).to(output.dtype)
        return _weighted_sum(right, weight)

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Logarithms of the class probabilities, (B, n_classes)."""
        if self.n_classes == 2:
            return functional.logsigmoid(torch.cat([-output, output], dim=1))
        return functional.log_softmax(output, dim=1)


class RegressionHead(Head):
    """Numbers, by least squares on targets of mean 0 and variance 1.

    Parameters
    ----------
    in_features : int
    n_targets : int
    kind : {"linear", "none"}
    generator : torch.Generator, optional
    mean, scale : Tensor of shape (n_targets,), optional
        Targets are shifted by ``mean`` and divided by ``scale`` before anything is learned.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        in_features: int,
        n_targets: int,
        kind: str = "linear",
        generator: torch.Generator | None = None,
        mean: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        super().__init__(in_features, n_targets, kind, generator)
        self.register_buffer("mean", torch.zeros(n_targets).double() if mean is None else mean.double())
        self.register_buffer("scale", torch.ones(n_targets).double() if scale is None else scale.double())

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Weighted sum of the squared errors, averaged over the targets."""
        errors = output - self._standardised(target).to(output)
        return _weighted_sum(errors.square().mean(dim=1), weight)

    def _standardised(self, target: Tensor) -> Tensor:
        """In double precision: units may have a distant origin."""
        return (target.double() - self.mean.to(target.device)) / self.scale.to(target.device)

    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """1 minus the loss, which is R^2 where the targets vary as they did in training."""
        items = output.new_ones(len(output))
        return _weighted_sum(items, weight) - self.loss(output, target, weight)

    def predictions(self, output: Tensor) -> Tensor:
        """Targets as they were given, (items, n_targets), in double precision."""
        return output.double() * self.scale.to(output.device) + self.mean.to(output.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move everything, but keep the targets' mean and scale in double precision whatever the weights have."""
        exact = {name: getattr(self, name) for name in ("mean", "scale")}
        super()._apply(fn, recurse)
        for name, value in exact.items():
            setattr(self, name, value.double().to(getattr(self, name).device))
        return self


def _running_sums(x: Tensor) -> Tensor:
    """Sums of the first 1, 2, ... entries of the last axis."""
    if x.device.type == "cpu":
        return x.cumsum(-1)
    return x @ x.new_ones(x.shape[-1], x.shape[-1]).triu()  # cumsum is not deterministic on a GPU


class QuantileHead(Head):
    """Quantiles, by the pinball loss; they never cross.

    The raw output holds the median and, through :meth:`gaps`, the distances between neighbouring levels.  Between
    levels and beyond the outermost ones, quantiles are linear in those of the normal distribution.

    Parameters
    ----------
    levels : tuple of float
        Increasing, an odd number, the middle one 0.5.
    """

    batches_alike: ClassVar[bool] = True
    stretch: Tensor

    def __init__(self, levels: tuple[float, ...] = QUANTILE_LEVELS) -> None:
        super().__init__(len(levels), len(levels), "none", None)
        self.middle = len(levels) // 2
        self._levels = levels
        self.register_buffer("stretch", torch.ones(()))

    @property
    def levels(self) -> Tensor:
        """Levels of the quantiles, in float64 whatever the module is."""
        return torch.tensor(self._levels, dtype=torch.float64)

    @staticmethod
    def gaps(raw: Tensor) -> Tensor:
        """Positive numbers, (x + sqrt(x^2 + c)) / 2: several times as fast as softplus, and no less smooth."""
        return (raw + (raw.square() + _SOFTNESS).sqrt()) / 2.0

    @staticmethod
    def raw_gaps(gaps: Tensor) -> Tensor:
        """The inverse of :meth:`gaps`."""
        return gaps - _SOFTNESS / (4.0 * gaps)

    def quantiles(self, output: Tensor, calibrated: bool = True) -> Tensor:
        """Values at the levels, (..., levels); distances from the median are ``stretch`` times the learned ones."""
        median, gaps = output[..., :1], self.gaps(output[..., 1:])
        if calibrated:
            gaps = gaps * self.stretch.to(gaps)
        below, above = gaps[..., : self.middle], gaps[..., self.middle :]
        return torch.cat(
            [median - _running_sums(below.flip(-1)).flip(-1), median, median + _running_sums(above)],
            dim=-1,
        )

    def interpolated(self, values: Tensor, alpha: Tensor) -> Tensor:
        """Quantiles at any levels ``alpha`` (A,) strictly between 0 and 1, (..., A), from those at the levels."""
        at, wanted = torch.special.ndtri(self.levels).to(values.device), torch.special.ndtri(alpha).to(values.device)
        right = torch.searchsorted(at, wanted).clamp(1, len(at) - 1)
        share = ((wanted - at[right - 1]) / (at[right] - at[right - 1])).to(values)
        return torch.lerp(values[..., right - 1], values[..., right], share)

    def fine_levels(self) -> Tensor:
        """Levels close enough to draw the distribution by."""
        even = torch.special.ndtr(torch.linspace(-4.0, 4.0, 81, dtype=torch.float64))
        return torch.cat([even, self.levels]).unique()

    def variance(self, values: Tensor) -> Tensor:
        """Of the distribution whose quantiles at the levels are ``values`` (..., levels), (...)."""
        normal = torch.linspace(-6.0, 6.0, 241, dtype=torch.float64)
        density = (-normal.square() / 2).exp()
        drawn = self.interpolated(values, torch.special.ndtr(normal))
        density = (density / density.sum()).to(drawn)
        mean = drawn @ density
        return (drawn - mean[..., None]).square() @ density

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Weighted sum of the items' :meth:`losses`."""
        return _weighted_sum(self.losses(output, target), weight)

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Pinball losses (items,), averaged over the levels and the targets of an item that are known, not NaN.

        Parameters
        ----------
        output : Tensor of shape (items, ..., levels)
        target : Tensor of shape (items, ...)
        """
        known = target.isfinite()
        errors = torch.where(known, target, 0.0)[..., None] - self.quantiles(output, calibrated=False)
        levels = self.levels.to(errors)
        losses = torch.maximum(levels * errors, (levels - 1.0) * errors).mean(-1) * known
        return losses.flatten(1).sum(1) / known.flatten(1).sum(1)

    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Minus the loss."""
        return -self.loss(output, target, weight)


class DensityHead(Head):
    """The next binary frame of each step, given the past."""

    per_step = True
    batches_alike = True

    @abstractmethod
    def logits(self, output: Tensor) -> Tensor:
        """Of each channel, whatever the others are, (items, n_channels)."""

    @abstractmethod
    def log_likelihood(self, output: Tensor, target: Tensor, step: Tensor | None = None) -> Tensor:
        """Of each frame, (items,), in nats.

        ``step`` is a frame's number in its series, (items,): with it, what can only be estimated does not depend on the
        other items.
        """

    @abstractmethod
    def sample(self, output: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
        """One next frame for each item, (items, n_channels); logits are divided by ``temperature``."""

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Minus the weighted sum of the log-likelihoods."""
        return -_weighted_sum(self.log_likelihood(output, target), weight)

    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """The weighted sum of the log-likelihoods."""
        return _weighted_sum(self.log_likelihood(output, target), weight)

    def probabilities(self, output: Tensor) -> Tensor:
        """That each channel is on in the next frame, (items, n_channels)."""
        return self.logits(output).sigmoid()


class BernoulliHead(DensityHead):
    """Channels that are independent of one another given the past.

    Parameters
    ----------
    in_features : int
    n_channels : int
    kind : {"linear", "none"}
    generator : torch.Generator, optional
    rates : Tensor of shape (n_channels,), optional
        How often each channel is on; the projection's bias starts there.
    """

    def __init__(
        self,
        in_features: int,
        n_channels: int,
        kind: str = "linear",
        generator: torch.Generator | None = None,
        rates: Tensor | None = None,
    ) -> None:
        super().__init__(in_features, n_channels, kind, generator)
        if rates is not None and isinstance(self.projection, nn.Linear):
            with torch.no_grad():
                self.projection.bias.copy_(torch.logit(rates))

    def logits(self, output: Tensor) -> Tensor:
        """The output itself."""
        return output

    def log_likelihood(self, output: Tensor, target: Tensor, step: Tensor | None = None) -> Tensor:
        """Sum over the channels."""
        return -functional.binary_cross_entropy_with_logits(output, target, reduction="none").sum(dim=1)

    def sample(self, output: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
        """Each channel by itself."""
        return torch.bernoulli((output / temperature).sigmoid(), generator=generator)


class _JointHead(DensityHead, ABC):
    """Channels that depend on one another: a linear layer makes the biases of a model of the whole frame.

    Parameters
    ----------
    in_features : int
    n_channels : int
    n_hidden : int
        Hidden units of that model.
    generator : torch.Generator, optional
    rates : Tensor of shape (n_channels,), optional
        How often each channel is on; the visible units' biases start there.
    """

    draws: ClassVar[int] = 64  # from which probabilities of single channels are estimated
    model: NADE | RBM

    def __init__(
        self,
        in_features: int,
        n_channels: int,
        n_hidden: int,
        generator: torch.Generator | None = None,
        rates: Tensor | None = None,
    ) -> None:
        super().__init__(in_features, n_channels + n_hidden, "linear", generator)
        self.n_channels = n_channels
        if rates is not None:
            assert isinstance(self.projection, nn.Linear)
            with torch.no_grad():
                self.projection.bias[:n_channels] = torch.logit(rates)
        self._add_model(n_hidden, generator)

    @abstractmethod
    def _add_model(self, n_hidden: int, generator: torch.Generator | None) -> None:
        """Set ``model``."""

    @abstractmethod
    def _draw(self, b_v: Tensor, b_h: Tensor, generator: torch.Generator) -> Tensor:
        """An unbiased estimate of the probability of each channel."""

    def biases(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the visible units, (items, n_channels), and of the hidden ones, (items, n_hidden)."""
        output = output.to(self.model.W.device)
        return output[..., : self.n_channels], output[..., self.n_channels :]

    def logits(self, output: Tensor) -> Tensor:
        """There are none: a channel's probability depends on the other channels."""
        raise ValueError("A joint head has no logits of single channels; take metric='bernoulli' or head='linear'.")

    def probabilities(self, output: Tensor) -> Tensor:
        """Means over draws with a fixed seed, the same random numbers for every item."""
        b_v, b_h = self.biases(output)
        generator = torch.Generator(b_v.device).manual_seed(0)
        total = torch.zeros_like(b_v)
        for _ in range(self.draws):
            total += self._draw(b_v, b_h, generator)
        return (total / self.draws).to(output.device)


class NADEHead(_JointHead):
    """RNN-NADE: the channels of a frame one after the other, exactly (Boulanger-Lewandowski et al., ICML 2012)."""

    model: NADE

    def _add_model(self, n_hidden: int, generator: torch.Generator | None) -> None:
        self.model = NADE(self.n_channels, n_hidden, generator)

    def _draw(self, b_v: Tensor, b_h: Tensor, generator: torch.Generator) -> Tensor:
        return self.model.conditionals(self.model.sample(b_v, b_h, generator, shared=True), b_v, b_h)

    def log_likelihood(self, output: Tensor, target: Tensor, step: Tensor | None = None) -> Tensor:
        """Joint and exact."""
        b_v, b_h = self.biases(output)
        return self.model.log_prob(target.to(b_v.device), b_v, b_h).to(output.device)

    def sample(self, output: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
        """Channel after channel."""
        return self.model.sample(*self.biases(output), generator, temperature)


class RBMHead(_JointHead):
    """RNN-RBM: a restricted Boltzmann machine for each frame (Boulanger-Lewandowski et al., ICML 2012).

    It is trained by contrastive divergence, whose value means nothing; what is told as the loss is the cross-entropy
    of the frame and its reconstruction.
    """

    model: RBM

    def _add_model(self, n_hidden: int, generator: torch.Generator | None) -> None:
        self.model = RBM(self.n_channels, n_hidden, generator)
        self._seed = int(torch.randint(2**31 - 1, (), generator=generator))

    def _draw(self, b_v: Tensor, b_h: Tensor, generator: torch.Generator) -> Tensor:
        v = self.model.sample(b_v, b_h, generator=generator, shared=True)
        h = torch.addmm(b_h, v, self.model.W.T).sigmoid()
        h = (torch.rand(h.shape[1], generator=generator, device=h.device) < h).to(v)
        return torch.addmm(b_v, h, self.model.W).sigmoid()

    def log_likelihood(self, output: Tensor, target: Tensor, step: Tensor | None = None) -> Tensor:
        """Joint, estimated by annealed importance sampling unless a layer is small."""
        b_v, b_h = self.biases(output)
        return self.model.log_prob(target.to(b_v.device), b_v, b_h, position=step).to(output.device)

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """The gradient of contrastive divergence under the value of the reconstruction's cross-entropy."""
        b_v, b_h = self.biases(output)
        v = target.to(b_v)
        self._seed += 1
        generator = torch.Generator(b_v.device).manual_seed(self._seed)
        divergence = self.model.contrastive_divergence(v, b_v, b_h, generator=generator)
        with torch.no_grad():
            h = torch.addmm(b_h, v, self.model.W.T).sigmoid()
            logits = torch.addmm(b_v, h, self.model.W)
            told = functional.binary_cross_entropy_with_logits(logits, v, reduction="none").sum(dim=1)
        weight = None if weight is None else weight.to(b_v.device)
        return _weighted_sum(divergence - divergence.detach() + told, weight)

    def sample(self, output: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
        """From a Gibbs chain."""
        if temperature != 1.0:
            raise ValueError(f"head='rbm' draws at temperature 1 only, not {temperature}; take head='nade'.")
        return self.model.sample(*self.biases(output), generator=generator)


def density_head(
    kind: str,
    in_features: int,
    n_channels: int,
    n_hidden: int,
    generator: torch.Generator | None,
    rates: Tensor | None,
) -> DensityHead:
    """The head that ``kind``, one of DENSITY_HEADS, stands for."""
    check_choice("head", kind, DENSITY_HEADS)
    if kind == "nade":
        return NADEHead(in_features, n_channels, n_hidden, generator, rates)
    if kind == "rbm":
        return RBMHead(in_features, n_channels, n_hidden, generator, rates)
    return BernoulliHead(in_features, n_channels, kind, generator, rates)


class Model(nn.Module, ABC):
    """What is trained: a network, and a head that knows the loss."""

    network: SequenceNetwork
    head: Head

    @abstractmethod
    def features_of(self, batch: Any, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Return what the head reads of each item of a mini-batch, and the network's extra loss if it has one.

        Parameters
        ----------
        batch : object
            What the training data's ``take`` returns, see :class:`sfmts.training.TrainingData`.
        generator : torch.Generator, optional
            Source of dropout masks.

        Returns
        -------
        features : Tensor of shape (items, ...)
            Input of the head.
        extra_loss : Tensor or None
            The network's extra loss.
        """


class SequenceModel(Model):
    """Standardise, read, pool, project: a whole series, or each of its steps, to one output.

    Parameters
    ----------
    network : SequenceNetwork
    head : Head
    mean, scale : Tensor of shape (C,), optional
        Channels are shifted by ``mean`` and divided by ``scale`` first.
    pooling : {"last", "mean"}
        The network's summary of the whole sequence, or the mean of its states.  A head that is ``per_step`` sees the
        states themselves.
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

    def features_of(self, batch: Any, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the :meth:`features` of a :class:`sfmts.batch.SequenceBatch`, and the network's extra loss."""
        return self.features(batch.x, batch.lengths if batch.is_ragged else None, batch.t, generator)

    def features(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        time: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """What the head reads of each item, (items, H), and the network's extra loss if it has one.

        Steps are those within the series, one series behind the other.
        """
        output = self.network((x - self.mean) / self.scale, lengths, time=self._time(x, time), generator=generator)
        if self.head.per_step:
            features = output.states.flatten(0, 1) if lengths is None else output.states[_inside(x, lengths)]
        else:
            features = self._pooled(output, lengths)
        if self.training and self.dropout > 0.0:
            features = features * dropout_mask(features, self.dropout, generator)
        return features, output.extra_loss

    def _pooled(self, output: NetworkOutput, lengths: Tensor | None) -> Tensor:
        if self.pooling == "last":
            return output.final
        if lengths is None:
            return output.states.mean(dim=1)
        states = output.states  # zero behind a sequence's end
        return states.sum(dim=1) / lengths.to(states.device, states.dtype)[:, None]

    def forward(self, x: Tensor, lengths: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """Raw output of the head for raw series x (B, T, C): one for each series or, if per step, (B, T, ...)."""
        output: Tensor = self.head(self.features(x, lengths, time)[0])
        if not self.head.per_step:
            return output
        if lengths is None:
            return output.view(*x.shape[:2], -1)
        padded = output.new_zeros(*x.shape[:2], output.shape[1])
        padded[_inside(x, lengths)] = output
        return padded

    def state_amplitudes(self, x: Tensor, lengths: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """The network's amplitudes at each step; see :meth:`SequenceNetwork.state_amplitudes`."""
        return self.network.state_amplitudes((x - self.mean) / self.scale, lengths, time=self._time(x, time))

    def _time(self, x: Tensor, time: Tensor | None) -> Tensor | None:
        if time is None and self.time_channel is not None:
            return x[..., self.time_channel].double()
        return time


def _inside(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T): whether a step lies within its series."""
    return torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]
