"""Pixels of one slice as Hounsfield units."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.dicom.files import Item
from viscera.dicom.header import DEFLATED, inflated
from viscera.dicom.slices import Slice
from viscera.errors import InputError
from viscera.hu import AIR_HU

# No tissue and no air: scanners write -2000 or -3024 where they measured nothing.
_NOTHING_HU = -1500


def check_decoder(one: Slice) -> None:
    """Prove that this slice's compression can be undone.

    Raises:
        InputError: no decoder is installed.
    """
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    if one.raw_at is not None or one.syntax == DEFLATED:
        return
    name = UID(one.syntax).name
    try:
        able = get_decoder(UID(one.syntax)).is_available
    except NotImplementedError:
        able = False
    if not able:
        raise InputError(
            "a transfer syntax that can be decoded",
            found=name,
            remedy="run pip install 'viscera[dicom]', or export the series uncompressed",
            where=one.item,
        )


def read_stored(one: Slice) -> NDArray[Any]:
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
        values = _raw(one) if one.raw_at is not None else _decoded(one)
    except InputError:
        raise
    except Exception as error:  # decoders raise many kinds
        raise _damaged(one.item, type(error).__name__) from error
    if values.shape != one.shape:
        raise _damaged(one.item, f"{values.shape} pixels")
    return values


def to_plane(one: Slice, stored: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """HU [row, column] of stored values, and how many pixels were no measurement.

    int16 where slope and intercept are whole and the values fit, else float32.
    """
    nothing = np.zeros(0, dtype=bool)
    if one.padding is not None:
        nothing = (stored >= one.padding[0]) & (stored <= one.padding[1])
    values = stored
    if one.inverted:
        low, high = _range(one)
        values = low + high - stored.astype(np.int32)
    if is_whole(one):
        hu = values.astype(np.int32) * int(one.slope) + int(one.inter)
        low_hu, high_hu = int(hu.min()), int(hu.max())
        if low_hu < -32768 or high_hu > 32767:
            hu = np.clip(hu, -32768, 32767)
        hu = hu.astype(np.int16)
    else:
        hu = (values * one.slope + one.inter).astype(np.float32)
    empty = hu <= _NOTHING_HU
    if nothing.size:
        empty |= nothing
    count = int(np.count_nonzero(empty))
    if count:
        hu[empty] = AIR_HU
    return hu, count


def is_whole(one: Slice) -> bool:
    """Whether HU of this slice are whole numbers."""
    return float(one.slope).is_integer() and float(one.inter).is_integer()


def _raw(one: Slice) -> NDArray[Any]:
    allocated, stored_bits = one.bits
    kind = np.dtype(f"<{'i' if one.signed else 'u'}{allocated // 8}")
    count = one.shape[0] * one.shape[1]
    with one.item.open() as file:
        file.seek(one.raw_at or 0)
        content = file.read(count * kind.itemsize)
    if len(content) < count * kind.itemsize:
        raise InputError(
            f"{count * kind.itemsize} bytes of pixels",
            found=f"{len(content)}",
            remedy="the file is cut off: copy or export it again",
            where=one.item,
        )
    return _masked(np.frombuffer(content, kind).reshape(one.shape), allocated - stored_bits)


def _masked(values: NDArray[Any], unused: int) -> NDArray[Any]:
    """Without the bits above the stored ones, where overlays of old lie (PS3.5 8.1.1)."""
    if not unused:
        return values
    return np.asarray((values << unused) >> unused, dtype=values.dtype)


def _decoded(one: Slice) -> NDArray[Any]:
    from pydicom import dcmread
    from pydicom.filereader import read_dataset
    from pydicom.pixels import pixel_array

    with one.item.open() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a decoder mends
        if one.syntax == DEFLATED:
            dataset: Any = read_dataset(io.BytesIO(inflated(file)), False, True)
            kind = np.dtype(f"<{'i' if one.signed else 'u'}{one.bits[0] // 8}")
            frames = np.frombuffer(dataset.PixelData, kind, count=-1)
            size = one.shape[0] * one.shape[1]
            frame = frames[one.frame * size : (one.frame + 1) * size].reshape(one.shape)
            return _masked(frame, one.bits[0] - one.bits[1])
        dataset = dcmread(file, force=True)
        values = pixel_array(dataset, index=one.frame, raw=True)
    return np.asarray(values)


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
