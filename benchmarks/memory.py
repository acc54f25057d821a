"""Memory of training and prediction, time per step at any length, and what an epoch spends outside the kernel.

    python benchmarks/memory.py                  all tables, in a few minutes
    python benchmarks/memory.py step epoch       some of them: step, length, history, inference, predict, epoch

Needs Linux.  Extra memory is measured in a fresh process, where the call was made once before at a tiny size so that
libraries are loaded: the greatest resident size during the call (VmHWM of /proc/self/status, reset through
/proc/self/clear_refs) less the resident size just before it (VmRSS), when inputs are there already.  Results of the
call, and memory that it keeps for the next one, count as extra.

Times are taken in another process, all variants in turn; a figure is a median, and the first round does not count.
Sizes are those of the paper's second task (D 50, K 4, M 88, N 88) in float32 unless a table says otherwise.  Targets
stand beside what was measured; nothing depends on whether they are met.
"""

import argparse
import gc
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from speed import (
    TASKS,
    Task,
    forward_seconds,
    kernels,
    markdown_row,
    print_environment,
    print_header,
    sfm_contender,
    train_seconds,
)
from torch import Tensor

from sfmts import SFMClassifier, training
from sfmts.heads import ClassificationHead
from sfmts.kernels import MEMORIES
from sfmts.kernels._registry import OPERATIONS
from sfmts.kernels._sfm import native
from sfmts.training import SequenceBatch, SequenceModel

MIB = 1 << 20
SECOND_TASK = TASKS[1]
TINY_TASK = Task(0, D=3, K=2, M=2, N=2, B=1, T=3)  # loads libraries and leaves hardly anything in the kernels' store
FAST_KERNELS = [name for name in kernels() if name != "reference"]


def verdict(value: float, most: float) -> str:
    return "yes" if value <= most else "no"


# -- extra memory, in a process of its own


def resident_bytes(name: str) -> int:
    """Return the current (VmRSS) or the peak (VmHWM) resident memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise LookupError(name)


def extra_mib(function: Callable[[], object]) -> float:
    """Return the increase of resident memory during a call."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = resident_bytes("VmRSS")
    function()
    return (resident_bytes("VmHWM") - before) / MIB


def probe_step(backend: str, memory: str, batch: str, steps: str) -> list[float]:
    """Return the extra memory of three training steps, of which later ones may reuse memory of the first."""
    task = replace(SECOND_TASK, B=int(batch), T=int(steps))
    train_seconds(sfm_contender(TINY_TASK, backend, memory))
    contender = sfm_contender(task, backend, memory)
    return [extra_mib(lambda: [train_seconds(contender) for _ in range(3)])]


def probe_inference(backend: str, batch: str, steps: str) -> list[float]:
    """Return the extra memory of a call without gradients."""
    task = replace(SECOND_TASK, B=int(batch), T=int(steps))
    forward_seconds(sfm_contender(TINY_TASK, backend))
    contender = sfm_contender(task, backend)
    return [extra_mib(lambda: forward_seconds(contender))]


