"""Phones of speech, frame by frame, on TIMIT (the paper's Figure 4).

The claim: with about 80 000 parameters the SFM names the phones of speech better, by more than five points, than
other recurrent networks of that size, and the A-SFM slightly better than a bidirectional LSTM.

What differs from the paper, which says little of its features, labels and training: 26 features by HTK's formulas every
10 ms, the phone at the middle of each window, 3512 utterances for training, 184 for validation and the full test set
of 1344, as :mod:`sfmts.datasets.timit` has them.  All networks have the sizes of the paper's Table 1, whose SFM and
A-SFM take z as logits; with "linear" they have an output layer, and about as many parameters.  One recipe for all:
Adam at 0.01, falling to 0 within 20 epochs, batches of 32 utterances, weights after the last epoch.  Nothing was tuned.

TIMIT is licensed: whoever owns LDC93S1 names its folder.  ``--quick`` writes a handful of hums and hisses in the
corpus's layout instead, whose figures say nothing about speech and never reach the results.

    python experiments/timit.py --timit FOLDER
    SFMTS_TIMIT=FOLDER python experiments/timit.py

Needs soundfile: ``pip install ".[data]"``.
"""

import os
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from _runs import (
    CONFIRMED,
    IN_PART,
    NO_RUNS,
    NOT_CONFIRMED,
    NOT_TESTED,
    Outcome,
    Record,
    Run,
    carry_out,
    estimator_parameters,
    mean_and_deviation,
    parser,
    progress,
    table,
)
from sklearn.linear_model import LogisticRegression

from sfmts import SFMLabeler
from sfmts.datasets import load_timit
from sfmts.metrics import frame_accuracy_score
from sfmts.networks import match_budget, network_names, paper_preset

EXPERIMENT = "timit"
REPORTS_NOTHING = True  # the page says how to run it
CLAIMS = {  # and the pages on them
    "The SFM labels the frames of TIMIT better than networks of its size, by five points (Figure 4)": "timit",
}

TIMIT, MINIATURE = "TIMIT", "miniature"
BUDGET, N_FEATURES, N_PHONES = 80_000, 26, 61
EPOCHS = {TIMIT: 20, MINIATURE: 1}
TABLE_1 = (
    "sfm",
    "a_sfm",
    "lstm",
    "bi_lstm",
    "gru",
    "clockwork_rnn",
    "phased_lstm",
    "recurrent_highway",
    "associative_lstm",
    "act",
)
RULES = ("most frequent phone", "one frame, logistic regression")
SCORES = ("test_61", "test_39", "valid_61")


@cache
def sizes() -> dict[str, dict[str, Any]]:
    """Return the parameters of SFMLabeler for the rows of Table 1 and other networks of that size."""
    found = {row: paper_preset("timit", row) for row in TABLE_1}
    linear = {"sfm, linear": {"network": "sfm"}, "a_sfm, linear": {"network": "sfm", "frequencies": "adaptive"}}
    for row, parameters in linear.items():
        options = {**{name: value for name, value in parameters.items() if name != "network"}, "n_frequencies": 8}
        n_states = match_budget("sfm", BUDGET, N_FEATURES, N_PHONES, **options)
        found[row] = estimator_parameters({**parameters, "n_frequencies": 8, "n_states": n_states})
    if "resonator" in network_names():
        n_states = match_budget("resonator", BUDGET, N_FEATURES, N_PHONES)
        found["resonator"] = {"network": "resonator", "n_states": n_states}
    return found


def of_row(row: str, corpus: str) -> dict[str, Any]:
    """Return the settings of a row's runs."""
    if row in RULES:
        return {"corpus": corpus, "rule": row}
    return {"corpus": corpus, "estimator": {**sizes()[row], "max_iter": EPOCHS[corpus]}}


def plan(quick: bool = False) -> list[Run]:
    """Return all runs: baselines, then all networks, seed by seed."""
    corpus, seeds = (MINIATURE, range(1)) if quick else (TIMIT, range(3))
    rules = [Run(of_row(rule, corpus), 0) for rule in RULES]
    return rules + [Run(of_row(row, corpus), seed) for seed in seeds for row in sizes()]


def load(corpus: str, folder: Path) -> tuple[Any, Callable[[Any], Any]]:
    """Return the corpus with 61 phones, and a function that folds a series of these to 39; TIMIT must be complete."""
    protocol = {} if corpus == TIMIT else {"strict": False, "n_valid": 2, "cache_home": folder}
    parts, folded = (load_timit(folder, n_phones=n, **protocol) for n in (N_PHONES, 39))
    fold = np.zeros(N_PHONES, np.int64)
    for part in ("train", "valid", "test"):
        fold[np.concatenate(parts[part].target)] = np.concatenate(folded[part].target)
    return parts, lambda labels: fold[labels]


