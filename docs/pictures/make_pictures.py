"""Draws the schematic pictures of the documentation, as SVG files beside this script.

    python docs/pictures/make_pictures.py

The files are committed, so that the documentation builds without this; run it again after a change here.  Text stays
text, and nothing in a file depends on the time or the machine.  Needs sktime and matplotlib: ``pip install ".[all]"``.
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from sktime.datasets import load_airline

from sfmts import SFMForecaster

BLUE, ORANGE, GREEN, RED, GREY, DARK = "#4477aa", "#ee9944", "#228833", "#bb4455", "#bbbbbb", "#333333"
CHANNELS = (BLUE, ORANGE, GREEN)

plt.rcParams.update(
    {
        "font.family": "sans-serif",
        "font.size": 10,
        "svg.fonttype": "none",
        "svg.hashsalt": "sfmts",
        "text.color": DARK,
        "axes.edgecolor": GREY,
        "axes.labelcolor": DARK,
        "xtick.color": DARK,
        "ytick.color": DARK,
    }
)


def canvas(width, height):
    """Return an empty picture whose unit is a tenth of an inch, with y downwards."""
    figure = plt.figure(figsize=(width / 10, height / 10))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    return figure, ax


def cell(ax, x, y, colour, width=2.0, height=2.0, alpha=0.55, text=""):
    """One number, or a label."""
    ax.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="white", linewidth=1, alpha=alpha))
    if text:
        ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)


def arrow(ax, start, end, label, offset=(0.0, 0.0), **text):
    """Draw an arrow with words at its middle."""
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": DARK})
    middle = (np.array(start) + np.array(end)) / 2 + offset
    ax.text(*middle, label, **{"ha": "center", "va": "center", **text})


def table(ax, x, y, n_rows, columns, title):
    """Draw a series as an array: a row for each step, a column for each channel."""
    ax.text(x + len(columns), y - 1.4, title, ha="center", fontsize=10)
    for row in range(n_rows):
        for column, colour in enumerate(columns):
            cell(ax, x + 2 * column, y + 2 * row, colour)


def ragged():
    """Draw a list of arrays of unequal length, and the curves that they hold."""
    lengths = (9, 5, 7)
    figure, ax = canvas(84, 27)
    for number, length in enumerate(lengths):
        table(ax, 7 + 10 * number, 4, length, CHANNELS[:2], f"X[{number}]: ({length}, 2)")
    arrow(ax, (5, 4), (5, 21), "time", (-1.6, 0), rotation=90)
    arrow(ax, (7, 23.2), (11, 23.2), "channels", (0, 1.5))
    for number, length in enumerate(lengths):
        panel = figure.add_axes((45 / 84, (17.5 - 5.9 * number) / 27, 36 / 84, 4.6 / 27))
        steps = np.arange(length)
        for channel, colour in enumerate(CHANNELS[:2]):
            values = np.sin(0.9 * steps + number + 2 * channel) * (0.8 - 0.3 * channel)
            panel.plot(steps, values, "o-", color=colour, markersize=3, linewidth=1)
        panel.set(xlim=(-0.4, 8.6), ylim=(-1.1, 1.1), xticks=range(9) if number == 2 else [], yticks=[])
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_ylabel(f"X[{number}]", rotation=0, ha="right", va="center")
    panel.set_xlabel("step")
    return figure


def axis_order():
    """Arrays (n, T), (n, T, C) and (n, C, T), with the same channels in the same colours."""
    figure, ax = canvas(92, 25)
    n, T, C = 3, 6, 3
    pale = ("#a1b9d2", "#f6cb9f", "#8fc299")  # opaque, as the sheets overlap

    ax.text(11, 2, "(n, T)", ha="center", weight="bold")
    for series in range(n):
        for step in range(T):
            cell(ax, 6 + 2 * step, 6 + 2 * series, pale[0], alpha=1.0)
        ax.text(5.4, 7 + 2 * series, f"{series}", ha="right", va="center", fontsize=8)
    arrow(ax, (6, 5), (18, 5), "time", (0, -0.9))
    arrow(ax, (3.4, 6), (3.4, 12), "series", (-1.2, 0), rotation=90)
    ax.text(11, 13.6, "one channel,\na row for each series", ha="center", va="top")

    for left, title, channels_across, note in (
        (28, '(n, T, C), layout="ntc"', True, "sfmts, Keras"),
        (60, '(n, C, T), layout="nct"', False, "sktime, aeon"),
    ):
        rows, columns = (T, C) if channels_across else (C, T)
        down, across = ("time", "channels") if channels_across else ("channels", "time")
        ax.text(left + 8, 2, title, ha="center", weight="bold")
        for series in reversed(range(n)):
            x, y = left + 2 + 2.2 * series, 8.4 - 1.2 * series
            for row in range(rows):
                for column in range(columns):
                    cell(ax, x + 2 * column, y + 2 * row, pale[column if channels_across else row], alpha=1.0)
            ax.add_patch(Rectangle((x, y), 2 * columns, 2 * rows, fill=False, edgecolor=DARK, linewidth=0.8))
        right, bottom = left + 2 + 2 * columns, 8.4 + 2 * rows
        arrow(ax, (left + 0.9, 8.4), (left + 0.9, bottom), down, (-1.3, 0), rotation=90)
        arrow(ax, (left + 2, bottom + 1), (right, bottom + 1), across, (0, 1.2))
        arrow(ax, (right + 0.8, bottom), (right + 5.2, bottom - 2.4), "series", (2.2, 1.2), ha="left")
        ax.text(left + 13.5 + columns, 8.4, f"as in\n{note}", va="top", ha="left", fontsize=9)
    return figure


def time_stamps():
    """One series at irregular times; the phase of a frequency by index and by time stamps."""
    rng = np.random.default_rng(4)
    time = np.cumsum(rng.exponential(1.0, size=14))
    values = np.sin(1.1 * time)
    figure, axes = plt.subplots(2, 1, figsize=(8.4, 4.2), sharex=True, height_ratios=(1.2, 1))
    fine = np.linspace(0, time[-1] + 0.5, 400)
    axes[0].plot(fine, np.sin(1.1 * fine), color=GREY, linewidth=1)
    axes[0].plot(time, values, "o", color=BLUE)
    axes[0].set(ylabel="channel 0: value", ylim=(-1.3, 1.3), yticks=(-1, 0, 1))
    axes[0].vlines(time, -1.3, values, color=GREY, linewidth=0.6, linestyle=":")
    turns = np.arange(1, len(time) + 1) / 4
    axes[1].plot(time, turns, "s-", color=ORANGE, markersize=4, linewidth=1, label="by index, ¼ a step")
    axes[1].plot(time, time / 4, "o-", color=BLUE, markersize=4, linewidth=1, label="by time stamps, ¼ a second")
    axes[1].set(xlabel="channel 1: time stamp in seconds", ylabel="phase in turns")
    axes[1].legend(frameon=False, loc="upper left", fontsize=9)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    figure.tight_layout()
    return figure


def targets():
    """Draw y for each estimator, with a series of three channels."""
    figure, ax = canvas(92, 42)
    T, left, top = 7, 6, 6

    def series(y):
        for step in range(T):
            for channel, colour in enumerate(CHANNELS):
                cell(ax, left + 3 * step, y + 1.3 * channel, colour, width=3, height=1.3)

    arrow(ax, (left, top - 1.6), (left + 3 * T, top - 1.6), "time", (0, -1.1))
    rows = (
        ("SFMClassifier", "y: (n,), one label for each series"),
        ("SFMRegressor", "y: (n,) or (n, targets), numbers for each series"),
        ("SFMLabeler", "y: list of (T_i,), a label for each step"),
        ("SFMDensity", "no y: each frame is the target of the frames before it"),
        ("SFMForecaster", "y: the series itself; targets are the H steps to come"),
    )
    for number, (name, text) in enumerate(rows):
        y = top + 7.2 * number
        ax.text(left + 3 * T + 16, y + 0.6, name, weight="bold", va="center")
        ax.text(left + 3 * T + 16, y + 2.6, text, va="center")
        end = left + 3 * T
        if name == "SFMClassifier":
            series(y)
            arrow(ax, (end + 0.5, y + 1.95), (end + 5, y + 1.95), "")
            cell(ax, end + 5.4, y + 0.7, RED, width=6, height=2.5, text='"fast"')
        elif name == "SFMRegressor":
            series(y)
            arrow(ax, (end + 0.5, y + 1.95), (end + 5, y + 1.95), "")
            cell(ax, end + 5.4, y + 0.7, RED, width=6, height=2.5, text="3.14")
        elif name == "SFMLabeler":
            series(y - 0.6)
            for step, label in enumerate("aabbbca"):
                cell(ax, left + 3 * step, y + 3.5, RED, width=3, height=1.7, text=label)
        elif name == "SFMDensity":
            for step in range(T):
                for channel in range(3):
                    on = (step + channel) % 3 == 0
                    cell(ax, left + 3 * step, y + 1.3 * channel, DARK if on else GREY, 3, 1.3, alpha=0.8 if on else 0.3)
            ax.add_patch(Rectangle((left, y), 15, 3.9, fill=False, edgecolor=BLUE, linewidth=2))
            ax.add_patch(Rectangle((left + 15, y), 3, 3.9, fill=False, edgecolor=RED, linewidth=2))
        else:
            for step in range(T):
                cell(ax, left + 3 * step, y + 0.7, BLUE, width=3, height=2.5)
            for step in range(4):
                cell(ax, end + 3 * step, y + 0.7, RED, width=3, height=2.5, alpha=0.35, text=f"{step + 1}")
    return figure


def window():
    """How a forecaster cuts a series: windows of the past, horizons, and the part set aside."""
    figure, ax = plt.subplots(figsize=(8.4, 3.4))
    steps = np.arange(120)
    values = 0.01 * steps + np.sin(2 * np.pi * steps / 12) * (0.4 + 0.002 * steps)
    ax.plot(steps, values, color=DARK, linewidth=1)
    ax.axvspan(96, 119.5, color=GREEN, alpha=0.12, linewidth=0)
    ax.text(108, 2.55, "last fifth:\nset aside to choose", ha="center", va="top", fontsize=9)
    for number, cut in enumerate((36, 58, 80)):
        y = -0.85 - 0.32 * number
        ax.barh(y, 24, left=cut - 24, height=0.2, color=BLUE, alpha=0.7)
        ax.barh(y, 12, left=cut, height=0.2, color=RED, alpha=0.7)
    ax.text(24, -0.68, "context", ha="center", va="bottom", fontsize=9, color=BLUE)
    ax.text(42, -0.68, "horizon", ha="center", va="bottom", fontsize=9, color=RED)
    ax.set(xlim=(0, 120), ylim=(-1.75, 2.6), yticks=[], xlabel="step")
    ax.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    return figure


def frequencies():
    """Four frequencies of index time as they are sampled, and an oscillator that forgets."""
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.9), width_ratios=(1.25, 1))
    fine, steps = np.linspace(0, 8, 400), np.arange(9)
    for k, colour in enumerate((DARK, BLUE, GREEN, ORANGE)):
        base = -2.6 * k
        axes[0].plot(fine, base + np.cos(2 * np.pi * k * fine / 4), color=colour, alpha=0.45, linewidth=1)
        axes[0].plot(steps, base + np.cos(2 * np.pi * k * steps / 4), "o", color=colour, markersize=4)
        axes[0].text(-0.4, base, f"k = {k}", ha="right", va="center")
    axes[0].set(xlim=(-1.6, 8.2), yticks=[], xticks=range(9), xlabel="step", title="cos(2π k t / 4) at whole steps")
    S, path = 0j, []
    for t in range(1, 41):
        S = 0.9 * S + (1.0 if t == 1 else 0.0) * np.exp(1j * np.pi / 6 * t)
        path.append(S * np.exp(-1j * np.pi / 6 * t))
    path = np.array(path)
    axes[1].plot(np.arange(1, 41), path.real, "o-", color=BLUE, markersize=3, linewidth=1, label="Re H")
    axes[1].plot(np.arange(1, 41), np.abs(path), color=RED, linewidth=1.5, label="|H| = |S|")
    axes[1].set(xlabel="step", title="after one impulse, f = 0.9, ω = 2π/12", yticks=(-1, 0, 1), ylim=(-1.1, 1.15))
    axes[1].legend(frameon=False, loc="upper right")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_fontsize(10)
    axes[0].spines["left"].set_visible(False)
    figure.tight_layout()
    return figure


def archive_frequencies():
    """Draw the accuracy of the fixed memory with its frequencies and with all of them at zero, from the benchmark."""
    accuracies = defaultdict(list)
    for line in (Path(__file__).parents[2] / "benchmarks/results/archive.jsonl").read_text().splitlines():
        run = json.loads(line)
        if run["method"].startswith("ridge") and "missing" not in run:
            accuracies[run["collection"], run["method"]].append(run["accuracy"])
    names = sorted({name for name, _ in accuracies})
    errors = np.array(
        [[100 - 100 * np.mean(accuracies[name, method]) for method in ("ridge_zero", "ridge")] for name in names]
    )
    figure, ax = plt.subplots(figsize=(5.2, 4.6))
    limits = (0.04, 90)
    ax.plot(limits, limits, color=GREY, linewidth=1)
    ax.plot(*np.maximum(errors, 0.06).T, "o", color=BLUE, markersize=5, alpha=0.75, markeredgewidth=0)
    ax.set(xscale="log", yscale="log", xlim=limits, ylim=limits, aspect="equal")
    ticks = ([0.06, 0.3, 1, 3, 10, 30], ["0", "0.3", "1", "3", "10", "30"])
    ax.set_xticks(*ticks, minor=False)
    ax.set_yticks(*ticks, minor=False)
    ax.minorticks_off()
    ax.set(xlabel="error with all frequencies zero, %", ylabel="error with random frequencies, %")
    better, worse = (errors[:, 1] < errors[:, 0]).sum(), (errors[:, 1] > errors[:, 0]).sum()
    ax.text(0.97, 0.05, f"frequencies help: {better}", transform=ax.transAxes, ha="right", color=BLUE)
    ax.text(0.03, 0.93, f"they hurt: {worse}", transform=ax.transAxes, color=DARK)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def accuracy():
    """Draw the mean accuracies of the archive's benchmark, from its table."""
    page = (Path(__file__).parents[2] / "benchmarks/README.md").read_text(encoding="utf-8")
    table = page.split("### Comparison over all columns")[1].split("###")[0]
    rows = dict(re.findall(r"^\| ([^|]+?) \| (0\.\d+) \|", table, flags=re.MULTILINE))
    names = {
        "1NN-DTW (published)": "1-NN, dynamic time warping",
        "ResNet (published)": "ResNet",
        "InceptionTime (published)": "InceptionTime",
        "ROCKET (published)": "ROCKET",
        "MiniROCKET": "MiniROCKET",
        "MultiROCKET-Hydra": "MultiROCKET-Hydra",
        "HC2 (published)": "HIVE-COTE 2",
        "SFMClassifier": "SFMClassifier()",
    }
    figure, ax = plt.subplots(figsize=(6.4, 2.9))
    for y, row in enumerate(names):
        value, colour = float(rows[row]), RED if row == "SFMClassifier" else BLUE
        ax.plot(value, y, "o", color=colour)
        ax.text(value + 0.004, y, f"{value:.3f}", va="center", color=colour)
    ax.set(yticks=range(len(names)), yticklabels=names.values(), xlim=(0.78, 0.95), xticks=(0.8, 0.85, 0.9, 0.95))
    ax.set(xlabel="mean accuracy on 40 collections")
    ax.grid(axis="y", color=GREY, alpha=0.4, linestyle=":")
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    return figure


