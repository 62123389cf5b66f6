"""Soft scores of a teacher, cached: what distillation learns from, computed once.

``CASE.teacher.z`` holds three arrays of the case's shape: the teacher's best channel, its second
best, and the best's probability among the two, 0 to 255. That is a tenth of all its scores, and
nearly all of what they say.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from viscera.bundle import Bundle
from viscera.errors import BundleError
from viscera.grid import Grid
from viscera.grid.grid import ScoreSlab
from viscera.grid.resample import Taps
from viscera.io.atomic import atomic_write
from viscera.predictor import Predictor
from viscera.training.cache import Cache, CachedCase
from viscera.training.cases import TrainingCase
from viscera.training.recipe import Recipe
from viscera.volume import Volume

Scores = NDArray[np.float32]


def fill_teacher(
    cache: Cache,
    cases: Sequence[TrainingCase],
    recipe: Recipe,
    predictor: Predictor,
    tell: Callable[[int], None] = lambda _done: None,
) -> Cache:
    """Add a teacher's soft scores to every case that lacks them.

    Args:
        cache: filled with these cases.
        cases: for their scans.
        recipe: whose grid.
        predictor: the teacher.
        tell: takes the number of cases done.

    Raises:
        BundleError: the teacher sees scans in another orientation than the recipe.
        InputError: a scan is unreadable.
    """
    from viscera.io import read_volume

    theirs = predictor.bundle.input.orientation
    if theirs != recipe.input.orientation:
        raise BundleError(
            f"a teacher of orientation {recipe.input.orientation}",
            found=theirs,
            remedy="choose another, or change input.orientation in the recipe",
            where=predictor.bundle.folder,
        )
    files = {case.name: case.image for case in cases}
    done = list(cache.cases)
    for number, case in enumerate(done):
        mark = f"{predictor.made_by()} {case.contents}"
        if case.teacher != mark:  # of all, so that hearing it can be changed at no cost
            soft = soft_scores(read_volume(files[case.name]), predictor, recipe, case)
            with atomic_write(case.file("teacher.z"), overwrite=True) as file:
                file.write(zlib.compress(soft.tobytes(), 6))
            done[number] = replace(case, teacher=mark)
            replace(cache, cases=(done[number],)).save()
        tell(number + 1)
    return replace(cache, cases=tuple(done))


def soft_scores(
    volume: Volume, predictor: Predictor, recipe: Recipe, case: CachedCase
) -> NDArray[np.uint8]:
    """(3, z, y, x): a teacher's best channel, second best, and the best's share, on a case's grid.

    Args:
        volume: the scan itself, so that the teacher sees it as finely as it wishes.
        predictor: the teacher.
        recipe: whose grid and channels.
        case: which part of the grid is kept.
    """
    own = Grid.fit(volume.shape, volume.affine, recipe.bundle())
    grid, slabs = predictor.score(volume)
    first = [(a - b) / s for a, b, s in zip(own.first, grid.first, grid.step, strict=True)]
    step = [a / b for a, b in zip(own.step, grid.step, strict=True)]
    z, y, x = (Taps.linear(*axis) for axis in zip(grid.shape, own.shape, first, step, strict=True))
    (top, left), (_, height, width) = case.corner, case.shape
    result = np.empty((3, *case.shape), dtype=np.uint8)
    table = _channels(predictor.bundle, recipe)
    for row, scores in enumerate(_rows(slabs, z)):
        fine = x.columns(y.rows(scores))[:, top : top + height, left : left + width]
        fine -= fine.max(axis=0)
        np.exp(fine, out=fine)
        ours = np.zeros((len(recipe.labels), height, width), dtype=np.float32)
        np.add.at(ours, table, fine)
        best = ours.argmax(axis=0)
        highest = np.take_along_axis(ours, best[None], axis=0)
        np.put_along_axis(ours, best[None], -1.0, axis=0)
        second = ours.argmax(axis=0)
        next_ = np.take_along_axis(ours, second[None], axis=0)
        share = highest / (highest + next_)
        result[:, row] = np.stack([best, second, np.rint(share[0] * 255).astype(np.intp)])
    return result


def _rows(slabs: Iterator[ScoreSlab], z: Taps) -> Iterator[Scores]:
    """The teacher's scores (C, Y, X) at each slice of the student's grid, in order."""
    row, before = 0, None
    for start, scores in slabs:
        end = start + scores.shape[1]
        while row < z.index.shape[1] and z.index[1, row] < end:
            planes = [
                (before if p < start else scores[:, p - start]).astype(np.float32)  # type: ignore[union-attr]
                for p in z.index[:, row]
            ]
            yield planes[0] * z.weight[0, row] + planes[1] * z.weight[1, row]
            row += 1
        before = scores[:, -1].copy()


def _channels(teacher: Bundle, recipe: Recipe) -> NDArray[np.intp]:
    """The student's channel of each of the teacher's; background where it has none."""
    own = {name: channel for channel, name in enumerate(recipe.labels)}
    return np.array([own.get(name, 0) for name in teacher.labels], dtype=np.intp)
