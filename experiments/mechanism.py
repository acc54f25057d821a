"""What a state-frequency memory holds (the paper's Figures 1, 3 and 5).

The claim: each state of an SFM is a memory at several frequencies, of which the network keeps those that matter; the
A-SFM chooses them as it goes.

Pictures, and a few numbers that say whether they are more than one lucky network:

Figure 1  a signal whose frequency changes twice, in noise, and the amplitudes abs(S) with which a trained SFM reads
          it.  The network is to name the frequency at each step, one of three that are all among its own 16.  The
          state shown is the one whose memory moves most with the signal.
Figure 3  waves of both classes of the paper's first task, and of its hard variant.
Figure 5  abs(S) at T/4, T/2, 3T/4 and T for a wave of that task, with fixed and with adaptive frequencies: networks of
          the paper's size, 1000 parameters.

The network of Figure 1 is measured before training, too: any memory that turns at a frequency resonates with it.

What differs from the paper: its Figure 1 is a drawing, and of the networks behind its Figure 5 little is said.  Waves
have 100 steps here.  Nothing was tuned; each network trains for seconds.

    python experiments/mechanism.py
"""

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _runs import (
    NO_RUNS,
    Outcome,
    Record,
    Run,
    mean_and_deviation,
    progress,
    run_and_print,
    share_of,
    table,
)
from scipy.stats import ttest_ind

from sfmts import SFMClassifier, SFMLabeler
from sfmts.datasets import make_waves
from sfmts.networks import paper_preset

EXPERIMENT = "mechanism"
CLAIMS = {  # and the pages on them
    "An SFM's states hold the frequency of the signal (Figure 1)": "mechanism",
    "An A-SFM moves its frequencies to where they are used (Figure 5)": "mechanism",
}

PERIODS = (16, 8, 4)
SEGMENTS = (0, 1, 2, 0)  # of the signal shown: numbers of periods
STEPS_OF_SEGMENT = 50
K = 16
QUARTERS = (25, 50, 75, 100)
FULL = {"n_series": 1000, "epochs": 15}
QUICK = {"n_series": 20, "epochs": 1}
UNTRAINED = {"epochs": 1, "learning_rate": 1e-12}
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.35"


def plan(quick: bool = False) -> list[Run]:
    """Plan the runs; the first seeds are those shown."""
    effort, seeds = (QUICK, range(2)) if quick else (FULL, range(5))
    kinds: list[dict[str, Any]] = [
        {"figure": 1, **effort},
        {"figure": 1, **effort, **UNTRAINED},
        {"figure": 5, "network": "sfm", **effort},
        {"figure": 5, "network": "a_sfm", **effort},
    ]
    return [Run(kind, seed) for seed in seeds for kind in kinds]


