"""Checks of a volume before it is segmented: is this a CT at all, and does its grid make sense?"""

from __future__ import annotations

import numpy as np

from viscera.core.volume import Hu, Volume
from viscera.errors import InputError, option
from viscera.findings import Finding
from viscera.localise.hu_judge import judge_intensities

SHEAR_LIMIT_DEG = 1.0
_OBLIQUE_DEG = 5.0
_FEW_SLICES = 8
_USUAL_SPACING_MM = (0.2, 15.0)
_WIDEST_MM, _NARROWEST_MM = 3000.0, 20.0
_MOST_LABELS = 128  # fewer distinct whole values than this are a label map
_EQUAL_NEIGHBOURS = 0.5  # share of pairs in a label map, at least
_SAMPLED_ALONG_AXIS = 128
# What tools write that have lost the geometry on the way, in RAS or in LPS.
_NO_GEOMETRY = "that of 1 mm voxels at the origin, which tools write for want of another"


def check_volume(volume: Volume, *, strict: bool = False) -> list[Finding]:
    """Everything about a volume that a reader of the result should know.

    Args:
        volume: the CT.
        strict: refuse a sheared grid, lost geometry and values that are no HU.

    Raises:
        InputError: it is a label map, its extent is absurd, or, when strict, its grid is sheared
            or its values are no HU.
    """
    step_i, step_j, step_k = (max(1, n // _SAMPLED_ALONG_AXIS) for n in volume.shape)
    # Every axis in steps of its own: one stride over all would meet the same columns again.
    sample = volume.data[::step_i, ::step_j, ::step_k].T
    grid_findings = check_grid(volume, strict=strict)
    return [*grid_findings, *check_values(sample, where=volume.name, strict=strict)]


def check_grid(volume: Volume, *, strict: bool = False) -> list[Finding]:
    """What a reader should know about a volume's grid, before a voxel is read.

    Args:
        volume: the CT.
        strict: refuse a sheared grid and one without geometry instead of noting it.

    Raises:
        InputError: its extent is absurd, or, when strict, it is sheared or without geometry.
    """
    affine, findings = volume.affine, []
    spacing = " x ".join(f"{s:.3g}" for s in affine.spacing_mm)
    extent = [s * n for s, n in zip(affine.spacing_mm, volume.shape, strict=True)]
    if max(extent) > _WIDEST_MM or max(extent) < _NARROWEST_MM:
        raise InputError(
            f"a scan between {_NARROWEST_MM:.0f} and {_WIDEST_MM:.0f} mm in size",
            found=f"{' x '.join(f'{e:.4g}' for e in extent)} mm",
            remedy="correct the spacing or the units in the header",
            where=volume.name,
        )
    if np.array_equal(np.abs(affine.matrix), np.eye(4)):
        if strict:
            raise InputError(
                "the scan's own affine",
                found=_NO_GEOMETRY,
                remedy=f"correct the header, or leave out {option('strict')}",
                where=volume.name,
            )
        hint = "check spacing, volumes, and left and right"
        findings.append(Finding("warning", "geometry-lost", f"the affine is {_NO_GEOMETRY}", hint))
    low, high = _USUAL_SPACING_MM
    if min(affine.spacing_mm) < low or max(affine.spacing_mm) > high:
        message = f"voxels of {spacing} mm are unusual for a CT"
        findings.append(
            Finding("warning", "spacing-unusual", message, "check the header's spacing")
        )
    if min(volume.shape) < _FEW_SLICES:
        message = f"only {min(volume.shape)} voxels along one axis"
        hint = "organs that are cut off are found less reliably"
        findings.append(Finding("warning", "few-slices", message, hint))
    if affine.shear_deg > SHEAR_LIMIT_DEG:
        if strict:
            raise InputError(
                "a grid with right angles",
                found=f"a shear of {affine.shear_deg:.1f} degrees",
                remedy=f"leave out {option('strict')} to have it resampled",
                where=volume.name,
            )
        message = f"the grid is sheared by {affine.shear_deg:.1f} degrees and was resampled"
        hint = (
            "ITK-SNAP, SimpleITK and others that use ITK open no sheared NIfTI: take "
            f"{option('output_types', 'seg_nrrd')} for them, or dicom_seg"
        )
        findings.append(Finding("warning", "sheared", message, hint))
    elif affine.obliquity_deg > _OBLIQUE_DEG:
        message = (
            f"the grid is turned by {affine.obliquity_deg:.0f} degrees; nearest axes were used"
        )
        findings.append(Finding("warning", "oblique", message, "look at the preview"))
    return findings


def check_values(hu: Hu, *, where: object, strict: bool = False) -> list[Finding]:
    """What there is to say about intensities.

    Args:
        hu: [z, y, x], all voxels or an even selection.
        where: the case, for messages.
        strict: refuse values that do not look like HU instead of noting them.

    Raises:
        InputError: it is a label map; or, when strict, these are no HU.
    """
    values = np.unique(hu)
    low, high = float(values[0]), float(values[-1])
    is_whole = hu.dtype.kind == "i"
    few = is_whole and low >= 0 and high <= 255 and 2 <= values.size < _MOST_LABELS
    if few and _is_piecewise_constant(hu, low, high):
        raise InputError(
            "a CT in HU",
            found=f"what looks like a label map ({values.size} whole values, {low:g} to {high:g})",
            remedy="pass the CT itself",
            where=where,
        )
    findings = judge_intensities(hu)
    if strict and findings:
        raise InputError(
            "a CT in HU",
            found=findings[0].raw_message,
            remedy=f"{findings[0].raw_hint}, or leave out {option('strict')}",
            where=where,
        )
    return findings


def _is_piecewise_constant(hu: Hu, low: float, high: float) -> bool:
    """Whether neighbours mostly have the same value, those at both ends left aside.

    A CT that was windowed to a few values is alike at its ends only.
    """
    left, right = hu[..., :-1], hu[..., 1:]
    between = (left > low) & (left < high) & (right > low) & (right < high)
    pairs = int(np.count_nonzero(between))
    equal = int(np.count_nonzero(between & (left == right)))
    return pairs == 0 or equal > _EQUAL_NEIGHBOURS * pairs
