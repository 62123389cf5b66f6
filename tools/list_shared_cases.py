"""Write the list of training cases that lie in ../shared/data, from its manifest.

    python tools/list_shared_cases.py cases.csv
    viscera train configs/paper.toml cases.csv -o runs/paper

What the manifest calls poor or not labelled is to be ignored; cases without a CT are left out.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_NAMES = {"IVC": "inferior_vena_cava"}


def rows(data: Path = DATA) -> list[dict[str, str]]:
    """One row a case with a CT."""
    listed = []
    for entry in json.loads((data / "manifest.json").read_text(encoding="utf-8")):
        folder = data / entry["source"] / entry["case"]
        if not (folder / "ct.nii.gz").is_file():
            continue
        ignored = {*entry.get("poor_organs", []), *entry.get("not_labelled", [])}
        case = f"{entry['source']}_{entry['case']}".replace("/", "_")
        listed.append(
            {
                "case": case,
                "image": str(folder / "ct.nii.gz"),
                "labels": str(folder / "label.nii.gz"),
                # Two pieces of one scan are one patient.
                "patient": case.replace("_supine_upper", "").replace("_supine_lower", ""),
                "ignore": " ".join(sorted(_organ(name) for name in ignored)),
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
