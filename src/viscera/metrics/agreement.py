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

    @classmethod
    def none(cls) -> Side:
        """No surface."""
        return cls(np.empty(0), np.empty(0))

    def percentile_mm(self, percent: float) -> float:
        """Distance within which this share of the area lies; infinite where there is none."""
        if not self.areas_mm2.size:
            return float("inf")
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
    """Two surfaces of one organ, seen from each other; the metrics treat both alike."""

    truth: Side
    prediction: Side

    def nsd(self, tolerance_mm: float) -> float:
        """Share of both surfaces' area that lies within the tolerance of the other one.

        1 where neither surface exists.
        """
        sides = (self.truth, self.prediction)
        total = sum(side.areas_mm2.sum() for side in sides)
        within = sum(side.areas_mm2[side.distances_mm <= tolerance_mm].sum() for side in sides)
        return float(within / total) if total else 1.0

    def hausdorff_mm(self, percent: float) -> float:
        """The larger of both sides' percentiles of distance, weighted by area.

        NaN where neither surface exists, infinite where one is missing.
        """
        if not self.truth.areas_mm2.size and not self.prediction.areas_mm2.size:
            return float("nan")
        return max(side.percentile_mm(percent) for side in (self.truth, self.prediction))

    def average_mm(self) -> float:
        """Mean distance over the area of both surfaces together (ASSD, Heimann et al. 2009).

        NaN where neither surface exists, infinite where one is missing.
        """
        sides = (self.truth, self.prediction)
        total = sum(side.areas_mm2.sum() for side in sides)
        # An infinite distance times area is infinite, as is the mean then.
        moved = sum(float(side.distances_mm @ side.areas_mm2) for side in sides)
        return float(moved / total) if total else float("nan")
