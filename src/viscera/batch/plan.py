"""Which cases a batch has, and where the results of each go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from viscera.dicom.deidentify import deidentified_name
from viscera.dicom.read.open_series import find_series
from viscera.errors import UsageError, VisceraError, option
from viscera.io.read import SUFFIXES, case_name, path_exists
from viscera.io.scan_files import (
    PassedOver,
    distinct_names,
    find_scans,
    is_dir,
    require_scans,
    resolved,
    result_name,
)


@dataclass(frozen=True)
class BatchCase:
    """One scan to segment.

    Attributes:
        source: its file, or the folder of its DICOM series.
        labels_path: where its label map goes.
        name: in reports and file names.
        series: the Series Instance UID to take, where another study lies in a folder below.
    """

    source: Path
    labels_path: Path
    name: str
    series: str | None = None

    @property
    def shown(self) -> str:
        """What it is called in messages: as its file, unless that would identify the patient."""
        return self.source.name if self.name == case_name(self.source) else self.name


@dataclass(frozen=True)
class BatchPlan:
    """The cases of one call.

    Attributes:
        cases: in the order given; those of a folder by path.
        folder: where a batch's results go, None for a single case.
        passed_over: what lies among the scans and is none.
    """

    cases: tuple[BatchCase, ...]
    folder: Path | None
    passed_over: tuple[PassedOver, ...] = ()


def plan_batch(
    inputs: Sequence[Path],
    output: Path | None,
    *,
    series: str | None = None,
    keep_phi: bool = False,
    many: bool = False,
) -> BatchPlan:
    """Resolve files and folders to cases and their outputs.

    A single file, or the folder of one DICOM study, goes to `output`, which may be a file name or
    an existing folder, and by default to ``CASE_labels.nii.gz`` in the current folder. Several
    files, or a folder, searched to the bottom, go to the folder `output` as ``CASE.nii.gz``, which
    is what FLARE and nnU-Net expect.

    Args:
        inputs: files and folders.
        output: a file, or a folder.
        series: DICOM only: the Series Instance UID that will be taken; a folder is then one case.
        keep_phi: cases may be called after patients.
        many: treat a single file as a batch too.

    Raises:
        UsageError: no input, or no output folder for a batch.
        NothingToSegmentError: no scan at all.
    """
    if not inputs:
        raise UsageError("a CT file or a folder", found="none", remedy="name one")
    places = [
        find_scans(entry, outputs=output, whole_series=series is not None) for entry in inputs
    ]
    if len(inputs) == 1:
        require_scans(inputs[0], places[0])
    # What is named twice is done once; a folder without a scan is a case that fails.
    files = list(
        dict.fromkeys(
            file
            for entry, place in zip(inputs, places, strict=True)
            for file in place.scans or (entry,)
        )
    )
    passed_over = tuple(dict.fromkeys(item for place in places for item in place.passed_over))
    names = [case_name(file) if keep_phi else result_name(file, series) for file in files]
    if not many and files == list(inputs) and len(files) == 1:
        case = BatchCase(files[0], _single(names[0], output), names[0])
        return BatchPlan((case,), None, passed_over)
    named_as_file = output is not None and output.name.lower().endswith(SUFFIXES)
    if output is None or named_as_file or (path_exists(output) and not is_dir(output)):
        problem = "none" if output is None else f"a file's name, {output.name}"
        raise UsageError(
            f"an output folder for {len(files)} scans",
            found=problem,
            remedy=f"pass {option('output', 'FOLDER')}",
        )
    distinct = distinct_names(files, names)
    if not keep_phi:  # a parent's name may be the patient's as well
        distinct = [
            name if name == name_alone else deidentified_name(file, name, series=series)
            for file, name, name_alone in zip(files, distinct, names, strict=True)
        ]
    cases = tuple(
        BatchCase(file, output / f"{name}.nii.gz", name, _own_series(file, files))
        for file, name in zip(files, distinct_names(files, distinct), strict=True)
    )
    if {resolved(case.labels_path) for case in cases} & set(map(resolved, files)):
        problem = "the folder of the scans, where labels would replace them"
        raise UsageError(
            "another output folder", found=problem, remedy=f"choose another {option('output')}"
        )
    return BatchPlan(cases, output, passed_over)


def _own_series(folder: Path, files: Sequence[Path]) -> str | None:
    """The likeliest series of a study in whose folders other studies lie; None for all others."""
    below = [file for file in files if folder in file.parents and is_dir(file)]
    if not below:
        return None
    with suppress(VisceraError):  # whoever opens it says what is wrong
        others = {series.study for file in below for series in find_series(file).series}
        series = (s for s in find_series(folder).series if s.study not in others)
        return next((s.identifier for s in series), None)
    return None


def _single(name: str, output: Path | None) -> Path:
    if output is None:
        return Path(f"{name}_labels.nii.gz")
    if is_dir(output):
        return output / f"{name}.nii.gz"
    return output
