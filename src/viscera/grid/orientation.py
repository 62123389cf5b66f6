"""Orientation: views of an array whose axes run the way a network wants them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.findings import Finding
from viscera.volume import Volume

_DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class Orientation:
    """How [i, j, k] becomes [z, y, x] of a target orientation, and back.

    Attributes:
        axes: for x, y and z, the voxel axis that serves.
        flips: for x, y and z, whether it is read backwards.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def fit(cls, affine: Affine, codes: str) -> Orientation:
        """The orientation that makes x, y, z run towards `codes`, such as LPS.

        Oblique grids get the nearest axes, so that nothing is interpolated on the way.
        """
        axes, flips = [], []
        for code in codes:
            world, sign = _DIRECTIONS[code]
            voxel = next(v for v, (w, _) in enumerate(affine.axes) if w == world)
            axes.append(voxel)
            flips.append(affine.axes[voxel][1] != sign)
        return cls((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))

    def view(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view [z, y, x] of an array [i, j, k]; writing to it writes to the array."""
        turned = array.transpose(self.axes[::-1])
        step = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips[::-1])
        return turned[step]

    def reorder(self, values: tuple[float, float, float]) -> tuple[float, float, float]:
        """Values along i, j, k, such as spacings, put in the order z, y, x."""
        x, y, z = (values[axis] for axis in self.axes)
        return z, y, x

    def planes(
        self, volume: Volume, findings: list[Finding] | None = None
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Every plane [y, x] of a volume with its number along z, in the order they are stored.

        Only where z is not the slowest axis must the volume be held whole.

        Args:
            volume: read, or only opened.
            findings: takes what the file's end tells.

        Raises:
            InputError: the file is damaged.
        """
        if self.axes[2] != 2:
            yield from enumerate(self.view(volume.data))
            return
        done, count = 0, volume.shape[2]
        for slab in volume.slabs(findings):
            view, thick = self.view(slab), slab.shape[2]
            for n in range(thick):
                if self.flips[2]:
                    yield count - 1 - done - n, view[thick - 1 - n]
                else:
                    yield done + n, view[n]
            done += thick
