"""Stack: slices sorted by where they lie, on one regular grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.dicom.pixels import PixelReader, to_plane
from viscera.dicom.slices import Slice
from viscera.errors import InputError
from viscera.findings import Finding

_SAME_MM = 1e-3  # positions closer than this are one
_EVEN = 0.02  # of the spacing: how far off its place a slice may lie
_MOST_MISSING = 2
_OFF_LINE_MM = 0.5
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


# The two slices that a plane lies between, and the share of the second.
Plane = tuple[int, int, float]


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in the order of their positions, and the planes of a volume made of them.

    Attributes:
        slices: along the normal of their plane, each position once.
        planes: of the volume; both slices are one where a plane is that slice.
        affine: [column, row, plane] to RAS millimetres.
        findings: what was noticed, and what was done about it.
    """

    slices: tuple[Slice, ...]
    planes: tuple[Plane, ...]
    affine: Affine
    findings: tuple[Finding, ...]


def stack(slices: Sequence[Slice], *, where: object) -> Stack:
    """Sort slices by geometry alone and find the regular grid that they lie on.

    Order and numbers in the files do not matter. A gantry's tilt shows in the positions and makes
    a sheared grid (PS3.3 C.7.6.2).

    Args:
        slices: of one series.
        where: for messages.

    Raises:
        InputError: slices that cannot be placed, differ in size or direction, contradict each
            other at one position, or are missing.
    """
    findings: list[Finding] = []
    cosines = _common(slices, where)
    normal = np.cross(cosines[0], cosines[1])
    positions = np.array([s.position_mm for s in slices])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    kept: list[int] = []
    for n in order:
        if kept and abs(along[n] - along[kept[-1]]) < _SAME_MM:
            _check_same(slices[kept[-1]], slices[n])
        else:
            kept.append(int(n))
    if len(kept) < len(slices):
        message = f"{len(slices) - len(kept)} slices stand there twice; one of each was kept"
        findings.append(Finding("warning", "dicom-duplicates", message))
    slices = [slices[n] for n in kept]
    positions, along = positions[kept], along[kept]
    spacing_rows, spacing_columns = slices[0].spacing_mm or (1.0, 1.0)
    matrix = np.eye(4)
    matrix[:3, 0] = cosines[0] * spacing_columns
    matrix[:3, 1] = cosines[1] * spacing_rows
    if len(kept) == 1:
        planes: tuple[Plane, ...] = ((0, 0, 0.0),)
        matrix[:3, 2] = normal * (slices[0].thickness_mm or 1.0)
        matrix[:3, 3] = positions[0]
    else:
        direction = _line(along, positions, where)  # a millimetre along the normal
        start, spacing, numbers = _even(along, findings, where)
        planes = _between(along, start + spacing * np.arange(numbers), spacing)
        matrix[:3, 2] = direction * spacing
        matrix[:3, 3] = positions[0] + direction * (start - along[0])
    matrix[:3] = _LPS_TO_RAS @ matrix[:3]
    return Stack(tuple(slices), planes, Affine(matrix, where=where), tuple(findings))


def _common(slices: Sequence[Slice], where: object) -> NDArray[np.float64]:
    """The directions that all slices share.

    Raises:
        InputError: some have none, or they differ in direction, size or spacing.
    """
    for one in slices:
        if one.position_mm is None or one.cosines is None:
            raise _refuse("ImagePositionPatient and ImageOrientationPatient", "none of use: "
                          "cannot place slices", one.item)  # fmt: skip
        if one.spacing_mm is None:
            raise _refuse("PixelSpacing", "none of use", one.item)
    first = slices[0]
    assert first.cosines is not None
    for one in slices:
        if np.abs(one.cosines - first.cosines).max() > 1e-3:  # type: ignore[operator]
            raise _refuse("slices of one direction", "several in one series", where)
        if one.shape != first.shape or not np.allclose(
            one.spacing_mm or 0, first.spacing_mm or 0, rtol=1e-4
        ):
            raise _refuse("slices of one size and pixel spacing", "several in one series", where)
    return first.cosines


