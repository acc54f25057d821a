"""Saving and loading estimators: a safetensors file whose header holds JSON.  Nothing in it can run code."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from sfmts._files import replacing

FORMAT = 1
_DEEPEST = 50  # levels of lists and dictionaries within one another
_PADDING = 16  # times as many bytes as their content that strings in an array may take, beyond _FREE_PADDING
_FREE_PADDING = 2**26


class Storable(Protocol):
    """An estimator that tells what of it a file holds besides its parameters and public fitted attributes."""

    device_: str

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters."""

    def _to_file(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return entries of the JSON document, and tensors."""

    def _from_file(self, document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Set what :meth:`_to_file` returned; entries of the document are still encoded."""


Estimator = TypeVar("Estimator", bound=Storable)


def save(estimator: Storable, path: Path) -> None:
    """Write a fitted estimator to ``path``; see :meth:`SequenceEstimator.save`."""
    import sfmts

    own, tensors = estimator._to_file()
    attributes = {
        key: _encode(value, key)
        for key, value in vars(estimator).items()
        if key.endswith("_") and not key.startswith("_") and key not in ("module_", *tensors)
    }
    document = {
        "format": FORMAT,
        "estimator": type(estimator).__name__,
        "versions": {"sfmts": sfmts.__version__, "torch": torch.__version__},
        "parameters": {key: _encode(value, key) for key, value in estimator.get_params(deep=False).items()},
        "attributes": attributes,
        **{key: _encode_entry(value, key) for key, value in own.items()},
    }
    tensors = {key: value.cpu().contiguous() for key, value in tensors.items()}
    text = json.dumps(document, sort_keys=True)
    data = _ordered(serialize(tensors, metadata={"sfmts": text, "sha256": _digest(text, tensors)}))
    with replacing(path) as temporary:
        temporary.write_bytes(data)  # save_file() would leave it unreadable to others, whatever the umask


def _ordered(data: bytes) -> bytes:
    """Return a safetensors file with its header sorted: safetensors writes metadata in an order drawn at random."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors are aligned to 8 bytes
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def load(path: Path, cls: type[Estimator]) -> Estimator:
    """Read what :func:`save` wrote; see :meth:`SequenceEstimator.load`."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; give the file that save() wrote.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is damaged or was not written by save(): {error}.") from error
    text = metadata.get("sfmts")
    if text is None:
        raise ValueError(f"{path} is a safetensors file, but not one that an estimator's save() wrote.")
    try:
        document = json.loads(text)
        format_, name = document["format"], document["estimator"]
        if format_ <= FORMAT and name == cls.__name__:
            if metadata.get("sha256") != _digest(text, tensors):
                raise ValueError("its content does not match its checksum")
            return _restore(document, tensors, cls)
    except Exception as error:  # forged content lets errors of many kinds through
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).removesuffix(".")
        raise ValueError(f"{path} is damaged or from an incompatible version: {reason}.") from error
    if format_ > FORMAT:
        raise ValueError(f"{path} has format {format_}, newer than this sfmts reads ({FORMAT}).")
    raise ValueError(f"{path} holds a {name}; load it with {name}.load.")


def _restore(document: dict[str, Any], tensors: dict[str, torch.Tensor], cls: type[Estimator]) -> Estimator:
    estimator = cls(**{key: decode(value) for key, value in document["parameters"].items()})
    for key, value in document["attributes"].items():
        if not key.endswith("_") or key.startswith("_"):
            raise ValueError(f"{key!r} is no fitted attribute")
        setattr(estimator, key, decode(value))
    torch.device(estimator.device_)
    estimator._from_file(document, tensors)
    return estimator


def _digest(text: str, tensors: dict[str, torch.Tensor]) -> str:
    """Checksum of all that a file holds."""
    digest = hashlib.sha256(text.encode())
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _encode_entry(value: Any, name: str) -> Any:
    """Return the JSON form of an entry of the document; dictionaries with names for keys stay dictionaries."""
    if isinstance(value, dict):
        return {key: _encode(item, key) for key, item in value.items()}
    return _encode(value, name)


def _encode(value: Any, name: str, within: tuple[int, ...] = ()) -> Any:
    """Return a JSON form of a parameter or fitted attribute; ``within`` are the ids of what holds it."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in within or len(within) == _DEEPEST:
        reason = "it contains itself" if id(value) in within else f"it is nested more than {_DEEPEST} levels deep"
        raise TypeError(f"{name} cannot be saved: {reason}. Use pickle or joblib for this estimator.")
    within = (*within, id(value))
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufUSO":
        return {"array": [_encode(item, name, within) for item in value.tolist()], "dtype": value.dtype.str}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(item, name, within) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_encode(key, name, within), _encode(item, name, within)] for key, item in value.items()]}
    if isinstance(value, np.random.RandomState):
        kind, keys, *rest = value.get_state(legacy=True)
        return {"RandomState": [kind, np.asarray(keys).tolist(), *rest]}
    raise TypeError(
        f"{name}={value!r} cannot be saved: only numbers, strings, arrays, lists and dictionaries of them can. "
        "Use pickle or joblib for this estimator."
    )


def decode(value: Any) -> Any:
    """Return the value that :func:`_encode` encoded."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        items, dtype = [decode(item) for item in value["array"]], np.dtype(value["dtype"])
        _check_array(items, dtype)
        return np.array(items, dtype=dtype)
    if "dict" in value:
        return {decode(key): decode(item) for key, item in value["dict"]}
    if "RandomState" in value:
        kind, keys, *rest = value["RandomState"]
        state = np.random.RandomState()
        state.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
        return state
    ((kind, items),) = value.items()
    return {"list": list, "tuple": tuple}[kind](decode(item) for item in items)


def _check_array(items: list[Any], dtype: np.dtype[Any]) -> None:
    """Raise a ValueError if an array of strings would take far more memory than what it holds."""
    if dtype.kind not in "biufUSO":
        raise ValueError(f"an array cannot have the type {dtype}")
    if dtype.kind in "US":
        widths = [len(str(item)) for item in _leaves(items)]
        if len(widths) * dtype.itemsize > _FREE_PADDING + _PADDING * 4 * sum(widths):
            raise ValueError(f"{len(widths)} strings with {sum(widths)} characters cannot have the type {dtype}")


def _leaves(items: list[Any]) -> Iterator[Any]:
    """Yield what nested lists hold."""
    for item in items:
        if isinstance(item, list):
            yield from _leaves(item)
        else:
            yield item
