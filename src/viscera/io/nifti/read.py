"""NIfTI-1 and NIfTI-2, files and images: volumes in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera.core.affine import Affine
from viscera.core.hu import broken_voxel_findings, convert_to_hu, to_hu
from viscera.core.volume import SLAB_PLANES, Slab, Volume
from viscera.errors import InputError, VisceraError, option
from viscera.findings import Finding
from viscera.io.byte_reader import ByteReader
from viscera.io.nifti.fields import load_header
from viscera.io.nifti.header import (
    INTENT_LABEL,
    NiftiHeader,
    check_extensions,
    check_header,
    header_bytes,
)
from viscera.io.raw_volume import RawVolume
from viscera.io.raw_voxels import RawSlab, ReadLimits, iterate_voxels
from viscera.runtime.prefetch import prefetch

_ARCHIVES = {
    b"PK\x03\x04": "a zip archive within gzip", b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive", b"\xfd7zXZ": "an xz file", b"BZh": "a bzip2 file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
}  # fmt: skip
_MOST_CHANNELS = 4
PAIR_HEADERS = (".hdr", ".hdr.gz")


def read_nifti(
    path: Path, *, limits: ReadLimits, volume_index: int | None = None, strict: bool = False
) -> RawVolume:
    """Read a volume from .nii, .nii.gz or an .hdr/.img pair, recognised by content, not by name.

    Args:
        path: the file; either one of a pair.
        limits: what the voxels may take.
        volume_index: which volume of a 4-D series, counted from 0.
        strict: refuse where orientation would have to be assumed.

    Raises:
        InputError: not a readable volume.
        ResourceError: the declared size exceeds the limit.
    """
    voxels, findings = _open_voxels(path, limits, volume_index, strict=strict)
    header = voxels.header
    (slab,) = voxels.raw_slabs(planes=header.shape[2])
    return RawVolume(
        slab.values,
        header.affine,
        header.slope,
        header.inter,
        header.block,
        (*findings, *slab.findings),
    )


def open_nifti(
    path: Path, *, limits: ReadLimits, volume_index: int | None = None, strict: bool = False
) -> Volume | None:
    """A volume whose voxels stay in the file; None for types that must be seen whole to be HU.

    Args:
        path: the file; either one of a pair.
        limits: what the voxels may take.
        volume_index: which volume of a 4-D series, counted from 0.
        strict: refuse where orientation would have to be assumed.

    Raises:
        InputError: not a readable volume; damaged voxels are noticed when they are read.
        ResourceError: the declared size exceeds the limit.
    """
    voxels, findings = _open_voxels(path, limits, volume_index, strict=strict)
    if voxels.dtype.kind not in "iu" or voxels.dtype.itemsize > 2:
        return None
    header = voxels.header
    return Volume(voxels, header.affine, path.name, header.block, findings)


@dataclass(frozen=True)
class NiftiVoxels:
    """The voxels of one volume of a NIfTI file, see `viscera.core.volume.LazyVoxels`.

    Attributes:
        path: the file that holds them.
        header: what describes them.
        volume_index: which volume of a series.
        offset_hu: added to what they mean.
    """

    path: Path
    header: NiftiHeader
    volume_index: int = 0
    offset_hu: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their type in the file."""
        return self.header.dtype

    def raw_slabs(self, *, planes: int) -> Iterator[RawSlab]:
        """Slabs [i, j, n] in their stored type.

        Args:
            planes: in each slab.

        Raises:
            InputError: the file is damaged or cut off.
        """
        header = self.header
        volume_bytes = math.prod(header.shape) * header.dtype.itemsize
        with ByteReader(self.path) as reader:
            reader.read(header.voxel_offset)
            slabs = iterate_voxels(
                reader,
                header.shape,
                header.dtype,
                skip_bytes=volume_bytes * self.volume_index,
                planes=planes,
            )
            for values, findings in slabs:
                # What follows one of several volumes are the others.
                yield RawSlab(values, findings if header.volumes == 1 else ())

    def slabs(self) -> Iterator[Slab]:
        """See `LazyVoxels.slabs`."""
        slope, inter = self.header.slope, self.header.inter + self.offset_hu
        # A thread of its own inflates the next slabs while the caller works on this one.
        read_planes = broken_voxels = 0
        for values, findings in prefetch(self.raw_slabs(planes=SLAB_PLANES), most=2):
            hu, broken = convert_to_hu(values, slope=slope, inter=inter)
            read_planes, broken_voxels = read_planes + hu.shape[2], broken_voxels + broken
            if read_planes == self.shape[2]:
                voxels = math.prod(self.shape)
                findings += tuple(broken_voxel_findings(broken_voxels, voxels, where=self.path))
            yield Slab(hu, findings)

    def shifted(self, offset_hu: float) -> NiftiVoxels:
        """See `LazyVoxels.shifted`."""
        return replace(self, offset_hu=self.offset_hu + offset_hu)


