"""NIfTI-1 and NIfTI-2, files and images: volumes in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.errors import InputError
from viscera.findings import Finding
from viscera.hu import to_hu
from viscera.io.gz import ByteReader
from viscera.io.nifti_header import (
    NiftiHeader,
    check_extensions,
    check_header,
    header_bytes,
)
from viscera.io.stored import Stored
from viscera.io.voxels import Room, walk_voxels
from viscera.pipeline import ahead
from viscera.volume import SLAB_PLANES, Hu, Volume

PAIR_HEADERS = (".hdr", ".hdr.gz")


def read_nifti(path: Path, *, room: Room, index: int | None = None, strict: bool = False) -> Stored:
    """Read a volume from .nii, .nii.gz or an .hdr/.img pair, judged by content, not by name.

    Args:
        path: the file; either one of a pair.
        room: what the voxels may take.
        index: which volume of a 4-D series, counted from 0.
        strict: refuse where orientation would have to be assumed.

    Raises:
        InputError: not a readable volume.
        ResourceError: the declared size exceeds the limit.
    """
    voxels, header, findings = _open(path, room, index, strict=strict)
    behind: list[Finding] = []
    (values,) = voxels.pieces(behind, planes=header.shape[2])
    scaling = header.slope, header.inter
    return Stored(values, header.affine, *scaling, header.block, (*findings, *behind))


def open_nifti(
    path: Path, *, room: Room, index: int | None = None, strict: bool = False
) -> Volume | None:
    """A volume whose voxels stay in the file; None for types that must be seen whole to be HU.

    Args and errors are those of `read_nifti`; damaged voxels are found when they are read.
    """
    voxels, header, findings = _open(path, room, index, strict=strict)
    if header.dtype.kind not in "iu" or header.dtype.itemsize > 2:
        return None
    return Volume(voxels, header.affine, path.name, header.block, tuple(findings))


@dataclass(frozen=True)
class NiftiVoxels:
    """The voxels of one volume of a NIfTI file, see `viscera.volume.StoredVoxels`.

    Attributes:
        path: the file that holds them.
        header: what describes them.
        index: which volume of a series.
        offset_hu: added to what they mean.
    """

    path: Path
    header: NiftiHeader
    index: int = 0
    offset_hu: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their type in the file."""
        return self.header.dtype

    def pieces(self, findings: list[Finding], *, planes: int) -> Iterator[NDArray[np.generic]]:
        """Voxels [i, j, n] in their stored type; notes what stands behind the last."""
        header = self.header
        one_volume = math.prod(header.shape) * header.dtype.itemsize
        behind: list[Finding] = []
        with ByteReader(self.path) as reader:
            reader.read(header.voxel_offset)
            yield from walk_voxels(
                reader,
                header.shape,
                header.dtype,
                behind,
                skip=one_volume * self.index,
                planes=planes,
            )
        if header.volumes == 1:  # behind one of several stand the others
            findings += behind

    def slabs(self, findings: list[Finding]) -> Iterator[Hu]:
        """See `StoredVoxels.slabs`."""
        slope, inter = self.header.slope, self.header.inter + self.offset_hu
        # Inflated by a thread of its own: whoever walks over them works meanwhile.
        for piece in ahead(self.pieces(findings, planes=SLAB_PLANES), most=2):
            yield to_hu(piece, slope=slope, inter=inter, where=self.path)[0]

    def shifted(self, offset_hu: float) -> NiftiVoxels:
        """See `StoredVoxels.shifted`."""
        return replace(self, offset_hu=self.offset_hu + offset_hu)


def _open(
    path: Path, room: Room, index: int | None, *, strict: bool
) -> tuple[NiftiVoxels, NiftiHeader, list[Finding]]:
    """Where the voxels lie, once everything that can be judged without them has been."""
    path = nifti_header_path(path)
    with ByteReader(path) as reader:
        header = _read_header(reader, strict=strict)
        findings = list(header.findings)
        if reader.is_gzip != path.name.lower().endswith(".gz"):
            message = f"the name {path.suffix} does not fit the content, which was trusted"
            findings.append(Finding("warning", "name-misleads", message))
        if not header.is_pair:
            extensions = reader.read(header.voxel_offset - len(header.block))
            findings += check_extensions(extensions)
    holder = nifti_image_path(path) if header.is_pair else path
    with ByteReader(holder) as reader:
        _check_index(reader, header, index, room)
        room.check(reader, header.shape, header.dtype)
    return NiftiVoxels(holder, header, index or 0), header, findings


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


def _check_index(reader: ByteReader, header: NiftiHeader, index: int | None, room: Room) -> None:
    """One volume of a series must be chosen, and exist."""
    if index is None and header.volumes > 1:
        raise InputError(
            "one volume",
            found=f"a series of {header.volumes}",
            remedy="extract one"
            if room.labels
            else f"choose one with --volume 0 ... {header.volumes - 1}",
            where=reader.path,
        )
    if index is not None and not 0 <= index < header.volumes:
        raise InputError(
            f"a volume number from 0 to {header.volumes - 1}",
            found=f"--volume {index}",
            remedy="choose one of these",
            where=reader.path,
        )


def nifti_header_path(path: Path) -> Path:
    """The .hdr of a pair of which the .img was given; any other path as it is."""
    for image, header in ((".img.gz", ".hdr.gz"), (".img", ".hdr")):
        if path.name.lower().endswith(image):
            beside = path.with_name(path.name[: -len(image)] + header)
            return beside if beside.exists() else path
    return path


def nifti_image_path(header: Path) -> Path:
    """The .img that belongs to an .hdr."""
    stem = header.name.removesuffix(".gz").removesuffix(".hdr")
    near = (header.with_name(stem + suffix) for suffix in (".img", ".img.gz"))
    return next((p for p in near if p.exists()), header.with_name(stem + ".img"))
