"""Paths as users give them."""

from __future__ import annotations

from pathlib import Path

from viscera.errors import UsageError


def checked_path(path: str | Path) -> Path:
    """The path; an empty one is refused, because it would mean the current folder.

    Raises:
        UsageError: it is empty.
    """
    if not str(path):
        raise UsageError("the path of a file or folder", found="an empty path", remedy="name one")
    return Path(path)
