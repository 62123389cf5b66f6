"""Separable resampling: taps along one axis, applied slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Weights below this are rounding, not information.
_NOTHING = 1e-6


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
        """
        at = np.clip(first + np.arange(new) * step, 0, old - 1)
        low = np.minimum(np.floor(at).astype(np.intp), max(old - 2, 0))
        part = at - low
        part[part < _NOTHING] = 0.0
        part[part > 1 - _NOTHING] = 1.0
        return cls(
            np.stack([low, np.minimum(low + 1, old - 1)]),
            np.stack([1 - part, part]).astype(np.float32),
        )

    @classmethod
    def area(cls, old: int, new: int, first: float, step: float) -> Taps:
        """Mean over each new sample's extent; falls back to linear where new samples are finer."""
        if step <= 1:
            return cls.linear(old, new, first, step)
        middle = first + np.arange(new) * step
        low, high = middle - step / 2, middle + step / 2
        lowest = np.floor(low + 0.5).astype(np.intp)
        samples = lowest + np.arange(int(np.ceil(step)) + 1)[:, None]
        covered = np.minimum(samples + 0.5, high) - np.maximum(samples - 0.5, low)
        weight = np.clip(covered, 0, None)
        index = np.clip(samples, 0, old - 1)
        return cls(index, (weight / weight.sum(axis=0)).astype(np.float32))

    def __len__(self) -> int:
        return int(self.index.shape[1])

    def rows(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Resample the last but one axis, (..., old, m) to (..., n, m)."""
        result = image[..., self.index[0], :] * self.weight[0][:, None]
        for index, weight in zip(self.index[1:], self.weight[1:], strict=True):
            if weight.any():
                result += image[..., index, :] * weight[:, None]
        return result  # type: ignore[no-any-return]

    def columns(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Resample the last axis, (..., m, old) to (..., m, n)."""
        result = np.take(image, self.index[0], axis=-1) * self.weight[0]
        for index, weight in zip(self.index[1:], self.weight[1:], strict=True):
            if weight.any():
                result += np.take(image, index, axis=-1) * weight
        return result  # type: ignore[no-any-return]


def upsample_argmax(scores: NDArray[np.float32], y: Taps, x: Taps) -> NDArray[np.uint8]:
    """The class with the highest bilinearly interpolated score at each point of a finer slice.

    Where the four network pixels around a point agree on their class, so does every mixture of
    them; only the rest, a thin line along borders, is interpolated. Equal to interpolating all
    classes everywhere, but for ties.

    Args:
        scores: (C, Y, X) scores of one slice on the network's grid.
        y: linear taps from the network's rows.
        x: linear taps from its columns.

    Returns:
        (len(y), len(x)) uint8 channel numbers.
    """
    winner = _argmax(scores)
    y0, y1, x0, x1 = y.index[0], y.index[1], x.index[0], x.index[1]
    upper, lower = winner[y0], winner[y1]
    labels: NDArray[np.uint8] = upper[:, x0]
    mixed = labels != upper[:, x1]
    mixed |= labels != lower[:, x0]
    mixed |= labels != lower[:, x1]
    rows, columns = np.nonzero(mixed)
    if rows.size:
        a, b, c, d = y0[rows], y1[rows], x0[columns], x1[columns]
        wy, wx = y.weight[1][rows], x.weight[1][columns]
        top = scores[:, a, c] * (1 - wx) + scores[:, a, d] * wx
        bottom = scores[:, b, c] * (1 - wx) + scores[:, b, d] * wx
        labels[rows, columns] = (top * (1 - wy) + bottom * wy).argmax(axis=0)
    return labels


def _argmax(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Argmax over the first axis; one pass a class beats numpy's strided search threefold."""
    best = scores[0].copy()
    winner = np.zeros(best.shape, dtype=np.uint8)
    for channel in range(1, len(scores)):
        higher = scores[channel] > best
        winner[higher] = channel
        np.maximum(best, scores[channel], out=best)
    return winner
