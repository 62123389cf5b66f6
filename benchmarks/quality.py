"""Fit the estimate of quality to labels drawn by hand, and say how well it does.

    python benchmarks/quality.py OUT

Segments the twelve patients of BTCV with networks that have not seen them, as they are and spoiled
(`spoil_scans.py`), remembers every organ's measures and DSC in OUT/quality.json, fits the models of
`viscera.quality.estimate`, and writes src/viscera/quality/calibration.toml, docs/quality-results.md
and docs/quality.png. All figures are of patients that were left out of the fit.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import viscera  # noqa: E402
from judge import fold_bundle, fold_of  # noqa: E402
from list_shared_cases import MANUAL, rows  # noqa: E402
from spoil_scans import SPOILS  # noqa: E402
from viscera.bundle.toml_schema import dump_toml  # noqa: E402
from viscera.core.organ_quality import OrganQuality  # noqa: E402
from viscera.core.organs import ORGANS  # noqa: E402
from viscera.core.volume import Labels  # noqa: E402
from viscera.io.read import read_labels, read_volume  # noqa: E402
from viscera.quality.estimate import Calibration, absent_inputs, found_inputs, logit  # noqa: E402
from viscera.quality.features import OrganFeatures  # noqa: E402
from viscera.quality.verdict import judge_organs  # noqa: E402
from viscera.report.charts.canvas import DIM, GRID, INK, PAPER, SHARPER, ChartCanvas  # noqa: E402
from viscera.training.data.cases import TrainingCase, find_cases  # noqa: E402

CALIBRATION = ROOT / "src/viscera/quality/calibration.toml"
PLAIN = "as it is"
UNSEEN_BY_ALL = ("img0027", "img0033", "img0039")
# They run on beyond the raters' last slice, so that they are judged between these (flare.md).
LONG = ("aorta", "inferior_vena_cava", "esophagus")
HARD = ("adrenal_gland_right", "adrenal_gland_left", "duodenum")  # seldom above DSC .7
SLIVER_ML = 0.5  # less of an organ is no organ, and not judged


def manual_cases(out: Path) -> list[tuple[int, TrainingCase]]:
    """The patients drawn by hand, each with the fold that holds it back."""
    table = out / "quality_cases.csv"
    listed = rows()
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)
    cases = list(find_cases([table])[0])
    folds = fold_of(cases)
    by_hand = [(folds[case.name], case) for case in cases if case.name.startswith(MANUAL)]
    return sorted(by_hand, key=lambda item: (item[0], item[1].name))


def dsc_of(organ: viscera.Organ, prediction: Labels, truth: Labels, long_axis: int) -> float | None:
    """DSC with the truth; None where the scan holds a sliver of the organ only."""
    a, b = prediction == organ.id, truth == organ.id
    if organ.name in LONG and b.any():
        other = tuple(axis for axis in range(3) if axis != long_axis)
        filled = np.flatnonzero(b.any(axis=other))
        part = [slice(None)] * 3
        part[long_axis] = slice(int(filled[0]), int(filled[-1]) + 1)
        a, b = a[tuple(part)], b[tuple(part)]
    total = int(a.sum()) + int(b.sum())
    return 1.0 if not total else 2 * int((a & b).sum()) / total


def collect(out: Path) -> list[dict]:
    """Measures and DSC of every organ of every case; what is done already is not done again."""
    file = out / "quality.json"
    done: dict[str, list[dict]] = json.loads(file.read_text()) if file.exists() else {}
    cases = manual_cases(out)
    current: tuple[str, viscera.Predictor] | None = None
    for name in ("default", "fast", "paper"):
        for fold, case in cases:
            if name == "paper" and not case.name.endswith(UNSEEN_BY_ALL):
                continue
            bundle = "paper" if name == "paper" else fold_bundle(name, fold, out)
            if current is None or current[0] != str(bundle):
                current = str(bundle), viscera.Predictor(bundle)
            volume = read_volume(case.image).read()
            truth = read_labels(case.labels.with_name("label.nii.gz")).values
            for spoil, function in SPOILS.items():
                key = f"{name} {case.name} {spoil}"
                if key in done:
                    continue
                random = np.random.default_rng(zlib.crc32(key.encode()))
                spoiled, labels = function(volume, truth, random)
                done[key] = judged(current[1], case, name, spoil, spoiled, labels)
                file.write_text(json.dumps(done))
            print(name, case.name, flush=True)
    return [row for of_case in done.values() for row in of_case]


def judged(
    predictor: viscera.Predictor,
    case: TrainingCase,
    bundle: str,
    spoil: str,
    volume: viscera.Volume,
    truth: Labels,
) -> list[dict]:
    """One row an organ: measures and DSC."""
    segmentation = predictor.segment(volume)
    long_axis = 1 if spoil == "two axes exchanged" else 2
    table = []
    for organ in ORGANS:
        truth_ml = float((truth == organ.id).sum() * volume.affine.voxel_ml)
        if organ.name in case.excluded_organs or 0 < truth_ml < SLIVER_ML:
            continue
        table.append(
            {
                "patient": case.patient,
                "bundle": bundle,
                "network": predictor.bundle.name,
                "spoil": spoil,
                "organ": organ.name,
                "dsc": dsc_of(organ, segmentation.labels, truth, long_axis),
                "truth_ml": truth_ml,
                "doubts": sorted({f.code for f in segmentation.findings}),
                "measures": dict(segmentation.quality[organ.name].measures),
            }
        )
    return table


Rows = list[dict]
LAMBDA = 20.0  # of the ridge; a tenth or ten times as much changes the figures by a hundredth
PLAIN_WEIGHT = 6.0  # of a scan as it is, beside each spoiled one
BAD_DSC = 0.7
EDGES = (0.0, 0.3, 0.5, 0.65, 0.75, 0.82, 0.88, 0.93)
SENSITIVITY = 0.89  # that the threshold is chosen for, on other patients than those judged
INTERVAL = (0.08, 0.92)  # four fifths and a little, as patients differ more than these twelve
FALSE_FAILURES = 0.01  # share of good organs that may be called failed


def features_of(row: dict) -> OrganFeatures:
    """The features of a row."""
    return OrganFeatures(organ=row["organ"], **row["measures"])


def fit(table: Rows, *, found: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Weights and constants of one of the two models, by ridge regression of logit(DSC)."""
    # Of a mirrored scan a rule takes care.
    chosen = [
        row
        for row in table
        if (row["measures"]["volume_ml"] > 0) == found and "mirrored" not in row["doubts"]
    ]
    inputs_of = found_inputs if found else absent_inputs
    inputs = [inputs_of(features_of(row)) for row in chosen]
    names = list(inputs[0])
    values = np.array([[one[name] for name in names] for one in inputs])
    target = np.array([logit(row["dsc"]) for row in chosen])
    weight = np.array([PLAIN_WEIGHT if row["spoil"] == PLAIN else 1.0 for row in chosen])
    centre = np.average(values, axis=0, weights=weight)
    scale = np.sqrt(np.average((values - centre) ** 2, axis=0, weights=weight)) + 1e-6
    organs = [organ.name for organ in ORGANS]
    one_hot = np.array([[row["organ"] == organ for organ in organs] for row in chosen], float)
    design = np.hstack([(values - centre) / scale, one_hot, np.ones((len(chosen), 1))])
    penalty = np.eye(design.shape[1]) * LAMBDA
    penalty[-1, -1] = 0
    left = design.T @ (design * weight[:, None]) + penalty
    solution = np.linalg.solve(left, design.T @ (target * weight))
    weights = solution[: len(names)] / scale
    base = solution[-1] - centre @ weights
    constants = solution[len(names) : -1] + base
    return (
        {name: round(float(w), 4) for name, w in zip(names, weights, strict=True)},
        {name: round(float(c), 3) for name, c in zip(organs, constants, strict=True)},
    )


