"""What was done with each series, so that a second run does nothing twice."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from viscera.errors import InputError
from viscera.runtime.atomic_files import write_text
from viscera.runtime.small_files import read_json_file

State = Literal["segmented", "sent", "failed"]
STATES: tuple[State, ...] = ("segmented", "sent", "failed")


@dataclass(frozen=True)
class LedgerEntry:
    """What was done with a series.

    Attributes:
        state: how far it went.
        images: of which it was done; a series that has grown since is another.
        error: why it failed.
    """

    state: State
    images: int
    error: str = ""


class Ledger:
    """A file of entries, one a series. It holds UIDs and nothing else about patients.

    Safe among threads. Of several processes each series belongs to one, by its lease; each writes
    an entry upon what the file then holds.
    """

    def __init__(self, path: Path) -> None:
        """Read what there is.

        Args:
            path: of the file, made when there is something to note.

        Raises:
            InputError: it is no such file.
        """
        self._path, self._lock = path, threading.Lock()
        self._entries = self._read()

    def get(self, uid: str) -> LedgerEntry | None:
        """The entry of a series.

        Args:
            uid: Series Instance UID.
        """
        with self._lock:
            return self._entries.get(uid)

    def is_sent(self, uid: str, images: int) -> bool:
        """Whether all was done with a series of so many images.

        Args:
            uid: Series Instance UID.
            images: that it has now.
        """
        entry = self.get(uid)
        return entry is not None and entry.state == "sent" and entry.images == images

    def note(self, uid: str, entry: LedgerEntry) -> None:
        """Write an entry.

        Args:
            uid: Series Instance UID.
            entry: of the series.

        Raises:
            OutputError: not writable.
        """
        with self._lock:
            self._entries = {**self._read(), uid: entry}
            table = {uid: asdict(entry) for uid, entry in self._entries.items()}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, json.dumps(table, indent=1) + "\n", overwrite=True)

    def note_sent(self, uid: str) -> None:
        """Note that the results of a series were taken by the other side.

        Args:
            uid: Series Instance UID, which has an entry.

        Raises:
            OutputError: not writable.
        """
        self.note(uid, replace(self._entries[uid], state="sent"))

    def waiting(self) -> list[str]:
        """Series that were segmented and not sent."""
        with self._lock:
            return [uid for uid, entry in self._entries.items() if entry.state == "segmented"]

    def _read(self) -> dict[str, LedgerEntry]:
        if not self._path.exists():
            return {}
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            entries = {
                uid: LedgerEntry(table["state"], int(table["images"]), str(table["error"]))
                for uid, table in read_json_file(self._path).items()
            }
            if all(entry.state in STATES for entry in entries.values()):
                return entries
        raise InputError(
            "the list of series that viscera keeps", found="another file",
            remedy="remove it, and what was done will be done again", where=self._path,
        )  # fmt: skip
