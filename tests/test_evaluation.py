"""One case: reading label maps, conventions, grids that agree, grids that do not."""

import json
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

import viscera
from tests.conftest import SHARED, needs_shared
from viscera.core.affine import Affine
from viscera.core.label_map import LabelMap
from viscera.core.label_schemes import FLARE, LABEL_SCHEMES
from viscera.core.organs import ORGANS
from viscera.errors import InputError, UsageError
from viscera.evaluation.case import evaluate, evaluate_missing
from viscera.grid.reorient import reorient_to
from viscera.io.label_scheme_files import read_label_scheme
from viscera.io.read import read_labels

ALL_ORIENTATIONS = [
    "".join(letters) for order in permutations(("RL", "AP", "SI")) for letters in product(*order)
]
AFFINE = np.array([[-0.8, 0, 0, 90], [0, -0.8, 0, 60], [0, 0, 2.5, -400], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def maps():
    """Truth and a prediction that misses some of it."""
    from tests.test_metrics import blobs

    truth = blobs(5, shape=(30, 26, 18))
    prediction = truth.copy(order="F")
    prediction[np.random.default_rng(0).random(truth.shape) < 0.1] = 0
    return truth, prediction


def save(path, labels, affine=AFFINE, dtype=np.uint8):
    nib.save(nib.Nifti1Image(np.asarray(labels, dtype), affine), path)
    return path


def scores_of(evaluation):
    return [(s.organ, s.dsc, s.nsd, s.hd95_mm, s.assd_mm) for s in evaluation.organ_metrics]


def close(one, other):
    for a, b in zip(scores_of(one), scores_of(other), strict=True):
        assert a[0] == b[0]
        np.testing.assert_allclose(a[1:], b[1:], atol=1e-9)


def test_files_arrays_images_and_segmentations_give_the_same(tmp_path, maps):
    truth, prediction = maps
    paths = save(tmp_path / "p.nii.gz", prediction), save(tmp_path / "case_7_0000.nii.gz", truth)
    found = viscera.evaluate(*paths)
    assert found.case == "case_7"
    assert 0.5 < found.mean() < 1
    assert found["liver"].truth_ml == pytest.approx((truth == 1).sum() * 0.8 * 0.8 * 2.5 / 1000)
    close(found, evaluate(LabelMap.of(prediction, AFFINE), LabelMap.of(truth, AFFINE)))
    close(found, evaluate(nib.load(paths[0]), nib.load(paths[1])))
    ct = viscera.Volume(np.zeros(truth.shape, np.int16), Affine(AFFINE))
    close(found, evaluate(viscera.Segmentation(prediction, ct, ORGANS), paths[1]))


def test_a_volume_is_no_label_map():
    with pytest.raises(InputError, match="expected a path, a Segmentation"):
        evaluate(np.zeros((3, 3, 3)), np.zeros((3, 3, 3)))


@pytest.mark.parametrize("codes", ALL_ORIENTATIONS)
def test_every_storage_of_a_prediction_gives_the_same_scores(maps, codes):
    truth, prediction = maps
    image = nib.Nifti1Image(prediction, AFFINE)
    turn = ornt_transform(io_orientation(AFFINE), axcodes2ornt(codes))
    turned = evaluate(image.as_reoriented(turn), LabelMap.of(truth, AFFINE))
    close(turned, evaluate(LabelMap.of(prediction, AFFINE), LabelMap.of(truth, AFFINE)))
    reordered = [f for f in turned.findings if f.code == "axes-reordered"]
    assert bool(reordered) == ("".join(codes) != "LPS")


@pytest.mark.parametrize("codes", ["RAS", "PSR", "LIA"])
def test_oblique_grids_are_matched_as_well(maps, codes):
    turn = np.eye(4)
    turn[:3, :3] = [[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]
    oblique = turn @ AFFINE
    image = nib.Nifti1Image(maps[1], oblique)
    moved = image.as_reoriented(ornt_transform(io_orientation(oblique), axcodes2ornt(codes)))
    view = reorient_to(
        np.asarray(moved.dataobj), Affine(moved.affine), shape=maps[1].shape, target=Affine(oblique)
    )
    assert (view == maps[1]).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a + np.array([[0, 0, 0, 0.4], [0] * 4, [0] * 4, [0] * 4]),  # half a voxel
        lambda a: a @ np.diag([1.01, 1, 1, 1]),  # a hundredth, over thirty voxels
        lambda a: np.diag([-1, 1, 1, 1]) @ a,  # mirrored about the origin
        lambda a: np.eye(4),
    ],
)
def test_another_grid_is_refused_with_both_grids_named(tmp_path, maps, change):
    prediction = save(tmp_path / "p.nii.gz", maps[1], change(AFFINE))
    with pytest.raises(InputError, match=r"30 x 26 x 18 voxels of 0.8 x 0.8 x 2.5 mm LPS") as error:
        evaluate(prediction, save(tmp_path / "t.nii.gz", maps[0]))
    assert "p.nii.gz" in str(error.value)


def test_what_headers_lose_by_rounding_is_the_same_grid(maps):
    rounded = LabelMap.of(maps[1], AFFINE + np.diag([1e-4, 1e-4, 1e-4, 0]))
    assert evaluate(rounded, LabelMap.of(maps[0], AFFINE)).findings == ()


def test_another_shape_is_refused(maps):
    for protocol in ("standard", "flare24"):
        with pytest.raises(InputError, match="29 x 26 x 18"):
            evaluate(
                LabelMap.of(maps[1][1:], AFFINE), LabelMap.of(maps[0], AFFINE), protocol=protocol
            )


def test_flare24_compares_voxels_as_they_lie_and_says_so(maps):
    truth, prediction = maps
    mirrored = LabelMap.of(prediction, np.diag([-1, 1, 1, 1]) @ AFFINE)
    found = evaluate(mirrored, LabelMap.of(truth, AFFINE), protocol="flare24")
    assert [f.code for f in found.findings] == ["grids-differ"]
    close(found, evaluate(LabelMap.of(prediction, AFFINE), LabelMap.of(truth, AFFINE),
                          protocol="flare24"))  # fmt: skip


def test_flare24_goes_by_the_headers_own_spacing(tmp_path, maps):
    image = nib.Nifti1Image(maps[0], AFFINE)
    image.header["pixdim"][1:4] = 3.0
    image.header.set_sform(AFFINE, 1)
    nib.save(image, tmp_path / "t.nii.gz")
    stated = read_labels(tmp_path / "t.nii.gz")
    assert stated.header_spacing_mm == (3, 3, 3)
    assert stated.affine.spacing_mm == pytest.approx((0.8, 0.8, 2.5))
    prediction = save(tmp_path / "p.nii.gz", maps[1])
    found = evaluate(prediction, tmp_path / "t.nii.gz", protocol="flare24")
    expected = evaluate(
        LabelMap.of(maps[1], np.diag([3, 3, 3, 1])),
        LabelMap.of(maps[0], np.diag([3, 3, 3, 1])),
        protocol="flare24",
    )
    close(found, expected)


def test_flare24_reads_uint8_as_the_script_does(maps):
    truth = maps[0].astype(np.float64)
    truth[truth > 0] += 0.9  # cut to whole numbers
    wide = maps[1].astype(np.int16)
    wide[wide == 1] += 256  # wraps
    wide[0, 0, 0] = 99  # no organ
    found = evaluate(LabelMap.of(wide, AFFINE), LabelMap.of(truth, AFFINE), protocol="flare24")
    expected = evaluate(
        LabelMap.of(np.where(wide == 99, 0, maps[1]), AFFINE),
        LabelMap.of(maps[0], AFFINE),
        protocol="flare24",
    )
    close(found, expected)


def test_unknown_labels_are_listed(tmp_path, maps):
    labels = maps[1].astype(np.int16)
    labels[0, 0, :4] = [14, 300, -1, 15]
    path = save(tmp_path / "p.nii.gz", labels, dtype=np.int16)
    with pytest.raises(InputError, match=r"p\.nii\.gz.*flare, 0 to 13, found -1, 14, 15, 300;"):
        evaluate(path, LabelMap.of(maps[0], AFFINE))
    with pytest.raises(InputError, match=r"found 0\.5"):
        evaluate(LabelMap.of(labels.clip(0, 1) * 0.5, AFFINE), LabelMap.of(maps[0], AFFINE))
    with pytest.raises(InputError, match="found nan"):
        evaluate(LabelMap.of(np.full(labels.shape, np.nan), AFFINE), LabelMap.of(maps[0], AFFINE))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_any_type_may_carry_labels(tmp_path, maps, dtype):
    path = save(tmp_path / "p.nii.gz", maps[1], dtype=dtype)
    assert (FLARE.to_organs(read_labels(path).values) == maps[1]).all()


def test_scaled_labels_are_scaled_back(tmp_path, maps):
    image = nib.Nifti1Image(maps[1].astype(np.int16) * 4, AFFINE)
    image.header.set_slope_inter(0.25, 0)
    nib.save(image, tmp_path / "p.nii.gz")
    raw = nib.load(tmp_path / "p.nii.gz")
    assert (FLARE.to_organs(read_labels(tmp_path / "p.nii.gz").values) == raw.get_fdata()).all()


def test_a_large_and_all_but_empty_label_map_is_no_bomb(tmp_path):
    path = save(tmp_path / "p.nii.gz", np.zeros((512, 512, 1100), np.uint8))
    assert path.stat().st_size * 200 < 512 * 512 * 1100
    assert not read_labels(path).values.any()


@pytest.mark.parametrize("name", list(LABEL_SCHEMES))
def test_built_in_conventions_have_one_value_an_organ(name):
    convention = LABEL_SCHEMES[name]
    values = [value for of in convention.values.values() for value in of]
    assert len(set(values)) == len(values)
    assert not convention.others & set(values)
    highest = {"flare": 13, "totalsegmentator": 117, "amos": 15, "btcv": 13}[name]
    assert sorted([*values, *convention.others]) == list(range(1, highest + 1))


def test_amos_and_btcv_number_as_they_do():
    amos, btcv = LABEL_SCHEMES["amos"].values, LABEL_SCHEMES["btcv"].values
    assert amos["inferior_vena_cava"] == btcv["inferior_vena_cava"] == (9,)
    assert (amos["pancreas"], btcv["pancreas"]) == ((10,), (11,))
    assert (amos["adrenal_gland_left"], btcv["adrenal_gland_left"]) == ((12,), (13,))
    assert amos["duodenum"] == (13,)
    assert "duodenum" not in btcv


def test_organs_that_a_convention_lacks_are_not_scored(maps):
    values = np.zeros(14, np.uint8)
    for name, (value,) in LABEL_SCHEMES["btcv"].values.items():
        values[next(o.id for o in ORGANS if o.name == name)] = value
    found = evaluate(LabelMap.of(maps[0], AFFINE), LabelMap.of(values[maps[0]], AFFINE),
                     truth_labels="btcv")  # fmt: skip
    assert len(found.organ_metrics) == 12
    assert {s.dsc for s in found.organ_metrics} == {1.0}
    with pytest.raises(UsageError, match="none of duodenum in btcv"):
        evaluate(LabelMap.of(maps[0], AFFINE), LabelMap.of(values[maps[0]], AFFINE),
                 truth_labels="btcv", organs=["duodenum"])  # fmt: skip


def test_a_mapping_file_of_our_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("other = [9]\n[labels]\nliver = 6\n'left kidney' = [2, 7]\n")
    mine = read_label_scheme(path)
    labels = mine.to_organs(np.array([[[0, 6, 2, 7, 9]]]))
    assert labels.tolist() == [[[0, 1, 13, 13, 0]]]
    with pytest.raises(InputError, match=r"mine.toml, 0, 2, 6, 7, 9, found 5;"):
        mine.to_organs(np.array([[[5]]]))


def test_labels_that_rounding_moved_are_taken_for_whole(maps, tmp_path):
    """Scaling in single precision makes 1.0000001 of 1; 1.2 is no label."""
    truth, _ = maps
    save(tmp_path / "moved.nii", truth * np.float32(1.0000002), dtype=np.float32)
    found = evaluate(tmp_path / "moved.nii", LabelMap.of(truth, AFFINE))
    assert {m.dsc for m in found.organ_metrics} == {1.0}
    assert [f.code for f in found.findings] == ["labels-rounded"]
    with pytest.raises(InputError, match=r"found 1\.2"):
        evaluate(LabelMap.of(np.where(truth == 1, 1.2, truth), AFFINE), LabelMap.of(truth, AFFINE))


def test_public_data_sets_spellings_are_known_and_others_are_listed(maps, tmp_path):
    amos = ["background", "spleen", "right kidney", "left kidney", "gall bladder", "esophagus",
            "liver", "stomach", "arota", "postcava", "pancreas", "right adrenal gland",
            "left adrenal gland", "duodenum", "bladder", "prostate/uterus"]  # fmt: skip
    btcv = ["background", "spleen", "rkid", "lkid", "gall", "eso", "liver", "sto", "aorta", "IVC",
            "veins", "pancreas", "rad", "lad"]  # fmt: skip
    for names, organs, strange in ((amos, 13, ("bladder", "prostate/uterus")),
                                   (btcv, 12, ("veins",))):  # fmt: skip
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps({"labels": {name: n for n, name in enumerate(names)}}))
        scheme = read_label_scheme(path)
        assert len(scheme.organs) == organs
        assert scheme.unrecognised == strange
        truth, prediction = maps
        found = evaluate(
            LabelMap.of(prediction, AFFINE), LabelMap.of(truth, AFFINE), truth_labels=scheme
        )
        (finding,) = [f for f in found.findings if f.code == "names-not-recognised"]
        assert all(name in finding.message for name in strange)
    path.write_text(json.dumps({"labels": {"background": 0, "liver": 1, "pankreas": 2}}))
    assert "pankreas (pancreas?)" in read_label_scheme(path).findings[0].message


