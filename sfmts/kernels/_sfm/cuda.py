"""Run the SFM recurrence in one persistent GPU kernel for each direction, compiled at run time.

The signature and the results are those of ``reference.py``. ``gpu/sfm.cu`` has the kernels. This file has the products
around them, which do not depend on the recurrence:

* before the forward kernel, V x + b for all rows in one product;
* after the backward kernel, the gradients of weights and input, from the gradients of the pre-activations.

With bfloat16 input and weights, the state is float32: the output is bfloat16, and the returned state is float32.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sfmts.kernels import _gpu
from sfmts.kernels._checks import addresses, refuse_second_derivatives
from sfmts.kernels._sfm.gpu import program
from sfmts.kernels._sfm.gpu.layout import Device, Direction, Layout, Sizes, choose_layout, choose_tile
from sfmts.kernels._sfm.reference import SFMState, SFMWeights, amplitude_epsilon, wrap_phase

_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_CAPABILITY = (8, 0)  # needed for asynchronous copies to shared memory
_LEAST_SHARED_BYTES = 99 << 10  # that a block may have on any device of that capability
_PIECE_ROWS = 2048  # rows of a partial sum
# Most numbers that one launch writes in addition to the history. Longer series take several launches.
_CHUNK_NUMBERS = 1 << 25


class _Batch:
    """Positions of the steps of each sequence in a packed array; tensors are on the device."""

    def __init__(self, batch_sizes: tuple[int, ...], device: torch.device) -> None:
        sizes = torch.tensor(batch_sizes)
        starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        lengths = len(sizes) - torch.searchsorted(sizes.flip(0), torch.arange(batch_sizes[0]), right=True)
        self.starts: list[int] = starts.tolist()
        self.sequences, self.steps, self.rows = batch_sizes[0], len(batch_sizes), self.starts[-1]
        self.ragged = batch_sizes[-1] < batch_sizes[0]
        # The host reads these small tensors when it queues the copy, so it need not wait for the device.
        self.start, self.length = (v.to(device, non_blocking=True) for v in (starts, lengths))

    @cached_property
    def last_rows(self) -> Tensor:
        """Return the row of each sequence's last step, (B,)."""
        return self.start[self.length - 1] + torch.arange(self.sequences, device=self.start.device)

    @cached_property
    def step(self) -> Tensor:
        """Return the step of each row, (P,)."""
        steps = torch.arange(self.steps, device=self.start.device)
        return steps.repeat_interleave(self.start.diff(), output_size=self.rows)

    @cached_property
    def sequence(self) -> Tensor:
        """Return the sequence of each row, (P,)."""
        return torch.arange(self.rows, device=self.start.device) - self.start[self.step]

    def previous(self, first: Tensor, packed: Tensor) -> Tensor:
        """Return for each row the row of ``packed`` (P, ...) one step before; at the first step, ``first`` (B, ...)."""
        joined = torch.cat([first, packed])
        if not self.ragged:
            return joined[: self.rows]
        before = self.start[(self.step - 1).clamp(min=0)] + self.sequence + self.sequences
        return joined[torch.where(self.step > 0, before, self.sequence)]

    def chunks(self, numbers: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of steps whose rows, of ``numbers`` numbers each, take at most `_CHUNK_NUMBERS` numbers.

        A range has at least one step.
        """
        begin = 0
        for step in range(1, self.steps + 1):
            too_long = step < self.steps and (self.starts[step + 1] - self.starts[begin]) * numbers > _CHUNK_NUMBERS
            if too_long or step == self.steps:
                yield begin, step
                begin = step


@dataclass(frozen=True)
class _Call:
    """All arguments that have no gradient."""

    batch_sizes: tuple[int, ...]
    t: Tensor  # (P,)
    t_start: Tensor  # (B,)
    sizes: Sizes
    feedback_mask: Tensor | None  # (B, M)
    amplitudes: list[Tensor] | None
    keep: bool  # whether a backward may follow

    @cached_property
    def batch(self) -> _Batch:
        return _Batch(self.batch_sizes, self.t.device)

    @cached_property
    def mask(self) -> Tensor | None:
        return None if self.feedback_mask is None else self.feedback_mask.to(self.sizes.real).contiguous()

    @cached_property
    def tau(self) -> Tensor | None:
        """Return the factor of omega at each row, (P,): the time, or for accumulated phases the time since before."""
        if not self.sizes.adaptive:
            return None
        return (self.t - self.batch.previous(self.t_start, self.t) if self.sizes.accumulated else self.t).contiguous()

    def layout(self, direction: Direction, x: Tensor) -> Layout:
        """Return the fastest layout of the kernel for this batch."""
        device = device_of(x)
        layout = choose_layout(direction, self.sizes, choose_tile(self.batch.sequences, device), device)
        if layout is None:
            raise RuntimeError("D, K and M are too large for backend='cuda'; use backend='fused'.")
        return layout


# -- launcher


class _Arguments(ctypes.Structure):
    """Mirror of struct Arguments in `sfm.cu`, field by field."""

    _pointers = (
        *("W", "UW", "b_z", "start", "length", "tau", "mask", "gates", "cs", "y", "S", "z"),
        *("S_carry", "z_carry", "theta_carry", "e", "alpha", "alpha_y", "dtheta", "dS_carry", "r_carry"),
        "dtheta_carry",
    )
    _numbers = ("first", "begin", "end", "batch")
    _fields_ = (
        *((name, ctypes.c_void_p) for name in _pointers),
        *((name, ctypes.c_longlong) for name in _numbers),
    )


def _launch(layout: Layout, call: _Call, begin: int, end: int, first: int, **tensors: Tensor | None) -> None:
    """Run the kernel over the steps from ``begin`` to ``end``."""
    batch = call.batch
    common = {"start": batch.start, "length": batch.length, "tau": call.tau, "mask": call.mask}
    pointers = addresses((common | tensors).items(), batch.start.device)
    arguments = _Arguments(**pointers, first=first, begin=begin, end=end, batch=batch.sequences)
    blocks = -(-batch.sequences // layout.tile)  # rounded up
    program.load(layout, batch.start.device).launch(blocks, arguments)


def _cos_sin(theta: Tensor, real: torch.dtype) -> Tensor:
    """Return cosine and sine, (P, 2, K), of phases in float64."""
    return torch.stack([theta.cos(), theta.sin()], dim=1).to(real)


# -- autograd


class _CudaSFM(torch.autograd.Function):
    """Run both kernels over chunks of steps; the forward pass keeps gates, y, S and z for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        V: Tensor,
        W: Tensor,
        b: Tensor,
        U_o: Tensor,
        W_z: Tensor,
        b_z: Tensor,
        theta: Tensor | None,
        S: Tensor,
        z: Tensor,
        theta_start: Tensor,
        call: _Call,
    ) -> tuple[Tensor, Tensor, Tensor]:
        sizes, batch, real = call.sizes, call.batch, call.sizes.real
        D, K, M = sizes.D, sizes.K, sizes.M
        layout = call.layout("forward", x)
        states = call.keep or call.amplitudes is not None
        out = x.new_empty(batch.rows, M, dtype=real)
        kept_S = x.new_empty(batch.rows, 2, K, D, dtype=real) if states else None
        y = x.new_empty(batch.rows, K, M, dtype=real) if call.keep else None
        carry = {
            "S_carry": S.clone(memory_format=torch.contiguous_format),
            "z_carry": z.clone(memory_format=torch.contiguous_format),
            "theta_carry": theta_start.clone(memory_format=torch.contiguous_format),
        }
        packed = {
            "W": layout.gates.pack(W[None]),
            "UW": layout.states.pack(torch.stack([U_o.flatten(0, 1), W_z.flatten(0, 1)])),
            "b_z": b_z.to(real).contiguous(),
        }
        for begin, end in [(0, batch.steps)] if call.keep else batch.chunks(sizes.R):
            rows = slice(batch.starts[begin], batch.starts[end])
            # U = V x + b. Not in bfloat16: an adaptive phase multiplies the rounding of its pre-activation by the time.
            gates = torch.addmm(b.to(real), x[rows].to(real), V.T.to(real))
            cs = gates.new_empty(len(gates), 2, K) if theta is None else _cos_sin(theta[rows], real)
            tensors = {"gates": gates, "cs": cs, "y": y, "S": kept_S, "z": out}
            _launch(layout, call, begin, end, rows.start, **tensors, **carry, **packed)
        if call.amplitudes is not None:
            assert kept_S is not None
            A = _amplitude(kept_S).transpose(1, 2)
            call.amplitudes.extend(A.split(call.batch_sizes))
        if call.keep:
            ctx.call = call
            ctx.save_for_backward(x, V, W, U_o, W_z, S, z, theta, out, gates, cs, y, kept_S)
        return out.to(x.dtype), carry["S_carry"], carry["theta_carry"]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("backend='cuda'")
        with torch.autocast(grads[0].device.type, enabled=False):
            return _backward(ctx, *grads)


