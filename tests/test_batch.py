"""Batches: what is found, what a set of results is, and who does which case."""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

import viscera
from viscera.batch.options import BatchOptions
from viscera.batch.outputs import OutputOptions
from viscera.batch.plan import plan_batch
from viscera.cli.main import viscera as command
from viscera.core.phantom import make_phantom
from viscera.errors import BatchError, OutputError, VisceraError
from viscera.io.case_names import distinct_names, numbered_names
from viscera.io.scan_files import find_scans
from viscera.io.write import write_volume
from viscera.runtime.leases import LeaseFolder

EVERY_OUTPUT = ("--masks", "-s", "-p", "--report", "--tables", "-ot", "seg_nrrd")


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def done(result):
    """How many cases were segmented, and how many were finished already."""
    return result.stderr.count("written in"), result.stderr.count(": finished already")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Writes a DICOM series of the phantom into a folder."""
    pydicom = pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
    from tests.dicom_series import write_series

    volume, _ = make_phantom(7, shape=(32, 28, 20), spacing_mm=(11.0, 10.0, 14.0), noise_hu=5)

    def write(folder, *, patient="P1", study="1", edit=None):
        def change(data, k):
            data.PatientID, data.PatientName = patient, f"Name^{patient}"
            data.StudyInstanceUID = f"1.2.3.{study}"
            data.SeriesInstanceUID = f"1.2.4.{study}.{abs(hash(str(folder))) % 9999}"
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = (
                f"{data.SeriesInstanceUID}.{k + 1}"
            )
            return edit(data, k) if edit else None

        write_series(
            folder, volume.data.T, spacing_mm=(10.0, 11.0), step_mm=(0, 0, 14.0), edit=change
        )
        return folder

    assert pydicom
    return write


@pytest.fixture
def scan(tmp_path, small_phantom):
    path = tmp_path / "scan.nii.gz"
    write_volume(path, small_phantom[0])
    return path


@pytest.fixture
def scans(tmp_path, small_phantom):
    folder = tmp_path / "scans"
    for name in ("a.nii.gz", "b.nii.gz", "c.nii"):
        write_volume(folder / name, small_phantom[0])
    return folder


# What is found


@pytest.mark.hostile(75)
def test_everything_in_a_mixed_folder_is_a_case_or_is_named(tmp_path, scan, series, nearest):
    """A NIfTI, a DICOM folder, an archive, notes and earlier results: nothing hides another."""
    study = tmp_path / "study"
    series(study / "dicom")
    series(tmp_path / "zipped")
    shutil.make_archive(str(study / "archived"), "zip", tmp_path / "zipped")
    shutil.copy(scan, study / "volume.nii.gz")
    (study / "notes.txt").write_text("not a scan")
    (study / "labels.seg.nrrd").write_text("NRRD0004")
    run("segment", scan, "-o", study / "earlier.nii.gz", "-b", nearest, "-q", "--masks")
    out = tmp_path / "out"
    result = run("segment", study, "-o", out, "-b", nearest)
    assert {p.name for p in out.glob("*.nii.gz")} == {
        "dicom.nii.gz", "archived.nii.gz", "volume.nii.gz",
    }  # fmt: skip
    rows = (out / "failures.csv").read_text().splitlines()[1:]
    passed_over = {row.split(",")[0]: row for row in rows}
    assert {"notes.txt", "labels.seg.nrrd", "earlier.nii.gz", "liver.nii.gz"} <= set(passed_over)
    assert ",,a scan,labels that viscera wrote: passed over," in passed_over["earlier.nii.gz"]
    for name in passed_over:
        assert f"{name}: passed over" in result.stderr
    assert "3 cases: 3 segmented; " in result.stderr
    assert done(run("segment", study, "-o", out, "-b", nearest)) == (0, 3)


def test_results_within_the_study_do_not_stop_a_second_run(tmp_path, series, nearest):
    study = series(tmp_path / "study")
    call = ("segment", study, "-o", study / "organs.nii.gz", "-b", nearest, "-ot", "seg_nrrd")
    run(*call)
    before = (study / "organs.nii.gz").read_bytes()
    run(*call, "--overwrite")
    assert (study / "organs.nii.gz").read_bytes() == before
    out = study / "out"
    series(tmp_path / "other", patient="P2", study="2")
    call = ("segment", study, tmp_path / "other", "-o", out, "-b", nearest)
    assert done(run(*call)) == (2, 0)
    assert done(run(*call)) == (0, 2)


@pytest.mark.hostile(45)
def test_each_study_of_a_cohort_is_a_case(tmp_path, series, nearest):
    cohort = tmp_path / "cohort"
    series(cohort / "P1" / "CT", patient="P1", study="1")
    series(cohort / "P2" / "CT", patient="P2", study="2")
    series(cohort / "site" / "P3" / "thin", patient="P3", study="3")
    series(cohort / "site" / "P3" / "thick", patient="P3", study="3")
    out = tmp_path / "out"
    assert done(run("segment", cohort, "-o", out, "-b", nearest, "--keep-phi"))[0] == 3
    names = {p.name for p in out.glob("*.nii.gz")}
    assert names == {"P1_CT.nii.gz", "P2_CT.nii.gz", "P3.nii.gz"}
    # Without permission no patient's ID stands in a name, though parents make names distinct.
    out = tmp_path / "private"
    result = run("segment", cohort, "-o", out, "-b", nearest)
    names = [p.name for p in out.glob("*.nii.gz")]
    assert len(names) == 3
    assert not any("P1" in name or "P2" in name for name in names)
    assert done(result)[0] == 3


def test_a_study_whose_folder_holds_another_is_a_case_too(tmp_path, series, nearest):
    series(tmp_path / "in", patient="P1", study="1")
    series(tmp_path / "in" / "sub", patient="P2", study="2")
    call = ("segment", tmp_path / "in", "-o", tmp_path / "out", "-b", nearest, "--keep-phi")
    assert done(run(*call)) == (2, 0)
    assert {p.name for p in (tmp_path / "out").glob("*.nii.gz")} == {"in.nii.gz", "sub.nii.gz"}
    assert done(run(*call)) == (0, 2)


def test_clashing_names_take_what_tells_them_apart():
    files = [Path(p) for p in ("x/P1/CT.nii", "x/P2/CT.nii", "y/P1/CT.nii", "y/a.nii", "y/a.mha")]
    names = distinct_names(files, ["CT", "CT", "CT", "a", "a"])
    assert len(set(names)) == 5
    assert names[1] == "P2_CT"
    assert {names[0], names[2]} == {"x_P1_CT", "y_P1_CT"}
    assert names[3:] == ["a_nii", "a_mha"]
    assert distinct_names(files[:1], ["CT"]) == ["CT"]
    assert distinct_names([Path("a/b.nii"), Path("b.nii")], ["B", "b"])[0] != "b"
    assert numbered_names(["a", "a", "A", "a_2", "b"]) == ["a", "a_3", "A_4", "a_2", "b"]


def test_volumes_below_the_first_level_are_found(tmp_path, scan, nearest):
    for name in ("one", "two/deeper"):
        (tmp_path / "in" / name).mkdir(parents=True)
        shutil.copy(scan, tmp_path / "in" / name / "ct.nii.gz")
    out = tmp_path / "out"
    assert done(run("segment", tmp_path / "in", "-o", out, "-b", nearest))[0] == 2
    assert {p.name for p in out.glob("*.nii.gz")} == {"one_ct.nii.gz", "deeper_ct.nii.gz"}


def test_a_pair_is_one_scan_whatever_its_capitals(tmp_path, small_phantom):
    image = nib.Nifti1Pair(small_phantom[0].data, small_phantom[0].affine.matrix)
    nib.save(image, tmp_path / "scan.hdr")
    (tmp_path / "scan.hdr").rename(tmp_path / "SCAN.HDR")
    (tmp_path / "scan.img").rename(tmp_path / "SCAN.IMG")
    found = find_scans(tmp_path)
    assert [path.name for path in found.scans] == ["SCAN.HDR"]
    assert found.passed_over == ()
    volume = viscera.as_volume(tmp_path / "SCAN.HDR")
    np.testing.assert_array_equal(volume.data, small_phantom[0].data)
    np.testing.assert_array_equal(
        viscera.as_volume(tmp_path / "SCAN.IMG").data, small_phantom[0].data
    )


def test_other_kinds_of_images_are_named(tmp_path, scan, series, nearest):
    folder = tmp_path / "in"

    def magnetic(data, _k):
        data.Modality = "MR"
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"

    series(folder / "mr", edit=magnetic)
    shutil.copy(scan, folder / "ct.nii.gz")
    result = run("segment", folder, "-o", tmp_path / "out", "-b", nearest)
    assert done(result)[0] == 1
    assert "passed over: DICOM, but no CT" in result.stderr
    assert "20 files passed over" in result.stderr


@pytest.mark.hostile(75)
def test_a_case_of_another_kind_does_not_stop_the_batch(tmp_path, scans, series, nearest):
    """A result that only some scans can have; an empty folder; too many files in one study."""
    pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
    series(tmp_path / "study")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    with pytest.raises(BatchError) as caught:
        run("segment", tmp_path / "empty", scans / "a.nii.gz", tmp_path / "study",
            "-o", out, "-b", nearest, "-ot", "dicom_seg")  # fmt: skip
    assert "2 that failed" in str(caught.value)
    assert (out / "study_seg.dcm").exists()
    rows = (out / "failures.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [["empty", "4"], ["a.nii.gz", "2"]]


@pytest.mark.hostile(75)
def test_a_folder_of_too_many_files_is_one_failed_case(
    tmp_path, scan, series, nearest, monkeypatch
):
    monkeypatch.setattr("viscera.dicom.read.files._MOST_FILES", 15)
    series(tmp_path / "in" / "large")
    shutil.copy(scan, tmp_path / "in" / "ct.nii.gz")
    out = tmp_path / "out"
    with pytest.raises(BatchError):
        run("segment", tmp_path / "in", "-o", out, "-b", nearest)
    assert (out / "ct.nii.gz").exists()
    assert "large,7,at most 15 files" in (out / "failures.csv").read_text()


# What a set of results is


def test_a_set_is_finished_only_as_a_whole_and_unchanged(tmp_path, scans, nearest):
    out = tmp_path / "out"
    call = ("segment", scans, "-o", out, "-b", nearest, *EVERY_OUTPUT)
    assert done(run(*call)) == (3, 0)
    assert done(run(*call)) == (0, 3)
    assert done(run("segment", scans, "-o", out, "-b", nearest, "-s")) == (0, 3), "less is there"
    for cut in ("a_preview.png", "b.seg.nrrd", "c_masks/liver.nii.gz"):
        whole = (out / cut).read_bytes()
        (out / cut).write_bytes(b"")
        with pytest.raises(BatchError):  # somebody has changed it; it is not replaced unasked
            run(*call)
        (out / cut).write_bytes(whole)
    (out / "a_statistics.csv").unlink()
    assert done(run(*call)) == (1, 2)
    assert done(run(*call)) == (0, 3)


def test_labels_that_somebody_corrected_are_not_replaced(tmp_path, scans, nearest):
    """Viewers keep the header's description: what made the labels no longer follows from it."""
    out = tmp_path / "out"
    call = ("segment", scans, "-o", out, "-b", nearest)
    run(*call)
    image = nib.load(out / "b.nii.gz")
    values = np.asarray(image.dataobj).copy()
    values[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(values, image.affine, image.header), out / "b.nii.gz")
    corrected = (out / "b.nii.gz").read_bytes()
    with pytest.raises(BatchError):
        run(*call)
    with pytest.raises(BatchError):
        run(*call, "-p")
    assert (out / "b.nii.gz").read_bytes() == corrected


