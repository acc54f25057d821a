"""Microseconds per time step: the SFM kernels, torch.nn.LSTM at equal parameters, and qlib's SFM.

    python benchmarks/speed.py --threads 1 2             the paper's tasks
    python benchmarks/speed.py --small                   the same networks, batches of 1 and 8
    python benchmarks/speed.py --instruction-set avx2    nobody uses AVX-512
    python benchmarks/speed.py --networks                all registered networks at the size of task 2

The sizes are those of the paper's three tasks; the LSTM has the width whose count of parameters is nearest to the
SFM's.  Every contender gets the same treatment: float32, input and upstream gradient made beforehand,
``output.backward(gradient)`` without a loss function, and all contenders in turn within one process, so that a busy
machine disturbs each alike.  The first round warms up and does not count.  A turn begins with
a pause and with a training step that does not count either, so that each finds caches and threads as they are in its
own training.  A figure is the median of the other rounds, with their minimum in parentheses; a ratio is one of
medians.  Targets stand beside what was measured; nothing depends on whether they are met.

Before anything is timed the fused and the compiled kernel are checked against the reference kernel in float64, output
(without gradients, too) and every gradient, to 1e-4 of each tensor's largest entry; if one disagrees nothing is timed,
and the exit status is 1.

With ``--instruction-set`` the script starts itself again in an environment that limits the compiled kernel, PyTorch,
MKL and oneDNN alike: they read it while they are loaded.  (On AMD processors MKL may choose for itself.)

With ``--networks`` there is one table, of all registered networks: as many states as bring each, with a linear layer
for 88 outputs, nearest to 139 000 parameters, in batches of 32 series of 100 steps.  Their kernels are not checked
here; the conformance suite of the tests does that.

qlib's SFM is timed if it can be imported (``pip install pyqlib``, or ``--peers FOLDER`` if it lives in a folder of its
own).  It shares D and K with the others but not the paper's read-out, so that its count of parameters differs; it puts
out only the last step, so that its upstream gradient is one number a series; and it keeps its state in float64 whatever
its input is.
"""

import argparse
import contextlib
import functools
import io
import itertools
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sfmts.kernels import SFMState, SFMWeights, _compiled, sfm
from sfmts.networks import SFM, SequenceNetwork, make_network, match_budget, network_names

TOLERANCE = 1e-4  # of the largest entry of each tensor


@dataclass(frozen=True)
class Task:
    """Sizes of one of the paper's tasks: D, K, M, N, batch and steps."""

    number: int
    D: int
    K: int
    M: int
    N: int
    B: int
    T: int

    def __str__(self) -> str:
        return f"{self.number}: D{self.D} K{self.K} M{self.M} N{self.N}, B{self.B} T{self.T}"

    def network(self) -> SFM:
        """Return the SFM of this size, always with the same weights."""
        generator = torch.Generator().manual_seed(self.number)
        return SFM(self.N, n_states=self.D, n_frequencies=self.K, n_outputs=self.M, generator=generator)

    def noise(self, *shape: int, seed: int) -> Tensor:
        """Return standard normal numbers, always the same."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


TASKS = (
    Task(1, D=50, K=4, M=1, N=2, B=64, T=500),
    Task(2, D=50, K=4, M=88, N=88, B=32, T=100),
    Task(2, D=50, K=4, M=88, N=88, B=128, T=100),
    Task(3, D=30, K=8, M=61, N=26, B=32, T=100),
)
SMALL_TASKS = tuple(replace(task, B=B, T=500) for task in (*TASKS[:2], TASKS[3]) for B in (1, 8))


def kernels() -> list[str]:
    """Return the kernels to check and to time; the compiled one may be missing from an installation."""
    return ["reference", "fused"] if _compiled.missing() else ["reference", "fused", "native"]


def lstm_parameters(n_channels: int, width: int) -> int:
    """Return the number of trainable parameters of an LSTM, whose two biases act as one and count once."""
    return 4 * width * (width + n_channels + 1)


def lstm_width(n_channels: int, n_parameters: int) -> int:
    """Return the hidden width that brings an LSTM's parameters closest to this count."""
    return min(range(1, 1000), key=lambda width: abs(lstm_parameters(n_channels, width) - n_parameters))


