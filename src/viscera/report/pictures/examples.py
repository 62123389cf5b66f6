"""Examples: the paper's Figure 2, the best and the worst cases as image, truth and prediction."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from viscera.core.organs import Organ
from viscera.core.volume import Labels, Volume
from viscera.grid.orientation import Orientation
from viscera.report.pictures.panel import (
    DIM,
    GAP_PX,
    INK,
    PAPER,
    WINDOW_HU,
    CutPlane,
    draw_cut,
    font,
    organ_surroundings,
)

_PANEL_PX, _WIDEST_PX = 300, 420
_HEAD_PX, _NAME_PX, _FOOT_PX, _LEGEND_ROW_PX = 40, 30, 26, 26
_FILL = 0.45
_TITLES = ("Image", "Truth", "Prediction")


@dataclass(frozen=True, eq=False)
class ExampleCase:
    """One case to show.

    Attributes:
        title: what stands above it.
        volume: its CT.
        truth: labels [i, j, k] on the CT's grid.
        prediction: the same.
    """

    title: str
    volume: Volume
    truth: Labels
    prediction: Labels


@dataclass(frozen=True, eq=False)
class ExampleRow:
    """One case cut open: three planes of one slice, and what stands above them."""

    title: str
    planes: tuple[CutPlane, CutPlane, CutPlane]


def best_and_worst(means: dict[str, float], count: int = 2) -> tuple[list[str], list[str]]:
    """The cases with the highest and the lowest means, none in both lists, best and worst first.

    Args:
        means: by case; what is not finite is left out.
        count: how many of either.
    """
    finite = [case for case in means if np.isfinite(means[case])]
    ranked = sorted(finite, key=lambda case: -means[case])
    best = ranked[: min(count, (len(ranked) + 1) // 2)]
    worst = [case for case in ranked if case not in best][::-1][:count]
    return best, worst


def example_row(example: ExampleCase) -> ExampleRow:
    """The axial slice with the largest truth, seen from below: the patient's right on the left."""
    upright = Orientation.fit(example.volume.affine, "LPS")
    truth, prediction = (upright.view(labels) for labels in (example.truth, example.prediction))
    spacing_mm = upright.reorder(example.volume.affine.spacing_mm)
    box = organ_surroundings(np.maximum(truth, prediction), spacing_mm)
    truth, prediction = truth[box], prediction[box]
    hu = upright.view(example.volume.data)[box]
    z = int(np.argmax([(plane > 0).sum() for plane in truth]))
    size_mm = (hu.shape[1] * spacing_mm[1], hu.shape[2] * spacing_mm[2])
    nothing = np.zeros_like(truth[z])
    planes = [
        CutPlane(title, np.array(hu[z]), np.array(labels), size_mm, ("R", "L", "A", "P"))
        for title, labels in zip(_TITLES, (nothing, truth[z], prediction[z]), strict=True)
    ]
    return ExampleRow(example.title, (planes[0], planes[1], planes[2]))


def examples_png(rows: Sequence[ExampleRow], organs: Sequence[Organ]) -> bytes:
    """A PNG with a row a case; all three pictures of a row show the same slice.

    Args:
        rows: of `example_row`.
        organs: which to draw and to name below.
    """
    panels = [
        [draw_cut(p, organs, _PANEL_PX, most_width=_WIDEST_PX, fill=_FILL) for p in row.planes]
        for row in rows
    ]
    column = max(panel.width for row in panels for panel in row)
    width = 3 * column + 4 * GAP_PX
    across = max(1, width // 190)
    legend_rows = -(-len(organs) // across)
    height = GAP_PX + len(rows) * (_NAME_PX + _PANEL_PX + GAP_PX)
    page = Image.new("RGB", (width, height + legend_rows * _LEGEND_ROW_PX + _FOOT_PX), PAPER)
    pen = ImageDraw.Draw(page)
    top = GAP_PX
    for row, pictures in zip(rows, panels, strict=True):
        pen.text((GAP_PX, top), row.title, INK, font(18))
        for place, picture in enumerate(pictures):
            left = GAP_PX + place * (column + GAP_PX) + (column - picture.width) // 2
            page.paste(picture, (left, top + _NAME_PX))
        top += _NAME_PX + _PANEL_PX + GAP_PX
    for number, organ in enumerate(organs):
        left = GAP_PX + number % across * (width // across)
        at = top + number // across * _LEGEND_ROW_PX
        pen.rounded_rectangle((left, at, left + 14, at + 14), 3, organ.colour)
        pen.text((left + 22, at - 2), organ.title, INK, font(15))
    foot = f"slice with the largest truth   window {WINDOW_HU[0]:.0f} to {WINDOW_HU[1]:.0f} HU"
    foot += "   research use, not a medical device"
    pen.text((GAP_PX, top + legend_rows * _LEGEND_ROW_PX), foot, DIM, font(13))
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()