def test_options_that_shape_a_file_are_part_of_it(tmp_path, series, nearest):
    pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
    from pydicom import dcmread

    series(tmp_path / "in" / "p1", patient="P1", study="1")
    series(tmp_path / "in" / "p2", patient="P2", study="2")
    call = ("segment", tmp_path / "in", "-o", tmp_path / "out", "-b", nearest, "-ot", "dicom_seg")
    call = (*call, "--report", "--keep-phi")
    assert done(run(*call)) == (2, 0)
    assert done(run(*call)) == (0, 2)
    report = next((tmp_path / "out").glob("*_report.json"))
    assert "patient" in json.loads(report.read_text())
    assert done(run(*call, "--labelmap")) == (2, 0)
    seg = next((tmp_path / "out").glob("*_seg.dcm"))
    assert dcmread(seg).SegmentationType == "LABELMAP"
    assert done(run(*call)) == (2, 0), "back to planes of bits"
    assert done(run(*call)) == (0, 2)


def test_dicom_with_other_pixels_and_the_same_times_is_another_scan(tmp_path, series, nearest):
    for name in ("p1", "p2"):
        series(tmp_path / "in" / name, patient=name, study=name[1])
    call = ("segment", tmp_path / "in", "-o", tmp_path / "out", "-b", nearest, "--keep-phi")
    assert done(run(*call)) == (2, 0)
    path = sorted((tmp_path / "in" / "p1").iterdir())[3]
    state, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(BatchError):
        run(*call)
    assert done(run(*call, "--overwrite")) == (2, 0)


