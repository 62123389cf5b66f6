"""Which cases a batch has, and where the results of each go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from viscera.dicom.deidentify import deidentified_name
from viscera.dicom.read.files import looks_like_dicom
from viscera.errors import UsageError, VisceraError, option
from viscera.io.case_names import distinct_names, numbered_names, result_name
from viscera.io.read import SUFFIXES, case_name, path_exists
from viscera.io.scan_files import PassedOver, find_all_scans, is_dir, resolved
from viscera.io.scan_lists import expand_lists, is_scan_list

COHORT = "cohort"


@dataclass(frozen=True)
class BatchCase:
    """One scan to segment.

    Attributes:
        source: its file, or the folder of its DICOM series.
        labels_path: where its label map goes.
        name: in reports and file names.
        series: the Series Instance UID to take, where another study lies in a folder below.
        is_renamed: it is not called as its file, because that tells the patient.
    """

    source: Path = field(repr=False)  # logs of a cluster show cases; paths may name patients
    labels_path: Path = field(repr=False)
    name: str
    series: str | None = None
    is_renamed: bool = False

    @property
    def shown(self) -> str:
        """What it is called in messages: as its file, unless the case has another name."""
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


def name_cases(
    files: Sequence[Path], *, series: str | None, keep_phi: bool
) -> list[tuple[str, bool]]:
    """What cases are called, those that clash told apart by their folders; numbers come later.

    Args:
        files: the scans.
        series: DICOM only: the Series Instance UID that will be taken.
        keep_phi: names may tell the patient.

    Returns:
        The name of each, and whether it is not called as its file because that tells the patient.
    """
    names = _names_alone(files, series=series, keep_phi=keep_phi)
    distinct = distinct_names(files, names)
    renamed = [_is_renamed(name, file, series) for name, file in zip(names, files, strict=True)]
    if not keep_phi:  # a parent's name may be the patient's as well
        for n, (file, name) in enumerate(zip(files, names, strict=True)):
            if renamed[n]:
                distinct[n] = name  # nothing of the path is added to it
            elif distinct[n] != name and looks_like_dicom(file):
                told_apart, distinct[n] = (
                    distinct[n],
                    deidentified_name(file, distinct[n], series=series),
                )
                renamed[n] = distinct[n] != told_apart
    return list(zip(distinct, renamed, strict=True))


def _names_alone(files: Sequence[Path], *, series: str | None, keep_phi: bool) -> list[str]:
    """What each scan is called by itself."""
    return [case_name(file) if keep_phi else result_name(file, series) for file in files]


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
        inputs: files, folders, and lists of them (``.txt``).
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
    many = many or any(map(is_scan_list, inputs))
    inputs = expand_lists(inputs)
    listing = find_all_scans(inputs, outputs=output, whole_series=series is not None)
    files, passed_over = list(listing.scans), listing.passed_over
    names = _names_alone(files, series=series, keep_phi=keep_phi)
    if not many and files == list(inputs) and len(files) == 1:
        case = BatchCase(
            files[0],
            _single(names[0], output),
            names[0],
            is_renamed=_is_renamed(names[0], files[0], series),
        )
        return BatchPlan((case,), None, passed_over)
    named_as_file = output is not None and output.name.lower().endswith(SUFFIXES)
    if output is None or named_as_file or (path_exists(output) and not is_dir(output)):
        problem = "none" if output is None else f"a file's name, {output.name}"
        raise UsageError(
            f"an output folder for {len(files)} scans",
            found=problem,
            remedy=f"pass {option('output', 'FOLDER')}",
        )
    named = name_cases(files, series=series, keep_phi=keep_phi)
    # A page of that name is about all cases.
    free_names = numbered_names([COHORT, *(name for name, _ in named)])[1:]
    own_series = _own_series(files)
    cases = tuple(
        BatchCase(file, output / f"{name}.nii.gz", name, own_series.get(file), is_renamed)
        for file, name, (_, is_renamed) in zip(files, free_names, named, strict=True)
    )
    if {resolved(case.labels_path) for case in cases} & set(map(resolved, files)):
        problem = "the folder of the scans, where labels would replace them"
        raise UsageError(
            "another output folder", found=problem, remedy=f"choose another {option('output')}"
        )
    return BatchPlan(cases, output, passed_over)


def _is_renamed(name: str, file: Path, series: str | None) -> bool:
    """Whether a case is not called as its file; the number of a part does not count."""
    part = series.partition(":")[2] if series else ""
    return name.removesuffix(f"_{part}" if part else "") != case_name(file)


def _own_series(files: Sequence[Path]) -> dict[Path, str]:
    """The likeliest series of each study in whose folders other studies lie."""
    folders = [file for file in files if is_dir(file)]
    below: dict[Path, list[Path]] = {}
    for folder in folders:
        for above in folder.parents:
            below.setdefault(above, []).append(folder)
    if not below:
        return {}
    from viscera.dicom.read.open_series import find_series  # slow to import

    chosen: dict[Path, str] = {}
    for folder in folders:
        if folder not in below:
            continue
        with suppress(VisceraError):  # whoever opens it says what is wrong
            others = {s.study for other in below[folder] for s in find_series(other).series}
            remaining = [s for s in find_series(folder).series if s.study not in others]
            if remaining:  # of several parts none is chosen: its UID alone is refused
                chosen[folder] = remaining[0].uid
    return chosen


def _single(name: str, output: Path | None) -> Path:
    if output is None:
        return Path(f"{name}_labels.nii.gz")
    if is_dir(output):
        return output / f"{name}.nii.gz"
    return output