def test_a_dataset_json_names_organs_its_own_way(tmp_path):
    path = tmp_path / "dataset.json"
    labels = {"background": 0, "Liver": 1, "right kidney": 2, "IVC": 3, "tumour": 4}
    path.write_text(json.dumps({"labels": labels, "numTraining": 3}))
    found = read_label_scheme(path)
    assert dict(found.values) == {"liver": (1,), "kidney_right": (2,), "inferior_vena_cava": (3,)}
    assert found.others == {4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("liver = 1", "a table 'labels'"),
        ("[labels]\nlivr = 1", "did you mean 'liver'"),
        ("[labels]\nliver = 1\nspleen = 1", "one meaning a value, found several of 1"),
        ("[labels]\nliver = 1.5", "whole numbers from 0 to 65535 for 'liver'"),
        ("[labels]\nliver = -1", "whole numbers"),
        ("[labels]\nliver = 0", "0 to be background"),
        ("[labels]\n", "at least one of the thirteen"),
        ("labels = 3", "a table 'labels'"),
        ("colour = 1\n[labels]\nliver = 1", "keys 'labels' and 'other'"),
        ("[labels", "TOML"),
    ],
)
def test_a_wrong_mapping_file_is_refused(tmp_path, text, message):
    path = tmp_path / "m.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_label_scheme(path)
    assert "m.toml" in str(error.value)


