"""What an installation weighs, and how long `viscera --help` takes.

    python benchmarks/startup.py [--repeats 20]

Installs the project into an empty environment, as `pip install .` does, and measures there.
Writes benchmarks/results/startup.md.
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

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python, command = (str(Path(folder) / "bin" / n) for n in ("python", "viscera"))
        start = time.perf_counter()
        subprocess.run([python, "-m", "pip", "install", "-q", str(ROOT)], check=True)
        install_s = time.perf_counter() - start
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True
        ).stdout
        packages = [p["name"] for p in json.loads(listed) if p["name"] not in ("pip", "setuptools")]
        if "torch" in packages:
            raise SystemExit("torch was installed")
        site = next(Path(folder).glob("lib/python*/site-packages"))
        skipped = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
        size_mb = sum(
            p.stat().st_size
            for top in site.iterdir()
            if not top.name.startswith(skipped)
            for p in ([top] if top.is_file() else top.rglob("*"))
            if p.is_file() and p.suffix != ".pyc"
        ) / 1e6  # fmt: skip
        times = []
        for _ in range(args.repeats):
            start = time.perf_counter()
            subprocess.run([command, "--help"], check=True, stdout=subprocess.DEVNULL)
            times.append((time.perf_counter() - start) * 1000)
    text = f"""# Installation and start-up

Made by `python benchmarks/startup.py`: `pip install .` into an empty environment.

- machine: {platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}
- `viscera --help`, whole process: median {statistics.median(times):.0f} ms of {args.repeats}, slowest {max(times):.0f} ms
- installed: {size_mb:.0f} MB in {install_s:.0f} s
- packages: {", ".join(packages)}
- torch: not installed
"""
    target = ROOT / "benchmarks/results/startup.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
