"""3-D networks: overlapping patches, blended in a rolling buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from viscera.bundle import Patch
from viscera.engine.protocol import Engine
from viscera.grid.grid import Grid, ScoreSlab
from viscera.scoring.windows import AxisWindows, mirrored
from viscera.volume import Hu

# Scores between patches are kept in half precision: half the memory; a few ties move.
_SCORE = np.float16


def patch_windows(grid: Grid, patch: Patch) -> tuple[AxisWindows, AxisWindows, AxisWindows]:
    """The windows of a 3-D network along z, y, x."""
    gaussian = patch.blending == "gaussian"
    z, y, x = (
        AxisWindows.fit(length, size, patch.overlap, gaussian=gaussian, sigma=patch.sigma)
        for length, size in zip(grid.shape, patch.size[::-1], strict=True)
    )
    return z, y, x


def score_patches(
    grid: Grid,
    source: Hu,
    engine: Engine,
    patch: Patch,
    channels: int,
    pool: Executor,
    tell: Callable[[float], None],
) -> Iterator[ScoreSlab]:
    """Scores of a 3-D network, as slabs along z that overlapping windows no longer change.

    Only the windows at one height are held: (C, patch depth, Y, X) in half precision.

    Args:
        grid: geometry.
        source: [i, j, k] HU.
        engine: the network.
        patch: window size, overlap and blending.
        channels: classes that the network scores.
        pool: adds up classes side by side.
        tell: takes the share of windows done.

    Yields:
        Slab start and scores; the array is reused after the next step.
    """
    depth, height, width = patch.size[::-1]
    z, y, x = patch_windows(grid, patch)
    scores = np.zeros((channels, depth, *grid.shape[1:]), dtype=_SCORE)
    windows = [(b, wy, a, wx) for b, wy in _each(y) for a, wx in _each(x)]
    for row, (start, z_weight) in enumerate(_each(z)):
        planes = np.arange(start, start + depth) - z.padding
        slab = _padded_slab(grid, source, planes, patch, (y.padding, x.padding))
        for number, (b, y_weight, a, x_weight) in enumerate(windows):
            box = np.ascontiguousarray(slab[:, b : b + height, a : a + width])
            result = engine.run(box[None, None])[0]
            inner_y, target_y = _inside(b - y.padding, height, grid.shape[1])
            inner_x, target_x = _inside(a - x.padding, width, grid.shape[2])
            weight = np.multiply.outer(
                z_weight, np.multiply.outer(y_weight[inner_y], x_weight[inner_x])
            )

            def add(
                channel: int,
                result: NDArray[np.float32] = result,
                weight: NDArray[np.float32] = weight,
                inner: tuple[slice, slice] = (inner_y, inner_x),
                target: tuple[slice, slice] = (target_y, target_x),
            ) -> None:
                for plane in range(depth):
                    part = result[channel, plane, inner[0], inner[1]] * weight[plane]
                    sums = scores[channel, plane, target[0], target[1]]
                    part += sums
                    sums[...] = part

            list(pool.map(add, range(channels)))
            tell((row + (number + 1) / len(windows)) / len(z.starts))
        last = row + 1 == len(z.starts)
        done = depth if last else z.starts[row + 1] - start
        begin, stop = max(0, z.padding - start), min(done, z.padding + grid.shape[0] - start)
        yield start + begin - z.padding, scores[:, begin:stop]
        if not last:
            for channel in scores:  # one after the other: a copy of all would double the memory
                channel[: depth - done] = channel[done:].copy()
                channel[depth - done :] = 0


def _each(axis: AxisWindows) -> Sequence[tuple[int, NDArray[np.float32]]]:
    return list(zip(axis.starts, axis.weights, strict=True))


def _padded_slab(
    grid: Grid,
    source: Hu,
    planes: NDArray[np.intp],
    patch: Patch,
    padding: tuple[int, int],
) -> NDArray[np.float32]:
    """Network slices of these numbers, those beyond the stack mirrored or empty, sides padded."""
    height, width = (
        max(n, size) for n, size in zip(grid.shape[1:], patch.size[1::-1], strict=True)
    )
    within = (planes >= 0) & (planes < grid.shape[0])
    if within.all() and (height, width) == grid.shape[1:]:
        return grid.forward(source, planes.tolist())
    slab = np.full((len(planes), height, width), grid.lowest, dtype=np.float32)
    y, x = (slice(p, p + n) for p, n in zip(padding, grid.shape[1:], strict=True))
    # A stack that does not fill the patch lies in it whole, so its slices serve as mirror images.
    made = grid.forward(source, planes[within].tolist())
    slab[within, y, x] = made
    if patch.extend_z == "mirror":
        slab[~within, y, x] = made[mirrored(planes[~within], grid.shape[0])]
    return slab


def _inside(start: int, size: int, length: int) -> tuple[slice, slice]:
    """The part of a window that lies on an axis: within the window, and on the axis."""
    low, high = max(0, -start), min(size, length - start)
    return slice(low, high), slice(start + low, start + high)
