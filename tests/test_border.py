"""What crosses the border to compiled code: invalid arguments are refused, alike by all kernels, and exceptions return.

Fuzzing changes valid arguments at random. A fast kernel must then raise the reference's error, which names an argument,
or return its result.
"""

import ctypes
import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfmts import kernels
from sfmts.kernels import (
    Bank,
    SFMState,
    SFMWeights,
    instruction_set,
    pack,
    resonate,
    resonator_layer,
    scan,
    sfm,
    sfm_layer,
    summarize_bank,
    trace_bank,
    unpack,
)
from sfmts.kernels._checks import plain
from sfmts.kernels._resonator.projection import projection
from sfmts.kernels._sfm import native
from tests.helpers import KERNELS, every_fast_kernel, every_kernel, every_pair

POOL = Path(kernels.__file__).parent / "cpu" / "pool.h"

# -- valid arguments, by name; "weights.V" is a field


def normal(*shape, dtype=torch.float64, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).normal(size=shape)).to(dtype)


def sfm_arguments(dtype=torch.float64, adaptive=False, lengths=(3, 3, 1)):
    D, K, M, N, B = 3, 2, 2, 2, len(lengths)
    R = 3 * D + K + K * adaptive + K * M
    sizes = [sum(length > t for length in lengths) for t in range(lengths[0])]
    weights = {
        "V": normal(R, N, dtype=dtype, seed=1),
        "W": normal(R, M, dtype=dtype, seed=2) / 4,
        "b": normal(R, dtype=dtype, seed=3),
        "U_o": normal(K, M, D, dtype=dtype, seed=4),
        "W_z": normal(K, M, D, dtype=dtype, seed=5),
        "b_z": normal(K, M, dtype=dtype, seed=6),
        "omega": None if adaptive else torch.tensor([0.0, 1.0], dtype=torch.float64),
    }
    state = {
        "re": normal(B, D, K, dtype=dtype, seed=7),
        "im": normal(B, D, K, dtype=dtype, seed=8),
        "z": normal(B, M, dtype=dtype, seed=9),
        "t": torch.zeros(B, dtype=torch.float64),
        "theta": normal(B, K, seed=10),
    }
    t = torch.cat([torch.full((n,), 1.0 + step, dtype=torch.float64) for step, n in enumerate(sizes)])
    return {
        "x": normal(sum(sizes), N, dtype=dtype, seed=11),
        "batch_sizes": sizes,
        "t": t,
        **{f"weights.{name}": value for name, value in weights.items()},
        **{f"state.{name}": value for name, value in state.items()},
        "feedback_mask": None,
    }


def layer_arguments(dtype=torch.float64, adaptive=False):
    arguments = sfm_arguments(dtype, adaptive)
    del arguments["batch_sizes"]
    arguments["x"], arguments["t"] = normal(3, 4, 2, dtype=dtype), torch.arange(12.0).double().view(3, 4)
    return arguments | {"lengths": torch.tensor([2, 4, 1])}


def resonate_arguments(dtype=torch.float64, full=True):
    T, B, K, D = 4, 3, 2, 5
    return {
        "f_ste": torch.sigmoid(normal(T, B, D, dtype=dtype)),
        "f_fre": torch.sigmoid(normal(T, B, K, dtype=dtype)) if full else None,
        "u": normal(T, B, D, dtype=dtype, seed=1),
        "omega": normal(K, D, seed=2),
        "dt": normal(T, B, seed=3).abs() if full else None,
        "state": normal(B, 2, K, D, dtype=dtype, seed=4) if full else None,
    }


def resonator_layer_arguments(dtype=torch.float64, full=True):
    T, B, K, D = 4, 3, 2, 5
    return {
        "a": normal(T, B, 4 * D + K * full, dtype=dtype),
        "omega": normal(K, D, seed=1),
        "alpha": normal(K, D, dtype=dtype, seed=2),
        "beta": normal(K, D, dtype=dtype, seed=3),
        "b_c": normal(D, dtype=dtype, seed=4),
        "dt": normal(T, B, seed=5).abs() if full else None,
        "state": normal(B, 2, K, D, dtype=dtype, seed=6) if full else None,
        "mask": torch.ones(B, D, dtype=dtype) if full else None,
    }


