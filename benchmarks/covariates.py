"""Show whether covariates help SFMForecaster and AutoARIMA on series that come with sktime.

    pip install statsforecast      # for AutoARIMA, which is left out without it
    python benchmarks/covariates.py

Each series is forecast from several points of its second half; both methods are fitted anew at each, with default
parameters, once with X and once without. Future values of X are given. The error is the mean absolute one, in units of
the mean absolute change of the past from step to step.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when the libraries below are loaded

import importlib.util
import time
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sktime.datasets import load_longley, load_macroeconomic, load_uschange

from sfmts import SFMForecaster

Series = tuple[str, pd.Series, pd.DataFrame, int, int]
N_POINTS = 12


def collection() -> Iterator[Series]:
    """Yield a name, the series, its covariates, the steps of a season and those to forecast."""
    yield "employment (Longley)", *load_longley(), 1, 3
    yield "US consumption, growth", *load_uschange(), 4, 4
    economy = load_macroeconomic()
    for name, target, covariates in (
        ("US consumption", "realcons", ["realdpi", "unemp", "tbilrate"]),
        ("US consumer prices", "cpi", ["m1", "tbilrate", "unemp"]),
        ("US inflation", "infl", ["m1", "tbilrate", "unemp"]),
    ):
        yield name, economy[target], economy[covariates], 4, 4


def ours(y: pd.Series, X: pd.DataFrame | None, later: pd.DataFrame | None, sp: int, n: int) -> np.ndarray:
    """Return the forecast of SFMForecaster."""
    model = SFMForecaster(sp=sp, random_state=0).fit(y, X=X, fh=range(1, n + 1))
    return model.predict(X=later).to_numpy().ravel()


def auto_arima(y: pd.Series, X: pd.DataFrame | None, later: pd.DataFrame | None, sp: int, n: int) -> np.ndarray:
    """Return the forecast of statsforecast's AutoARIMA, with standardised covariates."""
    from statsforecast.models import AutoARIMA

    options = {}
    if X is not None:
        mean, scale = X.mean(), X.std()
        options = {"X": ((X - mean) / scale).to_numpy(), "X_future": ((later - mean) / scale).to_numpy()}
    return AutoARIMA(season_length=sp).forecast(y.to_numpy(), n, **options)["mean"]


METHODS = {"SFMForecaster": ours}
if importlib.util.find_spec("statsforecast"):
    METHODS["AutoARIMA"] = auto_arima


def errors(series: Series) -> dict[str, float]:
    """Return the mean error of each method, with X and without."""
    _, y, X, sp, n = series
    y, X = pd.Series(np.asarray(y, dtype=float).ravel()), pd.DataFrame(np.asarray(X, dtype=float))
    first, last = len(y) // 2, len(y) - n
    found: dict[str, list[float]] = {}
    for cut in range(first, last + 1, max(1, (last - first) // N_POINTS)):
        past, unit = y[:cut], float(np.abs(np.diff(y[:cut])).mean())
        for name, forecast in METHODS.items():
            for title, known in ((name, (None, None)), (f"{name} with X", (X[:cut], X[cut : cut + n]))):
                error = np.abs(forecast(past, *known, sp, n) - y[cut : cut + n]).mean() / unit
                found.setdefault(title, []).append(float(error))
    return {title: float(np.mean(values)) for title, values in found.items()}


def main() -> None:
    warnings.filterwarnings("ignore")
    titles: list[str] = []
    for series in collection():
        start = time.process_time()
        row = errors(series)
        if not titles:
            titles = list(row)
            print("| series | steps | " + " | ".join(titles) + " | seconds |\n" + "|---" * (3 + len(titles)) + "|")
        cells = [f"{row[title]:.3f}" for title in titles]
        print(f"| {series[0]} | {len(series[1])} | " + " | ".join(cells) + f" | {time.process_time() - start:.0f} |")


if __name__ == "__main__":
    main()
