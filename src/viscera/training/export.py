"""Export: a training's weights become a bundle, if the bundle does what the training did."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from viscera.bundle import About, Bundle
from viscera.bundles import read_bundle
from viscera.engine import open_engine
from viscera.engine.protocol import batch_shape
from viscera.errors import EngineError, InputError, OutputError, UsageError
from viscera.io.atomic import check_writable
from viscera.nets.cost import cost_of
from viscera.predictor import Predictor
from viscera.training.cache import LEVELS, CachedCase, open_cache
from viscera.training.card import bundle_toml, model_card
from viscera.training.checkpoint import BEST, LAST, load_weights
from viscera.training.journal import read_journal
from viscera.training.loop import new_network
from viscera.training.onnx_file import BestClass, write_int8, write_onnx
from viscera.training.parity import Parity, compare
from viscera.training.recipe import Recipe
from viscera.training.run_folder import read_run
from viscera.training.sampling import Sampler
from viscera.training.working import working_mb

Arithmetic = Literal["f32", "int8"]
_CALIBRATION = 12  # batches


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        bundle: read back from its folder.
        parities: with the trained network, by arithmetic; bf16 only where this CPU has it.
    """

    bundle: Bundle
    parities: dict[str, Parity]


def export(
    run: Path,
    folder: Path,
    *,
    weights: str = "best",
    arithmetic: Arithmetic = "f32",
    name: str | None = None,
    about: About | None = None,
    classes: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a training's bundle: model.onnx, bundle.toml and a model card.

    Nothing appears unless its labels are those of the trained network, see `training.parity`.

    Args:
        run: folder of the training.
        folder: of the bundle; made whole or not at all.
        weights: best, last, or a file.
        arithmetic: f32, or int8 calibrated on the cases trained on.
        name: architecture.weights; the recipe's where not given.
        about: where the bundle comes from; the recipe's where not given.
        classes: also write labels.onnx, whose result is the best class, for other programs.
        overwrite: replace a bundle that stands there.

    Raises:
        InputError: no training, or its cache is gone.
        OutputError: not writable, or something stands there.
        TrainingError: the labels are others.
    """
    recipe, sides = read_run(run)
    recipe = replace(recipe, name=name or recipe.name, about=about or recipe.about)
    cache = open_cache(sides.cache, recipe.grid_mark)
    trained, held = cache.only(sides.train).cases, cache.only(sides.held).cases
    whole = [case for case in (*trained, *held) if sides.marks[case.name] == case.marked]
    if len(whole) < len(sides.marks):
        remedy = "run 'viscera train --prepare' with the same data, or bring the cache back"
        found = f"{len(whole)} of its {len(sides.marks)} cases"
        raise InputError("the cache of this training", found=found, remedy=remedy,
                         where=sides.cache)  # fmt: skip
    if folder.exists() and (not overwrite or not (folder / "bundle.toml").exists()):
        remedy = "choose another -o, or pass --overwrite for an earlier bundle"
        raise OutputError("a new folder", found="one that exists", remedy=remedy, where=folder)
    check_writable(folder)
    file = _weights(run, weights)
    network = new_network(recipe)
    reached = load_weights(file, network)
    if not reached.step:
        remedy = "train for a while first"
        raise InputError("trained weights", found="step 0", remedy=remedy, where=file)
    network.eval()
    judged = held or trained
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".viscera-") as scratch:
        made = Path(scratch) / "bundle"
        made.mkdir()
        write_onnx(network, recipe.bundle(), made / "model.onnx")
        if classes:
            write_onnx(BestClass(network), recipe.bundle(), made / "labels.onnx")
        if arithmetic == "int8":
            single = made / "single.onnx"
            (made / "model.onnx").rename(single)
            write_int8(single, made / "model.onnx", _calibration(recipe, trained))
            single.unlink()
        bundle = _describe(recipe.bundle(made))
        bundle = _describe(bundle, working_mb=working_mb(made))
        exported: dict[str, Predictor] = {arithmetic: Predictor(bundle, precision="f32")}
        if arithmetic == "f32" and (predictor := _in_bf16(bundle)):
            exported["bf16"] = predictor
        parities = compare(network, recipe, exported, judged)
        parities[arithmetic].require(f"a bundle in {arithmetic}")
        if "bf16" in parities and parities["bf16"].passed:
            both = _describe(bundle, precisions=("f32", "bf16"))
            bundle = _describe(both, working_bf16_mb=working_mb(made, "bf16"))
        card = model_card(
            bundle,
            recipe,
            sides,
            reached,
            cost_of(network, batch_shape(bundle)[1:]),
            read_journal(run),
            parities,
            f"that were {'held back' if held else 'trained on'}",
        )
        (made / "README.md").write_text(card, encoding="utf-8")
        read_bundle(made)
        if folder.exists():  # moved aside, and gone with the scratch folder
            folder.replace(Path(scratch) / "before")
        made.replace(folder)
    return Exported(read_bundle(folder), parities)


def _weights(run: Path, which: str) -> Path:
    """A checkpoint by name or path; best falls back to last where nothing was validated."""
    if which == "best":
        return run / BEST if (run / BEST).exists() else run / LAST
    if which == "last":
        return run / LAST
    if not Path(which).is_file():
        raise UsageError("best, last or a file", found=repr(which), remedy="check the path")
    return Path(which)


def _describe(bundle: Bundle, **of_model: Any) -> Bundle:
    """The bundle with its weights' checksum and what is known of them, written into its folder."""
    digest = hashlib.sha256((bundle.folder / "model.onnx").read_bytes()).hexdigest()
    bundle = replace(bundle, model=replace(bundle.model, sha256=digest, **of_model))
    (bundle.folder / "bundle.toml").write_text(bundle_toml(bundle), encoding="utf-8")
    return bundle


def _in_bf16(bundle: Bundle) -> Predictor | None:
    """The bundle in bf16, None where this CPU has none."""
    allowed = replace(bundle, model=replace(bundle.model, precisions=("f32", "bf16")))
    try:
        engine = open_engine(allowed, "openvino", precision="bf16")
    except (UsageError, EngineError):
        return None
    return Predictor(allowed, engine=engine)


def _calibration(recipe: Recipe, cases: Sequence[CachedCase]) -> Iterator[NDArray[np.float32]]:
    """Real samples, as the network sees them."""
    shape = batch_shape(recipe.bundle())
    drawn = replace(
        recipe,
        optimisation=replace(recipe.optimisation, batch=shape[0]),
        loss=replace(recipe.loss, distillation=0.0),
    )
    sampler = Sampler(cases, drawn)
    low, high = recipe.input.window_hu
    offset, divisor = recipe.input.scale
    for step in range(_CALIBRATION):
        hu = sampler.batch(step).image.astype(np.float32) * ((high - low) / LEVELS) + low
        yield ((hu - offset) / divisor).reshape(shape)
