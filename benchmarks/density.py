"""Log-likelihoods of the four piano-roll collections, beside a rule that knows only how often each key is pressed.

    python benchmarks/density.py jsb_chorales nottingham --seeds 3
    python benchmarks/density.py jsb_chorales --set network=lstm n_states=139

All figures are of the test split.  "Bernoulli" is the mean over all frames from the second on of the sum over the 88
keys, in nats per frame, lower is better; of a joint head ("nade", "rbm") it is the joint log-likelihood, which must not
be compared with the others.  The marginal rule has rates from the training split, (pressed + 1/2) / (frames + 1), and
scores the same frames.  "Softmax over pressed keys" is what the SFM authors' program scores; it cannot exceed its
ceiling.
Default parameters but for those given here.  Files come from the cache, from ``--data``, or from the network.
"""

import argparse
import resource
import statistics
import time

import numpy as np
import torch
from accuracy import option

from sfmts import SFMDensity
from sfmts.datasets import fetch_piano_rolls
from sfmts.metrics import bernoulli_log_likelihood, softmax_pressed_ceiling

NAMES = ("jsb_chorales", "nottingham", "musedata", "piano_midi")


def marginal(train: list[np.ndarray], test: list[np.ndarray]) -> float:
    """Return the nats per frame of the baseline."""
    frames = np.concatenate(train)
    rates = (frames.sum(axis=0, dtype=np.float64) + 0.5) / (len(frames) + 1)
    return -bernoulli_log_likelihood(test, [np.broadcast_to(rates, roll.shape) for roll in test])


def measure(name: str, data: str | None, options: dict, seeds: int) -> None:
    """Print the rules' figures, then those of each fit."""
    rolls = fetch_piano_rolls(name, data_home=data)
    train, test = ([roll[1:] for roll in part] for part in (rolls.train, rolls.test))
    print(f"{name}: {len(rolls.train)} pieces for training, {len(rolls.test)} for the test")
    print(f"marginal rule: {marginal(train, test):.2f} nats per frame", flush=True)
    print(f"softmax over pressed keys: ceiling {softmax_pressed_ceiling(test):.2f}", flush=True)
    label = ", ".join(f"{key}={value}" for key, value in options.items()) or "defaults"
    scores = []
    for seed in range(seeds):
        start = time.perf_counter()
        model = SFMDensity(**options, random_state=seed).fit(rolls.train)
        seconds = time.perf_counter() - start
        scores.append(-model.score(rolls.test))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{label}, seed {seed}: {scores[-1]:.3f} (valid {-model.score(rolls.valid):.3f}), "
            f"{model.n_parameters_} parameters, {seconds:.1f} s per fit, peak of the process {peak:.1f} GiB",
            flush=True,
        )
    if len(scores) > 1:
        print(f"{label}, {seeds} seeds: {statistics.mean(scores):.3f} +- {statistics.stdev(scores):.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit SFMDensity and score it beside trivial rules.")
    parser.add_argument("names", nargs="+", choices=NAMES)
    parser.add_argument("--data", help="folder that holds the files")
    parser.add_argument("--set", nargs="+", default=[], type=option, metavar="NAME=VALUE")
    parser.add_argument("--seeds", type=int, default=1, help="how many fits, with seeds 0, 1, ...")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.names:
        measure(name, arguments.data, dict(arguments.set), arguments.seeds)


if __name__ == "__main__":
    main()
