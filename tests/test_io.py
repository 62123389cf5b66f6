"""Reading and writing, against nibabel and SimpleITK."""

import contextlib
import gzip
import io
import json
import tarfile
import zipfile

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

import viscera
from viscera.core.organs import ORGANS
from viscera.core.volume import Volume
from viscera.errors import InputError, OutputError, UsageError, command_line_wording, option
from viscera.evaluation.case import evaluate
from viscera.findings import Finding
from viscera.io.byte_reader import ByteReader
from viscera.io.label_scheme_files import read_label_scheme
from viscera.io.read import case_name, open_volume, read_volume
from viscera.io.seg_nrrd import write_seg_nrrd
from viscera.io.write import write_volume
from viscera.localise.ct_checks import check_grid

AFFINE = np.array([[-0.7, 0.1, 0, 80], [0.1, -0.7, 0, 90], [0, 0, 2.5, -300], [0, 0, 0, 1]])


@pytest.fixture
def hu():
    return np.random.default_rng(0).integers(-1024, 1500, (17, 13, 9)).astype(np.int16)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nifti_as_nibabel_reads_it(tmp_path, hu, name, kind):
    nib.save(kind(hu, AFFINE), tmp_path / name)
    volume = read_volume(tmp_path / name)
    expected = nib.load(tmp_path / name)
    np.testing.assert_array_equal(volume.data, np.asarray(expected.dataobj))
    np.testing.assert_array_equal(volume.affine.matrix, expected.affine)
    assert volume.data.dtype == np.int16
    assert volume.data.T.flags.c_contiguous
    assert volume.findings == ()


@pytest.mark.parametrize(("slope", "inter"), [(2.5, -1024.0), (1.0, -1024.0), (0.5, 0.25)])
def test_scaling_is_exact(tmp_path, slope, inter):
    stored = np.arange(0, 2400, dtype=np.uint16).reshape(20, 12, 10)
    image = nib.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(slope, inter)
    nib.save(image, tmp_path / "a.nii.gz")
    raw = bytearray(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))
    raw[112:120] = np.array([slope, inter], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "a.nii")
    expected = nib.load(tmp_path / "a.nii").get_fdata()
    np.testing.assert_array_equal(volume.data, expected)
    whole = float(slope).is_integer() and float(inter).is_integer()
    assert volume.data.dtype == (np.int16 if whole else np.float32)


def test_big_integers_stay_exact_or_become_float(tmp_path):
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), 40000, np.int32), AFFINE), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.data.dtype == np.float32
    assert (volume.data == 40000).all()


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", [sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkFloat64])
def test_itk_formats_as_simpleitk_writes_them(tmp_path, hu, suffix, compressed, kind):
    image = sitk.Cast(sitk.GetImageFromArray(np.abs(hu).T), kind)
    turn = np.deg2rad(15)
    image.SetDirection([np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0, 0, 0, 1])
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10, 20.5, 300))
    sitk.WriteImage(image, tmp_path / f"a.{suffix}", compressed)
    volume = read_volume(tmp_path / f"a.{suffix}")
    # The same image as NIfTI, read by nibabel, is the oracle of its geometry.
    sitk.WriteImage(image, tmp_path / "oracle.nii.gz")
    np.testing.assert_allclose(
        volume.affine.matrix, nib.load(tmp_path / "oracle.nii.gz").affine, atol=1e-4
    )
    np.testing.assert_array_equal(volume.data, np.abs(hu))


