"""`viscera bench`."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from viscera.cli.cases import by_case, volume_files
from viscera.cli.failures import Failures
from viscera.cli.progress import cases_bar
from viscera.errors import BatchError, UsageError

if TYPE_CHECKING:
    from viscera.bench import Contestant, Measured

_PATH = click.Path(path_type=Path)
_FILES = ("runs.csv", "curves.csv", "table.md")


@click.command()
@click.argument("inputs", nargs=-1, type=_PATH)
@click.option("-o", "--output", type=_PATH, help="Folder for labels, runs and tables.")
@click.option(
    "-b",
    "--bundle",
    default="default",
    envvar="VISCERA_BUNDLE",
    show_default=True,
    show_envvar=True,
    help="Network of 'viscera segment'.",
)
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
    from viscera.bench import Contestant, measure_all
    from viscera.io.atomic import check_absent, check_writable, write_text
    from viscera.report.bench import bench_summary, bench_tables, curves_csv, runs_csv

    contestants = [] if only_commands else [_ourselves(bundle, options)]
    for place, line in enumerate(commands):
        contestants.append(Contestant.of(line, names[place] if place < len(names) else None))
    _check_names(contestants)
    cases = by_case([file for entry in inputs for file in volume_files(entry)])
    check_writable(output / "summary.json")
    if not (output / "runs").is_dir():  # no benchmark of ours
        for name in (*_FILES, "summary.json"):
            check_absent(output / name, overwrite=False)
    failures = Failures(output / "failures.csv")
    with cases_bar(len(cases) * len(contestants) * repeats, quiet=quiet) as tell:
        runs = measure_all(
            cases, contestants, output, repeats=repeats, timeout_s=timeout, tell=tell
        )
    summary = bench_summary(runs, contestants)
    texts = (runs_csv(runs), curves_csv(runs), bench_tables(summary))
    for name, text in zip(_FILES, texts, strict=True):
        write_text(output / name, text, overwrite=True)
    as_text = json.dumps(summary, indent=2, ensure_ascii=False)
    write_text(output / "summary.json", as_text, overwrite=True)
    if not quiet:
        click.echo(texts[-1], err=True)
    if as_json:
        click.echo(as_text)
    _conclude(runs, failures)


def _ourselves(bundle: str, options: str) -> Contestant:
    """`viscera segment` by this very interpreter."""
    from viscera.bench import Contestant
    from viscera.bundles import read_bundle

    read_bundle(bundle)  # refuse a wrong one now, not once a scan
    place = Path(bundle).resolve() if Path(bundle).is_dir() else bundle
    call = [sys.executable, "-m", "viscera", "segment", "{input}", "-o", "{output}"]
    return Contestant("viscera", (*call, "-b", str(place), "-q", *shlex.split(options)))


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
        if count > 1 or not name.strip(".") or set(name) & set('/\\:*?"<>|'):
            remedy = "give each --command a --name"
            expected = "a plain name of its own for each command"
            raise UsageError(expected, found=repr(name), remedy=remedy)


def _conclude(found: list[Measured], failures: Failures) -> None:
    """Name the runs that do not count, and end in the code for it."""
    for one in found:
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
    failures.conclude(len(found))
