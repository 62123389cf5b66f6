"""The boxes that contain organs: most work on labels is needed only there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from viscera.core.volume import Labels

Box = tuple[slice, slice, slice]
_MOST_BITS = 16  # labels that are looked for in one pass


def whole_box(shape: tuple[int, int, int]) -> Box:
    """The box of a whole array of this shape."""
    first, second, third = (slice(0, n) for n in shape)
    return first, second, third


def widened(part: slice, whole: slice, length: int) -> slice:
    """A part of this length at least, within the whole and as near to its middle as can be.

    Args:
        part: of an axis; it stays within the result.
        whole: the part of the axis that there is.
        length: wanted; less where the whole is shorter.
    """
    length = max(length, part.stop - part.start)
    if length >= whole.stop - whole.start:
        return whole
    middle = (whole.start + whole.stop - length) // 2
    start = min(max(middle, part.stop - length, whole.start), part.start, whole.stop - length)
    return slice(start, start + length)


def organ_box(*maps: Labels) -> Box | None:
    """The smallest box [i, j, k] that holds every label of these maps, None where there is none.

    Args:
        maps: one label map or several, all of one shape.
    """
    shadow = np.zeros(maps[0].shape[1::-1], dtype=np.uint8)  # of all planes, [j, i]
    filled = set()
    for labels in maps:
        for k, plane in enumerate(labels.T):  # the last axis is the slowest one on disk
            if plane.any():
                filled.add(k)
                shadow |= plane
    if not filled:
        return None
    i, j = (np.flatnonzero(shadow.any(axis=axis)) for axis in (0, 1))
    return (
        slice(int(i[0]), int(i[-1]) + 1),
        slice(int(j[0]), int(j[-1]) + 1),
        slice(min(filled), max(filled) + 1),
    )


def organ_boxes(labels: Labels, ids: Sequence[int]) -> dict[int, Box]:
    """The smallest box [i, j, k] of each of these labels that is present.

    Args:
        labels: [i, j, k] uint8 label map.
        ids: of labels.
    """
    if len(ids) > _MOST_BITS:
        starts = range(0, len(ids), _MOST_BITS)
        groups = (organ_boxes(labels, ids[start : start + _MOST_BITS]) for start in starts)
        return {label: box for group in groups for label, box in group.items()}
    box = organ_box(labels)
    if box is None:
        return {}
    bit_of = np.zeros(256, dtype=np.uint16)
    bit_of[list(ids)] = [1 << n for n in range(len(ids))]
    slab = labels[box].T  # [k, j, i]
    along = [np.zeros(n, dtype=np.uint16) for n in slab.shape[::-1]]  # which labels are where
    for k, plane in enumerate(slab):
        bits = bit_of[plane]
        rows = np.bitwise_or.reduce(bits, axis=1)
        along[0] |= np.bitwise_or.reduce(bits, axis=0)
        along[1] |= rows
        along[2][k] = np.bitwise_or.reduce(rows)
    boxes = {}
    for n, organ in enumerate(ids):
        spans = [np.flatnonzero(present >> n & 1) for present in along]
        if spans[0].size:
            first, second, third = (
                slice(slab.start + int(span[0]), slab.start + int(span[-1]) + 1)
                for slab, span in zip(box, spans, strict=True)
            )
            boxes[organ] = first, second, third
    return boxes
