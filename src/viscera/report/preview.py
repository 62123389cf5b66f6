"""The preview: three planes with contours, as a radiologist hangs them, and what was found."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from viscera.grid.orientation import Orientation
from viscera.organs import Organ
from viscera.postprocess.box import organ_box
from viscera.volume import Labels, Segmentation

# Soft-tissue window of abdominal reading: level 40, width 400.
_WINDOW_HU = (-160.0, 240.0)
_PANEL_PX = 560  # height of a panel; widths follow the anatomy
_LEGEND_PX, _GAP_PX, _HEAD_PX, _FOOT_PX = 300, 14, 54, 30
_INK, _DIM, _PAPER = (236, 238, 240), (142, 148, 156), (13, 15, 18)
_FILL = 0.16
_AROUND_MM = 45.0  # what is shown around the organs
_VISIBLE_VOXELS = 20  # fewer voxels on a cut do not make an organ visible
_SHARPER = 3  # contours are drawn larger by this and averaged down


@dataclass(frozen=True)
class _Plane:
    """One cut, rows downwards and columns to the right, with the letters of its four ends."""

    title: str
    hu: NDArray[np.float32]
    labels: NDArray[np.uint8]
    size_mm: tuple[float, float]
    ends: tuple[str, str, str, str]  # left, right, top, bottom


def preview_png(segmentation: Segmentation) -> bytes:
    """A PNG of axial, coronal and sagittal cuts through the organs.

    Cuts follow radiological convention: the patient's right is on the left of the picture, and
    voxels keep their true proportions. Each cut is where most organs show.
    """
    found = segmentation.volumes_ml()
    organs = [organ for organ in segmentation.organs if found[organ.name] > 0]
    columns = _columns(_planes(segmentation), organs)
    width = sum(c.width for c in columns) + _GAP_PX * (len(columns) + 1) + _LEGEND_PX
    page = Image.new("RGB", (width, _HEAD_PX + _PANEL_PX + _FOOT_PX), _PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((_GAP_PX, 14), segmentation.volume.name, _INK, _font(24))
    left = _GAP_PX
    for column in columns:
        page.paste(column, (left, _HEAD_PX))
        left += column.width + _GAP_PX
    _legend(pen, left + 8, segmentation, found)
    made_by = str(segmentation.provenance.get("bundle", {}).get("name", ""))
    foot = f"viscera  {made_by}   window {_WINDOW_HU[0]:.0f} to {_WINDOW_HU[1]:.0f} HU"
    foot += "   research use, not a medical device"
    pen.text((_GAP_PX, _HEAD_PX + _PANEL_PX + 8), foot, _DIM, _font(13))
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _planes(segmentation: Segmentation) -> list[_Plane]:
    """The three cuts, each where most organs show."""
    affine = segmentation.affine
    upright = Orientation.fit(affine, "LPS")  # x to the left, y to the back, z up
    spacing_mm = upright.reorder(affine.spacing_mm)
    labels = upright.view(segmentation.labels)
    box = _around(labels, spacing_mm)
    labels, hu = labels[box], upright.view(segmentation.volume.data)[box]
    dz, dy, dx = spacing_mm
    nz, ny, nx = labels.shape
    z, y, x = (_best_cut(labels, axis) for axis in range(3))
    return [
        _Plane("Axial", hu[z], labels[z], (ny * dy, nx * dx), ("R", "L", "A", "P")),
        _Plane("Coronal", hu[::-1, y], labels[::-1, y], (nz * dz, nx * dx), ("R", "L", "S", "I")),
        _Plane(
            "Sagittal", hu[::-1, :, x], labels[::-1, :, x], (nz * dz, ny * dy), ("A", "P", "S", "I")
        ),
    ]


def _around(labels: Labels, spacing_mm: tuple[float, float, float]) -> tuple[slice, ...]:
    """The box [z, y, x] of all organs with some surroundings; everything where there are none."""
    box = organ_box(labels)
    if box is None:
        return (slice(None),) * 3
    margins = [round(_AROUND_MM / step) for step in spacing_mm]
    return tuple(
        slice(max(0, b.start - margin), b.stop + margin)
        for b, margin in zip(box, margins, strict=True)
    )


def _best_cut(labels: NDArray[np.uint8], axis: int) -> int:
    """The cut with most organs on it, among equals the one with most labelled area."""
    n = int(labels.shape[axis])
    if not labels.any():
        return n // 2
    score = [0.0] * n
    for position in range(n):
        counts = np.bincount(labels.take(position, axis=axis).ravel(), minlength=256)[1:]
        # Area breaks ties; it stays below 1.
        visible = float((counts >= _VISIBLE_VOXELS).sum())
        score[position] = visible + float(counts.sum()) / labels.size
    return score.index(max(score))


def _columns(planes: list[_Plane], organs: list[Organ]) -> list[Image.Image]:
    """The panels side by side; coronal and sagittal above each other where the stack is short."""
    axial, coronal, sagittal = planes
    if 2 * coronal.size_mm[0] > coronal.size_mm[1]:
        return [_draw(plane, organs, _PANEL_PX) for plane in planes]
    half = (_PANEL_PX - _GAP_PX) // 2
    pair = [_draw(plane, organs, half) for plane in (coronal, sagittal)]
    column = Image.new("RGB", (max(p.width for p in pair), _PANEL_PX), _PAPER)
    column.paste(pair[0], (0, 0))
    column.paste(pair[1], (0, _PANEL_PX - half))
    return [_draw(axial, organs, _PANEL_PX), column]


def _draw(plane: _Plane, organs: list[Organ], height: int) -> Image.Image:
    """One panel of this height: grey CT, faint fill, crisp contour, letters at its ends."""
    height_mm, width_mm = plane.size_mm
    scale = min(height / height_mm, 1.35 * _PANEL_PX / width_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    big = (size[0] * _SHARPER, size[1] * _SHARPER)
    low, high = _WINDOW_HU
    grey = np.clip((plane.hu.astype(np.float32) - low) / (high - low), 0, 1) * 255
    picture = np.asarray(_resized(grey, big), dtype=np.float32)[..., None].repeat(3, axis=-1)
    for organ in organs:
        mask = plane.labels == organ.id
        if not mask.any():
            continue
        # Interpolated and cut at one half, so that thick slices give smooth outlines.
        inside = np.asarray(_resized(mask.astype(np.float32), big)) > 0.5
        edge = inside & ~_eroded(inside, 2 * _SHARPER - 1)
        colour = np.array(organ.colour, dtype=np.float32)
        picture[inside] += (colour - picture[inside]) * _FILL
        picture[edge] = colour
    panel = Image.new("RGB", (size[0], height), (0, 0, 0))
    small = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).resize(
        size, Image.Resampling.BOX
    )
    top = (height - size[1]) // 2
    panel.paste(small, (0, top))
    pen, font = ImageDraw.Draw(panel), _font(20)
    middle_x, middle_y = size[0] / 2, height / 2
    spots = zip(
        plane.ends,
        ((10, middle_y), (size[0] - 10, middle_y), (middle_x, 22), (middle_x, height - 14)),
        ("lm", "rm", "mm", "mm"),
        strict=True,
    )
    for letter, spot, anchor in spots:
        pen.text(spot, letter, _INK, font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    pen.text((10, 8), plane.title, _DIM, _font(16), stroke_width=2, stroke_fill=(0, 0, 0))
    return panel


def _legend(
    pen: ImageDraw.ImageDraw, left: int, segmentation: Segmentation, found: dict[str, float]
) -> None:
    cut = segmentation.cut_organs()
    row = min(38, (_PANEL_PX - 10) // max(1, len(segmentation.organs)))
    for number, organ in enumerate(segmentation.organs):
        top = _HEAD_PX + 6 + number * row
        volume = found[organ.name]
        ink = _INK if volume else _DIM
        box = (left, top, left + 18, top + 18)
        pen.rounded_rectangle(box, 4, organ.colour if volume else None, organ.colour)
        pen.text((left + 30, top - 1), organ.title, ink, _font(17))
        text = f"{volume:,.0f} ml" if volume >= 10 else f"{volume:.1f} ml" if volume else "none"
        text = f"> {text}" if organ.name in cut else text  # the scan cuts it: a lower bound
        pen.text((left + _LEGEND_PX - 34, top - 1), text, ink, _font(17), anchor="ra")


def _resized(image: NDArray[Any], size: tuple[int, int]) -> Image.Image:
    plane = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    return plane.resize(size, Image.Resampling.BILINEAR)


def _eroded(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """The mask without its outermost pixels; the picture's border counts as inside."""
    for _ in range(steps):
        padded = np.pad(mask, 1, constant_values=True)
        inner = padded[1:-1, 1:-1].copy()
        for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
            inner &= padded[rows : rows + mask.shape[0], columns : columns + mask.shape[1]]
        mask = inner
    return mask


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
