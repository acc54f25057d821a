"""Fixed memory: a bank of oscillators, its features, and ridge regression on these."""

from sfmts.features._importance import FrequencyImportance
from sfmts.features._stream import FeatureStream

__all__ = ["FeatureStream", "FrequencyImportance"]


def __dir__() -> list[str]:
    return [*__all__]
