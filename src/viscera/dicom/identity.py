"""Whose scan it is: told only on the user's word, and kept out of the names of results."""

from __future__ import annotations

import hashlib
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from viscera.dicom.files import begins_as_dicom, items_of
from viscera.dicom.header import Header, read_header
from viscera.dicom.sources import read_source
from viscera.dicom.voxels import DicomVoxels
from viscera.errors import VisceraError
from viscera.volume import Volume

_TELLING = (
    "PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "StudyID",
)  # fmt: skip
_KEYWORDS = (*_TELLING, "SOPInstanceUID", "PatientIdentityRemoved")
_TOLD = (
    *_TELLING, "PatientSex", "StudyInstanceUID", "SeriesInstanceUID",
)  # fmt: skip
_WITHIN = 3  # shorter parts of a text stand within any word
_BETWEEN = r"[\s^=_.,/\\()-]+"


def name_without_patient(source: Path, name: str) -> str:
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
    told = [header.text(keyword).lower() for keyword in _TELLING]
    # Texts are bytes of some character set, read as Latin-1; so is the name's UTF-8.
    spellings = {name.lower(), name.encode(errors="replace").decode("latin-1").lower()}
    if any(_tells(spelling, text) for spelling in spellings for text in told):
        return "ct_" + hashlib.sha256(header.text("SOPInstanceUID").encode()).hexdigest()[:8]
    return name


def _tells(name: str, text: str) -> bool:
    """Whether a name holds part of a text: as a word, within one, or with its signs left out."""
    words = set(re.split(_BETWEEN, name))
    parts = [part for part in re.split(_BETWEEN, text) if len(part) > 1]
    within = [p for p in (*parts, re.sub(_BETWEEN, "", text)) if len(p) >= _WITHIN]
    plain = re.sub(_BETWEEN, "", name)
    return any(p in words for p in parts) or any(p in name or p in plain for p in within)


def identity_of(volume: Volume) -> dict[str, str]:
    """Patient, study and series as the source's header has them; empty for other sources."""
    if not isinstance(volume.voxels, DicomVoxels):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote values
        source: Any = read_source(volume.voxels.stack.slices[0])
        return {keyword: str(source.get(keyword) or "") for keyword in _TOLD}


def _first_header(source: Path) -> Header | None:
    """The header of the first file that has one."""
    with suppress(VisceraError, ImportError):  # whoever opens the series says what is wrong
        for item in items_of(source):
            with suppress(Exception):
                if begins_as_dicom(item.head()):
                    with item.open() as file:
                        header = read_header(file, _KEYWORDS, where=item)
                    if header.values:
                        return header
    return None
