"""What a scanner makes of a patient: table, blur, thick slices, noise, a field of view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from viscera.core.affine import Affine
from viscera.core.volume import Labels, Volume
from viscera.training.synthesis.anatomy import Anatomy
from viscera.training.synthesis.tissues import TISSUE_CODES, HuMap

_TABLE_HU = -250.0


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


def simulate_scan(
    hu: HuMap, patient: Anatomy, scanner: Scanner, rng: np.random.Generator
) -> tuple[Volume, Labels, str]:
    """The CT, its labels [i, j, k], and a description of how it was made.

    Args:
        hu: of every voxel, before the scanner.
        patient: the anatomy.
        scanner: spacing, noise and field of view.
        rng: random numbers.
    """
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
    return volume, truth, f"{every * step:g} mm, noise {noise_hu:.0f} HU"


def _put_table(hu: HuMap, patient: Anatomy, rng: np.random.Generator) -> None:
    """A thin curved shell behind the back."""
    body = (patient.tissues != TISSUE_CODES["air"]).any(axis=0)
    rows = np.flatnonzero(body.any(axis=1))
    if not rows.size:
        return
    _, height, width = hu.shape
    x = np.arange(width) - width / 2
    curve = rows[-1] + 3 - rng.uniform(0, 0.15) * x**2 / width
    for column, row in enumerate(np.rint(curve).astype(int)):
        for at in range(row, min(row + 2, height)):
            free = patient.tissues[:, at, column] == TISSUE_CODES["air"] if at >= 0 else []
            hu[:, at, column][free] = _TABLE_HU
