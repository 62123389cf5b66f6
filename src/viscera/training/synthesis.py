"""CT from label maps: SynthSeg's idea (Billot et al., 2023) with the physics of CT.

A label map without its scan still knows anatomy. Here it is given tissues with HU of a contrast
phase and textures of real scans, contents and gas in hollow organs, fat and skin where the map
ends, a table, and a scanner: blur, thick slices, correlated noise, a field of view. Arrays are
[z, y, x], x to the left, y to the back, z upwards (LPS), isotropic.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from viscera.affine import Affine
from viscera.organs import BY_NAME, ORGANS, Organ
from viscera.training.tissues import HOLLOW, HU, PHASES, TOTAL, Textures, drawn_hu
from viscera.volume import Labels, Volume

Hu = NDArray[np.float32]
_TISSUES = tuple(HU)
_CODE = {name: np.uint8(code) for code, name in enumerate(_TISSUES)}
_FAT_MM, _WALL_MM, _SHELL_MM = (8.0, 35.0), (6.0, 14.0), 3.0
_TABLE_HU = -250.0
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


@dataclass(frozen=True)
class Scanner:
    """How a synthetic patient is scanned; ranges are drawn from evenly.

    Attributes:
        slice_mm: thickness and distance of slices.
        noise_hu: standard deviation in a slice of 5 mm; thinner slices are noisier.
        blur: sigma of the kernel, voxels.
        field_of_view: share of scans whose field of view cuts the body.
    """

    slice_mm: tuple[float, float] = (1.5, 8.0)
    noise_hu: tuple[float, float] = (4.0, 18.0)
    blur: tuple[float, float] = (0.4, 0.9)
    field_of_view: float = 0.2


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A made CT and what is in it."""

    volume: Volume
    labels: Labels
    provenance: dict[str, str] = field(default_factory=dict)


def anatomy_of(organs: Labels, total: NDArray[np.uint8] | None, spacing_mm: float) -> Anatomy:
    """Tissues of a label map.

    Args:
        organs: [z, y, x] ids of our organs.
        total: [z, y, x] TotalSegmentator's classes, where there are any.
        spacing_mm: of all axes.
    """
    tissues = np.full(organs.shape, _CODE["air"])
    if total is not None:
        table = np.full(256, _CODE["soft"])
        table[0] = _CODE["air"]
        for value, tissue in TOTAL.items():
            table[value] = _CODE[tissue]
        tissues = table[total]
    present = set(np.unique(organs).tolist())
    for organ in ORGANS:
        tissues[organs == organ.id] = _CODE[organ.name]
    lacking = tuple(organ for organ in ORGANS if organ.id not in present)
    return Anatomy(tissues, organs, spacing_mm, lacking)


def swap(patient: Anatomy, donor: Anatomy, organ: Organ) -> Anatomy:
    """Another patient's organ in the place of one's own, where nothing of ours stands."""
    here, there = patient.organs == organ.id, donor.organs == organ.id
    if not here.any() or not there.any():
        return patient
    shift = [round(a - b) for a, b in zip(_centre(here), _centre(there), strict=True)]
    places = np.argwhere(there) + shift
    places = places[((places >= 0) & (places < here.shape)).all(axis=1)]
    moved = np.zeros_like(here)
    moved[tuple(places.T)] = True
    moved &= (patient.organs == 0) | here
    tissues, organs = patient.tissues.copy(), patient.organs.copy()
    tissues[here], organs[here] = _CODE["fat"], 0
    tissues[moved], organs[moved] = _CODE[organ.name], organ.id
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
    tissues = np.pad(patient.tissues, widths, constant_values=_CODE["air"])
    organs = np.pad(patient.organs, widths)
    empty = tissues == _CODE["air"]
    wall, fat = (rng.uniform(*r) / patient.spacing_mm for r in (_WALL_MM, _FAT_MM))
    has_muscle = bool((tissues == _CODE["muscle"]).any())
    # Slices are filled one by one: their outline is what encloses all that is shown.
    reach = 40 / patient.spacing_mm
    has_bone = bool((tissues == _CODE["bone"]).any())
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
            tissues[z][back & ~shown] = _CODE["muscle"]
            tissues[z][spine & ~shown] = _CODE["bone"]
            shown = shown | spine | back
        beyond = ndimage.distance_transform_edt(~inner)
        free = ~shown
        tissues[z][free & (beyond <= wall + fat)] = _CODE["fat"]
        if not has_muscle:
            tissues[z][free & (beyond > 0) & (beyond <= wall)] = _CODE["muscle"]
        skin = (beyond > wall + fat - 2 / patient.spacing_mm) & (beyond <= wall + fat)
        tissues[z][free & skin] = _CODE["soft"]
    return Anatomy(tissues, organs, patient.spacing_mm, patient.lacking)


