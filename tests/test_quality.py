"""Verdicts: what scores say, how organs usually are, and what comes out of both."""

import dataclasses
import json

import numpy as np
import pytest

import viscera
from viscera.bundle.read import read_bundle
from viscera.core.affine import Affine
from viscera.core.organs import ORGANS, ORGANS_BY_NAME
from viscera.errors import DoubtfulResultError
from viscera.grid.grid import Grid
from viscera.grid.slab_windows import ScoreSlab
from viscera.postprocess.chain import OrganPieces
from viscera.quality.estimate import packaged_calibration
from viscera.quality.features import organ_features
from viscera.quality.organ_ranges import ANCHORS, in_view_share, organ_ranges, place_deviation_sd
from viscera.quality.score_evidence import SOFT_TISSUE_HU, ScoreWitness
from viscera.quality.verdict import judge_organs

DEFAULT = read_bundle("default").name
AFFINE = Affine(np.diag([-2.0, -2.0, 2.0, 1.0]))


def usual_features(**changes):
    """A liver as livers are, and the network sure of it."""
    usual = organ_ranges()["liver"]
    evidence, pieces = {}, {}
    features = organ_features(
        ORGANS, evidence, pieces, None, affine=AFFINE, shape=(9, 9, 9), cut_organs=(),
        doubtful_hu=False,
    )["liver"]  # fmt: skip
    good = {
        "volume_ml": float(np.exp(usual.log_ml_mean)), "expected_dice": 0.97, "expected_ml": 1500.0,
        "margin": 9.0, "entropy": 0.04, "border_entropy": 0.3, "mean_hu": usual.hu_mean,
        "largest_share": 1.0, "look_dice": 0.95, "look_ml": 1500.0, "volume_sd": 0.0, "hu_sd": 0.0,
        "place_sd": 0.5, "in_view": 1.0,
    }  # fmt: skip
    return dataclasses.replace(features, **{**good, **changes})


def verdict_on(**changes):
    features = usual_features(**changes)
    return judge_organs({"liver": features}, network=DEFAULT)["liver"]


@pytest.mark.parametrize("seed", range(3))
def test_evidence_is_that_of_the_whole_softmax(seed):
    """Gathered where organs have a chance alone, it equals sums over all voxels of the slices."""
    random = np.random.default_rng(seed)
    bundle = read_bundle("default")
    affine = Affine(np.diag([-1.5, -1.5, 2.0, 1.0]))
    grid = Grid.fit((30, 24, 12), affine, bundle)
    depth, height, width = grid.shape
    scores = random.normal(0, 1, (depth, 14, height, width)).astype(np.float32)
    scores[:, 0] += 12  # background, but for two organs
    scores[2:9, 1, 4:14, 5:15] += 20 + random.normal(0, 3, (7, 10, 10)).astype(np.float32)
    scores[1:6, 3, 15:20, 16:22] += 13
    planes = random.normal(0, 1, grid.shape).astype(np.float32)
    witness = ScoreWitness(grid, bundle.label_ids)
    slabs = [ScoreSlab(n, list(scores[n : n + 3])) for n in range(0, depth, 3)]
    passed = list(witness.pass_through(iter(slabs), planes))
    assert [slab.start for slab in passed] == [slab.start for slab in slabs]
    seen = scores[::2].astype(np.float64)
    probability = np.exp(seen - seen.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    winner = seen.argmax(axis=1)
    offset, divisor = grid.settings.scale
    hu = np.clip(planes[::2] * divisor + offset, *SOFT_TISSUE_HU)
    entropy = -(probability * np.log(probability + 1e-30)).sum(axis=1)
    ordered = np.sort(seen, axis=1)
    evidence = witness.organs()
    for organ in (1, 3):
        mask = winner == organ
        of = evidence[organ]
        assert of.voxels == mask.sum()
        dice = 2 * probability[:, organ][mask].sum() / (mask.sum() + probability[:, organ].sum())
        assert of.expected_dice == pytest.approx(dice, rel=2e-3)
        assert of.margin == pytest.approx((ordered[:, -1] - ordered[:, -2])[mask].mean(), rel=1e-4)
        assert of.entropy == pytest.approx(entropy[mask].mean(), rel=1e-3, abs=1e-5)
        assert of.mean_hu == pytest.approx(hu[mask].mean(), rel=1e-4)
        ml = probability[:, organ].sum() * np.prod(grid.spacing_mm) / 1000 * 2
        assert of.expected_ml == pytest.approx(ml, rel=5e-3)
    assert evidence[8].voxels == 0


def test_ranges_are_those_of_people():
    ranges = organ_ranges()
    assert set(ranges) == {organ.name for organ in ORGANS}
    assert 1000 < np.exp(ranges["liver"].log_ml_mean) < 2200
    assert 2 < np.exp(ranges["adrenal_gland_left"].log_ml_mean) < 8
    # RAS: the liver lies to the right, the spleen to the left and both above the kidneys.
    assert ranges["liver"].offset_mm[0] > 40 > -40 > ranges["spleen"].offset_mm[0]
    for organ in ("liver", "spleen"):
        assert ranges[organ].offset_mm[2] > ranges["kidney_right"].offset_mm[2] + 20
    for usual in ranges.values():
        assert usual.least_ml < np.exp(usual.log_ml_mean) < usual.most_ml
        assert usual.maps >= 20


def test_places_follow_from_the_other_organs():
    ranges = organ_ranges()
    centres = {name: np.array(ranges[name].offset_mm) + 70 for name in (*ANCHORS, "pancreas")}
    assert place_deviation_sd("pancreas", centres, ranges) == pytest.approx(0, abs=0.3)
    centres["pancreas"] = centres["pancreas"] + [0, 0, 120]
    assert place_deviation_sd("pancreas", centres, ranges) > 4
    assert place_deviation_sd("pancreas", {"pancreas": np.zeros(3)}, ranges) is None
    # A scan that begins above the kidneys does not show them, one of 60 cm does.
    for shape, expected in (((50, 50, 300), 1.0), ((50, 50, 40), 0.0)):
        matrix = np.diag([-2.0, -2.0, 2.0, 1.0])
        matrix[2, 3] = 70 + 20 if shape[2] == 40 else -230
        found = {"liver": centres["liver"], "spleen": centres["spleen"]}
        share = in_view_share("kidney_left", found, ranges, Affine(matrix), shape)
        assert share == pytest.approx(expected, abs=0.1)
    assert in_view_share("liver", {}, ranges, AFFINE, (9, 9, 9)) is None


def test_a_usual_organ_is_good_and_what_speaks_against_it_lowers_the_estimate():
    usual = verdict_on()
    assert usual.verdict == "good"
    assert usual.reasons == ()
    assert usual.estimated_dsc > 0.85
    assert usual.interval[0] <= usual.estimated_dsc <= usual.interval[1]
    for changes in (
        {"look_dice": 0.1},
        {"expected_dice": 0.5},
        {"entropy": 0.4, "margin": 1.0},
    ):
        assert verdict_on(**changes).estimated_dsc < usual.estimated_dsc


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"volume_ml": 0.1, "volume_sd": -40.0}, "0.1 ml: a liver is seldom below"),
        ({"volume_ml": 20_000.0, "volume_sd": 11.0}, "seldom above"),
    ],
)
def test_what_is_impossible_fails(changes, words):
    quality = verdict_on(**changes)
    assert quality.verdict == "fail"
    assert words in quality.reasons[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"look_dice": 0.0}, "coarse look hardly agrees"),
        ({"place_sd": 5.0}, "far from its usual place"),
        ({"largest_share": 0.5}, "in pieces: the largest has 50 %"),
        ({"hu_sd": 4.0, "mean_hu": 230.0}, "mean of 230 HU is unusual"),
        ({"is_cut": True}, "the scan cuts it: the volume is a lower bound"),
        ({"volume_ml": 0.0, "look_ml": 900.0}, "not found, though the first look saw 900 ml"),
        ({"volume_ml": 0.0, "look_ml": 0.0}, "its usual place lies within the scan"),
    ],
)
def test_reasons_are_said_in_words(changes, words):
    unsure = {"expected_dice": 0.4, "margin": 1.0, "entropy": 0.6}
    assert any(words in reason for reason in verdict_on(**{**unsure, **changes}).reasons)
    good = verdict_on(place_sd=4.0)
    assert (good.verdict, good.reasons) == ("good", ())  # nothing speaks against what is good


