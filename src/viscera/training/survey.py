"""A survey of a data set: grids, and size and density of its structures, from a few cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from viscera.core.organs import LabelTable
from viscera.errors import InputError
from viscera.grid.orientation import Orientation
from viscera.training.data.cache import IGNORED
from viscera.training.data.cases import TrainingCase
from viscera.training.data.fill_cache import read_training_labels

_SAMPLES = 20_000  # voxels of the foreground of a case
_WINDOW_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class StructureSurvey:
    """One structure in the cases that were looked at.

    Attributes:
        cases: that show it.
        volume_ml: the median.
        thickness_mm: the median of 6 V / A, about the diameter of a tube; A is of voxel faces.
        mean_hu: over all its voxels that were sampled.
    """

    cases: int
    volume_ml: float
    thickness_mm: float
    mean_hu: float


@dataclass(frozen=True)
class DataSurvey:
    """What a data set is like.

    Attributes:
        cases: all of them.
        patients: how many.
        surveyed: cases that were looked at.
        spacing_mm: the medians, x, y, z of LPS.
        size_mm: the medians.
        foreground_hu: the percentiles 0.5 and 99.5 of all structures.
        mean_hu: of them.
        std_hu: of them.
        structures: by name.
    """

    cases: int
    patients: int
    surveyed: int
    spacing_mm: tuple[float, float, float]
    size_mm: tuple[float, float, float]
    foreground_hu: tuple[float, float]
    mean_hu: float
    std_hu: float
    structures: dict[str, StructureSurvey]


def survey_data(
    cases: Sequence[TrainingCase],
    table: LabelTable,
    labels: Sequence[str],
    *,
    most_cases: int = 20,
    on_progress: Callable[[int, int], None] = lambda _completed, _all: None,
) -> DataSurvey:
    """Look at a data set, or at every n-th case of a large one.

    Args:
        cases: of the data set.
        table: of its labels.
        labels: of the network that is to be, background first.
        most_cases: that are read.
        on_progress: takes how many are read, and of how many.

    Raises:
        InputError: a case cannot be read, or none shows any structure.
    """
    from viscera.io.read import read_volume

    step = -(-len(cases) // most_cases)
    chosen = cases[::step]
    rng = np.random.default_rng(0)
    grids, sizes, samples = [], [], []
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in labels[1:]}
    hu_of: dict[str, list[NDArray[np.float32]]] = {name: [] for name in labels[1:]}
    for number, case in enumerate(chosen):
        volume = read_volume(case.image)
        channels = read_training_labels(case, volume, labels)
        orientation = Orientation.fit(volume.affine, "LPS")
        spacing = orientation.reorder(volume.affine.spacing_mm)[::-1]
        shape = orientation.view(channels).shape[::-1]
        grids.append(spacing)
        sizes.append(tuple(n * mm for n, mm in zip(shape, spacing, strict=True)))
        for name, size in _sizes(channels, volume.affine.spacing_mm, labels).items():
            measured[name].append(size)
        every_channel = channels.ravel(order="F")
        where = np.flatnonzero((every_channel > 0) & (every_channel != IGNORED))
        if where.size:
            where = rng.choice(where, min(_SAMPLES, where.size), replace=False)
            hu = volume.data.ravel(order="F")[where].astype(np.float32)
            samples.append(hu)
            for channel, name in enumerate(labels):
                if channel and (of_channel := every_channel[where] == channel).any():
                    hu_of[name].append(hu[of_channel])
        on_progress(number + 1, len(chosen))
    if not samples:
        raise InputError(
            f"cases that show structures of {table.name}",
            found=f"none among {len(chosen)}",
            remedy="check the labels, or name what they mean in dataset.json",
            where=cases[0].labels,
        )
    foreground = np.concatenate(samples)
    low, high = np.percentile(foreground, _WINDOW_PERCENTILES)
    return DataSurvey(
        len(cases),
        len({case.patient for case in cases}),
        len(chosen),
        _medians(grids),
        _medians(sizes),
        (float(low), float(high)),
        float(foreground.mean()),
        float(foreground.std()),
        {
            name: StructureSurvey(
                len(sizes_of),
                float(np.median([ml for ml, _ in sizes_of])),
                float(np.median([mm for _, mm in sizes_of])),
                float(np.concatenate(hu_of[name]).mean()) if hu_of[name] else float("nan"),
            )
            for name, sizes_of in measured.items()
            if sizes_of
        },
    )


def _sizes(
    channels: NDArray[np.uint8], spacing_mm: tuple[float, float, float], labels: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Millilitres and thickness of each structure that is present."""
    voxels = np.bincount(channels.ravel(order="K"), minlength=256)
    voxel_mm3 = float(np.prod(spacing_mm))
    area_mm2 = np.zeros(256)
    for axis, step_mm in enumerate(spacing_mm):
        lines = np.moveaxis(channels, axis, 0)
        for low, high in pairwise(lines):
            differs = low != high
            faces = np.bincount(low[differs], minlength=256) + np.bincount(
                high[differs], minlength=256
            )
            area_mm2 += faces * (voxel_mm3 / step_mm)
    return {
        name: (
            float(voxels[channel]) * voxel_mm3 / 1000,
            6 * float(voxels[channel]) * voxel_mm3 / max(float(area_mm2[channel]), 1e-9),
        )
        for channel, name in enumerate(labels)
        if channel and voxels[channel]
    }


def _medians(rows: Sequence[tuple[float, ...]]) -> tuple[float, float, float]:
    x, y, z = np.median(np.array(rows), axis=0).tolist()
    return x, y, z
