"""3-D networks: overlapping windows, blended as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Patch
from viscera.engine.protocol import Engine
from viscera.grid.slab_windows import ScoreSlab
from viscera.inference.windows import AxisWindows, mirror_indices

WindowScores = NDArray[np.float32]


class _Window(NamedTuple):
    """One window on an axis: its first voxel, and how much each of its voxels counts."""

    start: int
    weight: NDArray[np.float32]


def fit_axis_windows(
    shape: tuple[int, ...], patch: Patch
) -> tuple[AxisWindows, AxisWindows, AxisWindows]:
    """The windows of a 3-D network along z, y, x.

    Args:
        shape: (Z, Y, X) of the grid.
        patch: window size, overlap and blending.
    """
    gaussian = patch.blending == "gaussian"
    z, y, x = (
        AxisWindows.fit(length, size, patch.overlap, gaussian=gaussian, sigma=patch.sigma)
        for length, size in zip(shape, patch.size[::-1], strict=True)
    )
    return z, y, x


def predict_windows(
    planes: NDArray[np.float32],
    engine: Engine,
    patch: Patch,
    *,
    air_value: float,
    pool: Executor,
    on_progress: Callable[[float], None],
) -> Iterator[ScoreSlab]:
    """Scores of a 3-D network, as slabs along z that overlapping windows no longer change.

    In memory are the scores of the windows at one height, and of the slices that they share with
    the windows before them.

    Args:
        planes: (Z, Y, X) as `Grid.forward` makes them.
        engine: runs the network.
        patch: window size, overlap and blending.
        air_value: the network's value of air.
        pool: weighs and adds up classes side by side.
        on_progress: takes the share of windows done.

    Yields:
        Slabs of scores; their array is reused after the next step.
    """
    windows = z, y, x = fit_axis_windows(planes.shape, patch)
    depth, count = patch.size[2], len(planes)
    rows = _windows(z)
    shared: WindowScores | None = None
    for row, (start, weight) in enumerate(rows):
        numbers = np.arange(start, start + depth) - z.padding
        slab = _padded_slab(planes, numbers, patch, air_value, (y.padding, x.padding))

        def on_row_progress(share: float, row: int = row) -> None:
            on_progress((row + share) / len(rows))

        scores = _predict_row(slab, engine, windows, planes.shape[1:], pool, on_row_progress)
        is_last = row + 1 == len(rows)
        finished = depth if is_last else rows[row + 1].start - start
        _blend(scores, weight, shared, pool)
        shared = None  # its memory before the next is copied
        low, high = max(0, z.padding - start), min(finished, z.padding + count - start)
        yield ScoreSlab(start + low - z.padding, scores[:, low:high])
        shared = scores[:, finished:].copy()
        del scores  # before the next ones are made


def _predict_row(
    slab: NDArray[np.float32],
    engine: Engine,
    windows: tuple[AxisWindows, AxisWindows, AxisWindows],
    shape: tuple[int, ...],
    pool: Executor,
    on_progress: Callable[[float], None],
) -> WindowScores:
    """Scores (C, depth, Y, X) of all windows at one height, blended in plane."""
    _, y_axis, x_axis = windows
    height, width = y_axis.weights.shape[1], x_axis.weights.shape[1]
    in_plane = [(y, x) for y in _windows(y_axis) for x in _windows(x_axis)]
    sums: WindowScores | None = None
    for number, (y, x) in enumerate(in_plane, start=1):
        window = slab[:, y.start : y.start + height, x.start : x.start + width]
        scores: WindowScores = engine.run(np.ascontiguousarray(window)[None, None])[0]
        inner_y, target_y = _overlap_with_axis(y.start - y_axis.padding, height, shape[0])
        inner_x, target_x = _overlap_with_axis(x.start - x_axis.padding, width, shape[1])
        on_progress(number / len(in_plane))
        scores = scores[:, :, inner_y, inner_x]
        if len(in_plane) == 1:  # it is all there is, and counts in full
            return scores
        if sums is None:
            sums = np.zeros((*scores.shape[:2], *shape), dtype=np.float32)
        weight = np.multiply.outer(y.weight[inner_y], x.weight[inner_x])

        def add_class(
            channel: int,
            scores: WindowScores = scores,
            weight: WindowScores = weight,
            target: WindowScores = sums[:, :, target_y, target_x],
        ) -> None:
            for plane, total in zip(scores[channel], target[channel], strict=True):
                total += plane * weight

        list(pool.map(add_class, range(len(scores))))
    assert sums is not None  # there is a window at least
    return sums


def _blend(
    scores: WindowScores,
    weight: NDArray[np.float32],
    shared: WindowScores | None,
    pool: Executor,
) -> None:
    """Weigh slices along z and add what windows before these gave the first of them, in place."""
    weighed = np.flatnonzero(weight != 1)

    def blend_class(channel: int) -> None:
        for plane in weighed:
            scores[channel, plane] *= weight[plane]
        if shared is not None:
            scores[channel, : shared.shape[1]] += shared[channel]

    list(pool.map(blend_class, range(len(scores))))


def _windows(axis: AxisWindows) -> list[_Window]:
    return [_Window(*window) for window in zip(axis.starts, axis.weights, strict=True)]


def _padded_slab(
    planes: NDArray[np.float32],
    numbers: NDArray[np.intp],
    patch: Patch,
    air_value: float,
    padding: tuple[int, int],
) -> NDArray[np.float32]:
    """Slices of these numbers, those beyond the stack mirrored or empty, sides padded."""
    shape = planes.shape
    height, width = (max(n, size) for n, size in zip(shape[1:], patch.size[1::-1], strict=True))
    within = (numbers >= 0) & (numbers < shape[0])
    if within.all() and (height, width) == shape[1:]:
        return planes[numbers[0] : numbers[-1] + 1]
    slab = np.full((len(numbers), height, width), air_value, dtype=np.float32)
    y, x = (slice(p, p + n) for p, n in zip(padding, shape[1:], strict=True))
    slab[within, y, x] = planes[numbers[within]]
    if patch.extend_z == "mirror":
        slab[~within, y, x] = planes[mirror_indices(numbers[~within], shape[0])]
    return slab


def _overlap_with_axis(start: int, size: int, length: int) -> tuple[slice, slice]:
    """The part of a window that lies on an axis: within the window, and on the axis."""
    low, high = max(0, -start), min(size, length - start)
    return slice(low, high), slice(start + low, start + high)