def calibration_of(table: Rows) -> Calibration:
    """Both models of these rows; intervals and thresholds are still open."""
    found_weights, found_constants = fit(table, found=True)
    absent_weights, absent_constants = fit(table, found=False)
    networks = tuple(sorted({row["network"] for row in table}))
    return Calibration(
        found_weights, found_constants, absent_weights, absent_constants,
        (0.0,), (0.0,), (0.0,), 0.7, 0.3, networks,
    )  # fmt: skip


def left_out_estimates(table: Rows) -> np.ndarray:
    """The estimate of every row by models that have not seen its patient."""
    result = np.zeros(len(table))
    for patient in sorted({row["patient"] for row in table}):
        model = calibration_of([row for row in table if row["patient"] != patient])
        for n, row in enumerate(table):
            if row["patient"] == patient:
                result[n] = model.estimate(features_of(row))
    return result


def finished(model: Calibration, table: Rows, estimates: np.ndarray) -> Calibration:
    """The same with intervals and thresholds, from estimates of patients left out."""
    truth = np.array([row["dsc"] for row in table])
    found = np.array([row["measures"]["volume_ml"] > 0 for row in table])
    fitted = found & np.array(["mirrored" not in row["doubts"] for row in table])
    low, high = [], []
    for start, stop in zip(EDGES, (*EDGES[1:], 1.01), strict=True):
        errors = (truth - estimates)[fitted & (estimates >= start) & (estimates < stop)]
        ends = np.quantile(errors, INTERVAL) if errors.size >= 10 else (-0.3, 0.3)
        low.append(round(float(ends[0]), 3))
        high.append(round(float(ends[1]), 3))
    plain = np.array(["mirrored" not in row["doubts"] for row in table])
    bad = (truth < BAD_DSC) & plain
    check_below = float(np.quantile(estimates[bad], SENSITIVITY))
    fail_below = float(np.quantile(estimates[(truth >= BAD_DSC) & found], FALSE_FAILURES))
    return replace(
        model,
        estimates=EDGES,
        low=tuple(low),
        high=tuple(high),
        check_below=round(check_below, 3),
        fail_below=round(min(fail_below, check_below), 3),
    )


