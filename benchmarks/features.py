"""Speed, memory and exactness of the fixed memory, a table for each question.

    python benchmarks/features.py                  # all but the last
    python benchmarks/features.py kernel           # microseconds a step: compiled, fused, and the arithmetic limit
    python benchmarks/features.py memory           # of transform, 10 000 series of 500 steps
    python benchmarks/features.py stream           # microseconds a step, 10 000 features
    python benchmarks/features.py dense --data ../shared/data/archive   # models on series sampled twice as densely
    python benchmarks/features.py many             # fit to 100 000 series of 100 steps: minutes

Times are those of one thread (``many``: of all) and medians of repetitions that take turns; run it on an idle machine.
"""

# ruff: noqa: E402 (the number of threads is set before NumPy is imported)
import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    if "many" not in sys.argv:
        os.environ[_variable] = "1"

import numpy as np
import torch

from sfmts import SFMFeatures, SFMRidgeClassifier
from sfmts.kernels import Bank, _compiled, summarize_bank

# Floating-point operations of an oscillator and step: 4 multiply-adds turn it, 3 read it; threshold 5; the competition
# of a group of 8 takes 2 x (7 comparisons, 8 tests, 16 sums) for all, 8 for each.
OPERATIONS = 2 * 7 + 5 + 8
DENSE = ("ArrowHead", "CBF", "ECG200", "FaceFour", "GunPoint", "OSULeaf", "Plane", "SwedishLeaf", "Trace", "NATOPS")


