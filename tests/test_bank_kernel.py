"""The bank of oscillators: parity of all kernels, and what the mathematics promises."""

import functools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from sfmts.kernels import _compiled, _linear_scan
from sfmts.kernels._bank import MEMBERS, SUMMARIES, Bank, fused, reference, summarize_bank, trace_bank
from sfmts.kernels._bank.native import BankStream

VARIANTS = ["fused-steps", "fused-parallel", *(f"native-{name}" for name in _compiled.library.instruction_sets())]
C_TOLERANCE = 1e-5  # of c, in units of the largest magnitude of each oscillator
TOLERANCE = 2e-5  # of summaries
BLOCKS = [("value", 1, 16), ("slope", 1, 5), ("value", -1, 1), ("slope", -1, 16)]  # drive, direction, groups


@pytest.fixture(params=VARIANTS)
def backend(request, monkeypatch):
    """Return the name of a kernel, with each instruction set, and with batches and chunks that series cross."""
    name, variant = request.param.split("-", 1)
    monkeypatch.setattr(fused, "_CPU_BATCH", 5)
    monkeypatch.setattr(fused, "_GPU_BATCH", 3)
    monkeypatch.setattr(fused, "_GPU_CHUNK", 21)
    if variant == "parallel":
        monkeypatch.setattr(_linear_scan, "in_parallel", lambda x: True)
        monkeypatch.setattr(fused, "in_parallel", lambda x: True)
    if name == "native":
        monkeypatch.setenv("SFMTS_INSTRUCTION_SET", variant)
    return name


class Case(NamedTuple):
    """Arguments of one call."""

    x: torch.Tensor
    lengths: torch.Tensor
    times: torch.Tensor | None
    bank: Bank

    def summarize(self, backend, **options):
        return summarize_bank(*self, backend=backend, **options)

    def trace(self, backend, strides=None, **options):
        strides = torch.ones_like(self.lengths) if strides is None else strides
        return trace_bank(*self, strides, backend=backend, **options)

    def series(self, numbers):
        """Return the case of some of the series."""
        times = None if self.times is None else self.times.split(self.lengths.tolist())
        return self._replace(
            x=torch.cat([self.x.split(self.lengths.tolist())[i] for i in numbers]),
            lengths=self.lengths[numbers],
            times=None if times is None else torch.cat([times[i] for i in numbers]),
        )

    def backwards(self):
        """Return the case of the reversed series, and of a bank that reads the other way."""
        numbers = list(range(len(self.lengths)))[::-1]
        reversed_case = self._replace(
            x=self.x.flip(0),
            lengths=self.lengths.flip(0),
            times=None if self.times is None else -self.times.flip(0),
            bank=self.bank._replace(direction=-self.bank.direction),
        )
        return reversed_case.series(numbers)


def make_bank(n_channels=1, unit=1.0, seed=0, blocks=BLOCKS):
    """Draw oscillators, about a third of frequency 0, whose outputs deviate by about 1."""
    generator = np.random.RandomState(seed)
    shape = (len(blocks), 8, 16)
    omega = generator.uniform(0.01, 2, shape) * (generator.uniform(size=shape) > 0.3)
    s = torch.from_numpy((-1 / (1 + generator.exponential(10, shape)) + 1j * omega) / unit)
    read_out = torch.polar((-2 * s.real).sqrt(), torch.from_numpy(generator.uniform(0, 2 * np.pi, shape)))
    is_value = torch.tensor([kind == "value" for kind, _, _ in blocks])[:, None, None]
    mix = torch.from_numpy(generator.normal(size=(len(blocks), 8, n_channels))).float()
    mix[0] = mix[0, :1]
    return Bank(
        s,
        torch.where(is_value, s / torch.expm1(s * unit), 0.0).to(torch.complex64),
        (read_out * torch.expm1(s * unit) / s**2).to(torch.complex64),
        torch.where(is_value, -(read_out / s).real, 0.0).float(),
        torch.from_numpy(generator.normal(scale=0.5, size=shape)).float(),
        torch.ones_like(mix) if n_channels == 1 else mix,
        torch.tensor([direction for _, direction, _ in blocks]),
        torch.tensor([groups for _, _, groups in blocks]),
        unit,
    )


def make_case(lengths=(70, 1, 33, 32, 2, 64, 65, 17), n_channels=1, steps=None, unit=1.0, seed=0, blocks=BLOCKS):
    """Draw noise that wanders, with steps that last as long as ``steps(generator, count)`` says."""
    generator = np.random.RandomState(seed)
    total = sum(lengths)
    noise = generator.normal(size=(total, n_channels))
    wander = np.sin(generator.uniform(0.1, 0.4, n_channels) * np.arange(total)[:, None])
    times = None if steps is None else torch.from_numpy(steps(generator, total)).cumsum(0)
    x = torch.from_numpy(noise + 2 * wander).float()
    return Case(x, torch.tensor(lengths), times, make_bank(n_channels, unit, seed, blocks))


