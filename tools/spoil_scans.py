"""Scans spoiled on purpose, with their labels: what a network meets when something went wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from viscera.core.affine import Affine
from viscera.core.volume import Labels, Volume

AIR_HU, METAL_HU = -1000, 3000
Spoiled = tuple[Volume, Labels]
Spoil = Callable[[Volume, Labels, np.random.Generator], Spoiled]


def _with(volume: Volume, hu: np.ndarray, matrix: np.ndarray | None = None) -> Volume:
    affine = volume.affine if matrix is None else Affine(matrix)
    hu = np.clip(np.rint(hu), -2048, 8000).astype(np.int16)
    return Volume.of(np.asfortranarray(hu), affine, name=volume.name)


def unchanged(volume: Volume, labels: Labels, _: np.random.Generator) -> Spoiled:
    """As it is."""
    return volume, labels


def noise(sd_hu: float) -> Spoil:
    """Noise as a low dose leaves it: its neighbours have something in common."""

    def spoil(volume: Volume, labels: Labels, random: np.random.Generator) -> Spoiled:
        grain = random.normal(size=volume.shape).astype(np.float32)
        for axis in (0, 1):
            grain = grain + np.roll(grain, 1, axis)
        return _with(volume, volume.data + grain * (sd_hu / 2)), labels

    return spoil


def thick_slices(mm: float) -> Spoil:
    """Slices averaged to this thickness."""

    def spoil(volume: Volume, labels: Labels, _: np.random.Generator) -> Spoiled:
        n = max(1, round(mm / volume.affine.spacing_mm[2]))
        count = volume.shape[2] // n
        hu = volume.data[..., : count * n].reshape(*volume.shape[:2], count, n).mean(axis=3)
        matrix = volume.affine.matrix.copy()
        matrix[:3, 3] += matrix[:3, 2] * (n - 1) / 2
        matrix[:3, 2] *= n
        return _with(volume, hu, matrix), np.asfortranarray(labels[..., n // 2 : count * n : n])

    return spoil


def part_of(low: float, high: float) -> Spoil:
    """A part of the organs' height, 0 at their lower end and 1 at the upper."""

    def spoil(volume: Volume, labels: Labels, _: np.random.Generator) -> Spoiled:
        filled = np.flatnonzero(labels.any(axis=(0, 1)))
        start, length = filled[0], filled[-1] + 1 - filled[0]
        a, b = start + round(low * length), start + round(high * length)
        if volume.affine.matrix[2, 2] < 0:
            a, b = start + round((1 - high) * length), start + round((1 - low) * length)
        a, b = max(0, a), min(volume.shape[2], b)
        box = slice(None), slice(None), slice(a, max(b, a + 4))
        return volume.cropped(box), np.asfortranarray(labels[box])

    return spoil


def narrow_field(volume: Volume, labels: Labels, _: np.random.Generator) -> Spoiled:
    """The middle of the body alone, as a heart or spine scan shows it."""
    i, j, _k = volume.shape
    box = slice(i // 5, i - i // 5), slice(j // 4, j - j // 4), slice(None)
    return volume.cropped(box), np.asfortranarray(labels[box])


def values(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """Other values at the same places."""

    def spoil(volume: Volume, labels: Labels, _: np.random.Generator) -> Spoiled:
        return _with(volume, change(volume.data.astype(np.float32))), labels

    return spoil


def washed_out(volume: Volume, labels: Labels, _: np.random.Generator) -> Spoiled:
    """Another phase: what contrast has made bright is as grey as all else."""
    hu = volume.data.astype(np.float32)
    bright = (hu > 50) & (hu < 300)
    hu[bright] = 50 + (hu[bright] - 50) * 0.12
    return _with(volume, hu), labels


def metal(volume: Volume, labels: Labels, random: np.random.Generator) -> Spoiled:
    """An implant of 2 cm among the organs, with its streaks."""
    hu = volume.data.astype(np.float32)
    at = np.argwhere(labels > 0)
    centre = at[random.integers(len(at))]
    i, j = np.ogrid[: volume.shape[0], : volume.shape[1]]
    di, dj = i - centre[0], j - centre[1]
    distance_mm = np.hypot(di, dj) * volume.affine.spacing_mm[0]
    streaks = np.sin(11 * np.arctan2(dj, di)) * 900 / (1 + distance_mm / 25)
    reach = round(10 / volume.affine.spacing_mm[2])
    for k in range(max(0, centre[2] - reach), min(volume.shape[2], centre[2] + reach + 1)):
        hu[..., k] += streaks
        hu[..., k][distance_mm < 10] = METAL_HU
    return _with(volume, hu), labels


def flipped(axis: int) -> Spoil:
    """Stored backwards along an axis, which the affine does not tell."""

    def spoil(volume: Volume, labels: Labels, _: np.random.Generator) -> Spoiled:
        flip = lambda array: np.asfortranarray(np.flip(array, axis))  # noqa: E731
        return _with(volume, flip(volume.data)), flip(labels)

    return spoil


def axes_exchanged(volume: Volume, labels: Labels, _: np.random.Generator) -> Spoiled:
    """Front to back and head to foot exchanged, which the affine does not tell."""
    i, j, k = volume.affine.spacing_mm
    signs = np.sign([volume.affine.matrix[n, n] or 1.0 for n in range(3)])
    turned = np.diag([signs[0] * i, signs[1] * k, signs[2] * j, 1.0])
    exchange = lambda array: np.asfortranarray(np.swapaxes(array, 1, 2))  # noqa: E731
    return _with(volume, exchange(volume.data), turned), exchange(labels)


SPOILS: dict[str, Spoil] = {
    "as it is": unchanged,
    "low dose, noise of 40 HU": noise(40),
    "noise of 120 HU": noise(120),
    "noise of 300 HU": noise(300),
    "slices of 8 mm": thick_slices(8),
    "slices of 15 mm": thick_slices(15),
    "lower half": part_of(-0.2, 0.5),
    "upper half": part_of(0.5, 1.3),
    "a slab of a fifth": part_of(0.4, 0.6),
    "narrow field of view": narrow_field,
    "HU + 300": values(lambda hu: hu + 300),
    "HU x 0.5": values(lambda hu: hu * 0.5),
    "window stored as 0..255": values(lambda hu: np.clip((hu + 160) / 400, 0, 1) * 255),
    "contrast washed out": washed_out,
    "metal": metal,
    "left and right exchanged": flipped(0),
    "upside down": flipped(2),
    "two axes exchanged": axes_exchanged,
}
