"""LabelMap: label values on their grid, of whatever label scheme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from viscera.core.affine import Affine
from viscera.errors import InputError
from viscera.findings import Finding

_ROUNDING = 1e-3  # scaling in single precision leaves less of a label


@dataclass(frozen=True, eq=False, repr=False)
class LabelMap:
    """Labels of one case, as they are stored.

    Attributes:
        values: [i, j, k], any real type.
        affine: voxel indices to RAS millimetres.
        name: the case's name.
        header_spacing_mm: the spacing that the header states on its own, which FLARE's script
            uses. Anywhere else the spacing of the affine counts.
        findings: what reading noticed.
        label_names: what the values mean, where the file says so.
    """

    values: NDArray[Any]
    affine: Affine
    name: str
    header_spacing_mm: tuple[float, float, float]
    findings: tuple[Finding, ...] = ()
    label_names: Mapping[int, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<LabelMap {self.name!r} {self.values.shape} {self.affine.axcodes}>"

    @classmethod
    def of(
        cls,
        values: NDArray[Any],
        affine: Affine | ArrayLike,
        *,
        name: str = "labels",
        header_spacing_mm: tuple[float, float, float] | None = None,
    ) -> LabelMap:
        """A label map from an array and its affine; `viscera.as_label_map` takes anything else.

        Args:
            values: [i, j, k], any real type.
            affine: (4, 4) matrix from voxel indices to RAS millimetres.
            name: the case's name.
            header_spacing_mm: as a header states it; that of the affine where not given.

        Raises:
            InputError: no real numbers, not three-dimensional, or no usable affine.
        """
        values = np.asarray(values)
        if values.ndim != 3 or values.dtype.kind not in "biuf":
            raise InputError(
                "a label map of three dimensions and real numbers",
                found=f"shape {values.shape} of {values.dtype}",
                remedy="pass one label map as [i, j, k]",
                where=name,
            )
        matrix = affine if isinstance(affine, Affine) else Affine(affine)
        return cls(values, matrix, name, header_spacing_mm or matrix.spacing_mm)

    def rounded(self) -> LabelMap:
        """The same with labels such as 1.0000001 made whole, and a finding; else the map itself."""
        whole = _rounded(self.values) if self.values.dtype.kind == "f" else None
        if whole is None:
            return self
        message = "labels such as 1.0000001 were rounded to whole numbers"
        finding = Finding("fixed", "labels-rounded", message)
        return replace(self, values=whole, findings=(*self.findings, finding))


def _rounded(values: NDArray[Any]) -> NDArray[np.float32] | None:
    """Values that are whole but for rounding, whole; None where they are, or are not at all."""
    is_rounded = False
    for plane in values.T:  # plane by plane: no second map of doubles
        away = np.abs(plane - np.rint(plane)).max(initial=0)
        if not away <= _ROUNDING:  # also NaN
            return None
        is_rounded |= bool(away > 0)
    return np.rint(values).astype(np.float32) if is_rounded else None
