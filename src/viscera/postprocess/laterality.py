"""Laterality: components of paired organs that lie on the wrong side get the other label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.core.components import OrganComponents, find_components
from viscera.core.organs import ORGANS_BY_NAME, PAIRED_ORGANS
from viscera.core.volume import Labels

# A component this near to the middle is left alone: horseshoe kidneys, crossed ectopia, slim
# adrenals.
_MARGIN_MM = 10.0
# These straddle the spine, so that the middle between them is the body's.
_MIDLINE_VESSELS = ("aorta", "inferior_vena_cava")


def swap_wrong_sides(labels: Labels, affine: Affine) -> int:
    """Relabel components of kidneys and adrenals on the wrong side of the body, in place.

    The middle is that of aorta and vena cava, whichever are found; without them, the middle
    between the largest component of each of the pair. A component is wrong when its centroid lies
    more than 10 mm beyond the middle.

    Args:
        labels: [i, j, k] uint8 label map.
        affine: voxel indices to RAS millimetres.

    Returns:
        How many components were relabelled.
    """
    vessels = [ORGANS_BY_NAME[name].id for name in _MIDLINE_VESSELS]
    paired = [organ.id for pair in PAIRED_ORGANS for organ in pair]
    components = {c.organ: c for c in find_components(labels, [*vessels, *paired])}
    x_mm = {organ: _x_ras_mm(c, affine) for organ, c in components.items()}
    largest_x_mm = {o: float(x_mm[o][c.voxels.argmax()]) for o, c in components.items()}
    vessels_x_mm = [largest_x_mm[vessel] for vessel in vessels if vessel in largest_x_mm]
    relabelled = 0
    for right, left in PAIRED_ORGANS:
        pair_x_mm = [largest_x_mm[o.id] for o in (right, left) if o.id in largest_x_mm]
        if not vessels_x_mm and len(pair_x_mm) < 2:
            continue
        middle_mm = float(np.mean(vessels_x_mm or pair_x_mm))
        # RAS: x grows towards the patient's right.
        for organ, other, sign in ((right, left, -1), (left, right, 1)):
            if organ.id in components:
                is_wrong = sign * (x_mm[organ.id] - middle_mm) > _MARGIN_MM
                new = np.where(is_wrong, other.id, organ.id).astype(np.uint8)
                components[organ.id].paint(labels, new)
                relabelled += int(is_wrong.sum())
    return relabelled


def _x_ras_mm(components: OrganComponents, affine: Affine) -> NDArray[np.float64]:
    """RAS x of the centroid of each component."""
    x_mm: NDArray[np.float64] = components.centre @ affine.matrix[0, :3] + affine.matrix[0, 3]
    return x_mm
