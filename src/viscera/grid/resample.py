"""Separable resampling: taps along one axis, applied slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Weights below this are rounding, not information.
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True, eq=False)
class Taps:
    """Which samples of an axis make each new one, and with what weight.

    Attributes:
        index: (K, n) samples of the old axis.
        weight: (K, n) float32, each column sums to 1.
    """

    index: NDArray[np.intp]
    weight: NDArray[np.float32]

    @classmethod
    def linear(cls, old: int, new: int, first: float, step: float) -> Taps:
        """Linear interpolation at `new` points, from `first` on and `step` old samples apart.

        Points outside take the border's value.

        Args:
            old: number of old samples.
            new: number of new samples.
            first: position of the first new sample, in old samples.
            step: distance of new samples, in old samples.
        """
        at = np.clip(first + np.arange(new) * step, 0, old - 1)
        low = np.minimum(np.floor(at).astype(np.intp), max(old - 2, 0))
        share = at - low
        share[share < _NEGLIGIBLE] = 0.0
        share[share > 1 - _NEGLIGIBLE] = 1.0
        return cls(
            np.stack([low, np.minimum(low + 1, old - 1)]),
            np.stack([1 - share, share]).astype(np.float32),
        )

    @classmethod
    def area(cls, old: int, new: int, first: float, step: float) -> Taps:
        """Mean over each new sample's extent; falls back to linear where new samples are finer.

        Args:
            old: number of old samples.
            new: number of new samples.
            first: position of the first new sample's centre, in old samples.
            step: distance and extent of new samples, in old samples.
        """
        if step <= 1:
            return cls.linear(old, new, first, step)
        middle = first + np.arange(new) * step
        low, high = middle - step / 2, middle + step / 2
        first_sample = np.floor(low + 0.5).astype(np.intp)
        samples = first_sample + np.arange(int(np.ceil(step)) + 1)[:, None]
        covered = np.minimum(samples + 0.5, high) - np.maximum(samples - 0.5, low)
        weight = np.clip(covered, 0, None)
        index = np.clip(samples, 0, old - 1)
        return cls(index, (weight / weight.sum(axis=0)).astype(np.float32))

    def __len__(self) -> int:
        return int(self.index.shape[1])

    def weights_of(self, number: int) -> dict[int, float]:
        """The old samples that make one new sample, in order, with their weights."""
        weights: dict[int, float] = {}
        indices, shares = self.index[:, number].tolist(), self.weight[:, number].tolist()
        for index, share in zip(indices, shares, strict=True):
            if share:
                weights[index] = weights.get(index, 0.0) + share
        return weights

    def within(self, start: int, stop: int) -> tuple[slice, Taps]:
        """The new samples that old ones from start to stop suffice for, and taps from that range.

        Args:
            start: first old sample.
            stop: one past the last old sample.
        """
        inside = (self.index >= start).all(axis=0) & (self.index < stop).all(axis=0)
        (columns,) = np.nonzero(inside)
        new = slice(int(columns[0]), int(columns[-1]) + 1) if columns.size else slice(0, 0)
        return new, Taps(self.index[:, new] - start, self.weight[:, new])

    def rows(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Resample the last but one axis, (..., old, m) to (..., n, m)."""
        result = np.take(image, self.index[0], axis=-2) * self.weight[0][:, None]
        for index, weight in zip(self.index[1:], self.weight[1:], strict=True):
            if weight.any():
                result += np.take(image, index, axis=-2) * weight[:, None]
        return result  # type: ignore[no-any-return]

    def columns(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Resample the last axis, (..., m, old) to (..., m, n)."""
        result = np.take(image, self.index[0], axis=-1) * self.weight[0]
        for index, weight in zip(self.index[1:], self.weight[1:], strict=True):
            if weight.any():
                result += np.take(image, index, axis=-1) * weight
        return result  # type: ignore[no-any-return]
