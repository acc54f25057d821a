"""Try the CUDA kernel on made-up series before its first use, and remember the verdict.

A layout passes if NVRTC compiles it, the driver loads and launches it, its results are those of ``fused.py`` on the
same device, and three runs agree bit by bit. Repeated runs find most races, because the results of a race depend on the
order of the threads.

A kernel that reads a wrong address or never ends makes the device unusable for the process, which can then only end.
The marker that a trial leaves in the cache of compiled kernels tells later processes not to try it again.
"""

import hashlib
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sfmts.kernels import _gpu
from sfmts.kernels._sfm import cuda, fused
from sfmts.kernels._sfm.gpu import program
from sfmts.kernels._sfm.gpu.layout import Sizes, choose_tile
from sfmts.kernels._sfm.reference import TWO_PI, SFMState, SFMWeights

SWITCH = "SFMTS_CUDA_KERNEL"
_STEPS, _INPUTS, _RUNS = 64, 3, 3
# Largest error, relative to the largest entry of the same tensor. Hardware rounds exp and reciprocals.
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 5e-4, torch.bfloat16: 2e-2}

# For each GPU and layer: the tiles that passed, or why one of them failed. A layer with a failed tile is not used at
# all, so the name of the backend does not depend on the batch.
_passed: set[tuple[int, Sizes, int]] = set()
_failed: dict[tuple[int, Sizes], str] = {}
_lock = threading.RLock()


def verdict(weights: SFMWeights, sequences: int, accumulated: bool) -> str | None:
    """Return why the CUDA kernel must not run a layer with so many sequences; None if it may.

    Raises
    ------
    RuntimeError
        If the trial made the device unusable for this process.
    """
    if os.environ.get(SWITCH, "").lower() in ("0", "off"):
        return f"the environment variable {SWITCH} switches the CUDA kernel off"
    device, sizes = weights.V.device, cuda.sizes_of(weights, accumulated)
    tile = choose_tile(sequences, cuda.device_of(weights.V))
    layer = (_gpu.index(device), sizes)
    with _lock:
        if layer not in _failed and (*layer, tile) not in _passed:
            try:
                reason = _try(device, sizes, tile)
            except torch.OutOfMemoryError:  # depends on what else the memory holds, so it is not remembered
                return "the device has too little free memory to try the CUDA kernel"
            if reason is None:
                _passed.add((*layer, tile))
            else:
                _failed[layer] = reason
        return _failed.get(layer)


def forget() -> None:
    """Forget all verdicts of this process."""
    with _lock:
        _passed.clear()
        _failed.clear()


def _try(device: torch.device, sizes: Sizes, tile: int) -> str | None:
    """Return why a layout fails; None if it passes."""
    markers = _Markers(device, sizes, tile)
    if (pid := markers.left_behind()) is not None:
        return (
            f"process {pid} ended while it tried the CUDA kernel for these sizes (delete {markers.path(pid)} to try it "
            "again)"
        )
    try:
        with markers.trying():
            return _differences(device, sizes, tile)
    except (torch.OutOfMemoryError, _DeviceLostError):
        raise
    except Exception as error:  # of the compiler, the driver or PyTorch
        return f"the CUDA kernel failed its trial: {error}"


class _DeviceLostError(RuntimeError):
    """The trial made the device unusable for this process."""


