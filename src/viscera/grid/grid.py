"""Grid: all geometry and intensity between one scan and one network, forward and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Bundle, NetworkInput
from viscera.core.affine import Affine
from viscera.core.boxes import Box
from viscera.core.volume import Labels
from viscera.grid.orientation import Orientation, ScanPlane
from viscera.grid.plane_mixer import PlaneMixer, WeightedPlane
from viscera.grid.resample import Taps
from viscera.grid.slab_windows import PlaneBetween, ScoreSlab, slab_windows
from viscera.grid.upsample import ClassSlice, upsample_classes

MapFunction = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
_PLANES_AT_ONCE = 8  # given to the workers together


@dataclass(frozen=True, eq=False)
class GridAxis:
    """One axis of a scan beside the same axis of the network's grid.

    Attributes:
        source_length: voxels of the scan.
        length: voxels of the network's grid that cover the scan.
        spacing_mm: of the network's grid.
        first: position of the network's first voxel, in voxels of the scan.
        step: distance of the network's voxels, in voxels of the scan.
        to_network: taps from the scan to the network's grid.
        to_scan: linear taps from the network's grid to the scan.
    """

    source_length: int
    length: int
    spacing_mm: float
    first: float
    step: float
    to_network: Taps
    to_scan: Taps

    @classmethod
    def fit(
        cls,
        source_length: int,
        source_spacing_mm: float,
        *,
        length: int,
        step: float,
        align: Literal["centre", "first"],
        interpolation: Literal["linear", "area"],
    ) -> GridAxis:
        """The axis with this many network voxels at this distance.

        Args:
            source_length: voxels of the scan.
            source_spacing_mm: of the scan.
            length: voxels of the network's grid.
            step: distance of the network's voxels, in voxels of the scan.
            align: which points of both axes coincide, see `NetworkInput`.
            interpolation: towards the network, see `NetworkInput`.
        """
        first = 0.0 if align == "first" else (source_length - 1 - (length - 1) * step) / 2
        taps = Taps.area if interpolation == "area" else Taps.linear
        return cls(
            source_length=source_length,
            length=length,
            spacing_mm=source_spacing_mm * step,
            first=first,
            step=step,
            to_network=taps(source_length, length, first, step),
            to_scan=Taps.linear(length, source_length, -first / step, 1 / step),
        )

    def covering(self, part: slice) -> slice:
        """The network voxels that cover some of the scan's, at least one."""
        start = max(0, math.floor((part.start - self.first) / self.step))
        stop = min(self.length, math.ceil((part.stop - 1 - self.first) / self.step) + 1)
        start = min(start, self.length - 1)
        return slice(start, max(stop, start + 1))

    def source_part(self, part: slice, *, before_mm: float, after_mm: float) -> slice:
        """The scan's voxels that these of the network stand for, and some on either side.

        Args:
            part: voxels of the network.
            before_mm: kept before the first of them.
            after_mm: kept after the last of them.
        """
        source_mm = self.spacing_mm / self.step
        low = self.first + (part.start - 0.5) * self.step - before_mm / source_mm
        high = self.first + (part.stop - 0.5) * self.step + after_mm / source_mm
        return slice(max(0, math.floor(low)), min(self.source_length, math.ceil(high) + 1))

    def nearest(self) -> NDArray[np.intp]:
        """The scan's voxel nearest to each of the network's."""
        positions = np.rint(self.first + np.arange(self.length) * self.step).astype(np.intp)
        return np.asarray(np.clip(positions, 0, self.source_length - 1))


