"""Pixels of one slice as Hounsfield units."""

from __future__ import annotations

import warnings
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.core.hu import AIR_HU
from viscera.dicom.read.decoder_process import DecoderDiedError, DecoderProcess
from viscera.dicom.read.files import SourceFile
from viscera.dicom.read.header import BIG_ENDIAN, DEFLATED, inflate_dataset, read_meta
from viscera.dicom.read.slices import CtSlice
from viscera.errors import InputError, ResourceError, option

# No tissue and no air: scanners write -2000 or -3024 where they measured nothing.
_NOTHING_HU = -1500
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
# Compressions that keep each pixel's bits as they were stored, besides none: RLE, big endian.
_AS_STORED = ("1.2.840.10008.1.2.5", BIG_ENDIAN)


def check_decoder(ct_slice: CtSlice) -> None:
    """Check that this slice's compression can be undone.

    Raises:
        InputError: no decoder is installed.
    """
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    if ct_slice.raw_offset is not None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged UIDs
        syntax = UID(ct_slice.syntax)
        try:
            decodable = get_decoder(syntax).is_available
        except NotImplementedError:
            decodable = False
    remedy = "run pip install 'viscera[dicom]', or export the series uncompressed"
    if ct_slice.syntax == _JPEG_EXTENDED and ct_slice.bits[1] > 8:
        decodable = False  # decoders are there, but for 8 bits only
        remedy = "export the series uncompressed: no decoder here knows 12 bits of it"
    if not decodable:
        raise InputError(
            "a transfer syntax that can be decoded",
            found=syntax.name,
            remedy=remedy,
            where=ct_slice.file,
        )


class HuPlane(NamedTuple):
    """One slice in Hounsfield units.

    Attributes:
        hu: [row, column] int16 where slope and intercept are whole, else float32.
        empty_pixels: how many were no measurement, and were set to air.
    """

    hu: NDArray[Any]
    empty_pixels: int


class PixelReader:
    """Reads slices one after another; the file of a multi-frame image is opened once."""

    def __init__(self) -> None:
        self._item: SourceFile | None = None
        self._file: BinaryIO | None = None
        self._decoder = DecoderProcess()

    def stored(self, ct_slice: CtSlice) -> NDArray[Any]:
        """Stored values [row, column] of a slice.

        Raises:
            InputError: damaged, cut off, or changed since it was found.
        """
        if ct_slice.file.changed():
            raise InputError(
                "a series that is complete",
                found="a file that changed while it was read",
                remedy="wait until all of it has arrived",
                where=ct_slice.file,
            )
        try:
            values = (
                self._raw(ct_slice) if ct_slice.raw_offset is not None else self._decoded(ct_slice)
            )
        except (InputError, ResourceError):
            raise
        except DecoderDiedError as error:
            raise _damaged_pixels(ct_slice.file, "the decoder died of it") from error
        except Exception as error:  # decoders raise many kinds
            raise _damaged_pixels(ct_slice.file, str(error) or type(error).__name__) from error
        if values.shape != ct_slice.shape:
            raise _damaged_pixels(ct_slice.file, f"{values.shape} pixels")
        return values

    def close(self) -> None:
        """Let go of the last file and of the decoder."""
        self._decoder.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
        self._item = self._file = None

    def __enter__(self) -> PixelReader:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _raw(self, ct_slice: CtSlice) -> NDArray[Any]:
        if self._file is None or self._item is not ct_slice.file:
            self._close_file()
            self._item, self._file = ct_slice.file, _open_uncompressed(ct_slice)
        dtype = np.dtype(f"<{'i' if ct_slice.signed else 'u'}{ct_slice.bits[0] // 8}")
        size = ct_slice.shape[0] * ct_slice.shape[1] * dtype.itemsize
        self._file.seek(ct_slice.raw_offset or 0)
        content = self._file.read(size)
        if len(content) < size:
            raise InputError(
                f"{size} bytes of pixels",
                found=f"{len(content)}",
                remedy="the file is cut off: copy or export it again",
                where=ct_slice.file,
            )
        return _without_overlay(np.frombuffer(content, dtype).reshape(ct_slice.shape), ct_slice)

    def _decoded(self, ct_slice: CtSlice) -> NDArray[Any]:
        values = self._decoder.decode(ct_slice.file, ct_slice.frame)
        return _without_overlay(values, ct_slice) if ct_slice.syntax in _AS_STORED else values


def _open_uncompressed(ct_slice: CtSlice) -> BinaryIO:
    """The file in which `raw_offset` counts."""
    file = ct_slice.file.open()
    if ct_slice.syntax != DEFLATED:
        return file
    with file:
        read_meta(file)
        return inflate_dataset(file, where=ct_slice.file)


def _without_overlay(values: NDArray[Any], ct_slice: CtSlice) -> NDArray[Any]:
    """Without the bits around the stored ones, where overlays of old lie (PS3.5 8.1.1)."""
    allocated, stored, high = ct_slice.bits
    if stored == allocated:
        return values
    return np.asarray((values << (allocated - 1 - high)) >> (allocated - stored), values.dtype)


def to_hu_plane(ct_slice: CtSlice, stored: NDArray[Any]) -> HuPlane:
    """Stored values of a slice as HU; what lies outside the field of view becomes air.

    Args:
        ct_slice: says what the values mean.
        stored: [row, column] as they are stored.
    """
    values = stored
    if ct_slice.inverted:
        low, high = _stored_range(ct_slice)
        values = low + high - stored.astype(np.int32)
    if has_whole_hu(ct_slice):
        hu = _to_int16(values, int(ct_slice.slope), int(ct_slice.inter))
    else:
        hu = (values * ct_slice.slope + ct_slice.inter).astype(np.float32)
    if ct_slice.padding is None and hu.min() > _NOTHING_HU:
        return HuPlane(hu, 0)
    empty = hu <= _NOTHING_HU
    if ct_slice.padding is not None:
        empty |= (stored >= ct_slice.padding[0]) & (stored <= ct_slice.padding[1])
    hu[empty] = AIR_HU
    return HuPlane(hu, int(np.count_nonzero(empty)))


def _to_int16(values: NDArray[Any], slope: int, inter: int) -> NDArray[np.int16]:
    """HU as int16; what does not fit is clipped, and calculated in 64 bits only where it must."""
    limits = np.iinfo(np.int16)
    ends = sorted((int(values.min()) * slope + inter, int(values.max()) * slope + inter))
    if ends[0] < limits.min or ends[1] > limits.max:
        wide = values.astype(np.int64) * slope + inter
        return np.clip(wide, limits.min, limits.max).astype(np.int16)
    # Sums and products modulo 2^16 are right when their result fits.
    hu = values.astype(np.int16)
    if slope != 1:
        hu *= np.int64(slope).astype(np.int16)
    hu += np.int64(inter).astype(np.int16)
    return hu


def has_whole_hu(ct_slice: CtSlice) -> bool:
    """Whether HU of this slice are whole numbers."""
    return float(ct_slice.slope).is_integer() and float(ct_slice.inter).is_integer()


def _stored_range(ct_slice: CtSlice) -> tuple[int, int]:
    """Lowest and highest value that can be stored."""
    bits = ct_slice.bits[1]
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if ct_slice.signed else (0, (1 << bits) - 1)


def _damaged_pixels(file: SourceFile, damage: str) -> InputError:
    return InputError(
        "pixels that can be decoded",
        found=f"damage ({damage})",
        remedy=f"export it again, or pass {option('allow_bad_slices', True)} to fill it from its "
        "neighbours",
        where=file,
    )
