"""What all experiments share: runs that are carried out once, recorded as lines of JSON, and continued after a stop."""

import argparse
import inspect
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import sklearn
import torch

import sfmts
from sfmts.networks import paper_preset
from sfmts.networks.base import network_options

RESULTS = Path(__file__).parent / "results"
RETURNED = ("scores", "n_parameters", "epochs", "seconds")
ALONE = {"base": None, "pooling": "last", "batch_size": 32}  # a network that predicts alone, as in the paper
ESTIMATORS = ("parameters", "estimator", "recipe")  # settings that hold parameters of an estimator
OF_NETWORKS = ("n_outputs", "frequencies", "phase", "recurrent_dropout", "init", "backend", "memory", "time")
OF_OPTIMIZERS = {"weight_decay": "weight_decay", "clip_norm": "clip_norm", "learning_rate": "schedule"}
VERSIONS = {
    "sfmts": sfmts.__version__,
    "torch": torch.__version__,
    "numpy": np.__version__,
    "scikit-learn": sklearn.__version__,
    "python": platform.python_version(),
}

Record = dict[str, Any]
Fit = Callable[[dict[str, Any], int], dict[str, Any]]


class Outcome(NamedTuple):
    """What became of a claim: what was measured, in a few words, and one of the verdicts below."""

    measured: str
    verdict: str


CONFIRMED, IN_PART, NOT_CONFIRMED, NOT_TESTED = "confirmed", "in part", "not confirmed", "not tested"
NO_RUNS = Outcome("no run yet", NOT_TESTED)


class Run(NamedTuple):
    """One training: plain JSON values that determine it, and a seed."""

    settings: dict[str, Any]
    seed: int


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the options that every experiment has; a script may add its own."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--quick", action="store_true", help="tiny runs of every code path, results elsewhere")
    result.add_argument("--jobs", type=int, default=2, help="how many runs at a time, one thread each")
    result.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="where results are kept: results/ beside the scripts or, with --quick, a new temporary folder",
    )
    result.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="runs that have all of these among their settings; a word is a value, or NAME=VALUE, such as seed=0",
    )
    result.add_argument("--limit", type=float, metavar="SECONDS", help="start no run after that")
    result.add_argument("--list", action="store_true", help="say what is done and what is missing, and run nothing")
    return result


