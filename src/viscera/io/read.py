"""Any file to a Volume of Hounsfield units or a LabelMap, by content."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from viscera.affine import Affine
from viscera.dicom import looks_like_dicom, open_series
from viscera.dicom.files import items_of
from viscera.errors import InputError
from viscera.hu import to_hu
from viscera.io.gz import ByteReader
from viscera.io.metaimage import read_metaimage
from viscera.io.nifti import (
    PAIR_HEADERS,
    nifti_header_path,
    nifti_image_path,
    open_nifti,
    read_nifti,
    read_nifti_header,
)
from viscera.io.nifti_header import NiftiHeader, header_bytes, load_header
from viscera.io.nrrd import read_nrrd
from viscera.io.stored import Stored
from viscera.io.voxels import Room
from viscera.labelmap import LabelMap
from viscera.resources import available_mb
from viscera.volume import Volume

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".hdr.gz", ".img", ".img.gz", ".nrrd", ".mha")
_OF_DICOM = (".dcm", ".zip")


def case_name(path: Path) -> str:
    """The case a file belongs to: its name without suffixes and nnU-Net's channel number."""
    name = path.name
    for suffix in (".seg.nrrd", *SUFFIXES, *_OF_DICOM):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return name.removesuffix("_0000") or path.name or path.resolve().name


def stands(path: Path) -> bool:
    """Whether there is something of this name; not where no file system holds such a name."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def fingerprint(path: Path) -> str:
    """A checksum of the bytes that make a volume, both files of a pair; empty if unreadable.

    A folder's files count by their names, sizes and times.
    """
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for item in items_of(path):
                digest.update(repr((str(item.path.relative_to(path)), item.stamp)).encode())
            return digest.hexdigest()
        header = nifti_header_path(path)
        pair = [nifti_image_path(header)] if header.name.lower().endswith(PAIR_HEADERS) else []
        for part in (header, *pair):
            if not part.is_file():  # a FIFO would block
                return ""
            with part.open("rb") as file:
                for block in iter(lambda: file.read(1 << 22), b""):
                    digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def read_grid(path: Path) -> tuple[tuple[int, int, int], Affine]:
    """Shape [i, j, k] and affine of a file, from its header alone where it is NIfTI.

    Raises:
        InputError: not a readable CT volume.
    """
    if looks_like_dicom(path):
        described: NiftiHeader | Volume = open_volume(path)
    else:
        described = read_nifti_header(path) if _is_nifti(path) else read_volume(path)
    return described.shape, described.affine


def stored_size(path: Path) -> tuple[int, int]:
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
    index: int | None = None,
    limit_mb: float | None = None,
    strict: bool = False,
) -> Volume:
    """Read one CT: NIfTI-1 or -2 (.nii, .nii.gz, .hdr + .img), NRRD, MetaImage (.mha) or DICOM.

    Args:
        path: the file.
        index: which volume of a 4-D NIfTI, counted from 0.
        limit_mb: most memory its voxels may take; what the machine has free where not given.
        strict: refuse where the orientation would have to be assumed.

    Returns:
        The volume in HU on its stored grid, with what reading noticed as findings.

    Raises:
        InputError: not a readable CT volume.
        ResourceError: the declared size exceeds the limit.
    """
    path = Path(path)
    room = Room(available_mb() if limit_mb is None else limit_mb)
    if looks_like_dicom(path):
        opened = open_volume(path, index=index, limit_mb=limit_mb, strict=strict)
        room.check_held(opened.shape, opened.voxels.dtype, where=path)
        return opened.read()
    stored = _read(path, room, index=index, strict=strict)
    data, more = to_hu(stored.values, slope=stored.slope, inter=stored.inter, where=path)
    findings = (*stored.findings, *more)
    return Volume(data, stored.affine, case_name(path), stored.nifti_header, findings)


def open_volume(
    path: str | Path,
    *,
    index: int | None = None,
    limit_mb: float | None = None,
    strict: bool = False,
    series: str | None = None,
    allow_bad_slices: bool = False,
    threads: int | None = None,
) -> Volume:
    """As `read_volume`, but voxels of DICOM, and whole numbers in a NIfTI, stay in their files.

    Damaged voxels are then found by whoever walks over them.

    Args:
        path: a file; or a folder or zip archive with DICOM.
        index: see `read_volume`.
        limit_mb: see `read_volume`.
        strict: see `read_volume`.
        series: DICOM only: Series Instance UID of the one to take; the likeliest if not given.
        allow_bad_slices: DICOM only: slices that cannot be read are filled from their neighbours.
        threads: DICOM only: most that may decode at a time; all there are where not given.
    """
    path = Path(path)
    if looks_like_dicom(path):
        if index is not None:
            raise _no_volumes("DICOM", path)
        return open_series(
            path,
            series=series,
            strict=strict,
            allow_bad=allow_bad_slices,
            name=case_name(path),
            threads=threads,
        )
    if series is not None or allow_bad_slices:
        raise InputError(
            "DICOM for --series and --allow-bad-slices",
            found="another kind of file",
            remedy="leave them out",
            where=path,
        )
    with ByteReader(path) as reader:
        head = reader.read(256)
    if not _reader_of_other(head):
        room = Room(available_mb() if limit_mb is None else limit_mb, held=False)
        if volume := open_nifti(path, room=room, index=index, strict=strict):
            return replace(volume, name=case_name(path))
    return read_volume(path, index=index, limit_mb=limit_mb, strict=strict)


def read_labels(path: str | Path, *, limit_mb: float | None = None) -> LabelMap:
    """Read a label map of any convention, from any file that `read_volume` reads.

    Args:
        path: the file.
        limit_mb: most memory its voxels may take; what the machine has free where not given.

    Returns:
        The values as they are stored, scaled where the header says so, on their grid.

    Raises:
        InputError: not a readable volume.
        ResourceError: the declared size exceeds the limit.
    """
    path = Path(path)
    stored = _read(path, Room(available_mb() if limit_mb is None else limit_mb, labels=True))
    values = stored.values
    if (stored.slope, stored.inter) != (1.0, 0.0):
        values = values.astype(np.float64) * stored.slope + stored.inter
    zooms = stored.affine.spacing_mm
    if stored.nifti_header is not None:
        x, y, z = load_header(stored.nifti_header)["pixdim"][1:4].astype(np.float64).tolist()
        zooms = x, y, z
    return LabelMap(values, stored.affine, case_name(path), zooms, stored.findings)


def _read(path: Path, room: Room, *, index: int | None = None, strict: bool = False) -> Stored:
    with ByteReader(path) as reader:
        head = reader.read(256)
    reading = _reader_of_other(head)
    if reading is None:
        return read_nifti(path, room=room, index=index, strict=strict)
    if index is not None:
        raise _no_volumes("a 3-D file", path)
    return reading(path, room=room)


def _no_volumes(found: str, path: Path) -> InputError:
    return InputError(
        "a 4-D NIfTI for --volume", found=found, remedy="leave --volume out", where=path
    )


def _reader_of_other(head: bytes) -> Callable[..., Stored] | None:
    """The reader of a file that begins so, None for NIfTI."""
    if head.startswith(b"NRRD"):
        return read_nrrd
    if b"=" in head and (b"ObjectType" in head or b"NDims" in head):
        return read_metaimage
    return None
