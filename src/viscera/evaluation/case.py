"""Evaluation of one case: a prediction beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera.core.label_map import LabelMap
from viscera.core.label_schemes import FLARE, UNLABELLED, LabelScheme
from viscera.core.organs import FLARE13, LabelTable, Organ, Region
from viscera.core.volume import Labels
from viscera.errors import InputError, UsageError
from viscera.evaluation.match import match_labels, read_organ_labels
from viscera.findings import Finding
from viscera.inputs import LabelSource
from viscera.io.label_table_files import read_label_schemes
from viscera.metrics.compare import compare_labels
from viscera.metrics.organ_metrics import PROTOCOLS, OrganMetrics, Protocol


@dataclass(frozen=True)
class Evaluation:
    """How well one case was segmented.

    Attributes:
        case: its name.
        protocol: standard or flare24.
        organ_metrics: of each organ, in label order.
        findings: what was noticed on the way.
        region_metrics: of each region of the label table.
    """

    case: str
    protocol: Protocol
    organ_metrics: tuple[OrganMetrics, ...]
    findings: tuple[Finding, ...] = ()
    region_metrics: tuple[OrganMetrics, ...] = ()

    def __getitem__(self, organ: str) -> OrganMetrics:
        """The metrics of one organ or region; KeyError where it was not compared."""
        return {metrics.organ: metrics for metrics in self.metrics}[organ]

    @property
    def metrics(self) -> tuple[OrganMetrics, ...]:
        """Of organs and regions."""
        return (*self.organ_metrics, *self.region_metrics)

    def mean(self, metric: str = "dsc") -> float:
        """The mean of a metric over the organs that have it; NaN where none has."""
        values = np.array([getattr(metrics, metric) for metrics in self.organ_metrics])
        finite = values[np.isfinite(values)]
        return float(finite.mean()) if finite.size else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: what is infinite or no number becomes a string."""
        table = {
            "case": self.case,
            "protocol": self.protocol,
            "scores": _metrics_table(self.organ_metrics),
            "findings": [finding.as_dict() for finding in self.findings],
        }
        if self.region_metrics:
            table["regions"] = _metrics_table(self.region_metrics)
        return table

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Evaluation:
        """What `as_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        organ_metrics, region_metrics = (
            tuple(
                OrganMetrics(organ, **{key: float(value) for key, value in values.items()})
                for organ, values in content.get(part, {}).items()
            )
            for part in ("scores", "regions")
        )
        if not organ_metrics and not region_metrics:
            raise ValueError("no scores")
        findings = tuple(Finding(**finding) for finding in content["findings"])
        return cls(content["case"], content["protocol"], organ_metrics, findings, region_metrics)


def _metrics_table(every: Sequence[OrganMetrics]) -> dict[str, dict[str, float | str]]:
    return {
        metrics.organ: {
            key: value if np.isfinite(value) else str(value)
            for key, value in asdict(metrics).items()
            if key != "organ"
        }
        for metrics in every
    }


def evaluate(
    prediction: LabelSource,
    truth: LabelSource,
    *,
    protocol: Protocol = "standard",
    organs: Sequence[Organ | str] = (),
    prediction_labels: str | Path | LabelScheme = FLARE,
    truth_labels: str | Path | LabelScheme = FLARE,
    label_table: str | Path | None = None,
    memory_limit_mb: float | None = None,
) -> Evaluation:
    """Compare a prediction with the truth.

    Both must hold the same voxels; axes that are permuted or flipped are put in the truth's
    order. Protocol ``flare24`` compares voxels as they lie, as FLARE's script does.

    Args:
        prediction: a path, a Segmentation, a nibabel image, or a LabelMap
            (``LabelMap.of(array, affine)``).
        truth: the same.
        protocol: ``standard`` or ``flare24``.
        organs: organs or names to compare, and regions; all that both label schemes express where
            empty.
        prediction_labels: label scheme of the prediction: ``flare``, ``totalsegmentator``,
            ``amos``, ``btcv``, or a mapping file.
        truth_labels: label scheme of the truth.
        label_table: what labels may mean, where it is not the thirteen organs: a bundle, a table
            in TOML, or a ``dataset.json`` of nnU-Net.
        memory_limit_mb: most memory the voxels of either may take.

    Returns:
        The metrics of each organ.

    Raises:
        InputError: unreadable, labels that the scheme does not know, or another grid.
        UsageError: no such protocol, label scheme or organ, or none to compare.
        ResourceError: more memory would be needed than the limit.
    """
    if protocol not in PROTOCOLS:
        expected = " or ".join(PROTOCOLS)
        raise UsageError(expected, found=repr(protocol), remedy="choose one of these")
    prediction_scheme, truth_scheme = read_label_schemes(
        prediction_labels, truth_labels, label_table
    )
    check_protocol(protocol, truth_scheme.table)
    compared_organs, regions = select_compared(organs, prediction_scheme, truth_scheme)
    prediction_map, truth_map = match_labels(
        prediction,
        truth,
        protocol=protocol,
        prediction_labels=prediction_scheme,
        truth_labels=truth_scheme,
        memory_limit_mb=memory_limit_mb,
    )
    spacing_mm = _spacing_mm(truth_map, protocol)
    organ_metrics = compare_labels(
        prediction_map.values,
        truth_map.values,
        spacing_mm=spacing_mm,
        organs=compared_organs,
        protocol=protocol,
    )
    region_metrics = [
        _compare_region(prediction_map.values, truth_map.values, region, truth_scheme, spacing_mm)
        for region in regions
    ]
    scheme_findings = dict.fromkeys((*truth_scheme.findings, *prediction_scheme.findings))
    findings = (*scheme_findings, *truth_map.findings, *prediction_map.findings)
    return Evaluation(
        truth_map.name, protocol, tuple(organ_metrics), findings, tuple(region_metrics)
    )


def check_protocol(protocol: Protocol, table: LabelTable) -> None:
    """Refuse FLARE's own rules for other structures than the thirteen organs.

    Args:
        protocol: standard or flare24.
        table: of the labels.

    Raises:
        UsageError: they do not go together.
    """
    if protocol == "flare24" and table != FLARE13:
        raise UsageError(
            "the thirteen organs for the protocol flare24",
            found=f"the label table {table.name}",
            remedy="choose the protocol standard",
        )


def _compare_region(
    prediction: Labels,
    truth: Labels,
    region: Region,
    scheme: LabelScheme,
    spacing_mm: tuple[float, float, float],
) -> OrganMetrics:
    """The metrics of several structures as one."""
    part_of = np.zeros(256, dtype=np.uint8)
    part_of[[scheme.table.by_name[name].id for name in region.structures]] = 1
    whole = Organ(1, region.name, region.title, region.colour, region.tolerance_mm, None)
    maps = (np.take(part_of, label_map.T).T for label_map in (prediction, truth))
    (metrics,) = compare_labels(*maps, spacing_mm=spacing_mm, organs=[whole])
    return metrics


def _spacing_mm(truth_map: LabelMap, protocol: Protocol) -> tuple[float, float, float]:
    """What distances are measured with.

    FLARE's script takes the header's own numbers. Anywhere else six digits count: what a header
    loses by rounding must not push two voxels of 1.5 mm beyond a tolerance of 3 mm.
    """
    if protocol != "flare24":
        i, j, k = (float(f"{spacing:.6g}") for spacing in truth_map.affine.spacing_mm)
        return i, j, k
    spacing_mm = truth_map.header_spacing_mm
    if not (np.isfinite(spacing_mm).all() and min(spacing_mm) > 0):
        raise InputError(
            "a spacing above 0 in the header's pixdim, which flare24 uses",
            found=" x ".join(f"{s:g}" for s in spacing_mm),
            remedy="correct the header, or evaluate by the protocol standard",
            where=truth_map.name,
        )
    return spacing_mm


def evaluate_missing(
    case: str,
    truth: LabelSource,
    organs: Sequence[Organ],
    *,
    truth_labels: LabelScheme = FLARE,
    regions: Sequence[Region] = (),
) -> Evaluation:
    """A case without a prediction: every organ is missed, those that the truth lacks as well.

    That is a rule of ``standard``; FLARE's script never looks at such a case.

    Args:
        case: its name.
        truth: its true labels.
        organs: which to compare.
        truth_labels: label scheme of the truth.
        regions: which to compare too.

    Raises:
        InputError: the truth is unreadable.
    """
    truth_map = read_organ_labels(truth, truth_labels)
    values = truth_map.values
    if truth_labels.unlabelled:
        values = np.where(values == UNLABELLED, 0, values).astype(np.uint8)
    nothing = np.zeros_like(values)
    spacing_mm = truth_map.affine.spacing_mm

    def missed(metrics: OrganMetrics) -> OrganMetrics:
        return replace(metrics, dsc=0.0, nsd=0.0, hd95_mm=np.inf, assd_mm=np.inf)

    of_organs = compare_labels(nothing, values, spacing_mm=spacing_mm, organs=organs)
    of_regions = [_compare_region(nothing, values, r, truth_labels, spacing_mm) for r in regions]
    finding = Finding("warning", "no-prediction", "there is no prediction: it counts as a failure")
    return Evaluation(
        case,
        "standard",
        tuple(map(missed, of_organs)),
        (finding,),
        tuple(map(missed, of_regions)),
    )


def select_compared(
    organs: Sequence[Organ | str], prediction_scheme: LabelScheme, truth_scheme: LabelScheme
) -> tuple[tuple[Organ, ...], tuple[Region, ...]]:
    """The organs and regions that are asked for and that both label schemes express.

    Args:
        organs: organs, names, names of regions; all of the truth's where empty.
        prediction_scheme: label scheme of the prediction.
        truth_scheme: label scheme of the truth.

    Raises:
        UsageError: no such organ, or none is left.
    """
    names = [o if isinstance(o, str) else o.name for o in organs]
    every_region = truth_scheme.table.regions
    regions = [r for r in every_region if not names or _names(r) & {n.lower() for n in names}]
    of_regions = {name for region in regions for name in _names(region)} if names else set()
    requested = truth_scheme.table.select(n for n in names if n.lower() not in of_regions)
    candidates = requested if names else truth_scheme.organs
    compared = [o for o in candidates if o in truth_scheme.organs and o in prediction_scheme.organs]
    expressed = {organ.name for organ in truth_scheme.organs} & set(prediction_scheme.values)
    regions = [region for region in regions if expressed.issuperset(region.structures)]
    if not compared and not regions:
        listed = ", ".join(organ.name for organ in candidates)
        problem = f"none of {listed} in {truth_scheme.name} and {prediction_scheme.name}"
        raise UsageError("an organ in both label schemes", found=problem, remedy="choose others")
    return tuple(compared), tuple(regions)


def _names(region: Region) -> set[str]:
    return {region.name.lower(), region.title.lower()}
