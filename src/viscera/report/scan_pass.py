"""One pass over a scan for all that reports need of its HU: sums of every organ, and cuts.

The scan may stay in its file: it is read slab by slab and never held in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from viscera.core.volume import Labels, Volume

Point = tuple[int, int, int]
# By axis and position on it: HU [1, j, k], [i, 1, k] or [i, j, 1].
Cuts = dict[tuple[int, int], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class ScanPass:
    """What one pass gathered.

    Attributes:
        voxels: (256,) voxels of each label.
        hu_sums: (256,) sum of their HU.
        hu_square_sums: (256,) sum of their squares.
        cuts: HU through every point that was asked for, along i, j and k.
    """

    voxels: NDArray[np.int64]
    hu_sums: NDArray[np.float64]
    hu_square_sums: NDArray[np.float64]
    cuts: Cuts


def scan_pass(volume: Volume, labels: Labels, points: Sequence[Point] = ()) -> ScanPass:
    """Read a scan once.

    Args:
        volume: the scan.
        labels: [i, j, k] uint8.
        points: [i, j, k] through each of which three cuts are kept.

    Raises:
        InputError: the file is damaged, or has changed.
    """
    voxels = np.zeros(256, dtype=np.int64)
    sums, square_sums = np.zeros(256), np.zeros(256)
    cuts = _blank_cuts(volume.shape, points)
    start = 0
    for slab in volume.slabs():
        stop = start + slab.hu.shape[2]
        for plane, hu in zip(labels[..., start:stop].T, slab.hu.T, strict=True):
            at = np.flatnonzero(plane)
            if at.size:
                organs, values = plane.ravel()[at], hu.ravel()[at].astype(np.float64)
                voxels += np.bincount(organs, minlength=256)
                sums += np.bincount(organs, weights=values, minlength=256)
                square_sums += np.bincount(organs, weights=values**2, minlength=256)
        for (axis, position), cut in cuts.items():
            if axis == 0:
                cut[0, :, start:stop] = slab.hu[position]
            elif axis == 1:
                cut[:, 0, start:stop] = slab.hu[:, position]
            elif start <= position < stop:
                cut[..., 0] = slab.hu[..., position - start]
        start = stop
    return ScanPass(voxels, sums, square_sums, cuts)


def _blank_cuts(shape: tuple[int, int, int], points: Sequence[Point]) -> Cuts:
    cuts: Cuts = {}
    for point in points:
        for axis, at in enumerate(point):
            plane = [n if other != axis else 1 for other, n in enumerate(shape)]
            cuts[axis, at] = np.zeros(plane, dtype=np.float32)
    return cuts
