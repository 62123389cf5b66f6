"""2.5-D networks: stacks of neighbouring slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from viscera.bundle import Slices
from viscera.engine.protocol import Engine
from viscera.grid.grid import ScoreSlab
from viscera.pipeline import side_by_side


def score_slices(
    planes: NDArray[np.float32],
    engine: Engine,
    slices: Slices,
    outside: float,
    pool: Executor,
    tell: Callable[[float], None],
) -> Iterator[ScoreSlab]:
    """Scores of a 2.5-D network, a batch of slices at a time, in as many lanes as the engine has.

    Neighbours beyond the stack repeat its border. In plane, a grid with given spacing is cut or
    padded about its middle to the network's size.

    Args:
        planes: (Z, Y, X) as `Grid.forward` makes them.
        engine: the network.
        slices: stack and size.
        outside: the network's value of air.
        pool: runs the lanes.
        tell: takes the share of slices done.

    Yields:
        Slab start and (C, n, Y, X) scores.
    """
    reach, count = slices.stack // 2, len(planes)
    y, x = (_about_middle(a, b) for a, b in zip(planes.shape[1:], slices.size[::-1], strict=True))
    cut = planes.shape[1:] != slices.size[::-1]

    def scored(start: int) -> ScoreSlab:
        centres = np.arange(start, min(start + slices.batch, count))
        batch = np.full((slices.batch, slices.stack, *slices.size[::-1]), outside, np.float32)
        for channel in range(slices.stack):
            seen = np.clip(centres + channel - reach, 0, count - 1)
            batch[: len(centres), channel, y[1], x[1]] = planes[seen, y[0], x[0]]
        scores = engine.run(batch)[: len(centres)].transpose(1, 0, 2, 3)
        if cut:
            part = scores
            scores = np.zeros((len(part), len(centres), *planes.shape[1:]), dtype=np.float32)
            scores[0] = 1e-3  # outside the network's field of view all is background
            scores[:, :, y[0], x[0]] = part[:, :, y[1], x[1]]
        return start, scores

    starts = range(0, count, slices.batch)
    lanes = engine.lanes
    # One lane overwrites its scores, so that nothing may run while they are used.
    slabs = (
        map(scored, starts)
        if lanes == 1
        else side_by_side(scored, starts, pool=pool, most=2 * lanes)
    )
    for start, scores in slabs:
        yield start, scores
        tell(min(1.0, (start + slices.batch) / count))


def _about_middle(length: int, size: int) -> tuple[slice, slice]:
    """Where an axis of this length and a window of this size meet, their middles together."""
    shared = min(length, size)
    a, b = (length - shared) // 2, (size - shared) // 2
    return slice(a, a + shared), slice(b, b + shared)