def projection_arguments(dtype=torch.float64, full=True):
    T, B, N, R, L = 5, 3, 2, 4, 2 * full
    return {
        "x": normal(T, B, N, dtype=dtype),
        "V": normal(R, N, dtype=dtype, seed=1),
        "b": normal(R, dtype=dtype, seed=2) if full else None,
        "w": normal(L, R, dtype=dtype, seed=3),
        "recent": normal(L, B, R, dtype=dtype, seed=4),
    }


def bank_arguments(dtype=torch.float64, full=True):
    del dtype  # there is one
    channels, shape = 2, (2, 8, 16)
    s = torch.complex(-0.1 - normal(*shape).abs(), normal(*shape, seed=1))
    return {
        "x": normal(7, channels, dtype=torch.float32, seed=2),
        "lengths": torch.tensor([4, 1, 2]),
        "times": torch.tensor([0.0, 1.0, 2.5, 3.0, 7.0, 1.0, 4.0], dtype=torch.float64) if full else None,
        "bank.s": s,
        "bank.start": (s / torch.expm1(s)).to(torch.complex64),
        "bank.m": torch.complex(normal(*shape, seed=3), normal(*shape, seed=4)).to(torch.complex64),
        "bank.direct": normal(*shape, dtype=torch.float32, seed=5),
        "bank.threshold": normal(*shape, dtype=torch.float32, seed=6),
        "bank.mix": normal(2, 8, channels, dtype=torch.float32, seed=7),
        "bank.direction": torch.tensor([1, -1]),
        "bank.groups": torch.tensor([16, 3]),
        "bank.unit": 1.0,
        "threads": None,
    }


def trace_arguments(dtype=torch.float64, full=True):
    return bank_arguments(dtype, full) | {"strides": torch.tensor([2, 1, 3])}


# -- operations on them


def grouped(arguments):
    """Put fields into the tuples that functions take."""
    values, fields = {}, {}
    for name, value in arguments.items():
        group, _, field = name.rpartition(".")
        if group:
            fields.setdefault(group, {})[field] = value
        else:
            values[name] = value
    types = {"weights": SFMWeights, "state": SFMState, "bank": Bank}
    return values | {group: types[group](**parts) for group, parts in fields.items()}


def run_sfm(arguments, backend, **options):
    z, state = sfm(**grouped(arguments), backend=backend, **options)
    return [z, *state]


def run_sfm_layer(arguments, backend):
    z, state = sfm_layer(**grouped(arguments), backend=backend)
    return [z, *state]


def run_sfm_accumulated(arguments, backend):
    watched = []
    return [*run_sfm(arguments, backend, accumulated=True, amplitudes=watched), *watched]


OPERATIONS = {
    "sfm": (sfm_arguments, run_sfm),
    "sfm recomputed": (sfm_arguments, lambda a, backend: run_sfm(a, backend, memory="recompute")),
    "sfm adaptive": (lambda dtype, full: sfm_arguments(dtype, True), run_sfm_accumulated),
    "sfm_layer": (layer_arguments, run_sfm_layer),
    "resonate": (resonate_arguments, lambda a, backend: [resonate(**a, backend=backend)]),
    "resonator_layer": (resonator_layer_arguments, lambda a, backend: [*resonator_layer(**a, backend=backend)]),
    "projection": (projection_arguments, lambda a, backend: [*projection(**a, backend=backend)]),
    "summarize_bank": (bank_arguments, lambda a, backend: [summarize_bank(**grouped(a), backend=backend)]),
    "trace_bank": (trace_arguments, lambda a, backend: [trace_bank(**grouped(a), backend=backend)]),
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS)


