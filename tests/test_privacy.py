"""Nothing leaves the machine, and nothing is written but the results."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.dicom_series import write_series
from viscera.core.phantom import make_phantom
from viscera.engine.select import ENGINES
from viscera.io.write import write_volume


@pytest.fixture
def call(tmp_path, nearest, small_phantom):
    write_volume(tmp_path / "ct.nii.gz", small_phantom[0])
    home = tmp_path / "home"
    home.mkdir()

    def prepare(engine):
        command = [sys.executable, "-m", "viscera", "segment", str(tmp_path / "ct.nii.gz")]
        command += ["-o", str(tmp_path / "out" / "l.nii.gz"), "-b", str(nearest), "-p", "-s"]
        command += ["--engine", engine]
        # Engines that report home stay silent under CI: it must not be set.
        unset = ("CI", "ORT_DISABLE_TELEMETRY", "VISCERA_CACHE")
        kept = {k: v for k, v in os.environ.items() if k not in unset}
        return command, {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}, home

    return prepare


@pytest.mark.hostile(80)
@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_the_home_folder_stays_empty_when_nothing_may_be_kept(call, engine):
    command, environment, home = call(engine)
    environment["VISCERA_CACHE"] = "off"
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert list(home.rglob("*")) == []


@pytest.mark.slow
def test_what_is_kept_in_the_home_folder_is_the_compiled_network(call, tmp_path):
    command, environment, home = call("openvino")
    subprocess.run(command, env=environment, check=True, capture_output=True)
    kept = {path for path in home.rglob("*") if path.is_file()}
    assert kept
    assert {p.parent for p in kept} == {home / "cache" / "viscera"}
    assert {p.suffix for p in kept} == {".network"}
    # The same bytes of another scan: nothing of a scan is in them.
    sizes = {path: path.read_bytes() for path in kept}
    volume, _ = make_phantom(8, shape=(48, 40, 28), spacing_mm=(7.5, 7.0, 10.0))
    write_volume(tmp_path / "ct.nii.gz", volume, overwrite=True)
    subprocess.run([*command, "--overwrite"], env=environment, check=True, capture_output=True)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == sizes


def can_trace():
    strace = shutil.which("strace")
    return bool(strace) and not subprocess.run([strace, "true"], capture_output=True).returncode


traced = pytest.mark.skipif(not can_trace(), reason="needs strace and the right to trace")


def trace(command, log, environment=None):
    """Network addresses that a command connected to or sent to, and files it created."""
    calls = "trace=connect,sendto,sendmsg,openat,creat,mkdir"
    subprocess.run(
        ["strace", "-f", "-qq", "-e", calls, "-o", str(log), *command],
        env=environment,
        check=True,
        capture_output=True,
    )
    lines = log.read_text(errors="replace").splitlines()
    talks = [line for line in lines if re.search(r"(connect|sendto|sendmsg)\(.*AF_INET", line)]
    created = re.compile(
        r'(?:openat\(AT_FDCWD, "([^"]+)", [^)]*O_CREAT|(?:creat|mkdir)\("([^"]+)")'
    )
    files = [m[1] or m[2] for line in lines if (m := created.search(line)) and "ENOENT" not in line]
    return talks, [f for f in files if "__pycache__" not in f]


@pytest.mark.hostile(80)
@pytest.mark.slow
@traced
@pytest.mark.parametrize("engine", ENGINES)
def test_no_connection_and_no_file_but_the_results(call, engine, tmp_path):
    command, environment, _ = call(engine)
    talks, files = trace(command, tmp_path / "strace.log", environment)
    assert talks == []
    assert any(f.startswith(str(tmp_path / "out")) for f in files), "the trace saw the run"
    allowed = (str(tmp_path / "out"), str(tmp_path / "home" / "cache"), "/dev/", "/proc/")
    assert [f for f in files if not f.startswith(allowed)] == []


@pytest.mark.slow
@traced
def test_no_connection_and_no_file_but_the_results_of_a_series(call, tmp_path, small_phantom):
    pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
    command, environment, _ = call("onnxruntime")
    values = np.ascontiguousarray(small_phantom[0].data.transpose(2, 1, 0))
    write_series(tmp_path / "study", values, spacing_mm=(7.0, 7.5), step_mm=(0, 0, 10.0))
    command[command.index(str(tmp_path / "ct.nii.gz"))] = str(tmp_path / "study")
    command += ["-ot", "dicom_seg", "-ot", "dicom_rtstruct"]
    talks, files = trace(command, tmp_path / "strace.log", environment)
    assert talks == []
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 2
    allowed = (str(tmp_path / "out"), str(tmp_path / "home" / "cache"), "/dev/", "/proc/")
    assert [f for f in files if not f.startswith(allowed)] == []


@traced
def test_the_trace_would_see_both(tmp_path):
    """The counter-check, on loopback: a datagram socket and a stray file are noticed."""
    code = (
        "import socket\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))\n"
        f"open({str(tmp_path / 'stray')!r}, 'w').close()\n"
    )
    talks, files = trace([sys.executable, "-c", code], tmp_path / "strace.log")
    assert len(talks) == 1
    assert files == [str(tmp_path / "stray")]


def test_telemetry_is_off_before_an_engine_is_imported():
    code = (
        "import os, sys\n"
        "from viscera.engine.privacy import disable_telemetry\n"
        "disable_telemetry()\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "assert not {'openvino', 'onnxruntime'} & set(sys.modules)\n"
        "try:\n    import openvino_telemetry\n"
        "except ImportError:\n    pass\n"
        "else:\n    raise SystemExit('openvino could report home')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
