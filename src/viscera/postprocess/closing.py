"""Morphological closing of every organ at once (paper, post-processing)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from viscera.postprocess.box import organ_box
from viscera.volume import Labels

Bits = NDArray[np.uint16]
# Slices worked on at a time, so that the bit masks of a long scan need little memory.
_SLAB = 64


def close_organs(labels: Labels, ids: Sequence[int], size: int = 3) -> None:
    """Close each organ with a cube of `size` voxels, in place; only background is claimed.

    Each organ is closed on its own: one bit of a 16-bit mask holds one organ, so that a single
    pass of OR (dilation) and of AND (erosion) serves all of them. Beyond the volume's border the
    erosion sees organ, so that an organ cut by the border keeps its voxels there. Where several
    organs grow into one voxel, the highest label wins, as when they are closed one after another.

    Args:
        labels: [i, j, k] uint8 label map, Fortran order serves best.
        ids: labels to close, at most 16.
        size: odd edge of the cube.
    """
    box = organ_box(labels)
    if box is None or size == 1:
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
    original = target.copy()
    for start in range(0, len(target), _SLAB):
        stop = min(start + _SLAB, len(target))
        low = max(0, start - 2 * reach)
        bits = bit_of[original[low : stop + 2 * reach]]
        closed = _spread(_spread(bits, reach, np.bitwise_or, 0), reach, np.bitwise_and, 0xFFFF)
        grown = closed[start - low : stop - low]
        grown[original[start:stop] > 0] = 0
        k, j, i = np.nonzero(grown)
        for n, organ in enumerate(ids):
            here = (grown[k, j, i] >> n) & 1 == 1
            target[start + k[here], j[here], i[here]] = organ


def _spread(bits: Bits, reach: int, combine: Callable[..., Bits], outside: int) -> Bits:
    """Combine each voxel with its neighbours up to `reach` away along every axis in turn."""
    for axis in range(3):
        pad = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(bits, pad, constant_values=outside)
        n = bits.shape[axis]
        bits = padded.take(range(n), axis=axis)
        for shift in range(1, 2 * reach + 1):
            window = tuple(slice(shift, shift + n) if a == axis else slice(None) for a in range(3))
            combine(bits, padded[window], out=bits)
    return bits
