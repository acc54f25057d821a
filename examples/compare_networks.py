"""
All networks at one budget of parameters, on waves and on spoken vowels
=======================================================================

Each network gets as many states as bring it, with its output layer, nearest to 4000 parameters, and is trained three
times, with other initial weights and another order of batches.  Nothing is tuned: all have the estimator's defaults,
among them one learning rate, and the same number of epochs.  That is one protocol, not a fair one for each: a network
that is last here may be first at its own learning rate, and many differences are smaller than those between seeds.

Waves: squares and sawtooths in noise, the variant that no statistic of the values alone can solve, 400 for training
and 400 for the test, 60 steps.  Japanese vowels: nine speakers, 270 and 370 series of 7 to 29 steps, as published.
The most frequent class is the dashed line.

What came out: on waves eight networks, LSTM, GRU and the resonator among them, at 0.98 to 0.99, the recurrent highway
network at 0.96, the SFM at 0.95, its KDD variant at 0.92, and three at 0.55 to 0.67; on vowels all at 0.95 to 0.98, the
resonator at 0.98 and the SFM at 0.95, but for the phased LSTM at 0.92.  So with 4000 parameters and this recipe the SFM
wins neither; it does train fastest on both.  Adaptive computation time, which takes several passes a step, trained
longest by far.

Run it::

    python examples/compare_networks.py
    python examples/compare_networks.py --quick      less of everything, to see that it runs

Needs sktime (for the vowels, which it brings along) and matplotlib: ``pip install ".[all]"``.  Takes two and
a half minutes on two cores, and ``--quick`` some 25 seconds.
"""

# sphinx_gallery_thumbnail_path = "pictures/frequencies.svg"

import argparse
import statistics
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from joblib import Parallel, delayed
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from sklearn.exceptions import ConvergenceWarning
from sktime.datasets import load_japanese_vowels
from tqdm.auto import tqdm

from sfmts import SFMClassifier
from sfmts.datasets import make_waves
from sfmts.networks import match_budget, network_names

BUDGET = 4000
COLOURS = {"SFM": "#0072B2", "other": "#E69F00"}


class Task(NamedTuple):
    """Series and labels for training and for the test."""

    name: str
    epochs: int
    X_train: Any
    X_test: Any
    y_train: np.ndarray
    y_test: np.ndarray

    @property
    def widths(self) -> tuple[int, int]:
        """Channels, and what the output layer puts out: one logit for two classes."""
        n_classes = len(np.unique(self.y_train))
        return self.X_train[0].shape[1], 1 if n_classes == 2 else n_classes

    @property
    def guess(self) -> float:
        """Accuracy of the most frequent class of the training set."""
        classes, counts = np.unique(self.y_train, return_counts=True)
        return float(np.mean(self.y_test == classes[counts.argmax()]))


class Fit(NamedTuple):
    """What came of one training."""

    task: str
    network: str
    n_states: int
    n_parameters: int
    accuracy: float
    seconds: float


def waves(n_train: int, n_steps: int, epochs: int) -> Task:
    X, y = make_waves(n_train + 400, n_steps=n_steps, variant="hard", random_state=0)
    X = X.astype(np.float32)
    return Task("waves", epochs, X[:n_train], X[n_train:], y[:n_train], y[n_train:])


def vowels(epochs: int) -> Task:
    series, labels = {}, {}
    for split in ("train", "test"):
        frames, labels[split] = load_japanese_vowels(split=split, return_type="df-list")
        series[split] = [frame.to_numpy(dtype=np.float32) for frame in frames]
    return Task("Japanese vowels", epochs, series["train"], series["test"], labels["train"], labels["test"])


def fit(task: Task, network: str, seed: int) -> Fit:
    """Train one network with one seed, and score it on the test set."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    n_states = match_budget(network, BUDGET, *task.widths)
    model = SFMClassifier(
        network, base=None, n_states=n_states, pooling="last", max_iter=task.epochs, random_state=seed
    )
    start = time.perf_counter()
    model.fit(task.X_train, task.y_train)
    seconds = time.perf_counter() - start
    return Fit(task.name, network, n_states, model.n_parameters_, model.score(task.X_test, task.y_test), seconds)


def ranked(task: Task, fits: list[Fit]) -> dict[str, list[Fit]]:
    """Return the fits of each network on a task, the best mean first."""
    by_network: dict[str, list[Fit]] = {}
    for found in fits:
        if found.task == task.name:
            by_network.setdefault(found.network, []).append(found)
    return dict(sorted(by_network.items(), key=lambda item: -statistics.mean(f.accuracy for f in item[1])))


def print_table(task: Task, fits: list[Fit]) -> None:
    print(
        f"\n{task.name}: {len(task.X_train)} series for training, {len(task.X_test)} for the test, "
        f"{task.epochs} epochs; the most frequent class: {task.guess:.3f}"
    )
    print(f"{'network':18}  {'states':>6}  {'parameters':>10}  {'accuracy':>8}  {'seeds':>20}  {'seconds':>7}")
    for network, found in ranked(task, fits).items():
        accuracies = [f.accuracy for f in found]
        each = " ".join(f"{accuracy:.3f}" for accuracy in accuracies)
        seconds = statistics.mean(f.seconds for f in found)
        print(
            f"{network:18}  {found[0].n_states:6}  {found[0].n_parameters:10}  {statistics.mean(accuracies):8.3f}  "
            f"{each:>20}  {seconds:7.1f}"
        )


def draw(task: Task, fits: list[Fit], ax: Axes) -> None:
    """Draw errors on a logarithmic scale: a dot for each seed, a bar for their mean."""
    results = ranked(task, fits)
    smallest = 0.5 / len(task.y_test)  # where no error at all is drawn
    for place, (network, found) in enumerate(results.items()):
        colour = COLOURS["SFM" if network.startswith("sfm") else "other"]
        errors = [max(1.0 - f.accuracy, smallest) for f in found]
        ax.plot(errors, [place] * len(found), "o", color=colour, alpha=0.6, markersize=6, markeredgewidth=0)
        ax.plot([statistics.mean(errors)], [place], "|", color=colour, markersize=17, markeredgewidth=2.5)
    ax.axvline(1.0 - task.guess, color="0.5", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(results)), results)
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="share of errors on the test set", title=task.name)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare all networks at one budget of parameters.")
    parser.add_argument("--output", type=Path, default=Path("example_output"), help="folder for the picture")
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it runs")
    parser.add_argument("--jobs", type=int, default=2, help="how many trainings at a time, one thread each")
    arguments = parser.parse_args()
    if arguments.quick:
        tasks, seeds = [waves(32, n_steps=20, epochs=2), vowels(epochs=2)], range(2)
    else:
        tasks, seeds = [waves(400, n_steps=60, epochs=25), vowels(epochs=30)], range(3)
    work = [(task, network, seed) for task in tasks for network in network_names() for seed in seeds]
    results = Parallel(n_jobs=arguments.jobs, return_as="generator")(delayed(fit)(*one) for one in work)
    fits = list(tqdm(results, total=len(work), desc="trainings"))

    figure, axes = plt.subplots(1, len(tasks), figsize=(10, 5), layout="constrained")
    for task, ax in zip(tasks, axes, strict=True):
        print_table(task, fits)
        draw(task, fits, ax)
    figure.suptitle(f"About {BUDGET} parameters each, nothing tuned; dots are seeds, bars their means")
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "compare_networks.png"
    figure.savefig(path, dpi=120)
    print(f"\nwrote {path}")


if __name__ == "__main__":
    main()
