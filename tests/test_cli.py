"""The command line: outputs, batches, interruptions, exit codes."""

import json
import os
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner

import viscera
from tests.networks import nearest_bundle
from viscera.cli.main import COMMANDS
from viscera.cli.main import viscera as command
from viscera.core.organs import ORGANS
from viscera.core.volume import Volume
from viscera.errors import (
    BatchError,
    InputError,
    NothingToSegmentError,
    OutputError,
    UsageError,
    VisceraError,
)
from viscera.io.write import write_volume


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def scans(tmp_path, small_phantom):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a_0000.nii.gz", "b.nii.gz", "c.nii"):
        write_volume(folder / name, small_phantom[0])
    (folder / "notes.txt").write_text("not a scan")
    (folder / ".hidden.nii.gz").write_text("not a scan")
    return folder


def test_one_file_with_everything_beside_it(tmp_path, scans, nearest):
    result = run("segment", scans / "b.nii.gz", "-o", tmp_path / "out" / "liver.nii.gz",
                 "-b", nearest, "--masks", "-s", "-p", "--report", "--tables")  # fmt: skip
    assert result.stdout == ""
    assert "written in" in result.stderr
    out = tmp_path / "out"
    names = {p.name for p in out.iterdir()}
    assert names == {
        ".viscera", "liver.nii.gz", "liver_masks", "liver_statistics.json", "liver_statistics.csv",
        "liver_preview.png", "liver_report.json", "liver_itksnap.txt", "liver_slicer.ctbl",
    }  # fmt: skip
    report = json.loads((out / "liver_report.json").read_text())
    assert report["case"] == "b"
    assert report["engine"]["threads"] >= 1
    assert set(report["stages"]) >= {"read", "load", "network", "postprocess", "write"}
    assert all(s["peak_mb"] > 0 for s in report["stages"].values())
    assert str(tmp_path) not in (out / "liver_report.json").read_text()
    masks = {p.name for p in (out / "liver_masks").iterdir()}
    assert masks == {f"{o}.nii.gz" for o in report["volumes_ml"]}


def test_json_goes_to_stdout_alone(tmp_path, scans, nearest):
    result = run("segment", scans / "b.nii.gz", "-o", tmp_path / "o.nii.gz", "-b", nearest,
                 "--json", "-q")  # fmt: skip
    assert json.loads(result.stdout)["volumes_ml"]["liver"] > 500
    assert result.stderr == ""


def test_a_folder_is_a_batch_that_goes_on_where_it_stopped(tmp_path, scans, nearest):
    out = tmp_path / "out"
    result = run("segment", scans, "-o", out, "-b", nearest)
    assert {p.name for p in out.iterdir()} == {
        "a.nii.gz", "b.nii.gz", "c.nii.gz", ".viscera", "failures.csv",
    }  # fmt: skip
    assert result.stderr.count("written in") == 3
    first = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    (out / "b.nii.gz").unlink()
    (out / "c.nii.gz").write_bytes((out / "c.nii.gz").read_bytes()[:-20])  # damaged meanwhile
    with pytest.raises(BatchError):  # not ours to replace without being told
        run("segment", scans, "-o", out, "-b", nearest)
    result = run("segment", scans, "-o", out, "-b", nearest, "--overwrite")
    assert result.stderr.count("written in") == 3
    result = run("segment", scans, "-o", out, "-b", nearest)
    assert result.stderr.count("finished already") == 3
    assert {p.name for p in out.iterdir()} == set(first)


def test_another_network_does_not_pass_as_finished(tmp_path, scans, nearest):
    out, other = tmp_path / "out", nearest_bundle(tmp_path / "other")
    toml = other / "bundle.toml"
    toml.write_text(toml.read_text().replace("test.net", "other.net"))
    run("segment", scans, "-o", out, "-b", nearest, "-q")
    with pytest.raises(BatchError):
        run("segment", scans, "-o", out, "-b", other, "-q")


def test_other_settings_do_not_pass_as_finished(tmp_path, scans, nearest):
    out = tmp_path / "out"
    run("segment", scans, "-o", out, "-b", nearest, "-q", "-rs", "liver")
    with pytest.raises(BatchError):
        run("segment", scans, "-o", out, "-b", nearest, "-q")


@pytest.mark.hostile(73)
def test_what_an_interrupted_run_left_is_done_again(tmp_path, scans, nearest):
    out = tmp_path / "out"
    call = ("segment", scans, "-o", out, "-b", nearest, "-s", "--report")
    run(*call)
    for path in out.glob("a*"):  # interrupted before this case
        path.unlink()
    (out / "b_report.json").unlink()  # and within that one
    result = run(*call)
    assert result.stderr.count("written in") == 2
    assert result.stderr.count("finished already") == 1
    assert (out / "b_report.json").exists()


