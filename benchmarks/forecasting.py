"""Forecasts of SFMForecaster beside those of classical methods and of the networks that a user would try instead.

    python benchmarks/forecasting.py                                        airline, lynx, PBS and solar
    python benchmarks/forecasting.py --ett ETTh1.csv                        these and the ETTh1 tables
    python benchmarks/forecasting.py --data airline --only naive sfm nhits --seeds 3
    python benchmarks/forecasting.py --collections FOLDER --peers FOLDER    M3 and hospital, beside statsforecast
    python benchmarks/forecasting.py --data solar --set nhits.max_steps=200 sktime-dlinear.num_epochs=50

Everybody has default parameters but for those given here and for those without a default: a look-back of two seasons
(336 hours on ETTh1), the horizon, and the season wherever a method takes it (an additive one in theta, whose default
fails, where values are not all positive).  Peers that do not scale get values that are standardised by what they are
fitted to.  neuralforecast and darts take each variable as a series of its own and share a network among them.

Small sets, from sktime: every method is fitted anew at each of 5 to 8 origins, to all that lies before, and forecasts
one season (solar: 48 half-hours).

ETTh1, the first 12 months for training, 4 for validation (here only seen as history), 4 for the test.  Networks are
fitted once, to the training months.  Classical methods are fitted anew at each origin, to the 28 days before it.

``etth1-ot-24``, ``etth1-ot-96``, ``etth1-24``, ``etth1-96``
    Oil temperature alone, and all seven variables, 24 and 96 hours ahead, from every 97th hour of the test months: 97
    is prime to 24, so that origins are at all times of the day.
``etth1-windows-96``, ``etth1-windows-336``
    The protocol of the papers on long horizons: all seven variables, every window of the test months, squared and
    absolute errors of values standardised by the training months.  Who must be fitted at each origin is left out.

MASE is the absolute error in units of the mean absolute error of the seasonal naive forecast before the origin, on
ETTh1 within the training months; CRPS is twice the mean pinball loss of the quantiles .05, .10, ... .95, in the same
units; coverage is that of the interval from .05 to .95.  They are means over origins, steps and variables.  The point
forecast of a method that is trained for quantiles is its median; quantiles that cross are put in order.

Every method has a process of its own on every data set.  Its peak of memory counts the imports; its seconds do not,
and are those of the processor, which a busy machine hardly changes; a forecast is one origin's, of all steps and
variables.  The training of peers that run on Lightning ends after ``--limit`` such seconds a fit, if it has not before
(60 on small sets, 300 on ETTh1); "cut" then stands beside their seconds.  Needs Linux.

neuralforecast and darts are run if they can be imported, from ``--peers FOLDER`` if they live in a folder of their own.
"""

import argparse
import ast
import functools
import importlib.metadata
import importlib.util
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from scipy.stats import norm

QUANTILES = [round(0.05 * i, 2) for i in range(1, 20)]
CHUNK = 256  # origins that are forecast at a time, which bounds the memory that forecasts take

# -- data


@dataclass(frozen=True)
class Data:
    """A data set and its protocol.

    Parameters
    ----------
    load : callable
        Takes the path of ETTh1.csv and returns a frame, a column a variable.
    season, horizon, lookback : int
        Steps.
    first, stride, last : int
        Origins, as the number of rows before them; a negative first or last counts from the end.
    train : int or None
        Rows that networks are fitted to, once; None fits everybody anew at each origin.
    recent : int or None
        Rows before an origin that those are fitted to who are fitted anew; None for all.
    limit : float
        Processor's seconds of a fit of those who can be told to stop.
    scores : tuple of str
        Columns of the table.
    """

    load: Callable[[str | None], pd.DataFrame]
    season: int
    horizon: int
    lookback: int
    first: int
    stride: int
    last: int
    train: int | None = None
    recent: int | None = None
    limit: float = 60.0
    scores: tuple[str, ...] = ("MASE", "CRPS", "coverage")

    def origins(self, n_rows: int) -> range:
        """Return the number of rows before each origin."""
        first, last = (n_rows + row if row < 0 else row for row in (self.first, self.last))
        return range(first, last + 1, self.stride)

    def takes(self, contender: "Contender") -> bool:
        """Return whether the protocol provides for it."""
        return contender.once or self.train is None or self.recent is not None