def estimator_parameters(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of an estimator that stand for options without any nesting.

    Options of networks go into ``network_params`` if the network takes them, so that one set is for all networks, and
    options of the optimizer into ``optimizer_params``. Older results list all options in this way, and call the
    ``n_layers`` of the resonator ``depth``. Parameters that are nested already stay as they are.
    """
    taken = network_options(options.get("network", "sfm"))
    network, optimizer, rest = {}, {}, {}
    for name, value in options.items():
        if name in OF_OPTIMIZERS:
            optimizer[OF_OPTIMIZERS[name]] = value
        elif name not in (*OF_NETWORKS, "network_params", "optimizer_params"):
            rest[name] = value
        elif name in taken and (name, value) not in (("time", "index"), ("time", "timestamps")):
            network[name] = value
    network |= options.get("network_params") or {}
    optimizer |= options.get("optimizer_params") or {}
    if rest.get("network") == "resonator" and "depth" in network:
        rest["n_layers"] = network.pop("depth")
    nested = {"network_params": network, "optimizer_params": optimizer}
    return rest | {name: own for name, own in nested.items() if own}


def preset(task: str, row: str) -> dict[str, Any]:
    """Return the preset of a row of Table 1 without what :func:`network_alone` sets."""
    parameters = paper_preset(task, row)
    return {name: value for name, value in parameters.items() if name not in ALONE}


def network_alone(estimator: type, **parameters: Any) -> Any:
    """Return an estimator whose network predicts alone, as in the paper."""
    own = {"network": "sfm", **ALONE} if "base" in inspect.signature(estimator).parameters else {}
    return estimator(**{**own, **parameters})


def run_and_print(
    experiment: str,
    description: str | None,
    plan: Callable[[bool], Sequence[Run]],
    fit: Fit,
    report: Callable[[list[Record]], str],
) -> None:
    """Run an experiment that has no options of its own: do the missing runs, and print the section."""
    arguments = parser(description).parse_args()
    records = carry_out(experiment, plan(arguments.quick), fit, arguments)
    print(report(records) if records else "No run has been made yet.")


def carry_out(experiment: str, runs: Iterable[Run], fit: Fit, arguments: argparse.Namespace) -> list[Record]:
    """Do the missing runs of a plan, and return all its records in the order of the plan.

    Records are appended one by one, by this process alone, so that a killed experiment loses only the runs under way.
    A run that fails is reported and leaves no record; the others go on.

    Raises
    ------
    SystemExit
        With status 1, at the end, if a run failed.
    ValueError, TypeError
        If the plan has a run twice, or settings that JSON does not give back as they were.
    """
    runs = list(runs)
    check_plan(runs)
    if arguments.results is None:
        arguments.results = Path(tempfile.mkdtemp(prefix="sfmts-")) if arguments.quick else RESULTS
    elif arguments.quick and arguments.results.resolve() == RESULTS:
        raise ValueError(f"--quick must not write to {RESULTS}, whose runs are real ones; name another folder.")
    path = results_file(experiment, arguments.results)
    done = {key(record): record for record in load(experiment, arguments.results)}
    chosen = [run for run in runs if set(arguments.only) <= set(_words(run))]
    if arguments.list:
        for run in chosen:
            print("done   " if key(run) in done else "missing", _told(run))
    missing = [run for run in chosen if key(run) not in done]
    print(f"{experiment}: {len(chosen) - len(missing)} of {len(chosen)} runs are done; results in {path}", flush=True)
    failures: list[str] = []
    if missing and not arguments.list:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            _drop_half_line(file)
            for run, record in _results(missing, fit, arguments):
                if "error" in record:
                    message = record["error"].splitlines()[-1]
                    print(json.dumps({**run._asdict(), "error": message}), flush=True)
                    if message not in failures:  # what fails one run often fails many
                        print(record["error"], file=sys.stderr)
                    failures.append(message)
                    continue
                file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
                done[key(record)] = record
                print(f"{_told(run)}: {json.dumps(record['scores'])}, {record['seconds']:.1f} s", flush=True)
        unfinished = len(missing) - len(failures) - sum(key(run) in done for run in missing)
        print(f"{experiment}: {len(failures)} runs failed, {unfinished} were not started", flush=True)
    if failures:
        raise SystemExit(1)
    return [done[key(run)] for run in runs if key(run) in done]


def load(experiment: str, results: Path = RESULTS) -> list[Record]:
    """Return all records of an experiment in the order in which they were made, without a half-written last line.

    Raises
    ------
    ValueError
        If another line is no JSON.
    """
    path = results_file(experiment, results)
    if not path.exists():
        return []
    records: dict[str, Record] = {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise ValueError(
                f"{path}, line {number}, is no JSON ({error}); remove the line to repeat its run."
            ) from None
        for name in ESTIMATORS:
            if name in record["settings"]:
                record["settings"][name] = estimator_parameters(record["settings"][name])
        records.setdefault(key(record), record)
    return list(records.values())


def results_file(experiment: str, results: Path = RESULTS) -> Path:
    """Return the path of the records of an experiment."""
    return results / f"{experiment}.jsonl"


def of_plan(records: Iterable[Record], runs: Iterable[Run]) -> list[Record]:
    """Return the records of a plan's runs in the plan's order, without those of earlier plans."""
    found = {key(record): record for record in records}
    return [found[key(run)] for run in runs if key(run) in found]


def check_plan(runs: Sequence[Run]) -> None:
    """Raise an error if the results of a plan could not be distinguished or found again."""
    seen = set()
    for run in runs:
        if json.loads(json.dumps(run.settings)) != run.settings:
            raise TypeError(f"Settings must be plain JSON values (lists, no tuples; keys that are strings): {run}")
        if key(run) in seen:
            raise ValueError(f"The plan has a run twice: {run}")
        seen.add(key(run))


def key(run: Run | Record) -> str:
    """Return the key that identifies a run or its record."""
    settings, seed = run[:2] if isinstance(run, tuple) else (run["settings"], run["seed"])
    return json.dumps([settings, seed], sort_keys=True)


def mean_and_deviation(values: Sequence[float], digits: int = 3) -> str:
    """Format mean, standard deviation and number of seeds, as "0.983 ± 0.004 (5)"."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f} ({len(values)})" if len(values) > 1 else f"{mean} (1)"


def share_of(hits: int, total: int) -> str:
    """Return the verdict on a claim that was tested several times."""
    return CONFIRMED if hits == total else IN_PART if hits else NOT_CONFIRMED


def told_of_divergence(
    groups: Mapping[str, Sequence[Record]], score: str, instead: str = "the most frequent class"
) -> list[str]:
    """Return a sentence on the groups with failed trainings, if there are any."""
    lost = {name: sum("diverged" in record["scores"] for record in group) for name, group in groups.items()}
    named = [f"{name} ({count} of {len(groups[name])})" for name, count in lost.items() if count]
    return [f"Training diverged, and the {score} is that of {instead}: {', '.join(named)}."] if named else []


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown; columns after the first are right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def progress(records: Sequence[Record], runs: Sequence[Run]) -> str:
    """Return the share of a plan that has records, as "12 of 60 runs"."""
    return f"{len(of_plan(records, runs))} of {len(runs)} runs"


def _results(runs: Sequence[Run], fit: Fit, arguments: argparse.Namespace) -> Iterator[tuple[Run, Record]]:
    """Yield records, or errors, of runs as they end."""
    end = float("inf") if arguments.limit is None else time.monotonic() + arguments.limit

    def in_time() -> Iterator[Any]:
        for run in runs:
            if time.monotonic() >= end:
                return
            yield joblib.delayed(_attempt)(fit, run)

    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        workers = joblib.Parallel(
            arguments.jobs,
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="n_jobs",  # a run that waits in a queue would have been started too early
        )
        yield from workers(in_time())


def _attempt(fit: Fit, run: Run) -> tuple[Run, Record]:
    """Carry out one run, in any process."""
    torch.set_num_threads(1)
    try:
        found = fit(run.settings, run.seed)
        if sorted(found) != sorted(RETURNED):
            raise TypeError(f"fit must return {RETURNED}, but returned {tuple(found)}.")
        record = {**run._asdict(), **{name: _plain(found[name]) for name in RETURNED}, "versions": VERSIONS}
        json.dumps(record, allow_nan=False)
    except Exception:
        return run, {"error": traceback.format_exc()}
    return run, record


def _plain(value: Any) -> Any:
    """Convert values to JSON's types; numbers have six significant digits."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    return float(f"{float(value):.6g}") if isinstance(value, Real) else value


def _words(run: Run) -> Iterator[str]:
    """Return the text of a run that --only searches."""

    def leaves(name: str, value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for inner, item in value.items():
                yield from leaves(inner, item)
        else:
            yield from (str(value), f"{name}={value}")

    yield from leaves("", run.settings)
    yield f"seed={run.seed}"


def _told(run: Run) -> str:
    return f"{json.dumps(run.settings)}, seed {run.seed}"


def _drop_half_line(file: Any) -> None:
    """Cut off what a killed process left of its last line; what it lacks may also be the line's end alone."""
    file.seek(0)
    last = file.read().rpartition(b"\n")[2]
    if last:
        try:
            json.loads(last)
            file.write(b"\n")
        except ValueError:
            file.truncate(file.seek(0, os.SEEK_END) - len(last))
