"""A benchmark: commands side by side on the same scans, each run a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from viscera.contestant import Contestant
from viscera.errors import VisceraError
from viscera.io import fingerprint, read_grid
from viscera.io.atomic import check_writable, write_text
from viscera.measure.process import Run, Sample, run_measured


@dataclass(frozen=True)
class Measured:
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
    run: Run
    problem: str = ""


def measure_all(
    cases: dict[str, Path],
    contestants: Sequence[Contestant],
    folder: Path,
    *,
    repeats: int = 1,
    timeout_s: float | None = None,
    tell: Callable[[int], None] | None = None,
) -> tuple[list[Measured], dict[str, VisceraError]]:
    """Measure every command on every scan, in turn, so that all meet the same machine.

    Labels stay in ``folder/outputs/NAME/CASE.nii.gz``, what a command printed in
    ``folder/logs/NAME/CASE.REPEAT.txt``. A run that stands already, of the same command on the
    same bytes by the same kind of machine, is not repeated; one that failed, or whose labels are
    gone, is.

    Args:
        cases: scans by case.
        contestants: commands with different names.
        folder: receives everything.
        repeats: runs of each command on each scan.
        timeout_s: a run is ended after this.
        tell: called with the number of runs done.

    Returns:
        The runs, scans with fewer slices first; and the scans that cannot be read.

    Raises:
        OutputError: the folder is not writable.
    """
    found: list[Measured] = []
    sizes: dict[str, tuple[int, tuple[int, int, int]]] = {}
    refused: dict[str, VisceraError] = {}
    for case, scan in cases.items():
        try:
            sizes[case] = _size(scan)
        except VisceraError as error:
            refused[case] = error
    for case, (slices, shape) in sorted(sizes.items(), key=lambda item: item[1]):
        bytes_of = fingerprint(cases[case])
        for repeat in range(1, repeats + 1):
            for contestant in contestants:
                told = repr([contestant.mark(), bytes_of, machine()])
                mark = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()
                place = _Place(folder, contestant.name, case, repeat)
                one = _recalled(place, mark)
                if one is None:
                    run, problem = _measure(contestant, cases[case], place, timeout_s)
                    one = Measured(contestant.name, case, repeat, shape, slices, run, problem)
                    content = {"made_by": mark, **asdict(one)}
                    write_text(place.run, json.dumps(content), overwrite=True)
                found.append(one)
                if tell:
                    tell(len(found))
    return found, refused


def machine() -> dict[str, Any]:
    """What the figures are measured on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class _Place:
    """Where the files of one run stand."""

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


def _measure(
    contestant: Contestant, scan: Path, place: _Place, timeout_s: float | None
) -> tuple[Run, str]:
    """One run, and what keeps it from counting.

    The command writes into a folder of its own, and only what counts takes its place among the
    outputs, so that a run which fails neither leaves labels nor takes those of an earlier one.
    """
    for path in (place.labels, place.log):
        check_writable(path)
    with tempfile.TemporaryDirectory(prefix=".running-", dir=place.labels.parent) as own:
        labels = Path(own) / place.labels.name
        call = contestant.call(scan.resolve(), labels.resolve())
        try:
            run = run_measured(call, log=place.log, timeout_s=timeout_s)
        except OSError as error:
            return Run(0.0, 0.0, None, None, ()), f"cannot be started: {error.strerror or error}"
        if run.exit_code is None:
            return run, f"ended after {timeout_s:g} s"
        if run.exit_code:
            return run, f"exit code {run.exit_code}"
        if not labels.is_file() or not labels.stat().st_size:
            return run, "no output was written"
        labels.replace(place.labels)
    return run, ""


def _size(scan: Path) -> tuple[int, tuple[int, int, int]]:
    """Slices between head and feet, and the whole shape."""
    shape, affine = read_grid(scan)
    axis = next(axis for axis, (world, _) in enumerate(affine.axes) if world == 2)
    return shape[axis], shape


def _recalled(place: _Place, mark: str) -> Measured | None:
    """A run that an earlier call measured and that counts."""
    if not place.labels.is_file():
        return None
    try:
        content = json.loads(place.run.read_text(encoding="utf-8"))
        if content.pop("made_by") != mark or content["problem"]:
            return None
        run = content.pop("run")
        samples = tuple(Sample(**sample) for sample in run.pop("samples"))
        content["shape"] = tuple(content["shape"])
        return Measured(**content, run=Run(**run, samples=samples))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
