"""Any file to a Volume of Hounsfield units or a LabelMap, by content."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from viscera.core.affine import Affine
from viscera.core.hu import to_hu
from viscera.core.label_map import LabelMap
from viscera.core.volume import Volume
from viscera.dicom.read.files import looks_like_dicom
from viscera.errors import InputError, option
from viscera.io.byte_reader import ByteReader
from viscera.io.metaimage import read_metaimage
from viscera.io.nifti.fields import load_header
from viscera.io.nifti.header import NiftiHeader, header_bytes
from viscera.io.nifti.read import (
    nifti_header_path,
    open_nifti,
    read_nifti,
    read_nifti_header,
)
from viscera.io.nrrd import read_nrrd
from viscera.io.raw_volume import RawVolume
from viscera.io.raw_voxels import ReadLimits
from viscera.runtime.resources import available_mb

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".hdr.gz", ".img", ".img.gz", ".nrrd", ".mha")
_HEAD_BYTES = 1 << 15  # in which a text header says what it is
_DICOM_SUFFIXES = (".dcm", ".zip")


def case_name(path: Path) -> str:
    """The case a file belongs to: its name without suffixes and nnU-Net's channel number."""
    name = path.name
    for suffix in (".seg.nrrd", *SUFFIXES, *_DICOM_SUFFIXES):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return name.removesuffix("_0000") or path.name or path.resolve().name


