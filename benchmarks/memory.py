"""Planned against measured memory of `viscera segment`.

    python benchmarks/memory.py [SCANS] [--quick]

For each bundle, precision, number of slices and set of outputs: what the plan says, and the peak of
the process and its decoders, by the kernel's account and by samples each 0.1 s. Scans are made from
a CT in ../shared (see scans.py) and kept in SCANS. Writes benchmarks/results/memory.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pydicom

from dicom import write_series
from scans import ROOT, write_scan
from viscera.bench.process import run_and_measure
from viscera.io.read import read_volume
from viscera.report.markdown import markdown_table

RESULTS = ROOT / "benchmarks/results/memory.md"
SLICES = (55, 299, 1500)
EVERY_OUTPUT = ("-s", "-p", "--masks")
CPU = platform.processor() or platform.machine()


class Setting(NamedTuple):
    """One run."""

    bundle: str
    precision: str
    slices: int
    source: str
    outputs: str


def compressed_series(scan: Path, folder: Path) -> None:
    """The scan as DICOM files compressed by JPEG-LS."""
    write_series(folder, read_volume(scan).data.T)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.JPEGLSLossless, generate_instance_uid=False)
        dataset.save_as(path)


def settings(quick: bool) -> Iterator[Setting]:
    """Every run."""
    for bundle in ("default", "fast", "paper"):
        for precision in ("bf16", "f32"):
            for slices in SLICES[:2] if quick else SLICES:
                for outputs in ("labels", "all"):
                    yield Setting(bundle, precision, slices, "NIfTI", outputs)
            yield Setting(bundle, precision, 299, "JPEG-LS DICOM", "all")


def measure(setting: Setting, scan: Path) -> tuple[float, float]:
    """Planned and measured MB of one run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        call = [sys.executable, "-m", "viscera", "segment", str(scan), "-b", setting.bundle, "-q"]
        call += ["-o", str(folder / "labels.nii.gz"), "--precision", setting.precision, "--report"]
        call += EVERY_OUTPUT if setting.outputs == "all" else ()
        run = run_and_measure(call, log=folder / "log.txt")
        if run.exit_code or run.peak_mb is None:
            raise SystemExit((folder / "log.txt").read_text())
        report = json.loads((folder / "labels_report.json").read_text(encoding="utf-8"))
        return report["planned_mb"], run.peak_mb


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scans", nargs="?", type=Path, default=ROOT / "build/scans")
    parser.add_argument("--quick", action="store_true", help="no scan of 1500 slices")
    options = parser.parse_args()
    options.scans.mkdir(parents=True, exist_ok=True)
    rows = []
    series = options.scans / "299_jpegls"
    for setting in settings(options.quick):
        scan = options.scans / f"{setting.slices}.nii.gz"
        write_scan(scan, setting.slices)
        if setting.source != "NIfTI":
            if not series.exists():
                compressed_series(scan, series)
            scan = series
        planned_mb, peak_mb = measure(setting, scan)
        above = 100 * (planned_mb / peak_mb - 1)
        rows.append((*map(str, setting), f"{planned_mb:.0f}", f"{peak_mb:.0f}", f"{above:+.1f} %"))
        print(*rows[-1], sep="  ", flush=True)
    head = ("bundle", "precision", "slices", "source", "outputs", "planned MB", "peak MB", "plan")
    text = (
        "# Planned and measured memory\n\n"
        f"`python benchmarks/memory.py`, {CPU}, {psutil.cpu_count()} CPUs. Peak of the process and "
        "its decoders; `plan` is how far the plan lies above it. `all` is `-s -p --masks "
        "--report`.\n\n"
    )
    RESULTS.write_text(text + markdown_table(head, rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
