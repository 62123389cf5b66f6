"""The paper's tables on real CTs: `viscera bench`, then `viscera evaluate`, as a user would call them.

    python benchmarks/cohort.py [FOLDER]

Needs ../shared. Measures `viscera segment` and the plain implementation with the published network
at overlap 0.25 on scans of 35 to 133 slices; scores both, where all organs are labelled, against the
labels beside the CTs (made by the same network at overlap 0.5: agreement with it, no accuracy), and
compares the two runs. Writes
benchmarks/results/cohort.md; everything else, pictures included, goes to FOLDER, which is a
temporary one where none is named. A second call with the same FOLDER goes on where the first
stopped.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
BUNDLE = ROOT / "examples" / "bundles" / "flare25_dw"
CASES = (
    "tcia_cptac_pda/C3L-00189",
    "tcia_colorectal_liver_metastases/CRLM-CT-1004",
    "tcia_colorectal_liver_metastases/CRLM-CT-1006",
    "msd_lits_liver/liver_0",
    "tcia_pancreatic_ct_cbct/CB_001_planning",
    "tcia_acrin_flt_breast/001_abdomen",
    "tcia_4d_lung/113_HM10395_p40",
    "tcia_lidc_idri/0001",
)
OVERLAP = "--overlap 0.25"


def viscera(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "viscera", *map(str, words), "-q"], check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary).resolve()
        scans = folder / "scans"
        scans.mkdir(parents=True, exist_ok=True)
        manifest = json.loads((DATA / "manifest.json").read_text())
        contrast = {one["case"]: one.get("contrast", "") for one in manifest}
        # An organ that is there and not labelled would count as a failure.
        partly = {one["case"] for one in manifest if one.get("not_labelled")}
        names = [case.split("/")[1] for case in CASES]
        for case, name in zip(CASES, names, strict=True):
            link = scans / f"{name}_0000.nii.gz"
            link.unlink(missing_ok=True)
            link.symlink_to(DATA / case / "ct.nii.gz")
        with (folder / "groups.csv").open("w", newline="") as file:
            rows = (
                (name, (contrast[name].replace(",", " ").split() or ["unstated"])[0])
                for name in names
            )
            csv.writer(file).writerows([("case", "contrast"), *rows])
        plain = f"{sys.executable} {ROOT / 'benchmarks/plain_segment.py'} {BUNDLE} "
        plain += f"{{input}} {{output}} {OVERLAP}"
        viscera("bench", scans, "-o", folder / "bench", "-b", BUNDLE, "--options", OVERLAP,
                "--command", plain, "--name", "plain")  # fmt: skip
        seconds = folder / "seconds.csv"
        with (folder / "bench" / "runs.csv").open(newline="") as file, seconds.open("w") as out:
            own = [row for row in csv.DictReader(file) if row["command"] == "viscera"]
            out.write("case,seconds\n" + "".join(f"{r['case']},{r['seconds']}\n" for r in own))
        for who in ("plain", "viscera"):
            pairs = folder / f"{who}.csv"
            with pairs.open("w", newline="") as file:
                labels = folder / "bench" / "outputs" / who
                csv.writer(file).writerows(
                    [("case", "prediction", "truth", "image")]
                    + [
                        (
                            name,
                            labels / f"{name}.nii.gz",
                            DATA / case / "label.nii.gz",
                            DATA / case / "ct.nii.gz",
                        )
                        for case, name in zip(CASES, names, strict=True)
                        if name not in partly
                    ]
                )
            more = ["--against", folder / "plain"] if who == "viscera" else []
            viscera("evaluate", "--pairs", pairs, "-o", folder / who, "--groups",
                    folder / "groups.csv", "--times", seconds, *more)  # fmt: skip
        parts = [
            "# Real CTs: the paper's tables\n\nMade by `python benchmarks/cohort.py`. Published 3-D "
            "network at overlap 0.25; the labels to compare with are the same network's at 0.5: "
            "agreement, no accuracy.\n",
            (folder / "bench" / "table.md").read_text().replace("# ", "## "),
            (folder / "viscera" / "table.md").read_text().replace("# ", "## "),
        ]
        (ROOT / "benchmarks" / "results" / "cohort.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