CASES = {
    "regular": {},
    "one step": {"lengths": (1, 1, 1)},
    "one long series": {"lengths": (203,), "seed": 9},
    "channels": {"n_channels": 7, "lengths": (45, 3, 60), "seed": 2},
    "other unit": {"unit": 0.25, "n_channels": 2, "seed": 3},
    "gaps": {"steps": lambda generator, count: generator.choice([1.0, 1.0, 1.0, 2.0, 7.0], count), "seed": 4},
    "jitter": {"steps": lambda generator, count: generator.uniform(0.3, 2, count), "n_channels": 3, "seed": 5},
    "jitter, other unit": {"steps": lambda generator, count: generator.uniform(2, 9, count), "unit": 4.0, "seed": 6},
    "long gaps": {
        "steps": lambda generator, count: generator.choice([1.0, 0.5, 1000.0], count, p=[0.5, 0.49, 0.01]),
        "seed": 7,
    },
}


class Expected(NamedTuple):
    c: list[list[torch.Tensor]]  # of each block, of each series
    tolerance: torch.Tensor  # (blocks, 8, 16): error of c that rounding may cause
    features: torch.Tensor
    is_near: torch.Tensor  # whether such an error may change a feature by much


@functools.cache  # one run of the reference for all kernels
def expect(name):
    case = make_case(**CASES[name])
    times = [None] * len(case.lengths) if case.times is None else case.times.split(case.lengths.tolist())
    series = list(zip(case.x.double().split(case.lengths.tolist()), times, strict=True))
    blocks = range(len(case.bank.s))
    c = [[reference.outputs(x, t, case.bank, block)[0] for x, t in series] for block in blocks]
    tolerance = C_TOLERANCE * torch.stack([torch.cat(rows).abs().amax(0) for rows in c])
    near = [[near_ties(values, case.bank, block, tolerance[block]) for values in c[block]] for block in blocks]
    is_near = torch.cat([torch.stack(rows) for rows in near], dim=1)
    return Expected(c, tolerance, reference.summarize(*case), is_near)


def near_ties(c, bank, block, tolerance):
    """Return which features of a block depend on a comparison of c that is closer than ``tolerance``."""
    close = ((c - bank.threshold[block]).abs() <= tolerance).any(0)

    def contested(values):  # a group whose best two members are close, unless they are equal for certain
        gaps = values.sort(dim=1).values.diff(dim=1)[:, -1]
        return ((gaps > 0) & (gaps <= 2 * tolerance.amax(0))).any(0).expand(MEMBERS, -1)

    greatest, least = contested(c), contested(-c)
    of_summary = dict.fromkeys(("share", "longest", "moment"), close)
    of_summary |= {"greatest": greatest, "greatest_mean": greatest, "least": least, "least_mean": least}
    return torch.stack([of_summary[name] for name in SUMMARIES])[:, :, : bank.groups[block]].flatten()


def assert_close(actual, expected, tolerance):
    assert actual.shape == expected.shape
    assert actual.dtype == torch.float32
    difference = (actual.double() - expected.double()).abs()
    assert (difference <= tolerance).all(), f"The largest difference is {difference.max()}."


@pytest.mark.parametrize("name", CASES)
def test_summaries_and_traces_equal_those_of_the_reference(name, backend):
    expected, case = expect(name), make_case(**CASES[name])
    assert expected.is_near.float().mean() < 0.02
    sure = ~expected.is_near
    assert_close(case.summarize(backend)[sure], expected.features[sure], TOLERANCE)
    strides = 1 + torch.arange(len(case.lengths)) % 3
    kept = [torch.cat([c[::n] for c, n in zip(rows, strides.tolist(), strict=True)]) for rows in expected.c]
    assert_close(case.trace(backend, strides), torch.stack(kept), expected.tolerance[:, None])


def test_the_reference_keeps_every_so_many_steps():
    case = make_case((9, 1, 4), n_channels=2)
    every = case.trace("reference").split([9, 1, 4], dim=1)
    kept = [part[:, ::n] for part, n in zip(every, (2, 5, 3), strict=True)]
    assert torch.equal(case.trace("reference", torch.tensor([2, 5, 3])), torch.cat(kept, dim=1))


# -- what the mathematics promises


def solve(s, x, t):
    """Integrate S' = s S + x from 0; x is a function of the number of a step and of the share of it that has passed."""
    S = [0j]
    for i in range(1, len(t)):

        def derivative(now, S, i=i):
            return s * S + x(i, (now - t[i - 1]) / (t[i] - t[i - 1]))

        S.append(solve_ivp(derivative, t[i - 1 : i + 1], [S[-1]], rtol=1e-9, atol=1e-11).y[0, -1])
    return np.array(S)


