"""A pen for charts: draws in the page's own units on a picture that is larger."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from viscera.report.pictures.panel import font

SHARPER = 2  # pictures are drawn larger by this and averaged down
INK, DIM, GRID, PAPER = (28, 30, 34), (112, 118, 126), (226, 229, 233), (255, 255, 255)
_DOT_PX = 2.5


class ChartCanvas:
    """Draws in the page's own units on a picture that is larger."""

    def __init__(self, page: Image.Image) -> None:
        self._page, self._draw = page, ImageDraw.Draw(page)

    def line(self, a: Sequence[float], b: Sequence[float], ink: tuple[int, ...], px: float) -> None:
        """A straight line.

        Args:
            a: x, y of one end in pixels.
            b: x, y of the other end.
            ink: RGB or RGBA.
            px: width of the line.
        """
        self._draw.line([_up(a), _up(b)], ink, round(px * SHARPER))

    def polyline(self, points: Sequence[Sequence[float]], ink: tuple[int, ...], px: float) -> None:
        """A line through these points.

        Args:
            points: x, y of each in pixels.
            ink: RGB or RGBA.
            px: width of the line.
        """
        self._draw.line([_up(p) for p in points], ink, round(px * SHARPER), joint="curve")

    def rectangle(
        self, box: Sequence[float], fill: tuple[int, ...], outline: tuple[int, ...]
    ) -> None:
        """A filled box.

        Args:
            box: left, top, right, bottom in pixels.
            fill: RGB or RGBA.
            outline: RGB or RGBA.
        """
        self._draw.rectangle([_up(box[:2]), _up(box[2:])], fill, outline, SHARPER)

    def dot(self, at: Sequence[float], ink: tuple[int, ...]) -> None:
        """A dot with a thin halo.

        Args:
            at: x, y of its centre in pixels.
            ink: RGB or RGBA.
        """
        x, y = _up(at)
        r = _DOT_PX * SHARPER
        self._draw.ellipse([(x - r, y - r), (x + r, y + r)], ink, PAPER, 1)

    def diamond(self, at: Sequence[float]) -> None:
        """A light diamond, for means."""
        x, y = _up(at)
        r = 5.0 * SHARPER
        points = [(x - r, y), (x, y - r), (x + r, y), (x, y + r)]
        self._draw.polygon(points, PAPER, INK, SHARPER)

    def text(
        self, at: Sequence[float], text: str, ink: tuple[int, ...], size: int, anchor: str = "la"
    ) -> None:
        """Text at a point, anchored as Pillow says.

        Args:
            at: x, y in pixels.
            text: one line.
            ink: RGB or RGBA.
            size: height of the letters in pixels.
            anchor: which point of the text lies there, as Pillow names it.
        """
        self._draw.text(_up(at), text, ink, font(size * SHARPER), anchor=anchor)

    def slanted(self, at: Sequence[float], text: str, ink: tuple[int, ...], size: int) -> None:
        """Text that rises towards its end.

        Args:
            at: x, y of its end in pixels.
            text: one line.
            ink: RGB or RGBA.
            size: height of the letters in pixels.
        """
        letters = font(size * SHARPER)
        long = round(self._draw.textlength(text, letters)) + 4
        strip = Image.new("L", (long, round(size * 1.4) * SHARPER))
        ImageDraw.Draw(strip).text((0, 0), text, 255, letters)
        turned = strip.rotate(35, expand=True, resample=Image.Resampling.BICUBIC)
        x, y = _up(at)
        self._page.paste(ink, (round(x - turned.width + 10), round(y)), turned)


def _up(point: Sequence[float]) -> tuple[float, float]:
    return point[0] * SHARPER, point[1] * SHARPER
