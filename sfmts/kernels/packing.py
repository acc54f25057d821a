"""Padded batches to packed ones and back."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def pack(x: Tensor, lengths: Tensor | None) -> PackedSequence:
    """Pack a padded batch (B, T, ...)."""
    if lengths is None:
        lengths = torch.full((len(x),), x.shape[1])
    if lengths.shape != x.shape[:1]:
        raise ValueError(f"lengths has shape {tuple(lengths.shape)}, but {(len(x),)} is needed, one for each sequence.")
    return pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)


def unpack(packed: PackedSequence, data: Tensor, length: int) -> Tensor:
    """Padded (B, ``length``, ...) form of ``data``, whose rows follow those of ``packed``."""
    like = PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
    return pad_packed_sequence(like, batch_first=True, total_length=length)[0]
