"""Forecasting with sktime's interface; the only package that imports sktime's forecasting module."""

import typing

if typing.TYPE_CHECKING:
    from sfmts.forecasting.forecaster import SFMForecaster

__all__ = ["SFMForecaster"]


# sktime is optional and takes seconds to import, so the estimator is imported on first use.
def __getattr__(name: str) -> typing.Any:
    if name != "SFMForecaster":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from sfmts.forecasting.forecaster import SFMForecaster
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in ("pandas", "sktime"):
            raise
        raise ImportError(
            f"SFMForecaster needs {missing}, which is not installed. In a checkout of sfmts, run "
            'pip install ".[forecasting]".'
        ) from error
    globals()[name] = SFMForecaster
    return SFMForecaster


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
