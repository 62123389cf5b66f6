"""Where windows stand along an axis, and how much each of them counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class AxisWindows:
    """The windows along one axis.

    Attributes:
        padding: voxels put before the axis so that it fills one window at least.
        starts: first voxel of each window, on the padded axis.
        weights: (windows, size) float32; where windows overlap, their weights sum to 1.
    """

    padding: int
    starts: tuple[int, ...]
    weights: NDArray[np.float32]

    @classmethod
    def fit(
        cls, length: int, size: int, overlap: float, *, gaussian: bool, sigma: float
    ) -> AxisWindows:
        """The fewest evenly spaced windows that cover an axis with at least this overlap."""
        padded = max(length, size)
        step = max(1.0, size * (1 - overlap))
        count = math.ceil((padded - size) / step) + 1
        starts = np.rint(np.linspace(0, padded - size, count)).astype(int)
        bell = np.ones(size)
        if gaussian:
            bell = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (sigma * size)) ** 2)
        total = np.zeros(padded)
        for start in starts:
            total[start : start + size] += bell
        weights = np.stack([bell / total[s : s + size] for s in starts]).astype(np.float32)
        return cls((padded - length) // 2, tuple(starts.tolist()), weights)


def mirrored(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Positions beyond an axis reflected back into it, over and over, borders not repeated."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    folded = np.abs(index) % period
    return np.asarray(np.minimum(folded, period - folded))
