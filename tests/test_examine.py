"""What a scan shows and in what state it is, on a drawn body and on real CTs."""

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

import viscera
from viscera.batch.check_scans import check_scans, checks_csv
from viscera.cli.main import viscera as command
from viscera.core.affine import Affine
from viscera.core.organs import ORGANS, ORGANS_BY_NAME
from viscera.core.volume import Volume
from viscera.errors import BatchError, InputError, OutputError
from viscera.examine.contrast_phase import contrast_phase
from viscera.examine.coverage import cut_findings
from viscera.examine.examine import examine_scan
from viscera.grid.orientation import Orientation
from viscera.io.write import write_volume
from viscera.localise.overview import Overview
from viscera.postprocess.chain import postprocess
from viscera.quality.features import organ_features

SPACING_MM = (4.0, 4.0, 5.0)
LPS = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])


def drawn(**changes):
    """HU and labels [i, j, k] in LPS of a body with liver, spleen, kidneys, aorta and lungs."""
    shape = (110, 80, 90)
    i, j, k = np.ogrid[: shape[0], : shape[1], : shape[2]]
    hu = np.full(shape, -1000, np.int16)
    labels = np.zeros(shape, np.uint8)
    body = np.broadcast_to(((i - 55) / 45) ** 2 + ((j - 40) / 28) ** 2 < 1, shape)
    hu[body] = 40

    def blob(name, centre, radii, value):
        mask = sum(
            ((x - c) / r) ** 2 for x, c, r in zip((i, j, k), centre, radii, strict=True)
        ) < 1  # fmt: skip
        hu[mask] = changes.get(name, value)
        if name in {organ.name for organ in ORGANS}:
            labels[mask] = ORGANS_BY_NAME[name].id

    # The patient's right is at low i.
    blob("liver", (32, 35, 50), (18, 18, 16), 110)
    blob("spleen", (80, 48, 54), (9, 12, 12), 120)
    blob("kidney_right", (35, 55, 28), (7, 7, 12), 180)
    blob("kidney_left", (76, 55, 30), (7, 7, 12), 180)
    for name, centre, value in (("aorta", (58, 54), 150), ("inferior_vena_cava", (48, 50), 130)):
        column = np.broadcast_to(((i - centre[0]) ** 2 + (j - centre[1]) ** 2) < 12, shape)
        hu[column] = changes.get(name, value)
        labels[column] = ORGANS_BY_NAME[name].id
    hu[np.broadcast_to(((i - 55) ** 2 + (j - 62) ** 2) < 16, shape)] = 500  # spine
    for centre in (32, 78):
        lung = ((i - centre) / 14) ** 2 + ((j - 38) / 16) ** 2 + ((k - 88) / 20) ** 2 < 1
        hu[lung & (labels == 0) & (k > 68)] = -850
    return hu, labels


def examined(hu, labels, matrix=LPS):
    affine = Affine(matrix)
    volume = Volume.of(np.asfortranarray(hu), affine)
    labels = np.asfortranarray(labels)
    pieces = postprocess(labels, affine, []).pieces
    cut = viscera.Segmentation(labels, volume, ORGANS).cut_organs()
    features = organ_features(
        ORGANS, {}, pieces, None, affine=affine, shape=volume.shape, cut_organs=cut,
        doubtful_hu=False,
    )  # fmt: skip
    overview = Overview.of(volume, Orientation.fit(affine, "LPS"))
    return examine_scan(
        overview,
        labels,
        affine,
        features,
        cut_findings=cut_findings(labels, affine, ORGANS),
        slices=(volume.shape[affine.slice_axis], affine.plane_distance_mm),
    )


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def codes(examination):
    return {finding.code for finding in examination.findings}


def test_a_usual_scan_has_nothing_unusual():
    examination = examined(*drawn())
    assert codes(examination) == set()
    assert examination.body_parts == ("chest", "abdomen")
    assert examination.phase == "portal venous"
    assert examination.coverage["liver"] == "whole"
    assert examination.coverage["aorta"] == "cut"
    assert examination.coverage["pancreas"] == "not seen"
    assert examination.slice_mm == 5
    json.dumps(examination.as_dict())


@pytest.mark.parametrize("turn", ["stored RAS", "k first"])
def test_storage_does_not_matter(turn):
    hu, labels = drawn()
    expected = examined(hu, labels)
    if turn == "stored RAS":
        matrix = LPS @ np.diag([-1.0, -1.0, 1.0, 1.0])
        hu, labels = hu[::-1, ::-1], labels[::-1, ::-1]
    else:
        matrix = LPS[:, [2, 0, 1, 3]]
        hu, labels = np.moveaxis(hu, 2, 0), np.moveaxis(labels, 2, 0)
    examination = examined(hu, labels, matrix)
    assert examination.coverage == expected.coverage
    assert examination.body_parts == expected.body_parts
    assert examination.phase == expected.phase
    assert codes(examination) == codes(expected)


@pytest.mark.parametrize(
    ("axis", "code"), [(0, "mirrored"), (1, "back-to-front"), (2, "upside-down")]
)
def test_a_flip_that_the_affine_does_not_tell(axis, code):
    hu, labels = drawn()
    examination = examined(np.flip(hu, axis), np.flip(labels, axis))
    assert code in codes(examination)
    assert {f.level for f in examination.findings if f.code == code} == {"warning"}


