"""Forecasts of collections of short series; called by ``python benchmarks/forecasting.py --collections FOLDER``.

The folder holds ``NAME.json.gz`` with ``{"sp", "horizon", "series": [{"train": [...], "test": [...]}]}``, and
``exchange_rate.txt.gz``, a row of rates a day: each rate is forecast for 30 days from 10 days, 30 days apart, given the
500 days before. Everybody has default parameters and the season, and is fitted to each series by itself; but LightGBM
(of mlforecast) and NHITS (of neuralforecast) are trained once, on all training parts of the collection. LightGBM reads
the last two seasons, at least four steps, of the standardised changes, and gives no quantiles. NHITS reads two
horizons, scaled robustly, and is trained for quantiles. They are left out on the exchange rates, where the training
parts of later days would show them the test parts of earlier ones.

MASE is the absolute error in units of the mean absolute error of the seasonal naive forecast within the training part.
SQL, the scaled quantile loss, is twice the mean pinball loss of the deciles in the same units. Both are means over
steps and series; series whose unit is 0 are left out. Coverage is that of the central 50, 80 and 90 % intervals.
``absurd`` is the share of series with a 95 % quantile above five times the greatest value of the training part. A ratio
divides by the better of AutoETS and AutoTheta on the same collection. Milliseconds are those of the processor, a
series. AutoARIMA, which takes seconds a series where there is a season, is run where there is none.
"""

import gzip
import importlib.util
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

LEVELS = np.array([0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95])
MIDDLE = len(LEVELS) // 2
DECILES = np.isin(LEVELS, np.arange(1, 10) / 10)
INTERVALS = {"50 %": (0.25, 0.75), "80 %": (0.1, 0.9), "90 %": (0.05, 0.95)}
ORDER = ("m3_yearly", "m3_quarterly", "m3_monthly", "m3_other", "hospital", "carparts")
EXCHANGE = "exchange_rate.txt.gz"
DAYS, DAYS_BEFORE, ORIGINS = 30, 500, 10  # of the exchange rates
Series = tuple[np.ndarray, np.ndarray]
Method = Callable[[list[np.ndarray], int, int], Sequence[np.ndarray]]  # training parts, horizon, season -> quantiles


def load(path: Path, n_series: int) -> tuple[list[Series], int, int]:
    """Return evenly spaced series of a collection (train, test), its horizon and its season."""
    if path.name == EXCHANGE:
        rates = np.loadtxt(path, delimiter=",").T
        ends = rates.shape[1] - DAYS * np.arange(ORIGINS, 0, -1)
        every = [(rate[end - DAYS_BEFORE : end], rate[end : end + DAYS]) for rate in rates for end in ends]
        horizon, season = DAYS, 1
    else:
        with gzip.open(path, "rt") as file:
            collection = json.load(file)
        parts = [[np.array(series[part], dtype=float) for part in ("train", "test")] for series in collection["series"]]
        every = [(train, test) for train, test in parts]
        horizon, season = collection["horizon"], collection["sp"]
    chosen = np.unique(np.linspace(0, len(every) - 1, min(n_series, len(every))).round().astype(int))
    return [every[i] for i in chosen], horizon, season


def each(forecast: Callable[[np.ndarray, int, int], np.ndarray]) -> Method:
    """Return the method that forecasts each series by itself."""

    def method(trains: list[np.ndarray], horizon: int, season: int) -> list[np.ndarray]:
        return [forecast(train, horizon, season) for train in trains]

    return method