def _open_voxels(
    path: Path, limits: ReadLimits, volume_index: int | None, *, strict: bool
) -> tuple[NiftiVoxels, tuple[Finding, ...]]:
    """Where the voxels lie, once everything that can be checked without them has been."""
    path = nifti_header_path(path)
    with ByteReader(path) as reader:
        header = _read_header(reader, strict=strict)
        findings = header.findings
        if reader.is_gzip != path.name.lower().endswith(".gz"):
            message = f"the suffix {path.suffix} does not fit the content; the content was trusted"
            findings = (*findings, Finding("warning", "name-misleads", message))
        if not header.is_pair:
            extensions = reader.read(header.voxel_offset - len(header.block))
            findings = (*findings, *check_extensions(extensions))
    image_path = nifti_image_path(path) if header.is_pair else path
    with ByteReader(image_path) as reader:
        _check_volume_index(reader, header, volume_index, limits)
        limits.check(reader, header.shape, header.dtype)
    return NiftiVoxels(image_path, header, volume_index or 0), findings


def volume_from_nibabel(image: Any, *, name: str) -> Volume:
    """A volume from a nibabel image; a NIfTI's header is checked as a file's would be.

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
    header_findings = [f for f in header.findings if f.code != "no-scaling"]
    return Volume(data, header.affine, name, header.block, (*header_findings, *findings))


def read_description(path: Path) -> bytes:
    """What a NIfTI's header says of its making, without the zeros that fill it up.

    Raises:
        InputError: no NIfTI.
    """
    return bytes(load_header(read_nifti_header(path).block)["descrip"]).rstrip(b"\0")


def is_viscera_result(path: Path) -> bool:
    """Whether a file holds labels that viscera wrote; false where it cannot be read."""
    try:
        header = load_header(read_nifti_header(path).block)
    except VisceraError:
        return False
    is_label = int(header["intent_code"]) == INTENT_LABEL
    return is_label and bytes(header["descrip"]).startswith(b"viscera")


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read and check the header alone.

    Raises:
        InputError: no NIfTI.
    """
    with ByteReader(nifti_header_path(path)) as reader:
        return _read_header(reader, strict=False)


def _read_header(reader: ByteReader, *, strict: bool) -> NiftiHeader:
    head = reader.read(4)
    size = header_bytes(head)
    if not size:
        what, remedy = _other_content(head + reader.read(512), is_gzip=reader.is_gzip)
        raise InputError(
            "a CT as NIfTI (.nii, .nii.gz), NRRD, MetaImage or DICOM",
            found=what,
            remedy=remedy,
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


def _other_content(head: bytes, *, is_gzip: bool) -> tuple[str, str]:
    """What a file is that is no CT, and what to do about it."""
    unpack = "unpack it, and name the file or folder that was in it"
    if head[257:262] == b"ustar":
        return "a tar archive", unpack
    if head[128:132] == b"DICM" and is_gzip:
        return "a DICOM file compressed by gzip", unpack
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            return name, unpack
    if head.startswith((b"<?xml", b"{", b"<html", b"<!DOC")):
        return "a text file", "name the CT itself"
    return (
        "content that is none of these (not gzip/NIfTI)",
        "convert it to NIfTI, for example with dcm2niix",
    )


def _check_volume_index(
    reader: ByteReader, header: NiftiHeader, volume_index: int | None, limits: ReadLimits
) -> None:
    """One volume of a series must be chosen, and exist."""
    numbers = f"0 to {header.volumes - 1}"
    if header.shape[0] <= _MOST_CHANNELS < header.volumes:
        raise InputError(
            "an array [i, j, k]",
            found=f"{header.shape} of {header.volumes}, which looks like channels first",
            remedy="save it with the three axes of space first",
            where=reader.path,
        )
    if volume_index is None and header.volumes > 1:
        choose = f"choose one with {option('volume_index', 'N')}, N from {numbers}"
        raise InputError(
            "one volume",
            found=f"a series of {header.volumes}",
            remedy="extract one" if limits.labels else choose,
            where=reader.path,
        )
    if volume_index is not None and not 0 <= volume_index < header.volumes:
        raise InputError(
            f"a volume number from {numbers}",
            found=option("volume_index", volume_index),
            remedy="choose one of these",
            where=reader.path,
        )


def nifti_header_path(path: Path) -> Path:
    """The .hdr of a pair of which the .img was given; any other path as it is."""
    stem, ending = _split_pair_name(path, (".img.gz", ".img"))
    return (ending and _beside(path, stem, PAIR_HEADERS)) or path


def nifti_image_path(header: Path) -> Path:
    """The .img that belongs to an .hdr."""
    stem, _ = _split_pair_name(header, (".hdr.gz", ".hdr"))
    return _beside(header, stem, (".img", ".img.gz")) or header.with_name(stem + ".img")


def _split_pair_name(path: Path, endings: tuple[str, ...]) -> tuple[str, str]:
    """A name's stem and its ending, if it is one of these, in any capitals."""
    ending = next((e for e in endings if path.name.lower().endswith(e)), "")
    return path.name[: len(path.name) - len(ending)], ending


def _beside(path: Path, stem: str, endings: tuple[str, ...]) -> Path | None:
    """The file of this stem that has one of these endings, in any capitals."""
    for ending in endings:
        if (same := path.with_name(stem + ending)).exists():
            return same
    wanted = [(stem + ending).lower() for ending in endings]
    with suppress(OSError):
        near = [p for p in sorted(path.parent.iterdir()) if p.name.lower() in wanted]
        return min(near, key=lambda p: wanted.index(p.name.lower()), default=None)
    return None
