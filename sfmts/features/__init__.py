"""The fixed memory: a bank of oscillators, the features it gives, and ridge regression on them."""

from sfmts.features.stream import FeatureStream

__all__ = ["FeatureStream"]