def probe_predict(dtype: str, series: str, steps: str) -> list[float]:
    """Return the extra memory of a prediction, and its seconds."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((int(series), int(steps), 1)).astype(dtype)
    model = SFMClassifier(base=None, max_iter=1, random_state=0, device="cpu").fit(X[:64], np.arange(64) % 2)
    model.predict(X[:8])
    seconds = []

    def predict() -> None:
        start = time.perf_counter()
        model.predict(X)
        seconds.append(time.perf_counter() - start)

    return [extra_mib(predict), *seconds]


PROBES: dict[str, Callable[..., list[float]]] = {
    "step": probe_step,
    "inference": probe_inference,
    "predict": probe_predict,
}


def probe(name: str, *arguments: object) -> list[float]:
    """Run a probe in a fresh process."""
    threads = ["--threads", str(torch.get_num_threads())]
    command = [sys.executable, __file__, *threads, "--probe", name, *map(str, arguments)]
    return [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


# -- one training step


def print_step(repeats: int) -> None:
    """Print memory and time with and without recomputation."""
    task = replace(SECOND_TASK, B=20, T=4000)
    entrants = {(b, m): sfm_contender(task, b, m) for b in FAST_KERNELS for m in MEMORIES}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in entrants}
    for _ in range(repeats + 1):
        for key, contender in entrants.items():
            times[key].append(train_seconds(contender))
    seconds = {key: statistics.median(values[1:]) for key, values in times.items()}
    print(
        f"\nOne training step, B{task.B} T{task.T}; targets for recompute: 1 GB (954 MiB), 1.35 times as long as fast\n"
    )
    print_header(["kernel", "memory", "extra MiB", "met", "ms", "over fast", "met"])
    for backend, memory in entrants:
        (extra,) = probe("step", backend, memory, task.B, task.T)
        ratio = seconds[backend, memory] / seconds[backend, "fast"]
        met = [verdict(extra, 1e9 / MIB), verdict(ratio, 1.35)] if memory == "recompute" else ["", ""]
        print(
            markdown_row(
                [
                    backend,
                    memory,
                    f"{extra:.0f}",
                    met[0],
                    f"{1e3 * seconds[backend, memory]:.0f}",
                    f"{ratio:.2f}",
                    met[1],
                ]
            ),
            flush=True,
        )


# -- any length


LENGTHS = (1_000, 10_000, 100_000)
PASSES = {"forward": forward_seconds, "train, recompute": train_seconds}


def user_seconds() -> float:
    """Time that this process has computed, without that in the system and that of its neighbours."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def length_samples(batch: int, repeats: int) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """Return microseconds a step, passed and computed, by pass and length, from samples of 10 000 steps or more."""
    entrants = {T: sfm_contender(replace(SECOND_TASK, B=batch, T=T), FAST_KERNELS[-1], "recompute") for T in LENGTHS}
    samples: dict[tuple[str, int], list[tuple[float, float]]] = {(name, T): [] for name in PASSES for T in LENGTHS}
    for _ in range(repeats + 1):
        for (name, T), values in samples.items():
            runs, start = max(1, LENGTHS[1] // T), user_seconds()
            passed = sum(PASSES[name](entrants[T]) for _ in range(runs))
            values.append((1e6 * passed / (runs * T), 1e6 * (user_seconds() - start) / (runs * T)))
    return {key: values[1:] for key, values in samples.items()}


def spread(figures: Sequence[float]) -> str:
    """Return by how much the greatest exceeds the least."""
    return f"{100 * (max(figures) / min(figures) - 1):.0f} %"


def print_length(batches: Sequence[int], repeats: int) -> None:
    """Time per step at each length."""
    print(f"\nMicroseconds per time step, {FAST_KERNELS[-1]}: median (least to greatest) of {repeats}; after the comma")
    print("the median of user time, in which neither page faults nor other programs count.  Spreads are of medians;")
    print("their target is 10 %.\n")
    print_header(["B", "pass", *(f"T={T}" for T in LENGTHS), "spread", "of user time"])
    for batch in batches:
        samples = length_samples(batch, repeats)
        for name in PASSES:
            cells, medians = [], []
            for T in LENGTHS:
                passed, used = zip(*samples[name, T], strict=True)
                medians.append((statistics.median(passed), statistics.median(used)))
                cells.append(f"{medians[-1][0]:.1f} ({min(passed):.1f} to {max(passed):.1f}), {medians[-1][1]:.1f}")
            print(markdown_row([batch, name, *cells, *map(spread, zip(*medians, strict=True))]), flush=True)


def print_history() -> None:
    """Print how much each kernel keeps of a step."""
    print(
        "\nFloats kept for the backward per time step and series: by each kernel, and what there is: everything is the"
    )
    print("gates, o, y, S, A and z; a backward could do with S and z, or with z alone\n")
    print_header(["task", *FAST_KERNELS, "everything", "S and z", "z"])
    for task in TASKS:
        state = 2 * task.D * task.K + task.M
        everything = state + 3 * task.D + task.K + 2 * task.K * task.M + task.D * task.K
        floats = (f"{kept_floats(task, backend):.0f}" for backend in FAST_KERNELS)
        print(markdown_row([task, *floats, everything, state, task.M]))


def kept_floats(task: Task, backend: str) -> float:
    """Return the floats per step and series that a forward leaves to its backward, padding and z included."""
    node: Any = sfm_contender(task, backend).forward().grad_fn
    if backend == "native":
        floats = node.call.history.numel() + task.B * task.T * task.M
    else:  # z stands among the buffers
        kept = (value for buffers in node.buffers for value in vars(buffers).values())
        floats = sum(value.numel() for value in kept if isinstance(value, Tensor))
    return floats / (task.B * task.T)


# -- inference


def print_inference() -> None:
    """Print the memory of a call without gradients, without that of its output."""
    batch = 4
    print(f"\nA call without gradients, B{batch}: extra memory beside its output\n")
    print_header(["kernel", "T", "extra MiB", "output MiB", "rest MiB"])
    for backend in FAST_KERNELS:
        for steps in LENGTHS[1:]:
            (extra,) = probe("inference", backend, batch, steps)
            output = 4 * batch * steps * SECOND_TASK.M / MIB
            print(markdown_row([backend, steps, f"{extra:.1f}", f"{output:.1f}", f"{extra - output:.1f}"]), flush=True)


def print_predict() -> None:
    """Print memory and speed of a prediction for many series."""
    series, steps = 10_000, 500
    print(f"\nSFMClassifier().predict, {series} series of {steps} steps and 1 channel; target: 500 MB (477 MiB)\n")
    print_header(["X", "input MiB", "extra MiB", "met", "series per second"])
    for dtype in ("float32", "float64"):
        extra, seconds = probe("predict", dtype, series, steps)
        size = series * steps * np.dtype(dtype).itemsize / MIB
        cells = [dtype, f"{size:.0f}", f"{extra:.0f}", verdict(extra, 5e8 / MIB), f"{series / seconds:.0f}"]
        print(markdown_row(cells), flush=True)


# -- an epoch


class Stopwatch:
    """Seconds by part; a part that runs within another one is not counted there."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._within: list[float] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function, with its time added to this part."""

        def wrapper(*arguments: Any, **options: Any) -> Any:
            self._within.append(0.0)
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                elapsed = time.perf_counter() - start
                self.seconds[part] += elapsed - self._within.pop()
                self.calls[part] += 1
                if self._within:
                    self._within[-1] += elapsed

        return wrapper