def _backward(ctx: Any, grad_z: Tensor, grad_S: Tensor, grad_theta: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of all inputs of `_CudaSFM`."""
    x, V, W, U_o, W_z, S, z, theta, out, gates, cs, y, kept_S = ctx.saved_tensors
    call: _Call = ctx.call
    sizes, batch, real = call.sizes, call.batch, call.sizes.real
    layout = call.layout("backward", x)
    dtheta = torch.empty_like(theta, memory_format=torch.contiguous_format) if ctx.needs_input_grad[7] else None
    carry = {
        "dS_carry": grad_S.clone(memory_format=torch.contiguous_format),
        "r_carry": torch.zeros_like(z, memory_format=torch.contiguous_format),
        "dtheta_carry": grad_theta.clone(memory_format=torch.contiguous_format),
    }
    tensors = {
        "W": layout.gates.pack(W.T[None]),
        "UW": layout.states.pack(torch.cat([U_o, W_z], dim=1).transpose(1, 2).flatten(0, 1)[None]),
        "S_carry": S.contiguous(),
        **{"gates": gates, "cs": cs, "y": y, "S": kept_S, "e": grad_z.to(real).contiguous(), "dtheta": dtheta},
    }
    gradients = _Gradients(x, V, U_o, sizes, ctx.needs_input_grad[0])
    fed = batch.previous(z, out)
    if call.mask is not None:
        fed = fed * call.mask[batch.sequence]
    for begin, end in reversed(list(batch.chunks(sizes.R + sizes.K * sizes.M))):
        rows = slice(batch.starts[begin], batch.starts[end])
        alpha = gates.new_empty(rows.stop - rows.start, sizes.R)
        alpha_y = gates.new_empty(len(alpha), sizes.K, sizes.M)
        _launch(layout, call, begin, end, rows.start, alpha=alpha, alpha_y=alpha_y, **tensors, **carry)
        gradients.add(alpha, alpha_y, _amplitude(kept_S[rows]), fed[rows], rows)
    dz = carry["r_carry"] if call.mask is None else carry["r_carry"] * call.mask
    dtheta_start = carry["dtheta_carry"] if sizes.accumulated else None
    return *gradients.result(), dtheta, carry["dS_carry"], dz, dtheta_start, None


def _amplitude(S: Tensor) -> Tensor:
    """Return A (n, K, D) of states (n, 2, K, D); Eq. 4."""
    re, im = S.unbind(1)
    return torch.addcmul(re * re, im, im).add_(amplitude_epsilon(S.dtype)).sqrt_()


def _sum_over_rows(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Return sum_n a[n] b[n]^T, (..., p, q), of a (n, ..., p) and b (n, ..., q).

    The sum is cut into pieces: one product with a long sum and a small result would occupy a few processors only.
    """
    pieces = max(1, len(a) // _PIECE_ROWS)
    even = len(a) // pieces * pieces
    parts = [(v[:even].unflatten(0, (pieces, -1)), v[even:, None].transpose(0, 1)) for v in (a, b)]
    products = [
        (left.movedim(1, -1) @ right.movedim(1, -2)).sum(0, dtype=dtype)
        for left, right in zip(*parts, strict=True)
        if left.shape[1]
    ]
    return sum(products[1:], products[0])


class _Gradients:
    """Gradients that sum over all rows: one product per weight and chunk of rows, in the type of the weights."""

    def __init__(self, x: Tensor, V: Tensor, U_o: Tensor, sizes: Sizes, of_x: bool) -> None:
        self._x, self._V, self._sizes = x, V, sizes
        shapes = (V.shape, (sizes.R, sizes.M), (sizes.R,), U_o.shape, U_o.shape, (sizes.K, sizes.M))
        self._sums = [x.new_zeros(shape, dtype=sizes.real) for shape in shapes]  # of V, W, b, U_o, W_z, b_z
        self._of_x = torch.empty_like(x, memory_format=torch.contiguous_format) if of_x else None

    def add(self, alpha: Tensor, alpha_y: Tensor, A: Tensor, fed: Tensor, rows: slice) -> None:
        """Add a chunk: dV = alpha x^T, dW = alpha z_{t-1}^T, dU_o = alpha_o A^T, dW_z = alpha_y A^T, dx = V^T alpha."""
        dV, dW, db, dU_o, dW_z, db_z = self._sums
        db += alpha.sum(0)
        db_z += alpha_y.sum(0)
        alpha, alpha_y, A, fed = (v.to(self._x.dtype) for v in (alpha, alpha_y, A, fed))
        alpha_o = alpha[:, -db_z.numel() :].view_as(alpha_y)
        dV += _sum_over_rows(alpha, self._x[rows], dV.dtype)
        dW += _sum_over_rows(alpha, fed, dW.dtype)
        dU_o += _sum_over_rows(alpha_o, A, dU_o.dtype)
        dW_z += _sum_over_rows(alpha_y, A, dW_z.dtype)
        if self._of_x is not None:
            torch.mm(alpha, self._V, out=self._of_x[rows])

    def result(self) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, V, W, b, U_o, W_z and b_z."""
        return self._of_x, *(value.to(self._x.dtype) for value in self._sums)


# -- public functions


def unavailable(x: Tensor, weights: SFMWeights) -> str | None:
    """Return why this kernel is unavailable for these tensors; None if it is available.

    Examples
    --------
    >>> import torch
    >>> from sfmts.kernels._sfm.cuda import unavailable
    >>> from sfmts.networks import SFM
    >>> unavailable(torch.zeros(3, 2), SFM(2).layers[0].weights())
    'the tensors are on cpu, not on an NVIDIA GPU'
    """
    if not _gpu.is_nvidia(x.device):
        return f"the tensors are on {x.device.type}, not on an NVIDIA GPU"
    if x.dtype not in _DTYPES or weights.W.dtype != x.dtype:
        return f"the kernel takes float32, float64 or bfloat16 for both, not {x.dtype} with {weights.W.dtype} weights"
    capability = _gpu.capability(x.device)
    if capability < _CAPABILITY:
        return f"the device has compute capability {'.'.join(map(str, capability))}, the kernel needs 8.0"
    if (reason := program.missing(capability)) is not None:
        return reason
    device, sizes = device_of(x), sizes_of(weights, accumulated=True)
    if any(choose_layout(direction, sizes, 1, device) is None for direction in ("forward", "backward")):
        return "D, K and M are too large for the device's shared memory"
    return None


def sizes_of(weights: SFMWeights, accumulated: bool) -> Sizes:
    """Return the sizes and the type of a layer."""
    adaptive = weights.omega is None
    return Sizes(*weights.sizes, adaptive, adaptive and accumulated, weights.W.dtype)


def device_of(x: Tensor) -> Device:
    """Return what layouts depend on of the device of a tensor."""
    return Device(_gpu.processors(x.device), _gpu.shared_bytes(x.device) or _LEAST_SHARED_BYTES)


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
    theta = None if weights.omega is None else wrap_phase(weights.omega * t[:, None])
    sizes = sizes_of(weights, accumulated)
    S = torch.stack([state.re, state.im], dim=1).transpose(2, 3).to(sizes.real)
    inputs = (x, *weights[:6], theta, S, state.z.to(sizes.real), state.theta)
    keep = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in inputs)
    call = _Call(tuple(batch_sizes), t, state.t, sizes, feedback_mask, amplitudes, keep)
    with torch.autocast(x.device.type, enabled=False):  # autocast would change the types that the kernel reads
        z, S, theta_last = _CudaSFM.apply(*inputs, call)
    last = call.batch.last_rows
    theta_last = theta_last if theta is None else theta[last]
    re, im = S.transpose(2, 3).unbind(1)
    theta_last = theta_last if accumulated else theta_last.detach()
    return z, SFMState(re.contiguous(), im.contiguous(), z[last], t[last], theta_last)
