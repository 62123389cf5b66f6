"""NRRD (.nrrd, .seg.nrrd): CT volumes in. pynrrd parses the header; voxels are read bounded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.errors import InputError
from viscera.io.gz import ByteReader
from viscera.io.stored import Stored
from viscera.io.voxels import Room, read_voxels

_MOST_HEADER_BYTES = 1 << 20
# Names of types, less their optional "_t" (teem.sourceforge.net/nrrd/format.html, "type").
_TYPES = {
    **dict.fromkeys(("signed char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "int64"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "uint64"), "u8"),
    "float": "f4",
    "double": "f8",
}
# Directions of the named spaces, as signs towards R, A, S.
_SPACES = {
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
}  # fmt: skip


def read_nrrd(path: Path, *, room: Room) -> Stored:
    """Read a 3-D NRRD with attached voxels, raw or gzip.

    Raises:
        InputError: unreadable, detached, not three-dimensional, or without a known space.
        ResourceError: the declared size exceeds the limit.
    """
    with ByteReader(path) as reader:
        header = _header(reader)
        try:
            shape = tuple(int(n) for n in header["sizes"])
            if len(shape) != 3 or min(shape) < 1:
                raise _refuse("a 3-D volume", f"sizes {shape}", path)
            dtype = _dtype(header)
            matrix = _matrix(header)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            what = "sizes, a number type, an LPS, RAS or LAS space and its directions"
            raise _refuse(what, f"a header without ({error})", path) from error
        encoding = str(header.get("encoding", "")).lower()
        skips = [header.get(key, 0) for key in ("byte skip", "line skip", "byteskip", "lineskip")]
        detached = "data file" in header or "datafile" in header
        if detached or encoding not in ("raw", "gzip", "gz") or any(skips):
            found = f"encoding {encoding!r}, a detached data file, or bytes to skip"
            raise _refuse("voxels right behind the header, raw or gzip", found, path)
        room.check(reader, shape, dtype)
        if encoding != "raw":
            reader.inflate_from_here()
        values, findings = read_voxels(reader, shape, dtype)
    return Stored(values, Affine(matrix, where=path), findings=tuple(findings))


def _header(reader: ByteReader) -> dict[str, Any]:
    import nrrd

    lines, total = [], 0
    while line := reader.readline(_MOST_HEADER_BYTES):
        lines.append(line)
        total += len(line)
        if line in (b"\n", b"\r\n") or total > _MOST_HEADER_BYTES:
            break
    try:
        return dict(nrrd.read_header(io.BytesIO(b"".join(lines))))
    except Exception as error:  # pynrrd lets several kinds through
        raise _refuse("an NRRD header", str(error), reader.path) from error


def _dtype(header: dict[str, Any]) -> np.dtype[Any]:
    """The stored type; KeyError for what is no number."""
    order = ">" if str(header.get("endian", "")).lower() == "big" else "<"
    return np.dtype(order + _TYPES[str(header["type"]).replace("_t", "")])


def _matrix(header: dict[str, Any]) -> NDArray[np.float64]:
    """Voxel indices to RAS; KeyError or ValueError where the header does not say."""
    signs = np.array(_SPACES[str(header["space"]).lower()])
    matrix = np.eye(4)
    directions = np.asarray(header["space directions"], dtype=np.float64)
    origin = np.asarray(header.get("space origin", (0, 0, 0)), dtype=np.float64)
    if directions.shape != (3, 3) or origin.shape != (3,):
        raise ValueError("directions and origin along three axes")
    matrix[:3, :3] = directions.T * signs[:, None]
    matrix[:3, 3] = origin * signs
    return matrix


def _refuse(expected: str, found: str, where: Path) -> InputError:
    remedy = "save it as one .nrrd file with its geometry, or as NIfTI"
    return InputError(expected, found=found, remedy=remedy, where=where)
