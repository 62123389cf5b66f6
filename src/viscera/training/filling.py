"""Filling a cache: scans and labels read, brought onto the network's grid, cropped to the body."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from viscera.bundle import Bundle
from viscera.checks import check_volume
from viscera.errors import InputError, VisceraError
from viscera.grid import Grid
from viscera.grid.body import body_rows
from viscera.io.atomic import atomic_write, check_writable
from viscera.organs import BY_NAME
from viscera.training.cache import IGNORED, LEVELS, Cache, CachedCase, open_cache
from viscera.training.cases import TrainingCase
from viscera.training.recipe import Recipe
from viscera.volume import Labels, Volume

_POINTS = 400  # kept of each organ
_BODY_SHARE = 0.35  # of the window; above is body


def fill_cache(
    folder: Path,
    recipe: Recipe,
    cases: Sequence[TrainingCase],
    tell: Callable[[int], None] = lambda _done: None,
) -> Cache:
    """Put these cases into a cache, those that stand there already left out.

    Args:
        folder: of the cache; made where it is missing.
        recipe: whose grid.
        cases: what to put in.
        tell: takes the number of cases done.

    Returns:
        The cache with these cases only, in their order.

    Raises:
        InputError: a scan or its labels are unreadable or do not belong together.
        OutputError: not writable, or a cache of another grid.
    """
    check_writable(folder / "cache.json")
    cache = open_cache(folder, recipe.grid_mark)
    bundle = as_shares(recipe)
    done: dict[str, CachedCase] = {case.name: case for case in cache.cases}
    for number, case in enumerate(cases):
        marked = _mark(case)
        before = done.get(case.name)
        if before is None or before.marked != marked:
            done[case.name] = _fill(folder, bundle, case, marked)
            replace(cache, cases=(done[case.name],)).save()
        else:  # what only weighs a case may change without its voxels
            done[case.name] = replace(
                before,
                patient=case.patient,
                weight=case.weight,
                pseudo=case.pseudo,
                part=case.part,
                taught=case.taught,
            )
        tell(number + 1)
    filled = replace(cache, cases=tuple(done[case.name] for case in cases))
    filled.save()
    return filled


def _mark(case: TrainingCase) -> str:
    """All that shapes a case's files: both sources, and how the labels are read."""
    # Imported here: training from a finished cache needs no reader.
    from viscera.io import fingerprint

    sources = [fingerprint(case.image), fingerprint(case.labels)]
    how = [case.labels_follow, case.unlabelled, case.distrusted]
    return f"{zlib.crc32(repr([*sources, *how]).encode()):08x} {sources[0]}"


def as_shares(recipe: Recipe) -> Bundle:
    """The recipe's bundle with intensities as shares of the window."""
    return replace(recipe.bundle(), input=replace(recipe.input, mean_hu=None, std_hu=None))


def _fill(folder: Path, bundle: Bundle, case: TrainingCase, marked: str) -> CachedCase:
    from viscera.io import read_volume

    volume = read_volume(case.image)
    check_volume(volume, strict=True)  # a sheared grid is no grid to learn on
    labels = read_training_labels(case, volume, bundle)
    grid = Grid.fit(volume.shape, volume.affine, bundle)
    shares = grid.forward(grid.orientation.planes(volume))
    image = np.rint(shares * LEVELS).astype(np.uint8)
    truth = grid.nearest(labels)
    affine = grid.affine(volume.affine).matrix.copy()
    corner = 0, 0
    if bundle.patch is not None:  # slices keep their whole field of view
        shown = ((truth > 0) & (truth != IGNORED)).any(axis=0)
        y, x = body_rows(image > LEVELS * _BODY_SHARE, grid.spacing_mm[1:], shown)
        image, truth = image[:, y, x], truth[:, y, x]
        affine[:3, 3] += affine[:3, :3] @ (x.start, y.start, 0)
        corner = y.start, x.start
    truth = np.ascontiguousarray(truth)
    present = np.bincount(truth.ravel(), minlength=256)
    organs = [(channel, name) for channel, name in enumerate(bundle.labels) if channel]
    cached = CachedCase(
        name=case.name,
        patient=case.patient,
        weight=case.weight,
        pseudo=case.pseudo,
        part=case.part,
        taught=case.taught,
        contents=marked.split()[1],
        marked=marked,
        shape=truth.shape,
        spacing_mm=tuple(round(s, 6) for s in grid.spacing_mm),  # type: ignore[arg-type]
        affine=tuple(affine.ravel().tolist()),
        annotated=_annotated(case, bundle),
        voxels={name: int(present[channel]) for channel, name in organs if present[channel]},
        labelled_slices=tuple(
            np.flatnonzero(((truth > 0) & (truth != IGNORED)).any(axis=(1, 2))).tolist()
        ),
        corner=corner,
        folder=folder,
    )
    with atomic_write(cached.file("image.npy"), overwrite=True) as file:
        np.save(file, np.ascontiguousarray(image))
    with atomic_write(cached.file("labels.z"), overwrite=True) as file:
        file.write(zlib.compress(truth.tobytes(), 6))
    with atomic_write(cached.file("points.npy"), overwrite=True) as file:
        np.save(file, _points(truth, [channel for channel, _ in organs]))
    return cached


def _annotated(case: TrainingCase, bundle: Bundle) -> tuple[str, ...]:
    """Organs of the network that the labels can express and that are not distrusted."""
    spoken = {organ.name for organ in case.labels_follow.organs} - set(case.distrusted)
    return tuple(name for name in bundle.labels[1:] if name in spoken)


def read_training_labels(case: TrainingCase, volume: Volume, bundle: Bundle) -> Labels:
    """A case's labels on its scan's grid [i, j, k], as channels of the network's scores.

    Voxels that nobody labelled, and those of organs that are not to be believed, are 255.

    Raises:
        InputError: unreadable, another grid, or values that the convention does not know.
    """
    from viscera.io import read_labels
    from viscera.matching import bring

    stored = read_labels(case.labels)
    whose = f"{case.image.name}'s"
    stored = bring(stored, volume.shape, volume.affine, whose=whose, where=case.labels)
    unlabelled = np.isin(stored.values, case.unlabelled)
    known = np.where(unlabelled, 0, stored.values) if unlabelled.any() else stored.values
    try:
        organs = case.labels_follow.to_organs(known, where=case.labels)
    except VisceraError as error:
        raise InputError(
            error.expected, found=f"{error.found} in case {case.name}", remedy=error.remedy,
            where=case.labels,
        ) from error  # fmt: skip
    table = np.zeros(256, dtype=np.uint8)
    for channel, name in enumerate(bundle.labels):
        if channel:
            table[BY_NAME[name].id] = channel
    for name in case.distrusted:
        table[BY_NAME[name].id] = IGNORED
    labels: Labels = table[organs]
    labels[unlabelled] = IGNORED
    return labels


def _points(truth: Labels, channels: Sequence[int]) -> NDArray[np.uint16]:
    """Random voxels of each organ: (n, 4) channel, z, y, x."""
    rng = np.random.default_rng(0)
    rows = []
    for channel in channels:
        where = np.flatnonzero(truth == channel)
        if where.size:
            chosen = np.sort(rng.permutation(where)[:_POINTS])
            place = np.stack(np.unravel_index(chosen, truth.shape), axis=1)
            rows.append(np.insert(place, 0, channel, axis=1))
    return np.concatenate(rows).astype(np.uint16) if rows else np.zeros((0, 4), np.uint16)
