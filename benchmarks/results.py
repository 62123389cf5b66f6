"""How well the packaged networks do on patients they have not seen, and what they cost.

    python tools/train_default.py OUT
    python benchmarks/results.py OUT

Scores every case (see `judge.py`; what is scored already is not done again), times whole processes
side by side, and writes docs/results.md and docs/results_worst.png.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import viscera  # noqa: E402
from judge import AWAY_MM, EXPERT_JOINT, INDEPENDENT, REFERENCE, Judge  # noqa: E402
from list_shared_cases import DATA, SAMPLE  # noqa: E402
from train_default import ABLATIONS, FOLDS, TEACHER, slug  # noqa: E402
from viscera.bench.process import run_and_measure  # noqa: E402
from viscera.bench.run import machine_description  # noqa: E402
from viscera.core.affine import Affine  # noqa: E402
from viscera.core.organs import ORGANS_BY_NAME  # noqa: E402
from viscera.core.volume import Volume  # noqa: E402
from viscera.io.read import read_labels, read_volume  # noqa: E402
from viscera.io.write import write_volume  # noqa: E402
from viscera.report.pictures.examples import ExampleCase, example_row, examples_png  # noqa: E402
from viscera.training.journal import read_journal  # noqa: E402
from viscera.training.run_folder import read_run  # noqa: E402

MAIN = ("liver", "spleen", "kidney_right", "kidney_left", "aorta", "stomach")
_TALL = "tcia_acrin_flt_breast_001_abdomen"
_TIMED = ("tcia_colorectal_liver_metastases_CRLM-CT-1006", SAMPLE)
_FALSE_ML = 1.0  # more than this of an organ that the labels do not have counts as a false find
Scores = dict[str, dict[str, dict]]


def percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def table(scores: Scores, networks: list[str], cases: list[str]) -> list[str]:
    """DSC / NSD of each organ over the cases whose labels have it, the same for all networks."""
    rows = [
        "| organ | scans | " + " | ".join(networks) + " |",
        "|---|---|" + "---|" * len(networks),
    ]
    means: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for organ in viscera.ORGANS:
        has = [c for c in cases if scores["default"][c]["organs"].get(organ.name, {}).get("ml", 0)]
        if not has:
            continue
        cells = []
        for network in networks:
            own = [scores[network][case]["organs"][organ.name] for case in has]
            pair = tuple(float(np.mean([v[metric] for v in own])) for metric in ("dsc", "nsd"))
            means[network][organ.name] = pair
            cells.append(f"{percent(pair[0])} / {percent(pair[1])}")
        rows.append(f"| {organ.title} | {len(has)} | " + " | ".join(cells) + " |")
    for title, some in (("mean of liver, spleen, kidneys, aorta, stomach", MAIN), ("mean", None)):
        cells = []
        for network in networks:
            pairs = [v for organ, v in means[network].items() if some is None or organ in some]
            cells.append(" / ".join(percent(float(np.mean([p[n] for p in pairs]))) for n in (0, 1)))
        rows.append(f"| {title} | | " + " | ".join(cells) + " |")
    cells = []
    for network in networks:
        false = [
            v["found_ml"]
            for case in cases
            for v in scores[network][case]["organs"].values()
            if not v["ml"] and v["found_ml"] > _FALSE_ML
        ]
        cells.append(f"{len(false)} ({sum(false):.0f} ml)")
    rows.append(
        f"| organs found that the labels lack, over {_FALSE_ML:g} ml | | {' | '.join(cells)} |"
    )
    return rows


def nothing_to_find(scores: Scores) -> list[str]:
    """ml of false organs in chests and pelves alone."""
    rows = ["| network | chests: ml, each | pelves: ml, each |", "|---|---|---|"]
    for network in scores:
        if network == REFERENCE:  # its own labels define what is nothing
            continue
        cells = []
        for where in ("chest", "pelvis"):
            found = [
                v["false_ml"][where] for v in scores[network].values() if where in v["false_ml"]
            ]
            cells.append(", ".join(f"{ml:.1f}" for ml in sorted(found)))
        rows.append(f"| {network} | {' | '.join(cells)} |")
    return rows


def timings(judge: Judge) -> list[str]:
    """Whole processes, one scan a start, all networks in turn; medians of three."""
    bundles = {"default": "default", "paper": "paper", REFERENCE: str(TEACHER)}
    rows = ["| scan | " + " | ".join(f"{n}, s (MB)" for n in bundles) + " |"]
    rows.append("|---|" + "---|" * len(bundles))
    with tempfile.TemporaryDirectory() as scratch:
        tall = Path(scratch) / "tall.nii.gz"
        write_volume(tall, thinner(read_volume(judge.cases[_TALL].image)))
        for scan in (*(judge.cases[name].image for name in _TIMED), tall):
            runs = defaultdict(list)
            for _ in range(3):
                for name, bundle in bundles.items():
                    words = ["segment", str(scan), "-o", f"{scratch}/x.nii.gz", "-b", bundle]
                    log = Path(scratch) / "log"
                    run = run_and_measure(
                        [sys.executable, "-m", "viscera", *words, "--overwrite", "-q"], log=log
                    )
                    assert run.exit_code == 0, log.read_text()
                    runs[name].append((run.seconds, run.peak_mb or 0))
            cells = ["{:.1f} ({:.0f})".format(*np.median(runs[n], axis=0)) for n in bundles]
            shape = "x".join(map(str, read_volume(scan).shape))
            rows.append(f"| {shape} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
    return rows


def thinner(volume: Volume) -> Volume:
    """A 99-slice scan as 300 slices of a third of the distance: every slice three times."""
    data = np.repeat(volume.data, 3, axis=2)
    data = np.concatenate([data, data[:, :, -3:]], axis=2)
    matrix = volume.affine.matrix.copy()
    matrix[:3, 2] /= 3
    return Volume(np.asfortranarray(data), Affine(matrix), "tall")


def worst(judge: Judge) -> list[str]:
    """The organs that `default` missed most, and a picture of its two worst scans."""
    scores = judge.scores["default"]
    found = [
        (v["dsc"], case, organ, v["ml"], v["found_ml"])
        for case, of in scores.items()
        for organ, v in of["organs"].items()
        if v["ml"]
    ]
    rows = ["| scan | organ | DSC | labelled, ml | found, ml |", "|---|---|---|---|---|"]
    rows += [
        f"| {case} | {ORGANS_BY_NAME[organ].title} | {dsc:.2f} | {ml:.1f} | {found_ml:.1f} |"
        for dsc, case, organ, ml, found_ml in sorted(found)[:12]
    ]
    licences = {
        f"{entry['source']}_{entry['case']}": entry.get("licence", "")
        for entry in json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))
    }
    means = {
        case: np.mean([v["dsc"] for v in of["organs"].values() if v["ml"]])
        for case, of in scores.items()
        if licences.get(case, "").startswith("CC BY ")
        and any(v["ml"] for v in of["organs"].values())
    }
    pictures = []
    for name in sorted(means, key=means.__getitem__)[:2]:  # only what may be shown
        case = judge.cases[name]
        bundle = judge.out / "bundles" / f"default-{scores[name]['fold']}"
        seen = viscera.Predictor(bundle).segment(case.image)
        truth = read_labels(case.labels).values
        pictures.append(example_row(ExampleCase(name, seen.volume, truth, seen.labels)))
    (ROOT / "docs" / "results_worst.png").write_bytes(examples_png(pictures, viscera.ORGANS))
    shown = " and ".join(
        f"{name} ({licences[name]})" for name in sorted(means, key=means.__getitem__)[:2]
    )
    return [*rows, "", f"Of the scans that may be shown, its two worst by mean DSC, {shown}, one slice each:", "",
            "![The two worst scans: image, labels, what was found](results_worst.png)"]  # fmt: skip


def ablations(out: Path) -> list[str]:
    """Means on the network's grid of fold 0, from the journals."""
    named = {"the recipe": "default-0", "published weights, not fine-tuned": "untuned"}
    named |= {name: slug(name) for name in ABLATIONS}
    organs = (
        "liver",
        "pancreas",
        "adrenal_gland_right",
        "adrenal_gland_left",
        "esophagus",
        "duodenum",
    )
    rows = [
        "| change | steps | mean DSC | "
        + " | ".join(ORGANS_BY_NAME[o].title for o in organs)
        + " |"
    ]
    rows.append("|---|---|---|" + "---|" * len(organs))
    for name, folder in named.items():
        lines = [v for v in read_journal(out / "runs" / folder) if v["kind"] == "validation"]
        if lines:
            shown = [lines[-1]["mean_dsc"], *(lines[-1]["dsc"].get(o, math.nan) for o in organs)]
            cells = " | ".join(percent(v) for v in shown)
            rows.append(f"| {name} | {lines[-1]['step']} | {cells} |")
        else:
            rows.append(f"| {name} | not run | |" + " |" * len(organs))
    return rows


