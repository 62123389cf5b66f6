"""What `viscera info` prints about a folder with DICOM."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from viscera.cli._shared.terminal import echo
from viscera.dicom.read.open_series import find_series
from viscera.dicom.read.series import choice_reason
from viscera.errors import NothingToSegmentError


def show_series(source: Path, *, as_json: bool) -> None:
    """List the CT series, the one that would be segmented first, and nothing of the patient.

    Args:
        source: a folder or zip archive with DICOM.
        as_json: print JSON instead of a table.

    Raises:
        InputError: an archive that cannot be read.
        NothingToSegmentError: there is no CT.
    """
    listing = find_series(source)
    if not listing.series:
        raise NothingToSegmentError(
            "a CT series or a bundle",
            found=listing.described,
            remedy="name a folder that holds CT images, or a bundle",
            where=source,
        )
    is_clear = listing.studies == 1 and not listing.series[0].part
    if is_clear:
        why = choice_reason(listing)
    elif listing.series[0].part:
        why = "none: several pictures at each place; choose a part with --series"
    else:
        why = "none: several studies or patients; choose with --series"
    if as_json:
        content = {
            "series": [series.described() for series in listing.series],
            "taken": listing.series[0].identifier if is_clear else None,
            "reason": why,
            "others": listing.others,
            "other_kinds": dict(Counter(listing.other_kinds)),
            "damaged": [str(item.damage) for item in listing.damaged],
        }
        echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    echo(f"{'':2}{'no.':>5} {'slices':>6} {'size':>11} {'plane':9} {'mm':>5} {'':9} series")
    for number, series in enumerate(listing.series):
        description = series.described()
        star = "*" if number == 0 and is_clear else " "
        kind = "original" if description["original"] else "derived"
        echo(
            f"{star:2}{description['number']:>5} {description['slices']:>6} "
            f"{description['size']:>11} {description['plane']:9} "
            f"{description['thickness_mm']:>5g} {kind:9} {description['series'] or '(no UID)'}"
            + (f"  {description['part']}" if description["part"] else "")
        )
    echo(f"taken: {why}")
    if listing.others:
        kinds = Counter(listing.other_kinds).most_common()
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds)
        echo(f"{listing.others} other files: {listed}")
    for damaged in listing.damaged:
        echo(f"damaged: {damaged.damage}")
