"""Patient identity: shown only if the user asks for it, and kept out of result names."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from viscera.core.volume import Volume
from viscera.dicom.read.files import begins_as_dicom, list_files
from viscera.dicom.read.header import DicomHeader, read_header
from viscera.dicom.read.lazy_voxels import DicomVoxels
from viscera.dicom.read.slices import CT_CLASSES
from viscera.dicom.write.references import read_reference_header
from viscera.errors import VisceraError

_REPORTED = (
    "PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "StudyID",
    "PatientSex", "StudyInstanceUID", "SeriesInstanceUID",
)  # fmt: skip
_TEXTS = ("PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName",
          "AccessionNumber", "StudyID")  # fmt: skip
_DATES = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate",
          "InstanceCreationDate")  # fmt: skip
_KEYWORDS = (
    *_TEXTS, *_DATES, "OtherPatientIDsSequence", "SOPInstanceUID", "SOPClassUID",
    "SeriesInstanceUID", "Modality", "SpecificCharacterSet", "PatientIdentityRemoved",
)  # fmt: skip
_LEAST_PART_LENGTH = 3  # shorter parts of a text stand within any word
_LAST_OF_ALPHABETS = 0x2E7F  # what follows are signs that stand for words
_SEPARATORS = r"[\s^=_.,;/\\()\[\]-]+"


def deidentified_name(source: Path, name: str, *, series: str | None = None) -> str:
    """The name of a case, or another where this one holds the patient's name, a number or a date.

    Archives export folders that are called after the patient. The other name follows from the
    image, so that a second run finds the results of the first. What was anonymised on the record
    (PatientIdentityRemoved, PS3.3 C.7.1.1) keeps its name.

    Args:
        source: folder, archive or file.
        name: what the case would be called.
        series: Series Instance UID of the series that will be taken, where it is chosen.
    """
    headers = list(_identity_headers(source, series))
    if not headers or all(h.text("PatientIdentityRemoved") == "YES" for h in headers):
        return name
    plain_name = _normalised(name)
    for header in headers:
        if any(_contains_text(plain_name, text) for text in _identity_texts(header)) or any(
            _contains_date(plain_name, header.text(keyword)) for keyword in _DATES
        ):
            uid = headers[0].text("SOPInstanceUID")
            return "ct_" + hashlib.sha256(uid.encode()).hexdigest()[:8]
    return name


def _identity_headers(source: Path, series: str | None) -> Iterator[DicomHeader]:
    """Headers that tell whose images these are: the first CT image of each folder.

    If there is none, the first DICOM file; of a chosen series, its first image.
    """
    first: DicomHeader | None = None
    has_ct = False
    folders: set[Path] = set()
    with suppress(VisceraError, ImportError):  # whoever opens the series says what is wrong
        for source_file in list_files(source):
            if series is None and source_file.member is None and source_file.path.parent in folders:
                continue
            with suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if not begins_as_dicom(source_file.head()):
                    continue
                with source_file.open() as stream:
                    header = read_header(stream, _KEYWORDS, where=source_file)
                if not header.values:
                    continue
                first = first or header
                sop_class = header.text("SOPClassUID") or header.sop_class
                is_ct = sop_class in CT_CLASSES or header.text("Modality") == "CT"
                if not is_ct or (series and header.text("SeriesInstanceUID") != series):
                    continue
                has_ct = True
                folders.add(source_file.path.parent)
                yield header
                if series or source_file.member is not None:
                    return
    if not has_ct and first is not None:
        yield first


def _identity_texts(header: DicomHeader) -> Iterator[str]:
    """Names and numbers of the patient in the header's own character set (PS3.5 6.1)."""
    values = [header.values.get(keyword) for keyword in _TEXTS]
    for item in header.values.get("OtherPatientIDsSequence") or ():
        with suppress(Exception):
            values.append(str(item.get("PatientID", "")).encode())
    for value in values:
        if value:
            yield from (_normalised(text) for text in _decoded(bytes(value), header))


def _decoded(value: bytes, header: DicomHeader) -> Iterator[str]:
    """A text as its character set says, and as UTF-8 and Latin-1: many headers name a wrong one."""
    with suppress(Exception):
        from pydicom.charset import convert_encodings, decode_bytes

        names = list(header.texts("SpecificCharacterSet")) or ["ISO_IR 6"]
        yield decode_bytes(value, convert_encodings(names), {0x5C, 0x5E, 0x3D})
    with suppress(UnicodeDecodeError):
        yield value.decode("utf-8")
    yield value.decode("latin-1")


def _normalised(text: str) -> str:
    """Without differences of width, composition and case."""
    return unicodedata.normalize("NFKC", text.strip(" \0")).casefold()


def _contains_text(name: str, text: str) -> bool:
    """Whether a name holds part of a text: as a word, within one, or with its signs left out."""
    words = set(re.split(_SEPARATORS, name))
    parts = [part for part in re.split(_SEPARATORS, text) if part]
    plain = re.sub(_SEPARATORS, "", name)
    whole = re.sub(_SEPARATORS, "", text)
    # A letter by itself stands anywhere; a sign of Chinese or Japanese is a name.
    parts = [part for part in parts if len(part) > 1 or ord(part) > _LAST_OF_ALPHABETS]
    within = [
        part
        for part in (*parts, whole)
        if len(part) >= _LEAST_PART_LENGTH or (part and min(map(ord, part)) > _LAST_OF_ALPHABETS)
    ]
    return any(p in words for p in parts) or any(p in name or p in plain for p in within)


def _contains_date(name: str, date: str) -> bool:
    """Whether a name holds a date YYYYMMDD in one of the orders that people write."""
    digits = re.sub(r"\D", "", date)[:8]
    if len(digits) != 8:
        return False
    year, month, day = digits[:4], digits[4:6], digits[6:]
    runs = "|".join(
        f"{a}{separator}{b}{separator}{c}"
        for a, b, c in (
            (year, f"0?{int(month)}", f"0?{int(day)}"),
            (f"0?{int(day)}", f"0?{int(month)}", year),
            (f"0?{int(month)}", f"0?{int(day)}", year),
        )
        for separator in (r"[\s_./-]",)
    )
    short = year[2:]
    packed = [digits, day + month + year, month + day + year]
    packed += [short + month + day, day + month + short, month + day + short]
    return bool(
        re.search(rf"(?<!\d)(?:{runs})(?!\d)", name)
        or re.search(rf"(?<!\d)(?:{'|'.join(packed)})(?!\d)", name)
        or any(run in name for run in packed[:3])
    )


def patient_identity(volume: Volume) -> dict[str, str]:
    """Patient, study and series as the source's header has them; empty for other sources."""
    if not isinstance(volume.voxels, DicomVoxels):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote values
        source: Any = read_reference_header(volume.voxels.stack.slices[0])
        return {keyword: str(source.get(keyword) or "") for keyword in _REPORTED}
