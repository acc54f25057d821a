"""State-Frequency Memory networks for time series, with scikit-learn's interface, on PyTorch."""

from sfmts.estimators import PanelScaler, SFMClassifier

__version__ = "0.1.0"
__all__ = ["PanelScaler", "SFMClassifier", "__version__"]
