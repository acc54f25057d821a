"""The recurrences: tensors in, tensors out."""

from sfmts.kernels.bank import resolve_bank, summarize_bank, trace_bank
from sfmts.kernels.dispatch import BACKENDS, MEMORIES, resolve_backend, sfm
from sfmts.kernels.eager import eager
from sfmts.kernels.layer import sfm_layer
from sfmts.kernels.loop import SharedMatrix, State, Step, scan, scan_padded
from sfmts.kernels.packing import pack, unpack
from sfmts.kernels.reference import SFMState, SFMWeights, sfm_state
from sfmts.kernels.resonator import resolve_resonator, resonate, resonator_layer

__all__ = [
    "BACKENDS",
    "MEMORIES",
    "SFMState",
    "SFMWeights",
    "SharedMatrix",
    "State",
    "Step",
    "eager",
    "pack",
    "resolve_backend",
    "resolve_bank",
    "resolve_resonator",
    "resonate",
    "resonator_layer",
    "scan",
    "scan_padded",
    "sfm",
    "sfm_layer",
    "sfm_state",
    "summarize_bank",
    "trace_bank",
    "unpack",
]
