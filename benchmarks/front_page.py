"""README's two tables, from the committed results: python benchmarks/front_page.py.

`results.py` and `speed.py` make the results; a test holds README in step with them.
"""

from __future__ import annotations

import json
from statistics import mean

import viscera
from scans import ROOT

RESULTS = ROOT / "benchmarks/results"
README = ROOT / "README.md"
SLICES = {55: 23.1, 124: 44.8, 299: 102.1, 597: 210.5, 1500: None}  # the paper's Table 4, s


def accuracy_table() -> list[str]:
    """Means over the patients in whom an organ was drawn, in percent."""
    networks = json.loads((RESULTS / "accuracy.json").read_text())["crossed"]
    lines = [
        "| organ | patients | `default` DSC | NSD | `fast` DSC | NSD | published network DSC | NSD |",
        "|---|---|---|---|---|---|---|---|",
    ]
    columns: list[list[float]] = []
    for organ in viscera.ORGANS:
        cells = []
        for cases in networks.values():
            scores = [metrics[organ.name] for metrics in cases.values() if organ.name in metrics]
            drawn = [values for values in scores if values["ml"]]
            cells += [mean(values[metric] for values in drawn) for metric in ("dsc", "nsd")]
        columns.append(cells)
        lines.append(f"| {organ.title} | {len(drawn)} | {_percent(cells)} |")
    averages = [mean(column) for column in zip(*columns, strict=True)]
    lines.append(f"| **mean of the organs** | | {_percent(averages)} |")
    return lines


def _percent(values: list[float]) -> str:
    return " | ".join(f"{100 * value:.1f}" for value in values)


def speed_table() -> list[str]:
    """Seconds and peak memory of whole processes."""
    rows = json.loads((RESULTS / "speed.json").read_text())["rows"]
    lines = [
        "| 512x512 slices | `default`, s | MB | `fast`, s | MB | `paper`, s | MB | the paper, 6 cores, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for slices, paper_s in SLICES.items():
        costs = [rows[str(slices)][name] for name in ("default", "fast", "paper")]
        cells = [f"{cost['seconds']:.1f} | {cost['peak_mb']:.0f}" for cost in costs]
        lines.append(f"| {slices} | {' | '.join(cells)} | {paper_s or ''} |")
    return lines


def front_page(page: str) -> str:
    """The page with both tables made again."""
    for name, table in (("accuracy", accuracy_table()), ("speed", speed_table())):
        begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
        before, _, rest = page.partition(begin)
        page = before + begin + "\n".join(table) + "\n" + end + rest.partition(end)[2]
    return page


def main() -> None:
    README.write_text(front_page(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
