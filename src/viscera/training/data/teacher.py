"""Soft scores of a teacher, cached: what distillation learns from, computed once.

``CASE.teacher.z`` holds three arrays of the case's shape: the teacher's best channel, its second
best, and the best's probability among the two, 0 to 255. That is a tenth of all its scores, and
nearly all of what they say.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Bundle
from viscera.core.volume import Volume
from viscera.errors import BundleError
from viscera.grid.grid import Grid
from viscera.grid.resample import Taps
from viscera.grid.slab_windows import slab_windows
from viscera.io.read import read_volume
from viscera.predictor import Predictor
from viscera.runtime.atomic_files import atomic_write
from viscera.training.data.cache import CachedCase, TrainingCache
from viscera.training.data.cases import TrainingCase
from viscera.training.recipe import Recipe


def fill_teacher(
    cache: TrainingCache,
    cases: Sequence[TrainingCase],
    recipe: Recipe,
    predictor: Predictor,
    on_progress: Callable[[int], None] = lambda _completed: None,
) -> TrainingCache:
    """Add a teacher's soft scores to every case that lacks them.

    Args:
        cache: filled with these cases.
        cases: for their scans.
        recipe: gives the grid.
        predictor: the teacher.
        on_progress: takes the number of cases done.

    Returns:
        The cache with the digest of the teacher in each case.

    Raises:
        BundleError: the teacher sees scans in another orientation than the recipe.
        InputError: a scan is unreadable.
    """
    orientation = predictor.bundle.input.orientation
    if orientation != recipe.input.orientation:
        raise BundleError(
            f"a teacher of orientation {recipe.input.orientation}",
            found=orientation,
            remedy="choose another, or change input.orientation in the recipe",
            where=predictor.bundle.folder,
        )
    images = {case.name: case.image for case in cases}
    cached_cases = list(cache.cases)
    for number, case in enumerate(cached_cases):
        digest = f"{predictor.signature()} {case.scan_digest}"
        if case.teacher != digest:  # of all cases, so that using it can be changed at no cost
            scores = teacher_scores(read_volume(images[case.name]), predictor, recipe, case)
            with atomic_write(case.file("teacher.z"), overwrite=True) as file:
                file.write(zlib.compress(scores.tobytes(), 6))
            cached_cases[number] = replace(case, teacher=digest)
            replace(cache, cases=(cached_cases[number],)).save()
        on_progress(number + 1)
    return replace(cache, cases=tuple(cached_cases))


def teacher_scores(
    volume: Volume, predictor: Predictor, recipe: Recipe, case: CachedCase
) -> NDArray[np.uint8]:
    """(3, z, y, x): a teacher's best channel, second best, and the best's share, on a case's grid.

    Args:
        volume: the scan itself, so that the teacher sees it on its own grid.
        predictor: the teacher.
        recipe: grid and channels of the student.
        case: which part of the grid is cached.
    """
    student_grid = Grid.fit(volume.shape, volume.affine, recipe.bundle())
    teacher_grid, slabs = predictor.predict_scores(volume)
    z, y, x = (
        Taps.linear(
            teacher.length,
            student.length,
            (student.first - teacher.first) / teacher.step,
            student.step / teacher.step,
        )
        for student, teacher in zip(student_grid.axes, teacher_grid.axes, strict=True)
    )
    (top, left), (_, height, width) = case.corner, case.shape
    channels = _student_channels(predictor.bundle, recipe)
    result = np.empty((3, *case.shape), dtype=np.uint8)
    for window in slab_windows(slabs, z):
        for plane in window.planes:
            scores = x.columns(y.rows(window.scores_at(plane)))
            scores = scores[:, top : top + height, left : left + width]
            result[:, plane.number] = _best_two(scores, channels, len(recipe.labels))
    return result


def _best_two(
    scores: NDArray[np.float32], channels: NDArray[np.intp], classes: int
) -> NDArray[np.intp]:
    """(3, y, x): best channel, second best, and the best's probability among them, 0 to 255.

    Args:
        scores: (C, y, x) of the teacher.
        channels: the student's channel of each of the teacher's.
        classes: channels of the student.
    """
    exponentials = np.exp(scores - scores.max(axis=0))
    shares = np.zeros((classes, *scores.shape[1:]), dtype=np.float32)
    np.add.at(shares, channels, exponentials)
    best = shares.argmax(axis=0)
    best_share = np.take_along_axis(shares, best[None], axis=0)[0]
    np.put_along_axis(shares, best[None], -1.0, axis=0)
    second = shares.argmax(axis=0)
    second_share = np.take_along_axis(shares, second[None], axis=0)[0]
    probability = best_share / (best_share + second_share)
    return np.stack([best, second, np.rint(probability * 255).astype(np.intp)])


def _student_channels(teacher: Bundle, recipe: Recipe) -> NDArray[np.intp]:
    """The student's channel of each of the teacher's; background where it has none."""
    channel_of = {name: channel for channel, name in enumerate(recipe.labels)}
    return np.array([channel_of.get(name, 0) for name in teacher.labels], dtype=np.intp)
