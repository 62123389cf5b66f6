"""3-D networks: overlapping patches, blended as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from viscera.bundle import Patch
from viscera.engine.protocol import Engine
from viscera.grid.grid import ScoreSlab
from viscera.scoring.windows import AxisWindows, mirrored

Scores = NDArray[np.float32]
_Window = tuple[int, NDArray[np.float32]]  # its first voxel, and how much each of them counts


def patch_windows(
    shape: tuple[int, ...], patch: Patch
) -> tuple[AxisWindows, AxisWindows, AxisWindows]:
    """The windows of a 3-D network along z, y, x of a grid of this shape."""
    gaussian = patch.blending == "gaussian"
    z, y, x = (
        AxisWindows.fit(length, size, patch.overlap, gaussian=gaussian, sigma=patch.sigma)
        for length, size in zip(shape, patch.size[::-1], strict=True)
    )
    return z, y, x


def score_patches(
    planes: NDArray[np.float32],
    engine: Engine,
    patch: Patch,
    outside: float,
    pool: Executor,
    tell: Callable[[float], None],
) -> Iterator[ScoreSlab]:
    """Scores of a 3-D network, as slabs along z that overlapping windows no longer change.

    Held are the scores of the windows at one height, and of the slices that they share with those
    before them.

    Args:
        planes: (Z, Y, X) as `Grid.forward` makes them.
        engine: the network.
        patch: window size, overlap and blending.
        outside: the network's value of air.
        pool: weighs and adds up classes side by side.
        tell: takes the share of windows done.

    Yields:
        Slab start and (C, n, Y, X) scores; the array is reused after the next step.
    """
    windows = z, y, x = patch_windows(planes.shape, patch)
    depth, count = patch.size[2], len(planes)
    shared: Scores | None = None
    for row, (start, weight) in enumerate(_each(z)):
        numbers = np.arange(start, start + depth) - z.padding
        slab = _padded_slab(planes, numbers, patch, outside, (y.padding, x.padding))
        begun = row / len(z.starts)
        scores = _score_row(
            slab,
            engine,
            windows,
            planes.shape[1:],
            pool,
            lambda done, begun=begun: tell(begun + done / len(z.starts)),  # type: ignore[misc]
        )
        done = depth if row + 1 == len(z.starts) else z.starts[row + 1] - start
        _blend(scores, weight, shared, pool)
        shared = None  # before the next is copied
        low, high = max(0, z.padding - start), min(done, z.padding + count - start)
        yield start + low - z.padding, scores[:, low:high]
        shared = scores[:, done:].copy()


def _score_row(
    slab: NDArray[np.float32],
    engine: Engine,
    windows: tuple[AxisWindows, AxisWindows, AxisWindows],
    shape: tuple[int, ...],
    pool: Executor,
    tell: Callable[[float], None],
) -> Scores:
    """Scores (C, depth, Y, X) of all windows at one height, blended in plane."""
    _, y, x = windows
    height, width = y.weights.shape[1], x.weights.shape[1]
    both = [(b, wy, a, wx) for b, wy in _each(y) for a, wx in _each(x)]
    sums: Scores | None = None
    for number, (b, y_weight, a, x_weight) in enumerate(both):
        box = np.ascontiguousarray(slab[:, b : b + height, a : a + width])
        result: Scores = engine.run(box[None, None])[0]
        inner_y, target_y = _inside(b - y.padding, height, shape[0])
        inner_x, target_x = _inside(a - x.padding, width, shape[1])
        tell((number + 1) / len(both))
        result = result[:, :, inner_y, inner_x]
        if len(both) == 1:  # it is all there is, and counts in full
            return result
        if sums is None:
            sums = np.zeros((*result.shape[:2], *shape), dtype=np.float32)
        weight = np.multiply.outer(y_weight[inner_y], x_weight[inner_x])

        def add(
            channel: int,
            result: Scores = result,
            weight: Scores = weight,
            target: Scores = sums[:, :, target_y, target_x],
        ) -> None:
            for scores, total in zip(result[channel], target[channel], strict=True):
                total += scores * weight

        list(pool.map(add, range(len(result))))
    assert sums is not None  # there is a window at least
    return sums


def _blend(
    scores: Scores, weight: NDArray[np.float32], shared: Scores | None, pool: Executor
) -> None:
    """Weigh slices along z and add what windows before these gave the first of them, in place."""
    counted = np.flatnonzero(weight != 1)

    def blend(channel: int) -> None:
        for plane in counted:
            scores[channel, plane] *= weight[plane]
        if shared is not None:
            scores[channel, : shared.shape[1]] += shared[channel]

    list(pool.map(blend, range(len(scores))))


def _each(axis: AxisWindows) -> Sequence[_Window]:
    return list(zip(axis.starts, axis.weights, strict=True))


def _padded_slab(
    planes: NDArray[np.float32],
    numbers: NDArray[np.intp],
    patch: Patch,
    outside: float,
    padding: tuple[int, int],
) -> NDArray[np.float32]:
    """Slices of these numbers, those beyond the stack mirrored or empty, sides padded."""
    shape = planes.shape
    height, width = (max(n, size) for n, size in zip(shape[1:], patch.size[1::-1], strict=True))
    within = (numbers >= 0) & (numbers < shape[0])
    if within.all() and (height, width) == shape[1:]:
        return planes[numbers[0] : numbers[-1] + 1]
    slab = np.full((len(numbers), height, width), outside, dtype=np.float32)
    y, x = (slice(p, p + n) for p, n in zip(padding, shape[1:], strict=True))
    slab[within, y, x] = planes[numbers[within]]
    if patch.extend_z == "mirror":
        slab[~within, y, x] = planes[mirrored(numbers[~within], shape[0])]
    return slab


def _inside(start: int, size: int, length: int) -> tuple[slice, slice]:
    """The part of a window that lies on an axis: within the window, and on the axis."""
    low, high = max(0, -start), min(size, length - start)
    return slice(low, high), slice(start + low, start + high)
