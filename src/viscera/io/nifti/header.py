"""A NIfTI header, checked before a voxel is touched.

Much that is a NIfTI cannot be a CT: singular matrices, contradicting forms, sizes of petabytes.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from viscera.core.affine import Affine
from viscera.errors import InputError
from viscera.findings import Finding, Level
from viscera.io.nifti.affine import choose_affine
from viscera.io.nifti.fields import DATA_TYPES, HeaderFields, load_header

# Bytes of the two header versions, and their magic strings for single files and pairs.
_MAGICS = {348: (b"n+1\0", b"ni1\0"), 540: (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")}
_MOST_EXTENSION_BYTES = 1 << 24
INTENT_LABEL = 1002  # NIFTI_INTENT_LABEL: numbers that stand for names


@dataclass(frozen=True)
class NiftiHeader:
    """What a checked header says.

    Attributes:
        shape: voxels along i, j, k.
        volumes: volumes along the fourth axis.
        dtype: stored type with its byte order.
        slope, inter: scaling of stored values to HU.
        affine: voxel indices to RAS millimetres.
        voxel_offset: bytes before the voxels; 0 in a pair's image file.
        is_pair: the voxels lie in a separate .img file.
        block: the header's bytes, little-endian, repaired where a form was broken.
        findings: what was noticed.
    """

    shape: tuple[int, int, int]
    volumes: int
    dtype: np.dtype[Any]
    slope: float
    inter: float
    affine: Affine
    voxel_offset: int
    is_pair: bool
    block: bytes
    findings: tuple[Finding, ...]


def header_bytes(head: bytes) -> int:
    """Size of the NIfTI header that begins with these bytes, 0 where it is none."""
    if len(head) < 4:
        return 0
    for order in "<>":
        size = int(struct.unpack(order + "i", head[:4])[0])
        if size in _MAGICS:
            return size
    return 0


def check_header(block: bytes, where: Path, *, strict: bool = False) -> NiftiHeader:
    """Judge a header of 348 or 540 bytes.

    Args:
        block: the header's bytes, either byte order.
        where: the file, for messages.
        strict: refuse where orientation would have to be assumed.

    Raises:
        InputError: no NIfTI, no single 3-D or 4-D volume of real numbers, or no usable affine.
    """
    with np.errstate(all="ignore"):  # a hostile header may hold any number
        return _checked(block, where, strict=strict)


def _checked(block: bytes, where: Path, *, strict: bool) -> NiftiHeader:
    header = load_header(block)
    size = len(block)
    magic = block[344:348] if size == 348 else block[4:12]
    if magic not in _MAGICS[size]:
        raise InputError(
            "a NIfTI magic string",
            found=repr(magic),
            remedy="convert ANALYZE to NIfTI",
            where=where,
        )
    shape, volumes, shape_findings = _read_shape(header, where)
    dtype = _read_dtype(header, block, where)
    slope, inter, scaling_findings = _read_scaling(header, where)
    chosen = choose_affine(header, where, strict=strict)
    is_pair = magic == _MAGICS[size][1]
    return NiftiHeader(
        shape=shape,
        volumes=volumes,
        dtype=dtype,
        slope=slope,
        inter=inter,
        affine=chosen.affine,
        voxel_offset=_read_voxel_offset(header, size, where, is_pair=is_pair),
        is_pair=is_pair,
        block=_without_sform(header) if chosen.sform_is_broken else header.tobytes(),
        findings=(*shape_findings, *scaling_findings, *chosen.findings),
    )


def _without_sform(header: HeaderFields) -> bytes:
    """The header's bytes without its broken sform."""
    repaired = header.copy()
    repaired["sform_code"] = 0
    repaired["srow_x"] = repaired["srow_y"] = repaired["srow_z"] = 0
    return repaired.tobytes()


