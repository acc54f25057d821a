"""
One protocol for several networks: a grid search on Japanese vowels
===================================================================

Nine men say two vowels; the task is to tell who spoke, from 7 to 29 steps of 12 coefficients.  The State-Frequency
Memory (SFM) with fixed, learned and adaptive frequencies, an LSTM and a GRU go through the same pipeline, the same
folds and the same training, each with about 19 000 weights.  What a network does not know, such as the frequencies of
an LSTM, it leaves aside; so they are a list of grids here, in which nothing is fitted twice.

What came out, as accuracy in cross-validation: GRU, LSTM and the SFM with fixed frequencies at about 0.96, learned and
adaptive frequencies at about 0.94.  The folds of one network differ by 0.02 to 0.03 (standard deviation), so no order
can be read from this; certainly the SFM does not win.  The GRU, first by a hair, has about 0.98 on the 370 test
utterances.

Run it::

    python examples/plot_grid_search.py

Needs sktime (for the vowels, which it brings along) and matplotlib: ``pip install ".[all]"``.  Takes about half a
minute.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold
from sklearn.pipeline import Pipeline
from sktime.datasets import load_japanese_vowels

from sfmts import PanelScaler, SFMClassifier
from sfmts.plotting import TrainingCurveDisplay

OUTPUT = Path("example_output")  # folder for pictures
OUTPUT.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # at these sizes a second thread brings little


def save(figure, name):
    """Write a picture."""
    figure.savefig(OUTPUT / name, dpi=120)
    print(f"wrote {OUTPUT / name}")


# %%
# The vowels
# ----------
# Series of unequal length are lists of arrays (steps, channels).


def load(split):
    """Return series and speakers."""
    frames, y = load_japanese_vowels(split=split, return_type="df-list")
    return [frame.to_numpy(dtype=np.float32) for frame in frames], y


(X_train, y_train), (X_test, y_test) = load("train"), load("test")
lengths = [len(series) for series in X_train + X_test]
print(
    f"{len(X_train)} utterances for training, {len(X_test)} for the test, {min(lengths)} to {max(lengths)} steps of "
    f"{X_train[0].shape[1]} channels, {len(np.unique(y_train))} speakers"
)

# %%
# The protocol
# ------------
# Widths are chosen so that all networks have about as many weights.  A second scorer writes down how many these are.

model = SFMClassifier(base=None, pooling="last", max_iter=30, batch_size=32, random_state=0)
pipeline = Pipeline([("scale", PanelScaler()), ("model", model)])
frequencies = [{"frequencies": name} for name in ("fixed", "learned", "adaptive")]
grids = [
    {"model__network": ["sfm"], "model__network_params": frequencies},
    {"model__network": ["lstm"], "model__n_states": [62]},
    {"model__network": ["gru"], "model__n_states": [72]},
]
search = GridSearchCV(
    pipeline,
    grids,
    cv=RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0),
    scoring={"accuracy": "accuracy", "weights": lambda model, X, y: model[-1].n_parameters_},
    refit="accuracy",
).fit(X_train, y_train)

# %%
# The results
# -----------
# The spread is the standard deviation over the ten folds: what another choice of 54 test utterances changes.

results = search.cv_results_
names = [
    " ".join([parameters["model__network"], *parameters.get("model__network_params", {}).values()])
    for parameters in results["params"]
]
accuracy, spread = results["mean_test_accuracy"], results["std_test_accuracy"]
print(f"\n{'network':12}  {'weights':>7}  {'accuracy':>15}  {'seconds of a fit':>16}")
for name, weights, mean, deviation, seconds in zip(
    names, results["mean_test_weights"], accuracy, spread, results["mean_fit_time"], strict=True
):
    print(f"{name:12}  {weights:7.0f}  {f'{mean:.3f} ± {deviation:.3f}':>15}  {seconds:16.1f}")
best = names[search.best_index_]
print(f"first: {best}; fitted to all training utterances, {search.score(X_test, y_test):.3f} on the test set\n")

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
colours = ["#0072B2" if name.startswith("sfm") else "#E69F00" for name in names]
places = np.arange(len(names))
ax.barh(places, accuracy, xerr=spread, color=colours, alpha=0.85, capsize=4, height=0.65)
ax.set_yticks(places, names)
ax.invert_yaxis()
ax.set(xlim=(0.9, 1.0), xlabel="accuracy in cross-validation (bars begin at 0.9)", title="Japanese vowels: ten folds")
ax.grid(axis="x", alpha=0.3)
ax.set_axisbelow(True)
save(figure, "grid_search.png")

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
TrainingCurveDisplay.from_estimator(search, name=best, ax=ax, log_scale=True, markersize=4)
ax.set_title("Training of the first, on all training utterances")
save(figure, "grid_search_training.png")
