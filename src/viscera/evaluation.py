"""Evaluation of one case: a prediction beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera.conventions import FLARE, Convention
from viscera.errors import InputError, UsageError
from viscera.findings import Finding
from viscera.io.conventions import open_convention
from viscera.labelmap import LabelMap
from viscera.matching import match, open_labels
from viscera.metrics import PROTOCOLS, OrganScore, Protocol, score
from viscera.organs import Organ, select


@dataclass(frozen=True)
class Evaluation:
    """How well one case was segmented.

    Attributes:
        case: its name.
        protocol: by whose rules.
        scores: one an organ, in label order.
        findings: what was noticed on the way.
    """

    case: str
    protocol: Protocol
    scores: tuple[OrganScore, ...]
    findings: tuple[Finding, ...] = ()

    def __getitem__(self, organ: str) -> OrganScore:
        """One organ's score; KeyError where it was not scored."""
        return {score.organ: score for score in self.scores}[organ]

    def mean(self, metric: str = "dsc") -> float:
        """The mean of a metric over the organs that have it; NaN where none has."""
        values = np.array([getattr(score, metric) for score in self.scores])
        finite = values[np.isfinite(values)]
        return float(finite.mean()) if finite.size else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: what is infinite or no number becomes a string."""
        scores = {
            score.organ: {
                key: value if np.isfinite(value) else str(value)
                for key, value in asdict(score).items()
                if key != "organ"
            }
            for score in self.scores
        }
        findings = [finding.as_dict() for finding in self.findings]
        return {
            "case": self.case,
            "protocol": self.protocol,
            "scores": scores,
            "findings": findings,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Evaluation:
        """What `as_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        scores = tuple(
            OrganScore(organ, **{key: float(value) for key, value in values.items()})
            for organ, values in content["scores"].items()
        )
        findings = tuple(Finding(**finding) for finding in content["findings"])
        return cls(content["case"], content["protocol"], scores, findings)


def evaluate(
    prediction: Any,
    truth: Any,
    *,
    protocol: Protocol = "standard",
    organs: Sequence[Organ | str] = (),
    prediction_labels: str | Path | Convention = FLARE,
    truth_labels: str | Path | Convention = FLARE,
    limit_mb: float | None = None,
) -> Evaluation:
    """Compare a prediction with the truth.

    Both must hold the same voxels; axes that are permuted or flipped are brought into the truth's
    order. Protocol ``flare24`` compares voxels as they lie, as FLARE's script does.

    Args:
        prediction: a path, a Segmentation, a nibabel image, or a LabelMap
            (``LabelMap.of(array, affine)``).
        truth: the same.
        protocol: ``standard`` or ``flare24``.
        organs: organs or names to score; all that both conventions express where empty.
        prediction_labels: convention of the prediction's values: ``flare``, ``totalsegmentator``,
            ``amos``, ``btcv``, or a mapping file.
        truth_labels: of the truth's.
        limit_mb: most memory the voxels of either may take.

    Raises:
        InputError: unreadable, labels that the convention does not know, or another grid.
        UsageError: no such protocol, convention or organ, or none to score.
        ResourceError: more memory would be needed than there is.
    """
    if protocol not in PROTOCOLS:
        remedy = "choose one of these"
        raise UsageError(" or ".join(PROTOCOLS), found=repr(protocol), remedy=remedy)
    of_prediction, of_truth = open_convention(prediction_labels), open_convention(truth_labels)
    scored = scored_organs(organs, of_prediction, of_truth)
    own, true = match(
        prediction,
        truth,
        protocol=protocol,
        prediction_labels=of_prediction,
        truth_labels=of_truth,
        limit_mb=limit_mb,
    )
    scores = score(
        own.values,
        true.values,
        spacing_mm=_spacing_mm(true, protocol),
        organs=scored,
        protocol=protocol,
    )
    return Evaluation(true.name, protocol, tuple(scores), (*true.findings, *own.findings))


def _spacing_mm(true: LabelMap, protocol: Protocol) -> tuple[float, float, float]:
    """What distances are measured with.

    FLARE's script takes the header's own numbers. Anywhere else six digits count: what a header
    loses by rounding must not push two voxels of 1.5 mm beyond a tolerance of 3 mm.
    """
    if protocol != "flare24":
        i, j, k = (float(f"{spacing:.6g}") for spacing in true.affine.spacing_mm)
        return i, j, k
    if not (np.isfinite(true.zooms_mm).all() and min(true.zooms_mm) > 0):
        raise InputError(
            "a spacing above 0 in the header's pixdim, which flare24 goes by",
            found=" x ".join(f"{zoom:g}" for zoom in true.zooms_mm),
            remedy="mend the header, or evaluate by the protocol standard",
            where=true.name,
        )
    return true.zooms_mm


def unpredicted(
    case: str, truth: str | Path, organs: Sequence[Organ], *, labels: Convention = FLARE
) -> Evaluation:
    """A case without a prediction: every organ is missed, those that the truth lacks as well.

    That is a rule of ``standard``; FLARE's script never looks at such a case.

    Raises:
        InputError: the truth is unreadable.
    """
    true = open_labels(truth, labels)
    nothing = np.zeros_like(true.values)
    missed = [
        replace(found, dsc=0.0, nsd=0.0, hd95_mm=np.inf, assd_mm=np.inf)
        for found in score(nothing, true.values, spacing_mm=true.affine.spacing_mm, organs=organs)
    ]
    finding = Finding("warning", "no-prediction", "there is no prediction: it counts as a failure")
    return Evaluation(case, "standard", tuple(missed), (finding,))


def scored_organs(
    organs: Sequence[Organ | str], prediction: Convention, truth: Convention
) -> tuple[Organ, ...]:
    """The organs that are wanted and that both conventions express.

    Raises:
        UsageError: no such organ, or none is left.
    """
    wanted = select(o if isinstance(o, str) else o.name for o in organs) or truth.organs
    scored = tuple(o for o in wanted if o in truth.organs and o in prediction.organs)
    if not scored:
        names = ", ".join(organ.name for organ in wanted)
        found = f"none of {names} in {truth.name} and {prediction.name}"
        raise UsageError("an organ in both conventions", found=found, remedy="choose others")
    return scored
