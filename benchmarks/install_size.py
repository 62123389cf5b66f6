"""How much disk `pip install viscera` takes, in a new environment.

    python benchmarks/install_size.py [EXTRA...]

Needs the network, or a package index at hand. pip and setuptools are not counted. Writes
benchmarks/results/install_size.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from scans import ROOT
from viscera.report.markdown import markdown_table

MARK_MB = 400
SHOWN_MB = 1.0  # smaller packages are summed up


def installed_mb(extra: str) -> dict[str, float]:
    """MB of every folder and file that an installation puts into site-packages."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        what = f"{ROOT}[{extra}]" if extra else str(ROOT)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--no-compile", what], check=True
        )
        command = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = Path(subprocess.check_output([python, "-c", command], text=True).strip())
        return {
            item.name: sum(f.lstat().st_size for f in [item, *item.rglob("*")] if f.is_file()) / 1e6
            for item in site.iterdir()
            if item.name.split("-")[0] not in ("pip", "setuptools", "_distutils_hack")
        }


def main() -> None:
    lines = ["# Installed size", "", "`python benchmarks/install_size.py`, without byte code.", ""]
    for extra in ("", *sys.argv[1:]):
        sizes = installed_mb(extra)
        shown = sorted(
            (name for name, mb in sizes.items() if mb >= SHOWN_MB), key=lambda n: -sizes[n]
        )
        rest = sum(mb for name, mb in sizes.items() if name not in shown)
        total = sum(sizes.values())
        name = f"viscera[{extra}]" if extra else "viscera"
        mark = f" (mark: {MARK_MB})" if not extra else ""
        lines += [
            f"## `pip install {name}`: {total:.0f} MB{mark}",
            "",
            markdown_table(
                ["", "MB"],
                [[item, f"{sizes[item]:.1f}"] for item in shown] + [["all else", f"{rest:.1f}"]],
            ),
            "",
        ]
        print(lines[-4])
    path = ROOT / "benchmarks" / "results" / "install_size.md"
    path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
