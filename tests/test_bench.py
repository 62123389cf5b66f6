"""`viscera bench`: what a process costs, and commands side by side."""

import csv
import io
import json
import shlex
import sys
import time

import pytest

from tests.test_cli import run
from viscera.bench.command import BenchCommand
from viscera.bench.process import ProcessRun, ResourceSample, run_and_measure
from viscera.errors import BatchError, OutputError, UsageError
from viscera.io.write import write_volume

PYTHON = shlex.quote(sys.executable)
COPY = f"{PYTHON} -c \"import shutil; shutil.copy('{{input}}', '{{output}}')\""


@pytest.fixture
def scans(tmp_path, small_phantom):
    (tmp_path / "ct").mkdir()
    for case in ("a_0000", "b_0000"):
        write_volume(tmp_path / "ct" / f"{case}.nii.gz", small_phantom[0])
    return tmp_path / "ct"


def measure(tmp_path, code, **kwargs):
    return run_and_measure([sys.executable, "-c", code], log=tmp_path / "log", **kwargs)


def test_memory_and_time_of_a_process(tmp_path):
    """200 MB held for 0.6 s."""
    found = measure(tmp_path, "import time; a = bytearray(200_000_000); time.sleep(0.6)")
    assert found.exit_code == 0
    assert 205 < found.peak_mb < 300
    assert found.seconds > 0.6
    assert len(found.samples) >= 5
    assert 200 * 0.4 < found.memory_area_mb_s < found.peak_mb * found.seconds


def test_children_count(tmp_path):
    """A child that holds 150 MB and works, in a parent that waits."""
    child = "import time; a = bytearray(150_000_000); t = time.process_time()\\n"
    child += "while time.process_time() - t < 0.5: pass"
    found = measure(
        tmp_path, f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{child}'])"
    )
    assert found.exit_code == 0, (tmp_path / "log").read_text()
    assert found.peak_mb > 155
    assert found.cpu_s >= 0.5
    assert found.cpu_area_percent_s == 100 * found.cpu_s


def test_a_small_process_is_not_credited_with_our_own_memory(tmp_path):
    assert run_and_measure(["sleep", "0.2"], log=tmp_path / "log").peak_mb < 20


def test_a_process_is_ended_in_time_with_its_children(tmp_path):
    start = time.monotonic()
    child = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    code = f"import subprocess, sys; subprocess.run({child})"
    found = measure(tmp_path, code, timeout_s=0.7)
    assert found.exit_code is None
    assert time.monotonic() - start < 30


def test_areas_are_those_of_the_curve():
    samples = (
        ResourceSample(0.0, 100, 0.0),
        ResourceSample(1.0, 100, 1.0),
        ResourceSample(2.0, 300, 3.0),
    )
    one = ProcessRun(3.0, 3.5, 300, 0, samples)
    # 100 in the first second, 200 on the way up, 150 on the way down to 0.
    assert one.memory_area_mb_s == pytest.approx(100 + 200 + 150)
    assert one.cpu_area_percent_s == 350
    assert one.cpu_percent()[1:] == pytest.approx([100, 200])


@pytest.mark.slow
def test_commands_side_by_side(tmp_path, scans):
    slow = COPY.replace("import shutil;", "import shutil, time; time.sleep(0.5);")
    out = tmp_path / "out"
    run("bench", scans, "-o", out, "--only-commands", "--command", COPY, "--name", "copy",
        "--command", slow, "--name", "slow", "--repeats", 2)  # fmt: skip
    rows = list(csv.DictReader(io.StringIO((out / "runs.csv").read_text())))
    assert [(r["case"], r["repeat"], r["command"]) for r in rows] == [
        (case, repeat, name) for case in "ab" for repeat in "12" for name in ("copy", "slow")
    ]
    assert {r["slices"] for r in rows} == {"28"}
    summary = json.loads((out / "summary.json").read_text())["commands"]
    assert summary["slow"]["median"]["seconds"] > 0.5  # it sleeps so long
    assert summary["copy"]["median"]["seconds"] > 0
    assert (out / "outputs" / "copy" / "a.nii.gz").exists()
    text = (out / "table.md").read_text()
    assert "## Side by side" in text
    assert "48 x 40 x 28" in text
    assert len((out / "curves.csv").read_text().splitlines()) > 12
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/*.json")}
    run("bench", scans, "-o", out, "--only-commands", "--command", COPY, "--name", "copy",
        "--command", slow, "--name", "slow", "--repeats", 3)  # fmt: skip
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
    assert len(list(out.glob("runs/*/*.json"))) == 12


