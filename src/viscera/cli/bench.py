"""`viscera bench`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from viscera import __version__
from viscera.cli.cases import by_case, volume_files
from viscera.cli.failures import Failures
from viscera.cli.options import BUNDLE
from viscera.cli.progress import cases_bar
from viscera.errors import BatchError, UsageError, VisceraError

if TYPE_CHECKING:
    from viscera.bench import Measured
    from viscera.contestant import Contestant

_PATH = click.Path(path_type=Path)
_FILES = ("runs.csv", "curves.csv", "table.md", "summary.json")
_LONGEST = 100
_FOLDERS = ("runs", "outputs", "logs")


@click.command()
@click.argument("inputs", nargs=-1, type=_PATH)
@click.option("-o", "--output", type=_PATH, help="Folder for labels, runs and tables.")
@BUNDLE
@click.option("--options", default="", metavar="TEXT", help="More options of 'viscera segment'.")
@click.option(
    "--command",
    "commands",
    multiple=True,
    metavar='"... {input} {output}"',
    help="Another command to measure; may be repeated.",
)
@click.option("--name", "names", multiple=True, help="What tables call a --command, in order.")
@click.option("--only-commands", is_flag=True, help="Leave 'viscera segment' out.")
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), metavar="SECONDS", help="End a run then."
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
        found = "no -o" if inputs else "no scan"
        raise UsageError("scans and -o FOLDER", found=found, remedy="name them")
    if len(names) > len(commands):
        remedy = "leave one out"
        raise UsageError("a --command for each --name", found="more names", remedy=remedy)
    from viscera.bench import measure_all
    from viscera.contestant import Contestant
    from viscera.io.atomic import write_text
    from viscera.io.claim import claim
    from viscera.report.bench import bench_summary, bench_tables, curves_csv, runs_csv

    contestants = [] if only_commands else [_ourselves(bundle, options)]
    for place, line in enumerate(commands):
        contestants.append(Contestant.of(line, names[place] if place < len(names) else None))
    _check_names(contestants)
    cases = by_case([file for entry in inputs for file in volume_files(entry)])
    claim(output / "bench.json", {"made_by": "viscera bench"}, (*_FILES, *_FOLDERS))
    failures = Failures(output / "failures.csv")
    with cases_bar(len(cases) * len(contestants) * repeats, quiet=quiet) as tell:
        runs, refused = measure_all(
            cases, contestants, output, repeats=repeats, timeout_s=timeout, tell=tell
        )
    summary = bench_summary(runs, contestants)
    table, as_text = bench_tables(summary), json.dumps(summary, indent=2, ensure_ascii=False)
    texts = (runs_csv(runs), curves_csv(runs), table, as_text)
    for name, text in zip(_FILES, texts, strict=True):
        write_text(output / name, text, overwrite=True)
    if not quiet:
        click.echo(table, err=True)
    if as_json:
        click.echo(as_text)
    _conclude(runs, refused, failures)


def _ourselves(bundle: str, options: str) -> Contestant:
    """`viscera segment` by this very interpreter."""
    from viscera.bundles import read_bundle
    from viscera.contestant import Contestant, split

    version = f"{__version__} {read_bundle(bundle).model.sha256}"  # and refuse a wrong one now
    place = Path(bundle).resolve() if Path(bundle).is_dir() else bundle
    call = [sys.executable, "-m", "viscera", "segment", "{input}", "-o", "{output}"]
    return Contestant("viscera", (*call, "-b", str(place), "-q", *split(options)), version)


def _check_names(contestants: list[Contestant]) -> None:
    """Names become folders: each its own, and none that leads elsewhere.

    Raises:
        UsageError: no contestant, or such a name.
    """
    if not contestants:
        remedy = "leave --only-commands out"
        raise UsageError("a command to measure", found="none", remedy=remedy)
    counts = Counter(contestant.name for contestant in contestants)
    for name, count in counts.items():
        odd = not name.strip(".") or len(name) > _LONGEST or set(name) & set('/\\:*?"<>|')
        if count > 1 or odd:
            remedy = "give each --command a --name"
            expected = "a plain name of its own for each command"
            raise UsageError(expected, found=repr(name), remedy=remedy)


def _conclude(runs: list[Measured], refused: dict[str, VisceraError], failures: Failures) -> None:
    """Name the scans and runs that do not count, and end in the code for it."""
    for case, unreadable in refused.items():
        click.echo(f"viscera: {unreadable}", err=True)
        failures.note(case, unreadable)
    for one in runs:
        if one.problem:
            label = f"{one.command}, {one.case}, run {one.repeat}"
            error = BatchError(
                "labels from the command",
                found=one.problem,
                remedy=f"see logs/{one.command}/{one.case}.{one.repeat}.txt",
                where=label,
            )
            click.echo(f"viscera: {error}", err=True)
            failures.note(label, error)
    failures.conclude(len(runs) + len(refused))
