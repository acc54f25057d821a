"""Compile `sfm.cu` at run time, cache the result, and launch it.

NVRTC and the driver are called through NVIDIA's `cuda-bindings`, which PyTorch's CUDA wheels require from 2.10 on. With
earlier ones, the extra `gpu` installs it.
This module does not touch CUDA before the first call.
"""

import ctypes
import hashlib
import importlib
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch

from sfmts.kernels import _gpu
from sfmts.kernels._sfm.gpu.layout import Layout

_logger = logging.getLogger(__name__)

SOURCES = Path(__file__).parent
_FILES = ("sfm.cu", "matrix.h", "platform.h")
_DIGEST_BYTES = hashlib.sha256().digest_size


class Program(Protocol):
    """A compiled kernel."""

    def launch(self, blocks: int, arguments: ctypes.Structure) -> None:
        """Queue ``blocks`` blocks on the current stream."""
        ...


@cache
def missing(capability: tuple[int, int]) -> str | None:
    """Return why kernels cannot be compiled or launched for a device of this capability; None if they can."""
    try:
        nvrtc, driver = _nvrtc(), _driver()
        version = _checked(nvrtc, nvrtc.nvrtcVersion())
        architectures = _checked(nvrtc, nvrtc.nvrtcGetSupportedArchs())
        driver_version = _checked(driver, driver.cuDriverGetVersion())
    except ImportError:
        return "the package cuda-bindings is not installed (pip install 'sfmts[gpu]')"
    except Exception as error:  # the bindings raise several types if a library is missing
        return f"NVRTC or the driver cannot be used: {error}"
    # Within a major version an older driver runs newer binaries.
    if driver_version // 1000 < version[0]:
        return f"the driver supports CUDA {driver_version // 1000}, NVRTC compiles for CUDA {version[0]}"
    if 10 * capability[0] + capability[1] not in architectures:
        return f"NVRTC {version[0]}.{version[1]} does not know compute capability {capability[0]}.{capability[1]}"
    return None


def load(layout: Layout, device: torch.device) -> Program:
    """Return the kernel of this layout on this device; compile it unless it is cached in memory or on disk."""
    return _load(layout, torch.device(device.type, _gpu.index(device)))


@lru_cache(maxsize=256)
def _load(layout: Layout, device: torch.device) -> Program:
    major, minor = _gpu.capability(device)
    options = compiler_options(layout, f"sm_{major}{minor}")
    cubin = cached_cubin(options, versions(), compile_cubin, cache_folder())
    return _CudaProgram(cubin, layout, device)


def versions() -> str:
    """Return the versions of NVRTC and the driver."""
    nvrtc, driver = _nvrtc(), _driver()
    return str((_checked(nvrtc, nvrtc.nvrtcVersion()), _checked(driver, driver.cuDriverGetVersion())))


def compiler_options(layout: Layout, architecture: str) -> tuple[str, ...]:
    """Return the options of NVRTC and nvcc for a layout."""
    defines = [f"-D{name}={value}" for name, value in layout.macros().items()]
    return (f"--gpu-architecture={architecture}", "--std=c++17", *defines)


def cache_folder() -> Path:
    """Return the folder of compiled kernels; without a home directory, a path that cannot be written."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfmts" / "cuda"
    except RuntimeError:
        return Path(os.devnull, "sfmts")


def cached_cubin(
    options: Sequence[str], version: str, compiler: Callable[[Sequence[str]], bytes], folder: Path
) -> bytes:
    """Read a compiled kernel from ``folder``, or compile it and write it there.

    A file begins with a digest of its name and content, so a truncated, damaged or renamed one is compiled again. Code
    of other users never runs: folder and file must be this user's own. A file is written under a temporary name and
    renamed, so other processes see all of it or nothing.
    """
    key = hashlib.sha256(repr((source_digest(), tuple(options), version)).encode()).digest()
    path = folder / f"{key.hex()}.cubin"
    if (cubin := _read(path, key)) is not None:
        return cubin
    cubin = compiler(options)
    try:
        write(path, hashlib.sha256(key + cubin).digest() + cubin)
    except OSError as error:
        _logger.info("Cannot write a compiled kernel to %s: %s", folder, error)
    return cubin


def _read(path: Path, key: bytes) -> bytes | None:
    """Return the compiled kernel in a file; None if there is none, or it is damaged or not this user's own."""
    try:
        _check_own(path.parent.stat(), path.parent)
        with path.open("rb") as file:
            _check_own(os.fstat(file.fileno()), path)
            kept = file.read()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            _logger.info("Cannot read a compiled kernel: %s", error)
        return None
    digest, cubin = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
    return cubin if hashlib.sha256(key + cubin).digest() == digest else None


