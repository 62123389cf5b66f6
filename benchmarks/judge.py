"""Scores of several networks on the shared cases, each by the fold that held its patient back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

import viscera
from list_shared_cases import SAMPLE
from train_default import FOLDS, TEACHER
from viscera.io.content_digest import content_digest
from viscera.io.read import read_labels, read_volume
from viscera.training.data.cases import TrainingCase, find_cases
from viscera.training.run_folder import read_run

REFERENCE = "reference"
# One bundle for all folds: neither was fine-tuned on anybody here.
UNTUNED = {REFERENCE: TEACHER, "untuned": None}
# Labels that are not the reference network's own, for all organs that count there.
INDEPENDENT = (SAMPLE, "totalsegmentator_examples_example_dicom_20slices", "msd_spleen_spleen_8")
EXPERT_JOINT = "tcia_pancreatic_ct_cbct_CB_001_planning"
_STOMACH_AND_DUODENUM = 1  # in that case's label_expert_partial
AWAY_MM = 20.0  # from the nearest organ of the abdomen to a volume of chest or pelvis alone
LEAST_MM = 40.0  # of such a volume
# Seen in the chest as well, so that they are no mistake there.
THROUGH = ("aorta", "inferior_vena_cava", "esophagus")


class Judge:
    """Segments and scores, and remembers in a file what is done.

    Attributes:
        scores: by network and case: organs (DSC, NSD, ml of truth and of what was found), false_ml.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.cases = {case.name: case for case in find_cases([out / "cases.csv"])[0]}
        self.scores: dict[str, dict[str, dict]] = {}
        self._file = out / "scores.json"
        self._before = json.loads(self._file.read_text()) if self._file.exists() else {}

    def run(self, network: str) -> bool:
        """Score one network on all cases; False if a fold of it has not been trained."""
        if not all((self._bundle(network, fold) / "bundle.toml").exists() for fold in range(FOLDS)):
            return False
        for fold in range(FOLDS):
            predictor = viscera.Predictor(self._bundle(network, fold))
            for name in self._validation_cases(network, fold):
                case = self.cases[name]
                sources = [
                    content_digest(case.image),
                    content_digest(case.labels),
                    case.excluded_organs,
                ]
                mark = f"{predictor.signature()} {sources}"
                done = self._before.get(network, {}).get(name, {})
                if done.get("mark") != mark:
                    done = {"mark": mark, "fold": fold, **score(predictor, case)}
                self.scores.setdefault(network, {})[name] = done
                self._file.write_text(json.dumps(self._before | self.scores, indent=1))
                dsc = [organ["dsc"] for organ in done["organs"].values() if organ["ml"]]
                print(network, name, f"{np.mean(dsc):.3f}" if dsc else "-", flush=True)
        assert set(self.scores[network]) == set(self.cases), "every case once"
        return True

    def _bundle(self, network: str, fold: int) -> Path:
        if network in UNTUNED:
            return UNTUNED[network] or self.out / "bundles" / network
        return self.out / "bundles" / f"{network}-{fold}"

    def _validation_cases(self, network: str, fold: int) -> tuple[str, ...]:
        """Cases of patients whom this fold's network has not seen, by its own record."""
        whose = "default" if network in UNTUNED else network
        _, sides = read_run(self.out / "runs" / f"{whose}-{fold}")
        patients = {self.cases[name].patient for name in sides.validation_cases}
        assert not patients & {self.cases[name].patient for name in sides.train_cases}
        return tuple(sides.validation_cases)


def score(predictor: viscera.Predictor, case: TrainingCase) -> dict:
    """One case: its organs, and what is found above and below all of them."""
    found = predictor.segment(case.image)
    organs = {
        one.organ: {
            "dsc": one.dsc,
            "nsd": one.nsd,
            "ml": one.truth_ml,
            "found_ml": one.prediction_ml,
        }
        for one in viscera.evaluate(found, case.labels).organ_metrics
        if one.organ not in case.excluded_organs
    }
    result: dict = {"organs": organs, "false_ml": false_ml(predictor, case)}
    if case.name == EXPERT_JOINT:
        result["expert_joint_dsc"] = joint_dsc(found, case)
    return result


def false_ml(predictor: viscera.Predictor, case: TrainingCase) -> dict[str, float]:
    """ml of organs found in chest or pelvis alone: beyond every organ that the labels show."""
    volume, truth = read_volume(case.image), read_labels(case.labels).values
    shown = np.flatnonzero((truth > 0).any(axis=(0, 1)))
    within = [o.id for o in viscera.ORGANS if o.name not in THROUGH]
    abdomen = np.flatnonzero(np.isin(truth, within).any(axis=(0, 1)))
    if not abdomen.size or case.name in INDEPENDENT:
        return {}
    away, depth = math.ceil(AWAY_MM / volume.affine.spacing_mm[2]), volume.shape[2]
    assert volume.affine.axcodes[2] in "SI"
    if volume.affine.axcodes[2] == "S":
        parts = {"chest": (abdomen[-1] + away, depth), "pelvis": (0, shown[0] - away)}
    else:
        parts = {"chest": (0, abdomen[0] - away), "pelvis": (shown[-1] + away, depth)}
    result = {}
    for where, (start, stop) in parts.items():
        if (stop - start) * volume.affine.spacing_mm[2] < LEAST_MM:
            continue
        part = volume.cropped((slice(None), slice(None), slice(start, stop)))
        belongs = THROUGH if where == "chest" else ()
        found = predictor.segment(part).volumes_ml()
        result[where] = sum(ml for organ, ml in found.items() if organ not in belongs)
    return result


def joint_dsc(found: viscera.Segmentation, case: TrainingCase) -> float:
    """Stomach and duodenum together, beside an expert's contours, in the slices these cover."""
    drawn = read_labels(case.labels.parent / "label_expert_partial.nii.gz").values
    expert = drawn == _STOMACH_AND_DUODENUM
    slices = np.flatnonzero(expert.any(axis=(0, 1)))
    part = slice(slices[0], slices[-1] + 1)
    own = (found.mask("stomach") | found.mask("duodenum"))[:, :, part]
    return float(2 * (own & expert[:, :, part]).sum() / (own.sum() + expert[:, :, part].sum()))
