"""The box that holds all organs: most work on labels need not look beyond it."""

from __future__ import annotations

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
