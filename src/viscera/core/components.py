"""Connected components of labels: keep the largest, remove the small, count them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.core.boxes import Box, organ_boxes
from viscera.core.volume import Labels

ComponentIds = NDArray[np.unsignedinteger]
# Slices labelled at a time, so that an organ as long as a long scan needs little memory.
_SLAB_SLICES = 64


class ComponentSlab(NamedTuple):
    """A slab of an organ's box with the components in it.

    Attributes:
        box: the slab [i, j, k].
        ids: numbers from 1 of the connected parts within the slab, 0 elsewhere.
        component: (n,) the component of the whole organ that each id from 1 belongs to.
    """

    box: Box
    ids: ComponentIds
    component: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class OrganComponents:
    """The connected components (26 neighbours) of one organ.

    Attributes:
        organ: its label.
        voxels: size of each component.
        centre: [i, j, k] centroid of each component in voxels of the whole volume.
        slabs: of the organ's box.
    """

    organ: int
    voxels: NDArray[np.int64]
    centre: NDArray[np.float64]
    slabs: tuple[ComponentSlab, ...]

    def paint(self, labels: Labels, new: NDArray[np.uint8]) -> None:
        """Give every component another label, in place.

        Args:
            labels: [i, j, k] the map in which the components were found.
            new: the label of each component.
        """
        for slab in self.slabs:
            new_labels = new[slab.component]
            if (new_labels != self.organ).any():
                # Only voxels of some component: all others stay as they are.
                table = np.concatenate([[0], new_labels]).astype(np.uint8)
                np.copyto(labels[slab.box], table[slab.ids], where=slab.ids > 0)


def find_components(labels: Labels, ids: Sequence[int]) -> Iterator[OrganComponents]:
    """The components of these labels, one organ after another; absent ones are left out.

    Each organ is labelled in its own box, slab by slab; parts that touch across two slabs are
    joined. A caller that drops one organ's before the next needs the memory of one.

    Args:
        labels: [i, j, k] uint8 label map.
        ids: labels of organs, at most 16.
    """
    for organ, box in organ_boxes(labels, ids).items():
        yield _organ_components(labels, organ, box)


def count_components(labels: Labels, ids: Sequence[int]) -> dict[int, int]:
    """How many components each of these labels has; absent ones are left out.

    Args:
        labels: [i, j, k] uint8 label map.
        ids: labels of organs, at most 16.
    """
    counts = {}
    for organ, box in organ_boxes(labels, ids).items():
        parts = before_last = 0  # in all slabs so far, and in those before the last of them
        touching: list[NDArray[np.int64]] = []
        last_plane: ComponentIds | None = None
        for slab_box in _slab_boxes(box):
            slab_ids, slab_parts = _connected_parts(labels, organ, slab_box)
            if last_plane is not None:
                # Numbers begin at 1 in each slab, those of all parts at 0.
                pairs = _touching_pairs(last_plane, slab_ids[..., 0])
                touching.append(pairs + np.array([before_last - 1, parts - 1]))
            last_plane = slab_ids[..., -1].copy()
            before_last, parts = parts, parts + slab_parts
        counts[organ] = int(_join(parts, touching).max()) + 1
    return counts


class _LabelledSlab(NamedTuple):
    """The connected parts within one slab.

    Attributes:
        box: the slab.
        ids: numbers from 1 of the parts, 0 elsewhere.
        voxels: (n,) size of each part.
        centre: (n, 3) centroid of each part in voxels of the whole volume.
    """

    box: Box
    ids: ComponentIds
    voxels: NDArray[np.int64]
    centre: NDArray[np.float64]


def _organ_components(labels: Labels, organ: int, box: Box) -> OrganComponents:
    """The components of one organ that lies in a box."""
    slabs = [_label_slab(labels, organ, slab_box) for slab_box in _slab_boxes(box)]
    # Number of each slab's first part among those of all slabs, and of all parts.
    first = np.cumsum([0, *(len(slab.voxels) for slab in slabs)])
    touching = [
        _touching_pairs(low.ids[..., -1], high.ids[..., 0]) + first[n : n + 2] - 1
        for n, (low, high) in enumerate(pairwise(slabs))
    ]
    component = _join(first[-1], touching)
    voxels = np.concatenate([slab.voxels for slab in slabs])
    sums = np.concatenate([slab.centre * slab.voxels[:, None] for slab in slabs])
    size = np.bincount(component, weights=voxels).astype(np.int64)
    total = np.stack([np.bincount(component, weights=along) for along in sums.T], axis=1)
    return OrganComponents(
        organ,
        size,
        total / size[:, None],
        tuple(
            ComponentSlab(slab.box, slab.ids, component[start:stop])
            for slab, (start, stop) in zip(slabs, pairwise(first), strict=True)
        ),
    )


def _slab_boxes(box: Box) -> Iterator[Box]:
    """The box cut along k."""
    for start in range(box[2].start, box[2].stop, _SLAB_SLICES):
        yield box[0], box[1], slice(start, min(start + _SLAB_SLICES, box[2].stop))


def _label_slab(labels: Labels, organ: int, box: Box) -> _LabelledSlab:
    """The connected parts of an organ within one slab, measured."""
    import cc3d  # slow to import

    ids, count = _connected_parts(labels, organ, box)
    statistics = cc3d.statistics(ids, no_slice_conversion=True)
    corner = np.array([part.start for part in box], dtype=np.float64)
    return _LabelledSlab(
        box,
        ids.astype(np.min_scalar_type(count)),  # a byte each, mostly
        statistics["voxel_counts"][1:].astype(np.int64),
        statistics["centroids"][1:] + corner,
    )


def _connected_parts(labels: Labels, organ: int, box: Box) -> tuple[ComponentIds, int]:
    """Numbers from 1 of the connected parts of an organ in a box, and how many there are."""
    import cc3d  # slow to import

    mask = np.asfortranarray(labels[box] == organ)  # cc3d keeps the layout it is given
    ids, count = cc3d.connected_components(
        mask.view(np.uint8), connectivity=26, return_N=True, binary_image=True
    )
    return ids, count


def _touching_pairs(low: ComponentIds, high: ComponentIds) -> NDArray[np.int64]:
    """Pairs (n, 2) of ids of two neighbouring slices that touch, in 26 neighbours."""
    height, width = low.shape
    high = np.pad(high, 1)
    pairs = []
    for di in range(3):
        for dj in range(3):
            neighbour = high[di : di + height, dj : dj + width]
            touch = (low > 0) & (neighbour > 0)
            pairs.append(np.stack([low[touch], neighbour[touch]], axis=1).astype(np.int64))
    return np.unique(np.concatenate(pairs), axis=0)


def _join(count: int, touching: Sequence[NDArray[np.int64]]) -> NDArray[np.intp]:
    """The component that each of these parts belongs to, from 0 on without gaps.

    Args:
        count: number of parts.
        touching: (n, 2) pairs of parts that touch.
    """
    root = list(range(count))

    def find_root(part: int) -> int:
        while root[part] != part:
            root[part] = root[root[part]]  # shortens the way of later searches
            part = root[part]
        return part

    for pairs in touching:
        for first, second in pairs.tolist():
            root[find_root(second)] = find_root(first)
    roots = np.array([find_root(part) for part in range(count)], dtype=np.intp)
    return np.unique(roots, return_inverse=True)[1].astype(np.intp)


def keep_largest(labels: Labels, ids: Sequence[int]) -> None:
    """Remove all but the largest component of each organ, in place.

    Args:
        labels: [i, j, k] uint8 label map.
        ids: labels of organs, at most 16.
    """
    for components in find_components(labels, ids):
        new = np.zeros(components.voxels.size, dtype=np.uint8)
        new[components.voxels.argmax()] = components.organ
        components.paint(labels, new)


def remove_strays(labels: Labels, ids: Sequence[int], least_share: float) -> None:
    """Remove components that are small beside the organ's largest, in place.

    Args:
        labels: [i, j, k] uint8 label map.
        ids: labels of organs, at most 16.
        least_share: of the largest component's voxels; smaller ones are removed.
    """
    for components in find_components(labels, ids):
        small = components.voxels < least_share * components.voxels.max()
        components.paint(labels, np.where(small, 0, components.organ).astype(np.uint8))


def remove_small(labels: Labels, ids: Sequence[int], least_ml: float, voxel_ml: float) -> None:
    """Remove small components, in place.

    Args:
        labels: [i, j, k] uint8 label map.
        ids: labels of organs, at most 16.
        least_ml: smaller ones are removed.
        voxel_ml: volume of one voxel.
    """
    for components in find_components(labels, ids):
        small = components.voxels * voxel_ml < least_ml
        components.paint(labels, np.where(small, 0, components.organ).astype(np.uint8))
