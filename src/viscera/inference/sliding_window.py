"""3-D networks: overlapping windows, blended as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Patch
from viscera.engine.protocol import Engine
from viscera.engine.scores import Scores, as_float32, copy_as_float32
from viscera.grid.slab_windows import ScoreSlab
from viscera.inference.windows import AxisWindows, mirror_indices

_SLICES_AT_ONCE = 8  # blended and passed on together


class _Window(NamedTuple):
    """One window on an axis: its first voxel, and how much each of its voxels counts."""

    start: int
    weight: NDArray[np.float32]

    @property
    def span(self) -> slice:
        """Its voxels on the axis."""
        return slice(self.start, self.start + len(self.weight))


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
        pool: blends slices side by side.
        on_progress: takes the share of windows done.

    Yields:
        Slabs of scores.
    """
    z, y, x = fit_axis_windows(planes.shape, patch)
    depth, count = patch.size[2], len(planes)
    rows = _windows(z)
    in_plane = list(product(_windows(y), _windows(x)))
    segments = _segments(y, planes.shape[1]), _segments(x, planes.shape[2])
    scores: list[Scores] = []
    shared: list[NDArray[np.float32]] = []  # slices that the windows before these have begun
    for row, (start, weight) in enumerate(rows):
        numbers = np.arange(start, start + depth) - z.padding
        slab = _padded_slab(planes, numbers, patch, air_value, (y.padding, x.padding))
        for number, (window_y, window_x) in enumerate(in_plane):
            window = np.ascontiguousarray(slab[:, window_y.span, window_x.span])[None, None]
            if row == 0:
                scores.append(engine.run(window))
            else:
                scores[number] = engine.run(window, scores[number])
            on_progress((row + (number + 1) / len(in_plane)) / len(rows))

        def blend(
            number: int,
            weight: NDArray[np.float32] = weight,
            shared: list[NDArray[np.float32]] = shared,
        ) -> NDArray[np.float32]:
            """The scores (C, Y, X) of a slice of this row, what windows before it gave included."""
            result = _blend_in_plane(*segments, scores, number)
            if weight[number] != 1:
                result *= weight[number]
            if number < len(shared):
                result += shared[number]
            return result

        is_last = row + 1 == len(rows)
        finished = depth if is_last else rows[row + 1].start - start
        low, high = max(0, z.padding - start), min(finished, z.padding + count - start)
        for first in range(low, high, _SLICES_AT_ONCE):
            slices = range(first, min(first + _SLICES_AT_ONCE, high))
            yield ScoreSlab(start + first - z.padding, list(pool.map(blend, slices)))
        shared = [] if is_last else list(pool.map(blend, range(finished, depth)))


class _Part(NamedTuple):
    """What one window has of a segment.

    Attributes:
        window: its number along the axis.
        within: the pixels of the window.
        weight: how much each of them counts.
    """

    window: int
    within: slice
    weight: NDArray[np.float32]


class _Segment(NamedTuple):
    """A part of an axis that the same windows cover.

    Attributes:
        target: its pixels.
        parts: of the windows.
    """

    target: slice
    parts: list[_Part]


def _segments(axis: AxisWindows, length: int) -> list[_Segment]:
    """An axis of this length, cut where a window begins or ends."""
    windows = _windows(axis)
    spans = [
        _overlap_with_axis(window.start - axis.padding, len(window.weight), length)
        for window in windows
    ]
    cuts = sorted({end for _, target in spans for end in (target.start, target.stop)})
    segments = []
    for start, stop in pairwise(cuts):
        parts = []
        for number, (inner, target) in enumerate(spans):
            if target.start <= start and stop <= target.stop:
                first = inner.start + start - target.start
                within = slice(first, first + stop - start)
                parts.append(_Part(number, within, windows[number].weight[within]))
        segments.append(_Segment(slice(start, stop), parts))
    return segments


def _blend_in_plane(
    y: Sequence[_Segment], x: Sequence[_Segment], scores: Sequence[Scores], number: int
) -> NDArray[np.float32]:
    """Scores (C, Y, X) of one slice of all windows at one height, in the order of y, then x."""
    windows_x = x[-1].parts[-1].window + 1
    shape = scores[0].shape[1], y[-1].target.stop, x[-1].target.stop
    result = np.empty(shape, dtype=np.float32)
    for rows, columns in product(y, x):
        target = result[:, rows.target, columns.target]
        for count, (part_y, part_x) in enumerate(product(rows.parts, columns.parts)):
            window = scores[part_y.window * windows_x + part_x.window]
            part = window[0, :, number, part_y.within, part_x.within]
            if len(rows.parts) == len(columns.parts) == 1:  # it counts in full
                copy_as_float32(part, target)
                continue
            weight = np.multiply.outer(part_y.weight, part_x.weight)
            if count == 0:
                np.multiply(as_float32(part), weight, out=target)
            else:
                target += as_float32(part) * weight
    return result


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