@pytest.mark.parametrize(
    ("hus", "phase"),
    [
        ({"aorta": 40, "inferior_vena_cava": 42, "liver": 58, "spleen": 48, "kidney_right": 33,
          "kidney_left": 33}, "unenhanced"),
        ({"aorta": 320, "inferior_vena_cava": 90, "liver": 65, "spleen": 130, "kidney_right": 160,
          "kidney_left": 160}, "arterial"),
        ({"aorta": 160, "inferior_vena_cava": 140, "liver": 110, "spleen": 120,
          "kidney_right": 190, "kidney_left": 190}, "portal venous"),
        ({"aorta": 95, "inferior_vena_cava": 95, "liver": 75, "spleen": 80, "kidney_right": 150,
          "kidney_left": 150}, "late"),
    ],
)  # fmt: skip
def test_the_phase_follows_from_vessels_and_organs(hus, phase):
    assert examined(*drawn(**hus)).phase == phase
    assert contrast_phase({"liver": 100.0}) is None
    assert contrast_phase({"aorta": 400.0, "spleen": 150.0}) is None


def test_noise_is_measured():
    hu, labels = drawn()
    random = np.random.default_rng(0)
    for sd in (10.0, 50.0):
        noisy = np.rint(hu + random.normal(0, sd, hu.shape)).astype(np.int16)
        examination = examined(noisy, labels)
        assert examination.noise_hu == pytest.approx(sd, rel=0.08)
        assert ("noisy" in codes(examination)) == (sd > 40)


def test_metal_a_cut_field_of_view_and_arms():
    hu, labels = drawn()
    hu[30:34, 34:38, 48:52] = 3000
    examination = examined(hu, labels)
    (metal,) = (f for f in examination.findings if f.code == "metal")
    assert metal.level == "warning"
    assert "near liver" in metal.message
    hu, labels = drawn()
    assert "field-of-view" in codes(examined(hu[20:90], labels[20:90]))
    hu, labels = drawn()
    i, j, _ = np.ogrid[:110, :80, :90]
    for centre in (3, 106):
        arm = np.broadcast_to(((i - centre) / 3.5) ** 2 + ((j - 40) / 9) ** 2 < 1, hu.shape)
        hu[arm] = 40
        hu[np.broadcast_to((i - centre) ** 2 + (j - 40) ** 2 < 4, hu.shape)] = 900
    assert "arms-down" in codes(examined(hu, labels))


def test_what_the_ends_cut_is_said():
    hu, labels = drawn()
    lower = examined(hu[..., 40:], labels[..., 40:])
    (cut,) = (f for f in lower.findings if f.code == "cut-lower")
    assert "liver" in cut.message
    assert lower.coverage["liver"] == "cut"
    assert lower.coverage["kidney_left"] in ("cut", "outside")
    upside = examined(hu[..., :50], labels[..., :50])
    assert "cut-upper" in codes(upside)


def test_slices_are_those_across_which_pixels_are_square():
    """Thin slices, a sagittal stack, a tilted gantry."""
    for spacing, axis, distance in (
        ((1.8, 1.8, 1.25), 2, 1.25), ((5.0, 0.8, 0.8), 0, 5.0), ((1.0, 1.0, 1.0), 2, 1.0),
    ):  # fmt: skip
        affine = Affine(np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]))
        assert (affine.slice_axis, affine.plane_distance_mm) == (axis, pytest.approx(distance))
    tilted = np.diag([-0.8, -0.8, 7.5, 1.0])
    tilted[1, 2] = 2.25
    assert Affine(tilted).plane_distance_mm == pytest.approx(7.5)


def test_a_tilted_scan_cuts_its_organs_too():
    hu, _ = drawn()
    matrix = LPS.copy()
    matrix[1, 2] = 0.3 * SPACING_MM[2]
    volume = Volume.of(np.asfortranarray(hu), Affine(matrix))
    segmentation = viscera.segment(volume, bundle="phantom")
    cut = set(segmentation.cut_organs())
    shown = segmentation.examination.coverage
    assert cut
    assert {name for name, how in shown.items() if how == "cut"} == cut
    assert segmentation.only(["liver"]).examination.coverage.keys() == {"liver"}


def test_prone_is_seen_by_the_table():
    hu, labels = drawn()
    hu = np.pad(hu, ((0, 0), (14, 0), (0, 0)), constant_values=-1000)
    labels = np.pad(labels, ((0, 0), (14, 0), (0, 0)))
    hu[20:90, 2:4] = 100
    assert "prone" in codes(examined(hu, labels))


def test_check_says_it_for_every_scan(tmp_path):
    """A folder gives a table; what cannot be read stands in it, and does not stop the others."""
    volume, _ = viscera.make_phantom(4, shape=(80, 64, 40), spacing_mm=(4.5, 4.5, 7.0))
    write_volume(tmp_path / "a.nii.gz", volume)
    (tmp_path / "b.nii.gz").write_bytes(b"no scan")
    checked = check_scans(tmp_path)
    assert [check.name for check in checked.checks] == ["a", "b"]
    assert checked.checks[0].examination is not None
    assert checked.checks[1].error is not None
    table = list(csv.DictReader(io.StringIO(checks_csv(checked.checks))))
    assert (table[0]["slices"], table[0]["orientation"]) == ("40", "LPS")
    assert table[1]["error"]
    result = run("check", tmp_path / "a.nii.gz", "--json", "-o", tmp_path / "t.csv")
    assert [row["case"] for row in json.loads(result.stdout)] == ["a"]
    assert (tmp_path / "t.csv").read_text().startswith("case,orientation,shape")
    with pytest.raises(BatchError, match="1 that are not"):
        run("check", tmp_path)
    with pytest.raises(InputError):
        run("check", tmp_path / "b.nii.gz")
    with pytest.raises(OutputError):
        run("check", tmp_path / "a.nii.gz", "-o", tmp_path / "t.csv")
