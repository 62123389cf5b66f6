"""Structures other than the thirteen organs: what a bundle, a recipe or a table says of them."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from viscera.core.organs import (
    FLARE13,
    ORGANS_BY_NAME,
    SNOMED_CATEGORY,
    LabelTable,
    Laterality,
    Organ,
    Region,
)
from viscera.errors import UsageError

HIGHEST_ID = 254  # 255 marks voxels that nobody labelled
OTHER = "other"  # an output of a network that is not reported
DEFAULT_TOLERANCE_MM = 2.0
RESERVED_NAMES = ("background", "ignore", "average", OTHER)
LONGEST_TITLE = 64
NOT_IN_TITLES = re.compile(r'[\x00-\x1f\x7f-\x9f~|^\\"]')
# File names on every system, options of the command line and columns of tables.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+\-]{0,63}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_CODE = re.compile(r"[0-9]{6,18}")
_GOLDEN_TURN = 0.61803398875  # of hues, so that neighbours differ
_REMEDY = "choose another value"


@dataclass(frozen=True)
class StructureSettings:
    """One structure as a file describes it; only the name is required.

    What is left out is taken from the organ of that name among the thirteen, if there is one.

    Attributes:
        name: letters, digits, ``_``, ``-``, ``+`` and ``.``; masks are files of this name.
        id: label value, 1 to 254; its place among the network's outputs where absent.
        title: name for people; from the name where absent.
        colour: red, green, blue, 0 to 255.
        tolerance_mm: of the normalised surface distance; 2 mm where absent.
        snomed: SNOMED CT code of the structure, without its side. DICOM SEG needs one.
        meaning: of the code; the title where absent.
        category: SNOMED CT code and meaning of what kind of thing it is, such as
            ``["49755003", "Morphologically Abnormal Structure"]`` of a tumour; an anatomical
            structure where absent.
        laterality: right or left of a pair.
        partner: name of the same structure on the other side.
    """

    name: str
    id: int | None = None
    title: str = ""
    colour: tuple[int, int, int] | None = None
    tolerance_mm: float | None = None
    snomed: str | None = None
    meaning: str = ""
    category: tuple[str, str] | None = None
    laterality: Laterality | None = None
    partner: str | None = None

    def __post_init__(self) -> None:
        check_structure_name(self.name)
        if self.id is not None and not 1 <= self.id <= HIGHEST_ID:
            raise UsageError(f"an id from 1 to {HIGHEST_ID}", found=f"{self.id}", remedy=_REMEDY)
        _check_colour(self.colour)
        _check_tolerance(self.tolerance_mm)
        for code in (self.snomed, self.category and self.category[0]):
            if code is not None and not _CODE.fullmatch(code):
                raise UsageError(
                    "a SNOMED CT code, 6 to 18 digits", found=repr(code), remedy=_REMEDY
                )
        category_meaning = self.category[1] if self.category else ""
        for what, text in (
            ("title", self.title),
            ("meaning", self.meaning),
            ("category", category_meaning),
        ):
            # As of DICOM's long strings (PS3.5 6.2, LO); the rest would break Slicer's and
            # ITK-SNAP's files.
            if len(text) > LONGEST_TITLE or NOT_IN_TITLES.search(text):
                raise UsageError(
                    f"a {what} of {LONGEST_TITLE} letters at most, without \\ ~ | ^ and quotes",
                    found=repr(text[:80]),
                    remedy=_REMEDY,
                )
        if (self.partner is not None) != (self.laterality is not None):
            raise UsageError(
                "laterality and partner together", found=f"one of them for {self.name}",
                remedy="add the other",
            )  # fmt: skip


@dataclass(frozen=True)
class RegionSettings:
    """Several structures that are evaluated as one.

    Attributes:
        name: as of a structure.
        structures: names of its parts.
        title: name for people; from the name where absent.
        colour: red, green, blue; that of its first part where absent.
        tolerance_mm: of the normalised surface distance; the largest of its parts where absent.
    """

    name: str
    structures: tuple[str, ...]
    title: str = ""
    colour: tuple[int, int, int] | None = None
    tolerance_mm: float | None = None

    def __post_init__(self) -> None:
        check_structure_name(self.name)
        if not self.structures:
            raise UsageError("a region of structures", found="none", remedy="name some")
        _check_colour(self.colour)
        _check_tolerance(self.tolerance_mm)


def make_label_table(
    name: str,
    structures: Sequence[StructureSettings],
    regions: Sequence[RegionSettings] = (),
) -> LabelTable:
    """The table of these structures.

    Args:
        name: of the table.
        structures: those without an id get their place, from 1.
        regions: of several of them.

    Raises:
        UsageError: a name or an id twice, a partner or a part that is missing.
    """
    organs = [_organ(n, settings) for n, settings in enumerate(structures, 1)]
    if not organs or len(organs) > HIGHEST_ID:
        problem = f"{len(organs)}"
        raise UsageError(f"1 to {HIGHEST_ID} structures", found=problem, remedy="name others")
    # Masks are files, and some systems do not tell capitals apart.
    names = [name.lower() for name in (*(o.name for o in organs), *(r.name for r in regions))]
    ids = [str(organ.id) for organ in organs]
    for what, values in (("name", names), ("id", ids)):
        for value in values:
            if values.count(value) > 1:
                problem = f"{value} of several"
                raise UsageError(f"one structure of each {what}", found=problem, remedy=_REMEDY)
    by_name = {organ.name: organ for organ in organs}
    for organ in organs:
        partner = by_name.get(organ.partner or "")
        if organ.name in ORGANS_BY_NAME and organ.partner and partner is None:
            continue  # one kidney without the other: an organ of ours, whose side is standard
        if organ.partner is not None and (
            partner is None
            or partner.partner != organ.name
            or partner.laterality == organ.laterality
        ):
            raise UsageError(
                "two partners that name each other, one right and one left",
                found=f"{organ.name} with {organ.partner}",
                remedy="correct laterality and partner of both",
            )
    return LabelTable(
        name,
        tuple(sorted(organs, key=lambda organ: organ.id)),
        tuple(_region(settings, by_name) for settings in regions),
    )


def table_of_labels(
    name: str,
    labels: Sequence[str],
    structures: Sequence[StructureSettings],
    regions: Sequence[RegionSettings] = (),
) -> LabelTable:
    """What the outputs of a network mean.

    Args:
        name: of the table, where it is not that of the thirteen organs.
        labels: of the outputs, background first.
        structures: of those that are none of the thirteen organs, and of others where wished.
        regions: of several of them.

    Raises:
        UsageError: a label that is described nowhere, or a structure that is no label.
    """
    names = [label for label in labels[1:] if label != OTHER]
    if len(set(names)) < len(names):
        raise UsageError("each structure once in labels", found="a repetition", remedy=_REMEDY)
    described = {settings.name: settings for settings in structures}
    if len(described) < len(structures):
        raise UsageError("[[structures]] of each name once", found="a repetition", remedy=_REMEDY)
    if regions and not structures:
        raise UsageError(
            "[[structures]] beside [[regions]]", found="none", remedy="describe their parts"
        )
    if surplus := [settings.name for settings in structures if settings.name not in names]:
        raise UsageError(
            "[[structures]] that are among labels", found=repr(surplus[0]), remedy=_REMEDY
        )
    for label in names:
        if label not in described and label not in ORGANS_BY_NAME:
            raise UsageError(
                "labels that are among the thirteen organs, 'other', or described in "
                "[[structures]]",
                found=repr(label),
                remedy=f'correct it, or add [[structures]] with name = "{label}"',
            )
    if not structures:
        return FLARE13
    ids = {label: n for n, label in enumerate(labels)}
    settings = [described.get(label, StructureSettings(label)) for label in names]
    return make_label_table(
        name,
        [each if each.id is not None else replace(each, id=ids[each.name]) for each in settings],
        regions,
    )


def structure_rows(table: LabelTable) -> list[dict[str, Any]]:
    """The structures of a table as TOML says them, with all that the table knows of each."""
    rows = []
    for organ in table.organs:
        row: dict[str, Any] = {
            "name": organ.name,
            "id": organ.id,
            "title": organ.title,
            "colour": list(organ.colour),
            "tolerance_mm": float(organ.tolerance_mm),
        }
        if organ.snomed is not None:
            row |= {"snomed": organ.snomed, "meaning": organ.structure}
        if organ.category != SNOMED_CATEGORY:
            row["category"] = list(organ.category)
        if organ.partner in table.by_name:
            row |= {"laterality": organ.laterality, "partner": organ.partner}
        rows.append(row)
    return rows


def region_rows(table: LabelTable) -> list[dict[str, Any]]:
    """The regions of a table as TOML says them."""
    return [
        {
            "name": region.name,
            "title": region.title,
            "structures": list(region.structures),
            "colour": list(region.colour),
            "tolerance_mm": float(region.tolerance_mm),
        }
        for region in table.regions
    ]


def is_structure_name(name: str) -> bool:
    """Whether a structure may be called so, see `check_structure_name`."""
    is_reserved = name.lower() in RESERVED_NAMES or _DEVICES.fullmatch(name)
    return _NAME.fullmatch(name) is not None and not is_reserved


def check_structure_name(name: str) -> None:
    """Refuse names that cannot be files, options or columns.

    Raises:
        UsageError: it is such a name.
    """
    if not is_structure_name(name):
        raise UsageError(
            "a structure's name of letters, digits, '_', '-', '+' and '.', at most 64, and none of "
            + ", ".join(RESERVED_NAMES),
            found=repr(name[:80]),
            remedy=_REMEDY,
        )


def _organ(place: int, settings: StructureSettings) -> Organ:
    """A structure with everything that its description leaves out."""
    standard = ORGANS_BY_NAME.get(settings.name)
    snomed = settings.snomed or (standard.snomed if standard else None)
    meaning = settings.meaning
    if standard is not None and not settings.snomed and not meaning:
        meaning = standard.structure
    tolerance_mm = settings.tolerance_mm
    if tolerance_mm is None:
        tolerance_mm = standard.tolerance_mm if standard else DEFAULT_TOLERANCE_MM
    return Organ(
        id=settings.id if settings.id is not None else place,
        name=settings.name,
        title=settings.title or (standard.title if standard else _title(settings.name)),
        colour=settings.colour or (standard.colour if standard else _colour(place)),
        tolerance_mm=tolerance_mm,
        snomed=snomed,
        laterality=settings.laterality or (standard.laterality if standard else None),
        partner=settings.partner or (standard.partner if standard else None),
        meaning=meaning,
        category=settings.category or SNOMED_CATEGORY,
    )


def _region(settings: RegionSettings, by_name: dict[str, Organ]) -> Region:
    for name in settings.structures:
        if name not in by_name:
            problem = f"{name!r} in {settings.name}"
            raise UsageError("regions of structures of this table", found=problem, remedy=_REMEDY)
    parts = [by_name[name] for name in settings.structures]
    tolerance_mm = settings.tolerance_mm
    if tolerance_mm is None:
        tolerance_mm = max(part.tolerance_mm for part in parts)
    return Region(
        settings.name,
        settings.title or _title(settings.name),
        settings.colour or parts[0].colour,
        tolerance_mm,
        settings.structures,
    )


def _title(name: str) -> str:
    text = name.replace("_", " ").replace("-", " ").strip()
    return text[:1].upper() + text[1:]


def _colour(place: int) -> tuple[int, int, int]:
    """A colour unlike those of its neighbours."""
    lightness = (0.66, 0.54, 0.74)[place % 3]
    red, green, blue = colorsys.hls_to_rgb(place * _GOLDEN_TURN % 1, lightness, 0.62)
    return round(red * 255), round(green * 255), round(blue * 255)


def _check_colour(colour: tuple[int, int, int] | None) -> None:
    if colour is not None and not all(0 <= part <= 255 for part in colour):
        raise UsageError(
            "a colour of three numbers from 0 to 255", found=f"{list(colour)}", remedy=_REMEDY
        )


def _check_tolerance(tolerance_mm: float | None) -> None:
    if tolerance_mm is not None and not 0 < tolerance_mm <= 100:
        raise UsageError(
            "a tolerance_mm above 0, at most 100", found=f"{tolerance_mm:g}", remedy=_REMEDY
        )
