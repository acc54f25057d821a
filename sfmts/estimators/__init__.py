"""Estimators with scikit-learn's interface."""

from sfmts.estimators.classifier import SFMClassifier
from sfmts.estimators.scaler import PanelScaler

__all__ = ["PanelScaler", "SFMClassifier"]
