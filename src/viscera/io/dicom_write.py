"""Labels as DICOM files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from viscera.dicom.segmentation import segmentation_dataset
from viscera.dicom.structure_set import structure_set_dataset
from viscera.io.atomic import atomic_write
from viscera.segmentation import Segmentation


def write_dicom_seg(
    path: Path, segmentation: Segmentation, *, labelmap: bool = False, overwrite: bool = False
) -> None:
    """Write the labels of a DICOM series as DICOM SEG, see `segmentation_dataset`.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: it has no UIDs.
        OutputError: not writable, or the file exists.
    """
    _write(path, segmentation_dataset(segmentation, labelmap=labelmap), overwrite=overwrite)


def write_dicom_rtstruct(
    path: Path, segmentation: Segmentation, *, overwrite: bool = False
) -> None:
    """Write the labels of a DICOM series as RTSTRUCT, see `structure_set_dataset`.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: it has no UIDs.
        OutputError: not writable, or the file exists.
    """
    _write(path, structure_set_dataset(segmentation), overwrite=overwrite)


def _write(path: Path, dataset: Any, *, overwrite: bool) -> None:
    with atomic_write(path, overwrite=overwrite) as file:
        dataset.save_as(file, enforce_file_format=True)
