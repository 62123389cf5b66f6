"""Which scans a path means, and what their cases are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from viscera.dicom.deidentify import deidentified_name
from viscera.dicom.read.files import HEAD_BYTES, begins_as_dicom, is_archive, looks_like_dicom
from viscera.errors import NothingToSegmentError, UsageError
from viscera.io.read import SUFFIXES, case_name, path_exists


def result_name(source: Path) -> str:
    """What a case's results are called: as its file, unless that tells the patient of a series."""
    name = case_name(source)
    return deidentified_name(source, name) if looks_like_dicom(source) else name


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


def is_dir(path: Path) -> bool:
    """Whether this is a folder; a name that no file system holds is none."""
    return path_exists(path) and path.is_dir()


def find_scans(entry: Path) -> list[Path]:
    """A file itself, or the volumes of a folder by name, not those of its subfolders.

    In a folder without volumes, each zip archive is a case; a folder in which or below which lies
    DICOM is one.

    Raises:
        NothingToSegmentError: a folder without any volume.
    """
    if not is_dir(entry):
        return [entry]
    volumes = sorted(
        file
        for file in entry.iterdir()
        if file.name.lower().endswith(SUFFIXES)
        and not file.name.lower().endswith((".img", ".img.gz"))  # named by their .hdr
        and not file.name.startswith(".")
        and file.is_file()
    )
    if not volumes and _has_dicom(entry):
        return [entry]
    volumes = volumes or sorted(file for file in entry.glob("*.[zZ][iI][pP]") if is_archive(file))
    if not volumes:
        raise NothingToSegmentError(
            "a folder with volumes or DICOM",
            found="no DICOM, and none that ends in " + ", ".join(SUFFIXES),
            remedy="name another folder",
            where=entry,
        )
    return volumes


def _has_dicom(folder: Path) -> bool:
    """Whether some file in or below a folder begins as DICOM does; the first one tells."""
    for path in folder.rglob("*"):
        if path.is_file():
            with suppress(OSError), path.open("rb") as file:
                if begins_as_dicom(file.read(HEAD_BYTES)):
                    return True
    return False
