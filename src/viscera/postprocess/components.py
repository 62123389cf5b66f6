"""Connected components of labels: keep the largest, drop the small, count them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from viscera.postprocess.box import organ_box
from viscera.volume import Labels


@dataclass(frozen=True, eq=False)
class Components:
    """All connected pieces (26 neighbours) of one or several labels.

    Attributes:
        box: where in the volume `pieces` lies, as slices along i, j, k.
        pieces: piece number of each voxel in the box, 0 outside of all.
        label: label of each piece; entry 0 is background's.
        voxels: size of each piece; entry 0 is background's.
        centre: [i, j, k] centroid of each piece in voxels of the whole volume.
    """

    box: tuple[slice, slice, slice]
    pieces: NDArray[np.unsignedinteger]
    label: NDArray[np.uint8]
    voxels: NDArray[np.int64]
    centre: NDArray[np.float64]

    def paint(self, labels: Labels, table: NDArray[np.uint8]) -> None:
        """Give every piece the label that `table` holds for it, in place."""
        if (table[1:] != self.label[1:]).any():
            # Only voxels of some piece: labels that were not looked at stay as they are.
            np.copyto(labels[self.box], table[self.pieces], where=self.pieces > 0)


def find_components(labels: Labels, ids: Sequence[int]) -> Components | None:
    """The connected pieces of these labels, None where there are none.

    Args:
        labels: [i, j, k] uint8 label map.
        ids: labels to look at.
    """
    import cc3d

    wanted = np.zeros(256, dtype=np.uint8)
    wanted[list(ids)] = list(ids)
    box = organ_box(labels)
    if box is None:
        return None
    chosen = np.asfortranarray(wanted[labels[box]])  # cc3d keeps the layout it is given
    pieces, count = cc3d.connected_components(chosen, connectivity=26, return_N=True)
    if not count:
        return None
    statistics = cc3d.statistics(pieces)
    label = np.zeros(count + 1, dtype=np.uint8)
    label[pieces.ravel(order="K")] = chosen.ravel(order="K")
    label[0] = 0
    offset = np.array([b.start for b in box], dtype=np.float64)
    voxels = np.asarray(statistics["voxel_counts"]).astype(np.int64)
    return Components(box, pieces, label, voxels, statistics["centroids"] + offset)


def keep_largest(labels: Labels, ids: Sequence[int]) -> None:
    """Remove all but the largest piece of each organ, in place."""
    found = find_components(labels, ids)
    if found is None:
        return
    table = np.zeros_like(found.label)
    for organ in ids:
        own = np.flatnonzero(found.label == organ)
        if own.size:
            table[own[found.voxels[own].argmax()]] = organ
    found.paint(labels, table)


def drop_small(labels: Labels, ids: Sequence[int], least_ml: float, voxel_ml: float) -> None:
    """Remove pieces smaller than `least_ml`, in place."""
    found = find_components(labels, ids)
    if found is not None:
        found.paint(labels, np.where(found.voxels * voxel_ml < least_ml, 0, found.label))