def _trunk(
    shown: NDArray[np.bool_], spacing_mm: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """In plane [y, x]: an ellipse around all organs and the back; the spine; muscles beside it."""
    plane = shown.any(axis=0)
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


def painted(patient: Anatomy, textures: Textures, rng: np.random.Generator) -> tuple[Hu, str]:
    """HU of every tissue in a random contrast phase, with texture, contents and gas."""
    phase = PHASES[rng.choice(3, p=[0.25, 0.25, 0.5])]
    hu_of = drawn_hu(phase, rng)
    table = np.array([hu_of[name] for name in _TISSUES], dtype=np.float32)
    hu: Hu = table[patient.tissues]
    for tissue in ("fat", "muscle", "soft", "bowel"):
        where = patient.tissues == _CODE[tissue]
        slow = ndimage.gaussian_filter(rng.normal(size=hu.shape).astype(np.float32), 2.0)
        hu[where] += slow[where] * (12 / max(float(slow.std()), 1e-6))
    for tissue in textures.cubes:
        box = ndimage.find_objects((patient.tissues == _CODE[tissue]).astype(np.uint8))
        if box:
            where = patient.tissues[box[0]] == _CODE[tissue]
            hu[box[0]][where] += textures.tile(tissue, where.shape, rng)[where]
    bone = patient.tissues == _CODE["bone"]
    within = ndimage.binary_erosion(bone, iterations=max(1, round(_SHELL_MM / patient.spacing_mm)))
    hu[within] = hu_of["marrow"] + rng.normal(0, 25, int(within.sum()))
    for tissue in HOLLOW:
        _fill(hu, patient.tissues == _CODE[tissue], patient.spacing_mm, rng)
    return hu, phase


def _fill(hu: Hu, organ: NDArray[np.bool_], spacing_mm: float, rng: np.random.Generator) -> None:
    """Contents of a hollow organ: fluid, food or oral contrast below, gas above (to the front)."""
    wall = max(1, round(rng.uniform(2.0, 4.0) / spacing_mm))
    lumen = ndimage.binary_erosion(organ, iterations=wall)
    pieces, count = ndimage.label(lumen)
    for piece, box in enumerate(ndimage.find_objects(pieces, max_label=count), start=1):
        kind = rng.random()
        if box is None or kind < 0.3:  # collapsed, as dense as its wall
            continue
        inside = pieces[box] == piece
        content = rng.uniform(0, 30) if kind < 0.8 else rng.uniform(120, 400)
        hu[box][inside] = content + rng.normal(0, 8, int(inside.sum()))
        level = rng.uniform(-0.2, 0.7) * inside.shape[1]
        front = np.arange(inside.shape[1])[None, :, None] < level
        hu[box][inside & front] = -950


def scanned(hu: Hu, patient: Anatomy, scanner: Scanner, rng: np.random.Generator) -> Synthetic:
    """What a scanner makes of it: table, blur, thick slices, noise, a field of view."""
    hu = hu.copy()
    _put_table(hu, patient, rng)
    slice_mm = rng.uniform(*scanner.slice_mm)
    every = max(1, round(slice_mm / patient.spacing_mm))
    count = len(hu) // every
    # Partial volume: the kernel's blur in plane, the mean over each slice along z.
    hu = ndimage.gaussian_filter(hu, (0, *[rng.uniform(*scanner.blur)] * 2))
    hu = hu[: count * every].reshape(count, every, *hu.shape[1:]).mean(axis=1)
    labels = patient.organs[every // 2 : count * every : every][:count]
    noise_hu = rng.uniform(*scanner.noise_hu) * (5 / (every * patient.spacing_mm)) ** 0.5
    sharp = rng.normal(size=hu.shape).astype(np.float32)
    # A ramp filter leaves little noise at low frequencies, a kernel little at high ones.
    noise = ndimage.gaussian_filter(sharp, (0, 0.7, 0.7)) - 0.7 * ndimage.gaussian_filter(
        sharp, (0, 2.5, 2.5)
    )
    hu += noise * (noise_hu / max(float(noise.std()), 1e-6))
    if rng.random() < scanner.field_of_view:
        _, height, width = hu.shape
        y, x = np.ogrid[:height, :width]
        middle = height / 2 + rng.uniform(-0.1, 0.1) * height, width / 2
        radius = rng.uniform(0.38, 0.5) * max(height, width)
        beyond = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 > radius**2
        hu[:, beyond] = -1024
        labels = np.where(beyond, 0, labels)
    step = patient.spacing_mm
    matrix = np.diag([-step, -step, every * step, 1.0])
    data = np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)
    volume = Volume(np.asfortranarray(data.T), Affine(matrix), "synthetic")
    truth = np.asfortranarray(labels.T.astype(np.uint8))
    return Synthetic(
        volume, truth, {"slice_mm": f"{every * step:g}", "noise_hu": f"{noise_hu:.0f}"}
    )


def _put_table(hu: Hu, patient: Anatomy, rng: np.random.Generator) -> None:
    """A thin curved shell behind the back."""
    body = (patient.tissues != _CODE["air"]).any(axis=0)
    rows = np.flatnonzero(body.any(axis=1))
    if not rows.size:
        return
    _, height, width = hu.shape
    x = np.arange(width) - width / 2
    curve = rows[-1] + 3 - rng.uniform(0, 0.15) * x**2 / width
    for column, row in enumerate(np.rint(curve).astype(int)):
        for at in range(row, min(row + 2, height)):
            free = patient.tissues[:, at, column] == _CODE["air"] if at >= 0 else []
            hu[:, at, column][free] = _TABLE_HU


def synthesise(
    patient: Anatomy,
    textures: Textures,
    seed: int,
    *,
    donors: tuple[Anatomy, ...] = (),
    scanner: Scanner | None = None,
) -> Synthetic:
    """A CT of a patient of whom only a label map is known; the same seed gives the same voxels.

    Args:
        patient: the map.
        textures: of real scans.
        seed: of everything random.
        donors: other patients, who each lend an organ now and then.
        scanner: ranges of the scan.
    """
    rng = np.random.default_rng(seed)
    for donor in donors:
        if rng.random() < 0.5:
            patient = swap(patient, donor, BY_NAME[_LENT[rng.integers(len(_LENT))]])
    patient = with_body(deformed(patient, rng.uniform(2, 8), rng), rng)
    hu, phase = painted(patient, textures, rng)
    made = scanned(hu, patient, scanner or Scanner(), rng)
    return Synthetic(made.volume, made.labels, {"phase": phase, **made.provenance})


# Organs that lie freely enough to be swapped.
_LENT = ("pancreas", "gallbladder", "spleen", "kidney_left", "adrenal_gland_left", "stomach")
