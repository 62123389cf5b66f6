"""The memory plan: what a step will take at most, worked out before it is taken."""

from __future__ import annotations

from viscera.bundle import Bundle
from viscera.grid import Grid
from viscera.volume import Hu

# Interpreter, libraries and an engine's code, measured by benchmarks/segment_stages.py.
BASE_MB = 260.0
# A copy and bit masks for closing; piece numbers and their bookkeeping for all other steps.
_CLOSING_BYTES, _COMPONENT_BYTES = 4, 9


def straightening_mb(data: Hu) -> float:
    """Peak MB of setting a sheared scan upright; at 45 degrees that doubles its voxels."""
    return BASE_MB + 3 * data.nbytes / 1e6


def segmenting_mb(bundle: Bundle, data: Hu, grid: Grid) -> float:
    """Peak MB of segmenting a scan, estimated from above.

    Args:
        bundle: whose network runs.
        data: the scan's voxels, held all the while.
        grid: the network's grid on it.
    """
    held = data.nbytes + data.size  # the scan and its labels
    slice_pixels = grid.shape[1] * grid.shape[2]
    classes = len(bundle.labels)
    if bundle.patch:
        # Scores in half precision and input slices in single, both a patch deep.
        working = bundle.patch.size[2] * slice_pixels * (2 * classes + 4)
    else:
        assert bundle.slices is not None  # Bundle has one or the other
        # Scores twice over and the slices they come from, a batch of them.
        working = (bundle.slices.batch + bundle.slices.stack) * slice_pixels * 8 * (classes + 1)
    steps = {step.step for step in bundle.postprocess}
    cleaning = 0
    if steps:
        cleaning = _COMPONENT_BYTES if steps - {"closing"} else _CLOSING_BYTES
    network_mb = working / 1e6 + bundle.model.working_mb
    return BASE_MB + held / 1e6 + max(network_mb, cleaning * data.size / 1e6)
