"""Scores of networks on the shared cases, remembered in a file."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import viscera
from list_shared_cases import MANUAL
from train_packaged import FOLDS, ROOT
from viscera.bundle.read import read_bundle
from viscera.bundle.spec import Bundle
from viscera.io.content_digest import content_digest
from viscera.io.read import read_labels, read_volume
from viscera.training.checkpoint import load_weights
from viscera.training.data.cases import TrainingCase
from viscera.training.data.split import split_cases
from viscera.training.export.model_card import bundle_toml
from viscera.training.export.onnx_file import write_onnx
from viscera.training.loop import new_network
from viscera.training.recipe import Recipe, read_recipe

REFERENCE = "flare25_dw"
AWAY_MM = 20.0  # from the nearest organ of the abdomen to a volume of chest or pelvis alone
LEAST_MM = 40.0  # of such a volume
# Seen in the chest as well, so that they are no mistake there.
THROUGH = ("aorta", "inferior_vena_cava", "esophagus")


@dataclass(frozen=True)
class Score:
    """DSC, NSD and ml of one organ in one case."""

    dsc: float
    nsd: float
    ml: float
    found_ml: float


def fold_of(cases: list[TrainingCase]) -> dict[str, int]:
    """The fold that holds each patient drawn by hand back, by the recipe's split."""
    split = read_recipe(ROOT / "configs" / "default.toml")[0].split
    return {
        case.name: fold
        for fold in range(FOLDS)
        for case in split_cases(cases, replace(split, fold=fold))[1]
    }


def recipe_of(name: str, *settings: str) -> Recipe:
    """A recipe of configs/."""
    return read_recipe(ROOT / "configs" / f"{name}.toml", settings)[0]


def bundle_of(weights: Path | None, like: Bundle, recipe: Recipe, folder: Path) -> Path:
    """A bundle with other weights than a packaged one, for judging alone.

    Args:
        weights: a .safetensors file; none: random ones, whose seconds are the same.
        like: gives all settings.
        recipe: of the network.
        folder: to write.
    """
    network = new_network(recipe).eval()
    if weights is not None:
        load_weights(weights, network)
    folder.mkdir(parents=True, exist_ok=True)
    write_onnx(network, like, folder / "model.onnx")
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    model = replace(like.model, file="model.onnx", sha256=digest)
    (folder / "bundle.toml").write_text(bundle_toml(replace(like, model=model)))
    return folder


def fold_bundle(name: str, fold: int, out: Path) -> Path:
    """`default` or `fast` as it was trained without one fold's patients."""
    packaged = read_bundle(name)
    if fold == 0:
        return packaged.folder
    weights = ROOT / "weights" / "folds" / f"default-{fold}.safetensors"
    return bundle_of(weights, packaged, recipe_of("default"), out / "judged" / f"{name}-{fold}")


class Judge:
    """Segments and scores, and remembers what is done."""

    def __init__(self, out: Path) -> None:
        self._file = out / "scores.json"
        self._done: dict = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._predictors: dict[str, viscera.Predictor] = {}

    def predictor(self, bundle: str | Path) -> viscera.Predictor:
        """Of one bundle at a time, as each takes memory."""
        if str(bundle) not in self._predictors:
            self._predictors = {str(bundle): viscera.Predictor(str(bundle))}
        return self._predictors[str(bundle)]

    def organs(self, bundle: str | Path, case: TrainingCase) -> dict[str, Score]:
        """Every organ that the case's labels annotate."""
        return {name: Score(*v) for name, v in self._of("organs", bundle, case).items()}

    def false_ml(self, bundle: str | Path, case: TrainingCase) -> dict[str, float]:
        """ml of false organs in chest and pelvis, see `false_ml`."""
        return self._of("false", bundle, case)

    def _of(self, kind: str, bundle: str | Path, case: TrainingCase) -> dict:
        predictor = self.predictor(bundle)
        key = f"{kind} {predictor.signature()} {content_digest(case.image)} {case.excluded_organs}"
        if key not in self._done:
            function = organ_scores if kind == "organs" else false_ml
            self._done[key] = function(predictor, case)
            self._file.write_text(json.dumps(self._done))
            print(kind, Path(bundle).name, case.name, flush=True)
        return self._done[key]


def organ_scores(predictor: viscera.Predictor, case: TrainingCase) -> dict[str, list[float]]:
    """Scores of one case: by hand, aorta, vena cava and esophagus where the raters drew them."""
    by_hand = case.name.startswith(MANUAL)
    labels = case.labels.with_name("label.nii.gz") if by_hand else case.labels
    evaluation = viscera.evaluate(
        predictor.segment(case.image), labels, protocol="flare24" if by_hand else "standard"
    )
    return {
        one.organ: [one.dsc, one.nsd, one.truth_ml, one.prediction_ml]
        for one in evaluation.organ_metrics
        if one.organ not in case.excluded_organs
    }


def false_ml(predictor: viscera.Predictor, case: TrainingCase) -> dict[str, float]:
    """ml of organs found in chest or pelvis alone: beyond every organ that the labels show."""
    volume, truth = read_volume(case.image), read_labels(case.labels).values
    shown = np.flatnonzero((truth > 0).any(axis=(0, 1)))
    within = [o.id for o in viscera.ORGANS if o.name not in THROUGH]
    abdomen = np.flatnonzero(np.isin(truth, within).any(axis=(0, 1)))
    if not abdomen.size:
        return {}
    away, depth = math.ceil(AWAY_MM / volume.affine.spacing_mm[2]), volume.shape[2]
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
