"""
Decide before the end: early classification of a stream
=======================================================

An actor either draws a gun and aims it or points with an empty hand, and a camera follows the hand: the collection
GunPoint.  How much of a movement is needed to tell which?  :class:`sfmts.SFMRidgeClassifier` with
``directions="forward"`` reads a series from its beginning only, and its :meth:`sfmts.SFMRidgeClassifier.stream` takes
one step at a time, at a cost that does not depend on how many came before.

What came out: after 40 % of a movement, 2 of 5 seconds, classifiers trained on that share are right about all 150 test
series, and after 30 % about 0.97 of them.  A classifier that saw only whole movements needs as long to be useful, but
is near chance in the first fifth.  The nearest neighbour, trained on each share, has at most 0.93.  A stream of 10,000
features takes some 20 microseconds for a step and a decision on one core.

Run it::

    python examples/plot_early_classification.py

Needs sktime (which includes the series) and matplotlib: ``pip install ".[all]"``.  Takes about 10 seconds.
"""

# sphinx_gallery_thumbnail_number = 3

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier
from sktime.datasets import load_gunpoint
from threadpoolctl import threadpool_limits

from sfmts import SFMRidgeClassifier

OUTPUT = Path("example_output")  # folder for pictures
OUTPUT.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # more threads hardly help at this size
threadpool_limits(1)


def save(figure, name):
    """Write a picture."""
    figure.savefig(OUTPUT / name, dpi=120)
    print(f"wrote {OUTPUT / name}")


# %%
# The movements
# -------------
# 50 series for training and 150 for the test, with 150 steps: 5 seconds at 30 pictures a second.  Both movements raise
# the hand, hold it and lower it again.

RATE = 30  # steps a second
COLOURS = {"gun": "#0072B2", "point": "#D55E00"}
NAMES = {"1": "gun", "2": "point"}
X_train, y_train = load_gunpoint(split="train", return_type="numpy3D")
X_test, y_test = load_gunpoint(split="test", return_type="numpy3D")
X_train, X_test = (X.transpose(0, 2, 1) for X in (X_train, X_test))  # (series, time, channels)
y_train, y_test = (np.array([NAMES[label] for label in y]) for y in (y_train, y_test))
n_steps = X_train.shape[1]
seconds = np.arange(1, n_steps + 1) / RATE

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for label, colour in COLOURS.items():
    ax.plot(seconds, X_train[y_train == label, :, 0].T, color=colour, alpha=0.4, linewidth=0.8)
    ax.plot([], color=colour, label=label)  # a full line for the legend
ax.set(title="Training series", xlabel="time (seconds)", ylabel="position of the hand (standardised)")
ax.legend()
ax.grid(alpha=0.3)
save(figure, "early_series.png")

# %%
# How much of a series is needed
# ------------------------------
# Three ways to classify the beginnings of series:
#
# * one classifier for each share, trained on that share of the training series;
# * a single classifier, trained on whole series;
# * a single classifier, trained on ten beginnings of each series, from 10 % to all of it.
#
# The nearest neighbour, with Euclidean distance and one model for each share, is the baseline.

SHARES = np.arange(1, 11) / 10
SEEDS = range(3)


def begin(X, share):
    """Return the first steps of all series."""
    return X[:, : round(share * n_steps)]


def new_classifier(seed, **parameters):
    """Return a classifier that reads forwards."""
    return SFMRidgeClassifier(directions="forward", random_state=seed, **parameters)


def curve(model_of):
    """Return the test accuracy for each share, the mean over the seeds."""
    return np.array(
        [np.mean([model_of(share, seed).score(begin(X_test, share), y_test) for seed in SEEDS]) for share in SHARES]
    )


def score_neighbour(share):
    """Return the test accuracy of the nearest neighbour."""
    train, test = (begin(X, share)[:, :, 0] for X in (X_train, X_test))
    return KNeighborsClassifier(n_neighbors=1).fit(train, y_train).score(test, y_test)


