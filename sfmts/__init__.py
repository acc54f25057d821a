"""State-Frequency Memory networks for time series, with scikit-learn's interface, on PyTorch."""

import typing

from sfmts.estimators import (
    PanelScaler,
    SFMClassifier,
    SFMDensity,
    SFMFeatures,
    SFMLabeler,
    SFMRegressor,
    SFMRidgeClassifier,
    SFMRidgeRegressor,
)

if typing.TYPE_CHECKING:
    from sfmts.estimators.forecaster import SFMForecaster

__version__ = "0.1.0"
__all__ = [
    "PanelScaler",
    "SFMClassifier",
    "SFMDensity",
    "SFMFeatures",
    "SFMForecaster",
    "SFMLabeler",
    "SFMRegressor",
    "SFMRidgeClassifier",
    "SFMRidgeRegressor",
    "__version__",
]


# sktime takes seconds to import, and is an extra: it waits until somebody wants to forecast.
def __getattr__(name: str) -> typing.Any:
    if name != "SFMForecaster":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from sfmts.estimators.forecaster import SFMForecaster
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in ("pandas", "sktime"):
            raise
        how = 'pip install ".[forecasting]" in a checkout of sfmts'
        raise ImportError(f"SFMForecaster needs {missing}: {how}.") from error
    globals()[name] = SFMForecaster
    return SFMForecaster


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