def test_with_overwrite_no_file_of_another_scan_stays(tmp_path, scans, nearest):
    out = tmp_path / "out"
    run("segment", scans / "a.nii.gz", scans / "b.nii.gz", "-o", out, "-b", nearest, *EVERY_OUTPUT)
    other, _ = make_phantom(9, shape=(40, 40, 30), spacing_mm=(8.5, 7.0, 10.0), noise_hu=5)
    write_volume(scans / "a.nii.gz", other, overwrite=True)
    run("segment", scans / "a.nii.gz", scans / "b.nii.gz", "-o", out, "-b", nearest, "--overwrite")
    assert sorted(p.name for p in out.glob("a*") if p.is_file()) == ["a.nii.gz"]
    assert not list((out / "a_masks").iterdir())
    assert (out / "b_preview.png").exists(), "of the same scan"


@pytest.mark.hostile(72)
def test_what_fails_while_writing_leaves_nothing(tmp_path, scan, nearest):
    """The disk is full after the labels; repeated with room, nothing is in the way."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    out = tmp_path / "out" / "o.nii.gz"
    call = [sys.executable, "-m", "viscera", "segment", scan, "-o", out, "-b", nearest, "-q", "-p"]
    failed = subprocess.run(call, preexec_fn=limited, capture_output=True, text=True, check=False)
    assert failed.returncode == 5, failed.stderr
    assert "expected a writable output, found File too large" in failed.stderr
    assert list(out.parent.iterdir()) == []
    subprocess.run(call, check=True)
    assert sorted(p.name for p in out.parent.glob("o*")) == ["o.nii.gz", "o_preview.png"]


@pytest.mark.hostile(70)
@pytest.mark.parametrize("obstacle", ["masks is a file", "long name", "preview is a folder"])
def test_all_paths_are_proven_before_the_work(tmp_path, scan, nearest, obstacle):
    name = "o"
    if obstacle == "masks is a file":
        (tmp_path / "o_masks").write_text("")
    elif obstacle == "long name":
        name = "o" * 240
    else:
        (tmp_path / "o_preview.png").mkdir()
    before = {p.name for p in tmp_path.iterdir()}
    with pytest.raises(OutputError):
        run("segment", scan, "-o", tmp_path / f"{name}.nii.gz", "-b", nearest, *EVERY_OUTPUT)
    assert {p.name for p in tmp_path.iterdir()} == before


def test_what_killed_processes_left_is_swept(tmp_path, scan, nearest):
    from viscera.runtime.atomic_files import part_path

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine = part_path(tmp_path)
    left = mine.with_name(mine.name.replace(str(os.getpid()), str(gone.pid)))
    left.mkdir()
    (left / "o.nii.gz").write_text("half")
    file_left = left.with_name(left.name.replace(".part", "0.part"))
    file_left.write_text("half")
    mine.write_text("of a process that lives")
    run("segment", scan, "-o", tmp_path / "o.nii.gz", "-b", nearest, "-q")
    assert [p.name for p in tmp_path.glob(".viscera-*")] == [mine.name]


# Who does which case


@pytest.mark.hostile(74)
def test_a_lease_has_one_holder_and_ends_with_it(tmp_path, monkeypatch):
    mine, other = LeaseFolder(tmp_path), LeaseFolder(tmp_path)
    with mine.take("case") as lease:
        assert lease.is_held
        assert other.take("case") is None
        with other.take("another"):
            pass
    assert list(tmp_path.iterdir()) == []
    lease = mine.take("case")
    # Its holder says nothing for long, by the clock of the one who waits.
    monkeypatch.setattr("viscera.runtime.leases.EXPIRES_AFTER_S", 0.05)
    assert other.take("case") is None
    time.sleep(0.1)
    taken = other.take("case")
    assert taken is not None
    assert not lease.is_held
    lease.__exit__()
    assert taken.is_held, "who has lost a lease does not end that of another"
    taken.__exit__()


def test_the_lease_of_a_dead_process_is_taken_over_at_once(tmp_path):
    code = (
        "import sys, os; from pathlib import Path; from viscera.runtime.leases import LeaseFolder\n"
        "LeaseFolder(Path(sys.argv[1])).take('case'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert [p.name for p in tmp_path.iterdir()] == ["case.lease"]
    assert LeaseFolder(tmp_path).take("case") is not None


@pytest.mark.hostile(74)
@pytest.mark.slow
def test_two_workers_share_a_folder(tmp_path, scans, nearest):
    """Hostile input 74: each case is done once, both end well, all is as one worker would do it."""
    for n in range(12):
        os.link(scans / "b.nii.gz", scans / f"more{n}.nii.gz")
    call = [sys.executable, "-m", "viscera", "segment", str(scans), "-b", str(nearest), "-s"]
    out = [*call, "-o", str(tmp_path / "out")]
    workers = [subprocess.Popen(out, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    texts = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], texts
    assert sum(text.count("written in") for text in texts) == 15
    subprocess.run([*call, "-o", str(tmp_path / "alone"), "-q"], check=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
    assert not list((tmp_path / "out" / ".viscera").glob("*.lease"))


def contents(folder):
    """Digest of each file; what a run costs stands in reports and differs each time."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_file() or path.suffix == ".lease" or path.parent.name == ".viscera":
            continue
        content = path.read_bytes()
        if path.name.endswith("_report.json"):
            report = json.loads(content)
            for key in ("stages", "seconds"):
                report.pop(key)
            content = json.dumps(report).encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


