"""The voxels of a stack, which stay in their files until someone walks over them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.dicom.pixels import PixelReader, is_whole, to_plane
from viscera.dicom.stack import Stack
from viscera.errors import InputError
from viscera.findings import Finding
from viscera.hu import AIR_HU, to_hu
from viscera.pipeline import ahead
from viscera.resources import thread_count
from viscera.volume import SLAB_PLANES, Hu

_MOST_DECODERS = 4


@dataclass(frozen=True)
class DicomVoxels:
    """See `viscera.volume.StoredVoxels`.

    Attributes:
        stack: the slices.
        allow_bad: slices that cannot be decoded are filled from their neighbours.
        offset_hu: added to what they mean.
        threads: most that decode at a time; all that the process may use where not given.
    """

    stack: Stack
    allow_bad: bool = False
    offset_hu: float = 0.0
    threads: int | None = None

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
        with _Planes(self.stack, self.threads, allow_bad=self.allow_bad) as reader:
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


class _Planes:
    """HU of slices, some of them ahead of their use; those that cannot be decoded are filled."""

    def __init__(self, stack: Stack, threads: int | None, *, allow_bad: bool) -> None:
        self._slices, self._allow_bad = stack.slices, allow_bad
        # A process that decodes takes as long to start as 15 slices take it, and some 70 MB; and
        # all of a multi-frame file besides.
        compressed = {one.item for one in stack.slices if one.raw_at is None}
        workers = max(1, min(thread_count(threads), _MOST_DECODERS, len(compressed) // 10))
        self._pool, self._ahead = ThreadPoolExecutor(workers), 2 * workers
        self._readers: SimpleQueue[PixelReader] = SimpleQueue()
        for _ in range(workers):
            self._readers.put(PixelReader())
        self._begun: dict[int, Future[tuple[NDArray[Any], int] | None]] = {}
        self._kept: dict[int, NDArray[Any] | None] = {}
        self._bad: set[int] = set()
        self._empty: dict[int, int] = {}

    def __enter__(self) -> _Planes:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        while not self._readers.empty():
            self._readers.get().close()

    def plane(self, number: int) -> NDArray[Any]:
        """HU [row, column] of a slice, or what its nearest good neighbours make of it."""
        own = self._decoded(number)
        if own is not None:
            return own
        near = []
        for others in (range(number - 1, -1, -1), range(number + 1, len(self._slices))):
            for other in others:
                if (plane := self._decoded(other)) is not None:
                    near.append((abs(other - number), plane))
                    break
        if not near:
            raise InputError(
                "one slice that can be decoded",
                found="none",
                remedy="export the series again",
                where=self._slices[number].item,
            )
        total = sum(1 / distance for distance, _ in near)
        mixed: NDArray[Any] = sum(plane / distance for distance, plane in near) / total  # type: ignore[assignment]
        return np.asarray(np.rint(mixed))

    def _decoded(self, number: int) -> NDArray[Any] | None:
        if number not in self._kept:
            for n in range(number, min(number + self._ahead, len(self._slices))):
                if n not in self._kept and n not in self._begun:
                    self._begun[n] = self._pool.submit(self._read, n)
            for n in [n for n in self._begun if n < number]:
                del self._begun[n]  # read ahead, and used by no plane
            while len(self._kept) > 3:
                self._kept.pop(next(iter(self._kept)))
            read = self._begun.pop(number).result()
            self._kept[number] = None if read is None else read[0]
            self._empty[number] = 0 if read is None else read[1]
        return self._kept[number]

    def _read(self, number: int) -> tuple[NDArray[Any], int] | None:
        """Plane and number of its voxels that were no measurement; None where it is damaged."""
        one = self._slices[number]
        if number in self._bad:
            return None
        reader = self._readers.get()
        try:
            return to_plane(one, reader.stored(one))
        except InputError:
            if not self._allow_bad:
                raise
            self._bad.add(number)
            return None
        finally:
            self._readers.put(reader)

    def findings(self) -> list[Finding]:
        """What was noticed on the way."""
        found = []
        if self._bad:
            message = f"{len(self._bad)} slices could not be decoded and were filled"
            found.append(Finding("warning", "dicom-bad-slices", message, "export them again"))
        if empty := sum(self._empty.values()):
            message = f"{empty} voxels outside the field of view were set to {AIR_HU} HU"
            found.append(Finding("info", "dicom-padding", message))
        return found
