"""Slice spacing: the even grid on which slices lie, or the one nearest to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.errors import InputError
from viscera.findings import Finding

Millimetres = NDArray[np.float64]

_EVEN_SHARE = 0.02  # of the spacing: how far off its place a slice may lie; or
_ROUNDED_MM = 0.06  # this far, which is what positions rounded to a tenth leave
_MOST_MISSING = 2
_OFF_LINE_MM = 0.5


class PlaneSource(NamedTuple):
    """The slices that a plane of the volume is made of.

    Attributes:
        low, high: numbers of the slices around it; the same slice twice where the plane is one.
        share: of the second.
    """

    low: int
    high: int
    share: float


@dataclass(frozen=True)
class EvenGrid:
    """Evenly spaced planes along the normal of the slices.

    Attributes:
        start_mm: place of the first plane along the normal.
        spacing_mm: from plane to plane.
        count: number of planes.
        findings: slices that are missing or lie off the grid.
    """

    start_mm: float
    spacing_mm: float
    count: int
    findings: tuple[Finding, ...] = ()

    def places_mm(self) -> Millimetres:
        """The place of each plane along the normal."""
        return np.asarray(self.start_mm + self.spacing_mm * np.arange(self.count), np.float64)


def stacking_direction(
    along_mm: Millimetres, positions_mm: NDArray[np.float64], where: object
) -> NDArray[np.float64]:
    """The way in LPS for each millimetre along the normal; not the normal itself under tilt.

    Args:
        along_mm: (N,) place of each slice along the normal, rising.
        positions_mm: (N, 3) of each slice in LPS.
        where: series or file, for messages.

    Raises:
        InputError: some slices lie beside the line of the others.
    """
    direction = (positions_mm[-1] - positions_mm[0]) / (along_mm[-1] - along_mm[0])
    off_line_mm = positions_mm - positions_mm[0] - np.outer(along_mm - along_mm[0], direction)
    if np.abs(off_line_mm).max() > _OFF_LINE_MM:
        raise InputError(
            "slices along one line",
            found="some shifted beside it",
            remedy="export the series again",
            where=where,
        )
    return np.asarray(direction)


def fit_even_grid(along_mm: Millimetres, where: object) -> EvenGrid:
    """The even grid on which the slices lie, or on which most of them do.

    Args:
        along_mm: (N,) place of each slice along the normal, rising, at least two.
        where: series or file, for messages.

    Raises:
        InputError: too many slices are missing.
    """
    gaps_mm = np.diff(along_mm)
    spacing_mm = float(np.median(gaps_mm))
    steps = np.rint(gaps_mm / spacing_mm)
    grid = _grid_through_all(along_mm, steps, where) if (steps >= 1).all() else None
    if grid is not None:
        return grid
    if gaps_mm.max() > (_MOST_MISSING + 1.5) * spacing_mm:
        raise InputError(
            "a series without large gaps",
            found=f"a gap of {gaps_mm.max():.1f} mm among slices {spacing_mm:.2f} mm apart",
            remedy="get the whole series",
            where=where,
        )
    return _grid_through_most(along_mm, gaps_mm, spacing_mm)


def _grid_through_all(
    along_mm: Millimetres, steps: NDArray[np.float64], where: object
) -> EvenGrid | None:
    """The grid that every slice lies on, some of its places empty; None where there is none.

    Args:
        along_mm: place of each slice along the normal.
        steps: whole grid steps from each slice to the next.
        where: for messages.
    """
    numbers = np.concatenate([[0.0], np.cumsum(steps)])
    # From end to end; or through all slices, where the places of the ends are rounded.
    from_end_to_end = float(along_mm[-1] - along_mm[0]) / numbers[-1], float(along_mm[0])
    least_squares = np.polyfit(numbers, along_mm, 1).tolist()
    for spacing_mm, start_mm in (from_end_to_end, least_squares):
        off_mm = np.abs(along_mm - start_mm - numbers * spacing_mm)
        if off_mm.max() <= _near_mm(spacing_mm):
            count = int(numbers[-1]) + 1
            findings = _missing_findings(count - len(along_mm), count, where)
            return EvenGrid(start_mm, spacing_mm, count, findings)
    return None


def _grid_through_most(along_mm: Millimetres, gaps_mm: Millimetres, spacing_mm: float) -> EvenGrid:
    """The grid in step with most slices; its ends are the planes nearest to the outer slices."""
    phases = np.sort((along_mm - along_mm[0]) / spacing_mm % 1)
    # Phases lie on a circle: the second round finds the groups that begin at its end.
    circle = np.concatenate([phases, phases + 1])
    ends = np.searchsorted(circle, phases + _near_mm(spacing_mm) / spacing_mm, side="right")
    phase = phases[int((ends - np.arange(len(phases))).argmax())]
    start_mm = along_mm[0] + (phase if phase < 0.5 else phase - 1) * spacing_mm
    count = int((along_mm[-1] - start_mm) / spacing_mm + 0.5) + 1
    message = (
        f"slices lie {gaps_mm.min():.2f} to {gaps_mm.max():.2f} mm apart; the volume has one "
        f"every {spacing_mm:.2f} mm, interpolated where there is none"
    )
    if gaps_mm.max() > 1.5 * spacing_mm:
        finding = Finding("warning", "dicom-uneven", message, "look for missing slices")
    else:
        finding = Finding("fixed", "dicom-uneven", message)
    return EvenGrid(float(start_mm), spacing_mm, count, (finding,))


def _missing_findings(missing: int, count: int, where: object) -> tuple[Finding, ...]:
    """Refuse or note that slices of an otherwise even series are missing."""
    if missing > _MOST_MISSING:
        raise InputError(
            f"a series with at most {_MOST_MISSING} slices missing",
            found=f"{missing} of {count} missing",
            remedy="get the whole series",
            where=where,
        )
    if not missing:
        return ()
    message = f"{missing} of {count} slices are missing and were interpolated"
    return (Finding("warning", "dicom-gap", message, "get the whole series"),)


def plane_sources(along_mm: Millimetres, grid: EvenGrid) -> tuple[PlaneSource, ...]:
    """For each plane of a grid, the slices around it; the slice itself where one is near.

    Args:
        along_mm: (N,) place of each slice along the normal, rising.
        grid: the planes.
    """
    sources = []
    for place_mm in np.clip(grid.places_mm(), along_mm[0], along_mm[-1]):
        nearest = int(np.abs(along_mm - place_mm).argmin())
        if abs(along_mm[nearest] - place_mm) <= _near_mm(grid.spacing_mm):
            sources.append(PlaneSource(nearest, nearest, 0.0))
            continue
        low = max(0, int(np.searchsorted(along_mm, place_mm, side="right")) - 1)
        share = (place_mm - along_mm[low]) / (along_mm[low + 1] - along_mm[low])
        sources.append(PlaneSource(low, low + 1, float(share)))
    return tuple(sources)


def _near_mm(spacing_mm: float) -> float:
    """How far off its place a slice may lie."""
    return max(_EVEN_SHARE * spacing_mm, min(_ROUNDED_MM, spacing_mm / 4))