def fit(settings: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """Train a network, or fit a rule, and score its labels of the valid and test frames, as 61 phones and as 39."""
    parts, fold = load(settings["corpus"], folder)
    start = time.process_time()
    if "rule" in settings:
        predict, n_parameters = fit_rule(settings["rule"], parts.train)
        epochs = 0
    else:
        model = SFMLabeler(**settings["estimator"], random_state=seed).fit(parts.train.data, parts.train.target)
        predict, n_parameters, epochs = model.predict, model.n_parameters_, model.n_iter_
    seconds, scores = time.process_time() - start, {}
    for name in ("test", "valid"):
        truth, labels = parts[name].target, predict(parts[name].data)
        scores[f"{name}_61"] = frame_accuracy_score(truth, labels)
        scores[f"{name}_39"] = frame_accuracy_score([fold(y) for y in truth], [fold(y) for y in labels])
    return {"scores": scores, "n_parameters": n_parameters, "epochs": epochs, "seconds": seconds}


def fit_rule(rule: str, train: Any) -> tuple[Callable[[Any], Any], int]:
    """Return a function that labels frames one by one, and its number of parameters."""
    labels = np.concatenate(train.target)
    if rule == RULES[0]:
        most = np.bincount(labels).argmax()
        return lambda X: [np.full(len(x), most) for x in X], 1
    regression = LogisticRegression(max_iter=200).fit(np.concatenate(train.data), labels)
    return lambda X: [regression.predict(x) for x in X], regression.coef_.size + regression.intercept_.size


def write_miniature(home: Path) -> None:
    """Write eighteen utterances of hums and hisses, in the layout of the corpus."""
    import soundfile

    rng = np.random.default_rng(0)
    pitches = {"h#": 0, "aa": 300, "ao": 350, "iy": 900, "s": 5000, "pcl": 0}  # "aa" and "ao" fold into one
    for number in range(6):
        folder = home / ("TRAIN" if number < 4 else "TEST") / "DR1" / f"MAA{chr(65 + number)}0"
        folder.mkdir(parents=True)
        for sentence in ("SI1", "SX1", "SX2"):
            phones = ["h#", *rng.choice(list(pitches)[1:], size=4).tolist(), "h#"]
            tones = [np.sin(2 * np.pi * pitches[phone] * np.arange(1600) / 16_000) for phone in phones]
            signal = 3000 * np.concatenate(tones) + 100 * rng.normal(size=1600 * len(phones))
            soundfile.write(folder / f"{sentence}.WAV", signal.astype(np.int16), 16_000)
            lines = [f"{1600 * i} {1600 * (i + 1)} {phone}\n" for i, phone in enumerate(phones)]
            (folder / f"{sentence}.PHN").write_text("".join(lines))


def accuracies(records: list[Record], row: str, corpus: str, score: str) -> list[float]:
    """Return one of the scores of a row for all seeds."""
    return [record["scores"][score] for record in records if record["settings"] == of_row(row, corpus)]


def report(records: list[Record]) -> str:
    """Return the section of the page."""
    corpus = records[0]["settings"]["corpus"] if records else TIMIT
    parts = [
        "# Speech: phones of TIMIT (Figure 4)",
        "The paper's claim: with about 80 000 parameters the SFM is better than others of its size by more than five "
        "points, and the A-SFM slightly better than a bidirectional LSTM.  Its figure gives no numbers.  A "
        "bidirectional LSTM of 100 000 parameters has been reported at 0.698 to 0.702 (Graves and Schmidhuber, 2005).",
    ]
    if not records:
        return "\n\n".join(
            [
                *parts,
                "**No run on TIMIT has been made**: the corpus is licensed and was not at hand.  Its owners can make "
                "one: `python experiments/timit.py --timit FOLDER`.",
            ]
        )
    done = (
        f"{progress(records, plan(corpus == MINIATURE))}; {EPOCHS[corpus]} epochs, one recipe for all, nothing tuned."
    )
    if corpus == MINIATURE:
        done += "  **These figures are not TIMIT's** but of a few made-up sounds, to see that the script runs."
    lines = []
    for row in (*RULES, *sizes()):
        found = [record for record in records if record["settings"] == of_row(row, corpus)]
        if found:
            cells = [mean_and_deviation(accuracies(found, row, corpus, score)) for score in SCORES]
            lines.append([row, found[0]["n_parameters"], *cells])
    header = ["", "parameters", "test, 61 phones", "test, folded to 39", "valid, 61 phones"]
    return "\n\n".join([*parts, f"{done}  Share of frames labelled correctly:", table(header, lines)])


def outcomes(records: list[Record]) -> list[Outcome]:
    """Compare the SFM with the best other forward network, and the A-SFM with the bidirectional LSTM."""
    if not records:
        return [Outcome("the corpus is licensed and was not available", NOT_TESTED)]
    corpus = records[0]["settings"]["corpus"]
    means = {row: np.mean(found) for row in sizes() if (found := accuracies(records, row, corpus, "test_61"))}
    others = {row: mean for row, mean in means.items() if "sfm" not in row and row != "bi_lstm"}
    if corpus != TIMIT or "sfm" not in means or not others:
        return [NO_RUNS]
    best = max(others, key=others.__getitem__)
    said = f"SFM {means['sfm']:.3f}, best other that reads forwards {others[best]:.3f} ({best})"
    if {"a_sfm", "bi_lstm"} <= set(means):
        said += f"; A-SFM {means['a_sfm']:.3f}, bidirectional LSTM {means['bi_lstm']:.3f}"
    lead = means["sfm"] - others[best]
    return [Outcome(said, CONFIRMED if lead > 0.05 else IN_PART if lead > 0.0 else NOT_CONFIRMED)]


def main() -> None:
    """Do the missing runs if the corpus is available, and print the section of the report."""
    options = parser(__doc__)
    options.add_argument(
        "--timit",
        type=Path,
        default=os.environ.get("SFMTS_TIMIT"),
        metavar="FOLDER",
        help="the corpus, LDC93S1; by default what SFMTS_TIMIT names",
    )
    arguments = options.parse_args()
    if arguments.timit is None and not (arguments.quick or arguments.list):
        print("timit: no corpus was named, by --timit or SFMTS_TIMIT, so nothing is run")
        return
    with tempfile.TemporaryDirectory() as miniature:
        folder = Path(miniature) if arguments.quick else arguments.timit
        if arguments.quick:
            write_miniature(folder)
        records = carry_out(EXPERIMENT, plan(arguments.quick), partial(fit, folder=folder), arguments)
    print(report(records))


if __name__ == "__main__":
    main()
