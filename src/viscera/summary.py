"""The summary of a cohort: what summary.json says, and what every table and chart is made from."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera import __version__
from viscera.cohort import Outcome, Rules
from viscera.evaluation import Evaluation
from viscera.metrics.paired import compare
from viscera.metrics.scores import METRICS
from viscera.metrics.statistic import summarise

AVERAGE = "average"
# Case and organ to the metrics' values, in the order of METRICS.
Scores = Mapping[tuple[str, str], Sequence[float]]


def summary_of(
    outcomes: Mapping[str, Outcome],
    rules: Rules,
    *,
    missing: Sequence[str] = (),
    surplus: Sequence[str] = (),
    groups: Mapping[str, str] | None = None,
    seconds: Mapping[str, float] | None = None,
    other: Scores | None = None,
) -> dict[str, Any]:
    """Everything that a run of many cases says, JSON-ready.

    Args:
        outcomes: by case.
        rules: how they were judged.
        missing: cases without a prediction.
        surplus: predictions without a truth.
        groups: case to group, where cases are to be told apart.
        seconds: what each case took, where groups are to tell that as well.
        other: another run's scores, where this one is to be compared with it.
    """
    done = {case: found for case, found in outcomes.items() if isinstance(found, Evaluation)}
    refused = [
        {
            "case": case,
            "exit_code": error.exit_code,
            "expected": error.expected,
            "found": error.found,
            "remedy": error.remedy,
        }
        for case, error in outcomes.items()
        if not isinstance(error, Evaluation)
    ]
    organs = [organ.name for organ in rules.organs]
    own = scores_of(done.values())
    summary: dict[str, Any] = {
        "viscera": __version__,
        **rules.as_dict(),
        "cases": len(done),
        "missing": list(missing),
        "surplus": list(surplus),
        "refused": refused,
        "scores": _statistics(own, list(done), organs),
    }
    if groups is not None:
        names = sorted({groups.get(case, "") for case in done})
        members = {name: [c for c in done if groups.get(c, "") == name] for name in names}
        summary["groups"] = {
            name: {"cases": len(of), "scores": _statistics(own, of, organs)}
            for name, of in members.items()
        }
        for name, of in members.items():
            if timed := [seconds[case] for case in of if seconds and case in seconds]:
                summary["groups"][name]["seconds"] = statistics.fmean(timed)
    if other is not None:
        shared = [case for case in done if any((case, organ) in other for organ in organs)]
        summary["comparison"] = {
            "cases": len(shared),
            "scores": _differences(own, other, shared, organs),
        }
    return summary


def scores_of(evaluations: Any) -> dict[tuple[str, str], tuple[float, ...]]:
    """Case and organ to the values of all metrics."""
    return {
        (evaluation.case, score.organ): tuple(getattr(score, metric) for metric in METRICS)
        for evaluation in evaluations
        for score in evaluation.scores
    }


def _table(
    scores: Scores, cases: Sequence[str], organs: Sequence[str], metric: str
) -> NDArray[np.float64]:
    """(cases, organs) of one metric, NaN where there is no value."""
    column = METRICS.index(metric)
    nothing = (np.nan,) * len(METRICS)
    rows = [[scores.get((case, organ), nothing)[column] for organ in organs] for case in cases]
    return np.array(rows, dtype=np.float64).reshape(len(cases), len(organs))


def _statistics(
    scores: Scores, cases: Sequence[str], organs: Sequence[str]
) -> dict[str, dict[str, Any]]:
    found = {metric: summarise(_table(scores, cases, organs, metric)) for metric in METRICS}
    return {
        name: {metric: found[metric][row].as_dict() for metric in METRICS}
        for row, name in enumerate([*organs, AVERAGE])
    }


def _differences(
    own: Scores, other: Scores, cases: Sequence[str], organs: Sequence[str]
) -> dict[str, dict[str, Any]]:
    found = {
        metric: compare(_table(own, cases, organs, metric), _table(other, cases, organs, metric))
        for metric in METRICS
    }
    return {
        name: {metric: found[metric][row].as_dict() for metric in METRICS}
        for row, name in enumerate([*organs, AVERAGE])
    }
