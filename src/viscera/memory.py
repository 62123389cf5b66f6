"""The memory plan: what a step will take at most, worked out before it is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass

from viscera.bundle import Bundle, Patch, Precision
from viscera.grid import Grid
from viscera.grid.look import Box
from viscera.grid.walk import MUCH_LESS
from viscera.postprocess.closing import SLAB_SLICES
from viscera.resources import available_mb, require
from viscera.scoring.windows import GROWTH, fitted
from viscera.volume import SLAB_PLANES, Volume

# Interpreter, libraries and an engine's code, measured by benchmarks/speed.py.
BASE_MB = 165.0
_SLABS = 4  # pieces of the scan between the file and the grid
# Of a voxel of the slab that is closed: a copy and bit masks; of one within an organ's box, which
# may be that of all organs: the number of its piece.
_CLOSING_BYTES, _COMPONENT_BYTES = 9, 2


@dataclass(frozen=True)
class Budget:
    """What one bundle may take for one scan.

    Attributes:
        bundle: whose network runs.
        volume: the scan.
        asked_mb: most memory for all of it; what is free beside what is taken already where None.
    """

    bundle: Bundle
    volume: Volume
    asked_mb: float | None = None

    def require(self, need_mb: float, what: str = "this scan") -> None:
        """Stop before allocating what is not there.

        Raises:
            ResourceError: it is more than the limit; the message names it.
        """
        require(need_mb, self._limit_mb, what=what, where=self.volume.name)

    def windows(self, grid: Grid, box: Box, precision: Precision) -> tuple[Patch | None, float]:
        """The windows for this part of the grid, and the memory in MB that all of it will take.

        Where memory is short, they are those that take least.

        Raises:
            ResourceError: more than the limit.
        """
        shape = tuple(part.stop - part.start for part in box)
        held_mb = held_along(self.volume, grid)
        choices = []
        for growth in (GROWTH, 1.0):
            patch = self.bundle.patch and fitted(self.bundle.patch, shape, growth=growth)
            need_mb = segmenting_mb(self.bundle, patch, precision, grid, box, held_mb=held_mb)
            choices.append((need_mb, patch))
        limit_mb = self._limit_mb
        fitting = (choice for choice in choices if choice[0] <= limit_mb)
        need_mb, patch = next(fitting, min(choices, key=lambda choice: choice[0]))
        self.require(need_mb)
        return patch, need_mb

    @property
    def _limit_mb(self) -> float:
        return self.asked_mb or available_mb() + BASE_MB + self.volume.held_mb


def held_along(volume: Volume, grid: Grid) -> float:
    """MB of voxels that lie in memory while a scan is walked over."""
    # Only along the slowest axis of a file can one walk without holding all of it.
    return volume.held_mb if grid.orientation.axes[2] == 2 else math.prod(volume.shape) * 2 / 1e6


def straightening_mb(volume: Volume) -> float:
    """Peak MB of setting a sheared scan upright; at 45 degrees that doubles its voxels."""
    return BASE_MB + 3 * volume.data.nbytes / 1e6


def reading_mb(volume: Volume, grid: Grid) -> float:
    """Peak MB of walking over a scan and resampling it."""
    passing_mb = _SLABS * SLAB_PLANES * math.prod(volume.shape[:2]) * 4 / 1e6
    return BASE_MB + held_along(volume, grid) + passing_mb + math.prod(grid.shape) * 4 / 1e6


def segmenting_mb(
    bundle: Bundle,
    patch: Patch | None,
    precision: Precision,
    grid: Grid,
    box: Box,
    *,
    held_mb: float,
) -> float:
    """Peak MB from the resampled scan to its labels, estimated from above.

    Args:
        bundle: whose network runs.
        patch: its windows as they are fitted to the scan.
        precision: in which it runs.
        grid: the network's.
        box: the part [z, y, x] of the grid that it looks at.
        held_mb: the scan's voxels, where they are held.
    """
    seen: list[int] = [part.stop - part.start for part in box]
    shares = [n / whole for n, whole in zip(seen, grid.shape, strict=True)]
    voxels: float = math.prod(grid.source_shape)
    within = voxels * math.prod(shares)
    # Labels are written within the box only, but a page holds a whole row and more.
    rows = zip(shares[::-1], grid.orientation.axes, strict=True)
    labels_mb = voxels * math.prod(share for share, axis in rows if axis > 0) / 1e6
    classes, pixels = len(bundle.labels), seen[1] * seen[2]
    working_mb: float = bundle.model.working_in(precision)
    if patch is not None and bundle.patch is not None:
        working_mb *= math.prod(patch.size) / math.prod(bundle.patch.size)
        # Scores that neighbouring windows share; where several lie side by side, all their sums.
        several = seen[2] > patch.size[0] or seen[1] > patch.size[1]
        kept = patch.size[2] * (several + patch.overlap)
        working_mb += kept * pixels * classes * 4 / 1e6
    else:
        assert bundle.slices is not None  # Bundle has one or the other
        working_mb += bundle.slices.batch * pixels * classes * 4 / 1e6
    steps = {step.step for step in bundle.postprocess}
    cleaning = _CLOSING_BYTES * within * min(1.0, SLAB_SLICES / grid.source_shape[0])
    if steps - {"closing"}:
        cleaning = max(cleaning, _COMPONENT_BYTES * within)
    planes_mb = min(math.prod(grid.shape), math.prod(seen) / MUCH_LESS) * 4 / 1e6
    # The network's memory is given back before labels are cleaned.
    return BASE_MB + held_mb + labels_mb + max(working_mb + planes_mb, cleaning / 1e6)
