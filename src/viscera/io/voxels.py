"""Read a block of voxels, bounded by what the header declares and by the memory allowed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from viscera.errors import InputError, ResourceError
from viscera.findings import Finding
from viscera.io.gz import ByteReader

# No CT compresses by more than this; what does and is large is an attack or an empty volume.
_BOMB_RATIO, _BOMB_MB = 200, 256
_MOST_ALONG_AXIS = 1 << 20


@dataclass(frozen=True)
class Room:
    """What the voxels of one file may take.

    Attributes:
        limit_mb: most memory.
        labels: label maps are expected: they stay in their type, and may be all but empty, so that
            a small file may hold a large one.
        held: they will lie in memory all at once, not pass by in pieces.
    """

    limit_mb: float
    labels: bool = False
    held: bool = True

    def check(
        self, reader: ByteReader, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> None:
        """Judge the declared size before a voxel is inflated.

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
        if self.held:
            self.check_held(shape, dtype, where=reader.path)
        declared_mb = math.prod(shape) * dtype.itemsize / 1e6
        bomb = declared_mb > _BOMB_MB and declared_mb * 1e6 / reader.size > _BOMB_RATIO
        if bomb and not self.labels:
            raise ResourceError(
                f"a file that inflates by at most {_BOMB_RATIO} times",
                found=f"{declared_mb:.0f} MB declared in a file of {reader.size / 1e6:.2f} MB",
                remedy="make sure that this is a CT and not a damaged or hostile file",
                where=reader.path,
            )

    def check_held(
        self, shape: tuple[int, ...], dtype: np.dtype[np.generic], *, where: object
    ) -> None:
        """Judge what voxels take once they lie in memory.

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
                remedy="raise --memory-limit, or crop or resample the volume",
                where=where,
            )


def read_voxels(
    reader: ByteReader, shape: tuple[int, ...], dtype: np.dtype[np.generic], *, skip: int = 0
) -> tuple[NDArray[np.generic], list[Finding]]:
    """The voxels from here on, in Fortran order, and findings on what follows them.

    Args:
        reader: stands at the first voxel, or before the volumes to skip.
        shape: voxels along each axis, the first one fastest.
        dtype: type on disk, with its byte order.
        skip: bytes to pass over first, as `--volume N` does.

    Raises:
        InputError: fewer bytes than declared.
    """
    findings: list[Finding] = []
    walk = walk_voxels(reader, shape, dtype, findings, skip=skip, planes=shape[-1])
    (values,) = walk
    return values, findings


def walk_voxels(
    reader: ByteReader,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    findings: list[Finding],
    *,
    skip: int = 0,
    planes: int,
) -> Iterator[NDArray[np.generic]]:
    """As `read_voxels`, so many planes along the last axis at a time, each piece an array anew.

    Raises:
        InputError: fewer bytes than declared.
    """
    while skip > 0:
        step = len(reader.read(min(skip, 1 << 20)))
        skip = skip - step if step else 0
    plane_bytes = math.prod(shape[:-1]) * dtype.itemsize
    for start in range(0, shape[-1], planes):
        count = min(planes, shape[-1] - start)
        raw = np.empty(count * plane_bytes, dtype=np.uint8)
        got = reader.readinto(memoryview(raw.data))
        if got < len(raw):
            raise InputError(
                f"{shape[-1] * plane_bytes} bytes of voxels",
                found=f"{start * plane_bytes + got}",
                remedy="the file is cut off: copy or export it again",
                where=reader.path,
            )
        if start + count == shape[-1]:
            findings += _after(reader)
        yield raw.view(dtype).reshape((*shape[:-1], count), order="F")


def _after(reader: ByteReader) -> list[Finding]:
    """What stands behind the voxels; reading on also verifies the gzip checksum."""
    left_over = reader.finish()
    if not left_over and not reader.trailing:
        return []
    message = f"{left_over + reader.trailing} bytes or more behind the voxels were ignored"
    return [Finding("warning", "trailing-bytes", message, "check where the file comes from")]
