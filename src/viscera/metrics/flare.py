"""The own rules of FLARE's evaluation script of 2024, kept apart so that nothing else has them.

The aorta, the inferior vena cava and the esophagus are scored between the first and the last slice
of the truth on the array's third axis, the last one excluded. NSD is 0 where DSC is below 0.2. Both
are rounded to four decimals.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from viscera.core.organs import ORGANS_BY_NAME
from viscera.core.volume import Labels
from viscera.metrics.organ_metrics import OrganMetrics

_CUT = tuple(ORGANS_BY_NAME[name].id for name in ("aorta", "inferior_vena_cava", "esophagus"))
_LEAST_DSC = 0.2


def cut_to_truth_slices(
    prediction: Labels, truth: Labels, present: set[int]
) -> tuple[Labels, Labels]:
    """Both maps without the parts of the three long organs that the script does not look at.

    Args:
        prediction: [i, j, k] uint8, left as it is.
        truth: the same.
        present: labels that both maps have; the script does not cut the others.
    """
    prediction, truth = prediction.copy(order="K"), truth.copy(order="K")
    for label in present.intersection(_CUT):
        slices = np.flatnonzero([(plane == label).any() for plane in truth.T])
        for labels in (prediction, truth):
            for k, plane in enumerate(labels.T):
                if not slices[0] <= k < slices[-1]:
                    plane[plane == label] = 0
    return prediction, truth


def apply_flare_rules(metrics: OrganMetrics, *, is_cut_away: bool) -> OrganMetrics:
    """The metrics of an organ as the script states them.

    Args:
        metrics: of the cut label maps.
        is_cut_away: the cut left no slice of an organ that both maps have; the script divides 0
            by 0 then.
    """
    if is_cut_away:
        nan = float("nan")
        return replace(metrics, dsc=nan, nsd=nan, hd95_mm=nan, assd_mm=nan)
    nsd = 0.0 if metrics.dsc < _LEAST_DSC else metrics.nsd
    dsc, nsd = float(np.round(metrics.dsc, 4)), float(np.round(nsd, 4))
    return replace(metrics, dsc=dsc, nsd=nsd)


def to_uint8(values: NDArray[np.generic]) -> Labels:
    """Stored values as the script reads them: cut to whole numbers and to their lowest eight bits.

    Args:
        values: [i, j, k] of any real type; returned as they are where they are uint8.
    """
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    cut = np.empty(values.shape, dtype=np.uint8, order="F")
    for k in range(values.shape[-1]):
        # By way of int64: what lies outside uint8 then wraps alike on every machine.
        with np.errstate(invalid="ignore"):
            cut[..., k] = values[..., k].astype(np.int64).astype(np.uint8)
    return cut
