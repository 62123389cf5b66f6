"""DICOM SEG: the labels on the source's own slices, as viewers and archives want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from viscera._version import __version__
from viscera.core.organs import LATERALITY_CODES, Organ
from viscera.core.volume import Labels, Volume
from viscera.dicom.read.slices import CT_CLASSES
from viscera.dicom.read.stack import SliceStack
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
from viscera.errors import InputError, UsageError, option
from viscera.runtime.extras import require_extra


def check_seg_source(volume: Volume) -> SliceStack:
    """The slices of a volume that a SEG can refer to: several images, or the frames of one.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: no UIDs, several images of several frames each, or no highdicom.
    """
    stack = check_references(volume)
    require_extra("highdicom", where=stack.slices[0].file)
    files = len({ct_slice.file for ct_slice in stack.slices})
    if files > 1 and any(ct_slice.sop_class != CT_CLASSES[0] for ct_slice in stack.slices):
        raise InputError(
            "one multi-frame image, or images of one frame, for a DICOM SEG",
            found=f"{files} multi-frame images",
            remedy=f"choose {option('output_types', 'dicom_rtstruct')}, nifti or seg_nrrd",
            where=stack.slices[0].file,
        )
    return stack


def require_codes(organs: Sequence[Organ]) -> None:
    """Refuse structures without a code: a segment says by codes what it is (PS3.3 C.8.20.2).

    Raises:
        UsageError: a structure has none.
    """
    without = [organ.name for organ in organs if organ.snomed is None]
    if without:
        more = f" and {len(without) - 5} more" if len(without) > 5 else ""
        raise UsageError(
            "a SNOMED CT code of every structure, for a DICOM SEG",
            found=f"none of {', '.join(without[:5])}{more}",
            remedy="add snomed and meaning to their [[structures]] in bundle.toml, or choose "
            f"{option('output_types', 'dicom_rtstruct')}, nifti or seg_nrrd",
        )


def seg_dataset(
    labels: Labels, source: Volume, organs: Sequence[Organ], *, labelmap: bool = False
) -> Any:
    """The labels as a DICOM Segmentation object (PS3.3 A.51), a pydicom data set.

    Args:
        labels: [i, j, k] uint8 on the grid of the volume.
        source: the volume, read from a DICOM series.
        organs: those that the network can find; absent ones stay empty.
        labelmap: the newer form, one number a pixel, instead of one bit plane an organ.

    Raises:
        UsageError: the scan was no DICOM series, or a structure has no code.
        InputError: see `check_seg_source`.
    """
    stack = check_seg_source(source)
    require_codes(organs)
    import highdicom
    from pydicom.uid import generate_uid

    in_utf8 = has_other_letters(organs)
    sources = [
        read_reference_header(ct_slice, in_utf8=in_utf8)
        for ct_slice in {ct_slice.file: ct_slice for ct_slice in stack.slices}.values()
    ]
    label, description = content_label(organs), series_description(organs)
    values = labels_on_slices(stack, labels)
    organs = present_organs(organs, labels_present(values))
    table = np.zeros(256, dtype=np.uint8)
    table[[organ.id for organ in organs]] = range(1, len(organs) + 1)
    pixels = table[_frame_order(stack, values)]
    if len(sources) > 1 and not pixels.any():
        sources, pixels = sources[:1], pixels[:1]  # one empty frame a segment, not one a slice
    kind = highdicom.seg.SegmentationTypeValues
    try:
        dataset = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=kind.LABELMAP if labelmap else kind.BINARY,
            segment_descriptions=[
                _segment_description(n + 1, organ) for n, organ in enumerate(organs)
            ],
            series_instance_uid=generate_uid(),
            series_number=9000,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="viscera",
            manufacturer_model_name="viscera",
            software_versions=__version__,
            device_serial_number="0",
            content_label=label,
            content_description=description.removeprefix("viscera ").capitalize(),
            series_description=description,
        )
        if in_utf8:  # highdicom before 0.28 leaves this to the source
            dataset.SpecificCharacterSet = sources[0].SpecificCharacterSet
        return dataset
    except Exception as error:  # whose words may quote the patient's header
        raise InputError(
            "headers that a DICOM SEG can be made of",
            found=f"some that break the standard ({type(error).__name__})",
            remedy=f"choose {option('output_types', 'dicom_rtstruct')}, nifti or seg_nrrd",
            where=stack.slices[0].file,
        ) from None


def _frame_order(stack: SliceStack, values: Labels) -> Labels:
    """Labels in the order of the images, or of the frames of the only one."""
    slices = stack.slices
    if slices[0].sop_class == CT_CLASSES[0]:
        return values
    ordered = np.zeros((slices[0].frames, *values.shape[1:]), dtype=np.uint8)
    ordered[[ct_slice.frame for ct_slice in slices]] = values
    return ordered


def _segment_description(number: int, organ: Organ) -> Any:
    """One segment: what it is, on which side, in which colour, and what found it."""
    import highdicom
    from pydicom.sr.codedict import codes

    assert organ.snomed is not None  # see `require_codes`

    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=organ.title[:64],  # (PS3.5 6.2, LO)
        segmented_property_category=_snomed_concept(*organ.category),
        segmented_property_type=_snomed_concept(organ.snomed, organ.structure),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="viscera", version=__version__, family=codes.cid7162.ArtificialIntelligence
        ),
        tracking_id=organ.name,
        tracking_uid=highdicom.UID(),
        display_color=highdicom.color.CIELabColor.from_rgb(*organ.colour),
    )
    if organ.laterality is not None:
        kind = described.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [
            _snomed_concept(*LATERALITY_CODES[organ.laterality])
        ]
    return described


def _snomed_concept(value: str, meaning: str) -> Any:
    """A code of SNOMED CT."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, "SCT", meaning)
