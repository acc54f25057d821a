"""State-Frequency Memory networks for time series, with scikit-learn's interface, on PyTorch."""

from typing import TYPE_CHECKING, Any

from sfmts.estimators import PanelScaler, SFMClassifier, SFMDensity, SFMLabeler, SFMRegressor

if TYPE_CHECKING:
    from sfmts.estimators.forecaster import SFMForecaster

__version__ = "0.1.0"
__all__ = [
    "PanelScaler",
    "SFMClassifier",
    "SFMDensity",
    "SFMForecaster",
    "SFMLabeler",
    "SFMRegressor",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name != "SFMForecaster":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from sfmts.estimators.forecaster import SFMForecaster
    except ModuleNotFoundError as error:
        if error.name not in ("pandas", "sktime"):
            raise
        raise ImportError(f'SFMForecaster needs {error.name}: pip install "sfmts[forecasting]".') from error
    return SFMForecaster


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
