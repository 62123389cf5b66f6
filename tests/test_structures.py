"""Structures other than the thirteen organs: tables, bundles, results, evaluation."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import viscera
from tests.dicom_series import write_phantom
from tests.networks import PATCH_BODY, nearest_net, write_bundle
from tests.oracle import four_metrics
from tests.test_postprocess import blobs, closed_by_scipy
from viscera.batch.options import BatchOptions
from viscera.batch.outputs import OutputOptions
from viscera.batch.run import segment_batch
from viscera.bundle.read import read_bundle
from viscera.bundle.structures import (
    RegionSettings,
    StructureSettings,
    make_label_table,
    structure_rows,
    table_of_labels,
)
from viscera.core.boxes import organ_boxes
from viscera.core.organs import FLARE13, ORGANS, LabelTable, labels_of_thirteen, organ_pairs
from viscera.core.volume import Volume
from viscera.errors import BundleError, InputError, NothingToSegmentError, UsageError
from viscera.evaluation.case import evaluate
from viscera.evaluation.evaluate_cohort import evaluate_cohort
from viscera.io.dataset_json import dataset_labels
from viscera.io.label_scheme_files import read_label_scheme
from viscera.io.label_table_files import dataset_structures, read_label_table
from viscera.io.write import write_volume
from viscera.metrics.compare import compare_labels
from viscera.metrics.overlap import count_voxels
from viscera.postprocess.closing import close_organs

# What the network of tests/networks.py finds by its HU, under other names.
NAMES = [
    "background",
    "other",
    "other",
    "bone",
    "liver",
    "blob",
    "vessels",
    "cyst_right",
    "cyst_left",
]
STRUCTURES = """
[[structures]]
name = "bone"
snomed = "272673000"
meaning = "Bone"
tolerance_mm = 3.0
[[structures]]
name = "blob"
id = 200
title = "A blob"
colour = [1, 2, 3]
[[structures]]
name = "vessels"
[[structures]]
name = "cyst_right"
laterality = "right"
partner = "cyst_left"
[[structures]]
name = "cyst_left"
laterality = "left"
partner = "cyst_right"
[[regions]]
name = "soft"
structures = ["liver", "blob"]
[[postprocess]]
step = "strays"
share = 0.05
[[postprocess]]
step = "sides"
"""


def own_bundle(folder: Path, extra: str = STRUCTURES) -> Path:
    nearest_net(folder / "model.onnx")
    return write_bundle(folder, body=PATCH_BODY + extra, labels=NAMES)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return own_bundle(tmp_path_factory.mktemp("own"))


def save_labels(path, values, affine=None):
    import nibabel

    affine = np.diag([-1.0, -1, 2, 1]) if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


# Tables


def test_labels_without_structures_are_those_of_the_thirteen():
    table = table_of_labels("x", ["background", "spleen", "other", "liver"], ())
    assert table is FLARE13
    assert [organ.id for organ in FLARE13.organs] == list(range(1, 14))


def test_a_structure_gets_what_its_file_leaves_out():
    table = table_of_labels(
        "x", ["background", "tumour", "other", "liver"], (StructureSettings("tumour"),)
    )
    tumour, liver = table.by_name["tumour"], table.by_name["liver"]
    assert (tumour.id, tumour.title, tumour.snomed) == (1, "Tumour", None)
    assert liver == replace(FLARE13.by_name["liver"], id=3, meaning="Liver")
    assert tumour.colour != liver.colour


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", "con", "LPT1.x", "ignore", "average", "a,b", "ä"]
)
def test_names_that_cannot_be_files_are_refused(name):
    with pytest.raises(UsageError, match="name"):
        StructureSettings(name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"id": 0}, "an id from 1 to 254"),
        ({"id": 255}, "an id from 1 to 254"),
        ({"colour": (0, 256, 0)}, "a colour"),
        ({"tolerance_mm": 0.0}, "tolerance_mm"),
        ({"snomed": "liver"}, "SNOMED"),
        ({"category": ("tumour", "Tumour")}, "SNOMED"),
        ({"laterality": "left"}, "laterality and partner"),
        ({"title": "x" * 65}, "a title of 64 letters"),
        ({"title": "a\nb"}, "a title of 64 letters"),
        ({"meaning": "a~b"}, "a meaning of 64 letters"),
        ({"title": 'a "b"'}, "a title of 64 letters"),
    ],
)
def test_wrong_values_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        StructureSettings("x", **settings)


def test_tables_that_contradict_themselves_are_refused():
    left = StructureSettings("a_left", laterality="left", partner="a_right")
    right = StructureSettings("a_right", laterality="right", partner="a_left")
    table = make_label_table("x", (left, right))
    assert [(r.name, n.name) for r, n in organ_pairs(table.organs)] == [("a_right", "a_left")]
    for structures in (
        (left,),
        (left, replace(right, laterality="left")),
        (left, right, StructureSettings("A_left")),  # one file on some systems
        (StructureSettings("a", id=2), StructureSettings("b", id=2)),
        (),
        tuple(StructureSettings(f"s{n}") for n in range(255)),
    ):
        with pytest.raises(UsageError):
            make_label_table("x", structures)
    with pytest.raises(UsageError, match="regions of structures"):
        make_label_table("x", (left, right), (RegionSettings("both", ("a_left", "b")),))


def test_a_table_as_toml_gives_itself_again(tmp_path, own):
    from viscera.bundle.toml_schema import dump_toml

    table = read_bundle(own).label_table
    (tmp_path / "table.toml").write_text(dump_toml({"structures": structure_rows(table)}))
    again = read_label_table(tmp_path / "table.toml").table
    assert again.organs == tuple(
        replace(organ, meaning=organ.structure if organ.snomed else "") for organ in table.organs
    )


# Labels of nnU-Net's data sets


def structures_of(labels):
    return dataset_structures(dataset_labels({"labels": labels}, Path("dataset.json")))


def test_names_of_a_data_set_become_structures():
    structures, regions = structures_of(
        {"background": 0, "right kidney": 1, "Liver Tumour": 3, "Femur left": 4, "Femur right": 5,
         "ignore": 6}
    )  # fmt: skip
    assert [(s.name, s.id) for s in structures] == [
        ("kidney_right", 1), ("Liver_Tumour", 3), ("Femur_left", 4), ("Femur_right", 5)
    ]  # fmt: skip
    assert (structures[2].laterality, structures[2].partner) == ("left", "Femur_right")
    assert structures[1].title == "Liver Tumour"
    assert regions == ()
    table = make_label_table("x", structures)
    assert table.by_name["kidney_right"].snomed == "64033007"


def test_overlapping_regions_become_structures_that_do_not(tmp_path):
    """As of BraTS: each region is the union of its parts."""
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    content = {"labels": labels, "regions_class_order": [1, 2, 3]}
    structures, regions = structures_of(labels)
    assert [(s.name, s.id) for s in structures] == [
        ("rest_of_whole", 1), ("rest_of_core", 2), ("enhancing", 3)
    ]  # fmt: skip
    assert {r.name: r.structures for r in regions} == {
        "whole": ("rest_of_whole", "rest_of_core", "enhancing"),
        "core": ("rest_of_core", "enhancing"),
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    scheme = read_label_table(tmp_path / "dataset.json")
    values = np.arange(4, dtype=np.int16).reshape(1, 1, 4)
    assert scheme.to_organs(values).ravel().tolist() == [0, 1, 2, 3]


def test_values_beyond_a_byte_get_other_numbers(tmp_path):
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "a": 300, "b": 7, "ignore": 999}})
    )
    scheme = read_label_table(tmp_path / "dataset.json")
    values = np.array([[[0, 7, 300, 999]]], dtype=np.int32)
    ids = {organ.name: organ.id for organ in scheme.table.organs}
    assert scheme.to_organs(values).ravel().tolist() == [0, ids["b"], ids["a"], 255]
    with pytest.raises(InputError, match="found 1, 8, 301, 1000"):
        scheme.to_organs(values + 1)


@pytest.mark.parametrize(
    "labels",
    [
        {"a": 1, "b": [0, 2]},
        {"a": 1, "ignore": 1},
        {"a": "x"},
        [],
        {"a": -1},
        {"a": 1, "ignore": 0},
        {"1": ["a"]},
        {"a": True},
        {"a": {"b": 1}},
    ],
)
def test_labels_that_make_no_sense_are_refused(labels):
    with pytest.raises(InputError):
        dataset_labels({"labels": labels}, Path("dataset.json"))


def test_the_first_version_of_the_file_may_name_a_structure_twice():
    labels = dataset_labels({"labels": {"0": "background", "1": "x", "2": "x"}}, Path("d.json"))
    assert labels.values == {"x": (1, 2)}


def test_names_that_are_no_files_get_others():
    structures, _ = structures_of({"other": 1, "con": 2, "Ignore": 3, "a/b": 4, "a b": 5, "ä": 6})
    names = [settings.name for settings in structures]
    assert names == ["other_2", "con_2", "Ignore_2", "a_b", "a_b_2", "structure"]
    assert structures[5].title == "Ä"


def test_too_many_structures_are_named_with_their_file(tmp_path):
    labels = {"background": 0, **{f"s{n}": n for n in range(1, 301)}}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(InputError, match=r"dataset\.json: expected 254 structures at most"):
        read_label_table(tmp_path / "dataset.json")


def test_regions_need_structures():
    regions = (RegionSettings("both", ("liver", "spleen")),)
    with pytest.raises(UsageError, match="beside"):
        table_of_labels("x", ["background", "liver", "spleen"], (), regions)


def test_a_data_set_of_our_organs_keeps_our_numbers(tmp_path):
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "spleen": 1, "liver": 2}})
    )
    scheme = read_label_scheme(tmp_path / "dataset.json")
    values = np.array([[[0, 1, 2]]], dtype=np.uint8)
    assert scheme.to_organs(values).ravel().tolist() == [0, 3, 1]


# Bundles and results


def test_labels_are_numbered_by_place_or_as_the_bundle_says(own):
    bundle = read_bundle(own)
    assert bundle.label_ids == (0, 0, 0, 3, 4, 200, 6, 7, 8)
    assert [organ.name for organ in bundle.organs] == [
        "bone", "liver", "vessels", "cyst_right", "cyst_left", "blob"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("", "described in"),
        ('[[structures]]\nname = "bones"', "among labels"),
        (STRUCTURES.replace('step = "sides"', 'step = "closing"\norgans = ["heart"]'), "by name"),
        (STRUCTURES.replace("id = 200", "id = 3"), "one structure of each id"),
        (STRUCTURES + '[[structures]]\nname = "bone"', "of each name once"),
    ],
)
def test_bundles_that_mean_nothing_are_refused(tmp_path, extra, message):
    with pytest.raises(BundleError, match=message):
        read_bundle(own_bundle(tmp_path, extra))


def test_results_are_the_thirteen_organs_under_other_numbers(tmp_path, nearest, small_phantom):
    volume, _ = small_phantom
    plain = own_bundle(tmp_path, STRUCTURES.partition("[[postprocess]]")[0])
    other, known = (viscera.segment(volume, bundle=each) for each in (plain, nearest))
    np.testing.assert_array_equal(other.labels == 4, known.mask("liver"))
    assert other.volumes_ml()["blob"] > 0
    assert (other.mask("blob") == (other.labels == 200)).all()
    assert (other.mask(200) == other.mask("A blob")).all()
    with pytest.raises(UsageError, match="an organ's name"):
        other.mask("pancreas")
    liver_alone = other.only(["liver"])
    assert set(np.unique(liver_alone.labels)) == {0, 4}
    assert (labels_of_thirteen(other.labels, other.label_table) == 1).sum() == (
        other.labels == 4
    ).sum()


def test_verdicts_say_that_nothing_usual_is_known(own, small_phantom):
    quality = viscera.segment(small_phantom[0], bundle=own).quality
    unknown = "its usual size, density and place are not known: look at it"
    volumes_ml = viscera.segment(small_phantom[0], bundle=own).volumes_ml()
    for name, of_structure in quality.items():
        is_unknown = name != "liver" and volumes_ml[name] > 0
        assert (unknown in of_structure.reasons) == is_unknown
        assert not is_unknown or of_structure.verdict == "check"
    assert all(q.estimated_dsc is None for q in quality.values())


def test_every_file_of_a_result_follows(tmp_path, own, small_phantom):
    write_volume(tmp_path / "ct.nii.gz", small_phantom[0])
    outputs = OutputOptions(
        masks=True, statistics=True, preview=True, report=True, html=True, tables=True,
        output_types=("seg_nrrd",), cohort=("csv",),
    )  # fmt: skip
    (result,) = segment_batch(
        tmp_path / "ct.nii.gz", tmp_path / "out", predictor=viscera.Predictor(own), outputs=outputs
    )
    assert result.error is None
    names = {organ.name for organ in read_bundle(own).organs}
    out = tmp_path / "out"
    assert {p.name.removesuffix(".nii.gz") for p in (out / "ct_masks").iterdir()} == names
    report = json.loads((out / "ct_report.json").read_text())
    assert report["labels"][-1] == {
        "id": 200, "name": "blob", "title": "A blob", "colour": [1, 2, 3]
    }  # fmt: skip
    assert names <= set(json.loads((out / "ct_statistics.json").read_text()))
    assert "A blob" in (out / "ct.html").read_text()
    cohort = (out / "cohort.html").read_text()
    assert "A blob, ml" in cohort
    assert "rgb(1,2,3)" in (out / "ct.html").read_text()
    assert '"A blob"' in (out / "ct_itksnap.txt").read_text()
    assert "blob,vessels" not in (out / "cohort.csv").read_text()
    header = (out / "ct.seg.nrrd").read_bytes().partition(b"\n\n")[0].decode()
    assert "LabelValue:=200" in header
    assert "272673000^Bone" in header


def test_a_chosen_structure_is_one_of_the_bundle(tmp_path, own, small_phantom):
    write_volume(tmp_path / "ct.nii.gz", small_phantom[0])
    call = [sys.executable, "-m", "viscera", "segment", tmp_path / "ct.nii.gz", "-b", own]
    run = subprocess.run(
        [*map(str, call), "-o", str(tmp_path / "l.nii.gz"), "-rs", "blob,vessels", "-q"],
        check=True,
    )
    assert run.returncode == 0
    assert set(np.unique(viscera.as_label_map(tmp_path / "l.nii.gz").values)) == {0, 6, 200}
    listed = subprocess.run(
        [*map(str, call[:3]), "segment", "-b", str(own), "--list-classes"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "200 blob" in listed.stdout
    wrong = subprocess.run(
        [*map(str, call), "-o", str(tmp_path / "m.nii.gz"), "-rs", "pancreas"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert wrong.returncode == 2
    assert "choose among bone" in wrong.stderr


@pytest.mark.filterwarnings("ignore")  # highdicom's own
def test_titles_in_other_letters_reach_every_file(tmp_path):
    pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
    pydicom = pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
    titles = STRUCTURES.replace(
        'name = "bone"\n', 'name = "bone"\ntitle = "Knochen – größer"\n', 1
    ).replace('title = "A blob"', 'title = "肝臓"\nsnomed = "272673000"', 1)
    bundle = own_bundle(tmp_path / "own", titles)
    write_phantom(tmp_path / "ct", "axial", spacing_mm=(4.0, 4.0), thick=3.0)
    segmentation = viscera.segment(tmp_path / "ct", bundle=bundle).only(["bone", "blob"])
    segmentation.save(tmp_path / "labels.seg.nrrd")
    names = viscera.read_labels(tmp_path / "labels.seg.nrrd").label_names
    assert names[200] == "肝臓"
    segmentation.save(tmp_path / "seg.dcm")
    segmentation.save(tmp_path / "rt.dcm", output_type="dicom_rtstruct")
    seg, rtstruct = (pydicom.dcmread(tmp_path / name) for name in ("seg.dcm", "rt.dcm"))
    assert "肝臓" in {segment.SegmentLabel for segment in seg.SegmentSequence}
    described = {roi.ROIDescription for roi in rtstruct.StructureSetROISequence}
    assert described == {"Knochen – größer", "肝臓"}
    assert rtstruct.StructureSetLabel == "STRUCTURES"


def test_a_legend_of_many_structures_has_room(tmp_path):
    from viscera.report.pictures.preview import _MOST_ROWS

    names = [f"structure_with_a_long_name_{n}" for n in range(40)]
    table = make_label_table("x", [StructureSettings(name) for name in names])
    labels = many_labels(1)
    volume = Volume.of(np.zeros(labels.shape, np.int16, order="F"), np.diag([-2.0, -2, 2, 1]))
    segmentation = viscera.Segmentation(labels, volume, table.organs, label_table=table)
    segmentation.show()  # draws it
    assert _MOST_ROWS * 27 <= 720


def test_nothing_found_is_said_in_its_own_words(own):
    air = Volume.of(np.full((30, 30, 20), -1000, np.int16), np.diag([-8.0, -8, 8, 1]))
    findings = {f.code for f in viscera.segment(air, bundle=own).findings}
    assert "nothing-found" in findings
    assert "no-abdomen" not in findings
    with pytest.raises(NothingToSegmentError):
        viscera.segment(air, bundle=own, strict=True)


def test_a_dicom_seg_needs_codes_and_an_rtstruct_does_not(tmp_path, own):
    pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
    pydicom = pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
    write_phantom(tmp_path / "ct", "axial", spacing_mm=(4.0, 4.0), thick=3.0)
    predictor = viscera.Predictor(own)
    options = BatchOptions(outputs=OutputOptions(output_types=("dicom_seg",)))
    with pytest.raises(UsageError, match=r"a SNOMED CT code .* none of vessels, cyst_right"):
        options.check(predictor)
    from viscera.pacs.segment_series import SeriesOptions

    with pytest.raises(UsageError, match="SNOMED CT code"):
        SeriesOptions().check(predictor)  # as `viscera pacs` and `viscera listen` begin
    segmentation = predictor.segment(tmp_path / "ct")
    with pytest.raises(UsageError, match="SNOMED CT code"):
        segmentation.save(tmp_path / "seg.dcm")
    assert not (tmp_path / "seg.dcm").exists()
    coded = segmentation.only(["bone", "liver"])
    coded.save(tmp_path / "seg.dcm")
    described = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    types = {s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in described}
    assert types <= {"272673000", "10200004"}
    segmentation.save(tmp_path / "rt.dcm", output_type="dicom_rtstruct")
    rtstruct = pydicom.dcmread(tmp_path / "rt.dcm")
    regions = {roi.ROIName: roi.ROINumber for roi in rtstruct.StructureSetROISequence}
    assert regions["blob"] == 200
    with_codes = [o for o in rtstruct.RTROIObservationsSequence
                  if "RTROIIdentificationCodeSequence" in o]  # fmt: skip
    assert {regions_of.ObservationNumber for regions_of in with_codes} <= {3, 4}


def test_pairs_of_a_bundle_change_sides():
    from viscera.bundle.spec import PostprocessStep
    from viscera.core.affine import Affine
    from viscera.postprocess.chain import postprocess

    left = StructureSettings("lobe_left", id=20, laterality="left", partner="lobe_right")
    right = StructureSettings("lobe_right", id=30, laterality="right", partner="lobe_left")
    table = make_label_table("x", (left, right))
    labels = np.zeros((100, 20, 20), np.uint8, order="F")  # i runs to the patient's left
    labels[5:20, 5:15, 5:15] = 30
    labels[80:95, 5:15, 5:15] = 20
    labels[70:74, 5:9, 5:9] = 30  # on the left
    postprocess(labels, Affine(np.diag([-2.0, -2, 2, 1])), [PostprocessStep("sides")], table)
    assert (labels[70:74, 5:9, 5:9] == 20).all()
    assert (labels[5:20, 5:15, 5:15] == 30).all()


# More than fifteen labels


def test_closing_of_many_labels_is_scipys():
    labels = blobs(1, (24, 22, 20), organs=3)
    many = labels.copy(order="F")
    rng = np.random.default_rng(3)
    pieces, count = ndimage.label(many > 0)
    many[...] = np.where(pieces > 0, pieces % 40 + 1, 0).astype(np.uint8)
    many[rng.random(many.shape) < 0.05] = 0
    ids = list(range(1, 42))
    expected = closed_by_scipy(many, ids, 3)
    close_organs(many, ids, 3)
    assert count > 20
    np.testing.assert_array_equal(many, expected)


def many_labels(seed):
    rng = np.random.default_rng(seed)
    labels = np.zeros((40, 36, 30), np.uint8, order="F")
    for label in range(1, 41):
        i, j, k = (rng.integers(0, n - 8) for n in labels.shape)
        labels[i : i + 7, j : j + 6, k : k + 8] = label
    return labels


def test_boxes_and_counts_of_many_labels():
    labels, other = many_labels(1), many_labels(2)
    boxes = organ_boxes(labels, range(1, 41))
    for label in np.unique(labels)[1:]:
        assert boxes[label] == ndimage.find_objects((labels == label).view(np.uint8))[0]
    counts = count_voxels(labels, other)
    pairs = np.zeros((256, 256), np.int64)
    np.add.at(pairs, (labels.ravel(), other.ravel()), 1)
    pairs[0, 0] = 0
    np.testing.assert_array_equal(counts, pairs)


def test_metrics_of_many_labels_are_the_references():
    labels, other = many_labels(1), many_labels(1)
    other = np.roll(other, 1, axis=0).copy(order="F")
    organs = [replace(ORGANS[0], id=n, name=f"s{n}", tolerance_mm=2.0) for n in range(1, 41)]
    spacing_mm = (1.0, 1.5, 2.0)
    found = compare_labels(other, labels, spacing_mm=spacing_mm, organs=organs)
    for organ, metrics in list(zip(organs, found, strict=True))[::7]:
        dsc, nsd, *_ = four_metrics(other == organ.id, labels == organ.id, spacing_mm, 2.0)
        assert metrics.dsc == pytest.approx(dsc)
        assert metrics.nsd == pytest.approx(nsd, abs=1e-9)


# Evaluation


@pytest.fixture
def tumours(tmp_path):
    """A prediction and a truth of a data set with regions and voxels that nobody labelled."""
    rng = np.random.default_rng(0)
    truth, prediction = (
        np.where(ndimage.gaussian_filter(rng.random((30, 28, 20)), 2) > 0.5, 1, 0) for _ in range(2)
    )
    truth[5:12, 5:12, 5:12], prediction[6:13, 5:12, 5:12] = 2, 2
    truth[8:10, 8:10, 8:10], prediction[8:11, 8:10, 8:10] = 3, 3
    truth[:, :, 15:] = 4
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": labels, "regions_class_order": [1, 2, 3]})
    )
    return (
        save_labels(tmp_path / "p.nii.gz", prediction.astype(np.uint8)),
        save_labels(tmp_path / "t.nii.gz", truth.astype(np.uint8)),
        tmp_path / "dataset.json",
        prediction,
        truth,
    )


def test_regions_are_unions_and_unlabelled_voxels_do_not_count(tumours):
    prediction_path, truth_path, table, prediction, truth = tumours
    found = evaluate(prediction_path, truth_path, label_table=table)
    counted = truth != 4

    def dsc(ids):
        p, t = np.isin(prediction, ids) & counted, np.isin(truth, ids) & counted
        return 2 * (p & t).sum() / (p.sum() + t.sum())

    assert found["rest_of_core"].dsc == pytest.approx(dsc([2]))
    assert found["whole"].dsc == pytest.approx(dsc([1, 2, 3]))
    assert found["core"].dsc == pytest.approx(dsc([2, 3]))
    assert [m.organ for m in found.organ_metrics] == ["rest_of_whole", "rest_of_core", "enhancing"]
    _, nsd, *_ = four_metrics(
        np.isin(prediction, [2, 3]) & counted, np.isin(truth, [2, 3]) & counted, (1, 1, 2), 2.0
    )
    assert found["core"].nsd == pytest.approx(nsd, abs=1e-9)
    only = evaluate(prediction_path, truth_path, label_table=table, organs=["enhancing", "core"])
    assert [m.organ for m in only.metrics] == ["enhancing", "core"]


def test_a_cohort_has_rows_for_regions(tmp_path, tumours):
    prediction, truth, table, *_ = tumours
    result = evaluate_cohort(prediction, truth, tmp_path / "out", label_table=table)
    scores = result.summary["scores"]
    assert list(scores) == [
        "rest_of_whole", "rest_of_core", "enhancing", "average", "whole", "core"
    ]  # fmt: skip
    assert "| Rest of core " in (tmp_path / "out" / "table.md").read_text()
    again = evaluate_cohort(prediction, truth, tmp_path / "out", label_table=table)
    assert again.summary == result.summary


def test_what_nobody_labelled_does_not_count_for_our_organs_either(tmp_path):
    truth = np.zeros((20, 20, 10), np.uint8)
    truth[2:8, 2:8, 2:8], truth[10:16, 2:8, 2:8] = 2, 3  # liver, ignored
    prediction = np.where(truth > 0, 1, 0).astype(np.uint8)  # FLARE's liver in both
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "spleen": 1, "liver": 2, "ignore": 3}})
    )
    paths = (
        save_labels(tmp_path / "p.nii.gz", prediction),
        save_labels(tmp_path / "t.nii.gz", truth),
    )
    found = evaluate(*paths, truth_labels=tmp_path / "dataset.json", organs=["liver"])
    assert found["liver"].dsc == 1
    assert not found.findings


def test_a_bundle_is_compared_with_a_data_set_of_other_numbers(tmp_path):
    """MSD's spleen is 1, ours is 3; a bundle of few organs is judged on these alone."""
    nearest_net(tmp_path / "b" / "model.onnx")
    labels = ["background", *["other"] * 3, "liver", "spleen", *["other"] * 3]
    bundle = write_bundle(tmp_path / "b", body=PATCH_BODY, labels=labels)
    truth = np.zeros((20, 20, 10), np.uint8)
    truth[2:8, 2:8, 2:8] = 1
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "spleen": 1}}))
    found = evaluate(
        save_labels(tmp_path / "p.nii.gz", truth * 3),
        save_labels(tmp_path / "t.nii.gz", truth),
        label_table=bundle,
        truth_labels=tmp_path / "dataset.json",
    )
    assert {m.organ: m.dsc for m in found.metrics} == {"spleen": 1}


