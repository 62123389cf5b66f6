"""failures.csv: which cases of a batch failed, and why."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from viscera.errors import BatchError, OutputError, VisceraError
from viscera.io.atomic import write_text

_COLUMNS = ("file", "exit_code", "expected", "found", "remedy")
_HEADER = ",".join(_COLUMNS).encode()


class Failures:
    """The failures of one batch. Names files, never their folders."""

    def __init__(self, path: Path) -> None:
        """Make sure that the list may be written.

        Raises:
            OutputError: a file of that name stands there and is not ours.
        """
        self.path = path
        self._rows: list[tuple[str, int, str, str, str]] = []
        if path.exists() and not (path.is_file() and path.read_bytes().startswith(_HEADER)):
            raise OutputError(
                "a place for the list of failures",
                found="a file that viscera did not write",
                remedy="rename it, or choose another -o",
                where=path,
            )

    def note(self, file: str, error: VisceraError) -> None:
        """One case failed."""
        self._rows.append((file, error.exit_code, error.expected, error.found, error.remedy))

    def conclude(self, cases: int) -> None:
        """Write the list, or remove that of an earlier run where nothing failed.

        Raises:
            BatchError: some cases failed.
        """
        if not self._rows:
            self.path.unlink(missing_ok=True)
            return
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *self._rows])
        write_text(self.path, text.getvalue(), overwrite=True)
        raise BatchError(
            f"all {cases} cases to succeed",
            found=f"{len(self._rows)} that failed",
            remedy=f"see {self.path}, mend what it names, and run again",
        )
