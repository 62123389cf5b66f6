"""`viscera evaluate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from viscera.cli.csvfile import read_groups, read_seconds
from viscera.cli.failures import Failures
from viscera.cli.options import subset
from viscera.cli.pairs import PairPlan, plan_pairs
from viscera.cli.progress import cases_bar
from viscera.errors import (
    BatchError,
    InputError,
    NothingToSegmentError,
    UsageError,
    VisceraError,
)
from viscera.organs import select
from viscera.resources import parse_memory, thread_count

if TYPE_CHECKING:
    from viscera.cohort import Pair

_PATH = click.Path(path_type=Path)
_CONVENTION = "flare, totalsegmentator, amos, btcv, or a mapping file."


@click.command()
@click.argument("prediction", type=_PATH, required=False)
@click.argument("truth", type=_PATH, required=False)
@click.option("-o", "--output", type=_PATH, help="Folder for tables and pictures.")
@click.option(
    "--protocol",
    type=click.Choice(["standard", "flare24"]),
    default="standard",
    show_default=True,
    help="Whose rules; flare24 has the quirks of FLARE's script.",
)
@subset("Score")
@click.option(
    "--prediction-labels", default="flare", show_default=True, help=f"Convention: {_CONVENTION}"
)
@click.option(
    "--truth-labels", default="flare", show_default=True, help=f"Convention: {_CONVENTION}"
)
@click.option(
    "--pairs", "listed", type=_PATH, help="CSV: case, prediction, truth, and image if wished."
)
@click.option("--images", type=_PATH, help="The CTs, to draw the best and the worst cases.")
@click.option("--groups", type=_PATH, help="CSV with a column case: a table of groups.")
@click.option("--by", metavar="COLUMN", help="Which column of --groups names the group.")
@click.option("--times", type=_PATH, help="runs.csv of 'viscera bench': seconds for --groups.")
@click.option("--against", type=_PATH, help="Folder of another evaluation, to compare with.")
@click.option("--jobs", type=click.IntRange(1), help="Cases at a time; default: one a CPU.")
@click.option("--memory-limit", metavar="SIZE", help="Most memory to use, such as 2G.")
@click.option("--overwrite", is_flag=True, help="Replace an evaluation by other rules.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON to stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    prediction: Path | None,
    truth: Path | None,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare predicted labels with the truth: DSC, NSD, HD95, ASSD.

    PREDICTION and TRUTH are two files, or two folders whose files are matched by their case's
    name. A run into the same folder does only what is missing or has changed.
    """
    if output is not None and (output.exists() and not output.is_dir()):
        remedy = "choose another -o"
        raise UsageError("a folder for -o", found="a file", remedy=remedy, where=output)
    for option, needs in (("by", "groups"), ("times", "groups")):
        if options[option] and not options[needs]:
            found = f"--{option} without it"
            raise UsageError(f"--{needs}", found=found, remedy=f"add --{needs}")
    if options["images"] and output is None:
        raise UsageError("-o", found="--images without it", remedy="add -o")
    groups = read_groups(options["groups"], options["by"]) if options["groups"] else None
    seconds = read_seconds(options["times"]) if options["times"] else None
    plan = plan_pairs(prediction, truth, options["listed"], options["images"])
    # Only now the libraries that take time to import.
    from viscera.cohort import Rules, evaluate_all
    from viscera.evaluation import scored_organs
    from viscera.io.conventions import open_convention
    from viscera.report.cases import read_scores
    from viscera.report.evaluation import EvaluationFolder
    from viscera.report.tables import tables
    from viscera.summary import summary_of

    limit = options["memory_limit"]
    of_prediction = open_convention(options["prediction_labels"])
    of_truth = open_convention(options["truth_labels"])
    wanted = select(name for group in options["subset"] for name in group.split(","))
    rules = Rules(
        scored_organs(wanted, of_prediction, of_truth),
        options["protocol"],
        of_prediction,
        of_truth,
        parse_memory(limit) if limit else None,
    )
    other = read_scores(options["against"], rules.protocol) if options["against"] else None
    folder = EvaluationFolder(output) if output else None
    if folder:
        folder.claim(rules, overwrite=options["overwrite"])
    failures = Failures(output / "failures.csv") if output else None
    pairs = plan.pairs
    if rules.protocol == "flare24":  # the script walks the predictions
        pairs = tuple(pair for pair in pairs if pair.prediction is not None)
    _check_in_common(pairs, groups, other)
    with cases_bar(len(pairs), quiet=quiet) as tell:
        outcomes = evaluate_all(
            pairs,
            rules,
            memory=folder.memory if folder else None,
            jobs=thread_count(options["jobs"]),
            tell=tell,
        )
    if plan.single and isinstance(error := next(iter(outcomes.values()), None), VisceraError):
        raise error
    summary = summary_of(
        outcomes,
        rules,
        missing=plan.missing,
        surplus=plan.surplus,
        groups=groups,
        seconds=seconds,
        other=other,
    )
    if other is not None:
        summary["comparison"]["with"] = options["against"].name
    if folder:
        folder.write(summary, outcomes, groups, rules)
        for problem in folder.write_examples(pairs, outcomes, rules):
            click.echo(f"viscera: {problem}", err=True)
    if not quiet:
        _tell_people(plan, outcomes, tables(summary), output)
    if as_json:
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    _conclude(outcomes, failures)


def _check_in_common(pairs: Sequence[Pair], groups: Any, other: Any) -> None:
    """Something must be left to judge, to group and to compare with.

    Raises:
        NothingToSegmentError: no case is left.
        InputError: groups or another run know none of the cases.
    """
    if not pairs:
        raise NothingToSegmentError(
            "predictions of the truth's cases",
            found="none with the same name",
            remedy="name the files alike, or pass --pairs",
        )
    cases = {pair.case for pair in pairs}
    if groups is not None and not cases & set(groups):
        found = ", ".join(list(groups)[:3]) or "none"
        remedy = f"name them as the files are, such as {min(cases)}"
        raise InputError("the cases' names in --groups", found=found, remedy=remedy)
    if other is not None and not cases & {case for case, _ in other}:
        found = ", ".join(list(dict.fromkeys(case for case, _ in other))[:3]) or "none"
        raise InputError("some of these cases in --against", found=found, remedy="choose another")


def _tell_people(plan: PairPlan, outcomes: Any, text: str, output: Path | None) -> None:
    for case, found in outcomes.items():
        if not isinstance(found, VisceraError):
            for finding in found.findings:
                if finding.level != "info":
                    click.echo(f"{case}: {finding.level}: {finding}", err=True)
    for case in plan.surplus:
        click.echo(f"{case}: warning: a prediction without a truth was left out", err=True)
    click.echo(text, err=True)
    if output:
        click.echo(f"{output}: written", err=True)


def _conclude(outcomes: Any, failures: Failures | None) -> None:
    """Say what was refused, in words, in failures.csv and in the exit code."""
    refused = {c: error for c, error in outcomes.items() if isinstance(error, VisceraError)}
    for error in refused.values():
        click.echo(f"viscera: {error}", err=True)
    if failures:
        for case, error in refused.items():
            failures.note(case, error)
        failures.conclude(len(outcomes))
    elif refused:
        found = f"{len(refused)} that were not"
        remedy = "mend what is named above, and run again"
        raise BatchError(f"all {len(outcomes)} cases to be scored", found=found, remedy=remedy)
