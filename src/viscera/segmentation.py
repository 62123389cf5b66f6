"""Segmentation: the labels found in a volume, on its own grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.core.examination import ScanExamination
from viscera.core.organ_quality import OrganQuality
from viscera.core.organs import FLARE13, LabelTable, Organ
from viscera.core.volume import Labels, Volume, keep_labels
from viscera.findings import Finding
from viscera.runtime.paths import checked_path
from viscera.runtime.stages import Stages

if TYPE_CHECKING:
    from viscera.report.notebook import NotebookView


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """Labels of a volume, on its own grid.

    Attributes:
        labels: [i, j, k] uint8; 0 is background, organs are numbered as in `label_table`.
        volume: the CT that was segmented; its affine is the labels' affine.
        organs: those that the network can find, present in the scan or not.
        quality: how far each organ can be trusted, by its name.
        examination: what the scan shows and in what state it is; None if nobody examined it.
        findings: what was noticed from reading to the result, the examination's among them.
        provenance: what made it: versions, bundle, engine and grid, JSON-ready.
        stages: seconds and peak memory of every stage.
        label_table: what the labels mean; the thirteen organs, or the structures of the bundle.
    """

    labels: Labels
    volume: Volume
    organs: tuple[Organ, ...]
    quality: Mapping[str, OrganQuality] = field(default_factory=dict)
    examination: ScanExamination | None = None
    findings: tuple[Finding, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    stages: Stages | None = None
    label_table: LabelTable = FLARE13

    def __repr__(self) -> str:
        organs_found = sum(1 for volume_ml in self.volumes_ml().values() if volume_ml)
        return f"<Segmentation of {self.volume!r}: {organs_found} of {len(self.organs)} organs>"

    @property
    def affine(self) -> Affine:
        """Voxel indices to RAS millimetres, those of the volume."""
        return self.volume.affine

    def mask(self, organ: str | int) -> NDArray[np.bool_]:
        """One organ as [i, j, k] bool.

        Args:
            organ: its name, title or label.

        Raises:
            UsageError: no such organ.
        """
        if isinstance(organ, int) and organ in self.label_table.by_id:
            return np.asarray(self.labels == organ)
        (selected,) = self.label_table.select([str(organ)])
        return np.asarray(self.labels == selected.id)

    def volumes_ml(self) -> dict[str, float]:
        """Millilitres of each organ of `organs`, 0.0 where none was found."""
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
        return cut_organs(self.labels, self.organs)

    def only(self, organs: Sequence[Organ | str]) -> Segmentation:
        """The same result with all other organs removed.

        Args:
            organs: to keep, or their names.

        Raises:
            UsageError: no such organ.
        """
        selected = self.label_table.select(o if isinstance(o, str) else o.name for o in organs)
        return replace(
            self,
            labels=keep_labels(self.labels, {organ.id for organ in selected}),
            organs=tuple(organ for organ in self.organs if organ in selected),
            quality={o.name: self.quality[o.name] for o in selected if o.name in self.quality},
            examination=self.examination and self.examination.only([o.name for o in selected]),
        )

    def save(
        self, path: str | Path, *, output_type: str | None = None, overwrite: bool = False
    ) -> None:
        """Write the labels to a file.

        Args:
            path: the file.
            output_type: nifti, seg_nrrd, dicom_seg or dicom_rtstruct; by the name where not given:
                .seg.nrrd, .dcm for dicom_seg, else nifti.
            overwrite: replace an existing file.

        Raises:
            UsageError: no such type, or DICOM from another kind of scan.
            InputError: a series without the UIDs that DICOM results need.
            MissingExtraError: a package of the extra `dicom` is not installed.
            OutputError: not writable, or the file exists.
        """
        from viscera.io.output_types import write_output  # slow to import

        write_output(
            checked_path(path),
            self.labels,
            self.volume,
            self.organs,
            output_type=output_type,
            signature=self.signature,
            overwrite=overwrite,
        )

    def save_masks(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write one binary NIfTI an organ, ``liver.nii.gz`` and so on; organs not found are empty.

        Args:
            folder: made where it is missing.
            overwrite: replace existing files.

        Raises:
            OutputError: not writable, or a file exists.
        """
        from viscera.io.write import write_masks  # slow to import

        write_masks(
            checked_path(folder),
            self.labels,
            self.volume,
            self.organs,
            signature=self.signature,
            overwrite=overwrite,
        )

    def show(self, *, height_px: int = 720) -> NotebookView:
        """Show it in a notebook: pictures, volumes, verdicts, and the organs in 3-D.

        Args:
            height_px: of the page.
        """
        from viscera.report.notebook import NotebookView  # upward: see docs/layers.toml

        return NotebookView(self, height_px)

    @property
    def signature(self) -> str:
        """What made it, as it is kept in the header of label files.

        First what was asked for, then what computed it: engine, precision, threads, window, bundle.
        """
        request = self.provenance.get("signature", "viscera")
        return f"{request} {self.provenance.get('computed_by', '')}".rstrip()


def cut_organs(labels: Labels, organs: Sequence[Organ]) -> tuple[str, ...]:
    """Names of the organs that reach the first or last voxel of some axis.

    Args:
        labels: [i, j, k] uint8 label map.
        organs: of which to tell.
    """
    # Indexed: `take` would first copy the whole map into C order.
    along_each_axis = (np.moveaxis(labels, axis, 0) for axis in range(3))
    faces = [lines[end] for lines in along_each_axis for end in (0, -1)]
    border = set(np.concatenate([np.unique(face) for face in faces]).tolist())
    return tuple(organ.name for organ in organs if organ.id in border)
