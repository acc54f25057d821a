"""The GPU kernel.

Without a GPU the source of the kernel is compiled by g++, which runs the threads of a block one after another: that
proves its arithmetic, its indices and the glue around it.  Where there is a GPU the same cases run on it.
"""

import ctypes
import functools
import os
import re
import shutil
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sfmts.kernels import SFMState
from sfmts.kernels._sfm import cuda
from sfmts.kernels._sfm.gpu import layout as layouts
from sfmts.kernels._sfm.gpu import program
from sfmts.kernels._sfm.gpu.layout import Device, Sizes, choose_layout, choose_tile
from tests.helpers import assert_same, case_id, every_pair, spread
from tests.test_kernels import (
    FREQUENCIES,
    SIZES,
    every_mode,
    fresh,
    make_case,
    outputs_and_gradients,
    without_input,
)

H200 = Device(processors=132, shared_bytes=232_448)
# Two processors, so that a handful of sequences already makes tiles of several.  By name, where weights stay.
RESIDENCIES = {
    "registers": Device(processors=2, shared_bytes=96 << 10),
    "shared": Device(processors=2, shared_bytes=512 << 10, registers=0),
    "mixed": Device(processors=2, shared_bytes=96 << 10, registers=32768),
    "streamed": Device(processors=2, shared_bytes=512 << 10),
}
PAPER_SIZES = [(50, 4, 1), (50, 4, 88), (30, 8, 61)]
PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 1e-4)]
# The hardware's exp and reciprocal are off by two units in the last place; with such errors, made by chance on a CPU,
# the worst of these cases is off by 1.4e-4.
PRECISIONS_ON_GPU = [(torch.float64, 1e-9), (torch.float32, 5e-4)]
on_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0),
    reason="there is no CUDA device of compute capability 8.0 or more",
)


# -- the kernel compiled by g++


class HostProgram:
    """Runs a kernel's blocks and threads one after another."""

    def __init__(self, library, direction):
        self._function = getattr(ctypes.CDLL(str(library)), f"sfm_{direction}")

    def launch(self, blocks, arguments):
        self._function(ctypes.byref(arguments), ctypes.c_int(blocks))


@pytest.fixture
def on_host(host, monkeypatch):
    """Let the glue of `cuda.sfm` run the kernel that g++ compiles; returns the list of layouts that were run."""

    def use(residency="registers", variant="", tile=None, threads=None):
        used = []

        def load(layout, _):
            used.append(layout)
            defines = [f"-D{name}={value}" for name, value in layout.macros().items()]
            return HostProgram(host.library(defines, variant), layout.direction)

        choose_layout.cache_clear()
        if residency == "streamed":
            monkeypatch.setattr(layouts, "_fill", lambda bare, _: bare)
        if tile is not None:
            monkeypatch.setattr(cuda, "choose_tile", lambda *_: tile)
        monkeypatch.setattr(cuda, "device_of", lambda _: RESIDENCIES[residency])
        monkeypatch.setattr(cuda, "choose_layout", functools.partial(choose_layout, threads=threads))
        monkeypatch.setattr(program, "load", load)
        return used

    yield use
    choose_layout.cache_clear()


class OnCuda:
    """A case whose kernel is `cuda.sfm`, as `outputs_and_gradients` wants it."""

    def __init__(self, case):
        self._case = case
        self.leaves = case.leaves

    def run(self, _=None, amplitudes=None):
        case = self._case
        return cuda.sfm(
            *(case.x, case.batch_sizes, case.t, case.weights, case.state),
            accumulated=case.accumulated,
            feedback_mask=case.feedback_mask,
            amplitudes=amplitudes,
        )


def check(case, tolerance):
    expected = outputs_and_gradients(case, "reference")
    assert_same(expected, outputs_and_gradients(OnCuda(case), None), tolerance)


@every_pair(mode=FREQUENCIES, mask=[False, True], precision=PRECISIONS)
def test_parity_in_all_modes(on_host, mode, mask, precision):
    dtype, tolerance = precision
    on_host()
    check(make_case(dtype=dtype, mask=mask, timestamps=mask, **mode), tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("residency", "variant", "size"),
    [
        *(place for size in SIZES for place in [("registers", "", size), ("mixed", "reversed", size)]),
        *(("shared", "at once", size) for size in SIZES[:4]),
        *(("streamed", "reversed, at once", size) for size in SIZES[:4]),
    ],
    ids=case_id,
)
def test_parity_at_all_sizes_wherever_weights_are(on_host, residency, variant, size):
    on_host(residency, variant)
    check(make_case(**size, dtype=torch.float32, frequencies="learned", mask=True), 1e-4)


