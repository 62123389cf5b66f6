"""A prediction and the truth, matched: both in our labels, on one grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from viscera.affine import Affine
from viscera.conventions import FLARE, Convention
from viscera.errors import InputError
from viscera.findings import Finding
from viscera.grid.equivalent import on_grid_of
from viscera.io import read_labels
from viscera.labelmap import LabelMap
from viscera.metrics import Protocol
from viscera.metrics.flare import as_uint8


def match(
    prediction: Any,
    truth: Any,
    *,
    protocol: Protocol = "standard",
    prediction_labels: Convention = FLARE,
    truth_labels: Convention = FLARE,
    limit_mb: float | None = None,
) -> tuple[LabelMap, LabelMap]:
    """Both as our own labels, the prediction on the truth's grid.

    Args:
        prediction: a path, a Segmentation, a nibabel image or a LabelMap.
        truth: the same.
        protocol: ``flare24`` compares voxels as they lie, and reads values as FLARE's script does.
        prediction_labels: convention of the prediction's values.
        truth_labels: of the truth's.
        limit_mb: most memory the voxels of either may take.

    Returns:
        Prediction and truth, uint8, with what was noticed about each.

    Raises:
        InputError: unreadable, labels that the convention does not know, or another grid.
        ResourceError: more memory would be needed than there is.
    """
    lenient = protocol == "flare24"
    true = open_labels(truth, truth_labels, limit_mb, lenient=lenient)
    own = open_labels(prediction, prediction_labels, limit_mb, lenient=lenient)
    where = prediction if isinstance(prediction, str | Path) else own.name
    return _on_grid_of(true, own, where=where, as_they_lie=lenient), true


def open_labels(
    source: Any, labels: Convention, limit_mb: float | None = None, *, lenient: bool = False
) -> LabelMap:
    """A label map whose values are our own labels, uint8; the stored ones are not kept.

    Args:
        source: see `match`.
        labels: convention of its values.
        limit_mb: most memory its voxels may take.
        lenient: read values as FLARE's script does; unknown ones become background.
    """
    if isinstance(source, str | Path):
        opened, where = read_labels(source, limit_mb=limit_mb), str(source)
    else:
        opened, where = LabelMap.of(source), ""
    # The script knows its own ids only; what a mapping names may lie above 255.
    values = as_uint8(opened.values) if lenient and labels == FLARE else opened.values
    found = labels.to_organs(values, where=where or opened.name, lenient=lenient)
    return replace(opened, values=found)


def _on_grid_of(true: LabelMap, own: LabelMap, *, where: object, as_they_lie: bool) -> LabelMap:
    """The predicted labels on the truth's grid, with a finding of what had to be done for it."""
    shape = true.values.shape
    if not as_they_lie:
        return bring(own, shape, true.affine, whose="the truth's", where=where)
    alike = on_grid_of(own.values, own.affine, shape=shape, target=true.affine) is own.values
    if alike:
        return own
    if own.values.shape == shape:
        message = "the prediction's affine is not the truth's; flare24 compares voxels as they lie"
        finding = Finding("warning", "grids-differ", message, "check its orientation")
        return replace(own, affine=true.affine, findings=(*own.findings, finding))
    raise _other_grid(own, shape, true.affine, "the truth's", where)


def bring(
    own: LabelMap, shape: tuple[int, ...], affine: Affine, *, whose: str, where: object
) -> LabelMap:
    """Labels on another grid of the same voxels: axes permuted and flipped, with a finding.

    Args:
        own: the labels.
        shape: of the grid, [i, j, k].
        affine: of the grid.
        whose: grid it is, for messages.
        where: the labels' file or case, for messages.

    Raises:
        InputError: it is a grid of other voxels.
    """
    turned = on_grid_of(own.values, own.affine, shape=shape, target=affine)
    if turned is None:
        raise _other_grid(own, shape, affine, whose, where)
    if turned is own.values:
        return own
    message = f"axes {own.affine.axcodes} were brought into {whose} {affine.axcodes}"
    finding = Finding("info", "axes-reordered", message)
    return replace(own, values=turned, affine=affine, findings=(*own.findings, finding))


def _other_grid(
    own: LabelMap, shape: tuple[int, ...], affine: Affine, whose: str, where: object
) -> InputError:
    return InputError(
        f"{whose} grid, {_grid(shape, affine)}",
        found=_grid(own.values.shape, own.affine),
        remedy="write the labels on the grid of their own scan",
        where=where,
    )


def _grid(shape: tuple[int, ...], affine: Affine) -> str:
    size = " x ".join(map(str, shape))
    spacing = " x ".join(f"{s:.4g}" for s in affine.spacing_mm)
    origin = ", ".join(f"{o:.4g}" for o in affine.matrix[:3, 3])
    return f"{size} voxels of {spacing} mm {affine.axcodes} from ({origin})"