@pytest.mark.hostile(73)
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_killed_at_any_moment_a_batch_ends_as_if_undisturbed(tmp_path, scans, nearest):
    """Hostile input 73."""
    for n in range(5):
        os.link(scans / "b.nii.gz", scans / f"more{n}.nii.gz")
    call = [sys.executable, "-m", "viscera", "segment", str(scans), "-b", str(nearest), "-q"]
    call += [*EVERY_OUTPUT, "--threads", "1", "-o"]
    start = time.monotonic()
    subprocess.run([*call, str(tmp_path / "alone")], check=True)
    longest_s = time.monotonic() - start
    out, moments = tmp_path / "out", random.Random(1)
    for _ in range(6):
        process = subprocess.Popen([*call, str(out)])
        time.sleep(moments.uniform(0.5, 1.0) * longest_s / 3)
        process.kill()
        process.wait()
    subprocess.run([*call, str(out)], check=True)
    assert contents(out) == contents(tmp_path / "alone")
    assert not list(out.glob(".viscera-*"))
    assert not list((out / ".viscera").glob("*.lease"))


def test_python_names_what_was_passed_over(tmp_path, scans):
    (scans / "notes.txt").write_text("x")
    plan = plan_batch([scans], tmp_path / "out")
    assert [(item.path.name, item.reason) for item in plan.passed_over] == [
        ("notes.txt", "no scan by its name and content")
    ]
    assert BatchOptions(outputs=OutputOptions()).keep_phi is False


