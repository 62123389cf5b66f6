"""Which scans a path means: a file, or all that lies in and below a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from viscera.dicom.deidentify import deidentified_name
from viscera.dicom.read.files import begins_as_dicom, is_archive, is_regular_file, read_head
from viscera.dicom.read.study import StudyKey, read_modality, read_study_key
from viscera.errors import InputError, NothingToSegmentError
from viscera.io.nifti.read import is_viscera_result, nifti_header_path
from viscera.io.read import SUFFIXES, path_exists

_IMAGES_OF_PAIRS = (".img", ".img.gz")  # named by their .hdr


@dataclass(frozen=True)
class PassedOver:
    """A file or folder that lies among scans and is none.

    Attributes:
        path: where it lies.
        reason: why it was passed over, in a few words.
    """

    path: Path
    reason: str

    def shown(self, *, keep_phi: bool) -> str:
        """What it is called in messages: its name; of a DICOM file, unless that tells the patient.

        Args:
            keep_phi: names may tell the patient.
        """
        name = self.path.name
        if keep_phi or not begins_as_dicom(read_head(self.path)):
            return name
        return deidentified_name(self.path, name)


@dataclass(frozen=True)
class FoundScans:
    """What was found in one place.

    Attributes:
        scans: files of volumes, archives, and folders of one DICOM study each.
        passed_over: what lies beside them.
    """

    scans: tuple[Path, ...]
    passed_over: tuple[PassedOver, ...] = ()


def is_dir(path: Path) -> bool:
    """Whether this is a folder; a name that no file system holds is none."""
    return path_exists(path) and path.is_dir()


def find_volumes(entry: Path) -> list[Path]:
    """A file itself, or the volumes of a folder by name, not those of its subfolders.

    In a folder without volumes, each zip archive is a case; a folder in which or below which lies
    DICOM is one.

    Raises:
        NothingToSegmentError: a folder without any volume.
    """
    if not is_dir(entry):
        return [entry]
    try:
        inside = sorted(entry.iterdir())
    except OSError as error:
        raise InputError(
            "a folder that can be read",
            found=error.strerror or str(error),
            remedy="check its permissions",
            where=entry,
        ) from error
    volumes = [file for file in inside if _is_volume(file) and is_regular_file(file)]
    if volumes:
        return volumes
    listing = find_scans(entry, whole_series=True)
    if listing.scans == (entry,):
        return [entry]
    archives = [scan for scan in listing.scans if scan.parent == entry and is_archive(scan)]
    if not archives:
        raise _nothing_in(entry, listing)
    return archives


def find_scans(
    entry: Path, *, outputs: Path | None = None, whole_series: bool = False
) -> FoundScans:
    """A file itself, or all scans in and below a folder.

    Every volume, every zip archive with DICOM and every DICOM study is one scan. A study that lies
    in several folders is named by the folder that holds all of it and nothing else. Hidden files,
    and what viscera itself has written, are no scans.

    Args:
        entry: a file or a folder.
        outputs: a folder that is left out, because results go there.
        whole_series: all DICOM below the folder belongs to one scan, as when a series is named.
    """
    if not is_dir(entry):
        return FoundScans((entry,))
    volumes: list[Path] = []
    passed_over: list[PassedOver] = []
    study_folders: dict[StudyKey, list[Path]] = {}
    for folder, files in _visit_folders(entry, outputs, passed_over):
        others: list[Path] = []
        for file in files:
            if _is_volume(file):
                volumes.append(file)
            elif not (file.name.lower().endswith(_IMAGES_OF_PAIRS) and _has_header(file)):
                others.append(file)
        dicom = {file: None for file in others if begins_as_dicom(read_head(file))}
        key = read_study_key(tuple(dicom))
        volumes += [file for file in others if is_archive(file)]
        if key is not None:  # what else lies in the folder is counted when the series is opened
            study_folders.setdefault(key, []).append(folder)
            continue
        for file in others:
            if not is_archive(file):
                passed_over.append(PassedOver(file, _no_scan_because(file, file in dicom)))
    scans: list[Path] = []
    for volume in volumes:
        if volume.name.lower().endswith(".seg.nrrd"):
            passed_over.append(PassedOver(volume, "a segmentation, no scan"))
        elif is_viscera_result(volume):
            passed_over.append(PassedOver(volume, "labels that viscera wrote"))
        else:
            scans.append(volume)
    if whole_series and study_folders:
        scans.append(entry)
    else:
        scans += _study_sources(study_folders) if scans or len(study_folders) > 1 else ()
        scans = scans or [entry] * len(study_folders)  # all of it, whatever lies beside
    return FoundScans(tuple(sorted(scans)), tuple(sorted(passed_over, key=lambda p: p.path)))


def find_all_scans(
    entries: Sequence[Path], *, outputs: Path | None = None, whole_series: bool = False
) -> FoundScans:
    """The scans of several files and folders, each once, in the order given.

    A folder without a scan stays in the list, so that it is a case that fails; alone it is refused.

    Args:
        entries: files and folders.
        outputs: see `find_scans`.
        whole_series: see `find_scans`.

    Raises:
        NothingToSegmentError: the only entry holds no scan.
    """
    places = [find_scans(entry, outputs=outputs, whole_series=whole_series) for entry in entries]
    if len(entries) == 1:
        require_scans(entries[0], places[0])
    scans = dict.fromkeys(
        scan
        for entry, place in zip(entries, places, strict=True)
        for scan in place.scans or (entry,)
    )
    passed_over = dict.fromkeys(item for place in places for item in place.passed_over)
    return FoundScans(tuple(scans), tuple(passed_over))


def require_scans(entry: Path, listing: FoundScans) -> FoundScans:
    """The same, if there is a scan.

    Args:
        entry: the folder.
        listing: what lies in it.

    Raises:
        NothingToSegmentError: none.
    """
    if not listing.scans:
        raise _nothing_in(entry, listing)
    return listing


def _nothing_in(entry: Path, listing: FoundScans) -> NothingToSegmentError:
    reasons = Counter(item.reason for item in listing.passed_over)
    listed = "; ".join(f"{count} files: {reason}" for reason, count in reasons.items())
    return NothingToSegmentError(
        "a folder with volumes or DICOM",
        found=listed or "no DICOM, and none that ends in " + ", ".join(SUFFIXES),
        remedy="name another folder",
        where=entry,
    )


def _visit_folders(
    entry: Path, outputs: Path | None, passed_over: list[PassedOver]
) -> Iterator[tuple[Path, list[Path]]]:
    """Folders from the top down with their regular files, by name; nothing hidden.

    What cannot be visited is passed over.
    """
    left_out = resolved(outputs) if outputs is not None and path_exists(outputs) else None
    if left_out == resolved(entry):
        left_out = None

    def note_unreadable(error: OSError) -> None:
        passed_over.append(PassedOver(Path(error.filename), error.strerror or str(error)))

    for name, folders, files in os.walk(entry, onerror=note_unreadable):
        folder = Path(name)
        kept = []
        for subfolder in sorted(folders):
            path = folder / subfolder
            if subfolder.startswith(".") or resolved(path) == left_out:
                continue
            if path.is_symlink():
                passed_over.append(PassedOver(path, "a link to a folder, which is not followed"))
            else:
                kept.append(subfolder)
        folders[:] = kept
        regular = []
        for file in sorted(files):
            path = folder / file
            if file.startswith("."):
                continue
            if is_regular_file(path):
                regular.append(path)
            else:
                passed_over.append(PassedOver(path, "no regular file, or a link to nothing"))
        yield folder, regular


def resolved(path: Path) -> Path:
    """The path without links; as it is where links go round in a circle."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.absolute()


def _no_scan_because(file: Path, is_dicom: bool) -> str:
    if not is_dicom:
        return "no scan by its name and content"
    return f"DICOM, but no CT ({read_modality(file) or 'it does not say what'})"


def _study_sources(study_folders: dict[StudyKey, list[Path]]) -> Iterator[Path]:
    """The folder that holds each study and nothing of another; else each of its folders."""
    studies_below: dict[Path, set[StudyKey]] = {}
    for key, folders in study_folders.items():
        for folder in folders:
            for above in (folder, *folder.parents):
                studies_below.setdefault(above, set()).add(key)
    for folders in study_folders.values():
        common = Path(os.path.commonpath(folders))
        if len(studies_below[common]) > 1:
            yield from folders
        else:
            yield common


def _is_volume(file: Path) -> bool:
    name = file.name.lower()
    return (
        name.endswith(SUFFIXES) and not name.endswith(_IMAGES_OF_PAIRS) and not name.startswith(".")
    )


def _has_header(image: Path) -> bool:
    """Whether the .hdr of this .img lies beside it."""
    return nifti_header_path(image) != image
