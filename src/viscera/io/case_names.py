"""What cases are called: after their files, after nobody's name, and each by a name of its own."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from viscera.dicom.deidentify import deidentified_name
from viscera.dicom.read.files import looks_like_dicom
from viscera.errors import UsageError
from viscera.io.read import case_name

_LONGEST_NAME_BYTES = 200  # what follows must fit into the 255 of a file system


def result_name(source: Path, series: str | None = None) -> str:
    """What a case's results are called: as its file, unless that tells the patient of a series.

    Args:
        source: the scan.
        series: the Series Instance UID that will be taken, where it is chosen.
    """
    name = case_name(source)
    if not looks_like_dicom(source):
        return name
    part = series.partition(":")[2] if series else ""
    name = deidentified_name(source, name, series=series)
    return f"{name}_{part}" if part else name  # each part of a series has results of its own


def scans_by_case(
    files: Sequence[Path], *, name_of: Callable[[Path], str] = result_name
) -> dict[str, Path]:
    """The file of each case.

    Args:
        files: scans or label maps.
        name_of: gives the case's name of a file.

    Raises:
        UsageError: two files of one case.
    """
    scans = [(name_of(file), file) for file in files]
    repeated = [name for name, count in Counter(name for name, _ in scans).items() if count > 1]
    if repeated:
        remedy = "rename one, or name them one by one"
        raise UsageError("one file a case", found=f"several of {repeated[0]!r}", remedy=remedy)
    return dict(scans)


def distinct_names(files: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Names of cases, those that clash told apart.

    First by the folders that they lie in, ``P1/CT`` and ``P2/CT`` becoming ``P1_CT`` and ``P2_CT``;
    files of one folder by their suffixes.

    Args:
        files: the scans.
        names: what each is called by itself.

    Returns:
        A name for each; `numbered_names` tells apart those that clash still.
    """
    distinct = list(names)
    parents = [list(path.absolute().parent.parts[1:]) for path in files]
    for _ in range(max(map(len, parents), default=0)):
        for group in _clashes(distinct):
            above = [parents[n].pop() if parents[n] else "" for n in group]
            if len(set(above)) > 1:
                for n, folder in zip(group, above, strict=True):
                    distinct[n] = f"{folder}_{distinct[n]}" if folder else distinct[n]
    for group in _clashes(distinct):
        for n in group:
            suffix = files[n].name.removeprefix(distinct[n]).replace(".", "_")
            distinct[n] += suffix
    alone_names = set(names)
    return [
        name if name in alone_names or len(os.fsencode(name)) <= _LONGEST_NAME_BYTES
        else f"{alone[:60]}_{hashlib.sha256(os.fsencode(file.absolute())).hexdigest()[:12]}"
        for name, alone, file in zip(distinct, names, files, strict=True)
    ]  # fmt: skip


def numbered_names(names: Sequence[str]) -> list[str]:
    """Names that clash told apart by numbers alone.

    Args:
        names: what each case is called.

    Returns:
        A name of its own for each.
    """
    numbered = list(names)
    taken = {name.casefold() for name in names}
    for group in _clashes(names):
        count = 2
        for position in group[1:]:
            while f"{names[position]}_{count}".casefold() in taken:
                count += 1
            numbered[position] = f"{names[position]}_{count}"
            taken.add(numbered[position].casefold())
    return numbered


def _clashes(names: Sequence[str]) -> list[list[int]]:
    """Positions of names that are the same; capitals count on some file systems only."""
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        groups.setdefault(name.casefold(), []).append(position)
    return [group for group in groups.values() if len(group) > 1]
