"""What the server costs beside the command.

    python benchmarks/serve.py SCAN.nii.gz

Start of the process to the first answer, the page's first answer, a scan from upload to finished
beside `viscera segment` with labels alone and with the same files (in turn, medians of three), from a browser's drop to the overlay where
Chromium and playwright are installed (it draws with the CPU), and fifty phantoms uploaded at a time:
seconds and memory. Writes benchmarks/results/serve.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import psutil

import viscera
from viscera.bench.run import machine_description
from viscera.io.write import write_volume

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "serve.md"
TOKEN = "a-token-for-measuring"
REPEATS, AT_A_TIME = 3, 50
PATIENCE_S = 150
SAME_FILES = ("--statistics", "--preview", "--report", "--html", "-ot", "seg_nrrd")


@contextmanager
def server():
    """Address, process, and seconds to the first answer."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "viscera", "serve", "--port", "0"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "VISCERA_TOKEN": TOKEN},
    )  # fmt: skip
    address = re.search(r"http://[^ #]*", process.stderr.readline())[0]
    while True:
        try:
            call(address, "GET", "health")
            break
        except OSError:
            time.sleep(0.01)
    yield address, process, time.perf_counter() - start
    process.terminate()
    process.wait()


def call(address: str, method: str, path: str, body: bytes | None = None) -> bytes:
    """One call of the interface."""
    request = Request(
        f"{address}api/{path}", data=body, method=method, headers={"X-Viscera-Token": TOKEN}
    )
    with urlopen(request) as answer:
        return answer.read()


def upload(address: str, scan: Path, bundle: str) -> str:
    """A job that waits or runs."""
    settings = json.dumps({"name": scan.name, "bundle": bundle}).encode()
    job = json.loads(call(address, "POST", "jobs", settings))["id"]
    call(address, "PUT", f"jobs/{job}/files/{scan.name}", scan.read_bytes())
    call(address, "POST", f"jobs/{job}/start")
    return job


def finish(address: str, job: str) -> None:
    """Wait until a job is finished."""
    while True:
        state = json.loads(call(address, "GET", f"jobs/{job}"))["state"]
        if state == "finished":
            return
        if state == "failed":
            raise SystemExit("a job failed")
        time.sleep(0.02)


def in_browser(address: str, scan: Path) -> str | None:
    """Seconds from a file's choice to the overlay; None without a browser."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import TimeoutError as PageTimeoutError
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if chromium is None:
        return None
    with sync_playwright() as runner:
        browser = runner.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        tab = browser.new_page(viewport={"width": 1000, "height": 600})
        tab.goto(f"{address}#{TOKEN}")
        tab.wait_for_selector("body[data-ready]")
        start = time.perf_counter()
        tab.set_input_files("#files", scan)
        try:
            tab.wait_for_selector("body[data-open]", state="attached", timeout=PATIENCE_S * 1000)
            result = f"{time.perf_counter() - start:.2f}"
        except PageTimeoutError:
            result = f"more than {PATIENCE_S}"
        browser.close()
    return result


def main() -> None:
    """Measure and write."""
    scan = Path(sys.argv[1])
    by_command, with_files, by_server, starts, firsts = [], [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(REPEATS):
            for seconds_of, files in ((by_command, ()), (with_files, SAME_FILES)):
                start = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "viscera", "segment", str(scan), "-q", "--overwrite",
                     "-o", str(Path(folder) / "labels.nii.gz"), *files],
                    check=True,
                )  # fmt: skip
                seconds_of.append(time.perf_counter() - start)
            with server() as (address, _, seconds):
                starts.append(seconds)
                start = time.perf_counter()
                urlopen(address).read()
                firsts.append(time.perf_counter() - start)
                start = time.perf_counter()
                finish(address, upload(address, scan, "default"))
                by_server.append(time.perf_counter() - start)
        with server() as (address, _, _):
            overlay = in_browser(address, scan)
        volume, _ = viscera.make_phantom(7, shape=(48, 40, 28), spacing_mm=(7.5, 7.0, 10.0))
        phantom = Path(folder) / "phantom.nii.gz"
        write_volume(phantom, volume)
        with server() as (address, process, _):
            peaks, stop = [], threading.Event()
            watched = psutil.Process(process.pid)

            def watch() -> None:
                while not stop.wait(0.1):
                    peaks.append(watched.memory_info().rss / 1e6)

            watcher = threading.Thread(target=watch)
            watcher.start()
            start = time.perf_counter()
            jobs: list[str] = []
            threads = [
                threading.Thread(target=lambda: jobs.append(upload(address, phantom, "phantom")))
                for _ in range(AT_A_TIME)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for job in jobs:
                finish(address, job)
            seconds = time.perf_counter() - start
            stop.set()
            watcher.join()
    middle = statistics.median
    lines = [
        "# The server beside the command",
        "",
        f"Made by `python benchmarks/serve.py SCAN`: {scan.name}, medians of {REPEATS}, in turn.",
        "",
        f"- {', '.join(f'{k} {v}' for k, v in machine_description().items())}",
        "",
        "| | s |",
        "|---|---|",
        f"| start of `viscera serve` to its first answer | {middle(starts):.2f} |",
        f"| first answer of the page | {middle(firsts):.3f} |",
        f"| `viscera segment`, whole process, labels alone | {middle(by_command):.2f} |",
        f"| the same, with the files that a job has | {middle(with_files):.2f} |",
        "| upload to finished, with statistics, picture, page and .seg.nrrd, network not yet loaded "
        f"| {middle(by_server):.2f} |",
    ]
    if overlay is not None:
        text = "file chosen to overlay in Chromium, which draws with the same CPU, once"
        lines.append(f"| {text} | {overlay} |")
    lines += [
        f"| {AT_A_TIME} phantoms uploaded at a time, all finished | {seconds:.1f} |",
        "",
        f"All {len(jobs)} were served; the server's memory was at most {max(peaks):.0f} MB.",
        "",
    ]
    RESULTS.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
