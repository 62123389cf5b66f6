"""Outputs: the files that one case leaves behind, checked before the work and written after it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera.core.organs import Organ
from viscera.core.volume import Volume
from viscera.dicom.read.files import looks_like_dicom
from viscera.errors import UsageError, VisceraError, Wording, option, python_wording
from viscera.io.byte_reader import ByteReader
from viscera.io.nifti.header import load_header
from viscera.io.nifti.read import read_nifti_header
from viscera.io.nifti.write import check_nifti_name
from viscera.io.output_types import OUTPUT_TYPES, SEG_LABELMAP, OutputType
from viscera.io.read import read_grid
from viscera.io.write import write_itksnap_labels, write_slicer_colours
from viscera.report.run_report import run_report
from viscera.runtime.atomic_files import atomic_write, check_absent, check_writable, write_text
from viscera.runtime.stages import Stages
from viscera.segmentation import Segmentation

_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class OutputOptions:
    """Which files a case leaves beside its label map.

    Attributes:
        masks: a binary file an organ, in a folder.
        statistics: volumes and HU, JSON and CSV.
        preview: a picture, PNG.
        report: what was done, JSON.
        tables: ITK-SNAP's label file and Slicer's colour table.
        output_types: other types of the labels: dicom_seg, dicom_rtstruct, seg_nrrd.
        labelmap: DICOM SEG in its newer form.
        overwrite: replace existing files.
        wording: how options are spelled in the texts of the report.
    """

    masks: bool = False
    statistics: bool = False
    preview: bool = False
    report: bool = False
    tables: bool = False
    output_types: tuple[str, ...] = ()
    labelmap: bool = False
    overwrite: bool = False
    wording: Wording = python_wording


@dataclass(frozen=True)
class CaseOutputs:
    """The files of one case. All lie beside the label map, under its stem.

    Attributes:
        labels_path: of the label map, .nii.gz or .nii.
        options: which others there are.
        signature: what makes them, from what; kept in the label map's header.
    """

    labels_path: Path
    options: OutputOptions = OutputOptions()
    signature: str = "viscera"

    def beside(self, suffix: str) -> Path:
        """A path with the label map's stem and this suffix."""
        name = self.labels_path.name
        ending = next((e for e in _SUFFIXES if name.lower().endswith(e)), "")
        return self.labels_path.with_name(name[: len(name) - len(ending)] + suffix)

    def paths(self, organs: Iterable[Organ]) -> Iterator[Path]:
        """Every file that will be written, for these organs."""
        options = self.options
        yield self.labels_path
        yield from (self.beside(kind.suffix) for kind in self._other_types())
        if options.masks:
            yield from (self.beside("_masks") / f"{organ.name}.nii.gz" for organ in organs)
        if options.statistics:
            yield from (self.beside("_statistics.json"), self.beside("_statistics.csv"))
        if options.preview:
            yield self.beside("_preview.png")
        if options.tables:
            yield from (self.beside("_itksnap.txt"), self.beside("_slicer.ctbl"))
        if options.report:
            yield self.beside("_report.json")

    def check(self, source: Path, organs: Iterable[Organ]) -> None:
        """Check before the work that all of it can be written.

        Args:
            source: the scan.
            organs: those that the network can find.

        Raises:
            UsageError: a result would replace the scan.
            OutputError: not writable, or exists already.
        """
        check_nifti_name(self.labels_path)
        for path in self.paths(organs):
            if _is_same_file(path, source):
                raise UsageError(
                    "an output other than the input",
                    found="the same file",
                    remedy=f"choose another {option('output')}",
                    where=path,
                )
            check_absent(path, overwrite=self.options.overwrite)
        check_writable(self.labels_path)

    def check_volume(self, volume: Volume) -> None:
        """Check before the work that results of these types can be made from this scan.

        Raises:
            UsageError: DICOM results of another kind of scan.
            InputError: a series without the UIDs that they need.
        """
        for kind in self._other_types():
            kind.check(volume)

    def is_complete(self, organs: Iterable[Organ]) -> bool:
        """Whether every file is there, for these organs."""
        return all(path.is_file() for path in self.paths(organs))

    def is_up_to_date(self, source: Path) -> bool:
        """Whether the label map is whole, on the source's grid, and made as this run would.

        Same bytes of the source, same bundle, same settings: the signature holds their digest.
        """
        if not self.labels_path.is_file():
            return False
        try:
            header = read_nifti_header(self.labels_path)
            with ByteReader(self.labels_path) as reader:
                reader.finish(most=1 << 40)  # verifies the checksum
            description = bytes(load_header(header.block)["descrip"]).rstrip(b"\0")
            if description != self.signature.encode("ascii", "replace")[:79]:
                return False
            if looks_like_dicom(source):
                return True  # its grid follows from bytes and settings, as the signature does
            shape, affine = read_grid(source)
        except VisceraError:
            return False
        # The forms of NIfTI are single precision, those of other formats are not.
        same_affine = np.allclose(header.affine.matrix, affine.matrix, rtol=1e-6, atol=1e-4)
        return header.shape == shape and same_affine

    def write(self, segmentation: Segmentation, stages: Stages) -> dict[str, Any]:
        """Write everything; the label map first, since it tells what made the others.

        Args:
            segmentation: the result.
            stages: measures the stages of writing.

        Returns:
            The report of the run, statistics included where they were asked for.

        Raises:
            OutputError: disk full, or a file has appeared meanwhile.
        """
        options = self.options
        provenance = {**segmentation.provenance, "made_by": self.signature}
        segmentation = replace(segmentation, provenance=provenance)
        with stages.stage("write"):
            segmentation.save(self.labels_path, output_type="nifti", overwrite=options.overwrite)
            for kind in self._other_types():
                kind.write(
                    self.beside(kind.suffix),
                    segmentation.labels,
                    segmentation.volume,
                    segmentation.organs,
                    overwrite=options.overwrite,
                )
            if options.masks:
                segmentation.save_masks(self.beside("_masks"), overwrite=options.overwrite)
        statistics: dict[str, Any] = {}
        if options.statistics or options.preview:
            statistics = self._write_from_scan(segmentation, stages)
        if options.tables:
            organs, overwrite = segmentation.organs, options.overwrite
            write_itksnap_labels(self.beside("_itksnap.txt"), organs, overwrite=overwrite)
            write_slicer_colours(self.beside("_slicer.ctbl"), organs, overwrite=overwrite)
        report = run_report(segmentation, options.wording)
        if statistics:
            report["statistics"] = statistics
        if options.report:
            self._write_json("_report.json", report)
        return report

    def _write_from_scan(self, segmentation: Segmentation, stages: Stages) -> dict[str, Any]:
        """Write statistics and preview, for which the scan is read once more; the statistics."""
        from viscera.report.organ_statistics import measure_organs, statistics_csv
        from viscera.report.pictures.preview import choose_cuts, preview_png
        from viscera.report.scan_pass import scan_pass

        options, labels = self.options, segmentation.labels
        cuts = choose_cuts(labels, segmentation.affine) if options.preview else None
        with stages.stage("reread"):
            scan = scan_pass(segmentation.volume, labels, cuts.at if cuts else None)
        statistics: dict[str, Any] = {}
        if options.statistics:
            with stages.stage("statistics"):
                rows = measure_organs(segmentation, scan)
                statistics = {row.organ: row.as_dict() for row in rows}
                self._write_json("_statistics.json", statistics)
                text = statistics_csv(segmentation.volume.name, rows)
                write_text(self.beside("_statistics.csv"), text, overwrite=options.overwrite)
        if options.preview:
            with (
                stages.stage("preview"),
                atomic_write(self.beside("_preview.png"), overwrite=options.overwrite) as file,
            ):
                file.write(preview_png(segmentation, cuts, scan))
        return statistics

    def _write_json(self, suffix: str, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_text(self.beside(suffix), text, overwrite=self.options.overwrite)

    def _other_types(self) -> list[OutputType]:
        """What is written besides the NIfTI, which always is."""
        chosen = [name for name in OUTPUT_TYPES if name in self.options.output_types]
        return [
            SEG_LABELMAP if name == "dicom_seg" and self.options.labelmap else OUTPUT_TYPES[name]
            for name in chosen
            if name != "nifti"
        ]


def _is_same_file(path: Path, source: Path) -> bool:
    try:
        return path.samefile(source)
    except OSError:  # one of them does not exist, or cannot
        return False
