"""OrganMetrics: how well one organ of one case was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Protocol = Literal["standard", "flare24"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
METRIC_NAMES = ("dsc", "nsd", "hd95_mm", "assd_mm")


@dataclass(frozen=True, slots=True)
class OrganMetrics:
    """How well one organ was found.

    Where truth and prediction both lack the organ, DSC and NSD are 1 and there is no distance
    (NaN). Where one of them lacks it, DSC and NSD are 0 and the distances infinite.

    Attributes:
        organ: its name.
        dsc: Dice similarity coefficient, 0 to 1.
        nsd: normalised surface distance (surface Dice) at the organ's tolerance, 0 to 1.
        hd95_mm: 95th percentile of the Hausdorff distance, the larger of both directions.
        assd_mm: average symmetric surface distance, the mean over the area of both surfaces.
        truth_ml: volume in the truth.
        prediction_ml: volume in the prediction.
    """

    organ: str
    dsc: float
    nsd: float
    hd95_mm: float
    assd_mm: float
    truth_ml: float
    prediction_ml: float
