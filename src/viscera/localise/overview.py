"""Overview: a scan at a few millimetres, which tells what of it a network needs to see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.core.boxes import Box
from viscera.core.volume import Volume
from viscera.grid.orientation import Orientation, ScanPlane
from viscera.localise.body import body_box, trunk_slices

COARSE_MM = 4.0  # fine enough to tell a table from a back
DENSE_HU = -300.0  # above is body: all of it but lungs and gas


@dataclass(frozen=True, eq=False)
class Overview:
    """Every n-th voxel of a scan, in the frame [z, y, x] of a network's orientation.

    It is always taken in that one frame, so that every storage of a scan gives the same result.

    Attributes:
        hu: the voxels.
        spacing_mm: z, y, x of them.
        steps: how many voxels of the scan lie between them along z, y, x.
        shape: z, y, x voxels of the scan.
        orientation: from [i, j, k] of the scan to that frame.
    """

    hu: NDArray[Any]
    spacing_mm: tuple[float, float, float]
    steps: tuple[int, int, int]
    shape: tuple[int, int, int]
    orientation: Orientation

    @classmethod
    def of(cls, volume: Volume, orientation: Orientation) -> Overview:
        """The overview of a scan that is read for nothing else.

        Args:
            volume: the scan.
            orientation: of the network.

        Raises:
            InputError: the file is damaged.
        """
        sampler = CoarseSampler(volume, orientation)
        for _ in sampler.pass_through(orientation.planes(volume)):
            pass
        return sampler.overview()

    def sampled(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array [i, j, k] of the scan at the overview's voxels, [z, y, x] as `hu`.

        Args:
            array: labels, for instance.
        """
        z, y, x = (
            slice(min(step // 2, n - 1), None, step)
            for step, n in zip(self.steps, self.shape, strict=True)
        )
        return self.orientation.view(array)[z, y, x]

    def towards(self, affine: Affine, axcodes: str) -> tuple[Orientation, tuple[float, ...]]:
        """How its arrays [z, y, x] become those of another orientation, and the spacing there.

        Args:
            affine: of the scan.
            axcodes: three letters, such as LPS.

        Returns:
            An orientation: its view takes an array [z, y, x] of the overview; and z, y, x mm.
        """
        wanted = Orientation.fit(affine, axcodes)
        # Position of each voxel axis of the scan among the overview's own, and whether it is read
        # backwards there.
        place = {axis: 2 - n for n, axis in enumerate(self.orientation.axes)}
        backwards = dict(zip(self.orientation.axes, self.orientation.flips, strict=True))
        axes = tuple(place[axis] for axis in wanted.axes)
        flips = tuple(
            flip != backwards[axis] for axis, flip in zip(wanted.axes, wanted.flips, strict=True)
        )
        turn = Orientation(axes, flips)  # type: ignore[arg-type]
        return turn, turn.reorder(self.spacing_mm)

    def box(self, *, whole_length: bool = False) -> Box:
        """The box [z, y, x] in voxels of the scan outside of which no organ can be.

        Head and legs are left out, slices of air, and what lies beside the body; where nothing
        dense is found, nothing is.

        Args:
            whole_length: for what lies in heads and legs: no slice is left out.
        """
        dense = self.hu > DENSE_HU
        if not dense.any():
            return tuple(slice(0, n) for n in self.shape)  # type: ignore[return-value]
        trunk = slice(0, len(dense)) if whole_length else trunk_slices(dense, self.spacing_mm)
        coarse_box = trunk, *body_box(dense[trunk], self.spacing_mm[1:])
        z, y, x = (
            slice(part.start * step, n if part.stop >= m else min(n, part.stop * step))
            for part, step, n, m in zip(
                coarse_box, self.steps, self.shape, dense.shape, strict=True
            )
        )
        return z, y, x


class CoarseSampler:
    """Takes the overview while the planes of a scan pass by on their way to another reader."""

    def __init__(self, volume: Volume, orientation: Orientation) -> None:
        self._orientation = orientation
        self._shape = tuple(int(n) for n in orientation.reorder(volume.shape))
        spacing_mm = orientation.reorder(volume.affine.spacing_mm)
        self._steps = tuple(max(1, round(COARSE_MM / s)) for s in spacing_mm)
        self._spacing_mm = tuple(s * step for s, step in zip(spacing_mm, self._steps, strict=True))
        self._sampled: dict[int, NDArray[Any]] = {}

    def pass_through(self, planes: Iterable[ScanPlane]) -> Iterator[ScanPlane]:
        """The same planes; every n-th pixel of every n-th plane is kept."""
        step_z, step_y, step_x = self._steps
        for plane in planes:
            # Stacks thinner than a step still give one slice.
            if plane.number % step_z == min(step_z // 2, self._shape[0] - 1):
                first_y, first_x = (
                    min(step // 2, n - 1)
                    for step, n in zip((step_y, step_x), plane.hu.shape, strict=True)
                )
                self._sampled[plane.number] = plane.hu[first_y::step_y, first_x::step_x].copy()
            yield plane

    def overview(self) -> Overview:
        """What was sampled, once all planes have passed."""
        hu = np.stack([self._sampled[number] for number in sorted(self._sampled)])
        return Overview(
            hu,
            self._spacing_mm,  # type: ignore[arg-type]
            self._steps,  # type: ignore[arg-type]
            self._shape,  # type: ignore[arg-type]
            self._orientation,
        )
