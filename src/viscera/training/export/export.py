"""Export: a training's weights become a bundle, if the bundle gives the same labels."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from viscera.bundle.read import read_bundle
from viscera.bundle.spec import Bundle, BundleInfo
from viscera.engine.protocol import batch_shape
from viscera.engine.select import open_engine
from viscera.errors import EngineError, InputError, OutputError, UsageError, option
from viscera.nets.cost import network_cost
from viscera.predictor import Predictor
from viscera.runtime.atomic_files import check_writable
from viscera.training.checkpoint import BEST, LAST, TrainingState, load_weights
from viscera.training.data.cache import LEVELS, CachedCase, open_cache
from viscera.training.data.sampling import Sampler
from viscera.training.export.model_card import bundle_toml, model_card
from viscera.training.export.onnx_file import BestClassNetwork, write_int8, write_onnx
from viscera.training.export.parity import Parity, compare_with_torch
from viscera.training.export.peak_memory import run_peak_mb
from viscera.training.journal import read_journal
from viscera.training.loop import new_network
from viscera.training.recipe import Recipe
from viscera.training.run_folder import TrainingSplit, read_run

Arithmetic = Literal["f32", "int8"]
_CALIBRATION_BATCHES = 12


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        bundle: read back from its folder.
        parities: with the trained network, by arithmetic; bf16 only where this CPU has it.
    """

    bundle: Bundle
    parities: dict[str, Parity]


@dataclass(frozen=True, eq=False)
class _TrainedRun:
    """A training that is to be exported.

    Attributes:
        recipe: of the training, with the name and origin of the bundle.
        split: of the training.
        train, validation: cached cases of both sides.
        network: with the trained weights, in evaluation.
        state: how far these weights are trained.
    """

    recipe: Recipe
    split: TrainingSplit
    train: tuple[CachedCase, ...]
    validation: tuple[CachedCase, ...]
    network: nn.Module
    state: TrainingState

    @property
    def judged_cases(self) -> tuple[CachedCase, ...]:
        """The cases on which the bundle is compared with the network."""
        return self.validation or self.train


def export_bundle(
    run: Path,
    folder: Path,
    *,
    weights: str = "best",
    arithmetic: Arithmetic = "f32",
    name: str | None = None,
    about: BundleInfo | None = None,
    classes: bool = False,
    overwrite: bool = False,
) -> ExportResult:
    """Write a training's bundle: model.onnx, bundle.toml and a model card.

    Nothing appears unless its labels are those of the trained network, see
    `viscera.training.export.parity`.

    Args:
        run: folder of the training.
        folder: of the bundle; made whole or not at all.
        weights: best, last, or a file.
        arithmetic: f32, or int8 calibrated on the cases trained on.
        name: architecture.weights; the recipe's where not given.
        about: where the bundle comes from; the recipe's where not given.
        classes: also write labels.onnx, whose result is the best class, for other programs.
        overwrite: replace an existing bundle.

    Raises:
        InputError: no training, or its cache is gone.
        MissingExtraError: a package of the extra `train` is not installed.
        OutputError: not writable, or the folder exists.
        TrainingError: the labels are others.
    """
    trained = _read_trained_run(run, weights, name=name, about=about)
    _check_target(folder, overwrite=overwrite)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".viscera-") as scratch:
        made = Path(scratch) / "bundle"
        made.mkdir()
        _write_networks(trained, made, arithmetic, classes=classes)
        bundle = _describe(trained.recipe.bundle(made))
        bundle = _describe(bundle, run_peak_mb=run_peak_mb(made))
        bundle, parities = _check_parity(trained, bundle, arithmetic)
        _write_card(trained, bundle, parities, read_journal(run))
        read_bundle(made)
        if folder.exists():  # moved aside, and gone with the scratch folder
            folder.replace(Path(scratch) / "replaced")
        made.replace(folder)
    return ExportResult(read_bundle(folder), parities)


def _read_trained_run(
    run: Path, weights: str, *, name: str | None, about: BundleInfo | None
) -> _TrainedRun:
    """The training in a folder, with the weights that are asked for.

    Raises:
        InputError: no training, untrained weights, or its cache is gone.
    """
    recipe, split = read_run(run)
    recipe = replace(recipe, name=name or recipe.name, about=about or recipe.about)
    cache = open_cache(split.cache, recipe.grid_digest)
    train = cache.only(split.train_cases).cases
    validation = cache.only(split.validation_cases).cases
    unchanged = [c for c in (*train, *validation) if split.digests[c.name] == c.digest]
    if len(unchanged) < len(split.digests):
        raise InputError(
            "the cache of this training",
            found=f"{len(unchanged)} of its {len(split.digests)} cases",
            remedy=f"train with {option('prepare')} on the same data, or restore the cache",
            where=split.cache,
        )
    weights_path = _weights_path(run, weights)
    network = new_network(recipe)
    state = load_weights(weights_path, network)
    if not state.step:
        remedy = "train for a while first"
        raise InputError("trained weights", found="step 0", remedy=remedy, where=weights_path)
    network.eval()
    return _TrainedRun(recipe, split, train, validation, network, state)


