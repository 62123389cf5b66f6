"""Equivalent grids: the same voxels in the same places, stored along other axes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.core.label_map import LabelMap
from viscera.errors import InputError
from viscera.findings import Finding
from viscera.grid.orientation import Orientation

# How far a corner of the volume may lie off, in voxels: what tools lose by rounding their headers.
_TOLERANCE_VOXELS = 0.1


def reorient_to(
    values: NDArray[np.generic],
    affine: Affine,
    *,
    shape: tuple[int, ...],
    target: Affine,
) -> NDArray[np.generic] | None:
    """The values with axes permuted and flipped onto another grid, None where it is another.

    Args:
        values: [i, j, k].
        affine: of the values.
        shape: of the target.
        target: its affine.

    Returns:
        A view; the array itself where the grids are stored alike.
    """
    tolerance_mm = _TOLERANCE_VOXELS * min(target.spacing_mm)
    same_shape = values.shape == tuple(shape)
    if same_shape and _corner_distance_mm(affine.matrix, target, shape) <= tolerance_mm:
        return values  # at 45 degrees rounding decides which axis is nearest: ask for no order
    orientation = Orientation.fit(affine, target.axcodes)
    reordered = orientation.view(values).T
    if reordered.shape != tuple(shape):
        return None
    # The matrix from the target's indices to the values' own, by the same permutation and flips.
    permutation = np.zeros((4, 4))
    permutation[3, 3] = 1
    for column, (axis, flip) in enumerate(zip(orientation.axes, orientation.flips, strict=True)):
        permutation[axis, column] = -1 if flip else 1
        permutation[axis, 3] = values.shape[axis] - 1 if flip else 0
    distance_mm = _corner_distance_mm(affine.matrix @ permutation, target, shape)
    return reordered if distance_mm <= tolerance_mm else None


def reorient_label_map(
    label_map: LabelMap, shape: tuple[int, ...], affine: Affine, *, owner: str, where: object
) -> LabelMap:
    """Labels on another grid of the same voxels: axes permuted and flipped, with a finding.

    Args:
        label_map: the labels.
        shape: of the grid, [i, j, k].
        affine: of the grid.
        owner: the grid's, in the possessive, for messages.
        where: file or case of the labels, for messages.

    Raises:
        InputError: it is a grid of other voxels.
    """
    values = reorient_to(label_map.values, label_map.affine, shape=shape, target=affine)
    if values is None:
        raise other_grid_error(label_map, shape, affine, owner=owner, where=where)
    if values is label_map.values:
        return label_map
    message = f"axes {label_map.affine.axcodes} were reordered to {owner} {affine.axcodes}"
    finding = Finding("info", "axes-reordered", message)
    findings = (*label_map.findings, finding)
    return replace(label_map, values=values, affine=affine, findings=findings)


def other_grid_error(
    label_map: LabelMap, shape: tuple[int, ...], affine: Affine, *, owner: str, where: object
) -> InputError:
    """The error of labels that do not lie on a grid.

    Args:
        label_map: the labels.
        shape: of the grid, [i, j, k].
        affine: of the grid.
        owner: the grid's, in the possessive, for messages.
        where: file or case of the labels.
    """
    return InputError(
        f"{owner} grid, {_describe_grid(shape, affine)}",
        found=_describe_grid(label_map.values.shape, label_map.affine),
        remedy="write the labels on the grid of their own scan",
        where=where,
    )


def _corner_distance_mm(
    matrix: NDArray[np.float64], target: Affine, shape: tuple[int, ...]
) -> float:
    """How far the corners of two grids of this shape lie apart at most."""
    corners = np.array([[*corner, 1.0] for corner in product(*((0, n - 1) for n in shape))]).T
    difference_mm = (matrix - target.matrix) @ corners
    return float(np.sqrt((difference_mm[:3] ** 2).sum(axis=0)).max())


def _describe_grid(shape: tuple[int, ...], affine: Affine) -> str:
    size = " x ".join(map(str, shape))
    spacing = " x ".join(f"{s:.4g}" for s in affine.spacing_mm)
    origin = ", ".join(f"{o:.4g}" for o in affine.matrix[:3, 3])
    return f"{size} voxels of {spacing} mm {affine.axcodes} from ({origin})"
