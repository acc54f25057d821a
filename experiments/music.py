"""Table 2: predicting the next frame of polyphonic music.

Claim
-----
With 139 thousand parameters SFM and A-SFM predict the next frame of music better than recurrent networks of the same
size, on all of JSB Chorales, Piano-midi.de, Nottingham and MuseData but Nottingham.

What differs
------------
The paper's figures are of other frames (MIDI files sampled every 0.3 s; here the public piano-rolls with a frame every
eighth or quarter note), and its table mixes two quantities.  Here are three, each in a table of its own:

(a)  the log-likelihood of a frame whose 88 keys are independent given the past, which is what training maximises;
(b)  the softmax over pressed keys, which the authors' program scores, of the same fitted networks.  It is no
     likelihood, and has a ceiling.  What changes when it is also the loss is the subject of settings.py;
(c)  the joint log-likelihood of a frame: RNN-NADE, exactly, and RNN-RBM, by annealed importance sampling.

Protocol
--------
The collections' own train, valid and test pieces.  All networks have the default recipe of SFMDensity: Adam at 0.025,
falling to 0 within 30 epochs, batches of 16 pieces, dropout 0.2 (none where z itself is the logits) and recurrent
dropout 0.4.  The weights are those after the last epoch.  Sizes are those of the paper's Table 1, or as near to 139 000
parameters as a network can come.

Nothing was tuned for this.  The recipe itself was found with SFMs and LSTMs on JSB, where its recurrent dropout was
chosen with test figures in view as well; every other network and collection meets it for the first time.

    python experiments/music.py --only jsb_chorales
    SFMTS_PIANO_ROLLS=FOLDER python experiments/music.py        with the four .mat files at hand
"""

import inspect
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
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
    parser,
    progress,
    share_of,
    table,
    told_of_divergence,
)
from sklearn.linear_model import LogisticRegression

from sfmts import SFMDensity
from sfmts.datasets import fetch_piano_rolls
from sfmts.metrics import bernoulli_log_likelihood, softmax_pressed_ceiling, softmax_pressed_log_likelihood
from sfmts.networks import make_network, match_budget, network_names, paper_preset
from sfmts.networks.base import network_class

EXPERIMENT = "music"
CLAIMS = {  # and the pages on them
    "SFM and A-SFM predict music better than networks of their size, but for Nottingham (Table 2)": "music",
}

N_KEYS, BUDGET = 88, 139_000
COLLECTIONS = {
    "jsb_chorales": "JSB",
    "nottingham": "Nottingham",
    "musedata": "MuseData",
    "piano_midi": "Piano-midi",
}
MADE = "made"  # chords drawn at random, for --quick
EPOCHS = {**dict.fromkeys(COLLECTIONS, 30), MADE: 1}
TABLE_1 = (
    "sfm",
    "a_sfm",
    "lstm",
    "gru",
    "clockwork_rnn",
    "act",
    "recurrent_highway",
    "associative_lstm",
    "phased_lstm",
)
Z_AS_LOGITS = ", z as logits"
RIVALS = ("lstm", "gru", "resonator")  # which the SFM meets on every collection; the last one if it is registered
JOINT = {"nade": ("jsb_chorales", "nottingham"), "rbm": ("jsb_chorales",)}

# What others report of the same files; collections that they leave out are missing.
PUBLISHED_BERNOULLI = {
    "RNN (Boulanger-Lewandowski et al., 2012)": {
        "piano_midi": 8.37,
        "nottingham": 4.46,
        "musedata": 8.13,
        "jsb_chorales": 8.71,
    },
    "GRU (Chung et al., 2014)": {"piano_midi": 8.82, "nottingham": 3.23, "musedata": 5.99, "jsb_chorales": 8.54},
    "LSTM (Chung et al., 2014)": {"piano_midi": 9.03, "nottingham": 3.20, "musedata": 6.23, "jsb_chorales": 8.67},
    "LSTM (Bai et al., 2018)": {"nottingham": 3.29, "jsb_chorales": 8.45},
    "GRU (Bai et al., 2018)": {"nottingham": 3.46, "jsb_chorales": 8.43},
    "TCN (Bai et al., 2018)": {"nottingham": 3.07, "jsb_chorales": 8.10},
}
PUBLISHED_JOINT = {  # as the SFM paper's Table 2 quotes them
    "RNN-RBM": {"musedata": -6.01, "jsb_chorales": -6.27, "piano_midi": -7.09, "nottingham": -2.39},
    "RNN-NADE, pre-trained": {"musedata": -5.60, "jsb_chorales": -5.56, "piano_midi": -7.05, "nottingham": -2.31},
}
PAPER_TABLE_2 = {  # of other frames, and only what is at hand of it
    "SFM, the paper's Table 2": {"jsb_chorales": -5.47},
    "A-SFM, the paper's Table 2": {"jsb_chorales": -5.45},
    "LSTM, the paper's Table 2": {"nottingham": -5.60},
}
COLOURS = {"sfm": "#0072B2", "other": "#E69F00"}