def trained(out: Path, network: str) -> str:
    """How long the folds of a network were trained, for its column."""
    recipe, _ = read_run(out / "runs" / f"{network}-0")
    how = recipe.optimisation
    steps = how.epochs * how.steps_per_epoch if how.steps_per_epoch else None
    return (
        f"`{network}`: {f'{steps} steps' if steps else f'{how.epochs} epochs'} of batch {how.batch}"
    )


def main() -> None:
    judge = Judge(Path(sys.argv[1]).resolve())
    known = [n for n in ("default", "untuned", "paper", "unet64") if judge.run(n)]
    judge.run(REFERENCE)
    scores, cases = judge.scores, list(judge.cases)
    patients = {case.patient for case in judge.cases.values()}
    others = [case for case in cases if case in INDEPENDENT]
    joint = {n: scores[n][EXPERT_JOINT]["expert_joint_dsc"] for n in (*known, REFERENCE)}
    scratch = [trained(judge.out, n) for n in known if n not in ("default", "untuned")]
    spent, m = timings(judge), machine_description()
    lines = [
        "# Results",
        "",
        "Made by `python tools/train_default.py OUT` and `python benchmarks/results.py OUT`.",
        f"{len(cases)} scans of {len(patients)} patients, {FOLDS} folds by patient: each is segmented by a network that was not tuned",
        "on its patient, on the scan's own grid. Means over the scans whose labels have the organ, in",
        "percent, DSC / NSD by the protocol `standard`.",
        "",
        "What to know before reading:",
        "",
        "- Most labels are the reference network's own (dw_nnunet.flare25), and `default` begins with that",
        "  network's weights. The first table says how well the fast network agrees with the slow one, not how",
        "  well either agrees with experts; the second does, on few scans. Whom the reference network has seen is",
        "  not known to us; scans of the Medical Segmentation Decathlon may well be among them.",
        "- `untuned` is the reference network's weights on `default`'s grid, crop and overlap.",
        f"- Trained from nothing, briefly, on one CPU for all of this: {'; '.join(scratch)}.",
        "  What more training gives is in [the paper's protocol](../benchmarks/results/paper.md), with a U-Net",
        "  of one epoch beside it.",
        "- The recipe's learning rate and steps were chosen on fold 0, whose scans count here too.",
        "",
        "## Every scan once",
        "",
        *table(scores, known, cases),
        "",
        "## Labels that are not the reference network's",
        "",
        "TotalSegmentator's, and an expert's spleen: "
        + ", ".join(f"`{case}`" for case in others)
        + ". `reference`",
        "runs at its own overlap.",
        "",
        *table(scores, [*known, REFERENCE], others),
        "",
        "Stomach and duodenum together beside an expert's contours, one scan, DSC in percent: "
        + ", ".join(f"{n} {percent(v)}" for n, v in joint.items())
        + ".",
        "",
        "## Where there is nothing to find",
        "",
        f"ml of organs found in scans cut {AWAY_MM:g} mm above the highest labelled organ of the abdomen (chest, where aorta,",
        f"vena cava and esophagus do not count) or {AWAY_MM:g} mm below the lowest (pelvis). What is nothing is what the",
        "labels say.",
        "",
        *nothing_to_find(scores),
        "",
        "## Seconds and memory",
        "",
        "Whole processes, .nii.gz to .nii.gz, one scan a start, in turn, medians of three. The last scan is one",
        f"of 99 slices with each slice three times. {m['system']}, {m['cpus']} CPUs, Python {m['python']}.",
        "",
        *spent,
        "",
        "## Where `default` fails",
        "",
        *worst(judge),
        "",
        "## One change at a time",
        "",
        "Fold 0, DSC on the network's grid in percent, at the end of training. One fold, one seed: a point more",
        "or less is chance.",
        "",
        *ablations(judge.out),
    ]
    (ROOT / "docs" / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