def _read_voxel_offset(header: HeaderFields, size: int, where: Path, *, is_pair: bool) -> int:
    """Bytes before the voxels, within reason."""
    offset = float(header["vox_offset"])
    if not (np.isfinite(offset) and 0 <= offset <= size + _MOST_EXTENSION_BYTES):
        raise InputError(
            f"extensions of at most {_MOST_EXTENSION_BYTES >> 20} MB",
            found=f"voxels at offset {offset:g}",
            remedy="strip the header extensions",
            where=where,
        )
    return max(int(offset), 0 if is_pair else size + 4)


def check_extensions(block: bytes) -> list[Finding]:
    """Walk the header extensions between header and voxels; they are never interpreted."""
    if len(block) < 4 or block[0] == 0:
        return []
    at = 4
    while at + 8 <= len(block):
        little_endian, big_endian = (
            struct.unpack(order + "i", block[at : at + 4])[0] for order in "<>"
        )
        size = min((s for s in (little_endian, big_endian) if s >= 16 and s % 16 == 0), default=0)
        if not size or at + size > len(block):
            message = (
                f"a header extension declares {little_endian} bytes where {len(block) - at} remain"
            )
            return [Finding("warning", "extension-invalid", message, "it was ignored")]
        at += size
    return []


def _read_shape(
    header: HeaderFields, where: Path
) -> tuple[tuple[int, int, int], int, tuple[Finding, ...]]:
    """Voxels along i, j, k, and the number of volumes."""
    count = int(header["dim"][0])
    export = "export the CT again"
    if not 1 <= count <= 7:
        raise InputError("1 to 7 dimensions", found=str(count), remedy=export, where=where)
    dims = [int(n) for n in header["dim"][1 : count + 1]]
    # Sizes beyond the third are often left at 0; other readers take them for 1.
    dims[3:] = [n or 1 for n in dims[3:]]
    if min(dims) < 1:
        raise InputError("dimensions of at least 1", found=f"{dims}", remedy=export, where=where)
    if count < 3:
        remedy = "give a whole CT series"
        raise InputError("a 3-D volume", found=f"{count} dimensions", remedy=remedy, where=where)
    if any(n > 1 for n in dims[4:]):
        remedy = "extract one volume"
        raise InputError("a 3-D volume", found=f"dimensions {dims}", remedy=remedy, where=where)
    volumes = dims[3] if count > 3 else 1
    findings: tuple[Finding, ...] = ()
    if count > 3 and volumes == 1:
        message = f"dimensions {dims} were taken as the 3-D volume {dims[:3]}"
        findings = (Finding("fixed", "squeezed", message),)
    return (dims[0], dims[1], dims[2]), volumes, findings


def _read_dtype(header: HeaderFields, block: bytes, where: Path) -> np.dtype[Any]:
    """The type of the voxels with its byte order."""
    code = int(header["datatype"])
    if code not in DATA_TYPES:
        raise InputError(
            "a NIfTI data type",
            found=f"unknown datatype code {code}",
            remedy="export again",
            where=where,
        )
    name = DATA_TYPES[code]
    if not re.fullmatch("u?int(8|16|32|64)|float(32|64)", name):
        raise InputError(
            "integer or real voxels",
            found=f"voxels of type {name}",
            remedy="export again",
            where=where,
        )
    foreign = struct.unpack("<i", block[:4])[0] not in _MAGICS
    order: Literal[">", "<"] = ">" if foreign else "<"
    return np.dtype(name).newbyteorder(order)


def _read_scaling(header: HeaderFields, where: Path) -> tuple[float, float, tuple[Finding, ...]]:
    """Slope and intercept of stored values; 1 and 0 where there is no slope."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        # Slope 0 is NIfTI's own way to say "not scaled"; the others mean nothing.
        level: Level = "info" if slope == 0 else "warning"
        message = f"scl_slope is {slope:g}: stored values were taken as HU, unscaled"
        return 1.0, 0.0, (Finding(level, "no-scaling", message),)
    if not np.isfinite(inter):
        remedy = "export the CT again"
        raise InputError("a finite scl_inter", found=f"{inter}", remedy=remedy, where=where)
    return slope, inter, ()
