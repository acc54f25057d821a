"""
Bach's chorales: predict the next chord, and write one's own
============================================================

JSB Chorales as piano-rolls: each frame says which of 88 keys are down, and :class:`sfmts.SFMDensity` learns the
distribution of a frame given those before it.  It is compared with the shares of the keys (marginals), with one
logistic regression per key on the frame before, and with an LSTM of the same recipe and about as many weights.  All
figures are mean log-likelihoods in nats per frame, keys independent given the past, over the frames from the second
on; greater is better.

What came out, on the test pieces: marginals about -11.1, logistic regressions about -9.0, both networks about -8.2.
So they use more than the frame before.  The SFM does not beat the LSTM, which is even better by about 0.1; it only
trains faster, on a CPU.  The continuation of a chorale, drawn from the SFM, has as many voices as the chorales but
no plan: listen to chorales_continuation.mid.

Run it::

    python examples/plot_chorales.py

Needs matplotlib and mido: ``pip install ".[plot,data]"``.  The file of 0.1 MB is downloaded if it is not at hand; the
environment variable SFMTS_PIANO_ROLLS may name a folder that holds JSB_Chorales.mat.  Takes about half a minute.
"""

# sphinx_gallery_thumbnail_number = 2

import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from sfmts import SFMDensity
from sfmts.datasets import fetch_piano_rolls, roll_to_midi
from sfmts.metrics import bernoulli_log_likelihood
from sfmts.plotting import PianoRollDisplay, TrainingCurveDisplay

OUTPUT = Path("example_output")  # folder for pictures and music
DATA = os.environ.get("SFMTS_PIANO_ROLLS")  # folder of JSB_Chorales.mat; None downloads it
OUTPUT.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # at these sizes a second thread brings little
threadpool_limits(1)  # nor does it to scikit-learn's regressions


def save(figure, name):
    """Write a picture."""
    figure.savefig(OUTPUT / name, dpi=120)
    print(f"wrote {OUTPUT / name}")


# %%
# The chorales
# ------------
# A frame is a quarter note; all pieces were transposed to C, and are an octave above what voices sing.

chorales = fetch_piano_rolls("jsb_chorales", data_home=DATA)
for part in ("train", "valid", "test"):
    rolls = chorales[part]
    keys = np.mean([frame.sum() for roll in rolls for frame in roll])
    print(f"{part:5}  {len(rolls):3} chorales, {sum(map(len, rolls)):6} frames, {keys:.1f} keys per frame")

# %%
# Two baselines
# -------------
# The marginals know no past at all: each key has its share of the training frames, with half a count added, since one
# key of the test pieces is never pressed in training.  The logistic regressions know the frame before.

present = np.concatenate([roll[:-1] for roll in chorales.train])
following = np.concatenate([roll[1:] for roll in chorales.train])
marginals = (following.sum(axis=0) + 0.5) / (len(following) + 1)
regressions = {
    key: LogisticRegression(max_iter=1000).fit(present, following[:, key])
    for key in range(88)
    if 0 < following[:, key].sum() < len(following)
}


def marginal(frames):
    """Return probabilities of the next frames that use no frame."""
    return np.tile(marginals, (len(frames), 1))


def from_frame_before(frames):
    """Return probabilities of the next frames, each from one frame."""
    probabilities = marginal(frames)
    for key, regression in regressions.items():
        probabilities[:, key] = regression.predict_proba(frames)[:, 1]
    return probabilities


def score(predict, rolls):
    """Return nats per frame; rolls are concatenated, because predictions use at most the previous frame."""
    before, after = (np.concatenate([roll[part] for roll in rolls]) for part in (slice(-1), slice(1, None)))
    return bernoulli_log_likelihood([after], [predict(before)])


table = [
    ("marginals", 88, score(marginal, chorales.test)),
    ("logistic regressions", 89 * len(regressions), score(from_frame_before, chorales.test)),
]

# %%
# Two networks
# ------------
# All parameters are the defaults, but for the width of the LSTM, with which it comes closest to the number of weights
# of the SFM.  The validation pieces are not used; the training pieces are scored, too, to show how much is learned by
# heart.

models = {"SFM": SFMDensity(random_state=0), "LSTM": SFMDensity("lstm", n_states=146, random_state=0)}
for name, model in models.items():
    start = time.perf_counter()
    model.fit(chorales.train)
    print(
        f"{name}: {time.perf_counter() - start:.0f} s of training, {model.score(chorales.train):.2f} nats per frame on "
        "the training pieces",
        flush=True,
    )
    table.append((name, model.n_parameters_, model.score(chorales.test)))

print(f"\n{'test pieces':20}  {'weights':>7}  {'nats per frame':>14}")
for name, weights, nats in table:
    print(f"{name:20}  {weights:7}  {nats:14.2f}")
print()

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for name, model in models.items():
    TrainingCurveDisplay.from_estimator(model, name=name, ax=ax, markersize=4)
ax.set_title("Training on JSB Chorales, with dropout")
save(figure, "chorales_training.png")

# %%
# What the SFM expects
# --------------------
# A test chorale above the predictions of each of its frames from those before.  One cell a frame: held notes are easy,
# and the predictions spread where voices move.

sfm, chorale = models["SFM"], chorales.test[0]
display = PianoRollDisplay.from_estimator(sfm, chorale, step=1.0, unit="quarters")
down = np.flatnonzero(np.any(chorale, axis=0)) + display.key_low
display.axes_[0].set_ylim(down.min() - 3, down.max() + 3)
display.figure_.suptitle("A chorale of the test set, and what the SFM expected")
save(display.figure_, "chorales_predictions.png")

# %%
# A continuation
# --------------
# Twelve frames of the chorale, and 36 drawn from the model, one after the other.

prompt = chorale[:12]
continuation = sfm.sample(36, prompt=prompt, random_state=0)
piece = np.concatenate([prompt, continuation])
roll_to_midi(piece, OUTPUT / "chorales_continuation.mid", step=1.0, unit="quarters")
print(f"wrote {OUTPUT / 'chorales_continuation.mid'}: {continuation.sum(axis=1).mean():.1f} keys per frame drawn")

display = PianoRollDisplay.from_predictions(piece, step=1.0, unit="quarters")
(ax,) = display.axes_
down = np.flatnonzero(np.any(piece, axis=0)) + display.key_low
ax.set_ylim(down.min() - 3, down.max() + 3)
ax.axvline(len(prompt), color="tab:red", linestyle="--", label="drawn from here on")
ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0))
ax.set_title("")
ax.set_title("A chorale of the test set, continued by the SFM", loc="left")
save(display.figure_, "chorales_continuation.png")