def test_outputs_solve_the_differential_equation(backend):
    x, t = np.array([0.7, -1.2, 0.4, 2.0, 2.0, -0.3]), np.array([0.0, 1.0, 1.5, 4.0, 4.25, 7.0])
    bank = make_bank(unit=0.5)
    c = Case(torch.tensor(x)[:, None].float(), torch.tensor([6]), torch.tensor(t), bank).trace(backend)
    read_out = bank.m * bank.s**2 / torch.expm1(bank.s * bank.unit)
    zero_frequency = (bank.s.imag == 0).nonzero().tolist()[::40]
    assert zero_frequency
    for at in [(0, 0, 0), (0, 5, 3), (1, 2, 9), (2, 7, 15), (3, 4, 0), *map(tuple, zero_frequency)]:
        s, m, (kind, direction, _) = complex(bank.s[at]), complex(read_out[at]), BLOCKS[at[0]]
        values, times = (x, t) if direction > 0 else (x[::-1], -t[::-1])
        slopes = np.append(0, np.diff(values) / np.diff(times))
        if kind == "value":
            S = solve(s, lambda i, share, v=values: v[i - 1] + share * (v[i] - v[i - 1]), times)
        else:
            S = solve(s, lambda i, share, v=slopes: v[i], times) / s
        assert_close(c[at[0], :, at[1], at[2]], torch.from_numpy((m * S).real), 1e-5)


def test_twice_as_many_samples_change_nothing_at_common_times(backend):
    case = make_case((40,), n_channels=2)
    dense = torch.empty(79, 2)
    dense[::2], dense[1::2] = case.x, (case.x[1:] + case.x[:-1]) / 2
    times = torch.arange(79, dtype=torch.float64) / 2
    c = Case(dense, torch.tensor([79]), times, case.bank).trace(backend, torch.tensor([2]))
    expected = case.trace("reference")
    assert_close(c, expected, 1e-5 * expected.abs().max())


def test_a_shift_of_time_changes_nothing(backend):
    case = make_case(steps=lambda generator, count: generator.randint(1, 9, count) / 4)
    shifted = case._replace(times=case.times + 2.0**20)
    assert torch.equal(case.summarize(backend), shifted.summarize(backend))


@pytest.mark.parametrize("name", ["regular", "jitter"])
def test_results_depend_neither_on_threads_nor_on_batch_mates_nor_on_order(name, backend):
    case = make_case(**CASES[name])
    features, c = case.summarize(backend, threads=1), case.trace(backend, threads=1)
    exact = backend == "native"  # operations of PyTorch may round another way in a tensor of another size
    for threads in (0, 2, 3):
        assert torch.equal(case.summarize(backend, threads=threads), features)
        assert torch.equal(case.trace(backend, threads=threads), c)
    parts = c.split(case.lengths.tolist(), dim=1)
    for numbers in ([3], [5, 2], [7, 6, 5, 4, 3, 2, 1, 0]):
        some = case.series(numbers)
        expected = torch.cat([parts[i] for i in numbers], dim=1)
        assert_close(some.trace(backend), expected, 0 if exact else 1e-6 * c.abs().max())
        differs = (some.summarize(backend) - features[numbers]).abs() > (0 if exact else 1e-6)
        assert differs.float().mean() <= (0 if exact else 1e-3)


@pytest.mark.parametrize("name", ["gaps", "channels"])
def test_backwards_is_forwards_on_reversed_series(name, backend):
    case = make_case(**CASES[name])
    assert torch.equal(case.trace(backend), case.backwards().trace(backend))
    assert torch.equal(case.summarize(backend), case.backwards().summarize(backend))


def test_scales_of_series_and_of_read_outs_make_up_for_each_other(backend):
    case, bank = make_case(n_channels=2), make_bank(n_channels=2)
    features = case.summarize(backend)
    louder = case._replace(x=4 * case.x)
    quieter = bank._replace(m=bank.m / 4, direct=bank.direct / 4)
    assert torch.equal(louder._replace(bank=quieter).summarize(backend), features)
    means = torch.tensor([name.endswith("_mean") for name in SUMMARIES])
    sizes = (bank.groups * MEMBERS).tolist()
    factors = torch.cat([torch.where(means, 4.0, 1.0).repeat_interleave(size) for size in sizes])
    higher = bank._replace(threshold=4 * bank.threshold)
    assert torch.equal(louder._replace(bank=higher).summarize(backend), factors * features)


def test_outputs_of_a_constant_series_have_a_closed_form(backend):
    case = make_case((50, 3))._replace(x=torch.full((53, 1), 3.0))
    bank, t = case.bank, torch.cat([torch.arange(50), torch.arange(3)])[:, None, None]
    read_out = bank.m * bank.s**2 / torch.expm1(bank.s)
    expected = (read_out[:, None] * 3 * torch.expm1(bank.s[:, None] * t) / bank.s[:, None]).real
    expected[1::2] = 0  # driven by the slope
    assert_close(case.trace(backend), expected, 1e-5 * expected.abs().max())


