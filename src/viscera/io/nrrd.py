"""NRRD (.nrrd, .seg.nrrd): CT volumes in. pynrrd parses the header; voxels are read bounded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from viscera.affine import Affine
from viscera.errors import InputError
from viscera.hu import to_hu
from viscera.io.gz import ByteReader
from viscera.io.voxels import check_size, read_voxels
from viscera.volume import Volume

_MOST_HEADER_BYTES = 1 << 20
# Directions of the named spaces, as signs towards R, A, S.
_SPACES = {
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
}  # fmt: skip


def read_nrrd(path: Path, *, name: str, limit_mb: float) -> Volume:
    """Read a 3-D NRRD with attached voxels, raw or gzip.

    Raises:
        InputError: unreadable, detached, not three-dimensional, or without a known space.
        ResourceError: the declared size exceeds the limit.
    """
    with ByteReader(path) as reader:
        header = _header(reader)
        shape = tuple(int(n) for n in header["sizes"])
        if len(shape) != 3 or min(shape) < 1:
            raise _refuse("a 3-D volume", f"sizes {shape}", "extract one volume", path)
        dtype = _dtype(header, path)
        encoding = str(header.get("encoding", "")).lower()
        if "data file" in header or "datafile" in header or encoding not in ("raw", "gzip", "gz"):
            found = f"encoding {encoding!r} or a detached data file"
            raise _refuse("attached voxels, raw or gzip", found, "save it as one file", path)
        affine = _affine(header, path)
        check_size(reader, shape, dtype, limit_mb)
        if encoding != "raw":
            reader.inflate_from_here()
        stored, findings = read_voxels(reader, shape, dtype)
    data, more = to_hu(stored, where=path)
    return Volume(data, affine, name, None, (*findings, *more))


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
        raise _refuse("an NRRD header", str(error), "export it again", reader.path) from error


def _dtype(header: dict[str, Any], path: Path) -> np.dtype[Any]:
    from nrrd.reader import _TYPEMAP_NRRD2NUMPY

    try:
        code = _TYPEMAP_NRRD2NUMPY[header["type"]]
    except KeyError as error:
        found = f"type {header.get('type')!r}"
        raise _refuse("integer or real voxels", found, "export it again", path) from error
    order = ">" if header.get("endian") == "big" else "<"
    return np.dtype(f"{order}{code}")


def _affine(header: dict[str, Any], path: Path) -> Affine:
    signs = _SPACES.get(str(header.get("space", "")).lower())
    directions = np.asarray(header.get("space directions", np.nan), dtype=np.float64)
    if signs is None or directions.shape != (3, 3):
        found = f"space {header.get('space')!r} and directions of shape {directions.shape}"
        raise _refuse("an LPS, RAS or LAS space", found, "save it with its geometry", path)
    matrix = np.eye(4)
    matrix[:3, :3] = directions.T * np.array(signs)[:, None]
    matrix[:3, 3] = np.asarray(header.get("space origin", (0, 0, 0))) * np.array(signs)
    return Affine(matrix)


def _refuse(expected: str, found: str, remedy: str, where: Path) -> InputError:
    return InputError(expected, found=found, remedy=remedy, where=where)
