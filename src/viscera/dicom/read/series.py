"""Series: slices that belong together, and which series one would segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from viscera.dicom.read.slices import CtSlice

_SCOUT_TYPES = ("LOCALIZER", "SCOUT", "TOPOGRAM")
_DERIVED_TYPES = ("DERIVED", "SECONDARY", "MIP", "MPR", "PROJECTION IMAGE", "REFORMATTED")


@dataclass(frozen=True, eq=False)
class CtSeries:
    """The slices of one series, as they were found.

    Attributes:
        uid: Series Instance UID; empty where an anonymiser took it away.
        slices: its images, scouts left out.
        scouts: how many scouts were left out.
    """

    uid: str
    slices: tuple[CtSlice, ...]
    scouts: int = 0

    @property
    def number(self) -> int:
        """Series number."""
        return self.slices[0].series_number

    @property
    def study(self) -> tuple[str, str]:
        """What tells patients and studies apart; never shown."""
        return self.slices[0].patient, self.slices[0].study

    @cached_property
    def plane(self) -> str:
        """How most of its slices lie: axial, coronal, sagittal, or unknown."""
        cosines = next((s.cosines for s in self.slices if s.cosines is not None), None)
        if cosines is None:
            return "unknown"
        normal = np.abs(np.cross(cosines[0], cosines[1]))
        return ("sagittal", "coronal", "axial")[int(normal.argmax())]

    @cached_property
    def original(self) -> bool:
        """Measured by the scanner, not computed from another series."""
        return not any(kind in _DERIVED_TYPES for kind in self.slices[0].image_type)

    @cached_property
    def thickness_mm(self) -> float:
        """Nominal thickness of a slice; 0 where unknown."""
        return self.slices[0].thickness_mm

    @property
    def rank(self) -> tuple[bool, bool, int, float]:
        """Greater is likelier what one wants segmented."""
        thin = -self.thickness_mm if self.thickness_mm else -99.0
        return self.plane == "axial", self.original, len(self.slices), thin

    def described(self) -> dict[str, Any]:
        """What may be shown of it: nothing of the patient."""
        rows, columns = self.slices[0].shape
        return {
            "series": self.uid,
            "number": self.number,
            "slices": len(self.slices),
            "size": f"{columns} x {rows}",
            "plane": self.plane,
            "thickness_mm": round(self.thickness_mm, 3),
            "original": self.original,
            "scouts": self.scouts,
        }


@dataclass(frozen=True, eq=False)
class SeriesListing:
    """What lies in a folder, an archive or a file.

    Attributes:
        series: CT series, the likeliest first.
        others: files that are not CT images, or no DICOM at all.
        scouts: CT images that only show where the others lie.
        damaged: files that are DICOM and cannot be read, with the reason.
    """

    series: tuple[CtSeries, ...]
    others: int = 0
    scouts: int = 0
    damaged: tuple[Exception, ...] = field(default=())

    @property
    def described(self) -> str:
        """What there is besides series, in a few words."""
        return f"{'scouts alone' if self.scouts else 'none'} among {self.files} files"

    @property
    def files(self) -> int:
        """Files without a series to segment."""
        return self.others + self.scouts + len(self.damaged)

    @property
    def studies(self) -> int:
        """How many patients' studies there are."""
        return len({series.study for series in self.series})

    @property
    def ambiguous(self) -> bool:
        """Whether the first two are alike in all that one could choose by."""
        return len(self.series) > 1 and self.series[0].rank == self.series[1].rank


def group_series(slices: Sequence[CtSlice]) -> tuple[tuple[CtSeries, ...], int]:
    """Slices by their series, the likeliest to be segmented first, and how many are scouts.

    Scouts are left out. Some scanners put them into the series that they plan.
    """
    by_uid: dict[tuple[str, str, str], list[CtSlice]] = {}
    for ct_slice in slices:
        by_uid.setdefault((ct_slice.patient, ct_slice.study, ct_slice.series), []).append(ct_slice)
    series, scouts = [], 0
    for (_, _, uid), members in by_uid.items():
        images = tuple(
            entry for entry in members if not any(kind in _SCOUT_TYPES for kind in entry.image_type)
        )
        scouts += len(members) - len(images)
        if images:
            series.append(CtSeries(uid, images, len(members) - len(images)))
    series.sort(key=lambda entry: (entry.rank, -entry.number, entry.uid), reverse=True)
    return tuple(series), scouts


def choice_reason(listing: SeriesListing) -> str:
    """Why the first series comes first, in a few words."""
    if len(listing.series) == 1:
        return "the only CT series"
    first, second = listing.series[0].rank, listing.series[1].rank
    words = ("axial", "original, not derived", "the most slices", "the thinnest slices")
    for word, first_value, second_value in zip(words, first, second, strict=True):
        if first_value != second_value:
            return word
    return "the first of several alike"
