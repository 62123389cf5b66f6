"""Pseudo-labels: a bundle labels scans, and each organ is accepted for training or not.

An organ is accepted where the network finds the same when the scan begins elsewhere, or is
mirrored; where it is one piece; and where its size is one that such an organ has. An organ that is
not accepted, or not found, is ignored in training; it is not learnt as background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from viscera.core.boxes import Box
from viscera.core.components import find_components
from viscera.core.organs import organ_pairs
from viscera.core.volume import Labels, Volume
from viscera.errors import UsageError
from viscera.grid.orientation import Orientation
from viscera.metrics.overlap import count_voxels, dice
from viscera.predictor import Predictor
from viscera.segmentation import Segmentation

# Millilitres of adult organs, sick ones included: below or above, it is something else. The lower
# bound says nothing of an organ that the scan cuts.
_USUAL_ML = {
    "liver": (400, 4500), "kidney_right": (30, 700), "spleen": (25, 2500), "pancreas": (15, 250),
    "aorta": (10, 500), "inferior_vena_cava": (8, 300), "adrenal_gland_right": (0.7, 20),
    "adrenal_gland_left": (0.7, 20), "gallbladder": (2, 300), "esophagus": (3, 120),
    "stomach": (25, 2500), "duodenum": (8, 300), "kidney_left": (30, 700),
}  # fmt: skip
VIEWS = ("shift", "flip")


@dataclass(frozen=True)
class QualityCriteria:
    """What an organ must be to be accepted.

    Attributes:
        agreement: least mean DSC between the labels and those of each other view.
        largest_share: least share of the organ in its largest component.
        views: shift begins the scan elsewhere, twice; flip mirrors it left to right.
    """

    agreement: float = 0.85
    largest_share: float = 0.9
    views: tuple[str, ...] = ("shift",)

    def __post_init__(self) -> None:
        unknown = [view for view in self.views if view not in VIEWS]
        if unknown or not self.views:
            problem = repr(unknown[0]) if unknown else "none"
            raise UsageError("views " + " or ".join(VIEWS), found=problem, remedy="choose another")
        if not (0 <= self.agreement <= 1 and 0 <= self.largest_share <= 1):
            problem = f"{self.agreement:g}, {self.largest_share:g}"
            raise UsageError("shares from 0 to 1", found=problem, remedy="choose other values")


@dataclass(frozen=True)
class LabelQuality:
    """How good the label of one organ of a scan is.

    Attributes:
        organ: its name.
        volume_ml: as labelled; 0 where it was not found.
        largest_share: share of it in its largest component.
        confidence: agreement between views, mean DSC, 0 to 1.
        reason: why it is not accepted; empty if it is.
    """

    organ: str
    volume_ml: float
    largest_share: float
    confidence: float
    reason: str

    @property
    def accepted(self) -> bool:
        """Whether to train on it."""
        return not self.reason


class _View(NamedTuple):
    """Another look at a scan: the box of the scan that it shows, and the labels found there."""

    box: Box | tuple[slice, ...]
    labels: Labels


def pseudo_label(
    predictor: Predictor, volume: Volume, criteria: QualityCriteria
) -> tuple[Segmentation, tuple[LabelQuality, ...]]:
    """Label a scan, and decide for each organ whether its labels are accepted.

    Args:
        predictor: the network.
        volume: the scan.
        criteria: what an organ must be.

    Returns:
        The labels, and the quality of each organ in label order.

    Raises:
        VisceraError: as `Predictor.segment`.
    """
    segmentation = predictor.segment(volume)
    overlaps = [
        count_voxels(
            np.asfortranarray(segmentation.labels[view.box]),
            view.labels,
            highest=max(predictor.bundle.label_ids),
        )
        for view in _other_views(predictor, volume, criteria)
    ]
    volumes_ml, cut_organs = segmentation.volumes_ml(), segmentation.cut_organs()
    qualities = []
    for organ in segmentation.organs:
        volume_ml = volumes_ml[organ.name]
        if not volume_ml:
            qualities.append(LabelQuality(organ.name, 0.0, 0.0, 0.0, "not found"))
            continue
        confidence = float(np.mean([dice(counts, organ.id) for counts in overlaps]))
        largest_share = _largest_share(segmentation.labels, organ.id)
        low_ml, high_ml = _USUAL_ML.get(organ.name, (0.0, float("inf")))
        too_small = volume_ml < low_ml and organ.name not in cut_organs
        reason = ""
        if confidence < criteria.agreement:
            reason = f"views agree to {confidence:.2f} only"
        elif largest_share < criteria.largest_share:
            reason = f"its largest component is {largest_share:.0%} of it"
        elif volume_ml > high_ml or too_small:
            reason = f"{volume_ml:.1f} ml"
        qualities.append(LabelQuality(organ.name, volume_ml, largest_share, confidence, reason))
    return segmentation, tuple(qualities)


def _other_views(predictor: Predictor, volume: Volume, criteria: QualityCriteria) -> list[_View]:
    """The scan segmented again, shifted or mirrored."""
    volume = volume.read()
    views = []
    if "shift" in criteria.views:
        # Two opposite corners go, so that windows, slices and grid fall elsewhere.
        cuts = [max(1, round(n * 0.04)) if n > 16 else 0 for n in volume.shape]
        for parts in (
            [slice(cut, None) for cut in cuts],
            [slice(None, n - cut) for n, cut in zip(volume.shape, cuts, strict=True)],
        ):
            box = parts[0], parts[1], parts[2]
            views.append(_View(box, predictor.segment(volume.cropped(box)).labels))
    if "flip" in criteria.views:
        axis = Orientation.fit(volume.affine, "LPS").axes[0]
        data: Any = np.asfortranarray(np.flip(volume.data, axis))
        labels = predictor.segment(Volume(data, volume.affine, volume.name)).labels
        swap_sides = np.arange(256, dtype=np.uint8)
        for right, left in organ_pairs(predictor.bundle.organs):
            swap_sides[[right.id, left.id]] = left.id, right.id
        unflipped = np.asfortranarray(np.flip(swap_sides[labels], axis))
        views.append(_View((slice(None),) * 3, unflipped))
    return views


def _largest_share(labels: Labels, organ: int) -> float:
    """The share of an organ in its largest component."""
    components = find_components(np.asfortranarray(labels == organ).view(np.uint8))
    return float(components.voxels.max() / components.voxels.sum())


def case_weight(qualities: Sequence[LabelQuality]) -> float:
    """How much a case counts: the mean confidence of accepted organs; 0 where there are none."""
    confidences = [quality.confidence for quality in qualities if quality.accepted]
    return round(float(np.mean(confidences)), 3) if confidences else 0.0
