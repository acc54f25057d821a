"""Accuracy on Japanese vowels: which of nine men said /ae/, from series of 12 channels and 7 to 29 steps.

    python benchmarks/japanese_vowels.py --seeds 3

The data come with sktime: 270 series for training and 370 for the test, as published.  All settings are the
estimator's defaults.  The trivial rule is the most frequent speaker of the training set.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from sklearn.dummy import DummyClassifier
from sktime.datasets import load_japanese_vowels

from sfmts import SFMClassifier
from sfmts.networks import network_names


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tell the speakers of Japanese vowels apart.")
    parser.add_argument("--network", choices=network_names(), default="sfm")
    parser.add_argument("--n-states", type=int, default=32, help="the hidden width of networks other than the SFM")
    parser.add_argument("--max-iter", type=int, default=100, help="greatest number of epochs")
    parser.add_argument("--seeds", type=int, default=1, help="how many fits, with seeds 0, 1, ...")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch; on a busy machine more are slower")
    return parser.parse_args()


def load(split: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Series of shape (steps, 12), and the speaker of each."""
    frames, y = load_japanese_vowels(split=split, return_type="df-list")
    return [frame.to_numpy(dtype=np.float32) for frame in frames], y


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    (X_train, y_train), (X_test, y_test) = load("train"), load("test")
    trivial = DummyClassifier(strategy="most_frequent").fit(np.zeros(len(y_train)), y_train)
    print(f"Japanese vowels; {len(X_train)} series for training, {len(X_test)} for the test, float32")
    print(f"trivial rule (most frequent speaker)    accuracy {trivial.score(np.zeros(len(y_test)), y_test):.4f}")

    scores = []
    for seed in range(arguments.seeds):
        model = SFMClassifier(
            arguments.network, n_states=arguments.n_states, max_iter=arguments.max_iter, random_state=seed
        )
        start = time.perf_counter()
        model.fit(X_train, y_train)
        seconds = time.perf_counter() - start
        scores.append(model.score(X_test, y_test))
        print(
            f"{arguments.network}, seed {seed}: accuracy {scores[-1]:.4f}   parameters {model.n_parameters_}   "
            f"epochs {model.n_iter_}   {seconds:.1f} s per fit, threads {torch.get_num_threads()}",
            flush=True,
        )
    if len(scores) > 1:
        mean, deviation = statistics.mean(scores), statistics.stdev(scores)
        print(f"{arguments.network}, {len(scores)} seeds: accuracy {mean:.4f} +- {deviation:.4f}")


if __name__ == "__main__":
    main()
