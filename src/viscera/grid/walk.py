"""One walk over a scan: what a network will see of it, and a first look on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from viscera.findings import Finding
from viscera.grid.grid import Grid, Map
from viscera.grid.look import Box, Look, Plane, Watch
from viscera.volume import Volume

MUCH_LESS = 0.75  # of the whole: then a copy is worth its time


def walk(
    volume: Volume,
    grid: Grid,
    findings: list[Finding],
    *,
    map_over: Map = map,
    tell: Callable[[float], None] = lambda _done: None,
) -> tuple[NDArray[np.float32], Look]:
    """Fill a network's grid from a scan, plane by plane as it is read.

    Args:
        volume: the scan, read or only opened.
        grid: the network's on it.
        findings: takes what the file's end tells.
        map_over: how planes are worked on; a pool's map runs them side by side.
        tell: takes the share of planes done.

    Returns:
        (Z, Y, X) float32 as `Grid.forward` gives them, and the look.

    Raises:
        InputError: the file is damaged.
    """
    watch = Watch(volume, grid.orientation)
    passing = watch.over(grid.orientation.planes(volume, findings))

    def told() -> Iterator[Plane]:
        for number, plane in enumerate(passing):
            yield plane
            tell((number + 1) / grid.source_shape[0])

    planes = grid.forward(told(), map_over=map_over)
    return planes, watch.look()


def part(planes: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """What lies in the box; where that is much less, the rest is forgotten."""
    kept = planes[box]
    return kept.copy() if kept.size < MUCH_LESS * planes.size else kept
