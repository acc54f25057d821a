"""Run what a GPU is needed for; gpu.sh runs all of it, in stages.

    python benchmarks/gpu.py                 parity of both kernels, then microseconds per time step beside cuDNN's LSTM
    python benchmarks/gpu.py --environment   versions, and the GPU
    python benchmarks/gpu.py --tests ...     pytest with these arguments
    python benchmarks/gpu.py --fits          whole fits: milliseconds, launches and synchronisations of an update
    python benchmarks/gpu.py --sanitize memcheck    one small training step in each mode under compute-sanitizer
    python benchmarks/gpu.py --report        registers, spills and shared memory of each layout; needs nvcc and no GPU

Sizes are those of the paper's three tasks; the LSTM has as many parameters. If parity is red nothing is timed. The exit
status is 0 if all is well, 75 if nothing can be said, 77 if something is missing, and any other if something is wrong.
"""

import argparse
import functools
import importlib.metadata
import importlib.util
import itertools
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# The package itself imports scikit-learn and more, which a bare GPU machine lacks; the kernels need PyTorch only.
NEEDED = ("sklearn", "scipy", "safetensors", "threadpoolctl", "tqdm", "joblib")
LACKING = [name for name in NEEDED if not importlib.util.find_spec(name)]
if LACKING:
    package = types.ModuleType("sfmts")
    package.__path__ = [str(ROOT / "sfmts")]
    sys.modules["sfmts"] = package

from sfmts.kernels import SFMState, SFMWeights  # noqa: E402
from sfmts.kernels._sfm import cuda, fused, reference  # noqa: E402
from sfmts.kernels._sfm.gpu import program  # noqa: E402
from sfmts.kernels._sfm.gpu.layout import Device, Layout, Sizes, choose_layout, choose_tile  # noqa: E402

H200 = Device(processors=132, shared_bytes=232_448)
STEPS, LOOP_STEPS = 500, 20
BATCHES = (64, 256)
MODES = (("fixed", False), ("learned", False), ("adaptive", False), ("adaptive", True))
NOTHING_TO_SAY, MISSING = 75, 77
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 2e-2}


class Task(NamedTuple):
    """Sizes of one of the paper's tasks, and the LSTM's hidden width."""

    number: int
    D: int
    K: int
    M: int
    N: int
    H: int

    def __str__(self) -> str:
        return f"{self.number}: D{self.D} K{self.K} M{self.M} N{self.N}"


TASKS = (Task(1, 50, 4, 1, 2, 15), Task(2, 50, 4, 88, 88, 138), Task(3, 30, 8, 61, 26, 130))
TINY = Task(0, 7, 3, 5, 2, 4)


def leave(code: int, reason: str) -> NoReturn:
    print(reason)
    sys.exit(code)


# -- problems


@dataclass
class Problem:
    """What one call of a kernel takes."""

    x: Tensor
    batch_sizes: list[int]
    t: Tensor
    weights: SFMWeights
    state: SFMState
    accumulated: bool
    mask: Tensor | None

    def run(self, kernel: types.ModuleType) -> tuple[Tensor, SFMState]:
        """Call the kernel of this module."""
        arguments = (self.x, self.batch_sizes, self.t, self.weights, self.state)
        return kernel.sfm(*arguments, accumulated=self.accumulated, feedback_mask=self.mask)

    def leaves(self) -> dict[str, Tensor]:
        """Return all tensors that have a gradient."""
        named = {"x": self.x, **self.weights._asdict(), "re": self.state.re, "im": self.state.im, "z0": self.state.z}
        return {name: value for name, value in named.items() if value is not None and value.requires_grad}


