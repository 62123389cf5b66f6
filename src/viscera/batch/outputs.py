"""Outputs: the files that one case leaves behind, checked before the work and written after it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from viscera.batch.finished import (
    complete_record,
    files_of_other_work,
    is_finished,
    may_be_replaced,
    write_record,
)
from viscera.core.organs import Organ
from viscera.core.volume import Volume
from viscera.errors import OutputError, UsageError, Wording, option, python_wording
from viscera.io.nifti.write import check_nifti_name
from viscera.io.output_types import OUTPUT_TYPES, SEG_LABELMAP, OutputType
from viscera.io.write import write_itksnap_labels, write_slicer_colours
from viscera.report.run_report import run_report
from viscera.runtime.atomic_files import (
    atomic_write,
    check_absent,
    check_writable,
    write_text,
)
from viscera.runtime.stages import Stages
from viscera.runtime.staging import move_together, staging_folder
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
        html: pictures, volumes, verdicts and findings on one page that opens offline.
        tables: ITK-SNAP's label file and Slicer's colour table.
        output_types: other types of the labels: dicom_seg, dicom_rtstruct, seg_nrrd.
        labelmap: DICOM SEG in its newer form.
        cohort: kinds of the one table of a batch: csv, parquet; each case then has statistics and
            a report, from which it is made.
        overwrite: replace existing files.
        wording: how options are spelled in the texts of the report.
    """

    masks: bool = False
    statistics: bool = False
    preview: bool = False
    report: bool = False
    html: bool = False
    tables: bool = False
    output_types: tuple[str, ...] = ()
    labelmap: bool = False
    cohort: tuple[str, ...] = ()
    overwrite: bool = False
    wording: Wording = python_wording

    def __post_init__(self) -> None:
        if self.cohort:
            object.__setattr__(self, "statistics", True)
            object.__setattr__(self, "report", True)


