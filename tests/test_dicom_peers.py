"""DICOM in: HU and geometry are what SimpleITK and dcm2niix read, in every form of file."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SHARED
from tests.dicom_series import STACKS, enhanced, write_series
from tests.test_dicom import codes, stored
from viscera.dicom.read.pixels import PixelReader, to_hu_plane
from viscera.errors import InputError, NothingToSegmentError
from viscera.io.read import open_volume, read_volume

pydicom = pytest.importorskip("pydicom", reason="needs the extra 'dicom'")

SERIES = SHARED / "data" / "dicom"
needs_series = pytest.mark.skipif(
    not SERIES.is_dir(), reason="needs the series in ../shared, which are not in the repository"
)
needs_dcm2niix = pytest.mark.skipif(
    shutil.which("dcm2niix") is None, reason="needs dcm2niix, of Debian's package of that name"
)
OWN = Path(pydicom.__file__).parent / "data" / "test_files"


def by_itk(paths):
    """[i, j, k] and matrix to RAS, of files in this order."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    image = reader.Execute() if len(paths) > 1 else SimpleITK.ReadImage(str(paths[0]))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


def itk_order(folder):
    import SimpleITK

    return SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))


def by_dcm2niix(paths, tmp_path):
    """The volume that it makes of these files, axes nearest to RAS."""
    import nibabel as nib

    (tmp_path / "in").mkdir()
    for n, path in enumerate(paths):
        shutil.copy(path, tmp_path / "in" / f"{n}.dcm")
    call = ["dcm2niix", "-f", "out", "-o", str(tmp_path), str(tmp_path / "in")]
    subprocess.run(call, check=True, capture_output=True)
    return nib.as_closest_canonical(nib.load(tmp_path / "out.nii"))


def files_of(volume):
    return [one.file.path for one in volume.voxels.stack.slices]


def padded(hu):
    """What no tissue and no air can be is air, as ours has it."""
    return np.where(hu <= -1500, -1024, hu)


# Stacks


@pytest.mark.parametrize("name", [name for name in STACKS if name != "tilted"])
def test_a_stack_is_what_simpleitk_reads(tmp_path, name):
    cosines, step = STACKS[name]
    write_series(tmp_path, stored(), cosines=cosines, step_mm=step)
    volume = read_volume(tmp_path)
    hu, matrix = by_itk(itk_order(tmp_path))
    np.testing.assert_allclose(volume.affine.matrix, matrix, atol=1e-3)
    np.testing.assert_array_equal(volume.data, hu)
    assert codes(volume) == []


def test_every_voxel_lies_where_its_file_says(tmp_path):
    """By PS3.3 C.7.6.2's formula, for a stack whose gantry was tilted."""
    values = stored()
    step = (0.0, 0.8, 3.0)
    write_series(tmp_path, values, step_mm=step)
    volume = read_volume(tmp_path)
    assert volume.affine.shear_deg > 10
    for k, row, column in ((0, 0, 0), (4, 7, 3), (8, 11, 15)):
        lps = np.array([-40.0 + 2.0 * column, -30.0 + 1.5 * row, 100.0]) + np.multiply(step, k)
        index = np.linalg.solve(volume.affine.matrix, [-lps[0], -lps[1], lps[2], 1])[:3]
        np.testing.assert_allclose(index, np.rint(index), atol=1e-6)
        assert volume.data[tuple(np.rint(index).astype(int))] == values[k, row, column]


# Real files


@needs_series
def test_the_real_series_is_what_simpleitk_reads():
    volume = read_volume(SERIES / "totalsegmentator_jpeg2000_20slices")
    hu, matrix = by_itk(files_of(open_volume(SERIES / "totalsegmentator_jpeg2000_20slices")))
    np.testing.assert_allclose(volume.affine.matrix, matrix, atol=1e-3)
    np.testing.assert_array_equal(volume.data, hu)


@needs_series
@needs_dcm2niix
def test_the_real_series_is_what_dcm2niix_makes(tmp_path):
    import nibabel as nib

    volume = open_volume(SERIES / "totalsegmentator_jpeg2000_20slices")
    theirs = by_dcm2niix(files_of(volume), tmp_path)
    mine = nib.as_closest_canonical(nib.Nifti1Image(volume.data, volume.affine.matrix))
    np.testing.assert_allclose(mine.affine, theirs.affine, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(mine.dataobj), np.asarray(theirs.dataobj))


