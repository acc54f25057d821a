"""Loops that `torch.export` records as such."""

from collections.abc import Callable

from torch import Tensor

Tensors = tuple[Tensor, ...]


def recorded_loop(
    step: Callable[[Tensors, Tensors], tuple[Tensors, Tensor]], state: Tensors, inputs: Tensors
) -> tuple[Tensors, Tensor]:
    """Run steps over the first axis of the inputs; return the last state and all outputs.

    The loop is one operator. A graph of single steps has a fixed length and takes minutes to convert for a hundred.
    Pass tensors without gradients, because its derivative cannot save sizes that are unknown while recording.
    """
    from torch._higher_order_ops import scan  # here, because it imports the compiler, which takes a second

    after, outputs = scan(step, state, inputs)
    return after, outputs
