"""2.5-D networks: stacks of neighbouring slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from viscera.bundle import Slices
from viscera.engine.protocol import Engine
from viscera.grid.grid import Grid, ScoreSlab
from viscera.volume import Hu


def score_slices(
    grid: Grid,
    source: Hu,
    engine: Engine,
    slices: Slices,
    tell: Callable[[float], None],
) -> Iterator[ScoreSlab]:
    """Scores of a 2.5-D network, a batch of slices at a time.

    Neighbours beyond the stack repeat its border. In plane, a grid with given spacing is cut or
    padded about its middle to the network's size.

    Args:
        grid: geometry.
        source: [i, j, k] HU.
        engine: the network.
        slices: stack and size.
        tell: takes the share of slices done.

    Yields:
        Slab start and (C, n, Y, X) scores.
    """
    reach, count = slices.stack // 2, grid.shape[0]
    y, x = (_about_middle(a, b) for a, b in zip(grid.shape[1:], slices.size[::-1], strict=True))
    outside = grid.lowest
    cache: dict[int, NDArray[np.float32]] = {}
    for start in range(0, count, slices.batch):
        centres = range(start, min(start + slices.batch, count))
        needed = [min(max(p, 0), count - 1) for p in range(start - reach, centres[-1] + reach + 1)]
        missing = sorted(set(needed) - cache.keys())
        cache = {p: cache[p] for p in set(needed) & cache.keys()}
        cache.update(zip(missing, grid.forward(source, missing), strict=True))
        batch = np.full((slices.batch, slices.stack, *slices.size[::-1]), outside, np.float32)
        for n in range(len(centres)):
            for channel in range(slices.stack):
                plane = cache[needed[n + channel]]
                batch[n, channel, y[1], x[1]] = plane[y[0], x[0]]
        result = engine.run(batch)[: len(centres)]
        scores = np.zeros((result.shape[1], len(centres), *grid.shape[1:]), dtype=np.float32)
        scores[0] = 1e-3  # outside the network's field of view all is background
        scores[:, :, y[0], x[0]] = result.transpose(1, 0, 2, 3)[:, :, y[1], x[1]]
        yield start, scores
        tell((centres[-1] + 1) / count)


def _about_middle(length: int, size: int) -> tuple[slice, slice]:
    """Where an axis of this length and a window of this size meet, their middles together."""
    shared = min(length, size)
    a, b = (length - shared) // 2, (size - shared) // 2
    return slice(a, a + shared), slice(b, b + shared)