def test_an_archive_without_a_scan_is_a_failed_case(tmp_path, scans, nearest):
    pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
    with zipfile.ZipFile(scans / "notes.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(BatchError):
        run("segment", scans, "-o", tmp_path / "out", "-b", nearest)
    assert "notes.zip,4,a CT series" in (tmp_path / "out" / "failures.csv").read_text()


# What overwriting may remove


def test_overwriting_removes_what_viscera_made_and_nothing_else(tmp_path, scans, nearest):
    out = tmp_path / "out"
    call = ("segment", scans / "a.nii.gz", scans / "b.nii.gz", "-o", out, "-b", nearest)
    run(*call, "-s", "--masks")
    (out / "a_preview.png").write_text("mine")
    (out / "a.seg.nrrd").write_text("mine")
    truth = tmp_path / "truth"
    (out / "a_masks").rename(truth)
    (out / "a_masks").symlink_to(truth)
    edited = out / "a_statistics.csv"
    edited.write_text("corrected")
    run(*call, "--overwrite", "--hu-offset", "1")
    assert (out / "a_preview.png").read_text() == (out / "a.seg.nrrd").read_text() == "mine"
    assert (truth / "liver.nii.gz").exists()
    assert edited.read_text() == "corrected"
    assert not (out / "a_statistics.json").exists()


def test_the_scan_is_never_removed(tmp_path, scan, nearest):
    source = tmp_path / "x_seg.dcm"
    shutil.copy(scan, source)
    for options in ((), ("--overwrite", "--hu-offset", "1"), ("--overwrite", "-s", "-p")):
        run("segment", source, "-o", tmp_path / "x.nii.gz", "-b", nearest, *options)
        assert source.read_bytes() == scan.read_bytes()


@pytest.mark.parametrize("labels", ["removed", "emptied"])
def test_no_picture_of_another_scan_stays_beside_new_labels(tmp_path, scans, nearest, labels):
    """Removing the label map is how people have a case done again."""
    out = tmp_path / "out"
    call = ("segment", scans / "a.nii.gz", scans / "b.nii.gz", "-o", out, "-b", nearest)
    run(*call, "-s", "-p")
    other, _ = make_phantom(9, shape=(40, 40, 30), spacing_mm=(8.5, 7.0, 10.0), noise_hu=5)
    write_volume(scans / "a.nii.gz", other, overwrite=True)
    if labels == "removed":
        (out / "a.nii.gz").unlink()
    else:
        (out / "a.nii.gz").write_bytes(b"")
    with pytest.raises(BatchError):
        run(*call)
    assert "other settings" in (out / "failures.csv").read_text() or labels == "emptied"
    run(*call, "--overwrite")
    assert [p.name for p in out.glob("a*")] == ["a.nii.gz"]


def test_a_strict_run_does_not_trust_one_that_was_not(tmp_path, small_phantom, nearest):
    folder = tmp_path / "in"
    shifted = small_phantom[0].shifted(1024).data
    for name in ("a", "b"):
        write_volume(folder / f"{name}.nii.gz", viscera.Volume.of(shifted, small_phantom[0].affine))
    call = ("segment", folder, "-o", tmp_path / "out", "-b", nearest)
    assert done(run(*call)) == (2, 0)
    with pytest.raises(BatchError):
        run(*call, "--strict")
    assert done(run(*call)) == (0, 2)


# What cannot be visited or written


def test_links_and_odd_files_among_scans_are_named(tmp_path, scan, nearest):
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        place.mkdir()
        shutil.copy(scan, place / "ct.nii.gz")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "gone.nii.gz").symlink_to(tmp_path / "nothing")
    (folder / "loop.nii.gz").symlink_to(folder / "loop.nii.gz")
    os.mkfifo(folder / "fifo.nii.gz")
    out = tmp_path / "out"
    run("segment", folder, "-o", out, "-b", nearest)
    rows = (out / "failures.csv").read_text()
    for name in ("linked", "gone.nii.gz", "loop.nii.gz", "fifo.nii.gz"):
        assert f"{name},,a scan," in rows


