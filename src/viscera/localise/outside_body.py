"""Labels outside the body removed: air around a patient may look like lung to a network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from viscera.core.volume import Labels
from viscera.localise.body import body_mask, filled_body, grown, shell_pixels
from viscera.localise.overview import DENSE_HU, Overview


def clear_outside_body(labels: Labels, overview: Overview) -> NDArray[np.int64]:
    """Turn labels outside the body's outline to background, in place.

    The outline is that of the overview, a few millimetres wide of the skin; what it encloses, such
    as lungs, is inside. Where no body is seen, nothing is removed.

    Args:
        labels: [i, j, k] uint8 of the scan.
        overview: of the scan.

    Returns:
        (256,) voxels that were removed, by label.
    """
    removed = np.zeros(256, dtype=np.int64)
    plane_mm = overview.spacing_mm[1:]
    body = body_mask(overview.hu > DENSE_HU, plane_mm)
    if not body.any():
        return removed
    # The mask was worn off by a shell; half a voxel of the overview is lost on top.
    inside = grown(filled_body(body), [n + 1 for n in shell_pixels(plane_mm)])
    view = overview.orientation.view(labels)
    z, y, x = (
        np.minimum(np.arange(n) // step, m - 1)
        for n, step, m in zip(view.shape, overview.steps, inside.shape, strict=True)
    )
    for plane, number in zip(view, z, strict=True):
        if not plane.any():
            continue
        beyond = ~inside[number][y][:, x] & (plane > 0)
        removed += np.bincount(plane[beyond], minlength=256)
        plane[beyond] = 0
    return removed
