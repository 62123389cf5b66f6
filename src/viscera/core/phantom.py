"""A seeded phantom: a generated abdomen-like CT with the thirteen organs, noise and a table.

It exists so that tests, documentation and a first run need no patient. It is geometry, not anatomy:
nothing measured on it says anything about patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.core.organs import ORGANS_BY_NAME
from viscera.core.volume import Labels, Volume

_AIR, _LUNG, _FAT, _MUSCLE, _BOWEL, _BONE, _TABLE = -1000, -850, -100, 55, 30, 320, -250

# Portal venous HU, drawn anew within +-8 for each seed.
_ORGAN_HU = {
    "liver": 112, "kidney_right": 182, "spleen": 124, "pancreas": 96, "aorta": 162,
    "inferior_vena_cava": 146, "adrenal_gland_right": 78, "adrenal_gland_left": 78,
    "gallbladder": 8, "esophagus": 44, "stomach": 32, "duodenum": 60, "kidney_left": 182,
}  # fmt: skip


@dataclass(frozen=True)
class _Ellipsoid:
    """An ellipsoid in RAS millimetres from the body's centre, turned about the z axis."""

    organ: str
    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    turn_deg: float = 0.0


# Painted in this order; where two meet, the later one stands on top.
_ELLIPSOIDS = (
    _Ellipsoid("liver", (62, 18, 48), (88, 74, 66), -12),
    _Ellipsoid("spleen", (-104, -34, 52), (30, 42, 50), 20),
    _Ellipsoid("stomach", (-52, 44, 42), (42, 34, 48), -25),
    _Ellipsoid("kidney_right", (62, -46, -26), (27, 24, 54), 25),
    _Ellipsoid("kidney_left", (-62, -46, -16), (27, 24, 54), -25),
    _Ellipsoid("pancreas", (-8, 22, 0), (62, 13, 15), 14),
    _Ellipsoid("gallbladder", (52, 62, -4), (15, 17, 26)),
    _Ellipsoid("adrenal_gland_right", (36, -40, 42), (6, 14, 13), -18),
    _Ellipsoid("adrenal_gland_left", (-37, -34, 44), (6, 14, 13), 18),
)
# Tubes along z: organ, x, y, radius, lowest z, highest z.
_TUBES = (
    ("esophagus", -6.0, -14.0, 10.0, 62.0, 400.0),
    ("inferior_vena_cava", 22.0, -34.0, 12.0, -400.0, 100.0),
    ("aorta", -9.0, -42.0, 11.0, -400.0, 400.0),
)


def make_phantom(
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = (160, 120, 72),
    spacing_mm: tuple[float, float, float] = (2.4, 2.4, 4.0),
    noise_hu: float = 14.0,
    name: str = "phantom",
) -> tuple[Volume, Labels]:
    """Generate a CT and its true labels; the same seed gives the same voxels.

    Args:
        seed: chooses sizes, places, HU and noise.
        shape: voxels along i, j, k.
        spacing_mm: voxel size along i, j, k. Axes run to left, posterior, superior (LPS).
        noise_hu: standard deviation of the noise, correlated over about a voxel.
        name: the case's name.

    Returns:
        The CT (int16 HU) and its labels (uint8), both [i, j, k].
    """
    rng = np.random.default_rng(seed)
    blobs = [_jitter(blob, rng) for blob in _ELLIPSOIDS]
    hu_of = {organ: hu + rng.uniform(-8, 8) for organ, hu in _ORGAN_HU.items()}
    bowel = [
        _Ellipsoid("", tuple(rng.uniform((-95, -10, -140), (95, 75, -50))), (22, 20, 22))
        for _ in range(9)
    ]
    bend = rng.uniform(-6, 6, size=(3, 2))

    data = np.empty(shape, dtype=np.int16, order="F")
    labels = np.zeros(shape, dtype=np.uint8, order="F")
    # RAS millimetres of the voxel centres; i runs to the left and j to the back.
    x, y, z = (
        np.asarray((np.arange(n) - (n - 1) / 2) * step * sign, dtype=np.float64)
        for n, step, sign in zip(shape, spacing_mm, (-1, -1, 1), strict=True)
    )
    for k, height in enumerate(z):
        # A gentle bend, so that no organ is an exact ellipsoid; the body itself stays straight.
        at_x = x[:, None] + bend[0, 0] * np.sin(y[None, :] / 40 + bend[0, 1])
        at_y = y[None, :] + bend[1, 0] * np.sin(x[:, None] / 45 + bend[1, 1])
        at_z = height + bend[2, 0] * np.sin(x[:, None] / 50 + bend[2, 1])
        hu = _background_hu(x[:, None], y[None, :], height)
        for blob in bowel:
            hu[_inside_ellipsoid(blob, at_x, at_y, at_z)] = _BOWEL
        organs = _organ_labels(blobs, at_x, at_y, at_z)
        for organ in np.unique(organs[organs > 0]):
            mask = organs == organ
            hu[mask] = next(hu_of[o] for o in hu_of if ORGANS_BY_NAME[o].id == organ)
        gas = (organs == ORGANS_BY_NAME["stomach"].id) & (at_y > 60)
        hu[gas] = _AIR
        blurred = _blurred(hu, 0.45)
        noise = _blurred(rng.normal(0, 1, hu.shape), 0.6)
        data[:, :, k] = np.rint(blurred + noise * (noise_hu / max(noise.std(), 1e-6)))
        labels[:, :, k] = organs
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    affine[:3, 3] = x[0], y[0], z[0]
    return Volume(data, Affine(affine), name), labels


