"""NIfTI-1 and NIfTI-2: CT volumes in, label maps out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.errors import InputError, OutputError
from viscera.findings import Finding
from viscera.hu import to_hu
from viscera.io.atomic import atomic_write
from viscera.io.gz import ByteReader
from viscera.io.nifti_header import (
    NiftiHeader,
    check_extensions,
    check_header,
    header_bytes,
    load_header,
)
from viscera.io.voxels import check_size, read_voxels
from viscera.volume import Hu, Labels, Volume

# NIfTI extension code of Caret's XML, where viewers look for label names (nifti1_io.h).
_ECODE_CARET = 30
_INTENT_LABEL = 1002
_SCANNER_ANAT = 1


def read_nifti(
    path: Path, *, name: str, limit_mb: float, index: int | None = None, strict: bool = False
) -> Volume:
    """Read a CT from .nii, .nii.gz or an .hdr/.img pair, judged by content, not by name.

    Args:
        path: the file; either one of a pair.
        name: the case's name.
        limit_mb: most memory the voxels may take.
        index: which volume of a 4-D series, counted from 0.
        strict: refuse where orientation would have to be assumed.

    Raises:
        InputError: not a readable CT volume.
        ResourceError: the declared size exceeds the limit.
    """
    path = nifti_header_path(path)
    with ByteReader(path) as reader:
        header = _read_header(reader, strict=strict)
        findings = list(header.findings)
        if reader.is_gzip != path.name.lower().endswith(".gz"):
            message = f"the name {path.suffix} does not fit the content, which was trusted"
            findings.append(Finding("warning", "name-misleads", message))
        if header.is_pair:
            with ByteReader(_image_of_pair(path)) as image:
                image.read(header.voxel_offset)
                stored = _read_stored(image, header, index, limit_mb, findings)
        else:
            extensions = reader.read(header.voxel_offset - len(header.block))
            findings += check_extensions(extensions)
            stored = _read_stored(reader, header, index, limit_mb, findings)
    data, more = to_hu(stored, slope=header.slope, inter=header.inter, where=path)
    return Volume(data, header.affine, name, header.block, (*findings, *more))


def volume_of_image(image: Any, *, name: str) -> Volume:
    """A volume from a nibabel image; a NIfTI's header is judged as a file's would be.

    Args:
        image: any image with ``dataobj``, ``affine`` and ``header``.
        name: the case's name.

    Raises:
        InputError: not a single volume of real numbers on a usable grid.
    """
    stored = np.asarray(image.dataobj)
    if stored.ndim > 3 and stored.size == math.prod(stored.shape[:3]):
        stored = stored.reshape(stored.shape[:3])
    data, findings = to_hu(stored, where=name)
    block = getattr(image.header, "binaryblock", b"")
    if len(block) != header_bytes(block):
        return Volume(data, Affine(image.affine), name, None, tuple(findings))
    header = check_header(block, Path(name))
    # nibabel has applied the scaling, and blanks it in the header.
    noted = [finding for finding in header.findings if finding.code != "no-scaling"]
    return Volume(data, header.affine, name, header.block, (*noted, *findings))


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read and check the header alone.

    Raises:
        InputError: no NIfTI.
    """
    with ByteReader(nifti_header_path(path)) as reader:
        return _read_header(reader, strict=False)


