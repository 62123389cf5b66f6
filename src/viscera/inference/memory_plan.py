"""The memory plan: what a step will take at most, worked out before it is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from viscera.bundle.spec import Bundle, Patch, Precision
from viscera.core.boxes import Box
from viscera.core.volume import SLAB_PLANES, Volume
from viscera.errors import option
from viscera.grid.grid import Grid
from viscera.inference.windows import AxisWindows, fit_window_size
from viscera.localise.preprocess import COPY_BELOW_SHARE
from viscera.postprocess.closing import SLAB_SLICES
from viscera.runtime.resources import available_mb, require_memory

# Interpreter, libraries and an engine's code, measured by benchmarks/memory.py.
BASE_MB = 165.0
# The same where nothing but the network runs, as in the process that measures its peak.
_RUN_BASE_MB = 117.0
_SCORE_SLICES = 3  # of scores, on their way to labels
_RUN_MARGIN = 1.03  # what a run takes varies by so much
_DECODER_MB = 75.0  # a process that decodes slices
_PICTURE_MB = 165.0  # what is drawn, and the libraries that draw
_SLABS = 4  # of the scan, between the file and the grid
_ORGAN_ROWS = 0.6  # of the body's rows, those between the first and last organ of a slice, at most
# Bytes a voxel of the slab that is closed: a copy and bit masks; and bytes a voxel of an organ's
# box, which may be that of all organs: the number of its component.
_CLOSING_BYTES, _COMPONENT_BYTES = 9, 2


class WindowPlan(NamedTuple):
    """The windows of a run, and what all of it takes.

    Attributes:
        patch: window size, overlap and blending; None for slice networks.
        need_mb: peak memory of the process.
    """

    patch: Patch | None
    need_mb: float


@dataclass(frozen=True)
class MemoryPlan:
    """What one bundle may take for one scan.

    Attributes:
        bundle: of the network that runs.
        volume: the scan.
        asked_mb: most memory for all of it; what is free beside what is taken already where None.
        low_memory: windows no larger than the bundle's, whose labels differ a little.
    """

    bundle: Bundle
    volume: Volume
    asked_mb: float | None = None
    low_memory: bool = False

    @property
    def limit_mb(self) -> float:
        """Most memory that the process may take."""
        return self.asked_mb or available_mb() + BASE_MB + self.volume.resident_mb

    def require(self, need_mb: float, what: str = "this scan", *, remedy: str = "") -> None:
        """Stop before allocating what does not fit.

        Args:
            need_mb: peak memory of a step.
            what: the step, for the message.
            remedy: what else than more memory would do.

        Raises:
            ResourceError: it is more than the limit; the message names it.
        """
        require_memory(need_mb, self.limit_mb, what=what, remedy=remedy, where=self.volume.name)

    def plan_windows(
        self, grid: Grid, box: Box, precision: Precision, *, body: Box | None = None
    ) -> WindowPlan:
        """The windows for this part of the grid. Memory does not change them: it may only refuse.

        Args:
            grid: the network's.
            box: the part [z, y, x] of the grid that the network sees.
            precision: in which it runs.
            body: the part [z, y, x] of the grid that organs can lie in; the box where not given.

        Raises:
            ResourceError: more than the limit.
        """
        plan = self._window_plan(grid, box, precision, body or box, low_memory=self.low_memory)
        remedy = ""
        if plan.need_mb > self.limit_mb and not self.low_memory:
            smaller = self._window_plan(grid, box, precision, body or box, low_memory=True)
            if smaller.need_mb <= self.limit_mb:
                remedy = f"pass {option('low_memory', True)}, whose labels differ a little, or "
        self.require(plan.need_mb, remedy=remedy)
        return plan

    def _window_plan(
        self, grid: Grid, box: Box, precision: Precision, body: Box, *, low_memory: bool
    ) -> WindowPlan:
        shape = tuple(part.stop - part.start for part in box)
        patch = self.bundle.patch and fit_window_size(
            self.bundle.patch, shape, low_memory=low_memory
        )
        resident_mb = resident_during_read_mb(self.volume, grid)
        need_mb = segment_peak_mb(
            self.bundle, patch, precision, grid, box, body=body, resident_mb=resident_mb
        )
        return WindowPlan(patch, max(need_mb, read_peak_mb(self.volume, grid)))


def resident_during_read_mb(volume: Volume, grid: Grid) -> float:
    """MB of voxels that lie in memory while a scan is read onto a grid.

    Args:
        volume: the scan.
        grid: the network's on it.
    """
    # Only along the slowest axis of a file can it be read without holding all of it.
    streams = grid.orientation.axes[2] == 2
    return volume.resident_mb if streams else math.prod(volume.shape) * 2 / 1e6


def straighten_peak_mb(volume: Volume) -> float:
    """Peak MB of resampling a sheared scan; at 45 degrees that doubles its voxels."""
    voxel_bytes = math.prod(volume.shape) * max(2, volume.voxels.dtype.itemsize)
    return BASE_MB + 3 * voxel_bytes / 1e6


def read_peak_mb(volume: Volume, grid: Grid) -> float:
    """Peak MB of reading a scan and resampling it.

    Args:
        volume: the scan.
        grid: the network's on it.
    """
    slabs_mb = _SLABS * SLAB_PLANES * math.prod(volume.shape[:2]) * 4 / 1e6
    grid_mb = math.prod(grid.shape) * 4 / 1e6
    decoders_mb = volume.decoder_processes * _DECODER_MB
    return BASE_MB + resident_during_read_mb(volume, grid) + slabs_mb + grid_mb + decoders_mb


def preview_peak_mb(volume: Volume) -> float:
    """Peak MB of reading a finished scan once more and drawing its preview.

    Args:
        volume: the scan.
    """
    labels_mb = _ORGAN_ROWS * math.prod(volume.shape) / 1e6
    work_mb = max(_PICTURE_MB, volume.decoder_processes * _DECODER_MB)
    return BASE_MB + volume.resident_mb + labels_mb + work_mb


def segment_peak_mb(
    bundle: Bundle,
    patch: Patch | None,
    precision: Precision,
    grid: Grid,
    box: Box,
    *,
    body: Box,
    resident_mb: float,
) -> float:
    """Peak MB from the resampled scan to its labels, estimated from above.

    Args:
        bundle: of the network that runs.
        patch: its windows as they are fitted to the scan.
        precision: in which it runs.
        grid: the network's.
        box: the part [z, y, x] of the grid that it sees.
        body: the part of the grid that organs can lie in.
        resident_mb: the scan's voxels, where they lie in memory.
    """
    box_shape: list[int] = [part.stop - part.start for part in box]
    shares = [n / whole for n, whole in zip(box_shape, grid.shape, strict=True)]
    voxels: float = math.prod(grid.source_shape)
    # Labels are written in the body only, but a page holds a whole row and more.
    body_shares = (
        (p.stop - p.start) / n for p, n in zip(body[::-1], grid.shape[::-1], strict=True)
    )
    share_of_axis = zip(body_shares, grid.orientation.axes, strict=True)
    rows: float = math.prod(share for share, axis in share_of_axis if axis > 0)
    labels_mb = _ORGAN_ROWS * voxels * rows / 1e6
    network_mb = _network_peak_mb(bundle, patch, precision, box_shape)
    postprocess_mb = _postprocess_peak_mb(bundle, grid, voxels * math.prod(shares))
    planes_mb = min(math.prod(grid.shape), math.prod(box_shape) / COPY_BELOW_SHARE) * 4 / 1e6
    # The network's memory is given back before labels are post-processed.
    return BASE_MB + resident_mb + labels_mb + max(network_mb + planes_mb, postprocess_mb)


def _network_peak_mb(
    bundle: Bundle, patch: Patch | None, precision: Precision, box_shape: list[int]
) -> float:
    """Peak MB of the network and its scores, for a box of this many voxels [z, y, x]."""
    classes, pixels = len(bundle.labels), box_shape[1] * box_shape[2]
    run_mb: float = bundle.model.run_peak_in(precision)
    if patch is None or bundle.patch is None:
        assert bundle.slices is not None  # Bundle has one or the other
        return run_mb + bundle.slices.batch * pixels * classes * 4 / 1e6
    # What grows with the window is all but the engine's code.
    run_mb = _RUN_MARGIN * (run_mb + BASE_MB - _RUN_BASE_MB)
    run_mb *= math.prod(patch.size) / math.prod(bundle.patch.size)
    # Scores that windows above each other share; where several lie side by side, all their sums.
    side_by_side = box_shape[2] > patch.size[0] or box_shape[1] > patch.size[1]
    depth = patch.size[2]
    z = AxisWindows.fit(box_shape[0], depth, patch.overlap, gaussian=False, sigma=patch.sigma)
    shared = max((depth - (high - low) for low, high in pairwise(z.starts)), default=0)
    slices = depth * side_by_side + shared + _SCORE_SLICES
    # The window itself, and the slab that it is cut from, where that must be padded.
    slab_pixels = math.prod(
        max(n, size) for n, size in zip(box_shape[1:], patch.size[1::-1], strict=True)
    )
    window_mb = (math.prod(patch.size) + patch.size[2] * slab_pixels) * 4 / 1e6
    return run_mb + window_mb + slices * pixels * classes * 4 / 1e6


def _postprocess_peak_mb(bundle: Bundle, grid: Grid, voxels: float) -> float:
    """Peak MB of post-processing this many voxels of the scan."""
    steps = {step.step for step in bundle.postprocess}
    peak_bytes = _CLOSING_BYTES * voxels * min(1.0, SLAB_SLICES / grid.source_shape[0])
    if steps - {"closing"}:
        peak_bytes = max(peak_bytes, _COMPONENT_BYTES * voxels)
    return peak_bytes / 1e6
