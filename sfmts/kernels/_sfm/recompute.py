"""Save memory in long series: store the state between chunks of steps and recompute each chunk in the backward pass.

This works with any kernel. For T steps it keeps about as much as max(sqrt(T), 128) steps need, and takes one more
forward pass.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfmts.kernels._checks import refuse_second_derivatives
from sfmts.kernels._sfm.reference import SFMState, SFMWeights, last_rows

Kernel = Callable[..., tuple[Tensor, SFMState]]

_LEAST_STEPS = 128  # of a chunk: in shorter ones the calls cost more than the steps


@dataclass(frozen=True)
class _Plan:
    """The kernel and all arguments that have no gradient."""

    kernel: Kernel
    batch_sizes: tuple[int, ...]
    t: Tensor
    t_start: Tensor
    accumulated: bool
    feedback_mask: Tensor | None
    amplitudes: list[Tensor] | None

    def chunks(self) -> Iterator[tuple[slice, tuple[int, ...]]]:
        """Yield the packed rows and batch sizes of each chunk."""
        steps = max(_LEAST_STEPS, math.isqrt(len(self.batch_sizes)))
        row = 0
        for first in range(0, len(self.batch_sizes), steps):
            sizes = self.batch_sizes[first : first + steps]
            yield slice(row, row + sum(sizes)), sizes
            row += sum(sizes)

    def run(
        self,
        x: Tensor,
        rows: slice,
        sizes: tuple[int, ...],
        weights: SFMWeights,
        state: SFMState,
        watched: bool = False,
    ) -> tuple[Tensor, SFMState]:
        """Run the kernel over one chunk; only a ``watched`` run, the first one, collects amplitudes."""
        mask = None if self.feedback_mask is None else self.feedback_mask[: sizes[0]]
        return self.kernel(
            x,
            sizes,
            self.t[rows],
            weights,
            state,
            accumulated=self.accumulated,
            feedback_mask=mask,
            amplitudes=self.amplitudes if watched else None,
        )


class _Recomputed(torch.autograd.Function):
    """Keep the state before each chunk; in the backward pass, run each chunk again with autograd, last chunk first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        *tensors, plan = rest
        weights = SFMWeights(*tensors[:7])
        re, im, z, theta = tensors[7:]
        state = SFMState(re, im, z, plan.t_start, theta)
        outputs, starts, ended = [], [], []
        for rows, sizes in plan.chunks():
            n = sizes[0]
            ended.append(SFMState(*(value[n:] for value in state)))
            state = SFMState(*(value[:n] for value in state))
            starts.append(state)
            z, state = plan.run(x[rows], rows, sizes, weights, state, watched=True)
            outputs.append(z)
        last = [torch.cat(pieces) for pieces in zip(state, *reversed(ended), strict=True)]
        ctx.plan = plan
        ctx.save_for_backward(x, *weights, *(value for start in starts for value in start))
        return torch.cat(outputs), last[0], last[1], last[4]

    @staticmethod
    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("memory='recompute'", "memory='fast'")
        x, *saved = ctx.saved_tensors
        plan: _Plan = ctx.plan
        grad_z, *grad_last = grads  # of z, and of the last re, im and theta
        needs_x, *needs_weights = ctx.needs_input_grad[:8]
        leaves = [
            None if v is None else v.detach().requires_grad_(needed)
            for v, needed in zip(saved[:7], needs_weights, strict=True)
        ]
        totals = [None if v is None or not v.requires_grad else torch.zeros_like(v) for v in leaves]
        grad_x = torch.zeros_like(x) if needs_x else None
        chunks = list(plan.chunks())
        carry = [g[:0] for g in (grad_last[0], grad_last[1], grad_z, grad_last[2])]  # of re, im, z and theta
        for index in reversed(range(len(chunks))):
            rows, sizes = chunks[index]
            carry = _with_ended(carry, grad_last, sizes[0])
            start = SFMState._make(saved[7 + 5 * index : 12 + 5 * index])
            inputs = [v.detach().requires_grad_() for v in (start.re, start.im, start.z, start.theta)]
            x_rows = x[rows].detach().requires_grad_(needs_x)
            with torch.enable_grad():
                state = SFMState(inputs[0], inputs[1], inputs[2], start.t, inputs[3])
                z, after = plan.run(x_rows, rows, sizes, SFMWeights._make(leaves), state)
            outputs = [(z, grad_z[rows]), *zip((after.re, after.im, after.z, after.theta), carry, strict=True)]
            wanted = [v for v in (x_rows, *leaves, *inputs) if v is not None and v.requires_grad]
            found = dict(zip(map(id, wanted), _gradients(outputs, wanted), strict=True))
            if grad_x is not None:
                grad_x[rows] = found[id(x_rows)]
            for leaf, total in zip(leaves, totals, strict=True):
                if total is not None:
                    total += found[id(leaf)]
            carry = [found[id(v)] for v in inputs]
        return grad_x, *totals, *carry, None


def _with_ended(carry: list[Tensor], grad_last: list[Tensor], n: int) -> list[Tensor]:
    """Return the gradients of the state after a chunk of n sequences, including those that end in it."""
    now = len(carry[0])
    re, im, theta = (value[now:n] for value in grad_last)
    z = carry[2].new_zeros(n - now, carry[2].shape[1])  # the last z is a row of the output and gets its gradient there
    return [torch.cat(pair) for pair in zip(carry, (re, im, z, theta), strict=True)]


def _gradients(outputs: list[tuple[Tensor, Tensor]], wanted: list[Tensor]) -> list[Tensor]:
    values, grads = zip(*((v, g) for v, g in outputs if v.requires_grad), strict=True)
    return list(torch.autograd.grad(values, wanted, grads, allow_unused=True, materialize_grads=True))


def sfm(
    kernel: Kernel,
    x: Tensor,
    batch_sizes: Sequence[int],
    t: Tensor,
    weights: SFMWeights,
    state: SFMState,
    *,
    accumulated: bool = False,
    feedback_mask: Tensor | None = None,
    amplitudes: list[Tensor] | None = None,
) -> tuple[Tensor, SFMState]:
    """Run a kernel in chunks of steps, and keep only the state before each chunk for the backward pass.

    For all arguments except ``kernel`` see :func:`sfmts.kernels.sfm`. Time stamps get no gradient.
    """
    plan = _Plan(kernel, tuple(batch_sizes), t.detach(), state.t, accumulated, feedback_mask, amplitudes)
    z, re, im, theta = _Recomputed.apply(x, *weights, state.re, state.im, state.z, state.theta, plan)
    last = last_rows(batch_sizes, z.device)
    return z, SFMState(re, im, z[last], t[last], theta if accumulated else theta.detach())
