"""
What decided: importance of periods and channels
================================================

A smart watch tells standing, walking, running and badminton apart by 10 seconds of acceleration and rotation.
:class:`sfmts.SFMRidgeClassifier` is linear in the features of its oscillators, and each feature belongs to an
oscillator of one period.  So every decision is a sum over periods, decay times and channels, which
:meth:`sfmts.SFMRidgeClassifier.frequency_importance` computes and :class:`sfmts.plotting.FrequencyImportanceDisplay`
draws.

All 40 test series are classified correctly.  What speaks for or against running comes mostly from oscillators with
periods of about a second, and for walking from somewhat longer ones.  These are the periods at which the spectra of the
two classes have their peaks, although the classifier never sees a spectrum.

Run it::

    python examples/plot_importance.py

Needs sktime (which includes the series) and matplotlib: ``pip install ".[all]"``.  Takes a few seconds.
"""

# sphinx_gallery_thumbnail_number = 2

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sktime.datasets import load_basic_motions

from sfmts import SFMRidgeClassifier
from sfmts.plotting import FrequencyImportanceDisplay

OUTPUT = Path("example_output")  # folder for pictures
OUTPUT.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # more threads hardly help at this size


def save(figure, name):
    """Write a picture."""
    figure.savefig(OUTPUT / name, dpi=120)
    print(f"wrote {OUTPUT / name}")


# %%
# The motions
# -----------
# The collection BasicMotions has 40 series for training and 40 for the test, with 100 steps of 0.1 seconds.  sktime's
# arrays are (series, channels, time), which estimators take with ``layout="nct"``.

STEP = 0.1  # seconds
CHANNELS = [f"{sensor} {axis}" for sensor in ("acceleration", "rotation") for axis in "xyz"]
X_train, y_train = load_basic_motions(split="train", return_type="numpy3D")
X_test, y_test = load_basic_motions(split="test", return_type="numpy3D")
classes = np.unique(y_train)

figure, axes = plt.subplots(4, 1, figsize=(7, 6), sharex=True, layout="constrained")
for ax, label in zip(axes, classes, strict=True):
    ax.plot(STEP * np.arange(X_test.shape[2]), X_test[y_test == label][0, 0], color="#0072B2")
    ax.set_title(label)
    ax.grid(alpha=0.3)
axes[-1].set_xlabel("time (seconds)")
figure.supylabel("acceleration x")
save(figure, "importance_motions.png")

# %%
# Importance of periods
# ---------------------
# The importance of a bin of periods is the root mean square, over the test series, of what its oscillators add to the
# decision for a class.  Periods are in steps; :func:`dataclasses.replace` converts them to seconds and names the
# channels.

model = SFMRidgeClassifier(layout="nct", random_state=0).fit(X_train, y_train)
print(f"test accuracy {model.score(X_test, y_test):.3f}")


def explain(X):
    """Return the importance in seconds, with the names of the channels."""
    steps = model.frequency_importance(X)
    return replace(
        steps, periods=STEP * steps.periods, decays=STEP * steps.decays, unit="seconds", channels=np.array(CHANNELS)
    )


importance = explain(X_test)
display = FrequencyImportanceDisplay(importance, output_name="class").plot(kind="period")
display.ax_.set_title("Importance of periods")
save(display.figure_, "importance_periods.png")

# %%
# Compare with the period at which the mean spectrum of each class, over channels of equal weight, has its peak.  For
# walking and running both agree, and do so with other seeds, too.  Standing has hardly a rhythm: it is recognised by
# the absence of that of walking.  Badminton has no single period, and its most important bin depends on the seed.

frequencies = np.fft.rfftfreq(X_test.shape[2], STEP)[1:]
spectra = np.abs(np.fft.rfft(X_test, axis=2)[:, :, 1:]) ** 2
print(f"\n{'class':10}  {'most important (s)':>18}  {'peak of spectrum (s)':>20}")
for label, by_period in zip(importance.outputs, importance.by_period(), strict=True):
    spectrum = spectra[y_test == label].mean(axis=0)
    spectrum = (spectrum / spectrum.sum(axis=1, keepdims=True)).mean(axis=0)
    most = importance.period_labels[by_period.argmax()]
    print(f"{label:10}  {most:>18}  {1 / frequencies[spectrum.argmax()]:20.2f}")
print()

# %%
# Decay times and channels
# ------------------------
# An oscillator with a short decay time sees single movements, one with a long decay time the rhythm of many.  Grey
# cells have no oscillators.

figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
display = FrequencyImportanceDisplay(importance, output_name="class")
for ax, kind in zip(axes, ("heatmap", "channel"), strict=True):
    display.plot(ax, kind=kind, output="running")
figure.suptitle("What tells running from the rest")
save(figure, "importance_running.png")

# %%
# A single prediction
# -------------------
# For a single series, contributions have signs: those above zero speak for a class, those below against it.  With the
# baseline, the decision on an average series, they add up to the decisions.

walk = np.flatnonzero(y_test == "walking")[:1]
one = explain(X_test[walk])
decisions = one.baseline + one.contributions[0].sum(axis=(1, 2, 3))
print(f"{'class':10}  {'decision':>8}")
for label, decision in zip(one.outputs, decisions, strict=True):
    print(f"{label:10}  {decision:8.2f}")
assert np.allclose(decisions, model.decision_function(X_test[walk])[0])

figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
display = FrequencyImportanceDisplay(one, output_name="class")
display.plot(axes[0], kind="period")
display.plot(axes[1], kind="heatmap", output="walking")
figure.suptitle("What decided one prediction of walking")
save(figure, "importance_prediction.png")
