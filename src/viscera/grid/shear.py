"""Sheared grids, as gantry tilt leaves them, set upright for the network and back again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from viscera.affine import Affine
from viscera.hu import AIR_HU
from viscera.volume import Labels, Volume


def straighten(volume: Volume) -> Volume:
    """The volume resampled onto a rectangular grid of the same spacing that covers all of it.

    The grid's axes are the orthogonal matrix nearest to the sheared one. Voxels from outside the
    scan are air.
    """
    from scipy import ndimage  # slow to import, and few scans are sheared

    source = volume.affine.matrix
    spacing = np.asarray(volume.affine.spacing_mm)
    u, _, vt = np.linalg.svd(source[:3, :3] / spacing)
    axes = (u @ vt) * spacing
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in volume.shape])).reshape(3, -1)
    world = source[:3, :3] @ corners + source[:3, 3:]
    index = np.linalg.solve(axes, world)
    low = np.floor(index.min(axis=1))
    shape = (np.ceil(index.max(axis=1)) - low + 1).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = axes @ low
    into = np.linalg.inv(source) @ matrix
    data = ndimage.affine_transform(
        volume.data, into, output_shape=tuple(shape), order=1, mode="constant", cval=AIR_HU
    )
    return replace(volume, voxels=np.asfortranarray(data), affine=Affine(matrix))


def labels_on(target: Volume, straight: Labels, affine: Affine) -> Labels:
    """Labels of a straightened volume on the sheared grid it came from, by nearest voxel.

    Both grids have the same spacing, so a border moves by half a voxel at most.
    """
    from scipy import ndimage  # as above

    into = np.linalg.inv(affine.matrix) @ target.affine.matrix
    labels = ndimage.affine_transform(
        straight, into, output_shape=target.shape, order=0, mode="constant", cval=0
    )
    return np.asfortranarray(labels, dtype=np.uint8)
