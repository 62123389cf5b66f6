"""Affine: the 4x4 matrix from voxel indices [i, j, k] to RAS world millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from viscera.errors import InputError

# Letters of the positive and the negative end of each world axis.
_AXIS_ENDS = ("RL", "AP", "SI")


@dataclass(frozen=True, eq=False)
class Affine:
    """Maps voxel indices to RAS millimetres: ``world = matrix @ (i, j, k, 1)``.

    Attributes:
        matrix: (4, 4) float64, read-only.
    """

    matrix: NDArray[np.float64]

    def __init__(self, matrix: ArrayLike, *, where: object = None) -> None:
        """Check and keep a copy of the matrix.

        Args:
            matrix: 4x4.
            where: file or case, for messages.

        Raises:
            InputError: not 4x4, not finite, or singular.
        """
        try:
            array = np.array(matrix, dtype=np.float64)
            problem = affine_problem(array)
        except (TypeError, ValueError):
            problem = f"{matrix!r:.60}"
        if problem:
            raise InputError(
                "a finite, invertible 4x4 affine",
                found=problem,
                remedy="give the matrix from voxel indices to RAS millimetres",
                where=where,
            )
        array.setflags(write=False)
        object.__setattr__(self, "matrix", array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and bool(np.array_equal(self.matrix, other.matrix))

    def __hash__(self) -> int:
        return hash(self.matrix.tobytes())

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along i, j and k."""
        i, j, k = np.sqrt((self.matrix[:3, :3] ** 2).sum(axis=0)).tolist()
        return i, j, k

    @cached_property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.matrix[:3, :3]))) / 1000.0

    @cached_property
    def axes(self) -> tuple[tuple[int, int], ...]:
        """For each voxel axis: the world axis (0 to 2) nearest to it, and its direction (1, -1).

        Chosen so that the three voxel axes get three different world axes with the greatest sum
        of cosines; ties (45 degrees) go to the first assignment in lexical order.
        """
        cosines = self.matrix[:3, :3] / np.asarray(self.spacing_mm)
        best: tuple[int, int, int] = max(
            [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)],
            key=lambda order: sum(abs(cosines[w, v]) for v, w in enumerate(order)),
        )
        return tuple((w, 1 if cosines[w, v] > 0 else -1) for v, w in enumerate(best))

    @cached_property
    def axcodes(self) -> str:
        """Orientation as three letters, the end each voxel axis runs towards, such as ``LPS``."""
        return "".join(_AXIS_ENDS[w][0 if sign > 0 else 1] for w, sign in self.axes)

    @cached_property
    def slice_axis(self) -> int:
        """The voxel axis across the slices: pixels are square, so the other two are most alike.

        Where all are alike it is the axis nearest to the body's.
        """
        unlike = []
        for axis in range(3):
            first, second = (mm for other, mm in enumerate(self.spacing_mm) if other != axis)
            unlike.append((round(abs(np.log(first / second)), 3), self.axes[axis][0] != 2))
        return unlike.index(min(unlike))

    @cached_property
    def plane_distance_mm(self) -> float:
        """Distance of the planes of neighbouring slices, which a tilted gantry makes no longer."""
        first, second = (c for n, c in enumerate(self.matrix[:3, :3].T) if n != self.slice_axis)
        return self.voxel_ml * 1000 / float(np.linalg.norm(np.cross(first, second)))

    @cached_property
    def obliquity_deg(self) -> float:
        """Largest angle between a voxel axis and the world axis nearest to it."""
        cosines = self.matrix[:3, :3] / np.asarray(self.spacing_mm)
        smallest = min(abs(cosines[w, v]) for v, (w, _) in enumerate(self.axes))
        return float(np.degrees(np.arccos(np.clip(smallest, -1.0, 1.0))))

    @cached_property
    def shear_deg(self) -> float:
        """How far the voxel axes are from being at right angles to each other."""
        unit = self.matrix[:3, :3] / np.asarray(self.spacing_mm)
        largest = max(abs(float(unit[:, a] @ unit[:, b])) for a, b in ((0, 1), (0, 2), (1, 2)))
        return float(np.degrees(np.arcsin(min(largest, 1.0))))


def affine_problem(matrix: NDArray[np.float64]) -> str | None:
    """What keeps this matrix from being an affine, or None.

    Singularity is measured on unit columns, so that very small or very large voxels do not matter.
    """
    if matrix.shape != (4, 4):
        return f"shape {matrix.shape}"
    if not np.isfinite(matrix).all():
        return "values that are not finite"
    with np.errstate(all="ignore"):
        lengths = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))
        volume = abs(np.linalg.det(matrix[:3, :3] / lengths))
    if not volume >= 1e-4:  # NaN where a column is zero
        return "a singular matrix"
    if not np.array_equal(matrix[3], (0, 0, 0, 1)):
        return f"a last row of {matrix[3].tolist()}"
    return None
