"""Estimators with scikit-learn's interface."""

from sfmts.estimators.classifier import SFMClassifier

__all__ = ["SFMClassifier"]
