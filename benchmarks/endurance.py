"""Kill fits at random moments, continue them from their checkpoints, and compare with fits that were not killed.

    python benchmarks/endurance.py                  100 moments of each signal, in some minutes
    python benchmarks/endurance.py --moments 20     fewer

Needs Linux or macOS. Each fit runs in a process of its own. SIGKILL ends it at once; SIGTERM lets it save, and fit
returns. An equal fit in another process then continues. All weights, predictions and the record of the training must be
those of the unbroken fit to the bit. The moments are uniform over the time that the unbroken fit takes, from a fixed
seed; what the process is doing then depends on the machine.
"""

import argparse
import hashlib
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from sfmts import SFMClassifier, SFMDensity, SFMForecaster, SFMLabeler
from sfmts.datasets import make_waves

PROCESSES = multiprocessing.get_context("fork")  # a new interpreter would spend its time importing


class Corrected(SFMClassifier):
    """Correct the fixed memory with few series, too, so that a fit is short."""

    _fewest_series = 20


class Case(NamedTuple):
    """A fit of a second or less, and what of its result is compared."""

    name: str
    model: Any
    data: tuple[Any, ...]
    results: Callable[[Any], list[Any]]


def recorded(predict: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    return lambda model: [model.history_, model.module_.state_dict(), predict(model)]


def cases() -> list[Case]:
    rng = np.random.default_rng(0)
    X, y = make_waves(60, n_steps=20, variant="released", random_state=0)
    frames = [(rng.random((15, 8)) < 0.3).astype(float) for _ in range(40)]
    series = pd.Series(np.sin(np.arange(120) ** 1.2 / 20) ** 2 + rng.normal(size=120) / 20)
    quick = {"n_states": 8, "random_state": 0, "device": "cpu"}
    stopping = {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 5}
    network = SFMClassifier(base=None, dropout=0.2, max_iter=12, **stopping, **quick)
    corrected = Corrected(max_iter=12, **quick)
    labeler = SFMLabeler(network="gru", optimizer="sgd", max_iter=12, **quick)
    density = SFMDensity(head="rbm", n_hidden=8, max_iter=12, **stopping, **quick)
    forecaster = SFMForecaster(
        base=None, context_length=8, horizon=1, max_iter=4, learning_rate_init=0.03, batch_size=16, **quick
    )
    return [
        Case("network, early stopping", network, (X, y), recorded(lambda model: model.predict_proba(X))),
        Case("network corrects base", corrected, (X, y), recorded(lambda model: model.predict_proba(X))),
        Case("labeler", labeler, (X, (X[:, :, 0] > 0).astype(int)), recorded(lambda model: model.predict_proba(X))),
        Case("density, RBM", density, (frames,), recorded(lambda model: model.score_samples(frames[:5]))),
        Case(
            "forecaster",
            forecaster,
            (series,),
            lambda model: [model.loss_curve_, model.validation_scores_, model.module_.state_dict(), model.predict([1])],
        ),
    ]


def checksum(value: Any) -> str:
    """Return a checksum of nested results, to the bit."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, pd.Series | pd.DataFrame):
        value = value.to_numpy()
    if isinstance(value, np.ndarray):
        value = f"{value.dtype} {value.shape} {value.tobytes().hex()}"
    if isinstance(value, dict):
        value = [checksum([key, item]) for key, item in value.items()]
    if isinstance(value, list | tuple):
        value = [item if isinstance(item, str) else checksum(item) for item in value]
    return hashlib.sha256(repr(value).encode()).hexdigest()


def fit(case: Case, path: Path | None, sender: Any) -> None:
    """Fit in this process, and send the checksum of the result; write checkpoints often."""
    torch.set_num_threads(1)
    model = clone(case.model)
    if path is not None:
        options = {**(model.optimizer_params or {}), "checkpoint_seconds": 0.02}
        model.set_params(checkpoint=path, optimizer_params=options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(*case.data)
    sender.send(checksum(case.results(model)))


def run(case: Case, path: Path | None, signal_number: int = 0, after: float = 0.0) -> tuple[str | None, float, float]:
    """Fit in a new process that gets a signal after some seconds.

    Return the checksum of the result if there is one, the seconds that the process took, and how many of them after the
    signal.
    """
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=fit, args=(case, path, sender))
    begin = time.perf_counter()
    process.start()
    sender.close()
    if signal_number:
        process.join(after)
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal_number)
    signalled = time.perf_counter()
    try:
        result = receiver.recv()
    except EOFError:
        result = None
    process.join()
    end = time.perf_counter()
    return result, end - begin, end - signalled


def trials(case: Case, number: int, n_moments: int, rng: np.random.Generator, folder: Path) -> dict[str, Any]:
    """Return what became of fits that got a signal at random moments."""
    expected, seconds, _ = run(case, None)
    if expected is None:
        raise RuntimeError(f"The fit of {case.name!r} failed.")
    _, with_checkpoint, _ = run(case, folder / "timed")
    found: dict[str, Any] = {"done": 0, "anew": 0, "continued": 0, "equal": 0, "wait": []}
    for moment in range(n_moments):
        path = folder / f"{moment}"
        result, _, wait = run(case, path, number, rng.uniform(0.0, with_checkpoint))
        found["wait"].append(wait)
        found["continued" if path.exists() else "anew" if result is None else "done"] += 1
        found["equal"] += run(case, path)[0] == expected
        assert not path.exists()
    return {**found, "seconds": seconds, "with": with_checkpoint}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=100, help="of each signal, over all fits")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = cases()
    for case in chosen:  # imports what forked processes would import anew
        clone(case.model).set_params(max_iter=1).fit(*case.data)
    rng = np.random.default_rng(arguments.seed)
    print("| fit | signal | moments | was done | had no file yet | continued | equal to the bit | ended within, s |")
    print("|---|---|---|---|---|---|---|---|")
    failed = 0
    for number, name in ((signal.SIGKILL, "SIGKILL"), (signal.SIGTERM, "SIGTERM")):
        for place_of_case, case in enumerate(chosen):
            n_moments = len(range(place_of_case, arguments.moments, len(chosen)))
            if not n_moments:
                continue
            with tempfile.TemporaryDirectory() as folder:
                found = trials(case, number, n_moments, rng, Path(folder))
            failed += n_moments - found["equal"]
            print(
                f"| {case.name} ({found['seconds']:.1f} s) | {name} | {n_moments} | {found['done']} | "
                f"{found['anew']} | {found['continued']} | {found['equal']} | {statistics.median(found['wait']):.2f} |",
                flush=True,
            )
    sys.exit(f"{failed} fits ended with another model." if failed else 0)


if __name__ == "__main__":
    main()
