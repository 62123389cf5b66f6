"""Seconds that statistics and the preview take, after the labels are there.

    python benchmarks/outputs.py [SCANS]

One scan of 299 and one of 1500 slices (see scans.py) are segmented once by `default`; then each part is
measured five times in turn. `read again` is the one pass over the scan that both share; most of it is
inflating the file. Writes benchmarks/results/outputs.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import viscera
from scans import ROOT, write_scan
from viscera.report.markdown import markdown_table
from viscera.report.organ_statistics import measure_organs
from viscera.report.pictures.preview import choose_cuts, preview_png
from viscera.report.scan_pass import scan_pass

RESULTS = ROOT / "benchmarks/results/outputs.md"
ROUNDS = 5


def measure(path: Path) -> dict[str, float]:
    """Median seconds of each part."""
    segmentation = viscera.segment(path)
    labels = segmentation.labels
    cuts = choose_cuts(labels, segmentation.affine)
    scan = scan_pass(segmentation.volume, labels, [cuts.at])
    parts: dict[str, Callable[[], object]] = {
        "read the scan alone": lambda: [None for _ in segmentation.volume.slabs()],
        "read again": lambda: scan_pass(segmentation.volume, labels, [cuts.at]),
        "statistics": lambda: measure_organs(segmentation, scan),
        "preview": lambda: preview_png(
            segmentation, choose_cuts(labels, segmentation.affine), scan
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(ROUNDS):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scans", nargs="?", type=Path, default=ROOT / "build/scans")
    options = parser.parse_args()
    options.scans.mkdir(parents=True, exist_ok=True)
    rows = []
    for slices in (299, 1500):
        path = options.scans / f"{slices}.nii.gz"
        write_scan(path, slices)
        medians = measure(path)
        rows.append((str(slices), *(f"{seconds:.2f}" for seconds in medians.values())))
        print(*rows[-1], sep="  ", flush=True)
    head = ("slices", *medians)
    text = (
        "# Statistics and preview\n\n`python benchmarks/outputs.py`, "
        f"{psutil.cpu_count()} CPUs. Median seconds of {ROUNDS}.\n\n"
    )
    RESULTS.write_text(text + markdown_table(head, rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
