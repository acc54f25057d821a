"""Run the SFM recurrence compiled for the processor, with a hand-written backward pass.

The signature and the results are those of ``reference.py``. The batch is cut into tiles of as many sequences as fit a
few vector registers. One thread runs a tile through all its steps, so threads never wait for each other within a call.
The sources are in ``cpu/``.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sfmts.kernels import _compiled
from sfmts.kernels._checks import address, plain, refuse_second_derivatives
from sfmts.kernels._sfm.reference import SFMState, SFMWeights, last_rows, wrap_phase
from sfmts.kernels._workspace import Workspace, allocate

_FLAGS = ("is_double", "keep", "adaptive", "accumulated", "threads", "B", "T", "N", "D", "K", "M")
_INPUTS = ("batch_sizes", "t", "t_start", "omega", "x", *SFMWeights._fields[:6], "re", "im", "z_start", "theta_start")
_OUTPUTS = ("mask", "z", "re_last", "im_last", "theta_last", "amplitudes")
_GRADIENTS_OF_OUTPUTS = ("dz", "dre_last", "dim_last", "dtheta_last")
_WEIGHT_GRADIENTS = tuple("d" + name for name in SFMWeights._fields)
_GRADIENTS = ("dx", *_WEIGHT_GRADIENTS, "dre", "dim", "dz_start", "dtheta_start")


class _Problem(ctypes.Structure):
    """Mirror of the struct in cpu/problem.h, field by field."""

    _fields_ = (
        [(name, ctypes.c_int64) for name in _FLAGS]
        + [
            (name, ctypes.c_void_p)
            for name in (*_INPUTS, *_OUTPUTS, *_GRADIENTS_OF_OUTPUTS, *_GRADIENTS, "history", "scratch")
        ]
        + [("history_bytes", ctypes.c_int64), ("scratch_bytes", ctypes.c_int64)]
    )

    def point(self, **tensors: Tensor | None) -> None:
        """Set addresses; the caller must keep the tensors alive."""
        for name, tensor in tensors.items():
            setattr(self, name, address(name, tensor))

    def run(self, instruction_set: str, pass_name: str) -> None:
        """Run one of the passes plan_forward, forward, plan_backward and backward."""
        _compiled.library.run(instruction_set, pass_name, ctypes.addressof(self))


class _Call:
    """The arguments of one call that have no gradient, and the memory that its backward pass needs."""

    def __init__(
        self,
        batch_sizes: Sequence[int],
        t: Tensor,
        t_start: Tensor,
        accumulated: bool,
        mask: Tensor | None,
        amplitudes: Tensor | None,
        keep: bool,
    ) -> None:
        self.batch_sizes = torch.tensor(batch_sizes, dtype=torch.int64)
        self.t, self.t_start, self.accumulated, self.keep = plain(t), plain(t_start), accumulated, keep
        self.mask = None if mask is None else plain(mask)
        self.amplitudes = amplitudes
        # Both determine the layout of the history, so the backward pass must use the same ones.
        self.instruction_set, self.threads = _compiled.instruction_set(), torch.get_num_threads()
        self.workspace: Workspace | None = None
        self.history: Tensor | None = None
        self.inputs: list[Tensor | None] = []

    def problem(self, inputs: Sequence[Tensor | None]) -> _Problem:
        """Return a problem with the sizes and the addresses of all inputs."""
        x, weights, state = inputs[0], SFMWeights._make(inputs[1:8]), inputs[8:]
        assert x is not None
        D, K, M = weights.sizes
        problem = _Problem(
            x.dtype == torch.float64,
            self.keep,
            weights.omega is None,
            self.accumulated,
            self.threads,
            *(self.batch_sizes[0], len(self.batch_sizes), x.shape[1], D, K, M),
        )
        tensors = (self.batch_sizes, self.t, self.t_start, weights.omega, x, *weights[:6], *state)
        problem.point(**dict(zip(_INPUTS, tensors, strict=True)), mask=self.mask, amplitudes=self.amplitudes)
        return problem

    def forward(self, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Return z and the last re, im and theta; with ``keep``, fill the history."""
        self.inputs = [None if v is None else plain(v.detach()) for v in inputs]
        x, W, re, theta = (v for v in (self.inputs[i] for i in (0, 2, 8, 11)) if v is not None)
        problem = self.problem(self.inputs)
        problem.run(self.instruction_set, "plan_forward")
        workspace, scratch = allocate(x, problem.scratch_bytes)
        z, theta_last = x.new_empty(len(x), W.shape[1]), torch.empty_like(theta)
        re_last, im_last = torch.empty_like(re), torch.empty_like(re)
        problem.point(z=z, re_last=re_last, im_last=im_last, theta_last=theta_last, scratch=scratch)
        if self.keep:
            self.workspace, self.history = allocate(x, problem.history_bytes)
            problem.point(history=self.history)
        problem.run(self.instruction_set, "forward")
        del workspace  # here, so that no other call takes the memory while this one runs
        return z, re_last, im_last, theta_last


