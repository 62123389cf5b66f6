"""The folder in which a server keeps uploads and results, gone when the server is."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_PREFIX = "viscera-serve-"
_LOCK = "lock"
_YOUNG_S = 60.0  # a folder without a lock may be that of a server that just begins


@contextmanager
def work_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder for one server; folders of servers that have died are removed first.

    A server holds a lock on a file in its folder, which the system releases when it dies.

    Args:
        parent: where it is made; the system's folder for temporary files where not given.
    """
    place = Path(parent or tempfile.gettempdir())
    sweep_dead(place)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))  # readable by its owner alone
    with (folder / _LOCK).open("w") as lock:
        _acquire(lock)
        try:
            yield folder
        finally:
            lock.close()
            shutil.rmtree(folder, ignore_errors=True)


def sweep_dead(place: Path) -> list[Path]:
    """Remove what servers of this user have left behind that no longer run; what was removed.

    Args:
        place: the folder that holds theirs.
    """
    removed = []
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            is_ours = not folder.is_symlink() and folder.is_dir() and _is_mine(folder)
            if is_ours and not _is_alive(folder):
                shutil.rmtree(folder)
                removed.append(folder)
    return removed


def _is_mine(folder: Path) -> bool:
    return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()


def _is_alive(folder: Path) -> bool:
    """Whether the server that made a folder still holds its lock, or has only begun."""
    try:
        with (folder / _LOCK).open("r+") as lock:
            _acquire(lock)
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime < _YOUNG_S
    except OSError:  # somebody holds it
        return True
    return False


def _acquire(file: IO[str]) -> None:
    """Lock a file until it is closed.

    Raises:
        OSError: somebody else holds it.
    """
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
