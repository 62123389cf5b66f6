"""Pseudo-labels: a bundle labels scans, and says which organ of which scan to believe.

An organ is believed where the network finds the same when the scan begins elsewhere, or lies
mirrored; where it is of one piece; and where its size is one that such an organ has. What is not
believed, and what was not found, is to be ignored in training, not taught as background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from viscera.errors import UsageError
from viscera.grid.orientation import Orientation
from viscera.metrics.overlap import count_voxels, dice
from viscera.organs import PAIRS
from viscera.postprocess.components import find_components
from viscera.predictor import Predictor
from viscera.segmentation import Segmentation
from viscera.volume import Labels, Volume

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
class Filter:
    """What an organ must be to be believed.

    Attributes:
        agreement: least mean DSC between the labels and those of each other view.
        largest: least share of the organ in its largest piece.
        views: shift begins the scan elsewhere, twice; flip mirrors it left to right.
    """

    agreement: float = 0.85
    largest: float = 0.9
    views: tuple[str, ...] = ("shift",)

    def __post_init__(self) -> None:
        unknown = [view for view in self.views if view not in VIEWS]
        if unknown or not self.views:
            found = repr(unknown[0]) if unknown else "none"
            raise UsageError("views " + " or ".join(VIEWS), found=found, remedy="choose another")
        if not (0 <= self.agreement <= 1 and 0 <= self.largest <= 1):
            found = f"{self.agreement:g}, {self.largest:g}"
            remedy = "choose other values"
            raise UsageError("shares from 0 to 1", found=found, remedy=remedy)


@dataclass(frozen=True)
class Trust:
    """How far an organ of a scan is to be believed.

    Attributes:
        organ: its name.
        volume_ml: as labelled; 0 where it was not found.
        largest: share of it in its largest piece.
        confidence: agreement between views, mean DSC, 0 to 1.
        reason: why it is not believed; empty if it is.
    """

    organ: str
    volume_ml: float
    largest: float
    confidence: float
    reason: str

    @property
    def believed(self) -> bool:
        """Whether to train on it."""
        return not self.reason


def pseudo_label(
    predictor: Predictor, volume: Volume, demand: Filter
) -> tuple[Segmentation, tuple[Trust, ...]]:
    """Label a scan, and judge each organ.

    Args:
        predictor: the network.
        volume: the scan.
        demand: what an organ must be.

    Raises:
        VisceraError: as `Predictor.segment`.
    """
    segmentation = predictor.segment(volume)
    agreement = [
        (segmentation.labels[box], labels) for box, labels in _views(predictor, volume, demand)
    ]
    counts = [count_voxels(np.asfortranarray(ours), labels) for ours, labels in agreement]
    volumes, cut = segmentation.volumes_ml(), segmentation.cut_organs()
    judged = []
    for organ in segmentation.organs:
        volume_ml = volumes[organ.name]
        if not volume_ml:
            judged.append(Trust(organ.name, 0.0, 0.0, 0.0, "not found"))
            continue
        confidence = float(np.mean([dice(own, organ.id) for own in counts]))
        largest = _largest(segmentation.labels, organ.id)
        low, high = _USUAL_ML[organ.name]
        reason = ""
        if confidence < demand.agreement:
            reason = f"views agree to {confidence:.2f} only"
        elif largest < demand.largest:
            reason = f"its largest piece is {largest:.0%} of it"
        elif volume_ml > high or (volume_ml < low and organ.name not in cut):
            reason = f"{volume_ml:.1f} ml"
        judged.append(Trust(organ.name, volume_ml, largest, confidence, reason))
    return segmentation, tuple(judged)


def _views(
    predictor: Predictor, volume: Volume, demand: Filter
) -> list[tuple[tuple[slice, ...], Labels]]:
    """Other looks at the scan: which box of it each of them shows, and the labels found there."""
    found = []
    if "shift" in demand.views:
        # Two opposite corners go, so that windows, slices and grid fall elsewhere.
        lost = [max(1, round(n * 0.04)) if n > 16 else 0 for n in volume.shape]
        for box in (
            tuple(slice(cut, None) for cut in lost),
            tuple(slice(None, n - cut) for n, cut in zip(volume.shape, lost, strict=True)),
        ):
            found.append((box, predictor.segment(volume.cropped((box[0], box[1], box[2]))).labels))
    if "flip" in demand.views:
        axis = Orientation.fit(volume.affine, "LPS").axes[0]
        data: Any = np.asfortranarray(np.flip(volume.data, axis))
        labels = predictor.segment(Volume(data, volume.affine, volume.name)).labels
        table = np.arange(256, dtype=np.uint8)
        for right, left in PAIRS:
            table[[right.id, left.id]] = left.id, right.id
        everything = (slice(None),) * 3
        found.append((everything, np.asfortranarray(np.flip(table[labels], axis))))
    return found


def _largest(labels: Labels, organ: int) -> float:
    """The share of an organ in its largest piece."""
    (pieces,) = find_components(labels, [organ])  # it was found
    return float(pieces.voxels.max() / pieces.voxels.sum())


def weight_of(judged: Sequence[Trust]) -> float:
    """How much a case counts: the mean confidence of what is believed; 0 where nothing is."""
    believed = [trust.confidence for trust in judged if trust.believed]
    return round(float(np.mean(believed)), 3) if believed else 0.0
