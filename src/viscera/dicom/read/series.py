"""Series: slices that belong together, and which series one would segment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from viscera.dicom.read.slices import DISTINGUISHING, NO_DICOM, CtSlice, FileContent
from viscera.errors import VisceraError

# Rescale types (PS3.3 C.11.1.1.2) of values that are HU, or of those that do not say.
_HU_TYPES = ("", "HU", "HU_MOD", "US")
_SCOUT_TYPES = ("LOCALIZER", "SCOUT", "TOPOGRAM")
_DERIVED_TYPES = ("DERIVED", "SECONDARY", "MIP", "MPR", "PROJECTION IMAGE", "REFORMATTED")


@dataclass(frozen=True, eq=False)
class CtSeries:
    """The slices of one series, as they were found.

    Attributes:
        uid: Series Instance UID; empty where an anonymiser took it away.
        slices: its images, scouts left out.
        scouts: how many scouts were left out.
        part: number of a part, from 1, where several pictures lie at each place; 0 for the whole.
        part_name: by what the part differs from the others, such as ``ConvolutionKernel B30f``.
    """

    uid: str
    slices: tuple[CtSlice, ...]
    scouts: int = 0
    part: int = 0
    part_name: str = ""

    @property
    def identifier(self) -> str:
        """What it is chosen by: its UID, and the number of the part."""
        return f"{self.uid}:{self.part}" if self.part else self.uid

    @property
    def is_hu(self) -> bool:
        """Whether its values are HU, as far as the header says."""
        return self.slices[0].rescale_type in _HU_TYPES

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
    def rank(self) -> tuple[bool, bool, bool, int, float]:
        """Greater is likelier what one wants segmented."""
        thin = -self.thickness_mm if self.thickness_mm else -99.0
        return self.is_hu, self.plane == "axial", self.original, len(self.slices), thin

    def described(self) -> dict[str, Any]:
        """What may be shown of it: nothing of the patient."""
        rows, columns = self.slices[0].shape
        return {
            "series": self.identifier,
            "part": self.part_name,
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
        other_kinds: modality of each file that is no CT image; `NO_DICOM` where it is no DICOM.
        scouts: CT images that only show where the others lie.
        damaged: files that are DICOM and cannot be read.
    """

    series: tuple[CtSeries, ...]
    other_kinds: tuple[str, ...] = ()
    scouts: int = 0
    damaged: tuple[FileContent, ...] = ()

    @property
    def described(self) -> str:
        """What there is besides series, in a few words."""
        kinds = Counter(kind for kind in self.other_kinds if kind != NO_DICOM)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
        kinds_text = f" ({listed})" if listed else ""
        return f"{'scouts alone' if self.scouts else 'none'} among {self.files} files{kinds_text}"

    @property
    def others(self) -> int:
        """How many files are no CT image."""
        return len(self.other_kinds)

    @property
    def files(self) -> int:
        """Files without a series to segment."""
        return self.others + self.scouts + len(self.damaged)

    def damages(self) -> list[VisceraError]:
        """Why files cannot be read, of whatever series."""
        return [content.damage for content in self.damaged if content.damage is not None]

    def damages_of(self, series: CtSeries, *, is_chosen: bool = False) -> list[VisceraError]:
        """Why files that belong to a series, or may belong to it, cannot be read.

        Args:
            series: that is taken.
            is_chosen: by its UID: then files that do not say where they belong do not count.
        """
        places = (series.uid,) if is_chosen else ("", series.uid)
        return [c.damage for c in self.damaged if c.damage is not None and c.series in places]

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
            whole = CtSeries(uid, images, len(members) - len(images))
            series += _parts(whole) or [whole]
    series.sort(key=lambda entry: (entry.rank, -entry.number, entry.uid), reverse=True)
    return tuple(series), scouts


def _parts(series: CtSeries) -> list[CtSeries]:
    """The phases or reconstructions of a series of which several lie at each place.

    No part where each place has one picture, or where nothing tells those at one place apart.
    """
    if not _share_a_place(series.slices):
        return []
    for n, keyword in enumerate(DISTINGUISHING):
        groups: dict[str, list[CtSlice]] = {}
        for ct_slice in series.slices:
            groups.setdefault(ct_slice.distinguishing[n], []).append(ct_slice)
        if len(groups) > 1 and not any(_share_a_place(group) for group in groups.values()):
            return [
                replace(
                    series,
                    slices=tuple(group),
                    part=part,
                    # The time of an examination is nobody's business.
                    part_name=f"{keyword} {value or '(none)'}"
                    if keyword != "AcquisitionTime"
                    else f"part {part} by {keyword}",
                )
                for part, (value, group) in enumerate(
                    sorted(groups.items(), key=_numbers_first), start=1
                )
            ]
    return []


def _numbers_first(item: tuple[str, object]) -> tuple[float, str]:
    """Texts that are numbers by their value, others after them."""
    try:
        return float(item[0]), item[0]
    except ValueError:
        return float("inf"), item[0]


def _share_a_place(slices: Sequence[CtSlice]) -> bool:
    """Whether several slices have one position and one direction."""
    places = [
        tuple(np.round(np.append(s.position_mm, s.cosines), 2).tolist())
        for s in slices
        if s.position_mm is not None and s.cosines is not None
    ]
    return len(set(places)) < len(places)


def merge_single_slices(listing: SeriesListing) -> CtSeries | None:
    """Series of one slice each as the one that they were, if they fit together.

    Some exports give every slice a series of its own.

    Args:
        listing: what lies in one place.
    """
    first = listing.series[0].slices[0]
    alike = [
        series.slices[0]
        for series in listing.series
        if len(series.slices) == 1 and _fit_together(first, series.slices[0])
    ]
    return CtSeries(first.series, tuple(alike)) if len(alike) > 1 else None


def _fit_together(a: CtSlice, b: CtSlice) -> bool:
    return (
        (a.patient, a.study, a.frame_of_reference, a.shape, a.spacing_mm)
        == (b.patient, b.study, b.frame_of_reference, b.shape, b.spacing_mm)
        and a.cosines is not None
        and b.cosines is not None
        and bool(np.allclose(a.cosines, b.cosines, atol=1e-3))
    )


def choice_reason(listing: SeriesListing) -> str:
    """Why the first series comes first, in a few words."""
    if len(listing.series) == 1:
        return "the only CT series"
    first, second = listing.series[0].rank, listing.series[1].rank
    words = ("in HU", "axial", "original, not derived", "the most slices", "the thinnest slices")
    for word, first_value, second_value in zip(words, first, second, strict=True):
        if first_value != second_value:
            return word
    return "the first of several alike"
