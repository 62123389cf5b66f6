"""The header of one DICOM file, bounded, and where its pixels stand."""

from __future__ import annotations

import io
import zlib
from typing import Any, BinaryIO

from viscera.dicom.files import Item
from viscera.errors import ResourceError

DEFLATED = "1.2.840.10008.1.2.1.99"
_IMPLICIT = "1.2.840.10008.1.2"
_MOST_INFLATED_MB = 128


def read_header(file: BinaryIO, *, tags: list[str] | None) -> tuple[Any, str, int | None]:
    """A data set without its pixels, its transfer syntax, and where its pixel element stands.

    That is None in a deflated file, whose bytes have no fixed place; only so much of one is
    inflated as an image may take.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    syntax = _syntax(file)
    if syntax == DEFLATED:
        data = inflated(file)
        stop = _at_pixels
        return read_dataset(io.BytesIO(data), False, True, stop_when=stop), syntax, None
    dataset = dcmread(file, stop_before_pixels=True, specific_tags=tags, force=True)
    return dataset, syntax, file.tell()


def _at_pixels(tag: Any, _vr: Any, _length: int) -> bool:
    return bool(tag == 0x7FE00010)


def _syntax(file: BinaryIO) -> str:
    """The transfer syntax by the file's meta group; the file is left at its beginning."""
    from pydicom.filereader import read_partial

    file.seek(0)
    meta = read_partial(file, stop_when=lambda tag, _vr, _length: tag.group > 2, force=True)
    file.seek(0)
    return str(meta.file_meta.get("TransferSyntaxUID", _IMPLICIT))


def inflated(file: BinaryIO) -> bytes:
    """The data set of a deflated file, which stands behind its meta group (PS3.5 A.5).

    Raises:
        ResourceError: more than an image may take.
    """
    file.seek(132)
    group_length = file.read(12)
    file.seek(144 + int.from_bytes(group_length[8:12], "little"))
    most = _MOST_INFLATED_MB * 1_000_000
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    data = engine.decompress(file.read(), most)
    if len(data) >= most:
        raise ResourceError(
            f"a deflated image of at most {_MOST_INFLATED_MB} MB",
            found="more",
            remedy="make sure that this is a CT and not a damaged or hostile file",
        )
    return data


def raw_pixels_at(item: Item, syntax: str, pixels_at: int) -> int | None:
    """First byte of uncompressed pixels; None for all that must be decoded."""
    heads = {_IMPLICIT: 8, "1.2.840.10008.1.2.1": 12}
    if syntax not in heads:
        return None
    with item.open() as file:
        file.seek(pixels_at)
        head = file.read(12)
    # In explicit form the element names its kind; some files of old say one and do the other.
    explicit = head[4:6] in (b"OW", b"OB")
    return pixels_at + (12 if explicit else 8) if head[:4] == b"\xe0\x7f\x10\x00" else None
