"""The SFM recurrence: tensors in, tensors out."""

from sfmts.kernels.dispatch import BACKENDS, resolve_backend, sfm
from sfmts.kernels.reference import SFMState, SFMWeights, sfm_state

__all__ = ["BACKENDS", "SFMState", "SFMWeights", "resolve_backend", "sfm", "sfm_state"]
