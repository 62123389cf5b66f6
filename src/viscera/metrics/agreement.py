"""How well two surfaces agree: NSD, HD95 and ASSD from one set of distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Side:
    """One of two surfaces.

    Attributes:
        distances_mm: (N,) from each of its elements to the other surface.
        areas_mm2: (N,) of each element.
    """

    distances_mm: _Values
    areas_mm2: _Values

    def percentile_mm(self, percent: float) -> float:
        """Distance within which this share of the area lies."""
        # What touches the other surface lies before all else: only the rest needs sorting.
        apart = np.flatnonzero(self.distances_mm > 0)
        apart = apart[np.argsort(self.distances_mm[apart])]
        total = self.areas_mm2.sum()
        touching = total - self.areas_mm2[apart].sum() if apart.size else total
        share = np.concatenate([[touching], touching + np.cumsum(self.areas_mm2[apart])]) / total
        place = min(int(np.searchsorted(share, percent / 100)), len(apart))
        return float(self.distances_mm[apart[place - 1]]) if place else 0.0


@dataclass(frozen=True, eq=False)
class SurfaceAgreement:
    """Two surfaces of one organ, neither empty, seen from each other and treated alike."""

    truth: Side
    prediction: Side

    def nsd(self, tolerance_mm: float) -> float:
        """Share of both surfaces' area that lies within the tolerance of the other one."""
        sides = (self.truth, self.prediction)
        total = sum(side.areas_mm2.sum() for side in sides)
        within = sum(side.areas_mm2[side.distances_mm <= tolerance_mm].sum() for side in sides)
        return float(within / total)

    def hausdorff_mm(self, percent: float) -> float:
        """The larger of both sides' percentiles of distance, weighted by area."""
        return max(side.percentile_mm(percent) for side in (self.truth, self.prediction))

    def average_mm(self) -> float:
        """Mean distance over the area of both surfaces together (ASSD, Heimann et al. 2009)."""
        sides = (self.truth, self.prediction)
        total = sum(side.areas_mm2.sum() for side in sides)
        moved = sum(float(side.distances_mm @ side.areas_mm2) for side in sides)
        return float(moved / total)