def assert_refused(operation, changes, error, message):
    """Every kernel refuses valid arguments with these changes; all of them are checked at one door."""
    make, run = OPERATIONS[operation]
    arguments = make(torch.float64, operation != "sfm")
    for backend in KERNELS:
        with pytest.raises(error, match=message):
            run(arguments | {k: v(arguments[k]) if callable(v) else v for k, v in changes.items()}, backend)


# -- named cases


@pytest.mark.parametrize("operation", ["sfm", "sfm recomputed", "sfm adaptive"])
@pytest.mark.parametrize(
    ("batch_sizes", "message"),
    [
        ([1, 5], r"batch_sizes\[1\] is 5 after 1, but batch_sizes must never increase"),
        ([3, 10**6, 1, 2 - 10**6], r"batch_sizes\[3\] is -999998, but must be positive"),
        ([3, 5, 1, -3], r"batch_sizes\[3\] is -3, but must be positive"),
        ([3, 2**63, 1], r"batch_sizes\[1\] is 9223372036854775808 after 3"),
        ([3, 3, 0], r"batch_sizes\[2\] is 0, but must be positive"),
        ([-1, 7], "must be positive"),
        ([], "batch_sizes is empty"),
        ([3, 2], r"x has shape \(7, 2\), but \(5, 2\) is needed"),
    ],
)
def test_batch_sizes_that_do_not_fit_are_refused(operation, batch_sizes, message):
    changes, rows = {"batch_sizes": batch_sizes}, sum(batch_sizes)
    if 0 < rows < 10 and rows != 5:
        changes |= {"x": normal(rows, 2), "t": torch.ones(rows, dtype=torch.float64)}
    assert_refused(operation, changes, ValueError, message)


@pytest.mark.parametrize(
    "batch_sizes",
    [[3, True, 1], [3.0, 3.0, 1.0], ["3", "3", "1"], "331", None, 7, np.array([3.0, 3.0, 1.0]), [[3], [3], [1]]],
    ids=repr,
)
def test_batch_sizes_of_another_type_are_refused(batch_sizes):
    assert_refused("sfm", {"batch_sizes": batch_sizes}, TypeError, "batch_sizes")


@every_kernel
def test_integers_of_all_kinds_are_batch_sizes(backend):
    arguments = sfm_arguments()
    expected = run_sfm(arguments, backend)
    for convert in (
        *(tuple, np.array, torch.tensor, iter),
        *(lambda v: list(map(np.int32, v)), lambda v: list(map(torch.tensor, v))),
    ):
        got = run_sfm(arguments | {"batch_sizes": convert(arguments["batch_sizes"])}, backend)
        assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_shapes_and_types_that_do_not_fit_the_weights_are_refused():
    """Too large, so that a kernel that goes on reads no memory of somebody else."""
    arguments = sfm_arguments(adaptive=True) | {"feedback_mask": torch.ones(3, 2, dtype=torch.float64)}
    for name, value in arguments.items():
        if isinstance(value, torch.Tensor):
            assert_refused("sfm adaptive", {name: torch.nn.functional.pad(value, (0, 1))}, ValueError, "has shape")
        if name.startswith(("weights.", "state.")) and name not in ("weights.V", "weights.omega"):
            assert_refused("sfm adaptive", {name: value.float()}, TypeError, f"{name} is torch.float32, but must be")


OPTIONAL = {"weights.omega", "lengths", "times", "f_fre", "dt", "state", "beta", "mask", "b"}


@every_kernel
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in ("sfm recomputed", "sfm adaptive")])
def test_what_is_no_tensor_with_storage_is_refused(backend, operation):
    make, run = OPERATIONS[operation]
    arguments = make(torch.float64, True)
    for name, value in arguments.items():
        if not isinstance(value, torch.Tensor):
            continue
        is_required = name not in OPTIONAL or (name == "lengths" and operation != "sfm_layer")
        emptied, cut = value.clone(), value.clone()
        emptied.untyped_storage().resize_(0)
        cut.untyped_storage().resize_(max(1, cut.untyped_storage().nbytes() - 1))
        cases = [
            *([(None, TypeError, "is None, but must be a tensor")] if is_required else []),
            (value.numpy(), TypeError, "is of type ndarray, but must be a tensor"),
            (torch._efficientzerotensor(value.shape, dtype=value.dtype), ValueError, "no memory for its values"),
            (emptied, ValueError, "no memory for its values"),
            (cut, ValueError, "no memory for its values"),
            (value.to_sparse(), ValueError, "has layout torch.sparse_coo; pass .*to_dense()"),
        ]
        if name != "lengths" or operation != "sfm_layer":
            cases.append(
                (value.to("meta"), ValueError, "on meta, (but must be on cpu as|where tensors have no values)")
            )
        for invalid, error, message in cases:
            with pytest.raises(error, match=f"{re.escape(name)} .*{message}|{re.escape(name)} {message}"):
                run(arguments | {name: invalid}, backend)


