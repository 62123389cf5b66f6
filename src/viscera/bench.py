"""A benchmark: commands side by side on the same scans, each run a process of its own."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from viscera.errors import UsageError
from viscera.io import fingerprint, read_grid
from viscera.io.atomic import write_text
from viscera.measure.process import Run, Sample, run_measured

_PLACES = ("{input}", "{output}")


@dataclass(frozen=True)
class Contestant:
    """One command to measure.

    Attributes:
        name: stands in tables and file names.
        words: program and arguments; ``{input}`` and ``{output}`` stand for the files.
    """

    name: str
    words: tuple[str, ...]

    @classmethod
    def of(cls, command: str, name: str | None = None) -> Contestant:
        """A command from one line, split as a shell does; no shell will run it.

        Raises:
            UsageError: it cannot be split, or lacks a placeholder.
        """
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            remedy = "mend the quotes"
            raise UsageError("a command", found=f"{command!r} ({error})", remedy=remedy) from error
        for place in _PLACES:
            if not any(place in word for word in words):
                raise UsageError(
                    "{input} and {output} in the command",
                    found=repr(command),
                    remedy=f"put {place} where the file's path belongs",
                )
        return cls(name or Path(words[0]).stem, words)

    def call(self, scan: Path, labels: Path) -> list[str]:
        """The command for one scan."""
        paths = dict(zip(_PLACES, (str(scan), str(labels)), strict=True))
        words = list(self.words)
        for place, path in paths.items():
            words = [word.replace(place, path) for word in words]
        return words


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
) -> list[Measured]:
    """Measure every command on every scan, in turn, so that all meet the same machine.

    Labels stay in ``folder/outputs/NAME/CASE.nii.gz``, what a command printed in
    ``folder/logs/NAME/CASE.REPEAT.txt``. A run that stands already, of the same command on the
    same bytes, is not repeated; one that failed is.

    Args:
        cases: scans by case.
        contestants: commands with different names.
        folder: receives everything.
        repeats: runs of each command on each scan.
        timeout_s: a run is ended after this.
        tell: called with the number of runs done.

    Raises:
        InputError: a scan is unreadable.
        OutputError: the folder is not writable.
    """
    found: list[Measured] = []
    sizes = {case: _size(scan) for case, scan in cases.items()}
    for case, (slices, shape) in sorted(sizes.items(), key=lambda item: item[1]):
        scan = cases[case]
        bytes_of = fingerprint(scan)
        for repeat in range(1, repeats + 1):
            for contestant in contestants:
                mark = hashlib.sha256(repr([contestant.words, bytes_of]).encode()).hexdigest()
                kept = folder / "runs" / contestant.name / f"{case}.{repeat}.json"
                one = _recalled(kept, mark)
                if one is None:
                    run, problem = _measure(contestant, scan, folder, case, repeat, timeout_s)
                    one = Measured(contestant.name, case, repeat, shape, slices, run, problem)
                    content = {"made_by": mark, **asdict(one)}
                    write_text(kept, json.dumps(content), overwrite=True)
                found.append(one)
                if tell:
                    tell(len(found))
    return found


def _measure(
    contestant: Contestant,
    scan: Path,
    folder: Path,
    case: str,
    repeat: int,
    timeout_s: float | None,
) -> tuple[Run, str]:
    """One run, and what keeps it from counting."""
    labels = folder / "outputs" / contestant.name / f"{case}.nii.gz"
    log = folder / "logs" / contestant.name / f"{case}.{repeat}.txt"
    for path in (labels, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    labels.unlink(missing_ok=True)  # that of an earlier repeat
    call = contestant.call(scan.resolve(), labels.resolve())
    try:
        run = run_measured(call, log=log, timeout_s=timeout_s)
    except OSError as error:
        return Run(0.0, 0.0, 0.0, None, ()), f"cannot be started: {error.strerror or error}"
    if run.exit_code is None:
        return run, f"ended after {timeout_s:g} s"
    if run.exit_code:
        return run, f"exit code {run.exit_code}"
    return run, "" if labels.is_file() and labels.stat().st_size else "no output was written"


def _size(scan: Path) -> tuple[int, tuple[int, int, int]]:
    """Slices between head and feet, and the whole shape."""
    shape, affine = read_grid(scan)
    axis = next(axis for axis, (world, _) in enumerate(affine.axes) if world == 2)
    return shape[axis], shape


def _recalled(kept: Path, mark: str) -> Measured | None:
    """A run that an earlier call measured and that counts."""
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        if content.pop("made_by") != mark or content["problem"]:
            return None
        run = content.pop("run")
        samples = tuple(Sample(**sample) for sample in run.pop("samples"))
        content["shape"] = tuple(content["shape"])
        return Measured(**content, run=Run(**run, samples=samples))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
