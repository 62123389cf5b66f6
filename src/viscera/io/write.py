"""Labels and volumes to NIfTI: one label map, a mask per organ, a CT; and tables for viewers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from viscera.core.organs import Organ
from viscera.core.volume import Labels, Volume
from viscera.io.nifti.write import write_nifti
from viscera.runtime.atomic_files import write_text


def write_labels(
    path: Path,
    labels: Labels,
    source: Volume,
    organs: Sequence[Organ],
    *,
    signature: str = "viscera",
    overwrite: bool = False,
) -> None:
    """Write a label map as NIfTI on the very grid of its scan.

    Args:
        path: .nii or .nii.gz.
        labels: [i, j, k] uint8.
        source: the scan, for its grid and header.
        organs: whose names and colours the file carries.
        signature: what made it, kept in the header, at most 79 bytes.
        overwrite: replace an existing file.

    Raises:
        OutputError: another suffix, not writable, or the file exists.
    """
    write_nifti(
        path,
        labels,
        source.affine,
        source_header=source.nifti_header,
        label_table=caret_label_table(organs),
        description=signature,
        overwrite=overwrite,
    )


def write_masks(
    folder: Path,
    labels: Labels,
    source: Volume,
    organs: Sequence[Organ],
    *,
    signature: str = "viscera",
    overwrite: bool = False,
) -> None:
    """Write one binary NIfTI an organ, ``liver.nii.gz`` and so on; organs not found are empty.

    Args:
        folder: made where it is missing.
        labels: [i, j, k] uint8.
        source: the scan, for its grid and header.
        organs: which to write.
        signature: what made it, kept in the headers.
        overwrite: replace existing files.

    Raises:
        OutputError: not writable, or a file exists.
    """
    for organ in organs:
        write_nifti(
            folder / f"{organ.name}.nii.gz",
            labels,
            source.affine,
            source_header=source.nifti_header,
            label_table=caret_label_table((replace(organ, id=1),)),
            description=signature,
            only_label=organ.id,
            overwrite=overwrite,
        )


def write_volume(path: str | Path, volume: Volume, *, overwrite: bool = False) -> None:
    """Write a CT as NIfTI.

    Args:
        path: .nii or .nii.gz.
        volume: the CT.
        overwrite: replace an existing file.

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


def caret_label_table(organs: Sequence[Organ]) -> str:
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
    """Write ITK-SNAP's label description file: ``IDX R G B A VIS MSH "LABEL"``.

    Args:
        path: the file.
        organs: one line each.
        overwrite: replace an existing file.
    """
    rows = ['    0     0    0    0        0  0  0    "Clear Label"']
    for organ in organs:
        red, green, blue = organ.colour
        rows.append(
            f'{organ.id:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{organ.title}"'
        )
    header = "# ITK-SnAP Label Description File\n# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL\n"
    write_text(path, header + "\n".join(rows) + "\n", overwrite=overwrite)


def write_slicer_colours(path: Path, organs: Sequence[Organ], *, overwrite: bool = False) -> None:
    """Write 3D Slicer's colour table: ``id name R G B A``.

    Args:
        path: the file.
        organs: one line each.
        overwrite: replace an existing file.
    """
    rows = ["0 background 0 0 0 0"]
    rows += [f"{o.id} {o.name} {o.colour[0]} {o.colour[1]} {o.colour[2]} 255" for o in organs]
    text = "# Color table file, viscera organs\n" + "\n".join(rows) + "\n"
    write_text(path, text, overwrite=overwrite)
