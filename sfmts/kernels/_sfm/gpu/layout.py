"""Choose the layout of a kernel on a device: threads, sequences per block, and the place of each weight.

A block keeps as many weights as possible in registers, then in shared memory. It reads the others at every step from
the L2 cache. `sfm.cu` is compiled for each layout.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import torch

Direction = Literal["forward", "backward"]

# Sequences per block: each takes two registers per thread, and vectors in shared memory. There are few choices, because
# the kernel is compiled for each, and the last batch of an epoch or a prediction should not need another one.
TILES = (1, 2, 4, 8)
_RING_BYTES = 12 << 10  # most shared memory for a prefetch of more than one step
# Registers for everything except weights and sums. With fewer, nvcc spilled some at the paper's sizes.
_OTHER_REGISTERS: dict[Direction, int] = {"forward": 88, "backward": 80}
_MAX_THREADS = 512  # with more, a thread has too few registers even without weights
_BYTES = 16  # size of a chunk of weights, and alignment of every array in shared memory
# Estimated cost of fused.py: launches per step of a training pass, cycles per launch, and multiplications of one
# multiprocessor per cycle in the products of large batches.
FUSED_LAUNCHES = 43
_CYCLES_PER_LAUNCH, _FUSED_PRODUCTS = 7500, 64


class Device(NamedTuple):
    """Properties of a device that determine a layout."""

    processors: int
    shared_bytes: int  # most shared memory of one block
    registers: int = 65536  # per processor


@dataclass(frozen=True)
class Sizes:
    """Sizes of a layer, and its type."""

    D: int
    K: int
    M: int
    adaptive: bool
    accumulated: bool
    dtype: torch.dtype  # of the weights

    @property
    def real(self) -> torch.dtype:
        """Return the type of state, gates and sums."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def R(self) -> int:  # noqa: N802
        """Return the number of rows of W."""
        return 3 * self.D + self.K + (self.K if self.adaptive else 0) + self.K * self.M


