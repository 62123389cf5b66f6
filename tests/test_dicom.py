"""DICOM in: which series is taken, what its numbers mean, and what bad series get."""

import gzip
import json
import re
import shutil
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest

from tests.dicom_series import CORONAL, write_series
from viscera.dicom.deidentify import deidentified_name
from viscera.dicom.read.decoder_process import DecoderDiedError, DecoderProcess
from viscera.dicom.read.files import SourceFile, begins_as_dicom
from viscera.errors import InputError, NothingToSegmentError, ResourceError, VisceraError
from viscera.io.case_names import result_name
from viscera.io.read import open_volume, read_volume

pydicom = pytest.importorskip("pydicom", reason="needs the extra 'dicom'")


RLE = "1.2.840.10008.1.2.5"


def stored(shape=(9, 12, 16), kind=np.int16):
    return np.random.default_rng(0).integers(-900, 900, shape).astype(kind)


def codes(volume):
    return [finding.code for finding in volume.findings]


# Pixels


def test_numbers_are_rescaled_slice_by_slice_and_padding_is_air(tmp_path):
    values = stored(kind=np.uint16) % 800
    values[:, 0, 0] = 63000

    def edit(data, k):
        data.RescaleIntercept = -1000 - k
        data.PixelPaddingValue = 63000

    write_series(tmp_path, values, edit=edit)
    volume = read_volume(tmp_path)
    expected = values.astype(int) - 1000 - np.arange(len(values))[:, None, None]
    expected[:, 0, 0] = -1024
    np.testing.assert_array_equal(volume.data, expected.transpose(2, 1, 0))


def test_bits_above_the_stored_ones_are_an_overlay(tmp_path):
    values = stored(kind=np.uint16) % 4096

    def edit(data, _k):
        data.BitsStored, data.HighBit = 12, 11
        data.PixelData = (values[_k] | 0x8000).tobytes()

    write_series(tmp_path, values, edit=edit)
    np.testing.assert_array_equal(read_volume(tmp_path).data, values.transpose(2, 1, 0))


def test_monochrome1_is_inverted(tmp_path):
    values = stored(kind=np.uint16) % 4096

    def edit(data, _k):
        data.BitsStored, data.HighBit, data.PhotometricInterpretation = 12, 11, "MONOCHROME1"
        data.RescaleIntercept = -1024

    write_series(tmp_path, values, edit=edit)
    volume = read_volume(tmp_path)
    expected = 4095 - values.transpose(2, 1, 0).astype(int) - 1024
    np.testing.assert_array_equal(volume.data, expected)
    assert "dicom-inverted" in codes(volume)


# Which series, and what is wrong with it


