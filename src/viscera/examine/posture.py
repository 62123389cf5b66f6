"""How the patient lies in the scan: mirrored, upside down, back to front, prone, arms down."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from viscera.core.organs import ORGANS_BY_NAME
from viscera.findings import Finding
from viscera.localise.body import filled_body
from viscera.localise.overview import DENSE_HU

Mask = NDArray[np.bool_]
_LUNG_HU = (-950.0, -600.0)
_BONE_HU, _DENSE_BONE_HU = 250.0, 400.0
_LEAST_BONE = 30  # voxels of the overview
_LEAST_LUNG_ML = 150.0
_APART_MM = 30.0  # between centres, so that their order is no chance
_OFF_MIDDLE_MM = 20.0  # a liver's centre lies well to the right of the body's middle
_LEAST_ORGAN_ML = 50.0
_FRONT_SHARE = 0.45  # of the body's depth: a spine lies further back
_ARM_CM2 = (12.0, 130.0)  # of an arm in an axial slice
_SKIN_MM = 14.0  # what `body` leaves out of the body itself, and folds of clothes
_ARM_SLICES = 0.3  # of the slices, at least


def posture_findings(
    hu: NDArray[np.number],
    labels: NDArray[np.uint8],
    body: Mask,
    lungs: Mask,
    spacing_mm: Sequence[float],
    *,
    cut_organs: Collection[str],
) -> list[Finding]:
    """What is unusual about how the patient lies.

    Args:
        hu: [z, y, x] of an overview; x runs to the patient's left, y to the back, z to the head.
        labels: [z, y, x] at the same voxels.
        body: [z, y, x] the body without table and clothes.
        lungs: [z, y, x].
        spacing_mm: z, y, x.
        cut_organs: names of those that the scan cuts: where their middle lies tells nothing.
    """
    findings = []
    centres = _centres_mm(labels, spacing_mm)
    liver, spleen = centres.get("liver"), centres.get("spleen")
    columns = np.flatnonzero(body.any(axis=(0, 1)))
    middle_mm = float(columns.mean() * spacing_mm[2]) if columns.size else 0.0
    is_left = liver is not None and liver[2] - middle_mm > _OFF_MIDDLE_MM
    if liver is not None and spleen is not None:
        is_left = is_left or liver[2] - spleen[2] > _APART_MM
    if is_left:
        message = "the liver lies on the patient's left"
        hint = "left and right may be exchanged in the file; if not, it is a situs inversus"
        findings.append(Finding("warning", "mirrored", message, hint))
    whole = {name: centre for name, centre in centres.items() if name not in cut_organs}
    kidneys = [whole[name] for name in ("kidney_right", "kidney_left") if name in whole]
    upper = [whole[name] for name in ("liver", "spleen") if name in whole]
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    heights = []  # of what lies high less what lies low
    if kidneys and upper:
        heights.append(np.mean([c[0] for c in upper]) - np.mean([c[0] for c in kidneys]))
    if lungs.sum() * voxel_ml >= _LEAST_LUNG_ML and (upper or kidneys):
        organs_mm = np.mean([c[0] for c in (*upper, *kidneys)])
        heights.append(_centre_mm(lungs, spacing_mm)[0] - organs_mm)
    if heights and all(height < -_APART_MM for height in heights):
        message = "head and feet seem to be exchanged: the lungs or the liver lie below the kidneys"
        findings.append(Finding("warning", "upside-down", message, "check the header's axes"))
    findings += _spine_findings(hu, body, spacing_mm)
    if _arms_share(hu, spacing_mm) >= _ARM_SLICES:
        message = "the arms lie beside the body"
        hint = "they darken the organs between them with streaks"
        findings.append(Finding("info", "arms-down", message, hint))
    return findings


def lung_mask(hu: NDArray[np.number], body: Mask) -> Mask:
    """What has the HU of lungs within the body's outline, its neighbours in the slice included.

    The borders of gas in bowel have such values too, and are thin.

    Args:
        hu: [z, y, x].
        body: [z, y, x].
    """
    low, high = _LUNG_HU
    mask = filled_body(body) & (hu > low) & (hu < high)
    inner = mask.copy()
    for axis in (1, 2):
        lines, source = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        lines[1:] &= source[:-1]
        lines[:-1] &= source[1:]
    return inner


def _spine_findings(
    hu: NDArray[np.number], body: Mask, spacing_mm: Sequence[float]
) -> list[Finding]:
    """Whether the spine lies at the front, or the table does."""
    # Some scans were clipped below what bone has; in others contrast is as bright as thin bone.
    bone = body & (hu > _DENSE_BONE_HU)
    if bone.sum() < _LEAST_BONE:
        bone = body & (hu > _BONE_HU)
    middle = np.zeros_like(bone)
    columns = np.flatnonzero(body.any(axis=(0, 1)))
    if not columns.size or not bone.any():
        return []
    centre, reach = int(columns.mean()), max(1, round(40 / spacing_mm[2]))
    middle[..., max(0, centre - reach) : centre + reach + 1] = True
    spine = bone & middle
    if spine.sum() < _LEAST_BONE:
        return []
    rows = np.flatnonzero(body.any(axis=(0, 2)))
    depth = (np.argwhere(spine)[:, 1].mean() - rows[0]) / max(rows[-1] - rows[0], 1)
    if depth < _FRONT_SHARE:
        message = "the spine lies at the front of the body: front and back seem to be exchanged"
        return [Finding("warning", "back-to-front", message, "check the header's axes")]
    dense = (hu > -700) & ~body
    skin = round(_SKIN_MM / spacing_mm[1])
    in_front = dense[:, : max(0, rows[0] - skin)].sum()
    behind = dense[:, rows[-1] + 1 + skin :].sum()
    if in_front > 200 and in_front > 5 * behind:
        message = "the patient seems to lie prone: the table is at the front"
        hint = "organs sink forwards; volumes are as reliable as supine"
        return [Finding("info", "prone", message, hint)]
    return []


def _arms_share(hu: NDArray[np.number], spacing_mm: Sequence[float]) -> float:
    """The share of slices in which an arm lies beside the trunk: a piece apart, with bone in it."""
    import cc3d  # slow to import

    pixel_cm2 = spacing_mm[1] * spacing_mm[2] / 100
    slices = 0
    for values in hu:
        pieces, count = cc3d.connected_components(
            np.ascontiguousarray(values > DENSE_HU).view(np.uint8), connectivity=4, return_N=True
        )
        if count < 2:
            continue
        areas = np.bincount(pieces.ravel())[1:] * pixel_cm2
        trunk = np.flatnonzero((pieces == areas.argmax() + 1).any(axis=0))
        for number in np.flatnonzero((areas > _ARM_CM2[0]) & (areas < _ARM_CM2[1])):
            piece = pieces == number + 1
            column = np.flatnonzero(piece.any(axis=0)).mean()
            is_beside = not trunk[0] < column < trunk[-1]  # a table lies below
            if is_beside and (values[piece] > _BONE_HU).any():
                slices += 1
                break
    return slices / len(hu)


def _centres_mm(
    labels: NDArray[np.uint8], spacing_mm: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """The centre [z, y, x] of the large organs that are seen."""
    least = _LEAST_ORGAN_ML * 1000 / float(np.prod(spacing_mm))
    centres = {}
    for name in ("liver", "spleen", "kidney_right", "kidney_left"):
        mask = labels == ORGANS_BY_NAME[name].id
        if mask.sum() >= least:
            centres[name] = _centre_mm(mask, spacing_mm)
    return centres


def _centre_mm(mask: Mask, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray(np.argwhere(mask).mean(axis=0) * np.array(spacing_mm))
