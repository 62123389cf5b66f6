"""Anatomies made from label maps: deformed elastically, organs swapped, a body added.

Arrays are [z, y, x], x to the left, y to the back, z upwards (LPS), isotropic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from viscera.core.organs import ORGANS, Organ
from viscera.core.volume import Labels
from viscera.training.synthesis.tissues import TISSUE_CODES, TOTALSEGMENTATOR_TISSUES

_FAT_MM, _WALL_MM = (8.0, 35.0), (6.0, 14.0)
_BACK_MM = 45.0  # from the organs to the skin of the back, less the fat


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A patient without a scan.

    Attributes:
        tissues: [z, y, x] uint8, positions in the table of tissues.
        organs: [z, y, x] uint8, ids of our organs.
        spacing_mm: of all axes.
        missing_organs: organs that the map does not show though the patient has them.
    """

    tissues: NDArray[np.uint8]
    organs: Labels
    spacing_mm: float
    missing_organs: tuple[Organ, ...] = ()


def anatomy_from_labels(
    organs: Labels, total: NDArray[np.uint8] | None, spacing_mm: float
) -> Anatomy:
    """Tissues of a label map.

    Args:
        organs: [z, y, x] ids of our organs.
        total: [z, y, x] TotalSegmentator's classes, where there are any.
        spacing_mm: of all axes.
    """
    tissues = np.full(organs.shape, TISSUE_CODES["air"])
    if total is not None:
        table = np.full(256, TISSUE_CODES["soft"])
        table[0] = TISSUE_CODES["air"]
        for value, tissue in TOTALSEGMENTATOR_TISSUES.items():
            table[value] = TISSUE_CODES[tissue]
        tissues = table[total]
    present = set(np.unique(organs).tolist())
    for organ in ORGANS:
        tissues[organs == organ.id] = TISSUE_CODES[organ.name]
    lacking = tuple(organ for organ in ORGANS if organ.id not in present)
    return Anatomy(tissues, organs, spacing_mm, lacking)


def swap_organ(patient: Anatomy, donor: Anatomy, organ: Organ) -> Anatomy:
    """A patient with one organ of another patient in its place, where only fat or bowel is.

    Args:
        patient: keeps all other tissues.
        donor: gives the organ.
        organ: which.
    """
    target, source = patient.organs == organ.id, donor.organs == organ.id
    if not target.any() or not source.any():
        return patient
    shift = [round(a - b) for a, b in zip(_centre(target), _centre(source), strict=True)]
    voxels = np.argwhere(source) + shift
    voxels = voxels[((voxels >= 0) & (voxels < target.shape)).all(axis=1)]
    transplant = np.zeros_like(target)
    transplant[tuple(voxels.T)] = True
    replaceable = np.isin(
        patient.tissues, [TISSUE_CODES[name] for name in ("fat", "soft", "bowel", "air")]
    )
    transplant &= (replaceable & (patient.organs == 0)) | target
    tissues, organs = patient.tissues.copy(), patient.organs.copy()
    tissues[target], organs[target] = TISSUE_CODES["fat"], 0
    tissues[transplant], organs[transplant] = TISSUE_CODES[organ.name], organ.id
    return Anatomy(tissues, organs, patient.spacing_mm, patient.missing_organs)


