"""What a coarse network sees of a scan's organs, and the part that a fine one needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import LookSettings
from viscera.core.boxes import Box, organ_box
from viscera.core.organs import ORGANS_BY_ID
from viscera.findings import Finding
from viscera.grid.grid import Grid
from viscera.grid.slab_windows import ScoreSlab
from viscera.grid.upsample import argmax

_LEAST_VOXELS = 3  # a smaller piece is noise
_LEAST_CUT_MM2 = 200.0  # of an organ on the scan's outermost slice
# They run on beyond any abdomen, so that every scan cuts them.
_ALWAYS_CUT = frozenset({"aorta", "inferior_vena_cava", "esophagus"})
_ENDS = {"S": ("lower", "upper"), "I": ("upper", "lower")}  # of an axis that runs there


@dataclass(frozen=True, eq=False)
class OrgansSeen:
    """Organs as a coarse network sees them.

    Attributes:
        labels: [z, y, x] uint8 of a part of its grid, without pieces of a voxel or two.
        grid: its grid on the scan.
        part: of that grid; nothing was looked for elsewhere.
    """

    labels: NDArray[np.uint8]
    grid: Grid
    part: Box

    @classmethod
    def of(
        cls, slabs: Iterable[ScoreSlab], grid: Grid, part: Box, label_ids: Sequence[int]
    ) -> OrgansSeen:
        """What scores show.

        Args:
            slabs: of scores along z, in order and without gaps.
            grid: the network's on the scan.
            part: of that grid, which the scores cover.
            label_ids: label of each channel.
        """
        import cc3d  # slow to import

        table = np.asarray(label_ids, dtype=np.uint8)
        labels = np.stack([table[argmax(scores)] for slab in slabs for scores in slab.slices])
        pieces = cc3d.connected_components((labels > 0).view(np.uint8), connectivity=26)
        labels[(np.bincount(pieces.ravel()) < _LEAST_VOXELS)[pieces]] = 0
        return cls(labels, grid, part)

    def box(self, settings: LookSettings) -> Box | None:
        """The box [z, y, x] in voxels of the scan around all that is seen; None if nothing is.

        Args:
            settings: how much is kept around it.
        """
        seen = organ_box(self.labels.T)
        if seen is None:
            return None
        towards = self.grid.settings.orientation[::-1]
        z, y, x = (
            axis.source_part(
                slice(whole.start + part.start, whole.start + part.stop),
                before_mm=settings.above_mm if end == "I" else settings.margin_mm,
                after_mm=settings.above_mm if end == "S" else settings.margin_mm,
            )
            for axis, whole, part, end in zip(
                self.grid.axes, self.part, seen[::-1], towards, strict=True
            )
        )
        return z, y, x

    def findings(self) -> list[Finding]:
        """That nothing is seen, or which organs the scan's ends cut."""
        if not self.labels.any():
            message = "the first, coarse look saw no organ"
            return [Finding("info", "nothing-seen", message, "all of the scan was searched")]
        findings = []
        _, y, x = self.grid.axes
        pixel_mm2 = y.spacing_mm * x.spacing_mm
        names = _ENDS.get(self.grid.settings.orientation[2], ("first", "last"))
        is_end = self.part[0].start == 0, self.part[0].stop == self.grid.shape[0]
        for name, plane in compress(zip(names, self.labels[[0, -1]], strict=True), is_end):
            areas_mm2 = np.bincount(plane.ravel(), minlength=256) * pixel_mm2
            organs = [
                ORGANS_BY_ID[int(n)] for n in np.flatnonzero(areas_mm2 >= _LEAST_CUT_MM2) if n
            ]
            cut = [organ.name for organ in organs if organ.name not in _ALWAYS_CUT]
            if cut:
                message = f"the {name} end of the scan cuts {', '.join(cut)}"
                hint = "their volumes are of what lies in the scan"
                findings.append(Finding("info", f"cut-{name}", message, hint))
        return findings