@needs_series
@needs_dcm2niix
def test_the_real_series_with_slices_missing_has_each_slice_where_it_is(tmp_path):
    """Two are missing, and the first lies 6 mm from the next, the others 8.

    SimpleITK takes such a stack for an even one, so that it reads slice by slice here; dcm2niix
    stacks the slices that there are.
    """
    volume = open_volume(SERIES / "tcga_bc_a10x_2_missing")
    assert codes(volume) == ["dicom-uneven"]
    slices = volume.voxels.stack.slices
    assert (len(slices), volume.shape[2]) == (34, 36)
    stacked = np.asarray(by_dcm2niix(files_of(volume), tmp_path).dataobj)[::-1, ::-1]
    data, found = volume.data, 0
    for number, one in enumerate(slices):
        hu, matrix = by_itk([one.file.path])
        with PixelReader() as pixels:
            plane = to_hu_plane(one, pixels.stored(one))[0].T
        np.testing.assert_array_equal(plane, padded(hu[..., 0]))
        np.testing.assert_array_equal(plane, padded(stacked[..., number]))
        index = np.linalg.solve(volume.affine.matrix, matrix[:, 3])[:3]
        np.testing.assert_allclose(volume.affine.matrix[:3, :2], matrix[:3, :2], atol=1e-3)
        if np.abs(index - np.rint(index)).max() < 1e-3:
            np.testing.assert_array_equal(data[..., round(index[2])], plane)
            found += 1
    assert found == 33, "all but the first lie on a plane of the volume"


ONE_SLICE = ("CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm")


@pytest.mark.parametrize("name", [*ONE_SLICE, "dicomdirtests/98892001/CT5N"])
def test_pydicoms_own_files_are_what_simpleitk_reads(name):
    volume = read_volume(OWN / name)
    hu, matrix = by_itk(files_of(open_volume(OWN / name)))
    np.testing.assert_array_equal(volume.data, padded(hu))
    # One slice is as thick as it says; others take the way to a next slice that is not there.
    axes = [0, 1, 3] if name in ONE_SLICE else [0, 1, 2, 3]
    np.testing.assert_allclose(volume.affine.matrix[:, axes], matrix[:, axes], atol=1e-3)


@needs_dcm2niix
@pytest.mark.parametrize("name", ["CT_small.dcm", "693_J2KI.dcm", "dicomdirtests/98892001/CT5N"])
def test_pydicoms_own_files_are_what_dcm2niix_makes(tmp_path, name):
    """It reads another value type out of J2K_pixelrep_mismatch than that file's own codestream."""
    import nibabel as nib

    volume = open_volume(OWN / name)
    theirs = by_dcm2niix(files_of(volume), tmp_path)
    mine = nib.as_closest_canonical(nib.Nifti1Image(volume.data, volume.affine.matrix))
    np.testing.assert_array_equal(np.asarray(mine.dataobj), padded(np.asarray(theirs.dataobj)))
    axes = [0, 1, 3] if name in ONE_SLICE else [0, 1, 2, 3]
    np.testing.assert_allclose(mine.affine[:, axes], theirs.affine[:, axes], atol=1e-3)


def test_pydicoms_folders_get_their_sentence(tmp_path):
    """Slices 200 mm apart; scouts alone; two patients; images without an image."""
    folders = OWN / "dicomdirtests"
    with pytest.raises(InputError, match="161 of 165 missing"):
        open_volume(folders / "77654033" / "CT2")
    with pytest.raises(NothingToSegmentError, match="scouts alone among 2 files"):
        open_volume(folders / "98892001" / "CT2N")
    for name in ("98892001/CT5N", "77654033/CT2"):
        shutil.copytree(folders / name, tmp_path / name)
    with pytest.raises(InputError, match="2 studies or patients"):
        open_volume(tmp_path)
    with pytest.raises(InputError, match="expected a CT image, found none"):
        open_volume(folders / "TINY_ALPHA")


# Transfer syntaxes


def by_gdcm(name):
    """Files rewritten by GDCM, which reads and writes them all on its own."""

    def rewrite(folder):
        gdcm = pytest.importorskip("gdcm", reason="needs python-gdcm of the extra 'dicom'")
        for path in folder.iterdir():
            reader = gdcm.ImageReader()
            reader.SetFileName(str(path))
            assert reader.Read()
            change = gdcm.ImageChangeTransferSyntax()
            change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
            change.SetInput(reader.GetImage())
            assert change.Change()
            writer = gdcm.ImageWriter()
            writer.SetFileName(str(path))
            writer.SetFile(reader.GetFile())
            writer.SetImage(change.GetOutput())
            assert writer.Write()

    return rewrite


