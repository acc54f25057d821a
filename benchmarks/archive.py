"""Compare classifiers on the UCR and UEA archives of labelled time series.

    python benchmarks/archive.py                              run every method (takes hours; resumable)
    python benchmarks/archive.py --methods ridge,minirocket --collections Chinatown,ERing
    python benchmarks/archive.py --missing 0.5 --seeds 1      set half of the steps to NaN
    python benchmarks/archive.py --report                     print the tables; --write puts them into README.md
    python benchmarks/archive.py --quick                      run two methods on three small collections

The peers come from aeon. Install ``benchmarks/requirements-archive.txt`` in a separate environment for them.
Only ``minirocket``, ``multirocket_hydra`` and ``dtw`` need aeon.

Data
----
``--data`` is a folder with one ``.npz`` a collection. Each holds ``train_values`` (all steps of all training series,
one series after another; float32, (steps, channels)), ``train_lengths``, ``train_y``, and the same for ``test_``.
Missing values are NaN. ``published.json`` maps a collection to the test accuracies published by the archives' authors.
Without ``--data``, the folder is ``$SFMTS_ARCHIVE``, or ``../shared/data/archive`` relative to the repository root.

Protocol
--------
Every method has its default parameters and the official training and test set. ``dtw`` uses a window of 10 % of the
series. All methods run in one process with one thread, and they alternate within a collection, so ratios of seconds
are taken under the same load. Seconds are CPU time of ``fit`` and ``predict``. Each method is first fitted to toy
series, so compilation is not counted.

``ridge`` and ``ridge_zero`` get the series as they are. The peers need complete series of equal length: gaps are
interpolated linearly, and shorter series are padded with their last value up to the longest of the collection.
``default``, ``corrected``, ``network`` and ``paper`` get interpolated series without padding. The time for this is
not counted.

With ``--missing``, that share of the steps of every training and test series is NaN in all channels. The steps depend
only on the collection and the seed. Log loss clips probabilities at 1.2e-7. The expected calibration error (ECE) has
15 equal bins of the top probability. ``log_loss_softmax`` is the log loss of a softmax of the decision function.

Each run appends one JSON line to the results file. Runs that are already there are skipped.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# The libraries below read these variables while they are loaded.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from scipy.stats import gmean, wilcoxon

import sfmts

torch.set_num_threads(1)

HERE = Path(__file__).resolve().parent
QUICK = ("Chinatown", "ERing", "SmoothSubspace")
CALIBRATED = ("ridge", "default", "corrected", "network", "paper")  # methods whose predict_proba is scored
RUN = time.strftime("%Y-%m-%d %H:%M", time.gmtime())  # seconds of other runs may be those of another machine
BEGIN, END = "<!-- archive:begin -->", "<!-- archive:end -->"

# -- methods


def ridge(seed: int) -> Any:
    return sfmts.SFMRidgeClassifier(random_state=seed)


def without_frequencies(seed: int) -> Any:
    """Return the ridge classifier with a bank whose frequencies are all zero."""
    model = sfmts.SFMRidgeClassifier(random_state=seed)
    model._zero_share = 1.0
    return model


def default(seed: int) -> Any:
    return sfmts.SFMClassifier(random_state=seed)


def corrected(seed: int) -> Any:
    """Return the classifier whose network is tried from 300 series on."""
    model = sfmts.SFMClassifier(random_state=seed)
    model._fewest_series = 300
    return model


def network(seed: int) -> Any:
    return sfmts.SFMClassifier(base=None, random_state=seed)


def paper(seed: int) -> Any:
    """Return the paper's network with its read-out, trained with mini-batches of 32 however few series there are."""
    return sfmts.SFMClassifier("sfm", base=None, pooling="last", batch_size=32, random_state=seed)


def minirocket(seed: int) -> Any:
    from aeon.classification.convolution_based import MiniRocketClassifier

    return MiniRocketClassifier(random_state=seed)


