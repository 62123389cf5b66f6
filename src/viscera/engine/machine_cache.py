"""What engines need to find out once a machine: kept in the user's cache folder.

It holds compiled networks and measured speeds, nothing of a scan. ``VISCERA_CACHE`` names another
folder, or ``off``. Where it cannot be written, everything works, a little slower.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs

from viscera.errors import OutputError
from viscera.runtime.atomic_files import write_text


def cache_folder() -> Path | None:
    """The folder, made if need be; None where there is none that can be written."""
    setting = os.environ.get("VISCERA_CACHE", "")
    if setting == "off":
        return None
    try:
        folder = Path(setting) if setting else _user_cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:  # read-only, or no home at all
        return None


def remove_oldest(folder: Path, *, most: int) -> None:
    """Remove all but the newest files of a folder in the cache; files in use stay.

    Args:
        folder: the folder.
        most: how many files may stay.
    """

    def age(path: Path) -> float:
        with suppress(OSError):
            return path.stat().st_mtime
        return 0.0

    with suppress(OSError):
        for path in sorted(folder.iterdir(), key=age)[:-most]:
            with suppress(OSError):
                path.unlink()


def read_fact(key: str) -> str | None:
    """What was kept under this name."""
    folder = cache_folder()
    return _facts(folder).get(key) if folder else None


def store_fact(key: str, value: str) -> None:
    """Keep a measured fact about this machine, if the cache can be written.

    Args:
        key: what was measured, with the versions it depends on.
        value: what came out.
    """
    if folder := cache_folder():
        with suppress(OutputError):
            text = json.dumps(_facts(folder) | {key: value}, indent=1)
            write_text(folder / "measured.json", text, overwrite=True)


def _facts(folder: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        facts = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
        if isinstance(facts, dict):
            return {str(key): str(value) for key, value in facts.items()}
    return {}


def _user_cache_folder() -> Path:
    """Where this system keeps what can be made again.

    Raises:
        OSError: the user has no home.
    """
    folder = platformdirs.user_cache_path("viscera", appauthor=False)
    if not folder.is_absolute():
        raise OSError("no home folder")
    return folder
