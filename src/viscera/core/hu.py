"""Stored numbers to Hounsfield units: scaling, types and broken voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from viscera.errors import InputError
from viscera.findings import Finding

AIR_HU = -1024
_INT16 = np.iinfo(np.int16)


def to_hu(
    stored: NDArray[np.generic], *, slope: float = 1.0, inter: float = 0.0, where: object = None
) -> tuple[NDArray[np.int16] | NDArray[np.float32], list[Finding]]:
    """Apply ``value * slope + inter`` and choose the smallest exact type.

    Whole values that fit come back as int16 (the array itself where nothing had to change), all
    others as float32. Works plane by plane, so that no copy in double precision exists.

    Args:
        stored: [i, j, k], integer or real.
        slope: factor, finite and not 0.
        inter: offset, finite.
        where: file or case, for messages.

    Returns:
        The values, and findings on voxels that were not finite (set to -1024).

    Raises:
        InputError: no real numbers, or more than half of the voxels are not finite.
    """
    if stored.dtype.kind not in "biuf":
        raise InputError(
            "integer or real voxels",
            found=f"voxels of type {stored.dtype}",
            remedy="export the CT as plain intensities, not colour or complex values",
            where=where,
        )
    stored = stored.view(np.uint8) if stored.dtype.kind == "b" else stored
    hu, broken_voxels = convert_to_hu(stored, slope=slope, inter=inter)
    return hu, broken_voxel_findings(broken_voxels, stored.size, where=where)


def convert_to_hu(
    stored: NDArray[np.generic], *, slope: float = 1.0, inter: float = 0.0
) -> tuple[NDArray[np.int16] | NDArray[np.float32], int]:
    """As `to_hu`, for a part of a volume: the number of broken voxels in place of findings.

    Args:
        stored: [i, j, k], integer or real.
        slope: factor, finite and not 0.
        inter: offset, finite.
    """
    if slope == 1.0 and inter == 0.0 and stored.dtype == np.int16 and stored.dtype.isnative:
        return stored, 0  # type: ignore[return-value]
    planes, broken_voxels, is_whole = stored.shape[-1], 0, True
    for k in range(planes):
        values, broken = _plane(stored[..., k], slope, inter)
        broken_voxels += broken
        is_whole = is_whole and bool(
            (values == np.rint(values)).all()
            and values.min(initial=0) >= _INT16.min
            and values.max(initial=0) <= _INT16.max
        )
    result = np.empty(stored.shape, dtype=np.int16 if is_whole else np.float32, order="F")
    for k in range(planes):
        result[..., k] = _plane(stored[..., k], slope, inter)[0]
    return result, broken_voxels


def broken_voxel_findings(broken_voxels: int, voxels: int, *, where: object) -> list[Finding]:
    """What there is to say about voxels that were not finite.

    Args:
        broken_voxels: how many.
        voxels: of how many in the volume.
        where: file or case, for messages.

    Raises:
        InputError: more than half of them.
    """
    if broken_voxels > voxels / 2:
        raise InputError(
            "finite voxel values",
            found=f"{broken_voxels} of {voxels} voxels NaN or infinite",
            remedy="export the CT again",
            where=where,
        )
    if not broken_voxels:
        return []
    message = f"{broken_voxels} voxels were NaN or infinite and were set to {AIR_HU} HU"
    return [Finding("fixed", "voxels-not-finite", message, "check how the CT was exported")]


def _plane(
    stored: NDArray[np.generic], slope: float, inter: float
) -> tuple[NDArray[np.float64], int]:
    """One plane in double precision, its broken voxels set to air, and their number."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored.astype(np.float64) * slope + inter
    broken = ~(np.abs(values) <= np.finfo(np.float32).max)  # NaN fails any comparison
    values[broken] = AIR_HU
    return values, int(broken.sum())
