"""Scans checked before they are segmented: what they show, and what is unusual about them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.batch.options import ReadOptions
from viscera.batch.plan import name_cases
from viscera.core.examination import ScanExamination
from viscera.errors import VisceraError, Wording, python_wording
from viscera.findings import Finding
from viscera.io.case_names import numbered_names
from viscera.io.scan_files import PassedOver, find_all_scans
from viscera.predictor import Predictor
from viscera.runtime.paths import checked_path
from viscera.runtime.resources import means_no_memory, no_memory_error

LOOK = "look"  # the packaged network at 4 mm
_COLUMNS = (
    "case", "orientation", "shape", "spacing_mm", "body_parts", "phase", "slices", "slice_mm",
    "noise_hu", "whole", "cut", "not_seen", "outside", "warnings", "notes", "error",
)  # fmt: skip
# Of a result, not of a scan.
_NOT_OF_SCANS = frozenset(
    {"bundle", "pieces-removed", "organs-removed", "sides", "no-abdomen", "nothing-found"}
)


@dataclass(frozen=True)
class ScanCheck:
    """What a check tells of one scan.

    Attributes:
        name: of the case.
        examination: what the scan shows; None where it cannot be read.
        findings: all that was noticed, reading included.
        shape: voxels along i, j and k; empty where the scan cannot be read.
        spacing_mm: of them.
        orientation: the ends that i, j and k run towards, such as LPS.
        error: why it cannot be read.
    """

    name: str
    examination: ScanExamination | None = None
    findings: tuple[Finding, ...] = ()
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    orientation: str = ""
    error: VisceraError | None = None

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that deserve a look."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def organs(self, coverage: str) -> list[str]:
        """Names of the organs with this coverage.

        Args:
            coverage: whole, cut, outside or not seen.
        """
        table = self.examination.coverage if self.examination else {}
        return [name for name, how in table.items() if how == coverage]

    def as_dict(self, wording: Wording = python_wording) -> dict[str, Any]:
        """JSON-ready.

        Args:
            wording: how options are spelled in findings.
        """
        return {
            "case": self.name,
            **(self.examination.as_dict() if self.examination else {}),
            "shape": list(self.shape),
            "spacing_mm": [round(mm, 4) for mm in self.spacing_mm],
            "orientation": self.orientation,
            "findings": [finding.as_dict(wording) for finding in self.findings],
            "error": None if self.error is None else self.error.message(wording),
        }


@dataclass(frozen=True)
class CheckedScans:
    """All scans of one call.

    Attributes:
        checks: one a scan, in order.
        passed_over: what lies among the scans and is none.
    """

    checks: tuple[ScanCheck, ...]
    passed_over: tuple[PassedOver, ...]


def check_scans(
    scans: str | Path | Sequence[str | Path],
    *,
    read: ReadOptions | None = None,
    predictor: Predictor | None = None,
    keep_phi: bool = False,
    on_check: Callable[[ScanCheck], None] = lambda _check: None,
) -> CheckedScans:
    """Say of each scan what it shows and what is unusual, without segmenting it finely.

    A scan that cannot be read does not stop the others.

    Args:
        scans: a file or folder, or several; folders are searched to the bottom.
        read: how scans are read.
        predictor: the coarse network; the packaged one where not given.
        keep_phi: DICOM only: names of cases may identify the patient.
        on_check: takes each result as it comes.

    Raises:
        NothingToSegmentError: no scan at all.
    """
    read, predictor = read or ReadOptions(), predictor or Predictor(LOOK)
    sources = [scans] if isinstance(scans, str | Path) else scans
    inputs = [checked_path(source) for source in sources]
    listing = find_all_scans(inputs, whole_series=read.series is not None)
    files = listing.scans
    named = name_cases(files, series=read.series, keep_phi=keep_phi)
    names = numbered_names([name for name, _ in named])
    checks = []
    for file, name in zip(files, names, strict=True):
        checks.append(_check(file, name, read, predictor))
        on_check(checks[-1])
    return CheckedScans(tuple(checks), listing.passed_over)


def _check(file: Path, name: str, read: ReadOptions, predictor: Predictor) -> ScanCheck:
    try:
        volume = read.open(file, predictor, name=name)
        segmentation = predictor.segment(volume)
    except VisceraError as error:
        return ScanCheck(name, error=error)
    except (MemoryError, RuntimeError) as error:  # of this scan; the next may be smaller
        if not means_no_memory(error):
            raise
        return ScanCheck(name, error=no_memory_error(name))
    findings = tuple(f for f in segmentation.findings if f.code not in _NOT_OF_SCANS)
    affine = volume.affine
    return ScanCheck(
        name,
        segmentation.examination,
        findings,
        volume.shape,
        affine.spacing_mm,
        affine.axcodes,
    )


def checks_csv(checks: Sequence[ScanCheck], wording: Wording = python_wording) -> str:
    """The table of a cohort, a row a scan.

    Args:
        checks: of the scans.
        wording: how options are spelled.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for check in checks:
        examination = check.examination
        writer.writerow(
            [
                check.name,
                check.orientation,
                " ".join(map(str, check.shape)),
                " ".join(f"{mm:.4g}" for mm in check.spacing_mm),
                " ".join(examination.body_parts) if examination else "",
                (examination.phase or "") if examination else "",
                examination.slices if examination else "",
                examination.slice_mm if examination else "",
                "" if examination is None or examination.noise_hu is None else examination.noise_hu,
                *(" ".join(check.organs(how)) for how in ("whole", "cut", "not seen", "outside")),
                " ".join(finding.code for finding in check.warnings),
                " ".join(f.code for f in check.findings if f.level != "warning"),
                check.error.message(wording) if check.error else "",
            ]
        )
    return text.getvalue()
