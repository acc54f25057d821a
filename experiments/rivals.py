"""SFM, its descendant, LSTM and GRU, each tuned with the same care.

Claim
-----
That an SFM is the better choice.  Where every network has the same recipe, the one that the recipe suits wins; here
each has its own, found within the same budget of trials.

Protocol
--------
Six tasks; all networks have as many parameters (``match_budget``, output layer included), series, epochs and
mini-batches.

1. Tuning.  On each task each network is trained with a number of recipes, the first of which is the estimator's own.
   The others are drawn once, the same for all networks: learning rate, dropout, recurrent dropout, start of the weights
   (classification and forecasting), layers, and frequencies where there are any.  The best one on validation data is
   taken, in the mean over three seeds where a training takes seconds: with one, a network that fails with every other
   seed would be given a recipe by luck.  The test data are not touched.
2. Comparison.  With that recipe, each network is trained on all training data with new seeds and scored on the test.

Validation data: the collections' own (music), the series made for it (periods), the last quarter of the training series
(waves), months 13 to 16 (ETTh1).  Tasks and data are those of frequencies.py.

waves       noisy squares and sawtooths, 40 irregular times, 400 series, 1 000 parameters.
periods     sines whose period is 8 or 10 steps, noise of twice their root mean square, 2 000 series, 2 000 parameters.
irregular   sines whose period is 8 or 12, noise as strong as they are, at irregular times, 2 000 series, 2 000
            parameters.  SFM and resonator may let the time stamps drive the phase; all networks read times and gaps.
jsb         JSB Chorales, 139 000 parameters, 50 epochs.
nottingham  Nottingham tunes, 139 000 parameters, 40 epochs, after which losses still fall; less dropout than elsewhere,
            as a first look at the validation data with LSTM and resonator asked for.
etth1       oil temperature 24 hours ahead from windows of 96 hours, 8 000 parameters.

Better means: p < .05 in Welch's t-test over seeds, divided by the number of comparisons of the task.

    python experiments/rivals.py --ett ETTh1.csv
"""

import argparse
import os
import statistics
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _runs import RESULTS, Record, Run, carry_out, load, mean_and_deviation, parser, progress, table
from frequencies import (
    AS_STATES,
    CONTEXT,
    ETT_TEST,
    ETT_TRAIN,
    TASKS,
    Data,
    Effect,
    data_of,
    effect,
    ett_windows,
    is_tiny,
    matched,
    measure,
    scores_of,
)

from sfmts import SFMClassifier, SFMDensity
from sfmts.networks import network_names

EXPERIMENT = "rivals"
CLAIM = "Tuned with the same care, the SFM or its descendant is better than an LSTM"
NETWORKS = [name for name in ("lstm", "gru", "sfm", "resonator") if name in network_names()]
RIVALS = ("lstm", "gru")
OF = {  # the names of frequencies.py, and what else a task has here
    "waves": ("waves", {}),
    "periods": ("8 or 10, noise 2", {}),
    "irregular": ("irregular, 8 or 12, noise 1", {}),
    "etth1": ("etth1", {}),
    "jsb": ("jsb", {"max_iter": 50}),
    "nottingham": ("nottingham", {"max_iter": 40, "dropout": 0.1, "recurrent_dropout": 0.2}),
}
TRIALS = {"waves": 16, "periods": 16, "irregular": 16, "etth1": 16, "jsb": 12, "nottingham": 4}
SEEDS = {"waves": 10, "periods": 10, "irregular": 10, "etth1": 5, "jsb": 5, "nottingham": 3}
TUNING_SEEDS = {"waves": 3, "periods": 3, "irregular": 3, "etth1": 3, "jsb": 1, "nottingham": 1}
DROPOUTS = {"jsb": (0.1, 0.5, 0.3, 0.7), "nottingham": (0.0, 0.3, 0.05, 0.35)}  # least, most; the same, recurrent
FIRST_SEED = 100  # of the comparison, so that no fit of the tuning is one of its


# -- recipes


