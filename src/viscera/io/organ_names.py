"""Names of organs as data sets and people spell them, and names that can be files."""

from __future__ import annotations

import re
from collections.abc import Iterable

from viscera.bundle.structures import is_structure_name
from viscera.core.organs import FLARE13, LabelTable, Laterality, Organ
from viscera.errors import UsageError

# Names that data sets use for our organs, beside ours.
_ALIASES = {
    "ivc": "inferior_vena_cava", "postcava": "inferior_vena_cava",
    "rk": "kidney_right", "lk": "kidney_left",
    "rag": "adrenal_gland_right", "lag": "adrenal_gland_left",
    "right_adrenal_gland": "adrenal_gland_right", "left_adrenal_gland": "adrenal_gland_left",
    "gall_bladder": "gallbladder", "oesophagus": "esophagus",
    # AMOS's own file spells one name so; BTCV's abbreviates.
    "arota": "aorta", "rkid": "kidney_right", "lkid": "kidney_left", "gall": "gallbladder",
    "eso": "esophagus", "sto": "stomach", "rad": "adrenal_gland_right",
    "lad": "adrenal_gland_left",
}  # fmt: skip
_SIDE = re.compile(r"(?i)(?P<before>^|.*[_ \-])(?P<side>left|right)(?P<after>$|[_ \-].*)")
_OTHER_SIDE = {"left": "right", "right": "left"}


def recognise_organ(name: str, table: LabelTable = FLARE13) -> Organ:
    """The organ of a name as data sets and people spell it.

    Args:
        name: in any spelling.
        table: the organs that there are.

    Raises:
        UsageError: none of them.
    """
    plain = re.sub(r"[\s\-]+", "_", name.strip().lower())
    alias = _ALIASES.get(plain)
    (organ,) = table.select([alias if alias in table.by_name else name])
    return organ


def is_organ(name: str, table: LabelTable = FLARE13) -> bool:
    """Whether a name is that of an organ, in any spelling.

    Args:
        name: in any spelling.
        table: the organs that there are.
    """
    try:
        return bool(recognise_organ(name, table))
    except UsageError:
        return False


def structure_names(names: Iterable[str]) -> dict[str, str]:
    """For each name of a data set one that can be a file; that of our organ, where it is one."""
    result: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_.+\-]+", "_", name).strip("_-.+")[:60] or "structure"
        organ = recognise_organ(name).name if is_organ(name) else plain
        taken = {other.lower() for other in result.values()}
        choices = (organ, plain, *(f"{plain}_{n}" for n in range(2, len(taken) + 4)))
        result[name] = next(
            choice
            for choice in choices
            if choice.lower() not in taken and is_structure_name(choice)
        )
    return result


def side_pairs(names: Iterable[str]) -> dict[str, tuple[Laterality, str]]:
    """Side and partner of structures whose names differ in left and right alone."""
    every = {name.lower(): name for name in names}
    pairs: dict[str, tuple[Laterality, str]] = {}
    for name in every.values():
        match = _SIDE.fullmatch(name)
        if match is None or name in FLARE13.by_name:
            continue
        side: Laterality = "left" if match["side"].lower() == "left" else "right"
        other = f"{match['before']}{_OTHER_SIDE[side]}{match['after']}".lower()
        if other in every:
            pairs[name] = side, every[other]
    return pairs
