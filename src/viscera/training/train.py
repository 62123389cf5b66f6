"""A training from data sets to weights, in one call: prepare, split, train, draw."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from viscera.bundle.read import packaged_bundles, read_bundle, weights_to_train
from viscera.errors import UsageError, option
from viscera.report.charts.training_curves import curves_png
from viscera.report.pictures.examples import example_row, examples_png
from viscera.runtime.atomic_files import atomic_write
from viscera.runtime.paths import checked_path
from viscera.runtime.resources import thread_count
from viscera.training.checkpoint import TrainingState
from viscera.training.data.prepare import PreparationProgress, TrainingData, prepare_data
from viscera.training.distributed import ProcessGroup, process_group
from viscera.training.journal import read_journal
from viscera.training.loop import InitialWeights, Training, TrainingCallbacks
from viscera.training.recipe import Recipe
from viscera.training.run_folder import check_new_run, start_run
from viscera.training.validation import Validation


@dataclass(frozen=True)
class TrainOptions:
    """How a training runs; none of it is part of the recipe.

    Attributes:
        cache: folder of the cache; ``cache`` in the training's folder where None.
        prepare: fill the cache and end.
        resume: continue from the last checkpoint, if there is one.
        minutes: stop at a checkpoint after this time.
        init: weights to begin with where there is no checkpoint: a .safetensors file, or the
            name or folder of a bundle that has them.
        teacher: bundle whose soft scores are learnt from too.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; all that the process may use where None.
        tensorboard: also write TensorBoard's files.
    """

    cache: Path | None = None
    prepare: bool = False
    resume: bool = False
    minutes: float | None = None
    init: str | Path | None = None
    teacher: str | None = None
    device: str = "auto"
    threads: int | None = None
    tensorboard: bool = False


@dataclass(frozen=True)
class TrainReporter:
    """Functions that are called during the work; by default they do nothing.

    Attributes:
        preparation: takes what is being prepared, how much of it is done, and all of it.
        data: takes what the training is given.
        start: takes the state it begins with and the steps of the whole recipe; in every process.
        new_labels: takes labels of which the initial weights know nothing.
        callbacks: of the steps.
    """

    preparation: PreparationProgress = lambda _step, _completed, _all: None
    data: Callable[[TrainingData], None] = lambda _data: None
    start: Callable[[TrainingState, int], None] = lambda _state, _steps: None
    new_labels: Callable[[Sequence[str]], None] = lambda _labels: None
    callbacks: TrainingCallbacks = field(default_factory=TrainingCallbacks)


@dataclass(frozen=True)
class TrainResult:
    """The outcome of `train`.

    Attributes:
        state: how far the training is.
        steps: of the whole recipe.
        is_done: whether all of them are done.
        is_first: whether this is the process that reports progress.
    """

    state: TrainingState
    steps: int
    is_done: bool
    is_first: bool


def train(
    recipe: Recipe,
    recipe_toml: str,
    data: Sequence[Path],
    output: Path,
    options: TrainOptions,
    reporter: TrainReporter,
) -> TrainResult | None:
    """Train a network; a second call continues where the first ended.

    Args:
        recipe: all that decides the result.
        recipe_toml: gives the recipe again.
        data: folders and lists, see `viscera.training.data.cases`; none: what the cache holds.
        output: folder of the training.
        options: how it runs.
        reporter: called on progress.

    Returns:
        How far it is; None where data were only prepared.

    Raises:
        UsageError: options that contradict the recipe.
        InputError: bad data, or weights of another network.
        OutputError: the folder is not writable, or holds another training.
        TrainingError: three gradients in a row were no numbers.
    """
    _check_options(recipe, options, is_cached=not data)
    if not options.prepare:
        check_new_run(output, resume=options.resume)
    torch.set_num_threads(thread_count(options.threads))
    cache = options.cache or output / "cache"
    with process_group(options.device) as processes:
        if processes.is_first:  # the others find everything done
            prepared = _prepare(recipe, data, cache, options, reporter)
            reporter.data(prepared)
        processes.wait()
        if not processes.is_first:
            prepared = _prepare(recipe, data, cache, options, TrainReporter())
        if options.prepare:
            return None
        if processes.is_first:
            start_run(
                output,
                recipe,
                recipe_toml,
                prepared.train,
                prepared.validation_cases,
                cache=cache,
                resume=options.resume,
            )
        processes.wait()
        return _run(recipe, prepared, output, processes, options, reporter)


def _check_options(recipe: Recipe, options: TrainOptions, *, is_cached: bool) -> None:
    """Refuse options that contradict each other, before any work.

    Raises:
        UsageError: something does.
    """
    processes = int(os.environ.get("WORLD_SIZE", 1))
    batch = recipe.optimisation.batch
    if batch % processes:
        raise UsageError(
            "a batch that all processes share evenly",
            found=f"{batch} for {processes} processes",
            remedy="change optimisation.batch, or start another number",
        )
    distillation, teacher = recipe.loss.distillation, options.teacher
    if is_cached and (teacher is not None or options.prepare):
        raise UsageError(
            "scans with labels, where the cache is to be filled",
            found="none",
            remedy="name the scans' folder or a list of cases",
        )
    if not is_cached and (distillation > 0) != (teacher is not None):
        without = option("settings", "loss.distillation=0")
        raise UsageError(
            f"{option('teacher')} for distillation",
            found=f"loss.distillation = {distillation:g} {'with' if teacher else 'without'} one",
            remedy=f"pass {option('teacher', 'BUNDLE')}, or {without}",
        )
    if teacher is not None:
        teacher_labels = read_bundle(teacher).labels
        unknown = [name for name in recipe.labels if name not in teacher_labels]
        if unknown and recipe.structures:
            raise UsageError(
                f"a {option('teacher')} that knows every structure of the recipe",
                found=f"one that does not know {', '.join(unknown)}",
                remedy="choose another; it would teach them as background",
            )
    if options.minutes is not None and not options.minutes >= 0:
        raise UsageError(
            f"{option('minutes')} of 0 and more",
            found=f"{options.minutes:g}",
            remedy="choose another value",
        )


def _prepare(
    recipe: Recipe,
    data: Sequence[Path],
    cache: Path,
    options: TrainOptions,
    reporter: TrainReporter,
) -> TrainingData:
    return prepare_data(
        data, recipe, cache, teacher=options.teacher, on_progress=reporter.preparation
    )


def _run(
    recipe: Recipe,
    data: TrainingData,
    output: Path,
    processes: ProcessGroup,
    options: TrainOptions,
    reporter: TrainReporter,
) -> TrainResult:
    training = Training(
        recipe,
        data.train,
        data.validation_cases,
        output,
        processes,
        init=_initial_weights(options.init),
        tensorboard=options.tensorboard,
    )
    if training.new_labels and processes.is_first and not training.state.step:
        reporter.new_labels(training.new_labels)
    reporter.start(training.state, training.steps)

    def on_validation(step: int, validation: Validation) -> None:
        _draw_curves(output, recipe)
        picture = examples_png([example_row(validation.example)], recipe.bundle().organs)
        with atomic_write(output / "validation.png", overwrite=True) as file:
            file.write(picture)
        reporter.callbacks.validation(step, validation)

    callbacks = replace(reporter.callbacks, validation=on_validation)
    is_done = training.run(minutes=options.minutes, callbacks=callbacks)
    if processes.is_first:
        _draw_curves(output, recipe)
    return TrainResult(training.state, training.steps, is_done, processes.is_first)


def _initial_weights(init: str | Path | None) -> InitialWeights | None:
    """A file, or those of a bundle.

    Raises:
        BundleError: a bundle without weights to train.
    """
    if init is None:
        return None
    path = checked_path(init)
    if str(init) in packaged_bundles() or (path / "bundle.toml").is_file():
        bundle = read_bundle(init)
        return InitialWeights(weights_to_train(bundle), bundle.labels)
    return InitialWeights(path)


def _draw_curves(output: Path, recipe: Recipe) -> None:
    if journal := read_journal(output):
        with atomic_write(output / "curves.png", overwrite=True) as file:
            file.write(curves_png(journal, recipe.name, recipe.bundle().organs))
