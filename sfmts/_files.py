"""Files that are written whole or not at all."""

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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; replace ``path`` atomically on success, leave it untouched on error.

    The content is on the disk before the file has its name, so that a crash of the system leaves the old file or the
    new one. A link still points where it did, and an older file keeps its mode. Temporary files that a killed process
    left in the same folder are removed when they are more than a day old.

    Raises
    ------
    FileNotFoundError
        If there is no folder for it.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to save into; make it first.")
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
    """Remove old temporary files of :func:`replacing`; keep those that may still be written."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _OURS.fullmatch(entry.name):
                with contextlib.suppress(OSError):  # another process may have removed it
                    if entry.is_file(follow_symlinks=False) and time.time() - entry.stat().st_mtime > _A_DAY:
                        os.unlink(entry.path)


def _sync_folder(folder: Path) -> None:
    """Write a folder's new names to the disk; not all platforms and file systems can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
