"""Accuracy on the test set, beside a rule that learns nothing, with default parameters but for those given here.

    python benchmarks/accuracy.py waves-paper --set max_iter=30
    python benchmarks/accuracy.py japanese-vowels --seeds 3 --set network=lstm n_states=62

Waves: 2000 of 500 steps, 1600 for training and 400 for the test; the rule counts distinct values.  Japanese vowels
(nine speakers, 12 channels, 7 to 29 steps; from sktime): 270 and 370 series as published; the rule is the most
frequent speaker.  Irregular sines: 300 and 1000 sines of 20 to 39 steps at random times, of random phase; the classes
differ in angular frequency only, .8 against 1.3; channels are value, time, and time since the step before; the rule
is the more frequent class.  Series are float32.
"""

import argparse
import ast
import statistics
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from sfmts import SFMClassifier
from sfmts.datasets import count_distinct_values, make_waves
from sfmts.datasets.waves import VARIANTS

DATA = [*(f"waves-{variant}" for variant in VARIANTS), "japanese-vowels", "irregular-sines"]


class Task(NamedTuple):
    """Series and labels for training and for the test, and what the trivial rule says of the test set."""

    X_train: Any
    X_test: Any
    y_train: np.ndarray
    y_test: np.ndarray
    rule: str
    guess: np.ndarray


def waves(variant: str) -> Task:
    X, y = make_waves(2000, variant=variant, random_state=0)
    X = X.astype(np.float32)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=400, stratify=y, random_state=0)
    return Task(X_train, X_test, y_train, y_test, "at most two distinct values: square", count_distinct_values(X_test))


def japanese_vowels() -> Task:
    from sktime.datasets import load_japanese_vowels

    parts = {}
    for split in ("train", "test"):
        frames, y = load_japanese_vowels(split=split, return_type="df-list")
        parts[split] = [frame.to_numpy(dtype=np.float32) for frame in frames], y
    return with_most_frequent(*parts["train"], *parts["test"])


def irregular_sines() -> Task:
    rng = np.random.default_rng(0)
    X, y = [], rng.permutation(np.arange(1300) % 2)
    for label in y:
        gaps = rng.exponential(1.0, size=rng.integers(20, 40))
        time = gaps.cumsum()
        values = np.sin((0.8 + 0.5 * label) * time + rng.uniform(0, 2 * np.pi))
        X.append(np.column_stack([values, time, gaps]).astype(np.float32))
    return with_most_frequent(X[:300], y[:300], X[300:], y[300:])


def with_most_frequent(X_train: Any, y_train: np.ndarray, X_test: Any, y_test: np.ndarray) -> Task:
    """Return a task whose trivial baseline is the most frequent class of the training set."""
    classes, counts = np.unique(y_train, return_counts=True)
    return Task(X_train, X_test, y_train, y_test, "most frequent class", np.full(len(y_test), classes[counts.argmax()]))


def option(text: str) -> tuple[str, Any]:
    """Split "name=value"; a value that is not a Python literal is a string."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fit, score, and compare with a trivial rule.")
    parser.add_argument("data", choices=DATA)
    parser.add_argument(
        "--set", nargs="+", default=[], type=option, metavar="NAME=VALUE", help="parameters of the classifier"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many fits, with seeds 0, 1, ...")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch; on a busy machine more are slower")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    tasks = {"japanese-vowels": japanese_vowels, "irregular-sines": irregular_sines}
    task = tasks[arguments.data]() if arguments.data in tasks else waves(arguments.data.removeprefix("waves-"))
    print(f"{arguments.data}: {len(task.X_train)} series for training, {len(task.X_test)} for the test")
    print(f"trivial rule ({task.rule}): accuracy {np.mean(task.guess == task.y_test):.4f}", flush=True)
    options = dict(arguments.set)
    name = ", ".join(f"{key}={value}" for key, value in options.items()) or "defaults"
    scores = []
    for seed in range(arguments.seeds):
        model = SFMClassifier(base=None, **options, random_state=seed, verbose=1)
        start = time.perf_counter()
        model.fit(task.X_train, task.y_train)
        seconds = time.perf_counter() - start
        scores.append(model.score(task.X_test, task.y_test))
        print(
            f"{name}, seed {seed}: accuracy {scores[-1]:.4f}, {model.n_parameters_} parameters, "
            f"{model.n_iter_} epochs, {seconds:.1f} s per fit, threads {torch.get_num_threads()}",
            flush=True,
        )
    if len(scores) > 1:
        mean, deviation = statistics.mean(scores), statistics.stdev(scores)
        print(f"{name}, {len(scores)} seeds: accuracy {mean:.4f} +- {deviation:.4f}")


if __name__ == "__main__":
    main()
