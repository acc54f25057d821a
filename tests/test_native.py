"""What the compiled kernel promises beside the parity and the oracles of test_kernels.py."""

import functools
import gc
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sfmts
from sfmts import SFMClassifier
from sfmts.kernels import SFMState, SFMWeights, _compiled, _registry
from sfmts.kernels._sfm import native
from sfmts.kernels._workspace import Workspace
from sfmts.networks import SFM
from tests.helpers import DTYPES, assert_same, every_dtype, every_pair, make_panel, spread, threads
from tests.test_kernels import fresh, make_case, outputs_and_gradients, without_input

INSTRUCTION_SETS = _compiled.library.instruction_sets()
PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 1e-4)]
ADAPTIVE = {"frequencies": "adaptive"}
ACCUMULATED = {"frequencies": "adaptive", "accumulated": True}

every_precision = pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["f64", "f32"])


@pytest.fixture
def store(monkeypatch):
    """The store of working memory, in use (conftest.py turns it off) and empty."""
    monkeypatch.setattr(Workspace, "limit", 32 << 20)
    monkeypatch.setattr(Workspace, "_store", [])
    return Workspace._store


@pytest.fixture
def plans(monkeypatch):
    """What each pass plans: (name, history_bytes, scratch_bytes)."""
    seen = []
    run = native._Problem.run

    def watched(problem, instruction_set, pass_name):
        run(problem, instruction_set, pass_name)
        if pass_name.startswith("plan"):
            seen.append((pass_name, problem.history_bytes, problem.scratch_bytes))

    monkeypatch.setattr(native._Problem, "run", watched)
    return seen


