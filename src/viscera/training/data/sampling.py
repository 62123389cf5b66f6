"""Which samples make a step. Everything random follows from the seed, the step and the process.

So a training that is resumed draws what it would have drawn, and nothing has to be remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.errors import InputError
from viscera.inference.windows import mirror_indices
from viscera.training.data.cache import IGNORED, CachedCase
from viscera.training.recipe import Recipe

_MOST_KEPT_BYTES = 1 << 30  # of decompressed labels
_BEYOND = 8  # patches reach beyond the body by up to this part of their size


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """Samples of one step, as they lie in the cache.

    Attributes:
        image: (N, D, y, x) uint8, the window from 0 to 255; D is a slice network's stack.
        labels: (N, d, y, x) uint8 channels, 255 where no loss looks; d is 1 for slice networks.
        annotated: (N, classes) which channels the labels annotate; background always.
        weight: (N,) of each sample in the loss.
        spacing_mm: (N, 3) of z, y, x.
        size: y, x or z, y, x that the network shall see; the arrays are larger where their grid
            is finer.
        teacher: (N, 3, d, y, x) uint8, see `viscera.training.data.teacher`; None without one.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    annotated: NDArray[np.bool_]
    weight: NDArray[np.float32]
    spacing_mm: NDArray[np.float32]
    size: tuple[int, ...]
    teacher: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, samples: Sequence[SampleBatch]) -> SampleBatch:
        """Samples of one, together; their arrays lack the first axis."""
        together: dict[str, Any] = {}
        for field in fields(cls):
            parts = [getattr(sample, field.name) for sample in samples]
            is_array = isinstance(parts[0], np.ndarray)
            together[field.name] = np.stack(parts) if is_array else parts[0]
        return cls(**together)


class _SampleWindow(NamedTuple):
    """What a sample shows: y, x or z, y, x.

    Attributes:
        size: voxels that the network sees.
        cut: voxels of the cache's grid that become these.
    """

    size: tuple[int, ...]
    cut: tuple[int, ...]


