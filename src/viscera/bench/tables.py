"""Tables of a benchmark: the paper's Table 4, and commands beside each other."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from viscera._version import __version__
from viscera.bench.command import BenchCommand
from viscera.bench.run import MeasuredRun, machine_description
from viscera.report.markdown import markdown_table

_FIGURES = ("seconds", "cpu_s", "peak_mb", "memory_area_mb_s", "cpu_area_percent_s")
_TITLES = (
    "Running time (s)",
    "CPU time (s)",
    "Peak memory (MB)",
    "Memory-time area (MB s)",
    "CPU-time area (% s)",
)
_DECIMALS = (2, 2, 0, 0, 0)


def summarise_benchmark(
    runs: Sequence[MeasuredRun], commands: Sequence[BenchCommand]
) -> dict[str, Any]:
    """Medians over the repeats of each case, and over the cases, JSON-ready.

    Args:
        runs: those with a problem are counted, not measured.
        commands: ratios are to the first.
    """
    cases = {measured.case: measured for measured in runs}
    by_command: dict[str, Any] = {}
    for command in commands:
        command_runs = [measured for measured in runs if measured.command == command.name]
        rows = {}
        for case in cases:
            counted = [
                measured.run
                for measured in command_runs
                if measured.case == case and not measured.problem
            ]
            if counted:
                rows[case] = {f: _median(getattr(run, f) for run in counted) for f in _FIGURES}
        problems = [
            {"case": measured.case, "repeat": measured.repeat, "problem": measured.problem}
            for measured in command_runs
            if measured.problem
        ]
        by_command[command.name] = {
            "words": list(command.words),
            "cases": rows,
            "median": {f: _median(row[f] for row in rows.values()) for f in _FIGURES}
            if rows
            else None,
            "failed": problems,
        }
    return {
        "viscera": __version__,
        "machine": machine_description(),
        "cases": {
            case: {"shape": list(measured.shape), "slices": measured.slices}
            for case, measured in cases.items()
        },
        "commands": by_command,
    }


def _median(values: Iterable[float | None]) -> float | None:
    """The median of the values that there are."""
    numbers = [value for value in values if value is not None]
    return statistics.median(numbers) if numbers else None


def bench_tables(summary: dict[str, Any]) -> str:
    """The paper's Table 4 for each command, and all commands beside each other.

    Args:
        summary: of `summarise_benchmark`.
    """
    machine = summary["machine"]
    parts = [
        "# Whole processes, one scan a start",
        f"{machine['system']}, {machine['cpus']} CPUs. Medians over repeats. Memory is resident, "
        "sampled each 0.1 s over a process and its children; the areas are those under the "
        "curves of memory and of CPU use (100 % is one CPU).",
    ]
    for name, command in summary["commands"].items():
        parts += [f"## {name}", _table4(summary["cases"], command)]
    if len(summary["commands"]) > 1:
        parts += ["## Side by side", _side_by_side(summary)]
    return "\n\n".join(parts) + "\n"


def runs_csv(runs: Sequence[MeasuredRun]) -> str:
    """A row a run: command, case, repeat, slices, the figures, and what went wrong."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["command", "case", "repeat", "slices", *_FIGURES, "problem"])
    for measured in runs:
        values = [getattr(measured.run, figure) for figure in _FIGURES]
        figures = ["" if value is None else round(value, 3) for value in values]
        head = [measured.command, measured.case, measured.repeat, measured.slices]
        writer.writerow([*head, *figures, measured.problem])
    return text.getvalue()


def curves_csv(runs: Sequence[MeasuredRun]) -> str:
    """A row a sample: the memory-time and CPU-time curves."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["command", "case", "repeat", "time_s", "memory_mb", "cpu_percent"])
    for measured in runs:
        for sample, percent in zip(measured.run.samples, measured.run.cpu_percent(), strict=True):
            figures = (round(sample.time_s, 3), round(sample.memory_mb, 1), round(percent, 1))
            writer.writerow([measured.command, measured.case, measured.repeat, *figures])
    return text.getvalue()


def _table4(cases: dict[str, Any], command: dict[str, Any]) -> str:
    rows = []
    for case, size in cases.items():
        figures = command["cases"].get(case)
        cells = _figures(figures) if figures else ["failed", *["-"] * (len(_FIGURES) - 1)]
        rows.append([case, " x ".join(map(str, size["shape"])), str(size["slices"]), *cells])
    if command["median"] and len(rows) > 1:
        rows.append(["**Median**", "", "", *_figures(command["median"])])
    return markdown_table(["Case", "Image size", "Slices", *_TITLES], rows)


def _figures(figures: dict[str, float | None]) -> list[str]:
    return [_shown(figures[f], d) for f, d in zip(_FIGURES, _DECIMALS, strict=True)]


def _shown(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _side_by_side(summary: dict[str, Any]) -> str:
    """Seconds and peaks of every command, and how many times the first one's they are."""
    first, *others = summary["commands"]
    header = ["Case", "Slices", f"{first} s", f"{first} MB"]
    for name in others:
        header += [f"{name} s", "ratio", f"{name} MB", "ratio"]
    rows = []
    for case, size in summary["cases"].items():
        figures_of = {
            name: command["cases"].get(case) for name, command in summary["commands"].items()
        }
        row = [case, str(size["slices"])]
        first_figures = figures_of[first] or {}
        for name, figures in figures_of.items():
            for figure, decimals in (("seconds", 2), ("peak_mb", 0)):
                value = (figures or {}).get(figure)
                row.append(_shown(value, decimals))
                if name != first:
                    base = first_figures.get(figure)
                    row.append(_shown(value / base if value and base else None, 2))
        rows.append(row)
    return markdown_table(header, rows)
