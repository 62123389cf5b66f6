"""DICOM SEG, RTSTRUCT, .seg.nrrd: read back by others they are the labels, on the right side."""

import shutil
import subprocess
import warnings

import numpy as np
import pytest

from tests.conftest import SHARED, needs_shared
from tests.dicom_series import STACKS, enhanced, write_phantom, write_series
from viscera.core.organs import ORGANS, ORGANS_BY_ID
from viscera.core.volume import Volume
from viscera.dicom.read.open_series import open_series
from viscera.dicom.write.contours import closed_contours
from viscera.dicom.write.references import labels_on_slices
from viscera.errors import InputError, UsageError
from viscera.io.dicom_files import write_dicom_seg, write_dicom_seg_labelmap
from viscera.segmentation import Segmentation

highdicom = pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
pydicom = pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
pytestmark = pytest.mark.filterwarnings("ignore")  # highdicom's and pydicom's own


@pytest.fixture(scope="module", params=list(STACKS))
def stack(request, tmp_path_factory):
    """A phantom scanned as each of the stacks: its folder and its true labels."""
    folder = tmp_path_factory.mktemp("ct")
    return request.param, folder, segmented(folder, request.param)


def segmented(folder, name="axial", edit=None):
    truth = write_phantom(folder, name, spacing_mm=(4.0, 4.0), thick=3.0, edit=edit)
    cosines, step = STACKS[name]
    along = 1 if np.dot(np.cross(*cosines), step) > 0 else -1  # the normal says what comes first
    labels = np.asfortranarray(truth[::along].transpose(2, 1, 0))
    volume = open_series(folder)
    assert volume.shape == labels.shape
    return Segmentation(labels, volume, ORGANS)


def check_sides(centre_x_lps):
    """By titles: the right one of a pair lies right of the left one, which is smaller in LPS."""
    assert centre_x_lps["Right kidney"] < centre_x_lps["Left kidney"] - 60
    assert centre_x_lps["Right adrenal"] < centre_x_lps["Left adrenal"] - 30
    assert centre_x_lps["Liver"] < centre_x_lps["Spleen"] - 60


@pytest.mark.parametrize("labelmap", [False, True])
def test_a_seg_read_by_highdicom_is_the_labels(tmp_path, stack, labelmap):
    _, _, segmentation = stack
    path = tmp_path / "seg.dcm"
    write = write_dicom_seg_labelmap if labelmap else write_dicom_seg
    write(path, segmentation.labels, segmentation.volume, segmentation.organs)
    seg = highdicom.seg.segread(path)
    slices = segmentation.volume.voxels.stack.slices
    pixels = seg.get_pixels_by_source_instance(
        [one.uid for one in slices], combine_segments=True, assert_missing_frames_are_empty=True
    )
    centres = {}
    for number in filter(None, seg.segment_numbers):
        described = seg.get_segment_description(number)
        organ = next(o for o in ORGANS if o.title == described.segment_label)
        mask = (pixels == number).transpose(2, 1, 0)
        np.testing.assert_array_equal(mask, segmentation.labels == organ.id)
        kind = described.segmented_property_type
        assert (kind.value, kind.meaning) == (organ.snomed, organ.structure)
        sides = getattr(kind, "SegmentedPropertyTypeModifierCodeSequence", [])
        assert [side.CodeMeaning.lower() for side in sides] == [organ.laterality] * bool(
            organ.laterality
        )
        centres[organ.title] = centre_by_frames(seg, number)
    assert len(centres) == 13
    check_sides(centres)