@dataclass(frozen=True)
class Matrix:
    """One of the two matrix products of a step, distributed over the threads; `matrix.h` explains the terms."""

    rows: int
    columns: int
    matrices: int
    chunk: int  # weights per chunk
    threads: int
    split: int = 1
    in_registers: int = 0
    in_shared: int = 0

    @property
    def slots(self) -> int:
        """Return the number of parts of rows."""
        return self.rows * self.split

    @property
    def rounds(self) -> int:
        """Return the number of slots of the busiest thread."""
        return _ceil(self.slots, self.threads)

    @property
    def chunks(self) -> int:
        """Return the number of chunks per slot."""
        return _ceil(_ceil(self.columns, self.chunk), self.split)

    @property
    def width(self) -> int:
        """Return the length of a vector, including its padding."""
        return self.split * self.chunks * self.chunk

    @property
    def registers_per_chunk(self) -> int:
        """Return the number of 32-bit registers that one more chunk of each slot takes in every thread."""
        return 4 * self.rounds * self.matrices

    @property
    def bytes_per_chunk(self) -> int:
        """Return the shared memory that one more chunk of each slot takes."""
        return _BYTES * self.slots * self.matrices

    @property
    def shared_bytes(self) -> int:
        """Return the size of struct Memory."""
        return self.in_shared * self.bytes_per_chunk + _BYTES

    def pack(self, weights: torch.Tensor) -> torch.Tensor:
        """Return weights of shape (matrices, rows, columns) in the order that `matrix.h` reads."""
        padded = torch.nn.functional.pad(weights, (0, self.width - self.columns))
        parts = padded.view(self.matrices, self.rows, self.split, self.chunks, self.chunk)
        return parts.permute(2, 3, 0, 1, 4).contiguous()

    def cycles(self, tile: int) -> float:
        """Estimate the time of one product with the bandwidths of recent data-centre GPUs, to compare layouts."""
        warps = _ceil(self.slots, 32)
        vectors = self.chunks * tile * max(1, self.chunk // 4)
        sums = self.chunks * self.chunk * tile * self.matrices
        streamed = self.chunks - self.in_registers - self.in_shared
        issue = warps * (sums + vectors + (self.in_shared + streamed) * self.matrices) / 4
        shared = warps * (vectors + 4 * self.in_shared * self.matrices)
        stream = 600 + streamed * self.bytes_per_chunk / 20 if streamed else 0
        latency = self.rounds * self.chunks * 10 + 8 * self.split
        return max(issue, shared, stream, latency) + latency / 4

    def best_split(self, tile: int) -> "Matrix":
        """Return the split that would be fastest with all weights in registers."""
        most = min(_ceil(self.columns, self.chunk), max(1, self.threads // self.rows))
        candidates = [replace(self, split=split) for split in range(1, most + 1)]
        return min(candidates, key=lambda m: replace(m, in_registers=m.chunks).cycles(tile))


@dataclass(frozen=True)
class Layout:
    """All parameters that `sfm.cu` is compiled for."""

    direction: Direction
    sizes: Sizes
    tile: int
    threads: int
    gates: Matrix
    states: Matrix

    @property
    def stage_bytes(self) -> int:
        """Return the size of one stage of the ring."""
        return sum(map(_aligned, self._stage()))

    @property
    def stages(self) -> int:
        """Return the number of steps in the ring."""
        return min(4, max(2, _RING_BYTES // self.stage_bytes))

    @cached_property
    def shared_bytes(self) -> int:
        """Return the shared memory of one block; a static assertion in `sfm.cu` verifies it."""
        arrays = sum(map(_aligned, self._vectors()))
        return self.gates.shared_bytes + self.states.shared_bytes + self.stages * self.stage_bytes + arrays

    def macros(self) -> dict[str, object]:
        """Return the names and values of the macros of `sfm.cu`."""
        sizes = self.sizes
        single = sizes.real == torch.float32
        return {
            self.direction.upper(): 1,
            **{"D": sizes.D, "K": sizes.K, "M": sizes.M},
            **{"ADAPTIVE": int(sizes.adaptive), "ACCUMULATED": int(sizes.accumulated)},
            "REAL": "float" if single else "double",
            "WEIGHT_BITS": 8 * sizes.dtype.itemsize,
            "EPSILON": "1e-12" if single else "1e-24",
            **{"TILE": self.tile, "THREADS": self.threads, "STAGES": self.stages, "SHARED_BYTES": self.shared_bytes},
            **_residency("GATES", self.gates),
            **_residency("STATES", self.states),
        }

    def _stage(self) -> Iterator[int]:
        """Yield the bytes of the arrays of struct Stage, in their order."""
        (D, K, M), real = (self.sizes.D, self.sizes.K, self.sizes.M), self.sizes.real.itemsize
        numbers = [self.sizes.R, 2 * K]
        if self.direction == "backward":
            numbers += [K * M, 2 * K * D, M]
        yield from (real * self.tile * number for number in numbers)
        yield 8 * (self.tile if self.sizes.adaptive else 2)

    def _vectors(self) -> Iterator[int]:
        """Yield the bytes of the arrays of struct Shared, without weights and ring."""
        (D, K, M), real = (self.sizes.D, self.sizes.K, self.sizes.M), self.sizes.real.itemsize
        numbers = [
            M,
            2 * K * D,
            self.gates.width,
            K * self.states.width,
        ]  # mask, S, vectors of the products
        if self.direction == "forward":
            numbers += [self.states.split * 2 * K * M, K * M]
            yield real * K * M  # b_z
        else:
            numbers += [2 * K * D, self.states.split * K * D, self.gates.split * M]
            numbers += [K * D] * 2 + [K * 4 * _ceil(D, 4)] * 2
        yield from (real * self.tile * number for number in numbers)
        yield 8 * self.tile * K  # theta or its gradient
        yield 4 * self.tile  # lengths


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _aligned(size: int) -> int:
    return _ceil(size, _BYTES) * _BYTES


def _residency(name: str, matrix: Matrix) -> dict[str, object]:
    return {
        f"{name}_SPLIT": matrix.split,
        f"{name}_IN_REGISTERS": matrix.in_registers,
        f"{name}_IN_SHARED": matrix.in_shared,
    }


def choose_tile(batch: int, device: Device) -> int:
    """Return the least number of sequences per block for which every block has a processor, or the greatest number."""
    return next((tile for tile in TILES if tile * device.processors >= batch), TILES[-1])


@lru_cache(maxsize=256)
def choose_layout(
    direction: Direction, sizes: Sizes, tile: int, device: Device, threads: int | None = None
) -> Layout | None:
    """Return the layout with the lowest estimated time, with half as many sequences per block if ``tile`` do not fit.

    Return None if the vectors of a single sequence exceed the shared memory.
    """
    fewer = tile
    while fewer:
        widths = [threads] if threads else range(64, _MAX_THREADS + 1, 32)
        layouts = [_fill(_bare(direction, sizes, fewer, width), device) for width in widths]
        fitting = [layout for layout in layouts if layout.shared_bytes <= device.shared_bytes]
        if fitting:
            return min(fitting, key=_cycles)
        fewer //= 2
    return None


def is_slower_than_fused(sizes: Sizes, sequences: int, device: Device) -> bool:
    """Return whether a training step of the kernel would take longer than one of ``fused.py``.

    That is so for large layers, whose weights every block reads from the L2 cache at every step.
    """
    tile = choose_tile(sequences, device)
    directions: tuple[Direction, ...] = ("forward", "backward")
    layouts = [choose_layout(direction, sizes, tile, device) for direction in directions]
    cycles = 0.0
    for layout in layouts:
        if layout is None:  # not even a single sequence fits
            return True
        cycles += _cycles(layout) * _ceil(_ceil(sequences, layout.tile), device.processors)
    products = 3 * sequences * (sizes.R * sizes.M + 2 * sizes.K * sizes.M * sizes.D)
    fused = FUSED_LAUNCHES * _CYCLES_PER_LAUNCH + products / (_FUSED_PRODUCTS * device.processors)
    return cycles > fused


def _bare(direction: Direction, sizes: Sizes, tile: int, threads: int) -> Layout:
    """Return a layout that streams all weights from the L2 cache."""
    D, K, M, R = sizes.D, sizes.K, sizes.M, sizes.R
    chunk = _BYTES // sizes.dtype.itemsize
    if direction == "forward":
        # Not split: each column has at least K rows, and the thread that sums a gate activates it.
        gates = Matrix(R, M, 1, chunk, threads)
        states = Matrix(K * M, D, 2, chunk, threads).best_split(tile)
    else:
        gates = Matrix(M, R, 1, chunk, threads).best_split(tile)
        states = Matrix(K * D, 2 * M, 1, chunk, threads).best_split(tile)
    return Layout(direction, sizes, tile, threads, gates, states)


def _fill(layout: Layout, device: Device) -> Layout:
    """Place the weights of both products in registers and shared memory."""
    matrices = {"gates": layout.gates, "states": layout.states}
    # Each of the four parts of a processor has a quarter of the registers and allocates them in units of eight.
    warps = _ceil(_ceil(layout.threads, 32), 4)
    per_thread = min(255, device.registers // 4 // (32 * warps) // 8 * 8)
    most_sums = layout.tile * max(m.matrices for m in matrices.values())
    registers = per_thread - _OTHER_REGISTERS[layout.direction] - 3 * most_sums
    room = device.shared_bytes - layout.shared_bytes
    # Threads without a slot waste their registers, so the product whose slots fill the threads best comes first.
    for name in sorted(matrices, key=lambda n: -matrices[n].slots / (matrices[n].rounds * layout.threads)):
        matrix = matrices[name]
        in_registers = min(matrix.chunks, max(0, registers) // matrix.registers_per_chunk)
        registers -= in_registers * matrix.registers_per_chunk
        in_shared = min(matrix.chunks - in_registers, max(0, room) // matrix.bytes_per_chunk)
        room -= in_shared * matrix.bytes_per_chunk
        matrices[name] = replace(matrix, in_registers=in_registers, in_shared=in_shared)
    return replace(layout, gates=matrices["gates"], states=matrices["states"])


def _cycles(layout: Layout) -> float:
    """Estimate the time of a step."""
    tile, threads, K, D, M = layout.tile, layout.threads, layout.sizes.K, layout.sizes.D, layout.sizes.M
    pointwise = 40 * sum(_ceil(tile * items, threads) for items in (K * D, K * M, M))
    barriers = 5 * (30 + threads / 16)
    return layout.gates.cycles(tile) + layout.states.cycles(tile) + pointwise + barriers
