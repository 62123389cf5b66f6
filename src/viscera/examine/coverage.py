"""Which organs and body parts a scan shows, and which it cuts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.core.examination import Coverage
from viscera.core.organs import ORGANS_BY_NAME, PAIRED_ORGANS, Organ
from viscera.core.volume import Labels
from viscera.findings import Finding
from viscera.quality.organ_ranges import ANCHORS

# They run on beyond any abdomen, so that every scan cuts them.
ALWAYS_CUT = frozenset({"aorta", "inferior_vena_cava", "esophagus"})
_LEAST_CUT_MM2 = 200.0  # of an organ on the scan's outermost plane
_ENDS = (("left", "right"), ("back", "front"), ("lower", "upper"))  # of the world's axes
_LUNG_ML, _ORGAN_ML = 300.0, 20.0
_PELVIS_BELOW_MM = 170.0  # the middle of the kidneys


def organ_coverage(
    volumes_ml: Mapping[str, float],
    cut_organs: Collection[str],
    in_view: Mapping[str, float | None],
) -> dict[str, Coverage]:
    """What the scan shows of each organ.

    Args:
        volumes_ml: of each organ, 0 where it was not found.
        cut_organs: names of those that reach the scan's border.
        in_view: how likely each organ's usual place lies within the scan; None if nothing tells.
    """
    coverage: dict[str, Coverage] = {}
    for name, volume_ml in volumes_ml.items():
        if volume_ml:
            coverage[name] = "cut" if name in cut_organs else "whole"
        else:
            share = in_view[name]
            coverage[name] = "outside" if share is not None and share < 0.5 else "not seen"
    return coverage


def cut_findings(labels: Labels, affine: Affine, organs: Sequence[Organ]) -> list[Finding]:
    """Which organs each end of the scan cuts; vessels and esophagus, which all scans cut, aside.

    Args:
        labels: [i, j, k] uint8.
        affine: of the labels.
        organs: those that the network can find.
    """
    findings = []
    for axis, (world, sign) in enumerate(affine.axes):
        others = [step for n, step in enumerate(affine.spacing_mm) if n != axis]
        lines = np.moveaxis(labels, axis, 0)
        for end, side in ((0, sign < 0), (-1, sign > 0)):
            areas_mm2 = np.bincount(lines[end].ravel(), minlength=256) * float(np.prod(others))
            cut = [o.name for o in organs if areas_mm2[o.id] >= _LEAST_CUT_MM2]
            cut = [name for name in cut if name not in ALWAYS_CUT]
            if cut:
                name = _ENDS[world][int(side)]
                message = f"the {name} end of the scan cuts {', '.join(cut)}"
                hint = "their volumes are of what lies in the scan"
                findings.append(Finding("info", f"cut-{name}", message, hint))
    return findings


def body_parts(
    labels: NDArray[np.uint8], lungs: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> tuple[str, ...]:
    """Chest, abdomen and pelvis, those of which the scan shows a good part.

    Args:
        labels: [z, y, x] at the voxels of an overview; z runs to the head.
        lungs: [z, y, x].
        spacing_mm: z, y, x.
    """
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    volumes_ml = np.bincount(labels.ravel(), minlength=256) * voxel_ml
    parts = []
    if lungs.sum() * voxel_ml >= _LUNG_ML:
        parts.append("chest")
    if max(volumes_ml[ORGANS_BY_NAME[name].id] for name in ANCHORS) >= _ORGAN_ML:
        parts.append("abdomen")
    ids = [organ.id for organ in PAIRED_ORGANS[0]]
    kidneys = np.flatnonzero(np.isin(labels, ids).any(axis=(1, 2)))
    if kidneys.size and kidneys.mean() * spacing_mm[0] > _PELVIS_BELOW_MM:
        parts.append("pelvis")
    return tuple(parts)
