"""LabelMap: label values on their grid, of whatever convention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.errors import InputError
from viscera.findings import Finding


@dataclass(frozen=True, eq=False, repr=False)
class LabelMap:
    """Labels of one case, as someone stored them.

    Attributes:
        values: [i, j, k], any real type.
        affine: voxel indices to RAS millimetres.
        name: the case's name.
        zooms_mm: the spacing that the header states on its own, which FLARE's script goes by.
            Anywhere else the affine's spacing counts.
        findings: what reading noticed.
    """

    values: NDArray[Any]
    affine: Affine
    name: str
    zooms_mm: tuple[float, float, float]
    findings: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        return f"<LabelMap {self.name!r} {self.values.shape} {self.affine.axcodes}>"

    @classmethod
    def of(cls, source: Any, affine: Any = None, *, name: str = "labels") -> LabelMap:
        """A label map from a Segmentation, a nibabel image, or an array and its affine.

        Raises:
            InputError: neither of these, or not three-dimensional.
        """
        if isinstance(source, LabelMap):
            return source
        if hasattr(source, "labels") and hasattr(source, "volume"):
            source, affine, name = source.labels, source.affine, source.volume.name
        zooms: tuple[float, ...] | None = None
        if hasattr(source, "dataobj") and hasattr(source, "affine"):
            zooms = tuple(float(zoom) for zoom in source.header.get_zooms()[:3])
            source, affine = source.dataobj, source.affine
        values = np.asarray(source)
        if affine is None or values.ndim != 3 or values.dtype.kind not in "biuf":
            raise InputError(
                "a path, a Segmentation, a nibabel image, or a 3-D array with its affine",
                found=f"{type(source).__name__} of shape {values.shape}",
                remedy="pass affine=(4x4 matrix to RAS millimetres) along with an array",
                where=name,
            )
        matrix = affine if isinstance(affine, Affine) else Affine(affine)
        x, y, z = zooms or matrix.spacing_mm
        return cls(values, matrix, name, (x, y, z))