def memory_used() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def median_seconds(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time functions in turn, after one call of each."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def noise_bank(n_features: int, n_series: int, n_steps: int, time_stamps: bool = False) -> tuple[Bank, tuple]:
    """Return a fitted bank and series as the kernels take them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_series, n_steps)).astype(np.float32)
    model = SFMFeatures(n_features, random_state=0).fit(X)
    times = torch.arange(n_steps, dtype=torch.float64).repeat(n_series)
    times += torch.from_numpy(rng.uniform(0, 0.5, size=len(times)))
    x = model._fitted.scale.apply(model._batch(X, reset=False))
    return model._fitted.bank, (x, torch.full((n_series,), n_steps), times if time_stamps else None)


def peak_operations() -> float:
    """Return the floating-point operations a second that a matrix product reaches on this thread."""
    a = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * 512**3 / min(seconds)


def kernel() -> None:
    """Print microseconds a series and step for each kernel."""
    torch.set_num_threads(1)
    n, steps = 100, 500
    bank, series = noise_bank(10_000, n, steps)
    _, timed = noise_bank(10_000, n, steps, time_stamps=True)

    def compiled(name: str, arguments: tuple) -> Callable[[], object]:
        def run() -> object:
            os.environ["SFMTS_INSTRUCTION_SET"] = name
            return summarize_bank(*arguments, bank, backend="native", threads=1)

        return run

    names = _compiled.library.instruction_sets()
    runs = {f"native, {name}": compiled(name, series) for name in names}
    runs["native, jittered time stamps"] = compiled(names[0], timed)
    runs["fused"] = lambda: summarize_bank(*series, bank, backend="fused")
    seconds = median_seconds(runs, 5)
    peak = peak_operations()
    limit = bank.n_features / 7 * OPERATIONS / peak
    print(f"\n| kernel, {bank.n_features} features, one thread | us a step | over {names[0]} | share of the limit |")
    print("| --- | ---: | ---: | ---: |")
    for name, value in seconds.items():
        step = value / n / steps
        print(f"| {name} | {step * 1e6:.2f} | {value / seconds[f'native, {names[0]}']:.1f} | {limit / step:.0%} |")
    print(f"| arithmetic limit ({peak / 1e9:.0f} Gflop/s) | {limit * 1e6:.2f} | | |")


def memory() -> None:
    """Print how much memory transform takes in addition to X and the result."""
    X = np.random.default_rng(0).normal(size=(10_000, 500)).astype(np.float32)
    model = SFMFeatures(random_state=0).fit(X[:100])
    model.transform(X[:100])
    before, peak_before = memory_used(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    features = model.transform(X)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    extra = max(peak, peak_before) - before - features.nbytes / 1e6
    print(f"\ntransform of {X.shape[0]} series of {X.shape[1]} steps: {extra:.0f} MB in addition to X and the result")


def stream() -> None:
    """Print microseconds a step of a stream."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 2000)), np.arange(50) % 2
    model = SFMRidgeClassifier(directions="forward", random_state=0).fit(X, y)
    values, streams = X[0].tolist(), model.stream()

    def read(*calls: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for value in values:
                streams.update(value)
                for call in calls:
                    call()

        return run

    runs = {
        "update": read(),
        "update and features": read(streams.features),
        "update and decision": read(streams.decision_function),
    }
    print(f"\n| stream, {model.n_features_out_} features, one thread | us a step |\n| --- | ---: |")
    for name, seconds in median_seconds(runs, 5).items():
        print(f"| {name} | {seconds / len(values) * 1e6:.1f} |")


def load(folder: Path, name: str, part: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the series and labels of a part of a collection, as benchmarks/archive.py reads them."""
    with np.load(folder / f"{name}.npz") as file:
        return np.split(file[f"{part}_values"], file[f"{part}_lengths"].cumsum()[:-1]), file[f"{part}_y"]


def sampled(x: np.ndarray, factor: int) -> np.ndarray:
    """Return a series with time stamps, sampled so many times as densely on the lines between its observations."""
    old = np.arange(len(x))
    new = np.linspace(0, len(x) - 1, factor * (len(x) - 1) + 1)
    return np.column_stack([new, *(np.interp(new, old, channel) for channel in x.T)])


def dense(folder: Path) -> None:
    """Print the accuracy of models fitted to sparse series on sparse and on dense ones."""
    print("\n| fitted to every step | accuracy | on series sampled twice as densely |\n| --- | ---: | ---: |")
    rows = []
    for name in DENSE:
        (X, y), (X_test, y_test) = load(folder, name, "train"), load(folder, name, "test")
        model = SFMRidgeClassifier(time_channel=0, random_state=0)
        model.fit([sampled(x, 1) for x in X], y)
        rows.append([model.score([sampled(x, factor) for x in X_test], y_test) for factor in (1, 2)])
        print(f"| {name} | {rows[-1][0]:.4f} | {rows[-1][1]:.4f} |", flush=True)
    print("| mean | {:.4f} | {:.4f} |".format(*np.mean(rows, axis=0)))


def many() -> None:
    """Print time and memory of a fit to 100 000 series."""
    rng = np.random.default_rng(0)
    n, steps = 100_000, 100
    y = rng.integers(4, size=n)
    angle = 2 * np.pi * np.arange(steps) / np.array([8.0, 9.0, 10.0, 11.0])[y, None] + rng.uniform(0, 2 * np.pi, (n, 1))
    X = (np.sin(angle) + 2 * rng.normal(size=(n, steps))).astype(np.float32)
    start = time.perf_counter()
    model = SFMRidgeClassifier(random_state=0).fit(X[:-2000], y[:-2000])
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    score = model.score(X[-2000:], y[-2000:])
    print(f"\nfit to {n - 2000} series of {steps} steps: {seconds:.0f} s, {peak:.1f} GB at most, accuracy {score:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["kernel", "memory", "stream", "dense", "many", []])
    parser.add_argument("--data", type=Path, default=os.environ.get("SFMTS_ARCHIVE", "../shared/data/archive"))
    arguments = parser.parse_args()
    for what in arguments.what or ["memory", "kernel", "stream", "dense"]:
        dense(arguments.data) if what == "dense" else globals()[what]()


if __name__ == "__main__":
    main()
