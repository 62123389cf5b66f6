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
from viscera.volume import Labels, keep_labels

Protocol = Literal["standard", "flare24"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
METRICS = ("dsc", "nsd", "hd95_mm", "assd_mm")
_MANY_CHANGES = 3_000_000


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
    voxel_ml = math.prod(spacing_mm) / 1000
    predicted, true = counts.sum(axis=1), counts.sum(axis=0)
    present = {organ.id for organ in organs if predicted[organ.id] and true[organ.id]}
    if protocol == "flare24":
        prediction, truth = cut_to_truth(prediction, truth, present)
        counts = count_voxels(prediction, truth)
    left_predicted, left_true = counts.sum(axis=1), counts.sum(axis=0)
    both = {label for label in present if left_predicted[label] and left_true[label]}
    if set(np.flatnonzero(left_true + left_predicted)) - {0} != both:
        prediction, truth = keep_labels(prediction, both), keep_labels(truth, both)
    agreements = _agreements(prediction, truth, both, spacing_mm)
    scores = []
    for organ in organs:
        label = organ.id
        if label in both:
            of = agreements[label]
            surface = of.nsd(organ.tolerance_mm), of.hausdorff_mm(95), of.average_mm()
        elif left_predicted[label] or left_true[label]:
            surface = 0.0, math.inf, math.inf
        else:
            surface = 1.0, math.nan, math.nan
        volumes_ml = float(true[label] * voxel_ml), float(predicted[label] * voxel_ml)
        found = OrganScore(organ.name, dice(counts, label), *surface, *volumes_ml)
        if protocol == "flare24":
            found = as_flare(found, nothing_left=label in present and not left_true[label])
        scores.append(found)
    return scores


def _agreements(
    prediction: Labels,
    truth: Labels,
    both: set[int],
    spacing_mm: tuple[float, float, float],
) -> dict[int, SurfaceAgreement]:
    """The surfaces of the organs that both maps have, seen from each other."""
    areas = areas_mm2(spacing_mm)
    agreements = {}
    for group in _groups(prediction, truth, both):
        maps = truth, prediction
        if group != both:
            maps = keep_labels(truth, group), keep_labels(prediction, group)
        surfaces, others = (find_surfaces(labels) for labels in maps)
        forth = find_distances(surfaces, others, spacing_mm)
        back = find_distances(others, surfaces, spacing_mm)
        for label in group:
            agreements[label] = SurfaceAgreement(
                Side(forth[label], areas[surfaces[label].codes]),
                Side(back[label], areas[others[label].codes]),
            )
    return agreements


def _groups(prediction: Labels, truth: Labels, both: set[int]) -> list[set[int]]:
    """Organs to look at together: all, but one by one where the surfaces would fill memory.

    That is what an untrained network's noise has; organs change label a hundred times less often.
    """
    changes = sum(
        int(np.count_nonzero(plane[1:] != plane[:-1]))
        for labels in (prediction, truth)
        for plane in labels.T
    )
    return [both] if changes < _MANY_CHANGES else [{label} for label in sorted(both)]
