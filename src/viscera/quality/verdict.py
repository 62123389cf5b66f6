"""A verdict for every organ: good, to be checked, or failed; with the reasons in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict

from viscera.core.organ_quality import OrganQuality, Verdict
from viscera.core.organs import FLARE13, LabelTable, Organ
from viscera.quality.estimate import Calibration, packaged_calibration
from viscera.quality.features import OrganFeatures
from viscera.quality.organ_ranges import OrganRange, organ_ranges

# A volume beyond the smallest or largest that was seen, by this factor, is no whole organ.
_IMPOSSIBLE = 4.0
_UNUSUAL_SD = 2.5
_POOR_LOOK = 0.4  # DSC with the coarse look; chance does not reach it, and good results do
_FAR_SD = 3.0
_PIECES_SHARE = 0.8  # of the volume that the largest piece has, at least
_MISSED_IN_VIEW = 0.9
_UNSURE = 0.6  # of the DSC that a network's own probabilities promise
_EMPTY = "empty"  # no organ at all was found
MIRRORED, NOISY = "mirrored", "noisy"  # codes of findings, see `viscera.examine`


def judge_organs(
    features: Mapping[str, OrganFeatures],
    *,
    network: str,
    doubts: Collection[str] = (),
    calibration: Calibration | None = None,
    table: LabelTable = FLARE13,
) -> dict[str, OrganQuality]:
    """How far each organ of a result can be trusted.

    Args:
        features: by organ.
        network: name of the bundle; without a calibration for it, no DSC is estimated.
        doubts: codes of what was noticed about the scan; `mirrored` and `noisy` count.
        calibration: from features to DSC; the packaged one where not given.
        table: of the organs.
    """
    calibration = calibration or packaged_calibration()
    is_calibrated = network in calibration.networks and table == FLARE13
    usable = calibration if is_calibrated else None
    if not any(of_organ.volume_ml for of_organ in features.values()):
        doubts = {*doubts, _EMPTY}
    return {
        name: _judge(table.by_name[name], of_organ, usable, doubts)
        for name, of_organ in features.items()
    }


def _judge(
    organ: Organ,
    features: OrganFeatures,
    calibration: Calibration | None,
    doubts: Collection[str],
) -> OrganQuality:
    usual = organ_ranges().get(features.organ)
    if usual is None:
        impossible, reasons, calibration = [], list(_reasons_of_unknown(features)), None
    else:
        impossible = list(_impossible(organ, features, usual))
        reasons = [*impossible, *_reasons(organ, features, usual)]
    is_found = features.volume_ml > 0
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    verdict: Verdict = "check" if reasons else "good"
    if calibration is not None:
        estimate = calibration.estimate(features)
        # Of what was not found the truth is 0 or 1: no interval holds it.
        interval = calibration.interval(estimate) if is_found else None
        verdict = "check" if estimate < calibration.check_below else "good"
        # What was not found cannot mislead a measurement.
        if is_found and estimate < calibration.fail_below:
            verdict = "fail"
    if not is_found and _is_out_of_view(features, doubts):
        verdict = "good"
    if is_found and MIRRORED in doubts and organ.laterality is not None:
        # All else keeps its name then, and is found as well as ever; so is all upside down.
        reasons.append("left and right seem to be exchanged in the file")
        verdict = "fail"
    if impossible:
        verdict = "fail"
    if verdict == "good":
        reasons = []
    elif not reasons:
        reasons = ["the network is unsure of it"]
    if is_found and features.is_cut:
        reasons.append("the scan cuts it: the volume is a lower bound")
    if calibration is None:
        reasons.append("no DSC is estimated for this network")
    return OrganQuality(
        organ=features.organ,
        verdict=verdict,
        estimated_dsc=None if estimate is None else round(estimate, 3),
        interval=None if interval is None else (round(interval[0], 3), round(interval[1], 3)),
        reasons=tuple(reasons),
        measures={
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(features).items()
            if name != "organ"
        },
    )


def _is_out_of_view(features: OrganFeatures, doubts: Collection[str]) -> bool:
    """Whether nothing speaks for an organ: the look saw none, and nothing tells that it is there.

    A scan that is too noisy to show anything says nothing of the kind.
    """
    is_readable = not {NOISY, _EMPTY} & set(doubts) and not features.doubtful_hu
    has_look = features.look_dice is not None and not features.look_ml
    return is_readable and has_look and (features.in_view is None or features.in_view < 0.5)


def _impossible(organ: Organ, features: OrganFeatures, usual: OrganRange) -> Iterator[str]:
    """Why this can be no whole organ."""
    title, ml = organ.title.lower(), features.volume_ml
    if 0 < ml < usual.least_ml / _IMPOSSIBLE and not features.is_cut:
        yield f"{_ml(ml)}: {_article(title)} is seldom below {_ml(usual.least_ml)}"
    if ml > usual.most_ml * _IMPOSSIBLE:
        yield f"{_ml(ml)}: {_article(title)} is seldom above {_ml(usual.most_ml)}"


def _reasons_of_unknown(features: OrganFeatures) -> Iterator[str]:
    """Why to look at a structure of which nothing is known: a network may be sure and wrong.

    A tumour or vertebrae may have any number of pieces.
    """
    if not features.volume_ml:
        if features.removed_share:
            yield "what was found of it was removed, see the findings"
        return
    yield "its usual size, density and place are not known: look at it"
    if features.expected_dice < _UNSURE:
        yield "the network is unsure of it"
    if features.look_dice is not None and features.look_dice < _POOR_LOOK:
        yield "the first, coarse look hardly agrees with it"


def _reasons(organ: Organ, features: OrganFeatures, usual: OrganRange) -> Iterator[str]:
    """What else speaks against a result."""
    title, ml = organ.title.lower(), features.volume_ml
    if not ml:
        if features.look_ml:
            yield f"not found, though the first look saw {_ml(features.look_ml)} of it"
        elif features.in_view is not None and features.in_view > _MISSED_IN_VIEW:
            yield "not found, though its usual place lies within the scan"
        if features.removed_share:
            yield "what was found of it was removed, see the findings"
        return
    is_small = features.volume_sd < -_UNUSUAL_SD and not features.is_cut
    if (is_small and ml >= usual.least_ml / _IMPOSSIBLE) or features.volume_sd > _UNUSUAL_SD:
        size = "small" if is_small else "large"
        yield f"{_ml(ml)} is {size} for {_article(title)}"
    if features.look_dice is not None and features.look_dice < _POOR_LOOK:
        yield "the first, coarse look hardly agrees with it"
    if features.place_sd is not None and features.place_sd > _FAR_SD:
        yield "it lies far from its usual place beside the other organs"
    if features.largest_share < _PIECES_SHARE:
        yield f"it is in pieces: the largest has {100 * features.largest_share:.0f} % of it"
    if abs(features.hu_sd) > _UNUSUAL_SD:
        yield f"its mean of {features.mean_hu:.0f} HU is unusual"


def _article(title: str) -> str:
    return f"an {title}" if title[0] in "aeiou" else f"a {title}"


def _ml(volume_ml: float) -> str:
    return f"{volume_ml:.0f} ml" if volume_ml >= 10 else f"{volume_ml:.1f} ml"
