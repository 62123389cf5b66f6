"""RTSTRUCT: the labels as contours on the source's own slices, as planning systems want them."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera import __version__
from viscera.dicom.contours import Polygon, closed_contours
from viscera.dicom.extra import need
from viscera.dicom.slices import Slice
from viscera.dicom.sources import (
    check_source,
    labels_by_slice,
    on_slices,
    organs_found,
    read_source,
)
from viscera.dicom.stack import Stack
from viscera.organs import CATEGORY, SIDES, Organ
from viscera.segmentation import Segmentation
from viscera.volume import Labels, Volume

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # what PS3.3 C.8.8.5 asks for, retired as it is
_KEPT = (
    "SpecificCharacterSet", "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName", "StudyDescription", "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)  # fmt: skip


def check_contoured(volume: Volume) -> Stack:
    """The slices of a volume that contours can lie on.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: it has no UIDs, or contourpy is not installed.
    """
    stack = check_source(volume)
    need("contourpy", where=stack.slices[0].item)
    return stack


def structure_set_dataset(segmentation: Segmentation) -> Any:
    """The labels as a DICOM RT Structure Set (PS3.3 A.19), a pydicom data set.

    It is written with implicit VR, since a contour's text may outgrow the 64 kB of explicit ones.

    Args:
        segmentation: of a DICOM series.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: see `check_contoured`.
    """
    from pydicom.uid import RTStructureSetStorage, generate_uid

    stack = check_contoured(segmentation.volume)
    source = read_source(stack.slices[0])
    values = on_slices(stack, segmentation.labels)
    present = labels_by_slice(values)
    organs = organs_found(segmentation, present)
    now = datetime.now()
    data = _dataset(**{keyword: source[keyword].value for keyword in _KEPT if keyword in source})
    data.update(
        _dataset(
            SOPClassUID=RTStructureSetStorage,
            SOPInstanceUID=generate_uid(),
            InstanceCreationDate=now.strftime("%Y%m%d"),
            InstanceCreationTime=now.strftime("%H%M%S"),
            Modality="RTSTRUCT",
            SeriesInstanceUID=generate_uid(),
            SeriesNumber=9001,
            SeriesDescription="viscera abdominal organs",
            OperatorsName=None,
            InstanceNumber=1,
            Manufacturer="viscera",
            ManufacturerModelName="viscera",
            SoftwareVersions=__version__,
            StructureSetLabel="ORGANS",
            StructureSetName="viscera abdominal organs",
            StructureSetDate=now.strftime("%Y%m%d"),
            StructureSetTime=now.strftime("%H%M%S"),
            ApprovalStatus="UNAPPROVED",
            ReferencedFrameOfReferenceSequence=[_referenced(stack)],
            StructureSetROISequence=[_roi(organ, stack) for organ in organs],
            ROIContourSequence=_contours(stack, values, present, organs),
            RTROIObservationsSequence=[_observation(organ) for organ in organs],
        )
    )
    data.file_meta = _meta(data.SOPInstanceUID)
    return data


def _dataset(**values: Any) -> Any:
    """A pydicom data set of these elements."""
    from pydicom.dataset import Dataset

    data = Dataset()
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def _meta(uid: str) -> Any:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return meta


def _referenced(stack: Stack) -> Any:
    """The study, the series and the images that the contours lie on."""
    first = stack.slices[0]
    images = {one.uid: one for one in stack.slices}.values()
    series = _dataset(
        SeriesInstanceUID=first.series,
        ContourImageSequence=[_image(one, frame=False) for one in images],
    )
    study = _dataset(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=first.study,
        RTReferencedSeriesSequence=[series],
    )
    return _dataset(FrameOfReferenceUID=first.frame_of_reference, RTReferencedStudySequence=[study])


def _image(one: Slice, *, frame: bool = True) -> Any:
    """A reference to an image, or to one frame of it."""
    data = _dataset(ReferencedSOPClassUID=one.sop_class, ReferencedSOPInstanceUID=one.uid)
    if frame and one.frames > 1:
        data.ReferencedFrameNumber = one.frame + 1
    return data


def _roi(organ: Organ, stack: Stack) -> Any:
    return _dataset(
        ROINumber=organ.id,
        ReferencedFrameOfReferenceUID=stack.slices[0].frame_of_reference,
        ROIName=organ.name,
        ROIDescription=organ.title,
        ROIGenerationAlgorithm="AUTOMATIC",
        ROIGenerationDescription=f"viscera {__version__}",
    )


def _observation(organ: Organ) -> Any:
    """What the region is: an organ, by its code and side."""
    kind = _code(organ.snomed, organ.structure)
    if organ.side is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [_code(*SIDES[organ.side])]
    return _dataset(
        ObservationNumber=organ.id,
        ReferencedROINumber=organ.id,
        ROIObservationLabel=organ.title[:16],
        RTROIInterpretedType="ORGAN",
        ROIInterpreter=None,
        SegmentedPropertyCategoryCodeSequence=[_code(*CATEGORY)],
        RTROIIdentificationCodeSequence=[kind],
    )


def _code(value: str, meaning: str) -> Any:
    """A code of SNOMED CT."""
    return _dataset(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)


def _contours(
    stack: Stack, values: Labels, present: NDArray[np.bool_], organs: tuple[Organ, ...]
) -> list[Any]:
    """A region an organ: all its contours, slice by slice.

    Args:
        stack: the slices.
        values: [slice, row, column] labels on them.
        present: [slice, 256] which labels are on each.
        organs: in the order of the regions.
    """
    found: dict[int, list[Any]] = defaultdict(list)
    for plane, one, there in zip(values, stack.slices, present, strict=True):
        for organ in organs:
            if there[organ.id]:
                polygons = closed_contours(plane == organ.id)
                found[organ.id] += [_contour(polygon, one) for polygon in polygons]
    regions = []
    for organ in organs:
        region = _dataset(ROIDisplayColor=list(organ.colour), ReferencedROINumber=organ.id)
        if found[organ.id]:
            region.ContourSequence = found[organ.id]
        regions.append(region)
    return regions


def _contour(polygon: Polygon, one: Slice) -> Any:
    """A polygon on a slice, in the patient's millimetres (PS3.3 C.7.6.2.1.1)."""
    from pydicom.dataelem import DataElement

    assert one.position_mm is not None
    assert one.cosines is not None
    assert one.spacing_mm is not None
    between_rows, between_columns = one.spacing_mm
    points_mm = one.position_mm + (polygon * (between_columns, between_rows)) @ one.cosines
    data = _dataset(
        ContourImageSequence=[_image(one)],
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points_mm),
    )
    # One text, since a number object each would take most of the time.
    text = "\\".join(f"{number:.4f}" for number in points_mm.ravel().tolist())
    data["ContourData"] = DataElement("ContourData", "DS", text, already_converted=True)
    return data