def path_exists(path: Path) -> bool:
    """Whether there is something of this name; not where no file system holds such a name."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def read_grid(path: Path) -> tuple[tuple[int, int, int], Affine]:
    """Shape [i, j, k] and affine of a file, from its header alone where it is NIfTI.

    Raises:
        InputError: not a readable CT volume.
    """
    if looks_like_dicom(path):
        grid: NiftiHeader | Volume = open_volume(path)
    else:
        grid = read_nifti_header(path) if _is_nifti(path) else read_volume(path)
    return grid.shape, grid.affine


def label_map_size(path: Path) -> tuple[int, int]:
    """Voxels of a label map, and bytes that `read_labels` takes for each, from its header.

    Other formats than NIfTI do not tell without being read: 0 voxels.

    Raises:
        InputError: unreadable.
    """
    if not _is_nifti(path):
        return 0, 8
    header = read_nifti_header(path)
    scaled = (header.slope, header.inter) != (1.0, 0.0)
    return math.prod(header.shape), 8 if scaled else header.dtype.itemsize


def _is_nifti(path: Path) -> bool:
    with ByteReader(nifti_header_path(path)) as reader:
        return header_bytes(reader.read(4)) > 0


def read_volume(
    path: str | Path,
    *,
    volume_index: int | None = None,
    memory_limit_mb: float | None = None,
    strict: bool = False,
) -> Volume:
    """Read one CT: NIfTI-1 or -2 (.nii, .nii.gz, .hdr + .img), NRRD, MetaImage (.mha) or DICOM.

    Args:
        path: the file; or a folder or zip archive with DICOM.
        volume_index: which volume of a 4-D NIfTI, counted from 0.
        memory_limit_mb: most memory its voxels may take; what is free where not given.
        strict: refuse where the orientation would have to be assumed.

    Returns:
        The volume in HU on its stored grid, with what reading noticed as findings.

    Raises:
        InputError: not a readable CT volume.
        ResourceError: the declared size exceeds the limit.
    """
    path = Path(path)
    limits = ReadLimits(_limit_mb(memory_limit_mb))
    if looks_like_dicom(path):
        volume = open_volume(
            path, volume_index=volume_index, memory_limit_mb=memory_limit_mb, strict=strict
        )
        limits.check_resident(volume.shape, volume.voxels.dtype, where=path)
        return volume.read()
    raw = _read_raw(path, limits, volume_index=volume_index, strict=strict)
    data, findings = to_hu(raw.values, slope=raw.slope, inter=raw.inter, where=path)
    return Volume(data, raw.affine, case_name(path), raw.nifti_header, (*raw.findings, *findings))


def open_volume(
    path: str | Path,
    *,
    volume_index: int | None = None,
    memory_limit_mb: float | None = None,
    strict: bool = False,
    series: str | None = None,
    allow_bad_slices: bool = False,
    threads: int | None = None,
) -> Volume:
    """As `read_volume`, but voxels of DICOM, and whole numbers in a NIfTI, stay in their files.

    Damaged voxels are then noticed when they are read.

    Args:
        path: a file; or a folder or zip archive with DICOM.
        volume_index: see `read_volume`.
        memory_limit_mb: see `read_volume`.
        strict: see `read_volume`.
        series: DICOM only: Series Instance UID of the one to take; the likeliest if not given.
        allow_bad_slices: DICOM only: slices that cannot be read are filled from their neighbours.
        threads: DICOM only: most that may decode at a time; all there are where not given.

    Raises:
        InputError: not a readable CT volume.
        MissingExtraError: DICOM, and pydicom is not installed.
        NothingToSegmentError: DICOM without a CT series.
        ResourceError: the declared size exceeds the limit.
    """
    path = Path(path)
    if looks_like_dicom(path):
        if volume_index is not None:
            raise _no_volumes("DICOM", path)
        from viscera.dicom.read.open_series import open_series  # slow to import

        return open_series(
            path,
            series=series,
            strict=strict,
            allow_bad_slices=allow_bad_slices,
            name=case_name(path),
            threads=threads,
        )
    if series is not None or allow_bad_slices:
        raise InputError(
            f"DICOM for {option('series')} and {option('allow_bad_slices')}",
            found="another kind of file",
            remedy="leave them out",
            where=path,
        )
    if _format_reader(path) is None:
        limits = ReadLimits(_limit_mb(memory_limit_mb), resident=False)
        volume = open_nifti(path, limits=limits, volume_index=volume_index, strict=strict)
        if volume is not None:
            return replace(volume, name=case_name(path))
    return read_volume(
        path, volume_index=volume_index, memory_limit_mb=memory_limit_mb, strict=strict
    )


def read_labels(path: str | Path, *, memory_limit_mb: float | None = None) -> LabelMap:
    """Read a label map of any label scheme, from any file that `read_volume` reads.

    Args:
        path: the file.
        memory_limit_mb: most memory its voxels may take; what is free where not given.

    Returns:
        The values as they are stored, scaled where the header says so, on their grid.

    Raises:
        InputError: not a readable volume.
        ResourceError: the declared size exceeds the limit.
    """
    path = Path(path)
    raw = _read_raw(path, ReadLimits(_limit_mb(memory_limit_mb), labels=True))
    values = raw.values
    if (raw.slope, raw.inter) != (1.0, 0.0):
        values = values.astype(np.float64) * raw.slope + raw.inter
    header_spacing_mm = raw.affine.spacing_mm
    if raw.nifti_header is not None:
        pixdim = load_header(raw.nifti_header)["pixdim"]
        x, y, z = pixdim[1:4].astype(np.float64).tolist()
        header_spacing_mm = x, y, z
    return LabelMap(
        values, raw.affine, case_name(path), header_spacing_mm, raw.findings, raw.label_names
    )


def _limit_mb(memory_limit_mb: float | None) -> float:
    return available_mb() if memory_limit_mb is None else memory_limit_mb


def _read_raw(
    path: Path, limits: ReadLimits, *, volume_index: int | None = None, strict: bool = False
) -> RawVolume:
    read = _format_reader(path)
    if read is None:
        return read_nifti(path, limits=limits, volume_index=volume_index, strict=strict)
    if volume_index is not None:
        raise _no_volumes("a 3-D file", path)
    return read(path, limits=limits)


def _no_volumes(kind: str, path: Path) -> InputError:
    volume = option("volume_index")
    return InputError(
        f"a 4-D NIfTI for {volume}", found=kind, remedy=f"leave {volume} out", where=path
    )


def _format_reader(path: Path) -> Callable[..., RawVolume] | None:
    """The reader for a file by its first bytes; None for NIfTI, and for what is none of these."""
    with ByteReader(path) as reader:
        head = reader.read(_HEAD_BYTES)
    if header_bytes(head):
        return None
    if head.startswith(b"NRRD"):
        return read_nrrd
    # A comment of any length may come first.
    if b"=" in head and (b"ObjectType" in head or b"NDims" in head):
        return read_metaimage
    return None
