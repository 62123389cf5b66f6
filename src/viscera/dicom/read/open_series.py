"""From a folder, an archive or a file to one series, opened as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from viscera.core.volume import Volume
from viscera.dicom.read.files import is_archive, list_files
from viscera.dicom.read.lazy_voxels import DicomVoxels
from viscera.dicom.read.pixels import check_decoder
from viscera.dicom.read.series import (
    CtSeries,
    SeriesListing,
    choice_reason,
    group_series,
    merge_single_slices,
)
from viscera.dicom.read.slices import CHANGES_BY_NATURE, DISTINGUISHING, CtSlice, read_file
from viscera.dicom.read.stack import build_stack
from viscera.errors import InputError, NothingToSegmentError, option
from viscera.findings import Finding
from viscera.runtime.extras import require_extra

_INFO = "viscera info"
ALL_SERIES = "all"  # in place of a UID


def find_series(source: str | Path) -> SeriesListing:
    """All CT series in a folder and its subfolders, a zip archive, or one file.

    Raises:
        InputError: pydicom is not installed, or an archive cannot be read.
        ResourceError: more files than any study has.
    """
    source = Path(source)
    require_extra("pydicom", where=source)
    contents = [read_file(file) for file in list_files(source)]
    series, scouts = group_series([s for content in contents for s in content.slices])
    return SeriesListing(
        series,
        tuple(c.kind for c in contents if not c.slices and c.damage is None),
        scouts,
        tuple(c for c in contents if c.damage is not None),
    )


def open_series(
    source: str | Path,
    *,
    series: str | None = None,
    strict: bool = False,
    allow_bad_slices: bool = False,
    name: str = "series",
    threads: int | None = None,
) -> Volume:
    """The likeliest series as a volume; its voxels stay in their files.

    Args:
        source: folder, zip archive or file.
        series: Series Instance UID of the one to take, with the number of a part (``UID:2``)
            where several pictures lie at each place; ``all`` takes series of one slice as one.
        strict: refuse where several are alike, and what else deserves a warning.
        allow_bad_slices: slices that cannot be read are filled from their neighbours.
        name: the case's name.
        threads: most that may decode at a time; all that the process may use where not given.

    Raises:
        InputError: no such series, several patients, or a series that makes no volume.
        NothingToSegmentError: no CT at all; or several alike, when strict.
        ResourceError: a file that declares more than it can hold.
    """
    source = Path(source)
    listing = find_series(source)
    if listing.damaged and not listing.series:
        raise listing.damaged[0].damage or AssertionError
    taken, findings = _choose_series(listing, series, source, strict=strict)
    damages = (
        listing.damages()
        if series == ALL_SERIES
        else listing.damages_of(taken, is_chosen=series is not None)
    )
    if damages and not allow_bad_slices:
        raise damages[0]
    for ct_slice in taken.slices:
        check_decoder(ct_slice)
    if listing.others:
        message = f"{listing.others} files are no CT image and were left out"
        findings.append(Finding("info", "dicom-others", message))
    if damages:
        message = f"{len(damages)} files could not be read and were left out"
        findings.append(Finding("warning", "dicom-damaged", message, "export them again"))
    if len(listing.damaged) > len(damages):
        message = f"{len(listing.damaged) - len(damages)} other files cannot be read"
        findings.append(Finding("info", "dicom-damaged-others", message))
    if source.is_file() and not is_archive(source) and taken.slices[0].frames == 1:
        message = "one slice of a series was given"
        hint = "name the folder that holds all of it"
        findings.append(Finding("warning", "dicom-one-slice", message, hint))
    stack = build_stack(taken.slices, where=source, allow_bad_slices=allow_bad_slices)
    findings += [*_slice_findings(taken), *_mixture_findings(stack.slices), *stack.findings]
    warnings = [finding for finding in findings if finding.level == "warning"]
    if strict and warnings:
        raise InputError(
            "a series about which nothing must be assumed",
            found=warnings[0].raw_message,
            remedy=warnings[0].raw_hint or f"leave {option('strict')} out",
            where=source,
        )
    voxels = DicomVoxels(stack, allow_bad_slices, threads=threads)
    return Volume(voxels, stack.affine, name, findings=tuple(findings), slice_stack=stack)


def _choose_series(
    listing: SeriesListing, uid: str | None, source: Path, *, strict: bool
) -> tuple[CtSeries, list[Finding]]:
    """The series to take, and what there is to say about the choice."""
    if not listing.series:
        raise NothingToSegmentError(
            "a CT series",
            found=listing.described,
            remedy=(
                "unpack it, and name the volume or the folder in it"
                if is_archive(source)
                else "name a folder that holds CT images, or a volume"
            ),
            where=source,
        )
    listed = f"'{_INFO}' lists them"
    if uid == ALL_SERIES:
        merged = merge_single_slices(listing)
        if merged is None:
            raise InputError(
                f"series of one slice each for {option('series', ALL_SERIES)}",
                found="none that fit together",
                remedy=f"choose a series; {listed}",
                where=source,
            )
        message = f"{len(merged.slices)} series of one slice each were taken as one, as asked"
        return merged, [Finding("info", "dicom-merged", message)]
    if uid is not None:
        of_uid = [candidate for candidate in listing.series if uid == candidate.identifier]
        if not of_uid:
            parts = [candidate for candidate in listing.series if candidate.uid == uid]
            if parts:
                raise _several_pictures(parts, source)
            for content in listing.damaged:
                if content.series == uid and content.damage is not None:
                    raise content.damage
            raise InputError(
                f"a CT series {uid}",
                found=", ".join(c.identifier or "(no UID)" for c in listing.series[:5]),
                remedy=f"choose one that '{_INFO}' lists",
                where=source,
            )
        if len(of_uid) > 1:
            raise InputError(
                "one series of this UID",
                found=f"{len(of_uid)}, of several patients or studies",
                remedy="name the folder of one patient",
                where=source,
            )
        return of_uid[0], []
    if listing.studies > 1:
        raise InputError(
            "the series of one study of one patient",
            found=f"{listing.studies} studies or patients",
            remedy=f"choose a series with {option('series', 'UID')}; {listed}",
            where=source,
        )
    if listing.ambiguous and strict:
        raise NothingToSegmentError(
            "one series that is clearly the likeliest",
            found="several alike",
            remedy=f"choose one with {option('series', 'UID')}; {listed}",
            where=source,
        )
    first = listing.series[0]
    if first.part:
        raise _several_pictures([c for c in listing.series if c.uid == first.uid], source)
    if len(listing.series) == 1:
        return first, []
    if len(first.slices) == 1 and (merged := merge_single_slices(listing)) is not None:
        raise InputError(
            "a series of several slices",
            found=f"{len(merged.slices)} series of one slice each that fit together",
            remedy=f"pass {option('series', ALL_SERIES)} to take them as one",
            where=source,
        )
    taken, passed_over = (
        listing.series[0],
        ", ".join(str(candidate.number) for candidate in listing.series[1:6]),
    )
    message = f"series {taken.number} was taken ({choice_reason(listing)}), not {passed_over}"
    level = "warning" if listing.ambiguous else "info"
    hint = f"choose with {option('series', 'UID')}; {listed}"
    return taken, [Finding(level, "dicom-series", message, hint)]  # type: ignore[arg-type]


def _several_pictures(parts: list[CtSeries], source: Path) -> InputError:
    """The error of a series with several pictures at each place."""
    names = "; ".join(f"{part.identifier}: {part.part_name}" for part in parts[:6])
    return InputError(
        "one picture at each place",
        found=f"{len(parts)} in series {parts[0].number} that differ ({names})",
        remedy=f"choose with {option('series', parts[0].identifier)} or another; "
        f"'{_INFO}' lists them",
        where=source,
    )


def _mixture_findings(slices: Sequence[CtSlice]) -> list[Finding]:
    """Whether slices of several reconstructions lie among each other in one stack."""
    findings = []
    hint = "check whether the series holds several; look at the preview"
    for n, keyword in enumerate(DISTINGUISHING):
        if keyword in CHANGES_BY_NATURE:
            continue
        values = [ct_slice.distinguishing[n] for ct_slice in slices]
        changes = sum(a != b for a, b in pairwise(values))
        if changes > 2 * (len(set(values)) - 1):  # one part after another has one change each
            message = f"slices of {len(set(values))} values of {keyword} lie among each other"
            findings.append(Finding("warning", "dicom-mixed", message, hint))
            break
    if (frames := len({ct_slice.frame_of_reference for ct_slice in slices})) > 1:
        message = f"the slices have {frames} frames of reference"
        findings.append(Finding("warning", "dicom-mixed", message, hint))
    return findings


def _slice_findings(series: CtSeries) -> list[Finding]:
    """What the slices' headers tell."""
    findings = []
    if not series.is_hu:
        message = f"RescaleType is {series.slices[0].rescale_type}: these are no HU"
        hint = f"choose another series with {option('series', 'UID')}"
        findings.append(Finding("warning", "dicom-rescale-type", message, hint))
    if series.scouts:
        message = f"{series.scouts} scouts in the series were left out"
        findings.append(Finding("info", "dicom-scouts", message))
    if any(ct_slice.imager_spacing for ct_slice in series.slices):
        message = "pixel spacing is that of the detector, for want of the patient's"
        findings.append(Finding("warning", "dicom-imager-spacing", message, "check the volumes"))
    if not all(ct_slice.rescaled for ct_slice in series.slices):
        message = "RescaleIntercept is missing: stored values were taken for HU"
        findings.append(Finding("warning", "dicom-not-rescaled", message, "check the preview"))
    if any(ct_slice.inverted for ct_slice in series.slices):
        findings.append(Finding("fixed", "dicom-inverted", "MONOCHROME1 pixels were inverted"))
    if any(ct_slice.odd_preamble for ct_slice in series.slices):
        message = "a file begins as a program does; nothing of it was run or written on"
        findings.append(Finding("warning", "dicom-preamble", message, "check the file for malware"))
    return findings
