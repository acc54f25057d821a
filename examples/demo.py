"""
A tour in about a minute: a fixed memory on six collections, then trained networks
==================================================================================

First, :class:`sfmts.SFMRidgeClassifier` classifies six collections of real series, each in a fraction of a second.
Then :class:`sfmts.SFMClassifier` trains networks on waves and on Japanese vowels.

Run it::

    python examples/demo.py

Needs sktime (which includes the collections) and matplotlib: ``pip install ".[all]"``.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from joblib import parallel_config
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sktime.datasets import (
    load_arrow_head,
    load_basic_motions,
    load_gunpoint,
    load_italy_power_demand,
    load_japanese_vowels,
    load_osuleaf,
)
from threadpoolctl import threadpool_limits

from sfmts import PanelScaler, SFMClassifier, SFMRidgeClassifier
from sfmts.datasets import count_distinct_values, make_waves
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
CLASS_NAMES = ("square", "sawtooth")
QUARTERS = ("T/4", "T/2", "3T/4", "T")
COLOURS = {"SFM": "tab:blue", "LSTM": "tab:orange"}


class Split(NamedTuple):
    """Series, as lists of arrays (steps, channels) or one array (series, steps, channels), and their labels."""

    X_train: Any
    X_test: Any
    y_train: np.ndarray
    y_test: np.ndarray


class Result(NamedTuple):
    """Hold a line of the table at the end."""

    data: str
    model: str
    parameters: int | None
    accuracy: float
    seconds: float


# -- data


def load_waves(n_series: int, n_steps: int) -> Split:
    """Return the paper's waves, a fifth of them for the test."""
    X, y = make_waves(n_series, n_steps=n_steps, variant="paper", random_state=SEED)
    parts = train_test_split(X.astype(np.float32), y, test_size=0.2, stratify=y, random_state=SEED)
    return Split(*parts)


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


# -- models


def lstm_width(n_parameters: int, n_channels: int, n_classes: int) -> int:
    """Return the hidden width H at which LSTM and linear head come closest to a number of parameters."""
    n_logits = 1 if n_classes == 2 else n_classes

    def count(H: int) -> int:
        return 4 * H * (H + n_channels + 1) + (H + 1) * n_logits

    return min(range(1, 1000), key=lambda H: abs(count(H) - n_parameters))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what ``work`` returns, and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def classifier_of(model: Any) -> SFMClassifier:
    """Return the classifier at the end of a pipeline, or the model itself."""
    return model[-1] if isinstance(model, Pipeline) else model


def fit(data: str, name: str, model: Any, split: Split) -> Result:
    """Train, with a progress bar, and score on the test set."""
    print(f"\n{name} on {data}", flush=True)
    _, seconds = timed(lambda: model.fit(split.X_train, split.y_train))
    result = Result(data, name, classifier_of(model).n_parameters_, model.score(split.X_test, split.y_test), seconds)
    print(f"accuracy {result.accuracy:.4f}, {result.parameters} parameters, {result.seconds:.1f} s", flush=True)
    return result