class _Markers:
    """Files that tell which processes are trying a layout on this machine."""

    def __init__(self, device: torch.device, sizes: Sizes, tile: int) -> None:
        what = (platform.node(), _gpu.name(device), program.source_digest(), program.versions(), sizes, tile)
        self._key = hashlib.sha256(repr(what).encode()).hexdigest()
        self._folder, self._device = program.cache_folder(), device

    def path(self, pid: int) -> Path:
        """Return the marker of a process."""
        return self._folder / f"{self._key}.{pid}.trying"

    def left_behind(self) -> int | None:
        """Return a process that ended during its trial."""
        for path in self._folder.glob(f"{self._key}.*.trying"):
            pid = path.suffixes[-2].removeprefix(".")
            if pid.isdecimal() and not _is_alive(int(pid)):
                return int(pid)
        return None

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Mark the trial. The marker stays if the process ends in it, or the device is unusable after it."""
        marker = self.path(os.getpid())
        with suppress(OSError):  # without a cache, every process tries for itself
            program.write(marker, b"")
        try:
            yield
        except Exception as error:
            if _is_lost(self._device):
                raise _DeviceLostError(
                    f"The trial of the CUDA kernel made {self._device} unusable for this process ({error}). Start a "
                    f"new process, which will not try it again. {SWITCH}=off switches the kernel off."
                ) from error
            _remove(marker)
            raise
        except BaseException:  # Ctrl-C
            _remove(marker)
            raise
        _remove(marker)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _is_alive(pid: int) -> bool:
    """Return whether a process runs, this one or another."""
    if os.name != "posix":  # elsewhere os.kill would end it
        return pid == os.getpid()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def _is_lost(device: torch.device) -> bool:
    try:
        _gpu.synchronize(device)
    except Exception:
        return True
    return False


# -- the trial


@torch.enable_grad()
def _differences(device: torch.device, sizes: Sizes, tile: int) -> str | None:
    """Return how results of the kernel differ from those of the fused kernel or between runs; None if they do not."""
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
        trial = _Trial(device, sizes, tile)
        expected = trial.results(fused, sizes.real)
        runs = [trial.results(cuda, sizes.dtype) for _ in range(_RUNS)]
        _gpu.synchronize(device)
    coarse = sizes.real == torch.float32 and _rounds_products()
    tolerance = _TOLERANCES[torch.bfloat16 if coarse else sizes.dtype]
    for name, value in expected.items():
        if not all(torch.equal(run[name], runs[0][name]) for run in runs):
            return f"the CUDA kernel failed its trial: {_RUNS} runs differ in {name}"
        error = float((runs[0][name] - value).abs().max() / value.abs().max())
        if not error <= tolerance:
            return f"the CUDA kernel failed its trial: {name} differs by {error:.1e} from backend='fused'"
    return None


def _rounds_products() -> bool:
    """Return whether PyTorch multiplies float32 matrices in TensorFloat-32."""
    matmul: Any = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):  # before PyTorch 2.9
        return bool(matmul.allow_tf32)
    return "tf32" in (matmul.fp32_precision, getattr(torch.backends, "fp32_precision", None))


class _Trial:
    """Made-up series of unequal lengths that fill every multiprocessor, with a mask of the feedback."""

    def __init__(self, device: torch.device, sizes: Sizes, tile: int) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._device, self._sizes = device, sizes
        D, K, M, R = sizes.D, sizes.K, sizes.M, sizes.R
        sequences = tile * _gpu.processors(device) - (tile > 1)  # the last block lacks a sequence
        self._batch_sizes = [max(1, sequences - sequences * step // _STEPS) for step in range(_STEPS)]
        rows = sum(self._batch_sizes)
        self._t = torch.arange(1.0, _STEPS + 1).double().repeat_interleave(torch.tensor(self._batch_sizes)).to(device)
        self._mask = (2 * (self._normal(sequences, M) > 0)).to(sizes.dtype)
        self._inputs = {
            "dx": self._normal(rows, _INPUTS),
            "dV": self._normal(R, _INPUTS, scale=0.5),
            # Weak feedback: a strong one makes an adaptive layer chaotic, so that rounding errors grow.
            "dW": self._normal(R, M, scale=0.3 * M**-0.5),
            "db": self._normal(R),
            "dU_o": self._normal(K, M, D, scale=D**-0.5),
            "dW_z": self._normal(K, M, D, scale=D**-0.5),
            "db_z": self._normal(K, M),
            "dre": self._normal(sequences, D, K),
            "dim": self._normal(sequences, D, K),
            "dz": self._normal(sequences, M),
        }
        self._above = [self._normal(rows, M), self._normal(sequences, D, K), self._normal(sequences, D, K)]

    def _normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        values = scale * torch.randn(shape, generator=self._generator, dtype=torch.float64)
        return values.to(self._sizes.dtype).to(self._device)

    def results(self, kernel: ModuleType, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return output, last state and all gradients of a kernel that computes in a type."""
        leaves = {name: value.to(dtype, copy=True).requires_grad_() for name, value in self._inputs.items()}
        x, *matrices = list(leaves.values())[:7]
        omega = None
        if not self._sizes.adaptive:
            K = self._sizes.K
            omega = TWO_PI * (torch.arange(K, dtype=torch.float64, device=self._device) + 0.5) / K
            leaves["domega"] = omega.requires_grad_()
        weights = SFMWeights._make((*matrices, omega))
        state = SFMState.zeros(self._batch_sizes[0], weights)
        state = state._replace(re=leaves["dre"], im=leaves["dim"], z=leaves["dz"])
        z, last = kernel.sfm(
            *(x, self._batch_sizes, self._t, weights, state),
            accumulated=self._sizes.accumulated,
            feedback_mask=self._mask.to(dtype),
        )
        found = {"z": z, "the real part of the last state": last.re, "its imaginary part": last.im}
        above = [value.to(result.dtype) for value, result in zip(self._above, found.values(), strict=True)]
        gradients = torch.autograd.grad(list(found.values()), list(leaves.values()), above)
        found |= dict(zip(leaves, gradients, strict=True))
        return {name: value.detach().to(torch.float64) for name, value in found.items()}
