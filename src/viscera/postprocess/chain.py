"""The bundle's steps, one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import PostprocessStep
from viscera.core.affine import Affine
from viscera.core.components import Components, find_components
from viscera.core.organs import FLARE13, LabelTable, organ_pairs
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

_LEAST_NAMED_ML = 0.05  # less is nothing to speak of
# These straddle the spine, so that the middle between them is the body's.
_MIDLINE_VESSELS = ("aorta", "inferior_vena_cava")


class OrganPieces(NamedTuple):
    """What is left of an organ, and what was removed.

    Attributes:
        voxels: of all pieces that are left.
        largest: voxels of the largest of them.
        removed: voxels of the pieces that were removed.
        centre_mm: (3,) RAS, of what is left.
    """

    voxels: int
    largest: int
    removed: int
    centre_mm: NDArray[np.float64]


class PostprocessResult(NamedTuple):
    """What post-processing did.

    Attributes:
        findings: on what was changed beyond smoothing.
        pieces: of each label that is left or was removed.
    """

    findings: list[Finding]
    pieces: dict[int, OrganPieces]


def postprocess(
    labels: Labels,
    affine: Affine,
    steps: Sequence[PostprocessStep],
    table: LabelTable = FLARE13,
    *,
    clear_outside: Callable[[], NDArray[np.int64]] = lambda: np.zeros(256, dtype=np.int64),
) -> PostprocessResult:
    """Apply the steps in place.

    Args:
        labels: [i, j, k] uint8 label map.
        affine: voxel indices to RAS millimetres.
        steps: what to do, in order.
        table: of the labels.
        clear_outside: does the step ``inside_body``, see `viscera.localise.outside_body`; returns
            what it removed.

    Returns:
        Findings, and the pieces of every organ.
    """
    findings: list[Finding] = []
    removed: dict[str, NDArray[np.int64]] = {}
    components, new = None, np.zeros(0, dtype=np.uint8)
    for group in _groups(steps):
        if group[0].step == "closing":
            close_organs(labels, _ids(group[0].organs, table), group[0].size)
            components = None
            continue
        if group[0].step == "inside_body":
            if text := _volumes_text(clear_outside(), affine, table):
                message = f"what lay outside the body was removed: {text}"
                findings.append(Finding("info", "outside-body", message))
            components = None
            continue
        components = find_components(labels)
        new = components.organ
        for step in group:
            before, new = new, _apply(step, components, new, affine, table)
            gone = components.voxels * (new == 0)
            voxels = np.bincount(before, weights=gone, minlength=256).astype(np.int64)
            voxels[0] = 0  # removed by an earlier step
            removed[step.step] = removed.get(step.step, 0) + voxels
            renamed = int((new != before).sum())
            if step.step == "sides" and renamed:
                pairs = "kidneys or adrenals" if table == FLARE13 else "pairs"
                message = f"{renamed} pieces of {pairs} were on the wrong side and renamed"
                findings.append(Finding("fixed", "sides", message, "look at them in the preview"))
        components.paint(labels, new)
    if components is None:
        components = find_components(labels)
        new = components.organ
    findings += _removal_findings(removed, affine, table)
    removed_voxels = sum(removed.values(), np.zeros(256, dtype=np.int64))
    return PostprocessResult(findings, _pieces(components, new, removed_voxels, affine))


def _removal_findings(
    removed: Mapping[str, NDArray[np.int64]], affine: Affine, table: LabelTable
) -> list[Finding]:
    """What was removed, organ by organ; `removed` has voxels of each label by step."""
    lone = removed.get("lone", np.zeros(256, dtype=np.int64))
    small = sum((v for step, v in removed.items() if step != "lone"), np.zeros_like(lone))
    findings = []
    if text := _volumes_text(small, affine, table):
        message = f"pieces apart from their organ were removed: {text}"
        findings.append(Finding("info", "pieces-removed", message))
    if text := _volumes_text(lone, affine, table):
        lack = "no abdomen was found" if table == FLARE13 else "nothing was found beside them"
        message = f"{lack}, so what was taken for its organs was removed: {text}"
        findings.append(Finding("info", "organs-removed", message))
    return findings


def _volumes_text(voxels: NDArray[np.int64], affine: Affine, table: LabelTable) -> str:
    """Organs and ml, such as "liver 1.2 ml, spleen 0.3 ml"."""
    volumes_ml = voxels * affine.voxel_ml
    return ", ".join(
        f"{table.by_id[int(organ)].name} {volumes_ml[organ]:.1f} ml"
        for organ in np.flatnonzero(volumes_ml >= _LEAST_NAMED_ML)
    )


def _pieces(
    components: Components,
    labels: ComponentLabels,
    removed: NDArray[np.int64],
    affine: Affine,
) -> dict[int, OrganPieces]:
    """The pieces of every organ; `labels` are those of the components now."""
    result = {}
    for organ in np.flatnonzero(np.bincount(labels, minlength=256) + removed):
        if not organ:
            continue
        of_organ = labels == organ
        voxels = components.voxels[of_organ]
        total = int(voxels.sum())
        centre = voxels @ components.centre[of_organ] / max(total, 1)
        result[int(organ)] = OrganPieces(
            voxels=total,
            largest=int(voxels.max(initial=0)),
            removed=int(removed[organ]),
            centre_mm=affine.matrix[:3, :3] @ centre + affine.matrix[:3, 3],
        )
    return result


def _groups(steps: Sequence[PostprocessStep]) -> list[list[PostprocessStep]]:
    """Steps that find components once: those on voxels stand alone; sides joins what was apart."""
    groups: list[list[PostprocessStep]] = []
    ends_before = True
    for step in steps:
        is_on_voxels = step.step in ("closing", "inside_body")
        if ends_before or is_on_voxels:
            groups.append([])
        groups[-1].append(step)
        ends_before = is_on_voxels or step.step == "sides"
    return groups


def _apply(
    step: PostprocessStep,
    components: Components,
    labels: ComponentLabels,
    affine: Affine,
    table: LabelTable,
) -> ComponentLabels:
    """The labels of components after a step on components."""
    ids, least_voxels = _ids(step.organs, table), step.ml / affine.voxel_ml
    match step.step:
        case "largest_component":
            return keep_largest(components, labels, ids)
        case "strays":
            return remove_strays(components, labels, ids, step.share)
        case "minimum_volume":
            return remove_small(components, labels, ids, least_voxels)
        case "lone":
            return remove_lone(components, labels, ids, _ids(step.beside, table), least_voxels)
        case _:
            vessels = [table.by_name[n].id for n in _MIDLINE_VESSELS if n in table.by_name]
            return swap_wrong_sides(
                components, labels, affine, pairs=organ_pairs(table.organs), midline_ids=vessels
            )


def _ids(names: Sequence[str] | None, table: LabelTable) -> list[int]:
    """Labels of these organs; of all where none is named."""
    return [table.by_name[name].id for name in names or table.by_name]
