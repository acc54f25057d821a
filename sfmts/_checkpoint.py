"""Checkpoints: files from which a fit that was cut off goes on.

A checkpoint has the format of a saved estimator, JSON and safetensors, so that nothing in it can run code.
"""

import hashlib
import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sfmts import _persistence as persistence

FORMAT = 1
State = tuple[dict[str, Any], dict[str, Tensor]]


def digest(*arrays: Tensor | NDArray[Any] | None) -> str:
    """Return a checksum of the types, shapes and numbers of arrays."""
    found = hashlib.sha256()
    for value in arrays:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        found.update(f"{array.dtype} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).data if array.size and value is not None else b"")
    return found.hexdigest()[:32]


def seeded(random_state: Any, checkpoint: "Checkpoint | None") -> Any:
    """Return ``random_state``, or the seed of the checkpoint, if there is one, instead of None."""
    return checkpoint.seed if random_state is None and checkpoint is not None else random_state


class Checkpoint:
    """The checkpoint of one fit, a context in which the fit runs.

    On leaving the context the file is removed, unless an error occurred or the fit was cut off.

    SIGTERM within the context sets ``terminated``, if the context is entered in the main thread and the signal is not
    ignored. A second SIGTERM gets the handler that was there before.

    Parameters
    ----------
    place : str or path
        A file, or a folder in which each fit has a file of its own.
    identity : dict of str to object
        What the fit depends on, by names that error messages can use.

    Attributes
    ----------
    path : Path
        The file.
    seed : int
        Stands in for ``random_state=None``: that of the fit that is continued, otherwise a new one.
    terminated : bool
        Whether SIGTERM was received.
    cut_off : bool
        Whether training ended before its time; set by the training.

    Raises
    ------
    FileNotFoundError
        If the folder of the file does not exist.
    ValueError
        If the file is damaged, no checkpoint, or that of another fit.
    """

    def __init__(self, place: str | os.PathLike[str], identity: Mapping[str, Any]) -> None:
        self._identity = {
            name: json.dumps(persistence.encode(value, name), sort_keys=True) for name, value in identity.items()
        }
        path = Path(place).expanduser()
        if path.is_dir():
            name = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()[:32]
            path = path / f"{name}.checkpoint"
        elif not path.parent.is_dir():
            raise FileNotFoundError(f"checkpoint={str(place)!r}: the folder {str(path.parent)!r} does not exist.")
        self.path = path
        self.seed = int(np.random.RandomState().randint(2**31 - 1))
        self.terminated = self.cut_off = self._is_lost = False
        self._stages: dict[str, State] = {}
        self._mark = self._found_mark()
        self._written = time.monotonic()
        if self._mark is not None:
            self._read()

    def _found_mark(self) -> tuple[int, int] | None:
        """Return what tells the present file from those that replace it; None if there is no file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _is_ours(self) -> bool:
        """Return whether no other process has written the file since this fit read or wrote it."""
        return self._found_mark() in (None, self._mark)

    def _read(self) -> None:
        """Read the file; raise a ValueError unless it is a checkpoint of this fit."""
        try:
            document, tensors = persistence.read(self.path)
            with persistence.described(self.path):
                if document.get("checkpoint") != FORMAT:
                    raise ValueError("it is not a checkpoint of this version")
                found, self.seed = dict(document["identity"]), int(document["seed"])
                for name, state in document["stages"].items():
                    prefix = f"{name}/"
                    own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                    self._stages[name] = {key: persistence.decode(value) for key, value in state.items()}, own
        except ValueError as error:
            raise ValueError(f"The checkpoint cannot be used: {error} Move or delete it to start anew.") from error
        names = sorted({*found, *self._identity})
        changed = [name for name in names if found.get(name) != self._identity.get(name)]
        if changed:
            raise ValueError(
                f"{self.path} is the checkpoint of another unfinished fit: {', '.join(changed)} differed there. Fit "
                "with the same data and parameters to continue it, give this fit another path, or delete the file. "
                "In a folder, each fit has a file of its own."
            )

    def stage(self, name: str) -> "Stage":
        """Return the part of the file that belongs to one of the trainings of the fit."""
        return Stage(self, name)

    def load(self, name: str) -> State | None:
        """Return what was saved of a training, or None."""
        return self._stages.get(name)

    def save(self, name: str, state: State) -> None:
        """Write the state of a training, and those of earlier ones of the fit.

        Training goes on if the disk is full, or another fit writes to the file.
        """
        # Copies: tensors that share memory cannot be written, and those of a finished training may change later.
        self._stages[name] = state[0], {key: value.detach().cpu().clone() for key, value in state[1].items()}
        if not self._is_ours():
            if not self._is_lost:
                warnings.warn(
                    f"Another fit writes to the checkpoint {self.path}, so this one does not. Give each fit a path of "
                    "its own, or a folder.",
                    stacklevel=2,
                )
            self._is_lost = True
            return
        stages = {name: persistence.encode_entry(entries, name) for name, (entries, _) in self._stages.items()}
        document = {"checkpoint": FORMAT, "identity": self._identity, "seed": self.seed, "stages": stages}
        tensors = {f"{name}/{key}": value for name, (_, own) in self._stages.items() for key, value in own.items()}
        try:
            persistence.write(self.path, document, tensors)
            self._mark = self._found_mark()
        except OSError as error:
            warnings.warn(f"The checkpoint {self.path} could not be written: {error}. Training goes on.", stacklevel=2)
        self._written = time.monotonic()

    def is_due(self, seconds: float) -> bool:
        """Return whether the file was written, or the fit began, so many seconds ago."""
        return time.monotonic() - self._written >= seconds

    def __enter__(self) -> Self:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGTERM)
            if before not in (signal.SIG_IGN, None):
                self._before = before
                signal.signal(signal.SIGTERM, self._terminate)
        return self

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True
        signal.signal(signal.SIGTERM, self._before)  # for a second one

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        if error is not None or self.cut_off:
            return
        if self.terminated:
            warnings.warn("SIGTERM was received when training had ended; the fit is complete.", stacklevel=3)
        if self._is_ours():
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Stage:
    """One training of a fit, in the fit's checkpoint."""

    checkpoint: Checkpoint
    name: str

    def load(self) -> State | None:
        """Return what was saved of this training, or None."""
        return self.checkpoint.load(self.name)

    def save(self, state: State) -> None:
        """Write the state of this training."""
        self.checkpoint.save(self.name, state)
