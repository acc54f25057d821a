"""The files of saved estimators: safetensors with a JSON document in the header.

:func:`encode` and :func:`decode` convert values to JSON and back, :func:`write` and :func:`read` do so for whole files.
Nothing in a file can run code.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from sfmts._files import replacing

FORMAT = 1
_DEEPEST = 50  # levels of nested lists and dictionaries
_PADDING = 16  # times as many bytes as their content that strings in an array may take, beyond _FREE_PADDING
_FREE_PADDING = 2**26


def write(path: Path, document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write a document, whose values :func:`encode` made, and tensors to one file.

    The file appears complete or not at all. An existing file stays until the new one is complete.
    """
    import sfmts

    versions = {"sfmts": sfmts.__version__, "torch": torch.__version__}
    tensors = {key: value.cpu().contiguous() for key, value in tensors.items()}
    text = json.dumps({"format": FORMAT, "versions": versions, **document}, sort_keys=True)
    data = _ordered(serialize(tensors, metadata={"sfmts": text, "sha256": _digest(text, tensors)}))
    with replacing(path) as temporary:
        temporary.write_bytes(data)  # save_file() would leave it unreadable to others, whatever the umask


def _ordered(data: bytes) -> bytes:
    """Return a safetensors file with its header sorted: safetensors writes metadata in an order drawn at random."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors are aligned to 8 bytes
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the document and the tensors of a file that :func:`write` wrote.

    Raises
    ------
    IsADirectoryError
        If ``path`` is a directory.
    ValueError
        If the file is damaged, has another origin, or has a newer format.
    """
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
    with described(path):
        document = json.loads(text)
        is_newer = document["format"] > FORMAT
        if not is_newer and metadata.get("sha256") != _digest(text, tensors):
            raise ValueError("its content does not match its checksum")
    if is_newer:
        raise ValueError(f"{path} has format {document['format']}, but this version of sfmts reads up to {FORMAT}.")
    return document, tensors


@contextmanager
def described(path: Path) -> Iterator[None]:
    """Turn any error of a file's content into a ValueError that names the file.

    Content that was forged causes errors of many kinds.
    """
    try:
        yield
    except Exception as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).removesuffix(".")
        raise ValueError(f"{path} is damaged or from an incompatible version: {reason}.") from error


def _digest(text: str, tensors: dict[str, torch.Tensor]) -> str:
    """Return the checksum of a document and tensors."""
    digest = hashlib.sha256(text.encode())
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def encode_entry(value: Any, name: str) -> Any:
    """Return the JSON form of an entry of a document: a dictionary with strings as keys stays a dictionary."""
    if isinstance(value, dict):
        return {key: encode(item, key) for key, item in value.items()}
    return encode(value, name)


def encode(value: Any, name: str, within: tuple[int, ...] = ()) -> Any:
    """Return a JSON form of a number, a string, an array, or a list or dictionary of them.

    Errors call the value ``name``. ``within`` are the ids of the lists and dictionaries that contain it.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in within or len(within) == _DEEPEST:
        reason = "it contains itself" if id(value) in within else f"it is nested more than {_DEEPEST} levels deep"
        raise TypeError(f"{name} cannot be saved: {reason}. Use pickle or joblib for this estimator.")
    within = (*within, id(value))
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufUSO":
        return {"array": [encode(item, name, within) for item in value.tolist()], "dtype": value.dtype.str}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [encode(item, name, within) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, name, within), encode(item, name, within)] for key, item in value.items()]}
    if isinstance(value, np.random.RandomState):
        kind, keys, *rest = value.get_state(legacy=True)
        return {"RandomState": [kind, np.asarray(keys).tolist(), *rest]}
    raise TypeError(
        f"{name}={value!r} cannot be saved: only numbers, strings, arrays, lists and dictionaries of them can. "
        "Use pickle or joblib for this estimator."
    )


def decode(value: Any) -> Any:
    """Return the value that :func:`encode` encoded."""
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
    """Yield the items of nested lists."""
    for item in items:
        if isinstance(item, list):
            yield from _leaves(item)
        else:
            yield item