def check_nifti_name(path: Path) -> None:
    """Prove that the name says NIfTI.

    Raises:
        OutputError: it does not.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise OutputError(
            "an output name that ends in .nii.gz or .nii",
            found=path.name,
            remedy="rename it",
            where=path,
        )


def write_nifti(
    path: Path,
    voxels: Labels | Hu,
    affine: Affine,
    *,
    source_header: bytes | None = None,
    label_table: str = "",
    description: str = "viscera",
    overwrite: bool = False,
) -> None:
    """Write a label map or a volume as .nii or .nii.gz.

    With a source header, forms, codes, pixdim and units are the source's, bit for bit; texts
    that might name a patient are blanked. Gzip carries no time stamp, so the same voxels give the
    same bytes.

    Args:
        path: target; ``.gz`` compresses.
        voxels: [i, j, k] uint8 labels, or int16 or float32 HU.
        affine: voxel indices to RAS millimetres, used where there is no source header.
        source_header: bytes of the NIfTI header whose grid this is.
        label_table: XML for the Caret extension, where viewers look for names and colours.
        description: what made it, at most 79 bytes.
        overwrite: replace an existing file.

    Raises:
        OutputError: another suffix, not writable, or the file exists.
    """
    check_nifti_name(path)
    header = _header_for(voxels, affine, source_header, description)
    extension = b"\0\0\0\0"
    if label_table:
        header["intent_code"] = _INTENT_LABEL
        text = label_table.encode("utf-8")
        size = -(-(8 + len(text)) // 16) * 16
        extension = b"\1\0\0\0" + np.array([size, _ECODE_CARET], "<i4").tobytes()
        extension += text.ljust(size - 8, b"\0")
    header["vox_offset"] = len(header.binaryblock) + len(extension)
    block = header.binaryblock + extension
    with atomic_write(path, overwrite=overwrite) as file:
        if path.name.lower().endswith(".gz"):
            # isal's level 1 compresses label maps about as well as zlib, thirteen times faster.
            with igzip.IGzipFile(
                filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0
            ) as gz:
                _write_all(gz, block, voxels)
        else:
            _write_all(file, block, voxels)


def _write_all(file: Any, block: bytes, voxels: Labels | Hu) -> None:
    file.write(block)
    for plane in voxels.T:  # [k, j, i]: k is the slowest on disk
        file.write(np.ascontiguousarray(plane).data)


def _header_for(
    voxels: Labels | Hu, affine: Affine, source_header: bytes | None, description: str
) -> Any:
    """A header for these voxels on the source's grid, or on the affine's."""
    if source_header is None:
        from nibabel.nifti1 import Nifti1Header

        header = Nifti1Header()
        header.set_sform(affine.matrix, code=_SCANNER_ANAT)
        if affine.shear_deg < 0.01:
            header.set_qform(affine.matrix, code=_SCANNER_ANAT)
        header.set_xyzt_units("mm")
        header["pixdim"][1:4] = affine.spacing_mm
    else:
        header = load_header(source_header)
    code = {"uint8": 2, "int16": 4, "float32": 16}[voxels.dtype.name]
    header["datatype"], header["bitpix"] = code, voxels.dtype.itemsize * 8
    header["dim"] = [3, *voxels.shape, 1, 1, 1, 1]
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_max"] = header["cal_min"] = header["intent_code"] = 0
    header["magic"] = b"n+1" if len(header.binaryblock) == 348 else b"n+2\0\r\n\x1a\n"
    own = ("db_name", "data_type") if len(header.binaryblock) == 348 else ("unused_str",)
    for text in ("intent_name", "aux_file", *own):
        header[text] = b""
    header["descrip"] = description.encode("ascii", "replace")[:79]
    return header


def _read_header(reader: ByteReader, *, strict: bool) -> NiftiHeader:
    head = reader.read(4)
    size = header_bytes(head)
    if not size:
        raise InputError(
            "a CT as NIfTI (.nii, .nii.gz), NRRD or MetaImage",
            found="content that is none of these (not gzip/NIfTI)",
            remedy="convert it to NIfTI, for example with dcm2niix",
            where=reader.path,
        )
    block = head + reader.read(size - 4)
    if len(block) < size:
        raise InputError(
            f"a NIfTI header of {size} bytes",
            found=f"{len(block)} bytes",
            remedy="the file is cut off: copy or export it again",
            where=reader.path,
        )
    return check_header(block, reader.path, strict=strict)


def _read_stored(
    reader: ByteReader,
    header: NiftiHeader,
    index: int | None,
    limit_mb: float,
    findings: list[Finding],
) -> NDArray[np.generic]:
    if index is None and header.volumes > 1:
        raise InputError(
            "one volume",
            found=f"a series of {header.volumes}",
            remedy=f"choose one with --volume 0 ... {header.volumes - 1}",
            where=reader.path,
        )
    if index is not None and not 0 <= index < header.volumes:
        raise InputError(
            f"a volume number from 0 to {header.volumes - 1}",
            found=f"--volume {index}",
            remedy="choose one of these",
            where=reader.path,
        )
    check_size(reader, header.shape, header.dtype, limit_mb)
    one_volume = int(np.prod(header.shape, dtype=np.int64)) * header.dtype.itemsize
    stored, more = read_voxels(reader, header.shape, header.dtype, skip=one_volume * (index or 0))
    if header.volumes == 1:
        findings += more
    return stored


def nifti_header_path(path: Path) -> Path:
    """The .hdr of a pair of which the .img was given; any other path as it is."""
    for image, header in ((".img.gz", ".hdr.gz"), (".img", ".hdr")):
        if path.name.lower().endswith(image):
            beside = path.with_name(path.name[: -len(image)] + header)
            return beside if beside.exists() else path
    return path


def _image_of_pair(header: Path) -> Path:
    stem = header.name.removesuffix(".gz").removesuffix(".hdr")
    near = (header.with_name(stem + suffix) for suffix in (".img", ".img.gz"))
    return next((p for p in near if p.exists()), header.with_name(stem + ".img"))
