"""Models work in processes that were forked after PyTorch had used several threads."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing
import numpy as np
import torch
from sfmts import SFMClassifier, SFMRidgeClassifier

torch.set_num_threads(2)
X, y = np.random.default_rng(0).normal(size=(64, 80, 3)), np.arange(64) % 2
models = [SFMClassifier("lstm", base=None, max_iter=1, n_states=64).fit(X, y), SFMRidgeClassifier(560).fit(X, y)]
torch.randn(1000, 1000) @ torch.randn(1000, 1000)  # by several threads
expected = [model.predict(X) for model in models]


def work(number):
    fitted = [type(model)(**model.get_params()).fit(X, y) for model in models]
    return [model.predict(X) for model in models], len(fitted), torch.get_num_threads()


with multiprocessing.get_context("fork").Pool(2) as pool:
    for predictions, count, threads in pool.map_async(work, range(4)).get(timeout=100):
        assert count == 2 and threads == 1
        for got, want in zip(predictions, expected):
            np.testing.assert_array_equal(got, want)
assert torch.get_num_threads() == 2
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_pool_of_forked_processes_fits_and_predicts():
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    ended = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=200)
    assert ended.stdout.strip().endswith("done"), ended.stderr
