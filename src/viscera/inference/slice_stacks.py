"""2.5-D networks: stacks of neighbouring slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Slices
from viscera.engine.protocol import Engine
from viscera.engine.scores import as_float32
from viscera.grid.slab_windows import ScoreSlab
from viscera.runtime.prefetch import map_concurrently

# A score for background where the network sees nothing.
_OUTSIDE_SCORE = 1e-3


def predict_slice_stacks(
    planes: NDArray[np.float32],
    engine: Engine,
    slices: Slices,
    *,
    air_value: float,
    pool: Executor,
    on_progress: Callable[[float], None],
) -> Iterator[ScoreSlab]:
    """Scores of a 2.5-D network, a batch of slices at a time.

    Neighbours beyond the stack repeat its border. In plane, a grid with given spacing is cut or
    padded about its middle to the network's size.

    Args:
        planes: (Z, Y, X) as `Grid.forward` makes them.
        engine: runs the network, as many batches side by side as it likes.
        slices: stack and size.
        air_value: the network's value of air.
        pool: runs the batches.
        on_progress: takes the share of slices done.

    Yields:
        Slabs of scores.
    """
    reach, count = slices.stack // 2, len(planes)
    (grid_y, input_y), (grid_x, input_x) = (
        _centred_overlap(length, size)
        for length, size in zip(planes.shape[1:], slices.size[::-1], strict=True)
    )
    is_cut = planes.shape[1:] != slices.size[::-1]

    def predict(start: int) -> ScoreSlab:
        centres = np.arange(start, min(start + slices.batch, count))
        batch = np.full((slices.batch, slices.stack, *slices.size[::-1]), air_value, np.float32)
        for channel in range(slices.stack):
            neighbours = np.clip(centres + channel - reach, 0, count - 1)
            batch[: len(centres), channel, input_y, input_x] = planes[neighbours, grid_y, grid_x]
        scores = as_float32(engine.run(batch)[: len(centres)])
        if not is_cut:
            return ScoreSlab(start, list(scores))
        on_grid = np.zeros((*scores.shape[:2], *planes.shape[1:]), dtype=np.float32)
        on_grid[:, 0] = _OUTSIDE_SCORE
        on_grid[:, :, grid_y, grid_x] = scores[:, :, input_y, input_x]
        return ScoreSlab(start, list(on_grid))

    starts = range(0, count, slices.batch)
    requests = engine.parallel_requests
    slabs = (
        map(predict, starts)
        if requests == 1
        else map_concurrently(predict, starts, pool=pool, most=2 * requests)
    )
    for slab in slabs:
        yield slab
        on_progress(min(1.0, (slab.start + slices.batch) / count))


def _centred_overlap(length: int, size: int) -> tuple[slice, slice]:
    """Where an axis and a window of this size meet, their middles together: on each of both."""
    shared = min(length, size)
    on_axis, in_window = (length - shared) // 2, (size - shared) // 2
    return slice(on_axis, on_axis + shared), slice(in_window, in_window + shared)
