"""Two label maps of one case compared: four metrics an organ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from viscera.core.boxes import organ_box
from viscera.core.organs import ORGANS, Organ
from viscera.core.volume import Labels, keep_labels
from viscera.metrics.areas import areas_mm2
from viscera.metrics.distances import find_distances
from viscera.metrics.flare import apply_flare_rules, cut_to_truth_slices
from viscera.metrics.organ_metrics import OrganMetrics, Protocol
from viscera.metrics.overlap import count_voxels, dice
from viscera.metrics.surface import find_surfaces
from viscera.metrics.surface_agreement import SurfaceAgreement, SurfaceDistances

_MANY_CHANGES = 3_000_000
_MOST_TOGETHER = 15  # of labels, see `find_distances`


def compare_labels(
    prediction: Labels,
    truth: Labels,
    *,
    spacing_mm: tuple[float, float, float],
    organs: Sequence[Organ] = ORGANS,
    protocol: Protocol = "standard",
) -> list[OrganMetrics]:
    """Compare two label maps on one grid.

    Args:
        prediction: [i, j, k] uint8, labels of these organs; Fortran order is fastest.
        truth: the same.
        spacing_mm: voxel size along i, j, k.
        organs: which to compare.
        protocol: ``standard``, or ``flare24`` with the rules of FLARE's script, which are in
            `viscera.metrics.flare`.

    Returns:
        The metrics of each organ, in the order given.
    """
    box = organ_box(prediction, truth) or np.s_[:1, :1, :1]
    prediction, truth = prediction[box], truth[box]
    highest = max((organ.id for organ in organs), default=0)
    counts = count_voxels(prediction, truth, highest=highest)
    predicted_voxels, true_voxels = counts.sum(axis=1), counts.sum(axis=0)
    voxel_ml = math.prod(spacing_mm) / 1000
    in_both = {o.id for o in organs if predicted_voxels[o.id] and true_voxels[o.id]}
    if protocol == "flare24":
        prediction, truth = cut_to_truth_slices(prediction, truth, in_both)
        counts = count_voxels(prediction, truth, highest=highest)
    compared_predicted, compared_true = counts.sum(axis=1), counts.sum(axis=0)
    compared = {label for label in in_both if compared_predicted[label] and compared_true[label]}
    if set(np.flatnonzero(compared_true + compared_predicted)) - {0} != compared:
        prediction, truth = keep_labels(prediction, compared), keep_labels(truth, compared)
    agreements = _surface_agreements(prediction, truth, compared, spacing_mm)
    results = []
    for organ in organs:
        label = organ.id
        if label in compared:
            agreement = agreements[label]
            nsd = agreement.nsd(organ.tolerance_mm)
            hd95_mm, assd_mm = agreement.hausdorff_mm(95), agreement.average_mm()
        elif compared_predicted[label] or compared_true[label]:
            nsd, hd95_mm, assd_mm = 0.0, math.inf, math.inf
        else:
            nsd, hd95_mm, assd_mm = 1.0, math.nan, math.nan
        metrics = OrganMetrics(
            organ=organ.name,
            dsc=dice(counts, label),
            nsd=nsd,
            hd95_mm=hd95_mm,
            assd_mm=assd_mm,
            truth_ml=float(true_voxels[label] * voxel_ml),
            prediction_ml=float(predicted_voxels[label] * voxel_ml),
        )
        if protocol == "flare24":
            is_cut_away = label in in_both and not compared_true[label]
            metrics = apply_flare_rules(metrics, is_cut_away=is_cut_away)
        results.append(metrics)
    return results


def _surface_agreements(
    prediction: Labels,
    truth: Labels,
    labels: set[int],
    spacing_mm: tuple[float, float, float],
) -> dict[int, SurfaceAgreement]:
    """The surfaces of the organs that both maps have, seen from each other."""
    areas = areas_mm2(spacing_mm)
    agreements = {}
    for group in _organ_groups(prediction, truth, labels):
        maps = truth, prediction
        if group != labels:
            maps = keep_labels(truth, group), keep_labels(prediction, group)
        true_surfaces, predicted_surfaces = (find_surfaces(label_map) for label_map in maps)
        from_truth = find_distances(true_surfaces, predicted_surfaces, spacing_mm)
        from_prediction = find_distances(predicted_surfaces, true_surfaces, spacing_mm)
        for label in group:
            agreements[label] = SurfaceAgreement(
                SurfaceDistances(from_truth[label], areas[true_surfaces[label].codes]),
                SurfaceDistances(from_prediction[label], areas[predicted_surfaces[label].codes]),
            )
    return agreements


def _organ_groups(prediction: Labels, truth: Labels, labels: set[int]) -> list[set[int]]:
    """Organs to compare together: all, but one by one where the surfaces would fill memory.

    That is what the noise of an untrained network has; organs change label a hundred times less
    often.
    """
    changes = sum(
        int(np.count_nonzero(plane[1:] != plane[:-1]))
        for label_map in (prediction, truth)
        for plane in label_map.T
    )
    ordered = sorted(labels)
    size = _MOST_TOGETHER if changes < _MANY_CHANGES else 1
    return [set(ordered[start : start + size]) for start in range(0, len(ordered), size)]
