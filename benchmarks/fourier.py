"""FFT or matrix, for the layers of :mod:`sfmts.networks.fourier`: microseconds of training, by size.

    python benchmarks/fourier.py

Forward and backward in float32 on one thread, both ways in turn within one process; a figure is the median of the
rounds, and where the last column, matrix over FFT, is below 1 the matrix is the faster.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sfmts.networks import RotationGRU
from sfmts.networks.fourier import DFTLayer, FourierMixing


def compare(title: str, x: Tensor, contenders: Sequence[Callable[[Tensor], Tensor]], rounds: int) -> None:
    """Print the times of two ways to the same output, and their ratio."""
    x.requires_grad_()
    upstream = [torch.ones_like(contender(x)) for contender in contenders]
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, gradient, taken in zip(contenders, upstream, times, strict=True):
            start = time.perf_counter()
            contender(x).backward(gradient)
            taken.append(1e6 * (time.perf_counter() - start))
    fft, matrix = (statistics.median(taken[1:]) for taken in times)
    print(f"{title:32} {fft:12.0f} {matrix:12.0f} {matrix / fft:8.2f}")


def rotation(n: int, method: str) -> Callable[[Tensor], Tensor]:
    network = RotationGRU(n, n_states=n, method=method, generator=torch.Generator().manual_seed(0))
    return lambda x: network(x).states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"{'':32} {'FFT':>12} {'matrix':>12} {'ratio':>8}")
    for n in (8, 32, 127, 128, 512):
        layers = [DFTLayer(n, method=method) for method in ("fft", "matrix")]
        compare(f"DFTLayer n={n}, 32 rows", torch.randn(32, n), layers, rounds)
    for T, H in ((8, 32), (32, 32), (100, 32), (127, 32), (512, 32), (100, 128), (127, 128)):
        mixings = [FourierMixing(method=method) for method in ("fft", "matrix")]
        compare(f"FourierMixing {T} x {H}, 32 series", torch.randn(32, T, H), mixings, rounds)
    for n in (16, 64, 128, 139, 164, 200, 256, 384, 512):
        networks = [rotation(n, method) for method in ("fft", "matrix")]
        compare(f"RotationGRU n={n}, 32 x 25 steps", torch.randn(32, 25, n), networks, rounds)


if __name__ == "__main__":
    main()