def recipes(task: str, network: str) -> list[dict[str, Any]]:
    """Parameters to try: the estimator's own first, then what was drawn for all networks."""
    estimator = TASKS[OF[task][0]].estimator
    base = {**TASKS[OF[task][0]].base, **OF[task][1], "network": network}
    stamps = {"time": "timestamps", "time_channel": 1} if task == "irregular" and network not in RIVALS else {}
    found = [{**base, **stamps}]
    rng = np.random.default_rng(0)
    for _ in range(TRIALS[task] - 1):
        draw = rng.uniform(size=8).tolist()  # always all, so that networks share what they share
        recipe = {**base, **stamps, **training(task, estimator, base, draw)}
        if network == "resonator":
            recipe["network_params"] = {"depth": 2 + int(4 * draw[4])}
        else:
            recipe["n_layers"] = 1 + int(2 * draw[4])
        if network in ("sfm", "resonator"):
            recipe["n_frequencies"] = (1, 2, 4, 8)[int(4 * draw[5])]
        if network == "sfm" and "n_outputs" in base and (draw[7] < 0.5 or recipe["n_frequencies"] == 8):
            recipe["n_outputs"] = AS_STATES  # 88 outputs at 8 frequencies would leave room for two states
        if network == "sfm":
            waves = {"spacing": ("uniform", "log")[int(2 * draw[6])]}
            recipe["network_params"] = {**waves, **({"period_range": [3.0, 64.0]} if stamps else {})}
        found.append(recipe)
    return found


def training(task: str, estimator: type, base: dict[str, Any], draw: list[float]) -> dict[str, Any]:
    """What a draw means for the training of an estimator."""
    if estimator is SFMDensity:
        least, most, least_recurrent, most_recurrent = DROPOUTS[task]
        return {
            "learning_rate_init": rounded(0.008 * 5.0 ** draw[0]),
            "dropout": round(least + (most - least) * draw[1], 2),
            "recurrent_dropout": round(least_recurrent + (most_recurrent - least_recurrent) * draw[2], 2),
        }
    middle = base.get("learning_rate_init", 0.01)
    return {
        "learning_rate_init": rounded(middle * 10.0 ** (draw[0] - 0.5)),
        "dropout": (0.0, 0.1, 0.2)[int(3 * draw[1])],
        "recurrent_dropout": (0.0, 0.1, 0.2)[int(3 * draw[2])],
        "init": "chrono" if draw[3] < 0.67 else "modern",
    }


def rounded(rate: float) -> float:
    """Two digits are enough for a learning rate."""
    return float(f"{rate:.2g}")


# -- runs


def plan(quick: bool) -> list[Run]:
    """Task by task, all trials, then the comparison."""
    runs = []
    for task in ("waves", "jsb", "etth1") if quick else OF:
        common: dict[str, Any] = {"task": task, **({"tiny": True} if quick else {})}
        tried = {name: recipes(task, name)[: 2 if quick else None] for name in NETWORKS}
        for seed in range(TUNING_SEEDS[task]):
            for trial in range(2 if quick else TRIALS[task]):
                for name in NETWORKS:
                    runs.append(Run({**common, "network": name, "trial": trial, "recipe": tried[name][trial]}, seed))
        seeds = range(FIRST_SEED, FIRST_SEED + (2 if quick else SEEDS[task]))
        runs += [Run({**common, "network": name, "trial": "best"}, seed) for seed in seeds for name in NETWORKS]
    return runs


def fit(settings: dict[str, Any], seed: int, results: Path = RESULTS) -> dict[str, Any]:
    """Train one network with a recipe, or with the best of its recipes, and score it."""
    task, tiny, trial = settings["task"], settings.get("tiny", False), settings["trial"]
    name = OF[task][0]
    final = trial == "best"
    number = best_trial(load(EXPERIMENT, results), settings) if final else trial
    recipe = {**recipes(task, settings["network"])[number], **({"max_iter": 1} if tiny else {})}
    train, valid, scale = with_validation(task, tiny, final)
    model = TASKS[name].estimator(
        **matched(recipe, 1_000 if tiny else TASKS[name].budget, TASKS[name]), random_state=seed
    )
    start = time.process_time()
    try:
        model.fit(*train)
    except FloatingPointError:  # a recipe under which training diverges is a bad recipe
        if final:
            raise
        return {"scores": {"valid": 0.0, "diverged": 1}, "n_parameters": 0, "epochs": 0, "seconds": 0.0}
    seconds = time.process_time() - start
    scores: dict[str, Any] = {"valid": measure(model, *valid, scale)}
    if final:
        data = data_of(name, tiny)
        scores |= {"test": measure(model, *data.test, data.scale), "recipe": number}
    return {"scores": scores, "n_parameters": model.n_parameters_, "epochs": model.n_iter_, "seconds": seconds}