@pytest.mark.hostile(71)
def test_what_others_made_is_not_touched(tmp_path, scans, nearest):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a_statistics.csv").write_text("mine")
    with pytest.raises(BatchError):
        run("segment", scans, "-o", out, "-b", nearest, "-s")
    assert (out / "a_statistics.csv").read_text() == "mine"
    (out / "failures.csv").write_text("mine as well")
    with pytest.raises(OutputError, match="did not write"):
        run("segment", scans, "-o", out, "-b", nearest)
    assert (out / "failures.csv").read_text() == "mine as well"


def test_an_edited_bundle_or_source_does_not_pass_as_finished(tmp_path, scans, small_phantom):
    out, bundle = tmp_path / "out", nearest_bundle(tmp_path / "bundle")
    image = sitk.GetImageFromArray(small_phantom[0].data.T)
    image.SetSpacing((7.5, 7.0, 10.0))
    sitk.WriteImage(image, scans / "m.mha")
    call = ("segment", scans, "-o", out, "-b", bundle, "-q")
    run(*call)
    assert run(*call[:-1]).stderr.count("finished already") == 4
    image.SetOrigin((5, 5, 5))
    sitk.WriteImage(image, scans / "m.mha")
    with pytest.raises(BatchError):
        run(*call)
    assert (out / "failures.csv").read_text().count("m.mha,5") == 1
    (out / "m.nii.gz").unlink()
    toml = bundle / "bundle.toml"
    toml.write_text(toml.read_text().replace("overlap = 0.25", "overlap = 0.0"))
    with pytest.raises(BatchError):
        run(*call)
    assert (out / "failures.csv").read_text().count(",5,a new output,") == 3


def test_organs_that_the_bundle_does_not_find_are_refused(tmp_path, scans, nearest):
    with pytest.raises(UsageError, match=r"'pancreas', which test\.net does not find"):
        run("segment", scans / "b.nii.gz", "-b", nearest, "-rs", "liver,pancreas")


def test_json_of_a_batch_with_a_failure(tmp_path, scans, nearest):
    (scans / "bad.nii").write_text("no scan")
    result = CliRunner().invoke(
        command,
        ["segment", str(scans), "-o", str(tmp_path / "o"), "-b", str(nearest), "--json", "-q"],
    )
    assert [r["case"] for r in json.loads(result.stdout)] == ["a", "b", "c"]
    listing = (tmp_path / "o" / "failures.csv").read_text()
    assert str(tmp_path) not in listing


def test_a_refusal_leaves_no_folders(tmp_path, nearest):
    (tmp_path / "bad.nii").write_text("no scan")
    with pytest.raises(InputError):
        run("segment", tmp_path / "bad.nii", "-o", tmp_path / "l.nii.gz", "-b", nearest, "--masks")
    assert {p.name for p in tmp_path.iterdir()} == {"bad.nii"}


def test_a_replaced_scan_does_not_pass_as_finished(tmp_path, scans, nearest, small_phantom):
    out = tmp_path / "out"
    run("segment", scans, "-o", out, "-b", nearest, "-q")
    volume = small_phantom[0]
    other = Volume(np.asfortranarray(volume.data[:, :, ::-1]), volume.affine)
    write_volume(scans / "b.nii.gz", other, overwrite=True)
    with pytest.raises(BatchError):
        run("segment", scans, "-o", out, "-b", nearest, "-q")
    assert "b.nii.gz,5" in (out / "failures.csv").read_text()


def test_labels_never_go_among_their_scans(scans, nearest):
    before = {p.name for p in scans.iterdir()}
    with pytest.raises(UsageError, match="another output folder"):
        run("segment", scans, "-o", scans, "-b", nearest)
    with pytest.raises(UsageError, match=r"a file's name, x\.nii\.gz"):
        run("segment", scans, "-o", scans / "x.nii.gz", "-b", nearest)
    assert {p.name for p in scans.iterdir()} == before


def test_a_bundles_warning_and_cut_organs_are_told(tmp_path, scans):
    result = run("segment", scans / "b.nii.gz", "-o", tmp_path / "o.nii.gz", "-b", "phantom")
    assert "knows generated phantoms only" in result.stderr
    aorta = next(line for line in result.stderr.splitlines() if line.startswith("  aorta"))
    assert "the scan cuts it: the volume is a lower bound" in aorta


