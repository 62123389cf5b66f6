"""How long a whole process takes and how much memory, by number of slices, beside other ways.

    python benchmarks/speed.py FOLDER [--repeats 3] [--ours]
    python benchmarks/speed.py --tables

Needs ../shared and the extra `train`. FOLDER receives the scans (see `scans.py`) and the labels. All
commands run in turn on each scan, so that they meet the same machine; figures are medians. Writes
benchmarks/results/speed.json, .md and .png, and README's tables (`front_page.py`); with --tables it
makes these again from the JSON that stands there. --ours leaves out the plain implementations and
the peer (`peer.py`), which take minutes a scan.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

import front_page
from scans import ROOT, write_scan
from viscera.report.charts.canvas import DIM, GRID, INK, PAPER, SHARPER, ChartCanvas

TARGET = ROOT / "benchmarks/results/speed.json"
# Slices, and seconds of the paper's Table 4: 6 CPU cores.
PAPER_S = {55: 23.1, 124: 44.8, 152: None, 218: None, 299: 102.1, 316: None, 457: None, 597: 210.5}
COMPARED = 299
LONG, LONG_LIMIT = 1500, "1G"
TRUNK = "299, trunk"
# What this project set itself: seconds by slices, and peak MB at 299 slices.
MARKS_S = {
    "default": {"55": 1.4, "124": 1.7, "299": 2.4, "597": 3.8, TRUNK: 3.8},
    "fast": {"55": 1.1, "124": 1.3, "299": 1.8, "597": 2.9, TRUNK: 2.6},
    "paper": {"55": 0.9, "124": 1.3, "299": 2.6, "597": 4.4, TRUNK: 2.8},
}
MARKS_MB = {
    "default": {"299": 800, TRUNK: 1000},
    "fast": {"299": 600, TRUNK: 700},
    "paper": {"299": 330, TRUNK: 340},
}
PYTHON = [sys.executable]
SEGMENT = [*PYTHON, "-m", "viscera", "segment", "{ct}", "-o", "{out}", "--overwrite", "-q"]
SEGMENT += ["--report"]
PLAIN = [*PYTHON, str(ROOT / "benchmarks/plain.py"), "{bundle}", "{ct}", "{out}"]
PLAIN += ["--report", "{report}"]
REFERENCE = str(ROOT / "examples/bundles/flare25_dw")
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
F32 = ["--precision", "f32"]
# Name: bundle, command, environment.
OURS = {name: (name, [*SEGMENT, "-b", name], {}) for name in ("paper", "fast", "default")}
WRITTEN_PLAINLY = ("paper", "default")
PLAIN_FAST = ["--engine", "openvino", "--precision", "{precision}"]
OTHERS = {
    f"{name}, {what}": (name, call, extra)
    for name in WRITTEN_PLAINLY
    for what, call, extra in (
        ("f32", [*SEGMENT, "-b", name, *F32], {}),
        ("f32, AVX2 only", [*SEGMENT, "-b", name, *F32], AVX2),
        ("one thread", [*SEGMENT, "-b", name, "--threads", "1"], {}),
        ("nothing cached", [*SEGMENT, "-b", name], {"VISCERA_CACHE": "off"}),
        ("with statistics and preview", [*SEGMENT, "-b", name, "-s", "-p"], {}),
        ("onnxruntime f32", [*SEGMENT, "-b", name, "--engine", "onnxruntime"], {}),
        ("plain: nibabel, scipy, PyTorch", PLAIN, {}),
        ("plain, our engine and precision", [*PLAIN, *PLAIN_FAST], {}),
    )
}
OTHERS["reference network flare25_dw"] = (REFERENCE, [*SEGMENT, "-b", REFERENCE], {})
OTHERS["reference network flare25_dw, plain: nibabel, scipy, PyTorch"] = (REFERENCE, PLAIN, {})
OTHERS["peer: architecture of TotalSegmentator's fast model, random weights, PyTorch"] = (
    "peer", [*PYTHON, str(ROOT / "benchmarks/peer.py"), "{ct}", "{out}"], {}
)  # fmt: skip
SLOW = ("plain", "reference", "onnxruntime", "peer")


def measured(call: list[str], extra: dict[str, str]) -> dict[str, float]:
    """Seconds, CPU-seconds and peak MB of a whole process."""
    start = time.perf_counter()
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **extra}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # pip compiles what it installs
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"failed: {' '.join(call)}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mb": usage.ru_maxrss * 1024 / 1e6}


def aside(work: Callable, *arguments: object) -> object:
    """Done by another process: the kernel counts a parent's own peak as its children's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def equal(a: Path, b: Path) -> float:
    """Share of voxels with the same label."""
    x, y = (np.asarray(nib.load(path).dataobj) for path in (a, b))
    return float((x == y).mean())


