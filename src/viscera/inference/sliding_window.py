"""3-D networks: overlapping windows, blended as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Patch
from viscera.engine.protocol import Engine
from viscera.engine.scores import Scores, as_float32
from viscera.grid.slab_windows import ScoreSlab
from viscera.inference.windows import AxisWindows, mirror_indices

_SLICES_AT_ONCE = 8  # blended and passed on together


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
        pool: blends slices side by side.
        on_progress: takes the share of windows done.

    Yields:
        Slabs of scores.
    """
    z, y, x = fit_axis_windows(planes.shape, patch)
    depth, count = patch.size[2], len(planes)
    rows = _windows(z)
    in_plane = [
        _InPlane(window_y, window_x, (y.padding, x.padding), planes.shape[1:])
        for window_y in _windows(y)
        for window_x in _windows(x)
    ]
    scores: list[Scores | None] = [None] * len(in_plane)
    shared: list[NDArray[np.float32]] = []  # slices that the windows before these have begun
    for row, (start, weight) in enumerate(rows):
        numbers = np.arange(start, start + depth) - z.padding
        slab = _padded_slab(planes, numbers, patch, air_value, (y.padding, x.padding))
        for number, part in enumerate(in_plane):
            window = np.ascontiguousarray(slab[:, part.window_y, part.window_x])
            scores[number] = engine.run(window[None, None], scores[number])
            on_progress((row + (number + 1) / len(in_plane)) / len(rows))

        def blend(
            number: int,
            weight: NDArray[np.float32] = weight,
            shared: list[NDArray[np.float32]] = shared,
        ) -> NDArray[np.float32]:
            """The scores (C, Y, X) of a slice of this row, what windows before it gave included."""
            result = _blend_in_plane(in_plane, scores, number, planes.shape[1:])
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


class _InPlane:
    """Where a window stands in plane.

    Attributes:
        window_y, window_x: its part of the padded plane.
        inner: the part of the window that lies on the plane.
        target: the same part of the plane.
        weight: [y, x] how much each pixel of that part counts; None where all count in full.
    """

    def __init__(
        self, y: _Window, x: _Window, padding: tuple[int, int], shape: tuple[int, ...]
    ) -> None:
        height, width = len(y.weight), len(x.weight)
        self.window_y = slice(y.start, y.start + height)
        self.window_x = slice(x.start, x.start + width)
        inner_y, target_y = _overlap_with_axis(y.start - padding[0], height, shape[0])
        inner_x, target_x = _overlap_with_axis(x.start - padding[1], width, shape[1])
        self.inner, self.target = (inner_y, inner_x), (target_y, target_x)
        weight = np.multiply.outer(y.weight[inner_y], x.weight[inner_x])
        self.weight = None if (weight == 1).all() else weight


def _blend_in_plane(
    in_plane: Sequence[_InPlane],
    scores: Sequence[Scores | None],
    number: int,
    shape: tuple[int, ...],
) -> NDArray[np.float32]:
    """Scores (C, Y, X) of one slice of all windows at one height."""
    result: NDArray[np.float32] | None = None
    for part, window in zip(in_plane, scores, strict=True):
        assert window is not None  # all of them have run
        own = as_float32(window[0, :, number, *part.inner])
        if len(in_plane) == 1:
            return np.array(own, order="C")  # the window's memory is used again
        if result is None:
            result = np.zeros((len(own), *shape), dtype=np.float32)
        result[:, *part.target] += own if part.weight is None else own * part.weight
    assert result is not None  # there is a window at least
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
