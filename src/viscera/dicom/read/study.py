"""Which study of which patient the DICOM files of a folder belong to, from a few headers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from viscera.dicom.read.header import read_header
from viscera.dicom.read.slices import CT_CLASSES, patient_key

# Patient and Study Instance UID; never shown.
StudyKey: TypeAlias = tuple[str, str]
_KEYWORDS = ("SOPClassUID", "StudyInstanceUID", "PatientID", "PatientName", "Modality")


def read_study_key(files: Sequence[Path]) -> StudyKey | None:
    """The study of the first CT image among DICOM files; None where none of them is one.

    Damaged files count as CT of no study: whoever opens them says what is wrong.

    Args:
        files: that begin as DICOM does, of one folder.
    """
    damaged = False
    for path in files:
        try:
            with path.open("rb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                header = read_header(file, _KEYWORDS, where=path)
        except Exception:  # pydicom raises many kinds; or it is not installed
            damaged = True
            continue
        sop_class = header.text("SOPClassUID") or header.sop_class
        if sop_class in CT_CLASSES or (not sop_class and header.text("Modality") in ("CT", "")):
            with suppress(Exception):
                return patient_key(header), header.text("StudyInstanceUID")
            damaged = True
    return ("", "") if damaged else None


def read_modality(path: Path) -> str:
    """The modality that a DICOM file names, such as MR; empty where it does not."""
    with suppress(Exception), path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_header(file, _KEYWORDS, where=path).text("Modality")[:16]
    return ""