def centre_by_frames(seg, number):
    """Mean x of a segment, by what its frames say of their own place."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3))
    between_rows, between_columns = shared.PixelMeasuresSequence[0].PixelSpacing
    frames = np.atleast_3d(seg.pixel_array)
    found = []
    for groups, frame in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        if "SegmentIdentificationSequence" in groups:
            own = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
            at = np.argwhere(frame) if own else []
        else:
            at = np.argwhere(frame == number)
        if len(at):
            corner = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
            x = corner[0] + at[:, 1] * between_columns * cosines[0][0]
            found.append(x + at[:, 0] * between_rows * cosines[1][0])
    return float(np.concatenate(found).mean())


def filled(polygon, shape):
    """[row, column] whose centres a polygon of (column, row) holds, by the even-odd rule."""
    rows, columns = np.indices(shape)
    inside = np.zeros(shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        spans = (y0 > rows) != (y1 > rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            crosses = columns < (x1 - x0) * (rows - y0) / (y1 - y0) + x0
        inside ^= spans & crosses
    return inside


def test_an_rtstruct_drawn_by_the_standard_is_the_labels(tmp_path, stack):
    """Contours brought onto the slices they name, by these slices' own headers (C.7.6.2.1.1)."""
    _, folder, segmentation = stack
    path = tmp_path / "rtstruct.dcm"
    segmentation.save(path, output_type="dicom_rtstruct")
    data = pydicom.dcmread(path)
    sources = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, folder.iterdir())}
    slices = segmentation.volume.voxels.stack.slices
    number_of = {one.uid: n for n, one in enumerate(slices)}
    title_of = {roi.ROINumber: roi.ROIDescription for roi in data.StructureSetROISequence}
    centres = {}
    for region in data.ROIContourSequence:
        drawn = np.zeros(segmentation.labels.T.shape, dtype=bool)
        xs = []
        for contour in region.ContourSequence:
            points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            assert contour.NumberOfContourPoints == len(points)
            (image,) = contour.ContourImageSequence
            source = sources[image.ReferencedSOPInstanceUID]
            cosines = np.reshape(source.ImageOrientationPatient, (2, 3)).astype(float)
            away = points - np.array(source.ImagePositionPatient, dtype=float)
            assert np.abs(away @ np.cross(*cosines)).max() < 1e-3, "on its slice"
            spacing = np.array(source.PixelSpacing[::-1], dtype=float)
            plane = drawn[number_of[image.ReferencedSOPInstanceUID]]
            plane ^= filled(away @ cosines.T / spacing, plane.shape)
            xs.append(points[:, 0])
        organ = region.ReferencedROINumber
        own = np.equal(segmentation.labels.T, organ)
        np.testing.assert_array_equal(drawn, own)
        centres[title_of[organ]] = np.concatenate(xs).mean()
    assert len(centres) == 13
    check_sides(centres)


@pytest.mark.skipif(shutil.which("plastimatch") is None, reason="needs plastimatch")
def test_an_rtstruct_read_by_plastimatch_is_the_labels(tmp_path, stack):
    import SimpleITK

    name, folder, segmentation = stack
    if name == "tilted":
        pytest.skip("plastimatch knows no sheared grids")
    segmentation.save(tmp_path / "rtstruct.dcm", output_type="dicom_rtstruct")
    call = ["plastimatch", "convert", "--input", "rtstruct.dcm", "--referenced-ct", str(folder)]
    call += ["--output-prefix", "masks", "--prefix-format", "nrrd"]
    subprocess.run(call, cwd=tmp_path, check=True, capture_output=True)
    centres = {}
    for organ in ORGANS:
        image = SimpleITK.ReadImage(str(tmp_path / "masks" / f"{organ.name}.nrrd"))
        theirs = SimpleITK.GetArrayFromImage(image) > 0
        ours = np.equal(segmentation.labels.T, organ.id)
        assert theirs.shape == ours.shape
        dsc = 2 * (theirs & ours).sum() / (theirs.sum() + ours.sum())
        volume_ml = ours.sum() * segmentation.affine.voxel_ml
        assert dsc >= (0.97 if volume_ml > 5 else 0.9), organ.name
        middle = np.argwhere(theirs).mean(axis=0)[::-1]
        centres[organ.title] = image.TransformContinuousIndexToPhysicalPoint(middle.tolist())[0]
    check_sides(centres)


