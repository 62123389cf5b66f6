"""Connected components of labels: keep the largest, drop the small, count them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from viscera.postprocess.box import organ_boxes
from viscera.volume import Labels

Box = tuple[slice, slice, slice]
Pieces = NDArray[np.unsignedinteger]
# Slices looked at a time, so that an organ as long as a long scan needs little memory.
_SLAB_SLICES = 64


@dataclass(frozen=True, eq=False)
class Components:
    """The connected pieces (26 neighbours) of one organ.

    Attributes:
        organ: its label.
        voxels: size of each piece.
        centre: [i, j, k] centroid of each piece in voxels of the whole volume.
        parts: slabs [i, j, k] of the organ's box, each with numbers of its own for the pieces'
            voxels there, 0 for all else, and the piece that each number but 0 stands for.
    """

    organ: int
    voxels: NDArray[np.int64]
    centre: NDArray[np.float64]
    parts: tuple[tuple[Box, Pieces, NDArray[np.intp]], ...]

    def paint(self, labels: Labels, new: NDArray[np.uint8]) -> None:
        """Give every piece the label that `new` holds for it, in place."""
        for box, pieces, meant in self.parts:
            if (new[meant] != self.organ).any():
                # Only voxels of some piece: what was not looked at stays as it is.
                table = np.concatenate([[0], new[meant]]).astype(np.uint8)
                np.copyto(labels[box], table[pieces], where=pieces > 0)


def find_components(labels: Labels, ids: Sequence[int]) -> Iterator[Components]:
    """The connected pieces of these labels, one organ after another; of those that there are.

    Each organ is looked at in its own box, slab by slab; pieces that touch across two slabs are
    joined. Who drops one organ's before the next holds the memory of one.

    Args:
        labels: [i, j, k] uint8 label map.
        ids: labels to look at, at most 16.
    """
    for organ, box in organ_boxes(labels, ids).items():
        yield _components(labels, organ, box)


def _components(labels: Labels, organ: int, box: Box) -> Components:
    """The pieces of one organ that lies in a box."""
    import cc3d

    slabs: list[tuple[Box, Pieces]] = []
    first = [0]  # number of each slab's first piece among those of all slabs
    voxels, sums = [np.zeros(0, np.int64)], [np.zeros((0, 3))]
    touching: list[NDArray[np.int64]] = []
    for start in range(box[2].start, box[2].stop, _SLAB_SLICES):
        slab = box[0], box[1], slice(start, min(start + _SLAB_SLICES, box[2].stop))
        mask = np.asfortranarray(labels[slab] == organ)  # cc3d keeps the layout it is given
        pieces, count = cc3d.connected_components(
            mask.view(np.uint8), connectivity=26, return_N=True, binary_image=True
        )
        statistics = cc3d.statistics(pieces, no_slice_conversion=True)
        own = statistics["voxel_counts"][1:].astype(np.int64)
        corner = np.array([part.start for part in slab], dtype=np.float64)
        if slabs:
            pairs = _touching(slabs[-1][1][..., -1], pieces[..., 0])
            touching.append(pairs + np.array([first[-2] - 1, first[-1] - 1]))
        slabs.append((slab, pieces.astype(np.min_scalar_type(count))))  # a byte each, mostly
        first.append(first[-1] + count)
        voxels.append(own)
        sums.append((statistics["centroids"][1:] + corner) * own[:, None])
    whole = _joined(first[-1], touching)
    size = np.bincount(whole, weights=np.concatenate(voxels)).astype(np.int64)
    total = np.stack([np.bincount(whole, weights=along) for along in np.concatenate(sums).T], 1)
    parts = tuple(
        (*slab, whole[start:stop])
        for slab, start, stop in zip(slabs, first[:-1], first[1:], strict=True)
    )
    return Components(organ, size, total / size[:, None], parts)


def _touching(low: Pieces, high: Pieces) -> NDArray[np.int64]:
    """Pairs (n, 2) of pieces of two neighbouring slices that touch, in 26 neighbours."""
    i, j = low.shape
    high = np.pad(high, 1)
    found = []
    for a in range(3):
        for b in range(3):
            other = high[a : a + i, b : b + j]
            both = (low > 0) & (other > 0)
            found.append(np.stack([low[both], other[both]], axis=1).astype(np.int64))
    return np.unique(np.concatenate(found), axis=0)


def _joined(count: int, touching: Sequence[NDArray[np.int64]]) -> NDArray[np.intp]:
    """Which whole piece each of these pieces belongs to, from 0 on without gaps."""
    root = list(range(count))

    def find(piece: int) -> int:
        while root[piece] != piece:
            root[piece] = root[root[piece]]  # shortens the way for those who come after
            piece = root[piece]
        return piece

    for pairs in touching:
        for one, other in pairs.tolist():
            root[find(other)] = find(one)
    roots = np.array([find(piece) for piece in range(count)], dtype=np.intp)
    return np.unique(roots, return_inverse=True)[1].astype(np.intp)


def keep_largest(labels: Labels, ids: Sequence[int]) -> None:
    """Remove all but the largest piece of each organ, in place."""
    for found in find_components(labels, ids):
        new = np.zeros(found.voxels.size, dtype=np.uint8)
        new[found.voxels.argmax()] = found.organ
        found.paint(labels, new)


def drop_small(labels: Labels, ids: Sequence[int], least_ml: float, voxel_ml: float) -> None:
    """Remove pieces smaller than `least_ml`, in place."""
    for found in find_components(labels, ids):
        small = found.voxels * voxel_ml < least_ml
        found.paint(labels, np.where(small, 0, found.organ).astype(np.uint8))
