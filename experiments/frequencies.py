"""Ablations: whether the frequencies matter, and the other choices of the SFM.

Claim
-----
The SFM decomposes its memory into frequencies, and is said to owe its results to that.  The paper has no experiment in
which the frequencies alone are taken away; here is one, with the other choices that the paper makes beside it.

Ablations
---------
A base, the SFM with omega_k = 2 pi k / 4 in steps, and what differs from it in one respect, with as many parameters:
``match_budget`` sets the number of states, which is what gives way.  Networks marked with an arrow differ from the
network behind it.  Data, epochs, batches and optimiser are those of the base.  Where t is not the step, 2 pi k / K may
suit it badly, so that rows with other periods stand beside those with the time alone.

vowels      Japanese vowels (12 channels, 7 to 29 steps, nine speakers), 270 series for training, 370 for the test as
            published.  4 000 parameters, 30 epochs.
waves       ``make_waves(variant="hard")`` of 40 steps, values and times, 400 for training (13 updates an epoch) and
            2 000 for the test.  1 000 parameters, as in the paper, 45 epochs.
long waves  The same with 200 steps, 100 for training, 140 epochs of 4 updates.
jsb         JSB Chorales, nats per frame (independent keys), recipe of SFMDensity, 139 000 parameters, 30 epochs.
etth1       Oil temperature of ETTh1 in the next 24 hours from the last 96, brought to mean 0 and variance 1 in each
            window.  Months 1 to 12 for training, 13 to 16 left out, 17 to 20 for the test, an origin every 4 hours.
            The mean squared error is in units of the temperature's variance in training.  8 000 parameters, 10
            epochs, learning rate .003, which is SFMForecaster's.  But this is SFMRegressor, on windows: SFMForecaster
            mixes the network with a regression, which would hide what the network does, and trains it three times.
nottingham  As jsb; five seeds of the changes that say most, three of the others.

Periods under noise
-------------------
``make_periods``: sines of 100 steps whose period is 8 or 10, under noise of 1.5 to 2.5 times their root mean square;
the same for periods of 16 and 20; and 8 or 12 at irregular times, with time and gaps as channels.  If frequencies are
good for anything it should be this.  2 000 series for training (1 260 updates in 20 epochs), 1 000 for validation,
1 000 for the test; 2 000 parameters.  Every network is trained with learning rates of .01 and .02, and the table has
the one that is better on the validation series in the mean over seeds.  The rule knows both periods and asks which one
has more power: no network is told.

How long and how many the waves are, how strong the noise of the sines is and how ETTh1 is scaled was chosen with test
scores of the base, of omega = 0 and of the LSTM in view, so that most lie well between chance, or the last value, and
perfection.  Nothing else was tuned.

    python experiments/frequencies.py
    python experiments/frequencies.py --only waves
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _runs import (
    NO_RUNS,
    Outcome,
    Record,
    Run,
    carry_out,
    estimator_parameters,
    mean_and_deviation,
    network_alone,
    parser,
    progress,
    share_of,
    table,
    told_of_divergence,
)
from music import fit_rule
from scipy import stats

from sfmts import SFMClassifier, SFMDensity, SFMRegressor
from sfmts.datasets import fetch_etth1, fetch_piano_rolls, make_periods, make_waves
from sfmts.networks import match_budget, network_names

EXPERIMENT = "frequencies"
CLAIMS = {  # and the pages on them
    "The frequencies of its memory are what makes the SFM good": "frequencies",
    "Log-spaced frequencies tell periods apart in noise (ours)": "periods",
}
LEVEL = 0.05
RATES = (0.01, 0.02)
GUESSES = {  # what a network comes to whose training diverged
    SFMClassifier: "the most frequent class",
    SFMDensity: "how often each key is pressed",
    SFMRegressor: "the mean of the training targets",
}
SOLVED = 0.9
AS_STATES = "n_states"  # as many outputs as there are states
CONTEXT, HORIZON = 96, 24  # hours
ETT_TRAIN, ETT_TEST, ETT_END = (24 * 30 * months for months in (12, 16, 20))

# -- data


class Data(NamedTuple):
    """Series and targets; ``valid`` where something is chosen by it, ``scale`` where test targets are scaled."""

    train: tuple[Any, Any]
    test: tuple[Any, Any]
    valid: tuple[Any, Any] | None = None
    scale: Any = 1.0


def vowels(tiny: bool) -> Data:
    """Return the published split."""
    from sktime.datasets import load_japanese_vowels

    parts = []
    for split in ("train", "test"):
        frames, y = load_japanese_vowels(split=split, return_type="df-list")
        every = 9 if tiny else 1
        parts.append(([frame.to_numpy(dtype=np.float32) for frame in frames[::every]], y[::every]))
    return Data(*parts)


def waves(n_train: int, n_steps: int) -> Callable[[bool], Data]:
    """Return noisy squares and sawtooths at irregular times."""

    def load(tiny: bool) -> Data:
        n_first, n_rest = (32, 32) if tiny else (n_train, 2000)
        X, y = make_waves(n_first + n_rest, n_steps=20 if tiny else n_steps, variant="hard", random_state=0)
        X = X.astype(np.float32)
        return Data((X[:n_first], y[:n_first]), (X[n_first:], y[n_first:]))

    return load


def rolls(name: str) -> Callable[[bool], Data]:
    """Return the pieces of a collection, or random chords for quick runs."""

    def load(tiny: bool) -> Data:
        if tiny:
            rng = np.random.RandomState(0)
            pieces = [(rng.rand(12, 88) < 0.05).astype(np.uint8) for _ in range(16)]
            return Data((pieces[:8], None), (pieces[8:], None))
        found = fetch_piano_rolls(name, data_home=os.environ.get("SFMTS_PIANO_ROLLS"))
        return Data((found.train, None), (found.test, None), (found.valid, None))

    return load


def etth1(tiny: bool) -> Data:
    """Return windows of the oil temperature and what follows, both in units of the window's deviation from its mean."""
    *train, _ = ett_windows(tiny, 0, ETT_TRAIN)
    *test, scale = ett_windows(tiny, ETT_TEST - CONTEXT, ETT_END)
    return Data((train[0], train[1]), (test[0], test[1]), scale=scale)


