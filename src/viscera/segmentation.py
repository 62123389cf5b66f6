"""Segmentation: the labels found in a volume, on its own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.findings import Finding
from viscera.organs import BY_ID, Organ, select
from viscera.volume import Labels, Volume, keep_labels

if TYPE_CHECKING:
    from viscera.stages import Stages


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """Labels of a volume, on its own grid.

    Attributes:
        labels: [i, j, k] uint8; 0 is background, organs are numbered as in `viscera.organs`.
        volume: the CT that was segmented; its affine is the labels' affine.
        organs: the organs that were looked for, found or not.
        findings: what was noticed from reading to post-processing.
        provenance: what made it: versions, bundle, engine and grid, JSON-ready.
        stages: seconds and peak memory of every stage.
    """

    labels: Labels
    volume: Volume
    organs: tuple[Organ, ...]
    findings: tuple[Finding, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    stages: Stages | None = None

    def __repr__(self) -> str:
        found = sum(1 for volume in self.volumes_ml().values() if volume)
        return f"<Segmentation of {self.volume!r}: {found} of {len(self.organs)} organs>"

    @property
    def affine(self) -> Affine:
        """Voxel indices to RAS millimetres, the volume's own."""
        return self.volume.affine

    def mask(self, organ: str | int) -> NDArray[np.bool_]:
        """One organ as [i, j, k] bool.

        Raises:
            UsageError: no such organ.
        """
        wanted = BY_ID[organ] if isinstance(organ, int) and organ in BY_ID else None
        wanted = wanted or select([str(organ)])[0]
        return np.asarray(self.labels == wanted.id)

    def volumes_ml(self) -> dict[str, float]:
        """Millilitres of each organ looked for, 0.0 where none was found."""
        counts = np.zeros(256, dtype=np.int64)
        # Rows with organs, plane by plane: bincount turns what it counts into 64-bit integers.
        for plane in self.labels.T:
            rows = np.flatnonzero(plane.any(axis=1))
            if rows.size:
                counts += np.bincount(plane[rows[0] : rows[-1] + 1].ravel(), minlength=256)
        return {o.name: float(counts[o.id]) * self.affine.voxel_ml for o in self.organs}

    def cut_organs(self) -> tuple[str, ...]:
        """Organs that reach the first or last voxel of some axis: the scan cuts them.

        Their volumes are lower bounds.
        """
        # Indexed: `take` would first copy the whole map into C order.
        along = (np.moveaxis(self.labels, axis, 0) for axis in range(3))
        faces = [turned[end] for turned in along for end in (0, -1)]
        border = set(np.concatenate([np.unique(face) for face in faces]).tolist())
        return tuple(organ.name for organ in self.organs if organ.id in border)

    def only(self, organs: Sequence[Organ | str]) -> Segmentation:
        """The same result with all other organs removed.

        Raises:
            UsageError: no such organ.
        """
        wanted = select(organ if isinstance(organ, str) else organ.name for organ in organs)
        kept = tuple(organ for organ in self.organs if organ in wanted)
        return replace(self, labels=keep_labels(self.labels, {o.id for o in wanted}), organs=kept)

    def save(
        self, path: str | Path, *, output_type: str | None = None, overwrite: bool = False
    ) -> None:
        """Write the labels; see `viscera.io.output.write_segmentation` for the types."""
        from viscera.io.output import write_segmentation  # io stands above this module

        write_segmentation(path, self, output_type=output_type, overwrite=overwrite)
