"""The evaluation of a cohort: many predictions beside their truth, tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.core.label_schemes import FLARE, LabelScheme
from viscera.core.organs import Organ
from viscera.errors import (
    InputError,
    NothingToSegmentError,
    UsageError,
    VisceraError,
    Wording,
    option,
    python_wording,
)
from viscera.evaluation.case import check_protocol, select_compared
from viscera.evaluation.case_columns import read_groups, read_seconds
from viscera.evaluation.cohort import CaseOutcome, CasePair, EvaluationRules, evaluate_pairs
from viscera.evaluation.folder import EvaluationFolder
from viscera.evaluation.metrics_csv import read_metrics_csv
from viscera.evaluation.pairs import CohortPairs, pair_cases
from viscera.evaluation.summary import MetricValues, summarise_cohort
from viscera.io.failure_list import FailureList
from viscera.io.label_table_files import read_label_schemes
from viscera.metrics.organ_metrics import Protocol
from viscera.runtime.paths import checked_path


@dataclass(frozen=True)
class CohortEvaluation:
    """What an evaluation of many cases gave.

    Attributes:
        pairs: the cases, and what was left out.
        outcomes: by case, its metrics or the error that prevented them.
        summary: of all cases, JSON-ready; also written as summary.json.
        picture_problems: what kept a case from being drawn.
    """

    pairs: CohortPairs
    outcomes: dict[str, CaseOutcome]
    summary: dict[str, Any]
    picture_problems: tuple[VisceraError, ...] = ()

    @property
    def errors(self) -> dict[str, VisceraError]:
        """Cases that were refused."""
        return {c: error for c, error in self.outcomes.items() if isinstance(error, VisceraError)}


def evaluate_cohort(
    prediction: str | Path | None = None,
    truth: str | Path | None = None,
    output: str | Path | None = None,
    *,
    pairs: str | Path | None = None,
    protocol: Protocol = "standard",
    organs: Sequence[Organ | str] = (),
    prediction_labels: str | Path | LabelScheme = FLARE,
    truth_labels: str | Path | LabelScheme = FLARE,
    label_table: str | Path | None = None,
    images: str | Path | None = None,
    groups: str | Path | None = None,
    by: str | None = None,
    times: str | Path | None = None,
    against: str | Path | None = None,
    jobs: int = 1,
    memory_limit_mb: float | None = None,
    overwrite: bool = False,
    wording: Wording = python_wording,
    on_progress: Callable[[int, int], None] = lambda _completed, _all: None,
) -> CohortEvaluation:
    """Compare the predictions of many cases with their truth.

    A second call into the same folder does only what is missing or has changed.

    Args:
        prediction: a file, or a folder whose files are matched by the name of their case.
        truth: the same.
        output: folder for tables and pictures; nothing is written where not given.
        pairs: instead of both: a CSV with the columns case, prediction, truth and, if wished,
            image.
        protocol: ``standard`` or ``flare24``.
        organs: organs, names or regions to compare; all that both label schemes express where
            empty.
        prediction_labels: label scheme of the predictions, see `viscera.evaluate`.
        truth_labels: label scheme of the truth.
        label_table: what labels may mean, see `viscera.evaluate`.
        images: the CTs, to draw the best and the worst cases.
        groups: CSV with a column case: groups are compared too.
        by: column of `groups` that names the group.
        times: runs.csv of 'viscera bench': seconds for the groups.
        against: folder of another evaluation to compare with.
        jobs: cases at a time, each in a process of its own if more than one; a script then needs
            ``if __name__ == "__main__":``, because the processes import it.
        memory_limit_mb: most memory for all of them together.
        overwrite: replace an evaluation by other rules.
        wording: how options are spelled in the texts that are written.
        on_progress: takes the number of cases done, and of all.

    Raises:
        UsageError: options that contradict each other.
        NothingToSegmentError: no case to evaluate.
        InputError: a list, groups or another run that cannot be used.
        OutputError: the folder is not writable, or holds something else.
        ResourceError: a process was killed, most likely for want of memory.
    """
    prediction, truth, output, pairs, images, groups, times, against = (
        None if path is None else checked_path(path)
        for path in (prediction, truth, output, pairs, images, groups, times, against)
    )
    if jobs < 1:
        problem = f"{jobs}"
        raise UsageError(f"{option('jobs')} of 1 and more", found=problem, remedy="choose another")
    _check_options(output, images=images, groups=groups, by=by, times=times)
    group_of = read_groups(groups, by) if groups else None
    seconds = read_seconds(times) if times else None
    cohort = pair_cases(prediction, truth, pairs, images)
    prediction_scheme, truth_scheme = read_label_schemes(
        prediction_labels, truth_labels, label_table
    )
    check_protocol(protocol, truth_scheme.table)
    compared_organs, regions = select_compared(organs, prediction_scheme, truth_scheme)
    rules = EvaluationRules(
        compared_organs, protocol, prediction_scheme, truth_scheme, memory_limit_mb, regions
    )
    other_run = read_metrics_csv(against, protocol) if against else None
    folder = EvaluationFolder(output) if output else None
    if folder:
        folder.reserve(rules, overwrite=overwrite)
    failures = FailureList(folder.path / "failures.csv", wording) if folder else None
    compared = cohort.pairs
    if protocol == "flare24":  # the script walks the predictions
        compared = tuple(pair for pair in compared if pair.prediction is not None)
    _check_in_common(compared, group_of, other_run)
    outcomes = evaluate_pairs(
        compared,
        rules,
        cache_folder=folder.cache_folder if folder else None,
        jobs=jobs,
        on_progress=lambda completed: on_progress(completed, len(compared)),
    )
    summary = summarise_cohort(
        outcomes,
        rules,
        missing=cohort.missing,
        surplus=cohort.surplus,
        groups=group_of,
        seconds=seconds,
        against=other_run,
        wording=wording,
    )
    if against:
        summary["comparison"]["with"] = against.name
    result = CohortEvaluation(cohort, outcomes, summary)
    if cohort.single and result.errors:
        raise next(iter(result.errors.values()))
    if folder is None or failures is None:
        return result
    folder.write(summary, outcomes, group_of, rules)
    problems = folder.write_examples(compared, outcomes, rules)
    for case, error in result.errors.items():
        failures.add(case, error)
    failures.write()
    return CohortEvaluation(cohort, outcomes, summary, tuple(problems))


def _check_options(output: Path | None, **options: object) -> None:
    """Options that need each other.

    Raises:
        UsageError: one is given without the other.
    """
    if output is not None and output.exists() and not output.is_dir():
        raise UsageError(
            f"a folder for {option('output')}",
            found="a file",
            remedy=f"choose another {option('output')}",
            where=output,
        )
    for name, needs in (("by", "groups"), ("times", "groups")):
        if options[name] and not options[needs]:
            problem = f"{option(name)} without it"
            raise UsageError(option(needs), found=problem, remedy=f"add {option(needs)}")
    if options["images"] and output is None:
        problem = f"{option('images')} without it"
        raise UsageError(option("output"), found=problem, remedy=f"add {option('output')}")


def _check_in_common(
    pairs: Sequence[CasePair], groups: Mapping[str, str] | None, other_run: MetricValues | None
) -> None:
    """Something must be left to evaluate, to group and to compare with.

    Raises:
        NothingToSegmentError: no case is left.
        InputError: groups or another run have none of the cases.
    """
    if not pairs:
        raise NothingToSegmentError(
            "predictions of the truth's cases",
            found="none with the same name",
            remedy=f"give the files the same names, or pass {option('pairs')}",
        )
    cases = {pair.case for pair in pairs}
    if groups is not None and not cases & set(groups):
        problem = ", ".join(list(groups)[:3]) or "none"
        remedy = f"name them as the files are, such as {min(cases)}"
        raise InputError(f"the cases' names in {option('groups')}", found=problem, remedy=remedy)
    if other_run is not None and not cases & {case for case, _ in other_run}:
        problem = ", ".join(list(dict.fromkeys(case for case, _ in other_run))[:3]) or "none"
        raise InputError(
            f"some of these cases in {option('against')}", found=problem, remedy="choose another"
        )
