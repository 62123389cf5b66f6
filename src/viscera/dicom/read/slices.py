"""Slices: what a CT image's header says of its place and its numbers, pixels left in the file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.dicom.read.files import SourceFile, begins_as_dicom, check_no_archive
from viscera.dicom.read.header import DicomHeader, read_header
from viscera.dicom.read.header_values import (
    HIGHEST_VALUE,
    FrameValues,
    optional_numbers,
    parse_cosines,
    parse_padding,
    parse_spacing,
    parse_vector,
)
from viscera.errors import InputError, ResourceError, VisceraError, option

# CT Image, Enhanced CT Image, Legacy Converted Enhanced CT Image (PS3.4 B.5).
CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)
# By what pictures at one place differ, the plainest first.
DISTINGUISHING = (
    "AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex",
    "NominalPercentageOfCardiacPhase", "ConvolutionKernel", "KVP", "TriggerTime", "FilterType",
    "ReconstructionDiameter", "AcquisitionTime",
)  # fmt: skip
CHANGES_BY_NATURE = ("AcquisitionTime", "TriggerTime", "AcquisitionNumber")  # slice by slice
_KEYWORDS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber",
    "FrameOfReferenceUID", "PatientID", "PatientName", "Modality", "ImageType", "SliceThickness",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing",
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleType", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    *DISTINGUISHING,
)  # fmt: skip
NO_DICOM = "no DICOM"
_REMEDY = f"export it again, or pass {option('allow_bad_slices', True)} to leave it out"


@dataclass(frozen=True, eq=False)
class CtSlice:
    """One CT image, or one frame of a multi-frame one.

    Attributes:
        file: where it lies.
        frame, frames: which frame of how many in it.
        uid, study, series, frame_of_reference: UIDs of the image and of what it belongs to.
        sop_class: SOP Class UID.
        patient: tells patients apart; never shown.
        series_number: for the list of series.
        image_type: such as ORIGINAL, PRIMARY, AXIAL.
        position_mm: (3,) of its first pixel's centre in DICOM's LPS; None where absent.
        cosines: (2, 3) directions of a row and of a column; None where absent.
        spacing_mm: between rows and between columns; None where absent.
        imager_spacing: the spacing is that of the detector, for want of another.
        thickness_mm: nominal; 0 where absent.
        shape: rows and columns.
        bits: allocated, stored, and the highest stored one, counted from 0.
        signed: two's complement.
        slope, inter: HU is ``value * slope + inter``.
        rescaled: the image says so; else stored values are taken for HU.
        padding: lowest and highest stored value that are not measurements.
        inverted: MONOCHROME1: the lowest value is white.
        syntax: transfer syntax UID.
        raw_offset: first byte of the frame where it is not compressed; else None.
        odd_preamble: the file's first bytes are those of a program.
        rescale_type: what rescaled values are (PS3.3 C.11.1.1.2); empty where it does not say.
        distinguishing: values of `DISTINGUISHING`, as texts.
    """

    file: SourceFile
    frame: int
    frames: int
    uid: str
    sop_class: str
    study: str
    series: str
    frame_of_reference: str
    patient: str
    series_number: int
    image_type: tuple[str, ...]
    position_mm: NDArray[np.float64] | None
    cosines: NDArray[np.float64] | None
    spacing_mm: tuple[float, float] | None
    imager_spacing: bool
    thickness_mm: float
    shape: tuple[int, int]
    bits: tuple[int, int, int]
    signed: bool
    slope: float
    inter: float
    rescaled: bool
    padding: tuple[int, int] | None
    inverted: bool
    syntax: str
    raw_offset: int | None
    odd_preamble: bool
    rescale_type: str = ""
    distinguishing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FileContent:
    """What one file holds.

    Attributes:
        slices: its CT images.
        kind: CT, another modality such as MR, "DICOM" where it does not say, or "no DICOM".
        series: Series Instance UID, where it could be read.
        damage: why it is DICOM and cannot be read.
    """

    slices: tuple[CtSlice, ...] = ()
    kind: str = NO_DICOM
    series: str = ""
    damage: VisceraError | None = None


def read_file(file: SourceFile) -> FileContent:
    """The CT images of one file, or what it is instead; damage is part of the answer.

    Whether damage matters depends on the series that is taken.
    """
    header: DicomHeader | None = None
    try:
        head = file.head()
        if not begins_as_dicom(head):
            check_no_archive(file, head)
            return FileContent()
        with file.open() as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values we do not use
            header = read_header(stream, _KEYWORDS, where=file)
            sop_class = header.text("SOPClassUID") or header.sop_class
            if not (sop_class or header.values):
                if head[128:132] != b"DICM":
                    return FileContent()  # something else that begins alike
                raise InputError(
                    "a DICOM data set",
                    found="none: the file is cut off",
                    remedy=_REMEDY,
                    where=file,
                )
            series = header.text("SeriesInstanceUID")
            # Some anonymisers blank the class; they leave what the image is.
            if sop_class not in CT_CLASSES and (sop_class or header.text("Modality") != "CT"):
                return FileContent(kind=header.text("Modality")[:16] or "DICOM", series=series)
            if not header.values.get("Rows"):
                raise InputError(
                    "a CT image", found="none: the file ends before it", remedy=_REMEDY, where=file
                )
            odd_preamble = head[:2] == b"MZ" or head[:4] == b"\x7fELF"
            slices = tuple(_slices(file, header, odd_preamble=odd_preamble))
            return FileContent(slices, "CT", series)
    except (InputError, ResourceError) as error:
        damage: VisceraError = error
    except OSError as error:
        damage = InputError(
            "a readable file",
            found=error.strerror or str(error),
            remedy="copy it again",
            where=file,
        )
    except Exception as error:  # pydicom lets many kinds through, RecursionError among them
        damage = InputError(
            "a readable DICOM file",
            found=f"damage ({type(error).__name__})",
            remedy=_REMEDY,
            where=file,
        )
    return FileContent((), "CT", header.text("SeriesInstanceUID") if header else "", damage)


def patient_key(header: DicomHeader) -> str:
    """The patient's ID; without one the name. Empty components and capitals do not count.

    One scanner writes ``A^B``, an archive on the way ``A^B^^^`` (PS3.5 6.2.1.2): one patient.
    """
    identifier = header.text("PatientID").strip()
    name = header.text("PatientName").split("=")[0]
    return identifier or "^".join(part.strip() for part in name.split("^")).rstrip("^").casefold()


def _slices(file: SourceFile, header: DicomHeader, *, odd_preamble: bool) -> Iterator[CtSlice]:
    rows, columns = header.integer("Rows"), header.integer("Columns")
    frames = int((header.numbers("NumberOfFrames") or (1,))[0])
    allocated, stored = header.integer("BitsAllocated"), header.integer("BitsStored")
    if allocated not in (8, 16, 32) or header.integer("SamplesPerPixel", 1) != 1:
        raise InputError(
            "one channel of 8, 16 or 32 bits",
            found=f"{allocated} bits or colour",
            remedy=_REMEDY,
            where=file,
        )
    high = header.integer("HighBit", stored - 1)
    if not 0 < stored <= high + 1 <= allocated or min(rows, columns, frames) < 1:
        raise InputError(
            "at least one pixel",
            found=f"{rows} x {columns}, {stored} bits stored",
            remedy=_REMEDY,
            where=file,
        )
    if header.empty:
        raise InputError("pixels", found="none in the file", remedy=_REMEDY, where=file)
    frame_bytes = rows * columns * allocated // 8
    size = file.stamp[0]
    if frame_bytes * frames > max(size * 200, 1 << 20):
        raise ResourceError(
            "as many pixels as the file can hold",
            found=f"{frame_bytes * frames / 1e6:.0f} MB declared in {size / 1e6:.2f} MB",
            remedy="make sure that this is a CT and not a damaged or hostile file",
            where=file,
        )
    shared = (header.values.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = header.values.get("PerFrameFunctionalGroupsSequence") or []
    if frames > 1 and len(groups) != frames:
        raise InputError(
            f"the places of {frames} frames",
            found=f"those of {len(groups)}",
            remedy=_REMEDY,
            where=file,
        )
    signed = bool(header.integer("PixelRepresentation"))
    detector_mm = parse_spacing(optional_numbers(header, "ImagerPixelSpacing"))
    thickness = optional_numbers(header, "SliceThickness")
    for frame in range(frames):
        frame_values = FrameValues(header, groups[frame] if groups else None, shared).numbers
        spacing_mm = parse_spacing(frame_values("PixelMeasuresSequence", "PixelSpacing"))
        slope = frame_values("PixelValueTransformationSequence", "RescaleSlope")
        inter = frame_values("PixelValueTransformationSequence", "RescaleIntercept")
        if not all(abs(number) < HIGHEST_VALUE for number in (*slope, *inter)) or 0.0 in slope:
            raise InputError(
                "a finite RescaleSlope and RescaleIntercept",
                found="none that can be used",
                remedy=_REMEDY,
                where=file,
            )
        yield CtSlice(
            file=file,
            frame=frame,
            frames=frames,
            uid=header.text("SOPInstanceUID"),
            sop_class=header.text("SOPClassUID"),
            study=header.text("StudyInstanceUID"),
            series=header.text("SeriesInstanceUID"),
            frame_of_reference=header.text("FrameOfReferenceUID"),
            patient=patient_key(header),
            series_number=int((optional_numbers(header, "SeriesNumber") or (0,))[0]),
            image_type=tuple(kind.upper() for kind in header.texts("ImageType")),
            position_mm=parse_vector(
                frame_values("PlanePositionSequence", "ImagePositionPatient"), 3
            ),
            cosines=parse_cosines(
                frame_values("PlaneOrientationSequence", "ImageOrientationPatient")
            ),
            spacing_mm=spacing_mm or detector_mm,
            imager_spacing=not spacing_mm and detector_mm is not None,
            thickness_mm=(
                frame_values("PixelMeasuresSequence", "SliceThickness", thickness) or (0.0,)
            )[0],
            shape=(rows, columns),
            bits=(allocated, stored, high),
            signed=signed,
            slope=slope[0] if slope else 1.0,
            inter=inter[0] if inter else 0.0,
            rescaled=bool(inter),
            padding=parse_padding(header, signed=signed),
            inverted=header.text("PhotometricInterpretation") == "MONOCHROME1",
            syntax=header.syntax,
            raw_offset=header.pixels_offset and header.pixels_offset + frame * frame_bytes,
            odd_preamble=odd_preamble,
            rescale_type=_rescale_type(header, shared),
            distinguishing=tuple(_text(header, keyword) for keyword in DISTINGUISHING),
        )


def _text(header: DicomHeader, keyword: str) -> str:
    return header.text(keyword)[:64]


def _rescale_type(header: DicomHeader, shared: Any) -> str:
    """What rescaled values are, by the image or by what all its frames share."""
    groups = shared.get("PixelValueTransformationSequence") if shared is not None else None
    of_frames = str(groups[0].get("RescaleType") or "") if groups else ""
    return (header.text("RescaleType") or of_frames).upper()