def test_an_archive_beside_slices_is_a_case(tmp_path, series, nearest):
    series(tmp_path / "in")
    series(tmp_path / "other", patient="P2", study="2")
    shutil.make_archive(str(tmp_path / "in" / "other"), "zip", tmp_path / "other")
    result = run("segment", tmp_path / "in", "-o", tmp_path / "out", "-b", nearest)
    assert done(result)[0] == 2


@pytest.mark.parametrize("kind", ["long file", "long folders", "long argument", "loop"])
def test_names_that_no_file_system_holds_end_no_batch(tmp_path, scan, nearest, kind):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(scan, folder / "a.nii.gz")
    inputs = [folder]
    if kind == "long file":
        shutil.copy(scan, folder / ("b" * 248 + ".nii.gz"))
    elif kind == "long folders":
        for parent in ("P" * 130, "Q" * 130):
            (folder / parent).mkdir()
            shutil.copy(scan, folder / parent / ("C" * 130 + ".nii.gz"))
    elif kind == "long argument":
        inputs.append(tmp_path / ("x" * 300))
    else:
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        inputs.append(tmp_path / "loop")
    try:
        result = run("segment", *inputs, "-o", out, "-b", nearest)
    except BatchError:
        assert kind not in ("long file", "long folders")
    else:
        assert done(result)[0] == (2 if kind == "long file" else 3)
    assert (out / "a.nii.gz").exists()
    with pytest.raises(VisceraError):
        run("segment", folder, folder, "-o", tmp_path / ("y" * 300), "-b", nearest)


