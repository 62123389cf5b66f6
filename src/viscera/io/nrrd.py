"""NRRD (.nrrd, .seg.nrrd): CT volumes in. pynrrd parses the header; voxels are read bounded."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.errors import InputError
from viscera.io.byte_reader import ByteReader
from viscera.io.raw_volume import RawVolume
from viscera.io.raw_voxels import ReadLimits, read_voxels

_REMEDY = "save it as one .nrrd file with its geometry, or as NIfTI"
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


def read_nrrd(path: Path, *, limits: ReadLimits) -> RawVolume:
    """Read a 3-D NRRD with attached voxels, raw or gzip.

    Args:
        path: the file.
        limits: of memory and inflation.

    Raises:
        InputError: unreadable, detached, not three-dimensional, or without a known space.
        ResourceError: the declared size exceeds the limit.
    """
    with ByteReader(path) as reader:
        header = _header(reader)
        try:
            shape = tuple(int(n) for n in header["sizes"])
            if len(shape) != 3 or min(shape) < 1:
                raise InputError("a 3-D volume", found=f"sizes {shape}", remedy=_REMEDY, where=path)
            dtype = _dtype(header)
            matrix = _matrix(header)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            expected = "sizes, a number type, an LPS, RAS or LAS space and its directions"
            raise InputError(
                expected, found=f"a header without ({error})", remedy=_REMEDY, where=path
            ) from error
        encoding = str(header.get("encoding", "")).lower()
        skips = [header.get(key, 0) for key in ("byte skip", "line skip", "byteskip", "lineskip")]
        detached = "data file" in header or "datafile" in header
        if detached or encoding not in ("raw", "gzip", "gz") or any(skips):
            problem = f"encoding {encoding!r}, a detached data file, or bytes to skip"
            raise InputError(
                "voxels right behind the header, raw or gzip",
                found=problem,
                remedy=_REMEDY,
                where=path,
            )
        limits.check(reader, shape, dtype)
        if encoding != "raw":
            reader.inflate_from_here()
        values, findings = read_voxels(reader, shape, dtype)
    affine = Affine(matrix, where=path)
    return RawVolume(values, affine, findings=findings, label_names=_segment_names(header))


def _segment_names(header: dict[str, Any]) -> dict[int, str]:
    """What the values of a segmentation mean, as 3D Slicer writes it: its users number freely."""
    names: dict[int, str] = {}
    for key, name in header.items():
        match = re.fullmatch(r"Segment([0-9]{1,4})_Name", str(key))
        value = str(header.get(f"Segment{match[1]}_LabelValue", "")) if match else ""
        if re.fullmatch("[0-9]{1,5}", value):
            names[int(value)] = str(name)
    return names


def _header(reader: ByteReader) -> dict[str, Any]:
    import nrrd

    lines, total = [], 0
    while line := reader.readline(_MOST_HEADER_BYTES):
        lines.append(line)
        total += len(line)
        if line in (b"\n", b"\r\n") or total > _MOST_HEADER_BYTES:
            break
    try:
        header = dict(nrrd.read_header(io.BytesIO(b"".join(lines))))
        # pynrrd keeps ASCII alone; Slicer's names of segments are UTF-8.
        for line in lines:
            key, _, value = line.partition(b":=")
            if value and not value.isascii():
                header[key.decode("ascii", "replace")] = value.decode("utf-8", "replace").strip()
        return header
    except Exception as error:  # pynrrd lets several kinds through
        raise InputError(
            "an NRRD header", found=str(error), remedy=_REMEDY, where=reader.path
        ) from error


def _dtype(header: dict[str, Any]) -> np.dtype[Any]:
    """The stored type; KeyError for anything but numbers."""
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
