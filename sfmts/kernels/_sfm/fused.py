"""Run the SFM recurrence in PyTorch operations with a hand-written backward pass, on any device.

The signature and the results are those of ``reference.py``. Three things make it faster:

* The batch is the last axis of every buffer. Each gate, each frequency and the read-out of each frequency is then one
  contiguous block, and one matrix product computes all gates.
* Every operation writes into a buffer that exists already, and autograd records none of them.
* Gradients of weights are not accumulated step by step. The backward pass stores the gradients of the pre-activations
  of many steps and forms the gradient of each weight from them in one product.

A *segment* is a run of steps with the same number of running sequences; ragged batches have several.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sfmts.kernels._checks import refuse_second_derivatives
from sfmts.kernels._sfm.reference import (
    TWO_PI,
    SFMState,
    SFMWeights,
    amplitude_epsilon,
    last_rows,
    wrap_phase,
)
from sfmts.kernels._workspace import Workspace

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input

# Longest segment without gradients. Segments share their buffers there, so memory does not grow with time.
_INFERENCE_STEPS = 64
# Rows from which weight gradients are formed at a time: enough for the matrix product, few enough for the cache.
_GRADIENT_ROWS = 256


@dataclass(frozen=True)
class _Plan:
    """All arguments that have no gradient."""

    batch_sizes: tuple[int, ...]
    t: Tensor  # (P,)
    t_start: Tensor  # (B,)
    accumulated: bool
    feedback_mask: Tensor | None  # (B, M)
    amplitudes: list[Tensor] | None
    keep: bool  # whether a backward may follow

    def segments(self) -> Iterator[tuple[int, int, int]]:
        """Yield (first row, steps, running sequences) of each run of steps of equal width."""
        row = first = 0
        sizes = self.batch_sizes
        limit = len(sizes) if self.keep else _INFERENCE_STEPS
        while first < len(sizes):
            n, last = sizes[first], first + 1
            while last < len(sizes) and sizes[last] == n and last - first < limit:
                last += 1
            yield row, last - first, n
            row += (last - first) * n
            first = last

    def mask(self, n: int) -> Tensor | None:
        """Return the feedback mask of the first n sequences, (M, n)."""
        return None if self.feedback_mask is None else self.feedback_mask[:n].T.contiguous()

    @cached_property
    def dt(self) -> Tensor:
        """Return the time since the previous row of the same sequence, (P,)."""
        return self.t - torch.cat([self.t_start, self.t])[_previous_rows(self.batch_sizes, self.t.device)]


def _previous_rows(batch_sizes: Sequence[int], device: torch.device) -> Tensor:
    """Return the row of the step before, (P,), in a packed array that begins with the B rows of the initial state."""
    sizes = torch.as_tensor((batch_sizes[0], *batch_sizes[:-1]))
    now = torch.as_tensor(batch_sizes)
    return (torch.arange(int(now.sum())) + batch_sizes[0] - sizes.repeat_interleave(now)).to(device)


class _Rows:
    """Rows of each gate among the pre-activations."""

    def __init__(self, weights: SFMWeights) -> None:
        D, K, M = weights.sizes
        self.ste, self.fre = slice(0, D), slice(D, D + K)
        self.g, self.i = slice(D + K, 2 * D + K), slice(2 * D + K, 3 * D + K)
        self.sigmoids = slice(0, 2 * D + K)  # ste, fre and g
        self.omega = slice(3 * D + K, 3 * D + 2 * K)  # adaptive only
        self.o = slice(-K * M, None)


class _Buffers:
    """The working memory of one segment, and its views step by step.

    Shapes begin with the L steps of the segment and end with the n running sequences. Without ``keep``, all steps share
    the memory of one, except for the pre-activations, which one product computes for all steps.
    """

    def __init__(self, workspace: Workspace, weights: SFMWeights, steps: int, n: int, keep: bool) -> None:
        self.rows = _Rows(weights)
        shapes = self.shapes(weights, steps, n, keep)
        self.a, self.S, self.A, self.y, self.cs, self.Z = (workspace.empty(*shape) for shape in shapes)
        self.omega = (
            self.a.new_empty(steps, len(weights.b_z), n, dtype=torch.float64) if weights.omega is None else None
        )

    def gates(self, begin: int, end: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield the gates of each step: all sigmoids, f_ste (1, D, n), f_fre (K, 1, n), g, i (D, n), o (K, M, n)."""
        a, rows = self.a[begin:end], self.rows
        steps, _, n = a.shape
        K, M = self.y.shape[1:3]
        return zip(
            a[:, rows.sigmoids].unbind(0),
            a[:, None, rows.ste].unbind(0),
            a[:, rows.fre, None].unbind(0),
            a[:, rows.g].unbind(0),
            a[:, rows.i].unbind(0),
            a[:, rows.o].view(steps, K, M, n).unbind(0),
            strict=True,
        )

    def states(self, begin: int, end: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield S (2, K, D, n), Re S, Im S, A (K, D, n), y (K, M, n), and cos and sin of theta (2, K, 1, n)."""
        buffers = (self.S, self.S[:, 0], self.S[:, 1], self.A, self.y)
        if len(self.S) == len(self.a):
            views = [buffer[begin:end].unbind(0) for buffer in buffers]
        else:
            views = [(buffer[0],) * (end - begin) for buffer in buffers]
        return zip(*views, self.cs[begin:end].unbind(0), strict=True)

    @staticmethod
    def shapes(weights: SFMWeights, steps: int, n: int, keep: bool) -> list[tuple[int, ...]]:
        """Return the shapes of all buffers."""
        D, K, M = weights.sizes
        kept = steps if keep else 1
        return [
            (steps, weights.V.shape[0], n),  # a: pre-activations, then gates, in place
            (kept, 2, K, D, n),  # S: real and imaginary part
            (kept, K, D, n),  # A
            (kept, K, M, n),  # y
            (steps, 2, K, 1, n),  # cos theta, sin theta
            (steps, M, n),  # Z
        ]


def _to_feature_major(rows: Tensor, steps: int, n: int) -> Tensor:
    """Return packed rows (L * n, F) as (L, F, n)."""
    return rows.view(steps, n, -1).transpose(1, 2)


# -- forward kernel


@dataclass
class _Carry:
    """State that a step passes to the next one, batch last."""

    S: Tensor  # (2, K, D, n)
    z: Tensor  # (M, n)
    theta: Tensor  # (K, n)
    t: Tensor  # (n,)

    def prefix(self, n: int) -> "_Carry":
        """Return the state of the first n sequences."""
        return _Carry(self.S[..., :n].contiguous(), self.z[:, :n].contiguous(), self.theta[:, :n], self.t[:n])

    def detached(self) -> "_Carry":
        """Return a copy that outlives the buffers."""
        return _Carry(self.S.clone(), self.z.clone(), self.theta, self.t)

    def ended(self, n: int) -> tuple[Tensor, Tensor]:
        """Return S and theta of the sequences that end when only the first n continue."""
        return self.S[..., n:].clone(), self.theta[:, n:].clone()


def _forward_segment(
    buffers: _Buffers,
    weights: SFMWeights,
    x: Tensor,
    theta: Tensor | None,
    row: int,
    carry: _Carry,
    plan: _Plan,
    out: Tensor,
) -> _Carry:
    """Run all steps of a segment: fill its buffers and its rows of ``out``."""
    D, K, M = weights.sizes
    steps, R, n = buffers.a.shape
    rows = slice(row, row + steps * n)
    # U_t = V x_t + b for all steps at once
    torch.baddbmm(
        weights.b[:, None].expand(steps, R, 1),
        weights.V.expand(steps, R, -1),
        _to_feature_major(x[rows], steps, n),
        out=buffers.a,
    )
    if theta is not None:
        angle = _to_feature_major(theta[rows], steps, n)[:, :, None]
        buffers.cs[:, 0], buffers.cs[:, 1] = angle.cos(), angle.sin()
    Z = buffers.Z
    mask = plan.mask(n)
    t = plan.t[rows].view(steps, n)
    epsilon = out.new_full((), amplitude_epsilon(out.dtype))
    minus_one = -out.new_ones(())
    F, p, oy = out.new_empty(K, D, n), out.new_empty(D, n), out.new_empty(K, M, n)
    b_z = weights.b_z[:, :, None]
    S, z = carry.S, carry.z
    views = zip(buffers.a.unbind(0), buffers.gates(0, steps), buffers.states(0, steps), Z.unbind(0), strict=True)
    for step, (a, (sigmoids, f_ste, f_fre, g, i, o), (S_t, re, im, A, y, cs), z_t) in enumerate(views):
        # a = U_t + W z_{t-1};  f_ste, f_fre, g = sigmoid(a);  i = tanh(a)    (Eqs. 6, 7, 9, 10)
        a.addmm_(weights.W, z if mask is None else z * mask)
        sigmoids.sigmoid_()
        i.tanh_()
        if theta is None:
            _adaptive_phase(buffers, step, carry, t[step], plan.accumulated)
        # S = f_ste f_fre S' + p (cos theta, sin theta),  p = g i    (Eqs. 1-3, 8)
        torch.mul(g, i, out=p)
        torch.mul(f_ste, f_fre, out=F)
        torch.mul(S, F, out=S_t).addcmul_(p, cs)
        # A = sqrt(Re^2 + Im^2 + epsilon)    (Eq. 4)
        torch.addcmul(epsilon, re, re, out=A).addcmul_(im, im).sqrt_()
        # o = sigmoid(U_o A + a_o);  y = tanh(W_z A + b_z);  z = sum_k o y    (Eqs. 11-13)
        o.baddbmm_(weights.U_o, A).sigmoid_()
        # tanh x = 2 sigmoid(2 x) - 1 is several times faster than tanh
        torch.baddbmm(b_z, weights.W_z, A, beta=2, alpha=2, out=y).sigmoid_()
        torch.add(minus_one, y, alpha=2, out=y)
        z = torch.sum(torch.mul(o, y, out=oy), dim=0, out=z_t)
        S = S_t
        if plan.amplitudes is not None:
            plan.amplitudes.append(A.permute(2, 1, 0).clone())
    out[rows].view(steps, n, M).copy_(Z.transpose(1, 2))
    return _Carry(S, z, carry.theta, t[-1])


def _adaptive_phase(buffers: _Buffers, step: int, carry: _Carry, t: Tensor, accumulated: bool) -> None:
    """Set omega, cos theta and sin theta of one step (Eq. 16), and advance the carried phase."""
    assert buffers.omega is not None
    omega = torch.mul(buffers.a[step, buffers.rows.omega].double().sigmoid_(), TWO_PI, out=buffers.omega[step])
    theta = carry.theta + omega * (t - carry.t) if accumulated else omega * t
    carry.theta, carry.t = wrap_phase(theta), t
    buffers.cs[step, 0, :, 0], buffers.cs[step, 1, :, 0] = carry.theta.cos(), carry.theta.sin()


# -- backward kernel


@dataclass
class _GradientCarry:
    """Gradients that a step of the backward pass passes to the step before it, batch last."""

    dS: Tensor  # (2, K, D, n)  # noqa: N815 (the paper's letter)
    dz: Tensor  # (M, n)
    dtheta: Tensor  # (K, n), of the accumulated phase

    def extended(self, dS_last: Tensor, dtheta_last: Tensor, n: int) -> "_GradientCarry":
        """Add the sequences that end where n were running."""
        now = self.dz.shape[1]
        return _GradientCarry(
            torch.cat([self.dS, dS_last[..., now:n]], dim=-1),
            torch.cat([self.dz, self.dz.new_zeros(self.dz.shape[0], n - now)], dim=-1),
            torch.cat([self.dtheta, dtheta_last[:, now:n]], dim=-1),
        )


class _Alphas:
    """Gradients (alpha) of the pre-activations of a few steps; all chunks of a segment share the memory."""

    def __init__(self, buffers: _Buffers, steps: int) -> None:
        _, R, n = buffers.a.shape
        _, K, M, _ = buffers.y.shape
        # The step is the second to last axis, so that the products that form weight gradients read contiguous rows.
        self.gates = buffers.a.new_empty(R, steps, n)
        self.y = buffers.a.new_empty(K, M, steps, n)
        self.rows = buffers.rows

    def views(self, steps: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield all rows, the sigmoids, ste, fre, g, i, o (K, M, n) and y (K, M, n) of each of the first steps."""
        a, rows = self.gates[:, :steps], self.rows
        K, M, _, n = self.y.shape
        blocks = (rows.sigmoids, rows.ste, rows.fre, rows.g, rows.i)
        return zip(
            a.unbind(1),
            *(a[block].unbind(1) for block in blocks),
            a[rows.o].view(K, M, steps, n).unbind(2),
            self.y[:, :, :steps].unbind(2),
            strict=True,
        )


class _FedBack:
    """The z_{t-1} that the gates of one segment read: the packed output, shifted by one step."""

    def __init__(self, out: Tensor, row: int, first: Tensor, n: int, mask: Tensor | None) -> None:
        self._out, self._row, self._first, self._n, self._mask = out, row, first, n, mask

    def rows(self, begin: int, end: int) -> Tensor:
        """Return the rows of the steps from ``begin`` to ``end``, ((end - begin) * n, M)."""
        late = self._row - self._n
        if begin:
            z = self._out[late + begin * self._n : late + end * self._n]
        else:
            z = torch.cat([self._first, self._out[self._row : late + end * self._n]])
        return z if self._mask is None else (z.view(end - begin, self._n, -1) * self._mask[: self._n]).flatten(0, 1)


class _Gradients:
    """Gradients that sum over all steps: one product per weight and chunk of steps."""

    def __init__(self, x: Tensor, weights: SFMWeights, needed: Sequence[bool]) -> None:
        R, N = weights.V.shape
        self._N = N
        self.V = weights.V
        self.x = torch.empty_like(x) if needed[0] else None
        self.theta = x.new_empty(len(x), weights.sizes[1], dtype=torch.float64) if needed[7] else None
        self._VW, self._b = x.new_zeros(R, N + weights.W.shape[1]), x.new_zeros(R)
        self._U_o, self._W_z = torch.zeros_like(weights.U_o), torch.zeros_like(weights.W_z)
        self._b_z = x.new_zeros(weights.W_z.shape[:2])

    def add(self, alphas: _Alphas, steps: int, A: Tensor, x: Tensor, fed: Tensor, rows: slice) -> None:
        """Add a chunk: d[V W] = alpha [x z_{t-1}]^T, dU_o = alpha_o A^T, dW_z = alpha_y A^T, dx = V^T alpha."""
        gates = alphas.gates[:, :steps].flatten(-2)  # (R, c * n)
        alpha_y = alphas.y[:, :, :steps].flatten(-2)  # (K, M, c * n)
        alpha_o = gates[alphas.rows.o].view_as(alpha_y)
        A = (A[0] if steps == 1 else A.movedim(0, -2).flatten(-2)).transpose(1, 2)  # (K, c * n, D)
        self._VW.addmm_(gates, torch.cat([x[rows], fed], dim=1))
        self._b += gates.sum(dim=1)
        self._U_o.baddbmm_(alpha_o, A)
        self._W_z.baddbmm_(alpha_y, A)
        self._b_z += alpha_y.sum(dim=2)
        if self.x is not None:
            torch.mm(gates.T, self.V, out=self.x[rows])

    def result(self) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, V, W, b, U_o, W_z, b_z and theta."""
        dV, dW = self._VW[:, : self._N], self._VW[:, self._N :]
        return self.x, dV, dW, self._b, self._U_o, self._W_z, self._b_z, self.theta


# In the comments, e_t is the gradient of z_t from outside, r the one that the next step fed back, and S' the state
# before the step.
def _backward_steps(
    buffers: _Buffers,
    steps: range,
    alphas: _Alphas,
    weights: SFMWeights,
    first: Tensor,
    grad_z: Tensor,
    carry: _GradientCarry,
    plan: _Plan,
    rows: slice,
    totals: _Gradients,
) -> _GradientCarry:
    """Fill ``alphas`` from the last of ``steps`` to the first; ``first`` is the state before the segment."""
    begin, end, count, n = steps.start, steps.stop, len(steps), buffers.a.shape[2]
    dS, r, dtheta = carry.dS, carry.dz.contiguous(), carry.dtheta
    e = _to_feature_major(grad_z.contiguous(), count, n).contiguous()
    W_T, U_o_T, W_z_T = weights.W.T, weights.U_o.transpose(1, 2), weights.W_z.transpose(1, 2)
    mask = plan.mask(n)
    dt = (plan.dt if plan.accumulated else plan.t)[rows].view(count, n)
    dtheta_rows = None if totals.theta is None else totals.theta[rows].view(count, n, -1)
    tmp, dA = torch.empty_like(dS), torch.empty_like(dS[0])
    tmp_re, tmp_im = tmp
    dz, dy, dp = torch.empty_like(e[0]), torch.empty_like(buffers.y[0]), torch.empty_like(dS[0, 0])
    states, gates = list(buffers.states(begin, end)), list(buffers.gates(begin, end))
    written, e_views = list(alphas.views(count)), e.unbind(0)
    S_before = buffers.S[begin - 1] if begin else first
    for step in reversed(range(count)):
        S, _, _, A, y, cs = states[step]
        sigmoids, f_ste, f_fre, g, i, o = gates[step]
        alpha, alpha_sigmoids, alpha_ste, alpha_fre, alpha_g, alpha_i, alpha_o, alpha_y = written[step]
        # dz = e_t + r;  alpha_o = dz y o (1 - o);  alpha_y = dz o (1 - y^2)
        torch.add(e_views[step], r, out=dz)
        _sigmoid_backward(torch.mul(dz, y, out=dy), o, grad_input=alpha_o)
        _tanh_backward(torch.mul(dz, o, out=dy), y, grad_input=alpha_y)
        # dA = U_o^T alpha_o + W_z^T alpha_y;  dS += dA S / A;  dp = sum_k (dR cos theta + dI sin theta)
        torch.bmm(U_o_T, alpha_o, out=dA).baddbmm_(W_z_T, alpha_y).div_(A)
        dS.addcmul_(dA, S)
        torch.sum(torch.mul(dS, cs, out=tmp), dim=(0, 1), out=dp)
        if dtheta_rows is not None:
            dtheta_rows[step] = _phase_gradient(dS, cs, g * i).T
        elif buffers.omega is not None:
            dtheta_t = _phase_gradient(dS, cs, g * i)
            dtheta = dtheta + dtheta_t if plan.accumulated else dtheta_t
            # alpha_omega = t dtheta omega (1 - omega / 2 pi), with dt in place of t for an accumulated phase
            omega = buffers.omega[begin + step]
            alpha[buffers.rows.omega] = dt[step] * dtheta * omega * (1 - omega / TWO_PI)
        # dF = dR R' + dI I';  df_ste = sum_k dF f_fre;  df_fre = sum_d dF f_ste;  dS' = f_ste f_fre dS
        torch.mul(dS, states[step - 1][0] if step else S_before, out=tmp)
        dF = torch.add(tmp_re, tmp_im, out=dA)
        torch.sum(torch.mul(dF, f_fre, out=tmp_re), dim=0, out=alpha_ste)
        torch.sum(torch.mul(dF, f_ste, out=tmp_im), dim=1, out=alpha_fre)
        dS.mul_(torch.mul(f_ste, f_fre, out=dA))
        # dg = dp i;  di = dp g;  then through the sigmoids and the tanh;  r = W^T alpha
        torch.mul(dp, i, out=alpha_g)
        _sigmoid_backward(alpha_sigmoids, sigmoids, grad_input=alpha_sigmoids)
        _tanh_backward(torch.mul(dp, g, out=alpha_i), i, grad_input=alpha_i)
        torch.mm(W_T, alpha, out=r)
        if mask is not None:
            r.mul_(mask)
    return _GradientCarry(dS, r, dtheta)


def _phase_gradient(dS: Tensor, cs: Tensor, p: Tensor) -> Tensor:
    """Return dtheta = sum_d p (dI cos theta - dR sin theta), (K, n)."""
    return ((dS[1] * cs[0] - dS[0] * cs[1]) * p).sum(dim=1).double()


# -- autograd


class _FusedSFM(torch.autograd.Function):
    """Run the segments forwards; in the backward pass, run them from the last to the first, in chunks of steps."""

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
        re: Tensor,
        im: Tensor,
        z: Tensor,
        theta_start: Tensor,
        plan: _Plan,
    ) -> tuple[Tensor, ...]:
        weights = SFMWeights(V, W, b, U_o, W_z, b_z, theta)
        out = x.new_empty(len(x), W.shape[1])
        carry = _Carry(torch.stack([re, im]).permute(0, 3, 2, 1), z.T, theta_start.T, plan.t_start)
        initial = carry.S
        ended: list[tuple[Tensor, Tensor]] = []
        segments, keep = list(plan.segments()), plan.keep
        needs = [sum(map(math.prod, _Buffers.shapes(weights, steps, n, keep))) for _, steps, n in segments]
        workspace = Workspace(x, sum(needs) if keep else max(needs))
        all_buffers: list[_Buffers] = []
        for row, steps, n in segments:
            if n < carry.S.shape[-1]:
                ended.append(carry.ended(n))
            carry = carry.prefix(n)
            if not keep:
                carry, all_buffers = carry.detached(), []
                workspace.clear()
            all_buffers.append(_Buffers(workspace, weights, steps, n, keep))
            carry = _forward_segment(all_buffers[-1], weights, x, theta, row, carry, plan, out)
        ended.append(carry.ended(0))
        S_last = torch.cat([S for S, _ in reversed(ended)], dim=-1).permute(0, 3, 2, 1)
        theta_last = torch.cat([last for _, last in reversed(ended)], dim=-1).T.contiguous()
        if keep:
            ctx.plan, ctx.workspace, ctx.buffers = plan, workspace, all_buffers
            ctx.save_for_backward(x, *weights, initial, z, out)
        return out, S_last[0].contiguous(), S_last[1].contiguous(), theta_last

    @staticmethod
    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("backend='fused'")
        x, *saved, initial, z_start, out = ctx.saved_tensors
        weights = SFMWeights(*saved)
        grad_z, grad_re, grad_im, grad_theta_last = grads
        plan: _Plan = ctx.plan
        segments = list(plan.segments())
        buffers: list[_Buffers] = ctx.buffers

        dS_last = torch.stack([grad_re, grad_im]).permute(0, 3, 2, 1)
        carry = _GradientCarry(
            dS_last[..., :0], x.new_zeros(out.shape[1], 0), x.new_zeros(grad_theta_last.shape[1], 0).double()
        )
        totals = _Gradients(x, weights, ctx.needs_input_grad)
        for index in reversed(range(len(segments))):
            row, steps, n = segments[index]
            carry = carry.extended(dS_last, grad_theta_last.T, n)
            first = initial if index == 0 else buffers[index - 1].S[-1][..., :n].contiguous()
            fed_first = z_start if index == 0 else out[row - segments[index - 1][2] :][:n]
            fed = _FedBack(out, row, fed_first, n, plan.feedback_mask)
            size = max(1, min(steps, _GRADIENT_ROWS // n))
            alphas = _Alphas(buffers[index], size)
            for end in range(steps, 0, -size):
                begin = max(0, end - size)
                rows = slice(row + begin * n, row + end * n)
                carry = _backward_steps(
                    buffers[index], range(begin, end), alphas, weights, first, grad_z[rows], carry, plan, rows, totals
                )
                totals.add(alphas, end - begin, buffers[index].A[begin:end], x, fed.rows(begin, end), rows)
        dS_start = carry.dS.permute(0, 3, 2, 1)
        return (
            *totals.result(),
            *(dS_start[0], dS_start[1], carry.dz.T, carry.dtheta.T if plan.accumulated else None),
            None,
        )


# -- public function


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

    Gradients are of first order only. ``amplitudes`` receives values without gradients.
    """
    theta = None if weights.omega is None else wrap_phase(weights.omega * t[:, None])
    inputs = (x, *weights[:6], theta, state.re, state.im, state.z, state.theta)
    keep = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in inputs)
    plan = _Plan(tuple(batch_sizes), t, state.t, accumulated, feedback_mask, amplitudes, keep)
    z, re, im, theta_last = _FusedSFM.apply(*inputs, plan)
    last = last_rows(batch_sizes, z.device)
    theta_last = theta_last if theta is None else theta[last]
    return z, SFMState(re, im, z[last], t[last], theta_last if accumulated else theta_last.detach())
