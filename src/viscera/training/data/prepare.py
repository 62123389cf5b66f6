"""From data sets to two sides of a cache: found, cached, split, checked for leakage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from viscera.errors import InputError, option
from viscera.findings import Finding
from viscera.training.data.cache import CachedCase, TrainingCache, open_cache
from viscera.training.data.cases import find_cases
from viscera.training.data.fill_cache import fill_cache
from viscera.training.data.split import Splittable, check_leakage, split_cases
from viscera.training.recipe import Recipe

C = TypeVar("C", bound=Splittable)
# Takes what is being done, how much of it is done, and all of it.
PreparationProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TrainingData:
    """What a training is given.

    Attributes:
        train: cases to train on.
        validation_cases: cases of the validation set.
        findings: what was left out, and what looks odd.
    """

    train: tuple[CachedCase, ...]
    validation_cases: tuple[CachedCase, ...]
    findings: tuple[Finding, ...]


def prepare_data(
    sources: Sequence[Path],
    recipe: Recipe,
    cache: Path,
    *,
    teacher: str | None = None,
    on_progress: PreparationProgress = lambda _step, _completed, _all: None,
) -> TrainingData:
    """Everything that a training needs, cached; cached cases are not made again.

    Args:
        sources: folders and lists, see `viscera.training.data.cases`; without any, the cache is
            taken as it is, so that it can be carried to a machine that has no scans.
        recipe: grid, labels, split.
        cache: folder of the cache.
        teacher: bundle whose soft scores are cached too.
        on_progress: takes the step, how much of it is completed, and all of it.

    Raises:
        InputError: bad data, or a patient on both sides.
        OutputError: the cache cannot be written, or is of another grid.
    """
    if not sources:
        return _split(_filled_cache(cache, recipe), recipe, ())
    cases, findings = find_cases(
        sources, table=recipe.bundle().label_table, pseudo_weight=recipe.data.pseudo_weight
    )
    # Before the work: a split that cannot be made is not worth caching for.
    cases = _without_excluded(cases, recipe)
    split_cases(cases, recipe.split)
    filled_cache = fill_cache(
        cache,
        recipe,
        cases,
        on_progress=lambda completed: on_progress("caching", completed, len(cases)),
    )
    if teacher is not None:
        from viscera.predictor import Predictor
        from viscera.training.data.teacher import fill_teacher

        filled_cache = fill_teacher(
            filled_cache,
            cases,
            recipe,
            Predictor(teacher),
            on_progress=lambda completed: on_progress("running the teacher", completed, len(cases)),
        )
    return _split(filled_cache, recipe, findings)


def _filled_cache(folder: Path, recipe: Recipe) -> TrainingCache:
    """A cache that was filled before.

    Raises:
        InputError: it is empty, or lacks the soft scores that the recipe learns from.
    """
    cache = open_cache(folder, recipe.grid_digest)
    if not cache.cases:
        raise InputError(
            "scans with labels, or a cache that was filled before",
            found="neither",
            remedy="name the scans' folder or a list of cases",
            where=folder,
        )
    used = _without_excluded(cache.cases, recipe)
    untaught = [case.name for case in used if case.use_teacher and not case.teacher]
    if recipe.loss.distillation and untaught:
        raise InputError(
            "a cache with a teacher's soft scores",
            found=f"{len(untaught)} cases without, {untaught[0]!r} first",
            remedy=f"fill it with {option('prepare')} and {option('teacher', 'BUNDLE')}",
            where=folder,
        )
    return cache


def _split(cache: TrainingCache, recipe: Recipe, findings: Sequence[Finding]) -> TrainingData:
    cases = _without_excluded(cache.cases, recipe)
    train, validation = split_cases(cases, recipe.split)
    check_leakage(train, validation, {case.name: case.scan_digest for case in cases})
    return TrainingData(train, validation, (*findings, *_data_findings(train, validation, recipe)))


def _without_excluded(cases: Sequence[C], recipe: Recipe) -> tuple[C, ...]:
    """The cases that the recipe does not exclude.

    Raises:
        InputError: it excludes all of them.
    """
    patterns = recipe.data.exclude
    used = tuple(c for c in cases if not any(fnmatchcase(c.name, each) for each in patterns))
    if cases and not used:
        raise InputError(
            "cases to train on",
            found=f"{len(cases)}, all of them named by data.exclude",
            remedy="exclude fewer",
        )
    return used


def _data_findings(
    train: Sequence[CachedCase], validation: Sequence[CachedCase], recipe: Recipe
) -> list[Finding]:
    """What a user should know before hours are spent."""
    findings = []
    cases = (*train, *validation)
    empty = [case.name for case in cases if not case.voxels]
    if empty:
        message = f"{len(empty)} cases show no organ: {', '.join(empty[:5])}"
        findings.append(
            Finding("warning", "empty-cases", message, "only background can be learnt from them")
        )
    shown_organs = {name for case in train for name in case.voxels}
    if never := [name for name in recipe.labels[1:] if name not in shown_organs]:
        message = f"no case to train on shows {', '.join(never)}"
        findings.append(Finding("warning", "never-shown", message, "it cannot be learnt"))
    if not validation:
        message = "the validation set is empty: accuracy on unseen patients will not be known"
        findings.append(Finding("warning", "no-validation", message, "see split.folds"))
    if any(case.part == "validation" for case in validation):
        message = "the data names its own cases to hold back; split.folds and split.fold are unused"
        findings.append(Finding("info", "own-split", message))
    return findings
