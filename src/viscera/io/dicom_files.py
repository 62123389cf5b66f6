"""Labels as DICOM files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera.core.organs import ORGANS, Organ
from viscera.core.volume import Labels, Volume, blank_labels
from viscera.dicom.read.slice_spacing import PlaneSource
from viscera.dicom.read.stack import SliceStack
from viscera.dicom.write.rtstruct import check_rtstruct_source, rtstruct_dataset
from viscera.dicom.write.seg import check_seg_source, seg_dataset
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


def check_dicom_seg(volume: Volume) -> None:
    """Prove before the work that a DICOM SEG can be made of a scan, by making that of one slice.

    Raises:
        UsageError: the scan was no DICOM series.
        InputError: it has no UIDs, or headers that no result can be made of.
        MissingExtraError: highdicom is not installed.
    """
    check_seg_source(volume)
    with _without_library_warnings():
        seg_dataset(*_first_slice(volume), ORGANS)


def check_dicom_rtstruct(volume: Volume) -> None:
    """The same for RTSTRUCT."""
    check_rtstruct_source(volume)
    with _without_library_warnings():
        rtstruct_dataset(*_first_slice(volume), ORGANS)


def _first_slice(volume: Volume) -> tuple[Labels, Volume]:
    """Empty labels on the first slice of a series, and that slice as a volume."""
    stack = volume.slice_stack
    assert isinstance(stack, SliceStack)
    labels = blank_labels((*volume.shape[:2], 1))
    first = replace(stack, slices=stack.slices[:1], planes=(PlaneSource(0, 0, 0.0),))
    return labels, replace(volume, voxels=labels.astype(np.int16), slice_stack=first)


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
