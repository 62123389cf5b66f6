"""The DSC that is to be expected of an organ, from what is known about its result.

A linear model of logit(DSC), one for organs that were found and one for organs that were not; it
was fitted to labels drawn by hand, on scans as they are and on scans spoiled on purpose. See
docs/quality.md and benchmarks/quality.py, which makes calibration.toml.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from viscera.quality.features import OrganFeatures
from viscera.runtime.small_files import read_toml_file

# Beyond these a logit tells no more than that it is certain.
_LEAST_DSC, _MOST_DSC = 0.02, 0.98
_MOST_SD = 4.0  # a deviation counts up to here


@dataclass(frozen=True)
class Calibration:
    """What the models and their errors on unseen patients were.

    Attributes:
        found_weights: by input, of the model for organs that were found.
        found_constants: by organ.
        absent_weights: the same for organs that were not; their "DSC" is 1 where there is none.
        absent_constants: by organ.
        estimates: rising estimates between which errors were gathered.
        low: the lower end of four fifths of the true values less the estimate, of each interval.
        high: the upper end.
        check_below: an estimate below asks for a look.
        fail_below: an estimate below is a failure.
        networks: names of the bundles that it was made with.
    """

    found_weights: dict[str, float]
    found_constants: dict[str, float]
    absent_weights: dict[str, float]
    absent_constants: dict[str, float]
    estimates: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    check_below: float
    fail_below: float
    networks: tuple[str, ...]

    def estimate(self, features: OrganFeatures) -> float:
        """The expected DSC, 0 to 1; of an organ that was not found, how likely that is right."""
        if features.volume_ml > 0:
            inputs = found_inputs(features)
            weights, constants = self.found_weights, self.found_constants
        else:
            inputs = absent_inputs(features)
            weights, constants = self.absent_weights, self.absent_constants
        total = constants[features.organ] + sum(w * inputs[name] for name, w in weights.items())
        return 1 / (1 + math.exp(-total))

    def interval(self, estimate: float) -> tuple[float, float]:
        """Where four of five true values lie."""
        n = int(np.searchsorted(self.estimates, estimate, side="right")) - 1
        n = min(max(n, 0), len(self.low) - 1)
        low, high = estimate + self.low[n], estimate + self.high[n]
        return max(0.0, min(low, estimate)), min(1.0, max(high, estimate))


@cache
def packaged_calibration() -> Calibration:
    """The calibration that viscera ships."""
    table = read_toml_file(Path(__file__).with_name("calibration.toml"))
    rows = {name: tuple(value) for name, value in table.items() if isinstance(value, list)}
    return Calibration(**{**table, **rows})


def found_inputs(features: OrganFeatures) -> dict[str, float]:
    """What the model of found organs takes."""
    look, place = features.look_dice, features.place_sd
    return {
        "expected_dice": logit(features.expected_dice),
        "margin": features.margin,
        "entropy": features.entropy,
        "border_entropy": features.border_entropy,
        "in_pieces": 1 - features.largest_share,
        "removed": features.removed_share,
        "look_dice": 0.0 if look is None else logit(look),
        "no_look": float(look is None),
        "small": 0.0 if features.is_cut else _beyond_usual(-features.volume_sd),
        "large": _beyond_usual(features.volume_sd),
        "dark": _beyond_usual(-features.hu_sd),
        "bright": _beyond_usual(features.hu_sd),
        "displaced": 0.0 if place is None else _beyond_usual(place),
        "no_place": float(place is None),
        "cut": float(features.is_cut),
        "doubtful_hu": float(features.doubtful_hu),
    }


def absent_inputs(features: OrganFeatures) -> dict[str, float]:
    """What the model of organs that were not found takes."""
    return {
        "expected": math.log(features.expected_ml + 0.01),
        "look": math.log(features.look_ml + 0.1),
        "removed": float(features.removed_share > 0),
        "in_view": 0.5 if features.in_view is None else features.in_view,
    }


def logit(share: float) -> float:
    """log(share / (1 - share)), of shares from 0.02 to 0.98; others count as these."""
    share = min(max(share, _LEAST_DSC), _MOST_DSC)
    return math.log(share / (1 - share))


def _beyond_usual(deviation_sd: float) -> float:
    """How far a deviation goes beyond one standard deviation."""
    return min(max(deviation_sd - 1, 0.0), _MOST_SD)