def test_outputs_at_their_threshold_are_not_above_it(backend):
    case = make_case((6, 3))
    silent = case._replace(x=torch.zeros_like(case.x), bank=case.bank._replace(threshold=0 * case.bank.threshold))
    expected = reference.summarize(*silent).float()
    assert_close(silent.summarize(backend), expected, 0.0)


def test_unused_groups_change_nothing(backend):
    case = make_case()
    features = case.summarize(backend).split((case.bank.groups * MEMBERS * len(SUMMARIES)).tolist(), dim=1)
    case = case._replace(bank=case.bank._replace(groups=torch.tensor([16, 16, 16, 16])))
    full = case.summarize(backend).view(len(case.lengths), 4, -1, 16)
    for block, (_, _, groups) in enumerate(BLOCKS):
        assert torch.equal(full[:, block, :, :groups].flatten(1), features[block])


# -- invalid arguments


def changed(**parts):
    """Return a function that changes parts of the bank, or other arguments, of a case."""

    def change(case):
        case = case._replace(times=torch.arange(len(case.x), dtype=torch.float64))
        bank = {k: v(getattr(case.bank, k)) for k, v in parts.items() if k in Bank._fields}
        others = {k: v(getattr(case, k)) for k, v in parts.items() if k in Case._fields}
        return case._replace(bank=case.bank._replace(**bank), **others)

    return change


OTHER = {
    torch.complex128: torch.complex64,
    torch.complex64: torch.complex128,
    torch.float32: torch.float64,
    torch.int64: torch.int32,
}
TENSORS = ["s", "start", "m", "direct", "threshold", "mix", "direction", "groups"]
INVALID = [
    *((f"bank.{name} has shape", ValueError, changed(**{name: lambda v: v[None]})) for name in TENSORS),
    *((f"bank.{name} is", TypeError, changed(**{name: lambda v: v.to(OTHER[v.dtype])})) for name in TENSORS),
    ("bank.threshold has shape", ValueError, changed(threshold=lambda v: v[:-1])),
    ("bank.s must have negative real parts", ValueError, changed(s=lambda v: 1j * v.imag)),
    ("x has shape", ValueError, changed(x=lambda v: v[:, :1])),
    ("x is torch.float64", TypeError, changed(x=lambda v: v.double())),
    ("times has shape", ValueError, changed(times=lambda v: v[1:])),
    ("times is torch.float32", TypeError, changed(times=lambda v: v.float())),
    ("lengths has shape", ValueError, changed(lengths=lambda v: v[:, None])),
    ("lengths is torch.int32", TypeError, changed(lengths=lambda v: v.int())),
    ("lengths must be positive", ValueError, changed(lengths=lambda v: v + torch.tensor([5, -5]))),
    ("lengths must be positive and sum to the 9 rows", ValueError, changed(lengths=lambda v: v + 1)),
    ("lengths must be positive", ValueError, changed(**dict.fromkeys(("x", "lengths", "times"), lambda v: v[:0]))),
    ("bank.groups must lie between 1 and 16", ValueError, changed(groups=lambda v: v - 1)),
    ("bank.groups must lie between 1 and 16", ValueError, changed(groups=lambda v: v + 1)),
    ("bank.groups must lie", ValueError, changed(**{name: lambda v: v[:0] for name in TENSORS})),
    ("bank.unit must be positive", ValueError, changed(unit=lambda v: 0.0)),
    ("bank.unit must be positive", ValueError, changed(unit=lambda v: float("nan"))),
]  # fmt: skip


@pytest.mark.parametrize(("message", "error", "change"), INVALID)
def test_invalid_arguments_are_named(message, error, change):
    case = change(make_case((4, 5), n_channels=2))
    calls = [lambda: case.summarize("native"), lambda: case.trace("native")]
    if message.startswith("bank."):
        calls.append(lambda: BankStream(case.bank, False))
    for call in calls:
        with pytest.raises(error, match=message):
            call()


def test_invalid_strides_are_named():
    for strides in (torch.tensor([1]), torch.tensor([1.0, 1.0]), torch.tensor([1, 0])):
        with pytest.raises(ValueError, match="strides"):
            make_case((4, 5)).trace("native", strides)


def test_a_stream_refuses_a_bank_that_reads_backwards():
    bank = make_case((4, 5)).bank
    assert (bank.direction < 0).any()
    with pytest.raises(ValueError, match=r"bank\.direction is -1 in some blocks, but a stream reads forwards only"):
        BankStream(bank, False)
    with pytest.raises(TypeError, match="bank is of type NoneType"):
        BankStream(None, False)
