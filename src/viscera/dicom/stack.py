"""Stack: slices sorted by where they lie, on one regular grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in the order of their positions, and the planes of a volume made of them.

    Attributes:
        slices: along the normal of their plane, each position once.
        planes: for each plane of the volume, the two slices it lies between and the share of the
            second; both are one where it is that slice.
        affine: [column, row, plane] to RAS millimetres.
        findings: what was noticed, and what was done about it.
    """

    slices: tuple[Slice, ...]
    planes: tuple[tuple[int, int, float], ...]
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
    planes, step = _planes(along, positions, slices[0], findings, where)
    matrix = np.eye(4)
    matrix[:3, 0] = cosines[0] * spacing_columns
    matrix[:3, 1] = cosines[1] * spacing_rows
    matrix[:3, 2] = normal * step if step.ndim == 0 else step
    matrix[:3, 3] = positions[0]
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


def _planes(
    along: NDArray[np.float64],
    positions: NDArray[np.float64],
    first: Slice,
    findings: list[Finding],
    where: object,
) -> tuple[tuple[tuple[int, int, float], ...], NDArray[np.float64]]:
    """Which slices each plane of a regular grid is made of, and its step in millimetres.

    The step is a vector in LPS, or a number along the normal where there is but one slice.
    """
    count = len(along)
    if count == 1:
        return ((0, 0, 0.0),), np.asarray(first.thickness_mm or 1.0)
    gaps = np.diff(along)
    spacing = float(np.median(gaps))
    numbers = np.rint((along - along[0]) / spacing)
    total = along[-1] - along[0]
    if numbers[-1] >= 1:
        spacing = total / numbers[-1]
        numbers = np.rint((along - along[0]) / spacing)
    direction = (positions[-1] - positions[0]) / total  # a millimetre along the normal
    off_line = positions - positions[0] - np.outer(along - along[0], direction)
    if np.abs(off_line).max() > 0.5:
        raise _refuse("slices along one line", "some shifted beside it", where)
    even = np.abs((along - along[0]) / spacing - numbers).max() <= _EVEN
    missing = int(numbers[-1]) + 1 - count
    if even and (np.diff(numbers) >= 1).all():
        if missing > _MOST_MISSING:
            raise _refuse(
                f"a series with at most {_MOST_MISSING} slices missing",
                f"{missing} of {count + missing} missing",
                where,
                "get the whole series",
            )
        if missing:
            message = f"{missing} of {count + missing} slices are missing and were interpolated"
            findings.append(Finding("warning", "dicom-gap", message, "get the whole series"))
    else:
        if gaps.max() > (_MOST_MISSING + 1.5) * spacing:
            found = f"a gap of {gaps.max():.1f} mm among slices {spacing:.2f} mm apart"
            raise _refuse("a series without large gaps", found, where, "get the whole series")
        spacing = float(np.median(gaps))
        message = (
            f"slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart; the volume has them "
            f"interpolated every {spacing:.2f} mm"
        )
        findings.append(Finding("fixed", "dicom-uneven", message))
    return _between(along, spacing), direction * spacing


def _between(along: NDArray[np.float64], spacing: float) -> tuple[tuple[int, int, float], ...]:
    """For each plane every `spacing`, the slices around it; a slice itself where it is near."""
    count = int(np.floor((along[-1] - along[0]) / spacing + 0.5)) + 1
    planes = []
    for n in range(count):
        at = min(along[0] + n * spacing, along[-1])
        nearest = int(np.abs(along - at).argmin())
        if abs(along[nearest] - at) <= _EVEN * spacing:
            planes.append((nearest, nearest, 0.0))
            continue
        low = max(0, int(np.searchsorted(along, at, side="right")) - 1)
        share = (at - along[low]) / (along[low + 1] - along[low])
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
