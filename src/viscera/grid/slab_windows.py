"""Slabs of scores along z, each with what its planes need of the slab before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.grid.resample import Taps

SliceScores = NDArray[np.float32]


class ScoreSlab(NamedTuple):
    """A run of finished slices of the network's grid.

    Attributes:
        start: number of the first slice along z.
        slices: scores (C, Y, X) of each slice.
    """

    start: int
    slices: Sequence[SliceScores]


class PlaneBetween(NamedTuple):
    """A wanted plane, between two slices of the network's grid.

    Attributes:
        number: of the plane.
        low, high: numbers of the slices; equal where the plane lies on one.
        share: how much the higher one counts.
    """

    number: int
    low: int
    high: int
    share: np.float32


class SlabWindow(NamedTuple):
    """The slices at hand, and the planes that lie between them.

    Attributes:
        slices: scores (C, Y, X) by number: those of a slab, and the last one of the slab before.
        fresh: numbers of those of the slab.
        planes: the wanted planes that lie within.
    """

    slices: dict[int, SliceScores]
    fresh: range
    planes: list[PlaneBetween]

    def scores_at(self, plane: PlaneBetween) -> SliceScores:
        """Scores (C, Y, X) at a wanted plane."""
        low = self.slices[plane.low]
        if plane.low == plane.high:
            return low
        mixed: SliceScores = low * (1 - plane.share)
        mixed += self.slices[plane.high] * plane.share
        return mixed


def slab_windows(slabs: Iterable[ScoreSlab], z: Taps) -> Iterator[SlabWindow]:
    """Every slab with what its planes need of the slab before it.

    Args:
        slabs: along z, in order and without gaps.
        z: linear taps from the network's slices to the planes that are wanted.
    """
    finished = 0
    last: dict[int, SliceScores] = {}
    for slab in slabs:
        fresh = range(slab.start, slab.start + len(slab.slices))
        slices = {**last, **dict(zip(fresh, slab.slices, strict=True))}
        last = {fresh[-1]: slab.slices[-1]}
        del slab
        ready = int(np.searchsorted(z.index[1], fresh.stop))
        yield SlabWindow(slices, fresh, [_between(z, n) for n in range(finished, ready)])
        finished = ready
        del slices  # their memory before the next are made


def _between(z: Taps, number: int) -> PlaneBetween:
    low, high = (int(n) for n in z.index[:, number])
    share = z.weight[1, number]
    if share in (0, 1):
        low = high = high if share == 1 else low
    return PlaneBetween(number, low, high, share)
