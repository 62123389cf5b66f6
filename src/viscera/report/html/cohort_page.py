"""The page of a cohort: every case, what deserves a look first, and how volumes spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from viscera._version import __version__
from viscera.core.organs import ORGANS
from viscera.errors import OutputError, option
from viscera.io.read import path_exists
from viscera.report.html.case_record import CaseRecord
from viscera.report.html.page import read_part, render
from viscera.runtime.small_files import read_text_file

COHORT_PAGE = "cohort.html"
_MARK = '<meta name="generator" content="viscera cohort">'
_BINS, _WIDTH, _HEIGHT = 14, 250, 74
_MOST_BYTES = 200_000_000


class _Column(NamedTuple):
    """An organ of the cohort; the records name organs as their bundles do."""

    name: str
    title: str
    colour: list[int]


def cohort_page(records: Mapping[str, CaseRecord], failed: Mapping[str, str]) -> str:
    """One self-contained page.

    Args:
        records: of each case, by the file name of its page.
        failed: why a case has no result, by its name.
    """
    script = read_part("sort.js")
    names = list(dict.fromkeys(name for r in records.values() for name in r.volumes_ml))
    # Pages of earlier versions do not say what they are about: the thirteen organs.
    titles = {organ.name: organ.title for organ in ORGANS}
    colours = {organ.name: list(organ.colour) for organ in ORGANS}
    for record in records.values():
        titles |= record.titles
        colours |= record.colours
    organs = [_Column(name, titles[name], colours[name]) for name in names if name in titles]
    ranked = sorted(records.items(), key=lambda item: (item[1].rank, item[1].name))
    return render(
        "cohort.html.j2",
        scripts=[script],
        values={
            "mark": _MARK,
            "version": __version__,
            "cases": [_case_row(link, record, organs) for link, record in ranked],
            "failed": failed,
            "organs": organs,
            "histograms": [_histogram(organ, list(records.values())) for organ in organs],
            "script": script,
        },
    )


def check_cohort_page(path: Path) -> None:
    """Make sure that the page may be written.

    Args:
        path: of the page.

    Raises:
        OutputError: a file of that name exists and is no such page.
    """
    if not path_exists(path):
        return
    try:
        is_ours = _MARK in read_text_file(path, most_bytes=_MOST_BYTES)
    except (OSError, ValueError):
        is_ours = False
    if not is_ours:
        raise OutputError(
            "a place for the cohort's page",
            found="a file that viscera did not write",
            remedy=f"rename it, or choose another {option('output')}",
            where=path,
        )


def _ml(volume_ml: float) -> str:
    return f"{volume_ml:,.0f}" if volume_ml >= 10 else f"{volume_ml:.1f}"


def _case_row(link: str, record: CaseRecord, organs: Sequence[_Column]) -> dict[str, Any]:
    verdicts = list(record.verdicts.values())
    return {
        "link": link,
        "name": record.name,
        "fails": verdicts.count("fail"),
        "checks": verdicts.count("check"),
        "phase": record.phase,
        "warnings": record.warnings,
        "volumes": [
            {
                "ml": record.volumes_ml.get(organ.name, 0.0),
                "verdict": record.verdicts.get(organ.name, ""),
                "is_cut": organ.name in record.cut,
            }
            for organ in organs
        ],
    }


def _histogram(organ: _Column, records: Sequence[CaseRecord]) -> dict[str, Any]:
    """Bars of the volumes that are whole, in the units of the drawing."""
    volumes = [
        record.volumes_ml[organ.name]
        for record in records
        if record.volumes_ml.get(organ.name) and organ.name not in record.cut
    ]
    if not volumes:
        return {"organ": organ, "bars": [], "low": "", "high": "", "median": "", "count": 0}
    low, high = min(volumes), max(volumes)
    high = high if high > low else low + 1
    counts, _ = np.histogram(volumes, bins=_BINS, range=(low, high))
    width = _WIDTH / _BINS
    bars = [
        {
            "x": round(n * width + 1, 1),
            "y": round(_HEIGHT * (1 - count / counts.max()), 1),
            "width": round(width - 2, 1),
            "height": round(_HEIGHT * count / counts.max(), 1),
        }
        for n, count in enumerate(counts.tolist())
        if count
    ]
    return {
        "organ": organ,
        "bars": bars,
        "low": _ml(low),
        "high": _ml(high),
        "median": _ml(float(np.median(volumes))),
        "count": len(volumes),
    }
