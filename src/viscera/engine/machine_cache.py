"""Compiled networks, kept in the user's cache folder so that the next process starts faster.

It holds nothing of a scan. ``VISCERA_CACHE`` names another folder, or ``off``. A compiled network
is code: only a folder of the user's own that nobody else can write is used, and what is read is
checked. Where there is no such folder, everything works, a little slower.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs

from viscera.errors import OutputError
from viscera.runtime.atomic_files import atomic_write

_KEPT = 24  # networks of 1 to 3 MB each: windows have many shapes
_SUFFIX = ".network"
_MOST_BYTES = 256_000_000  # no compiled network is larger


def cache_folder() -> Path | None:
    """The folder, made if need be; None where there is none that is safe and can be written."""
    setting = os.environ.get("VISCERA_CACHE", "")
    if setting == "off":
        return None
    try:
        folder = Path(setting) if setting else _user_cache_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_private(folder):
            return None
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:  # read-only, or no home at all
        return None


def read_network(key: str) -> bytes | None:
    """A compiled network, if it is there and its checksum is right.

    Args:
        key: names the network and all that its compilation depends on.
    """
    if (folder := cache_folder()) is None:
        return None
    path = _network_path(folder, key)
    with suppress(OSError):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        content = path.read_bytes()
        network = content[32:]
        if content[:32] == _checksum(key, network):
            return network
    return None


def store_network(key: str, network: bytes) -> None:
    """Keep a compiled network, if the cache can be written; the oldest ones make room.

    Args:
        key: names the network and all that its compilation depends on.
        network: as the engine exports it.
    """
    if (folder := cache_folder()) is None:
        return
    with (
        suppress(OutputError),
        atomic_write(_network_path(folder, key), overwrite=True) as file,
    ):
        file.write(_checksum(key, network) + network)
    _remove_oldest(folder)


def _remove_oldest(folder: Path) -> None:
    """Remove all but the newest networks; other files stay."""

    def age(path: Path) -> float:
        with suppress(OSError):
            return path.lstat().st_mtime
        return 0.0

    with suppress(OSError):
        networks = sorted(folder.glob(f"*{_SUFFIX}"), key=age)
        for path in networks[:-_KEPT]:
            with suppress(OSError):
                path.unlink()


def _network_path(folder: Path, key: str) -> Path:
    return folder / (hashlib.sha256(key.encode()).hexdigest()[:32] + _SUFFIX)


def _checksum(key: str, network: bytes) -> bytes:
    """Of the key too, so that a network under another's name is not taken."""
    return hashlib.sha256(key.encode() + b"\0" + network).digest()


def _is_private(folder: Path) -> bool:
    """Whether this is a real folder of the user's own that nobody else can write."""
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode):
        return False
    if not hasattr(os, "getuid"):  # Windows keeps a user's own folder to the user, and no other
        return folder == _user_cache_folder()
    return state.st_uid == os.getuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _user_cache_folder() -> Path:
    """Where this system keeps what can be made again.

    Raises:
        OSError: the user has no home.
    """
    folder = platformdirs.user_cache_path("viscera", appauthor=False)
    if not folder.is_absolute():
        raise OSError("no home folder")
    return folder
