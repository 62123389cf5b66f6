"""Which files a call means, and where each result goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from viscera.dicom.files import HEAD_BYTES, begins_as_dicom, is_archive, looks_like_dicom
from viscera.dicom.identity import name_without_patient
from viscera.errors import NothingToSegmentError, UsageError
from viscera.io.read import SUFFIXES, case_name, stands


@dataclass(frozen=True)
class Case:
    """One scan to segment.

    Attributes:
        source: its file, or the folder of its DICOM series.
        labels: where its label map goes.
        name: what it is called in reports and file names.
    """

    source: Path
    labels: Path
    name: str

    @property
    def shown(self) -> str:
        """What it is called in messages: as its file, unless that would tell the patient."""
        return self.source.name if self.name == case_name(self.source) else self.name


@dataclass(frozen=True)
class Plan:
    """The cases of one call.

    Attributes:
        cases: in the order given; those of a folder by name.
        folder: where a batch's results go, None for a single case.
    """

    cases: tuple[Case, ...]
    folder: Path | None


def plan_cases(inputs: Sequence[Path], output: Path | None, *, keep_phi: bool = False) -> Plan:
    """Resolve files and folders to cases and their outputs.

    A single file goes to `output`, which may be a file name or an existing folder, and by default
    to ``CASE_labels.nii.gz`` in the current folder. Several files or a folder go to the folder
    `output` as ``CASE.nii.gz``, which is what FLARE and nnU-Net expect.

    Args:
        inputs: files and folders.
        output: a file, or a folder.
        keep_phi: cases may be called after patients.

    Raises:
        UsageError: no input, no output folder for a batch, or two files of one case.
        NothingToSegmentError: a folder without any volume.
    """
    if not inputs:
        raise UsageError("a CT file or a folder", found="none", remedy="name one")
    files = [file for entry in inputs for file in volume_files(entry)]
    if files == list(inputs) and len(files) == 1:
        name = case_name(files[0]) if keep_phi else result_name(files[0])
        return Plan((Case(files[0], _single(name, output), name),), None)
    named_as_file = output is not None and output.name.lower().endswith(SUFFIXES)
    if output is None or named_as_file or (output.exists() and not is_dir(output)):
        found = "none" if output is None else f"a file's name, {output.name}"
        raise UsageError("an output folder for several scans", found=found, remedy="pass -o FOLDER")
    named = by_case(files, name_of=case_name if keep_phi else result_name)
    cases = (Case(file, output / f"{case}.nii.gz", case) for case, file in named.items())
    plan = Plan(tuple(cases), output)
    if {case.labels.resolve() for case in plan.cases} & {file.resolve() for file in files}:
        found = "the folder of the scans, where labels would replace them"
        raise UsageError("another output folder", found=found, remedy="choose another -o")
    return plan


def result_name(source: Path) -> str:
    """What a case's results are called: as its file, unless that tells the patient of a series."""
    name = case_name(source)
    return name_without_patient(source, name) if looks_like_dicom(source) else name


def by_case(
    files: Sequence[Path], *, name_of: Callable[[Path], str] = result_name
) -> dict[str, Path]:
    """The file of each case.

    Raises:
        UsageError: two files of one case.
    """
    named = [(name_of(file), file) for file in files]
    twice = [name for name, count in Counter(name for name, _ in named).items() if count > 1]
    if twice:
        remedy = "rename one, or name them one by one"
        raise UsageError("one file a case", found=f"several of {twice[0]!r}", remedy=remedy)
    return dict(named)


def is_dir(path: Path) -> bool:
    """Whether this is a folder; a name that no file system holds is none."""
    return stands(path) and path.is_dir()


def volume_files(entry: Path) -> list[Path]:
    """A file itself, or the volumes of a folder by name, not those of its subfolders.

    In a folder without volumes, each zip archive is a case; a folder in which or below which lies
    DICOM is one.

    Raises:
        NothingToSegmentError: a folder without any volume.
    """
    if not is_dir(entry):
        return [entry]
    found = sorted(
        file
        for file in entry.iterdir()
        if file.name.lower().endswith(SUFFIXES)
        and not file.name.lower().endswith((".img", ".img.gz"))  # named by their .hdr
        and not file.name.startswith(".")
        and file.is_file()
    )
    if not found and _has_dicom(entry):
        return [entry]
    found = found or sorted(file for file in entry.glob("*.[zZ][iI][pP]") if is_archive(file))
    if not found:
        raise NothingToSegmentError(
            "a folder with volumes or DICOM",
            found="no DICOM, and none that ends in " + ", ".join(SUFFIXES),
            remedy="name another folder",
            where=entry,
        )
    return found


def _has_dicom(folder: Path) -> bool:
    """Whether some file in or below a folder begins as DICOM does; the first one tells."""
    for path in folder.rglob("*"):
        if path.is_file():
            with suppress(OSError), path.open("rb") as file:
                if begins_as_dicom(file.read(HEAD_BYTES)):
                    return True
    return False


def _single(name: str, output: Path | None) -> Path:
    if output is None:
        return Path(f"{name}_labels.nii.gz")
    if is_dir(output):
        return output / f"{name}.nii.gz"
    return output
