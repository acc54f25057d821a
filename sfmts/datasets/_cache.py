"""What the data sets share: optional libraries, files fetched and checked, arrays kept on disk."""

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

from sfmts._files import replacing


class RemoteFile(NamedTuple):
    """A file of the network whose bytes are known beforehand."""

    filename: str
    url: str
    sha256: str


def require(module: str) -> Any:
    """Import an optional library, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        how = "pip install '.[data]' in a checkout of sfmts"
        raise ImportError(f"This needs the library {module!r}, which is missing: {how}") from error


def refuse_masked(name: str, values: Any) -> None:
    """Raise ValueError if entries of a masked array are masked: they have no value."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} has {np.ma.count_masked(values)} masked entries, which have no value; fill them, as in "
            f"{name}.filled(0), or leave them out."
        )


def as_python_number(value: Any) -> Any:
    """Return NumPy scalars as Python's numbers, whose arithmetic does not overflow; other values are returned as is."""
    return value.item() if isinstance(value, np.generic) else value


def data_folder(data_home: str | os.PathLike[str] | None) -> Path:
    """The folder that ``data_home`` names; None takes scikit-learn's own, as its fetch functions do."""
    return Path(get_data_home() if data_home is None else data_home).expanduser()


def fetch_file(
    remote: RemoteFile,
    data_home: str | os.PathLike[str] | None = None,
    *,
    folder: str,
    download_if_missing: bool = True,
    n_retries: int = 3,
    verbose: int = 0,
) -> Path:
    """Path of a file that has the right bytes: the user's own copy, the cache's, or a new download, in this order.

    Parameters
    ----------
    remote : RemoteFile
        What to fetch.
    data_home : str, path-like or None, default=None
        A copy that lies directly in this folder is the user's own: it is used, and never changed.  The cache is
        the subfolder ``folder``.
    folder : str
        The cache's name within ``data_home``.
    download_if_missing : bool, default=True
        If False, nothing is ever downloaded.
    n_retries : int, default=3
        Further tries after a download that failed.
    verbose : int, default=0
        If positive, a progress bar is shown.

    Returns
    -------
    path : Path
        The bytes there have the checksum asked for.

    Raises
    ------
    ValueError
        If ``n_retries`` is negative.
    OSError
        If the file is not there and cannot be downloaded, or must not be, or if a copy has other bytes.
    """
    if n_retries < 0:
        raise ValueError(f"n_retries must be at least 0, not {n_retries}.")
    home = data_folder(data_home)
    own, cached = home / remote.filename, home / folder / remote.filename
    if own.is_file():
        if (found := _sha256(own)) != remote.sha256:
            raise OSError(
                f"{own} is not the file that was expected: its sha256 is {found}, not {remote.sha256}. "
                f"It may be half a download or another edition; remove it, or get it anew from {remote.url}."
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
    """Let pooch download to a temporary name, compare checksums and move the file to where it belongs."""
    pooch = require("pooch")
    # the total of 1 makes the bar true, or pooch would not use it; pooch sets the real one
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
    except ValueError as error:  # pooch's answer to a wrong checksum
        raise OSError(
            f"What came from {remote.url} is not {remote.filename}: {error} "
            f"Nothing was kept. A proxy or a login page may have answered in its place. {_by_hand(remote)}"
        ) from error
    except OSError as error:  # those of the network, of requests and of the disk
        raise OSError(
            f"{remote.filename} could not be downloaded from {remote.url} to {path.parent}: {error}. "
            f"Nothing was kept. Try again later or with a network. {_by_hand(remote)}"
        ) from error
    finally:
        bar.close()
    with contextlib.suppress(OSError):  # another process may have put its own copy here
        path.chmod(0o644)  # temporary files are for their owner's eyes only; a cache may be shared


def _by_hand(remote: RemoteFile) -> str:
    return (
        f"Or put {remote.filename} (sha256 {remote.sha256}), from {remote.url}, into a folder of your own "
        "and pass data_home=that folder."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to a temporary name and move the file into place: readers see a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its own keyword is not among the names


def load_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """Arrays that `save_arrays` wrote, or None if there is no such file or it is damaged.  Never unpickles."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays.items())
    except Exception:  # damaged archives let errors of many kinds through
        return None