def test_capital_suffixes(tmp_path, scans, nearest):
    run("segment", scans / "b.nii.gz", "-o", tmp_path / "X.NII.GZ", "-b", nearest, "--report")
    assert (tmp_path / "X_report.json").exists()


@pytest.mark.parametrize("option", ["input", "-o", "-b"])
def test_names_that_no_file_system_holds(tmp_path, scans, nearest, option):
    long = tmp_path / ("x" * 300 + ".nii.gz")
    call = {"input": scans / "b.nii.gz", "-o": tmp_path / "o.nii.gz", "-b": nearest, option: long}
    with pytest.raises(VisceraError, match=r"name too long|TOML|a bundle"):
        run("segment", call["input"], "-o", call["-o"], "-b", call["-b"])


@pytest.mark.hostile(75)
def test_one_bad_scan_does_not_stop_the_others(tmp_path, scans, nearest):
    (scans / "bad.nii.gz").write_text("no scan")
    out = tmp_path / "out"
    with pytest.raises(BatchError) as caught:
        run("segment", scans, "-o", out, "-b", nearest)
    assert caught.value.exit_code == 6
    rows = (out / "failures.csv").read_text().splitlines()
    assert rows[0] == "file,exit_code,expected,found,remedy"
    assert rows[1].startswith("bad.nii.gz,3,")
    assert len([p for p in out.iterdir() if p.name.endswith(".nii.gz")]) == 3
    (scans / "bad.nii.gz").unlink()
    (scans / "notes.txt").unlink()
    run("segment", scans, "-o", out, "-b", nearest)
    assert not (out / "failures.csv").exists()


def test_roi_subset_in_both_spellings(tmp_path, scans, nearest):
    for n, option in enumerate(("--roi_subset", "--roi-subset", "-rs")):
        out = tmp_path / f"{n}.nii.gz"
        run("segment", scans / "b.nii.gz", "-o", out, "-b", nearest, option, "liver,spleen")
        assert set(np.unique(np.asarray(nib.load(out).dataobj))) <= {0, 1, 3}
    with pytest.raises(UsageError, match="did you mean 'liver'"):
        run("segment", scans / "b.nii.gz", "-b", nearest, "-rs", "livr")


def test_where_results_go(tmp_path, scans, nearest, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("segment", scans / "a_0000.nii.gz", "-b", nearest, "-q")
    assert (tmp_path / "a_labels.nii.gz").exists()
    (tmp_path / "folder").mkdir()
    run("segment", "-i", scans / "a_0000.nii.gz", "-o", tmp_path / "folder", "-b", nearest, "-q")
    assert (tmp_path / "folder" / "a.nii.gz").exists()
    with pytest.raises(UsageError, match="output folder"):
        run("segment", scans, "-b", nearest)
    with pytest.raises(UsageError, match="a CT file or a folder"):
        run("segment", "-b", nearest)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToSegmentError):
        run("segment", tmp_path / "empty", "-o", tmp_path / "x", "-b", nearest)


def test_list_classes():
    lines = run("segment", "--list-classes").stdout.splitlines()
    assert lines == [f"{o.id:2d} {o.name}" for o in ORGANS]
    listed = json.loads(run("segment", "--list_classes", "--json").stdout)
    assert listed["13"] == "kidney_left"


def test_info(nearest):
    assert "phantom" in run("info").stdout.split()
    text = run("info", "phantom").stdout
    assert "sha256" in text
    assert "Apache-2.0" in text
    described = json.loads(run("info", nearest, "--json").stdout)
    assert described["patch"]["size"] == [24, 24, 16]