@pytest.mark.slow
@needs_shared
@pytest.mark.skipif(shutil.which("plastimatch") is None, reason="needs plastimatch")
def test_results_of_a_real_series_are_read_back(tmp_path):
    """Two slices are missing, the first is out of step: results lie on those there are."""
    import SimpleITK

    from viscera import Predictor

    folder = SHARED / "data" / "dicom" / "tcga_bc_a10x_2_missing"
    segmentation = Predictor("default", overlap=0.0).segment(folder)
    stack = segmentation.volume.voxels.stack
    expected = labels_on_slices(stack, segmentation.labels)
    segmentation.save(tmp_path / "seg.dcm")
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    pixels = seg.get_pixels_by_source_instance(
        [one.uid for one in stack.slices],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    number_of = {seg.get_segment_description(n).segment_label: n for n in seg.segment_numbers}
    segmentation.save(tmp_path / "rtstruct.dcm", output_type="dicom_rtstruct")
    call = ["plastimatch", "convert", "--input", "rtstruct.dcm", "--referenced-ct", str(folder)]
    call += ["--output-prefix", "masks", "--prefix-format", "nrrd"]
    subprocess.run(call, cwd=tmp_path, check=True, capture_output=True)
    for organ in (organ for organ in ORGANS if segmentation.volumes_ml()[organ.name]):
        mask = expected == organ.id
        np.testing.assert_array_equal(pixels == number_of[organ.title], mask)
        image = SimpleITK.ReadImage(str(tmp_path / "masks" / f"{organ.name}.nrrd"))
        theirs = SimpleITK.GetArrayFromImage(image) > 0
        both, all_ = 0, 0
        for plane, one in zip(mask, stack.slices, strict=True):
            k = (one.position_mm[2] - image.GetOrigin()[2]) / image.GetSpacing()[2]
            if abs(k - round(k)) < 0.05:  # plastimatch's grid misses the slice out of step
                drawn = theirs[round(k)]
                both, all_ = both + (drawn & plane).sum(), all_ + drawn.sum() + plane.sum()
        assert 2 * both / all_ >= 0.97, organ.name


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of dicom3tools")
@pytest.mark.parametrize("output_type", ["dicom_seg", "dicom_rtstruct"])
def test_dciodvfy_finds_no_error(tmp_path, stack, output_type):
    """It does not know the newer form of SEG."""
    stack[2].save(tmp_path / "out.dcm", output_type=output_type)
    done = subprocess.run(
        ["dciodvfy", str(tmp_path / "out.dcm")], capture_output=True, text=True, check=False
    )
    assert "Segmentation" in done.stderr or "RTStructureSet" in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("seed", range(8))
def test_contours_hold_the_pixels_and_no_others(seed):
    """Blobs with holes in them, islands in these, touching corners, the slice's edge."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).normal(size=(40, 50))
    mask = ndimage.gaussian_filter(noise, seed % 4 * 0.7) > 0
    drawn = np.zeros(mask.shape, dtype=bool)
    polygons = closed_contours(mask)
    for polygon in polygons:
        part = filled(polygon, mask.shape)
        assert not (drawn & part).any(), "no polygon lies over another"
        drawn |= part
    np.testing.assert_array_equal(drawn, mask)
    assert len(polygons) <= ndimage.label(mask, np.ones((3, 3)))[1] * 50
    assert closed_contours(np.zeros((4, 4), bool)) == []


def test_a_hole_is_joined_by_a_channel():
    mask = np.zeros((30, 30), dtype=bool)
    mask[3:27, 3:27] = True
    mask[8:12, 8:12] = mask[18:22, 15:20] = False
    (polygon,) = closed_contours(mask)
    np.testing.assert_array_equal(filled(polygon, mask.shape), mask)
    x, y = polygon.T
    area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    # Half-way lines cut a pixel's half off each outer corner's square, and add it at holes.
    assert area == pytest.approx(mask.sum(), abs=2)


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_results_of_a_multi_frame_image_lie_on_its_frames(tmp_path, order):
    """Whatever the frames' order in the file, each result lies where its frame lies."""
    single = segmented(tmp_path / "ct")
    count = single.labels.shape[2]
    frames = np.random.default_rng(1).permutation(count) if order == "shuffled" else range(count)
    enhanced(tmp_path / "ct", tmp_path / "enhanced.dcm", order=list(frames))
    volume = open_series(tmp_path / "enhanced.dcm")
    np.testing.assert_allclose(volume.affine.matrix, single.affine.matrix)
    np.testing.assert_array_equal(volume.data, single.volume.data)
    segmentation = Segmentation(single.labels, volume, ORGANS)
    segmentation.save(tmp_path / "seg.dcm", output_type="dicom_seg")
    segmentation.save(tmp_path / "rtstruct.dcm", output_type="dicom_rtstruct")

    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    pixels = seg.get_pixels_by_source_frame(
        volume.voxels.stack.slices[0].uid,
        [one.frame + 1 for one in volume.voxels.stack.slices],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    titles = [seg.get_segment_description(n).segment_label for n in seg.segment_numbers]
    assert titles == [organ.title for organ in ORGANS]
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), single.labels)

    source, data = map(pydicom.dcmread, (tmp_path / "enhanced.dcm", tmp_path / "rtstruct.dcm"))
    for contour in data.ROIContourSequence[0].ContourSequence:
        number = contour.ContourImageSequence[0].ReferencedFrameNumber
        place = source.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0]
        assert contour.ContourData[2] == pytest.approx(place.ImagePositionPatient[2], abs=1e-3)


