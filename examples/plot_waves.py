"""
Square waves, sawtooth waves, and what a network remembers of them
==================================================================

The first task of the paper on State-Frequency Memory (SFM): tell square waves from sawtooth waves that are seen at
random times.  An SFM, an LSTM with about as many weights, and a rule that learns nothing are compared, each network
with three seeds.

What came out: the rule, which counts distinct values, is right about all waves of the variants "paper" and "released",
so that accuracy there says little about a network; on "hard" it is a coin.  On "paper" both networks are at about 1.00.
On "hard" the LSTM is at 1.00 and the SFM at about 0.97, because one of its three seeds ends at about 0.92.  The SFM
does not win here: these waves, counted in steps, are no stronghold of fixed frequencies.

Run it::

    python examples/plot_waves.py

Needs matplotlib: ``pip install ".[plot]"``.  Takes about half a minute.
"""

# sphinx_gallery_thumbnail_number = 5

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.model_selection import train_test_split

from sfmts import SFMClassifier
from sfmts.datasets import count_distinct_values, make_waves
from sfmts.plotting import AmplitudeDisplay, TrainingCurveDisplay, WaveDisplay

OUTPUT = Path("example_output")  # folder for pictures
OUTPUT.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # at these sizes a second thread brings little


def save(figure, name):
    """Write a picture."""
    figure.savefig(OUTPUT / name, dpi=120)
    print(f"wrote {OUTPUT / name}")


# %%
# The waves
# ---------
# Each series holds pairs (y, t) of a value and the time at which it was seen.  In the variant "hard" the wave is noisy
# and values are replaced by their ranks, so that nothing but the order of the values tells the classes apart.

SERIES, STEPS, EPOCHS = 1000, 100, 20
CLASSES = ["square", "sawtooth"]

waves = {}
for variant in ("paper", "released", "hard"):
    X, y = make_waves(SERIES, n_steps=STEPS, variant=variant, random_state=0)
    waves[variant] = train_test_split(X.astype(np.float32), y, test_size=0.25, stratify=y, random_state=0)
    display = WaveDisplay.from_arrays(X, y, display_labels=CLASSES)
    display.figure_.suptitle(f'make_waves(variant="{variant}")')
    save(display.figure_, f"waves_{variant}.png")

# %%
# Three ways to tell them apart
# -----------------------------
# Both read the last output, as in the paper.  The width of the LSTM is the one at which it comes closest to the number
# of weights of the SFM; all else are defaults.

MODELS = {"SFM": {"network": "sfm"}, "LSTM": {"network": "lstm", "n_states": 62}}
SEEDS = range(3)

print(f"\n{SERIES * 3 // 4} series of {STEPS} steps for training, {SERIES // 4} for the test")
print(f"{'variant':8}  {'model':21}  {'weights':>7}  {'accuracy':>8}  {'worst':>5}")
fitted = {}
for variant, (X_train, X_test, y_train, y_test) in waves.items():
    trivial = np.mean(count_distinct_values(X_test) == y_test)
    print(f"{variant:8}  {'count distinct values':21}  {'-':>7}  {trivial:8.3f}  {'-':>5}")
    if variant == "released":
        continue  # much as "paper"
    for name, options in MODELS.items():
        models = [
            SFMClassifier(base=None, pooling="last", max_iter=EPOCHS, random_state=seed, **options).fit(
                X_train, y_train
            )
            for seed in SEEDS
        ]
        scores = [model.score(X_test, y_test) for model in models]
        weights = models[0].n_parameters_
        print(f"{variant:8}  {name:21}  {weights:7}  {np.mean(scores):8.3f}  {min(scores):5.3f}", flush=True)
        fitted[variant, name] = models
print(f"accuracy: on the test set, mean of {len(SEEDS)} seeds; worst: of these; {EPOCHS} epochs\n")

# %%
# How they learned
# ----------------

figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for ax, name in zip(axes, MODELS, strict=True):
    for seed, model in zip(SEEDS, fitted["hard", name], strict=True):
        TrainingCurveDisplay.from_estimator(model, name=f"seed {seed}", ax=ax, log_scale=True, markersize=4)
    ax.set_title(name)
axes[1].set_ylabel("")
figure.suptitle('Training on the variant "hard"')
save(figure, "waves_training.png")

# %%
# What the SFM remembers
# ----------------------
# The amplitude of each state at each frequency, while the network reads a square and a sawtooth of the test set: the
# paper's Figure 5.  Both pictures have the same scale of colours.

_, X_test, _, y_test = waves["hard"]
model = fitted["hard", "SFM"][0]
shown = [int(np.flatnonzero(y_test == label)[0]) for label in range(2)]
greatest = model.state_amplitudes(X_test[shown]).max()
colours = {"vmin": greatest / 1000, "vmax": greatest}
for series, name in zip(shown, CLASSES, strict=True):
    display = AmplitudeDisplay.from_estimator(model, X_test, series=series, log_scale=True, imshow_kw=colours)
    display.figure_.suptitle(f"The memory while it reads a {name} wave")
    save(display.figure_, f"waves_amplitudes_{name}.png")
