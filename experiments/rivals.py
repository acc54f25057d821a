"""SFM, its descendant, LSTM and GRU, each tuned with the same care.

Claim
-----
That an SFM is the better choice.  Where every network has the same recipe, the one that the recipe suits wins; here
each has its own, found within the same budget of trials.

Protocol
--------
Six tasks; all networks have about as many parameters (``match_budget``, output layer included; they differ by 14 % at
most), and as many series, epochs and mini-batches.

1. Tuning.  On each task each network is trained with a number of recipes, the first of which is the estimator's own.
   The others are drawn once, the same for all networks: learning rate, dropout, recurrent dropout, start of the weights
   (classification and forecasting), layers, and frequencies where there are any.  The best one on validation data is
   taken, in the mean over three seeds where a training takes seconds: with one, a network that fails with every other
   seed would be given a recipe by luck.  The test data are not touched.
2. Comparison.  With that recipe, each network is trained on all training data with new seeds and scored on the test.
3. Equal time.  A network of ours that learns faster than both rivals is also trained for two or four times as many
   epochs, as many as are best on validation data, with the best of the recipes that then still take less time than the
   faster rival's best one.  Time is what it takes here, where the LSTM with recurrent dropout, which PyTorch's
   own lacks, is a loop of PyTorch's operations: no slower on music, some four times as slow where networks are small.

Validation data: the collections' own (music), the series made for it (periods), the last quarter of the training series
(waves), months 13 to 16 (ETTh1).  Tasks and data are those of frequencies.py.

waves       noisy squares and sawtooths, 40 irregular times, 400 series, 1 000 parameters.
periods     sines whose period is 8 or 10 steps, noise of twice their root mean square, 2 000 series, 2 000 parameters.
irregular   sines whose period is 8 or 12, noise as strong as they are, at irregular times, 2 000 series, 2 000
            parameters.  SFM and resonator may let the time stamps drive the phase; all networks read times and gaps.
jsb         JSB Chorales, 139 000 parameters, 50 epochs.  A look at its validation data with some sixty other recipes
            showed that the SFM gains from more outputs and fewer states, so that a share of the parameters is drawn,
            which the outputs have; that is one thing more to draw, for which all networks have twice as many recipes.
            The SFM of KDD 2017 (``network="sfm_kdd"``), whose gates read a number for each state, is tuned here, too:
            with one recipe for all it was ahead of the SFM on all four collections (music.py), test scores in view.
nottingham  Nottingham tunes, 139 000 parameters, 40 epochs, after which losses still fall; less dropout than elsewhere,
            as a first look at the validation data with LSTM and resonator asked for.
etth1       oil temperature 24 hours ahead from windows of 96 hours, 8 000 parameters.

Better means: p < .05 in Welch's t-test over seeds, divided by the number of comparisons of the task.  "Not told apart"
means that these seeds do not show a difference, not that there is none.  All seeds share their data: nothing here says
how another draw of them would move a result.

    python experiments/rivals.py
"""

