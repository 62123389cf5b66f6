"""Box plots of DSC and NSD, an organ a box, every case a dot."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from viscera.core.organs import Organ, Region
from viscera.report.charts.canvas import DIM, GRID, INK, PAPER, SHARPER, ChartCanvas

_PLOT_PX, _SLOT_PX, _LEFT_PX, _TOP_PX, _GAP_PX, _NAMES_PX = 300, 76, 70, 78, 52, 70
_NARROWEST_PX = 560  # leaves room for the title


def boxplot_png(
    panels: Sequence[tuple[str, Sequence[Sequence[float]]]],
    organs: Sequence[Organ | Region],
    title: str,
) -> bytes:
    """A PNG with a panel a metric.

    Boxes reach from the first to the third quartile with a line at the median; whiskers end at the
    last case within 1.5 box lengths; a diamond is the mean; every case is a dot.

    Args:
        panels: a metric's title and, for each organ, the cases' values from 0 to 1; what is not
            finite is left out.
        organs: in the order of the values.
        title: stands above.
    """
    slot = max(_SLOT_PX, _NARROWEST_PX / len(organs))
    width = round(_LEFT_PX + len(organs) * slot + 30)
    height = _TOP_PX + len(panels) * (_PLOT_PX + _GAP_PX) + _NAMES_PX
    page = Image.new("RGB", (width * SHARPER, height * SHARPER), PAPER)
    pen = ChartCanvas(page)
    pen.text((_LEFT_PX + 4, 12), title, INK, 17)
    pen.text((width - 30, 14), "box: quartiles   line: median   diamond: mean", DIM, 13, "ra")
    rng = np.random.default_rng(0)  # places dots beside each other
    for number, (metric, columns) in enumerate(panels):
        top = _TOP_PX + number * (_PLOT_PX + _GAP_PX)
        for percent in range(0, 101, 20):
            y = top + _PLOT_PX * (1 - percent / 100)
            pen.line((_LEFT_PX, y), (width - 30, y), GRID, 1)
            pen.text((_LEFT_PX - 8, y), str(percent), DIM, 13, "rm")
        pen.text((_LEFT_PX + 4, top - 28), f"{metric} (%)", INK, 15)
        for place, (organ, values) in enumerate(zip(organs, columns, strict=True)):
            finite = np.array([value for value in values if np.isfinite(value)])
            if finite.size:
                centre = _LEFT_PX + (place + 0.5) * slot
                _box(pen, centre, top, finite, organ.colour, rng)
    base = height - _NAMES_PX - _GAP_PX + 12
    for place, organ in enumerate(organs):
        pen.slanted((_LEFT_PX + (place + 0.5) * slot, base), organ.title, INK, 14)
    file = io.BytesIO()
    page.resize((width, height), Image.Resampling.BOX).save(file, "PNG")
    return file.getvalue()


def _box(
    pen: ChartCanvas,
    centre: float,
    top: float,
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    colour: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    """One organ's box, whiskers, mean and dots."""

    def height_of(value: float) -> float:
        return top + _PLOT_PX * (1 - value)

    half = _SLOT_PX * 0.28
    q1, median, q3 = np.percentile(values, (25, 50, 75))
    reach = 1.5 * (q3 - q1)
    low, high = values[values >= q1 - reach].min(), values[values <= q3 + reach].max()
    pale = tuple(int(255 - (255 - c) * 0.35) for c in colour)
    dark = tuple(int(c * 0.6) for c in colour)
    for end, edge in ((low, q1), (high, q3)):
        pen.line((centre, height_of(end)), (centre, height_of(edge)), dark, 1)
        y = height_of(end)
        pen.line((centre - half / 2, y), (centre + half / 2, y), dark, 1)
    pen.rectangle((centre - half, height_of(q3), centre + half, height_of(q1)), pale, dark)
    for value, shift in zip(values, rng.uniform(-0.6, 0.6, len(values)) * half, strict=True):
        pen.dot((centre + shift, height_of(value)), dark)
    pen.line((centre - half, height_of(median)), (centre + half, height_of(median)), INK, 2)
    pen.diamond((centre, height_of(float(values.mean()))))
