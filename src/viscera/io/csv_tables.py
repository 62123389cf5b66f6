"""CSV files that users bring: comma, semicolon or tab, with or without a byte order mark."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from viscera.errors import InputError
from viscera.runtime.small_files import read_text_file


def read_csv(path: Path, *, needs: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows by the names of the header, white space stripped.

    Args:
        path: the file.
        needs: columns that must be there.

    Raises:
        InputError: unreadable, no header, or a column is missing.
    """
    try:
        lines = read_text_file(path).splitlines()
        header = lines[0] if lines else ""
        delimiter = max(",;\t", key=header.count)
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        rows = [
            {name: (row.get(name) or "").strip() for name in names}
            for row in csv.DictReader(lines[1:], fieldnames=names, delimiter=delimiter)
        ]
    except (OSError, ValueError, csv.Error) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise InputError(
            "a CSV file", found=problem, remedy="check the path", where=path
        ) from error
    if lacking := [name for name in needs if name not in names]:
        raise InputError(
            f"a column {lacking[0]!r} in the CSV's first line",
            found=", ".join(names) or "an empty file",
            remedy="add it",
            where=path,
        )
    return rows
