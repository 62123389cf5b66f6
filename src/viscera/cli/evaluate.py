"""`viscera evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from viscera.cli._shared.options import PATH, organ_names, subset
from viscera.cli._shared.progress import cases_bar
from viscera.cli._shared.terminal import echo
from viscera.errors import BatchError, VisceraError, command_line_wording
from viscera.io.failure_list import batch_error
from viscera.runtime.resources import parse_memory, thread_count

if TYPE_CHECKING:
    from viscera.evaluation.evaluate_cohort import CohortEvaluation

_SCHEME = "flare, totalsegmentator, amos, btcv, or a mapping file."


@click.command()
@click.argument("prediction", type=PATH, required=False)
@click.argument("truth", type=PATH, required=False)
@click.option("-o", "--output", type=PATH, help="Folder for tables and pictures.")
@click.option(
    "--protocol",
    type=click.Choice(["standard", "flare24"]),
    default="standard",
    show_default=True,
    help="Rules; flare24 follows FLARE's script of 2024 exactly.",
)
@subset("Compare")
@click.option(
    "--prediction-labels", default="flare", show_default=True, help=f"Label scheme: {_SCHEME}"
)
@click.option("--truth-labels", default="flare", show_default=True, help=f"Label scheme: {_SCHEME}")
@click.option(
    "--label-table",
    metavar="TABLE",
    help="Other structures than the 13 organs: a bundle, a TOML table, a dataset.json.",
)
@click.option("--pairs", type=PATH, help="CSV: case, prediction, truth, optionally image.")
@click.option("--images", type=PATH, help="The CTs, to draw the best and the worst cases.")
@click.option("--groups", type=PATH, help="CSV with a column case: a table of groups.")
@click.option("--by", metavar="COLUMN", help="Column of --groups with the group's name.")
@click.option("--times", type=PATH, help="runs.csv of 'viscera bench': seconds for --groups.")
@click.option("--against", type=PATH, help="Folder of another evaluation, to compare with.")
@click.option("--jobs", type=click.IntRange(1), help="Cases at a time; default: one a CPU.")
@click.option("--memory-limit", metavar="SIZE", help="Most memory to use, such as 2G.")
@click.option("--overwrite", is_flag=True, help="Replace an evaluation by other rules.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON to stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    prediction: Path | None,
    truth: Path | None,
    output: Path | None,
    protocol: Any,
    subset: tuple[str, ...],
    prediction_labels: str,
    truth_labels: str,
    label_table: str | None,
    pairs: Path | None,
    images: Path | None,
    groups: Path | None,
    by: str | None,
    times: Path | None,
    against: Path | None,
    jobs: int | None,
    memory_limit: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare predicted labels with the truth: DSC, NSD, HD95, ASSD.

    PREDICTION and TRUTH are two files, or two folders whose files are matched by the name of their
    case. A run into the same folder does only what is missing or has changed.
    """
    # Only now the libraries that take time to import.
    from viscera.evaluation.evaluate_cohort import evaluate_cohort
    from viscera.evaluation.tables import evaluation_tables

    with cases_bar(quiet=quiet) as on_progress:
        result = evaluate_cohort(
            prediction,
            truth,
            output,
            pairs=pairs,
            protocol=protocol,
            organs=organ_names(subset),
            prediction_labels=prediction_labels,
            truth_labels=truth_labels,
            label_table=label_table,
            images=images,
            groups=groups,
            by=by,
            times=times,
            against=against,
            jobs=thread_count(jobs),
            memory_limit_mb=parse_memory(memory_limit) if memory_limit else None,
            overwrite=overwrite,
            wording=command_line_wording,
            on_progress=on_progress,
        )
    for problem in result.picture_problems:
        echo(f"viscera: {problem.message(command_line_wording)}", err=True)
    if not quiet:
        _show(result, evaluation_tables(result.summary), output)
    if as_json:
        echo(json.dumps(result.summary, indent=2, ensure_ascii=False))
    for error in result.errors.values():
        echo(f"viscera: {error.message(command_line_wording)}", err=True)
    if output is not None:
        count = len(result.outcomes)
        if batch := batch_error(len(result.errors), count, output / "failures.csv"):
            raise batch
    elif result.errors:
        raise BatchError(
            f"all {len(result.outcomes)} cases to be evaluated",
            found=f"{len(result.errors)} that were not",
            remedy="correct what is named above, and run again",
        )


def _show(result: CohortEvaluation, tables: str, output: Path | None) -> None:
    """Print findings and tables for people."""
    for case, outcome in result.outcomes.items():
        for finding in () if isinstance(outcome, VisceraError) else outcome.findings:
            if finding.level != "info":
                text = finding.text(command_line_wording)
                echo(f"{case}: {finding.level}: {text}", err=True)
    for case in result.pairs.surplus:
        echo(f"{case}: warning: a prediction without a truth was left out", err=True)
    echo(tables, err=True)
    if output:
        echo(f"{output}: written", err=True)