def with_validation(task: str, tiny: bool, final: bool) -> tuple[tuple[Any, Any], tuple[Any, Any], Any]:
    """Data to train with, to choose by, and the scale of the latter; in the end nothing is held back from training."""
    data: Data = data_of(OF[task][0], tiny)
    if task == "etth1":
        past, future, scale = ett_windows(tiny, ETT_TRAIN - CONTEXT, ETT_TEST)
        return data.train, (past, future), scale
    if data.valid is not None:
        return data.train, data.valid, 1.0
    if TASKS[OF[task][0]].estimator is not SFMClassifier:  # quick runs of music
        return data.train, data.test, 1.0
    X, y = data.train
    first = 3 * len(y) // 4
    return (data.train if final else (X[:first], y[:first])), (X[first:], y[first:]), 1.0


def best_trial(records: list[Record], settings: dict[str, Any]) -> int:
    """The number of the recipe that is best on validation data.

    Raises
    ------
    ValueError
        If not all of them have been tried.
    """
    task, tiny = settings["task"], settings.get("tiny", False)
    wanted = recipes(task, settings["network"])[: 2 if tiny else None]
    tried: dict[int, list[float]] = {}
    diverged = set()
    for record in records:
        of = record["settings"]
        same = of["task"] == task and of["network"] == settings["network"] and of.get("tiny", False) == tiny
        if same and of.get("recipe") in wanted:
            trial = wanted.index(of["recipe"])
            tried.setdefault(trial, []).append(record["scores"]["valid"])
            if "diverged" in record["scores"]:
                diverged.add(trial)
    done, needed = sum(len(scores) for scores in tried.values()), len(wanted) * TUNING_SEEDS[task]
    if done < needed:
        raise ValueError(f"Tuning of {settings['network']} on {task} has {done} of {needed} runs: do those first.")
    better = TASKS[OF[task][0]].better
    return max(sorted({*tried} - diverged), key=lambda trial: better * statistics.mean(tried[trial]))


# -- report


