"""What DICOM results refer to: the slices they lie on, and the headers they take over."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.core.organs import ORGANS_BY_NAME, Organ
from viscera.core.volume import Labels, Volume
from viscera.dicom.read.slices import CT_CLASSES, CtSlice
from viscera.dicom.read.stack import SliceStack
from viscera.errors import InputError, UsageError, option

# Type 2 of the modules that a result shares with its source (PS3.3 A.51.3, A.19.3): some sources
# lack them.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
_VALUE_FORMS = {
    "PatientBirthDate": r"\d{8}",
    "StudyDate": r"\d{8}",
    "StudyTime": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
    "PatientSex": r"[MFO]",
}
# What results refer to, by keyword.
_REFERENCED: dict[str, Callable[[CtSlice], str]] = {
    "SOPInstanceUID": lambda ct_slice: ct_slice.uid,
    "SOPClassUID": lambda ct_slice: ct_slice.sop_class,
    "StudyInstanceUID": lambda ct_slice: ct_slice.study,
    "SeriesInstanceUID": lambda ct_slice: ct_slice.series,
    "FrameOfReferenceUID": lambda ct_slice: ct_slice.frame_of_reference,
}


def check_references(volume: Volume) -> SliceStack:
    """The slices of a volume that DICOM results can refer to.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: its slices have no UIDs that one could refer to, or several frames of reference.
    """
    stack = volume.slice_stack
    if not isinstance(stack, SliceStack):
        raise UsageError(
            "a DICOM series for DICOM results",
            found="another kind of scan",
            remedy=f"leave {option('output_types')} out, or choose nifti or seg_nrrd",
        )
    slices = stack.slices
    frames_of_reference = {ct_slice.frame_of_reference for ct_slice in slices}
    missing = [name for name, value in _REFERENCED.items() if not all(map(value, slices))]
    if missing:
        problem = f"no {', '.join(missing)}"
    elif len(frames_of_reference) > 1:
        problem = f"{len(frames_of_reference)} frames of reference"
    elif len({(ct_slice.uid, ct_slice.frame) for ct_slice in slices}) < len(slices):
        problem = "several slices of one SOPInstanceUID"
    else:
        return stack
    raise InputError(
        "UIDs of study, series and slices and one frame of reference, which DICOM results refer to",
        found=problem,
        remedy=f"choose {option('output_types', 'nifti')} or seg_nrrd",
        where=slices[0].file,
    )


def labels_on_slices(stack: SliceStack, labels: Labels) -> Labels:
    """Labels [slice, row, column] on the source's slices, from those [i, j, k] of the volume.

    A slice that lies between two planes of the volume takes the nearer one's.

    Args:
        stack: the source's slices.
        labels: [i, j, k] on the grid of the volume.
    """
    first = stack.slices[0]
    assert first.cosines is not None
    normal = np.cross(first.cosines[0], first.cosines[1])
    step, origin = stack.affine.matrix[:3, 2:].T * (-1, -1, 1)  # RAS to LPS
    positions = np.array([s.position_mm for s in stack.slices])
    planes = np.rint((positions - origin) @ normal / (step @ normal)).astype(int)
    if np.array_equal(planes, np.arange(labels.shape[2])):
        return labels.T
    chosen: Labels = labels[..., np.clip(planes, 0, labels.shape[2] - 1)].T
    return np.ascontiguousarray(chosen)


def labels_present(values: Labels) -> NDArray[np.bool_]:
    """[slice, 256] of each label, whether it is on a slice of these [slice, row, column]."""
    counts = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in values])
    return np.asarray(counts > 0)


def present_organs(organs: Sequence[Organ], present: NDArray[np.bool_]) -> tuple[Organ, ...]:
    """The organs that were found; all organs of the network where none was.

    Args:
        organs: those that the network can find.
        present: [slice, 256] as `labels_present` gives it.
    """
    anywhere = np.asarray(present.any(axis=0))
    return tuple(organ for organ in organs if anywhere[organ.id]) or tuple(organs)


def has_other_letters(organs: Sequence[Organ]) -> bool:
    """Whether names that people read need more than ASCII."""
    return not all(
        (organ.title + organ.structure + organ.category[1]).isascii() for organ in organs
    )


def series_description(organs: Sequence[Organ]) -> str:
    """What a result calls its series."""
    return "viscera abdominal organs" if _are_organs(organs) else "viscera structures"


def content_label(organs: Sequence[Organ]) -> str:
    """What a result calls its content."""
    return "ORGANS" if _are_organs(organs) else "STRUCTURES"


def _are_organs(organs: Sequence[Organ]) -> bool:
    return all(organ.name in ORGANS_BY_NAME for organ in organs)


def read_reference_header(ct_slice: CtSlice, *, in_utf8: bool = False) -> Any:
    """The header of a slice's file as a pydicom data set, such that a result can take it over.

    Elements that a result must have are there, empty where the source lacks them or breaks their
    form (PS3.5 6.2). Texts in several character sets, or in one that is not known, become UTF-8.

    Args:
        ct_slice: of that file.
        in_utf8: texts become UTF-8 in any case, for results with other letters.
    """
    from pydicom import dcmread
    from pydicom.charset import python_encoding

    with ct_slice.file.open() as file:
        source = dcmread(file, stop_before_pixels=True, force=True)
    for keyword in _MAY_BE_EMPTY:
        if not _is_well_formed(source, keyword):
            setattr(source, keyword, None)
    charset = source.get("SpecificCharacterSet", "ISO_IR 6")
    if in_utf8 or not (isinstance(charset, str) and charset and charset in python_encoding):
        source.decode()
        source.SpecificCharacterSet = "ISO_IR 192"
    if ct_slice.sop_class == CT_CLASSES[0]:
        source.SliceThickness = ct_slice.thickness_mm or None
        source.PixelSpacing = list(ct_slice.spacing_mm or ())
    return source


def _is_well_formed(source: Any, keyword: str) -> bool:
    """Whether a value is there and has the form that its VR requires."""
    if keyword not in source:
        return False
    value = str(source[keyword].value or "").strip()
    if not value or keyword not in _VALUE_FORMS:
        return True
    if not re.fullmatch(_VALUE_FORMS[keyword], value):
        return False
    with suppress(ValueError):
        return not keyword.endswith("Date") or bool(datetime.strptime(value, "%Y%m%d"))
    return False
