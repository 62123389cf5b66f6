"""Does the first look ever cut an organ? Labels with and without it, against the scans' own labels.

    python benchmarks/look.py [BUNDLE...]

Every CT of ../shared/data with labels: whole, its upper and lower half along z, and 48 mm from its
middle. Counts labelled voxels outside the box that the look leaves, and compares DSC of each organ
of 1 ml and more. Writes benchmarks/results/look.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import viscera
from scans import ROOT
from viscera.bundle.read import read_bundle
from viscera.core.volume import Labels, Volume
from viscera.grid.grid import Grid
from viscera.grid.reorient import reorient_label_map
from viscera.io.read import read_labels, read_volume
from viscera.metrics.overlap import count_voxels, dice
from viscera.report.markdown import markdown_table

sys.path.insert(0, str(ROOT / "tools"))
from list_shared_cases import rows

MIDDLE_MM = 48.0
LEAST_ML = 1.0
GRADE = 0.002  # a loss of DSC below this is none


@dataclass(frozen=True)
class Organ:
    """One organ of one scan or part of it: DSC without and with the look, ml cut off by its box."""

    case: str
    part: str
    organ: str
    without: float
    with_look: float
    ml: float
    cut_ml: float


def parts(volume: Volume, truth: Labels) -> Iterator[tuple[str, Volume, Labels]]:
    """The scan and parts of it, as if no more had been scanned."""
    depth = volume.shape[2]
    middle = max(1, round(MIDDLE_MM / 2 / volume.affine.spacing_mm[2]))
    halves = slice(0, depth // 2), slice(depth // 2, depth)
    names = ("lower half", "upper half") if volume.affine.axcodes[2] == "S" else (
        "upper half", "lower half"
    )  # fmt: skip
    yield "whole", volume, truth
    for name, part in zip(
        (*names, "middle"),
        (*halves, slice(max(0, depth // 2 - middle), depth // 2 + middle)),
        strict=True,
    ):
        yield name, volume.cropped((slice(None), slice(None), part)), truth[:, :, part]


def compared(case: dict[str, str], fine: viscera.Predictor, plain: viscera.Predictor):
    """Every organ of a case's parts, and the share of the body's box that the look leaves."""
    volume = read_volume(Path(case["image"]))
    truth = reorient_label_map(
        read_labels(Path(case["labels"])).rounded(),
        volume.shape,
        volume.affine,
        owner="the CT",
        where=Path(case["labels"]),
    ).values
    truth = np.where(truth <= len(viscera.ORGANS), truth, 0).astype(np.uint8)
    ignored = set(case["ignore"].split())
    for name, part, part_truth in parts(volume, truth):
        looked, whole = fine.segment(part), plain.segment(part)
        box = [slice(*ends) for ends in looked.provenance["grid"]["looked_at_zyx"]]
        body = [slice(*ends) for ends in whole.provenance["grid"]["looked_at_zyx"]]
        share = np.prod([b.stop - b.start for b in box]) / np.prod([b.stop - b.start for b in body])
        grid = Grid.fit(part.shape, part.affine, fine.bundle)
        inside = np.zeros(grid.source_shape, dtype=bool)
        inside[
            tuple(
                axis.source_part(b, before_mm=0, after_mm=0)
                for axis, b in zip(grid.axes, box, strict=True)
            )
        ] = True
        outside = np.asarray(grid.orientation.view(part_truth))[~inside]
        cut = np.bincount(outside, minlength=256) * part.affine.voxel_ml
        counts = [count_voxels(s.labels, part_truth) for s in (whole, looked)]
        for organ in viscera.ORGANS:
            ml = float((part_truth == organ.id).sum()) * part.affine.voxel_ml
            if ml >= LEAST_ML and organ.name not in ignored:
                before, after = (dice(c, organ.id) for c in counts)
                yield (
                    Organ(case["case"], name, organ.name, before, after, ml, float(cut[organ.id])),
                    share,
                )


def main() -> None:
    lines = ["# The first look", "", "`python benchmarks/look.py`", ""]
    for name in sys.argv[1:] or ("default",):
        bundle = read_bundle(name)
        fine = viscera.Predictor(bundle)
        plain = viscera.Predictor(replace(bundle, look=None))
        found, shares = [], {}
        for case in rows(sample=True):
            for organ, share in compared(case, fine, plain):
                found.append(organ)
                shares[organ.case, organ.part] = share
            print(case["case"], len(found), flush=True)
        lines += report(name, found, list(shares.values()))
    (ROOT / "benchmarks" / "results" / "look.md").write_text(
        "\n".join(lines) + "\n", encoding="utf-8"
    )


def report(name: str, found: list[Organ], shares: list[float]) -> list[str]:
    """What is written of one bundle."""
    change = np.array([o.with_look - o.without for o in found])
    worst = sorted(found, key=lambda o: o.with_look - o.without)
    cut = sorted((o for o in found if o.cut_ml > 0.005), key=lambda o: -o.cut_ml / o.ml)
    parts_table = [
        [
            part,
            f"{sum(o.part == part for o in found)}",
            f"{np.mean([100 * o.without for o in found if o.part == part]):.2f}",
            f"{np.mean([100 * o.with_look for o in found if o.part == part]):.2f}",
            f"{sum(o.cut_ml for o in found if o.part == part):.2f} of {sum(o.ml for o in found if o.part == part):.0f}",
        ]
        for part in ("whole", "upper half", "lower half", "middle")
    ]
    return [
        f"## `{name}`",
        "",
        f"The look leaves {100 * np.median(shares):.0f} % of the body's box (median; "
        f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %).",
        "",
        markdown_table(["part", "organs", "DSC without", "DSC with", "ml outside the box"], parts_table),
        "",
        f"Of {len(found)} organs {np.mean(change < -GRADE):.0%} lose more than {GRADE} DSC, "
        f"{np.mean(change > GRADE):.0%} gain as much; mean change {change.mean():+.4f}, median {np.median(change):+.4f}.",
        "",
        "Largest losses, and what of the organ lies outside the box:",
        "",
        markdown_table(
            ["case", "part", "organ", "without", "with", "ml", "outside"],
            [[o.case, o.part, o.organ, f"{o.without:.3f}", f"{o.with_look:.3f}", f"{o.ml:.1f}", f"{o.cut_ml:.2f}"] for o in worst[:15]],
        ),
        "",
        "Organs of which the box leaves something out:",
        "",
        markdown_table(
            ["case", "part", "organ", "ml", "outside", "without", "with"],
            [[o.case, o.part, o.organ, f"{o.ml:.1f}", f"{o.cut_ml:.2f}", f"{o.without:.3f}", f"{o.with_look:.3f}"] for o in cut[:25]],
        ),
        "",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
