"""Run one SFM layer over a padded batch: from a network, under `torch.compile` and under `torch.export`."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from sfmts.kernels._checks import check_fits, check_rows, check_sizes, check_tensor
from sfmts.kernels._eager import eager
from sfmts.kernels._export import Tensors, check_loops, is_exporting, recorded_loop
from sfmts.kernels._packing import pack, unpack
from sfmts.kernels._sfm import reference, sfm
from sfmts.kernels._sfm.reference import SFMState, SFMWeights


def sfm_layer(
    x: Tensor,
    lengths: Tensor | None,
    t: Tensor,
    weights: SFMWeights,
    state: SFMState | None,
    *,
    backend: str = "auto",
    memory: str = "fast",
    accumulated: bool = False,
    feedback_mask: Tensor | None = None,
    amplitudes: list[Tensor] | None = None,
) -> tuple[Tensor, SFMState]:
    """Run one SFM or A-SFM layer over a padded batch.

    `torch.compile` breaks its graph here and runs the layer uncompiled, so training is as fast as without it.
    `torch.export` records one call of the operator ``sfmts::layer``, which has no gradient. With
    ``backend="reference"`` and without lengths it records PyTorch's own operations and a loop over the steps, which can
    be converted to ONNX.

    Parameters
    ----------
    x : Tensor of shape (B, T, N)
        Padded input.
    lengths : Tensor of shape (B,) or None
        Length of each sequence; None means that all are T.
    t : Tensor of shape (B, T), float64
        Time of each step.
    weights : SFMWeights
        Weights of the layer.
    state : SFMState or None
        State before the first step; None means zero.
    backend : {"auto", "reference", "fused", "native", "cuda"}, default="auto"
        The kernel; see :func:`sfmts.kernels.resolve_backend`.
    memory : {"fast", "recompute"}, default="fast"
        As in :func:`sfmts.kernels.sfm`.
    accumulated : bool, default=False
        Whether the phase of an adaptive layer is accumulated, as in :func:`sfmts.kernels.sfm`.
    feedback_mask : Tensor of shape (B, M), optional
        Multiplies z_{t-1} wherever a gate reads it.
    amplitudes : list, optional
        Receives A of shape (B, T, D, K), zero after the end of a sequence.

    Returns
    -------
    z : Tensor of shape (B, T, M)
        Output; zero after the end of a sequence.
    state : SFMState
        Each sequence's state after its own last step.
    """
    if is_exporting():
        check_exportable(dropout=feedback_mask is not None, amplitudes=amplitudes is not None)
        if backend == "reference" and lengths is None:
            return _scanned(x, t, weights, state, accumulated)
        before = [] if state is None else list(state)
        # PyTorch 2.7 cannot trace slices and _make of named tuples.
        *matrices, omega = weights
        z, *after = _operator(x, lengths, t, matrices, omega, before, backend, accumulated)
        return z, SFMState(*after)
    return _run(x, lengths, t, weights, state, backend, memory, accumulated, feedback_mask, amplitudes)


def _scanned(
    x: Tensor, t: Tensor, weights: SFMWeights, state: SFMState | None, accumulated: bool
) -> tuple[Tensor, SFMState]:
    """Run the steps of the reference kernel as one loop that `torch.export` records."""
    check_loops()
    weights = SFMWeights._make(None if value is None else value.detach() for value in weights)

    def step(before: Tensors, now: Tensors) -> tuple[Tensors, Tensor]:
        x_t, t_t = now
        after, _ = reference.sfm_step(x_t, t_t, weights, SFMState._make(before), accumulated)
        # A recorded loop may not return its inputs, nor the same tensor twice.
        return (after.re, after.im, after.z, after.t.clone(), after.theta), after.z.clone()

    before = SFMState.zeros(x.shape[0], weights) if state is None else state
    after, z = recorded_loop(step, tuple(before), (x.transpose(0, 1), t.T))
    return z.transpose(0, 1), SFMState._make(after)


def check_exportable(*, dropout: bool, amplitudes: bool) -> None:
    """Raise a RuntimeError for what the operator that `torch.export` records lacks: dropout and amplitudes."""
    if dropout or amplitudes:
        raise RuntimeError(
            "torch.export supports networks in evaluation mode and without state_amplitudes only; call network.eval() "
            "before."
        )


@eager
def _run(
    x: Tensor,
    lengths: Tensor | None,
    t: Tensor,
    weights: SFMWeights,
    state: SFMState | None,
    backend: str,
    memory: str,
    accumulated: bool,
    feedback_mask: Tensor | None,
    amplitudes: list[Tensor] | None,
) -> tuple[Tensor, SFMState]:
    _check(x, t, weights, state)
    before = SFMState.zeros(len(x), weights) if state is None else state
    kernel = partial(sfm, weights=weights, backend=backend, memory=memory, accumulated=accumulated)
    if lengths is None:  # nothing to sort
        batch, length = x.shape[:2]
        watched: list[Tensor] | None = None if amplitudes is None else []
        z, after = kernel(
            x.transpose(0, 1).reshape(batch * length, -1),
            [batch] * length,
            t.T.reshape(-1),
            state=before,
            feedback_mask=feedback_mask,
            amplitudes=watched,
        )
        if amplitudes is not None and watched is not None:
            amplitudes.append(torch.stack(watched, dim=1))
        return z.view(length, batch, -1).transpose(0, 1), after
    if feedback_mask is not None:
        check_fits("feedback_mask", feedback_mask, (len(x), weights.sizes[2]), x=x)
    packed = pack(x, lengths)
    order = packed.sorted_indices
    watched = None if amplitudes is None else []
    z, after = kernel(
        packed.data,
        packed.batch_sizes.tolist(),
        pack(t[..., None], lengths).data[:, 0],
        state=SFMState._make(value[order] for value in before),
        feedback_mask=None if feedback_mask is None else feedback_mask[order],
        amplitudes=watched,
    )
    if amplitudes is not None and watched is not None:
        amplitudes.append(unpack(packed, torch.cat(watched), x.shape[1]))
    return unpack(packed, z, x.shape[1]), SFMState._make(value[packed.unsorted_indices] for value in after)


def _check(x: Tensor, t: Tensor, weights: SFMWeights, state: SFMState | None) -> None:
    """Raise an error for invalid arguments that packing would hide; :func:`sfmts.kernels.sfm` checks the others."""
    check_sizes("x", check_tensor("x", x).shape, "(B, T, N)", 3)
    check_fits("t", t, tuple(x.shape[:2]), x=x)
    if not isinstance(weights, SFMWeights):
        raise TypeError(f"weights is of type {type(weights).__name__}, but must be an SFMWeights.")
    check_sizes("weights.W_z", check_tensor("weights.W_z", weights.W_z).shape, "(K, M, D)", 3)
    check_tensor("weights.V", weights.V)
    if state is not None and not isinstance(state, SFMState):
        raise TypeError(f"state is of type {type(state).__name__}, but must be an SFMState or None.")
    for name, value in () if state is None else zip(state._fields, state, strict=True):
        check_rows(f"state.{name}", value, len(x), "as x has")


@torch.library.custom_op("sfmts::layer", mutates_args=())
def _operator(
    x: Tensor,
    lengths: Tensor | None,
    t: Tensor,
    weights: Sequence[Tensor],
    omega: Tensor | None,
    state: Sequence[Tensor],
    backend: str,
    accumulated: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    before = SFMState._make(state) if state else None
    z, after = _run(
        x, lengths, t, SFMWeights._make((*weights, omega)), before, backend, "fast", accumulated, None, None
    )
    after = SFMState._make(value.clone() for value in after)
    return z.contiguous(), *after


@_operator.register_fake
def _(
    x: Tensor,
    lengths: Tensor | None,
    t: Tensor,
    weights: Sequence[Tensor],
    omega: Tensor | None,
    state: Sequence[Tensor],
    backend: str,
    accumulated: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, length = x.shape[:2]
    K, M, D = weights[4].shape
    new = weights[0].new_empty
    return (
        new(batch, length, M),
        new(batch, D, K),
        new(batch, D, K),
        new(batch, M),
        new(batch, dtype=torch.float64),
        new(batch, K, dtype=torch.float64),
    )
