"""The folder of a training: what it is, so that only the same training continues in it.

``recipe.toml`` gives the recipe again, ``split.json`` contains the training set and the
validation set, ``metrics.jsonl`` is the journal, ``last`` and ``best.safetensors`` are the weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.errors import InputError, OutputError, option
from viscera.runtime.atomic_files import check_writable, write_text
from viscera.runtime.small_files import read_json_file
from viscera.training.checkpoint import LAST
from viscera.training.data.cache import CachedCase
from viscera.training.recipe import Recipe, read_recipe

RECIPE, SPLIT = "recipe.toml", "split.json"


@dataclass(frozen=True)
class TrainingSplit:
    """The cases of a training set and of a validation set.

    Attributes:
        train_cases: names of the cases trained on.
        validation_cases: names of the cases of the validation set.
        digests: of all that shaped each case's voxels.
        patients: number of patients in the training set and in the validation set.
        cache: the cache they lie in.
    """

    train_cases: tuple[str, ...]
    validation_cases: tuple[str, ...]
    digests: dict[str, str]
    patients: tuple[int, int]
    cache: Path


def check_new_run(folder: Path, *, resume: bool) -> None:
    """Make sure before any work that no training is replaced.

    Args:
        folder: of the training.
        resume: continue the training that is there.

    Raises:
        OutputError: one is there, and is not to be resumed.
    """
    if (folder / LAST).exists() and not resume:
        raise OutputError(
            "a new folder for a new training",
            found="a training",
            remedy=f"pass {option('resume')} to continue it, or choose another {option('output')}",
            where=folder,
        )


def start_run(
    folder: Path,
    recipe: Recipe,
    text: str,
    train: Sequence[CachedCase],
    validation: Sequence[CachedCase],
    *,
    cache: Path,
    resume: bool,
) -> None:
    """Reserve a folder for a training, or check that it contains this one.

    Args:
        folder: made where it is missing.
        recipe: of the training.
        text: TOML that gives the recipe again.
        train: cases to train on.
        validation: cases of the validation set.
        cache: where they lie.
        resume: continue the training that is there.

    Raises:
        OutputError: not writable, or it holds a training that is not to be resumed, or another.
    """
    check_new_run(folder, resume=resume)
    check_writable(folder / RECIPE)
    content: dict[str, Any] = {
        "cache": os.path.relpath(cache, folder),
        "train": [_row(case) for case in train],
        "validation": [_row(case) for case in validation],
    }
    if (folder / LAST).exists():
        begun, _ = read_run(folder)
        if begun.digest != recipe.digest:
            raise OutputError(
                "the recipe that this training began with",
                found=f"another; {_difference(begun, recipe)}",
                remedy=f"resume with {folder / RECIPE}, or choose another {option('output')}",
                where=folder,
            )
        earlier = _read_split(folder)
        if any(earlier[side] != content[side] for side in ("train", "validation")):
            raise OutputError(
                "the cases that this training began with",
                found="others",
                remedy=f"name the same data, or choose another {option('output')}",
                where=folder,
            )
    write_text(folder / SPLIT, json.dumps(content, indent=1), overwrite=True)
    write_text(folder / RECIPE, text, overwrite=True)


def read_run(folder: Path) -> tuple[Recipe, TrainingSplit]:
    """A training's recipe and the two sides of its split.

    Raises:
        InputError: no training, or damaged.
    """
    if not (folder / RECIPE).is_file():
        remedy = "name the folder that 'viscera train' was given with -o"
        raise InputError("a training's folder", found="none", remedy=remedy, where=folder)
    recipe, _ = read_recipe(folder / RECIPE)
    content = _read_split(folder)
    names = {side: tuple(row[0] for row in content[side]) for side in ("train", "validation")}
    digests = {row[0]: row[2] for side in ("train", "validation") for row in content[side]}
    patients = [len({row[1] for row in content[side]}) for side in ("train", "validation")]
    split = TrainingSplit(
        names["train"],
        names["validation"],
        digests,
        (patients[0], patients[1]),
        folder / content["cache"],
    )
    return recipe, split


def _row(case: CachedCase) -> list[str | float]:
    """What identifies a case: its name and patient, all that shaped its voxels, what weighs it."""
    return [case.name, case.patient, case.digest, case.weight, case.teacher]


def _read_split(folder: Path) -> dict[str, Any]:
    path = folder / SPLIT
    remedy = "start the training again in another folder"
    try:
        content: dict[str, Any] = read_json_file(path)
    except (OSError, ValueError) as error:
        raise InputError("a split", found=str(error), remedy=remedy, where=path) from error
    if not {"train", "validation", "cache"} <= content.keys():
        problem = "one of another version of viscera"
        raise InputError("a split", found=problem, remedy=remedy, where=path)
    return content


def _difference(begun: Recipe, now: Recipe) -> str:
    """The first setting that differs, for people."""
    tables = ("name", "network", "input", "slices", "patch", "labels", "look", "postprocess",
              "data", "split", "augment", "loss", "optimisation", "about")  # fmt: skip
    for table in tables:
        old, new = getattr(begun, table), getattr(now, table)
        if old == new:
            continue
        for key in getattr(old, "__dataclass_fields__", {}) if type(old) is type(new) else {}:
            if getattr(old, key) != getattr(new, key):
                return f"{table}.{key} was {getattr(old, key)!r}, is {getattr(new, key)!r}"
        return f"{table} differs"
    return "nothing differs"
