"""CT from label maps: SynthSeg's idea (Billot et al., 2023) with the physics of CT.

A label map without its scan still knows anatomy. Here its tissues are given HU of a contrast phase
and textures of real scans, contents and gas in hollow organs, a body where the map ends (see
`training.anatomy`), and a scanner (`training.scanner`). Arrays are [z, y, x], isotropic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from viscera.organs import BY_NAME
from viscera.training.anatomy import Anatomy, deformed, swap, with_body
from viscera.training.scanner import Scanner, scanned
from viscera.training.tissues import CODE, HOLLOW, HU, PHASES, HuMap, Textures, drawn_hu
from viscera.volume import Labels, Volume

_SHELL_MM = 3.0  # of bone
# Organs that lie freely enough to be swapped.
_LENT = ("pancreas", "gallbladder", "spleen", "kidney_left", "adrenal_gland_left", "stomach")


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A made CT and what is in it.

    Attributes:
        volume: the CT.
        labels: [i, j, k] ids of our organs.
        how: contrast phase, slices and noise, for people.
    """

    volume: Volume
    labels: Labels
    how: str


def painted(patient: Anatomy, textures: Textures, rng: np.random.Generator) -> tuple[HuMap, str]:
    """HU of every tissue in a random contrast phase, with texture, contents and gas."""
    phase = PHASES[rng.choice(3, p=[0.25, 0.25, 0.5])]
    hu_of = drawn_hu(phase, rng)
    table = np.array([hu_of[name] for name in tuple(HU)], dtype=np.float32)
    hu: HuMap = table[patient.tissues]
    for tissue in ("fat", "muscle", "soft", "bowel"):
        where = patient.tissues == CODE[tissue]
        slow = ndimage.gaussian_filter(rng.normal(size=hu.shape).astype(np.float32), 2.0)
        hu[where] += slow[where] * (12 / max(float(slow.std()), 1e-6))
    for tissue in textures.cubes:
        box = ndimage.find_objects((patient.tissues == CODE[tissue]).astype(np.uint8))
        if box:
            where = patient.tissues[box[0]] == CODE[tissue]
            hu[box[0]][where] += textures.tile(tissue, where.shape, rng)[where]
    bone = patient.tissues == CODE["bone"]
    within = ndimage.binary_erosion(bone, iterations=max(1, round(_SHELL_MM / patient.spacing_mm)))
    hu[within] = hu_of["marrow"] + rng.normal(0, 25, int(within.sum()))
    for tissue in HOLLOW:
        _fill(hu, patient.tissues == CODE[tissue], patient.spacing_mm, rng)
    return hu, phase


def _fill(hu: HuMap, organ: NDArray[np.bool_], spacing_mm: float, rng: np.random.Generator) -> None:
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
    volume, labels, how = scanned(hu, patient, scanner or Scanner(), rng)
    return Synthetic(volume, labels, f"{phase}, {how}")
