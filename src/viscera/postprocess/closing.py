"""Morphological closing of every organ at once (paper, post-processing)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from viscera.core.boxes import organ_box
from viscera.core.volume import Labels

Bits = NDArray[np.uint16]
# Slices worked on at a time, so that the bit masks of a long scan need little memory.
SLAB_SLICES = 64
_MOST_BITS = 16


def close_organs(labels: Labels, ids: Sequence[int], size: int = 3) -> None:
    """Close each organ with a cube of `size` voxels, in place; only background is claimed.

    Each organ is closed on its own: one bit of a 16-bit mask holds one organ, so that a single
    pass of OR (dilation) and of AND (erosion) serves all of them. Beyond the volume's border the
    erosion sees organ, so that an organ cut by the border keeps its voxels there. Where several
    organs grow into one voxel, the highest label wins, as when they are closed one after another.

    Args:
        labels: [i, j, k] uint8 label map, Fortran order serves best.
        ids: labels to close.
        size: odd edge of the cube.
    """
    if size == 1:
        return
    # The highest first, since what one group has claimed is no background for the next.
    ordered = sorted(ids)
    for stop in range(len(ordered), 0, -_MOST_BITS):
        _close_group(labels, ordered[max(0, stop - _MOST_BITS) : stop], size)


def _close_group(labels: Labels, ids: Sequence[int], size: int) -> None:
    """Close at most 16 labels, see `close_organs`."""
    box = organ_box(labels)
    if box is None:
        return
    reach = size // 2
    bit_of = np.zeros(256, dtype=np.uint16)
    bit_of[list(ids)] = [1 << n for n in range(len(ids))]
    # A dilation and an erosion reach twice as far as one.
    wide = tuple(
        slice(max(0, b.start - 2 * reach), min(n, b.stop + 2 * reach))
        for b, n in zip(box, labels.shape, strict=True)
    )
    target = labels[wide].T  # [k, j, i], a view
    previous = target[:0]  # the slices before, as they were
    for start in range(0, len(target), SLAB_SLICES):
        stop, low = min(start + SLAB_SLICES, len(target)), start - len(previous)
        original = np.concatenate([previous, target[start : stop + 2 * reach]])
        previous = original[max(0, stop - 2 * reach - low) : stop - low].copy()
        bits = bit_of[original]
        closed = _combine_neighbours(
            _combine_neighbours(bits, reach, np.bitwise_or), reach, np.bitwise_and
        )
        grown = closed[start - low : stop - low]
        grown[original[start - low : stop - low] > 0] = 0
        k, j, i = np.nonzero(grown)
        for n, organ in enumerate(ids):
            grown_here = (grown[k, j, i] >> n) & 1 == 1
            target[start + k[grown_here], j[grown_here], i[grown_here]] = organ


def _combine_neighbours(bits: Bits, reach: int, combine: Callable[..., Bits]) -> Bits:
    """Combine each voxel with its neighbours up to `reach` away along every axis in turn.

    What lies beyond the border has no say.
    """
    for axis in range(3):
        lines = np.moveaxis(bits, axis, 0)
        bits = bits.copy()
        result = np.moveaxis(bits, axis, 0)
        for shift in range(1, min(reach, len(lines) - 1) + 1):
            combine(result[shift:], lines[:-shift], out=result[shift:])
            combine(result[:-shift], lines[shift:], out=result[:-shift])
    return bits