def run(folder: Path, repeats: int, *, ours: bool) -> dict:
    """All measurements."""
    rows: dict[str, dict] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for slices in (*PAPER_S, TRUNK, LONG):
        scan = folder / f"{slug(str(slices))}.nii.gz"
        aside(partial(write_scan, trunk=slices == TRUNK), scan, int(str(slices).split(",")[0]))
        contestants = dict(OURS)
        if slices == COMPARED:
            contestants |= {
                n: c for n, c in OTHERS.items() if not (ours and ("plain" in n or "peer" in n))
            }
        if slices == LONG:
            contestants = {
                n: (b, [*c, "--memory-limit", LONG_LIMIT], e) for n, (b, c, e) in OURS.items()
            }
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
        reports: dict[str, list[dict]] = {name: [] for name in contestants}
        for turn in range(-1, repeats):  # the first fills caches of disk and engine
            for name, (bundle, call, extra) in contestants.items():
                if turn and (slices == LONG or any(word in name for word in SLOW)):
                    continue  # once
                out = folder / f"{slug(str(slices))}_{slug(name)}.nii.gz"
                names = {"ct": scan, "out": out, "bundle": bundle}
                names["report"] = folder / f"{slug(str(slices))}_{slug(bundle)}_report.json"
                if bundle == REFERENCE:
                    reference = slug("reference network flare25_dw")
                    names["report"] = folder / f"{slices}_{reference}_report.json"
                if call[-1] == "{precision}":
                    engine = json.loads(names["report"].read_text())["engine"]
                    names["precision"] = engine["precision"]
                cost = measured([part.format(**names) for part in call], extra)
                if turn >= 0:
                    runs[name].append(cost)
                report = folder / f"{slug(str(slices))}_{slug(name)}_report.json"
                if turn >= 0 and "plain" not in name and "peer" not in name:
                    reports[name].append(json.loads(report.read_text()))
                print(slices, name, {key: round(value, 2) for key, value in cost.items()})
        rows[str(slices)] = {
            name: {
                **{key: middle(costs, key) for key in costs[0]},
                "runs": len(costs),
                "stages": stages(reports[name]),
                "engine": reports[name][0]["engine"] if reports[name] else None,
                "planned_mb": reports[name][0]["planned_mb"] if reports[name] else None,
            }
            for name, costs in runs.items()
        }
        if slices == COMPARED:
            agreement = {
                f"{name}, {what}": aside(
                    equal,
                    folder / f"{slices}_{slug(name)}{suffix}.nii.gz",
                    folder / f"{slices}_{slug(f'{name}, {what}')}.nii.gz",
                )
                for name in WRITTEN_PLAINLY
                for what, suffix in (
                    ("plain: nibabel, scipy, PyTorch", "_f32"),
                    ("plain, our engine and precision", ""),
                )
                if f"{name}, {what}" in contestants
            }
    return {"machine": machine(), "rows": rows, "equal": agreement}


def slug(name: str) -> str:
    """A name for files."""
    return "_".join("".join(c if c.isalnum() else " " for c in Path(name).name).split())


