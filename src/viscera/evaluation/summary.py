"""The summary of a cohort: what summary.json says, and what every table and chart is made from."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera._version import __version__
from viscera.errors import Wording, python_wording
from viscera.evaluation.case import Evaluation
from viscera.evaluation.cohort import CaseOutcome, EvaluationRules
from viscera.metrics.cohort_statistics import summarise
from viscera.metrics.organ_metrics import METRIC_NAMES
from viscera.metrics.paired import compare_runs

AVERAGE = "average"
# Case and organ to the metrics' values, in the order of METRIC_NAMES.
MetricValues = Mapping[tuple[str, str], Sequence[float]]


def summarise_cohort(
    outcomes: Mapping[str, CaseOutcome],
    rules: EvaluationRules,
    *,
    missing: Sequence[str] = (),
    surplus: Sequence[str] = (),
    groups: Mapping[str, str] | None = None,
    seconds: Mapping[str, float] | None = None,
    against: MetricValues | None = None,
    wording: Wording = python_wording,
) -> dict[str, Any]:
    """Everything that a run of many cases tells, JSON-ready.

    Args:
        outcomes: by case.
        rules: how the cases were evaluated.
        missing: cases without a prediction.
        surplus: predictions without a truth.
        groups: case to group, where groups are to be compared.
        seconds: what each case took, where groups are to show that as well.
        against: metrics of another run, where this one is to be compared with it.
        wording: how options are spelled in the reasons of refused cases.
    """
    evaluated = {case: o for case, o in outcomes.items() if isinstance(o, Evaluation)}
    organs = [organ.name for organ in rules.organs]
    regions = [region.name for region in rules.regions]
    values = metrics_by_case_and_organ(evaluated.values())
    summary: dict[str, Any] = {
        "viscera": __version__,
        **rules.as_dict(),
        "cases": len(evaluated),
        "missing": list(missing),
        "surplus": list(surplus),
        "refused": [
            {
                "case": case,
                "exit_code": error.exit_code,
                "expected": wording(error.expected),
                "found": wording(error.found),
                "remedy": wording(error.remedy),
            }
            for case, error in outcomes.items()
            if not isinstance(error, Evaluation)
        ],
        "titles": {each.name: each.title for each in rules.compared},
        "scores": _organ_statistics(values, list(evaluated), organs, regions),
    }
    if groups is not None:
        summary["groups"] = _group_statistics(
            values, list(evaluated), organs, groups, seconds or {}
        )
    if against is not None:
        shared = [case for case in evaluated if any((case, organ) in against for organ in organs)]
        summary["comparison"] = {
            "cases": len(shared),
            "scores": _organ_differences(values, against, shared, organs),
        }
    return summary


def metrics_by_case_and_organ(
    evaluations: Iterable[Evaluation],
) -> dict[tuple[str, str], tuple[float, ...]]:
    """Case and organ to the values of all metrics, in the order of METRIC_NAMES."""
    return {
        (evaluation.case, metrics.organ): tuple(getattr(metrics, name) for name in METRIC_NAMES)
        for evaluation in evaluations
        for metrics in evaluation.metrics
    }


def _group_statistics(
    values: MetricValues,
    cases: Sequence[str],
    organs: Sequence[str],
    groups: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    for name in sorted({groups.get(case, "") for case in cases}):
        members = [case for case in cases if groups.get(case, "") == name]
        result[name] = {
            "cases": len(members),
            "scores": _organ_statistics(values, members, organs),
        }
        if timed := [seconds[case] for case in members if case in seconds]:
            result[name]["seconds"] = statistics.fmean(timed)
    return result


def _metric_table(
    values: MetricValues, cases: Sequence[str], organs: Sequence[str], metric: str
) -> NDArray[np.float64]:
    """(cases, organs) of one metric, NaN where there is no value."""
    column = METRIC_NAMES.index(metric)
    nothing = (np.nan,) * len(METRIC_NAMES)
    rows = [[values.get((case, organ), nothing)[column] for organ in organs] for case in cases]
    return np.array(rows, dtype=np.float64).reshape(len(cases), len(organs))


def _organ_statistics(
    values: MetricValues,
    cases: Sequence[str],
    organs: Sequence[str],
    regions: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """Of each organ, of their average, and of regions, which count in no average."""
    by_metric = {
        name: summarise(_metric_table(values, cases, organs, name)) for name in METRIC_NAMES
    }
    result = {
        organ: {name: by_metric[name][row].as_dict() for name in METRIC_NAMES}
        for row, organ in enumerate([*organs, AVERAGE])
    }
    if regions:
        of_regions = _organ_statistics(values, cases, regions)
        result |= {region: of_regions[region] for region in regions}
    return result


def _organ_differences(
    values: MetricValues, against: MetricValues, cases: Sequence[str], organs: Sequence[str]
) -> dict[str, dict[str, Any]]:
    by_metric = {
        name: compare_runs(
            _metric_table(values, cases, organs, name), _metric_table(against, cases, organs, name)
        )
        for name in METRIC_NAMES
    }
    return {
        organ: {name: by_metric[name][row].as_dict() for name in METRIC_NAMES}
        for row, organ in enumerate([*organs, AVERAGE])
    }