def ragged(B, T):
    """B lengths from T down to about a half of it."""
    return tuple(max(1, T - b * T // (2 * B)) for b in range(B))


def sequence_of_rows(case):
    """Which sequence each packed row belongs to."""
    return torch.cat([torch.arange(n) for n in case.batch_sizes])


# -- every instruction set

# Batch sizes about the widths of a tile: solo, 1 vector of lanes in half or whole, 2 vectors, and several tiles.
PARITY = {
    "B1-T63-D50-K4-M1-N2": {"D": 50, "K": 4, "M": 1, "N": 2, "lengths": (63,)},
    "B1-T40-D50-K8-M61-N26": {"D": 50, "K": 8, "M": 61, "N": 26, "lengths": (40,), **ACCUMULATED, "mask": True},
    "B1-T1-D3-K4-M88-N26": {"D": 3, "K": 4, "M": 88, "N": 26, "lengths": (1,), "frequencies": "learned"},
    "B1-T300-D3-K5-M5-N2": {"D": 3, "K": 5, "M": 5, "N": 2, "lengths": (300,), "frequencies": "learned"},
    "B2-T63-D50-K5-M61-N1": {"D": 50, "K": 5, "M": 61, "N": 1, "lengths": (63, 40), **ACCUMULATED},
    "B7-T9-D3-K5-M61-N26": {"D": 3, "K": 5, "M": 61, "N": 26, "lengths": ragged(7, 9), **ADAPTIVE, "mask": True},
    "B8-T63-D3-K8-M1-N1": {"D": 3, "K": 8, "M": 1, "N": 1, "lengths": (63,) * 8, **ACCUMULATED, "timestamps": True},
    "B8-T100-D5-K3-M4-N2": {"lengths": ragged(8, 100), "frequencies": "learned", "mask": True},
    "B9-T6-D50-K8-M61-N26": {"D": 50, "K": 8, "M": 61, "N": 26, "lengths": ragged(9, 6), "mask": True},
    "B16-T3-D50-K4-M88-N2": {"D": 50, "K": 4, "M": 88, "N": 2, "lengths": (3,) * 16, **ACCUMULATED},
    "B17-T63-D3-K4-M1-N1": {"D": 3, "K": 4, "M": 1, "N": 1, "lengths": ragged(17, 63), "timestamps": True},
    "B33-T5-D3-K5-M88-N26": {"D": 3, "K": 5, "M": 88, "N": 26, "lengths": ragged(33, 5), "frequencies": "learned"},
    "B33-T20-D5-K3-M4-N2": {"lengths": ragged(33, 20), **ADAPTIVE, "timestamps": True},
    "B40-T12-D50-K4-M1-N2": {"D": 50, "K": 4, "M": 1, "N": 2, "lengths": ragged(40, 12), "frequencies": "learned"},
    "B40-T12-D50-K4-M1-N26": {"D": 50, "K": 4, "M": 1, "N": 26, "lengths": ragged(40, 12), **ADAPTIVE, "mask": True},
    "B40-T1-D3-K8-M88-N1": {"D": 3, "K": 8, "M": 88, "N": 1, "lengths": (1,) * 40},
    "zero input": {"D": 50, "M": 1, "lengths": ragged(9, 12), "zeros": True},
    "random omega": {"M": 61, "lengths": ragged(40, 30), "random_omega": True},
}


def parity_case(name, dtype):
    options = dict(PARITY[name])
    zeros, random_omega = options.pop("zeros", False), options.pop("random_omega", False)
    case = make_case(**options, dtype=dtype)
    if zeros:
        case = replace(fresh(case), x=torch.zeros_like(case.x).requires_grad_())
    if random_omega:
        omega = torch.linspace(-9.0, 20.0, len(case.weights.omega), dtype=torch.float64).sin().mul(10)
        case = replace(case, weights=case.weights._replace(omega=omega.requires_grad_()))
    return case


@functools.cache  # one run of the reference serves all instruction sets
def reference_results(name, dtype):
    return outputs_and_gradients(parity_case(name, dtype), "reference")


@every_pair(name=PARITY, instruction_set=INSTRUCTION_SETS, precision=PRECISIONS)
def test_parity_of_every_instruction_set(instruction_set, precision, name, monkeypatch):
    dtype, tolerance = precision
    monkeypatch.setenv("SFMTS_INSTRUCTION_SET", instruction_set)
    assert _compiled.instruction_set() == instruction_set
    assert_same(reference_results(name, dtype), outputs_and_gradients(parity_case(name, dtype), "native"), tolerance)


def test_the_fastest_instruction_set_is_taken():
    assert INSTRUCTION_SETS[-1] == "generic"
    if "SFMTS_INSTRUCTION_SET" not in os.environ:
        assert _compiled.instruction_set() == INSTRUCTION_SETS[0]


def test_an_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv("SFMTS_INSTRUCTION_SET", "sse9")
    with pytest.raises(ValueError, match="no instruction set 'sse9'"):
        make_case().run("native")


# -- strides, and which inputs have gradients


@pytest.mark.parametrize("B", [1, 9])
def test_strides_of_all_that_is_given(B):
    """Weights, states, mask, time and the gradients from above."""
    case = make_case(D=6, lengths=(7,) * B, **ACCUMULATED, mask=True)
    strided = replace(
        case,
        x=spread(case.x),
        t=spread(case.t),
        weights=SFMWeights(*map(spread, case.weights)),
        state=SFMState(*map(spread, case.state)),
        feedback_mask=spread(case.feedback_mask),
    )
    results = []
    for one, given in [(case, lambda v: v), (strided, spread)]:
        z, state = one.run("native")
        outputs = [z, state.re, state.im, state.z, state.theta]
        above = [given(torch.linspace(-1, 1, v.numel(), dtype=v.dtype).view(v.shape)) for v in outputs]
        results.append([*outputs, *torch.autograd.grad(outputs, list(one.leaves().values()), above)])
    assert not strided.weights.U_o.is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@every_pair(
    wanted=[("x",), ("V", "W", "b"), ("U_o", "b_z"), ("omega",), ("re", "im"), ("z",), ("theta",)], B=[1, 9], M=[1, 4]
)
def test_gradients_of_some_inputs_only(wanted, B, M):
    """Each is what it is if all are asked for."""
    mode = ACCUMULATED if wanted == ("theta",) else {"frequencies": "learned"}
    case = make_case(M=M, lengths=ragged(B, 9), **mode)
    full = outputs_and_gradients(case, "native")
    for name, leaf in case.leaves().items():
        leaf.requires_grad_(name in wanted)
    some = outputs_and_gradients(case, "native")
    assert {f"d{name}" for name in wanted} < set(some)
    assert_same({name: full[name] for name in some}, some, 1e-12)
    assert set(case.leaves()) == set(wanted)


def test_without_gradients_there_is_no_graph():
    case = fresh(make_case())
    for leaf in case.leaves().values():
        leaf.requires_grad_(False)
    z, state = case.run("native")
    assert not z.requires_grad
    assert not any(value.requires_grad for value in state)


def test_mask_of_another_type():
    case = make_case(dtype=torch.float32, mask=True)
    other = replace(case, feedback_mask=case.feedback_mask.double())
    assert torch.equal(other.run("native")[0], case.run("native")[0])


def test_a_phase_that_accumulates_is_for_adaptive_frequencies():
    """`accumulated` means nothing to the others, whatever phase the state reports."""
    case = replace(make_case(), accumulated=True)
    expected, got = case.run("reference"), case.run("native")
    torch.testing.assert_close(got[0], expected[0])
    torch.testing.assert_close(got[1].theta, expected[1].theta)


# -- threads


@every_dtype
@pytest.mark.parametrize("mode", [{"frequencies": "learned"}, ACCUMULATED], ids=["learned", "accumulated"])
def test_threads_do_not_matter(dtype, mode):
    case = make_case(lengths=ragged(40, 12), dtype=dtype, **mode)
    results = []
    for n in (1, 2, 4):
        with threads(n):
            results.append(outputs_and_gradients(case, "native"))
    one, two, four = results
    assert_same(one, two)  # the tiles are the same
    assert_same(one, four, 1e-12 if dtype == torch.float64 else 1e-5)


@every_pair(B=[20, 33, 40], dtype=DTYPES, numbers=[(1, 4), (4, 1)])
def test_threads_may_change_before_the_backward(dtype, B, numbers):
    ahead, behind = numbers
    case = make_case(lengths=ragged(B, 12), dtype=dtype)
    with threads(1):
        (expected,) = torch.autograd.grad(case.run("native")[0].sum(), case.x)
    with threads(ahead):
        z, _ = case.run("native")
    with threads(behind):
        (got,) = torch.autograd.grad(z.sum(), case.x)
    assert_same({"dx": expected}, {"dx": got}, 1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.skipif(len(INSTRUCTION_SETS) < 2, reason="this processor has one instruction set")
@pytest.mark.parametrize("B", [1, 9, 40])
def test_instruction_set_may_change_before_the_backward(B, monkeypatch):
    case = make_case(lengths=ragged(B, 12))
    (expected,) = torch.autograd.grad(case.run("native")[0].sum(), case.x)
    monkeypatch.setenv("SFMTS_INSTRUCTION_SET", INSTRUCTION_SETS[0])
    z, _ = case.run("native")
    monkeypatch.setenv("SFMTS_INSTRUCTION_SET", INSTRUCTION_SETS[-1])
    (got,) = torch.autograd.grad(z.sum(), case.x)
    assert_same({"dx": expected}, {"dx": got}, 1e-12)


def test_calls_from_several_python_threads(store):
    """At once, different ones, over memory that is used again: each as if it were alone."""
    cases = [
        make_case(lengths=ragged(B, T), M=M, seed=seed)
        for seed, (B, T, M) in enumerate([(1, 200, 4), (9, 60, 1), (33, 30, 5), (17, 40, 61), (8, 8, 8), (40, 9, 1)])
    ]
    alone = [outputs_and_gradients(case, "native") for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: outputs_and_gradients(case, "native"), cases * 5))
    for expected, got in zip(alone * 5, together, strict=True):
        assert_same(expected, got)


def test_backward_in_another_thread():
    case = make_case(lengths=ragged(33, 20), dtype=torch.float32)
    expected = torch.autograd.grad(case.run("native")[0].sum(), case.x)[0]
    z, _ = case.run("native")
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(torch.autograd.grad, z.sum(), case.x).result()[0]
    assert torch.equal(expected, got)


def test_other_python_threads_run_during_a_call(monkeypatch):
    """The interpreter's lock is not held.

    With so long an interval Python itself does not take the lock from this thread, so what is counted between the two
    looks at the counter was counted while the kernel ran.
    """
    case = make_case(D=50, K=8, M=61, N=26, lengths=(20_000,), dtype=torch.float32)
    counted, stop, progress = [0], threading.Event(), {}
    run = _compiled.library.run

    def watched(instruction_set, pass_name, address):
        before = counted[0]
        run(instruction_set, pass_name, address)
        progress[pass_name] = counted[0] - before

    def count():
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0)  # gives the lock back

    monkeypatch.setattr(_compiled.library, "run", watched)
    interval = sys.getswitchinterval()
    counter = threading.Thread(target=count)
    sys.setswitchinterval(100.0)
    try:
        counter.start()
        case.run("native")[0].sum().backward()
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        counter.join()
    assert progress["forward"] > 0
    assert progress["backward"] > 0


# -- graphs


@pytest.mark.parametrize(("order", "dtype"), zip([(0, 1), (1, 0)], DTYPES, strict=True))
def test_two_forwards_before_two_backwards(order, dtype, store):
    cases = [make_case(lengths=ragged(9, 20), dtype=dtype, seed=seed) for seed in (0, 1)]
    alone = [torch.autograd.grad(case.run("native")[0].sum(), list(case.leaves().values())) for case in cases]
    assert store  # there is memory to be confused
    outputs = [case.run("native")[0].sum() for case in cases]
    for index in order:
        got = torch.autograd.grad(outputs[index], list(cases[index].leaves().values()))
        assert all(torch.equal(a, b) for a, b in zip(got, alone[index], strict=True))


def test_backward_twice(store):
    case = make_case(lengths=ragged(9, 40), **ACCUMULATED)
    leaves = list(case.leaves().values())
    loss = case.run("native")[0].square().sum()
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    second = torch.autograd.grad(loss, leaves)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("name", ["x", "W", "re", "output"])
def test_changing_what_the_backward_needs_is_noticed(name):
    case = make_case()
    z, _ = case.run("native")
    with torch.no_grad():
        (z if name == "output" else case.leaves()[name]).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


# -- floating point


def decaying_case(dtype, steps, B=9):
    """From a state of about 1, with a joint forget gate of 1/4 and no input: powers of 4 down to nothing."""
    case = without_input(make_case(lengths=(steps,) * B, dtype=dtype))
    with torch.no_grad():
        for weight in case.weights[:3]:
            weight[:8] = 0  # D + K rows
    return case


# 4^-65 = 2^-130 is denormal in float32, 4^-515 = 2^-1030 in float64
@pytest.mark.parametrize(("dtype", "steps", "tolerance"), [(torch.float32, 65, 1e-4), (torch.float64, 515, 1e-9)])
@pytest.mark.parametrize("B", [1, 9])
def test_state_that_decays_into_denormals(dtype, steps, tolerance, B):
    case = decaying_case(dtype, steps, B)
    expected, got = outputs_and_gradients(case, "reference"), outputs_and_gradients(case, "native")
    smallest = torch.finfo(dtype).tiny
    for name in ("final re", "final im"):
        wanted, value = expected.pop(name), got.pop(name)
        assert 0 < wanted.abs().min() < smallest
        assert (value - wanted).abs().max() <= smallest
    assert_same(expected, got, tolerance)


@pytest.mark.parametrize("flush", [False, True])
def test_floating_point_mode_is_left_as_it_was(flush):
    small = [torch.tensor([torch.finfo(dtype).tiny], dtype=dtype) for dtype in (torch.float32, torch.float64)]

    def is_flushed():
        """Whether this thread's arithmetic has no denormals, by torch and by NumPy."""
        halves = [tiny / 2 for tiny in small] + [tiny.numpy() / 2 for tiny in small]
        return [half.item() == 0 for half in halves]

    assert not any(is_flushed())
    if not torch.set_flush_denormal(flush):
        pytest.skip("this processor always has denormals")
    try:
        before = is_flushed()
        assert any(before) == flush
        for B in (1, 9):
            z, _ = decaying_case(torch.float32, 65, B).run("native")
            assert is_flushed() == before
            z.sum().backward()
            assert is_flushed() == before
    finally:
        torch.set_flush_denormal(False)


@every_dtype
@pytest.mark.parametrize("B", [1, 9])
def test_gates_stay_between_0_and_1(dtype, B):
    """However far their inputs are from 0: |z| <= K and, without input, a state never grows nor changes its sign."""
    D, K, T = 5, 3, 2000
    case = decaying_case(dtype, T, B)
    with torch.no_grad():
        case.weights.b[: D + K] = 50.0
        case.weights.b[0] = -50.0  # the first state forgets at once
        case.weights.b[3 * D + K :] = 50.0
        case.weights.b_z.fill_(50.0)
        z, state = case.run("native")
    assert z.abs().max() <= K
    assert state.re[:, 1:].abs().le(case.state.re[:, 1:].abs()).all()
    assert (state.re * case.state.re).min() >= 0


@every_precision
@pytest.mark.parametrize("bias", [-12.0, -6.0, 6.0, 12.0])
def test_gradients_through_gates_that_are_nearly_shut_or_open(dtype, tolerance, bias):
    """An activation in float32 is off by less than 3e-7, which is the more the nearer to 0 a gate is."""
    case = make_case(lengths=(9, 9, 5), dtype=dtype)
    with torch.no_grad():
        case.weights.b.fill_(bias)
        for weight in case.weights[:2]:
            weight *= 0.1
    exact = replace(
        case,
        x=case.x.detach().double().requires_grad_(),
        weights=SFMWeights(*(w.detach().double().requires_grad_() for w in case.weights)),
        state=SFMState(*(v.detach().double().requires_grad_(v.requires_grad) for v in case.state)),
    )

    def gradients(one, backend):
        return torch.autograd.grad(one.run(backend)[0].sum(), [one.x, one.weights.V, one.weights.b])

    def errors(backend):
        pairs = zip(gradients(case, backend), gradients(exact, "reference"), strict=True)
        return [float((got - wanted).abs().max() / wanted.abs().max()) for got, wanted in pairs]

    allowed = max(tolerance, (3e-7 if dtype == torch.float32 else 0.0) * (1 + math.exp(abs(bias))))
    for native_error, reference_error in zip(errors("native"), errors("reference"), strict=True):
        assert native_error < max(allowed, 10 * reference_error)


# -- batch mates


@every_pair(B=[2, 9, 33], dtype=DTYPES, M=[1, 4], mode=[{}, ACCUMULATED])
def test_rows_of_a_batch_are_single_runs(dtype, M, B, mode):
    case = make_case(M=M, lengths=ragged(B, 14), dtype=dtype, mask=True, timestamps=True, **mode)
    owner = sequence_of_rows(case)
    with torch.no_grad():
        z, state = case.run("native")
        for b in {0, B // 2, B - 1}:
            mine = owner == b
            alone = replace(
                case,
                x=case.x[mine],
                t=case.t[mine],
                batch_sizes=[1] * int(mine.sum()),
                state=SFMState(*(value[b : b + 1] for value in case.state)),
                feedback_mask=case.feedback_mask[b : b + 1],
            )
            z_alone, state_alone = alone.run("native")
            torch.testing.assert_close(z[mine], z_alone)
            for value, expected in zip(state, state_alone, strict=True):
                torch.testing.assert_close(value[b : b + 1], expected)


@every_pair(
    poison=[("x", "nan"), ("x", "inf"), ("x", "-inf"), ("re", "nan"), ("re", "inf"), ("t", "nan"), ("t", "inf")],
    dtype=DTYPES,
    M=[1, 4],
    B=[7, 33],
)
def test_a_sick_sequence_stays_alone(dtype, M, B, poison):
    """Outputs and gradients of the others are the same bit for bit, also of those that end before it."""
    healthy = make_case(M=M, lengths=ragged(B, 12), dtype=dtype, **ACCUMULATED, timestamps=True)
    owner = sequence_of_rows(healthy)

    def results(case, sick):
        z, state = case.run("native")
        above = torch.linspace(1, 2, z.numel(), dtype=dtype).view(z.shape)
        dx, dre = torch.autograd.grad(z, [case.x, case.state.re], above)
        rows, sequences = owner != sick, torch.arange(B) != sick
        return [z[rows], state.re[sequences], dx[rows], dre[sequences]]

    for sick in {0, B // 2, B - 1}:
        row = int((owner == sick).nonzero()[-1])  # its last
        given = {"x": healthy.x, "t": healthy.t, "re": healthy.state.re}
        given = {name: value.detach().clone() for name, value in given.items()}
        where, value = poison
        given[where][(sick, 0, 0) if where == "re" else row] = float(value)
        state = healthy.state._replace(re=given["re"].requires_grad_())
        ill = replace(healthy, x=given["x"].requires_grad_(), t=given["t"], state=state)
        for got, expected in zip(results(ill, sick), results(healthy, sick), strict=True):
            assert torch.equal(got, expected)


@every_dtype
@pytest.mark.parametrize("B", [1, 9])
def test_nan_in_a_sequence_is_not_hidden(dtype, B):
    """Activations that clamp their argument can make a number of it."""
    case = make_case(lengths=(5,) * B, dtype=dtype)
    with torch.no_grad():
        case.x[0] = float("nan")
        z, _ = case.run("native")
    assert z[sequence_of_rows(case) == 0].isnan().all()


@every_dtype
def test_padding_may_hold_anything(dtype):
    x = torch.randn(9, 12, 2, dtype=dtype, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor(ragged(9, 12))[torch.randperm(9, generator=torch.Generator().manual_seed(1))]
    network = SFM(2, n_states=5, bidirectional=True, backend="native").to(dtype)
    expected = network(x, lengths)
    x = x.clone()
    for b, length in enumerate(lengths):
        x[b, length:] = float("nan")
    got = network(x, lengths)
    assert torch.equal(got.states, expected.states)
    assert torch.equal(got.final, expected.final)
    got.final.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


# -- memory


def resident_bytes():
    """Memory of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


needs_statm = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell")


def random_lengths(rng, longest=90):
    return tuple(rng.integers(1, longest + 1, size=rng.integers(1, 20)))


@needs_statm
def test_calls_leave_no_memory_behind(store, plans):
    rng = np.random.default_rng(0)
    sizes = {"D": 16, "K": 4, "M": 8, "dtype": torch.float32}

    def call(train):
        case = make_case(lengths=random_lengths(rng), **sizes)
        with torch.set_grad_enabled(train):
            z, _ = case.run("native")
        if train:
            z.sum().backward()
        assert sum(block.nbytes for block in store) <= Workspace.limit

    for index in range(200):
        call(train=index % 4 != 0)
    plans.clear()
    before = resident_bytes()
    for index in range(400):
        call(train=index % 4 != 0)
    used = sum(history + scratch for _, history, scratch in plans)
    growth = resident_bytes() - before
    assert used > 4 * Workspace.limit  # so much would be seen
    assert growth < Workspace.limit + (32 << 20)


def test_memory_of_equal_calls_is_used_again(store, plans):
    case = make_case(lengths=(50,) * 9)
    kept = []
    for _ in range(6):
        outputs_and_gradients(case, "native")
        kept.append(sorted(block.data_ptr() for block in store))
    assert kept[1] == kept[5]
    assert max(history for _, history, _ in plans) <= sum(block.nbytes for block in store)


def test_memory_of_a_graph_that_is_never_run_backwards_comes_back(store):
    case = make_case(lengths=(50,) * 9)
    z, _ = case.run("native")
    before = len(store)
    del z, _
    gc.collect()
    assert len(store) > before


def test_working_memory_of_inference_does_not_grow_with_time(plans):
    for steps in (200, 20_000):
        with torch.no_grad():
            make_case(D=50, K=4, M=8, lengths=(steps,) * 3, dtype=torch.float32).run("native")
    (_, history, scratch), (_, history_of_long, scratch_of_long) = plans
    assert history == history_of_long == 0
    assert scratch == scratch_of_long
    output_bytes = 20_000 * 3 * 8 * 4
    assert scratch_of_long < output_bytes


def history_bytes(sizes, steps, B, dtype):
    """What a training call would keep."""
    D, K, M, N = sizes
    weights = SFM(N, n_states=D, n_frequencies=K, n_outputs=M).to(dtype).layers[0].weights()
    state, t = SFMState.zeros(B, weights), torch.zeros(steps * B, dtype=torch.float64)
    call = native._Call([B] * steps, t, state.t, False, None, None, True)
    x = torch.zeros(steps * B, N, dtype=dtype)
    inputs = [None if v is None else v.detach() for v in (x, *weights, state.re, state.im, state.z, state.theta)]
    problem = call.problem(inputs)
    problem.run(call.instruction_set, "plan_forward")
    return problem.history_bytes


# The sizes of the paper's three tasks, and how many numbers a step of a sequence keeps if everything is kept.
@every_pair(
    paper=[((50, 4, 1, 2), 763), ((50, 4, 88, 88), 1546), ((30, 8, 61, 26), 1855)],
    instruction_set=INSTRUCTION_SETS,
    dtype=DTYPES,
)
def test_history_is_linear_in_time_and_not_above_that_of_keeping_all(paper, instruction_set, dtype, monkeypatch):
    monkeypatch.setenv("SFMTS_INSTRUCTION_SET", instruction_set)
    sizes, numbers = paper
    with threads(1):
        kept = history_bytes(sizes, 512, 64, dtype)
        assert 0 < kept <= 512 * 64 * numbers * dtype.itemsize
        assert history_bytes(sizes, 1024, 64, dtype) == 2 * kept


@pytest.mark.slow
@needs_statm
@pytest.mark.timeout(1800)
def test_a_thousand_fits_leave_no_memory_behind(store):
    X, y = make_panel(ragged=True)

    def fit(times):
        for seed in range(times):
            SFMClassifier(
                base=None,
                n_states=4,
                n_frequencies=2,
                max_iter=2,
                random_state=seed,
                network_params={"backend": "native"},
            ).fit(X, y)

    fit(100)
    before = resident_bytes()
    fit(1000)
    assert resident_bytes() - before < 8 << 20  # 8 KiB a fit


# -- an installation without it


@pytest.fixture
def no_extension(monkeypatch):
    """An installation whose extension could not be built; the log line is told anew."""
    monkeypatch.setattr(_compiled, "_reason", "the compiled kernel was not built: install GCC or Clang")
    _registry._log_once.cache_clear()
    yield
    _registry._log_once.cache_clear()


@pytest.mark.usefixtures("no_extension")
def test_without_the_extension_the_kernel_says_what_to_do():
    message = r"backend='native' is unavailable here: the compiled kernel was not built: install"
    with pytest.raises(RuntimeError, match=message + r".* Use backend='auto' or 'fused'"):
        SFM(2, backend="native")
    with pytest.raises(RuntimeError, match=message):
        make_case().run("native")


@pytest.mark.usefixtures("no_extension")
def test_without_the_extension_the_fused_kernel_serves_and_it_is_told_once(caplog):
    case = make_case()
    with caplog.at_level("INFO", logger="sfmts"):
        networks = [SFM(2, n_states=4) for _ in range(3)]
        results = [outputs_and_gradients(case, "auto") for _ in range(3)]
        for network in networks:
            network(torch.zeros(2, 5, 2))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("sfmts", "WARNING")
    assert "the compiled kernel was not built" in record.message
    assert "falling back to backend='fused'" in record.message
    assert [network.backend for network in networks] == ["fused"] * 3
    expected = outputs_and_gradients(case, "fused")
    for result in results:
        assert_same(expected, result)


def test_an_estimator_names_the_kernel_that_served(request):
    X, y = make_panel()
    model = SFMClassifier(base=None, n_states=3, n_frequencies=2, max_iter=2, random_state=0, device="cpu")
    compiled = model.fit(X, y)
    assert compiled.backend_ == "native"
    expected = compiled.predict_proba(X)
    request.getfixturevalue("no_extension")
    fallen_back = SFMClassifier(**model.get_params()).fit(X, y)
    assert fallen_back.backend_ == "fused"
    np.testing.assert_allclose(fallen_back.predict_proba(X), expected, atol=1e-4)


@pytest.mark.slow
def test_installation_without_a_compiler(tmp_path):
    """The build succeeds, and what it makes works and says what is missing."""
    pytest.importorskip("setuptools")
    root = Path(sfmts.__file__).parents[1]
    if not (root / "setup.py").exists():
        pytest.skip("the sources are not here")
    shutil.copytree(root / "sfmts", tmp_path / "sfmts", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path)
    environment = {**os.environ, "CC": "/bin/false", "CXX": "/bin/false", "OMP_NUM_THREADS": "1"}

    def python(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)

    python("setup.py", "build_ext", "--inplace")
    assert not list(tmp_path.rglob("_native*.so"))
    code = "import sfmts; from sfmts.kernels import resolve_backend; print(sfmts.__file__, resolve_backend('auto'))"
    done = python("-c", code)
    assert done.stdout.split() == [str(tmp_path / "sfmts" / "__init__.py"), "fused"]
    assert "the compiled kernel was not built: install GCC or Clang and reinstall sfmts" in done.stderr
    assert "circular" not in done.stderr


def test_a_graph_that_ends_while_memory_is_being_taken(monkeypatch):
    """As the garbage collector may end one in the thread that holds the store's lock."""
    ending = [Workspace(torch.zeros(1), 8)]

    class Store(list):
        def __iter__(self):
            ending.clear()
            return super().__iter__()

    monkeypatch.setattr(Workspace, "_store", Store())
    done = []
    thread = threading.Thread(target=lambda: done.append(Workspace(torch.zeros(1), 8)), daemon=True)
    thread.start()
    thread.join(20)
    assert done
    assert not ending
