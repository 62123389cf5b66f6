"""Curves of a training: loss, learning rate, and DSC of every validation."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from PIL import Image

from viscera.core.organs import Organ
from viscera.report.charts.canvas import DIM, GRID, INK, PAPER, SHARPER, ChartCanvas

_LOSS, _FAINT, _RATE = (54, 110, 190), (188, 207, 233), (190, 150, 70)
_WIDTH_PX, _PLOT_PX, _LEFT_PX, _RIGHT_PX, _TOP_PX, _GAP_PX = 900, 260, 70, 210, 70, 70
_DOTTED = 40  # points of a curve, at most, that each get a dot
_SMOOTHED = 60  # points of a curve, at most, after averaging neighbours

Points = Sequence[tuple[float, float]]


def curves_png(journal: Sequence[dict[str, Any]], title: str, organs: Sequence[Organ]) -> bytes:
    """A PNG: loss and learning rate above, mean DSC and each organ's below.

    Args:
        journal: lines of metrics.jsonl.
        title: stands above.
        organs: of the network.
    """
    training_lines = [line for line in journal if line["kind"] == "train"]
    validations = [line for line in journal if line["kind"] == "validation"]
    last = max((line["step"] for line in journal), default=1)
    height = _TOP_PX + (_PLOT_PX + _GAP_PX) * (2 if validations else 1)
    page = Image.new("RGB", (_WIDTH_PX * SHARPER, height * SHARPER), PAPER)
    pen = ChartCanvas(page)
    pen.text((_LEFT_PX, 12), title, INK, 17)
    losses = [(line["step"], line["loss"]) for line in training_lines]
    rates = [(line["step"], line["learning_rate"]) for line in training_lines]
    ceiling = _round_up(max((loss for _, loss in losses), default=1.0))
    highest = max((rate for _, rate in rates), default=1.0) or 1.0
    chart = _Chart(pen, _TOP_PX, ceiling, last)
    chart.frame("loss", 4)
    chart.curve(rates, _RATE, 1, name=f"learning rate / {highest:.2g}", share=highest / ceiling)
    chart.curve(losses, _FAINT, 1)
    chart.curve(_smooth(losses), _LOSS, 2, name=f"loss {losses[-1][1]:.3f}" if losses else "")
    chart.names()
    if validations:
        chart = _Chart(pen, _TOP_PX + _PLOT_PX + _GAP_PX, 1.0, last)
        chart.frame("DSC of validations", 5)
        by_name = {organ.name: organ for organ in organs}
        for name in validations[-1]["dsc"]:
            points = [
                (line["step"], line["dsc"][name]) for line in validations if name in line["dsc"]
            ]
            organ = by_name[name]
            chart.curve(points, organ.colour, 1.5, name=f"{organ.title} {points[-1][1]:.2f}")
        mean = [(line["step"], line["mean_dsc"]) for line in validations]
        chart.curve(mean, INK, 3, name=f"mean {mean[-1][1]:.2f}")
        chart.names()
    file = io.BytesIO()
    page.resize((_WIDTH_PX, height), Image.Resampling.BOX).save(file, "PNG")
    return file.getvalue()


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5 times a power of ten."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)


def _smooth(points: Points) -> Points:
    """Means of neighbours."""
    size = max(1, len(points) // _SMOOTHED)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


class _Chart:
    """One frame of the page with its curves."""

    def __init__(self, pen: ChartCanvas, top: float, highest: float, last: float) -> None:
        self._pen, self._top, self._highest, self._last = pen, top, highest, max(last, 1)
        self._named: list[tuple[float, str, tuple[int, ...]]] = []

    def frame(self, title: str, ticks: int) -> None:
        """Lines at the ticks, steps below, a title above."""
        top, right = self._top, _WIDTH_PX - _RIGHT_PX
        self._pen.text((_LEFT_PX, top - 22), title, DIM, 14)
        for tick in range(ticks + 1):
            y = top + _PLOT_PX * (1 - tick / ticks)
            self._pen.line((_LEFT_PX, y), (right, y), GRID, 1)
            self._pen.text((_LEFT_PX - 8, y), f"{self._highest * tick / ticks:g}", DIM, 13, "rm")
        for part in range(5):
            x = _LEFT_PX + (right - _LEFT_PX) * part / 4
            step = f"{self._last * part / 4:,.0f}" + (" steps" if part == 4 else "")
            self._pen.text((x, top + _PLOT_PX + 6), step, DIM, 13, "ma")

    def curve(
        self, points: Points, ink: tuple[int, ...], px: float, *, name: str = "", share: float = 1.0
    ) -> None:
        """A curve, and its name beside its end; one that validations make has dots.

        Args:
            points: step and value.
            ink: colour.
            px: width.
            name: nothing is written without one.
            share: what the values are divided by beforehand, to share another curve's frame.
        """
        wide = _WIDTH_PX - _RIGHT_PX - _LEFT_PX
        places = [(_LEFT_PX + wide * x / self._last, self._height(y / share)) for x, y in points]
        if len(places) > 1:
            self._pen.polyline(places, ink, px)
        if len(places) <= _DOTTED:
            for place in places:
                self._pen.dot(place, ink)
        if name and points:
            self._named.append((self._height(points[-1][1] / share), name, ink))

    def names(self) -> None:
        """Names beside the curves' ends, moved apart where they would overlap."""
        row, bottom = 17.0, self._top + _PLOT_PX + 8
        places = [y for y, _, _ in self._named]
        order = sorted(range(len(places)), key=lambda n: places[n])
        for upper, lower in pairwise(order):
            places[lower] = max(places[lower], places[upper] + row)
        for n in reversed(order):
            places[n] = min(places[n], bottom)
            bottom = places[n] - row
        x = _WIDTH_PX - _RIGHT_PX + 14
        for (_, name, ink), y in zip(self._named, places, strict=True):
            self._pen.line((x, y), (x + 10, y), ink, 3)
            self._pen.text((x + 16, y), name, INK, 13, "lm")

    def _height(self, value: float) -> float:
        return self._top + _PLOT_PX * (1 - min(value / self._highest, 1))
