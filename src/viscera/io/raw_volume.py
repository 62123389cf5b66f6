"""Stored: what a file holds, before anyone says whether it means Hounsfield units or labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.findings import Finding


@dataclass(frozen=True, eq=False)
class RawVolume:
    """One volume as it lies in its file.

    Attributes:
        values: [i, j, k] in the stored type, Fortran order.
        affine: voxel indices to RAS millimetres.
        slope, inter: what the values mean is ``values * slope + inter``.
        nifti_header: the header's bytes where the file is NIfTI.
        findings: what reading noticed.
        label_names: what the values mean, where the header says so.
    """

    values: NDArray[np.generic]
    affine: Affine
    slope: float = 1.0
    inter: float = 0.0
    nifti_header: bytes | None = None
    findings: tuple[Finding, ...] = ()
    label_names: Mapping[int, str] = field(default_factory=dict)
