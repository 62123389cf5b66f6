"""The folder of a training: what it is, so that only the same training goes on in it.

``recipe.toml`` gives the recipe again, ``split.json`` says who was trained on and who was held
back, ``metrics.jsonl`` is the journal, ``last`` and ``best.safetensors`` are the weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.errors import InputError, OutputError
from viscera.io.atomic import check_writable, write_text
from viscera.training.cache import CachedCase
from viscera.training.checkpoint import LAST
from viscera.training.recipe import Recipe, read_recipe

RECIPE, SPLIT = "recipe.toml", "split.json"


@dataclass(frozen=True)
class Sides:
    """Who stood on which side of a training's split.

    Attributes:
        train: names of the cases trained on.
        held: names of those held back.
        marks: what shaped each case's voxels.
        patients: how many patients were trained on, and held back.
        cache: the cache they lie in.
    """

    train: tuple[str, ...]
    held: tuple[str, ...]
    marks: dict[str, str]
    patients: tuple[int, int]
    cache: Path


def check_new(folder: Path, *, resume: bool) -> None:
    """Prove before any work that no training is replaced.

    Raises:
        OutputError: one stands there, and is not to be resumed.
    """
    if (folder / LAST).exists() and not resume:
        raise OutputError(
            "a new folder for a new training",
            found="a training",
            remedy="pass --resume to go on with it, or choose another -o",
            where=folder,
        )


def open_run(
    folder: Path,
    recipe: Recipe,
    text: str,
    train: Sequence[CachedCase],
    held: Sequence[CachedCase],
    *,
    cache: Path,
    resume: bool,
) -> None:
    """Claim a folder for a training, or prove that it holds this one.

    Args:
        folder: made where it is missing.
        recipe: of the training.
        text: TOML that gives the recipe again.
        train: cases to train on.
        held: cases held back.
        cache: where they lie.
        resume: go on with what stands there.

    Raises:
        OutputError: not writable, or it holds a training that is not to be resumed, or another.
    """
    check_new(folder, resume=resume)
    check_writable(folder / RECIPE)
    content: dict[str, Any] = {
        "cache": os.path.relpath(cache, folder),
        "train": [_row(case) for case in train],
        "held": [_row(case) for case in held],
    }
    if (folder / LAST).exists():
        before, _ = read_run(folder)
        if before.mark != recipe.mark:
            raise OutputError(
                "the recipe that this training began with",
                found=f"another; {_difference(before, recipe)}",
                remedy=f"resume with {folder / RECIPE}, or choose another -o",
                where=folder,
            )
        stood = _content(folder)
        if any(stood[side] != content[side] for side in ("train", "held")):
            raise OutputError(
                "the cases that this training began with",
                found="others",
                remedy="name the same data, or choose another -o",
                where=folder,
            )
    write_text(folder / SPLIT, json.dumps(content, indent=1), overwrite=True)
    write_text(folder / RECIPE, text, overwrite=True)


def read_run(folder: Path) -> tuple[Recipe, Sides]:
    """A training's recipe and the two sides of its split.

    Raises:
        InputError: no training, or damaged.
    """
    if not (folder / RECIPE).is_file():
        remedy = "name the folder that 'viscera train' was given with -o"
        raise InputError("a training's folder", found="none", remedy=remedy, where=folder)
    recipe, _ = read_recipe(folder / RECIPE)
    content = _content(folder)
    names = {side: tuple(row[0] for row in content[side]) for side in ("train", "held")}
    marks = {row[0]: row[2] for side in ("train", "held") for row in content[side]}
    patients = [len({row[1] for row in content[side]}) for side in ("train", "held")]
    sides = Sides(
        names["train"], names["held"], marks, (patients[0], patients[1]), folder / content["cache"]
    )
    return recipe, sides


def _row(case: CachedCase) -> list[str | float]:
    """What identifies a case: its name and patient, all that shaped its voxels, what weighs it."""
    return [case.name, case.patient, case.marked, case.weight, case.teacher]


def _content(folder: Path) -> dict[str, Any]:
    path = folder / SPLIT
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["train"], content["held"], content["cache"]
    except (OSError, ValueError, KeyError) as error:
        remedy = "start the training anew"
        raise InputError("a split", found=str(error), remedy=remedy, where=path) from error
    return content


def _difference(before: Recipe, now: Recipe) -> str:
    """The first setting that differs, for people."""
    for table in ("name", "network", "input", "slices", "patch", "labels", "postprocess", "data",
                  "split", "augment", "loss", "optimisation", "about"):  # fmt: skip
        old, new = getattr(before, table), getattr(now, table)
        if old == new:
            continue
        for key in getattr(old, "__dataclass_fields__", {}) if type(old) is type(new) else {}:
            if getattr(old, key) != getattr(new, key):
                return f"{table}.{key} was {getattr(old, key)!r}, is {getattr(new, key)!r}"
        return f"{table} differs"
    return "nothing differs"