@dataclass(frozen=True)
class CaseOutputs:
    """The files of one case: a set that appears as a whole; its record says when it is finished.

    All lie beside the label map, under its stem.

    Attributes:
        labels_path: of the label map, .nii.gz or .nii.
        options: which others there are.
        signature: what makes them, from what; kept in the label map's header.
        keep_phi: the report may identify the patient.
        record_path: of the record that is left last, where there are several files or cases.
        is_in_batch: a label map by itself is recorded too, so that a second run knows it.
        strict: warnings refuse a scan.
    """

    labels_path: Path
    options: OutputOptions = OutputOptions()
    signature: str = "viscera"
    keep_phi: bool = False
    record_path: Path | None = None
    is_in_batch: bool = False
    strict: bool = False

    def beside(self, suffix: str) -> Path:
        """A path with the label map's stem and this suffix."""
        name = self.labels_path.name
        ending = next((e for e in _SUFFIXES if name.lower().endswith(e)), "")
        return self.labels_path.with_name(name[: len(name) - len(ending)] + suffix)

    def files(self, organs: Iterable[Organ]) -> dict[Path, str]:
        """Every file that will be written, for these organs, and which options shape its content.

        Scan, bundle and the other settings that shape labels stand in the signature.
        """
        options = self.options
        files = {self.labels_path: ""}
        for kind in self._other_types():
            files[self.beside(kind.suffix)] = "labelmap" if kind is SEG_LABELMAP else ""
        if options.masks:
            files |= {self.beside("_masks") / f"{organ.name}.nii.gz": "" for organ in organs}
        if options.statistics:
            files |= {self.beside("_statistics.json"): "", self.beside("_statistics.csv"): ""}
        if options.preview:
            files[self.beside("_preview.png")] = ""
        if options.html:
            files[self.beside(".html")] = f"keep_phi={self.keep_phi}"
        if options.tables:
            files |= {self.beside("_itksnap.txt"): "", self.beside("_slicer.ctbl"): ""}
        if options.report:
            shaped_by = f"statistics={options.statistics} keep_phi={self.keep_phi}"
            files[self.beside("_report.json")] = shaped_by
        return files

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
        files = self.files(organs)
        overwrite = self._may_overwrite(files)
        for path in files:
            if _is_same_file(path, source):
                raise UsageError(
                    "an output other than the input",
                    found="the same file",
                    remedy=f"choose another {option('output')}",
                    where=path,
                )
            check_absent(path, overwrite=overwrite)
        for folder in {path.parent for path in files}:
            if folder.exists():
                check_writable(folder / self.labels_path.name)
        if not self.options.overwrite and (earlier := self._earlier_files()):
            raise self._other_work(earlier)
        check_writable(self.labels_path)

    def _may_overwrite(self, files: dict[Path, str]) -> bool:
        """Whether what lies there may be replaced: as asked, or as an interrupted run left it.

        What somebody has changed since may not.
        """
        if self.options.overwrite:
            return True
        if self.record_path is None or not self.is_in_batch:
            return False
        place = self.labels_path.parent
        return may_be_replaced(self.record_path, self.signature, files, beside=place)

    def check_volume(self, volume: Volume) -> None:
        """Check before the work that results of these types can be made from this scan.

        Raises:
            UsageError: DICOM results of another kind of scan.
            InputError: a series without the UIDs that they need.
        """
        for kind in self._other_types():
            kind.check(volume)

    def is_finished(self, organs: Iterable[Organ]) -> bool:
        """Whether all of it was made as this run would, and is still what it was.

        Args:
            organs: that results are about.
        """
        if self.record_path is None:
            return False
        return is_finished(
            self.record_path,
            self.signature,
            self.files(organs),
            beside=self.labels_path.parent,
            strict=self.strict,
        )

    def write(self, segmentation: Segmentation, stages: Stages) -> dict[str, Any]:
        """Write everything aside, then move it to its place together, the label map first.

        Args:
            segmentation: the result.
            stages: measures the stages of writing.

        Returns:
            The report of the run, statistics included where they were asked for.

        Raises:
            OutputError: disk full, or a file has appeared meanwhile; nothing is left then.
            InputError: a series of which a result of DICOM cannot be made; likewise.
        """
        provenance = {**segmentation.provenance, "signature": self.signature}
        segmentation = replace(segmentation, provenance=provenance)
        with staging_folder(self.labels_path) as folder:
            aside = replace(
                self,
                labels_path=folder / self.labels_path.name,
                options=replace(self.options, overwrite=False),
            )
            try:
                report = aside._write_files(segmentation, stages)
            except OutputError as error:  # what people know is the file's final name
                path = error.where and Path(error.where)
                if not path or folder not in path.parents:
                    raise
                final = self.labels_path.parent / path.relative_to(folder)
                raise OutputError(
                    error.expected, found=error.found, remedy=error.remedy, where=final
                ) from error
            with stages.stage("write"):
                self._publish(folder, segmentation.organs)
        return report

    def _write_files(self, segmentation: Segmentation, stages: Stages) -> dict[str, Any]:
        """Write all files, and return the report."""
        options, organs = self.options, segmentation.organs
        with stages.stage("write"):
            segmentation.save(self.labels_path, output_type="nifti")
            for kind in self._other_types():
                path = self.beside(kind.suffix)
                kind.write(path, segmentation.labels, segmentation.volume, organs, overwrite=False)
            if options.masks:
                segmentation.save_masks(self.beside("_masks"))
            if options.tables:
                write_itksnap_labels(self.beside("_itksnap.txt"), organs)
                write_slicer_colours(self.beside("_slicer.ctbl"), organs)
        statistics: dict[str, Any] = {}
        if options.statistics or options.preview or options.html:
            statistics = self._write_from_scan(segmentation, stages)
        report = run_report(segmentation, options.wording)
        if statistics:
            report["statistics"] = statistics
        if options.report:
            self._write_json("_report.json", report)
        return report

    def _publish(self, folder: Path, organs: Sequence[Organ]) -> None:
        """Move the files of a folder to their places; those of other work go first."""
        files, place = self.files(organs), self.labels_path.parent
        overwrite = self._may_overwrite(files)  # asked again: the work took its time
        for path in files:
            check_absent(path, overwrite=overwrite)
        earlier = self._earlier_files()
        if earlier and not self.options.overwrite:
            raise self._other_work(earlier)
        is_recorded = self.is_in_batch or len(files) > 1
        if earlier and self.record_path is not None:
            self.record_path.unlink(missing_ok=True)
        if is_recorded and self.record_path is not None:
            write_record(
                self.record_path,
                self.signature,
                files,
                beside=place,
                content_in=folder,
                strict=self.strict,
            )
        moves = [(folder / path.relative_to(place), path) for path in files]
        move_together(moves, remove=earlier, keep_in=folder / "earlier")
        if is_recorded and self.record_path is not None:
            complete_record(self.record_path)

    def _other_work(self, earlier: Sequence[Path]) -> OutputError:
        return OutputError(
            "no results of another scan or of other settings",
            found=", ".join(path.name for path in earlier[:3]),
            remedy=f"pass {option('overwrite')} to remove them, or choose another name",
            where=self.labels_path,
        )

    def _earlier_files(self) -> list[Path]:
        """The files that other work left here: another scan, other settings.

        Those that a record lists and that nobody has changed since; never by name alone, and
        never through a link.
        """
        if self.record_path is None:
            return []
        place = self.labels_path.parent
        return files_of_other_work(self.record_path, self.signature, beside=place)

    def _write_from_scan(self, segmentation: Segmentation, stages: Stages) -> dict[str, Any]:
        """Write statistics, preview and page, for which the scan is read once more."""
        from viscera.report.html.case_page import case_page
        from viscera.report.organ_statistics import measure_organs, statistics_csv
        from viscera.report.pictures.organ_strip import organ_cuts, points_of
        from viscera.report.pictures.preview import choose_cuts, preview_png
        from viscera.report.scan_pass import scan_pass

        options, labels = self.options, segmentation.labels
        is_shown = options.preview or options.html
        cuts = choose_cuts(labels, segmentation.affine) if is_shown else None
        by_organ = organ_cuts(segmentation) if options.html else {}
        with stages.stage("reread"):
            points = [*([cuts.at] if cuts else []), *points_of(by_organ)]
            scan = scan_pass(segmentation.volume, labels, points)
        rows = []
        if options.statistics or options.html:
            with stages.stage("statistics"):
                rows = measure_organs(segmentation, scan)
        statistics: dict[str, Any] = {}
        if options.statistics:
            statistics = {row.organ: row.as_dict() for row in rows}
            self._write_json("_statistics.json", statistics)
            text = statistics_csv(segmentation.volume.name, rows)
            write_text(self.beside("_statistics.csv"), text)
        if cuts is not None:
            with stages.stage("preview"):
                picture = preview_png(segmentation, cuts, scan)
        if options.preview:
            with atomic_write(self.beside("_preview.png")) as file:
                file.write(picture)
        if options.html:
            with stages.stage("page"):
                page = case_page(
                    segmentation, scan, by_organ, rows, picture, wording=options.wording
                )
            write_text(self.beside(".html"), page)
        return statistics

    def _write_json(self, suffix: str, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_text(self.beside(suffix), text)

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
