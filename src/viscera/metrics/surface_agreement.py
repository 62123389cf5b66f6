"""How well two surfaces agree: NSD, HD95 and ASSD from one set of distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
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
        separate = np.flatnonzero(self.distances_mm > 0)
        separate = separate[np.argsort(self.distances_mm[separate])]
        total = self.areas_mm2.sum()
        touching = total - self.areas_mm2[separate].sum() if separate.size else total
        share = np.concatenate([[touching], touching + np.cumsum(self.areas_mm2[separate])]) / total
        place = min(int(np.searchsorted(share, percent / 100)), len(separate))
        return float(self.distances_mm[separate[place - 1]]) if place else 0.0


@dataclass(frozen=True, eq=False)
class SurfaceAgreement:
    """Two surfaces of one organ, neither empty, seen from each other and treated alike."""

    truth: SurfaceDistances
    prediction: SurfaceDistances

    def nsd(self, tolerance_mm: float) -> float:
        """Share of both surfaces' area that lies within the tolerance of the other one."""
        surfaces = (self.truth, self.prediction)
        total = sum(surface.areas_mm2.sum() for surface in surfaces)
        within = sum(
            surface.areas_mm2[surface.distances_mm <= tolerance_mm].sum() for surface in surfaces
        )
        return float(within / total)

    def hausdorff_mm(self, percent: float) -> float:
        """The larger of both sides' percentiles of distance, weighted by area."""
        return max(surface.percentile_mm(percent) for surface in (self.truth, self.prediction))

    def average_mm(self) -> float:
        """Mean distance over the area of both surfaces together (ASSD, Heimann et al. 2009)."""
        surfaces = (self.truth, self.prediction)
        total = sum(surface.areas_mm2.sum() for surface in surfaces)
        weighted_sum = sum(float(surface.distances_mm @ surface.areas_mm2) for surface in surfaces)
        return float(weighted_sum / total)
