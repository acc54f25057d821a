"""The forecaster's model: from a window of the past to quantiles of all steps of a horizon at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sfmts._precision import own_precision
from sfmts.forecasting.windows import WindowBatch, WindowSet, window_set
from sfmts.heads import QuantileHead
from sfmts.model import Model
from sfmts.networks._common import dropout_mask
from sfmts.networks.base import SequenceNetwork

_PREDICTION_BATCH = 512


@dataclass(frozen=True)
class HorizonShape:
    """Sizes of a forecast.

    Attributes
    ----------
    context_length, horizon : int
        L and H, the steps of the past that are read and the steps that are forecast.
    segment_length : int
        Steps that are read by one step of the network, or forecast from one position.
    n_variables, n_covariates : int
        V and F, in a window.
    n_series : int
        Number of variables with windows of their own; 1 if a window holds all variables.
    past_only : tuple of int
        Columns of the covariates that are unknown in the horizon.
    """

    context_length: int
    horizon: int
    segment_length: int
    n_variables: int
    n_covariates: int
    n_series: int
    past_only: tuple[int, ...] = ()

    @property
    def segment_width(self) -> int:
        """Return the size of a segment.

        Returns
        -------
        width : int
            Number of values, mask entries and covariates of all its steps.
        """
        return self.segment_length * (self.n_variables + 1 + self.n_covariates)

    @classmethod
    def of_panel(
        cls,
        lengths: Sequence[int],
        *,
        n_variables: int,
        n_covariates: int,
        horizon: int,
        periods: tuple[int, ...],
        joint: bool,
        past_only: tuple[int, ...] = (),
        context_length: int | None = None,
        segment_length: int | None = None,
    ) -> Self:
        """Return the sizes for a panel; those that are not given follow from the lengths of its series.

        Parameters
        ----------
        lengths : sequence of int
            Steps of each series.
        n_variables, n_covariates : int
            Variables and covariates of each series.
        horizon : int
            Steps that are forecast.
        periods : tuple of int
            Steps in each season, increasing; empty if the series have none.
        joint : bool
            Whether a window holds all variables.
        past_only : tuple of int
            Columns of the covariates that are unknown in the horizon.
        context_length, segment_length : int, optional
            Steps of the past that are read, and steps that are read at once.

        Returns
        -------
        shape : HorizonShape
            All sizes.
        """
        length, season = int(np.median(lengths)), max(periods, default=0)
        if context_length is None:
            # An eighth of a series leaves most of it to cut windows from; two seasons show what repeats.
            most = max(14 * season, 2 * horizon, 96)
            context_length = min(max(2 * season, length // 8, 12), most, max(length - 1, 1))
        context_length = min(context_length, max(max(lengths) - 1, 1))  # more would be padding
        if segment_length is None:
            # Few recurrent steps are quick; segments that are whole seasons have the same phase.
            whole = [period for period in periods if period <= 64 and 8 * period <= context_length]
            many = max(whole, default=math.ceil(context_length / 16))
            segment_length = 1 if context_length <= 64 else many
        in_window, n_series = (n_variables, 1) if joint else (1, n_variables)
        return cls(int(context_length), horizon, int(segment_length), in_window, n_covariates, n_series, past_only)


class HorizonModel(Model):
    """A linear forecast, corrected by a network that reads the past in segments.

    Segments of several steps reduce the number of recurrent steps. All steps of the horizon are decoded in parallel,
    from one summary of the past and an embedding of their position (Lin et al., "SegRNN", 2023). A new model's
    correction is zero.

    Parameters
    ----------
    network : SequenceNetwork
        Reads the embedded segments.
    head : QuantileHead
        Turns the raw output into quantiles.
    shape : HorizonShape
        Sizes of the forecast.
    dropout : float
        Probability with which an entry of the summary or of a decoded position is dropped in training.
    generator : torch.Generator, optional
        Source of the initial parameters.

    Notes
    -----
    With the scaled past z (L, V), the linear forecast A (H, L), the covariates' change c (H, F), their effects beta
    (V, F), the segments s_1, ..., s_n of the past, and the embeddings g_p and e_p of position p, the raw output is::

        summary = W_s network(relu(W_e s_1), ..., relu(W_e s_n)) + v_series
        network part = W_d gelu(summary * g_p + e_p) + W_r gelu(W_c x_future + summary)
        median = A z + c beta' + network part
        raw gaps between quantiles = spread + network part
    """

    linear: Tensor
    head: QuantileHead

    def __init__(
        self,
        network: SequenceNetwork,
        head: QuantileHead,
        shape: HorizonShape,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.network, self.head, self.shape, self.dropout = network, head, shape, dropout
        width, positions = network.output_size, math.ceil(shape.horizon / shape.segment_length)
        self.embed = _linear_layer(shape.segment_width, network.n_channels, generator)
        self.summary = _linear_layer(width, width, generator)
        self.position = nn.Parameter(torch.empty(positions, width).normal_(0.0, 0.02, generator=generator))
        self.gain = nn.Parameter(torch.ones(positions, width))
        self.variable = nn.Parameter(torch.zeros(shape.n_series, width))
        self.decode = _zero_layer(width, shape.segment_length * shape.n_variables * head.n_logits)
        if shape.n_covariates:
            self.covariate = _linear_layer(shape.n_covariates, width, generator)
            self.respond = _zero_layer(width, shape.n_variables * head.n_logits)
        self.slope = nn.Parameter(torch.zeros(shape.n_series, shape.n_variables, shape.n_covariates))
        self.spread = nn.Parameter(torch.zeros(shape.horizon, shape.n_variables, head.n_logits - 1))
        self.register_buffer("linear", torch.zeros(shape.horizon, shape.context_length))

    def features_of(self, batch: WindowBatch, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the raw output of windows, and the network's extra loss if it has one.

        Parameters
        ----------
        batch : WindowBatch
            The windows.
        generator : torch.Generator, optional
            Source of dropout masks.

        Returns
        -------
        raw : Tensor of shape (B, H, V, levels)
            The median, then the raw gaps between quantiles, as ``QuantileHead`` reads them.
        extra_loss : Tensor or None
            The network's extra loss.
        """
        B, V, n_logits = len(batch), self.shape.n_variables, self.head.n_logits
        summary, extra_loss = self._summary(batch, generator)
        # One position puts out a whole segment; the last segment may reach beyond the horizon.
        decoded = functional.gelu(summary[:, None] * self.gain + self.position)
        raw = self.decode(self._dropped(decoded, generator)).view(B, -1, V, n_logits)
        raw = raw[:, : self.shape.horizon]
        # The linear forecast of the median, A z.
        median = torch.einsum("blv,hl->bhv", batch.past, self.linear)
        if self.shape.n_covariates:
            known = functional.gelu(self.covariate(batch.future_covariates) + summary[:, None])
            raw = raw + self.respond(self._dropped(known, generator)).view_as(raw)
            median = median + self._driven(batch)
        spread = self.spread.expand(B, -1, -1, -1)
        return raw + torch.cat([median[..., None], spread], dim=3), extra_loss

    def _summary(self, batch: WindowBatch, generator: torch.Generator | None) -> tuple[Tensor, Tensor | None]:
        """Return what the network makes of the past, (B, width), and its extra loss."""
        L, segment = self.shape.context_length, self.shape.segment_length
        steps = torch.cat([batch.past, batch.mask[..., None].to(batch.past), batch.past_covariates], dim=2)
        # Padding goes before the past, so that the last segment ends where the horizon begins.
        segments = functional.pad(steps, (0, 0, -L % segment, 0)).reshape(len(batch), -1, self.shape.segment_width)
        output = self.network(self.embed(segments).relu(), generator=generator)
        return self.summary(self._dropped(output.final, generator)) + self.variable[batch.variable], output.extra_loss

    def _driven(self, batch: WindowBatch) -> Tensor:
        """Return what the covariates of the horizon add to the linear forecast, c beta', (B, H, V)."""
        change = covariate_change(batch, self.linear)
        return torch.einsum("bhf,bvf->bhv", change, self.slope[batch.variable])

    def _dropped(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        if not (self.training and self.dropout > 0.0):
            return features
        return features * dropout_mask(features, self.dropout, generator)


def covariate_change(batch: WindowBatch, linear: Tensor) -> Tensor:
    """Return the covariates of the horizon less what a linear forecast expects of them.

    The past of a series contains the effects of the past covariates, and so does its linear forecast A z. Only the rest
    is still to be explained: c = x_future - A x_past, both less the mean of the past.

    Parameters
    ----------
    batch : WindowBatch
        The windows.
    linear : Tensor of shape (H, L)
        The linear forecast A.

    Returns
    -------
    change : Tensor of shape (B, H, F)
        The difference c.
    """
    past, future = batch.centred_covariates()
    return future - torch.einsum("blf,hl->bhf", past, linear)


@own_precision()
@torch.no_grad()
def window_quantiles(model: HorizonModel, windows: WindowSet) -> Tensor:
    """Return the quantiles that a model forecasts for each cut, in the units of the series.

    Parameters
    ----------
    model : HorizonModel
        The model, in evaluation mode.
    windows : WindowSet
        The windows. If a window holds one variable, all variables of a cut must follow one another.

    Returns
    -------
    quantiles : Tensor of shape (cuts, H, V, levels), float64
        On the CPU.
    """
    parameter = next(model.parameters())
    windows = windows.to(parameter.device, parameter.dtype)
    parts = []
    for index in torch.arange(len(windows)).split(_PREDICTION_BATCH):
        batch = windows.take(index)
        quantiles = model.head.quantiles(model.features_of(batch)[0]).double()
        # y = scale z + center, in float64: units may have a distant origin.
        parts.append((quantiles * batch.scale[:, None, :, None] + batch.center[:, None, :, None]).cpu())
    values = torch.cat(parts)
    if windows.variables is None:
        return values
    _, H, _, levels = values.shape
    return values.view(-1, windows.values.shape[1], H, levels).transpose(1, 2)


def roll_out(
    model: HorizonModel,
    values: Sequence[NDArray[np.float64]],
    covariates: Sequence[NDArray[np.float64]],
    n_steps: int,
    joint: bool,
) -> list[Tensor]:
    """Return quantiles of the steps that follow each series.

    A forecast beyond the model's horizon continues from the model's own medians.

    Parameters
    ----------
    model : HorizonModel
        The model, in evaluation mode.
    values : sequence of n arrays of shape (T_i, V)
        The series.
    covariates : sequence of n arrays of shape (T_i + n_steps, F)
        What is known in advance of their steps and of those that follow.
    n_steps : int
        Steps to forecast.
    joint : bool
        Whether a window holds all variables.

    Returns
    -------
    quantiles : list of n Tensors of shape (n_steps, V, levels), float64
        On the CPU.
    """
    H, middle = model.shape.horizon, model.head.middle
    scales = np.stack([series.std(axis=0) for series in values])
    known, blocks, carried = list(values), [], torch.zeros(())
    for _ in range(0, n_steps, H):
        ends = [len(series) for series in known]
        windows = window_set(
            [np.pad(series, ((0, H), (0, 0)), constant_values=np.nan) for series in known],
            [resized(part, end + H) for part, end in zip(covariates, ends, strict=True)],
            model.shape.context_length,
            H,
            joint=joint,
            first=ends,
            last=ends,
            past_only=model.shape.past_only,
            scales=scales,
        )
        block = window_quantiles(model, windows)
        # Later blocks take earlier medians as known. Distances of quantiles from the median add up as independent
        # errors do: away^2 = away_of_block^2 + away_of_last_step_before^2.
        away = block - block[..., middle : middle + 1]
        away = away.sign() * (away.square() + carried.square()).sqrt()
        blocks.append(block[..., middle : middle + 1] + away)
        carried = away[:, -1:]
        medians = block[..., middle].numpy()
        known = [np.concatenate([series, median]) for series, median in zip(known, medians, strict=True)]
    return list(torch.cat(blocks, dim=1)[:, :n_steps])


def resized(rows: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the first rows, followed by zeros if there are fewer.

    Parameters
    ----------
    rows : ndarray of shape (T, F)
        Rows.
    n : int
        Wanted number of rows.

    Returns
    -------
    rows : ndarray of shape (n, F)
        A view or a copy.
    """
    return np.pad(rows, ((0, max(0, n - len(rows))), (0, 0)))[:n]


def _zero_layer(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer with zero weights."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _linear_layer(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """Return a linear layer with Glorot's initial weights, drawn from ``generator``."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
