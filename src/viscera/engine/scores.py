"""Scores as engines give them: float32, or the bits of bfloat16, which take half the memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# uint16 holds bfloat16, the upper half of a float32, which numpy has no type for.
Scores = NDArray[np.float32] | NDArray[np.uint16]
_SIGN = np.uint16(0x7FFF)  # all bits but that
_LEAST_NOT_FINITE = 0x7F80  # all bits of the exponent


def as_float32(scores: Scores) -> NDArray[np.float32]:
    """The same scores in float32; no copy where they are.

    Args:
        scores: of any shape.
    """
    if scores.dtype == np.uint16:
        result = np.empty(scores.shape, dtype=np.float32)
        copy_as_float32(scores, result)
        return result
    return np.asarray(scores, dtype=np.float32)


def copy_as_float32(scores: Scores, target: NDArray[np.float32]) -> None:
    """Write the same scores in float32.

    Args:
        scores: of any shape.
        target: of the same shape.
    """
    if scores.dtype == np.uint16:
        np.left_shift(scores, 16, out=target.view(np.uint32), dtype=np.uint32)
    else:
        target[...] = scores


def all_finite(scores: Scores) -> bool:
    """Whether no score is infinite or no number.

    Args:
        scores: (N, C, ...).
    """
    if scores.dtype == np.uint16:
        rows: Any = (part for batch in scores for part in batch)
        return all(int((part & _SIGN).max(initial=0)) < _LEAST_NOT_FINITE for part in rows)
    # A sum is finite only if all its terms are: one pass without a mask.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(scores.sum(dtype=np.float32)))