# -- the networks


@cache
def causal_networks() -> tuple[str, ...]:
    """Return all registered networks that read forwards only."""
    return tuple(name for name in network_names() if make_network(name, 2, n_states=8).causal)


@cache
def paper_sizes() -> dict[str, dict[str, Any]]:
    """Return the parameters of SFMDensity for the rows of Table 1."""
    return {row: without_defaults(paper_preset("music", row)) for row in TABLE_1}


def without_defaults(parameters: dict[str, Any]) -> dict[str, Any]:
    """Remove the network's own options if all are defaults, so that equal networks are one run."""
    options = inspect.signature(network_class(parameters["network"])).parameters
    if any(options[key].default != value for key, value in parameters.get("network_params", {}).items()):
        return parameters
    return {key: value for key, value in parameters.items() if key != "network_params"}


@cache
def matched_sizes() -> dict[str, dict[str, Any]]:
    """Return the parameters of SFMDensity that bring each network closest to the budget; the SFM's z is D wide."""
    sizes: dict[str, dict[str, Any]] = {}
    for row, options in (("sfm", {}), ("a_sfm", {"frequencies": "adaptive"})):
        n_states = match_budget("sfm", BUDGET, N_KEYS, N_KEYS, **options)
        sizes[row] = estimator_parameters({"network": "sfm", **options, "n_states": n_states, "n_outputs": n_states})
        n_states = match_budget("sfm", BUDGET, N_KEYS, N_KEYS, head="none", **options)
        as_logits = {"network": "sfm", **options, "head": "none", "n_states": n_states}
        sizes[f"{row}{Z_AS_LOGITS}"] = estimator_parameters(as_logits)
    for name in causal_networks():
        if name != "sfm":
            sizes[name] = {"network": name, "n_states": match_budget(name, BUDGET, N_KEYS, N_KEYS)}
    return sizes


