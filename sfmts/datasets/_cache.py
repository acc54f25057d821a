"""Optional libraries, verified downloads and arrays on disk, for all data sets."""

import contextlib
import hashlib
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import get_data_home
from tqdm.auto import tqdm

from sfmts._files import as_path, replacing


class RemoteFile(NamedTuple):
    """A file to download, and its checksum."""

    filename: str
    url: str
    sha256: str


def require(module: str) -> Any:
    """Import an optional library; raise ImportError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        how = "pip install '.[data]' in a checkout of sfmts"
        raise ImportError(f"This needs the library {module!r}, which is missing: {how}") from error


def refuse_masked(name: str, values: Any) -> None:
    """Raise ValueError if an array has masked entries."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} has {np.ma.count_masked(values)} masked entries. Fill them, as in {name}.filled(0), or leave them "
            "out."
        )


def as_python_number(value: Any) -> Any:
    """Convert a NumPy scalar to a Python number, whose arithmetic does not overflow; return other values unchanged."""
    return value.item() if isinstance(value, np.generic) else value


def data_folder(data_home: str | os.PathLike[str] | None) -> Path:
    """Return the folder ``data_home``; None means scikit-learn's data folder, as in its fetch functions."""
    return as_path(get_data_home() if data_home is None else data_home, "data_home")


def fetch_file(
    remote: RemoteFile,
    data_home: str | os.PathLike[str] | None = None,
    *,
    folder: str,
    download_if_missing: bool = True,
    n_retries: int = 3,
    verbose: int = 0,
) -> Path:
    """Return the path of a verified file: the user's own copy, the cached one, or a new download, in this order.

    Parameters
    ----------
    remote : RemoteFile
        File to fetch.
    data_home : str, path-like or None, default=None
        A copy directly in this folder is the user's own, which is used and never changed. The cache is its subfolder
        ``folder``.
    folder : str
        Name of the cache within ``data_home``.
    download_if_missing : bool, default=True
        If False, nothing is downloaded.
    n_retries : int, default=3
        Number of retries after a failed download.
    verbose : int, default=0
        If positive, a progress bar is shown.

    Returns
    -------
    path : Path
        A file with the expected checksum.

    Raises
    ------
    ValueError
        If ``n_retries`` is negative.
    OSError
        If the file is missing and cannot or must not be downloaded, or if the user's copy has another checksum.
    """
    if n_retries < 0:
        raise ValueError(f"n_retries must be at least 0, but is {n_retries}.")
    home = data_folder(data_home)
    own, cached = home / remote.filename, home / folder / remote.filename
    if own.is_file():
        if (found := _sha256(own)) != remote.sha256:
            raise OSError(
                f"{own} has the sha256 {found}, but {remote.sha256} was expected. It may be an incomplete download or "
                f"another edition. Remove it, or download it again from {remote.url}."
            )
        return own
    if cached.is_file() and _sha256(cached) == remote.sha256:
        return cached
    if not download_if_missing:
        state = "is damaged" if cached.is_file() else "is missing"
        raise OSError(f"{cached} {state}, and download_if_missing is False. {_by_hand(remote)}")
    _download(remote, cached, n_retries, verbose)
    return cached


def _download(remote: RemoteFile, path: Path, n_retries: int, verbose: int) -> None:
    """Download to a temporary name, compare checksums and move the file into place, by means of pooch."""
    pooch = require("pooch")
    # a total of 0 would make the bar false, and pooch would ignore it; pooch sets the real total
    bar = tqdm(total=1, desc=remote.filename, unit="B", unit_scale=True, disable=not verbose)
    downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=30)
    store = pooch.create(
        path=path.parent,
        base_url="",
        registry={remote.filename: f"sha256:{remote.sha256}"},
        urls={remote.filename: remote.url},
        retry_if_failed=n_retries,
    )
    try:
        store.fetch(remote.filename, downloader=downloader)
    except ValueError as error:  # of pooch, for a wrong checksum
        raise OSError(
            f"The download from {remote.url} is not {remote.filename}: {error} "
            f"Nothing was kept. A proxy or a login page may have answered instead. {_by_hand(remote)}"
        ) from error
    except OSError as error:  # of the network, of requests or of the disk
        raise OSError(
            f"{remote.filename} could not be downloaded from {remote.url} to {path.parent}: {error}. "
            f"Nothing was kept. Try again later or with a network. {_by_hand(remote)}"
        ) from error
    finally:
        bar.close()
    with contextlib.suppress(OSError):  # another process may have replaced the file
        path.chmod(0o644)  # only their owner can read temporary files, but a cache may be shared


def _by_hand(remote: RemoteFile) -> str:
    """Return the advice to download a file by hand."""
    return (
        f"Or download {remote.filename} (sha256 {remote.sha256}) from {remote.url} into a folder, and pass "
        "data_home='that/folder'."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # no array is named like its keyword


def load_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return the arrays that `save_arrays` wrote, or None if the file is missing or damaged; never unpickle."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays.items())
    except Exception:  # damaged archives raise errors of many types
        return None
