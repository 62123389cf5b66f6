"""The types of output: how each is written, and what it needs of the scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from viscera.dicom.segmentation import check_one_image
from viscera.dicom.structure_set import check_contoured
from viscera.errors import UsageError
from viscera.io.dicom_write import write_dicom_rtstruct, write_dicom_seg
from viscera.io.seg_nrrd import write_seg_nrrd
from viscera.io.write import write_labels
from viscera.segmentation import Segmentation
from viscera.volume import Volume


@dataclass(frozen=True)
class OutputType:
    """A type of output.

    Attributes:
        ending: what follows the label map's stem.
        write: takes a path, a segmentation and `overwrite`.
        check: raises where results of this type cannot be made from a volume.
    """

    ending: str
    write: Callable[..., None]
    check: Callable[[Volume], object] = lambda _volume: None


OUTPUT_TYPES = {
    "nifti": OutputType(".nii.gz", write_labels),
    "dicom_seg": OutputType("_seg.dcm", write_dicom_seg, check_one_image),
    "dicom_rtstruct": OutputType("_rtstruct.dcm", write_dicom_rtstruct, check_contoured),
    "seg_nrrd": OutputType(".seg.nrrd", write_seg_nrrd),
}


def write_segmentation(
    path: str | Path,
    segmentation: Segmentation,
    *,
    output_type: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write the labels in one of `OUTPUT_TYPES`.

    Args:
        path: the file.
        segmentation: of a DICOM series for the two types of DICOM.
        output_type: by the name where not given: .seg.nrrd, .dcm for dicom_seg, else nifti.
        overwrite: replace what stands there.

    Raises:
        UsageError: no such type, or DICOM from another kind of scan.
        InputError: a series without the UIDs that DICOM results need.
        OutputError: not writable, or the file exists.
    """
    path = Path(path)
    if output_type is None:
        endings = {".seg.nrrd": "seg_nrrd", ".dcm": "dicom_seg"}
        name = path.name.lower()
        output_type = next((t for e, t in endings.items() if name.endswith(e)), "nifti")
    if output_type not in OUTPUT_TYPES:
        raise UsageError(
            "an output type among " + ", ".join(OUTPUT_TYPES),
            found=repr(output_type),
            remedy="choose another",
        )
    OUTPUT_TYPES[output_type].write(path, segmentation, overwrite=overwrite)