def by_sfm(train: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Return the quantiles (H, levels) of SFMForecaster."""
    import pandas as pd

    from sfmts import SFMForecaster

    model = SFMForecaster(sp=season, random_state=0).fit(pd.Series(train), fh=range(1, horizon + 1))
    return model.predict_quantiles(alpha=LEVELS.tolist()).to_numpy()


def by_statsforecast(name: str) -> Method:
    """Return the method of a model of statsforecast; the last value is its forecast where it fails."""

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

    return each(forecast)


def long_frame(trains: list[np.ndarray]) -> "pd.DataFrame":
    """Return the series one below the other."""
    import pandas as pd

    lengths = [len(train) for train in trains]
    times = np.concatenate([np.arange(length) for length in lengths])
    return pd.DataFrame(
        {"unique_id": np.repeat(np.arange(len(trains)), lengths), "ds": times, "y": np.concatenate(trains)}
    )


def by_lightgbm(trains: list[np.ndarray], horizon: int, season: int) -> np.ndarray:
    """Return forecasts (series, H, levels) of mlforecast's LightGBM, NaN except for the median."""
    from lightgbm import LGBMRegressor
    from mlforecast import MLForecast
    from mlforecast.target_transforms import Differences, LocalStandardScaler

    model = MLForecast(
        models={"y": LGBMRegressor(verbosity=-1, random_state=0)},
        freq=1,
        lags=list(range(1, max(4, 2 * season) + 1)),
        target_transforms=[Differences([1]), LocalStandardScaler()],
    )
    found = model.fit(long_frame(trains)).predict(horizon)
    quantiles = np.full((len(trains), horizon, len(LEVELS)), np.nan)
    quantiles[:, :, MIDDLE] = found.sort_values(["unique_id", "ds"])["y"].to_numpy().reshape(len(trains), horizon)
    return quantiles


def by_nhits(trains: list[np.ndarray], horizon: int, season: int) -> np.ndarray:
    """Return quantiles (series, H, levels) of neuralforecast's NHITS."""
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import NHITS

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    silent = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    model = NHITS(
        h=horizon,
        input_size=2 * horizon,
        loss=MQLoss(quantiles=LEVELS.tolist()),
        scaler_type="robust",
        start_padding_enabled=True,
        random_seed=0,
        enable_model_summary=False,
        **silent,
    )
    forecaster = NeuralForecast([model], freq=1)
    forecaster.fit(long_frame(trains), val_size=0)
    found = forecaster.predict().sort_values(["unique_id", "ds"]).drop(columns=["unique_id", "ds"])
    return np.sort(found.to_numpy().reshape(len(trains), horizon, len(LEVELS)), axis=2)


METHODS: dict[str, Method] = {
    "sfm": each(by_sfm),
    "auto-ets": by_statsforecast("AutoETS"),
    "auto-theta": by_statsforecast("AutoTheta"),
    "auto-arima": by_statsforecast("AutoARIMA"),
    "seasonal-naive": by_statsforecast("SeasonalNaive"),
    "lightgbm": by_lightgbm,
    "nhits": by_nhits,
}
SHARED = ("lightgbm", "nhits")  # trained on all series of a collection
LIBRARIES = {"sfm": "sfmts", "lightgbm": "mlforecast", "nhits": "neuralforecast"}  # others: statsforecast
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
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantiles = method([train for train, _ in every], horizon, season)
    seconds = (time.process_time() - begin) / len(every)
    found = [score(q, series, season) for q, series in zip(quantiles, every, strict=True)]
    scores = [of_one for of_one in found if of_one is not None]
    return {name: float(np.mean([of_one[name] for of_one in scores])) for name in scores[0]} | {"s": seconds}


def installed() -> list[str]:
    """Return the methods whose libraries are there, and say which are not."""
    needed = {name: LIBRARIES.get(name, "statsforecast") for name in METHODS}
    missing = sorted(library for library in set(needed.values()) if importlib.util.find_spec(library) is None)
    if missing:
        print(f"Not installed, and left out: {', '.join(missing)}")
    return [name for name, library in needed.items() if library not in missing]


def table(found: dict[str, dict[str, float]]) -> list[list[str]]:
    """Return the rows of a table of scores."""
    best = {
        what: min((found[peer][what] for peer in PEERS if peer in found), default=np.nan) for what in ("MASE", "SQL")
    }
    rows = [["", "MASE", "ratio", "SQL", "ratio", *INTERVALS, "absurd", "ms a series"]]
    for name, scores in found.items():
        means = [value for what in best for value in (scores[what], scores[what] / best[what])]
        without = np.isnan(scores["SQL"])  # there are no quantiles, so no interval covers anything
        covered = [np.nan if without else scores[band] for band in (*INTERVALS, "absurd")]
        rows.append([name, *(f"{value:.3f}" for value in (*means, *covered)), f"{1e3 * scores['s']:.0f}"])
    return rows


def compare_collections(folder: Path, n_series: int) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield a title and the rows of a table for each collection of the folder."""
    names = installed()
    paths = [folder / f"{name}.json.gz" for name in ORDER] + [folder / EXCHANGE]
    for path in filter(Path.exists, paths):
        every, horizon, season = load(path, n_series)
        left_out = () if season == 1 else ("auto-arima",)
        left_out += SHARED if path.name == EXCHANGE else ()
        there = [name for name in names if name not in left_out]
        found = {name: measure(METHODS[name], every, horizon, season) for name in there}
        title = f"{path.name.split('.')[0]}: {len(every)} series, horizon {horizon}, season {season}"
        yield title, table(found)
