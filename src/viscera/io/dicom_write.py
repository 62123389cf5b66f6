"""Labels as DICOM files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
        InputError: it has no UIDs, or headers that no result can be made of.
        OutputError: not writable, or the file exists.
    """
    made = partial(segmentation_dataset, segmentation, labelmap=labelmap)
    _write(path, made, overwrite=overwrite)


def write_dicom_rtstruct(
    path: Path, segmentation: Segmentation, *, overwrite: bool = False
) -> None:
    """Write the labels of a DICOM series as RTSTRUCT, see `structure_set_dataset`.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: it has no UIDs, or headers that no result can be made of.
        OutputError: not writable, or the file exists.
    """
    _write(path, partial(structure_set_dataset, segmentation), overwrite=overwrite)


def _write(path: Path, make: Callable[[], Any], *, overwrite: bool) -> None:
    with _silence():
        dataset = make()
        with atomic_write(path, overwrite=overwrite) as file:
            dataset.save_as(file, enforce_file_format=True)


@contextmanager
def _silence() -> Iterator[None]:
    """Without the warnings of pydicom and highdicom, which quote values of the patient."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
