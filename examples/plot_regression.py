"""
How much fat is in the meat: a number from a whole series
=========================================================

Tecator's spectra of minced meat: 100 absorbances from 850 to 1050 nm, read here as a series from short waves to long
ones, and the share of fat in percent.  :class:`sfmts.SFMRegressor` stands beside the mean, ridge regression, ridge
regression on squares and products of ten principal components, and an LSTM with about as many weights as the
State-Frequency Memory (SFM).

What came out on the 43 test spectra: ridge regression is at an R^2 of about 0.974, the SFM at about 0.994, the LSTM at
about 0.995, and the ten components with their squares and products at about 0.998.  So the relation is not linear, and
both networks see that; but knowing that spectra are smooth and the relation nearly quadratic beats either of them, in
milliseconds.  A small grid search over the SFM's frequencies and states, on the training spectra alone, prefers fixed
frequencies and 16 states; learned frequencies do not help.

Run it::

    python examples/plot_regression.py

Needs sktime (for the spectra, which it brings along) and matplotlib: ``pip install ".[all]"``.  Takes about half a
minute.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import RidgeCV
from sklearn.metrics import PredictionErrorDisplay, r2_score, root_mean_squared_error
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sktime.datasets import load_tecator

from sfmts import SFMRegressor
from sfmts.plotting import TrainingCurveDisplay

OUTPUT = Path("example_output")  # folder for pictures
OUTPUT.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # at these sizes a second thread brings little


def save(figure, name):
    """Write a picture."""
    figure.savefig(OUTPUT / name, dpi=120)
    print(f"wrote {OUTPUT / name}")


# %%
# The spectra
# -----------
# sktime's arrays are (series, channels, time), which estimators take with ``layout="nct"``.  Spectra of thick and of
# thin samples differ in height and scale, so each is brought to mean 0 and variance 1, as chemists do.


def load(split):
    """Return raw spectra, standardised ones and shares of fat."""
    X, y = load_tecator(split=split, return_type="numpy3D")
    standard = (X - X.mean(axis=2, keepdims=True)) / X.std(axis=2, keepdims=True)
    return X, standard.astype(np.float32), y


raw, X_train, y_train = load("train")
_, X_test, y_test = load("test")
print(
    f"{len(X_train)} spectra for training, {len(X_test)} for the test, {X_train.shape[2]} wavelengths; fat from "
    f"{y_train.min():.1f} to {y_train.max():.1f} %"
)

wavelengths = np.linspace(850, 1050, X_train.shape[2])
colours = plt.get_cmap("viridis")(y_train / y_train.max())
figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharex=True, layout="constrained")
for ax, spectra, name in ((axes[0], raw, "absorbance"), (axes[1], X_train, "standardised absorbance")):
    for spectrum, colour in zip(spectra[:, 0], colours, strict=True):
        ax.plot(wavelengths, spectrum, color=colour, linewidth=0.6)
    ax.set(xlabel="wavelength (nm)", ylabel=name)
    ax.grid(alpha=0.3)
scale = plt.cm.ScalarMappable(plt.Normalize(0, y_train.max()), "viridis")
figure.colorbar(scale, ax=axes, label="fat (%)")
figure.suptitle("Spectra of minced meat")
save(figure, "regression_spectra.png")

# %%
# Six ways to tell the fat
# ------------------------
# The first three take the spectra as rows of a table, in which the order of columns means nothing.

ALPHAS = np.logspace(-8, 3, 12)
models = {
    "mean": DummyRegressor(),
    "ridge": RidgeCV(ALPHAS),
    "ridge, quadratic": make_pipeline(StandardScaler(), PCA(10), PolynomialFeatures(2), RidgeCV(ALPHAS)),
    "SFM": SFMRegressor("sfm", base=None, layout="nct", random_state=0),
    "LSTM": SFMRegressor("lstm", base=None, n_states=62, layout="nct", random_state=0),
}
predictions = {}
for name, model in models.items():
    flat = not isinstance(model, SFMRegressor)
    model.fit(X_train[:, 0] if flat else X_train, y_train)
    predictions[name] = model.predict(X_test[:, 0] if flat else X_test)

# %%
# The last is an SFM chosen by cross-validation.  R^2 and root mean squared error come from the same folds.

grid = {"network_params": [{"frequencies": "fixed"}, {"frequencies": "learned"}], "n_states": [16, 32]}
search = GridSearchCV(
    SFMRegressor("sfm", base=None, layout="nct", random_state=0),
    grid,
    cv=KFold(3, shuffle=True, random_state=0),
    scoring={"r2": "r2", "rmse": "neg_root_mean_squared_error"},
    refit="rmse",
).fit(X_train, y_train)
print(f"\n{'cross-validation of the SFM':27}  {'R^2':>15}  {'RMSE (% fat)':>15}")
results = search.cv_results_
for row, parameters in enumerate(results["params"]):
    name = f"{parameters['network_params']['frequencies']}, {parameters['n_states']} states"
    r2 = f"{results['mean_test_r2'][row]:.3f} ± {results['std_test_r2'][row]:.3f}"
    rmse = f"{-results['mean_test_rmse'][row]:.2f} ± {results['std_test_rmse'][row]:.2f}"
    print(f"{name:27}  {r2:>15}  {rmse:>15}")
predictions["SFM, grid search"] = search.predict(X_test)
frequencies = search.best_params_["network_params"]["frequencies"]
chosen = f"{frequencies} frequencies, {search.best_params_['n_states']} states"
print(f"chosen: {chosen}")

print(f"\n{'test spectra':16}  {'R^2':>6}  {'RMSE (% fat)':>12}")
for name, predicted in predictions.items():
    print(f"{name:16}  {r2_score(y_test, predicted):6.3f}  {root_mean_squared_error(y_test, predicted):12.2f}")
print()

# %%
# Predictions and training
# ------------------------

figure, axes = plt.subplots(1, 3, figsize=(12, 4.7), layout="constrained")
for ax, name in zip(axes, ("ridge", "ridge, quadratic", "SFM"), strict=True):
    PredictionErrorDisplay.from_predictions(
        y_test, predictions[name], kind="actual_vs_predicted", ax=ax, scatter_kwargs={"s": 15}
    )
    ax.set(title=f"{name}: R² {r2_score(y_test, predictions[name]):.3f}", xlabel="predicted fat (%)")
    ax.set(xlim=(-2, 55), ylim=(-2, 55), xticks=range(0, 51, 10), yticks=range(0, 51, 10))
    ax.set_aspect("equal", adjustable="box")
    ax.set_ylabel("fat (%)" if ax is axes[0] else "")
    ax.grid(alpha=0.3)
save(figure, "regression_predictions.png")

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for name in ("SFM", "LSTM"):
    TrainingCurveDisplay.from_estimator(models[name], name=name, ax=ax, log_scale=True, markersize=4)
ax.set_title("Training on spectra")
save(figure, "regression_training.png")