def multirocket_hydra(seed: int) -> Any:
    from aeon.classification.convolution_based import MultiRocketHydraClassifier

    return MultiRocketHydraClassifier(random_state=seed)


def dtw(seed: int) -> Any:
    from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier

    return KNeighborsTimeSeriesClassifier(distance="dtw", distance_params={"window": 0.1}, n_neighbors=1)


class Method(NamedTuple):
    """A column's title, the function that makes a classifier from a seed, and the package it comes from."""

    title: str
    make: Callable[[int], Any]
    package: str = "sfmts"


METHODS = {
    "ridge": Method("SFMRidgeClassifier", ridge),
    "ridge_zero": Method("SFMRidgeClassifier, frequencies zero", without_frequencies),
    "default": Method("SFMClassifier", default),
    "corrected": Method("SFMClassifier, network from 300 series on", corrected),
    "network": Method("SFMClassifier(base=None)", network),
    "paper": Method('SFMClassifier("sfm", base=None, pooling="last")', paper),
    "minirocket": Method("MiniROCKET", minirocket, "aeon"),
    "multirocket_hydra": Method("MultiROCKET-Hydra", multirocket_hydra, "aeon"),
    "dtw": Method("1-NN DTW (window 10 %)", dtw, "aeon"),
}


def package_version(package: str) -> str:
    """Return the name and version of a package; sfmts need not be installed."""
    return f"{package} {sfmts.__version__ if package == 'sfmts' else importlib.metadata.version(package)}"


# -- data


class Collection(NamedTuple):
    """Labelled series, each an array of shape (steps, channels), with their official split."""

    name: str
    X_train: list[np.ndarray]
    y_train: np.ndarray
    X_test: list[np.ndarray]
    y_test: np.ndarray


def data_folder(chosen: Path | None) -> Path:
    """Return the folder of the collections; exit with a message if there is none."""
    variable = os.environ.get("SFMTS_ARCHIVE")
    folder = chosen or (Path(variable) if variable else HERE.parents[1] / "shared" / "data" / "archive")
    if not any(folder.glob("*.npz")):
        sys.exit(f"{folder} holds no collections (.npz). Name their folder with --data or SFMTS_ARCHIVE.")
    return folder


def load(folder: Path, name: str) -> Collection:
    """Read a collection and cut its series apart."""
    parts: list[Any] = []
    with np.load(folder / f"{name}.npz") as arrays:
        for part in ("train", "test"):
            ends = np.cumsum(arrays[f"{part}_lengths"])
            parts += [np.split(arrays[f"{part}_values"], ends[:-1]), arrays[f"{part}_y"]]
    return Collection(name, *parts)


def toy(n_channels: int) -> Collection:
    """Return noise of two classes, to warm up with."""
    rng = np.random.default_rng(0)
    X = list(rng.standard_normal((24, 64, n_channels), dtype=np.float32))
    y = np.tile(["a", "b"], 12)
    return Collection("toy", X, y, X, y)


