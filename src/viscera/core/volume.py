"""Volume: the intensities of a CT on their grid; blank and reduced label maps beside it."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from viscera.core.affine import Affine
from viscera.core.hu import to_hu
from viscera.errors import InputError, UsageError, option
from viscera.findings import Finding

Hu = NDArray[np.int16] | NDArray[np.float32]
Labels = NDArray[np.uint8]

SLAB_PLANES = 8  # of a volume that is read in pieces: 4 MB of a usual CT


def blank_labels(shape: tuple[int, ...]) -> Labels:
    """Labels [i, j, k] of nothing, first axis fastest; they take memory only where written.

    numpy would ask for pages of 2 MB: one row written in each slice would take all of them.
    """
    pages = _anonymous_pages(math.prod(shape))
    return np.ndarray(shape, dtype=np.uint8, buffer=pages, order="F")


def _anonymous_pages(size: int) -> mmap.mmap:
    """Zeros of this many bytes, in the system's smallest pages where one can ask for them."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, size)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # Linux
        with contextlib.suppress(OSError):  # a kernel without huge pages refuses the advice
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return pages


def keep_labels(labels: Labels, ids: Collection[int]) -> Labels:
    """A copy of a label map with all other labels turned to background.

    Args:
        labels: [i, j, k] uint8.
        ids: labels to keep.

    Returns:
        [i, j, k] uint8, Fortran order.
    """
    table = np.zeros(256, dtype=np.uint8)
    table[list(ids)] = list(ids)
    result: Labels = np.empty(labels.shape, dtype=np.uint8, order="F")
    for source, target in zip(labels.T, result.T, strict=True):
        np.take(table, source, out=target)
    return result


class Slab(NamedTuple):
    """A run of planes of a volume, and what reading them noticed.

    Attributes:
        hu: [i, j, n] int16 or float32.
        findings: of these planes; the last slab also has those of the file's end.
    """

    hu: Hu
    findings: tuple[Finding, ...] = ()


class LazyVoxels(Protocol):
    """Voxels that stay in their file and are read in slabs, as often as they are needed."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their type in the file."""
        ...

    def slabs(self) -> Iterator[Slab]:
        """Slabs of HU one after another along k.

        Raises:
            InputError: the file is damaged.
        """
        ...

    def shifted(self, offset_hu: float) -> LazyVoxels:
        """The same with this added to every voxel."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """One CT series in Hounsfield units.

    Attributes:
        voxels: [i, j, k] int16, or float32 where the values are not whole; or lazy voxels that
            stay in their file. Files give Fortran order, so that ``data.T`` is C-contiguous and
            its first axis the slowest on disk.
        affine: voxel indices to RAS millimetres.
        name: the case's name, from its file.
        nifti_header: header bytes of the NIfTI the volume came from, so that the labels can be
            written on the very same grid; None for other sources.
        findings: what reading noticed.
        slice_stack: the DICOM slices the volume came from (`viscera.dicom.read.stack.SliceStack`),
            so that DICOM results can refer to them; None for other sources.
    """

    voxels: Hu | LazyVoxels
    affine: Affine
    name: str = "volume"
    nifti_header: bytes | None = None
    findings: tuple[Finding, ...] = ()
    slice_stack: object | None = None

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

    @classmethod
    def of(
        cls, voxels: NDArray[Any], affine: Affine | ArrayLike, *, name: str = "volume"
    ) -> Volume:
        """A volume from an array and its affine; `viscera.as_volume` takes anything else.

        Args:
            voxels: [i, j, k] Hounsfield units of any real type.
            affine: (4, 4) matrix from voxel indices to RAS millimetres.
            name: the case's name.

        Raises:
            InputError: no real numbers, not three-dimensional, or no usable affine.
        """
        data, findings = to_hu(np.asarray(voxels), where=name)
        matrix = affine if isinstance(affine, Affine) else Affine(affine)
        return cls(data, matrix, name, None, tuple(findings))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        i, j, k = self.voxels.shape
        return i, j, k

    @property
    def is_resident(self) -> bool:
        """Whether the voxels lie in memory."""
        return isinstance(self.voxels, np.ndarray)

    @property
    def resident_mb(self) -> float:
        """MB of voxels that lie in memory; 0 while they stay in their file."""
        return self.voxels.nbytes / 1e6 if isinstance(self.voxels, np.ndarray) else 0.0

    @property
    def decoder_processes(self) -> int:
        """How many processes decode voxels beside this one while they are read."""
        return int(getattr(self.voxels, "decoder_processes", 0))

    @property
    def data(self) -> Hu:
        """All voxels [i, j, k]; lazy ones are read from their file at every call, see `read`.

        Raises:
            InputError: the file is damaged.
        """
        return self.voxels if isinstance(self.voxels, np.ndarray) else _assemble(self)[0]

    def read(self) -> Volume:
        """The same with its voxels in memory, and with the findings of reading them.

        Raises:
            InputError: the file is damaged.
        """
        if self.is_resident:
            return self
        data, findings = _assemble(self)
        return replace(self, voxels=data, findings=(*self.findings, *findings))

    def slabs(self) -> Iterator[Slab]:
        """Slabs of the voxels, one after another along k; never all of them in memory.

        Raises:
            InputError: the file is damaged.
        """
        if not isinstance(self.voxels, np.ndarray):
            yield from self.voxels.slabs()
            return
        for k in range(0, self.shape[2], SLAB_PLANES):
            yield Slab(self.voxels[..., k : k + SLAB_PLANES])

    def shifted(self, offset_hu: float) -> Volume:
        """The same volume with this added to every voxel, for scans stored with an offset.

        Raises:
            UsageError: the offset is no finite number.
        """
        if not math.isfinite(offset_hu):
            raise UsageError(
                f"a finite number of HU for {option('hu_offset')}",
                found=f"{offset_hu:g}",
                remedy="choose another value",
            )
        if not offset_hu:
            return self
        voxels: Hu | LazyVoxels
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
        return replace(
            self,
            voxels=self.data[box],
            affine=Affine(matrix),
            nifti_header=None,
            slice_stack=None,
        )


def _assemble(volume: Volume) -> tuple[Hu, list[Finding]]:
    """All voxels of a volume, and the findings of reading them.

    Slabs may change from int16 to float32 on the way; what was read before is converted then.
    """
    data: Any = None
    findings: list[Finding] = []
    start = 0
    for hu, slab_findings in volume.slabs():
        findings += slab_findings
        if data is None or np.result_type(data, hu) != data.dtype:
            narrow, data = data, np.empty(volume.shape, dtype=hu.dtype, order="F")
            data[..., :start] = narrow[..., :start] if narrow is not None else 0
        data[..., start : start + hu.shape[2]] = hu
        start += hu.shape[2]
    return data, findings