def test_a_region_alone_can_be_asked_for(tmp_path, tumours):
    prediction, truth, table, *_ = tumours
    found = evaluate(prediction, truth, label_table=table, organs=["Core"])
    assert [m.organ for m in found.metrics] == ["core"]
    cohort = evaluate_cohort(
        prediction, truth, tmp_path / "out", label_table=table, organs=["core"]
    )
    assert list(cohort.summary["scores"]) == ["average", "core"]
    with pytest.raises(UsageError, match="an organ's name"):
        evaluate(prediction, truth, label_table=table, organs=["cores"])


def test_other_structures_have_no_rules_of_flare(tumours):
    prediction, truth, table, *_ = tumours
    with pytest.raises(UsageError, match="thirteen organs"):
        evaluate(prediction, truth, label_table=table, protocol="flare24")


def test_a_bundle_is_a_label_table(tmp_path, own, small_phantom):
    segmentation = viscera.segment(small_phantom[0], bundle=own)
    segmentation.save(tmp_path / "labels.nii.gz")
    found = evaluate(tmp_path / "labels.nii.gz", tmp_path / "labels.nii.gz", label_table=own)
    assert {m.organ for m in found.organ_metrics} == {o.name for o in segmentation.organs}
    assert found.mean() == 1
    assert found["soft"].dsc == 1
    with pytest.raises(UsageError, match=r"a result of the table test\.net"):
        evaluate(segmentation, segmentation)
    assert evaluate(segmentation, segmentation, label_table=own).mean() == 1


def test_label_tables_are_told_apart_from_anything_else(tmp_path):
    with pytest.raises(UsageError, match="a table in TOML"):
        read_label_table("nothing")
    (tmp_path / "a.toml").write_text('[[structures]]\nnme = "x"')
    with pytest.raises(InputError, match="a known key"):
        read_label_table(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text('[[structures]]\nname = "x"\n[[structures]]\nname = "X"')
    with pytest.raises(InputError, match="one structure of each name"):
        read_label_table(tmp_path / "b.toml")
    assert isinstance(read_label_table("flare13").table, LabelTable)
    assert read_label_table("default").table is FLARE13
