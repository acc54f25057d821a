"""
A tour in about a minute: gaps, irregular times, and forecasts
==============================================================

First, :class:`sfmts.SFMClassifier` classifies six collections of real series, each in a fraction of a second, and one
of them again with half of its steps missing.  Then series whose rhythm is visible only beside their time stamps are
told apart, and real quarterly series are forecast.

Run it::

    python examples/demo.py

Needs sktime (which includes the real series) and matplotlib: ``pip install ".[all]"``.
"""

# sphinx_gallery_thumbnail_path = "pictures/accuracy.svg"

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from sklearn.neighbors import KNeighborsClassifier
from sktime.datasets import (
    load_airline,
    load_arrow_head,
    load_basic_motions,
    load_gunpoint,
    load_italy_power_demand,
    load_japanese_vowels,
    load_macroeconomic,
    load_osuleaf,
)
from sktime.forecasting.naive import NaiveForecaster
from threadpoolctl import threadpool_limits

from sfmts import SFMClassifier, SFMForecaster, SFMRidgeClassifier
from sfmts.datasets import make_periods
from sfmts.plotting import FrequencyImportanceDisplay

SEED = 0
COLLECTIONS = {
    "GunPoint": load_gunpoint,
    "ItalyPowerDemand": load_italy_power_demand,
    "ArrowHead": load_arrow_head,
    "OSULeaf": load_osuleaf,
    "BasicMotions": load_basic_motions,
    "JapaneseVowels": load_japanese_vowels,
}
YEARS, ORIGINS = 2, 4  # years that are forecast, and how often


class Split(NamedTuple):
    """Series, as lists of arrays (steps, channels) or one array (series, steps, channels), and their labels."""

    X_train: Any
    X_test: Any
    y_train: np.ndarray
    y_test: np.ndarray


# -- real collections, with gaps and without


def run_collections(output: Path) -> None:
    """Compare SFMClassifier with the nearest neighbour, drop half of the steps, and draw what decides."""
    print("1. SFMClassifier with default parameters on collections that sktime includes, with official splits.\n")
    header = ("collection", "classes", "train", "test", "steps", "channels", "1-NN", "SFM", "seconds")
    print(aligned([header, *(compare(name) for name in COLLECTIONS)]))
    print(
        "\n1-NN: accuracy of the nearest neighbour by Euclidean distance, with the better of two scalings\n"
        "SFM: accuracy of SFMClassifier; seconds: of its training and test together"
    )

    data, share = "OSULeaf", 0.5
    split = load_collection(data)
    gappy = split._replace(
        X_train=drop_steps(split.X_train, share, SEED), X_test=drop_steps(split.X_test, share, SEED + 1)
    )
    model = SFMRidgeClassifier(random_state=SEED).fit(gappy.X_train, gappy.y_train)
    print(
        f"\nWith {share:.0%} of all steps of {data} missing (NaN), in training and test, without any preprocessing: "
        f"SFM {model.score(gappy.X_test, gappy.y_test):.3f}, 1-NN {nearest_neighbour(gappy):.3f}."
    )

    data = "BasicMotions"
    split = load_collection(data)
    model = SFMRidgeClassifier(random_state=SEED).fit(split.X_train, split.y_train)
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    FrequencyImportanceDisplay.from_estimator(model, split.X_test, kind="period", ax=ax)
    ax.set_title(f"Which periods decide on {data} (a step is 0.1 seconds)")
    save(figure, output / "importance.png")


def load_collection(name: str) -> Split:
    """Return a collection that sktime includes, with its official split."""
    (train, y_train), (test, y_test) = (
        COLLECTIONS[name](split=split, return_type="df-list") for split in ("train", "test")
    )
    X_train, X_test = ([frame.to_numpy(dtype=np.float32) for frame in frames] for frames in (train, test))
    return Split(X_train, X_test, y_train, y_test)


