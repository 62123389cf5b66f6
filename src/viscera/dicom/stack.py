"""Stack: slices sorted by where they lie, on one regular grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.dicom.pixels import PixelReader, to_plane
from viscera.dicom.slices import Slice
from viscera.dicom.spacing import Plane, even_grid, line_of, planes_between, refuse_series
from viscera.errors import InputError
from viscera.findings import Finding

_SAME_MM = 1e-3  # positions closer than this are one
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


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


def stack(slices: Sequence[Slice], *, where: object, allow_bad: bool = False) -> Stack:
    """Sort slices by geometry alone and find the regular grid that they lie on.

    Order and numbers in the files do not matter. A gantry's tilt shows in the positions and makes
    a sheared grid (PS3.3 C.7.6.2).

    Args:
        slices: of one series.
        where: for messages.
        allow_bad: of two slices at one position, one that cannot be decoded is left out.

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
    with PixelReader() as pixels:
        for n in order:
            if kept and abs(along[n] - along[kept[-1]]) < _SAME_MM:
                if _first_is_bad(slices[kept[-1]], slices[n], pixels, allow_bad=allow_bad):
                    kept[-1] = int(n)
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
        direction = line_of(along, positions, where)  # a millimetre along the normal
        start, spacing, numbers = even_grid(along, findings, where)
        planes = planes_between(along, start + spacing * np.arange(numbers), spacing)
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
            raise refuse_series("ImagePositionPatient and ImageOrientationPatient", "none of use: "
                          "cannot place slices", one.item)  # fmt: skip
        if one.spacing_mm is None:
            raise refuse_series("PixelSpacing", "none of use", one.item)
    first = slices[0]
    assert first.cosines is not None
    for one in slices:
        if np.abs(one.cosines - first.cosines).max() > 1e-3:  # type: ignore[operator]
            raise refuse_series("slices of one direction", "several in one series", where)
        if one.shape != first.shape or not np.allclose(
            one.spacing_mm or 0, first.spacing_mm or 0, rtol=1e-4
        ):
            raise refuse_series(
                "slices of one size and pixel spacing", "several in one series", where
            )
    return first.cosines


def _first_is_bad(one: Slice, other: Slice, pixels: PixelReader, *, allow_bad: bool) -> bool:
    """Whether of two slices at one position the second must be kept: they must be one picture.

    Raises:
        InputError: they differ, or one cannot be decoded.
    """
    planes = []
    for each in (one, other):
        try:
            planes.append(to_plane(each, pixels.stored(each))[0])
        except InputError:
            if not allow_bad:
                raise
            return each is one
    if np.array_equal(planes[0], planes[1]):
        return False
    raise refuse_series(
        "one picture at each position",
        "two that differ: several phases or reconstructions in one series",
        other.item,
        "keep one of them",
    )
