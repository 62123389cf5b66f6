"""The voxels of a stack, which stay in their files until someone walks over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.dicom.pixels import PixelReader, is_whole, to_plane
from viscera.dicom.stack import Stack
from viscera.errors import InputError
from viscera.findings import Finding
from viscera.hu import AIR_HU, to_hu
from viscera.pipeline import ahead
from viscera.volume import SLAB_PLANES, Hu


@dataclass(frozen=True)
class DicomVoxels:
    """See `viscera.volume.StoredVoxels`.

    Attributes:
        stack: the slices.
        allow_bad: slices that cannot be decoded are filled from their neighbours.
        offset_hu: added to what they mean.
    """

    stack: Stack
    allow_bad: bool = False
    offset_hu: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along a row, along a column, and slices."""
        rows, columns = self.stack.slices[0].shape
        return columns, rows, len(self.stack.planes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """int16, or float32 where some slice's HU are not whole."""
        whole = all(is_whole(one) for one in self.stack.slices)
        return np.dtype(np.int16 if whole else np.float32)

    def slabs(self, findings: list[Finding]) -> Iterator[Hu]:
        """See `StoredVoxels.slabs`."""
        for piece in ahead(self._pieces(findings), most=2):
            yield to_hu(piece, inter=self.offset_hu)[0] if self.offset_hu else piece

    def shifted(self, offset_hu: float) -> DicomVoxels:
        """See `StoredVoxels.shifted`."""
        return replace(self, offset_hu=self.offset_hu + offset_hu)

    def _pieces(self, findings: list[Finding]) -> Iterator[Hu]:
        planes, dtype = self.stack.planes, self.dtype
        with PixelReader() as pixels:
            reader = _Reader(self.stack, pixels, allow_bad=self.allow_bad)
            for start in range(0, len(planes), SLAB_PLANES):
                part = planes[start : start + SLAB_PLANES]
                piece = np.empty((*self.shape[:2], len(part)), dtype=dtype, order="F")
                for n, (low, high, share) in enumerate(part):
                    plane = reader.plane(low)
                    if share:
                        mixed = plane * (1 - share) + reader.plane(high) * share
                        plane = np.rint(mixed) if dtype.kind == "i" else mixed
                    piece[..., n] = plane.T
                yield piece
        findings += reader.findings()


class _Reader:
    """Decodes slices, keeps the last few, and fills those that cannot be decoded."""

    def __init__(self, stack: Stack, pixels: PixelReader, *, allow_bad: bool) -> None:
        self._stack, self._pixels, self._allow_bad = stack, pixels, allow_bad
        self._kept: dict[int, NDArray[Any] | None] = {}
        self._bad: set[int] = set()
        self._empty = 0

    def plane(self, number: int) -> NDArray[Any]:
        """HU [row, column] of a slice, or what its nearest good neighbours make of it."""
        own = self._decoded(number)
        if own is not None:
            return own
        near = []
        for others in (range(number - 1, -1, -1), range(number + 1, len(self._stack.slices))):
            for other in others:
                if (plane := self._decoded(other)) is not None:
                    near.append((abs(other - number), plane))
                    break
        if not near:
            raise InputError(
                "one slice that can be decoded",
                found="none",
                remedy="export the series again",
                where=self._stack.slices[number].item,
            )
        total = sum(1 / distance for distance, _ in near)
        mixed: NDArray[Any] = sum(plane / distance for distance, plane in near) / total  # type: ignore[assignment]
        return np.asarray(np.rint(mixed))

    def _decoded(self, number: int) -> NDArray[Any] | None:
        if number not in self._kept:
            while len(self._kept) > 3:
                self._kept.pop(next(iter(self._kept)))
            self._kept[number] = self._read(number)
        return self._kept[number]

    def _read(self, number: int) -> NDArray[Any] | None:
        one = self._stack.slices[number]
        if number in self._bad:
            return None
        try:
            plane, empty = to_plane(one, self._pixels.stored(one))
        except InputError:
            if not self._allow_bad:
                raise
            self._bad.add(number)
            return None
        self._empty += empty
        return plane

    def findings(self) -> list[Finding]:
        """What was noticed on the way."""
        found = []
        if self._bad:
            message = f"{len(self._bad)} slices could not be decoded and were filled"
            found.append(Finding("warning", "dicom-bad-slices", message, "export them again"))
        if self._empty:
            message = f"{self._empty} voxels outside the field of view were set to {AIR_HU} HU"
            found.append(Finding("info", "dicom-padding", message))
        return found