def _line(
    along: NDArray[np.float64], positions: NDArray[np.float64], where: object
) -> NDArray[np.float64]:
    """The way in LPS for each millimetre along the normal.

    Raises:
        InputError: some slices lie beside the line of the others.
    """
    direction = (positions[-1] - positions[0]) / (along[-1] - along[0])
    off_line = positions - positions[0] - np.outer(along - along[0], direction)
    if np.abs(off_line).max() > _OFF_LINE_MM:
        raise _refuse("slices along one line", "some shifted beside it", where)
    return np.asarray(direction)


def _even(
    along: NDArray[np.float64], findings: list[Finding], where: object
) -> tuple[float, float, int]:
    """The even grid on which most slices lie: its first plane, its spacing, its planes.

    Raises:
        InputError: too many slices are missing.
    """
    gaps = np.diff(along)
    spacing = float(np.median(gaps))
    numbers = np.rint((along - along[0]) / spacing)
    if numbers[-1] >= 1:  # the mean is more exact, where no slice is out of step
        spacing = (along[-1] - along[0]) / numbers[-1]
        numbers = np.rint((along - along[0]) / spacing)
    off = np.abs((along - along[0]) / spacing - numbers).max()
    if off <= _EVEN and (np.diff(numbers) >= 1).all():
        total = int(numbers[-1]) + 1
        missing = total - len(along)
        if missing > _MOST_MISSING:
            raise _refuse(
                f"a series with at most {_MOST_MISSING} slices missing",
                f"{missing} of {total} missing",
                where,
                "get the whole series",
            )
        if missing:
            message = f"{missing} of {total} slices are missing and were interpolated"
            findings.append(Finding("warning", "dicom-gap", message, "get the whole series"))
        return float(along[0]), spacing, total
    spacing = float(np.median(gaps))
    if gaps.max() > (_MOST_MISSING + 1.5) * spacing:
        found = f"a gap of {gaps.max():.1f} mm among slices {spacing:.2f} mm apart"
        raise _refuse("a series without large gaps", found, where, "get the whole series")
    # In step with most slices; the outer planes are those nearest to the outer slices.
    phases = np.sort((along - along[0]) / spacing % 1)
    ends = np.searchsorted(np.concatenate([phases, phases + 1]), phases + _EVEN, side="right")
    phase = phases[int((ends - np.arange(len(phases))).argmax())]
    start = along[0] + (phase if phase < 0.5 else phase - 1) * spacing
    count = int((along[-1] - start) / spacing + 0.5) + 1
    message = (
        f"slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart; the volume has one every "
        f"{spacing:.2f} mm, interpolated where there is none"
    )
    gap = gaps.max() > 1.5 * spacing
    level, hint = ("warning", "look for missing slices") if gap else ("fixed", "")
    findings.append(Finding(level, "dicom-uneven", message, hint))  # type: ignore[arg-type]
    return float(start), spacing, count


def _between(along: NDArray[np.float64], places: NDArray[Any], spacing: float) -> tuple[Plane, ...]:
    """For planes at these places, the slices around each; a slice itself where it is near."""
    planes: list[Plane] = []
    for place in np.clip(places, along[0], along[-1]):
        nearest = int(np.abs(along - place).argmin())
        if abs(along[nearest] - place) <= _EVEN * spacing:
            planes.append((nearest, nearest, 0.0))
            continue
        low = max(0, int(np.searchsorted(along, place, side="right")) - 1)
        share = (place - along[low]) / (along[low + 1] - along[low])
        planes.append((low, low + 1, float(share)))
    return tuple(planes)


def _check_same(one: Slice, other: Slice) -> None:
    """Two slices at one position must be the same picture.

    Raises:
        InputError: they differ.
    """
    if one.shape == other.shape:
        with PixelReader() as pixels:
            first, second = (to_plane(s, pixels.stored(s))[0] for s in (one, other))
        if np.array_equal(first, second):
            return
    raise _refuse(
        "one picture at each position",
        "two that differ: several phases or reconstructions in one series",
        other.item,
        "keep one of them",
    )


def _refuse(
    expected: str, found: str, where: object, remedy: str = "export the series again"
) -> InputError:
    return InputError(expected, found=found, remedy=remedy, where=where)