def test_viscera_itself_is_measured(tmp_path, scans, nearest):
    run("bench", scans / "a_0000.nii.gz", "-o", tmp_path / "out", "-b", nearest)
    row = json.loads((tmp_path / "out" / "summary.json").read_text())["commands"]["viscera"]
    assert row["cases"]["a"]["peak_mb"] > 50
    found = tmp_path / "out" / "outputs" / "viscera"
    groups = tmp_path / "groups.csv"
    groups.write_text("case,region\na,Asia\n")
    result = run("evaluate", found, found, "--groups", groups, "--times",
                 tmp_path / "out" / "runs.csv")  # fmt: skip
    assert "seconds a case" in result.stderr


def test_a_command_that_fails_is_named_and_tried_again(tmp_path, scans):
    call = ("bench", scans, "-o", tmp_path / "out", "--only-commands", "--name", "mine")
    for command, problem in (
        (f"{PYTHON} -c \"print('no'); raise SystemExit(3)\" {{input}} {{output}}", "exit code 3"),
        (f"{PYTHON} -c pass {{input}} {{output}}", "no output was written"),
        ("no-such-program-anywhere {input} {output}", "cannot be started"),
    ):
        with pytest.raises(BatchError, match="2 that failed"):
            run(*call, "--command", command)
        assert problem in (tmp_path / "out" / "failures.csv").read_text()
        assert "| failed" in (tmp_path / "out" / "table.md").read_text()
    with pytest.raises(BatchError):
        run(*call, "--timeout", "0.3", "--command",
            f'{PYTHON} -c "import time; time.sleep(60)" {{input}} {{output}}')  # fmt: skip
    assert "ended after 0.3 s" in (tmp_path / "out" / "failures.csv").read_text()
    run(*call, "--command", COPY)
    assert not (tmp_path / "out" / "failures.csv").exists()


def test_calls_that_make_no_sense(tmp_path, scans):
    out = ("-o", tmp_path / "out", "--only-commands")
    with pytest.raises(UsageError, match=r"\{input\} and \{output\}"):
        run("bench", scans, *out, "--command", "cp {input} there")
    with pytest.raises(UsageError, match="correct the quotes"):
        run("bench", scans, *out, "--command", "cp '{input} {output}")
    with pytest.raises(UsageError, match="a plain name of its own"):
        run("bench", scans, *out, "--command", COPY, "--command", COPY)
    with pytest.raises(UsageError, match="a plain name"):
        run("bench", scans, *out, "--command", COPY, "--name", "../x")
    with pytest.raises(UsageError, match="a command to measure"):
        run("bench", scans, *out)
    with pytest.raises(UsageError, match="a --command for each --name"):
        run("bench", scans, *out, "--name", "x")
    with pytest.raises(UsageError, match="scans and -o FOLDER"):
        run("bench", scans)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "runs.csv").write_text("mine")
    with pytest.raises(OutputError, match="an existing file"):
        run("bench", scans, *out, "--command", COPY)


def test_paths_with_spaces_and_quotes_stay_one_argument(tmp_path):
    one = BenchCommand.of('prog --in={input} "a b" {output}')
    assert one.name == "prog"
    assert one.call(tmp_path / "x 'y'", tmp_path / "z") == [
        "prog", f"--in={tmp_path}/x 'y'", "a b", str(tmp_path / "z"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["runs/x.json", "outputs/copy/a.nii.gz", "summary.json"])
def test_nothing_of_others_is_touched(tmp_path, scans, name):
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputError):
        run("bench", scans, "-o", tmp_path / "out", "--only-commands", "--command", COPY, "--name",
            "copy")  # fmt: skip
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [mine]


def test_a_benchmark_and_an_evaluation_keep_apart(tmp_path, scans):
    call = ("bench", scans, "-o", tmp_path / "out", "--only-commands", "--command", COPY, "-q")
    run(*call)
    kept = (tmp_path / "out" / "table.md").read_bytes()
    with pytest.raises(OutputError, match="marker of another kind"):
        run("evaluate", scans, scans, "-o", tmp_path / "out", "--overwrite")
    assert (tmp_path / "out" / "table.md").read_bytes() == kept


def bench(tmp_path, scans, command, *more):
    run("bench", scans, "-o", tmp_path / "out", "--only-commands", "--name", "x", "--command",
        command, "-q", *more)  # fmt: skip


def stamps(tmp_path):
    return {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("runs/x/*.json")}


