"""Surfaces of all organs of a label map, found in one pass.

A cell is the 2x2x2 neighbourhood of voxels around a point where eight voxels meet. Where its voxels
differ, a surface runs through it. Most cells do not differ, and are left behind by a handful of
byte comparisons a plane; what remains is a list, as long as the surfaces are large and no longer,
however far apart its parts lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from viscera.core.volume import Labels

# Empty cells behind each row and each slice, so that a step of up to so many cells along an axis
# never meets the other side.
GAP = 8


@dataclass(frozen=True, eq=False)
class Surface:
    """The surface of one organ.

    Attributes:
        cells: (N,) int64, flat indices of the cells it runs through.
        codes: (N,) uint8, which corners of each cell are inside; see `viscera.metrics.areas`.
        shape: cells along i, j, k, gaps included. i runs fastest in `cells`.
    """

    cells: NDArray[np.int64]
    codes: NDArray[np.uint8]
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.cells)

    def indices(self, at: NDArray[np.intp] | slice = slice(None)) -> NDArray[np.int64]:
        """Indices i, j, k of the cells, (N, 3)."""
        ni, nj, _ = self.shape
        cells = self.cells[at]
        k = cells // (ni * nj)  # two divisions and no remainder: these are what costs
        in_plane = cells - k * (ni * nj)
        j = in_plane // ni
        return np.stack([in_plane - j * ni, j, k], axis=1)


def find_surfaces(labels: Labels) -> dict[int, Surface]:
    """The surface of every label above 0. What lies outside the volume counts as background.

    Args:
        labels: [i, j, k] uint8; Fortran order is fastest.
    """
    ni, nj, nk = labels.shape
    shape = ni + 1 + GAP, nj + 1 + GAP, nk + 1
    cells, labels_of, codes = [], [], []
    below = _FramedSlice(np.zeros((nj, ni), dtype=np.uint8))
    for k in range(nk + 1):
        above = _FramedSlice(labels.T[k] if k < nk else np.zeros((nj, ni), dtype=np.uint8))
        differs = below.differs | above.differs
        differs |= below.corner(0) ^ above.corner(0)
        at = np.flatnonzero(differs != 0)
        corners = np.stack([p.corner(n)[at] for p in (below, above) for n in range(4)])
        for chosen, label, code in _peel_labels(corners):
            cells.append(at[chosen] + k * shape[0] * shape[1])
            labels_of.append(label)
            codes.append(code)
        below = above
    if not cells:
        return {}
    label_of = np.concatenate(labels_of)
    order = np.argsort(label_of, kind="stable")  # a radix sort
    cell, code = np.concatenate(cells)[order], np.concatenate(codes)[order]
    ends = np.cumsum(np.bincount(label_of, minlength=256)).tolist()
    return {
        label: Surface(cell[start:stop], code[start:stop], shape)
        for label, (start, stop) in enumerate(pairwise([0, *ends]))
        if stop > start
    }


class _FramedSlice:
    """One slice within a frame of background, flat, so that a cell's corners lie at fixed steps.

    The column behind each row is at once the one before the next row.
    """

    def __init__(self, slice_ji: Labels) -> None:
        nj, ni = slice_ji.shape
        self._width = ni + 1 + GAP
        self._flat = np.zeros(self._width * (nj + 2) + 1, dtype=np.uint8)
        self._flat[self._width : -1 - self._width].reshape(nj, -1)[:, 1 : ni + 1] = slice_ji
        first = self.corner(0)
        self.differs = first ^ self.corner(1)
        self.differs |= first ^ self.corner(2)
        self.differs |= first ^ self.corner(3)

    def corner(self, number: int) -> Labels:
        """The voxel at one corner of every cell of this plane, in the order of CORNERS."""
        step = (number & 1) + (number >> 1) * self._width
        return self._flat[step : len(self._flat) - self._width - 1 + step]


def _peel_labels(corners: Labels) -> Iterator[tuple[NDArray[np.intp], Labels, NDArray[np.uint8]]]:
    """Take the labels off cells with corners (8, N), the highest first, down to background.

    Yields:
        Which of the cells had a label left, that label, and the code of the corners inside it.
    """
    cells = np.arange(corners.shape[1])
    label = corners.max(axis=0)
    while cells.size:
        inside = corners == label
        yield cells, label, np.packbits(inside, axis=0, bitorder="little")[0]
        corners = corners * ~inside
        label = corners.max(axis=0)
        left = label > 0
        cells, corners, label = cells[left], corners[:, left], label[left]
