"""A prediction and the truth, matched: both with our labels, on one grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from viscera.core.label_map import LabelMap
from viscera.core.label_schemes import FLARE, UNLABELLED, LabelScheme
from viscera.errors import InputError, UsageError, option
from viscera.findings import Finding
from viscera.grid.reorient import other_grid_error, reorient_label_map, reorient_to
from viscera.inputs import LabelSource, as_label_map
from viscera.io.label_scheme_files import scheme_of_names
from viscera.metrics.flare import to_uint8
from viscera.metrics.organ_metrics import Protocol
from viscera.segmentation import Segmentation


def match_labels(
    prediction: LabelSource,
    truth: LabelSource,
    *,
    protocol: Protocol = "standard",
    prediction_labels: LabelScheme = FLARE,
    truth_labels: LabelScheme = FLARE,
    memory_limit_mb: float | None = None,
) -> tuple[LabelMap, LabelMap]:
    """Both with our own labels, the prediction on the truth's grid.

    Args:
        prediction: a path, a Segmentation, a nibabel image or a LabelMap.
        truth: the same.
        protocol: ``flare24`` compares voxels as they lie, and reads values as FLARE's script does.
        prediction_labels: label scheme of the prediction.
        truth_labels: label scheme of the truth.
        memory_limit_mb: most memory the voxels of either may take.

    Returns:
        Prediction and truth, uint8, with what was noticed about each.

    Raises:
        InputError: unreadable, labels that the scheme does not know, or another grid.
        ResourceError: more memory would be needed than the limit.
    """
    by_script = protocol == "flare24"
    truth_map = read_organ_labels(truth, truth_labels, memory_limit_mb, by_script=by_script)
    prediction_map = read_organ_labels(
        prediction, prediction_labels, memory_limit_mb, by_script=by_script
    )
    where = str(prediction) if isinstance(prediction, str | Path) else prediction_map.name
    if by_script:
        return _as_they_lie(prediction_map, truth_map, where=where), truth_map
    shape = truth_map.values.shape
    matched = reorient_label_map(
        prediction_map, shape, truth_map.affine, owner="the truth's", where=where
    )
    if truth_labels.unlabelled or prediction_labels.unlabelled:
        return _without_unlabelled(matched, truth_map)
    return matched, truth_map


def _without_unlabelled(prediction_map: LabelMap, truth_map: LabelMap) -> tuple[LabelMap, LabelMap]:
    """Both with background where nobody labelled the truth, so that nothing there counts."""
    unlabelled = truth_map.values == UNLABELLED
    if unlabelled.all():
        raise InputError(
            "a truth in which voxels are labelled",
            found="none",
            remedy="leave the case out",
            where=truth_map.name,
        )
    prediction, truth = prediction_map.values.copy(order="K"), truth_map.values.copy(order="K")
    prediction[unlabelled | (prediction == UNLABELLED)] = 0
    truth[unlabelled] = 0
    return replace(prediction_map, values=prediction), replace(truth_map, values=truth)


def read_organ_labels(
    source: LabelSource,
    scheme: LabelScheme,
    memory_limit_mb: float | None = None,
    *,
    by_script: bool = False,
) -> LabelMap:
    """A label map with our own labels, uint8.

    Args:
        source: see `match_labels`.
        scheme: of its values.
        memory_limit_mb: most memory its voxels may take.
        by_script: read values as FLARE's script does; unknown ones become background.

    Raises:
        InputError: unreadable, or labels that the scheme does not know.
        UsageError: a result whose labels mean other structures.
        ResourceError: more memory would be needed than the limit.
    """
    if isinstance(source, Segmentation) and source.label_table != scheme.table:
        raise UsageError(
            f"labels of the table {scheme.table.name}",
            found=f"a result of the table {source.label_table.name}",
            remedy=f"pass {option('label_table')}, the bundle that made it",
            where=source.volume.name,
        )
    stored = as_label_map(source, memory_limit_mb=memory_limit_mb)
    stored = stored if by_script else stored.rounded()
    where = str(source) if isinstance(source, str | Path) else stored.name
    if not by_script and scheme == FLARE and (of_names := scheme_of_names(stored)) is not None:
        scheme = of_names
        message = "the file names its segments, whose numbers are not ours: its names were used"
        finding = Finding("warning", "segment-names", message, "name the label scheme to override")
        stored = replace(stored, findings=(*stored.findings, finding, *of_names.findings))
    # The script knows its own ids only; what a mapping names may lie above 255.
    values = to_uint8(stored.values) if by_script and scheme == FLARE else stored.values
    return replace(stored, values=scheme.to_organs(values, where=where, lenient=by_script))


def _as_they_lie(prediction_map: LabelMap, truth_map: LabelMap, *, where: object) -> LabelMap:
    """The prediction with the truth's affine, as a script takes it that compares no affines."""
    shape = truth_map.values.shape
    on_grid = reorient_to(
        prediction_map.values, prediction_map.affine, shape=shape, target=truth_map.affine
    )
    if on_grid is prediction_map.values:
        return prediction_map
    if prediction_map.values.shape != shape:
        raise other_grid_error(
            prediction_map, shape, truth_map.affine, owner="the truth's", where=where
        )
    message = "the prediction's affine is not the truth's; flare24 compares voxels as they lie"
    finding = Finding("warning", "grids-differ", message, "check its orientation")
    return replace(
        prediction_map, affine=truth_map.affine, findings=(*prediction_map.findings, finding)
    )