def from_sktime(name: str, **options: Any) -> Callable[[str | None], pd.DataFrame]:
    """Return a loader of one of sktime's series."""

    def load(_: str | None) -> pd.DataFrame:
        import sktime.datasets

        return getattr(sktime.datasets, f"load_{name}")(**options).astype(float).to_frame()

    return load


def etth1(*columns: str) -> Callable[[str | None], pd.DataFrame]:
    """Return a loader of these columns of ETTh1, or of all."""

    def load(path: str | None) -> pd.DataFrame:
        frame = pd.read_csv(path, index_col="date", parse_dates=True).asfreq("h").iloc[:ETT_END]
        return frame[list(columns)] if columns else frame

    return load


ETT_TRAIN, ETT_TEST, ETT_END = (24 * 30 * months for months in (12, 16, 20))


def sampled_ett(horizon: int, *columns: str) -> Data:
    """Return origins at every 97th hour of the test months."""
    scores = ("MASE", "CRPS", "coverage", "MSE", "MAE")
    return Data(
        etth1(*columns), 24, horizon, 336, ETT_TEST, 97, -horizon, ETT_TRAIN, recent=24 * 28, limit=300.0, scores=scores
    )


def every_window(horizon: int) -> Data:
    """Return origins at every hour of the test months."""
    return Data(etth1(), 24, horizon, 336, ETT_TEST, 1, -horizon, train=ETT_TRAIN, limit=300.0, scores=("MSE", "MAE"))


DATA = {
    "airline": Data(from_sktime("airline"), 12, 12, 24, -72, 12, -12),
    "lynx": Data(from_sktime("lynx"), 10, 10, 20, -60, 10, -10),
    "PBS": Data(from_sktime("PBS_dataset"), 12, 12, 24, -96, 12, -12),
    "solar": Data(from_sktime("solar", api_version=None), 48, 48, 96, -96, 12, -48),
    "etth1-ot-24": sampled_ett(24, "OT"),
    "etth1-ot-96": sampled_ett(96, "OT"),
    "etth1-24": sampled_ett(24),
    "etth1-96": sampled_ett(96),
    "etth1-windows-96": every_window(96),
    "etth1-windows-336": every_window(336),
}


# -- contenders


class Forecast(NamedTuple):
    """Of n origins: point (n, horizon, variables), and quantiles (n, horizon, variables, 19) of who has them."""

    point: np.ndarray
    quantiles: np.ndarray | None


class Task(NamedTuple):
    """What a contender is told before it sees data."""

    season: int
    horizon: int
    lookback: int
    n_variables: int
    positive: bool
    quantiles: bool
    limit: float
    seed: int
    options: dict[str, Any]


class Forecaster(Protocol):
    """What each library is brought to."""

    task: Task

    def fit(self, history: pd.DataFrame) -> object:
        """Learn from these rows."""

    def forecast(self, history: pd.DataFrame, origins: Sequence[int]) -> Forecast:
        """Forecast from ascending origins, given a frame of which each may see the rows before it."""

    def n_parameters(self) -> int | None:
        """Return the number of trainable parameters of a network."""


def windows(history: pd.DataFrame, origins: Sequence[int], length: int) -> np.ndarray:
    """Return the last rows before each origin, of shape (origins, variables, length)."""
    views = np.lib.stride_tricks.sliding_window_view(history.to_numpy(), length, axis=0)
    return views[np.asarray(origins) - length]


