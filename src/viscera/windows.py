"""Sliding windows: where they stand, how they are blended, and what they score, slab by slab."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from viscera.bundle import Patch, Slices
from viscera.engine.protocol import Engine
from viscera.grid.grid import Grid, ScoreSlab
from viscera.volume import Hu

# Scores between patches are kept in half precision: half the memory, and no label changes.
_SCORE = np.float16


@dataclass(frozen=True, eq=False)
class AxisWindows:
    """The windows along one axis.

    Attributes:
        padding: voxels put before the axis so that it fills one window at least.
        starts: first voxel of each window, on the padded axis.
        weights: (windows, size) float32; where windows overlap, their weights sum to 1.
    """

    padding: int
    starts: tuple[int, ...]
    weights: NDArray[np.float32]

    @classmethod
    def fit(
        cls, length: int, size: int, overlap: float, *, gaussian: bool, sigma: float
    ) -> AxisWindows:
        """The fewest evenly spaced windows that cover an axis with at least this overlap."""
        padded = max(length, size)
        step = max(1.0, size * (1 - overlap))
        count = math.ceil((padded - size) / step) + 1
        starts = np.rint(np.linspace(0, padded - size, count)).astype(int)
        bell = np.ones(size)
        if gaussian:
            bell = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (sigma * size)) ** 2)
        total = np.zeros(padded)
        for start in starts:
            total[start : start + size] += bell
        weights = np.stack([bell / total[s : s + size] for s in starts]).astype(np.float32)
        return cls((padded - length) // 2, tuple(starts.tolist()), weights)


def mirrored(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Positions beyond an axis reflected back into it, over and over, borders not repeated."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    folded = np.abs(index) % period
    return np.asarray(np.minimum(folded, period - folded))


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
    outside = _lowest(grid)
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


def _each(axis: AxisWindows) -> Sequence[tuple[int, NDArray[np.float32]]]:
    return list(zip(axis.starts, axis.weights, strict=True))


def _lowest(grid: Grid) -> float:
    """The network's value of the window's lower end, which stands for air."""
    offset, divisor = grid.settings.scale
    return (grid.settings.window_hu[0] - offset) / divisor


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
    slab = np.full((len(planes), height, width), _lowest(grid), dtype=np.float32)
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


def _about_middle(length: int, size: int) -> tuple[slice, slice]:
    """Where an axis of this length and a window of this size meet, their middles together."""
    shared = min(length, size)
    a, b = (length - shared) // 2, (size - shared) // 2
    return slice(a, a + shared), slice(b, b + shared)
