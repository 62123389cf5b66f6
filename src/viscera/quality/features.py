"""What is known about each organ of a result, from which its quality is estimated."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from viscera.core.affine import Affine
from viscera.core.organs import Organ
from viscera.localise.organs_seen import LookAgreement
from viscera.postprocess.chain import OrganPieces
from viscera.quality.organ_ranges import in_view_share, organ_ranges, place_deviation_sd
from viscera.quality.score_evidence import OrganEvidence


@dataclass(frozen=True)
class OrganFeatures:
    """What is known about one organ of a result.

    Attributes:
        organ: its name.
        volume_ml: of the labels.
        expected_dice: what the network's probabilities promise, 0 to 1.
        expected_ml: sum of its probabilities.
        margin: mean lead over the second best class, in scores.
        entropy: mean entropy inside, in nats.
        border_entropy: mean entropy along its border.
        mean_hu: within soft tissue, see `viscera.quality.score_evidence`.
        largest_share: of the volume that the largest piece has.
        removed_share: of all that was found, what post-processing removed.
        look_dice: DSC with the first, coarse look; None without one.
        look_ml: volume that the look saw.
        volume_sd: deviation of the volume from the usual, in standard deviations; 0 where nothing
            is known of what is usual.
        hu_sd: deviation of the mean HU.
        place_sd: deviation of the centre; None without other organs to go by.
        is_cut: the scan cuts the organ.
        doubtful_hu: the scan's intensities do not look like HU.
        in_view: how likely its usual place lies within the scan, 0 to 1; None where nothing tells.
    """

    organ: str
    volume_ml: float
    expected_dice: float
    expected_ml: float
    margin: float
    entropy: float
    border_entropy: float
    mean_hu: float
    largest_share: float
    removed_share: float
    look_dice: float | None
    look_ml: float
    volume_sd: float
    hu_sd: float
    place_sd: float | None
    is_cut: bool
    doubtful_hu: bool
    in_view: float | None


def organ_features(
    organs: Sequence[Organ],
    evidence: Mapping[int, OrganEvidence],
    pieces: Mapping[int, OrganPieces],
    look: Mapping[int, LookAgreement] | None,
    *,
    affine: Affine,
    shape: tuple[int, int, int],
    cut_organs: Collection[str],
    doubtful_hu: bool,
) -> dict[str, OrganFeatures]:
    """The features of each organ, found or not.

    Args:
        organs: those that the network can find.
        evidence: of the scores, by label.
        pieces: of the finished labels, by label.
        look: agreement with the first look, by label, of the labels that it knows; None without
            one.
        affine: of the labels.
        shape: of the labels, [i, j, k].
        cut_organs: names of those that the scan cuts.
        doubtful_hu: the scan's intensities do not look like HU.
    """
    ranges = organ_ranges()
    centres_mm = {o.name: pieces[o.id].centre_mm for o in organs if _is_found(pieces.get(o.id))}
    result = {}
    for organ in organs:
        scores = evidence.get(organ.id, _NO_EVIDENCE)
        piece = pieces.get(organ.id, _NO_PIECE)
        agreement = None if look is None else look.get(organ.id)
        volume_ml, usual = piece.voxels * affine.voxel_ml, ranges.get(organ.name)
        is_found = organ.name in centres_mm
        result[organ.name] = OrganFeatures(
            organ=organ.name,
            volume_ml=volume_ml,
            expected_dice=scores.expected_dice,
            expected_ml=scores.expected_ml,
            margin=scores.margin,
            entropy=scores.entropy,
            border_entropy=scores.border_entropy,
            mean_hu=scores.mean_hu,
            largest_share=piece.largest / max(piece.voxels, 1),
            removed_share=piece.removed / max(piece.voxels + piece.removed, 1),
            look_dice=None if agreement is None else agreement.dice,
            look_ml=0.0 if agreement is None else agreement.look_ml,
            volume_sd=usual.volume_sd(volume_ml) if usual else 0.0,
            hu_sd=usual.hu_deviation_sd(scores.mean_hu) if usual and scores.is_hu_known else 0.0,
            place_sd=place_deviation_sd(organ.name, centres_mm, ranges) if is_found else None,
            is_cut=organ.name in cut_organs,
            doubtful_hu=doubtful_hu,
            in_view=in_view_share(organ.name, centres_mm, ranges, affine, shape),
        )
    return result


_NO_EVIDENCE = OrganEvidence(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, is_hu_known=False)
_NO_PIECE = OrganPieces(0, 0, 0, np.zeros(3))


def _is_found(piece: OrganPieces | None) -> bool:
    return piece is not None and piece.voxels > 0
