"""Connected components of labels: find those of all organs in one pass, and paint them anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.core.boxes import Box, organ_box
from viscera.core.volume import Labels

ComponentIds = NDArray[np.unsignedinteger]
# Slices labelled at a time, so that organs as long as a long scan need little memory.
_SLAB_SLICES = 64


class ComponentSlab(NamedTuple):
    """A slab of the organs' box with the components in it.

    Attributes:
        box: the slab [i, j, k].
        ids: numbers from 1 of the connected parts within the slab, 0 elsewhere.
        component: (n,) the component that each id from 1 belongs to.
    """

    box: Box
    ids: ComponentIds
    component: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components (26 neighbours) of every label of a map.

    Attributes:
        organ: (n,) label of each component.
        voxels: (n,) its size.
        centre: (n, 3) its centroid [i, j, k] in voxels of the whole volume.
        slabs: where they lie.
    """

    organ: NDArray[np.uint8]
    voxels: NDArray[np.int64]
    centre: NDArray[np.float64]
    slabs: tuple[ComponentSlab, ...]

    def paint(self, labels: Labels, new: NDArray[np.uint8]) -> None:
        """Give every component another label, in place.

        Args:
            labels: [i, j, k] the map in which the components were found.
            new: (n,) the label of each component.
        """
        changed = new != self.organ
        for slab in self.slabs:
            if changed[slab.component].any():
                table = np.concatenate([[0], new[slab.component]]).astype(np.uint8)
                labels[slab.box] = table[slab.ids]


def find_components(labels: Labels) -> Components:
    """The components of all labels, found slab by slab; parts that touch across slabs are joined.

    Args:
        labels: [i, j, k] uint8 label map; Fortran order serves best.
    """
    slabs = list(_labelled_slabs(labels))
    # Number of each slab's first part among those of all slabs, and of all parts.
    first = np.cumsum([0, *(len(slab.voxels) for slab in slabs)])
    touching = [
        _touching_pairs(low.ids[..., -1], high.ids[..., 0], low.organ, high.organ)
        + first[n : n + 2]
        for n, (low, high) in enumerate(pairwise(slabs))
    ]
    component, count = _join(int(first[-1]), touching)
    organ = np.zeros(count, dtype=np.uint8)
    voxels, sums = np.zeros(count), np.zeros((count, 3))
    for slab, (start, stop) in zip(slabs, pairwise(first), strict=True):
        of_slab = component[start:stop]
        organ[of_slab] = slab.organ
        np.add.at(voxels, of_slab, slab.voxels)
        np.add.at(sums, of_slab, slab.sums)
    return Components(
        organ,
        voxels.astype(np.int64),
        sums / voxels[:, None],
        tuple(
            ComponentSlab(slab.box, slab.ids, component[start:stop])
            for slab, (start, stop) in zip(slabs, pairwise(first), strict=True)
        ),
    )


def count_components(labels: Labels) -> dict[int, int]:
    """How many components each label has; absent ones are left out. No slab is kept.

    Args:
        labels: [i, j, k] uint8 label map.
    """
    organs = [np.zeros(0, dtype=np.uint8)]  # of the parts of each slab
    touching: list[NDArray[np.int64]] = []
    before_last = parts = 0  # of all slabs but the last so far, and of all
    last_plane: ComponentIds | None = None
    for slab in _labelled_slabs(labels):
        if last_plane is not None:
            pairs = _touching_pairs(last_plane, slab.ids[..., 0], organs[-1], slab.organ)
            touching.append(pairs + np.array([before_last, parts]))
        last_plane = slab.ids[..., -1].copy()
        organs.append(slab.organ)
        before_last, parts = parts, parts + len(slab.voxels)
    component, count = _join(parts, touching)
    organ = np.zeros(count, dtype=np.uint8)
    organ[component] = np.concatenate(organs)
    counts = np.bincount(organ, minlength=256)
    return {int(organ): int(counts[organ]) for organ in np.flatnonzero(counts)}


class _LabelledSlab(NamedTuple):
    """The connected parts within one slab.

    Attributes:
        box: the slab.
        ids: numbers from 1 of the parts, 0 elsewhere.
        organ: (n,) label of each part.
        voxels: (n,) size of each part.
        sums: (n, 3) sums of its voxels' indices in the whole volume.
    """

    box: Box
    ids: ComponentIds
    organ: NDArray[np.uint8]
    voxels: NDArray[np.float64]
    sums: NDArray[np.float64]


def _labelled_slabs(labels: Labels) -> Iterator[_LabelledSlab]:
    """The organs' box slab by slab along k, with the connected parts in each."""
    box = organ_box(labels)
    if box is None:
        return
    for start in range(box[2].start, box[2].stop, _SLAB_SLICES):
        slab = box[0], box[1], slice(start, min(start + _SLAB_SLICES, box[2].stop))
        yield _label_slab(np.asfortranarray(labels[slab]), slab)


def _label_slab(labels: Labels, box: Box) -> _LabelledSlab:
    """The connected parts of all labels in a slab, in Fortran order, measured run by run."""
    import cc3d  # slow to import

    ids, count = cc3d.connected_components(labels, connectivity=26, return_N=True)
    flat, width = ids.ravel(order="F"), labels.shape[0]
    begins = np.empty(flat.size, dtype=bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[::width] = True
    start = np.flatnonzero(begins)
    length = np.diff(start, append=flat.size)
    within = flat[start] > 0
    start, length = start[within], length[within].astype(np.float64)
    part = flat[start].astype(np.intp) - 1
    organ = np.zeros(count, dtype=np.uint8)
    organ[part] = labels.ravel(order="F")[start]
    row, first_i = np.divmod(start, width)
    k, j = np.divmod(row, labels.shape[1])
    sums = [
        np.bincount(part, weights=length * (corner.start + middle), minlength=count)
        for corner, middle in zip(box, (first_i + (length - 1) / 2, j, k), strict=True)
    ]
    return _LabelledSlab(
        box,
        ids.astype(np.min_scalar_type(count)),  # a byte each, mostly
        organ,
        np.bincount(part, weights=length, minlength=count).astype(np.float64),
        np.stack(sums, axis=1),
    )


def _touching_pairs(
    low: ComponentIds,
    high: ComponentIds,
    low_organ: NDArray[np.uint8],
    high_organ: NDArray[np.uint8],
) -> NDArray[np.int64]:
    """Pairs (n, 2) of parts of one organ, from 0 on, that touch across two neighbouring slices."""
    height, width = low.shape
    high = np.pad(high, 1)
    count = len(high_organ) + 1
    pairs = []  # as one number each, which sorts fast
    for di in range(3):
        for dj in range(3):
            neighbour = high[di : di + height, dj : dj + width]
            touch = (low > 0) & (neighbour > 0)
            pairs.append(np.unique(low[touch].astype(np.int64) * count + neighbour[touch]))
    first, second = np.divmod(np.unique(np.concatenate(pairs)), count)
    touching = np.stack([first - 1, second - 1], axis=1)
    is_one_organ = low_organ[first - 1] == high_organ[second - 1]
    return np.asarray(touching[is_one_organ])


def _join(count: int, touching: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.intp], int]:
    """The component that each of these parts belongs to, from 0 on, and how many there are.

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
    every_root = np.unique(roots)
    return np.searchsorted(every_root, roots), len(every_root)