@every_kernel
@every_operation
def test_views_whose_sign_is_a_flag(backend, operation):
    """`torch.imag` of a conjugated tensor is such a view."""
    make, run = OPERATIONS[operation]
    arguments = make(torch.float64, True)
    flagged = {
        name: torch._neg_view(-value) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in arguments.items()
    }
    flagged |= {
        name: v.conj().resolve_conj().conj() for name, v in flagged.items() if hasattr(v, "conj") and v.is_complex()
    }
    for expected, got in zip(run(arguments, backend), run(flagged, backend), strict=True):
        torch.testing.assert_close(got, expected)


@every_pair(
    operation=["sfm", "sfm adaptive", "resonate", "resonator_layer", "projection"],
    backend=KERNELS,
    kind=["zero", "negated", "expanded"],
)
def test_gradients_without_storage_of_their_own(backend, operation, kind):
    """Autograd hands such tensors to a backward."""
    make, run = OPERATIONS[operation]
    arguments = make(torch.float64, True)
    leaves = {n: v.clone().requires_grad_() for n, v in arguments.items() if n in ("x", "u", "a", "V", "weights.V")}
    output = run(arguments | leaves, backend)[0]
    given, value = {
        "zero": (torch._efficientzerotensor(output.shape, dtype=output.dtype), 0.0),
        "negated": (torch._neg_view(torch.ones_like(output)), -1.0),
        "expanded": (torch.ones((), dtype=output.dtype).expand_as(output), 1.0),
    }[kind]
    dense = torch.full_like(output, value)
    expected = torch.autograd.grad(output, list(leaves.values()), dense, retain_graph=True)
    got = torch.autograd.grad(output, list(leaves.values()), given)
    for a, b in zip(expected, got, strict=True):
        torch.testing.assert_close(torch.as_tensor(b).clone(), a)


OVERFLOWING = {"lengths": torch.tensor([2**62, 2**62, 2**62, 2**62 - 2**63 + 2**63 + 7])}  # whose int64 sum is 7
SUM, INCREASE = "lengths must be positive and sum to the 7 rows of x", "times must increase within each series"
NO_CHANNEL = {"x": lambda v: v[:, :0], "bank.mix": lambda v: v[..., :0]}
INVALID = [
    ("summarize_bank", OVERFLOWING, ValueError, SUM),
    ("summarize_bank", {"lengths": torch.ones(8, dtype=torch.int64)}, ValueError, SUM),
    ("trace_bank", OVERFLOWING | {"strides": torch.ones(4, dtype=torch.int64)}, ValueError, SUM),
    ("summarize_bank", {"times": lambda v: v.flip(0)}, ValueError, INCREASE),
    ("summarize_bank", {"times": torch.zeros_like}, ValueError, INCREASE),
    ("summarize_bank", {"bank.s": torch.zeros_like}, ValueError, "bank.s must have negative real parts"),
    ("summarize_bank", {"bank.direction": lambda v: 0 * v}, ValueError, r"direction must be 1 or -1, but is \[0, 0\]"),
    ("summarize_bank", NO_CHANNEL, ValueError, "bank.mix .* must have at least one channel"),
    ("sfm_layer", {"lengths": torch.tensor([2, 5, 1])}, ValueError, "between 1 and the 4 steps of x, but are 1 to 5"),
    ("sfm_layer", {"lengths": torch.tensor([2, 4, 0])}, ValueError, "but are 0 to 4"),
    ("sfm_layer", {"lengths": torch.tensor([2.0, 4.0, 1.0])}, TypeError, "lengths is torch.float32, but must be of an"),
    ("sfm_layer", {"lengths": torch.tensor([True, True, True])}, TypeError, "lengths is torch.bool"),
    ("sfm_layer", {"lengths": torch.tensor([2, 4])}, ValueError, r"lengths has shape \(2,\)"),
]


