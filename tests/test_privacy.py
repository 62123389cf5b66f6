"""Nothing leaves the machine, and nothing is written but the results."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from viscera.engine import ENGINES
from viscera.io import write_volume


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
        kept = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY")}
        return command, {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}, home

    return prepare


@pytest.mark.parametrize("engine", ENGINES)
def test_the_home_folder_stays_empty(call, engine):
    command, environment, home = call(engine)
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert list(home.rglob("*")) == []


def can_trace():
    strace = shutil.which("strace")
    return (
        strace
        and subprocess.run([strace, "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not can_trace(), reason="needs strace and the right to trace")
@pytest.mark.parametrize("engine", ENGINES)
def test_no_connection_and_no_file_but_the_results(call, engine, tmp_path):
    command, environment, _ = call(engine)
    log = tmp_path / "strace.log"
    trace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,openat,creat,mkdir,rename"]
    subprocess.run(
        [*trace, "-o", str(log), *command], env=environment, check=True, capture_output=True
    )
    lines = log.read_text(errors="replace").splitlines()
    assert any("openat" in line for line in lines), "the trace saw the run"
    outside = [
        line
        for line in lines
        if re.search(r"\b(connect|sendto)\(", line) and re.search(r"AF_INET|sin6?_addr", line)
    ]
    assert outside == []
    written = re.compile(
        r'(?:openat\([^"]*|creat\(|mkdir\()"([^"]+)"[^"]*(?:O_CREAT|creat|mkdir|07)'
    )
    paths = [found[1] for line in lines if (found := written.search(line)) and "ENOENT" not in line]
    allowed = (str(tmp_path / "out"), "/dev/", "/proc/")
    strangers = [p for p in paths if not p.startswith(allowed) and "__pycache__" not in p]
    assert strangers == []


def test_the_trace_would_see_a_report_home(tmp_path):
    """Without the switch, at least one engine leaves a trace: the test above is no empty one."""
    code = "import openvino"
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if k != "CI"}
    subprocess.run([sys.executable, "-c", code], env={**kept, "HOME": str(home)}, check=False)
    if not list(home.rglob("*")):
        pytest.skip("this openvino leaves nothing in the home folder")
    assert list(home.rglob("*"))