def left_out_verdicts(table: Rows) -> list[OrganQuality]:
    """The verdict on every row, with models and thresholds from other patients only."""
    patients = np.array([row["patient"] for row in table])
    result: list[OrganQuality] = [None] * len(table)  # type: ignore[list-item]
    for patient in sorted(set(patients.tolist())):
        others = [row for row in table if row["patient"] != patient]
        model = finished(calibration_of(others), others, left_out_estimates(others))
        for n in np.flatnonzero(patients == patient):
            features = features_of(table[n])
            result[n] = judge_organs(
                {features.organ: features},
                network=table[n]["network"],
                doubts=table[n]["doubts"],
                calibration=model,
            )[features.organ]
    return result


def auc(bad: np.ndarray, estimates: np.ndarray) -> float:
    """Area under the ROC curve of finding what is bad by a low estimate."""
    if bad.all() or not bad.any():
        return float("nan")
    order = np.argsort(np.concatenate([estimates[bad], estimates[~bad]]), kind="stable")
    ranks = np.empty(len(order))
    values = np.concatenate([estimates[bad], estimates[~bad]])[order]
    start = 0
    for stop in [*(np.flatnonzero(np.diff(values)) + 1), len(values)]:  # ties share their rank
        ranks[order[start:stop]] = (start + stop + 1) / 2
        start = stop
    n_bad = int(bad.sum())
    wins = n_bad * (~bad).sum() + n_bad * (n_bad + 1) / 2 - ranks[:n_bad].sum()
    return float(wins / (n_bad * (~bad).sum()))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation; ties get their ranks in order, which hardly matters here."""
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


@dataclass(frozen=True)
class Figures:
    """How well estimates and verdicts do on some rows."""

    organs: int
    bad: int
    mean_dsc: float
    mean_estimate: float
    error: float
    rank: float
    auc: float
    sensitivity: float
    false_alarms: float
    within: float

    @classmethod
    def of(cls, table: Rows, estimates: np.ndarray, verdicts: Sequence[OrganQuality]) -> Figures:
        """Of these rows."""
        truth = np.array([row["dsc"] for row in table])
        bad = truth < BAD_DSC
        nan = float("nan")
        flagged = np.array([quality.verdict != "good" for quality in verdicts])
        found = np.array([quality.interval is not None for quality in verdicts])
        intervals = np.array([quality.interval or (nan, nan) for quality in verdicts])
        return cls(
            len(table),
            int(bad.sum()),
            float(truth.mean()),
            float(estimates.mean()),
            float(np.abs(truth - estimates).mean()),
            spearman(truth, estimates),
            auc(bad, estimates),
            float(flagged[bad].mean()) if bad.any() else nan,
            float(flagged[~bad].mean()) if not bad.all() else nan,
            float(((truth >= intervals[:, 0]) & (truth <= intervals[:, 1]))[found].mean())
            if found.any()
            else nan,
        )

    @staticmethod
    def head(first: str) -> list[str]:
        """The head of a table of such rows."""
        return [
            f"| {first} | organs | DSC < .7 | mean DSC | estimated | mean error | Spearman | AUC "
            "| bad ones flagged | good ones flagged | within the interval |",
            "|---|" + "---|" * 10,
        ]

    def line(self, name: str) -> str:
        """One row of the table."""
        cells = [str(self.organs), str(self.bad)]
        cells += [f"{v:.3f}" for v in (self.mean_dsc, self.mean_estimate, self.error)]
        cells += ["-" if math.isnan(v) else f"{v:.2f}" for v in (self.rank, self.auc)]
        shares = (self.sensitivity, self.false_alarms, self.within)
        cells += ["-" if math.isnan(v) else f"{100 * v:.0f} %" for v in shares]
        return f"| {name} | {' | '.join(cells)} |"


def report(table: Rows, estimates: np.ndarray, verdicts: list[OrganQuality]) -> str:
    """The page of figures."""

    def of(chosen: Callable[[dict], bool]) -> Figures:
        at = [n for n, row in enumerate(table) if chosen(row)]
        return Figures.of([table[n] for n in at], estimates[at], [verdicts[n] for n in at])

    everything = of(lambda _: True)
    spoiled = of(lambda row: row["spoil"] != PLAIN)
    lines = [
        "# How well quality is estimated",
        "",
        "Made by `python benchmarks/quality.py OUT`; [quality](quality.md) says what it is.",
        "Twelve patients of BTCV, labels drawn by hand, segmented by networks that have not seen",
        "them (`paper`: the three that it has not seen), as they are and spoiled on purpose. Models",
        "and thresholds that judge a patient were made without that patient; the learnt ranges of",
        "organs know all. An organ that was not found has DSC 1 where the labels show none, else 0;",
        f"less than {SLIVER_ML:g} ml of an organ is not judged. Flagged: the verdict is `check` or",
        "`fail`.",
        "",
        "![Estimated and true DSC](quality.png)",
        "",
        *Figures.head("scans"),
        everything.line("all"),
        of(lambda row: row["spoil"] == PLAIN).line("as they are"),
        of(lambda row: row["spoil"] == PLAIN and row["organ"] not in HARD).line(
            "as they are, without adrenals and duodenum"
        ),
        spoiled.line("spoiled"),
        of(lambda row: row["measures"]["volume_ml"] > 0).line("all, organs that were found"),
        of(lambda row: not row["measures"]["volume_ml"]).line("all, organs that were not found"),
        *(
            of(lambda row, b=bundle: row["bundle"] == b).line(f"`{bundle}`, all")  # type: ignore[misc]
            for bundle in dict.fromkeys(row["bundle"] for row in table)
        ),
        "",
        "## By what was done to the scan",
        "",
        *Figures.head("scan"),
        *(of(lambda row, s=spoil: row["spoil"] == s).line(spoil) for spoil in SPOILS),  # type: ignore[misc]
        "",
        "## By organ",
        "",
        *Figures.head("organ"),
        *(of(lambda row, o=o: row["organ"] == o.name).line(o.title) for o in ORGANS),  # type: ignore[misc]
        "",
        "## What is missed",
        "",
        "The fifteen organs of the lowest DSC that were called good:",
        "",
        "| organ | network | scan | DSC | estimated | truth, ml | found, ml |",
        "|---|---|---|---|---|---|---|",
    ]
    missed = sorted(
        (row["dsc"], n) for n, row in enumerate(table) if verdicts[n].verdict == "good"
    )[:15]
    for dsc, n in missed:
        row = table[n]
        lines.append(
            f"| {row['organ']} | `{row['bundle']}` | {row['spoil']} | {dsc:.2f} | {estimates[n]:.2f} "
            f"| {row['truth_ml']:.1f} | {row['measures']['volume_ml']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def scatter_png(table: Rows, estimates: np.ndarray, check_below: float) -> bytes:
    """Estimated against true DSC, a dot an organ."""
    side, left, top, bottom = 520, 60, 20, 50
    size = (side + left + 20, side + top + bottom)
    page = Image.new("RGB", (size[0] * SHARPER, size[1] * SHARPER), PAPER)
    pen = ChartCanvas(page)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * side, top + (1 - y) * side

    for n in range(11):
        share = n / 10
        pen.line(at(share, 0), at(share, 1), GRID, 1)
        pen.line(at(0, share), at(1, share), GRID, 1)
        if n % 2 == 0:
            pen.text((at(share, 0)[0], at(0, 0)[1] + 6), f"{share:.1f}", DIM, 12, "mt")
            pen.text((left - 8, at(0, share)[1]), f"{share:.1f}", DIM, 12, "rm")
    pen.line(at(0, 0), at(1, 1), DIM, 1)
    pen.line(at(check_below, 0), at(check_below, 1), (214, 60, 60), 1.5)
    # What is not spoiled comes last, so that it lies on top.
    pairs = zip(table, estimates, strict=True)
    for row, estimate in sorted(pairs, key=lambda pair: pair[0]["spoil"] == PLAIN):
        ink = (40, 96, 190) if row["spoil"] == PLAIN else (190, 140, 60)
        pen.dot(at(float(estimate), row["dsc"]), ink)
    pen.text((left + side / 2, size[1] - 16), "estimated DSC", INK, 13, "mm")
    pen.text((left + 8, top + 6), "true DSC", INK, 13)
    pen.text((left + 8, top + 24), "blue: scans as they are; ochre: spoiled", DIM, 12)
    pen.text((left + 8, top + 40), "left of the red line: to be checked", DIM, 12)
    file = io.BytesIO()
    page.resize(size, Image.Resampling.BOX).save(file, "PNG", optimize=True)
    return file.getvalue()


def main() -> None:
    """Collect, fit, write."""
    table = collect(Path(sys.argv[1]))
    estimates = left_out_estimates(table)
    verdicts = left_out_verdicts(table)
    model = finished(calibration_of(table), table, estimates)
    head = "# Made by benchmarks/quality.py; docs/quality-results.md says how well it does.\n\n"
    settings = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(model).items()
    }
    CALIBRATION.write_text(head + dump_toml(settings), encoding="utf-8")
    page = report(table, estimates, verdicts)
    (ROOT / "docs" / "quality-results.md").write_text(page, encoding="utf-8")
    picture = scatter_png(table, estimates, model.check_below)
    (ROOT / "docs" / "quality.png").write_bytes(picture)
    print(page)


if __name__ == "__main__":
    main()
