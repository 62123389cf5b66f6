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
_LOOK_MB = 10.0  # the compiled network of a first look, which stays
_SCORE_SLICES = 12  # of scores, on their way to labels
_RUN_MARGIN = 1.01  # what a run takes varies by so much
_DECODER_MB = 75.0  # a process that decodes slices
_PICTURE_MB = 165.0  # what is drawn, and the libraries that draw
_SLABS, _SLABS_KEPT = 4, 2  # of the scan, between file and grid; not given back afterwards
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
        grids: of every network on the scan; all are filled while it is read.
    """

    bundle: Bundle
    volume: Volume
    asked_mb: float | None = None
    low_memory: bool = False
    grids: tuple[Grid, ...] = ()

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

    def require_reading(self) -> None:
        """Stop before a scan is read if its grids do not fit.

        Raises:
            ResourceError: more than the limit.
        """
        self.require(self._read_peak_mb())

    def plan_windows(
        self, grid: Grid, box: Box, precision: Precision, *, organs: Box | None = None
    ) -> WindowPlan:
        """The windows for this part of the grid. Memory does not change them: it may only refuse.

        Args:
            grid: the network's.
            box: the part [z, y, x] of the grid that the network sees.
            precision: in which it runs.
            organs: the part [z, y, x] of the grid that organs can lie in; none where no labels
                are written, and the planes of all grids stay in memory.

        Raises:
            ResourceError: more than the limit.
        """
        plan = self._window_plan(grid, box, precision, organs, low_memory=self.low_memory)
        remedy = ""
        if plan.need_mb > self.limit_mb and not self.low_memory:
            smaller = self._window_plan(grid, box, precision, organs, low_memory=True)
            if smaller.need_mb <= self.limit_mb:
                remedy = f"pass {option('low_memory', True)}, whose labels differ a little, or "
        self.require(plan.need_mb, remedy=remedy)
        return plan

    def _window_plan(
        self, grid: Grid, box: Box, precision: Precision, organs: Box | None, *, low_memory: bool
    ) -> WindowPlan:
        shape = [part.stop - part.start for part in box]
        patch = self.bundle.patch and fit_window_size(
            self.bundle.patch, tuple(shape), low_memory=low_memory
        )
        resident_mb = self._resident_during_read_mb()
        network_mb = _network_peak_mb(self.bundle, patch, precision, shape)
        if organs is None:
            need_mb = self._planes_mb() + _slabs_mb(self.volume, _SLABS_KEPT) + network_mb
        else:
            planes_mb = min(math.prod(grid.shape), math.prod(shape) / COPY_BELOW_SHARE) * 4 / 1e6
            shares = [(p.stop - p.start) / n for p, n in zip(organs, grid.shape, strict=True)]
            voxels = math.prod(grid.source_shape) * math.prod(shares)
            # The network's memory is given back before labels are post-processed.
            work_mb = max(planes_mb + network_mb, _postprocess_peak_mb(self.bundle, grid, voxels))
            need_mb = _labels_mb(grid, organs) + work_mb
        need_mb += self._base_mb + resident_mb
        return WindowPlan(patch, max(need_mb, self._read_peak_mb()))

    @property
    def _base_mb(self) -> float:
        return BASE_MB + _LOOK_MB * (len(self.grids) - 1)

    def _planes_mb(self) -> float:
        return sum(math.prod(grid.shape) for grid in self.grids) * 4 / 1e6

    def _read_peak_mb(self) -> float:
        """Peak MB of reading the scan and resampling it."""
        decoders_mb = self.volume.decoder_processes * _DECODER_MB
        slabs_mb = _slabs_mb(self.volume, _SLABS)
        resident_mb = self._resident_during_read_mb()
        return self._base_mb + resident_mb + slabs_mb + self._planes_mb() + decoders_mb

    def _resident_during_read_mb(self) -> float:
        """MB of voxels that lie in memory while the scan is read onto its grids."""
        # Only along the slowest axis of a file can it be read without holding all of it.
        streams = self.grids[0].orientation.axes[2] == 2
        return self.volume.resident_mb if streams else math.prod(self.volume.shape) * 2 / 1e6


def _slabs_mb(volume: Volume, count: int) -> float:
    return count * SLAB_PLANES * math.prod(volume.shape[:2]) * 4 / 1e6


def _labels_mb(grid: Grid, organs: Box) -> float:
    """MB of the pages that labels are written to, of a scan's on this grid."""
    # A page holds a whole row and more.
    shares = ((p.stop - p.start) / n for p, n in zip(organs[::-1], grid.shape[::-1], strict=True))
    share_of_axis = zip(shares, grid.orientation.axes, strict=True)
    rows: float = math.prod(share for share, axis in share_of_axis if axis > 0)
    return _ORGAN_ROWS * math.prod(grid.source_shape) * rows / 1e6


def straighten_peak_mb(volume: Volume) -> float:
    """Peak MB of resampling a sheared scan; at 45 degrees that doubles its voxels."""
    voxel_bytes = math.prod(volume.shape) * max(2, volume.voxels.dtype.itemsize)
    return BASE_MB + 3 * voxel_bytes / 1e6


def preview_peak_mb(volume: Volume) -> float:
    """Peak MB of reading a finished scan once more and drawing its preview.

    Args:
        volume: the scan.
    """
    labels_mb = _ORGAN_ROWS * math.prod(volume.shape) / 1e6
    work_mb = max(_PICTURE_MB, volume.decoder_processes * _DECODER_MB)
    return BASE_MB + volume.resident_mb + labels_mb + work_mb


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
    z, y, x = (
        AxisWindows.fit(length, size, patch.overlap, gaussian=False, sigma=patch.sigma)
        for length, size in zip(box_shape, patch.size[::-1], strict=True)
    )
    # The scores of all windows at one height, of which the run has those of one; slices that
    # windows above each other share; slices on their way to labels.
    score_bytes = 2 if precision == "bf16" else 4
    beside_mb = (len(y.starts) * len(x.starts) - 1) * math.prod(patch.size) * classes / 1e6
    depth = patch.size[2]
    shared = max((depth - (high - low) for low, high in pairwise(z.starts)), default=0)
    slices_mb = (shared + _SCORE_SLICES) * pixels * classes * 4 / 1e6
    # The window itself, and the slab that it is cut from, where that must be padded.
    slab_pixels = math.prod(
        max(n, size) for n, size in zip(box_shape[1:], patch.size[1::-1], strict=True)
    )
    is_padded = slab_pixels > pixels or depth > box_shape[0]
    window_mb = (math.prod(patch.size) + is_padded * depth * slab_pixels) * 4 / 1e6
    return run_mb + beside_mb * score_bytes + slices_mb + window_mb


def _postprocess_peak_mb(bundle: Bundle, grid: Grid, voxels: float) -> float:
    """Peak MB of post-processing this many voxels of the scan."""
    steps = {step.step for step in bundle.postprocess}
    peak_bytes = _CLOSING_BYTES * voxels * min(1.0, SLAB_SLICES / grid.source_shape[0])
    if steps - {"closing"}:
        peak_bytes = max(peak_bytes, _COMPONENT_BYTES * voxels)
    return peak_bytes / 1e6
