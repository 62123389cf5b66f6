"""Grid: all geometry and intensity between one scan and one network, forward and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.bundle import Bundle, Input
from viscera.grid.look import Box, Plane
from viscera.grid.orientation import Orientation
from viscera.grid.resample import Taps, upsample_argmax
from viscera.volume import Labels

# A run of finished slices of the network's grid: the first one's number and (C, n, Y, X) scores.
ScoreSlab = tuple[int, NDArray[Any]]
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
_AT_ONCE = 8  # planes given to the workers together


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

    def forward(self, planes: Iterable[Plane], *, map_over: Map = map) -> NDArray[np.float32]:
        """All of the network's slices, windowed, resampled, normalised.

        Each plane is resampled when it comes, and forgotten when the slices around it are made.

        Args:
            planes: every plane of the scan in the frame of `orientation`, once, in any order;
                those that follow each other along z need least memory.
            map_over: how planes are worked on; a pool's map runs them side by side.

        Returns:
            (Z, Y, X) float32, ready for the network.
        """
        z = self.into[0]
        sources = [_taps(z, plane) for plane in range(len(z))]
        users: dict[int, list[int]] = {}
        for plane, made_of in enumerate(sources):
            for source in made_of:
                users.setdefault(source, []).append(plane)
        missing = [len(made_of) for made_of in sources]
        result = np.empty(self.shape, dtype=np.float32)
        held: dict[int, NDArray[np.float32]] = {}
        for several in _batches((p for p in planes if p[0] in users), _AT_ONCE):
            small = map_over(self._in_plane, [plane for _, plane in several])
            for (source, _), image in zip(several, small, strict=True):
                held[source] = image
                for plane in users[source]:
                    missing[plane] -= 1
                    if not missing[plane]:
                        self._mix(held, sources[plane], result[plane])
                # What all its users have seen is of no more use.
                for old in {s for plane in users[source] for s in sources[plane]} & held.keys():
                    if not any(missing[plane] for plane in users[old]):
                        del held[old]
        return result

    def _in_plane(self, plane: NDArray[Any]) -> NDArray[np.float32]:
        """A plane of the scan, windowed and resampled along y and x."""
        _, y, x = self.into
        low, high = self.settings.window_hu
        image = plane.astype(np.float32)
        np.clip(image, low, high, out=image)
        return x.columns(y.rows(image))

    def _mix(
        self,
        held: dict[int, NDArray[np.float32]],
        made_of: dict[int, float],
        target: NDArray[np.float32],
    ) -> None:
        """One slice of the network's grid from those of the scan that it is made of."""
        target[...] = 0
        for source, weight in made_of.items():
            target += held[source] * np.float32(weight)
        offset, divisor = self.settings.scale
        target -= np.float32(offset)
        target /= np.float32(divisor)

    def covering(self, box: Box) -> Box:
        """The part [z, y, x] of the network's grid that covers a box in voxels of the scan."""
        parts = []
        for part, first, step, n in zip(box, self.first, self.step, self.shape, strict=True):
            start = max(0, math.floor((part.start - first) / step))
            stop = min(n, math.ceil((part.stop - 1 - first) / step) + 1)
            parts.append(slice(min(start, n - 1), max(stop, min(start, n - 1) + 1)))
        return parts[0], parts[1], parts[2]

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
        box: Box | None = None,
        map_over: Map = map,
    ) -> None:
        """Interpolate scores to the scan's own voxels and keep the best class of each.

        Takes slabs as they are finished and never holds more than one of them. Where all is
        background, nothing is written: pages of `out` that nobody touched take no memory.

        Args:
            slabs: slabs of scores along z, in order and without gaps.
            label_ids: label of each channel.
            out: [i, j, k] uint8 zeros, written in place.
            box: the part [z, y, x] of the grid that the scores cover; all of it where not given.
            map_over: how slices are worked on; a pool's map runs them side by side.
        """
        box = box or (slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2]))
        (planes, z), (rows, y), (columns, x) = (
            taps.within(part.start, part.stop) for taps, part in zip(self.back, box, strict=True)
        )
        target = self.orientation.view(out)[planes, rows, columns]
        table = np.asarray(label_ids, dtype=np.uint8)
        done, before = 0, None
        for start, scores in slabs:
            ready = int(np.searchsorted(z.index[1], start + scores.shape[1]))
            held = _Held(start, scores, before)

            def finish(row: int, held: _Held = held) -> None:
                found = upsample_argmax(held.mixed(z, row), y, x)
                (filled,) = np.nonzero(found.any(axis=1))
                if filled.size:
                    some = slice(filled[0], filled[-1] + 1)
                    target[row, some] = table[found[some]]

            for _ in map_over(finish, range(done, ready)):
                pass
            done, before = ready, scores[:, -1].copy()


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

    def mixed(self, z: Taps, row: int) -> NDArray[np.float32]:
        """Scores (C, Y, X) between two slices, as taps along z say for this row."""
        low, high = z.index[:, row]
        part = z.weight[1, row]
        if part == 0 or low == high:
            return np.ascontiguousarray(self.at(low), dtype=np.float32)
        if part == 1:
            return np.ascontiguousarray(self.at(high), dtype=np.float32)
        mixed: NDArray[np.float32] = self.at(low) * (1 - part)
        mixed += self.at(high) * part
        return mixed


def _taps(taps: Taps, new: int) -> dict[int, float]:
    """The samples that make a new one, in order, with their weights, if they have any."""
    made_of: dict[int, float] = {}
    for index, weight in zip(
        taps.index[:, new].tolist(), taps.weight[:, new].tolist(), strict=True
    ):
        if weight:
            made_of[index] = made_of.get(index, 0.0) + weight
    return made_of


def _batches(planes: Iterator[Plane], count: int) -> Iterator[list[Plane]]:
    """Several at a time."""
    while several := list(islice(planes, count)):
        yield several
