"""Equivalent grids: the same voxels in the same places, stored along other axes."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.grid.orientation import Orientation

# How far a corner of the volume may lie off, in voxels: what tools lose by rounding their headers.
_MOST_OFF_VOXELS = 0.1


def on_grid_of(
    values: NDArray[np.generic],
    affine: Affine,
    *,
    shape: tuple[int, ...],
    target: Affine,
) -> NDArray[np.generic] | None:
    """The values with axes permuted and flipped onto another grid, None where it is another.

    Args:
        values: [i, j, k].
        affine: of the values.
        shape: of the target.
        target: its affine.

    Returns:
        A view; the array itself where the grids are stored alike.
    """
    if values.shape == tuple(shape) and _apart_mm(affine.matrix, target, shape) <= _most_mm(target):
        return values  # at 45 degrees a hair decides which axis is nearest: ask for no order
    orientation = Orientation.fit(affine, target.axcodes)
    turned = orientation.view(values).T
    if turned.shape != tuple(shape):
        return None
    # The matrix from the target's indices to the values' own, by the same permutation and flips.
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for axis, (own, flip) in enumerate(zip(orientation.axes, orientation.flips, strict=True)):
        matrix[own, axis] = -1 if flip else 1
        matrix[own, 3] = values.shape[own] - 1 if flip else 0
    apart_mm = _apart_mm(affine.matrix @ matrix, target, shape)
    return turned if apart_mm <= _most_mm(target) else None


def _apart_mm(matrix: NDArray[np.float64], target: Affine, shape: tuple[int, ...]) -> float:
    """How far the corners of two grids of this shape lie apart at most."""
    corners = np.array([[*c, 1.0] for c in product(*((0, n - 1) for n in shape))]).T
    off_mm = (matrix - target.matrix) @ corners
    return float(np.sqrt((off_mm[:3] ** 2).sum(axis=0)).max())


def _most_mm(target: Affine) -> float:
    return _MOST_OFF_VOXELS * min(target.spacing_mm)
