"""How well the packaged networks do on patients they have not seen, and what they cost.

    python tools/train_default.py OUT
    python benchmarks/results.py OUT

Segments every case of ../shared with the network of the fold that held its patient back, scores it on
the scan's own grid, cuts chest and pelvis off to count false organs, times whole processes side by
side, and writes docs/results.md and docs/results_worst.png. What is scored already is not done again.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

import viscera
from viscera.affine import Affine
from viscera.bench import machine
from viscera.io import read_labels, read_volume, write_volume
from viscera.measure.process import run_measured
from viscera.report.examples import Example, cut_open, examples_png
from viscera.training.cases import TrainingCase, find_cases
from viscera.training.journal import read_journal
from viscera.training.run_folder import read_run
from viscera.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from list_shared_cases import SAMPLE  # noqa: E402
from train_default import ABLATIONS, FOLDS, TEACHER, slug  # noqa: E402

NETWORKS = ("default", "paper", "unet64")
REFERENCE = "reference"
MAIN = ("liver", "spleen", "kidney_right", "kidney_left", "aorta", "stomach")
# Labels that are not the reference network's own.
INDEPENDENT = (SAMPLE, "totalsegmentator_examples_example_dicom_20slices", "msd_spleen_spleen_8")
EXPERT_JOINT = "tcia_pancreatic_ct_cbct_CB_001_planning"
_AWAY_MM = 20.0  # from the nearest organ of the abdomen to a volume of chest or pelvis alone
_LONG = "tcia_acrin_flt_breast_001_abdomen"
# Seen in the chest as well, so that they are no mistake there.
THROUGH = ("aorta", "inferior_vena_cava", "esophagus")


class Judge:
    """Scores of every network on every case, remembered in a file."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.cases = {case.name: case for case in find_cases([out / "cases.csv"])[0]}
        self._file = out / "scores.json"
        self.scores = json.loads(self._file.read_text()) if self._file.exists() else {}

    def run(self, network: str) -> None:
        """Score one network on the cases that it has not seen."""
        for fold in range(FOLDS):
            bundle = TEACHER if network == REFERENCE else self.out / "bundles" / f"{network}-{fold}"
            if not (bundle / "bundle.toml").exists():
                continue
            predictor = viscera.Predictor(bundle)
            mark = predictor.made_by()
            for name in self.held(fold):
                key = f"{network}/{name}"
                if self.scores.get(key, {}).get("mark") == mark:
                    continue
                self.scores[key] = {
                    "mark": mark,
                    "fold": fold,
                    **self.score(predictor, self.cases[name]),
                }
                self._file.write_text(json.dumps(self.scores, indent=1))
                print(
                    key,
                    f"{np.mean([v['dsc'] for v in self.scores[key]['organs'].values()]):.3f}",
                    flush=True,
                )

    def held(self, fold: int) -> tuple[str, ...]:
        return read_run(self.out / "runs" / f"default-{fold}")[1].held

    def score(self, predictor: viscera.Predictor, case: TrainingCase) -> dict:
        found = predictor.segment(case.image)
        organs = {}
        for one in viscera.evaluate(found, case.labels).scores:
            if one.organ not in case.distrusted and (one.truth_ml or one.prediction_ml):
                organs[one.organ] = {
                    "dsc": one.dsc,
                    "nsd": one.nsd,
                    "ml": one.truth_ml,
                    "found_ml": one.prediction_ml,
                }
        result: dict = {"organs": organs, "false_ml": self.false_ml(predictor, case)}
        if case.name == EXPERT_JOINT:
            result["expert_joint_dsc"] = joint_dsc(found, case)
        return result

    def false_ml(self, predictor: viscera.Predictor, case: TrainingCase) -> dict[str, float]:
        """ml of organs found in volumes that hold none: above and below all of the abdomen's."""
        volume, truth = read_volume(case.image), read_labels(case.labels).values
        own = [o.id for o in viscera.ORGANS if o.name not in THROUGH]
        slices = np.flatnonzero(np.isin(truth, own).any(axis=(0, 1)))
        every = np.flatnonzero((truth > 0).any(axis=(0, 1)))
        away = math.ceil(_AWAY_MM / volume.affine.spacing_mm[2])
        up = volume.affine.axcodes[2] == "S"
        parts = {
            "below": (0, int(every[0]) - away),
            "above": (int(slices[-1]) + away, volume.shape[2]),
        }
        if not up:
            parts = {
                "above": (0, int(slices[0]) - away),
                "below": (int(every[-1]) + away, volume.shape[2]),
            }
        result = {}
        for where, (start, stop) in parts.items():
            if (stop - start) * volume.affine.spacing_mm[2] < 40:
                continue
            part = volume.cropped((slice(None), slice(None), slice(start, stop)))
            found = predictor.segment(part).volumes_ml()
            wrong = THROUGH if where == "above" else ()
            result["chest" if where == "above" else "pelvis"] = sum(
                ml for organ, ml in found.items() if organ not in wrong
            )
        return result