def test_weights_stay_where_the_names_say(on_host):
    for residency in RESIDENCIES:
        used = on_host(residency)
        OnCuda(make_case(**SIZES[2], dtype=torch.float32)).run()
        (layout,) = used
        matrices = (layout.gates, layout.states)
        places = {
            "registers": sum(m.in_registers for m in matrices),
            "shared": sum(m.in_shared for m in matrices),
            "streamed": sum(m.chunks - m.in_registers - m.in_shared for m in matrices),
        }
        wanted = set(places) if residency == "mixed" else {residency}
        assert all(places[name] > 0 for name in wanted), (residency, places)
        if residency in ("shared", "streamed"):
            assert sum(places.values()) == places[residency], (residency, places)


@pytest.mark.parametrize(("tile", "threads"), [(1, 96), (3, 32), (3, 1024), (7, 64), (8, 256)])
def test_parity_for_all_tiles_and_threads(on_host, tile, threads):
    (*_, size) = SIZES
    used = on_host("mixed", tile=tile, threads=threads)
    check(make_case(**size, frequencies="adaptive", accumulated=True), 1e-9)
    assert {(layout.tile, layout.threads) for layout in used} == {(tile, threads)}


@pytest.mark.parametrize("order", ["", "reversed"])
@pytest.mark.parametrize("copies", ["at once", "late"])
def test_neither_order_of_threads_nor_time_of_copies_matters(on_host, order, copies):
    """No thread may read what another one writes before the next barrier, nor a copy that nobody waited for."""
    case = make_case(lengths=(9, 9, 8, 4, 4, 1, 1), frequencies="adaptive", accumulated=True, mask=True)
    on_host(tile=3, threads=64)
    expected = outputs_and_gradients(OnCuda(case), None)
    on_host(tile=3, threads=64, variant=f"{order} {copies}")
    assert_same(expected, outputs_and_gradients(OnCuda(case), None), 1e-15)


@pytest.mark.parametrize("frequencies", ["learned", "adaptive"])
def test_bfloat16(on_host, frequencies):
    """Against the reference in float64, with the same rounded weights and input.

    Output and gradients are bfloat16 too, each with a rounding error of up to 0.4 %.
    """
    on_host("mixed")
    (*_, size) = SIZES[:4]
    case = make_case(**size, dtype=torch.bfloat16, frequencies=frequencies)
    got = outputs_and_gradients(OnCuda(case), None)
    exact = make_case(**size, frequencies=frequencies)
    with torch.no_grad():
        for name, leaf in exact.leaves().items():
            leaf.copy_(case.leaves()[name])
    expected = outputs_and_gradients(exact, "reference")
    assert got["z"].dtype == got["dW"].dtype == torch.bfloat16
    assert got["final re"].dtype == torch.float32
    assert_same(expected, {name: value.double() for name, value in got.items()}, 0.02)


@every_mode
def test_long_series_take_several_launches(on_host, mode, monkeypatch):
    case = make_case(lengths=(30, 30, 17, 9, 2), mask=True, **mode)
    used = on_host()
    monkeypatch.setattr(cuda, "_CHUNK_NUMBERS", 500)
    monkeypatch.setattr(cuda, "_PIECE_ROWS", 3)
    check(case, 1e-9)
    assert len(used) > 4
    with torch.no_grad():
        (z, state), (expected, expected_state) = OnCuda(case).run(), case.run("reference")
    torch.testing.assert_close(z, expected)
    for value, wanted in zip(state, expected_state, strict=True):
        torch.testing.assert_close(value, wanted)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda value: torch._efficientzerotensor(value.shape, dtype=value.dtype), "no memory for its values"),
        (torch._neg_view, "not a contiguous tensor"),
    ],
)
def test_the_kernel_is_given_no_address_of_other_memory(on_host, monkeypatch, spoil, sentence):
    on_host()
    case, cos_sin = make_case(), cuda._cos_sin
    monkeypatch.setattr(cuda, "_cos_sin", lambda *arguments: spoil(cos_sin(*arguments)))
    with pytest.raises(RuntimeError, match=f"^cs .*{sentence}"):
        OnCuda(case).run()


def test_amplitudes_are_those_of_the_reference(on_host):
    on_host()
    case = make_case()
    for train in (False, True):
        got = []
        with torch.set_grad_enabled(train):
            OnCuda(case).run(amplitudes=got)
        for A, wanted in zip(got, case.amplitudes("reference"), strict=True):
            torch.testing.assert_close(A, wanted)


