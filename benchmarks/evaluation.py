"""All four metrics of all organs: viscera beside `surface-distance`, on real pairs.

    python benchmarks/evaluation.py [--rounds 5]

Needs ../shared and the package surface-distance. Segments the CTs with the published network at
overlap 0.25, then scores them against the labels beside them. Each measurement is a process of its
own with both label maps in memory before the clock starts; its peak includes them. With a stray
voxel of every organ in the corner, the reference computes distances over the whole volume.
Writes benchmarks/results/evaluation.md.
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

from viscera.bench.process import run_and_measure

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
BUNDLE = ROOT / "examples" / "bundles" / "flare25_dw"
CASES = (
    "msd_lits_liver/liver_0",
    "tcia_pancreatic_ct_cbct/CB_001_planning",
    "tcia_acrin_flt_breast/001_abdomen",
    "tcia_lidc_idri/0001",
)
STRAY = ("msd_lits_liver/liver_0", "tcia_pancreatic_ct_cbct/CB_001_planning")
METRICS = ("DSC", "NSD", "HD95", "ASSD")


def load(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    image = nib.load(path)
    return np.asarray(image.dataobj), tuple(float(z) for z in image.header.get_zooms())


def child(who: str, prediction_path: Path, truth_path: Path, stray: bool) -> None:
    """Score one pair and print seconds and scores; what the parent measures."""
    import scipy.spatial  # noqa: F401  neither side's clock counts imports

    from viscera.core.organs import ORGANS

    truth, spacing_mm = load(truth_path)
    prediction, _ = load(prediction_path)
    if stray:
        prediction = prediction.copy(order="F")
        for organ in ORGANS:
            prediction[organ.id, 0, 0] = organ.id
            prediction[-1 - organ.id, -1, -1] = organ.id
    if who == "viscera":
        from viscera.metrics.compare import compare_labels

        def scores() -> list[list[float]]:
            found = compare_labels(prediction, truth, spacing_mm=spacing_mm)
            return [[one.dsc, one.nsd, one.hd95_mm, one.assd_mm] for one in found]
    else:
        sys.path.insert(0, str(ROOT))
        from tests import oracle

        def scores() -> list[list[float]]:
            found = []
            for organ in ORGANS:
                a, b = prediction == organ.id, truth == organ.id
                both = a.any() and b.any()
                four = oracle.four_metrics(a, b, spacing_mm, organ.tolerance_mm) if both else ()
                found.append([float(value) for value in four])
            return found

    start = time.perf_counter()
    found = scores()
    print(json.dumps({"seconds": time.perf_counter() - start, "scores": found}))


def measure(who: str, prediction: Path, truth: Path, stray: bool) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        call = [sys.executable, __file__, "--child", who, str(prediction), str(truth)]
        call += ["--stray"] if stray else []
        run = run_and_measure(call, log=log)
        if run.exit_code:
            raise SystemExit(log.read_text())
        return {**json.loads(log.read_text().splitlines()[-1]), "peak_mb": run.peak_mb}


def row(case: str, prediction: Path, stray: bool, rounds: int) -> str:
    """Both in turn, a process each time; medians."""
    truth = DATA / case / "label.nii.gz"
    runs: dict[str, list[dict]] = {"viscera": [], "surface-distance": []}
    for _ in range(rounds):
        for who, done in runs.items():
            done.append(measure(who, prediction, truth, stray))
    ours, theirs = (
        {**done[0], **{k: statistics.median(d[k] for d in done) for k in ("seconds", "peak_mb")}}
        for done in runs.values()
    )
    apart = [
        max(
            (abs(a[n] - b[n]) for a, b in zip(ours["scores"], theirs["scores"], strict=True) if b),
            default=0.0,
        )
        for n in range(len(METRICS))
    ]
    shape = " x ".join(map(str, nib.load(truth).shape))
    line = (
        f"| {case.split('/')[1]}{', stray voxels' if stray else ''} | {shape} "
        f"| {ours['seconds']:.3f} | {theirs['seconds']:.2f} "
        f"| {theirs['seconds'] / ours['seconds']:.0f} "
        f"| {ours['peak_mb']:.0f} | {theirs['peak_mb']:.0f} | {max(apart):.0e} |"
    )
    print(line, flush=True)
    return line


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=3)
    parser.add_argument("--stray", action="store_true")
    args = parser.parse_args()
    if args.child:
        who, prediction, truth = args.child
        child(who, Path(prediction), Path(truth), args.stray)
        return
    lines = [
        "# Evaluation: all organs, four metrics, beside `surface-distance` 0.1",
        "",
        "Made by `python benchmarks/evaluation.py`. A process each time, both in turn; seconds are",
        "medians with both label maps in memory, one thread each; peaks are of the whole process,",
        "label maps and imports included. `apart` is the largest difference of any metric of any",
        "organ. Where it says so, a stray voxel of every organ lies in two opposite corners.",
        "",
        f"- machine: {platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, numpy {np.__version__}",
        f"- rounds: {args.rounds}, one where voxels are stray",
        "",
        "| case | voxels | viscera s | surface-distance s | ratio | viscera MB "
        "| surface-distance MB | apart |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            labels = Path(folder) / f"{case.split('/')[1]}.nii.gz"
            call = [sys.executable, "-m", "viscera", "segment", str(DATA / case / "ct.nii.gz")]
            call += ["-o", str(labels), "-b", str(BUNDLE), "--overlap", "0.25", "-q"]
            subprocess.run(call, check=True)
            lines.append(row(case, labels, False, args.rounds))
            if case in STRAY:
                lines.append(row(case, labels, True, 1))
    target = ROOT / "benchmarks" / "results" / "evaluation.md"
    target.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
