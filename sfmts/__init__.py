"""State-Frequency Memory networks for time series, with scikit-learn's interface, on PyTorch."""

import importlib.util
import os
import typing

import torch

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
    from sfmts.forecasting import SFMForecaster

__version__ = "0.1.0"
__all__ = [
    "PanelScaler",
    "SFMClassifier",
    "SFMDensity",
    "SFMFeatures",
    "SFMLabeler",
    "SFMRegressor",
    "SFMRidgeClassifier",
    "SFMRidgeRegressor",
    "__version__",
]
if importlib.util.find_spec("sktime") is not None:  # without sktime, `from sfmts import *` gives the other names
    __all__ += ["SFMForecaster"]


_SUBMODULES = frozenset(
    (
        "datasets",
        "estimators",
        "features",
        "forecasting",
        "heads",
        "kernels",
        "metrics",
        "model",
        "model_selection",
        "networks",
        "plotting",
        "sktime",
        "training",
    )
)

# A forked process has none of the OpenMP threads that PyTorch started before, and would wait for them forever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


# sktime is optional and takes seconds to import, so the forecaster is imported on first use.
def __getattr__(name: str) -> typing.Any:
    if name != "SFMForecaster":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sfmts.forecasting import SFMForecaster

    globals()[name] = SFMForecaster
    return SFMForecaster


def __dir__() -> list[str]:
    return sorted({*__all__, *(_SUBMODULES & globals().keys())})
