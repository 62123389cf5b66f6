"""Distances from every element of a surface to the nearest one of another, all organs at once.

Surfaces worth comparing run close together. So each element first looks around itself, in the order
of distance, in a map that holds one bit an organ; this settles nearly all of them with a few dozen
look-ups. The rest asks a tree.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from viscera.metrics.surface import GAP, Surface
from viscera.runtime.extras import require_extra

_MOST_STEPS = 256
_QUESTIONS = 1 << 18  # asked of a tree at a time, for memory


def find_distances(
    surfaces: dict[int, Surface],
    others: dict[int, Surface],
    spacing_mm: tuple[float, float, float],
) -> dict[int, NDArray[np.float64]]:
    """Euclidean distance from each surface's elements to the other surface of the same label.

    Distances are computed from whole steps between cells, as a distance transform does, so that
    rounding pushes none of exactly a tolerance beyond it.

    Args:
        surfaces: by label, 15 labels at most, all of one grid.
        others: of the same grid and the same labels.
        spacing_mm: voxel size along i, j, k.

    Returns:
        For each label millimetres in the order of its cells.
    """
    require_extra("scipy")  # for the few elements that are far from the other surface
    if not surfaces:
        return {}
    shape = next(iter(surfaces.values())).shape
    steps, lengths_mm = _nearest_steps(shape, spacing_mm)
    frame = int(np.abs(steps).max())
    # Zeroed pages that nothing is written to take no memory: it grows with the surfaces only.
    present = np.zeros(shape[0] * shape[1] * shape[2] + 2 * frame, dtype=np.uint16)
    bit_of = {label: np.uint16(1 << n) for n, label in enumerate(sorted(others))}
    for label, other in others.items():
        present[other.cells + frame] |= bit_of[label]

    cells = np.concatenate([surface.cells for surface in surfaces.values()]) + frame
    bits = np.repeat(
        np.array([bit_of[label] for label in surfaces], dtype=np.uint16),
        [len(surface) for surface in surfaces.values()],
    )
    distances = np.full(len(cells), np.inf)
    left = np.arange(len(cells))
    for step, length_mm in zip(steps, lengths_mm, strict=True):
        if not left.size:
            break
        hit = present[cells + step] & bits != 0
        distances[left[hit]] = length_mm
        miss = ~hit
        cells, bits, left = cells[miss], bits[miss], left[miss]

    ends = np.cumsum([len(surface) for surface in surfaces.values()])[:-1]
    by_label = dict(zip(surfaces, np.split(distances, ends), strict=True))
    for label, label_distances in by_label.items():
        unsettled = np.flatnonzero(np.isinf(label_distances))
        if unsettled.size:
            label_distances[unsettled] = _distances_by_tree(
                surfaces[label], unsettled, others[label], spacing_mm
            )
    return by_label


def _nearest_steps(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps between flat indices in ascending order of their length, none left out, and lengths."""
    steps = np.array(list(product(range(-GAP, GAP + 1), repeat=3)))
    lengths_mm = np.sqrt(((steps * spacing_mm) ** 2).sum(axis=1))
    order = np.argsort(lengths_mm, kind="stable")
    complete = lengths_mm[order] < (GAP + 1) * min(spacing_mm)  # the shortest of those not listed
    order = order[complete][:_MOST_STEPS]
    return steps[order] @ np.array([1, shape[0], shape[0] * shape[1]]), lengths_mm[order]


def _distances_by_tree(
    surface: Surface,
    at: NDArray[np.intp],
    other: Surface,
    spacing_mm: tuple[float, float, float],
) -> NDArray[np.float64]:
    from scipy.spatial import cKDTree

    other_indices = other.indices()
    # Neither balanced nor compact: built in half the time, asked as fast.
    tree = cKDTree(
        other_indices * spacing_mm, leafsize=32, balanced_tree=False, compact_nodes=False
    )
    distances_mm = np.empty(len(at))
    for start in range(0, len(at), _QUESTIONS):
        part = slice(start, start + _QUESTIONS)
        indices = surface.indices(at[part])
        _, nearest = tree.query(indices * spacing_mm)
        distances_mm[part] = np.sqrt(
            (((indices - other_indices[nearest]) * spacing_mm) ** 2).sum(axis=1)
        )
    return distances_mm
