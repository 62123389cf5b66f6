"""NIfTI out: labels and volumes on a source's own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip

from viscera.core.affine import Affine
from viscera.core.volume import Hu, Labels
from viscera.errors import OutputError
from viscera.io.nifti.fields import NIFTI_1_BYTES, HeaderFields, load_header, new_header
from viscera.io.nifti.header import INTENT_LABEL
from viscera.runtime.atomic_files import atomic_write

# NIfTI extension code of Caret's XML, where viewers look for label names (nifti1_io.h).
_ECODE_CARET = 30
_LEAST_SHEAR_DEG = 0.01


def check_nifti_name(path: Path) -> None:
    """Check that the name says NIfTI.

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
    only_label: int | None = None,
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
        only_label: write 1 where the voxels have this label, 0 elsewhere.
        overwrite: replace an existing file.

    Raises:
        OutputError: another suffix, not writable, or the file exists.
    """
    check_nifti_name(path)
    header = _header_for(voxels, affine, source_header, description)
    extension = b"\0\0\0\0"
    if label_table:
        header["intent_code"] = INTENT_LABEL
        text = label_table.encode("utf-8")
        size = -(-(8 + len(text)) // 16) * 16
        extension = b"\1\0\0\0" + np.array([size, _ECODE_CARET], "<i4").tobytes()
        extension += text.ljust(size - 8, b"\0")
    header["vox_offset"] = header.nbytes + len(extension)
    block = header.tobytes() + extension
    with atomic_write(path, overwrite=overwrite) as file:
        if path.name.lower().endswith(".gz"):
            # isal's level 1 compresses label maps about as well as zlib, thirteen times faster.
            with igzip.IGzipFile(
                filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0
            ) as gz:
                _write_all(gz, block, voxels, only_label)
        else:
            _write_all(file, block, voxels, only_label)


def _write_all(file: Any, block: bytes, voxels: Labels | Hu, only_label: int | None) -> None:
    file.write(block)
    for plane in voxels.T:  # [k, j, i]: k is the slowest on disk
        chosen = plane if only_label is None else (plane == only_label).view(np.uint8)
        file.write(np.ascontiguousarray(chosen).data)


def _header_for(
    voxels: Labels | Hu, affine: Affine, source_header: bytes | None, description: str
) -> HeaderFields:
    """A header for these voxels on the source's grid, or on the affine's."""
    if source_header is None:
        header = new_header(affine.matrix, has_right_angles=affine.shear_deg < _LEAST_SHEAR_DEG)
    else:
        header = load_header(source_header)
    code = {"uint8": 2, "int16": 4, "float32": 16}[voxels.dtype.name]
    header["datatype"], header["bitpix"] = code, voxels.dtype.itemsize * 8
    header["dim"] = [3, *voxels.shape, 1, 1, 1, 1]
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_max"] = header["cal_min"] = header["intent_code"] = 0
    header["magic"] = b"n+1" if header.nbytes == NIFTI_1_BYTES else b"n+2\0\r\n\x1a\n"
    version_texts = ("db_name", "data_type") if header.nbytes == NIFTI_1_BYTES else ("unused_str",)
    for text in ("intent_name", "aux_file", *version_texts):
        header[text] = b""
    header["descrip"] = description.encode("ascii", "replace")[:79]
    return header
