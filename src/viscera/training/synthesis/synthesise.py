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

from viscera.core.organs import ORGANS_BY_NAME
from viscera.core.volume import Labels, Volume
from viscera.training.synthesis.anatomy import Anatomy, add_body, deform, swap_organ
from viscera.training.synthesis.scanner import Scanner, simulate_scan
from viscera.training.synthesis.tissues import (
    HOLLOW,
    PHASES,
    TISSUE_CODES,
    TISSUE_HU,
    HuMap,
    Textures,
    draw_tissue_hu,
)

_SHELL_MM = 3.0  # of bone
# Organs that lie freely enough to be swapped.
_SWAPPABLE = ("pancreas", "gallbladder", "spleen", "kidney_left", "adrenal_gland_left", "stomach")


@dataclass(frozen=True, eq=False)
class SyntheticCase:
    """A synthetic CT and its labels.

    Attributes:
        volume: the CT.
        labels: [i, j, k] ids of our organs.
        description: contrast phase, slices and noise, for people.
    """

    volume: Volume
    labels: Labels
    description: str


def paint_tissues(
    patient: Anatomy, textures: Textures, rng: np.random.Generator
) -> tuple[HuMap, str]:
    """HU of every tissue in a random contrast phase, with texture, contents and gas.

    Args:
        patient: the anatomy.
        textures: of real tissues.
        rng: random numbers.
    """
    phase = PHASES[rng.choice(3, p=[0.25, 0.25, 0.5])]
    hu_of = draw_tissue_hu(phase, rng)
    table = np.array([hu_of[name] for name in tuple(TISSUE_HU)], dtype=np.float32)
    hu: HuMap = table[patient.tissues]
    for tissue in ("fat", "muscle", "soft", "bowel"):
        where = patient.tissues == TISSUE_CODES[tissue]
        slow = ndimage.gaussian_filter(rng.normal(size=hu.shape).astype(np.float32), 2.0)
        hu[where] += slow[where] * (12 / max(float(slow.std()), 1e-6))
    for tissue in textures.cubes:
        box = ndimage.find_objects((patient.tissues == TISSUE_CODES[tissue]).astype(np.uint8))
        if box:
            where = patient.tissues[box[0]] == TISSUE_CODES[tissue]
            hu[box[0]][where] += textures.tile(tissue, where.shape, rng)[where]
    bone = patient.tissues == TISSUE_CODES["bone"]
    within = ndimage.binary_erosion(bone, iterations=max(1, round(_SHELL_MM / patient.spacing_mm)))
    hu[within] = hu_of["marrow"] + rng.normal(0, 25, int(within.sum()))
    for tissue in HOLLOW:
        _fill_lumen(hu, patient.tissues == TISSUE_CODES[tissue], patient.spacing_mm, rng)
    return hu, phase


def _fill_lumen(
    hu: HuMap, organ: NDArray[np.bool_], spacing_mm: float, rng: np.random.Generator
) -> None:
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
) -> SyntheticCase:
    """A CT made from a label map; the same seed gives the same voxels.

    Args:
        patient: the map.
        textures: of real scans.
        seed: of everything random.
        donors: other anatomies, from which organs are sometimes taken.
        scanner: ranges of the scan.
    """
    rng = np.random.default_rng(seed)
    for donor in donors:
        if rng.random() < 0.5:
            patient = swap_organ(
                patient, donor, ORGANS_BY_NAME[_SWAPPABLE[rng.integers(len(_SWAPPABLE))]]
            )
    patient = add_body(deform(patient, rng.uniform(2, 8), rng), rng)
    hu, phase = paint_tissues(patient, textures, rng)
    volume, labels, description = simulate_scan(hu, patient, scanner or Scanner(), rng)
    return SyntheticCase(volume, labels, f"{phase}, {description}")
