"""Step recurrences in PyTorch: the loop over packed rows, and matrices that every step multiplies by."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sfmts.kernels._checks import check_batch_sizes, check_rows
from sfmts.kernels._packing import pack, unpack

State = tuple[Tensor, ...]
Step = Callable[[State, State, Tensor | None], tuple[State, State]]


class SharedMatrix:
    """A matrix W that every step of a recurrence multiplies by: ``shared(v, a)`` is a + v W^T.

    Autograd would compute a gradient of the size of W in each step and add them up. Here, a step only stores v and the
    gradient of its product; one product over all steps gives the gradient of W at the end. With
    ``create_graph=True``, autograd computes the gradient of each step.

    Parameters
    ----------
    W : Tensor of shape (rows, columns)
        A parameter or a function of parameters. Each forward pass needs its own SharedMatrix.
    """

    def __init__(self, W: Tensor) -> None:
        self._noted = _Noted()
        self._deferred = W.requires_grad and torch.is_grad_enabled()
        self.W = _Gather.apply(W, self._noted) if self._deferred else W

    def __call__(self, v: Tensor, a: Tensor | None = None) -> Tensor:
        """Return a + v W^T for v of shape (n, columns) and a of shape (n, rows), zero by default."""
        if self._deferred:
            product: Tensor = _Product.apply(v, a, self.W, self._noted)
            return product
        return v @ self.W.T if a is None else torch.addmm(a, v, self.W.T)


class _Noted:
    """Factors and gradients of all products of each backward pass; several passes may run over one graph at a time."""

    def __init__(self) -> None:
        self.passes: dict[int, tuple[list[Tensor], list[Tensor]]] = {}

    def add(self, v: Tensor, gradient: Tensor) -> None:
        factors, gradients = self.passes.setdefault(torch._C._current_graph_task_id(), ([], []))
        factors.append(v)
        gradients.append(gradient)

    def take(self) -> Tensor | None:
        """Return the gradient of W, sum_t gradient_t^T v_t, as one product; None without products."""
        factors, gradients = self.passes.pop(torch._C._current_graph_task_id(), ([], []))
        return torch.cat(gradients).T @ torch.cat(factors) if factors else None


class _Gather(torch.autograd.Function):
    """Return W; its backward runs after that of all products and adds up their gradients."""

    @staticmethod
    def forward(ctx: Any, W: Tensor, noted: _Noted) -> Tensor:
        ctx.noted = noted
        ctx.set_materialize_grads(False)
        return W.view_as(W)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None]:
        noted = ctx.noted.take()
        if noted is None or gradient is None:
            return (gradient if noted is None else noted), None
        return noted + gradient, None


class _Product(torch.autograd.Function):
    """Return a + v W^T; its backward leaves the gradient of W to :class:`_Gather`."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, a: Tensor | None, W: Tensor, noted: _Noted) -> Tensor:
        ctx.save_for_backward(v, W)
        ctx.noted = noted
        return v @ W.T if a is None else torch.addmm(a, v, W.T)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        v, W = ctx.saved_tensors
        needs_v, needs_a, *_ = ctx.needs_input_grad
        of_W = None
        if torch.is_grad_enabled():  # create_graph=True: noted factors cannot be differentiated
            of_W = gradient.T @ v
        else:
            ctx.noted.add(v, gradient)
        return gradient @ W if needs_v else None, gradient if needs_a else None, of_W, None


