"""A NIfTI header, checked before a voxel is touched.

nibabel parses the fields; what they may say is judged here, because nibabel accepts much that
cannot be a CT: singular matrices, contradicting forms, sizes of petabytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from viscera.affine import Affine
from viscera.errors import InputError
from viscera.findings import Finding
from viscera.io.nifti_affine import affine_of

# Bytes of the two header versions, and their magic strings for single files and pairs.
_MAGICS = {348: (b"n+1\0", b"ni1\0"), 540: (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")}
_MOST_EXTENSION_BYTES = 1 << 24


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


def load_header(block: bytes) -> Any:
    """The header as nibabel's object, native byte order, unchecked."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    kind = Nifti1Header if len(block) == 348 else Nifti2Header
    header = kind(block, check=False)
    return header.as_byteswapped("<") if header.endianness == ">" else header


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
        raise _refuse("a NIfTI magic string", repr(magic), "convert ANALYZE to NIfTI", where)
    findings: list[Finding] = []
    shape, volumes = _shape(header, findings, where)
    dtype = _dtype(header, block, where)
    slope, inter = _scaling(header, findings, where)
    affine = affine_of(header, findings, where, strict=strict)
    is_pair = magic == _MAGICS[size][1]
    offset = float(header["vox_offset"])
    lowest = 0 if is_pair else size + 4
    if not (np.isfinite(offset) and 0 <= offset <= size + _MOST_EXTENSION_BYTES):
        most = f"extensions of at most {_MOST_EXTENSION_BYTES >> 20} MB"
        raise _refuse(most, f"voxels at offset {offset:g}", "strip the header extensions", where)
    return NiftiHeader(
        shape=shape,
        volumes=volumes,
        dtype=dtype,
        slope=slope,
        inter=inter,
        affine=affine,
        voxel_offset=max(int(offset), lowest),
        is_pair=is_pair,
        block=header.binaryblock,
        findings=tuple(findings),
    )


def check_extensions(block: bytes) -> list[Finding]:
    """Walk the header extensions between header and voxels; they are never interpreted."""
    if len(block) < 4 or block[0] == 0:
        return []
    at = 4
    while at + 8 <= len(block):
        little, big = (struct.unpack(order + "i", block[at : at + 4])[0] for order in "<>")
        size = min((s for s in (little, big) if s >= 16 and s % 16 == 0), default=0)
        if not size or at + size > len(block):
            message = f"a header extension declares {little} bytes where {len(block) - at} remain"
            return [Finding("warning", "extension-invalid", message, "it was ignored")]
        at += size
    return []


def _shape(header: Any, findings: list[Finding], where: Path) -> tuple[tuple[int, int, int], int]:
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise _refuse("1 to 7 dimensions", str(count), "export the CT again", where)
    dims = [int(n) for n in header["dim"][1 : count + 1]]
    if min(dims) < 1:
        raise _refuse("dimensions of at least 1", f"{dims}", "export the CT again", where)
    if count < 3:
        raise _refuse("a 3-D volume", f"{count} dimensions", "give a whole CT series", where)
    if any(n > 1 for n in dims[4:]):
        raise _refuse("a 3-D volume", f"dimensions {dims}", "extract one volume", where)
    volumes = dims[3] if count > 3 else 1
    if count > 3 and volumes == 1:
        message = f"dimensions {dims} were taken as the 3-D volume {dims[:3]}"
        findings.append(Finding("fixed", "squeezed", message))
    return (dims[0], dims[1], dims[2]), volumes


def _dtype(header: Any, block: bytes, where: Path) -> np.dtype[Any]:
    code = int(header["datatype"])
    from nibabel.nifti1 import data_type_codes

    if code not in data_type_codes:
        raise _refuse("a NIfTI data type", f"unknown datatype code {code}", "export again", where)
    dtype: np.dtype[Any] = np.dtype(data_type_codes.dtype[code])
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = data_type_codes.label[code]
        raise _refuse("integer or real voxels", f"voxels of type {name}", "export again", where)
    foreign = struct.unpack("<i", block[:4])[0] not in _MAGICS
    order: Literal[">", "<"] = ">" if foreign else "<"
    return dtype.newbyteorder(order)


def _scaling(header: Any, findings: list[Finding], where: Path) -> tuple[float, float]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        # Slope 0 is NIfTI's own word for "not scaled"; the others are nobody's.
        level = "info" if slope == 0 else "warning"
        message = f"scl_slope is {slope:g}: stored values were taken as HU, unscaled"
        findings.append(Finding(level, "no-scaling", message))  # type: ignore[arg-type]
        return 1.0, 0.0
    if not np.isfinite(inter):
        raise _refuse("a finite scl_inter", f"{inter}", "export the CT again", where)
    return slope, inter


def _refuse(expected: str, found: str, remedy: str, where: Path) -> InputError:
    return InputError(expected, found=found, remedy=remedy, where=where)
