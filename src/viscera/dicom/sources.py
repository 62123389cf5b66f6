"""What DICOM results refer to: the slices they lie on, and the headers they take over."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.dicom.slices import CT_CLASSES, Slice
from viscera.dicom.stack import Stack
from viscera.dicom.voxels import DicomVoxels
from viscera.errors import InputError, UsageError
from viscera.organs import Organ
from viscera.segmentation import Segmentation
from viscera.volume import Labels, Volume

# Type 2 of the modules that a result shares with its source (PS3.3 A.51.3, A.19.3): some sources
# lack them.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
_FORMS = {
    "PatientBirthDate": r"\d{8}",
    "StudyDate": r"\d{8}",
    "StudyTime": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
    "PatientSex": r"[MFO]",
}
# What results refer to, by keyword.
_REFERRED: dict[str, Callable[[Slice], str]] = {
    "SOPInstanceUID": lambda one: one.uid,
    "SOPClassUID": lambda one: one.sop_class,
    "StudyInstanceUID": lambda one: one.study,
    "SeriesInstanceUID": lambda one: one.series,
    "FrameOfReferenceUID": lambda one: one.frame_of_reference,
}


def check_source(volume: Volume) -> Stack:
    """The slices of a volume that DICOM results can refer to.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: its slices have no UIDs that one could refer to, or several frames of reference.
    """
    voxels = volume.voxels
    if not isinstance(voxels, DicomVoxels):
        raise UsageError(
            "a DICOM series for DICOM results",
            found="another kind of scan",
            remedy="leave --output-type out, or choose nifti or seg_nrrd",
        )
    slices = voxels.stack.slices
    places = {one.frame_of_reference for one in slices}
    missing = [name for name, value in _REFERRED.items() if not all(map(value, slices))]
    if missing:
        found = f"no {', '.join(missing)}"
    elif len(places) > 1:
        found = f"{len(places)} frames of reference"
    elif len({(one.uid, one.frame) for one in slices}) < len(slices):
        found = "several slices of one SOPInstanceUID"
    else:
        return voxels.stack
    raise InputError(
        "UIDs of study, series and slices and one frame of reference, which DICOM results refer to",
        found=found,
        remedy="choose --output-type nifti or seg_nrrd",
        where=slices[0].item,
    )


def on_slices(stack: Stack, labels: Labels) -> Labels:
    """Labels [slice, row, column] on the source's slices, from those [i, j, k] of the volume.

    A slice that lies between two planes of the volume takes the nearer one's.
    """
    first = stack.slices[0]
    assert first.cosines is not None
    normal = np.cross(first.cosines[0], first.cosines[1])
    step, origin = stack.affine.matrix[:3, 2:].T * (-1, -1, 1)  # RAS to LPS
    places = np.array([one.position_mm for one in stack.slices])
    planes = np.rint((places - origin) @ normal / (step @ normal)).astype(int)
    if np.array_equal(planes, np.arange(labels.shape[2])):
        return labels.T
    chosen: Labels = labels[..., np.clip(planes, 0, labels.shape[2] - 1)].T
    return np.ascontiguousarray(chosen)


def labels_by_slice(values: Labels) -> NDArray[np.bool_]:
    """[slice, 256] of each label, whether it is on a slice of these [slice, row, column]."""
    counts = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in values])
    return np.asarray(counts > 0)


def organs_found(segmentation: Segmentation, present: NDArray[np.bool_]) -> tuple[Organ, ...]:
    """The organs that are there; all that were looked for where none is.

    Args:
        segmentation: says which were looked for.
        present: [slice, 256] as `labels_by_slice` gives it.
    """
    anywhere = np.asarray(present.any(axis=0))
    found = tuple(organ for organ in segmentation.organs if anywhere[organ.id])
    return found or segmentation.organs


def read_source(one: Slice) -> Any:
    """The header of a slice's file as a pydicom data set, such that a result can take it over.

    What a result must have stands there, empty where the source lacks it or breaks its form (PS3.5
    6.2). Texts in several character sets, or in one that is not known, become UTF-8.
    """
    from pydicom import dcmread
    from pydicom.charset import python_encoding

    with one.item.open() as file:
        source = dcmread(file, stop_before_pixels=True, force=True)
    for keyword in _MAY_BE_EMPTY:
        if not _is_well_formed(source, keyword):
            setattr(source, keyword, None)
    named = source.get("SpecificCharacterSet", "ISO_IR 6")
    if not (isinstance(named, str) and named and named in python_encoding):
        source.decode()
        source.SpecificCharacterSet = "ISO_IR 192"
    if one.sop_class == CT_CLASSES[0]:
        source.SliceThickness = one.thickness_mm or None
        source.PixelSpacing = list(one.spacing_mm or ())
    return source


def _is_well_formed(source: Any, keyword: str) -> bool:
    """Whether a value is there and has the form that its kind demands."""
    if keyword not in source:
        return False
    value = str(source[keyword].value or "").strip()
    if not value or keyword not in _FORMS:
        return True
    if not re.fullmatch(_FORMS[keyword], value):
        return False
    with suppress(ValueError):
        return not keyword.endswith("Date") or bool(datetime.strptime(value, "%Y%m%d"))
    return False