def test_nrrd_bomb_is_not_inflated(tmp_path):
    header = (
        "NRRD0004\ntype: int16\ndimension: 3\nspace: left-posterior-superior\n"
        "sizes: 2000 2000 2000\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
        "endian: little\nencoding: gzip\nspace origin: (0,0,0)\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + gzip.compress(bytes(1 << 20)))
    with pytest.raises(viscera.errors.ResourceError, match=r"memory_limit|in a file of"):
        read_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_itk_formats_cut_off(tmp_path, hu, suffix):
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(hu.T), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cut off"):
        read_volume(path)


def test_detached_and_colour_itk_files_are_refused(tmp_path, hu):
    sitk.WriteImage(sitk.GetImageFromArray(hu.T), tmp_path / "a.mhd")
    with pytest.raises(InputError, match="LOCAL"):
        read_volume(tmp_path / "a.mhd")
    colour = sitk.Compose([sitk.GetImageFromArray(hu.T)] * 3)
    sitk.WriteImage(colour, tmp_path / "b.mha")
    with pytest.raises(InputError, match="one channel"):
        read_volume(tmp_path / "b.mha")
    sitk.WriteImage(colour, tmp_path / "c.nrrd")
    with pytest.raises(InputError, match="3-D"):
        read_volume(tmp_path / "c.nrrd")


@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz"])
def test_labels_lie_on_the_sources_grid(tmp_path, small_phantom, name):
    volume, truth = small_phantom
    source = nib.Nifti1Image(volume.data, AFFINE)
    source.set_qform(AFFINE, code=2)
    source.set_sform(AFFINE, code=4)
    source.header["descrip"] = b"Mustermann^Max 1970-01-01"
    source.header["db_name"] = b"Mustermann"
    source.header["intent_name"] = b"Max"
    nib.save(source, tmp_path / "ct.nii.gz")
    read = read_volume(tmp_path / "ct.nii.gz")
    segmentation = viscera.Segmentation(truth, read, ORGANS)
    segmentation.save(str(tmp_path / name))
    made, given = nib.load(tmp_path / name), nib.load(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(np.asarray(made.dataobj), truth)
    np.testing.assert_array_equal(made.affine, given.affine)
    assert (int(made.header["qform_code"]), int(made.header["sform_code"])) == (2, 4)
    np.testing.assert_array_equal(made.get_qform(), given.get_qform())
    raw = (tmp_path / name).read_bytes()
    raw = gzip.decompress(raw) if name.endswith(".gz") else raw
    assert b"Mustermann" not in raw
    assert b"Max" not in raw
    table = made.header.extensions[0]
    assert table.get_code() == 30
    assert all(organ.name.encode() in table.content for organ in ORGANS)
    # SimpleITK sees the same grid.
    a, b = sitk.ReadImage(tmp_path / "ct.nii.gz"), sitk.ReadImage(tmp_path / name)
    assert (a.GetOrigin(), a.GetDirection(), a.GetSpacing()) == (
        b.GetOrigin(), b.GetDirection(), b.GetSpacing()
    )  # fmt: skip
    np.testing.assert_array_equal(sitk.GetArrayFromImage(b).T, truth)


def test_labels_of_an_nrrd_lie_where_it_lies(tmp_path, small_phantom):
    volume, truth = small_phantom
    image = sitk.GetImageFromArray(volume.data.T)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10, 20.5, 300))
    sitk.WriteImage(image, tmp_path / "ct.nrrd")
    segmentation = viscera.Segmentation(truth, read_volume(tmp_path / "ct.nrrd"), ORGANS)
    segmentation.save(tmp_path / "out.nii.gz")
    made = sitk.ReadImage(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(made.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(made.GetSpacing(), image.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(made.GetDirection(), image.GetDirection(), atol=1e-6)


def test_the_same_labels_give_the_same_bytes(tmp_path, small_phantom):
    volume, truth = small_phantom
    for name in ("a.nii.gz", "b.nii.gz"):
        viscera.Segmentation(truth, volume, ORGANS).save(str(tmp_path / name))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_masks_and_tables(tmp_path, small_phantom):
    from viscera.io.write import write_itksnap_labels, write_slicer_colours

    volume, truth = small_phantom
    segmentation = viscera.Segmentation(truth, volume, ORGANS)
    segmentation.save_masks(tmp_path)
    for organ in ORGANS:
        mask = np.asarray(nib.load(tmp_path / f"{organ.name}.nii.gz").dataobj)
        np.testing.assert_array_equal(mask, truth == organ.id)
    write_itksnap_labels(tmp_path / "itk.txt", ORGANS)
    rows = [
        r.split(None, 7) for r in (tmp_path / "itk.txt").read_text().splitlines() if r[0] != "#"
    ]
    assert [(int(r[0]), r[7]) for r in rows[1:]] == [(o.id, f'"{o.title}"') for o in ORGANS]
    write_slicer_colours(tmp_path / "slicer.ctbl", ORGANS)
    rows = [r.split() for r in (tmp_path / "slicer.ctbl").read_text().splitlines() if r[0] != "#"]
    assert [(int(r[0]), r[1]) for r in rows[1:]] == [(o.id, o.name) for o in ORGANS]
    assert all(len(r) == 6 for r in rows)


def test_volume_round_trip(tmp_path, small_phantom):
    volume, _ = small_phantom
    write_volume(tmp_path / "a.nii.gz", volume)
    again = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_allclose(again.affine.matrix, volume.affine.matrix, rtol=1e-6)


def test_nothing_is_overwritten_or_left_behind(tmp_path, small_phantom):
    volume, truth = small_phantom
    segmentation = viscera.Segmentation(truth, volume, ORGANS)
    segmentation.save(str(tmp_path / "a.nii.gz"))
    with pytest.raises(OutputError, match="overwrite=True"):
        segmentation.save(str(tmp_path / "a.nii.gz"))
    segmentation.save(str(tmp_path / "a.nii.gz"), overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


def test_a_failing_write_leaves_the_old_file(tmp_path):
    from viscera.runtime.atomic_files import atomic_write

    def fill_the_disk():
        with atomic_write(target, overwrite=True) as file:
            file.write(b"new")
            raise OSError(28, "No space left on device")

    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(OutputError, match="No space"):
        fill_the_disk()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_gzip_reader_reads_no_more_than_asked(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(50 << 20)))
    with ByteReader(tmp_path / "a.gz") as reader:
        assert len(reader.read(1000)) == 1000
        assert len(reader._pending) < 1 << 20


def test_case_names():
    from pathlib import Path

    names = {"FLARE_0001_0000.nii.gz": "FLARE_0001", "a.b.nii": "a.b", "x.seg.nrrd": "x",
             "c.hdr": "c", "plain": "plain", "UP.NII.GZ": "UP"}  # fmt: skip
    assert {n: case_name(Path(n)) for n in names} == names


def test_api_takes_images_and_arrays(small_phantom):
    volume, _ = small_phantom
    image = nib.Nifti1Image(volume.data, volume.affine.matrix)
    from_image = viscera.as_volume(image)
    from_array = viscera.as_volume(volume.data, volume.affine.matrix)
    np.testing.assert_array_equal(from_image.data, from_array.data)
    assert from_image.affine == from_array.affine
    with pytest.raises(InputError, match="affine="):
        viscera.as_volume(volume.data)
    with pytest.raises(InputError, match="three dimensions"):
        viscera.Volume.of(volume.data[0], np.eye(4))


def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch, small_phantom, nearest):
    monkeypatch.chdir(tmp_path)
    volume, truth = small_phantom
    segmentation = viscera.Segmentation(truth, volume, ORGANS)
    calls = [
        lambda: viscera.as_volume(""),
        lambda: viscera.as_label_map(""),
        lambda: viscera.segment("", bundle=nearest),
        lambda: viscera.segment_batch([""], "out"),
        lambda: viscera.segment_batch(["scan"], ""),
        lambda: viscera.evaluate("", ""),
        lambda: viscera.evaluate_cohort("", ""),
        lambda: viscera.read_bundle(""),
        lambda: segmentation.save(""),
        lambda: segmentation.save_masks(""),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="an empty path"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_given_is_used(tmp_path, small_phantom):
    volume, truth = small_phantom
    viscera.Segmentation(truth, volume, ORGANS).save(tmp_path / "labels.nii.gz")
    assert viscera.as_volume(volume, name="x").name == "x"
    assert viscera.as_label_map(tmp_path / "labels.nii.gz", name="x").name == "x"
    assert viscera.as_label_map(tmp_path / "labels.nii.gz").name == "labels"


def test_options_in_findings_are_spelled_for_python():
    finding = Finding("warning", "x", "low", f"try {option('hu_offset', '-1024')}")
    assert finding.hint == "try volume.shifted(-1024)"
    assert "volume.shifted(-1024)" in repr(finding)
    assert finding.text(command_line_wording) == "low; try --hu-offset -1024"


def test_findings_speak():
    finding = Finding("warning", "oblique", "the grid is turned", "look")
    assert str(finding) == "the grid is turned; look"
    assert finding.as_dict()["code"] == "oblique"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sizes: 8 8 8\n", ""),
        ("sizes: 8 8 8", "sizes: " + "9" * 400 + " 8 8"),
        ("space origin: (0,0,0)", "space origin: (0,0)"),
        ("type: int16", "type: block"),
        ("space: left-posterior-superior", "space: scanner-xyz"),
        ("(1,0,0) (0,1,0) (0,0,1)", "(1,0,0) (0,1,0) none"),
        ("(1,0,0) (0,1,0) (0,0,1)", "(1,0,0) (1,0,0) (0,0,1)"),
        ("(1,0,0) (0,1,0) (0,0,1)", "(nan,0,0) (0,1,0) (0,0,1)"),
        ("encoding: raw", "encoding: hex"),
        ("encoding: raw", "encoding: raw\nbyte skip: 4"),
        ("encoding: raw", "encoding: raw\nline skip: 1"),
        ("encoding: raw", "encoding: raw\ndata file: other.raw"),
        ("NRRD0004", "NRRD9999"),
    ],
)
def test_odd_nrrd_headers_are_refused(tmp_path, old, new):
    header = (
        "NRRD0004\ntype: int16\ndimension: 3\nspace: left-posterior-superior\nsizes: 8 8 8\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nendian: little\nencoding: raw\n"
        "space origin: (0,0,0)\n\n"
    )
    assert old in header
    (tmp_path / "a.nrrd").write_bytes(header.replace(old, new).encode() + bytes(1024))
    with pytest.raises(viscera.VisceraError, match=r"a\.nrrd"):
        read_volume(tmp_path / "a.nrrd")


def test_nrrd_byte_order_in_capitals(tmp_path):
    header = (
        "NRRD0004\ntype: int16_t\ndimension: 3\nspace: RAS\nsizes: 8 8 8\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nendian: BIG\nencoding: raw\n\n"
    )
    data = np.arange(512, dtype=">i2")
    (tmp_path / "a.nrrd").write_bytes(header.encode() + data.tobytes())
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nrrd").data.ravel(order="F"), data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("DimSize = 8 8 8", "DimSize = " + "9" * 3000 + " 8 8"),
        ("DimSize = 8 8 8", "DimSize = 8 8"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 5"),
        ("Offset = 0 0 0", "Offset = 7"),
        ("BinaryData = True", "BinaryData = False"),
        ("ElementType = MET_SHORT", "ElementType = MET_STRING"),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 0 0 0 0 0 0 0 0 0"),
        ("ElementDataFile = LOCAL", "ElementDataFile = other.raw"),
    ],
)
def test_odd_metaimage_headers_are_refused(tmp_path, old, new):
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\n"
        "DimSize = 8 8 8\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    assert old in header
    (tmp_path / "a.mha").write_bytes(header.replace(old, new).encode() + bytes(1024))
    with pytest.raises(viscera.VisceraError, match=r"a\.mha"):
        read_volume(tmp_path / "a.mha")


