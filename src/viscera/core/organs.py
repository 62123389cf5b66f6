"""The thirteen organs, in FLARE's order.

Names are TotalSegmentator v2's, ids are FLARE's, NSD tolerances are those of FLARE's evaluation
script, codes are SNOMED CT's. Label 0 is background.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

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
    """One organ of the label map.

    Attributes:
        id: label value in FLARE's order, 1 to 13.
        name: machine name, TotalSegmentator v2's spelling.
        title: name for people.
        colour: red, green, blue, 0 to 255.
        tolerance_mm: FLARE's tolerance of the normalised surface distance.
        snomed: SNOMED CT code of the structure, without its side.
        laterality: right or left of a pair, or None.
    """

    id: int
    name: str
    title: str
    colour: tuple[int, int, int]
    tolerance_mm: float
    snomed: str
    laterality: Laterality | None = None

    @property
    def structure(self) -> str:
        """What its SNOMED CT code means, without the side."""
        if self.laterality is None:
            return self.title
        return self.title.removeprefix(self.laterality.capitalize()).strip().capitalize()


ORGANS: tuple[Organ, ...] = (
    Organ(1, "liver", "Liver", (214, 120, 84), 5, "10200004"),
    Organ(2, "kidney_right", "Right kidney", (240, 196, 70), 3, "64033007", "right"),
    Organ(3, "spleen", "Spleen", (171, 104, 196), 3, "78961009"),
    Organ(4, "pancreas", "Pancreas", (255, 163, 145), 5, "15776009"),
    Organ(5, "aorta", "Aorta", (232, 58, 58), 2, "15825003"),
    Organ(6, "inferior_vena_cava", "Inferior vena cava", (76, 132, 236), 2, "64131007"),
    Organ(7, "adrenal_gland_right", "Right adrenal", (70, 214, 196), 2, "23451007", "right"),
    Organ(8, "adrenal_gland_left", "Left adrenal", (38, 160, 152), 2, "23451007", "left"),
    Organ(9, "gallbladder", "Gallbladder", (112, 200, 88), 2, "28231008"),
    Organ(10, "esophagus", "Esophagus", (206, 168, 118), 3, "32849002"),
    Organ(11, "stomach", "Stomach", (244, 140, 190), 5, "69695003"),
    Organ(12, "duodenum", "Duodenum", (196, 214, 92), 7, "38848004"),
    Organ(13, "kidney_left", "Left kidney", (214, 146, 34), 3, "64033007", "left"),
)
ORGANS_BY_NAME: dict[str, Organ] = {organ.name: organ for organ in ORGANS}
_NAMES_BY_TITLE = {organ.title.lower().replace(" ", "_"): organ.name for organ in ORGANS}
ORGANS_BY_ID: dict[int, Organ] = {organ.id: organ for organ in ORGANS}

# (right, left) of each pair.
PAIRED_ORGANS: tuple[tuple[Organ, Organ], ...] = (
    (ORGANS_BY_NAME["kidney_right"], ORGANS_BY_NAME["kidney_left"]),
    (ORGANS_BY_NAME["adrenal_gland_right"], ORGANS_BY_NAME["adrenal_gland_left"]),
)


def select_organs(names: Iterable[str]) -> tuple[Organ, ...]:
    """The organs of these names or titles, in label order; hyphens and capitals are forgiven.

    Raises:
        UsageError: a name is none of the thirteen.
    """
    chosen = set()
    for name in names:
        key = name.strip().lower().replace("-", "_").replace(" ", "_")
        key = _NAMES_BY_TITLE.get(key, key)
        if key not in ORGANS_BY_NAME:
            near = get_close_matches(key, ORGANS_BY_NAME, n=1)
            every_name = f"choose among {', '.join(ORGANS_BY_NAME)}"
            remedy = f"did you mean {near[0]!r}?" if near else every_name
            raise UsageError("an organ's name", found=repr(name), remedy=remedy)
        chosen.add(key)
    return tuple(organ for organ in ORGANS if organ.name in chosen)