def test_strides_do_not_matter(on_host):
    on_host()
    case = make_case(mask=True)
    turned = {name: spread(getattr(case.weights, name)) for name in ("V", "W", "U_o", "W_z")}
    strided = replace(case, x=spread(case.x), weights=case.weights._replace(**turned))
    assert not strided.x.is_contiguous()
    expected = outputs_and_gradients(OnCuda(case), None)
    assert_same(expected, outputs_and_gradients(OnCuda(strided), None), 1e-12)


def test_gradients_where_the_state_is_zero(on_host):
    on_host()
    case = without_input(fresh(make_case(dtype=torch.float32, frequencies="learned")))
    with torch.no_grad():
        case.x.zero_()
    results = outputs_and_gradients(OnCuda(case), None)
    assert torch.equal(results["final re"], torch.zeros_like(results["final re"]))
    assert all(torch.isfinite(value).all() for value in results.values())


def test_a_graph_can_be_walked_twice(on_host):
    on_host()
    case = make_case()
    z, _ = OnCuda(case).run()
    first = torch.autograd.grad(z.sum(), [case.x, case.weights.W], retain_graph=True)
    OnCuda(make_case(seed=1)).run()[0].sum().backward()
    again = torch.autograd.grad(z.sum(), [case.x, case.weights.W])
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)


def test_second_derivatives_are_refused_not_wrong(on_host):
    on_host()
    case = make_case()
    z, _ = OnCuda(case).run()
    with pytest.raises(RuntimeError, match="first derivatives only; use backend='reference'"):
        torch.autograd.grad(z.sum(), case.x, create_graph=True)


