"""Where the body lies in a slice: what is beside it need not be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from viscera.volume import Volume

_COARSE_MM = 4.0  # fine enough to tell a table from a back
_DENSE_HU = -300.0  # above is body: all of it but lungs and gas
_SHELL_MM = 6.0  # half the thickness of what is no body: tables, tubes, blankets
_AROUND_MM = 8.0  # kept around the body

Box = tuple[slice, slice, slice]


def body_box(volume: Volume) -> Box:
    """The box [i, j, k] of a scan's body, whole along the axis nearest to the patient's own.

    Looked for on every fourth millimetre or so; where nothing dense is found, all of the scan.
    """
    spacing_mm = volume.affine.spacing_mm
    steps = [max(1, round(_COARSE_MM / s)) for s in spacing_mm]
    every = tuple(slice(step // 2, None, step) for step in steps)
    dense = volume.data[every] > _DENSE_HU
    coarse_mm = [s * step for s, step in zip(spacing_mm, steps, strict=True)]
    along = next(axis for axis, code in enumerate(volume.affine.axcodes) if code in "SI")
    across = [axis for axis in range(3) if axis != along]
    stacked = np.moveaxis(dense, along, 0)
    box = [slice(0, n) for n in volume.shape]
    for axis, found in zip(across, body_rows(stacked, [coarse_mm[a] for a in across]), strict=True):
        start, stop = (max(0, n) * steps[axis] for n in (found.start, found.stop))
        box[axis] = slice(start, min(volume.shape[axis], stop))
    return box[0], box[1], box[2]


def body_rows(
    dense: NDArray[np.bool_], spacing_mm: Sequence[float], also: NDArray[np.bool_] | None = None
) -> tuple[slice, slice]:
    """The box in plane of the largest dense piece, thin things such as a table left out.

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
    body = pieces == sizes.argmax() if sizes.any() else np.ones_like(inner)
    kept = body.any(axis=0)
    if also is not None:
        kept |= also
    box = []
    for axis, (spacing, n) in enumerate(zip(spacing_mm, worn, strict=True)):
        rows = np.flatnonzero(kept.any(axis=1 - axis))
        margin = n + max(1, round(_AROUND_MM / spacing))
        box.append(slice(max(0, int(rows[0]) - margin), int(rows[-1]) + 1 + margin))
    return box[0], box[1]