@given(st.lists(st.tuples(st.integers(0, 351), st.binary(min_size=1, max_size=8)), max_size=4))
@settings(max_examples=300)
def test_no_header_lets_a_foreign_error_escape(tmp_path_factory, edits):
    """Any bytes anywhere in a header: read, or refused with one of our own errors."""
    folder = tmp_path_factory.mktemp("fuzz")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), AFFINE), folder / "a.nii")
    raw = bytearray((folder / "a.nii").read_bytes())
    for at, new in edits:
        raw[at : at + len(new)] = new
    (folder / "a.nii").write_bytes(raw)
    with contextlib.suppress(viscera.VisceraError):
        read_volume(folder / "a.nii", memory_limit_mb=100)


def test_huge_floats_are_broken_voxels(tmp_path):
    data = np.zeros((8, 8, 8))
    data[1, 1, 1], data[2, 2, 2] = 1e300, 0.5
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.data[1, 1, 1] == -1024
    assert "1 voxels were NaN or infinite" in volume.findings[0].message


@pytest.mark.parametrize("edit", ["qfac 0", "quaternion too long", "half a turn too long"])
def test_a_qform_is_used_by_the_standards_rules(tmp_path, hu, edit):
    """SimpleITK reads them as nifti1.h says; nibabel refuses them. RAS would mirror the patient."""
    image = nib.Nifti1Image(hu, np.diag([-0.7, -0.8, 2.5, 1.0]))
    image.header.set_qform(image.affine, 1)
    image.header.set_sform(None, 0)
    image = nib.Nifti1Image(hu, None, image.header)
    image.header["qform_code"], image.header["sform_code"] = 1, 0
    header = image.header
    if edit == "qfac 0":
        header["pixdim"][0] = 0
        header["quatern_d"] = 1.0  # half a turn about z: LPS
    elif edit == "quaternion too long":
        header["quatern_b"], header["quatern_c"], header["quatern_d"] = 0.6000004, 0.8000005, 0
    else:
        header["quatern_b"], header["quatern_c"], header["quatern_d"] = 0, 0, 1.000001
    nib_bytes = header.binaryblock
    path = tmp_path / "scan.nii"
    path.write_bytes(nib_bytes + b"\0\0\0\0" + hu.tobytes("F"))
    volume = read_volume(path)
    theirs = sitk.ReadImage(path)
    lps = np.array(theirs.TransformIndexToPhysicalPoint((3, 2, 1)))
    ras = (volume.affine.matrix @ (3, 2, 1, 1))[:3]
    np.testing.assert_allclose(ras * (-1, -1, 1), lps, atol=1e-3)
    assert "orientation-assumed" not in [f.code for f in volume.findings]


