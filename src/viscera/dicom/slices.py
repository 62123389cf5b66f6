"""Slices: what a CT image's header says of its place and its numbers, pixels left in the file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.dicom.files import Item
from viscera.dicom.header import raw_pixels_at, read_header
from viscera.errors import InputError, ResourceError

# CT Image, Enhanced CT Image, Legacy Converted Enhanced CT Image (PS3.4 B.5).
CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber",
    "PatientID", "PatientName", "Modality", "ImageType", "SliceThickness", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing",
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Slice:
    """One CT image, or one frame of a multi-frame one.

    Attributes:
        item: its file.
        frame: which frame of it.
        uid, study, series: SOP Instance, Study and Series Instance UID, as they stand.
        patient: ID and name, to tell patients apart; never shown.
        series_number: for the list of series.
        image_type: such as ORIGINAL, PRIMARY, AXIAL.
        position_mm: (3,) of its first pixel's centre in DICOM's LPS; None where absent.
        cosines: (2, 3) directions of a row and of a column; None where absent.
        spacing_mm: between rows and between columns; None where absent.
        imager_spacing: the spacing is that of the detector, for want of another.
        thickness_mm: nominal; 0 where absent.
        shape: rows and columns.
        bits: allocated and stored.
        signed: two's complement.
        slope, inter: HU is ``value * slope + inter``.
        padding: lowest and highest stored value that is no measurement.
        inverted: MONOCHROME1: the lowest value is white.
        syntax: transfer syntax UID.
        raw_at: first byte of the frame where it is not compressed; else None.
        odd_preamble: the file's first bytes are those of a program.
    """

    item: Item
    frame: int
    uid: str
    study: str
    series: str
    patient: str
    series_number: int
    image_type: tuple[str, ...]
    position_mm: NDArray[np.float64] | None
    cosines: NDArray[np.float64] | None
    spacing_mm: tuple[float, float] | None
    imager_spacing: bool
    thickness_mm: float
    shape: tuple[int, int]
    bits: tuple[int, int]
    signed: bool
    slope: float
    inter: float
    padding: tuple[int, int] | None
    inverted: bool
    syntax: str
    raw_at: int | None
    odd_preamble: bool


def read_slices(item: Item) -> list[Slice]:
    """The CT slices of one file; none where it holds no CT image.

    Raises:
        InputError: the file is damaged, or none of the numbers of a CT.
        ResourceError: it declares more than it can hold.
    """
    try:
        with item.open() as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values we do not use
            head = file.read(132)
            file.seek(0)
            dataset, syntax, pixels_at = read_header(file, tags=_TAGS)
            if str(dataset.get("SOPClassUID", "") or "") not in CT_CLASSES and not (
                # Some anonymisers blank the class; they leave what the image is.
                not dataset.get("SOPClassUID") and dataset.get("Modality") == "CT"
            ):
                return []
            if dataset.get("Rows") is None:  # a directory's stub, or no image
                return []
            odd = head[:2] == b"MZ" or head[:4] == b"\x7fELF"
            return list(_slices(item, dataset, syntax, pixels_at, odd_preamble=odd))
    except (InputError, ResourceError):
        raise
    except Exception as error:  # pydicom lets many kinds through, RecursionError among them
        raise InputError(
            "a readable DICOM file",
            found=f"damage ({type(error).__name__})",
            remedy="copy or export it again",
            where=item,
        ) from error


def _slices(
    item: Item, dataset: Any, syntax: str, pixels_at: int | None, *, odd_preamble: bool
) -> Iterator[Slice]:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    frames = int(dataset.get("NumberOfFrames") or 1)
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if allocated not in (8, 16, 32) or int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise _refuse("one channel of 8, 16 or 32 bits", f"{allocated} bits or colour", item)
    if not 0 < stored <= allocated or min(rows, columns, frames) < 1:
        raise _refuse("at least one pixel", f"{rows} x {columns}, {stored} bits stored", item)
    frame_bytes = rows * columns * allocated // 8
    size = item.stamp[0] or (pixels_at or 0) + frame_bytes * frames
    raw_at = None if pixels_at is None else raw_pixels_at(item, syntax, pixels_at)
    if frame_bytes * frames > max(size * 200, 1 << 20):
        raise ResourceError(
            "as many pixels as the file can hold",
            found=f"{frame_bytes * frames / 1e6:.0f} MB declared in {size / 1e6:.2f} MB",
            remedy="make sure that this is a CT and not a damaged or hostile file",
            where=item,
        )
    shared = _first(dataset.get("SharedFunctionalGroupsSequence"))
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if frames > 1 and len(groups) != frames:
        raise _refuse(f"the places of {frames} frames", f"those of {len(groups)}", item)
    padding = dataset.get("PixelPaddingValue")
    limit = dataset.get("PixelPaddingRangeLimit", padding)
    signed = bool(dataset.get("PixelRepresentation", 0))
    bounds = None if padding is None else sorted((_fit(padding, signed), _fit(limit, signed)))
    for frame in range(frames):
        own = groups[frame] if groups else None

        def of(group: str, name: str, own: Any = own) -> Any:
            """A value of this frame, of all frames, or of the image."""
            for level in (own, shared):
                inner = _first(level.get(group)) if level is not None else None
                if inner is not None and inner.get(name) is not None:
                    return inner.get(name)
            return dataset.get(name)

        spacing = of("PixelMeasuresSequence", "PixelSpacing")
        imager = not spacing and bool(dataset.get("ImagerPixelSpacing"))
        slope = of("PixelValueTransformationSequence", "RescaleSlope")
        yield Slice(
            item=item,
            frame=frame,
            uid=str(dataset.get("SOPInstanceUID") or ""),
            study=str(dataset.get("StudyInstanceUID") or ""),
            series=str(dataset.get("SeriesInstanceUID") or ""),
            patient=f"{dataset.get('PatientID', '')} {dataset.get('PatientName', '')}",
            series_number=int(dataset.get("SeriesNumber") or 0),
            image_type=tuple(str(t).strip().upper() for t in _many(dataset.get("ImageType"))),
            position_mm=_numbers(of("PlanePositionSequence", "ImagePositionPatient"), 3),
            cosines=_cosines(
                _numbers(of("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
            ),
            spacing_mm=_spacing(spacing or dataset.get("ImagerPixelSpacing")),
            imager_spacing=imager,
            thickness_mm=float(of("PixelMeasuresSequence", "SliceThickness") or 0),
            shape=(rows, columns),
            bits=(allocated, stored),
            signed=signed,
            slope=1.0 if slope is None else float(slope),
            inter=float(of("PixelValueTransformationSequence", "RescaleIntercept") or 0),
            padding=None if bounds is None else (bounds[0], bounds[1]),
            inverted=dataset.get("PhotometricInterpretation") == "MONOCHROME1",
            syntax=syntax,
            raw_at=None if raw_at is None else raw_at + frame * frame_bytes,
            odd_preamble=odd_preamble,
        )


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _many(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value or [])


def _numbers(value: Any, count: int) -> NDArray[np.float64] | None:
    """So many finite numbers, or None."""
    if value is None or len(_many(value)) != count:
        return None
    numbers = np.array([float(v) for v in value])
    return numbers if np.isfinite(numbers).all() else None


def _cosines(numbers: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Two directions at right angles of length 1, as well as text holds them; else None."""
    if numbers is None:
        return None
    cosines = numbers.reshape(2, 3)
    if np.abs(cosines @ cosines.T - np.eye(2)).max() > 1e-3:
        return None
    row = cosines[0] / np.linalg.norm(cosines[0])
    column = cosines[1] - (cosines[1] @ row) * row
    return np.stack([row, column / np.linalg.norm(column)])


def _spacing(value: Any) -> tuple[float, float] | None:
    numbers = _numbers(value, 2)
    if numbers is None or numbers.min() <= 0:
        return None
    return float(numbers[0]), float(numbers[1])


def _fit(value: Any, signed: bool) -> int:
    """A padding value, which some write unsigned beside signed pixels (PS3.3 C.7.5.1.1.2)."""
    if isinstance(value, bytes):
        return int.from_bytes(value[:2], "little", signed=signed)
    number = int(value)
    return number - 65536 if signed and number > 32767 else number


def _refuse(expected: str, found: str, item: Item) -> InputError:
    return InputError(expected, found=found, remedy="export the CT again", where=item)
