"""Images: their sizes, and FLARE's container beside the command on two real scans.

    python benchmarks/containers.py FOLDER

Builds both images in FOLDER (`tools/build_images.py`), runs the container of FLARE as the challenge
does, one case a start, beside `viscera segment`, in turn, medians of three, whole processes with
their children, and compares the labels byte for byte. Writes benchmarks/results/containers.md.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from build_images import IMAGES, ImageFolder, size_mb  # noqa: E402
from viscera.bench.process import ProcessRun, run_and_measure  # noqa: E402
from viscera.bench.run import machine_description  # noqa: E402
from viscera.io.read import read_labels  # noqa: E402

SHARED = ROOT.parent / "shared" / "data"
SCANS = ("btcv_synapse/img0027", "msd_spleen/spleen_8")
RESULTS = ROOT / "benchmarks" / "results" / "containers.md"
REPEATS = 3


def flare_run(images: ImageFolder, container: str, scan: Path, work: Path) -> ProcessRun:
    """One start of FLARE's container."""
    inputs, outputs = work / "inputs", work / "outputs"
    for folder in (inputs, outputs):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    shutil.copyfile(scan, inputs / "case_0000.nii.gz")
    call = ["buildah", "--storage-driver", "vfs", "--root", str(images.folder / "storage"),
            "--runroot", str(images.folder / "run"), "run", "--isolation", "chroot",
            "--volume", f"{inputs}:/workspace/inputs:ro",
            "--volume", f"{outputs}:/workspace/outputs", container, "--",
            "/bin/bash", "-c", "sh predict.sh"]  # fmt: skip
    return run_and_measure(call, log=work / "log")


def main() -> None:
    """Measure and write."""
    images = ImageFolder(Path(sys.argv[1]))
    base = images.make_base()
    names = {name: images.build(name, base) for name in IMAGES}
    lines = [
        "# Containers",
        "",
        "Made by `python benchmarks/containers.py FOLDER`, with buildah, on a base of Debian's packages by debootstrap.",
        "",
        f"- {', '.join(f'{k} {v}' for k, v in machine_description().items())}",
        "",
        "| image | MB unpacked | of that, the base |",
        "|---|---|---|",
    ]
    with images.tree(base) as tree:
        base_mb = size_mb(tree)
    for name in names.values():
        with images.tree(name) as tree:
            lines.append(f"| {name} | {size_mb(tree):.0f} | {base_mb:.0f} |")
    lines += [
        "",
        "FLARE's container beside `viscera segment`, one case a start, medians of three, in turn:",
        "",
        "| scan | container, s | MB | command, s | MB | voxels that differ |",
        "|---|---|---|---|---|---|",
    ]
    container = images.buildah("from", names["flare"])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for scan in SCANS:
            path, labels = SHARED / scan / "ct.nii.gz", work / "labels.nii.gz"
            call = [sys.executable, "-m", "viscera", "segment", str(path), "-o", str(labels), "-q",
                    "--overwrite"]  # fmt: skip
            ours, theirs = [], []
            for _ in range(REPEATS):
                theirs.append(flare_run(images, container, path, work))
                ours.append(run_and_measure(call, log=work / "log"))
            if any(run.exit_code for run in (*ours, *theirs)):
                raise SystemExit((work / "log").read_text())
            made = read_labels(work / "outputs" / "case.nii.gz").values
            differ = np.count_nonzero(made != read_labels(labels).values)
            figures = [
                f"{statistics.median(run.seconds for run in runs):.1f} "
                f"| {statistics.median(run.peak_mb or 0 for run in runs):.0f}"
                for runs in (theirs, ours)
            ]
            lines.append(f"| {scan} | {' | '.join(figures)} | {differ} |")
    images.buildah("rm", container)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
