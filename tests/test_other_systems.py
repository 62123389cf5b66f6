"""What Windows and macOS do otherwise, simulated: no /proc, busy files, narrow encodings."""

import math
import mmap
import os
import subprocess
import sys

import numpy as np
import psutil
import pytest

from viscera.core.volume import blank_labels
from viscera.errors import OutputError
from viscera.io.write import write_volume
from viscera.runtime import atomic_files, resources, stages

WITHOUT = """
import os, signal
del os.set_blocking  # as Python 3.11 on Windows,
signal.set_wakeup_fd = lambda *_, **__: -1  # which asks for no such pipe
from viscera.cli.main import main
main(["info"])
"""


@pytest.fixture
def busy(monkeypatch):
    """A file that another program reads for a moment: Windows replaces it only after that."""
    attempts = []

    def occupy(times):
        replace = type(atomic_files.Path()).replace

        def refuse(path, target):
            attempts.append(target)
            if len(attempts) <= times:
                raise PermissionError(13, "Access is denied")
            return replace(path, target)

        monkeypatch.setattr(type(atomic_files.Path()), "replace", refuse)
        monkeypatch.setattr(atomic_files, "_IS_WINDOWS", True)
        monkeypatch.setattr(atomic_files, "_WAITS_S", (0.001,) * 3)
        return attempts

    return occupy


def test_a_file_that_is_read_for_a_moment_is_replaced_after_it(tmp_path, busy):
    attempts = busy(2)
    atomic_files.write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"
    assert len(attempts) == 3


def test_a_file_that_stays_in_use_is_named(tmp_path, busy):
    busy(99)
    with pytest.raises(OutputError, match="Access is denied"):
        atomic_files.write_text(tmp_path / "a.txt", "text")
    assert not list(tmp_path.iterdir())


def test_other_systems_do_not_wait(tmp_path, busy, monkeypatch):
    attempts = busy(1)
    monkeypatch.setattr(atomic_files, "_IS_WINDOWS", False)
    with pytest.raises(OutputError):
        atomic_files.write_text(tmp_path / "a.txt", "text")
    assert len(attempts) == 1


def test_memory_is_known_without_proc(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(resources, "_CGROUP_MEMORY", ())
    free_mb = psutil.virtual_memory().available / 1e6
    assert resources.available_mb() == pytest.approx(free_mb, rel=0.2)


@pytest.mark.parametrize("has_resource", [True, False])
def test_a_stage_has_a_peak_without_proc(tmp_path, monkeypatch, has_resource):
    """A report is JSON, which has no NaN."""
    monkeypatch.setattr(stages, "_STATUS", tmp_path / "none")
    psutil.Process().memory_info()  # which may itself need what is missing next
    if not has_resource:
        monkeypatch.setitem(sys.modules, "resource", None)
    measured = stages.Stages()
    with measured.stage("x"):
        pass
    assert math.isfinite(measured.peaks_mb["x"])
    assert 10 < measured.peaks_mb["x"] < 100_000


def test_labels_are_made_where_pages_have_no_flags(monkeypatch):
    for name in ("MAP_PRIVATE", "MAP_ANONYMOUS", "MADV_NOHUGEPAGE"):
        monkeypatch.delattr(mmap, name, raising=False)
    labels = blank_labels((3, 4, 5))
    labels[1, 2, 3] = 7
    assert labels.sum() == 7
    assert labels.flags.f_contiguous


def test_the_command_starts_where_pipes_cannot_be_set(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "default" in run.stdout


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_names_that_a_pipe_cannot_print_are_escaped(tmp_path, small_phantom, nearest, encoding):
    scan = tmp_path / "腹部.nii.gz"
    write_volume(scan, small_phantom[0])
    call = ["segment", scan, "-o", tmp_path / "l.nii.gz", "-b", nearest, "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "viscera", *map(str, call)],
        capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    printed = run.stderr + run.stdout
    assert b"\\u8179\\u90e8" in printed or "腹部".encode() in printed
    assert (tmp_path / "l.nii.gz").exists()


def test_long_paths_are_written_or_named(tmp_path, small_phantom, nearest):
    """Windows stops at 260 characters, others at 4096."""
    import viscera

    folder = tmp_path
    while len(str(folder)) < 300:
        folder = folder / ("x" * 60)
    labels = viscera.segment(small_phantom[0], bundle=nearest)
    labels.save(folder / "labels.nii.gz")
    again = viscera.as_label_map(folder / "labels.nii.gz")
    np.testing.assert_array_equal(again.values, labels.labels)
    with pytest.raises(OutputError, match="a writable output"):
        labels.save(folder / ("y" * 300 + ".nii.gz"))