class Repetition:
    """The last season over and over; with a season of 1 the last value.

    Quantiles are normal, with the standard deviation of the errors within the history and their variance growing from
    season to season as that of a seasonal random walk does.
    """

    def __init__(self, task: Task, season: int) -> None:
        self.task, self.season = task, season

    def fit(self, history: pd.DataFrame) -> object:
        """Record the size of errors one season ahead."""
        errors = history.to_numpy()[self.season :] - history.to_numpy()[: -self.season]
        self.deviation = np.sqrt(np.mean(errors**2, axis=0))
        return self

    def forecast(self, history: pd.DataFrame, origins: Sequence[int]) -> Forecast:
        """Repeat what comes before each origin."""
        steps = np.arange(self.task.horizon)
        point = windows(history, origins, self.season)[:, :, steps % self.season].swapaxes(1, 2)
        spread = np.sqrt(1 + steps // self.season)[:, None] * self.deviation
        quantiles = point[..., None] + spread[..., None] * norm.ppf(QUANTILES)
        return Forecast(point, quantiles if self.task.quantiles else None)

    def n_parameters(self) -> int | None:
        """Return None, because the forecaster has no network."""
        return None


def windows_forecast(forecaster: Any, history: pd.DataFrame, origins: Sequence[int], task: Task) -> Forecast:
    """Return forecasts of a fitted sktime forecaster from ascending origins, its parameters left as they are.

    This is the road that every sktime forecaster with ``update`` can take.  The place for a shortcut of one that
    forecasts many windows in one call.
    """
    steps = np.arange(1, task.horizon + 1)
    points, quantiles = [], []
    for origin in origins:
        seen = history.index.get_loc(forecaster.cutoff[0]) + 1
        if origin > seen:
            forecaster.update(history.iloc[seen:origin], update_params=False)
        points.append(forecaster.predict(steps).to_numpy())
        if task.quantiles and forecaster.get_tag("capability:pred_int"):
            values = forecaster.predict_quantiles(steps, alpha=QUANTILES).to_numpy()
            quantiles.append(values.reshape(*points[-1].shape, len(QUANTILES)))
    return Forecast(np.stack(points), np.stack(quantiles) if quantiles else None)


class FromSktime:
    """A forecaster with sktime's interface."""

    def __init__(self, task: Task, forecaster: Any) -> None:
        self.task, self.forecaster = task, forecaster

    def fit(self, history: pd.DataFrame) -> object:
        """Fit, with the horizon for those who need it now."""
        return self.forecaster.fit(history, fh=np.arange(1, self.task.horizon + 1))

    def forecast(self, history: pd.DataFrame, origins: Sequence[int]) -> Forecast:
        """Update and predict."""
        return windows_forecast(self.forecaster, history, origins, self.task)

    def n_parameters(self) -> int | None:
        """Return the number of parameters of the forecaster or of its network."""
        if hasattr(self.forecaster, "n_parameters_"):
            return self.forecaster.n_parameters_
        network = getattr(self.forecaster, "network", None)
        return None if network is None else trainable(network)


class Standardised:
    """A forecaster of values less the mean and over the standard deviation of what it is fitted to."""

    def __init__(self, forecaster: Forecaster) -> None:
        self.task, self.forecaster = forecaster.task, forecaster

    def fit(self, history: pd.DataFrame) -> object:
        """Fit the forecaster to scaled values."""
        self.centre, self.deviation = history.mean(), history.std(ddof=0)
        return self.forecaster.fit((history - self.centre) / self.deviation)

    def forecast(self, history: pd.DataFrame, origins: Sequence[int]) -> Forecast:
        """Return forecasts, scaled back."""
        point, quantiles = self.forecaster.forecast((history - self.centre) / self.deviation, origins)
        centre, deviation = self.centre.to_numpy(), self.deviation.to_numpy()
        if quantiles is not None:
            quantiles = quantiles * deviation[:, None] + centre[:, None]
        return Forecast(point * deviation + centre, quantiles)

    def n_parameters(self) -> int | None:
        """Return the parameters of the forecaster."""
        return self.forecaster.n_parameters()


def trainable(network: Any) -> int:
    """Return the number of trainable parameters of a torch module."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def lightning_options(task: Task) -> dict[str, Any]:
    """Return options of Lightning's trainer: no files, no bars, and an end to training."""
    from pytorch_lightning import Callback

    class Limit(Callback):
        """Ends training; Lightning's own limit counts the time in which others have the processor."""

        def on_train_start(self, trainer: Any, module: Any) -> None:
            """Start the clock."""
            self.end = time.process_time() + task.limit

        def on_train_batch_end(self, trainer: Any, module: Any, *batch: Any) -> None:
            """Stop the training if time is up."""
            trainer.should_stop = trainer.should_stop or time.process_time() > self.end

    return {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [Limit()],
    }


class FromNeuralforecast:
    """A model of neuralforecast, shared by all variables, with its own loss or that of many quantiles."""

    def __init__(self, task: Task, name: str, quantiles: bool) -> None:
        from neuralforecast import NeuralForecast, models
        from neuralforecast.losses.pytorch import MQLoss

        self.task = task
        loss = {"loss": MQLoss(quantiles=QUANTILES)} if quantiles else {}
        sizes = {"h": task.horizon, "input_size": task.lookback}
        options = sizes | {"random_seed": task.seed} | loss | lightning_options(task) | task.options
        self.forecaster = NeuralForecast([getattr(models, name)(**options)], freq=1)

    @staticmethod
    def long_frame(series: np.ndarray) -> pd.DataFrame:
        """Return the frame of series in rows, numbered from 0."""
        n, length = series.shape
        ids, times = np.repeat(np.arange(n), length), np.tile(np.arange(length), n)
        return pd.DataFrame({"unique_id": ids, "ds": times, "y": series.ravel().astype(np.float32)})

    def fit(self, history: pd.DataFrame) -> object:
        """Train on all variables."""
        return self.forecaster.fit(self.long_frame(history.to_numpy().T))

    def forecast(self, history: pd.DataFrame, origins: Sequence[int]) -> Forecast:
        """Forecast the windows before all origins in one call."""
        recent = windows(history, origins, self.task.lookback)
        frame = self.forecaster.predict(df=self.long_frame(recent.reshape(-1, self.task.lookback)))
        values = frame.sort_values(["unique_id", "ds"], kind="stable").drop(columns=["unique_id", "ds"]).to_numpy()
        return from_rows(values, recent.shape[:2], self.task)

    def n_parameters(self) -> int | None:
        """Return the number of trainable parameters of the network."""
        return trainable(self.forecaster.models[0])


class FromDarts:
    """A model of darts, shared by all variables, with its own loss or quantile regression."""

    def __init__(self, task: Task, name: str, quantiles: bool) -> None:
        from darts import models
        from darts.utils.likelihood_models.torch import QuantileRegression

        logging.getLogger("darts").setLevel(logging.ERROR)
        self.task, self.quantiles = task, quantiles
        likelihood = {"likelihood": QuantileRegression(QUANTILES)} if quantiles else {}
        sizes = {"input_chunk_length": task.lookback, "output_chunk_length": task.horizon}
        trainer = {"random_state": task.seed, "pl_trainer_kwargs": lightning_options(task)}
        self.forecaster = getattr(models, name)(**(sizes | trainer | likelihood | task.options))

    @staticmethod
    def list_of_series(series: np.ndarray) -> list[Any]:
        """Return series in rows as darts takes them."""
        from darts import TimeSeries

        return [TimeSeries.from_values(values.astype(np.float32)) for values in series]

    def fit(self, history: pd.DataFrame) -> object:
        """Train on all variables."""
        return self.forecaster.fit(self.list_of_series(history.to_numpy().T), verbose=False)

    def forecast(self, history: pd.DataFrame, origins: Sequence[int]) -> Forecast:
        """Forecast the windows before all origins in one call."""
        recent = windows(history, origins, self.task.lookback)
        series = self.list_of_series(recent.reshape(-1, self.task.lookback))
        likelihood = {"predict_likelihood_parameters": True} if self.quantiles else {}
        forecasts = self.forecaster.predict(self.task.horizon, series, **likelihood, verbose=False, show_warnings=False)
        return from_rows(np.concatenate([f.values() for f in forecasts]), recent.shape[:2], self.task)

    def n_parameters(self) -> int | None:
        """Return the number of trainable parameters of the network."""
        return trainable(self.forecaster.model)


def from_rows(values: np.ndarray, origins_and_variables: tuple[int, int], task: Task) -> Forecast:
    """Return a forecast from rows (origins, variables and steps) and columns (one point or all quantiles).

    Quantiles that cross are put in order, which makes no pinball loss worse on the whole.
    """
    values = np.sort(values.reshape(*origins_and_variables, task.horizon, -1).swapaxes(1, 2))
    point = values[..., values.shape[-1] // 2]  # of 19 quantiles the median
    return Forecast(point, values if task.quantiles and values.shape[-1] > 1 else None)


@dataclass(frozen=True)
class Contender:
    """How to make a forecaster, and what it is like.

    Parameters
    ----------
    make : callable
        Takes a task; whatever it imports is imported here.
    package : str
        What must be importable.
    install : str
        How to get it.
    once : bool
        Whether what it has learned serves at any later origin.
    scales : bool
        Whether it scales values itself, or need not.
    chance : bool
        Whether it depends on the seed.
    limited : bool
        Whether it can be told to end training after so many seconds.
    """

    make: Callable[[Task], Forecaster]
    package: str = "sktime"
    install: str = 'pip install ".[forecasting]"'
    once: bool = True
    scales: bool = False
    chance: bool = True
    limited: bool = False


def make_sfm(task: Task) -> Forecaster:
    from sfmts import SFMForecaster

    return FromSktime(task, SFMForecaster(**({"sp": task.season, "random_state": task.seed} | task.options)))


@functools.cache
def repair_ets_intervals(seed: int) -> None:
    """Let sktime's AutoETS simulate intervals.

    sktime 1.2.0 takes the ``**simulate_kwargs`` of statsmodels 0.15 for an argument of that name, and fails on every
    model whose intervals are simulated.  It passes nothing to a method that does not take any.
    """
    from statsmodels.tsa.exponential_smoothing.ets import ETSResults

    predict = ETSResults.get_prediction

    def get_prediction(self: Any, start: int, end: int) -> Any:
        return predict(self, start, end, rng=seed)

    ETSResults.get_prediction = get_prediction


def make_ets(task: Task) -> Forecaster:
    from sktime.forecasting.ets import AutoETS

    repair_ets_intervals(task.seed)
    options = {"auto": True, "sp": task.season, "random_state": task.seed} | task.options
    return FromSktime(task, AutoETS(**options))


def make_theta(task: Task) -> Forecaster:
    from sktime.forecasting.theta import ThetaForecaster

    season = {"sp": task.season, "deseasonalize_model": "multiplicative" if task.positive else "additive"}
    return FromSktime(task, ThetaForecaster(**(season | task.options)))


def make_ltsf(name: str) -> Callable[[Task], Forecaster]:
    """Return one of sktime's linear networks."""

    def make(task: Task) -> Forecaster:
        import torch
        from sktime.forecasting import ltsf

        torch.manual_seed(task.seed)  # they have no seed of their own
        options = {"seq_len": task.lookback, "pred_len": task.horizon, "in_channels": task.n_variables} | task.options
        return FromSktime(task, getattr(ltsf, name)(**options))

    return make


def neuralforecast(name: str, *, quantiles: bool = False) -> Contender:
    install = "pip install neuralforecast"
    return Contender(lambda task: FromNeuralforecast(task, name, quantiles), "neuralforecast", install, limited=True)


def darts(name: str, *, quantiles: bool = False) -> Contender:
    install = "pip install darts pytorch-lightning"
    return Contender(lambda task: FromDarts(task, name, quantiles), "darts", install, limited=True)


CONTENDERS = {
    "naive": Contender(lambda task: Repetition(task, 1), scales=True, chance=False),
    "seasonal-naive": Contender(lambda task: Repetition(task, task.season), scales=True, chance=False),
    "auto-ets": Contender(make_ets, once=False, scales=True, chance=False),
    "theta": Contender(make_theta, once=False, scales=True, chance=False),
    "sfm": Contender(make_sfm, "sfmts", scales=True),
    "sktime-dlinear": Contender(make_ltsf("LTSFDLinearForecaster")),
    "sktime-nlinear": Contender(make_ltsf("LTSFNLinearForecaster")),
    "dlinear": neuralforecast("DLinear"),
    "nhits": neuralforecast("NHITS"),
    "nhits-quantiles": neuralforecast("NHITS", quantiles=True),
    "patchtst": neuralforecast("PatchTST"),
    "lstm": neuralforecast("LSTM"),
    "lstm-quantiles": neuralforecast("LSTM", quantiles=True),
    "darts-nlinear": darts("NLinearModel"),
    "darts-tide": darts("TiDEModel"),
    "darts-tide-quantiles": darts("TiDEModel", quantiles=True),
    "darts-nbeats": darts("NBEATSModel"),
}


# -- protocols


def naive_error(history: np.ndarray, season: int) -> np.ndarray:
    """Return the mean absolute error of the seasonal naive forecast for each variable, the unit of MASE."""
    return np.abs(history[season:] - history[:-season]).mean(axis=0)


def scores(truth: np.ndarray, forecast: Forecast, unit: np.ndarray, deviation: np.ndarray) -> dict[str, float]:
    """Return means over all axes of (origins, horizon, variables)."""
    error = np.abs(truth - forecast.point)
    found = {
        "MASE": (error / unit).mean(),
        "MSE": ((error / deviation) ** 2).mean(),
        "MAE": (error / deviation).mean(),
    }
    if forecast.quantiles is not None:
        excess = truth[..., None] - forecast.quantiles
        pinball = np.maximum(np.multiply(QUANTILES, excess), np.multiply(QUANTILES, excess) - excess)
        found["CRPS"] = (2 * pinball.mean(axis=-1) / unit).mean()
        found["coverage"] = ((excess[..., 0] >= 0) & (excess[..., -1] <= 0)).mean()
    return {name: float(value) for name, value in found.items()}


class Tally:
    """Scores, weighted by the number of origins, and seconds."""

    def __init__(self) -> None:
        self.fits: list[float] = []
        self.forecast_seconds = 0.0
        self.origins = 0
        self.sums: Counter[str] = Counter()

    def add(self, n_origins: int, found: dict[str, float]) -> None:
        """Count the mean scores of so many origins."""
        self.origins += n_origins
        for name, value in found.items():
            self.sums[name] += n_origins * value

    def summary(self) -> dict[str, float]:
        """Return the means of the errors."""
        return {
            **{name: value / self.origins for name, value in self.sums.items()},
            "origins": self.origins,
            "fits": len(self.fits),
            "seconds per fit": statistics.mean(self.fits),
            "seconds per forecast": self.forecast_seconds / self.origins,
        }


def assess(
    forecaster: Forecaster, frame: pd.DataFrame, fitted: slice, origins: Sequence[int], unit_rows: int, tally: Tally
) -> None:
    """Fit to a slice, forecast from the origins, and score in units that come from the first rows."""
    task = forecaster.task
    reference = frame.iloc[:unit_rows].to_numpy()
    unit, deviation = naive_error(reference, task.season), reference.std(axis=0)
    start = time.process_time()
    forecaster.fit(frame.iloc[fitted])
    tally.fits.append(time.process_time() - start)
    for i in range(0, len(origins), CHUNK):
        chunk = origins[i : i + CHUNK]
        start = time.process_time()
        forecast = forecaster.forecast(frame, chunk)
        tally.forecast_seconds += time.process_time() - start
        truth = windows(frame, [origin + task.horizon for origin in chunk], task.horizon).swapaxes(1, 2)
        tally.add(len(chunk), scores(truth, forecast, unit, deviation))


def measure(data: Data, contender: Contender, frame: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Return all results of a contender on a data set with one seed."""
    tally, origins = Tally(), data.origins(len(frame))

    def fresh() -> Forecaster:
        forecaster = contender.make(task)
        return forecaster if contender.scales else Standardised(forecaster)

    if contender.once and data.train:
        forecaster = fresh()
        assess(forecaster, frame, slice(data.train), origins, data.train, tally)
    else:
        for origin in origins:
            forecaster = fresh()
            fitted = slice(max(0, origin - (data.recent or origin)), origin)
            assess(forecaster, frame, fitted, [origin], data.train or origin, tally)
    return tally.summary() | {
        "parameters": forecaster.n_parameters(),
        "peak MiB": peak_mib(),
        "cut": contender.limited and max(tally.fits) >= task.limit,
    }


def peak_mib() -> float:
    """Return the peak resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


# -- a process for each run


class Run(NamedTuple):
    """What is asked of a process."""

    data: str
    contender: str
    seed: int
    options: dict[str, Any]
    limit: float | None
    ett: str | None
    peers: str | None


def child(run: Run) -> None:
    """Measure, and print what was found as the last line."""
    warnings.simplefilter("ignore")
    add_peers(run.peers)
    data, contender = DATA[run.data], CONTENDERS[run.contender]
    try:
        frame = data.load(run.ett)
        task = Task(
            data.season,
            data.horizon,
            data.lookback,
            n_variables=frame.shape[1],
            positive=bool((frame > 0).all(axis=None)),
            quantiles="CRPS" in data.scores,
            limit=run.limit or data.limit,
            seed=run.seed,
            options=run.options,
        )
        found = measure(data, contender, frame, task)
    except Exception as error:
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"}
    print(f"\n{json.dumps(found)}")


def run_in_child(run: Run, threads: int, timeout: float) -> dict[str, Any]:
    """Return the result of a run in a new process, whose temporary folder is removed."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    command = [sys.executable, str(Path(__file__).resolve()), "--child", json.dumps(run)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            process = subprocess.run(
                command, cwd=folder, env=os.environ | limits, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return {"error": f"not ready after {timeout:.0f} s"}
    if process.returncode:
        return {"error": f"exit status {process.returncode}: {process.stderr[-300:].strip()}"}
    return json.loads(process.stdout.splitlines()[-1])


def add_peers(folder: str | None) -> None:
    """Let packages of this folder be imported where the environment has none of that name."""
    if folder is not None:
        sys.path.append(folder)


# -- tables


def mean_and_deviation(values: Sequence[float], digits: int) -> str:
    """Format the mean, with the standard deviation over seeds if there are several."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def table_row(name: str, columns: Sequence[str], results: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table cells of a contender, given the results of its seeds."""
    first = results[0]
    cut = " cut" if any(result["cut"] for result in results) else ""
    return [
        name,
        *(mean_and_deviation([r[column] for r in results], 3) if column in first else "" for column in columns),
        mean_and_deviation([r["seconds per fit"] for r in results], 2) + cut,
        f"{1e3 * statistics.mean(r['seconds per forecast'] for r in results):.1f}",
        f"{max(r['peak MiB'] for r in results):.0f}",
        "" if first["parameters"] is None else str(first["parameters"]),
    ]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table with aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [rows[0], ["-" * width for width in widths], *rows[1:]]
    for cells in lines:
        print(f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |")


def print_data(name: str, results: dict[str, list[dict[str, Any]]]) -> None:
    """Print the table of a data set, and below it the contenders that failed."""
    data = DATA[name]
    failed = {who: run["error"] for who, found in results.items() for run in found if "error" in run}
    whole = {who: found for who, found in results.items() if who not in failed}
    n_origins = next((found[0]["origins"] for found in whole.values()), 0)
    print(f"\n{name}: {n_origins} origins, horizon {data.horizon}, season {data.season}, look-back {data.lookback}\n")
    heading = ["", *data.scores, "s per fit", "ms per forecast", "peak MiB", "parameters"]
    print_table([heading, *(table_row(who, data.scores, found) for who, found in whole.items())])
    for who, error in failed.items():
        print(f"\n{who} failed: {error}")
    sys.stdout.flush()


# -- the command line


def option(text: str) -> tuple[str, str, Any]:
    """Split "contender.name=value"; a value that is not a Python literal is a string."""
    path, equals, value = text.partition("=")
    contender, dot, name = path.partition(".")
    if not (equals and dot and contender in CONTENDERS):
        raise argparse.ArgumentTypeError(f"expected CONTENDER.NAME=VALUE with a contender of the table, got {text!r}")
    try:
        return contender, name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return contender, name, value


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare SFMForecaster with other forecasters.")
    parser.add_argument("--data", nargs="+", choices=DATA, help="default: all that need no file, or all with --ett")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="default: everybody")
    parser.add_argument("--collections", type=Path, help="folder of collections of short series, instead of --data")
    parser.add_argument("--series", type=int, default=300, help="evenly spaced series of each collection")
    parser.add_argument("--ett", type=Path, help="path of ETTh1.csv")
    parser.add_argument("--peers", type=Path, help="folder that holds neuralforecast or darts, if not installed")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs, with seeds 0, 1, ..., of who takes one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=float, help="seconds of training a fit, for who runs on Lightning")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds of a process before it is given up")
    parser.add_argument("--set", nargs="+", default=[], type=option, metavar="CONTENDER.NAME=VALUE")
    parser.add_argument("--json", type=Path, help="file for all that was found")
    parser.add_argument("--child", type=lambda text: Run(*json.loads(text)), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.data is None:
        arguments.data = [name for name in DATA if arguments.ett or not name.startswith("etth1")]
    elif arguments.ett is None and any(name.startswith("etth1") for name in arguments.data):
        parser.error("the etth1 tables need --ett FILE, the path of ETTh1.csv")
    return arguments


def versions() -> dict[str, str]:
    """Return the installed forecasting packages."""
    names = ("torch", "numpy", "pandas", "sktime", "statsmodels", "neuralforecast", "darts", "pytorch-lightning")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def installed(names: Sequence[str]) -> list[str]:
    """Return the contenders whose package is installed; print a line for each missing one."""
    for name in names:
        if importlib.util.find_spec(CONTENDERS[name].package) is None:
            print(f"{name}: {CONTENDERS[name].package} is not installed ({CONTENDERS[name].install})")
    return [name for name in names if importlib.util.find_spec(CONTENDERS[name].package) is not None]


def compare(data: str, names: Sequence[str], arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Return the result of each seed of each contender on a data set."""
    ett, peers = (str(path.resolve()) if path else None for path in (arguments.ett, arguments.peers))
    results: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        contender = CONTENDERS[name]
        if not DATA[data].takes(contender):
            continue
        options = {key: value for who, key, value in arguments.set if who == name}
        for seed in range(arguments.seeds if contender.chance else 1):
            run = Run(data, name, seed, options, arguments.limit, ett, peers)
            found = run_in_child(run, arguments.threads, arguments.timeout)
            results.setdefault(name, []).append(
                found | {"data": data, "contender": name, "seed": seed, "options": options}
            )
            print(f"{data}, {name}, seed {seed}: {found.get('error', 'ready')}", file=sys.stderr, flush=True)
    return results


def main() -> None:
    arguments = parse_arguments()
    if arguments.child:
        child(arguments.child)
        return
    from speed import print_environment  # only here: a child must not load what its contender does not use

    if arguments.peers:
        add_peers(str(arguments.peers))
    print_environment()
    if arguments.collections:
        import short_series

        for title, rows in short_series.compare_collections(arguments.collections, arguments.series):
            print(f"\n{title}\n")
            print_table(rows)
        return
    print(f"{', '.join(f'{name} {version}' for name, version in versions().items())}; threads: {arguments.threads}")
    for contender, name, value in arguments.set:
        print(f"{contender}: {name}={value}")
    names = installed(arguments.only)
    record: dict[str, Any] = {"versions": versions(), "threads": arguments.threads, "runs": []}
    for data in arguments.data:
        results = compare(data, names, arguments)
        print_data(data, results)
        record["runs"] += [found for of_one in results.values() for found in of_one]
        if arguments.json:
            arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
