"""Tables in Markdown: the paper's Table 3 and its kin, from a summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from viscera.organs import BY_NAME
from viscera.summary import AVERAGE

# Title, factor and decimals of each metric.
_SHOWN = {
    "dsc": ("DSC (%)", 100.0, 2),
    "nsd": ("NSD (%)", 100.0, 2),
    "hd95_mm": ("HD95 (mm)", 1.0, 2),
    "assd_mm": ("ASSD (mm)", 1.0, 2),
}
_OVERLAPS = ("dsc", "nsd")


def tables(summary: dict[str, Any]) -> str:
    """All tables of a run.

    Args:
        summary: of `viscera.summary.summary_of`.
    """
    parts = [
        f"# Evaluation of {summary['cases']} cases, protocol {summary['protocol']}",
        *_absences(summary),
        "## Mean ± standard deviation, median (quartiles)",
        organ_table(summary["scores"]),
        "## Means with 95 % bootstrap intervals",
        interval_table(summary["scores"]),
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
            comparison_table(comparison["scores"]),
        ]
    return "\n\n".join(parts) + "\n"


def organ_table(scores: dict[str, Any]) -> str:
    """The paper's Table 3: a row an organ, mean ± std and median (Q1, Q3) of every metric.

    Distances are over the cases that have one; the number stands beside them where some have not.
    """
    header = ["Organ"]
    for title, _, _ in _SHOWN.values():
        header += [f"{title} mean ± std", "median (Q1, Q3)"]
    rows = []
    for name, of in scores.items():
        most = max(of[metric]["n"] for metric in _SHOWN)
        row = [_title(name)]
        for metric in _SHOWN:
            row += [_spread(of[metric], metric, most), _quartiles(of[metric], metric)]
        rows.append(row)
    return markdown(header, rows)


def interval_table(scores: dict[str, Any]) -> str:
    """Mean and its 95 % interval of every metric."""
    rows = [
        [_title(name), *(_interval(of[m], m, "mean") for m in _SHOWN)]
        for name, of in scores.items()
    ]
    return markdown(["Organ", *(title for title, _, _ in _SHOWN.values())], rows)


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
            of = group["scores"][AVERAGE][metric]
            row += [
                _spread(of, metric, of["n"]),
                _quartiles(of, metric),
                "-"
                if of["ci_low"] is None
                else f"{_number(of['ci_low'], metric)} to {_number(of['ci_high'], metric)}",
            ]
        seconds = group.get("seconds")
        rows.append([*row, *([f"{seconds:.1f}" if seconds else "-"] if timed else [])])
    return markdown([*header, *(["seconds a case"] if timed else [])], rows)


def comparison_table(scores: dict[str, Any]) -> str:
    """A row an organ: difference, interval and p of DSC and NSD."""
    header = ["Organ"]
    for metric in _OVERLAPS:
        header += [f"{_SHOWN[metric][0]} difference", "p", "p (Holm)"]
    rows = []
    for name, of in scores.items():
        row = [_title(name)]
        for metric in _OVERLAPS:
            found = of[metric]
            row += [_interval(found, metric, "mean", signed=True), _p(found["p"])]
            row.append(_p(found["p_holm"]))
        rows.append(row)
    return markdown(header, rows)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns line up as plain text as well."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(len(row[c]) for row in cells) for c in range(len(header))]
    ruler = ["-" * width for width in widths]
    lines = [cells[0], ruler, *cells[1:]]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _absences(summary: dict[str, Any]) -> list[str]:
    """What was not there, by name."""
    unscored = summary["protocol"] == "flare24"
    said = {
        "missing": "Without a prediction, "
        + ("left out as FLARE's script does" if unscored else "counted as failures"),
        "surplus": "Predictions without a truth, left out",
        "refused": "Refused, left out",
    }
    lines = []
    for key, text in said.items():
        if names := [n if isinstance(n, str) else n["case"] for n in summary[key]]:
            lines.append(f"- {text}: {', '.join(names)}")
    return ["\n".join(lines)] if lines else []


def _title(name: str) -> str:
    return BY_NAME[name].title if name in BY_NAME else "**Average**"


def _number(value: float | None, metric: str, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    _, factor, decimals = _SHOWN[metric]
    shown = round(value * factor, decimals) or 0.0  # no -0.00
    return f"{shown:{'+' if signed and shown else ''}.{decimals}f}"


def _spread(of: dict[str, Any], metric: str, most: int) -> str:
    if of["mean"] is None:
        return "-"
    text = _number(of["mean"], metric)
    if of["std"] is not None:
        text += f" ± {_number(of['std'], metric)}"
    return text if of["n"] == most else f"{text} (n={of['n']})"


def _quartiles(of: dict[str, Any], metric: str) -> str:
    if of["median"] is None:
        return "-"
    median, q1, q3 = (_number(of[key], metric) for key in ("median", "q1", "q3"))
    return f"{median} ({q1}, {q3})"


def _interval(of: dict[str, Any], metric: str, key: str, *, signed: bool = False) -> str:
    if of[key] is None:
        return "-"
    text = _number(of[key], metric, signed=signed)
    if of["ci_low"] is None:
        return text
    low, high = (_number(of[end], metric, signed=signed) for end in ("ci_low", "ci_high"))
    return f"{text} [{low}, {high}]"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
