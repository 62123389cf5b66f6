"""A result shown in a notebook: the page of a case, or a picture where no page can be shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape

from viscera.report.html.case_page import case_page
from viscera.report.organ_statistics import measure_organs
from viscera.report.pictures.organ_strip import organ_cuts, points_of
from viscera.report.pictures.preview import choose_cuts, preview_png
from viscera.report.scan_pass import scan_pass
from viscera.segmentation import Segmentation


@dataclass(frozen=True, eq=False, repr=False)
class NotebookView:
    """What a notebook draws of a result; it needs no package besides.

    Attributes:
        segmentation: the result.
        height_px: of the page.
    """

    segmentation: Segmentation
    height_px: int = 720

    def __repr__(self) -> str:
        return f"<NotebookView of {self.segmentation!r}>"

    @cached_property
    def _parts(self) -> tuple[str, bytes]:
        """The page and the picture."""
        segmentation = self.segmentation
        by_organ = organ_cuts(segmentation)
        cuts = choose_cuts(segmentation.labels, segmentation.affine)
        points = [cuts.at, *points_of(by_organ)]
        scan = scan_pass(segmentation.volume, segmentation.labels, points)
        picture = preview_png(segmentation, cuts, scan)
        rows = measure_organs(segmentation, scan)
        return case_page(segmentation, scan, by_organ, rows, picture), picture

    def _repr_html_(self) -> str:
        """The page in a frame that can reach neither the notebook nor a network."""
        page, _ = self._parts
        return (
            f'<iframe title="viscera" sandbox="allow-scripts" width="100%" '
            f'height="{self.height_px}" srcdoc="{escape(page)}"></iframe>'
        )

    def _repr_png_(self) -> bytes:
        """The picture, for places that show no HTML."""
        return self._parts[1]
