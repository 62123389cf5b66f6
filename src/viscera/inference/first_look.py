"""The first look: a coarse network over the whole body, so that the fine one sees organs only."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import LookSettings
from viscera.core.boxes import Box, widened
from viscera.core.volume import Volume
from viscera.findings import Finding
from viscera.grid.grid import Grid
from viscera.inference.memory_plan import MemoryPlan
from viscera.inference.network import Network
from viscera.localise.organs_seen import OrgansSeen


class LookResult(NamedTuple):
    """What a first look tells.

    Attributes:
        organs: the box [z, y, x] in voxels of the scan that organs can lie in: all of the body
            where no organ is seen, or where the body or what is seen of organs is short.
        findings: what there is to say about it.
        need_mb: planned peak memory of the process.
        seen: what the coarse network saw; None where the body is too short for a look.
    """

    organs: Box
    findings: list[Finding]
    need_mb: float
    seen: OrgansSeen | None = None


@dataclass(frozen=True)
class FirstLook:
    """A coarse network, and how much around what it finds is kept.

    Attributes:
        network: the coarse one.
        settings: of the bundle of the fine one.
    """

    network: Network
    settings: LookSettings

    def grid(self, volume: Volume) -> Grid:
        """The coarse network's grid on a scan."""
        return Grid.fit(volume.shape, volume.affine, self.network.bundle)

    def search(
        self,
        planes: NDArray[np.float32],
        grid: Grid,
        body: Box,
        memory_plan: MemoryPlan,
        *,
        pool: Executor,
        on_progress: Callable[[float], None],
    ) -> LookResult:
        """Where organs can be, and what there is to say about it.

        Args:
            planes: (Z, Y, X) of the coarse grid, as `Grid.forward` makes them.
            grid: the coarse grid.
            body: the part [z, y, x] of the scan to search, in its voxels.
            memory_plan: of the fine network.
            pool: works on slices side by side.
            on_progress: takes the share done.

        Raises:
            ResourceError: it needs more memory than the limit.
        """
        bundle, engine = self.network.bundle, self.network.load()
        part = grid.covering(body)
        if not self._is_long(part[0], grid):
            return LookResult(body, [], 0.0)
        plan = replace(memory_plan, bundle=bundle).plan_windows(grid, part, engine.precision)
        slabs = self.network.scores(
            planes[part],
            plan.patch,
            air_value=grid.air_value,
            pool=pool,
            on_progress=on_progress,
        )
        seen = OrgansSeen.of(slabs, grid, part, bundle.label_ids)
        engine.release_memory()
        box, organs = seen.box(self.settings), body
        if box is not None and self._is_long(grid.covering(box)[0], grid):
            organs = self._field(box, grid, body)
        return LookResult(organs, seen.findings(), plan.need_mb, seen)

    def _is_long(self, part: slice, grid: Grid) -> bool:
        """Whether a part along z is long enough to rely on the look."""
        return bool((part.stop - part.start) * grid.spacing_mm[0] >= self.settings.shortest_mm)

    def _field(self, box: Box, grid: Grid, body: Box) -> Box:
        """The box in voxels of the scan, no smaller in plane than the settings say."""
        z, *in_plane = box
        y, x = (
            widened(part, whole, math.ceil(least_mm * axis.step / axis.spacing_mm))
            for part, whole, axis, least_mm in zip(
                in_plane, body[1:], grid.axes[1:], self.settings.field_mm[::-1], strict=True
            )
        )
        return z, y, x