@pytest.mark.parametrize("matrix", [np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])])
def test_a_scan_that_lost_its_geometry_is_named(hu, matrix):
    """SimpleITK writes the second where a volume was made from an array."""
    volume = viscera.as_volume(np.pad(hu, 12), matrix)
    assert "geometry-lost" in [f.code for f in check_grid(volume)]
    with pytest.raises(InputError, match="for want of another"):
        check_grid(volume, strict=True)
    moved = matrix.copy()
    moved[0, 3] = 3.5
    assert "geometry-lost" not in [
        f.code for f in check_grid(viscera.as_volume(np.pad(hu, 12), moved))
    ]


def test_images_in_memory_are_judged_as_files_are(tmp_path, hu):
    image = nib.Nifti1Image(hu[..., None], AFFINE)
    image.header["xyzt_units"] = 2
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    by_path = read_volume(tmp_path / "a.nii")
    by_image = viscera.as_volume(nib.load(tmp_path / "a.nii"))
    assert by_image.affine == by_path.affine
    assert [f.code for f in by_image.findings] == [f.code for f in by_path.findings]
    assert "orientation-assumed" in [f.code for f in by_image.findings]
    np.testing.assert_array_equal(by_image.data, by_path.data)
    other = nib.MGHImage(hu.astype(np.float32), AFFINE)
    volume = viscera.as_volume(other)
    assert volume.nifti_header is None
    np.testing.assert_allclose(volume.affine.matrix, AFFINE, atol=1e-4)