@pytest.mark.parametrize("kind", ["folder", "loop", "empty"])
def test_a_lease_that_is_none_makes_nobody_wait_for_ever(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("viscera.runtime.leases._WRITTEN_AFTER_S", 0.05)
    path = tmp_path / "case.lease"
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.write_bytes(b"")
    leases = LeaseFolder(tmp_path)
    if kind == "empty":
        assert leases.take("case") is None
        time.sleep(0.1)
        with leases.take("case") as lease:
            assert lease.is_held
    else:
        with pytest.raises(OutputError):
            leases.take("case")


@pytest.mark.hostile(69)
def test_lists_do_not_name_the_patient(tmp_path, scan, series, nearest):
    def report(data, _k):
        data.Modality = "SR"
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"

    folder = tmp_path / "in"
    path = next(series(folder / "sr", patient="Zeta", edit=report).iterdir())
    path.rename(path.with_name("Name^Zeta_report.dcm"))
    shutil.copy(scan, folder / "ct.nii.gz")
    result = run("segment", folder, "-o", tmp_path / "out", "-b", nearest)
    listed = (tmp_path / "out" / "failures.csv").read_text()
    assert "Zeta" not in listed + result.stderr
    assert "DICOM, but no CT (SR)" in listed


@pytest.mark.hostile(69)
def test_a_study_and_its_archive_of_the_patients_name(tmp_path, series, nearest):
    """Both are called after the image, and told apart by numbers, not by the path."""
    series(tmp_path / "in" / "SMITH_JOHN", patient="SMITH JOHN")
    shutil.make_archive(str(tmp_path / "in" / "SMITH_JOHN"), "zip", tmp_path / "in" / "SMITH_JOHN")
    result = run("segment", tmp_path / "in", "-o", tmp_path / "out", "-b", nearest)
    names = sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert len([name for name in names if name.endswith(".nii.gz")]) == 2
    assert "SMITH" not in " ".join(names) + result.stderr


def test_cases_of_similar_names_have_records_of_their_own(tmp_path, small_phantom, nearest):
    for name in ("scan.nii.gz", "scan.nii.b.nii.gz"):
        write_volume(tmp_path / "in" / name, small_phantom[0])
    call = ("segment", tmp_path / "in", "-o", tmp_path / "out", "-b", nearest)
    assert done(run(*call)) == (2, 0)
    assert done(run(*call, "--overwrite")) == (2, 0)
    assert done(run(*call)) == (0, 2)


def test_if_one_file_cannot_be_moved_all_is_as_before(tmp_path, monkeypatch):
    from viscera.runtime.staging import move_together

    (tmp_path / "aside").mkdir()
    for name in ("labels", "preview"):
        (tmp_path / name).write_text("old")
        (tmp_path / "aside" / name).write_text("new")
    (tmp_path / "gone").write_text("of other work")
    moves = [(tmp_path / "aside" / name, tmp_path / name) for name in ("labels", "preview")]
    replace_file = Path.replace

    def refusing(self, target):
        if self == moves[1][0]:
            raise PermissionError(13, "Permission denied", str(self))
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", refusing)
    with pytest.raises(OutputError, match="Permission denied"):
        move_together(moves, remove=[tmp_path / "gone"], keep_in=tmp_path / "aside" / "earlier")
    for name in ("labels", "preview"):
        assert (tmp_path / name).read_text() == "old"
    assert (tmp_path / "gone").read_text() == "of other work"
    monkeypatch.undo()
    (tmp_path / "aside" / "labels").write_text("new")
    move_together(moves, remove=[tmp_path / "gone"], keep_in=tmp_path / "aside" / "again")
    assert (tmp_path / "labels").read_text() == (tmp_path / "preview").read_text() == "new"
    assert not (tmp_path / "gone").exists()


def test_of_many_workers_at_an_abandoned_lease_one_gets_it(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    from viscera.runtime.processes import this_machine

    content = json.dumps({"machine": this_machine(), "pid": dead.pid, "token": "x"})
    for _ in range(30):
        (tmp_path / "case.lease").write_text(content)
        with ThreadPoolExecutor(8) as pool:
            leases = list(pool.map(lambda _: LeaseFolder(tmp_path).take("case"), range(8)))
        held = [lease for lease in leases if lease is not None and lease.is_held]
        assert len(held) == 1
        for lease in leases:
            if lease is not None:
                lease.__exit__()
        assert not list(tmp_path.glob("*"))


def test_check_names_no_patient(tmp_path, series):
    """What tells two series of one name apart is a folder that is called after the patient."""
    from viscera.batch.check_scans import check_scans

    for n, patient in enumerate(("Quimby", "Zapata")):
        series(tmp_path / "all" / patient / "CT", patient=patient, study=str(n))
    checks = check_scans(tmp_path / "all").checks
    assert len({check.name for check in checks}) == 2
    shown = json.dumps([check.as_dict() for check in checks])
    assert "Quimby" not in shown
    assert "Zapata" not in shown
    kept = check_scans(tmp_path / "all", keep_phi=True).checks
    assert {check.name for check in kept} == {"Quimby_CT", "Zapata_CT"}
