"""DICOM SEG and .seg.nrrd: read back by others, they are the labels, on the right side."""

import shutil
import subprocess

import numpy as np
import pytest

from tests.dicom_series import write_series
from tests.test_dicom import STACKS
from viscera.dicom import open_series
from viscera.errors import InputError, UsageError
from viscera.io.dicom_seg import write_dicom_seg
from viscera.io.seg_nrrd import write_seg_nrrd
from viscera.organs import BY_ID, ORGANS
from viscera.volume import Segmentation, Volume

highdicom = pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
pytestmark = pytest.mark.filterwarnings("ignore")  # highdicom's and pydicom's own

SHAPE = (12, 20, 24)  # slices, rows, columns


def segmented(folder, name="axial", **more):
    """A series in which a kidney lies on each side of the patient, and both labelled."""
    cosines, step = STACKS[name] if name != "tilted" else (STACKS["axial"][0], (0, 0.8, 3.0))
    stored = np.random.default_rng(0).integers(-90, 90, SHAPE).astype(np.int16)
    write_series(folder, stored, cosines=cosines, step_mm=step, **more)
    volume = open_series(folder)
    index = np.indices(volume.shape).reshape(3, -1)
    world = volume.affine.matrix[:3, :3] @ index + volume.affine.matrix[:3, 3:]
    middle = (world.min(axis=1) + world.max(axis=1)) / 2
    size = np.ptp(world, axis=1)
    labels = np.zeros(volume.shape, dtype=np.uint8, order="F")
    for organ, side in ((2, 1), (13, -1)):  # RAS: the patient's right is at the smaller x
        centre = middle - (side * size[0] / 4, 0, 0)
        near = np.abs((world - centre[:, None]) / size[:, None]).max(axis=0) < 0.15
        labels[tuple(index[:, near])] = organ
    return Segmentation(labels, volume, ORGANS)


def check_sides(segmentation):
    """The phantom itself: the right kidney lies right of the left one."""
    x = {}
    for organ in (2, 13):
        at = np.argwhere(segmentation.labels == organ).mean(axis=0)
        x[organ] = (segmentation.affine.matrix @ [*at, 1])[0]
    assert x[2] < x[13]


@pytest.mark.parametrize("labelmap", [False, True])
@pytest.mark.parametrize("name", [*STACKS, "tilted"])
def test_a_seg_read_by_highdicom_is_the_labels(tmp_path, name, labelmap):
    segmentation = segmented(tmp_path / "ct", name)
    check_sides(segmentation)
    path = tmp_path / "seg.dcm"
    write_dicom_seg(path, segmentation, labelmap=labelmap)
    seg = highdicom.seg.segread(path)
    uids = [one.uid for one in segmentation.volume.voxels.stack.slices]
    pixels = seg.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    names = {
        number: seg.get_segment_description(number).segment_label
        for number in seg.segment_numbers
        if number
    }
    assert sorted(names.values()) == ["Left kidney", "Right kidney"]
    for number, title in names.items():
        organ = next(o for o in ORGANS if o.title == title)
        np.testing.assert_array_equal(
            (pixels == number).transpose(2, 1, 0), segmentation.labels == organ.id
        )
        kind = seg.get_segment_description(number).segmented_property_type
        assert (kind.value, kind.meaning) == ("64033007", "Kidney")
        (side,) = kind.SegmentedPropertyTypeModifierCodeSequence
        assert side.CodeMeaning.lower() == organ.side


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of dicom3tools")
def test_dciodvfy_finds_no_error_in_a_seg(tmp_path):
    """It does not know the newer form."""
    write_dicom_seg(tmp_path / "seg.dcm", segmented(tmp_path / "ct"))
    done = subprocess.run(
        ["dciodvfy", str(tmp_path / "seg.dcm")], capture_output=True, text=True, check=False
    )
    assert "SegmentationStorage" in done.stderr or "Segmentation" in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("Error")]


def test_a_seg_needs_a_series_with_uids(tmp_path):
    volume = Volume(np.zeros((4, 4, 4), np.int16), segmented(tmp_path / "a").affine)
    labels = np.zeros((4, 4, 4), np.uint8)
    with pytest.raises(UsageError, match="a DICOM series"):
        write_dicom_seg(tmp_path / "seg.dcm", Segmentation(labels, volume, ORGANS))

    def blank(data, _k):
        data.SOPInstanceUID = ""

    with pytest.raises(InputError, match="UIDs"):
        write_dicom_seg(tmp_path / "seg.dcm", segmented(tmp_path / "b", edit=blank))
    assert not (tmp_path / "seg.dcm").exists()


def test_codes_are_those_of_snomed():
    from pydicom.sr.codedict import codes

    named = {
        1: "Liver", 3: "Spleen", 4: "Pancreas", 5: "Aorta", 6: "InferiorVenaCava", 9: "Gallbladder",
        10: "Esophagus", 11: "Stomach", 12: "Duodenum", 2: "Kidney", 13: "Kidney",
        7: "AdrenalGland", 8: "AdrenalGland",
    }  # fmt: skip
    assert sorted(named) == sorted(BY_ID)
    for organ, keyword in named.items():
        assert getattr(codes.SCT, keyword).value == BY_ID[organ].snomed


@pytest.mark.parametrize("name", [*STACKS, "tilted"])
def test_a_seg_nrrd_read_by_others_is_the_labels(tmp_path, name):
    import SimpleITK

    segmentation = segmented(tmp_path / "ct", name)
    path = tmp_path / "organs.seg.nrrd"
    write_seg_nrrd(path, segmentation)
    if name != "tilted":  # ITK has no sheared grids
        image = SimpleITK.ReadImage(str(path))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).T, segmentation.labels)
        for index in ((0, 0, 0), (5, 7, 9)):
            lps = image.TransformIndexToPhysicalPoint(index)
            ras = (segmentation.affine.matrix @ [*index, 1])[:3]
            np.testing.assert_allclose(lps, ras * (-1, -1, 1), atol=1e-3)
    import nrrd

    header = nrrd.read_header(str(path))
    found = {header[f"Segment{n}_ID"]: header[f"Segment{n}_LabelValue"] for n in (0, 1)}
    assert found == {"kidney_right": "2", "kidney_left": "13"}
    assert "SCT^64033007^Kidney~SCT^24028007^Right" in header["Segment0_Tags"]
    assert "secret" not in path.read_bytes()[:4000].decode("latin1").lower()
