"""The box that holds all organs: most work on labels need not look beyond it."""

from __future__ import annotations

import numpy as np

from viscera.volume import Labels


def organ_box(labels: Labels) -> tuple[slice, slice, slice] | None:
    """The smallest box [i, j, k] that holds every label, None where there is none."""
    ends = []
    rest = labels
    # The last axis first, which is the slowest one on disk: what it cuts off, the others skip.
    for axis in (2, 1, 0):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(rest.any(axis=others))
        if not filled.size:
            return None
        ends.append(slice(int(filled[0]), int(filled[-1]) + 1))
        rest = rest[(slice(None),) * axis + (ends[-1],)]
    k, j, i = ends
    return i, j, k