def forecast():
    """Draw the forecast that README prints."""
    passengers = load_airline()
    forecaster = SFMForecaster(sp=12, random_state=0).fit(passengers[:-12], fh=range(1, 13))
    figure, ax = plt.subplots(figsize=(6.4, 2.6))
    recent, ahead = passengers[-60:], forecaster.predict_interval(coverage=0.9)
    time = [period.to_timestamp() for period in ahead.index]
    ax.plot([period.to_timestamp() for period in recent.index], recent, color=DARK, linewidth=1, label="passengers")
    ax.fill_between(time, *ahead.to_numpy().T, color=BLUE, alpha=0.25, linewidth=0, label="90 % interval")
    ax.plot(time, forecaster.predict(), color=BLUE, label="forecast")
    ax.set(ylabel="thousands a month", ylim=(0, None))
    ax.legend(frameon=False, loc="lower left", ncols=3)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


PICTURES = (ragged, axis_order, time_stamps, targets, window, frequencies, archive_frequencies, accuracy, forecast)


def main():
    """Write all pictures."""
    parser = argparse.ArgumentParser(description="Draw the documentation's schematic pictures.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder for the SVG files")
    output = parser.parse_args().output
    for picture in PICTURES:
        figure = picture()
        path = output / f"{picture.__name__}.svg"
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        plt.close(figure)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