import argparse
import statistics
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _runs import (
    NO_RUNS,
    RESULTS,
    Outcome,
    Record,
    Run,
    carry_out,
    estimator_parameters,
    load,
    mean_and_deviation,
    network_alone,
    parser,
    progress,
    share_of,
    table,
)
from frequencies import (
    AS_STATES,
    CONTEXT,
    ETT_TEST,
    ETT_TRAIN,
    TASKS,
    Data,
    Effect,
    Task,
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
CLAIMS = {  # and the pages on them
    "Tuned with the same care, the SFM is better than LSTM and GRU": "rivals",
    "Tuned with the same care, the resonator is better than LSTM and GRU (ours)": "rivals",
}
NETWORKS = [name for name in ("lstm", "gru", "sfm", "resonator") if name in network_names()]
BESIDES = {"jsb": ("sfm_kdd",)}  # further contenders of a task
RIVALS = ("lstm", "gru")
AS_LONG = ", longer"  # as long as the faster rival
CONTENDERS = [*NETWORKS, "sfm_kdd", *(name + AS_LONG for name in NETWORKS)]
OF = {  # the names of frequencies.py, and what else a task has here
    "waves": ("waves", {}),
    "periods": ("8 or 10, noise 2", {}),
    "irregular": ("irregular, 8 or 12, noise 1", {}),
    "etth1": ("etth1", {}),
    "jsb": ("jsb", {"max_iter": 50}),
    "nottingham": ("nottingham", {"max_iter": 40, "dropout": 0.1, "recurrent_dropout": 0.2}),
}
TRIALS = {"waves": 16, "periods": 16, "irregular": 16, "etth1": 16, "jsb": 32, "nottingham": 4}
SEEDS = {"waves": 10, "periods": 10, "irregular": 10, "etth1": 5, "jsb": 5, "nottingham": 5}
TUNING_SEEDS = {"waves": 3, "periods": 3, "irregular": 3, "etth1": 3, "jsb": 1, "nottingham": 1}
LONGER = {  # times the epochs, where that takes less time than both rivals do
    "waves": {"sfm": (2, 4), "resonator": (2,)},
    "periods": {"sfm": (2,)},
    "jsb": {"sfm": (2,)},
    "nottingham": {"sfm": (2, 4), "resonator": (2,)},
    "etth1": {"sfm": (2, 4)},
}
OUTPUTS = (AS_STATES, 0.5, 0.7, 0.9)  # of an SFM for music: as many as states, or the share of parameters they have
DROPOUTS = {"jsb": (0.1, 0.5, 0.3, 0.7), "nottingham": (0.0, 0.3, 0.05, 0.35)}  # least, most; the same, recurrent
FIRST_SEED = 100  # of the comparison, so that no fit of the tuning is one of its


# -- recipes


def networks(task: str) -> list[str]:
    """Return the networks that are tuned on a task."""
    return [*NETWORKS, *BESIDES.get(task, ())]


def recipes(task: str, network: str) -> list[dict[str, Any]]:
    """Return the parameters to try."""
    return [estimator_parameters(options) for options in options_to_try(task, network)]


def options_to_try(task: str, network: str) -> list[dict[str, Any]]:
    """Return the options of all recipes: the estimator's defaults first, then what was drawn for all networks."""
    estimator = TASKS[OF[task][0]].estimator
    base = {**TASKS[OF[task][0]].base, **OF[task][1], "network": network}
    stamps = {"time": "timestamps", "time_channel": 1} if task == "irregular" and network not in RIVALS else {}
    found = [{**base, **stamps}]
    rng = np.random.default_rng(0)
    for _ in range(TRIALS[task] - 1):
        draw = rng.uniform(size=8).tolist()  # always all, so that networks share what they share
        recipe = {**base, **stamps, **training(task, estimator, base, draw)}
        recipe["n_layers"] = 2 + int(4 * draw[4]) if network == "resonator" else 1 + int(2 * draw[4])
        if network in ("sfm", "resonator", "sfm_kdd"):
            recipe["n_frequencies"] = (1, 2, 4, 8)[int(4 * draw[5])]
        if network == "sfm" and "n_outputs" in base:
            share = OUTPUTS[int(len(OUTPUTS) * draw[7])]
            recipe["n_outputs"] = share if share == AS_STATES else outputs_with(share, TASKS[OF[task][0]], recipe)
        if network == "sfm":
            waves = {"spacing": ("uniform", "log")[int(2 * draw[6])]}
            recipe["network_params"] = {**waves, **({"period_range": [3.0, 64.0]} if stamps else {})}
        found.append(recipe)
    return found


def outputs_with(share: float, task: Task, recipe: dict[str, Any]) -> int:
    """Return the number of outputs for which they, their gates and the last layer have this share of the parameters."""
    K = recipe["n_frequencies"]

    def count(n_outputs: int) -> int:
        """Return the number of parameters without those of states."""
        channels = [task.n_channels, *[n_outputs] * (recipe["n_layers"] - 1)]
        gates = sum(K * (N + n_outputs + 1) + K * n_outputs * (N + n_outputs + 2) for N in channels)
        return gates + (n_outputs + 1) * task.n_logits

    return max(n_outputs for n_outputs in range(1, 1000) if n_outputs == 1 or count(n_outputs) <= share * task.budget)


def training(task: str, estimator: type, base: dict[str, Any], draw: list[float]) -> dict[str, Any]:
    """Return the training parameters of an estimator for a draw."""
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
    """Round to two digits, which are enough for a learning rate."""
    return float(f"{rate:.2g}")


# -- runs


def plan(quick: bool) -> list[Run]:
    """Return all runs: for each task all trials, then the comparison, then the runs that take less time."""
    runs = []
    for task in ("waves", "jsb", "etth1") if quick else OF:
        common: dict[str, Any] = {"task": task, **({"tiny": True} if quick else {})}
        tried = {name: recipes(task, name)[: 2 if quick else None] for name in networks(task)}
        for seed in range(TUNING_SEEDS[task]):
            for trial in range(2 if quick else TRIALS[task]):
                for name in networks(task):
                    runs.append(Run({**common, "network": name, "trial": trial, "recipe": tried[name][trial]}, seed))
        seeds = range(FIRST_SEED, FIRST_SEED + (2 if quick else SEEDS[task]))
        runs += [Run({**common, "network": name, "trial": "best"}, seed) for seed in seeds for name in tried]
        for name, factors in LONGER.get(task, {}).items():
            longer = {**common, "network": name, "trial": "longer"}
            runs += [Run({**longer, "times": t}, seed) for seed in range(TUNING_SEEDS[task]) for t in factors]
            runs += [Run({**longer, "times": "best"}, seed) for seed in seeds]
    return runs


def stage(run: Run) -> int:
    """Return the stage of a run, which needs the runs of all earlier stages."""
    if run.settings["trial"] == "longer":
        return 3 if is_final(run.settings) else 2
    return 1 if is_final(run.settings) else 0


def is_final(settings: dict[str, Any]) -> bool:
    """Return whether a run is scored on the test."""
    return settings.get("times", settings["trial"]) == "best"


def fit(settings: dict[str, Any], seed: int, results: Path = RESULTS) -> dict[str, Any]:
    """Train one network with a recipe, or with the best of its recipes, and score it."""
    task, tiny, trial = settings["task"], settings.get("tiny", False), settings["trial"]
    name, final = OF[task][0], is_final(settings)
    number, times = trial, 1
    if trial == "best":
        number = best_trial(load(EXPERIMENT, results), task, settings["network"], tiny)
    elif trial == "longer":
        number, times = best_longer(load(EXPERIMENT, results), settings)
    recipe = {**recipes(task, settings["network"])[number], **({"max_iter": 1} if tiny else {})}
    recipe["max_iter"] = times * recipe["max_iter"]
    train, valid, scale = with_validation(task, tiny, final)
    model = network_alone(
        TASKS[name].estimator, **matched(recipe, 1_000 if tiny else TASKS[name].budget, TASKS[name]), random_state=seed
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
    if not isinstance(trial, int):
        scores |= {"recipe": number, "times": times}
    if final:
        data = data_of(name, tiny)
        scores["test"] = measure(model, *data.test, data.scale)
    return {"scores": scores, "n_parameters": model.n_parameters_, "epochs": model.n_iter_, "seconds": seconds}


def with_validation(task: str, tiny: bool, final: bool) -> tuple[tuple[Any, Any], tuple[Any, Any], Any]:
    """Return training data, validation data and the latter's scale; final runs train on all of it."""
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


def tried(records: list[Record], task: str, network: str, tiny: bool) -> dict[int, tuple[float, float]]:
    """Return validation score (greater is better) and seconds of each recipe without a diverged training.

    Raises
    ------
    ValueError
        If not all of them have been tried.
    """
    wanted = recipes(task, network)[: 2 if tiny else None]
    found: dict[int, list[Record]] = {}
    for record in records:
        of = record["settings"]
        same = of["task"] == task and of["network"] == network and of.get("tiny", False) == tiny
        if same and of.get("recipe") in wanted:
            found.setdefault(wanted.index(of["recipe"]), []).append(record)
    done, needed = sum(len(group) for group in found.values()), len(wanted) * TUNING_SEEDS[task]
    if done < needed:
        raise ValueError(f"Tuning of {network} on {task} has {done} of {needed} runs: do those first.")
    better = TASKS[OF[task][0]].better
    return {
        trial: (better * statistics.mean(scores_of(group, "valid")), statistics.mean(r["seconds"] for r in group))
        for trial, group in sorted(found.items())
        if not any("diverged" in record["scores"] for record in group)
    }


def best_trial(records: list[Record], task: str, network: str, tiny: bool) -> int:
    """Return the number of the recipe that is best on validation data."""
    results = tried(records, task, network, tiny)
    return max(results, key=lambda trial: results[trial][0])


def best_longer(records: list[Record], settings: dict[str, Any]) -> tuple[int, int]:
    """Return recipe and factor of epochs, by default the best of both within the time of the faster rival."""
    task, network, times, tiny = settings["task"], settings["network"], settings["times"], settings.get("tiny", False)
    fastest = min(max(tried(records, task, rival, tiny).values())[1] for rival in RIVALS)
    results = tried(records, task, network, tiny)
    chosen = {1: best_trial(records, task, network, tiny)}
    for factor in LONGER[task][network]:
        in_time = [trial for trial, (_, seconds) in results.items() if tiny or factor * seconds <= fastest]
        if not in_time:
            raise ValueError(f"{network} on {task} has no recipe with {factor} times the epochs in {fastest:.1f} s.")
        chosen[factor] = max(in_time, key=lambda trial: results[trial][0])
    if times != "best":
        return chosen[times], times
    scores = {1: results[chosen[1]][0]}
    for factor in LONGER[task][network]:
        group = [record for record in records if record["settings"] == {**settings, "times": factor}]
        if len(group) < TUNING_SEEDS[task] and not tiny:
            raise ValueError(f"{network} on {task} with {factor} times the epochs is not tried yet: do that first.")
        if not any("diverged" in record["scores"] for record in group):
            scores[factor] = TASKS[OF[task][0]].better * statistics.mean(scores_of(group, "valid"))
    factor = max(scores, key=scores.__getitem__)
    return chosen[factor], factor


# -- report


def of_task(records: list[Record], task: str) -> dict[str, list[Record]]:
    """Return the comparison's records by network, followed by those of longer training where it was better."""
    found: dict[str, list[Record]] = {}
    for record in records:
        repeated = record["settings"]["trial"] == "longer" and record["scores"].get("times") == 1
        if record["settings"]["task"] == task and is_final(record["settings"]) and not repeated:
            longer = AS_LONG if record["settings"]["trial"] == "longer" else ""
            found.setdefault(record["settings"]["network"] + longer, []).append(record)
    return {name: found[name] for name in CONTENDERS if name in found}


def duels(records: list[Record], task: str) -> dict[tuple[str, str], Effect]:
    """Return the comparisons of the SFM and its descendant with each rival."""
    found, better = of_task(records, task), TASKS[OF[task][0]].better
    return {
        (name, rival): effect(scores_of(found[name]), scores_of(found[rival]), better)
        for name in found
        if name not in RIVALS
        for rival in RIVALS
        if rival in found
    }


def outcome(one: Effect, comparisons: int) -> str:
    """Describe a difference in a few words."""
    if one.mark(comparisons) != "**":
        return "not told apart from"
    return "better than" if one.difference > 0 else "worse than"


def told(recipe: dict[str, Any]) -> str:
    """Format a recipe for a cell of a table."""
    flat = {**recipe, **recipe.get("network_params", {})}
    hidden = ("network", "network_params", "max_iter", "time_channel")
    return ", ".join(f"{key} {value}" for key, value in flat.items() if key not in hidden) or "the estimator's own"


def section(records: list[Record], task: str) -> str:
    """Return the table of one task."""
    found, name, fought = of_task(records, task), OF[task][0], duels(records, task)
    digits, lines, recipes = TASKS[name].digits, [], []
    for network, group in found.items():
        against = [f"{outcome(one, len(fought))} {rival}" for (who, rival), one in fought.items() if who == network]
        seconds = statistics.mean(record["seconds"] for record in group)
        times = group[0]["scores"].get("times", 1)
        recipe = options_to_try(task, group[0]["settings"]["network"])[group[0]["scores"]["recipe"]]
        lines.append(
            [
                network,
                group[0]["n_parameters"],
                mean_and_deviation(scores_of(group), digits),
                mean_and_deviation(scores_of(group, "valid"), digits) if task != "waves" else "-",  # trained on
                f"{seconds:.1f}",
                "; ".join(against) or "-",
            ]
        )
        recipes.append(f"- {network}: {f'{times} times the epochs; ' if times > 1 else ''}{told(recipe)}")
    header = ["network", "parameters", f"test, {TASKS[name].score}", "valid", "seconds", "against its rivals"]
    seeds = f"{TUNING_SEEDS[task]} seeds" if TUNING_SEEDS[task] > 1 else "one seed"
    tuning = f"{TRIALS[task]} recipes tried for each network, each with {seeds}."
    return "\n\n".join([f"## {task}", tuning, table(header, lines), "Recipes:", "\n".join(recipes)])


def standings(records: list[Record]) -> dict[str, dict[tuple[str, str], str]]:
    """Return the outcomes of each contender by task and rival."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    for task in OF:
        fought = duels(records, task)
        for (who, rival), one in fought.items():
            found.setdefault(who, {})[task, rival] = outcome(one, len(fought))
    return {who: found[who] for who in CONTENDERS if who in found}


def spelled(network: str) -> str:
    """Return a contender's name as it is written in a sentence."""
    return network.replace(AS_LONG, " in equal time")


def outcomes(records: list[Record]) -> list[Outcome]:
    """Say where a contender is better than all its rivals, and where worse than one."""
    found = standings(records)
    return [against_rivals(found[who]) if who in found else NO_RUNS for who in ("sfm", "resonator")]


def against_rivals(outcomes_: dict[tuple[str, str], str]) -> Outcome:
    """Return what the comparisons of one contender say of a claim."""
    said: dict[str, set[str]] = {}
    for (task, _), words in outcomes_.items():
        said.setdefault(task, set()).add(words)
    ahead = [task for task, words in said.items() if words == {"better than"}]
    behind = [task for task, words in said.items() if "worse than" in words]
    measured = (
        f"of {len(said)} tasks better than both on {len(ahead)} ({', '.join(ahead) or 'none'}), worse than one on "
        f"{len(behind)} ({', '.join(behind) or 'none'})"
    )
    return Outcome(measured, share_of(len(ahead) if len(ahead) > len(behind) else 0, len(said)))


def in_short(records: list[Record]) -> str:
    """Return the tasks on which each contender is better or worse than each rival."""
    words = ("better than", "not told apart from", "worse than")
    lines = []
    for who, outcomes in standings(records).items():
        for rival in RIVALS:
            tasks = [
                ", ".join(task for (task, other), found in outcomes.items() if (other, found) == (rival, word)) or "-"
                for word in words
            ]
            lines.append([spelled(who), rival, *tasks])
    return table(["network", "rival", "better on", "not told apart on", "worse on"], lines).replace("---:", "---")


def report(records: list[Record]) -> str:
    """Return the section of the README."""
    parts = [
        "# Tuned rivals: SFM and resonator against LSTM and GRU",
        f"{progress(records, plan(is_tiny(records)))} of [rivals.py](rivals.py), whose head says what the tasks are. "
        "Each network has the recipe that is best for it on validation data, of as many recipes as the others; on "
        "waves the last training is on these, too, and has no score on them.  How hard waves, sines and ETTh1 are was "
        "set with test scores of the SFM, with its frequencies and without, and of the LSTM in view, and some sixty "
        "other recipes of the SFM had been looked at on the validation data of JSB.  Seconds "
        'are processor seconds of one training.  "Longer": with more epochs, where that '
        "was better on validation data and takes less time than the faster rival.  Better or worse: p < .05 in Welch's "
        "t-test over seeds, divided by the number of comparisons of the task; what is not told apart may still differ. "
        " All seeds share their data, so that nothing here says how another draw of them would move a result.",
    ]
    if standings(records):
        parts.append(in_short(records))
    if any(of_task(records, task) for task in OF):
        parts.append("![Scores of every fit, better ones further right; hollow: longer](figures/rivals.png)")
    parts += [section(records, task) for task in OF if of_task(records, task)]
    waiting = [task for task in OF if not of_task(records, task)]
    if waiting:
        parts.append(f"Not compared yet: {', '.join(waiting)}.")
    return "\n\n".join(parts)


# -- picture

COLOURS = {"lstm": "#999999", "gru": "#666666", "sfm": "#56B4E9", "resonator": "#0072B2", "sfm_kdd": "#009E73"}


def draw(records: list[Record], folder: Path) -> None:
    """Draw a panel for each task, a dot for each fit (hollow for longer training) and a bar for means."""
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
        names = networks(task)
        for network, group in of_task(records, task).items():
            name, longer = network.removesuffix(AS_LONG), network.endswith(AS_LONG)
            place, scores, colour = names.index(name) + 0.35 * longer, scores_of(group), COLOURS[name]
            fill = {"markerfacecolor": "none"} if longer else {"markeredgewidth": 0}
            ax.plot(scores, [place] * len(scores), "o", color=colour, alpha=0.6, **fill)
            ax.plot([statistics.mean(scores)], [place], "|", color=colour, markersize=14, markeredgewidth=2.5)
        ax.set(title=task, xlabel=TASKS[OF[task][0]].score, ylim=(len(names) - 0.5, -0.5))
        ax.set_yticks(range(len(names)), names)
        ax.grid(axis="x", alpha=0.3)
        ax.set_axisbelow(True)
        ax.locator_params(axis="x", nbins=3)
        if TASKS[OF[task][0]].better < 0:
            ax.invert_xaxis()
    for ax in [*axes][len(tasks) :]:
        ax.set_axis_off()
    figure.savefig(folder / "rivals.png", dpi=110)


def main() -> None:
    """Do the missing runs: for each task first the tuning, then the comparison of the tuned networks."""
    arguments = parser(__doc__).parse_args()
    end = None if arguments.limit is None else time.monotonic() + arguments.limit
    runs = plan(arguments.quick)
    for task in dict.fromkeys(run.settings["task"] for run in runs):
        ready = set(networks(task))
        for number in range(4):
            now = [run for run in runs if run.settings["task"] == task and stage(run) == number]
            now = [run for run in now if ready.issuperset({run.settings["network"], *(RIVALS if number > 1 else ())})]
            wanted = Counter(run.settings["network"] for run in now)
            missing = wanted - Counter(record["settings"]["network"] for record in within(end, now, arguments))
            if number != 1:  # what is done with the best recipes is nobody's condition
                ready -= missing.keys()


def within(end: float | None, runs: list[Run], arguments: argparse.Namespace) -> list[Record]:
    """Carry out runs, but start none after the end."""
    if end is not None:
        arguments.limit = max(0.0, end - time.monotonic())
    return carry_out(EXPERIMENT, runs, partial(fit, results=arguments.results or RESULTS), arguments)


if __name__ == "__main__":
    import rivals  # not as __main__: the processes that train shall find its functions, and keep the data

    rivals.main()
