"""Patient identity: shown only if the user asks for it, and kept out of result names."""

from __future__ import annotations

import hashlib
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from viscera.core.volume import Volume
from viscera.dicom.read.files import begins_as_dicom, list_files
from viscera.dicom.read.header import DicomHeader, read_header
from viscera.dicom.read.lazy_voxels import DicomVoxels
from viscera.dicom.write.references import read_reference_header
from viscera.errors import VisceraError

_IDENTIFYING = (
    "PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "StudyID",
)  # fmt: skip
_KEYWORDS = (*_IDENTIFYING, "SOPInstanceUID", "PatientIdentityRemoved")
_REPORTED = (
    *_IDENTIFYING, "PatientSex", "StudyInstanceUID", "SeriesInstanceUID",
)  # fmt: skip
_LEAST_PART_LENGTH = 3  # shorter parts of a text stand within any word
_SEPARATORS = r"[\s^=_.,/\\()-]+"


def deidentified_name(source: Path, name: str) -> str:
    """The name of a case, or another where this one holds the patient's name, a number or a date.

    Archives export folders that are called after the patient. The other name follows from the
    image, so that a second run finds the results of the first. What was anonymised on the record
    (PatientIdentityRemoved, PS3.3 C.7.1.1) keeps its name.

    Args:
        source: folder, archive or file.
        name: what the case would be called.
    """
    header = _first_header(source)
    if header is None or header.text("PatientIdentityRemoved") == "YES":
        return name
    identifying_texts = [header.text(keyword).lower() for keyword in _IDENTIFYING]
    # Texts are bytes of some character set, read as Latin-1; so is the name's UTF-8.
    spellings = {name.lower(), name.encode(errors="replace").decode("latin-1").lower()}
    if any(
        _contains_identity(spelling, text) for spelling in spellings for text in identifying_texts
    ):
        return "ct_" + hashlib.sha256(header.text("SOPInstanceUID").encode()).hexdigest()[:8]
    return name


def _contains_identity(name: str, text: str) -> bool:
    """Whether a name holds part of a text: as a word, within one, or with its signs left out."""
    words = set(re.split(_SEPARATORS, name))
    parts = [part for part in re.split(_SEPARATORS, text) if len(part) > 1]
    within = [p for p in (*parts, re.sub(_SEPARATORS, "", text)) if len(p) >= _LEAST_PART_LENGTH]
    plain = re.sub(_SEPARATORS, "", name)
    return any(p in words for p in parts) or any(p in name or p in plain for p in within)


def patient_identity(volume: Volume) -> dict[str, str]:
    """Patient, study and series as the source's header has them; empty for other sources."""
    if not isinstance(volume.voxels, DicomVoxels):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote values
        source: Any = read_reference_header(volume.voxels.stack.slices[0])
        return {keyword: str(source.get(keyword) or "") for keyword in _REPORTED}


def _first_header(source: Path) -> DicomHeader | None:
    """The header of the first file that has one."""
    with suppress(VisceraError, ImportError):  # whoever opens the series says what is wrong
        for source_file in list_files(source):
            with suppress(Exception):
                if begins_as_dicom(source_file.head()):
                    with source_file.open() as stream:
                        header = read_header(stream, _KEYWORDS, where=source_file)
                    if header.values:
                        return header
    return None
