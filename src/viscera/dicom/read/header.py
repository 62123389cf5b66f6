"""The header of one DICOM file: the values asked for, and where its pixels stand."""

from __future__ import annotations

import io
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO

from viscera.errors import ResourceError

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_MOST_INFLATED_MB = 128
# A header of 2000 frames takes 200,000 reads and a few MB; hostile ones go on without end.
_MOST_READS, _MOST_HEADER_BYTES = 500_000, 256_000_000
_WINDOW = 1 << 15
_SYNTAX_TAG, _CLASS_TAG, _PIXEL_GROUP = 0x00020010, 0x00020002, 0x7FE0


@dataclass(frozen=True)
class DicomHeader:
    """What a file says of its image.

    Attributes:
        values: bytes as they stand, or a sequence of pydicom data sets, by keyword.
        syntax: transfer syntax UID; that of old files without one where there is none.
        sop_class: by the meta group; the data set has it too, if it is not cut off before.
        pixels_offset: first byte of the pixels, if neither compressed nor swapped, in the
            inflated data set where the file is deflated.
        empty: there is no pixel element.
    """

    values: dict[str, Any]
    syntax: str
    sop_class: str
    pixels_offset: int | None
    empty: bool

    def text(self, keyword: str) -> str:
        """A text without the blanks that fill it up; empty where it is absent."""
        return bytes(self.values.get(keyword) or b"").decode("latin-1").strip(" \0")

    def texts(self, keyword: str) -> tuple[str, ...]:
        """The texts of an element that holds several."""
        text = self.text(keyword)
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Numbers of a text element; none where the element is absent or empty.

        Raises:
            ValueError: they are none.
        """
        return tuple(float(part) for part in self.texts(keyword))

    def integer(self, keyword: str, absent: int = 0, *, signed: bool = False) -> int:
        """A 16-bit number.

        Args:
            keyword: the element's DICOM keyword.
            absent: the value where the element is missing.
            signed: read it as SS instead of US.

        Raises:
            ValueError: the element has another length.
        """
        value = self.values.get(keyword)
        if not value:
            return absent
        order = "big" if self.syntax == BIG_ENDIAN else "little"
        if len(value) != 2:
            raise ValueError(keyword)
        return int.from_bytes(value, order, signed=signed)  # type: ignore[arg-type]


def read_header(file: BinaryIO, keywords: tuple[str, ...], *, where: object) -> DicomHeader:
    """Read the values of these keywords, and stop at the pixels.

    pydicom walks over the elements; their values are decoded here, which takes a third of the time
    that whole data sets take. What order and length of groups say is not relied on.

    Args:
        file: from its beginning.
        keywords: which values.
        where: for messages.

    Raises:
        ResourceError: a deflated file holds more than an image may take.
        Exception: whatever damaged files make pydicom raise.
    """
    window = file.read(_WINDOW)
    if len(window) < _WINDOW:
        return _read(io.BytesIO(window), keywords, where)
    # Most headers end in the window, in which pydicom walks faster than in a file.
    with suppress(Exception):
        header = _read(io.BytesIO(window), keywords, where)
        if not header.empty:
            return header
    file.seek(0)
    return _read(file, keywords, where)


class _BoundedStream:
    """A stream that gives up where a header is longer, or has more items, than any image has."""

    def __init__(self, file: BinaryIO, where: object) -> None:
        self._file, self._where = file, where
        self._reads = self._bytes = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes.

        Args:
            size: how many at most.

        Raises:
            ResourceError: too many already.
        """
        # A value of gigabytes is announced by its length: nothing of it is read.
        if size > _MOST_HEADER_BYTES:
            raise self._too_long()
        content = self._file.read(size)
        self._reads, self._bytes = self._reads + 1, self._bytes + len(content)
        if self._reads > _MOST_READS or self._bytes > _MOST_HEADER_BYTES:
            raise self._too_long()
        return content

    def __getattr__(self, name: str) -> Any:
        """All else is the file's."""
        return getattr(self._file, name)

    def _too_long(self) -> ResourceError:
        return ResourceError(
            f"a header of at most {_MOST_HEADER_BYTES // 1_000_000} MB and {_MOST_READS} elements",
            found="more",
            remedy="make sure that this is a CT and not a damaged or hostile file",
            where=self._where,
        )


