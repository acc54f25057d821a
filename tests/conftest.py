import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before scipy is imported: scikit-learn's suite then skips nothing
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may refuse to be deterministic

import pytest
import torch

from sfmts.kernels._workspace import Workspace


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """Fill every `torch.empty` with NaN, so that an entry nobody has written is found."""
    monkeypatch.setattr(Workspace, "limit", 0)  # working memory is not used again, but always new
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)