def of_networks(collection: str, size: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run, which are the same for all networks except for two.

    Logits are not dropped where there is no layer that could make up for it, and the SFM's backward pass saves memory
    where pieces have thousands of frames.
    """
    options: dict[str, Any] = {"max_iter": EPOCHS[collection]}
    if size.get("head") == "none":
        options["dropout"] = 0.0
    if size["network"] == "sfm" and collection in ("musedata", "piano_midi"):
        options["memory"] = "recompute"
    return {"collection": collection, "estimator": estimator_parameters({**size, **options})}


# -- the plan


def plan(quick: bool = False) -> list[Run]:
    """Return baselines, then all networks on JSB, the rivals on the other collections, joint heads, and the rest."""
    if quick:
        return quick_plan()
    small, *large = COLLECTIONS
    all_sizes = [*matched_sizes().values(), *paper_sizes().values()]
    rivals = [size for size in matched_sizes().values() if size["network"] in ("sfm", *RIVALS)]
    runs = [Run({"collection": name, "rule": rule}, 0) for name in COLLECTIONS for rule in ("ceiling", *RULES)]
    runs += [Run(of_networks(small, size), seed) for seed in range(3) for size in all_sizes]
    runs += [Run(of_networks(name, size), 0) for name in large for size in rivals]
    for head, names in JOINT.items():
        joint = joint_sizes(head).values()
        runs += [Run(of_networks(name, size), seed) for name in names for seed in range(3) for size in joint]
    runs += [Run(of_networks(name, size), seed) for seed in (1, 2) for name in large for size in rivals]
    runs += [Run(of_networks(small, size), seed) for seed in (3, 4) for size in all_sizes]
    runs += [Run(of_networks(name, size), 0) for name in large for size in all_sizes]
    return without_repetitions(runs)


def quick_plan() -> list[Run]:
    """Return a plan with everything once, and the SFM twice."""
    runs = [Run({"collection": MADE, "rule": rule}, 0) for rule in ("ceiling", *RULES)]
    runs += [Run(of_networks(MADE, size), 0) for size in (*matched_sizes().values(), *paper_sizes().values())]
    runs += [Run(of_networks(MADE, matched_sizes()["sfm"]), 1)]
    return without_repetitions(runs + [Run(of_networks(MADE, joint_sizes(head)["sfm"]), 0) for head in JOINT])


def without_repetitions(runs: list[Run]) -> list[Run]:
    """Return each run once, at its first place; some of the paper's sizes are also matched sizes."""
    return list({json.dumps(run, sort_keys=True): run for run in runs}.values())


def joint_sizes(head: str) -> dict[str, dict[str, Any]]:
    """Return the networks of the matched rows with a joint head instead of the linear one."""
    return {row: {**matched_sizes()[row], "head": head} for row in ("sfm", *RIVALS) if row in matched_sizes()}


# -- the runs


def load_rolls(collection: str, folder: str | None) -> Any:
    """Train, valid and test rolls."""
    if collection != MADE:
        return fetch_piano_rolls(collection, data_home=folder)
    rng = np.random.default_rng(0)
    return {part: [chords(rng) for _ in range(n)] for part, n in (("train", 6), ("valid", 2), ("test", 2))}


def chords(rng: np.random.Generator, n_frames: int = 12) -> np.ndarray:
    """Return three voices that wander over the keys."""
    roll = np.zeros((n_frames, N_KEYS), np.float32)
    voices = rng.integers(-2, 3, size=(n_frames, 3)).cumsum(axis=0)
    voices += np.array([30, 42, 54])
    roll[np.arange(n_frames)[:, None], voices.clip(0, N_KEYS - 1)] = 1.0
    return roll


def fit(settings: dict[str, Any], seed: int, folder: str | None = None) -> dict[str, Any]:
    """Train a network, or fit a rule, and score it."""
    rolls = load_rolls(settings["collection"], folder)
    if "rule" in settings:
        return fit_rule(settings["rule"], rolls)
    head = settings["estimator"].get("head", "linear")
    parts = ("test",) if head == "rbm" else ("test", "valid")  # the estimate takes longer than training
    model = SFMDensity(**settings["estimator"], random_state=seed)
    start = time.process_time()
    try:
        model.fit(rolls["train"])
        seconds = time.process_time() - start
        scores = {part: model.score(rolls[part]) for part in parts}
        if head not in JOINT:
            scores |= {f"{part}_softmax_pressed": softmax_pressed(model, rolls[part]) for part in parts}
    except FloatingPointError:  # gradients without end
        seconds = time.process_time() - start
        guess = fit_rule("marginal", rolls)["scores"]
        scores = {**({part: guess[part] for part in parts} if head in JOINT else guess), "diverged": 1}
        once = {"max_iter": 1, "recurrent_dropout": 0.0, "learning_rate_init": 1e-9}
        model.set_params(**estimator_parameters({**settings["estimator"], **once}))
        model.fit(rolls["train"][:1])  # for the count of parameters
    return {"scores": scores, "n_parameters": model.n_parameters_, "epochs": model.n_iter_, "seconds": seconds}


def softmax_pressed(model: SFMDensity, X: Sequence[np.ndarray]) -> float:
    """Return the score of the authors' program."""
    logits = [after[:-1] for after in model.decision_function(list(X))]
    return softmax_pressed_log_likelihood([roll[1:] for roll in X], logits)


# -- rules: each learns, from pairs of successive frames, the probabilities that the keys are down in the next one

Predict = Callable[[np.ndarray], np.ndarray]


def marginal(before: np.ndarray, after: np.ndarray) -> tuple[Predict, int]:
    """Return how often each key is down."""
    rates = share(after.sum(axis=0), len(after))
    return lambda frames: np.broadcast_to(rates, frames.shape), rates.size


def markov(before: np.ndarray, after: np.ndarray) -> tuple[Predict, int]:
    """Return how often each key stays down, and how often it goes down."""
    stays = share((before * after).sum(axis=0), before.sum(axis=0))
    comes = share(((1 - before) * after).sum(axis=0), (1 - before).sum(axis=0))
    return lambda frames: np.where(frames > 0, stays, comes), stays.size + comes.size


def repeat(before: np.ndarray, after: np.ndarray) -> tuple[Predict, int]:
    """Predict the previous frame as `markov` does, but with the same rates for all keys."""
    stays = share((before * after).sum(), before.sum())
    comes = share(((1 - before) * after).sum(), (1 - before).sum())
    return lambda frames: np.where(frames > 0, stays, comes), 2


def first_order_linear(before: np.ndarray, after: np.ndarray) -> tuple[Predict, int]:
    """Fit a logistic regression for each key on all keys of the previous frame."""
    frames, which = np.unique(before, axis=0, return_inverse=True)  # many pairs begin alike
    counts = np.bincount(which)
    rates, regressions = share(after.sum(axis=0), len(after)), {}
    for key in np.flatnonzero((after.min(axis=0) == 0) & (after.max(axis=0) > 0)).tolist():
        down = np.bincount(which, weights=after[:, key])
        labels, weights = np.repeat([1, 0], len(frames)), np.concatenate([down, counts - down])
        regression = LogisticRegression(max_iter=1000)
        regressions[key] = regression.fit(np.concatenate([frames, frames]), labels, sample_weight=weights)

    def predict(frames: np.ndarray) -> np.ndarray:
        p = np.tile(rates, (len(frames), 1))
        for key, regression in regressions.items():
            p[:, key] = regression.predict_proba(frames)[:, 1]
        return p

    return predict, len(regressions) * (N_KEYS + 1) + N_KEYS - len(regressions)


RULES = {
    "marginal": marginal,
    "repeat the last frame": repeat,
    "Markov, each key by itself": markov,
    "first-order linear": first_order_linear,
}


def share(count: Any, total: Any) -> Any:
    """Return a rate that is never 0 or 1, because some keys of the test pieces are not pressed in training."""
    return (np.asarray(count, np.float64) + 0.5) / (total + 1.0)


def fit_rule(rule: str, rolls: Any) -> dict[str, Any]:
    """Return the scores of a baseline; its logits are those of its probabilities, as for networks."""
    start = time.process_time()
    if rule == "ceiling":
        scores = {
            f"{part}_softmax_pressed": softmax_pressed_ceiling([roll[1:] for roll in rolls[part]])
            for part in ("test", "valid")
        }
        return {"scores": scores, "n_parameters": 0, "epochs": 0, "seconds": time.process_time() - start}
    before, after = (np.concatenate([roll[part] for roll in rolls["train"]]) for part in (slice(-1), slice(1, None)))
    predict, n_parameters = RULES[rule](before, after)
    seconds, scores = time.process_time() - start, {}
    for part in ("test", "valid"):
        following = [roll[1:] for roll in rolls[part]]
        p = [predict(roll[:-1]) for roll in rolls[part]]
        logits = [np.log(frames) - np.log1p(-frames) for frames in p]
        scores[part] = bernoulli_log_likelihood(following, p)
        scores[f"{part}_softmax_pressed"] = softmax_pressed_log_likelihood(following, logits)
    return {"scores": scores, "n_parameters": n_parameters, "epochs": 0, "seconds": seconds}


# -- the report


class Found:
    """Records, by what was run."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records: dict[str, list[Record]] = {}
        for record in records:
            self._records.setdefault(json.dumps(record["settings"], sort_keys=True), []).append(record)
        here = {record["settings"]["collection"] for group in self._records.values() for record in group}
        self.collections = {
            name: label for name, label in {**COLLECTIONS, MADE: "made-up chords"}.items() if name in here
        }

    def records(self, settings: dict[str, Any]) -> list[Record]:
        """Return the records of all seeds."""
        return self._records.get(json.dumps(settings, sort_keys=True), [])

    def scores(self, settings: dict[str, Any], score: str) -> list[float]:
        """Return one of the scores for all seeds."""
        return [record["scores"][score] for record in self.records(settings) if score in record["scores"]]

    def diverged(self) -> list[str]:
        """Return a sentence on networks whose training failed."""
        sizes = dict(matched_sizes())
        sizes |= {f"{row} with {head}": size for head in JOINT for row, size in joint_sizes(head).items()}
        papers = {row: size for row, size in paper_sizes().items() if size not in matched_sizes().values()}
        sizes |= {f"{row} as large as the paper's": size for row, size in papers.items()}
        groups = {
            f"{label} on {self.collections[name]}": self.records(of_networks(name, size))
            for label, size in sizes.items()
            for name in self.collections
        }
        return told_of_divergence(groups, "score", "how often each key is pressed")

    def row(self, label: str, settings: Callable[[str], dict[str, Any]], score: str, sign: int = 1) -> list[str]:
        """Return a row of a table: name, size, and a cell for each collection."""
        records = [record for name in self.collections for record in self.records(settings(name))]
        parameters = str(records[0]["n_parameters"]) if records and records[0]["n_parameters"] else ""
        cells = [[sign * value for value in self.scores(settings(name), score)] for name in self.collections]
        return [label, parameters, *map(mean_and_deviation, cells)]

    def block(self, title: str, sizes: dict[str, dict[str, Any]], score: str, sign: int = 1) -> list[list[str]]:
        """Return a title row above the rows of networks."""
        rows = [self.row(label, partial(of_networks, size=size), score, sign) for label, size in sizes.items()]
        return self.titled(title, [row for row in rows if row[1]])

    def rules(self, score: str, names: Sequence[str], sign: int = 1) -> list[list[str]]:
        """Return the rows of baselines."""
        return [
            self.row(name, lambda collection, name=name: {"collection": collection, "rule": name}, score, sign)
            for name in names
        ]

    def published(self, figures: dict[str, dict[str, float]]) -> list[list[str]]:
        """Return the rows of the literature."""
        rows = [
            [label, "", *(f"{row[name]:.2f}" if name in row else "" for name in self.collections)]
            for label, row in figures.items()
        ]
        return [row for row in rows if any(row[2:])]

    def titled(self, title: str, rows: list[list[str]]) -> list[list[str]]:
        """Return rows under a title, if there are any."""
        return [[f"**{title}**", "", *[""] * len(self.collections)], *rows] if rows else []

    def table(self, rows: list[list[str]]) -> str:
        """Return a table whose columns are the collections."""
        return table(["", "parameters", *self.collections.values()], rows)


class Ranked(NamedTuple):
    """A network's nats per frame: mean, and spread over seeds, which is 0 of a single one."""

    mean: float
    spread: float
    name: str
    n_seeds: int


def ranking(found: Found, collection: str) -> list[Ranked]:
    """Return the matched networks that have runs, the best first."""
    rows = []
    for name, size in matched_sizes().items():
        nats = [-value for value in found.scores(of_networks(collection, size), "test")]
        if nats:
            spread = statistics.stdev(nats) if len(nats) > 1 else 0.0
            rows.append(Ranked(statistics.mean(nats), spread, name, len(nats)))
    return sorted(rows)


def standing(found: Found, collection: str) -> str:
    """Return the ranks of SFM and A-SFM among the matched networks; nothing if there are no others."""
    rows = ranking(found, collection)
    if len(rows) < 2:
        return ""
    best = rows[0]
    said = [f"{found.collections[collection]}: {best.name} is first of {len(rows)} at {best.mean:.3f}"]
    for place, row in enumerate(rows[1:], start=2):
        if row.name in ("sfm", "a_sfm"):
            behind, noise = row.mean - best.mean, max(row.spread, best.spread)
            said.append(f"{row.name} is number {place}, {behind:.3f} behind")
            if noise:
                said[-1] += f", {'less' if behind < noise else 'more'} than the seeds' spread of {noise:.3f}"
    single = sum(row.n_seeds == 1 for row in rows)
    if single == len(rows):
        said[-1] += " (one seed each: small differences say nothing)"
    elif single:
        said[-1] += f" ({single} of the {len(rows)} with one seed)"
    return "; ".join(said)


def outcomes(records: list[Record]) -> list[Outcome]:
    """Compare the better of SFM and A-SFM with the best other network of the paper's Table 1."""
    found = Found(records)
    said, better, claimed = [], 0, 0
    for name, label in found.collections.items():
        rows = [row for row in ranking(found, name) if row.name in TABLE_1]
        own, others = ([row for row in rows if (row.name in ("sfm", "a_sfm")) == mine] for mine in (True, False))
        if own and others:
            said.append(f"{label} {own[0].mean:.3f} ({own[0].name}), {others[0].mean:.3f} ({others[0].name})")
            if name != "nottingham":
                claimed += 1
                better += own[0].mean < others[0].mean
    if not said:
        return [NO_RUNS]
    return [Outcome(f"nats per frame, best SFM and best other: {'; '.join(said)}", share_of(better, claimed))]


def pages(records: list[Record]) -> dict[str, str]:
    """Return a page for each of the three quantities."""
    found = Found(records)
    done = progress(records, plan(quick=MADE in found.collections))
    result = {
        "music": f"# Music: the next frame (Table 2)\n\n{done}.  {INTRODUCTION}\n\n{bernoulli_section(found)}",
        "music_pressed_keys": softmax_section(found),
        "music_joint": joint_section(found),
    }
    return {name: text for name, text in result.items() if text}


def report(records: list[Record]) -> str:
    """Return all pages."""
    return "\n\n".join(pages(records).values())


INTRODUCTION = """The paper's claim: with 139 000 parameters SFM and A-SFM predict the next frame better than
other recurrent networks of that size on all collections but Nottingham.

Three quantities must not be compared with one another, and each has a page: this one, the
[pressed keys' score](music_pressed_keys.md) and [joint densities](music_joint.md).  All are means over seeds, of the
test pieces.
One recipe for all networks and collections, the defaults of `SFMDensity` (30 epochs; weights after the last one), with
nothing tuned for any but what [music.py](music.py) says of JSB.  "Matched" networks have as nearly 139 000 parameters
as they can, and `sfm` and `a_sfm` a linear output layer on z unless the row says otherwise.  "Paper's sizes" are those
of its Table 1, some of which are the same; there the logits of SFM and A-SFM are z itself, without dropout.  Each entry
of z is less than K = 4 in size, so that no key is ever surer than 0.982 to be up or down."""

BERNOULLI = """## Nats per frame, lower is better

Keys are independent given the past.

Minus the log-likelihood of a frame, the sum over 88 keys, as a mean over all frames from the second on: what training
minimises, and the convention of the literature.  Published networks have other sizes and recipes."""

SOFTMAX = """# Music: the pressed keys' score

Softmax over pressed keys in nats per frame: greater is better, up to a ceiling.

The authors' program scores the log softmax of the logits, summed over the pressed keys; means are over the frames of a
piece, then over pieces.  It is no likelihood: with k keys down no prediction exceeds -k log k, the mean of which is the
ceiling.  The networks and their training loss are those of [the next frame](music.md); [the settings](settings.md)
train with the authors' own.  The paper's figures, of which only these are available, are of other frames (MIDI files
sampled every 0.3 s), so they can be neither reached nor missed here; the ceiling only tells how good they would be on
these."""

JOINT_TEXT = """# Music: joint densities

Joint log-likelihood of a frame in nats: greater is better.

Matched networks of [the next frame](music.md) under a model of the whole frame with 150 hidden units
(Boulanger-Lewandowski et al., 2012), trained by the same recipe; parameters are those of both.  That of RNN-NADE is
exact, that of RNN-RBM an estimate by annealed importance sampling.  The published rows had other networks and training;
the paper's Table 2 sets them beside [the pressed keys' score](music_pressed_keys.md)."""


def bernoulli_section(found: Found) -> str:
    """Return part (a), with baselines and the literature."""
    rows = [
        *found.titled("Rules", found.rules("test", list(RULES), -1)),
        *found.block("Matched", matched_sizes(), "test", -1),
        *found.block("Paper's sizes", paper_sizes(), "test", -1),
        *found.titled("Published", found.published(PUBLISHED_BERNOULLI)),
    ]
    parts = [BERNOULLI, found.table(rows)]
    said = [sentence for name in found.collections if (sentence := standing(found, name))]
    if said:
        parts.append("Among the matched networks:\n\n" + "\n".join(f"- {sentence}." for sentence in said))
    parts += found.diverged()
    if shown(found):
        parts.append(
            "![Matched networks, a dot for each seed](figures/music.png)\n\n"
            "A dot for each seed, a bar for their mean; without the rows whose logits are z."
        )
    return "\n\n".join(parts)


def softmax_section(found: Found) -> str:
    """Return part (b), with its ceiling."""
    score = "test_softmax_pressed"
    rows = [
        *found.titled("Rules", found.rules(score, ["ceiling", *RULES])),
        *found.block("Matched", matched_sizes(), score),
        *found.block("Paper's sizes", paper_sizes(), score),
        *found.titled("The paper's Table 2, other frames", found.published(PAPER_TABLE_2)),
    ]
    said = [sentence for name in found.collections if (sentence := below_ceiling(found, name))]
    return "\n\n".join([SOFTMAX, found.table(rows), *(["\n".join(said)] if said else [])])


def below_ceiling(found: Found, collection: str) -> str:
    """Return the distances of the best network and of the paper's best result from the ceiling of these frames."""
    score = "test_softmax_pressed"
    ceiling = found.scores({"collection": collection, "rule": "ceiling"}, score)
    values = [
        found.scores(of_networks(collection, size), score)
        for size in (*matched_sizes().values(), *paper_sizes().values())
    ]
    published = [figures[collection] for figures in PAPER_TABLE_2.values() if collection in figures]
    if not ceiling or not any(values) or not published:
        return ""
    best, theirs = max(statistics.mean(each) for each in values if each), max(published)
    side = "below" if theirs < ceiling[0] else "above"
    return (
        f"- {found.collections[collection]}: the best network is {ceiling[0] - best:.2f} below the ceiling; the best "
        f"of the paper's figures would be {abs(ceiling[0] - theirs):.2f} {side} it."
    )


def joint_section(found: Found) -> str:
    """Return part (c), if it has any run."""
    rows = [
        *found.block("RNN-NADE", joint_sizes("nade"), "test"),
        *found.block("RNN-RBM", joint_sizes("rbm"), "test"),
    ]
    if not rows:
        return ""
    return f"{JOINT_TEXT}\n\n{found.table([*rows, *found.titled('Published', found.published(PUBLISHED_JOINT))])}"


def draw(records: list[Record], folder: Path) -> None:
    """Draw the matched networks on the first collection: a dot for each seed, a bar for their mean."""
    found = Found(records)
    collection = shown(found)
    if collection is None:
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in ranking(found, collection) if not row.name.endswith(Z_AS_LOGITS)]  # far off
    figure, ax = plt.subplots(figsize=(8, 1.0 + 0.3 * len(rows)), layout="constrained")
    means = [row.mean for row in rows]
    limit = 2.0 * statistics.median(means) - min(means) + 0.3  # some recipes are ruinous
    for place, (mean, _, name, _) in enumerate(rows):
        nats = [-value for value in found.scores(of_networks(collection, matched_sizes()[name]), "test")]
        colour = COLOURS["sfm" if matched_sizes()[name]["network"] == "sfm" else "other"]
        ax.plot(nats, [place] * len(nats), "o", color=colour, alpha=0.6, markersize=5, markeredgewidth=0)
        ax.plot([mean], [place], "|", color=colour, markersize=13, markeredgewidth=2.5)
        if mean > limit:
            ax.plot([limit], [place], ">", color=colour, clip_on=False)
            ax.annotate(f"{mean:.1f}", (limit, place), (-9, 0), textcoords="offset points", ha="right", va="center")
    for label, dashes in (("LSTM (Bai et al., 2018)", "--"), ("TCN (Bai et al., 2018)", ":")):
        if collection in PUBLISHED_BERNOULLI[label]:
            value = PUBLISHED_BERNOULLI[label][collection]
            ax.axvline(value, color="0.4", linestyle=dashes, linewidth=1.2, label=f"{label}: {value:.2f}")
            means.append(value)
    ax.set_xlim(min(means) - 0.05 * (limit - min(means)), limit)
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper center", ncols=2)
    ax.set_yticks(range(len(rows)), [row.name for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel(f"{found.collections[collection]}, test pieces: nats per frame, lower is better")
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    figure.savefig(folder / "music.png", dpi=120)
    plt.close(figure)


def shown(found: Found) -> str | None:
    """Return the collection of the picture, the first that has runs of matched networks."""
    return next((name for name in found.collections if ranking(found, name)), None)


def main() -> None:
    """Do the missing runs, and print the section of the report."""
    options = parser(__doc__)
    options.add_argument(
        "--data",
        default=os.environ.get("SFMTS_PIANO_ROLLS"),
        metavar="FOLDER",
        help="the four .mat files; by default what SFMTS_PIANO_ROLLS names, else they are downloaded",
    )
    arguments = options.parse_args()
    records = carry_out(EXPERIMENT, plan(arguments.quick), partial(fit, folder=arguments.data), arguments)
    print(report(records) if records else "No run has been made yet.")


if __name__ == "__main__":
    main()