def make_problem(
    task: Task,
    lengths: Sequence[int],
    dtype: torch.dtype,
    device: str,
    frequencies: str = "learned",
    accumulated: bool = False,
    mask: bool = False,
    rounded_to: torch.dtype | None = None,
) -> Problem:
    """Return the same random numbers for the same sizes; ``rounded_to`` rounds them first."""
    generator = torch.Generator().manual_seed(task.number)
    _, D, K, M, N, _ = task

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        values = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        return values.to(rounded_to or dtype).to(device, dtype).requires_grad_()

    adaptive = frequencies == "adaptive"
    R = 3 * D + K + (K if adaptive else 0) + K * M
    omega = 2 * torch.pi * (torch.arange(K, dtype=torch.float64, device=device) + 0.5) / K
    weights = SFMWeights(
        normal(R, N, scale=N**-0.5),
        normal(R, M, scale=0.3 * M**-0.5),  # weak feedback: an adaptive cell with a strong one is chaotic
        normal(R),
        *(normal(K, M, D, scale=D**-0.5) for _ in range(2)),
        normal(K, M),
        None if adaptive else omega.requires_grad_(frequencies == "learned"),
    )
    B = len(lengths)
    batch_sizes = [sum(length > step for length in lengths) for step in range(max(lengths))]
    t = torch.cat([torch.full((n,), step + 1.0, dtype=torch.float64) for step, n in enumerate(batch_sizes)]).to(device)
    state = SFMState.zeros(B, weights)._replace(re=normal(B, D, K), im=normal(B, D, K), z=normal(B, M))
    dropped = 2 * (torch.rand(B, M, generator=generator) > 0.5).to(device, dtype) if mask else None
    return Problem(normal(sum(batch_sizes), N), batch_sizes, t, weights, state, accumulated, dropped)


# -- parity


