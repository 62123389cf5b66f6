"""What organs are usually like: size, HU and place, learnt from label maps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.toml_schema import load_dataclass
from viscera.core.affine import Affine
from viscera.runtime.small_files import read_toml_file

# Where an organ is expected follows from these, seen or not: large, and found in nearly all scans.
ANCHORS = ("liver", "spleen", "kidney_right", "kidney_left")
_LEAST_SD_MM = 8.0  # centres are no surer than that


@dataclass(frozen=True)
class OrganRange:
    """One organ, where a scan shows all of it.

    Attributes:
        maps: how many label maps it was measured in.
        least_ml: the smallest seen.
        most_ml: the largest seen.
        log_ml_mean: mean of the logarithms of their volumes in ml.
        log_ml_sd: standard deviation of the logarithms.
        hu_mean: mean over scans of its mean HU.
        hu_sd: standard deviation over scans.
        offset_mm: (3,) RAS, its centre beside the middle of the four anchors' centres.
        offset_sd_mm: (3,) standard deviations.
    """

    maps: int
    least_ml: float
    most_ml: float
    log_ml_mean: float
    log_ml_sd: float
    hu_mean: float
    hu_sd: float
    offset_mm: tuple[float, ...]
    offset_sd_mm: tuple[float, ...]

    def volume_sd(self, volume_ml: float) -> float:
        """How many standard deviations a volume lies above the usual; below is negative."""
        return (math.log(max(volume_ml, 1e-3)) - self.log_ml_mean) / self.log_ml_sd

    def hu_deviation_sd(self, mean_hu: float) -> float:
        """How many standard deviations a mean HU lies above the usual; below is negative."""
        return (mean_hu - self.hu_mean) / self.hu_sd


@cache
def organ_ranges() -> dict[str, OrganRange]:
    """The learnt ranges by organ; made by tools/learn_organ_ranges.py."""
    path = Path(__file__).with_name("organ_ranges.toml")
    return {
        name: load_dataclass(OrganRange, row, path) for name, row in read_toml_file(path).items()
    }


def expected_middle(
    centres_mm: Mapping[str, NDArray[np.float64]], ranges: Mapping[str, OrganRange], *, but: str
) -> NDArray[np.float64] | None:
    """Where the middle of the four anchors lies by those that were found; None without any.

    Args:
        centres_mm: (3,) RAS of the organs that were found.
        ranges: by organ.
        but: an organ that does not count, as its own place is in question.
    """
    middles = [
        centres_mm[name] - np.array(ranges[name].offset_mm)
        for name in ANCHORS
        if name in centres_mm and name != but
    ]
    return np.mean(middles, axis=0) if middles else None


def in_view_share(
    organ: str,
    centres_mm: Mapping[str, NDArray[np.float64]],
    ranges: Mapping[str, OrganRange],
    affine: Affine,
    shape: tuple[int, int, int],
) -> float | None:
    """How likely the centre of an organ lies within the scan, along the body's axis.

    Args:
        organ: its name.
        centres_mm: (3,) RAS of the organs that were found.
        ranges: by organ.
        affine: of the scan.
        shape: of the scan, [i, j, k].

    Returns:
        0 to 1; None where no anchor was found, or the structure's usual place is not known.
    """
    if organ not in ranges:
        return None
    middle = expected_middle(centres_mm, ranges, but=organ)
    if middle is None:
        return None
    usual = ranges[organ]
    centre, sd = middle[2] + usual.offset_mm[2], max(usual.offset_sd_mm[2], _LEAST_SD_MM)
    corners = np.array(list(product(*((0, n - 1) for n in shape))))
    heights = corners @ affine.matrix[2, :3] + affine.matrix[2, 3]
    ends = ((height - centre) / sd for height in (heights.max(), heights.min()))
    above, below = (math.erf(end / math.sqrt(2)) for end in ends)
    return (above - below) / 2


def place_deviation_sd(
    organ: str, centres_mm: Mapping[str, NDArray[np.float64]], ranges: Mapping[str, OrganRange]
) -> float | None:
    """How far an organ lies from its usual place, in standard deviations.

    None without anchors, and for a structure whose usual place is not known.

    Args:
        organ: its name; it must be among the centres.
        centres_mm: (3,) RAS of the organs that were found.
        ranges: by organ.
    """
    if organ not in ranges:
        return None
    middle = expected_middle(centres_mm, ranges, but=organ)
    if middle is None:
        return None
    usual = ranges[organ]
    sd_mm = np.maximum(usual.offset_sd_mm, _LEAST_SD_MM)
    deviations = (centres_mm[organ] - middle - np.array(usual.offset_mm)) / sd_mm
    return float(np.sqrt((deviations**2).mean()))
