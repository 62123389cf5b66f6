"""Areas of surface elements: what each 2x2x2 neighbourhood of voxels adds to an organ's surface.

The surface is that of DeepMind's `surface-distance` (Nikolov et al. 2018, "Deep learning to
achieve clinically applicable segmentation of head and neck anatomy"): marching cubes through the
middles of the cube's edges. Its 256 areas follow from one rule: of the corners inside and those
outside take the fewer; edges join them to groups; each group has one of six shapes.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_Corner = tuple[int, int, int]
# A neighbourhood's corners [i, j, k] in the order of the code's bits, the lowest bit first.
CORNERS: tuple[_Corner, ...] = tuple((n & 1, n >> 1 & 1, n >> 2) for n in range(8))


def areas_mm2(spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Surface area of each of the 256 codes; bit n of a code says that CORNERS[n] is inside.

    Args:
        spacing_mm: voxel size along i, j, k.

    Returns:
        (256,) square millimetres; 0 for codes 0 and 255.
    """
    x, y, z = spacing_mm
    faces = np.array([y * z, x * z, x * y])  # of a voxel, by their normal
    diagonal = np.sqrt((faces**2).sum()) / 8  # the triangle that cuts off one corner
    slopes = [np.sqrt((np.delete(faces, axis) ** 2).sum()) / 4 for axis in range(3)]
    elements = np.array([diagonal, *(faces / 2), *slopes])
    areas: NDArray[np.float64] = _elements_of_codes() @ elements
    return areas


@cache
def _elements_of_codes() -> NDArray[np.float64]:
    """(256, 7): how many diagonals, half faces by normal, and slopes by axis a code consists of."""
    table = np.zeros((256, 7))
    for code in range(256):
        inside = {corner for n, corner in enumerate(CORNERS) if code >> n & 1}
        fewer = inside if len(inside) <= 4 else set(CORNERS) - inside
        while fewer:
            group = _connected_corners(fewer)
            fewer -= group
            for element, number in _elements(group):
                table[code, element] += number
    return table


def _connected_corners(corners: set[_Corner]) -> set[_Corner]:
    """One of the groups that edges join."""
    group = {min(corners)}
    while more := {c for c in corners - group if any(_axis(c, g) is not None for g in group)}:
        group |= more
    return group


def _axis(a: _Corner, b: _Corner) -> int | None:
    """The axis of the edge between two corners, None where there is no edge."""
    different = [axis for axis in range(3) if a[axis] != b[axis]]
    return different[0] if len(different) == 1 else None


def _elements(group: set[_Corner]) -> list[tuple[int, int]]:
    """What the surface around a group consists of: (column of the table, number)."""
    diagonal, half_face, slope = 0, 1, 4
    corners = sorted(group)
    edges = [
        (axis, a, b)
        for n, a in enumerate(corners)
        for b in corners[n + 1 :]
        if (axis := _axis(a, b)) is not None
    ]
    if not edges:  # a corner
        return [(diagonal, 1)]
    if len(edges) == 1:  # an edge
        return [(slope + edges[0][0], 2)]
    if len(edges) == 4:  # a face
        (normal,) = {0, 1, 2} - {axis for axis, *_ in edges}
        return [(half_face + normal, 2)]
    if len(edges) == 2:  # three corners of a face
        (normal,) = {0, 1, 2} - {axis for axis, *_ in edges}
        return [(diagonal, 3), (half_face + normal, 1)]
    degree = {corner: sum(corner in edge for edge in edges) for corner in corners}
    if max(degree.values()) == 3:  # a corner and its three neighbours
        return [(diagonal, 6)]
    # A path of three edges: its first and its last bend the surface.
    ends = [axis for axis, a, b in edges if 1 in (degree[a], degree[b])]
    return [(diagonal, 4), *((slope + axis, 1) for axis in ends)]
