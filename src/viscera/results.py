"""Results: the files that one case leaves behind, checked before the work and written after it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera.dicom import looks_like_dicom
from viscera.errors import UsageError, VisceraError
from viscera.io import read_grid, write_labels, write_masks
from viscera.io.atomic import atomic_write, check_absent, check_writable, write_text
from viscera.io.gz import ByteReader
from viscera.io.nifti import read_nifti_header
from viscera.io.nifti_header import load_header
from viscera.io.nifti_write import check_nifti_name
from viscera.io.output import OUTPUT_TYPES, OutputType
from viscera.io.write import write_itksnap_labels, write_slicer_colours
from viscera.organs import Organ
from viscera.report.run import report_of
from viscera.segmentation import Segmentation
from viscera.stages import Stages
from viscera.volume import Volume

_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Results:
    """Where one case's results go. Everything stands beside the label map, under its stem.

    Attributes:
        labels: the label map, .nii.gz or .nii.
        masks: a binary file an organ, in a folder.
        statistics: JSON and CSV.
        preview: PNG.
        report: JSON.
        tables: ITK-SNAP's label file and Slicer's colour table.
        output_type: what else than the NIfTI: dicom_seg, dicom_rtstruct, seg_nrrd.
        labelmap: DICOM SEG in its newer form.
        overwrite: replace what stands there.
        made_by: what is making them, from what; kept in the label map's header.
    """

    labels: Path
    masks: bool = False
    statistics: bool = False
    preview: bool = False
    report: bool = False
    tables: bool = False
    output_type: tuple[str, ...] = ()
    labelmap: bool = False
    overwrite: bool = False
    made_by: str = "viscera"

    def at(self, labels: Path, *, made_by: str) -> Results:
        """The same kinds of results for another case."""
        return replace(self, labels=labels, made_by=made_by)

    def beside(self, suffix: str) -> Path:
        """A path with the label map's stem."""
        name = self.labels.name
        ending = next((e for e in _SUFFIXES if name.lower().endswith(e)), "")
        return self.labels.with_name(name.removesuffix(name[len(name) - len(ending) :]) + suffix)

    def paths(self, organs: Iterable[Organ]) -> Iterator[Path]:
        """Every file that will be written."""
        yield self.labels
        yield from (self.beside(kind.ending) for kind in self._types().values())
        if self.masks:
            yield from (self.beside("_masks") / f"{organ.name}.nii.gz" for organ in organs)
        if self.statistics:
            yield from (self.beside("_statistics.json"), self.beside("_statistics.csv"))
        if self.preview:
            yield self.beside("_preview.png")
        if self.tables:
            yield from (self.beside("_itksnap.txt"), self.beside("_slicer.ctbl"))
        if self.report:
            yield self.beside("_report.json")

    def check(self, source: Path, organs: Iterable[Organ]) -> None:
        """Prove before the work that all of it can be written.

        Raises:
            UsageError: a result would replace the input.
            OutputError: not writable, or exists already.
        """
        check_nifti_name(self.labels)
        for path in self.paths(organs):
            if _same_file(path, source):
                raise UsageError(
                    "an output other than the input",
                    found="the same file",
                    remedy="choose another -o",
                    where=path,
                )
            check_absent(path, overwrite=self.overwrite)
        check_writable(self.labels)

    def check_volume(self, volume: Volume) -> None:
        """Prove before the work that results of these types can be made from this scan.

        Raises:
            UsageError: DICOM results of another kind of scan.
            InputError: a series without the UIDs that they need.
        """
        for kind in self._types().values():
            kind.check(volume)

    def complete(self, organs: Iterable[Organ]) -> bool:
        """Whether every file stands there."""
        return all(path.is_file() for path in self.paths(organs))

    def ours(self, source: Path) -> bool:
        """Whether the label map is whole, on the source's grid, and made as this run would.

        Same bytes of the source, same bundle, same settings: `made_by` holds a mark of them.
        """
        if not self.labels.is_file():
            return False
        try:
            header = read_nifti_header(self.labels)
            with ByteReader(self.labels) as reader:
                reader.finish(most=1 << 40)  # verifies the checksum
            description = bytes(load_header(header.block)["descrip"]).rstrip(b"\0")
            if description != self.made_by.encode("ascii", "replace")[:79]:
                return False
            if looks_like_dicom(source):
                return True  # whose grid follows from bytes and settings, as the mark does
            expected = read_grid(source)
        except VisceraError:
            return False
        # The forms of NIfTI are single precision, those of other formats are not.
        same = np.allclose(header.affine.matrix, expected[1].matrix, rtol=1e-6, atol=1e-4)
        return header.shape == expected[0] and same

    def write(self, segmentation: Segmentation, stages: Stages) -> dict[str, Any]:
        """Write everything; the label map first, since it tells whose the others are.

        Returns:
            The run's report, statistics included where they were asked for.

        Raises:
            OutputError: disk full, or something else took the place meanwhile.
        """
        overwrite, extra = self.overwrite, {}
        provenance = {**segmentation.provenance, "made_by": self.made_by}
        segmentation = replace(segmentation, provenance=provenance)
        with stages.stage("write"):
            write_labels(self.labels, segmentation, overwrite=overwrite)
            self._write_others(segmentation)
            if self.masks:
                write_masks(self.beside("_masks"), segmentation, overwrite=overwrite)
        if self.statistics:
            from viscera.measure.statistics import as_csv, measure

            with stages.stage("statistics"):
                name, rows = segmentation.volume.name, measure(segmentation)
                extra["statistics"] = {row.organ: row.as_dict() for row in rows}
                _write_json(self.beside("_statistics.json"), extra["statistics"], overwrite)
                text = as_csv(name, rows)
                write_text(self.beside("_statistics.csv"), text, overwrite=overwrite)
        if self.preview:
            from viscera.report.preview import preview_png

            with stages.stage("preview"):
                picture = preview_png(segmentation)
                with atomic_write(self.beside("_preview.png"), overwrite=overwrite) as file:
                    file.write(picture)
        if self.tables:
            organs = segmentation.organs
            write_itksnap_labels(self.beside("_itksnap.txt"), organs, overwrite=overwrite)
            write_slicer_colours(self.beside("_slicer.ctbl"), organs, overwrite=overwrite)
        report = {**report_of(segmentation), **extra}
        if self.report:
            _write_json(self.beside("_report.json"), report, overwrite)
        return report

    def _write_others(self, segmentation: Segmentation) -> None:
        for name, kind in self._types().items():
            form = {"labelmap": True} if name == "dicom_seg" and self.labelmap else {}
            path = self.beside(kind.ending)
            kind.write(path, segmentation, overwrite=self.overwrite, **form)

    def _types(self) -> dict[str, OutputType]:
        """What is written besides the NIfTI, which always is: it tells whose the others are."""
        asked = [name for name in OUTPUT_TYPES if name in self.output_type and name != "nifti"]
        return {name: OUTPUT_TYPES[name] for name in asked}


def _same_file(path: Path, source: Path) -> bool:
    try:
        return path.samefile(source)
    except OSError:  # one of them does not exist, or cannot
        return False


def _write_json(path: Path, content: Any, overwrite: bool) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_text(path, text, overwrite=overwrite)