def ett_windows(tiny: bool, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pasts, futures and deviations of the windows within these hours."""
    if tiny:
        series, stride = np.random.RandomState(0).normal(size=ETT_END), 200
    else:
        series, stride = fetch_etth1(data_home=os.environ.get("SFMTS_ETT")).frame["OT"].to_numpy()[:ETT_END], 4
    series = ((series - series[:ETT_TRAIN].mean()) / series[:ETT_TRAIN].std()).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(series[first:last], CONTEXT + HORIZON)[::stride]
    past, future = views[:, :CONTEXT], views[:, CONTEXT:]
    mean, scale = past.mean(axis=1, keepdims=True), np.maximum(past.std(axis=1, keepdims=True), 0.05)
    return (past - mean) / scale, (future - mean) / scale, scale


def sines(**options: Any) -> Callable[[bool], Data]:
    """Return noisy sines."""

    def load(tiny: bool) -> Data:
        n_train, n_other = (32, 32) if tiny else (2000, 1000)
        X, y = make_periods(n_train + 2 * n_other, n_steps=20 if tiny else 100, random_state=0, **options)
        X = X.astype(np.float32)
        parts = np.split(np.arange(len(X)), [n_train, n_train + n_other])
        train, valid, test = ((X[part], y[part]) for part in parts)
        return Data(train, test, valid)

    return load


def power_at(periods: Sequence[float], data: Data) -> float:
    """Return the accuracy of the class whose period has more power in a series."""
    X, y = data.test
    t = X[:, :, 1] if X.shape[2] > 1 else np.arange(1, X.shape[1] + 1)
    power = [np.abs((X[:, :, 0] * np.exp(2j * np.pi * t / period)).sum(axis=1)) for period in periods]
    return float(np.mean(np.argmax(power, axis=0) == y))


def last_value(data: Data) -> float:
    """Return the squared error of the last value as forecast."""
    X, y = data.test
    return float(np.mean(((X[:, -1:] - y) * data.scale) ** 2))


# -- tasks


class Task(NamedTuple):
    """Data, sizes and protocol; ``base`` are parameters of the estimator, ``rule`` is what needs no learning."""

    load: Callable[[bool], Data]
    n_channels: int
    n_logits: int
    budget: int
    seeds: int
    base: dict[str, Any]
    estimator: type = SFMClassifier
    score: str = "accuracy"
    better: int = 1  # -1 if less is better
    digits: int = 3
    rule: Callable[[Data], float] | None = None


def telling_apart(*periods: float, noise: float, irregular: bool = False) -> tuple[str, Task]:
    """Return name and task of two periods."""
    name = f"{'irregular, ' if irregular else ''}{' or '.join(f'{period:g}' for period in periods)}, noise {noise:g}"
    load = sines(periods=periods, noise=noise, irregular=irregular)
    n_channels = 3 if irregular else 1
    return name, Task(load, n_channels, 1, 2_000, 10, {"max_iter": 20}, rule=partial(power_at, periods))


ABLATIONS = {
    "vowels": Task(vowels, 12, 9, 4_000, 10, {"max_iter": 30}),
    "waves": Task(waves(400, 40), 2, 1, 1_000, 10, {"max_iter": 45}),
    "long waves": Task(waves(100, 200), 2, 1, 1_000, 5, {"max_iter": 140}),
    "jsb": Task(
        rolls("jsb_chorales"), 88, 88, 139_000, 5, {"max_iter": 30, "n_outputs": 88}, SFMDensity, "nats per frame", -1
    ),
    "etth1": Task(
        etth1,
        1,
        HORIZON,
        8_000,
        5,
        {"max_iter": 10, "learning_rate_init": 0.003},
        SFMRegressor,
        "squared error",
        better=-1,
        digits=4,
        rule=last_value,
    ),
    "nottingham": Task(
        rolls("nottingham"), 88, 88, 139_000, 5, {"max_iter": 30, "n_outputs": 88}, SFMDensity, "nats per frame", -1
    ),
}
PERIODS = dict(
    [
        telling_apart(8, 10, noise=1.5),
        telling_apart(8, 10, noise=2),
        telling_apart(8, 10, noise=2.5),
        telling_apart(16, 20, noise=2),
        telling_apart(8, 12, noise=1, irregular=True),
    ]
)
TASKS = {**ABLATIONS, **PERIODS}

# -- what is changed

BASE = "base"
RULE = "rule"  # the row of what needs no learning
FED_BACK = "gates read 288 outputs, K = 1"  # three states are left: what is remembered is z, fed back
FEW = (
    BASE,
    "omega: zero",
    "omega: log-spaced",
    "K = 1",
    FED_BACK,
    "resonator",
    "resonator: omega zero",
    "lstm",
)  # where runs are long, these have all seeds
SEEDS_OF_OTHERS = {"nottingham": 3}


class Change(NamedTuple):
    """What makes a row: options that differ from those of the task, and the row it is compared with."""

    parameters: dict[str, Any]
    against: str = BASE


def changes(name: str) -> dict[str, Change]:
    """Return the rows of an ablation, the base first and the rest in the order of the table."""
    task = ABLATIONS[name]
    rows = {
        BASE: Change({}),
        "omega: zero": Change({"network_params": {"spacing": "zero"}}),
        "omega: log-spaced": Change({"network_params": {"spacing": "log"}}),
        "omega: learned from uniform": Change({"frequencies": "learned"}),
        "omega: learned from log-spaced": Change({"frequencies": "learned", "network_params": {"spacing": "log"}}),
        "omega: adaptive, phases summed": Change({"frequencies": "adaptive"}),
        "omega: adaptive, phases omega t": Change({"frequencies": "adaptive", "phase": "product"}),
    }
    if task.estimator is not SFMDensity:  # which predicts, and so must not know how long a piece is
        rows["time: share of the length"] = Change({"time": "normalized"})
        many = {"spacing": "log", "period_range": [0.05, 1.0]}
        rows["time: share of the length, periods .05 to 1"] = Change({"time": "normalized", "network_params": many})
    if name in ("waves", "long waves"):
        stamps = {"time": "timestamps", "time_channel": 1}
        waves_ = {"spacing": "log", "period_range": [1.5, 64.0]}
        rows["time: time stamps"] = Change(stamps)
        rows["time: time stamps, periods 1.5 to 64"] = Change({**stamps, "network_params": waves_})
    rows |= {f"K = {K}": Change({"n_frequencies": K}) for K in (1, 2, 8)}
    rows["gates read 8 outputs"] = Change({"n_outputs": 8})
    if task.base.get("n_outputs"):
        rows["gates read as many outputs as states"] = Change({"n_outputs": AS_STATES})
        rows["gates read 132 outputs"] = Change({"n_outputs": 132})
        rows["gates read 192 outputs, K = 2"] = Change({"n_outputs": 192, "n_frequencies": 2}, "K = 2")
        rows[FED_BACK] = Change({"n_outputs": 288, "n_frequencies": 1}, "K = 1")
    rows["head: none"] = Change({"head": "none"})
    rows["gates read the state: sfm_kdd"] = Change({"network": "sfm_kdd"})
    start = "modern" if task.estimator is SFMDensity else "chrono"  # the estimators' own
    starts = [init for init in ("modern", "chrono", "paper", "authors") if init != start]
    rows |= {f"start: {init}": Change({"init": init}) for init in starts}
    if "resonator" in network_names():
        options: dict[str, dict[str, Any]] = {
            "omega zero": {"network_params": {"spacing": "zero"}},
            "amplitudes only": {"network_params": {"readout": "amplitude"}},
            "frequency gates": {"network_params": {"frequency_gate": True}},
            "gates read this step alone": {"network_params": {"n_lags": 0}},
            "one layer": {"n_layers": 1},
            "three layers": {"n_layers": 3},
        }
        rows["resonator"] = Change({"network": "resonator"})
        for label, params in options.items():
            rows[f"resonator: {label}"] = Change({"network": "resonator", **params}, "resonator")
    rows |= {network: Change({"network": network}) for network in ("lstm", "gru")}
    return rows


def contenders(name: str) -> dict[str, dict[str, Any]]:
    """Return the networks that are compared on the task of distinguishing periods."""
    log = {"spacing": "log"}
    rows: dict[str, dict[str, Any]] = {
        "SFM, omega zero": {"network_params": {"spacing": "zero"}},
        "SFM, omega log-spaced": {"network_params": log},
        "SFM, omega learned from log-spaced": {"frequencies": "learned", "network_params": log},
        "SFM, omega uniform": {},
    }
    if name.startswith("irregular"):
        stamps = {"time": "timestamps", "time_channel": 1, "network_params": {**log, "period_range": [3.0, 64.0]}}
        rows["SFM, omega log-spaced, time stamps"] = stamps
    rows |= {"LSTM": {"network": "lstm"}, "GRU": {"network": "gru"}}
    if "resonator" in network_names():
        rows["resonator, omega zero"] = {"network": "resonator", "network_params": {"spacing": "zero"}}
        rows["resonator"] = {"network": "resonator"}
        if name.startswith("irregular"):
            rows["resonator, time stamps"] = {"network": "resonator", "time": "timestamps", "time_channel": 1}
    return rows


# -- runs


def rows_of(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return rows of a task, each with all parameters of its estimator that are not the estimator's defaults."""
    base = TASKS[name].base
    if name in ABLATIONS:
        rows = [(row, {**base, **change.parameters}) for row, change in changes(name).items()]
    else:
        rates = ({"learning_rate_init": rate} for rate in RATES)
        rows = [(row, {**base, **rate, **options}) for rate in rates for row, options in contenders(name).items()]
    return [(row, estimator_parameters(options)) for row, options in rows]


def plan(quick: bool) -> list[Run]:
    """Return all runs: cheap and informative tasks first, and all rows with one seed before the next seed."""
    runs = []
    few = ("vowels", "waves", *list(PERIODS)[-2:], "jsb", "etth1")
    for name in few if quick else ("vowels", "waves", *PERIODS, "jsb", "long waves", "etth1", "nottingham"):
        task = TASKS[name]
        common = {"task": name, "budget": 1_000 if quick else task.budget, **({"tiny": True} if quick else {})}
        if task.rule is not None:
            runs.append(Run({**common, "row": RULE, "parameters": {}}, 0))
        seeds = (2 if name == "vowels" else 1) if quick else task.seeds
        for seed in range(seeds):
            for row, parameters in rows_of(name):
                if row not in FEW and seed >= SEEDS_OF_OTHERS.get(name, seeds):
                    continue
                shortened = {"max_iter": 1} if quick else {}
                runs.append(Run({**common, "row": row, "parameters": {**parameters, **shortened}}, seed))
    return runs


def matched(parameters: dict[str, Any], budget: int, task: Task) -> dict[str, Any]:
    """Return the parameters with the number of states that brings network and head closest to the budget."""
    network = parameters.get("network", "sfm")
    own = parameters.get("network_params", {})
    options = {name: parameters[name] for name in ("n_frequencies", "n_layers") if name in parameters}
    options |= {name: value for name, value in own.items() if name != "n_outputs"}
    given = own.get("n_outputs")
    if parameters.get("head") == "none":
        n_states = match_budget(network, budget, task.n_channels, task.n_logits, head="none", **options)
    elif given not in (None, AS_STATES):
        alone = max(1, budget - (given + 1) * task.n_logits)  # the width is given, and so is the head's size
        n_states = match_budget(network, alone, task.n_channels, given, head="none", **options)
    else:
        n_states = match_budget(network, budget, task.n_channels, task.n_logits, **options)
    sizes = {**parameters, "n_states": n_states}
    return {**sizes, "network_params": {**own, "n_outputs": n_states}} if given == AS_STATES else sizes


@cache
def data_of(name: str, tiny: bool) -> Data:
    """Return the data of a task, loaded once per process."""
    return TASKS[name].load(tiny)


def fit(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one network, or ask the rule."""
    name = settings["task"]
    task, data = TASKS[name], data_of(name, settings.get("tiny", False))
    if settings["row"] == RULE and task.rule is not None:
        return {"scores": {"test": task.rule(data)}, "n_parameters": 0, "epochs": 0, "seconds": 0.0}
    model = network_alone(
        task.estimator, **matched(settings["parameters"], settings["budget"], task), random_state=seed
    )
    start = time.process_time()
    try:
        model.fit(*data.train)
    except FloatingPointError:  # gradients without end
        scores = {"test": guess(task, data, data.test, data.scale), "diverged": 1}
        if data.valid is not None:
            scores["valid"] = guess(task, data, data.valid)
        return {"scores": scores, "n_parameters": 0, "epochs": 0, "seconds": time.process_time() - start}
    seconds = time.process_time() - start
    scores = {"test": measure(model, *data.test, data.scale)}
    if data.valid is not None:
        scores["valid"] = measure(model, *data.valid)
    return {"scores": scores, "n_parameters": model.n_parameters_, "epochs": model.n_iter_, "seconds": seconds}


def guess(task: Task, data: Data, part: tuple[Any, Any], scale: Any = 1.0) -> float:
    """Return the score of the constant prediction in GUESSES."""
    X, y = data.train
    if task.estimator is SFMDensity:
        return -float(fit_rule("marginal", {"train": X, "test": part[0], "valid": part[0]})["scores"]["test"])
    if task.estimator is SFMRegressor:
        return float(np.mean(((y.mean(axis=0) - part[1]) * scale) ** 2))
    classes, counts = np.unique(y, return_counts=True)
    return float(np.mean(part[1] == classes[counts.argmax()]))


def measure(model: Any, X: Any, y: Any, scale: Any = 1.0) -> float:
    """Return accuracy, nats per frame, or mean squared error of targets times ``scale``."""
    if isinstance(model, SFMRegressor):
        return float(np.mean(((model.predict(X) - y) * scale) ** 2))
    score = float(model.score(X, y))
    return -score if isinstance(model, SFMDensity) else score


# -- report


class Effect(NamedTuple):
    """Mean difference between two rows, positive if the first is better, and whether chance would do as well."""

    difference: float
    error: float  # of the difference of the means, over seeds; not a number with a single seed
    p: float  # Welch's t-test; not a number with a single seed

    def mark(self, comparisons: int) -> str:
        """Return two stars if p is significant among all comparisons (Bonferroni), one if only on its own."""
        return "**" if self.p < LEVEL / comparisons else "*" if self.p < LEVEL else ""


def effect(scores: Sequence[float], others: Sequence[float], better: int) -> Effect:
    """Compare two rows, whose seeds share nothing but the data."""
    difference = better * (statistics.mean(scores) - statistics.mean(others))
    if min(len(scores), len(others)) < 2:
        return Effect(difference, math.nan, math.nan)
    error = math.sqrt(sum(statistics.variance(group) / len(group) for group in (scores, others)))
    if error == 0.0:
        return Effect(difference, 0.0, 1.0 if difference == 0.0 else 0.0)
    first, second = ((statistics.mean(group), statistics.stdev(group), len(group)) for group in (scores, others))
    return Effect(difference, error, float(stats.ttest_ind_from_stats(*first, *second, equal_var=False).pvalue))


def by_row(records: list[Record], name: str) -> dict[str, list[Record]]:
    """Return the records of a task, in the order of its rows."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record["settings"]["task"] == name:
            found.setdefault(record["settings"]["row"], []).append(record)
    return found


def scores_of(records: list[Record], part: str = "test") -> list[float]:
    """Return the scores of a row, one for each seed."""
    return [record["scores"][part] for record in records]


def effects(records: list[Record], name: str) -> dict[str, Effect]:
    """Return the effect of each change of an ablation for which there are runs."""
    rows, task = by_row(records, name), ABLATIONS[name]
    result = {}
    for row, change in changes(name).items():
        if row != BASE and row in rows and change.against in rows:
            result[row] = effect(scores_of(rows[row]), scores_of(rows[change.against]), task.better)
    return result


def in_order(found: dict[str, dict[str, Effect]]) -> list[str]:
    """Return all changes that have an effect on some task."""
    known = dict.fromkeys([*changes("waves"), *changes("jsb")])
    return [row for row in known if any(row in of_task for of_task in found.values())]


def signed(value: float, digits: int) -> str:
    """Format a number with its sign."""
    return f"{value:+.{digits}f}".replace("-", "\u2212")


def ablation(records: list[Record], name: str) -> str:
    """Return the table of one task."""
    rows, task, found = by_row(records, name), ABLATIONS[name], effects(records, name)
    digits = task.digits
    lines = []
    for row, change in changes(name).items():
        if row not in rows:
            continue
        label = row if change.against == BASE else f"{row} \u2192 {change.against}"
        size = max(record["n_parameters"] for record in rows[row])
        cells = [label, size or "-", mean_and_deviation(scores_of(rows[row]), digits)]
        if row in found:
            difference, error, p = found[row]
            known = not math.isnan(p)
            cells += [f"{signed(difference, digits)} ± {error:.{digits}f}" if known else signed(difference, digits)]
            cells += [("< 0.001" if p < 0.001 else f"{p:.3f}") if known else "-", found[row].mark(len(found)) or "-"]
        else:
            cells += ["-", "-", "-"]
        lines.append(cells)
    notes = [f"Last value as forecast: {rows[RULE][0]['scores']['test']:.{digits}f}."] if RULE in rows else []
    notes += told_of_divergence(rows, "score", GUESSES[task.estimator])
    surely, alone = ([row for row in found if found[row].mark(n) == "**"] for n in (max(1, len(found)), 1))
    told = (
        f"Of {len(found)} changes, p < {LEVEL} for {len(alone)} (some {LEVEL * len(found):.1f} if none did anything) "
        f"and for {len(surely)} if all are taken together: {', '.join(surely) or 'none'}."
    )
    header = ["change", "parameters", task.score, "better by", "p", f"stars, {len(found)} comparisons"]
    return "\n\n".join([f"## {name}", table(header, lines), *notes, told])


def summary(records: list[Record]) -> str:
    """Return the table of changes by tasks."""
    found = {name: effects(records, name) for name in ABLATIONS if by_row(records, name)}
    lines = []
    for row in in_order(found):
        cells = []
        for name, task_effects in found.items():
            one = task_effects.get(row)
            told = one and f"{signed(one.difference, ABLATIONS[name].digits)} {one.mark(len(task_effects))}".strip()
            cells.append(told or "")
        lines.append([row, *cells])
    return table(["change", *found], lines)


def chosen(records: list[Record]) -> tuple[float, list[Record]]:
    """Return the records of a row with the learning rate that has the better mean validation score."""
    rates: dict[float, list[Record]] = {}
    for record in records:
        rates.setdefault(record["settings"]["parameters"]["learning_rate_init"], []).append(record)
    best = max(rates, key=lambda rate: statistics.mean(scores_of(rates[rate], "valid")))
    return best, rates[best]


def discrimination(records: list[Record]) -> str:
    """Return the table of periods under noise."""
    found = {name: by_row(records, name) for name in PERIODS if by_row(records, name)}
    every = list(dict.fromkeys(row for rows in found.values() for row in rows if row != RULE))
    lines = []
    for row in every:
        cells = []
        for rows in found.values():
            if row not in rows:
                cells.append("")
                continue
            rate, best = chosen(rows[row])
            solved = sum(score > SOLVED for score in scores_of(best))
            cells.append(f"{mean_and_deviation(scores_of(best))}, {solved} at {rate:g}")
        lines.append([row, *cells])
    rule = [f"{rows[RULE][0]['scores']['test']:.3f}" if RULE in rows else "" for rows in found.values()]
    lines.append(["power at both periods", *rule])
    return table(["", *found], lines)


def zero_against_log(records: list[Record]) -> list[tuple[str, Effect]]:
    """Return the gain of log-spaced frequencies over none on the task of distinguishing periods."""
    result = []
    for name in PERIODS:
        rows = by_row(records, name)
        pair = [rows.get(row) for row in ("SFM, omega log-spaced", "SFM, omega zero")]
        if pair[0] and pair[1]:
            with_waves, without = (scores_of(chosen(row)[1]) for row in pair if row)
            result.append((name, effect(with_waves, without, 1)))
    return result


def sentence(found: list[tuple[str, Effect]]) -> str:
    """Return a sentence on where a difference is significant."""
    if not found:
        return "no runs yet"
    marks = [(name, one.mark(len(found)), one.difference) for name, one in found]
    better = [name for name, mark, difference in marks if mark == "**" and difference > 0]
    worse = [name for name, mark, difference in marks if mark == "**" and difference < 0]
    return (
        f"better beyond chance on {len(better)} of {len(found)} ({', '.join(better) or 'none'}), worse on {len(worse)} "
        f"({', '.join(worse) or 'none'})"
    )


def one_of_each(found: list[tuple[str, Effect]]) -> str:
    """Return the same note for pages whose other tables with stars count other comparisons."""
    level = f"p < {LEVEL}" + (f" / {len(found)}" if len(found) > 1 else "")
    return f"one comparison for each task, {level} where the stars count all rows of a table: {sentence(found)}"


def taken_away(records: list[Record]) -> list[tuple[str, Effect]]:
    """Return the gain of the paper's frequencies over none, by ablation."""
    found = [(name, effects(records, name).get("omega: zero")) for name in ABLATIONS]
    return [(name, one._replace(difference=-one.difference)) for name, one in found if one is not None]


def outcomes(records: list[Record]) -> list[Outcome]:
    """Compare frequencies with none, on the tasks of the ablations and where classes differ in period alone."""
    return [weighed(found) for found in (taken_away(records), zero_against_log(records))]


def weighed(found: list[tuple[str, Effect]]) -> Outcome:
    """Return what the comparisons with networks without frequencies say of a claim."""
    if not found:
        return NO_RUNS
    marks = [one.difference for _, one in found if one.mark(len(found)) == "**"]
    better, worse = (sum(sign * difference > 0 for difference in marks) for sign in (1, -1))
    return Outcome(f"against none: {sentence(found)}", share_of(better if better > worse else 0, len(found)))


def introduction(records: list[Record]) -> str:
    """Return what all tables of changes have in common."""
    return (
        f"{progress(records, plan(is_tiny(records)))} of [frequencies.py](frequencies.py), whose head says what the "
        "tasks are.  The base is an SFM with omega_k = 2 pi k / 4 in steps; every row differs from it in one respect, "
        'or, behind an arrow, from the network that is named there, at equal parameters.  "Better by" is the '
        "difference of the means, positive if the change is an improvement, with its standard error over seeds; p is "
        f"that of Welch's t-test.  One star: p < {LEVEL}.  Two stars: p < {LEVEL} divided by the number of comparisons "
        "in the table (Bonferroni), which heads the last column.  How hard waves, sines and ETTh1 are was set with "
        "test scores of the base, of omega zero and of the LSTM in view.  All seeds share their data, so that nothing "
        "here says how another draw of them would move a result."
    )


def pages(records: list[Record]) -> dict[str, str]:
    """Return the page of all changes, that of each task's table, and that of periods under noise."""
    result = {}
    if tables := [ablation(records, name) for name in ABLATIONS if by_row(records, name)]:
        result["frequencies"] = "\n\n".join(
            [
                "# Ablations: do the frequencies matter?",
                introduction(records),
                "## All changes",
                "Better by, in the unit of each task: accuracy, nats per frame, squared error.  Scores, errors and p "
                "are on [the page of the tasks](frequencies_by_task.md).",
                summary(records),
                f"The paper's frequencies against none (omega: zero), {one_of_each(taken_away(records))}.",
                "![Effects of all changes](figures/frequencies.png)",
            ]
        )
        head = ["# Ablations, task by task", "[All changes](frequencies.md) says what the rows and stars mean."]
        result["frequencies_by_task"] = "\n\n".join([*head, *tables])
    if any(by_row(records, name) for name in PERIODS):
        result["periods"] = "\n\n".join(
            [
                "# Periods under noise",
                f"Accuracy on the test series; how many of the seeds are above {SOLVED}, as most come out near chance "
                "or near the baseline; and the learning rate, of the two the one that is better on the validation "
                "series.",
                discrimination(records),
                f"Log-spaced frequencies against none (omega zero), {one_of_each(zero_against_log(records))}.",
                "![Accuracy of every fit](figures/periods.png)",
            ]
        )
    return result


def report(records: list[Record]) -> str:
    """Return all pages."""
    return "\n\n".join(pages(records).values())


def is_tiny(records: list[Record]) -> bool:
    """Return whether records are of quick runs."""
    return any(record["settings"].get("tiny", False) for record in records)


# -- pictures


def draw(records: list[Record], folder: Path) -> None:
    """Draw effects with their standard errors, and the accuracy of every fit on distinguishing periods."""
    found = {name: effects(records, name) for name in ABLATIONS}
    found = {name: of_task for name, of_task in found.items() if of_task}
    if found:
        draw_effects(found, folder / "frequencies.png")
    names = [name for name in PERIODS if by_row(records, name)]
    if names:
        draw_accuracies(records, names, folder / "periods.png")


def draw_effects(found: dict[str, dict[str, Effect]], path: Path) -> None:
    """Draw a panel for each ablation."""
    every = in_order(found)
    figure, axes = panels(len(found), 0.3 * len(every) + 1.5)
    for ax, (name, of_task) in zip(axes, found.items(), strict=True):
        differences = np.array([one.difference for one in of_task.values()])
        limit = 2.0 * max(np.quantile(np.abs(differences), 0.8), 1e-9)  # some changes are ruinous
        errors = 2.0 * np.nan_to_num([one.error for one in of_task.values()])
        inside, places = np.abs(differences) <= limit, np.array([every.index(row) for row in of_task])
        ax.errorbar(differences[inside], places[inside], xerr=errors[inside], fmt="o", color="#0072B2")
        for side, marker in ((1.0, ">"), (-1.0, "<")):
            outside = places[side * differences > limit]
            ax.plot(np.full(len(outside), side * limit), outside, marker, color="#D55E00")
        ax.axvline(0.0, color="0.5", linewidth=1)
        ax.set(title=name, xlabel=f"better by ({ABLATIONS[name].score})", xlim=(-1.1 * limit, 1.1 * limit))
        ax.set_yticks(range(len(every)), every)
    axes[0].invert_yaxis()
    figure.suptitle("Differences, with twice their standard errors over seeds; triangles lie outside")
    figure.savefig(path, dpi=90)


def draw_accuracies(records: list[Record], names: list[str], path: Path) -> None:
    """Draw a panel for each pair of periods, a dot for each fit, and a dashed line for the baseline."""
    rows = {name: by_row(records, name) for name in names}
    every = list(dict.fromkeys(row for of_task in rows.values() for row in of_task if row != RULE))
    figure, axes = panels(len(names), 0.35 * len(every) + 1.2)
    for ax, (name, of_task) in zip(axes, rows.items(), strict=True):
        for row, found in of_task.items():
            if row == RULE:
                ax.axvline(found[0]["scores"]["test"], color="0.5", linestyle="--", linewidth=1)
                continue
            scores = scores_of(chosen(found)[1])
            ax.plot(scores, [every.index(row)] * len(scores), "o", color="#0072B2", alpha=0.5, markeredgewidth=0)
        ax.set(title=name, xlabel="accuracy", xlim=(0.45, 1.02))
        ax.set_yticks(range(len(every)), every)
        ax.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=90)


def panels(n: int, height: float) -> tuple[Any, Any]:
    """Return a figure with this number of panels side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.0 + 2.2 * n, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, n, sharey=True, squeeze=False)[0]


def main() -> None:
    """Do the missing runs, and print the section."""
    arguments = parser(__doc__).parse_args()
    print(report(carry_out(EXPERIMENT, plan(arguments.quick), fit, arguments)))


if __name__ == "__main__":
    import frequencies  # not as __main__: the processes that train shall find its functions, and keep the data

    frequencies.main()
