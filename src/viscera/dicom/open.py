"""From a folder, an archive or a file to one series, opened as a volume."""

from __future__ import annotations

from pathlib import Path

from viscera.dicom.extra import need
from viscera.dicom.files import items_of
from viscera.dicom.pixels import check_decoder
from viscera.dicom.series import Found, Series, group, reason
from viscera.dicom.slices import Slice, read_slices
from viscera.dicom.stack import stack
from viscera.dicom.voxels import DicomVoxels
from viscera.errors import InputError, NothingToSegmentError, VisceraError
from viscera.findings import Finding
from viscera.volume import Volume


def find_series(source: str | Path) -> Found:
    """All CT series in a folder and its subfolders, a zip archive, or one file.

    Raises:
        InputError: pydicom is not installed, or an archive cannot be read.
        ResourceError: more files than any study has.
    """
    source = Path(source)
    need("pydicom", where=source)
    slices: list[Slice] = []
    damaged: list[Exception] = []
    others = 0
    for item in items_of(source):
        try:
            own = read_slices(item)
        except VisceraError as error:
            damaged.append(error)
            continue
        slices += own or []
        others += not own
    series, scouts = group(slices)
    return Found(series, others, scouts, tuple(damaged))


def open_series(
    source: str | Path,
    *,
    series: str | None = None,
    strict: bool = False,
    allow_bad: bool = False,
    name: str = "series",
    threads: int | None = None,
) -> Volume:
    """The series one would segment, as a volume whose voxels stay in their files.

    Args:
        source: folder, zip archive or file.
        series: Series Instance UID of the one to take.
        strict: refuse where several are alike, and what else deserves a warning.
        allow_bad: slices that cannot be read are filled from their neighbours.
        name: the case's name.
        threads: most that may decode at a time; all that the process may use where not given.

    Raises:
        InputError: no such series, several patients, or a series that makes no volume.
        NothingToSegmentError: no CT at all; or several alike, when strict.
        ResourceError: a file that declares more than it can hold.
    """
    source = Path(source)
    found = find_series(source)
    if found.damaged and not (allow_bad and found.series):
        raise found.damaged[0]
    one, findings = _chosen(found, series, source, strict=strict)
    for each in one.slices:
        check_decoder(each)
    if found.others:
        message = f"{found.others} files are no CT image and were left out"
        findings.append(Finding("info", "dicom-others", message))
    if found.damaged:
        message = f"{len(found.damaged)} files could not be read and were left out"
        findings.append(Finding("warning", "dicom-damaged", message, "export them again"))
    made = stack(one.slices, where=source, allow_bad=allow_bad)
    findings += [*_of_slices(one), *made.findings]
    for finding in findings:
        if strict and finding.level == "warning":
            raise InputError(
                "a series of which nothing must be assumed",
                found=finding.message,
                remedy=finding.hint or "leave --strict out",
                where=source,
            )
    voxels = DicomVoxels(made, allow_bad, threads=threads)
    return Volume(voxels, made.affine, name, None, tuple(findings))


def _chosen(
    found: Found, uid: str | None, source: Path, *, strict: bool
) -> tuple[Series, list[Finding]]:
    """The series to take, and what there is to say about the choice."""
    if not found.series:
        raise NothingToSegmentError(
            "a CT series",
            found=found.described,
            remedy="name a folder that holds CT images, or a volume",
            where=source,
        )
    if uid is not None:
        own = [one for one in found.series if one.uid == uid]
        if not own:
            raise InputError(
                f"a CT series {uid}",
                found=", ".join(one.uid or "(no UID)" for one in found.series[:5]),
                remedy="choose one that 'viscera info' lists",
                where=source,
            )
        if len(own) > 1:
            raise InputError(
                "one series of this UID",
                found=f"{len(own)}, of several patients or studies",
                remedy="name the folder of one patient",
                where=source,
            )
        return own[0], []
    if found.studies > 1:
        raise InputError(
            "the series of one study of one patient",
            found=f"{found.studies} studies or patients",
            remedy="choose a series with --series; 'viscera info' lists them",
            where=source,
        )
    if found.ambiguous and strict:
        raise NothingToSegmentError(
            "one series that stands out",
            found="several alike",
            remedy="choose one with --series; 'viscera info' lists them",
            where=source,
        )
    if len(found.series) == 1:
        return found.series[0], []
    taken, others = found.series[0], ", ".join(str(one.number) for one in found.series[1:6])
    message = f"series {taken.number} was taken ({reason(found)}), not {others}"
    level = "warning" if found.ambiguous else "info"
    hint = "choose with --series UID; 'viscera info' lists them"
    return taken, [Finding(level, "dicom-series", message, hint)]  # type: ignore[arg-type]


def _of_slices(series: Series) -> list[Finding]:
    """What the slices' headers tell."""
    found = []
    if series.scouts:
        message = f"{series.scouts} scouts in the series were left out"
        found.append(Finding("info", "dicom-scouts", message))
    if any(one.imager_spacing for one in series.slices):
        message = "pixel spacing is that of the detector, for want of the patient's"
        found.append(Finding("warning", "dicom-imager-spacing", message, "check the volumes"))
    if not all(one.rescaled for one in series.slices):
        message = "RescaleIntercept is missing: stored values were taken for HU"
        found.append(Finding("warning", "dicom-not-rescaled", message, "check the preview"))
    if any(one.inverted for one in series.slices):
        found.append(Finding("fixed", "dicom-inverted", "MONOCHROME1 pixels were inverted"))
    if any(one.odd_preamble for one in series.slices):
        message = "a file begins as a program does; nothing of it was run or written on"
        found.append(Finding("warning", "dicom-preamble", message, "have your security look"))
    return found