def _jitter(blob: _Ellipsoid, rng: np.random.Generator) -> _Ellipsoid:
    centre = np.add(blob.centre_mm, rng.uniform(-5, 5, 3))
    radii = np.multiply(blob.radii_mm, rng.uniform(0.9, 1.1, 3))
    return _Ellipsoid(blob.organ, tuple(centre), tuple(radii), blob.turn_deg + rng.uniform(-8, 8))


def _inside_ellipsoid(
    blob: _Ellipsoid, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Where the points lie in an ellipsoid."""
    turn = np.deg2rad(blob.turn_deg)
    u, v = x - blob.centre_mm[0], y - blob.centre_mm[1]
    along = (u * np.cos(turn) + v * np.sin(turn)) / blob.radii_mm[0]
    across = (v * np.cos(turn) - u * np.sin(turn)) / blob.radii_mm[1]
    inside: NDArray[np.bool_] = (
        along**2 + across**2 + ((z - blob.centre_mm[2]) / blob.radii_mm[2]) ** 2 <= 1
    )
    return inside


def _background_hu(x: NDArray[np.float64], y: NDArray[np.float64], z: float) -> NDArray[np.float64]:
    """HU of everything but the organs in one slice: air, table, skin fat, muscle, spine, lungs."""
    body = (x / 168) ** 2 + (y / 122) ** 2
    wall = (x / 150) ** 2 + (y / 104) ** 2
    cavity = (x / 138) ** 2 + ((y - 8) / 84) ** 2
    hu = np.full(np.broadcast_shapes(x.shape, y.shape), float(_AIR))
    hu[(abs(y + 132 - (x / 60) ** 2) < 4) & (abs(x) < 190)] = _TABLE
    hu[body <= 1] = _FAT
    hu[wall <= 1] = _MUSCLE
    hu[cavity <= 1] = _FAT
    for sign in (-1, 1):
        lung = ((x - sign * 78) / 56) ** 2 + (y / 78) ** 2 + ((z - 150) / 62) ** 2
        hu[(lung <= 1) & (cavity <= 1)] = _LUNG
    hu[(x / 24) ** 2 + ((y + 74) / 20) ** 2 <= 1] = _BONE
    hu[(x / 9) ** 2 + ((y + 98) / 9) ** 2 <= 1] = _MUSCLE
    return hu


def _organ_labels(
    blobs: list[_Ellipsoid], x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Labels of one slice of points."""
    labels = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), dtype=np.uint8)
    for blob in blobs:
        labels[_inside_ellipsoid(blob, x, y, z)] = ORGANS_BY_NAME[blob.organ].id
    # The duodenum: three quarters of a ring around the pancreatic head, open to the left.
    ring = np.hypot(x - 40, z + 18)
    tube = np.hypot(ring - 28, y - 24) <= 10
    labels[tube & ((x > 28) | (z < -18))] = ORGANS_BY_NAME["duodenum"].id
    for organ, at_x, at_y, radius, low, high in _TUBES:
        inside = (np.hypot(x - at_x, y - at_y) <= radius) & (z >= low) & (z <= high)
        labels[inside] = ORGANS_BY_NAME[organ].id
    return labels


def _blurred(image: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """An image after a Gaussian of this many pixels along both axes, mirrored at its border."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in range(2):
        lines = np.moveaxis(image, axis, 0)
        padded = np.pad(lines, ((reach, reach), (0, 0)), mode="symmetric")
        image = np.moveaxis(
            sum(w * padded[n : n + len(lines)] for n, w in enumerate(weights)), 0, axis
        )
    return image