def joint_dsc(found: viscera.Segmentation, case: TrainingCase) -> float:
    """Stomach and duodenum together, beside an expert's contours, in the slices these cover."""
    expert = read_labels(case.labels.parent / "label_expert_partial.nii.gz").values
    readme = expert == JOINT_VALUE
    slices = np.flatnonzero(readme.any(axis=(0, 1)))
    part = slice(slices[0], slices[-1] + 1)
    own = (found.mask("stomach") | found.mask("duodenum"))[:, :, part]
    return float(2 * (own & readme[:, :, part]).sum() / (own.sum() + readme[:, :, part].sum()))


JOINT_VALUE = 1


def timings(judge: Judge, bundles: dict[str, Path]) -> list[str]:
    """Whole processes, one scan a start, all networks in turn; medians of three."""
    rows = [
        "| scan | " + " | ".join(f"{n}, s (MB)" for n in bundles) + " |",
        "|---|" + "---|" * len(bundles),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        long = Path(scratch) / "long.nii.gz"
        write_volume(long, lengthened(read_volume(judge.cases[_LONG].image)))
        scans = {
            "512x512x51": judge.cases["tcia_colorectal_liver_metastases_CRLM-CT-1006"].image,
            "512x512x133": judge.cases[SAMPLE].image,
            "512x512x300": long,
        }
        for title, scan in scans.items():
            seconds, peaks = defaultdict(list), defaultdict(list)
            for _ in range(3):
                for name, bundle in bundles.items():
                    run = run_measured(
                        [
                            sys.executable,
                            "-m",
                            "viscera",
                            "segment",
                            str(scan),
                            "-o",
                            f"{scratch}/x.nii.gz",
                            "--overwrite",
                            "-q",
                            "-b",
                            str(bundle),
                        ],
                        log=Path(scratch) / "log",
                    )
                    assert run.exit_code == 0, (Path(scratch) / "log").read_text()
                    seconds[name].append(run.seconds)
                    peaks[name].append(run.peak_mb or 0)
            cells = [f"{np.median(seconds[n]):.1f} ({np.median(peaks[n]):.0f})" for n in bundles]
            rows.append(f"| {title} | " + " | ".join(cells) + " |")
            print(rows[-1], flush=True)
    return rows


def lengthened(volume: Volume) -> Volume:
    """99 slices as 300 of a third of the distance, so that a patient stays as tall."""
    data = np.repeat(volume.data, 3, axis=2)
    data = np.concatenate([data, data[:, :, -3:]], axis=2)
    matrix = volume.affine.matrix.copy()
    matrix[:3, 2] /= 3
    return Volume(np.asfortranarray(data), Affine(matrix), "long")


def mean_of(
    scores: dict, network: str, organ: str, metric: str, cases: set[str] | None = None
) -> float:
    values = [
        v["organs"][organ][metric]
        for k, v in scores.items()
        if k.startswith(network + "/")
        and organ in v["organs"]
        and (cases is None or k.split("/")[1] in cases)
    ]
    return float(np.mean(values)) if values else float("nan")


def count_of(scores: dict, organ: str, cases: set[str] | None = None) -> int:
    return sum(
        organ in v["organs"]
        for k, v in scores.items()
        if k.startswith("default/") and (cases is None or k.split("/")[1] in cases)
    )


def percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def table(scores: dict, networks: list[str], cases: set[str] | None = None) -> list[str]:
    """DSC / NSD of each organ; the means are over organs."""
    rows = [
        "| organ | cases | " + " | ".join(networks) + " |",
        "|---|---|" + "---|" * len(networks),
    ]
    organs = [o.name for o in viscera.ORGANS if count_of(scores, o.name, cases)]
    for organ in organs:
        cells = [
            f"{percent(mean_of(scores, n, organ, 'dsc', cases))} / {percent(mean_of(scores, n, organ, 'nsd', cases))}"
            for n in networks
        ]
        rows.append(
            f"| {viscera.organs.BY_NAME[organ].title} | {count_of(scores, organ, cases)} | "
            + " | ".join(cells)
            + " |"
        )
    for title, some in (
        ("mean of liver, spleen, kidneys, aorta, stomach", [o for o in organs if o in MAIN]),
        ("mean", organs),
    ):
        cells = []
        for n in networks:
            both = [
                np.nanmean([mean_of(scores, n, o, m, cases) for o in some]) for m in ("dsc", "nsd")
            ]
            cells.append(f"{percent(both[0])} / {percent(both[1])}")
        rows.append(f"| {title} | | " + " | ".join(cells) + " |")
    return rows


def worst(judge: Judge) -> list[str]:
    """The organs that the default network missed most, and a picture of its two worst cases."""
    found = [
        (v["dsc"], k.split("/")[1], o, v["ml"], v["found_ml"])
        for k, case in judge.scores.items()
        if k.startswith("default/")
        for o, v in case["organs"].items()
    ]
    rows = ["| case | organ | DSC | labelled, ml | found, ml |", "|---|---|---|---|---|"]
    rows += [f"| {c} | {o} | {d:.2f} | {a:.1f} | {b:.1f} |" for d, c, o, a, b in sorted(found)[:12]]
    means = {
        k.split("/")[1]: float(np.mean([v["dsc"] for v in case["organs"].values()]))
        for k, case in judge.scores.items()
        if k.startswith("default/") and k.split("/")[1].startswith("tcia_")  # CC BY: may be shown
    }
    pictures = []
    for name in sorted(means, key=means.__getitem__)[:2]:
        fold = judge.scores[f"default/{name}"]["fold"]
        case = judge.cases[name]
        seen = viscera.Predictor(judge.out / "bundles" / f"default-{fold}").segment(case.image)
        pictures.append(
            cut_open(Example(name, seen.volume, read_labels(case.labels).values, seen.labels))
        )
    (ROOT / "docs" / "results_worst.png").write_bytes(examples_png(pictures, viscera.ORGANS))
    return rows


def ablations(out: Path) -> list[str]:
    """Means on the network's grid of fold 0, from the journals."""
    named = {"the recipe": "default-0"} | {name: slug(name) for name in ABLATIONS}
    rows = [
        "| change | mean DSC | liver | pancreas | adrenals | esophagus | duodenum |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, folder in named.items():
        run = out / "runs" / folder
        lines = [v for v in read_journal(run) if v["kind"] == "validation"] if run.exists() else []
        if not lines:
            continue
        dsc = lines[-1]["dsc"]
        adrenals = np.mean([dsc["adrenal_gland_right"], dsc["adrenal_gland_left"]])
        shown = [
            lines[-1]["mean_dsc"],
            dsc["liver"],
            dsc["pancreas"],
            adrenals,
            dsc["esophagus"],
            dsc["duodenum"],
        ]
        rows.append(f"| {name} | " + " | ".join(percent(v) for v in shown) + " |")
    return rows


def main() -> None:
    judge = Judge(Path(sys.argv[1]).resolve())
    for network in (*NETWORKS, REFERENCE):
        judge.run(network)
    scores = judge.scores
    known = [n for n in NETWORKS if any(k.startswith(n + "/") for k in scores)]
    independent = set(INDEPENDENT)
    false = {n: defaultdict(list) for n in (*known, REFERENCE)}
    for key, value in scores.items():
        for where, ml in value["false_ml"].items():
            false[key.split("/")[0]][where].append(ml)
    bundles = {
        "default": ROOT / "src/viscera/bundles/default",
        "paper": ROOT / "src/viscera/bundles/paper",
        "reference": TEACHER,
    }
    spent = timings(judge, bundles)
    m = machine()
    joint = {
        n: scores.get(f"{n}/{EXPERT_JOINT}", {}).get("expert_joint_dsc", float("nan"))
        for n in (*known, REFERENCE)
    }
    lines = [
        "# Results",
        "",
        "Made by `python tools/train_default.py OUT` and `python benchmarks/results.py OUT`; nothing here is",
        f"typed by hand. {len(judge.cases)} scans of {len({c.patient for c in judge.cases.values()})} patients, in {FOLDS} folds by patient: every scan is segmented by a",
        "network that was not fine-tuned on its patient, on the scan's own grid. An organ counts where the",
        "labels speak of it and either side has it. Percent, DSC / NSD (`standard` protocol, FLARE's",
        "tolerances).",
        "",
        "**Most labels are the reference network's own, and `default` begins with that network's weights**: the",
        "first table says how well the faster network agrees with the slower one on patients that its",
        "fine-tuning has not seen, not how well either agrees with experts. The second table does, on few",
        "scans. Two scans of the Medical Segmentation Decathlon may have been among the reference network's",
        "training data.",
        "",
        "## All patients, once each",
        "",
        *table(scores, known),
        "",
        "## Labels that are not the reference network's",
        "",
        "TotalSegmentator's (two scans) and an expert's spleen; `reference` at its own overlap of 0.5.",
        "",
        *table(scores, [*known, REFERENCE], independent),
        "",
        "Stomach and duodenum together beside an expert's contours, one scan, DSC: "
        + ", ".join(f"{n} {percent(v)}" for n, v in joint.items())
        + ".",
        "",
        "## Where there is nothing to find",
        "",
        f"Volumes cut {_AWAY_MM:g} mm above the highest organ of the abdomen (chest; aorta, vena cava and",
        f"esophagus run through it and do not count) and {_AWAY_MM:g} mm below the lowest organ (pelvis): ml of organs found.",
        "",
        "| network | chests | ml, each | pelves | ml, each |",
        "|---|---|---|---|---|",
    ]
    for name, where in false.items():
        cells = [
            f"{len(where[w])} | {', '.join(f'{ml:.1f}' for ml in sorted(where[w]))}"
            for w in ("chest", "pelvis")
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Seconds and memory",
        "",
        f"Whole processes from .nii.gz to .nii.gz, one scan a start, in turn, medians of three; {m.get('cpu', '')}, {m.get('cpus', '')} CPUs.",
        "",
        *spent,
        "",
        "## Where `default` fails",
        "",
        *worst(judge),
        "",
        "Its two worst scans by mean DSC (TCIA, CC BY), labels and what was found: ![worst](results_worst.png)",
        "",
        "## One change at a time",
        "",
        "Fold 0, six scans of six patients, DSC on the network's grid in percent. One fold, one seed: a point",
        "more or less is chance.",
        "",
        *ablations(judge.out),
        "",
        "The trainings of `paper` and `unet64` behind the tables are short (5 epochs; 40 steps): there was one CPU",
        "for all of them. The packaged `paper` was trained for 100 epochs, see",
        "[the paper's protocol](../benchmarks/results/paper.md).",
    ]
    (ROOT / "docs" / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
