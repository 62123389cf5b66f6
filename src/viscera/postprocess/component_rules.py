"""Rules that remove components or give them another label; each returns the new labels.

A rule takes the components of a map and the label that each of them has so far, 0 where an earlier
rule removed it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.core.components import Components
from viscera.core.organs import Organ

ComponentLabels = NDArray[np.uint8]
# A component this near to the middle is left alone: horseshoe kidneys, crossed ectopia, slim
# adrenals.
_MARGIN_MM = 10.0


def keep_largest(
    components: Components, labels: ComponentLabels, ids: Sequence[int]
) -> ComponentLabels:
    """Only the largest component of each organ stays.

    Args:
        components: of a label map.
        labels: (n,) of each so far.
        ids: labels of organs.
    """
    result = labels.copy()
    for organ in ids:
        of_organ = np.flatnonzero(labels == organ)
        result[of_organ] = 0
        if of_organ.size:
            result[of_organ[components.voxels[of_organ].argmax()]] = organ
    return result


def remove_strays(
    components: Components, labels: ComponentLabels, ids: Sequence[int], least_share: float
) -> ComponentLabels:
    """Components that are small beside the organ's largest go.

    Args:
        components: of a label map.
        labels: (n,) of each so far.
        ids: labels of organs.
        least_share: of the largest component's voxels; smaller ones are removed.
    """
    result = labels.copy()
    for organ in ids:
        of_organ = labels == organ
        largest = components.voxels[of_organ].max(initial=0)
        result[of_organ & (components.voxels < least_share * largest)] = 0
    return result


def remove_small(
    components: Components, labels: ComponentLabels, ids: Sequence[int], least_voxels: float
) -> ComponentLabels:
    """Small components go.

    Args:
        components: of a label map.
        labels: (n,) of each so far.
        ids: labels of organs.
        least_voxels: smaller ones are removed.
    """
    small = np.isin(labels, ids) & (components.voxels < least_voxels)
    return np.where(small, 0, labels).astype(np.uint8)


def remove_lone(
    components: Components,
    labels: ComponentLabels,
    ids: Sequence[int],
    beside: Sequence[int],
    least_voxels: float,
) -> ComponentLabels:
    """Organs go where a scan shows none of the large ones that they lie beside.

    Args:
        components: of a label map.
        labels: (n,) of each so far.
        ids: labels of organs that are removed.
        beside: labels of organs one of which must be there.
        least_voxels: of one of them, all its components together.
    """
    voxels = np.bincount(labels, weights=components.voxels, minlength=256)
    if voxels[list(beside)].max() >= least_voxels:
        return labels
    return np.where(np.isin(labels, ids), 0, labels).astype(np.uint8)


def swap_wrong_sides(
    components: Components,
    labels: ComponentLabels,
    affine: Affine,
    *,
    pairs: Sequence[tuple[Organ, Organ]],
    midline_ids: Sequence[int],
) -> ComponentLabels:
    """Components of pairs, such as the kidneys, on the wrong side get the other label.

    The middle is that of aorta and vena cava, whichever are found; without them, the middle
    between the largest component of each of the pair. A component is wrong when its centroid lies
    more than 10 mm beyond the middle.

    Args:
        components: of a label map.
        labels: (n,) of each so far.
        affine: voxel indices to RAS millimetres.
        pairs: (right, left) of each.
        midline_ids: labels of aorta and vena cava, where the table has them.
    """
    # RAS: x grows towards the patient's right.
    x_mm = components.centre @ affine.matrix[0, :3] + affine.matrix[0, 3]

    def largest_x_mm(organ: int) -> list[float]:
        of_organ = np.flatnonzero(labels == organ)
        largest = of_organ[components.voxels[of_organ].argmax()] if of_organ.size else None
        return [] if largest is None else [float(x_mm[largest])]

    vessels_x_mm = [x for label in midline_ids for x in largest_x_mm(label)]
    result = labels.copy()
    for right, left in pairs:
        pair_x_mm = [*largest_x_mm(right.id), *largest_x_mm(left.id)]
        if not vessels_x_mm and len(pair_x_mm) < 2:
            continue
        middle_mm = float(np.mean(vessels_x_mm or pair_x_mm))
        for organ, other, sign in ((right, left, -1), (left, right, 1)):
            is_wrong = (labels == organ.id) & (sign * (x_mm - middle_mm) > _MARGIN_MM)
            result[is_wrong] = other.id
    return result
