"""Evaluation of one case: a prediction beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera.core.label_map import LabelMap
from viscera.core.label_schemes import FLARE, LabelScheme
from viscera.core.organs import Organ, select_organs
from viscera.errors import InputError, UsageError
from viscera.evaluation.match import match_labels, read_organ_labels
from viscera.findings import Finding
from viscera.inputs import LabelSource
from viscera.io.label_scheme_files import read_label_scheme
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
    """

    case: str
    protocol: Protocol
    organ_metrics: tuple[OrganMetrics, ...]
    findings: tuple[Finding, ...] = ()

    def __getitem__(self, organ: str) -> OrganMetrics:
        """The metrics of one organ; KeyError where it was not compared."""
        return {metrics.organ: metrics for metrics in self.organ_metrics}[organ]

    def mean(self, metric: str = "dsc") -> float:
        """The mean of a metric over the organs that have it; NaN where none has."""
        values = np.array([getattr(metrics, metric) for metrics in self.organ_metrics])
        finite = values[np.isfinite(values)]
        return float(finite.mean()) if finite.size else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: what is infinite or no number becomes a string."""
        scores = {
            metrics.organ: {
                key: value if np.isfinite(value) else str(value)
                for key, value in asdict(metrics).items()
                if key != "organ"
            }
            for metrics in self.organ_metrics
        }
        return {
            "case": self.case,
            "protocol": self.protocol,
            "scores": scores,
            "findings": [finding.as_dict() for finding in self.findings],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Evaluation:
        """What `as_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        organ_metrics = tuple(
            OrganMetrics(organ, **{key: float(value) for key, value in values.items()})
            for organ, values in content["scores"].items()
        )
        findings = tuple(Finding(**finding) for finding in content["findings"])
        return cls(content["case"], content["protocol"], organ_metrics, findings)


def evaluate(
    prediction: LabelSource,
    truth: LabelSource,
    *,
    protocol: Protocol = "standard",
    organs: Sequence[Organ | str] = (),
    prediction_labels: str | Path | LabelScheme = FLARE,
    truth_labels: str | Path | LabelScheme = FLARE,
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
        organs: organs or names to compare; all that both label schemes express where empty.
        prediction_labels: label scheme of the prediction: ``flare``, ``totalsegmentator``,
            ``amos``, ``btcv``, or a mapping file.
        truth_labels: label scheme of the truth.
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
    prediction_scheme = read_label_scheme(prediction_labels)
    truth_scheme = read_label_scheme(truth_labels)
    compared_organs = select_compared_organs(organs, prediction_scheme, truth_scheme)
    prediction_map, truth_map = match_labels(
        prediction,
        truth,
        protocol=protocol,
        prediction_labels=prediction_scheme,
        truth_labels=truth_scheme,
        memory_limit_mb=memory_limit_mb,
    )
    organ_metrics = compare_labels(
        prediction_map.values,
        truth_map.values,
        spacing_mm=_spacing_mm(truth_map, protocol),
        organs=compared_organs,
        protocol=protocol,
    )
    scheme_findings = dict.fromkeys((*truth_scheme.findings, *prediction_scheme.findings))
    findings = (*scheme_findings, *truth_map.findings, *prediction_map.findings)
    return Evaluation(truth_map.name, protocol, tuple(organ_metrics), findings)


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
    case: str, truth: LabelSource, organs: Sequence[Organ], *, truth_labels: LabelScheme = FLARE
) -> Evaluation:
    """A case without a prediction: every organ is missed, those that the truth lacks as well.

    That is a rule of ``standard``; FLARE's script never looks at such a case.

    Args:
        case: its name.
        truth: its true labels.
        organs: which to compare.
        truth_labels: label scheme of the truth.

    Raises:
        InputError: the truth is unreadable.
    """
    truth_map = read_organ_labels(truth, truth_labels)
    nothing = np.zeros_like(truth_map.values)
    spacing_mm = truth_map.affine.spacing_mm
    organ_metrics = tuple(
        replace(metrics, dsc=0.0, nsd=0.0, hd95_mm=np.inf, assd_mm=np.inf)
        for metrics in compare_labels(
            nothing, truth_map.values, spacing_mm=spacing_mm, organs=organs
        )
    )
    finding = Finding("warning", "no-prediction", "there is no prediction: it counts as a failure")
    return Evaluation(case, "standard", organ_metrics, (finding,))


def select_compared_organs(
    organs: Sequence[Organ | str], prediction_scheme: LabelScheme, truth_scheme: LabelScheme
) -> tuple[Organ, ...]:
    """The organs that are asked for and that both label schemes express.

    Args:
        organs: organs or names; all of the truth's where empty.
        prediction_scheme: label scheme of the prediction.
        truth_scheme: label scheme of the truth.

    Raises:
        UsageError: no such organ, or none is left.
    """
    requested = select_organs(o if isinstance(o, str) else o.name for o in organs)
    candidates = requested or truth_scheme.organs
    compared = [o for o in candidates if o in truth_scheme.organs and o in prediction_scheme.organs]
    if not compared:
        names = ", ".join(organ.name for organ in candidates)
        problem = f"none of {names} in {truth_scheme.name} and {prediction_scheme.name}"
        raise UsageError("an organ in both label schemes", found=problem, remedy="choose others")
    return tuple(compared)
