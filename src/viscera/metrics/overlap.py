"""Voxels that two label maps share, counted for all organs at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from viscera.core.volume import Labels

_FEW_LABELS, _ALL_LABELS = 16, 256


def count_voxels(prediction: Labels, truth: Labels, *, highest: int = 0) -> NDArray[np.int64]:
    """How many voxels carry each pair of labels; background with background is left at 0.

    Args:
        prediction: [i, j, k] uint8.
        truth: the same shape.
        highest: label that the result must have, whether the maps have it or not.

    Returns:
        (n, n) [prediction, truth]; n is 16 where no label is higher than 15, else 256.
    """
    highest = max(highest, *(int(labels.max(initial=0)) for labels in (prediction, truth)))
    count = _FEW_LABELS if highest < _FEW_LABELS else _ALL_LABELS
    wide = np.uint8 if count == _FEW_LABELS else np.uint16
    counts = np.zeros(count * count, dtype=np.int64)
    for of_prediction, of_truth in zip(prediction.T, truth.T, strict=True):
        pairs = of_prediction.astype(wide, copy=False) * wide(count) | of_truth
        counts += np.bincount(pairs[pairs > 0], minlength=count * count)
    return counts.reshape(count, count)


def dice(counts: NDArray[np.int64], label: int) -> float:
    """DSC = 2 |A and B| / (|A| + |B|) of one label; 1 where neither map has it.

    Args:
        counts: (n, n) voxels by label of the prediction and label of the truth.
        label: the organ.
    """
    total = int(counts[label].sum() + counts[:, label].sum())
    return 2 * int(counts[label, label]) / total if total else 1.0
