"""Forecasts of collections of short series; called by ``python benchmarks/forecasting.py --collections FOLDER``.

The folder holds ``NAME.json.gz`` with ``{"sp", "horizon", "series": [{"train": [...], "test": [...]}]}``. Everybody is
fitted to each series by itself, with default parameters and the season.

MASE is the absolute error in units of the mean absolute error of the seasonal naive forecast within the training part.
SQL, the scaled quantile loss, is twice the mean pinball loss of the deciles in the same units. Both are means over
steps and series; series whose unit is 0 are left out. Coverage is that of the central 50, 80 and 90 % intervals.
``absurd`` is the share of series with a 95 % quantile above five times the greatest value of the training part. A ratio
divides by the better of AutoETS and AutoTheta on the same collection. Seconds are those of the processor, a series.
AutoARIMA, which takes seconds a series, is run where there is no season.
"""

import gzip
import importlib.util
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

LEVELS = np.array([0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95])
MIDDLE = len(LEVELS) // 2
DECILES = np.isin(LEVELS, np.arange(1, 10) / 10)
INTERVALS = {"50 %": (0.25, 0.75), "80 %": (0.1, 0.9), "90 %": (0.05, 0.95)}
ORDER = ("m3_yearly", "m3_quarterly", "m3_monthly", "m3_other", "hospital", "carparts")
Series = tuple[np.ndarray, np.ndarray]
Method = Callable[[np.ndarray, int, int], np.ndarray]


def load(path: Path, n_series: int) -> tuple[list[Series], int, int]:
    """Return evenly spaced series of a collection (train, test), its horizon and its season."""
    with gzip.open(path, "rt") as file:
        collection = json.load(file)
    every = collection["series"]
    chosen = np.unique(np.linspace(0, len(every) - 1, min(n_series, len(every))).round().astype(int))
    series = [tuple(np.array(every[i][part], dtype=float) for part in ("train", "test")) for i in chosen]
    return series, collection["horizon"], collection["sp"]  # type: ignore[return-value]


def by_sfm(train: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Return the quantiles (H, levels) of SFMForecaster."""
    import pandas as pd

    from sfmts import SFMForecaster

    model = SFMForecaster(sp=season, random_state=0).fit(pd.Series(train), fh=range(1, horizon + 1))
    return model.predict_quantiles(alpha=LEVELS.tolist()).to_numpy()


def by_statsforecast(name: str) -> Method:
    """Return a method with the quantiles (H, levels) of a model of statsforecast; the last value where it fails."""

    def forecast(train: np.ndarray, horizon: int, season: int) -> np.ndarray:
        from statsforecast import models

        model = getattr(models, name)(season_length=season)
        widths = [round(100 * (1 - 2 * level)) for level in LEVELS[:MIDDLE]]
        try:
            found = model.forecast(y=train, h=horizon, level=sorted(widths))
        except Exception:  # AutoETS and AutoARIMA refuse some very short series
            return np.full((horizon, len(LEVELS)), train[-1])
        low, high = ([found[f"{end}-{width}"] for width in widths] for end in ("lo", "hi"))
        return np.stack([*low, found["mean"], *high[::-1]], axis=1)

    return forecast


METHODS: dict[str, Method] = {
    "sfm": by_sfm,
    "auto-ets": by_statsforecast("AutoETS"),
    "auto-theta": by_statsforecast("AutoTheta"),
    "auto-arima": by_statsforecast("AutoARIMA"),
    "seasonal-naive": by_statsforecast("SeasonalNaive"),
}
PEERS = ("auto-ets", "auto-theta")


def score(quantiles: np.ndarray, series: Series, season: int) -> dict[str, float] | None:
    """Return the scores of one forecast; None if the training part has no scale."""
    train, test = series
    distances = np.abs(train[season:] - train[:-season]) if len(train) > season else np.abs(np.diff(train))
    unit = distances.mean() if len(distances) else 0.0
    if not unit > 0:
        return None
    excess = test[:, None] - quantiles
    pinball = np.maximum(LEVELS * excess, (LEVELS - 1) * excess)
    found = {"MASE": np.abs(excess[:, MIDDLE]).mean() / unit, "SQL": 2 * pinball[:, DECILES].mean() / unit}
    for name, ends in INTERVALS.items():
        low, high = (quantiles[:, np.flatnonzero(np.isclose(LEVELS, end))[0]] for end in ends)
        found[name] = ((low <= test) & (test <= high)).mean()
    found["absurd"] = float(quantiles[:, -1].max() > 5 * train.max())
    return {name: float(value) for name, value in found.items()}


def measure(method: Method, every: Sequence[Series], horizon: int, season: int) -> dict[str, float]:
    """Return the mean scores of a method on a collection."""
    begin, found = time.process_time(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for series in every:
            scores = score(method(series[0], horizon, season), series, season)
            found += [] if scores is None else [scores]
    seconds = (time.process_time() - begin) / len(every)
    return {name: float(np.mean([scores[name] for scores in found])) for name in found[0]} | {"s": seconds}


def compare_collections(folder: Path, n_series: int) -> list[tuple[str, list[list[str]]]]:
    """Return a title and the rows of a table for each collection of the folder."""
    names, tables = list(METHODS), []
    if importlib.util.find_spec("statsforecast") is None:
        print("statsforecast is not installed (pip install statsforecast)")
        names = ["sfm"]
    for collection in (name for name in ORDER if (folder / f"{name}.json.gz").exists()):
        every, horizon, season = load(folder / f"{collection}.json.gz", n_series)
        found = {
            name: measure(METHODS[name], every, horizon, season)
            for name in names
            if name != "auto-arima" or season == 1
        }
        best = {
            what: min((found[peer][what] for peer in PEERS if peer in found), default=np.nan)
            for what in ("MASE", "SQL")
        }
        rows = [["", "MASE", "ratio", "SQL", "ratio", *INTERVALS, "absurd", "ms a series"]]
        for name, scores in found.items():
            ratios = {what: f"{scores[what] / best[what]:.3f}" for what in best}
            covered = [f"{scores[interval]:.3f}" for interval in INTERVALS]
            means = [f"{scores['MASE']:.3f}", ratios["MASE"], f"{scores['SQL']:.3f}", ratios["SQL"]]
            rows.append([name, *means, *covered, f"{scores['absurd']:.3f}", f"{1e3 * scores['s']:.0f}"])
        title = f"{collection}: {len(every)} series, horizon {horizon}, season {season}"
        tables.append((title, rows))
        print(f"{collection}: ready", flush=True)
    return tables
