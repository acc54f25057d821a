"""Compile the GPU kernel with g++, and run it behind a fake driver as if there were an NVIDIA GPU."""

import ctypes
import os
import subprocess
from contextlib import nullcontext
from pathlib import Path

import torch

from sfmts.estimators import _device
from sfmts.kernels import _gpu, _registry
from sfmts.kernels._sfm import verdict
from sfmts.kernels._sfm.gpu import program

# To have the compiler watch every access:
#   LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
#   SFMTS_SANITIZE=address,undefined python -m pytest tests/test_cuda.py -k "not nvcc and not gpu"
SANITIZER = (
    ["-g", f"-fsanitize={os.environ['SFMTS_SANITIZE']}", "-fno-sanitize-recover=all"]
    if "SFMTS_SANITIZE" in os.environ
    else []
)
FLAGS = ["-std=c++17", "-O1", "-Wall", "-Werror", "-fPIC", *SANITIZER, *os.environ.get("SFMTS_CXXFLAGS", "").split()]
HEADERS = ("math.h", "stdlib.h", "string.h", "vector")
FAKE_DRIVER = Path(__file__).with_name("fake_driver.cpp")


class Host:
    """Compiles layouts with g++, each once."""

    def __init__(self, folder):
        self._folder = folder
        self._libraries = {}
        self._prelude = folder / "prelude.h"  # compiled once: half of the time would go to standard headers
        self._prelude.write_text("".join(f"#include <{name}>\n" for name in HEADERS))
        subprocess.run(["g++", "-x", "c++-header", *FLAGS, str(self._prelude)], check=True)

    def library(self, defines, variant="", change=None):
        """The kernel with these macros; the source may be changed.

        The variant is the order of threads, and when copies behind the program's back are made.
        """
        key = tuple(sorted(defines)), variant, change
        if key not in self._libraries:
            source, path = program.SOURCES / "sfm.cu", self._folder / f"{len(self._libraries)}.so"
            if change is not None:
                source = path.with_suffix(".cu")
                source.write_text(changed(*change))
            order = [f"-DREVERSED={int('reversed' in variant)}", f"-DCOPIES_AT_ONCE={int('at once' in variant)}"]
            options = [*FLAGS, "-shared", "-include", str(self._prelude), f"-I{program.SOURCES}", *order, *defines]
            subprocess.run(["g++", "-x", "c++", *options, str(source), "-o", str(path)], check=True)
            self._libraries[key] = path
        return self._libraries[key]


def changed(before, after):
    """The source of the kernel with one part of it replaced."""
    source = (program.SOURCES / "sfm.cu").read_text()
    assert source.count(before) == 1, before
    return source.replace(before, after)


class FakeGpu:
    """A fake NVIDIA GPU: the driver's library is a stand-in, and the memory of the "GPU" is the CPU's."""

    processors = 4

    def __init__(self, folder):
        path = folder / "libcuda.so.1"
        command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", str(FAKE_DRIVER)]
        subprocess.run([*command, "-o", str(path)], check=True)
        # Loaded under the name of the real library, so that the bindings find this one.
        self.driver = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)

    def install(self, monkeypatch, host):
        """Let PyTorch's CPU pass for this GPU, and let g++ compile for it."""
        self.driver.fake_reset()
        self.change = None  # of the source: direction, what is replaced, by what
        self.compiled = []

        def compile_cubin(options):
            self.compiled.append(options)
            defines = [option for option in options if option.startswith("-D")]
            direction, *change = self.change or (None,)
            change = tuple(change) if f"-D{direction}=1" in defines else None
            return bytes(host.library(defines, change=change)) + b"\0"

        answers = {
            "is_nvidia": lambda device: device.type == "cpu",
            "index": lambda device: 0,
            "name": lambda device: "fake GPU",
            "capability": lambda device: (9, 0),
            "processors": lambda device: self.processors,
            "shared_bytes": lambda device: 232_448,
            "current": lambda device: nullcontext(),
            "stream": lambda device: 0,
            "synchronize": self._synchronize,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(_gpu, name, answer)
        monkeypatch.setattr(_device, "nvidia_gpu", lambda: torch.device("cpu"))
        monkeypatch.setattr(program, "compile_cubin", compile_cubin)

    def _synchronize(self, device):
        if self.driver.cuCtxSynchronize():
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    @property
    def launches(self):
        return self.driver.fake_launches()

    def fail(self, call, status):
        """Let a call of the driver fail."""
        self.driver.fake_fail(call.encode(), status)


def new_process():
    """Forget what this process has found out about GPUs and told."""
    for cached in (program.missing, program._load, _registry._log_once, _device._log_once):
        cached.cache_clear()
    verdict.forget()
