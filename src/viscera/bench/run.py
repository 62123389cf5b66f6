"""A benchmark: commands side by side on the same scans, each run a process of its own."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from viscera.bench.command import BenchCommand
from viscera.bench.process import ProcessRun, ResourceSample, run_and_measure
from viscera.errors import VisceraError
from viscera.io.content_digest import content_digest
from viscera.io.read import read_grid
from viscera.runtime.atomic_files import check_writable, write_text
from viscera.runtime.digests import digest_of
from viscera.runtime.small_files import read_json_file


@dataclass(frozen=True)
class MeasuredRun:
    """One run of one command on one scan.

    Attributes:
        command, case: their names.
        repeat: counted from 1.
        shape: of the scan, [i, j, k].
        slices: of the scan, along the axis nearest to head and feet.
        run: what it cost.
        problem: why it does not count; empty where it does.
    """

    command: str
    case: str
    repeat: int
    shape: tuple[int, int, int]
    slices: int
    run: ProcessRun
    problem: str = ""


def run_benchmark(
    cases: dict[str, Path],
    commands: Sequence[BenchCommand],
    folder: Path,
    *,
    repeats: int = 1,
    timeout_s: float | None = None,
    on_progress: Callable[[int, int], None] = lambda _completed, _all: None,
) -> tuple[list[MeasuredRun], dict[str, VisceraError]]:
    """Measure every command on every scan, in turn, so that all meet the same machine.

    Labels stay in ``folder/outputs/NAME/CASE.nii.gz``, what a command printed in
    ``folder/logs/NAME/CASE.REPEAT.txt``. An earlier run of the same command on the same bytes by
    the same kind of machine is not repeated; one that failed, or whose labels are gone, is.

    Args:
        cases: scans by case.
        commands: with different names.
        folder: receives everything.
        repeats: runs of each command on each scan.
        timeout_s: a run is ended after this.
        on_progress: takes the number of runs done, and of all.

    Returns:
        The runs, scans with fewer slices first; and the scans that cannot be read.

    Raises:
        OutputError: the folder is not writable.
    """
    sizes: dict[str, tuple[int, tuple[int, int, int]]] = {}
    refused: dict[str, VisceraError] = {}
    for case, scan in cases.items():
        try:
            sizes[case] = _scan_size(scan)
        except VisceraError as error:
            refused[case] = error
    runs: list[MeasuredRun] = []
    for case, (slices, shape) in sorted(sizes.items(), key=lambda item: item[1]):
        digest = content_digest(cases[case])
        for repeat in range(1, repeats + 1):
            for command in commands:
                key = digest_of(command.cache_key(), digest, machine_description())
                files = _RunFiles(folder, command.name, case, repeat)
                measured = _earlier_run(files, key)
                if measured is None:
                    run, problem = _measure_run(command, cases[case], files, timeout_s)
                    measured = MeasuredRun(command.name, case, repeat, shape, slices, run, problem)
                    content = {"made_by": key, **asdict(measured)}
                    write_text(files.run, json.dumps(content), overwrite=True)
                runs.append(measured)
                on_progress(len(runs), len(sizes) * repeats * len(commands))
    return runs, refused


def machine_description() -> dict[str, Any]:
    """The machine and versions of a measurement."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class _RunFiles:
    """The files of one run."""

    folder: Path
    command: str
    case: str
    repeat: int

    @property
    def labels(self) -> Path:
        return self.folder / "outputs" / self.command / f"{self.case}.nii.gz"

    @property
    def log(self) -> Path:
        return self.folder / "logs" / self.command / f"{self.case}.{self.repeat}.txt"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / self.command / f"{self.case}.{self.repeat}.json"


def _measure_run(
    command: BenchCommand, scan: Path, files: _RunFiles, timeout_s: float | None
) -> tuple[ProcessRun, str]:
    """One run, and why it does not count, if so.

    The command writes into a folder of its own, and only what counts takes its place among the
    outputs, so that a run which fails neither leaves labels nor takes those of an earlier one.
    """
    for path in (files.labels, files.log):
        check_writable(path)
    with tempfile.TemporaryDirectory(prefix=".running-", dir=files.labels.parent) as scratch:
        labels = Path(scratch) / files.labels.name
        words = command.call(scan.resolve(), labels.resolve())
        try:
            run = run_and_measure(words, log=files.log, timeout_s=timeout_s)
        except OSError as error:
            return ProcessRun(
                0.0, 0.0, None, None, ()
            ), f"cannot be started: {error.strerror or error}"
        if run.exit_code is None:
            return run, f"ended after {timeout_s:g} s"
        if run.exit_code:
            return run, f"exit code {run.exit_code}"
        if not labels.is_file() or not labels.stat().st_size:
            return run, "no output was written"
        labels.replace(files.labels)
    return run, ""


def _scan_size(scan: Path) -> tuple[int, tuple[int, int, int]]:
    """Slices between head and feet, and the whole shape."""
    shape, affine = read_grid(scan)
    axis = next(axis for axis, (world, _) in enumerate(affine.axes) if world == 2)
    return shape[axis], shape


def _earlier_run(files: _RunFiles, key: str) -> MeasuredRun | None:
    """A run that an earlier call measured and that counts."""
    if not files.labels.is_file():
        return None
    try:
        content = read_json_file(files.run)
        if content.pop("made_by") != key or content["problem"]:
            return None
        run = content.pop("run")
        samples = tuple(ResourceSample(**sample) for sample in run.pop("samples"))
        content["shape"] = tuple(content["shape"])
        return MeasuredRun(**content, run=ProcessRun(**run, samples=samples))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
