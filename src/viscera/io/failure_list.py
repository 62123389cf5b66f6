"""failures.csv: which cases of a batch failed and which files were passed over, and why."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from viscera.errors import BatchError, OutputError, VisceraError, Wording, option, python_wording
from viscera.io.read import path_exists
from viscera.runtime.atomic_files import not_writable, write_text
from viscera.runtime.small_files import read_file_bytes

_COLUMNS = ("file", "exit_code", "expected", "found", "remedy")
_MOST_BYTES = 1 << 30
_HEADER = ",".join(_COLUMNS).encode()


class FailureList:
    """The failures of one batch. Names files, never their folders above what was asked for."""

    def __init__(self, path: Path, wording: Wording = python_wording) -> None:
        """Make sure that the list may be written.

        Args:
            path: of the list.
            wording: how options are spelled in it.

        Raises:
            OutputError: a file of that name exists and is not such a list.
        """
        self.path = path
        self._wording = wording
        self._rows: list[tuple[str, int | str, str, str, str]] = []
        self._failed = 0
        if path_exists(path) and not _is_failure_list(path):
            raise OutputError(
                "a place for the list of failures",
                found="a file that viscera did not write",
                remedy=f"rename it, or choose another {option('output')}",
                where=path,
            )

    def add(self, file: str, error: VisceraError) -> None:
        """Note a case that failed.

        Args:
            file: its name.
            error: why.
        """
        parts = (self._wording(text) for text in (error.expected, error.found, error.remedy))
        expected, found, remedy = parts
        self._failed += 1
        self._rows.append((file, error.exit_code, expected, found, remedy))

    def add_passed_over(self, file: str, reason: str) -> None:
        """Note a file that is no case; it has no exit code.

        Args:
            file: its name.
            reason: why.
        """
        self._rows.append((file, "", "a scan", f"{reason}: passed over", ""))

    def write(self) -> None:
        """Write the list, or remove that of an earlier run where there is nothing to say.

        Raises:
            OutputError: not writable.
        """
        if not self._rows:
            try:
                self.path.unlink(missing_ok=True)
            except OSError as error:
                raise not_writable(self.path, error) from error
            return
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *self._rows])
        write_text(self.path, text.getvalue(), overwrite=True)

    def error(self, cases: int) -> BatchError | None:
        """What a command ends in: None where nothing failed.

        Args:
            cases: how many there were.
        """
        return batch_error(self._failed, cases, self.path)


def _is_failure_list(path: Path) -> bool:
    """Whether this is a list that viscera wrote."""
    try:
        return read_file_bytes(path, most_bytes=_MOST_BYTES).startswith(_HEADER)
    except (OSError, ValueError):
        return False


def batch_error(failed: int, cases: int, list_path: Path) -> BatchError | None:
    """The error of a batch of which some cases failed; None where none did.

    Args:
        failed: how many.
        cases: of how many.
        list_path: of the list of failures.
    """
    if not failed:
        return None
    return BatchError(
        f"all {cases} cases to succeed",
        found=f"{failed} that failed",
        remedy=f"see {list_path}, correct what it names, and run again",
    )