def results(problem: Problem, kernel: types.ModuleType) -> dict[str, Tensor]:
    """Return output, last state and every gradient, in float64 on the CPU."""
    z, state = problem.run(kernel)
    found = {"z": z, "last re": state.re, "last im": state.im}
    generator = torch.Generator().manual_seed(9)
    noise = [
        torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.device, v.dtype) for v in found.values()
    ]
    leaves = problem.leaves()
    gradients = torch.autograd.grad(list(found.values()), list(leaves.values()), noise)
    found |= {f"d{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    return {name: value.detach().double().cpu() for name, value in found.items()}


def worst_error(
    kernel: types.ModuleType, task: Task, lengths: Sequence[int], dtype: torch.dtype, **mode: object
) -> tuple[float, str]:
    """Return the greatest error of any tensor against float64, relative to the tensor's largest entry."""
    found = results(make_problem(task, lengths, dtype, "cuda", **mode), kernel)
    exact = results(make_problem(task, lengths, torch.float64, "cpu", rounded_to=dtype, **mode), reference)
    errors = {name: float((found[name] - exact[name]).abs().max() / exact[name].abs().max()) for name in exact}
    name = max(errors, key=lambda n: errors[n] if errors[n] == errors[n] else torch.inf)
    return errors[name], name


def check_parity(kernels: Sequence[types.ModuleType]) -> None:
    """Print a table; leave the program if anything is red."""
    print("\n| parity | tolerance | worst error | of |\n|---|---|---|---|")
    red = False
    lengths = (20,) * 5 + (13,) * 150 + (2, 1)  # more sequences than processors: tiles of several
    for kernel, task in itertools.product(kernels, (TINY, *TASKS)):
        for dtype, tolerance in TOLERANCES.items():
            if kernel is fused and dtype == torch.bfloat16:
                continue
            for index, (frequencies, accumulated) in enumerate(MODES):
                mode = {"frequencies": frequencies, "accumulated": accumulated, "mask": index % 2 == 0}
                product = frequencies == "adaptive" and not accumulated  # rounding of omega moves omega t by t times it
                allowed = 5.0 * tolerance if product and dtype == torch.float32 else tolerance
                error, name = worst_error(kernel, task, lengths if index < 2 else lengths[::40], dtype, **mode)
                ok = error <= allowed
                red |= not ok
                label = f"{name_of(kernel)}, {task}, {str(dtype)[6:]}, {frequencies}{' accumulated' * accumulated}"
                print(f"| {label} | {allowed:.0e} | {error:.1e}{'' if ok else ' RED'} | {name} |", flush=True)
    if red:
        sys.exit("Parity is red, so there are no speeds to compare.")


def name_of(kernel: types.ModuleType) -> str:
    return kernel.__name__.rpartition(".")[2]


# -- speed


class Contender(NamedTuple):
    """Something to time."""

    name: str
    forward: Callable[[], Tensor]
    leaves: list[Tensor]
    gradient: Tensor
    steps: int
    tf32: bool = False

    def times(self, repeats: int) -> tuple[float, float]:
        """Return microseconds per step of training and of the forward pass alone."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        return self._time(self._train, repeats), self._time(self._infer, repeats)

    def _train(self) -> None:
        torch.autograd.grad(self.forward(), self.leaves, self.gradient)

    def _infer(self) -> None:
        with torch.no_grad():
            self.forward()

    def _time(self, function: Callable[[], None], repeats: int) -> float:
        samples = []
        for index in range(repeats + 2):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            begin.record()
            function()
            end.record()
            torch.cuda.synchronize()
            if index >= 2:
                samples.append(begin.elapsed_time(end))
        return 1000 * statistics.median(samples) / self.steps


def sfm_contender(
    name: str, task: Task, batch: int, kernel: types.ModuleType, dtype: torch.dtype, steps: int, tf32: bool = False
) -> Contender:
    problem = make_problem(task, [steps] * batch, dtype, "cuda", frequencies="fixed")
    leaves = [v for v in problem.weights if v is not None and v.requires_grad]
    problem.x.requires_grad_(False)
    problem.state = SFMState.zeros(batch, problem.weights)
    gradient = torch.randn(steps * batch, task.M, device="cuda").to(dtype)
    return Contender(name, lambda: problem.run(kernel)[0], leaves, gradient, steps, tf32)


def lstm_contender(name: str, task: Task, batch: int, dtype: torch.dtype, tf32: bool = False) -> Contender:
    network = nn.LSTM(task.N, task.H).to("cuda", dtype)
    x = torch.randn(STEPS, batch, task.N, device="cuda").to(dtype)
    gradient = torch.randn(STEPS, batch, task.H, device="cuda").to(dtype)
    return Contender(name, lambda: network(x)[0], list(network.parameters()), gradient, STEPS, tf32)


def contenders(task: Task, batch: int, kernels: Sequence[types.ModuleType]) -> Iterator[tuple[Contender, int]]:
    """Yield each contender with the number of its repeats."""
    sfm = functools.partial(sfm_contender, task=task, batch=batch)
    lstm = functools.partial(lstm_contender, task=task, batch=batch)
    single, half = torch.float32, torch.bfloat16
    if cuda in kernels:
        yield sfm("cuda float32", kernel=cuda, dtype=single, steps=STEPS), 20
        yield sfm("cuda float32, TF32 products", kernel=cuda, dtype=single, steps=STEPS, tf32=True), 20
        yield sfm("cuda bfloat16", kernel=cuda, dtype=half, steps=STEPS), 20
    yield sfm("fused float32", kernel=fused, dtype=single, steps=STEPS), 3
    yield sfm(f"reference float32, {LOOP_STEPS} steps", kernel=reference, dtype=single, steps=LOOP_STEPS), 3
    yield lstm("cuDNN LSTM float32", dtype=single), 20
    yield lstm("cuDNN LSTM TF32", dtype=single, tf32=True), 20
    yield lstm("cuDNN LSTM bfloat16", dtype=half), 20


def print_speeds(kernels: Sequence[types.ModuleType]) -> None:
    print(f"\nMicroseconds per time step, T={STEPS}, medians; the ratio is to the LSTM in float32\n")
    print("| task | B | kernel | train | forward | train / LSTM | forward / LSTM |\n|---|---|---|---|---|---|---|")
    for task in TASKS:
        for batch in BATCHES:
            times = {
                contender.name: contender.times(repeats) for contender, repeats in contenders(task, batch, kernels)
            }
            base = times["cuDNN LSTM float32"]
            for name, (train, forward) in times.items():
                ratios = f"{train / base[0]:.2f} | {forward / base[1]:.2f}"
                print(f"| {task} | {batch} | {name} | {train:.2f} | {forward:.2f} | {ratios} |", flush=True)


# -- what the compiler made of it


def report_layouts(architecture: str) -> Iterator[Layout]:
    print(f"{architecture}, {H200.processors} processors, {H200.shared_bytes} bytes of shared memory for a block\n")
    for task in TASKS:
        for dtype in (torch.float32, torch.bfloat16):
            sizes = Sizes(task.D, task.K, task.M, False, False, dtype)
            for batch in BATCHES:
                for direction in ("forward", "backward"):
                    layout = choose_layout(direction, sizes, choose_tile(batch, H200), H200)
                    assert layout is not None
                    yield layout


def places(layout: Layout) -> str:
    """Return the percentage of the weights in registers, shared memory and L2 cache."""
    counts = [0, 0, 0]
    for matrix in (layout.gates, layout.states):
        streamed = matrix.chunks - matrix.in_registers - matrix.in_shared
        for index, chunks in enumerate((matrix.in_registers, matrix.in_shared, streamed)):
            counts[index] += chunks * matrix.bytes_per_chunk
    return " / ".join(f"{100 * count / sum(counts):.0f}" for count in counts)


def print_report(architecture: str) -> None:
    """Compile every layout with nvcc; leave the program if any spills a register."""
    columns = ["kernel", "D, K, M", "weights", "tile", "threads", "registers", "spilled bytes", "shared bytes"]
    columns += ["% of weights in registers / shared / L2"]
    rows, spilled = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"], 0
    for layout in report_layouts(architecture):
        with tempfile.TemporaryDirectory() as folder:
            options = program.compiler_options(layout, architecture)
            command = [
                "nvcc",
                "-cubin",
                "-Xptxas",
                "-v",
                *options,
                str(program.SOURCES / "sfm.cu"),
                "-o",
                f"{folder}/o",
            ]
            log = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        (registers,) = re.findall(r"Used (\d+) registers", log)
        spills = sum(map(int, re.findall(r"(\d+) bytes spill", log)))
        spilled += spills
        sizes = f"{layout.sizes.D}, {layout.sizes.K}, {layout.sizes.M}"
        cells = (layout.direction, sizes, str(layout.sizes.dtype)[6:], layout.tile, layout.threads, registers, spills)
        rows.append(f"| {' | '.join(map(str, (*cells, layout.shared_bytes, places(layout))))} |")
    print("\n".join(rows))
    if spilled:
        sys.exit("Registers are spilled.")


# -- whole fits


def print_fits(device: str) -> None:
    """Print what an update of whole fits costs, by the difference between a longer and a shorter fit."""
    import numpy as np

    print("\n| fit | series | ms per update | launches | synchronisations |\n|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    n, steps = (128, 100) if device == "cuda" else (64, 10)  # the profiler keeps every launch
    networks = [("sfm", {"backend": "fused"}), ("sfm", {"backend": "fused", "memory": "recompute"})]
    networks += [("resonator", {}), ("gru", {})]
    if device == "cuda" and why_no_cuda() is None:
        networks.insert(0, ("sfm", {"backend": "cuda"}))
    for (network, options), ragged in itertools.product(networks, (False, True)):
        lengths = rng.integers(steps // 2, steps, n) if ragged else np.full(n, steps)
        X = [rng.normal(size=(length, 4)).astype(np.float32) for length in lengths]
        costs = update_costs(network, options, X if ragged else np.stack(X), rng.integers(0, 3, n), device)
        name = f"{network} {' '.join(map(str, options.values()))}".strip()
        print(f"| {name} | {'ragged' if ragged else 'equal'} | {' | '.join(costs)} |", flush=True)


def update_costs(network: str, options: dict[str, Any], X: Any, y: Any, device: str) -> list[str]:
    """Return milliseconds, launches and synchronisations of one update."""
    from sfmts import SFMClassifier

    def fit(epochs: int) -> int:
        model = SFMClassifier(
            network, base=None, network_params=options, device=device, max_iter=epochs, tol=0.0, random_state=0
        )
        return model.fit(X, y).history_["n_updates"]

    def counted(epochs: int) -> tuple[int, int]:
        with torch.profiler.profile() as profile:
            fit(epochs)
        events = [(event.key, event.count) for event in profile.key_averages()]
        launches = sum(count for name, count in events if name.startswith(("cudaLaunch", "cuLaunch")))
        return launches, sum(count for name, count in events if "Synchronize" in name)

    few, many = 1, 3
    fit(few)  # compiles and fills caches
    seconds, updates = [], []
    for epochs in (few, many):
        begin = time.perf_counter()
        updates.append(fit(epochs))
        seconds.append(time.perf_counter() - begin)
    more = updates[1] - updates[0]
    numbers = [(after - before) / more for before, after in zip(counted(few), counted(many), strict=True)]
    return [f"{1000 * (seconds[1] - seconds[0]) / more:.2f}", *(f"{number:.1f}" for number in numbers)]


# -- tests, sanitizer, environment


def run_tests(arguments: Sequence[str]) -> None:
    """Run pytest; nothing is said if all tests were skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments]
    lines = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode == 0 and not re.search(r"\d+ passed", "".join(lines[-1:])):
        leave(NOTHING_TO_SAY, "no test ran")
    sys.exit(process.returncode)