def test_help_costs_no_numpy():
    code = (
        "import sys; from viscera.cli.main import viscera\n"
        "viscera.main(['--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'nibabel', 'openvino', 'onnxruntime', 'scipy', 'rich', 'torch'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, says in COMMANDS.items():
        assert name in done.stdout
        assert says in done.stdout


def test_exit_codes_of_the_process():
    def code(*arguments):
        call = [sys.executable, "-m", "viscera", *arguments]
        return subprocess.run(call, capture_output=True, check=False).returncode

    assert code("--version") == 0
    assert code("no-such-command") == 2
    assert code("segment", "--no-such-option") == 2
    assert code("segment", "a.nii", "-b", "no_such_bundle") == 8


@pytest.mark.hostile(73)
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
@pytest.mark.parametrize("wait_s", [0.4, 0.8, 1.2])
def test_interruption_leaves_no_corrupt_output(tmp_path, scans, nearest, number, code, wait_s):
    for n in range(200):  # enough work to be in the middle of
        os.link(scans / "b.nii.gz", scans / f"more{n}.nii.gz")
    out = tmp_path / "out"
    call = [sys.executable, "-m", "viscera", "segment", str(scans), "-o", str(out)]
    process = subprocess.Popen([*call, "-b", str(nearest)], stderr=subprocess.PIPE)
    time.sleep(wait_s)
    process.send_signal(number)
    _, text = process.communicate()
    # Before its handlers stand, Python dies of the signal itself; it has written nothing then.
    assert process.returncode in (code, -number), text
    for path in out.glob("*.nii.gz"):
        assert nib.load(path).get_fdata().any(), "a file under its final name is whole"
    if number != signal.SIGKILL and out.exists():
        assert not list(out.glob(".viscera-*"))
    result = run("segment", scans, "-o", out, "-b", nearest)
    assert result.stderr.count("written in") + result.stderr.count("finished already") == 203


@pytest.mark.hostile(73)
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("module", ["staging", "atomic_files"])
def test_a_signal_at_the_first_step_of_a_removal_leaves_nothing(tmp_path, scans, nearest, module):
    """Python runs handlers when a function begins, and so before its first line."""
    script = (
        "import os, signal, sys\n"
        "from viscera.cli.main import main\n"
        f"import viscera.runtime.{module} as module\n"
        "remove = module.remove_part\n"
        "def struck(path):\n"
        "    module.remove_part = remove\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    remove(path)\n"
        "module.remove_part = struck\n"
        "main(sys.argv[1:])\n"
    )
    call = ["segment", scans, "-o", tmp_path / "out", "-b", nearest]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, call)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 143, done.stderr
    assert not list((tmp_path / "out").rglob("*.part"))


def test_python_takes_one_scan_or_several(tmp_path, scans, nearest):
    predictor = viscera.Predictor(nearest)
    one = viscera.segment_batch(scans / "c.nii", tmp_path / "one", predictor=predictor)
    several = viscera.segment_batch(str(scans), tmp_path / "several", predictor=predictor)
    assert [len(one), len(several)] == [1, 3]
    assert not any(result.error for result in (*one, *several))