class _NativeSFM(torch.autograd.Function):
    """Run both passes in compiled code; the history lives in the workspace of the call until the graph is freed."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        *inputs, call = arguments
        results = call.forward(inputs)
        ctx.call = call
        ctx.save_for_backward(*call.inputs, results[0])
        call.inputs = []
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("backend='native'")
        *inputs, z = ctx.saved_tensors
        call: _Call = ctx.call
        problem = call.problem(inputs)
        grads = tuple(map(plain, grads))
        results = [None if v is None else torch.empty_like(v) for v in inputs]
        for index in (0, 7):  # x and omega: their gradients take extra time, so they are computed on request only
            if not ctx.needs_input_grad[index]:
                results[index] = None
        problem.point(z=z, history=call.history)
        problem.point(**dict(zip((*_GRADIENTS_OF_OUTPUTS, *_GRADIENTS), (*grads, *results), strict=True)))
        problem.run(call.instruction_set, "plan_backward")
        workspace, scratch = allocate(z, problem.scratch_bytes)
        problem.point(scratch=scratch)
        problem.run(call.instruction_set, "backward")
        del workspace
        if not call.accumulated:
            results[-1] = None  # without accumulation the initial phase is not read
        return *results, None


def unavailable(x: Tensor, weights: SFMWeights) -> str | None:
    """Return why this kernel is unavailable for these tensors; None if it is available.

    Examples
    --------
    >>> import torch
    >>> from sfmts.kernels._sfm import native
    >>> from sfmts.networks import SFM
    >>> native.unavailable(torch.zeros(3, 2).half(), SFM(2).half().layers[0].weights())
    'the compiled kernel takes float32 or float64, not torch.float16'
    """
    if (reason := _compiled.unavailable(x.device)) is not None:
        return reason
    if x.dtype not in _compiled.DTYPES or weights.V.dtype != x.dtype:
        return f"the compiled kernel takes float32 or float64, not {x.dtype}"
    return None


def sfm(
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
    """Run one SFM or A-SFM layer over a packed batch; see :func:`sfmts.kernels.sfm`.

    Gradients are of first order only. ``amplitudes`` receives values without gradients. The caller has checked that
    :func:`unavailable` returns None.
    """
    inputs = (x, *weights, state.re, state.im, state.z, state.theta)
    keep = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in inputs)
    D, K, _ = weights.sizes
    A = None if amplitudes is None else x.new_empty(len(x), D, K)
    call = _Call(batch_sizes, t, state.t, accumulated, feedback_mask, A, keep)
    z, re, im, theta = _NativeSFM.apply(*inputs, call) if keep else call.forward(inputs)
    if amplitudes is not None and A is not None:
        amplitudes.extend(A.split(list(batch_sizes)))
    last = last_rows(batch_sizes, z.device)
    t_last = t[last]
    if weights.omega is not None:
        theta = wrap_phase(weights.omega.detach() * t_last[:, None])
    return z, SFMState(re, im, z[last], t_last, theta if accumulated else theta.detach())