def test_nothing_found_is_not_all_good():
    """But in a scan that shows some organs, others may lie outside."""
    empty = organ_features(
        ORGANS, {}, {}, None, affine=AFFINE, shape=(9, 9, 9), cut_organs=(), doubtful_hu=False
    )
    assert judge_organs(empty, network=DEFAULT)["liver"].verdict == "check"
    chest = {
        **empty,
        "aorta": dataclasses.replace(usual_features(), organ="aorta", volume_ml=30.0),
        "spleen": dataclasses.replace(empty["spleen"], look_dice=0.0),
    }
    spleen = judge_organs(chest, network=DEFAULT)["spleen"]
    assert (spleen.verdict, spleen.interval) == ("good", None)


def test_a_network_without_calibration_gets_no_estimate():
    quality = judge_organs({"liver": usual_features()}, network="another")["liver"]
    assert (quality.verdict, quality.estimated_dsc, quality.interval) == ("good", None, None)
    assert quality.reasons == ("no DSC is estimated for this network",)
    tiny = usual_features(volume_ml=0.1, volume_sd=-40.0)
    assert judge_organs({"liver": tiny}, network="another")["liver"].verdict == "fail"


def test_the_packaged_calibration_is_whole():
    calibration = packaged_calibration()
    names = {organ.name for organ in ORGANS}
    assert set(calibration.found_constants) == set(calibration.absent_constants) == names
    assert {read_bundle(name).name for name in ("default", "fast", "paper")} == set(
        calibration.networks
    )
    assert 0 < calibration.fail_below < calibration.check_below < 1
    assert list(calibration.estimates) == sorted(calibration.estimates)
    assert len(calibration.low) == len(calibration.high) == len(calibration.estimates)


def test_every_result_has_verdicts():
    volume, _ = viscera.make_phantom(4, shape=(80, 64, 40), spacing_mm=(4.5, 4.5, 7.0))
    segmentation = viscera.segment(volume, bundle="phantom")
    assert list(segmentation.quality) == [organ.name for organ in segmentation.organs]
    json.dumps({name: quality.as_dict() for name, quality in segmentation.quality.items()})
    kept = segmentation.only(["liver"])
    assert list(kept.quality) == ["liver"]


def test_strict_refuses_a_failure(monkeypatch):
    """An organ of four voxels where a whole one should be."""
    volume, _ = viscera.make_phantom(4, shape=(80, 64, 40), spacing_mm=(4.5, 4.5, 7.0))
    predictor = viscera.Predictor("phantom")
    pieces = {ORGANS_BY_NAME["liver"].id: OrganPieces(4, 4, 0, np.zeros(3))}
    monkeypatch.setattr(
        "viscera.predictor.postprocess",
        lambda *_, **__: type("Result", (), {"findings": [], "pieces": pieces})(),
    )
    assert predictor.segment(volume).quality["liver"].verdict == "fail"
    with pytest.raises(DoubtfulResultError, match="the verdict fail on liver") as refusal:
        predictor.segment(volume, strict=True)
    assert refusal.value.exit_code == 4