def _check_own(status: os.stat_result, path: Path) -> None:
    """Raise PermissionError unless a file or folder belongs to this user, and nobody else can write to it."""
    if os.name == "posix" and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
        raise PermissionError(f"{path} belongs to another user, or others can write to it")


def write(path: Path, content: bytes) -> None:
    """Write a file of the cache atomically; raise OSError if that is impossible, or unsafe because of other users."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_own(path.parent.stat(), path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@cache
def source_digest() -> str:
    """Return a digest of the sources of the kernel."""
    digest = hashlib.sha256()
    for name in _FILES:
        digest.update((SOURCES / name).read_bytes())
    return digest.hexdigest()


def compile_cubin(options: Sequence[str]) -> bytes:
    """Compile `sfm.cu` with NVRTC, which needs no GPU; see :func:`compile_and_log`."""
    return compile_and_log(options)[0]


def compile_and_log(options: Sequence[str]) -> tuple[bytes, str]:
    """Return the compiled `sfm.cu` and what NVRTC logs, such as registers and spills with ``--ptxas-options=-v``.

    Raises
    ------
    RuntimeError
        If the compiler fails; the message has its log.
    """
    nvrtc = _nvrtc()
    source = (SOURCES / "sfm.cu").read_bytes()
    program = _checked(nvrtc, nvrtc.nvrtcCreateProgram(source, b"sfm.cu", 0, [], []))
    flags = [option.encode() for option in (*options, f"-I{SOURCES}")]
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        log = b" " * _checked(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))
        _checked(nvrtc, nvrtc.nvrtcGetProgramLog(program, log))
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(f"NVRTC cannot compile sfm.cu with {' '.join(options)}:\n{log.decode()}")
        cubin = b" " * _checked(nvrtc, nvrtc.nvrtcGetCUBINSize(program))
        _checked(nvrtc, nvrtc.nvrtcGetCUBIN(program, cubin))
        return cubin, log.decode()
    finally:
        nvrtc.nvrtcDestroyProgram(program)


class _CudaProgram:
    """A compiled kernel, loaded on one device."""

    def __init__(self, cubin: bytes, layout: Layout, device: torch.device) -> None:
        driver = _driver()
        self._layout, self._device = layout, device
        with _gpu.current(device):
            _gpu.synchronize(device)  # this makes the context of the device current
            self._module = _checked(driver, driver.cuModuleLoadData(cubin))
            name = f"sfm_{layout.direction}".encode()
            self._function = _checked(driver, driver.cuModuleGetFunction(self._module, name))
            most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            _checked(driver, driver.cuFuncSetAttribute(self._function, most, layout.shared_bytes))

    def launch(self, blocks: int, arguments: ctypes.Structure) -> None:
        driver = _driver()
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        grid, block = (blocks, 1, 1), (self._layout.threads, 1, 1)
        with _gpu.current(self._device):
            place = self._layout.shared_bytes, _gpu.stream(self._device)
            status = driver.cuLaunchKernel(self._function, *grid, *block, *place, ctypes.addressof(parameters), 0)
        _checked(driver, status)


def _nvrtc() -> Any:
    return importlib.import_module("cuda.bindings.nvrtc")


def _driver() -> Any:
    return importlib.import_module("cuda.bindings.driver")


def _checked(module: Any, result: tuple[Any, ...]) -> Any:
    """Return the result of a call of the bindings, without its status.

    Raises
    ------
    RuntimeError
        If the status is not success; torch.OutOfMemoryError if memory ran out.
    """
    status, *values = result
    if int(status) != 0:
        error = torch.OutOfMemoryError if "OUT_OF_MEMORY" in repr(status) else RuntimeError
        raise error(f"{module.__name__}: {status!r}")
    return values[0] if len(values) == 1 else tuple(values)
