"""Where the body lies in a scan, and where in the body there can be organs of the abdomen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

_SHELL_MM = 6.0  # half the least thickness of a body; tables, tubes and blankets have less
_PIECE = 0.03  # of the largest piece: smaller ones are not the body
_AROUND_MM = 8.0  # kept around the body

# Two pieces side by side that make up most of a slice, neither much larger: thighs.
_LEGS_SHARE, _LEG_TO_LEG = 0.7, 2.5
_BELOW_MM = 60.0  # kept below the trunk, where the seat may part before the pelvis ends
# A neck or head is narrow beside the widest slice, and narrow in itself: no waist is either.
_NECK_SHARE, _NECK_MM = 0.45, 220.0
_LEAST_NECK_MM = 60.0  # shorter is not left out
_ABOVE_MM = 100.0  # kept above the shoulders: the esophagus begins in the neck

Mask = NDArray[np.bool_]


def body_box(
    dense: Mask, spacing_mm: Sequence[float], also: Mask | None = None
) -> tuple[slice, slice]:
    """The box in plane of all large dense pieces, thin things such as a table left out.

    Two patients, or a child in front of a cushion, are all within.

    Args:
        dense: [z, y, x] what is as dense as a body.
        spacing_mm: of y and x.
        also: [y, x] what must lie within too.
    """
    worn = shell_pixels(spacing_mm)
    body = body_mask(dense, spacing_mm)
    if not body.any():
        body = np.ones_like(dense)
    outline: Mask = np.asarray(body.any(axis=0))
    if also is not None:
        outline |= also
    box = []
    for axis, (spacing, n) in enumerate(zip(spacing_mm, worn, strict=True)):
        rows = np.flatnonzero(outline.any(axis=1 - axis))
        margin = n + max(1, round(_AROUND_MM / spacing))
        box.append(slice(max(0, int(rows[0]) - margin), int(rows[-1]) + 1 + margin))
    return box[0], box[1]


def trunk_slices(dense: Mask, spacing_mm: tuple[float, float, float]) -> slice:
    """The slices between head and legs, with wide margins, air at either end left out.

    It is the outline that decides, never an organ: legs are two pieces of alike size that reach
    the scan's lower end, a head with its neck is narrow and reaches the upper end. What is in
    doubt stays.

    Args:
        dense: [z, y, x] what is as dense as a body; z runs towards the head.
        spacing_mm: of z, y and x.
    """
    body = body_mask(dense, spacing_mm[1:])
    filled = np.flatnonzero(body.any(axis=(1, 2)))
    if not filled.size:
        return slice(0, len(dense))
    low, high = int(filled[0]), int(filled[-1]) + 1
    sizes = [_piece_sizes(plane, spacing_mm[2]) for plane in body]
    widest = max(width for _, width in sizes)
    neck_mm = min(_NECK_MM, _NECK_SHARE * widest)
    legs = list(accumulate((_are_legs(areas) for areas, _ in sizes[low:high]), min))
    head = list(accumulate((width < neck_mm for _, width in sizes[low:high][::-1]), min))
    start, stop = low + sum(legs), high - sum(head)
    if start >= stop:  # no trunk at all: nothing to tell legs and head from
        return slice(0, len(dense))
    below, above, least, air = (
        round(mm / spacing_mm[0]) for mm in (_BELOW_MM, _ABOVE_MM, _LEAST_NECK_MM, _AROUND_MM)
    )
    first = start - below if sum(legs) else low - air
    last = stop + above if sum(head) > least else high + air
    return slice(max(0, first), min(len(dense), last))


def _are_legs(areas: list[int]) -> bool:
    """Whether the pieces of a slice, largest first, are two thighs, hands beside them or not."""
    if len(areas) < 2:
        return False
    alike = areas[0] <= _LEG_TO_LEG * areas[1]
    return alike and areas[0] + areas[1] >= _LEGS_SHARE * sum(areas)


def _piece_sizes(plane: Mask, spacing_x_mm: float) -> tuple[list[int], float]:
    """Pixels of a slice's pieces, largest first, and the width of the largest in mm."""
    pieces, count = _components(plane)
    if not count:
        return [], 0.0
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    columns = np.flatnonzero((pieces == areas.argmax()).any(axis=0))
    width_mm = float(columns[-1] - columns[0] + 1) * spacing_x_mm
    return sorted(areas[areas > 0].tolist(), reverse=True), width_mm


def body_mask(dense: Mask, spacing_mm: Sequence[float]) -> Mask:
    """All large pieces that remain after erosion in plane; thin things such as a table do not.

    Args:
        dense: [z, y, x] what is as dense as a body.
        spacing_mm: of y and x.
    """
    inner = dense
    for axis, n in zip((1, 2), shell_pixels(spacing_mm), strict=True):
        inner = _erode(inner, axis, n)
    pieces, count = _components(inner)
    if not count:
        return inner
    sizes = np.bincount(pieces.ravel(order="K"))
    sizes[0] = 0
    large: Mask = (sizes > _PIECE * sizes.max())[pieces]
    return large


def filled_body(body: Mask) -> Mask:
    """A body with what it encloses in each row and column of its slices, lungs and gas included.

    Args:
        body: [z, y, x].
    """
    after = np.maximum.accumulate(body, axis=2)
    before = np.maximum.accumulate(body[..., ::-1], axis=2)[..., ::-1]
    above = np.maximum.accumulate(body, axis=1)
    below = np.maximum.accumulate(body[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(after & before & above & below)


def grown(mask: Mask, pixels: Sequence[int]) -> Mask:
    """A mask [z, y, x] with so many more pixels around it along y and x.

    Args:
        mask: left as it is.
        pixels: along y and x.
    """
    return ~_erode(_erode(~mask, 1, pixels[0]), 2, pixels[1])


def shell_pixels(spacing_mm: Sequence[float]) -> list[int]:
    """The pixels along y and x of the shell that `body_mask` wears off.

    Args:
        spacing_mm: of y and x.
    """
    return [max(1, round(_SHELL_MM / s)) for s in spacing_mm]


def _erode(mask: Mask, axis: int, n: int) -> Mask:
    """What has n more on either side along an axis; beyond the border all counts as filled."""
    lines = np.moveaxis(mask, axis, 0)
    result = lines.copy()
    for shift in range(1, n + 1):
        result[shift:] &= lines[:-shift]
        result[:-shift] &= lines[shift:]
    return np.moveaxis(result, 0, axis)


def _components(mask: Mask) -> tuple[NDArray[np.unsignedinteger], int]:
    """Pieces of a mask, joined by faces."""
    import cc3d  # slow to import

    flat = np.ascontiguousarray(mask).view(np.uint8)
    pieces, count = cc3d.connected_components(
        flat, connectivity=6 if mask.ndim == 3 else 4, return_N=True
    )
    return pieces, count