def drop_steps(series: Iterable[np.ndarray], fraction: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Return copies of the series with a fraction of their steps NaN in all channels, and at least one step kept."""
    dropped = []
    for values in series:
        n_dropped = min(round(fraction * len(values)), len(values) - 1)
        values = values.copy()
        values[rng.choice(len(values), n_dropped, replace=False)] = np.nan
        dropped.append(values)
    return dropped


def with_missing(collection: Collection, fraction: float, seed: int) -> Collection:
    """Return the collection with a fraction of the steps of every series missing."""
    rng = np.random.default_rng([zlib.crc32(collection.name.encode()), seed])
    X_train = drop_steps(collection.X_train, fraction, rng)
    return collection._replace(X_train=X_train, X_test=drop_steps(collection.X_test, fraction, rng))


def interpolate(values: np.ndarray) -> np.ndarray:
    """Fill NaN linearly within each channel; a channel without any value becomes zero."""
    seen = ~np.isnan(values)
    if seen.all():
        return values
    filled, steps = np.zeros_like(values), np.arange(len(values))
    for c in range(values.shape[1]):
        if seen[:, c].any():
            filled[:, c] = np.interp(steps, steps[seen[:, c]], values[seen[:, c], c])
    return filled


def stack_if_equal(series: list[np.ndarray]) -> Any:
    """Return one array (series, steps, channels) if all lengths are equal, and the list otherwise."""
    return np.stack(series) if len({len(values) for values in series}) == 1 else series


def prepare(method: str, collection: Collection) -> tuple[Any, Any]:
    """Return the training and test series in the form that a method takes."""
    parts = [collection.X_train, collection.X_test]
    if method in ("ridge", "ridge_zero"):
        return stack_if_equal(parts[0]), stack_if_equal(parts[1])
    parts = [[interpolate(values) for values in part] for part in parts]
    if METHODS[method].package == "sfmts":
        return stack_if_equal(parts[0]), stack_if_equal(parts[1])
    longest = max(len(values) for part in parts for values in part)
    X_train, X_test = (
        np.stack([np.pad(values, ((0, longest - len(values)), (0, 0)), mode="edge").T for values in part])
        for part in parts
    )
    return np.ascontiguousarray(X_train), np.ascontiguousarray(X_test)


# -- runs


def log_loss(y: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> float:
    """Return the mean negative log probability of the true class; classes are sorted."""
    of_truth = probabilities[np.arange(len(y)), np.searchsorted(classes, y)].astype(np.float64)
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float32).eps)).mean())


def calibration_error(y: np.ndarray, probabilities: np.ndarray, classes: np.ndarray, n_bins: int = 15) -> float:
    """Return the expected calibration error with equal bins of the top probability."""
    top = probabilities.max(axis=1)
    bins = np.minimum((top * n_bins).astype(int), n_bins - 1)
    # Each bin weighs |accuracy - mean confidence| by its share of the series, so their sums suffice.
    excess = (classes[probabilities.argmax(axis=1)] == y) - top
    return float(np.abs(np.bincount(bins, weights=excess)).sum() / len(y))


def calibration(method: str, model: Any, X: Any, y: np.ndarray) -> dict[str, float]:
    """Return the scores of predict_proba and, for ridge, of a softmax of its decision function."""
    probabilities, classes = model.predict_proba(X), model.classes_
    scores = {
        "log_loss": log_loss(y, probabilities, classes),
        "ece": calibration_error(y, probabilities, classes),
    }
    if method == "ridge":
        decisions = model.decision_function(X)
        decisions = np.column_stack([-decisions, decisions]) if decisions.ndim == 1 else decisions
        scores["log_loss_softmax"] = log_loss(y, softmax(decisions, axis=1), classes)
    return scores


def measure(method: str, collection: Collection, seed: int) -> dict[str, Any]:
    """Fit and score a method, and return its line of the results file."""
    X_train, X_test = prepare(method, collection)
    model = METHODS[method].make(seed)
    start = time.process_time()
    model.fit(X_train, collection.y_train)
    fitted = time.process_time()
    predicted = model.predict(X_test)
    end = time.process_time()
    record = {
        "collection": collection.name,
        "method": method,
        "seed": seed,
        "accuracy": float(np.mean(predicted == collection.y_test)),
        "log_loss": None,
        "ece": None,
        "fit_seconds": round(fitted - start, 4),
        "predict_seconds": round(end - fitted, 4),
        "n_train": len(collection.y_train),
        "n_test": len(collection.y_test),
        "n_channels": collection.X_train[0].shape[1],
        "version": package_version(METHODS[method].package),
        "run": RUN,
    }
    scores = calibration(method, model, X_test, collection.y_test) if method in CALIBRATED else {}
    return record | scores


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the records of a results file. A last line without a line break was cut off and is ignored."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def drop_partial_line(path: Path) -> None:
    """Cut off a half-written last line, so that the next line starts on its own."""
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def n_seeds(method: str, arguments: argparse.Namespace) -> int:
    """Return how many seeds a method runs with; dtw is deterministic, and paper is slow."""
    return {"network": arguments.network_seeds, "paper": 1, "dtw": 1}.get(method, arguments.seeds)


def open_runs(arguments: argparse.Namespace) -> dict[str, list[tuple[int, str]]]:
    """Return the seeds and methods that still have to run, for each collection."""
    done = {
        (record["collection"], record["method"], record["seed"], record.get("missing", 0.0))
        for record in read_results(arguments.results)
    }
    seeds = range(max(n_seeds(method, arguments) for method in arguments.methods))
    runs = [(seed, method) for seed in seeds for method in arguments.methods if seed < n_seeds(method, arguments)]
    return {
        name: [run for run in runs if (name, run[1], run[0], arguments.missing) not in done]
        for name in arguments.collections
    }


def run(arguments: argparse.Namespace) -> int:
    """Run what the results file lacks, and return how many runs failed."""
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    drop_partial_line(arguments.results)
    runs, n_failed = open_runs(arguments), 0
    for method in {method: None for of_one in runs.values() for _, method in of_one}:
        for n_channels in (1, 2):
            measure(method, toy(n_channels), seed=0)
    for name, of_one in runs.items():
        original = load(arguments.data, name)
        for seed, method in of_one:
            collection = with_missing(original, arguments.missing, seed) if arguments.missing else original
            try:
                record = measure(method, collection, seed)
            except Exception:
                print(f"{name}, {method}, seed {seed} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
                n_failed += 1
                continue
            if arguments.missing:
                record["missing"] = arguments.missing
            with arguments.results.open("a") as file:
                file.write(json.dumps(record) + "\n")
            seconds = record["fit_seconds"] + record["predict_seconds"]
            print(f"{name}, {method}, seed {seed}: accuracy {record['accuracy']:.4f}, {seconds:.2f} s", flush=True)
    return n_failed


# -- report


def markdown(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table whose columns are right-aligned except for the first; None becomes a dash."""
    rule = ["---", *["---:"] * (len(heading) - 1)]
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(heading), rule, *cells])


