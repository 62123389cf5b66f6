"""Grid: all geometry and intensity between one scan and one network, forward and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.bundle import Bundle, Input
from viscera.grid.orientation import Orientation
from viscera.grid.resample import Taps, upsample_argmax
from viscera.volume import Hu, Labels

# A run of finished slices of the network's grid: the first one's number and (C, n, Y, X) scores.
ScoreSlab = tuple[int, NDArray[Any]]
Map = Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]


@dataclass(frozen=True, eq=False)
class Grid:
    """How a scan's voxels become the network's, and its scores the scan's labels.

    Everything between is in the frame [z, y, x] of the network's orientation.

    Attributes:
        orientation: from [i, j, k] to [z, y, x].
        source_shape: z, y, x voxels of the scan.
        shape: z, y, x voxels of the network's grid that cover the scan.
        spacing_mm: z, y, x of the network's grid.
        settings: window and normalisation.
        first: z, y, x position of the network's first voxel, in voxels of the scan.
        step: z, y, x distance of the network's voxels, in voxels of the scan.
        into: taps of z, y, x from the scan to the network's grid.
        back: linear taps of z, y, x from the network's grid to the scan.
    """

    orientation: Orientation
    source_shape: tuple[int, int, int]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    settings: Input
    first: tuple[float, float, float]
    step: tuple[float, float, float]
    into: tuple[Taps, Taps, Taps]
    back: tuple[Taps, Taps, Taps]

    @classmethod
    def fit(cls, shape: tuple[int, int, int], affine: Affine, bundle: Bundle) -> Grid:
        """The grid on which a bundle's network sees a scan of this shape [i, j, k] and affine."""
        settings = bundle.input
        orientation = Orientation.fit(affine, settings.orientation)
        source_shape = tuple(int(n) for n in orientation.reorder(shape))
        source_mm = orientation.reorder(affine.spacing_mm)
        if settings.spacing_mm is None:
            assert bundle.slices is not None  # a bundle without spacing has slices
            x, y = bundle.slices.size
            new = (source_shape[0], y, x)
            steps = tuple(old / n for old, n in zip(source_shape, new, strict=True))
        else:
            # x, y or x, y, z in the bundle; a slice network keeps the scan's own slices.
            target_mm = (*settings.spacing_mm, source_mm[0])[2::-1]
            steps = tuple(t / s for t, s in zip(target_mm, source_mm, strict=True))
            new = tuple(  # type: ignore[assignment]
                max(1, round(n / step)) for n, step in zip(source_shape, steps, strict=True)
            )
        first = tuple(
            0.0 if settings.align == "first" else (old - 1 - (n - 1) * step) / 2
            for old, n, step in zip(source_shape, new, steps, strict=True)
        )
        kind = Taps.area if settings.interpolation == "area" else Taps.linear
        axes = list(zip(source_shape, new, first, steps, strict=True))
        into = tuple(kind(old, n, at, step) for old, n, at, step in axes)
        back = tuple(Taps.linear(n, old, -at / step, 1 / step) for old, n, at, step in axes)
        spacing_mm = tuple(s * step for s, step in zip(source_mm, steps, strict=True))
        triples: dict[str, Any] = {
            "source_shape": source_shape,
            "shape": new,
            "spacing_mm": spacing_mm,
            "first": first,
            "step": steps,
            "into": into,
            "back": back,
        }
        return cls(orientation=orientation, settings=settings, **triples)

    @property
    def lowest(self) -> float:
        """The network's value of the window's lower end, which stands for air."""
        offset, divisor = self.settings.scale
        return (self.settings.window_hu[0] - offset) / divisor

    def forward(self, source: Hu, planes: Iterable[int]) -> NDArray[np.float32]:
        """Windowed, resampled, normalised slices of the network's grid.

        Args:
            source: the scan as [i, j, k] HU.
            planes: slice numbers along the network's z.

        Returns:
            (n, Y, X) float32, ready for the network.
        """
        zyx = self.orientation.view(source)
        z, y, x = self.into
        offset, divisor = self.settings.scale
        planes = list(planes)
        result = np.empty((len(planes), *self.shape[1:]), dtype=np.float32)
        for row, plane in enumerate(planes):
            mixed = None
            for index, weight in zip(z.index[:, plane], z.weight[:, plane], strict=True):
                if weight:
                    part = np.clip(zyx[index], *self.settings.window_hu).astype(np.float32)
                    mixed = part * weight if mixed is None else mixed + part * weight
            result[row] = x.columns(y.rows(mixed))  # type: ignore[arg-type]
        result -= np.float32(offset)
        result /= np.float32(divisor)
        return result

    def nearest(self, labels: NDArray[Any]) -> NDArray[Any]:
        """The scan's labels [i, j, k] at the network's voxels [z, y, x], each the nearest one's."""
        at = (
            np.clip(np.rint(first + np.arange(new) * step).astype(np.intp), 0, old - 1)
            for old, new, first, step in zip(
                self.source_shape, self.shape, self.first, self.step, strict=True
            )
        )
        return self.orientation.view(labels)[np.ix_(*at)]

    def affine(self, source: Affine) -> Affine:
        """The affine of the network's voxels [x, y, z], from the scan's."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        # Of x, y, z: which of the scan's axes it runs along, from where, how fast, which way.
        rows = zip(
            self.orientation.axes,
            self.orientation.flips,
            self.source_shape[::-1],
            self.first[::-1],
            self.step[::-1],
            strict=True,
        )
        for axis, (own, flip, length, first, step) in enumerate(rows):
            matrix[own, axis] = -step if flip else step
            matrix[own, 3] = length - 1 - first if flip else first
        return Affine(source.matrix @ matrix)

    def undo(
        self,
        slabs: Iterator[ScoreSlab],
        label_ids: tuple[int, ...],
        out: Labels,
        *,
        map_over: Map = map,
    ) -> None:
        """Interpolate scores to the scan's own voxels and keep the best class of each.

        Takes slabs as they are finished and never holds more than one of them.

        Args:
            slabs: slabs of scores along z, in order and without gaps.
            label_ids: label of each channel.
            out: [i, j, k] uint8, written in place.
            map_over: how slices are worked on; a pool's map runs them side by side.
        """
        target = self.orientation.view(out)
        table = np.asarray(label_ids, dtype=np.uint8)
        done, before = 0, None
        for start, scores in slabs:
            ready = int(np.searchsorted(self.back[0].index[1], start + scores.shape[1]))
            finish = partial(self._finish, _Held(start, scores, before), table, target)
            for _ in map_over(finish, range(done, ready)):
                pass
            done, before = ready, scores[:, -1].copy()

    def _finish(self, held: _Held, table: Labels, target: Labels, row: int) -> None:
        """Label one slice of the scan, `target[row]`."""
        z, y, x = self.back
        low, high = z.index[:, row]
        part = z.weight[1, row]
        if part == 0 or low == high:
            mixed = held.at(low).astype(np.float32)
        elif part == 1:
            mixed = held.at(high).astype(np.float32)
        else:
            mixed = held.at(low) * (1 - part) + held.at(high) * part
        target[row] = table[upsample_argmax(mixed.astype(np.float32, copy=False), y, x)]


class _Held(NamedTuple):
    """The scores at hand: a slab, and the last slice of the slab before it."""

    start: int
    scores: NDArray[Any]
    before: NDArray[Any] | None

    def at(self, plane: int) -> NDArray[Any]:
        """Scores (C, Y, X) of one slice of the network's grid."""
        if plane >= self.start:
            return np.asarray(self.scores[:, plane - self.start])
        assert self.before is not None
        return self.before
