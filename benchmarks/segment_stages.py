"""Whole processes on a 512x512x99 scan: `viscera segment` beside the plain implementation.

    python benchmarks/segment_stages.py [--repeats 3] [--plain-repeats 1]

Needs ../shared. Prints and writes benchmarks/results/segment_stages.md: medians over the repeats
of one run, taken in turn, with seconds, CPU-seconds, peak resident memory, and our stages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

import viscera

ROOT = Path(__file__).parent.parent
CASE = ROOT.parent / "shared/data/tcia_acrin_flt_breast/001_abdomen"
BUNDLE = ROOT / "examples/bundles/flare25_dw"
OVERLAP = "0.25"


def measured(call: list[str]) -> dict[str, float]:
    """Seconds, CPU-seconds and peak MB of a whole process."""
    start = time.perf_counter()
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(call)}")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * 1024 / 1e6,
    }


def dice(a: Path, b: Path) -> float:
    """Mean DSC of two label files over the organs that either holds."""
    x, y = (np.asarray(nib.load(p).dataobj) for p in (a, b))
    pairs = [(x == o.id, y == o.id) for o in viscera.ORGANS]
    return float(
        np.mean([2 * (p & q).sum() / (p.sum() + q.sum()) for p, q in pairs if (p | q).any()])
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain-repeats", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = {name: Path(folder) / f"{name}.nii.gz" for name in ("viscera", "f32", "ort", "plain")}
        base = [sys.executable, "-m", "viscera", "segment", str(CASE / "ct.nii.gz"), "-b"]
        base += [str(BUNDLE), "--overlap", OVERLAP, "--overwrite", "--report", "-q", "-o"]
        plain = [sys.executable, str(ROOT / "benchmarks/plain_segment.py"), str(BUNDLE)]
        plain += [str(CASE / "ct.nii.gz"), str(out["plain"]), "--overlap", OVERLAP]
        calls = {
            "viscera": [*base, str(out["viscera"])],
            "f32": [*base, str(out["f32"]), "--precision", "f32"],
            "ort": [*base, str(out["ort"]), "--engine", "onnxruntime"],
            "plain": plain,
        }
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
        stages: list[dict[str, dict[str, float]]] = []
        for turn in range(max(args.repeats, args.plain_repeats)):
            for name, call in calls.items():
                if turn < (args.plain_repeats if name in ("plain", "ort") else args.repeats):
                    runs[name].append(measured(call))
                    if name == "viscera":
                        report = json.loads((Path(folder) / "viscera_report.json").read_text())
                        stages.append(report["stages"])
        agreement = {name: dice(out["viscera"], out[name]) for name in ("f32", "ort", "plain")}

    def median(rows: list[dict[str, float]], key: str) -> float:
        return statistics.median(row[key] for row in rows)

    titles = {
        "viscera": f"viscera, {report['engine']['name']} {report['engine']['precision']}",
        "f32": "viscera, openvino f32",
        "ort": "viscera, onnxruntime f32",
        "plain": "plain: nibabel, scipy, onnxruntime",
    }
    lines = [
        "# A whole `viscera segment`, 512x512x99, published 3-D network, overlap 0.25",
        "",
        "Made by `python benchmarks/segment_stages.py`. Medians of whole processes, taken in turn.",
        "",
        f"- machine: {platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}",
        f"- versions: viscera {viscera.__version__}, "
        f"{report['engine']['name']} {report['engine']['version']}, numpy {np.__version__}",
        f"- runs: {args.repeats} of viscera with OpenVINO, {args.plain_repeats} of the others",
        "",
        "| | seconds | ratio | CPU-seconds | peak MB | DSC against the first row |",
        "|---|---|---|---|---|---|",
    ]
    first = median(runs["viscera"], "seconds")
    for name, rows in runs.items():
        seconds = median(rows, "seconds")
        lines.append(
            f"| {titles[name]} | {seconds:.1f} | {seconds / first:.1f} "
            f"| {median(rows, 'cpu_seconds'):.1f} | {median(rows, 'peak_mb'):.0f} "
            f"| {f'{agreement[name]:.4f}' if name in agreement else '-'} |"
        )
    lines += ["", "| stage of the first row | seconds | peak MB |", "|---|---|---|"]
    for name in stages[0]:
        cost = {key: statistics.median(s[name][key] for s in stages) for key in stages[0][name]}
        lines.append(f"| {name} | {cost['seconds']:.2f} | {cost['peak_mb']:.0f} |")
    text = "\n".join(lines) + "\n"
    target = ROOT / "benchmarks/results/segment_stages.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
