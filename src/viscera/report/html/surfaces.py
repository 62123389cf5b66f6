"""Surfaces of organs as small meshes, by surface nets (Gibson 1998)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.core.boxes import Box, organ_boxes
from viscera.core.volume import Labels

_CELL_MM = 3.0  # of a mesh; small organs get finer ones
_LEAST_CELLS = 14  # along the longest side of an organ
_SMOOTH = 2  # passes of [1, 2, 1] / 4 along each axis


@dataclass(frozen=True, eq=False)
class OrganSurface:
    """A closed surface of triangles.

    Attributes:
        points_mm: (n, 3) float32, RAS.
        triangles: (m, 3) indices of points, turning left seen from outside.
    """

    points_mm: NDArray[np.float32]
    triangles: NDArray[np.int32]


def organ_surfaces(labels: Labels, affine: Affine, ids: Sequence[int]) -> dict[int, OrganSurface]:
    """The surfaces of the organs that are present, by label.

    Args:
        labels: [i, j, k] uint8.
        affine: of the labels.
        ids: labels of organs.
    """
    boxes = organ_boxes(labels, ids)
    return {organ: _surface(labels, affine, organ, box) for organ, box in boxes.items()}


def _surface(labels: Labels, affine: Affine, organ: int, box: Box) -> OrganSurface:
    """The surface of the organ in this box."""
    mask = labels[box] == organ
    extent_mm = np.array(mask.shape) * affine.spacing_mm
    cell_mm = min(_CELL_MM, float(extent_mm.max()) / _LEAST_CELLS)
    steps = [max(1, round(cell_mm / mm)) for mm in affine.spacing_mm]
    field = np.pad(_shares(mask, steps), _SMOOTH + 1)
    for _ in range(_SMOOTH):
        field = _smoothed(field)
    # Thin organs may lie below one half everywhere once they are smoothed.
    level = min(0.5, 0.5 * float(field.max()))
    points, triangles = surface_net(field, level)
    corner = np.array([part.start for part in box], dtype=np.float64)
    voxels = (points - (_SMOOTH + 1)) * steps + (np.array(steps) - 1) / 2 + corner
    points_mm = voxels @ affine.matrix[:3, :3].T + affine.matrix[:3, 3]
    if np.linalg.det(affine.matrix[:3, :3]) < 0:
        triangles = triangles[:, ::-1]
    return OrganSurface(points_mm.astype(np.float32), np.ascontiguousarray(triangles))


def surface_net(
    field: NDArray[np.float32], level: float
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Points and triangles where a field crosses a level.

    One point a cell of 2 x 2 x 2 samples that the surface crosses, the mean of its crossings with
    the cell's edges; four neighbours around each crossed edge make two triangles.

    Args:
        field: [i, j, k], below the level along its border.
        level: between outside, below it, and inside.

    Returns:
        (n, 3) positions in samples, (m, 3) indices.
    """
    inside = field > level
    cells = tuple(n - 1 for n in field.shape)
    sums, counts = np.zeros((3, *cells)), np.zeros(cells)
    for axis in range(3):
        low, high = _along(field, axis, 0), _along(field, axis, 1)
        crossed = _along(inside, axis, 0) != _along(inside, axis, 1)
        share = np.divide(level - low, high - low, out=np.zeros_like(low), where=crossed)
        others = [other for other in range(3) if other != axis]
        for offsets in product((0, 1), repeat=2):
            part: list[slice] = [slice(None)] * 3
            for other, offset in zip(others, offsets, strict=True):
                part[other] = slice(offset, offset + cells[other])
            is_crossed = crossed[tuple(part)]
            counts += is_crossed
            sums[axis] += share[tuple(part)] * is_crossed
            for other, offset in zip(others, offsets, strict=True):
                sums[other] += offset * is_crossed
    at = np.argwhere(counts > 0)
    number = np.full(cells, -1, dtype=np.int32)
    number[counts > 0] = np.arange(len(at), dtype=np.int32)
    crossings = counts[counts > 0]
    points = at + np.stack([part[counts > 0] / crossings for part in sums], axis=1)
    quads = [_quads(inside, number, axis) for axis in range(3)]
    corners = np.concatenate(quads)
    triangles = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    return points, triangles


def _quads(inside: NDArray[np.bool_], number: NDArray[np.int32], axis: int) -> NDArray[np.int32]:
    """Around each crossed edge along an axis, the points of its four cells, seen from outside."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    leaves = _along(inside, axis, 0) & ~_along(inside, axis, 1)
    enters = ~_along(inside, axis, 0) & _along(inside, axis, 1)
    result = []
    for crossed, order in ((leaves, (0, 1, 2, 3)), (enters, (0, 3, 2, 1))):
        at = np.argwhere(crossed)
        corners = []
        for a, b in ((1, 1), (0, 1), (0, 0), (1, 0)):
            cell = at.copy()
            cell[:, first] -= a
            cell[:, second] -= b
            corners.append(number[tuple(cell.T)])
        result.append(np.stack([corners[n] for n in order], axis=1))
    return np.concatenate(result)


def _along(array: NDArray[Any], axis: int, start: int) -> NDArray[Any]:
    """All samples but the last along an axis, or all but the first."""
    part: list[slice] = [slice(None)] * 3
    part[axis] = slice(start, array.shape[axis] - 1 + start)
    return array[tuple(part)]


def _shares(mask: NDArray[np.bool_], steps: list[int]) -> NDArray[np.float32]:
    """The share of the mask in blocks of these steps."""
    padding = [(0, -n % step) for n, step in zip(mask.shape, steps, strict=True)]
    field = np.pad(mask, padding).astype(np.float32)
    for axis, step in enumerate(steps):
        shape = [*field.shape[:axis], field.shape[axis] // step, step, *field.shape[axis + 1 :]]
        field = field.reshape(shape).mean(axis=axis + 1)
    return field


def _smoothed(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """One pass of [1, 2, 1] / 4 along each axis; zero beyond the border, which is zero itself."""
    for axis in range(3):
        lines = np.moveaxis(field, axis, 0)
        result = lines * 0.5
        result[1:] += lines[:-1] * 0.25
        result[:-1] += lines[1:] * 0.25
        field = np.moveaxis(result, 0, axis)
    return field
