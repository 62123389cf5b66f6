"""The record of a finished case, written last: which files belong to it, and what made them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from viscera.runtime.atomic_files import write_text
from viscera.runtime.digests import file_sha256
from viscera.runtime.small_files import read_json_file

# Within the folder of a batch: records and leases of its cases.
STATE_FOLDER = ".viscera"
_LONGEST_NAME_BYTES = 200


def record_path(labels_path: Path) -> Path:
    """Where the record of a label map's case lies.

    Args:
        labels_path: of the label map, .nii.gz or .nii.
    """
    name = labels_path.name
    ending = next((e for e in (".nii.gz", ".nii") if name.lower().endswith(e)), "")
    case = name[: len(name) - len(ending)]
    return labels_path.parent / STATE_FOLDER / f"{state_name(case)}.json"


def state_name(case: str) -> str:
    """What the files of a case's state are called: as the case, if such a name is not too long.

    Args:
        case: its name.
    """
    if len(os.fsencode(case)) <= _LONGEST_NAME_BYTES:
        return case
    return hashlib.sha256(os.fsencode(case)).hexdigest()


def write_record(
    path: Path,
    signature: str,
    files: Mapping[Path, str],
    *,
    beside: Path,
    content_in: Path,
    strict: bool = False,
) -> None:
    """Leave the record while the files still lie elsewhere; see `complete_record`.

    Files of the same signature that an earlier run left stay listed.

    Args:
        path: of the record.
        signature: scan, bundle and settings that the labels follow from.
        files: each file, and what else shaped it.
        beside: the folder that the files lie in or below.
        content_in: the folder in which they still are.
        strict: warnings would have refused the scan.

    Raises:
        OutputError: not writable.
    """
    record = _read(path)
    listed = _listed_files(record) if record.get("signature") == signature else {}
    for file, shaped_by in files.items():
        name = file.relative_to(beside).as_posix()
        digest = file_sha256(content_in / name)
        listed[name] = {"sha256": digest, "shaped_by": shaped_by}
    content = {
        "signature": signature,
        "complete": False,
        "strict": strict,
        "files": listed,
    }
    _write(path, content)


def complete_record(path: Path) -> None:
    """Note that all files of a record are in place.

    Args:
        path: of the record.

    Raises:
        OutputError: not writable.
    """
    _write(path, {**_read(path), "complete": True})


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n", overwrite=True)


def is_finished(
    path: Path, signature: str, files: Mapping[Path, str], *, beside: Path, strict: bool = False
) -> bool:
    """Whether a record says that all these files were made so, and they are still what they were.

    Args:
        path: of the record.
        signature: as this run would leave it.
        files: each file that this run would write, and what else shapes it.
        beside: the folder that the files lie in or below.
        strict: only a strict run counts.
    """
    record = _read(path)
    if record.get("signature") != signature or record.get("complete") is not True:
        return False
    if strict and record.get("strict") is not True:
        return False
    listed = _listed_files(record)
    return all(
        listed.get(file.relative_to(beside).as_posix(), {}).get("shaped_by") == shaped_by
        for file, shaped_by in files.items()
    ) and all(_is_as_listed(file, listed, beside) for file in files)


def may_be_replaced(path: Path, signature: str, files: Mapping[Path, str], *, beside: Path) -> bool:
    """Whether all of these files that exist are what a run of this signature left there.

    What an interrupted run left is made again; what somebody has corrected since is not touched.

    Args:
        path: of the record.
        signature: as this run would leave it.
        files: those that this run would write.
        beside: the folder that the files lie in or below.
    """
    record = _read(path)
    listed = _listed_files(record)
    return record.get("signature") == signature and all(
        _is_as_listed(file, listed, beside) for file in files if file.exists()
    )


def _is_as_listed(file: Path, listed: Mapping[str, Any], beside: Path) -> bool:
    """Whether a file has the bytes that a record says."""
    with suppress(OSError):
        entry = listed.get(file.relative_to(beside).as_posix())
        return entry is not None and file.is_file() and file_sha256(file) == entry.get("sha256")
    return False


def files_of_other_work(path: Path, signature: str, *, beside: Path) -> list[Path]:
    """The files of a record of another signature that are still what it says; none of its own.

    Args:
        path: of the record.
        signature: of this run.
        beside: the folder that the files lie in or below.
    """
    record = _read(path)
    listed = _listed_files(record)
    if record.get("signature") == signature:
        return []
    files = (beside / name for name in listed if _lies_within(Path(name)))
    return [
        file
        for file in files
        if not (file.is_symlink() or file.parent.is_symlink())
        and _is_as_listed(file, listed, beside)
    ]


def _lies_within(name: Path) -> bool:
    leads_away = name.is_absolute() or name.drive or ".." in name.parts
    return not leads_away and len(name.parts) <= 2


def _listed_files(record: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a record, by the files' names."""
    files = record.get("files")
    if not isinstance(files, dict):
        return {}
    return {name: entry for name, entry in files.items() if isinstance(entry, dict)}


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = read_json_file(path)
        return content if isinstance(content, dict) else {}
    return {}