@pytest.mark.hostile(73)
@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_what_never_returns(tmp_path, scans, number):
    """Code of a library that loops lets no handler of Python run."""
    script = (
        "import hashlib, sys\n"
        "from viscera.cli.main import main\n"
        "from viscera.predictor import Predictor\n"
        "def stuck(*_arguments, **_options):\n"
        "    print('stuck', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'x', b'y', 2**31 - 1)\n"
        "Predictor.segment = stuck\n"
        "main(sys.argv[1:])\n"
    )
    call = ["segment", str(scans / "c.nii"), "-o", str(tmp_path / "o.nii.gz"), "-b", "phantom"]
    with subprocess.Popen([sys.executable, "-c", script, *call], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"stuck\n"
        for _ in range(2):
            process.send_signal(number)
            time.sleep(0.3)
        try:
            assert process.wait(timeout=30) == 128 + number
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text")
def test_odd_names_reach_no_terminal_and_leave_utf8(tmp_path, small_phantom, nearest):
    """Escape sequences act on a terminal, and bytes that are not UTF-8 break readers."""
    folder = tmp_path / "scans"
    folder.mkdir()
    name = os.fsdecode(b"a\x1b[2J\xff.nii")
    write_volume(folder / "plain.nii", small_phantom[0])
    (folder / "plain.nii").rename(folder / name)
    call = [sys.executable, "-m", "viscera", "segment", str(folder / name), "-b", str(nearest)]
    call += ["-o", str(tmp_path / "o.nii.gz"), "--report", "-s", "--json"]
    done = subprocess.run(call, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stderr + done.stdout
    assert json.loads(done.stdout.decode("utf-8"))["case"]
    for file in ("o_report.json", "o_statistics.csv"):
        assert "udcff" in (tmp_path / file).read_text(encoding="utf-8")


# Circumstances


def shell(text, *arguments, cwd):
    call = ["bash", "-c", text, "bash", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=False, cwd=cwd)


VISCERA = f'"{sys.executable}" -m viscera'


@pytest.mark.skipif(sys.platform != "linux", reason="uses bash and /dev/full")
def test_closed_and_full_streams(tmp_path, scans, nearest):
    segment = f'{VISCERA} segment "$1" -b "$2" -o'
    done = shell(f"{segment} a.nii.gz 2>&-", scans / "b.nii.gz", nearest, cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "a.nii.gz").exists()
    done = shell(f"{segment} b.nii.gz >&- 2>&-", scans / "b.nii.gz", nearest, cwd=tmp_path)
    assert done.returncode == 0
    for options in ("--json -q", "--json"):
        call = f"{segment} c.nii.gz --overwrite {options} > /dev/full"
        done = shell(call, scans / "b.nii.gz", nearest, cwd=tmp_path)
        assert done.returncode == 5
        assert "found No space left on device; print to another place" in done.stderr
        assert "Traceback" not in done.stderr
    done = shell(f"{VISCERA} info | true", cwd=tmp_path)
    assert done.stderr == ""


def test_fast_is_a_bundle(tmp_path, scans, monkeypatch):
    """--fast stands for --bundle fast, also against the environment, and refuses another."""

    def ends(*arguments):
        words = [sys.executable, "-m", "viscera", *arguments]
        return subprocess.run(words, capture_output=True, check=False).returncode

    call = ("segment", scans / "b.nii.gz", "-q")
    assert ends(*call, "-o", tmp_path / "a.nii.gz", "--fast") == 0
    assert ends(*call, "-o", tmp_path / "b.nii.gz", "-b", "fast") == 0
    monkeypatch.setenv("VISCERA_BUNDLE", "default")
    assert ends(*call, "-o", tmp_path / "c.nii.gz", "--fast", "-b", "fast") == 0
    assert ends(*call, "-o", tmp_path / "d.nii.gz", "--fast") == 0
    descriptions = [bytes(nib.load(tmp_path / f"{n}.nii.gz").header["descrip"]) for n in "abcd"]
    assert all(text == descriptions[0] for text in descriptions)
    assert b"dwnet16.fast" in descriptions[0]
    assert ends(*call, "-o", tmp_path / "e.nii.gz", "--fast", "-b", "default") == 2


def test_the_core_needs_none_of_the_extras(tmp_path, scans, nearest):
    """`pip install viscera` brings one engine, and no scipy, nibabel, torch or pydicom."""
    script = (
        "import sys\n"
        "extras = 'scipy nibabel onnxruntime onnx torch pydicom highdicom gdcm'\n"
        "sys.modules.update(dict.fromkeys(extras.split()))\n"
        "from viscera.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )

    def run_core(*arguments):
        call = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.run(call, capture_output=True, text=True, check=False)

    out = tmp_path / "o.nii.gz"
    call = ("segment", scans / "b.nii.gz", "-o", out, "-b", nearest, "-s", "-p", "--report")
    done = run_core(*call, "-ot", "seg_nrrd")
    assert done.returncode == 0, done.stderr
    done = run_core("phantom", tmp_path / "phantom.nii.gz")
    assert done.returncode == 0, done.stderr
    done = run_core("evaluate", out, out)
    assert done.returncode == 3
    assert "pip install 'viscera[evaluate]'" in done.stderr
    done = run_core("segment", scans / "b.nii.gz", "-b", nearest, "--engine", "onnxruntime")
    assert done.returncode == 8
    assert "pip install 'viscera[onnxruntime]'" in done.stderr


@pytest.mark.hostile(76)
@pytest.mark.skipif(sys.platform != "linux", reason="uses ulimit")
@pytest.mark.parametrize("limit_kb", [600_000, 900_000, 1_200_000])
def test_a_limit_on_addresses_ends_in_a_sentence(tmp_path, scans, limit_kb):
    """Whatever library meets it, in whatever words: no word of exporting or installing anything."""
    call = f'ulimit -v {limit_kb}; {VISCERA} segment "$1" -o o.nii.gz -q'
    done = shell(call, scans / "b.nii.gz", cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    assert "Traceback" not in done.stderr
    assert "memory" in done.stderr
    assert "export" not in done.stderr
    assert not list(tmp_path.glob("o.nii.gz"))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_an_offset_that_is_no_number_is_refused(tmp_path, scans, nearest, value):
    with pytest.raises(UsageError, match="finite number of HU"):
        run("segment", scans / "b.nii.gz", "-o", tmp_path / "o.nii.gz", "-b", nearest,
            "--hu-offset", value)  # fmt: skip


def test_an_option_that_would_do_nothing_is_refused(tmp_path, scans, nearest):
    with pytest.raises(UsageError, match="add it, or leave the other out"):
        run("segment", scans / "b.nii.gz", "-o", tmp_path / "o.nii.gz", "-b", nearest, "--labelmap")
