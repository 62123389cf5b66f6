"""Patients of whom only a label map is known: tissues, bent, mixed, and given a body.

Arrays are [z, y, x], x to the left, y to the back, z upwards (LPS), isotropic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from viscera.organs import ORGANS, Organ
from viscera.training.tissues import CODE, TOTAL
from viscera.volume import Labels

_FAT_MM, _WALL_MM = (8.0, 35.0), (6.0, 14.0)
_BACK_MM = 45.0  # from the organs to the skin of the back, less the fat


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A patient without a scan.

    Attributes:
        tissues: [z, y, x] uint8, positions in the table of tissues.
        organs: [z, y, x] uint8, ids of our organs.
        spacing_mm: of all axes.
        lacking: organs that the map does not show though the patient has them.
    """

    tissues: NDArray[np.uint8]
    organs: Labels
    spacing_mm: float
    lacking: tuple[Organ, ...] = ()


def anatomy_of(organs: Labels, total: NDArray[np.uint8] | None, spacing_mm: float) -> Anatomy:
    """Tissues of a label map.

    Args:
        organs: [z, y, x] ids of our organs.
        total: [z, y, x] TotalSegmentator's classes, where there are any.
        spacing_mm: of all axes.
    """
    tissues = np.full(organs.shape, CODE["air"])
    if total is not None:
        table = np.full(256, CODE["soft"])
        table[0] = CODE["air"]
        for value, tissue in TOTAL.items():
            table[value] = CODE[tissue]
        tissues = table[total]
    present = set(np.unique(organs).tolist())
    for organ in ORGANS:
        tissues[organs == organ.id] = CODE[organ.name]
    lacking = tuple(organ for organ in ORGANS if organ.id not in present)
    return Anatomy(tissues, organs, spacing_mm, lacking)


def swap(patient: Anatomy, donor: Anatomy, organ: Organ) -> Anatomy:
    """Another patient's organ in the place of one's own, where only fat or bowel stands."""
    here, there = patient.organs == organ.id, donor.organs == organ.id
    if not here.any() or not there.any():
        return patient
    shift = [round(a - b) for a, b in zip(_centre(here), _centre(there), strict=True)]
    places = np.argwhere(there) + shift
    places = places[((places >= 0) & (places < here.shape)).all(axis=1)]
    moved = np.zeros_like(here)
    moved[tuple(places.T)] = True
    filling = np.isin(patient.tissues, [CODE[name] for name in ("fat", "soft", "bowel", "air")])
    moved &= (filling & (patient.organs == 0)) | here
    tissues, organs = patient.tissues.copy(), patient.organs.copy()
    tissues[here], organs[here] = CODE["fat"], 0
    tissues[moved], organs[moved] = CODE[organ.name], organ.id
    return Anatomy(tissues, organs, patient.spacing_mm, patient.lacking)


def _centre(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.argwhere(mask).mean(axis=0)


def deformed(patient: Anatomy, most_mm: float, rng: np.random.Generator) -> Anatomy:
    """The patient bent by a smooth random field; nearest voxels, so labels stay labels."""
    shape = patient.organs.shape
    sites = np.indices(shape, dtype=np.float32)
    for axis in range(3):
        coarse = rng.uniform(-1, 1, [max(3, n // 24) for n in shape]) * most_mm / patient.spacing_mm
        scale = [n / m for n, m in zip(shape, coarse.shape, strict=True)]
        sites[axis] += ndimage.zoom(coarse, scale, order=1, mode="nearest", grid_mode=True)
    bent = [
        ndimage.map_coordinates(part, sites, order=0, mode="constant", cval=0)
        for part in (patient.tissues, patient.organs)
    ]
    return Anatomy(bent[0], bent[1], patient.spacing_mm, patient.lacking)


def with_body(patient: Anatomy, rng: np.random.Generator) -> Anatomy:
    """Wall and fat grown around what the map shows, and fat between: maps have no skin.

    A map of organs alone is given a trunk around them all, with a spine and muscles of the back.
    """
    pad = round((_FAT_MM[1] + _WALL_MM[1] + _BACK_MM) / patient.spacing_mm) + 2
    widths = ((0, 0), (pad, pad), (pad, pad))
    tissues = np.pad(patient.tissues, widths, constant_values=CODE["air"])
    organs = np.pad(patient.organs, widths)
    empty = tissues == CODE["air"]
    wall, fat = (rng.uniform(*r) / patient.spacing_mm for r in (_WALL_MM, _FAT_MM))
    has_muscle = bool((tissues == CODE["muscle"]).any())
    # Slices are filled one by one: their outline is what encloses all that is shown.
    reach = 40 / patient.spacing_mm
    has_bone = bool((tissues == CODE["bone"]).any())
    trunk = None if has_bone else _trunk(~empty, patient.spacing_mm)
    for z, shown in enumerate(~empty):
        if not shown.any():
            continue
        if trunk is None:
            outside = ndimage.distance_transform_edt(~shown)
            inner = ndimage.binary_fill_holes(outside < reach)
            inner = ndimage.distance_transform_edt(inner) > reach - 1
        else:
            inner, spine, back = trunk
            tissues[z][back & ~shown] = CODE["muscle"]
            tissues[z][spine & ~shown] = CODE["bone"]
            shown = shown | spine | back
        beyond = ndimage.distance_transform_edt(~inner)
        free = ~shown
        tissues[z][free & (beyond <= wall + fat)] = CODE["fat"]
        if not has_muscle:
            tissues[z][free & (beyond > 0) & (beyond <= wall)] = CODE["muscle"]
        skin = (beyond > wall + fat - 2 / patient.spacing_mm) & (beyond <= wall + fat)
        tissues[z][free & skin] = CODE["soft"]
    return Anatomy(tissues, organs, patient.spacing_mm, patient.lacking)


def _trunk(
    shown: NDArray[np.bool_], spacing_mm: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """In plane [y, x]: an ellipse around all organs and the back; the spine; muscles beside it."""
    plane: NDArray[np.bool_] = np.asarray(shown.any(axis=0))
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
