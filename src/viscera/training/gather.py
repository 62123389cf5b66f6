"""From data sets to two sides of a cache: found, cached, split, checked for leakage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from viscera.findings import Finding
from viscera.training.cache import CachedCase
from viscera.training.cases import find_cases
from viscera.training.filling import fill_cache
from viscera.training.recipe import Recipe
from viscera.training.split import check_leakage, split_cases

# Takes what is being done, how much of it is done, and all of it.
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Gathered:
    """What a training is given.

    Attributes:
        train: cases to train on.
        held: cases held back.
        findings: what was left out, and what looks odd.
    """

    train: tuple[CachedCase, ...]
    held: tuple[CachedCase, ...]
    findings: tuple[Finding, ...]


def gather(
    sources: Sequence[Path],
    recipe: Recipe,
    cache: Path,
    *,
    teacher: str | None = None,
    tell: Tell = lambda _what, _done, _all: None,
) -> Gathered:
    """Everything that a training needs, cached; what is cached already is not done again.

    Args:
        sources: folders and lists, see `viscera.training.cases`.
        recipe: grid, labels, split.
        cache: folder of the cache.
        teacher: bundle whose soft scores are cached too.
        tell: told of the progress.

    Raises:
        InputError: bad data, or a patient on both sides.
        OutputError: the cache cannot be written, or is of another grid.
    """
    cases, found = find_cases(sources, pseudo_weight=recipe.data.pseudo_weight)
    # Before the work: a split that cannot be made is not worth caching for.
    split_cases(cases, recipe.split)
    filled = fill_cache(cache, recipe, cases, tell=lambda done: tell("caching", done, len(cases)))
    if teacher is not None:
        from viscera.predictor import Predictor
        from viscera.training.teacher import fill_teacher

        filled = fill_teacher(
            filled,
            cases,
            recipe,
            Predictor(teacher),
            tell=lambda done: tell("asking the teacher", done, len(cases)),
        )
    train, held = split_cases(filled.cases, recipe.split)
    check_leakage(train, held, {case.name: case.contents for case in filled.cases})
    return Gathered(train, held, (*found, *_odd(train, held, recipe)))


def _odd(train: Sequence[CachedCase], held: Sequence[CachedCase], recipe: Recipe) -> list[Finding]:
    """What a user should know before hours are spent."""
    findings = []
    cases = (*train, *held)
    empty = [case.name for case in cases if not case.voxels]
    if empty:
        message = f"{len(empty)} cases show no organ: {', '.join(empty[:5])}"
        findings.append(Finding("warning", "empty-cases", message, "they teach background at most"))
    shown = {name for case in train for name in case.voxels}
    if never := [name for name in recipe.labels[1:] if name not in shown]:
        message = f"no case to train on shows {', '.join(never)}"
        findings.append(Finding("warning", "never-shown", message, "it cannot be learnt"))
    if not held:
        message = "no case is held back: nothing will be known of unseen patients"
        findings.append(Finding("warning", "no-validation", message, "see split.folds"))
    if any(case.part == "validation" for case in held):
        message = "the data names its own cases to hold back; split.folds and split.fold are unused"
        findings.append(Finding("info", "own-split", message))
    return findings
