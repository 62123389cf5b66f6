"""What was done with each series, so that a second run does nothing twice."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from viscera.errors import InputError, VisceraError
from viscera.runtime.atomic_files import not_writable, write_text
from viscera.runtime.small_files import read_json_file

State = Literal["segmented", "sent", "failed"]
STATES: tuple[State, ...] = ("segmented", "sent", "failed")


@dataclass(frozen=True)
class LedgerEntry:
    """What was done with a series.

    Attributes:
        state: how far it went.
        images: of which it was done; a series that has more or fewer now is another.
        exit_code: of the error why it failed.
        expected: part of that error.
        found: likewise.
        remedy: likewise.
    """

    state: State
    images: int
    exit_code: int = 0
    expected: str = ""
    found: str = ""
    remedy: str = ""

    @classmethod
    def of_failure(cls, images: int, error: VisceraError) -> LedgerEntry:
        """The entry of a series that failed.

        Args:
            images: that it has.
            error: why.
        """
        return cls("failed", images, error.exit_code, error.expected, error.found, error.remedy)

    def error(self) -> VisceraError:
        """Why it failed."""
        error = VisceraError(self.expected, found=self.found, remedy=self.remedy)
        error.exit_code = self.exit_code
        return error


class Ledger:
    """A folder with a file a series. It holds UIDs and nothing else about patients.

    Each file is written whole, by whoever has the lease of the series, and read anew each time.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Args:
            folder: of the files.

        Raises:
            OutputError: it cannot be made.
        """
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_writable(folder, error) from error

    def get(self, uid: str) -> LedgerEntry | None:
        """The entry of a series.

        Args:
            uid: Series Instance UID.

        Raises:
            InputError: its file is another.
        """
        path = self._folder / f"{uid}.json"
        if not path.exists():
            return None
        with suppress(OSError, ValueError, TypeError):
            entry = LedgerEntry(**read_json_file(path))
            if entry.state in STATES and type(entry.images) is int:
                return entry
        raise InputError(
            "a note of viscera's on a series",
            found="another file",
            remedy="remove it, and what was done will be done again",
            where=path,
        )

    def note(self, uid: str, entry: LedgerEntry) -> None:
        """Write an entry.

        Args:
            uid: Series Instance UID.
            entry: of the series.

        Raises:
            OutputError: not writable.
        """
        text = json.dumps(asdict(entry), indent=1) + "\n"
        write_text(self._folder / f"{uid}.json", text, overwrite=True)

    def note_sent(self, uid: str) -> None:
        """Note that the results of a series were taken by the other side.

        Args:
            uid: Series Instance UID, which has an entry.

        Raises:
            OutputError: not writable.
        """
        entry = self.get(uid)
        assert entry is not None
        self.note(uid, replace(entry, state="sent"))

    def of_state(self, state: State) -> dict[str, LedgerEntry]:
        """The series in a state.

        Args:
            state: that is asked for.

        Raises:
            InputError: a file is another.
        """
        uids = sorted(path.stem for path in self._folder.glob("[0-9]*.json"))
        entries = {uid: self.get(uid) for uid in uids}
        return {uid: entry for uid, entry in entries.items() if entry and entry.state == state}
