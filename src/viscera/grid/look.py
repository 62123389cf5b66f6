"""A first look at a scan, a few millimetres coarse: what of it a network needs to see at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.grid.body import abdomen_slices, body_rows
from viscera.grid.orientation import Orientation
from viscera.volume import Volume

COARSE_MM = 4.0  # fine enough to tell a table from a back
_DENSE_HU = -300.0  # above is body: all of it but lungs and gas

Box = tuple[slice, slice, slice]
# A plane [y, x] of HU and its number along z.
Plane = tuple[int, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Look:
    """Every so many-th voxel of a scan, in the frame [z, y, x] of a network's orientation.

    It is taken in that one frame, so that a scan stored otherwise is judged alike.

    Attributes:
        hu: the voxels.
        spacing_mm: z, y, x of them.
        steps: how many voxels of the scan lie between them along z, y, x.
        shape: z, y, x voxels of the scan.
    """

    hu: NDArray[Any]
    spacing_mm: tuple[float, float, float]
    steps: tuple[int, int, int]
    shape: tuple[int, int, int]

    @classmethod
    def at(cls, volume: Volume, orientation: Orientation) -> Look:
        """A look at a scan that nobody walks over for another reason."""
        watch = Watch(volume, orientation)
        for _ in watch.over(orientation.planes(volume)):
            pass
        return watch.look()

    def box(self, *, in_plane: bool) -> Box:
        """The box [z, y, x] in voxels of the scan outside of which no organ can be.

        Head and legs are left out, and slices of air; where nothing dense is found, nothing is.

        Args:
            in_plane: also leave out what lies beside the body.
        """
        dense = self.hu > _DENSE_HU
        if not dense.any():
            return tuple(slice(0, n) for n in self.shape)  # type: ignore[return-value]
        parts = [abdomen_slices(dense, self.spacing_mm)]
        if in_plane:
            parts += body_rows(dense[parts[0]], self.spacing_mm[1:])
        else:
            parts += [slice(0, n) for n in dense.shape[1:]]
        z, y, x = (
            slice(part.start * step, n if part.stop >= m else min(n, part.stop * step))
            for part, step, n, m in zip(parts, self.steps, self.shape, dense.shape, strict=True)
        )
        return z, y, x


class Watch:
    """Takes the look while planes of a scan pass by on their way to somebody else."""

    def __init__(self, volume: Volume, orientation: Orientation) -> None:
        self._shape = tuple(int(n) for n in orientation.reorder(volume.shape))
        spacing_mm = orientation.reorder(volume.affine.spacing_mm)
        self._steps = tuple(max(1, round(COARSE_MM / s)) for s in spacing_mm)
        self._spacing_mm = tuple(s * step for s, step in zip(spacing_mm, self._steps, strict=True))
        self._seen: dict[int, NDArray[Any]] = {}

    def over(self, planes: Iterable[Plane]) -> Iterator[Plane]:
        """The same planes, watched."""
        z, y, x = self._steps
        for number, plane in planes:
            # Of stacks thinner than a step there is one slice at least.
            if number % z == min(z // 2, self._shape[0] - 1):
                rows, columns = (
                    min(s // 2, n - 1) for s, n in zip((y, x), plane.shape, strict=True)
                )
                self._seen[number] = plane[rows::y, columns::x].copy()
            yield number, plane

    def look(self) -> Look:
        """What was seen, once all planes have passed."""
        hu = np.stack([self._seen[number] for number in sorted(self._seen)])
        return Look(hu, self._spacing_mm, self._steps, self._shape)  # type: ignore[arg-type]
