"""The phase of the contrast, from the HU of vessels and organs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from viscera.core.examination import Phase
from viscera.core.organs import ORGANS_BY_NAME

TELLING = ("aorta", "inferior_vena_cava", "liver", "spleen", "kidney_right", "kidney_left")
_LEAST_VOXELS = 20  # of the overview: fewer say little
# Blood has 30 to 60 HU without contrast; first the aorta brightens, then the veins; half a minute
# after the liver it fades again, and the kidneys stay bright for minutes.
_UNENHANCED_AORTA_HU, _UNENHANCED_KIDNEY_HU = 75.0, 65.0
_BLOOD_HU, _LIVER_HU = 45.0, 55.0  # without contrast
# What has reached vena cava and liver of the aorta's brightness, at most, in the arterial phase.
_ARTERIAL_SHARE = 0.38
_PORTAL_LIVER_HU, _PORTAL_AORTA_HU = 80.0, 115.0


def median_hus(hu: NDArray[np.number], labels: NDArray[np.uint8]) -> dict[str, float]:
    """Median HU of the organs that tell the phase.

    Args:
        hu: [z, y, x] of an overview.
        labels: [z, y, x] at the same voxels.
    """
    medians = {}
    for name in TELLING:
        values = hu[labels == ORGANS_BY_NAME[name].id]
        if values.size >= _LEAST_VOXELS:
            medians[name] = round(float(np.median(values)), 1)
    return medians


def contrast_phase(medians: Mapping[str, float]) -> Phase | None:
    """The phase; None without the aorta, or with contrast and neither vena cava nor liver.

    Args:
        medians: HU by organ, see `median_hus`.
    """
    kidneys = [medians[name] for name in ("kidney_right", "kidney_left") if name in medians]
    kidney = max(kidneys, default=None)
    aorta, cava = medians.get("aorta"), medians.get("inferior_vena_cava")
    liver = medians.get("liver")
    if aorta is None:
        return None
    is_kidney_dark = kidney is None or kidney < _UNENHANCED_KIDNEY_HU
    if aorta < _UNENHANCED_AORTA_HU and is_kidney_dark:
        return "unenhanced"
    if cava is None and liver is None:
        return None
    most = _ARTERIAL_SHARE * (aorta - _BLOOD_HU)
    dark = [cava - _BLOOD_HU < most] if cava is not None else []
    dark += [liver - _LIVER_HU < most] if liver is not None else []
    if all(dark):
        return "arterial"
    if liver is not None and liver < _PORTAL_LIVER_HU and aorta < _PORTAL_AORTA_HU:
        return "late"
    return "portal venous"
