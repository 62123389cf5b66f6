"""A checksum of the labels of every CT in ../shared/data, to prove that a change keeps all of them.

    python tools/label_sums.py before.txt          # with the version before the change
    python tools/label_sums.py after.txt           # with the version after it
    diff before.txt after.txt

Precision follows from the CPU: compare on one machine.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

import viscera

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared/data"
BUNDLES = ("default", "paper")


def scans() -> list[Path]:
    """Every CT: NIfTI files, and the folders of DICOM series."""
    return [*sorted(DATA.rglob("ct.nii.gz")), *sorted(p for p in (DATA / "dicom").iterdir())]


def main() -> None:
    """Write a line per bundle and scan: its name, the sum of its labels, the voxels labelled."""
    target = Path(sys.argv[1])
    with target.open("w", encoding="utf-8") as file:
        for bundle in BUNDLES:
            predictor = viscera.Predictor(bundle, precision="f32", threads=2)
            for scan in scans():
                labels = predictor.segment(scan).labels
                digest = hashlib.sha256(np.ascontiguousarray(labels.T).tobytes()).hexdigest()
                name = scan.parent if scan.is_file() else scan
                voxels = int(np.count_nonzero(labels))
                shown = f"{bundle} {name.relative_to(DATA)} {labels.shape} {voxels} {digest}"
                print(shown, file=file, flush=True)


if __name__ == "__main__":
    main()
