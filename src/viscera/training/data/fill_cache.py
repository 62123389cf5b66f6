"""Filling a cache: scans and labels read, brought onto the network's grid, cropped to the body."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Bundle
from viscera.core.label_schemes import UNLABELLED
from viscera.core.volume import Labels, Volume
from viscera.errors import InputError, VisceraError
from viscera.grid.grid import Grid
from viscera.localise.body import body_box
from viscera.localise.ct_checks import check_volume
from viscera.runtime.atomic_files import atomic_write, check_writable
from viscera.runtime.digests import digest_of
from viscera.training.data.cache import IGNORED, LEVELS, CachedCase, TrainingCache, open_cache
from viscera.training.data.cases import TrainingCase
from viscera.training.recipe import Recipe

_POINTS = 400  # kept of each organ
_BODY_SHARE = 0.35  # of the window; above is body


def fill_cache(
    folder: Path,
    recipe: Recipe,
    cases: Sequence[TrainingCase],
    on_progress: Callable[[int], None] = lambda _completed: None,
) -> TrainingCache:
    """Put these cases into a cache, those that it holds already left out.

    Args:
        folder: of the cache; made where it is missing.
        recipe: whose grid.
        cases: what to put in.
        on_progress: takes the number of cases done.

    Returns:
        The cache with these cases only, in their order.

    Raises:
        InputError: a scan or its labels are unreadable or do not belong together.
        OutputError: not writable, or a cache of another grid.
    """
    check_writable(folder / "cache.json")
    cache = open_cache(folder, recipe.grid_digest)
    bundle = window_share_bundle(recipe)
    by_name: dict[str, CachedCase] = {case.name: case for case in cache.cases}
    for number, case in enumerate(cases):
        digest = _case_digest(case)
        cached = by_name.get(case.name)
        if cached is None or cached.digest != digest:
            by_name[case.name] = _cache_case(folder, bundle, case, digest)
            replace(cache, cases=(by_name[case.name],)).save()
        else:  # what only weighs a case may change without its voxels
            by_name[case.name] = replace(
                cached,
                patient=case.patient,
                weight=case.weight,
                pseudo=case.pseudo,
                part=case.part,
                use_teacher=case.use_teacher,
            )
        on_progress(number + 1)
    result = replace(cache, cases=tuple(by_name[case.name] for case in cases))
    result.save()
    return result


def _case_digest(case: TrainingCase) -> str:
    """All that shapes a case's files: both sources, and how the labels are read."""
    # Imported here: training from a finished cache needs no reader.
    from viscera.io.content_digest import content_digest

    sources = [content_digest(case.image), content_digest(case.labels)]
    reading = [case.label_scheme, case.unlabelled, case.excluded_organs]
    return f"{digest_of(*sources, *reading)[:8]} {sources[0]}"


def window_share_bundle(recipe: Recipe) -> Bundle:
    """The recipe's bundle with intensities as shares of the window."""
    return replace(recipe.bundle(), input=replace(recipe.input, mean_hu=None, std_hu=None))


def _cache_case(folder: Path, bundle: Bundle, case: TrainingCase, digest: str) -> CachedCase:
    from viscera.io.read import read_volume

    volume = read_volume(case.image)
    check_volume(volume, strict=True)  # a network cannot learn on a sheared grid
    labels = read_training_labels(case, volume, bundle.labels)
    grid = Grid.fit(volume.shape, volume.affine, bundle)
    shares = grid.forward(grid.orientation.planes(volume))
    image = np.rint(shares * LEVELS).astype(np.uint8)
    truth = grid.nearest(labels)
    affine = grid.affine(volume.affine).matrix.copy()
    corner = 0, 0
    if bundle.patch is not None:  # slices keep their whole field of view
        labelled = ((truth > 0) & (truth != IGNORED)).any(axis=0)
        y, x = body_box(image > LEVELS * _BODY_SHARE, grid.spacing_mm[1:], labelled)
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
        use_teacher=case.use_teacher,
        scan_digest=digest.split()[1],
        digest=digest,
        shape=truth.shape,
        spacing_mm=tuple(round(s, 6) for s in grid.spacing_mm),  # type: ignore[arg-type]
        affine=tuple(affine.ravel().tolist()),
        annotated=_annotated_organs(case, bundle),
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


def _annotated_organs(case: TrainingCase, bundle: Bundle) -> tuple[str, ...]:
    """Organs of the network that the labels can express and that are not excluded."""
    expressed = {organ.name for organ in case.label_scheme.organs} - set(case.excluded_organs)
    return tuple(name for name in bundle.labels[1:] if name in expressed)


def read_training_labels(case: TrainingCase, volume: Volume, channels: Sequence[str]) -> Labels:
    """A case's labels on its scan's grid [i, j, k], as channels of the network's scores.

    Voxels that nobody labelled, and those of excluded organs, are 255.

    Args:
        case: where they are, and what they annotate.
        volume: the case's scan.
        channels: what each channel means, background first.

    Raises:
        InputError: unreadable, another grid, or values that the label scheme does not contain.
    """
    from viscera.grid.reorient import reorient_label_map
    from viscera.io.read import read_labels

    stored = read_labels(case.labels).rounded()
    owner = f"{case.image.name}'s"
    stored = reorient_label_map(stored, volume.shape, volume.affine, owner=owner, where=case.labels)
    unlabelled = np.isin(stored.values, case.unlabelled)
    values = np.where(unlabelled, 0, stored.values) if unlabelled.any() else stored.values
    try:
        organs = case.label_scheme.to_organs(values, where=case.labels)
    except VisceraError as error:
        raise InputError(
            error.expected, found=f"{error.found} in case {case.name}", remedy=error.remedy,
            where=case.labels,
        ) from error  # fmt: skip
    table = np.zeros(256, dtype=np.uint8)
    by_name = case.label_scheme.table.by_name
    for channel, name in enumerate(channels):
        if channel:
            table[by_name[name].id] = channel
    for name in case.excluded_organs:
        table[by_name[name].id] = IGNORED
    table[UNLABELLED] = IGNORED
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