KERNEL_PARTS = ("kernel: forward", "kernel: backward")
PARTS = (
    ("kernel: backward", native._NativeSFM, "backward"),
    ("batching", training, "bucketed_batches"),
    ("batching", SequenceBatch, "take"),
    ("forward around the kernel: scaling, packing, pooling", SequenceModel, "features"),
    ("head and loss, forward", ClassificationHead, "forward"),
    ("head and loss, forward", ClassificationHead, "loss"),
    ("backward around the kernel, head and loss included", Tensor, "backward"),
    ("clipping", torch.nn.utils, "clip_grad_norm_"),
    ("optimizer", torch.optim.AdamW, "zero_grad"),
    ("optimizer", torch.optim.AdamW, "step"),
    ("bookkeeping: the rest of the epoch", training.Trainer, "_epoch"),
)


@contextmanager
def parts_timed() -> Iterator[Stopwatch]:
    """Time all parts of an epoch within this context."""
    watch = Stopwatch()
    with ExitStack() as stack:
        for part, owner, name in PARTS:
            timed = watch.timed(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, timed))
        kernels = OPERATIONS["sfm"].kernels
        timed = watch.timed("kernel: forward", kernels["native"])
        stack.enter_context(mock.patch.dict(kernels, {"native": timed}))
        yield watch


def print_epoch(epochs: int) -> None:
    """Print where an epoch of the classifier spends its time."""
    series, classes = 640, 10
    D, K, M, N, B, T = (getattr(SECOND_TASK, name) for name in "DKMNBT")
    X = np.random.default_rng(0).standard_normal((series, T, N)).astype(np.float32)
    y = np.arange(series) % classes
    sizes = {"n_states": D, "n_frequencies": K, "batch_size": B}
    own = {"n_outputs": M, "backend": "native"}
    model = SFMClassifier(base=None, **sizes, network_params=own, max_iter=1, random_state=0, device="cpu").fit(X, y)
    with parts_timed() as watch:
        start = time.perf_counter()
        model.set_params(max_iter=epochs).fit(X, y)
        fit = time.perf_counter() - start
    updates, total = model.history_["n_updates"], watch.seconds.total()
    outside = 1 - sum(watch.seconds[part] for part in KERNEL_PARTS) / total
    print(f"\nOne update of SFMClassifier.fit, B{B} T{T}, {series} series, {classes} classes, mean of {updates}.  The")
    print(
        "kernel is the compiled forward and backward with the calls into them; a part does not count those within it.\n"
    )
    print_header(["part", "microseconds", "share of an epoch"])
    for part, seconds in watch.seconds.most_common():
        print(markdown_row([part, f"{1e6 * seconds / updates:.0f}", f"{100 * seconds / total:.2f} %"]))
    print(
        f"\nOutside the kernel: {100 * outside:.1f} % of an epoch (target: 5 %, met: {verdict(outside, 0.05)}).",
        end=" ",
    )
    print(f"Outside the epochs: {1e3 * (fit - total):.0f} ms of a fit.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure memory, time per step, and the overhead of training.")
    tables = ("step", "length", "history", "inference", "predict", "epoch")
    parser.add_argument("tables", nargs="*", help=f"{', '.join(tables)}; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 32], help="of the table of lengths")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)  # how this script calls itself
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.probe:
        name, *rest = arguments.tables
        print(*PROBES[name](*rest))
        return
    if unknown := set(arguments.tables).difference(tables):
        parser.error(f"there are the tables {', '.join(tables)}, not {', '.join(sorted(unknown))}")
    print_environment()
    print(f"threads: {arguments.threads}")
    printers = {
        "step": lambda: print_step(arguments.repeats),
        "length": lambda: print_length(arguments.batches, arguments.repeats),
        "history": print_history,
        "inference": print_inference,
        "predict": print_predict,
        "epoch": lambda: print_epoch(arguments.epochs),
    }
    for name in arguments.tables or tables:
        printers[name]()


if __name__ == "__main__":
    main()
