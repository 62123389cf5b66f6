"""Voxels that two label maps share, counted for all organs at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from viscera.core.volume import Labels

_LABELS = 16


def count_voxels(prediction: Labels, truth: Labels) -> NDArray[np.int64]:
    """How many voxels carry each pair of labels; background with background is left at 0.

    Args:
        prediction: [i, j, k] uint8, labels 0 to 15.
        truth: the same shape.

    Returns:
        (16, 16) [prediction, truth].
    """
    counts = np.zeros(_LABELS * _LABELS, dtype=np.int64)
    for of_prediction, of_truth in zip(prediction.T, truth.T, strict=True):
        pairs = of_prediction << 4 | of_truth
        counts += np.bincount(pairs[pairs > 0], minlength=_LABELS * _LABELS)
    return counts.reshape(_LABELS, _LABELS)


def dice(counts: NDArray[np.int64], label: int) -> float:
    """DSC = 2 |A and B| / (|A| + |B|) of one label; 1 where neither map has it.

    Args:
        counts: (n, n) voxels by label of the prediction and label of the truth.
        label: the organ.
    """
    total = int(counts[label].sum() + counts[:, label].sum())
    return 2 * int(counts[label, label]) / total if total else 1.0