def test_scaled_images_in_memory(tmp_path):
    image = nib.Nifti1Image(np.linspace(-1000, 1000, 512).reshape(8, 8, 8), AFFINE)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii")
    by_image = viscera.as_volume(nib.load(tmp_path / "a.nii"))
    np.testing.assert_allclose(by_image.data, read_volume(tmp_path / "a.nii").data, atol=1e-3)
    assert by_image.findings == ()


def test_a_qform_with_negative_spacing_is_used(tmp_path, hu):
    upright = np.diag([-0.7, -0.8, 2.5, 1.0])
    image = nib.Nifti1Image(hu, None)
    image.set_qform(upright, code=1)
    nib.save(image, tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[80:84] = np.array([-0.7], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.affine.matrix, upright, atol=1e-4)


def test_nifti2_keeps_no_texts(tmp_path, small_phantom):
    volume, truth = small_phantom
    image = nib.Nifti2Image(volume.data, AFFINE)
    image.header["unused_str"] = b"DOE^JOHN"
    nib.save(image, tmp_path / "ct.nii")
    segmentation = viscera.Segmentation(truth, read_volume(tmp_path / "ct.nii"), ORGANS)
    segmentation.save(str(tmp_path / "l.nii"))
    assert b"DOE" not in (tmp_path / "l.nii").read_bytes()


def test_a_single_file_named_as_a_pairs_image(tmp_path, hu):
    nib.save(nib.Nifti1Image(hu, AFFINE), tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(tmp_path / "a.img")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.img").data, hu)


# What else a file may be


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("tar", "a tar archive; unpack it"),
        ("dicom.gz", "a DICOM file compressed by gzip; unpack it"),
        ("7z", "a 7z archive; unpack it"),
        ("xz", "an xz file; unpack it"),
        ("json", "a text file; name the CT itself"),
    ],
)
def test_what_is_packed_is_to_be_unpacked(tmp_path, kind, says):
    path = tmp_path / f"scan.{kind}"
    if kind == "tar":
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("study/ct.nii")
            info.size = 1000
            archive.addfile(info, io.BytesIO(bytes(1000)))
    elif kind == "dicom.gz":
        path.write_bytes(gzip.compress(bytes(128) + b"DICM" + bytes(500)))
    else:
        magic = {"7z": b"7z\xbc\xaf\x27\x1c", "xz": b"\xfd7zXZ\0", "json": b'{"a": 1}'}[kind]
        path.write_bytes(magic + bytes(600))
    with pytest.raises(InputError, match=says):
        read_volume(path)