# -- parity


def results(task: Task, backend: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return output, last state and every gradient of one training step, by name.

    The frequencies lie half-way between those of the paper and the states start at random.  At the frequencies 0 and
    pi a state is a real number, and the gradient of its amplitude jumps where it changes sign: there the gradients
    of any two float32 programs differ, the reference's among them, and a comparison would tell nothing.
    """
    network = task.network().to(dtype)
    weights = network.layers[0].weights()
    omega = (weights.omega + torch.pi / task.K).detach().requires_grad_()
    start = {"re": (task.D, task.K), "im": (task.D, task.K), "z": (task.M,)}
    inputs = {
        "x": task.noise(task.T * task.B, task.N, seed=0),
        **{name: task.noise(task.B, *shape, seed=2 + i) for i, (name, shape) in enumerate(start.items())},
    }
    inputs = {name: tensor.to(dtype).requires_grad_() for name, tensor in inputs.items()}
    arguments = (
        inputs["x"],
        [task.B] * task.T,
        clock(task),
        weights._replace(omega=omega),
        SFMState.zeros(task.B, weights)._replace(**{name: inputs[name] for name in start}),
    )
    with torch.no_grad():  # another path through the compiled kernel, and the one that the forward's times are of
        z_alone = sfm(*arguments, backend=backend)[0]
    z, last = sfm(*arguments, backend=backend)
    z.backward(task.noise(*z.shape, seed=1).to(dtype))
    leaves = {**dict(network.layers[0].named_parameters()), "omega": omega, **inputs}
    return {
        "z": z.detach(),
        "z without gradients": z_alone,
        **{f"last {name}": getattr(last, name).detach() for name in start},
        **{f"gradient of {name}": leaf.grad for name, leaf in leaves.items()},
    }


@functools.cache
def expected(task: Task) -> dict[str, Tensor]:
    """Return the results of the reference kernel in float64."""
    return results(task, "reference", torch.float64)


def parity_errors(task: Task, backend: str) -> dict[str, float]:
    """Return the greatest error of a kernel in each tensor, relative to the tensor's largest entry."""
    found = results(task, backend, torch.float32)
    return {
        name: float((found[name].double() - exact).abs().max() / exact.abs().max())
        for name, exact in expected(task).items()
    }


def check_parity(tasks: Sequence[Task], threads: Sequence[int]) -> None:
    """Print the worst error of each kernel at each task, or leave the program if any is too great."""
    print("\nParity with the reference in float64, relative to each tensor's largest entry\n")
    print_header(["task", "threads", "kernel", "worst error", "of"])
    for count, task, backend in itertools.product(threads, tasks, kernels()[1:]):
        torch.set_num_threads(count)
        errors = parity_errors(task, backend)
        wrong = {name: error for name, error in errors.items() if not error <= TOLERANCE}
        if wrong:
            listed = "\n".join(f"  {name}: {error:.1e}" for name, error in wrong.items())
            print(f"\nParity is red, so there are no speeds to compare.\n{backend}, {task}, threads {count}:\n{listed}")
            sys.exit(1)
        worst = max(errors, key=errors.__getitem__)
        print(markdown_row([task, count, backend, f"{errors[worst]:.1e}", worst]), flush=True)


def clock(task: Task) -> Tensor:
    """Return 1, 2, 3, ... for each packed row."""
    return torch.arange(1, task.T + 1, dtype=torch.float64).repeat_interleave(task.B)


# -- contenders


class Contender(NamedTuple):
    """Something to time."""

    forward: Callable[[], Tensor]
    parameters: list[Tensor]
    gradient: Tensor
    n_parameters: int


def sfm_contender(task: Task, backend: str, memory: str = "fast") -> Contender:
    """Return one of the kernels of this library."""
    network = task.network()
    weights: SFMWeights = network.layers[0].weights()
    x, t, batch_sizes = task.noise(task.T * task.B, task.N, seed=0), clock(task), [task.B] * task.T
    state = SFMState.zeros(task.B, weights)

    def forward() -> Tensor:
        return sfm(x, batch_sizes, t, weights, state, backend=backend, memory=memory)[0]

    gradient = task.noise(task.T * task.B, task.M, seed=1)
    return Contender(forward, list(network.parameters()), gradient, network.n_parameters)


def lstm_contender(task: Task) -> Contender:
    """Return PyTorch's LSTM."""
    width = lstm_width(task.N, task.network().n_parameters)
    network = nn.LSTM(task.N, width)
    x = task.noise(task.T, task.B, task.N, seed=0)
    gradient = task.noise(task.T, task.B, width, seed=1)
    return Contender(lambda: network(x)[0], list(network.parameters()), gradient, lstm_parameters(task.N, width))


def qlib_contender(task: Task, model_class: type[nn.Module]) -> Contender:
    """Return Qlib's SFM, whose input is (series, channels x steps)."""
    network = model_class(d_feat=task.N, freq_dim=task.K, hidden_size=task.D)
    x = task.noise(task.B, task.N * task.T, seed=0)
    parameters = list(network.parameters())
    n_parameters = sum(p.numel() for p in parameters)
    return Contender(lambda: network(x).view(task.B), parameters, task.noise(task.B, seed=1), n_parameters)


def find_qlib(peers: Path | None) -> type[nn.Module] | None:
    """Return the class of qlib's SFM, or None if it is not installed."""
    if peers is not None:
        sys.path.append(str(peers))
    noise = io.StringIO()  # on import qlib prints which of its optional dependencies are missing
    try:
        with contextlib.redirect_stdout(noise):
            from qlib.contrib.model.pytorch_sfm import SFM_Model
    except ImportError as error:
        print(f"qlib SFM: not installed (pip install pyqlib): {error}")
        return None
    return SFM_Model


def contenders(task: Task, qlib: type[nn.Module] | None) -> dict[str, Contender]:
    """Return the available contenders by name."""
    found = {backend: sfm_contender(task, backend) for backend in kernels()} | {"LSTM": lstm_contender(task)}
    return found if qlib is None else {**found, "qlib": qlib_contender(task, qlib)}


# -- timing


class Times(NamedTuple):
    """Microseconds per time step, one entry a repeat."""

    train: list[float]
    forward: list[float]


def train_seconds(contender: Contender) -> float:
    """Return the seconds of one forward and backward pass."""
    for parameter in contender.parameters:
        parameter.grad = None
    start = time.perf_counter()
    contender.forward().backward(contender.gradient)
    return time.perf_counter() - start


def forward_seconds(contender: Contender) -> float:
    """Return the seconds of one forward pass without gradients."""
    with torch.no_grad():
        start = time.perf_counter()
        contender.forward()
        return time.perf_counter() - start


def measure(task: Task, entrants: dict[str, Contender], repeats: int) -> dict[str, Times]:
    """Time all contenders in turn, after one round that does not count."""
    times = {name: Times([], []) for name in entrants}
    for _ in range(repeats + 1):
        for name, contender in entrants.items():
            time.sleep(PAUSE)
            train_seconds(contender)
            times[name].train.append(1e6 * train_seconds(contender) / task.T)
            times[name].forward.append(1e6 * forward_seconds(contender) / task.T)
    return {name: Times(train[1:], forward[1:]) for name, (train, forward) in times.items()}


# -- tables


RATIOS = (("reference", "native"), ("fused", "native"), ("qlib", "native"))
# Seconds before each turn, in which the OpenMP workers of the contender before go to sleep; until then they keep a core
# busy.
PAUSE = 0.1
TRAINING_TARGETS = {(1, 64): 0.9, (2, 32): 0.8, (2, 128): 0.6, (3, 32): 0.65}


def target(task: Task, kind: str, instruction_set: str | None) -> float:
    """Return the upper limit of native/LSTM."""
    if kind == "forward":
        return 0.6 if task.B == 1 else 0.95
    if task.B <= 8:
        return 1.2
    return 0.6 if instruction_set == "avx2" else TRAINING_TARGETS[task.number, task.B]


def met(ratio: float, most: float) -> str:
    return "yes" if ratio <= most else "no"


def markdown_row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def print_header(cells: Sequence[object]) -> None:
    print(markdown_row(cells))
    print(markdown_row(["---"] * len(cells)), flush=True)


def speed_rows(task: Task, times: dict[str, Times], instruction_set: str | None) -> Iterator[str]:
    """Return the two lines of a task: median and minimum of each contender, and ratios of medians."""
    for kind in Times._fields:
        samples = {name: getattr(value, kind) for name, value in times.items()}
        median = {name: statistics.median(values) for name, values in samples.items()}
        cells = [task, kind, *(f"{median[name]:.1f} ({min(samples[name]):.1f})" for name in times)]
        if "native" in median:
            ratio, most = median["native"] / median["LSTM"], target(task, kind, instruction_set)
            cells += [f"{ratio:.2f}", most, met(ratio, most)]
            ratios = (f"{median[a] / median[b]:.1f}" for a, b in RATIOS if a in median)
            cells += ratios if kind == "train" else ("" for _ in ratios)
        yield markdown_row(cells)


def print_parameters(tasks: Sequence[Task], qlib: type[nn.Module] | None) -> None:
    """Print one line for each network, which is the same at any batch size."""
    print("\nTrainable parameters\n")
    print_header(["task", "SFM", "LSTM", "width of the LSTM", *(["qlib"] if qlib else [])])
    for task in {task.number: task for task in tasks}.values():
        n_parameters = task.network().n_parameters
        width = lstm_width(task.N, n_parameters)
        counts = [n_parameters, lstm_parameters(task.N, width), width]
        counts += [qlib_contender(task, qlib).n_parameters] if qlib else []
        print(markdown_row([task.number, *counts]))


def print_speeds(
    tasks: Sequence[Task], threads: int, repeats: int, qlib: type[nn.Module] | None, instruction_set: str | None
) -> None:
    """Measure and print one table."""
    torch.set_num_threads(threads)
    names = [*kernels(), "LSTM", *(["qlib"] if qlib else [])]
    ratios = [f"{a}/{b}" for a, b in RATIOS if a in names]
    print(
        f"\nMicroseconds per time step, threads: {threads}; median (minimum) of {repeats}; ratios of medians, which are"
    )
    print("to be at most the target for native/LSTM, at least 10 for reference/native and qlib/native\n")
    print_header(["task", "pass", *names, *(["native/LSTM", "target", "met", *ratios] if "native" in names else [])])
    for task in tasks:
        for line in speed_rows(task, measure(task, contenders(task, qlib), repeats), instruction_set):
            print(line, flush=True)


# -- all networks


NETWORKS_TASK = TASKS[1]
NETWORKS_BUDGET = 139_000  # with a linear layer as wide as the input
NETWORKS_TARGET = 6.0  # of the training time of torch.nn.LSTM, for networks whose steps follow one another
NO_TARGET = {"act"}  # it takes several passes a step, as many as it likes


def network_contender(network: SequenceNetwork) -> Contender:
    """Return a network with the parameters of a linear layer on top of it."""
    task = NETWORKS_TASK
    x = task.noise(task.B, task.T, task.N, seed=0)
    gradient = task.noise(task.B, task.T, network.output_size, seed=1)
    n_parameters = network.n_parameters + (network.output_size + 1) * task.N
    return Contender(lambda: network(x).states, list(network.parameters()), gradient, n_parameters)


def torch_lstm_contender(n_states: int) -> Contender:
    """Return PyTorch's LSTM of the same size, without anything around it."""
    task = NETWORKS_TASK
    network = nn.LSTM(task.N, n_states, batch_first=True)
    x, gradient = task.noise(task.B, task.T, task.N, seed=0), task.noise(task.B, task.T, n_states, seed=1)
    n_parameters = lstm_parameters(task.N, n_states) + (n_states + 1) * task.N
    return Contender(lambda: network(x)[0], list(network.parameters()), gradient, n_parameters)


def print_networks(threads: int, repeats: int) -> None:
    """Measure and print all networks at equal parameters."""
    torch.set_num_threads(threads)
    widths = {name: match_budget(name, NETWORKS_BUDGET, NETWORKS_TASK.N, NETWORKS_TASK.N) for name in network_names()}
    networks = {
        name: make_network(name, NETWORKS_TASK.N, n_states=width, generator=torch.Generator().manual_seed(0))
        for name, width in widths.items()
    }
    aimed = {name for name, network in networks.items() if network.causal} - NO_TARGET
    entrants = {"nn.LSTM": torch_lstm_contender(widths["lstm"])}
    entrants |= {name: network_contender(network) for name, network in networks.items()}
    times = measure(NETWORKS_TASK, entrants, repeats)
    print(f"\nMicroseconds per time step, threads: {threads}; median (minimum) of {repeats}; ratios of medians\n")
    print_header(["network", "states", "parameters", *Times._fields, "train/nn.LSTM", "target", "met"])
    base = statistics.median(times["nn.LSTM"].train)
    for name, found in times.items():
        cells = [name, widths.get(name, widths["lstm"]), entrants[name].n_parameters]
        cells += [f"{statistics.median(samples):.0f} ({min(samples):.0f})" for samples in found]
        ratio = statistics.median(found.train) / base
        cells += [f"{ratio:.2f}", *([NETWORKS_TARGET, met(ratio, NETWORKS_TARGET)] if name in aimed else ["", ""])]
        print(markdown_row(cells), flush=True)


# -- the machine


def cpu_name() -> str:
    """Return the processor's name if the system provides it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()


def print_environment() -> None:
    """Print processor, versions and instruction sets."""
    versions = re.findall(r"(Math Kernel Library Version|MKL-DNN v)\s*([\d.]+)", torch.__config__.show())
    libraries = [f"{'oneDNN' if 'DNN' in name else 'MKL'} {version}" for name, version in versions]
    print(f"{cpu_name()}; Python {platform.python_version()}; {'; '.join([f'torch {torch.__version__}', *libraries])}")
    compiled = _compiled.missing() or _compiled.instruction_set()
    print(f"compiled kernel: {compiled}; torch: {torch.backends.cpu.get_cpu_capability()}; float32")


def limit_instruction_set(name: str) -> None:
    """Start anew with the environment that limits everybody, unless this is it."""
    limits = {
        "SFMTS_INSTRUCTION_SET": name,
        "ATEN_CPU_CAPABILITY": name,
        "MKL_ENABLE_INSTRUCTIONS": name.upper(),
        "ONEDNN_MAX_CPU_ISA": name.upper(),
        "DNNL_MAX_CPU_ISA": name.upper(),  # its older name
    }
    if any(os.environ.get(variable) != value for variable, value in limits.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | limits)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the SFM kernels beside torch.nn.LSTM and qlib's SFM.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="one table for each number of threads")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 3], choices=[1, 2, 3])
    parser.add_argument("--small", action="store_true", help="batches of 1 and 8, 500 steps, instead of the paper's")
    parser.add_argument("--networks", action="store_true", help="all registered networks at equal parameters, instead")
    parser.add_argument("--instruction-set", choices=["avx2"], help="the most that any contender may use")
    parser.add_argument("--peers", type=Path, help="folder that holds qlib, if it is not installed")
    arguments = parser.parse_args()
    if arguments.instruction_set:
        limit_instruction_set(arguments.instruction_set)
    tasks = [task for task in (SMALL_TASKS if arguments.small else TASKS) if task.number in arguments.tasks]
    print_environment()
    if arguments.networks:
        for threads in arguments.threads:
            print_networks(threads, arguments.repeats)
        return
    qlib = find_qlib(arguments.peers)
    check_parity(tasks, arguments.threads)
    print_parameters(tasks, qlib)
    for threads in arguments.threads:
        print_speeds(tasks, threads, arguments.repeats, qlib, arguments.instruction_set)


if __name__ == "__main__":
    main()
