"""State-Frequency Memory networks for time series, with scikit-learn's interface, on PyTorch."""

from sfmts.estimators import PanelScaler, SFMClassifier, SFMDensity, SFMLabeler, SFMRegressor

__version__ = "0.1.0"
__all__ = ["PanelScaler", "SFMClassifier", "SFMDensity", "SFMLabeler", "SFMRegressor", "__version__"]
