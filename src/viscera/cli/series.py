"""What `viscera info` says of a folder with DICOM."""

from __future__ import annotations

import json
from pathlib import Path

import click

from viscera.dicom import find_series
from viscera.dicom.series import reason
from viscera.errors import NothingToSegmentError


def show_series(source: Path, *, as_json: bool) -> None:
    """List the CT series, the one that would be segmented first, and nothing of the patient.

    Raises:
        InputError: an archive that cannot be read.
        NothingToSegmentError: there is no CT.
    """
    found = find_series(source)
    if not found.series:
        raise NothingToSegmentError(
            "a CT series or a bundle",
            found=found.described,
            remedy="name a folder that holds CT images, or a bundle",
            where=source,
        )
    one_study = found.studies == 1
    why = reason(found) if one_study else "none: several studies or patients; choose with --series"
    if as_json:
        content = {
            "series": [one.described() for one in found.series],
            "taken": found.series[0].uid if one_study else None,
            "reason": why,
            "others": found.others,
            "damaged": [str(error) for error in found.damaged],
        }
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    click.echo(f"{'':2}{'no.':>5} {'slices':>6} {'size':>11} {'plane':9} {'mm':>5} {'':9} series")
    for number, one in enumerate(found.series):
        own = one.described()
        mark = "*" if number == 0 and one_study else " "
        kind = "original" if own["original"] else "derived"
        click.echo(
            f"{mark:2}{own['number']:>5} {own['slices']:>6} {own['size']:>11} {own['plane']:9} "
            f"{own['thickness_mm']:>5g} {kind:9} {own['series'] or '(no UID)'}"
        )
    click.echo(f"taken: {why}")
    if found.others:
        click.echo(f"{found.others} other files")
    for error in found.damaged:
        click.echo(f"damaged: {error}")
