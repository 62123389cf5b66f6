"""How many scans an hour: one process, two, and Dask's workers, on this machine.

    python benchmarks/throughput.py SCAN.nii.gz
    python benchmarks/throughput.py --tables        # the page anew from what was measured

Batches of copies of one scan with `default`, and of small phantoms, each way in turn, twice; whole
calls, with the memory of all their processes. What larger machines would take is calculated from
that. Needs the extra `cluster`. Writes benchmarks/results/throughput.json and throughput.md.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

import viscera
from viscera.bench.run import machine_description
from viscera.io.write import write_volume

RESULTS = Path(__file__).resolve().parent / "results" / "throughput.md"
MEASURED = RESULTS.with_suffix(".json")
SCANS, PHANTOMS, REPEATS = 8, 200, 2
LOCAL = ("--cluster", "local")
PAIR = "one process, two threads"
BEST = "Dask, two workers with one thread each"
MACHINES = (("a laptop with 8 cores", 8), ("64 cores", 64), ("1,000 cores", 1000))
# Each way: words of each call that runs at the same time.
WAYS = {
    "one process, one thread": [("--threads", "1")],
    "one process, two threads": [("--threads", "2")],
    "two processes on one folder, one thread each": [("--threads", "1")] * 2,
    "Dask, one worker with two threads": [(*LOCAL, "--workers", "1", "--threads", "2")],
    "Dask, two workers with one thread each": [(*LOCAL, "--workers", "2", "--threads", "1")],
}


def measure(folder: Path, bundle: str, calls: list[tuple[str, ...]]) -> tuple[float, float]:
    """Seconds of a batch, and the most MB that its processes had together."""
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "viscera", "segment", str(folder), "-o", out, "-q",
                 "-b", bundle, *words],
            )
            for words in calls
        ]  # fmt: skip
        peaks, stop = [0.0], threading.Event()

        def watch() -> None:
            while not stop.wait(0.1):
                total = 0.0
                for process in processes:
                    try:
                        tree = [psutil.Process(process.pid)]
                        tree += tree[0].children(recursive=True)
                        total += sum(p.memory_info().rss for p in tree)
                    except psutil.Error:
                        continue
                peaks.append(total / 1e6)

        watcher = threading.Thread(target=watch)
        watcher.start()
        if any(process.wait() for process in processes):
            raise SystemExit("a batch failed")
        seconds = time.perf_counter() - start
        stop.set()
        watcher.join()
        made = len(list(Path(out).glob("*.nii.gz")))
        if made != len(list(folder.iterdir())):
            raise SystemExit(f"{made} results")
    return seconds, max(peaks)


def measure_all(scan: Path) -> dict[str, Any]:
    """Every way, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        scans, phantoms = Path(folder) / "scans", Path(folder) / "phantoms"
        scans.mkdir()
        phantoms.mkdir()
        for n in range(SCANS):
            (scans / f"s{n}.nii.gz").write_bytes(scan.read_bytes())
        for n in range(PHANTOMS):
            path = phantoms / f"p{n:03d}.nii.gz"
            if n < 4:
                volume, _ = viscera.make_phantom(n, shape=(48, 40, 28), spacing_mm=(7.5, 7.0, 10.0))
                write_volume(path, volume)
            else:
                path.write_bytes((phantoms / f"p{n % 4:03d}.nii.gz").read_bytes())
        rows: dict[str, Any] = {way: {"scans": [], "phantoms": []} for way in WAYS}
        for _ in range(REPEATS):
            for way, calls in WAYS.items():
                rows[way]["scans"].append(measure(scans, "default", calls))
                rows[way]["phantoms"].append(measure(phantoms, "phantom", calls))
                print(way, rows[way], flush=True)
    return {
        "scan": scan.name,
        "scan_mb": scan.stat().st_size / 1e6,
        "machine": machine_description(),
        "ways": rows,
    }


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.1f} days"


def page(measured: dict[str, Any]) -> str:
    """What was measured, and what follows for larger machines."""
    lines = [
        "# Scans an hour",
        "",
        f"Made by `python benchmarks/throughput.py SCAN`: {SCANS} copies of {measured['scan']} with "
        f"`default`, {PHANTOMS}",
        f"phantoms of 48 x 40 x 28 voxels, whole calls with their start, medians of {REPEATS}, in turn.",
        "",
        f"- {', '.join(f'{k} {v}' for k, v in measured['machine'].items())}",
        "",
        "| | scans an hour | s a scan | MB, all processes | phantoms an hour | MB |",
        "|---|---|---|---|---|---|",
    ]
    hourly = {}
    for way, of in measured["ways"].items():
        seconds = statistics.median(s for s, _ in of["scans"])
        quick = statistics.median(s for s, _ in of["phantoms"])
        hourly[way] = 3600 * SCANS / seconds
        lines.append(
            f"| {way} | {hourly[way]:.0f} | {seconds / SCANS:.2f} "
            f"| {max(mb for _, mb in of['scans']):.0f} | {3600 * PHANTOMS / quick:.0f} "
            f"| {max(mb for _, mb in of['phantoms']):.0f} |"
        )
    one_thread = hourly["one process, one thread"]
    lines += [
        "",
        f"From one core to two: {hourly[BEST] / one_thread:.2f} times as many scans with a second worker, "
        f"{hourly[PAIR] / one_thread:.2f} times with a",
        "second thread.",
        "",
        "## Calculated, not measured",
        "",
        "A worker for every two cores, each as quick as the one process with two threads above; storage that keeps",
        f"up with compressed scans of {measured['scan_mb']:.0f} MB.",
        "",
        "| machine | scans an hour | a thousand | a million | MB/s to read |",
        "|---|---|---|---|---|",
    ]
    for name, cores in MACHINES:
        rate = hourly[PAIR] * cores / 2
        lines.append(
            f"| {name} | {rate:,.0f} | {_duration(1000 / rate)} | {_duration(1e6 / rate)} "
            f"| {rate * measured['scan_mb'] / 3600:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure unless told otherwise, and write."""
    if sys.argv[1] != "--tables":
        MEASURED.write_text(json.dumps(measure_all(Path(sys.argv[1])), indent=1) + "\n")
    text = page(json.loads(MEASURED.read_text()))
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
