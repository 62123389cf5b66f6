"""How many scans an hour: one process, two, and Dask's workers, on this machine.

    python benchmarks/throughput.py SCAN.nii.gz

Batches of copies of one scan with `default`, and of small phantoms, each way in turn, twice; whole
calls, with the memory of all their processes. From the seconds of one scan in one core follow the
tables of docs/throughput.md. Needs the extra `cluster`. Writes benchmarks/results/throughput.md.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

import viscera
from viscera.bench.run import machine_description
from viscera.io.write import write_volume

RESULTS = Path(__file__).resolve().parent / "results" / "throughput.md"
SCANS, PHANTOMS, REPEATS = 8, 200, 2
LOCAL = ("--cluster", "local")
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


def main() -> None:
    """Measure and write."""
    scan = Path(sys.argv[1])
    lines = [
        "# Scans an hour on two CPUs",
        "",
        f"Made by `python benchmarks/throughput.py SCAN`: {SCANS} copies of {scan.name} with `default`, "
        f"{PHANTOMS} phantoms of",
        f"48 x 40 x 28 voxels, whole calls, medians of {REPEATS}, in turn.",
        "",
        f"- {', '.join(f'{k} {v}' for k, v in machine_description().items())}",
        "",
        "| | scans an hour | s a scan | MB, all processes | phantoms an hour | MB |",
        "|---|---|---|---|---|---|",
    ]
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
        rows: dict[str, list[list[tuple[float, float]]]] = {way: [[], []] for way in WAYS}
        for _ in range(REPEATS):
            for way, calls in WAYS.items():
                rows[way][0].append(measure(scans, "default", calls))
                rows[way][1].append(measure(phantoms, "phantom", calls))
                print(way, rows[way], flush=True)
    for way, (of_scans, of_phantoms) in rows.items():
        seconds = statistics.median(s for s, _ in of_scans)
        quick = statistics.median(s for s, _ in of_phantoms)
        lines.append(
            f"| {way} | {3600 * SCANS / seconds:.0f} | {seconds / SCANS:.2f} "
            f"| {max(mb for _, mb in of_scans):.0f} | {3600 * PHANTOMS / quick:.0f} "
            f"| {max(mb for _, mb in of_phantoms):.0f} |"
        )
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
