"""What `torch.export` records, and loops that it records as such."""

from collections.abc import Callable

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]

_VERSION = tuple(map(int, torch.__version__.split(".")[:2]))
_KNOWS_EXPORT = _VERSION >= (2, 13)


def is_exporting() -> bool:
    """Return whether `torch.export` records.

    Before PyTorch 2.13 `torch.compile` takes PyTorch's own function for true, and export is recognised only with
    ``strict=False``, the default since 2.8.
    """
    return torch.compiler.is_exporting() if _KNOWS_EXPORT else torch.compiler._is_exporting_flag


def check_loops() -> None:
    """Raise RuntimeError before PyTorch 2.11, which cannot record all loops."""
    if _VERSION < (2, 11):
        raise RuntimeError(
            f"Export of the reference kernel needs PyTorch 2.11 or newer, but {torch.__version__} is installed. "
            "Upgrade it, or export another kernel, which needs sfmts where the program runs."
        )


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
