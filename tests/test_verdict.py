"""The trial of the GPU kernel before its first use, and what follows from it, behind a fake driver.

The bindings, the loading of modules, attributes and launches are real calls; the kernel is compiled by g++.
"""

import logging
import os
import subprocess
import sys

import pytest
import torch

from sfmts.kernels import resolve_backend
from sfmts.kernels._sfm import cuda, verdict
from sfmts.kernels._sfm.gpu import program
from tests.helpers import assert_same, case_id
from tests.kernel_host import new_process
from tests.test_kernels import FREQUENCIES, make_case, outputs_and_gradients

SMALL = {"D": 5, "K": 3, "M": 4, "lengths": (6, 6, 5, 2, 1)}


def check_fused(caplog, reason):
    """`auto` takes the fused kernel with right results, and says why once."""
    case = make_case(**SMALL)
    expected = outputs_and_gradients(case, "reference")
    with caplog.at_level(logging.WARNING, "sfmts"):
        for _ in range(2):
            assert_same(expected, outputs_and_gradients(case, "auto"), 1e-9)
            assert resolve_backend("auto", case.weights) == "fused"
    (record,) = caplog.records
    assert reason in record.getMessage()
    assert "falling back to backend='fused'" in record.getMessage()


@pytest.mark.parametrize("mode", FREQUENCIES, ids=case_id)
def test_auto_takes_the_kernel_after_a_good_trial(gpu, caplog, mode):
    case = make_case(**SMALL, **mode, mask=True)
    assert resolve_backend("auto", case.weights, 5, case.accumulated) == "cuda"
    assert gpu.launches == 2 * 3  # three runs in both directions
    assert_same(outputs_and_gradients(case, "reference"), outputs_and_gradients(case, "auto"), 1e-9)
    assert gpu.launches == 2 * 3 + 2
    assert len(gpu.compiled) == 2
    assert not caplog.records


def injected(call, status):
    def inject(gpu, _):
        gpu.fail(call, status)

    return inject


