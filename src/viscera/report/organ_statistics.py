"""Statistics of every organ: volume, density, pieces, and whether the scan cuts it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from viscera.core.components import count_components
from viscera.report.scan_pass import ScanPass, scan_pass
from viscera.segmentation import Segmentation


@dataclass(frozen=True)
class OrganStatistics:
    """One organ of one case.

    Attributes:
        organ: its name.
        volume_ml: millilitres; 0.0 where it was not found.
        mean_hu, std_hu: density over its voxels (population standard deviation); None where it
            was not found.
        n_voxels: voxels of the source grid.
        components: connected pieces, 26 neighbours.
        touches_border: it reaches the first or last voxel of some axis, so that its volume is a
            lower bound.
        verdict: good, check or fail; None where nobody judged it.
        estimated_dsc, estimated_low, estimated_high: expected DSC and where four of five true
            values lie, see `OrganQuality`; None without a verdict.
        reasons: of the verdict, in words.
    """

    organ: str
    volume_ml: float
    mean_hu: float | None
    std_hu: float | None
    n_voxels: int
    components: int
    touches_border: bool
    verdict: str | None = None
    estimated_dsc: float | None = None
    estimated_low: float | None = None
    estimated_high: float | None = None
    reasons: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, the organ's name left out."""
        values = asdict(self)
        del values["organ"]
        return values


def measure_organs(
    segmentation: Segmentation, scan: ScanPass | None = None
) -> list[OrganStatistics]:
    """Statistics of every organ of the segmentation, in label order.

    Args:
        segmentation: the labels and their scan.
        scan: of a pass over the scan; a new pass is made if not given.
    """
    labels = segmentation.labels
    scan = scan or scan_pass(segmentation.volume, labels)
    pieces = count_components(labels)
    cut = segmentation.cut_organs()
    results = []
    for organ in segmentation.organs:
        n = int(scan.voxels[organ.id])
        quality = segmentation.quality.get(organ.name)
        low, high = (quality and quality.interval) or (None, None)
        mean = float(scan.hu_sums[organ.id]) / n if n else 0.0
        variance = max(float(scan.hu_square_sums[organ.id]) / n - mean**2, 0.0) if n else 0.0
        results.append(
            OrganStatistics(
                organ=organ.name,
                volume_ml=round(n * segmentation.affine.voxel_ml, 3),
                mean_hu=round(mean, 2) if n else None,
                std_hu=round(float(np.sqrt(variance)), 2) if n else None,
                n_voxels=n,
                components=pieces.get(organ.id, 0),
                touches_border=organ.name in cut,
                verdict=quality.verdict if quality else None,
                estimated_dsc=quality.estimated_dsc if quality else None,
                estimated_low=low,
                estimated_high=high,
                reasons="; ".join(quality.reasons) if quality else "",
            )
        )
    return results


def statistics_csv(case: str, statistics: Iterable[OrganStatistics]) -> str:
    """The long form: case, organ, metric, value; values that do not exist stay empty.

    Args:
        case: the case's name.
        statistics: one of each organ.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "organ", "metric", "value"])
    for row in statistics:
        for metric, value in row.as_dict().items():
            text_value = "" if value is None else int(value) if isinstance(value, bool) else value
            writer.writerow([case, row.organ, metric, text_value])
    return text.getvalue()
