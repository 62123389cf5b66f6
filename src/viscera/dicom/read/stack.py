"""Slice stack: slices sorted by where they lie, and the regular grid they lie on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.dicom.read.pixels import PixelReader, to_hu_plane
from viscera.dicom.read.slice_spacing import (
    PlaneSource,
    fit_even_grid,
    plane_sources,
    stacking_direction,
)
from viscera.dicom.read.slices import CtSlice
from viscera.errors import InputError
from viscera.findings import Finding

_SAME_MM = 1e-3  # positions closer than this are one
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_EXPORT_AGAIN = "export the series again"


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Slices in the order of their positions, and the planes of a volume made of them.

    Attributes:
        slices: along the normal of their plane, each position once.
        planes: of the volume; the slices each of them is made of.
        affine: [column, row, plane] to RAS millimetres.
        findings: what was noticed, and what was done about it.
    """

    slices: tuple[CtSlice, ...]
    planes: tuple[PlaneSource, ...]
    affine: Affine
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class _Placed:
    """Slices with their places, sorted, each position once.

    Attributes:
        slices: the slices.
        positions_mm: (N, 3) LPS of their first pixels.
        along_mm: (N,) place along their normal, rising.
    """

    slices: tuple[CtSlice, ...]
    positions_mm: NDArray[np.float64]
    along_mm: NDArray[np.float64]


def build_stack(
    slices: Sequence[CtSlice], *, where: object, allow_bad_slices: bool = False
) -> SliceStack:
    """Sort slices by geometry alone and find the regular grid that they lie on.

    Order and numbers in the files do not matter. The tilt of a gantry shows in the positions and
    makes a sheared grid (PS3.3 C.7.6.2).

    Args:
        slices: of one series.
        where: the series, for messages.
        allow_bad_slices: of two slices at one position, one that cannot be decoded is left out.

    Raises:
        InputError: slices that cannot be placed, differ in size or direction, contradict each
            other at one position, or are missing.
    """
    cosines = _common_directions(slices, where)
    normal = np.cross(cosines[0], cosines[1])
    placed = _sort_slices(slices, normal, allow_bad_slices=allow_bad_slices)
    findings: list[Finding] = []
    if duplicates := len(slices) - len(placed.slices):
        message = f"{duplicates} slices are there twice; one of each was kept"
        findings.append(Finding("warning", "dicom-duplicates", message))
    first = placed.slices[0]
    if len(placed.slices) == 1:
        planes: tuple[PlaneSource, ...] = (PlaneSource(0, 0, 0.0),)
        step_mm, origin_mm = normal * (first.thickness_mm or 1.0), placed.positions_mm[0]
    else:
        direction = stacking_direction(placed.along_mm, placed.positions_mm, where)
        grid = fit_even_grid(placed.along_mm, where)
        findings += grid.findings
        planes = plane_sources(placed.along_mm, grid)
        step_mm = direction * grid.spacing_mm
        origin_mm = placed.positions_mm[0] + direction * (grid.start_mm - placed.along_mm[0])
    between_rows_mm, between_columns_mm = first.spacing_mm or (1.0, 1.0)
    matrix = np.eye(4)
    matrix[:3, 0] = cosines[0] * between_columns_mm
    matrix[:3, 1] = cosines[1] * between_rows_mm
    matrix[:3, 2] = step_mm
    matrix[:3, 3] = origin_mm
    matrix[:3] = _LPS_TO_RAS @ matrix[:3]
    return SliceStack(placed.slices, planes, Affine(matrix, where=where), tuple(findings))


def _common_directions(slices: Sequence[CtSlice], where: object) -> NDArray[np.float64]:
    """The directions (2, 3) of a row and of a column that all slices share.

    Raises:
        InputError: some have none, or they differ in direction, size or spacing.
    """
    for ct_slice in slices:
        if ct_slice.position_mm is None or ct_slice.cosines is None:
            raise InputError(
                "ImagePositionPatient and ImageOrientationPatient",
                found="none that can be used to place slices",
                remedy=_EXPORT_AGAIN,
                where=ct_slice.file,
            )
        if ct_slice.spacing_mm is None:
            raise InputError(
                "PixelSpacing",
                found="none that can be used",
                remedy=_EXPORT_AGAIN,
                where=ct_slice.file,
            )
    first = slices[0]
    assert first.cosines is not None
    for ct_slice in slices:
        if np.abs(ct_slice.cosines - first.cosines).max() > 1e-3:  # type: ignore[operator]
            raise InputError(
                "slices of one direction",
                found="several in one series",
                remedy=_EXPORT_AGAIN,
                where=where,
            )
        same_spacing = np.allclose(ct_slice.spacing_mm or 0, first.spacing_mm or 0, rtol=1e-4)
        if ct_slice.shape != first.shape or not same_spacing:
            raise InputError(
                "slices of one size and pixel spacing",
                found="several in one series",
                remedy=_EXPORT_AGAIN,
                where=where,
            )
    return first.cosines


def _sort_slices(
    slices: Sequence[CtSlice], normal: NDArray[np.float64], *, allow_bad_slices: bool
) -> _Placed:
    """The slices along their normal, one at each position.

    Raises:
        InputError: two slices at one position differ, or one of them cannot be decoded.
    """
    positions_mm = np.array([ct_slice.position_mm for ct_slice in slices])
    along_mm = positions_mm @ normal
    chosen: list[int] = []
    with PixelReader() as reader:
        for n in np.argsort(along_mm, kind="stable").tolist():
            if not chosen or abs(along_mm[n] - along_mm[chosen[-1]]) >= _SAME_MM:
                chosen.append(n)
            elif _second_is_better(
                slices[chosen[-1]], slices[n], reader, allow_bad_slices=allow_bad_slices
            ):
                chosen[-1] = n
    return _Placed(tuple(slices[n] for n in chosen), positions_mm[chosen], along_mm[chosen])


def _second_is_better(
    first: CtSlice, second: CtSlice, reader: PixelReader, *, allow_bad_slices: bool
) -> bool:
    """Whether of two slices at one position only the second can be decoded.

    Raises:
        InputError: they differ, or one cannot be decoded.
    """
    planes = []
    for ct_slice in (first, second):
        try:
            planes.append(to_hu_plane(ct_slice, reader.stored(ct_slice)).hu)
        except InputError:
            if not allow_bad_slices:
                raise
            return ct_slice is first
    if np.array_equal(planes[0], planes[1]):
        return False
    raise InputError(
        "one picture at each position",
        found="two that differ: several phases or reconstructions in one series",
        remedy="keep one of them: nothing in their headers tells them apart",
        where=second.file,
    )
