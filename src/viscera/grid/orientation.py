"""Orientation: views of an array whose axes run the way a network expects them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.core.volume import Volume
from viscera.findings import Finding

_DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


class ScanPlane(NamedTuple):
    """One plane of a scan, in the frame [z, y, x] of an orientation.

    Attributes:
        number: along z, from 0.
        hu: [y, x].
        findings: of reading the slab that begins with this plane.
    """

    number: int
    hu: NDArray[Any]
    findings: tuple[Finding, ...] = ()


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
    def fit(cls, affine: Affine, axcodes: str) -> Orientation:
        """The orientation that makes x, y, z run towards `axcodes`.

        Oblique grids get the nearest axes, so that nothing is interpolated.

        Args:
            affine: of the array.
            axcodes: three letters, such as LPS.
        """
        axes, flips = [], []
        for code in axcodes:
            world, sign = _DIRECTIONS[code]
            voxel_axis = next(v for v, (w, _) in enumerate(affine.axes) if w == world)
            axes.append(voxel_axis)
            flips.append(affine.axes[voxel_axis][1] != sign)
        return cls((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))

    def view(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view [z, y, x] of an array [i, j, k]; writing to it writes to the array."""
        step = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips[::-1])
        return array.transpose(self.axes[::-1])[step]

    def reorder(self, values: tuple[float, float, float]) -> tuple[float, float, float]:
        """Values along i, j, k, such as spacings, put in the order z, y, x."""
        x, y, z = (values[axis] for axis in self.axes)
        return z, y, x

    def planes(self, volume: Volume) -> Iterator[ScanPlane]:
        """Every plane of a volume, in the order in which the planes are stored.

        Only where z is not the slowest axis must the whole volume lie in memory.

        Raises:
            InputError: the file is damaged.
        """
        if self.axes[2] != 2:
            resident = volume.read()
            findings = resident.findings[len(volume.findings) :]
            for number, hu in enumerate(self.view(resident.data)):
                yield ScanPlane(number, hu, findings if number == 0 else ())
            return
        slab_start, count = 0, volume.shape[2]
        for slab in volume.slabs():
            view, thickness = self.view(slab.hu), slab.hu.shape[2]
            for n in range(thickness):
                findings = slab.findings if n == 0 else ()
                if self.flips[2]:
                    yield ScanPlane(count - 1 - slab_start - n, view[thickness - 1 - n], findings)
                else:
                    yield ScanPlane(slab_start + n, view[n], findings)
            slab_start += thickness