def by_pydicom(name):
    def rewrite(folder):
        for path in folder.iterdir():
            data = pydicom.dcmread(path)
            uid = getattr(pydicom.uid, name)
            if uid.is_encapsulated:
                data.compress(uid)
            data.file_meta.TransferSyntaxUID = uid
            data.save_as(path)

    return rewrite


SYNTAXES = {
    "implicit": by_pydicom("ImplicitVRLittleEndian"),
    "deflated": by_pydicom("DeflatedExplicitVRLittleEndian"),
    "big endian": by_gdcm("ExplicitVRBigEndian"),
    "rle": by_pydicom("RLELossless"),
    "rle by gdcm": by_gdcm("RLELossless"),
    "jpeg lossless": by_gdcm("JPEGLosslessProcess14_1"),
    "jpeg lossless, process 14": by_gdcm("JPEGLosslessProcess14"),
    "jpeg-ls": by_gdcm("JPEGLSLossless"),
    "jpeg 2000": by_gdcm("JPEG2000Lossless"),
}


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
@pytest.mark.parametrize("name", list(SYNTAXES))
def test_every_syntax_gives_the_same_hu(tmp_path, name, kind):
    values = np.abs(stored((3, 40, 48), np.int16)) if kind is np.uint16 else stored((3, 40, 48))

    def edit(data, _k):
        data.BitsStored, data.HighBit, data.RescaleIntercept = 12, 11, -24

    write_series(tmp_path, values.astype(kind), edit=edit)
    SYNTAXES[name](tmp_path)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.data, values.transpose(2, 1, 0) - 24)
    np.testing.assert_array_equal(volume.data, by_itk(files_of(open_volume(tmp_path)))[0])


# Multi-frame


@pytest.mark.parametrize("syntax", [None, "rle", "jpeg-ls", "jpeg 2000"])
def test_an_enhanced_ct_is_what_its_single_frames_are(tmp_path, syntax):
    values = stored((7, 20, 24))
    write_series(tmp_path / "single", values)
    if syntax:
        SYNTAXES[syntax](tmp_path / "single")
    enhanced(tmp_path / "single", tmp_path / "ct.dcm", order=[3, 0, 6, 1, 5, 2, 4])
    single, multi = read_volume(tmp_path / "single"), read_volume(tmp_path / "ct.dcm")
    np.testing.assert_array_equal(multi.data, single.data)
    np.testing.assert_allclose(multi.affine.matrix, single.affine.matrix, atol=1e-9)


def test_an_enhanced_ct_is_what_simpleitk_reads(tmp_path):
    write_series(tmp_path / "single", stored((7, 20, 24)))
    enhanced(tmp_path / "single", tmp_path / "ct.dcm")
    volume = read_volume(tmp_path / "ct.dcm")
    hu, matrix = by_itk([tmp_path / "ct.dcm"])
    np.testing.assert_array_equal(volume.data, hu)
    np.testing.assert_allclose(volume.affine.matrix, matrix, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_a_converted_enhanced_ct_is_its_single_frames(tmp_path):
    """As highdicom converts them, with all that the standard wants of one."""
    legacy = pytest.importorskip("highdicom.legacy")
    written = write_series(tmp_path / "single", stored((7, 20, 24)))
    frames = [pydicom.dcmread(path) for path in written]
    for n, frame in enumerate(frames):
        for keyword in ("AccessionNumber", "StudyTime", "StudyID", "ReferringPhysicianName",
                        "PatientSex", "Manufacturer", "PositionReferenceIndicator"):  # fmt: skip
            setattr(frame, keyword, "")
        frame.InstanceNumber, frame.BurnedInAnnotation = n + 1, "NO"
    made = legacy.LegacyConvertedEnhancedCTImage(frames, "1.2.3.4", 5, "1.2.3.4.5", 1)
    made.save_as(tmp_path / "ct.dcm")
    single, multi = read_volume(tmp_path / "single"), read_volume(tmp_path / "ct.dcm")
    np.testing.assert_array_equal(multi.data, single.data)
    np.testing.assert_allclose(multi.affine.matrix, single.affine.matrix, atol=1e-6)