def _centre(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.argwhere(mask).mean(axis=0)


def deform(patient: Anatomy, most_mm: float, rng: np.random.Generator) -> Anatomy:
    """The anatomy deformed elastically by a smooth random field; labels of the nearest voxels.

    Args:
        patient: the anatomy.
        most_mm: greatest displacement.
        rng: random numbers.
    """
    shape = patient.organs.shape
    sites = np.indices(shape, dtype=np.float32)
    for axis in range(3):
        coarse = rng.uniform(-1, 1, [max(3, n // 24) for n in shape]) * most_mm / patient.spacing_mm
        scale = [n / m for n, m in zip(shape, coarse.shape, strict=True)]
        sites[axis] += ndimage.zoom(coarse, scale, order=1, mode="nearest", grid_mode=True)
    deformed = [
        ndimage.map_coordinates(part, sites, order=0, mode="constant", cval=0)
        for part in (patient.tissues, patient.organs)
    ]
    return Anatomy(deformed[0], deformed[1], patient.spacing_mm, patient.missing_organs)


def add_body(patient: Anatomy, rng: np.random.Generator) -> Anatomy:
    """The anatomy with fat between the organs, and a wall and fat around them: maps have no skin.

    A map of organs alone gets a trunk around them all, with a spine and back muscles.

    Args:
        patient: the anatomy.
        rng: random numbers.
    """
    pad = round((_FAT_MM[1] + _WALL_MM[1] + _BACK_MM) / patient.spacing_mm) + 2
    widths = ((0, 0), (pad, pad), (pad, pad))
    tissues = np.pad(patient.tissues, widths, constant_values=TISSUE_CODES["air"])
    organs = np.pad(patient.organs, widths)
    empty = tissues == TISSUE_CODES["air"]
    wall, fat = (rng.uniform(*r) / patient.spacing_mm for r in (_WALL_MM, _FAT_MM))
    has_muscle = bool((tissues == TISSUE_CODES["muscle"]).any())
    # Slices are filled one by one: their outline is what encloses all that is shown.
    reach = 40 / patient.spacing_mm
    has_bone = bool((tissues == TISSUE_CODES["bone"]).any())
    trunk = None if has_bone else _trunk(~empty, patient.spacing_mm)
    for z, occupied in enumerate(~empty):
        if not occupied.any():
            continue
        if trunk is None:
            outside_mm = ndimage.distance_transform_edt(~occupied)
            inner = ndimage.binary_fill_holes(outside_mm < reach)
            inner = ndimage.distance_transform_edt(inner) > reach - 1
        else:
            inner, spine, back_muscles = trunk
            tissues[z][back_muscles & ~occupied] = TISSUE_CODES["muscle"]
            tissues[z][spine & ~occupied] = TISSUE_CODES["bone"]
            occupied = occupied | spine | back_muscles
        beyond = ndimage.distance_transform_edt(~inner)
        free = ~occupied
        tissues[z][free & (beyond <= wall + fat)] = TISSUE_CODES["fat"]
        if not has_muscle:
            tissues[z][free & (beyond > 0) & (beyond <= wall)] = TISSUE_CODES["muscle"]
        skin = (beyond > wall + fat - 2 / patient.spacing_mm) & (beyond <= wall + fat)
        tissues[z][free & skin] = TISSUE_CODES["soft"]
    return Anatomy(tissues, organs, patient.spacing_mm, patient.missing_organs)


def _trunk(
    occupied: NDArray[np.bool_], spacing_mm: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """In plane [y, x]: an ellipse around all organs and the back; the spine; muscles beside it."""
    plane: NDArray[np.bool_] = np.asarray(occupied.any(axis=0))
    (top, bottom), (left, right) = (
        (rows[0], rows[-1]) for rows in (np.flatnonzero(plane.any(axis=1 - a)) for a in (0, 1))
    )
    bottom += _BACK_MM / spacing_mm / 2
    y, x = np.ogrid[: plane.shape[0], : plane.shape[1]]
    middle = (top + bottom) / 2, (left + right) / 2
    radii = 1.15 * (bottom - top) / 2, 1.1 * (right - left) / 2
    ellipse = ((y - middle[0]) / radii[0]) ** 2 + ((x - middle[1]) / radii[1]) ** 2 <= 1
    at = bottom - 12 / spacing_mm

    def disc(offset_mm: float, radius_mm: float) -> NDArray[np.bool_]:
        to_x = np.abs(x - middle[1]) - offset_mm / spacing_mm
        return np.asarray((y - at) ** 2 + to_x**2 <= (radius_mm / spacing_mm) ** 2)

    return np.asarray(ellipse), disc(0, 20), disc(38, 22) & ellipse