@pytest.mark.hostile(67)
@pytest.mark.parametrize("method", ["bzip2", "LZMA", "Deflate64"])
def test_archives_of_other_compressions_are_to_be_unpacked(tmp_path, method):
    pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
    numbers = {
        "bzip2": zipfile.ZIP_BZIP2,
        "LZMA": zipfile.ZIP_LZMA,
        "Deflate64": zipfile.ZIP_STORED,
    }
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", numbers[method]) as archive:
        archive.writestr("a.dcm", bytes(128) + b"DICM" + bytes(100_000))
    if method == "Deflate64":
        content = bytearray(path.read_bytes())
        at = content.find(b"PK\1\2")
        content[at + 10 : at + 12] = (9).to_bytes(2, "little")
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"another compression \\({method}\\); unpack it"):
        open_volume(path)


def test_channels_first_are_named_and_zero_sizes_beyond_the_third_are_one(tmp_path):
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    data = np.random.default_rng(0).integers(-900, 900, (1, 30, 20, 10)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "first.nii")
    with pytest.raises(InputError, match="looks like channels first; save it with the three axes"):
        read_volume(tmp_path / "first.nii")
    nib.save(nib.Nifti1Image(data[0][..., None], affine), tmp_path / "zero.nii")
    content = bytearray((tmp_path / "zero.nii").read_bytes())
    content[48:50] = b"\0\0"  # dim[4]
    (tmp_path / "zero.nii").write_bytes(content)
    np.testing.assert_array_equal(read_volume(tmp_path / "zero.nii").data, data[0])


