"""Results opened by the readers of viewers: 3D Slicer's, ITK-SNAP's, OHIF's, QIICR's."""

import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import viscera
from tests.dicom_series import write_phantom
from tests.test_structures import own_bundle
from viscera.core.organs import ORGANS
from viscera.dicom.read.open_series import open_series
from viscera.segmentation import Segmentation

pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
pytestmark = pytest.mark.filterwarnings("ignore")  # the readers' own

SEGIMAGE = shutil.which("segimage2itkimage") or shutil.which(
    "segimage2itkimage", path=str(Path(os.sys.executable).parent)
)


def dcmjs_is_there():
    if shutil.which("node") is None:
        return False
    call = ["node", "-e", "require('dcmjs')"]
    return subprocess.run(call, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def thirteen(tmp_path_factory):
    """A phantom's thirteen organs, as a result of a DICOM series."""
    folder = tmp_path_factory.mktemp("ct")
    truth = write_phantom(folder, "axial", spacing_mm=(4.0, 4.0), thick=3.0)
    labels = np.asfortranarray(truth.transpose(2, 1, 0))
    return Segmentation(labels, open_series(folder), ORGANS)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Structures of a bundle, two of them with codes."""
    folder = tmp_path_factory.mktemp("ct")
    write_phantom(folder, "axial", spacing_mm=(4.0, 4.0), thick=3.0)
    bundle = own_bundle(tmp_path_factory.mktemp("bundle"))
    return viscera.segment(folder, bundle=bundle)


def world_and_values(image):
    """Voxels [i, j, k] and the affine to RAS of an image of SimpleITK."""
    import SimpleITK

    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1, 1, 1]) @ matrix, SimpleITK.GetArrayFromImage(image).T


@pytest.mark.parametrize("name", ["labels.nii.gz", "labels.seg.nrrd"])
@pytest.mark.parametrize("which", ["thirteen", "own"])
def test_itk_snaps_reader_sees_the_labels_where_they_are(tmp_path, request, which, name):
    import SimpleITK

    segmentation = request.getfixturevalue(which)
    segmentation.save(tmp_path / name)
    affine, values = world_and_values(SimpleITK.ReadImage(str(tmp_path / name)))
    np.testing.assert_array_equal(values, segmentation.labels)
    np.testing.assert_allclose(affine, segmentation.affine.matrix, atol=1e-4)


@pytest.mark.skipif(find_spec("itk") is None, reason="needs itk, which takes 1.5 GB")
def test_itk_itself_reads_both(tmp_path, thirteen):
    import itk

    for name in ("labels.nii.gz", "labels.seg.nrrd"):
        thirteen.save(tmp_path / name)
        image = itk.imread(str(tmp_path / name))
        np.testing.assert_array_equal(itk.array_from_image(image).T, thirteen.labels)


@pytest.mark.skipif(find_spec("slicerio") is None, reason="needs the extra 'peers'")
@pytest.mark.parametrize("which", ["thirteen", "own"])
def test_slicers_reader_sees_segments_colours_and_terms(tmp_path, request, which):
    import slicerio

    segmentation = request.getfixturevalue(which)
    segmentation.save(tmp_path / "labels.seg.nrrd")
    read = slicerio.read_segmentation(str(tmp_path / "labels.seg.nrrd"))
    segments = {segment["id"]: segment for segment in read["segments"]}
    present = [organ for organ in segmentation.organs if (segmentation.labels == organ.id).any()]
    assert set(segments) == {organ.name for organ in present}
    for organ in present:
        segment = segments[organ.name]
        assert segment["name"] == organ.title
        assert segment["labelValue"] == organ.id
        assert segment["color"] == pytest.approx([part / 255 for part in organ.colour], abs=1e-5)
        if organ.snomed:
            kind = segment["terminology"]["type"]
            assert (kind[1], kind[2]) == (organ.snomed, organ.structure)


@pytest.mark.skipif(SEGIMAGE is None, reason="needs dcmqi, of the extra 'peers'")
@pytest.mark.parametrize("which", ["thirteen", "own"])
def test_dcmqi_makes_the_labels_of_a_seg(tmp_path, request, which):
    import SimpleITK

    segmentation = request.getfixturevalue(which)
    if which == "own":
        segmentation = segmentation.only(["bone", "liver"])
    segmentation.save(tmp_path / "seg.dcm")
    call = [SEGIMAGE, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path,
            "--prefix", "out", "--outputType", "nii"]  # fmt: skip
    subprocess.run(list(map(str, call)), check=True, capture_output=True)
    described = json.loads((tmp_path / "out-meta.json").read_text())["segmentAttributes"]
    by_title = {organ.title: organ for organ in segmentation.organs}
    assert described
    for group in described:
        for segment in group:
            organ = by_title[segment["SegmentLabel"]]
            kind = segment["SegmentedPropertyTypeCodeSequence"]
            assert kind["CodeValue"] == organ.snomed
            image = SimpleITK.ReadImage(str(tmp_path / f"out-{segment['labelID']}.nii.gz"))
            affine, values = world_and_values(image)
            # It writes the slices from the first frame to the last; compare where voxels lie.
            found = np.argwhere(values > 0) @ affine[:3, :3].T + affine[:3, 3]
            mask = segmentation.labels == organ.id
            expected = np.argwhere(mask) @ segmentation.affine.matrix[:3, :3].T
            expected = expected + segmentation.affine.matrix[:3, 3]
            assert len(found) == len(expected)
            np.testing.assert_allclose(
                found[np.lexsort(found.round(2).T)],
                expected[np.lexsort(expected.round(2).T)],
                atol=0.02,
            )


@pytest.mark.skipif(not dcmjs_is_there(), reason="needs node, and dcmjs of npm on NODE_PATH")
def test_ohifs_parser_reads_a_seg(tmp_path, thirteen):
    thirteen.save(tmp_path / "seg.dcm")
    script = Path(__file__).parent / "peers" / "read_seg.cjs"
    run = subprocess.run(
        ["node", str(script), str(tmp_path / "seg.dcm")], check=True, capture_output=True, text=True
    )
    segments = {segment["label"]: segment for segment in json.loads(run.stdout)}
    for organ in ORGANS:
        segment = segments[organ.title]
        assert segment["code"] == organ.snomed
        assert segment["voxels"] == (thirteen.labels == organ.id).sum()
