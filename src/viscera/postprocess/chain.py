"""The bundle's steps, one after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from viscera.bundle.spec import PostprocessStep
from viscera.core.affine import Affine
from viscera.core.components import keep_largest, remove_small, remove_strays
from viscera.core.organs import ORGANS, ORGANS_BY_NAME
from viscera.core.volume import Labels
from viscera.findings import Finding
from viscera.postprocess.closing import close_organs
from viscera.postprocess.laterality import swap_wrong_sides


def _ids(names: Sequence[str] | None) -> list[int]:
    """Labels of these organs; of all where none is named."""
    return [ORGANS_BY_NAME[name].id for name in names] if names else [o.id for o in ORGANS]


def remove_lone(
    labels: Labels, ids: Sequence[int], beside: Sequence[int], least_voxels: float
) -> None:
    """Remove organs from a scan that shows none of the large ones they lie beside, in place.

    Args:
        labels: [i, j, k] uint8 label map.
        ids: labels of organs that are removed.
        beside: labels of organs one of which must be there.
        least_voxels: of one of them.
    """
    voxels = np.zeros(256, dtype=np.int64)
    for plane in labels.T:  # a few slices of a liver are enough
        voxels += np.bincount(plane.ravel(), minlength=256)
        if voxels[list(beside)].max() >= least_voxels:
            return
    for plane in labels.T:
        plane[np.isin(plane, ids)] = 0


def postprocess(labels: Labels, affine: Affine, steps: Sequence[PostprocessStep]) -> list[Finding]:
    """Apply the steps in place.

    Args:
        labels: [i, j, k] uint8 label map.
        affine: voxel indices to RAS millimetres.
        steps: what to do, in order.

    Returns:
        Findings on what was changed beyond smoothing.
    """
    findings = []
    for step in steps:
        ids = _ids(step.organs)
        if step.step == "closing":
            close_organs(labels, ids, step.size)
        elif step.step == "largest_component":
            keep_largest(labels, ids)
        elif step.step == "strays":
            remove_strays(labels, ids, step.share)
        elif step.step == "minimum_volume":
            remove_small(labels, ids, step.ml, affine.voxel_ml)
        elif step.step == "lone":
            remove_lone(labels, ids, _ids(step.beside), step.ml / affine.voxel_ml)
        elif renamed := swap_wrong_sides(labels, affine):
            message = f"{renamed} pieces of kidneys or adrenals were on the wrong side and renamed"
            findings.append(Finding("fixed", "sides", message, "look at them in the preview"))
    return findings
