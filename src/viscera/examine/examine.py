"""A scan examined from its overview and the organs that were found in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from viscera.core.affine import Affine
from viscera.core.examination import ScanExamination
from viscera.core.organs import FLARE13, LabelTable, labels_of_thirteen
from viscera.core.volume import Labels
from viscera.examine.contrast_phase import contrast_phase, median_hus
from viscera.examine.coverage import body_parts, organ_coverage
from viscera.examine.image_quality import noise_hu, quality_findings
from viscera.examine.posture import lung_mask, posture_findings
from viscera.findings import Finding
from viscera.localise.body import body_mask
from viscera.localise.overview import DENSE_HU, Overview
from viscera.quality.features import OrganFeatures


def examine_scan(
    overview: Overview,
    labels: Labels,
    affine: Affine,
    features: Mapping[str, OrganFeatures],
    *,
    cut_findings: Sequence[Finding],
    slices: tuple[int, float],
    table: LabelTable = FLARE13,
) -> ScanExamination:
    """What a scan shows, and in what state it is.

    Args:
        overview: of the scan.
        labels: [i, j, k] uint8, what was found in it.
        affine: of the labels.
        features: of each organ.
        cut_findings: which organs the scan's ends cut, see `viscera.examine.coverage`.
        slices: how many there are, and the distance of their planes in mm.
        table: of the labels; anatomy is known of the thirteen organs among them.
    """
    # x to the patient's left, y to the back, z to the head, however the network wants it.
    turn, spacing_mm = overview.towards(affine, "LPS")
    hu, seen = (
        turn.view(overview.hu),
        turn.view(labels_of_thirteen(overview.sampled(labels), table)),
    )
    body = body_mask(hu > DENSE_HU, spacing_mm[1:])
    lungs = lung_mask(hu, body)
    medians, noise = median_hus(hu, seen), noise_hu(hu, seen, body)
    count, slice_mm = slices
    cut: Collection[str] = [name for name, of in features.items() if of.is_cut]
    return ScanExamination(
        body_parts=body_parts(seen, lungs, spacing_mm),
        coverage=organ_coverage(
            {name: of.volume_ml for name, of in features.items()},
            cut,
            {name: of.in_view for name, of in features.items()},
        ),
        phase=contrast_phase(medians),
        median_hu=medians,
        noise_hu=noise,
        slices=count,
        slice_mm=round(slice_mm, 3),
        findings=(
            *cut_findings,
            *posture_findings(hu, seen, body, lungs, spacing_mm, cut_organs=cut),
            *quality_findings(hu, seen, body, spacing_mm, noise=noise, slice_mm=slice_mm),
        ),
    )
