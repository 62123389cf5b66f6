"""What engines need to find out once a machine: kept in the user's cache folder.

It holds compiled networks and measured speeds, nothing of a scan. ``VISCERA_CACHE`` names another
folder, or ``off``. Where it cannot be written, everything works, a little slower.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from viscera.errors import OutputError
from viscera.io.atomic import write_text


def cache_folder() -> Path | None:
    """The folder, made if need be; None where there is none that can be written."""
    named = os.environ.get("VISCERA_CACHE", "")
    if named == "off":
        return None
    try:
        folder = Path(named) if named else _users() / "viscera"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # read-only, or no home at all
        return None


def forget_old(folder: Path, *, most: int) -> None:
    """Remove all but the newest files of a folder in the cache; what is in use stays."""

    def age(path: Path) -> float:
        with suppress(OSError):
            return path.stat().st_mtime
        return 0.0

    with suppress(OSError):
        for path in sorted(folder.iterdir(), key=age)[:-most]:
            with suppress(OSError):
                path.unlink()


def recall(key: str) -> str | None:
    """What was kept under this name."""
    folder = cache_folder()
    return _known(folder).get(key) if folder else None


def remember(key: str, value: str) -> None:
    """Keep a fact, if there is a place for it."""
    if folder := cache_folder():
        with suppress(OutputError):
            text = json.dumps(_known(folder) | {key: value}, indent=1)
            write_text(folder / "measured.json", text, overwrite=True)


def _known(folder: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        known = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return {str(key): str(value) for key, value in known.items()}
    return {}


def _users() -> Path:
    """Where this system keeps what can be made again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
