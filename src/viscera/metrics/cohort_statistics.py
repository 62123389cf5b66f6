"""Scores of many cases: mean, spread, median, and how sure the mean is."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Values = NDArray[np.float64]
_RESAMPLES, _CHUNK = 10_000, 1_000
_SEED = 20240
_CONFIDENCE = (2.5, 97.5)


@dataclass(frozen=True)
class CohortStatistic:
    """One metric of one organ over many cases; None where too few cases have a value.

    Attributes:
        n: cases with a finite value.
        mean, std: over these; the sample's standard deviation.
        median, q1, q3: quartiles, interpolated linearly.
        ci_low, ci_high: 95 % interval of the mean, percentile bootstrap over cases.
    """

    n: int
    mean: float | None = None
    std: float | None = None
    median: float | None = None
    q1: float | None = None
    q3: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; what overflowed has no value."""
        return {k: v if v is None or math.isfinite(v) else None for k, v in asdict(self).items()}


def summarise(values: _Values) -> list[CohortStatistic]:
    """Statistics of each organ, and last of their average.

    The average's mean is the unweighted mean over organs of the means over cases (FLARE's rule);
    its spread is that of the cases' own means over organs.

    Args:
        values: (cases, organs); what is not finite counts as absent.

    Returns:
        One a column, and one more.
    """
    values = np.where(np.isfinite(values), values, np.nan)
    # Organ by organ, then all together: each column, and the mean of what each case has.
    columns = [*values.T, _mean(values, axis=1)]
    means = np.array([_mean(column, axis=0) for column in values.T])
    centres = [*means, _mean(means, axis=0)]
    low, high = bootstrap(values)
    return [
        _statistic(column[np.isfinite(column)], float(centre), float(a), float(b))
        for column, centre, a, b in zip(columns, centres, low, high, strict=True)
    ]


def bootstrap(values: _Values) -> tuple[_Values, _Values]:
    """95 % intervals of the organs' means and of their average, cases drawn with replacement.

    Every organ sees the same draws, so that the average's interval keeps how organs of one case
    hang together. The same values give the same intervals.

    Args:
        values: (cases, organs), NaN where absent.

    Returns:
        Lower and upper ends, each (organs + 1,).
    """
    cases = len(values)
    if not cases:
        nothing = np.full(values.shape[1] + 1, np.nan)
        return nothing, nothing
    rng = np.random.default_rng(_SEED)
    finite, zeros_for_nan = np.isfinite(values), np.nan_to_num(values)
    samples = []
    for _ in range(_RESAMPLES // _CHUNK):
        draws = rng.multinomial(cases, np.full(cases, 1 / cases), size=_CHUNK).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means = (draws @ zeros_for_nan) / (draws @ finite)
        samples.append(np.column_stack([means, _mean(means, axis=1)]))
    everything = np.concatenate(samples)
    low, high = np.full((2, everything.shape[1]), np.nan)
    for column, sample in enumerate(everything.T):
        finite_sample = sample[np.isfinite(sample)]
        if finite_sample.size:
            low[column], high[column] = np.percentile(finite_sample, _CONFIDENCE)
    return low, high


def _mean(values: _Values, *, axis: int) -> _Values:
    """The mean of what is finite, NaN without a warning where nothing is."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: _Values = np.where(finite, values, 0).sum(axis=axis) / finite.sum(axis=axis)
    return mean


def _statistic(values: _Values, mean: float, low: float, high: float) -> CohortStatistic:
    if not values.size:
        return CohortStatistic(0)
    q1, median, q3 = np.percentile(values, (25, 50, 75)).tolist()
    has_spread = values.size > 1
    return CohortStatistic(
        n=int(values.size),
        mean=mean,
        std=float(values.std(ddof=1)) if has_spread else None,
        median=median,
        q1=q1,
        q3=q3,
        ci_low=low if has_spread else None,
        ci_high=high if has_spread else None,
    )