def middle(costs: list[dict[str, float]], key: str) -> float:
    return round(statistics.median(cost[key] for cost in costs), 3)


def stages(reports: list[dict]) -> dict[str, dict[str, float]]:
    """Medians of each stage's seconds and peak."""
    if not reports:
        return {}
    return {
        stage: {key: middle([one["stages"][stage] for one in reports], key) for key in cost}
        for stage, cost in reports[0]["stages"].items()
    }


def machine() -> dict:
    import openvino
    import torch

    import viscera

    model = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    versions = {one.__name__: one.__version__ for one in (viscera, np, openvino, torch)}
    return {"cpu": model, "cpus": os.cpu_count(), "python": platform.python_version(), **versions}


def seconds(cost: dict) -> str:
    return f"{cost['seconds']:.1f}"


def headline(found: dict) -> list[str]:
    """The table of all numbers of slices."""
    rows = found["rows"]
    lines = [
        "| 512x512 slices | `paper`, s | MB | `fast`, s | MB | `default`, s | MB | the paper's Table 4, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for slices, paper_s in PAPER_S.items():
        ours = rows[str(slices)]
        cells = [f"{seconds(ours[name])} | {ours[name]['peak_mb']:.0f}" for name in OURS]
        lines.append(f"| {slices} | {' | '.join(cells)} | {paper_s or ''} |")
    ours = rows[TRUNK]
    cells = [f"{seconds(ours[name])} | {ours[name]['peak_mb']:.0f}" for name in OURS]
    lines.append(f"| {TRUNK}: three abdomens in a row | {' | '.join(cells)} | |")
    ours = rows[str(LONG)]
    cells = [f"{seconds(ours[name])} | {ours[name]['peak_mb']:.0f}" for name in OURS]
    lines.append(f"| {LONG}, `--memory-limit {LONG_LIMIT}` | {' | '.join(cells)} | |")
    compared = rows[str(COMPARED)]
    cells = [
        f"{seconds(compared[f'{name}, f32, AVX2 only'])} | "
        f"{compared[f'{name}, f32, AVX2 only']['peak_mb']:.0f}"
        if name in WRITTEN_PLAINLY
        else " | "
        for name in OURS
    ]
    lines.append(f"| {COMPARED}, a CPU with AVX2 only (f32) | {' | '.join(cells)} | |")
    if plain := compared.get("paper, plain: nibabel, scipy, PyTorch"):
        equal_share = found["equal"]["paper, plain: nibabel, scipy, PyTorch"]
        times = plain["seconds"] / compared["paper"]["seconds"]
        lines += [
            "",
            f"At {COMPARED} slices the paper's network written plainly (nibabel, scipy, PyTorch) "
            f"takes {plain['seconds']:.0f} s and {plain['peak_mb']:.0f} MB, {times:.0f} times as "
            f"long, with {equal_share:.3%} of the labels equal.",
        ]
    return lines


def tables(found: dict) -> str:
    """The whole page."""
    rows, told = found["rows"], found["machine"]
    compared = rows[str(COMPARED)]
    lines = ["# Speed and memory", "", "Made by `python benchmarks/speed.py FOLDER`: whole "]
    lines[-1] += "processes from .nii.gz to .nii.gz, all in turn, medians. Scans: `scans.py`."
    lines += ["", "- " + ", ".join(f"{key} {value}" for key, value in told.items()), ""]
    lines += [*headline(found), "", "![seconds by slices](speed.png)", ""]
    lines += ["## Against the marks", "", "Measured, and in brackets what was aimed at.", ""]
    lines += ["| 512x512 slices | " + " | ".join(f"`{n}`, s | MB" for n in MARKS_S) + " |"]
    lines += ["|---" * (2 * len(MARKS_S) + 1) + "|"]
    for slices in MARKS_S["default"]:
        cells = []
        for name in MARKS_S:
            cost, mb = rows[slices][name], MARKS_MB[name].get(slices)
            cells.append(f"{cost['seconds']:.2f} ({MARKS_S[name][slices]})")
            cells.append(f"{cost['peak_mb']:.0f}" + (f" ({mb})" if mb else ""))
        lines.append(f"| {slices} | {' | '.join(cells)} |")
    lines += ["", f"## Other ways, {COMPARED} slices", ""]
    lines += ["| | seconds | times ours | CPU-seconds | peak MB | runs | voxels equal |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, cost in compared.items():
        own = compared["paper" if name.startswith("paper") else "default"]["seconds"]
        same = found["equal"].get(name)
        lines.append(
            f"| {name} | {seconds(cost)} | {cost['seconds'] / own:.1f} | {cost['cpu_s']:.1f} "
            f"| {cost['peak_mb']:.0f} | {cost['runs']} | {f'{same:.4%}' if same else ''} |"
        )
    if found["equal"]:
        lines += [
            "",
            "Voxels equal: plain in PyTorch beside our f32, plain with our engine beside ",
        ]
        lines[-1] += "our own precision; looked at are the same part and windows."
    for name in OURS:
        lines += ["", f"## Stages of `{name}`: seconds, peak MB", ""]
        names = list(compared[name]["stages"])
        lines += ["| slices | " + " | ".join(names) + " | around them | planned MB |"]
        lines += ["|---" * (len(names) + 3) + "|"]
        for slices, ours in rows.items():
            cost = ours[name]
            cells = [f"{c['seconds']:.2f}, {c['peak_mb']:.0f}" for c in cost["stages"].values()]
            around = cost["seconds"] - sum(c["seconds"] for c in cost["stages"].values())
            lines.append(
                f"| {slices} | {' | '.join(cells)} | {around:.2f} | {cost['planned_mb']} |"
            )
    return "\n".join(lines) + "\n"


def plot(found: dict, path: Path) -> None:
    """Seconds and peak MB by number of slices, side by side."""
    page = Image.new("RGB", (900 * SHARPER, 330 * SHARPER), PAPER)
    pen = ChartCanvas(page)
    inks = dict(zip(OURS, ((54, 110, 190), (90, 150, 60), (200, 100, 40)), strict=True))
    for left, key, title, unit in ((60, "seconds", "seconds, whole process", 2), (
        500, "peak_mb", "peak MB", 200)):  # fmt: skip
        most = max(found["rows"][str(n)][name][key] for n in PAPER_S for name in OURS)
        top = unit * -(-most // unit)
        pen.text((left, 16), title, INK, 14)

        def at(slices: float, value: float, left: float = left, top: float = top) -> tuple:
            return left + 340 * slices / 600, 280 - 220 * value / top

        for step in range(int(top / unit) + 1):
            pen.line(at(0, step * unit), at(600, step * unit), GRID, 1)
            x, y = at(0, step * unit)
            pen.text((x - 8, y), f"{step * unit}", DIM, 13, "rm")
        for slices in range(0, 601, 150):
            x, y = at(slices, 0)
            pen.text((x, y + 8), f"{slices}{' slices' if slices == 600 else ''}", DIM, 13, "ma")
        for name, ink in inks.items():
            points = [at(n, found["rows"][str(n)][name][key]) for n in PAPER_S]
            pen.polyline(points, ink, 2)
            for point in points:
                pen.dot(point, ink)
            x, y = points[-1]
            pen.text((x, y - 8), name, ink, 13, "rb")
    page.resize((900, 330), Image.Resampling.LANCZOS).save(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ours", action="store_true")
    parser.add_argument("--tables", action="store_true")
    args = parser.parse_args()
    if not args.tables:
        found = run(args.folder, args.repeats, ours=args.ours)
        TARGET.write_text(json.dumps(found, indent=1) + "\n")
    found = json.loads(TARGET.read_text())
    TARGET.with_suffix(".md").write_text(tables(found))
    plot(found, TARGET.with_suffix(".png"))
    front_page.main()


if __name__ == "__main__":
    main()