def of_task(records: list[Record], task: str) -> dict[str, list[Record]]:
    """The comparison's records by network."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record["settings"]["task"] == task and record["settings"]["trial"] == "best":
            found.setdefault(record["settings"]["network"], []).append(record)
    return {name: found[name] for name in NETWORKS if name in found}


def duels(records: list[Record], task: str) -> dict[tuple[str, str], Effect]:
    """SFM and descendant against each rival."""
    found, better = of_task(records, task), TASKS[OF[task][0]].better
    return {
        (name, rival): effect(scores_of(found[name]), scores_of(found[rival]), better)
        for name in found
        if name not in RIVALS
        for rival in RIVALS
        if rival in found
    }


def outcome(one: Effect, comparisons: int) -> str:
    """A difference in a word."""
    if one.mark(comparisons) != "**":
        return "no different from"
    return "better than" if one.difference > 0 else "worse than"


def told(recipe: dict[str, Any]) -> str:
    """A recipe in a cell of a table."""
    flat = {**recipe, **recipe.get("network_params", {})}
    hidden = ("network", "network_params", "max_iter", "time_channel")
    return ", ".join(f"{key} {value}" for key, value in flat.items() if key not in hidden) or "the estimator's own"


def section(records: list[Record], task: str) -> str:
    """The table of one task."""
    found, name, fought = of_task(records, task), OF[task][0], duels(records, task)
    digits, lines = TASKS[name].digits, []
    for network, group in found.items():
        against = [f"{outcome(one, len(fought))} {rival}" for (who, rival), one in fought.items() if who == network]
        seconds = statistics.mean(record["seconds"] for record in group)
        recipe = recipes(task, network)[group[0]["scores"]["recipe"]]
        lines.append(
            [
                network,
                group[0]["n_parameters"],
                mean_and_deviation(scores_of(group), digits),
                mean_and_deviation(scores_of(group, "valid"), digits) if name in ("jsb", "nottingham") else "-",
                f"{seconds:.1f}",
                "; ".join(against) or "-",
                told(recipe),
            ]
        )
    header = ["network", "parameters", f"test, {TASKS[name].score}", "valid", "seconds", "beside its rivals", "recipe"]
    seeds = f"{TUNING_SEEDS[task]} seeds" if TUNING_SEEDS[task] > 1 else "one seed"
    tuning = f"{TRIALS[task]} recipes tried for each network, each with {seeds}."
    return "\n\n".join([f"### {task}", tuning, table(header, lines)])


def verdict(records: list[Record]) -> str:
    """For the table of all claims."""
    parts = []
    for network in NETWORKS:
        if network in RIVALS:
            continue
        count: dict[str, list[str]] = {}
        for task in OF:
            fought = duels(records, task)
            for (who, rival), one in fought.items():
                if who == network:
                    count.setdefault(f"{outcome(one, len(fought))} {rival}", []).append(task)
        if count:
            said = "; ".join(f"{words} on {', '.join(tasks)}" for words, tasks in sorted(count.items()))
            parts.append(f"{network}: {said}")
    return ". ".join(parts) or "no comparison has been finished"


def report(records: list[Record]) -> str:
    """The section of the README."""
    parts = [
        "## Tuned rivals: SFM and resonator against LSTM and GRU",
        f"{progress(records, plan(is_tiny(records)))} of [rivals.py](rivals.py), whose head says what the tasks are. "
        "Each network has the recipe that is best for it on validation data, of as many recipes as the others; seconds "
        "are processor seconds of one training.",
    ]
    if any(of_task(records, task) for task in OF):
        parts.append("![Scores of every fit, better ones further right](figures/rivals.png)")
    parts += [section(records, task) for task in OF if of_task(records, task)]
    waiting = [task for task in OF if not of_task(records, task)]
    if waiting:
        parts.append(f"Not compared yet: {', '.join(waiting)}.")
    return "\n\n".join([*parts, f"In short: {verdict(records)}."])


# -- picture

COLOURS = {"lstm": "#999999", "gru": "#666666", "sfm": "#56B4E9", "resonator": "#0072B2"}


def draw(records: list[Record], folder: Path) -> None:
    """A panel for each task, a dot for each fit, a bar for their mean, the better side always on the right."""
    tasks = [task for task in OF if of_task(records, task)]
    if not tasks:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_rows = (len(tasks) + 2) // 3
    figure = Figure(figsize=(9.5, 1.9 * n_rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, 3, squeeze=False).flat
    for ax, task in zip(axes, tasks, strict=False):
        for network, group in of_task(records, task).items():
            place, scores = NETWORKS.index(network), scores_of(group)
            ax.plot(scores, [place] * len(scores), "o", color=COLOURS[network], alpha=0.6, markeredgewidth=0)
            ax.plot([statistics.mean(scores)], [place], "|", color=COLOURS[network], markersize=20, markeredgewidth=2.5)
        ax.set(title=task, xlabel=TASKS[OF[task][0]].score, ylim=(len(NETWORKS) - 0.5, -0.5))
        ax.set_yticks(range(len(NETWORKS)), NETWORKS)
        ax.grid(axis="x", alpha=0.3)
        ax.set_axisbelow(True)
        ax.locator_params(axis="x", nbins=3)
        if TASKS[OF[task][0]].better < 0:
            ax.invert_xaxis()
    for ax in [*axes][len(tasks) :]:
        ax.set_axis_off()
    figure.savefig(folder / "rivals.png", dpi=110)


def main() -> None:
    """Do what is missing: of each task first the tuning, then the comparison of those that are tuned."""
    options = parser(__doc__)
    options.add_argument("--ett", type=Path, metavar="FILE", help="path of ETTh1.csv; else $SFMTS_ETT")
    arguments = options.parse_args()
    if arguments.ett is not None:
        os.environ["SFMTS_ETT"] = str(arguments.ett.resolve())  # for the processes that train
    end = None if arguments.limit is None else time.monotonic() + arguments.limit
    runs = plan(arguments.quick)
    if not arguments.quick and "SFMTS_ETT" not in os.environ:
        print("etth1 is left out: it needs --ett FILE, the path of ETTh1.csv")
        runs = [run for run in runs if run.settings["task"] != "etth1"]
    for task in dict.fromkeys(run.settings["task"] for run in runs):
        part = [run for run in runs if run.settings["task"] == task]
        trials = [run for run in part if run.settings["trial"] != "best"]
        done = Counter(record["settings"]["network"] for record in within(end, trials, arguments))
        wanted = Counter(run.settings["network"] for run in trials)
        tuned = [
            run
            for run in part
            if run not in trials and done[run.settings["network"]] == wanted[run.settings["network"]]
        ]
        within(end, tuned, arguments)


def within(end: float | None, runs: list[Run], arguments: argparse.Namespace) -> list[Record]:
    """Carry runs out, but start none after the end."""
    if end is not None:
        arguments.limit = max(0.0, end - time.monotonic())
    return carry_out(EXPERIMENT, runs, partial(fit, results=arguments.results or RESULTS), arguments)


if __name__ == "__main__":
    import rivals  # not as __main__: the processes that train shall find its functions, and keep the data

    rivals.main()