whole = [new_classifier(seed).fit(X_train, y_train) for seed in SEEDS]
beginnings = [series for share in SHARES for series in begin(X_train, share)]
single = [new_classifier(seed).fit(beginnings, np.tile(y_train, len(SHARES))) for seed in SEEDS]
curves = {
    "one for each share": curve(lambda share, seed: new_classifier(seed).fit(begin(X_train, share), y_train)),
    "trained on beginnings": curve(lambda share, seed: single[seed]),
    "trained on whole series": curve(lambda share, seed: whole[seed]),
    "nearest neighbour": np.array([score_neighbour(share) for share in SHARES]),
}
print(f"{'test accuracy after':24}" + "".join(f"{share:7.0%}" for share in SHARES))
for name, accuracies in curves.items():
    print(f"{name:24}" + "".join(f"{accuracy:7.3f}" for accuracy in accuracies))

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
styles = zip(("#0072B2", "#009E73", "#D55E00", "0.4"), ("o-", "s-", "^-", "x--"), strict=True)
for (name, accuracies), (colour, style) in zip(curves.items(), styles, strict=True):
    ax.plot(100 * SHARES, accuracies, style, color=colour, label=name)
ax.set(title="How early two movements can be told apart", xlabel="share of the series seen (%)", ylabel="test accuracy")
ax.set_xticks(100 * SHARES)
ax.grid(alpha=0.3)
ax.legend(loc="lower right")
save(figure, "early_accuracy.png")

# %%
# The collection was standardised over whole series, so the level of a beginning says a little about what follows, which
# a real stream would not know.  With ``scale="series"``, which standardises each beginning anew, all are still right
# after 40 %.

fair = curve(lambda share, seed: new_classifier(seed, scale="series").fit(begin(X_train, share), y_train))
print(f"{'one, standardised anew':24}" + "".join(f"{accuracy:7.3f}" for accuracy in fair) + "\n")

# %%
# A stream
# --------
# The classifier trained on beginnings reads all test series step by step, and decides after each step.  The result is
# that of the same classifier on the steps so far.  The first 14 decisions are left out: the shortest beginning in the
# training had 15 steps.
#
# Do not use ``predict_proba`` here: it is calibrated by leaving out one training series at a time, but nine other
# beginnings of the same movement remain, so that probabilities are too high.

model = single[0]
decisions = np.empty(X_test.shape[:2])
start = time.perf_counter()
for number, series in enumerate(X_test):
    stream = model.stream()
    for step, value in enumerate(series):
        stream.update(value)
        decisions[number, step] = stream.decision_function()
elapsed = time.perf_counter() - start
print(f"{model.n_features_out_} features: {1e6 * elapsed / decisions.size:.0f} microseconds for a step and a decision")
middle = n_steps // 2
assert np.allclose(decisions[:, middle - 1], model.decision_function(X_test[:, :middle]), atol=1e-3)
first = round(SHARES[0] * n_steps)
decisions[:, : first - 1] = np.nan

shown = {label: np.flatnonzero(y_test == label)[0] for label in NAMES.values()}
figure, axes = plt.subplots(2, 1, figsize=(7, 5.5), sharex=True, layout="constrained")
for label, number in shown.items():
    axes[0].plot(seconds, X_test[number, :, 0], color=COLOURS[label], label=label)
    axes[1].plot(seconds, decisions[number], color=COLOURS[label], label=label)
axes[0].set(title="Two test series", ylabel="position of the hand")
axes[0].legend()
axes[1].axhline(0, color="0.4", linewidth=0.8)
axes[1].set(
    title="Decision after each step",
    xlabel="time (seconds)",
    ylabel=f"{model.classes_[0]}  <  0  <  {model.classes_[1]}",
)
for ax in axes:
    ax.grid(alpha=0.3)
save(figure, "early_stream.png")

# %%
# When to stop
# ------------
# A simple rule: stop when the decision has been for the same class for a while.  The longer that is, the more accurate
# the result and the later it comes.  The last column has the accuracy if all series are stopped at the median time.

votes = np.where(decisions[:, first - 1 :] > 0, 1, 0)
is_right = np.array([model.classes_[vote] for vote in votes]) == y_test[:, None]
times = seconds[first - 1 :]
print(f"\n{'same for (s)':>12}  {'accuracy':>8}  {'median time (s)':>15}  {'accuracy at that time':>21}")
for hold in (0.5, 1.0, 1.5):
    stops = []
    for vote in votes:
        changes = np.flatnonzero(np.diff(vote, prepend=1 - vote[0]))  # where runs of one class start
        lengths = np.diff(changes, append=len(vote))
        long = changes[lengths >= hold * RATE]
        stops.append(long[0] + round(hold * RATE) - 1 if len(long) else len(vote) - 1)
    accuracy = is_right[np.arange(len(stops)), stops].mean()
    median = int(np.median(stops))
    print(f"{hold:12.1f}  {accuracy:8.3f}  {times[median]:15.1f}  {is_right[:, median].mean():21.3f}")
