"""Where the body lies in a slice: what is beside it need not be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from viscera.grid.orientation import Orientation
from viscera.volume import Volume

_COARSE_MM = 4.0  # fine enough to tell a table from a back
_DENSE_HU = -300.0  # above is body: all of it but lungs and gas
_SHELL_MM = 6.0  # half the least thickness of a body; tables, tubes and blankets have less
_PIECE = 0.03  # of the largest piece: smaller ones are no body
_AROUND_MM = 8.0  # kept around the body

Box = tuple[slice, slice, slice]


def body_box(volume: Volume) -> Box:
    """The box [i, j, k] of a scan's body in axial planes, whole along the patient's axis.

    Looked for on every fourth millimetre or so; where nothing dense is found, all of the scan. It
    is looked for in one orientation, so that a scan stored otherwise is cut alike.
    """
    orientation = Orientation.fit(volume.affine, "LPS")
    zyx = orientation.view(volume.data)
    spacing_mm = orientation.reorder(volume.affine.spacing_mm)
    steps = [max(1, round(_COARSE_MM / s)) for s in spacing_mm]
    dense = zyx[tuple(slice(step // 2, None, step) for step in steps)] > _DENSE_HU
    coarse_mm = [s * step for s, step in zip(spacing_mm, steps, strict=True)]
    box = [slice(0, n) for n in volume.shape]
    if not dense.any():
        return box[0], box[1], box[2]
    rows = body_rows(dense, coarse_mm[1:])[::-1]  # x, then y
    for axis, flip, found, step in zip(
        orientation.axes, orientation.flips, rows, steps[:0:-1], strict=False
    ):
        length = volume.shape[axis]
        start, stop = found.start * step, min(length, found.stop * step)
        box[axis] = slice(length - stop, length - start) if flip else slice(start, stop)
    return box[0], box[1], box[2]


def body_rows(
    dense: NDArray[np.bool_], spacing_mm: Sequence[float], also: NDArray[np.bool_] | None = None
) -> tuple[slice, slice]:
    """The box in plane of all large dense pieces, thin things such as a table left out.

    Two patients, or a child in front of a cushion, are all within.

    Args:
        dense: [z, y, x] what is as dense as a body.
        spacing_mm: of y and x.
        also: [y, x] what must lie within too.
    """
    worn = [max(1, round(_SHELL_MM / s)) for s in spacing_mm]
    kernel = np.ones((1, *(2 * n + 1 for n in worn)), dtype=bool)
    inner = ndimage.binary_erosion(dense, kernel, border_value=1)
    pieces, _ = ndimage.label(inner)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    large = np.flatnonzero(sizes > _PIECE * sizes.max())
    body = np.isin(pieces, large) if sizes.any() else np.ones_like(inner)
    kept: NDArray[np.bool_] = np.asarray(body.any(axis=0))
    if also is not None:
        kept |= also
    box = []
    for axis, (spacing, n) in enumerate(zip(spacing_mm, worn, strict=True)):
        rows = np.flatnonzero(kept.any(axis=1 - axis))
        margin = n + max(1, round(_AROUND_MM / spacing))
        box.append(slice(max(0, int(rows[0]) - margin), int(rows[-1]) + 1 + margin))
    return box[0], box[1]
