"""Which cases a batch has, and where the results of each go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from viscera.errors import UsageError, option
from viscera.io.read import SUFFIXES, case_name
from viscera.io.scan_files import find_scans, is_dir, result_name, scans_by_case


@dataclass(frozen=True)
class BatchCase:
    """One scan to segment.

    Attributes:
        source: its file, or the folder of its DICOM series.
        labels_path: where its label map goes.
        name: in reports and file names.
    """

    source: Path
    labels_path: Path
    name: str

    @property
    def shown(self) -> str:
        """What it is called in messages: as its file, unless that would identify the patient."""
        return self.source.name if self.name == case_name(self.source) else self.name


@dataclass(frozen=True)
class BatchPlan:
    """The cases of one call.

    Attributes:
        cases: in the order given; those of a folder by name.
        folder: where a batch's results go, None for a single case.
    """

    cases: tuple[BatchCase, ...]
    folder: Path | None


def plan_batch(
    inputs: Sequence[Path], output: Path | None, *, keep_phi: bool = False, many: bool = False
) -> BatchPlan:
    """Resolve files and folders to cases and their outputs.

    A single file goes to `output`, which may be a file name or an existing folder, and by default
    to ``CASE_labels.nii.gz`` in the current folder. Several files or a folder go to the folder
    `output` as ``CASE.nii.gz``, which is what FLARE and nnU-Net expect.

    Args:
        inputs: files and folders.
        output: a file, or a folder.
        keep_phi: cases may be called after patients.
        many: treat a single file as a batch too.

    Raises:
        UsageError: no input, no output folder for a batch, or two files of one case.
        NothingToSegmentError: a folder without any volume.
    """
    if not inputs:
        raise UsageError("a CT file or a folder", found="none", remedy="name one")
    files = [file for entry in inputs for file in find_scans(entry)]
    if not many and files == list(inputs) and len(files) == 1:
        name = case_name(files[0]) if keep_phi else result_name(files[0])
        return BatchPlan((BatchCase(files[0], _single(name, output), name),), None)
    named_as_file = output is not None and output.name.lower().endswith(SUFFIXES)
    if output is None or named_as_file or (output.exists() and not is_dir(output)):
        problem = "none" if output is None else f"a file's name, {output.name}"
        raise UsageError(
            "an output folder for several scans",
            found=problem,
            remedy=f"pass {option('output', 'FOLDER')}",
        )
    scans = scans_by_case(files, name_of=case_name if keep_phi else result_name)
    cases = (BatchCase(file, output / f"{case}.nii.gz", case) for case, file in scans.items())
    plan = BatchPlan(tuple(cases), output)
    if {case.labels_path.resolve() for case in plan.cases} & {file.resolve() for file in files}:
        problem = "the folder of the scans, where labels would replace them"
        raise UsageError(
            "another output folder", found=problem, remedy=f"choose another {option('output')}"
        )
    return plan


def _single(name: str, output: Path | None) -> Path:
    if output is None:
        return Path(f"{name}_labels.nii.gz")
    if is_dir(output):
        return output / f"{name}.nii.gz"
    return output
