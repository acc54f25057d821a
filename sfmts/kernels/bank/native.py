"""The bank compiled for the processor (cpu/bank.h): series in parallel, oscillators in vector lanes, no history."""

import ctypes
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sfmts.kernels import native
from sfmts.kernels._checks import address, plain
from sfmts.kernels.bank.checks import check_bank
from sfmts.kernels.bank.reference import Bank

if native.missing() is None:
    from sfmts.kernels import _native

STATE_BYTES = 4 * 4 + 6 * 8  # of each oscillator, from step to step: BlockState of cpu/bank.h


class _Problem(ctypes.Structure):
    """Mirror the struct of cpu/bank.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("threads", "n_series", "n_steps", "n_channels", "n_blocks")),
        *((name, ctypes.c_int64) for name in ("n_features", "has_times", "is_trace")),
        *((name, ctypes.c_void_p) for name in ("starts", "x", "t", "unit", "mix", "mixes", "directions", "groups")),
        *((name, ctypes.c_void_p) for name in ("offsets", "lambda_re", "lambda_im", "s_re", "s_im")),
        *((name, ctypes.c_void_p) for name in ("inverse_re", "inverse_im", "start_re", "start_im")),
        *((name, ctypes.c_void_p) for name in ("m_re", "m_im", "direct", "threshold")),
        *((name, ctypes.c_void_p) for name in ("strides", "trace_starts", "trace")),
        *((name, ctypes.c_void_p) for name in ("state", "last_x", "elapsed", "features")),
    ]


def missing() -> str | None:
    """Return why there is no compiled bank in this installation; None if there is one."""
    if (reason := native.missing()) is not None:
        return reason
    if not hasattr(_native, "summarize_bank"):
        return "the compiled kernel is of an older version of sfmts: reinstall sfmts"
    return None


class Prepared:
    """A bank as the compiled kernel reads it, with the arrays that it points to."""

    def __init__(self, bank: Bank) -> None:
        factor = torch.exp(bank.s * bank.unit)
        inverse = 1 / torch.expm1(bank.s * bank.unit)
        same = (bank.mix == bank.mix[:, :1]).flatten(1).all(1)
        sizes = bank.groups * (bank.n_features // int(bank.groups.sum()))
        self.bank = bank
        self.tensors = {
            "unit": torch.tensor([bank.unit], dtype=torch.float64),
            "mix": bank.mix,
            "mixes": torch.where(same, 1, bank.mix.shape[1]),
            "directions": bank.direction,
            "groups": bank.groups,
            "offsets": sizes.cumsum(0) - sizes,
            "lambda_re": factor.real.float(),
            "lambda_im": factor.imag.float(),
            "s_re": bank.s.real,
            "s_im": bank.s.imag,
            "inverse_re": inverse.real,
            "inverse_im": inverse.imag,
            "start_re": bank.start.real,
            "start_im": bank.start.imag,
            "m_re": bank.m.real,
            "m_im": bank.m.imag,
            "direct": bank.direct,
            "threshold": bank.threshold,
        }
        self.tensors = {name: plain(tensor) for name, tensor in self.tensors.items()}

    def problem(
        self,
        n_series: int,
        tensors: Mapping[str, Tensor | None],
        *,
        threads: int = 1,
        is_trace: bool = False,
        n_steps: int | None = None,
    ) -> _Problem:
        """Return a call of the kernel on ``x`` of shape (channels, steps) and what else it is given.

        It holds addresses: the caller keeps this object and the tensors alive.
        """
        x = tensors["x"]
        assert x is not None
        problem = _Problem(
            threads=threads,
            n_series=n_series,
            n_steps=x.shape[1] if n_steps is None else n_steps,
            n_channels=x.shape[0],
            n_blocks=len(self.bank.s),
            n_features=self.bank.n_features,
            has_times=tensors["t"] is not None,
            is_trace=is_trace,
        )
        for name, tensor in {**self.tensors, **tensors}.items():
            setattr(problem, name, address(name, tensor))
        return problem


def _run(problem: _Problem) -> None:
    _native.summarize_bank(native.instruction_set(), ctypes.addressof(problem))


def _starts(counts: Tensor) -> Tensor:
    return torch.cat((counts.new_zeros(1), counts.cumsum(0)))


def _series(x: Tensor, lengths: Tensor, times: Tensor | None) -> dict[str, Tensor | None]:
    return {"x": plain(x.T), "t": None if times is None else plain(times), "starts": _starts(lengths)}


def summarize(x: Tensor, lengths: Tensor, times: Tensor | None, bank: Bank, threads: int) -> Tensor:
    """Summarise each series; see :func:`sfmts.kernels.bank.summarize_bank`."""
    prepared, features = Prepared(bank), x.new_empty(len(lengths), bank.n_features)
    given = {**_series(x, lengths, times), "features": features}
    _run(prepared.problem(len(lengths), given, threads=threads))
    return features


def trace(x: Tensor, lengths: Tensor, times: Tensor | None, bank: Bank, strides: Tensor, threads: int) -> Tensor:
    """Return c at every so many steps of each series; see :func:`sfmts.kernels.bank.trace_bank`."""
    starts = _starts((lengths + strides - 1) // strides)
    prepared, kept = Prepared(bank), x.new_empty(len(bank.s), int(starts[-1]), *bank.s.shape[1:])
    given = {**_series(x, lengths, times), "strides": plain(strides), "trace_starts": starts, "trace": kept}
    _run(prepared.problem(len(lengths), given, threads=threads, is_trace=True))
    return kept


class BankStream:
    """Carry the state of a bank from step to step of one series.

    Parameters
    ----------
    bank : Bank
        All blocks read forwards.
    has_times : bool
        Whether steps have time stamps.

    Raises
    ------
    ValueError, TypeError
        If the bank is invalid or reads backwards.
    """

    def __init__(self, bank: Bank, has_times: bool) -> None:
        check_bank(bank)
        if bool((bank.direction < 0).any()):
            raise ValueError("bank.direction is -1 in some blocks, but a stream reads forwards only: all must be 1.")
        slots = bank.s[0].numel()
        channels = bank.mix.shape[2]
        self._prepared = Prepared(bank)
        self._state = torch.zeros(len(bank.s) * STATE_BYTES * slots, dtype=torch.uint8)
        self._elapsed = torch.zeros(2, dtype=torch.float64)  # duration so far, time stamp of the last step
        self._last_x = torch.zeros(channels)
        self._step, self._time = torch.zeros(channels, 1), torch.zeros(1, dtype=torch.float64)
        self._features = torch.zeros(bank.n_features)
        given = {
            "state": self._state,
            "elapsed": self._elapsed,
            "last_x": self._last_x,
            "x": self._step,
            "t": self._time if has_times else None,
        }
        # Both calls are made once: what changes from step to step changes in place.
        self._one_step = self._prepared.problem(1, given)
        self._read = self._prepared.problem(1, {**given, "features": self._features}, n_steps=0)
        self._calls = [ctypes.addressof(call) for call in (self._one_step, self._read)]
        self._instruction_set = native.instruction_set()
        self._unit, self._has_times = bank.unit, has_times
        self._step_array, self._last_array = self._step.numpy(), self._last_x.numpy()
        self._elapsed_array, self._time_array = self._elapsed.numpy(), self._time.numpy()

    def update(self, x: Any, time: float = 0.0) -> None:
        """Read one step: its scaled channels and its time stamp."""
        self._step_array[:, 0] = x
        self._time_array[0] = time
        _native.summarize_bank(self._instruction_set, self._calls[0])
        elapsed = self._elapsed_array
        elapsed[0] += time - elapsed[1] if self._has_times and elapsed[0] > 0 else self._unit
        elapsed[1] = time
        self._last_array[:] = x

    def features(self) -> Tensor:
        """Return the features of the steps so far, in memory that the next call writes to again."""
        _native.summarize_bank(self._instruction_set, self._calls[1])
        return self._features
