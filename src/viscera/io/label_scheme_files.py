"""Label schemes by name, or from a user's file.

The file is TOML:

    other = [14, 15]              # values that stand for nothing of ours
    [labels]
    liver = 6
    stomach = [7, 16]             # several values may make one organ

or a nnU-Net ``dataset.json``, whose names are recognised where they can be.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from viscera.core.label_map import LabelMap
from viscera.core.label_schemes import FLARE, HIGHEST_LABEL, LABEL_SCHEMES, LabelScheme
from viscera.core.organs import Organ, select_organs
from viscera.errors import InputError, UsageError
from viscera.io.read import path_exists
from viscera.runtime.small_files import read_json_file, read_toml_file

_REMEDY = "correct the file"
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


def read_label_scheme(name_or_file: str | Path | LabelScheme) -> LabelScheme:
    """A built-in label scheme by name, or one from a file.

    Raises:
        UsageError: neither.
        InputError: the file is not a mapping.
    """
    if isinstance(name_or_file, LabelScheme):
        return name_or_file
    if str(name_or_file).lower() in LABEL_SCHEMES:
        return LABEL_SCHEMES[str(name_or_file).lower()]
    path = Path(name_or_file)
    if not path_exists(path):
        names = ", ".join(LABEL_SCHEMES)
        problem = repr(str(name_or_file))
        remedy = "name one of these, or a mapping file"
        raise UsageError(f"{names}, or a file", found=problem, remedy=remedy)
    try:
        is_json = path.suffix.lower() == ".json"
        content = read_json_file(path) if is_json else read_toml_file(path)
    except (OSError, ValueError) as error:
        raise InputError("TOML or JSON", found=str(error), remedy=_REMEDY, where=path) from error
    return _scheme_from_table(content, path, named_by_us=not is_json)


def recognise_organ(name: str) -> Organ:
    """The organ of a name as data sets and people spell it.

    Raises:
        UsageError: none of the thirteen.
    """
    plain = re.sub(r"[\s\-]+", "_", name.strip().lower())
    (organ,) = select_organs([_ALIASES.get(plain, name)])
    return organ


def scheme_of_names(label_map: LabelMap) -> LabelScheme | None:
    """The label scheme that a label map's own names give; None where they do not contradict ours.

    Args:
        label_map: as it was read.
    """
    values: dict[str, tuple[int, ...]] = {}
    unrecognised, others = [], set()
    for value, name in label_map.label_names.items():
        try:
            organ = recognise_organ(name)
        except UsageError:
            unrecognised.append(name)
            others.add(value)
        else:
            values[organ.name] = (*values.get(organ.name, ()), value)
    if all(FLARE.values.get(name) == numbers for name, numbers in values.items()):
        return None
    return LabelScheme("the file's own names", values, frozenset(others), tuple(unrecognised))


def _scheme_from_table(content: Any, path: Path, *, named_by_us: bool) -> LabelScheme:
    """The mapping of a file; names that are none of ours are an error in our own format only."""
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise InputError(
            "a table 'labels' of organ names and values", found="none", remedy=_REMEDY, where=path
        )
    if named_by_us and (extra := set(content) - {"labels", "other"}):
        raise InputError(
            "the keys 'labels' and 'other' only", found=repr(min(extra)), remedy=_REMEDY, where=path
        )
    if not named_by_us and all(re.fullmatch("[0-9]{1,5}", key) for key in content["labels"]):
        # The first version of nnU-Net's file has it the other way round.
        turned = {str(name): int(value) for value, name in content["labels"].items()}
        content = {**content, "labels": turned}
    if not named_by_us and _has_regions(content):
        raise InputError(
            "labels that do not overlap",
            found="regions of several labels (regions_class_order)",
            remedy="map each value to one organ in a TOML file with the table 'labels', and name "
            "that instead",
            where=path,
        )
    values: dict[str, tuple[int, ...]] = {}
    unrecognised: list[str] = []
    others = set(_label_values(content.get("other", []), "other", path)) if named_by_us else set()
    for name, value in content["labels"].items():
        sources = _label_values(value, name, path)
        try:
            organ = recognise_organ(str(name))
        except UsageError as error:
            if named_by_us:
                raise InputError(
                    "an organ's name", found=repr(name), remedy=error.remedy, where=path
                ) from error
            others.update(sources)
            if sources != (0,):
                unrecognised.append(str(name))
            continue
        values[organ.name] = values.get(organ.name, ()) + sources
    every = [value for sources in values.values() for value in sources] + sorted(others)
    if repeated := {value for value in every if every.count(value) > 1}:
        raise InputError(
            "one meaning a value", found=f"several of {min(repeated)}", remedy=_REMEDY, where=path
        )
    if 0 in every:
        if named_by_us or any(0 in sources for sources in values.values()):
            raise InputError(
                "0 to be background", found="a meaning for it", remedy=_REMEDY, where=path
            )
        others.discard(0)
    if not values:
        raise InputError(
            "at least one of the thirteen organs", found="none", remedy=_REMEDY, where=path
        )
    return LabelScheme(path.name, values, frozenset(others), tuple(unrecognised))


def _has_regions(content: dict[str, Any]) -> bool:
    """Whether a dataset.json of nnU-Net makes overlapping regions of its labels."""
    lists = [value for value in content["labels"].values() if isinstance(value, list)]
    values = [str(value) for listed in lists for value in listed]
    return "regions_class_order" in content or len(set(values)) < len(values)


def _label_values(value: Any, name: str, path: Path) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(type(v) is int and 0 <= v <= HIGHEST_LABEL for v in values):
        raise InputError(
            f"whole numbers from 0 to {HIGHEST_LABEL} for '{name}'",
            found=repr(value),
            remedy=_REMEDY,
            where=path,
        )
    return tuple(values)
