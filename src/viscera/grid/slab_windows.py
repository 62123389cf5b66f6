"""Slabs of scores along z, each with what its planes need of the slab before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.grid.resample import Taps


class ScoreSlab(NamedTuple):
    """A run of finished slices of the network's grid.

    Attributes:
        start: number of the first slice along z.
        scores: (C, n, Y, X).
    """

    start: int
    scores: NDArray[Any]


class SlabWindow(NamedTuple):
    """The scores at hand: a slab, and the last slice of the slab before it.

    Attributes:
        slab: finished slices of the network's grid.
        last_slice: (C, Y, X) scores of the slice before the slab; None of the first slab.
        z: linear taps from the network's slices to the planes that are wanted.
        planes: the wanted planes that lie within.
    """

    slab: ScoreSlab
    last_slice: NDArray[Any] | None
    z: Taps
    planes: range

    def scores_at(self, plane: int) -> NDArray[np.float32]:
        """Scores (C, Y, X) at a wanted plane, between two slices of the network's grid."""
        low, high = self.z.index[:, plane]
        share = self.z.weight[1, plane]
        if share == 0 or low == high:
            return np.ascontiguousarray(self._slice_scores(low), dtype=np.float32)
        if share == 1:
            return np.ascontiguousarray(self._slice_scores(high), dtype=np.float32)
        mixed: NDArray[np.float32] = self._slice_scores(low) * (1 - share)
        mixed += self._slice_scores(high) * share
        return mixed

    def _slice_scores(self, number: int) -> NDArray[Any]:
        if number >= self.slab.start:
            return np.asarray(self.slab.scores[:, number - self.slab.start])
        assert self.last_slice is not None
        return self.last_slice


def slab_windows(slabs: Iterable[ScoreSlab], z: Taps) -> Iterator[SlabWindow]:
    """Every slab with what its planes need of the slab before it.

    Args:
        slabs: along z, in order and without gaps.
        z: linear taps from the network's slices to the planes that are wanted.
    """
    finished = 0
    last_slice: NDArray[Any] | None = None
    for slab in slabs:
        stop = slab.start + slab.scores.shape[1]
        ready = int(np.searchsorted(z.index[1], stop))
        yield SlabWindow(slab, last_slice, z, range(finished, ready))
        finished, last_slice = ready, slab.scores[:, -1].copy()
        del slab  # its memory before the next is made
