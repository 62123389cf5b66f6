"""Pixels of one slice as Hounsfield units."""

from __future__ import annotations

import warnings
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from viscera.dicom.decoder import Decoder, DecoderDiedError
from viscera.dicom.files import Item
from viscera.dicom.header import BIG_ENDIAN, DEFLATED, inflated, read_meta
from viscera.dicom.slices import Slice
from viscera.errors import InputError, ResourceError
from viscera.hu import AIR_HU

# No tissue and no air: scanners write -2000 or -3024 where they measured nothing.
_NOTHING_HU = -1500
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
# Compressions that keep each pixel's bits as they were stored, besides none: RLE, big endian.
_AS_STORED = ("1.2.840.10008.1.2.5", BIG_ENDIAN)


def check_decoder(one: Slice) -> None:
    """Prove that this slice's compression can be undone.

    Raises:
        InputError: no decoder is installed.
    """
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    if one.raw_at is not None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged UIDs
        syntax = UID(one.syntax)
        try:
            able = get_decoder(syntax).is_available
        except NotImplementedError:
            able = False
    if one.syntax == _JPEG_EXTENDED and one.bits[1] > 8:
        able = False  # decoders are there, but for 8 bits only
    if not able:
        raise InputError(
            "a transfer syntax that can be decoded",
            found=syntax.name,
            remedy="run pip install 'viscera[dicom]', or export the series uncompressed",
            where=one.item,
        )


class PixelReader:
    """Reads slices one after another; the file of a multi-frame image is opened once."""

    def __init__(self) -> None:
        self._item: Item | None = None
        self._file: BinaryIO | None = None
        self._decoder = Decoder()

    def stored(self, one: Slice) -> NDArray[Any]:
        """Stored values [row, column] of a slice.

        Raises:
            InputError: damaged, cut off, or changed since it was found.
        """
        if one.item.changed():
            raise InputError(
                "a series that is complete",
                found="a file that changed while it was read",
                remedy="wait until all of it has arrived",
                where=one.item,
            )
        try:
            values = self._raw(one) if one.raw_at is not None else self._decoded(one)
        except (InputError, ResourceError):
            raise
        except DecoderDiedError as error:
            raise _damaged(one.item, "the decoder died of it") from error
        except Exception as error:  # decoders raise many kinds
            raise _damaged(one.item, str(error) or type(error).__name__) from error
        if values.shape != one.shape:
            raise _damaged(one.item, f"{values.shape} pixels")
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

    def _raw(self, one: Slice) -> NDArray[Any]:
        if self._file is None or self._item is not one.item:
            self._close_file()
            self._item, self._file = one.item, _uncompressed(one)
        kind = np.dtype(f"<{'i' if one.signed else 'u'}{one.bits[0] // 8}")
        size = one.shape[0] * one.shape[1] * kind.itemsize
        self._file.seek(one.raw_at or 0)
        content = self._file.read(size)
        if len(content) < size:
            raise InputError(
                f"{size} bytes of pixels",
                found=f"{len(content)}",
                remedy="the file is cut off: copy or export it again",
                where=one.item,
            )
        return _without_overlay(np.frombuffer(content, kind).reshape(one.shape), one)

    def _decoded(self, one: Slice) -> NDArray[Any]:
        values = self._decoder.decode(one.item, one.frame)
        return _without_overlay(values, one) if one.syntax in _AS_STORED else values


def _uncompressed(one: Slice) -> BinaryIO:
    """The file in which `raw_at` counts."""
    file = one.item.open()
    if one.syntax != DEFLATED:
        return file
    with file:
        read_meta(file)
        return inflated(file, where=one.item)


def _without_overlay(values: NDArray[Any], one: Slice) -> NDArray[Any]:
    """Without the bits around the stored ones, where overlays of old lie (PS3.5 8.1.1)."""
    allocated, stored, high = one.bits
    if stored == allocated:
        return values
    return np.asarray((values << (allocated - 1 - high)) >> (allocated - stored), values.dtype)


def to_plane(one: Slice, stored: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """HU [row, column] of stored values, and how many pixels were no measurement.

    int16 where slope and intercept are whole and the values fit, else float32.
    """
    values = stored
    if one.inverted:
        low, high = _range(one)
        values = low + high - stored.astype(np.int32)
    if is_whole(one):
        hu = _whole(values, int(one.slope), int(one.inter))
    else:
        hu = (values * one.slope + one.inter).astype(np.float32)
    if one.padding is None and hu.min() > _NOTHING_HU:
        return hu, 0
    empty = hu <= _NOTHING_HU
    if one.padding is not None:
        empty |= (stored >= one.padding[0]) & (stored <= one.padding[1])
    hu[empty] = AIR_HU
    return hu, int(np.count_nonzero(empty))


def _whole(values: NDArray[Any], slope: int, inter: int) -> NDArray[np.int16]:
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


def is_whole(one: Slice) -> bool:
    """Whether HU of this slice are whole numbers."""
    return float(one.slope).is_integer() and float(one.inter).is_integer()


def _range(one: Slice) -> tuple[int, int]:
    """Lowest and highest value that can be stored."""
    bits = one.bits[1]
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if one.signed else (0, (1 << bits) - 1)


def _damaged(item: Item, found: str) -> InputError:
    return InputError(
        "pixels that can be decoded",
        found=f"damage ({found})",
        remedy="export it again, or pass --allow-bad-slices to fill it from its neighbours",
        where=item,
    )
