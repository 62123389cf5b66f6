"""Left and right: pieces of paired organs that lie on the other side get the other name."""

from __future__ import annotations

import numpy as np

from viscera.affine import Affine
from viscera.organs import BY_NAME, PAIRS
from viscera.postprocess.components import Components, find_components
from viscera.volume import Labels

# A piece this near to the middle is left alone: horseshoe kidneys, crossed ectopia, slim adrenals.
_MARGIN_MM = 10.0
# These straddle the spine, so that the middle between them is the body's.
_MIDDLE = ("aorta", "inferior_vena_cava")


def mend_sides(labels: Labels, affine: Affine) -> int:
    """Rename pieces of kidneys and adrenals that lie on the wrong side of the body, in place.

    The middle is that of aorta and vena cava, whichever are found; without them, the middle
    between the largest piece of each of the pair. A piece counts as wrong when its centroid lies
    more than 10 mm beyond the middle.

    Args:
        labels: [i, j, k] uint8 label map.
        affine: voxel indices to RAS millimetres.

    Returns:
        How many pieces were renamed.
    """
    vessels = find_components(labels, [BY_NAME[name].id for name in _MIDDLE])
    middle = None
    if vessels is not None:
        x = _right_mm(vessels, affine)
        largest = [_largest(vessels, BY_NAME[name].id) for name in _MIDDLE]
        middle = float(np.mean([x[n] for n in largest if n]))
    renamed = 0
    for right, left in PAIRS:
        found = find_components(labels, [right.id, left.id])
        if found is None:
            continue
        x = _right_mm(found, affine)
        at = middle
        if at is None:
            both = [_largest(found, right.id), _largest(found, left.id)]
            if not all(both):
                continue
            at = float(np.mean(x[both]))
        table = found.label.copy()
        table[(found.label == right.id) & (x < at - _MARGIN_MM)] = left.id
        table[(found.label == left.id) & (x > at + _MARGIN_MM)] = right.id
        found.paint(labels, table)
        renamed += int((table != found.label)[1:].sum())
    return renamed


def _right_mm(found: Components, affine: Affine) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How far to the patient's right each piece's centroid lies (RAS x)."""
    x: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        found.centre @ affine.matrix[0, :3] + affine.matrix[0, 3]
    )
    return x


def _largest(found: Components, label: int) -> int:
    """The number of a label's largest piece, 0 where it has none."""
    own = np.flatnonzero(found.label == label)
    return int(own[found.voxels[own].argmax()]) if own.size else 0
