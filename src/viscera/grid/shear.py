"""Sheared grids, as the tilt of a gantry leaves them, resampled upright and back again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from viscera.core.affine import Affine
from viscera.core.hu import AIR_HU
from viscera.core.volume import Labels, Volume


def straighten(volume: Volume) -> Volume:
    """The volume resampled onto a rectangular grid of the same spacing that covers all of it.

    The grid's axes are the orthogonal matrix nearest to the sheared one. Voxels from outside the
    scan are air.
    """
    from scipy import ndimage  # slow to import, and few scans are sheared

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
    upright_to_sheared = np.linalg.inv(sheared) @ matrix
    data = ndimage.affine_transform(
        volume.data,
        upright_to_sheared,
        output_shape=tuple(shape),
        order=1,
        mode="constant",
        cval=AIR_HU,
    )
    return replace(volume, voxels=np.asfortranarray(data), affine=Affine(matrix))


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
    from scipy import ndimage  # as above

    sheared_to_upright = np.linalg.inv(affine.matrix) @ target.affine.matrix
    on_target = ndimage.affine_transform(
        labels, sheared_to_upright, output_shape=target.shape, order=0, mode="constant", cval=0
    )
    return np.asfortranarray(on_target, dtype=np.uint8)
