"""The labels of a nnU-Net ``dataset.json``: structures, regions, and what nobody labelled."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from viscera.core.label_schemes import HIGHEST_LABEL
from viscera.errors import InputError

_REMEDY = "correct the file"


@dataclass(frozen=True)
class DatasetLabels:
    """What the values of a data set mean.

    Attributes:
        values: structures and the values that make each of them; they share none.
        regions: of several structures, such as a whole tumour, by name.
        unlabelled: values of voxels that nobody labelled.
        background: names of the value 0.
    """

    values: dict[str, tuple[int, ...]]
    regions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unlabelled: tuple[int, ...] = ()
    background: tuple[str, ...] = ()


def dataset_labels(content: Any, where: Path) -> DatasetLabels:
    """The labels of a data set; overlapping regions become structures that do not overlap.

    A structure is what lies in the same regions; one that is a part of several is named after the
    smallest, such as ``rest_of_whole_tumour``.

    Args:
        content: of the file.
        where: the file, for messages.

    Raises:
        InputError: no labels, or values that contradict each other.
    """
    table = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(table, dict):
        raise InputError("a table 'labels'", found="none", remedy=_REMEDY, where=where)
    if table and all(re.fullmatch("[0-9]{1,5}", str(key)) for key in table):
        # The first version of nnU-Net's file has it the other way round.
        table = _turned(table, where)
    named = {str(name): label_values(value, str(name), where) for name, value in table.items()}
    background = tuple(name for name, values in named.items() if values == (0,))
    named = {name: values for name, values in named.items() if name not in background}
    unlabelled = named.pop("ignore", ())
    if "ignore" in background:
        raise InputError("ignore above 0", found="0", remedy=_REMEDY, where=where)
    for name, values in named.items():
        if not values or 0 in values or set(values) & set(unlabelled):
            raise InputError(
                f"values above 0 for {name!r}, none of them to be ignored",
                found=f"{list(values)}",
                remedy=_REMEDY,
                where=where,
            )
    # All structures that lie in the same regions are one.
    members: dict[tuple[str, ...], list[int]] = {}
    for value in sorted({value for values in named.values() for value in values}):
        within = tuple(name for name, values in named.items() if value in values)
        members.setdefault(within, []).append(value)
    names: dict[tuple[str, ...], str] = {}
    for within, shared in members.items():
        smallest = min(within, key=lambda name: len(named[name]))
        is_whole = set(named[smallest]) == set(shared)
        name = smallest if is_whole else f"rest_of_{smallest}"
        names[within] = name if name not in names.values() else f"{name}_{shared[0]}"
    return DatasetLabels(
        {names[within]: tuple(values) for within, values in members.items()},
        {
            name: tuple(names[within] for within in members if name in within)
            for name in named
            if name not in names.values()
        },
        unlabelled,
        background,
    )


def _turned(table: dict[str, Any], where: Path) -> dict[str, Any]:
    """Names and their values, of a table of values and their names."""
    turned: dict[str, Any] = {}
    for value, name in table.items():
        if not isinstance(name, str):
            raise InputError(
                f"a name of the value {value}", found=repr(name), remedy=_REMEDY, where=where
            )
        turned.setdefault(name, []).append(int(value))
    return {name: values[0] if len(values) == 1 else values for name, values in turned.items()}


def label_values(value: Any, name: str, where: Path) -> tuple[int, ...]:
    """One value or several of a structure.

    Args:
        value: as the file has it.
        name: of the structure, for messages.
        where: the file, for messages.

    Raises:
        InputError: no whole numbers, or too high ones.
    """
    values = value if isinstance(value, list) else [value]
    if not all(type(v) is int and 0 <= v <= HIGHEST_LABEL for v in values):
        raise InputError(
            f"whole numbers from 0 to {HIGHEST_LABEL} for '{name}'",
            found=repr(value),
            remedy=_REMEDY,
            where=where,
        )
    return tuple(values)
