"""Organs and other structures, and the tables that say which label means which of them.

The thirteen organs are the table `FLARE13`: names are TotalSegmentator v2's, ids are FLARE's, NSD
tolerances are those of FLARE's evaluation script, codes are SNOMED CT's. A bundle or a file may
bring another table, see `viscera.bundle.structures`. Label 0 is background.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from viscera.errors import UsageError

Laterality = Literal["right", "left"]

# SNOMED CT: code and meaning of what all organs are, and of the sides (PS3.16 CID 7150, 244).
SNOMED_CATEGORY = ("123037004", "Anatomical Structure")
LATERALITY_CODES: dict[Laterality, tuple[str, str]] = {
    "right": ("24028007", "Right"),
    "left": ("7771000", "Left"),
}


@dataclass(frozen=True, slots=True)
class Organ:
    """One organ, or another structure, of a label map.

    Attributes:
        id: label value, 1 to 254.
        name: machine name; masks are files of this name.
        title: name for people.
        colour: red, green, blue, 0 to 255.
        tolerance_mm: of the normalised surface distance.
        snomed: SNOMED CT code of the structure, without its side; None where it has none.
        laterality: right or left of a pair, or None.
        partner: name of the same structure on the other side, or None.
        meaning: of the code; from the title where it is empty.
        category: SNOMED CT code and meaning of what kind of thing it is (PS3.16 CID 7150).
    """

    id: int
    name: str
    title: str
    colour: tuple[int, int, int]
    tolerance_mm: float
    snomed: str | None
    laterality: Laterality | None = None
    partner: str | None = None
    meaning: str = ""
    category: tuple[str, str] = SNOMED_CATEGORY

    @property
    def structure(self) -> str:
        """What its SNOMED CT code means, without the side."""
        if self.meaning or self.laterality is None:
            return self.meaning or self.title
        return self.title.removeprefix(self.laterality.capitalize()).strip().capitalize()


@dataclass(frozen=True, slots=True)
class Region:
    """Several structures that are evaluated as one, such as a whole tumour.

    Attributes:
        name: machine name.
        title: name for people.
        colour: red, green, blue, 0 to 255.
        tolerance_mm: of the normalised surface distance.
        structures: names of its parts.
    """

    name: str
    title: str
    colour: tuple[int, int, int]
    tolerance_mm: float
    structures: tuple[str, ...]


@dataclass(frozen=True)
class LabelTable:
    """Which label means which structure.

    Attributes:
        name: of the table.
        organs: its structures, by label.
        regions: of several structures.
    """

    name: str
    organs: tuple[Organ, ...]
    regions: tuple[Region, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, Organ]:
        """Every structure by its name."""
        return {organ.name: organ for organ in self.organs}

    @cached_property
    def by_id(self) -> dict[int, Organ]:
        """Every structure by its label."""
        return {organ.id: organ for organ in self.organs}

    def select(self, names: Iterable[str]) -> tuple[Organ, ...]:
        """The structures of these names or titles, in label order.

        Hyphens and capitals are forgiven.

        Raises:
            UsageError: the table has no such name.
        """
        plain_names = {_plain(organ.title): organ for organ in self.organs}
        plain_names |= {_plain(organ.name): organ for organ in self.organs}
        chosen = set()
        for name in names:
            if _plain(name) not in plain_names:
                near = get_close_matches(_plain(name), plain_names, n=1)
                every_name = f"choose among {', '.join(self.by_name)}"
                remedy = f"did you mean {plain_names[near[0]].name!r}?" if near else every_name
                raise UsageError("an organ's name", found=repr(name), remedy=remedy)
            chosen.add(plain_names[_plain(name)].name)
        return tuple(organ for organ in self.organs if organ.name in chosen)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def organ_pairs(organs: Iterable[Organ]) -> tuple[tuple[Organ, Organ], ...]:
    """(right, left) of each pair of which both are among these."""
    by_name = {organ.name: organ for organ in organs}
    return tuple(
        (organ, by_name[organ.partner])
        for organ in by_name.values()
        if organ.laterality == "right" and organ.partner in by_name
    )


ORGANS: tuple[Organ, ...] = (
    Organ(1, "liver", "Liver", (214, 120, 84), 5, "10200004"),
    Organ(2, "kidney_right", "Right kidney", (240, 196, 70), 3, "64033007", "right", "kidney_left"),
    Organ(3, "spleen", "Spleen", (171, 104, 196), 3, "78961009"),
    Organ(4, "pancreas", "Pancreas", (255, 163, 145), 5, "15776009"),
    Organ(5, "aorta", "Aorta", (232, 58, 58), 2, "15825003"),
    Organ(6, "inferior_vena_cava", "Inferior vena cava", (76, 132, 236), 2, "64131007"),
    Organ(
        7,
        "adrenal_gland_right",
        "Right adrenal",
        (70, 214, 196),
        2,
        "23451007",
        "right",
        "adrenal_gland_left",
    ),
    Organ(
        8,
        "adrenal_gland_left",
        "Left adrenal",
        (38, 160, 152),
        2,
        "23451007",
        "left",
        "adrenal_gland_right",
    ),
    Organ(9, "gallbladder", "Gallbladder", (112, 200, 88), 2, "28231008"),
    Organ(10, "esophagus", "Esophagus", (206, 168, 118), 3, "32849002"),
    Organ(11, "stomach", "Stomach", (244, 140, 190), 5, "69695003"),
    Organ(12, "duodenum", "Duodenum", (196, 214, 92), 7, "38848004"),
    Organ(13, "kidney_left", "Left kidney", (214, 146, 34), 3, "64033007", "left", "kidney_right"),
)
FLARE13 = LabelTable("flare13", ORGANS)
ORGANS_BY_NAME: dict[str, Organ] = FLARE13.by_name
ORGANS_BY_ID: dict[int, Organ] = FLARE13.by_id

# (right, left) of each pair.
PAIRED_ORGANS: tuple[tuple[Organ, Organ], ...] = organ_pairs(ORGANS)


def select_organs(names: Iterable[str]) -> tuple[Organ, ...]:
    """Those of the thirteen organs that have these names or titles, see `LabelTable.select`."""
    return FLARE13.select(names)


def labels_of_thirteen(labels: NDArray[np.uint8], table: LabelTable) -> NDArray[np.uint8]:
    """A label map with the numbers of the thirteen organs; all else is background.

    What is known of a body's anatomy is known of these organs.

    Args:
        labels: uint8, of any shape.
        table: of its labels.

    Returns:
        The array itself where the table is that of the thirteen organs.
    """
    if table == FLARE13:
        return labels
    numbers = np.zeros(256, dtype=np.uint8)
    for organ in table.organs:
        if organ.name in ORGANS_BY_NAME:
            numbers[organ.id] = ORGANS_BY_NAME[organ.name].id
    return np.asarray(np.take(numbers, labels.T).T)