def title(column: str) -> str:
    """Return the title of a method that was run here, or of a published column as it is."""
    return METHODS[column].title if column in METHODS else column


def number(value: float | None, digits: int) -> str | None:
    """Return a number with fixed digits, or None if it is missing."""
    return None if value is None or np.isnan(value) else f"{value:.{digits}f}"


def load_frame(path: Path) -> pd.DataFrame:
    """Return the results file as a frame, one row a run, with the sum of seconds."""
    records = read_results(path)
    if not records:
        sys.exit(f"{path} holds no results. Run the benchmark first, or name another file with --results.")
    optional = ["missing", "log_loss", "log_loss_softmax", "ece"]
    frame = pd.DataFrame(records)
    frame = frame.reindex(columns=[*frame.columns, *(name for name in (*optional, "run") if name not in frame)])
    frame[optional] = frame[optional].astype(float)
    frame = frame.fillna({"missing": 0.0, "run": ""})
    frame["seconds"] = frame["fit_seconds"] + frame["predict_seconds"]
    return frame.drop_duplicates(["collection", "method", "seed", "missing"], keep="last")


def table_of(frame: pd.DataFrame, value: str, index: Any = "collection") -> pd.DataFrame:
    """Return means over seeds, a row a collection and a column a method, in the order of METHODS."""
    table = frame.pivot_table(index=index, columns="method", values=value)
    return table[[method for method in METHODS if method in table]]


