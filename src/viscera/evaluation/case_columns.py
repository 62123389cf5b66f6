"""What users say about cases in CSV files: the group of each, the seconds it took."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

from viscera.errors import InputError, option
from viscera.io.csv_tables import read_csv


def read_groups(path: Path, column: str | None) -> dict[str, str]:
    """Case to group.

    Args:
        path: a CSV with a column ``case`` and at least one other.
        column: which names the group; the only other one where None.

    Raises:
        InputError: no such column, or several to choose from.
    """
    rows = read_csv(path, needs=("case", *([column] if column else [])))
    if column is None:
        columns = [name for name in (rows[0] if rows else {}) if name != "case"]
        if len(columns) != 1:
            raise InputError(
                "one column beside 'case'",
                found=", ".join(columns) or "none",
                remedy=f"choose one with {option('by')}",
                where=path,
            )
        column = columns[0]
    return {row["case"].removesuffix("_0000"): row[column] for row in rows}


def read_seconds(path: Path) -> dict[str, float]:
    """Case to seconds, a mean where a case was run several times.

    Args:
        path: the runs.csv of one command of `viscera bench`, or any CSV with the columns case and
            seconds.

    Raises:
        InputError: no such columns, no number, or the runs of several commands.
    """
    seconds: dict[str, list[float]] = {}
    rows = [row for row in read_csv(path, needs=("case", "seconds")) if not row.get("problem")]
    commands = sorted({row["command"] for row in rows if "command" in row})
    if len(commands) > 1:
        raise InputError(
            "the runs of one command",
            found=", ".join(commands),
            remedy="keep the rows of one",
            where=path,
        )
    for row in rows:
        try:
            value = float(row["seconds"])
        except ValueError:
            value = math.nan
        if not 0 <= value < 1e9:
            problem = repr(row["seconds"])
            raise InputError("seconds", found=problem, remedy="correct the file", where=path)
        seconds.setdefault(row["case"], []).append(value)
    return {case: statistics.fmean(runs) for case, runs in seconds.items()}