def drop_steps(X: list[np.ndarray], share: float, seed: int) -> list[np.ndarray]:
    """Replace a share of all steps by NaN, at random."""
    rng = np.random.default_rng(seed)
    return [np.where(rng.random(len(series))[:, None] < share, np.float32(np.nan), series) for series in X]


def compare(name: str) -> tuple[str, ...]:
    """Return the line of a collection in the table."""
    split = load_collection(name)
    model = SFMClassifier(random_state=SEED)
    accuracy, seconds = timed(lambda: model.fit(split.X_train, split.y_train).score(split.X_test, split.y_test))
    lengths = [len(series) for series in split.X_train + split.X_test]
    steps = "-".join(str(length) for length in sorted({min(lengths), max(lengths)}))
    sizes = len(model.classes_), len(split.X_train), len(split.X_test), steps, model.n_channels_in_
    return (name, *map(str, sizes), f"{nearest_neighbour(split):.3f}", f"{accuracy:.3f}", f"{seconds:.2f}")


def nearest_neighbour(split: Split) -> float:
    """Return the accuracy of the nearest neighbour, with the better of two scalings.

    Each channel is scaled to mean 0 and deviation 1, over each series alone or over all training series.  Shorter
    series are padded with zeros.  With NaN, the distance is that over the steps that both series have.
    """
    steps = np.concatenate(split.X_train)
    n_steps = max(map(len, split.X_train + split.X_test))

    def flat(X: list[np.ndarray], scale: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return np.stack([np.pad(scale(series), ((0, n_steps - len(series)), (0, 0))).ravel() for series in X])

    def by_series(series: np.ndarray) -> np.ndarray:
        return (series - np.nanmean(series, axis=0)) / np.maximum(np.nanstd(series, axis=0), 1e-8)

    def by_collection(series: np.ndarray) -> np.ndarray:
        return (series - np.nanmean(steps, axis=0)) / np.nanstd(steps, axis=0)

    model = KNeighborsClassifier(n_neighbors=1, metric="nan_euclidean" if np.isnan(steps).any() else "euclidean")
    return max(
        float(model.fit(flat(split.X_train, scale), split.y_train).score(flat(split.X_test, scale), split.y_test))
        for scale in (by_series, by_collection)
    )


# -- irregular times


def run_irregular(n_train: int, n_test: int, epochs: int, output: Path) -> None:
    """Tell two periods apart in noise, from values at random times."""
    print(
        f"\n2. Sines of period 8 or 10 in noise, read at 100 random times: {n_train} series to learn from, {n_test} to "
        "test.  The SFM takes the times as times, the LSTM reads them and the gaps between them as channels.\n"
    )
    X, y = make_periods(n_train + n_test, noise=1.0, irregular=True, random_state=SEED)  # value, time, gap
    split = Split(X[:n_train], X[n_train:], y[:n_train], y[n_train:])
    values = split._replace(X_train=split.X_train[..., :1], X_test=split.X_test[..., :1])
    lstm = SFMClassifier("lstm", base=None, max_iter=epochs, random_state=SEED)
    rows = [
        irregular_row("SFM, time stamps", SFMRidgeClassifier(time_channel=1, random_state=SEED), split),
        irregular_row("SFM, values alone", SFMRidgeClassifier(random_state=SEED), values),
        irregular_row(f"LSTM, time stamps and gaps, {epochs} epochs", lstm, split),
    ]
    print(aligned([("model", "accuracy", "seconds"), *rows]))

    figure, axes = plt.subplots(2, 1, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
    for ax, label, period in zip(axes, (0, 1), (8, 10), strict=True):
        value, t = X[y == label][0, :, :2].T
        ax.plot(t, value, ".", color="tab:blue", markersize=5)
        ax.set(title=f"period {period}", ylabel="value")
    axes[1].set_xlabel("time")
    save(figure, output / "periods.png")


def irregular_row(name: str, model: Any, split: Split) -> tuple[str, ...]:
    """Return the line of a model."""
    accuracy, seconds = timed(lambda: model.fit(split.X_train, split.y_train).score(split.X_test, split.y_test))
    return name, f"{accuracy:.3f}", f"{seconds:.2f}"


# -- forecasts


def run_forecasts(output: Path) -> None:
    """Forecast two years of quarterly series at several times, and draw a forecast with its interval."""
    economy = load_macroeconomic()
    series = economy[[name for name in economy if name not in ("year", "quarter")]]
    print(
        f"\n3. {series.shape[1]} quarterly series of the economy of the USA: mean absolute errors of forecasts of "
        f"{YEARS} years, made {YEARS * ORIGINS}, ..., {2 * YEARS} and {YEARS} years before the end of the data.\n"
    )
    rows, n_best = [], 0
    for name in series:
        errors = errors_of(series[name])
        n_best += min(errors, key=errors.get) == "SFM"
        rows.append((name, *(f"{error:.4g}" for error in errors.values())))
    print(aligned([("series", *errors), *rows]))
    print(f"\nSFM: SFMForecaster. Its error is the least for {n_best} of {len(rows)} series.")
    save(draw_forecast(load_airline()), output / "forecast.png")


def errors_of(y: pd.Series) -> dict[str, float]:
    """Return the mean absolute error of each forecaster, over several origins."""
    n_ahead = 4 * YEARS
    forecasters = {
        "last value": NaiveForecaster,
        "drift": partial(NaiveForecaster, "drift"),
        "year before": partial(NaiveForecaster, sp=4),
        "SFM": partial(SFMForecaster, sp=4, random_state=SEED),
    }
    errors = dict.fromkeys(forecasters, 0.0)
    for end in range(len(y) - n_ahead * ORIGINS, len(y), n_ahead):
        for name, forecaster in forecasters.items():
            with warnings.catch_warnings():  # sktime announces a default of its next version, and lifts filters
                warnings.simplefilter("ignore", FutureWarning)
                forecast = forecaster().fit(y[:end], fh=range(1, n_ahead + 1)).predict()
            errors[name] += float(np.abs(forecast - y[end : end + n_ahead]).mean()) / ORIGINS
    return errors


def draw_forecast(y: pd.Series) -> Figure:
    """Draw the last years of a monthly series, and a forecast of the last of them."""
    forecaster = SFMForecaster(sp=12, random_state=SEED).fit(y[:-12], fh=range(1, 13))
    forecast, interval = forecaster.predict(), forecaster.predict_interval(coverage=0.9).to_numpy()
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    ax.plot(y[-60:].index.to_timestamp(), y[-60:], color="0.3", linewidth=1, label="observed")
    months = forecast.index.to_timestamp()
    ax.plot(months, forecast, color="tab:blue", label="forecast")
    ax.fill_between(months, *interval.T, color="tab:blue", alpha=0.25, linewidth=0, label="90 % interval")
    ax.set(title="Airline passengers", ylabel="thousands a month", ylim=(0, None))
    ax.legend(loc="lower left", ncols=3, frameon=False)
    return figure


# -- the whole


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what ``work`` returns, and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Return a header and rows as aligned columns, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        first, *others = (f"{cell:{'>' if n else '<'}{widths[n]}}" for n, cell in enumerate(cells))
        return "  ".join([first, *others])

    header, *others = rows
    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, others)])


def save(figure: Figure, path: Path) -> None:
    """Write a picture and close the figure."""
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"wrote {path}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Classify and forecast time series with a State-Frequency Memory.")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the pictures")
    parser.add_argument("--series", type=int, default=500, help="series of irregular times to learn from")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the LSTM")
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of PyTorch and BLAS; more hardly help at these sizes"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    threadpool_limits(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    run_collections(arguments.output)
    run_irregular(arguments.series, 500, arguments.epochs, arguments.output)
    run_forecasts(arguments.output)
    print(f"\nIn all {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