@dataclass(frozen=True, eq=False)
class Grid:
    """How a scan's voxels become the network's, and its scores the scan's labels.

    Everything between is in the frame [z, y, x] of the network's orientation.

    Attributes:
        orientation: from [i, j, k] to [z, y, x].
        axes: z, y and x.
        settings: HU window and normalisation.
    """

    orientation: Orientation
    axes: tuple[GridAxis, GridAxis, GridAxis]
    settings: NetworkInput

    @classmethod
    def fit(cls, shape: tuple[int, int, int], affine: Affine, bundle: Bundle) -> Grid:
        """The grid on which a bundle's network sees a scan.

        Args:
            shape: of the scan, [i, j, k].
            affine: of the scan.
            bundle: describes the network.
        """
        settings = bundle.input
        orientation = Orientation.fit(affine, settings.orientation)
        source_shape = tuple(int(n) for n in orientation.reorder(shape))
        source_mm = orientation.reorder(affine.spacing_mm)
        if settings.spacing_mm is None:
            assert bundle.slices is not None  # a bundle without spacing has slices
            x, y = bundle.slices.size
            lengths = (source_shape[0], y, x)
            steps = [old / new for old, new in zip(source_shape, lengths, strict=True)]
        else:
            # x, y or x, y, z in the bundle; a slice network keeps the scan's own slices.
            target_mm = (*settings.spacing_mm, source_mm[0])[2::-1]
            steps = [t / s for t, s in zip(target_mm, source_mm, strict=True)]
            z, y, x = (max(1, round(n / step)) for n, step in zip(source_shape, steps, strict=True))
            lengths = (z, y, x)
        z_axis, y_axis, x_axis = (
            GridAxis.fit(
                source_length,
                spacing_mm,
                length=length,
                step=step,
                align=settings.align,
                interpolation=settings.interpolation,
            )
            for source_length, spacing_mm, length, step in zip(
                source_shape, source_mm, lengths, steps, strict=True
            )
        )
        return cls(orientation, (z_axis, y_axis, x_axis), settings)

    @property
    def source_shape(self) -> tuple[int, int, int]:
        """z, y, x voxels of the scan."""
        z, y, x = (axis.source_length for axis in self.axes)
        return z, y, x

    @property
    def shape(self) -> tuple[int, int, int]:
        """z, y, x voxels of the network's grid that cover the scan."""
        z, y, x = (axis.length for axis in self.axes)
        return z, y, x

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """z, y, x of the network's grid."""
        z, y, x = (axis.spacing_mm for axis in self.axes)
        return z, y, x

    @property
    def air_value(self) -> float:
        """The network's value of the lower end of the HU window, which stands for air."""
        offset, divisor = self.settings.scale
        return (self.settings.window_hu[0] - offset) / divisor

    def forward(
        self, planes: Iterable[ScanPlane], *, map_over: MapFunction = map
    ) -> NDArray[np.float32]:
        """All of the network's slices, windowed, resampled, normalised.

        Each plane is resampled when it comes, and dropped when the slices around it are made.

        Args:
            planes: every plane of the scan in the frame of `orientation`, once, in any order;
                planes in the order of z need least memory.
            map_over: how planes are worked on; a pool's map runs them side by side.

        Returns:
            (Z, Y, X) float32, ready for the network.
        """
        return fill_grids([self], planes, map_over=map_over)[0]

    def resample_in_plane(self, hu: NDArray[Any]) -> NDArray[np.float32]:
        """A plane of the scan, clipped to the HU window and resampled along y and x."""
        _, y, x = self.axes
        low, high = self.settings.window_hu
        image = hu.astype(np.float32)
        np.clip(image, low, high, out=image)
        return x.to_network.columns(y.to_network.rows(image))

    def mix(self, parts: Sequence[WeightedPlane], target: NDArray[np.float32]) -> None:
        """One slice of the network's grid from the planes that it is made of, normalised.

        Args:
            parts: planes as `resample_in_plane` gives them.
            target: [y, x], written in place.
        """
        target[...] = 0
        for image, weight in parts:
            target += image * np.float32(weight)
        offset, divisor = self.settings.scale
        target -= np.float32(offset)
        target /= np.float32(divisor)

    def covering(self, box: Box) -> Box:
        """The part [z, y, x] of the network's grid that covers a box in voxels of the scan."""
        z, y, x = (axis.covering(part) for axis, part in zip(self.axes, box, strict=True))
        return z, y, x

    def nearest(self, labels: NDArray[Any]) -> NDArray[Any]:
        """The scan's labels [i, j, k] at the network's voxels [z, y, x], each the nearest one's."""
        z, y, x = (axis.nearest() for axis in self.axes)
        return self.orientation.view(labels)[np.ix_(z, y, x)]

    def affine(self, source: Affine) -> Affine:
        """The affine of the network's voxels [x, y, z], from that of the scan."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        along_xyz = zip(self.orientation.axes, self.orientation.flips, self.axes[::-1], strict=True)
        for column, (voxel_axis, flip, axis) in enumerate(along_xyz):
            matrix[voxel_axis, column] = -axis.step if flip else axis.step
            last = axis.source_length - 1
            matrix[voxel_axis, 3] = last - axis.first if flip else axis.first
        return Affine(source.matrix @ matrix)

    def undo(
        self,
        slabs: Iterator[ScoreSlab],
        label_ids: tuple[int, ...],
        out: Labels,
        *,
        box: Box | None = None,
        map_over: MapFunction = map,
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
        z_part, y_part, x_part = box or tuple(slice(0, n) for n in self.shape)
        z_axis, y_axis, x_axis = self.axes
        planes, z = z_axis.to_scan.within(z_part.start, z_part.stop)
        rows, y = y_axis.to_scan.within(y_part.start, y_part.stop)
        columns, x = x_axis.to_scan.within(x_part.start, x_part.stop)
        target = self.orientation.view(out)[planes, rows, columns]
        table = np.asarray(label_ids, dtype=np.uint8)
        at_hand: dict[int, ClassSlice] = {}  # by number, those of the window
        for window in slab_windows(slabs, z):
            fresh = map_over(ClassSlice.of, [window.slices[n] for n in window.fresh])
            at_hand = {n: at_hand[n] for n in window.slices if n in at_hand}
            at_hand |= dict(zip(window.fresh, fresh, strict=True))

            def write_plane(plane: PlaneBetween, slices: dict[int, ClassSlice] = at_hand) -> None:
                filled = upsample_classes(slices[plane.low], slices[plane.high], plane.share, y, x)
                if filled is not None:
                    target[plane.number, *filled.part] = table[filled.classes]

            for _ in map_over(write_plane, window.planes):
                pass
            del window  # the memory of these scores before the next are made


def fill_grids(
    grids: Sequence[Grid], planes: Iterable[ScanPlane], *, map_over: MapFunction = map
) -> list[NDArray[np.float32]]:
    """What several networks see of one scan that is read once, see `Grid.forward`.

    Args:
        grids: on the scan, all of one orientation.
        planes: every plane of the scan in the frame of that orientation.
        map_over: how planes are worked on.

    Returns:
        Of each grid (Z, Y, X) float32.
    """
    results = [np.empty(grid.shape, dtype=np.float32) for grid in grids]
    mixers = [PlaneMixer(grid.axes[0].to_network) for grid in grids]

    def resample(plane: ScanPlane) -> list[NDArray[np.float32] | None]:
        return [
            grid.resample_in_plane(plane.hu) if mixer.needs(plane.number) else None
            for grid, mixer in zip(grids, mixers, strict=True)
        ]

    waiting = iter(planes)
    while batch := list(islice(waiting, _PLANES_AT_ONCE)):
        for plane, images in zip(batch, map_over(resample, batch), strict=True):
            for grid, mixer, image, result in zip(grids, mixers, images, results, strict=True):
                if image is not None:
                    for number, parts in mixer.add(plane.number, image):
                        grid.mix(parts, result[number])
    return results
