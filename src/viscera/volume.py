"""Volume: a CT's intensities on their grid; blank and reduced label maps beside it."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from viscera.affine import Affine
from viscera.errors import InputError
from viscera.findings import Finding
from viscera.hu import to_hu

Hu = NDArray[np.int16] | NDArray[np.float32]
Labels = NDArray[np.uint8]

SLAB_PLANES = 8  # of a volume that is walked over: 4 MB of a usual CT


def blank_labels(shape: tuple[int, ...]) -> Labels:
    """Labels [i, j, k] of nothing, first axis fastest; they take memory only where written.

    numpy would ask for pages of 2 MB, so that whoever writes a row of each slice takes all of it.
    """
    pages = _anonymous(math.prod(shape))
    return np.ndarray(shape, dtype=np.uint8, buffer=pages, order="F")


def _anonymous(size: int) -> mmap.mmap:
    """Zeros of this many bytes, in the system's smallest pages where one can ask for them."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, size)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # Linux
        with contextlib.suppress(OSError):  # a kernel without huge pages knows no such advice
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return pages


def keep_labels(labels: Labels, wanted: Collection[int]) -> Labels:
    """A copy of a label map [i, j, k] with all other labels turned to background."""
    table = np.zeros(256, dtype=np.uint8)
    table[list(wanted)] = list(wanted)
    kept: Labels = np.empty(labels.shape, dtype=np.uint8, order="F")
    for plane, own in zip(labels.T, kept.T, strict=True):
        np.take(table, plane, out=own)
    return kept


class StoredVoxels(Protocol):
    """Voxels that stay in their file and are read, in pieces, as often as they are wanted."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their type in the file."""
        ...

    def slabs(self, findings: list[Finding]) -> Iterator[Hu]:
        """Pieces [i, j, n] of HU one after another along k; notes what stands behind the voxels.

        Raises:
            InputError: the file is damaged.
        """
        ...

    def shifted(self, offset_hu: float) -> StoredVoxels:
        """The same with this added to every voxel."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """One CT series in Hounsfield units.

    Attributes:
        voxels: [i, j, k] int16, or float32 where the values are not whole; or where they are
            stored. Files give Fortran order, so that ``data.T`` is C-contiguous and its first
            axis the slowest on disk.
        affine: voxel indices to RAS millimetres.
        name: the case's name, from its file.
        nifti_header: header bytes of the NIfTI the volume came from, so that the labels can be
            written on the very same grid; None for other sources.
        findings: what reading noticed.
    """

    voxels: Hu | StoredVoxels
    affine: Affine
    name: str = "volume"
    nifti_header: bytes | None = None
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if len(self.voxels.shape) != 3 or 0 in self.voxels.shape:
            raise InputError(
                "a volume of three dimensions, each at least 1",
                found=f"shape {self.voxels.shape}",
                remedy="pass one CT series as [i, j, k]",
                where=self.name,
            )

    def __repr__(self) -> str:
        spacing = " x ".join(f"{s:.3g}" for s in self.affine.spacing_mm)
        return f"<Volume {self.name!r} {self.shape} {spacing} mm {self.affine.axcodes}>"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        i, j, k = self.voxels.shape
        return i, j, k

    @property
    def held_mb(self) -> float:
        """MB of voxels that lie in memory; 0 while they are only opened."""
        held = self.__dict__.get("data", self.voxels)
        return held.nbytes / 1e6 if isinstance(held, np.ndarray) else 0.0

    @cached_property
    def data(self) -> Hu:
        """All voxels, [i, j, k]; of a volume that was only opened they are read now, and kept.

        Raises:
            InputError: the file is damaged.
        """
        return self.voxels if isinstance(self.voxels, np.ndarray) else self._assembled([])

    def read(self) -> Volume:
        """The same with its voxels in memory, and with what was noticed on the way.

        Raises:
            InputError: the file is damaged.
        """
        findings: list[Finding] = []
        data = self._assembled(findings)
        volume = replace(self, findings=(*self.findings, *findings))
        volume.__dict__["data"] = data  # as `data` would keep it
        return volume

    def _assembled(self, findings: list[Finding]) -> Hu:
        data: Any = None
        start = 0
        for slab in self.slabs(findings):
            if data is None or np.result_type(data, slab) != data.dtype:
                before, data = data, np.empty(self.shape, dtype=slab.dtype, order="F")
                data[..., :start] = before[..., :start] if before is not None else 0
            data[..., start : start + slab.shape[2]] = slab
            start += slab.shape[2]
        return data  # type: ignore[no-any-return]

    def slabs(self, findings: list[Finding] | None = None) -> Iterator[Hu]:
        """Pieces [i, j, n] of the voxels, one after another along k, without holding them all.

        Args:
            findings: takes what the file's end tells, see `StoredVoxels`.

        Raises:
            InputError: the file is damaged.
        """
        held = self.__dict__.get("data", self.voxels)
        if isinstance(held, np.ndarray):
            yield from (
                held[..., k : k + SLAB_PLANES] for k in range(0, held.shape[2], SLAB_PLANES)
            )
        else:
            yield from self.voxels.slabs([] if findings is None else findings)  # type: ignore[union-attr]

    def shifted(self, offset_hu: float) -> Volume:
        """The same volume with this added to every voxel, for scans stored with an offset."""
        if not offset_hu:
            return self
        voxels: Hu | StoredVoxels
        if isinstance(self.voxels, np.ndarray):
            voxels, _ = to_hu(self.voxels, inter=offset_hu, where=self.name)
        else:
            voxels = self.voxels.shifted(offset_hu)
        message = f"{offset_hu:g} HU were added to every voxel, as asked"
        finding = Finding("info", "hu-offset", message)
        return replace(self, voxels=voxels, findings=(*self.findings, finding))

    def cropped(self, box: tuple[slice, slice, slice]) -> Volume:
        """The part in this box [i, j, k], its voxels shared, where it lies in the world."""
        corner = [part.indices(n)[0] for part, n in zip(box, self.shape, strict=True)]
        matrix = self.affine.matrix.copy()
        matrix[:3, 3] += matrix[:3, :3] @ corner
        return replace(self, voxels=self.data[box], affine=Affine(matrix), nifti_header=None)

    @classmethod
    def of(cls, source: Any, affine: Any = None, *, name: str = "volume") -> Volume:
        """A volume from an array and its affine, or from a nibabel image.

        Args:
            source: [i, j, k] array of Hounsfield units, or a nibabel image.
            affine: (4, 4) matrix to RAS millimetres; for arrays only.
            name: the case's name.

        Raises:
            InputError: an array without affine, or no volume of real numbers.
        """
        if isinstance(source, Volume):
            return source
        if affine is None:
            if not hasattr(source, "dataobj") or not hasattr(source, "affine"):
                raise InputError(
                    "a path, a nibabel image, a Volume, or an array with its affine",
                    found=type(source).__name__,
                    remedy="pass affine=(4x4 matrix to RAS millimetres) along with an array",
                )
            from viscera.io.nifti import volume_of_image  # io stands above this module

            return volume_of_image(source, name=name)
        data, findings = to_hu(np.asarray(source), where=name)
        matrix = affine if isinstance(affine, Affine) else Affine(affine)
        return cls(data, matrix, name, None, tuple(findings))
