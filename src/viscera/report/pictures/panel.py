"""A panel: one cut through a CT with the organs drawn on it, in true proportions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from viscera.core.boxes import Box, organ_box
from viscera.core.organs import Organ
from viscera.core.volume import Labels

# Soft-tissue window of abdominal reading: level 40, width 400.
WINDOW_HU = (-160.0, 240.0)
GAP_PX = 14
INK, DIM, PAPER = (236, 238, 240), (142, 148, 156), (13, 15, 18)
_AROUND_MM = 45.0  # what is shown around the organs
_SHARPER = 3  # contours are found on pixels smaller by this


@dataclass(frozen=True)
class CutPlane:
    """One cut, rows downwards and columns to the right, with the letters of its four ends."""

    title: str
    hu: NDArray[np.float32]
    labels: NDArray[np.uint8]
    size_mm: tuple[float, float]
    ends: tuple[str, str, str, str]  # left, right, top, bottom


def draw_cut(
    plane: CutPlane,
    organs: Sequence[Organ],
    height: int,
    *,
    most_width: float,
    fill: float = 0.16,
    text_px: int = 20,
) -> Image.Image:
    """One panel: grey CT, organs filled and with a crisp contour, letters at its ends.

    Args:
        plane: the cut.
        organs: which to draw.
        height: of the panel in pixels.
        most_width: it may not become wider.
        fill: how much of an organ's colour covers the CT, 0 to 1.
        text_px: height of the letters.
    """
    height_mm, width_mm = plane.size_mm
    scale = min(height / height_mm, most_width / width_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    low, high = WINDOW_HU
    grey = np.clip((plane.hu.astype(np.float32) - low) / (high - low), 0, 1) * 255
    picture = np.repeat(np.asarray(_resized(grey, size))[..., None], 3, axis=2)
    for organ in organs:
        mask = plane.labels == organ.id
        if mask.any():
            _draw_organ(picture, mask, np.array(organ.colour, dtype=np.float32), fill)
    panel = Image.new("RGB", (size[0], height), (0, 0, 0))
    top = (height - size[1]) // 2
    panel.paste(Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)), (0, top))
    pen = ImageDraw.Draw(panel)
    middle_x, middle_y = size[0] / 2, height / 2
    spots = zip(
        plane.ends,
        (
            (text_px / 2, middle_y),
            (size[0] - text_px / 2, middle_y),
            (middle_x, 1.1 * text_px),
            (middle_x, height - 0.7 * text_px),
        ),
        ("lm", "rm", "mm", "mm"),
        strict=True,
    )
    for letter, spot, anchor in spots:
        pen.text(
            spot, letter, INK, font(text_px), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0)
        )
    pen.text(
        (10, 8), plane.title, DIM, font(round(0.8 * text_px)), stroke_width=2, stroke_fill=(0, 0, 0)
    )
    return panel


def _draw_organ(
    picture: NDArray[np.float32], mask: NDArray[np.bool_], colour: NDArray[np.float32], fill: float
) -> None:
    """Fill and outline one organ in place; only the part of the picture around it is touched.

    Its outline is found on pixels smaller by `_SHARPER`, which are then averaged.
    """
    spans = []
    for length, pixels, axis in zip(mask.shape, picture.shape, (1, 0), strict=False):
        present = np.flatnonzero(mask.any(axis=axis))
        factor = pixels / length
        first = max(0, math.floor((present[0] - 1) * factor))
        stop = min(pixels, math.ceil((present[-1] + 2) * factor))
        spans.append((first, stop, factor))
    (top, bottom, y), (left, right, x) = spans
    # Interpolated and cut at one half, so that thick slices give smooth outlines.
    plane = Image.fromarray(np.ascontiguousarray(mask, dtype=np.float32))
    box = (left / x, top / y, right / x, bottom / y)
    size = ((right - left) * _SHARPER, (bottom - top) * _SHARPER)
    inside = np.asarray(plane.resize(size, Image.Resampling.BILINEAR, box=box)) > 0.5
    core = _erode_mask(inside, 2 * _SHARPER - 1)
    cover = fill * _averaged(core) + _averaged(inside & ~core)
    part = picture[top:bottom, left:right]
    part += (colour - part) * cover[..., None]


def organ_surroundings(labels: Labels, spacing_mm: tuple[float, float, float]) -> Box:
    """The box of all organs with some surroundings; everything where there are none.

    Args:
        labels: uint8; fastest where the last axis is the slowest in memory.
        spacing_mm: along the same axes.
    """
    box = organ_box(labels)
    if box is None:
        i, j, k = labels.shape
        return slice(0, i), slice(0, j), slice(0, k)
    margins = [round(_AROUND_MM / step) for step in spacing_mm]
    first, second, third = (
        slice(max(0, b.start - margin), b.stop + margin)
        for b, margin in zip(box, margins, strict=True)
    )
    return first, second, third


def _resized(image: NDArray[Any], size: tuple[int, int]) -> Image.Image:
    plane = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    return plane.resize(size, Image.Resampling.BILINEAR)


def _averaged(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The share of the mask in every pixel of the picture."""
    rows, columns = (length // _SHARPER for length in mask.shape)
    small = mask.reshape(rows, _SHARPER, columns, _SHARPER)
    share: NDArray[np.float32] = small.sum(axis=(1, 3), dtype=np.float32) / np.float32(_SHARPER**2)
    return share


def _erode_mask(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """The mask without its outermost pixels; the picture's border counts as inside."""
    for _ in range(steps):
        padded = np.pad(mask, 1, constant_values=True)
        inner = padded[1:-1, 1:-1].copy()
        for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
            inner &= padded[rows : rows + mask.shape[0], columns : columns + mask.shape[1]]
        mask = inner
    return mask


def font(size: int) -> Any:
    """Pillow's own font."""
    return ImageFont.load_default(size)