def test_a_convention_that_does_not_exist():
    with pytest.raises(UsageError, match="totalsegmentator"):
        read_label_scheme("total")


def test_a_protocol_that_does_not_exist(maps):
    with pytest.raises(UsageError, match="standard or flare24"):
        evaluate(LabelMap.of(maps[0], AFFINE), LabelMap.of(maps[0], AFFINE), protocol="flare22")


def test_without_a_prediction_every_organ_is_missed(tmp_path, maps):
    truth = np.where(maps[0] == 9, 0, maps[0])  # no gallbladder to be found
    found = evaluate_missing("x", save(tmp_path / "t.nii.gz", truth), ORGANS)
    assert {s.dsc for s in found.organ_metrics} == {s.nsd for s in found.organ_metrics} == {0.0}
    assert found["liver"].truth_ml > 0
    assert np.isinf(found["gallbladder"].hd95_mm)


def test_an_evaluation_survives_json(maps):
    truth = np.where(maps[0] == 9, 0, maps[0])
    both = np.where(maps[1] == 4, 0, maps[1])
    both[truth == 0] = 0
    found = evaluate(LabelMap.of(both, AFFINE), LabelMap.of(truth, AFFINE))
    text = json.dumps(found.as_dict(), allow_nan=False)
    again = viscera.Evaluation.from_dict(json.loads(text))
    close(again, found)
    assert np.isnan(again["gallbladder"].hd95_mm)
    assert np.isinf(again["pancreas"].assd_mm)


