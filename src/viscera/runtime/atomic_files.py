"""Files appear under their final name whole, or not at all."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from viscera.errors import OutputError, option


def check_absent(path: Path, *, overwrite: bool) -> None:
    """Make sure that writing this path loses nothing.

    Args:
        path: the file that will be written.
        overwrite: an existing file may be replaced.

    Raises:
        OutputError: it exists already.
    """
    try:
        if path.is_dir():
            raise _not_writable(path, "a folder")
        if path.exists() and not overwrite:
            raise OutputError(
                "a new output",
                found="an existing file",
                remedy=f"pass {option('overwrite')} or choose another name",
                where=path,
            )
    except (OSError, ValueError) as error:
        raise _not_writable(path, getattr(error, "strerror", None) or str(error)) from error


def check_writable(path: Path) -> None:
    """Make the folder, and prove before any work is done that a file can be written there.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError) as error:
        raise _not_writable(path, getattr(error, "strerror", None) or str(error)) from error


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
    # The name is short whatever the target's is, so that a long one does not outgrow the limit.
    temporary = path.parent / f".viscera-{secrets.token_hex(6)}.part"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _not_writable(path, error.strerror or str(error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


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


def _not_writable(path: Path, reason: str) -> OutputError:
    return OutputError(
        "a writable output",
        found=reason,
        remedy="choose another place, or free some space",
        where=path,
    )
