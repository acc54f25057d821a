"""Show from which number of training series on the network of SFMClassifier improves on its fixed memory.

    python benchmarks/sizes.py                               all sizes (an hour)
    python benchmarks/sizes.py --sizes 1000,2000 --seeds 1   some minutes

Two tasks, of which any number of series can be drawn. In ``rhythm``, sines in noise have a period of 8 or of 9 steps.
In ``order``, the first and the second 50 steps of a series are such sines, of 8 or 10 steps each; the class is the pair
of periods, so the order matters. Test sets have 4000 series. Rows are printed as they are found; ``kept`` is how often
the series set aside let the classifier keep its network. Seconds are those of the processor, of ``fit``.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator

os.environ["OMP_NUM_THREADS"] = "1"  # read when the libraries below are loaded

import numpy as np
import torch
from sklearn.metrics import log_loss

from sfmts import SFMClassifier, SFMRidgeClassifier
from sfmts.datasets import make_periods

Task = tuple[np.ndarray, np.ndarray]
N_TEST, TEST_SEED, SECOND_HALF = 4000, 10**6, 10**5


def rhythm(n_series: int, seed: int) -> Task:
    """Return sines of two periods that are close to each other."""
    return make_periods(n_series, periods=(8.0, 9.0), noise=2.5, random_state=seed)


def order(n_series: int, seed: int) -> Task:
    """Return series of two halves with a period each; the class says which is where."""
    (first, a), (second, b) = (make_periods(n_series, n_steps=50, random_state=seed + s) for s in (0, SECOND_HALF))
    return np.concatenate([first, second], axis=1), 2 * a + b


TASKS: dict[str, Callable[[int, int], Task]] = {"rhythm": rhythm, "order": order}
METHODS = {
    "fixed memory": lambda seed: SFMRidgeClassifier(random_state=seed),
    "both": lambda seed: SFMClassifier(random_state=seed),
    "network alone": lambda seed: SFMClassifier(base=None, early_stopping=True, random_state=seed),
}


def row(task: Callable[[int, int], Task], method: str, n_series: int, n_seeds: int) -> list[str]:
    """Return accuracy, log loss, how often the network was kept, and seconds, each a mean over seeds."""
    test, labels = task(N_TEST, TEST_SEED)
    found = []
    for seed in range(n_seeds):
        X, y = task(n_series, seed)
        begin = time.process_time()
        model = METHODS[method](seed).fit(X, y)
        seconds = time.process_time() - begin
        p = model.predict_proba(test)
        hits = (model.classes_[p.argmax(axis=1)] == labels).mean()
        found.append((hits, log_loss(labels, p), getattr(model, "network_used_", False), seconds))
    accuracy, loss, kept, seconds = np.mean(found, axis=0)
    return [f"{accuracy:.4f}", f"{loss:.4f}", f"{kept:.0%}" if method == "both" else "", f"{seconds:.0f}"]


def rows(sizes: list[int], n_seeds: int) -> Iterator[list[str]]:
    """Return the rows of the table."""
    for name, task in TASKS.items():
        for n_series in sizes:
            for method in METHODS:
                yield [name, str(n_series), method, *row(task, method, n_series, n_seeds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")], default="1000,5000,20000")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| task | series | method | accuracy | log loss | kept | seconds |\n|---|---|---|---|---|---|---|")
    for cells in rows(arguments.sizes, arguments.seeds):
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