@pytest.mark.parametrize(("operation", "changes", "error", "message"), INVALID)
def test_lengths_times_and_banks_that_do_not_fit_are_refused(operation, changes, error, message):
    assert_refused(operation, changes, error, message)


@pytest.mark.parametrize("name", ["x", "times", "bank.s", "bank.start", "bank.m", "bank.direct", "bank.mix"])
def test_what_a_bank_reads_is_finite(name):
    for value in (float("nan"), float("inf")):
        invalid = with_value(bank_arguments()[name], 3, value)
        assert_refused("summarize_bank", {name: invalid}, ValueError, f"{name} has values that are not finite")


@every_kernel
def test_the_largest_stride_keeps_the_first_step(backend):
    arguments = trace_arguments() | {"strides": torch.full((3,), 2**63 - 1)}
    expected = OPERATIONS["trace_bank"][1](arguments | {"strides": torch.full((3,), 100)}, "reference")[0]
    torch.testing.assert_close(OPERATIONS["trace_bank"][1](arguments, backend)[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("batch_sizes", "rows", "states", "message"),
    [
        ([1, 5], 6, 1, "never increase"),
        ([2, 1], 4, 2, r"inputs has shape \(4, 1\), but must have 3 rows for these batch_sizes"),
        ([2, 1], 3, 1, r"state has shape \(1, 1\), but must have 2 rows for these batch_sizes"),
    ],
)
def test_scan_refuses_rows_that_it_would_broadcast(batch_sizes, rows, states, message):
    def step(inputs, state, mask):
        return (inputs[0] + state[0],), state

    with pytest.raises(ValueError, match=message):
        scan(step, (torch.ones(rows, 1),), batch_sizes, (torch.ones(states, 1),))


def test_unpack_refuses_rows_of_another_batch():
    packed = pack(torch.ones(2, 3, 1), torch.tensor([3, 2]))
    with pytest.raises(ValueError, match=r"data has shape \(4, 1\), but must have 5 rows"):
        unpack(packed, torch.ones(4, 1), 3)


def test_plain_copies_only_what_is_not_plain():
    value = normal(3, 4)
    assert plain(value) is value or plain(value).data_ptr() == value.data_ptr()
    for other in (value.T, torch._neg_view(value), torch._efficientzerotensor(3, 4), value.to_sparse()):
        result = plain(other)
        assert result.is_contiguous()
        assert not result.is_neg()
        assert result.data_ptr() not in (0, value.data_ptr())


# -- exceptions of C++


def test_native_exceptions_become_python_exceptions():
    """A size that no vector can have throws std::length_error, which once ended the process."""
    problem = native._Problem(is_double=1, threads=1, B=1, T=2**61, N=1, D=1, K=1, M=1)
    with pytest.raises(RuntimeError, match=r"the compiled kernel failed: .*(vector|length)"):
        problem.run(instruction_set(), "plan_forward")


PROGRAM = r"""
#include <cstdio>
#include <stdexcept>
#include <string>

#include "pool.h"

struct Context { int64_t fails; std::atomic<int64_t> done{0}; };

static void work(void* context, int64_t item, int64_t) {
    auto& given = *static_cast<Context*>(context);
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    if (item == given.fails) throw std::runtime_error("item " + std::to_string(item));
    ++given.done;
}

int main() {
    Pool* pool = new Pool;
    for (int64_t threads : {1, 2, 5})
        for (int64_t fails = -1; fails < 20; ++fails) {
            Context context{fails};
            std::string message = "none";
            try {
                pool->run(20, threads, work, &context);
            } catch (const std::runtime_error& error) {
                message = error.what();
            }
            const bool right = fails < 0 ? message == "none" && context.done == 20
                                         : message == "item " + std::to_string(fails) && context.done < 20;
            if (!right) return std::printf("%d of %d threads: %s\n", int(fails), int(threads), message.c_str()), 1;
        }
}
"""


@pytest.mark.skipif(shutil.which("g++") is None or not POOL.exists(), reason="needs g++ and the sources")
def test_native_threads_hand_exceptions_to_the_caller(tmp_path):
    source, program = tmp_path / "pool.cpp", tmp_path / "pool"
    source.write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = ["g++", "-std=c++17", "-pthread", f"-I{POOL.parent}", str(source), "-o", str(program)]
    subprocess.run(command, check=True, env=environment)
    result = subprocess.run([program], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_native_addresses_are_checked_where_they_are_taken():
    problem = native._Problem()
    for value, message in (
        (torch._efficientzerotensor(3), "no memory"),
        (normal(3, 4).T, "not a contiguous tensor"),
        (torch._neg_view(normal(3)), "not a contiguous tensor"),
        (torch.zeros(3, device="meta"), "memory of the CPU"),
    ):
        with pytest.raises(RuntimeError, match=f"x .*{message}"):
            problem.point(x=value)
    problem.point(x=None)
    assert ctypes.sizeof(problem) > 0
    assert problem.x is None


# -- fuzzing


def axis_of(value, number):
    return number % max(value.ndim, 1)


def cut_off(value, number):
    axis = axis_of(value, number)
    return value.narrow(axis, 0, max(value.shape[axis] - 1, 0)) if value.ndim else value


def with_value(value, number, other):
    value = value.clone()
    if value.numel() and (value.is_floating_point() or value.is_complex()):
        value.view(-1)[number % value.numel()] = other
    return value


def without_storage(value, number):
    value = value.clone()
    value.untyped_storage().resize_([0, max(value.nbytes - 1, 0)][number % 2])
    return value


def apart(value):
    wide = value.new_zeros(*value.shape, 2)
    wide[..., 0] = value
    return wide[..., 0]


FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DTYPES = (*FLOATING, torch.int64, torch.int32, torch.bool, torch.complex64)
CHANGES = {  # of a tensor and a number
    "none": lambda v, n: None,
    "number": lambda v, n: 1.0,
    "array": lambda v, n: v.detach().numpy(),
    "list": lambda v, n: v.tolist(),
    "cut": cut_off,
    "empty": lambda v, n: v.narrow(axis_of(v, n), 0, 0) if v.ndim else v,
    "doubled": lambda v, n: torch.cat((v, v), axis_of(v, n)) if v.ndim else v,
    "transposed": lambda v, n: v.T if v.ndim <= 2 else v.mT,
    "flipped": lambda v, n: v.flip(axis_of(v, n)) if v.ndim else v,
    "first": lambda v, n: v[0] if v.ndim and len(v) else v,
    "more axes": lambda v, n: v[None] if n % 2 else v[..., None],
    "flat": lambda v, n: v.reshape(-1),
    "scalar": lambda v, n: v.new_ones(()),
    "type": lambda v, n: v.to(DTYPES[n % len(DTYPES)]),
    "apart": lambda v, n: apart(v),
    "column-major": lambda v, n: v.mT.contiguous().mT if v.ndim >= 2 else v,
    "expanded": lambda v, n: v.narrow(axis_of(v, n), 0, 1).expand_as(v) if v.ndim and v.numel() else v,
    "nan": lambda v, n: with_value(v, n, float("nan")),
    "infinite": lambda v, n: with_value(v, n, float("inf")),
    "zeros": lambda v, n: torch.zeros_like(v),
    "zero tensor": lambda v, n: torch._efficientzerotensor(v.shape, dtype=v.dtype),
    "storage": without_storage,
    "meta": lambda v, n: v.to("meta"),
    "sparse": lambda v, n: v.to_sparse(),
    "negated": lambda v, n: torch._neg_view(v) if v.is_floating_point() else v,
    "conjugated": lambda v, n: v.conj() if v.is_complex() else v,
    "whole numbers": lambda v, n: torch.full_like(v, [-1, 0, 2, 5, 17, 2**62][n % 6]) if v.dtype == torch.int64 else v,
    "gradient": lambda v, n: v.detach().requires_grad_() if v.is_floating_point() else v,
}
WHOLE = st.one_of(
    st.integers(-5, 5), st.sampled_from([2**31, 2**62, 2**63, -(2**63), 10**6, 10**30, True, 2.5, None, np.int32(2)])
)
OTHERS = {  # what takes the place of arguments that are no tensors
    "batch_sizes": st.one_of(
        st.none(),
        st.lists(WHOLE, max_size=4),
        st.permutations([4, 2, 1]),
        st.integers(-7, 14).map(lambda n: [3, n, 1, 3 - n]),
        st.sampled_from([[7], [4, 3], (3, 3, 1), np.array([3, 3, 1]), torch.tensor([3, 3, 1]), "331", 7]),
    ),
    "bank.unit": st.sampled_from([0.0, -1.0, 0.5, float("nan"), float("inf"), None, "1", True, 1, np.float64(2)]),
    "threads": WHOLE,
}


@st.composite
def changed_arguments(draw, operation):
    """Draw arguments of which one or two are not as they should be."""
    dtype = draw(st.sampled_from([torch.float64, torch.float32]))
    arguments = OPERATIONS[operation][0](dtype, draw(st.booleans()))
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(arguments)))
        value = arguments[name]
        if name in OTHERS:
            arguments[name] = draw(OTHERS[name])
        elif isinstance(value, torch.Tensor) and not (value.is_meta or value.is_sparse or value.requires_grad):
            change, number = draw(st.sampled_from(sorted(CHANGES))), draw(st.integers(0, 12))
            if not torch._is_zerotensor(value) and value.untyped_storage().nbytes() >= value.nbytes:
                arguments[name] = CHANGES[change](value, number)
    return arguments