def without_bindings(_, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(program.importlib, "import_module", absent)


def with_an_old_driver(gpu, _):
    gpu.driver.fake_version(11080)


def with_a_broken_compiler(_, monkeypatch):
    def fail(options):
        raise RuntimeError("NVRTC cannot compile sfm.cu")

    monkeypatch.setattr(program, "compile_cubin", fail)


def with_wrong_results(gpu, _):
    gpu.change = MUTANTS["no mask"]


def with_a_race(gpu, _):
    gpu.change = (
        "FORWARD",
        "s.fed[b * Gates::WIDTH + m] = z * s.mask[j];",
        "static int runs = 0; s.fed[b * Gates::WIDTH + m] = z * s.mask[j] * (1 + 1e-13 * ++runs);",
    )


MUTANTS = {
    "epsilon": ("FORWARD", "im * im + real(EPSILON);", "im * im + real(1e-3);"),
    "last state": ("FORWARD", "if (step == last_step(a, s, b)) {", "if (step + 1 == a.end) {"),
    "no mask": ("BACKWARD", "s.mask[b * M + m] * sum_of_parts(s, b, m)", "sum_of_parts(s, b, m)"),
    "row of zeros": ("BACKWARD", "at, G + d, dp * i * g * (1 - g));", "at, G + d, d ? dp * i * g * (1 - g) : 0);"),
}
FAILURES = {
    "no bindings": (without_bindings, "the package cuda-bindings is not installed (pip install 'sfmts[gpu]')"),
    "old driver": (with_an_old_driver, "the driver supports CUDA 11"),
    "compiler": (with_a_broken_compiler, "failed its trial: NVRTC cannot compile"),
    "module": (injected("cuModuleLoadData", 209), "CUDA_ERROR_NO_BINARY_FOR_GPU"),
    "attribute": (injected("cuFuncSetAttribute", 1), "CUDA_ERROR_INVALID_VALUE"),
    "launch": (injected("cuLaunchKernel", 701), "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"),
    "wrong results": (with_wrong_results, "from backend='fused'"),
    "race": (with_a_race, "failed its trial: 3 runs differ in z"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_remembered(gpu, caplog, monkeypatch, failure):
    inject, reason = FAILURES[failure]
    inject(gpu, monkeypatch)
    check_fused(caplog, reason)
    compiled = len(gpu.compiled)
    gpu.driver.fake_reset()
    assert resolve_backend("auto", make_case(**SMALL).weights) == "fused"  # without another trial
    assert len(gpu.compiled) == compiled
    assert not list(program.cache_folder().glob("*.trying"))
    with pytest.raises(RuntimeError, match="backend='cuda' is unavailable here: "):
        resolve_backend("cuda", make_case(**SMALL).weights)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_trial_finds_mutants_in_single_precision(gpu, mutant):
    gpu.change = MUTANTS[mutant]
    case = make_case(**SMALL, dtype=torch.float32)
    with pytest.raises(RuntimeError, match=r"failed its trial: .* differs by"):
        resolve_backend("cuda", case.weights, 5)


def test_the_trial_passes_in_single_precision(gpu):
    case = make_case(**SMALL, dtype=torch.float32)
    with torch.no_grad(), torch.inference_mode():
        assert resolve_backend("auto", case.weights, 5) == "cuda"


def test_other_tiles_have_a_trial_of_their_own(gpu):
    weights = make_case(**SMALL).weights
    assert resolve_backend("auto", weights, 5) == "cuda"
    gpu.fail("cuLaunchKernel", 701)
    assert resolve_backend("auto", weights, 8) == "cuda"  # no other tile: two sequences for each of four processors
    assert resolve_backend("auto", weights, 4) == "fused"
    assert resolve_backend("auto", weights, 8) == "fused"  # so that the name does not depend on the batch


def test_too_little_memory_is_not_remembered(gpu, caplog):
    case = make_case(**SMALL)
    gpu.fail("cuModuleLoadData", 2)
    with caplog.at_level(logging.WARNING, "sfmts"):
        assert resolve_backend("auto", case.weights, 5) == "fused"
    assert "too little free memory" in caplog.text
    gpu.fail("cuModuleLoadData", 0)
    assert resolve_backend("auto", case.weights, 5) == "cuda"


@pytest.mark.parametrize("value", ["off", "0"])
def test_the_environment_switches_the_kernel_off(gpu, caplog, monkeypatch, value):
    assert resolve_backend("auto", make_case(**SMALL).weights, 5) == "cuda"
    monkeypatch.setenv(verdict.SWITCH, value)
    check_fused(caplog, "the environment variable SFMTS_CUDA_KERNEL switches the CUDA kernel off")


def a_process_that_has_ended():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_lost_device_is_an_error_and_keeps_later_processes_from_it(gpu, caplog):
    case = make_case(**SMALL)
    gpu.fail("cuLaunchKernel", 700)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"unusable for this process .*illegal memory.*SFMTS_CUDA_KERNEL=off"):
            outputs_and_gradients(case, "auto")
    (marker,) = program.cache_folder().glob("*.trying")
    assert f".{os.getpid()}." in marker.name
    pid = a_process_that_has_ended()
    left = marker.rename(marker.with_name(marker.name.replace(f".{os.getpid()}.", f".{pid}.")))
    gpu.driver.fake_reset()
    new_process()
    check_fused(caplog, f"process {pid} ended while it tried the CUDA kernel for these sizes (delete {left}")
    assert gpu.launches == 0
    left.unlink()
    new_process()
    assert resolve_backend("auto", case.weights, 5) == "cuda"


def test_a_process_that_is_still_trying_hinders_nobody(gpu, monkeypatch):
    markers = verdict._Markers(torch.device("cpu"), cuda.sizes_of(make_case(**SMALL).weights, False), 2)
    program.write(markers.path(os.getppid()), b"")
    assert resolve_backend("auto", make_case(**SMALL).weights, 5) == "cuda"
    assert [path.name for path in program.cache_folder().glob("*.trying")] == [markers.path(os.getppid()).name]


def test_an_interrupted_trial_leaves_no_marker(gpu, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(verdict, "_differences", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resolve_backend("auto", make_case(**SMALL).weights, 5)
    assert not list(program.cache_folder().glob("*.trying"))


def test_a_trial_needs_no_cache(gpu, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert resolve_backend("auto", make_case(**SMALL).weights, 5) == "cuda"


def test_a_layer_that_is_too_large_is_not_tried(gpu, caplog):
    weights = make_case(D=256, K=8, M=256, lengths=(1,), dtype=torch.float32).weights
    with caplog.at_level(logging.INFO, "sfmts"):
        assert resolve_backend("auto", weights) == "fused"
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "so large that the CUDA kernel would be slower" in record.getMessage()
    assert not gpu.compiled
