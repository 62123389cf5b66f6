"""DICOM SEG: the labels on the source's own slices, as viewers and archives want them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from viscera import __version__
from viscera.dicom.stack import Stack
from viscera.dicom.voxels import DicomVoxels
from viscera.errors import InputError, UsageError
from viscera.organs import Organ
from viscera.volume import Labels, Segmentation, Volume

# SNOMED CT, PS3.16 CID 7150 and 244.
_CATEGORY = ("123037004", "SCT", "Anatomical Structure")
_SIDES = {"right": ("24028007", "SCT", "Right"), "left": ("7771000", "SCT", "Left")}
# Type 2 of the modules that a result shares with its source (PS3.3 A.51.3): some sources lack them.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
_MEANINGS = {"64033007": "Kidney", "23451007": "Adrenal gland"}  # without their side


def check_source(volume: Volume) -> Stack:
    """The slices of a volume that DICOM results can refer to.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: its slices have no UIDs that one could refer to.
    """
    voxels = volume.voxels
    if not isinstance(voxels, DicomVoxels):
        raise UsageError(
            "a DICOM series for DICOM results",
            found="another kind of scan",
            remedy="leave --output-type out, or choose nifti or seg_nrrd",
        )
    first = voxels.stack.slices[0]
    if not all(one.uid for one in voxels.stack.slices) or not (first.study and first.series):
        raise InputError(
            "UIDs of study, series and slices, which DICOM results refer to",
            found="none: the series was anonymised without",
            remedy="choose --output-type nifti or seg_nrrd",
            where=first.item,
        )
    return voxels.stack


def on_slices(stack: Stack, labels: Labels) -> Labels:
    """Labels [slice, row, column] on the source's slices, from those [i, j, k] of the volume.

    A slice that lies between two planes of the volume takes the nearer one's.
    """
    step = stack.affine.matrix[:3, 2] * (-1, -1, 1)
    first = stack.slices[0]
    assert first.cosines is not None
    normal = np.cross(first.cosines[0], first.cosines[1])
    places = np.array([one.position_mm for one in stack.slices])
    planes = np.rint((places - places[0]) @ normal / (step @ normal)).astype(int)
    chosen: Labels = labels[..., np.clip(planes, 0, labels.shape[2] - 1)].T
    return np.ascontiguousarray(chosen)


def segmentation_dataset(segmentation: Segmentation, *, labelmap: bool = False) -> Any:
    """The labels as a DICOM Segmentation object (PS3.3 A.51), a pydicom data set.

    Args:
        segmentation: of a DICOM series.
        labelmap: the newer form, one number a pixel, instead of one bit plane an organ.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: it has no UIDs.
    """
    stack = check_source(segmentation.volume)
    import highdicom
    from pydicom import dcmread
    from pydicom.uid import generate_uid

    sources: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of patients' values that break rules, as they stand
        for one in stack.slices:
            if str(one.item) not in sources:
                with one.item.open() as file:
                    source = dcmread(file, stop_before_pixels=True, force=True)
                for keyword in _MAY_BE_EMPTY:
                    if keyword not in source:
                        setattr(source, keyword, None)
                sources[str(one.item)] = source
        values = on_slices(stack, segmentation.labels)
        organs = [o for o in segmentation.organs if (values == o.id).any()]
        organs = organs or list(segmentation.organs)
        table = np.zeros(256, dtype=np.uint8)
        table[[organ.id for organ in organs]] = range(1, len(organs) + 1)
        kind = highdicom.seg.SegmentationTypeValues
        return highdicom.seg.Segmentation(
            source_images=list(sources.values()),
            pixel_array=table[values],
            segmentation_type=kind.LABELMAP if labelmap else kind.BINARY,
            segment_descriptions=[_described(n + 1, organ) for n, organ in enumerate(organs)],
            series_instance_uid=generate_uid(),
            series_number=9000,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="viscera",
            manufacturer_model_name="viscera",
            software_versions=__version__,
            device_serial_number="0",
            content_label="ORGANS",
            content_description="Abdominal organs",
            series_description="viscera abdominal organs",
        )


def _described(number: int, organ: Organ) -> Any:
    """One segment: what it is, on which side, in which colour, and what found it."""
    import highdicom
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=organ.title,
        segmented_property_category=CodedConcept(*_CATEGORY),
        segmented_property_type=CodedConcept(
            organ.snomed, "SCT", _MEANINGS.get(organ.snomed, organ.title)
        ),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="viscera", version=__version__, family=codes.cid7162.ArtificialIntelligence
        ),
        tracking_id=organ.name,
        tracking_uid=highdicom.UID(),
        display_color=highdicom.color.CIELabColor.from_rgb(*organ.colour),
    )
    if organ.side is not None:
        kind = described.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept(*_SIDES[organ.side])]
    return described