def test_the_axial_original_with_most_slices_is_taken(tmp_path):
    write_series(tmp_path / "a", stored((5, 12, 16)), uid="1.2.3.1")
    write_series(tmp_path / "b", stored((9, 12, 16)), uid="1.2.3.2")
    write_series(tmp_path / "c", stored((20, 12, 16)), uid="1.2.3.3", cosines=CORONAL,
                 step_mm=(0, 3.0, 0))  # fmt: skip

    def derived(data, _k):
        data.ImageType = ["DERIVED", "SECONDARY", "MIP"]

    write_series(tmp_path / "d", stored((30, 12, 16)), uid="1.2.3.4", edit=derived)
    (tmp_path / "readme.txt").write_text("not DICOM")
    volume = open_volume(tmp_path)
    assert volume.shape == (16, 12, 9)
    assert codes(volume) == ["dicom-series", "dicom-others"]
    assert open_volume(tmp_path, series="1.2.3.3").shape == (16, 12, 20)
    with pytest.raises(InputError, match="expected a CT series 9"):
        open_volume(tmp_path, series="9")
    done = subprocess.run(
        [sys.executable, "-m", "viscera", "info", str(tmp_path), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    listed = json.loads(done.stdout)
    assert listed["taken"] == "1.2.3.2"
    assert [one["slices"] for one in listed["series"]] == [9, 5, 30, 20]
    assert "SECRET" not in done.stdout.upper()


def test_alike_series_are_refused_when_strict(tmp_path):
    write_series(tmp_path / "a", stored(), uid="1.2.3.1")
    write_series(tmp_path / "b", stored(), uid="1.2.3.2")
    assert codes(open_volume(tmp_path)) == ["dicom-series"]
    with pytest.raises(NothingToSegmentError, match="clearly the likeliest"):
        open_volume(tmp_path, strict=True)


def test_two_spellings_of_a_name_are_one_patient(tmp_path):
    """Scanner and archive pad and capitalise names in their own ways."""
    names = iter(["Secret^Name", "Secret^Name^^^", "SECRET^NAME ", "Secret^Name=X"] * 9)

    def edit(data, _k):
        data.PatientName, data.PatientID = next(names), ""

    write_series(tmp_path, stored(), edit=edit)
    assert open_volume(tmp_path).shape[2] == len(stored())


def test_several_patients_are_refused(tmp_path):
    def other(data, _k):
        data.PatientID = "2"

    write_series(tmp_path / "a", stored(), uid="1.2.3.1")
    write_series(tmp_path / "b", stored(), uid="1.2.3.2", edit=other)
    with pytest.raises(InputError, match="2 studies or patients"):
        open_volume(tmp_path)
    assert open_volume(tmp_path, series="1.2.3.2").shape == (16, 12, 9)


@pytest.mark.parametrize("blank", [True, False])
def test_patients_of_one_uid_are_never_one_series(tmp_path, blank):
    """As anonymisers leave them that blank every UID, or give all the same one."""

    def of(patient):
        def edit(data, _k):
            data.PatientID = patient
            if blank:
                data.StudyInstanceUID = data.SeriesInstanceUID = ""

        return edit

    write_series(tmp_path / "a", stored((5, 12, 16)), edit=of("1"))
    write_series(tmp_path / "b", stored((5, 12, 16)), edit=of("2"), origin_mm=(-40, -30, 115))
    with pytest.raises(InputError, match="2 studies or patients"):
        open_volume(tmp_path)
    with pytest.raises(InputError, match="expected one series of this UID, found 2"):
        open_volume(tmp_path, series="" if blank else "1.2.826.0.1.3680043.8.498.1")


def test_a_scout_within_the_series_is_left_out(tmp_path):
    def edit(data, k):
        if k == 0:
            data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    write_series(tmp_path, stored(), edit=edit)
    volume = open_volume(tmp_path)
    assert volume.shape == (16, 12, 8)
    assert codes(volume) == ["dicom-scouts"]


def test_a_slice_that_stands_there_twice_is_taken_once(tmp_path):
    written = write_series(tmp_path, stored())
    shutil.copy(written[3], tmp_path / "copy")
    volume = read_volume(tmp_path)
    assert volume.shape == (16, 12, 9)
    assert codes(volume) == ["dicom-duplicates"]
    data = pydicom.dcmread(written[3])
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(tmp_path / "copy")
    with pytest.raises(InputError, match="one picture at each position"):
        open_volume(tmp_path)


def test_of_two_copies_the_good_one_is_kept_when_bad_slices_are_allowed(tmp_path):
    values = stored()
    written = write_series(tmp_path, values)
    content = written[3].read_bytes()
    for name in ("IM", "zz"):  # before and behind the good one
        (tmp_path / name).write_bytes(content[:-50])
    with pytest.raises(InputError, match="cut off"):
        open_volume(tmp_path)
    volume = open_volume(tmp_path, allow_bad_slices=True)
    np.testing.assert_array_equal(volume.data, values.transpose(2, 1, 0))


@pytest.mark.parametrize("spacing", [0.625, 1.25, 2.5, 0.9])
def test_positions_that_were_rounded_are_even(tmp_path, spacing):
    values = stored((40, 12, 16))
    places = [(-40, -30, round(100 + spacing * k, 1)) for k in range(40)]
    write_series(tmp_path, values, positions_mm=places)
    volume = open_volume(tmp_path)
    assert codes(volume) == []
    np.testing.assert_array_equal(volume.data, values.transpose(2, 1, 0))
    assert volume.affine.spacing_mm[2] == pytest.approx(spacing, abs=0.003)


def test_up_to_two_missing_slices_are_interpolated(tmp_path):
    values = stored((12, 12, 16))
    written = write_series(tmp_path, values, edit=lambda _d, k: k not in (4, 7))
    assert len(written) == 10
    volume = read_volume(tmp_path)
    assert volume.shape == (16, 12, 12)
    assert codes(volume) == ["dicom-gap"]
    between = np.rint((values[3].astype(float) + values[5]) / 2)
    np.testing.assert_array_equal(volume.data[..., 4], between.T)
    np.testing.assert_array_equal(volume.data[..., 6], values[6].T)
    write_series(tmp_path / "more", values, edit=lambda _d, k: k not in (4, 7, 8), uid="1.2.3")
    with pytest.raises(InputError, match="3 of 12 missing"):
        open_volume(tmp_path / "more")


def test_uneven_slices_are_interpolated(tmp_path):
    along = [0, 3, 6, 9, 13.5, 16.5, 19.5]
    places = [(-40, -30, 100 + z) for z in along]
    write_series(tmp_path, stored((7, 12, 16)), positions_mm=places)
    volume = read_volume(tmp_path)
    assert codes(volume) == ["dicom-uneven"]
    assert volume.affine.spacing_mm[2] == pytest.approx(3)
    assert volume.shape[2] == 8


def without(name):
    def edit(data, k):
        if k == 2:
            delattr(data, name)

    return edit


@pytest.mark.parametrize("name", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_slices_without_a_place_are_refused(tmp_path, name):
    write_series(tmp_path, stored(), edit=without(name))
    with pytest.raises(InputError, match="to place slices"):
        open_volume(tmp_path)


def test_slices_of_several_directions_are_refused(tmp_path):
    def edit(data, k):
        if k == 5:
            data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    write_series(tmp_path, stored(), edit=edit)
    with pytest.raises(InputError, match="several in one series"):
        open_volume(tmp_path)


def test_the_detectors_spacing_serves_for_want_of_another(tmp_path):
    def edit(data, _k):
        del data.PixelSpacing
        data.ImagerPixelSpacing = [1.5, 2.0]

    write_series(tmp_path / "a", stored(), edit=edit)
    assert codes(open_volume(tmp_path / "a")) == ["dicom-imager-spacing"]
    write_series(tmp_path / "b", stored(), edit=without("PixelSpacing"))
    with pytest.raises(InputError, match="PixelSpacing"):
        open_volume(tmp_path / "b")


def set_to(**values):
    def edit(data, _k):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for keyword, value in values.items():
                setattr(data, keyword, value)

    return edit


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("RescaleSlope", "1e30"), ("RescaleIntercept", "1e30"), ("RescaleSlope", "1.5e300")],
)
def test_numbers_beyond_sense_are_refused(tmp_path, keyword, value):
    write_series(tmp_path, stored(), edit=set_to(**{keyword: value}))
    with pytest.raises(InputError, match="a finite RescaleSlope"):
        open_volume(tmp_path)


def test_positions_beyond_sense_are_none(tmp_path):
    far = set_to(ImagePositionPatient=["0", "0", "1e308"])
    write_series(tmp_path, stored((2, 12, 16)), edit=far)
    with pytest.raises(InputError, match="to place slices"):
        open_volume(tmp_path)


def test_what_one_can_do_without_stops_nobody(tmp_path):
    given = set_to(SliceThickness="1.25", ImagerPixelSpacing=["0.5", "0.5"])
    for path in write_series(tmp_path, stored(), edit=given):
        content = path.read_bytes().replace(b"1.25", b"1,25").replace(b"0.5\\0.5", b"ab.\\cd.")
        path.write_bytes(content)
    (tmp_path / "index").write_bytes(b"\x02\0\0\0\x10\0\0\0" + bytes(400))  # begins as group 2 does
    volume = open_volume(tmp_path)
    assert volume.shape == (16, 12, 9)
    assert codes(volume) == ["dicom-others"]


def test_there_is_no_fourth_dimension(tmp_path):
    write_series(tmp_path, stored())
    with pytest.raises(InputError, match="4-D NIfTI for volume_index"):
        read_volume(tmp_path, volume_index=0)


def test_a_slice_that_is_cut_off_is_refused_or_filled(tmp_path):
    values = stored()
    written = write_series(tmp_path, values)
    written[4].write_bytes(written[4].read_bytes()[:-100])
    with pytest.raises(InputError, match="cut off"):
        read_volume(tmp_path)
    volume = open_volume(tmp_path, allow_bad_slices=True)
    slabs = list(volume.slabs())
    data = np.concatenate([slab.hu for slab in slabs], axis=2)
    between = np.rint((values[3].astype(float) + values[5]) / 2)
    np.testing.assert_array_equal(data[..., 4], between.T)
    assert [f.code for slab in slabs for f in slab.findings] == ["dicom-bad-slices"]


@pytest.mark.hostile(68)
def test_a_file_that_still_changes_is_refused(tmp_path):
    written = write_series(tmp_path, stored())
    volume = open_volume(tmp_path)
    written[4].write_bytes(written[4].read_bytes() + b"\0\0")
    with pytest.raises(InputError, match="changed while it was read"):
        _ = volume.data


def test_a_program_in_the_preamble_is_noted(tmp_path):
    written = write_series(tmp_path, stored())
    written[0].write_bytes(b"MZ" + written[0].read_bytes()[2:])
    assert codes(open_volume(tmp_path)) == ["dicom-preamble"]


def test_links_to_files_are_read_and_those_to_folders_are_not(tmp_path):
    written = write_series(tmp_path / "store", stored())
    (tmp_path / "study").mkdir()
    for path in written:
        (tmp_path / "study" / path.name).symlink_to(path)
    (tmp_path / "study" / "again").symlink_to(tmp_path / "study")
    (tmp_path / "study" / "gone").symlink_to(tmp_path / "nowhere")
    volume = open_volume(tmp_path / "study")
    assert volume.shape == (16, 12, 9)
    assert codes(volume) == []


# Archives


def test_an_archive_is_read_where_it_lies(tmp_path):
    values = stored()
    written = write_series(tmp_path / "a", values)
    with zipfile.ZipFile(tmp_path / "case.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in written:
            archive.write(path, f"study/{path.name}")
    before = sorted(tmp_path.rglob("*"))
    volume = read_volume(tmp_path / "case.zip")
    np.testing.assert_array_equal(volume.data, values.transpose(2, 1, 0))
    assert volume.name == "case"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../out", "/etc/out", "C:/out"])
def test_an_archive_that_leads_out_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "case.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(InputError, match="a path outside it"):
        open_volume(tmp_path / "case.zip")


def test_entries_of_one_name_are_two_files(tmp_path):
    values = stored()
    written = write_series(tmp_path / "a", values)
    with zipfile.ZipFile(tmp_path / "case.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own
        for path in written:
            archive.writestr("IM", path.read_bytes())
    np.testing.assert_array_equal(
        read_volume(tmp_path / "case.zip").data, values.transpose(2, 1, 0)
    )


def test_an_archive_that_bursts_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "case.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(400_000_000))
    with pytest.raises(ResourceError, match="inflates by at most"):
        open_volume(tmp_path / "case.zip")


def test_a_folder_without_ct_has_nothing_to_segment(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(NothingToSegmentError, match="none among 1 files"):
        open_volume(tmp_path)


def test_what_begins_as_dicom():
    assert begins_as_dicom(bytes(128) + b"DICM\x02\0\0\0")
    assert begins_as_dicom(b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100" + bytes(200))
    assert begins_as_dicom(b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + bytes(200))
    assert not begins_as_dicom(b"PK\x03\x04" + bytes(200))
    assert not begins_as_dicom(b"")


# Damage


def test_damage_of_any_kind_gets_a_sentence_or_is_read(tmp_path):
    """Two hundred damaged files: nothing but errors of our own ever comes out."""
    from tests.test_dicom_peers import SYNTAXES

    values, random = stored((2, 10, 12)), np.random.default_rng(5)
    sources = {}
    for name in ("plain", "implicit", "deflated", "rle"):
        written = write_series(tmp_path / name, values)
        if name != "plain":
            SYNTAXES[name](tmp_path / name)
        sources[name] = [path.read_bytes() for path in written]
    folder, refused = tmp_path / "damaged", 0
    folder.mkdir()
    for n in range(200):
        # Few that are compressed: a process that decodes takes long to start.
        good, bad = sources["rle" if n % 50 == 0 else ("plain", "implicit", "deflated")[n % 3]]
        content = bytearray(bad)
        for _ in range(random.integers(1, 6)):
            at = int(random.integers(100, len(content)))
            if random.random() < 0.2:
                del content[at : at + int(random.integers(1, 40))]
            else:
                content[at : at + 2] = random.bytes(2)
        (folder / "good").write_bytes(good)
        (folder / "bad").write_bytes(content)
        try:
            for _ in open_volume(folder, allow_bad_slices=n % 3 == 0).slabs():
                pass
        except VisceraError:
            refused += 1
    assert 20 < refused < 200


def dying(decoder):
    """A process that reads what it is asked for and ends."""
    code = "import sys; sys.stdin.readline()"
    decoder._process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    return decoder._process


def test_nothing_in_the_current_folder_is_run(tmp_path, monkeypatch):
    """Where a study lies, files may lie that are called as Python's modules are."""
    write_series(tmp_path / "study", stored(), edit=lambda data, _k: data.compress(RLE))
    planted = f"open({str(tmp_path / 'ran')!r}, 'w').close()"
    for name in ("json", "numpy", "pydicom", "viscera"):
        (tmp_path / "study" / f"{name}.py").write_text(planted)
    monkeypatch.chdir(tmp_path / "study")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert read_volume(tmp_path / "study").shape == (16, 12, 9)
    assert not (tmp_path / "ran").exists()


def test_a_decoder_that_dies_takes_nobody_with_it(tmp_path, monkeypatch):
    written = write_series(tmp_path, stored(), edit=lambda data, _k: data.compress(RLE))
    decoder, item = DecoderProcess(), SourceFile(written[0])
    first = decoder.decode(item, 0)
    decoder._process.kill()
    decoder._process.wait()
    # What ended it was not this slice: a fresh process decodes it.
    np.testing.assert_array_equal(decoder.decode(item, 0), first)
    monkeypatch.setattr(DecoderProcess, "_started", lambda self: dying(self))
    decoder.close()
    with pytest.raises(DecoderDiedError):
        decoder.decode(item, 0)
    monkeypatch.undo()
    bad = tmp_path / "bad"
    bad.write_bytes(written[1].read_bytes()[:200])
    damaged = SourceFile(bad)
    for _ in range(2):  # never the pixels of the file before
        with pytest.raises(ValueError, match="Error"):
            decoder.decode(damaged, 0)
    process = decoder._process
    decoder.close()
    assert process.poll() is not None


# Strictness, memory, findings


def test_strict_refuses_what_would_be_assumed(tmp_path):
    write_series(tmp_path, stored(), edit=lambda _d, k: k != 4)
    assert codes(open_volume(tmp_path)) == ["dicom-gap"]
    with pytest.raises(InputError, match="assumed, found 1 of 9 slices are missing"):
        open_volume(tmp_path, strict=True)


def test_a_series_that_outgrows_memory_is_not_read(tmp_path):
    write_series(tmp_path, stored())
    assert open_volume(tmp_path, memory_limit_mb=0.001).shape == (16, 12, 9), "only opened"
    with pytest.raises(ResourceError, match="MB of voxels"):
        read_volume(tmp_path, memory_limit_mb=0.001)


def test_what_the_pixels_tell_is_found_when_they_are_read(tmp_path):
    values = stored()
    values[0, :3] = -3024
    write_series(tmp_path, values)
    assert codes(open_volume(tmp_path)) == []
    volume = read_volume(tmp_path)
    assert codes(volume) == ["dicom-padding"]
    assert (volume.data[:, :3, 0] == -1024).all()


# The whole way: nothing of the patient, but on the user's word


def patient(folder, small_phantom, name="study", edit=None):
    """The small phantom as the series of a patient whose data would be noticed anywhere."""
    ct = small_phantom[0]
    values = np.ascontiguousarray(ct.data.transpose(2, 1, 0))
    spacing = ct.affine.spacing_mm
    write_series(folder / name, values, spacing_mm=(spacing[1], spacing[0]),
                 step_mm=(0, 0, spacing[2]), edit=edit)  # fmt: skip
    return folder / name


def viscera(*words, cwd=None):
    call = [sys.executable, "-m", "viscera", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=False, cwd=cwd)


EVERYTHING = ("--report", "-s", "-p", "--masks", "--tables", "-v", "--json",
              "-ot", "dicom_seg", "-ot", "dicom_rtstruct", "-ot", "seg_nrrd")  # fmt: skip
TELLING = ("secret", "19010203", "19910203")


@pytest.mark.hostile(69)
@pytest.mark.slow
def test_a_series_is_segmented_and_nothing_of_the_patient_is_told(tmp_path, nearest, small_phantom):
    study = patient(tmp_path, small_phantom)
    call = ["segment", study, "-b", nearest, "-o", tmp_path / "out" / "labels.nii.gz", *EVERYTHING]
    done = viscera(*call)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["volumes_ml"]["liver"] > 500
    texts = [done.stdout, done.stderr]
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.suffix != ".dcm":  # whose standard wants the patient
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            texts.append(content.decode("latin-1"))
    assert len(texts) == 16
    for text in texts:
        assert not any(word in text.lower() for word in TELLING)
    for name in ("labels_seg.dcm", "labels_rtstruct.dcm"):
        made = pydicom.dcmread(tmp_path / "out" / name)
        assert (made.PatientID, made.PatientName) == ("SECRET-ID", "Secret^Name")
        assert made.StudyInstanceUID == "1.2.826.0.1.3680043.8.498.9"
        assert made.preamble == bytes(128), "nothing that stood before the source is carried on"
    assert viscera(*call).returncode == 5, "results stand there"


@pytest.mark.hostile(69)
def test_results_are_not_called_after_the_patient(tmp_path, nearest, small_phantom):
    study = patient(tmp_path, small_phantom, name="Secret_Name 1901")
    call = ["segment", study, "-b", nearest, "--report"]
    done = viscera(*call, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (report,) = tmp_path.glob("*_report.json")
    assert re.fullmatch(r"ct_[0-9a-f]{8}_labels_report.json", report.name)
    assert "secret" not in (done.stderr + report.read_text()).lower()
    assert "--keep-phi" in done.stderr
    done = viscera(*call, "--keep-phi", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "Secret_Name 1901_labels_report.json").read_text())
    assert told["case"] == "Secret_Name 1901"
    assert told["patient"]["PatientName"] == "Secret^Name"
    assert told["patient"]["StudyDate"] == "19910203"


@pytest.mark.hostile(69)
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("LI_NA_CT", True), ("Secret", True), ("dob 1901-02-03", True), ("study_19910203", True),
        ("4711ct", True), ("scan_7", False), ("CT abdomen", False), ("linear", False),
    ],
)  # fmt: skip
def test_what_tells_a_patient(tmp_path, name, told):
    names = {"PatientName": "Li^Na^Secret", "PatientID": "47-11"}
    write_series(tmp_path / name, stored((2, 12, 16)), edit=set_to(**names))
    assert deidentified_name(tmp_path / name, name).startswith("ct_") == told


def test_what_was_anonymised_keeps_its_name(tmp_path, nearest, small_phantom):
    def public(data, _k):
        data.PatientID = data.PatientName = "COHORT-0001"
        data.PatientIdentityRemoved = "YES"

    study = patient(tmp_path, small_phantom, name="COHORT-0001", edit=public)
    done = viscera("segment", study, "-b", nearest, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "COHORT-0001_labels.nii.gz").exists()


def test_a_batch_of_archives(tmp_path, nearest, small_phantom):
    """In a folder without volumes every archive is a case; a second call has nothing to do."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        study = patient(tmp_path, small_phantom, name=name)
        shutil.make_archive(str(tmp_path / "in" / name), "zip", study)
    study = patient(tmp_path, small_phantom, name="c")
    sorted(study.iterdir())[5].write_bytes(sorted(study.iterdir())[5].read_bytes()[:300])
    shutil.make_archive(str(tmp_path / "in" / "c"), "zip", study)
    call = ["segment", tmp_path / "in", "-b", nearest, "-o", tmp_path / "out"]
    call += ["--allow-bad-slices"]
    assert viscera(*call).returncode == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("*")) == [
        ".viscera", "a.nii.gz", "b.nii.gz", "c.nii.gz"]  # fmt: skip
    assert viscera(*call).stderr.count("finished already") == 3


def test_python_writes_every_type(tmp_path, nearest, small_phantom):
    from viscera import Predictor, read_volume
    from viscera.errors import UsageError

    study = patient(tmp_path, small_phantom)
    segmentation = Predictor(nearest).segment(read_volume(study))
    segmentation.save(tmp_path / "a.nii.gz")
    segmentation.save(tmp_path / "b.seg.nrrd")
    segmentation.save(tmp_path / "c.dcm")
    segmentation.save(tmp_path / "d.dcm", output_type="dicom_rtstruct")
    assert pydicom.dcmread(tmp_path / "c.dcm").Modality == "SEG"
    assert pydicom.dcmread(tmp_path / "d.dcm").Modality == "RTSTRUCT"
    assert (tmp_path / "b.seg.nrrd").read_bytes().startswith(b"NRRD")
    with pytest.raises(UsageError, match="found 'dicom'"):
        segmentation.save(tmp_path / "e.dcm", output_type="dicom")
    assert not (tmp_path / "e.dcm").exists()


# What stands beside the series, and what a series may hold


@pytest.mark.parametrize("kind", ["colour", "no pixels", "no slope", "cut off"])
def test_only_the_series_that_is_taken_may_refuse(tmp_path, kind):
    """An odd object of another series does not stand in the way of an intact one."""

    def odd(data, _k):
        data.SeriesNumber = 9
        if kind == "colour":
            data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"
            data.PlanarConfiguration, data.BitsAllocated, data.BitsStored = 0, 8, 8
            data.HighBit = 7
        elif kind == "no pixels":
            del data.PixelData
        elif kind == "no slope":
            data.RescaleSlope = 0

    write_series(tmp_path / "a", stored(), uid="1.2.3.1")
    (path,) = write_series(tmp_path / "b", stored((1, 12, 16)), uid="1.2.3.2", edit=odd)
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:900])
        with pytest.raises(VisceraError):
            read_volume(tmp_path / "b")
        return
    for chosen in (None, "1.2.3.1"):
        volume = open_volume(tmp_path, series=chosen)
        assert volume.shape == (16, 12, 9)
        assert "dicom-damaged-others" in codes(volume)
    with pytest.raises(InputError):
        open_volume(tmp_path, series="1.2.3.2")


def test_values_that_are_no_hu_come_after_those_that_are(tmp_path):
    """Iodine maps and densities have more slices, and another rescale type (PS3.3 C.11.1.1.2)."""
    write_series(tmp_path / "a", stored((9, 12, 16)), uid="1.2.3.1", edit=set_to(RescaleType="HU"))
    write_series(
        tmp_path / "b", stored((12, 12, 16)), uid="1.2.3.2", edit=set_to(RescaleType="MGML")
    )
    volume = open_volume(tmp_path)
    assert volume.shape[2] == 9
    assert "in HU" in " ".join(str(finding) for finding in volume.findings)
    iodine = open_volume(tmp_path, series="1.2.3.2")
    assert "RescaleType is MGML: these are no HU" in " ".join(map(str, iodine.findings))
    with pytest.raises(InputError, match="no HU"):
        open_volume(tmp_path, series="1.2.3.2", strict=True)


@pytest.mark.hostile(47)
@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "ConvolutionKernel", "KVP"])
def test_phases_and_kernels_of_one_series_can_be_chosen(tmp_path, keyword):
    values = {"AcquisitionNumber": (1, 2), "ConvolutionKernel": ("B30f", "B70f"), "KVP": (80, 140)}
    for n, value in enumerate(values[keyword]):
        folder = tmp_path / str(n)

        def edit(data, k, value=value, n=n):
            setattr(data, keyword, value)
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.{n}.{k}"

        write_series(folder, stored() + n, uid="1.2.3.1", edit=edit)
    with pytest.raises(InputError, match=f"{keyword} {values[keyword][1]}") as caught:
        open_volume(tmp_path)
    assert "series=1.2.3.1:1" in str(caught.value)
    for part in (1, 2):
        volume = read_volume_of(tmp_path, series=f"1.2.3.1:{part}")
        np.testing.assert_array_equal(volume.data, (stored() + part - 1).transpose(2, 1, 0))
    with pytest.raises(InputError, match="one picture at each place"):
        open_volume(tmp_path, series="1.2.3.1")


def read_volume_of(folder, **options):
    return open_volume(folder, **options).read()


def test_slices_with_a_series_each_are_named_and_may_be_taken_as_one(tmp_path):
    def edit(data, k):
        data.SeriesInstanceUID = f"1.2.3.{k + 1}"

    write_series(tmp_path, stored(), edit=edit)
    with pytest.raises(InputError, match="9 series of one slice each"):
        open_volume(tmp_path)
    volume = read_volume_of(tmp_path, series="all")
    np.testing.assert_array_equal(volume.data, stored().transpose(2, 1, 0))
    assert open_volume(tmp_path, series="1.2.3.4").shape[2] == 1


def test_one_file_of_a_series_is_one_slice_and_that_is_said(tmp_path):
    paths = write_series(tmp_path, stored())
    volume = open_volume(paths[3])
    assert volume.shape[2] == 1
    assert "name the folder that holds all of it" in " ".join(map(str, volume.findings))


@pytest.mark.hostile(42)
def test_what_is_there_instead_of_ct_is_said(tmp_path):
    def edit(data, _k):
        data.Modality = "MR"
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"

    write_series(tmp_path, stored(), edit=edit)
    with pytest.raises(NothingToSegmentError, match=r"none among 9 files \(9 MR\)"):
        open_volume(tmp_path)


# Who the patient is


@pytest.mark.hostile(69)
@pytest.mark.parametrize(
    ("charset", "name", "folder"),
    [
        ("ISO_IR 144", "Иванов^Пётр", "иванов ct"),
        ("ISO_IR 100", "Müller^Jörg", "Mu\u0308ller_2020"),  # decomposed, as macOS writes it
        ("ISO_IR 192", "Ünal^Ayşe", "AYŞE"),
        ("GB18030", "王^小东", "王小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", "山田太郎 CT"),
        ("ISO_IR 192", "ＡＢＥ^Ken", "abe_scan"),  # full width
        ("ISO_IR 100", "O'Brien^Ann", "OBrien"),
        ("ISO_IR 100", "O'Brien^Ann", "O_Brien"),
        ("ISO_IR 100", "Größer^Jo", "groesser_x"),
        ("ISO_IR 100", "Größer^Jo", "GROSSER"),
        ("ISO_IR 100", "Ødegård^Kari", "Odegard"),
        ("ISO_IR 100", "Renée^Zoë", "renee ct"),
        ("ISO_IR 192", "Nguyễn^Thị", "Nguyen_2"),
        ("ISO_IR 100", "Li^Wu", "Li1"),
    ],
)
def test_names_are_known_in_every_character_set(tmp_path, charset, name, folder):
    def edit(data, _k):
        data.SpecificCharacterSet = charset
        data.PatientName, data.PatientID = name, "X-4711"

    write_series(tmp_path / folder, stored((2, 12, 16)), edit=edit)
    assert deidentified_name(tmp_path / folder, folder).startswith("ct_")
    assert deidentified_name(tmp_path / folder, "abdomen") == "abdomen"


@pytest.mark.hostile(69)
@pytest.mark.parametrize(
    ("keyword", "value", "name"),
    [
        ("PatientBirthDate", "19610704", "dob 04.07.1961"),
        ("PatientBirthDate", "19610704", "4.7.1961"),
        ("PatientBirthDate", "19610704", "07-04-1961"),
        ("PatientBirthDate", "19610704", "ct_610704"),
        ("SeriesDate", "20190921", "2019-09-21_abdomen"),
        ("AcquisitionDate", "20190921", "21092019"),
        ("PatientID", "000123456", "123456"),
        ("PatientBirthDate", "19910203", "03.02.91"),
        ("PatientBirthDate", "19010203", "1901-Feb-03"),
        ("PatientBirthDate", "19010203", "03Feb1901"),
        ("PatientBirthDate", "19010203", "1901年02月03日"),
        ("OtherPatientIDs", "MRN778", "mrn778 ct"),
        ("PatientBirthName", "Kowalska", "kowalska"),
    ],
)
def test_dates_and_other_names_tell_a_patient(tmp_path, keyword, value, name):
    write_series(tmp_path / "s", stored((2, 12, 16)), edit=set_to(**{keyword: value}))
    assert deidentified_name(tmp_path / "s", name).startswith("ct_")
    assert deidentified_name(tmp_path / "s", "week 12 of 1999") == "week 12 of 1999"


@pytest.mark.hostile(69)
def test_the_headers_of_the_series_that_is_taken_are_asked(tmp_path):
    """Not those of a dose report without a name, or of the patient whose files come first."""

    def report(data, _k):
        data.PatientName = data.PatientID = data.PatientBirthDate = data.StudyDate = ""
        data.Modality = "SR"
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"

    folder = tmp_path / "Zimmer Anna"
    write_series(folder, stored((1, 12, 16)), uid="1.2.1", edit=report)
    write_series(
        folder / "b", stored((2, 12, 16)), uid="1.2.2", edit=set_to(PatientName="Zimmer^A")
    )
    assert deidentified_name(folder, folder.name).startswith("ct_")
    mixed = tmp_path / "Young"
    write_series(mixed / "a", stored((2, 12, 16)), uid="1.2.5", edit=set_to(PatientName="Old^B"))
    write_series(mixed / "b", stored((2, 12, 16)), uid="1.2.6", edit=set_to(PatientName="Young^C"))
    assert deidentified_name(mixed, "Young", series="1.2.6").startswith("ct_")


@pytest.mark.slow
@pytest.mark.hostile(65)
@pytest.mark.parametrize("how", ["items", "elements", "sparse"])
def test_headers_without_end_are_given_up(tmp_path, how):
    """A sequence of a million empty items; a million elements; gigabytes of nothing."""
    import time

    (path,) = write_series(tmp_path, stored((1, 12, 16)))
    content = path.read_bytes()
    at = content.index(b"\x08\x00\x16\x00UI")  # SOPClassUID, the first of its data set
    if how == "items":
        start = b"\x08\x00\x05\x11SQ\0\0\xff\xff\xff\xff"
        filler = start + b"\xfe\xff\x00\xe0\0\0\0\0" * 1_000_000 + b"\xfe\xff\xdd\xe0\0\0\0\0"
    elif how == "elements":
        filler = b"\x08\x00\x05\x00CS\x02\x00AB" * 1_000_000
    else:
        filler = b""
    path.write_bytes(content[:at] + filler + content[at:])
    if how == "sparse":
        path.write_bytes(content[: at + 2])
        with path.open("r+b") as file:
            file.truncate(4_000_000_000)
    start_s = time.monotonic()
    with pytest.raises(VisceraError):
        read_volume(tmp_path)
    assert time.monotonic() - start_s < 30


@pytest.mark.hostile(69)
@pytest.mark.parametrize("series", ["1.2.3.1:2", "1.2.3.1", "all", None])
def test_parts_and_all_series_keep_the_patient_out_of_names(tmp_path, series):
    folder = tmp_path / "Mustermann_Erika"

    def report(data, _k):
        data.PatientName = data.PatientID = ""
        data.Modality = "SR"
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"

    (path,) = write_series(folder, stored((1, 12, 16)), uid="1.2.1", edit=report)
    path.rename(folder / "0dose")
    named = set_to(PatientName="Mustermann^Erika")
    write_series(folder / "ct", stored((3, 12, 16)), uid="1.2.3.1", edit=named)
    assert result_name(folder, series).startswith("ct_")
    assert result_name(folder, series).endswith("_2") == (series == "1.2.3.1:2")


@pytest.mark.parametrize("mixed", ["kernels", "frames of reference"])
def test_reconstructions_among_each_other_are_named(tmp_path, mixed):
    def edit(data, k):
        if mixed == "kernels":
            data.ConvolutionKernel = "B30f" if k % 2 else "B70f"
        else:
            data.FrameOfReferenceUID = f"1.2.{k % 2}"

    write_series(tmp_path, stored(), edit=edit)
    assert "dicom-mixed" in codes(open_volume(tmp_path))
    with pytest.raises(InputError):
        open_volume(tmp_path, strict=True)


def test_parts_one_after_another_are_no_mixture(tmp_path):
    def edit(data, k):
        data.KVP = 100 if k < 4 else 120

    write_series(tmp_path, stored(), edit=edit)
    assert "dicom-mixed" not in codes(open_volume(tmp_path))
