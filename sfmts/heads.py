"""Heads: projection, loss, score and decoding of each kind of target, so that fit and predict always agree."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfmts._choices import check_choice
from sfmts.networks.energy import NADE, RBM

__all__ = ["BernoulliHead", "ClassificationHead", "Head", "RegressionHead"]

HEADS = ("linear", "none")
DENSITY_HEADS = (*HEADS, "nade", "rbm")
_SOFTNESS = 0.01  # the square of a small distance between quantiles of scaled values
QUANTILE_LEVELS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)


class Head(nn.Module, ABC):
    """Base class of heads: projection, loss and score of one kind of target.

    An item is a series or, if the head is ``per_step``, a step of a series.

    Parameters
    ----------
    in_features : int
        Width H of the network's output.
    n_logits : int
        Width of the head's raw output.
    kind : {"linear", "none"}
        "linear" projects with weights and biases. "none" takes the features themselves as output, as the paper does
        with z; H must then equal ``n_logits``.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global generator by default.

    Attributes
    ----------
    per_step : bool
        Whether an item is a step of a series.
    batches_alike : bool
        Whether each mini-batch has the same weight in training. Otherwise each item counts by its own weight.

    Raises
    ------
    ValueError
        If ``kind`` is unknown, or is "none" and the widths differ.
    """

    per_step: bool = False
    batches_alike: ClassVar[bool] = False

    def __init__(self, in_features: int, n_logits: int, kind: str, generator: torch.Generator | None) -> None:
        super().__init__()
        self.n_logits = n_logits
        check_choice("head", kind, HEADS)
        if kind == "none":
            if in_features != n_logits:
                raise ValueError(
                    f"head='none' uses the network's output unchanged, so n_outputs={n_logits} is needed here, but the "
                    f"output has width {in_features}."
                )
            self.projection: nn.Module = nn.Identity()
        else:
            linear = nn.utils.skip_init(nn.Linear, in_features, n_logits)
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
            self.projection = linear

    def forward(self, features: Tensor) -> Tensor:
        """Project features to the head's raw output.

        Parameters
        ----------
        features : Tensor of shape (..., H)
            What the network and the pooling make of each item.

        Returns
        -------
        output : Tensor of shape (..., n_logits)
            Raw output.
        """
        output: Tensor = self.projection(features)
        return output

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the weighted sum of the items' losses.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Raw output.
        target : Tensor of shape (items, ...)
            What should be predicted.
        weight : Tensor of shape (items,) or None
            Weight of each item; 1 if None.

        Returns
        -------
        loss : Tensor
            A scalar.
        """

    @abstractmethod
    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the weighted sum of the items' scores; greater is better.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Raw output.
        target : Tensor of shape (items, ...)
            What should be predicted.
        weight : Tensor of shape (items,) or None
            Weight of each item; 1 if None.

        Returns
        -------
        score : Tensor
            A scalar.
        """


def _weighted_sum(values: Tensor, weight: Tensor | None) -> Tensor:
    return (values if weight is None else values * weight).sum()


class ItemwiseHead(Head, ABC):
    """Base class of heads whose loss is a sum over items; parameters as :class:`Head`."""

    @abstractmethod
    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each item.

        Parameters
        ----------
        output : Tensor of shape (items, ...)
            Raw output.
        target : Tensor of shape (items, ...)
            What should be predicted.

        Returns
        -------
        losses : Tensor of shape (items,)
            Losses.
        """

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the weighted sum of the items' :meth:`losses`.

        Parameters
        ----------
        output : Tensor of shape (items, ...)
            Raw output.
        target : Tensor of shape (items, ...)
            What should be predicted.
        weight : Tensor of shape (items,) or None
            Weight of each item; 1 if None.

        Returns
        -------
        loss : Tensor
            A scalar.
        """
        return _weighted_sum(self.losses(output, target), weight)


class ClassificationHead(ItemwiseHead):
    """Class logits, cross-entropy and probabilities.

    Two classes share one logit, that of the second class, as in the paper's first task.

    Parameters
    ----------
    in_features : int
        Width H of the network's output.
    n_classes : int
        Number of classes.
    kind : {"linear", "none"}
        See :class:`Head`.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global generator by default.
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
        """Return the number of logits for a number of classes.

        Parameters
        ----------
        n_classes : int
            Number of classes.

        Returns
        -------
        n_logits : int
            1 for two classes, otherwise ``n_classes``.
        """
        return 1 if n_classes == 2 else n_classes

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of each item.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Logits.
        target : Tensor of shape (items,), int64
            Number of each item's class.

        Returns
        -------
        losses : Tensor of shape (items,)
            In nats.
        """
        if self.n_classes == 2:
            logits, binary = output[:, 0], target.to(output.dtype)
            return functional.binary_cross_entropy_with_logits(logits, binary, reduction="none")
        return functional.cross_entropy(output, target, reduction="none")

    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the weighted number of correct predictions.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Logits.
        target : Tensor of shape (items,), int64
            Number of each item's class.
        weight : Tensor of shape (items,) or None
            Weight of each item; 1 if None.

        Returns
        -------
        score : Tensor
            A scalar.
        """
        right = (self.log_probabilities(output).argmax(dim=1) == target).to(output.dtype)
        return _weighted_sum(right, weight)

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Return the logarithms of the class probabilities.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Logits.

        Returns
        -------
        log_probabilities : Tensor of shape (items, n_classes)
            In nats.
        """
        if self.n_classes == 2:  # log p = log sigmoid(-logit) for the first class, log sigmoid(logit) for the second
            return functional.logsigmoid(torch.cat([-output, output], dim=1))
        return functional.log_softmax(output, dim=1)


class RegressionHead(ItemwiseHead):
    """Least squares on targets that are scaled to mean 0 and variance 1.

    Parameters
    ----------
    in_features : int
        Width H of the network's output.
    n_targets : int
        Number of values per item.
    kind : {"linear", "none"}
        See :class:`Head`.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global generator by default.
    mean, scale : Tensor of shape (n_targets,), optional
        Targets are shifted by ``mean`` and divided by ``scale``; 0 and 1 by default.
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

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of each item, averaged over its targets.

        Parameters
        ----------
        output : Tensor of shape (items, n_targets)
            Predictions on the scale of the head.
        target : Tensor of shape (items, n_targets)
            Values on their own scale.

        Returns
        -------
        losses : Tensor of shape (items,)
            Squared errors on the scale of the head.
        """
        return (output - self.standardised(target).to(output)).square().mean(dim=1)

    def standardised(self, target: Tensor) -> Tensor:
        """Return targets on the scale of the head, in double precision: a unit such as a date may be far from 0.

        Parameters
        ----------
        target : Tensor of shape (items, n_targets)
            Values on their own scale.

        Returns
        -------
        standardised : Tensor of shape (items, n_targets), float64
            Shifted by ``mean`` and divided by ``scale``.
        """
        return (target.double() - self.mean.to(target.device)) / self.scale.to(target.device)

    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return 1 minus the loss, summed: R^2 if the targets vary as much as in training.

        Parameters
        ----------
        output : Tensor of shape (items, n_targets)
            Predictions on the scale of the head.
        target : Tensor of shape (items, n_targets)
            Values on their own scale.
        weight : Tensor of shape (items,) or None
            Weight of each item; 1 if None.

        Returns
        -------
        score : Tensor
            A scalar.
        """
        items = output.new_ones(len(output))
        return _weighted_sum(items, weight) - self.loss(output, target, weight)

    def predictions(self, output: Tensor) -> Tensor:
        """Return predictions on the scale of the targets.

        Parameters
        ----------
        output : Tensor of shape (items, n_targets)
            Raw output.

        Returns
        -------
        predictions : Tensor of shape (items, n_targets), float64
            Predicted values.
        """
        return output.double() * self.scale.to(output.device) + self.mean.to(output.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast the module, but keep the targets' mean and scale in double precision."""
        exact = {name: getattr(self, name) for name in ("mean", "scale")}
        super()._apply(fn, recurse)
        for name, value in exact.items():
            setattr(self, name, value.double().to(getattr(self, name).device))
        return self


def _running_sums(x: Tensor) -> Tensor:
    """Return the cumulative sums along the last axis."""
    if x.device.type == "cpu":
        return x.cumsum(-1)
    return x @ x.new_ones(x.shape[-1], x.shape[-1]).triu()  # cumsum is not deterministic on a GPU


class QuantileHead(ItemwiseHead):
    """Quantiles that never cross, by the pinball loss.

    The raw output holds the median and, through :meth:`gaps`, the distances between neighbouring levels. Between the
    levels and outside of them, quantiles are linear in the quantiles of the normal distribution.

    Parameters
    ----------
    levels : tuple of float
        Increasing levels. Their number is odd and the middle one is 0.5.
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
        """Return the levels of the quantiles.

        Returns
        -------
        levels : Tensor of shape (n_levels,), float64
            Double precision whatever the type of the module.
        """
        return torch.tensor(self._levels, dtype=torch.float64)

    @staticmethod
    def gaps(raw: Tensor) -> Tensor:
        """Map real numbers to positive ones: (x + sqrt(x^2 + c)) / 2.

        The function is as smooth as softplus and several times as fast.

        Parameters
        ----------
        raw : Tensor
            Real numbers.

        Returns
        -------
        gaps : Tensor
            Positive numbers.
        """
        return (raw + (raw.square() + _SOFTNESS).sqrt()) / 2.0

    @staticmethod
    def raw_gaps(gaps: Tensor) -> Tensor:
        """Invert :meth:`gaps`.

        Parameters
        ----------
        gaps : Tensor
            Positive numbers.

        Returns
        -------
        raw : Tensor
            Real numbers.
        """
        return gaps - _SOFTNESS / (4.0 * gaps)

    def quantiles(self, output: Tensor, calibrated: bool = True) -> Tensor:
        """Return the quantiles at the levels.

        Parameters
        ----------
        output : Tensor of shape (..., n_levels)
            Raw output: the median, then the raw gaps from the lowest level to the highest.
        calibrated : bool
            Whether to multiply distances from the median by ``stretch``.

        Returns
        -------
        quantiles : Tensor of shape (..., n_levels)
            Increasing values.
        """
        median, gaps = output[..., :1], self.gaps(output[..., 1:])
        if calibrated:
            gaps = gaps * self.stretch.to(gaps)
        # q_{m +- j} = q_m +- (gap_1 + ... + gap_j), counted outwards from the median q_m
        below, above = gaps[..., : self.middle], gaps[..., self.middle :]
        return torch.cat(
            [median - _running_sums(below.flip(-1)).flip(-1), median, median + _running_sums(above)],
            dim=-1,
        )

    def interpolated(self, values: Tensor, alpha: Tensor) -> Tensor:
        """Return quantiles at any levels.

        Parameters
        ----------
        values : Tensor of shape (..., n_levels)
            Quantiles at the head's levels.
        alpha : Tensor of shape (A,), float64
            Levels, strictly between 0 and 1.

        Returns
        -------
        quantiles : Tensor of shape (..., A)
            Linear in the normal quantiles of the levels.
        """
        at, wanted = torch.special.ndtri(self.levels).to(values.device), torch.special.ndtri(alpha).to(values.device)
        right = torch.searchsorted(at, wanted).clamp(1, len(at) - 1)
        share = ((wanted - at[right - 1]) / (at[right] - at[right - 1])).to(values)
        return torch.lerp(values[..., right - 1], values[..., right], share)

    def fine_levels(self) -> Tensor:
        """Return levels that are dense enough to draw the distribution.

        Returns
        -------
        levels : Tensor, float64
            Increasing levels, the head's own among them.
        """
        even = torch.special.ndtr(torch.linspace(-4.0, 4.0, 81, dtype=torch.float64))
        apart = (even[:, None] - self.levels).abs().min(1).values > 1e-9  # rounding makes two of one
        return torch.cat([even[apart], self.levels]).sort().values

    def variance(self, values: Tensor, bounded: Callable[[Tensor], Tensor] = lambda drawn: drawn) -> Tensor:
        """Return the variance of the distribution that has these quantiles.

        Parameters
        ----------
        values : Tensor of shape (..., n_levels)
            Quantiles at the head's levels.
        bounded : callable
            Brings values of shape (..., A) into the range of the variable.

        Returns
        -------
        variance : Tensor of shape (...)
            The integral of (q - mean)^2 over the levels.
        """
        # With alpha = Phi(u) the integral over levels becomes one over u with the normal density as weight.
        normal = torch.linspace(-6.0, 6.0, 241, dtype=torch.float64)
        density = (-normal.square() / 2).exp()
        drawn = bounded(self.interpolated(values, torch.special.ndtr(normal)))
        density = (density / density.sum()).to(drawn)
        mean = drawn @ density
        return (drawn - mean[..., None]).square() @ density

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the pinball loss of each item, averaged over the levels and over its known targets.

        Parameters
        ----------
        output : Tensor of shape (items, ..., n_levels)
            Raw output.
        target : Tensor of shape (items, ...)
            Values; NaN is unknown.

        Returns
        -------
        losses : Tensor of shape (items,)
            Of the quantiles without ``stretch``.
        """
        return self.pinball(self.quantiles(output, calibrated=False), target)

    def pinball(self, quantiles: Tensor, target: Tensor) -> Tensor:
        """Return the pinball loss of each item, averaged over the levels and over its known targets.

        Parameters
        ----------
        quantiles : Tensor of shape (items, ..., n_levels)
            Quantiles at the head's levels.
        target : Tensor of shape (items, ...)
            Values; NaN is unknown.

        Returns
        -------
        losses : Tensor of shape (items,)
            Mean losses.
        """
        known = target.isfinite()
        errors = torch.where(known, target, 0.0)[..., None] - quantiles
        levels = self.levels.to(errors)
        # max(alpha e, (alpha - 1) e) for the error e = y - q_alpha
        losses = torch.maximum(levels * errors, (levels - 1.0) * errors).mean(-1) * known
        return losses.flatten(1).sum(1) / known.flatten(1).sum(1)

    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return minus the loss.

        Parameters
        ----------
        output : Tensor of shape (items, ..., n_levels)
            Raw output.
        target : Tensor of shape (items, ...)
            Values; NaN is unknown.
        weight : Tensor of shape (items,) or None
            Weight of each item; 1 if None.

        Returns
        -------
        score : Tensor
            A scalar.
        """
        return -self.loss(output, target, weight)


class DensityHead(Head):
    """Base class of densities of the next binary frame of each step, given the past; parameters as :class:`Head`."""

    per_step = True
    batches_alike = True

    @abstractmethod
    def logits(self, output: Tensor) -> Tensor:
        """Return the logit of each channel, independent of the other channels of the frame.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Raw output.

        Returns
        -------
        logits : Tensor of shape (items, n_channels)
            Logits that the channels are on.
        """

    @abstractmethod
    def log_likelihood(self, output: Tensor, target: Tensor, step: Tensor | None = None) -> Tensor:
        """Return the log-likelihood of each frame.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Raw output.
        target : Tensor of shape (items, n_channels)
            Binary frames.
        step : Tensor of shape (items,), int64, optional
            Number of each frame in its series. With it, an estimate does not depend on the other items.

        Returns
        -------
        log_likelihood : Tensor of shape (items,)
            In nats.
        """

    @abstractmethod
    def sample(self, output: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
        """Draw a next frame for each item.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Raw output.
        generator : torch.Generator or None
            Source of randomness; PyTorch's global generator if None.
        temperature : float
            Divides the logits.

        Returns
        -------
        frames : Tensor of shape (items, n_channels)
            Zeros and ones.
        """

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return minus the weighted sum of the log-likelihoods.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Raw output.
        target : Tensor of shape (items, n_channels)
            Binary frames.
        weight : Tensor of shape (items,) or None
            Weight of each item; 1 if None.

        Returns
        -------
        loss : Tensor
            A scalar, in nats.
        """
        return -_weighted_sum(self.log_likelihood(output, target), weight)

    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the weighted sum of the log-likelihoods.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Raw output.
        target : Tensor of shape (items, n_channels)
            Binary frames.
        weight : Tensor of shape (items,) or None
            Weight of each item; 1 if None.

        Returns
        -------
        score : Tensor
            A scalar, in nats.
        """
        return _weighted_sum(self.log_likelihood(output, target), weight)

    def probabilities(self, output: Tensor) -> Tensor:
        """Return the probability that each channel is on in the next frame.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Raw output.

        Returns
        -------
        probabilities : Tensor of shape (items, n_channels)
            Between 0 and 1.
        """
        return self.logits(output).sigmoid()


class BernoulliHead(DensityHead):
    """Channels that are independent of one another given the past.

    Parameters
    ----------
    in_features : int
        Width H of the network's output.
    n_channels : int
        Width of a frame.
    kind : {"linear", "none"}
        See :class:`Head`.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global generator by default.
    rates : Tensor of shape (n_channels,), optional
        How often each channel is on. The biases of the projection start at their logits.
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
        """Return the output unchanged.

        Parameters
        ----------
        output : Tensor of shape (items, n_channels)
            Raw output.

        Returns
        -------
        logits : Tensor of shape (items, n_channels)
            The same tensor.
        """
        return output

    def log_likelihood(self, output: Tensor, target: Tensor, step: Tensor | None = None) -> Tensor:
        """Return the log-likelihood of each frame, a sum over its channels.

        Parameters
        ----------
        output : Tensor of shape (items, n_channels)
            Logits.
        target : Tensor of shape (items, n_channels)
            Binary frames.
        step : Tensor of shape (items,), int64, optional
            Not used, because the log-likelihood is exact.

        Returns
        -------
        log_likelihood : Tensor of shape (items,)
            In nats.
        """
        return -functional.binary_cross_entropy_with_logits(output, target, reduction="none").sum(dim=1)

    def sample(self, output: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
        """Draw each channel independently.

        Parameters
        ----------
        output : Tensor of shape (items, n_channels)
            Logits.
        generator : torch.Generator or None
            Source of randomness; PyTorch's global generator if None.
        temperature : float
            Divides the logits.

        Returns
        -------
        frames : Tensor of shape (items, n_channels)
            Zeros and ones.
        """
        return torch.bernoulli((output / temperature).sigmoid(), generator=generator)


class _JointHead(DensityHead, ABC):
    """Channels that depend on one another: a linear layer makes the biases of a model of the whole frame.

    Parameters
    ----------
    in_features : int
        Width H of the network's output.
    n_channels : int
        Width of a frame.
    n_hidden : int
        Hidden units of the model of a frame.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global generator by default.
    rates : Tensor of shape (n_channels,), optional
        How often each channel is on. The visible units' biases start at their logits.
    """

    draws: ClassVar[int] = 64  # the number of draws from which probabilities of single channels are estimated
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
        """Return an unbiased estimate of the probability of each channel."""

    def biases(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return the biases of the visible units, (items, n_channels), and of the hidden ones, (items, n_hidden)."""
        output = output.to(self.model.W.device)
        return output[..., : self.n_channels], output[..., self.n_channels :]

    def logits(self, output: Tensor) -> Tensor:
        """Raise ValueError: the probability of a channel depends on the other channels."""
        raise ValueError("A joint head has no logits of single channels; use head='linear'.")

    def probabilities(self, output: Tensor) -> Tensor:
        """Return means over draws from a fixed seed, with the same random numbers for every item."""
        b_v, b_h = self.biases(output)
        generator = torch.Generator(b_v.device).manual_seed(0)
        total = torch.zeros_like(b_v)
        for _ in range(self.draws):
            total += self._draw(b_v, b_h, generator)
        return (total / self.draws).to(output.device)


class NADEHead(_JointHead):
    """RNN-NADE: the exact joint density of a frame, channel after channel (Boulanger-Lewandowski et al., ICML 2012).

    See ``density_head`` for the parameters and :class:`sfmts.networks.energy.NADE` for the density.
    """

    model: NADE

    def _add_model(self, n_hidden: int, generator: torch.Generator | None) -> None:
        self.model = NADE(self.n_channels, n_hidden, generator)

    def _draw(self, b_v: Tensor, b_h: Tensor, generator: torch.Generator) -> Tensor:
        # p(v_i = 1 | v_<i), averaged over draws of v, estimates p(v_i = 1) with less noise than the draws themselves.
        return self.model.conditionals(self.model.sample(b_v, b_h, generator, shared=True), b_v, b_h)

    def log_likelihood(self, output: Tensor, target: Tensor, step: Tensor | None = None) -> Tensor:
        """Return the exact joint log-likelihood of each frame.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Biases of the visible units and of the hidden units.
        target : Tensor of shape (items, n_channels)
            Binary frames.
        step : Tensor of shape (items,), int64, optional
            Not used, because the log-likelihood is exact.

        Returns
        -------
        log_likelihood : Tensor of shape (items,)
            In nats.
        """
        b_v, b_h = self.biases(output)
        return self.model.log_prob(target.to(b_v.device), b_v, b_h).to(output.device)

    def sample(self, output: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
        """Draw channel after channel.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Biases of the visible units and of the hidden units.
        generator : torch.Generator or None
            Source of randomness; PyTorch's global generator if None.
        temperature : float
            Divides the logits.

        Returns
        -------
        frames : Tensor of shape (items, n_channels)
            Zeros and ones.
        """
        return self.model.sample(*self.biases(output), generator, temperature)


class RBMHead(_JointHead):
    """RNN-RBM: a restricted Boltzmann machine for each frame (Boulanger-Lewandowski et al., ICML 2012).

    Training follows the gradient of contrastive divergence. The value of contrastive divergence has no meaning, so the
    reported loss is the cross-entropy between a frame and its reconstruction. See ``density_head`` for the
    parameters and :class:`sfmts.networks.energy.RBM` for the density.
    """

    model: RBM

    def _add_model(self, n_hidden: int, generator: torch.Generator | None) -> None:
        self.model = RBM(self.n_channels, n_hidden, generator)
        self.seed = int(torch.randint(2**31 - 1, (), generator=generator))

    def _draw(self, b_v: Tensor, b_h: Tensor, generator: torch.Generator) -> Tensor:
        # The last half step takes probabilities, p(v | h), instead of draws: the same mean with less noise.
        v = self.model.sample(b_v, b_h, generator=generator, shared=True)
        h = torch.addmm(b_h, v, self.model.W.T).sigmoid()
        h = (torch.rand(h.shape[1], generator=generator, device=h.device) < h).to(v)
        return torch.addmm(b_v, h, self.model.W).sigmoid()

    def log_likelihood(self, output: Tensor, target: Tensor, step: Tensor | None = None) -> Tensor:
        """Return the joint log-likelihood of each frame.

        It is exact if a layer is small. Otherwise annealed importance sampling estimates it.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Biases of the visible units and of the hidden units.
        target : Tensor of shape (items, n_channels)
            Binary frames.
        step : Tensor of shape (items,), int64, optional
            Number of each frame in its series. With it, an estimate does not depend on the other items.

        Returns
        -------
        log_likelihood : Tensor of shape (items,)
            In nats.
        """
        b_v, b_h = self.biases(output)
        return self.model.log_prob(target.to(b_v.device), b_v, b_h, position=step).to(output.device)

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the cross-entropy of the reconstruction, with the gradient of contrastive divergence.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Biases of the visible units and of the hidden units.
        target : Tensor of shape (items, n_channels)
            Binary frames.
        weight : Tensor of shape (items,) or None
            Weight of each item; 1 if None.

        Returns
        -------
        loss : Tensor
            A scalar, in nats.
        """
        b_v, b_h = self.biases(output)
        v = target.to(b_v)
        self.seed += 1
        generator = torch.Generator(b_v.device).manual_seed(self.seed)
        divergence = self.model.contrastive_divergence(v, b_v, b_h, generator=generator)
        with torch.no_grad():
            h = torch.addmm(b_h, v, self.model.W.T).sigmoid()
            logits = torch.addmm(b_v, h, self.model.W)
            reported = functional.binary_cross_entropy_with_logits(logits, v, reduction="none").sum(dim=1)
        weight = None if weight is None else weight.to(b_v.device)
        # x - x.detach() is 0 and has the gradient of x.
        return _weighted_sum(divergence - divergence.detach() + reported, weight)

    def sample(self, output: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
        """Draw from a Gibbs chain.

        Parameters
        ----------
        output : Tensor of shape (items, n_logits)
            Biases of the visible units and of the hidden units.
        generator : torch.Generator or None
            Source of randomness; PyTorch's global generator if None.
        temperature : float
            Must be 1.

        Returns
        -------
        frames : Tensor of shape (items, n_channels)
            Zeros and ones.

        Raises
        ------
        ValueError
            If ``temperature`` is not 1.
        """
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
    """Build the density head of a name.

    Parameters
    ----------
    kind : {"linear", "none", "nade", "rbm"}
        Independent channels with a linear layer or without one, NADE, or RBM.
    in_features : int
        Width H of the network's output.
    n_channels : int
        Width of a frame.
    n_hidden : int
        Hidden units, for "nade" and "rbm".
    generator : torch.Generator or None
        Source of the initial weights; PyTorch's global generator if None.
    rates : Tensor of shape (n_channels,) or None
        How often each channel is on. The visible units' biases start at their logits.

    Returns
    -------
    head : DensityHead
        The head.

    Raises
    ------
    ValueError
        If ``kind`` is unknown.
    """
    check_choice("head", kind, DENSITY_HEADS)
    if kind == "nade":
        return NADEHead(in_features, n_channels, n_hidden, generator, rates)
    if kind == "rbm":
        return RBMHead(in_features, n_channels, n_hidden, generator, rates)
    return BernoulliHead(in_features, n_channels, kind, generator, rates)
