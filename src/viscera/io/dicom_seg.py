"""Labels as a DICOM SEG file."""

from __future__ import annotations

from pathlib import Path

from viscera.dicom.segmentation import segmentation_dataset
from viscera.io.atomic import atomic_write
from viscera.volume import Segmentation


def write_dicom_seg(
    path: Path, segmentation: Segmentation, *, labelmap: bool = False, overwrite: bool = False
) -> None:
    """Write the labels of a DICOM series, see `segmentation_dataset`.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: it has no UIDs.
        OutputError: not writable, or the file exists.
    """
    dataset = segmentation_dataset(segmentation, labelmap=labelmap)
    with atomic_write(path, overwrite=overwrite) as file:
        dataset.save_as(file, enforce_file_format=True)