def fit(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train a network, describe its memory in a few numbers and, of the first seed, keep the arrays of the picture."""
    make = changing_sines if settings["figure"] == 1 else amplitudes_at_quarters
    return make(settings, seed)


# -- Figure 1


def sines(segments: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a noisy sine (T, 1) whose period changes without a jump, and the number of the period at each step."""
    labels = np.repeat(segments, STEPS_OF_SEGMENT)
    phase = np.cumsum(2 * np.pi / np.array(PERIODS)[labels]) + rng.uniform(0, 2 * np.pi)
    signal = rng.uniform(0.7, 1.3) * np.sin(phase) + 0.3 * rng.normal(size=len(labels))
    return signal[:, None].astype(np.float32), labels


def changing_sines(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return how well amplitudes follow the signal's frequency, in the best state and over all states."""
    rng = np.random.default_rng(0)
    n_train = settings["n_series"] // 5
    data = [sines(rng.integers(len(PERIODS), size=len(SEGMENTS)), rng) for _ in range(n_train + 50)]
    X, y = map(list, zip(*data, strict=True))
    shown, labels = sines(np.array(SEGMENTS), rng)
    model = SFMLabeler(
        n_states=8,
        n_frequencies=K,
        network_params={"init": "modern"},
        learning_rate_init=settings.get("learning_rate", 0.01),
        max_iter=settings["epochs"],
        random_state=seed,
    )
    start = time.process_time()
    model.fit(X[:n_train], y[:n_train])
    seconds = time.process_time() - start

    # column k and K - k are mirror images of one frequency; that of a period P is K / P
    held_out = np.concatenate(model.state_amplitudes(X[n_train:]))[:, :, : K // 2 + 1]
    at_signal = K // np.array(PERIODS)[np.concatenate(y[n_train:])]
    following = np.take_along_axis(shares(held_out), at_signal[:, None, None], axis=2)[:, :, 0].mean(axis=0)
    state = int(following.argmax())
    scores: dict[str, Any] = {
        "accuracy": model.score(X[n_train:], y[n_train:]),
        "share_of_state": following[state],
        "share_of_all": following.mean(),
    }
    if seed == 0 and "learning_rate" not in settings:
        amplitudes = model.state_amplitudes([shown])[0][:, :, : K // 2 + 1]
        scores["arrays"] = {
            "signal": rounded(shown[:, 0]),
            "labels": labels.tolist(),
            "found": model.predict([shown])[0].tolist(),
            "state": rounded(amplitudes[:, state]),
            "mean": rounded(amplitudes.mean(axis=1)),
        }
    return {"scores": scores, "n_parameters": model.n_parameters_, "epochs": model.n_iter_, "seconds": seconds}


def shares(amplitudes: np.ndarray) -> np.ndarray:
    """Return amplitudes as shares of their sum over frequencies, the last axis."""
    return amplitudes / np.maximum(amplitudes.sum(axis=-1, keepdims=True), 1e-12)


def rounded(array: np.ndarray) -> Any:
    """Return lists of numbers with three significant digits, which suffice for a picture."""
    return [rounded(item) for item in array] if array.ndim else float(f"{array:.3g}")


# -- Figure 5


def amplitudes_at_quarters(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return how amplitudes spread over the frequencies, averaged over test waves and states."""
    X, y = make_waves(settings["n_series"] + 400, n_steps=QUARTERS[-1], variant="paper", random_state=0)
    X, n_train = X.astype(np.float32), settings["n_series"]
    model = SFMClassifier(**paper_preset("waves", settings["network"]), max_iter=settings["epochs"], random_state=seed)
    start = time.process_time()
    model.fit(X[:n_train], y[:n_train])
    seconds = time.process_time() - start
    amplitudes = model.state_amplitudes(X[n_train:])[:, np.array(QUARTERS) - 1]
    p = shares(amplitudes)
    entropies = -(p * np.log(np.maximum(p, 1e-12))).sum(axis=-1)
    scores: dict[str, Any] = {
        "accuracy": model.score(X[n_train:], y[n_train:]),
        "frequencies_in_use": np.exp(entropies).mean(axis=(0, 2)),  # at each of the quarters
        "share_at_zero": p[:, -1, :, 0].mean(),
    }
    if seed == 0:
        sawtooth = int(np.flatnonzero(y[n_train:] == 1)[0])
        scores["arrays"] = {"amplitudes": rounded(amplitudes[sawtooth])}
    return {"scores": scores, "n_parameters": model.n_parameters_, "epochs": model.n_iter_, "seconds": seconds}


# -- the report


def of_kind(records: list[Record], figure: int, network: str | None = None, trained: bool = True) -> list[Record]:
    """Return the records behind a figure."""
    return [
        record
        for record in records
        if record["settings"]["figure"] == figure
        and record["settings"].get("network") == network
        and ("learning_rate" not in record["settings"]) == trained
    ]


def spread(records: list[Record], score: str, digits: int = 3) -> str:
    """Return the mean and the deviation of a score."""
    return mean_and_deviation([record["scores"][score] for record in records], digits)


def arrays(records: list[Record]) -> dict[str, Any]:
    """Return the arrays of a picture, or None if the run that keeps them is missing."""
    return next((record["scores"]["arrays"] for record in records if "arrays" in record["scores"]), {})


def report(records: list[Record]) -> str:
    """Return the section of the page."""
    quick = any(record["settings"]["n_series"] == QUICK["n_series"] for record in records)
    parts = [
        "# What the memory holds (Figures 1, 3 and 5)",
        f"{progress(records, plan(quick))}.  Pictures are of the first seed, numbers of all.",
    ]
    if of_kind(records, 1):
        parts += [figure_1_text(records), "![A memory that follows the frequency](figures/mechanism_1.png)"]
    parts += [
        "## Waves of both classes (Figure 3)",
        'Left as the paper describes them, right the variant "hard", in noise and with ranks for values, so that '
        "nothing but their order tells the classes apart.",
        "![Square and sawtooth waves](figures/mechanism_3.png)",
    ]
    if any(record["settings"]["figure"] == 5 for record in records):
        parts += [figure_5_text(records), "![Amplitudes at four times](figures/mechanism_5.png)"]
    return "\n\n".join(parts)


def figure_1_text(records: list[Record]) -> str:
    """Return what the figures show, with numbers."""
    found, untrained = of_kind(records, 1), of_kind(records, 1, trained=False)
    rows = [
        [where, spread(found, score), spread(untrained, score), f"{1 / (K // 2 + 1):.3f}"]
        for where, score in (
            ("the state that follows most", "share_of_state"),
            ("all states, mean", "share_of_all"),
        )
    ]
    header = ["Share at the signal's frequency", "trained", "before training", "if all were alike"]
    return (
        "## A state's memory, frequency by frequency (Figure 1)\n\n"
        f"An SFM with 8 states and {K} frequencies ({found[0]['n_parameters']} parameters) names the period of a noisy "
        f"sine at each step, {', '.join(map(str, PERIODS[:-1]))} or {PERIODS[-1]} steps; {spread(found, 'accuracy')} "
        "of the steps of series held out are right.  Below the signal stand the amplitudes of the state that follows "
        "it most and the means over all states; dotted lines enclose the frequency of the signal.  The table says what "
        "share of a state's amplitudes is at that frequency, a mean over the steps held out.  Frequencies above 1/2 "
        f"are mirror images, neither shown nor counted.\n\n{table(header, rows)}"
    )


def figure_5_text(records: list[Record]) -> str:
    """Compare fixed and adaptive frequencies."""
    rows = []
    for network, label in (("sfm", "fixed"), ("a_sfm", "adaptive")):
        found = of_kind(records, 5, network)
        in_use = [[record["scores"]["frequencies_in_use"][i] for record in found] for i in range(len(QUARTERS))]
        rows.append(
            [
                label,
                found[0]["n_parameters"] if found else "",
                spread(found, "accuracy"),
                *(mean_and_deviation(values, 2) for values in in_use),
                spread(found, "share_at_zero", 2),
            ]
        )
    header = ["frequencies", "parameters", "accuracy", "T/4", "T/2", "3T/4", "T", "share of the first at T"]
    return (
        "## Amplitudes at T/4, T/2, 3T/4 and T (Figure 5)\n\n"
        "A sawtooth of the test set in networks of the paper's size; states in the order of their amplitude at T.  The "
        "table says how many of the 4 frequencies are in use at each time (the exponential of the entropy of the "
        "amplitudes of a state, mean over states and test waves), and how much stands in the first column.  With fixed "
        "frequencies that column does not turn at all, and the second and the fourth are mirror images but for their "
        f"gates.\n\n{table(header, rows)}"
    )


def outcomes(records: list[Record]) -> list[Outcome]:
    """Say whether training moves the memory to the signal's frequency, and adaptive frequencies are used more."""
    found, untrained = of_kind(records, 1), of_kind(records, 1, trained=False)
    result = []
    if found and untrained:
        scores = ("share_of_all", "share_of_state")
        said = (
            f"share of amplitudes at that frequency {spread(found, 'share_of_all')}, before training "
            f"{spread(untrained, 'share_of_all')}; of the state that follows most {spread(found, 'share_of_state')}, "
            f"before {spread(untrained, 'share_of_state')}"
        )
        pairs = [[[record["scores"][score] for record in group] for group in (found, untrained)] for score in scores]
        result.append(Outcome(said, share_of(sum(surely_greater(*pair) for pair in pairs), len(scores))))
    fixed, adaptive = (
        [record["scores"]["frequencies_in_use"][-1] for record in of_kind(records, 5, network)]
        for network in ("sfm", "a_sfm")
    )
    if fixed and adaptive:
        said = (
            f"of 4 frequencies in use: adaptive {mean_and_deviation(adaptive, 2)}, fixed {mean_and_deviation(fixed, 2)}"
        )
        result.append(Outcome(said, share_of(int(surely_greater(adaptive, fixed)), 1)))
    return [*result, NO_RUNS, NO_RUNS][: len(CLAIMS)]


def surely_greater(values: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether a mean over seeds is greater than another (Welch's t-test, p < 0.05)."""
    return bool(np.mean(values) > np.mean(others) and ttest_ind(values, others, equal_var=False).pvalue < 0.05)


# -- pictures


def draw(records: list[Record], folder: Path) -> None:
    """Draw all three figures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figures = {3: figure_3(plt)}
    if shown := arrays(of_kind(records, 1)):
        figures[1] = figure_1(plt, shown)
    pair = {network: arrays(of_kind(records, 5, network)) for network in ("sfm", "a_sfm")}
    if all(pair.values()):
        figures[5] = figure_5(plt, pair)
    for number, figure in figures.items():
        figure.savefig(folder / f"mechanism_{number}.png", dpi=120)
        plt.close(figure)


def figure_1(plt: Any, shown: dict[str, Any]) -> Any:
    """Draw the signal above two maps of amplitudes, on which the signal's frequency is marked."""
    figure, axes = plt.subplots(3, 1, figsize=(9, 6), sharex=True, height_ratios=(1, 1.5, 1.5), layout="constrained")
    signal, labels = np.array(shown["signal"]), np.array(shown["labels"])
    steps = np.arange(1, len(signal) + 1)
    axes[0].plot(steps, signal, color=BLUE, linewidth=1.2)
    axes[0].set(ylabel="signal", title="A noisy sine whose period changes", ylim=(-2.6, 2.6))
    changes = [0, *np.flatnonzero(np.diff(labels)) + 1, len(labels)]
    for begin, end in pairwise(changes):
        name = f"period {PERIODS[labels[begin]]}"
        axes[0].text((begin + end + 1) / 2, 1.8, name, ha="center", va="center")
    for ax, key, title in (
        (axes[1], "state", "Memory of one state, by frequency; dotted: that of the signal"),
        (axes[2], "mean", "Mean over all states"),
    ):
        amplitudes = np.array(shown[key])
        extent = (0.5, len(signal) + 0.5, -0.5 / K, 0.5 + 0.5 / K)
        image = ax.imshow(amplitudes.T, aspect="auto", origin="lower", extent=extent, interpolation="nearest")
        for begin, end in pairwise(changes):
            for side in (-0.5, 0.5):
                frequency = 1 / PERIODS[labels[begin]] + side / K
                ax.plot([begin + 0.5, end + 0.5], [frequency] * 2, color="white", linestyle=":", linewidth=1.2)
            ax.axvline(end + 0.5, color="white", linewidth=0.6, alpha=0.6)
        ax.set(title=title, ylabel="frequency ω/2π\n(cycles / step)", yticks=[0, 1 / 16, 1 / 8, 1 / 4, 1 / 2])
        ax.set_yticklabels(["0", "1/16", "1/8", "1/4", "1/2"])
        figure.colorbar(image, ax=ax, label="amplitude |S|", pad=0.01)
    axes[-1].set(xlabel="step", xlim=(0.5, len(signal) + 0.5))
    return figure


def figure_3(plt: Any) -> Any:
    """Draw two waves of each class, of the paper's variant and of the hard one."""
    from sfmts.plotting import WaveDisplay

    figure = plt.figure(figsize=(10, 4.2), layout="constrained")
    for part, variant in zip(figure.subfigures(1, 2), ("paper", "hard"), strict=True):
        X, y = make_waves(20, n_steps=100, variant=variant, random_state=0)
        axes = part.subplots(2, 2, sharey=True)
        WaveDisplay.from_arrays(X, y, n_per_class=2, display_labels=["square", "sawtooth"], ax=axes)
        part.suptitle(f'variant "{variant}"')
    return figure


def figure_5(plt: Any, pair: dict[str, dict[str, Any]]) -> Any:
    """Draw four times from left to right, fixed frequencies above adaptive ones."""
    from sfmts.plotting import AmplitudeDisplay

    figure = plt.figure(figsize=(9, 7), layout="constrained")
    labels = {"sfm": "SFM, fixed frequencies", "a_sfm": "A-SFM, adaptive frequencies"}
    for part, (network, label) in zip(figure.subfigures(2, 1), labels.items(), strict=True):
        amplitudes = np.array(pair[network]["amplitudes"])
        amplitudes = amplitudes[:, np.argsort(amplitudes[-1].sum(axis=1))]
        n_frequencies = amplitudes.shape[2]
        fixed = np.arange(n_frequencies) / n_frequencies if network == "sfm" else None
        display = AmplitudeDisplay(amplitudes, np.array(QUARTERS), n_steps=QUARTERS[-1], frequencies=fixed)
        display.plot(part.subplots(1, len(QUARTERS), sharey=True), log_scale=True)
        for ax in display.axes_:
            ax.set_xticks(range(n_frequencies))
            ax.label_outer()
        part.suptitle(label)
    return figure


if __name__ == "__main__":
    run_and_print(EXPERIMENT, __doc__, plan, fit, report)