def run_collections(output: Path) -> None:
    """Compare SFMRidgeClassifier with the nearest neighbour, drop half of the steps, and draw what decides."""
    print("1. SFMRidgeClassifier with default parameters on collections that sktime includes, with official splits.\n")
    header = ("collection", "classes", "train", "test", "steps", "channels", "1-NN", "SFM", "seconds")
    rows = [header, *(compare(name) for name in COLLECTIONS)]
    print(aligned(rows, n_words=1))
    print(
        "\n1-NN: accuracy of the nearest neighbour by Euclidean distance, with the better of two scalings\n"
        "SFM: accuracy of SFMRidgeClassifier; seconds: of its training and test together"
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


def compare(name: str) -> tuple[str, ...]:
    """Return the line of a collection in the first table."""
    split = load_collection(name)
    model = SFMRidgeClassifier(random_state=SEED)
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


def run_waves(n_series: int, n_steps: int, epochs: int, output: Path) -> list[Result]:
    """Compare SFM, LSTM and a trivial baseline on the paper's square and sawtooth waves."""
    data = "waves"
    split = load_waves(n_series, n_steps)
    print(
        f"\n2. Trained networks on the paper's square and sawtooth waves: {len(split.X_train)} + {len(split.X_test)} "
        f"series of {n_steps} steps, {epochs} epochs (the paper: 1600 + 400 of 500 steps)."
    )
    sfm = SFMClassifier(base=None, max_iter=epochs, random_state=SEED, verbose=1)
    results = [fit(data, "SFM", sfm, split)]
    width = lstm_width(sfm.n_parameters_, n_channels=2, n_classes=2)
    lstm = SFMClassifier("lstm", base=None, n_states=width, max_iter=epochs, random_state=SEED, verbose=1)
    results.append(fit(data, f"LSTM, {width} units", lstm, split))
    predicted, seconds = timed(lambda: count_distinct_values(split.X_test))
    accuracy = float((predicted == split.y_test).mean())
    results.append(Result(data, "trivial: count distinct values", None, accuracy, seconds))

    examples = longest_of_each_class(split.X_test, split.y_test)
    save(draw_waves(examples), output / "waves.png")
    save(draw_amplitudes(sfm.state_amplitudes(examples)), output / "amplitudes.png")
    title = f"Training on square and sawtooth waves ({len(split.X_train)} series)"
    save(draw_training(title, sfm, lstm), output / "training_waves.png")
    return results


def run_vowels(output: Path, epochs: int, epochs_of_search: int) -> list[Result]:
    """Compare SFM, LSTM, a grid search, SFMRidgeClassifier and a trivial baseline on series of unequal length."""
    data = "Japanese vowels"
    split = load_collection("JapaneseVowels")
    lengths = [len(series) for series in split.X_train + split.X_test]
    print(
        f"\n3. Trained networks on Japanese vowels: {len(split.X_train)} + {len(split.X_test)} series of "
        f"{min(lengths)} to {max(lengths)} steps and {split.X_train[0].shape[1]} channels, "
        f"{len(np.unique(split.y_train))} speakers."
    )
    sfm = pipeline(max_iter=epochs, random_state=SEED, verbose=1)
    results = [fit(data, "SFM", sfm, split)]
    width = lstm_width(sfm[-1].n_parameters_, n_channels=12, n_classes=9)
    lstm = pipeline(network="lstm", n_states=width, max_iter=epochs, random_state=SEED, verbose=1)
    results.append(fit(data, f"LSTM, {width} units", lstm, split))
    results.append(search(data, split, epochs_of_search))
    fixed = SFMRidgeClassifier(random_state=SEED)
    _, seconds = timed(lambda: fixed.fit(split.X_train, split.y_train))
    n_parameters, accuracy = fixed.coef_.size + fixed.intercept_.size, fixed.score(split.X_test, split.y_test)
    results.append(Result(data, "SFMRidgeClassifier", n_parameters, accuracy, seconds))
    trivial, seconds = timed(lambda: DummyClassifier(strategy="most_frequent").fit(split.X_train, split.y_train))
    accuracy = trivial.score(split.X_test, split.y_test)
    results.append(Result(data, "trivial: most frequent class", None, accuracy, seconds))

    title = f"Training on Japanese vowels ({len(split.X_train)} series)"
    save(draw_training(title, sfm[-1], lstm[-1]), output / "training_vowels.png")
    return results


def pipeline(**parameters: Any) -> Pipeline:
    """Scale each channel, then classify; both steps take series of unequal length."""
    return Pipeline([("scale", PanelScaler()), ("model", SFMClassifier(base=None, **parameters))])


def search(data: str, split: Split, epochs: int) -> Result:
    """Run a small grid search in two processes of one thread each."""
    print(f"\nGrid search on {data}, {epochs} epochs each", flush=True)
    frequencies = [{"frequencies": name} for name in ("fixed", "adaptive")]
    grid = {"model__network_params": frequencies, "model__n_states": [16, 32]}
    candidate = pipeline(max_iter=epochs, random_state=SEED)
    model = GridSearchCV(candidate, grid, cv=2, n_jobs=2, verbose=3)
    with parallel_config(backend="loky", inner_max_num_threads=1):
        _, seconds = timed(lambda: model.fit(split.X_train, split.y_train))
    best = model.best_params_
    chosen = f"{best['model__network_params']['frequencies']} frequencies, n_states {best['model__n_states']}"
    print(f"best: {chosen}; accuracy in cross-validation {model.best_score_:.4f}, {seconds:.1f} s in all", flush=True)
    accuracy = model.score(split.X_test, split.y_test)
    n_parameters = model.best_estimator_[-1].n_parameters_
    return Result(data, f"SFM, grid search: {chosen}", n_parameters, accuracy, seconds)


# -- pictures


def longest_of_each_class(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the square and the sawtooth that are seen over the longest time."""
    return np.stack([max(X[y == label], key=lambda series: series[-1, 1]) for label in range(len(CLASS_NAMES))])


def draw_waves(examples: np.ndarray) -> Figure:
    """Draw one square and one sawtooth."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    for ax, series, name in zip(axes, examples, CLASS_NAMES, strict=True):
        value, t = series.T
        ax.plot(t, value, color="0.75", linewidth=1)
        ax.plot(t, value, ".", color="tab:blue", markersize=4)
        ax.set(title=f"A {name} wave", xlabel="time t")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("value y")
    figure.suptitle(f"What the network reads: {examples.shape[1]} pairs (y, t) at random times")
    return figure


def draw_training(title: str, sfm: SFMClassifier, lstm: SFMClassifier) -> Figure:
    """Draw the training loss of both networks, epoch by epoch."""
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, model in (("SFM", sfm), ("LSTM", lstm)):
        epochs = range(1, len(model.loss_curve_) + 1)
        ax.semilogy(
            epochs,
            model.loss_curve_,
            "o-",
            color=COLOURS[name],
            markersize=3,
            label=f"{name}, {model.n_parameters_} parameters",
        )
    ax.set(title=title, xlabel="epoch", ylabel="training loss (cross-entropy, nats)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(alpha=0.3, which="both")
    ax.legend()
    return figure


def draw_amplitudes(amplitudes: np.ndarray) -> Figure:
    """Draw |S| of one square and one sawtooth at four times, as in the paper's Figure 5."""
    n_steps, n_states, n_frequencies = amplitudes.shape[1:]
    steps = {f"{name} = step {n_steps * part // 4}": n_steps * part // 4 for part, name in enumerate(QUARTERS, start=1)}
    colours = LogNorm(vmin=amplitudes.max() / 1000, vmax=amplitudes.max())
    figure, axes = plt.subplots(2, 4, figsize=(10, 7.5), sharex=True, sharey=True, layout="constrained")
    for row, series, name in zip(axes, amplitudes, CLASS_NAMES, strict=True):
        for ax, (title, step) in zip(row, steps.items(), strict=True):
            image = ax.imshow(series[step - 1], aspect="auto", origin="lower", norm=colours, interpolation="nearest")
            if ax in axes[0]:
                ax.set_title(title)
        row[0].set_ylabel(f"{name} wave\nstate d")
    for ax in axes[1]:
        ax.set_xticks(range(n_frequencies), [in_pi(2 * k / n_frequencies) for k in range(n_frequencies)])
        ax.set_xlabel("frequency ω (rad / step)")
    axes[0, 0].set_yticks([0, n_states - 1], ["1", str(n_states)])
    figure.colorbar(image, ax=axes, label="amplitude |S| (logarithmic scale)", shrink=0.6, extend="min")
    figure.suptitle("What the trained SFM remembers: amplitudes of its states while it reads a wave of T steps")
    return figure


def in_pi(number: float) -> str:
    """Write a multiple of pi."""
    return {0.0: "0", 1.0: "π"}.get(number, f"{number:g}π")


def save(figure: Figure, path: Path) -> None:
    """Write a picture and close the figure."""
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"wrote {path}")


# -- the whole


def table(results: list[Result]) -> str:
    """Return the results as aligned columns."""
    rows = [("data", "model", "parameters", "accuracy", "seconds")]
    for r in results:
        parameters = "-" if r.parameters is None else str(r.parameters)
        rows.append((r.data, r.model, parameters, f"{r.accuracy:.4f}", f"{r.seconds:.1f}"))
    return aligned(rows, n_words=2)


def aligned(rows: Sequence[tuple[str, ...]], n_words: int) -> str:
    """Return a header and rows as aligned columns, the first ``n_words`` of them to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        sides = ["<"] * n_words + [">"] * (len(cells) - n_words)
        return "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=True))

    header, *others = rows
    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, others)])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Classify time series with a State-Frequency Memory.")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the pictures")
    parser.add_argument("--series", type=int, default=1000, help="number of waves")
    parser.add_argument("--steps", type=int, default=200, help="steps of each wave")
    parser.add_argument("--epochs", type=int, default=10, help="epochs on the waves")
    parser.add_argument("--vowel-epochs", type=int, default=100, help="epochs on the vowels")
    parser.add_argument("--search-epochs", type=int, default=12, help="epochs of each fit of the grid search")
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
    results = run_waves(arguments.series, arguments.steps, arguments.epochs, arguments.output)
    results += run_vowels(arguments.output, arguments.vowel_epochs, arguments.search_epochs)
    print(f"\n{table(results)}")
    print(f"\naccuracy: on the test set; seconds: of training.  In all {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
