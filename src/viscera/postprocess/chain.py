"""The bundle's steps, one after another."""

from __future__ import annotations

from collections.abc import Sequence

from viscera.bundle.spec import PostprocessStep
from viscera.core.affine import Affine
from viscera.core.components import keep_largest, remove_small, remove_strays
from viscera.core.organs import ORGANS, ORGANS_BY_NAME
from viscera.core.volume import Labels
from viscera.findings import Finding
from viscera.postprocess.closing import close_organs
from viscera.postprocess.laterality import swap_wrong_sides


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
        organs = [ORGANS_BY_NAME[name] for name in step.organs] if step.organs else list(ORGANS)
        ids = [organ.id for organ in organs]
        if step.step == "closing":
            close_organs(labels, ids, step.size)
        elif step.step == "largest_component":
            keep_largest(labels, ids)
        elif step.step == "strays":
            remove_strays(labels, ids, step.share)
        elif step.step == "minimum_volume":
            remove_small(labels, ids, step.ml, affine.voxel_ml)
        elif renamed := swap_wrong_sides(labels, affine):
            message = f"{renamed} pieces of kidneys or adrenals were on the wrong side and renamed"
            findings.append(Finding("fixed", "sides", message, "look at them in the preview"))
    return findings
