"""One pass over a scan for all that reports need of its HU: sums of every organ, and three cuts.

The scan may stay in its file: it is read slab by slab and never held in memory as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from viscera.core.volume import Labels, Volume

Cuts = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class ScanPass:
    """What one pass gathered.

    Attributes:
        voxels: (256,) voxels of each label.
        hu_sums: (256,) sum of their HU.
        hu_square_sums: (256,) sum of their squares.
        cuts: HU at one position along i, j and k: [1, j, k], [i, 1, k], [i, j, 1]; None if not
            asked for.
    """

    voxels: NDArray[np.int64]
    hu_sums: NDArray[np.float64]
    hu_square_sums: NDArray[np.float64]
    cuts: Cuts | None


def scan_pass(
    volume: Volume, labels: Labels, cut_at: tuple[int, int, int] | None = None
) -> ScanPass:
    """Read a scan once.

    Args:
        volume: the scan.
        labels: [i, j, k] uint8.
        cut_at: positions along i, j and k at which cuts are kept.

    Raises:
        InputError: the file is damaged, or has changed.
    """
    voxels = np.zeros(256, dtype=np.int64)
    sums, square_sums = np.zeros(256), np.zeros(256)
    cuts = None if cut_at is None else _blank_cuts(volume.shape)
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
        if cuts is not None and cut_at is not None:
            i, j, k = cut_at
            cuts[0][0, :, start:stop] = slab.hu[i]
            cuts[1][:, 0, start:stop] = slab.hu[:, j]
            if start <= k < stop:
                cuts[2][..., 0] = slab.hu[..., k - start]
        start = stop
    return ScanPass(voxels, sums, square_sums, cuts)


def _blank_cuts(shape: tuple[int, int, int]) -> Cuts:
    i, j, k = shape
    return (
        np.zeros((1, j, k), dtype=np.float32),
        np.zeros((i, 1, k), dtype=np.float32),
        np.zeros((i, j, 1), dtype=np.float32),
    )
