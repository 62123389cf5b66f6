"""The bundle's steps, one after another."""

from __future__ import annotations

from collections.abc import Sequence

from viscera.bundle.spec import PostprocessStep
from viscera.core.affine import Affine
from viscera.core.components import Components, find_components
from viscera.core.organs import ORGANS, ORGANS_BY_NAME
from viscera.core.volume import Labels
from viscera.findings import Finding
from viscera.postprocess.closing import close_organs
from viscera.postprocess.component_rules import (
    ComponentLabels,
    keep_largest,
    remove_lone,
    remove_small,
    remove_strays,
    swap_wrong_sides,
)


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
    for group in _groups(steps):
        if group[0].step == "closing":
            close_organs(labels, _ids(group[0].organs), group[0].size)
            continue
        components = find_components(labels)
        new = components.organ
        for step in group:
            before, new = new, _apply(step, components, new, affine)
            renamed = int((new != before).sum())
            if step.step == "sides" and renamed:
                message = (
                    f"{renamed} pieces of kidneys or adrenals were on the wrong side and renamed"
                )
                findings.append(Finding("fixed", "sides", message, "look at them in the preview"))
        components.paint(labels, new)
    return findings


def _groups(steps: Sequence[PostprocessStep]) -> list[list[PostprocessStep]]:
    """Steps that find components once: all but closing, up to sides, which joins what was apart."""
    groups: list[list[PostprocessStep]] = []
    ends_before = True
    for step in steps:
        if ends_before or step.step == "closing":
            groups.append([])
        groups[-1].append(step)
        ends_before = step.step in ("closing", "sides")
    return groups


def _apply(
    step: PostprocessStep, components: Components, labels: ComponentLabels, affine: Affine
) -> ComponentLabels:
    """The labels of components after a step other than closing."""
    ids, least_voxels = _ids(step.organs), step.ml / affine.voxel_ml
    match step.step:
        case "largest_component":
            return keep_largest(components, labels, ids)
        case "strays":
            return remove_strays(components, labels, ids, step.share)
        case "minimum_volume":
            return remove_small(components, labels, ids, least_voxels)
        case "lone":
            return remove_lone(components, labels, ids, _ids(step.beside), least_voxels)
        case _:
            return swap_wrong_sides(components, labels, affine)


def _ids(names: Sequence[str] | None) -> list[int]:
    """Labels of these organs; of all where none is named."""
    return [ORGANS_BY_NAME[name].id for name in names] if names else [o.id for o in ORGANS]
