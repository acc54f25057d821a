import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before scipy is imported: scikit-learn's suite then skips nothing
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may refuse to be deterministic

import shutil

import pytest
import torch

from sfmts.kernels._workspace import Workspace
from tests.kernel_host import FakeGpu, Host, new_process


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """Fill every `torch.empty` with NaN, so that an entry nobody has written is found."""
    monkeypatch.setattr(Workspace, "limit", 0)  # working memory is not used again, but always new
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    """Compile the GPU kernel with g++."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ to compile the kernel with")
    return Host(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def fake_gpu(host, tmp_path_factory):
    """Load the fake driver in place of NVIDIA's."""
    pytest.importorskip("cuda.bindings.driver", reason="the package cuda-bindings is not installed")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    return FakeGpu(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def gpu(fake_gpu, host, monkeypatch, tmp_path):
    """A machine with a GPU that no process has used yet."""
    fake_gpu.install(monkeypatch, host)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SFMTS_CUDA_KERNEL", raising=False)
    new_process()
    yield fake_gpu
    new_process()
