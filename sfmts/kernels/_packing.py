"""Convert padded batches to packed ones and back."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from sfmts.kernels._checks import check_rows, check_tensor


def pack(x: Tensor, lengths: Tensor | None) -> PackedSequence:
    """Pack a padded batch.

    Parameters
    ----------
    x : Tensor of shape (B, T, ...)
        The padded batch.
    lengths : Tensor of shape (B,) or None
        Length of each sequence; None means that all are T.

    Returns
    -------
    packed : torch.nn.utils.rnn.PackedSequence
        Sequences sorted by decreasing length, rows in time-major order.

    Raises
    ------
    ValueError, TypeError
        If ``lengths`` is not one integer from 1 to T for each sequence.
    """
    if not torch.compiler.is_compiling() and (check_tensor("x", x).ndim < 2 or 0 in x.shape):
        raise ValueError(f"x has shape {tuple(x.shape)}, but (B, T, ...) is needed, without empty axes.")
    if lengths is None:
        lengths = torch.full((len(x),), x.shape[1])
    elif check_lengths(lengths, x).device.type != "cpu":
        lengths = check_lengths(lengths.cpu(), x)
    # As PyTorch does with enforce_sorted=False, except that the program does not wait until a GPU has the order.
    lengths, order = lengths.sort(descending=True)
    order = order.to(x.device, non_blocking=True)
    packed = pack_padded_sequence(x.index_select(0, order), lengths, batch_first=True)
    return PackedSequence(packed.data, packed.batch_sizes, order)


def check_lengths(lengths: Tensor, x: Tensor) -> Tensor:
    """Return lengths if there is an integer from 1 to T for each sequence of ``x`` (B, T, ...); raise an error if not.

    PyTorch would accept others, although it then packs fewer rows than it counts. Lengths on a GPU are not read, which
    would wait for it.
    """
    if not torch.compiler.is_compiling():
        check_tensor("lengths", lengths)
    if lengths.shape != x.shape[:1]:
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)}, but {(len(x),)} is needed, one for each sequence of x."
        )
    if torch.compiler.is_compiling():
        return lengths
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths is {lengths.dtype}, but must be of an integer type.")
    if lengths.device.type == "cpu":
        least, most = map(int, lengths.aminmax())
        if least < 1 or most > x.shape[1]:
            raise ValueError(f"lengths must lie between 1 and the {x.shape[1]} steps of x, but are {least} to {most}.")
    return lengths


def unpack(packed: PackedSequence, data: Tensor, length: int) -> Tensor:
    """Pad rows of a packed batch.

    Parameters
    ----------
    packed : torch.nn.utils.rnn.PackedSequence
        A result of ``pack``.
    data : Tensor of shape (rows of packed, ...)
        One row for each row of ``packed``.
    length : int
        Steps of the padded batch.

    Returns
    -------
    padded : Tensor of shape (B, length, ...)
        Zero after the end of each sequence.
    """
    if not torch.compiler.is_compiling():
        if not isinstance(packed, PackedSequence):
            raise TypeError(f"packed is of type {type(packed).__name__}, but must be a result of pack().")
        if isinstance(length, bool) or not isinstance(length, int) or length < len(packed.batch_sizes):
            raise ValueError(f"length is {length!r}, but must be an integer of at least {len(packed.batch_sizes)}.")
        check_rows("data", check_tensor("data", data, packed.data, "packed is"), len(packed.data), "as packed has")
    # Given the order, PyTorch would also sort the lengths, for which the program waits for a GPU.
    ordered = PackedSequence(data, packed.batch_sizes)
    padded = pad_packed_sequence(ordered, batch_first=True, total_length=length)[0]
    assert packed.unsorted_indices is not None
    return padded.index_select(0, packed.unsorted_indices)
