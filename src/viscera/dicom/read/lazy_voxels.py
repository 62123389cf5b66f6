"""The voxels of a slice stack, which stay in their files until they are read slab by slab."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.core.hu import AIR_HU, to_hu
from viscera.core.volume import SLAB_PLANES, Hu, Slab
from viscera.dicom.read.pixels import HuPlane, PixelReader, has_whole_hu, to_hu_plane
from viscera.dicom.read.stack import SliceStack
from viscera.errors import InputError
from viscera.findings import Finding
from viscera.runtime.prefetch import prefetch
from viscera.runtime.resources import thread_count

_MOST_DECODERS = 4
# A decoder process takes as long to start as 15 slices take it, and some 70 MB.
_SLICES_A_DECODER = 10
_CACHED_SLICES = 4


@dataclass(frozen=True)
class DicomVoxels:
    """See `viscera.core.volume.LazyVoxels`.

    Attributes:
        stack: the slices.
        allow_bad_slices: slices that cannot be decoded are filled from their neighbours.
        offset_hu: added to what they mean.
        threads: most that decode at a time; all that the process may use where not given.
    """

    stack: SliceStack
    allow_bad_slices: bool = False
    offset_hu: float = 0.0
    threads: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along a row, along a column, and slices."""
        rows, columns = self.stack.slices[0].shape
        return columns, rows, len(self.stack.planes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """int16, or float32 where the HU of some slice are not whole."""
        is_whole = all(has_whole_hu(ct_slice) for ct_slice in self.stack.slices)
        return np.dtype(np.int16 if is_whole else np.float32)

    @property
    def decoder_processes(self) -> int:
        """How many processes decode beside this one while slabs are read."""
        # A decoder takes the whole of a multi-frame file, so files count, not slices.
        compressed = {s.file for s in self.stack.slices if s.raw_offset is None}
        most = min(thread_count(self.threads), _MOST_DECODERS)
        return min(most, max(1, len(compressed) // _SLICES_A_DECODER)) if compressed else 0

    def slabs(self) -> Iterator[Slab]:
        """See `LazyVoxels.slabs`."""
        for hu, findings in prefetch(self._decoded_slabs(), most=2):
            shifted = to_hu(hu, inter=self.offset_hu)[0] if self.offset_hu else hu
            yield Slab(shifted, findings)

    def shifted(self, offset_hu: float) -> DicomVoxels:
        """See `LazyVoxels.shifted`."""
        return replace(self, offset_hu=self.offset_hu + offset_hu)

    def _decoded_slabs(self) -> Iterator[Slab]:
        planes, dtype = self.stack.planes, self.dtype
        workers = max(1, self.decoder_processes)
        with _SliceLoader(self.stack, workers, allow_bad=self.allow_bad_slices) as loader:
            for start in range(0, len(planes), SLAB_PLANES):
                sources = planes[start : start + SLAB_PLANES]
                hu: Hu = np.empty((*self.shape[:2], len(sources)), dtype=dtype, order="F")
                for n, (low, high, share) in enumerate(sources):
                    plane = loader.plane(low)
                    if share:
                        mixed = plane * (1 - share) + loader.plane(high) * share
                        plane = np.rint(mixed) if dtype.kind == "i" else mixed
                    hu[..., n] = plane.T
                is_last = start + len(sources) == len(planes)
                yield Slab(hu, loader.findings() if is_last else ())


class _SliceLoader:
    """HU of slices, some of them decoded before they are needed; undecodable ones are filled."""

    def __init__(self, stack: SliceStack, workers: int, *, allow_bad: bool) -> None:
        self._slices, self._allow_bad = stack.slices, allow_bad
        self._pool, self._lookahead = ThreadPoolExecutor(workers), 2 * workers
        self._readers: SimpleQueue[PixelReader] = SimpleQueue()
        for _ in range(workers):
            self._readers.put(PixelReader())
        self._pending: dict[int, Future[HuPlane | None]] = {}
        self._cache: dict[int, NDArray[Any] | None] = {}
        self._bad: set[int] = set()
        self._empty_pixels: dict[int, int] = {}

    def __enter__(self) -> _SliceLoader:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        while not self._readers.empty():
            self._readers.get().close()

    def plane(self, number: int) -> NDArray[Any]:
        """HU [row, column] of a slice; of a bad one, a mean of its nearest good neighbours."""
        plane = self._load(number)
        if plane is not None:
            return plane
        neighbours = []
        for numbers in (range(number - 1, -1, -1), range(number + 1, len(self._slices))):
            for other in numbers:
                if (plane := self._load(other)) is not None:
                    neighbours.append((abs(other - number), plane))
                    break
        if not neighbours:
            raise InputError(
                "one slice that can be decoded",
                found="none",
                remedy="export the series again",
                where=self._slices[number].file,
            )
        total = sum(1 / distance for distance, _ in neighbours)
        weighted = sum(plane / distance for distance, plane in neighbours)
        return np.asarray(np.rint(weighted / total))

    def findings(self) -> tuple[Finding, ...]:
        """What decoding the slices noticed so far."""
        findings = []
        if self._bad:
            message = f"{len(self._bad)} slices could not be decoded and were filled"
            findings.append(Finding("warning", "dicom-bad-slices", message, "export them again"))
        if empty_pixels := sum(self._empty_pixels.values()):
            message = f"{empty_pixels} voxels outside the field of view were set to {AIR_HU} HU"
            findings.append(Finding("info", "dicom-padding", message))
        return tuple(findings)

    def _load(self, number: int) -> NDArray[Any] | None:
        """HU of a slice, None of a bad one; the slices after it are begun meanwhile."""
        if number not in self._cache:
            for n in range(number, min(number + self._lookahead, len(self._slices))):
                if n not in self._cache and n not in self._pending:
                    self._pending[n] = self._pool.submit(self._decode, n)
            for n in [n for n in self._pending if n < number]:
                del self._pending[n]  # decoded, and used by no plane
            while len(self._cache) >= _CACHED_SLICES:
                self._cache.pop(next(iter(self._cache)))
            decoded = self._pending.pop(number).result()
            self._cache[number] = decoded and decoded.hu
            self._empty_pixels[number] = decoded.empty_pixels if decoded else 0
        return self._cache[number]

    def _decode(self, number: int) -> HuPlane | None:
        """HU of a slice; None where it is damaged and that is allowed."""
        if number in self._bad:
            return None
        ct_slice, reader = self._slices[number], self._readers.get()
        try:
            return to_hu_plane(ct_slice, reader.stored(ct_slice))
        except InputError:
            if not self._allow_bad:
                raise
            self._bad.add(number)
            return None
        finally:
            self._readers.put(reader)