def sanitize(tool: str) -> None:
    """Run ``--tiny`` under compute-sanitizer."""
    if shutil.which("compute-sanitizer") is None:
        leave(NOTHING_TO_SAY, "there is no compute-sanitizer")
    options = ["--tool", tool, "--print-limit", "5"]
    command = ["compute-sanitizer", *options, sys.executable, __file__, "--tiny"]
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    print(output[-10_000:])
    found = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", output)
    if not found or DONE not in output:  # an unsupported GPU or driver, or a program that did not end
        leave(NOTHING_TO_SAY, f"compute-sanitizer cannot watch this machine with {tool}")
    if any(map(int, found)):
        leave(1, f"{tool} found errors")


def print_environment() -> None:
    print(f"Python {sys.version.split()[0]}; torch {torch.__version__}; CUDA {torch.version.cuda}")
    names = ("numpy", "scikit-learn", "pytest", "sktime", "cuda-bindings", "nvidia-cuda-nvrtc")
    installed = {(d.metadata["Name"] or "").lower(): d.version for d in importlib.metadata.distributions()}
    print("; ".join(f"{name} {installed.get(name, 'missing')}" for name in names))
    print(f"compiled kernel of the CPU: {'built' if [*(ROOT / 'sfmts/kernels').glob('_native*.so')] else 'missing'}")
    print(f"compiled kernels of the GPU: {len([*program.cache_folder().glob('*.cubin')])} in {program.cache_folder()}")
    if not torch.cuda.is_available():
        print("no GPU")
        return
    free, total = (size / 2**30 for size in torch.cuda.mem_get_info())
    print(f"GPU: {torch.cuda.get_device_name()}, capability {torch.cuda.get_device_capability()}")
    print(f"{free:.1f} of {total:.1f} GiB free; cuDNN {torch.backends.cudnn.version()}")
    print(f"the CUDA kernel: {why_no_cuda() or 'can be used'}")


