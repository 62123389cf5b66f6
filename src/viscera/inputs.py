"""The one door in: paths, nibabel images and arrays become volumes and label maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from viscera.core.affine import Affine
from viscera.core.label_map import LabelMap
from viscera.core.volume import Volume
from viscera.errors import InputError, UsageError
from viscera.runtime.paths import checked_path
from viscera.segmentation import Segmentation


class NibabelImage(Protocol):
    """What is used of an image of nibabel."""

    @property
    def dataobj(self) -> Any:
        """The voxels."""
        ...

    @property
    def affine(self) -> Any:
        """Voxel indices to RAS millimetres."""
        ...

    @property
    def header(self) -> Any:
        """The header."""
        ...


VolumeSource: TypeAlias = str | Path | Volume | NibabelImage | NDArray[Any]
LabelSource: TypeAlias = str | Path | LabelMap | Segmentation | NibabelImage | NDArray[Any]
AffineLike: TypeAlias = Affine | ArrayLike


def as_volume(
    source: VolumeSource,
    affine: AffineLike | None = None,
    *,
    name: str | None = None,
    volume_index: int | None = None,
    series: str | None = None,
    allow_bad_slices: bool = False,
    strict: bool = False,
    memory_limit_mb: float | None = None,
    threads: int | None = None,
) -> Volume:
    """A CT from anything that holds one; voxels of most files stay there until they are needed.

    Args:
        source: a path (NIfTI, NRRD, MetaImage; a file, folder or zip archive with DICOM), a
            Volume, a nibabel image, or an [i, j, k] array of HU.
        affine: (4, 4) matrix to RAS millimetres; for arrays only.
        name: the case's name; from the path where not given.
        volume_index: paths only: which volume of a 4-D NIfTI, counted from 0.
        series: DICOM only: Series Instance UID of the one to take; the likeliest if not given.
        allow_bad_slices: DICOM only: slices that cannot be read are filled from their neighbours.
        strict: paths only: refuse where something would have to be assumed.
        memory_limit_mb: paths only: most memory the voxels may take; what is free if not given.
        threads: DICOM only: most that may decode at a time.

    Raises:
        InputError: no CT volume.
        MissingExtraError: DICOM, and pydicom is not installed.
        NothingToSegmentError: DICOM without a CT series.
        ResourceError: the declared size exceeds the limit.
        UsageError: an affine along with a source that has its own, or an empty path.
    """
    _check_affine(source, affine)
    if isinstance(source, Volume):
        return source if name is None else replace(source, name=name)
    if isinstance(source, str | Path):
        # Imported here: a caller with arrays needs no reader.
        from viscera.io.read import open_volume

        volume = open_volume(
            checked_path(source),
            volume_index=volume_index,
            memory_limit_mb=memory_limit_mb,
            strict=strict,
            series=series,
            allow_bad_slices=allow_bad_slices,
            threads=threads,
        )
        return volume if name is None else replace(volume, name=name)
    if _is_nibabel_image(source):
        from viscera.io.nifti.read import volume_from_nibabel

        return volume_from_nibabel(source, name=name or "volume")
    if affine is None:
        raise InputError(
            "a path, a nibabel image, a Volume, or an array with its affine",
            found=type(source).__name__,
            remedy="pass affine=(4x4 matrix to RAS millimetres) along with an array",
        )
    return Volume.of(np.asarray(source), affine, name=name or "volume")


def as_label_map(
    source: LabelSource,
    affine: AffineLike | None = None,
    *,
    name: str | None = None,
    memory_limit_mb: float | None = None,
) -> LabelMap:
    """A label map from anything that holds one.

    Args:
        source: a path, a LabelMap, a Segmentation, a nibabel image, or an [i, j, k] array.
        affine: (4, 4) matrix to RAS millimetres; for arrays only.
        name: the case's name; from the path where not given.
        memory_limit_mb: paths only: most memory the voxels may take; what is free if not given.

    Raises:
        InputError: no label map.
        ResourceError: the declared size exceeds the limit.
        UsageError: an affine along with a source that has its own, or an empty path.
    """
    _check_affine(source, affine)
    if isinstance(source, LabelMap):
        return source if name is None else replace(source, name=name)
    if isinstance(source, Segmentation):
        return LabelMap.of(source.labels, source.affine, name=name or source.volume.name)
    if isinstance(source, str | Path):
        from viscera.io.read import read_labels

        label_map = read_labels(checked_path(source), memory_limit_mb=memory_limit_mb)
        return label_map if name is None else replace(label_map, name=name)
    if _is_nibabel_image(source):
        spacing = tuple(float(zoom) for zoom in source.header.get_zooms()[:3])  # type: ignore[union-attr]
        return LabelMap.of(
            np.asarray(source.dataobj),  # type: ignore[union-attr]
            source.affine,  # type: ignore[union-attr]
            name=name or "labels",
            header_spacing_mm=spacing if len(spacing) == 3 else None,
        )
    if affine is None:
        raise InputError(
            "a path, a Segmentation, a nibabel image, a LabelMap, or an array with its affine",
            found=type(source).__name__,
            remedy="wrap an array: as_label_map(array, affine), a 4x4 matrix to RAS millimetres",
        )
    return LabelMap.of(np.asarray(source), affine, name=name or "labels")


def _is_nibabel_image(source: object) -> bool:
    return hasattr(source, "dataobj") and hasattr(source, "affine") and hasattr(source, "header")


def _check_affine(source: object, affine: AffineLike | None) -> None:
    """An affine goes with an array only: everything else has its own."""
    has_affine = isinstance(source, str | Path) or hasattr(source, "affine")
    if affine is not None and has_affine:
        raise UsageError(
            "an affine along with an array only",
            found=f"one along with a {type(source).__name__}",
            remedy="leave affine out; the source has its own",
        )
