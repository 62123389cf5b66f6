"""Tables in Markdown: the paper's Table 3 and its kin, from a summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from viscera.evaluation.summary import AVERAGE
from viscera.report.markdown import markdown_table

# Title, factor and decimals of each metric.
_SHOWN = {
    "dsc": ("DSC (%)", 100.0, 2),
    "nsd": ("NSD (%)", 100.0, 2),
    "hd95_mm": ("HD95 (mm)", 1.0, 2),
    "assd_mm": ("ASSD (mm)", 1.0, 2),
}
_OVERLAPS = ("dsc", "nsd")


def evaluation_tables(summary: dict[str, Any]) -> str:
    """All tables of a run.

    Args:
        summary: of `viscera.evaluation.summary.summarise_cohort`.
    """
    parts = [
        f"# Evaluation of {summary['cases']} cases, protocol {summary['protocol']}",
        *_absences(summary),
        "## Mean ± standard deviation, median (quartiles)",
        organ_table(summary["scores"], summary["titles"]),
        "## Means with 95 % bootstrap intervals",
        interval_table(summary["scores"], summary["titles"]),
    ]
    if "groups" in summary:
        parts += ["## Groups", group_table(summary["groups"])]
    if "comparison" in summary:
        comparison = summary["comparison"]
        parts += [
            f"## Compared with {comparison.get('with', 'another run')}",
            f"{comparison['cases']} cases in both. This run less the other: mean [95 % bootstrap "
            "interval], p of a two-sided Wilcoxon signed-rank test, corrected by Holm for the "
            "organs.",
            comparison_table(comparison["scores"], summary["titles"]),
        ]
    return "\n\n".join(parts) + "\n"


def organ_table(scores: dict[str, Any], titles: Mapping[str, str]) -> str:
    """The paper's Table 3: a row an organ, mean ± std and median (Q1, Q3) of every metric.

    Distances are over the cases that have one; the number stands beside them where some have not.

    Args:
        scores: by organ.
        titles: for people, by organ.
    """
    header = ["Organ"]
    for title, _, _ in _SHOWN.values():
        header += [f"{title} mean ± std", "median (Q1, Q3)"]
    rows = []
    for name, metrics in scores.items():
        cases = max(metrics[metric]["n"] for metric in _SHOWN)
        row = [_title(name, titles)]
        for metric in _SHOWN:
            row += [_spread(metrics[metric], metric, cases), _quartiles(metrics[metric], metric)]
        rows.append(row)
    return markdown_table(header, rows)


def interval_table(scores: dict[str, Any], titles: Mapping[str, str]) -> str:
    """Mean and its 95 % interval of every metric.

    Args:
        scores: by organ.
        titles: for people, by organ.
    """
    rows = [
        [_title(name, titles), *(_interval(metrics[m], m, "mean") for m in _SHOWN)]
        for name, metrics in scores.items()
    ]
    return markdown_table(["Organ", *(title for title, _, _ in _SHOWN.values())], rows)


def group_table(groups: dict[str, Any]) -> str:
    """A row a group, over all organs; the paper's tables of regions."""
    header = ["Group", "cases"]
    for metric in _OVERLAPS:
        header += [f"{_SHOWN[metric][0]} mean ± std", "median (Q1, Q3)", "95 % interval"]
    timed = any("seconds" in group for group in groups.values())
    rows = []
    for name, group in groups.items():
        row = [name or "(no group)", str(group["cases"])]
        for metric in _OVERLAPS:
            statistic = group["scores"][AVERAGE][metric]
            row += [
                _spread(statistic, metric, statistic["n"]),
                _quartiles(statistic, metric),
                _range(statistic, metric),
            ]
        seconds = group.get("seconds")
        rows.append([*row, *([f"{seconds:.1f}" if seconds else "-"] if timed else [])])
    return markdown_table([*header, *(["seconds a case"] if timed else [])], rows)


def comparison_table(scores: dict[str, Any], titles: Mapping[str, str]) -> str:
    """A row an organ: difference, interval and p of DSC and NSD.

    Args:
        scores: by organ.
        titles: for people, by organ.
    """
    header = ["Organ"]
    for metric in _OVERLAPS:
        header += [f"{_SHOWN[metric][0]} difference", "p", "p (Holm)"]
    rows = []
    for name, metrics in scores.items():
        row = [_title(name, titles)]
        for metric in _OVERLAPS:
            difference = metrics[metric]
            row += [_interval(difference, metric, "mean", signed=True), _p(difference["p"])]
            row.append(_p(difference["p_holm"]))
        rows.append(row)
    return markdown_table(header, rows)


def _absences(summary: dict[str, Any]) -> list[str]:
    """What was not there, by name."""
    unscored = summary["protocol"] == "flare24"
    headings = {
        "missing": "Without a prediction, "
        + ("left out as FLARE's script does" if unscored else "counted as failures"),
        "surplus": "Predictions without a truth, left out",
        "refused": "Refused, left out",
    }
    lines = []
    for key, text in headings.items():
        if names := [n if isinstance(n, str) else n["case"] for n in summary[key]]:
            lines.append(f"- {text}: {', '.join(names)}")
    return ["\n".join(lines)] if lines else []


def _title(name: str, titles: Mapping[str, str]) -> str:
    return "**Average**" if name == AVERAGE else titles[name]


def _number(value: float | None, metric: str, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    _, factor, decimals = _SHOWN[metric]
    rounded = round(value * factor, decimals) or 0.0  # no -0.00
    return f"{rounded:{'+' if signed and rounded else ''}.{decimals}f}"


def _spread(statistic: dict[str, Any], metric: str, cases: int) -> str:
    if statistic["mean"] is None:
        return "-"
    text = _number(statistic["mean"], metric)
    if statistic["std"] is not None:
        text += f" ± {_number(statistic['std'], metric)}"
    return text if statistic["n"] == cases else f"{text} (n={statistic['n']})"


def _quartiles(statistic: dict[str, Any], metric: str) -> str:
    if statistic["median"] is None:
        return "-"
    median, q1, q3 = (_number(statistic[key], metric) for key in ("median", "q1", "q3"))
    return f"{median} ({q1}, {q3})"


def _range(statistic: dict[str, Any], metric: str) -> str:
    if statistic["ci_low"] is None:
        return "-"
    low, high = (_number(statistic[end], metric) for end in ("ci_low", "ci_high"))
    return f"{low} to {high}"


def _interval(statistic: dict[str, Any], metric: str, key: str, *, signed: bool = False) -> str:
    if statistic[key] is None:
        return "-"
    text = _number(statistic[key], metric, signed=signed)
    if statistic["ci_low"] is None:
        return text
    low, high = (_number(statistic[end], metric, signed=signed) for end in ("ci_low", "ci_high"))
    return f"{text} [{low}, {high}]"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
