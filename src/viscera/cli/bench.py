"""`viscera bench`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from viscera._version import __version__
from viscera.cli._shared.options import BUNDLE, PATH
from viscera.cli._shared.progress import cases_bar
from viscera.cli._shared.terminal import echo
from viscera.errors import BatchError, UsageError, VisceraError, command_line_wording
from viscera.io.case_names import scans_by_case
from viscera.io.failure_list import FailureList
from viscera.io.scan_files import find_volumes

if TYPE_CHECKING:
    from viscera.bench.command import BenchCommand
    from viscera.bench.run import MeasuredRun

_FILES = ("runs.csv", "curves.csv", "table.md", "summary.json")
_LONGEST = 100
_FOLDERS = ("runs", "outputs", "logs")


@click.command()
@click.argument("inputs", nargs=-1, type=PATH)
@click.option("-o", "--output", type=PATH, help="Folder for labels, runs and tables.")
@BUNDLE
@click.option("--options", default="", metavar="TEXT", help="More options of 'viscera segment'.")
@click.option(
    "--command",
    "commands",
    multiple=True,
    metavar='"... {input} {output}"',
    help="Another command to measure; may be repeated.",
)
@click.option(
    "--name", "names", multiple=True, help="Name of a --command in tables, in the same order."
)
@click.option("--only-commands", is_flag=True, help="Leave 'viscera segment' out.")
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="End a run after this time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON to stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    inputs: tuple[Path, ...],
    output: Path | None,
    bundle: str,
    options: str,
    commands: tuple[str, ...],
    names: tuple[str, ...],
    only_commands: bool,
    repeats: int,
    timeout: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure whole processes, one scan a start, as FLARE does.

    INPUTS are scans or folders of them. Every command runs on every scan in turn. A call into the
    same folder does only what is missing. The labels stay in OUTPUT/outputs/NAME, for 'viscera
    evaluate'.
    """
    if not inputs or output is None:
        problem = "no -o" if inputs else "no scan"
        raise UsageError("scans and -o FOLDER", found=problem, remedy="name them")
    if len(names) > len(commands):
        remedy = "leave one out"
        raise UsageError("a --command for each --name", found="more names", remedy=remedy)
    from viscera.bench.command import BenchCommand
    from viscera.bench.run import run_benchmark
    from viscera.bench.tables import bench_tables, curves_csv, runs_csv, summarise_benchmark
    from viscera.io.output_folder import reserve_output_folder
    from viscera.runtime.atomic_files import write_text

    commands_to_run = [] if only_commands else [_viscera_command(bundle, options)]
    for number, line in enumerate(commands):
        commands_to_run.append(
            BenchCommand.of(line, names[number] if number < len(names) else None)
        )
    _check_names(commands_to_run)
    cases = scans_by_case([file for entry in inputs for file in find_volumes(entry)])
    reserve_output_folder(output / "bench.json", {"made_by": "viscera bench"}, (*_FILES, *_FOLDERS))
    failures = FailureList(output / "failures.csv", command_line_wording)
    with cases_bar(quiet=quiet) as on_progress:
        runs, refused = run_benchmark(
            cases,
            commands_to_run,
            output,
            repeats=repeats,
            timeout_s=timeout,
            on_progress=on_progress,
        )
    summary = summarise_benchmark(runs, commands_to_run)
    table, as_text = bench_tables(summary), json.dumps(summary, indent=2, ensure_ascii=False)
    texts = (runs_csv(runs), curves_csv(runs), table, as_text)
    for name, text in zip(_FILES, texts, strict=True):
        write_text(output / name, text, overwrite=True)
    if not quiet:
        echo(table, err=True)
    if as_json:
        echo(as_text)
    _conclude(runs, refused, failures)


def _viscera_command(bundle: str, options: str) -> BenchCommand:
    """`viscera segment` by this very interpreter."""
    from viscera.bench.command import BenchCommand, split_words
    from viscera.bundle.read import read_bundle

    version = f"{__version__} {read_bundle(bundle).model.sha256}"  # and refuse a wrong one now
    bundle_path = Path(bundle).resolve() if Path(bundle).is_dir() else bundle
    words = [sys.executable, "-m", "viscera", "segment", "{input}", "-o", "{output}"]
    return BenchCommand(
        "viscera", (*words, "-b", str(bundle_path), "-q", *split_words(options)), version
    )


def _check_names(commands_to_run: list[BenchCommand]) -> None:
    """Names become folders: each its own, and none that leads elsewhere.

    Raises:
        UsageError: no command, or such a name.
    """
    if not commands_to_run:
        remedy = "leave --only-commands out"
        raise UsageError("a command to measure", found="none", remedy=remedy)
    counts = Counter(each.name for each in commands_to_run)
    for name, count in counts.items():
        odd = not name.strip(".") or len(name) > _LONGEST or set(name) & set('/\\:*?"<>|')
        if count > 1 or odd:
            remedy = "give each --command a --name"
            expected = "a plain name of its own for each command"
            raise UsageError(expected, found=repr(name), remedy=remedy)


def _conclude(
    runs: list[MeasuredRun], refused: dict[str, VisceraError], failures: FailureList
) -> None:
    """Name the scans and runs that do not count, and end in the code for it."""
    for case, unreadable in refused.items():
        echo(f"viscera: {unreadable.message(command_line_wording)}", err=True)
        failures.add(case, unreadable)
    for measured in runs:
        if measured.problem:
            label = f"{measured.command}, {measured.case}, run {measured.repeat}"
            error = BatchError(
                "labels from the command",
                found=measured.problem,
                remedy=f"see logs/{measured.command}/{measured.case}.{measured.repeat}.txt",
                where=label,
            )
            echo(f"viscera: {error}", err=True)
            failures.add(label, error)
    failures.write()
    if batch := failures.error(len(runs) + len(refused)):
        raise batch
