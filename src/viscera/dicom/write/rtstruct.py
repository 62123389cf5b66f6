"""RTSTRUCT: the labels as contours on the source's own slices, as planning systems want them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera._version import __version__
from viscera.core.organs import LATERALITY_CODES, SNOMED_CATEGORY, Organ
from viscera.core.volume import Labels, Volume
from viscera.dicom.read.slices import CtSlice
from viscera.dicom.read.stack import SliceStack
from viscera.dicom.write.contours import Polygon, closed_contours
from viscera.dicom.write.references import (
    check_references,
    content_label,
    has_other_letters,
    labels_on_slices,
    labels_present,
    present_organs,
    read_reference_header,
    series_description,
)
from viscera.runtime.extras import require_extra

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # what PS3.3 C.8.8.5 asks for, retired as it is
_COPIED = (
    "SpecificCharacterSet", "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName", "StudyDescription", "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)  # fmt: skip


def check_rtstruct_source(volume: Volume) -> SliceStack:
    """The slices of a volume that contours can lie on.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: it has no UIDs, or contourpy is not installed.
    """
    stack = check_references(volume)
    require_extra("contourpy", where=stack.slices[0].file)
    return stack


def rtstruct_dataset(labels: Labels, source: Volume, organs: Sequence[Organ]) -> Any:
    """The labels as a DICOM RT Structure Set (PS3.3 A.19), a pydicom data set.

    It is written with implicit VR, since a contour's text may outgrow the 64 kB of explicit ones.

    Args:
        labels: [i, j, k] uint8 on the grid of the volume.
        source: the volume, read from a DICOM series.
        organs: those that the network can find; absent ones stay empty.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: see `check_rtstruct_source`.
    """
    from pydicom.uid import RTStructureSetStorage, generate_uid

    stack = check_rtstruct_source(source)
    header = read_reference_header(stack.slices[0], in_utf8=has_other_letters(organs))
    values = labels_on_slices(stack, labels)
    present = labels_present(values)
    organs = present_organs(organs, present)
    now = datetime.now()
    data = _dataset(**{keyword: header[keyword].value for keyword in _COPIED if keyword in header})
    data.update(
        _dataset(
            SOPClassUID=RTStructureSetStorage,
            SOPInstanceUID=generate_uid(),
            InstanceCreationDate=now.strftime("%Y%m%d"),
            InstanceCreationTime=now.strftime("%H%M%S"),
            Modality="RTSTRUCT",
            SeriesInstanceUID=generate_uid(),
            SeriesNumber=9001,
            SeriesDescription=series_description(organs),
            OperatorsName=None,
            InstanceNumber=1,
            Manufacturer="viscera",
            ManufacturerModelName="viscera",
            SoftwareVersions=__version__,
            StructureSetLabel=content_label(organs),
            StructureSetName=series_description(organs),
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


def _referenced(stack: SliceStack) -> Any:
    """The study, the series and the images that the contours lie on."""
    first = stack.slices[0]
    images = {ct_slice.uid: ct_slice for ct_slice in stack.slices}.values()
    series = _dataset(
        SeriesInstanceUID=first.series,
        ContourImageSequence=[_image(ct_slice, frame=False) for ct_slice in images],
    )
    study = _dataset(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=first.study,
        RTReferencedSeriesSequence=[series],
    )
    return _dataset(FrameOfReferenceUID=first.frame_of_reference, RTReferencedStudySequence=[study])


def _image(ct_slice: CtSlice, *, frame: bool = True) -> Any:
    """A reference to an image, or to one frame of it."""
    data = _dataset(ReferencedSOPClassUID=ct_slice.sop_class, ReferencedSOPInstanceUID=ct_slice.uid)
    if frame and ct_slice.frames > 1:
        data.ReferencedFrameNumber = ct_slice.frame + 1
    return data


def _roi(organ: Organ, stack: SliceStack) -> Any:
    return _dataset(
        ROINumber=organ.id,
        ReferencedFrameOfReferenceUID=stack.slices[0].frame_of_reference,
        ROIName=organ.name,
        ROIDescription=organ.title,
        ROIGenerationAlgorithm="AUTOMATIC",
        ROIGenerationDescription=f"viscera {__version__}",
    )


def _observation(organ: Organ) -> Any:
    """What the region is, by its code and side where it has a code."""
    is_anatomy = organ.category == SNOMED_CATEGORY
    observation = _dataset(
        ObservationNumber=organ.id,
        ReferencedROINumber=organ.id,
        ROIObservationLabel=organ.title[:16],
        RTROIInterpretedType="ORGAN" if is_anatomy else None,
        ROIInterpreter=None,
    )
    if organ.snomed is not None:
        kind = _code(organ.snomed, organ.structure)
        if organ.laterality is not None:
            kind.SegmentedPropertyTypeModifierCodeSequence = [
                _code(*LATERALITY_CODES[organ.laterality])
            ]
        observation.SegmentedPropertyCategoryCodeSequence = [_code(*organ.category)]
        observation.RTROIIdentificationCodeSequence = [kind]
    return observation


def _code(value: str, meaning: str) -> Any:
    """A code of SNOMED CT."""
    return _dataset(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)


def _contours(
    stack: SliceStack, values: Labels, present: NDArray[np.bool_], organs: tuple[Organ, ...]
) -> list[Any]:
    """A region an organ: all its contours, slice by slice.

    Args:
        stack: the slices.
        values: [slice, row, column] labels on them.
        present: [slice, 256] which labels are on each.
        organs: in the order of the regions.
    """
    contours_of: dict[int, list[Any]] = defaultdict(list)
    for plane, ct_slice, labels_here in zip(values, stack.slices, present, strict=True):
        for organ in organs:
            if labels_here[organ.id]:
                polygons = closed_contours(plane == organ.id)
                contours_of[organ.id] += [_contour(polygon, ct_slice) for polygon in polygons]
    regions = []
    for organ in organs:
        region = _dataset(ROIDisplayColor=list(organ.colour), ReferencedROINumber=organ.id)
        if contours_of[organ.id]:
            region.ContourSequence = contours_of[organ.id]
        regions.append(region)
    return regions


def _contour(polygon: Polygon, ct_slice: CtSlice) -> Any:
    """A polygon on a slice, in the patient's millimetres (PS3.3 C.7.6.2.1.1)."""
    from pydicom.dataelem import DataElement

    assert ct_slice.position_mm is not None
    assert ct_slice.cosines is not None
    assert ct_slice.spacing_mm is not None
    between_rows, between_columns = ct_slice.spacing_mm
    points_mm = (
        ct_slice.position_mm + (polygon * (between_columns, between_rows)) @ ct_slice.cosines
    )
    data = _dataset(
        ContourImageSequence=[_image(ct_slice)],
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points_mm),
    )
    # One text, since a number object each would take most of the time.
    text = "\\".join(f"{number:.4f}" for number in points_mm.ravel().tolist())
    data["ContourData"] = DataElement("ContourData", "DS", text, already_converted=True)
    return data
