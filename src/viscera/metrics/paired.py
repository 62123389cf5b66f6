"""Two runs on the same cases: is one better, by how much, and how sure is that?"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.metrics.cohort_statistics import bootstrap
from viscera.runtime.extras import require_extra


@dataclass(frozen=True)
class PairedDifference:
    """One metric of one organ, this run less the other.

    Attributes:
        n: cases for which both runs have a finite value.
        mean: mean difference, None without cases.
        ci_low, ci_high: 95 % interval of it, bootstrap over cases.
        p: two-sided Wilcoxon signed-rank test; 1 where no case differs.
        p_holm: the same, corrected by Holm for the number of organs; None for the average.
    """

    n: int
    mean: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    p_holm: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; what overflowed has no value."""
        return {k: v if v is None or math.isfinite(v) else None for k, v in asdict(self).items()}


def compare_runs(these: NDArray[np.float64], those: NDArray[np.float64]) -> list[PairedDifference]:
    """Differences of each organ, and last of their average, the mean over organs of these.

    The average's test is on what each case differs by over its organs.

    Args:
        these: (cases, organs); what is not finite counts as absent.
        those: the other run, the same cases and organs in the same order.
    """
    in_both = np.isfinite(these) & np.isfinite(those)
    difference = np.full(these.shape, np.nan)
    np.subtract(these, those, out=difference, where=in_both)
    organs_in_both = in_both.sum(axis=1)
    average = np.full(len(these), np.nan)
    np.divide(np.nansum(difference, axis=1), organs_in_both, out=average, where=organs_in_both > 0)
    low, high = bootstrap(difference)
    columns = [*difference.T, average]
    differences = [
        _difference(column[np.isfinite(column)], float(a), float(b))
        for column, a, b in zip(columns, low, high, strict=True)
    ]
    organs, last = differences[:-1], differences[-1]
    if means := [organ.mean for organ in organs if organ.mean is not None]:
        last = replace(last, mean=fmean(means))
    return [*_holm(organs), last]


def _difference(differences: NDArray[np.float64], low: float, high: float) -> PairedDifference:
    if not differences.size:
        return PairedDifference(0)
    p = 1.0
    if (differences != 0).any():
        require_extra("scipy")
        from scipy.stats import wilcoxon

        p = float(wilcoxon(differences).pvalue)
    if differences.size == 1:
        return PairedDifference(1, float(differences[0]), p=p)
    return PairedDifference(int(differences.size), float(differences.mean()), low, high, p)


def _holm(differences: list[PairedDifference]) -> list[PairedDifference]:
    """Holm's step-down correction: the smallest p times their number, the next times one less."""
    ranked = sorted(
        (
            (difference.p, number)
            for number, difference in enumerate(differences)
            if difference.p is not None
        ),
    )
    corrected, highest = list(differences), 0.0
    for rank, (p, number) in enumerate(ranked):
        highest = min(1.0, max(highest, p * (len(ranked) - rank)))
        corrected[number] = replace(differences[number], p_holm=highest)
    return corrected
