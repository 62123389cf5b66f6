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
from viscera.dicom.read.slices import CT_CLASSES
from viscera.dicom.read.stack import SliceStack
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
_LEAST_NUMBER_LENGTH = 4  # of a number without its leading zeros
_SEPARATORS = r"[\s^=_.,;/\\()\[\]'’`´-]+"
_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
# Letters that are no letter with an accent.
_LETTERS = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d",
                          "þ": "th"})  # fmt: skip
# First letters of months in English, German, French, Spanish, Italian and Dutch.
_MONTHS = (
    ("jan", "ene", "gen"), ("feb", "fev", "fév"), ("mar", "mär", "mrz", "mrt", "maa"),
    ("apr", "avr", "abr"), ("may", "mai", "mei", "mag"), ("jun", "juin", "giu"),
    ("jul", "juil", "lug"), ("aug", "aou", "aoû", "ago"), ("sep", "set"),
    ("oct", "okt", "ott"), ("nov",), ("dec", "dez", "déc", "dic"),
)  # fmt: skip


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
    uid = series.partition(":")[0] if series else ""
    headers = list(_identity_headers(source, uid if uid != "all" else ""))
    if not headers or all(h.text("PatientIdentityRemoved") == "YES" for h in headers):
        return name
    spellings = _spellings(name)
    for header in headers:
        texts = [spelling for text in _identity_texts(header) for spelling in _spellings(text)]
        if any(_contains_text(spelling, text) for spelling in spellings for text in texts) or any(
            _contains_date(spellings[0], header.text(keyword)) for keyword in _DATES
        ):
            uid = headers[0].text("SOPInstanceUID")
            return "ct_" + hashlib.sha256(uid.encode()).hexdigest()[:8]
    return name


def _identity_headers(source: Path, series: str) -> Iterator[DicomHeader]:
    """Headers that tell whose images these are: the first CT image of each folder.

    Of a chosen series, its first image. If there is none, the first of every kind of object.
    """
    others: dict[str, DicomHeader] = {}
    has_ct = False
    folders: set[Path] = set()
    with suppress(VisceraError, ImportError):  # whoever opens the series says what is wrong
        for source_file in list_files(source):
            if not series and source_file.member is None and source_file.path.parent in folders:
                continue
            with suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if not begins_as_dicom(source_file.head()):
                    continue
                with source_file.open() as stream:
                    header = read_header(stream, _KEYWORDS, where=source_file)
                if not header.values:
                    continue
                sop_class = header.text("SOPClassUID") or header.sop_class
                others.setdefault(f"{sop_class} {header.text('SeriesInstanceUID')}", header)
                is_ct = sop_class in CT_CLASSES or header.text("Modality") == "CT"
                if not is_ct or (series and header.text("SeriesInstanceUID") != series):
                    continue
                has_ct = True
                folders.add(source_file.path.parent)
                yield header
                if series or source_file.member is not None:
                    return
    if not has_ct:
        yield from others.values()


def _identity_texts(header: DicomHeader) -> Iterator[str]:
    """Names and numbers of the patient in the header's own character set (PS3.5 6.1)."""
    values = [header.values.get(keyword) for keyword in _TEXTS]
    for item in header.values.get("OtherPatientIDsSequence") or ():
        with suppress(Exception):
            values.append(str(item.get("PatientID", "")).encode())
    for value in values:
        if value:
            yield from _decoded(bytes(value), header)


def _decoded(value: bytes, header: DicomHeader) -> Iterator[str]:
    """A text as its character set says, and as UTF-8 and Latin-1: many headers name a wrong one."""
    with suppress(Exception):
        from pydicom.charset import convert_encodings, decode_bytes

        names = list(header.texts("SpecificCharacterSet")) or ["ISO_IR 6"]
        yield decode_bytes(value, convert_encodings(names), {0x5C, 0x5E, 0x3D})
    with suppress(UnicodeDecodeError):
        yield value.decode("utf-8")
    yield value.decode("latin-1")


def _spellings(text: str) -> tuple[str, ...]:
    """A text as people write it: without differences of width and case, without accents.

    Umlauts become one letter or two.
    """
    plain = unicodedata.normalize("NFKC", text.strip(" \0")).casefold()
    german = plain.translate(_GERMAN)
    return plain, _without_accents(plain), _without_accents(german)


def _without_accents(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _contains_text(name: str, text: str) -> bool:
    """Whether a name holds part of a text: as a word, within one, or with its signs left out."""
    words = set(re.split(_SEPARATORS, name)) | set(re.findall(r"[^\W\d_]+|\d+", name))
    parts = [part for part in re.split(_SEPARATORS, text) if part]
    plain = re.sub(_SEPARATORS, "", name)
    whole = re.sub(_SEPARATORS, "", text)
    # A letter by itself stands anywhere; a sign of Chinese or Japanese is a name.
    parts = [part for part in parts if len(part) > 1 or ord(part) > _LAST_OF_ALPHABETS]
    parts += [part.lstrip("0") for part in parts if len(part.lstrip("0")) >= _LEAST_NUMBER_LENGTH]
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
    numbers = {int(day), int(month)}
    tokens = re.findall(r"\d+|[^\W\d_]+", name)
    # Signs between numbers, such as the Chinese ones for year, month and day, are no numbers.
    for kept in (tokens, [token for token in tokens if token.isdecimal()]):
        for run in zip(kept, kept[1:], kept[2:], strict=False):
            values = [_month_number(token) or _number(token) for token in run]
            for at, token in enumerate(run):
                others = {value for n, value in enumerate(values) if n != at}
                if token in (year, year[2:]) and others == numbers:
                    return True
    short = year[2:]
    packed = [digits, day + month + year, month + day + year]
    shorter = [short + month + day, day + month + short, month + day + short]
    return any(run in name for run in packed) or bool(
        re.search(rf"(?<!\d)(?:{'|'.join(shorter)})(?!\d)", name)
    )


def _number(token: str) -> int | None:
    return int(token) if token.isdecimal() and len(token) <= 2 else None


def _month_number(token: str) -> int | None:
    """1 to 12 of a month's name, by its first letters in several languages."""
    for number, beginnings in enumerate(_MONTHS, start=1):
        if token.startswith(beginnings):
            return number
    return None


def patient_identity(volume: Volume) -> dict[str, str]:
    """Patient, study and series as the source's header has them; empty for other sources."""
    stack = volume.slice_stack
    if not isinstance(stack, SliceStack):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote values
        source: Any = read_reference_header(stack.slices[0])
        return {keyword: str(source.get(keyword) or "") for keyword in _REPORTED}