def test_results_of_uneven_slices_lie_on_the_slices_themselves(tmp_path):
    """The volume is interpolated to an even grid; what goes back are the slices there were."""
    stored = np.random.default_rng(0).integers(-90, 90, (7, 12, 16)).astype(np.int16)
    places = [(-40, -30, 100 + z) for z in (0, 3, 6, 9, 13, 16, 19)]
    write_series(tmp_path / "ct", stored, positions_mm=places)
    volume = open_series(tmp_path / "ct")
    labels = np.zeros(volume.shape, dtype=np.uint8, order="F")
    labels[4:9, 3:8, 4:6] = 1  # at 112 and 115 mm; the nearest slices lie at 113 and 116
    segmentation = Segmentation(labels, volume, ORGANS)
    segmentation.save(tmp_path / "seg.dcm", output_type="dicom_seg")
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    places = [g.PlanePositionSequence[0].ImagePositionPatient[2]
              for g in seg.PerFrameFunctionalGroupsSequence]  # fmt: skip
    assert {float(z) for z in places} == {113, 116}
    assert seg.pixel_array.sum() == 2 * 5 * 5


@pytest.mark.parametrize("output_type", ["dicom_seg", "dicom_rtstruct"])
def test_what_was_looked_for_and_not_found_is_there_and_empty(tmp_path, output_type):
    write_series(tmp_path / "ct", np.zeros((3, 12, 16), np.int16))
    volume = open_series(tmp_path / "ct")
    blank = np.zeros(volume.shape, dtype=np.uint8, order="F")
    Segmentation(blank, volume, ORGANS).save(tmp_path / "out.dcm", output_type=output_type)
    data = pydicom.dcmread(tmp_path / "out.dcm")
    assert len(data.get("SegmentSequence") or data.StructureSetROISequence) == 13
    assert not any("ContourSequence" in roi for roi in data.get("ROIContourSequence", []))


@pytest.mark.parametrize("output_type", ["dicom_seg", "dicom_rtstruct"])
def test_dicom_results_need_a_series_with_uids(tmp_path, output_type):
    def refused(kind, match, folder=None, **blank):
        if folder is None:
            volume = Volume(np.zeros((4, 4, 4), np.int16), np.eye(4))
        else:

            def edit(data, k):
                data.update({keyword: value(k) for keyword, value in blank.items()})

            write_series(tmp_path / folder, np.zeros((3, 12, 16), np.int16), edit=edit)
            volume = open_series(tmp_path / folder)
        labels = np.zeros(volume.shape, np.uint8, order="F")
        with pytest.raises(kind, match=match):
            Segmentation(labels, volume, ORGANS).save(tmp_path / "out.dcm", output_type=output_type)

    refused(UsageError, "a DICOM series")
    refused(InputError, "found no SOPInstanceUID", "a", SOPInstanceUID=lambda _k: "")
    refused(InputError, "found no FrameOfReferenceUID", "b", FrameOfReferenceUID=lambda _k: "")
    refused(InputError, "slices of one SOPInstanceUID", "d", SOPInstanceUID=lambda _k: "1.2")
    refused(InputError, "3 frames of reference", "c", FrameOfReferenceUID=lambda k: f"1.2.{k + 1}")
    assert not (tmp_path / "out.dcm").exists()