def with_published(accuracy: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Append the published accuracies of the collections."""
    path = folder / "published.json"
    published = json.loads(path.read_text()) if path.exists() else {}
    for name in dict.fromkeys(name for scores in published.values() for name in scores):
        values = [published.get(collection, {}).get(name) for collection in accuracy.index]
        column = pd.Series(values, accuracy.index, dtype=float)
        if column.notna().any():
            accuracy = accuracy.assign(**{f"{name} (published)": column})
    return accuracy


def versus(ours: pd.Series, theirs: pd.Series) -> tuple[str, str | None]:
    """Return wins/ties/losses and the p-value of Wilcoxon's signed-rank test; None without a difference."""
    difference = (ours - theirs).round(4)
    counts = [int((difference > 0).sum()), int((difference == 0).sum()), int((difference < 0).sum())]
    p = wilcoxon(difference).pvalue if (difference != 0).any() else np.nan
    return "/".join(map(str, counts)), None if np.isnan(p) else f"{p:.2g}"


def accuracy_section(accuracy: pd.DataFrame) -> str:
    """Return the table of all collections and columns."""
    rows = [
        [name, *(number(value, 4) for value in values)]
        for name, values in zip(accuracy.index, accuracy.to_numpy(), strict=True)
    ]
    return "### Test accuracy, mean over seeds\n\n" + markdown(["collection", *map(title, accuracy.columns)], rows)


def standings(heading: str, accuracy: pd.DataFrame) -> str | None:
    """Return means, ranks, and comparisons with ridge over the collections that have all columns."""
    complete = accuracy.dropna().round(4)
    if "ridge" not in complete or complete.empty or len(complete.columns) < 2:
        return None
    means, ranks = complete.mean(), complete.rank(axis=1, ascending=False).mean()
    rows = []
    for column in ranks.sort_values().index:
        comparison = (None, None) if column == "ridge" else versus(complete["ridge"], complete[column])
        rows.append([title(column), number(means[column], 4), number(ranks[column], 2), *comparison])
    columns = ["method", "mean accuracy", "mean rank", f"{title('ridge')} wins/ties/losses", "Wilcoxon's p"]
    where = f"Collections with a value in every column: {len(complete)}. Rank 1 is the best."
    return f"### {heading}\n\n{where}\n\n{markdown(columns, rows)}"


def seconds_section(full: pd.DataFrame) -> str | None:
    """Return ratios of the CPU seconds of ridge and of each other method."""
    seconds = table_of(full, "seconds", ["collection", "seed", "run"])
    if "ridge" not in seconds:
        return None
    rows = []
    for method in seconds.columns.drop("ridge"):
        # A ratio is taken within a seed and a run, where both methods ran in succession.
        ratios = (seconds["ridge"] / seconds[method]).dropna().groupby(level="collection").median()
        if len(ratios):
            spread = [number(value, 2) for value in (gmean(ratios), ratios.min(), ratios.max())]
            rows.append([title(method), len(ratios), *spread])
    columns = ["method", "collections", "geometric mean", "smallest", "largest"]
    heading = f"### CPU seconds of fit and predict: {title('ridge')} over each method\n\n"
    note = "Below 1, the method takes longer. A collection's ratio is the median over seeds.\n\n"
    return heading + note + markdown(columns, rows) if rows else None


def deviation_section(full: pd.DataFrame) -> str | None:
    """Return the standard deviation over seeds, averaged over collections."""
    groups = full.groupby(["method", "collection"])["accuracy"]
    deviations = groups.std(ddof=1).dropna()
    rows = [
        [title(method), len(deviations[method]), int(groups.size()[method].max()), number(deviations[method].mean(), 4)]
        for method in METHODS
        if method in deviations.index.get_level_values("method")
    ]
    columns = ["method", "collections", "seeds", "mean deviation"]
    return "### Standard deviation of the accuracy over seeds\n\n" + markdown(columns, rows) if rows else None


def calibration_section(full: pd.DataFrame) -> str | None:
    """Return calibration errors and log losses; for ridge beside the softmax of its decision function."""
    rows = []
    for method in CALIBRATED:
        of_one = full[(full["method"] == method) & full["ece"].notna()]
        scores = of_one.groupby("collection")[["ece", "log_loss", "log_loss_softmax"]].mean()
        if scores.empty:
            continue
        means = [number(value, 4) for value in scores.mean()]
        compared = scores.dropna(subset="log_loss_softmax")
        n_better = int((compared["log_loss"] < compared["log_loss_softmax"]).sum())
        rows.append([title(method), len(scores), *means, f"{n_better} of {len(compared)}" if len(compared) else None])
    columns = [
        "method",
        "collections",
        "ECE",
        "log loss",
        "log loss of a softmax of decision_function",
        "better than it",
    ]
    return "### Calibration of predict_proba, mean over collections\n\n" + markdown(columns, rows) if rows else None


def missing_section(frame: pd.DataFrame) -> str | None:
    """Return the accuracy lost with missing steps, over the collections and seeds that ran both ways."""
    accuracy = frame.pivot_table(index=["method", "collection", "seed"], columns="missing", values="accuracy")
    rows = []
    for fraction in accuracy.columns[accuracy.columns > 0] if 0.0 in accuracy else ():
        both = accuracy[[0.0, fraction]].dropna().groupby(["method", "collection"]).mean()
        for method in (method for method in METHODS if method in both.index.get_level_values("method")):
            complete, missing = both.loc[method].mean()
            figures = [number(value, 4) for value in (complete, missing, complete - missing)]
            rows.append([title(method), f"{fraction:.0%}", len(both.loc[method]), *figures])
    columns = ["method", "missing steps", "collections", "accuracy, complete", "accuracy, missing", "lost"]
    return "### Missing steps, mean over collections\n\n" + markdown(columns, rows) if rows else None


def frequencies_section(full: pd.DataFrame) -> str | None:
    """Return the accuracy of ridge with and without frequencies, and its spread over seeds."""
    accuracy = table_of(full, "accuracy", ["collection", "seed"])
    if not {"ridge", "ridge_zero"} <= set(accuracy):
        return None
    both = accuracy[["ridge", "ridge_zero"]].assign(difference=accuracy["ridge"] - accuracy["ridge_zero"])
    complete = both.unstack("seed").dropna(axis=1, how="all").dropna()
    if complete.empty:
        return None
    by_seed = complete.mean().unstack(level=0)
    rows = [
        [name, number(by_seed[column].mean(), 4), number(by_seed[column].std(ddof=1), 4)]
        for column, name in (
            ("ridge", title("ridge")),
            ("ridge_zero", title("ridge_zero")),
            ("difference", "difference"),
        )
    ]
    counts, p = versus(complete["ridge"].mean(axis=1), complete["ridge_zero"].mean(axis=1))
    note = f"Collections: {len(complete)}, seeds: {len(by_seed)}. With frequencies, wins/ties/losses are {counts}"
    note += f" (Wilcoxon's p = {p})." if p else "."
    columns = ["", "mean accuracy", "deviation over seeds"]
    return f"### What the frequencies add\n\n{note}\n\n{markdown(columns, rows)}"


def report(arguments: argparse.Namespace) -> str:
    """Return all sections for which there are results."""
    frame = load_frame(arguments.results)
    full = frame[frame["missing"] == 0.0]
    sections = [f"Versions: {', '.join(sorted(set(frame['version'])))}."]
    if len(full):
        accuracy = table_of(full, "accuracy")
        multivariate = accuracy.index.isin(full.loc[full["n_channels"] > 1, "collection"])
        peers = [method for method in ("ridge", "minirocket", "multirocket_hydra") if method in accuracy]
        columns = with_published(accuracy, arguments.data)
        sections += [
            accuracy_section(columns),
            standings("Comparison over all columns", columns.drop(columns="ridge_zero", errors="ignore")),
            seconds_section(full),
            deviation_section(full),
            standings("Multivariate collections, all methods run here", accuracy.loc[multivariate, peers]),
            calibration_section(full),
        ]
    sections.append(missing_section(frame))
    if len(full):
        sections.append(frequencies_section(full))
    return "\n\n".join(section for section in sections if section)


def write_report(text: str, readme: Path) -> None:
    """Replace the text between the markers of a file."""
    content = readme.read_text()
    if not 0 <= content.find(BEGIN) < content.find(END):
        sys.exit(f"{readme} lacks the markers {BEGIN} and {END}, in this order. Add them where the tables belong.")
    before, _, rest = content.partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


# -- the command line


def fraction(text: str) -> float:
    """Parse a share of steps from 0 up to, but not including, 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number in [0, 1), got {text}")
    return value


def positive(text: str) -> int:
    """Parse a positive integer."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text}")
    return value


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare classifiers on the UCR and UEA archives.")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="default: $SFMTS_ARCHIVE or ../shared/data/archive")
    parser.add_argument("--methods", metavar="A,B", help=f"default: {','.join(METHODS)}")
    parser.add_argument("--collections", metavar="A,B", help="default: all of the folder")
    parser.add_argument("--seeds", type=positive, default=5, help="runs of each randomised method (default 5)")
    parser.add_argument("--network-seeds", type=positive, default=1, help="runs of network (default 1)")
    parser.add_argument("--missing", type=fraction, default=0.0, metavar="SHARE", help="share of the steps set to NaN")
    parser.add_argument("--results", type=Path, metavar="FILE", help="default: benchmarks/results/archive.jsonl")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="small collections, one seed, a temporary results file")
    what.add_argument("--report", action="store_true", help="print the tables of the results file and run nothing")
    parser.add_argument("--write", action="store_true", help="with --report: put the tables into benchmarks/README.md")
    arguments = parser.parse_args()
    if arguments.write and not arguments.report:
        parser.error("--write needs --report")
    arguments.data = data_folder(arguments.data)
    fill_defaults(arguments)
    check_names(parser, arguments)
    return arguments