class Sampler:
    """Draws batches from a cache."""

    def __init__(self, cases: Sequence[CachedCase], recipe: Recipe) -> None:
        """Look at what there is.

        Args:
            cases: to train on.
            recipe: how.

        Raises:
            InputError: there is nothing to draw from.
        """
        self._cases, self._recipe = tuple(cases), recipe
        self._labels, self._lock = OrderedDict[tuple[str, str], NDArray[np.uint8]](), Lock()
        points = [case.points() for case in self._cases]
        # Of each organ: the cases that show it, and its voxels there.
        self._organs: list[list[tuple[int, NDArray[np.uint16]]]] = []
        for channel in range(1, len(recipe.labels)):
            cases_with = [(n, p[p[:, 0] == channel, 1:]) for n, p in enumerate(points)]
            cases_with = [
                (n, points_of_case) for n, points_of_case in cases_with if len(points_of_case)
            ]
            if cases_with:
                self._organs.append(cases_with)
        only = recipe.data.labelled_slices_only
        self._slices = [
            (n, z)
            for n, case in enumerate(self._cases)
            for z in (case.labelled_slices if only else range(case.shape[0]))
        ]
        if not self._slices:
            raise InputError(
                "at least one slice to train on",
                found=f"{len(self._cases)} cases without a labelled slice",
                remedy="add data, or set data.labelled_slices_only to false",
            )
        self._orders: dict[int, NDArray[np.intp]] = {}
        self._teacher = recipe.loss.distillation > 0

    @property
    def slices(self) -> int:
        """Samples that a slice network sees in one epoch."""
        return len(self._slices)

    def batch(self, step: int, *, rank: int = 0, world: int = 1) -> SampleBatch:
        """The samples of one step for one of several processes.

        Args:
            step: counted from 0 over the whole training.
            rank: number of this process.
            world: number of processes.
        """
        count = self._recipe.optimisation.batch // world
        numbers = (step * count * world + rank * count + n for n in range(count))
        window = self._window(step)
        samples = [self._sample(number, window) for number in numbers]
        return SampleBatch.of(samples)

    def _window(self, step: int) -> _SampleWindow:
        """What one step cuts: all its samples alike, so that they form one batch."""
        recipe = self._recipe
        if recipe.patch is None:
            assert recipe.slices is not None  # a recipe has one or the other
            size: tuple[int, ...] = recipe.slices.size[::-1]
            return _SampleWindow(size, size)
        rng = np.random.default_rng([recipe.optimisation.seed, 3, step])
        sizes = recipe.data.patch_sizes or (recipe.patch.size,)
        size = sizes[rng.integers(len(sizes))][::-1]
        factor = rng.uniform(1, recipe.data.coarsest)
        return _SampleWindow(size, tuple(round(n * factor) for n in size))

    def _sample(self, number: int, window: _SampleWindow) -> SampleBatch:
        """The sample of this number, counted over all steps and processes."""
        recipe = self._recipe
        rng = np.random.default_rng([recipe.optimisation.seed, 1, number])
        case, centre = self._place(number, rng, window)
        cached = self._cases[case]
        if recipe.slices is not None:
            reach = recipe.slices.stack // 2
            planes = np.clip(
                np.arange(centre[0] - reach, centre[0] + reach + 1), 0, cached.shape[0] - 1
            )
            size = window.cut
            starts = [(n - length) // 2 for n, length in zip(cached.shape[1:], size, strict=True)]
            label_planes = planes[reach : reach + 1]
        else:
            depth, size = window.cut[0], window.cut[1:]
            z, *starts = map(_window_start, centre, window.cut, cached.shape)
            label_planes = planes = np.arange(z, z + depth)
        box = [_intersection(*axis) for axis in zip(starts, size, cached.shape[1:], strict=True)]
        image = self._cut(cached.image(), planes, box, size)
        labels = self._cut(self._kept(case, "labels.z"), label_planes, box, size)
        labels[(label_planes < 0) | (label_planes >= cached.shape[0])] = (
            IGNORED  # no prediction there is ever used
        )
        if recipe.patch is not None and recipe.patch.extend_z == "pad":
            image[(planes < 0) | (planes >= cached.shape[0])] = 0
        annotated = np.array([name in ("background", *cached.annotated) for name in recipe.labels])
        teacher = None
        if self._teacher and cached.use_teacher:
            teacher_arrays = self._kept(case, "teacher.z")
            teacher = np.stack(
                [self._cut(part, label_planes, box, size) for part in teacher_arrays]
            )
        elif self._teacher:
            teacher = np.full((3, *labels.shape), IGNORED, np.uint8)
        weight, spacing_mm = (np.array(v, np.float32) for v in (cached.weight, cached.spacing_mm))
        return SampleBatch(image, labels, annotated, weight, spacing_mm, window.size, teacher)

    def _place(
        self, number: int, rng: np.random.Generator, window: _SampleWindow
    ) -> tuple[int, tuple[int, ...]]:
        """Which case, and where in it: z, y, x."""
        recipe = self._recipe
        if self._organs and rng.random() < recipe.data.organ_share:
            cases_with = self._organs[rng.integers(len(self._organs))]
            case, points = cases_with[rng.integers(len(cases_with))]
            point = points[rng.integers(len(points))].astype(int)
            if recipe.patch is not None:  # anywhere in the patch, not in its middle always
                half = np.array(window.cut) // 2 * 0.8
                point = point + rng.uniform(-half, half).astype(int)
            return case, tuple(point.tolist())
        if recipe.slices is not None:
            epoch, place = divmod(number, len(self._slices))
            case, z = self._slices[self._order(epoch)[place]]
            return case, (z, 0, 0)
        case = int(rng.integers(len(self._cases)))
        shape = self._cases[case].shape
        return case, tuple(int(rng.integers(n)) for n in shape)

    def _order(self, epoch: int) -> NDArray[np.intp]:
        """In which order an epoch shows the slices."""
        order = self._orders.get(epoch)
        if order is None:  # several threads may make it together: they make the same
            rng = np.random.default_rng([self._recipe.optimisation.seed, 2, epoch])
            order = rng.permutation(len(self._slices))
            self._orders = {epoch: order}
        return order

    def _kept(self, case: int, kind: str) -> NDArray[np.uint8]:
        """A decompressed array of a case; the least used ones are forgotten."""
        cached = self._cases[case]
        key = (cached.name, kind)
        with self._lock:
            if key not in self._labels:
                self._labels[key] = cached.unpacked(kind)
                while len(self._labels) > 1 and self._kept_bytes() > _MOST_KEPT_BYTES:
                    self._labels.popitem(last=False)
            self._labels.move_to_end(key)
            return self._labels[key]

    def _kept_bytes(self) -> int:
        return sum(array.nbytes for array in self._labels.values())

    @staticmethod
    def _cut(
        array: NDArray[np.uint8],
        planes: NDArray[np.intp],
        box: Sequence[tuple[slice, slice]],
        size: Sequence[int],
    ) -> NDArray[np.uint8]:
        """These planes of an array [z, y, x], mirrored beyond its ends, cut or padded in plane."""
        result = np.zeros((len(planes), *size), dtype=np.uint8)
        (from_y, to_y), (from_x, to_x) = box
        mirrored = mirror_indices(planes, len(array))
        result[:, to_y, to_x] = array[mirrored][:, from_y, from_x]
        return result


def _window_start(centre: int, size: int, length: int) -> int:
    """Where a window about a point begins on an axis: not far beyond its ends, as when segmenting.

    An axis that is shorter than the window lies in its middle.
    """
    if length <= size:
        return -((size - length) // 2)
    beyond = size // _BEYOND
    return min(max(centre - size // 2, -beyond), length - size + beyond)


def _intersection(start: int, size: int, length: int) -> tuple[slice, slice]:
    """Where a window and an axis meet: on the axis, in the window."""
    low, high = max(0, start), min(length, start + size)
    return slice(low, high), slice(low - start, high - start)