def outcome(run, arguments, backend):
    """Return the results, or the error."""
    try:
        return run(arguments, backend)
    except (ValueError, TypeError, RuntimeError) as error:
        return type(error), str(error)


def fuzz(operation, backend, examples):
    run = OPERATIONS[operation][1]
    tolerance = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 1e-1}

    unhurried = {"deadline": None, "suppress_health_check": list(HealthCheck)}

    @settings(max_examples=examples, derandomize=True, database=None, **unhurried)
    @given(changed_arguments(operation))
    def check(arguments):
        expected = outcome(run, arguments, "reference")
        got = outcome(run, arguments, backend)
        if isinstance(expected, tuple):
            assert got == expected
            names = {part for name in arguments for part in (name, name.split(".")[0])} | {"time stamps"}
            assert any(re.search(rf"\b{re.escape(name)}\b", expected[1]) for name in names), expected
            return
        if isinstance(got, tuple) and got[0] is RuntimeError and "the compiled kernel takes float32" in got[1]:
            return
        assert isinstance(got, list), got
        # How far infinity spreads as NaN depends on the order of operations; NaN itself spreads alike.
        is_infinite = any(isinstance(v, torch.Tensor) and bool(v.isinf().any()) for v in arguments.values())
        for index, (a, b) in enumerate(zip(expected, got, strict=True)):
            assert (a.shape, a.dtype) == (b.shape, b.dtype), index
            if is_infinite:
                continue
            error = tolerance.get(expected[0].dtype, 1e-8)
            torch.testing.assert_close(b.detach(), a.detach(), rtol=error, atol=error, equal_nan=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check()


@every_fast_kernel
@every_operation
def test_fuzzing(backend, operation):
    fuzz(operation, backend, 100)


@pytest.mark.slow
@every_fast_kernel
@every_operation
def test_fuzzing_at_length(backend, operation):
    fuzz(operation, backend, 560)  # 10 000 in all