def _read(file: BinaryIO, keywords: tuple[str, ...], where: object) -> DicomHeader:
    from pydicom.dataelem import convert_raw_data_element
    from pydicom.filereader import data_element_generator

    syntax, sop_class = read_meta(file)
    if syntax == DEFLATED:
        file = inflate_dataset(file, where=where)
    start = file.tell()
    implicit = not _has_explicit_vr(file.read(6))
    file.seek(start)
    tags, values = _tags(keywords), {}
    bounded: Any = _BoundedStream(file, where)
    elements = data_element_generator(
        bounded, implicit, syntax != BIG_ENDIAN, _at_pixels, specific_tags=list(tags)
    )
    for element in elements:
        keyword = tags.get(int(element.tag))
        if keyword is None:
            continue
        if keyword.endswith("Sequence") and not hasattr(element, "is_undefined_length"):
            element = convert_raw_data_element(element)
        values[keyword] = element.value
    at = file.tell()
    head = file.read(6)
    raw = head[:4] == b"\xe0\x7f\x10\x00" and syntax in (IMPLICIT, EXPLICIT, DEFLATED)
    pixels_at = at + (12 if _has_explicit_vr(head) else 8) if raw else None
    return DicomHeader(values, syntax, sop_class, pixels_at, not head)


@cache
def _tags(keywords: tuple[str, ...]) -> dict[int, str]:
    from pydicom.datadict import tag_for_keyword

    return {int(tag_for_keyword(keyword) or 0): keyword for keyword in keywords}


def _at_pixels(tag: int, _vr: Any, _length: int) -> bool:
    return tag >> 16 >= _PIXEL_GROUP


def _has_explicit_vr(element: bytes) -> bool:
    """Whether an element names its kind by two letters, whatever the transfer syntax says."""
    kind = element[4:6]
    return len(kind) == 2 and kind.isalpha() and kind.isupper()


def read_meta(file: BinaryIO) -> tuple[str, str]:
    """Transfer syntax and SOP Class UID by the meta group; the file is left at its data set.

    Files of old have none: they are implicit, and of no class.
    """
    from pydicom.filereader import data_element_generator

    file.seek(128)
    if file.read(4) != b"DICM":
        file.seek(0)
    values = {_SYNTAX_TAG: IMPLICIT, _CLASS_TAG: ""}
    bounded: Any = _BoundedStream(file, getattr(file, "name", "the file"))
    elements = data_element_generator(
        bounded, False, True, lambda tag, _vr, _length: tag >> 16 > 2, specific_tags=list(values)
    )
    for element in elements:
        if int(element.tag) in values and element.value:
            values[int(element.tag)] = bytes(element.value).decode("latin-1").strip(" \0")
    return values[_SYNTAX_TAG], values[_CLASS_TAG]


def inflate_dataset(file: BinaryIO, *, where: object) -> BinaryIO:
    """The data set of a deflated file, which follows its meta group (PS3.5 A.5).

    Args:
        file: stands at the data set.
        where: for messages.

    Raises:
        ResourceError: more than an image may take.
    """
    limit_bytes = _MOST_INFLATED_MB * 1_000_000
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    data = engine.decompress(file.read(), limit_bytes)
    if len(data) >= limit_bytes:
        raise ResourceError(
            f"a deflated image of at most {_MOST_INFLATED_MB} MB",
            found="more",
            remedy="make sure that this is a CT and not a damaged or hostile file",
            where=where,
        )
    return io.BytesIO(data)
