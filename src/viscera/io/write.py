"""A Segmentation to files: one label map, a mask per organ, and tables for viewers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np

from viscera.io.atomic import write_text
from viscera.io.nifti_write import write_nifti
from viscera.organs import Organ
from viscera.segmentation import Segmentation
from viscera.volume import Labels, Volume


def write_labels(path: str | Path, segmentation: Segmentation, *, overwrite: bool = False) -> None:
    """Write the label map as NIfTI (.nii or .nii.gz) on the source's own grid.

    Raises:
        OutputError: another suffix, not writable, or the file exists.
    """
    _write(Path(path), segmentation, segmentation.labels, segmentation.organs, overwrite=overwrite)


def write_masks(folder: str | Path, segmentation: Segmentation, *, overwrite: bool = False) -> None:
    """Write one binary NIfTI an organ, ``liver.nii.gz`` and so on; organs not found are empty.

    Raises:
        OutputError: not writable, or a file exists.
    """
    for organ in segmentation.organs:
        mask = (segmentation.labels == organ.id).view(np.uint8)
        target = Path(folder) / f"{organ.name}.nii.gz"
        _write(target, segmentation, mask, (replace(organ, id=1),), overwrite=overwrite)


def write_volume(path: str | Path, volume: Volume, *, overwrite: bool = False) -> None:
    """Write a CT as NIfTI (.nii or .nii.gz).

    Raises:
        OutputError: another suffix, not writable, or the file exists.
    """
    write_nifti(
        Path(path),
        volume.data,
        volume.affine,
        source_header=volume.nifti_header,
        overwrite=overwrite,
    )


def _write(
    path: Path,
    segmentation: Segmentation,
    labels: Labels,
    organs: Sequence[Organ],
    *,
    overwrite: bool,
) -> None:
    write_nifti(
        path,
        labels,
        segmentation.affine,
        source_header=segmentation.volume.nifti_header,
        label_table=caret_xml(organs),
        description=str(segmentation.provenance.get("made_by", "viscera")),
        overwrite=overwrite,
    )


def caret_xml(organs: Sequence[Organ]) -> str:
    """Label names and colours as Caret's XML, the NIfTI extension that viewers read names from."""
    rows = ['<Label Key="0" Red="0" Green="0" Blue="0" Alpha="0">background</Label>']
    for organ in organs:
        red, green, blue = (f"{channel / 255:.4f}" for channel in organ.colour)
        rows.append(
            f'<Label Key="{organ.id}" Red="{red}" Green="{green}" Blue="{blue}" Alpha="1">'
            f"{escape(organ.name)}</Label>"
        )
    table = "".join(rows)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><CaretExtension><VolumeInformation Index="0">'
        f"<LabelTable>{table}</LabelTable><VolumeType>Label</VolumeType>"
        "</VolumeInformation></CaretExtension>"
    )


def write_itksnap_labels(path: Path, organs: Sequence[Organ], *, overwrite: bool = False) -> None:
    """Write ITK-SNAP's label description file: ``IDX R G B A VIS MSH "LABEL"``."""
    rows = ['    0     0    0    0        0  0  0    "Clear Label"']
    for organ in organs:
        red, green, blue = organ.colour
        rows.append(
            f'{organ.id:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{organ.title}"'
        )
    header = "# ITK-SnAP Label Description File\n# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL\n"
    write_text(path, header + "\n".join(rows) + "\n", overwrite=overwrite)


def write_slicer_colours(path: Path, organs: Sequence[Organ], *, overwrite: bool = False) -> None:
    """Write 3D Slicer's colour table: ``id name R G B A``."""
    rows = ["0 background 0 0 0 0"]
    rows += [f"{o.id} {o.name} {o.colour[0]} {o.colour[1]} {o.colour[2]} 255" for o in organs]
    text = "# Color table file, viscera organs\n" + "\n".join(rows) + "\n"
    write_text(path, text, overwrite=overwrite)
