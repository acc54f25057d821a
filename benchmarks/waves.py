"""Accuracy on square and sawtooth waves, beside the trivial rule that counts distinct values.

    python benchmarks/waves.py --variant paper

2000 waves of 500 steps, 1600 for training and 400 for the test; all other settings are the estimator's defaults.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from sfmts import SFMClassifier
from sfmts.datasets import count_distinct_values, make_waves
from sfmts.networks import network_names


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Classify square and sawtooth waves.")
    parser.add_argument("--variant", choices=["paper", "released", "hard"], default="paper")
    parser.add_argument("--network", choices=network_names(), default="sfm")
    parser.add_argument("--n-states", type=int, default=32, help="the hidden width of networks other than the SFM")
    parser.add_argument("--max-iter", type=int, default=30, help="epochs")
    parser.add_argument("--seeds", type=int, default=1, help="how many fits, with seeds 0, 1, ...")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch; on a busy machine more are slower")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    X, y = make_waves(2000, variant=arguments.variant, random_state=0)
    X = X.astype(np.float32)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=400, stratify=y, random_state=0)
    trivial = float((count_distinct_values(X_test) == y_test).mean())
    print(f"variant {arguments.variant!r}; {len(X_train)} waves for training, {len(X_test)} for the test, float32")
    print(f"trivial rule (at most two distinct values: square)    accuracy {trivial:.4f}", flush=True)

    scores = []
    for seed in range(arguments.seeds):
        model = SFMClassifier(
            arguments.network, n_states=arguments.n_states, max_iter=arguments.max_iter, random_state=seed, verbose=1
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
