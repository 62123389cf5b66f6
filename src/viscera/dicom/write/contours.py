"""Contours: closed polygons around a mask on one slice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]  # (n, 2): column and row of each corner, pixel centres are whole


def closed_contours(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Polygons that hold the centres of a mask's pixels and of no others.

    They run half-way between pixels. A hole is joined to the polygon around it by a channel of no
    width, the keyhole technique of PS3.3 C.8.8.6.3, which every reader fills in the same way.

    Args:
        mask: [row, column].

    Returns:
        One polygon for each connected part; the first corner is not repeated at the end.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    from contourpy import FillType, contour_generator

    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    framed = np.pad(box, 1).astype(np.float64)  # so that what touches the edge is closed as well
    generator = contour_generator(z=framed, fill_type=FillType.OuterOffset)
    shift = columns[0] - 1, rows[0] - 1
    polygons = []
    for corners, offsets in zip(*generator.filled(0.5, 1.5), strict=True):
        rings = [corners[start : end - 1] for start, end in pairwise(offsets)]
        polygons.append(_drop_straight_corners(_join_holes(rings[0], rings[1:])) + shift)
    return polygons


def _join_holes(outer: Polygon, holes: list[Polygon]) -> Polygon:
    """One polygon of an outer one and its holes, which run the other way round."""
    remaining = list(holes)
    while remaining:
        # The hole that is nearest comes first: its channel crosses no other.
        ways = [_nearest(outer, hole) for hole in remaining]
        n = min(range(len(remaining)), key=lambda n: ways[n][0])
        _, corner, start = ways[n]
        hole = np.roll(remaining.pop(n), -start, axis=0)
        outer = np.concatenate([outer[: corner + 1], hole, hole[:1], outer[corner:]])
    return outer


def _nearest(outer: Polygon, hole: Polygon) -> tuple[float, int, int]:
    """Squared distance between the two nearest corners, and which ones these are."""
    squared_distances = ((outer[:, None] - hole[None]) ** 2).sum(axis=2)
    at, start = np.unravel_index(squared_distances.argmin(), squared_distances.shape)
    return float(squared_distances[at, start]), int(at), int(start)


def _drop_straight_corners(polygon: Polygon) -> Polygon:
    """Without the corners at which nothing turns; turns back, as channels have, are kept."""
    from_previous, to_next = (
        polygon - np.roll(polygon, 1, axis=0),
        np.roll(polygon, -1, axis=0) - polygon,
    )
    turns = from_previous[:, 0] * to_next[:, 1] - from_previous[:, 1] * to_next[:, 0]
    straight = (turns == 0) & ((from_previous * to_next).sum(axis=1) > 0)
    corners: Polygon = polygon[~straight]
    return corners
