"""What tissues look like in CT: HU by contrast phase, and textures cut from real scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from viscera.core.organs import ORGANS

HuMap = NDArray[np.float32]
Phase = Literal["unenhanced", "arterial", "portal"]
PHASES: tuple[Phase, ...] = ("unenhanced", "arterial", "portal")

# Mean HU of each tissue in these phases, and how far patients lie from it (one standard deviation).
# Ranges as textbooks of abdominal CT give them; the real scans at hand lie within.
TISSUE_HU: dict[str, tuple[float, float, float, float]] = {
    "air": (-1000, -1000, -1000, 0),
    "gas": (-960, -960, -960, 15),
    "lung": (-850, -840, -840, 30),
    "fat": (-105, -102, -100, 6),
    "muscle": (50, 55, 62, 6),
    "soft": (35, 40, 45, 8),
    "bone": (280, 285, 290, 60),
    "marrow": (150, 155, 165, 35),
    "cartilage": (100, 100, 105, 15),
    "blood": (40, 280, 150, 25),
    "vein": (40, 60, 150, 20),
    "heart": (40, 220, 130, 25),
    "nerve": (35, 38, 42, 5),
    "urine": (5, 8, 12, 6),
    "liver": (56, 66, 108, 10),
    "spleen": (48, 110, 120, 10),
    "kidney_right": (32, 150, 180, 20),
    "kidney_left": (32, 150, 180, 20),
    "pancreas": (40, 95, 90, 12),
    "adrenal_gland_right": (25, 60, 70, 10),
    "adrenal_gland_left": (25, 60, 70, 10),
    "aorta": (40, 300, 155, 25),
    "inferior_vena_cava": (40, 70, 145, 20),
    "gallbladder": (8, 9, 10, 7),
    "esophagus": (35, 45, 55, 8),
    "stomach": (40, 60, 70, 10),
    "duodenum": (40, 65, 75, 10),
    "bowel": (38, 60, 70, 10),
}
TISSUE_CODES = {
    name: np.uint8(code) for code, name in enumerate(TISSUE_HU)
}  # as tissues stand in arrays
HOLLOW = ("stomach", "duodenum", "bowel", "esophagus")  # a wall, and something or gas within

# TotalSegmentator's classes (version 2) beside our organs; what is not named is soft tissue.
TOTALSEGMENTATOR_TISSUES: dict[int, str] = {
    **dict.fromkeys(range(10, 15), "lung"),
    16: "gas", 18: "bowel", 20: "bowel", 21: "urine", 23: "urine", 24: "urine", 51: "heart",
    **dict.fromkeys((*range(25, 51), *range(69, 79), *range(91, 116)), "bone"),
    **dict.fromkeys((53, 59, 60, 62, 64, 67, 68), "vein"), 116: "bone", 117: "cartilage",
    **dict.fromkeys((*range(54, 59), 61, 65, 66), "blood"),
    79: "nerve", **dict.fromkeys(range(80, 90), "muscle"),
}  # fmt: skip

_LEAST_RADIUS = 3  # voxels; smaller organs give no texture
_SMOOTH = 2.5  # voxels; what varies more slowly is shape or contrast, not texture


def draw_tissue_hu(phase: Phase, rng: np.random.Generator) -> dict[str, float]:
    """The mean HU of every tissue of one patient in one phase; both kidneys alike.

    Args:
        phase: of the contrast medium.
        rng: random numbers.
    """
    column = PHASES.index(phase)
    hu_of = {name: row[column] + row[3] * rng.normal() for name, row in TISSUE_HU.items()}
    hu_of["kidney_left"] = hu_of["kidney_right"] + rng.normal(0, 4)
    hu_of["adrenal_gland_left"] = hu_of["adrenal_gland_right"] + rng.normal(0, 3)
    return hu_of


@dataclass(frozen=True)
class Textures:
    """Cubes of real tissue without its slow changes of intensity.

    Attributes:
        cubes: of each tissue, [z, y, x] HU about 0.
    """

    cubes: Mapping[str, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, hu: NDArray[np.int16], labels: NDArray[np.uint8]) -> Textures:
        """The largest cube within each organ of one scan.

        Args:
            hu: [z, y, x].
            labels: [z, y, x] organs' ids.
        """
        cubes: dict[str, tuple[NDArray[np.float32], ...]] = {}
        boxes = ndimage.find_objects(labels, max_label=len(ORGANS))
        for organ, box in zip(ORGANS, boxes, strict=True):
            if box is None or organ.name in HOLLOW:  # what they hold differs, and edges with gas
                continue
            depth = ndimage.distance_transform_cdt(np.pad(labels[box] == organ.id, 1))
            radius = int(depth.max()) - 1
            if radius < _LEAST_RADIUS:
                continue
            centre = np.unravel_index(int(depth.argmax()), depth.shape)
            around = tuple(
                slice(part.start + int(c) - 1 - radius, part.start + int(c) + radius)
                for part, c in zip(box, centre, strict=True)
            )
            cube = hu[around].astype(np.float32)
            cubes[organ.name] = (cube - ndimage.gaussian_filter(cube, _SMOOTH),)
        return cls(cubes)

    def joined(self, other: Textures) -> Textures:
        """The cubes of both."""
        names = {**self.cubes, **other.cubes}
        return Textures({n: (*self.cubes.get(n, ()), *other.cubes.get(n, ())) for n in names})

    def tile(
        self, tissue: str, shape: tuple[int, ...], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """A box filled with one of a tissue's cubes, mirrored repeatedly; zeros without one.

        Args:
            tissue: its name.
            shape: [z, y, x] voxels.
            rng: random numbers.
        """
        cubes = self.cubes.get(tissue)
        if not cubes:
            return np.zeros(shape, dtype=np.float32)
        cube = cubes[rng.integers(len(cubes))]
        for axis in range(3):
            cube = np.flip(cube, axis) if rng.random() < 0.5 else cube
        index = []
        for n, length in zip(shape, cube.shape, strict=True):
            first = int(rng.integers(2 * length))
            phase = (np.arange(first, first + n)) % (2 * length)
            index.append(np.minimum(phase, 2 * length - 1 - phase))
        return cube[np.ix_(*index)]
