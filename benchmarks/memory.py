"""Planned against measured memory of `viscera segment`.

    python benchmarks/memory.py [SCANS] [--quick]

For each bundle, precision, number of slices and set of outputs: what the plan says, and the peak of
the process and its decoders, by the kernel's account and by samples each 0.1 s. Scans are made from
a CT in ../shared (see scans.py) and kept in SCANS. `fine` is the network of `default` on the grid
and with the windows of ../shared/models/gpu. Writes benchmarks/results/memory.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pydicom

from dicom import write_series
from scans import ROOT, write_scan
from viscera.bench.process import run_and_measure
from viscera.bundle.read import read_bundle
from viscera.bundle.spec import Bundle, NetworkInput, Patch
from viscera.bundle.toml_schema import dump_toml, load_dataclass
from viscera.io.read import read_volume
from viscera.report.markdown import markdown_table
from viscera.training.export.peak_memory import run_peak_mb

RECIPE = ROOT.parent / "shared/models/gpu/recipes/default_fine.toml"
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


def fine_bundle(folder: Path) -> Path:
    """The packaged default on the fine grid; its weights do not matter for memory."""
    default = read_bundle("default")
    recipe = tomllib.loads(RECIPE.read_text(encoding="utf-8"))
    bundle = replace(
        default,
        name="dwnet16.fine",
        input=load_dataclass(NetworkInput, recipe["input"], RECIPE),
        patch=load_dataclass(Patch, recipe["patch"], RECIPE),
    )
    shutil.copy(default.model_path, folder / default.model.file)
    _write(bundle, folder)
    model = replace(
        bundle.model,
        run_peak_mb=run_peak_mb(folder, "f32"),
        run_peak_bf16_mb=run_peak_mb(folder, "bf16"),
    )
    _write(replace(bundle, model=model), folder)
    return folder


def _write(bundle: Bundle, folder: Path) -> None:
    table = {"format": 1, **_without_none(asdict(bundle))}
    del table["folder"]
    (folder / "bundle.toml").write_text(dump_toml(table), encoding="utf-8")


def _without_none(value: Any) -> Any:
    """Tables without what is not set, which TOML cannot say."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None and v != ()}
    return [_without_none(v) for v in value] if isinstance(value, list | tuple) else value


def compressed_series(scan: Path, folder: Path) -> None:
    """The scan as DICOM files compressed by JPEG-LS."""
    write_series(folder, read_volume(scan).data.T)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.JPEGLSLossless, generate_instance_uid=False)
        dataset.save_as(path)


def settings(quick: bool) -> Iterator[Setting]:
    """Every run."""
    for bundle in ("default", "fine", "paper"):
        for precision in ("bf16", "f32"):
            for slices in SLICES[:2] if quick else SLICES:
                for outputs in ("labels", "all"):
                    yield Setting(bundle, precision, slices, "NIfTI", outputs)
            yield Setting(bundle, precision, 299, "JPEG-LS DICOM", "all")


def measure(setting: Setting, scan: Path, bundle: str | Path) -> tuple[float, float]:
    """Planned and measured MB of one run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        call = [sys.executable, "-m", "viscera", "segment", str(scan), "-b", str(bundle), "-q"]
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fine = fine_bundle(folder)
        series = options.scans / "299_jpegls"
        for setting in settings(options.quick):
            scan = options.scans / f"{setting.slices}.nii.gz"
            write_scan(scan, setting.slices)
            if setting.source != "NIfTI":
                if not series.exists():
                    compressed_series(scan, series)
                scan = series
            bundle = fine if setting.bundle == "fine" else setting.bundle
            planned_mb, peak_mb = measure(setting, scan, bundle)
            above = 100 * (planned_mb / peak_mb - 1)
            rows.append(
                (*map(str, setting), f"{planned_mb:.0f}", f"{peak_mb:.0f}", f"{above:+.1f} %")
            )
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