def test_autocast_changes_nothing(on_host):
    on_host()
    case = make_case(dtype=torch.float32)
    expected = outputs_and_gradients(OnCuda(case), None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(expected, outputs_and_gradients(OnCuda(case), None), 1e-15)


def test_sizes_beyond_the_device_are_refused(on_host, monkeypatch):
    on_host()
    monkeypatch.setattr(cuda, "device_of", lambda _: Device(processors=2, shared_bytes=1 << 10))
    with pytest.raises(RuntimeError, match="too large for backend='cuda'; use backend='fused'"):
        OnCuda(make_case()).run()


# -- layouts


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_weights_of_the_paper_sizes_never_leave_the_processor(direction):
    for sizes in PAPER_SIZES:
        for dtype in (torch.float32, torch.bfloat16):
            layout = choose_layout(direction, Sizes(*sizes, False, False, dtype), 1, H200)
            assert layout.shared_bytes <= H200.shared_bytes
            for matrix in (layout.gates, layout.states):
                assert matrix.in_registers + matrix.in_shared == matrix.chunks


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("sizes", [*PAPER_SIZES, (256, 8, 64)], ids=str)
def test_registers_of_weights_are_those_that_the_processor_has(direction, sizes):
    for tile in (1, 4):
        layout = choose_layout(direction, Sizes(*sizes, False, False, torch.float32), tile, H200)
        of_weights = sum(m.in_registers * m.registers_per_chunk for m in (layout.gates, layout.states))
        assert of_weights * layout.threads <= H200.registers
        assert of_weights < 255  # the most that a thread can address


def test_tiles_shrink_until_they_fit():
    sizes = Sizes(256, 8, 64, False, False, torch.float32)
    layout = choose_layout("backward", sizes, 8, H200)
    assert 1 <= layout.tile < 8
    assert layout.shared_bytes <= H200.shared_bytes


def test_tiles_are_few():
    assert [choose_tile(batch, H200) for batch in (1, 132, 133, 264, 500, 1000, 10_000)] == [1, 1, 2, 2, 4, 8, 8]


@pytest.mark.parametrize(
    ("sizes", "sequences", "slower"),
    [
        *((sizes, sequences, False) for sizes in [(32, 4, 32), *PAPER_SIZES] for sequences in (1, 64, 256, 4096)),
        ((256, 8, 256), 1, True),
        ((256, 8, 256), 256, True),
        ((512, 8, 256), 1, True),  # fits in one direction only
    ],
)
def test_layers_whose_weights_are_streamed_are_left_to_the_fused_kernel(sizes, sequences, slower):
    sizes = Sizes(*sizes, False, False, torch.float32)
    assert layouts.is_slower_than_fused(sizes, sequences, H200) == slower


# -- the cache of compiled kernels


def test_compiled_kernels_are_kept(tmp_path):
    calls = []

    def compiler(options):
        calls.append(options)
        return b"code for " + " ".join(options).encode()

    def cubin(options, version="1"):
        return program.cached_cubin(options, version, compiler, tmp_path / "kernels")

    assert cubin(["a"]) == cubin(["a"]) == b"code for a"
    assert len(calls) == 1
    assert cubin(["b"]) == b"code for b"
    cubin(["a"], version="2")
    assert len(calls) == 3


def test_without_a_home_nothing_is_kept(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(program.Path, "home", no_home)
    for _ in range(2):
        assert program.cached_cubin(["a"], "1", lambda _: b"code", program.cache_folder()) == b"code"


@pytest.mark.parametrize("damage", [lambda kept: kept[:-1], lambda kept: b"", lambda kept: kept[:-1] + b"!"])
def test_damaged_kernels_are_compiled_again(tmp_path, damage):
    program.cached_cubin(["a"], "1", lambda _: b"code", tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert program.cached_cubin(["a"], "1", lambda _: b"code", tmp_path) == b"code"
    assert path.read_bytes() == whole


def test_renamed_kernels_are_compiled_again(tmp_path):
    for name in "ab":
        program.cached_cubin([name], "1", lambda _, name=name: name.encode(), tmp_path)
    first, second = tmp_path.iterdir()
    contents = [path.read_bytes() for path in (first, second)]
    for path, content in zip((second, first), contents, strict=True):
        path.write_bytes(content)
    for name in "ab":
        assert program.cached_cubin([name], "1", lambda _, name=name: name.encode(), tmp_path) == name.encode()


def of_another_user(path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)


def writable_by_others(path, _):
    path.chmod(0o722)


@pytest.mark.skipif(os.name != "posix", reason="files have no owner and mode")
@pytest.mark.parametrize("spoil", [of_another_user, writable_by_others])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_code_of_other_users_is_not_taken(tmp_path, monkeypatch, spoil, what):
    folder = tmp_path / "kernels"
    program.cached_cubin(["a"], "1", lambda _: b"planted", folder)
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    spoil(folder if what == "folder" else file, monkeypatch)
    assert program.cached_cubin(["a"], "1", lambda _: b"code", folder) == b"code"
    assert file.read_bytes().endswith(b"planted") == (what == "folder" or spoil is of_another_user)


def test_kernels_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        program.cached_cubin(["a"], "1", lambda _: b"code", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").touch()
    assert program.cached_cubin(["a"], "1", lambda _: b"code", tmp_path / "file" / "folder") == b"code"


# -- reasons to take another kernel


def test_reason_on_the_cpu():
    case = make_case()
    assert cuda.unavailable(case.x, case.weights) == "the tensors are on cpu, not on an NVIDIA GPU"


def test_reason_without_the_bindings(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(program.importlib, "import_module", absent)
    assert program.missing.__wrapped__((9, 0)) == (
        "the package cuda-bindings is not installed (pip install 'sfmts[gpu]')"
    )


@pytest.mark.parametrize(
    ("driver_version", "architectures", "reason"),
    [
        (13000, [80, 90], None),
        (12080, [80, 90], "the driver supports CUDA 12, NVRTC compiles for CUDA 13"),
        (13000, [100], "NVRTC 13.0 does not know compute capability 9.0"),
    ],
)
def test_reasons_of_libraries(monkeypatch, driver_version, architectures, reason):
    libraries = SimpleNamespace(
        nvrtcVersion=lambda: (0, 13, 0),
        nvrtcGetSupportedArchs=lambda: (0, architectures),
        cuDriverGetVersion=lambda: (0, driver_version),
    )
    monkeypatch.setattr(program.importlib, "import_module", lambda _: libraries)
    assert program.missing.__wrapped__((9, 0)) == reason


def test_reason_when_a_library_fails(monkeypatch):
    failing = SimpleNamespace(__name__="nvrtc", nvrtcVersion=lambda: (7, None, None))
    monkeypatch.setattr(program.importlib, "import_module", lambda _: failing)
    assert program.missing.__wrapped__((9, 0)) == "NVRTC or the driver cannot be used: nvrtc: 7"


# -- compilers and GPUs, where there are any


def compiled_by_nvrtc(direction, sizes, device, architecture):
    """The numbers of its stack frame and registers; needs no GPU."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="the package cuda-bindings is not installed")
    layout = choose_layout(direction, sizes, 1, device)
    options = (*program.compiler_options(layout, architecture), "--ptxas-options=-v")
    try:
        _, *version = program._nvrtc().nvrtcVersion()
    except Exception as error:
        pytest.skip(f"there is no NVRTC: {error}")
    if version < [12, 8]:  # of PyTorch 2.7 for CUDA 12.6; the declared bindings bring a newer one
        pytest.skip(f"NVRTC {version} is older than the bindings, knows no sm_120 and spills a register")
    cubin, log = program.compile_and_log(options)
    assert cubin.startswith(b"\x7fELF")
    assert f"sfm_{direction}" in log
    return [int(re.search(pattern, log)[1]) for pattern in (r"(\d+) bytes stack frame", r"Used (\d+) registers")]


CONSUMER = Device(processors=28, shared_bytes=99 << 10)


@pytest.mark.parametrize(
    ("direction", "device", "architecture", "dtype"),
    [
        ("forward", Device(processors=108, shared_bytes=163 << 10), "sm_80", torch.bfloat16),
        ("backward", CONSUMER, "sm_86", torch.float64),
        ("forward", H200, "sm_90", torch.float64),
        ("backward", CONSUMER, "sm_120", torch.bfloat16),
    ],
)
def test_nvrtc_compiles_for(direction, device, architecture, dtype):
    compiled_by_nvrtc(direction, Sizes(5, 3, 4, True, True, dtype), device, architecture)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("sizes", PAPER_SIZES, ids=str)
def test_nvrtc_spills_no_registers_at_the_paper_sizes(direction, sizes):
    stack, registers = compiled_by_nvrtc(direction, Sizes(*sizes, False, False, torch.float32), H200, "sm_90")
    assert stack == 0
    assert registers <= 255


def test_nvrtc_tells_what_it_cannot_compile():
    compiled_by_nvrtc("forward", Sizes(1, 1, 1, False, False, torch.float32), H200, "sm_90")
    with pytest.raises(RuntimeError, match=r"NVRTC cannot compile sfm.cu with --gpu-architecture=sm_90:\n.*error"):
        program.compile_and_log(["--gpu-architecture=sm_90"])


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_nvcc_compiles_the_kernel(tmp_path, direction, architecture):
    layout = choose_layout(direction, Sizes(5, 3, 4, True, True, torch.bfloat16), 2, H200)
    options = program.compiler_options(layout, architecture)
    command = ["nvcc", "-cubin", *options, str(program.SOURCES / "sfm.cu"), "-o", str(tmp_path / "sfm.cubin")]
    subprocess.run(command, check=True)


class OnGpu(OnCuda):
    """The same on the GPU; results come back, as what they are compared with is on the CPU."""

    def __init__(self, case, device="cuda"):
        def move(value):
            return None if value is None else value.detach().to(device).requires_grad_(value.requires_grad)

        self.moved = replace(
            case,
            x=move(case.x),
            t=move(case.t),
            weights=type(case.weights)(*map(move, case.weights)),
            state=SFMState(*map(move, case.state)),
            feedback_mask=move(case.feedback_mask),
        )
        super().__init__(self.moved)

    def run(self, _=None, amplitudes=None):
        z, state = super().run(amplitudes=amplitudes)
        return z.cpu(), SFMState(*(value.cpu() for value in state))


def check_on_gpu(case, tolerance):
    expected = outputs_and_gradients(case, "reference")
    got = outputs_and_gradients(OnGpu(case), None)
    assert_same(expected, {name: value.cpu() for name, value in got.items()}, tolerance)


@on_gpu
@every_pair(size=SIZES, mode=FREQUENCIES, precision=PRECISIONS_ON_GPU, mask=[False, True])
def test_parity_on_the_gpu(mode, mask, size, precision):
    dtype, tolerance = precision
    check_on_gpu(make_case(**size, **mode, dtype=dtype, mask=mask, timestamps=mask), tolerance)


@on_gpu
def test_the_gpu_is_found_fit():
    case = OnGpu(make_case()).moved
    assert cuda.unavailable(case.x, case.weights) is None


@on_gpu
@pytest.mark.parametrize("tile", [1, 2, 3, 8])
def test_parity_of_tiles_on_the_gpu(monkeypatch, tile):
    monkeypatch.setattr(cuda, "choose_tile", lambda *_: tile)
    check_on_gpu(make_case(D=50, K=4, M=88, N=88, lengths=(6,) * 5 + (3,) * 6, frequencies="learned"), 1e-9)


@on_gpu
def test_parity_on_a_stream_of_its_own():
    with torch.cuda.stream(torch.cuda.Stream()):
        check_on_gpu(make_case(frequencies="adaptive", accumulated=True), 1e-9)