@needs_shared
@pytest.mark.parametrize(
    "case",
    [
        "totalsegmentator_examples/example_dicom_20slices",
        "labelmaps_totalsegmentator/s0328",
    ],
)
def test_totalsegmentators_ids_are_the_same_organs_as_ours(case):
    """Their own label maps beside the same maps in our ids, made by other code."""
    folder = SHARED / "data" / case
    found = evaluate(
        folder / "label.nii.gz", folder / "label_total.nii.gz", truth_labels="totalsegmentator"
    )
    assert {score.dsc for score in found.organ_metrics} == {1.0}


def test_spacing_that_a_header_rounded_up_stays_within_the_tolerance():
    """Two voxels of 1.5 mm are 3 mm, also where single precision made them 3.0000001."""
    truth = np.zeros((30, 30, 20), np.uint8, order="F")
    truth[8:20, 8:20, 4:16] = 3
    moved = np.roll(truth, 2, axis=0)
    affine = np.diag([np.nextafter(np.float32(1.5), np.float32(2)), 1.5, 1.5, 1])
    found = evaluate(LabelMap.of(moved, affine), LabelMap.of(truth, affine), organs=["spleen"])
    assert found["spleen"].nsd == 1


@pytest.mark.parametrize("zoom", [0.0, -1.5, np.nan, np.inf])
def test_flare24_needs_a_spacing_in_the_header(tmp_path, maps, zoom):
    image = nib.Nifti1Image(maps[0], AFFINE)
    image.header.set_sform(AFFINE, 1)
    nib.save(image, tmp_path / "t.nii")
    raw = bytearray((tmp_path / "t.nii").read_bytes())
    raw[80:84] = np.float32(zoom).tobytes()
    (tmp_path / "t.nii").write_bytes(raw)
    with pytest.raises(InputError, match="spacing above 0 in the header's pixdim"):
        evaluate(LabelMap.of(maps[1], AFFINE), tmp_path / "t.nii", protocol="flare24")
    evaluate(LabelMap.of(maps[1], AFFINE), tmp_path / "t.nii")


