"""Compare SFMRegressor with simple regressions on the regression sets that come with sktime.

    python benchmarks/regression.py

The error is the root mean square on the official test set; methods with a seed show its mean and standard deviation
over three seeds. Ridge regression reads the standardised values, its penalty is cross-validated on the training set.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when the libraries below are loaded

import numpy as np
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import RidgeCV
from sklearn.metrics import root_mean_squared_error
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sktime.datasets import load_covid_3month, load_tecator
from sktime.datatypes import convert_to

from sfmts import SFMRegressor, SFMRidgeRegressor

COLLECTIONS = {"Covid3Month": load_covid_3month, "Tecator": load_tecator}
SEEDS = range(3)
METHODS = {
    "SFMRegressor()": lambda seed: SFMRegressor(random_state=seed),
    "SFMRidgeRegressor()": lambda seed: SFMRidgeRegressor(random_state=seed),
    "SFMRegressor(base=None)": lambda seed: SFMRegressor(base=None, random_state=seed),
    "ridge on values": lambda _: make_pipeline(StandardScaler(), RidgeCV(np.logspace(-6, 6, 25))),
    "1-NN": lambda _: KNeighborsRegressor(1),
    "mean": lambda _: DummyRegressor(),
}


def errors(load, method) -> np.ndarray:
    """Return the error of each seed."""
    (X, y), (X_test, y_test) = (load(split) for split in ("train", "test"))
    X, X_test = (convert_to(part, "numpy3D")[:, 0] for part in (X, X_test))  # both have one channel
    y, y_test = y.astype(float), y_test.astype(float)
    models = [METHODS[method](seed).fit(X, y) for seed in SEEDS]
    return np.array([root_mean_squared_error(y_test, model.predict(X_test)) for model in models])


def main() -> None:
    print("| method | " + " | ".join(COLLECTIONS) + " |\n" + "|---" * (1 + len(COLLECTIONS)) + "|")
    for method in METHODS:
        found = [errors(load, method) for load in COLLECTIONS.values()]
        cells = [f"{e.mean():.4g}" + (f" ± {e.std(ddof=1):.2g}" if np.ptp(e) > 1e-9 else "") for e in found]
        print("| " + " | ".join([method, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
