"""Read a block of voxels, bounded by what the header declares and by the memory allowed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.errors import InputError, ResourceError, option
from viscera.findings import Finding
from viscera.io.byte_reader import ByteReader

# No CT compresses by more than this; what does and is large is an attack or an empty volume.
_BOMB_RATIO, _BOMB_MB = 200, 256
_MOST_ALONG_AXIS = 1 << 20


@dataclass(frozen=True)
class ReadLimits:
    """What the voxels of one file may take.

    Attributes:
        limit_mb: most memory.
        labels: label maps are expected: they stay in their type, and may be all but empty, so that
            a small file may hold a large one.
        resident: all voxels will lie in memory at once, not pass by in slabs.
    """

    limit_mb: float
    labels: bool = False
    resident: bool = True

    def check(
        self, reader: ByteReader, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> None:
        """Refuse a declared size before a voxel is inflated.

        Args:
            reader: the open file.
            shape: [i, j, k] declared by the header.
            dtype: of a stored voxel.

        Raises:
            ResourceError: reading needs more memory than there is, or the declared size is out
                of all proportion to the file.
        """
        if max(shape) > _MOST_ALONG_AXIS:
            raise ResourceError(
                f"at most {_MOST_ALONG_AXIS} voxels along an axis",
                found="more",
                remedy="make sure that this is a CT and not a damaged or hostile file",
                where=reader.path,
            )
        if self.resident:
            self.check_resident(shape, dtype, where=reader.path)
        declared_mb = math.prod(shape) * dtype.itemsize / 1e6
        bomb = declared_mb > _BOMB_MB and declared_mb * 1e6 / reader.size > _BOMB_RATIO
        if bomb and not self.labels:
            raise ResourceError(
                f"a file that inflates by at most {_BOMB_RATIO} times",
                found=f"{declared_mb:.0f} MB declared in a file of {reader.size / 1e6:.2f} MB",
                remedy="make sure that this is a CT and not a damaged or hostile file",
                where=reader.path,
            )

    def check_resident(
        self, shape: tuple[int, ...], dtype: np.dtype[np.generic], *, where: object
    ) -> None:
        """Refuse voxels that would take too much memory.

        Args:
            shape: [i, j, k].
            dtype: of a voxel in memory.
            where: file or case, for the message.

        Raises:
            ResourceError: more than there is.
        """
        # The stored voxels, and HU beside them where their type must change.
        converted = not self.labels and dtype != np.int16
        need_mb = math.prod(shape) * (dtype.itemsize + (4 if converted else 0)) / 1e6
        if need_mb > self.limit_mb:
            raise ResourceError(
                f"at most {self.limit_mb:.0f} MB of voxels",
                found=f"{need_mb:.0f} MB for {' x '.join(map(str, shape))} of {dtype.name}",
                remedy=f"raise {option('memory_limit_mb')}, or crop or resample the volume",
                where=where,
            )


class RawSlab(NamedTuple):
    """A run of planes as they are stored, and what reading them noticed.

    Attributes:
        values: [..., n] in the stored type, Fortran order.
        findings: on what follows the voxels; of the last slab only.
    """

    values: NDArray[np.generic]
    findings: tuple[Finding, ...] = ()


def read_voxels(reader: ByteReader, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> RawSlab:
    """All voxels from here on.

    Args:
        reader: stands at the first voxel.
        shape: voxels along each axis, the first one fastest.
        dtype: type on disk, with its byte order.

    Raises:
        InputError: fewer bytes than declared.
    """
    (slab,) = iterate_voxels(reader, shape, dtype, planes=shape[-1])
    return slab


def iterate_voxels(
    reader: ByteReader,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    *,
    skip_bytes: int = 0,
    planes: int,
) -> Iterator[RawSlab]:
    """The voxels from here on, this many planes along the last axis at a time.

    Args:
        reader: stands at the first voxel, or before the volumes to skip.
        shape: voxels along each axis, the first one fastest.
        dtype: type on disk, with its byte order.
        skip_bytes: of the volumes before the one that is read.
        planes: in each slab; the last slab may have fewer.

    Raises:
        InputError: fewer bytes than declared.
    """
    while skip_bytes > 0:
        step = len(reader.read(min(skip_bytes, 1 << 20)))
        skip_bytes = skip_bytes - step if step else 0
    plane_bytes = math.prod(shape[:-1]) * dtype.itemsize
    for start in range(0, shape[-1], planes):
        count = min(planes, shape[-1] - start)
        raw = np.empty(count * plane_bytes, dtype=np.uint8)
        read_bytes = reader.readinto(memoryview(raw.data))
        if read_bytes < len(raw):
            raise InputError(
                f"{shape[-1] * plane_bytes} bytes of voxels",
                found=f"{start * plane_bytes + read_bytes}",
                remedy="the file is cut off: copy or export it again",
                where=reader.path,
            )
        findings = _trailing_findings(reader) if start + count == shape[-1] else ()
        yield RawSlab(raw.view(dtype).reshape((*shape[:-1], count), order="F"), findings)


def _trailing_findings(reader: ByteReader) -> tuple[Finding, ...]:
    """What follows the voxels; reading to the end also verifies the gzip checksum."""
    surplus = reader.finish() + reader.trailing
    if not surplus:
        return ()
    message = f"{surplus} bytes or more behind the voxels were ignored"
    return (Finding("warning", "trailing-bytes", message, "check where the file comes from"),)
