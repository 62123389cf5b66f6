"""DeepMind's `surface-distance`, and FLARE's rules written plainly around it."""

import types

import numpy as np
import surface_distance
from scipy import ndimage
from surface_distance import metrics

# The package speaks of names that numpy 2 and scipy have dropped.
_numpy = types.ModuleType("numpy")
_numpy.__dict__.update(vars(np), Inf=np.inf, NaN=np.nan)
metrics.np = _numpy
_ndimage = types.ModuleType("ndimage")
_ndimage.filters = _ndimage.morphology = ndimage
metrics.ndimage = _ndimage


def four_metrics(prediction, truth, spacing_mm, tolerance_mm):
    """DSC, NSD, HD95 and ASSD of two masks, neither of them empty."""
    found = surface_distance.compute_surface_distances(truth, prediction, spacing_mm)
    areas = [found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()]
    return (
        surface_distance.compute_dice_coefficient(truth, prediction),
        surface_distance.compute_surface_dice_at_tolerance(found, tolerance_mm),
        surface_distance.compute_robust_hausdorff(found, 95),
        np.average(surface_distance.compute_average_surface_distance(found), weights=areas),
    )


def flare24(prediction, truth, spacing_mm, organ):
    """DSC and NSD of one organ by the rules of FLARE's script, in their order."""
    a, b = truth == organ.id, prediction == organ.id
    if not a.any() and not b.any():
        return 1, 1
    if not a.any() or not b.any():
        return 0, 0
    if organ.name in ("aorta", "inferior_vena_cava", "esophagus"):
        slices = np.where(a)[2]
        a, b = (mask[:, :, slices.min() : slices.max()] for mask in (a, b))
        if not a.size:
            return np.nan, np.nan
    dsc = surface_distance.compute_dice_coefficient(a, b)
    if dsc < 0.2:
        return round(dsc, 4), 0
    found = surface_distance.compute_surface_distances(a, b, spacing_mm)
    nsd = surface_distance.compute_surface_dice_at_tolerance(found, organ.tolerance_mm)
    return round(dsc, 4), round(nsd, 4)