def scan(
    step: Step, inputs: State, batch_sizes: Sequence[int], state: State, mask: Tensor | None = None
) -> tuple[State, State]:
    """Step through packed sequences.

    Parameters
    ----------
    step : callable
        ``step(inputs, state, mask) -> (outputs, state)``. Inputs, outputs and states are tuples of tensors whose rows
        are the running sequences.
    inputs : tuple of Tensors with sum(batch_sizes) rows
        Packed: the rows of the first step of all sequences, then those of the second, and so on.
    batch_sizes : sequence of int
        Number of running sequences at each step; never increases.
    state : tuple of Tensors with batch_sizes[0] rows
        The state before the first step.
    mask : Tensor with batch_sizes[0] rows, optional
        Passed to each step, cut to the running sequences.

    Returns
    -------
    outputs : tuple of Tensors with sum(batch_sizes) rows
        Outputs of all steps, packed like ``inputs``.
    state : tuple of Tensors with batch_sizes[0] rows
        Each sequence's state after its own last step.

    Raises
    ------
    ValueError, TypeError
        If ``batch_sizes`` is not positive and non-increasing, or a tensor has another number of rows.
    """
    if not torch.compiler.is_compiling():  # sizes may be symbols there
        if not callable(step) or isinstance(step, type):
            raise TypeError(f"step is of type {type(step).__name__}, but must be a function of one step.")
        batch_sizes = check_batch_sizes(batch_sizes)
        for name, parts in (("inputs", inputs), ("state", state)):
            if not isinstance(parts, tuple):
                raise TypeError(f"{name} is of type {type(parts).__name__}, but must be a tuple of tensors.")
        for name, parts, rows in (
            ("inputs", inputs, sum(batch_sizes)),
            ("state", state, batch_sizes[0]),
            ("mask", () if mask is None else (mask,), batch_sizes[0]),
        ):
            for part in parts:
                check_rows(name, part, rows, "for these batch_sizes")
    running = batch_sizes[0]
    outputs: list[State] = []
    ended: list[State] = []
    for now, size in zip(
        zip(*(part.split(list(batch_sizes)) for part in inputs), strict=True), batch_sizes, strict=True
    ):
        if size < running:
            ended.append(tuple(part[size:] for part in state))
            state = tuple(part[:size] for part in state)
            mask = None if mask is None else mask[:size]
            running = size
        output, state = step(now, state, mask)
        outputs.append(output)
    ended.append(state)
    return (
        tuple(torch.cat(parts) for parts in zip(*outputs, strict=True)),
        tuple(torch.cat(parts[::-1]) for parts in zip(*ended, strict=True)),
    )


def scan_padded(
    prepare: Callable[..., State],
    step: Step,
    padded: State,
    lengths: Tensor | None,
    state: State,
    mask: Tensor | None = None,
) -> tuple[Tensor, State, State]:
    """Step through a padded batch.

    Parameters
    ----------
    prepare : callable
        Takes the packed rows of each tensor of ``padded`` and returns the inputs of :func:`scan`.
    step : callable
        As in :func:`scan`.
    padded : tuple of Tensors of shape (B, T, ...)
        Padded batches.
    lengths : Tensor of shape (B,) or None
        Length of each sequence; None means that all are T.
    state : tuple of Tensors with B rows
        The state before the first step.
    mask : Tensor with B rows, optional
        As in :func:`scan`.

    Returns
    -------
    output : Tensor of shape (B, T, ...)
        The first output of each step; zero after the end of a sequence.
    rest : tuple of Tensors with a row for each step within the sequences
        The other outputs, packed.
    state : tuple of Tensors with B rows
        Each sequence's state after its own last step.
    """
    batch, length = padded[0].shape[:2]
    if lengths is None:  # nothing to sort
        inputs = prepare(*(part.transpose(0, 1).reshape(batch * length, *part.shape[2:]) for part in padded))
        (output, *rest), state = scan(step, inputs, [batch] * length, state, mask)
        return output.view(length, batch, -1).transpose(0, 1), tuple(rest), state
    packed = pack(padded[0], lengths)
    order, back = packed.sorted_indices, packed.unsorted_indices
    inputs = prepare(packed.data, *(pack(part, lengths).data for part in padded[1:]))
    state, mask = tuple(part[order] for part in state), None if mask is None else mask[order]
    (output, *rest), state = scan(step, inputs, packed.batch_sizes.tolist(), state, mask)
    return unpack(packed, output, length), tuple(rest), tuple(part[back] for part in state)
