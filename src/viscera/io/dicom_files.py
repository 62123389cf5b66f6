"""Labels as DICOM files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from viscera.core.organs import Organ
from viscera.core.volume import Labels, Volume
from viscera.dicom.write.rtstruct import rtstruct_dataset
from viscera.dicom.write.seg import seg_dataset
from viscera.runtime.atomic_files import atomic_write


def write_dicom_seg(
    path: Path,
    labels: Labels,
    source: Volume,
    organs: Sequence[Organ],
    *,
    overwrite: bool = False,
) -> None:
    """Write the labels of a DICOM series as DICOM SEG, see `seg_dataset`.

    Args:
        path: the file.
        labels: [i, j, k] uint8.
        source: the series.
        organs: those that the network can find; absent ones stay empty.
        overwrite: replace an existing file.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: it has no UIDs, or headers that no result can be made of.
        MissingExtraError: highdicom is not installed.
        OutputError: not writable, or the file exists.
    """
    _write(path, lambda: seg_dataset(labels, source, organs), overwrite=overwrite)


def write_dicom_seg_labelmap(
    path: Path,
    labels: Labels,
    source: Volume,
    organs: Sequence[Organ],
    *,
    overwrite: bool = False,
) -> None:
    """As `write_dicom_seg`, in the newer form with one number a pixel.

    Args:
        path: the file.
        labels: [i, j, k] uint8.
        source: the series.
        organs: those that the network can find; absent ones stay empty.
        overwrite: replace an existing file.
    """
    _write(path, lambda: seg_dataset(labels, source, organs, labelmap=True), overwrite=overwrite)


def write_dicom_rtstruct(
    path: Path,
    labels: Labels,
    source: Volume,
    organs: Sequence[Organ],
    *,
    overwrite: bool = False,
) -> None:
    """Write the labels of a DICOM series as RTSTRUCT, see `rtstruct_dataset`.

    Args:
        path: the file.
        labels: [i, j, k] uint8.
        source: the series.
        organs: those that the network can find; absent ones stay empty.
        overwrite: replace an existing file.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: it has no UIDs, or headers that no result can be made of.
        MissingExtraError: contourpy is not installed.
        OutputError: not writable, or the file exists.
    """
    _write(path, lambda: rtstruct_dataset(labels, source, organs), overwrite=overwrite)


def _write(path: Path, make_dataset: Callable[[], Any], *, overwrite: bool) -> None:
    with _without_library_warnings():
        dataset = make_dataset()
        with atomic_write(path, overwrite=overwrite) as file:
            dataset.save_as(file, enforce_file_format=True)


@contextmanager
def _without_library_warnings() -> Iterator[None]:
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
