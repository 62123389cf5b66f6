"""What a coarse network sees of a scan's organs, and the part that a fine one needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import LookSettings
from viscera.core.boxes import Box, organ_box
from viscera.core.volume import Labels
from viscera.findings import Finding
from viscera.grid.grid import Grid
from viscera.grid.slab_windows import ScoreSlab
from viscera.grid.upsample import argmax

_LEAST_VOXELS = 3  # a smaller piece is noise


class LookAgreement(NamedTuple):
    """How an organ of the finished labels agrees with the first look.

    Attributes:
        dice: DSC of both on the coarse grid; 0.0 where only one of them shows the organ.
        look_ml: volume that the look saw.
    """

    dice: float
    look_ml: float


@dataclass(frozen=True, eq=False)
class OrgansSeen:
    """Organs as a coarse network sees them.

    Attributes:
        labels: [z, y, x] uint8 of a part of its grid, without pieces of a voxel or two.
        grid: its grid on the scan.
        part: of that grid; nothing was looked for elsewhere.
        label_ids: labels that the network knows.
    """

    labels: NDArray[np.uint8]
    grid: Grid
    part: Box
    label_ids: tuple[int, ...]

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
        return cls(labels, grid, part, tuple(label_ids))

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

    def agreement(self, labels: Labels) -> dict[int, LookAgreement]:
        """How finished labels agree with what was seen, by label that the network knows.

        Args:
            labels: [i, j, k] uint8 of the scan.
        """
        finished = self.grid.nearest(labels)[self.part]
        voxel_ml = float(np.prod(self.grid.spacing_mm)) / 1000
        both = np.bincount(self.labels[self.labels == finished], minlength=256)
        seen, final = (np.bincount(v.ravel(), minlength=256) for v in (self.labels, finished))
        return {
            organ: LookAgreement(
                float(2 * both[organ] / max(seen[organ] + final[organ], 1)),
                float(seen[organ] * voxel_ml),
            )
            for organ in self.label_ids
            if organ
        }

    def findings(self) -> list[Finding]:
        """That nothing is seen, where that is so."""
        if self.labels.any():
            return []
        message = "the first, coarse look saw no organ"
        return [Finding("info", "nothing-seen", message, "all of the scan was searched")]