def fill_defaults(arguments: argparse.Namespace) -> None:
    """Fill in missing arguments, and split lists at commas."""
    methods, collections = list(METHODS), sorted(path.stem for path in arguments.data.glob("*.npz"))
    if arguments.quick:
        methods, collections = ["ridge", "minirocket"], list(QUICK)
        if importlib.util.find_spec("aeon") is None:
            methods.remove("minirocket")
        arguments.seeds = arguments.network_seeds = 1
    arguments.methods = arguments.methods.split(",") if arguments.methods else methods
    arguments.collections = arguments.collections.split(",") if arguments.collections else collections
    arguments.results = arguments.results or HERE / "results" / "archive.jsonl"


def check_names(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Exit with a message if a method or a collection is unknown, or if aeon is needed and missing."""
    unknown = [name for name in arguments.methods if name not in METHODS]
    if unknown:
        parser.error(f"unknown methods: {', '.join(unknown)}; choose from {', '.join(METHODS)}")
    unknown = [name for name in arguments.collections if not (arguments.data / f"{name}.npz").exists()]
    if unknown:
        parser.error(f"{arguments.data} lacks the collections {', '.join(unknown)}")
    peers = [name for name in arguments.methods if METHODS[name].package == "aeon"]
    if peers and not arguments.report and importlib.util.find_spec("aeon") is None:
        parser.error(
            f"aeon is not installed, but these methods need it: {', '.join(peers)}. Use an environment with "
            "benchmarks/requirements-archive.txt, or choose other methods with --methods."
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        arguments = parse_arguments()
        if arguments.quick:
            arguments.results = Path(folder) / "archive.jsonl"
        n_failed = 0 if arguments.report else run(arguments)
        if arguments.report or arguments.quick:
            print(report(arguments))
        if arguments.write:
            write_report(report(arguments), HERE / "README.md")
    sys.exit(f"{n_failed} runs failed." if n_failed else 0)


if __name__ == "__main__":
    main()
