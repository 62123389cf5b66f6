"""A scan read once: what networks see of it, and an overview taken on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from viscera.core.boxes import Box
from viscera.core.volume import Volume
from viscera.findings import Finding
from viscera.grid.grid import Grid, MapFunction, fill_grids
from viscera.grid.orientation import ScanPlane
from viscera.localise.overview import CoarseSampler, Overview

COPY_BELOW_SHARE = 0.75  # of the whole: then a copy is worth its time


@dataclass(frozen=True, eq=False)
class PreprocessedScan:
    """A scan as networks see it.

    Attributes:
        planes: of each grid (Z, Y, X) float32 as `Grid.forward` gives them.
        overview: the scan at about 4 mm.
        findings: what reading the voxels noticed.
    """

    planes: tuple[NDArray[np.float32], ...]
    overview: Overview
    findings: tuple[Finding, ...]


def preprocess(
    volume: Volume,
    grids: Sequence[Grid],
    *,
    map_over: MapFunction = map,
    on_progress: Callable[[float], None] = lambda _share: None,
) -> PreprocessedScan:
    """Fill the grids of networks from a scan, plane by plane as it is read.

    Args:
        volume: the scan; its voxels may stay in their file.
        grids: the networks' on it, all of one orientation.
        map_over: how planes are worked on; a pool's map runs them side by side.
        on_progress: takes the share of planes done.

    Raises:
        InputError: the file is damaged.
    """
    orientation = grids[0].orientation
    sampler = CoarseSampler(volume, orientation)
    findings: list[Finding] = []

    def watched_planes() -> Iterator[ScanPlane]:
        for count, plane in enumerate(sampler.pass_through(orientation.planes(volume)), 1):
            findings.extend(plane.findings)
            yield plane
            on_progress(count / grids[0].source_shape[0])

    planes = fill_grids(grids, watched_planes(), map_over=map_over)
    return PreprocessedScan(tuple(planes), sampler.overview(), tuple(findings))


def crop_to_box(planes: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """What lies in the box; where that is much less, the memory of the rest is given back.

    Args:
        planes: (Z, Y, X).
        box: slices along z, y, x.
    """
    cropped = planes[box]
    return cropped.copy() if cropped.size < COPY_BELOW_SHARE * planes.size else cropped
