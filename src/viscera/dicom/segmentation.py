"""DICOM SEG: the labels on the source's own slices, as viewers and archives want them."""

from __future__ import annotations

from typing import Any

import numpy as np

from viscera import __version__
from viscera.dicom.extra import need
from viscera.dicom.slices import CT_CLASSES
from viscera.dicom.sources import (
    check_source,
    labels_by_slice,
    on_slices,
    organs_found,
    read_source,
)
from viscera.dicom.stack import Stack
from viscera.errors import InputError
from viscera.organs import CATEGORY, SIDES, Organ
from viscera.segmentation import Segmentation
from viscera.volume import Labels, Volume


def check_one_image(volume: Volume) -> Stack:
    """The slices of a volume that a SEG can refer to: several images, or the frames of one.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: no UIDs, several images of several frames each, or no highdicom.
    """
    stack = check_source(volume)
    need("highdicom", where=stack.slices[0].item)
    files = len({one.item for one in stack.slices})
    if files > 1 and any(one.sop_class != CT_CLASSES[0] for one in stack.slices):
        raise InputError(
            "one multi-frame image, or images of one frame, for a DICOM SEG",
            found=f"{files} multi-frame images",
            remedy="choose --output-type dicom_rtstruct, nifti or seg_nrrd",
            where=stack.slices[0].item,
        )
    return stack


def segmentation_dataset(segmentation: Segmentation, *, labelmap: bool = False) -> Any:
    """The labels as a DICOM Segmentation object (PS3.3 A.51), a pydicom data set.

    Args:
        segmentation: of a DICOM series.
        labelmap: the newer form, one number a pixel, instead of one bit plane an organ.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: see `check_one_image`.
    """
    stack = check_one_image(segmentation.volume)
    import highdicom
    from pydicom.uid import generate_uid

    sources = [read_source(one) for one in {one.item: one for one in stack.slices}.values()]
    values = on_slices(stack, segmentation.labels)
    organs = organs_found(segmentation, labels_by_slice(values))
    table = np.zeros(256, dtype=np.uint8)
    table[[organ.id for organ in organs]] = range(1, len(organs) + 1)
    pixels = table[_by_frame(stack, values)]
    if len(sources) > 1 and not pixels.any():
        sources, pixels = sources[:1], pixels[:1]  # one empty frame a segment, not one a slice
    kind = highdicom.seg.SegmentationTypeValues
    try:
        return highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
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
    except Exception as error:  # whose words may quote the patient's header
        raise InputError(
            "headers that a DICOM SEG can be made of",
            found=f"some that break the standard ({type(error).__name__})",
            remedy="choose --output-type dicom_rtstruct, nifti or seg_nrrd",
            where=stack.slices[0].item,
        ) from None


def _by_frame(stack: Stack, values: Labels) -> Labels:
    """Labels in the order of the images, or of the frames of the only one."""
    slices = stack.slices
    if slices[0].sop_class == CT_CLASSES[0]:
        return values
    ordered = np.zeros((slices[0].frames, *values.shape[1:]), dtype=np.uint8)
    ordered[[one.frame for one in slices]] = values
    return ordered


def _described(number: int, organ: Organ) -> Any:
    """One segment: what it is, on which side, in which colour, and what found it."""
    import highdicom
    from pydicom.sr.codedict import codes

    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=organ.title,
        segmented_property_category=_concept(*CATEGORY),
        segmented_property_type=_concept(organ.snomed, organ.structure),
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
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(*SIDES[organ.side])]
    return described


def _concept(value: str, meaning: str) -> Any:
    """A code of SNOMED CT."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, "SCT", meaning)
