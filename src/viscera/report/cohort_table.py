"""One table of a whole batch, a row an organ and case, from the reports of the cases."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from viscera.errors import OutputError, UsageError, option
from viscera.io.read import path_exists
from viscera.runtime.atomic_files import atomic_write, write_text
from viscera.runtime.extras import require_extra
from viscera.runtime.small_files import read_json_file

_LONGEST_HEADER = 1000  # bytes
COHORT_TABLES = {"csv": "cohort.csv", "parquet": "cohort.parquet"}
# Columns and their types; a Parquet file has them even where all values are empty.
_TYPES: dict[str, type] = {
    "case": str,
    "organ": str,
    "volume_ml": float,
    "mean_hu": float,
    "std_hu": float,
    "components": int,
    "touches_border": bool,
    "verdict": str,
    "estimated_dsc": float,
    "reasons": str,
    "findings": str,
    "phase": str,
    "seconds": float,
    "peak_mb": float,
    "network": str,
}


def check_cohort_tables(folder: Path, kinds: Iterable[str]) -> None:
    """Check before the work that tables of these kinds can be written.

    Args:
        folder: of the batch.
        kinds: csv, parquet.

    Raises:
        UsageError: no such kind.
        OutputError: a file of that name exists and is no such table.
        MissingExtraError: pyarrow is not installed.
    """
    for kind in kinds:
        if kind not in COHORT_TABLES:
            kinds_text = ", ".join(COHORT_TABLES)
            raise UsageError(f"one of {kinds_text}", found=repr(kind), remedy="choose one")
        if kind == "parquet":
            require_extra("pyarrow")
        path = folder / COHORT_TABLES[kind]
        if path_exists(path) and not _is_table(path, kind):
            raise OutputError(
                "a place for the table of all cases",
                found="a file that viscera did not write",
                remedy=f"rename it, or choose another {option('output')}",
                where=path,
            )


def _is_table(path: Path, kind: str) -> bool:
    """Whether a file is a table that this module wrote."""
    try:
        if kind == "csv":
            with path.open("rb") as file:
                return file.readline(_LONGEST_HEADER).decode().strip() == ",".join(_TYPES)
        from pyarrow import parquet

        return list(parquet.read_schema(path).names) == list(_TYPES)
    except (OSError, ValueError):  # pyarrow's errors are ValueErrors
        return False


def report_rows(report_path: Path) -> list[dict[str, Any]]:
    """The rows of a case; none where its report is missing or another file.

    Args:
        report_path: the JSON of its report, statistics included.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        return _rows(read_json_file(report_path))
    return []


def _rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    of_case = {
        "case": report["case"],
        "findings": "; ".join(
            finding["code"] for finding in report["findings"] if finding["level"] == "warning"
        ),
        "phase": (report.get("examination") or {}).get("phase") or "",
        "seconds": report.get("seconds"),
        "peak_mb": max((s["peak_mb"] for s in report.get("stages", {}).values()), default=None),
        "network": report["bundle"]["name"] if "bundle" in report else "",
    }
    rows = []
    for organ, measured in report["statistics"].items():
        row = {**of_case, "organ": organ}
        for name in _TYPES.keys() - of_case.keys() - {"organ"}:
            value = measured.get(name)
            row[name] = "; ".join(value) if isinstance(value, list) else value
        rows.append(_typed(row))
    return rows


def write_cohort_table(path: Path, kind: str, rows: list[dict[str, Any]]) -> None:
    """Write the table; an earlier one is replaced.

    Args:
        path: of the file.
        kind: csv or parquet.
        rows: of all cases.

    Raises:
        OutputError: not writable.
    """
    if kind == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(_TYPES), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(path, text.getvalue(), overwrite=True)
        return
    import pyarrow
    from pyarrow import parquet

    of_type = {
        str: pyarrow.string(),
        float: pyarrow.float64(),
        int: pyarrow.int64(),
        bool: pyarrow.bool_(),
    }
    schema = pyarrow.schema([(name, of_type[python]) for name, python in _TYPES.items()])
    table = pyarrow.Table.from_pylist(rows, schema=schema)
    with atomic_write(path, overwrite=True) as file:
        parquet.write_table(table, file)


def _typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in which numbers have the types of their columns."""
    return {
        name: None if row[name] is None else of_type(row[name]) for name, of_type in _TYPES.items()
    }
