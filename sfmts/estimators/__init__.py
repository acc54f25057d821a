"""Estimators with scikit-learn's interface."""

from sfmts.estimators.classifier import SFMClassifier
from sfmts.estimators.density import SFMDensity
from sfmts.estimators.features import SFMFeatures
from sfmts.estimators.labeler import SFMLabeler
from sfmts.estimators.regressor import SFMRegressor
from sfmts.estimators.ridge import ClassifierStream, RegressorStream, SFMRidgeClassifier, SFMRidgeRegressor
from sfmts.estimators.scaler import PanelScaler

__all__ = [
    "ClassifierStream",
    "PanelScaler",
    "RegressorStream",
    "SFMClassifier",
    "SFMDensity",
    "SFMFeatures",
    "SFMLabeler",
    "SFMRegressor",
    "SFMRidgeClassifier",
    "SFMRidgeRegressor",
]
