"""Scores of one case: two label maps in, four metrics an organ out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from viscera.metrics.agreement import Side, SurfaceAgreement
from viscera.metrics.areas import areas_mm2
from viscera.metrics.distance import find_distances
from viscera.metrics.flare import as_flare, cut_to_truth
from viscera.metrics.overlap import count_voxels, dice
from viscera.metrics.surface import find_surfaces
from viscera.organs import ORGANS, Organ
from viscera.postprocess.box import organ_box
from viscera.volume import Labels

Protocol = Literal["standard", "flare24"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
METRICS = ("dsc", "nsd", "hd95_mm", "assd_mm")


@dataclass(frozen=True, slots=True)
class OrganScore:
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


def score(
    prediction: Labels,
    truth: Labels,
    *,
    spacing_mm: tuple[float, float, float],
    organs: Sequence[Organ] = ORGANS,
    protocol: Protocol = "standard",
) -> list[OrganScore]:
    """Compare two label maps on one grid.

    Args:
        prediction: [i, j, k] uint8, FLARE's ids, nothing above 13; Fortran order is fastest.
        truth: the same.
        spacing_mm: voxel size along i, j, k.
        organs: which to score.
        protocol: ``standard``, or ``flare24`` with the quirks of FLARE's script, which stand in
            `viscera.metrics.flare`.

    Returns:
        A score an organ, in the order given.
    """
    box = organ_box(prediction, truth) or np.s_[:1, :1, :1]
    prediction, truth = prediction[box], truth[box]
    counts = count_voxels(prediction, truth)
    ml_of = {o.id: counts[o.id].sum() * math.prod(spacing_mm) / 1000 for o in organs}
    truth_ml = {o.id: counts[:, o.id].sum() * math.prod(spacing_mm) / 1000 for o in organs}
    present = {label for label in ml_of if ml_of[label] and truth_ml[label]}
    if protocol == "flare24":
        prediction, truth = cut_to_truth(prediction, truth, present)
        counts = count_voxels(prediction, truth)
    surfaces, others = find_surfaces(truth), find_surfaces(prediction)
    forth = find_distances(surfaces, others, spacing_mm)
    back = find_distances(others, surfaces, spacing_mm)
    areas = areas_mm2(spacing_mm)
    scores = []
    for organ in organs:
        sides = (
            Side(distances[organ.id], areas[found[organ.id].codes])
            if organ.id in found
            else Side.none()
            for distances, found in ((forth, surfaces), (back, others))
        )
        agreement = SurfaceAgreement(*sides)
        scores.append(
            OrganScore(
                organ.name,
                dice(counts, organ.id),
                agreement.nsd(organ.tolerance_mm),
                agreement.hausdorff_mm(95),
                agreement.average_mm(),
                float(truth_ml[organ.id]),
                float(ml_of[organ.id]),
            )
        )
    if protocol == "flare24":
        emptied = {label for label in present if not counts[:, label].any()}
        return [
            as_flare(found, nothing_left=organ.id in emptied)
            for organ, found in zip(organs, scores, strict=True)
        ]
    return scores
