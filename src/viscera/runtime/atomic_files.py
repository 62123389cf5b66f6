"""Files appear under their final name whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from viscera.errors import OutputError, option
from viscera.runtime.processes import process_is_alive, this_machine

_PREFIX, _SUFFIX = ".viscera-", ".part"
# On Windows a file cannot be replaced while anybody reads it; virus scanners and indexers do for a
# moment.
_IS_WINDOWS = os.name == "nt"
_WAITS_S = (0.05, 0.1, 0.2, 0.4, 0.8)
_OLDEST_S = 24 * 3600.0  # what is older was left by a process of another machine
# What this process has begun and not finished. A signal may raise at the first step of the very
# function that would remove it.
_UNFINISHED: set[Path] = set()


def check_absent(path: Path, *, overwrite: bool) -> None:
    """Make sure that writing this path loses nothing.

    Args:
        path: the file that will be written.
        overwrite: an existing file may be replaced.

    Raises:
        OutputError: it exists already, or nothing can have this name.
    """
    try:
        with suppress(FileNotFoundError):
            path.lstat()  # a name that is too long, or below a file, shows here
        if path.is_dir():
            raise not_writable(path, IsADirectoryError(0, "a folder"))
        if path.exists() and not overwrite:
            raise OutputError(
                "a new output",
                found="an existing file",
                remedy=f"pass {option('overwrite')} or choose another name",
                where=path,
            )
    except (OSError, ValueError) as error:
        raise not_writable(path, error) from error


def check_writable(path: Path) -> None:
    """Make the folder, and prove before any work is done that a file can be written there.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        remove_abandoned_parts(path.parent)
    except (OSError, ValueError) as error:
        raise not_writable(path, error) from error


@contextmanager
def atomic_write(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """A temporary file beside `path` that takes its name when the block ends well.

    Args:
        path: the file that will be written.
        overwrite: replace an existing file.

    Raises:
        OutputError: not writable, disk full, or `path` exists and must not be overwritten.
    """
    check_absent(path, overwrite=overwrite)
    check_writable(path)
    temporary = part_path(path.parent)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        take_name(temporary, path)
    except OSError as error:
        raise not_writable(path, error) from error
    finally:
        remove_part(temporary)


def take_name(temporary: Path, path: Path) -> None:
    """Give a finished file or folder its name; what is there is replaced, but for folders.

    Args:
        temporary: under another name.
        path: the name.

    Raises:
        OSError: it cannot be; on Windows after a while only.
    """
    for wait_s in _WAITS_S if _IS_WINDOWS else ():
        try:
            temporary.replace(path)
        except PermissionError:
            time.sleep(wait_s)
        else:
            return
    temporary.replace(path)


def part_path(folder: Path) -> Path:
    """A new hidden name for what is not finished yet, with the process that works on it.

    It is short whatever the final name is, so that a long one does not outgrow the limit.

    Args:
        folder: where the finished files go.
    """
    name = f"{_PREFIX}{_machine_key()}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
    _UNFINISHED.add(folder / name)
    return folder / name


def remove_part(path: Path) -> None:
    """Remove what `part_path` named, a file or a folder, if it has not got its final name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    _UNFINISHED.discard(path)


def remove_unfinished_parts() -> None:
    """Remove all that this process has begun and not finished; for one that is about to end."""
    for path in tuple(_UNFINISHED):
        remove_part(path)


def remove_abandoned_parts(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder.

    Args:
        folder: where they wrote.
    """
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError, ValueError):
            machine, pid = path.name[len(_PREFIX) : -len(_SUFFIX)].split("-")[:2]
            is_gone = machine == _machine_key() and not process_is_alive(this_machine(), int(pid))
            if not is_gone and time.time() - path.stat().st_mtime < _OLDEST_S:
                continue
            remove_part(path)


@cache
def _machine_key() -> str:
    return hashlib.sha256(this_machine().encode()).hexdigest()[:8]


def write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write UTF-8 text atomically.

    Args:
        path: the file.
        text: all of it.
        overwrite: replace an existing file.

    Raises:
        OutputError: see `atomic_write`.
    """
    with atomic_write(path, overwrite=overwrite) as file:
        # Names of files need not be UTF-8; what is written is: other bytes become escapes.
        file.write(text.encode("utf-8", "backslashreplace"))


def not_writable(path: Path, error: OSError | ValueError) -> OutputError:
    """The error of a file that cannot be written.

    Args:
        path: the file.
        error: of the system.
    """
    return OutputError(
        "a writable output",
        found=getattr(error, "strerror", None) or str(error),
        remedy="choose another place, or free some space",
        where=path,
    )
