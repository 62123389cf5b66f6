"""Leases: which of several workers does a piece of work in a folder that they share.

A lease is a small file that names its holder. The holder touches it while it lives; the lease of a
process that died, or that has not touched its own for a while, is taken over. Nothing but the
folder is needed: no server, and no clock that two machines would have to share.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path

from viscera.runtime.atomic_files import not_writable
from viscera.runtime.processes import process_is_alive, this_machine

_TOUCHED_EVERY_S = 10.0
_WRITTEN_AFTER_S = 3.0
EXPIRES_AFTER_S = 60.0  # without a touch


class Lease:
    """The right to do a piece of work; a context that ends with it.

    Attributes:
        path: its file.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self._content = content
        self._ended = threading.Event()
        self._toucher = threading.Thread(target=self._touch, daemon=True)
        self._toucher.start()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._toucher.join()
        if self.is_held:
            with suppress(OSError):
                self.path.unlink()

    @property
    def is_held(self) -> bool:
        """Whether nobody has taken it over, as happens to a process that was stopped for long."""
        for _ in range(3):  # a shared folder may fail to answer once
            try:
                return self.path.read_bytes() == self._content
            except FileNotFoundError:
                return False
            except OSError:
                time.sleep(0.1)
        return False

    def _touch(self) -> None:
        while not self._ended.wait(_TOUCHED_EVERY_S):
            if self.is_held:
                with suppress(OSError):
                    os.utime(self.path)


class LeaseFolder:
    """The leases of one folder."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Args:
            folder: shared by all workers.

        Raises:
            OutputError: it cannot be made.
        """
        self._folder = folder
        # Of leases that others hold: when each was last touched, and when that was first seen.
        self._touches: dict[str, tuple[int, float]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_writable(folder, error) from error

    def take(self, name: str) -> Lease | None:
        """The lease of a piece of work; None while another worker holds it.

        Args:
            name: of the work, usable as a file's name.

        Raises:
            OutputError: the folder is not writable.
        """
        path = self._folder / f"{name}.lease"
        holder = {"machine": this_machine(), "pid": os.getpid(), "token": secrets.token_hex(8)}
        content = json.dumps(holder).encode()
        try:
            if os.path.lexists(path) and not self._remove_if_abandoned(path, name):
                return None
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return None
        except PermissionError as error:
            if os.name == "nt":  # another worker is reading or removing it
                return None
            raise not_writable(path, error) from error
        except OSError as error:
            raise not_writable(path, error) from error
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise not_writable(path, error) from error
        return Lease(path, content)

    def _remove_if_abandoned(self, path: Path, name: str) -> bool:
        """Whether nobody holds it any more; it is gone then.

        Of several workers that find it abandoned one moves it away. Should it have moved the new
        lease of another, that one is put back.
        """
        try:
            content = path.read_bytes() if path.is_file() else b""
            if not self._is_abandoned(path, name):
                return False
        except FileNotFoundError:  # released meanwhile
            return True
        away = path.with_name(f".{secrets.token_hex(8)}.gone")
        try:
            path.rename(away)
        except FileNotFoundError:
            return True
        is_same = not away.is_file() or away.read_bytes() == content
        if not is_same:
            with suppress(OSError):
                os.link(away, path)  # fails where there is one already
        away.unlink(missing_ok=True)
        return is_same

    def _is_abandoned(self, path: Path, name: str) -> bool:
        """Whether its holder died, or has not touched it for long by this process's own clock.

        Raises:
            OSError: it is no file that can be read.
        """
        try:
            touched, content = path.stat().st_mtime_ns, path.read_bytes()
        except FileNotFoundError:
            return path.is_symlink()  # to nothing; else it was released meanwhile
        with suppress(ValueError, KeyError, TypeError):
            holder = json.loads(content)
            if not process_is_alive(str(holder["machine"]), int(holder["pid"])):
                return True
        seen_touch, since_s = self._touches.get(name, (None, 0.0))
        if touched != seen_touch:
            self._touches[name] = (touched, time.monotonic())
            return False
        # An empty one belongs to somebody who died, or whose disk was full, while writing it.
        patience_s = EXPIRES_AFTER_S if content else _WRITTEN_AFTER_S
        return time.monotonic() - since_s > patience_s