def test_flare24_takes_a_mapping_s_values_whole(tmp_path):
    path = tmp_path / "m.toml"
    path.write_text("[labels]\nliver = 300\n")
    truth = np.zeros((9, 9, 9), np.int16)
    truth[2:6, 2:6, 2:6] = 300
    found = evaluate(LabelMap.of(truth, AFFINE), LabelMap.of(truth, AFFINE), protocol="flare24",
                     prediction_labels=path, truth_labels=path)  # fmt: skip
    assert found["liver"].truth_ml > 0


def test_a_grid_at_45_degrees_needs_no_order():
    """Which axis is nearest there hangs on a hair, and it need not be asked."""
    turn = np.eye(4)
    turn[:2, :2] = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    labels = np.zeros((6, 6, 4), np.uint8)
    labels[1:4, 2, 1] = 3
    hair = turn.copy()
    hair[0, 0] += 1e-7
    hair[0, 1] += 1e-7
    found = evaluate(LabelMap.of(labels, hair), LabelMap.of(labels, turn), organs=["spleen"])
    assert found["spleen"].dsc == 1


def test_a_flat_image_is_no_label_map():
    flat = nib.Nifti1Image(np.zeros((4, 4), np.uint8), np.eye(4))
    with pytest.raises(InputError, match=r"shape \(4, 4\)"):
        viscera.as_label_map(flat)


def test_a_series_of_label_maps_gets_a_remedy_that_exists(tmp_path):
    path = save(tmp_path / "p.nii.gz", np.zeros((4, 4, 4, 2), np.uint8))
    with pytest.raises(InputError, match="extract one"):
        read_labels(path)


def test_a_ct_taken_for_labels_is_refused_soon():
    values = np.random.default_rng(0).normal(size=(80, 80, 40)).astype(np.float32)
    with pytest.raises(InputError, match=r"and \d+ more"):
        FLARE.to_organs(values)
    with pytest.raises(InputError, match="found nan;"):
        FLARE.to_organs(np.full((5, 5, 5), np.nan))


def test_processes_know_the_convention_again():
    import pickle

    labels = np.zeros((3, 3, 3), np.uint8)
    assert pickle.loads(pickle.dumps(FLARE)).to_organs(labels) is labels