def test_a_changed_program_or_lost_labels_are_measured_again(tmp_path, scans):
    script = tmp_path / "copy.py"
    script.write_text("import shutil, sys; shutil.copy(*sys.argv[1:])")
    command = f"{PYTHON} {shlex.quote(str(script))} {{input}} {{output}}"
    bench(tmp_path, scans, command)
    first = stamps(tmp_path)
    (tmp_path / "out" / "outputs" / "x" / "a.nii.gz").unlink()
    bench(tmp_path, scans, command)
    second = stamps(tmp_path)
    assert second["a.1.json"] != first["a.1.json"]
    assert second["b.1.json"] == first["b.1.json"]
    script.write_text("import shutil, sys; shutil.copy(*sys.argv[1:])  # changed")
    bench(tmp_path, scans, command)
    assert stamps(tmp_path)["b.1.json"] != second["b.1.json"]


def test_a_run_that_fails_leaves_no_labels_and_takes_none(tmp_path, scans):
    """The second run writes its labels, and fails: those of the first stay."""
    script = tmp_path / "once.py"
    script.write_text(
        "import pathlib, shutil, sys\n"
        "scan, labels, flag = sys.argv[1:]\n"
        "shutil.copy(scan, labels)\n"
        "if pathlib.Path(flag).exists():\n"
        "    pathlib.Path(labels).write_text('bad')\n"
        "    sys.exit(1)\n"
        "pathlib.Path(flag).touch()\n"
    )
    command = f"{PYTHON} {shlex.quote(str(script))} {{input}} {{output}} {tmp_path}/flag"
    with pytest.raises(BatchError, match="1 that failed"):
        bench(tmp_path, scans / "a_0000.nii.gz", command, "--repeats", 2)
    outputs = tmp_path / "out" / "outputs" / "x"
    assert [p.name for p in outputs.iterdir()] == ["a.nii.gz"]
    assert (outputs / "a.nii.gz").read_bytes() == (scans / "a_0000.nii.gz").read_bytes()
    with pytest.raises(BatchError):
        bench(tmp_path, scans / "b_0000.nii.gz", command)
    assert not (outputs / "b.nii.gz").exists()


def test_an_unreadable_scan_does_not_stop_the_others(tmp_path, scans):
    (scans / "c.nii.gz").write_bytes(b"no scan")
    with pytest.raises(BatchError, match="1 that failed"):
        bench(tmp_path, scans, COPY)
    assert "c,3," in (tmp_path / "out" / "failures.csv").read_text()
    assert len(stamps(tmp_path)) == 2


def test_commands_too_short_to_be_seen_have_no_peak(tmp_path, scans):
    bench(tmp_path, scans, "cp {input} {output}")
    run("bench", scans, "-o", tmp_path / "out", "--only-commands", "--command",
        "cp {input} {output}", "--command", COPY, "-q")  # fmt: skip
    assert "## Side by side" in (tmp_path / "out" / "table.md").read_text()


def test_a_command_that_makes_a_folder_of_its_output(tmp_path, scans):
    code = f"{PYTHON} -c \"import os; os.makedirs('{{output}}')\" {{input}}"
    for _ in range(2):
        with pytest.raises(BatchError):
            bench(tmp_path, scans, code)
    assert "no output was written" in (tmp_path / "out" / "failures.csv").read_text()


def test_a_scan_named_like_a_placeholder(tmp_path, scans):
    (scans / "a_0000.nii.gz").rename(scans / "a{output}.nii.gz")
    bench(tmp_path, scans, COPY)
    assert (tmp_path / "out" / "outputs" / "x" / "a{output}.nii.gz").exists()


def test_more_words_that_make_no_sense(tmp_path, scans):
    with pytest.raises(UsageError, match="correct the quotes"):
        run("bench", scans, "-o", tmp_path / "out", "-b", "phantom", "--options", "'")
    with pytest.raises(UsageError, match="a plain name"):
        run("bench", scans, "-o", tmp_path / "out", "--only-commands", "--command", COPY, "--name",
            "n" * 300)  # fmt: skip


@pytest.mark.parametrize(
    "line", ["sh -c 'predict {input} {output}'", "/bin/bash -lc \"x '{input}' {output}\""]
)
def test_a_files_name_is_never_run_by_a_shell(line):
    with pytest.raises(UsageError, match=r"\$1"):
        BenchCommand.of(line)
    BenchCommand.of('sh -c \'predict "$1" "$2"\' sh {input} {output}')