def _weights_path(run: Path, weights: str) -> Path:
    """A checkpoint by name or path; best falls back to last where nothing was validated."""
    if weights == "best":
        return run / BEST if (run / BEST).exists() else run / LAST
    if weights == "last":
        return run / LAST
    if not Path(weights).is_file():
        raise UsageError("best, last or a file", found=repr(weights), remedy="check the path")
    return Path(weights)


def _check_target(folder: Path, *, overwrite: bool) -> None:
    """Check before the work that the bundle can be written, and replaces nothing but a bundle.

    Raises:
        OutputError: not writable, or the folder exists.
    """
    if folder.exists() and not (overwrite and (folder / "bundle.toml").exists()):
        raise OutputError(
            "a new folder",
            found="one that exists",
            remedy=f"choose another {option('output')}, or pass {option('overwrite')} for an "
            "earlier bundle",
            where=folder,
        )
    check_writable(folder)


def _write_networks(
    trained: _TrainedRun, folder: Path, arithmetic: Arithmetic, *, classes: bool
) -> None:
    """Write model.onnx, and labels.onnx where it is asked for."""
    bundle, model_path = trained.recipe.bundle(), folder / "model.onnx"
    write_onnx(trained.network, bundle, model_path)
    if classes:
        write_onnx(BestClassNetwork(trained.network), bundle, folder / "labels.onnx")
    if arithmetic == "int8":
        single_precision = folder / "single.onnx"
        model_path.rename(single_precision)
        write_int8(single_precision, model_path, _calibration_batches(trained))
        single_precision.unlink()


def _describe(bundle: Bundle, **model_fields: Any) -> Bundle:
    """The bundle with the checksum of its weights and other facts, written to its folder."""
    digest = hashlib.sha256((bundle.folder / "model.onnx").read_bytes()).hexdigest()
    bundle = replace(bundle, model=replace(bundle.model, sha256=digest, **model_fields))
    (bundle.folder / "bundle.toml").write_text(bundle_toml(bundle), encoding="utf-8")
    return bundle


def _check_parity(
    trained: _TrainedRun, bundle: Bundle, arithmetic: Arithmetic
) -> tuple[Bundle, dict[str, Parity]]:
    """Compare the bundle with the trained network; bf16 is allowed where it keeps the labels.

    Raises:
        TrainingError: the labels are others.
    """
    predictors: dict[str, Predictor] = {arithmetic: Predictor(bundle, precision="f32")}
    if arithmetic == "f32" and (predictor := _bf16_predictor(bundle)):
        predictors["bf16"] = predictor
    parities = compare_with_torch(trained.network, trained.recipe, predictors, trained.judged_cases)
    parities[arithmetic].require(f"a bundle in {arithmetic}")
    if "bf16" in parities and parities["bf16"].passed:
        bundle = _describe(bundle, precisions=("f32", "bf16"))
        bundle = _describe(bundle, run_peak_bf16_mb=run_peak_mb(bundle.folder, "bf16"))
    return bundle, parities


def _bf16_predictor(bundle: Bundle) -> Predictor | None:
    """The bundle in bf16, None where this CPU has none."""
    allowed = replace(bundle, model=replace(bundle.model, precisions=("f32", "bf16")))
    try:
        engine = open_engine(allowed, "openvino", precision="bf16")
    except (UsageError, EngineError):
        return None
    return Predictor(allowed, engine=engine)


def _write_card(
    trained: _TrainedRun,
    bundle: Bundle,
    parities: dict[str, Parity],
    journal: list[dict[str, Any]],
) -> None:
    """Write the model card, README.md, to the bundle's folder."""
    card = model_card(
        bundle,
        trained.recipe,
        trained.split,
        trained.state,
        network_cost(trained.network, batch_shape(bundle)[1:]),
        journal,
        parities,
        f"of the {'validation' if trained.validation else 'training'} set",
    )
    (bundle.folder / "README.md").write_text(card, encoding="utf-8")


def _calibration_batches(trained: _TrainedRun) -> Iterator[NDArray[np.float32]]:
    """Real samples, as the network sees them."""
    recipe = trained.recipe
    shape = batch_shape(recipe.bundle())
    without_teacher = replace(
        recipe,
        optimisation=replace(recipe.optimisation, batch=shape[0]),
        loss=replace(recipe.loss, distillation=0.0),
    )
    sampler = Sampler(trained.train, without_teacher)
    low, high = recipe.input.window_hu
    offset, divisor = recipe.input.scale
    for step in range(_CALIBRATION_BATCHES):
        hu = sampler.batch(step).image.astype(np.float32) * ((high - low) / LEVELS) + low
        yield ((hu - offset) / divisor).reshape(shape)
