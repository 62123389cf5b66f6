"""Left and right: pieces of paired organs that lie on the other side get the other name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    vessels = [BY_NAME[name].id for name in _MIDDLE]
    wanted = [*vessels, *(organ.id for pair in PAIRS for organ in pair)]
    found = {pieces.organ: pieces for pieces in find_components(labels, wanted)}
    x = {organ: _right_mm(pieces, affine) for organ, pieces in found.items()}
    main = {organ: float(x[organ][pieces.voxels.argmax()]) for organ, pieces in found.items()}
    seen = [main[vessel] for vessel in vessels if vessel in main]
    renamed = 0
    for right, left in PAIRS:
        sides = seen or [main[organ.id] for organ in (right, left) if organ.id in main]
        if not seen and len(sides) < 2:
            continue
        middle = float(np.mean(sides))
        for own, other, sign in ((right, left, -1), (left, right, 1)):
            if own.id in found:
                wrong = sign * (x[own.id] - middle) > _MARGIN_MM
                found[own.id].paint(labels, np.where(wrong, other.id, own.id).astype(np.uint8))
                renamed += int(wrong.sum())
    return renamed


def _right_mm(found: Components, affine: Affine) -> NDArray[np.float64]:
    """How far to the patient's right each piece's centroid lies (RAS x)."""
    x: NDArray[np.float64] = found.centre @ affine.matrix[0, :3] + affine.matrix[0, 3]
    return x
