"""From scores on a network's grid to classes on the scan's, interpolated only along borders.

Where the corners around a point agree on their class, so does every mixture of them. The rest, a
thin line along borders, is interpolated: the result equals interpolating all classes everywhere,
but for ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.grid.resample import Taps


@dataclass(frozen=True, eq=False)
class ClassSlice:
    """A slice of scores with the class that wins at each pixel.

    Attributes:
        scores: (C, Y, X).
        winner: [y, x] channel with the highest score.
        uniform: [y, x] whether it also wins at the next pixels along y, x and both.
    """

    scores: NDArray[np.float32]
    winner: NDArray[np.uint8]
    uniform: NDArray[np.bool_]

    @classmethod
    def of(cls, scores: NDArray[np.float32]) -> ClassSlice:
        """The classes of a slice of scores (C, Y, X)."""
        winner = argmax(scores)
        uniform = np.ones(winner.shape, dtype=bool)
        along_x = winner[:, :-1] == winner[:, 1:]
        along_y = winner[:-1] == winner[1:]
        uniform[:, :-1] &= along_x
        uniform[:-1] &= along_y
        uniform[:-1, :-1] &= along_x[1:]
        return cls(scores, winner, uniform)


class PlaneClasses(NamedTuple):
    """The part of a plane that is not all background.

    Attributes:
        part: of the plane, along y and x.
        classes: [y, x] channel numbers.
    """

    part: tuple[slice, slice]
    classes: NDArray[np.uint8]


def upsample_classes(
    low: ClassSlice, high: ClassSlice, share: np.float32, y: Taps, x: Taps
) -> PlaneClasses | None:
    """The class with the highest trilinearly interpolated score at each point of a finer plane.

    Args:
        low: the slice below the plane.
        high: the slice above it; the same where the plane lies on one.
        share: how much the higher one counts.
        y: linear taps from the network's rows.
        x: linear taps from its columns.

    Returns:
        None where all is background, which is channel 0.
    """
    winner, agree = low.winner, low.uniform
    filled = winner > 0
    if high is not low:
        agree = agree & high.uniform & (winner == high.winner)
        filled = filled | (high.winner > 0)
    part_y, part_x = _points_beside(filled, y, axis=0), _points_beside(filled, x, axis=1)
    if part_y.start >= part_y.stop or part_x.start >= part_x.stop:
        return None
    y0, y1, wy = y.index[0][part_y], y.index[1][part_y], y.weight[1][part_y]
    x0, x1, wx = x.index[0][part_x], x.index[1][part_x], x.weight[1][part_x]
    # Along x first, on the few rows there are; then whole rows are copied.
    classes: NDArray[np.uint8] = winner.take(x0, axis=1).take(y0, axis=0)
    at = np.flatnonzero(~agree.take(x0, axis=1).take(y0, axis=0))
    if at.size:
        rows, columns = np.divmod(at, len(x0))
        width = low.scores.shape[2]
        corners = [
            _scores_between(low, high, share, row[rows] * width + column[columns])
            for row in (y0, y1)
            for column in (x0, x1)
        ]
        top, bottom = (_mix(a, b, wx[columns]) for a, b in (corners[:2], corners[2:]))
        classes.reshape(-1)[at] = argmax(_mix(top, bottom, wy[rows]))
    return PlaneClasses((part_y, part_x), classes)


def _points_beside(filled: NDArray[np.bool_], taps: Taps, *, axis: int) -> slice:
    """The points beside filled pixels along an axis of a slice; their taps rise along it."""
    samples = np.flatnonzero(filled.any(axis=1 - axis))
    if not samples.size:
        return slice(0, 0)
    start = np.searchsorted(taps.index[1], samples[0])
    stop = np.searchsorted(taps.index[0], samples[-1], side="right")
    return slice(int(start), int(stop))


def _scores_between(
    low: ClassSlice, high: ClassSlice, share: np.float32, at: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Scores (C, n) between two slices at these pixels."""
    scores = low.scores.reshape(len(low.scores), -1).take(at, axis=1)
    if high is low:
        return scores
    return _mix(scores, high.scores.reshape(len(high.scores), -1).take(at, axis=1), share)


def _mix(
    a: NDArray[np.float32], b: NDArray[np.float32], share: NDArray[np.float32] | np.float32
) -> NDArray[np.float32]:
    """Between two arrays, in place of both."""
    a *= 1 - share
    b *= share
    a += b
    return a


def argmax(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Argmax over the first axis, the first of equals; many times faster than numpy's own search.

    Args:
        scores: (C, ...), at most 255 classes.
    """
    best = scores.max(axis=0)
    is_best = np.empty(best.shape, dtype=bool)
    # The first of equals has the highest rank: one pass a class, without a branch.
    rank = np.zeros(best.shape, dtype=np.uint8)
    ranked = np.empty_like(rank)
    for channel, channel_scores in enumerate(scores):
        np.equal(channel_scores, best, out=is_best)
        np.multiply(is_best, np.uint8(len(scores) - channel), out=ranked)
        np.maximum(rank, ranked, out=rank)
    return np.asarray(len(scores) - rank, dtype=np.uint8)
