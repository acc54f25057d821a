"""Write files atomically."""

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OURS = re.compile(r"\.[0-9a-f]{32}\.part")
_A_DAY = 24 * 60 * 60.0


def as_path(value: str | os.PathLike[str], name: str = "path") -> Path:
    """Return a path, with ~ expanded; raise TypeError if ``value`` is none."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a str or a Path, not a {type(value).__name__}.")
    return Path(value).expanduser()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; replace ``path`` atomically on success, leave it untouched on error.

    The content is flushed to disk before the file is renamed, so that a system crash leaves either the old or the new
    file. A symbolic link keeps its target, and an existing file keeps its mode. Temporary files of killed processes in
    the same folder are removed when they are more than a day old.

    Raises
    ------
    FileNotFoundError
        If the folder of ``path`` does not exist.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(path.parent)!r} does not exist. Create it before saving.")
    _remove_leftovers(path.parent)
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        if path.is_file():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove old temporary files of :func:`replacing`; keep those that another process may still write."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _OURS.fullmatch(entry.name):
                with contextlib.suppress(OSError):  # another process may have removed it
                    if entry.is_file(follow_symlinks=False) and time.time() - entry.stat().st_mtime > _A_DAY:
                        os.unlink(entry.path)


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, if the platform and the file system support it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
