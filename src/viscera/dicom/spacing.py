"""Spacing: the even grid on which slices lie, or come nearest to lying."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.errors import InputError
from viscera.findings import Finding

_EVEN = 0.02  # of the spacing: how far off its place a slice may lie; or
_ROUNDED_MM = 0.06  # so far, which is what positions rounded to a tenth leave
_MOST_MISSING = 2
_OFF_LINE_MM = 0.5

# The two slices that a plane lies between, and the share of the second.
Plane = tuple[int, int, float]


def line_of(
    along: NDArray[np.float64], positions: NDArray[np.float64], where: object
) -> NDArray[np.float64]:
    """The way in LPS for each millimetre along the normal.

    Raises:
        InputError: some slices lie beside the line of the others.
    """
    direction = (positions[-1] - positions[0]) / (along[-1] - along[0])
    off_line = positions - positions[0] - np.outer(along - along[0], direction)
    if np.abs(off_line).max() > _OFF_LINE_MM:
        raise refuse_series("slices along one line", "some shifted beside it", where)
    return np.asarray(direction)


def even_grid(
    along: NDArray[np.float64], findings: list[Finding], where: object
) -> tuple[float, float, int]:
    """The even grid on which most slices lie: its first plane, its spacing, its number of planes.

    Args:
        along: millimetres of each slice along their normal, rising.
        findings: takes what was noticed.
        where: for messages.

    Raises:
        InputError: too many slices are missing.
    """
    gaps = np.diff(along)
    spacing = float(np.median(gaps))
    steps = np.rint(gaps / spacing)
    if (steps >= 1).all():
        numbers = np.concatenate([[0.0], np.cumsum(steps)])
        total = int(numbers[-1]) + 1
        # From end to end; or through all of them, where the ends' own places are rounded.
        ends = float(along[-1] - along[0]) / numbers[-1], float(along[0])
        for fitted, start in (ends, np.polyfit(numbers, along, 1).tolist()):
            if np.abs(along - start - numbers * fitted).max() <= _near_mm(fitted):
                _note_missing(total - len(along), total, findings, where)
                return start, fitted, total
    if gaps.max() > (_MOST_MISSING + 1.5) * spacing:
        found = f"a gap of {gaps.max():.1f} mm among slices {spacing:.2f} mm apart"
        raise refuse_series("a series without large gaps", found, where, "get the whole series")
    # In step with most slices; the outer planes are those nearest to the outer slices.
    phases = np.sort((along - along[0]) / spacing % 1)
    around = np.concatenate([phases, phases + 1])
    upto = np.searchsorted(around, phases + _near_mm(spacing) / spacing, side="right")
    phase = phases[int((upto - np.arange(len(phases))).argmax())]
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


def _note_missing(missing: int, total: int, findings: list[Finding], where: object) -> None:
    """Refuse or note that slices of an otherwise even series are not there."""
    if missing > _MOST_MISSING:
        raise refuse_series(
            f"a series with at most {_MOST_MISSING} slices missing",
            f"{missing} of {total} missing",
            where,
            "get the whole series",
        )
    if missing:
        message = f"{missing} of {total} slices are missing and were interpolated"
        findings.append(Finding("warning", "dicom-gap", message, "get the whole series"))


def planes_between(
    along: NDArray[np.float64], places: NDArray[Any], spacing: float
) -> tuple[Plane, ...]:
    """For planes at these places, the slices around each; a slice itself where it is near."""
    planes: list[Plane] = []
    for place in np.clip(places, along[0], along[-1]):
        nearest = int(np.abs(along - place).argmin())
        if abs(along[nearest] - place) <= _near_mm(spacing):
            planes.append((nearest, nearest, 0.0))
            continue
        low = max(0, int(np.searchsorted(along, place, side="right")) - 1)
        share = (place - along[low]) / (along[low + 1] - along[low])
        planes.append((low, low + 1, float(share)))
    return tuple(planes)


def _near_mm(spacing_mm: float) -> float:
    """How far off its place a slice may lie."""
    return max(_EVEN * spacing_mm, min(_ROUNDED_MM, spacing_mm / 4))


def refuse_series(
    expected: str, found: str, where: object, remedy: str = "export the series again"
) -> InputError:
    """The error of a series whose slices make no volume."""
    return InputError(expected, found=found, remedy=remedy, where=where)
