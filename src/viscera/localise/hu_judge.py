"""The judge of intensities: are these Hounsfield units, and if not, what was done to them?

A CT of a body is made of a few things whose HU are known: air, lung, fat, soft tissue, vessels with
contrast, bone. How likely values are under that mixture tells HU from other numbers, however the
scan is cropped; where another reading of the same values is far likelier, that is what happened to
them. Exact values that are far too frequent tell padding and clipping. In doubt it is silent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.errors import option
from viscera.findings import Finding

# What bodies consist of: share of a usual scan, mean and standard deviation in HU.
_TISSUES = (
    (0.30, -1000.0, 30.0),  # air
    (0.10, -840.0, 90.0),  # lung
    (0.20, -100.0, 30.0),  # fat
    (0.24, 45.0, 35.0),  # soft tissue
    (0.08, 140.0, 60.0),  # vessels and organs with contrast
    (0.04, 500.0, 300.0),  # bone
    (0.03, -500.0, 300.0),  # borders between air and tissue
)
# What else there may be: metal, padding, noise.
_ANYTHING_SHARE, _ANYTHING_HU = 0.01, 40_000.0
# Other readings: HU = (values * slope + inter). DICOM's intercepts, once too often or too seldom.
_OFFSETS_HU = (-1024.0, -1000.0, 1024.0, 1000.0, -2048.0, 2048.0, -32768.0)
_SCALES = (10.0, 0.1, 100.0, 0.01, 1000.0, 0.001, 2.0, 0.5)
_LEAST_RANGE = 25.0  # any scan's noise spans more
_CLEARLY = 1.5  # mean log-likelihood a voxel by which another reading must win
_LEAST_LIKELY = -9.5  # below, values are no HU, whatever they are
_PLAUSIBLE = -7.5  # another reading must reach that
_LEAST_SHARE = 0.05  # of air and of tissue that another scale must give
_AIR_BELOW_HU = -700.0
_NARROW_HU = (-300.0, 400.0)  # values of tissue; a whole scan has others
# Shares of exact values that no CT has among those of tissue: at its lower end, which then was
# clipped; of 0, which is what tools pad with; of any other value.
_CLIPPED_SHARE, _ZERO_SHARE, _PADDED_SHARE = 0.35, 0.04, 0.4
_HIGHEST_LOWER_END = 20.0  # of windows that people use
_PILE_TIMES = 10.0  # as frequent as the values beside it
_CLIPPED_BELOW_HU = 200.0  # contrast and bone lie above: clipping there does no harm
_CLIPPED_ABOVE_SHARE = 0.1
_HARD_HU, _HARD_SHARE = 300.0, 0.5  # bone and metal are never half of a scan without air
_LIMITS = (-32768.0, 32767.0, 65535.0)
_NO_AIR_HU = -1100.0  # nothing that is measured lies below
_AIR_SHARE = 0.2  # of a field of view, at least; padding by itself is less
_PADDING_GAP_HU = 100.0  # from padding to the next value
_PADDING_SHARE = 0.005
_SPIKE_SHARE = 1e-5
# Pure noise is unlikely, and its neighbours have less in common than those of any picture.
_NOISY, _STRUCTURE, _LEAST_PICTURE = -8.3, 0.1, 4096


@dataclass(frozen=True)
class _Reading:
    """One way to read the values.

    Attributes:
        slope, inter: HU are ``values * slope + inter``.
        likelihood: mean log-likelihood of a voxel, per unit of the values as they are.
    """

    slope: float
    inter: float
    likelihood: float


def judge_intensities(hu: NDArray[Any]) -> list[Finding]:
    """What there is to say about the values of a scan.

    Args:
        hu: [z, y, x], an even selection of its voxels.

    Returns:
        Nothing where they look like HU; else warnings whose hints say what to do.
    """
    values, counts = np.unique(hu, return_counts=True)
    values = values.astype(np.float64)
    low, high = float(values[0]), float(values[-1])
    if low == high and low > _AIR_BELOW_HU:
        message = f"all voxels are {low:g}"
        return [Finding("warning", "constant", message, "check how the CT was exported")]
    findings, measured = _without_spikes(values, counts)
    values, counts = values[measured], counts[measured]
    least = _first_measurement(values, counts)
    if len(values) - least < 2:
        return findings
    readings = _other_readings(values[least:], counts[least:])
    below = counts[values < _NO_AIR_HU].sum() / counts.sum()
    if not readings and below > _AIR_SHARE and not _has_tissue(values, counts):
        # Air with the intercept applied twice lies where scanners pad.
        readings = _other_readings(values, counts)
    if readings:
        return findings + readings
    if values[0] > _NO_AIR_HU:  # what stands alone at the lower end may be air
        least = 0
    values, counts = values[least:], counts[least:]
    return findings + (_piles(values, counts) or _no_picture(hu, values, counts))


def _without_spikes(
    values: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[list[Finding], NDArray[np.bool_]]:
    """Findings on limits of number types among the values, and which values are others."""
    limits = np.isin(values, _LIMITS)
    if counts[limits].sum() < _SPIKE_SHARE * counts.sum():
        return [], np.ones(len(values), dtype=bool)
    number = " and ".join(f"{value:.0f}" for value in values[limits])
    message = f"voxels of {number}, the limit of a number's type, are no measurement"
    hint = "export the CT again, or replace them by -1024"
    return [Finding("warning", "spike", message, hint)], ~limits


def _first_measurement(values: NDArray[np.float64], counts: NDArray[np.int64]) -> int:
    """Position of the least value that is no padding, which lies below all else, alone."""
    first = 0
    for _ in range(2):
        if first + 2 >= len(values):
            break
        alone = values[first + 1] - values[first] > _PADDING_GAP_HU
        if not alone or counts[first] < _PADDING_SHARE * counts.sum():
            break
        first += 1
    return first


def _other_readings(values: NDArray[np.float64], counts: NDArray[np.int64]) -> list[Finding]:
    """Whether the values are far likelier to mean something else than HU."""
    stated = _reading(values, counts, 1.0, 0.0)
    low, high = float(values[0]), float(values[-1])
    shifted = [_reading(values, counts, 1.0, offset) for offset in _OFFSETS_HU]
    turned = [_reading(values, counts, -1.0, inter) for inter in (0.0, low + high)]
    scaled = [
        _reading(values, counts, scale, 0.0)
        for scale in _SCALES
        if _has_air_and_tissue(values * scale, counts)
    ]
    best = max((*shifted, *turned, *scaled), key=lambda reading: reading.likelihood)
    is_likely = best.likelihood - math.log(abs(best.slope)) > _PLAUSIBLE
    if is_likely and best.likelihood > stated.likelihood + _CLEARLY:
        return [_finding(best, low, high)]
    return []


def _piles(values: NDArray[np.float64], counts: NDArray[np.int64]) -> list[Finding]:
    """Exact values among those of tissue that are far too frequent: clipping or padding."""
    shares, low, high = counts / counts.sum(), float(values[0]), float(values[-1])
    near_low = shares[values <= low + 0.02 * (high - low)].sum()
    hint = "export the CT in HU, without a window"
    if low > _NARROW_HU[0] and near_low > _CLIPPED_SHARE:
        message = f"values from {low:.4g} to {high:.4g} are no HU: they were windowed or scaled"
        return [Finding("warning", "not-hu", message, hint)]
    if high - low < _LEAST_RANGE and low > _AIR_BELOW_HU:
        message = f"values from {low:.4g} to {high:.4g} are no HU: they were scaled"
        return [Finding("warning", "not-hu", message, "export the CT in HU")]
    # The least value beside what stands alone below: a frame of -1024 around a windowed scan.
    first = _first_measurement(values, counts)
    if _AIR_BELOW_HU < values[first] < _HIGHEST_LOWER_END and shares[first] > _CLIPPED_SHARE:
        message = f"values were clipped at {values[first]:.4g}, among those of tissue"
        return [Finding("warning", "not-hu", message, hint)]
    if _AIR_BELOW_HU < high < _CLIPPED_BELOW_HU and shares[-1] > _CLIPPED_ABOVE_SHARE:
        message = f"values end at {high:.4g}, among those of tissue: they were clipped"
        return [Finding("warning", "not-hu", message, hint)]
    least = np.where(values == 0, _ZERO_SHARE, _PADDED_SHARE)
    within = (values > _AIR_BELOW_HU) & (values < _NARROW_HU[1])
    for n in np.flatnonzero(within & (shares > least)):
        beside = (shares[np.abs(values - values[n]) <= 5].sum() - shares[n]) / 10
        if shares[n] > _PILE_TIMES * beside:
            message = f"{shares[n]:.0%} of the voxels are exactly {values[n]:g}: padding?"
            hint = "pad with -1024, not with a value of tissue"
            return [Finding("warning", "padded", message, hint)]
    return []


def _no_picture(
    hu: NDArray[Any], values: NDArray[np.float64], counts: NDArray[np.int64]
) -> list[Finding]:
    """Whether the values are those of no CT at all."""
    likelihood = _reading(values, counts, 1.0, 0.0).likelihood
    has_air = counts[values < _NARROW_HU[0]].sum() > 1e-3 * counts.sum()
    is_hard = counts[values > _HARD_HU].sum() > _HARD_SHARE * counts.sum()
    if likelihood < _LEAST_LIKELY or (is_hard and not has_air):
        message = f"values from {values[0]:.4g} to {values[-1]:.4g} do not look like HU"
        return [Finding("warning", "not-hu", message, "check that this is a CT, exported in HU")]
    if hu.size > _LEAST_PICTURE and likelihood < _NOISY and _correlation(hu) < _STRUCTURE:
        message = "neighbouring voxels have nothing in common: noise?"
        return [Finding("warning", "not-hu", message, "check how the CT was exported")]
    return []


def _finding(reading: _Reading, low: float, high: float) -> Finding:
    values = f"values from {low:.4g} to {high:.4g} do not look like HU"
    if reading.slope == 1.0:
        message = f"{values}: they seem to lie {-reading.inter:+.0f} off"
        hint = f"try {option('hu_offset', f'{reading.inter:.0f}')}"
    elif reading.slope < 0:
        message, hint = f"{values}: they seem to be inverted", "export the CT in HU"
    else:
        message = f"{values}: they seem to be {1 / reading.slope:g} times HU"
        hint = "export the CT in HU"
    return Finding("warning", "not-hu", message, hint)


def _reading(
    values: NDArray[np.float64], counts: NDArray[np.int64], slope: float, inter: float
) -> _Reading:
    likelihoods = _log_density(values * slope + inter) + math.log(abs(slope))
    return _Reading(slope, inter, float(likelihoods @ counts / counts.sum()))


def _log_density(hu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the density of HU in scans of bodies."""
    density = np.full(len(hu), _ANYTHING_SHARE / _ANYTHING_HU)
    for share, mean, deviation in _TISSUES:
        z = (hu - mean) / deviation
        density += share / (deviation * math.sqrt(2 * math.pi)) * np.exp(-0.5 * z * z)
    return np.asarray(np.log(density))


def _has_air_and_tissue(hu: NDArray[np.float64], counts: NDArray[np.int64]) -> bool:
    air = counts[hu < _AIR_BELOW_HU].sum()
    return bool(air > _LEAST_SHARE * counts.sum()) and _has_tissue(hu, counts)


def _has_tissue(hu: NDArray[np.float64], counts: NDArray[np.int64]) -> bool:
    tissue = counts[(hu > -150) & (hu < 250)].sum()
    return bool(tissue > _LEAST_SHARE * counts.sum())


def _correlation(hu: NDArray[Any]) -> float:
    """Correlation of neighbours along a row; 1 where there is nothing to correlate."""
    if hu.shape[-1] < 3:
        return 1.0
    left, right = hu[..., :-1].ravel().astype(np.float64), hu[..., 1:].ravel().astype(np.float64)
    deviation = left.std() * right.std()
    covariance = ((left - left.mean()) * (right - right.mean())).mean()
    return float(covariance / deviation) if deviation else 1.0