ODD_HEADERS = {
    "dates of another form": {"PatientBirthDate": "03/02/1901", "StudyDate": "20240230"},
    "times of another form": {"StudyTime": "12:31:00"},
    "a year alone": {"PatientBirthDate": "1901"},
    "a sex in words": {"PatientSex": "female"},
    "no thickness": {"SliceThickness": None},
    "no character set": {"SpecificCharacterSet": ""},
    "two character sets": {"SpecificCharacterSet": ["", "ISO 2022 IR 87"]},
    "a second set": {"SpecificCharacterSet": ["ISO_IR 100", "ISO 2022 IR 87"]},
    "an unknown set": {"SpecificCharacterSet": "KLINGON"},
    "a name of many parts": {"PatientName": "A=B=C=D"},
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("output_type", ["dicom_seg", "dicom_rtstruct"])
@pytest.mark.parametrize("name", list(ODD_HEADERS))
def test_headers_that_break_their_form_make_results_all_the_same(
    tmp_path, name, output_type, recwarn, caplog
):
    """Scanners and anonymisers write such; what is said of it must not quote the patient."""

    def edit(data, _k):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for keyword, value in ODD_HEADERS[name].items():
                setattr(data, keyword, value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_series(tmp_path / "ct", np.zeros((3, 12, 16), np.int16), edit=edit)
    recwarn.clear()
    caplog.clear()
    volume = open_series(tmp_path / "ct")
    labels = np.ones(volume.shape, np.uint8, order="F")
    Segmentation(labels, volume, ORGANS).save(tmp_path / "out.dcm", output_type=output_type)
    assert not list(recwarn)
    assert not [each for each in caplog.records if each.name.startswith("highdicom")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = pydicom.dcmread(tmp_path / "out.dcm")
    assert made.PatientID == "SECRET-ID"
    assert made.PatientBirthDate in ("", "19010203")


def test_nothing_found_takes_one_frame_a_segment(tmp_path):
    write_series(tmp_path / "ct", np.zeros((30, 12, 16), np.int16))
    volume = open_series(tmp_path / "ct")
    blank = np.zeros(volume.shape, dtype=np.uint8, order="F")
    Segmentation(blank, volume, ORGANS).save(tmp_path / "out.dcm")
    assert pydicom.dcmread(tmp_path / "out.dcm").NumberOfFrames == 13


def test_several_multi_frame_images_take_no_seg(tmp_path):
    def renamed(data, k):
        data.SOPInstanceUID = f"1.2.9.{k + 1}"

    blank = np.zeros((3, 12, 16), np.int16)
    write_series(tmp_path / "a", blank)
    write_series(tmp_path / "b", blank, origin_mm=(-40, -30, 109), edit=renamed)
    (tmp_path / "ct").mkdir()
    enhanced(tmp_path / "a", tmp_path / "ct" / "a.dcm")
    enhanced(tmp_path / "b", tmp_path / "ct" / "b.dcm")
    volume = open_series(tmp_path / "ct")
    assert volume.shape == (16, 12, 6)
    segmentation = Segmentation(np.ones(volume.shape, np.uint8, order="F"), volume, ORGANS)
    with pytest.raises(InputError, match="2 multi-frame images"):
        segmentation.save(tmp_path / "seg.dcm", output_type="dicom_seg")
    segmentation.save(tmp_path / "rtstruct.dcm", output_type="dicom_rtstruct")


def test_codes_are_those_of_snomed():
    from pydicom.sr.codedict import codes

    named = {
        1: "Liver", 3: "Spleen", 4: "Pancreas", 5: "Aorta", 6: "InferiorVenaCava", 9: "Gallbladder",
        10: "Esophagus", 11: "Stomach", 12: "Duodenum", 2: "Kidney", 13: "Kidney",
        7: "AdrenalGland", 8: "AdrenalGland",
    }  # fmt: skip
    assert sorted(named) == sorted(ORGANS_BY_ID)
    for organ, keyword in named.items():
        assert getattr(codes.SCT, keyword).value == ORGANS_BY_ID[organ].snomed


def test_a_seg_nrrd_read_by_others_is_the_labels(tmp_path, stack):
    import SimpleITK

    name, _, segmentation = stack
    path = tmp_path / "organs.seg.nrrd"
    segmentation.save(path)
    if name != "tilted":  # ITK has no sheared grids
        image = SimpleITK.ReadImage(str(path))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).T, segmentation.labels)
        for index in ((0, 0, 0), (5, 7, 9)):
            lps = image.TransformIndexToPhysicalPoint(index)
            ras = (segmentation.affine.matrix @ [*index, 1])[:3]
            np.testing.assert_allclose(lps, ras * (-1, -1, 1), atol=1e-3)
    import nrrd

    header = nrrd.read_header(str(path))
    found = {header[f"Segment{n}_ID"]: header[f"Segment{n}_LabelValue"] for n in range(13)}
    assert found == {organ.name: str(organ.id) for organ in ORGANS}
    assert "SCT^64033007^Kidney~SCT^24028007^Right" in header["Segment1_Tags"]
    content = path.read_bytes()
    assert "secret" not in content[:4000].decode("latin1").lower()
    assert b"\n#" not in content.partition(b"\n\n")[0], "comments hold the time of writing"
