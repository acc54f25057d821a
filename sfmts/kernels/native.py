"""The SFM recurrence compiled for the processor, with a hand-written backward pass.

Same signature and same results as :mod:`sfmts.kernels.reference`.  The batch is cut into tiles of as many sequences as
fit a few vector registers; a tile runs through all its steps on one thread, so that threads never wait for each other
within a call.  The sources stand in ``cpu/``; the extension is optional, see :func:`missing`.
"""

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sfmts.kernels._checks import address, plain
from sfmts.kernels.reference import SFMState, SFMWeights, last_rows, refuse_second_derivatives, wrap_phase
from sfmts.kernels.workspace import Workspace

_import_error: str | None = None
try:
    from sfmts.kernels import _native
except ImportError as error:
    _import_error = str(error)

DTYPES = (torch.float32, torch.float64)


def instruction_set() -> str:
    """The instruction set that kernels use: the best of this processor, or what SFMTS_INSTRUCTION_SET names.

    Examples
    --------
    >>> from sfmts.kernels import native
    >>> native.instruction_set() in ("avx512", "avx2", "generic")
    True
    """
    return os.environ.get("SFMTS_INSTRUCTION_SET") or _native.instruction_sets()[0]


def missing() -> str | None:
    """Why there is no compiled kernel in this installation; None if there is one."""
    if _import_error is not None:
        return f"the compiled kernel is missing ({_import_error}): reinstall sfmts where there is a C++ compiler"
    return None


def unavailable(x: Tensor, weights: SFMWeights) -> str | None:
    """Why this kernel cannot serve these tensors; None if it can.

    Examples
    --------
    >>> import torch
    >>> from sfmts.kernels import native
    >>> from sfmts.networks import SFM
    >>> native.unavailable(torch.zeros(3, 2).half(), SFM(2).half().layers[0].weights())
    'the compiled kernel takes float32 or float64, not torch.float16'
    """
    if (reason := missing()) is not None:
        return reason
    if x.device.type != "cpu":
        return f"the compiled kernel runs on the CPU, and the tensors are on {x.device}"
    if x.dtype not in DTYPES or weights.V.dtype != x.dtype:
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
    """Run one SFM or A-SFM layer over a packed batch; see :func:`sfmts.kernels.reference.sfm`.

    Gradients of first order only, and none for the time stamps.  ``amplitudes`` receives values without gradients.
    Whether the kernel can serve is what :func:`unavailable` says.
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


_FLAGS = ("is_double", "keep", "adaptive", "accumulated", "threads", "B", "T", "N", "D", "K", "M")
_INPUTS = ("batch_sizes", "t", "t_start", "omega", "x", *SFMWeights._fields[:6], "re", "im", "z_start", "theta_start")
_OUTPUTS = ("mask", "z", "re_last", "im_last", "theta_last", "amplitudes")
_GRADIENTS_OF_OUTPUTS = ("dz", "dre_last", "dim_last", "dtheta_last")
_WEIGHT_GRADIENTS = tuple("d" + name for name in SFMWeights._fields)
_GRADIENTS = ("dx", *_WEIGHT_GRADIENTS, "dre", "dim", "dz_start", "dtheta_start")


class _Problem(ctypes.Structure):
    """Mirrors the struct of cpu/problem.h."""

    _fields_ = (
        [(name, ctypes.c_int64) for name in _FLAGS]
        + [
            (name, ctypes.c_void_p)
            for name in (*_INPUTS, *_OUTPUTS, *_GRADIENTS_OF_OUTPUTS, *_GRADIENTS, "history", "scratch")
        ]
        + [("history_bytes", ctypes.c_int64), ("scratch_bytes", ctypes.c_int64)]
    )

    def point(self, **tensors: Tensor | None) -> None:
        """Set addresses; who calls keeps the tensors alive."""
        for name, tensor in tensors.items():
            setattr(self, name, address(name, tensor))

    def run(self, instruction_set: str, pass_name: str) -> None:
        _native.run(instruction_set, pass_name, ctypes.addressof(self))


def _memory(x: Tensor, size: int) -> tuple[Workspace, Tensor]:
    """Some bytes, and what gives them back when it goes."""
    elements = -(-size // x.element_size())
    workspace = Workspace(x, elements)
    return workspace, workspace.empty(elements)


class _Call:
    """What one call takes beside its differentiable inputs, and what its backward needs."""

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
        # Both decide how the history lies in memory, so they stay as they are until the backward.
        self.instruction_set, self.threads = instruction_set(), torch.get_num_threads()
        self.workspace: Workspace | None = None
        self.history: Tensor | None = None
        self.inputs: list[Tensor | None] = []

    def problem(self, inputs: Sequence[Tensor | None]) -> _Problem:
        """Sizes and addresses of everything that is there before the forward."""
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
        """Give z and the last re, im and theta; with ``keep``, fill the history."""
        self.inputs = [None if v is None else plain(v.detach()) for v in inputs]
        x, W, re, theta = (v for v in (self.inputs[i] for i in (0, 2, 8, 11)) if v is not None)
        problem = self.problem(self.inputs)
        problem.run(self.instruction_set, "plan_forward")
        workspace, scratch = _memory(x, problem.scratch_bytes)
        z, theta_last = x.new_empty(len(x), W.shape[1]), torch.empty_like(theta)
        re_last, im_last = torch.empty_like(re), torch.empty_like(re)
        problem.point(z=z, re_last=re_last, im_last=im_last, theta_last=theta_last, scratch=scratch)
        if self.keep:
            self.workspace, self.history = _memory(x, problem.history_bytes)
            problem.point(history=self.history)
        problem.run(self.instruction_set, "forward")
        del workspace  # not before the memory has been used
        return z, re_last, im_last, theta_last


class _NativeSFM(torch.autograd.Function):
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
        for index in (0, 7):  # x and omega, whose gradients cost something of their own
            if not ctx.needs_input_grad[index]:
                results[index] = None
        problem.point(z=z, history=call.history)
        problem.point(**dict(zip((*_GRADIENTS_OF_OUTPUTS, *_GRADIENTS), (*grads, *results), strict=True)))
        problem.run(call.instruction_set, "plan_backward")
        workspace, scratch = _memory(z, problem.scratch_bytes)
        problem.point(scratch=scratch)
        problem.run(call.instruction_set, "backward")
        del workspace
        if not call.accumulated:
            results[-1] = None  # the phase at the start was not read
        return *results, None
