"""What the published network finds through viscera, against labels made by others.

    python benchmarks/agreement.py

Needs ../shared. Overlap 0.5. Writes benchmarks/results/agreement.md: DSC per organ against the
labels that lie beside each CT, and of bf16 against f32, which decides whether a bundle may list it.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

import viscera

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
BUNDLE = ROOT / "examples" / "bundles" / "flare25_dw"
# Case, and who made its labels.
CASES = {
    "tcia_acrin_flt_breast/001_abdomen": "the same network, other code",
    "tcia_colorectal_liver_metastases/CRLM-CT-1006": "the same network, other code",
    "msd_lits_liver/liver_0": "the same network, other code",
    "totalsegmentator_examples/example_dicom_20slices": "TotalSegmentator",
}


def dice(a: np.ndarray, b: np.ndarray, organ: int) -> float | None:
    """DSC of one organ, None where neither holds it."""
    x, y = a == organ, b == organ
    total = int(x.sum() + y.sum())
    return 2 * int((x & y).sum()) / total if total else None


def shown(values: list[float | None]) -> list[str]:
    known = [v for v in values if v is not None]
    return [f"{np.mean(known):.4f}", *("-" if v is None else f"{v:.3f}" for v in values)]


def main() -> None:
    predictors = {p: viscera.Predictor(BUNDLE, overlap=0.5, precision=p) for p in ("f32", "bf16")}
    lines = [
        "# Agreement on real CTs, published 3-D network, overlap 0.5",
        "",
        "Made by `python benchmarks/agreement.py`. DSC, organs that neither map holds left out of",
        "the mean. `voxels` is the share of voxels inside either map that carry the same label.",
        "",
        "| case | compared | voxels | mean | " + " | ".join(o.name for o in viscera.ORGANS) + " |",
        "|---|---|---|---|" + "---|" * len(viscera.ORGANS),
    ]
    for case, maker in CASES.items():
        volume = viscera.read_volume(DATA / case / "ct.nii.gz")
        truth = np.asarray(nib.load(DATA / case / "label.nii.gz").dataobj)
        found = {name: p.segment(volume).labels for name, p in predictors.items()}
        pairs = {
            f"f32, labels by {maker}": (found["f32"], truth),
            f"bf16, labels by {maker}": (found["bf16"], truth),
            "bf16, f32": (found["bf16"], found["f32"]),
        }
        for title, (a, b) in pairs.items():
            either = (a > 0) | (b > 0)
            same = float((a[either] == b[either]).mean())
            scores = shown([dice(a, b, organ.id) for organ in viscera.ORGANS])
            lines.append(f"| {case} | {title} | {same:.4f} | " + " | ".join(scores) + " |")
            print(lines[-1], flush=True)
    target = ROOT / "benchmarks" / "results" / "agreement.md"
    target.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
