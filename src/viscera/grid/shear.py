"""Sheared grids, as the tilt of a gantry leaves them, resampled upright and back again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.core.hu import AIR_HU
from viscera.core.volume import Hu, Labels, Volume


def straighten(volume: Volume) -> Volume:
    """The volume resampled onto a rectangular grid of the same spacing that covers all of it.

    The grid's axes are the orthogonal matrix nearest to the sheared one. Voxels from outside the
    scan are air.
    """
    volume = volume.read()
    sheared = volume.affine.matrix
    spacing_mm = np.asarray(volume.affine.spacing_mm)
    u, _, vt = np.linalg.svd(sheared[:3, :3] / spacing_mm)
    axes = (u @ vt) * spacing_mm
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in volume.shape])).reshape(3, -1)
    corners_mm = sheared[:3, :3] @ corners + sheared[:3, 3:]
    index = np.linalg.solve(axes, corners_mm)
    low = np.floor(index.min(axis=1))
    shape = (np.ceil(index.max(axis=1)) - low + 1).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = axes @ low
    data = np.empty(shape, dtype=volume.data.dtype, order="F")
    for k, index in enumerate(_indices_of_planes(data.shape, np.linalg.inv(sheared) @ matrix)):
        hu, is_within = _interpolated(volume.data, index)
        hu[~is_within] = AIR_HU
        data[:, :, k] = np.rint(hu) if data.dtype.kind == "i" else hu
    return replace(volume, voxels=data, affine=Affine(matrix))


def labels_to_sheared(labels: Labels, affine: Affine, target: Volume) -> Labels:
    """Labels of a straightened volume on the sheared grid it came from, by nearest voxel.

    Both grids have the same spacing, so a border moves by half a voxel at most.

    Args:
        labels: [i, j, k] on the upright grid.
        affine: of the upright grid.
        target: the sheared volume.

    Returns:
        [i, j, k] uint8, Fortran order.
    """
    result = np.zeros(target.shape, dtype=np.uint8, order="F")
    sheared_to_upright = np.linalg.inv(affine.matrix) @ target.affine.matrix
    for k, index in enumerate(_indices_of_planes(target.shape, sheared_to_upright)):
        nearest = np.rint(index).astype(np.intp)
        is_within = _within(nearest, labels.shape)
        result[is_within, k] = labels[tuple(nearest[:, is_within])]
    return result


def _indices_of_planes(
    shape: tuple[int, ...], matrix: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """(3, I, J) for each k: where the voxels [:, :, k] of this shape lie in another array."""
    i, j = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    in_plane = np.tensordot(matrix[:3, :2], np.stack([i, j]), axes=1)
    for k in range(shape[2]):
        yield in_plane + (matrix[:3, 2] * k + matrix[:3, 3])[:, None, None]


def _within(index: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether places (3, ...) lie between the first and the last voxel of an array."""
    last = np.array(shape).reshape(3, *(1,) * (index.ndim - 1)) - 1
    return np.asarray(((index >= 0) & (index <= last)).all(axis=0))


def _interpolated(
    data: Hu, index: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values at places (3, ...) by trilinear interpolation, and whether the places lie within."""
    is_within = _within(index, data.shape)
    low = np.floor(index).astype(np.intp)
    share = (index - low).astype(np.float32)
    result = np.zeros(index.shape[1:], dtype=np.float32)
    for corner in product((0, 1), repeat=3):
        weight = np.ones_like(result)
        at = []
        for axis, step in enumerate(corner):
            weight *= share[axis] if step else 1 - share[axis]
            at.append(np.clip(low[axis] + step, 0, data.shape[axis] - 1))
        result += weight * data[tuple(at)]
    return result, is_within