def why_no_cuda() -> str | None:
    """Return why the CUDA kernel is unavailable."""
    problem = make_problem(TINY, (1,), torch.float32, "cuda")
    return cuda.unavailable(problem.x, problem.weights)


DONE = "all modes ran"


def run_tiny() -> None:
    """Run both directions once, on ragged series, in every mode."""
    for frequencies, accumulated in MODES:
        for dtype in TOLERANCES:
            problem = make_problem(TINY, (5, 5, 3, 1), dtype, "cuda", frequencies, accumulated, mask=True)
            results(problem, cuda)
    torch.cuda.synchronize()
    print(DONE)


def main() -> None:
    parser = argparse.ArgumentParser(description="Test and time what runs on a GPU.")
    parser.add_argument("--environment", action="store_true", help="print versions")
    parser.add_argument("--tests", nargs=argparse.REMAINDER, help="arguments of pytest")
    parser.add_argument("--fits", action="store_true", help="count what an update of whole fits costs")
    parser.add_argument("--device", default="cuda", help="for --fits; the figures of a CPU only show that it works")
    parser.add_argument("--sanitize", metavar="TOOL", help="run --tiny under compute-sanitizer")
    parser.add_argument("--tiny", action="store_true", help="one small training step in each mode")
    parser.add_argument("--report", action="store_true", help="compile with nvcc and print registers and spills")
    parser.add_argument("--architecture", default="sm_90", help="for --report")
    arguments = parser.parse_args()
    if arguments.report:
        print_report(arguments.architecture)
        return
    if arguments.environment:
        print_environment()
        return
    if arguments.device == "cuda" and not torch.cuda.is_available():
        leave(MISSING, "no GPU")
    if arguments.tests is not None or arguments.fits:
        lacking = [*LACKING, *(["pytest"] if arguments.tests and not importlib.util.find_spec("pytest") else [])]
        if lacking:
            leave(MISSING, f"{', '.join(lacking)} missing")
        print_fits(arguments.device) if arguments.fits else run_tests(arguments.tests)
        return
    reason = why_no_cuda()
    if arguments.tiny or arguments.sanitize:
        if reason is not None:
            leave(MISSING, f"the CUDA kernel is unavailable: {reason}")
        run_tiny() if arguments.tiny else sanitize(arguments.sanitize)
        return
    kernels = [fused] if reason else [cuda, fused]
    check_parity(kernels)
    print_speeds(kernels)
    if reason:
        leave(NOTHING_TO_SAY, f"the CUDA kernel is unavailable: {reason}")


if __name__ == "__main__":
    main()
