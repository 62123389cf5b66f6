"""One organ in three cuts side by side, each where most of it shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from viscera.core.boxes import organ_boxes
from viscera.core.organs import Organ
from viscera.report.pictures.panel import PAPER, draw_cut
from viscera.report.pictures.preview import PreviewCuts, organ_profiles, upright_cuts
from viscera.report.scan_pass import Point, ScanPass
from viscera.segmentation import Segmentation

_HEIGHT_PX, _WIDEST_PX, _GAP_PX = 210, 300, 6
_TEXT_PX = 12
_AROUND_MM = 35.0


def organ_cuts(segmentation: Segmentation) -> dict[str, PreviewCuts]:
    """Of each organ that was found: the surroundings, and the cuts with most of it.

    Args:
        segmentation: the labels and their scan.
    """
    labels = segmentation.labels
    profiles = organ_profiles(labels)
    boxes = organ_boxes(labels, [organ.id for organ in segmentation.organs])
    result = {}
    for organ in segmentation.organs:
        if organ.id not in boxes:
            continue
        i, j, k = (int(np.argmax(profile[:, organ.id])) for profile in profiles)
        first, second, third = (
            slice(max(0, part.start - round(_AROUND_MM / mm)), part.stop + round(_AROUND_MM / mm))
            for part, mm in zip(boxes[organ.id], segmentation.affine.spacing_mm, strict=True)
        )
        result[organ.name] = PreviewCuts((first, second, third), (i, j, k))
    return result


def points_of(cuts: dict[str, PreviewCuts]) -> list[Point]:
    """The points that a pass over the scan must go through."""
    return [of.at for of in cuts.values()]


def organ_strip(
    segmentation: Segmentation, cuts: PreviewCuts, scan: ScanPass, organs: Sequence[Organ]
) -> Image.Image:
    """Axial, coronal and sagittal cut side by side; right and left, front and back are marked.

    Args:
        segmentation: the labels and their scan.
        cuts: of the organ, see `organ_cuts`.
        scan: of a pass over the scan through these cuts.
        organs: which to draw.
    """
    panels = [
        draw_cut(plane, organs, _HEIGHT_PX, most_width=_WIDEST_PX, text_px=_TEXT_PX)
        for plane in upright_cuts(segmentation, cuts, scan)
    ]
    width = sum(panel.width for panel in panels) + _GAP_PX * (len(panels) - 1)
    strip = Image.new("RGB", (width, _HEIGHT_PX), PAPER)
    left = 0
    for panel in panels:
        strip.paste(panel, (left, 0))
        left += panel.width + _GAP_PX
    return strip
