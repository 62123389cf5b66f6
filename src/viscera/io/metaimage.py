"""MetaImage (.mha): CT volumes in. The kept readers inflate without a bound, so this one reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from viscera.core.affine import Affine
from viscera.errors import InputError
from viscera.io.byte_reader import ByteReader
from viscera.io.raw_volume import RawVolume
from viscera.io.raw_voxels import ReadLimits, read_voxels

_REMEDY = "save it as one .mha file, or as NIfTI"
_MOST_LINES, _MOST_LINE_BYTES = 200, 4096
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2",
    "MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i8", "MET_ULONG": "u8",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
# Names that MetaIO knows for the same field.
_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
_ORIGINS = ("Offset", "Position", "Origin")


def read_metaimage(path: Path, *, limits: ReadLimits) -> RawVolume:
    """Read a 3-D .mha whose voxels follow the header, plain or compressed.

    World coordinates of MetaImage are LPS; the volume's are RAS.

    Args:
        path: the file.
        limits: of memory and inflation.

    Raises:
        InputError: unreadable, detached, or not a single 3-D volume of numbers.
        ResourceError: the declared size exceeds the limit.
    """
    with ByteReader(path) as reader:
        fields = _fields(reader)
        try:
            shape = tuple(int(n) for n in fields["DimSize"].split())
            order = ">" if _first(fields, _ORDERS, "False").lower() == "true" else "<"
            dtype = np.dtype(order + _TYPES[fields["ElementType"].upper()])
            spacing = np.array(fields["ElementSpacing"].split(), dtype=np.float64)
            turned = _first(fields, _MATRICES, "1 0 0 0 1 0 0 0 1").split()
            directions = np.array(turned, dtype=np.float64).reshape(3, 3).T
            origin = np.array(_first(fields, _ORIGINS, "0 0 0").split(), dtype=np.float64)
            if spacing.shape != (3,) or origin.shape != (3,):
                raise ValueError("spacing and origin along three axes")
            matrix = np.eye(4)
            matrix[:3, :3] = directions * spacing
            matrix[:3, 3] = origin
        except (KeyError, ValueError, OverflowError) as error:
            raise InputError(
                "DimSize, ElementType, ElementSpacing of a 3-D volume",
                found="a header that says otherwise",
                remedy=_REMEDY,
                where=path,
            ) from error
        if fields.get("BinaryData", "True").lower() != "true":
            raise InputError(
                "binary voxels", found="a header that says otherwise", remedy=_REMEDY, where=path
            )
        channels = fields.get("ElementNumberOfChannels", "1")
        if len(shape) != 3 or min(shape) < 1 or channels != "1":
            raise InputError(
                "a 3-D volume of one channel",
                found="a header that says otherwise",
                remedy=_REMEDY,
                where=path,
            )
        if fields["ElementDataFile"].upper() != "LOCAL":
            raise InputError(
                "voxels in the same file (ElementDataFile = LOCAL)",
                found="a header that says otherwise",
                remedy=_REMEDY,
                where=path,
            )
        limits.check(reader, shape, dtype)
        if fields.get("CompressedData", "False").lower() == "true":
            reader.inflate_from_here()
        values, findings = read_voxels(reader, shape, dtype)
    affine = Affine(np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix, where=path)
    return RawVolume(values, affine, findings=findings)


def _first(fields: dict[str, str], names: tuple[str, ...], default: str) -> str:
    return next((fields[n] for n in names if n in fields), default)


def _fields(reader: ByteReader) -> dict[str, str]:
    """The header's ``key = value`` lines, up to the one that says where the voxels are."""
    fields: dict[str, str] = {}
    for _ in range(_MOST_LINES):
        line = reader.readline(_MOST_LINE_BYTES).decode("utf-8", "replace")
        key, _, value = line.partition("=")
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            return fields
    raise InputError(
        "a MetaImage header that ends in ElementDataFile",
        found="a header that says otherwise",
        remedy=_REMEDY,
        where=reader.path,
    )
