"""Statistics of every organ: volume, density, pieces, and whether the scan cuts it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from viscera.core.components import find_components
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
    """

    organ: str
    volume_ml: float
    mean_hu: float | None
    std_hu: float | None
    n_voxels: int
    components: int
    touches_border: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, the organ's name left out."""
        values = asdict(self)
        del values["organ"]
        return values


def measure_organs(segmentation: Segmentation) -> list[OrganStatistics]:
    """Statistics of every organ of the segmentation, in label order."""
    labels, data = segmentation.labels, segmentation.volume.data
    count = np.zeros(256)
    total, squares = np.zeros(256), np.zeros(256)
    for plane, hu in zip(labels.T, data.T, strict=True):  # plane by plane: no copy of the scan
        if plane.any():
            at = plane > 0
            organ_labels, values = plane[at], hu[at].astype(np.float64)
            count += np.bincount(organ_labels, minlength=256)
            total += np.bincount(organ_labels, weights=values, minlength=256)
            squares += np.bincount(organ_labels, weights=values**2, minlength=256)
    ids = [organ.id for organ in segmentation.organs]
    pieces = {parts.organ: parts.voxels.size for parts in find_components(labels, ids)}
    cut = segmentation.cut_organs()
    results = []
    for organ in segmentation.organs:
        n = int(count[organ.id])
        mean = float(total[organ.id]) / n if n else 0.0
        variance = max(float(squares[organ.id]) / n - mean**2, 0.0) if n else 0.0
        results.append(
            OrganStatistics(
                organ=organ.name,
                volume_ml=round(n * segmentation.affine.voxel_ml, 3),
                mean_hu=round(mean, 2) if n else None,
                std_hu=round(float(np.sqrt(variance)), 2) if n else None,
                n_voxels=n,
                components=pieces.get(organ.id, 0),
                touches_border=organ.name in cut,
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
