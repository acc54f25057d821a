"""Estimators with scikit-learn's interface."""

from sfmts.estimators.classifier import SFMClassifier
from sfmts.estimators.density import SFMDensity
from sfmts.estimators.features import SFMFeatures
from sfmts.estimators.labeler import SFMLabeler
from sfmts.estimators.regressor import SFMRegressor
from sfmts.estimators.ridge import SFMRidgeClassifier, SFMRidgeRegressor
from sfmts.estimators.scaler import PanelScaler

__all__ = [
    "PanelScaler",
    "SFMClassifier",
    "SFMDensity",
    "SFMFeatures",
    "SFMLabeler",
    "SFMRegressor",
    "SFMRidgeClassifier",
    "SFMRidgeRegressor",
]
