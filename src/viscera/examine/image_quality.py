"""Noise, metal, and a field of view that cuts the body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from viscera.core.organs import ORGANS_BY_ID, ORGANS_BY_NAME
from viscera.findings import Finding

Mask = NDArray[np.bool_]
METAL_HU = 2500.0
_LEAST_METAL_VOXELS = 3  # of the overview; less may be a calcified vessel or a tooth's rim
_NOISY_HU = 40.0  # beyond, small organs are found less reliably
_LEAST_VOXELS = 300
_SOFT_HU = (0.0, 200.0)
_THICK_MM = 6.0
_CUT_SHARE = 0.12  # of the rows or columns of an outermost line
_MAD_TO_SD = 1.4826


def noise_hu(hu: NDArray[np.number], labels: NDArray[np.uint8], body: Mask) -> float | None:
    """The standard deviation of the noise, HU.

    From differences of neighbours within the liver, or within soft tissue where there is none: the
    overview's voxels lie some pixels apart, so that their noise is independent.

    Args:
        hu: [z, y, x] of an overview.
        labels: [z, y, x] at the same voxels.
        body: [z, y, x].
    """
    for mask in (labels == ORGANS_BY_NAME["liver"].id, _soft_tissue(hu, body)):
        pairs = mask[..., 1:] & mask[..., :-1]
        if pairs.sum() >= _LEAST_VOXELS:
            difference = np.diff(hu.astype(np.float32), axis=2)[pairs]
            spread = float(np.median(np.abs(difference - np.median(difference))))
            return round(spread * _MAD_TO_SD / 2**0.5, 1)
    return None


def quality_findings(
    hu: NDArray[np.number],
    labels: NDArray[np.uint8],
    body: Mask,
    spacing_mm: Sequence[float],
    *,
    noise: float | None,
    slice_mm: float,
) -> list[Finding]:
    """What is unusual about the picture.

    Args:
        hu: [z, y, x] of an overview.
        labels: [z, y, x] at the same voxels.
        body: [z, y, x].
        spacing_mm: z, y, x of the overview.
        noise: HU, see `noise_hu`.
        slice_mm: distance of the scan's slices.
    """
    findings = []
    if noise is not None and noise > _NOISY_HU:
        message = f"the scan is noisy: {noise:.0f} HU"
        hint = "small organs are found less reliably"
        findings.append(Finding("warning", "noisy", message, hint))
    if slice_mm > _THICK_MM:
        message = f"slices are {slice_mm:.3g} mm apart"
        hint = "small organs and their volumes are less reliable; take thinner slices if there are"
        findings.append(Finding("info", "thick-slices", message, hint))
    metal = hu > METAL_HU
    if metal.sum() >= _LEAST_METAL_VOXELS:
        beside = [ORGANS_BY_ID[n].name for n in _organs_beside(metal, labels, spacing_mm)]
        near = f", near {', '.join(beside)}" if beside else ""
        message = f"metal in the scan{near}"
        hint = "streaks around it may spoil organs"
        level = "warning" if beside else "info"
        findings.append(Finding(level, "metal", message, hint))  # type: ignore[arg-type]
    sides = _cut_sides(body)
    if sides:
        message = f"the field of view cuts the body at the {' and '.join(sides)}"
        findings.append(Finding("info", "field-of-view", message, "organs there may be incomplete"))
    return findings


def _soft_tissue(hu: NDArray[np.number], body: Mask) -> Mask:
    low, high = _SOFT_HU
    return np.asarray(body & (hu > low) & (hu < high))


def _organs_beside(
    metal: Mask, labels: NDArray[np.uint8], spacing_mm: Sequence[float]
) -> list[int]:
    """Labels within 25 mm of the metal in its slices."""
    near = metal.copy()
    for axis, step_mm in zip((1, 2), spacing_mm[1:], strict=True):
        reach = round(25 / step_mm)
        grown = near.copy()
        for shift in range(1, reach + 1):
            lines, source = np.moveaxis(grown, axis, 0), np.moveaxis(near, axis, 0)
            lines[shift:] |= source[:-shift]
            lines[:-shift] |= source[shift:]
        near = grown
    return [int(n) for n in np.unique(labels[near]) if n]


def _cut_sides(body: Mask) -> list[str]:
    """Where the body reaches the picture's edge, in the patient's own directions."""
    edges = {
        "right": body[:, :, 0],
        "left": body[:, :, -1],
        "front": body[:, 0],
        "back": body[:, -1],
    }
    return [side for side, edge in edges.items() if edge.mean() > _CUT_SHARE]