def test_a_metaimage_may_begin_with_a_long_comment(tmp_path):
    data = np.random.default_rng(0).integers(-900, 900, (9, 8, 7)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(data.T), str(tmp_path / "a.mha"))
    content = b"Comment = " + b"x" * 3000 + b"\n" + (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(content)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.mha").data, data)


@pytest.mark.hostile(22)
def test_values_beyond_sense_are_counted_on_the_streamed_path_too(tmp_path):
    """A slope that no CT has: what overflows is air, and it is said once, of the whole volume."""
    data = np.zeros((20, 20, 24), np.int16)
    data[:5] = 30_000
    image = nib.Nifti1Image(data, np.diag([-4.0, -4.0, 4.0, 1.0]))
    image.header.set_slope_inter(3e35, 0)
    nib.save(image, tmp_path / "a.nii.gz")
    read, opened = read_volume(tmp_path / "a.nii.gz"), open_volume(tmp_path / "a.nii.gz")
    assert not opened.is_resident
    expected = [str(f) for f in read.findings]
    assert any("2400 voxels were NaN or infinite" in text for text in expected)
    assert [str(f) for f in opened.read().findings] == expected
    np.testing.assert_array_equal(opened.data, read.data)
    data[:] = 30_000
    image = nib.Nifti1Image(data, image.affine)
    image.header.set_slope_inter(3e35, 0)
    nib.save(image, tmp_path / "b.nii.gz")
    with pytest.raises(InputError, match="9600 of 9600 voxels"):
        open_volume(tmp_path / "b.nii.gz").read()


def test_segments_are_what_their_file_calls_them(tmp_path):
    """3D Slicer numbers segments in the order in which somebody drew them."""
    labels = np.zeros((12, 10, 8), np.uint8, order="F")
    labels[:4], labels[6:9] = 1, 3  # liver and spleen, as we number them
    affine = np.diag([-4.0, -4.0, 4.0, 1.0])
    source = Volume.of(np.zeros((12, 10, 8), np.int16), affine)
    write_seg_nrrd(tmp_path / "ours.seg.nrrd", labels, source, ORGANS)
    values, header = nrrd.read(str(tmp_path / "ours.seg.nrrd"))
    for number in (0, 1):
        header[f"Segment{number}_LabelValue"] = {"1": "3", "3": "1"}[
            header[f"Segment{number}_LabelValue"]
        ]
    turned = np.array([0, 3, 0, 1], np.uint8)[values]
    nrrd.write(str(tmp_path / "slicer.seg.nrrd"), turned, header)
    for name, renamed in (("ours", False), ("slicer", True)):
        evaluation = evaluate(tmp_path / f"{name}.seg.nrrd", tmp_path / "ours.seg.nrrd")
        assert evaluation["liver"].dsc == evaluation["spleen"].dsc == 1.0
        assert ("segment-names" in [f.code for f in evaluation.findings]) == renamed


@pytest.mark.parametrize("content", [
    {"labels": {"background": 0, "whole": [1, 2], "liver": 1}, "regions_class_order": [2, 1]},
    {"labels": {"background": 0, "organs": [1, 2], "spleen": [2]}},
])  # fmt: skip
def test_overlapping_regions_are_named_as_such(tmp_path, content):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"regions of several labels .*one organ"):
        read_label_scheme(path)


@pytest.mark.parametrize("key", ["²", "1", "x" * 300, "\0"])
def test_odd_keys_of_a_mapping_end_in_a_sentence(tmp_path, key):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {key: 1}}))
    with pytest.raises(InputError):
        read_label_scheme(path)
