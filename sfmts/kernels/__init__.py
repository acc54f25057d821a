"""Run recurrences on tensors: the SFM, damped oscillators, the fixed memory, and any other recurrence step by step.

Each operation has several backends with the same signature. "reference" states the equations, "fused" runs in PyTorch
on any device, "native" is compiled for the processor, and "cuda" is a kernel for NVIDIA GPUs.
"""

from sfmts.kernels._bank import SUMMARIES, Bank, resolve_bank, summarize_bank, trace_bank
from sfmts.kernels._compiled import instruction_set
from sfmts.kernels._eager import eager
from sfmts.kernels._gpu import first as nvidia_gpu
from sfmts.kernels._packing import pack, unpack
from sfmts.kernels._resonator import resolve_resonator, resonate, resonator_layer
from sfmts.kernels._scan import SharedMatrix, State, Step, scan, scan_padded
from sfmts.kernels._sfm import BACKENDS, MEMORIES, resolve_backend, sfm
from sfmts.kernels._sfm.layer import sfm_layer
from sfmts.kernels._sfm.reference import SFMState, SFMWeights, sfm_state

__all__ = [
    "BACKENDS",
    "MEMORIES",
    "SUMMARIES",
    "Bank",
    "SFMState",
    "SFMWeights",
    "SharedMatrix",
    "State",
    "Step",
    "eager",
    "instruction_set",
    "nvidia_gpu",
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
