"""The folder in which a server keeps uploads and results, gone when the server is."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_PREFIX = "viscera-serve-"
_OWNER = "owner.json"


@contextmanager
def work_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder for one server; folders of servers that have died are removed first.

    Args:
        parent: where it is made; the system's folder for temporary files where not given.
    """
    place = Path(parent or tempfile.gettempdir())
    sweep_dead(place)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))  # readable by its owner alone
    owner = {"pid": os.getpid(), "started": psutil.Process().create_time()}
    (folder / _OWNER).write_text(json.dumps(owner), encoding="utf-8")
    try:
        yield folder
    finally:
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
    """Whether the process that made a folder still runs; a number may belong to another now."""
    try:
        owner = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
        process = psutil.Process(int(owner["pid"]))
        return abs(process.create_time() - float(owner["started"])) < 1
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return False
