"""The types of output: how each is written, and what it needs of the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from viscera.core.organs import Organ
from viscera.core.volume import Labels, Volume
from viscera.errors import UsageError
from viscera.io.dicom_files import (
    check_dicom_rtstruct,
    check_dicom_seg,
    write_dicom_rtstruct,
    write_dicom_seg,
    write_dicom_seg_labelmap,
)
from viscera.io.seg_nrrd import write_seg_nrrd
from viscera.io.write import write_labels


class LabelWriter(Protocol):
    """Writes labels to a file."""

    def __call__(
        self,
        path: Path,
        labels: Labels,
        source: Volume,
        organs: Sequence[Organ],
        *,
        overwrite: bool,
    ) -> None:
        """Write labels [i, j, k] of these organs in a scan; see `write_labels`."""
        ...


class SourceCheck(Protocol):
    """Raises where results of a type cannot be made from a scan."""

    def __call__(self, volume: Volume) -> object:
        """Check the scan that is to be segmented."""
        ...


def _accept(volume: Volume) -> None:
    """Results of this type can be made from any scan."""


@dataclass(frozen=True)
class OutputType:
    """A type of output.

    Attributes:
        suffix: what follows the label map's stem.
        write: writes labels to a file.
        check: raises where results of this type cannot be made from a scan.
    """

    suffix: str
    write: LabelWriter
    check: SourceCheck = _accept


OUTPUT_TYPES = {
    "nifti": OutputType(".nii.gz", write_labels),
    "dicom_seg": OutputType("_seg.dcm", write_dicom_seg, check_dicom_seg),
    "dicom_rtstruct": OutputType("_rtstruct.dcm", write_dicom_rtstruct, check_dicom_rtstruct),
    "seg_nrrd": OutputType(".seg.nrrd", write_seg_nrrd),
}
# DICOM SEG in its newer form, one number a pixel instead of one bit plane an organ.
SEG_LABELMAP = OutputType("_seg.dcm", write_dicom_seg_labelmap, check_dicom_seg)
_TYPES_BY_SUFFIX = {".seg.nrrd": "seg_nrrd", ".dcm": "dicom_seg"}


def write_output(
    path: Path,
    labels: Labels,
    source: Volume,
    organs: Sequence[Organ],
    *,
    output_type: str | None = None,
    signature: str = "viscera",
    overwrite: bool = False,
) -> None:
    """Write labels in one of `OUTPUT_TYPES`.

    Args:
        path: the file.
        labels: [i, j, k] uint8.
        source: the scan; a DICOM series for the two types of DICOM.
        organs: those that the network can find; absent ones stay empty.
        output_type: by the name where not given: .seg.nrrd, .dcm for dicom_seg, else nifti.
        signature: what made it, kept in the header of a NIfTI.
        overwrite: replace an existing file.

    Raises:
        UsageError: no such type, or DICOM from another kind of scan.
        InputError: a series without the UIDs that DICOM results need.
        MissingExtraError: a package of the extra `dicom` is not installed.
        OutputError: not writable, or the file exists.
    """
    if output_type is None:
        name = path.name.lower()
        matches = (kind for suffix, kind in _TYPES_BY_SUFFIX.items() if name.endswith(suffix))
        output_type = next(matches, "nifti")
    if output_type not in OUTPUT_TYPES:
        raise UsageError(
            "an output type among " + ", ".join(OUTPUT_TYPES),
            found=repr(output_type),
            remedy="choose another",
        )
    if output_type == "nifti":  # the only type with a place for the signature
        write_labels(path, labels, source, organs, signature=signature, overwrite=overwrite)
        return
    OUTPUT_TYPES[output_type].write(path, labels, source, organs, overwrite=overwrite)
