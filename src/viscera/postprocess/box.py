"""The boxes that hold organs: most work on labels need not look beyond them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from viscera.volume import Labels


def organ_box(*maps: Labels) -> tuple[slice, slice, slice] | None:
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


def organ_boxes(labels: Labels, ids: Sequence[int]) -> dict[int, tuple[slice, slice, slice]]:
    """The smallest box [i, j, k] of each of these labels that there is.

    Args:
        labels: [i, j, k] uint8 label map.
        ids: at most 16 labels.
    """
    whole = organ_box(labels)
    if whole is None:
        return {}
    bit_of = np.zeros(256, dtype=np.uint16)
    bit_of[list(ids)] = [1 << n for n in range(len(ids))]
    part = labels[whole].T  # [k, j, i]
    along = [np.zeros(n, dtype=np.uint16) for n in part.shape[::-1]]  # which labels are where
    for k, plane in enumerate(part):
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
                slice(part.start + int(span[0]), part.start + int(span[-1]) + 1)
                for part, span in zip(whole, spans, strict=True)
            )
            boxes[organ] = first, second, third
    return boxes
